"""Recorded lines as a `Source`: log groups out of memory, at an instant that the caller names.

It gives what it was given, in order of time, each event once; a pattern is not applied, as anything that stands in for
CloudWatch may ignore one. It reads no file itself and has no clock.
"""

from bisect import bisect_left
from collections.abc import Iterable, Iterator, Mapping, Sequence

from exporter.model import LogEvent, LogGroup, Page, Window

PAGE_EVENTS = 10_000
"""As CloudWatch Logs has them."""


class RecordedSource:
    """Log groups that change no more."""

    def __init__(self, events: Mapping[LogGroup, Iterable[LogEvent]], *, now_ms: int) -> None:
        """`events` with the same id are one. `now_ms` is what the service's clock shows, for ever."""
        self._now_ms = now_ms
        self._events: dict[LogGroup, list[LogEvent]] = {}
        self._times: dict[LogGroup, list[int]] = {}
        for group, found in events.items():
            once = {event.event_id: event for event in found}
            self._events[group] = sorted(once.values(), key=lambda event: (event.at_ms, event.event_id))
            self._times[group] = [event.at_ms for event in self._events[group]]

    def pages(
        self,
        group: LogGroup,
        window: Window,
        pattern: str | None = None,  # noqa: ARG002
        parts: int = 1,  # noqa: ARG002
    ) -> Iterator[Page]:
        """See `Source.pages`. A group of which nothing was recorded is empty."""
        times = self._times.get(group, [])
        first, end = bisect_left(times, window.start_ms), bisect_left(times, window.end_ms)
        for begin in range(first, max(end, first + 1), PAGE_EVENTS):
            events = self._events.get(group, [])[begin : min(begin + PAGE_EVENTS, end)]
            yield Page(events=events, response_bytes=sum(len(event.message) for event in events))

    def selected(self, pattern: str, messages: Sequence[str]) -> frozenset[str] | None:  # noqa: ARG002
        """See `Source.selected`. It knows no patterns."""
        return None

    def now_ms(self) -> int:
        """See `Source.now_ms`."""
        return self._now_ms
