"""Where the time of a request went: when it began and ended, and the phases of it that the logs time.

Access lines give exact lengths but not where they lie; execution lines give instants but not lengths. What is put
together here says of every bar which of the two it rests on, lies within the request, and overlaps no other bar: the
phases of a request follow each other. It never invents a phase that no line tells of.
"""

from collections.abc import Mapping, Sequence
from enum import StrEnum

import msgspec

from exporter.model import ExecutionStep, PhaseOutcome, RequestTimeline, Step


class Phase(StrEnum):
    """The phases of a request that logs time, in the order in which API Gateway goes through them."""

    WAF = "waf"
    AUTHENTICATE = "authenticate"
    AUTHORIZER = "authorizer"
    AUTHORIZE = "authorize"
    INTEGRATION = "integration"


class TimeSource(StrEnum):
    """What the two ends of a bar rest on: the values of the attribute `apigateway.time_source`."""

    LOGGED = "logged"
    """The beginning is from a line, the length is a logged latency."""
    LINES = "lines"
    """Both ends are the times of lines."""
    PLACED = "placed"
    """The length is a logged latency; where it lies within the request follows from the order of the phases."""
    REMAINDER = "remainder"
    """What the other phases leave of the request."""
    PHASES = "phases"
    """Of a whole request: it lasted at least as long as its phases together."""
    INSTANT = "instant"
    """Of a whole request: only one instant of it is known."""


_AUTHORIZER, _INTEGRATION = Phase.AUTHORIZER, Phase.INTEGRATION
_LOGGED, _PLACED = TimeSource.LOGGED, TimeSource.PLACED


class Bar(msgspec.Struct, frozen=True, gc=False, kw_only=True):
    """One phase."""

    phase: Phase
    start_ms: int
    end_ms: int
    source: TimeSource
    clamped: bool
    """Whether the logs said more than fits between its neighbours and within the request."""
    outcome: PhaseOutcome | None
    """What the access line says of it."""
    target: str | None
    """The URL that was called, where an execution line names it."""


class Waterfall(msgspec.Struct, frozen=True, gc=False, kw_only=True):
    """The whole request and its bars, in order, each within it, none overlapping another."""

    start_ms: int
    end_ms: int
    source: TimeSource
    bars: tuple[Bar, ...]


class _Seen(msgspec.Struct, gc=False):
    """What the execution lines tell of a phase."""

    begun_ms: int | None = None
    ended_ms: int | None = None
    latency_ms: int | None = None
    target: str | None = None


class _Known(msgspec.Struct, gc=False):
    """What all lines together tell of a phase, before it is laid out."""

    phase: Phase
    start_ms: int | None
    length_ms: int | None
    source: TimeSource
    outcome: PhaseOutcome | None
    target: str | None


def waterfall(timeline: RequestTimeline, failed: Phase | None, *, integration_ran: bool) -> Waterfall:
    """Lay out a request.

    `failed` is the phase that failed: it is shown even when it took no time. `integration_ran` says that the
    integration was at work when the request failed: where nothing times it (an access log without
    `integration.latency`), it gets what the other phases leave of the request.
    """
    *before, integration = _known_phases(timeline)
    used_ms = sum([phase.length_ms or 0 for phase in before])
    start_ms, end_ms, source = _extent(timeline, used_ms, integration)
    if integration.length_ms is not None and integration.start_ms is None:
        # What follows the integration is quick, what precedes it may not be: it ends with the response.
        integration.start_ms, integration.source = end_ms - integration.length_ms, _PLACED
    elif integration.length_ms is None and integration_ran and source is _LOGGED:
        integration.length_ms = max(0, end_ms - start_ms - used_ms)
        integration.start_ms, integration.source = end_ms - integration.length_ms, TimeSource.REMAINDER
    shown = [phase for phase in (*before, integration) if phase.length_ms or _is_shown_empty(phase, failed)]
    return Waterfall(start_ms=start_ms, end_ms=end_ms, source=source, bars=_lay_out(shown, start_ms, end_ms))


def _is_shown_empty(phase: _Known, failed: Phase | None) -> bool:
    return phase.length_ms is not None and phase.phase is failed


def _lay_out(phases: Sequence[_Known], start_ms: int, end_ms: int) -> tuple[Bar, ...]:
    """One after the other; what is known to begin at an instant does, and cuts short what comes before it."""
    bars = []
    free_ms = start_ms
    for index, known in enumerate(phases):
        length_ms = known.length_ms or 0
        starts = [later.start_ms for later in phases[index + 1 :] if later.start_ms is not None]
        limit_ms = max(free_ms, min([end_ms, *starts]))
        begin_ms = free_ms if known.start_ms is None else min(max(known.start_ms, free_ms), limit_ms)
        free_ms = min(begin_ms + length_ms, limit_ms)
        bars.append(
            Bar(
                phase=known.phase,
                start_ms=begin_ms,
                end_ms=free_ms,
                source=known.source,
                clamped=free_ms - begin_ms != length_ms or known.start_ms not in (None, begin_ms),
                outcome=known.outcome,
                target=known.target,
            )
        )
    return tuple(bars)


def _extent(timeline: RequestTimeline, used_ms: int, integration: _Known) -> tuple[int, int, TimeSource]:
    """From arrival to response: the logged latency if there is one, else the last line before the trailer."""
    access = timeline.access
    if access is not None and access.glance.latency_ms is not None:
        return access.at_ms, access.at_ms + max(0, access.glance.latency_ms), _LOGGED
    at = [step.at_ms for step in timeline.steps if step.step is not _TRAILER] or [step.at_ms for step in timeline.steps]
    if access is None:
        start_ms = at[0] if integration.start_ms is None else min(at[0], integration.start_ms)
        end_ms = max(start_ms, at[-1])
        return start_ms, end_ms, TimeSource.LINES if end_ms > start_ms else TimeSource.INSTANT
    start_ms = access.at_ms
    by_phases_ms = start_ms + used_ms + (integration.length_ms or 0)
    if at and at[-1] >= by_phases_ms and at[-1] > start_ms:
        return start_ms, at[-1], TimeSource.LINES
    return start_ms, by_phases_ms, TimeSource.PHASES if by_phases_ms > start_ms else TimeSource.INSTANT


def _known_phases(timeline: RequestTimeline) -> list[_Known]:
    """Every phase that a line tells of, in order; the integration last, in any case."""
    access = timeline.access
    seen = _seen_phases(timeline.steps) if timeline.steps else _NOTHING_SEEN
    outcomes: Sequence[PhaseOutcome | None] = _NO_OUTCOMES
    if access is not None:
        outcomes = (access.waf, access.authenticate, access.authorizer, access.authorize, access.integration)
    known = []
    for phase, outcome in zip(_PHASES, outcomes, strict=True):
        told = seen.get(phase, _UNSEEN)
        latency_ms = None if outcome is None else outcome.latency_ms
        if phase is _INTEGRATION:
            if latency_ms is None and access is not None:
                latency_ms = access.glance.integration_latency_ms
        elif outcome is None and told == _UNSEEN:
            continue
        known.append(_known(phase, outcome, latency_ms, told))
    return known


_TRAILER = Step.TRAILER
_UNSEEN = _Seen()
_NOTHING_SEEN: Mapping[Phase, _Seen] = {}
_PHASES = tuple(Phase)
_NO_OUTCOMES = (None,) * len(_PHASES)


def _known(phase: Phase, outcome: PhaseOutcome | None, latency_ms: int | None, seen: _Seen) -> _Known:
    length_ms = seen.latency_ms if latency_ms is None else latency_ms
    start_ms, source = seen.begun_ms, _LOGGED
    if length_ms is not None:
        length_ms = max(0, length_ms)
        if start_ms is None and seen.ended_ms is not None:
            start_ms = seen.ended_ms - length_ms
        elif start_ms is None:
            source = _PLACED
    elif start_ms is not None and seen.ended_ms is not None:
        length_ms, source = max(0, seen.ended_ms - start_ms), TimeSource.LINES
    return _Known(phase, start_ms, length_ms, source, outcome, seen.target)


def _seen_phases(steps: Sequence[ExecutionStep]) -> dict[Phase, _Seen]:
    """When the authorizer and the integration began and ended, by the lines.

    An authorizer is called like an integration, with lines of the same words: until it is through, they are its own.
    """
    authorizer, integration = _Seen(), _Seen()
    authorizing = False
    for line in steps:
        step = line.step
        if step is _AUTHORIZER_START and authorizer.begun_ms is None:
            authorizer.begun_ms = line.at_ms
            authorizing = True
        elif step is _AUTHORIZER_RESULT and authorizer.begun_ms is not None and integration.begun_ms is None:
            authorizer.ended_ms = line.at_ms
            authorizing = False
        elif step is _INTEGRATION_REQUEST and authorizing:
            authorizer.target = line.name or authorizer.target
        elif step is _INTEGRATION_REQUEST and integration.ended_ms is None:
            # The last of them is `Sending request to …`; the others tell of its preparation.
            integration.begun_ms, integration.target = line.at_ms, line.name or integration.target
        elif step is _INTEGRATION_RESPONSE and not authorizing:
            # The line with the latency is written when the response is there; dumps of it may come earlier.
            if integration.latency_ms is None and (integration.ended_ms is None or line.latency_ms is not None):
                integration.ended_ms, integration.latency_ms = line.at_ms, line.latency_ms
        elif authorizing and step in _AFTER_AUTHORIZER:
            authorizer.ended_ms = line.at_ms
            authorizing = False
        elif step in _OUTCOMES and integration.begun_ms is not None and integration.ended_ms is None:
            integration.ended_ms = line.at_ms
    return {_AUTHORIZER: authorizer, _INTEGRATION: integration}


_AUTHORIZER_START, _AUTHORIZER_RESULT = Step.AUTHORIZER_START, Step.AUTHORIZER_RESULT
_INTEGRATION_REQUEST, _INTEGRATION_RESPONSE = Step.INTEGRATION_REQUEST, Step.INTEGRATION_RESPONSE
_OUTCOMES = frozenset({Step.REASON, Step.GATEWAY_RESPONSE, Step.EXECUTION_COMPLETED, Step.COMPLETED})
_AFTER_AUTHORIZER = _OUTCOMES | {Step.REQUEST_START, Step.API_KEY}
