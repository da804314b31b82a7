"""The outbox against a real OTLP receiver on loopback and the real ledger; only the clock is ours."""

import gzip
import re
import ssl
import subprocess
import threading
from collections import Counter
from concurrent import futures
from http.client import HTTPConnection
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import grpc
import pytest
from google.protobuf.any_pb2 import Any as AnyMessage
from google.protobuf.duration_pb2 import Duration
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest, ExportLogsServiceResponse
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import (
    ExportTraceServiceRequest,
    ExportTraceServiceResponse,
)

from exporter.ledger.sqlite import SqliteLedger
from exporter.model import (
    UNKNOWN,
    AccessGlance,
    AccessRecord,
    Api,
    Commit,
    ExecutionStep,
    Failure,
    RequestTimeline,
    SpanBatch,
    Step,
)
from exporter.otlp import Delivered, Refused, Retry, connect
from exporter.otlp_settings import OtlpError, OtlpSettings, read_settings, resource_attributes
from exporter.outbox import BATCH_BYTES, Outbox
from exporter.span_batch import pack
from exporter.spans import SpanOptions, failure_spans
from tests.otlp_receiver import Answer, OtlpReceiver, decode_records, decode_spans

T = 1_700_000_000_000


class Clock:
    """Seconds that pass when told to."""

    def __init__(self):
        self.now_s = 1_000.0

    def __call__(self):
        return self.now_s


class Counts:
    def __init__(self):
        self.of = Counter()

    def sent(self, signal, count):
        self.of["sent" if signal == "traces" else "log records sent"] += count

    def rejected(self, signal, count):
        self.of["rejected"] += count

    def dropped(self, signal, reason, count):
        self.of[reason if signal == "traces" else f"log records {reason}"] += count


def failure(number, rule="r", lines=0):
    steps = tuple(
        ExecutionStep(event_id=str(n), at_ms=T + number + n, step=Step.OTHER, text=f"line {n}") for n in range(lines)
    )
    glance = AccessGlance(
        request_id=f"request-{number:04d}", extended_request_id=None, status=504, method="GET", resource=UNKNOWN,
        api_id=None, stage=None, latency_ms=10, integration_latency_ms=None, response_type=None,
    )  # fmt: skip
    access = AccessRecord(event_id=str(number), at_ms=T + number, glance=glance)
    timeline = RequestTimeline(
        api=Api(id="a", name="orders", stage="prod"), access=access, steps=steps, request_id=glance.request_id
    )
    return Failure(
        timeline=timeline, cause="internal_error", category="gateway", rule=rule, evidence="e", refinable=False
    )


def rows_of(numbers, a_row=1, rule="r"):
    """Outbox rows of `a_row` spans each."""
    spans = [failure_spans(failure(number, rule), SpanOptions()) for number in numbers]
    return [batch for at in range(0, len(spans), a_row) for batch in pack(spans[at : at + a_row])]


def event_numbers(spans):
    return sorted(span.start_ns // 1_000_000 - T for span in spans)


@pytest.fixture
def ledger(tmp_path):
    ledger = SqliteLedger(tmp_path / "state.db")
    yield ledger
    ledger.close()


@pytest.fixture
def receiver():
    with OtlpReceiver() as receiver:
        yield receiver


class World:
    def __init__(self, ledger, receiver):
        self.ledger, self.receiver = ledger, receiver
        self.clock, self.counts = Clock(), Counts()
        settings = read_settings(OtlpSettings(endpoint=receiver.url, timeout_s=5), {})
        self.sender = connect(settings)
        self.outbox = self.make(max_bytes=1 << 30)

    def make(self, max_bytes):
        return Outbox(self.ledger, self.sender, self.counts, max_bytes=max_bytes, clock=self.clock, jitter=lambda: 1.0)

    def store(self, batches):
        self.ledger.commit(Commit(progress={}, tallies={}, tombstones={}, increments={}, spans=tuple(batches), at_ms=T))

    def work_for(self, seconds):
        """Let the outbox work until `seconds` of its clock have passed."""
        until_s = self.clock.now_s + seconds
        while self.clock.now_s < until_s:
            self.clock.now_s += max(0.001, self.outbox.work())

    def left(self):
        return self.ledger.outbox_stats().spans


@pytest.fixture
def world(ledger, receiver):
    world = World(ledger, receiver)
    yield world
    world.sender.close()


# ------------------------------------------------------------------------------------------------------------- delivery


def test_stored_spans_arrive_once_oldest_first_and_leave_the_ledger(world):
    world.store(rows_of(range(10), a_row=3))

    world.work_for(1)

    assert [span.start_ns // 1_000_000 - T for span in world.receiver.spans] == list(range(10))
    assert (world.left(), world.counts.of) == (0, {"sent": 10})
    assert len(world.receiver.requests) == 1, "rows share a request"


def test_a_request_stays_within_what_receivers_take(world):
    evidence = "x" * 4_000
    batches = []
    for number in range(2_000):
        told = failure(number)
        large = Failure(
            timeline=told.timeline,
            cause="c",
            category="gateway",
            rule=f"{number}{evidence}",
            evidence="",
            refinable=False,
        )
        batches += pack([failure_spans(large, SpanOptions())])
    world.store(batches)

    world.work_for(5)

    assert len(world.receiver.spans) == 2_000
    sizes = [sum(len(str(span.attributes)) for span in request.spans) for request in world.receiver.requests]
    assert len(sizes) > 2
    assert max(sizes) < BATCH_BYTES * 1.2


def test_partial_success_is_counted_and_not_sent_again(world):
    world.receiver.rejects = lambda span: event_numbers([span])[0] % 3 == 0
    world.store(rows_of(range(9)))

    world.work_for(600)

    assert (world.left(), world.counts.of) == (0, {"sent": 6, "rejected": 3})
    assert len(world.receiver.requests) == 1


def test_nothing_to_send_asks_nobody(world):
    world.work_for(60)

    assert world.receiver.requests == []


# -------------------------------------------------------------------------------------------------------------- outages


@pytest.mark.parametrize("status", [429, 502, 503, 504])
def test_what_may_pass_is_waited_out_with_growing_pauses(world, status):
    world.receiver.always = Answer(status=status)
    world.store(rows_of(range(3)))

    world.work_for(600)
    attempts = len(world.receiver.requests)
    world.receiver.always = None
    world.work_for(121)

    assert 8 <= attempts <= 12, "1, 2, 4 … up to 120 seconds apart"
    assert (event_numbers(world.receiver.spans), world.left()) == ([0, 1, 2], 0)


def test_retry_after_is_honoured(world):
    world.receiver.answers.append(Answer(status=503, headers={"retry-after": "90"}))
    world.store(rows_of(range(1)))

    world.work_for(89)
    before = len(world.receiver.requests)
    world.work_for(2)

    assert (before, len(world.receiver.requests), world.counts.of["sent"]) == (1, 2, 1)


@pytest.mark.parametrize(
    ("retry_after", "after_s"),
    [
        ("7", 7.0),
        ("Sun, 22 Nov 2026 09:01:30 GMT", 90.0),
        ("Sun, 22 Nov 2026 08:00:00 GMT", 0.0),
        ("soon", None),
        ("-1", None),
        ("", None),
    ],
)
def test_retry_after_may_be_a_date_by_the_receivers_own_clock(world, retry_after, after_s):
    dates = {"date": "Sun, 22 Nov 2026 09:00:00 GMT", "retry-after": retry_after}
    world.receiver.always = Answer(status=429, headers=dates)

    assert world.sender.send(b"") == Retry(reason="status 429", after_s=after_s)


def test_an_hour_without_receiver_at_50_failures_a_second_loses_nothing(ledger):
    """180,000 spans in the rows that 20-second polls make, while nobody listens on the receiver's port."""
    body = gzip.decompress(rows_of(range(1000), a_row=1000)[0].body)
    with OtlpReceiver() as gone:
        port = int(gone.url.rpartition(":")[2])
    world = World(ledger, gone)
    for poll in range(180):
        told_apart = body.replace(b"request-", b"poll%04d" % poll)  # as long as before: still a valid request
        world.store([SpanBatch(body=gzip.compress(told_apart, 1), spans=1000)])
        world.work_for(20)
    waiting, sent_before = world.left(), world.counts.of["sent"]

    with OtlpReceiver(port=port, decode=lambda sent: re.findall(rb"poll[0-9]{8}", sent)) as receiver:
        world.work_for(300)
    world.sender.close()

    assert (waiting, sent_before) == (180_000, 0)
    assert (world.left(), world.counts.of) == (0, {"sent": 180_000})
    assert Counter(receiver.spans) == Counter(b"poll%04d%04d" % (poll, n) for poll in range(180) for n in range(1000))


def test_beyond_the_bound_the_oldest_go_and_are_counted(world):
    batches = rows_of(range(100))
    keep_bytes = sum(len(batch.body) for batch in batches[40:])
    world.outbox = world.make(max_bytes=keep_bytes)
    world.receiver.always = Answer(status=503)
    world.store(batches)

    world.work_for(1)
    world.receiver.always = None
    world.work_for(10)

    assert event_numbers(world.receiver.spans) == list(range(40, 100))
    assert world.counts.of == {"outbox_full": 40, "sent": 60}


def test_the_bound_holds_also_while_waiting_for_the_receiver(world):
    world.outbox = world.make(max_bytes=10)
    world.receiver.answers.append(Answer(status=503, headers={"retry-after": "3600"}))
    world.store(rows_of(range(1)))
    world.work_for(1)

    world.store(rows_of(range(1, 50)))
    world.work_for(2)

    assert world.ledger.outbox_stats().bytes <= 10


@pytest.mark.parametrize("status", [301, 401, 403, 404, 405, 500])
def test_a_receiver_that_refuses_everything_costs_no_span(world, status):
    """A wrong token, a wrong path: no span is to blame."""
    world.receiver.always = Answer(status=status)
    world.store(rows_of(range(20), a_row=4))

    world.work_for(3600)
    attempts = len(world.receiver.requests)
    world.receiver.always = None
    world.work_for(121)

    assert attempts < 100
    assert (event_numbers(world.receiver.spans), world.counts.of) == (list(range(20)), {"sent": 20})


# --------------------------------------------------------------------------------------------------------------- poison


@pytest.mark.parametrize("a_row", [1, 7, 50])
def test_a_poisonous_span_is_isolated_and_set_aside_the_rest_arrives(world, a_row):
    world.receiver.poison = lambda span: event_numbers([span])[0] in {13, 14, 40}
    world.store(rows_of(range(50), a_row=a_row))

    world.work_for(600)

    assert event_numbers(world.receiver.spans) == [n for n in range(50) if n not in {13, 14, 40}]
    assert (world.left(), world.counts.of) == (0, {"sent": 47, "refused": 3})


def test_a_poisonous_span_alone_in_the_outbox_is_not_tried_for_ever(world):
    world.receiver.poison = lambda span: True
    world.store(rows_of([1]))

    world.work_for(60)

    assert (world.left(), world.counts.of) == (0, {"refused": 1})


def test_a_receiver_that_goes_away_while_poison_is_looked_for_loses_nothing(world):
    world.receiver.poison = lambda span: event_numbers([span])[0] == 3
    world.store(rows_of(range(8), a_row=8))
    world.receiver.answers.extend([Answer(status=400), Answer(status=200), Answer(status=400), Answer(status=503)])

    world.work_for(60)

    assert set(event_numbers(world.receiver.spans)) == set(range(8)) - {3}
    assert (world.left(), world.counts.of) == (0, {"sent": 7, "refused": 1})


def test_a_row_that_cannot_be_read_is_given_up_and_holds_up_no_other(world):
    world.store(
        [SpanBatch(body=b"not gzip", spans=5), SpanBatch(body=gzip.compress(b"\x0aabc")[:-6], spans=2), *rows_of([1])]
    )

    world.work_for(5)

    assert (event_numbers(world.receiver.spans), world.counts.of) == ([1], {"unreadable": 7, "sent": 1})


def test_what_a_receiver_says_is_redacted(world):
    world.receiver.poison = lambda span: True

    outcome = world.sender.send(gzip.decompress(rows_of([1])[0].body))

    assert isinstance(outcome, Refused)
    assert "upset me" in outcome.message
    assert "hunter2" not in outcome.message


# ------------------------------------------------------------------------------------------------------- threads, stops


def test_the_thread_stops_when_told_and_the_flush_sends_the_rest(world):
    stop = threading.Event()
    thread = threading.Thread(target=world.outbox.run, args=(stop,))
    thread.start()
    stop.set()
    thread.join(timeout=10)
    world.store(rows_of(range(5)))

    assert not thread.is_alive()
    assert world.outbox.flush(limit_s=5)
    assert event_numbers(world.receiver.spans) == list(range(5))


def test_the_flush_ignores_a_pause_but_gives_up_on_a_receiver_that_is_down(world):
    world.receiver.always = Answer(status=503, headers={"retry-after": "3600"})
    world.store(rows_of(range(5)))
    world.work_for(1)

    assert not world.outbox.flush(limit_s=5)
    assert world.left() == 5
    world.receiver.always = None
    assert world.outbox.flush(limit_s=5)


def test_a_slow_receiver_is_left_after_the_time_limit_and_the_spans_stay(world):
    world.receiver.answers.append(Answer(status=200, delay_s=0.5))

    outcome = world.sender.send(b"", timeout_s=0.05)

    assert isinstance(outcome, Retry)


# ----------------------------------------------------------------------------------------------------------------- logs


def told_with_logs(numbers):
    """Outbox rows of one failure each: its span, and its three execution lines as log records."""
    spans = [failure_spans(failure(number, lines=3), SpanOptions(events="logs")) for number in numbers]
    return [batch for each in spans for batch in pack([each])]


class LogWorld(World):
    """A second outbox beside the first, for logs."""

    def __init__(self, ledger, receiver):
        super().__init__(ledger, receiver)
        self.log_sender = connect(read_settings(OtlpSettings(endpoint=receiver.url, signal="logs", timeout_s=5), {}))
        self.log_outbox = Outbox(
            ledger, self.log_sender, self.counts,
            max_bytes=1 << 30, signal="logs", clock=self.clock, jitter=lambda: 1.0,
        )  # fmt: skip

    def work_for(self, seconds):
        until_s = self.clock.now_s + seconds
        while self.clock.now_s < until_s:
            self.clock.now_s += max(0.001, min(self.outbox.work(), self.log_outbox.work()))


@pytest.fixture
def both(ledger, receiver):
    world = LogWorld(ledger, receiver)
    yield world
    world.sender.close()
    world.log_sender.close()


def test_log_records_arrive_beside_their_spans_each_once(both):
    both.store(told_with_logs(range(20)))

    both.work_for(5)

    assert event_numbers(both.receiver.spans) == list(range(20))
    spans = {(span.trace_id, span.span_id) for span in both.receiver.spans}
    assert Counter((record.trace_id, record.span_id) for record in both.receiver.records) == dict.fromkeys(spans, 3)
    assert both.counts.of == {"sent": 20, "log records sent": 60}
    assert both.ledger.outbox_stats().rows == 0


def test_a_receiver_of_traces_only_gets_the_spans_and_the_log_records_wait(both):
    both.receiver.takes_logs = False
    both.store(told_with_logs(range(20)))

    both.work_for(3600)
    waiting = both.ledger.outbox_stats()
    both.receiver.takes_logs = True
    both.work_for(121)

    assert (waiting.spans, waiting.log_records) == (0, 60)
    assert both.counts.of == {"sent": 20, "log records sent": 60}
    assert len(both.receiver.records) == 60


def test_a_poisonous_log_record_is_isolated_and_set_aside(both):
    both.receiver.poison_record = lambda record: record.at_ns // 1_000_000 == T + 7
    both.store(told_with_logs(range(20)))

    both.work_for(600)

    # Three failures have a line at that instant.
    assert len(both.receiver.records) == 57
    assert both.counts.of == {"sent": 20, "log records sent": 57, "log records refused": 3}
    assert both.ledger.outbox_stats().rows == 0


def test_beyond_the_bound_spans_and_log_records_go_together_and_are_counted_apart(both):
    batches = told_with_logs(range(50))
    both.outbox = both.make(max_bytes=sum(len(batch.body) for batch in batches[60:]))
    both.receiver.always = Answer(status=503)
    both.store(batches)

    both.work_for(1)

    assert both.counts.of == {"outbox_full": 30, "log records outbox_full": 90}


def test_the_flush_of_a_signal_is_done_when_its_own_rows_are_gone(both):
    both.receiver.takes_logs = False
    both.store(told_with_logs([1]))

    assert both.outbox.flush(5)
    assert not both.log_outbox.flush(5)


# ------------------------------------------------------------------------------------------------------------- settings


@pytest.mark.parametrize(
    ("asked", "environ", "endpoint"),
    [
        ("http://tempo:4318", {}, "http://tempo:4318/v1/traces"),
        ("http://tempo:4318/", {}, "http://tempo:4318/v1/traces"),
        ("https://t.example.com/otlp/v1/traces", {}, "https://t.example.com/otlp/v1/traces"),
        (None, {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://c:4318/otlp"}, "http://c:4318/otlp/v1/traces"),
        (None, {"OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": "http://c:4318/mine"}, "http://c:4318/mine"),
        (None, {"OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": "http://c:4318"}, "http://c:4318/"),
        (None, {"OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": "http://a/x", "OTEL_EXPORTER_OTLP_ENDPOINT": "http://b"}, "http://a/x"),
        ("http://mine:1", {"OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": "http://theirs:2/x"}, "http://mine:1/v1/traces"),
        (None, {"OTEL_EXPORTER_OTLP_ENDPOINT": "c:4317", "OTEL_EXPORTER_OTLP_PROTOCOL": "grpc"}, "https://c:4317"),
        (None, {"OTEL_EXPORTER_OTLP_ENDPOINT": "c", "OTEL_EXPORTER_OTLP_PROTOCOL": "grpc", "OTEL_EXPORTER_OTLP_INSECURE": "true"}, "http://c:4317"),
    ],
)  # fmt: skip
def test_endpoints_are_read_as_the_specification_says_and_the_configuration_wins(asked, environ, endpoint):
    assert read_settings(OtlpSettings(endpoint=asked), environ).endpoint == endpoint


@pytest.mark.parametrize(
    ("asked", "environ", "endpoint"),
    [
        ("http://c:4318", {}, "http://c:4318/v1/logs"),
        ("https://c/otlp/v1/traces", {}, "https://c/otlp/v1/logs"),
        ("http://c/mine", {"OTEL_EXPORTER_OTLP_LOGS_ENDPOINT": "http://l/x"}, "http://l/x"),
        ("http://c:4318", {"OTEL_EXPORTER_OTLP_LOGS_ENDPOINT": "http://l/x"}, "http://c:4318/v1/logs"),
        (None, {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://c:4318/otlp"}, "http://c:4318/otlp/v1/logs"),
        (None, {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://c", "OTEL_EXPORTER_OTLP_LOGS_ENDPOINT": "http://l/x"}, "http://l/x"),
        (None, {"OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": "http://c:4318/v1/traces"}, None),
        (None, {"OTEL_EXPORTER_OTLP_LOGS_ENDPOINT": "c", "OTEL_EXPORTER_OTLP_LOGS_PROTOCOL": "grpc"}, "https://c:4317"),
    ],
)  # fmt: skip
def test_log_records_have_an_address_of_their_own(asked, environ, endpoint):
    settings = read_settings(OtlpSettings(endpoint=asked, signal="logs"), environ)

    assert (settings and settings.endpoint) == endpoint


def test_an_address_of_traces_that_names_none_for_logs_is_refused():
    with pytest.raises(OtlpError, match="OTEL_EXPORTER_OTLP_LOGS_ENDPOINT"):
        read_settings(OtlpSettings(endpoint="http://c/mine", signal="logs"), {})


@pytest.mark.parametrize("environ", [{"OTEL_SDK_DISABLED": "true"}, {"OTEL_TRACES_EXPORTER": "none"}])
def test_the_environment_can_switch_traces_off(environ):
    assert read_settings(OtlpSettings(), {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://c:4318", **environ}) is None


@pytest.mark.parametrize(
    ("endpoint", "environ", "proxy"),
    [
        ("http://c:4318", {"http_proxy": "http://p:3128"}, "http://p:3128"),
        ("https://c:4318", {"HTTPS_PROXY": "http://p:3128", "http_proxy": "http://q"}, "http://p:3128"),
        ("https://c:4318", {"ALL_PROXY": "p:3128"}, "http://p:3128"),
        ("https://c:4318", {"http_proxy": "http://p"}, None),
        ("http://c:4318", {"http_proxy": "http://p", "no_proxy": "x, c"}, None),
        ("http://c.internal:4318", {"http_proxy": "http://p", "NO_PROXY": ".internal"}, None),
        ("http://c.internal:4318", {"http_proxy": "http://p", "NO_PROXY": "ternal"}, "http://p"),
        ("http://c:4318", {"http_proxy": "http://p", "no_proxy": "*"}, None),
    ],
)
def test_a_proxy_is_found_as_other_programs_find_it(endpoint, environ, proxy):
    assert read_settings(OtlpSettings(endpoint=endpoint), environ).proxy == proxy


def test_everything_else_comes_from_the_environment_unless_configured():
    environ = {
        "OTEL_EXPORTER_OTLP_ENDPOINT": "http://c:4318",
        "OTEL_EXPORTER_OTLP_HEADERS": "x-scope-orgid=one,authorization=Basic%20abc%3D",
        "OTEL_EXPORTER_OTLP_TIMEOUT": "2500",
        "OTEL_EXPORTER_OTLP_TRACES_COMPRESSION": "none",
        "OTEL_EXPORTER_OTLP_CERTIFICATE": "ca.pem",
        "OTEL_EXPORTER_OTLP_CLIENT_CERTIFICATE": "cert.pem",
        "OTEL_EXPORTER_OTLP_CLIENT_KEY": "key.pem",
    }

    by_environment = read_settings(OtlpSettings(), environ)
    configured = read_settings(
        OtlpSettings(headers={"x": "y"}, timeout_s=1, compression="gzip", ca_file="mine.pem"), environ
    )

    assert by_environment == OtlpSettings(
        endpoint="http://c:4318/v1/traces", protocol="http", headers={"x-scope-orgid": "one", "authorization": "Basic abc="},
        timeout_s=2.5, compression="none", ca_file="ca.pem", cert_file="cert.pem", key_file="key.pem",
    )  # fmt: skip
    assert (configured.headers, configured.timeout_s, configured.compression, configured.ca_file) == (
        {"x": "y"},
        1,
        "gzip",
        "mine.pem",
    )


def test_without_an_endpoint_nothing_is_to_be_sent():
    assert read_settings(OtlpSettings(), {}) is None


@pytest.mark.parametrize(
    "environ",
    [
        {"OTEL_EXPORTER_OTLP_PROTOCOL": "http/json"},
        {"OTEL_EXPORTER_OTLP_COMPRESSION": "zstd"},
        {"OTEL_EXPORTER_OTLP_TIMEOUT": "10s"},
        {"OTEL_EXPORTER_OTLP_HEADERS": "secret-without-name"},
        {"OTEL_EXPORTER_OTLP_CLIENT_KEY": "key.pem"},
        {"OTEL_EXPORTER_OTLP_ENDPOINT": "collector:4318"},
        {"http_proxy": "socks5://me:secret-without-name@p:1080"},
    ],
)
def test_a_setting_that_cannot_be_used_is_named_and_no_header_is_shown(environ):
    with pytest.raises(OtlpError) as refused:
        read_settings(OtlpSettings(), {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://c:4318", **environ})

    assert re.search("OTLP|http_proxy", str(refused.value))
    assert "secret-without-name" not in str(refused.value)


def test_resource_attributes_are_read_percent_encoded():
    environ = {"OTEL_RESOURCE_ATTRIBUTES": "deployment.environment.name=live, team=pay%2Cments"}

    assert resource_attributes(environ) == (("deployment.environment.name", "live"), ("team", "pay,ments"))
    assert resource_attributes({}) == ()


@pytest.mark.parametrize(("compression", "encoding"), [("gzip", "gzip"), ("none", None)])
def test_headers_and_compression_arrive(receiver, compression, encoding):
    settings = OtlpSettings(endpoint=receiver.url, headers={"x-scope-orgid": "one"}, compression=compression)
    sender = connect(read_settings(settings, {}))

    outcome = sender.send(gzip.decompress(rows_of([1])[0].body))
    sender.close()

    assert outcome == Delivered()
    assert receiver.requests[0].headers.get("content-encoding") == encoding
    assert receiver.requests[0].headers["x-scope-orgid"] == "one"


class ForwardProxy(BaseHTTPRequestHandler):
    """Takes a request to anywhere, remembers it, and passes it on to the one receiver there is."""

    def do_POST(self):
        self.server.seen.append((self.path, self.headers.get("proxy-authorization")))
        body = self.rfile.read(int(self.headers["content-length"]))
        onward = HTTPConnection("127.0.0.1", self.server.receiver_port)
        onward.request("POST", "/v1/traces", body, {k: v for k, v in self.headers.items() if k.lower() != "host"})
        answer = onward.getresponse()
        taken = answer.read()
        self.send_response(answer.status)
        self.send_header("content-length", str(len(taken)))
        self.end_headers()
        self.wfile.write(taken)
        onward.close()

    def log_message(self, *args):
        pass


def test_spans_take_the_way_through_a_proxy(receiver):
    server = HTTPServer(("127.0.0.1", 0), ForwardProxy)
    server.seen, server.receiver_port = [], int(receiver.url.rpartition(":")[2])
    threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()
    environ = {"http_proxy": f"http://me:s3cret%21@127.0.0.1:{server.server_port}"}
    sender = connect(read_settings(OtlpSettings(endpoint="http://collector.internal:4318"), environ))

    outcome = sender.send(gzip.decompress(rows_of([1])[0].body))
    sender.close()
    server.shutdown()
    server.server_close()

    assert outcome == Delivered()
    assert server.seen == [("http://collector.internal:4318/v1/traces", "Basic bWU6czNjcmV0IQ==")]
    assert event_numbers(receiver.spans) == [1]


# ------------------------------------------------------------------------------------------------------------ TLS, gRPC


@pytest.fixture(scope="module")
def certificate(tmp_path_factory):
    """A key and a self-signed certificate of 127.0.0.1, good for both sides."""
    folder = tmp_path_factory.mktemp("tls")
    key, cert = folder / "key.pem", folder / "cert.pem"
    subprocess.run(
        [
            *("openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=127.0.0.1"),
            *("-addext", "subjectAltName=IP:127.0.0.1", "-keyout", str(key), "-out", str(cert)),
        ],
        check=True,
        capture_output=True,
    )
    return str(key), str(cert)


def test_tls_with_client_certificates(certificate):
    key, cert = certificate
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    server.load_cert_chain(cert, key)
    server.load_verify_locations(cert)
    server.verify_mode = ssl.CERT_REQUIRED
    body = gzip.decompress(rows_of([1])[0].body)
    with OtlpReceiver(tls=server) as receiver:
        known = connect(
            read_settings(OtlpSettings(endpoint=receiver.url, ca_file=cert, cert_file=cert, key_file=key), {})
        )
        strange = connect(read_settings(OtlpSettings(endpoint=receiver.url), {}))
        missing = connect(read_settings(OtlpSettings(endpoint=receiver.url, ca_file="/nowhere/ca.pem"), {}))

        outcomes = [sender.send(body) for sender in (known, strange, missing)]

    assert outcomes[0] == Delivered()
    assert isinstance(outcomes[1], Retry)
    assert isinstance(outcomes[2], Retry)
    assert event_numbers(receiver.spans) == [1]


class GrpcReceiver:
    """A gRPC receiver of traces and logs: takes them unless `answers` says otherwise."""

    def __init__(self, credentials=None):
        self.spans, self.records, self.answers, self.metadata = [], [], [], []
        self._server = grpc.server(futures.ThreadPoolExecutor(1))
        self._serve("trace.v1.TraceService", self._take_spans, ExportTraceServiceRequest, ExportTraceServiceResponse)
        self._serve("logs.v1.LogsService", self._take_records, ExportLogsServiceRequest, ExportLogsServiceResponse)
        if credentials is None:
            self.url = f"http://127.0.0.1:{self._server.add_insecure_port('127.0.0.1:0')}"
        else:
            self.url = f"https://127.0.0.1:{self._server.add_secure_port('127.0.0.1:0', credentials)}"

    def _serve(self, service, method, request, response):
        handler = grpc.unary_unary_rpc_method_handler(method, request.FromString, response.SerializeToString)
        self._server.add_generic_rpc_handlers(
            [grpc.method_handlers_generic_handler(f"opentelemetry.proto.collector.{service}", {"Export": handler})]
        )

    def _take_spans(self, request, context):
        self._answer(context)
        self.spans += decode_spans(request.SerializeToString())
        return ExportTraceServiceResponse(partial_success={"rejected_spans": 2})

    def _take_records(self, request, context):
        self._answer(context)
        self.records += decode_records(request.SerializeToString())
        return ExportLogsServiceResponse(partial_success={"rejected_log_records": 1})

    def _answer(self, context):
        self.metadata.append(dict(context.invocation_metadata()))
        if self.answers:
            code, said, *details = self.answers.pop(0)
            context.set_trailing_metadata([("grpc-status-details-bin", detail) for detail in details])
            context.abort(code, said)

    def __enter__(self):
        self._server.start()
        return self

    def __exit__(self, *exc):
        self._server.stop(None).wait()


@pytest.fixture
def grpc_receiver():
    with GrpcReceiver() as receiver:
        yield receiver


def test_grpc_delivers_and_tells_refusal_from_outage(grpc_receiver):
    settings = OtlpSettings(endpoint=grpc_receiver.url, protocol="grpc", headers={"X-Tenant": "one"})
    sender = connect(read_settings(settings, {}))
    body = gzip.decompress(rows_of(range(3), a_row=3)[0].body)
    grpc_receiver.answers += [
        (grpc.StatusCode.UNAVAILABLE, "starting"),
        (grpc.StatusCode.INVALID_ARGUMENT, "password=hunter2hunter2"),
    ]

    outcomes = [sender.send(body) for _ in range(3)]
    sender.close()

    assert outcomes == [
        Retry(reason="UNAVAILABLE: starting"),
        Refused(status="INVALID_ARGUMENT", message="password=[redacted]"),
        Delivered(rejected=2),
    ]
    assert event_numbers(grpc_receiver.spans) == [0, 1, 2]
    assert grpc_receiver.metadata[-1]["x-tenant"] == "one"


def test_grpc_delivers_log_records_to_their_own_service(grpc_receiver):
    settings = OtlpSettings(endpoint=grpc_receiver.url, signal="logs", protocol="grpc", compression="none")
    sender = connect(read_settings(settings, {}))
    (_, batch) = told_with_logs([7])

    outcome = sender.send(gzip.decompress(batch.body))
    sender.close()

    assert outcome == Delivered(rejected=1)
    assert [record.body for record in grpc_receiver.records] == ["line 0", "line 1", "line 2"]


def status_with(*details):
    """A serialized `google.rpc.Status`: code 8, a message, and details of type `Any`."""
    fields = b"\x08\x08\x12\x04busy"
    for detail in details:
        fields += b"\x1a" + bytes([detail.ByteSize()]) + detail.SerializeToString()
    return fields


def retry_info(seconds, nanos=0):
    delay = Duration(seconds=seconds, nanos=nanos).SerializeToString()
    value = b"\x0a" + bytes([len(delay)]) + delay
    return AnyMessage(type_url="type.googleapis.com/google.rpc.RetryInfo", value=value)


@pytest.mark.parametrize(
    ("details", "after_s"),
    [
        ([status_with(retry_info(7, 500_000_000))], 7.5),
        ([status_with(AnyMessage(type_url="type.googleapis.com/x", value=b"y" * 90), retry_info(300))], 300.0),
        ([status_with(retry_info(0))], 0.0),
        ([status_with()], None),
        ([b"type.googleapis.com/google.rpc.RetryInfo\x12\x05\x0a\x03\xff\xff"], None),
        ([], None),
    ],
)
def test_grpc_waits_as_long_as_retry_info_asks(grpc_receiver, details, after_s):
    sender = connect(read_settings(OtlpSettings(endpoint=grpc_receiver.url, protocol="grpc"), {}))
    grpc_receiver.answers.append((grpc.StatusCode.RESOURCE_EXHAUSTED, "busy", *details))

    outcome = sender.send(gzip.decompress(rows_of([1])[0].body))
    sender.close()

    assert outcome == Retry(reason="RESOURCE_EXHAUSTED: busy", after_s=after_s)


def test_grpc_over_tls_with_client_certificates(certificate):
    key, cert = (Path(name).read_bytes() for name in certificate)
    key_file, cert_file = certificate
    credentials = grpc.ssl_server_credentials([(key, cert)], root_certificates=cert, require_client_auth=True)
    body = gzip.decompress(rows_of([1])[0].body)
    with GrpcReceiver(credentials) as receiver:
        environ = {"OTEL_EXPORTER_OTLP_ENDPOINT": receiver.url, "OTEL_EXPORTER_OTLP_PROTOCOL": "grpc"}
        ca = {"OTEL_EXPORTER_OTLP_CERTIFICATE": cert_file}
        ours = {"OTEL_EXPORTER_OTLP_CLIENT_CERTIFICATE": cert_file, "OTEL_EXPORTER_OTLP_CLIENT_KEY": key_file}
        senders = [
            connect(read_settings(OtlpSettings(timeout_s=5), {**environ, **more})) for more in (ca | ours, ca, {})
        ]

        known, nobody, trusting_others = [sender.send(body) for sender in senders]
        for sender in senders:
            sender.close()

    assert known == Delivered(rejected=2)
    assert isinstance(nobody, Retry)
    assert isinstance(trusting_others, Retry)
    assert event_numbers(receiver.spans) == [1]
