"""`vllm bench serve`: with --save-detailed a value for each request, else percentiles alone.

Keys as vLLM 0.32 writes them (vllm/benchmarks/serve.py); times are seconds of time.perf_counter.
"""

import math
import re
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from typing import Any

from analysis.coarse import Coarse, Point, Row, Worth
from analysis.gates import Gate
from analysis.record import RequestRecord

from .source import NS, ImportFileError, Source, listed, maybe_count, maybe_level, ns, seconds
from .translation import FROM_THE_SEND, NO_DATE, WHY_FAILED, Imported, each, one_line, outcome_of, record

TOOL = "vllm bench"
DEPTH = 2
DETAIL = ("input_lens", "output_lens", "ttfts", "itls", "start_times", "errors")
DEFINITIONS = (
    FROM_THE_SEND,
    (
        'The first token is the first chunk with choices, even the one that only says "assistant": where '
        "a server sends that alone, ttft is too early and the next gap is prefill"
    ),
    "itl has one value for each chunk, stamped after its JSON was parsed; tpot is ours",
    "e2e ends with the last chunk that has choices, not with the stream",
    WHY_FAILED,
)
EARLY = "So it was in {n:,} of {ok:,} answers here: they have more chunks than tokens"
QUEUED = (
    "A request is due when it came to the limit of --max-concurrency: waiting there is in ttft and e2e, "
    "though not in the tool's own"
)
NO_GAP_COUNT = "Without --save-detailed nothing says how many gaps there were: itl is not read"
LOST = "Errors stand last in the file: why a request failed is lost where they were cut off"
DATED = "The run is placed so that it ends at the file's `date`, read as UTC"


def runs(source: Source) -> list[Mapping[str, Any]]:
    """Return the results in a file, several after --append-result; none where it is another tool's."""
    found = list(source.lines.values())
    keys = ("request_throughput", "duration", "completed")
    return found if found and all(all(key in one for key in keys) for one in found) else []


def is_detailed(source: Source) -> bool:
    """Say whether a file is vllm bench's, with a value for each request."""
    return bool(runs(source)) and all("ttfts" in one for one in runs(source))


def translate(source: Source) -> list[Imported]:
    """Return the runs of a detailed file; raises ImportFileError."""
    where = str(source.path)
    if source.cut and source.value:
        return [_run(_up_to_the_cut(source.value, where), where, cut=True)]
    return [_run(one, where, cut=False) for one in runs(source)]


def _run(found: Mapping[str, Any], where: str, *, cut: bool) -> Imported:
    columns = _columns(found, where)
    n = len(columns["ttfts"])
    rate, users = (maybe_level(found.get(name)) for name in ("request_rate", "max_concurrency"))
    is_open = rate is not None  # it may be "inf"
    queued = is_open and users is not None and "queue_times" in columns
    zero, dated = _zero_ns(found, columns["start_times"], where)
    requests, unread = each(
        ((f"request {i}", (i, {name: values[i] for name, values in columns.items()})) for i in range(n)),
        lambda one: _request(*one, zero, queued=queued),
    )
    ok = sum(one.outcome == "ok" for one, _ in requests)
    if found.get("completed") != ok and not (cut or unread):
        said = found.get("completed")
        raise ImportFileError(f"{where}: found {ok} requests without an error, expected the {said} completed")
    early = sum(one.outcome == "ok" and one.chunks > (one.output_tokens or 0) for one, _ in requests)
    level = rate or users or float(n)
    return Imported(
        tool=TOOL,
        version=None,
        name=str(found.get("label") or found.get("model_id") or TOOL),
        requests=requests,
        definitions=(
            *DEFINITIONS[:2],
            *([EARLY.format(n=early, ok=ok)] if early else []),
            *DEFINITIONS[2:],
            *([QUEUED] if queued else []),
            *([LOST] if cut else []),
            DATED if dated else NO_DATE,
        ),
        unknown=("ttfo", "itl_token", "dispatch_lag"),
        loop="open" if is_open else "closed",
        level=level,
        load={
            "users": None if is_open else level,
            "rate_per_s": level if is_open else None,
            "arrivals": _arrivals(found.get("burstiness")) if is_open else None,
            "max_concurrency": users,
        },
        workload={"requests": found.get("num_prompts"), "backend": found.get("backend")},
        target={"model": found.get("model_id")},
        unread=unread,
    )


def _up_to_the_cut(found: Mapping[str, Any], where: str) -> Mapping[str, Any]:
    """Return a result with the requests whose columns are there up to their start; of errors, the first."""
    if "start_times" not in found:
        text = "ends before `start_times`, expected all columns: no request in it is whole"
        raise ImportFileError(f"{where}: {text}")
    queued = maybe_level(found.get("request_rate")) and maybe_level(found.get("max_concurrency"))
    names = (*DETAIL, "latencies", *(("queue_times",) if queued else ()))
    there = [name for name in names if isinstance(found.get(name), list)]
    n = min(len(found[name]) for name in there if name != "errors")
    columns = {name: found[name][:n] for name in there}
    return {**found, **columns, "errors": [*columns.get("errors", []), *[""] * n][:n]}


def _columns(found: Mapping[str, Any], where: str) -> dict[str, list[Any]]:
    """Return the columns, all of one length."""
    names = [*DETAIL, *(["latencies"] if found.get("latencies") else [])]
    columns = {name: listed(found.get(name), f"{where}: {name}") for name in names}
    n = len(columns["ttfts"])
    queues = found.get("queue_times")
    if isinstance(queues, list) and len(queues) == len(columns["ttfts"]):
        columns["queue_times"] = queues
    for name, values in columns.items():
        if len(values) != n:
            raise ImportFileError(f"{where}: found {len(values)} {name} and {n} ttfts, expected as many")
    return columns


def _arrivals(burstiness: Any) -> str:
    return "poisson" if burstiness in (None, 1) else f"gamma, burstiness {burstiness}"


def _zero_ns(found: Mapping[str, Any], starts: list[Any], where: str) -> tuple[int, bool]:
    """Return what to add to the file's clock to get Unix time, and whether the file's date said so."""
    try:
        ended = datetime.strptime(str(found.get("date")), "%Y%m%d-%H%M%S").replace(tzinfo=UTC)
    except ValueError:
        return 0, False
    known, _ = each((("", start) for start in starts), lambda start: seconds(start, "start_times"))
    first = min(known, default=0.0)
    began = ended.timestamp() - seconds(found["duration"], f"{where}: duration")
    return max(0, round((began - first) * NS)), True


def _request(
    number: int, own: Mapping[str, Any], zero_ns: int, *, queued: bool
) -> tuple[RequestRecord, list[int]]:
    start = ns(own["start_times"], "start_times")
    wait = ns(own["queue_times"], "queue_times") if queued else 0
    due = zero_ns + start - wait
    gaps = [ns(gap, "itls") for gap in listed(own["itls"], "itls")]
    first = ns(own["ttfts"], "ttfts")
    last = first + sum(gaps)
    # A failed request's latency may be 0: the tool then never looked at the clock again.
    end = max(last, ns(own["latencies"], "latencies") if own.get("latencies") is not None else last)
    tokens = maybe_count(own["output_lens"], "output_lens")
    failed = bool(own["errors"]) or not tokens
    seen = first > 0 and (not failed or bool(gaps))
    made = record(
        number,
        TOOL,
        due_unix_ns=due,
        end_ns=wait + end,
        sent_ns=wait,
        first_ns=wait + first if seen else None,
        last_ns=wait + last if seen else None,
        prompt_tokens=maybe_count(own["input_lens"], "input_lens"),
        output_tokens=None if failed else tokens,
        gaps=gaps,
        outcome=outcome_of(one_line(own["errors"])) if failed else "ok",  # a traceback's code is no reason
        detail=one_line(own["errors"]) if failed else "",
    )
    return made, gaps


_PERCENTILE = re.compile(r"p(\d+(?:\.\d+)?)_(ttft|tpot|itl|e2el)_ms")
_OURS = {"ttft": "ttft", "tpot": "tpot", "itl": "itl", "e2el": "e2e"}


def percentiles(source: Source) -> Coarse:
    """Return what a file without --save-detailed says; raises ImportFileError.

    numpy's percentile lies between two ranks, so floor(q (n - 1)) + 1 values are at most it and
    n - ceil(q (n - 1)) at least. The gaps are not counted in the file: itl is left out.
    """
    where = str(source.path)
    if len(runs(source)) > 1:
        raise ImportFileError(f"{where}: found {len(runs(source))} results in one file, expected one")
    found = runs(source)[0]
    ok, failed = (
        maybe_count(found.get(name, 0), f"{where}: {name}") or 0 for name in ("completed", "failed")
    )
    if not ok + failed:
        raise ImportFileError(f"{where}: found no requests, expected at least one")
    worth = Worth.unknown("the file has no times, so how alike neighbouring requests are is not known")
    return Coarse(
        tool=TOOL,
        version=None,
        run=f"imported-{source.sha256[:12]}",
        name=str(found.get("label") or found.get("model_id") or TOOL),
        rows=tuple(_rows(found, ok, failed, where)),
        n=ok + failed,
        failed=failed,
        errors={},
        worth=worth,
        worth_failed=worth,
        mean_bounds_ms=None,
        window_ns=(0, ns(found["duration"], f"{where}: duration")),
        definitions=(*DEFINITIONS[:-1], NO_GAP_COUNT, NO_DATE),
        gates=(Gate("instrument", "not known: imported", "known", ok=False, severity="note"),),
        rounding="vllm bench prints",
    )


def _rows(found: Mapping[str, Any], ok: int, failed: int, where: str) -> Iterator[Row]:
    for theirs, metric in _OURS.items():
        shown = {
            float(match[1]): seconds(found[key], f"{where}: {key}")
            for key in found
            if (match := _PERCENTILE.fullmatch(key)) and match[2] == theirs
        }
        if f"median_{theirs}_ms" in found:
            shown.setdefault(50.0, seconds(found[f"median_{theirs}_ms"], f"{where}: median_{theirs}_ms"))
        if not ok or not shown or metric == "itl":
            continue
        points = tuple(
            Point(
                p,
                ms,
                ms * 1e6,
                ms * 1e6,
                math.floor(p / 100 * (ok - 1)) + 1,
                ok - math.ceil(p / 100 * (ok - 1)),
            )
            for p, ms in sorted(shown.items())
        )
        mean = found.get(f"mean_{theirs}_ms")
        yield Row(metric, TOOL, ok, failed, False, points, None if mean is None else float(mean))
