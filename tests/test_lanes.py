"""Listings side by side: every item once, each chain in its order, bounded, and nothing left behind."""

import gc
import threading
from collections import defaultdict

import pytest
from hypothesis import given
from hypothesis import strategies as st

from exporter.sources.lanes import Lanes

WAIT_SECONDS = 20


def numbered(chain, count):
    return ((chain, number) for number in range(count))


@given(st.lists(st.integers(0, 6), max_size=12), st.integers(0, 5), st.integers(0, 5))
def test_every_item_comes_once_and_each_chain_in_its_order(lengths, most, wanted):
    lanes = Lanes(most)
    for _ in range(2):  # what was lent comes back
        found = defaultdict(list)
        for chain, number in lanes.merged([numbered(*pair) for pair in enumerate(lengths)], wanted):
            found[chain].append(number)
        assert found == {chain: list(range(length)) for chain, length in enumerate(lengths) if length}


def test_chains_run_at_once_and_no_more_than_there_are_lanes():
    together = threading.Barrier(3)

    def chain():
        for number in range(4):
            together.wait(WAIT_SECONDS)  # two of three alone would break it
            yield number

    assert len(list(Lanes(3).merged([chain() for _ in range(3)], 8))) == 12


def test_who_finds_no_free_lane_lists_one_after_the_other():
    lanes = Lanes(3)
    first = lanes.merged([numbered(chain, 3) for chain in range(3)], 3)
    next(first)
    assert list(lanes.merged([numbered(0, 2), numbered(1, 2)], 3)) == [(0, 0), (0, 1), (1, 0), (1, 1)]
    first.close()


def test_no_more_is_fetched_ahead_than_there_are_lanes():
    fetched = threading.Semaphore(0)
    made = []

    def chain():
        for number in range(100):
            made.append(number)
            fetched.release()
            yield number

    items = Lanes(2).merged([chain(), chain()], 2)
    for used in range(1, 11):
        next(items)
        assert fetched.acquire(timeout=WAIT_SECONDS)
        assert len(made) <= used + 2
    items.close()


@pytest.mark.parametrize("error", [ValueError("broken"), KeyboardInterrupt()])
def test_what_a_chain_raises_ends_it_all(error):
    def broken():
        yield "one"
        raise error

    endless = iter(lambda: "more", "never")
    lanes = Lanes(2)
    with pytest.raises(type(error)):
        list(lanes.merged([broken(), endless], 2))
    assert_all_come_back(lanes)


@pytest.mark.parametrize("how", ["closed", "forgotten"])
def test_who_stops_early_leaves_no_thread_at_work(how):
    lanes = Lanes(4)
    items = lanes.merged([iter(lambda: "more", "never") for _ in range(8)], 4)
    next(items)
    if how == "closed":
        items.close()
    del items
    gc.collect()
    assert_all_come_back(lanes)


@pytest.mark.parametrize("given", range(4))
def test_where_the_system_gives_no_more_threads_those_there_are_do_it_all(monkeypatch, given):
    start, started = threading.Thread.start, []

    def reluctant(thread):
        if len(started) == given:
            raise RuntimeError("can't start new thread")
        started.append(thread)
        start(thread)

    lanes = Lanes(3)
    with monkeypatch.context() as patch:
        patch.setattr(threading.Thread, "start", reluctant)
        items = sorted(lanes.merged([numbered(chain, 4) for chain in range(5)], 3))
    assert items == [(chain, number) for chain in range(5) for number in range(4)]
    assert len(started) == min(given, 3)
    assert_all_come_back(lanes)


def assert_all_come_back(lanes):
    """All lanes are free again: as many chains as there were lanes can wait for each other."""
    for thread in threading.enumerate():
        if thread.name.startswith("listing-"):
            thread.join(WAIT_SECONDS)
            assert not thread.is_alive()
    count = lanes._most
    together = threading.Barrier(count)
    assert len(list(lanes.merged([iter([together.wait]) for _ in range(count)], count))) == count
    assert lanes._taken == 0 or not [t for t in threading.enumerate() if t.name.startswith("listing-")]
