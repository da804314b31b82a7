"""The kinds of value that a key may have: text, duration, size, address, region, log group, statuses.

Each kind is a type for pydantic that checks, converts, and writes itself back in the syntax of the file. A message
never holds the value: it says `{value}` (`{source}` for the same without backquotes) where the loader puts what is
*written in the file*, so that a secret out of the environment cannot get into it.
"""

import re
from typing import Annotated, NamedTuple
from urllib.parse import urlsplit

from pydantic import (
    AfterValidator,
    BeforeValidator,
    PlainSerializer,
    PlainValidator,
    SecretStr,
    StringConstraints,
    WithJsonSchema,
)

from exporter.arns import is_account_id, read_log_group_arn
from exporter.config.document import FromEnvironment

_UNITS_MS = {"d": 86_400_000, "h": 3_600_000, "m": 60_000, "s": 1_000, "ms": 1}
_DURATION = re.compile(
    r"(?=[0-9])(?:([0-9]{1,5})d)?(?:([0-9]{1,6})h)?(?:([0-9]{1,7})m)?(?:([0-9]{1,9})s)?(?:([0-9]{1,12})ms)?"
)
_UNITS_BYTES = {"TiB": 2**40, "GiB": 2**30, "MiB": 2**20, "KiB": 2**10}
_SIZE = re.compile(r"(\d{1,9})(KiB|MiB|GiB|TiB)", re.ASCII)
_STATUS = re.compile(r"(?P<class>[1-5])xx|(?P<first>[1-5]\d\d)(?:-(?P<last>[1-5]\d\d))?", re.ASCII)
_REGION = re.compile(r"[a-z]{2,5}(?:-[a-z]+)+-[0-9]+")
_LOG_GROUP = re.compile(r"[.\-_/#A-Za-z0-9]{1,512}")
_ROLE_ARN = re.compile(r"arn:aws[a-z-]*:iam::(?P<account_id>[0-9]{12}):role/\S+")
_CAUSE = re.compile(r"[a-z][a-z0-9_]*")
_CONTEXT_FIELD = re.compile(r"[A-Za-z][\w-]*(?:\.[\w-]+)*", re.ASCII)
_HEADER = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
_VARIABLE = r"\$\{[A-Z_][A-Z0-9_]*(:-[^}]*)?\}"

ACCESS_FORMATS = ("auto", "clf", "json", "csv", "xml")


class ListenAddress(NamedTuple):
    """Where the web server listens."""

    host: str
    """An address or a name; `0.0.0.0` where the file gives a port only. Without the brackets of IPv6."""
    port: int
    """0 lets the system choose."""

    def __str__(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{host}:{self.port}"


def parse_duration(text: str) -> int:
    """Milliseconds of `500ms`, `20s`, `5m30s`, `1h`, `30d`. Raises ValueError."""
    match = _DURATION.fullmatch(text)
    if match is None:
        if re.fullmatch(r"[0-9]+", text):
            raise ValueError("{value} has no unit; write `{source}s` if seconds are meant")
        raise ValueError("{value} is not a duration; write whole numbers with units, largest first: `500ms`, `5m30s`")
    return sum(int(count) * unit for count, unit in zip(match.groups(), _UNITS_MS.values(), strict=True) if count)


def format_duration(length_ms: int) -> str:
    """The shortest text that `parse_duration` reads as `length_ms`."""
    text = ""
    for unit, unit_ms in _UNITS_MS.items():
        count, length_ms = divmod(length_ms, unit_ms)
        text += f"{count}{unit}" if count else ""
    return text or "0s"


def parse_size(text: str) -> int:
    """Bytes of `64KiB`, `512MiB`, `2GiB`, `1TiB`. Raises ValueError."""
    match = _SIZE.fullmatch(text)
    if match is None:
        raise ValueError("{value} is not a size; write a whole number with KiB, MiB, GiB or TiB: `512MiB`")
    return int(match[1]) * _UNITS_BYTES[match[2]]


def format_size(size_bytes: int) -> str:
    """The shortest text that `parse_size` reads as `size_bytes`, a multiple of 1 KiB."""
    unit = next(unit for unit, unit_bytes in _UNITS_BYTES.items() if size_bytes % unit_bytes == 0 or unit == "KiB")
    return f"{size_bytes // _UNITS_BYTES[unit]}{unit}"


def parse_listen_address(text: str) -> ListenAddress:
    """Read `host:port`, `:port` (every IPv4 address) or `[ipv6]:port`. Raises ValueError."""
    host, colon, port = text.rpartition(":")
    if not colon or not re.fullmatch(r"[0-9]{1,5}", port) or int(port) > 65_535:
        raise ValueError("{value} is not an address; write `host:port`, `:port` or `[::]:port`")
    if host.startswith("[") and host.endswith("]"):
        host = host[1:-1]
    elif ":" in host:
        raise ValueError("put the IPv6 address in brackets: `[::]:10610`")
    return ListenAddress(host or "0.0.0.0", int(port))  # noqa: S104  (a scrape target is reached from outside)


def parse_statuses(text: str) -> frozenset[int]:
    """The statuses that `4xx`, `404` or `500-504` stands for. Raises ValueError."""
    match = _STATUS.fullmatch(text)
    if match is None:
        raise ValueError("{value} is not a status; write `4xx`, `5xx`, `404` or a range like `500-504`")
    if match["class"]:
        first = int(match["class"]) * 100
        return frozenset(range(first, first + 100))
    first, last = int(match["first"]), int(match["last"] or match["first"])
    if first > last:
        raise ValueError("the range {value} is empty; write the smaller status first")
    return frozenset(range(first, last + 1))


def account_id_of(role_arn: str) -> str | None:
    """The 12 digits of the account that a role belongs to."""
    match = _ROLE_ARN.fullmatch(role_arn)
    return match["account_id"] if match else None


# ------------------------------------------------------------------------------------------------- as kinds of a value


def _as_text(value: object) -> object:
    # A plain decimal says the same as its digits: an account or an api id made of digits needs no quotes. (Numbers
    # whose text would be lost, like `012` and `1.10`, are refused: by the reader of the document, and as no text.)
    if isinstance(value, FromEnvironment) or (isinstance(value, int) and not isinstance(value, bool)):
        return str(value)
    return value


def _as_number(value: object) -> object:
    if isinstance(value, FromEnvironment):
        try:
            return float(value) if "." in value else int(value)
        except ValueError:
            return value
    return value


def _as_flag(value: object) -> object:
    return {"true": True, "false": False}.get(value, value) if isinstance(value, FromEnvironment) else value


def _as_list(value: object) -> object:
    # A key whose items are all commented out has no value: an empty list.
    if value is None:
        return ()
    return tuple(value) if isinstance(value, list) else value


def _as_mapping(value: object) -> object:
    return {} if value is None else value


def _duration(value: object) -> int:
    return parse_duration(str(value))


def _size(value: object) -> int:
    return parse_size(str(value))


def _listen_address(value: object) -> ListenAddress:
    return parse_listen_address(str(value))


def _status(text: str) -> str:
    parse_statuses(text)
    return text


def _status_key(text: str) -> str:
    try:
        return _status(text)
    except ValueError:
        # Of a key there is no value to show.
        raise ValueError("this is not a status; write `4xx`, `5xx`, `404` or a range like `500-504`") from None


def _region(text: str) -> str:
    if not _REGION.fullmatch(text):
        raise ValueError("{value} is not the name of a region; write one like `eu-west-1`")
    return text


def _log_group(text: str) -> str:
    if text.startswith("arn:"):
        arn = read_log_group_arn(text)
        if arn is None or arn.account_id is None or not _REGION.fullmatch(arn.region):
            raise ValueError(
                "{value} is not the ARN of a log group; write `arn:aws:logs:<region>:<12 digits>:log-group:<name>`"
            )
        return text.removesuffix(":*")
    if not _LOG_GROUP.fullmatch(text):
        raise ValueError("{value} is not the name of a log group; letters, digits and `_ - / . #` are allowed")
    return text


def _group_template(text: str) -> str:
    literal = re.sub(r"\{(?:api_id|stage|api_name)\}|\*", "", text)
    if not re.fullmatch(r"[.\-_/#A-Za-z0-9]*", literal):
        raise ValueError(
            "{value} is not a pattern of log groups; beside a name's own characters it may have `{api_id}`, `{stage}`, "
            "`{api_name}` and `*`"
        )
    if text.count("{api_id}") != 1 or text.count("{stage}") > 1 or text.count("{api_name}") > 1:
        raise ValueError(
            "it must have `{api_id}` once: without it nobody knows which API's requests these are; "
            "list such stages under `watches`"
        )
    if text.startswith(("{", "*")):
        raise ValueError("{value} must begin with what the names begin with: every log group there is would be listed")
    return text


def _account_id(text: str) -> str:
    if not is_account_id(text):
        raise ValueError("{value} is not the id of an account; write its 12 digits in quotes")
    return text


def _role_arn(text: str) -> str:
    if not _ROLE_ARN.fullmatch(text):
        raise ValueError("{value} is not the ARN of a role; write `arn:aws:iam::<12 digits>:role/<name>`")
    return text


def _access_format(text: str) -> str:
    if text not in ACCESS_FORMATS and "$context" not in text and "${context" not in text:
        kinds = ", ".join(f"`{name}`" for name in ACCESS_FORMATS)
        raise ValueError(f"{{value}} is not a format; write one of {kinds}, or the stage's own `$context…` string")
    return text


def _cause(text: str) -> str:
    if not _CAUSE.fullmatch(text):
        raise ValueError("{value} is not the name of a cause; write one like `invalid_api_key`")
    return text


def _context_field(name: str) -> str:
    if not _CONTEXT_FIELD.fullmatch(name):
        raise ValueError("{value} is not an access variable; write it without `$context.`: `identity.sourceIp`")
    return name


def _header(name: str) -> str:
    if not _HEADER.fullmatch(name):
        raise ValueError("this is not the name of a header")
    return name


def _header_value(value: SecretStr) -> SecretStr:
    if not value.get_secret_value().isprintable():
        raise ValueError("a header's value must be one line of printable characters")
    return value


def _link_template(text: str) -> str:
    if "{trace_id}" not in text or set(re.findall(r"\{[^}]*\}?", text)) - {"{trace_id}", "{span_id}"}:
        raise ValueError("write the address of a trace with `{trace_id}` (and, if needed, `{span_id}`) in its place")
    if not text.startswith(("http://", "https://")):
        raise ValueError("write an address that begins with `http://` or `https://`")
    return text


def _endpoint(text: str) -> str:
    try:
        parts = urlsplit(text)
        well_formed = parts.scheme in {"http", "https"} and bool(parts.hostname) and parts.port != 0
    except ValueError:
        well_formed = False
    if not well_formed:
        raise ValueError("this is not the address of a collector; write one like `http://otel-collector:4318`")
    if parts.query or parts.fragment:
        raise ValueError("an endpoint has no `?…` and no `#…`; put keys into `traces.headers`")
    if "@" in parts.netloc:
        raise ValueError("it has a user and `traces.headers` has `authorization`; keep one of the two")
    return text


def _rate(calls_per_second: float) -> float:
    if not 0 < calls_per_second <= 25:
        raise ValueError("must be more than 0 and at most 25: no region allows more FilterLogEvents calls a second")
    return calls_per_second


def _text_pattern(pattern: str) -> WithJsonSchema:
    return WithJsonSchema({"type": "string", "pattern": f"^({pattern}|.*{_VARIABLE}.*)$"})


_VARIABLE_SCHEMA = {"type": "string", "pattern": f"^{_VARIABLE}$"}

Text = Annotated[str, BeforeValidator(_as_text), StringConstraints(min_length=1)]
Secret = Annotated[SecretStr, BeforeValidator(_as_text), WithJsonSchema({"type": "string", "minLength": 1})]
Whole = Annotated[
    int, BeforeValidator(_as_number), WithJsonSchema({"anyOf": [{"type": "integer", "minimum": 1}, _VARIABLE_SCHEMA]})
]
Limit = Annotated[
    int, BeforeValidator(_as_number), WithJsonSchema({"anyOf": [{"type": "integer", "minimum": 0}, _VARIABLE_SCHEMA]})
]
Rate = Annotated[
    float,
    BeforeValidator(_as_number),
    AfterValidator(_rate),
    WithJsonSchema({"anyOf": [{"type": "number", "exclusiveMinimum": 0, "maximum": 25}, _VARIABLE_SCHEMA]}),
]
Flag = Annotated[bool, BeforeValidator(_as_flag), WithJsonSchema({"anyOf": [{"type": "boolean"}, _VARIABLE_SCHEMA]})]
AsList = BeforeValidator(_as_list)
AsMapping = BeforeValidator(_as_mapping)
Duration = Annotated[
    int,
    PlainValidator(_duration),
    PlainSerializer(format_duration, return_type=str),
    _text_pattern("([0-9]+d)?([0-9]+h)?([0-9]+m)?([0-9]+s)?([0-9]+ms)?"),
]
Size = Annotated[
    int,
    PlainValidator(_size),
    PlainSerializer(format_size, return_type=str),
    _text_pattern("[0-9]+(KiB|MiB|GiB|TiB)"),
]
Address = Annotated[
    ListenAddress,
    PlainValidator(_listen_address),
    PlainSerializer(str, return_type=str),
    _text_pattern(".*:[0-9]{1,5}"),
]
Status = Annotated[Text, AfterValidator(_status), WithJsonSchema({"type": ["string", "integer"]})]
StatusKey = Annotated[Text, AfterValidator(_status_key)]
Region = Annotated[Text, AfterValidator(_region)]
GroupName = Annotated[Text, AfterValidator(_log_group)]
GroupTemplate = Annotated[Text, AfterValidator(_group_template)]
AccountId = Annotated[Text, AfterValidator(_account_id)]
RoleArn = Annotated[Text, AfterValidator(_role_arn)]
AccessFormat = Annotated[Text, AfterValidator(_access_format)]
CauseName = Annotated[Text, AfterValidator(_cause)]
ContextField = Annotated[Text, AfterValidator(_context_field)]
HeaderName = Annotated[Text, AfterValidator(_header)]
HeaderValue = Annotated[Secret, AfterValidator(_header_value)]
LinkTemplate = Annotated[Text, AfterValidator(_link_template)]
Endpoint = Annotated[Text, AfterValidator(_endpoint)]


def at_least(shortest: str) -> AfterValidator:
    """A lower bound of a duration."""
    shortest_ms = parse_duration(shortest)

    def check(length_ms: int) -> int:
        if length_ms < shortest_ms:
            raise ValueError(f"{{value}} is too short; write at least `{shortest}`")
        return length_ms

    return AfterValidator(check)
