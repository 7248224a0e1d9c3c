"""What Prometheus may ask of a run, on the master: /llm/metrics, and --metrics-port where there is no page.

Counters and histograms only grow while this process lives, over all its runs; gauges speak of the run that
is on, and are 0 between two. Buckets end at the edges of our own histogram's bins, so their counts are exact,
and at the limits that the run is judged by.
"""

import logging
import os
from collections.abc import Callable, Iterable, Iterator
from typing import Any, NamedTuple

import gevent
from flask import Response, request
from gevent.pywsgi import WSGIServer
from prometheus_client import CollectorRegistry, make_wsgi_app
from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    InfoMetricFamily,
    Metric,
)
from prometheus_client.exposition import choose_encoder

from analysis.histogram import Histogram
from analysis.record import OUTCOMES
from locustfiles._live_table import Limit
from locustfiles._totals import Pair, Pairs, Totals, edges_ns, up_to

EXIT_USAGE = 2
STALE_S = 5  # a tick older than the newest by more says nothing of now

log = logging.getLogger("tokenswarm")

Limits = Callable[[], Iterable[Limit]]
"""The latency limits of the run that is on."""


class _Shown(NamedTuple):
    name: str
    text: str
    edges: list[int]  # ns


_HISTOGRAMS = {
    "ttft": _Shown(
        "tokenswarm_time_to_first_token_seconds",
        "From the moment a request was due to its first token-bearing chunk.",
        edges_ns(20, 37, 4),
    ),
    "itl": _Shown(
        "tokenswarm_inter_token_latency_seconds",
        "Gaps between consecutive token-bearing chunks of one choice, of requests that have ended.",
        edges_ns(18, 34, 4),
    ),
    "e2e": _Shown(
        "tokenswarm_e2e_request_latency_seconds",
        "From the moment a request was due to its end; ok requests only.",
        edges_ns(23, 40, 4),
    ),
    "dispatch_lag": _Shown(
        "tokenswarm_dispatch_lag_seconds",
        "From the moment a request was due to its last byte's leaving: the load generator's own delay.",
        edges_ns(14, 31, 2),
    ),
    "lag": _Shown(
        "tokenswarm_read_lag_seconds",
        "From a chunk's arrival in the kernel to our read: the load generator's own delay.",
        edges_ns(14, 31, 2),
    ),
}

_COUNTS = {
    "started": ("requests_started", "Requests started by the workers."),
    "chunks": ("chunks", "Token-bearing chunks that arrived, those of running streams included."),
    "coalesced": ("coalesced_chunks", "Chunks of ended requests that shared their read with an earlier one."),
    "gaps": ("gaps", "Gaps of ended requests as the workers count them."),
    "reports": ("reports", "Workers' reports that were merged."),
    "duplicates": ("duplicate_reports", "Workers' reports that came again and were left out."),
    "foreign": ("foreign_reports", "Workers' reports of another run, left out."),
    "clock_jumps": ("clock_jumps", "Ended requests during which the wall clock was set by more than 1 ms."),
}


class Metrics:
    """The numbers of all runs of this process, as Prometheus' collectors give them."""

    def __init__(self, environment: Any, coordinator: Any, limits: Limits = tuple) -> None:
        """Begin with no run; `coordinator` is the process's own, whose `run` is the one that is on."""
        self._coordinator = coordinator
        self._limits = limits
        self._pairs = Pairs()
        self._ended = Totals()
        self._run: Any = None
        # After the coordinator's own listener, which has set up the new run by then.
        environment.events.test_start.add_listener(self._begin)

    def _begin(self, **_: Any) -> None:
        """Keep what the last run has counted: nothing is added to it once another has begun."""
        kept = Totals()  # a new one: somebody may be reading the other
        kept.absorb(self._ended)
        kept.absorb(self._now())
        self._ended = kept
        self._run = self._coordinator.run

    def _now(self) -> Totals:
        run = self._run
        return Totals.of(run.merge, run.target.model, self._pairs) if run else Totals()

    def collect(self) -> Iterator[Metric]:
        """Yield every family of metrics."""
        now = self._now()
        both = (self._ended, now)
        limits = tuple(self._limits())
        for metric, shown in _HISTOGRAMS.items():
            edges = sorted({*shown.edges, *(limit.limit_ns for limit in limits if limit.metric == metric)})
            yield _histogram(shown, edges, metric, both)
            gevent.sleep(0)  # a few milliseconds each: streams may be waiting to be read
        yield _outcomes(both)
        for name, text, counted in (
            ("prompt_tokens", "Tokens of prompts, as the server's usage says.", "prompt_tokens"),
            ("output_tokens", "Tokens generated, as the server's usage says.", "output_tokens"),
        ):
            family = CounterMetricFamily(f"tokenswarm_{name}", text, labels=Pair._fields)
            for pair in sorted({pair for totals in both for pair in getattr(totals, counted)}):
                family.add_metric(pair, sum(getattr(totals, counted)[pair] for totals in both))
            yield family
        for name, (shown_as, text) in _COUNTS.items():
            yield CounterMetricFamily(
                f"tokenswarm_{shown_as}", text, sum(totals.counts[name] for totals in both)
            )
        yield from _gauges(self._coordinator.run)


def _histogram(
    shown: _Shown, edges: list[int], metric: str, both: tuple[Totals, ...]
) -> HistogramMetricFamily:
    family = HistogramMetricFamily(shown.name, shown.text, labels=Pair._fields)
    for pair in sorted({pair for totals in both for kind, pair in totals.histograms if kind == metric}):
        parts = [totals.histograms.get((metric, pair), Histogram()) for totals in both]
        counts = zip(edges, up_to(edges, parts), strict=True)
        buckets = [(seconds(edge), count) for edge, count in counts]
        family.add_metric(
            pair,
            [*buckets, ("+Inf", sum(part.count for part in parts))],
            sum(part.sum for part in parts) / 1e9,
        )
    return family


def _outcomes(both: tuple[Totals, ...]) -> CounterMetricFamily:
    family = CounterMetricFamily(
        "tokenswarm_requests", "Requests that have ended, by how.", labels=(*Pair._fields, "outcome")
    )
    for pair in sorted({pair for totals in both for pair, _ in totals.outcomes}):
        for outcome in OUTCOMES:  # those at 0, too: a rate needs a first value to grow from
            family.add_metric((*pair, outcome), sum(totals.outcomes[pair, outcome] for totals in both))
    return family


def seconds(time_ns: int) -> str:
    """Return nanoseconds as the exact decimal number of seconds that `le` holds."""
    whole, rest = divmod(time_ns, 1_000_000_000)
    return f"{whole}.{rest:09d}".rstrip("0") if rest else f"{whole}.0"


def _gauges(run: Any) -> Iterator[Metric]:
    """Yield what is true now; without a run nothing is."""
    ticks, expected, reporting, missing = _state(run) if run else ([], 0, 0, 0)
    for name, text, value in (
        ("requests_in_flight", "Requests that were sent and have not ended.", sum(tick[0] for tick in ticks)),
        ("workers_expected", "Workers that the run began with, or that joined it.", expected),
        ("workers_reporting", "Those of them that report, and have not been missed since.", reporting),
        ("missing_reports", "Reports of workers that never came although a later one did.", missing),
        (
            "read_lag_max_seconds",
            "The longest read lag of any worker in its last second.",
            max((tick[2] for tick in ticks), default=0) / 1e9,
        ),
        (
            "worker_cpu_utilization_ratio",
            "Share of one core that the busiest worker used in its last second.",
            max((tick[3] for tick in ticks), default=0) / 1000,
        ),
    ):
        yield GaugeMetricFamily(f"tokenswarm_{name}", text, value)
    info = InfoMetricFamily("tokenswarm_run", "The run that is on.")
    if run:
        target, pair = run.target, Pairs().place(run.settings.scenario, run.target.model)
        info.add_metric(
            (),
            {
                "run": run.merge.run,
                "scenario": pair.scenario,
                "model": pair.model,
                "loop": run.loop,
                "simulated": "true" if target.simulated else "false",
            },
        )
        yield GaugeMetricFamily(
            "tokenswarm_run_start_time_seconds", "When the run began, Unix time.", run.started_unix_ns / 1e9
        )
    yield info


def _state(run: Any) -> tuple[list[list[int]], int, int, int]:
    """Return the workers' last ticks, how many are expected and how many report, and the reports missed."""
    accounts = run.merge.workers
    newest_s = max((account.last_s for account in accounts.values()), default=0)
    ticks = [
        account.latest
        for account in accounts.values()
        if account.latest and account.last_s >= newest_s - STALE_S
    ]
    heard = [client for client in run.expected if client in run.heard_of]
    reporting = [client for client in heard if client not in run.missing and client not in run.left]
    missing = sum(account.missing_reports for account in accounts.values())
    if not run.expected:  # no master: this process is the one worker
        return ticks, 1, min(1, len(accounts)), missing
    return ticks, len(run.expected), len(reporting), missing


def open_metrics(environment: Any, coordinator: Any, limits: Limits = tuple) -> Metrics:
    """Begin to count, and listen on --metrics-port where named; ends the process where that is taken."""
    metrics = Metrics(environment, coordinator, limits)
    options = environment.parsed_options
    if options.metrics_port:
        registry = CollectorRegistry()
        registry.register(metrics)
        host = "" if options.web_host == "*" else options.web_host
        app = make_wsgi_app(registry, disable_compression=True)
        server = WSGIServer((host, options.metrics_port), app, log=None, error_log=log)
        where = f"{host or '*'}:{options.metrics_port}"
        try:
            server.start()
        except OSError as error:
            log.error("--metrics-port: cannot listen on %s (%s)", where, os.strerror(error.errno or 0))
            raise SystemExit(EXIT_USAGE) from None
        log.info("Prometheus is answered at http://%s/metrics, without a login", where)
    return metrics


def add_metrics(door: Any, metrics: Metrics) -> None:
    """Serve the same beside our pages, behind the same login."""

    def metrics_page() -> Response:
        encode, content_type = choose_encoder(request.headers.get("Accept", ""))
        return Response(encode(metrics), content_type=content_type)

    door.route("/metrics")(metrics_page)
