"""A rules file as text: YAML in, causes, rules and their tests out, or every mistake with its line and a hint.

Nothing is guessed: an unknown key, fact, cause or category is a mistake that names the nearest one known, because a
rule that silently never matches is a failure that nobody counts. What a rule means is not decided here.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import yaml

from exporter.conditions import Condition, ConditionError, compile_condition, nearest
from exporter.model import Cause

NO_FAILURE = "none"
"""What a rule's test expects of a request that did not fail."""

_NAME = re.compile(r"[a-z][a-z0-9_]{0,63}")


@dataclass(frozen=True, kw_only=True, slots=True)
class Rule:
    """One way of proving a cause."""

    name: str
    cause: str
    refinable: bool
    """A later line could name a better cause: this one rests on a status or a generic text."""
    when: Condition


@dataclass(frozen=True, kw_only=True, slots=True)
class RuleTest:
    """Log lines beside a rule, and what they must come to."""

    rule: str
    name: str
    lines: str
    """Log text in any form that `classify` reads; it holds one request."""
    access_format: str
    expect: str
    """A cause, or `none` where the request did not fail. The rule's own cause must be proven by this very rule."""
    line: int
    """Where it stands in its file, from 1."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Mistake:
    """One thing wrong with a rules file."""

    line: int
    message: str


class RulesError(Exception):
    """A rules file that cannot be used; `str()` lists every mistake as `source:line: message`."""

    def __init__(self, source: str, mistakes: Sequence[Mistake]) -> None:
        self.source = source
        self.mistakes = tuple(sorted(mistakes, key=lambda mistake: mistake.line))
        super().__init__("\n".join(f"{source}:{mistake.line}: {mistake.message}" for mistake in self.mistakes))


class _Key(str):
    """A mapping key that knows its line."""

    __slots__ = ("line",)
    line: int


class _Loader(yaml.SafeLoader):
    """YAML without aliases: a rules file has no use for them, and a few of them can describe a document without end."""

    def compose_node(self, parent: yaml.Node | None, index: int) -> yaml.Node | None:
        if self.check_event(yaml.AliasEvent):
            raise yaml.composer.ComposerError(
                problem="aliases (`*name`) are not supported", problem_mark=self.get_mark()
            )
        return super().compose_node(parent, index)


class RulesFile:
    """Walks one rules file, collecting mistakes instead of stopping at the first."""

    def __init__(self, text: str, source: str) -> None:
        self._source = source
        self._mistakes: list[Mistake] = []
        document = self._parse(text)
        self._document = document if isinstance(document, dict) else {}
        if document is not None and not isinstance(document, dict):
            self.mistake(1, "a rules file is a mapping with `causes` and `rules`")
        self._only(self._document, "the file", ("causes", "rules"))

    def mistake(self, line: int, message: str) -> None:
        """Note something wrong, at a line counted from 1."""
        self._mistakes.append(Mistake(line=line, message=message))

    def check(self) -> None:
        """Raise what was found."""
        if self._mistakes:
            raise RulesError(self._source, self._mistakes)

    # ---- the parts of the file

    def causes(self, known: Mapping[str, Cause]) -> dict[str, Cause]:
        """The causes known before, then the file's own."""
        causes = dict(known)
        categories = dict.fromkeys(cause.category for cause in known.values())
        for key, declared in self._mapping(self._document, "causes").items():
            where = f"cause `{key}`"
            if not isinstance(declared, dict):
                self.mistake(_at(key), f"{where} needs `category` and `help`")
                continue
            self._only(declared, where, ("category", "help", "advice"))
            if not _NAME.fullmatch(key):
                self.mistake(_at(key), f"{where}: a name is lower-case letters, digits and underscores")
            if key in known or key == NO_FAILURE:
                self.mistake(_at(key), f"{where} exists already: rules may use it, a file cannot declare it anew")
            category = self._text(declared, "category", where, _at(key))
            help_ = self._text(declared, "help", where, _at(key))
            if known and category and category not in categories:
                hint = nearest(category, categories) or f"; there are {', '.join(categories)}"
                self.mistake(_line(declared, "category"), f"{where}: unknown category `{category}`{hint}")
            advice = self._text(declared, "advice", where, _at(key)) if "advice" in declared else ""
            causes[str(key)] = Cause(name=str(key), category=category, help=help_, advice=advice)
        return causes

    def rules(self, causes: Mapping[str, Cause], taken: set[str]) -> tuple[Rule, ...]:
        """The rules, in order; `taken` are the names of the rules that follow."""
        rules: list[Rule] = []
        seen = set(taken)
        for entry, name in self._entries():
            line, where = _first_line(entry), f"rule `{name}`"
            self._only(entry, where, ("name", "cause", "refinable", "when", "tests"))
            if name in seen:
                self.mistake(line, f"{where}: there is another rule of this name")
            seen.add(name)
            cause = self._text(entry, "cause", where, line)
            if cause and cause not in causes:
                hint = nearest(cause, causes)
                self.mistake(
                    _line(entry, "cause"),
                    f"{where}: undeclared cause `{cause}`{hint}; own causes are declared under `causes`",
                )
            refinable = entry.get("refinable", False)
            if not isinstance(refinable, bool):
                self.mistake(_line(entry, "refinable"), f"{where}: `refinable` is true or false")
            try:
                when = compile_condition(entry.get("when"), ("when",))
            except ConditionError as error:
                for path, message in error.mistakes:
                    at = next((part.line for part in reversed(path) if isinstance(part, _Key)), _line(entry, "when"))
                    self.mistake(at, f"{where}: {'.'.join(path)}: {message}")
                continue
            rules.append(Rule(name=name, cause=cause, refinable=refinable is True, when=when))
        self._check_tests(causes)
        return tuple(rules)

    def _check_tests(self, causes: Mapping[str, Cause]) -> None:
        for test in self.tests():
            if test.expect and test.expect != NO_FAILURE and test.expect not in causes:
                hint = nearest(test.expect, (*causes, NO_FAILURE))
                self.mistake(test.line, f"rule `{test.rule}`, test `{test.name}`: unknown cause `{test.expect}`{hint}")

    def tests(self) -> tuple[RuleTest, ...]:
        """Every test, in the order of the rules."""
        found: list[RuleTest] = []
        for entry, rule in self._entries():
            tests = entry.get("tests", [])
            if not isinstance(tests, list) or not all(isinstance(test, dict) for test in tests):
                self.mistake(_line(entry, "tests"), f"rule `{rule}`: `tests` is a list of mappings")
                continue
            for test in tests:
                line = _first_line(test)
                where = f"rule `{rule}`, test `{test.get('name', '?')}`"
                self._only(test, where, ("name", "lines", "access_format", "expect"))
                found.append(
                    RuleTest(
                        rule=rule,
                        name=self._text(test, "name", where, line),
                        lines=self._text(test, "lines", where, line),
                        access_format=self._text(test, "access_format", where, line)
                        if "access_format" in test
                        else "auto",
                        expect=self._text(test, "expect", where, line),
                        line=line,
                    )
                )
        return tuple(found)

    def _entries(self) -> list[tuple[dict[str, object], str]]:
        rules = self._document.get("rules", [])
        if not isinstance(rules, list):
            self.mistake(_line(self._document, "rules"), "`rules` is a list")
            return []
        entries = []
        for entry in rules:
            if not isinstance(entry, dict):
                self.mistake(_line(self._document, "rules"), "each rule is a mapping with `name`, `cause` and `when`")
                continue
            entries.append((entry, self._text(entry, "name", "a rule", _first_line(entry))))
        return entries

    # ---- the shapes of YAML

    def _mapping(self, parent: dict[str, object], key: str) -> dict[str, object]:
        value = parent.get(key)
        if value is not None and not isinstance(value, dict):
            self.mistake(_line(parent, key), f"`{key}` is a mapping")
        return value if isinstance(value, dict) else {}

    def _only(self, mapping: dict[str, object], where: str, known: tuple[str, ...]) -> None:
        for key in mapping:
            if key not in known:
                self.mistake(_at(key), f"{where}: unknown key `{key}`{nearest(key, known)}")

    def _text(self, mapping: dict[str, object], key: str, where: str, line: int) -> str:
        value = mapping.get(key)
        if isinstance(value, str) and value.strip():
            return value
        if value is None:
            self.mistake(line, f"{where}: `{key}` is missing")
        else:
            self.mistake(
                _line(mapping, key), f"{where}: `{key}` is text (in quotes where it looks like something else)"
            )
        return ""

    def _parse(self, text: str) -> object:
        try:
            loader = _Loader(text)
            try:
                node = loader.get_single_node()
                return self._plain(loader, node) if node is not None else None
            finally:
                loader.dispose()
        except (yaml.YAMLError, ValueError, RecursionError) as error:
            mark = getattr(error, "problem_mark", None)
            problem = getattr(error, "problem", None) or "a character, a value or a depth that YAML cannot take"
            self.mistake(mark.line + 1 if mark is not None else 1, f"not YAML: {problem}")
            return None

    def _plain(self, loader: _Loader, node: yaml.Node) -> object:
        if isinstance(node, yaml.MappingNode):
            mapping: dict[str, object] = {}
            for key_node, value_node in node.value:
                key = _Key(key_node.value if isinstance(key_node, yaml.ScalarNode) else "?")
                key.line = key_node.start_mark.line + 1
                if key in mapping:
                    self.mistake(_at(key), f"the key `{key}` stands here twice")
                mapping[key] = self._plain(loader, value_node)
            return mapping
        if isinstance(node, yaml.SequenceNode):
            return [self._plain(loader, item) for item in node.value]
        value: object = loader.construct_object(node)
        return value


def _at(key: str) -> int:
    return key.line if isinstance(key, _Key) else 1


def _line(mapping: dict[str, object], key: str) -> int:
    return next((_at(found) for found in mapping if found == key), _first_line(mapping))


def _first_line(mapping: dict[str, object]) -> int:
    return next((_at(key) for key in mapping), 1)
