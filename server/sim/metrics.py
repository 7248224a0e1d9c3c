"""What /metrics tells: vLLM 0.32's names, kept as plain integers so that a token costs next to nothing."""

from bisect import bisect_left
from collections.abc import Iterable

_TTFT_S = (
    0.001, 0.005, 0.01, 0.02, 0.04, 0.06, 0.08, 0.1, 0.25, 0.5, 0.75, 1.0, 2.5, 5.0, 7.5, 10.0, 20.0, 40.0,
    80.0, 160.0, 640.0, 2560.0,
)  # fmt: skip
_ITL_S = (
    0.01, 0.025, 0.05, 0.075, 0.1, 0.15, 0.2, 0.3, 0.4, 0.5, 0.75, 1.0, 2.5, 5.0, 7.5, 10.0, 20.0, 40.0, 80.0,
)  # fmt: skip
_REQUEST_S = (
    0.3, 0.5, 0.8, 1.0, 1.5, 2.0, 2.5, 5.0, 10.0, 15.0, 20.0, 30.0, 40.0, 50.0, 60.0, 120.0, 240.0, 480.0,
    960.0, 1920.0, 7680.0,
)  # fmt: skip
FINISHED_REASONS = ("stop", "length", "abort")


class Histogram:
    """Counts per bucket; a value on a bound belongs below it, as in Prometheus."""

    __slots__ = ("_bounds_ns", "bounds_s", "counts", "sum_ns")

    def __init__(self, bounds_s: tuple[float, ...]) -> None:
        """`bounds_s`: upper bounds in seconds, without the last, infinite one."""
        self.bounds_s = bounds_s
        self._bounds_ns = [round(bound * 1e9) for bound in bounds_s]
        self.counts = [0] * (len(bounds_s) + 1)
        self.sum_ns = 0

    def observe(self, value_ns: int, count: int = 1) -> None:
        """Count a value, `count` times."""
        self.counts[bisect_left(self._bounds_ns, value_ns)] += count
        self.sum_ns += value_ns * count

    def lines(self, name: str, labels: str) -> Iterable[str]:
        """Return the series in Prometheus' text format."""
        total = 0
        for bound, count in zip((*self.bounds_s, "+Inf"), self.counts, strict=True):
            total += count
            yield f'{name}_bucket{{{labels},le="{bound}"}} {total}'
        yield f"{name}_count{{{labels}}} {total}"
        yield f"{name}_sum{{{labels}}} {self.sum_ns / 1e9!r}"


class Stats:
    """Everything counted since the server started, in both modes."""

    def __init__(self) -> None:
        """Start at zero."""
        self.prompt_tokens = 0
        self.generation_tokens = 0
        self.finished = dict.fromkeys(FINISHED_REASONS, 0)
        self.scripted_running = 0  # the engine knows its own
        self.ttft = Histogram(_TTFT_S)
        self.itl = Histogram(_ITL_S)
        self.e2e = Histogram(_REQUEST_S)
        self.queue = Histogram(_REQUEST_S)
        self.prefill = Histogram(_REQUEST_S)
        self.decode = Histogram(_REQUEST_S)

    def end(  # noqa: PLR0913 - the times of one request, as vLLM observes them together at its end
        self,
        reason: str,
        *,
        arrival_ns: int,
        scheduled_ns: int | None,
        first_ns: int | None,
        last_ns: int | None,
        end_ns: int,
    ) -> None:
        """Count a request that is over; a time that never came leaves its interval out."""
        self.finished[reason] += 1
        self.e2e.observe(end_ns - arrival_ns)
        if scheduled_ns is not None:
            self.queue.observe(scheduled_ns - arrival_ns)
        if first_ns is not None and scheduled_ns is not None:
            self.prefill.observe(first_ns - scheduled_ns)
        if first_ns is not None and last_ns is not None:
            self.decode.observe(last_ns - first_ns)

    def render(self, model: str, gauges: dict[str, float], counters: dict[str, int]) -> str:
        """Return the text of /metrics; `gauges` and `counters` are the engine's, by bare name."""
        escaped = model.replace("\\", r"\\").replace('"', r"\"").replace("\n", r"\n")
        labels = f'engine="0",model_name="{escaped}"'
        lines = []
        for name, gauge in gauges.items():
            lines += [*_head(name, "gauge"), f"vllm:{name}{{{labels}}} {gauge!r}"]
        own = {"prompt_tokens": self.prompt_tokens, "generation_tokens": self.generation_tokens}
        for name, value in (own | counters).items():
            lines += [*_head(f"{name}_total", "counter"), f"vllm:{name}_total{{{labels}}} {value}"]
        lines += _head("request_success_total", "counter")
        for reason, value in self.finished.items():
            series = f'{labels},finished_reason="{reason}"'
            lines.append(f"vllm:request_success_total{{{series}}} {value}")
        for name, histogram in self._histograms().items():
            lines += _head(name, "histogram")
            lines += histogram.lines(f"vllm:{name}", labels)
        return "\n".join(lines) + "\n"

    def _histograms(self) -> dict[str, Histogram]:
        return {
            "time_to_first_token_seconds": self.ttft,
            "inter_token_latency_seconds": self.itl,
            "e2e_request_latency_seconds": self.e2e,
            "request_queue_time_seconds": self.queue,
            "request_prefill_time_seconds": self.prefill,
            "request_decode_time_seconds": self.decode,
        }


def _head(name: str, kind: str) -> list[str]:
    return [f"# HELP vllm:{name} As in vLLM, simulated.", f"# TYPE vllm:{name} {kind}"]
