"""One group's lines: listed to the last page, counted once for each listing, and shown to the correlator.

Each `GroupReader` lists a window of its group through the source, makes of every line what counting needs, and passes
on what joining needs. A listing that does not reach its end counts for nothing. It never decides how far to read, what
is settled, or what is committed.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

from exporter import execution_log, metrics
from exporter.access_log import AccessParser
from exporter.correlate import Correlator
from exporter.model import UNKNOWN, AccessGlance, Api, CounterKey, LogEvent, LogGroup, Unreadable, Window
from exporter.sources import ListingBroken, Source, Unavailable
from exporter.tally import Seen

UNREADABLE = "unreadable"
"""The metric of tally keys that count unreadable lines: they are told of, once each, but no product series."""

_LISTINGS = 3
"""How often a broken listing is begun anew before its window is left unread."""
_ID_DIGITS = 56
_PAGE_BYTES, _PAGE_EVENTS = 1_000_000, 10_000

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
    full_pages: float = 0.0
    """How many of AWS's pages (1 MB or 10,000 events) the lines fill."""
    events: int = 0
    server_at_ms: int | None = None
    """The service's clock at the first page."""
    delay_ms: int | None = None
    """The greatest ingestion delay among lines ingested since the last poll."""

    @property
    def cost_pages(self) -> float:
        """What a listing of these lines costs, however its window cuts them."""
        return max(self.full_pages, self.pages - 1)


class _Unordered(Exception):
    """Event ids that do not ascend: their order proves nothing, so the listing is begun anew with a set of them."""


class Taker(Protocol):
    """What is done with the lines of one kind of log."""

    def take(self, event: LogEvent, seen: Seen) -> None:
        """Count and pass on one line."""


class AccessTaker:
    """Access lines: every one counts for the totals."""

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
        self._glance = parser.glance
        self._directory = directory
        self._correlator = correlator
        self._admit = admit
        self._labelling = labelling
        self._keys: dict[tuple[str | None, str | None, str, str, int | None], CounterKey] = {}

    def take(self, event: LogEvent, seen: Seen) -> None:
        """See `Taker`."""
        glance = self._glance(event.message)
        if isinstance(glance, Unreadable):
            seen.add(event.at_ms, CounterKey(UNREADABLE, (self._group.name, glance.reason)))
            return
        route = (glance.api_id, glance.stage, glance.method, glance.resource, glance.status)
        key = self._keys.get(route)
        if key is None:
            if len(self._keys) > 100_000:
                self._keys.clear()
            api = self._directory.resolve(glance.api_id, glance.stage)
            key = self._admit(self._labelling.requests(api, glance.method, glance.resource, glance.status))
            self._keys[route] = key
        seen.add(event.at_ms, key)
        if glance.latency_ms is not None:
            self._observe(event, metrics.RESPONSE_LATENCY, glance, glance.latency_ms, seen)
        if glance.integration_latency_ms is not None:
            self._observe(event, metrics.INTEGRATION_LATENCY, glance, glance.integration_latency_ms, seen)
        self._correlator.take_access(self._group, event, glance)

    def _observe(
        self, event: LogEvent, histogram: metrics.Metric, glance: AccessGlance, latency_ms: int, seen: Seen
    ) -> None:
        api = self._directory.resolve(glance.api_id, glance.stage)
        for key, amount in metrics.latency(histogram, api, latency_ms):
            seen.add(event.at_ms, self._admit(key), amount)


class ExecutionTaker:
    """Execution lines: looked at for failures; their terminal lines are the totals where there is no access log."""

    def __init__(
        self, group: LogGroup, *, directory: Directory, correlator: Correlator, admit: Admit, totals: bool
    ) -> None:
        self._group = group
        self._directory = directory
        self._correlator = correlator
        self._admit = admit
        self._totals = totals

    def take(self, event: LogEvent, seen: Seen) -> None:
        """See `Taker`."""
        if not self._correlator.take_execution(self._group, event):
            seen.add(event.at_ms, CounterKey(UNREADABLE, (self._group.name, "no_request_id")))
            return
        if self._totals:
            status = execution_log.completed_status(execution_log.split(event.message)[1])
            if status is not None:
                api = self._directory.resolve(None, None)
                # The terminal line alone tells neither method nor resource, and counting it once needs a key that
                # every listing finds the same.
                seen.add(event.at_ms, self._admit(metrics.requests(api, UNKNOWN, UNKNOWN, status)))


class GroupReader:
    """Lists one group."""

    def __init__(self, group: LogGroup, taker: Taker) -> None:
        self.group = group
        self._taker = taker
        self._ordered = True

    def read(self, source: Source, window: Window, *, new_since_ms: int) -> Listed:
        """List `window` to its end.

        `new_since_ms`: lines ingested later were not there at the last poll. Raises a `SourceError`.
        """
        broken: ListingBroken | None = None
        for _ in range(_LISTINGS):
            try:
                return self._list(source, window, new_since_ms)
            except ListingBroken as error:
                broken = error
            except _Unordered:
                self._ordered = False
        raise Unavailable(self.group, broken.reason if broken else "unordered", "its listing broke off again and again")

    def _list(self, source: Source, window: Window, new_since_ms: int) -> Listed:
        listed = Listed(seen=Seen())
        ids: set[str] | None = None if self._ordered else set()
        last_id = ""
        for page in source.pages(self.group, window):
            if listed.pages == 0:
                listed.server_at_ms = page.server_at_ms
            listed.pages += 1
            listed.full_pages += max(page.response_bytes / _PAGE_BYTES, len(page.events) / _PAGE_EVENTS)
            for event in page.events:
                event_id = event.event_id
                if ids is not None:
                    # The same page may come twice, and ids need not be ordered outside of AWS.
                    if event_id in ids:
                        continue
                    ids.add(event_id)
                elif event_id > last_id and len(event_id) == _ID_DIGITS:
                    last_id = event_id
                else:
                    raise _Unordered
                self._taker.take(event, listed.seen)
                listed.events += 1
            for event in (page.events[0], page.events[-1]) if page.events else ():
                if event.ingested_at_ms > new_since_ms:
                    listed.delay_ms = max(listed.delay_ms or 0, event.ingested_at_ms - event.at_ms)
        return listed
