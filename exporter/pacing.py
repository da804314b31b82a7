"""How much to read at once: learnt from what stretches of time have cost in pages, seconds and open requests.

It decides between one window and three passes, how long the slices of a backlog are, and into how many parts a long
window is cut to be listed side by side. It knows costs only: what is read, and whether, is decided elsewhere; whatever
it decides, every line is read. It does no I/O and knows no clock.
"""

from exporter.model import Window
from exporter.windows import Pass, Slice, Timing, wide_is_cheaper

_SLICE_LEAST_MS = 10_000
"""After a restart a slice is small, so that a process that is killed again and again gets ahead."""
_SLICE_DENSE_MS = 60_000
"""The most of a backlog with many pages in one slice: each begins a longest request earlier, which is read again."""
_SLICE_MOST_MS = 900_000
_SLICE_GROWTH = 4
_FEW_PAGES, _MANY_PAGES = 4, 16
_CROWD = 20_000
"""So many ids of requests that a slice may open; each keeps some kilobytes of lines until the slice is judged."""
_PART_PAGES = 8
"""Parts of fewer pages would cost calls: the last page of each is half empty."""
_MOST_PARTS = 64


class Pace:
    """What one watch has learnt of its groups."""

    def __init__(self, timing: Timing, *, groups: int, poll_interval_ms: int) -> None:
        self._timing = timing
        self._groups = groups
        self._poll_interval_ms = poll_interval_ms
        self._pages_per_ms = 0.0
        self.slice_ms = _SLICE_LEAST_MS
        """How much of a backlog the next slice takes."""

    @property
    def wide(self) -> bool:
        """Whether one window of everything unsettled costs no more than three passes."""
        return wide_is_cheaper(self._pages_per_ms, self._timing, self._poll_interval_ms)

    def parts(self, window: Window) -> int:
        """Into how many parts a window is worth to be cut."""
        pages = self._pages_per_ms * (window.end_ms - window.start_ms)
        return max(1, min(int(pages / _PART_PAGES), _MOST_PARTS))

    def is_crowded(self, part: Slice, opened: int) -> bool:
        """Whether a slice under way opens so much (ids of requests) that it should be given up for shorter ones."""
        return opened > _CROWD and _is_sweep(part) and self.slice_ms > _SLICE_LEAST_MS

    def shorten(self) -> None:
        """The next slices are as short as can be."""
        self.slice_ms = _SLICE_LEAST_MS

    def learn(self, part: Slice, *, pages: float, took_ms: float, opened: int) -> None:
        """Take note of a slice that was listed: what it cost, and how many ids of requests it opened."""
        length_ms = sum(window.end_ms - window.start_ms for _, window in part)
        if length_ms > 0:
            self._pages_per_ms = 0.5 * (self._pages_per_ms + pages / self._groups / length_ms)
        if not _is_sweep(part):
            return
        if took_ms > self._poll_interval_ms:
            # New lines wait for a slice that is under way.
            self.slice_ms = _whole(self.slice_ms // 2)
        elif pages <= _FEW_PAGES * self._groups:
            self.slice_ms = min(self.slice_ms * _SLICE_GROWTH, _SLICE_MOST_MS)
        elif self.slice_ms > _SLICE_DENSE_MS:
            if pages > _MANY_PAGES * self._groups:
                self.slice_ms = max(_whole(self.slice_ms // 2), _SLICE_DENSE_MS)
        elif opened * 2 < _CROWD and took_ms * 2 < self._poll_interval_ms:
            self.slice_ms = min(self.slice_ms * 2, _SLICE_DENSE_MS)


def _is_sweep(part: Slice) -> bool:
    return all(planned.why is Pass.SWEEP for planned in part)


def _whole(length_ms: int) -> int:
    return max(length_ms // _SLICE_LEAST_MS * _SLICE_LEAST_MS, _SLICE_LEAST_MS)
