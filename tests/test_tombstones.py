"""Marks of settled failures: found, packed, forgotten a minute at a time; they tell nothing about the id."""

from hypothesis import given
from hypothesis import strategies as st

from exporter.model import AccessGlance
from exporter.tombstones import Mark, Tombstones, joinable_ids, mark, pack

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


def test_minutes_expire_whole_and_only_before_the_given_one():
    stones = Tombstones()
    stones.add(10, [1, 2])
    stones.add(11, [3])
    assert stones.expired(11) == [10]
    stones.drop([10])
    assert 1 not in stones
    assert 3 in stones
    assert len(stones) == 1


@given(marks=st.sets(st.integers(0, 2**64 - 1), max_size=50))
def test_marks_survive_packing_in_parts(marks):
    first, second = sorted(marks)[::2], sorted(marks)[1::2]
    stones = Tombstones({5: pack(first) + pack(second)})
    assert len(stones) == len(marks)
    assert all(one in stones for one in marks)
