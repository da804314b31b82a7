"""Every benchmark runs, at a tiny size, and gives figures that can be true. How fast it was is no test's business."""

import gc
import json
import re
import shutil
import sys
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import boto3
import pytest
from click.testing import CliRunner

from benchmarks import (
    collector,
    commits,
    daemon,
    fetching,
    idle,
    otelcol,
    pages,
    prepared,
    results,
    scale,
    scrape,
    storm,
    tombstones,
    waiting,
)
from benchmarks.__main__ import PARTS
from benchmarks.__main__ import main as run_parts
from benchmarks.processes import serving
from benchmarks.results import Figure
from benchmarks.server import STRETCH_MS, Backlog, Served, templates_of
from exporter.cli import main
from exporter.loops import COMPILED


def by_name(figures: Iterable[Figure]) -> dict[str, Figure]:
    """The figures of the last case that has each name."""
    return {figure.name: figure for figure in figures}


def test_every_part_is_run_by_make_bench():
    assert set(PARTS) == {
        "pages",
        "commits",
        "daemon",
        "fetching",
        "waiting",
        "scrape",
        "storm",
        "tombstones",
        "idle",
        "scale",
        "collector",
    }


# ------------------------------------------------------------------------------------------------------ what is served


def test_both_logs_tell_of_the_same_requests():
    access = prepared.access_lines(50, failing=0.5, form="json")
    execution = prepared.execution_lines(50, failing=0.5, level="INFO")
    failed = {json.loads(line.message)["requestId"] for line in access if '"status": "502"' in line.message}
    assert 0 < len(failed) < 50
    assert failed == {line.message[1:37] for line in execution if line.message.endswith("status: 502")}


def test_marks_of_settled_failures_are_counted_and_weighed():
    found = list(tombstones.figures(minutes=5, per_second=400))
    assert [figure.value for figure in found if figure.name == "marks a failure"] == [1, 1, 1]
    assert all(0 < figure.value < 80 for figure in found if figure.name == "memory")


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


# -------------------------------------------------------------------------------------------------------- the collector


def collector_config(causes: Mapping[str, Sequence[str]]) -> dict[str, Any]:
    return otelcol.configuration(["orders"], causes, start_from_ms=0, address="127.0.0.1:1")


def matching(config: dict[str, Any], message: str) -> list[str]:
    """The counters of which a condition holds for a line, read as the collector reads them."""
    found = []
    for name, metric in config["connectors"]["count"]["logs"].items():
        patterns = [json.loads(text.removeprefix("IsMatch(body, ")[:-1]) for text in metric["conditions"]]
        if any(re.search(pattern, message) for pattern in patterns):
            found.append(name)
    return found


@pytest.mark.parametrize("level", ["INFO", "ERROR"])
@pytest.mark.parametrize("causes", [collector.CAUSES, tuple(otelcol.phrases())], ids=["prepared", "all"])
def test_the_collector_counts_every_prepared_failure_by_the_cause_that_ours_finds(level, causes):
    lines = [line.message for line in prepared.execution_lines(60, failing=0.3, level=level)]
    judged = CliRunner().invoke(main, ["classify", "--format", "json"], input="\n".join(lines)).stdout.splitlines()
    ours = Counter(f"failures.{verdict['cause']}" for verdict in map(json.loads, judged) if verdict["failure"])
    assert ours
    config = collector_config({cause: otelcol.phrases()[cause] for cause in causes})
    assert Counter(name for line in lines for name in matching(config, line)) == ours


def test_a_phrase_is_looked_for_as_it_stands():
    phrase = 'a (b) [c] {d} e.f*g+h? i|j ^k $l \\m "n"'
    config = collector_config({"odd": [phrase]})
    assert matching(config, f"before {phrase} after") == ["failures.odd"]
    assert matching(config, f"before {phrase.replace('.', 'X')} after") == []


def test_no_phrase_is_looked_for_in_vain():
    assert len(otelcol.phrases()) > 20
    for texts in otelcol.phrases().values():
        assert texts
        assert not [(one, other) for one in texts for other in texts if one != other and one in other]


def test_failures_are_added_over_groups_and_streams():
    metrics = """# TYPE failures_lambda_error_total counter
failures_lambda_error_total{cloudwatch_log_group_name="a",cloudwatch_log_stream="s"} 264
failures_lambda_error_total{cloudwatch_log_group_name="b",cloudwatch_log_stream="s"} 1e+06
failures_throttled_total 3
target_info{failures_lambda_error_total="7"} 1
"""
    assert otelcol.counted(metrics) == {"lambda_error": 1_000_264, "throttled": 3}


def test_a_machine_without_collector_and_go_leaves_the_part_out_and_says_so(monkeypatch, tmp_path, capsys):
    monkeypatch.setenv("PATH", "")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.delenv("OTELCOL", raising=False)
    monkeypatch.setattr("sys.argv", ["benchmarks", "collector"])
    assert run_parts() == 1
    assert "LEFT OUT: collector: it needs the collector that OTELCOL names, or Go" in capsys.readouterr().err
    monkeypatch.setenv("OTELCOL", "no-such-program")
    with pytest.raises(otelcol.MissingError, match="no-such-program"):
        otelcol.binary()


@pytest.mark.process
def test_collector_and_exporter_count_what_was_served(monkeypatch, tmp_path):
    program = tmp_path / "otelcol"
    fake = Path(__file__).parent / "fake_collector.py"
    program.write_text(f'#!/bin/sh\nexec {sys.executable} {fake} "$@"\n', encoding="utf-8")
    program.chmod(0o755)
    monkeypatch.setenv("OTELCOL", str(program))
    figures = list(collector.figures([collector.Backlog("some", per_second=1, failing=0.5, seconds=60, rounds=1)]))
    assert len({figure.case for figure in figures}) == 4
    counted = [figure for figure in figures if figure.name == "failures counted"]
    assert [figure.ratio for figure in counted] == [1, 1, 1, 1]
    assert all(figure.value > 0 for figure in figures)
    assert all(figure.ratio >= 1 for figure in figures if figure.name == "events given" and figure.ratio is not None)
    against = [figure.ratio_of for figure in figures if figure.name == "CPU a million events" and figure.ratio]
    assert against == ["collector of OTELCOL, 1 cause", f"collector of OTELCOL, {len(otelcol.phrases())} causes"] * 2


# ------------------------------------------------------------------------------------------------------------ the parts


def test_pages_measures_every_case():
    gc.freeze()  # it collects before each measurement: not what other tests have left
    try:
        figures = list(pages.figures(share=0.02, count=2))
    finally:
        gc.unfreeze()
    assert len({figure.case for figure in figures}) == 10
    assert all(figure.value > 0 for figure in figures)
    polls = [figure for figure in figures if figure.name == "whole poll, an event"]
    assert len(polls) == 10
    assert all(figure.ratio > 1 for figure in polls), "a poll decodes, too"


@pytest.mark.process
def test_commits_are_measured_on_a_slow_disk_too():
    figures = list(commits.figures(counts=(1, 4), seconds=0.3))
    if shutil.which("cc") is None:
        assert figures[-1].case.endswith("left out, there is no cc")
        figures.pop()
    slow = [figure for figure in figures if figure.case.startswith("syncs of 10 ms") and figure.name.endswith("p50")]
    assert len(slow) == (4 if shutil.which("cc") else 0)
    assert all(figure.value >= commits.SYNC_MS for figure in slow)
    assert all(figure.value > 0 for figure in figures)


@pytest.mark.process
def test_daemon_reads_and_is_measured():
    found = by_name(daemon.figures(warm_up_s=1, seconds=2, per_second=20))
    assert found["events a second"].value > 0
    assert found["CPU a million events"].value > 0
    assert found["calls a second"].value > 0
    assert 30 < found["resident at most"].value < 2_000


@pytest.mark.process
def test_waiting_is_measured_where_pages_take_their_time():
    [calls, cpu] = waiting.figures(counts=(1,), warm_up_s=1, seconds=2, per_second=20)
    assert 0 < calls.value <= 1_000 / waiting.DELAY_MS
    assert cpu.value > 0


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
    heading, speed, size, _, loops = results.table(figures).splitlines()
    assert heading.split()[:4] == ["part", "case", "measure", "ratio"]
    assert speed.split() == ["part", "case", "speed", "2.00", "1,234", "/s", "decode"]
    assert size.split() == ["part", "case", "size", "0.25", "MiB"]
    assert loops == f"inner loops: {'compiled' if COMPILED else 'not compiled'}"
    kept = json.loads(results.keep("part", figures, tmp_path).read_text())
    assert kept["compiled"] is COMPILED
    assert [Figure(**figure) for figure in kept["figures"]] == figures
