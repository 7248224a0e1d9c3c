"""A short profile: the same experiment with its runs cut short, so that all of them fit into a time.

Less data never makes an undecided objective PASS: bounds grow wider, and what they do not decide is
INCONCLUSIVE. A short profile can show what is plainly good or plainly bad, and says so where it cannot.
"""

import math

from tokenswarm import EXIT_USAGE, TokenswarmError
from tokenswarm.experiment import Experiment, schedule

OVERHEAD_S = 5
"""What a run takes beside its warm-up and its window: its start, its last streams, its verdict."""

SHORTEST_S = 12
"""Gaps are judged by whole seconds, of which ten must be there."""


def cut(plan: Experiment, minutes: float) -> str:
    """Shorten a plan's runs where they would take longer; return what was done, in words.

    What servers need to start is not counted: it is not known before. Raises TokenswarmError where the time
    is too short for runs that could be judged.
    """
    runs = len(list(schedule(plan)))
    load = plan.load
    room_s = math.floor(minutes * 60 / runs - load.warmup_s - OVERHEAD_S)
    if room_s >= load.duration_s:
        return ""
    if room_s < SHORTEST_S:
        needed = math.ceil((SHORTEST_S + load.warmup_s + OVERHEAD_S) * runs / 60)
        found = f"{minutes:g} minutes leave {max(room_s, 0)} s for each of {runs} runs"
        raise TokenswarmError(f"--budget-minutes: {found}, expected at least {needed} minutes", EXIT_USAGE)
    before, load.duration_s = load.duration_s, room_s
    return f"cut to {room_s} s a run from {before:g}: what this cannot decide will be INCONCLUSIVE"
