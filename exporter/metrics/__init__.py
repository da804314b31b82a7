"""What is counted: every product metric's name, kind, labels and help, once, and the keys its series are counted under.

A series is a `CounterKey`: a metric's name and label values in the order declared here, the API's three always first.
The functions below are the only place that makes such keys, so that no caller can invent a label or, from what a
request says, a label's value. This package never increments anything: numbers live in the ledger; `totals.py` is the
view of them that a scrape sees, `self_metrics.py` tells of the exporter itself.
"""

from bisect import bisect_left
from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum
from functools import lru_cache
from typing import Final

from exporter.model import UNKNOWN, Api, CounterKey

ALL: Final = "__all__"
"""The value of a label that the configuration switched off: every method, every resource together.

The label stays, because an empty one would mean an absent one to Prometheus, and queries that name it keep working.
"""

API_LABELS: Final = ("api_id", "api_name", "stage")
"""The first labels of every product metric: whose series it is."""


class Kind(StrEnum):
    """A metric's type, as both text formats spell it."""

    COUNTER = "counter"
    GAUGE = "gauge"
    HISTOGRAM = "histogram"


@dataclass(frozen=True, kw_only=True, slots=True)
class Metric:
    """A metric as users see it."""

    name: str
    """In full; a counter's ends in `_total`; a histogram's is without `_bucket`, `_sum` and `_count`."""
    kind: Kind
    labels: tuple[str, ...] = ()
    help: str
    """One sentence, without quotes, backslashes and line ends: both formats print it as it stands."""


STAGE_FAILURES: Final = Metric(
    name="aws_apigateway_stage_failures_total",
    kind=Kind.COUNTER,
    labels=(*API_LABELS, "cause", "category"),
    help="Failed requests by cause; every cause of every known stage starts at 0, so alert on this one.",
)
FAILED_REQUESTS: Final = Metric(
    name="aws_apigateway_failed_requests_total",
    kind=Kind.COUNTER,
    labels=(*API_LABELS, "method", "resource", "status", "cause"),
    help="Failed requests by method, resource template, status and cause.",
)
REQUESTS: Final = Metric(
    name="aws_apigateway_requests_total",
    kind=Kind.COUNTER,
    labels=(*API_LABELS, "method", "resource", "status"),
    help="All requests that API Gateway logged, failed or not, by method, resource template and status.",
)
RESPONSE_LATENCY: Final = Metric(
    name="aws_apigateway_response_latency_seconds",
    kind=Kind.HISTOGRAM,
    labels=API_LABELS,
    help="Time from a request's arrival at API Gateway to its response, as API Gateway logged it.",
)
INTEGRATION_LATENCY: Final = Metric(
    name="aws_apigateway_integration_latency_seconds",
    kind=Kind.HISTOGRAM,
    labels=API_LABELS,
    help="Time that the integration (Lambda, HTTP backend, AWS service) took to answer, as API Gateway logged it.",
)
STAGE_INFO: Final = Metric(
    name="aws_apigateway_stage_info",
    kind=Kind.GAUGE,
    labels=(
        *API_LABELS,
        "api_type",
        "region",
        "account_id",
        "deployment_id",
        "access_log_group",
        "execution_log_group",
        "execution_log_level",
        "data_trace",
    ),
    help="Always 1: what is known of a stage, to be joined by its api_id and stage.",
)

COUNTED: Final = (STAGE_FAILURES, FAILED_REQUESTS, REQUESTS, RESPONSE_LATENCY, INTEGRATION_LATENCY)
"""The metrics whose numbers the ledger keeps, in the order they are rendered in."""

PRODUCT: Final = (*COUNTED, STAGE_INFO)
"""Every metric about the APIs observed."""

BUCKETS_MS: Final = (
    *(50, 100, 250, 500, 1_000, 2_500, 5_000, 10_000, 15_000, 20_000, 25_000),
    # 29 s is the default integration timeout: 28 s shows near misses, what timed out lies between 29 and 30 s,
    # an HTTP API's (30 s) just above; beyond are raised limits (300 s) and response streaming (900 s).
    *(28_000, 29_000, 30_000, 60_000, 120_000, 300_000, 900_000),
)
"""Upper bounds (included) of the latency buckets; one without bound follows."""

BUCKETS: Final = (*(str(bound / 1000) for bound in BUCKETS_MS), "+Inf")
"""The same as values of the label `le`: canonical floats in seconds, as OpenMetrics wants them."""

MAX_LATENCY_MS: Final = 86_400_000
"""No request lasts a day: a greater number is a broken line and must not poison a sum for ever."""

_STATUSES: Final = {status: str(status) for status in range(100, 600)}


def stage_failures(api: Api, cause: str, category: str) -> CounterKey:
    """The series of one cause at one stage; also what is seeded, once for each cause, when a stage becomes known."""
    return CounterKey(STAGE_FAILURES.name, (api.id, api.name, api.stage, cause, category))


def failed_requests(api: Api, method: str, resource: str, status: int | None, cause: str) -> CounterKey:
    """The series of failed requests in detail; `method` and `resource` as `route_labels` gave them."""
    labels = (api.id, api.name, api.stage, method, resource, status_label(status), cause)
    return CounterKey(FAILED_REQUESTS.name, labels)


def requests(api: Api, method: str, resource: str, status: int | None) -> CounterKey:
    """The series of all requests; `method` and `resource` as `route_labels` gave them."""
    return CounterKey(REQUESTS.name, (api.id, api.name, api.stage, method, resource, status_label(status)))


def latencies(histogram: Metric, api: Api, observed: Iterable[tuple[int, int]]) -> dict[CounterKey, int]:
    """What observations (ms, and how many) add to a histogram (`RESPONSE_LATENCY`, `INTEGRATION_LATENCY`).

    Buckets are counted on their own (an observation lands in exactly one); rendering cumulates them. The sum is in ms.
    """
    counts = [0] * len(BUCKETS)
    sum_ms = 0
    for ms, count in observed:
        bounded_ms = ms if 0 <= ms <= MAX_LATENCY_MS else min(max(ms, 0), MAX_LATENCY_MS)
        counts[bisect_left(BUCKETS_MS, bounded_ms)] += count
        sum_ms += bounded_ms * count
    buckets, total = _histogram_keys(histogram.name, api.id, api.name, api.stage)
    added = {key: count for key, count in zip(buckets, counts, strict=True) if count}
    return {**added, total: sum_ms} if added else {}


@lru_cache(maxsize=4096)  # two histograms for each stage
def _histogram_keys(name: str, *labels: str) -> tuple[tuple[CounterKey, ...], CounterKey]:
    buckets = tuple(CounterKey(f"{name}_bucket", (*labels, le)) for le in BUCKETS)
    return buckets, CounterKey(f"{name}_sum", labels)


def route_labels(method: str, resource: str, *, by_method: bool, by_resource: bool) -> tuple[str, str]:
    """The labels `method` and `resource`, each replaced by `ALL` where the configuration switched it off."""
    return method if by_method else ALL, resource if by_resource else ALL


def status_label(status: int | None) -> str:
    """A status as label value: `100` to `599`, anything else is `unknown`."""
    return UNKNOWN if status is None else _STATUSES.get(status, UNKNOWN)


@dataclass(frozen=True, kw_only=True, slots=True)
class StageInfo:
    """What is known of a stage beyond what it counts: one `aws_apigateway_stage_info` series."""

    api: Api
    deployment_id: str = UNKNOWN
    access_log_group: str = UNKNOWN
    execution_log_group: str = UNKNOWN
    execution_log_level: str = UNKNOWN
    """`OFF`, `ERROR` or `INFO`, as API Gateway names it."""
    data_trace: bool | None = None
    """Whether the stage logs whole requests and responses."""

    def label_values(self) -> tuple[str, ...]:
        """The values in the order of `STAGE_INFO.labels`."""
        api = self.api
        return (
            *(api.id, api.name, api.stage, api.type, api.region, api.account_id),
            *(self.deployment_id, self.access_log_group, self.execution_log_group, self.execution_log_level),
            UNKNOWN if self.data_trace is None else str(self.data_trace).lower(),
        )
