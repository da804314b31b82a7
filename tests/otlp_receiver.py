"""A real OTLP/HTTP receiver of traces and logs on loopback: decodes and records what it is sent, misbehaves on request.

In a test: `with OtlpReceiver() as receiver: …`; set `receiver.poison`, `receiver.rejects` or `receiver.answers` to make it
difficult. For tests of whole processes: `python tests/otlp_receiver.py --port 4318 --out spans.jsonl` appends one JSON
object per span received.
"""

import argparse
import gzip
import json
import ssl
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Self

from google.protobuf.message import DecodeError  # type: ignore[import-untyped]
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest, ExportLogsServiceResponse
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import (
    ExportTraceServiceRequest,
    ExportTraceServiceResponse,
)
from opentelemetry.proto.common.v1.common_pb2 import AnyValue, KeyValue
from opentelemetry.proto.logs.v1.logs_pb2 import SeverityNumber
from opentelemetry.proto.trace.v1.trace_pb2 import Span, Status

Attribute = str | int | bool | float | list["Attribute"] | None


@dataclass(frozen=True, kw_only=True)
class ReceivedEvent:
    at_ns: int
    name: str
    attributes: dict[str, Attribute]


@dataclass(frozen=True, kw_only=True)
class ReceivedLink:
    trace_id: str
    span_id: str
    attributes: dict[str, Attribute]


@dataclass(frozen=True, kw_only=True)
class ReceivedSpan:
    """A span as a backend would show it: ids in hexadecimal, enumerations by name, attributes as plain values."""

    trace_id: str
    span_id: str
    parent_span_id: str
    flags: int
    name: str
    kind: str
    start_ns: int
    end_ns: int
    status: str
    status_message: str
    attributes: dict[str, Attribute]
    events: list[ReceivedEvent]
    dropped_events: int
    links: list[ReceivedLink]
    resource: dict[str, Attribute]
    scope: str
    schema_url: str


@dataclass(frozen=True, kw_only=True)
class ReceivedRecord:
    """A log record likewise."""

    trace_id: str
    span_id: str
    at_ns: int
    name: str
    severity: str
    body: Attribute
    attributes: dict[str, Attribute]
    resource: dict[str, Attribute]
    scope: str
    schema_url: str


@dataclass(frozen=True, kw_only=True)
class Answer:
    """What to answer a request instead of taking it."""

    status: int
    headers: Mapping[str, str] = field(default_factory=dict)
    body: bytes = b""
    delay_s: float = 0.0


@dataclass(frozen=True, kw_only=True)
class ReceivedRequest:
    """One request, whatever came of it."""

    path: str
    headers: dict[str, str]
    spans: list[ReceivedSpan]
    status: int
    records: list[ReceivedRecord] = field(default_factory=list)


def decode_records(body: bytes) -> list[ReceivedRecord]:
    """Read a serialized `ExportLogsServiceRequest`."""
    return [
        ReceivedRecord(
            trace_id=record.trace_id.hex(),
            span_id=record.span_id.hex(),
            at_ns=record.time_unix_nano,
            name=record.event_name,
            severity=SeverityNumber.Name(record.severity_number).removeprefix("SEVERITY_NUMBER_"),
            body=_value(record.body),
            attributes=_plain(record.attributes),
            resource=_plain(of_resource.resource.attributes),
            scope=of_scope.scope.name,
            schema_url=of_scope.schema_url,
        )
        for of_resource in ExportLogsServiceRequest.FromString(body).resource_logs
        for of_scope in of_resource.scope_logs
        for record in of_scope.log_records
    ]


def decode_spans(body: bytes) -> list[ReceivedSpan]:
    """Read a serialized `ExportTraceServiceRequest`."""
    request = ExportTraceServiceRequest.FromString(body)
    return [
        _span(span, _plain(of_resource.resource.attributes), of_scope.scope.name, of_scope.schema_url)
        for of_resource in request.resource_spans
        for of_scope in of_resource.scope_spans
        for span in of_scope.spans
    ]


class OtlpReceiver:
    """The receiver. `spans` and `records` are those it took; `requests` are all it saw."""

    def __init__(
        self,
        port: int = 0,
        tls: ssl.SSLContext | None = None,
        decode: Callable[[bytes], list[ReceivedSpan]] = decode_spans,
    ) -> None:
        self.spans: list[ReceivedSpan] = []
        self.records: list[ReceivedRecord] = []
        self.poison_record: Callable[[ReceivedRecord], bool] = lambda record: False
        self.takes_logs = True
        """Whether `/v1/logs` exists: Jaeger and Tempo take traces only."""
        self.requests: list[ReceivedRequest] = []
        self.poison: Callable[[ReceivedSpan], bool] = lambda span: False
        """A request with such a span is answered 400, whole."""
        self.rejects: Callable[[ReceivedSpan], bool] = lambda span: False
        """Such spans are thrown away and told by a partial success."""
        self.answers: deque[Answer] = deque()
        """What to answer the next requests, before behaving normally again."""
        self.always: Answer | None = None
        """What to answer every request, as long as it is set."""
        self.on_span: Callable[[ReceivedSpan], None] = lambda span: None
        self._decode = decode
        self._lock = threading.Lock()
        self._server = _Server(("127.0.0.1", port), _Handler)
        self._server.receiver = self
        self._scheme = "http"
        if tls is not None:
            self._server.socket = tls.wrap_socket(self._server.socket, server_side=True)
            self._scheme = "https"
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)

    @property
    def url(self) -> str:
        """Its base address, as one writes it into `OTEL_EXPORTER_OTLP_ENDPOINT`."""
        return f"{self._scheme}://127.0.0.1:{self._server.server_address[1]}"

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *exc: object) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    def take(self, path: str, headers: dict[str, str], body: bytes) -> Answer:
        """Decide about one request."""
        spans: list[ReceivedSpan] = []
        records: list[ReceivedRecord] = []
        try:
            plain = gzip.decompress(body) if headers.get("content-encoding") == "gzip" else body
            if path.endswith("/v1/logs"):
                records = decode_records(plain)
            else:
                spans = self._decode(plain)
        except (OSError, EOFError, DecodeError):
            answer = Answer(status=400, body=b"this is no ExportTraceServiceRequest")
        else:
            with self._lock:
                answer = self._answer(path, headers, spans, records)
        with self._lock:
            self.requests.append(
                ReceivedRequest(path=path, headers=headers, spans=spans, status=answer.status, records=records)
            )
        return answer

    def _answer(
        self, path: str, headers: Mapping[str, str], spans: Sequence[ReceivedSpan], records: Sequence[ReceivedRecord]
    ) -> Answer:
        if self.answers:
            return self.answers.popleft()
        if self.always is not None:
            return self.always
        if path not in {"/v1/traces", "/v1/logs"} or (path == "/v1/logs" and not self.takes_logs):
            return Answer(status=404)
        if headers.get("content-type") != "application/x-protobuf":
            return Answer(status=415)
        if path == "/v1/logs":
            if any(map(self.poison_record, records)):
                return Answer(status=400)
            self.records += records
            return Answer(status=200, body=ExportLogsServiceResponse().SerializeToString())
        if any(map(self.poison, spans)):
            return Answer(status=400, body=b"a span with password=hunter2hunter2 upset me")
        taken = [span for span in spans if not self.rejects(span)]
        self.spans += taken
        for span in taken:
            self.on_span(span)
        response = ExportTraceServiceResponse()
        if len(taken) < len(spans):
            response.partial_success.rejected_spans = len(spans) - len(taken)
            response.partial_success.error_message = "some spans are too old"
        return Answer(status=200, body=response.SerializeToString())


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    receiver: OtlpReceiver


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    server: _Server

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers.get("content-length", 0)))
        answer = self.server.receiver.take(self.path, {k.lower(): v for k, v in self.headers.items()}, body)
        if answer.delay_s:
            time.sleep(answer.delay_s)  # a receiver that is slow is slow in real time
        try:
            self.send_response_only(answer.status)
            if "date" not in answer.headers:
                self.send_header("date", self.date_time_string())
            for name, value in answer.headers.items():
                self.send_header(name, value)
            self.send_header("content-type", "application/x-protobuf")
            self.send_header("content-length", str(len(answer.body)))
            self.end_headers()
            self.wfile.write(answer.body)
        except OSError:
            self.close_connection = True  # the client lost patience

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - its name in the standard library
        pass


def _span(span: Span, resource: dict[str, Attribute], scope: str, schema_url: str) -> ReceivedSpan:
    return ReceivedSpan(
        trace_id=span.trace_id.hex(),
        span_id=span.span_id.hex(),
        parent_span_id=span.parent_span_id.hex(),
        flags=span.flags,
        name=span.name,
        kind=Span.SpanKind.Name(span.kind).removeprefix("SPAN_KIND_"),
        start_ns=span.start_time_unix_nano,
        end_ns=span.end_time_unix_nano,
        status=Status.StatusCode.Name(span.status.code).removeprefix("STATUS_CODE_"),
        status_message=span.status.message,
        attributes=_plain(span.attributes),
        events=[
            ReceivedEvent(at_ns=event.time_unix_nano, name=event.name, attributes=_plain(event.attributes))
            for event in span.events
        ],
        dropped_events=span.dropped_events_count,
        links=[
            ReceivedLink(trace_id=link.trace_id.hex(), span_id=link.span_id.hex(), attributes=_plain(link.attributes))
            for link in span.links
        ],
        resource=resource,
        scope=scope,
        schema_url=schema_url,
    )


def _plain(attributes: Iterator[KeyValue] | Sequence[KeyValue]) -> dict[str, Attribute]:
    return {pair.key: _value(pair.value) for pair in attributes}


def _value(value: AnyValue) -> Attribute:
    match value.WhichOneof("value"):
        case "array_value":
            return [_value(item) for item in value.array_value.values]
        case None:
            return None
        case kind:
            plain: str | int | bool | float = getattr(value, kind)
            return plain


def main() -> None:
    parser = argparse.ArgumentParser(description="Receive OTLP/HTTP spans and append them to a file as JSON lines.")
    parser.add_argument("--port", type=int, default=4318)
    parser.add_argument("--out", type=Path, required=True)
    arguments = parser.parse_args()
    with arguments.out.open("a", encoding="utf-8") as out, OtlpReceiver(port=arguments.port) as receiver:

        def write(span: ReceivedSpan) -> None:
            out.write(json.dumps(asdict(span)) + "\n")
            out.flush()

        receiver.on_span = write
        print(receiver.url, flush=True)  # noqa: T201 - whoever started it waits for this line
        threading.Event().wait()


if __name__ == "__main__":
    main()
