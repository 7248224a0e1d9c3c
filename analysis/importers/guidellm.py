"""GuideLLM's benchmarks.json: every request with its times, one run for each rate of a sweep.

Keys as GuideLLM 0.8 writes them (guidellm/schemas/base); times are Unix seconds of time.time().
"""

from collections.abc import Mapping
from typing import Any

from analysis.record import RequestRecord

from .source import ImportFileError, Source, listed, mapping, maybe_count, maybe_level, ns
from .translation import WHY_FAILED, Imported, each, one_line, outcome_of, record

TOOL = "guidellm"
DEPTH = 5
OPEN = ("constant", "poisson", "trace")
DEFINITIONS = (
    (
        "Its inter_token_latency is one mean for each request, our tpot; single gaps are not in the file,"
        " so itl and max_gap are not known"
    ),
    (
        "Its time_per_output_token counts from the request's start, with the first token in it; ours is "
        "(last - first) / (tokens - 1)"
    ),
    "Times are of the wall clock, which a correction of the clock may bend",
    "What was still running at the end counts as cancelled: it lasted at least so long",
    WHY_FAILED,
)
DUE = (
    "Latency runs from when the request was due (targeted_start), as its request_scheduled_latency does; its "
    "request_latency and time_to_first_token run from the send"
)
LEFT_OUT = "{n} requests wholly within its warm-up or cool-down are left out, as in its own figures"
SENT = "Users ask again when they are answered, so a request is due when it is sent"


def _benchmarks(source: Source) -> list[Any]:
    listed_there = source.value.get("benchmarks") if isinstance(source.value, dict) else None
    found = listed_there if isinstance(listed_there, list) else []
    known = [isinstance(one, dict) and "requests" in one and "scheduler_state" in one for one in found]
    if source.cut and not all(known[-1:]):
        return found[:-1] if all(known[:-1]) else []
    return found if all(known) else []


def is_detailed(source: Source) -> bool:
    """Say whether a file is GuideLLM's JSON."""
    return bool(_benchmarks(source))


def translate(source: Source) -> list[Imported]:
    """Return the runs in a file; raises ImportFileError."""
    version = mapping(source.value.get("metadata") or {}, f"{source.path}: metadata").get("guidellm_version")
    found = _benchmarks(source)
    return [
        _run(
            one, version, f"{source.path}: benchmark {number}", cut=bool(source.cut) and number == len(found)
        )
        for number, one in enumerate(found, 1)
    ]


def _run(benchmark: Mapping[str, Any], version: Any, where: str, *, cut: bool) -> Imported:
    config = mapping(benchmark.get("config"), f"{where}: config")
    strategy = mapping(config.get("strategy"), f"{where}: config.strategy")
    kind = str(strategy.get("type_"))
    by_status = mapping(benchmark["requests"], f"{where}: requests")
    if not cut:
        _check_whole(benchmark, by_status, where)
    window = _measured(benchmark, where, cut=cut)
    found = [
        (f"{status} request {i}", (status, one))
        for status in ("successful", "errored", "incomplete")
        for i, one in enumerate(listed(by_status.get(status) or [], f"{where}: requests.{status}"))
    ]
    made, unread = each(found, lambda one: _request(*one, due=kind in OPEN))
    kept = [one for one in made if _overlaps(one[0], window)]
    requests = [(r._replace(request=i), gaps) for i, (r, gaps) in enumerate(sorted(kept, key=_due))]
    left_out = len(made) - len(kept)
    streams = {"synchronous": 1, "concurrent": strategy.get("streams")}.get(kind)
    users = maybe_level(streams) or maybe_level(strategy.get("max_concurrency")) or float(len(requests))
    rate = maybe_level(strategy.get("rate"))
    return Imported(
        tool=TOOL,
        version=str(version) if version else None,
        name=f"{TOOL} {kind}",
        requests=requests,
        definitions=(
            *DEFINITIONS,
            DUE if kind in OPEN else SENT,
            *([LEFT_OUT.format(n=f"{left_out:,}")] if left_out else []),
        ),
        unknown=("itl", "itl_token", "max_gap", *(() if kind in OPEN else ("dispatch_lag",))),
        loop="open" if kind in OPEN else "closed",
        level=rate if kind in OPEN else users,
        load={
            "users": None if kind in OPEN else users,
            "rate_per_s": rate if kind in OPEN else None,
            "arrivals": kind if kind in OPEN else None,
        },
        warmup=left_out,
        unread=unread,
    )


def _due(pair: tuple[RequestRecord, list[int]]) -> int:
    return pair[0].due_unix_ns


def _check_whole(benchmark: Mapping[str, Any], by_status: Mapping[str, Any], where: str) -> None:
    """Refuse a file that keeps a sample of its requests: shares of a sample are not shares of the run."""
    made = (benchmark.get("scheduler_metrics") or {}).get("requests_made") or {}
    measured = (benchmark.get("metrics") or {}).get("request_totals") or {}
    # Of the incomplete, those made that were never sent are not in the file.
    totals = {**made, "incomplete": None} if made else measured
    for status in ("successful", "errored", "incomplete"):
        there, said = len(by_status.get(status) or []), totals.get(status)
        if said is not None and there < said:
            raise ImportFileError(f"{where}: found {there} of {said} {status} requests, expected all of them")


def _measured(benchmark: Mapping[str, Any], where: str, *, cut: bool) -> tuple[int, int] | None:
    """Return the tool's measured window (Unix ns) where it had a warm-up or a cool-down, else None."""
    if cut:  # both stand behind the requests, but the scheduler's own figures before them
        times = mapping(benchmark.get("scheduler_metrics"), f"{where}: scheduler_metrics")
        names = ("measure_start_time", "measure_end_time")
        start, end = (ns(times.get(name), f"{where}: scheduler_metrics.{name}") for name in names)
        return start, end
    if not (benchmark.get("warmup_duration") or benchmark.get("cooldown_duration")):
        return None
    start, end = (ns(benchmark.get(name), f"{where}: {name}") for name in ("start_time", "end_time"))
    return start, end


def _overlaps(one: RequestRecord, window: tuple[int, int] | None) -> bool:
    if window is None:
        return True
    sent = one.due_unix_ns + (one.sent_ns or 0)
    return sent <= window[1] and one.due_unix_ns + one.end_ns >= window[0]


def _request(status: str, found: Any, *, due: bool) -> tuple[RequestRecord, list[int]]:
    info = mapping(mapping(found, "it").get("info"), "info")
    times = mapping(info.get("timings"), "timings")

    def at(*names: str) -> int | None:
        value = next((times[name] for name in names if times.get(name) is not None), None)
        return None if value is None else ns(value, names[0])

    sent = at("request_start", "resolve_start")
    start = at("targeted_start") if due else sent
    end = at("request_end", "resolve_end", "last_token_iteration", "request_start")
    start = sent if start is None else start
    if start is None or end is None:  # it was never sent: the run ended first
        start = end = at("targeted_start", "scheduled_at", "dequeued", "queued")
    if start is None or end is None:
        raise ImportFileError("found no time of its start or end, expected both")
    first, visible, last = (
        at(name) for name in ("first_token_iteration", "first_output_token_iteration", "last_token_iteration")
    )
    for later in (end, first, last):
        if later is not None and later < start:
            raise ImportFileError("found a time before its start: the wall clock went back")
    tokens, prompt = (
        maybe_count(_tokens(found.get(name)), name) for name in ("output_metrics", "input_metrics")
    )
    ok = status == "successful"
    error = info.get("error")
    outcome = "ok" if ok else "cancelled" if status == "incomplete" else outcome_of(str(error))
    made = record(
        0,
        TOOL,
        due_unix_ns=start,
        end_ns=max(end, last or 0) - start,
        sent_ns=None if sent is None else max(0, sent - start),
        first_ns=None if first is None else first - start,
        visible_ns=None if visible is None else visible - start,
        last_ns=None if last is None else last - start,
        prompt_tokens=prompt,
        output_tokens=tokens if ok else None,
        outcome=outcome,
        detail="" if ok else one_line(error),
    )
    return made._replace(chunks=0), []


def _tokens(usage: Any) -> Any:
    return usage.get("text_tokens") if isinstance(usage, dict) else None
