"""The exporter and what it talks to, each in a process of its own, measured by /proc and by what it serves.

CPU is the processes' own time as the kernel counts it, so that what else runs on the machine hardly matters.
"""

import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parent.parent
OWN = "aws_apigateway_exporter_"
PATIENCE_S = 60.0


@dataclass(frozen=True, slots=True)
class Process:
    """A running process with an HTTP face."""

    pid: int
    url: str
    began: float
    """When it was started (`time.monotonic`)."""
    directory: Path = ROOT
    """Where it runs; the exporter keeps its `state.db` there."""

    def cpu_seconds(self) -> float:
        """User and system time of all its threads so far."""
        fields = Path(f"/proc/{self.pid}/stat").read_text(encoding="ascii").rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def resident_mib(self) -> float:
        """Resident memory now."""
        pages = int(Path(f"/proc/{self.pid}/statm").read_text(encoding="ascii").split()[1])
        return pages * os.sysconf("SC_PAGE_SIZE") / 2**20

    def get(self, path: str) -> bytes:
        """What it answers; raises URLError where it does not."""
        with urllib.request.urlopen(self.url + path, timeout=30) as answer:
            return answer.read()

    def total(self, name: str) -> float:
        """The sum of a self-metric's series; `name` without the exporter's prefix."""
        return total(self.get("/metrics").decode(), OWN + name)

    def wait_for(self, path: str) -> float:
        """Seconds since its start until it answers `path` with 200."""
        while time.monotonic() - self.began < PATIENCE_S:
            try:
                self.get(path)
            except OSError:
                time.sleep(0.02)
            else:
                return time.monotonic() - self.began
        raise TimeoutError(f"{path} was not answered with 200 within {PATIENCE_S:.0f} s")


def total(metrics: str, name: str) -> float:
    """The sum of a metric's series in an exposition."""
    return sum(
        float(line.rpartition(" ")[2]) for line in metrics.splitlines() if line.startswith((name + "{", name + " "))
    )


@contextmanager
def serving(*arguments: str) -> Iterator[Process]:
    """A CloudWatch with prepared pages (`benchmarks.server`) that ends with the block."""
    with running("benchmarks.server", *arguments) as process:
        yield process


@contextmanager
def running(module: str, *arguments: str) -> Iterator[Process]:
    """A module that prints `{"url": …}` when it serves, and ends with the block."""
    command = [sys.executable, "-m", module, *arguments]
    with ending(subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True)) as process:
        assert process.stdout is not None
        yield Process(process.pid, json.loads(process.stdout.readline())["url"], time.monotonic())


@contextmanager
def exporting(config: str, cloudwatch: Process) -> Iterator[Process]:
    """The exporter as users run it, with a state file of its own, that ends with the block."""
    address = free_address()
    with tempfile.TemporaryDirectory() as name:
        directory = Path(name)
        (directory / "exporter.yaml").write_text(config + "\nstate: {path: state.db}\n", encoding="utf-8")
        environ = {**environment(cloudwatch), "PYTHONPATH": str(ROOT)}
        command = [sys.executable, "-m", "exporter", "run", "--config.file", "exporter.yaml"]
        command += ["--web.listen-address", address]
        with (directory / "log").open("wb") as log:
            began = time.monotonic()
            with ending(subprocess.Popen(command, cwd=directory, env=environ, stderr=log)) as process:
                exporter = Process(process.pid, f"http://{address}", began, directory)
                try:
                    exporter.wait_for("/-/healthy")
                    yield exporter
                except (TimeoutError, urllib.error.URLError):
                    print((directory / "log").read_text(encoding="utf-8")[-2_000:], file=sys.stderr)
                    raise


def environment(cloudwatch: Process) -> dict[str, str]:
    """This process's environment, with that CloudWatch Logs in place of AWS's and nothing else of AWS."""
    return {
        **{key: value for key, value in os.environ.items() if not key.startswith(("AWS_", "OTEL_"))},
        "AWS_ENDPOINT_URL_CLOUDWATCH_LOGS": cloudwatch.url,
        "AWS_ACCESS_KEY_ID": "benchmark",
        "AWS_SECRET_ACCESS_KEY": "benchmark",
        "AWS_EC2_METADATA_DISABLED": "true",
    }


def free_address() -> str:
    """Host and port on which nothing listens now."""
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return f"127.0.0.1:{found.getsockname()[1]}"


@contextmanager
def ending(process: "subprocess.Popen") -> Iterator["subprocess.Popen"]:
    """Ends a process with the block, by force where SIGTERM does not."""
    with process:  # closes its pipe
        try:
            yield process
        finally:
            process.send_signal(signal.SIGTERM)
            try:
                process.wait(timeout=20)
            except subprocess.TimeoutExpired:
                process.kill()


def watches(count: int, regions: tuple[str, ...], *, access: bool = True) -> str:
    """The `watches` section: stages with an execution group and perhaps an access group, over regions in turn."""
    lines = ["watches:"]
    for number in range(count):
        access_log = f"access_log: {{group: access/api{number}}}, " if access else ""
        lines.append(
            f"  - {{name: api{number}-prod, region: {regions[number % len(regions)]}, "
            f"api: {{id: api{number:07d}, name: api{number}, stage: prod}}, {access_log}"
            f"execution_log: {{group: API-Gateway-Execution-Logs_api{number:07d}/prod}}}}"
        )
    return "\n".join(lines)
