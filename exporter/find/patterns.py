"""What the service is asked to leave out of a search before it answers: a query becomes filter patterns.

A pattern selects too much now and then (a latency of 504 ms beside the status), never too little; `Query` decides.
Pure.
"""

from exporter.filter_patterns import MAX_PATTERN, completed, either, id_patterns, phrase, regex
from exporter.find.query import FIRST_FAILED_STATUS, Query
from exporter.model import GATEWAY_ERRORS

_COMPLETED = "Method completed with status: "
_FAILED_STATUSES = range(FIRST_FAILED_STATUS, 600)
_FEW_STATUSES = 20
_LONGEST_PHRASE = 900


def access_pattern(query: Query) -> str | None:
    """Return the pattern that selects the access lines of a query; None: all lines are wanted."""
    if query.ids:
        return either(query.ids)
    if query.words:
        # More terms narrow the listing; of several statuses none can be demanded beside a phrase.
        return " ".join([phrase(_cut(query.words)), *(map(str, query.statuses) if len(query.statuses) == 1 else ())])
    statuses = sorted(query.statuses) or ([*_FAILED_STATUSES] if query.cause is not None else [])
    return _fitting(" ".join(f"?{status}" for status in statuses) if len(statuses) > 1 else "".join(map(str, statuses)))


def execution_patterns(query: Query, *, alone: bool) -> tuple[str, ...]:
    """Return the patterns, one listing each, that select execution lines which name requests of a query.

    `alone`: there are no access lines that would tell of the requests. Empty: execution lines cannot tell more.
    """
    if query.ids:
        return (either(query.ids),)
    if query.words:
        return (phrase(_cut(query.words)),)
    # A failure behind a status under 400 shows in its reason line alone.
    reasons = (either([head.rstrip(" :") for head in GATEWAY_ERRORS]),) if query.cause is not None else ()
    return (*_completed(query), *reasons) if alone else reasons


def _completed(query: Query) -> tuple[str, ...]:
    statuses = sorted(query.statuses)
    if 0 < len(statuses) <= _FEW_STATUSES:
        return tuple(id_patterns(f"{_COMPLETED}{status}" for status in statuses))
    classes = "".join(sorted({str(status // 100) for status in statuses or _FAILED_STATUSES}))
    return (regex(completed(first_digits=classes)),)


def _fitting(pattern: str) -> str | None:
    return pattern if 0 < len(pattern) <= MAX_PATTERN else None


def _cut(words: str) -> str:
    """As much of a long message as a pattern holds, to the end of a word."""
    return words if len(words) <= _LONGEST_PHRASE else words[:_LONGEST_PHRASE].rpartition(" ")[0]
