"""Times, numbers and sizes as the pages write them; all times are UTC."""

from datetime import UTC, datetime

from exporter.failures.markup import Markup, tag
from exporter.model import UNKNOWN


def clock_time(at_ms: int) -> str:
    """`10:31`."""
    return f"{_moment(at_ms):%H:%M}"


def full_time(at_ms: int) -> str:
    """`2026-01-31 10:31:07`."""
    return f"{_moment(at_ms):%Y-%m-%d %H:%M:%S}"


def time(at_ms: int) -> Markup:
    """A moment as an element, to the second."""
    return tag("time", {"datetime": f"{_moment(at_ms):%Y-%m-%dT%H:%M:%SZ}"}, full_time(at_ms))


def counted(number: int, noun: str) -> str:
    """`1 failure`, `1,234 failures`."""
    return f"{number:,} {noun}" if number == 1 else f"{number:,} {noun}s"


def milliseconds(length_ms: int | None) -> str:
    """`29,012 ms`, or a dash."""
    return "-" if length_ms is None else f"{length_ms:,} ms"


def mebibytes(size_bytes: int) -> str:
    """`0.4 MiB`."""
    return f"{size_bytes / 1024 / 1024:.1f} MiB"


def status_of(status: int | None) -> str:
    """`504`, or a word."""
    return "no status" if status is None else str(status)


def route_of(method: str | None, resource: str | None) -> str:
    """`GET /orders/{id}`, as much of it as is known."""
    return " ".join(part for part in (method, resource) if part not in (None, UNKNOWN)) or "unknown route"


def _moment(at_ms: int) -> datetime:
    return datetime.fromtimestamp(at_ms / 1000, UTC)
