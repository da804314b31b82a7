"""What signals mean: SIGTERM and SIGINT end the daemon in order, SIGHUP reloads its configuration."""

import os
import signal
import threading
import time

import structlog

from exporter.daemon import Daemon

_log = structlog.get_logger(__name__)

_SAME_SIGNAL_SECONDS = 1.0
"""A signal to a process group arrives more than once where a parent (make, a shell) passes it on."""


def heed_signals(daemon: Daemon) -> None:
    """From now on SIGTERM and SIGINT ask the daemon to stop, a second one ends the process, and SIGHUP reloads.

    To be called before the daemon starts: until then a SIGHUP ends the process.
    """
    asked_at: list[float] = []

    def on_signal(number: int, _: object) -> None:
        now = time.monotonic()
        if not asked_at:
            _log.info("stopping", signal=signal.Signals(number).name)
            asked_at.append(now)
            daemon.ask_to_stop()
        elif now - asked_at[0] > _SAME_SIGNAL_SECONDS:
            os._exit(128 + number)  # nothing is lost: what is not committed is read again

    def on_hangup(_: int, __: object) -> None:
        # Not here: a signal handler interrupts whatever the main thread is doing.
        threading.Thread(target=daemon.reload, name="reload", daemon=True).start()

    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, on_signal)
    signal.signal(signal.SIGHUP, on_hangup)
