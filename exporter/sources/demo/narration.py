"""What API Gateway writes about one request: its access line and its execution lines, word for word.

Pure: everything that is decided by chance has been decided before and comes in as a `Request`. An access line is the
stage's own format string filled in, as API Gateway does it; execution lines come in the order, with the spacing and at
the levels of real logs. Times: an access line is dated with the arrival, execution lines with the moment they tell of.
"""

import json
import re
from collections.abc import Iterator
from datetime import UTC, datetime

import msgspec

from exporter.sources.demo.stages import ACCOUNT_ID, REGION, Level, Outcome, Reach, Route, Stage

LINE_LIMIT = 1024
"""API Gateway cuts an execution line here and says so."""

Line = tuple[int, str]
"""Event time in milliseconds, and text."""

_ROLE = f"arn:aws:iam::{ACCOUNT_ID}:role/catalog-integration"
_USER = f"arn:aws:iam::{ACCOUNT_ID}:user/reporting"


class Request(msgspec.Struct, frozen=True, kw_only=True):
    """One request that happened in the demo's cloud."""

    stage: Stage
    route: Route
    outcome: Outcome
    request_id: str
    extended_request_id: str
    integration_request_id: str
    xray_root: str
    """`1-<8 hex>-<24 hex>`."""
    parent_span_id: str | None
    """16 hex digits where the caller traces: then its headers carry X-Ray and W3C context."""
    source_ip: str
    item: str
    """What `{id}` in the resource stood for."""
    key_suffix: str
    """The last six characters of the API key: all that API Gateway shows of it."""
    arrived_at_ms: int
    took_ms: int

    @property
    def ended_at_ms(self) -> int:
        """When the caller had the answer."""
        return self.arrived_at_ms + self.took_ms

    @property
    def lead_ms(self) -> int:
        """From arrival until the backend was called."""
        return min(12, self.took_ms // 4)

    @property
    def tail_ms(self) -> int:
        """From the backend's answer to the end."""
        return min(4, self.took_ms // 4)

    @property
    def integration_latency_ms(self) -> int:
        """How long the backend took."""
        return self.took_ms - self.lead_ms - self.tail_ms


def access_line(request: Request) -> Line:
    """The stage's format with every `$context` variable filled in, `-` where there is nothing to say."""
    values = _context(request)
    quote = request.stage.access_format.startswith("{")

    def value(match: re.Match[str]) -> str:
        text = values.get(match[1], "-")
        return json.dumps(text, ensure_ascii=False)[1:-1] if quote else text

    text = re.sub(r"\$context\.([A-Za-z0-9_]+(?:\.[A-Za-z0-9_]+)*)", value, request.stage.access_format)
    return request.arrived_at_ms, text


def execution_lines(request: Request) -> tuple[Line, ...]:
    """The request's execution lines, oldest first, at the stage's level; none where that level shows nothing."""
    stage, outcome = request.stage, request.outcome
    if stage.level is Level.OFF:
        return ()
    if stage.level is Level.ERROR:
        before, after = [], [*_error_level(request)]
    elif outcome.reach is Reach.DOOR and not outcome.reasons:
        return ()  # no public execution log tells of these
    else:
        before, after = [*_before_integration(request)], [*_after_integration(request)]
    begin, turn = request.arrived_at_ms, request.ended_at_ms - request.tail_ms
    timed = [(begin + request.lead_ms * n // len(before), text) for n, text in enumerate(before)]
    timed += [(turn + request.tail_ms * (n + 1) // len(after), text) for n, text in enumerate(after)]
    return tuple((at_ms, _cut(f"({request.request_id}) {fill(text, request)}")) for at_ms, text in timed)


def fill(text: str, request: Request) -> str:
    """`text` with every `<word>` of this module replaced; other text in angle brackets stays."""
    return re.sub(r"<(\w+)>", lambda match: _word(match[1], request), text)


def _word(word: str, request: Request) -> str:
    stage, route = request.stage, request.route
    match word:
        case "id":
            return request.request_id
        case "status":
            return str(request.outcome.status)
        case "lambda":
            return request.integration_request_id
        case "last6":
            return request.key_suffix
        case "api":
            return stage.api_id
        case "stage":
            return stage.name
        case "method":
            return route.method
        case "resource":
            return route.resource
        case "resource_id":
            return "k0w8mc"
        case "plan":
            return "u3k8pz"
        case "role":
            return _ROLE
        case "user_arn":
            return _USER
        case "arn":
            hidden = "*" * 8 + ACCOUNT_ID[-4:]
            return f"arn:aws:execute-api:{REGION}:{hidden}:{stage.api_id}/{stage.name}/{route.method}{_path(request)}"
        case "time":
            return _utc(request.ended_at_ms).strftime("%Y-%m-%dT%H:%M:%S.") + f"{request.ended_at_ms % 1000:03d}Z"
        case _:
            return f"<{word}>"


def _context(request: Request) -> dict[str, str]:
    """The `$context` variables of a request, by name."""
    stage, route, outcome = request.stage, request.route, request.outcome
    values = {
        "accountId": ACCOUNT_ID,
        "apiId": stage.api_id,
        "stage": stage.name,
        "requestId": request.request_id,
        "extendedRequestId": request.extended_request_id,
        "requestTime": _utc(request.arrived_at_ms).strftime("%d/%b/%Y:%H:%M:%S +0000"),
        "requestTimeEpoch": str(request.arrived_at_ms),
        "httpMethod": route.method,
        "resourcePath": route.resource,
        "routeKey": f"{route.method} {route.resource}",
        "protocol": "HTTP/1.1",
        "status": str(outcome.status),
        "responseLength": "45" if outcome.status >= 400 else "512",
        "responseLatency": str(request.took_ms),
        "identity.sourceIp": request.source_ip,
        "identity.userAgent": "shop-app/4.2",
        "xrayTraceId": request.xray_root,
    }
    if stage.has_authorizer and outcome.reach not in (Reach.DOOR, Reach.AUTHORIZER):
        values |= {"authorizer.status": "200", "authorizer.latency": "0", "authorize.status": "200"}
    if outcome.reach is Reach.INTEGRATION:
        values["integration.latency"] = values["integrationLatency"] = str(request.integration_latency_ms)
        if outcome.answered is not None:
            # A function that threw gives the Lambda *service's* 200 and no status of its own.
            values["integration.integrationStatus"] = values["integrationStatus"] = str(outcome.answered)
        if outcome.passed_on:
            values["integration.status"] = str(outcome.answered)
    values |= {name: fill(text, request) for name, text in outcome.access.items()}
    if "integration.error" in values:
        values["integrationErrorMessage"] = values["integration.error"]
    if "error.message" in values:
        values["error.messageString"] = f'"{values["error.message"]}"'
    return values


def _error_level(request: Request) -> Iterator[str]:
    """ERROR prints the reason and the end; of a success, or where no line names a reason, nothing."""
    if request.outcome.reasons:
        yield from request.outcome.reasons
        yield request.outcome.ending


def _before_integration(request: Request) -> Iterator[str]:
    """From the first line to `Sending request to …`, as far as the request came."""
    stage, route, reach = request.stage, request.route, request.outcome.reach
    yield f"Extended Request Id: {request.extended_request_id}"
    if reach is Reach.DOOR:
        return
    if stage.has_authorizer:
        yield "Starting authorizer: 62mgrc for request: <id>"
        if reach is Reach.AUTHORIZER:
            return
        yield "Using valid authorizer policy for principal: ****<last6>"
        yield "Successfully completed authorizer execution"
    key = "****<last6>" if route.needs_key else ""
    yield f"Verifying Usage Plan for request: <id>. API Key: {key} API Stage: <api>/<stage>"
    if reach is Reach.USAGE_PLAN:
        return
    if not route.needs_key:  # what this line says when a key is needed and good is not in any public log
        yield (
            f"API Key {key} authorized because method '<method> <resource>' does not require API Key. "
            "Request will not contribute to throttle or quota limits"
        )
    yield f"Usage Plan check succeeded for API Key {key} and API Stage <api>/<stage>"
    yield "Starting execution for request: <id>"
    yield f"HTTP Method: {route.method}, Resource Path: {_path(request)}"
    if stage.data_trace:
        yield from _method_request_dump(request)
    if reach is Reach.INTEGRATION:
        if stage.data_trace:
            yield from _endpoint_request_dump(request)
        yield f"Sending request to {stage.backend}"


def _after_integration(request: Request) -> Iterator[str]:
    """From the backend's answer, or the lack of it, to the last line."""
    stage, outcome = request.stage, request.outcome
    if outcome.answered is not None and outcome.reach is Reach.INTEGRATION:
        latency = request.integration_latency_ms
        yield f"Received response. Status: {outcome.answered}, Integration latency: {latency} ms"
        if stage.data_trace:
            yield from _response_dump(request)
    yield from outcome.reasons
    if outcome.passed_on:
        yield "Successfully completed execution"
    if outcome.ending:
        yield outcome.ending
    if outcome.reach is Reach.INTEGRATION:
        yield f"AWS Integration Endpoint RequestId : {request.integration_request_id}"
        yield f"X-ray Tracing ID : Root={request.xray_root}"


def _method_request_dump(request: Request) -> Iterator[str]:
    """What data tracing adds about the caller's request: headers and a body that must not leave the exporter."""
    headers = [
        "Accept=application/json, text/plain, */*",
        f"Authorization=****************{request.key_suffix}",
        f"Host={request.stage.api_id}.execute-api.{REGION}.amazonaws.com",
        "User-Agent=shop-app/4.2",
        f"X-Amzn-Trace-Id={_xray_header(request)}",
        f"X-Forwarded-For={request.source_ip}, 130.176.1.70",
    ]
    if request.parent_span_id is not None:
        trace_id = request.xray_root.removeprefix("1-").replace("-", "")
        headers.append(f"traceparent=00-{trace_id}-{request.parent_span_id}-01")
    yield f"Method request path: {{{f'id={request.item}' if '{id}' in request.route.resource else ''}}}"
    yield "Method request query string: {}"
    yield f"Method request headers: {{{', '.join(headers)}}}"
    body = json.dumps({"sku": f"SKU-{request.item}", "email": "jane.doe@example.com", "card": "4111 1111 1111 1111"})
    yield f"Method request body before transformations: {body if request.route.method == 'POST' else ''}"


def _endpoint_request_dump(request: Request) -> Iterator[str]:
    event = {
        "resource": request.route.resource,
        "path": _path(request),
        "httpMethod": request.route.method,
        "headers": {"Accept": "application/json, text/plain, */*", "X-Amzn-Trace-Id": _xray_header(request)},
        "requestContext": {"accountId": ACCOUNT_ID, "stage": request.stage.name, "requestId": request.request_id},
        "body": "x" * 700,
    }
    yield f"Endpoint request URI: {request.stage.backend}"
    yield (
        f"Endpoint request headers: {{x-amzn-lambda-integration-tag={request.request_id}, "
        f"Authorization={'*' * 40}{request.key_suffix}, X-Amz-Date={_utc(request.arrived_at_ms):%Y%m%dT%H%M%SZ}, "
        f"x-amzn-apigateway-api-id={request.stage.api_id}, X-Amz-Source-Arn=arn:aws:execute-api:{REGION}:{ACCOUNT_ID}:"
        f"{request.stage.api_id}/{request.stage.name}/{request.route.method}{request.route.resource}, "
        f"X-Amz-Security-Token=not-a-real-token, X-Amzn-Trace-Id=Root={request.xray_root}}}"
    )
    yield f"Endpoint request body after transformations: {json.dumps(event)}"


def _response_dump(request: Request) -> Iterator[str]:
    outcome = request.outcome
    body = outcome.body or json.dumps({"statusCode": outcome.answered, "body": f"order {request.item}"})
    yield (
        f"Endpoint response headers: {{Date={_utc(request.ended_at_ms):%a, %d %b %Y %H:%M:%S GMT}, "
        f"Content-Type=application/json, Content-Length={len(body)}, Connection=keep-alive, "
        f"x-amzn-RequestId={request.integration_request_id}, X-Amzn-Trace-Id=root={request.xray_root};sampled=1}}"
    )
    yield f"Endpoint response body before transformations: {body}"
    if outcome.passed_on:
        yield f"Method response body after transformations: {body}"
        yield f"Method response headers: {{X-Amzn-Trace-Id=Root={request.xray_root}}}"


def _xray_header(request: Request) -> str:
    parent = f";Parent={request.parent_span_id};Sampled=1" if request.parent_span_id is not None else ""
    return f"Root={request.xray_root}{parent}"


def _path(request: Request) -> str:
    return request.route.resource.replace("{id}", request.item)


def _utc(at_ms: int) -> datetime:
    return datetime.fromtimestamp(at_ms / 1000, tz=UTC)


def _cut(line: str) -> str:
    return line if len(line) <= LINE_LIMIT else line[: LINE_LIMIT - 12] + " [TRUNCATED]"
