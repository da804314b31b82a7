"""The metrics about the exporter itself: their names, labels and help texts.

They are the contract with users; docs/metrics.md has a row for each. What they are set to is decided where things
happen, by way of `SelfMetrics`.
"""

from collections.abc import Callable
from typing import Final

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
    "Calls to AWS, retries included, by operation and code of the answer, or name of the error where there was none.",
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
