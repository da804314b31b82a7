"""The call budget: never above its rate, in the order asked for, and interruptible."""

import threading

import pytest
from hypothesis import given
from hypothesis import strategies as st

from exporter.sources.budget import BURST_SECONDS, CallBudget


class SimulatedTime:
    """A clock that moves only when somebody waits or a test says so."""

    def __init__(self):
        self.now = 1_000.0
        self.stopped = False

    def clock(self):
        return self.now

    def wait(self, seconds):
        if not self.stopped:
            self.now += seconds
        return self.stopped


def budget_of(rate, time):
    return CallBudget(rate, clock=time.clock, wait=time.wait)


def most_in_any_stretch(moments, seconds):
    """The greatest number of calls that fall into one closed stretch of that length."""
    return max(sum(first <= other <= first + seconds for other in moments) for first in moments)


rates = st.floats(min_value=0.05, max_value=50, allow_nan=False)
pauses = st.lists(st.one_of(st.just(0.0), st.floats(min_value=0, max_value=30)), min_size=1, max_size=80)


@given(rates, pauses, st.floats(min_value=0.1, max_value=60))
def test_no_stretch_of_any_length_has_more_calls_than_the_rate_and_the_burst_allow(rate, idle, stretch):
    time = SimulatedTime()
    budget = budget_of(rate, time)
    moments = []
    for pause in idle:
        time.now += pause
        assert budget.acquire()
        moments.append(time.now)
    assert most_in_any_stretch(moments, stretch) <= rate * (stretch + BURST_SECONDS) + 1 + 1e-6


@given(rates, st.integers(min_value=2, max_value=200))
def test_a_busy_caller_gets_all_of_the_rate(rate, calls):
    time = SimulatedTime()
    budget = budget_of(rate, time)
    for _ in range(calls):
        budget.acquire()
    assert time.now - 1_000.0 <= calls / rate


def test_an_idle_budget_lets_a_short_burst_through_at_once():
    time = SimulatedTime()
    budget = budget_of(2, time)
    assert [budget.acquire() for _ in range(5)] == [True] * 5
    assert time.now == 1_000.0
    budget.acquire()
    assert time.now == pytest.approx(1_000.5)


def test_a_long_idle_time_saves_up_no_more_than_the_burst():
    time = SimulatedTime()
    budget = budget_of(2, time)
    budget.acquire()
    time.now += 3_600
    start = time.now
    for _ in range(10):
        budget.acquire()
    assert time.now - start == pytest.approx((10 - 5) / 2)


def test_turns_are_given_in_the_order_in_which_they_were_asked_for():
    """Every caller waits for a time of its own, later than that of all who came before."""
    asked = []
    budget = CallBudget(1, clock=lambda: 0.0, wait=lambda seconds: asked.append(seconds) or False)
    for _ in range(6):
        budget.acquire()
    assert asked == [0.0, 0.0, 0.0, 1.0, 2.0, 3.0]


def test_a_stopping_program_gets_no_turn():
    time = SimulatedTime()
    time.stopped = True
    assert not budget_of(10, time).acquire()


def test_a_stop_ends_the_waiting_of_every_thread():
    stop = threading.Event()
    budget = CallBudget(0.001, clock=lambda: 0.0, wait=stop.wait)
    assert budget.acquire()  # the next turn is 1,000 s away
    turns = []
    threads = [threading.Thread(target=lambda: turns.append(budget.acquire())) for _ in range(3)]
    for thread in threads:
        thread.start()
    stop.set()
    for thread in threads:
        thread.join(timeout=10)
    assert turns == [False] * 3


def test_threads_together_stay_within_the_rate():
    """No clock moves here: each of 400 turns must be one of the 400 earliest that the rate allows, none given twice."""
    waits = []
    budget = CallBudget(10, clock=lambda: 0.0, wait=lambda seconds: waits.append(seconds) or False)
    threads = [threading.Thread(target=lambda: [budget.acquire() for _ in range(50)]) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    expected = [max(0.0, turn / 10 - BURST_SECONDS) for turn in range(400)]
    assert sorted(waits) == pytest.approx(expected, abs=1e-6)


def test_utilisation_tells_how_much_of_the_budget_is_asked_for():
    time = SimulatedTime()
    budget = budget_of(2, time)
    assert budget.utilisation == 0
    for _ in range(600):
        budget.acquire()
        time.now += 1.0  # one call a second where two are allowed
    assert budget.utilisation == pytest.approx(0.5, abs=0.02)
    time.now += 3_600
    assert budget.utilisation == pytest.approx(0, abs=1e-6)


def test_utilisation_and_backlog_show_that_callers_queue():
    budget = CallBudget(1, clock=lambda: 0.0, wait=lambda _: False)
    for _ in range(123):
        budget.acquire()
    assert budget.utilisation > 1
    assert budget.backlog_seconds == pytest.approx(123 - BURST_SECONDS)


@pytest.mark.parametrize("rate", [0, -1, float("nan"), float("inf")])
def test_a_rate_that_is_none_is_refused(rate):
    with pytest.raises(ValueError, match="calls_per_second"):
        budget_of(rate, SimulatedTime())
