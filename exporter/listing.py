"""What a slice brings: every group of a watch, listed in each of its windows, each to its end.

A `Lister` knows which lines are fetched at the moment, all of them or those of failed requests and the rest by id, and
which groups are left out because they cannot be read. Lines go to the watch's correlator, counts are handed back. How
far to read is decided elsewhere; nothing is judged here, and nothing committed.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

from exporter.audit import Audit
from exporter.correlate import Correlator
from exporter.fetching import Timelines, failure_readers, full_readers
from exporter.filtering import Filters
from exporter.model import LogGroup, Window
from exporter.pacing import Pace
from exporter.reading import GroupReader
from exporter.settle import Horizon
from exporter.sources import GroupUnreadable, PatternRefused, Source, SourceError
from exporter.taking import Admit, Directory, Uncounted
from exporter.tally import Seen
from exporter.telling import Teller
from exporter.watch_spec import WatchSpec
from exporter.windows import Pass, Slice, Timing, pages_a_poll


@dataclass(kw_only=True, slots=True)
class Listings:
    """What listing the windows of a slice came to."""

    seen: dict[LogGroup, list[Seen]]
    noted: dict[tuple[LogGroup, Window], int]
    """How many lines the minutes to be audited have."""
    server_ms: int | None = None
    """The service's clock when the first of them began."""
    pages: float = 0.0


class Lister:
    """Lists for one watch."""

    def __init__(
        self, spec: WatchSpec, *, source: Source, directory: Directory, admit: Admit, teller: Teller, pace: Pace
    ) -> None:
        self._spec = spec
        self._source = source
        self._directory = directory
        self._admit = admit
        self._teller = teller
        self._pace = pace
        self._access = {item.group for item in spec.groups if item.kind == "access"}
        self._filters = Filters(spec)
        self._audit = Audit()
        self._readers: Sequence[GroupReader] = ()
        self._timelines: Timelines | None = None
        self.fetches_failures = spec.fetch == "failures"
        """Whether to fetch failing lines only, where that can be relied on; taken up by `choose_lines`."""
        self.by_id = False
        """Whether only failing lines are listed at the moment, and execution lines asked for by id."""
        self.left_out: Mapping[LogGroup, str] = {}
        """Execution groups that cannot be read at the moment, with the reason."""
        self.pages = 0
        """How many pages new lines have cost so far; what a backlog takes comes on top."""

    def choose_lines(self, now_ms: int) -> bool:
        """Fetch all lines, or failing ones. Returns whether that changed: then `begin` is to be called anew."""
        if self._spec.fetch == "all":
            return False
        given_up = self.fetches_failures and self._filters.check(self._source, now_ms)
        wanted = self.fetches_failures and self._filters.usable
        changed = given_up or wanted != self.by_id
        if changed:
            self.by_id = wanted
            self._audit = Audit()  # its counts are of other lines
        self._teller.fetches(failures_only=wanted, changed=changed)
        return changed

    def begin(self, correlator: Correlator) -> None:
        """Pass lines on to `correlator` from now on."""
        spec, directory, admit, filters = self._spec, self._directory, self._admit, self._filters
        if self.by_id:
            self._timelines = Timelines(spec, correlator, filters)
            self._readers = failure_readers(
                spec, directory=directory, correlator=correlator, admit=admit, filters=filters
            )
        else:
            self._timelines = None
            self._readers = full_readers(spec, directory=directory, correlator=correlator, admit=admit)

    def list_slice(
        self,
        part: Slice,
        *,
        passed: Window,
        new_since_ms: int,
        after_page: Callable[[], None],
        check_clock: Callable[[int], None],
    ) -> Listings:
        """List every group in every window of a slice.

        `passed`: the stretch that is read for good with it. `new_since_ms`: when the last poll began. `after_page` and
        `check_clock`, which is told the service's clock at the first page, may raise to end the listing early.
        Raises a `SourceError` where a group cannot be read that the watch cannot do without.
        """
        result = Listings(seen={}, noted={})
        left_out: dict[LogGroup, str] = {}
        for why, window in part:
            for reader in self._readers:
                audited = None
                if why in {Pass.SWEEP, Pass.WIDE}:
                    audited = self._audit.minute(reader.group, passed.start_ms, passed.end_ms)
                try:
                    listed = reader.read(
                        self._source,
                        window,
                        new_since_ms=new_since_ms,
                        audited=audited,
                        parts=self._pace.parts(window),
                        after_page=after_page,
                    )
                except PatternRefused:
                    self._filters.refused(reader.group)
                    raise
                except GroupUnreadable as error:
                    if not self._access or reader.group in self._access:
                        raise
                    left_out[reader.group] = error.reason
                    continue
                result.pages += listed.cost_pages
                if why is not Pass.SWEEP:
                    self.pages += listed.pages
                result.seen.setdefault(reader.group, []).append(listed.seen)
                if audited is not None:
                    result.noted[reader.group, audited] = listed.audited
                self._teller.listed(reader.group, listed.events, listed.delay_ms)
                if result.server_ms is None and listed.server_at_ms is not None:
                    result.server_ms = listed.server_at_ms
                    check_clock(result.server_ms)
        if not self.by_id:
            self._note_left_out(left_out)
        return result

    def ask(self, horizon: Horizon, now_ms: int) -> Horizon:
        """Fetch the execution lines of open requests, where they are fetched by id.

        Returns the horizon with what that has brought. Raises a `SourceError`.
        """
        if self._timelines is None:
            return horizon
        asked = self._timelines.ask(self._source, replace(horizon, asked={}), now_ms)
        self.pages += asked.pages
        for group, events in asked.events.items():
            self._teller.listed(group, events)
        if asked.windows:
            self._note_left_out(asked.left_out)
        return replace(horizon, asked=asked.windows, execution_left_out=bool(self.left_out))

    def audit(self, now_ms: int) -> None:
        """List again what was read for good an hour ago, where it is due, and tell how many lines came late."""
        readable = [item.group for item in self._spec.groups if item.group not in self.left_out]
        for group, window, noted in self._audit.due(now_ms, readable):
            try:
                reader = GroupReader(group, Uncounted(), self._filters.pattern_of(group) if self.by_id else None)
                listed = reader.read(self._source, window, new_since_ms=now_ms, audited=window)
            except SourceError:
                continue  # a sample less; what was read stays read
            self._teller.audited(group, max(0, listed.audited - noted))

    def committed(self, listings: Listings) -> None:
        """What was listed is durable: its audited minutes are to be compared in an hour."""
        for (group, minute), lines in listings.noted.items():
            self._audit.note(group, minute, lines)

    def pages_of_all_lines(self, timing: Timing) -> float:
        """How many pages a poll for all lines would cost; infinite while nobody knows."""
        found = 0.0
        for item in self._spec.groups:
            density = self._filters.pages_per_ms(item.group)
            if density is None:
                return float("inf")  # no reason to try
            found += min(pages_a_poll(density, timing, self._spec.poll_interval_ms))
        return found

    def _note_left_out(self, left_out: Mapping[LogGroup, str]) -> None:
        self._teller.left_out(self.left_out, left_out)
        self.left_out = left_out
