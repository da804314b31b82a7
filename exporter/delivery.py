"""What leaves the process by OTLP: an outbox for each signal, each in a thread of its own, from start to orderly stop.

Says where spans and log records go, by the configuration and the environment; how they are sent, kept and given up is
the outbox's business. Without a receiver there is nothing here, and no spans are made.
"""

import threading
import time
from collections.abc import Mapping, Sequence
from typing import get_args

from exporter.config import Config, Traces
from exporter.ledger import Ledger
from exporter.metrics.self_metrics import SelfMetrics
from exporter.model import Signal
from exporter.otlp import connect
from exporter.otlp_settings import OtlpError, OtlpSettings, read_settings, resource_attributes
from exporter.outbox import Outbox
from exporter.spans import SpanOptions
from exporter.version import VERSION

_FLUSH_S = 1.0
"""Kept back for the last chance, whatever is under way."""
_LEAST_FLUSH_S = 0.5


def receivers(traces: Traces, environ: Mapping[str, str]) -> Sequence[OtlpSettings]:
    """Where each signal goes; nothing where nobody names a receiver. Raises `OtlpError`."""
    headers = {name: value.get_secret_value() for name, value in traces.headers.items()}
    found = []
    for signal in get_args(Signal):
        asked = OtlpSettings(
            endpoint=traces.endpoint,
            signal=signal,
            protocol=traces.protocol,
            headers=headers or None,
            timeout_s=None if traces.timeout_ms is None else traces.timeout_ms / 1000,
        )
        try:
            settings = read_settings(asked, environ)
        except OtlpError:
            # Of log records only what a former configuration left behind may be waiting.
            if signal == "traces" or traces.events == "logs":
                raise
            continue
        if settings is not None:
            found.append(settings)
    signals = [settings.signal for settings in found]
    if signals == ["traces"] and traces.events == "logs":
        raise OtlpError("`traces.events: logs` needs a receiver for logs, but the environment switches them off")
    return found if "traces" in signals else ()


def span_options(config: Config, environ: Mapping[str, str]) -> SpanOptions | None:
    """How failures become spans; None where nobody would take them. Raises `OtlpError`."""
    if not receivers(config.traces, environ):
        return None
    return SpanOptions(
        join=config.traces.join,
        events=config.traces.events,
        allowed_fields=frozenset(config.traces.fields),
        link_template=config.traces.link_template,
        resource=resource_attributes(environ),
        version=VERSION,
    )


def shown_options(config: Config) -> SpanOptions:
    """How a failure is shown where no span is needed for it: the same words, places and links as its span has."""
    return SpanOptions(
        join=config.traces.join,
        allowed_fields=frozenset(config.traces.fields),
        link_template=config.traces.link_template,
        version=VERSION,
    )


class Delivery:
    """The outboxes of a process. `start`, then `stop`."""

    def __init__(self, config: Config, environ: Mapping[str, str], ledger: Ledger, self_metrics: SelfMetrics) -> None:
        """Make everything ready; nothing is sent yet. Raises `OtlpError`."""
        self._outboxes = [
            Outbox(
                ledger,
                connect(settings),
                _Counts(self_metrics),
                max_bytes=config.state.max_outbox_bytes,
                signal=settings.signal,
            )
            for settings in receivers(config.traces, environ)
            if settings.signal == "traces" or config.traces.events == "logs" or ledger.outbox_stats().log_records
        ]
        self._running: list[tuple[threading.Thread, Outbox]] = []

    def start(self, stop: threading.Event) -> None:
        """Send until `stop` is set."""
        for outbox in self._outboxes:
            thread = threading.Thread(target=outbox.run, args=[stop], name="outbox", daemon=True)
            thread.start()
            self._running.append((thread, outbox))

    def stop(self, deadline_s: float) -> None:
        """After `stop` was set: wait for what is under way, then give what is left a last chance.

        `deadline_s`: by `time.monotonic`.
        """
        for thread, _ in self._running:
            thread.join(timeout=max(0.1, deadline_s - _FLUSH_S - time.monotonic()))
        for thread, outbox in self._running:
            if not thread.is_alive():
                outbox.flush(max(_LEAST_FLUSH_S, deadline_s - time.monotonic()))


class _Counts:
    """Tells the self-metrics what became of spans and log records."""

    def __init__(self, self_metrics: SelfMetrics) -> None:
        metrics = self_metrics
        self._sent = {"traces": metrics.spans_sent, "logs": metrics.log_records_sent}
        self._rejected = {"traces": metrics.spans_rejected, "logs": metrics.log_records_rejected}
        self._dropped = {"traces": metrics.spans_dropped, "logs": metrics.log_records_dropped}

    def sent(self, signal: Signal, count: int) -> None:
        self._sent[signal].inc(count)

    def rejected(self, signal: Signal, count: int) -> None:
        self._rejected[signal].inc(count)

    def dropped(self, signal: Signal, reason: str, count: int) -> None:
        self._dropped[signal].labels(reason).inc(count)
