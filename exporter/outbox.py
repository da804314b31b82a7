"""Sends the spans that the ledger keeps, oldest first, and lets go of them only when the receiver has them.

An outbox is of one signal, spans or the log records on them, so that a receiver that takes only one of the two still
gets it; what is said of spans here holds for log records too. It works in a thread of its own and knows nothing of
polls: a receiver that is slow or down delays nothing but its spans. What may help is tried again, for ever, within a
bound on disk. What the receiver refuses is taken apart until the span it cannot stand is alone; that one is given up,
but only once the receiver has shown that it takes some: a wrong token or a wrong address refuses everything, and costs
nothing but time. Every span given up is counted.
"""

import gzip
import random
import time
import zlib
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from threading import Event
from typing import Protocol

import structlog
from google.protobuf.message import DecodeError  # type: ignore[import-untyped]

from exporter.ledger import Ledger, LedgerError
from exporter.model import OutboxRow, Signal
from exporter.otlp import Delivered, Refused, Retry, Sender
from exporter.span_batch import single_requests

log = structlog.get_logger(__name__)

BATCH_BYTES = 2 << 20
"""A request before compression: well under the 4 MiB that a gRPC receiver takes by default."""
_HEAD_BYTES = 256 << 10
"""Compressed rows to look at for one request: spans shrink to a tenth or less."""
_FIRST_BACKOFF_S = 1.0
_LONGEST_BACKOFF_S = 120.0
_LONGEST_RETRY_AFTER_S = 3600.0
_ABOUT_CONTENT = frozenset({"400", "413", "422", "INVALID_ARGUMENT"})
"""Statuses by which a receiver speaks of what it was sent, not of who sent it or where to."""
_LOOK_S = 1.0
"""How often to look for new spans, and for more of them than the disk bound allows."""


class SpanCounts(Protocol):
    """Where the outbox tells what became of spans, or of log records."""

    def sent(self, signal: Signal, count: int) -> None:
        """The receiver has these."""
        ...

    def rejected(self, signal: Signal, count: int) -> None:
        """The receiver took the request and said that it threw these away."""
        ...

    def dropped(self, signal: Signal, reason: str, count: int) -> None:
        """Given up: `refused` (the receiver stands everything but these), `outbox_full`, `unreadable`."""
        ...


@dataclass(slots=True)
class _Findings:
    """What taking a refused request apart brought to light; its parts by their place in it."""

    delivered: list[tuple[range, Delivered]] = field(default_factory=list)
    refused: dict[int, Refused] = field(default_factory=dict)
    retry: Retry | None = None
    """The receiver went away meanwhile: the rest is not known."""


class Outbox:
    """The sender of one signal of one ledger. Not for several threads, except `flush` after `run` has returned."""

    def __init__(
        self,
        ledger: Ledger,
        sender: Sender,
        counts: SpanCounts,
        *,
        max_bytes: int,
        signal: Signal = "traces",
        clock: Callable[[], float] = time.monotonic,
        jitter: Callable[[], float] = random.random,
    ) -> None:
        """`max_bytes` bounds what waits on disk, of all signals together; `clock` gives seconds.

        `jitter` gives numbers from 0 to 1.
        """
        self._ledger = ledger
        self._sender = sender
        self._counts = counts
        self._max_bytes = max_bytes
        self._signal: Signal = signal
        self._clock = clock
        self._jitter = jitter
        self._failures = 0
        self._next_try_s = float("-inf")

    def run(self, stop: Event) -> None:
        """Send until `stop` is set. What is then left stays in the ledger; `flush` gives it a last chance."""
        while not stop.is_set():
            pause_s = self.work()
            if pause_s > 0:
                stop.wait(pause_s)

    def flush(self, limit_s: float) -> bool:
        """Send what is left for at most `limit_s` seconds; returns whether nothing is left."""
        deadline_s = self._clock() + limit_s
        self._next_try_s = float("-inf")
        while (left_s := deadline_s - self._clock()) > 0:
            if self.work(timeout_s=left_s) > 0:
                break
        left = self._ledger.outbox_stats()
        return (left.spans if self._signal == "traces" else left.log_records) == 0

    def work(self, timeout_s: float | None = None) -> float:
        """Send one request if it is time to; returns the seconds to pause, 0 when there may be more to send."""
        try:
            for signal, surplus in self._ledger.outbox_evict(self._max_bytes).items():
                self._counts.dropped(signal, "outbox_full", surplus)
                log.warning(
                    "spans dropped: more wait than the outbox may hold",
                    signal=signal,
                    count=surplus,
                    bytes=self._max_bytes,
                )
            if self._clock() < self._next_try_s:
                return min(_LOOK_S, self._next_try_s - self._clock())
            rows = self._ledger.outbox_head(_HEAD_BYTES, self._signal)
            if not rows:
                return _LOOK_S
            retry = self._deliver(rows, timeout_s)
        except LedgerError as error:
            retry = Retry(reason=str(error))
        if retry is None:
            if self._failures:
                log.info("spans are being sent again", signal=self._signal, failed_attempts=self._failures)
            self._failures = 0
            return 0.0
        return self._back_off(retry)

    def _back_off(self, retry: Retry) -> float:
        backoff_s = min(_LONGEST_BACKOFF_S, _FIRST_BACKOFF_S * 2.0 ** min(self._failures, 16))
        wait_s = backoff_s * (0.5 + self._jitter() / 2)
        if retry.after_s is not None:
            wait_s = max(wait_s, min(retry.after_s, _LONGEST_RETRY_AFTER_S))
        if not self._failures:
            log.warning("spans cannot be sent; they are kept and tried again", signal=self._signal, reason=retry.reason)
        self._failures += 1
        self._next_try_s = self._clock() + wait_s
        return min(_LOOK_S, wait_s)

    # ------------------------------------------------------------------------------------------------ one request out

    def _deliver(self, rows: Sequence[OutboxRow], timeout_s: float | None) -> Retry | None:
        """Send as many of `rows` as fit into one request; None when these are dealt with."""
        batch: list[OutboxRow] = []
        bodies: list[bytes] = []
        for row in rows:
            try:
                body = gzip.decompress(row.body)
            except (OSError, EOFError, zlib.error) as error:
                self._give_up(row, row.spans, "unreadable", type(error).__name__)
                continue
            if bodies and sum(map(len, bodies)) + len(body) > BATCH_BYTES:
                break
            batch.append(row)
            bodies.append(body)
        if not batch:
            return None
        outcome = self._sender.send(b"".join(bodies), timeout_s)
        match outcome:
            case Delivered():
                self._delivered(batch, outcome)
                return None
            case Refused():
                return self._isolate(batch, bodies, outcome, timeout_s)
        return outcome

    def _delivered(self, rows: Sequence[OutboxRow], outcome: Delivered) -> None:
        self._ledger.outbox_delete([row.id for row in rows])
        self._count(sum(row.spans for row in rows), outcome)

    def _count(self, spans: int, outcome: Delivered) -> None:
        rejected = min(outcome.rejected, spans)
        self._counts.sent(self._signal, spans - rejected)
        if rejected:
            self._counts.rejected(self._signal, rejected)
            log.warning("the OTLP receiver rejected spans", signal=self._signal, count=rejected, said=outcome.message)

    def _give_up(self, row: OutboxRow, spans: int, reason: str, said: str) -> None:
        self._ledger.outbox_delete([row.id])
        self._counts.dropped(self._signal, reason, spans)
        log.error("spans given up", signal=self._signal, count=spans, reason=reason, said=said)

    # --------------------------------------------------------------------------------------- what the receiver refuses

    def _isolate(
        self, batch: Sequence[OutboxRow], bodies: Sequence[bytes], refused: Refused, timeout_s: float | None
    ) -> Retry | None:
        """Deliver what of a refused request can be, and give up the spans that cannot.

        Unless the receiver takes an empty request or some part of this one, the fault is not in the spans: all is kept.
        """
        takes_some = isinstance(self._sender.send(b"", timeout_s), Delivered)
        outage = Retry(reason=f"all is refused: {refused.status} {refused.message}")
        if not takes_some and refused.status not in _ABOUT_CONTENT:
            return outage
        by_row = self._take_apart(bodies, refused, timeout_s)
        for rows, outcome in by_row.delivered:
            self._delivered([batch[index] for index in rows], outcome)
        if by_row.retry is not None:
            return by_row.retry
        dissected = []
        for index, why in by_row.refused.items():
            by_span = self._take_apart(_singles(bodies[index], self._signal), why, timeout_s)
            if by_span.retry is not None:
                return by_span.retry
            dissected.append((batch[index], by_span))
        if not (takes_some or by_row.delivered or any(by_span.delivered for _, by_span in dissected)):
            return outage
        for row, by_span in dissected:
            for spans, outcome in by_span.delivered:
                self._count(len(spans), outcome)
            why = next(iter(by_span.refused.values()), refused)
            lost = row.spans - sum(len(spans) for spans, _ in by_span.delivered)
            self._give_up(row, lost, "refused", f"{why.status} {why.message}")
        return None

    def _take_apart(self, bodies: Sequence[bytes], refused: Refused, timeout_s: float | None) -> _Findings:
        """Halve a refused request until what is refused stands alone."""
        found = _Findings()
        waiting = deque([(range(len(bodies)), refused)])
        while waiting:
            part, why = waiting.popleft()
            if len(part) == 1:
                found.refused[part[0]] = why
                continue
            middle = len(part) // 2
            for half in (part[:middle], part[middle:]):
                outcome = self._sender.send(b"".join(bodies[half.start : half.stop]), timeout_s)
                match outcome:
                    case Delivered():
                        found.delivered.append((half, outcome))
                    case Refused():
                        waiting.append((half, outcome))
                    case Retry():
                        found.retry = outcome
                        return found
        return found


def _singles(body: bytes, signal: Signal) -> Sequence[bytes]:
    """Cut a request into requests of one span each; what cannot be cut stays whole."""
    try:
        return single_requests(body, signal) or [body]
    except DecodeError:
        return [body]
