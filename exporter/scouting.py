"""Discovery as the daemon runs it: a thread that looks at the accounts again and again, and tells what it found.

A look takes as long as AWS's management calls allow, minutes in a large account, so it has a thread of its own that no
poll waits for. What a look could not find out stays as it was known; a look that fails in a way nobody foresaw changes
nothing. It starts and stops no watch itself.
"""

import threading
import time
from collections.abc import Callable

import structlog

from exporter.config import Config
from exporter.discovery import Discovered, Discovery
from exporter.places import Places

_log = structlog.get_logger(__name__)


class Scout:
    """Looks for stages while the configuration says so."""

    def __init__(self, places: Places, stop: threading.Event, on_found: Callable[[Discovered], None]) -> None:
        """`on_found` is called in the scout's thread after every look."""
        self._places = places
        self._stop = stop
        self._on_found = on_found
        self._wake = threading.Event()
        self._lock = threading.Lock()
        self._config: Config | None = None
        self._discovery: Discovery | None = None
        self._thread: threading.Thread | None = None
        self._found: Discovered | None = None
        self._doubted: Discovery | None = None
        """The discovery whose first look was set aside."""

    @property
    def found(self) -> Discovered | None:
        """What is known; None before the first look, and where nothing is to be discovered."""
        return self._found

    @property
    def is_first_look(self) -> bool:
        """Whether stages are to be discovered and none was looked for yet."""
        return self._discovery is not None and self._found is None

    def set_config(self, config: Config) -> None:
        """Look as `config` says from now on: at once if that changed. What was found before holds until then."""
        with self._lock:
            if config.discover is None:
                self._discovery = self._found = None
            elif self._config is None or _asks(config) != _asks(self._config):
                self._discovery = Discovery(
                    config,
                    config.discover,
                    open_session=self._places.session,
                    logs_budget=self._places.budget,
                    on_call=self._places.count,
                    wait=self._stop.wait,
                    clock=time.time,
                    ticks=time.monotonic,
                )
                self._wake.set()
            self._config = config
        if self._discovery is not None and self._thread is None:
            self._thread = threading.Thread(target=self._look_around, name="discovery", daemon=True)
            self._thread.start()

    def close(self) -> None:
        """End the thread's pause, once `stop` is set."""
        self._wake.set()

    def _look_around(self) -> None:
        while not self._stop.is_set():
            self._wake.clear()
            discovery, config = self._discovery, self._config
            pause_s = None
            if discovery is not None and config is not None and config.discover is not None:
                self._look(discovery)
                pause_s = config.discover.refresh_ms / 1000
            self._wake.wait(pause_s)

    def _look(self, discovery: Discovery) -> None:
        try:
            found = discovery.refresh()
        except Exception:  # noqa: BLE001 what was known holds; the next look is a new chance
            _log.exception("discovery failed unexpectedly; what was found before holds")
            return
        with self._lock:
            if discovery is not self._discovery or self._stop.is_set():
                return  # the configuration has changed meanwhile
            if found.succeeded_at_ms is None and self._found is not None and self._doubted is not discovery:
                # A new discovery knows nothing yet of what its first look could not reach. What the second cannot
                # reach either may be denied for good: it must not keep a new configuration from being in force.
                self._doubted = discovery
                found = self._found
            self._found = found
        self._on_found(found)


def _asks(config: Config) -> object:
    """What of the configuration discovery depends on."""
    return config.discover, config.accounts, config.watches, config.allowed_lateness_ms, config.poll_interval_ms
