"""Which stretches of time to search, in which order: the likely one first, then back from now in growing steps.

What people ask for is nearly always recent, and a listing costs by what it passes over. Pure.
"""

from collections.abc import Iterator

from exporter.model import Window

FIRST_MS = 5 * 60_000
GROWTH = 3
_BEFORE_ANSWER_MS = 2 * 60_000
_AFTER_ANSWER_MS = 60_000


def stretches(span: Window, *, answered_at_ms: int | None, max_request_ms: int) -> Iterator[Window]:
    """Cut `span` into windows that together are all of it, each instant once.

    `answered_at_ms`: when the response was sent, where that is known; its surroundings come first.
    """
    rest = [span]
    if answered_at_ms is not None:
        start_ms = max(span.start_ms, answered_at_ms - max_request_ms - _BEFORE_ANSWER_MS)
        end_ms = min(span.end_ms, answered_at_ms + _AFTER_ANSWER_MS)
        if start_ms < end_ms:
            yield Window(start_ms, end_ms)
            rest = [Window(end_ms, span.end_ms), Window(span.start_ms, start_ms)]
    length_ms = FIRST_MS
    for part in rest:
        end_ms = part.end_ms
        while part.start_ms < end_ms:
            start_ms = max(part.start_ms, end_ms - length_ms)
            yield Window(start_ms, end_ms)
            end_ms = start_ms
            length_ms *= GROWTH
