"""How often a run's own bounds hold what many equal runs say together, on real processes and sockets.

    python tests/bench/bench_coverage.py [runs] [seconds] [side by side] [directory]

The built-in simulator under `locustfiles/arrivals.py`, runs that differ in nothing but their seed. Each is a
Locust of its own and not a window of one long run: a run is what gets bounds, and windows would share their
start and the requests in flight at their edges. The truth is the percentile of all runs together, its error
that of a run divided by the root of their number. Runs that their gates call INVALID do not count; what all
would say with them is printed beside. Then runs are compared with each other, as two servers that do not
differ. A directory keeps the runs, and what it has already is not measured again.
"""

import sys
import tempfile
from collections import Counter
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))
from scipy.stats import binomtest

from analysis.effects import BETTER, MARGIN, WORSE, Sides, Terms, effects_of
from analysis.evidence import Evidence
from analysis.histogram import Histogram, bin_low
from analysis.objective import ObjectiveResult
from analysis.pooling import pooled
from analysis.reading import Reading, percentile_of
from analysis.rundir import Run, load
from analysis.samples import rank_quantile
from analysis.sla import Sla, default, parse_objective
from analysis.verdict import INVALID, judge
from tests.end_to_end.locusts import ROOT, command, started
from tests.sim_server import running_sim

RATE, WARMUP_S = 30, 2
WORK = ("--max-tokens", "8")  # prompts as they are by default: each delays everybody's step
PERCENTILES = ("ttft p95", "itl p99", "e2e p95")
MEANS = ("ttft mean", "e2e mean")
TOGETHER, PAIRS, DRAWS = 5, 5, 1000


class Truth(NamedTuple):
    """An objective whose limit is what all runs say together, and what its bounds should hold."""

    objective: str
    value: float  # the share at or beyond the limit, or the mean (ms)


def main(runs: int, seconds: int, side_by_side: int, folder: Path) -> None:
    with ThreadPoolExecutor(side_by_side) as pool:
        lanes = [range(lane, runs, side_by_side) for lane in range(side_by_side)]
        for done in [pool.submit(measure, lane, seconds, folder) for lane in lanes]:
            done.result()
    measured = [load(path.parent) for path in sorted(folder.glob("*/run.json"))]
    print(f"{len(measured)} runs of {seconds} s, {RATE} arrivals/s, {side_by_side} side by side")
    believed = [run for run in measured if judge(run, default()).status != INVALID]
    show("runs that are believed", believed)
    if len(believed) < len(measured):
        show("all runs, INVALID ones too, whose instrument was late", measured)


def show(what: str, runs: Sequence[Run]) -> None:
    print(f"{what}: {len(runs)}")
    if len(runs) < 2 * PAIRS:
        return
    evidences = [Evidence(run) for run in runs]
    truths = [*(percentile(evidences, name) for name in PERCENTILES), *(mean(evidences, n) for n in MEANS)]
    show_coverage(runs, truths)
    show_comparisons(runs, evidences)


def measure(numbers: Sequence[int], seconds: int, folder: Path) -> None:
    """Make these runs one after another on a simulator that stays up."""
    left = [number for number in numbers if not (folder / f"{number:03}" / "run.json").exists()]
    if not left:
        return
    with running_sim("--profile", "baseline", "--seed", str(left[0])) as sim:
        for number in left:
            options = ["-u", str(RATE), "-r", str(RATE), "-t", f"{seconds}s", "--warmup", str(WARMUP_S)]
            options += ["--seed", str(number + 1), "--run-dir", str(folder / f"{number:03}"), *WORK]
            line = command("arrivals", f"http://127.0.0.1:{sim.port}", *options)
            with started(line, folder / f"{number:03}.log", PYTHONPATH=str(ROOT)) as locust:
                if locust.wait(seconds + 60):
                    sys.exit(f"run {number}: {locust.said.strip().splitlines()[-1]}")


def percentile(evidences: Sequence[Evidence], name: str) -> Truth:
    metric, _, percent = name.partition(" p")
    q = float(percent) / 100
    if metric == "itl":
        gaps = [evidence.gaps(metric) for evidence in evidences]
        every = Histogram()
        for one in gaps:
            every.merge(one.pooled)
        limit = bin_low(every.quantile(q))  # no gap is undecided at a bin's lower edge
        beyond = every.count_at_or_above(limit)[0] + sum(one.failed for one in gaps)
        share = beyond / sum(one.n for one in gaps)
    else:
        values = np.concatenate([evidence.sample(metric).worst() for evidence in evidences])
        limit = int(rank_quantile(values, q))
        share = float((values >= limit).mean())
    return Truth(f"{name} < {limit / 1e6:.6f} ms", share)


def mean(evidences: Sequence[Evidence], name: str) -> Truth:
    values = np.concatenate([evidence.sample(name.split(maxsplit=1)[0]).of_ok() for evidence in evidences])
    return Truth(f"{name} < {values.mean() / 1e6:.6f} ms", float(values.mean()) / 1e6)


def show_coverage(runs: Sequence[Run], truths: Sequence[Truth]) -> None:
    sla = Sla("the truth", tuple(parse_objective(truth.objective) for truth in truths))
    verdicts = [judge(run, sla) for run in runs]
    print(f"  verdicts where the limit is the truth: {dict(Counter(one.status for one in verdicts))}")
    for number, truth in enumerate(truths):
        alone = [one.objectives[number] for one in verdicts]
        upper, lower, given = held(truth, alone)
        worth = float(np.median([one.n_eff or 0.0 for one in alone]))
        print(f"  {truth.objective}: given {given} of {len(alone)}, median worth {worth:,.0f}")
        if given:
            print(f"    upper bound holds in {counted(round(upper * given), given)}")
            print(f"    lower bound holds in {counted(round(lower * given), given)}")
        rng = np.random.default_rng(number)
        drawn = [rng.choice(len(alone), TOGETHER, replace=False) for _ in range(DRAWS)]
        upper, lower, _ = held(truth, [pooled([alone[i] for i in group])[0] for group in drawn])
        print(f"    {TOGETHER} of them together, drawn again and again: upper {upper:.1%} lower {lower:.1%}")


def held(truth: Truth, found: Sequence[ObjectiveResult]) -> tuple[float, float, int]:
    """Return the shares of upper and of lower bounds that hold, and how many were given."""
    bounds = [(one.bound_low, one.bound_high) for one in found]
    given = [(low, high) for low, high in bounds if low is not None and high is not None]
    count = max(1, len(given))
    upper = sum(high >= truth.value for _, high in given) / count
    return upper, sum(low <= truth.value for low, _ in given) / count, len(given)


def counted(hits: int, of: int) -> str:
    """Write a share with its exact two-sided 95 % interval."""
    low, high = binomtest(hits, of).proportion_ci()
    return f"{hits} of {of} = {hits / of:.1%} ({low:.1%} to {high:.1%})"


def show_comparisons(runs: Sequence[Run], evidences: Sequence[Evidence]) -> None:
    """Compare runs as if they were two servers', and count what is called better or worse."""
    readings = [reading(str(run.path), one) for run, one in zip(runs, evidences, strict=True)]
    apart = [readings[at : at + 2 * PAIRS] for at in range(0, len(readings) - 2 * PAIRS + 1, 2 * PAIRS)]
    rng = np.random.default_rng(1)
    drawn = [[readings[i] for i in rng.permutation(len(readings))[: 2 * PAIRS]] for _ in range(DRAWS)]
    print(f"A/A comparisons of {PAIRS} pairs, {len(PERCENTILES)} limited metrics by Holm (5 % may differ):")
    print(f"  of neighbours in time: called in {counted(sum(map(differ, apart)), len(apart))}")
    print(f"  of pairs drawn from all, again and again: called in {np.mean([*map(differ, drawn)]):.1%}")


def reading(run: str, evidence: Evidence) -> Reading:
    values = {name: percentile_of([evidence], name) for name in PERCENTILES}
    n, failed = len(evidence.frame), int(evidence.failed.sum())
    return Reading("either", RATE, 1, run, "PASS", "", values, {}, n, failed, n)


def differ(readings: Sequence[Reading]) -> bool:
    """Say whether runs that alternate between two sides are said to differ."""
    sides = Sides(readings[0::2], readings[1::2], paired=True)
    effects = effects_of(sides, Terms(dict.fromkeys(PERCENTILES, 100.0), None, MARGIN))
    return any(effect.outcome in (BETTER, WORSE) for effect in effects)


if __name__ == "__main__":
    given = [int(word) for word in sys.argv[1:4]]
    settings = *given, *(60, 24, 3)[len(given) :]
    if len(sys.argv) > 4:
        Path(sys.argv[4]).mkdir(parents=True, exist_ok=True)
        main(*settings, Path(sys.argv[4]).resolve())
    else:
        with tempfile.TemporaryDirectory() as name:
            main(*settings, Path(name))
