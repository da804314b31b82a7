"""Execution lines of requests in flight: what is kept of them, and for how long."""

import json
import sys

import pytest
from msgspec.structs import replace

from exporter.inflight import InFlight
from exporter.model import LogEvent, LogGroup

GROUP = LogGroup("default", "eu-west-1", "API-Gateway-Execution-Logs_ab12cd34ef/prod")
ID = "594dd09c-1f6a-4c80-8d1a-000000000000"
BEGINNING = ("Extended Request Id: {}=", "Starting execution for request: " + ID)
END = ("Successfully completed execution", "Method completed with status: 200")


def lines(request: int, texts: tuple[str, ...], *, at_ms: int) -> list[LogEvent]:
    """Lines of a request, of one batch with all its others."""
    return [
        LogEvent(
            event_id=f"{at_ms << 144 | 9_000 << 80 | request << 16 | place:056d}",
            at_ms=at_ms,
            message=f"({ID}) {text.format(request)}",
            ingested_at_ms=9_000,
        )
        for place, text in enumerate(texts)
    ]


def kept(in_flight: InFlight) -> list[str]:
    return [event.message.removeprefix(f"({ID}) ") for event in in_flight.pop(GROUP, ID)]


def taken(in_flight: InFlight, *events: LogEvent) -> list[LogEvent]:
    return list(in_flight.unusual(GROUP, list(events), {}, None))


def test_a_request_that_ends_well_leaves_nothing():
    in_flight = InFlight(max_request_ms=30_000)
    assert not taken(in_flight, *lines(1, BEGINNING, at_ms=1_000), *lines(1, END, at_ms=2_000))
    assert not kept(in_flight)


def test_a_request_that_ends_well_leaves_the_lines_of_another_one_under_its_id():
    in_flight = InFlight(max_request_ms=30_000)
    began = lines(1, BEGINNING, at_ms=1_000)
    for _ in range(2):  # listed once more: nothing is there twice
        assert not taken(in_flight, *began, *lines(2, BEGINNING, at_ms=1_500), *lines(2, END, at_ms=2_000))
    assert kept(in_flight) == [event.message.removeprefix(f"({ID}) ") for event in began]


@pytest.mark.parametrize("requests", [100, 3_000])
def test_where_a_caller_gives_one_id_to_all_requests_each_goes_by_itself(requests):
    in_flight = InFlight(max_request_ms=30_000)
    for request in range(requests):
        assert not taken(in_flight, *lines(request, BEGINNING, at_ms=1_000 + request))
    assert not taken(in_flight, *lines(7, END, at_ms=2_000))
    rest = kept(in_flight)
    assert len(rest) == len(BEGINNING) * (requests - 1)
    assert BEGINNING[0].format(7) not in rest


def test_an_end_costs_the_same_however_many_requests_of_its_id_are_in_flight():
    def calls_of(requests: int) -> int:
        in_flight = InFlight(max_request_ms=30_000)
        for request in range(requests):
            taken(in_flight, *lines(request, BEGINNING, at_ms=1_000 + request))
        taken(in_flight, *lines(1, END, at_ms=2_000))  # it sorts what came until then
        end, calls = lines(2, END, at_ms=2_000), 0

        def count_call(_frame, event, _argument) -> None:
            nonlocal calls
            calls += event in {"call", "c_call"}

        sys.setprofile(count_call)
        try:
            taken(in_flight, *end)
        finally:
            sys.setprofile(None)
        return calls

    assert calls_of(1_000) == calls_of(100)


@pytest.mark.parametrize(("requests", "left"), [(30, 29), (40, 0)])
def test_those_that_came_in_several_batches_are_told_apart_while_they_are_few(requests, left):
    in_flight = InFlight(max_request_ms=30_000)
    for request in range(requests):
        assert not taken(in_flight, *lines(request, BEGINNING, at_ms=1_000 + 100 * request))
    assert not taken(in_flight, *lines(1_000, END, at_ms=1_000 + 100 * requests))
    assert len(kept(in_flight)) == len(BEGINNING) * left


@pytest.mark.parametrize("vended", [False, True])
def test_what_is_printed_behind_the_end_of_a_request_does_not_pile_up_beside_another_of_its_id(vended):
    in_flight = InFlight(max_request_ms=30_000)
    began = lines(0, BEGINNING, at_ms=1_000)
    taken(in_flight, *began)
    for request in range(1, 50):
        whole = (*BEGINNING, *END, "AWS Integration Endpoint RequestId : 0c7b5b0c-1f6a-4c80-8d1a-bbbbbbbbbbbb")
        *sent, trailer = lines(request, whole, at_ms=1_000 + 10 * request)
        assert not taken(in_flight, *sent)
        in_flight.add(
            GROUP, ID, replace(trailer, message=json.dumps({"payload": trailer.message})) if vended else trailer
        )
    assert not taken(in_flight, *lines(50, (*BEGINNING, *END), at_ms=2_000))
    assert kept(in_flight) == [event.message.removeprefix(f"({ID}) ") for event in began]


def test_an_id_that_is_shared_in_one_log_group_is_none_that_is_shared_in_another():
    in_flight, other = InFlight(max_request_ms=30_000), GROUP._replace(name="another")
    began = lines(1, BEGINNING, at_ms=1_000)
    taken(in_flight, *began, *lines(2, BEGINNING, at_ms=1_500), *lines(2, END, at_ms=2_000))
    for request in (3, 4):
        assert not list(in_flight.unusual(other, lines(request, BEGINNING, at_ms=1_000), {}, None))
    assert not list(in_flight.unusual(other, [*lines(3, END, at_ms=2_000), *lines(4, END, at_ms=2_000)], {}, None))
    assert not taken(in_flight, *lines(5, BEGINNING, at_ms=2_000), *lines(5, END, at_ms=2_500))
    assert kept(in_flight) == [event.message.removeprefix(f"({ID}) ") for event in began]
    assert not in_flight.has(other, ID)


def test_an_end_that_is_told_again_as_of_another_delivery_is_taken_as_told_last():
    in_flight = InFlight(max_request_ms=30_000)
    began, other = lines(1, BEGINNING, at_ms=1_000), lines(2, BEGINNING, at_ms=1_500)
    *_, end = lines(1, (*BEGINNING, *END), at_ms=2_000)
    taken(in_flight, *began, *other)
    in_flight.add(GROUP, ID, replace(end, ingested_at_ms=8_000, at_ms=1_900))
    in_flight.end(GROUP, ID, end)
    assert kept(in_flight) == [event.message.removeprefix(f"({ID}) ") for event in other]


@pytest.mark.parametrize("form", ["id-{}", "{}", "{:0>56}", "a{:0>55}", "٣{:0>55}", "{:0>70}"])
def test_ids_of_events_that_are_not_as_aws_makes_them_break_nothing(form):
    in_flight = InFlight(max_request_ms=30_000)
    numbers = iter(range(1, 100))

    def sent(request: int, texts: tuple[str, ...], at_ms: int) -> list[LogEvent]:
        return [replace(line, event_id=form.format(next(numbers))) for line in lines(request, texts, at_ms=at_ms)]

    whole, began = [*sent(1, BEGINNING, 1_000), *sent(1, END, 1_200)], sent(2, BEGINNING, 1_500)
    again = [replace(whole[-1], at_ms=2_100), replace(whole[-1], at_ms=1_900)]
    # The second request began before the first one's end was told again, at other times and as of no other delivery.
    rest = taken(in_flight, *whole, *began, *whole, *again, *began)
    assert all("completed" in line.message for line in rest), "an end of nothing that is here is for others to judge"
    assert {line.removeprefix(f"({ID}) ") for line in kept(in_flight)} <= {
        text.format(number) for number in (1, 2) for text in (*BEGINNING, *END)
    }


def test_lines_whose_end_never_came_are_forgotten_beside_others_of_their_id():
    in_flight = InFlight(max_request_ms=30_000)
    taken(in_flight, *lines(1, BEGINNING, at_ms=1_000))
    taken(in_flight, *lines(2, BEGINNING, at_ms=2_000), *lines(3, BEGINNING, at_ms=2_000), *lines(3, END, at_ms=2_500))
    in_flight.forget_before(1_001)
    in_flight.forget_before(1_001)
    assert kept(in_flight) == [event.message.removeprefix(f"({ID}) ") for event in lines(2, BEGINNING, at_ms=2_000)]
    taken(in_flight, *lines(2, BEGINNING, at_ms=2_000), *lines(3, BEGINNING, at_ms=2_000), *lines(3, END, at_ms=2_500))
    in_flight.forget_before(3_000)
    assert not in_flight.has(GROUP, ID)


def test_lines_whose_end_never_came_are_forgotten():
    in_flight = InFlight(max_request_ms=30_000)
    taken(in_flight, *lines(1, BEGINNING, at_ms=1_000))
    in_flight.forget_before(1_000)
    assert in_flight.has(GROUP, ID)
    in_flight.forget_before(1_001)
    assert not in_flight.has(GROUP, ID)
