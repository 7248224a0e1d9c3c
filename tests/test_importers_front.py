"""From another tool's file to a verdict, a comparison and a report, through the front door."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result
from pypdf import PdfReader

from tokenswarm import TokenswarmError
from tokenswarm.cli import cli

GOLDEN = Path(__file__).parent / "golden" / "importers"
DETAILED = GOLDEN / "vllm-0.32-detailed.json"
LOCUST = GOLDEN / "locust-2.47"
SLA = """\
name: mine
objectives:
  - ttft p50 < 1 s
  - error_rate < 90 %
"""


def call(*words: Any) -> Result:
    return CliRunner().invoke(cli, [str(word) for word in words])


def refused(*words: Any) -> str:
    found = call(*words)
    assert isinstance(found.exception, TokenswarmError), found.output
    assert found.exception.exit_code == 2
    assert "\n" not in str(found.exception)
    return str(found.exception)


@pytest.fixture
def sla(tmp_path: Path) -> Path:
    (tmp_path / "sla.yaml").write_text(SLA)
    return tmp_path / "sla.yaml"


def slower(path: Path, factor: float, to: Path) -> Path:
    found = json.loads(path.read_text())
    found["ttfts"] = [value * factor for value in found["ttfts"]]
    found["latencies"] = [value * factor for value in found["latencies"]]
    to.write_text(json.dumps(found))
    return to


def test_import_verdict_report(tmp_path: Path, sla: Path) -> None:
    out = tmp_path / "run"
    assert call("import", DETAILED, "--out", out).output.strip() == str(out)
    found = call("verdict", out, "--sla", sla, "--json")
    verdict = json.loads(found.stdout)
    assert verdict["imported"]["tool"] == "vllm bench"
    assert found.exit_code == verdict["exit_code"]
    assert json.loads((out / "verdict.json").read_text())["status"] == verdict["status"]
    assert "(IMPORTED)" in call("verdict", out, "--sla", sla).output
    assert call("report", out, "--sla", sla).exit_code == 0
    text = PdfReader(out / "report.pdf").pages[0].extract_text()
    assert "IMPORTED from vllm bench" in text
    assert "Latency runs from the send" in text
    assert "already holds a run" in refused("import", DETAILED, "--out", out)


@pytest.mark.usefixtures("no_html")
@pytest.mark.parametrize("name", ["genai-bench-0.0.5.json", "vegeta-12.jsonl"])
def test_a_report_of_what_has_no_times_or_no_tokens(name: str, tmp_path: Path) -> None:
    out = tmp_path / "run"
    assert call("import", GOLDEN / name, "--out", out).exit_code == 0
    assert call("report", out).exit_code == 0
    assert "IMPORTED" in PdfReader(out / "report.pdf").pages[0].extract_text()


@pytest.mark.usefixtures("no_run_pages", "no_html")
def test_two_imports_are_compared(tmp_path: Path, sla: Path) -> None:
    out = tmp_path / "experiment"
    for server, factor in (("bf16", 1.0), ("awq", 2.0)):
        file = slower(DETAILED, factor, tmp_path / f"{server}.json")
        assert call("import", file, "--out", out, "--server", server).exit_code == 0
    runs = json.loads((out / "plan.json").read_text())
    assert runs["servers"] == ["bf16", "awq"]
    level = json.loads(DETAILED.read_text())["request_rate"]
    assert runs["runs"] == [f"bf16-{level:g}-1", f"awq-{level:g}-1"]
    assert "not compared" not in call("verdict", out, "--sla", sla).output
    (effect,) = [
        effect
        for contrast in json.loads((out / "comparison.json").read_text())["contrasts"]
        for effect in contrast["effects"]
        if effect["metric"] == "ttft p50"
    ]
    assert effect["ratio"] == pytest.approx(2)
    file = slower(DETAILED, 2.1, tmp_path / "again.json")
    assert call("import", file, "--out", out, "--server", "awq").output.strip() == str(
        out / f"awq-{level:g}-2"
    )
    assert (out / "report.pdf").exists()


@pytest.mark.usefixtures("no_pages")
def test_imports_of_two_tools_are_no_pair(tmp_path: Path) -> None:
    out = tmp_path / "experiment"
    for server, name in (("bf16", "vllm-0.32-detailed.json"), ("awq", "vegeta-12.jsonl")):
        assert call("import", GOLDEN / name, "--out", out, "--server", server, "--level", 5).exit_code == 0
    found = call("verdict", out)
    assert "not compared" in found.output
    assert "load.tool" in found.output


def test_what_the_file_does_not_say_is_asked_for(tmp_path: Path) -> None:
    out = tmp_path / "run"
    assert "give --loop open or closed" in refused("import", GOLDEN / "k6.jsonl", "--out", out)
    assert "expected open as the file says" in refused(
        "import", GOLDEN / "vegeta-12.jsonl", "--out", out, "--loop", "closed"
    )
    assert "give --level" in refused("import", GOLDEN / "vegeta-12.jsonl", "--out", out, "--server", "a")
    assert call("import", DETAILED, "--out", out, "--level", 5).exit_code == 2
    assert not out.exists()


def test_percentiles_alone_are_judged_as_far_as_they_reach(tmp_path: Path, sla: Path) -> None:
    plain = Path(shutil.copyfile(GOLDEN / "vllm-0.32-plain.json", tmp_path / "plain.json"))
    assert "--save-detailed" in refused("import", plain, "--out", tmp_path / "run")
    found = call("verdict", plain, "--sla", sla, "--json")
    verdict = json.loads(found.stdout)
    assert verdict["status"] == "INCONCLUSIVE"
    assert "has no times" in verdict["objectives"][0]["reason"]
    assert verdict["objectives"][0]["observed"] == json.loads(plain.read_text())["median_ttft_ms"]
    assert (tmp_path / "plain_verdict.json").exists()
    (tmp_path / "hard.yaml").write_text("name: hard\nobjectives: [ttft p95 < 1 us]\n")
    assert (
        json.loads(call("verdict", plain, "--sla", tmp_path / "hard.yaml", "--json").stdout)["status"]
        == "FAIL"
    )
    assert "tokenswarm import" in refused("verdict", DETAILED)


def test_a_folder_of_locusts_csvs_is_judged(tmp_path: Path) -> None:
    folder = Path(shutil.copytree(LOCUST, tmp_path / "locust"))
    (tmp_path / "sla.yaml").write_text("name: mine\nobjectives: [e2e p95 < 1 ms]\n")
    found = call("verdict", folder, "--sla", tmp_path / "sla.yaml")
    assert found.exit_code == 3, found.output
    assert "(IMPORTED)" in found.output
    assert json.loads((folder / "verdict.json").read_text())["status"] == "FAIL"
    assert (folder / "junit.xml").exists()
    for file in LOCUST.iterdir():
        shutil.copyfile(file, folder / file.name.replace("chat", "other"))
    message = refused("verdict", folder)
    assert f"name it ({folder / 'chat'}, {folder / 'other'})" in message
    assert call("verdict", folder / "other", "--sla", tmp_path / "sla.yaml").exit_code == 3
    assert (folder / "other_verdict.json").exists()
    assert "percentiles only" in refused("report", folder / "other")


def test_a_sweep_becomes_a_run_for_each_of_its_loads(tmp_path: Path) -> None:
    found = json.loads((GOLDEN / "guidellm-0.8.1.json").read_text())
    found["benchmarks"] *= 2
    (tmp_path / "sweep.json").write_text(json.dumps(found))
    made = call("import", tmp_path / "sweep.json", "--out", tmp_path / "out").output.split()
    assert len(made) == 2
    assert all((Path(path) / "run.json").exists() for path in made)


def test_the_same_requests_count_once(tmp_path: Path) -> None:
    out, copy = tmp_path / "out", shutil.copyfile(DETAILED, tmp_path / "copy.json")
    (first,) = call("import", DETAILED, "--out", out, "--server", "a").output.split()
    before = (out / "plan.json").read_bytes()
    for server in ("a", "b"):
        message = refused("import", copy, "--out", out, "--server", server)
        assert f"copy.json: already imported as {first}, expected a run of its own" in message
    assert (out / "plan.json").read_bytes() == before
    assert [path.name for path in out.iterdir() if path.is_dir()] == [Path(first).name]


def test_each_run_of_a_file_counts_once(tmp_path: Path) -> None:
    found = json.loads((GOLDEN / "guidellm-0.8.1.json").read_text())
    found["benchmarks"] *= 2
    (tmp_path / "sweep.json").write_text(json.dumps(found))
    into = ("import", tmp_path / "sweep.json", "--out", tmp_path / "out", "--server", "a")
    made = call(*into).output.split()
    assert [json.loads((Path(run) / "run.json").read_text())["imported"]["number"] for run in made] == [1, 2]
    assert "already imported as" in refused(*into)


def test_loops_of_two_kinds_are_no_experiment(tmp_path: Path) -> None:
    out, k6 = tmp_path / "out", GOLDEN / "k6.jsonl"
    assert call("import", DETAILED, "--out", out, "--server", "a").exit_code == 0
    message = refused("import", k6, "--out", out, "--server", "a", "--level", 5, "--loop", "closed")
    assert f"found loops of two kinds (closed in {k6} and open in {out / 'a-'}" in message
    assert len(json.loads((out / "plan.json").read_text())["runs"]) == 1


@pytest.mark.parametrize("name", ["", "../x/y", "/x/y", "..", ".hidden", "a b", "a\n"])
def test_a_servers_name_names_no_other_place(name: str, tmp_path: Path) -> None:
    message = refused("import", DETAILED, "--out", tmp_path / "out", "--server", name)
    assert f"--server: found {name!r}, expected a name of" in message
    assert list(tmp_path.iterdir()) == []


@pytest.mark.usefixtures("no_html")
def test_open_loops_of_two_folders_are_compared(tmp_path: Path) -> None:
    folders = [tmp_path / "old", tmp_path / "new"]
    for folder, factor in zip(folders, (1.0, 2.0), strict=True):
        file = slower(DETAILED, factor, tmp_path / f"{folder.name}.json")
        assert call("import", file, "--out", folder).exit_code == 0
    found = call("compare", *folders, "--out", tmp_path / "compared")
    assert found.exception is None or isinstance(found.exception, SystemExit), found.exception
    (contrast,) = json.loads((tmp_path / "compared" / "comparison.json").read_text())["contrasts"]
    assert contrast["level"] == json.loads(DETAILED.read_text())["request_rate"]


def test_a_load_that_no_file_said_is_not_compared(tmp_path: Path) -> None:
    for name in ("old", "new"):
        assert call("import", GOLDEN / "vegeta-12.jsonl", "--out", tmp_path / name).exit_code == 0
    found = call("compare", tmp_path / "old", tmp_path / "new").exception
    assert isinstance(found, TokenswarmError)
    assert "found load.users = None and load.rate_per_s = None, expected a number" in str(found)
