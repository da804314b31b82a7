"""Memory, CPU, calls and disk of the real daemon at a steady load, over loopback HTTP.

Run as `python -m benchmarks.footprint [requests a second, default 100] [seconds, default 60]`.

Three processes: a CloudWatch (`tests/fakes`) that logs JSON access lines and INFO execution lines, one request in a
hundred failing, the exporter with its default settings but for a budget of 25 calls a second, and this one, which reads
/proc. Spans go to an address where nobody listens, so that they wait on disk.
"""

import json
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from benchmarks import prepared
from benchmarks.processes import exporting, running

ACCESS, EXECUTION = "access/orders", "API-Gateway-Execution-Logs_ab12cd34ef/prod"
HEAD_START_S = 20
CONFIG = f"""
accounts: [{{name: default, calls_per_second: 25}}]
watches:
  - name: orders-prod
    region: eu-west-1
    api: {{name: orders}}
    access_log: {{group: {ACCESS}}}
    execution_log: {{group: {EXECUTION}}}
traces: {{endpoint: "http://127.0.0.1:9"}}
"""


def write_world(path: Path, per_second: int, seconds: int) -> None:
    """What the fake will log; each second's lines are ingested two seconds later."""
    requests = per_second * seconds
    execution = prepared.execution_lines(requests, failing=0.01, level="INFO", per_second=per_second)
    access = prepared.access_lines(requests, failing=0.01, form="json", per_second=per_second)
    with path.open("w", encoding="utf-8") as file:
        for group, lines in ((ACCESS, joined(access, execution)), (EXECUTION, execution)):
            for line in lines:
                at_ms = line.at_ms - prepared.START_MS
                event = {
                    "group": group,
                    "at_ms": at_ms,
                    "ingested_at_ms": at_ms // 1_000 * 1_000 + 2_000,
                    "message": line.message,
                }
                file.write(json.dumps(event) + "\n")


def joined(access: list[prepared.Line], execution: list[prepared.Line]) -> Iterator[prepared.Line]:
    """The access lines with ids and status of the execution lines' requests, in order of arrival."""
    requests: dict[str, dict[str, str]] = {}
    for line in execution:
        request_id, _, text = line.message[1:].partition(") ")
        fields = requests.setdefault(request_id, {"requestId": request_id})
        name, _, value = text.partition(": ")
        if name == "Extended Request Id":
            fields["extendedRequestId"] = value
        elif name == "Method completed with status":
            error = ("-", "-") if value == "200" else ("Internal server error", "DEFAULT_5XX")
            fields |= {"status": value, "error.message": error[0], "error.responseType": error[1]}
    for line, fields in zip(access, requests.values(), strict=True):
        yield prepared.Line(line.at_ms, json.dumps(json.loads(line.message) | fields))


def main() -> None:
    """Run it and print what it took."""
    per_second, seconds = (int(text) for text in (*sys.argv[1:], *("100", "60")[len(sys.argv) - 1 :]))
    with tempfile.TemporaryDirectory() as name:
        world = Path(name) / "world.jsonl"
        write_world(world, per_second, seconds + HEAD_START_S)
        start_ms = int((time.time() - HEAD_START_S) * 1_000)
        with (
            running("tests.fakes", "--world", str(world), "--start-ms", str(start_ms)) as cloudwatch,
            exporting(CONFIG, cloudwatch) as exporter,
        ):
            most = 0.0
            began = time.monotonic()
            while time.monotonic() - began < seconds:
                time.sleep(1)
                most = max(most, exporter.resident_mib())
            cpu = exporter.cpu_seconds()
            calls, size = exporter.total("aws_requests_total"), exporter.total("aws_response_bytes_total")
            lines, failures = exporter.total("log_events_total"), exporter.total("requests_settled_total")
            spans = exporter.total("outbox_spans")
            disk = sum(file.stat().st_size for file in exporter.directory.glob("state.db*"))
    print(f"{per_second} requests/s, access JSON and INFO, 1 % failing, {seconds} s")
    print(f"memory     {most:.0f} MiB resident at most")
    print(f"CPU        {cpu / seconds:.1%} of a core, {cpu / lines * 1e6:.1f} us a line read")
    print(f"lines      {lines:,.0f} read")
    print(f"calls      {calls / seconds:.2f} a second")
    print(f"bytes      {size / seconds / 1e6:.2f} MB a second")
    print(f"state      {disk / 1e6:.2f} MB, with {spans:.0f} spans of {failures:.0f} failures waiting")


if __name__ == "__main__":
    main()
