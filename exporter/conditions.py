"""What a rule can ask: the facts of a request, and conditions over them compiled into plain callables.

A fact has a name, a kind and a reader; it reads only what API Gateway itself composed: its reason lines, its status
lines, its `$context` variables. No fact shows a header or a body that it merely dumped, because a caller writes those.
Conditions are compiled once; asking one costs a few comparisons, and a regular expression runs in linear time
(RE2: no backtracking, so no pattern and no log line can make it hang). Nothing here knows a file, YAML or a cause.
"""

import difflib
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass

import re2  # type: ignore[import-untyped]

from exporter.model import UNKNOWN, ExecutionStep, PhaseOutcome, RequestTimeline, Step
from exporter.redaction import redact

Value = str | int
Proof = tuple[tuple["Fact", Value], ...]
"""The facts and values by which a condition held."""
Matcher = Callable[["Facts"], Proof | None]

REASON_STEPS = frozenset({Step.REASON, Step.API_KEY})
"""The steps whose text is the gateway's own account of why it refused or failed."""

_LAMBDA_PROXY_5XX = frozenset({502, 504})
"""Statuses that the gateway makes of a bad or missing answer, also when the Lambda service itself answered 200."""


class ConditionError(Exception):
    """A condition that says nothing or something impossible. `path` leads to the key at fault."""

    def __init__(self, path: tuple[str, ...], message: str) -> None:
        super().__init__(message)
        self.path = path
        self.message = message


# ---------------------------------------------------------------------------------------------------------- the facts


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Fact:
    """Something that can be known of a request."""

    name: str
    help: str
    numeric: bool
    read: Callable[[RequestTimeline], tuple[Value, ...]]
    """All its values: none when no line tells, several when several lines do."""
    cite: Callable[[RequestTimeline, Value], str]
    """How a value is shown as evidence: redacted, the line itself or `variable=value`."""


class Facts(dict[Fact, tuple[Value, ...]]):
    """The facts of one request, each read when it is first asked for: `facts[fact]` are its values."""

    __slots__ = ("_timeline",)

    def __init__(self, timeline: RequestTimeline) -> None:
        super().__init__()
        self._timeline = timeline

    def __missing__(self, fact: Fact) -> tuple[Value, ...]:
        values = self[fact] = fact.read(self._timeline)
        return values


def folded(text: str) -> str:
    """Runs of white space become one space: the gateway breaks some of its messages over lines."""
    return " ".join(text.split())


def _texts(*found: str | None) -> tuple[Value, ...]:
    return tuple(folded(text) for text in found if text is not None)


def _numbers(*found: int | None) -> tuple[Value, ...]:
    return tuple(number for number in found if number is not None)


def _steps(timeline: RequestTimeline, step: Step) -> Iterator[ExecutionStep]:
    return (line for line in timeline.steps if line.step is step)


def _reasons(timeline: RequestTimeline) -> tuple[Value, ...]:
    lines = tuple(folded(line.text) for line in timeline.steps if line.step in REASON_STEPS)
    access = timeline.access
    if lines or access is None or access.integration is None:
        return lines
    return _texts(access.integration.error)


def _cite_reason(timeline: RequestTimeline, value: Value) -> str:
    if any(line.step in REASON_STEPS for line in timeline.steps):
        return str(value)
    return f"integration.error={redact(str(value))}"


def _response_types(timeline: RequestTimeline) -> tuple[Value, ...]:
    access = timeline.access
    logged = _texts(access.glance.response_type) if access is not None else ()
    return logged + _texts(*(line.name for line in _steps(timeline, Step.GATEWAY_RESPONSE)))


def _cite_response_type(timeline: RequestTimeline, value: Value) -> str:
    if timeline.access is not None and timeline.access.glance.response_type == value:
        return f"error.responseType={value}"
    return f"Gateway response type: {value}"


def _error_messages(timeline: RequestTimeline) -> tuple[Value, ...]:
    logged = _texts(timeline.access.error_message) if timeline.access is not None else ()
    return logged + tuple(folded(line.text) for line in timeline.steps if line.step in REASON_STEPS)


def _cite_error_message(timeline: RequestTimeline, value: Value) -> str:
    if any(folded(line.text) == value for line in timeline.steps if line.step in REASON_STEPS):
        return str(value)
    return f"error.message={redact(str(value))}"


def _made_by(timeline: RequestTimeline) -> tuple[Value, ...]:
    """Who made the status. `backend` and `gateway` are proven, otherwise there is no value."""
    access = timeline.access
    if _reasons(timeline) or _response_types(timeline) or (access is not None and access.error_message is not None):
        return ("gateway",)
    if _backend_proof(timeline) is not None:
        return ("backend",)
    if access is not None and _access_integration_ran(timeline):
        return ("gateway",)
    if any(line.step is not Step.COMPLETED for line in timeline.steps):
        return ("gateway",)
    return ()


def _access_integration_ran(timeline: RequestTimeline) -> bool:
    access = timeline.access
    return access is not None and (
        access.integration_service_status is not None
        or access.glance.integration_latency_ms is not None
        or (access.integration is not None and access.integration.status is not None)
    )


def _backend_proof(timeline: RequestTimeline) -> str | None:
    """What shows that the integration answered and the gateway passed on what it said, else None."""
    for step in (Step.EXECUTION_COMPLETED, Step.INTEGRATION_RESPONSE):
        for line in _steps(timeline, step):
            return line.text
    access, status = timeline.access, timeline.status
    if access is None or status is None:
        return None
    answered = access.integration.status if access.integration is not None else None
    service = access.integration_service_status
    # Once an integration has run the gateway makes no 4xx of its own: what is not equal was mapped.
    if answered is not None and (answered == status or status < 500):
        return f"integration.status={answered}"
    if answered is None and service is not None:
        passed_on = service == status or status < 500 or (service < 300 and status not in _LAMBDA_PROXY_5XX)
        return f"integration.integrationStatus={service}" if passed_on else None
    if answered is None and access.glance.integration_latency_ms is not None and status < 500:
        return f"integration.latency={access.glance.integration_latency_ms}"
    return None


def _cite_made_by(timeline: RequestTimeline, value: Value) -> str:
    return (_backend_proof(timeline) if value == "backend" else None) or f"made_by={value}"


def _known(label: str) -> tuple[Value, ...]:
    return () if label == UNKNOWN else (label,)


def _method(timeline: RequestTimeline) -> tuple[Value, ...]:
    if timeline.access is not None and timeline.access.glance.method != UNKNOWN:
        return (timeline.access.glance.method,)
    return ()


def _resource(timeline: RequestTimeline) -> tuple[Value, ...]:
    if timeline.access is not None and timeline.access.glance.resource != UNKNOWN:
        return (timeline.access.glance.resource,)
    return tuple(line.resource for line in timeline.steps if line.resource is not None)[:1]


def _shown_as(variable: str) -> Callable[[RequestTimeline, Value], str]:
    return lambda _, value: f"{variable}={value if isinstance(value, int) else redact(value)}"


def _text(
    name: str, help_: str, read: Callable[[RequestTimeline], tuple[Value, ...]], shown: str | None = None
) -> Fact:
    return Fact(name=name, help=help_, numeric=False, read=read, cite=_shown_as(shown or name))


def _number(
    name: str, help_: str, read: Callable[[RequestTimeline], tuple[Value, ...]], shown: str | None = None
) -> Fact:
    return Fact(name=name, help=help_, numeric=True, read=read, cite=_shown_as(shown or name))


def _phase_facts(phase: str, help_: str) -> Iterator[Fact]:
    def outcome(timeline: RequestTimeline) -> PhaseOutcome:
        found: PhaseOutcome | None = getattr(timeline.access, phase, None)
        return found if found is not None else _NOT_LOGGED

    yield _number(f"{phase}_status", f"{help_}: its status", lambda t: _numbers(outcome(t).status), f"{phase}.status")
    yield _text(f"{phase}_error", f"{help_}: its error", lambda t: _texts(outcome(t).error), f"{phase}.error")


_NOT_LOGGED = PhaseOutcome()

_ALL: tuple[Fact, ...] = (
    Fact(
        name="reason",
        help="the gateway's own words on why: the execution log's reason lines, without any the access log's "
        "`integration.error` (`integrationErrorMessage`)",
        numeric=False,
        read=_reasons,
        cite=_cite_reason,
    ),
    Fact(
        name="response_type",
        help="`error.responseType` and the types of `Gateway response type:` lines",
        numeric=False,
        read=_response_types,
        cite=_cite_response_type,
    ),
    Fact(
        name="made_by",
        help="who made the status, where the lines tell: `backend` or `gateway`",
        numeric=False,
        read=_made_by,
        cite=_cite_made_by,
    ),
    _number("status", "what the caller got", lambda t: _numbers(t.status)),
    _text(
        "error_message",
        "`error.message`",
        lambda t: _texts(t.access.error_message if t.access else None),
        "error.message",
    ),
    _text(
        "validation_error",
        "`error.validationErrorString`",
        lambda t: _texts(t.access.validation_error if t.access else None),
        "error.validationErrorString",
    ),
    *_phase_facts("waf", "AWS WAF"),
    *_phase_facts("authenticate", "the check of credentials"),
    *_phase_facts("authorizer", "the Lambda, JWT or Cognito authorizer"),
    *_phase_facts("authorize", "the decision of the policies"),
    *_phase_facts("integration", "what the backend answered (Lambda proxy: the function's `statusCode`)"),
    _number(
        "integration_service_status",
        "`integration.integrationStatus`: the Lambda *service*'s status, 200 even when the function threw",
        lambda t: _numbers(t.access.integration_service_status if t.access else None),
        "integration.integrationStatus",
    ),
    _text(
        "waf_response_code",
        "`wafResponseCode`",
        lambda t: _texts(t.access.waf_response_code if t.access else None),
        "wafResponseCode",
    ),
    _number(
        "integration_response_status",
        "the status of `Received response. Status: …` lines",
        lambda t: _numbers(*(line.status for line in _steps(t, Step.INTEGRATION_RESPONSE))),
    ),
    _text(
        "integration_exception",
        "the Lambda throttle that an answer of the integration names: `TooManyRequestsException` or "
        "`ReservedFunctionConcurrentInvocationLimitExceeded`",
        lambda t: _texts(*(line.name for line in _steps(t, Step.INTEGRATION_RESPONSE))),
    ),
    _text("step", "the kinds of the execution lines", lambda t: tuple(line.step.value for line in t.steps)),
    _text("execution_text", "the text of every execution line, redacted", lambda t: _texts(*(s.text for s in t.steps))),
    _number(
        "latency_ms",
        "`responseLatency`",
        lambda t: _numbers(t.access.glance.latency_ms if t.access else None),
        "responseLatency",
    ),
    _number(
        "integration_latency_ms",
        "`integration.latency`",
        lambda t: _numbers(t.access.glance.integration_latency_ms if t.access else None),
        "integration.latency",
    ),
    _text("method", "the HTTP method in capitals", _method),
    _text("resource", "the resource template or route (`/orders/{id}`)", _resource),
    _text("api_id", "the API's id", lambda t: _known(t.api.id)),
    _text("api_name", "the API's name", lambda t: _known(t.api.name)),
    _text("api_type", "REST, HTTP or WEBSOCKET", lambda t: (t.api.type,)),
    _text("stage", "the stage", lambda t: _known(t.api.stage)),
)
FACTS: Mapping[str, Fact] = {fact.name: fact for fact in _ALL}
"""Every fact by name. Beside these, `context.<variable>` asks any `$context` variable of the access line."""

_VARIABLE_PREFIX = "context."
_WORDS = ("any", "all", "not")


def fact_named(name: str, path: tuple[str, ...]) -> Fact:
    """The fact of that name. Raises `ConditionError` naming the nearest one."""
    if name in FACTS:
        return FACTS[name]
    variable = name.removeprefix(_VARIABLE_PREFIX)
    if name.startswith(_VARIABLE_PREFIX) and variable:

        def read(timeline: RequestTimeline) -> tuple[Value, ...]:
            return _texts(timeline.access.fields.get(variable) if timeline.access is not None else None)

        return _text(name, f"`$context.{variable}`", read, variable)
    raise ConditionError(path, f"unknown fact `{name}`{nearest(name, (*FACTS, *_WORDS))}")


def nearest(name: str, known: Iterable[str]) -> str:
    """A hint that names what was probably meant, or nothing."""
    close = difflib.get_close_matches(name, list(known), n=1, cutoff=0.5)
    return f"; did you mean `{close[0]}`?" if close else ""


# --------------------------------------------------------------------------------------------------------- conditions


def compile_condition(when: object, path: tuple[str, ...]) -> Matcher:
    """A mapping of facts (and `any`, `all`, `not`), all of which must hold. Raises `ConditionError`."""
    if not isinstance(when, dict) or not when:
        raise ConditionError(path, "a condition is a mapping of facts, for example `status: 5xx`")
    parts = [_part(str(key), asked, (*path, key)) for key, asked in when.items()]
    return parts[0] if len(parts) == 1 else _all_of(parts)


def _part(key: str, asked: object, path: tuple[str, ...]) -> Matcher:
    if key == "not":
        return _none_of(compile_condition(asked, path))
    if key in ("any", "all"):
        if not isinstance(asked, list) or not asked:
            raise ConditionError(path, f"`{key}` takes a list of conditions")
        parts = [compile_condition(item, path) for item in asked]
        return _any_of(parts) if key == "any" else _all_of(parts)
    fact = fact_named(key, path)
    if not isinstance(asked, dict):
        return _holds(fact, _test("in" if isinstance(asked, list) else "equals", asked, fact, path))
    if not asked:
        raise ConditionError(path, f"`{key}` asks nothing")
    presence = [_presence(fact, value, (*path, op)) for op, value in asked.items() if op == "present"]
    tests = [_test(str(op), value, fact, (*path, op)) for op, value in asked.items() if op != "present"]
    return _all_of(presence + ([_holds(fact, *tests)] if tests else []))


def _holds(fact: Fact, *tests: Callable[[Value], object]) -> Matcher:
    """One and the same value passes every test."""

    def match(facts: Facts) -> Proof | None:
        for value in facts[fact]:
            if all(test(value) for test in tests):
                return ((fact, value),)
        return None

    def match_one(facts: Facts) -> Proof | None:
        for value in facts[fact]:
            if test(value):
                return ((fact, value),)
        return None

    test = tests[0]
    return match_one if len(tests) == 1 else match


def _presence(fact: Fact, wanted: object, path: tuple[str, ...]) -> Matcher:
    if not isinstance(wanted, bool):
        raise ConditionError(path, "`present` is true or false")

    def match(facts: Facts) -> Proof | None:
        values = facts[fact]
        if bool(values) is not wanted:
            return None
        return tuple((fact, value) for value in values[:1])

    return match


def _all_of(parts: list[Matcher]) -> Matcher:
    def match(facts: Facts) -> Proof | None:
        proof: Proof = ()
        for part in parts:
            found = part(facts)
            if found is None:
                return None
            proof += found
        return proof

    return match


def _any_of(parts: list[Matcher]) -> Matcher:
    def match(facts: Facts) -> Proof | None:
        for part in parts:
            found = part(facts)
            if found is not None:
                return found
        return None

    return match


def _none_of(part: Matcher) -> Matcher:
    return lambda facts: () if part(facts) is None else None


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
    for item in asked if isinstance(asked, list) else [asked]:
        if isinstance(item, str) and len(item) == 3 and item[0] in "12345" and item[1:] == "xx":
            wanted.update(range(int(item[0]) * 100, int(item[0]) * 100 + 100))
        elif isinstance(item, int) and not isinstance(item, bool):
            wanted.add(item)
        else:
            raise ConditionError(path, f"`{item}` is neither a whole number nor a class such as `5xx`")
    if not wanted:
        raise ConditionError(path, "an empty list never matches")
    return frozenset(wanted).__contains__


def _text_test(op: str, asked: object, path: tuple[str, ...]) -> Callable[[Value], object]:
    items = asked if isinstance(asked, list) else [asked]
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
    return lambda value: search(str(value))
