"""HTML in which nothing is markup unless a program wrote it: every text is escaped, every element is made by `tag`.

The texts come from callers, functions and backends, by way of the logs. What escaping leaves dangerous to the eye is
replaced, too: control characters, and those that turn the direction of what follows. It knows no page.
"""

from collections.abc import Iterable, Mapping
from html import escape

_VOID = frozenset({"input", "meta"})
_UNSHOWABLE = dict.fromkeys(
    (
        *(*range(0x09), *range(0x0B, 0x20), *range(0x7F, 0xA0)),
        *(*range(0x202A, 0x202F), *range(0x2066, 0x206A)),
        *range(0xD800, 0xE000),
    ),
    "\ufffd",
)
"""Control characters but tab and line feed, overrides of the writing direction, and halves of surrogate pairs."""


class Markup(str):
    """Text that is HTML already. Only `tag`, `text` and what is constant in the program make it."""

    __slots__ = ()


NOTHING = Markup()


def text(value: str) -> Markup:
    """`value` as text, also within the quotes of an attribute."""
    return Markup(escape(value.translate(_UNSHOWABLE)))


def tag(name: str, attributes: Mapping[str, str | None], *children: str) -> Markup:
    """An element. Children that are not `Markup` are text; an attribute that is None is left out."""
    written = "".join(f' {key}="{text(value)}"' for key, value in attributes.items() if value is not None)
    return Markup(f"<{name}{written}>{joined(children)}" + ("" if name in _VOID else f"</{name}>"))


def joined(parts: Iterable[str]) -> Markup:
    """Parts one after the other; those that are not `Markup` are text."""
    return Markup("".join(part if isinstance(part, Markup) else text(part) for part in parts))
