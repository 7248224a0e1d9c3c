"""Throughput without a server, for real: one batch of the tiny model, and an engine that fails."""

from pathlib import Path

import pytest

from server import locate, offline, profiles
from server.errors import ServerError
from tests.real.vllm_server import Real

OPTIONS = {"enforce-eager": True, "max-model-len": 512}
PROMPTS = [f"Chapter {number}: how the boats came back" for number in range(8)]
pytestmark = [pytest.mark.slow, pytest.mark.timeout(1800)]


def test_a_batch(real: Real, tmp_path: Path) -> None:
    assert real.python.exists()
    profile = profiles.changed(profiles.find("baseline"), model="tiny", options=OPTIONS)
    found = offline.offline(profile, locate.place(profile), PROMPTS, 12, tmp_path / "log")
    print(f"\n{found}")
    assert found["output_tokens"] == 12 * len(PROMPTS), "the tiny model never ends by itself"
    assert found["prompt_tokens"] >= 6 * len(PROMPTS)
    seconds = found["seconds"]
    assert found["requests_per_s"] == pytest.approx(len(PROMPTS) / seconds)
    assert found["output_tokens_per_s"] == pytest.approx(found["output_tokens"] / seconds)
    both = found["output_tokens"] + found["prompt_tokens"]
    assert found["total_tokens_per_s"] == pytest.approx(both / seconds)
    assert 0 < seconds < found["load_s"]


def test_an_engine_that_fails_says_why_in_one_line(real: Real, tmp_path: Path) -> None:
    assert real.python.exists()
    profile = profiles.changed(profiles.find("baseline"), model="tiny", options={"no-such-option": 1})
    with pytest.raises(ServerError) as caught:
        offline.offline(profile, locate.place(profile), PROMPTS, 12, tmp_path / "log")
    assert "baseline: wrong engine argument" in str(caught.value)
    assert "no-such-option" in str(caught.value)
    assert "\n" not in str(caught.value)
