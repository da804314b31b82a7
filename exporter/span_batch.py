"""Spans and log records in OTLP's wire format: attributes, their resource, and the compressed requests of many.

One failure is a small struct, because it is packed with others of the same API and stage under one resource. What the
spans say is decided elsewhere; nothing here reads a log line.
"""

import gzip
from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import NamedTuple

from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.common.v1.common_pb2 import AnyValue, ArrayValue, InstrumentationScope, KeyValue
from opentelemetry.proto.logs.v1.logs_pb2 import ResourceLogs, ScopeLogs
from opentelemetry.proto.resource.v1.resource_pb2 import Resource
from opentelemetry.proto.trace.v1.trace_pb2 import ResourceSpans, ScopeSpans
from opentelemetry.semconv.attributes.service_attributes import SERVICE_NAME
from opentelemetry.semconv.schemas import Schemas

from exporter.model import UNKNOWN, Api, LogGroup, Signal, SpanBatch
from exporter.protobuf import integer, opening, sized
from exporter.trace_context import SpanIds

# Conventions that are not stable yet: written out here, checked by a test against the package that defines them.
AWS_LOG_GROUP_NAMES = "aws.log.group.names"
CLOUD_ACCOUNT_ID = "cloud.account.id"
CLOUD_PROVIDER = "cloud.provider"
CLOUD_REGION = "cloud.region"
CLOUD_RESOURCE_ID = "cloud.resource_id"

SCHEMA_URL = Schemas.V1_44_0.value
"""The version of the semantic conventions that the names on the spans are of."""

Value = str | int | bool | Sequence[str] | None


class Origin(NamedTuple):
    """What the spans are of (the API observed, not this program) and which program tells: resource and scope."""

    api: Api
    groups: tuple[LogGroup, ...]
    added: tuple[tuple[str, str], ...] = ()
    """Resource attributes that the operator adds; what is known of the API wins over them."""
    version: str = ""
    """Of this program."""


class FailureSpans(NamedTuple):
    """One failure as spans, the root first, and its execution lines as log records where they are no span events."""

    origin: Origin
    root: SpanIds
    spans: tuple[bytes, ...]
    """Each a serialized `Span`."""
    log_records: tuple[bytes, ...] = ()
    """Each a serialized `LogRecord`."""


_KEY, _VALUE = KeyValue.KEY_FIELD_NUMBER, KeyValue.VALUE_FIELD_NUMBER
_STRING, _BOOL = AnyValue.STRING_VALUE_FIELD_NUMBER, AnyValue.BOOL_VALUE_FIELD_NUMBER
_INT, _ARRAY = AnyValue.INT_VALUE_FIELD_NUMBER, AnyValue.ARRAY_VALUE_FIELD_NUMBER


def attributes(number: int, values: Mapping[str, Value]) -> bytes:
    """Write attributes as the fields `number` of a message; what is None is left out."""
    written: list[bytes] = []
    for key, value in values.items():
        if isinstance(value, str):  # nearly all are
            text = value.encode() if value.isascii() else utf8(value)
            written += (_before_text(number, key, len(text)), text)
        elif isinstance(value, int):
            written.append(_of_number(number, key, value))
        elif value is not None:
            written.append(sized(number, sized(_KEY, utf8(key)) + sized(_VALUE, any_value(value))))
    return b"".join(written)


@lru_cache(maxsize=1024, typed=True)  # of failures few numbers are told, mostly a status; typed: `True` is no 1
def _of_number(number: int, key: str, value: int) -> bytes:
    return sized(number, sized(_KEY, utf8(key)) + sized(_VALUE, any_value(value)))


@lru_cache(maxsize=4096)
def _before_text(number: int, key: str, size: int) -> bytes:
    """Write what stands before the `size` bytes of an attribute's text: it is the same for all texts of one length."""
    before = opening(_STRING, size)
    before = sized(_KEY, utf8(key)) + opening(_VALUE, len(before) + size) + before
    return opening(number, len(before) + size) + before


def any_value(value: str | bool | int | Sequence[str]) -> bytes:
    """Write a value as `AnyValue`."""
    if isinstance(value, str):
        return sized(_STRING, utf8(value))
    if isinstance(value, bool):
        return integer(_BOOL, value)
    if isinstance(value, int):
        return integer(_INT, min(max(value, -(2**63)), 2**63 - 1))
    return sized(_ARRAY, b"".join(sized(ArrayValue.VALUES_FIELD_NUMBER, any_value(item)) for item in value))


def utf8(text: str) -> bytes:
    """Encode text; what UTF-8 cannot carry is replaced as by `encodable`."""
    return text.encode("utf-8", "replace")


def encodable(text: str) -> str:
    """Replace what UTF-8 cannot carry: halves of surrogate pairs, which JSON can escape."""
    return text if text.isascii() else text.encode("utf-8", "replace").decode()


def pack(failures: Sequence[FailureSpans], max_bytes: int = 1_000_000) -> tuple[SpanBatch, ...]:
    """Pack failures into requests of at most `max_bytes` before compression, unless one failure alone is larger.

    Spans and log records of the same failures are in requests next to each other.
    """
    batches: list[SpanBatch] = []
    chosen: list[FailureSpans] = []
    used_bytes = 0
    for failure in failures:
        size_bytes = sum(map(len, failure.spans)) + sum(map(len, failure.log_records))
        if chosen and used_bytes + size_bytes > max_bytes:
            batches += _pack(chosen)
            chosen, used_bytes = [], 0
        chosen.append(failure)
        used_bytes += size_bytes
    if chosen:
        batches += _pack(chosen)
    return tuple(batches)


def _pack(failures: Sequence[FailureSpans]) -> list[SpanBatch]:
    """Make one request a signal, what is of one resource together."""
    spans: dict[Origin, list[bytes]] = {}
    log_records: dict[Origin, list[bytes]] = {}
    for failure in failures:
        spans.setdefault(failure.origin, []).extend(failure.spans)
        if failure.log_records:
            log_records.setdefault(failure.origin, []).extend(failure.log_records)
    batches = [_batch("traces", spans)]
    if log_records:
        batches.append(_batch("logs", log_records))
    return batches


def _batch(signal: Signal, told: Mapping[Origin, Sequence[bytes]]) -> SpanBatch:
    # Requests of both signals are built alike, with the same numbers: resource, then scope, then what is told.
    request = b"".join(
        sized(ExportTraceServiceRequest.RESOURCE_SPANS_FIELD_NUMBER, _of_resource(origin, messages))
        for origin, messages in told.items()
    )
    count = sum(map(len, told.values()))
    return SpanBatch(body=gzip.compress(request, compresslevel=1, mtime=0), spans=count, signal=signal)


def _of_resource(origin: Origin, messages: Sequence[bytes]) -> bytes:
    of_scope = b"".join(
        [
            sized(ScopeSpans.SCOPE_FIELD_NUMBER, _scope_of(origin)),
            *(sized(ScopeSpans.SPANS_FIELD_NUMBER, message) for message in messages),
            _SCHEMA,
        ]
    )
    resource = sized(ResourceSpans.RESOURCE_FIELD_NUMBER, _resource_of(origin))
    return resource + sized(ResourceSpans.SCOPE_SPANS_FIELD_NUMBER, of_scope) + _SCHEMA


_SCHEMA = sized(ScopeSpans.SCHEMA_URL_FIELD_NUMBER, utf8(SCHEMA_URL))


def single_requests(body: bytes, signal: Signal) -> list[bytes]:
    """Cut a serialized request into requests of one span, or log record, each. Raises `DecodeError`."""
    if signal == "logs":
        return [
            ExportLogsServiceRequest(
                resource_logs=[
                    ResourceLogs(
                        resource=logs.resource,
                        scope_logs=[ScopeLogs(scope=part.scope, log_records=[record], schema_url=part.schema_url)],
                        schema_url=logs.schema_url,
                    )
                ]
            ).SerializeToString()
            for logs in ExportLogsServiceRequest.FromString(body).resource_logs
            for part in logs.scope_logs
            for record in part.log_records
        ]
    return [
        ExportTraceServiceRequest(
            resource_spans=[
                ResourceSpans(
                    resource=spans.resource,
                    scope_spans=[ScopeSpans(scope=of_scope.scope, spans=[span], schema_url=of_scope.schema_url)],
                    schema_url=spans.schema_url,
                )
            ]
        ).SerializeToString()
        for spans in ExportTraceServiceRequest.FromString(body).resource_spans
        for of_scope in spans.scope_spans
        for span in of_scope.spans
    ]


def _scope_of(origin: Origin) -> bytes:
    name = sized(InstrumentationScope.NAME_FIELD_NUMBER, b"apigateway-exporter")
    return name + sized(InstrumentationScope.VERSION_FIELD_NUMBER, utf8(origin.version))


@lru_cache(maxsize=1024)
def _resource_of(origin: Origin) -> bytes:
    api = origin.api
    said: dict[str, Value] = {
        **dict(origin.added),
        SERVICE_NAME: next((name for name in (api.name, api.id) if name != UNKNOWN), "unknown_service"),
        CLOUD_PROVIDER: "aws",
    }
    known = {
        CLOUD_REGION: None if api.region == UNKNOWN else api.region,
        CLOUD_ACCOUNT_ID: None if api.account_id == UNKNOWN else api.account_id,
        CLOUD_RESOURCE_ID: _arn(api),
        AWS_LOG_GROUP_NAMES: sorted({group.name for group in origin.groups}) or None,
    }
    said |= {key: value for key, value in known.items() if value is not None}
    return attributes(Resource.ATTRIBUTES_FIELD_NUMBER, said)


def _arn(api: Api) -> str | None:
    """Name the stage as IAM does (`execute-api`), where all parts of the name are known."""
    if UNKNOWN in (api.region, api.account_id, api.id, api.stage):
        return None
    partition = {"cn": "aws-cn", "us-gov": "aws-us-gov"}.get(api.region.rpartition("-")[0].rpartition("-")[0], "aws")
    return f"arn:{partition}:execute-api:{api.region}:{api.account_id}:{api.id}/{api.stage}"
