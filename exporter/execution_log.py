"""Execution lines: from `(request id) text` to the step it tells of, with every secret cut away.

Two speeds. `split`, `is_routine` and `completed_status` are a look, taken of every line: they find out whose line it is
and whether its request ended well. `parse` reads a line in full and is taken of failures only. All of them are total
functions: they return on any text. `parse` is the one place where an execution line becomes a text that may be kept:
header and body dumps become a note of their size, URLs lose their query, identities are cut.

What a line *is* follows from its head alone, which API Gateway writes; never from a word further on, which a caller, a
function or a backend may have written. Which of several reasons is the cause is not decided here.
"""

import re
from collections.abc import Callable
from typing import NamedTuple

import msgspec

from exporter import dumps
from exporter.envelope import PLACEHOLDER_IDS, REQUEST_ID, UUID, split
from exporter.model import ExecutionStep, LogEvent, Step, Unreadable
from exporter.redaction import REDACTED, redact, strip_url

__all__ = ["MAX_TEXT", "PLACEHOLDER_IDS", "completed_status", "is_routine", "parse", "split"]

MAX_TEXT = 1_024
"""The most characters of a line that are kept."""

# ------------------------------------------------------------------------------------------------- a look at every line


def is_routine(text: str) -> bool:
    """Whether this line says nothing of why a request failed: one that a request which ends well prints too.

    An unknown line is not routine. The terminal line is, whatever its status: every request prints one, so ask
    `completed_status` of it first.
    """
    return text[:HEAD] in ROUTINE_HEADS or text[:12] in _ROUTINE_SHORT or (text[:9] == "API Key *" and _is_pass(text))


COMPLETED = "Method completed with status: "
_METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "DELETE", "CONNECT", "OPTIONS", "TRACE", "PATCH"})

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
        *(f"HTTP Method: {method}, Resource Path: " for method in _METHODS),
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
    return _status(text[30:].strip()) if text[:30] == COMPLETED else None


def _status(digits: str | None) -> int | None:
    if digits is None or len(digits) != 3 or not digits.isascii() or not digits.isdecimal():
        return None
    return int(digits) if 100 <= int(digits) <= 599 else None


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
    step, facts = _read(text)
    return ExecutionStep(
        event_id=event_id,
        at_ms=at_ms,
        step=step,
        text=facts.text,
        status=facts.status,
        latency_ms=facts.latency_ms,
        name=facts.name,
        resource=facts.resource,
        trace_context=facts.trace_context,
    )


class _Facts(msgspec.Struct, frozen=True, gc=False):
    """What a line says, safe to keep. Fields as in `ExecutionStep`."""

    text: str
    status: int | None = None
    latency_ms: int | None = None
    name: str | None = None
    resource: str | None = None
    trace_context: str | None = None


def _read(text: str) -> tuple[Step, _Facts]:
    candidates = _LINES_BY_START.get(text[:_START])
    if candidates is None:
        candidates = _LINES_BY_SHORT_START.get(text[:_SHORT_START], ())
    for head, step, read in candidates:
        if text.startswith(head):
            return step, read(head, text)
    if text.startswith("API Key "):
        return (_REQUEST_START if _is_pass(text) else Step.API_KEY), _key_decision("API Key ", text)
    return (Step.REASON if text in _BARE_REASONS else Step.OTHER), _words("", text)


# Readers: the head that matched and the whole line in, the facts out.

_Reader = Callable[[str, str], _Facts]
_MOST_KNOWN, _LONGEST_KNOWN = 1_024, 512


def _remembering(read: _Reader) -> _Reader:
    """Read a text once of which nothing is cut: for lines that are alike in all failures of a route."""
    known: dict[str, _Facts] = {}

    def read_once(head: str, text: str) -> _Facts:
        facts = known.get(text)
        if facts is None:
            facts = read(head, text)
            if facts.text == text and len(text) <= _LONGEST_KNOWN:
                if len(known) >= _MOST_KNOWN:
                    known.clear()
                known[text] = facts
        return facts

    return read_once


def _words(head: str, text: str) -> _Facts:
    """The gateway's own words, between which a caller's or a function's may stand."""
    return _Facts(text if text == head else _safe(text))


# A longer text is cut before it is redacted. What then stands at its end may be half a secret, which no pattern knows.
_WINDOW = 8_192
_HALF_SECRET = 256


def _safe(text: str, room: int = MAX_TEXT) -> str:
    safe = redact(text) if len(text) <= _WINDOW else f"{redact(text[:_WINDOW])[:-_HALF_SECRET]}…"
    return _shortened(safe, room)


def _shortened(safe: str, room: int) -> str:
    return safe if len(safe) <= room else f"{safe[: room - 1]}…"


def _own_id(head: str, text: str) -> _Facts:
    """A label and the request's own id, mostly a UUID, which needs no redaction."""
    return _Facts(text if _OWN_ID.fullmatch(text, len(head)) else _safe(text))


_OWN_ID = re.compile(rf"\s?{UUID}")


def _identity(head: str, _text: str) -> _Facts:
    return _Facts(f"{head} {REDACTED}")


def _aws_id(head: str, text: str) -> _Facts:
    """A label and a request id: as API Gateway makes them, or 16 or 52 capitals and digits as S3 and DynamoDB do."""
    found = _AWS_ID.fullmatch(text, len(head))
    return _Facts(text, name=found[1]) if found else _Facts(_safe(text))


_AWS_ID = re.compile(rf"\s{{0,8}}+({REQUEST_ID}|(?=[0-9]*[A-Z])(?:[0-9A-Z]{{16}}|[0-9A-Z]{{52}}))")


def _xray_root(head: str, text: str) -> _Facts:
    found = dumps.XRAY_ROOT.search(text, len(head), 256)
    if found is None:
        return _Facts(_safe(text))
    is_all = text[len(head) : found.start()].strip() in ("", "Root=") and found.end() == len(text)
    return _Facts(text if is_all else _safe(text), name=found[0].lower())


def _http_method(head: str, text: str) -> _Facts:
    """`HTTP Method: GET, Resource Path: /orders/42`: a caller's path, never a template."""
    return _Facts(_safe(text), name=_method(text[len(head) :].partition(",")[0].strip()))


def _method(name: str) -> str | None:
    if name in ("", "ANY"):
        return None  # a resource's catch-all says nothing of the request
    return name if name in _METHODS else "_OTHER"


@_remembering
def _key_decision(_head: str, text: str) -> _Facts:
    """A usage plan's decision: `API Key … because method 'GET /orders/{id}' …`, `Key throttle limit exceeded for …`."""
    found = _KEY_METHOD.search(text, 0, MAX_TEXT)
    return _Facts(_safe(text), name=_method(found[1] or found[3]), resource=found[2]) if found else _Facts(_safe(text))


_KEY_METHOD = re.compile(r"because method '([A-Z]{1,32}) (/[^'\s]*)'|, HttpMethod ([A-Z]{1,32})\b")


@_remembering
def _url(head: str, text: str) -> _Facts:
    url = _shortened(strip_url(text[len(head) :].strip()[:_WINDOW]), MAX_TEXT - len(head) - 1)
    return _Facts(f"{head} {url}", name=url or None)


def _received(_head: str, text: str) -> _Facts:
    found = _RECEIVED.match(text)
    if found is None:
        return _Facts(_safe(text))
    safe = text if found.end() == len(text) else _safe(text)
    return _Facts(safe, status=_status(found[1]), latency_ms=int(found[2]))


_RECEIVED = re.compile(r"Received response\. (?:Status: (\d{3}), )?Integration latency: ([0-9]{1,9}) ms")


@_remembering
def _completed(_head: str, text: str) -> _Facts:
    status = completed_status(text)
    return _Facts(_safe(text) if status is None else text, status=status)


def _gateway_response(_head: str, text: str) -> _Facts:
    found = _GATEWAY_RESPONSE.match(text)
    return _Facts(_safe(text), name=found[1], status=_status(found[2])) if found else _Facts(_safe(text))


_GATEWAY_RESPONSE = re.compile(
    r"Gateway response type: ([A-Z_]{1,64}(?:[45]XX)?+)(?: with status code: (\d{3}))?+(?!\w)"
)


def _lambda_reason(_head: str, text: str) -> _Facts:
    """A function's error: its words between the gateway's, the Lambda request id last, which is kept in any case."""
    found = _LAMBDA_REQUEST_ID.search(text, max(0, len(text) - 80))
    if found is None:
        return _Facts(_safe(text))
    return _Facts(_safe(text[: found.start()], MAX_TEXT - len(found[0])) + found[0], name=found[1])


_LAMBDA_REQUEST_ID = re.compile(rf"\. Lambda request id: ({UUID})$")


def _body(head: str, text: str) -> _Facts:
    return _Facts(f"{head} {dumps.size(text[len(head) :])}")


def _endpoint_body(head: str, text: str) -> _Facts:
    dump = text[len(head) :]
    return _Facts(f"{head} {dumps.size(dump)}", name=dumps.lambda_throttle(dump))


def _fields(head: str, text: str) -> _Facts:
    return _Facts(f"{head} {dumps.size_of_fields(text[len(head) :])}")


def _request_headers(head: str, text: str) -> _Facts:
    dump = text[len(head) :]
    return _Facts(f"{head} {dumps.size_of_fields(dump)}", trace_context=dumps.trace_context(dump))


def _unknown_dump(head: str, text: str) -> _Facts:
    """A kind of dump not met before: named by the plain words before its colon, if that is what stands there."""
    label = _LABEL.match(text)
    return _body(label[0] if label else head.rstrip(), text)


_LABEL = re.compile(r"[A-Za-z ]{1,64}+:")


class _Line(NamedTuple):
    """A line that API Gateway prints: how it begins, what it tells of, and how it is read."""

    head: str
    step: Step
    read: _Reader


_LINES = (
    _Line("Execution log for request ", Step.REQUEST_START, _words),
    _Line("Extended Request Id:", Step.REQUEST_START, _aws_id),
    _Line("Verifying Usage Plan for request:", Step.REQUEST_START, _words),
    _Line("API Key:", Step.REQUEST_START, _identity),
    _Line("API Key ID:", Step.REQUEST_START, _identity),
    _Line("Usage Plan check succeeded ", Step.REQUEST_START, _words),
    _Line("Starting execution for request:", Step.REQUEST_START, _own_id),
    _Line("HTTP Method:", Step.REQUEST_START, _http_method),
    _Line("Method request path:", Step.REQUEST_DETAIL, _fields),
    _Line("Method request query string:", Step.REQUEST_DETAIL, _fields),
    _Line("Method request headers:", Step.REQUEST_DETAIL, _request_headers),
    _Line("Method request body before transformations:", Step.REQUEST_DETAIL, _body),
    _Line("Method request ", Step.REQUEST_DETAIL, _unknown_dump),
    _Line("Request parameter overrides:", Step.REQUEST_DETAIL, _body),
    _Line("Starting authorizer:", Step.AUTHORIZER_START, _words),
    _Line("Incoming identity:", Step.AUTHORIZER_START, _identity),
    _Line("Authorizer result body before parsing:", Step.AUTHORIZER_RESULT, _body),
    _Line("Using valid authorizer policy for principal:", Step.AUTHORIZER_RESULT, _identity),
    _Line("Successfully completed authorizer execution", Step.AUTHORIZER_RESULT, _words),
    _Line("Endpoint request URI:", Step.INTEGRATION_REQUEST, _url),
    _Line("Sending request to", Step.INTEGRATION_REQUEST, _url),
    _Line("Endpoint request headers:", Step.INTEGRATION_REQUEST, _request_headers),
    _Line("Endpoint request body after transformations:", Step.INTEGRATION_REQUEST, _body),
    _Line("Endpoint request ", Step.INTEGRATION_REQUEST, _unknown_dump),
    _Line("Received response.", Step.INTEGRATION_RESPONSE, _received),
    _Line("Endpoint response headers:", Step.INTEGRATION_RESPONSE, _fields),
    _Line("Endpoint response body before transformations:", Step.INTEGRATION_RESPONSE, _endpoint_body),
    _Line("Endpoint response ", Step.INTEGRATION_RESPONSE, _unknown_dump),
    _Line("Method response headers:", Step.RESPONSE_DETAIL, _fields),
    _Line("Method response body after transformations:", Step.RESPONSE_DETAIL, _body),
    _Line("Method response ", Step.RESPONSE_DETAIL, _unknown_dump),
    _Line("Gateway response type:", Step.GATEWAY_RESPONSE, _gateway_response),
    _Line("Gateway response headers:", Step.RESPONSE_DETAIL, _fields),
    _Line("Gateway response body:", Step.RESPONSE_DETAIL, _body),
    _Line("Gateway response ", Step.RESPONSE_DETAIL, _unknown_dump),
    _Line("Successfully completed execution", Step.EXECUTION_COMPLETED, _words),
    _Line(COMPLETED, Step.COMPLETED, _completed),
    _Line("AWS Integration Endpoint RequestId :", Step.TRAILER, _aws_id),
    _Line("X-ray Tracing ID :", Step.TRAILER, _xray_root),
    _Line("Key throttle limit exceeded", Step.API_KEY, _key_decision),
    _Line("Key quota exhausted", Step.API_KEY, _key_decision),
    _Line("Lambda execution failed with status ", Step.REASON, _lambda_reason),
    _Line("Lambda invocation failed with status", Step.REASON, _lambda_reason),
    *(
        _Line(head, Step.REASON, _words)
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
