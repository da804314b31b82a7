"""Access lines in JSON: a line's keys are learnt once, then read by a decoder made for just these.

Whatever differs from what was learnt, be it one key, is read anew; nothing is ever carried over from one line to the
next. Lines that are no valid JSON (API Gateway pastes some values in unescaped) are read as far as they are whole.
"""

import re
from collections.abc import Callable, Mapping, Sequence
from itertools import chain
from operator import attrgetter
from typing import NamedTuple, cast

import msgspec

from exporter.access_format import AccessFormatError, Piece, TextFormat, Variable
from exporter.access_values import Columns, Repeating, Scalar, present, text_of
from exporter.access_variables import GLANCE_VARIABLES, variables_of
from exporter.loops import Form, JsonColumns
from exporter.model import LogEvent, Unreadable
from exporter.torn_json import MAX_DEPTH, MAX_KEYS, REFUSED, cleaned, torn_values

NOT_JSON = Unreadable(reason="not_json")
"""Not a JSON object, nor the torn remains of one."""

_decode = msgspec.json.Decoder().decode

# --------------------------------------------------------------------------------------------------------- whole lines

_NESTED = frozenset({dict, list})


def _flat(tree: Mapping[str, object]) -> Mapping[str, Scalar]:
    """Every scalar by its path: nested keys (and places in a list) joined by dots."""
    if _NESTED.isdisjoint(map(type, tree.values())):
        return cast("Mapping[str, Scalar]", tree)
    found: dict[str, Scalar] = {}
    pending: list[tuple[str, object, int]] = [("", tree, 0)]
    while pending and len(found) < MAX_KEYS:
        path, value, depth = pending.pop()
        if isinstance(value, dict | list):
            if depth < MAX_DEPTH:
                inner = value.items() if isinstance(value, dict) else enumerate(value)
                prefix = f"{path}." if path else ""
                pending.extend([(f"{prefix}{key}", item, depth + 1) for key, item in inner][::-1])
        elif value is None or isinstance(value, str | int | float):
            found[path] = value
    return found


class _Learnt(NamedTuple):
    """A reader of lines that have exactly these keys, nested alike."""

    decode: Callable[[str], object]
    glance_values: Callable[[object], tuple[Scalar, ...]]
    many: JsonColumns
    """Reads many of them at a time."""


def _struct_for(tree: Mapping[str, object], prefix: str, place: str, places: dict[str, str]) -> type | None:
    """A struct that takes an object with just these keys and refuses any other; fills `places` (path: attribute)."""
    if place.count(".") > MAX_DEPTH or len(tree) > MAX_KEYS:
        return None
    fields: list[tuple[str, object]] = []
    for index, (key, value) in enumerate(tree.items()):
        if not key.isprintable() or '"' in key or "\\" in key or f"{prefix}{key}" in places:
            return None
        kind: object = Scalar
        if isinstance(value, dict):
            kind = _struct_for(value, f"{prefix}{key}.", f"{place}f{index}.", places)
            if kind is None:
                return None
        elif isinstance(value, list):
            kind = list
        else:
            places[f"{prefix}{key}"] = f"{place}f{index}"
        fields.append((f"f{index}", kind))
    return msgspec.defstruct(
        "Line",
        fields,
        rename={f"f{index}": key for index, key in enumerate(tree)},
        forbid_unknown_fields=True,
        namespace={"absent": None},
        gc=False,  # it lives no longer than it takes to read it
    )


_MARK = re.compile("\ue000([0-9]+)\ue001")
"""What stands in the place of a value, to find out where it goes."""
_KEY_OR_VALUE = re.compile(
    r'"(?:[^"\\]|\\.)*+"\s*+:|(?P<text>"(?:[^"\\]|\\.)*+")|(?P<number>(?<=[\s:,\[])(?:0|[1-9][0-9]*+)(?![.eE]))',
    re.ASCII,
)


def form_of(line: str, names: Mapping[str, str]) -> Form | None:
    """How a valid line looks around its values; None where these cannot be told from the rest.

    Each value is replaced by its number and the line decoded again: its path is told by the decoder alone.
    """
    found = [match for match in _KEY_OR_VALUE.finditer(line) if match.lastgroup]
    quoted = [match.lastgroup == "text" for match in found]
    ends = [0, *(match.end() - mark for match, mark in zip(found, quoted, strict=True))]
    starts = [*(match.start() + mark for match, mark in zip(found, quoted, strict=True)), len(line)]
    between = [line[end:start] for end, start in zip(ends, starts, strict=True)]
    numbered = [f"\ue000{number}\ue001" if mark else f'"\ue000{number}\ue001"' for number, mark in enumerate(quoted)]
    try:
        tree = _decode("".join(chain.from_iterable(zip(between, [*numbered, ""], strict=True))))
    except REFUSED:
        return None
    columns = [-1] * len(found)
    for path, value in _flat(tree).items():
        number = _MARK.fullmatch(value) if isinstance(value, str) else None
        if number is not None:
            if names.get(path) in GLANCE_VARIABLES:
                columns[int(number[1])] = GLANCE_VARIABLES.index(names[path])
        elif names.get(path) in GLANCE_VARIABLES or not (value is None or isinstance(value, bool)):
            return None  # neither a text nor a whole number: it would have to be the same in every line
    return between, quoted, columns


def _learn(line: str, tree: Mapping[str, object], names: Mapping[str, str]) -> _Learnt | None:
    places: dict[str, str] = {}
    kind = _struct_for(tree, "", "", places)
    if kind is None:
        return None
    attributes = {variable: places.get(path) for path, variable in names.items() if variable in GLANCE_VARIABLES}
    wanted = [attributes.get(variable, "absent") for variable in GLANCE_VARIABLES]
    found = [attribute for attribute in wanted if attribute is not None]
    if len(found) < len(wanted):
        return None  # one stands in a list
    return _learnt(msgspec.json.Decoder(kind).decode, attrgetter(*found), form_of(line, names))


def _learnt(
    decode: Callable[[str], object], glance_values: Callable[[object], tuple[Scalar, ...]], form: Form | None
) -> _Learnt:
    many = JsonColumns(decode, glance_values, REFUSED, form, len(GLANCE_VARIABLES))
    return _Learnt(decode, glance_values, many)


# ------------------------------------------------------------------------------------------------------------ a format


class JsonFormat(NamedTuple):
    """Which variable stands behind which key, as the format itself says."""

    variables: Mapping[str, str]
    """By path. A key with a constant behind it stands for itself."""
    composites: Mapping[str, TextFormat]
    """Keys whose value is made of several variables, or of one and some text."""
    text: TextFormat | None
    """The whole line as text, for lines that values have torn; None where only JSON tells the values apart."""


def _filled(pieces: list[Piece]) -> str:
    """The format with a marker for each variable, quoted where the format has no quotes around it."""
    out: list[str] = []
    quoted = False
    for index, piece in enumerate(pieces):
        if isinstance(piece, Variable):
            mark = f"\ue000{index}\ue001"
            out.append(mark if quoted else f'"{mark}"')
            continue
        out.append(piece)
        for char in re.sub(r"\\.", "", piece):
            quoted ^= char == '"'
    return "".join(out)


def json_format(pieces: list[Piece]) -> JsonFormat | None:
    """The format's keys; None if it is no JSON object even when filled in, or one whose keys do not tell all values.

    Raises `AccessFormatError`.
    """
    try:
        tree = _decode(_filled(pieces))
    except REFUSED:
        return None
    if not isinstance(tree, dict):
        return None
    variables: dict[str, str] = {}
    composites: dict[str, TextFormat] = {}
    for path, value in _flat(tree).items():
        inner = _MARK.split(value) if isinstance(value, str) else []
        parts: list[Piece] = [
            pieces[int(text)] if place % 2 else text for place, text in enumerate(inner) if text or place % 2
        ]
        if len(parts) == 1 and isinstance(parts[0], Variable):
            variables[path] = parts[0].name
        elif any(isinstance(part, Variable) for part in parts):
            composites[path] = TextFormat(parts)
            variables[path] = path
        else:
            variables[path] = path
    told = {*variables.values(), *(name for composite in composites.values() for name in composite.names)}
    if not {piece.name for piece in pieces if isinstance(piece, Variable)} <= told:
        return None  # a key that comes twice
    try:
        text = TextFormat(pieces)
    except AccessFormatError:
        text = None
    return JsonFormat(variables=variables, composites=composites, text=text)


# ------------------------------------------------------------------------------------------------------------- reading

_MAX_LEARNT = 5
_MISFITS = 256
"""After so many lines that have the keys but not the form of the line that was learnt, another's form is taken."""
_MAX_NAMED = 64


def _chosen(values: Mapping[str, str]) -> Sequence[Scalar]:
    return tuple(values.get(name) for name in GLANCE_VARIABLES)


class _Names(NamedTuple):
    """The variables behind the keys of a line."""

    of_path: Mapping[str, str]
    plain: Sequence[str] | None
    """In the order of the keys, where each key is one variable and no other key is it too."""


_NO_KEYS = _learnt(
    msgspec.json.Decoder(msgspec.defstruct("Line", [], forbid_unknown_fields=True)).decode,
    lambda _line: (None,) * len(GLANCE_VARIABLES),
    None,
)
"""What is learnt before the first line: an object without keys."""


class JsonLines:
    """Reads JSON lines, of one format or of any. Keeps what it learnt of keys, never a value.

    `read` reads lines with the keys of the last one; any other line is for `look`.
    """

    def __init__(self, known: JsonFormat | None = None) -> None:
        self._known = known
        self._learnt: list[_Learnt] = []
        self._patience = _MISFITS
        self._prefer(_NO_KEYS)
        self._names: dict[tuple[str, ...], _Names] = {}

    def read(self, events: list[LogEvent], start: int, columns: Columns, known: Mapping[Repeating, object]) -> int:
        """Add the values of the lines from place `start` on; returns how many were read.

        The first line with other keys than the last one that `look` read is the end of it.
        """
        learnt = self._learnt[0]
        read = learnt.many.read(events, start, columns, known)
        if learnt.many.misfits >= self._patience and read:
            self._learn_form(learnt, events[start + read - 1].message.strip())
        return read

    def _learn_form(self, learnt: _Learnt, line: str) -> None:
        """Take the form of a line with keys that are known: what they were learnt of was one of a kind, or is no more.

        Lines that have no form in common have twice as long each time.
        """
        self._patience *= 2
        names = self._names_of(_flat(_decode(line))).of_path
        self._learnt[0] = _learnt(learnt.decode, learnt.glance_values, form_of(line, names))

    def look(self, line: str) -> Sequence[Scalar] | Unreadable:
        """The values of GLANCE_VARIABLES. `line` has no white space around it."""
        for learnt in self._learnt:
            try:
                found = learnt.decode(line)
            except REFUSED:
                continue
            if learnt is not self._learnt[0]:
                self._prefer(learnt)
            return learnt.glance_values(found)
        try:
            tree = _decode(line)
        except REFUSED:
            return self._look_at_torn(line)
        if not isinstance(tree, dict):
            return NOT_JSON
        scalars = _flat(tree)
        if len(self._learnt) < _MAX_LEARNT and not (self._known and self._known.composites):
            learnt_now = _learn(line, tree, self._names_of(scalars).of_path)
            if learnt_now is not None:
                self._prefer(learnt_now)
        return _chosen(self._values_of(scalars))

    def _prefer(self, learnt: _Learnt) -> None:
        self._learnt = [learnt, *(other for other in self._learnt if other is not learnt)]

    def values(self, line: str) -> dict[str, str] | Unreadable:
        """Every value by its variable; keys that tell of none keep their name."""
        try:
            tree = _decode(line)
        except REFUSED:
            return self._values_of_torn(line)
        return self._values_of(_flat(tree)) if isinstance(tree, dict) else NOT_JSON

    def _look_at_torn(self, line: str) -> Sequence[Scalar] | Unreadable:
        if self._known is not None and self._known.text is not None:
            found = self._known.text.glance_values(line)
            if found is not None:
                return tuple(None if value is None else cleaned(value) for value in found)
        values = self._values_of_torn(line)
        return values if isinstance(values, Unreadable) else _chosen(values)

    def _values_of_torn(self, line: str) -> dict[str, str] | Unreadable:
        if self._known is not None and self._known.text is not None:
            found = self._known.text.values(line)
            if found is not None:
                return {name: text for name, value in found.items() if (text := cleaned(value)) is not None}
        torn = {path: text for path, value in torn_values(line).items() if (text := cleaned(value)) is not None}
        return self._values_of(torn) if torn else NOT_JSON

    def _names_of(self, scalars: Mapping[str, Scalar]) -> "_Names":
        paths = tuple(scalars)
        names = self._names.get(paths)
        if names is None:
            if len(self._names) >= _MAX_NAMED:
                self._names.clear()
            of_path = variables_of(paths, self._known.variables if self._known else None)
            composites = self._known.composites if self._known is not None else {}
            plain = len(set(of_path.values())) == len(of_path) and composites.keys().isdisjoint(of_path)
            names = self._names[paths] = _Names(of_path, tuple(of_path[path] for path in paths) if plain else None)
        return names

    def _values_of(self, scalars: Mapping[str, Scalar]) -> dict[str, str]:
        of_path, plain = self._names_of(scalars)
        if plain is not None:
            return present(plain, scalars.values())
        composites = self._known.composites if self._known is not None else {}
        values: dict[str, str] = {}
        for path, name in of_path.items():
            text = text_of(scalars[path])
            if text is None:
                continue
            if path in composites and (inner := composites[path].values(text)) is not None:
                for variable, value in inner.items():
                    values.setdefault(variable, value)
            else:
                values.setdefault(name, text)
        return values
