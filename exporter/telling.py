"""What a watch says of itself while it works: its self-metrics, and log lines when something of it changes.

Told after the fact, in the words of docs/metrics.md; it decides nothing and keeps nothing.
"""

from collections import Counter
from collections.abc import Mapping, Sequence

import structlog

from exporter.memory import Draft, Memory, Outcome
from exporter.metrics.self_metrics import SelfMetrics
from exporter.model import LogGroup

_log = structlog.get_logger(__name__)


class Teller:
    """Tells of one watch."""

    def __init__(self, self_metrics: SelfMetrics, watch: str, groups: Sequence[LogGroup]) -> None:
        self._metrics = self_metrics
        self._watch = watch
        self_metrics.add_watch(watch, [group.name for group in groups])

    def polled(self, outcome: str, seconds: float, unreadable: Mapping[str, str], at_ms: int) -> None:
        """A poll ended. `unreadable`: names of groups, with the reason; `at_ms`: by the service's clock."""
        self._metrics.polls.labels(self._watch, outcome).inc()
        self._metrics.poll_duration.observe(seconds)
        if outcome != "stopped":
            self._metrics.watch_up.labels(self._watch).set(1 if outcome == "ok" else 0)
            self._metrics.set_unreadable(self._watch, unreadable)
        if outcome in {"ok", "left_out"}:
            self._metrics.last_success.labels(self._watch).set(at_ms / 1000)

    def restarted(self, reason: str) -> None:
        """The watch forgot what was not committed."""
        self._metrics.watch_restarts.labels(self._watch, reason).inc()

    def fetches(self, *, failures_only: bool, changed: bool) -> None:
        """Which lines are fetched."""
        if changed:
            _log.info("fetching changed", watch=self._watch, fetch="failures" if failures_only else "all")
        self._metrics.fetches_failures_only.labels(self._watch).set(failures_only)

    def listed(self, group: LogGroup, events: int, delay_ms: int | None = None) -> None:
        """A listing brought so many events, the latest of the new ones with such an ingestion delay."""
        self._metrics.log_events.labels(self._watch, group.name).inc(events)
        if delay_ms is not None:
            self._metrics.ingestion_delay.labels(self._watch).observe(delay_ms / 1000)

    def audited(self, group: LogGroup, late: int) -> None:
        """A minute that was read for good had so many lines more."""
        self._metrics.late_events.labels(self._watch, group.name).inc(late)

    def left_out(self, before: Mapping[LogGroup, str], now: Mapping[LogGroup, str]) -> None:
        """Which execution groups cannot be read, and why."""
        for group, reason in now.items():
            if before.get(group) != reason:
                _log.warning("log group cannot be read", watch=self._watch, group=group.name, reason=reason)
        for group in before:
            if group not in now:
                _log.info("log group can be read again", watch=self._watch, group=group.name)

    def committed(self, outcome: Outcome, draft: Draft, memory: Memory) -> None:
        """A slice was committed."""
        for reason, count in Counter(item.reason.value for item in outcome.judged.settled).items():
            self._metrics.requests_settled.labels(self._watch, reason).inc(count)
        if outcome.judged.late_evidence:
            self._metrics.late_evidence.labels(self._watch).inc(outcome.judged.late_evidence)
        for (cause, why), count in outcome.recorded.not_told.items():
            self._metrics.spans_sampled.labels(cause, why).inc(count)
        for key, amount in draft.unreadable.items():
            group, reason = key.labels
            self._metrics.unreadable_lines.labels(self._watch, group, reason).inc(amount)
        for group_key, progress in memory.progress.items():
            self._metrics.set_watermark(self._watch, group_key.name, progress.watermark_ms)
