"""Turns at the processor, for threads that read pages.

Python runs one thread at a time and hands over whenever one waits for its socket, or every few milliseconds while
others want to go on. Eight threads that take in pages of a megabyte while one judges spent a sixth of their time on
handing over and on memory that had left the caches (docs/performance.md). So one page at a time is decoded or judged,
and one body at a time is taken in. This is for speed alone: nothing here protects data, and no turn is waited for while
an answer is on its way.
"""

import threading
from collections.abc import Iterator
from contextlib import contextmanager

PAGE = threading.Lock()
"""Held while a page is decoded, and again while its lines are taken: of the whole process, as Python's own lock is."""

_PATIENCE_SECONDS = 0.05
_BODY = threading.Lock()


@contextmanager
def body() -> Iterator[None]:
    """Around the taking in of an answer's body. Where that takes long, because the network is slow, others join in."""
    alone = _BODY.acquire(timeout=_PATIENCE_SECONDS)
    try:
        yield
    finally:
        if alone:
            _BODY.release()
