"""The demo's traces in a real Jaeger, read back through its API: the right trees, order, durations and tags.

And from a real Prometheus to them: the exemplars it stores lead to traces that are there. Jaeger is not installed
here: its binary is the one that `JAEGER` names, or `jaeger-all-in-one` on PATH or in Go's bin.
"""

import json
import os
import shutil
import socket
import subprocess
import sys
import threading
import time
import urllib.parse
import urllib.request
from collections import defaultdict
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest
import yaml
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.common.v1.common_pb2 import AnyValue, KeyValue
from opentelemetry.proto.resource.v1.resource_pb2 import Resource
from opentelemetry.proto.trace.v1.trace_pb2 import ResourceSpans, ScopeSpans, Span

from exporter.sources.demo.stages import STAGES, outcomes
from exporter.waterfall import Phase

pytestmark = [pytest.mark.process, pytest.mark.servers]

ROOT = Path(__file__).parent.parent
PATIENCE_S = 150
PHASES = [str(phase) for phase in Phase]


def binary():
    """Where Jaeger is; a missing one is a failure, not a skip."""
    gobin = os.environ.get("GOBIN") or Path(os.environ.get("GOPATH") or Path.home() / "go") / "bin"
    found = os.environ.get("JAEGER") or shutil.which(
        "jaeger-all-in-one", path=f"{os.environ['PATH']}{os.pathsep}{gobin}"
    )
    if not found or not Path(found).exists():
        pytest.fail("there is no Jaeger: build its `cmd/all-in-one` and say in JAEGER where the binary is")
    return found


def free_ports(count):
    with ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(count)]
        for each in sockets:
            each.bind(("127.0.0.1", 0))
        return [each.getsockname()[1] for each in sockets]


@contextmanager
def running(command, environ, log):
    with log.open("w") as out:
        process = subprocess.Popen(command, env=environ, stdout=out, stderr=subprocess.STDOUT, cwd=ROOT)
    try:
        yield process
    finally:
        process.terminate()
        try:
            process.wait(timeout=20)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def until(ask, what, patience_s=PATIENCE_S):
    """Ask again and again for what other processes need time for."""
    deadline = time.monotonic() + patience_s
    while not (answer := ask()):
        assert time.monotonic() < deadline, f"not within {patience_s} s: {what}"
        threading.Event().wait(0.5)
    return answer


class Jaeger:
    """Its API, and where it takes spans."""

    def __init__(self, query_port, otlp_port):
        self.otlp = f"http://127.0.0.1:{otlp_port}"
        self._query = f"http://127.0.0.1:{query_port}"

    def get(self, path, **parameters):
        url = f"{self._query}{path}?{urllib.parse.urlencode(parameters)}"
        with urllib.request.urlopen(url, timeout=10) as answer:
            return json.load(answer)["data"] or []

    def is_up(self):
        try:
            self.get("/api/services")
        except OSError:
            return False
        return True

    def of_the_demo(self):
        return [trace for stage in STAGES for trace in self.traces(stage.api_name)]

    def traces(self, service, **parameters):
        return [
            Trace(data) for data in self.get("/api/traces", service=service, limit=5000, lookback="2h", **parameters)
        ]


class Trace:
    def __init__(self, data):
        self.id = data["traceID"]
        self.processes = data["processes"]
        self.spans = sorted((Shown(span) for span in data["spans"]), key=lambda span: span.start_us)
        self.roots = [span for span in self.spans if span.tags["span.kind"] == "server"]

    def children_of(self, parent):
        return [span for span in self.spans if span.parent_id == parent.id]


class Shown:
    """A span as Jaeger shows it."""

    def __init__(self, data):
        self.id = data["spanID"]
        self.name = data["operationName"]
        self.start_us, self.duration_us = data["startTime"], data["duration"]
        self.end_us = self.start_us + self.duration_us
        self.parent_id = next((ref["spanID"] for ref in data["references"] if ref["refType"] == "CHILD_OF"), None)
        self.tags = {tag["key"]: tag["value"] for tag in data["tags"]}
        self.logs = [
            (log["timestamp"], {field["key"]: field["value"] for field in log["fields"]}) for log in data["logs"]
        ]
        self.warnings = data["warnings"]


@pytest.fixture(scope="module")
def jaeger(tmp_path_factory):
    names = (
        *("query.http-server", "query.grpc-server", "admin.http", "collector.otlp.http", "collector.otlp.grpc"),
        *("collector.http-server", "collector.grpc-server"),
    )
    ports = dict(zip(names, free_ports(len(names)), strict=True))
    options = [f"--{name}.host-port=127.0.0.1:{port}" for name, port in ports.items()]
    log = tmp_path_factory.mktemp("jaeger") / "jaeger.log"
    with running([binary(), *options], {**os.environ, "SPAN_STORAGE_TYPE": "memory"}, log):
        jaeger = Jaeger(ports["query.http-server"], ports["collector.otlp.http"])
        until(jaeger.is_up, "Jaeger answers", 30)
        yield jaeger


@pytest.fixture(scope="module")
def demo(jaeger, tmp_path_factory):
    """The demo, running; where its metrics are."""
    (port,) = free_ports(1)
    environ = {**os.environ, "OTEL_EXPORTER_OTLP_ENDPOINT": jaeger.otlp}
    command = [sys.executable, "-m", "exporter", "demo", "--web.listen-address", f"127.0.0.1:{port}"]
    with running(command, environ, tmp_path_factory.mktemp("demo") / "demo.log"):
        yield f"127.0.0.1:{port}"


@pytest.fixture(scope="module")
def shown(jaeger, demo):
    """Every trace that Jaeger has of the demo, once it has one of every cause."""
    expected = {outcome.cause for outcome in outcomes() if outcome.cause is not None}

    def all_causes():
        traces = jaeger.of_the_demo()
        missing = expected - {root.tags["apigateway.cause"] for trace in traces for root in trace.roots}
        return traces if not missing else None

    return until(all_causes, "a trace of every cause")


def test_a_request_is_one_trace_with_its_phases_beneath_it_in_order(shown):
    for trace in shown:
        (root,) = trace.roots
        children = trace.children_of(root)
        assert len(trace.spans) == 1 + len(children), "every span is the root or hangs on it"
        names = [child.name for child in children]
        assert names == [phase for phase in PHASES if phase in names]
        free_us = root.start_us
        for child in children:
            assert free_us <= child.start_us, "no phase overlaps the one before it"
            free_us = child.end_us
        assert free_us <= root.end_us
        assert sum(child.duration_us for child in children) <= root.duration_us
        assert [root.parent_id] == [None] or root.warnings, "only a parent of the caller's is missing in Jaeger"
    requests = [trace.roots[0].tags["apigateway.request_id"] for trace in shown]
    assert len(requests) == len(set(requests)), "lines that arrived in two polls are one trace"


def test_a_timeout_of_29_seconds_shows_29_seconds_in_the_integration(shown):
    timeouts = [trace for trace in shown if trace.roots[0].tags["apigateway.cause"] == "integration_timeout"]

    assert timeouts
    for trace in timeouts:
        root = trace.roots[0]
        (integration,) = [span for span in trace.spans if span.name == "integration"]
        assert 28_900_000 <= integration.duration_us <= 29_500_000
        assert integration.duration_us <= root.duration_us <= 30_500_000
        assert (integration.tags["error"], integration.tags["error.type"]) == (True, "integration_timeout")
        assert integration.tags["span.kind"] == "client"
        assert (root.tags["error"], root.tags["http.response.status_code"]) == (True, 504)


def test_every_cause_carries_its_status_and_only_the_servers_failures_are_errors(shown):
    statuses = defaultdict(set)
    for outcome in outcomes():
        statuses[outcome.cause].add(outcome.status)
    for trace in shown:
        tags = trace.roots[0].tags
        status = tags["http.response.status_code"]
        assert status in statuses[tags["apigateway.cause"]]
        assert tags.get("error", False) == (status >= 500)
        assert tags["otel.scope.name"] == "apigateway-exporter"


def test_execution_lines_are_events_in_order(shown):
    told = [trace.roots[0] for trace in shown if trace.roots[0].logs]

    assert len(told) > 20
    for root in told:
        times = [at_us for at_us, _ in root.logs]
        assert times == sorted(times)
        assert root.start_us - 1_000_000 <= times[0]
        assert times[-1] <= root.end_us + 1_000_000, "only trailers are written after the response"
        assert all(fields["event"].startswith("apigateway.") and fields["apigateway.text"] for _, fields in root.logs)


def test_a_customers_request_id_finds_the_trace(jaeger, shown):
    trace = next(trace for trace in shown if trace.roots[0].tags["apigateway.cause"] == "lambda_error")
    service = next(iter(trace.processes.values()))["serviceName"]
    for key in ("apigateway.request_id", "apigateway.extended_request_id"):
        tags = json.dumps({key: trace.roots[0].tags[key]})
        assert [found.id for found in jaeger.traces(service, tags=tags)] == [trace.id]


def test_a_failure_hangs_on_its_callers_span(jaeger, shown):
    """The caller's own span arrives, as it would from the caller's tracing."""
    joined = next(trace for trace in shown if trace.roots[0].parent_id is not None)
    root = joined.roots[0]
    caller = Span(
        trace_id=bytes.fromhex(joined.id.zfill(32)),
        span_id=bytes.fromhex(root.parent_id.zfill(16)),
        name="checkout",
        kind=Span.SPAN_KIND_CLIENT,
        start_time_unix_nano=(root.start_us - 5_000) * 1000,
        end_time_unix_nano=(root.end_us + 5_000) * 1000,
    )
    service = KeyValue(key="service.name", value=AnyValue(string_value="shop"))
    request = ExportTraceServiceRequest(
        resource_spans=[
            ResourceSpans(resource=Resource(attributes=[service]), scope_spans=[ScopeSpans(spans=[caller])])
        ]
    )
    sending = urllib.request.Request(
        f"{jaeger.otlp}/v1/traces", request.SerializeToString(), {"content-type": "application/x-protobuf"}
    )
    urllib.request.urlopen(sending, timeout=10).close()

    (data,) = jaeger.get(f"/api/traces/{joined.id}")
    trace = Trace(data)
    (above,) = [span for span in trace.spans if span.parent_id is None]
    assert above.name == "checkout"
    assert [span.id for span in trace.children_of(above)] == [root.id]
    assert not any(span.warnings for span in trace.spans)


def test_exemplars_in_prometheus_lead_to_traces_in_jaeger(jaeger, demo, shown, tmp_path):
    """A real Prometheus with exemplar storage; what it holds is what the counters said when it scraped."""
    prometheus = shutil.which("prometheus")
    if prometheus is None:
        pytest.fail("there is no `prometheus` on PATH")
    scrape = {"job_name": "apigateway", "scrape_interval": "1s", "static_configs": [{"targets": [demo]}]}
    file = tmp_path / "prometheus.yml"
    file.write_text(yaml.safe_dump({"scrape_configs": [scrape]}))
    (port,) = free_ports(1)
    command = [
        *(prometheus, f"--config.file={file}", f"--storage.tsdb.path={tmp_path / 'data'}"),
        *(f"--web.listen-address=127.0.0.1:{port}", "--enable-feature=exemplar-storage"),
    ]

    def exemplars():
        now = time.time()
        query = {"query": "aws_apigateway_failed_requests_total", "start": now - 3600, "end": now}
        url = f"http://127.0.0.1:{port}/api/v1/query_exemplars?{urllib.parse.urlencode(query)}"
        try:
            with urllib.request.urlopen(url, timeout=10) as answer:
                return json.load(answer)["data"]
        except OSError:
            return []

    with running(command, dict(os.environ), tmp_path / "prometheus.log"):
        held = until(lambda: (found := exemplars()) and len(found) > 20 and found, "exemplars of twenty series")

        def all_their_traces():
            # A count is shown when it is committed; its spans leave within the next second or two.
            traces = {trace.id.zfill(32): trace for trace in jaeger.of_the_demo()}
            wanted = {exemplar["labels"]["trace_id"] for series in held for exemplar in series["exemplars"]}
            return traces if wanted <= traces.keys() else None

        traces = until(all_their_traces, "the trace of every exemplar", 20)

    for series in held:
        for exemplar in series["exemplars"]:
            root = traces[exemplar["labels"]["trace_id"]].roots[0]
            assert root.id.zfill(16) == exemplar["labels"]["span_id"]
            assert root.tags["apigateway.cause"] == series["seriesLabels"]["cause"]
            assert root.start_us / 1e6 == pytest.approx(exemplar["timestamp"], abs=0.01), "the request's own time"
