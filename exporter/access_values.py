"""The values of an access line: as logged, many lines at a time, and what they come to: a glance, or a record.

It knows no line format: the readers hand it the values of the variables of `access_variables.py`. It never trusts what
a caller can make up: methods are registered ones, resources are templates, times must be near the line's own.
"""

import re
from collections.abc import Collection, Mapping, Sequence
from functools import lru_cache
from itertools import repeat
from operator import itemgetter
from typing import Any, NamedTuple, cast

from exporter.access_variables import GLANCE_VARIABLES, ROUTE_FROM
from exporter.model import GATEWAY_ERRORS, UNKNOWN, AccessGlance, AccessRecord, LogEvent, PhaseOutcome, Unreadable

Scalar = str | int | float | bool | None
"""A value as a JSON line may carry it; every other format gives text."""

_columns_of = [itemgetter(place) for place in range(ROUTE_FROM)]
_repeating_of = itemgetter(slice(ROUTE_FROM, None))
Repeating = tuple[Scalar, ...]
"""The values of a line that repeat from line to line."""


class Columns(NamedTuple):
    """The values of GLANCE_VARIABLES in many lines."""

    request_ids: list[Scalar]
    extended_ids: list[Scalar]
    responses: list[Scalar]
    integrations: list[Scalar]
    dotted_integrations: list[Scalar]
    routes: list[Any]
    """For each line what is known of its values that repeat, else these values, as a tuple."""

    def add(self, rows: Sequence[Sequence[Scalar]], known: Mapping[Repeating, object]) -> None:
        """Append the values of some lines."""
        *columns, routes = self
        for column, value_of in zip(columns, _columns_of, strict=True):
            column.extend(map(value_of, rows))
        repeating = list(map(_repeating_of, rows))
        routes.extend(map(known.get, repeating, repeating))

    def part(self, start: int, end: int) -> "Columns":
        """The values of the lines from place `start` up to place `end`."""
        return Columns(*(column[start:end] for column in self))

    def row(self, place: int, repeating: Repeating) -> Sequence[Scalar]:
        """The values of the line at this place, of which the repeating ones are given."""
        ids, extended_ids, responses, integrations, dotted, _ = self
        return ids[place], extended_ids[place], responses[place], integrations[place], dotted[place], *repeating


# ------------------------------------------------------------------------------------------------------ single values

_ABSENT = frozenset({None, "", "-", '""', '"-"'})
"""How a variable without a value is logged: a bare dash, quoted once more by `messageString`."""


def text_of(value: Scalar) -> str | None:
    """The value in its logged form, or None where the log says that there is none."""
    if value in _ABSENT:
        return None
    if isinstance(value, str):
        return value
    if isinstance(value, bool):
        return "true" if value else "false"
    return str(value)


def present(names: Sequence[str], values: Collection[Scalar]) -> dict[str, str]:
    """The values that there are, in their logged form, by their names, each of which comes once."""
    told = dict(zip(names, values, strict=True))
    for name in [name for name, value in told.items() if value in _ABSENT]:
        del told[name]
    if _TEXT.issuperset(map(type, values)):
        return cast("dict[str, str]", told)
    return {name: str(text_of(value)) for name, value in told.items()}


_TEXT = frozenset({str})


_STATUS: dict[Scalar, int] = {spelled: code for code in range(100, 600) for spelled in (code, str(code))}
_MS: dict[Scalar, int | None] = {**dict.fromkeys(_ABSENT), **{str(ms): ms for ms in range(4096)}}
"""Almost every latency there is: looking one up is faster than reading it."""
_UNREAD = -1
_status_of = _STATUS.get
_known_ms_of = _MS.get
_NUMBER = re.compile(r"[0-9]{1,12}(?:\.[0-9]{1,9})?", re.ASCII)


def ms_of(value: Scalar) -> int | None:
    """Milliseconds of a latency as logged; None for anything else."""
    known = _known_ms_of(value, _UNREAD)
    if known != _UNREAD:
        return known
    text = text_of(value)
    return round(float(text)) if text is not None and _NUMBER.fullmatch(text) else None


def milliseconds(amounts: Mapping[Scalar, int]) -> list[tuple[int, int]]:
    """Latencies as logged, and how often each was, as milliseconds; what is none is left out."""
    read = zip(map(_known_ms_of, amounts, repeat(_UNREAD)), amounts.items(), strict=True)
    found = [(ms if ms != _UNREAD else ms_of(value), amount) for ms, (value, amount) in read]
    return [(ms, amount) for ms, amount in found if ms is not None]


_METHODS: dict[Scalar, str] = {
    name: name for name in ("GET", "HEAD", "POST", "PUT", "DELETE", "CONNECT", "OPTIONS", "TRACE", "PATCH", "QUERY")
}


def _method_of(method: Scalar, route_key: Scalar) -> str:
    if method not in _ABSENT:
        return _METHODS.get(str(method), "_OTHER")
    verb, space, _ = str(route_key).partition(" ")
    return _METHODS.get(verb, UNKNOWN) if space else UNKNOWN


_MAX_RESOURCE = 512


# An API has few resources: looking one up is faster than judging it. To a dictionary 1, 1.0 and True are the same.
@lru_cache(maxsize=4096, typed=True)
def _resource_of(resource_path: Scalar, route_key: Scalar) -> str:
    found = text_of(resource_path)
    # Serverless writes the route key of HTTP APIs as `resourcePath`; a resource itself begins with a slash.
    if found is None or (not found.startswith("/") and " /" in found):
        found = found or text_of(route_key)
        if found is None:
            return UNKNOWN
        _, _, path = found.partition(" ")
        found = path or found
    return found if len(found) <= _MAX_RESOURCE and found.isprintable() else UNKNOWN


# ------------------------------------------------------------------------------------------------------------- records

NO_KNOWN_FIELD = Unreadable(reason="no_known_field")
"""The line was read, and tells neither an id nor a status."""


_LONGEST_ABSENT = 3


def glance_from(values: Sequence[Scalar]) -> AccessGlance | Unreadable:
    """A glance from the values of GLANCE_VARIABLES, as logged. Runs for every line: mind each call that it makes."""
    (
        request_id,
        extended_request_id,
        latency,
        integration_latency,
        integration_latency_dotted,
        status,
        method,
        resource_path,
        route_key,
        api_id,
        stage,
        response_type,
        integration_error,
        integration_error_message,
    ) = values
    code = _status_of(status)
    if type(request_id) is not str or len(request_id) <= _LONGEST_ABSENT:
        request_id = text_of(request_id)
    if type(extended_request_id) is not str or len(extended_request_id) <= _LONGEST_ABSENT:
        extended_request_id = text_of(extended_request_id)
    if code is None and request_id is None and extended_request_id is None:
        return NO_KNOWN_FIELD
    verb = _METHODS.get(method)
    latency_ms = _known_ms_of(latency, _UNREAD)
    integration_ms = _known_ms_of(integration_latency, _UNREAD)
    if integration_ms is None:
        integration_latency = integration_latency_dotted
        integration_ms = _known_ms_of(integration_latency, _UNREAD)
    return AccessGlance(
        request_id=request_id,
        extended_request_id=extended_request_id,
        status=code,
        method=verb if verb is not None else _method_of(method, route_key),
        resource=_resource_of(resource_path, route_key),
        api_id=api_id if type(api_id) is str and api_id not in _ABSENT else text_of(api_id),
        stage=stage if type(stage) is str and stage not in _ABSENT else text_of(stage),
        latency_ms=latency_ms if latency_ms != _UNREAD else ms_of(latency),
        integration_latency_ms=integration_ms if integration_ms != _UNREAD else ms_of(integration_latency),
        response_type=None if response_type in _ABSENT else text_of(response_type),
        gateway_error=(integration_error not in _ABSENT and _is_gateway_error(integration_error))
        or (integration_error_message not in _ABSENT and _is_gateway_error(integration_error_message)),
    )


def _is_gateway_error(text: Scalar) -> bool:
    return isinstance(text, str) and text.lstrip('" ').startswith(GATEWAY_ERRORS)


def _folded(text: str | None) -> str | None:
    """Runs of white space as one space: AWS's own support article shows a message broken in two lines."""
    return " ".join(text.split()) or None if text is not None else None


def _phase(status: str | None, latency: str | None, error: str | None) -> PhaseOutcome | None:
    if status is None and latency is None and error is None:  # most formats log few phases
        return None
    outcome = PhaseOutcome(status=_status_of(status), latency_ms=ms_of(latency), error=_folded(error))
    if outcome.status is None and outcome.latency_ms is None and outcome.error is None:
        return None
    return outcome


_EPOCH_MS = re.compile(r"[0-9]{1,15}", re.ASCII)
_PLAUSIBLE_MS = 3_600_000
"""How far a line's own arrival time may lie from its event time: beyond an hour it is nonsense."""


def _arrival_ms(event: LogEvent, epoch: str | None) -> int:
    at_ms = int(epoch) if epoch is not None and _EPOCH_MS.fullmatch(epoch) else event.at_ms
    return at_ms if abs(at_ms - event.at_ms) <= _PLAUSIBLE_MS else event.at_ms


def record_from(
    event: LogEvent, values: Mapping[str, str], glance: AccessGlance | None = None
) -> AccessRecord | Unreadable:
    """Everything an access line tells, from its variables' values (absent ones left out).

    `glance`: what it came to when it was looked at, if it was.
    """
    get = values.get
    if glance is None:
        found = glance_from(list(map(get, GLANCE_VARIABLES)))
        if isinstance(found, Unreadable):
            return found
        glance = found
    message = get("error.message")
    if message is None:
        # messageString is the message already in double quotes.
        message = text_of((get("error.messageString") or "").strip().removeprefix('"').removesuffix('"'))
    return AccessRecord(
        event_id=event.event_id,
        at_ms=_arrival_ms(event, get("requestTimeEpoch")),
        glance=glance,
        waf=_phase(get("waf.status"), get("waf.latency"), get("waf.error")),
        authenticate=_phase(get("authenticate.status"), get("authenticate.latency"), get("authenticate.error")),
        authorizer=_phase(
            get("authorizer.status") or get("authorizer.integrationStatus"),
            get("authorizer.latency") or get("authorizer.integrationLatency"),
            get("authorizer.error"),
        ),
        authorize=_phase(get("authorize.status"), get("authorize.latency"), get("authorize.error")),
        integration=_phase(
            get("integration.status"),
            get("integration.latency") or get("integrationLatency"),
            get("integration.error") or get("integrationErrorMessage"),
        ),
        integration_service_status=_status_of(get("integrationStatus") or get("integration.integrationStatus")),
        error_message=_folded(message),
        validation_error=_folded(get("error.validationErrorString")),
        waf_response_code=get("wafResponseCode"),
        xray_trace_id=get("xrayTraceId"),
        fields=values,
    )
