"""Every benchmark runs, at a tiny size, and gives figures that can be true. How fast it was is no test's business."""

import json
from collections.abc import Iterable

import boto3
import pytest

from benchmarks import daemon, fetching, idle, pages, prepared, results, scale, scrape, storm
from benchmarks.__main__ import PARTS
from benchmarks.processes import serving
from benchmarks.results import Figure
from benchmarks.server import STRETCH_MS, Backlog, Served, templates_of


def by_name(figures: Iterable[Figure]) -> dict[str, Figure]:
    """The figures of the last case that has each name."""
    return {figure.name: figure for figure in figures}


def test_every_part_is_run_by_make_bench():
    assert set(PARTS) == {"pages", "daemon", "fetching", "scrape", "storm", "idle", "scale"}


# ------------------------------------------------------------------------------------------------------ what is served


def test_both_logs_tell_of_the_same_requests():
    access = prepared.access_lines(50, failing=0.5, form="json")
    execution = prepared.execution_lines(50, failing=0.5, level="INFO")
    failed = {json.loads(line.message)["requestId"] for line in access if '"status": "502"' in line.message}
    assert 0 < len(failed) < 50
    assert failed == {line.message[1:37] for line in execution if line.message.endswith("status: 502")}


def test_fetching_failures_counts_the_same_failures_for_fewer_bytes(monkeypatch):
    monkeypatch.setattr(fetching, "FAILING", (0.02,))
    monkeypatch.setattr(fetching, "PER_SECOND", 4)
    shares = by_name(fetching.figures())
    assert 0 < shares["bytes a minute"].ratio < 1


def listed(start_ms: int, end_ms: int, group: str, backlog: Backlog | None = None) -> list[dict[str, object]]:
    """What a listing of the prepared pages brings, page after page."""
    backlog = backlog or Backlog(templates_of(50, 0.1, "INFO", 40))
    request: dict[str, object] = {"logGroupName": group, "startTime": start_ms, "endTime": end_ms}
    events: list[dict[str, object]] = []
    while True:
        answer = json.loads(backlog.page(request, Served()))
        events += answer["events"]
        if "nextToken" not in answer:
            return events
        request["nextToken"] = answer["nextToken"]


@pytest.mark.parametrize("group", ["access/orders", "API-Gateway-Execution-Logs_ab12cd34ef/prod"])
def test_prepared_pages_are_new_events_of_new_requests_in_every_stretch(group):
    start_ms = prepared.START_MS + 7 * STRETCH_MS
    events = listed(start_ms, start_ms + 2 * STRETCH_MS, group)
    first = [event for event in events if event["timestamp"] < start_ms + STRETCH_MS]
    assert len(events) == 2 * len(first) > 0
    assert all(start_ms <= event["timestamp"] < start_ms + 2 * STRETCH_MS for event in events)
    ids = [event["eventId"] for event in events]
    assert ids == sorted(set(ids)), "AWS's listings are in the order of ids, none twice"
    assert all(int(event["eventId"]) >> 144 == event["timestamp"] for event in events)
    assert not {event["message"] for event in first} & {event["message"] for event in events[len(first) :]}


def test_no_lines_are_one_empty_page():
    request: dict[str, object] = {"logGroupName": "quiet", "startTime": 0, "endTime": 10**13}
    answer = Backlog(templates_of(0, 0, "INFO", 1)).page(request, Served())
    assert json.loads(answer) == {"events": [], "searchedLogStreams": []}


def test_a_listing_that_begins_behind_the_last_line_does_not_bring_it_again():
    start_ms = prepared.START_MS + 7 * STRETCH_MS
    events = listed(start_ms, start_ms + STRETCH_MS, "orders")
    last_ms = max(int(str(event["timestamp"])) for event in events)
    assert len(listed(last_ms, start_ms + STRETCH_MS, "orders")) == len(events), "whole stretches only"
    assert listed(last_ms + 1, start_ms + STRETCH_MS, "orders") == []


def test_a_backlog_of_some_stretches_has_nothing_before_and_behind_and_is_counted():
    first = prepared.START_MS // STRETCH_MS
    backlog, served = Backlog(templates_of(20, 0.1, "INFO", 40), range(first, first + 2)), Served()
    events = listed(0, prepared.START_MS + 9 * STRETCH_MS, "orders", backlog)
    assert {int(str(event["timestamp"])) // STRETCH_MS for event in events} == {first, first + 1}
    one = {"logGroupName": "orders", "startTime": 0, "endTime": prepared.START_MS + STRETCH_MS}
    other = one | {"startTime": prepared.START_MS + STRETCH_MS, "endTime": prepared.START_MS + 2 * STRETCH_MS}
    for request, whole_groups in ((one, 0), (one, 0), (other, 1)):
        assert b"nextToken" not in backlog.page(request, served), "these stretches have a page each"
        assert json.loads(served.told())["whole_groups"] == whole_groups
    told = json.loads(served.told())
    assert (told["events"], told["distinct"]) == (len(events) * 3 // 2, len(events))
    assert told["failures"] == sum(str(event["message"]).endswith("completed with status: 502") for event in events) > 0


@pytest.mark.process
def test_the_server_says_who_its_caller_is():
    with serving() as cloudwatch:
        sts = boto3.client(
            "sts",
            endpoint_url=cloudwatch.url,
            region_name="eu-west-1",
            aws_access_key_id="benchmark",
            aws_secret_access_key="benchmark",
        )
        assert sts.get_caller_identity()["Account"] == "123456789012"


# ------------------------------------------------------------------------------------------------------------ the parts


def test_pages_measures_every_case():
    figures = list(pages.figures(share=0.02))
    assert len({figure.case for figure in figures}) == 8
    assert all(figure.value > 0 for figure in figures)
    assert all(figure.ratio > 1 for figure in figures if figure.ratio is not None), "a poll decodes, too"


@pytest.mark.process
def test_daemon_reads_and_is_measured():
    found = by_name(daemon.figures(warm_up_s=1, seconds=2, per_second=20))
    assert found["events a second"].value > 0
    assert found["CPU a million events"].value > 0
    assert found["calls a second"].value > 0
    assert 30 < found["resident at most"].value < 2_000


@pytest.mark.process
def test_storm_sends_every_failure_it_counts():
    found = by_name(storm.figures(warm_up_s=2, seconds=2, per_second=5))
    assert found["failures a second"].value > 0
    assert found["spans sent a second"].value > 0


@pytest.mark.process
def test_scrape_shows_as_many_series_as_asked_for():
    found = by_name(scrape.figures(series=100, scrapes=5, pause_s=0))
    assert found["series"].value >= 100
    assert 0 < found["p50"].value <= found["p99"].value


@pytest.mark.process
def test_idle_and_scale_watch_quiet_groups():
    found = by_name(idle.figures(count=1, seconds=1))
    assert 0 < found["start to first answer"].value <= found["start to ready"].value
    assert found["resident"].ratio is not None
    figures = list(scale.figures(counts=(1, 3), seconds=1))
    assert [figure.case for figure in figures if figure.name == "start to all polled"] == ["1 watches", "3 watches"]
    assert all(figure.ratio <= 1 for figure in figures if figure.name == "most calls in a second")


# ---------------------------------------------------------------------------------------------------------- the figures


def test_figures_are_a_table_and_json(tmp_path):
    figures = [
        Figure("part", "case", "speed", 1_234.5, "/s", 2.0, "decode"),
        Figure("part", "case", "size", 0.25, "MiB"),
    ]
    heading, speed, size = results.table(figures).splitlines()
    assert heading.split()[:4] == ["part", "case", "measure", "ratio"]
    assert speed.split() == ["part", "case", "speed", "2.00", "1,234", "/s", "decode"]
    assert size.split() == ["part", "case", "size", "0.25", "MiB"]
    kept = json.loads(results.keep("part", figures, tmp_path).read_text())
    assert [Figure(**figure) for figure in kept["figures"]] == figures
