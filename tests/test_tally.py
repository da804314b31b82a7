"""Totals by the greatest listing: raised, never added, never twice, closed behind the watermark."""

from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from exporter import tally
from exporter.model import CounterKey
from exporter.tally import Seen, Tally

OK = CounterKey("requests", ("GET", "200"))
BAD = CounterKey("requests", ("GET", "500"))
START = 1_760_011_200_000


def seen(*lines: tuple[int, CounterKey]) -> Seen:
    listing = Seen()
    for at_ms, key in lines:
        listing.add(at_ms, key)
    return listing


def raise_and_keep(counts: Tally, *listings: Seen, watermark_ms: int = 0) -> dict[CounterKey, int]:
    raised = counts.raised_by(listings, watermark_ms)
    counts.keep(raised.changed)
    return raised.increments


def test_reading_a_stretch_again_adds_nothing_and_a_late_line_adds_itself():
    counts = Tally()
    assert raise_and_keep(counts, seen((START, OK), (START + 1, OK))) == {OK: 2}
    assert raise_and_keep(counts, seen((START, OK), (START + 1, OK))) == {}
    assert raise_and_keep(counts, seen((START, OK), (START + 1, OK), (START + 2, OK))) == {OK: 1}


def test_a_listing_that_saw_less_takes_nothing_away():
    counts = Tally()
    raise_and_keep(counts, seen((START, OK), (START + 1, OK)))
    assert raise_and_keep(counts, seen((START, OK))) == {}
    assert raise_and_keep(counts, seen((START, OK), (START + 1, OK))) == {}


def test_two_listings_of_one_slice_count_as_the_greater_not_as_their_sum():
    assert raise_and_keep(Tally(), seen((START, OK), (START, OK)), seen((START, OK))) == {OK: 2}


def test_buckets_behind_the_watermark_are_closed():
    counts = Tally()
    assert raise_and_keep(counts, seen((START, OK), (START + 10_000, BAD)), watermark_ms=START + 10_000) == {BAD: 1}


def test_nothing_changes_before_the_commit():
    counts = Tally()
    listing = seen((START, OK))
    assert counts.raised_by([listing], 0).increments == {OK: 1}
    assert counts.raised_by([listing], 0).increments == {OK: 1}


def test_a_minute_survives_packing_and_goes_when_the_watermark_has_passed_all_of_it():
    counts = Tally()
    raised = counts.raised_by([seen((START, OK), (START + 59_999, BAD))], 0)
    minute = START // 60_000
    again = Tally({minute: tally.pack(raised.changed[minute])})
    assert again.raised_by([seen((START, OK), (START + 59_999, BAD), (START + 59_999, BAD))], 0).increments == {BAD: 1}
    assert again.closed(START + 59_999) == []
    assert again.closed(START + 60_000) == [minute]
    again.drop([minute])
    assert again.closed(START + 60_000) == []


@given(
    lines=st.lists(st.tuples(st.integers(0, 200_000), st.sampled_from([OK, BAD])), max_size=40),
    reads=st.lists(st.lists(st.booleans(), min_size=40, max_size=40), max_size=6),
    restart=st.booleans(),
)
def test_any_partial_reads_followed_by_one_whole_read_give_the_truth(lines, reads, restart):
    counts, total = Tally(), Counter()
    whole = [(START + at, key) for at, key in lines]
    for chosen in [*reads, [True] * 40]:
        part = [line for line, take in zip(whole, chosen, strict=False) if take]
        raised = counts.raised_by([seen(*part)], 0)
        total.update(raised.increments)
        counts.keep(raised.changed)
        if restart:
            minutes = {minute: tally.pack(cells) for minute, cells in counts._minutes.items()}
            counts = Tally(minutes)
    assert total == Counter(key for _, key in whole)
