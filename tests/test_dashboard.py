"""The Grafana dashboard: up to date, in the conventions of its world, and every query answered by a real Prometheus.

Grafana itself is not at hand here: what it would draw is judged by the queries' answers and by the JSON alone.
"""

import json
import os
import re
import shutil
import subprocess
import sys
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from itertools import combinations
from math import isfinite
from pathlib import Path
from typing import Any, NamedTuple

import promql_parser as promql
import pytest
import yaml

from exporter.metrics import PRODUCT, Kind
from exporter.metrics.own import OWN

ROOT = Path(__file__).parent.parent
GENERATOR = ROOT / "config/grafana/dashboard.py"
DASHBOARD = json.loads((ROOT / "config/grafana/apigateway-exporter.json").read_text(encoding="utf-8"))
VARIABLES = {variable["name"]: variable for variable in DASHBOARD["templating"]["list"]}
PANELS = [panel for panel in DASHBOARD["panels"] if panel["type"] != "row"]
ALERTS = yaml.safe_load((ROOT / "config/prometheus/alerts.yml").read_text(encoding="utf-8"))

FOREIGN = {
    "process_resident_memory_bytes": set(),
    "process_cpu_seconds_total": set(),
}
"""Metrics that prometheus_client adds, and their labels."""

MAY_BE_EMPTY = {
    "Found wanting A": "the demo discovers nothing",
    "Deployments": "the demo's configuration names no deployments",
}


class Query(NamedTuple):
    """One query of the dashboard."""

    name: str
    expr: str
    instant: bool
    exemplars: bool

    def filled(self, **values: str) -> str:
        """The query as Grafana sends it, everything chosen unless `values` says otherwise."""
        chosen = dict.fromkeys(VARIABLES, ".+") | {"__rate_interval": "12s", "__range": "15s"} | values
        return re.sub(r"\$\{?(\w+)\}?", lambda found: chosen[found[1]], self.expr)


QUERIES = [
    Query(f"{panel['title']} {target['refId']}", target["expr"], target["instant"], target.get("exemplar", False))
    for panel in PANELS
    for target in panel["targets"]
] + [Query(mark["name"], mark["expr"], False, False) for mark in DASHBOARD["annotations"]["list"]]

METRICS = {
    name: set(metric.labels) | ({"le"} if name.endswith("_bucket") else set())
    for metric in (*PRODUCT, *OWN)
    for name in (
        [f"{metric.name}{part}" for part in ("_bucket", "_sum", "_count")]
        if metric.kind is Kind.HISTOGRAM
        else [metric.name]
    )
} | FOREIGN
ADDED_BY_SCRAPES = {"job", "instance"}


def each(queries: list[Query]) -> Any:
    return pytest.mark.parametrize("query", queries, ids=lambda query: query.name)


# ------------------------------------------------------------------------------------------------------------ the file


def test_the_committed_json_is_what_the_generator_writes(tmp_path):
    target = tmp_path / "dashboard.json"
    subprocess.run([sys.executable, str(GENERATOR), str(target)], check=True)
    assert json.loads(target.read_text()) == DASHBOARD, "run `make dashboard` and commit the JSON"


def test_alerts_find_the_dashboard_and_its_variables():
    links = {
        rule["annotations"]["dashboard_url"]
        for group in ALERTS["groups"]
        for rule in group["rules"]
        if "dashboard_url" in rule.get("annotations", {})
    }
    assert links
    for link in links:
        assert f"/d/{DASHBOARD['uid']}" in link
        assert set(re.findall(r"var-(\w+)=", link)) <= VARIABLES.keys()


def test_every_runbook_that_a_panel_links_to_belongs_to_an_alert():
    names = {rule["alert"] for group in ALERTS["groups"] for rule in group["rules"] if "alert" in rule}
    linked = {link["url"] for panel in PANELS for link in panel.get("links", [])}
    assert linked
    assert linked <= {f"${{runbooks}}/{name}.md" for name in names}


def test_links_to_traces_are_urls_that_hold_json_and_name_fields_that_exist():
    urls = re.findall(r'"(/explore[^"]+)"', json.dumps(DASHBOARD).replace('\\"', ""))
    assert len(urls) >= 4
    for url in urls:
        query = urllib.parse.parse_qs(urllib.parse.urlsplit(url).query)
        pane = json.loads(query["panes"][0])["t"]
        assert pane["datasource"] == "${tempo_datasource}"
        assert set(re.findall(r"span\.(apigateway\.\w+)", pane["queries"][0]["query"])) <= {
            "apigateway.cause",
            "apigateway.api_id",
            "apigateway.stage",
        }
    for panel in PANELS:
        kept = {word for target in panel["targets"] for word in re.findall(r"\w+", target["expr"])}
        for used in re.findall(r"\$\{__(?:data\.fields|field\.labels)\.(\w+)", json.dumps(panel)):
            assert used in kept


# -------------------------------------------------------------------- the conventions: the rules of Grafana's own linter


def test_there_is_one_variable_for_each_kind_of_datasource():
    kinds = {v["query"]: v for v in VARIABLES.values() if v["type"] == "datasource"}
    assert set(kinds) == {"prometheus", "tempo"}
    for kind, variable in kinds.items():
        assert variable["name"] == f"{kind}_datasource"
        assert variable["label"] == f"{kind.title()} data source"


@pytest.mark.parametrize("name", ["job", "instance"])
def test_scrape_targets_can_be_chosen(name):
    variable = VARIABLES[name]
    assert (variable["type"], variable["label"]) == ("query", name.title())
    assert (variable["multi"], variable["includeAll"], variable["allValue"]) == (True, True, ".+")


def test_choices_are_read_anew_when_the_time_range_changes():
    queried = [v for v in VARIABLES.values() if v["type"] == "query"]
    assert queried
    for variable in queried:
        assert variable["refresh"] == 2, variable["name"]
        assert variable["datasource"]["uid"] == "${prometheus_datasource}"


def test_nothing_names_a_datasource_of_its_own():
    for panel in [*PANELS, *DASHBOARD["annotations"]["list"]]:
        assert panel["datasource"] == {"type": "prometheus", "uid": "${prometheus_datasource}"}
    assert {
        target["datasource"]["uid"] for panel in PANELS for target in panel["targets"] if "datasource" in target
    } <= {"${prometheus_datasource}"}


@pytest.mark.parametrize("panel", PANELS, ids=lambda panel: panel["title"])
def test_every_panel_says_what_it_shows_and_in_which_unit(panel):
    assert panel["title"]
    assert panel["description"].endswith(".")
    assert panel["targets"]
    assert panel["fieldConfig"]["defaults"]["unit"] in {
        *("short", "none", "percentunit", "s", "bytes", "Bps", "cps", "cpm", "reqps", "bool"),
    }


def test_panels_have_ids_and_places_of_their_own():
    ids = [panel["id"] for panel in DASHBOARD["panels"]]
    assert len(set(ids)) == len(ids)
    for one, other in combinations((panel["gridPos"] for panel in DASHBOARD["panels"]), 2):
        beside = one["x"] + one["w"] <= other["x"] or other["x"] + other["w"] <= one["x"]
        below = one["y"] + one["h"] <= other["y"] or other["y"] + other["h"] <= one["y"]
        assert beside or below, (one, other)
    assert all(panel["gridPos"]["x"] + panel["gridPos"]["w"] <= 24 for panel in DASHBOARD["panels"])


def test_nobody_edits_by_hand_what_is_generated():
    assert DASHBOARD["editable"] is False


# ---------------------------------------------------------------------------------------------------------- the queries


@each(QUERIES)
def test_every_selector_names_a_metric_and_labels_that_exist(query):
    for selector in selectors(query):
        assert selector.name in METRICS, selector.prettify()
        known = METRICS[selector.name] | ADDED_BY_SCRAPES
        assert {matcher.name for matcher in selector.matchers.matchers} <= known, selector.prettify()


@each(QUERIES)
def test_every_selector_can_be_narrowed_to_job_and_instance(query):
    for selector in selectors(query):
        matchers = {(m.name, str(m.op), m.value) for m in selector.matchers.matchers}
        names = {name for name, _, _ in matchers}
        assert {"job", "instance"} <= names
    assert query.expr.count('job=~"$job", instance=~"$instance"') == len(list(selectors(query)))


@each(QUERIES)
def test_every_label_that_a_query_groups_by_exists_on_some_metric_in_it(query):
    known = set().union(*(METRICS[selector.name] for selector in selectors(query))) | ADDED_BY_SCRAPES
    for expression in nodes(query):
        if isinstance(expression, promql.AggregateExpr) and expression.modifier is not None:
            assert set(expression.modifier.labels) <= known


@each(QUERIES)
def test_rates_follow_the_scrape_interval_and_counters_are_never_shown_bare(query):
    assert not re.search(r"\brate\([^\[]*\[(?!\$__rate_interval)", query.expr)
    # What a series holds that was not there before the range began is its rise.
    born = re.sub(r"\w+_total\{[^}]*\} unless \w+_total\{[^}]*\} offset \$__range", "", query.expr)
    for _, window in re.findall(r"(\w+_(?:total|bucket|sum|count))\{[^}]*\}(.?)", born):
        assert window == "[", query.expr


@each([query for query in QUERIES if query.exemplars])
def test_exemplars_are_asked_for_where_there_are_some(query):
    kinds = {metric.name: metric.kind for metric in PRODUCT}
    assert {kinds[selector.name] for selector in selectors(query)} == {Kind.COUNTER}


def selectors(query: Query) -> Iterator[Any]:
    return (node for node in nodes(query) if isinstance(node, promql.VectorSelector))


def nodes(query: Query) -> Iterator[Any]:
    """Every part of a query's syntax tree."""
    waiting = [promql.parse(query.filled())]
    while waiting:
        node = waiting.pop()
        yield node
        for name in ("expr", "lhs", "rhs", "param", "vector_selector"):
            child = getattr(node, name, None)
            if child is not None:
                waiting.append(child)
        waiting.extend(getattr(node, "args", []))


# ------------------------------------------------------------------------------------------------------- the real thing


class Prometheus(NamedTuple):
    """A running Prometheus."""

    address: str

    def ask(self, path: str, **parameters: str) -> Any:
        url = f"{self.address}/api/v1/{path}?{urllib.parse.urlencode(parameters)}"
        try:
            with urllib.request.urlopen(url, timeout=10) as answer:
                return json.load(answer)["data"]
        except urllib.error.HTTPError as error:
            pytest.fail(f"{parameters}: {error.read().decode()}")

    def series(self, query: Query, **values: str) -> list[Mapping[str, str]]:
        """The labels of the series that a query returns, of those with a number in them."""
        expr = query.filled(**values)
        if query.instant:
            found = [(s["metric"], [s["value"]]) for s in self.ask("query", query=expr)["result"]]
        else:
            now = time.time()
            span = {"start": f"{now - 20}", "end": f"{now}", "step": "4"}
            found = [(s["metric"], s["values"]) for s in self.ask("query_range", query=expr, **span)["result"]]
        return [labels for labels, points in found if any(isfinite(float(value)) for _, value in points)]


@pytest.fixture(scope="module")
def prometheus(tmp_path_factory) -> Iterator[Prometheus]:
    """A Prometheus that scrapes the demo with traces on."""
    program = shutil.which("prometheus")
    assert program is not None, "prometheus is not installed (on Debian: apt install prometheus)"
    directory = tmp_path_factory.mktemp("prometheus")
    # Nobody answers there: spans wait in the outbox, and counters have exemplars.
    environ = os.environ | {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:9"}
    demo = [sys.executable, "-m", "exporter", "demo", "--web.listen-address", "127.0.0.1:0"]
    with running(demo, directory / "demo.log", environ) as said:
        target = wait_for(said, r"metrics +http://([\d.:]+)/metrics")
        config = {
            "global": {"scrape_interval": "2s", "scrape_timeout": "2s"},
            "scrape_configs": [
                {"job_name": "apigateway-exporter", "honor_labels": True, "static_configs": [{"targets": [target]}]}
            ],
        }
        (directory / "prometheus.yml").write_text(yaml.safe_dump(config))
        command = [
            program,
            f"--config.file={directory}/prometheus.yml",
            f"--storage.tsdb.path={directory}/data",
            "--web.listen-address=127.0.0.1:0",
            "--enable-feature=exemplar-storage",
        ]
        with running(command, directory / "prometheus.log", dict(os.environ)) as told:
            address = wait_for(told, r'msg="Listening on" address=(\S+)')
            yield Prometheus(f"http://{address}")


@contextmanager
def running(command: list[str], log: Path, environ: Mapping[str, str]) -> Iterator[Callable[[], str]]:
    """A process while the block runs; gives what it has said so far."""
    with log.open("wb") as output:
        process = subprocess.Popen(command, cwd=ROOT, env=dict(environ), stdout=output, stderr=subprocess.STDOUT)

    def said() -> str:
        text = log.read_text()
        assert process.poll() is None, f"{command[0]} ended: {text[-2000:]}"
        return text

    try:
        yield said
    finally:
        process.terminate()
        try:
            process.wait(timeout=20)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def wait_for(said: Callable[[], str], pattern: str) -> str:
    deadline = time.monotonic() + 60
    while (found := re.search(pattern, said())) is None:
        assert time.monotonic() < deadline, f"never said {pattern}: {said()[-2000:]}"
        time.sleep(0.1)
    return found[1]


@pytest.mark.process
@pytest.mark.servers
def test_every_query_returns_data_from_a_prometheus_that_scraped_the_demo(prometheus):
    waiting = [query for query in QUERIES if query.name not in MAY_BE_EMPTY]
    deadline = time.monotonic() + 90
    while waiting and time.monotonic() < deadline:
        waiting = [query for query in waiting if not prometheus.series(query)]
        time.sleep(0.5)
    assert not waiting, "no data: " + "; ".join(f"{query.name}: {query.filled()}" for query in waiting)
    for query in QUERIES:
        if query.name in MAY_BE_EMPTY:
            prometheus.series(query)  # fails on an error; it may be empty
    the_answers_are_those_of_the_demo(prometheus)
    variables_offer_what_was_scraped(prometheus)
    dots_lead_to_traces(prometheus)


def the_answers_are_those_of_the_demo(prometheus: Prometheus) -> None:
    by_name = {query.name: query for query in QUERIES}
    new = prometheus.series(by_name["New causes A"]) + prometheus.series(by_name["Causes by stage A"], __range="2m")
    table = prometheus.series(by_name["Causes by stage A"], __range="2m")
    assert {"orders", "payments", "catalog", "notifications"} == {row["api_name"] for row in table}
    assert ("integration", "integration_timeout") in {(row["category"], row["cause"]) for row in table}
    assert {"category", "cause", "stage"} <= set(new[0])
    only = prometheus.series(by_name["Causes by stage A"], __range="2m", cause="integration_timeout|throttled")
    assert {row["cause"] for row in only} == {"integration_timeout", "throttled"}
    orders = prometheus.series(by_name["Top resources A"], __range="2m", api_name="orders")
    assert {row["resource"] for row in orders} >= {"/orders", "/orders/{id}"}
    assert not prometheus.series(by_name["Failed requests A"], job="another")


def variables_offer_what_was_scraped(prometheus: Prometheus) -> None:
    offered = {}
    for variable in VARIABLES.values():
        if variable["type"] == "query":
            selector, label = re.fullmatch(r"label_values\((.*), (\w+)\)", variable["query"]).groups()
            filled = re.sub(r"\$\w+", ".+", selector)
            offered[variable["name"]] = prometheus.ask(f"label/{label}/values", **{"match[]": filled})
    assert offered["job"] == ["apigateway-exporter"]
    assert offered["api_name"] == ["catalog", "notifications", "orders", "payments"]
    assert offered["stage"] == ["$default", "prod", "v1"]
    assert "integration" in offered["category"]
    assert "lambda_permission" in offered["cause"]


def dots_lead_to_traces(prometheus: Prometheus) -> None:
    asking = [query for query in QUERIES if query.exemplars]
    assert asking
    now = time.time()
    for query in asking:
        # The demo begins with what happened in the five minutes before.
        found = prometheus.ask("query_exemplars", query=query.filled(), start=f"{now - 600}", end=f"{now + 60}")
        labels = [exemplar["labels"] for series in found for exemplar in series["exemplars"]]
        assert labels, query.name
        assert all(re.fullmatch("[0-9a-f]{32}", label["trace_id"]) for label in labels)
