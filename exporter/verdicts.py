"""What open lines come to: which requests they are, which of these failed and why, and whether they may be counted.

Asked anew after every look, and answered by the lines that are here. Nothing is decided for good, and nothing changed
but what is remembered so as not to be worked out twice. It does no I/O and knows no clock.
"""

from collections.abc import Callable

from msgspec.structs import replace

from exporter import execution_log
from exporter.identity import Identity
from exporter.model import Failure, RequestTimeline
from exporter.open_requests import OpenRequest, OpenRequests
from exporter.settle import Horizon, SettleReason, is_failed, settle_reason
from exporter.units import Unit, claim_placeholders, units_of

Describe = Callable[[Unit], RequestTimeline]
Classify = Callable[[RequestTimeline], Failure | None]


class Verdicts:
    """Those of one watch."""

    def __init__(
        self,
        open_requests: OpenRequests,
        identity: Identity,
        *,
        describe: Describe,
        classify: Classify,
        max_request_ms: int,
    ) -> None:
        self._open = open_requests
        self._identity = identity
        self._describe = describe
        self._classify = classify
        self._max_request_ms = max_request_ms

    def units(self, request: OpenRequest) -> list[Unit]:
        """The requests that its lines are, each with its failure if it failed; the same until a line is added."""
        if request.units is None:
            used = len(request.access) > 1 or self._is_used(request)
            units = units_of(request.access, request.execution, self._max_request_ms if used else None)
            if len(units) > 1:
                # A caller may give one id to any number of requests: a line of one changes nothing about the others.
                units = [request.judged.get(unit.event_ids) or self._judged(unit) for unit in units]
                request.judged = {unit.event_ids: unit for unit in units}
            else:
                units = [self._judged(unit) for unit in units]
            request.units = units
        return request.units

    def is_countable(self, unit: Unit) -> bool:
        """Whether a failure may be counted: by its access line, else only where that can count nothing twice."""
        return unit.access is not None or (self._identity.counts_executions(unit) and not self.knows(unit))

    def knows(self, unit: Unit) -> bool:
        """Whether execution lines without an access line belong to a failure that is settled."""
        if unit.access is not None:
            return False
        found = [self._open.by_id.get(text) for text in unit.ids]
        is_used = any(request is None or self._is_used(request) for request in found)
        return is_used and self._identity.knows_unit(unit)

    def shares_id(self, unit: Unit) -> bool:
        """Whether its request id is that of another request, too."""
        for text in unit.request_ids:
            request = self._open.by_id.get(text)
            if request is not None and len(self.units(request)) > 1:
                return True
            if (request is None or self._is_used(request)) and self._identity.is_used(text):
                return True
        return False

    def _is_used(self, request: OpenRequest) -> bool:
        """Whether a settled failure had one of its ids."""
        edition = self._identity.edition
        if not request.is_used and request.unused_in != edition:
            request.is_used = any(self._identity.is_used(text) for text in request.ids)
            request.unused_in = edition
        return request.is_used

    def claimed(self, units: list[Unit], horizon: Horizon) -> list[Unit]:
        """Let execution-only failures that are complete take the placeholder access lines they belong to."""
        if not (horizon.has_access and horizon.has_execution):
            return units
        complete = [
            unit for unit in units if unit.placeholder or settle_reason(unit, horizon) is SettleReason.WATERMARK
        ]
        taken: set[int] = set()
        claimed: list[Unit] = []
        for executed, placeholder in claim_placeholders(complete, horizon.timing):
            taken |= {id(executed), id(placeholder)}
            joined = replace(
                executed,
                access=placeholder.access,
                ids=executed.ids | placeholder.ids,
                extended_ids=executed.extended_ids | placeholder.extended_ids,
                first_ms=min(executed.first_ms, placeholder.first_ms),
                last_ms=max(executed.last_ms, placeholder.last_ms),
            )
            claimed.append(self._judged(joined))
        return [unit for unit in units if id(unit) not in taken] + claimed

    def _judged(self, unit: Unit) -> Unit:
        if _may_have_failed(unit):
            unit.timeline = self._describe(unit)
            unit.failure = self._classify(unit.timeline)
        return unit


def _may_have_failed(unit: Unit) -> bool:
    """Whether a look at its lines leaves open that it failed: only then they are read in full."""
    glance = unit.access.glance if unit.access is not None else None
    if glance is not None and (glance.status is None or is_failed(glance)):
        return True
    return any(
        not execution_log.is_routine(line.text) or (execution_log.completed_status(line.text) or 0) >= 400
        for line in unit.execution
    )
