"""YAML text -> plain values, and the line that each of them stands on.

It reads what YAML means by itself (texts, numbers, flags, lists, mappings), puts environment variables in, and finds
the mistakes that a YAML library swallows: a key given twice, `on` read as true, `012` read as ten. It knows no key of
ours and never stops at the first mistake.
"""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import NamedTuple

import yaml

Path = tuple[str | int, ...]
"""Where a value stands: `("watches", 0, "name")`."""

Value = str | int | float | bool | None | list["Value"] | dict[str, "Value"]

_SOURCE_CHARS = 60
_PLAIN_NUMBER = re.compile(r"-?(?:0|[1-9][0-9]*)(?:\.[0-9]+)?")
_VARIABLE = re.compile(r"\$\$|\$\{(?P<name>[A-Z_][A-Z0-9_]*)(?P<rest>:-(?P<default>[^}]*)\}|\})?")
_TAG = "tag:yaml.org,2002:"
_TEXT_TAGS = frozenset({f"{_TAG}str", f"{_TAG}timestamp", f"{_TAG}value"})


class Mistake(NamedTuple):
    """One thing wrong, where, and how to mend it."""

    line: int
    """From 1; 0 where no line is meant."""
    path: Path
    text: str


class FromEnvironment(str):
    """Text in which a variable was filled in: it alone may stand for a number or a flag where the file has text.

    Its own content is never shown in a message: it may be a secret that went into the wrong key.
    """

    __slots__ = ()


@dataclass(frozen=True, kw_only=True, slots=True)
class Document:
    """What a file says."""

    values: Value
    lines: Mapping[Path, int]
    sources: Mapping[Path, str]
    """The scalars as they are written in the file, variables not yet put in."""
    mistakes: tuple[Mistake, ...]

    def line_of(self, path: Path) -> int:
        """The line of the value at `path`, or of the nearest one around it."""
        while path and path not in self.lines:
            path = path[:-1]
        return self.lines.get(path, 1)

    def source_of(self, path: Path) -> str:
        """The scalar at `path` as written, shortened for a message."""
        source = self.sources.get(path, "")
        return source if len(source) <= _SOURCE_CHARS else f"{source[:_SOURCE_CHARS]}…"


def read_document(text: str, environ: Mapping[str, str] | None) -> Document:
    """Read one YAML document; `${NAME}` and `${NAME:-default}` in text values are taken from `environ`.

    Without an environment a `$` means itself: password hashes are full of them.
    """
    reader = _Reader(environ)
    mistake = None
    try:
        # Not the parser in C: its words depend on the machine, and it crashes where this one says "nested too deeply".
        root = yaml.compose(text, Loader=yaml.SafeLoader)
        values = None if root is None else reader.read(root, ())
    except yaml.YAMLError as error:
        mistake = _syntax_mistake(error, text)
    except RecursionError:
        mistake = Mistake(1, (), "lists and sections are nested too deeply; look for brackets that are never closed")
    if mistake is not None:
        return Document(values=None, lines={}, sources={}, mistakes=(mistake,))
    return Document(values=values, lines=reader.lines, sources=reader.sources, mistakes=tuple(reader.mistakes))


def _syntax_mistake(error: yaml.YAMLError, text: str) -> Mistake:
    mark = getattr(error, "problem_mark", None)
    problem = getattr(error, "problem", None) or getattr(error, "reason", None) or "it cannot be read"
    line = 1 if mark is None else mark.line + 1
    hint = "look at the indentation, the colons and the quotes on this line and the one before"
    culprit = text.splitlines()[line - 1 : line]
    if "\t" in "".join(culprit):
        hint = "indent with blanks, not with tabs"
    elif "${" in "".join(culprit):
        hint = "inside `{…}` and `[…]` put `${NAME}` in quotes"
    elif "single document" in str(getattr(error, "context", "")):
        hint = "keep one document: remove the second `---`"
    return Mistake(line, (), f"not valid YAML: {problem}; {hint}")


class _Reader:
    """One walk over the nodes of a document."""

    def __init__(self, environ: Mapping[str, str] | None) -> None:
        self.lines: dict[Path, int] = {}
        self.sources: dict[Path, str] = {}
        self.mistakes: list[Mistake] = []
        self._environ = environ
        self._open: set[int] = set()

    def read(self, node: yaml.Node, path: Path) -> Value:
        self.lines.setdefault(path, node.start_mark.line + 1)
        if isinstance(node, yaml.ScalarNode):
            self.sources[path] = node.value
            return self._scalar(node, path)
        if id(node) in self._open:
            self._wrong(path, "the alias contains itself; write the value out")
            return None
        self._open.add(id(node))
        try:
            if isinstance(node, yaml.SequenceNode):
                return [self.read(item, (*path, index)) for index, item in enumerate(node.value)]
            if isinstance(node, yaml.MappingNode):
                return {key: self.read(value, (*path, key)) for key, value in self._pairs(node, path)}
        finally:
            self._open.discard(id(node))
        return None

    def _pairs(self, node: yaml.MappingNode, path: Path) -> Iterator[tuple[str, yaml.Node]]:
        first_lines: dict[str, int] = {}
        for key_node, value_node in node.value:
            line = key_node.start_mark.line + 1
            if not isinstance(key_node, yaml.ScalarNode):
                self.mistakes.append(Mistake(line, path, "a key must be text, not a list or a mapping"))
                continue
            # A key means its own text whatever YAML makes of it: `on:` is the key `on`.
            key = key_node.value
            if key == "<<" and not key_node.style:
                self.mistakes.append(Mistake(line, path, "merge keys (`<<`) are not read; write the keys out"))
            elif key in first_lines:
                text = f"the key is given twice, first on line {first_lines[key]}; keep one of the two"
                self.mistakes.append(Mistake(line, (*path, key), text))
            else:
                first_lines[key] = line
                self.lines[(*path, key)] = line
                yield key, value_node

    def _scalar(self, node: yaml.ScalarNode, path: Path) -> Value:
        text: str = node.value
        tag: str = node.tag
        if tag in _TEXT_TAGS:
            return text if self._environ is None else self._expand(text, path, self._environ)
        if tag == f"{_TAG}null":
            return None
        if tag == f"{_TAG}bool":
            if text.lower() not in {"true", "false"}:
                meant = "true" if text.lower() in {"yes", "on"} else "false"
                self._wrong(path, f'YAML reads `{text}` as {meant}; write `{meant}`, or `"{text}"` if text is meant')
            return text.lower() in {"true", "yes", "on"}
        if tag in {f"{_TAG}int", f"{_TAG}float"}:
            if _PLAIN_NUMBER.fullmatch(text):
                return float(text) if "." in text else int(text)
            kind = _notation(text)
            hint = "; as a duration write `12h30m`" if kind == "a number to base 60" else ""
            self._wrong(path, f'YAML reads `{text}` as {kind}; write `"{text}"` if text is meant{hint}')
            return text
        self._wrong(path, f"the tag `{tag.removeprefix(_TAG)}` is not read; remove it")
        return None

    def _expand(self, text: str, path: Path, environ: Mapping[str, str]) -> str | None:
        if "$" not in text:
            return text
        expanded = _VARIABLE.sub(lambda match: self._variable(match, path, environ), text)
        if expanded == text:
            return text
        # An empty variable means "not set": no key of ours has a use for empty text.
        return FromEnvironment(expanded) if expanded else None

    def _variable(self, match: re.Match[str], path: Path, environ: Mapping[str, str]) -> str:
        name, default = match["name"], match["default"]
        if name is None:
            return "$"
        if match["rest"] is None:
            self._wrong(path, f"`${{{name}` is not finished; write `${{{name}}}` or `${{{name}:-default}}`")
            return ""
        value = environ.get(name)
        if default is not None:
            return value or default
        if value is None:
            self._wrong(path, f"the environment variable {name} is not set; set it or write `${{{name}:-default}}`")
        return value or ""

    def _wrong(self, path: Path, text: str) -> None:
        self.mistakes.append(Mistake(self.lines.get(path, 1), path, text))


def _notation(text: str) -> str:
    digits = text.lstrip("+-").lower()
    if ":" in digits:
        return "a number to base 60"
    if digits.startswith("0x"):
        return "a hexadecimal number"
    if digits.startswith("0b"):
        return "a binary number"
    if digits.startswith("0") and "." not in digits:
        return "an octal number"
    return "a number"
