"""A stage's format string as a reader of its lines: the text between `$context` variables shows where values end.

It becomes one regular expression, linear in the line; where values end as simply as in nearly all formats, that is told
to a compiled loop, too, which finds the same. A format whose lines could be cut in two ways is refused when it is
compiled, naming the two variables. It knows the shape that a variable's values can have, never what they mean.
"""

import re
from collections.abc import Sequence
from functools import cache
from typing import NamedTuple

from exporter.access_shapes import SLASH, VERB, Shape, may_hold, members, shape_of
from exporter.access_values import text_of
from exporter.access_variables import GLANCE_VARIABLES, VARIABLES
from exporter.loops import ANYHOW, AT_SLASH, AT_VERB, Run, TextColumns, TextForm
from exporter.model import Unreadable

FORMAT_MISMATCH = Unreadable(reason="format_mismatch")
"""The line is not what the format makes."""


class AccessFormatError(ValueError):
    """A format that cannot be read unambiguously. The message names what is wrong and how to mend it."""


# ---------------------------------------------------------------------------------------------------------- the pieces


class Variable(NamedTuple):
    """`$context.<name>` (or `$stageVariables.<name>`, which keeps its prefix)."""

    name: str


Piece = str | Variable

_REFERENCE = re.compile(
    r"\$(?P<brace>\{?)(?:context\.(?P<name>[A-Za-z0-9_]+(?:\.[A-Za-z0-9_]+)*)(?P<rest>[A-Za-z0-9_:-]*[A-Za-z0-9_])?"
    r"|(?P<other>(?:stageVariables|input)\.[A-Za-z0-9_]+))"
)
_OPEN_NAMES = ("authorizer.", "requestOverride.", "responseOverride.")
"""Behind these come names that users choose, with `-` and `:` in them (`authorizer.claims.cognito:groups`)."""


def pieces_of(spec: str) -> list[Piece]:
    """The format's literal texts and variables, in order; no empty and no two neighbouring texts."""
    found: list[Piece] = []
    at = 0
    for reference in _REFERENCE.finditer(spec):
        name, end = reference["name"], reference.end("name")
        if name is None:
            name, end = reference["other"], reference.end("other")
        elif reference["rest"] and name not in VARIABLES and name.startswith(_OPEN_NAMES):
            name, end = name + reference["rest"], reference.end("rest")
        if reference["brace"] and spec[end : end + 1] == "}":
            end += 1
        if reference.start() > at:
            found.append(spec[at : reference.start()])
        found.append(Variable(name))
        at = end
    if at < len(spec):
        found.append(spec[at:])
    for piece in found:
        if isinstance(piece, str) and "$context" in piece:
            position = spec.index(piece) + piece.index("$context")
            raise AccessFormatError(
                f"position {position}: `$context` without a variable's name; write `$context.<variable>`"
            )
    return found


# --------------------------------------------------------------------------------------------------------- compilation

_BEGINS = {"": ANYHOW, SLASH: AT_SLASH, VERB: AT_VERB}

_BREAKS = frozenset("\"'|\t<>;[]{}`^~")
"""Characters that people put between values because values do not contain them."""


def _parts(literal: str, shape: Shape) -> bool:
    """Whether this text between two variables shows by itself where the first one ends."""
    if literal == "," or any(char in _BREAKS or char.isalnum() for char in literal):
        return True
    return shape.chars is not None and any(char.isspace() for char in literal)


def _ambiguous(first: str, second: str, literal: str) -> AccessFormatError:
    between = f"both may contain the {literal!r} between them" if literal else "nothing stands between them"
    return AccessFormatError(
        f"$context.{first} and $context.{second} cannot be told apart: {between}; put ` | ` between them, or quotes "
        "around them"
    )


def _run(shape: Shape, manner: str) -> str:
    return f"{shape.head}[{shape.chars}]{{1,{shape.longest}}}{manner}"


@cache
def _allowed(chars: str, end: str) -> str:
    """The ASCII characters of a class, without the one that ends a value."""
    return "".join(char for char in map(chr, range(128)) if char != end and re.match(f"[{chars}]", char))


def _reach(shape: Shape, chars: str, follower: str | None) -> Run:
    """As far as `_run`: up to the first character of what follows, which no value of this reach has in it."""
    return Run(_allowed(chars, (follower or "")[:1]), shape.longest, _BEGINS[shape.head])


class _Value(NamedTuple):
    """How one value is matched."""

    expression: str
    lazy: bool = False
    undecided: bool = False
    """Whether neither the value nor what stands behind it shows where it ends."""
    reach: Run | None = None
    """Where the expression reaches if the rest of the line fits; None where that is not as simple."""


def _value(variable: Variable, follower: Piece | None, *, exactly: bool) -> _Value:
    shape = shape_of(variable.name)
    if isinstance(follower, Variable):
        if shape.exact is not None:
            return _Value(shape.exact)
        after = shape_of(follower.name)
        # A value does not end in a dash: that is the next one, absent.
        starts = frozenset("/") if after.head == SLASH else members(after.chars)
        if shape.chars is None or (members(shape.chars) - {"-"}) & starts:
            raise _ambiguous(variable.name, follower.name, "")
        return _Value(_run(shape, "") + "(?<!-)")
    if exactly and shape.exact is not None:
        return _Value(shape.exact)
    if shape.chars is None:
        if follower is None:
            return _Value(".*+", reach=Run(None))
        if shape.quoted:
            return _Value('".*?"|[^"]*?', lazy=True)
        # Behind a comma the expression looks further on: see `_compile`.
        reach = Run(None) if follower != "," else None
        return _Value(".*?", lazy=True, undecided=not _parts(follower, shape), reach=reach)
    if follower is None or not may_hold(shape, follower[0]):
        return _Value(_run(shape, "+"), reach=_reach(shape, shape.chars, follower))
    if shape.exact is not None:
        return _Value(shape.exact)
    return _Value(
        _run(shape, "?"), lazy=True, undecided=not _parts(follower, shape), reach=_reach(shape, shape.chars, follower)
    )


class _Open(NamedTuple):
    """A value whose end must still be shown by something further on."""

    variable: Variable
    literal: str

    def admits(self, following: Variable) -> bool:
        """Whether both can be told apart although only `literal` lies between them."""
        mine, other = shape_of(self.variable.name), shape_of(following.name)
        if other.exact is not None:
            return True
        if mine.chars is None:
            return other.chars is not None
        return not may_hold(other, self.literal[0])


class _Compiled(NamedTuple):
    """A format, compiled."""

    expression: str
    reaches: Sequence[Run | None]
    """Of its values."""


def _compile(pieces: Sequence[Piece]) -> _Compiled:
    """One expression for a whole line, linear in its length.

    A value that nothing but its delimiter ends is matched lazily, together with all that must follow up to the next
    such value, as one atomic group: the first place where this fits is taken for good, nothing is tried twice.
    """
    out: list[str] = []
    reaches: list[Run | None] = []
    grouped = False
    still_open: _Open | None = None
    for index, piece in enumerate(pieces):
        if isinstance(piece, str):
            before = pieces[index - 1] if index else None
            behind_text = isinstance(before, Variable) and shape_of(before.name).chars is None
            # A comma inside free text has a space behind it, one between values has not.
            out.append(",(?! )" if piece == "," and behind_text else re.escape(piece))
            if _BREAKS.intersection(piece):
                still_open = None
            continue
        if still_open is not None and not still_open.admits(piece):
            raise _ambiguous(still_open.variable.name, piece.name, still_open.literal)
        follower = pieces[index + 1] if index + 1 < len(pieces) else None
        value = _value(piece, follower, exactly=still_open is not None)
        reaches.append(value.reach)
        if still_open is not None and (
            shape_of(piece.name).exact is not None or shape_of(still_open.variable.name).chars is not None
        ):
            still_open = None
        if value.lazy:
            out.append(")(?>" if grouped else "(?>")
            grouped = True
        out.append(f"({value.expression})" if value.expression.startswith(".") else f"({value.expression}|-)")
        if value.undecided and isinstance(follower, str):
            still_open = _Open(piece, follower)
    return _Compiled("".join(out) + r"\Z" + (")" if grouped else ""), reaches)


def _form(pieces: Sequence[Piece], reaches: Sequence[Run | None]) -> TextForm | None:
    """The form of lines whose values all end simply."""
    runs = [reach for reach in reaches if reach is not None]
    if len(runs) < len(reaches):
        return None
    between = [""]
    names: list[str] = []
    columns: list[int] = []
    for piece in pieces:
        if isinstance(piece, str):
            between[-1] = piece
            continue
        # Of a variable that is logged twice the first value counts.
        is_wanted = piece.name in GLANCE_VARIABLES and piece.name not in names
        columns.append(GLANCE_VARIABLES.index(piece.name) if is_wanted else -1)
        names.append(piece.name)
        between.append("")
    return between, runs, columns


class TextFormat:
    """Reads lines that a format makes."""

    def __init__(self, pieces: Sequence[Piece]) -> None:
        """Raises `AccessFormatError` for a format whose lines could be cut in two ways."""
        self.names = tuple(piece.name for piece in pieces if isinstance(piece, Variable))
        expression, reaches = _compile(pieces)
        # The group behind the last never matches: it stands for what the format does not log.
        self._match = re.compile(expression + "((?!))?", re.DOTALL).match
        absent = len(self.names) + 1
        self._glance_groups = tuple(
            self.names.index(name) + 1 if name in self.names else absent for name in GLANCE_VARIABLES
        )

        self.many = TextColumns(self._row_of, _form(pieces, reaches), len(GLANCE_VARIABLES))
        """Reads many lines at a time."""

    def _row_of(self, line: str) -> Sequence[str | None] | None:
        return self.glance_values(line.strip())

    def glance_values(self, line: str) -> Sequence[str | None] | None:
        """The values of GLANCE_VARIABLES, or None: not a line of this format. `line` has no white space around it."""
        found = self._match(line)
        return found.group(*self._glance_groups) if found is not None else None

    def values(self, line: str) -> dict[str, str] | None:
        """Every value that the line has, by its variable."""
        found = self._match(line)
        if found is None:
            return None
        values: dict[str, str] = {}
        for name, value in zip(self.names, found.groups(), strict=False):
            text = text_of(value)
            if text is not None:
                values.setdefault(name, text)
        return values
