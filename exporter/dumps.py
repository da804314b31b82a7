"""Header and body dumps: what little of them may be kept.

A dump is what a caller, a function or a backend wrote, cut off somewhere, and not parseable without doubt. None of its
text is kept: only a note of its size, and three facts of fixed shape that are looked for by name. It decides nothing:
which line is a dump, and of what, is known to whoever read its head.
"""

import re

import msgspec

LAMBDA_THROTTLES = frozenset({"TooManyRequestsException", "ReservedFunctionConcurrentInvocationLimitExceeded"})
"""What `lambda_throttle` may return."""

XRAY_ROOT = re.compile(r"(?<![0-9A-Za-z-])1-[0-9A-Fa-f]{8}-[0-9A-Fa-f]{24}(?![0-9A-Za-z-])")
"""An X-Ray trace id, within a text or as a whole."""


def size(dump: str) -> str:
    """Return a note of a body's size: `[1,024 bytes]`, `[1,001 bytes, truncated]`."""
    return f"[{_bytes(dump)}{_truncated(dump)}]"


def size_of_fields(dump: str) -> str:
    """Return a note of the size of `{name=value, …}`: `[312 bytes, 9 fields]`. Values that look like fields count."""
    count = sum(1 for _ in _FIELD.finditer(dump))
    return f"[{_bytes(dump)}, {count:,} {'field' if count == 1 else 'fields'}{_truncated(dump)}]"


_FIELD = re.compile(r"(?<=[{ ])[^\s=,{}]{1,128}+=")
_TRUNCATED = "[TRUNCATED]"


def _bytes(dump: str) -> str:
    dump = dump.strip().removesuffix(_TRUNCATED).rstrip()
    return f"{len(dump) if dump.isascii() else len(dump.encode(errors='replace')):,} bytes"


def _truncated(dump: str) -> str:
    return ", truncated" if dump.rstrip().endswith(_TRUNCATED) else ""


def trace_context(headers: str) -> str | None:
    """Return the trace that a header dump names, None if it names none in full.

    Either a `traceparent` value, or that of `X-Amzn-Trace-Id` as `Root=…[;Parent=…][;Sampled=…]`: always in this order
    and in lower case, whatever order and further fields (`Self`, `Lineage`) the header had.
    """
    if (found := _TRACEPARENT.search(headers)) is not None:
        return found[1]
    if (found := _AMZN_TRACE_ID.search(headers)) is None:
        return None
    fields = {name.strip().lower(): value.strip() for name, _, value in (f.partition("=") for f in found[1].split(";"))}
    if XRAY_ROOT.fullmatch(fields.get("root", "")) is None:
        return None
    context = f"Root={fields['root'].lower()}"
    if _XRAY_PARENT.fullmatch(parent := fields.get("parent", "")) is not None:
        context += f";Parent={parent.lower()}"
    if (sampled := fields.get("sampled")) in ("0", "1", "?"):
        context += f";Sampled={sampled}"
    return context


_TRACEPARENT = re.compile(
    r"[{,]\s?(?i:traceparent)=(00-(?!0{32})[0-9a-f]{32}-(?!0{16})[0-9a-f]{16}-[0-9a-f]{2})(?![0-9A-Za-z-])"
)
_AMZN_TRACE_ID = re.compile(r"[{,]\s?x-amzn-trace-id=([^,}]{1,1024}+)", re.IGNORECASE)
_XRAY_PARENT = re.compile(r"[0-9A-Fa-f]{16}")


class _LambdaError(msgspec.Struct, gc=False):
    """The body of Lambda's own refusal, as its API documents it."""

    reason: object = msgspec.field(name="Reason", default=None)
    type: object = msgspec.field(name="Type", default=None)
    underscored_type: object = msgspec.field(name="__type", default=None)


_LAMBDA_ERROR = msgspec.json.Decoder(_LambdaError)
_LARGEST_LAMBDA_ERROR = 8_192


def lambda_throttle(body: str) -> str | None:
    """Return which of `LAMBDA_THROTTLES` an endpoint's response body is, None if it is none of Lambda's own.

    Only the top level of the whole body counts: a function's answer (`{"statusCode": …, "body": "…"}`) may quote one.
    """
    if len(body) > _LARGEST_LAMBDA_ERROR or not ("LimitExceeded" in body or "TooManyRequestsException" in body):
        return None
    try:
        error = _LAMBDA_ERROR.decode(body)
    except (msgspec.MsgspecError, ValueError, RecursionError):
        return None
    if error.reason == "ReservedFunctionConcurrentInvocationLimitExceeded":
        return "ReservedFunctionConcurrentInvocationLimitExceeded"
    names = (error.reason, error.type, error.underscored_type)
    if error.reason in _THROTTLE_REASONS or any(isinstance(n, str) and _is_too_many(n) for n in names):
        return "TooManyRequestsException"
    return None


def _is_too_many(name: str) -> bool:
    return name.rpartition("#")[2] == "TooManyRequestsException"


# The other values of `Reason` (`ThrottleReason` in Lambda's API).
_THROTTLE_REASONS = (
    "ConcurrentInvocationLimitExceeded",
    "FunctionInvocationRateLimitExceeded",
    "ReservedFunctionInvocationRateLimitExceeded",
    "CallerRateLimitExceeded",
    "ConcurrentSnapshotCreateLimitExceeded",
)
