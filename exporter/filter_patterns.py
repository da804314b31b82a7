r"""CloudWatch Logs' filter patterns: what the service is asked to leave out before it answers.

Only quoted phrases, alternatives of them and single regular expressions are written here, because they read every
format alike and see lines that JSON patterns cannot: an access line whose message was pasted in unescaped is no JSON to
CloudWatch. A pattern selects too much now and then, never too little; whoever asks looks at the lines again. Terms with
`?` are never mixed with others, because AWS then ignores them. Pure; what a pattern is good for, others decide.
"""

import re
from collections.abc import Iterable, Sequence

from exporter.model import GATEWAY_ERRORS

MAX_PATTERN = 1024
"""The most characters of a pattern."""

_PLAIN = re.compile(r"[A-Za-z0-9:_#=@/;,]", re.ASCII)
"""Characters that stand for themselves in the service's regular expressions; it documents no others but `-`."""


def phrase(text: str) -> str:
    """Return the term that selects lines with exactly this text in them."""
    escaped = text.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"'


def either(texts: Sequence[str]) -> str:
    """Return the pattern that selects lines with any of these texts."""
    terms = [phrase(text) for text in texts]
    return terms[0] if len(terms) == 1 else " ".join(f"?{term}" for term in terms)


def id_patterns(ids: Iterable[str]) -> list[str]:
    """Return patterns that select the lines with any of `ids`, as few as a pattern's length allows."""
    return [either(batch) for batch in id_batches(ids)]


def id_batches(ids: Iterable[str]) -> list[list[str]]:
    """Put as many ids together, in their order, as `either` can hold in one pattern: 25 request ids."""
    batches: list[list[str]] = []
    used = MAX_PATTERN
    for text in ids:
        size = len(phrase(text)) + len(" ?")
        if used + size > MAX_PATTERN:
            batches.append([])
            used = -len(" ")
        batches[-1].append(text)
        used += size
    return batches


def regex(*alternatives: str) -> str:
    r"""Return the pattern that selects lines in which one of these regular expressions matches.

    The service knows neither groups nor, as far as it documents, spaces: write `\s`.
    """
    return f"%{'|'.join(alternatives)}%"


def literal(text: str) -> str:
    r"""Return the regular expression for `text` (ASCII), in the characters that the service documents."""
    return "".join(
        character if _PLAIN.match(character) else r"\s" if character.isspace() else f"\\x{ord(character):02x}"
        for character in text
    )


GATEWAY_ERROR_WORDS = tuple(literal(head.rstrip(" :")) for head in GATEWAY_ERRORS)
"""How the gateway's own reasons begin, as regular expressions; access lines may quote them."""


def completed(*, first_digits: str) -> str:
    """Return the regular expression of a terminal line whose status begins with one of `first_digits`."""
    return literal("Method completed with status: ") + f"[{first_digits}]"


FAILED_EXECUTIONS = regex(completed(first_digits="45"), *GATEWAY_ERROR_WORDS)
"""Selects the execution lines that tell of a failed request: its end, or the gateway's reason behind a good status."""
