"""The lines of requests that failed or may have failed, by the ids that join them, until they are settled or let go.

An id joins all lines that tell it: what was open under several ids becomes one as soon as a line tells both. Callers
choose ids, so lines that are joined may be of several requests; `units.py` tells these apart. This file judges nothing,
and forgets nothing by itself.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence

import msgspec

from exporter.segments import ExecutionLine
from exporter.units import AccessLine, Unit


class OpenRequest(msgspec.Struct, kw_only=True, eq=False):
    """Lines that ids joined: one request, or several that share an id."""

    ids: set[str] = set()
    access: dict[str, AccessLine] = {}
    """By event id; so are execution lines."""
    execution: dict[str, ExecutionLine] = {}
    units: list[Unit] | None = None
    """What the lines came to when last judged; None once a line was added."""
    judged: dict[tuple[str, ...], Unit] = {}
    """Of several requests that share an id, those judged last, by the event ids of their lines."""
    is_used: bool = False
    """A settled failure had one of its ids."""
    unused_in: int = -1
    """The edition of tombstones in which none had; -1: none is known."""

    def add_access(self, line: AccessLine) -> None:
        """Take an access line in, unless it is here."""
        if line.event_id not in self.access:
            self.access[line.event_id] = line
            self.units = None

    def add(self, lines: Iterable[ExecutionLine]) -> None:
        """Take execution lines in that are not here."""
        new = {line.event_id: line for line in lines if line.event_id not in self.execution}
        if new:
            self.execution |= new
            self.units = None


class OpenRequests:
    """What is open, each once, under every id that it has; an access line that nothing joins under its event id."""

    def __init__(self, *, notes_news: bool) -> None:
        """`notes_news`: whether `take_news` will be called."""
        self._by_id: dict[str, OpenRequest] = {}
        self._news: dict[int, OpenRequest] | None = {} if notes_news else None  # by identity

    @property
    def by_id(self) -> Mapping[str, OpenRequest]:
        """By every id; a view that stays current."""
        return self._by_id

    @property
    def news(self) -> Iterable[OpenRequest]:
        """What was opened, or has got an id more, since news were taken last; each once, however many ids it got."""
        return (self._news or {}).values()

    def take_news(self) -> Iterable[OpenRequest]:
        """The same, of what is still open; the next news begin now."""
        found, self._news = self.news, None if self._news is None else {}
        return (request for request in found if any(self._by_id.get(text) is request for text in request.ids))

    def __iter__(self) -> Iterator[OpenRequest]:
        return iter({id(request): request for request in self._by_id.values()}.values())

    def joined(self, ids: Sequence[str]) -> OpenRequest:
        """The one open request of all these ids: what was open under several of them becomes one."""
        found = {id(self._by_id[text]): self._by_id[text] for text in ids if text in self._by_id}
        request, *others = found.values() or [OpenRequest()]
        added = set(ids).union(*(other.ids for other in others))
        for other in others:
            request.access |= other.access
            request.execution |= other.execution
            request.judged |= other.judged
            request.is_used |= other.is_used
            request.units = None
        if not request.ids >= added:
            request.ids |= added
            request.unused_in = -1
            if self._news is not None:
                self._news[id(request)] = request
        for text in added:
            self._by_id[text] = request
        return request

    def remove(self, unit: Unit) -> None:
        """Let go of the lines of a unit, and of what they leave without any."""
        for text in [*unit.ids, *([unit.access.event.event_id] if unit.access is not None else [])]:
            request = self._by_id.get(text)
            if request is None:
                continue
            if unit.access is not None:
                request.access.pop(unit.access.event.event_id, None)
            for line in unit.execution:
                request.execution.pop(line.event_id, None)
            request.units = None
            if not request.access and not request.execution:
                self.forget(request)

    def forget(self, request: OpenRequest) -> None:
        """Let go of all of its lines."""
        for text in request.ids:
            if self._by_id.get(text) is request:
                del self._by_id[text]
