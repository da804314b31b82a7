r"""Which access lines to ask for where only those of failed requests are wanted: a format becomes a filter pattern.

Where the stage's own format is known, the text before `$context.status` finds the status; elsewhere every number of
three digits that could be one does, so that a latency of 504 ms is fetched for nothing, and a status never missed. A
failure can also stand behind a good status: then the response type or the gateway's words in the line tell. Pure; the
lines that come are looked at again by those who asked.
"""

import re
from collections.abc import Sequence

from exporter.access_format import Piece, Variable, pieces_of
from exporter.filter_patterns import GATEWAY_ERROR_WORDS, MAX_PATTERN, literal, regex

_NUMBER = r"[45]\d\d"
_ANYWHERE = (rf"\W{_NUMBER}\W", rf"^{_NUMBER}\W", rf"\W{_NUMBER}$")
_RESPONSE_TYPES = (
    *("ACCESS_DENIED", "API_CONFIGURATION_ERROR", "AUTHORIZER_CONFIGURATION_ERROR", "AUTHORIZER_FAILURE"),
    *("BAD_REQUEST_PARAMETERS", "BAD_REQUEST_BODY", "DEFAULT_4XX", "DEFAULT_5XX", "EXPIRED_TOKEN"),
    *("INTEGRATION_FAILURE", "INTEGRATION_TIMEOUT", "INVALID_API_KEY", "INVALID_SIGNATURE"),
    *("MISSING_AUTHENTICATION_TOKEN", "QUOTA_EXCEEDED", "REQUEST_TOO_LARGE", "RESOURCE_NOT_FOUND", "THROTTLED"),
    *("UNAUTHORIZED", "UNSUPPORTED_MEDIA_TYPE", "WAF_FILTERED"),
)
"""All there are [AWS: supported gateway response types]; a stage may give any of them a status under 400."""
_KEPT = 24
"""So much of the text before a value is looked for."""
_TELLING = 4
"""So many characters beside white space tell a place from any other."""


def failed_access_patterns(spec: str) -> tuple[str, ...]:
    """Patterns that select the failing lines of a format (as `access_parser` takes it), the most sparing first.

    The next is for lines that the one before misses: of a format that the stage has meanwhile changed. Empty where the
    format does not log the status, without which failures cannot be selected. Raises `AccessFormatError`.
    """
    others = (*_RESPONSE_TYPES, *GATEWAY_ERROR_WORDS)
    anywhere = regex(*_ANYWHERE, *others)
    pieces = pieces_of(spec.strip())
    if not any(isinstance(piece, Variable) for piece in pieces):
        return (anywhere,)  # a format's name
    status = _surroundings("status", pieces)
    if status is None:
        return ()
    before, behind = status
    kind = _surroundings("error.responseType", pieces)
    if kind is not None and len("".join((kind[0] or "").split())) >= _TELLING:
        others = (f"{_lead(kind[0])}[A-Z]", *others)
    own = regex(f"{_lead(before)}{_NUMBER}{literal(behind)}", *others)
    return (own, anywhere) if len(own) <= MAX_PATTERN else (anywhere,)


def _surroundings(name: str, pieces: Sequence[Piece]) -> tuple[str | None, str] | None:
    """The text before a variable (None: it begins the line) and the character behind it, as far as they are ASCII.

    None where the format does not log it.
    """
    if Variable(name) not in pieces:
        return None
    at = pieces.index(Variable(name))
    before, behind = pieces[at - 1] if at else None, pieces[at + 1] if at + 1 < len(pieces) else ""
    if isinstance(before, str):
        before = re.split(r"[^\x00-\x7f]", before[-_KEPT:])[-1]
    return (
        "" if isinstance(before, Variable) else before,
        behind[:1] if isinstance(behind, str) and behind[:1].isascii() else "",
    )


def _lead(before: str | None) -> str:
    """The regular expression for the text before a value; how much white space is in it does not matter."""
    if before is None:
        return r"^\s*"
    gap = r"\s*" if before.strip() else r"\s"
    return gap.join(literal(word) for word in re.split(r"\s+", before))
