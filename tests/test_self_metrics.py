"""What the exporter tells of itself, and the catalogue of every metric against the documents."""

import platform
import re
from pathlib import Path

import pytest
from prometheus_client.openmetrics.parser import text_string_to_metric_families as parse_openmetrics
from prometheus_client.parser import text_string_to_metric_families as parse_text

from exporter.ledger import OutboxStats
from exporter.metrics import PRODUCT, REQUESTS, RESPONSE_LATENCY, Kind, latencies, requests
from exporter.metrics.own import OWN
from exporter.metrics.self_metrics import SelfMetrics
from exporter.metrics.totals import Totals
from exporter.model import Api, Commit

DOCUMENT = Path(__file__).parent.parent / "docs/metrics.md"
API = Api(id="ab12cd34ef", name="orders", stage="prod")
BORN_MS = 1_700_000_000_000


class Clock:
    def __init__(self):
        self.ms = BORN_MS

    def __call__(self):
        return self.ms


@pytest.fixture
def clock():
    return Clock()


def totals_with(clock, *, max_series=20_000):
    return Totals(zero_hold_ms=0, max_series=max_series, now_ms=clock)


def commit(increments):
    return Commit(progress={}, tallies={}, tombstones={}, increments=increments, at_ms=BORN_MS)


def own_metrics(now_ms=lambda: BORN_MS):
    own = SelfMetrics(version="1.2.3", now_ms=now_ms)
    own.show_outbox(lambda: OutboxStats(rows=2, spans=9, bytes=1234, oldest_at_ms=BORN_MS))
    return own


def test_the_exporter_tells_its_version():
    labels = {"version": "1.2.3", "python_version": platform.python_version()}
    assert own_metrics().registry.get_sample_value("aws_apigateway_exporter_build_info", labels) == 1


def test_lag_grows_while_nothing_happens(clock):
    own = own_metrics(clock)
    own.set_watermark("orders", "access/orders", BORN_MS - 5_000)
    labels = {"watch": "orders", "group": "access/orders"}
    name = "aws_apigateway_exporter_watermark_lag_seconds"
    assert own.registry.get_sample_value(name, labels) == 5
    clock.ms += 60_000
    assert own.registry.get_sample_value(name, labels) == 65


def test_a_watch_that_is_gone_leaves_nothing_behind():
    own = own_metrics()
    for watch in ("orders", "billing"):
        own.add_watch(watch, ["access", "execution"])
        own.watch_up.labels(watch).set(1)
        own.polls.labels(watch, "ok").inc()
        own.effective_poll_interval.labels(watch).set(20)
        own.unreadable_lines.labels(watch, "access", "not_json").inc()
        own.requests_settled.labels(watch, "whole").inc()
        own.watch_restarts.labels(watch, "unforeseen").inc()
        own.set_watermark(watch, "access", BORN_MS)
    own.remove_watch("orders")
    left = {s.labels["watch"] for family in own.registry.collect() for s in family.samples if "watch" in s.labels}
    assert left == {"billing"}


def test_a_new_watch_starts_at_0():
    own = own_metrics()
    own.add_watch("orders", ["access"])
    labels = {"watch": "orders", "group": "access"}
    assert own.registry.get_sample_value("aws_apigateway_exporter_late_events_total", labels) == 0
    assert own.registry.get_sample_value("aws_apigateway_exporter_watch_up", {"watch": "orders"}) == 0


def test_outbox_and_series_are_told_as_they_are_when_scraped(clock):
    own = own_metrics()
    totals = totals_with(clock, max_series=1)
    own.show_series(totals)
    for path in "abc":
        totals.apply(commit({totals.admit(requests(API, "GET", f"/{path}", 200)): 1}))
    labels = {"metric": REQUESTS.name}
    assert own.registry.get_sample_value("aws_apigateway_exporter_series", labels) == 2
    assert own.registry.get_sample_value("aws_apigateway_exporter_series_overflow_total", labels) == 2
    assert own.registry.get_sample_value("aws_apigateway_exporter_outbox_spans") == 9
    assert own.registry.get_sample_value("aws_apigateway_exporter_outbox_bytes") == 1234
    assert own.registry.get_sample_value("aws_apigateway_exporter_outbox_oldest_timestamp_seconds") == BORN_MS / 1000


def test_an_empty_outbox_has_no_oldest_span():
    own = SelfMetrics(version="1", now_ms=lambda: BORN_MS)
    own.show_outbox(lambda: OutboxStats(rows=0, spans=0, bytes=0, oldest_at_ms=None))
    assert own.registry.get_sample_value("aws_apigateway_exporter_outbox_spans") == 0
    assert own.registry.get_sample_value("aws_apigateway_exporter_outbox_oldest_timestamp_seconds") is None


@pytest.mark.parametrize("openmetrics", [False, True])
def test_product_and_self_metrics_are_one_valid_exposition(clock, openmetrics):
    totals = totals_with(clock)
    totals.apply(commit(latencies(RESPONSE_LATENCY, API, [(40, 1)]) | {requests(API, "GET", "/", 200): 1}))
    own = own_metrics()
    own.show_series(totals)
    own.add_watch("orders", ["access"])
    text = (totals.render(openmetrics=openmetrics) + own.render(openmetrics=openmetrics)).decode()
    names = [family.name for family in (parse_openmetrics if openmetrics else parse_text)(text)]
    assert len(names) == len(set(names))
    assert text.count("# EOF") == (1 if openmetrics else 0)
    assert "process_cpu_seconds" in names
    assert not [name for name in names if name.endswith("_created")]


# -------------------------------------------------------------------------------------------------------- the catalogue


def documented():
    rows = re.findall(r"^\| `(\w+)` \| (\w+) \| (.*?) \| (.*?) \|$", DOCUMENT.read_text(), re.MULTILINE)
    return {
        name: (kind, tuple(re.findall(r"`(\w+)`", labels)), explanation) for name, kind, labels, explanation in rows
    }


def test_every_metric_is_documented_with_its_kind_labels_and_help():
    declared = {metric.name: (str(metric.kind), metric.labels, metric.help) for metric in PRODUCT + OWN}
    assert documented() == declared


def test_every_label_is_explained():
    text = DOCUMENT.read_text()
    names = {
        name
        for line in re.findall(r"^- ((?:`\w+`(?:, )?)+):", text, re.MULTILINE)
        for name in re.findall(r"`(\w+)`", line)
    }
    assert {label for metric in PRODUCT + OWN for label in metric.labels} <= names


def test_every_declared_metric_is_exposed(clock):
    totals = totals_with(clock)
    own = own_metrics()
    own.show_series(totals)
    text = (totals.render(openmetrics=False) + own.render(openmetrics=False)).decode()
    exposed = dict(re.findall(r"^# TYPE (aws_\w+) (\w+)$", text, re.MULTILINE))
    assert exposed == {metric.name: str(metric.kind) for metric in PRODUCT + OWN}


def test_names_and_help_follow_the_conventions():
    for metric in PRODUCT + OWN:
        assert metric.name.startswith("aws_apigateway_exporter_" if metric in OWN else "aws_apigateway_")
        assert metric.name.endswith("_total") == (metric.kind is Kind.COUNTER)
        assert metric.help.endswith(".")
        assert not set('"\\\n') & set(metric.help)
