"""The wire format as it is written here, held against the classes that the protobuf compiler made."""

import gzip

import pytest
from hypothesis import given
from hypothesis import strategies as st
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.common.v1.common_pb2 import AnyValue, ArrayValue, KeyValue
from opentelemetry.proto.logs.v1.logs_pb2 import LogRecord, ResourceLogs, ScopeLogs
from opentelemetry.proto.resource.v1.resource_pb2 import Resource
from opentelemetry.proto.trace.v1.trace_pb2 import ResourceSpans, ScopeSpans, Span

from exporter.protobuf import fixed32, fixed64, integer, sized, varint
from exporter.span_batch import attributes, pack
from exporter.spans import SpanOptions, failure_spans
from tests.test_spans import TRACEPARENT, access_of, failure_of

TEXTS = st.text(max_size=300)
HALVES = st.text(st.characters(categories=("Cs", "Ll")), max_size=20)
"""Texts with halves of surrogate pairs, which JSON can escape and nothing can encode."""
INTEGERS = st.integers(-(2**63), 2**63 - 1)


def expected(value):
    if isinstance(value, bool):
        return AnyValue(bool_value=value)
    if isinstance(value, int):
        return AnyValue(int_value=value)
    if isinstance(value, str):
        return AnyValue(string_value=value.encode("utf-8", "replace").decode())
    return AnyValue(array_value=ArrayValue(values=[expected(item) for item in value]))


@given(st.dictionaries(TEXTS, TEXTS | HALVES | st.booleans() | INTEGERS | st.lists(TEXTS | HALVES, max_size=3)))
def test_attributes_are_what_the_generated_classes_make_of_them(values):
    resource = Resource(attributes=[KeyValue(key=key, value=expected(value)) for key, value in values.items()])
    assert Resource.FromString(attributes(Resource.ATTRIBUTES_FIELD_NUMBER, values)) == resource


def test_attributes_without_value_are_left_out_and_greater_numbers_are_cut():
    assert attributes(1, {"a": None}) == b""
    assert attributes(1, {"a": 1}) != attributes(1, {"a": True}), "equal numbers of two kinds are told apart"
    (kept,) = Resource.FromString(attributes(1, {"a": None, "b": 2**80})).attributes
    assert (kept.key, kept.value.int_value) == ("b", 2**63 - 1)


@pytest.mark.parametrize("length", [0, 126, 127, 128, 16_383, 16_384, 3_000_000])
def test_a_text_of_any_length_is_read_back(length):
    text = "ü" + "x" * length
    assert Span.FromString(sized(Span.NAME_FIELD_NUMBER, text.encode())) == Span(name=text)


@given(st.integers(0, 2**64 - 1), st.integers(0, 2**32 - 1), INTEGERS, TEXTS)
def test_every_kind_of_field_is_read_back(wide, narrow, number, text):
    written = (
        sized(Span.NAME_FIELD_NUMBER, text.encode())
        + fixed64(Span.START_TIME_UNIX_NANO_FIELD_NUMBER, wide)
        + integer(Span.DROPPED_EVENTS_COUNT_FIELD_NUMBER, narrow)
        + fixed32(Span.FLAGS_FIELD_NUMBER, narrow)
    )
    assert Span.FromString(written) == Span(
        name=text, start_time_unix_nano=wide, dropped_events_count=narrow, flags=narrow
    )
    assert AnyValue.FromString(integer(AnyValue.INT_VALUE_FIELD_NUMBER, number)) == AnyValue(int_value=number)


@pytest.mark.parametrize(
    ("value", "written"),
    [
        (0, "00"),
        (0x7F, "7f"),
        (0x80, "8001"),
        (0x3FFF, "ff7f"),
        (0x4000, "808001"),
        (2**64 - 1, "ffffffffffffffffff01"),
        (-1, "ffffffffffffffffff01"),
    ],
)
def test_an_integer_takes_seven_bits_a_byte(value, written):
    assert varint(value).hex() == written


FAILURES = st.builds(
    lambda status, method, texts, evidence, category, traced: failure_of(
        "timeout",
        category,
        access=access_of(status=status, httpMethod=method, error__message=evidence) if status else None,
        lines=[
            *([(0, f"Method request headers: {{traceparent={TRACEPARENT}}}")] if traced else []),
            (1, "Sending request to https://example.org/a?b=c"),
            *[(2 + number, text) for number, text in enumerate(texts)],
            (900, "Received response. Status: 504, Integration latency: 800 ms"),
        ],
        evidence=evidence,
    ),
    st.sampled_from(["200", "404", "504", None]),
    st.sampled_from(["GET", "-"]),
    st.lists(TEXTS.filter(str.strip), max_size=4),
    TEXTS.filter(str.strip),
    st.sampled_from(["integration", "client", "backend", "waf"]),
    st.booleans(),
)
OPTIONS = st.builds(
    SpanOptions,
    join=st.sampled_from(["trace", "link"]),
    events=st.sampled_from(["span", "logs"]),
    max_events=st.sampled_from([2, 64]),
    resource=st.sampled_from([(), (("team", "orders"),)]),
    version=st.just("1.2.3"),
)


def canonical(kind, body):
    """What the generated class writes of the fields of `body` that it knows."""
    message = kind.FromString(body)
    message.DiscardUnknownFields()
    return message.SerializeToString(deterministic=True)


@given(FAILURES, OPTIONS)
def test_spans_and_log_records_are_canonical_messages(failure, options):
    told = failure_spans(failure, options)
    for span in told.spans:
        assert canonical(Span, span) == span
    for record in told.log_records:
        assert canonical(LogRecord, record) == record
    for batch in pack([told, told]):
        kind = ExportTraceServiceRequest if batch.signal == "traces" else ExportLogsServiceRequest
        body = gzip.decompress(batch.body)
        assert canonical(kind, body) == body


def test_requests_of_both_signals_have_the_same_field_numbers():
    of_spans = (
        ExportTraceServiceRequest.RESOURCE_SPANS_FIELD_NUMBER,
        *(ResourceSpans.RESOURCE_FIELD_NUMBER, ResourceSpans.SCOPE_SPANS_FIELD_NUMBER),
        *(ResourceSpans.SCHEMA_URL_FIELD_NUMBER, ScopeSpans.SCOPE_FIELD_NUMBER),
        *(ScopeSpans.SPANS_FIELD_NUMBER, ScopeSpans.SCHEMA_URL_FIELD_NUMBER),
    )
    of_logs = (
        ExportLogsServiceRequest.RESOURCE_LOGS_FIELD_NUMBER,
        *(ResourceLogs.RESOURCE_FIELD_NUMBER, ResourceLogs.SCOPE_LOGS_FIELD_NUMBER),
        *(ResourceLogs.SCHEMA_URL_FIELD_NUMBER, ScopeLogs.SCOPE_FIELD_NUMBER),
        *(ScopeLogs.LOG_RECORDS_FIELD_NUMBER, ScopeLogs.SCHEMA_URL_FIELD_NUMBER),
    )
    assert of_spans == of_logs
    assert ResourceSpans.SCHEMA_URL_FIELD_NUMBER == ScopeSpans.SCHEMA_URL_FIELD_NUMBER
