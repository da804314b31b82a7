"""What of a request stands on its spans, and under which name: HTTP, FaaS and cloud conventions, and our own.

Nothing of a caller's person, body, query or headers is among it unless its access variable is opened by name, and no
text that came from outside is put there without redaction.
"""

import re
from collections.abc import Mapping, Sequence
from collections.abc import Set as AbstractSet
from functools import lru_cache
from typing import NamedTuple
from urllib.parse import urlsplit

from opentelemetry.semconv.attributes.client_attributes import CLIENT_ADDRESS
from opentelemetry.semconv.attributes.http_attributes import (
    HTTP_REQUEST_METHOD,
    HTTP_RESPONSE_STATUS_CODE,
    HTTP_ROUTE,
)
from opentelemetry.semconv.attributes.server_attributes import SERVER_ADDRESS, SERVER_PORT
from opentelemetry.semconv.attributes.url_attributes import URL_FULL, URL_PATH, URL_SCHEME
from opentelemetry.semconv.attributes.user_agent_attributes import USER_AGENT_ORIGINAL

from exporter.model import UNKNOWN, Api, ExecutionStep, RequestTimeline, Step
from exporter.redaction import redact, strip_url
from exporter.span_batch import Value
from exporter.trace_context import read_xray
from exporter.waterfall import Bar, Phase

# Conventions that are not stable yet: written out here, checked by a test against the package that defines them.
AWS_REQUEST_ID = "aws.request_id"
FAAS_INVOKED_NAME = "faas.invoked_name"
FAAS_INVOKED_PROVIDER = "faas.invoked_provider"
FAAS_INVOKED_REGION = "faas.invoked_region"

_METHODS = frozenset(
    {"CONNECT", "DELETE", "GET", "HEAD", "OPTIONS", "PATCH", "POST", "PUT", "QUERY", "TRACE", "_OTHER"}
)
"""What stands for a method where a line's one name may also be an id."""
_ATTRIBUTE_OF_FIELD = {"identity.sourceIp": CLIENT_ADDRESS, "identity.userAgent": USER_AGENT_ORIGINAL}
_NAMING_METHOD = (Step.REQUEST_START, Step.API_KEY)
_INTEGRATION_RESPONSE, _REASON, _TRAILER = Step.INTEGRATION_RESPONSE, Step.REASON, Step.TRAILER
_INTEGRATION = Phase.INTEGRATION
_MAX_TEXT = 4096
"""Characters of any one text on a span."""
_USERINFO = re.compile(r"(?<=://)[^/]*@")
_LAMBDA_URL = re.compile(r"/functions/arn:[\w-]+:lambda:([\w-]+):\d+:function:([\w-]+)")


class Route(NamedTuple):
    """What the failures of one route with one status have in common."""

    api: Api
    method: str | None
    resource: str | None
    """The resource template or the route key, never a raw path."""
    status: int | None


def route_of(timeline: RequestTimeline) -> Route:
    """Tell what was asked of which API, and the status of the answer."""
    return Route(timeline.api, _method(timeline), _resource(timeline), timeline.status)


def span_name(route: Route) -> str:
    """Name a request by method and template, of a WebSocket by its route key; never by a raw path."""
    _, method, resource, _ = route
    if route.api.type == "WEBSOCKET":
        return resource or "WebSocket"
    name = "HTTP" if method in (None, "_OTHER") else method
    return f"{name} {resource}" if resource is not None and resource.startswith("/") else str(name)


def _method(timeline: RequestTimeline) -> str | None:
    if timeline.access is not None and timeline.access.glance.method != UNKNOWN:
        return timeline.access.glance.method
    said = (step.name for step in timeline.steps if step.step in _NAMING_METHOD)
    return next((name for name in said if name in _METHODS), None)


def _resource(timeline: RequestTimeline) -> str | None:
    if timeline.access is not None and timeline.access.glance.resource != UNKNOWN:
        return timeline.access.glance.resource
    return next((step.resource for step in timeline.steps if step.resource is not None), None)


def route_attributes(route: Route) -> dict[str, Value]:
    """Say what was asked, of which API, and the answer's status."""
    api, method, resource, status = route
    is_websocket = api.type == "WEBSOCKET"
    return {
        HTTP_REQUEST_METHOD: None if is_websocket else method,
        HTTP_ROUTE: resource if resource is not None and resource.startswith("/") else None,
        HTTP_RESPONSE_STATUS_CODE: status,
        URL_SCHEME: None if is_websocket else "https",  # API Gateway answers nothing else
        "apigateway.api_id": None if api.id == UNKNOWN else api.id,
        "apigateway.api_type": api.type,
        "apigateway.stage": None if api.stage == UNKNOWN else api.stage,
        "apigateway.route_key": resource if is_websocket else None,
    }


def request_attributes(timeline: RequestTimeline, allowed_fields: AbstractSet[str]) -> dict[str, Value]:
    """Say by which ids to find the request, and what its access line tells; `allowed_fields` as in `SpanOptions`."""
    access = timeline.access
    attributes: dict[str, Value] = {
        "apigateway.request_id": timeline.request_id,
        "apigateway.extended_request_id": timeline.extended_request_id,
        "apigateway.integration_request_id": _integration_request_id(timeline),
    }
    if access is None:
        return attributes
    path = access.fields.get("path")
    attributes[URL_PATH] = None if path is None else cut(strip_url(path))
    domain = access.fields.get("domainName")
    attributes[SERVER_ADDRESS] = None if domain is None else cut(redact(domain))
    attributes["apigateway.response_type"] = access.glance.response_type
    if access.error_message is not None:
        attributes["apigateway.error_message"] = cut(redact(access.error_message))
    attributes["apigateway.waf_response_code"] = access.waf_response_code
    for field in sorted(allowed_fields):
        if (value := access.fields.get(field)) is not None:
            key = _ATTRIBUTE_OF_FIELD.get(field, f"apigateway.context.{field}")
            attributes[key] = cut(redact(value))
    return attributes


def phase_attributes(timeline: RequestTimeline, bar: Bar) -> dict[str, Value]:
    """Say what a phase called and what it came to."""
    outcome = bar.outcome
    status = None if outcome is None else outcome.status
    attributes: dict[str, Value] = {
        "apigateway.phase": bar.phase,
        "apigateway.time_source": bar.source,
        "apigateway.time_clamped": bar.clamped or None,
        "apigateway.error_message": None if outcome is None or outcome.error is None else cut(redact(outcome.error)),
        AWS_REQUEST_ID: _called_request_id(timeline, bar.phase),
    }
    if bar.phase is _INTEGRATION:
        attributes |= _integration_attributes(timeline, status)
    else:
        attributes["apigateway.phase_status"] = status
    if bar.target is not None:
        attributes |= _target_attributes(bar.target)
    return attributes


def _integration_attributes(timeline: RequestTimeline, status: int | None) -> dict[str, Value]:
    if status is None:
        said = (step.status for step in timeline.steps if step.step is _INTEGRATION_RESPONSE)
        status = next((status for status in said if status is not None), None)
    return {
        HTTP_RESPONSE_STATUS_CODE: status,
        "apigateway.integration_service_status": (
            None if timeline.access is None else timeline.access.integration_service_status
        ),
    }


@lru_cache(maxsize=256)  # a stage has few integrations
def _target_attributes(url: str) -> Mapping[str, Value]:
    """Say what was called: the address, and of a Lambda invocation the function."""
    url = _USERINFO.sub("", strip_url(url), count=1)
    attributes: dict[str, Value] = {URL_FULL: cut(url)}
    try:
        parts = urlsplit(url)
        attributes[SERVER_ADDRESS] = parts.hostname
        attributes[SERVER_PORT] = parts.port or {"https": 443, "http": 80}.get(parts.scheme)
    except ValueError:  # a mapping can make any text the address
        attributes[SERVER_ADDRESS] = None
    if (function := _LAMBDA_URL.search(url)) is not None:
        attributes[FAAS_INVOKED_PROVIDER] = "aws"
        attributes[FAAS_INVOKED_REGION] = function[1]
        attributes[FAAS_INVOKED_NAME] = function[2]
    return attributes


def _called_request_id(timeline: RequestTimeline, phase: Phase) -> str | None:
    if phase is _INTEGRATION:
        return _integration_request_id(timeline)
    if phase is Phase.AUTHORIZER and timeline.access is not None:
        said = timeline.access.fields.get("authorizer.requestId")
        return None if said is None else cut(redact(said))
    return None


def _integration_request_id(timeline: RequestTimeline) -> str | None:
    """Name the request id that the backend gave; of a Lambda integration, the one in the function's own log."""
    said = None
    if timeline.access is not None:
        fields = timeline.access.fields
        said = fields.get("integration.requestId") or fields.get("awsEndpointRequestId")
    if said is None:
        said = _integration_request_id_of(timeline.steps)
    # A backend may put anything into the header that this comes from.
    return None if said is None else cut(redact(said))


def _integration_request_id_of(steps: Sequence[ExecutionStep]) -> str | None:
    """Name the id in the trailer, else the one that a reason line names."""
    by_reason = None
    for step in steps:
        if step.name is None:
            continue
        if step.step is _TRAILER:
            if read_xray(step.name) is None:
                return step.name
        elif by_reason is None and step.step is _REASON:
            by_reason = step.name
    return by_reason


def cut(text: str) -> str:
    """Return at most 4,096 characters of a text, and how many more there are."""
    return text if len(text) <= _MAX_TEXT else f"{text[:_MAX_TEXT]}… [{len(text) - _MAX_TEXT} more]"
