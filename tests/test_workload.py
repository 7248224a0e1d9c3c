"""What is asked: the same for the same seed, different for everything else."""

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from locustfiles._workload import Workload, WorkloadError, parse_extra, parse_range, read_prompts

PLAIN = {
    "endpoint": "chat",
    "model": "m",
    "prompt_words": (3, 9),
    "max_tokens": (5, 8),
    "choices": 1,
    "seed": 1,
    "ignore_eos": False,
    "per_chunk_usage": False,
}


def body(number: int = 0, worker: int = 0, **changes: Any) -> dict[str, Any]:
    return json.loads(Workload(**PLAIN | changes).request("run", worker, number, {}).body)


def test_chat() -> None:
    request = Workload(**PLAIN).request("run-1", 2, 7, {"authorization": "Bearer x"})
    assert request.path == "/v1/chat/completions"
    assert request.headers == {
        "content-type": "application/json",
        "accept": "text/event-stream",
        "accept-encoding": "identity",
        "x-request-id": "run-1-2-7",
        "authorization": "Bearer x",
    }
    asked = json.loads(request.body)
    assert asked.keys() == {"model", "stream", "stream_options", "max_tokens", "messages"}
    assert asked["stream"] is True
    assert asked["stream_options"] == {"include_usage": True}
    assert asked["messages"][0]["role"] == "user"


def test_completions() -> None:
    request = Workload(**PLAIN | {"endpoint": "completions"}).request("run", 0, 0, {})
    assert request.path == "/v1/completions"
    assert "messages" not in json.loads(request.body)
    assert 3 <= len(json.loads(request.body)["prompt"].split()) <= 9


def test_options_reach_the_body() -> None:
    asked = body(choices=3, ignore_eos=True, per_chunk_usage=True, extra={"temperature": 0, "max_tokens": 99})
    assert (asked["n"], asked["ignore_eos"], asked["temperature"]) == (3, True, 0)
    assert asked["stream_options"] == {"include_usage": True, "continuous_usage_stats": True}
    assert asked["max_tokens"] == 99  # what the user merges in wins


@given(st.integers(0, 10**6), st.integers(0, 50), st.integers(0, 5))
def test_same_seed_worker_and_number_ask_the_same(number: int, worker: int, seed: int) -> None:
    asked = body(number, worker, seed=seed)
    assert asked == body(number, worker, seed=seed)
    assert 5 <= asked["max_tokens"] <= 8
    assert 3 <= len(asked["messages"][0]["content"].split()) <= 9


def test_prompts_differ_and_share_no_prefix() -> None:
    prompts = {
        body(number, worker, seed=seed, prompt_words=(20, 20))["messages"][0]["content"]
        for number in range(100)
        for worker in range(3)
        for seed in range(2)
    }
    assert len(prompts) == 600
    beginnings = {" ".join(prompt.split()[:6]) for prompt in prompts}
    assert len(beginnings) > 590


def test_lengths_cover_their_range() -> None:
    assert {body(number)["max_tokens"] for number in range(200)} == {5, 6, 7, 8}


def test_prompts_from_a_file(tmp_path: Path) -> None:
    file = tmp_path / "prompts.txt"
    file.write_text(
        'plain text\n\n  \n{"prompt": "from JSON", "other": 1}\n  {"prompt": 7}\n', encoding="utf-8"
    )
    assert read_prompts(str(file)) == ("plain text", "from JSON", "7")
    assert read_prompts("") == ()
    asked = {body(number, prompts=("a", "b"))["messages"][0]["content"] for number in range(30)}
    assert asked == {"a", "b"}


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (b"", "holds no prompt, expected one a line"),
        (b"\n \n", "holds no prompt, expected one a line"),
        (b'ok\n{"prompt": ', "line 2: found '{\"prompt\": ', expected text or a JSON object with a prompt"),
        (b'{"text": "x"}', "line 1: found"),
        (b"\xff\xfe", "cannot read"),
    ],
)
def test_prompts_that_are_none(tmp_path: Path, content: bytes, expected: str) -> None:
    file = tmp_path / "prompts.txt"
    file.write_bytes(content)
    with pytest.raises(WorkloadError) as caught:
        read_prompts(str(file))
    assert expected in str(caught.value)
    assert "\n" not in str(caught.value)


def test_prompts_that_are_not_there() -> None:
    with pytest.raises(WorkloadError, match="--prompts: cannot read /nowhere"):
        read_prompts("/nowhere")


@pytest.mark.parametrize(
    ("text", "expected"), [("64", (64, 64)), ("16-128", (16, 128)), ("1-1", (1, 1)), (64, (64, 64))]
)
def test_ranges(text: str, expected: tuple[int, int]) -> None:
    assert parse_range(text, "--max-tokens") == expected


@pytest.mark.parametrize("text", ["", "x", "1-", "-1", "0", "0-5", "5-1", "1-2-3", "1.5", "1 - x", "٣-"])
def test_ranges_that_are_none(text: str) -> None:
    with pytest.raises(WorkloadError, match=r"--max-tokens: found .*, expected") as caught:
        parse_range(text, "--max-tokens")
    assert "\n" not in str(caught.value)


def test_extra() -> None:
    assert parse_extra("") == {}
    assert parse_extra('{"temperature": 0}') == {"temperature": 0}


@pytest.mark.parametrize("text", ["{", "[]", "1", '"x"', "null", "temperature=0", "{'a': 1}"])
def test_extra_that_is_no_object(text: str) -> None:
    with pytest.raises(WorkloadError, match=r"--extra-body: found .*, expected a JSON object"):
        parse_extra(text)
