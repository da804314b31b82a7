"""Prepared log events and pages: requests as API Gateway logs them, at a given share of failures.

Made once, outside of what is measured. Nothing here is random from run to run.
"""

import json
import random
from collections.abc import Iterator
from typing import Literal, NamedTuple
from zlib import crc32

START_MS = 1_760_011_200_000
Level = Literal["INFO", "TRACE", "ERROR"]
AccessFormat = Literal["json", "clf"]


class Line(NamedTuple):
    """One log event, not yet in a page."""

    at_ms: int
    message: str


class _Identity(NamedTuple):
    """What both logs say of a request."""

    number: int
    request_id: str
    extended_id: str
    failed: bool


def _identities(requests: int, failing: float) -> Iterator[_Identity]:
    rng = random.Random(3)
    for number in range(requests):
        yield _Identity(number, _uuid(rng), f"{rng.getrandbits(60):015x}=", rng.random() < failing)


def execution_lines(requests: int, *, failing: float, level: Level, per_second: int = 1_000) -> list[Line]:
    """The execution lines of `requests`, by event time. `TRACE` is INFO with full data tracing."""
    rng = random.Random(1)
    lines: list[Line] = []
    for identity in _identities(requests, failing):
        begin = START_MS + identity.number * 1_000 // per_second
        lines += _request(rng, identity, begin, begin + rng.randrange(10, 200), level=level)
    lines.sort(key=lambda line: line.at_ms)
    return lines


def vended(lines: list[Line]) -> list[Line]:
    """Execution lines as a delivery of vended logs wraps them into JSON."""
    fields = {
        "resource_arn": "arn:aws:apigateway:eu-west-1:123456789012:/restapis/ab12cd34ef/stages/prod",
        "api_id": "ab12cd34ef",
        "stage": "prod",
        "resource_path": "/orders/{id}",
        "http_method": "GET",
    }
    return [
        Line(line.at_ms, json.dumps({**fields, "event_timestamp": line.at_ms, "payload": line.message}))
        for line in lines
    ]


def _request(rng: random.Random, identity: _Identity, begin: int, end: int, *, level: Level) -> Iterator[Line]:
    _, request_id, extended_id, failed = identity
    status = 502 if failed else 200

    def line(at_ms: int, text: str) -> Line:
        return Line(at_ms, f"({request_id}) {text}")

    if level != "ERROR":
        yield line(begin, f"Extended Request Id: {extended_id}")
        yield line(
            begin,
            "API Key authorized because method 'GET /orders/{id}' does not require API Key. "
            "Request will not contribute to throttle or quota limits",
        )
        yield line(begin, "Usage Plan check succeeded for API Key and API Stage ab12cd34ef/prod")
        yield line(begin + 1, f"Starting execution for request: {request_id}")
        yield line(begin + 1, f"HTTP Method: GET, Resource Path: /orders/{rng.randrange(10_000)}")
    if level == "TRACE":
        headers = ", ".join(f"X-Header-{number}={rng.getrandbits(64):x}" for number in range(20))
        yield line(begin + 1, "Method request path: {id=17}")
        yield line(begin + 1, "Method request query string: {}")
        yield line(begin + 1, f"Method request headers: {{{headers}}}")
        yield line(begin + 1, "Method request body before transformations: ")
        yield line(begin + 2, f"Endpoint request headers: {{{headers}, more={rng.getrandbits(999):x} [TRUNCATED]")
        yield line(begin + 2, f'Endpoint request body after transformations: {{"resource":"{headers}" [TRUNCATED]')
    if level != "ERROR":
        yield line(begin + 2, f"Sending request to https://lambda.eu-west-1.amazonaws.com/2015-03-31/functions/{_ARN}")
        yield line(end, f"Received response. Status: 200, Integration latency: {end - begin} ms")
    if level == "TRACE":
        yield line(
            end, f"Endpoint response headers: {{Date=Thu, 09 Oct 2025 12:00:00 GMT, X={rng.getrandbits(256):x}}}"
        )
        yield line(end, f'Endpoint response body before transformations: {{"order":"{rng.getrandbits(999):x}"}}')
        yield line(end, f'Method response body after transformations: {{"order":"{rng.getrandbits(999):x}"}}')
        yield line(end, f"Method response headers: {{X-Amzn-Trace-Id=Root=1-{rng.getrandbits(32):08x}}}")
    if failed:
        yield line(
            end,
            "Lambda execution failed with status 200 due to customer function error: division by zero. "
            f"Lambda request id: {_uuid(rng)}",
        )
    elif level != "ERROR":
        yield line(end, "Successfully completed execution")
    if failed or level != "ERROR":
        yield line(end, f"Method completed with status: {status}")
    if level != "ERROR":
        yield line(end, f"AWS Integration Endpoint RequestId : {_uuid(rng)}")
        yield line(end, f"X-ray Tracing ID : Root=1-{rng.getrandbits(32):08x}-{rng.getrandbits(96):024x}")


def access_lines(
    requests: int, *, failing: float, form: AccessFormat, per_second: int = 1_000, resources: int = 40
) -> list[Line]:
    """The access lines of `requests`, by event time: of the same requests as `execution_lines`."""
    rng = random.Random(2)
    lines = []
    for number, request_id, extended_id, failed in _identities(requests, failing):
        at_ms = START_MS + number * 1_000 // per_second
        status = 502 if failed else 200
        resource = f"/orders/{{id}}/{number % resources}"
        if form == "clf":
            message = (
                f'203.0.113.7 - - [09/Oct/2025:12:00:00 +0000] "GET {resource} HTTP/1.1" {status} 1234 '
                f"{request_id} {extended_id}"
            )
        else:
            message = json.dumps(
                {
                    "requestId": request_id,
                    "extendedRequestId": extended_id,
                    "ip": "203.0.113.7",
                    "userAgent": "Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/128.0",
                    "requestTime": "09/Oct/2025:12:00:00 +0000",
                    "httpMethod": "GET",
                    "resourcePath": resource,
                    "path": f"/prod/orders/{rng.randrange(10_000)}",
                    "status": str(status),
                    "protocol": "HTTP/1.1",
                    "responseLength": str(rng.randrange(4_000)),
                    "responseLatency": str(rng.randrange(10, 900)),
                    "integrationLatency": str(rng.randrange(5, 800)),
                    "integrationStatus": "200",
                    "error.message": "Internal server error" if failed else "-",
                    "error.responseType": "DEFAULT_5XX" if failed else "-",
                    "integration.error": "-",
                    "xrayTraceId": f"1-{rng.getrandbits(32):08x}-{rng.getrandbits(96):024x}",
                }
            )
        lines.append(Line(at_ms, message))
    return lines


def pages(lines: list[Line], *, most_bytes: int = 1_000_000, most_events: int = 10_000) -> list[bytes]:
    """The lines as answers of FilterLogEvents, each at most 1 MB and 10,000 events, tokens left out."""
    made: list[bytes] = []
    page: list[bytes] = []
    size = 0
    for line, event_id in sorted(_with_ids(lines), key=lambda pair: pair[1]):
        event = json.dumps(
            {
                "logStreamName": "e369853df766fa44e1ed0ff613f563bd",
                "timestamp": line.at_ms,
                "message": line.message,
                "ingestionTime": line.at_ms // 1_000 * 1_000 + 2_000,
                "eventId": f"{event_id:056d}",
            },
            separators=(",", ":"),
        ).encode()
        if page and (size + len(event) > most_bytes or len(page) >= most_events):
            made.append(b'{"events":[' + b",".join(page) + b'],"searchedLogStreams":[]}')
            page, size = [], 0
        page.append(event)
        size += len(event) + 1
    made.append(b'{"events":[' + b",".join(page) + b'],"searchedLogStreams":[]}')
    return made


def _with_ids(lines: list[Line]) -> Iterator[tuple[Line, int]]:
    """Lines with their event ids: all lines of a request are written in one batch, in order."""
    batches: dict[str, int] = {}
    for line in lines:
        request_id = line.message[:38]
        batches[request_id] = index = batches.get(request_id, -1) + 1
        ingested_ms = line.at_ms // 1_000 * 1_000 + 2_000
        yield line, line.at_ms << 144 | ingested_ms << 80 | crc32(request_id.encode()) << 16 | index


_ARN = "arn:aws:lambda:eu-west-1:123456789012:function:orders-read/invocations"


def _uuid(rng: random.Random) -> str:
    text = f"{rng.getrandbits(128):032x}"
    return f"{text[:8]}-{text[8:12]}-4{text[13:16]}-8{text[17:20]}-{text[20:]}"
