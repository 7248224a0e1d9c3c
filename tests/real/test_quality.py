"""The gate on real vLLM and real checkpoints: what is right passes, AutoAWQ's bug on the CPU fails by far.

The first run quantizes SmolLM2 three times (about 10 minutes on 2 cores); after that every server needs about
a minute. Every second text is read, one of each kind at least: the command reads all of them.
"""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from analysis.quality import QualityVerdict
from analysis.sla import default, parse
from server import environments, quantize
from server.quality import asking, questions
from tests.real.vllm_server import Real, running
from tokenswarm import quality, tables

pytestmark = [pytest.mark.slow, pytest.mark.timeout(3600)]

ROOM = ("--max-model-len", "2048")
# The default limits are for models of billions of parameters; four bits cost one of 135 million far more. Its
# relative OPT-125M loses 13 % of perplexity by GPTQ (27.65 -> 31.12 on WikiText-2, in GPTQ's paper). These
# limits lie between what AWQ and what plain rounding in groups of 64 cost SmolLM2 here: 15 % and 31 %. What
# it writes freely differs from run to run (merely restarted, half of the answers are the same to the end), so
# the bounds of 60 answers are wide: AWQ's are 1.19 times as long (up to 1.32) and endless in 10 of 100 more
# (up to 20), the bug's 1.59 times (from 1.40) and 82 (from 72).
SMALL = parse(
    """\
name: 135 million parameters in 4 bits
quality:
  - ppl_ratio <= 1.25
  - kl <= 0.35
  - top1 >= 75 %
  - length_ratio >= 0.8
  - length_ratio <= 1.5
  - empty_rate <= 10 %
  - loop_rate <= 30 %
""",
    "SMALL",
)
Asked = Callable[[str, Path], Path]


@pytest.fixture(scope="module")
def asked(real: Real, tmp_path_factory: pytest.TempPathFactory) -> Asked:
    """Start vLLM on a model, ask it what the first one was asked, and return the file of its answers."""
    folder = tmp_path_factory.mktemp("quality")
    files: list[Path] = []

    def ask(name: str, model: Path) -> Path:
        path = folder / f"{name}.json.gz"
        with running(Real(real.python, model), ROOM) as server:
            if files:
                quality.ask(server.url, path, print, like=files[0])
            else:
                served = asking.look(server.url)
                whole = questions.make(served.tokenize, served.max_model_len)
                quality._keep(asking.ask(served, replace(whole, texts=whole.texts[1::2]), print), path)
        files.append(path)
        return path

    return ask


@pytest.fixture(scope="module")
def base(real: Real, asked: Asked) -> Path:
    return asked("base", real.model)


@pytest.fixture(scope="module")
def floor(real: Real, asked: Asked, base: Path) -> tuple[Path, str]:
    assert base.exists(), "asked first"
    return asked("restarted", real.model), quality.RESTARTED


def checkpoint(recipe: str, **more: Any) -> Path:
    environments.install("autoawq" if recipe == "awq" else "llm-compressor", print)
    return quantize.quantize("smollm2", recipe, say=print, **more)


def told(verdict: QualityVerdict) -> dict[str, float]:
    """Print a verdict, and return its figures."""
    quality.show(verdict, tables.console(machine=False))
    return {one.name: one.value for one in verdict.measures}


def test_a_restart_changes_next_to_nothing(base: Path, floor: tuple[Path, str], tmp_path: Path) -> None:
    verdict = quality.judge(base, floor[0], default(), tmp_path)
    found = told(verdict)
    assert verdict.status == "PASS"
    assert found["kl"] < 0.001
    assert found["ppl_ratio"] == pytest.approx(1, abs=0.001)


def test_awq_passes_what_a_small_model_can_keep(
    base: Path, floor: tuple[Path, str], asked: Asked, tmp_path: Path
) -> None:
    verdict = quality.judge(base, asked("awq", checkpoint("awq")), SMALL, tmp_path, floor=floor)
    found = told(verdict)
    assert verdict.status == "PASS", verdict.reasons
    assert found["kl"] > 0.01, "another model than the baseline answered"


def test_awq_with_its_bug_fails_by_far(
    base: Path, floor: tuple[Path, str], asked: Asked, tmp_path: Path
) -> None:
    broken = asked("broken", checkpoint("awq", samples=1, sequence=16, keep_bug=True))
    verdict = quality.judge(base, broken, SMALL, tmp_path, floor=floor)
    found = told(verdict)
    assert verdict.status == "FAIL"
    assert {"ppl_ratio", "kl", "top1"} <= {one.measure for one in verdict.limits if one.status == "FAIL"}
    assert found["ppl_ratio"] > 100
    assert found["kl"] > 1


def test_int8_passes_and_is_nearer_than_awq(
    base: Path, floor: tuple[Path, str], asked: Asked, tmp_path: Path
) -> None:
    verdict = quality.judge(base, asked("int8", checkpoint("int8")), SMALL, tmp_path, floor=floor)
    found = told(verdict)
    assert verdict.status == "PASS", verdict.reasons
    assert found["ppl_ratio"] < 1.1
    assert found["top1"] > 0.9
