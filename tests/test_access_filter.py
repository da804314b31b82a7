"""Patterns made of access log formats: no failing line of any format is left out, and successes mostly are."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from exporter.access_filter import failed_access_patterns
from exporter.access_log import CLF, CSV, XML, AccessFormatError, access_parser
from exporter.model import AccessGlance
from exporter.settle import is_failed
from tests.fakes.patterns import compile_pattern

NAMES = ("requestId", "httpMethod", "resourcePath", "status", "responseLatency", "error.message", "error.responseType")
FORMATS = [
    *CLF,
    *CSV,
    *XML,
    json.dumps({name: f"$context.{name}" for name in NAMES}),
    json.dumps({name: f"$context.{name}" for name in reversed(NAMES)}, indent=1).replace("\n", ""),
    '{"id":"$context.requestId","status":$context.status,"ms":$context.responseLatency}',
    '{"status":$context.status,"id":"$context.requestId","error":{"type":"$context.error.responseType"}}',
    '{"id":"$context.requestId","why":"$context.integration.error","s":"$context.status"}',
    "$context.status $context.requestId",
    "$context.status$context.requestId",
    "$context.requestId $context.status",
    "$context.requestId\t$context.status\t$context.responseLatency",
    "ergebnis für $context.requestId: $context.status",
    "requestId=$context.requestId status=$context.status type=$context.error.responseType",
    "<r id='$context.requestId'><s>$context.status</s><t>$context.error.responseType</t></r>",
    "$context.requestId|$context.httpMethod $context.path|$context.status|$context.error.responseType",
]
VALUES = {
    "requestId": "17cb49b2-c061-11e9-9f0b-0f2d2e2b3c4d",
    "extendedRequestId": "Vwc2MGFUrPEFV_g=",
    "httpMethod": "GET",
    "resourcePath": "/orders/{id}",
    "routeKey": "GET /orders/{id}",
    "path": "/prod/orders/404",
    "protocol": "HTTP/1.1",
    "responseLength": "512",
    "responseLatency": "504",
    "requestTime": "22/Nov/2026:10:04:04 +0000",
    "identity.sourceIp": "203.0.113.45",
    "identity.caller": "-",
    "identity.user": "-",
    "error.message": "-",
    "error.responseType": "-",
    "integration.error": "-",
}
GLUED = "$context.status$context"
RESPONSE_TYPES = ["DEFAULT_4XX", "INTEGRATION_TIMEOUT", "THROTTLED", "WAF_FILTERED", "MISSING_AUTHENTICATION_TOKEN"]


def line_of(form, **values):
    for name, value in sorted({**VALUES, **values}.items(), key=lambda item: -len(item[0])):
        form = form.replace(f"$context.{name}", value)
    assert "$context" not in form
    return form


def glance_of(form, line):
    glance = access_parser(form).glance(line)
    assert isinstance(glance, AccessGlance), (form, line)
    return glance


@pytest.mark.parametrize("form", FORMATS)
@pytest.mark.parametrize("status", ["400", "404", "429", "500", "504", "599"])
def test_every_failing_status_is_selected(form, status):
    line = line_of(form, status=status)
    assert is_failed(glance_of(form, line))
    own, anywhere = failed_access_patterns(form)
    # The second is for a format of which nothing is known: a status glued to the next value is not found there.
    for pattern in (own,) if form.startswith(GLUED) else (own, anywhere):
        assert len(pattern) <= 1_024
        assert compile_pattern(pattern)(line), pattern
        assert compile_pattern(pattern)(line + "\n"), pattern


@pytest.mark.parametrize("form", [form for form in FORMATS if "error.responseType" in form])
@pytest.mark.parametrize("kind", RESPONSE_TYPES)
def test_a_failure_behind_a_good_status_is_selected_by_its_response_type(form, kind):
    line = line_of(form, status="200", **{"error.responseType": kind})
    assert is_failed(glance_of(form, line))
    for pattern in failed_access_patterns(form):
        assert compile_pattern(pattern)(line), pattern


def test_a_failure_behind_a_good_status_is_selected_by_the_gateways_words():
    form = next(form for form in FORMATS if "integration.error" in form)
    line = line_of(
        form, status="200", **{"integration.error": "Execution failed due to configuration error: Malformed"}
    )
    assert is_failed(glance_of(form, line))
    for pattern in failed_access_patterns(form):
        assert compile_pattern(pattern)(line), pattern


@pytest.mark.parametrize("form", [form for form in FORMATS if "," not in form[:60] or form[0] in "{<"])
@pytest.mark.parametrize("status", ["200", "204", "301", "-"])
def test_a_success_is_left_out_though_other_numbers_of_its_line_look_like_failures(form, status):
    line = line_of(form, status=status)
    pattern = failed_access_patterns(form)[0]
    if pattern.startswith(r"%[45]"):  # the status has no text before it: numbers in the id look like it
        return
    assert not compile_pattern(pattern)(line), pattern


def test_a_json_line_that_is_torn_by_its_message_is_selected_all_the_same():
    """JSON patterns do not see it: that is why none is written."""
    form = '{"requestId":"$context.requestId","message":"$context.error.message","status":"$context.status"}'
    line = line_of(form, status="502", **{"error.message": 'Internal "server" error'})
    with pytest.raises(json.JSONDecodeError):
        json.loads(line)
    assert all(compile_pattern(pattern)(line) for pattern in failed_access_patterns(form))


@pytest.mark.parametrize("word", ["auto", "clf", "csv", "json", "xml"])
@pytest.mark.parametrize("form", FORMATS)
def test_where_the_format_is_not_known_any_number_like_a_failing_status_selects(word, form):
    (pattern,) = failed_access_patterns(word)
    assert form.startswith(GLUED) or compile_pattern(pattern)(
        line_of(form, status="503", responseLatency="3", responseLength="-")
    )


def test_variables_in_braces_are_variables():
    own, _ = failed_access_patterns("${context.requestId} status=${context.status};")
    assert compile_pattern(own)(f"{VALUES['requestId']} status=504;")
    assert not compile_pattern(own)(f"{VALUES['requestId']} status=204; 504;")


def test_a_format_without_a_status_has_no_pattern():
    assert failed_access_patterns("$context.requestId $context.responseLatency") == ()


def test_a_format_that_cannot_be_read_is_refused():
    with pytest.raises(AccessFormatError):
        failed_access_patterns("$context. $context.status")


@given(
    before=st.text(alphabet='abc {}"\\:,|é<>%=()[]*?.-_\t', max_size=40),
    behind=st.text(alphabet=' {}"\\:,|é<>%=()[]*?-\t', max_size=10),  # no part of a variable's name
    status=st.integers(400, 599),
)
def test_whatever_stands_around_the_status_its_pattern_is_one_and_finds_it(before, behind, status):
    form = f"$context.requestId{before}$context.status{behind}"
    line = f"17cb49b2-c061-11e9-9f0b-0f2d2e2b3c4d{before}{status}{behind}"
    pattern = failed_access_patterns(form)[0]
    assert len(pattern) <= 1_024
    assert compile_pattern(pattern)(line), pattern
