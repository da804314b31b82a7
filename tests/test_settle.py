"""Which lines are one request, and when it is whole: each rule of DESIGN 3.3 and 3.4 by itself."""

from dataclasses import replace

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from exporter import execution_log
from exporter.model import AccessGlance, AccessRecord, Api, Failure, LogEvent, RequestTimeline, Window
from exporter.segments import Crowd, ExecutionLine, segments_of
from exporter.settle import Horizon, SettleReason, settle_reason
from exporter.units import AccessLine, Unit, claim_placeholders, units_of
from exporter.windows import ReadState, Timing
from tests.worlds import ACCESS, EXECUTION, PLACEHOLDER

NOON = 1_760_011_200_000
TIMING = Timing(max_request_ms=30_000, allowed_lateness_ms=330_000)
ID = "0c7b5b0c-1f6a-4c80-8d1a-aaaaaaaaaaaa"


def event(at_ms: int, message: str, *, batch: int = 1, index: int = 0, ingested_ms: int | None = None) -> LogEvent:
    ingested = at_ms if ingested_ms is None else ingested_ms
    number = at_ms << 144 | ingested << 80 | batch << 16 | index
    return LogEvent(event_id=f"{number:056d}", at_ms=at_ms, message=message, ingested_at_ms=ingested)


def access(at_ms: int = NOON, status: int = 504, request_id: str | None = ID, extended: str | None = None):
    glance = AccessGlance(
        request_id=request_id,
        extended_request_id=extended,
        status=status,
        method="GET",
        resource="/orders",
        api_id=None,
        stage=None,
        latency_ms=None,
        integration_latency_ms=None,
        response_type=None,
    )
    return AccessLine(ACCESS, event(at_ms, f"access {at_ms}"), glance)


def execution(*lines: tuple[int, str], batch: int = 1, ingested_ms: int | None = None) -> list[ExecutionLine]:
    ingested = max(at for at, _ in lines) + 100 if ingested_ms is None else ingested_ms
    return [
        ExecutionLine.of(EXECUTION, event(at, f"({ID}) {text}", batch=batch, index=index, ingested_ms=ingested))
        for index, (at, text) in enumerate(lines)
    ]


def timed_out(at_ms: int = NOON, extended: str | None = "x1=", **batch: int) -> list[ExecutionLine]:
    begin = [(at_ms, f"Extended Request Id: {extended}")] if extended else []
    end = at_ms + 29_000
    return execution(
        *begin,
        (end, "Execution failed due to a timeout error"),
        (end, "Method completed with status: 504"),
        (end, "AWS Integration Endpoint RequestId : 0c7b5b0c-1f6a-4c80-8d1a-bbbbbbbbbbbb"),
        **batch,
    )


def by_id(lines):
    return {line.event_id: line for line in lines}


def units(accesses: list[AccessLine], executions: list[ExecutionLine]) -> list[Unit]:
    return units_of(by_id(accesses), by_id(executions))


def failed(unit: Unit, *, refinable: bool = False, status: int = 504) -> Unit:
    record = None
    if unit.access is not None:
        record = AccessRecord(event_id="e", at_ms=unit.first_ms, glance=unit.access.glance)
    steps = tuple(execution_log.step_of(line.event_id, line.at_ms, line.text) for line in unit.execution)
    timeline = RequestTimeline(api=Api(), access=record, steps=steps, request_id=ID)
    unit.failure = Failure(
        timeline=timeline, cause="c", category="integration", rule="r", evidence=str(status), refinable=refinable
    )
    return unit


def horizon(
    *,
    frontier_ms: int = NOON - 400_000,
    reached_ms: int = NOON - 60_000,
    listed: tuple[Window, ...] = (),
    has_access: bool = True,
    has_execution: bool = True,
    left_out: bool = False,
) -> Horizon:
    return Horizon(
        state=ReadState(frontier_ms=frontier_ms, fresh_ms=NOON + 60_000, reached_ms=reached_ms),
        timing=TIMING,
        listed=listed,
        has_access=has_access,
        has_execution=has_execution,
        execution_left_out=left_out,
    )


# ------------------------------------------------------------------------------------------------------ when it is whole


def test_where_lines_are_fetched_by_id_only_asking_for_a_request_covers_it():
    (unit,) = units([access()], timed_out()[:1] + timed_out()[2:])
    failed(unit)
    around = Window(NOON - 10_000, NOON + 40_000)
    seen = replace(horizon(listed=(around,)), asked={})
    assert settle_reason(unit, horizon(listed=(around,))) is SettleReason.COVERED
    assert settle_reason(unit, seen) is None
    assert settle_reason(unit, replace(seen, asked={"another": around})) is None
    assert settle_reason(unit, replace(seen, asked={ID: Window(NOON + 1, NOON + 40_000)})) is None
    assert settle_reason(unit, replace(seen, asked={ID: around})) is SettleReason.COVERED


def test_what_did_not_fail_is_never_settled():
    (unit,) = units([access()], timed_out())
    assert settle_reason(unit, horizon(frontier_ms=NOON + 10**9)) is None


def test_an_access_only_watch_settles_at_once():
    (unit,) = units([access()], [])
    assert settle_reason(failed(unit, refinable=True), horizon(has_execution=False)) is SettleReason.ACCESS_ONLY


def test_access_and_terminal_line_settle_when_one_listing_covered_all_between():
    (unit,) = units([access()], timed_out()[-2:])  # no reason line: only the cover proves it whole
    failed(unit)
    assert settle_reason(unit, horizon(listed=(Window(NOON, NOON + 29_001),))) is SettleReason.COVERED
    assert settle_reason(unit, horizon(listed=(Window(NOON + 1, NOON + 29_001),))) is None
    assert settle_reason(unit, horizon(listed=(Window(NOON, NOON + 29_000),))) is None


def test_access_reason_and_terminal_line_settle_without_a_cover():
    (unit,) = units([access()], timed_out())
    assert settle_reason(failed(unit), horizon()) is SettleReason.PROVEN


def test_a_proven_cause_settles_once_reach_has_passed_its_last_line():
    (unit,) = units([access()], [])
    failed(unit)
    assert settle_reason(unit, horizon(reached_ms=NOON - 1)) is None
    assert settle_reason(unit, horizon(reached_ms=NOON)) is SettleReason.REACH


def test_a_cause_that_a_line_may_refine_waits_for_the_watermark():
    (unit,) = units([access()], [])
    failed(unit, refinable=True)
    everything = (Window(NOON - 10**6, NOON + 10**6),)
    assert settle_reason(unit, horizon(reached_ms=NOON + 10**6, listed=everything)) is None
    assert settle_reason(unit, horizon(frontier_ms=NOON + 89_999)) is None
    assert settle_reason(unit, horizon(frontier_ms=NOON + 90_000)) is SettleReason.WATERMARK


def test_under_an_id_that_others_used_only_the_watermark_tells_whose_lines_they_are():
    (unit,) = units([access()], timed_out(extended=None))
    failed(unit)
    around = Window(NOON - 10_000, NOON + 40_000)
    late = {"reached_ms": NOON + 60_000, "listed": (around,)}
    assert not unit.linked
    assert settle_reason(unit, horizon(**late)) is SettleReason.COVERED
    assert settle_reason(unit, horizon(**late), own=False) is None
    assert settle_reason(unit, horizon(frontier_ms=NOON + 90_000), own=False) is SettleReason.WATERMARK


def test_execution_lines_without_access_line_wait_for_the_watermark_where_there_is_an_access_log():
    (unit,) = units([], timed_out())
    failed(unit)
    everything = (Window(NOON - 10**6, NOON + 10**6),)
    assert settle_reason(unit, horizon(reached_ms=NOON + 10**6, listed=everything)) is None
    assert settle_reason(unit, horizon(frontier_ms=NOON + 90_000)) is SettleReason.WATERMARK


def test_an_execution_only_watch_settles_when_a_listing_covered_the_longest_request_before_the_end():
    (unit,) = units([], timed_out())
    failed(unit)
    enough = (Window(NOON + 29_000 - 30_000, NOON + 29_001),)
    assert settle_reason(unit, horizon(has_access=False, listed=enough)) is SettleReason.COVERED
    late = (Window(NOON, NOON + 29_001),)
    assert settle_reason(unit, horizon(has_access=False, listed=late)) is None


def test_behind_a_gap_reach_does_not_count():
    (unit,) = units([access()], [])
    failed(unit)
    open_end = horizon(reached_ms=NOON + 10**6)
    behind = replace(open_end, state=replace(open_end.state, left_ms=NOON + 1))
    assert settle_reason(unit, behind) is None


def test_when_the_execution_group_cannot_be_read_the_access_line_need_not_wait_for_it():
    (unit,) = units([access()], [])
    failed(unit, refinable=True)
    assert settle_reason(unit, horizon(reached_ms=NOON, left_out=True)) is SettleReason.LEFT_OUT


def test_a_placeholder_line_waits_until_execution_lines_have_had_their_chance_to_claim_it():
    (unit,) = units([access(request_id=PLACEHOLDER)], [])
    failed(unit)
    assert settle_reason(unit, horizon(reached_ms=NOON + 10**6)) is None
    assert settle_reason(unit, horizon(frontier_ms=NOON + 90_000)) is None
    assert settle_reason(unit, horizon(frontier_ms=NOON + 120_000)) is SettleReason.WATERMARK


# ------------------------------------------------------------------------------------------------- which lines are one


def test_a_request_id_that_is_the_extended_one_too_is_a_request_id():
    (unit,) = units([], timed_out(extended=ID))
    assert (unit.request_ids, unit.extended_ids) == ({ID}, {ID})
    (unit,) = units([access(extended=ID)], [])
    assert (unit.request_ids, unit.extended_ids) == ({ID}, {ID})
    (unit,) = units([access(request_id=None, extended="x1=")], [])
    assert (unit.request_ids, unit.extended_ids) == (set(), {"x1="})
    (unit,) = units([access(extended="x1=")], timed_out())
    assert (unit.request_ids, unit.extended_ids) == ({ID}, {"x1="})


def test_one_access_line_and_the_lines_under_its_id_are_one_request():
    (unit,) = units([access(extended="x1=")], timed_out())
    assert (unit.access is not None, len(unit.execution), unit.terminal) == (True, 4, True)
    assert unit.ids == {ID, "x1="}


def test_a_request_in_two_batches_is_one_request_whichever_comes_first():
    lines = timed_out()
    first, second = lines[:1], execution(*[(line.at_ms, line.text) for line in lines[1:]], batch=2)
    assert [len(segment) for segment in segments_of([*first, *second])] == [4]
    later = execution((NOON, "Extended Request Id: x1="), batch=9, ingested_ms=NOON + 90_000)
    assert [len(segment) for segment in segments_of([*second, *later])] == [4]


def test_two_requests_in_one_batch_are_two():
    both = execution(
        (NOON, "Extended Request Id: x1="),
        (NOON + 5, "Method completed with status: 500"),
        (NOON + 5, "AWS Integration Endpoint RequestId : 0c7b5b0c-1f6a-4c80-8d1a-bbbbbbbbbbbb"),
        (NOON + 6, "Extended Request Id: x2="),
        (NOON + 9, "Method completed with status: 500"),
    )
    assert [len(segment) for segment in segments_of(both)] == [3, 2]


def test_without_any_beginning_a_terminal_line_ends_a_request():
    errors = execution(
        (NOON, "Execution failed due to a timeout error"),
        (NOON, "Method completed with status: 504"),
        (NOON + 10, "Execution failed due to a timeout error"),
        (NOON + 10, "Method completed with status: 504"),
    )
    assert [len(segment) for segment in segments_of(errors)] == [2, 2]


def test_trailers_of_another_request_join_nothing():
    stray = execution((NOON - 200_000, "X-ray Tracing ID : 1-5c7674f4-a3491d0a9c8012c191821b83"), batch=7)
    with_line, alone = units([access()], [*timed_out(), *stray])
    assert with_line.access is not None
    assert with_line.first_ms == NOON
    assert len(alone.execution) == 1


def test_the_extended_id_decides_who_owns_lines_under_a_reused_id():
    one, two = access(NOON, extended="x1="), access(NOON + 1, extended="x2=")
    second = timed_out(NOON + 1, "x2=", batch=2)
    first = timed_out(NOON, "x1=", batch=3)
    found = {unit.access: unit for unit in units([one, two], [*second, *first])}
    assert found[one].extended_ids == {"x1="}
    assert found[two].extended_ids == {"x2="}
    assert all(len(unit.execution) == 4 for unit in found.values())


def test_without_extended_ids_status_and_arrival_decide():
    early, late = access(NOON, 504), access(NOON + 60_000, 500)
    lines = execution((NOON + 60_004, "Execution failed due to a timeout error"),
                      (NOON + 60_004, "Method completed with status: 500"))  # fmt: skip
    found = {unit.access: unit for unit in units([early, late], lines)}
    assert len(found[late].execution) == 2
    assert found[early].execution == ()


def test_lines_under_a_reused_id_that_come_after_the_longest_request_are_another_requests():
    lines = by_id(timed_out(extended=None))
    for after_ms, count in ((29_000, 1), (31_001, 2)):
        line = access(NOON + 29_000 - after_ms)
        assert len(units_of({"a": line}, lines, 30_000)) == count
        assert len(units_of({"a": line}, lines)) == 1, "an id that is used once needs no such limit"


def test_a_part_is_of_no_beginning_under_a_reused_id_before_the_longest_request():
    beginning = execution((NOON, "Extended Request Id: x1="), batch=1)
    for after_ms, count in ((29_000, 1), (31_001, 2)):
        end = execution((NOON + after_ms, "Method completed with status: 504"), batch=2)
        assert len(segments_of(beginning + end, 30_000)) == count
        assert len(segments_of(beginning + end)) == 1


def test_a_success_does_not_take_the_lines_of_a_failure_under_its_id():
    success, alone = units([access(status=200)], timed_out())
    assert success.execution == ()
    assert alone.access is None


def test_a_masked_failure_keeps_its_access_line():
    masked = execution(
        (NOON, "Lambda execution failed with status 200 due to customer function error: boom."),
        (NOON, "Method completed with status: 200"),
    )
    (unit,) = units([access(status=200)], masked)
    assert unit.access is not None
    assert len(unit.execution) == 2


@pytest.mark.parametrize(("status", "after_ms", "claimed"), [(504, 0, True), (500, 0, False), (504, 31_000, False)])
def test_execution_lines_claim_a_placeholder_line_of_equal_status_within_the_longest_request(status, after_ms, claimed):
    (placeholder,) = units([access(NOON, status, request_id=PLACEHOLDER)], [])
    (alone,) = units([], timed_out(NOON + after_ms))
    pairs = claim_placeholders([failed(placeholder, status=status), failed(alone)], TIMING)
    assert pairs == ([(alone, placeholder)] if claimed else [])


def test_a_placeholder_line_is_claimed_once_and_by_the_nearest():
    (first,) = units([access(NOON, request_id=PLACEHOLDER)], [])
    (second,) = units([access(NOON + 5_000, request_id=PLACEHOLDER)], [])
    (alone,) = units([], timed_out(NOON + 5_002))
    pairs = claim_placeholders([failed(first), failed(second), failed(alone)], TIMING)
    assert pairs == [(alone, second)]


seconds = st.lists(st.tuples(st.integers(0, 70), st.sampled_from([504, 504, 500])), max_size=12)


@given(placeholders=seconds, alone=st.lists(st.integers(0, 70), max_size=12, unique=True))
def test_placeholder_lines_are_claimed_as_a_look_at_all_of_them_would(placeholders, alone):
    free = [
        failed(found, status=status)
        for at, status in placeholders
        for found in units([access(NOON + at * 500, status, request_id=PLACEHOLDER)], [])
    ]
    executed = [failed(found) for at in alone for found in units([], timed_out(NOON + at * 500, f"x{at}="))]
    left, expected = list(free), []
    for unit in sorted(executed, key=lambda unit: unit.first_ms):
        near = [
            other
            for other in left
            if other.access.glance.status == 504 and -1_000 <= unit.first_ms - other.first_ms <= TIMING.max_request_ms
        ]
        if near:
            expected.append((unit, min(near, key=lambda other: (abs(unit.first_ms - other.first_ms), other.first_ms))))
            left = [other for other in left if other is not expected[-1][1]]
    pairs = claim_placeholders([*free, *executed], TIMING)
    assert [(id(one), id(other)) for one, other in pairs] == [(id(one), id(other)) for one, other in expected]


@given(st.lists(st.tuples(st.integers(0, 90), st.integers(0, 29), st.integers(1, 4)), min_size=1, max_size=12))
def test_the_request_that_an_end_ends_is_the_part_it_is_in_where_each_came_in_one_batch(requests):
    lines: list[LogEvent] = []
    for number, (arrival, duration, batch) in enumerate(requests):
        at_ms, end_ms = NOON + arrival * 1_000, NOON + (arrival + duration) * 1_000
        texts = [f"Extended Request Id: x{number}=", "Starting execution", "Method completed with status: 200"]
        for text, when in zip(texts, (at_ms, at_ms, end_ms), strict=True):
            index = sum(1 for one in lines if one.ingested_at_ms == NOON + batch)
            lines.append(event(when, f"({ID}) {text}", batch=batch, index=index, ingested_ms=NOON + batch))
    crowd = Crowd()
    crowd.add(lines)
    for segment in segments_of([ExecutionLine.of(EXECUTION, line) for line in lines]):
        left = [line for line in crowd.lines if line.event_id not in {one.event_id for one in segment}]
        assert crowd.end(segment[-1].event_id)
        assert crowd.lines == left
        assert crowd.links == sum("Extended" in line.message for line in left)
    assert not crowd.lines


TEXTS = ("Extended Request Id: x1=", "Starting execution", "Method completed with status: 504", "X-ray Tracing ID : 1")


@given(
    st.lists(
        st.tuples(
            st.sampled_from([*TEXTS, "Method completed with status: 999"]),
            st.sampled_from([0, 0, 400, 900, 1_100, 29_000, 33_000]),
            st.integers(1, 2),
        ),
        max_size=7,
    ),
    st.sampled_from([None, 30_000]),
)
@example([(TEXTS[0], 0, 1), (TEXTS[2], 0, 1), (TEXTS[3], 1_100, 2)], None)
def test_lines_are_cut_alike_in_whatever_order_they_were_read(drawn, longest_ms):
    at_ms, lines = NOON, []
    for index, (text, after_ms, batch) in enumerate(drawn):
        at_ms += after_ms
        sent = event(at_ms, f"({ID}) {text}", batch=batch, index=index, ingested_ms=NOON)
        lines.append(ExecutionLine.of(EXECUTION, sent))
    # In order, those of one request are known at a glance; the other way round, the batches have to tell.
    assert segments_of(lines, longest_ms) == segments_of(lines[::-1], longest_ms)
