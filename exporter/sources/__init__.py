"""Where log lines come from: the protocol that the spine reads by, and the ways in which reading fails.

A source lists one log group within one window, page by page, and says why when it cannot. It never decides what a
line means, never remembers how far it has read, and never skips a page.
"""

from collections.abc import Iterator, Sequence
from typing import Protocol

from exporter.model import LogGroup, Page, Window

MAX_TESTED = 50
"""The most messages of one question which of them a pattern selects [AWS: TestMetricFilter]."""


class SourceError(Exception):
    """A listing that did not reach its end. `str()` is safe to show: it carries no line, no credential."""

    def __init__(self, group: LogGroup, reason: str, message: str) -> None:
        super().__init__(f"{group.name} ({group.account}/{group.region}): {message}")
        self.group = group
        self.reason = reason
        """A short constant for labels: `throttled`, `unavailable`, `credentials`, `denied`, `missing`, `token`, …"""


class Unavailable(SourceError):
    """Throttled, refused, reset, timed out, without credentials, even after retries: the window stays unread."""


class GroupUnreadable(SourceError):
    """The group is `missing` or access to it `denied`: no retry of this listing helps, the others go on."""


class ListingBroken(SourceError):
    """A token came back twice or was refused: what was listed is no listing; list the window anew."""


class PatternRefused(SourceError):
    """The service does not take the filter pattern of a listing."""


class Source(Protocol):
    """One account and region of CloudWatch Logs, or what stands for it."""

    def pages(self, group: LogGroup, window: Window, pattern: str | None = None, parts: int = 1) -> Iterator[Page]:
        """All events of `group` with `window.start_ms <= at_ms < window.end_ms`, in pages, to the last one.

        `pattern`: a filter pattern; events that it does not select may be left out, and need not be. `parts`: into so
        many parts of equal length the window may be cut, to be listed side by side: the pages of each come in order,
        but mixed with those of others (`Page.part`). Both readings of the service's end (included or not) give the
        same events. Raises a `SourceError`.
        """
        ...

    def selected(self, pattern: str, messages: Sequence[str]) -> frozenset[str] | None:
        """Those of at most `MAX_TESTED` messages that the service selects by `pattern`; None: it does not tell."""
        ...

    def now_ms(self) -> int:
        """The service's clock: ours, corrected by its last `Date` header."""
        ...
