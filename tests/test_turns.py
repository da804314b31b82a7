"""Turns at the processor: one page at a time, scrapes first, and no wait without an end."""

import threading

import pytest

from exporter.turns import Turns

WAIT_SECONDS = 20
FOR_EVER = 1_000_000


def in_a_thread(work):
    thread = threading.Thread(target=work, daemon=True)
    thread.start()
    return thread


def joined(thread):
    thread.join(WAIT_SECONDS)
    return not thread.is_alive()


def taking(turns, taken):
    def take():
        with turns.page():
            taken.set()

    return in_a_thread(take)


def test_one_page_at_a_time():
    turns, taken = Turns(FOR_EVER), threading.Event()
    with turns.page():
        thread = taking(turns, taken)
        assert not taken.wait(0.01)
    assert joined(thread)


def test_a_page_waits_until_the_last_scrape_is_answered():
    turns, taken = Turns(FOR_EVER), threading.Event()
    with turns.scrape():
        with turns.scrape():
            thread = taking(turns, taken)
        assert not taken.wait(0.01)
    assert joined(thread)


def test_a_scrape_waits_for_nobody():
    turns = Turns(FOR_EVER)
    with turns.page(), turns.body(), turns.scrape(), turns.scrape():
        pass


def test_scrapes_without_end_hold_up_each_page_for_a_moment_only():
    turns, taken = Turns(0.001), threading.Event()
    with turns.scrape():
        assert joined(taking(turns, taken))


def test_a_client_that_never_takes_its_answer_holds_up_nothing():
    now = [0.0]
    turns, taken = Turns(FOR_EVER, ticks=lambda: now[0]), threading.Event()
    with turns.scrape():
        now[0] += FOR_EVER
        assert joined(taking(turns, taken))


def test_a_body_that_takes_long_is_not_waited_for():
    turns = Turns(0.001)
    with turns.body():

        def read():
            with turns.body():
                pass

        assert joined(in_a_thread(read))
    # Who went on without a turn gave none back.
    alone = Turns(FOR_EVER)
    with alone.body():
        assert alone._body.locked()
    assert not alone._body.locked()
    assert not turns._body.locked()


def test_turns_come_back_whatever_happens():
    turns = Turns(FOR_EVER)
    for turn in (turns.page, turns.body, turns.scrape):
        with pytest.raises(ZeroDivisionError), turn():
            1 / 0  # noqa: B018
    assert not turns._page.locked()
    assert not turns._body.locked()
    assert turns._quiet.is_set()
