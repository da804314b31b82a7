"""What failures add to counters, exemplars and the outbox: every one is counted, traces are bounded and say so."""

import gzip
import random
from collections import Counter

import pytest

from exporter.model import AccessGlance, AccessRecord, Api, Failure, RequestTimeline
from exporter.record import Recorder
from exporter.settle import Settled, SettleReason
from exporter.spans import SpanOptions
from exporter.taking import Labelling
from exporter.units import Unit
from tests.otlp_receiver import decode_spans
from tests.worlds import START_MS, Life, MemorySource, live, make_world, scratch

T = 1_700_000_040_000
"""A minute's beginning."""
ORDERS = Api(id="ab12cd34ef", name="orders", stage="prod")
OPTIONS = SpanOptions()


def settled(number, *, cause="throttled", at_ms=T, api=ORDERS, status=429, xray=None):
    """A failure of an access-only watch; each number is another request."""
    glance = AccessGlance(
        request_id=f"request-{number}", extended_request_id=None, status=status, method="GET", resource="/orders",
        api_id=None, stage=None, latency_ms=3, integration_latency_ms=None, response_type=None,
    )  # fmt: skip
    access = AccessRecord(event_id=str(number), at_ms=at_ms, glance=glance, xray_trace_id=xray)
    timeline = RequestTimeline(api=api, access=access, steps=(), request_id=glance.request_id)
    failure = Failure(timeline=timeline, cause=cause, category="throttle", rule="r", evidence="e", refinable=False)
    unit = Unit(
        access=None, execution=(), ids=frozenset(), extended_ids=frozenset(), first_ms=at_ms, last_ms=at_ms, terminal=True
    )  # fmt: skip
    return Settled(unit=unit, failure=failure, reason=SettleReason.ACCESS_ONLY, reused_id=False)


def recorder(budget=lambda status, cause: 10, options=OPTIONS):
    return Recorder(
        wants=lambda status, cause: True,
        admit=lambda key: key,
        labelling=Labelling(),
        span_options=options,
        budget=budget,
    )


def spans_of(recorded):
    return [span for batch in recorded.spans for span in decode_spans(gzip.decompress(batch.body))]


def counted(recorded):
    return sum(
        count for key, count in recorded.increments.items() if key.metric == "aws_apigateway_stage_failures_total"
    )


def polled(recorder, failures, size):
    """Record in polls of `size`, each committed; all that was added."""
    lots = []
    for begin in range(0, len(failures), size):
        lots.append(recorder.record(failures[begin : begin + size]))
        recorder.keep(lots[-1])
    return lots


def test_within_the_budget_every_failure_is_a_trace():
    recorded = recorder().record([settled(number) for number in range(10)])

    assert len(spans_of(recorded)) == 10
    assert not recorded.not_told
    assert all("apigateway.sampled_from" not in span.attributes for span in spans_of(recorded))


@pytest.mark.parametrize("size", [1, 100, 20_000])
def test_beyond_the_budget_the_traces_thin_out_every_failure_is_counted_and_the_spans_stand_for_all(size):
    lots = polled(recorder(), [settled(number) for number in range(20_000)], size)

    spans = [span for lot in lots for span in spans_of(lot)]
    not_told = sum((lot.not_told for lot in lots), Counter())
    stand_for = Counter(span.attributes.get("apigateway.sampled_from", 1) for span in spans)
    assert sum(map(counted, lots)) == 20_000
    assert len(spans) + not_told["throttled", "over_budget"] == 20_000
    assert stand_for[1] == 10
    assert set(stand_for) <= {1, 10, 100, 1000, 10_000}
    assert len(spans) < 60, "ten, and about nine more for each power of ten"
    assert 5_000 < sum(each * count for each, count in stand_for.items()) < 60_000


def test_a_flood_of_one_cause_takes_no_trace_from_another_nor_from_another_stage_or_minute():
    pets = Api(id="ffffffffff", name="pets", stage="prod")
    flood = [settled(number) for number in range(1000)]
    rare = [
        settled(2000, cause="integration_timeout", status=504),
        settled(2001, api=pets),
        settled(2002, at_ms=T + 60_000),
        settled(2003, at_ms=T - 1),
    ]

    spans = spans_of(recorder().record([*flood, *rare]))

    assert {"request-2000", "request-2001", "request-2002", "request-2003"} <= {
        span.attributes["apigateway.request_id"] for span in spans
    }


def test_the_minute_is_the_requests_own_in_whichever_poll_it_comes():
    slow = recorder()
    first = slow.record([settled(number) for number in range(10)])
    slow.keep(first)

    late = slow.record([settled(number, at_ms=T + 59_999) for number in range(100, 200)])

    assert all(span.attributes["apigateway.sampled_from"] >= 10 for span in spans_of(late))
    assert late.not_told["throttled", "over_budget"] >= 80


def test_what_was_never_committed_does_not_count_against_the_budget():
    one = recorder()
    lost = one.record([settled(number) for number in range(10)])

    again = one.record([settled(number) for number in range(10)])

    assert spans_of(again) == spans_of(lost)
    assert len(spans_of(again)) == 10


def test_a_budget_of_nothing_makes_no_traces_and_says_why():
    recorded = recorder(budget=lambda status, cause: 0 if cause == "throttled" else 10).record(
        [settled(1), settled(2, cause="unauthorized", status=401)]
    )

    assert [span.attributes["apigateway.cause"] for span in spans_of(recorded)] == ["unauthorized"]
    assert recorded.not_told == {("throttled", "no_budget"): 1}
    assert counted(recorded) == 2


def test_exemplars_point_only_to_traces_that_exist_and_to_the_newest_of_them():
    lots = polled(recorder(), [settled(number, at_ms=T + number) for number in range(500)], 7)

    for lot in lots:
        kept = {(span.trace_id, span.span_id): span for span in spans_of(lot)}
        for exemplar in lot.exemplars.values():
            assert kept[exemplar.trace_id, exemplar.span_id].start_ns == exemplar.at_ms * 1_000_000
        newest = max((span.start_ns for span in kept.values()), default=None)
        assert {exemplar.at_ms * 1_000_000 for exemplar in lot.exemplars.values()} == ({newest} if kept else set())


def test_without_a_receiver_failures_are_counted_and_nothing_is_said_to_be_sampled():
    recorded = recorder(options=None).record([settled(number) for number in range(50)])

    assert (counted(recorded), recorded.spans, recorded.not_told) == (50, (), {})


def test_more_than_a_hundred_failures_in_a_callers_trace_get_traces_of_their_own_and_a_link():
    xray = "1-5759e988-bd862e3fe1be46a994272793"
    lots = polled(recorder(budget=lambda status, cause: 1000), [settled(n, xray=xray) for n in range(150)], 40)

    spans = [span for lot in lots for span in spans_of(lot)]
    joined = [span for span in spans if span.trace_id == "5759e988bd862e3fe1be46a994272793"]
    assert (len(spans), len(joined)) == (150, 100)
    assert all(span.links[0].trace_id == joined[0].trace_id for span in spans if span not in joined)
    exemplars = {exemplar for lot in lots for exemplar in lot.exemplars.values()}
    assert {(each.trace_id, each.span_id) for each in exemplars} <= {(span.trace_id, span.span_id) for span in spans}


def lives_in(world, seed):
    """The spans of a watch that polls often, of one that polls seldom, and of one that dies again and again."""
    for step_ms, crash in ((20_000, 0.0), (90_000, 0.0), (20_000, 0.3)):
        with scratch() as directory:
            life = Life(MemorySource(world=world), directory, spans=True)
            live(life, random.Random(seed), until_ms=START_MS + 1_500_000, step_ms=step_ms, crash=crash)
            rows = life.ledger.outbox_head(1 << 30)
            life.ledger.close()
        yield [span for row in rows for span in decode_spans(gzip.decompress(row.body))]


@pytest.mark.parametrize("seed", range(3))
def test_what_a_span_says_does_not_depend_on_which_poll_saw_its_request(seed):
    world = make_world(random.Random(seed), count=60)

    often, seldom, dying = (sorted(map(repr, spans)) for spans in lives_in(world, seed))

    assert often == seldom == dying


@pytest.mark.parametrize("seed", range(3))
def test_a_request_whose_lines_came_in_two_batches_is_one_trace(seed):
    """Lines that come after the cause was proven are missing on it; what it is and why it failed is the same."""
    world = make_world(random.Random(seed), count=60, two_batches=1.0)

    roots = [[span for span in spans if span.kind == "SERVER"] for spans in lives_in(world, seed)]

    often, seldom, dying = (
        Counter((root.trace_id, root.span_id, root.attributes["apigateway.cause"]) for root in each) for each in roots
    )
    assert often == seldom == dying
    assert len(often) == often.total() == sum(world.failures().values())


def test_what_is_sampled_away_is_counted_in_a_metric_and_nothing_points_to_it():
    world = make_world(random.Random(7), count=400, span_ms=120_000)
    with scratch() as directory:
        life = Life(MemorySource(world=world), directory, spans=True, budget=1)
        live(life, random.Random(7), until_ms=START_MS + 900_000)
        rows, series, counted_failures = life.ledger.outbox_head(1 << 30), list(life.ledger.series()), life.failures()
        life.ledger.close()
    spans = [span for row in rows for span in decode_spans(gzip.decompress(row.body))]
    roots = {(span.trace_id, span.span_id) for span in spans if span.kind == "SERVER"}
    sampled = [
        sample
        for family in life.self_metrics.registry.collect()
        for sample in family.samples
        if sample.name == "aws_apigateway_exporter_spans_sampled_total"
    ]

    assert counted_failures == world.failures()
    assert len(roots) + sum(sample.value for sample in sampled) == sum(world.failures().values())
    assert {sample.labels["reason"] for sample in sampled} == {"over_budget"}
    exemplars = [row.exemplar for row in series if row.exemplar is not None]
    assert exemplars
    assert {(exemplar.trace_id, exemplar.span_id) for exemplar in exemplars} <= roots
