"""Results of objectives as a run's verdict holds them, from a few figures."""

from typing import Any

from analysis.objective import INCONCLUSIVE, ObjectiveResult


def counted(text: str = "ttft p95 < 100 ms", **figures: Any) -> ObjectiveResult:
    """Return a result that counts bad events; `bounds` are given where the run alone would have them."""
    low, high = figures.pop("bounds", (None, None))
    known: dict[str, Any] = {
        "metric": "ttft",
        "statistic": "p95",
        "status": INCONCLUSIVE,
        "reason": "",
        "unit": "ms",
        "observed": 90.0,
        "observed_ok_only": 90.0,
        "limit": 100.0,
        "margin": 0.9,
        "undecided": 0,
        "n_eff": figures.get("n"),
        "n_eff_low": None if figures.get("bad") is None else figures.get("n_eff", figures.get("n")),
        "allowed": 0.05,
        "resolution": 0.01,
    }
    return ObjectiveResult(text=text, **{**known, **figures}, bound_low=low, bound_high=high)


def averaged(mean: float, **figures: Any) -> ObjectiveResult:
    """Return a result that is a mean (ms)."""
    known = {"n": 1000, "bad": None, "statistic": "mean", "observed": mean, "observed_ok_only": mean}
    return counted("ttft mean < 100 ms", **{**known, "allowed": 100.0, **figures})
