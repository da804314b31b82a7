"""Marks of settled failures and what stands on them: found, packed, forgotten four minutes at a time."""

import random
import tracemalloc

import pytest
from hypothesis import given
from hypothesis import strategies as st

from exporter import tombstones
from exporter.model import AccessGlance
from exporter.tombstones import Mark, Tombstones, filed_under, inscription, joinable_ids, mark, pack

words = st.integers(0, 2**64 - 1)
MARK_OF_A = 11880939597171687856
"""Pinned: a state file written by one version is read by the next."""


def glance(request_id: str | None, extended: str | None) -> AccessGlance:
    return AccessGlance(
        request_id=request_id,
        extended_request_id=extended,
        status=500,
        method="GET",
        resource="/",
        api_id=None,
        stage=None,
        latency_ms=None,
        integration_latency_ms=None,
        response_type=None,
    )


def test_placeholders_join_nothing():
    assert joinable_ids(glance("UUID_REPLACED_INVALID_REQUEST_ID", "x=")) == ["x="]
    assert joinable_ids(glance("-", None)) == []
    assert joinable_ids(glance("a", "b")) == ["a", "b"]


def test_one_id_leaves_another_mark_for_each_purpose_and_the_same_in_every_process():
    assert len({mark(kind, "a") for kind in Mark}) == len(Mark)
    assert mark(Mark.ACCESS, "a") == MARK_OF_A
    assert mark(Mark.ID, "\ud800") > 0, "any text, also what no encoding knows"


def test_an_inscription_says_which_marks_went_with_a_mark_and_nothing_of_others():
    said = inscription(event=mark(Mark.ACCESS, "1"), extended=mark(Mark.ID, "x="))
    assert tombstones.is_of_event(said, mark(Mark.ACCESS, "1"))
    assert not tombstones.is_of_event(said, mark(Mark.ACCESS, "2"))
    assert not tombstones.is_unclaimed(said)
    assert tombstones.is_linked(said)
    assert tombstones.is_linked_to(said, mark(Mark.ID, "x="))
    assert not tombstones.is_linked_to(said, mark(Mark.ID, "y="))


def test_what_was_settled_without_an_access_line_has_no_event_whatever_its_prints():
    at = mark(Mark.UNCLAIMED, "a 7")
    for is_extended in (False, True):
        said = inscription(unclaimed_at=at, is_extended=is_extended)
        assert tombstones.is_unclaimed(said)
        assert tombstones.is_unclaimed_at(said, at)
        assert not tombstones.is_unclaimed_at(said, mark(Mark.UNCLAIMED, "a 8"))
        assert not tombstones.is_of_event(said, at)
        assert not tombstones.is_linked(said)
        assert tombstones.is_unclaimed_extended_id(said) == is_extended


@given(one=words, other=words, third=words)
def test_no_mark_is_without_a_print(one, other, third):
    said = inscription(event=one, extended=other)
    assert tombstones.is_of_event(said, one)
    assert tombstones.is_linked(said)
    assert tombstones.is_linked_to(said, other)
    assert not tombstones.is_unclaimed_extended_id(said)
    assert not tombstones.is_of_event(inscription(extended=other), third)
    assert not tombstones.is_linked(inscription(event=third))
    assert 0 < said < 1 << 42


def test_files_expire_whole_and_only_before_the_given_minute():
    stones = Tombstones()
    stones.add(8, [(1, 0), (2, 0)])
    stones.add(12, [(3, 0)])
    assert stones.expired(11) == []
    assert stones.expired(12) == [8]
    stones.drop([8])
    assert 1 not in stones
    assert 3 in stones
    assert len(stones) == 1


@given(at_ms=st.integers(0, 4 * 10**12))
def test_a_mark_is_there_as_long_as_its_own_minute_has_not_expired_and_not_much_longer(at_ms):
    stones = Tombstones()
    stones.add(filed_under(at_ms), [(1, 0)])
    minute = at_ms // 60_000
    assert stones.expired(minute) == []
    assert stones.expired(minute + 4) == [filed_under(at_ms)]


def test_an_hour_is_few_files_so_that_little_is_searched():
    assert len({filed_under(minute * 60_000) for minute in range(60)}) == 15


def test_files_in_which_much_failed_know_the_same_marks_and_take_few_bytes_for_each():
    rng = random.Random(4)
    marks = {rng.getrandbits(64): rng.getrandbits(42) for _ in range(300_000)}
    stones_of_all = list(marks.items())
    others = [rng.getrandbits(64) for _ in range(20_000)]
    tracemalloc.start()
    try:
        before = tracemalloc.get_traced_memory()[0]
        stones = Tombstones({4: pack(dict(stones_of_all[:1_000]))})
        for start in range(1_000, len(stones_of_all), 10_000):
            stones.add(4, stones_of_all[start - 500 : start + 10_000])  # some of them known already
        stones.add(8, [(one, 5) for one in others[:3]])
        size = tracemalloc.get_traced_memory()[0] - before
    finally:
        tracemalloc.stop()
    assert size / len(marks) < 14
    assert len(stones) == len(marks) + 3
    assert all(list(stones.said_of(one)) == [said] for one, said in stones_of_all)
    assert not any(one in stones for one in others[3:])
    assert stones.expired(8) == [4]
    stones.drop([4])
    assert len(stones) == 3
    assert not any(one in stones for one, _ in stones_of_all[::97])


@pytest.mark.parametrize("crowd", [0, 10_000], ids=["few", "many"])
def test_what_is_said_twice_is_kept_once_and_what_differs_is_all_kept(crowd):
    stones = Tombstones()
    stones.add(4, [(number, 1) for number in range(10, 10 + crowd)])
    for said in (0, 3, 0, 3, 4, 3):
        stones.add(4, [(1, said)])
    assert set(stones.said_of(1)) - {0} == {3, 4}
    assert len(stones.said_of(1)) <= 3
    stones.add(8, [(1, 7)])
    assert set(stones.said_of(1)) - {0} == {3, 4, 7}


def test_extended_ids_that_nothing_asks_for_take_no_memory():
    found = [
        (1, inscription(unclaimed_at=1, extended=2)),
        (2, inscription(unclaimed_at=1, is_extended=True)),
        (3, 0),
        (4, inscription(event=1, is_extended=True)),
        (5, inscription(is_extended=True)),
    ]
    without_access, without_execution = Tombstones(has_access=False), Tombstones(has_execution=False)
    without_access.add(4, found)
    without_execution.add(4, found)
    assert [one in without_access for one, _ in found] == [True, False, True, True, True]
    assert [one in without_execution for one, _ in found] == [True, True, True, True, False]


@given(marks=st.dictionaries(words, st.integers(0, 2**42 - 1), max_size=50))
def test_marks_survive_packing_in_parts(marks):
    first, second = dict(list(marks.items())[::2]), dict(list(marks.items())[1::2])
    stones = Tombstones({5: pack(first) + pack(second)})
    assert len(stones) == len(marks)
    assert all(list(stones.said_of(one)) == [said] for one, said in marks.items())
