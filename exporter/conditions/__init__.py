"""Conditions over the facts of a request, compiled once into plain callables.

Asking one costs a few comparisons. A regular expression runs in linear time (RE2: it never backtracks), so that no
pattern and no log line can make it hang. Nothing here knows YAML or a cause.
"""

import difflib
import re
from collections.abc import Callable, Iterable, Mapping
from functools import partial
from types import MappingProxyType
from typing import Any, NamedTuple

import re2  # type: ignore[import-untyped]

from exporter.conditions.facts import FACTS, Fact, Facts, Value, context_variable, folded

Proof = tuple[tuple[Fact, Value], ...]
"""The facts and values by which a condition held."""
Matcher = Callable[[Facts], Proof | None]


class Condition(NamedTuple):
    """What is asked of a request's facts."""

    match: Matcher
    """The proof, if it holds."""
    needs: frozenset[Fact] = frozenset()
    """It holds only where one of these facts has a value; empty: there are no such facts."""
    openings: Mapping[Fact, tuple[str, ...]] = MappingProxyType({})
    """It holds only where a value of each of these facts begins with one of its texts."""


_VARIABLE_PREFIX = "context."
_WORDS = ("any", "all", "not")


class ConditionError(Exception):
    """A condition that says nothing or something impossible."""

    def __init__(self, path: tuple[str, ...], message: str, *more: tuple[tuple[str, ...], str]) -> None:
        super().__init__(message)
        self.mistakes = ((path, message), *more)
        """Each with the keys that lead to what is at fault."""


def fact_named(name: str, path: tuple[str, ...]) -> Fact:
    """The fact of that name. Raises `ConditionError` naming the nearest one."""
    if name in FACTS:
        return FACTS[name]
    variable = name.removeprefix(_VARIABLE_PREFIX)
    if name.startswith(_VARIABLE_PREFIX) and variable:
        return context_variable(variable)
    raise ConditionError(path, f"unknown fact `{name}`{nearest(name, (*FACTS, *_WORDS))}")


def nearest(name: str, known: Iterable[str]) -> str:
    """A hint that names what was probably meant, or nothing."""
    close = difflib.get_close_matches(name, list(known), n=1, cutoff=0.5)
    return f"; did you mean `{close[0]}`?" if close else ""


def compile_condition(when: object, path: tuple[str, ...]) -> Condition:
    """A mapping of facts (and `any`, `all`, `not`), all of which must hold.

    Raises `ConditionError` with all mistakes.
    """
    if not isinstance(when, dict) or not when:
        raise ConditionError(path, "a condition is a mapping of facts, for example `status: 5xx`")
    parts = _each(partial(_part, str(key), asked, (*path, key)) for key, asked in when.items())
    return parts[0] if len(parts) == 1 else _all_of(parts)


def _each(compilations: Iterable[Callable[[], Condition]]) -> list[Condition]:
    """Compile all, so that every mistake is found at once."""
    parts: list[Condition] = []
    mistakes: list[tuple[tuple[str, ...], str]] = []
    for compilation in compilations:
        try:
            parts.append(compilation())
        except ConditionError as error:
            mistakes += error.mistakes
    if mistakes:
        raise ConditionError(*mistakes[0], *mistakes[1:])
    return parts


def _part(key: str, asked: object, path: tuple[str, ...]) -> Condition:
    if key == "not":
        return _none_of(compile_condition(asked, path))
    if key in ("any", "all"):
        if not isinstance(asked, list) or not asked:
            raise ConditionError(path, f"`{key}` takes a list of conditions")
        parts = _each(partial(compile_condition, item, path) for item in asked)
        return _any_of(parts) if key == "any" else _all_of(parts)
    fact = fact_named(key, path)
    if not isinstance(asked, dict):
        return _holds(fact, _test("in" if isinstance(asked, list) else "equals", asked, fact, path))
    if not asked:
        raise ConditionError(path, f"`{key}` asks nothing")
    presence = [_presence(fact, value, (*path, op)) for op, value in asked.items() if op == "present"]
    tests = [_test(str(op), value, fact, (*path, op)) for op, value in asked.items() if op != "present"]
    openings = {fact: _listed(asked["prefix"])} if "prefix" in asked else {}
    return _all_of(presence + ([_holds(fact, *tests)._replace(openings=openings)] if tests else []))


def _holds(fact: Fact, *tests: Callable[[Value], object]) -> Condition:
    """One and the same value passes every test."""

    def match(facts: Facts) -> Proof | None:
        for value in facts[fact]:
            for test in tests:
                if not test(value):
                    break
            else:
                return ((fact, value),)
        return None

    def match_one(facts: Facts) -> Proof | None:
        for value in facts[fact]:
            if test(value):
                return ((fact, value),)
        return None

    test = tests[0]
    return Condition(match_one if len(tests) == 1 else match, needs=frozenset({fact}))


def _presence(fact: Fact, wanted: object, path: tuple[str, ...]) -> Condition:
    if not isinstance(wanted, bool):
        raise ConditionError(path, "`present` is true or false")

    def match(facts: Facts) -> Proof | None:
        values = facts[fact]
        if bool(values) is not wanted:
            return None
        return tuple((fact, value) for value in values[:1])

    return Condition(match, needs=frozenset({fact} if wanted else ()))


def _all_of(parts: list[Condition]) -> Condition:
    matchers = [part.match for part in parts]

    def match(facts: Facts) -> Proof | None:
        proof: Proof = ()
        for matches in matchers:
            found = matches(facts)
            if found is None:
                return None
            proof += found
        return proof

    # Any part's needs are the whole's: the fewest facts are the rarest.
    needs = min((part.needs for part in parts if part.needs), key=len, default=frozenset[Fact]())
    openings = {fact: texts for part in parts for fact, texts in part.openings.items()}
    return Condition(match, needs, openings)


def _any_of(parts: list[Condition]) -> Condition:
    matchers = [part.match for part in parts]

    def match(facts: Facts) -> Proof | None:
        for matches in matchers:
            found = matches(facts)
            if found is not None:
                return found
        return None

    needs = frozenset[Fact]().union(*(part.needs for part in parts))
    openings = {
        fact: tuple(text for part in parts for text in part.openings[fact])
        for fact in parts[0].openings
        if all(fact in part.openings for part in parts)
    }
    return Condition(match, needs if all(part.needs for part in parts) else frozenset(), openings)


def _none_of(part: Condition) -> Condition:
    match = part.match
    return Condition(lambda facts: () if match(facts) is None else None)


_TEXT_TESTS = ("equals", "in", "prefix", "suffix", "contains", "regex", "present")
_NUMBER_TESTS = ("equals", "in", "at_least", "at_most", "present")


def _test(op: str, asked: object, fact: Fact, path: tuple[str, ...]) -> Callable[[Value], object]:
    known = _NUMBER_TESTS if fact.numeric else _TEXT_TESTS
    if op not in known:
        kind = "number" if fact.numeric else "text"
        raise ConditionError(
            path, f"`{fact.name}` is a {kind}: `{op}` is none of {', '.join(known)}{nearest(op, known)}"
        )
    return _number_test(op, asked, path) if fact.numeric else _text_test(op, asked, path)


def _number_test(op: str, asked: object, path: tuple[str, ...]) -> Callable[[Value], object]:
    if op in ("at_least", "at_most"):
        if not isinstance(asked, int) or isinstance(asked, bool):
            raise ConditionError(path, f"`{op}` takes a whole number")
        bound = asked
        return (lambda value: int(value) >= bound) if op == "at_least" else (lambda value: int(value) <= bound)
    wanted: set[Value] = set()
    for item in _listed(asked):
        if isinstance(item, str) and len(item) == 3 and item[0] in "12345" and item[1:] == "xx":
            wanted.update(range(int(item[0]) * 100, int(item[0]) * 100 + 100))
        elif isinstance(item, int) and not isinstance(item, bool):
            wanted.add(item)
        else:
            raise ConditionError(path, f"`{item}` is neither a whole number nor a class such as `5xx`")
    if not wanted:
        raise ConditionError(path, "an empty list never matches")
    return frozenset(wanted).__contains__


def _listed(asked: object) -> tuple[Any, ...]:
    return tuple(asked) if isinstance(asked, list) else (asked,)


def _text_test(op: str, asked: object, path: tuple[str, ...]) -> Callable[[Value], object]:
    items = _listed(asked)
    texts = [item for item in items if isinstance(item, str) and item]
    if len(texts) != len(items):
        raise ConditionError(path, f"`{op}` takes text (in quotes where it looks like something else), or a list of it")
    if not texts:
        raise ConditionError(path, "an empty list never matches")
    if op in ("equals", "in"):
        return frozenset(map(folded, texts)).__contains__
    if op == "prefix":
        starts = tuple(texts)
        return lambda value: str(value).startswith(starts)
    if op == "suffix":
        ends = tuple(texts)
        return lambda value: str(value).endswith(ends)
    if op == "contains":
        return lambda value: any(text in str(value) for text in texts)
    return _regex_test(texts, path)


def _regex_test(patterns: list[str], path: tuple[str, ...]) -> Callable[[Value], object]:
    options = re2.Options()
    options.log_errors = False
    for pattern in patterns:
        try:
            re2.compile(pattern, options=options)
        except re2.error as error:
            shown = error.args[0].decode() if isinstance(error.args[0], bytes) else error.args[0]
            raise ConditionError(
                path, f"`{pattern}` is no regular expression of RE2 (no look-around, no back-references): {shown}"
            ) from None
    search = re2.compile("|".join(f"(?:{pattern})" for pattern in patterns), options=options).search
    begins = [_LITERAL.match(pattern) for pattern in patterns]
    literals = [begin[0] for begin in begins if begin is not None]
    if len(literals) < len(patterns) or "|" in "".join(patterns):
        return lambda value: search(str(value))
    # To look for the words that it begins with takes a twentieth of asking RE2, and hardly any text has them.
    return lambda value: any(map(str(value).__contains__, literals)) and search(str(value))


_LITERAL = re.compile(r"[A-Za-z0-9 _,:/-]+(?![*+?{])")
"""What a regular expression begins with that stands for itself: any text that matches contains it, unless there is a
choice of several. Flags begin with a parenthesis, and change only what follows them."""
