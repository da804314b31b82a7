"""The web configuration in force, kept up with its files: certificates, users and CAs rotate without a restart.

The files are looked at when a connection or a request comes, at most once a second. A version that cannot be used
changes nothing and is logged once; it is tried again until it can be.
"""

import threading
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import NamedTuple

import structlog

from exporter.config import ConfigError
from exporter.config.document import Mistake
from exporter.web_config import WebConfig, load_web_config

_log = structlog.get_logger(__name__)

_LOOK_S = 1.0

Stamp = tuple[tuple[int, int, int] | None, ...]


class WebVersion(NamedTuple):
    """A web configuration as it was read at some moment."""

    path: str | None
    config: WebConfig
    stamp: Stamp
    """Of the files it was made of."""


class LiveWebConfig:
    """What the web server enforces now. Safe to share between threads."""

    def __init__(self, path: str | None, *, clock: Callable[[], float] = time.monotonic) -> None:
        """`path` None: there is no file, nothing is enforced. `clock` gives seconds. Raises ConfigError."""
        self._clock = clock
        self._lock = threading.Lock()
        self._version = _load(path)
        self._looked_at = clock()
        self._complaint: str | None = None
        self._told_of_http2 = False
        self._tell()

    @property
    def version(self) -> WebVersion:
        """What is in force, as it was last read."""
        return self._version

    def current(self) -> WebConfig:
        """The configuration in force, after a look at its files if the last one is a second ago."""
        if self._version.path is not None and self._clock() - self._looked_at >= _LOOK_S:
            with self._lock:
                self._looked_at = self._clock()
                self._look()
        return self._version.config

    def read(self, path: str | None) -> WebVersion:
        """What `path` says now, without taking it over. Raises ConfigError, also if only a restart could do that."""
        version = _load(path)
        if (version.config.tls is None) != (self._version.config.tls is None):
            text = "TLS cannot be switched on or off while running; restart the exporter"
            raise ConfigError(path or "web configuration", [Mistake(0, ("tls_server_config",), text)])
        return version

    def take(self, version: WebVersion) -> None:
        """Put in force what `read` gave."""
        with self._lock:
            self._version = version
            self._complaint = None
        self._tell()

    def _look(self) -> None:
        known = self._version
        stamp = _stamp_of(known.config.files)
        if stamp == known.stamp and self._complaint is None:
            return
        try:
            version = self.read(known.path)
        except ConfigError as error:
            if str(error) != self._complaint:
                self._complaint = str(error)
                _log.error("web configuration cannot be used; the one in force stays", mistakes=self._complaint)
            return
        # The stamp from before reading: a file that changed meanwhile is read again.
        self._version = version._replace(stamp=stamp) if version.config.files == known.config.files else version
        self._complaint = None
        _log.info("web configuration read anew", file=known.path)

    def _tell(self) -> None:
        if self._version.config.asks_for_http2 and not self._told_of_http2:
            self._told_of_http2 = True
            _log.info("the web configuration asks for http2; HTTP/1.1 is spoken here", file=self._version.path)


def _load(path: str | None) -> WebVersion:
    config = WebConfig() if path is None else load_web_config(path)
    return WebVersion(path, config, _stamp_of(config.files))


def _stamp_of(files: Iterable[Path]) -> Stamp:
    """What changes when a file does; behind a symbolic link too, as Kubernetes swaps them."""
    stamps: list[tuple[int, int, int] | None] = []
    for file in files:
        try:
            status = file.stat()
        except OSError:
            stamps.append(None)
        else:
            stamps.append((status.st_mtime_ns, status.st_size, status.st_ino))
    return tuple(stamps)
