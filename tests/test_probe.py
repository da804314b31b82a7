"""`check-config --probe`: what a sample of the log groups tells, read through the daemon's own source."""

import time
from dataclasses import replace

import pytest

from exporter.config import load_config
from exporter.discovery import Discovered, Finding, FindingKind, probe, render
from exporter.discovery.probe import ENOUGH_BYTES, MOST_PAGES, SAMPLE_MS
from exporter.model import LogEvent, LogGroup, Page
from exporter.sources.budget import CallBudget
from exporter.sources.cloudwatch import CloudWatchSource
from exporter.sources.sessions import AccountAccess, logs_client, open_session
from tests.fakes import FakeCloudWatch

NOW_MS = 1_800_000_000_000
ACCESS = "access/orders"
EXECUTION = "API-Gateway-Execution-Logs_ab12/prod"
IDS = [f"0000000{number}-aaaa-4bbb-8ccc-dddddddddddd" for number in range(5)]
CONFIG = f"""
accounts: [{{name: prod, regions: [eu-central-1], calls_per_second: 2}}]
watches:
  - name: orders
    access_log: {{group: {ACCESS}, format: FORMAT}}
    execution_log: {{group: {EXECUTION}}}
"""
SECRET = "hunter2"


def config_with(form="auto"):
    return load_config("exporter.yaml", text=CONFIG.replace("FORMAT", f"'{form}'"))


@pytest.fixture
def cloud(monkeypatch):
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, "x")
    with FakeCloudWatch(clock=lambda: NOW_MS / 1000) as fake:
        monkeypatch.setenv("AWS_ENDPOINT_URL", fake.url)
        fake.create_group(ACCESS)
        fake.create_group(EXECUTION)
        yield fake


def probed(config, discovered=None):
    source = CloudWatchSource(
        lambda: logs_client(open_session(AccountAccess(), "eu-central-1"), max_connections=2),
        budget=CallBudget(1_000, clock=time.monotonic, wait=lambda _: False),
        on_call=lambda *_: None,
        wait=lambda _: False,
        clock=lambda: NOW_MS / 1000,
    )
    report = probe(config, discovered, source=lambda account, region: source)
    source.close()
    return report


def access_lines(ids, *, status="504"):
    return [
        (NOW_MS - 60_000 + number, f'{{"requestId":"{request_id}","status":"{status}","path":"/{SECRET}"}}')
        for number, request_id in enumerate(ids)
    ]


def execution_lines(ids):
    return [
        (NOW_MS - 59_000 + number, f"({request_id}) {text}")
        for number, request_id in enumerate(ids)
        for text in ("Starting execution for request: x", f"Execution failed due to {SECRET}")
    ]


def only(report):
    (watch,) = report.watches
    return watch


def text_of(report):
    text = "\n".join(render(report))
    assert SECRET not in text, "no line is shown"
    return text


def test_a_stage_that_works(cloud):
    cloud.put(ACCESS, access_lines(IDS))
    cloud.put(EXECUTION, execution_lines(IDS[:3]))
    report = probed(config_with())
    assert report.ok
    assert only(report).joined == 3
    text = text_of(report)
    assert "ok   orders" in text
    assert "joined: 3 of 3 requests" in text
    assert "5 lines sampled" in text
    assert "AWS 5" in text, "the region's quota"
    assert len(cloud.calls_of("FilterLogEvents")) == 2, "one call a group"


def test_groups_without_traffic_are_no_failure(cloud):
    report = probed(config_with())
    assert report.ok
    assert "no line in the last 15 minutes" in text_of(report)
    assert "2 log groups whose volume is not known" in text_of(report)


def test_groups_that_cannot_be_read(cloud):
    cloud.delete_group(EXECUTION)
    cloud.faults.denied = True
    report = probed(config_with())
    assert not report.ok
    assert "logs:FilterLogEvents" in text_of(report)
    assert "FAIL orders" in text_of(report)
    cloud.faults.denied = False
    report = probed(config_with())
    assert not report.ok
    assert "there is no such log group" in text_of(report)
    assert only(report).access.refused is None


def test_lines_that_are_not_what_the_format_says(cloud):
    cloud.put(ACCESS, [(NOW_MS - 60_000, f"something else {SECRET}"), (NOW_MS - 59_000, "more of it")])
    report = probed(config_with("$context.requestId;$context.status;$context.path"))
    assert not report.ok
    assert only(report).access.unreadable == {"format_mismatch": 2}
    assert "format_mismatch" in text_of(report)


def test_some_unreadable_lines_are_told_but_are_no_failure(cloud):
    cloud.put(ACCESS, [*access_lines(IDS), (NOW_MS - 1_000, "broken")])
    report = probed(config_with())
    assert report.ok
    assert "6 lines sampled, 1 format_mismatch" in text_of(report)


def test_lines_without_a_status(cloud):
    cloud.put(ACCESS, [(NOW_MS - 60_000, f'{{"requestId":"{IDS[0]}"}}')])
    report = probed(config_with())
    assert not report.ok
    assert "add $context.status" in text_of(report)


def test_ids_that_do_not_meet(cloud):
    cloud.put(ACCESS, access_lines(IDS[:2]))
    cloud.put(EXECUTION, execution_lines(IDS[3:]))
    report = probed(config_with())
    assert not report.ok
    assert "joined: 0 of 2" in text_of(report)
    assert "no id stands in both logs" in text_of(report)


def test_lines_without_any_id(cloud):
    cloud.put(ACCESS, [(NOW_MS - 60_000, '{"status":"504"}')])
    cloud.put(EXECUTION, execution_lines(IDS[:1]))
    assert "names a request id" in text_of(probed(config_with()))


def test_placeholders_join_nothing(cloud):
    cloud.put(ACCESS, access_lines(["UUID_REPLACED_INVALID_REQUEST_ID"]))
    cloud.put(EXECUTION, [(NOW_MS - 50_000, "(UUID_REPLACED_INVALID_REQUEST_ID) Starting execution for request: x")])
    watch = only(probed(config_with()))
    assert (watch.joined, watch.access.request_ids, watch.execution.request_ids) == (0, frozenset(), frozenset())


def test_extended_ids_join(cloud):
    cloud.put(ACCESS, [(NOW_MS - 60_000, '{"extendedRequestId":"Vwc2MGFUrPEFV_g=","status":"504"}')])
    cloud.put(EXECUTION, [(NOW_MS - 50_000, f"({IDS[0]}) Extended Request Id: Vwc2MGFUrPEFV_g=")])
    report = probed(config_with())
    assert report.ok
    assert only(report).joined == 1


def test_discovered_watches_are_probed_and_findings_told(cloud):
    config = config_with()
    discovered = Discovered(
        watches=(replace(config.watches[0], name="found"),),
        stages=(),
        configured={},
        findings=(
            Finding(kind=FindingKind.DATA_TRACE, account="prod", region="eu-central-1", api=None, text="turn it off"),
            Finding(kind=FindingKind.DENIED, account="prod", region="eu-central-1", api=None, text="AWS denies x"),
        ),
        forecast=(),
        stage_counts={},
        succeeded_at_ms=None,
    )
    report = probed(config, discovered)
    assert [watch.watch.name for watch in report.watches] == ["orders", "found"]
    assert not report.ok, "a denied call is an error"
    assert text_of(report).index("AWS denies x") < text_of(report).index("turn it off"), "the worst first"
    assert len(cloud.calls_of("FilterLogEvents")) == 2, "a group is sampled once"


# -------------------------------------------------------------------------------------------------------------- volume


class Scripted:
    """A source that gives pages as they are, and tells how many were asked for."""

    def __init__(self, pages):
        self.script = pages
        self.asked = 0

    def now_ms(self):
        return NOW_MS

    def pages(self, group, window, pattern=None, parts=1):
        assert window.start_ms == NOW_MS - SAMPLE_MS
        if group.name != ACCESS:
            return
        for events in self.script:
            self.asked += 1
            yield Page(events=events, response_bytes=1)


def event(after_ms, size):
    message = '{"requestId":"' + IDS[0] + '","status":"200","x":"' + "x" * size + '"}'
    return LogEvent(event_id=str(after_ms), at_ms=NOW_MS - SAMPLE_MS + after_ms, message=message)


def bytes_a_day(source):
    report = probe(config_with(), None, source=lambda account, region: source)
    sample = only(report).access
    assert sample.group == LogGroup("prod", "eu-central-1", ACCESS)
    return None if sample.volume is None else sample.volume.high


def test_a_sample_that_is_all_there_is_stands_for_its_15_minutes():
    source = Scripted([[event(0, 1_000)], [event(1, 1_000)]])
    size = len(event(0, 1_000).message) + 26
    assert bytes_a_day(source) == pytest.approx(2 * size * 96)


def test_a_great_sample_stands_for_the_time_it_covers():
    source = Scripted([[event(0, 10), event(9_000, ENOUGH_BYTES)], [event(10_000, 10)]])
    assert bytes_a_day(source) == pytest.approx(ENOUGH_BYTES * 86_400 / 9, rel=0.01)
    assert source.asked == 1


def test_a_listing_without_end_is_left():
    source = Scripted([[], [event(0, 10)], *[[]] * 100])
    assert bytes_a_day(source) is None
    assert source.asked == MOST_PAGES


def test_more_than_the_budget_says_what_to_do():
    source = Scripted([[event(number, 100_000) for number in range(10)]])
    report = probe(config_with(), None, source=lambda account, region: source)
    assert "set `fetch: failures` for orders" in text_of(report)
    assert "FAIL" not in text_of(report)
