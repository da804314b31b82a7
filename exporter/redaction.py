"""What must never leave: secrets and personal data inside a text, cut away before it is stored, sent or shown.

One function for every text that came from outside: a function's error, a URL, an access-log field. It knows shapes
(tokens, keys, signed URLs, cookies, addresses), not meanings: the words that API Gateway itself composes stay, so that
rules still match, and what remains between them may still be somebody's prose. It never decides whether a text is shown
at all; header and body dumps are dropped whole by whoever reads the line.

Every pattern starts where a run of its characters starts, or is bounded, and never gives back what it took (`++`): the
time is linear in the length of the text, whatever the text is.
"""

import re
from collections.abc import Callable, Iterator
from typing import NamedTuple

REDACTED = "[redacted]"
"""What stands where something was cut."""


class _Cut(NamedTuple):
    """One kind of secret."""

    needles: tuple[str, ...]
    """Lower-case texts of which any match contains one: asking for them is cheaper than the pattern."""
    pattern: re.Pattern[str]
    replacement: str | Callable[[re.Match[str]], str]
    shortest: int = 0
    """Of a text shorter than this nothing is cut."""


_TELLING_NAMES = (
    "passw(?:or)?d|passphrase|pwd|secret|token|credential|signature|api[-_]?key|access[-_]?key|private[-_]?key"
    "|session[-_]?id|jsessionid|phpsessid|x-amz-cf-id"
)
_NAME_NEEDLES = (
    *("passw", "passphrase", "pwd", "secret", "token", "credential", "signature"),
    *("apikey", "api-key", "api_key", "accesskey", "access-key", "access_key"),
    *("privatekey", "private-key", "private_key", "session", "phpsessid", "x-amz-cf-id"),
)
# Between a name and its value, in header dumps, JSON, JSON inside JSON, YAML, assignments and hash rockets.
_IS = r"""\\*+["']?\s{0,8}+(?:=>|[:=])\s{0,8}+"""
_QUOTED = r'"(?:[^"\\]|\\[\s\S])*+["\\]?'

# What follows an e-mail address's `@`; after a package's comes a version.
_DOMAIN = r"(?!v?[\d.]++(?![\w-]))[\w-]++(?:\.[\w-]++)++"

# UUIDs and X-Ray trace ids.
_REQUEST_IDS = re.compile(
    r"(?<![0-9a-z])(?:[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}|1-[0-9a-f]{8}-[0-9a-f]{24})(?![0-9a-z])",
    re.IGNORECASE,
)
_LOWER_UUID = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}")
"""Each failure has its own, so that it is not worth remembering; in capitals it may end like an AWS key id."""
_LONG_HEX = re.compile(r"[0-9A-Fa-f]{32}")
_KIND_RUNS = re.compile(r"[a-z]+|[A-Z]+|[0-9]+")


def _looks_random(run: str) -> bool:
    """Whether a run of 32 or more base64 characters is a secret rather than a path or a name in camel case."""
    run = _REQUEST_IDS.sub("", run).rstrip("=")
    if _LONG_HEX.search(run):
        return True
    if any(map(_is_secret_key, _forties(run))):
        return True
    digits = sum(map(run.count, "0123456789"))
    if len(run) < 32 or digits < 2:
        return False
    # Names change between lower case, upper case and digits every three characters at most; random text hardly ever
    # keeps its kind that long.
    return (run.isalnum() and digits >= 4) or len(_KIND_RUNS.findall(run)) >= 0.35 * len(run)


def _forties(run: str) -> Iterator[str]:
    """Every 40 characters that stand between slashes, or between a slash and an end: a path may end in a key."""
    start = 0
    while start >= 0 and start + 40 <= len(run):
        if run[start + 40 : start + 41] in {"", "/"}:
            yield run[start : start + 40]
        start = run.find("/", start) + 1 or -1


def _is_secret_key(text: str) -> bool:
    """Whether 40 characters have the shape of an AWS secret access key."""
    return (
        any(map(str.isdigit, text)) and not text.islower() and not text.isupper() and not ("-" in text or "_" in text)
    )


def _cut_random(match: re.Match[str]) -> str:
    run = match[0]
    return run if run.startswith("arn:") or not _looks_random(run) else REDACTED


def _cut(needles: str | tuple[str, ...], pattern: str, replacement: str | Callable[[re.Match[str]], str]) -> _Cut:
    return _Cut((needles,) if isinstance(needles, str) else needles, re.compile(pattern, re.IGNORECASE), replacement)


_CUTS: tuple[_Cut, ...] = (
    _cut("-----begin", r"-----BEGIN [A-Z0-9 ]{1,64}-----[\s\S]*?(?:-----END [A-Z0-9 ]{1,64}-----|\Z)", REDACTED),
    # the URI is named because it is not one: blanks inside its query do not end it.
    _cut(
        "illegal character in",
        r"(Illegal character in [a-z]{1,20} at index \d++: [^?#\n]*+)[?#][\s\S]++",
        rf"\1?{REDACTED}",
    ),
    # a body validator quotes the caller's value
    _cut(
        ("input string", "instance value", 'string "'),
        r'((?:input string|instance value|\bstring) \(?")[^"\n]++',
        rf"\1{REDACTED}",
    ),
    _cut("not a valid key=value pair", r"'[^'\n]*+' (?=not a valid key=value pair)", f"'{REDACTED}' "),
    # userinfo: a password may hold what it should not (`/`, `@`); a port is no password
    _cut("://", r"""(://)[^\s/:@"']{0,256}+:(?!\d{1,5}(?:[/?#\s"',)]|$))[^\s"']{0,256}@""", rf"\1{REDACTED}@"),
    _cut("://", r"""(://)[^\s/?#"'<>]*@""", rf"\1{REDACTED}@"),
    _cut(("?", "&", "#"), r"""([?&#][^\s=&#?"'<>]{1,128}+=)[^\s&#"'<>]++""", rf"\1{REDACTED}"),
    _cut(("cookie", "authorization"), rf"((?:cookies?|authorization){_IS}){_QUOTED}", rf'\1"{REDACTED}"'),
    _cut(
        ("cookie", "authorization"),
        rf"((?:cookies?|authorization(?: header(?: \([^)\n]{{0,80}}+\))?+)?+){_IS})[^\s\"][^\r\n]*+",
        rf"\1{REDACTED}",
    ),
    _cut(("bearer", "negotiate", "dpop"), r"""\b(Bearer|Negotiate|DPoP)\s{1,8}+[^\s"',;]++""", rf"\1 {REDACTED}"),
    _cut("basic", r"""\b(Basic)\s{1,8}+(?=(?-i:[a-z]{0,64}+[A-Z0-9+/=]))[\w+/-]{4,}+=*+""", rf"\1 {REDACTED}"),
    _cut(_NAME_NEEDLES, rf"((?:{_TELLING_NAMES})[\w-]{{0,64}}+{_IS}){_QUOTED}", rf'\1"{REDACTED}"'),
    _cut(_NAME_NEEDLES, rf"((?:{_TELLING_NAMES})[\w-]{{0,64}}+{_IS})[^\s\"]\S*+", rf"\1{REDACTED}"),
    # JSON in base64 begins `eyJ`: JWT, JWE, cursors, session cookies
    _cut("eyj", r"(?-i:eyJ)[\w+/=-]{6,}+(?:\.[\w+/=-]*+){0,5}+", REDACTED),
    _cut(
        ("akia", "asia", "aroa", "aida", "abia", "acca"),
        r"(?-i:(?<![A-Za-z0-9])(?:AKIA|ASIA|AROA|AIDA|ABIA|ACCA)[A-Z0-9]{8,}+)",
        REDACTED,
    ),
    _cut(
        ("_live_", "_test_", "ghp_", "gho_", "ghs_", "ghu_", "xox", "aiza", "glpat-"),
        r"\b(?:[spr]k_(?:live|test)_\w{6,}+|gh[posu]_\w{6,}+|xox[abprs]-[\w-]{6,}+|AIza[\w-]{20,}+|glpat-[\w-]{6,}+)",
        REDACTED,
    ),
    _cut("@", rf"(?<![\w.%+-])[\w.%+-]++@{_DOMAIN}", REDACTED),
    _cut("%40", rf"(?<![\w.+-])[\w.+-]++%40{_DOMAIN}", REDACTED),
    _cut("is not authorized", r"(User: )(?!anonymous )[^\n]{1,256}?( is not authorized)", rf"\1{REDACTED}\2"),
    # who called: the session of an assumed role is often an e-mail address
    _cut(":assumed-role/", r"""(:assumed-role/[^\s/"',]{1,128}+/)[^\s"',]++""", rf"\1{REDACTED}"),
    _cut((":user/", ":federated-user/"), r"""(:(?:federated-)?user/)[^\s"',]++""", rf"\1{REDACTED}"),
    # API Gateway masks keys and principals all but their last characters
    _cut("***", r"(?<!\*)(\*{3,}+)[\w+/=-]{1,64}+", r"\1"),
    _Cut(
        ("",),
        re.compile(r"""(?<![A-Za-z0-9])arn:[^\s"']++|(?<![A-Za-z0-9+/_=-])[A-Za-z0-9+/_-]{32,}+={0,2}+"""),
        _cut_random,
        shortest=32,
    ),
    _Cut(
        ("",),
        re.compile(r"(?<![\w.-])(?:(?:\d{4}[ -]){3}\d{1,7}|3\d{3}[ -]\d{6}[ -]\d{5}|[2-6]\d{12,18})(?![\w-])"),
        REDACTED,
        shortest=13,
    ),
)


def redact(text: str) -> str:
    """Return `text` with every secret or personal datum replaced by `[redacted]`.

    Cut are: private keys, JSON web tokens, the credentials of `Bearer`, `Basic` and SigV4, AWS key ids, secret keys and
    session tokens, values of URL queries, passwords in URLs, values named like a secret, cookies, e-mail addresses,
    the user of an IAM identity, the tail of masked keys, long random hex or base64, card numbers.
    Kept are UUIDs (request ids), ARNs of resources, and API Gateway's own words. Idempotent, total, linear.
    """
    if text in _CLEAN or (len(text) == 36 and _LOWER_UUID.fullmatch(text)):
        return text
    # What one kind of secret leaves behind may, next to what stood beside it, look like another.
    for _ in range(_MAX_PASSES):
        before = text
        text = _cut_once(text)
        if text == before:
            _remember_clean(text)
            break
    return text


_MAX_PASSES = 8

_CLEAN: set[str] = set()
"""Texts that nothing had to be cut from: most of what the gateway writes of a failure it wrote of others before."""
_MOST_CLEAN, _LONGEST_CLEAN = 4_096, 512


def _remember_clean(text: str) -> None:
    if len(text) <= _LONGEST_CLEAN:
        if len(_CLEAN) >= _MOST_CLEAN:
            _CLEAN.clear()
        _CLEAN.add(text)


_ANY_NEEDLE = re.compile("|".join(sorted({re.escape(needle) for cut in _CUTS for needle in cut.needles if needle})))
_ANYWHERE = tuple(cut for cut in _CUTS if "" in cut.needles)
"""What has no needle. They come last among the cuts."""


def _cut_once(text: str) -> str:
    lowered = text.lower()
    # Most lines have no needle at all: that is found out in one go.
    cuts = _ANYWHERE if _ANY_NEEDLE.search(lowered) is None else _CUTS
    for needles, pattern, replacement, shortest in cuts:
        if len(text) < shortest:
            continue
        for needle in needles:
            if needle in lowered:
                text = pattern.sub(replacement, text)
                break
    return text


def strip_url(url: str) -> str:
    """Return `url` without userinfo, query and fragment, its path redacted: what a span may show of an address."""
    return redact(url.partition("?")[0].partition("#")[0])
