"""Listings side by side: some threads list, one uses what they bring.

A page is asked for by the token of the one before, so one listing brings a page per answer's time, however much the
call budget allows. Parts of a window have chains of their own. This file knows nothing of AWS: it runs iterators, holds
no more of their items than there are threads, and leaves no thread behind that does anything but end.
"""

import threading
from collections import deque
from collections.abc import Iterator, Sequence
from queue import SimpleQueue
from typing import Generic, TypeVar

T = TypeVar("T")


class Lanes:
    """Threads for listings, of which at most `most` run at once, whoever asks for them."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._taken = 0
        self._lock = threading.Lock()

    def merged(self, chains: Sequence[Iterator[T]], wanted: int) -> Iterator[T]:
        """The items of all `chains`: each one's in its order, the chains begun in theirs, `wanted` of them at once.

        Where no second thread is free, or the system gives none, they come one after the other. What a chain raises is
        raised here, and ends it all; so does closing this iterator.
        """
        lanes = self._lease(min(wanted, len(chains)))
        if lanes < 2:
            self._release(lanes)
            lanes = 0
        run = _Run(chains, lanes)
        try:
            if running := self._start(run, lanes):
                yield from run.items(running)
            else:
                for chain in chains:
                    yield from chain
        finally:
            run.close()

    def _start(self, run: "_Run[T]", lanes: int) -> int:
        for number in range(lanes):
            thread = threading.Thread(target=run.fetch, args=(self,), name=f"listing-{number}", daemon=True)
            try:
                thread.start()
            except RuntimeError:  # the system gives no more threads
                self._release(lanes - number)
                return number
        return lanes

    def _lease(self, wanted: int) -> int:
        with self._lock:
            lanes = max(0, min(wanted, self._most - self._taken))
            self._taken += lanes
            return lanes

    def _release(self, lanes: int) -> None:
        with self._lock:
            self._taken -= lanes

    def ended(self) -> None:
        """A thread of ours ends."""
        self._release(1)


class _Ended:
    """What the last word of a thread is."""


class _Run(Generic[T]):
    """Some chains, the threads that run them, and what lies between these and the one that uses it."""

    def __init__(self, chains: Sequence[Iterator[T]], lanes: int) -> None:
        self._todo = deque(chains)
        self._lanes = lanes
        self._brought: SimpleQueue[T | _Ended | BaseException] = SimpleQueue()
        self._room = threading.Semaphore(lanes)
        self._closed = threading.Event()

    def fetch(self, lanes: Lanes) -> None:
        """What each thread does: take the next chain that nobody has begun, bring its items, until none is left."""
        try:
            while not self._closed.is_set():
                try:
                    chain = self._todo.popleft()
                except IndexError:
                    break
                while self._bring(chain):
                    pass
        except BaseException as error:  # noqa: BLE001 raised again where the items are used
            self._brought.put(error)
        finally:
            lanes.ended()
            self._brought.put(_Ended())

    def _bring(self, chain: Iterator[T]) -> bool:
        self._room.acquire()
        if self._closed.is_set():
            return False
        try:
            self._brought.put(next(chain))
        except StopIteration:
            self._room.release()
            return False
        return True

    def items(self, running: int) -> Iterator[T]:
        """What so many threads bring, as it comes."""
        while running:
            item = self._brought.get()
            if isinstance(item, _Ended):
                running -= 1
            elif isinstance(item, BaseException):
                raise item
            else:
                self._room.release()
                yield item
                del item

    def close(self) -> None:
        """Let the threads end; one that waits for an answer ends after it."""
        self._closed.set()
        self._todo.clear()
        for _ in range(self._lanes):
            self._room.release()
