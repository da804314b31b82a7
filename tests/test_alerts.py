"""The shipped alerts: whole, right about what they name, tested with Prometheus's own tools."""

import json
import re
import shlex
import shutil
import subprocess
from pathlib import Path

import pytest
import yaml

from exporter.cli import main
from exporter.metrics import PRODUCT, STAGE_FAILURES, Kind
from exporter.metrics.own import OWN
from exporter.rules import shipped_rules

ROOT = Path(__file__).parent.parent
CONFIG = ROOT / "config" / "prometheus"
RUNBOOKS = ROOT / "docs" / "runbooks"
TEST_FILES = sorted((CONFIG / "tests").glob("*.yml"))
MINUTES_LONG = {"changes.yml", "ratios.yml"}
"""They play days."""


def rules_of(name: str) -> list[dict]:
    document = yaml.safe_load((CONFIG / name).read_text())
    return [rule for group in document["groups"] for rule in group["rules"]]


RULES = rules_of("recording-rules.yml") + rules_of("alerts.yml")
ALERTS = {rule["alert"]: rule for rule in RULES if "alert" in rule}
RECORDED = {rule["record"]: rule["expr"] for rule in RULES if "record" in rule}
ABOUT_CAUSES = [name for name, rule in ALERTS.items() if "ALERTS" in rule["expr"]]

each_alert = pytest.mark.parametrize("name", ALERTS)
each_rule = pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.get("alert") or rule["record"])


def tool(name: str, package: str, *arguments: str) -> str:
    """What a tool prints; its failure, or its absence, is the test's."""
    if shutil.which(name) is None:
        pytest.fail(f"{name} is not installed: apt-get install --no-install-recommends {package}")
    done = subprocess.run([name, *arguments], capture_output=True, text=True, cwd=CONFIG, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


# ------------------------------------------------------------------------------------------------ what expressions name

TARGET = {"job", "instance"}
METRICS = {metric.name: TARGET | {*metric.labels} for metric in (*PRODUCT, *OWN) if metric.kind is not Kind.HISTOGRAM}
METRICS["up"] = TARGET
METRICS["ALERTS"] = {"alertname", "alertstate", *STAGE_FAILURES.labels}
WORDS = {"and", "or", "unless", "offset", "bool"}
GROUPING = re.compile(r"\b(?:by|on|ignoring|without|group_left|group_right)\s*\(([^)]*)\)")
SELECTOR = re.compile(r"(?<![\w:.])([a-zA-Z_:][\w:]*)\s*(?:\{([^}]*)\})?(?!\w|\s*\()")
REPLACED = re.compile(r'label_replace\((\w+), "(\w+)", "[^"]*", "(\w+)"')
MATCHER = re.compile(r"(\w+)\s*(?:=~|!~|!=|=)\s*(\x00\d+\x00)")


def labels_of(metric: str) -> set[str]:
    """The labels that a metric may have; a recorded one's are those of what it is made from."""
    if metric in RECORDED:
        return set().union(*(labels_of(used) for used in selected(RECORDED[metric]) - {metric}))
    return METRICS[metric]


def taken_apart(expression: str) -> tuple[str, list[str], set[str], set[str]]:
    """An expression without its strings; the strings; the labels it groups or joins by; those that it makes."""
    made = {label for _, label, _ in REPLACED.findall(expression)}
    strings: list[str] = []

    def put_aside(match: re.Match[str]) -> str:
        strings.append(match[1])
        return f"\x00{len(strings) - 1}\x00"

    bare = re.sub(r'"((?:[^"\\]|\\.)*)"', put_aside, expression)
    bare = re.sub(r"\[[^]]*\]|\boffset \d+\w", " ", bare)
    grouped = {label.strip() for found in GROUPING.findall(bare) for label in found.split(",") if label.strip()}
    return GROUPING.sub(" ", bare), strings, grouped, made


def selected(expression: str) -> set[str]:
    """The metrics that an expression reads."""
    bare = taken_apart(expression)[0]
    return {name for name, _ in SELECTOR.findall(re.sub(r"\{[^}]*\}", " ", bare))} - WORDS


def mistakes(expression: str) -> list[str]:
    """Metrics, labels, causes and categories that an expression names and that do not exist."""
    bare, strings, grouped, made = taken_apart(expression)
    unknown = [name for name in selected(expression) if name not in METRICS and name not in RECORDED]
    if unknown:
        return unknown
    rules = shipped_rules()
    values = {
        "cause": {*rules.causes},
        "category": {cause.category for cause in rules.causes.values()},
        "alertname": {*ALERTS},
    }
    found = [source for name, _, source in REPLACED.findall(expression) if source not in labels_of(name)]
    for name, matchers in SELECTOR.findall(bare):
        for label, place in MATCHER.findall(matchers):
            if label not in labels_of(name):
                found.append(f"{name}{{{label}}}")
            known = values.get(label)
            texts = strings[int(place.strip("\x00"))].split("|")
            found += [text for text in texts if known is not None and text not in known]
    anywhere = set().union(*(labels_of(name) for name in selected(expression)))
    return found + sorted(grouped - anywhere - made)


@each_rule
def test_every_metric_label_and_cause_that_a_rule_names_exists(rule):
    assert selected(rule["expr"])
    assert mistakes(rule["expr"]) == []


@pytest.mark.parametrize(
    ("right", "wrong"),
    [
        ("aws_apigateway_requests_total", "aws_apigateway_request_total"),
        ('{cause="unclassified"}', '{cause="unclasified"}'),
        ('{cause="unclassified"}', '{reason="unclassified"}'),
        ("by (api_id, api_name, stage)", "by (api_id, api, stage)"),
        ('category!~"client|auth|throttle|waf"', 'category!~"client|authn|throttle|waf"'),
        ('"access_log_group"', '"access_group"'),
        ("on (watch)", "on (wach)"),
        ("stage_cause:aws_apigateway_stage_failures:rate30m", "stage_cause:aws_apigateway_stage_failures:rate31m"),
        ("on (api_id, api_name, stage) group_left ()", "on (api_id, api_name, stages) group_left ()"),
        ("watermark_lag_seconds", "watermark_lag"),
        ('outcome="left_out"', 'result="left_out"'),
    ],
)
def test_a_typo_in_a_rule_is_found(right, wrong):
    changed = [rule["expr"].replace(right, wrong) for rule in RULES if right in rule["expr"]]
    assert changed
    assert all(mistakes(expression) for expression in changed)


@each_alert
def test_what_annotations_tell_are_labels_of_the_alert(name):
    alert = ALERTS[name]
    told = set(re.findall(r"\$labels\.(\w+)", json.dumps(alert["annotations"])))
    assert told <= set().union(*(labels_of(metric) for metric in selected(alert["expr"])))


# ------------------------------------------------------------------------------------------------- what every alert has


@each_alert
def test_an_alert_says_how_bad_it_is_what_it_is_and_where_to_read_on(name):
    assert re.fullmatch(r"ApiGateway([A-Z][a-z]+)+", name)
    alert = ALERTS[name]
    assert alert["labels"].keys() == {"severity"}
    assert alert["labels"]["severity"] in {"critical", "warning", "info"}
    notes = alert["annotations"]
    assert {"summary", "description", "dashboard_url", "runbook_url"} <= notes.keys()
    assert re.fullmatch(r"[A-Z][^{]*\.", notes["summary"]), "a sentence that is the same for all, to group by"
    assert notes["runbook_url"] == f"https://runbooks.example.com/apigateway-exporter/{name}.md"


@pytest.mark.parametrize("name", ABOUT_CAUSES)
def test_an_alert_about_a_cause_keeps_what_it_is_routed_by_and_itself_while_nobody_reads_its_stage(name):
    expression = ALERTS[name]["expr"]
    assert f'ALERTS{{alertname="{name}", alertstate="firing"}}' in expression
    assert re.search(r"and on \(api_id, stage\) stage:\S+due_timestamp_seconds:min < time\(\)\s*$", expression)
    assert "Kept: the exporter has not read this stage" in ALERTS[name]["annotations"]["description"]
    assert "keep_firing_for" in ALERTS[name], "what bridges the time until a stage counts as not read"
    assert "for" not in ALERTS[name]
    for found in re.findall(r"\bsum by \(([^)]*)\) \(\s*ALERTS", expression):
        assert set(found.split(", ")) == set(STAGE_FAILURES.labels)


def test_alerts_are_about_causes_or_about_the_exporter():
    others = ALERTS.keys() - set(ABOUT_CAUSES) - {name for name in ALERTS if name.startswith("ApiGatewayExporter")}
    assert others == {"ApiGatewayDataTracingInProduction"}


@pytest.mark.parametrize("name", ABOUT_CAUSES)
def test_the_find_command_is_one(name):
    command = re.sub(r"\{\{ \$labels\.(\w+) \}\}", r"\1", ALERTS[name]["annotations"]["find_command"])
    program, subcommand, *arguments = shlex.split(command)
    assert program == "apigateway-exporter"
    known = {option for parameter in main.commands[subcommand].params for option in parameter.opts}
    assert {argument for argument in arguments if argument.startswith("-")} <= known
    assert "'{{ $labels.stage }}'" in ALERTS[name]["annotations"]["find_command"], "a stage may be called $default"


@each_alert
def test_links_lead_to_the_shipped_dashboard_and_its_variables(name):
    dashboard = json.loads((ROOT / "config" / "grafana" / "apigateway-exporter.json").read_text())
    variables = {variable["name"] for variable in dashboard["templating"]["list"]}
    url = ALERTS[name]["annotations"]["dashboard_url"]
    assert f"/d/{dashboard['uid']}?" in url
    assert "from=" in url
    assert "to=" in url
    assert set(re.findall(r"var-(\w+)=", url)) <= variables


# -------------------------------------------------------------------------------------------------------------- runbooks


@each_alert
def test_an_alert_has_a_runbook(name):
    text = (RUNBOOKS / f"{name}.md").read_text()
    assert text.startswith(f"# {name}\n")
    assert re.findall(r"^## (.*)$", text, re.MULTILINE)[:3] == ["What it means", "How to confirm", "How to mend"]
    assert len(text.split()) > 120
    assert "```" in text or "/-/ready" in text, "something to type"


def test_no_runbook_is_about_an_alert_that_is_gone():
    assert {path.stem for path in RUNBOOKS.glob("*.md")} == ALERTS.keys()


def test_the_overview_lists_every_alert_with_its_severity():
    rows = dict(
        re.findall(r"^\| \[(\w+)\]\(runbooks/\1\.md\) \| (\w+) \|", (ROOT / "docs/alerts.md").read_text(), re.MULTILINE)
    )
    assert rows == {name: alert["labels"]["severity"] for name, alert in ALERTS.items()}


# ----------------------------------------------------------------------------------------------------------------- tools


@pytest.mark.servers
def test_promtool_takes_the_rules():
    tool("promtool", "prometheus", "check", "rules", "alerts.yml", "recording-rules.yml")


@pytest.mark.servers
@pytest.mark.parametrize(
    "path",
    [pytest.param(path, marks=[pytest.mark.long] * (path.name in MINUTES_LONG)) for path in TEST_FILES],
    ids=lambda path: path.name,
)
def test_alerts_fire_and_do_not_fire_as_told(path):
    tool("promtool", "prometheus", "test", "rules", str(path))


@each_alert
def test_an_alert_was_seen_firing_and_not_firing_in_worlds_of_samples(name):
    worlds = [world for path in TEST_FILES for world in yaml.safe_load(path.read_text())["tests"]]
    cases = [case for world in worlds for case in world["alert_rule_test"] if case["alertname"] == name]
    assert any(case["exp_alerts"] for case in cases)
    assert any(not case["exp_alerts"] for case in cases)


@pytest.mark.servers
def test_amtool_takes_the_example():
    tool("amtool", "prometheus-alertmanager", "check-config", "alertmanager.yml")


@pytest.mark.servers
@each_alert
def test_the_example_routes_by_severity(name):
    severity = ALERTS[name]["labels"]["severity"]
    labels = [f"alertname={name}", f"severity={severity}"]
    route = ("config", "routes", "test", "--config.file=alertmanager.yml", *labels)
    found = tool("amtool", "prometheus-alertmanager", *route)
    assert found.strip() == ("pager" if severity == "critical" else "chat")


def test_inhibition_names_alerts_that_there_are_and_labels_that_they_have():
    inhibitions = yaml.safe_load((CONFIG / "alertmanager.yml").read_text())["inhibit_rules"]
    for rule in inhibitions:
        for matcher in (*rule["source_matchers"], *rule["target_matchers"]):
            pattern = re.fullmatch(r'alertname=~?"(.*)"', matcher)[1]
            alternatives = re.fullmatch(r"(\w*)\((.*)\)", pattern)
            patterns = [alternatives[1] + end for end in alternatives[2].split("|")] if alternatives else [pattern]
            for single in patterns:
                named = [name for name in ALERTS if re.fullmatch(single, name)]
                assert named, single
                for name in named:
                    assert {*rule["equal"]} <= labels_of_alert(name) | TARGET, (name, rule["equal"])


def labels_of_alert(name: str) -> set[str]:
    return set().union(*(labels_of(metric) for metric in selected(ALERTS[name]["expr"])))


def test_an_exporter_that_is_down_or_stale_mutes_no_alert_about_an_api():
    inhibitions = yaml.safe_load((CONFIG / "alertmanager.yml").read_text())["inhibit_rules"]
    for rule in inhibitions:
        if "ApiGatewayExporter" in rule["source_matchers"][0]:
            pattern = re.fullmatch(r'alertname=~?"(.*)"', rule["target_matchers"][0])[1]
            assert all(name.startswith("ApiGatewayExporter") for name in ALERTS if re.fullmatch(pattern, name))
