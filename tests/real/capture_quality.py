"""Record what real vLLM answers to the quality gate, as a golden file for its tests.

    python -m tests.real.capture_quality URL

Asks a running vLLM (the options are in golden/README.md) a text and two prompts, five alternatives for each
token, and keeps every request with its answer.
"""

import json
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

from server.errors import ServerError
from server.quality import asking, questions
from server.quality.api import Api, RefusalError

GOLDEN = Path(__file__).resolve().parents[1] / "golden" / "vllm-0.32-quality.json"
TEXT = questions.Text("prose-paris", "prose", "The capital of France is Paris. Façade, naïve, 日本.")
PROMPTS = (
    questions.Prompt("fact", "What is the capital of France?"),
    questions.Prompt("write", "Say hi."),
)
TOP_K = 5


class RecordingApi(Api):
    """An API that remembers each exchange."""

    def __init__(self, url: str) -> None:
        super().__init__(url)
        self.exchanges: list[dict[str, Any]] = []

    def _ask(self, method: str, path: str, body: dict[str, Any] | None) -> Any:
        kept = {"method": method, "path": path, "body": body}
        try:
            answer = super()._ask(method, path, body)
        except RefusalError as error:
            message = {"error": {"message": error.reason}}
            self.exchanges.append(kept | {"status": error.status, "answer": message})
            raise
        if path == "/v1/models":
            answer["data"][0]["root"] = answer["data"][0]["id"]  # a path of the machine that it ran on
        self.exchanges.append(kept | {"status": 200, "answer": answer})
        return answer


def main() -> int:
    """Ask, and write the golden file."""
    api = RecordingApi(sys.argv[1])
    try:
        served = replace(asking.look(sys.argv[1]), api=api)
        for method, path in (("GET", "/v1/models"), ("GET", "/version")):
            api._ask(method, path, None)
        start = tuple(served.tokenize("", True))
        text = replace(TEXT, tokens=tuple(served.tokenize(TEXT.text, False)))
        asked = questions.Questions((text,), PROMPTS, start, served.max_model_len - 1)
        asking.ask(served, asked, print, top_k=TOP_K)
        try:
            asking.ask(served, asked, print, top_k=served.max_model_len)  # more than vLLM gives: it names 20
        except ServerError as error:
            print(error)
    except ServerError as error:
        print(f"capture_quality: {error}", file=sys.stderr)
        return 1
    lines = ",\n".join(json.dumps(one, ensure_ascii=False) for one in api.exchanges)
    GOLDEN.write_text(f"[\n{lines}\n]\n", encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
