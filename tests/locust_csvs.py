"""Locust's CSVs as its own code writes them, from given requests: what tests of that importer read.

A program, since importing Locust changes the standard library: locust_csvs.py PREFIX [full] < JSON.
The JSON is a list of [second, type, name, response time in ms, error or nothing]. Locust's statistics and its
writer do the rest, once a second; only the clock is ours.
"""

import json
import subprocess
import sys
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import Any
from unittest import mock

START_S = 1_790_000_000
Requests = Sequence[tuple[int, str, str, float, str]]


def write_csvs(folder: Path, requests: Requests, prefix: str = "run", *, full: bool = False) -> Path:
    """Write the four CSVs of a run into a folder."""
    folder.mkdir(parents=True, exist_ok=True)
    command = [sys.executable, __file__, str(folder / prefix), *(["full"] if full else [])]
    subprocess.run(command, input=json.dumps(requests), text=True, check=True)
    return folder


def main(prefix: str, requests: list[Any], *, full: bool) -> None:
    from locust import stats  # noqa: PLC0415 - as the docstring says
    from locust.env import Environment  # noqa: PLC0415

    environment = Environment()
    writer = stats.StatsCSVFileWriter(environment, stats.PERCENTILES_TO_REPORT, prefix, full)
    writer.requests_csv_writer.writerow(writer.requests_csv_columns)
    writer.stats_history_csv_writer.writerow(writer.stats_history_csv_columns)
    writer.failures_csv_writer.writerow(writer.failures_columns)
    with mock.patch.object(stats.time, "time") as clock:
        clock.return_value = START_S
        environment.stats.reset_all()
        by_second = defaultdict(list)
        for second, *request in requests:
            by_second[second].append(request)
        for second in range(max(by_second) + 1):
            clock.return_value = START_S + second + 0.5
            for kind, name, value, error in by_second[second]:
                environment.stats.log_request(kind, name, value, 0)
                if error:
                    environment.stats.log_error(kind, name, error)
            writer._stats_history_data_rows(writer.stats_history_csv_writer, clock.return_value)
    writer._requests_data_rows(writer.requests_csv_writer)
    writer._failures_data_rows(writer.failures_csv_writer)
    writer.close_files()


if __name__ == "__main__":
    main(sys.argv[1], json.load(sys.stdin), full="full" in sys.argv[2:])
