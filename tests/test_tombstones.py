"""Marks of settled failures: found, packed, forgotten four minutes at a time; they tell nothing about the id."""

import random
import tracemalloc

from hypothesis import given
from hypothesis import strategies as st

from exporter.model import AccessGlance
from exporter.tombstones import Mark, Tombstones, filed_under, joinable_ids, mark, pack

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


def test_files_expire_whole_and_only_before_the_given_minute():
    stones = Tombstones()
    stones.add(8, [1, 2])
    stones.add(12, [3])
    assert stones.expired(11) == []
    assert stones.expired(12) == [8]
    stones.drop([8])
    assert 1 not in stones
    assert 3 in stones
    assert len(stones) == 1


@given(at_ms=st.integers(0, 4 * 10**12))
def test_a_mark_is_there_as_long_as_its_own_minute_has_not_expired_and_not_much_longer(at_ms):
    stones = Tombstones()
    stones.add(filed_under(at_ms), [1])
    minute = at_ms // 60_000
    assert stones.expired(minute) == []
    assert stones.expired(minute + 4) == [filed_under(at_ms)]


def test_an_hour_is_few_files_so_that_little_is_searched():
    assert len({filed_under(minute * 60_000) for minute in range(60)}) == 15


def test_files_in_which_much_failed_know_the_same_marks_and_take_few_bytes_for_each():
    rng = random.Random(4)
    marks = [rng.getrandbits(64) for _ in range(300_000)]
    others = [rng.getrandbits(64) for _ in range(20_000)]
    tracemalloc.start()
    try:
        before = tracemalloc.get_traced_memory()[0]
        stones = Tombstones({4: pack(marks[:1_000])})
        for start in range(1_000, len(marks), 10_000):
            stones.add(4, marks[start - 500 : start + 10_000])  # some of them known already
        stones.add(8, others[:3])
        size = tracemalloc.get_traced_memory()[0] - before
    finally:
        tracemalloc.stop()
    assert size / len(marks) < 12
    assert len(stones) == len(set(marks)) + 3
    assert all(one in stones for one in marks)
    assert not any(one in stones for one in others[3:])
    assert stones.expired(8) == [4]
    stones.drop([4])
    assert len(stones) == 3
    assert not any(one in stones for one in marks[::97])


@given(marks=st.sets(st.integers(0, 2**64 - 1), max_size=50))
def test_marks_survive_packing_in_parts(marks):
    first, second = sorted(marks)[::2], sorted(marks)[1::2]
    stones = Tombstones({5: pack(first) + pack(second)})
    assert len(stones) == len(marks)
    assert all(one in stones for one in marks)
