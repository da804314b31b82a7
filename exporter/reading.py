"""One group's lines: listed to the last page, counted once for each listing, and shown to the correlator.

Each `GroupReader` lists a window of its group through the source, makes of every line what counting needs, and passes
on what joining needs. A listing that does not reach its end counts for nothing. It never decides how far to read, what
is settled, or what is committed.
"""

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from operator import lt
from typing import Protocol

from exporter import metrics
from exporter.access_log import AccessParser
from exporter.access_variables import ROUTE_FROM, Scalar, glance_from, ms_of
from exporter.correlate import Correlator
from exporter.model import UNKNOWN, AccessGlance, Api, CounterKey, LogEvent, LogGroup, Page, Unreadable, Window
from exporter.settle import is_failed
from exporter.sources import ListingBroken, Source, Unavailable
from exporter.tally import Seen
from exporter.turns import TURNS
from exporter.windows import BUCKET_MS

UNREADABLE = "unreadable"
"""The metric of tally keys that count unreadable lines: they are told of, once each, but no product series."""

_LISTINGS = 3
"""How often a broken listing is begun anew before its window is left unread."""
_ROUTES_KNOWN = 100_000

Admit = Callable[[CounterKey], CounterKey]


@dataclass(frozen=True, kw_only=True, slots=True)
class Labelling:
    """Which labels the configuration wants to vary."""

    by_method: bool = True
    by_resource: bool = True

    def requests(self, api: Api, method: str, resource: str, status: int | None) -> CounterKey:
        """The series of all requests."""
        method, resource = metrics.route_labels(
            method, resource, by_method=self.by_method, by_resource=self.by_resource
        )
        return metrics.requests(api, method, resource, status)

    def failed_requests(self, api: Api, glance: AccessGlance, status: int | None, cause: str) -> CounterKey:
        """The series of failed requests in detail."""
        method, resource = metrics.route_labels(
            glance.method, glance.resource, by_method=self.by_method, by_resource=self.by_resource
        )
        return metrics.failed_requests(api, method, resource, status, cause)


class Directory:
    """Which API a line is about: what the configuration says of its group, completed by what the line says."""

    def __init__(self, known: Sequence[Api]) -> None:
        self._known = tuple(known)
        self._found: dict[tuple[str | None, str | None], Api] = {}

    @property
    def stages(self) -> Sequence[Api]:
        """Every stage that is known by id and name, configured or seen."""
        return [api for api in {*self._known, *self._found.values()} if UNKNOWN not in (api.id, api.stage)]

    def resolve(self, api_id: str | None, stage: str | None) -> Api:
        """The API of a line that names `api_id` and `stage` (None: it does not)."""
        api = self._found.get((api_id, stage))
        if api is None:
            api = self._found[api_id, stage] = self._search(api_id, stage)
        return api

    def _search(self, api_id: str | None, stage: str | None) -> Api:
        def fits(api: Api) -> bool:
            return (api_id is None or api.id in {api_id, UNKNOWN}) and (stage is None or api.stage in {stage, UNKNOWN})

        candidates = [api for api in self._known if fits(api)]
        if len(candidates) > 1 and (api_id is None or stage is None):
            # Several stages in one group, and the line does not say which: no guess.
            first = candidates[0]
            return Api(type=first.type, region=first.region, account_id=first.account_id)
        exact = [api for api in candidates if UNKNOWN not in (api.id, api.stage)]
        template = (exact or candidates or [*self._known, Api()])[0]
        own = bool(candidates)
        found_id = template.id if own and template.id != UNKNOWN else api_id or UNKNOWN
        named = own and template.name not in {UNKNOWN, ""}
        return Api(
            id=found_id,
            name=template.name if named else found_id,
            stage=template.stage if own and template.stage != UNKNOWN else stage or UNKNOWN,
            type=template.type,
            region=template.region,
            account_id=template.account_id,
        )


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


class Taker(Protocol):
    """What is done with the lines of one kind of log."""

    counts: bool
    """Whether lines are counted, so that a page which comes twice must not be taken twice."""

    def take(self, events: Sequence[LogEvent], seen: Seen) -> None:
        """Count and pass on the lines of a page, in order."""
        ...

    def begin(self) -> None:
        """Forget what a listing left that broke off."""
        ...

    def finish(self, seen: Seen) -> None:
        """Complete the counts of a listing that reached its end."""
        ...


class _Route:
    """What lines with the same status, method, resource, API and error have in common."""

    __slots__ = ("api", "ended_well", "key")

    def __init__(self, key: CounterKey, api: Api, *, ended_well: bool) -> None:
        self.key = key
        self.api = api
        self.ended_well = ended_well


class AccessTaker:
    """Access lines: every one counts for the totals; what failed, or shares an id with a failure, is passed on."""

    counts = True

    def __init__(
        self,
        group: LogGroup,
        *,
        parser: AccessParser,
        directory: Directory,
        correlator: Correlator,
        admit: Admit,
        labelling: Labelling,
    ) -> None:
        self._group = group
        self._look = parser.look
        self._directory = directory
        self._correlator = correlator
        self._admit = admit
        self._labelling = labelling
        self._routes: dict[tuple[Scalar, ...], _Route] = {}
        self._latencies: dict[tuple[int, Api], tuple[dict[Scalar, int], dict[Scalar, int]]] = {}
        """How often each latency was logged, as logged, by ten seconds and API: of responses, of integrations."""

    def take(self, events: Sequence[LogEvent], seen: Seen) -> None:
        """See `Taker`. A line that ended well costs its reading and a few look-ups."""
        look, routes, open_ids = self._look, self._routes, self._correlator.open_ids
        every = not self._correlator.knows_access_ids
        bucket = -1
        counts: dict[_Route, int] = {}
        api: Api | None = None
        for event in events:
            values = look(event.message)
            if isinstance(values, Unreadable):
                self._unreadable(event, values, seen)
                continue
            route = routes.get(values[ROUTE_FROM:])  # type: ignore[call-overload]
            if route is None or not route.ended_well or every or values[0] in open_ids or values[1] in open_ids:
                route = self._take_unusual(event, values, seen)
                every = every and not self._correlator.knows_access_ids
                if route is None:
                    continue
            if event.at_ms // BUCKET_MS != bucket or route.api is not api:
                self._flush(counts, bucket, seen)
                bucket, api = event.at_ms // BUCKET_MS, route.api
                responses, integrations = self._latencies.setdefault((bucket, api), ({}, {}))
            counts[route] = counts.get(route, 0) + 1
            value = values[2]
            if value is not None:
                responses[value] = responses.get(value, 0) + 1
            value = values[3]
            if value is None or value == "-":
                value = values[4]
            if value is not None:
                integrations[value] = integrations.get(value, 0) + 1
        self._flush(counts, bucket, seen)

    def begin(self) -> None:
        """See `Taker`."""
        self._latencies.clear()

    def finish(self, seen: Seen) -> None:
        """See `Taker`: latencies become buckets and sums, each distinct one once."""
        for (bucket, api), found in self._latencies.items():
            for histogram, values in zip((metrics.RESPONSE_LATENCY, metrics.INTEGRATION_LATENCY), found, strict=True):
                amounts: Counter[CounterKey] = Counter()
                for value, count in values.items():
                    latency_ms = ms_of(value)
                    if latency_ms is not None:
                        for key, amount in metrics.latency(histogram, api, latency_ms):
                            amounts[key] += amount * count
                for key, amount in amounts.items():
                    seen.add(bucket * BUCKET_MS, self._admit(key), amount)
        self._latencies.clear()

    @staticmethod
    def _flush(counts: dict[_Route, int], bucket: int, seen: Seen) -> None:
        for route, count in counts.items():
            seen.add(bucket * BUCKET_MS, route.key, count)
        counts.clear()

    def _take_unusual(self, event: LogEvent, values: Sequence[Scalar], seen: Seen) -> _Route | None:
        """Take a line in full: the first of its route, one that failed, or one that an open request may need."""
        glance = glance_from(values)
        if isinstance(glance, Unreadable):
            self._unreadable(event, glance, seen)
            return None
        self._correlator.take_access(self._group, event, glance)
        api = self._directory.resolve(glance.api_id, glance.stage)
        key = self._admit(self._labelling.requests(api, glance.method, glance.resource, glance.status))
        route = _Route(key, api, ended_well=glance.status is not None and not is_failed(glance))
        if glance.status is not None and not glance.gateway_error:  # its text differs from line to line
            if len(self._routes) > _ROUTES_KNOWN:
                self._routes.clear()
            self._routes[tuple(values[ROUTE_FROM:])] = route
        return route

    def _unreadable(self, event: LogEvent, why: Unreadable, seen: Seen) -> None:
        seen.add(event.at_ms, CounterKey(UNREADABLE, (self._group.name, why.reason)))


class ExecutionTaker:
    """Execution lines: looked at for failures; their terminal lines are the totals where there is no access log."""

    def __init__(
        self, group: LogGroup, *, directory: Directory, correlator: Correlator, admit: Admit, totals: bool
    ) -> None:
        self._group = group
        self._directory = directory
        self._correlator = correlator
        self._admit = admit
        self.counts = totals

    def take(self, events: Sequence[LogEvent], seen: Seen) -> None:
        """See `Taker`."""
        ended: list[tuple[int, int]] | None = [] if self.counts else None
        for event in self._correlator.take_executions(self._group, events, ended):
            seen.add(event.at_ms, CounterKey(UNREADABLE, (self._group.name, "no_request_id")))
        if not ended:
            return
        # The terminal line alone tells neither method nor resource, and counting it once needs a key that every
        # listing finds the same.
        api = self._directory.resolve(None, None)
        counts = Counter((at_ms // BUCKET_MS, status) for at_ms, status in ended)
        for (bucket, status), count in counts.items():
            seen.add(bucket * BUCKET_MS, self._admit(metrics.requests(api, UNKNOWN, UNKNOWN, status)), count)

    def begin(self) -> None:
        """See `Taker`: nothing is kept between pages."""

    def finish(self, seen: Seen) -> None:
        """See `Taker`: nothing is left to do."""


class Uncounted:
    """Lines that are only to be numbered."""

    counts = False

    def begin(self) -> None:
        """See `Taker`."""

    def take(self, events: Sequence[LogEvent], seen: Seen) -> None:
        """See `Taker`."""

    def finish(self, seen: Seen) -> None:
        """See `Taker`."""


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
            ids = [event.event_id for event in events]
            # Parts share no event: the order within each is proof.
            if not (ids[0] > self._last.get(page.part, "") and all(map(lt, ids, ids[1:]))):
                raise _Unordered
            self._last[page.part] = ids[-1]
            return events
        new = []
        for event in events:
            if event.event_id not in self._ids:
                self._ids.add(event.event_id)
                new.append(event)
        return new
