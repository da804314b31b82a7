"""What ships the program: workflows and the systemd unit, as far as they can be held without GitHub and systemd."""

import configparser
import json
import re
import subprocess
from pathlib import Path

import pytest
import yaml

from exporter.cli import main
from exporter.logs import FORMATS, LEVELS

ROOT = Path(__file__).parent.parent
WORKFLOWS = sorted((ROOT / ".github" / "workflows").glob("*.yml"))
UNIT = ROOT / "deploy" / "systemd" / "apigateway-exporter.service"


def workflow(path):
    return yaml.safe_load(path.read_text(encoding="utf-8"))


def steps_of(path):
    for name, job in workflow(path)["jobs"].items():
        for step in job.get("steps", []):
            yield name, step


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.name)
def test_a_workflow_gives_no_job_more_rights_than_it_names(path):
    document = workflow(path)
    assert document["permissions"] in ({}, {"contents": "read"})
    for name, job in document["jobs"].items():
        wide = {right for right, level in job.get("permissions", {}).items() if level == "write"}
        assert not wide or path.name == "release.yml", f"{name} may write {wide}"


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.name)
def test_every_action_is_of_a_named_version_and_every_script_parses(path):
    for name, step in steps_of(path):
        if "uses" in step:
            assert re.fullmatch(r"[\w.-]+/[\w./-]+@(v\d+|release/v\d+|[0-9a-f]{40})", step["uses"]), name
        else:
            script = re.sub(r"\$\{\{.*?\}\}", "x", step["run"])
            parsed = subprocess.run(["bash", "-n"], input=script, capture_output=True, text=True, check=False)
            assert parsed.returncode == 0, f"{name}: {parsed.stderr}"


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.name)
def test_no_text_from_outside_is_put_into_a_script(path):
    for name, step in steps_of(path):
        assert "${{" not in step.get("run", "").replace("${{ matrix.python }}", ""), f"{name}: use `env`"


def test_files_that_workflows_run_and_build_are_there():
    text = "".join(path.read_text(encoding="utf-8") for path in WORKFLOWS)
    for file in re.findall(r"requirements/\w+\.txt|\.ci/run|\./\.github/workflows/\w+\.yml|CHANGELOG\.md", text):
        assert (ROOT / file).exists(), file


def test_a_release_takes_its_notes_from_the_changelog(tmp_path):
    (step,) = [step for _, step in steps_of(ROOT / ".github/workflows/release.yml") if "awk" in step.get("run", "")]
    script = step["run"].partition("test -s")[0]
    (tmp_path / "CHANGELOG.md").write_text(
        "# Changelog\n\n## [Unreleased]\n\nnew\n\n## [0.1.1] - 2026-02-01\n\nfixed\n\n## [0.1.0] - 2026-01-01\n\nfirst\n"
    )
    for tag, expected in (("v0.1.1", "fixed"), ("v0.1.0", "first"), ("v0.1", "")):
        subprocess.run(  # noqa: PLW1510 checked below
            ["bash", "-euo", "pipefail", "-c", script],
            cwd=tmp_path,
            env={"GITHUB_REF_NAME": tag, "PATH": "/usr/bin:/bin"},
        ).check_returncode()
        assert (tmp_path / "notes.md").read_text().strip() == expected


def test_the_unit_runs_a_command_that_exists_and_stops_within_its_time():
    unit = configparser.ConfigParser(strict=False, interpolation=None)
    unit.optionxform = str
    unit.read(UNIT, encoding="utf-8")
    service = unit["Service"]
    program, command, *options = service["ExecStart"].split()
    assert program.endswith("/bin/apigateway-exporter")
    known = {name for parameter in main.commands[command].params for name in parameter.opts}
    assert {option for option in options if option.startswith("--")} <= known
    assert int(service["TimeoutStopSec"]) > 16
    assert service["RestartPreventExitStatus"] == "2"
    assert service["StateDirectory"] == "apigateway-exporter", "what state.path has as its default"


def test_the_chart_offers_the_log_levels_and_formats_that_the_program_takes():
    schema = json.loads((ROOT / "deploy/helm/values.schema.json").read_text(encoding="utf-8"))
    offered = schema["properties"]["log"]["properties"]
    assert tuple(offered["level"]["enum"]) == LEVELS
    assert tuple(offered["format"]["enum"]) == FORMATS
