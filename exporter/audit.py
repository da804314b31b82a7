"""How much comes later than allowed: one minute of each hour and group, listed again an hour on.

What comes later than `allowed_lateness` is not counted, and nobody would know. So of one minute an hour the number of
lines is noted when the watermark passes it, and compared with a new listing an hour later; the difference is told by
`late_events_total`. An audit never counts a request. It is a sample, one minute in sixty, and what was noted is lost
with the process. Nothing here reads or knows the present.
"""

from collections.abc import Iterable
from typing import NamedTuple
from zlib import crc32

from exporter.model import LogGroup, Window
from exporter.windows import MINUTE_MS

HOUR_MS = 60 * MINUTE_MS


class Due(NamedTuple):
    """A minute to be listed again."""

    group: LogGroup
    window: Window
    noted: int
    """How many lines it had when the watermark passed it."""


class Audit:
    """The minutes noted of some groups."""

    def __init__(self) -> None:
        self._noted: dict[tuple[LogGroup, Window], int] = {}

    def minute(self, group: LogGroup, frontier_ms: int, new_frontier_ms: int) -> Window | None:
        """The minute to be noted when the frontier moves from one time to the other, if there is one between.

        Groups are audited at different minutes of the hour, so that their listings do not come together.
        """
        offset_ms = crc32(group.name.encode()) % 60 * MINUTE_MS
        hour_ms = (new_frontier_ms - MINUTE_MS - offset_ms) // HOUR_MS * HOUR_MS
        window = Window(hour_ms + offset_ms, hour_ms + offset_ms + MINUTE_MS)
        return window if frontier_ms <= window.start_ms and window.end_ms <= new_frontier_ms else None

    def note(self, group: LogGroup, window: Window, lines: int) -> None:
        """Remember how many lines a minute had when it was read for good."""
        self._noted[group, window] = lines

    def due(self, now_ms: int, groups: Iterable[LogGroup]) -> list[Due]:
        """The minutes of `groups` that are an hour old; each is given once."""
        wanted = set(groups)
        old = [key for key in self._noted if key[0] in wanted and key[1].end_ms + HOUR_MS <= now_ms]
        return [Due(group, window, self._noted.pop((group, window))) for group, window in old]
