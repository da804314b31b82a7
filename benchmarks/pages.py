"""From a page to a commit: decode alone, then with joining and judging, then with spans and commit, in one run.

Decoding is measured twice: as the exporter does it (four fields, one page after the other) and as msgspec is used when
nobody thinks of memory (all fields, all pages kept).

Run as `python -m benchmarks.pages`, or with a part of a case's name (`python -m benchmarks.pages 100.0%`) for some.
"""

import gc
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from functools import partial
from pathlib import Path
from statistics import median

import msgspec

from benchmarks import prepared
from benchmarks.results import Figure, report, table
from exporter.access_log import access_parser
from exporter.ledger.sqlite import SqliteLedger
from exporter.metrics.self_metrics import SelfMetrics
from exporter.metrics.totals import Totals
from exporter.model import Api, Commit, LogEvent, LogGroup, Page, Window
from exporter.pipeline import Watch
from exporter.record import Recorder
from exporter.rules import shipped_rules
from exporter.sources import Source
from exporter.spans import SpanOptions
from exporter.taking import Labelling
from exporter.watch_spec import WatchGroup, WatchSpec

GROUP = LogGroup("default", "eu-west-1", "bench")
API = Api(id="ab12cd34ef", name="orders", stage="prod", region="eu-west-1")
ROUNDS = 7
"""How often each is measured, in turns: on a shared machine speed changes from second to second."""
PART = "pages"


class _Answer(msgspec.Struct):
    events: list[LogEvent]


class _WholeEvent(msgspec.Struct, rename="camel"):
    """An event as AWS sends it, with nothing left out."""

    timestamp: int
    message: str
    event_id: str
    ingestion_time: int
    log_stream_name: str


class _WholeAnswer(msgspec.Struct):
    events: list[_WholeEvent]


_decode = msgspec.json.Decoder(_Answer).decode
_decode_whole = msgspec.json.Decoder(_WholeAnswer).decode


class PreparedSource:
    """Gives prepared pages, decoded when asked for; what lies outside of the window is not left out."""

    def __init__(self, pages: list[bytes], now_ms: int) -> None:
        self._pages = pages
        self._now_ms = now_ms
        self.given = False

    def now_ms(self) -> int:
        return self._now_ms

    def selected(self, pattern: str, messages: Sequence[str]) -> frozenset[str] | None:
        del pattern, messages
        return None

    def pages(self, group: LogGroup, window: Window, pattern: str | None = None, parts: int = 1) -> Iterator[Page]:
        del group, pattern, parts
        first = window.end_ms >= self._now_ms - 1 and not self.given
        for body in self._pages if first else ():
            yield Page(events=_decode(body).events, response_bytes=len(body), server_at_ms=self._now_ms)
        self.given = self.given or first


class ForgetfulLedger(SqliteLedger):
    """Commits nothing: what is left of a poll is to decode, join and judge."""

    def commit(self, commit: Commit) -> None:
        del commit


def watch_of(spec: WatchSpec, source: Source, ledger: SqliteLedger, *, spans: bool) -> Watch:
    """A watch as the daemon makes it, alone."""
    totals = Totals(zero_hold_ms=0, max_series=20_000, now_ms=source.now_ms)
    return Watch(
        spec,
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


def spec_of(access: str | None) -> WatchSpec:
    """What a watch on one group of prepared pages reads."""
    if access is None:
        group = WatchGroup(group=GROUP, kind="execution", apis=(API,))
    else:
        group = WatchGroup(group=GROUP, kind="access", apis=(API,), parser=access_parser(access))
    return WatchSpec(
        name="bench",
        groups=(group,),
        max_request_ms=30_000,
        allowed_lateness_ms=330_000,
        poll_interval_ms=20_000,
        initial_lookback_ms=300_000,
    )


class Rounds:
    """How long some things took, measured in turns, in seconds."""

    def __init__(self, *runs: Callable[[], float], count: int = ROUNDS) -> None:
        self._rounds: list[list[float]] = []
        for _ in range(count):
            taken = []
            for run in runs:
                gc.collect()
                taken.append(run())
            self._rounds.append(taken)

    def least(self, place: int = 0) -> float:
        """The shortest: what else runs on the machine only ever adds."""
        return min(taken[place] for taken in self._rounds)

    def ratio(self, place: int, to: int) -> float:
        """How long one took against another: the median, because both of a round had the same machine."""
        return median(taken[place] / taken[to] for taken in self._rounds)


def decode_seconds(pages: list[bytes]) -> float:
    """Decode pages with msgspec alone."""
    began = time.process_time()
    for body in pages:
        _decode(body)
    return time.process_time() - began


def plain_seconds(pages: list[bytes]) -> float:
    """Decode all fields of pages, and keep them all, as somebody does who begins with msgspec."""
    began = time.process_time()
    kept = [_decode_whole(body) for body in pages]
    took = time.process_time() - began
    assert len(kept) == len(pages)
    return took


def poll_seconds(pages: list[bytes], *, access: str | None, whole: bool) -> float:
    """Decode, join and judge pages, `whole`: and make their spans and commit: one poll of a new watch."""
    ledger_of = SqliteLedger if whole else ForgetfulLedger
    with tempfile.TemporaryDirectory() as directory, closing(ledger_of(Path(directory) / "state.db")) as ledger:
        source = PreparedSource(pages, prepared.START_MS + 120_000)
        watch = watch_of(spec_of(access), source, ledger, spans=whole)
        began = time.process_time()
        outcome = watch.poll()
        took = time.process_time() - began
        assert outcome.outcome == "ok", outcome
        assert source.given
        return took


def cases(share: float = 1) -> Iterator[tuple[str, list[prepared.Line], str | None]]:
    """What is measured: name, lines, access format (None: execution lines)."""
    for failing in (0.001, 0.01, 0.1, 1.0):
        yield (
            f"execution INFO, {failing:.1%} failing",
            prepared.execution_lines(int(4_000 * share), failing=failing, level="INFO"),
            None,
        )
    yield (
        "execution INFO + data trace, 1.0% failing",
        prepared.execution_lines(int(2_000 * share), failing=0.01, level="TRACE"),
        None,
    )
    yield (
        "execution INFO as vended JSON, 1.0% failing",
        prepared.vended(prepared.execution_lines(int(4_000 * share), failing=0.01, level="INFO")),
        None,
    )
    yield "execution ERROR, all failing", prepared.execution_lines(int(4_000 * share), failing=1.0, level="ERROR"), None
    for failing in (0, 0.01):
        lines = prepared.access_lines(int(40_000 * share), failing=failing, form="json")
        yield f"access JSON, {failing:.1%} failing", lines, "auto"
    yield "access CLF, 1.0% failing", prepared.access_lines(int(40_000 * share), failing=0.01, form="clf"), "auto"


def main() -> None:
    """Print the figures and keep them; an argument chooses the cases whose names contain it."""
    wanted = sys.argv[1] if len(sys.argv) > 1 else ""
    found = list(figures(wanted=wanted))
    print(table(found)) if wanted else report(PART, found)


def figures(*, wanted: str = "", share: float = 1, count: int = ROUNDS) -> Iterator[Figure]:
    """Measure the cases, each with that share of its requests, so many rounds."""
    for name, lines, access in cases(share):
        if wanted not in name:
            continue
        bodies = prepared.pages(lines)
        rounds = Rounds(
            partial(decode_seconds, bodies),
            partial(plain_seconds, bodies),
            partial(poll_seconds, bodies, access=access, whole=False),
            partial(poll_seconds, bodies, access=access, whole=True),
            count=count,
        )
        decode, plain, judged, whole = (rounds.least(place) / len(lines) * 1e6 for place in range(4))
        yield Figure(PART, name, "decode alone, an event", decode, "us")
        yield Figure(PART, name, "decode all fields and keep them, an event", plain, "us", rounds.ratio(1, 0), "decode")
        yield Figure(PART, name, "decode, join and judge, an event", judged, "us", rounds.ratio(2, 0), "decode")
        yield Figure(PART, name, "decode, join and judge, again", judged, "us", rounds.ratio(2, 1), "all fields, kept")
        yield Figure(PART, name, "whole poll, an event", whole, "us", rounds.ratio(3, 0), "decode")


if __name__ == "__main__":
    main()
