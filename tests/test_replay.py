"""Replay: what exported logs come to is what a daemon on the same lines counted, in whatever form they were exported."""

import gzip
import json
import random
import re
from collections import Counter
from datetime import UTC, datetime

import pytest
from click.testing import CliRunner

from exporter.cli import main
from tests.otlp_receiver import OtlpReceiver
from tests.worlds import ACCESS, EXECUTION, START_MS, Life, MemorySource, live, make_world, scratch

CONFIG = f"""
accounts: [{{name: default, regions: [eu-west-1]}}]
watches:
  - name: orders-prod
    api: {{id: ab12cd34ef, name: orders, stage: prod}}
    access_log: {{group: {ACCESS.name}}}
    execution_log: {{group: {EXECUTION.name}}}
"""
SAMPLE = re.compile(r"^(?P<name>\w+)\{(?P<labels>.*)\} (?P<value>[0-9.]+)$", re.MULTILINE)


def invoke(*arguments: str):
    return CliRunner().invoke(main, ["replay", *arguments])


def replayed(*arguments: str) -> str:
    result = invoke(*arguments)
    assert result.exit_code == 0, result.stderr
    return result.stdout


def counts(text: str) -> Counter[tuple[str, ...]]:
    """(method, resource, status, cause) of every failure counted."""
    found: Counter[tuple[str, ...]] = Counter()
    for sample in SAMPLE.finditer(text):
        if sample["name"] == "aws_apigateway_failed_requests_total":
            labels = dict(re.findall(r'(\w+)="([^"]*)"', sample["labels"]))
            found[tuple(labels[name] for name in ("method", "resource", "status", "cause"))] += int(
                float(sample["value"])
            )
    return found


def totals(text: str) -> Counter[str]:
    found: Counter[str] = Counter()
    for sample in SAMPLE.finditer(text):
        if sample["name"] == "aws_apigateway_requests_total":
            found[re.search(r'status="(\w+)"', sample["labels"])[1]] += int(float(sample["value"]))
    return found


def written(world, path, form: str):
    """The lines of a world as an export."""
    lines = sorted(world.lines, key=lambda line: line[1].event_id)
    by_group = {group: [event for where, event, _, _ in lines if where == group] for group in (ACCESS, EXECUTION)}
    for group, events in by_group.items():
        name = group.name.replace("/", "_")
        if form == "filter-log-events":
            answer = {
                "events": [
                    {
                        "logStreamName": "s",
                        "timestamp": event.at_ms,
                        "message": event.message,
                        "ingestionTime": event.ingested_at_ms,
                        "eventId": event.event_id,
                    }
                    for event in events
                ],
                "searchedLogStreams": [],
            }
            (path / f"{name}.json").write_text(json.dumps(answer, indent=2))
        elif form == "json lines":
            rows = [{"timestamp": event.at_ms, "message": event.message, "logGroup": group.name} for event in events]
            (path / f"{name}.jsonl").write_text("\n".join(json.dumps(row) for row in rows))
        elif form == "s3 export":
            stream = path / name / "task" / "stream"
            stream.mkdir(parents=True)
            text = "".join(f"{iso(event.at_ms)} {event.message}\n" for event in events)
            (stream / "000000.gz").write_bytes(gzip.compress(text.encode()))
        elif form == "subscription":
            record = {
                "messageType": "DATA_MESSAGE",
                "owner": "123456789012",
                "logGroup": group.name,
                "logStream": "s",
                "subscriptionFilters": ["all"],
                "logEvents": [
                    {"id": event.event_id, "timestamp": event.at_ms, "message": event.message} for event in events
                ],
            }
            control = {**record, "messageType": "CONTROL_MESSAGE", "logEvents": [{**record["logEvents"][0]}]}
            # Firehose puts nothing between records.
            (path / f"{name}.gz").write_bytes(gzip.compress((json.dumps(control) + json.dumps(record)).encode()))
        else:
            (path / f"{name}.log").write_text(
                "\n".join(f"{iso(event.at_ms)}\t{event.message}".replace("Z\t", "Z  ") for event in events)
            )
    return path


def iso(at_ms: int) -> str:
    return f"{datetime.fromtimestamp(at_ms / 1000, UTC):%Y-%m-%dT%H:%M:%S}.{at_ms % 1000:03d}Z"


FORMS = ["filter-log-events", "json lines", "s3 export", "subscription", "raw lines"]


@pytest.fixture(scope="module")
def world():
    return make_world(random.Random(7), count=120)


@pytest.fixture(scope="module")
def lived(world):
    """What a daemon counted in this world."""
    with scratch() as directory:
        life = Life(MemorySource(world=world), directory)
        live(life, random.Random(0), until_ms=START_MS + 1_500_000)
        yield life.failures(), life.totals_by_status()
        life.ledger.close()


@pytest.mark.parametrize("form", FORMS)
def test_every_form_of_export_counts_what_the_daemon_counted(form, world, lived, tmp_path):
    text = replayed(str(written(world, tmp_path, form)))
    assert (counts(text), totals(text)) == lived
    assert counts(text) == world.failures()


def test_with_a_configuration_the_labels_are_the_daemons(world, lived, tmp_path):
    (tmp_path / "exporter.yaml").write_text(CONFIG)
    logs = tmp_path / "logs"
    logs.mkdir()
    text = replayed("--config.file", str(tmp_path / "exporter.yaml"), str(written(world, logs, "subscription")))
    assert (counts(text), totals(text)) == lived
    assert 'api_id="ab12cd34ef",api_name="orders",stage="prod"' in text


@pytest.mark.parametrize(("access", "execution"), [(True, False), (False, True)])
def test_one_of_the_two_logs_is_enough(access, execution, tmp_path):
    world = make_world(random.Random(3), count=60, access=access, execution=execution)
    text = replayed(str(written(world, tmp_path, "s3 export")))
    assert sum(counts(text).values()) == sum(world.failures().values())


def test_requests_that_share_an_id_are_told_apart(tmp_path):
    world = make_world(random.Random(11), count=80, reuse=0.3)
    text = replayed(str(written(world, tmp_path, "filter-log-events")))
    assert counts(text) == world.failures()


def test_the_same_lines_give_the_same_output(world, tmp_path):
    path = str(written(world, tmp_path, "json lines"))
    assert replayed("--format", "openmetrics", path) == replayed("--format", "openmetrics", path)
    assert replayed("--format", "openmetrics", path).endswith("# EOF\n")


def test_exports_that_overlap_count_each_event_once(world, tmp_path):
    one, other = tmp_path / "one", tmp_path / "other"
    for path in (one, other):
        path.mkdir()
        written(world, path, "filter-log-events")
    text = replayed(str(one), str(other))
    assert counts(text) == world.failures()
    assert totals(text) == world.totals()


def test_a_file_is_told_its_log_group_by_pattern(world, tmp_path):
    config = tmp_path / "exporter.yaml"
    config.write_text(CONFIG + "  - {name: other, access_log: {group: access/other}}\n")
    logs = tmp_path / "logs"
    logs.mkdir()
    written(world, logs, "s3 export")
    refused = invoke("--config.file", str(config), str(logs))
    assert refused.exit_code == 2
    assert "2 log groups of access lines" in refused.stderr
    text = replayed("--config.file", str(config), "--group-map", f"*access_orders*={ACCESS.name}", str(logs))
    assert counts(text) == world.failures()


def test_a_group_that_the_configuration_does_not_name_is_refused(world, tmp_path):
    config = tmp_path / "exporter.yaml"
    config.write_text(CONFIG.replace(ACCESS.name, "access/payments"))
    logs = tmp_path / "logs"
    logs.mkdir()
    result = invoke("--config.file", str(config), str(written(world, logs, "subscription")))
    assert result.exit_code == 2
    assert ACCESS.name in result.stderr


# ------------------------------------------------------------------------------------------------------------- times


def access_line(**more: str) -> str:
    return json.dumps({"requestId": "17cb49b2-1061-45dc-8c6b-2e2e2e2e2e2e", "status": "504"} | more)


@pytest.mark.parametrize("time", [{"requestTimeEpoch": "1760000000000"}, {"requestTime": "09/Oct/2025:08:53:20 +0000"}])
def test_an_access_line_without_a_time_has_that_of_its_request(time, tmp_path):
    path = tmp_path / "access.log"
    path.write_text(access_line(**time) + "\n" + access_line(**time))
    assert totals(replayed(str(path))) == {"504": 2}
    assert "1760" in replayed("--format", "openmetrics", str(path))


def test_a_line_without_a_time_has_that_of_the_line_before_it(tmp_path):
    path = tmp_path / "execution.log"
    path.write_text(
        "2026-01-01T00:00:00.000Z (17cb49b2-1061-45dc-8c6b-2e2e2e2e2e2e) Execution failed due to a timeout error\n\n"
        "(17cb49b2-1061-45dc-8c6b-2e2e2e2e2e2e) Method completed with status: 504\n"
    )
    assert sum(counts(replayed(str(path))).values()) == 1


def test_lines_that_nothing_dates_are_refused_with_what_to_do(tmp_path):
    path = tmp_path / "execution.log"
    path.write_text("(17cb49b2-1061-45dc-8c6b-2e2e2e2e2e2e) Method completed with status: 504\n")
    result = invoke(str(path))
    assert result.exit_code == 2
    assert str(path) in result.stderr
    assert "filter-log-events" in result.stderr
    assert "17cb49b2" not in result.stderr


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"", "no log line"),
        (b"\x1f\x8b\x08\x00broken", "not a whole gzip file"),
        (b"Dear Sir or Madam,\nwe regret\n", "no log line"),
        (
            access_line(requestTimeEpoch="1760000000000").encode()
            + b"\n"
            + access_line(requestTimeEpoch="1000000000000").encode(),
            "days apart",
        ),
    ],
    ids=["empty", "torn", "prose", "years apart"],
)
def test_what_cannot_be_replayed_is_refused_in_words(content, said, tmp_path):
    path = tmp_path / "file"
    path.write_bytes(content)
    result = invoke(str(path))
    assert result.exit_code == 2
    assert said in result.stderr


def test_a_missing_file_is_refused_in_words(tmp_path):
    result = invoke(str(tmp_path / "nowhere.gz"))
    assert result.exit_code == 2
    assert "there is no such file" in result.stderr


# ------------------------------------------------------------------------------------------------------------- traces


def test_traces_are_written_as_otlp_json_with_hexadecimal_ids(world, tmp_path):
    logs = tmp_path / "logs"
    logs.mkdir()
    spans = tmp_path / "spans.jsonl"
    replayed("--spans", str(spans), str(written(world, logs, "s3 export")))
    told = [
        span
        for line in spans.read_text().splitlines()
        for resource in json.loads(line)["resourceSpans"]
        for scope in resource["scopeSpans"]
        for span in scope["spans"]
    ]
    roots = [span for span in told if span["kind"] == 2]
    assert len(roots) == sum(world.failures().values())
    assert all(re.fullmatch("[0-9a-f]{32}", span["traceId"]) for span in told)
    assert {span["parentSpanId"] for span in told if span["kind"] != 2} <= {span["spanId"] for span in roots}


def test_traces_are_sent_to_a_receiver(world, tmp_path, monkeypatch):
    with OtlpReceiver() as receiver:
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", receiver.url)
        result = invoke("--otlp", str(written(world, tmp_path, "filter-log-events")))
        assert result.exit_code == 0, result.stderr
        roots = [span for span in receiver.spans if span.kind == "SERVER"]
    assert len(roots) == sum(world.failures().values())


def test_a_receiver_that_is_away_is_told_and_fails_the_command(world, tmp_path, monkeypatch):
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", "http://127.0.0.1:9")
    result = invoke("--otlp", str(written(world, tmp_path, "filter-log-events")))
    assert result.exit_code == 1
    assert re.search(r"[1-9]\d* not taken", result.stderr)
    assert counts(result.stdout) == world.failures()


def test_nobody_to_send_to_is_refused(world, tmp_path, monkeypatch):
    for name in ("OTEL_EXPORTER_OTLP_ENDPOINT", "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT"):
        monkeypatch.delenv(name, raising=False)
    result = invoke("--otlp", str(written(world, tmp_path, "filter-log-events")))
    assert result.exit_code == 2
    assert "OTEL_EXPORTER_OTLP_ENDPOINT" in result.stderr


def test_an_access_line_with_a_message_and_a_timestamp_of_its_own_is_no_envelope(tmp_path):
    path = tmp_path / "access.log"
    path.write_text(
        access_line(timestamp="1760000000000", message="Endpoint request timed out", requestTimeEpoch="1760000000000")
    )
    assert sum(counts(replayed(str(path))).values()) == 1


def test_documents_printed_over_several_lines_follow_each_other(world, tmp_path):
    text = ""
    for group in (ACCESS, EXECUTION):
        events = [
            {"timestamp": event.at_ms, "message": event.message, "ingestionTime": event.ingested_at_ms}
            for where, event, _, _ in world.lines
            if where == group
        ]
        text += json.dumps({"events": events, "nextForwardToken": "f/1", "nextBackwardToken": "b/1"}, indent=4) + "\n"
    path = tmp_path / "both.json"
    path.write_text(text)
    assert counts(replayed(str(path))) == world.failures()
