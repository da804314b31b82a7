"""The whole exporter beside an OpenTelemetry Collector that counts the same causes of the same backlog.

Run as `python -m benchmarks.collector`. Both read what one server has prepared: minutes of execution lines in eight
groups, older than any line can be late, so that nothing is left to wait for. Measured is the CPU time that the kernel
counts for each process, from its first page until it shows every failure, against the events that the server gave it.
The collector is the one that `OTELCOL` names, or one that is built with Go (`benchmarks/otelcol.py`), both with
contrib's CloudWatch receiver. The ratio is the exporter's CPU against the collector's, the best of the rounds of each.
"""

import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from functools import partial
from typing import NamedTuple

import msgspec

from benchmarks import otelcol
from benchmarks.daemon import REGIONS
from benchmarks.processes import Process, exporting, serving, total, watches
from benchmarks.results import Figure, report
from benchmarks.server import STRETCH_MS

PART = "collector"
CAUSES = ("lambda_error",)
"""What the prepared lines that fail are failures by."""
_AGE_MS = 600_000
"""Of the backlog's end: more than the exporter's `allowed_lateness`."""
_DELAY_MS = 2
"""AWS takes longer. Go's HTTP client drops a connection, and the SDK asks again, where the answer comes before the
client has noticed that its request was sent."""
_GLANCE_S = 0.5
_PATIENCE_S = 120.0
_ENCORE_S = 2.5
"""For another poll of a collector, so that what it counts twice is seen."""
_GROUPS = tuple(f"API-Gateway-Execution-Logs_api{number:07d}/prod" for number in range(len(REGIONS)))
_EXPORTER = f"""
accounts: [{{name: default, regions: [{", ".join(REGIONS)}], calls_per_second: 25}}]
initial_lookback: 15m
poll_interval: 5s
""" + watches(len(REGIONS), REGIONS, access=False)


class Backlog(NamedTuple):
    """The prepared lines of a case."""

    name: str
    per_second: int
    """Requests, in each group."""
    failing: float
    seconds: int
    rounds: int

    def stretches(self) -> range:
        """When they are, in tens of seconds of Unix time."""
        beyond = int(time.time() * 1_000 - _AGE_MS) // STRETCH_MS
        return range(beyond - self.seconds * 1_000 // STRETCH_MS, beyond)


CASES = (
    Backlog("INFO, 1 % failing", 50, 0.01, 180, 2),
    Backlog("INFO, 10 % failing", 20, 0.1, 180, 2),
    Backlog("INFO, all failing", 3, 1, 180, 1),
)


class _Served(msgspec.Struct):
    """What the server tells of itself (`benchmarks.server.Served.told`)."""

    events: int
    distinct: int
    failures: int
    whole_groups: int

    @classmethod
    def of(cls, cloudwatch: Process) -> "_Served":
        return msgspec.json.decode(cloudwatch.get("/"), type=cls)


class _Run(NamedTuple):
    """What one program took for one backlog."""

    cpu_s: float
    given: int
    distinct: int
    failed: int
    counted: int
    resident_mib: float

    @property
    def each_s(self) -> float:
        """CPU seconds a million events given."""
        return self.cpu_s / self.given * 1e6


def main() -> None:
    """Print the figures and keep them."""
    try:
        report(PART, list(figures()))
    except otelcol.MissingError as error:
        sys.exit(f"{PART} cannot be measured: {error}")


def figures(backlogs: Sequence[Backlog] = CASES) -> Iterator[Figure]:
    """Measure each program in turn on each backlog; raises `MissingError`."""
    collector = otelcol.binary()
    every = otelcol.phrases()
    same = {cause: every[cause] for cause in CAUSES}
    for backlog in backlogs:
        programs: dict[str, Callable[[], _Run]] = {
            f"{collector.name}, 1 cause": partial(_collected, collector, same, backlog),
            f"{collector.name}, {len(every)} causes": partial(_collected, collector, every, backlog),
            "exporter": partial(_exported, backlog, traces=False),
            "exporter with traces": partial(_exported, backlog, traces=True),
        }
        runs = [{name: run() for name, run in programs.items()} for _ in range(backlog.rounds)]
        yield from _told(
            backlog.name, {name: min((ran[name] for ran in runs), key=lambda run: run.each_s) for name in programs}
        )


def _told(case: str, best: dict[str, _Run]) -> Iterator[Figure]:
    theirs = list(best.items())[:2]
    for name, run in best.items():
        told = partial(Figure, PART, f"{case}: {name}")
        if run in dict(theirs).values():
            yield told("CPU a million events", run.each_s, "s")
        else:
            for against, other in theirs:
                yield told("CPU a million events", run.each_s, "s", run.each_s / other.each_s, against)
        yield told("CPU a million lines there are", run.cpu_s / run.distinct * 1e6, "s")
        yield told("events given", run.given, "", run.given / run.distinct, "lines there are")
        yield told("failures counted", run.counted, "", run.counted / run.failed, "served")
        yield told("resident at most", run.resident_mib, "MiB")


def _collected(collector: otelcol.Binary, causes: dict[str, tuple[str, ...]], backlog: Backlog) -> _Run:
    stretches = backlog.stretches()
    with (
        _serving(backlog, stretches) as cloudwatch,
        otelcol.collecting(
            collector, _GROUPS, causes, start_from_ms=stretches.start * STRETCH_MS, cloudwatch=cloudwatch
        ) as program,
    ):
        return _measured(
            program,
            cloudwatch,
            lambda: sum(otelcol.counted(program.get("/metrics").decode())[cause] for cause in CAUSES),
        )


def _exported(backlog: Backlog, *, traces: bool) -> _Run:
    with _serving(backlog, backlog.stretches()) as cloudwatch:
        config = _EXPORTER
        if traces:
            config += f'\ntraces: {{endpoint: "{cloudwatch.url}", budget: {{per_minute: 1000000000}}}}'
        with exporting(config, cloudwatch) as program:
            return _measured(program, cloudwatch, lambda: _failures_and_spans(program))


def _failures_and_spans(program: Process) -> int:
    """The failures that the exporter shows, all but one while their spans are on their way."""
    metrics = program.get("/metrics").decode()
    waiting = total(metrics, "aws_apigateway_exporter_outbox_spans") > 0
    return int(total(metrics, "aws_apigateway_stage_failures_total")) - waiting


def _serving(backlog: Backlog, stretches: range) -> AbstractContextManager[Process]:
    traffic = ("--per-second", str(backlog.per_second), "--failing", str(backlog.failing))
    return serving(*traffic, "--stretches", str(stretches.start), str(stretches.stop), "--delay-ms", str(_DELAY_MS))


def _measured(program: Process, cloudwatch: Process, counted: Callable[[], int]) -> _Run:
    """Watch a program until it has been given all there is, and shows its failures or has had the time to."""
    before = after = program.cpu_seconds()
    while not (served := _Served.of(cloudwatch)).events and time.monotonic() - program.began < _PATIENCE_S:
        before = program.cpu_seconds()
        time.sleep(0.02)
    most = 0.0
    while time.monotonic() - program.began < _PATIENCE_S:
        shown, after, most = counted(), program.cpu_seconds(), max(most, program.resident_mib())
        served = _Served.of(cloudwatch)
        if served.whole_groups == len(_GROUPS) and shown >= served.failures:
            break
        time.sleep(_GLANCE_S)
    if served.whole_groups < len(_GROUPS):
        raise RuntimeError(f"only {served.whole_groups} groups were read to their end in {_PATIENCE_S:.0f} s")
    time.sleep(_ENCORE_S)
    return _Run(after - before, served.events, served.distinct, served.failures, counted(), most)


if __name__ == "__main__":
    main()
