"""What a settled failure adds: counts, exemplars, and the spans that are to be sent.

It turns failures into the increments and the outbox rows of one commit; it neither commits nor sends. What the user
does not want to hear of (`failures:`) is left out here, after its cause is final.
"""

from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from exporter import metrics
from exporter.correlate import Settled
from exporter.model import UNKNOWN, AccessGlance, CounterKey, Exemplar, Failure, SpanBatch, Step
from exporter.reading import Admit, Labelling
from exporter.span_batch import FailureSpans, pack
from exporter.spans import SpanOptions, caller_trace_id, failure_spans, span_ids

_SPANS_A_TRACE = 100
"""How many failures may join one caller-chosen trace before they get traces of their own."""
_TRACES_KNOWN = 10_000


@dataclass(kw_only=True, slots=True)
class Recorded:
    """What the failures of one slice add."""

    increments: dict[CounterKey, int] = field(default_factory=dict)
    exemplars: dict[CounterKey, Exemplar] = field(default_factory=dict)
    spans: tuple[SpanBatch, ...] = ()


class Recorder:
    """Makes `Recorded` of failures, by what the configuration wants."""

    def __init__(
        self,
        *,
        wants: Callable[[int | None, str], bool],
        admit: Admit,
        labelling: Labelling,
        span_options: SpanOptions | None,
    ) -> None:
        """`wants(status, cause)`: whether such a failure is counted. `span_options` None: no spans are made."""
        self._wants = wants
        self._admit = admit
        self._labelling = labelling
        self._span_options = span_options
        self._crowds: OrderedDict[str, int] = OrderedDict()

    def record(self, settled: Sequence[Settled]) -> Recorded:
        """What `settled` adds to the counters and to the outbox."""
        recorded = Recorded()
        spans: list[FailureSpans] = []
        for item in settled:
            failure = item.failure
            status = failure.timeline.status
            if not self._wants(status, failure.cause):
                continue
            keys = (
                self._admit(metrics.stage_failures(failure.timeline.api, failure.cause, failure.category)),
                self._admit(
                    self._labelling.failed_requests(failure.timeline.api, _route(failure), status, failure.cause)
                ),
            )
            for key in keys:
                recorded.increments[key] = recorded.increments.get(key, 0) + 1
            if self._span_options is None:
                continue
            crowded = self._is_crowded(failure)
            ids = span_ids(failure, self._span_options, reused_id=item.reused_id, crowded=crowded)
            exemplar = Exemplar(ids.trace_id, ids.span_id, item.unit.first_ms)
            for key in keys:
                if key not in recorded.exemplars or recorded.exemplars[key].at_ms <= exemplar.at_ms:
                    recorded.exemplars[key] = exemplar
            spans.append(failure_spans(failure, self._span_options, reused_id=item.reused_id, crowded=crowded))
        recorded.spans = pack(spans)
        return recorded

    def _is_crowded(self, failure: Failure) -> bool:
        trace_id = caller_trace_id(failure)
        if trace_id is None:
            return False
        count = self._crowds.pop(trace_id, 0) + 1
        self._crowds[trace_id] = count
        if len(self._crowds) > _TRACES_KNOWN:
            self._crowds.popitem(last=False)
        return count > _SPANS_A_TRACE


def _route(failure: Failure) -> AccessGlance:
    """Method and resource: the access line's, else what execution lines say of them."""
    timeline = failure.timeline
    if timeline.access is not None:
        return timeline.access.glance
    method = resource = UNKNOWN
    for step in timeline.steps:
        if step.resource is not None:
            resource = step.resource
        if step.step is Step.REQUEST_START and step.text.startswith("HTTP Method:") and step.name is not None:
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
