"""Filter patterns as CloudWatch Logs reads them (aws.md section 2): unstructured terms, JSON and space-delimited.

Where AWS's documentation leaves a choice, this reads it the stricter way: a phrase matches at word borders only, and
numbers in quotes are no numbers. A pattern that selects enough here selects enough on AWS.
"""

import json
import operator
import re
from collections.abc import Callable

Predicate = Callable[[str], bool]


class BadPattern(ValueError):
    """AWS would answer InvalidParameterException."""


def compile_pattern(pattern: str | None) -> Predicate:
    """Which messages `pattern` selects. Raises `BadPattern`."""
    if pattern is None or not pattern.strip():
        return lambda _: True
    if len(pattern) > 1024:
        raise BadPattern("longer than 1024 characters")
    text = pattern.strip()
    if text.startswith("{"):
        return _JsonPattern(text).predicate()
    if text.startswith("["):
        return _delimited(text)
    return _unstructured(text)


# ----------------------------------------------------------------------------------------------------- values, regexes

_REGEX_CHARACTERS = re.compile(r"[A-Za-z0-9:_#=@/;,\-^$?\[\]{}|\\*+.]*\Z")


def _regex(source: str) -> re.Pattern[str]:
    if not _REGEX_CHARACTERS.match(source):
        raise BadPattern(f"characters that AWS's regexes do not know in %{source}%")
    try:
        return re.compile(source)
    except re.error as error:
        raise BadPattern(str(error)) from None


def _wildcard(source: str) -> re.Pattern[str]:
    return re.compile(".*".join(re.escape(part) for part in source.split("*")) + r"\Z", re.DOTALL)


def _equal_to(value: str) -> Predicate:
    """Texts equal to `value` as written in the pattern: `"quoted"`, bare, either with `*`, or `%regex%`."""
    if len(value) > 1 and value[0] == value[-1] == "%":
        regex = _regex(value[1:-1])
        return lambda text: regex.search(text) is not None
    wildcard = _wildcard(_unquoted(value))
    return lambda text: wildcard.match(text) is not None


def _unquoted(value: str) -> str:
    return value[1:-1].replace('\\"', '"') if value[:1] == '"' else value


# -------------------------------------------------------------------------------------------------------- unstructured

_TERM = re.compile(r'([?-]?)("(?:[^"\\]|\\.)*"|%[^%]*%|[^\s"]+)(?=\s|\Z)')


def _unstructured(text: str) -> Predicate:
    optional: list[Predicate] = []
    wanted: list[Predicate] = []
    excluded: list[Predicate] = []
    position = 0
    while position < len(text):
        found = _TERM.match(text, position)
        if found is None:
            raise BadPattern(f"cannot read {text[position:]!r}")
        sign, term = found.groups()
        if term[0] not in '"%' and not re.fullmatch(r"\w+", term):
            raise BadPattern(f"{term!r} must stand in quotes")
        {"?": optional, "": wanted, "-": excluded}[sign].append(_term(term))
        position = found.end()
        position += len(text) - position - len(text[position:].lstrip())
    if optional and not wanted and not excluded:
        return lambda message: any(term(message) for term in optional)
    # Mixed with others, AWS ignores every `?` term without a word.
    return lambda message: all(t(message) for t in wanted) and not any(t(message) for t in excluded)


def _term(term: str) -> Predicate:
    if term[0] == "%":
        regex = _regex(term[1:-1])
    else:
        phrase = _unquoted(term)
        before = r"(?<!\w)" if phrase[:1].isalnum() else ""
        after = r"(?!\w)" if phrase[-1:].isalnum() else ""
        whole = re.compile(before + re.escape(phrase) + after)
        return lambda message: phrase in message and whole.search(message) is not None
    return lambda message: regex.search(message) is not None


# ---------------------------------------------------------------------------------------------------------------- JSON

_JSON_TOKEN = re.compile(
    r"""\s*(?:(?P<selector>\$(?:\.\[?'[^']*'\]?|\.[\w*-]+|\[(?:\d+|\*)\])+)|(?P<op>&&|\|\||>=|<=|!=|=|>|<|\(|\))
    |(?P<value>"(?:[^"\\]|\\.)*"|%[^%]*%|[\w.*+-]+))""",
    re.VERBOSE,
)
_SELECTOR_PART = re.compile(r"\.\['([^']*)'\]|\.([\w*-]+)|\[(\d+|\*)\]")
_MISSING = object()


class _JsonPattern:
    """`{ … }`: recursive descent; `()` binds before `&&`, `&&` before `||`."""

    def __init__(self, text: str) -> None:
        if not text.endswith("}"):
            raise BadPattern("no closing brace")
        self.tokens = self._tokens(text[1:-1])
        self.at = 0
        if sum(value[0] == "%" for kind, value in self.tokens if kind == "value") > 2:
            raise BadPattern("more than two regular expressions")

    @staticmethod
    def _tokens(body: str) -> list[tuple[str, str]]:
        tokens, position = [], 0
        while body[position:].strip():
            found = _JSON_TOKEN.match(body, position)
            if found is None:
                raise BadPattern(f"cannot read {body[position:]!r}")
            tokens.append((found.lastgroup, found[found.lastgroup]))
            position = found.end()
        return tokens

    def predicate(self) -> Predicate:
        test = self._either()
        if self.at != len(self.tokens):
            raise BadPattern(f"unexpected {self.tokens[self.at][1]!r}")

        def matches(message: str) -> bool:
            try:
                document = json.loads(message)
            except ValueError:
                return False  # malformed JSON matches no JSON pattern
            return test(document)

        return matches

    def _take(self, *wanted: str) -> str | None:
        if self.at < len(self.tokens):
            kind, text = self.tokens[self.at]
            if kind in wanted or text in wanted:
                self.at += 1
                return text
        return None

    def _need(self, *wanted: str) -> str:
        taken = self._take(*wanted)
        if taken is None:
            raise BadPattern(f"expected {' or '.join(wanted)}")
        return taken

    def _either(self):
        tests = [self._both()]
        while self._take("||"):
            tests.append(self._both())
        return lambda document: any(test(document) for test in tests)

    def _both(self):
        tests = [self._one()]
        while self._take("&&"):
            tests.append(self._one())
        return lambda document: all(test(document) for test in tests)

    def _one(self):
        if self._take("("):
            test = self._either()
            self._need(")")
            return test
        path = [next(filter(None, part)) for part in _SELECTOR_PART.findall(self._need("selector"))]
        if self._take("IS"):
            wanted = {"NULL": None, "TRUE": True, "FALSE": False}[self._need("NULL", "TRUE", "FALSE")]
            return lambda document: any(found is wanted for found in _select(document, path))
        if self._take("NOT"):
            self._need("EXISTS")
            return lambda document: not _select(document, path)
        test = _comparison(self._need(*_ORDER, "=", "!="), self._need("value"))
        return lambda document: any(test(found) for found in _select(document, path))


def _select(document: object, path: list[str]) -> list[object]:
    found = [document]
    for part in path:
        found = [child for parent in found for child in _children(parent, part)]
    return found


def _children(parent: object, part: str) -> list[object]:
    if isinstance(parent, dict):
        return list(parent.values()) if part == "*" else [parent[part]] if part in parent else []
    if isinstance(parent, list):
        return parent if part == "*" else parent[int(part) :][:1] if part.isdecimal() else []
    return []


_ORDER = {">": operator.gt, "<": operator.lt, ">=": operator.ge, "<=": operator.le}


def _comparison(sign: str, value: str) -> Callable[[object], bool]:
    """Whether a JSON value compares so; objects, lists, booleans and null never do."""
    number = _number(value)
    if sign in _ORDER:
        if number is None:
            raise BadPattern(f"{sign} needs a number")
        return lambda found: (
            isinstance(found, (int, float)) and not isinstance(found, bool) and _ORDER[sign](found, number)
        )
    equal = _equal_to(value)

    def compares(found: object) -> bool:
        if isinstance(found, str):
            return equal(found) == (sign == "=")
        if isinstance(found, (int, float)) and not isinstance(found, bool):
            same = value[0] != '"' and (found == number or equal(str(found)))
            return same == (sign == "=")
        return False

    return compares


def _number(value: str) -> float | None:
    try:
        return float(value)
    except ValueError:
        return None


# ----------------------------------------------------------------------------------------------------- space-delimited

_FIELD = re.compile(r'"(?:[^"\\]|\\.)*"|\[[^\]]*\]|\S+')
_CONDITION = re.compile(r"\s*[\w-]+\s*(!=|>=|<=|=|>|<)\s*(.+?)\s*\Z")


def _delimited(text: str) -> Predicate:
    if not text.endswith("]"):
        raise BadPattern("no closing bracket")
    columns = [column.strip() for column in text[1:-1].split(",")]
    if columns.count("...") > 1:
        raise BadPattern("more than one ellipsis")
    if text.count("%") > 4:
        raise BadPattern("more than two regular expressions")
    conditions = [_column(column) for column in columns]
    if "..." not in columns:
        return lambda message: _fields_match(_fields(message), conditions)
    gap = columns.index("...")
    head, tail = conditions[:gap], conditions[gap + 1 :]

    def matches(message: str) -> bool:
        fields = _fields(message)
        if len(fields) < len(head) + len(tail):
            return False
        return _fields_match(fields[: len(head)], head) and _fields_match(fields[len(fields) - len(tail) :], tail)

    return matches


def _fields(message: str) -> list[str]:
    return [field[1:-1] if field[0] in '"[' and len(field) > 1 else field for field in _FIELD.findall(message)]


def _fields_match(fields: list[str], conditions: list[Predicate]) -> bool:
    return len(fields) == len(conditions) and all(test(f) for test, f in zip(conditions, fields, strict=True))


def _column(column: str) -> Predicate:
    if not re.search(r"[=<>]", column):
        return lambda _: True
    alternatives = [[_condition(term) for term in part.split("&&")] for part in column.split("||")]
    return lambda field: any(all(test(field) for test in tests) for tests in alternatives)


def _condition(term: str) -> Predicate:
    found = _CONDITION.match(term)
    if found is None:
        raise BadPattern(f"cannot read {term!r}")
    sign, value = found.groups()
    if sign in ("=", "!="):
        equal = _equal_to(value)
        return lambda field: equal(field) == (sign == "=")
    test = _comparison(sign, value)
    return lambda field: test(_number(field))
