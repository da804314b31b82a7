"""Series as a scrape shows them: a number or a histogram that knows its own lines in both text formats.

The formats are Prometheus text 0.0.4 and OpenMetrics 1.0. Label values are escaped once, when a series is made; a
rendering only puts numbers behind prepared text, which is what makes ten thousand series cost milliseconds. A series
does not know whether its value may be shown: `totals.py` decides that and sets `shown`; until then its lines say 0
and carry no exemplar.
"""

from bisect import bisect_left
from collections.abc import Iterable, Sequence
from itertools import accumulate

from exporter.metrics import BUCKETS, Kind, Metric
from exporter.model import CounterKey, Exemplar


class Counter:
    """One counter series."""

    __slots__ = (
        *("_created_line", "_exemplar", "_exemplar_text", "_key", "_prefix", "_value"),
        *("released", "served_at_ms", "shown", "touched_at_ms"),
    )

    def __init__(self, metric: Metric, labels: tuple[str, ...], created_at_ms: int) -> None:
        text = label_text(metric.labels, labels)
        self._key = CounterKey(metric.name, labels)
        self._prefix = f"{metric.name}{text} "
        self._created_line = f"{metric.name.removesuffix('_total')}_created{text} {_seconds(created_at_ms)}\n"
        self._value = 0
        self._exemplar: Exemplar | None = None
        self._exemplar_text = ""
        self.touched_at_ms = created_at_ms
        self.released = False
        """Whether the ledger says that the value may be shown."""
        self.served_at_ms: int | None = None
        """When a scrape was first given this series."""
        self.shown = False

    def ledger_keys(self) -> Sequence[CounterKey]:
        """What the ledger knows this series by."""
        return (self._key,)

    def add(self, _key: CounterKey, amount: int) -> None:
        """Count."""
        self._value += amount

    def exemplify(self, exemplar: Exemplar) -> None:
        """Keep `exemplar` if it is the newest."""
        if self._exemplar is None or exemplar.at_ms >= self._exemplar.at_ms:
            self._exemplar = exemplar
            labels = label_text(("trace_id", "span_id"), (exemplar.trace_id, exemplar.span_id))
            self._exemplar_text = f" # {labels} 1 {_seconds(exemplar.at_ms)}"

    def text(self) -> str:
        """The line in the Prometheus text format."""
        return f"{self._prefix}{self._value if self.shown else 0}\n"

    def openmetrics(self) -> str:
        """The lines in OpenMetrics: with exemplar and `_created`."""
        if self.shown:
            return f"{self._prefix}{self._value}{self._exemplar_text}\n{self._created_line}"
        return f"{self._prefix}0\n{self._created_line}"


class Histogram:
    """One histogram: the series of its buckets and of its sum, shown and released together."""

    __slots__ = (
        *("_counts", "_created_line", "_keys", "_prefixes", "_sum_ms"),
        *("released", "served_at_ms", "shown", "touched_at_ms"),
    )

    def __init__(self, metric: Metric, labels: tuple[str, ...], created_at_ms: int) -> None:
        text = label_text(metric.labels, labels)
        bucket = f'{metric.name}_bucket{text[:-1]},le="'
        self._prefixes = (
            *(f'{bucket}{le}"}} ' for le in BUCKETS),
            f"{metric.name}_count{text} ",
            f"{metric.name}_sum{text} ",
        )
        self._created_line = f"{metric.name}_created{text} {_seconds(created_at_ms)}\n"
        self._keys: set[CounterKey] = set()
        self._counts = [0] * len(BUCKETS)
        self._sum_ms = 0
        self.touched_at_ms = created_at_ms
        self.released = False
        self.served_at_ms: int | None = None
        self.shown = False

    def ledger_keys(self) -> Sequence[CounterKey]:
        """What the ledger knows this histogram by: the buckets that were ever hit, and the sum."""
        return tuple(self._keys)

    def add(self, key: CounterKey, amount: int) -> None:
        """Count observations of a bucket or add milliseconds to the sum."""
        self._keys.add(key)
        if key.metric.endswith("_sum"):
            self._sum_ms += amount
        else:
            self._counts[_bucket_index(key.labels[-1])] += amount

    def exemplify(self, _exemplar: Exemplar) -> None:
        """Histograms carry no exemplars: those of the failure counters lead to the same traces."""

    def text(self) -> str:
        """The lines in the Prometheus text format."""
        counts = tuple(accumulate(self._counts)) if self.shown else (0,) * len(BUCKETS)
        numbers = (*counts, counts[-1], self._sum_ms / 1000 if self.shown else 0.0)
        return "".join([f"{prefix}{number}\n" for prefix, number in zip(self._prefixes, numbers, strict=True)])

    def openmetrics(self) -> str:
        """The lines in OpenMetrics."""
        return self.text() + self._created_line


def head(metric: Metric, *, openmetrics: bool) -> str:
    """The `HELP` and `TYPE` lines before a metric's series. OpenMetrics names a counter without its `_total`."""
    name = metric.name.removesuffix("_total") if openmetrics and metric.kind is Kind.COUNTER else metric.name
    return f"# HELP {name} {metric.help}\n# TYPE {name} {metric.kind}\n"


def label_text(names: Iterable[str], values: Iterable[str]) -> str:
    """`{name="value",…}`, the values escaped as both formats want them."""
    return "{" + ",".join(f'{name}="{_escaped(value)}"' for name, value in zip(names, values, strict=True)) + "}"


def _escaped(value: str) -> str:
    # A lone surrogate (broken JSON can hold one) has no UTF-8 form: unescaped it would break every scrape.
    value = value.encode("utf-8", "backslashreplace").decode()
    return value.replace("\\", r"\\").replace("\n", r"\n").replace('"', r"\"")


def _seconds(at_ms: int) -> str:
    return f"{at_ms / 1000:.3f}"


def is_bound(le: str) -> bool:
    """Whether `le` is a bucket's bound, of this version or another."""
    try:
        return float(le) <= _BOUNDS[-1]  # false for NaN
    except ValueError:
        return False


_BOUNDS = tuple(float(le) for le in BUCKETS)
_INDEX = {le: index for index, le in enumerate(BUCKETS)}


def _bucket_index(le: str) -> int:
    """The bucket of `le`; of a bound that only another version has, the first that holds all of it."""
    index = _INDEX.get(le)
    return bisect_left(_BOUNDS, float(le)) if index is None else index
