"""A quick look at a server: N requests, C at a time, how long they took. Ten requests give no verdict.

What people otherwise write by hand with a thread pool and perf_counter. Streams are timed by the instrument
of the load test (`locustfiles`), token by token; whatever does not stream is timed from call to last byte.
"""

import json
import math
import random
import time
from collections import Counter
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

import gevent.pool
import requests
from rich.console import Console
from rich.table import Table

from analysis.record import RequestRecord
from locustfiles._errors import reason, shown
from locustfiles._ledger import Ledger
from locustfiles._options import Settings, api_headers
from locustfiles._portable import proxies_for, unchanged
from locustfiles._reply import Deadlines
from locustfiles._target import Target, TargetError
from locustfiles._worker import Load
from locustfiles._workload import WORDS, Workload, WorkloadError
from tokenswarm import EXIT_NOT_STARTED, EXIT_USAGE, TokenswarmError

PATHS = {"/v1/chat/completions": "chat", "/v1/completions": "completions"}
PLACE = "{prompt}"
PROMPT_WORDS = 40  # drawn anew for each request: the same prompt again may come out of a cache
GENERATE_BODY = '{"prompt": "{prompt}", "max_tokens": {max_tokens}, "stream": false}'
DEADLINES = Deadlines(10 * 10**9, 60 * 10**9, 60 * 10**9, 600 * 10**9)
LEVELS = (("p50", 0.5), ("p95", 0.95), ("max", 1.0))


@dataclass(frozen=True)
class Question:
    """What is asked, how often, and how."""

    url: str
    requests: int
    concurrency: int
    prompt: str  # "": random words
    max_tokens: int
    model: str
    stream: bool
    body: str
    verify: bool


@dataclass(frozen=True)
class Answer:
    """One request's times (ns since it was begun) and its end; what was not seen is None."""

    outcome: str
    detail: str
    end_ns: int
    first_ns: int | None = None
    tokens: int | None = None


def ask(question: Question) -> dict[str, Any]:
    """Ask, and return the figures (ms, tokens/s, counts). gevent must have patched the process.

    Raises TokenswarmError where the URL is none, or nothing there can be asked.
    """
    parts = urlsplit(question.url)
    if parts.scheme not in {"http", "https"} or not parts.hostname:
        raise TokenswarmError(
            f"URL: found {question.url!r}, expected http://HOST[:PORT] or https://HOST[:PORT]", EXIT_USAGE
        )
    path = parts.path.rstrip("/")
    known = PATHS.get(path, "chat" if path in {"", "/v1"} else "")
    answers: list[Answer] = []
    simulated = False
    try:
        if known:
            target = Target.look(
                parts._replace(path="", query="").geturl(), verify=question.verify, model=question.model
            )
            simulated = target.simulated
            if question.stream:
                send = _streamed(question, target, known, answers)
            else:
                send = _posted(question, target.url + _path(known), _body(question, target, known), answers)
        else:
            send = _posted(question, question.url, question.body or GENERATE_BODY, answers)
    except WorkloadError as error:
        raise TokenswarmError(str(error), EXIT_USAGE) from None
    except TargetError as error:
        raise TokenswarmError(str(error), EXIT_NOT_STARTED) from None
    began_ns = time.perf_counter_ns()
    pool = gevent.pool.Pool(question.concurrency)
    for number in range(question.requests):
        pool.spawn(send, number)
    pool.join()
    return {"simulated": simulated} | _figures(answers, (time.perf_counter_ns() - began_ns) / 1e9)


def _path(endpoint: str) -> str:
    return next(path for path, name in PATHS.items() if name == endpoint)


def _streamed(question: Question, target: Target, endpoint: str, answers: list[Answer]) -> Any:
    workload = Workload(
        endpoint=endpoint,
        model=target.model,
        prompt_words=(PROMPT_WORDS, PROMPT_WORDS),
        max_tokens=(question.max_tokens, question.max_tokens),
        choices=1,
        seed=1,
        ignore_eos=False,
        per_chunk_usage=False,
        prompts=(question.prompt,) if question.prompt else (),
    )
    settings = Settings("probe", workload, DEADLINES, "auto", question.verify, 0.0, "poisson")

    def heard(record: RequestRecord) -> None:
        answers.append(
            Answer(record.outcome, record.detail, record.end_ns, record.first_ns, record.output_tokens)
        )

    load = Load(settings, target.url, Ledger("probe", "probe-0"), 0, heard)
    return lambda _: load.request(time.perf_counter_ns())


def _body(question: Question, target: Target, endpoint: str) -> str:
    body: dict[str, Any] = {"model": target.model, "max_tokens": question.max_tokens}
    if endpoint == "chat":
        body["messages"] = [{"role": "user", "content": PLACE}]
    else:
        body["prompt"] = PLACE
    return json.dumps(body)


def _posted(question: Question, url: str, template: str, answers: list[Answer]) -> Any:
    _filled(question, template, 0)  # a mistake in it is told now
    session = requests.Session()
    session.auth = unchanged
    session.mount("http://", requests.adapters.HTTPAdapter(pool_maxsize=question.concurrency))
    session.mount("https://", requests.adapters.HTTPAdapter(pool_maxsize=question.concurrency))

    def send(number: int) -> None:
        body = _filled(question, template, number)
        began_ns = time.perf_counter_ns()
        try:
            reply = session.post(
                url,
                data=body.encode(),
                headers={"content-type": "application/json"} | api_headers(),
                timeout=(DEADLINES.connect_ns / 1e9, DEADLINES.first_token_ns / 1e9),
                verify=question.verify,
                allow_redirects=False,
                proxies=proxies_for(url),
            )
        except requests.RequestException as error:
            detail = f"no answer from {url}: {reason(error)}"
            answers.append(Answer("connect", detail, time.perf_counter_ns() - began_ns))
            return
        took_ns = time.perf_counter_ns() - began_ns
        if reply.status_code == 200:
            answers.append(Answer("ok", "", took_ns, tokens=_tokens(reply)))
        else:
            detail = f"HTTP {reply.status_code}: {shown(reply.content)}"
            answers.append(Answer(f"http_{reply.status_code}", detail, took_ns))

    return send


def _filled(question: Question, template: str, number: int) -> str:
    prompt = question.prompt or " ".join(random.Random(number).choices(WORDS, k=PROMPT_WORDS))
    body = template.replace("{max_tokens}", str(question.max_tokens))
    body = body.replace(PLACE, json.dumps(prompt)[1:-1])
    try:
        json.loads(body)
    except json.JSONDecodeError as error:
        raise WorkloadError(f"--body: found {template!r}, expected JSON ({error})") from None
    return body


def _tokens(reply: requests.Response) -> int | None:
    try:
        return int(reply.json()["usage"]["completion_tokens"])
    except (ValueError, KeyError, TypeError):
        return None


def _figures(answers: list[Answer], seconds: float) -> dict[str, Any]:
    good = [answer for answer in answers if answer.outcome == "ok"]
    failed = Counter(answer.outcome for answer in answers if answer.outcome != "ok")
    tokens = [answer.tokens for answer in good if answer.tokens is not None]
    figures: dict[str, Any] = {
        "requests": len(answers),
        "ok": len(good),
        "failed": dict(failed),
        "details": {answer.outcome: answer.detail for answer in reversed(answers) if answer.outcome != "ok"},
        "seconds": seconds,
        "requests_per_s": len(good) / seconds,
        "output_tokens_per_s": sum(tokens) / seconds if tokens else None,
    }
    for metric, values in (
        ("ttft", [answer.first_ns for answer in good if answer.first_ns is not None]),
        ("e2e", [answer.end_ns for answer in good]),
    ):
        for name, level in LEVELS:
            figures[f"{metric}_{name}_ms"] = _rank(values, level) / 1e6 if values else None
    return figures


def _rank(values: list[int], level: float) -> int:
    """Return the value of rank ceil(level * n): one that was measured, never one in between."""
    return sorted(values)[max(0, math.ceil(level * len(values)) - 1)]


def show(figures: dict[str, Any], console: Console) -> None:
    """Print the figures for people."""
    table = Table()
    for column in ("", *(name for name, _ in LEVELS)):
        table.add_column(column, justify="right" if column else "left")
    for metric, words in (("ttft", "first token"), ("e2e", "whole answer")):
        cells = [figures[f"{metric}_{name}_ms"] for name, _ in LEVELS]
        if cells[0] is not None:
            table.add_row(words, *(f"{cell:,.1f} ms" for cell in cells))
    mark = "SIMULATED. " if figures["simulated"] else ""
    console.print(f"{mark}{figures['ok']} of {figures['requests']} answered in {figures['seconds']:.2f} s")
    if figures["ok"]:
        console.print(table)
        rate = figures["output_tokens_per_s"]
        tokens = f", {rate:,.0f} output tokens/s" if rate is not None else ""
        console.print(f"{figures['requests_per_s']:.1f} requests/s{tokens}")
    for outcome, count in figures["failed"].items():
        console.print(f"{count} {outcome}: {figures['details'][outcome]}", soft_wrap=True)
    if 0 < figures["ok"] < 100:
        console.print(
            f"A look, no measurement: {figures['ok']} answers decide no percentile. "
            "`tokenswarm run` gives a verdict.",
            style="dim",
        )
