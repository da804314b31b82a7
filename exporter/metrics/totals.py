"""The totals: a view of the ledger's counter series, as scrapes see them.

Nothing is counted here: a commit is shown after it is durable, and a restart loads what the ledger holds. Three
promises are kept on the way to a scrape: a series that comes late starts at 0 (zero hold), no metric grows beyond its
cap whatever callers send, and no value ever steps back. Rendering never waits for a poll and is cached until
something changes. All methods may be called from any thread.
"""

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from threading import Lock

from exporter.metrics import API_LABELS, BUCKETS, COUNTED, STAGE_INFO, Kind, Metric, StageInfo
from exporter.metrics.series import Counter, Histogram, head, is_bound, label_text
from exporter.model import OVERFLOW, Commit, CounterKey, SeriesState

_LINES_PER_HISTOGRAM = len(BUCKETS) + 2


class _Family:
    """A metric's series, and which label sets were given room."""

    def __init__(self, metric: Metric, max_series: int) -> None:
        self.metric = metric
        self.lines_per_series = _LINES_PER_HISTOGRAM if metric.kind is Kind.HISTOGRAM else 1
        self.cap = max(1, max_series // self.lines_per_series)
        self.series: dict[tuple[str, ...], Counter | Histogram] = {}
        self.admitted: set[tuple[str, ...]] = set()
        """Label sets that have their own series or, once what they count is committed, will have it."""
        self.overflowing: set[tuple[str, ...]] = set()
        """The overflow label sets among them: as many again as the cap, and the one of `everything_else`."""
        self.everything_else = (OVERFLOW,) * len(metric.labels)
        self.full = {False: False, True: False}
        """Whether ordinary (False) or overflow (True) label sets were turned away: from then on all new ones are."""
        self.turned_away = 0

    def labels_of(self, key: CounterKey) -> tuple[str, ...]:
        """The label values of the series that `key` counts for: a histogram's without `le`."""
        return key.labels[: len(self.metric.labels)]

    def knows(self, key: CounterKey) -> bool:
        """Whether `key`, read from a ledger, fits this version's labels and bounds."""
        if key.metric.endswith("_bucket"):
            return len(key.labels) == len(self.metric.labels) + 1 and is_bound(key.labels[-1])
        return len(key.labels) == len(self.metric.labels)

    def admit(self, labels: tuple[str, ...]) -> None:
        self.admitted.add(labels)
        if OVERFLOW in labels:
            self.overflowing.add(labels)

    def has_room(self, labels: tuple[str, ...]) -> bool:
        overflow = OVERFLOW in labels
        taken = len(self.overflowing) if overflow else len(self.admitted) - len(self.overflowing)
        # Stays full even if series are forgotten: what was counted as overflow a minute ago and is listed again must
        # not be taken for something new.
        self.full[overflow] = self.full[overflow] or taken >= self.cap
        return not self.full[overflow]

    def forget(self, labels: tuple[str, ...]) -> Counter | Histogram | None:
        self.admitted.discard(labels)
        self.overflowing.discard(labels)
        return self.series.pop(labels, None)


class Totals:
    """Every product metric. `now_ms` times the zero hold; any clock that runs forward will do."""

    def __init__(self, *, zero_hold_ms: int, max_series: int, now_ms: Callable[[], int]) -> None:
        self._zero_hold_ms = zero_hold_ms
        self._now_ms = now_ms
        self._lock = Lock()
        self._families = [_Family(metric, max_series) for metric in COUNTED]
        self._family_of: dict[str, _Family] = {}
        for family in self._families:
            histogram = family.metric.kind is Kind.HISTOGRAM
            for suffix in ("_bucket", "_sum") if histogram else ("",):
                self._family_of[family.metric.name + suffix] = family
        self._admitted: set[CounterKey] = set()
        """Keys that `admit` once let through: its memory, made anew after forgetting."""
        self._strangers: dict[CounterKey, int] = {}
        """When series of the ledger that this version does not know were touched last."""
        self._held: set[Counter | Histogram] = set()
        self._unserved: list[Counter | Histogram] = []
        self._stages: Collection[StageInfo] = ()
        self._rendered: dict[bool, bytes] = {}

    def load(self, rows: Iterable[SeriesState]) -> None:
        """Take over what the ledger holds; once, before anything else. Series beyond a cap are kept, none is added.

        A series that another version of this program left and this one does not know is not shown, but offered by
        `idle_since` like any other. Whatever was released has been seen by a scraper before: it is shown at once.
        """
        with self._lock:
            # In order of birth, so that a histogram is as old as its oldest bucket, before and after a restart.
            for row in sorted(rows, key=lambda row: row.created_at_ms):
                family = self._family_of.get(row.key.metric)
                if family is None or not family.knows(row.key):
                    self._strangers[row.key] = row.touched_at_ms
                    continue
                series = self._series(family, row.key, row.created_at_ms)
                series.add(row.key, row.value)
                series.touched_at_ms = max(series.touched_at_ms, row.touched_at_ms)
                if row.exemplar is not None:
                    series.exemplify(row.exemplar)
                if row.released:
                    series.served_at_ms = row.created_at_ms
                    self._release(series)

    def admit(self, key: CounterKey) -> CounterKey:
        """The series to count `key` under: itself while it is known or its metric has room, else an overflow series.

        That one keeps the API's labels; if even those overflow, every label says `__other__`. To be asked before
        committing, so that the ledger holds what is shown. The answer for a key does not change while this process
        lives, unless the key is forgotten. Raises KeyError for a metric that is not declared.
        """
        if key in self._admitted:  # asked for every line, so without the lock: looking into a set is atomic
            return key
        with self._lock:
            family = self._family_of[key.metric]
            labels = family.labels_of(key)
            if labels in family.admitted or family.has_room(labels):
                family.admit(labels)
                self._admitted.add(key)
                return key
            family.turned_away += 1
            api = labels[: len(API_LABELS)]
            other = api + (OVERFLOW,) * (len(labels) - len(api))
            if other not in family.admitted and (other == labels or not family.has_room(other)):
                other = family.everything_else
            family.admit(other)
            return CounterKey(key.metric, other + key.labels[len(labels) :])

    def apply(self, commit: Commit) -> None:
        """Show what `commit` counted. To be called after it is durable, once."""
        with self._lock:
            for key, amount in commit.increments.items():
                series = self._series(self._family_of[key.metric], key, commit.at_ms)
                series.add(key, amount)
                series.touched_at_ms = max(series.touched_at_ms, commit.at_ms)
            for key in sorted(commit.born):  # the order that scrapes show
                family = self._family_of[key.metric]
                if family.labels_of(key) not in family.series:
                    series = self._series(family, key, commit.at_ms)
                    series.add(key, 0)
                    self._release(series)
            for key, exemplar in commit.exemplars.items():
                counted = self._find(key)
                if counted is not None:
                    counted.exemplify(exemplar)
            if commit.increments or commit.born:
                self._rendered.clear()

    def due_for_release(self) -> Sequence[CounterKey]:
        """Series that have been served as 0 for the zero hold: make that durable, then call `release`."""
        with self._lock:
            latest = self._now_ms() - self._zero_hold_ms
            due = [series for series in self._held if series.served_at_ms is not None and series.served_at_ms <= latest]
            return [key for series in due for key in series.ledger_keys()]

    def release(self, keys: Iterable[CounterKey]) -> None:
        """Show these series' values from now on."""
        with self._lock:
            for key in keys:
                series = self._find(key)
                if series is not None:
                    self._release(series)
            self._rendered.clear()

    def idle_since(self, before_ms: int) -> Sequence[CounterKey]:
        """Every key of the series that nothing has touched since: candidates for forgetting.

        Their first labels tell the stage; whether that still exists is the caller's to judge.
        """
        with self._lock:
            idle = [key for key, touched_at_ms in self._strangers.items() if touched_at_ms < before_ms]
            for family in self._families:
                for series in family.series.values():
                    if series.touched_at_ms < before_ms:
                        idle.extend(series.ledger_keys())
            return idle

    def forget(self, keys: Iterable[CounterKey]) -> None:
        """Drop these series (a histogram with any of its keys) and, unless their metric is full, free their room.

        To be called after the ledger forgot them, and not while one of them is being committed.
        """
        with self._lock:
            for key in keys:
                if self._strangers.pop(key, None) is not None:
                    continue
                family = self._family_of[key.metric]
                series = family.forget(family.labels_of(key))
                if series is not None:
                    self._held.discard(series)
            self._admitted.clear()
            self._rendered.clear()

    def set_stages(self, stages: Collection[StageInfo]) -> None:
        """The stages known now: `aws_apigateway_stage_info`."""
        with self._lock:
            self._stages = tuple(stages)
            self._rendered.clear()

    def series_counts(self) -> Mapping[str, int]:
        """How many series each metric shows, as Prometheus counts them."""
        with self._lock:
            return {family.metric.name: len(family.series) * family.lines_per_series for family in self._families}

    def overflow_counts(self) -> Mapping[str, int]:
        """How often `admit` turned a series of each metric away."""
        with self._lock:
            return {family.metric.name: family.turned_away for family in self._families}

    def render(self, *, openmetrics: bool) -> bytes:
        """All series in OpenMetrics 1.0 (without the closing `# EOF`) or the Prometheus text format 0.0.4."""
        with self._lock:
            rendered = self._rendered.get(openmetrics)
            if rendered is None:
                rendered = self._lines(openmetrics=openmetrics).encode()
                self._rendered[openmetrics] = rendered
                self._mark_served()
            return rendered

    def _lines(self, *, openmetrics: bool) -> str:
        parts = []
        for family in self._families:
            parts.append(head(family.metric, openmetrics=openmetrics))
            if openmetrics:
                parts += [series.openmetrics() for series in family.series.values()]
            else:
                parts += [series.text() for series in family.series.values()]
        parts.append(head(STAGE_INFO, openmetrics=openmetrics))
        texts = {label_text(STAGE_INFO.labels, stage.label_values()): None for stage in self._stages}
        parts += [f"{STAGE_INFO.name}{text} 1\n" for text in texts]
        return "".join(parts)

    def _mark_served(self) -> None:
        """A scrape is about to see every series; those that it is the first to see were shown as 0."""
        if not self._unserved:
            return
        now_ms = self._now_ms()
        for series in self._unserved:
            series.served_at_ms = now_ms
            if series.released and not series.shown:
                series.shown = True
                self._rendered.clear()
        self._unserved.clear()

    def _find(self, key: CounterKey) -> Counter | Histogram | None:
        family = self._family_of.get(key.metric)
        return None if family is None else family.series.get(family.labels_of(key))

    def _series(self, family: _Family, key: CounterKey, created_at_ms: int) -> Counter | Histogram:
        """The series of `key`, made if need be: held, unless there is no zero hold."""
        labels = family.labels_of(key)
        series = family.series.get(labels)
        if series is None:
            make = Histogram if family.metric.kind is Kind.HISTOGRAM else Counter
            series = family.series[labels] = make(family.metric, labels, created_at_ms)
            family.admit(labels)
            self._held.add(series)
            if self._zero_hold_ms:
                self._unserved.append(series)
            else:
                series.shown = True
                series.served_at_ms = self._now_ms()
        return series

    def _release(self, series: Counter | Histogram) -> None:
        series.released = True
        self._held.discard(series)
        # Even a seeded series waits for the one scrape that sees its 0: what was never 0 to Prometheus never increased.
        if series.served_at_ms is not None:
            series.shown = True
