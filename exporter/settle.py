"""When a request is whole: the judgement that makes a count final.

Cause, resource and status are labels, so a count cannot be mended later: settling waits for proof. This file says of a
request whether it is whole and why; it splits no lines, keeps nothing and knows no clock.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum

import msgspec

from exporter import execution_log
from exporter.model import AccessGlance, Failure, LogGroup, Window
from exporter.units import AccessLine, Unit
from exporter.windows import MINUTE_MS, ReadState, Timing


class SettleReason(StrEnum):
    """Why a request was counted when it was: a label of `requests_settled_total`."""

    ACCESS_ONLY = "access_only"
    """There is no other log to wait for."""
    COVERED = "covered"
    """Access line and terminal line are here, and one listing covered everything between them."""
    PROVEN = "proven"
    """Access line, reason line and terminal line are here."""
    REACH = "reach"
    """Its stretch was read again after ordinary delivery, and the cause needs no more proof."""
    LEFT_OUT = "left_out"
    """The execution group cannot be read: there is nothing to wait for."""
    WATERMARK = "watermark"
    """Nothing can be late any more."""
    OVERFLOW = "overflow"
    """Too many open requests: the oldest go first."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Horizon:
    """What has been read, at the moment of judging."""

    state: ReadState
    timing: Timing
    listed: Sequence[Window]
    """The windows of the slice just read, each listed to its end in every group that can be read."""
    has_access: bool
    has_execution: bool
    execution_left_out: bool = False
    """An execution group is denied or missing at the moment."""
    asked: Mapping[str, Window] | None = None
    """Where execution lines are fetched by id: over which time each id was asked for in this slice. None: they are
    listed as a whole."""

    def covers(self, unit: Unit, first_ms: int, last_ms: int) -> bool:
        """Whether one listing would have brought every line of `unit` from the one time to the other."""
        listed = self.listed
        if self.asked is not None:
            listed = [self.asked[text] for text in unit.ids if text in self.asked]
        return any(window.start_ms <= first_ms and last_ms < window.end_ms for window in listed)


class Settled(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """A failure that is final."""

    unit: Unit
    failure: Failure
    reason: SettleReason
    reused_id: bool
    """Another request had its request id before, or has it now: the id identifies nothing."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Judged:
    """What one round of judging decided; nothing of it holds before the correlator is told it was committed."""

    settled: Sequence[Settled]
    absorbed: Sequence[AccessLine]
    """Access lines of failures that were counted without one."""
    stones: Mapping[tuple[LogGroup, int], Mapping[int, int]]
    """The marks to be filed, with what they say (`identity.Stones`)."""
    first_open_ms: int | None
    """The earliest line of what stays open."""
    late_evidence: int
    """Reason lines that came after their request had been settled without them."""


def is_failed(glance: AccessGlance) -> bool:
    """Whether an access line alone tells that its request failed."""
    return (
        (glance.status is not None and glance.status >= 400) or glance.response_type is not None or glance.gateway_error
    )


def settle_reason(unit: Unit, horizon: Horizon, *, own: bool = True) -> SettleReason | None:
    """Why `unit`, a failure, may be counted now; None: wait. `own`: nothing suggests that a line of it is another's."""
    failure = unit.failure
    if failure is None:
        return None
    timing, state = horizon.timing, horizon.state
    if not horizon.has_execution:
        return SettleReason.ACCESS_ONLY
    patience_ms = timing.max_request_ms + MINUTE_MS
    if unit.placeholder and horizon.has_access:
        # Its execution lines carry an id of their own: they may claim it once they are complete, so they go first.
        patience_ms += timing.max_request_ms
    if state.frontier_ms >= unit.first_ms + patience_ms:
        return SettleReason.WATERMARK
    reached = state.edge_ms(unit.last_ms, timing) >= unit.last_ms
    if not horizon.has_access:
        # Method and resource stand in the first lines: a listing that began early enough has them.
        # Without a terminal line the status is not known, and nothing but time tells that it does not come.
        covered = horizon.covers(unit, unit.last_ms - timing.max_request_ms, unit.last_ms)
        return SettleReason.COVERED if unit.terminal and covered and own and not failure.refinable else None
    if unit.access is None or unit.placeholder:
        return None
    if horizon.execution_left_out and not unit.execution:
        return SettleReason.LEFT_OUT if reached else None
    if failure.refinable or not own:
        return None
    if unit.terminal and horizon.covers(unit, unit.first_ms, unit.last_ms):
        return SettleReason.COVERED
    if unit.terminal and any(not execution_log.is_routine(line.text) for line in unit.execution):
        return SettleReason.PROVEN
    return SettleReason.REACH if reached else None
