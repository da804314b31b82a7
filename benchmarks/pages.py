"""From a page to a commit: decode alone, decode with reading and judging, and with the commit, as ratios in one run.

Run as `python -m benchmarks.pages`; prints a table and returns it as JSON lines with `--json FILE`.
"""

import gc
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import msgspec

from benchmarks import prepared
from exporter.access_log import access_parser
from exporter.ledger.sqlite import SqliteLedger
from exporter.metrics.self_metrics import SelfMetrics
from exporter.metrics.totals import Totals
from exporter.model import Api, LogEvent, LogGroup, Page, Window
from exporter.pipeline import Watch, WatchGroup, WatchSpec
from exporter.reading import Labelling
from exporter.record import Recorder
from exporter.rules import shipped_rules
from exporter.spans import SpanOptions

GROUP = LogGroup("default", "eu-west-1", "bench")
API = Api(id="ab12cd34ef", name="orders", stage="prod", region="eu-west-1")
REPEATS = 3


class _Answer(msgspec.Struct):
    events: list[LogEvent]


_decode = msgspec.json.Decoder(_Answer).decode


class PreparedSource:
    """Gives prepared pages, decoded when asked for; what lies outside of the window is not left out."""

    def __init__(self, pages: list[bytes], now_ms: int) -> None:
        self._pages = pages
        self._now_ms = now_ms
        self.given = False

    def now_ms(self) -> int:
        return self._now_ms

    def pages(self, group: LogGroup, window: Window, pattern: str | None = None) -> Iterator[Page]:
        del group, pattern
        first = window.end_ms >= self._now_ms - 1 and not self.given
        for body in self._pages if first else ():
            yield Page(events=_decode(body).events, response_bytes=len(body), server_at_ms=self._now_ms)
        self.given = self.given or first


def watch_over(source: PreparedSource, directory: str, *, access: str | None, spans: bool) -> Watch:
    """A watch on one group of prepared pages."""
    if access is None:
        group = WatchGroup(group=GROUP, kind="execution", apis=(API,))
    else:
        group = WatchGroup(group=GROUP, kind="access", apis=(API,), parser=access_parser(access))
    ledger = SqliteLedger(Path(directory) / "state.db")
    totals = Totals(zero_hold_ms=0, max_series=20_000, now_ms=source.now_ms)
    return Watch(
        WatchSpec(
            name="bench",
            groups=(group,),
            max_request_ms=30_000,
            allowed_lateness_ms=330_000,
            poll_interval_ms=20_000,
            initial_lookback_ms=300_000,
        ),
        source=source,
        ledger=ledger,
        totals=totals,
        self_metrics=SelfMetrics(version="bench", now_ms=source.now_ms),
        rules=shipped_rules(),
        recorder=Recorder(
            wants=lambda _status, _cause: True,
            admit=totals.admit,
            labelling=Labelling(),
            span_options=SpanOptions() if spans else None,
        ),
        ticks=time.monotonic,
        stopping=lambda: False,
    )


def best_of(run: Callable[[], float]) -> float:
    """The shortest of some runs, in seconds: what else runs on the machine only ever adds."""
    times = []
    for _ in range(REPEATS):
        gc.collect()
        times.append(run())
    return min(times)


def decode_seconds(pages: list[bytes]) -> float:
    """Decode pages with msgspec alone."""

    def run() -> float:
        began = time.process_time()
        for body in pages:
            _decode(body)
        return time.process_time() - began

    return best_of(run)


def poll_seconds(pages: list[bytes], *, access: str | None, spans: bool) -> float:
    """Decode, read, judge and commit pages: one poll of a new watch."""

    def run() -> float:
        now_ms = prepared.START_MS + 120_000
        with tempfile.TemporaryDirectory() as directory:
            source = PreparedSource(pages, now_ms)
            watch = watch_over(source, directory, access=access, spans=spans)
            began = time.process_time()
            outcome = watch.poll()
            took = time.process_time() - began
            assert outcome.outcome == "ok", outcome
            assert source.given
            return took

    return best_of(run)


def cases() -> Iterator[tuple[str, list[prepared.Line], str | None]]:
    """What is measured: name, lines, access format (None: execution lines)."""
    for failing in (0.001, 0.01, 0.1, 1.0):
        share = f"{failing:.1%} failing"
        yield f"execution INFO, {share}", prepared.execution_lines(4_000, failing=failing, level="INFO"), None
    yield (
        "execution INFO + data trace, 1.0% failing",
        prepared.execution_lines(2_000, failing=0.01, level="TRACE"),
        None,
    )
    yield "execution ERROR, all failing", prepared.execution_lines(4_000, failing=1.0, level="ERROR"), None
    yield "access JSON, 1.0% failing", prepared.access_lines(40_000, failing=0.01, form="json"), "auto"
    yield "access CLF, 1.0% failing", prepared.access_lines(40_000, failing=0.01, form="clf"), "auto"


def main() -> None:
    """Print the table."""
    wanted = sys.argv[1] if len(sys.argv) > 1 else ""
    print(f"{'':44} {'events':>8} {'decode':>10} {'whole poll':>11} {'ratio':>6} {'events/s':>10}")
    for name, lines, access in cases():
        if wanted not in name:
            continue
        bodies = prepared.pages(lines)
        decode = decode_seconds(bodies)
        whole = poll_seconds(bodies, access=access, spans=True)
        print(
            f"{name:44} {len(lines):8d} {decode / len(lines) * 1e6:7.2f} us {whole / len(lines) * 1e6:8.2f} us "
            f"{whole / decode:6.2f} {len(lines) / whole:10,.0f}"
        )


if __name__ == "__main__":
    main()
