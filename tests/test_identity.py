"""What settled failures are known by: every line that is read again, and no line of another request.

The reference is what DESIGN 3.4 says with a set of texts: a mark for the access event and for every id. What
`tombstones` keeps instead, most often one mark for all of it, must answer the same.
"""

import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from exporter.identity import Identity
from exporter.model import LogEvent
from exporter.segments import LINK, ExecutionLine
from exporter.tombstones import Mark, Tombstones, filed_under, joinable_ids, mark, pack
from exporter.units import AccessLine, Unit
from tests.test_tombstones import glance
from tests.worlds import ACCESS, EXECUTION, PLACEHOLDER

NOON = 1_760_011_200_000
MINUTE_MS = 60_000
IDS = ("a", "b", "c")
MANY = pack({random.Random(seed).getrandbits(64): 0 for seed in range(66_000)})
"""So many others that a file is kept as files of many are."""


def unit_of(number: int, request_id: str, at_ms: int, *, told: str | None, executed: bool, linked: bool) -> Unit:
    """A failure: `told` says which ids its access line tells (None: it has none), `linked` whether lines link them."""
    extended = f"x{number}="
    access = None
    if told is not None:
        shown = {"both": (request_id, extended), "request": (request_id, None), "extended": (None, extended)}
        shown |= {"placeholder": (PLACEHOLDER, extended), "nothing": (PLACEHOLDER, None)}
        event = LogEvent(event_id=f"event {number}", at_ms=at_ms, message="", ingested_at_ms=at_ms)
        access = AccessLine(ACCESS, event, glance(*shown[told]))
    ids = set() if access is None else set(joinable_ids(access.glance))
    extended_ids = {extended} & ids
    execution = ()
    if executed or access is None:
        ids.add(request_id)
        text = f"{LINK}{extended}" if linked else "Method completed with status: 504"
        execution = (ExecutionLine(EXECUTION, f"line {number}", at_ms, at_ms, request_id, text),)
        extended_ids |= {extended} if linked else set()
    return Unit(
        access=access,
        execution=execution,
        ids=frozenset(ids | extended_ids),
        extended_ids=frozenset(extended_ids),
        first_ms=at_ms,
        last_ms=at_ms,
        terminal=True,
    )


class Reference:
    """The same answers from marks that each stand for themselves."""

    def __init__(self, *, has_access: bool, access_logs_extended_ids: bool) -> None:
        self._marks: set[tuple[str, object]] = set()
        self._has_access = has_access
        self._access_logs_extended_ids = access_logs_extended_ids

    def add(self, unit: Unit) -> None:
        self._marks |= {("id", text) for text in unit.ids}
        if unit.extended_ids:
            self._marks |= {("linked", text) for text in unit.ids - unit.extended_ids}
        if unit.access is not None:
            self._marks.add(("event", unit.access.event_id))
        else:
            self._marks |= {("unclaimed", text) for text in unit.ids}
            self._marks |= {("unclaimed", (text, unit.first_ms // MINUTE_MS)) for text in unit.ids}

    def is_event_settled(self, event_id: str) -> bool:
        return ("event", event_id) in self._marks

    def is_used(self, text: str) -> bool:
        return ("id", text) in self._marks

    def is_linked(self, text: str) -> bool:
        return ("linked", text) in self._marks

    def knows(self, request_id: str, extended: str | None) -> bool:
        if extended is not None and ("id", extended) in self._marks:
            return True
        if ("id", request_id) not in self._marks:
            return False
        if extended is None or ("linked", request_id) not in self._marks:
            return True
        by_access = self._has_access and ("unclaimed", request_id) not in self._marks
        return by_access and not self._access_logs_extended_ids

    def absorbs(self, ids: list[str], at_ms: int) -> bool:
        near = [at_ms // MINUTE_MS + step for step in (-1, 0, 1)]
        return any(("unclaimed", (text, minute)) in self._marks for text in ids for minute in near)


TOLD = ["both", "request", "extended", "placeholder", "nothing", None]
requests = st.tuples(
    st.sampled_from(IDS),
    st.integers(0, 11 * MINUTE_MS),
    st.booleans(),  # has an access line, where the watch has access logs
    st.booleans(),  # has execution lines
    st.integers(1, 3),  # how many are settled in one round
)


@pytest.mark.parametrize("told", TOLD)
@settings(max_examples=60, deadline=None)
@given(drawn=st.lists(requests, max_size=8), linked=st.booleans(), restarts=st.booleans())
def test_lines_of_settled_failures_are_known_and_no_others(told, drawn, linked, restarts):
    _live(told, drawn, linked=linked, restarts=restarts)


@pytest.mark.parametrize("told", TOLD)
@settings(max_examples=6, deadline=None)
@given(drawn=st.lists(requests, min_size=2, max_size=8), linked=st.booleans(), restarts=st.booleans())
def test_lines_of_settled_failures_are_known_and_no_others_where_much_fails(told, drawn, linked, restarts):
    _live(told, drawn, linked=linked, restarts=restarts, crowd=MANY)


def _live(told, drawn, *, linked, restarts, crowd=b""):
    has_access, logs_extended = told is not None, told in ("both", "extended", "placeholder")
    reference = Reference(has_access=has_access, access_logs_extended_ids=logs_extended)
    written = {filed_under(NOON + minute * MINUTE_MS): b"" for minute in range(12)} | {filed_under(NOON): crowd}

    def begin() -> Identity:
        stones = {
            ACCESS: Tombstones(written, has_access=has_access),
            EXECUTION: Tombstones(has_access=has_access),
        }
        identity = Identity(stones, has_access=has_access)
        if told is not None:
            identity.learn(unit_of(0, "", NOON, told=told, executed=False, linked=False).access.glance)
        return identity

    identity, units, rest = begin(), [], list(drawn)
    while rest:
        taken: set[int] = set()
        for request_id, after_ms, with_access, executed, _ in rest[: rest[0][-1]]:
            its = told if with_access else None
            unit = unit_of(len(units), request_id, NOON + after_ms, told=its, executed=executed, linked=linked)
            minute, stones = filed_under(unit.last_ms), identity.stones_of(unit, taken)
            taken.update(stones)
            written[minute] += pack(stones)
            reference.add(unit)
            units.append((unit, request_id, stones))
        rest = rest[rest[0][-1] :]
        if restarts:
            identity = begin()
        else:
            for unit, _, stones in units:  # the same ones again change nothing
                identity.file({(ACCESS, filed_under(unit.last_ms)): stones})
        _assert_the_same(identity, reference, units, told)


def _assert_the_same(identity, reference, units, told):
    for number, (unit, request_id, _) in enumerate(units):
        extended = f"x{number}="
        assert identity.is_used(request_id) == reference.is_used(request_id)
        assert identity.is_linked(request_id) == reference.is_linked(request_id)
        for other in (None, extended, "new="):
            assert identity.knows(request_id, other) == reference.knows(request_id, other), (request_id, other)
        if not unit.linked:  # the execution log may know it by another request id: a caller may have chosen this one
            assert identity.knows("its own", extended) == reference.knows("its own", extended)
        if told is None:
            continue
        line = unit_of(number, request_id, unit.first_ms, told=told, executed=False, linked=False).access
        ids = joinable_ids(line.glance)
        assert identity.is_event_settled(line.event_id, identity.used(ids)) == reference.is_event_settled(line.event_id)
        assert not identity.is_event_settled(f"{line.event_id}, new", identity.used(ids))
        for at_ms in (unit.first_ms, unit.first_ms + 3 * MINUTE_MS):
            assert identity.absorbs(identity.used(ids), at_ms) == reference.absorbs(ids, at_ms)
    assert not identity.is_used("new")
    assert not identity.knows("new", "new=")


@pytest.mark.parametrize(
    ("told", "marks"),
    [("both", 1), ("request", 1), ("extended", 2), ("placeholder", 2), ("nothing", 2), (None, 2)],
)
def test_most_failures_leave_a_single_mark(told, marks):
    identity = Identity({ACCESS: Tombstones()}, has_access=True)
    unit = unit_of(1, "a", NOON, told=told, executed=True, linked=True)
    assert len(identity.stones_of(unit, ())) == marks


def test_without_execution_lines_the_extended_id_is_remembered_by_itself_where_some_may_come():
    unit = unit_of(1, "chosen by a caller", NOON, told="both", executed=False, linked=False)
    marks = {}
    for has_execution in (True, False):
        stones = Tombstones(has_execution=has_execution)
        identity = Identity({ACCESS: stones}, has_access=True)
        identity.file({(ACCESS, filed_under(NOON)): identity.stones_of(unit, ())})
        marks[has_execution] = len(stones)
        assert identity.knows("its own", "x1=") == has_execution
        assert identity.is_event_settled("event 1", identity.used(["chosen by a caller", "x1="]))
    assert marks == {True: 2, False: 1}


def test_without_access_logs_memory_holds_one_mark_and_the_ledger_all():
    stones = Tombstones(has_access=False)
    identity = Identity({EXECUTION: stones}, has_access=False)
    left = identity.stones_of(unit_of(1, "a", NOON, told=None, executed=True, linked=True), ())
    identity.file({(EXECUTION, filed_under(NOON)): left})
    assert len(left) == 2
    assert len(stones) == 1
    assert identity.knows("a", "x1=")
    # The group is read together with access logs that tell extended ids only, from now on.
    joined = Identity({EXECUTION: Tombstones({filed_under(NOON): pack(left)})}, has_access=True)
    assert joined.absorbs(joined.used(["x1="]), NOON)


def test_marks_of_older_state_files_stand_for_themselves():
    marks = [mark(Mark.ID, "a"), mark(Mark.ID, "x1="), mark(Mark.LINKED, "a"), mark(Mark.ACCESS, "event 1")]
    identity = Identity({ACCESS: Tombstones({filed_under(NOON): pack(dict.fromkeys(marks, 0))})}, has_access=True)
    identity.learn(glance("a", "x1="))
    assert identity.is_event_settled("event 1", identity.used(["a", "x1="]))
    assert identity.knows("a", "x1=")
    assert identity.knows("a", None)
    assert not identity.knows("a", "x2=")


def test_whoever_remembers_that_an_id_is_unused_is_told_when_that_may_have_changed():
    identity = Identity({ACCESS: Tombstones()}, has_access=True)
    seen = identity.edition
    assert not identity.is_used("a")
    assert identity.edition == seen
    left = identity.filed([unit_of(1, "a", NOON, told="both", executed=True, linked=True)], ())
    assert identity.edition == seen
    assert not identity.is_used("a")
    identity.file(left)
    assert identity.edition != seen
    assert identity.is_used("a")


def test_a_link_that_was_noted_is_filed_once_it_is_committed_and_then_no_more():
    identity = Identity({ACCESS: Tombstones(), EXECUTION: Tombstones()}, has_access=True)
    line = ExecutionLine(EXECUTION, "1", NOON, NOON, "a", "Extended Request Id: x1=")
    identity.link(line, "a", "x1=")
    assert not identity.is_used("a")
    filed = identity.filed((), ())
    assert identity.filed((), ()) == filed
    identity.file(filed)
    assert identity.is_linked("a")
    assert not identity.filed((), ())
