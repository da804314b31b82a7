"""Execution lines: from `(request id) text` to the step it tells of, with every secret cut away.

Two speeds. `split`, `is_routine` and `completed_status` are a look, taken of every line: they find out whose line it is
and whether its request ended well. `parse` reads a line in full and is taken of failures only. All of them are total
functions: they return on any text. `parse` is the one place where an execution line becomes a text that may be kept:
header and body dumps become a note of their size, URLs lose their query, identities are cut.

What a line *is* follows from its head alone, which API Gateway writes; never from a word further on, which a caller, a
function or a backend may have written. Which of several reasons is the cause is not decided here.
"""

import re
from typing import NamedTuple

from exporter import execution_facts as facts
from exporter.envelope import PLACEHOLDER_IDS, split
from exporter.execution_facts import MAX_TEXT, METHODS, status_of
from exporter.model import ExecutionStep, LogEvent, Step, Unreadable

__all__ = ["MAX_TEXT", "PLACEHOLDER_IDS", "completed_status", "is_routine", "parse", "split"]

# ------------------------------------------------------------------------------------------------- a look at every line


def is_routine(text: str) -> bool:
    """Whether this line says nothing of why a request failed: one that a request which ends well prints too.

    An unknown line is not routine. The terminal line is, whatever its status: every request prints one, so ask
    `completed_status` of it first.
    """
    return text[:HEAD] in ROUTINE_HEADS or text[:12] in _ROUTINE_SHORT or (text[:9] == "API Key *" and _is_pass(text))


COMPLETED = "Method completed with status: "

HEAD = 19
"""So many characters tell the heads of a good request's lines from those of a failure."""
ROUTINE_HEADS = frozenset(
    head[:HEAD]
    for head in (
        "Extended Request Id: ",
        "Verifying Usage Plan for request: ",
        "API Key authorized because ",
        "API Key  authorized because ",
        "Usage Plan check succeeded ",
        "Starting execution for request: ",
        "Starting authorizer: ",
        "Incoming identity: ",
        "Authorizer result body before parsing: ",
        "Using valid authorizer policy for principal: ",
        "Successfully completed authorizer execution",
        "Successfully completed execution",
        "Method request path:",
        "Method request query string: ",
        "Method request headers: ",
        "Method request body before transformations: ",
        "Method response headers: ",
        "Method response body after transformations: ",
        "Endpoint request URI: ",
        "Endpoint request headers: ",
        "Endpoint request body after transformations: ",
        "Endpoint response headers: ",
        "Endpoint response body before transformations: ",
        "Sending request to ",
        "Received response. ",
        "Request parameter overrides: ",
        "AWS Integration Endpoint RequestId : ",
        "X-ray Tracing ID : ",
        *(f"HTTP Method: {method}, Resource Path: " for method in METHODS),
        COMPLETED,
    )
)
"""The heads of lines that say nothing of why a request failed; `is_routine` also knows some shorter ones."""
_ROUTINE_SHORT = frozenset({"HTTP Method:", "API Key: ***", "API Key ID: "})


def _is_pass(text: str) -> bool:
    return _PASS.match(text) is not None


# A masked key shows six characters that a caller chose: too few to forge what follows.
_PASS = re.compile(r"API Key (?:\*{1,128}+[^\s*]{0,8})?\s?authorized")


def completed_status(text: str) -> int | None:
    """Return the status that the terminal line names (100 to 599), None for any other line."""
    return status_of(text[30:].strip()) if text[:30] == COMPLETED else None


# ------------------------------------------------------------------------------------------------------ a line in full


def parse(event: LogEvent) -> tuple[str | None, ExecutionStep] | Unreadable:
    """Return the request id (None where the line names none) and the step, redacted, that an execution line tells of.

    `name` is the extended request id or the HTTP method (REQUEST_START, API_KEY), the integration's URL
    (INTEGRATION_REQUEST), the integration's request id or the X-Ray root (TRAILER), the gateway response type
    (GATEWAY_RESPONSE), the Lambda request id (REASON). Bodies are not kept, but one fact in them is evidence: where the
    endpoint's response body is Lambda's own answer that it throttles, that INTEGRATION_RESPONSE step is named
    `TooManyRequestsException` or `ReservedFunctionConcurrentInvocationLimitExceeded`.

    A line in which the gateway says why is a REASON, a usage plan's refusal an API_KEY; both keep the gateway's words.
    `Unreadable` are `empty` lines, and vended JSON without a readable `payload` (`no_payload`).
    """
    request_id, text = split(event.message)
    text = text.strip()
    if not text:
        return Unreadable(reason="empty")
    if request_id is None and text[0] == "{":
        return Unreadable(reason="no_payload")
    return request_id, step_of(event.event_id, event.at_ms, text)


def step_of(event_id: str, at_ms: int, text: str) -> ExecutionStep:
    """Return what an event tells of whose text, without white space around it, is known already: see `parse`."""
    step, told = _read(text)
    return ExecutionStep(
        event_id=event_id,
        at_ms=at_ms,
        step=step,
        text=told.text,
        status=told.status,
        latency_ms=told.latency_ms,
        name=told.name,
        resource=told.resource,
        trace_context=told.trace_context,
    )


def _read(text: str) -> tuple[Step, facts.Facts]:
    candidates = _LINES_BY_START.get(text[:_START])
    if candidates is None:
        candidates = _LINES_BY_SHORT_START.get(text[:_SHORT_START], ())
    for head, step, read in candidates:
        if text.startswith(head):
            return step, read(head, text)
    if text.startswith("API Key "):
        return (_REQUEST_START if _is_pass(text) else Step.API_KEY), facts.key_decision("API Key ", text)
    return (Step.REASON if text in _BARE_REASONS else Step.OTHER), facts.words("", text)


class _Line(NamedTuple):
    """A line that API Gateway prints: how it begins, what it tells of, and how it is read."""

    head: str
    step: Step
    read: facts.Reader


_LINES = (
    _Line("Execution log for request ", Step.REQUEST_START, facts.words),
    _Line("Extended Request Id:", Step.REQUEST_START, facts.aws_id),
    _Line("Verifying Usage Plan for request:", Step.REQUEST_START, facts.words),
    _Line("API Key:", Step.REQUEST_START, facts.identity),
    _Line("API Key ID:", Step.REQUEST_START, facts.identity),
    _Line("Usage Plan check succeeded ", Step.REQUEST_START, facts.words),
    _Line("Starting execution for request:", Step.REQUEST_START, facts.own_id),
    _Line("HTTP Method:", Step.REQUEST_START, facts.http_method),
    _Line("Method request path:", Step.REQUEST_DETAIL, facts.fields),
    _Line("Method request query string:", Step.REQUEST_DETAIL, facts.fields),
    _Line("Method request headers:", Step.REQUEST_DETAIL, facts.request_headers),
    _Line("Method request body before transformations:", Step.REQUEST_DETAIL, facts.body),
    _Line("Method request ", Step.REQUEST_DETAIL, facts.unknown_dump),
    _Line("Request parameter overrides:", Step.REQUEST_DETAIL, facts.body),
    _Line("Starting authorizer:", Step.AUTHORIZER_START, facts.words),
    _Line("Incoming identity:", Step.AUTHORIZER_START, facts.identity),
    _Line("Authorizer result body before parsing:", Step.AUTHORIZER_RESULT, facts.body),
    _Line("Using valid authorizer policy for principal:", Step.AUTHORIZER_RESULT, facts.identity),
    _Line("Successfully completed authorizer execution", Step.AUTHORIZER_RESULT, facts.words),
    _Line("Endpoint request URI:", Step.INTEGRATION_REQUEST, facts.url),
    _Line("Sending request to", Step.INTEGRATION_REQUEST, facts.url),
    _Line("Endpoint request headers:", Step.INTEGRATION_REQUEST, facts.request_headers),
    _Line("Endpoint request body after transformations:", Step.INTEGRATION_REQUEST, facts.body),
    _Line("Endpoint request ", Step.INTEGRATION_REQUEST, facts.unknown_dump),
    _Line("Received response.", Step.INTEGRATION_RESPONSE, facts.received),
    _Line("Endpoint response headers:", Step.INTEGRATION_RESPONSE, facts.fields),
    _Line("Endpoint response body before transformations:", Step.INTEGRATION_RESPONSE, facts.endpoint_body),
    _Line("Endpoint response ", Step.INTEGRATION_RESPONSE, facts.unknown_dump),
    _Line("Method response headers:", Step.RESPONSE_DETAIL, facts.fields),
    _Line("Method response body after transformations:", Step.RESPONSE_DETAIL, facts.body),
    _Line("Method response ", Step.RESPONSE_DETAIL, facts.unknown_dump),
    _Line("Gateway response type:", Step.GATEWAY_RESPONSE, facts.gateway_response),
    _Line("Gateway response headers:", Step.RESPONSE_DETAIL, facts.fields),
    _Line("Gateway response body:", Step.RESPONSE_DETAIL, facts.body),
    _Line("Gateway response ", Step.RESPONSE_DETAIL, facts.unknown_dump),
    _Line("Successfully completed execution", Step.EXECUTION_COMPLETED, facts.words),
    _Line(COMPLETED, Step.COMPLETED, facts.completed),
    _Line("AWS Integration Endpoint RequestId :", Step.TRAILER, facts.aws_id),
    _Line("X-ray Tracing ID :", Step.TRAILER, facts.xray_root),
    _Line("Key throttle limit exceeded", Step.API_KEY, facts.key_decision),
    _Line("Key quota exhausted", Step.API_KEY, facts.key_decision),
    _Line("Lambda execution failed with status ", Step.REASON, facts.lambda_reason),
    _Line("Lambda invocation failed with status", Step.REASON, facts.lambda_reason),
    *(
        _Line(head, Step.REASON, facts.words)
        for head in (
            "Execution failed due to ",
            "Request body does not match model schema",
            "Unauthorized request:",
            "The client is not authorized to perform this operation",
            "User is not authorized to access this resource",
            "User: anonymous is not authorized to perform:",
            "User: arn:",
            "Missing Authentication Token",
            "Missing required request parameters:",
            "Unsupported Media Type",
            "Invalid key=value pair ",
            "Authorization header requires ",
            "The request signature we calculated ",
            "Signature expired",
            "The security token included in the request ",
            "The incoming token has expired",
            "Invalid API Key identifier specified",
            "There was an error evaluating the AWS WAF rules",
            "Failed to call WAF",
            "WAF call got timed out",
            "HTTP content length exceeded ",
            "Response payload size exceeded ",
            "Endpoint request timed out",
            "Network error communicating with endpoint",
        )
    ),
)

# What a gateway response says for itself, too short to be known by its beginning.
_BARE_REASONS = frozenset(
    {
        "AuthorizerConfigurationException",
        "Forbidden",
        "Invalid request body",
        "Limit Exceeded",
        "Request Too Long",
        "Too Many Requests",
        "Unauthorized",
    }
)

_REQUEST_START = Step.REQUEST_START

# Few heads share their first characters, so a line is compared with few, in the order above.
_START, _SHORT_START = 19, 7
_LINES_BY_START = {
    start: tuple(line for line in _LINES if line.head.startswith(start) or start.startswith(line.head))
    for start in {line.head[:_START] for line in _LINES if len(line.head) >= _START}
}
_LINES_BY_SHORT_START = {
    start: tuple(line for line in _LINES if line.head.startswith(start) and len(line.head) < _START)
    for start in {line.head[:_SHORT_START] for line in _LINES if len(line.head) < _START}
}
"""For lines that begin as no head of `_START` characters or more does."""
