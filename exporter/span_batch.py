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
from opentelemetry.proto.logs.v1.logs_pb2 import LogRecord, ResourceLogs, ScopeLogs
from opentelemetry.proto.resource.v1.resource_pb2 import Resource
from opentelemetry.proto.trace.v1.trace_pb2 import ResourceSpans, ScopeSpans, Span
from opentelemetry.semconv.attributes.service_attributes import SERVICE_NAME
from opentelemetry.semconv.schemas import Schemas

from exporter.model import UNKNOWN, Api, LogGroup, Signal, SpanBatch

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
    spans: tuple[Span, ...]
    log_records: tuple[LogRecord, ...] = ()


def span_attributes(values: Mapping[str, Value]) -> list[KeyValue]:
    """Encode attributes; what is None is left out."""
    return [KeyValue(key=key, value=_value(value)) for key, value in values.items() if value is not None]


def _value(value: str | bool | int | Sequence[str]) -> AnyValue:
    if isinstance(value, str):
        return AnyValue(string_value=encodable(value))
    if isinstance(value, bool):
        return AnyValue(bool_value=value)
    if isinstance(value, int):
        return AnyValue(int_value=min(max(value, -(2**63)), 2**63 - 1))
    return AnyValue(array_value=ArrayValue(values=[_value(item) for item in value]))


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
        size_bytes = sum(span.ByteSize() for span in failure.spans)
        size_bytes += sum(record.ByteSize() for record in failure.log_records)
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
    spans: dict[Origin, list[Span]] = {}
    log_records: dict[Origin, list[LogRecord]] = {}
    for failure in failures:
        spans.setdefault(failure.origin, []).extend(failure.spans)
        if failure.log_records:
            log_records.setdefault(failure.origin, []).extend(failure.log_records)
    # Built from the outside in: a message that is handed to a constructor is copied whole, at every level again.
    of_spans = ExportTraceServiceRequest()
    for origin, told in spans.items():
        resource_spans = of_spans.resource_spans.add(resource=_resource_of(origin), schema_url=SCHEMA_URL)
        resource_spans.scope_spans.add(scope=_scope_of(origin), schema_url=SCHEMA_URL).spans.extend(told)
    batches = [_batch("traces", of_spans.SerializeToString(), sum(map(len, spans.values())))]
    if log_records:
        of_logs = ExportLogsServiceRequest()
        for origin, records in log_records.items():
            resource_logs = of_logs.resource_logs.add(resource=_resource_of(origin), schema_url=SCHEMA_URL)
            resource_logs.scope_logs.add(scope=_scope_of(origin), schema_url=SCHEMA_URL).log_records.extend(records)
        batches.append(_batch("logs", of_logs.SerializeToString(), sum(map(len, log_records.values()))))
    return batches


def _batch(signal: Signal, request: bytes, count: int) -> SpanBatch:
    return SpanBatch(body=gzip.compress(request, compresslevel=1, mtime=0), spans=count, signal=signal)


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


def _scope_of(origin: Origin) -> InstrumentationScope:
    return InstrumentationScope(name="apigateway-exporter", version=origin.version)


@lru_cache(maxsize=1024)
def _resource_of(origin: Origin) -> Resource:
    api = origin.api
    attributes: dict[str, Value] = {
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
    attributes |= {key: value for key, value in known.items() if value is not None}
    return Resource(attributes=span_attributes(attributes))


def _arn(api: Api) -> str | None:
    """Name the stage as IAM does (`execute-api`), where all parts of the name are known."""
    if UNKNOWN in (api.region, api.account_id, api.id, api.stage):
        return None
    partition = {"cn": "aws-cn", "us-gov": "aws-us-gov"}.get(api.region.rpartition("-")[0].rpartition("-")[0], "aws")
    return f"arn:{partition}:execute-api:{api.region}:{api.account_id}:{api.id}/{api.stage}"
