"""One group's lines: listed to the last page, counted once for each listing, and shown to the correlator.

Each `GroupReader` lists a window of its group through the source, makes of every line what counting needs, and passes
on what joining needs. A listing that does not reach its end counts for nothing. It never decides how far to read, what
is settled, or what is committed.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

from exporter.loops import are_ascending
from exporter.model import LogEvent, LogGroup, Page, Window
from exporter.sources import ListingBroken, Source, Unavailable
from exporter.taking import Taker
from exporter.tally import Seen
from exporter.turns import TURNS

_LISTINGS = 3
"""How often a broken listing is begun anew before its window is left unread."""


@dataclass(kw_only=True, slots=True)
class Listed:
    """What one listing came to."""

    seen: Seen
    pages: int = 0
    parts: int = 1
    """How many of them came last in their part of the window."""
    full_pages: float = 0.0
    """How many of AWS's pages (1 MB or 10,000 events) the lines fill."""
    events: int = 0
    audited: int = 0
    """Lines in the stretch that is audited."""
    server_at_ms: int | None = None
    """The service's clock at the first page."""
    delay_ms: int | None = None
    """The greatest ingestion delay among lines ingested since the last poll."""

    @property
    def cost_pages(self) -> float:
        """What a listing of these lines costs, however its window cuts them."""
        return max(self.full_pages, self.pages - self.parts)


class _Unordered(Exception):
    """Event ids that do not ascend: their order proves nothing, so the listing is begun anew with a set of them."""


class GroupReader:
    """Lists one group."""

    def __init__(self, group: LogGroup, taker: Taker, pattern: str | None = None) -> None:
        """`pattern`: selects the lines that `taker` wants; others may come all the same."""
        self.group = group
        self._taker = taker
        self._pattern = pattern
        self._ordered = True

    def read(
        self,
        source: Source,
        window: Window,
        *,
        new_since_ms: int,
        audited: Window | None = None,
        parts: int = 1,
        after_page: Callable[[], None] = lambda: None,
    ) -> Listed:
        """List `window` to its end.

        `new_since_ms`: lines ingested later were not there at the last poll. `audited`: a stretch whose lines are to
        be counted, whatever they say. `parts`: see `Source.pages`. `after_page` may raise to end the listing early.
        Raises a `SourceError`.
        """
        broken: ListingBroken | None = None
        for _ in range(_LISTINGS):
            try:
                return self._list(
                    source.pages(self.group, window, self._pattern, parts), new_since_ms, audited, after_page
                )
            except ListingBroken as error:
                broken = error
            except _Unordered:
                self._ordered = False
        raise Unavailable(self.group, broken.reason if broken else "unordered", "its listing broke off again and again")

    def _list(
        self, pages: Iterator[Page], new_since_ms: int, audited: Window | None, after_page: Callable[[], None]
    ) -> Listed:
        listed = Listed(seen=Seen())
        self._taker.begin()
        unique = _Unique(ordered=self._ordered)
        for page in pages:
            if page.server_at_ms is not None and (listed.pages == 0 or listed.server_at_ms is not None):
                listed.server_at_ms = min(page.server_at_ms, listed.server_at_ms or page.server_at_ms)
            listed.pages += 1
            listed.parts = max(listed.parts, page.part + 1)
            listed.full_pages += page.fill
            if not page.events:
                after_page()
                continue
            # The execution log of a watch with an access log is not counted: its lines may be taken twice.
            events = unique.of(page) if self._taker.counts or audited is not None else page.events
            with TURNS.page():
                self._taker.take(events, listed.seen)
            listed.events += len(events)
            for event in (page.events[0], page.events[-1]):
                if event.ingested_at_ms > new_since_ms:
                    listed.delay_ms = max(listed.delay_ms or 0, event.ingested_at_ms - event.at_ms)
            if audited is not None:
                listed.audited += sum(audited.start_ms <= event.at_ms < audited.end_ms for event in events)
            # The next page takes the memory of this one: it is still in the processor's caches.
            del page, events
            after_page()
        self._taker.finish(listed.seen)
        return listed


class _Unique:
    """Tells events that a listing gave twice (the same page may come again) from new ones."""

    def __init__(self, *, ordered: bool) -> None:
        """`ordered`: ids are expected to ascend, as those of AWS do, which proves them different; else all are kept."""
        self._ids: set[str] | None = None if ordered else set()
        self._last: dict[int, str] = {}

    def of(self, page: Page) -> list[LogEvent]:
        """The events that were not seen before. Raises `_Unordered`."""
        events = page.events
        if self._ids is None:
            # Parts share no event: the order within each is proof.
            if not are_ascending(events, self._last.get(page.part, "")):
                raise _Unordered
            self._last[page.part] = events[-1].event_id
            return events
        new = []
        for event in events:
            if event.event_id not in self._ids:
                self._ids.add(event.event_id)
                new.append(event)
        return new
