"""What real vLLM 0.32 sends, which the decoder and the token counts rely on."""

import pytest

from tests.real.raw_exchange import body_chunks, events, exchange, status, token_choices
from tests.real.vllm_server import MODEL, VllmServer

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1800)]

FRANCE = "What is the capital of France?"
ACCENTS = "Repeat this text exactly, character by character:\nFaçade, naïve, 日本語, 東京, café, 😀 🚀"


def stream(server: VllmServer, prompt: str, **more: object) -> bytes:
    body = {
        "model": MODEL,
        "messages": [{"role": "user", "content": prompt}],
        "temperature": 0,
        "stream": True,
    }
    body |= {"max_tokens": 60, "stream_options": {"include_usage": True}}
    return exchange(server.port, "/v1/chat/completions", body | more)


def answer(choices: list[dict]) -> str:
    return "".join(choice["delta"]["content"] for choice in choices)


def test_the_model_answers_paris(vllm: VllmServer) -> None:
    assert "Paris" in answer(token_choices(events(stream(vllm, FRANCE))))


@pytest.mark.parametrize("n", [1, 3])
@pytest.mark.parametrize("prompt", [FRANCE, ACCENTS], ids=["ascii", "accents"])
def test_every_chunk_but_the_role_carries_tokens(vllm: VllmServer, prompt: str, n: int) -> None:
    raw = stream(vllm, prompt, n=n, temperature=n - 1, return_token_ids=True)
    sent = events(raw)
    assert len(body_chunks(raw)) == len(sent) + 1, "an event, [DONE] too, is an HTTP chunk of its own"
    assert [event["choices"][0]["delta"] for event in sent[:n]] == [{"role": "assistant", "content": ""}] * n
    assert sent[-1]["choices"] == []
    choices = token_choices(sent)
    # Nearly always one, but two where vLLM's event loop was late: so chunks <= tokens, and this is exact.
    tokens = [len(choice["token_ids"]) for choice in choices]
    assert min(tokens) >= 1
    assert sum(tokens) == sent[-1]["usage"]["completion_tokens"]
    finished = [choice["index"] for choice in choices if choice["finish_reason"]]
    assert sorted(finished) == list(range(n))


def test_half_a_character_is_an_empty_delta(vllm: VllmServer) -> None:
    choices = token_choices(events(stream(vllm, ACCENTS)))
    assert not answer(choices).isascii()
    assert any(not choice["delta"]["content"] and not choice["finish_reason"] for choice in choices)


def test_the_end_token_is_an_empty_delta(vllm: VllmServer) -> None:
    last = token_choices(events(stream(vllm, FRANCE, return_token_ids=True)))[-1]
    assert (last["delta"], last["finish_reason"]) == ({"content": ""}, "stop")
    assert last["token_ids"] == [2], "<|im_end|>, so it is in completion_tokens"


def test_an_unknown_model_is_404(vllm: VllmServer) -> None:
    raw = stream(vllm, FRANCE, model="unknown")
    assert status(raw) == 404
    assert b"text/event-stream" not in raw
