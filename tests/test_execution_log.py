"""Every execution line known, what callers put into them, and what must not come out again."""

import time
from typing import NamedTuple

import msgspec
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from exporter import execution_facts, execution_log
from exporter.envelope import unwrapped
from exporter.execution_log import MAX_TEXT, PLACEHOLDER_IDS, completed_status, is_routine, parse, split
from exporter.model import ExecutionStep, LogEvent, Step, Unreadable
from exporter.redaction import REDACTED
from tests.test_redaction import SECRETS

V1 = "286364ab-3a83-11e9-8dc8-db3cf4c83204"
V4 = "17cb49b2-9f5e-4a3c-8e2f-6d0c5b4a3f2e"
ROOT = "1-5c7674f4-a3491d0a9c8012c191821b83"
TRACEPARENT = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
LAMBDA_URL = "https://lambda.us-east-1.amazonaws.com/2015-03-31/functions/arn:aws:lambda:us-east-1:123456789012:function:orders/invocations"


def event(message: str) -> LogEvent:
    return LogEvent(event_id="1", at_ms=1551267060425, message=message)


def step_of(text: str) -> ExecutionStep:
    read = parse(event(f"({V4}) {text}"))
    assert isinstance(read, tuple)
    request_id, step = read
    assert request_id == V4
    return step


class Line(NamedTuple):
    text: str
    step: Step
    kept: str | None = None
    """The text that is kept; None: all of it."""
    status: int | None = None
    latency_ms: int | None = None
    name: str | None = None
    resource: str | None = None


# Section 1 of the catalogue: what a request that ends well prints.
GOOD = (
    Line("Extended Request Id: Vwc2MGFUrPEFV_g=", Step.REQUEST_START, name="Vwc2MGFUrPEFV_g="),
    Line(f"Verifying Usage Plan for request: {V1}. API Key: API Stage: uwe3g5jm54/Prod", Step.REQUEST_START),
    Line(f"Verifying Usage Plan for request: {V1}. API Key:  API Stage: uwe3g5jm54/Prod", Step.REQUEST_START),
    Line(
        f"Verifying Usage Plan for request: {V1}. API Key: ************abcdef API Stage: uwe3g5jm54/Prod",
        Step.REQUEST_START,
        kept=f"Verifying Usage Plan for request: {V1}. API Key: ************ API Stage: uwe3g5jm54/Prod",
    ),
    Line(
        "API Key authorized because method 'GET /orders/{id}' does not require API Key. Request will not contribute to throttle or quota limits",
        Step.REQUEST_START,
        name="GET",
        resource="/orders/{id}",
    ),
    Line(
        "API Key  authorized because method 'ANY /{proxy+}' does not require API Key. Request will not contribute to throttle or quota limits",
        Step.REQUEST_START,
        resource="/{proxy+}",
    ),
    Line(
        "API Key ************abcdef authorized because method 'POST /' requires API Key. Request will contribute to throttle or quota limits",
        Step.REQUEST_START,
        kept="API Key ************ authorized because method 'POST /' requires API Key. Request will contribute to throttle or quota limits",
        name="POST",
        resource="/",
    ),
    Line("Usage Plan check succeeded for API Key and API Stage uwe3g5jm54/Prod", Step.REQUEST_START),
    Line("Usage Plan check succeeded for API Key  and API Stage uwe3g5jm54/Prod", Step.REQUEST_START),
    Line(f"Starting execution for request: {V1}", Step.REQUEST_START),
    Line("HTTP Method: GET, Resource Path: /echo", Step.REQUEST_START, name="GET"),
    Line("HTTP Method: BREW, Resource Path: /pot", Step.REQUEST_START, name="_OTHER"),
    Line("API Key: ***abcdef", Step.REQUEST_START, kept=f"API Key: {REDACTED}"),
    Line("API Key ID: a1b2c3d4e5", Step.REQUEST_START, kept=f"API Key ID: {REDACTED}"),
    Line("Method request path: {}", Step.REQUEST_DETAIL, kept="Method request path: [2 bytes, 0 fields]"),
    Line("Method request path:\n{}", Step.REQUEST_DETAIL, kept="Method request path: [2 bytes, 0 fields]"),
    Line(
        "Method request query string: {a=1, b=2}",
        Step.REQUEST_DETAIL,
        kept="Method request query string: [10 bytes, 2 fields]",
    ),
    Line(
        "Method request headers: {Accept=*/*, Host=h}",
        Step.REQUEST_DETAIL,
        kept="Method request headers: [20 bytes, 2 fields]",
    ),
    Line(
        "Method request headers: {Accept=*/*, Host=exam [TRUNCATED]",
        Step.REQUEST_DETAIL,
        kept="Method request headers: [22 bytes, 2 fields, truncated]",
    ),
    Line(
        "Method request body before transformations: ",
        Step.REQUEST_DETAIL,
        kept="Method request body before transformations: [0 bytes]",
    ),
    Line(
        f"Method request body before transformations: {'é' * 512} [TRUNCATED]",
        Step.REQUEST_DETAIL,
        kept="Method request body before transformations: [1,024 bytes, truncated]",
    ),
    Line(
        "Request parameter overrides: Add X-Tenant: acme",
        Step.REQUEST_DETAIL,
        kept="Request parameter overrides: [18 bytes]",
    ),
    Line(f"Starting authorizer: 62mgrc for request: {V1}", Step.AUTHORIZER_START),
    Line("Incoming identity: ****************abcdef", Step.AUTHORIZER_START, kept=f"Incoming identity: {REDACTED}"),
    Line(
        'Authorizer result body before parsing: {"principalId":"bob"}',
        Step.AUTHORIZER_RESULT,
        kept="Authorizer result body before parsing: [21 bytes]",
    ),
    Line(
        "Using valid authorizer policy for principal: ****abcdef",
        Step.AUTHORIZER_RESULT,
        kept=f"Using valid authorizer policy for principal: {REDACTED}",
    ),
    Line("Successfully completed authorizer execution", Step.AUTHORIZER_RESULT),
    Line(f"Endpoint request URI: {LAMBDA_URL}", Step.INTEGRATION_REQUEST, name=LAMBDA_URL),
    Line(
        "Endpoint request URI: https://u:p@h.example.com:8443/a?token=x#y",
        Step.INTEGRATION_REQUEST,
        kept=f"Endpoint request URI: https://{REDACTED}@h.example.com:8443/a",
        name=f"https://{REDACTED}@h.example.com:8443/a",
    ),
    Line(
        "Endpoint request headers: {x-amzn-lambda-integration-tag=1, X-Amz-Security-Token=abc}",
        Step.INTEGRATION_REQUEST,
        kept="Endpoint request headers: [59 bytes, 2 fields]",
    ),
    Line(
        'Endpoint request body after transformations: {\n"a": 1}',
        Step.INTEGRATION_REQUEST,
        kept="Endpoint request body after transformations: [9 bytes]",
    ),
    Line(f"Sending request to {LAMBDA_URL}", Step.INTEGRATION_REQUEST, name=LAMBDA_URL),
    Line("Received response. Integration latency: 11029 ms", Step.INTEGRATION_RESPONSE, latency_ms=11029),
    Line(
        "Received response. Status: 200, Integration latency: 392 ms",
        Step.INTEGRATION_RESPONSE,
        status=200,
        latency_ms=392,
    ),
    Line(
        "Endpoint response headers: {Date=Wed, 27 Feb 2019 11:31:00 GMT}",
        Step.INTEGRATION_RESPONSE,
        kept="Endpoint response headers: [36 bytes, 1 field]",
    ),
    Line(
        "Endpoint response body before transformations: null",
        Step.INTEGRATION_RESPONSE,
        kept="Endpoint response body before transformations: [4 bytes]",
    ),
    Line(
        "Method response body after transformations: ok",
        Step.RESPONSE_DETAIL,
        kept="Method response body after transformations: [2 bytes]",
    ),
    Line("Method response headers: {A=b}", Step.RESPONSE_DETAIL, kept="Method response headers: [5 bytes, 1 field]"),
    Line("Successfully completed execution", Step.EXECUTION_COMPLETED),
    Line("Method completed with status: 200", Step.COMPLETED, status=200),
    Line(f"AWS Integration Endpoint RequestId : {V4}", Step.TRAILER, name=V4),
    Line("AWS Integration Endpoint RequestId : 4442587FB7D0A2F9", Step.TRAILER, name="4442587FB7D0A2F9"),
    Line(f"X-ray Tracing ID : {ROOT}", Step.TRAILER, name=ROOT),
    Line(f"X-ray Tracing ID : Root={ROOT}", Step.TRAILER, name=ROOT),
)

KEY_DENIED = (
    "method 'GET /x/{y}' requires API Key and API Key is not associated with a Usage Plan for API Stage ab12cd34ef/prod"
)
CONFIGURATION_ERRORS = (
    "Invalid permissions on Lambda function",
    "Authorizer error",
    "Could not parse policy",
    'Invalid JSON in response: Unrecognized field "errorType" , not marked as ignorable',
    "Rate Exceeded.",
    "Malformed Lambda proxy response",
    "There was an internal error while executing your request",
    "Invalid endpoint address",
    "Illegal character in path at index 23: https://h/{proxy}",
    "Host name 'h' does not match the certificate subject provided by the peer (CN=*.example.com)",
    "PKIX path building failed: sun.security.provider.certpath.SunCertPathBuilderException: unable to find valid certification path to requested target",
    "PKIX path validation failed: java.security.cert.CertPathValidatorException: validity check failed",
    "General SSLEngine problem",
    "No match for output mapping and no default output mapping configured. Endpoint Response Status Code: 403",
    "Output mapping refers to an invalid method response: 500",
    "Unable to transform request",
    "Unable to transform response",
    "Unable to base64 decode the body.",
    "statusCode should be an integer which defined in request template",
    "Unable to parse statusCode. It should be an integer that is defined in the request template.",
    "Authorization header already present",
    "API Gateway does not have permission to assume the provided role arn:aws:iam::123456789012:role/gateway",
    "Integration response of reported length 10485761 is larger than allowed maximum of 10485760 bytes.",
)

# Section 2: what only failures print. All of the gateway's words stay.
BAD = (
    *(Line(f"Execution failed due to configuration error: {text}", Step.REASON) for text in CONFIGURATION_ERRORS),
    Line("Execution failed due to configuration error:", Step.REASON),
    Line("Execution failed due to a timeout error", Step.REASON),
    Line("Execution failed due to a network error communicating with endpoint", Step.REASON),
    Line("Execution failed due to a network error communicating with endpoint: Connection reset by peer", Step.REASON),
    Line("Execution failed due to an vpc link error", Step.REASON),
    Line("Execution failed due to an internal error", Step.REASON),
    Line("AuthorizerConfigurationException", Step.REASON),
    Line(f"Unauthorized request: {V1}", Step.REASON),
    Line("Unauthorized", Step.REASON),
    Line("The client is not authorized to perform this operation.", Step.REASON),
    Line(
        f"Lambda execution failed with status 200 due to customer function error: division by zero. Lambda request id: {V4}",
        Step.REASON,
        name=V4,
    ),
    Line(
        f"Lambda execution failed with status 200 due to customer function error: 2019-02-27T11:31:00.123Z {V1} Task timed out after 10.00 seconds. Lambda request id: {V4}",
        Step.REASON,
        name=V4,
    ),
    Line(
        f"Lambda execution failed with status 200 due to customer function error: Error: Cannot find module 'x'\nRequire stack:\n- /var/task/i.js. Lambda request id: {V4}",
        Step.REASON,
        name=V4,
    ),
    Line("Lambda execution failed with status 200 due to customer function error: 'KEY'", Step.REASON),
    Line(f"Lambda invocation failed with status: 429. Lambda request id: {V4}", Step.REASON, name=V4),
    Line("Lambda invocation failed with status: 403", Step.REASON),
    Line(
        'Request body does not match model schema for content type application/json: [object has missing required properties (["NoteId"])]',
        Step.REASON,
    ),
    Line(
        f"API Key ************abcdef not authorized because {KEY_DENIED}: No Usage Plan found for key and API Stage",
        Step.API_KEY,
        kept=f"API Key ************ not authorized because {KEY_DENIED}: No Usage Plan found for key and API Stage",
        name="GET",
        resource="/x/{y}",
    ),
    Line(
        f"API Key not authorized because {KEY_DENIED}: API Key was required but not present",
        Step.API_KEY,
        name="GET",
        resource="/x/{y}",
    ),
    Line(
        "API Key ****abcdef exceeded quota limit for API Stage ab12cd34ef/prod: Key quota exhausted for Usage Plan ID 1a2b3c. Q Limit: 5 Period: DAY",
        Step.API_KEY,
        kept="API Key **** exceeded quota limit for API Stage ab12cd34ef/prod: Key quota exhausted for Usage Plan ID 1a2b3c. Q Limit: 5 Period: DAY",
    ),
    Line(
        "API Key ****abcdef exceeded throttle limit for API Stage ab12cd34ef/prod: Key throttle limit exceeded for Usage Plan ID 1a2b3c",
        Step.API_KEY,
        kept="API Key **** exceeded throttle limit for API Stage ab12cd34ef/prod: Key throttle limit exceeded for Usage Plan ID 1a2b3c",
    ),
    Line("Key quota exhausted for Usage Plan ID 1a2b3c. Q Limit: 5 Period: DAY", Step.API_KEY),
    Line(
        "Key throttle limit exceeded for RestApi uwe3g5jm54, Stage Prod, Resource k0w8mc, HttpMethod POST. Limit: 1.00 Burst: 1",
        Step.API_KEY,
        name="POST",
    ),
    Line(
        "Gateway response type: AUTHORIZER_CONFIGURATION_ERROR with status code: 500",
        Step.GATEWAY_RESPONSE,
        name="AUTHORIZER_CONFIGURATION_ERROR",
        status=500,
    ),
    Line(
        "Gateway response type: DEFAULT_5XX with status code: 500",
        Step.GATEWAY_RESPONSE,
        name="DEFAULT_5XX",
        status=500,
    ),
    Line("Gateway response body:\nsorry", Step.RESPONSE_DETAIL, kept="Gateway response body: [5 bytes]"),
    Line("Missing Authentication Token", Step.REASON),
    Line("Missing required request parameters: [id]", Step.REASON),
    Line("Unsupported Media Type", Step.REASON),
    Line("User is not authorized to access this resource with an explicit deny", Step.REASON),
    Line(
        "User: anonymous is not authorized to perform: execute-api:Invoke on resource: arn:aws:execute-api:us-east-1:123456789012:a/p/GET/x",
        Step.REASON,
    ),
    Line("The request signature we calculated does not match the signature you provided.", Step.REASON),
    Line("Signature expired: 20200101T000000Z is now earlier than 20200101T001000Z", Step.REASON),
    Line("The security token included in the request is expired", Step.REASON),
    Line("Authorization header requires 'Credential' parameter.", Step.REASON),
    Line("There was an error evaluating the AWS WAF rules associated with this API", Step.REASON),
    Line("WAF call got timed out", Step.REASON),
    Line("Something that API Gateway has never said before", Step.OTHER),
)


@pytest.mark.parametrize("line", [*GOOD, *BAD], ids=lambda line: line.text[:60])
def test_a_known_line_becomes_its_step(line: Line) -> None:
    step = step_of(line.text)
    assert step == ExecutionStep(
        event_id="1",
        at_ms=1551267060425,
        step=line.step,
        text=line.text if line.kept is None else line.kept,
        status=line.status,
        latency_ms=line.latency_ms,
        name=line.name,
        resource=line.resource,
    )


@pytest.mark.parametrize("line", [*GOOD, *BAD], ids=lambda line: line.text[:60])
def test_a_line_without_request_id_is_the_same_step(line: Line) -> None:
    """As the console's test prints them."""
    read = parse(event(line.text))
    assert isinstance(read, tuple)
    assert read == (None, step_of(line.text))


@pytest.mark.parametrize("line", GOOD, ids=lambda line: line.text[:60])
def test_what_good_requests_print_is_routine(line: Line) -> None:
    assert is_routine(line.text)


@pytest.mark.parametrize("line", BAD, ids=lambda line: line.text[:60])
def test_what_only_failures_print_is_not_routine(line: Line) -> None:
    assert not is_routine(line.text)


@given(st.sampled_from([line.text for line in (*GOOD, *BAD)]), st.integers(0, 40), st.text(max_size=20))
@example("API Key ", 8, "not authorized because method 'GET /' authorized because ")
@example("API Key ", 8, "***a not authorized because ")
@example("API Key  authorized because ", 19, "0")
def test_no_reason_is_routine(text: str, length: int, tail: str) -> None:
    text = text[:length] + tail
    if is_routine(text):
        read = parse(event(text))
        assert isinstance(read, tuple)
        assert read[1].step not in (Step.REASON, Step.API_KEY, Step.GATEWAY_RESPONSE)


# ----------------------------------------------------------------------------------------------------------- whose line


@pytest.mark.parametrize("request_id", [V1, V4, V4.upper(), "PDS1PEC4oAMFpyA=", "fQke_hDCDoEEMpw=", "GQIV-FLIAMEMsA="])
def test_the_request_id_stands_in_front(request_id: str) -> None:
    assert split(f"({request_id}) HTTP Method: GET, Resource Path: /x") == (
        request_id,
        "HTTP Method: GET, Resource Path: /x",
    )


def test_only_the_first_line_of_a_message_names_the_request() -> None:
    message = f"({V1}) Method request body before transformations: {{\n({V4}) Execution failed due to a timeout error"
    assert split(message)[0] == V1


@pytest.mark.parametrize(
    "message",
    [
        "",
        " ",
        "(",
        "()",
        "() text",
        "(b1c2d3) text",
        "(28636ab-3a83-11e9-8dc8-db3cf4c832045) text",
        f"({V1[:-1]}g) text",
        f"({V1}text",
        f"{V1} text",
        "text",
        f"Lambda execution failed with status 200 due to customer function error: x ({V1}) y",
        f"Method request body before transformations: ({V1}) Execution failed due to a timeout error",
        f"Gateway response body:\n({V1}) x",
    ],
)
def test_what_has_not_the_shape_of_an_id_is_none(message: str) -> None:
    assert split(message) == (None, message)


@pytest.mark.parametrize("placeholder", sorted(PLACEHOLDER_IDS))
def test_a_placeholder_joins_nothing(placeholder: str) -> None:
    assert split(f"({placeholder}) Execution failed due to a timeout error") == (
        None,
        "Execution failed due to a timeout error",
    )


TIMEOUT = "Execution failed due to a timeout error"


@pytest.mark.parametrize(
    "line",
    [
        {"payload": f"({V1}) {TIMEOUT}"},
        {"payload": TIMEOUT, "request_id": V1},
        {"payload": TIMEOUT, "requestId": V1},
        {
            "resource_arn": "arn:x",
            "event_timestamp": 1,
            "new": {"a": [1]},
            "payload": f"({V1}) {TIMEOUT}",
            "request_id": V4,
        },
    ],
)
def test_vended_json_is_the_line_in_its_payload(line: dict[str, object]) -> None:
    assert split(msgspec.json.encode(line).decode()) == (V1, TIMEOUT)


def test_vended_json_may_lack_an_id() -> None:
    assert split(msgspec.json.encode({"payload": TIMEOUT, "request_id": 7}).decode()) == (None, TIMEOUT)


def test_a_resource_path_of_vended_json_is_no_template() -> None:
    read = parse(event(msgspec.json.encode({"payload": f"({V1}) {TIMEOUT}", "resource_path": "/orders/42"}).decode()))
    assert isinstance(read, tuple)
    assert read[1].resource is None


def test_vended_plain_text_has_fields_in_front() -> None:
    fields = "arn:aws:apigateway:eu-west-1:123456789012:/restapis/ab12cd34ef/stages/prod 1757500000000 ab12cd34ef prod /x GET"
    assert split(f"{fields} ({V1}) {TIMEOUT}") == (V1, TIMEOUT)


def test_a_page_of_vended_lines_is_unwrapped() -> None:
    plain = event(f"({V4}) {TIMEOUT}")
    wrapped = [event(msgspec.json.encode({"payload": f"({V1}) {TIMEOUT}"}).decode()), event(f"a b ({V1}) {TIMEOUT}")]
    bare = event(msgspec.json.encode({"payload": TIMEOUT}).decode())
    assert unwrapped([*wrapped, plain, bare]) == [*[event(f"({V1}) {TIMEOUT}")] * 2, plain, bare]
    assert unwrapped([plain]) == [plain]
    assert unwrapped([]) == []


_IDS = st.sampled_from([V1, V4, "PDS1PEC4oAMFpyA=", "-", "UUID_REPLACED_INVALID_REQUEST_ID", "x", ""])
_TEXTS = st.sampled_from([TIMEOUT, "", " ", "(x) y", f"({V4}) z", "é\n"]) | st.text(max_size=10)
_LINES = st.builds("{}({}){}{}".format, st.sampled_from(["", "", " ", "\n"]), _IDS, st.sampled_from([" ", ""]), _TEXTS)
_VENDED = st.fixed_dictionaries(
    {"payload": _LINES | _TEXTS | st.none() | st.integers()},
    optional={"request_id": _IDS | st.integers(), "requestId": _IDS, "api_id": st.just("ab12cd34ef")},
).map(lambda fields: msgspec.json.encode(fields).decode())


@given(st.lists(_LINES | _TEXTS | _VENDED | st.builds("arn:x 1 {}".format, _LINES), max_size=5))
def test_what_is_unwrapped_says_what_it_said(messages: list[str]) -> None:
    events = [
        LogEvent(event_id=str(number), at_ms=number, message=message, ingested_at_ms=number + 7)
        for number, message in enumerate(messages)
    ]
    found = unwrapped(events)
    assert [split(one.message) for one in found] == [split(message) for message in messages]
    assert [(one.event_id, one.at_ms, one.ingested_at_ms) for one in found] == [
        (one.event_id, one.at_ms, one.ingested_at_ms) for one in events
    ]


@pytest.mark.parametrize(
    "message",
    ["{", "{}", '{"payload": 1}', '{"payload": {"a": 1}}', "{" * 5_000, '{"a":' * 5_000, '{"payload":"\\ud800"}'],
)
def test_vended_json_without_payload_is_unreadable(message: str) -> None:
    assert parse(event(message)) == Unreadable(reason="no_payload")


@pytest.mark.parametrize("message", ["", "  \n", f"({V1}) ", '{"payload": ""}'])
def test_an_empty_line_is_unreadable(message: str) -> None:
    assert parse(event(message)) == Unreadable(reason="empty")


# ------------------------------------------------------------------------------------------------------- how it ended


@pytest.mark.parametrize(
    ("text", "status"),
    [
        ("Method completed with status: 200", 200),
        ("Method completed with status: 502", 502),
        ("Method completed with status: 502\n", 502),
        ("Method completed with status: ", None),
        ("Method completed with status: 099", None),
        ("Method completed with status: 600", None),
        ("Method completed with status: 50", None),
        ("Method completed with status: 5020", None),
        ("Method completed with status: ٥٠٢", None),
        ("Method completed with status: -", None),
        ("method completed with status: 502", None),
        (" Method completed with status: 502", None),
        ("Method request body before transformations: Method completed with status: 502", None),
        ("", None),
    ],
)
def test_only_the_terminal_line_names_the_final_status(text: str, status: int | None) -> None:
    assert completed_status(text) == status


# ---------------------------------------------------------------------------------------------- what others put in lines

DUMPS = {
    "Method request path:": Step.REQUEST_DETAIL,
    "Method request query string:": Step.REQUEST_DETAIL,
    "Method request headers:": Step.REQUEST_DETAIL,
    "Method request body before transformations:": Step.REQUEST_DETAIL,
    "Method request trailers:": Step.REQUEST_DETAIL,
    "Request parameter overrides:": Step.REQUEST_DETAIL,
    "Incoming identity:": Step.AUTHORIZER_START,
    "Authorizer result body before parsing:": Step.AUTHORIZER_RESULT,
    "Using valid authorizer policy for principal:": Step.AUTHORIZER_RESULT,
    "Endpoint request headers:": Step.INTEGRATION_REQUEST,
    "Endpoint request body after transformations:": Step.INTEGRATION_REQUEST,
    "Endpoint request trailers:": Step.INTEGRATION_REQUEST,
    "Endpoint response headers:": Step.INTEGRATION_RESPONSE,
    "Endpoint response body before transformations:": Step.INTEGRATION_RESPONSE,
    "Endpoint response trailers:": Step.INTEGRATION_RESPONSE,
    "Method response headers:": Step.RESPONSE_DETAIL,
    "Method response body after transformations:": Step.RESPONSE_DETAIL,
    "Method response trailers:": Step.RESPONSE_DETAIL,
    "Gateway response headers:": Step.RESPONSE_DETAIL,
    "Gateway response body:": Step.RESPONSE_DETAIL,
    "API Key:": Step.REQUEST_START,
    "API Key ID:": Step.REQUEST_START,
}


@pytest.mark.parametrize("head", DUMPS)
@pytest.mark.parametrize("before", [" ", "\n", " {\n", ' {"a": 1}\n\n'], ids=repr)
def test_a_dump_that_speaks_like_the_gateway_is_a_dump(head: str, before: str) -> None:
    for line in BAD:
        step = step_of(f"{head}{before}{line.text}")
        assert step.step is DUMPS[head]
        assert line.text not in step.text
        assert (step.status, step.name, step.resource) == (None, None, None)


# What stands before and after a secret in a line that is kept.
PLACES = (
    ("Execution failed due to configuration error: ", ""),
    ("Execution failed due to a network error communicating with endpoint: ", ""),
    ("Lambda execution failed with status 200 due to customer function error: ", f". Lambda request id: {V4}"),
    ("Lambda invocation failed with status: 429 ", ""),
    ("Request body does not match model schema for content type application/json: [", "]"),
    ("HTTP Method: GET, Resource Path: /a ", ""),
    ("HTTP Method: ", ", Resource Path: /a"),
    ("Endpoint request URI: https://h.internal/a/", "/b"),
    ("Sending request to ", ""),
    ("API Key ", " not authorized because method 'GET /' requires API Key"),
    ("Unauthorized request: ", ""),
    ("Extended Request Id: ", ""),
    ("AWS Integration Endpoint RequestId : ", ""),
    ("X-ray Tracing ID : ", ""),
    ("Gateway response type: ", " with status code: 500"),
    ("Received response. Status: 200, Integration latency: 1 ms ", ""),
    ("Successfully completed execution ", ""),
    ("Method completed with status: ", ""),
    ("An unknown line: ", ""),
    *((f"{head} {{a=b, x=", "}") for head in DUMPS),
)


@pytest.mark.parametrize(("secret", "gone"), SECRETS.values(), ids=SECRETS)
def test_no_secret_survives_anywhere_in_a_line(secret: str, gone: list[str]) -> None:
    survived = [
        (before, part)
        for before, after in PLACES
        for part in gone
        if part in msgspec.json.encode(step_of(f"{before}{secret}{after}")).decode()
    ]
    assert survived == []


def test_the_words_of_a_reason_stay_around_a_secret() -> None:
    text = f"Lambda execution failed with status 200 due to customer function error: Cookie: a=b; c=d. Lambda request id: {V4}"
    step = step_of(text)
    assert step.text.startswith("Lambda execution failed with status 200 due to customer function error: Cookie: ")
    assert step.text.endswith(f". Lambda request id: {V4}")
    assert "c=d" not in step.text


@pytest.mark.parametrize("length", [900, 1_100, 8_100, 8_200, 100_000])
def test_a_long_reason_is_cut_short_and_keeps_its_ends(length: int) -> None:
    head = "Lambda execution failed with status 200 due to customer function error: "
    step = step_of(f"{head}{'word ' * (length // 5)}hunter2. Lambda request id: {V4}")
    assert len(step.text) <= MAX_TEXT
    assert step.text.startswith(head)
    assert step.text.endswith(f". Lambda request id: {V4}")
    assert step.name == V4


def test_a_secret_on_the_edge_of_what_is_looked_at_is_cut() -> None:
    """Cutting a text may leave half a secret; what stands before it may shrink so much that the half would be shown."""
    for filler in range(7_900, 8_400):
        step = step_of(
            f"Execution failed due to {'x=' + 'A1b2' * (filler // 4)} AKIAIOSFODNN7EXAMPLE john@example.com {'z' * 9_000}"
        )
        assert "AKIA" not in step.text
        assert "john" not in step.text


def test_a_url_is_cut_short() -> None:
    step = step_of(f"Sending request to https://h.example.com/{'a/' * 9_000}?token=x")
    assert step.name is not None
    assert len(step.text) <= MAX_TEXT
    assert step.text.endswith(step.name)


def test_a_masked_key_cannot_forge_a_pass() -> None:
    assert step_of("API Key ****'GET / not authorized because method 'POST /x' requires API Key").name == "POST"
    assert step_of("API Key ****abcdef not authorized because 'authorized because '").step is Step.API_KEY


# ------------------------------------------------------------------------------------------------------------ its trace


@pytest.mark.parametrize(
    ("headers", "context"),
    [
        (f"{{Accept=*/*, traceparent={TRACEPARENT}, Host=h}}", TRACEPARENT),
        (f"{{TraceParent={TRACEPARENT}}}", TRACEPARENT),
        (f"{{X-Amzn-Trace-Id=Root={ROOT}, traceparent={TRACEPARENT}", TRACEPARENT),
        (f"{{traceparent={TRACEPARENT} [TRUNCATED]", TRACEPARENT),
        (f"{{A=b, X-Amzn-Trace-Id=Root={ROOT}}}", f"Root={ROOT}"),
        (
            f"{{X-Amzn-Trace-Id=Root={ROOT};Parent=53995c3f42cd8ad8;Sampled=1, B=c}}",
            f"Root={ROOT};Parent=53995c3f42cd8ad8;Sampled=1",
        ),
        (
            f"{{X-Amzn-Trace-Id=Sampled=0;Root={ROOT};Parent=53995c3f42cd8ad8}}",
            f"Root={ROOT};Parent=53995c3f42cd8ad8;Sampled=0",
        ),
        (
            f"{{X-Amzn-Trace-Id=Self=1-5c7674f4-000000000000000000000001;Root={ROOT};Lineage=a87bd80c:0}}",
            f"Root={ROOT}",
        ),
        (
            f"{{x-amzn-trace-id=root={ROOT.upper()}; parent=53995C3F42CD8AD8; sampled=?}}",
            f"Root={ROOT};Parent=53995c3f42cd8ad8;Sampled=?",
        ),
        (f"{{X-Amzn-Trace-Id=Root={ROOT};Parent=53995c3f [TRUNCATED]", f"Root={ROOT}"),
        (f"{{X-Amzn-Trace-Id=Root={ROOT};Parent=hunter2;Note=hunter2}}", f"Root={ROOT}"),
        (f"{{X-Amzn-Trace-Id=Root={ROOT[:-1]} [TRUNCATED]", None),
        (f"{{X-Amzn-Trace-Id=Self={ROOT}}}", None),
        ("{traceparent=00-00000000000000000000000000000000-00f067aa0ba902b7-01}", None),
        ("{traceparent=00-4bf92f3577b34da6a3ce929d0e0e4736-0000000000000000-01}", None),
        (f"{{traceparent={TRACEPARENT}x}}", None),
        (f"{{traceparent={TRACEPARENT[:-4]} [TRUNCATED]", None),
        (f"{{X-traceparent={TRACEPARENT}}}", None),
        ("{}", None),
    ],
)
def test_the_trace_is_found_among_the_request_headers(headers: str, context: str | None) -> None:
    assert step_of(f"Method request headers: {headers}").trace_context == context


@pytest.mark.parametrize("head", [head for head in DUMPS if "request headers" not in head])
def test_no_other_dump_names_a_trace(head: str) -> None:
    assert step_of(f"{head} {{traceparent={TRACEPARENT}, X-Amzn-Trace-Id=Root={ROOT}}}").trace_context is None


# ------------------------------------------------------------------------------------------- Lambda's own refusal, named


@pytest.mark.parametrize(
    ("body", "name"),
    [
        (
            '{"Reason":"ReservedFunctionConcurrentInvocationLimitExceeded","Type":"User","message":"Rate Exceeded."}',
            "ReservedFunctionConcurrentInvocationLimitExceeded",
        ),
        ('{"Reason":"ConcurrentInvocationLimitExceeded","Type":"User"}', "TooManyRequestsException"),
        ('{\n "__type": "com.amazonaws.lambda#TooManyRequestsException"\n}', "TooManyRequestsException"),
        ('{"Type":"TooManyRequestsException"}', "TooManyRequestsException"),
        ('{"statusCode":429,"body":"{\\"Reason\\":\\"ReservedFunctionConcurrentInvocationLimitExceeded\\"}"}', None),
        ('{"detail":{"Reason":"ReservedFunctionConcurrentInvocationLimitExceeded"}}', None),
        ('{"errorMessage":"TooManyRequestsException","errorType":"TooManyRequestsException"}', None),
        ('"TooManyRequestsException"', None),
        ("TooManyRequestsException", None),
        ('{"Reason":["ReservedFunctionConcurrentInvocationLimitExceeded"],"Type":7}', None),
        ('{"Type":"User"}', None),
    ],
)
def test_only_lambda_itself_says_that_it_throttles(body: str, name: str | None) -> None:
    assert step_of(f"Endpoint response body before transformations: {body}").name == name


def test_a_throttle_in_any_other_body_is_nobodys() -> None:
    body = '{"Reason":"ReservedFunctionConcurrentInvocationLimitExceeded","Type":"User"}'
    assert [
        head
        for head in DUMPS
        if head != "Endpoint response body before transformations:" and step_of(f"{head} {body}").name
    ] == []


# ------------------------------------------------------------------------------------------------------------- any text


@given(st.text() | st.builds("({}) {}".format, st.sampled_from([V1, "PDS1PEC4oAMFpyA=", "-"]), st.text()))
def test_any_text_is_a_step_or_unreadable(message: str) -> None:
    read = parse(event(message))
    assert isinstance(read, Unreadable) or len(read[1].text) <= MAX_TEXT
    assert isinstance(is_routine(message), bool)
    assert completed_status(message) is None or message.startswith("Method completed with status: ")


@given(
    st.sampled_from([line.head for line in execution_log._LINES]),
    st.integers(0, 60),
    st.sampled_from(["", " ", "x"]),
    st.sampled_from(["", *(line.head for line in execution_log._LINES)]),
)
def test_a_line_is_what_the_first_of_all_heads_makes_it(head: str, kept: int, between: str, more: str) -> None:
    text = f"{head[:kept]}{between}{more}".strip() or "x"
    known = next((line for line in execution_log._LINES if text.startswith(line.head)), None)
    if known is not None:
        assert execution_log._read(text) == (known.step, known.read(known.head, text))
    elif not text.startswith("API Key "):
        assert execution_log._read(text)[0] in {Step.OTHER, Step.REASON}


@given(st.sampled_from([line.text for line in (*GOOD, *BAD)]), st.integers(0, 200), st.text(max_size=30))
def test_any_mangled_line_is_a_step_or_unreadable(text: str, at: int, inserted: str) -> None:
    read = parse(event(text[:at] + inserted + text[at:]))
    assert isinstance(read, Unreadable) or len(read[1].text) <= MAX_TEXT


@given(st.sampled_from([line.text for line in (*GOOD, *BAD)]), st.sampled_from(["", "?q=1", "502", " ***abcdef"]))
def test_a_line_read_again_is_read_alike(text: str, more: str) -> None:
    assert step_of(text + more) == step_of(text + more)


def test_lines_are_remembered_in_bounds_and_only_if_nothing_of_them_was_cut() -> None:
    read = []

    @execution_facts._remembering
    def reader(head: str, text: str) -> execution_facts.Facts:
        read.append(text)
        return execution_facts.Facts(text.replace("secret", REDACTED))

    for text in ("of one route", "a secret", "x" * 513):
        assert reader("", text) == reader("", text)
    assert read == ["of one route", "a secret", "a secret", "x" * 513, "x" * 513]
    for number in range(2_000):
        reader("", f"of {number}")
    reader("", "of one route")
    assert read.count("of one route") == 2


def test_a_megabyte_costs_no_more_than_its_length() -> None:
    heads = [*DUMPS, *(before for before, _ in PLACES), "", "{", '{"payload":"', "(", f"({V1}) "]
    units = (
        "a",
        "{a=",
        ", ",
        "a=",
        "{traceparent=",
        ", x-amzn-trace-id=Root=;",
        "1-",
        "a (",
        "a:",
        "://a:",
        '"',
        "\\",
        " ",
        "(" + V1,
    )

    def seconds(message: str) -> float:
        began = time.thread_time()
        parse(event(message))
        return time.thread_time() - began

    def is_slow(head: str, unit: str) -> bool:
        """Eight times the length takes about eight times as long; were it the square, 64 times."""
        short, long = unit * (4_000 // len(unit)), unit * (32_000 // len(unit))
        return seconds(f"{head} {long}") > 24 * seconds(f"{head} {short}")

    # A busy machine makes one measurement lie, not five in a row.
    assert [(head, unit) for head in heads for unit in units if all(is_slow(head, unit) for _ in range(5))] == []
