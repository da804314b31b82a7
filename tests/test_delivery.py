"""What leaves the process: where each signal goes by configuration and environment, and that all of it leaves."""

import threading
import time

import pytest

from exporter.config import load_config
from exporter.delivery import Delivery, receivers, span_options
from exporter.ledger.sqlite import SqliteLedger
from exporter.metrics.self_metrics import SelfMetrics
from exporter.model import Commit
from exporter.otlp_settings import OtlpError
from exporter.span_batch import pack
from exporter.spans import SpanOptions, failure_spans
from tests.otlp_receiver import Answer, OtlpReceiver
from tests.test_outbox import failure

WATCH = "watches: [{name: x, region: eu-west-1, access_log: {group: x}}]\n"
COLLECTOR = {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://c:4318"}


def config(traces=""):
    return load_config(None, WATCH + (f"traces: {{{traces}}}\n" if traces else ""), {})


def test_without_a_receiver_no_spans_are_made():
    assert list(receivers(config().traces, {})) == []
    assert span_options(config(), {}) is None


def test_the_environment_decides_what_the_configuration_leaves_open():
    environ = {
        "OTEL_EXPORTER_OTLP_ENDPOINT": "http://c:4317",
        "OTEL_EXPORTER_OTLP_PROTOCOL": "grpc",
        "OTEL_EXPORTER_OTLP_TIMEOUT": "2500",
        "OTEL_EXPORTER_OTLP_HEADERS": "x-key=theirs",
    }

    left_open, *_ = receivers(config().traces, environ)
    decided, *_ = receivers(config("protocol: http, timeout: 3s, headers: {x-key: ours}").traces, environ)

    assert (left_open.protocol, left_open.timeout_s, left_open.headers) == ("grpc", 2.5, {"x-key": "theirs"})
    assert (decided.protocol, decided.timeout_s, decided.headers) == ("http", 3.0, {"x-key": "ours"})


def test_spans_are_made_as_the_configuration_says():
    asked = config("join: link, events: logs, fields: [identity.sourceIp], link_template: 'https://j/{trace_id}'")

    options = span_options(asked, {**COLLECTOR, "OTEL_RESOURCE_ATTRIBUTES": "team=shop"})

    assert (options.join, options.events) == ("link", "logs")
    assert options.allowed_fields == {"identity.sourceIp"}
    assert (options.link_template, options.resource) == ("https://j/{trace_id}", (("team", "shop"),))


@pytest.mark.parametrize(
    ("traces", "environ"),
    [
        ("events: logs, endpoint: 'http://c/mine'", {}),
        ("events: logs", {**COLLECTOR, "OTEL_LOGS_EXPORTER": "none"}),
        ("events: logs", {"OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": "http://c:4318/v1/traces"}),
    ],
)
def test_log_records_without_a_receiver_are_refused_before_anything_starts(traces, environ):
    with pytest.raises(OtlpError, match="logs"):
        span_options(config(traces), environ)


def test_an_address_for_traces_alone_is_enough_for_traces():
    (only,) = receivers(config("endpoint: 'http://c/mine'").traces, {})

    assert (only.signal, only.endpoint) == ("traces", "http://c/mine")


@pytest.fixture
def ledger(tmp_path):
    ledger = SqliteLedger(tmp_path / "state.db")
    yield ledger
    ledger.close()


@pytest.fixture
def receiver():
    with OtlpReceiver() as receiver:
        yield receiver


def store(ledger):
    told = [failure_spans(failure(number, lines=3), SpanOptions(events="logs")) for number in range(5)]
    ledger.commit(Commit(progress={}, tallies={}, tombstones={}, increments={}, spans=pack(told), at_ms=1))


@pytest.mark.parametrize("events", ["logs", "span"])
def test_all_that_waits_is_sent_and_counted_log_records_of_a_former_configuration_too(ledger, receiver, events):
    store(ledger)
    own = SelfMetrics(version="test", now_ms=lambda: 0)
    delivery = Delivery(config(f"endpoint: '{receiver.url}', events: {events}"), {}, ledger, own)
    stop = threading.Event()

    delivery.start(stop)
    stop.set()
    delivery.stop(time.monotonic() + 5)

    assert (len(receiver.spans), len(receiver.records)) == (5, 15)
    assert ledger.outbox_stats().rows == 0
    value = own.registry.get_sample_value
    assert value("aws_apigateway_exporter_spans_sent_total") == 5
    assert value("aws_apigateway_exporter_log_records_sent_total") == 15


def test_what_cannot_be_sent_when_the_process_ends_stays(ledger, receiver):
    receiver.always = Answer(status=503)
    store(ledger)
    delivery = Delivery(
        config(f"endpoint: '{receiver.url}', events: logs"), {}, ledger, SelfMetrics(version="t", now_ms=lambda: 0)
    )
    stop = threading.Event()

    delivery.start(stop)
    stop.set()
    delivery.stop(time.monotonic() + 5)

    stats = ledger.outbox_stats()
    assert (stats.spans, stats.log_records) == (5, 15)
