"""Workers that die under Locust's web page: the run that lost one says so, and the next one is its own."""

import os
import signal
from pathlib import Path

from tests.end_to_end.locusts import check_accounts
from tests.end_to_end.weblocust import Served, serving, until


def there(served: Served) -> int:
    return int(served.get("/llm/state.json").json["workers"]["there"])


def has_ended_some(served: Served) -> bool:
    run = served.get("/llm/data.json").json["run"]
    return run is not None and run["requests"] > 5


def test_a_worker_that_dies_spoils_its_own_run_alone(tmp_path: Path) -> None:
    with serving(tmp_path, workers=2) as served:
        served.start(users=10)
        until(lambda: has_ended_some(served))
        os.killpg(served.crew[0].process.pid, signal.SIGKILL)
        until(lambda: there(served) == 1)
        spoilt = served.stop()
        assert len(spoilt.meta["workers"]["lost"]) == 1

        form = {"user_count": "4", "spawn_rate": "4", "host": served.target}
        refused = served.post("/swarm", form).json
        assert refused["success"] is False
        assert refused["message"] == "waiting for workers: found 1 of the last run's 2"
        until(lambda: served.post("/swarm", form).json["success"])  # it does not come back
        served.locust.wait_until_it_says("Results go to", times=2)
        served.runs_begun = 2
        until(lambda: has_ended_some(served))
        run = served.stop()
        check_accounts(run)
        assert run.meta["workers"]["expected"] == len(run.meta["workers"]["seen"]) == 1
        assert run.meta["workers"]["lost"] == []
