r"""Filter patterns: what the service is asked to leave out before it answers.

Only quoted phrases and plain terms are used. They read every format alike, and find the lines that JSON patterns cannot
see: an access line in JSON whose message was pasted in unescaped is no JSON to CloudWatch. So a pattern selects too
much now and then (a latency of 504 ms beside the status), never too little; `Query` decides. Terms with `?` are never
mixed with others, because AWS then ignores them. Pure.
"""

from collections.abc import Iterable, Sequence

from exporter.find.query import FIRST_FAILED_STATUS, Query
from exporter.model import GATEWAY_ERRORS

MAX_PATTERN = 1024
"""The most characters of a pattern."""

_COMPLETED = "Method completed with status: "
_FAILED_STATUSES = range(FIRST_FAILED_STATUS, 600)
_FEW_STATUSES = 20
_LONGEST_PHRASE = 900


def access_pattern(query: Query) -> str | None:
    """Return the pattern that selects the access lines of a query; None: all lines are wanted."""
    if query.ids:
        return _either(query.ids)
    if query.words:
        # More terms narrow the listing; of several statuses none can be demanded beside a phrase.
        return " ".join([_phrase(_cut(query.words)), *(map(str, query.statuses) if len(query.statuses) == 1 else ())])
    statuses = sorted(query.statuses) or ([*_FAILED_STATUSES] if query.cause is not None else [])
    return _fitting(" ".join(f"?{status}" for status in statuses) if len(statuses) > 1 else "".join(map(str, statuses)))


def execution_patterns(query: Query, *, alone: bool) -> tuple[str, ...]:
    """Return the patterns, one listing each, that select execution lines which name requests of a query.

    `alone`: there are no access lines that would tell of the requests. Empty: execution lines cannot tell more.
    """
    if query.ids:
        return (_either(query.ids),)
    if query.words:
        return (_phrase(_cut(query.words)),)
    # A failure behind a status under 400 shows in its reason line alone.
    reasons = (_either([head.rstrip(" :") for head in GATEWAY_ERRORS]),) if query.cause is not None else ()
    return (*_completed(query), *reasons) if alone else reasons


def id_patterns(ids: Iterable[str]) -> list[str]:
    """Return patterns that select the lines with any of `ids`, as few as the length of a pattern allows."""
    found: list[str] = []
    terms: list[str] = []
    for text in ids:
        term = f"?{_phrase(text)}"
        if terms and sum(map(len, terms)) + len(terms) + len(term) > MAX_PATTERN:
            found.append(_joined(terms))
            terms = []
        terms.append(term)
    if terms:
        found.append(_joined(terms))
    return found


def _completed(query: Query) -> tuple[str, ...]:
    statuses = sorted(query.statuses)
    if 0 < len(statuses) <= _FEW_STATUSES:
        return tuple(id_patterns(f"{_COMPLETED}{status}" for status in statuses))
    classes = "".join(sorted({str(status // 100) for status in statuses or _FAILED_STATUSES}))
    return (f"%{_COMPLETED}[{classes}]%",)


def _either(texts: Sequence[str]) -> str:
    return _joined([f"?{_phrase(text)}" for text in texts])


def _joined(terms: Sequence[str]) -> str:
    return terms[0].removeprefix("?") if len(terms) == 1 else " ".join(terms)


def _phrase(text: str) -> str:
    escaped = text.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"'


def _fitting(pattern: str) -> str | None:
    return pattern if 0 < len(pattern) <= MAX_PATTERN else None


def _cut(words: str) -> str:
    """As much of a long message as a pattern holds, to the end of a word."""
    return words if len(words) <= _LONGEST_PHRASE else words[:_LONGEST_PHRASE].rpartition(" ")[0]
