"""How much is read at once: what slices cost decides how long the next are, and into how many parts they are cut."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from exporter.model import Window
from exporter.pacing import Pace
from exporter.windows import Pass, PlannedWindow, Timing

TIMING = Timing(max_request_ms=30_000, allowed_lateness_ms=330_000)


@pytest.fixture
def pace():
    return make()


def make():
    return Pace(TIMING, groups=1, poll_interval_ms=20_000)


def swept(pace):
    return (PlannedWindow(Pass.SWEEP, Window(0, pace.slice_ms + 30_000)),)


def learn(pace, *, pages_a_second, took_ms=0, opened=0, times=1):
    for _ in range(times):
        part = swept(pace)
        pages = pages_a_second * part[0].window.end_ms / 1000
        pace.learn(part, pages=pages, took_ms=took_ms, opened=opened)


def test_a_slice_begins_small_and_grows_fast_where_little_is(pace):
    assert pace.slice_ms == 10_000
    learn(pace, pages_a_second=0.001, times=4)
    assert pace.slice_ms == 900_000


def test_a_dense_group_is_read_by_the_minute_so_that_what_is_read_twice_stays_half_of_it(pace):
    learn(pace, pages_a_second=20, times=10)
    assert pace.slice_ms == 60_000


def test_slices_of_a_dense_group_stay_short_while_each_takes_longer_than_a_poll(pace):
    learn(pace, pages_a_second=20, times=10)
    learn(pace, pages_a_second=20, took_ms=25_000, times=10)
    assert pace.slice_ms == 10_000


def test_slices_stay_short_while_they_open_many_requests(pace):
    learn(pace, pages_a_second=20, opened=15_000, times=10)
    assert pace.slice_ms == 10_000


def test_a_long_slice_that_opens_too_much_is_given_up(pace):
    learn(pace, pages_a_second=0.001, times=4)
    assert not pace.is_crowded(swept(pace), 20_000)
    assert pace.is_crowded(swept(pace), 20_001)
    assert not pace.is_crowded((PlannedWindow(Pass.FRESH, Window(0, 60_000)),), 1_000_000)
    pace.shorten()
    assert not pace.is_crowded(swept(pace), 1_000_000), "there is no shorter one"


def test_only_windows_of_many_pages_are_cut(pace):
    window = Window(0, 60_000)
    assert pace.parts(window) == 1, "nothing is known yet"
    learn(pace, pages_a_second=0.2, times=20)
    assert pace.parts(window) == 1
    learn(pace, pages_a_second=2, times=20)
    assert pace.parts(window) == 15 - 1  # 120 pages, by the last measurements
    learn(pace, pages_a_second=1_000, times=20)
    assert pace.parts(window) == 64


@given(
    st.lists(
        st.tuples(st.floats(0, 1e4), st.floats(0, 1e6), st.integers(0, 100_000), st.booleans()),
        max_size=40,
    )
)
def test_slices_keep_within_their_bounds_whatever_they_cost(costs):
    pace = make()
    for pages, took_ms, opened, crowded in costs:
        pace.learn(swept(pace), pages=pages, took_ms=took_ms, opened=opened)
        if crowded:
            pace.shorten()
        assert 10_000 <= pace.slice_ms <= 900_000
        assert pace.slice_ms % 10_000 == 0
        assert 1 <= pace.parts(Window(0, pace.slice_ms)) <= 64
