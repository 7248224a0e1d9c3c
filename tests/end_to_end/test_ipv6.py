"""An experiment in a network that has only IPv6, with workers of other hosts."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests import netns
from tests.end_to_end.locusts import ROOT, check_accounts, environment, result
from tests.netns import Host, network

EXPERIMENT = """
servers: [{{name: one, url: "{url}"}}]
blocks: 2
load: {{rate: 20, duration_s: 3, warmup_s: 0, workers: 2}}
workload: {{prompt_words: 10-20, max_tokens: 8-16}}
"""
QUICK = '{"ttft_ms": 20, "itl_ms": 5, "tokens": 12}'


def begin(host: Host, folder: Path, *arguments: str) -> "subprocess.Popen[bytes]":
    with (folder / host.name).open("wb") as said:
        return host.start(
            [sys.executable, "-m", *arguments],
            cwd=folder,
            env=environment(PYTHONPATH=str(ROOT)),
            stdout=subprocess.PIPE if host.name == "server" else said,
            stderr=said,
        )


@pytest.mark.slow
@pytest.mark.timeout(240)
@pytest.mark.parametrize("named", [True, False])
def test_workers_come_to_an_experiment_that_listens_everywhere(named: bool, tmp_path: Path) -> None:
    netns.require()
    with network("server", "master", "first", "second", subnet="fd00:198:18:0") as hosts:
        at = {name: name if named else f"[{host.address}]" for name, host in hosts.items()}
        server = begin(
            hosts["server"], tmp_path, "server.sim", "--host", "::", "--port", "80", "--script", QUICK
        )
        assert server.stdout
        assert json.loads(server.stdout.readline())["listening"] == "http://[::]:80"
        (tmp_path / "mine.yaml").write_text(EXPERIMENT.format(url=f"http://{at['server']}"))
        order = ("tokenswarm", "run", "mine.yaml", "--out", "out", "--listen", "[::]:5557")
        master = begin(hosts["master"], tmp_path, *order)
        workers = [
            begin(hosts[name], tmp_path, "tokenswarm", "worker", f"{at['master']}:5557", "--linger", "4")
            for name in ("first", "second")
        ]
        codes = [process.wait(120) for process in (master, *workers)]
        said = (tmp_path / "master").read_text() + (tmp_path / "first").read_text()
    assert codes[1:] == [0, 0], said
    for name in ("one-1", "one-2"):
        run = result(tmp_path / "out" / name)
        check_accounts(run)
        assert {record.worker.rpartition("-")[0] for record in run.records} == {"first", "second"}
        assert {record.outcome for record in run.records} == {"ok"}
