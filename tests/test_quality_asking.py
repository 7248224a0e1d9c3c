"""The quality gate over real sockets: the simulator, and what real vLLM answered, played back."""

import copy
import json
import math
import threading
from collections.abc import Callable, Iterator
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, Self

import numpy as np
import pytest

from analysis.answers import decode, load
from analysis.divergence import diverge
from analysis.sla import default
from server.errors import ServerError, UsageError
from server.quality import asking, questions
from server.quality.api import Api, RefusalError
from server.quality.questions import Prompt, Questions, Text
from server.sim import toy
from server.sim.profiles import AWQ
from tests.sim_server import call, running_sim
from tokenswarm import TokenswarmError, quality

GOLDEN = Path(__file__).parent / "golden" / "vllm-0.32-quality.json"
AT_ONCE = '{"ttft_ms": 0, "itl_ms": 0}'  # the simulator's script: answers without delay
Edit = Callable[[dict[str, Any]], tuple[int, Any]]


def quiet(_line: str) -> None:
    """Take a line of progress."""


@pytest.fixture(scope="module")
def base() -> Iterator[str]:
    with running_sim("--script", AT_ONCE) as sim:
        yield sim.banner["listening"]


@pytest.fixture(scope="module")
def awq() -> Iterator[str]:
    with running_sim("--script", AT_ONCE, "--profile", "awq") as sim:
        yield sim.banner["listening"]


def few(url: str, room: int = 8192) -> Questions:
    """Return some of the questions, with a server's tokens."""
    whole = questions.make(asking.look(url).tokenize, room)
    return replace(whole, texts=whole.texts[::4], prompts=whole.prompts[:6])


# the texts


def test_the_texts_are_of_several_kinds_and_languages() -> None:
    read = questions.texts()
    kinds = {text.kind for text in read}
    assert kinds >= {"prose", "technical", "dialogue", "arithmetic", "code", "data", "long"}
    assert kinds >= {"german", "spanish", "japanese"}
    assert len({text.text for text in read}) == len(read) >= 20
    assert all(len(text.text) > 200 for text in read)
    (long,) = (text for text in read if text.kind == "long")
    assert 1400 <= len(long.text.split()) <= 1700
    middle, end = long.text[: len(long.text) * 3 // 5], long.text[len(long.text) * 4 // 5 :]
    for detail in ("4-19-27", "Isobel", "number seven", "Lachlan Orr", "sixty-three", "Porto"):
        assert detail in middle
        assert detail in end, "what was said early is asked for at the end"


def test_the_prompts_are_of_several_kinds() -> None:
    read = questions.prompts()
    assert len({prompt.text for prompt in read}) == len(read) == 60
    assert {prompt.kind for prompt in read} >= {"fact", "code", "german", "spanish", "japanese"}


def test_a_folder_without_texts_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="expected texts"):
        questions.texts(tmp_path)


# windows


@pytest.mark.parametrize("start", [(), (7,)])
@pytest.mark.parametrize("n", [1, 2, 9, 10, 11, 17, 40, 100])
def test_every_token_is_scored_once_and_after_its_own_text(start: tuple[int, ...], n: int) -> None:
    text = Text("t", "t", "", tuple(range(100, 100 + n)))
    found = Questions((text,), (), start, 10).windows(text)
    scored = [token for window in found for token in window.ids[len(window.ids) - window.scored :]]
    assert scored == list(text.tokens[0 if start else 1 :])
    size = 10 - len(start)
    for window in found:
        assert len(window.ids) <= 10
        assert window.ids[: len(start)] == start
        own = window.ids[len(start) :]
        assert own == tuple(range(own[0], own[0] + len(own))), "a piece of the text"
        if len(found) > 1:
            assert len(own) == size, "as much context as fits"


def test_what_fits_is_one_window() -> None:
    text = Text("t", "t", "", tuple(range(10)))
    assert [window.scored for window in Questions((text,), (), (), 10).windows(text)] == [9]


# the simulator


def test_the_simulator_gives_prompt_logprobs_as_vllm_does(base: str) -> None:
    port = int(base.rpartition(":")[2])
    body = {"prompt": [1, 2, 3, 2, 1], "max_tokens": 1, "prompt_logprobs": 5, "temperature": 0}
    first = call(port, "/v1/completions", body).json["choices"][0]["prompt_logprobs"]
    again = call(port, "/v1/completions", body).json["choices"][0]["prompt_logprobs"]
    assert first == again
    assert first[0] is None
    assert len(first) == 5
    for place, found in enumerate(first[1:], 1):
        assert str(body["prompt"][place]) in found  # type: ignore[index]
        assert 5 <= len(found) <= 6
        assert {"logprob", "rank", "decoded_token"} == set(next(iter(found.values())))
        assert sum(math.exp(one["logprob"]) for one in found.values()) < 1
        assert sorted(one["rank"] for one in found.values())[:5] == [1, 2, 3, 4, 5]
    for wrong, reason in (
        ({"prompt_logprobs": 21}, "Requested prompt logprobs of 21, which is greater than max allowed: 20"),
        ({"prompt_logprobs": -1}, "prompt_logprobs: found -1"),
        ({"stream": True}, "not available when `stream=True`"),
    ):
        refused = call(port, "/v1/completions", body | wrong)
        assert refused.status == 400
        assert reason in refused.json["error"]["message"]


def exact_kl(ids: tuple[int, ...], place: int, noise: float) -> float:
    """Return the toy model's divergence at a place, over the whole vocabulary."""
    sides = [toy._place(ids, place, toy.LIKELY, 0, amount) for amount in (0.0, noise)]
    p, q = ({one: found["logprob"] for one, found in side.items()} for side in sides)
    likely = [one for one, found in sides[0].items() if found["rank"] <= toy.LIKELY]
    rest = [1 - sum(math.exp(logs[one]) for one in likely) for logs in (p, q)]
    known = sum(math.exp(p[one]) * (p[one] - q[one]) for one in likely)
    return float(known + rest[0] * math.log(rest[0] / rest[1]))


def test_the_divergence_found_is_the_toy_models_own(base: str, awq: str) -> None:
    asked = few(base)
    sides = [decode(asking.ask(asking.look(url), asked, quiet)) for url in (base, awq)]
    one, other = (side.texts[0] for side in sides)
    found = diverge(one, other)
    window = asked.windows(asked.texts[0])[0].ids
    exact = np.array([exact_kl(window, place, AWQ.quality_noise) for place in range(1, len(window))])
    assert (found.kl_low <= exact + 1e-4).all()
    assert found.kl_low.mean() < exact.mean() < found.kl_high.mean()
    assert found.kl_low.mean() == pytest.approx(exact.mean(), rel=0.2)


def test_the_whole_gate_passes_a_little_noise_and_keeps_what_was_said(
    base: str, awq: str, tmp_path: Path
) -> None:
    lines: list[str] = []
    found = quality.compare(base, awq, tmp_path, default(), lines.append)
    assert (found.status, found.simulated, found.floor) == ("PASS", True, quality.SAME_PROCESS)
    measured = {one.name: one for one in found.measures}
    assert 0.001 < measured["kl"].value < 0.02
    assert measured["kl"].floor == 0
    assert 0.9 < measured["top1"].value < 1
    assert found.figures.texts == len(questions.texts())
    assert found.figures.prompts == 60
    assert found.figures.exact_match == 1
    assert lines[0].startswith("base: 10 of ")
    assert lines[-1] == "floor: 60 of 60 answers written"
    kept = json.loads((tmp_path / "quality.json").read_text())
    assert (kept["status"], kept["simulated"], kept["exit_code"]) == ("PASS", True, 0)
    files = [tmp_path / name for name in (quality.BASE, quality.CANDIDATE, quality.FLOOR)]
    again = quality.judge(*files[:2], default(), tmp_path, floor=(files[2], quality.SAME_PROCESS))
    assert again == found, "judged again without servers"


def test_another_model_fails_and_servers_may_be_asked_one_after_another(base: str, tmp_path: Path) -> None:
    asked = few(base)
    first, second = tmp_path / "base.json.gz", tmp_path / "other.json.gz"
    quality._keep(asking.ask(asking.look(base), asked, quiet), first)
    with running_sim("--script", AT_ONCE, "--seed", "7") as sim:
        quality.ask(sim.banner["listening"], second, quiet, like=first)
    assert load(second).texts[0].tokens == load(first).texts[0].tokens
    found = quality.judge(first, second, default(), tmp_path)
    assert found.status == "FAIL"
    assert found.floor == "not measured"
    assert {one.measure for one in found.limits if one.status == "FAIL"} == {"kl", "top1"}


def test_a_server_with_less_room_is_refused(base: str) -> None:
    asked = few(base)
    served = replace(asking.look(base), max_model_len=2000)
    with pytest.raises(UsageError, match="found room for 2000 tokens, expected more than 2048"):
        asking.ask(served, asked, quiet)
    with pytest.raises(UsageError, match="found room for 2 tokens, expected at least 4"):
        questions.make(served.tokenize, 2)


def test_a_long_text_is_cut_where_there_is_little_room(base: str) -> None:
    asked = few(base, room=200)
    assert max(len(window.ids) for text in asked.texts for window in asked.windows(text)) == 199
    said = decode(asking.ask(asking.look(base), asked, quiet))
    assert [len(text.logprobs) for text in said.texts] == [len(text.tokens) for text in asked.texts]


@pytest.mark.parametrize("url", ["127.0.0.1:8000", "ftp://x", "", "http://", "http://x:99999", "http://[::1"])
def test_what_is_no_url_is_refused(url: str, tmp_path: Path) -> None:
    with pytest.raises(TokenswarmError, match="expected http://HOST") as raised:
        quality.compare(url, "http://127.0.0.1:9", tmp_path, default(), quiet)
    assert raised.value.exit_code == 2


def test_a_server_that_does_not_answer_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(
        TokenswarmError, match=r"^http://127.0.0.1:9/v1/models: cannot be reached \("
    ) as raised:
        quality.compare("http://127.0.0.1:9", "http://127.0.0.1:10", tmp_path, default(), quiet)
    assert raised.value.exit_code == 6
    assert "\n" not in str(raised.value)


# what real vLLM answered


class Replay:
    """A server that answers as the golden file says; `edit` changes an exchange's answer."""

    def __init__(self, edit: Edit = lambda one: (one["status"], one["answer"])) -> None:
        exchanges = json.loads(GOLDEN.read_text(encoding="utf-8"))
        known = {json.dumps([one["method"], one["path"], one["body"]]): one for one in exchanges}
        self.keys: list[str | None] = []

        class Handler(BaseHTTPRequestHandler):
            def answer(handler) -> None:  # noqa: N805 - `self` is the replay
                size = int(handler.headers.get("content-length") or 0)
                body = json.loads(handler.rfile.read(size)) if size else None
                self.keys.append(handler.headers.get("authorization"))
                one = known.get(json.dumps([handler.command, handler.path, body]))
                status, answer = edit(copy.deepcopy(one)) if one else (404, {"detail": "Not Found"})
                data = answer if isinstance(answer, bytes) else json.dumps(answer).encode()
                handler.send_response(status)
                handler.send_header("content-length", str(len(data)))
                handler.end_headers()
                handler.wfile.write(data)

            do_GET = do_POST = answer  # noqa: N815 - what http.server looks for

            def log_message(self, *_: object) -> None:
                """Say nothing."""

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_port}"

    def __enter__(self) -> Self:
        threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()


def golden_questions(url: str) -> Questions:
    tokenize = asking.look(url).tokenize
    text = "The capital of France is Paris. Façade, naïve, 日本."
    read = Text("prose-paris", "prose", text, tuple(tokenize(text, False)))
    prompts = (Prompt("fact", "What is the capital of France?"), Prompt("write", "Say hi."))
    return Questions((read,), prompts, tuple(tokenize("", True)), 2047)


def test_what_real_vllm_answered_is_understood() -> None:
    with Replay() as vllm:
        asked = golden_questions(vllm.url + "/v1/")
        said = asking.ask(asking.look(vllm.url), asked, quiet, top_k=5)
    found = decode(said)
    assert (found.model, found.version, found.simulated) == ("SmolLM2-135M-Instruct", "0.32.0", False)
    (text,) = found.texts
    assert text.scored.tolist() == list(asked.texts[0].tokens[1:])
    assert text.top_ids.shape == (len(text.tokens) - 1, 5)
    assert (np.diff(text.top_logprobs, axis=1) <= 0).all(), "likeliest first"
    assert (text.logprobs <= text.top_logprobs[:, 0]).all()
    place = text.scored.tolist().index(7042)  # " Paris"
    assert text.top_ids[place, 0] == 7042
    assert text.logprobs[place] == text.top_logprobs[place, 0]
    answers = found.answers
    assert "Paris" in answers[0].text
    assert (answers[0].finish, answers[0].token_ids[-1]) == ("stop", 2)
    assert answers[0].prompt_ids is not None
    assert len(answers[0].prompt_ids) == 37
    self_compared = diverge(text, text)
    assert self_compared.kl_low.max() == self_compared.kl_high.max() == 0


def test_as_many_alternatives_as_the_server_allows() -> None:
    with Replay() as vllm:
        said = asking.ask(asking.look(vllm.url), golden_questions(vllm.url), quiet, top_k=2048)
    assert said["top_k"] == 20
    assert decode(said).texts[0].top_ids.shape[1] == 20


NOT_JSON = {"error": {"message": "Out of range float values are not JSON compliant", "code": 400}}  # vLLM's


@pytest.mark.parametrize("broken", [math.nan, -math.inf, None, "refused"])
def test_broken_weights_fail_and_are_no_baseline(broken: float | str | None, tmp_path: Path) -> None:
    def edit(one: dict[str, Any]) -> tuple[int, Any]:
        if one["path"] == "/v1/completions" and broken == "refused":
            return 400, NOT_JSON
        if one["path"] == "/v1/completions" and one["status"] == 200:
            for found in one["answer"]["choices"][0]["prompt_logprobs"][1:]:
                for said in found.values():
                    said["logprob"] = broken
        return one["status"], one["answer"]

    files = {}
    for name, server in (("right", Replay()), ("broken", Replay(edit))):
        with server as vllm:
            said = asking.ask(asking.look(vllm.url), golden_questions(vllm.url), quiet, top_k=5)
        files[name] = tmp_path / f"{name}.json.gz"
        quality._keep(said, files[name])
    found = quality.judge(files["right"], files["broken"], default(), tmp_path)
    (ratio,) = (one for one in found.measures if one.name == "ppl_ratio")
    assert ratio.value > 1e100
    with pytest.raises(TokenswarmError, match=r"gave log probabilities that are none .*: no baseline"):
        quality.judge(files["broken"], files["right"], default(), tmp_path)


def without(path: str, status: int, answer: Any) -> Edit:
    """Return an edit that gives one path another answer."""
    return lambda one: (status, answer) if one["path"] == path else (one["status"], one["answer"])


def without_logprobs(one: dict[str, Any]) -> tuple[int, Any]:
    if one["path"] == "/v1/completions" and one["status"] == 200:
        one["answer"]["choices"][0]["prompt_logprobs"] = None
    return one["status"], one["answer"]


def without_own(one: dict[str, Any]) -> tuple[int, Any]:
    if one["path"] == "/v1/completions" and one["status"] == 200:
        for token, found in zip(
            one["body"]["prompt"][1:], one["answer"]["choices"][0]["prompt_logprobs"][1:], strict=True
        ):
            del found[str(token)]
    return one["status"], one["answer"]


OPENAI = {"error": {"message": "Unrecognized request argument: prompt_logprobs"}}


@pytest.mark.parametrize(
    ("edit", "message"),
    [
        (without("/v1/models", 200, {"data": []}), "/v1/models: expected a list of models, found none"),
        (without("/v1/models", 200, b"<html>"), "/v1/models: expected JSON, found '<html>'"),
        (without("/v1/models", 401, {"error": "Unauthorized"}), "/v1/models: HTTP 401: Unauthorized"),
        (without("/tokenize", 404, {"detail": "Not Found"}), "/tokenize: HTTP 404: Not Found"),
        (without("/tokenize", 200, {"count": 3}), "/tokenize: expected a list of token ids"),
        (without("/v1/completions", 400, OPENAI), "/v1/completions: HTTP 400: Unrecognized request argument"),
        (
            without("/v1/completions", 200, {"choices": []}),
            "/v1/completions: expected an answer with",
        ),
        (without_logprobs, "expected prompt_logprobs for 2 tokens, found none: the quality gate needs"),
        (without_own, "expected 5 log probabilities at each token, its own among them"),
        (without("/v1/chat/completions", 400, {"message": "no chat template"}), "HTTP 400: no chat template"),
        (without("/v1/chat/completions", 200, {"choices": [{}]}), "expected a chat's answer"),
        (without("/v1/chat/completions", 500, b""), "/v1/chat/completions: HTTP 500: Internal Server Error"),
    ],
)
def test_a_server_that_does_not_fit_is_one_line(edit: Edit, message: str) -> None:
    with Replay(edit) as vllm, pytest.raises(ServerError) as raised:
        asking.ask(asking.look(vllm.url), golden_questions(vllm.url), quiet, top_k=5)
    assert message in str(raised.value)
    assert str(raised.value).startswith(vllm.url)
    assert "\n" not in str(raised.value)


def test_a_server_that_tells_neither_version_nor_token_ids_is_asked_to_tokenize() -> None:
    def plain(one: dict[str, Any]) -> tuple[int, Any]:
        if one["path"] == "/version":
            return 404, {}
        if one["path"] == "/v1/chat/completions":
            del one["answer"]["choices"][0]["token_ids"], one["answer"]["prompt_token_ids"]
        return one["status"], one["answer"]

    with Replay(plain) as vllm:
        served = asking.look(vllm.url)
        assert served.version == ""
        with pytest.raises(RefusalError, match="/tokenize: HTTP 404"):  # that text is not in the golden file
            asking._write(served, Prompt("fact", "Say hi."))


def test_another_vocabulary_is_one_line() -> None:
    def other(one: dict[str, Any]) -> tuple[int, Any]:
        if one["path"] == "/tokenize" and one["answer"]["tokens"]:
            one["answer"]["tokens"][3] += 1
        return one["status"], one["answer"]

    def shorter(one: dict[str, Any]) -> tuple[int, Any]:
        if one["path"] == "/tokenize":
            one["answer"]["tokens"] = one["answer"]["tokens"][:-1]
        return one["status"], one["answer"]

    for edit, message in (
        (other, "token 3 of prose-paris is 4650, expected 4649"),
        (shorter, "prose-paris has 18 tokens, expected 19"),
    ):
        with Replay() as vllm, Replay(edit) as candidate:
            asked = golden_questions(vllm.url)
            with pytest.raises(UsageError, match=f"{candidate.url}: its tokenizer is another: {message}"):
                asking.ask(asking.look(candidate.url), asked, quiet)


def test_a_key_comes_from_the_environment_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TOKENSWARM_API_KEY", "secret")
    with Replay() as vllm:
        asking.look(vllm.url.replace("http://", "http://somebody:else@"))
    assert set(vllm.keys) == {"Bearer secret"}
    monkeypatch.setenv("TOKENSWARM_API_KEY", "two words")
    with pytest.raises(UsageError, match="TOKENSWARM_API_KEY: found a character") as raised:
        Api("http://127.0.0.1:9")
    assert "two words" not in str(raised.value)
