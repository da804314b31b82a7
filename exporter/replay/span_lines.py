"""Spans in OTLP's JSON, one request a line: what the collector's `otlpjsonfile` receiver and people's tools read.

OTLP's JSON is protobuf's, but for ids in hexadecimal and enumerations as numbers.
"""

import base64
import gzip
import json

from google.protobuf.json_format import MessageToDict  # type: ignore[import-untyped]
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from exporter.model import OutboxRow

_IDS = frozenset({"traceId", "spanId", "parentSpanId"})


def span_lines(row: OutboxRow) -> str:
    """One row of the outbox as a line of JSON, without a line end."""
    kind = ExportTraceServiceRequest if row.signal == "traces" else ExportLogsServiceRequest
    message = kind.FromString(gzip.decompress(row.body))
    return json.dumps(_with_hex_ids(MessageToDict(message, use_integers_for_enums=True)), ensure_ascii=False)


def _with_hex_ids(value: object) -> object:
    if isinstance(value, dict):
        return {
            key: base64.b64decode(inner).hex() if key in _IDS and isinstance(inner, str) else _with_hex_ids(inner)
            for key, inner in value.items()
        }
    return [_with_hex_ids(inner) for inner in value] if isinstance(value, list) else value
