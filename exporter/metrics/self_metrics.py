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

from exporter.metrics import Kind, Metric


def _definitions(kind: Kind) -> Callable[[str, tuple[str, ...], str], Metric]:
    return lambda name, labels, explanation: Metric(name=name, kind=kind, labels=labels, help=explanation)


_counter, _gauge, _histogram = map(_definitions, (Kind.COUNTER, Kind.GAUGE, Kind.HISTOGRAM))
_GROUP: Final = ("watch", "group")

BUILD_INFO: Final = _gauge(
    "aws_apigateway_exporter_build_info",
    ("version", "python_version"),
    "Always 1: the version that runs.",
)
WATCH_UP: Final = _gauge(
    "aws_apigateway_exporter_watch_up",
    ("watch",),
    "1 if the last poll of the watch read all it meant to read, else 0.",
)
FETCHES_FAILURES_ONLY: Final = _gauge(
    "aws_apigateway_exporter_fetches_failures_only",
    ("watch",),
    "Of watches whose `fetch` is not `all`: 1 while only lines of failed requests are fetched, so that there are no "
    "totals, else 0.",
)
POLL_DURATION: Final = _histogram(
    "aws_apigateway_exporter_poll_duration_seconds",
    (),
    "How long polls took, from the first call to the last commit.",
)
POLLS: Final = _counter(
    "aws_apigateway_exporter_polls_total",
    ("watch", "outcome"),
    "Polls by how they ended.",
)
EFFECTIVE_POLL_INTERVAL: Final = _gauge(
    "aws_apigateway_exporter_effective_poll_interval_seconds",
    ("watch",),
    "Time between polls after stretching it to fit the call budget.",
)
LAST_SUCCESS: Final = _gauge(
    "aws_apigateway_exporter_last_success_timestamp_seconds",
    ("watch",),
    "When a poll of the watch last read all it meant to read; 0 before the first.",
)
WATERMARK_LAG: Final = _gauge(
    "aws_apigateway_exporter_watermark_lag_seconds",
    _GROUP,
    "Age of the instant up to which the log group has been read for good; computed when scraped.",
)
GROUP_UNREADABLE: Final = _gauge(
    "aws_apigateway_exporter_group_unreadable",
    (*_GROUP, "reason"),
    "Always 1: a log group that cannot be read at the moment, and why (denied, missing, throttled and so on).",
)
INGESTION_DELAY: Final = _histogram(
    "aws_apigateway_exporter_ingestion_delay_seconds",
    ("watch",),
    "Time from a log line's event time to its ingestion by CloudWatch, the greatest of a poll and group.",
)
LOG_EVENTS: Final = _counter(
    "aws_apigateway_exporter_log_events_total",
    _GROUP,
    "Log events read, those read again included.",
)
UNREADABLE_LINES: Final = _counter(
    "aws_apigateway_exporter_unreadable_lines_total",
    (*_GROUP, "reason"),
    "Log lines that could not be read as what they should be.",
)
LATE_EVENTS: Final = _counter(
    "aws_apigateway_exporter_late_events_total",
    _GROUP,
    "Log events that came later than allowed_lateness and were not counted, as the hourly audit found them.",
)
LATE_EVIDENCE: Final = _counter(
    "aws_apigateway_exporter_late_evidence_total",
    ("watch",),
    "Execution lines that came after their request was counted; its cause might have been more exact.",
)
REQUESTS_SETTLED: Final = _counter(
    "aws_apigateway_exporter_requests_settled_total",
    ("watch", "reason"),
    "Failed requests whose cause was decided, by why no more lines were awaited.",
)
AWS_REQUESTS: Final = _counter(
    "aws_apigateway_exporter_aws_requests_total",
    ("account", "region", "operation", "code"),
    "Calls to AWS, retries included, by operation and code of the answer.",
)
AWS_RESPONSE_BYTES: Final = _counter(
    "aws_apigateway_exporter_aws_response_bytes_total",
    ("account", "region"),
    "Bytes of log data that AWS answered with.",
)
AWS_THROTTLES: Final = _counter(
    "aws_apigateway_exporter_aws_throttles_total",
    ("account", "region", "operation"),
    "Calls that AWS throttled.",
)
WATCH_RESTARTS: Final = _counter(
    "aws_apigateway_exporter_watch_restarts_total",
    ("watch", "reason"),
    "Times a watch dropped its memory and went on from its last commit.",
)
OUTBOX_SPANS: Final = _gauge("aws_apigateway_exporter_outbox_spans", (), "Spans waiting to be sent.")
OUTBOX_BYTES: Final = _gauge(
    "aws_apigateway_exporter_outbox_bytes", (), "Bytes of spans and log records waiting to be sent."
)
OUTBOX_OLDEST: Final = _gauge(
    "aws_apigateway_exporter_outbox_oldest_timestamp_seconds",
    (),
    "When the oldest span or log record waiting to be sent was stored; absent while none waits.",
)
OUTBOX_LOG_RECORDS: Final = _gauge("aws_apigateway_exporter_outbox_log_records", (), "Log records waiting to be sent.")
SPANS_SAMPLED: Final = _counter(
    "aws_apigateway_exporter_spans_sampled_total",
    ("cause", "reason"),
    "Failed requests that were counted but made no trace, because their cause was over its budget or has none.",
)
SPANS_SENT: Final = _counter("aws_apigateway_exporter_spans_sent_total", (), "Spans that the OTLP receiver took.")
SPANS_REJECTED: Final = _counter(
    "aws_apigateway_exporter_spans_rejected_total",
    (),
    "Spans that the OTLP receiver refused for good; sending them again would not help.",
)
SPANS_DROPPED: Final = _counter(
    "aws_apigateway_exporter_spans_dropped_total",
    ("reason",),
    "Spans given up without an answer from the OTLP receiver.",
)
LOG_RECORDS_SENT: Final = _counter(
    "aws_apigateway_exporter_log_records_sent_total", (), "Log records that the OTLP receiver took."
)
LOG_RECORDS_REJECTED: Final = _counter(
    "aws_apigateway_exporter_log_records_rejected_total",
    (),
    "Log records that the OTLP receiver refused for good; sending them again would not help.",
)
LOG_RECORDS_DROPPED: Final = _counter(
    "aws_apigateway_exporter_log_records_dropped_total",
    ("reason",),
    "Log records given up without an answer from the OTLP receiver.",
)
SERIES: Final = _gauge(
    "aws_apigateway_exporter_series",
    ("metric",),
    "Series that a product metric shows now.",
)
SERIES_OVERFLOW: Final = _counter(
    "aws_apigateway_exporter_series_overflow_total",
    ("metric",),
    "Times a new series was counted in an overflow series because its metric had reached its cap.",
)
CONFIG_RELOAD_SUCCESSFUL: Final = _gauge(
    "aws_apigateway_exporter_config_last_reload_successful",
    (),
    "1 if the configuration in force is the last one that was asked for, else 0.",
)
CONFIG_RELOAD_SUCCESS_TIMESTAMP: Final = _gauge(
    "aws_apigateway_exporter_config_last_reload_success_timestamp_seconds",
    (),
    "When a configuration was last loaded successfully.",
)

DISCOVERY_LAST_SUCCESS: Final = _gauge(
    "aws_apigateway_exporter_discovery_last_success_timestamp_seconds",
    (),
    "When discovery last looked at every account and region without a refusal; absent before the first time.",
)
DISCOVERED_STAGES: Final = _gauge(
    "aws_apigateway_exporter_discovered_stages",
    ("account", "region"),
    "Stages that discovery knows and takes.",
)
STAGE_FINDINGS: Final = _gauge(
    "aws_apigateway_exporter_stage_findings",
    ("api_id", "api_name", "stage", "kind"),
    "Always 1: something that a stage lacks for its failures to be told, or that discovery could not see.",
)

OWN: Final = (
    *(BUILD_INFO, WATCH_UP, POLL_DURATION, POLLS, EFFECTIVE_POLL_INTERVAL, LAST_SUCCESS, WATERMARK_LAG),
    *(GROUP_UNREADABLE, FETCHES_FAILURES_ONLY),
    *(INGESTION_DELAY, LOG_EVENTS, UNREADABLE_LINES, LATE_EVENTS, LATE_EVIDENCE, REQUESTS_SETTLED, AWS_REQUESTS),
    *(AWS_RESPONSE_BYTES, AWS_THROTTLES, WATCH_RESTARTS, OUTBOX_SPANS, OUTBOX_LOG_RECORDS, OUTBOX_BYTES, OUTBOX_OLDEST),
    *(SPANS_SAMPLED, SPANS_SENT, SPANS_REJECTED, SPANS_DROPPED),
    *(LOG_RECORDS_SENT, LOG_RECORDS_REJECTED, LOG_RECORDS_DROPPED, SERIES, SERIES_OVERFLOW, CONFIG_RELOAD_SUCCESSFUL),
    *(CONFIG_RELOAD_SUCCESS_TIMESTAMP, DISCOVERY_LAST_SUCCESS, DISCOVERED_STAGES, STAGE_FINDINGS),
)
"""Every metric about the exporter itself, besides `process_*` and `python_*`."""


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
