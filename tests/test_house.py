"""The house rules: who may import whom, what pure files may not know, names, sizes, locks, links.

The floors stand in pyproject.toml (import-linter, which also refuses a file without a floor); the rooms within a floor
stand here: files that belong together may import each other, different rooms of one floor may not.
"""

import ast
import re
import sys
import tomllib
from importlib.metadata import packages_distributions
from pathlib import Path

import pytest
from importlinter.cli import lint_imports

ROOT = Path(__file__).parent.parent
SOURCES = sorted((ROOT / "exporter").rglob("*.py"))
PYTHON = [*SOURCES, *sorted((ROOT / "tests").rglob("*.py")), *sorted((ROOT / "benchmarks").rglob("*.py"))]

# A room is one file of the design, with the files that were split from it.
ROOMS = {
    "model": {"model"},
    "redaction": {"redaction"},
    "version": {"version"},
    "arns": {"arns"},
    "turns": {"turns"},
    "loops": {"loops"},
    "filter patterns": {"filter_patterns"},
    "access log": {
        "access_log",
        "access_filter",
        "access_json",
        "torn_json",
        "access_format",
        "access_shapes",
        "access_values",
        "access_variables",
    },
    "execution log": {"execution_log", "execution_facts", "envelope", "dumps"},
    "correlation": {
        "correlate",
        "verdicts",
        "settle",
        "windows",
        "tally",
        "tombstones",
        "audit",
        "identity",
        "inflight",
        "segments",
        "units",
        "open_requests",
    },
    "rules": {"rules", "rules_file", "conditions", "facts"},
    "spans": {"spans", "span_batch", "protobuf", "conventions", "trace_context", "waterfall"},
    "metrics": {"metrics"},
    "config": {"config", "web_config"},
    "sources": {"sources"},
    "ledger": {"ledger"},
    "discovery": {"discovery"},
    "otlp": {"otlp", "otlp_settings"},
    "logs": {"logs"},
    "pipeline": {
        "pipeline",
        "listing",
        "pacing",
        "telling",
        "fetching",
        "filtering",
        "watch_spec",
        "memory",
        "reading",
        "taking",
        "describing",
        "record",
    },
    "outbox": {"outbox", "delivery"},
    "excerpt": {"excerpt", "rule_check"},
    "web": {"web"},
    "daemon": {"daemon", "fleet", "places", "planning", "reloading", "scouting", "signals"},
    "policies of IAM": {"iam"},
    "find": {"find"},
    "failures": {"failures"},
    "replay": {"replay"},
    "command line": {"cli", "commands", "__main__"},
}
FLOORS = [
    {"model", "redaction", "version", "arns", "turns"},
    {"filter patterns", "loops"},
    {"access log", "execution log", "correlation", "rules", "spans", "metrics", "config", "sources", "ledger"}
    | {"otlp", "logs"},
    {"pipeline", "outbox", "excerpt", "web", "discovery"},
    {"find", "replay"},
    {"failures"},
    {"daemon", "policies of IAM"},
    {"command line"},
]
# Correlation asks the execution log which line ends a request and which says why; it is told nothing more.
NEIGHBOURS = {("correlation", "execution log")}

PURE = (
    "model",
    "loops",
    "redaction",
    "arns",
    "filter patterns",
    "access log",
    "execution log",
    "correlation",
    "rules",
    "spans",
)
IMPURE_MODULES = {
    *(
        "asyncio",
        "boto3",
        "botocore",
        "click",
        "http",
        "io",
        "logging",
        "os",
        "pathlib",
        "random",
        "requests",
        "secrets",
    ),
    *("shutil", "signal", "socket", "sqlite3", "structlog", "subprocess", "sys", "tempfile", "threading", "time"),
    *("urllib3", "uvicorn"),
}
# The shipped rules are read once, from the package or the checkout: data of the program, not of the world.
READS_ITS_OWN_DATA = {"exporter/rules.py": {"pathlib"}}
# Parts of a dependency that go by a name of their own.
COMES_WITH = {"botocore": "boto3", "pydantic_core": "pydantic", "google": "opentelemetry"}
# Imported for type checking only.
STUBS = {"mypy_boto3_apigateway", "mypy_boto3_apigatewayv2", "mypy_boto3_logs", "mypy_boto3_sts"}
IMPURE_CALLS = {"open", "input", "print", "breakpoint"}
CLOCK_CALLS = {"now", "utcnow", "today"}

FORBIDDEN_WORDS = {"utils", "util", "helpers", "helper", "common", "base", "manager", "managers", "misc"}
LINES_TO_AIM_FOR = 350
LINES_AT_MOST = 450


def name_of(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


def room_of(module: str) -> str | None:
    """`exporter.metrics.totals` -> `metrics`; None for the package itself."""
    parts = module.split(".")
    if parts == ["exporter"]:
        return None
    return next((room for room, modules in ROOMS.items() if parts[1] in modules), f"no room for {parts[1]}")


def module_of(path: Path) -> str:
    return ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")


def imports_of(path: Path) -> set[str]:
    """Every module that a file imports, wherever in the file; `from exporter import x` is `exporter.x`."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{name_of(path)}: a relative import"
            module = node.module or ""
            found |= {f"exporter.{alias.name}" for alias in node.names} if module == "exporter" else {module}
    return found


@pytest.mark.parametrize("path", SOURCES, ids=name_of)
def test_a_file_imports_only_from_its_own_room_and_from_lower_floors(path):
    room = room_of(module_of(path))
    if room is None:
        return
    floor = {name: number for number, rooms in enumerate(FLOORS) for name in rooms}
    assert room in floor, f"{name_of(path)} belongs to no room: add it to ROOMS and to the floors of pyproject.toml"
    for module in imports_of(path):
        target = room_of(module) if module.startswith("exporter.") else None
        if target in (None, room) or (room, target) in NEIGHBOURS:
            continue
        assert floor[target] < floor[room], f"{room} (floor {floor[room] + 1}) imports {module} ({target})"


def test_the_floors_hold_for_import_linter(capsys):
    assert lint_imports(config_filename=str(ROOT / "pyproject.toml"), no_cache=True) == 0, capsys.readouterr().out


@pytest.mark.parametrize("path", [path for path in SOURCES if room_of(module_of(path)) in PURE], ids=name_of)
def test_a_pure_file_knows_no_input_output_clock_logger_or_environment(path):
    imported = {module.split(".")[0] for module in imports_of(path)}
    assert imported & IMPURE_MODULES <= READS_ITS_OWN_DATA.get(name_of(path), set())
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Call):
            if isinstance(node.func, ast.Name):
                assert node.func.id not in IMPURE_CALLS, f"line {node.lineno}"
            if isinstance(node.func, ast.Attribute):
                assert node.func.attr not in CLOCK_CALLS, f"line {node.lineno}"


@pytest.mark.parametrize("path", PYTHON, ids=name_of)
def test_a_file_is_named_after_a_noun(path):
    assert not set(path.stem.strip("_").split("_")) & FORBIDDEN_WORDS


@pytest.mark.parametrize("path", SOURCES, ids=name_of)
def test_a_file_can_be_read_in_one_go(path):
    lines = len(path.read_text().splitlines())
    assert lines <= LINES_AT_MOST, f"{lines} lines; aim for {LINES_TO_AIM_FOR}: split it along a noun"


@pytest.mark.parametrize("path", SOURCES, ids=name_of)
def test_a_module_says_what_it_is_for(path):
    assert ast.get_docstring(ast.parse(path.read_text()))


# ------------------------------------------------------------------------------------------------------------- locks


def locked(name: str) -> dict[str, list[str]]:
    """Package -> hashes, of a lock."""
    packages: dict[str, list[str]] = {}
    for line in (ROOT / "requirements" / name).read_text().splitlines():
        if match := re.match(r"([a-z0-9.-]+)(?:\[[^]]*\])?==", line):
            packages[match[1]] = hashes = []
        elif "--hash=" in line:
            hashes.append(line)
    return packages


def required(requirements: list) -> set[str]:
    return {re.split(r"[<>=\[! ;]", entry)[0] for entry in requirements if isinstance(entry, str)}


@pytest.mark.parametrize("name", ["run.txt", "dev.txt", "build.txt", "ci.txt"])
def test_a_lock_pins_everything_by_hash_and_names_no_place(name):
    assert all(locked(name).values())
    text = (ROOT / "requirements" / name).read_text()
    assert "://" not in text
    assert not re.search(r"^(?:-|/)|\s/\w", text, re.MULTILINE), "an option or a path of somebody's machine"


def test_the_locks_hold_what_the_project_asks_for():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    run, dev, build = locked("run.txt"), locked("dev.txt"), locked("build.txt")
    assert required(project["project"]["dependencies"]) <= run.keys()
    assert required(project["dependency-groups"]["dev"]) | run.keys() <= dev.keys()
    assert required(project["build-system"]["requires"]) <= build.keys()
    assert not run.keys() & {"moto", "pytest", "mypy"}, "tools of development in production"


def test_what_is_imported_is_declared():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    declared = required(project["dependencies"])
    for extra in project["optional-dependencies"].values():
        declared |= required(extra)
    modules = {module.split(".")[0] for path in SOURCES for module in imports_of(path)}
    distributions = packages_distributions()
    for module in modules - sys.stdlib_module_names - {"exporter"} - STUBS:
        names = {re.sub(r"[_.]", "-", name.lower()) for name in distributions[COMES_WITH.get(module, module)]}
        assert names & declared, f"{module} is imported, but is no dependency in pyproject.toml"


# --------------------------------------------------------------------------------------------------------- documents

DOCUMENTS = [
    *sorted(ROOT.glob("*.md")),
    *sorted((ROOT / "docs").rglob("*.md")),
    *sorted((ROOT / "deploy").rglob("*.md")),
]
LINK = re.compile(r"\[[^]]*\]\(([^)\s]+)\)")


def anchors_of(document: Path) -> set[str]:
    """The anchors that the headings of a document make, as code hosts make them."""
    headings = re.findall(r"^#+ (.*)$", document.read_text(), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("document", DOCUMENTS, ids=name_of)
def test_every_link_between_documents_leads_somewhere(document):
    for link in LINK.findall(document.read_text()):
        if re.match(r"[a-z]+:", link):
            continue
        place, _, anchor = link.partition("#")
        target = (document.parent / place) if place else document
        assert target.exists(), link
        if anchor and target.suffix == ".md":
            assert anchor in anchors_of(target), link
