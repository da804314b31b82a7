"""Memory, CPU, calls and disk of the real daemon at a steady load, over loopback HTTP.

Run as `python -m benchmarks.footprint [requests a second, default 100] [seconds, default 60]`.

Three processes: a CloudWatch (`tests/fakes`) that logs JSON access lines and INFO execution lines, one request in a
hundred failing, the exporter with its default settings but for a budget of 25 calls a second, and this one, which reads
/proc. Spans go to an address where nobody listens, so that they wait on disk.
"""

import json
import os
import signal
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from benchmarks import prepared

ROOT = Path(__file__).parent.parent
ACCESS, EXECUTION = "access/orders", "API-Gateway-Execution-Logs_ab12cd34ef/prod"
HEAD_START_S = 20
CONFIG = f"""
accounts: [{{name: default, calls_per_second: 25}}]
state: {{path: state.db}}
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


@contextmanager
def running(arguments: list[str], **options) -> Iterator[subprocess.Popen]:
    """A process that ends with the block."""
    process = subprocess.Popen([sys.executable, "-m", *arguments], text=True, **options)
    try:
        yield process
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(timeout=30)


def resident_mib(pid: int) -> float:
    pages = int(Path(f"/proc/{pid}/statm").read_text(encoding="ascii").split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 2**20


def cpu_seconds(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text(encoding="ascii").rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def total(metrics: str, name: str) -> float:
    """The sum of a metric's series."""
    return sum(
        float(line.rpartition(" ")[2]) for line in metrics.splitlines() if line.startswith((name + "{", name + " "))
    )


def main() -> None:
    """Run it and print what it took."""
    per_second, seconds = (int(text) for text in (*sys.argv[1:], *("100", "60")[len(sys.argv) - 1 :]))
    with tempfile.TemporaryDirectory() as name:
        directory = Path(name)
        write_world(directory / "world.jsonl", per_second, seconds + HEAD_START_S)
        (directory / "exporter.yaml").write_text(CONFIG, encoding="utf-8")
        start_ms = int((time.time() - HEAD_START_S) * 1_000)
        fake_command = ["tests.fakes", "--world", str(directory / "world.jsonl"), "--start-ms", str(start_ms)]
        with running(fake_command, cwd=ROOT, stdout=subprocess.PIPE) as fake:
            assert fake.stdout is not None
            url = json.loads(fake.stdout.readline())["url"]
            environ = {
                **os.environ,
                "AWS_ENDPOINT_URL_CLOUDWATCH_LOGS": url,
                "AWS_ACCESS_KEY_ID": "fake",
                "AWS_SECRET_ACCESS_KEY": "fake",
                "PYTHONPATH": str(ROOT),
            }
            address = "127.0.0.1:10619"
            command = ["exporter", "run", "--config.file", "exporter.yaml", "--web.listen-address", address]
            with running(command, cwd=directory, env=environ, stderr=subprocess.DEVNULL) as exporter:
                most = 0.0
                began = time.monotonic()
                while time.monotonic() - began < seconds:
                    time.sleep(1)
                    most = max(most, resident_mib(exporter.pid))
                cpu = cpu_seconds(exporter.pid)
                with urllib.request.urlopen(f"http://{address}/metrics") as answer:
                    metrics = answer.read().decode()
                disk = sum(file.stat().st_size for file in directory.glob("state.db*"))
    own = "aws_apigateway_exporter_"
    lines = total(metrics, f"{own}log_events_total")
    print(f"{per_second} requests/s, access JSON and INFO, 1 % failing, {seconds} s")
    print(f"memory     {most:.0f} MiB resident at most")
    print(f"CPU        {cpu / seconds:.1%} of a core, {cpu / lines * 1e6:.1f} us a line read")
    print(f"lines      {lines:,.0f} read")
    print(f"calls      {total(metrics, f'{own}aws_requests_total') / seconds:.2f} a second")
    print(f"bytes      {total(metrics, f'{own}aws_response_bytes_total') / seconds / 1e6:.2f} MB a second")
    failures, spans = total(metrics, f"{own}requests_settled_total"), total(metrics, f"{own}outbox_spans")
    print(f"state      {disk / 1e6:.2f} MB, with {spans:.0f} spans of {failures:.0f} failures waiting")


if __name__ == "__main__":
    main()
