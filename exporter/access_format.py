"""A stage's format string as a reader of its lines: the text between `$context` variables shows where values end.

It becomes one regular expression, linear in the line. A format whose lines could be cut in two ways is refused when it
is compiled, naming the two variables. It knows the shape that a variable's values can have, never what they mean.
"""

import re
from collections.abc import Sequence
from typing import NamedTuple

from exporter.access_values import text_of
from exporter.access_variables import GLANCE_VARIABLES, VARIABLES
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


# ------------------------------------------------------------------------------------------------ shapes of the values


class _Shape(NamedTuple):
    """What a variable's values look like."""

    exact: str | None = None
    """A pattern of which no match begins another match: it ends by itself, without a delimiter."""
    chars: str | None = None
    """The class of its characters (a regex class body); None: any text at all, spaces and quotes too."""
    head: str = ""
    """A pattern that stands before its characters."""
    longest: int = 2048
    quoted: bool = False
    """Whether the value brings double quotes of its own."""


_SLASH = "(?=/)"
_ID = _Shape(
    exact=(
        r"[0-9a-fA-F]{8}-(?:[0-9a-fA-F]{4}-){3}[0-9a-fA-F]{12}|[A-Za-z0-9_+/-]{8,40}={1,2}(?!=)"
        r"|UUID_REPLACED_INVALID_REQUEST_ID"
    ),
    chars=r"A-Za-z0-9_=+/.:-",
    longest=256,
)
_NUMBER = _Shape(chars="0-9.", longest=24)
_CODE = _Shape(exact="[0-9]{3}", chars="0-9", longest=3)
_WORD = _Shape(chars=r"\S")
_NAME = _Shape(chars=r"A-Za-z0-9_$.-", longest=256)
_TEXT = _Shape()

_NUMBERS = """
    responseLength responseLatency integrationLatency dataProcessed integration.timeToAllHeaders
    integration.timeToFirstContent
"""
_WORDS = """
    identity.caller identity.user identity.userArn identity.apiKey identity.apiKeyId identity.principalOrgId
    identity.cognitoAuthenticationProvider identity.cognitoAuthenticationType identity.cognitoIdentityId
    identity.cognitoIdentityPoolId identity.vpcId identity.vpceId customDomain.basePathMatched
    customDomain.routingRuleIdMatched webaclArn cipherSuite integration.responseTransferMode
"""
_IDS = """
    requestId extendedRequestId awsEndpointRequestId awsEndpointRequestId2 connectionId messageId integration.requestId
    authorizer.requestId
"""

_SHAPES = {
    "status": _CODE,
    "responseOverride.status": _CODE,
    "integrationStatus": _CODE,
    "integration.integrationStatus": _CODE,
    "requestTimeEpoch": _Shape(exact="[0-9]{13}", chars="0-9", longest=16),
    "connectedAt": _Shape(exact="[0-9]{13}", chars="0-9", longest=16),
    "requestTime": _Shape(
        exact=r"[0-9]{1,2}/[A-Za-z]{3}/[0-9]{4}:[0-9]{2}:[0-9]{2}:[0-9]{2} [+-][0-9]{4}",
        chars="0-9A-Za-z/:+ -",
        longest=40,
    ),
    "httpMethod": _Shape(
        exact="GET|HEAD|POST|PUT|DELETE|CONNECT|OPTIONS|TRACE|PATCH|QUERY", chars="A-Za-z_-", longest=32
    ),
    "eventType": _Shape(exact="CONNECT|MESSAGE|DISCONNECT", chars="A-Z", longest=32),
    "isCanaryRequest": _Shape(exact="true|false", chars="a-zA-Z", longest=8),
    "protocol": _Shape(exact=r"[A-Za-z]{2,9}/[0-9]\.[0-9]", chars="A-Za-z0-9/.", longest=16),
    "tlsVersion": _Shape(exact=r"TLSv[0-9]\.[0-9]", chars="A-Za-z0-9.", longest=16),
    "accountId": _Shape(exact="[0-9]{12}", chars="0-9", longest=16),
    "apiId": _Shape(exact="[a-z0-9]{10}", chars="A-Za-z0-9_-", longest=64),
    "stage": _NAME,
    "domainName": _NAME,
    "domainPrefix": _NAME,
    "deploymentId": _NAME,
    "resourceId": _NAME,
    "wafResponseCode": _Shape(exact="WAF_ALLOW|WAF_BLOCK", chars="A-Z_", longest=32),
    "error.responseType": _Shape(chars="A-Z0-9_", longest=64),
    "xrayTraceId": _Shape(exact="(?:Root=)?1-[0-9a-f]{8}-[0-9a-f]{24}", chars="A-Za-z0-9_=;.:-", longest=256),
    "path": _Shape(chars=r"\S", head=_SLASH),
    "resourcePath": _Shape(chars=r"\S", head=_SLASH),
    "routeKey": _Shape(chars=r"\S", head="(?:[A-Z]{1,16} (?=/))?"),
    "error.messageString": _Shape(quoted=True),
    "identity.sourceIp": _Shape(chars="0-9A-Fa-f:.", longest=64),
    "identity.accountId": _Shape(exact="[0-9]{12}", chars="0-9", longest=16),
    **dict.fromkeys(_NUMBERS.split(), _NUMBER),
    **dict.fromkeys(_WORDS.split(), _WORD),
    **dict.fromkeys(_IDS.split(), _ID),
}


def _shape_of(name: str) -> _Shape:
    shape = _SHAPES.get(name)
    if shape is not None:
        return shape
    if name in VARIABLES and name.endswith((".latency", "Latency")):
        return _NUMBER
    if name in VARIABLES and name.endswith((".status", "Status")):
        return _CODE
    return _TEXT


_ASCII = [chr(code) for code in range(0x20, 0x7F)]


def _members(chars: str | None) -> frozenset[str]:
    return frozenset(_ASCII) if chars is None else frozenset(re.findall(f"[{chars}]", "".join(_ASCII)))


def _may_hold(shape: _Shape, char: str) -> bool:
    """Whether values of this shape may contain a character, be it ASCII or not."""
    return shape.chars is None or re.match(f"[{shape.chars}]", char) is not None


# --------------------------------------------------------------------------------------------------------- compilation

_BREAKS = frozenset("\"'|\t<>;[]{}`^~")
"""Characters that people put between values because values do not contain them."""


def _parts(literal: str, shape: _Shape) -> bool:
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


def _run(shape: _Shape, manner: str) -> str:
    return f"{shape.head}[{shape.chars}]{{1,{shape.longest}}}{manner}"


class _Value(NamedTuple):
    """How one value is matched."""

    expression: str
    lazy: bool = False
    undecided: bool = False
    """Whether neither the value nor what stands behind it shows where it ends."""


def _value(variable: Variable, follower: Piece | None, *, exactly: bool) -> _Value:
    shape = _shape_of(variable.name)
    if isinstance(follower, Variable):
        if shape.exact is not None:
            return _Value(shape.exact)
        after = _shape_of(follower.name)
        # A value does not end in a dash: that is the next one, absent.
        starts = frozenset("/") if after.head == _SLASH else _members(after.chars)
        if shape.chars is None or (_members(shape.chars) - {"-"}) & starts:
            raise _ambiguous(variable.name, follower.name, "")
        return _Value(_run(shape, "") + "(?<!-)")
    if exactly and shape.exact is not None:
        return _Value(shape.exact)
    if shape.chars is None:
        if follower is None:
            return _Value(".*+")
        if shape.quoted:
            return _Value('".*?"|[^"]*?', lazy=True)
        return _Value(".*?", lazy=True, undecided=not _parts(follower, shape))
    if follower is None or not _may_hold(shape, follower[0]):
        return _Value(_run(shape, "+"))
    if shape.exact is not None:
        return _Value(shape.exact)
    return _Value(_run(shape, "?"), lazy=True, undecided=not _parts(follower, shape))


class _Open(NamedTuple):
    """A value whose end must still be shown by something further on."""

    variable: Variable
    literal: str

    def admits(self, following: Variable) -> bool:
        """Whether both can be told apart although only `literal` lies between them."""
        mine, other = _shape_of(self.variable.name), _shape_of(following.name)
        if other.exact is not None:
            return True
        if mine.chars is None:
            return other.chars is not None
        return not _may_hold(other, self.literal[0])


def _expression(pieces: Sequence[Piece]) -> str:
    """One expression for a whole line, linear in its length.

    A value that nothing but its delimiter ends is matched lazily, together with all that must follow up to the next
    such value, as one atomic group: the first place where this fits is taken for good, nothing is tried twice.
    """
    out: list[str] = []
    grouped = False
    still_open: _Open | None = None
    for index, piece in enumerate(pieces):
        if isinstance(piece, str):
            before = pieces[index - 1] if index else None
            behind_text = isinstance(before, Variable) and _shape_of(before.name).chars is None
            # A comma inside free text has a space behind it, one between values has not.
            out.append(",(?! )" if piece == "," and behind_text else re.escape(piece))
            if _BREAKS.intersection(piece):
                still_open = None
            continue
        if still_open is not None and not still_open.admits(piece):
            raise _ambiguous(still_open.variable.name, piece.name, still_open.literal)
        follower = pieces[index + 1] if index + 1 < len(pieces) else None
        value = _value(piece, follower, exactly=still_open is not None)
        if still_open is not None and (
            _shape_of(piece.name).exact is not None or _shape_of(still_open.variable.name).chars is not None
        ):
            still_open = None
        if value.lazy:
            out.append(")(?>" if grouped else "(?>")
            grouped = True
        out.append(f"({value.expression})" if value.expression.startswith(".") else f"({value.expression}|-)")
        if value.undecided and isinstance(follower, str):
            still_open = _Open(piece, follower)
    return "".join(out) + r"\Z" + (")" if grouped else "")


class TextFormat:
    """Reads lines that a format makes."""

    def __init__(self, pieces: Sequence[Piece]) -> None:
        """Raises `AccessFormatError` for a format whose lines could be cut in two ways."""
        self.names = tuple(piece.name for piece in pieces if isinstance(piece, Variable))
        # The group behind the last never matches: it stands for what the format does not log.
        self._match = re.compile(_expression(pieces) + "((?!))?", re.DOTALL).match
        absent = len(self.names) + 1
        self._glance_groups = tuple(
            self.names.index(name) + 1 if name in self.names else absent for name in GLANCE_VARIABLES
        )

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
