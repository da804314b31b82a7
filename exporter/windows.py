"""How far back to read now: one pure function from what has been read to the slices to read next.

CloudWatch Logs lists by *event time* only, while a request's lines appear after its end, seconds to minutes late. So
the same stretch of event time is read more than once: early, to count fast; again when a whole request fits before it;
and a last time once nothing can be late any more, which alone moves the frontier. Nothing here reads, waits, remembers
or knows the present: the caller says what time it is.
"""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import NamedTuple, TypeVar

from exporter.model import Window

T = TypeVar("T")

BUCKET_MS = 10_000
"""Windows start on such bounds, so that a tally's bucket is never cut at its left."""
MINUTE_MS = 60_000
"""The frontier moves by such steps, so that an idle group costs one small commit a minute."""
OVERLAP_MS = 10_000
"""FRESH and REACH begin this much before the end of their last window: what AWS shows a moment late is met at once."""
REACH_SLACK_MS = 15_000
"""Ordinary delivery after the end of a request."""


class Pass(StrEnum):
    """Why a window is read."""

    WIDE = "wide"
    """All that is not read for good, in one window: what most groups need."""
    FRESH = "fresh"
    """What is new since the last poll."""
    REACH = "reach"
    """A stretch again, once it is older than the longest request and its ordinary delivery."""
    SWEEP = "sweep"
    """A stretch for good, once it is older than the allowed lateness."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Timing:
    """What is known of how late lines can be."""

    max_request_ms: int
    """The longest a request can take (integration timeout and what is around it)."""
    allowed_lateness_ms: int
    """Age at which a stretch of event time counts as complete. At least `max_request_ms` + 60 s."""
    reach_lead_ms: int = 0
    """How much earlier REACH begins: `max_request_ms` where only a request's first lines tell method and resource."""

    @property
    def reach_ms(self) -> int:
        """Age at which nearly every line of a request that started then has been delivered."""
        return self.max_request_ms + REACH_SLACK_MS


@dataclass(frozen=True, kw_only=True, slots=True)
class ReadState:
    """How far each pass has come. Event times, all ends excluded."""

    frontier_ms: int
    """Read for good up to here."""
    fresh_ms: int
    """End of the newest FRESH or WIDE window."""
    reached_ms: int
    """End of the newest REACH window (or what a WIDE one stands for)."""
    left_ms: int = 0
    """FRESH has read without a gap since here: what lies before and beyond the frontier was not read at all yet."""

    @classmethod
    def starting_at(cls, at_ms: int) -> "ReadState":
        """The state in which nothing after `at_ms` was read."""
        return cls(frontier_ms=at_ms, fresh_ms=at_ms, reached_ms=at_ms)

    def edge_ms(self, last_ms: int, timing: Timing) -> int:
        """Event time up to which late lines are no longer expected, for a request whose last known line is `last_ms`.

        Behind a gap that FRESH left (an outage) only the frontier tells.
        """
        if last_ms < self.left_ms:
            return self.frontier_ms - timing.max_request_ms
        return self.reached_ms


class PlannedWindow(NamedTuple):
    """One window and why it is read."""

    why: Pass
    window: Window


Slice = tuple[PlannedWindow, ...]
"""Windows that are read, judged and committed together."""


def read_windows(
    state: ReadState, *, now_ms: int, timing: Timing, wide: bool, slice_ms: int, restarted: bool
) -> list[Slice]:
    """Plan the slices to read now, in order; each is to be committed before the next is read.

    What is left of a backlog then is asked for by `next_sweep`. `wide`: one window costs no more pages than the three
    passes would. `slice_ms`: how much of a backlog one slice takes. `restarted`: nothing was committed yet in this
    life of the process: a small slice comes first, so that one which is killed every few seconds still gets ahead.
    """
    plan: list[Slice] = []
    behind_ms = now_ms - timing.allowed_lateness_ms - state.frontier_ms
    if restarted or behind_ms > timing.allowed_lateness_ms:
        first = next_sweep(state, now_ms=now_ms, timing=timing, slice_ms=slice_ms, step_ms=BUCKET_MS)
        if first is not None:
            plan.append(first)
            state = advance(state, first, now_ms=now_ms, timing=timing)
            behind_ms = now_ms - timing.allowed_lateness_ms - state.frontier_ms
    if wide and behind_ms <= timing.allowed_lateness_ms:
        window = Window(_floor(state.frontier_ms - timing.max_request_ms, BUCKET_MS), now_ms)
        return [*plan, (PlannedWindow(Pass.WIDE, window),)]
    new: list[PlannedWindow] = []
    left_ms = _left(state, now_ms, timing)
    reached_ms = max(state.reached_ms - OVERLAP_MS, left_ms)
    reach = Window(_floor(reached_ms - timing.reach_lead_ms, BUCKET_MS), now_ms - timing.reach_ms)
    if reach.end_ms > reached_ms:
        new.append(PlannedWindow(Pass.REACH, reach))
    fresh_start_ms = max(state.fresh_ms - OVERLAP_MS, now_ms - timing.allowed_lateness_ms)
    new.append(PlannedWindow(Pass.FRESH, Window(_floor(fresh_start_ms, BUCKET_MS), now_ms)))
    return [*plan, tuple(new)]


def next_sweep(
    state: ReadState, *, now_ms: int, timing: Timing, slice_ms: int, step_ms: int = MINUTE_MS
) -> Slice | None:
    """The next slice of what is old enough to be read for good; None when less than `step_ms` of it is left."""
    target_ms = _floor(now_ms - timing.allowed_lateness_ms, step_ms)
    end_ms = min(state.frontier_ms + slice_ms, target_ms)
    if target_ms - state.frontier_ms < step_ms:
        return None
    # A request with one line in the slice has all its lines in the window, however the frontier cuts it.
    start_ms = _floor(state.frontier_ms - timing.max_request_ms, BUCKET_MS)
    return (PlannedWindow(Pass.SWEEP, Window(start_ms, end_ms)),)


def advance(state: ReadState, done: Slice, *, now_ms: int, timing: Timing) -> ReadState:
    """The state after `done` was listed to its end. `now_ms`: the service's clock when the listing began."""
    for why, window in done:
        match why:
            case Pass.SWEEP:
                state = replace(state, frontier_ms=max(state.frontier_ms, window.end_ms))
            case Pass.REACH:
                state = replace(state, reached_ms=max(state.reached_ms, window.end_ms))
            case Pass.FRESH:
                left_ms = _left(state, now_ms, timing)
                state = replace(state, fresh_ms=min(window.end_ms, now_ms), left_ms=left_ms)
            case Pass.WIDE:
                end_ms = min(window.end_ms, now_ms)
                target_ms = _floor(end_ms - timing.allowed_lateness_ms, MINUTE_MS)
                state = replace(
                    state,
                    frontier_ms=max(state.frontier_ms, target_ms),
                    fresh_ms=end_ms,
                    reached_ms=max(state.reached_ms, end_ms - timing.reach_ms),
                )
    return state


def wide_is_cheaper(pages_per_ms: float, timing: Timing, poll_interval_ms: int) -> bool:
    """Whether one window of everything unsettled costs no more pages than FRESH, REACH and SWEEP together.

    `pages_per_ms`: the last measured rate of pages by event time.
    """
    wide, three = pages_a_poll(pages_per_ms, timing, poll_interval_ms)
    return wide <= three


def pages_a_poll(pages_per_ms: float, timing: Timing, poll_interval_ms: int) -> tuple[float, float]:
    """What a poll of one group costs in pages: in one window, and in three passes. Each listing takes at least one."""

    def pages(length_ms: int) -> float:
        return max(1.0, pages_per_ms * length_ms)

    lead_ms = timing.max_request_ms
    three = pages(poll_interval_ms + OVERLAP_MS) * 2 + pages(MINUTE_MS + lead_ms) * poll_interval_ms / MINUTE_MS
    return pages(timing.allowed_lateness_ms + lead_ms + MINUTE_MS // 2), three


def neighbourhoods(items: Iterable[T], span: Callable[[T], Window]) -> Iterator[tuple[Window, list[T]]]:
    """Put items whose spans meet together, in order of time; one far off would make a listing pass over much."""
    near: list[T] = []
    window = Window(0, 0)
    for own, item in sorted(((span(item), item) for item in items), key=lambda pair: pair[0]):
        if near and own.start_ms > window.end_ms:
            yield window, near
            near = []
        window = Window(window.start_ms, max(window.end_ms, own.end_ms)) if near else own
        near.append(item)
    if near:
        yield window, near


def _left(state: ReadState, now_ms: int, timing: Timing) -> int:
    oldest_ms = now_ms - timing.allowed_lateness_ms
    return _floor(oldest_ms, BUCKET_MS) if state.fresh_ms - OVERLAP_MS < oldest_ms else state.left_ms


def _floor(at_ms: int, step_ms: int) -> int:
    return at_ms - at_ms % step_ms
