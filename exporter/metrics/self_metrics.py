"""What the exporter says of itself: whether it polls, how far it is behind, what it could not read, send or keep.

Ordinary prometheus_client objects in a registry of their own, one attribute each, incremented where things happen;
they start at 0 with the process. What ages while nothing happens (the lag of a watch that stalls) is computed when
scraped, so that it is never served as fresh. Labels name what the operator configured or a short constant of the
code, never what a request said.
"""

from collections.abc import Callable, Iterable, Mapping
from platform import python_version
from types import MappingProxyType
from typing import Final, NamedTuple, Protocol

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    GCCollector,
    Histogram,
    PlatformCollector,
    ProcessCollector,
)
from prometheus_client import generate_latest as generate_text
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.core import Metric as Samples
from prometheus_client.openmetrics.exposition import generate_latest as generate_openmetrics
from prometheus_client.registry import Collector

from exporter.metrics import Metric
from exporter.metrics.own import (
    AWS_REQUESTS,
    AWS_RESPONSE_BYTES,
    AWS_THROTTLES,
    BUILD_INFO,
    CONFIG_RELOAD_SUCCESS_TIMESTAMP,
    CONFIG_RELOAD_SUCCESSFUL,
    DISCOVERED_STAGES,
    DISCOVERY_LAST_SUCCESS,
    EFFECTIVE_POLL_INTERVAL,
    FETCHES_FAILURES_ONLY,
    GROUP_UNREADABLE,
    INGESTION_DELAY,
    LAST_SUCCESS,
    LATE_EVENTS,
    LATE_EVIDENCE,
    LOG_EVENTS,
    LOG_RECORDS_DROPPED,
    LOG_RECORDS_REJECTED,
    LOG_RECORDS_SENT,
    OUTBOX_BYTES,
    OUTBOX_LOG_RECORDS,
    OUTBOX_OLDEST,
    OUTBOX_SPANS,
    POLL_DURATION,
    POLLS,
    REQUESTS_SETTLED,
    SERIES,
    SERIES_OVERFLOW,
    SPANS_DROPPED,
    SPANS_REJECTED,
    SPANS_SAMPLED,
    SPANS_SENT,
    STAGE_FINDINGS,
    UNREADABLE_LINES,
    WATCH_RESTARTS,
    WATCH_UP,
    WATERMARK_LAG,
)


class Waiting(Protocol):
    """What the outbox holds: the part of the ledger's `OutboxStats` that is shown."""

    @property
    def spans(self) -> int:
        """How many spans."""

    @property
    def log_records(self) -> int:
        """How many log records."""

    @property
    def bytes(self) -> int:
        """How many bytes they take together."""

    @property
    def oldest_at_ms(self) -> int | None:
        """When the oldest was stored; None if there is none."""


class SeriesCounts(Protocol):
    """What `Totals` tells of its size."""

    def series_counts(self) -> Mapping[str, int]:
        """How many series each metric shows."""

    def overflow_counts(self) -> Mapping[str, int]:
        """How often a series of each metric was turned away."""


class StageFinding(NamedTuple):
    """What discovery found wanting, as the labels of its series."""

    api_id: str
    api_name: str
    stage: str
    kind: str


class SelfMetrics:
    """Every self-metric. `now_ms` is the clock that watermarks are aged by: the service's, where it is known."""

    def __init__(self, *, version: str, now_ms: Callable[[], int]) -> None:
        self.registry: Final = CollectorRegistry()
        ProcessCollector(registry=self.registry)
        PlatformCollector(registry=self.registry)
        GCCollector(registry=self.registry)
        self._make_gauge(BUILD_INFO).labels(version=version, python_version=python_version()).set(1)

        self.watch_up: Final = self._make_gauge(WATCH_UP)
        self.fetches_failures_only: Final = self._make_gauge(FETCHES_FAILURES_ONLY)
        self.poll_duration: Final = self._make_histogram(
            POLL_DURATION, (0.1, 0.25, 0.5, 1, 2.5, 5, 10, 20, 30, 60, 300)
        )
        self.polls: Final = self._make_counter(POLLS)
        self.effective_poll_interval: Final = self._make_gauge(EFFECTIVE_POLL_INTERVAL)
        self.last_success: Final = self._make_gauge(LAST_SUCCESS)
        self.ingestion_delay: Final = self._make_histogram(INGESTION_DELAY, (1, 2.5, 5, 10, 20, 30, 60, 120, 300, 600))
        self.log_events: Final = self._make_counter(LOG_EVENTS)
        self.unreadable_lines: Final = self._make_counter(UNREADABLE_LINES)
        self.late_events: Final = self._make_counter(LATE_EVENTS)
        self.late_evidence: Final = self._make_counter(LATE_EVIDENCE)
        self.requests_settled: Final = self._make_counter(REQUESTS_SETTLED)
        self.watch_restarts: Final = self._make_counter(WATCH_RESTARTS)
        self.aws_requests: Final = self._make_counter(AWS_REQUESTS)
        self.aws_response_bytes: Final = self._make_counter(AWS_RESPONSE_BYTES)
        self.aws_throttles: Final = self._make_counter(AWS_THROTTLES)
        self.spans_sampled: Final = self._make_counter(SPANS_SAMPLED)
        self.spans_sent: Final = self._make_counter(SPANS_SENT)
        self.spans_rejected: Final = self._make_counter(SPANS_REJECTED)
        self.spans_dropped: Final = self._make_counter(SPANS_DROPPED)
        self.log_records_sent: Final = self._make_counter(LOG_RECORDS_SENT)
        self.log_records_rejected: Final = self._make_counter(LOG_RECORDS_REJECTED)
        self.log_records_dropped: Final = self._make_counter(LOG_RECORDS_DROPPED)
        self.config_last_reload_successful: Final = self._make_gauge(CONFIG_RELOAD_SUCCESSFUL)
        self.config_last_reload_success_timestamp: Final = self._make_gauge(CONFIG_RELOAD_SUCCESS_TIMESTAMP)
        self._by_watch: Final = (
            *(self.watch_up, self.polls, self.effective_poll_interval, self.last_success, self.log_events),
            *(self.unreadable_lines, self.late_events, self.late_evidence, self.requests_settled, self.watch_restarts),
            *(self.ingestion_delay, self.fetches_failures_only),
        )

        self._now_ms = now_ms
        self._watermarks: dict[tuple[str, str], int] = {}
        self._unreadable: dict[str, Mapping[str, str]] = {}
        self._compute(self._reading)
        self._discovered = _Discovered()
        self._compute(self._discovery)

    def add_watch(self, watch: str, groups: Iterable[str]) -> None:
        """Start what has no further label at 0, so that its first increase is seen."""
        for by_watch in (self.watch_up, self.last_success, self.late_evidence):
            by_watch.labels(watch)
        for group in groups:
            self.log_events.labels(watch, group)
            self.late_events.labels(watch, group)

    def remove_watch(self, watch: str) -> None:
        """Drop every series of a watch that is gone."""
        for metric in self._by_watch:
            metric.remove_by_labels({"watch": watch})
        self._unreadable.pop(watch, None)
        for key in [key for key in self._watermarks.copy() if key[0] == watch]:
            self._watermarks.pop(key, None)

    def set_unreadable(self, watch: str, groups: Mapping[str, str]) -> None:
        """Tell which log groups of a watch its last poll could not read, with the reason."""
        self._unreadable[watch] = groups

    def set_watermark(self, watch: str, group: str, at_ms: int) -> None:
        """Tell how far a group has been read for good; its lag grows by itself from here on."""
        self._watermarks[watch, group] = at_ms

    def set_discovered(
        self, *, stages: Mapping[tuple[str, str], int], findings: Iterable[StageFinding], succeeded_at_ms: int | None
    ) -> None:
        """Tell what discovery knows now; it takes the place of all it knew before.

        `stages`: how many, by account and region. `succeeded_at_ms`: when everything was last looked at; None if never.
        """
        self._discovered = _Discovered(dict(stages), frozenset(findings), succeeded_at_ms)

    def show_outbox(self, stats: Callable[[], Waiting]) -> None:
        """Show the outbox; `stats` is asked at every scrape, so it must answer at once and never raise. Call once."""

        def outbox() -> Iterable[Samples]:
            waiting = stats()
            shown = (OUTBOX_SPANS, OUTBOX_LOG_RECORDS, OUTBOX_BYTES, OUTBOX_OLDEST)
            spans, log_records, size, oldest = map(_family_of, shown)
            spans.add_metric([], waiting.spans)
            log_records.add_metric([], waiting.log_records)
            size.add_metric([], waiting.bytes)
            if waiting.oldest_at_ms is not None:
                oldest.add_metric([], waiting.oldest_at_ms / 1000)
            return spans, log_records, size, oldest

        self._compute(outbox)

    def show_series(self, totals: SeriesCounts) -> None:
        """Show how many series the product metrics have. Call once."""

        def series() -> Iterable[Samples]:
            shown = _family_of(SERIES)
            for metric, count in totals.series_counts().items():
                shown.add_metric([metric], count)
            overflow = CounterMetricFamily(SERIES_OVERFLOW.name, SERIES_OVERFLOW.help, labels=SERIES_OVERFLOW.labels)
            for metric, count in totals.overflow_counts().items():
                overflow.add_metric([metric], count)
            return shown, overflow

        self._compute(series)

    def render(self, *, openmetrics: bool) -> bytes:
        """All self-metrics in OpenMetrics 1.0 (closed by `# EOF`) or the Prometheus text format 0.0.4."""
        if not openmetrics:
            return generate_text(self._view)
        rendered: bytes = generate_openmetrics(self._view)  # type: ignore[no-untyped-call]
        return rendered

    def _reading(self) -> Iterable[Samples]:
        lag, unreadable = _family_of(WATERMARK_LAG), _family_of(GROUP_UNREADABLE)
        now_ms = self._now_ms()
        for labels, at_ms in self._watermarks.copy().items():
            lag.add_metric(labels, max(0, now_ms - at_ms) / 1000)
        for watch, groups in self._unreadable.copy().items():
            for group, reason in groups.items():
                unreadable.add_metric((watch, group, reason), 1)
        return lag, unreadable

    def _discovery(self) -> Iterable[Samples]:
        known = self._discovered
        last_success, stages, findings = (
            _family_of(metric) for metric in (DISCOVERY_LAST_SUCCESS, DISCOVERED_STAGES, STAGE_FINDINGS)
        )
        if known.succeeded_at_ms is not None:
            last_success.add_metric([], known.succeeded_at_ms / 1000)
        for place, count in known.stages.items():
            stages.add_metric(place, count)
        for finding in known.findings:
            findings.add_metric(finding, 1)
        return last_success, stages, findings

    def _compute(self, read: Callable[[], Iterable[Samples]]) -> None:
        self.registry.register(_Computed(read))

    @property
    def _view(self) -> Collector:
        return _Computed(lambda: map(_without_created, self.registry.collect()))

    def _make_counter(self, metric: Metric) -> Counter:
        return Counter(metric.name, metric.help, metric.labels, registry=self.registry)

    def _make_gauge(self, metric: Metric) -> Gauge:
        return Gauge(metric.name, metric.help, metric.labels, registry=self.registry)

    def _make_histogram(self, metric: Metric, buckets: tuple[float, ...]) -> Histogram:
        return Histogram(metric.name, metric.help, metric.labels, buckets=buckets, registry=self.registry)


class _Discovered(NamedTuple):
    """What discovery told last: shown as a whole or not at all."""

    stages: Mapping[tuple[str, str], int] = MappingProxyType({})
    findings: frozenset[StageFinding] = frozenset()
    succeeded_at_ms: int | None = None


class _Computed(Collector):
    """Samples made when they are asked for."""

    def __init__(self, read: Callable[[], Iterable[Samples]]) -> None:
        self._read = read

    def collect(self) -> Iterable[Samples]:
        return self._read()


def _family_of(metric: Metric) -> GaugeMetricFamily:
    return GaugeMetricFamily(metric.name, metric.help, labels=metric.labels)


def _without_created(samples: Samples) -> Samples:
    # These start with the process, whose start time is exposed: a `_created` for each would double the series.
    samples.samples = [sample for sample in samples.samples if not sample.name.endswith("_created")]
    return samples
