"""What one execution line says, safe to keep: a reader for each kind of line that API Gateway prints.

A reader takes the head that `execution_log` knew the line by and the whole line, and returns its facts. Readers are
total functions: they return on any text. Nothing leaves them unredacted: header and body dumps become a note of their
size, URLs lose their query, identities are cut. Which step a line tells of is not decided here.
"""

import re
from collections.abc import Callable

import msgspec

from exporter import dumps
from exporter.envelope import REQUEST_ID, UUID
from exporter.redaction import REDACTED, redact, strip_url

MAX_TEXT = 1_024
"""The most characters of a line that are kept."""

METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "DELETE", "CONNECT", "OPTIONS", "TRACE", "PATCH"})


class Facts(msgspec.Struct, frozen=True, gc=False):
    """What a line says, safe to keep. Fields as in `ExecutionStep`."""

    text: str
    status: int | None = None
    latency_ms: int | None = None
    name: str | None = None
    resource: str | None = None
    trace_context: str | None = None


def status_of(digits: str | None) -> int | None:
    """Return the status (100 to 599) that is written so, None where it is none."""
    if digits is None or len(digits) != 3 or not digits.isascii() or not digits.isdecimal():
        return None
    return int(digits) if 100 <= int(digits) <= 599 else None


Reader = Callable[[str, str], Facts]
"""The head of a line and the whole line in, the facts out."""

_MOST_KNOWN, _LONGEST_KNOWN = 1_024, 512


def _remembering(read: Reader) -> Reader:
    """Read a text once of which nothing is cut: for lines that are alike in all failures of a route."""
    known: dict[str, Facts] = {}

    def read_once(head: str, text: str) -> Facts:
        facts = known.get(text)
        if facts is None:
            facts = read(head, text)
            if facts.text == text and len(text) <= _LONGEST_KNOWN:
                if len(known) >= _MOST_KNOWN:
                    known.clear()
                known[text] = facts
        return facts

    return read_once


def words(head: str, text: str) -> Facts:
    """The gateway's own words, between which a caller's or a function's may stand."""
    return Facts(text if text == head else _safe(text))


# A longer text is cut before it is redacted. What then stands at its end may be half a secret, which no pattern knows.
_WINDOW = 8_192
_HALF_SECRET = 256


def _safe(text: str, room: int = MAX_TEXT) -> str:
    safe = redact(text) if len(text) <= _WINDOW else f"{redact(text[:_WINDOW])[:-_HALF_SECRET]}…"
    return _shortened(safe, room)


def _shortened(safe: str, room: int) -> str:
    return safe if len(safe) <= room else f"{safe[: room - 1]}…"


def own_id(head: str, text: str) -> Facts:
    """A label and the request's own id, mostly a UUID, which needs no redaction."""
    return Facts(text if _OWN_ID.fullmatch(text, len(head)) else _safe(text))


_OWN_ID = re.compile(rf"\s?{UUID}")


def identity(head: str, _text: str) -> Facts:
    """A label, and someone whose name is not kept: an API key, a principal."""
    return Facts(f"{head} {REDACTED}")


def aws_id(head: str, text: str) -> Facts:
    """A label and a request id: as API Gateway makes them, or 16 or 52 capitals and digits as S3 and DynamoDB do."""
    found = _AWS_ID.fullmatch(text, len(head))
    return Facts(text, name=found[1]) if found else Facts(_safe(text))


_AWS_ID = re.compile(rf"\s{{0,8}}+({REQUEST_ID}|(?=[0-9]*[A-Z])(?:[0-9A-Z]{{16}}|[0-9A-Z]{{52}}))")


def xray_root(head: str, text: str) -> Facts:
    """A label and an X-Ray trace id, with `Root=` or without."""
    found = dumps.XRAY_ROOT.search(text, len(head), 256)
    if found is None:
        return Facts(_safe(text))
    is_all = text[len(head) : found.start()].strip() in ("", "Root=") and found.end() == len(text)
    return Facts(text if is_all else _safe(text), name=found[0].lower())


def http_method(head: str, text: str) -> Facts:
    """`HTTP Method: GET, Resource Path: /orders/42`: a caller's path, never a template."""
    return Facts(_safe(text), name=_method(text[len(head) :].partition(",")[0].strip()))


def _method(name: str) -> str | None:
    if name in ("", "ANY"):
        return None  # a resource's catch-all says nothing of the request
    return name if name in METHODS else "_OTHER"


@_remembering
def key_decision(_head: str, text: str) -> Facts:
    """A usage plan's decision: `API Key … because method 'GET /orders/{id}' …`, `Key throttle limit exceeded for …`."""
    found = _KEY_METHOD.search(text, 0, MAX_TEXT)
    return Facts(_safe(text), name=_method(found[1] or found[3]), resource=found[2]) if found else Facts(_safe(text))


_KEY_METHOD = re.compile(r"because method '([A-Z]{1,32}) (/[^'\s]*)'|, HttpMethod ([A-Z]{1,32})\b")


@_remembering
def url(head: str, text: str) -> Facts:
    """A label and the integration's URL, whose query is not kept."""
    safe = _shortened(strip_url(text[len(head) :].strip()[:_WINDOW]), MAX_TEXT - len(head) - 1)
    return Facts(f"{head} {safe}", name=safe or None)


def received(_head: str, text: str) -> Facts:
    """`Received response. Status: 502, Integration latency: 29 ms`; the status may be missing."""
    found = _RECEIVED.match(text)
    if found is None:
        return Facts(_safe(text))
    safe = text if found.end() == len(text) else _safe(text)
    return Facts(safe, status=status_of(found[1]), latency_ms=int(found[2]))


_RECEIVED = re.compile(r"Received response\. (?:Status: (\d{3}), )?Integration latency: ([0-9]{1,9}) ms")


@_remembering
def completed(head: str, text: str) -> Facts:
    """The terminal line: `Method completed with status: 504`."""
    status = status_of(text[len(head) :].strip())
    return Facts(_safe(text) if status is None else text, status=status)


def gateway_response(_head: str, text: str) -> Facts:
    """`Gateway response type: INTEGRATION_TIMEOUT with status code: 504`."""
    found = _GATEWAY_RESPONSE.match(text)
    return Facts(_safe(text), name=found[1], status=status_of(found[2])) if found else Facts(_safe(text))


_GATEWAY_RESPONSE = re.compile(
    r"Gateway response type: ([A-Z_]{1,64}(?:[45]XX)?+)(?: with status code: (\d{3}))?+(?!\w)"
)


def lambda_reason(_head: str, text: str) -> Facts:
    """A function's error: its words between the gateway's, the Lambda request id last, which is kept in any case."""
    found = _LAMBDA_REQUEST_ID.search(text, max(0, len(text) - 80))
    if found is None:
        return Facts(_safe(text))
    return Facts(_safe(text[: found.start()], MAX_TEXT - len(found[0])) + found[0], name=found[1])


_LAMBDA_REQUEST_ID = re.compile(rf"\. Lambda request id: ({UUID})$")


def body(head: str, text: str) -> Facts:
    """A dump whose size alone is kept."""
    return Facts(f"{head} {dumps.size(text[len(head) :])}")


def endpoint_body(head: str, text: str) -> Facts:
    """The integration's answer: its size, and whether it is Lambda's own answer that it throttles."""
    dump = text[len(head) :]
    return Facts(f"{head} {dumps.size(dump)}", name=dumps.lambda_throttle(dump))


def fields(head: str, text: str) -> Facts:
    """A dump of headers or parameters: its size, and how many there are."""
    return Facts(f"{head} {dumps.size_of_fields(text[len(head) :])}")


def request_headers(head: str, text: str) -> Facts:
    """A dump of a request's headers: as `fields`, and the trace that they continue."""
    dump = text[len(head) :]
    return Facts(f"{head} {dumps.size_of_fields(dump)}", trace_context=dumps.trace_context(dump))


def unknown_dump(head: str, text: str) -> Facts:
    """A kind of dump not met before: named by the plain words before its colon, if that is what stands there."""
    label = _LABEL.match(text)
    return body(label[0] if label else head.rstrip(), text)


_LABEL = re.compile(r"[A-Za-z ]{1,64}+:")
