"""The doors of the house (README, "How it works"): who may import what, and how long a file may be."""

import ast
import functools
import subprocess
import sys
from collections.abc import Iterator
from importlib.metadata import packages_distributions
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
ROOMS = ("tokenswarm", "locustfiles", "server", "analysis")
FILES = sorted(path for room in ROOMS for path in (ROOT / room).rglob("*.py"))
LOAD = sorted((ROOT / "locustfiles").glob("*.py"))
INSIDE = sorted((ROOT / "server" / "inside").glob("*.py"))

SANS_IO = (
    "_errors",
    "_sse",
    "_http",
    "_chunks",
    "_timer",
    "_reply",
    "_pacing",
    "_clocks",
    "_workload",
    "_ledger",
    "_merge",
    "_spread",
    "_live",
    "_live_table",
    "_totals",
    "_form",
)
"""Files that get time, bytes and seeds as arguments."""

OUTSIDE = {
    "socket",
    "time",
    "datetime",
    "os",
    "sys",
    "gevent",
    "locust",
    "threading",
    "requests",
    "subprocess",
}


def name(path: Path) -> str:
    return str(path.relative_to(ROOT))


@functools.cache
def imports(path: Path) -> tuple[str, ...]:
    """Return each imported module; relative ones get their package's name, `from a import b` gives a.b."""
    return tuple(imports_of(ast.parse(path.read_text(encoding="utf-8")), path.relative_to(ROOT).parent.parts))


def imports_of(tree: ast.Module, package: tuple[str, ...]) -> Iterator[str]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            above = package[: len(package) - node.level + 1] if node.level else ()
            module = ".".join([*above, *([node.module] if node.module else [])])
            yield from (f"{module}.{alias.name}" for alias in node.names)


def uses(path: Path, *modules: str) -> list[str]:
    """Return the imports of a file that are one of these modules, or lie within one."""
    return [found for found in imports(path) if any(found == m or found.startswith(m + ".") for m in modules)]


def users_of(module: str, files: list[Path] = FILES) -> set[str]:
    return {name(path) for path in files if uses(path, module)}


def test_the_rules_have_something_to_rule() -> None:
    for room in ROOMS:
        assert any(name(path).startswith(room) for path in FILES), room
    assert "locust" in {found.partition(".")[0] for found in imports(ROOT / "locustfiles/_users.py")}
    assert "analysis.histogram.Histogram" in set(imports(ROOT / "analysis/samples.py"))


@pytest.mark.parametrize(
    "path", [ROOT / f"locustfiles/{stem}.py" for stem in SANS_IO], ids=lambda path: path.stem
)
def test_sans_io(path: Path) -> None:
    assert {found.partition(".")[0] for found in imports(path)} & OUTSIDE == set()
    assert not uses(path, "locustfiles._wire", "locustfiles._portable", "locustfiles._target")
    tree = ast.parse(path.read_text(encoding="utf-8"))
    drawn = {
        node.attr
        for node in ast.walk(tree)
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id == "random"
    }
    assert drawn <= {"Random"}, "without a seed of its own"


@pytest.mark.parametrize("path", LOAD, ids=name)
def test_load_side_knows_the_contract_alone(path: Path) -> None:
    ours = uses(path, *ROOMS)
    allowed = ("locustfiles.", "analysis.record.", "analysis.histogram.")
    assert [found for found in ours if not found.startswith(allowed)] == []
    tree = ast.parse(path.read_text(encoding="utf-8"))
    relative = [node for node in ast.walk(tree) if isinstance(node, ast.ImportFrom) and node.level]
    assert not relative, "Locust loads a locustfile without its package"


def test_locust_is_known_to_three_private_files_and_the_runnable_ones() -> None:
    runnable = {name(path) for path in LOAD if not path.stem.startswith("_")}
    private = {"locustfiles/_users.py", "locustfiles/_coordinator.py", "locustfiles/_run.py"}
    assert users_of("locust") <= runnable | private
    assert {"locustfiles/chat.py", "locustfiles/arrivals.py"} <= runnable


@pytest.mark.parametrize(
    ("module", "files"),
    [
        ("socket", {"locustfiles/_wire.py"}),
        ("gevent.socket", {"locustfiles/_wire.py"}),
        ("requests", {"locustfiles/_portable.py", "locustfiles/_target.py"}),
        ("sseclient", {"locustfiles/_portable.py"}),
        ("geventhttpclient", {"locustfiles/_http.py"}),
        ("prometheus_client", {"locustfiles/_scrape.py", "locustfiles/_prometheus.py"}),
        ("opentelemetry", {"locustfiles/_otel.py"}),
    ],
)
def test_one_door_on_the_load_side(module: str, files: set[str]) -> None:
    assert users_of(module, LOAD) == files


@pytest.mark.parametrize("path", sorted((ROOT / "analysis").rglob("*.py")), ids=name)
def test_analysis_knows_no_load_and_no_server(path: Path) -> None:
    assert uses(path, "locust", "gevent", "locustfiles", "server", "tokenswarm") == []


def test_contract_needs_the_standard_library_and_the_histogram_codec() -> None:
    for stem in ("record", "histogram"):
        modules = {found.partition(".")[0] for found in imports(ROOT / f"analysis/{stem}.py")}
        assert modules <= sys.stdlib_module_names | {"hdrh"}, stem


@pytest.mark.parametrize("path", sorted(set((ROOT / "server").rglob("*.py")) - set(INSIDE)), ids=name)
def test_server_knows_nothing_of_ours(path: Path) -> None:
    assert uses(path, "analysis", "locustfiles", "tokenswarm", "locust", "gevent", "server.inside") == []
    assert uses(path, "vllm", "torch", "transformers", "awq", "llmcompressor", "safetensors") == []


@pytest.mark.parametrize("path", INSIDE, ids=name)
def test_what_runs_inside_an_engines_environment_knows_nothing_of_ours(path: Path) -> None:
    assert uses(path, *ROOMS) == []
    siblings = [other.stem for other in INSIDE]
    assert uses(path, *siblings) == []
    assert not any(uses(other, f"server.inside.{path.stem}") for other in FILES)


def test_matplotlib_is_for_charts() -> None:
    assert users_of("matplotlib")
    assert all(user.startswith(("analysis/charts", "analysis/page")) for user in users_of("matplotlib"))


def loaded_by(statement: str) -> set[str]:
    program = f"import sys; {statement}; print(*{{name.partition('.')[0] for name in sys.modules}})"
    found = subprocess.run(
        [sys.executable, "-c", program], cwd=ROOT, check=True, capture_output=True, text=True
    )
    return set(found.stdout.split())


@pytest.mark.parametrize(
    ("statement", "absent"),
    [
        ("import analysis", {"numpy", "pandas", "scipy", "matplotlib", "gevent", "locust"}),
        ("import analysis.record, analysis.histogram", {"numpy", "pandas", "matplotlib", "gevent", "locust"}),
        ("import analysis.verdict, analysis.report", {"matplotlib", "gevent", "locust", "locustfiles"}),
        ("import tokenswarm.cli", {"numpy", "pandas", "matplotlib", "gevent", "locust"}),
        ("import server.sim.simulator", {"analysis", "locustfiles", "gevent", "locust", "numpy"}),
        (
            "import locustfiles._worker, locustfiles._merge, locustfiles._meta",
            {"locust", "matplotlib", "pandas", "tokenswarm", "server"},
        ),
    ],
)
def test_import_loads_no_more_than_it_needs(statement: str, absent: set[str]) -> None:
    loaded = loaded_by(statement)
    assert {"sys", statement.split()[1].partition(".")[0]} <= loaded
    assert loaded & absent == set()


@pytest.mark.parametrize("path", FILES, ids=name)
def test_size(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    assert len(text.splitlines()) <= 400
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            lines = (node.end_lineno or 0) - node.lineno + 1
            assert lines <= 70, node.name


def test_no_locustfile_hides_a_standard_module() -> None:
    # Locust puts the folder of a locustfile first on the path.
    assert {path.stem for path in LOAD} & sys.stdlib_module_names == set()


def test_only_runnable_files_have_plain_names() -> None:
    for path in LOAD:
        if not path.stem.startswith("_"):
            tree = ast.parse(path.read_text(encoding="utf-8"))
            users = [node for node in tree.body if isinstance(node, ast.ClassDef)]
            assert users, f"{name(path)}: Locust runs every file without an underscore"


def test_no_other_distribution_brings_a_package_of_our_names() -> None:
    found = packages_distributions()
    for room in ROOMS:
        assert set(found.get(room, [])) <= {"tokenswarm"}, room
