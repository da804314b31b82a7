"""How far back to read: every rule of DESIGN 3.2, with times that can be read."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from exporter.model import Window
from exporter.windows import (
    MINUTE_MS,
    Pass,
    PlannedWindow,
    ReadState,
    Timing,
    advance,
    next_sweep,
    read_windows,
    wide_is_cheaper,
)

TIMING = Timing(max_request_ms=30_000, allowed_lateness_ms=330_000)
NOON = 1_760_011_200_000


def plan(state: ReadState, now_ms: int, *, wide: bool = False, slice_ms: int = 60_000, restarted: bool = False):
    return read_windows(state, now_ms=now_ms, timing=TIMING, wide=wide, slice_ms=slice_ms, restarted=restarted)


def caught_up(now_ms: int) -> ReadState:
    """A watch that polled 20 s ago and has swept all it could."""
    before = now_ms - 20_000
    frontier = (before - TIMING.allowed_lateness_ms) // MINUTE_MS * MINUTE_MS
    return ReadState(frontier_ms=frontier, fresh_ms=before, reached_ms=before - TIMING.reach_ms)


def test_one_window_reads_everything_that_is_not_read_for_good_and_one_longest_request_more():
    state = caught_up(NOON)
    assert plan(state, NOON, wide=True) == [
        (PlannedWindow(Pass.WIDE, Window(state.frontier_ms - 30_000, NOON)),),
    ]


def test_three_passes_read_fresh_from_ten_seconds_before_its_last_end():
    (windows,) = [part for part in plan(caught_up(NOON), NOON) if part[-1].why is Pass.FRESH]
    assert windows[-1].window == Window(NOON - 30_000, NOON)


def test_reach_reads_each_stretch_again_once_it_is_old_enough_for_a_whole_request():
    (windows,) = [part for part in plan(caught_up(NOON), NOON) if part[-1].why is Pass.FRESH]
    reach = windows[0]
    assert reach.why is Pass.REACH
    assert reach.window.end_ms == NOON - 45_000
    assert reach.window.start_ms <= NOON - 20_000 - 45_000 - 10_000


def sweep(state: ReadState, now_ms: int, slice_ms: int = 60_000):
    return next_sweep(state, now_ms=now_ms, timing=TIMING, slice_ms=slice_ms)


def test_sweep_ends_at_the_allowed_lateness_on_a_whole_minute_and_not_before_a_minute_is_due():
    state = caught_up(NOON)
    assert sweep(state, NOON) is None
    later = NOON + 60_000
    assert sweep(state, later) == (
        PlannedWindow(Pass.SWEEP, Window(state.frontier_ms - 30_000, state.frontier_ms + 60_000)),
    )
    assert state.frontier_ms + 60_000 <= later - TIMING.allowed_lateness_ms


def test_a_backlog_is_swept_in_slices_and_fresh_reads_only_the_allowed_lateness():
    state = ReadState.starting_at(NOON - 6 * 3_600_000)
    first, new = plan(state, NOON, slice_ms=600_000)
    assert first[0].why is Pass.SWEEP, "one slice before the new lines, so that every life makes progress"
    assert first[0].window.end_ms == state.frontier_ms + 600_000
    assert new[-1] == PlannedWindow(Pass.FRESH, Window(NOON - 330_000, NOON))
    ends = []
    for part in (first, new):
        state = advance(state, part, now_ms=NOON, timing=TIMING)
    while (part := sweep(state, NOON, slice_ms=600_000)) is not None:
        state = advance(state, part, now_ms=NOON, timing=TIMING)
        ends.append(state.frontier_ms)
    assert len(ends) > 30
    assert ends[-1] == (NOON - 330_000) // MINUTE_MS * MINUTE_MS


def test_after_a_restart_a_small_slice_is_committed_first_even_without_a_backlog():
    state = caught_up(NOON)
    first = plan(state, NOON + 40_000, wide=True, slice_ms=10_000, restarted=True)[0]
    assert first == (PlannedWindow(Pass.SWEEP, Window(state.frontier_ms - 30_000, state.frontier_ms + 10_000)),)


def test_only_sweep_and_wide_move_the_frontier():
    state = caught_up(NOON)
    later = NOON + 120_000
    fresh = (PlannedWindow(Pass.FRESH, Window(NOON - 30_000, later)),)
    assert advance(state, fresh, now_ms=later, timing=TIMING).frontier_ms == state.frontier_ms
    reach = (PlannedWindow(Pass.REACH, Window(NOON - 90_000, later - 45_000)),)
    assert advance(state, reach, now_ms=later, timing=TIMING).frontier_ms == state.frontier_ms
    wide = (PlannedWindow(Pass.WIDE, Window(state.frontier_ms, later)),)
    moved = advance(state, wide, now_ms=later, timing=TIMING).frontier_ms
    assert moved == (later - TIMING.allowed_lateness_ms) // MINUTE_MS * MINUTE_MS


def test_the_frontier_follows_the_services_clock_when_ours_is_ahead():
    state = caught_up(NOON)
    ahead = NOON + 240_000
    wide = (PlannedWindow(Pass.WIDE, Window(state.frontier_ms, ahead)),)
    moved = advance(state, wide, now_ms=NOON, timing=TIMING)
    assert moved.frontier_ms <= NOON - TIMING.allowed_lateness_ms
    assert moved.fresh_ms == NOON


def test_behind_a_gap_only_the_frontier_tells_that_nothing_is_late():
    state = ReadState.starting_at(NOON - 3_600_000)
    fresh = (PlannedWindow(Pass.FRESH, Window(NOON - 330_000, NOON)),)
    after = advance(state, fresh, now_ms=NOON, timing=TIMING)
    assert after.left_ms == NOON - 330_000
    old, new = NOON - 1_000_000, NOON - 100_000
    assert after.edge_ms(old, TIMING) == state.frontier_ms - 30_000
    assert after.edge_ms(new, TIMING) == after.reached_ms


def test_one_window_is_taken_while_it_costs_no_more_pages_than_three():
    assert wide_is_cheaper(0.0, TIMING, 20_000)
    assert wide_is_cheaper(2.0 / 420_000, TIMING, 20_000)
    assert not wide_is_cheaper(10.0 / 420_000, TIMING, 20_000)
    assert not wide_is_cheaper(1_000.0 / 420_000, TIMING, 20_000)


@given(
    polls=st.lists(st.integers(1_000, 5_000_000), min_size=1, max_size=12),
    wide=st.lists(st.booleans(), min_size=12, max_size=12),
    slice_ms=st.sampled_from([10_000, 60_000, 900_000]),
)
def test_whatever_the_intervals_the_frontier_never_passes_what_may_still_be_late_nor_leaves_a_hole(
    polls, wide, slice_ms
):
    state = ReadState.starting_at(NOON)
    swept = NOON
    now_ms, restarted = NOON, True
    for pause, one in zip(polls, wide, strict=False):
        now_ms += pause
        parts = plan(state, now_ms, wide=one, slice_ms=slice_ms, restarted=restarted)
        more = True
        while parts or more:
            if not parts:
                part = sweep(state, now_ms, slice_ms)
                if part is None:
                    break
            else:
                part = parts.pop(0)
            for why, window in part:
                assert window.start_ms % 10_000 == 0
                if why in {Pass.SWEEP, Pass.WIDE}:
                    assert window.start_ms <= swept - TIMING.max_request_ms, "a hole, or a request cut at its head"
            state = advance(state, part, now_ms=now_ms, timing=TIMING)
            swept = max(swept, state.frontier_ms)
            assert state.frontier_ms <= max(NOON, now_ms - TIMING.allowed_lateness_ms)
            assert state.frontier_ms % 10_000 == 0
            more = len(polls) % 2 == 0
        restarted = False
        assert state.fresh_ms == now_ms, "every plan reads up to now"


@pytest.mark.parametrize("length_s", [1, 10, 60, 3_600])
def test_reach_starts_a_longest_request_earlier_where_first_lines_carry_the_labels(length_s):
    timing = Timing(max_request_ms=length_s * 1_000, allowed_lateness_ms=4_000_000, reach_lead_ms=length_s * 1_000)
    state = ReadState(frontier_ms=NOON - 4_020_000, fresh_ms=NOON - 20_000, reached_ms=NOON - 20_000 - timing.reach_ms)
    (windows,) = read_windows(state, now_ms=NOON, timing=timing, wide=False, slice_ms=60_000, restarted=False)
    reach = windows[0].window
    assert reach.start_ms <= state.reached_ms - 10_000 - length_s * 1_000
