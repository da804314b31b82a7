"""Turns at the processor: what may interrupt what, in a process whose threads read pages and answer scrapes.

Python runs one thread at a time and hands over whenever one waits for its socket, or every few milliseconds while
others want to go on. Eight threads that take in pages of a megabyte spent a sixth of their time on handing over and on
memory that had left the caches, and a scrape waited for each of them (docs/performance.md). So one page at a time is
decoded or taken, one body at a time is read, and pages wait while a scrape is answered. All of it is for speed alone:
nothing here protects data, every wait has an end, and none is held while an answer of AWS is on its way.
"""

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

_PATIENCE_SECONDS = 0.05


class Turns:
    """The turns of one process. `ticks`: a monotonic clock in seconds."""

    def __init__(
        self, patience_seconds: float = _PATIENCE_SECONDS, ticks: Callable[[], float] = time.monotonic
    ) -> None:
        self._patience = patience_seconds
        self._ticks = ticks
        self._page = threading.Lock()
        self._body = threading.Lock()
        self._scrapes = 0
        self._counting = threading.Lock()
        self._quiet = threading.Event()
        self._quiet.set()
        self._scraped_at = ticks()

    @contextmanager
    def page(self) -> Iterator[None]:
        """Around decoding a page, and again around taking its lines."""
        # A client that never takes its answer holds nothing up: only scrapes that began just now are waited for.
        if not self._quiet.is_set() and self._ticks() - self._scraped_at < self._patience:
            self._quiet.wait(self._patience)
        with self._page:
            yield

    @contextmanager
    def body(self) -> Iterator[None]:
        """Around reading an answer's body. Where that takes long, because the network is slow, others join in."""
        alone = self._body.acquire(timeout=self._patience)
        try:
            yield
        finally:
            if alone:
                self._body.release()

    @contextmanager
    def scrape(self) -> Iterator[None]:
        """Around answering a scrape. It waits for nobody."""
        with self._counting:
            self._scrapes += 1
            self._scraped_at = self._ticks()
            self._quiet.clear()
        try:
            yield
        finally:
            with self._counting:
                self._scrapes -= 1
                if not self._scrapes:
                    self._quiet.set()


TURNS = Turns()
"""Of this process, as Python's own lock is."""
