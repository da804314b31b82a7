"""What a settled failure adds: counts, exemplars, and the spans that are to be sent.

It turns failures into the increments and the outbox rows of one commit; it neither commits nor sends. What the user
does not want to hear of (`failures:`) is left out here, after its cause is final. Counters count every failure; how
many of them become traces is bounded here.
"""

import sys
import threading
from collections import Counter, OrderedDict
from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from exporter import metrics
from exporter.model import UNKNOWN, AccessGlance, CounterKey, Exemplar, RequestTimeline, SpanBatch, Step
from exporter.settle import Settled
from exporter.span_batch import FailureSpans, pack
from exporter.spans import SpanOptions, failure_spans, span_ids
from exporter.taking import Admit, Labelling

_SPANS_A_TRACE = 100
"""How many failures may join one caller-chosen trace before they get traces of their own."""
_MOST_CROWDS = 10_000
_SAMPLING_STEP = 10
"""Beyond its budget one failure in so many becomes a trace; beyond so many budgets, one in its square, and so on."""
_MINUTE_MS = 60_000

Wants = Callable[[int | None, str], bool]
Budget = Callable[[int | None, str], int]


class Told(NamedTuple):
    """A failure that counts, and the trace that is made of it, if any."""

    settled: Settled
    trace_id: str | None


@dataclass(kw_only=True, slots=True)
class Recorded:
    """What the failures of one slice add."""

    increments: dict[CounterKey, int] = field(default_factory=dict)
    exemplars: dict[CounterKey, Exemplar] = field(default_factory=dict)
    spans: tuple[SpanBatch, ...] = ()
    not_told: Counter[tuple[str, str]] = field(default_factory=Counter)
    """Failures without a trace, by cause and reason: `over_budget` or `no_budget`."""
    told: list[Told] = field(default_factory=list)
    """The failures themselves."""
    crowds: Counter[Hashable] = field(default_factory=Counter)
    """Failures by what they were counted under to bound their traces."""


class Recorder:
    """Makes `Recorded` of failures, by what the configuration wants; `keep` tells it which of them are durable."""

    def __init__(
        self,
        *,
        wants: Wants,
        admit: Admit,
        labelling: Labelling,
        span_options: SpanOptions | None,
        budget: Budget = lambda _status, _cause: sys.maxsize,
        show: Callable[[Sequence[Told]], None] = lambda _: None,
    ) -> None:
        """Failures are counted if `wants(status, cause)`; `span_options` None: no spans are made.

        `budget(status, cause)`: how many failures of one stage, cause and minute become traces before they are sampled.
        `show` is handed every failure that counts, once it is durable.
        """
        self._wants = wants
        self._admit = admit
        self._labelling = labelling
        self._span_options = span_options
        self._budget = budget
        self._show = show
        self._crowds = _Crowds()

    def record(self, settled: Sequence[Settled]) -> Recorded:
        """What `settled` adds to the counters and to the outbox."""
        recorded = Recorded()
        spans: list[FailureSpans] = []
        for item in sorted(settled, key=lambda item: item.unit.first_ms):
            failure = item.failure
            status = failure.timeline.status
            if not self._wants(status, failure.cause):
                continue
            keys = (
                self._admit(metrics.stage_failures(failure.timeline.api, failure.cause, failure.category)),
                self._admit(
                    self._labelling.failed_requests(
                        failure.timeline.api, route_of(failure.timeline), status, failure.cause
                    )
                ),
            )
            for key in keys:
                recorded.increments[key] = recorded.increments.get(key, 0) + 1
            trace_id = None
            if self._span_options is not None and (told := self._tell(item, self._span_options, recorded)) is not None:
                exemplar, failed = told
                trace_id = exemplar.trace_id
                spans.append(failed)
                for key in keys:
                    recorded.exemplars[key] = exemplar
            recorded.told.append(Told(item, trace_id))
        recorded.spans = pack(spans)
        return recorded

    def keep(self, recorded: Recorded) -> None:
        """Note that `recorded` is committed: from now on its failures count against budgets, and may be shown."""
        self._crowds.add(recorded.crowds)
        self._show(recorded.told)

    def _tell(self, item: Settled, options: SpanOptions, recorded: Recorded) -> tuple[Exemplar, FailureSpans] | None:
        """Make the trace of a failure, unless it is sampled away."""
        failure = item.failure
        first_ms = item.unit.first_ms
        api, status = failure.timeline.api, failure.timeline.status
        # The minute is the request's own: whichever poll sees it, a failure competes with those of its time.
        count = self._count((api.id, api.stage, failure.cause, first_ms // _MINUTE_MS), recorded)
        budget = self._budget(status, failure.cause)
        sampled_from = _sampled_from(count, budget)
        # The span id is the same wherever the trace is placed.
        if sampled_from == 0 or (sampled_from > 1 and int(span_ids(failure, options).span_id, 16) % sampled_from):
            recorded.not_told[failure.cause, "over_budget" if budget else "no_budget"] += 1
            return None
        made = failure_spans(
            failure,
            options,
            reused_id=item.reused_id,
            is_crowded=lambda trace_id: self._count(trace_id, recorded) > _SPANS_A_TRACE,
            sampled_from=sampled_from,
        )
        return Exemplar(*made.root, first_ms), made

    def _count(self, key: Hashable, recorded: Recorded) -> int:
        recorded.crowds[key] += 1
        return self._crowds.count(key) + recorded.crowds[key]


class _Crowds:
    """How many failures were counted under a key; of the keys used last, in this life of the process."""

    def __init__(self) -> None:
        self._counts: OrderedDict[Hashable, int] = OrderedDict()
        # Every watch's thread comes here.
        self._lock = threading.Lock()

    def count(self, key: Hashable) -> int:
        return self._counts.get(key, 0)

    def add(self, counts: Mapping[Hashable, int]) -> None:
        with self._lock:
            for key, count in counts.items():
                self._counts[key] = self._counts.pop(key, 0) + count
            while len(self._counts) > _MOST_CROWDS:
                self._counts.popitem(last=False)


def _sampled_from(count: int, budget: int) -> int:
    """How many failures the `count`th of its cause and minute stands for if it becomes a trace; 0: it does not."""
    if budget == 0:
        return 0
    stands_for = 1
    while count > budget * stands_for:
        stands_for *= _SAMPLING_STEP
    return stands_for


_REQUEST_START = Step.REQUEST_START


def route_of(timeline: RequestTimeline) -> AccessGlance:
    """Method and resource: the access line's, else what execution lines say of them."""
    if timeline.access is not None:
        return timeline.access.glance
    method = resource = UNKNOWN
    for step in timeline.steps:
        if step.resource is not None:
            resource = step.resource
        if step.step is _REQUEST_START and step.text.startswith("HTTP Method:") and step.name is not None:
            method = step.name
    return AccessGlance(
        request_id=timeline.request_id,
        extended_request_id=timeline.extended_request_id,
        status=timeline.status,
        method=method,
        resource=resource,
        api_id=None,
        stage=None,
        latency_ms=None,
        integration_latency_ms=None,
        response_type=None,
    )
