"""The estimate of the time left: loads as planned, starts and gaps as they were so far."""

import pytest

from tokenswarm.experiment import Run, Server
from tokenswarm.pace import Pace, spoken, starts
from tokenswarm.tables import Progress


class Clock:
    """A clock that is set by hand."""

    now_s = 0.0

    def __call__(self) -> float:
        return self.now_s


def test_what_was_measured_replaces_what_was_supposed() -> None:
    clock, shown = Clock(), list[Progress]()
    pace = Pace(shown.append, clock)
    pace.expect("run 1 of 3", [30, 30, 30], 2)
    assert pace.left_s(0) is None, "nobody knows yet how long a start takes"
    with pace.start():
        clock.now_s += 60
    assert pace.left_s(0) == 90 + 3 * 6 + 60
    with pace.run(30):
        clock.now_s += 34
    pace.expect("run 2 of 3", [30, 30], 1)
    assert pace.left_s(10) == 60 + 2 * 4 + 60 - 10
    pace(Progress("a", 10, 30, {}))
    assert shown[-1].ahead == "run 2 of 3, about 2 min left"


def test_a_run_that_breaks_off_does_not_count() -> None:
    clock = Clock()
    pace = Pace(lambda _: None, clock)
    pace.expect("run 1 of 1", [30], 0)
    with pytest.raises(KeyError), pace.run(30):
        clock.now_s += {}["broke off"]
    assert pace.left_s(0) == 36


def test_servers_start_once_for_runs_that_share_it() -> None:
    mine, theirs = Server(name="a", sim="awq"), Server(name="b", url="http://h")
    runs = [Run(mine, level, block, "", start=block) for level in (1, 2) for block in (1, 2)]
    assert starts([*runs, Run(theirs, 1, 1, "")]) == 2


@pytest.mark.parametrize(
    ("seconds", "words"), [(8, "8 s"), (89, "89 s"), (91, "2 min"), (5400, "1 h 30 min")]
)
def test_spoken(seconds: float, words: str) -> None:
    assert spoken(seconds) == words
