"""Recorded lines through the real pipeline: the daemon's watch on a source that stands still, and a ledger for once.

The clock shows an instant at which nothing can be late any more, so everything is read for good and judged with all of
its lines: the counts are those that a daemon comes to which misses nothing. The same lines give the same output.
"""

import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Self, get_args

from exporter.ledger.sqlite import SqliteLedger
from exporter.metrics.self_metrics import SelfMetrics
from exporter.metrics.totals import Totals
from exporter.model import LogEvent, LogGroup, Signal
from exporter.otlp import connect
from exporter.otlp_settings import OtlpSettings
from exporter.outbox import Outbox
from exporter.pipeline import Watch
from exporter.record import Recorder
from exporter.replay.reading import ReplayError
from exporter.replay.span_lines import span_lines
from exporter.rules import RuleSet
from exporter.sources.files import RecordedSource
from exporter.spans import SpanOptions
from exporter.watch_spec import WatchSpec

MOST_DAYS = 400
"""A file whose lines are years apart is dated wrongly somewhere."""

_DAY_MS = 86_400_000
_MARGIN_MS = 5 * 60_000
_UNBOUNDED = 1 << 50
_SEND_SECONDS = 600.0


class Replay:
    """One replay, as a context manager: its ledger lives in a temporary directory until it ends."""

    def __init__(
        self,
        specs: Sequence[WatchSpec],
        events: Mapping[LogGroup, Sequence[LogEvent]],
        *,
        rules: RuleSet,
        wants: Callable[[int | None, str], bool],
        max_series: int,
        span_options: SpanOptions | None,
    ) -> None:
        """`wants(status, cause)`: whether such a failure is counted. `span_options` None: no spans are made."""
        self._specs = specs
        self._events = events
        self._rules = rules
        self._wants = wants
        self._span_options = span_options
        times = [event.at_ms for found in events.values() for event in found]
        if not times:
            raise ReplayError("there is no log line in what was given")
        self._first_ms = min(times)
        if max(times) - self._first_ms > MOST_DAYS * _DAY_MS:
            raise ReplayError(f"the lines are more than {MOST_DAYS} days apart; replay them in parts")
        slowest_ms = max(2 * spec.max_request_ms + spec.allowed_lateness_ms for spec in specs)
        self._now_ms = max(times) + slowest_ms + _MARGIN_MS
        self._totals = Totals(zero_hold_ms=0, max_series=max_series, now_ms=lambda: self._now_ms)
        self._open = ExitStack()

    def __enter__(self) -> Self:
        """Read everything. Raises `LedgerError` if there is no room for a ledger."""
        with self._open:
            directory = self._open.enter_context(tempfile.TemporaryDirectory(prefix="apigateway-replay-"))
            self._ledger = SqliteLedger(Path(directory) / "state.db")
            self._open.callback(self._ledger.close)
            source = RecordedSource(self._events, now_ms=self._now_ms)
            self_metrics = SelfMetrics(version="", now_ms=lambda: self._now_ms)
            for spec in self._specs:
                self._read(spec, source, self_metrics)
            self._open = self._open.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        """Take the ledger away."""
        self._open.close()

    def metrics(self, *, openmetrics: bool) -> str:
        """All series, in OpenMetrics or the Prometheus text format."""
        return self._totals.render(openmetrics=openmetrics).decode() + ("# EOF\n" if openmetrics else "")

    def span_lines(self) -> Iterator[str]:
        """Every request of spans (or log records) as a line of OTLP's JSON."""
        for signal in get_args(Signal):
            for row in self._ledger.outbox_head(_UNBOUNDED, signal):
                yield span_lines(row)

    def send(self, receivers: Sequence[OtlpSettings]) -> "Sent":
        """Send the spans; what a receiver does not take at once is not tried again for ever."""
        sent = Sent()
        for settings in receivers:
            outbox = Outbox(
                self._ledger, connect(settings), sent, max_bytes=_UNBOUNDED, signal=settings.signal, jitter=lambda: 0.0
            )
            outbox.flush(_SEND_SECONDS)
        stats = self._ledger.outbox_stats()
        sent.waiting = stats.spans + stats.log_records
        return sent

    def _read(self, spec: WatchSpec, source: RecordedSource, self_metrics: SelfMetrics) -> None:
        watch = Watch(
            replace(spec, initial_lookback_ms=self._now_ms - self._first_ms + spec.max_request_ms + _MARGIN_MS),
            source=source,
            ledger=self._ledger,
            totals=self._totals,
            self_metrics=self_metrics,
            rules=self._rules,
            recorder=Recorder(
                wants=self._wants,
                admit=self._totals.admit,
                labelling=spec.labelling,
                span_options=self._span_options,
            ),
            ticks=lambda: 0.0,  # a poll that takes no time reads its whole backlog
            stopping=lambda: False,
        )
        outcome = watch.poll()
        if outcome.outcome != "ok":
            raise ReplayError(f"watch {spec.name} could not be read to its end: {outcome.message or outcome.outcome}")


class Sent:
    """What became of the spans."""

    def __init__(self) -> None:
        self.taken = 0
        self.lost = 0
        """Thrown away by the receiver, or refused by it one by one."""
        self.waiting = 0
        """Not taken: the receiver cannot be reached, or refuses everything."""

    def sent(self, signal: Signal, count: int) -> None:  # noqa: ARG002
        """See `outbox.SpanCounts`."""
        self.taken += count

    def rejected(self, signal: Signal, count: int) -> None:  # noqa: ARG002
        """See `outbox.SpanCounts`."""
        self.lost += count

    def dropped(self, signal: Signal, reason: str, count: int) -> None:  # noqa: ARG002
        """See `outbox.SpanCounts`."""
        self.lost += count
