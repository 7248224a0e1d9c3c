"""Record what real vLLM sends, as golden files for the decoder's tests.

    python -m tests.real.capture

Starts vLLM, makes the requests below one after the other, and rewrites tests/golden/vllm-0.32-*; then again
with a reasoning parser, and with a tool parser. Without those parsers, a stream whose chunks do not add up to
its usage is not written: vLLM was late and put two tokens into one chunk.
"""

import json
import sys
from pathlib import Path

from server.errors import ServerError
from tests.real.raw_exchange import events, exchange, status, token_choices
from tests.real.vllm_server import MODEL, VllmError, VllmServer, command, prepare, running

GOLDEN = Path(__file__).resolve().parents[1] / "golden"
CHAT, COMPLETIONS = "/v1/chat/completions", "/v1/completions"
ACCENTS = "Repeat this text exactly, character by character:\nFaçade, naïve, 日本語, 東京, café, 😀 🚀"
REASONING = ("--reasoning-parser", "granite", "--structured-outputs-config", '{"enable_in_reasoning": true}')
TOOLS = ("--enable-auto-tool-choice", "--tool-call-parser", "hermes")
# The model neither reasons nor calls tools by itself: a grammar makes it say what the parsers look for.
THOUGHT = r"Here is my thought process: [a-z ]{10,40}\. Here is my response: [a-z ]{5,30}\."
CALL = r'<tool_call>\n\{"name": "get_weather", "arguments": \{"city": "[A-Z][a-z]{2,8}"\}\}\n</tool_call>'
CITY = {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]}
WEATHER = {"type": "function", "function": {"name": "get_weather", "parameters": CITY}}
INTRODUCTION = """\
# Golden files

`vllm-0.32-*.http` are whole HTTP responses of vLLM 0.32.0 for the CPU, byte for byte as a plain socket
received them: status line, headers, and the chunked body with its framing. `vllm-0.32-metrics.txt` is the
body of `GET /metrics` after these requests and the one-token chat that showed the server ready. Nothing was
edited. `python -m tests.real.capture` makes them again (answers at temperature 0 may differ between
processors).

`vllm-0.32-quality.json` holds what the quality gate asked it and what it answered
(`python -m tests.real.capture_quality URL`); `vllm-0.32-log-*.txt` are logs of starts that failed: too little
memory, an unknown architecture, a model that is nowhere. `argv.txt` is ours: every profile's command line.

Model: SmolLM2-135M-Instruct (Apache-2.0) in bfloat16, made by server/inside/convert_smollm2.py.
"""


def stream(prompt: str, **more: object) -> dict[str, object]:
    """Return the body of a streamed chat."""
    body: dict[str, object] = {"model": MODEL, "messages": [{"role": "user", "content": prompt}]}
    body |= {"temperature": 0, "max_tokens": 60, "stream": True, "stream_options": {"include_usage": True}}
    return body | more


def requests() -> dict[str, tuple[str, dict[str, object]]]:
    """Return path and body of each request, by the file's name."""
    both = {"include_usage": True, "continuous_usage_stats": True}
    completion: dict[str, object] = {"model": MODEL, "prompt": "Once upon a time", "temperature": 0}
    completion |= {"max_tokens": 24, "stream": True, "stream_options": {"include_usage": True}}
    plain = {"stream": False, "stream_options": None}
    return {
        "chat-stop": (CHAT, stream("What is the capital of France?")),
        "chat-length": (CHAT, stream("Write a story about the sea.", max_tokens=30)),
        "chat-characters": (CHAT, stream(ACCENTS)),
        "chat-empty-first": (CHAT, stream("Translate to Japanese: good morning, my friend", max_tokens=40)),
        "chat-n3": (CHAT, stream("Name a colour.", n=3, temperature=1, seed=1, max_tokens=16)),
        "chat-stop-string": (CHAT, stream("Count from 1 to 10.", stop=["5"])),
        "chat-continuous-usage": (CHAT, stream("Say hi.", max_tokens=12, stream_options=both)),
        "chat-no-usage": (CHAT, stream("Say hi.", max_tokens=12, stream_options=None)),
        "chat-token-ids": (CHAT, stream("Say hi.", max_tokens=12, return_token_ids=True)),
        "chat-unstreamed": (CHAT, stream("What is the capital of France?", **plain)),
        "completions": (COMPLETIONS, completion),
        "error-404": (CHAT, stream("Say hi.", model="unknown")),
        "error-400": (CHAT, stream("Say hi.", max_tokens=5000)),
    }


def reasoning_requests() -> dict[str, tuple[str, dict[str, object]]]:
    """Return the requests for a server with REASONING."""
    body = stream("What is two and two?", structured_outputs={"regex": THOUGHT})
    return {"reasoning": (CHAT, body), "reasoning-token-ids": (CHAT, body | {"return_token_ids": True})}


def tool_requests() -> dict[str, tuple[str, dict[str, object]]]:
    """Return the requests for a server with TOOLS."""
    body = stream("What is the weather in Paris?", structured_outputs={"regex": CALL}, tools=[WEATHER])
    return {"tool-call": (CHAT, body), "tool-call-token-ids": (CHAT, body | {"return_token_ids": True})}


def describe(name: str, raw: bytes, *, exact: bool) -> str:
    """Return what is in a response; raises ValueError where an exact stream's chunks and usage disagree."""
    if b"text/event-stream" not in raw:
        return f"status {status(raw)}, no stream"
    sent = events(raw)
    choices = token_choices(sent)
    texts = [choice["text"] if "text" in choice else choice["delta"].get("content") for choice in choices]
    usage = sent[-1].get("usage")
    if exact and usage and usage["completion_tokens"] != len(choices):
        raise ValueError(f"{name}: found {len(choices)} chunks with a token, usage says {usage}")
    said = f"usage {json.dumps(usage)}" if usage else "no usage"
    ends = ", ".join(choice["finish_reason"] for choice in choices if choice["finish_reason"])
    without = sum(not text for text in texts)
    return f"{len(choices)} token chunks, {without} without content; {said}; ends: {ends}"


def record(server: VllmServer, wanted: dict[str, tuple[str, dict[str, object]]], *, exact: bool) -> list[str]:
    """Write the golden files of one server; return their lines of provenance."""
    lines = []
    for name, (path, body) in wanted.items():
        raw = exchange(server.port, path, body)
        seen = describe(name, raw, exact=exact)
        (GOLDEN / f"vllm-0.32-{name}.http").write_bytes(raw)
        request = json.dumps(body, ensure_ascii=False)
        lines.append(f"- `vllm-0.32-{name}.http`: {seen}.\n  `POST {path}` `{request}`")
        print(name, seen, flush=True)
    return lines


def main() -> int:
    """Make every golden file and its line of provenance."""
    try:
        real = prepare()
        made = command(real, 0)
        environment = " ".join(f"{name}={value}" for name, value in made.variables.items())
        options = " ".join(made.argv[made.argv.index("--dtype") :])
        lines = [f"{INTRODUCTION}Options: `{options}`\nEnvironment: `{environment}`\n"]
        with running(real) as server:
            lines += record(server, requests(), exact=True)
            metrics = exchange(server.port, "/metrics").partition(b"\r\n\r\n")[2]
            (GOLDEN / "vllm-0.32-metrics.txt").write_bytes(metrics)
        for extra, wanted in ((REASONING, reasoning_requests()), (TOOLS, tool_requests())):
            lines.append(f"\nWith `{' '.join(extra)}` too:\n")
            with running(real, extra) as server:
                lines += record(server, wanted, exact=False)
    except (ServerError, VllmError, ValueError) as error:
        print(f"capture: {error}", file=sys.stderr)
        return 1
    (GOLDEN / "README.md").write_text("\n".join(lines) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
