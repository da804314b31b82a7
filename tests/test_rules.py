"""Rules: what proves a cause, what does not, and what a rules file may say."""

import contextlib
import json
import re
import time
from dataclasses import replace
from pathlib import Path

import pytest
import re2
from hypothesis import given, settings
from hypothesis import strategies as st

from exporter.conditions import ConditionError, compile_condition
from exporter.conditions.facts import FACTS
from exporter.excerpt import read_excerpt
from exporter.excerpt.rule_check import check_rules
from exporter.model import (
    AccessGlance,
    AccessRecord,
    Api,
    ExecutionStep,
    PhaseOutcome,
    RequestTimeline,
    Step,
)
from exporter.rules import UNCLASSIFIED, RulesError, load_rules, rule_tests, shipped_rules, shipped_text

ID = "5cb7ee58-39e6-11e9-be7e-29aff96747f2"


def classify(lines):
    (request,) = read_excerpt(lines).requests
    return shipped_rules().classify(request)


def execution(*texts):
    return "\n".join(f"({ID}) {text}" for text in texts)


# ---------------------------------------------------------------------------------------------------- the shipped rules


@pytest.mark.parametrize("test", rule_tests(shipped_text(), source="rules.yaml"), ids=lambda t: f"{t.rule}: {t.name}")
def test_every_shipped_rule_does_what_the_tests_beside_it_say(test):
    (request,) = read_excerpt(test.lines, access_format=test.access_format).requests
    failure = shipped_rules().classify(request)
    assert (failure.cause if failure else "none") == test.expect


def test_every_shipped_rule_is_proven_and_none_is_shadowed():
    report = check_rules(shipped_text(), source="rules.yaml")
    assert (report.unproven, dict(report.shadowed)) == ((), {})
    assert report.is_good


def test_every_shipped_rule_has_a_hit_and_a_near_miss():
    causes = {rule.name: rule.cause for rule in shipped_rules().rules}
    kinds = {name: set() for name in causes}
    for test in rule_tests(shipped_text(), source="rules.yaml"):
        kinds[test.rule].add("hit" if test.expect == causes[test.rule] else "near miss")
    assert {name for name, found in kinds.items() if found != {"hit", "near miss"}} == set()


def test_every_cause_has_a_rule_and_stands_in_the_documentation_with_its_category():
    rules = shipped_rules()
    assert {rule.cause for rule in rules.rules} == set(rules.causes)
    page = (Path(__file__).parent.parent / "docs" / "causes.md").read_text(encoding="utf-8")
    documented = re.findall(r"^\| `(\w+)` \| (\w+) \|", page, re.MULTILINE)
    assert documented == [(cause.name, cause.category) for cause in rules.causes.values()]


def test_every_fact_stands_in_the_documentation():
    page = (Path(__file__).parent.parent / "docs" / "rules.md").read_text(encoding="utf-8")
    assert set(re.findall(r"^\| `(\w+)` \|", page, re.MULTILINE)) == set(FACTS)


# ------------------------------------------------------------------------------------------------------- order of proof


def test_a_reason_line_beats_the_access_line_s_generic_type():
    failure = classify(
        f'{{"requestId":"{ID}","status":"500","error_responseType":"API_CONFIGURATION_ERROR","error_message":"Internal server error"}}\n'
        + execution(
            "Execution failed due to configuration error: Unable to transform response",
            "Method completed with status: 500",
        )
    )
    assert (failure.cause, failure.refinable) == ("mapping_template", False)
    assert failure.evidence == "Execution failed due to configuration error: Unable to transform response"


def test_a_reason_line_beats_even_a_specific_response_type():
    failure = classify(
        f'{{"requestId":"{ID}","status":"504","error_responseType":"INTEGRATION_TIMEOUT"}}\n'
        + execution(
            "Execution failed due to a network error communicating with endpoint", "Method completed with status: 504"
        )
    )
    assert failure.cause == "integration_network"


def test_an_error_type_in_a_header_dump_proves_nothing():
    failure = classify(
        execution(
            "Endpoint response headers: {x-amzn-ErrorType=MissingAuthenticationTokenException, X-Amz-Function-Error=Unhandled}",
            'Endpoint response body before transformations: {"message":"Missing Authentication Token"}',
            "Successfully completed execution",
            "Method completed with status: 403",
        )
    )
    assert failure.cause == "backend_4xx"


def test_execution_lines_that_end_in_another_status_belong_to_another_request():
    lines = execution("Execution failed due to a timeout error", "Method completed with status: 504")
    assert classify(f'{{"requestId":"{ID}","status":"200"}}\n{lines}') is None
    other = classify(f'{{"requestId":"{ID}","status":"429","error_responseType":"THROTTLED"}}\n{lines}')
    assert other.cause == "throttled"


def test_a_generic_failure_waits_for_a_better_proof_and_a_specific_one_does_not():
    refinable = {
        '"status":"500"',
        '"status":"502","error_message":"Internal server error","error_responseType":"INTEGRATION_FAILURE"',
        '"status":"500","error_responseType":"API_CONFIGURATION_ERROR"',
        '"status":"403","error_responseType":"ACCESS_DENIED"',
        '"status":"403","error_message":"Forbidden"',
        '"status":"400","error_responseType":"DEFAULT_4XX"',
    }
    final = {
        '"status":"504","error_responseType":"INTEGRATION_TIMEOUT"',
        '"status":"429","error_responseType":"THROTTLED"',
        '"status":"401","error_responseType":"UNAUTHORIZED"',
        '"status":"403","error_responseType":"MISSING_AUTHENTICATION_TOKEN"',
        '"status":"404","integration.status":"404"',
        '"status":"403","waf.status":"403"',
    }
    for fields in refinable | final:
        assert classify(f'{{"requestId":"{ID}",{fields}}}').refinable is (fields in refinable), fields


def test_a_response_type_on_a_success_status_is_a_failure():
    assert (
        classify(f'{{"requestId":"{ID}","status":"200","error_responseType":"UNAUTHORIZED"}}').cause == "unauthorized"
    )


@pytest.mark.parametrize(
    ("fields", "cause"),
    [
        ('"status":"404","integration.status":"404","integrationStatus":"200"', "backend_4xx"),
        ('"status":"400","integration.status":"200","integrationStatus":"200"', "backend_4xx"),  # a mapping chose 400
        ('"status":"404","integrationStatus":"200"', "backend_4xx"),
        ('"status":"500","integrationStatus":"200"', "backend_5xx"),
        ('"status":"502","integrationStatus":"200"', "internal_error"),
        ('"status":"503","integrationStatus":"503"', "backend_5xx"),
        ('"status":"404","integrationLatency":"31"', "backend_4xx"),
        ('"status":"504","integrationLatency":"29003"', "integration_timeout"),
        ('"status":"404","resourcePath":"/orders/{id}"', "backend_4xx"),
        ('"status":"404","routeKey":"GET /pets/{id}"', "backend_4xx"),
        ('"status":"404","resourcePath":"-"', "route_not_found"),
        ('"status":"401"', "unauthorized"),
        ('"status":"418"', "bad_request"),
    ],
)
def test_who_made_the_status(fields, cause):
    assert classify(f'{{"requestId":"{ID}",{fields}}}').cause == cause


def test_evidence_of_an_access_line_is_redacted():
    token = "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxMjM0NTY3ODkwIn0.dozjgNryP4J3jVmNHl0w5N_XgL0n3I9PlFUP0THsR8U"
    failure = classify(
        f'{{"requestId":"{ID}","status":"403","error_message":"Invalid key=value pair (missing equal-sign) in '
        f"Authorization header: 'Bearer {token}'.\"}}"
    )
    assert failure.cause == "missing_authentication_token"
    assert token not in failure.evidence


# ------------------------------------------------------------------------------------------------------------ total

texts = st.one_of(
    st.text(max_size=80),
    st.sampled_from(
        [
            "Execution failed due to configuration error: ",
            "Execution failed due to configuration error: Malformed Lambda proxy response",
            "Lambda invocation failed with status: 429",
            "Execution failed due to a timeout error",
            "Internal server error",
        ]
    ),
)
maybe_status = st.none() | st.integers(100, 599)
steps = st.builds(
    ExecutionStep,
    event_id=st.just("e"),
    at_ms=st.integers(0, 10**12),
    step=st.sampled_from(list(Step)),
    text=texts,
    status=maybe_status,
    name=st.none() | texts,
)
phases = st.none() | st.builds(PhaseOutcome, status=maybe_status, error=st.none() | texts)
records = st.builds(
    AccessRecord,
    event_id=st.just("a"),
    at_ms=st.integers(0, 10**12),
    glance=st.builds(
        AccessGlance,
        request_id=st.none(),
        extended_request_id=st.none(),
        status=maybe_status,
        method=st.just("GET"),
        resource=st.sampled_from(["unknown", "/orders"]),
        api_id=st.none(),
        stage=st.none(),
        latency_ms=st.none(),
        integration_latency_ms=st.none() | st.integers(0, 30_000),
        response_type=st.sampled_from([None, "THROTTLED", "DEFAULT_5XX", "NEW_TYPE"]),
    ),
    waf=phases,
    authorizer=phases,
    integration=phases,
    integration_service_status=maybe_status,
    error_message=st.none() | texts,
)


conditions = st.recursive(
    st.dictionaries(
        st.sampled_from(["reason", "error_message"]),
        st.dictionaries(
            st.sampled_from(["prefix", "contains", "equals"]),
            st.lists(st.sampled_from(["Execution", "Execution failed", "failed", "Timeout"]), min_size=1, max_size=2),
            min_size=1,
        ),
        min_size=1,
    ),
    lambda inner: (
        st.fixed_dictionaries({"any": st.lists(inner, min_size=1, max_size=3)})
        | st.fixed_dictionaries({"all": st.lists(inner, min_size=1, max_size=3)})
        | st.fixed_dictionaries({"not": inner})
    ),
    max_leaves=6,
)


@settings(max_examples=300, deadline=None)
@given(
    conditions,
    st.lists(st.sampled_from(["Execution failed", "Execution timeout", "failed", "Timeout failed"]), max_size=2),
    st.none() | st.sampled_from(["Execution failed", "Timeout"]),
)
def test_a_condition_that_holds_of_facts_holds_of_their_openings(when, reasons, message):
    condition = compile_condition(when, ())
    facts = {FACTS["reason"]: tuple(reasons), FACTS["error_message"]: () if message is None else (message,)}
    if condition.match(facts) is not None:
        for fact, openings in condition.openings.items():
            assert any(value.startswith(openings) for value in facts[fact])


REGEX_PIECES = st.sampled_from(
    ["Task ", "timed", "out", r"\d+", "x*", "y?", "(a|b)", "z{2}", ".", "(?i)", "|", "^", r"\."]
)
TEXT_PIECES = st.sampled_from(["Task ", "timed", "out", "7", "x", "y", "a", "b", "zz", "z", ".", "TASK ", " "])


@settings(max_examples=500, deadline=None)
@given(
    st.lists(st.lists(REGEX_PIECES, min_size=1, max_size=5).map("".join), min_size=1, max_size=2),
    st.lists(TEXT_PIECES, max_size=8).map("".join),
)
def test_a_regular_expression_is_found_as_re2_finds_it(patterns, text):
    try:
        condition = compile_condition({"error_message": {"regex": patterns}}, ())
    except ConditionError:
        return
    found = condition.match({FACTS["error_message"]: (text,)}) is not None
    assert found == any(re2.search(pattern, text) is not None for pattern in patterns)


def test_a_rule_is_passed_over_only_where_its_openings_say_so():
    shipped, openings = shipped_rules(), {}
    for rule in shipped.rules:
        for fact, found in rule.when.openings.items():
            openings.setdefault(fact.name, set()).update(found)
    assert len(openings["reason"]) > 50
    for opening in openings["reason"]:
        for text in (opening, opening[:-1], f"{opening} and more", f"x {opening}"):
            line = ExecutionStep(event_id="e", at_ms=0, step=Step.REASON, text=text)
            timeline = RequestTimeline(api=Api(), access=None, steps=(line,), request_id=None)
            rule = replace(shipped).classify(timeline).rule
            assert rule == next(iter(shipped.holding(timeline)), UNCLASSIFIED)


@settings(max_examples=300, deadline=None)
@given(access=st.none() | records, lines=st.lists(steps, max_size=5))
def test_classifying_is_total_and_closed(access, lines):
    timeline = RequestTimeline(api=Api(), access=access, steps=tuple(lines), request_id=None)
    failure = shipped_rules().classify(timeline)
    if failure is not None:
        assert failure.category == shipped_rules().causes[failure.cause].category
        assert failure.timeline is timeline
        assert failure.rule == next(iter(shipped_rules().holding(timeline)), UNCLASSIFIED)
    if timeline.status is not None and timeline.status >= 400:
        assert failure is not None


@settings(max_examples=150, deadline=None)
@given(
    requests=st.lists(st.tuples(st.none() | records, st.lists(steps, max_size=3)), min_size=1, max_size=6),
    order=st.lists(st.integers(0, 5), min_size=6, max_size=12),
    most=st.sampled_from([1, 2, 1_024]),
)
def test_what_was_judged_before_changes_no_verdict(requests, order, most):
    used = replace(shipped_rules())
    used._verdicts._MOST = most
    for number in order:
        access, lines = requests[number % len(requests)]
        timeline = RequestTimeline(api=Api(), access=access, steps=tuple(lines), request_id=None)
        assert used.classify(timeline) == replace(shipped_rules()).classify(timeline)


def test_a_verdict_is_found_once_for_the_same_facts_and_few_are_remembered(monkeypatch):
    used, anew = replace(shipped_rules()), []
    find = type(used)._first_that_holds
    monkeypatch.setattr(type(used), "_first_that_holds", lambda rules, facts: anew.append(facts) or find(rules, facts))

    def judge(message):
        line = {"requestId": ID, "status": "500", "error.message": message}
        (request,) = read_excerpt(json.dumps(line)).requests
        return used.classify(request).evidence

    assert judge("of one") == judge("of one")
    assert len(anew) == 1
    for _ in range(2):
        judge("x" * 10_000)
    assert len(anew) == 3, "long texts are not kept"
    for number in range(3_000):
        judge(f"of {number}")
    assert len(anew) == 3_003
    assert used._verdicts._kept <= 1_024


asked = st.recursive(
    st.dictionaries(
        st.sampled_from(["reason", "error_message", "response_type", "waf_error", "integration_error"]),
        st.sampled_from([{"present": True}, {"present": False}, {"contains": "e"}, {"prefix": "E"}, "THROTTLED"]),
        min_size=1,
        max_size=2,
    )
    | st.dictionaries(
        st.sampled_from(["status", "waf_status", "integration_status"]),
        st.sampled_from(["5xx", {"present": True}, {"present": False}, {"at_most": 450}]),
        min_size=1,
        max_size=2,
    ),
    lambda parts: (
        st.dictionaries(st.sampled_from(["any", "all"]), st.lists(parts, min_size=1, max_size=3), min_size=1)
        | st.fixed_dictionaries({"not": parts})
    ),
    max_leaves=5,
)


@settings(max_examples=300)
@given(
    whens=st.lists(asked, min_size=1, max_size=6),
    requests=st.lists(st.tuples(st.none() | records, st.lists(steps, max_size=2)), min_size=1, max_size=4),
)
def test_the_first_rule_that_holds_names_the_cause_whatever_rules_are_skipped_on_the_way(whens, requests):
    text = json.dumps(
        {
            "causes": {UNCLASSIFIED: {"category": "unclassified", "help": "nothing holds"}},
            "rules": [
                {
                    "name": f"rule-{number}",
                    "cause": UNCLASSIFIED,
                    "when": when,
                    "tests": [{"name": "t", "lines": "x", "expect": "none"}],
                }
                for number, when in enumerate(whens)
            ],
        }
    )
    rules = load_rules(text, source="own.yaml")
    for access, lines in requests:
        timeline = RequestTimeline(api=Api(), access=access, steps=tuple(lines), request_id=None)
        failure = rules.classify(timeline)
        if failure is not None:
            assert failure.rule == next(iter(rules.holding(timeline)), UNCLASSIFIED)


def test_a_part_that_asks_for_no_fact_holds_beside_one_that_does():
    text = """
causes: {unclassified: {category: unclassified, help: nothing holds}}
rules:
  - name: either
    cause: unclassified
    when: {any: [{reason: {present: true}}, {not: {status: 5xx}}]}
    tests: [{name: t, lines: '{"requestId":"x","status":"404"}', expect: unclassified}]
"""
    (request,) = read_excerpt('{"requestId":"x","status":"404"}').requests
    failure = load_rules(text, source="own.yaml").classify(request)
    assert failure is not None
    assert failure.rule == "either"


# ------------------------------------------------------------------------------------------------------------ own rules

OWN = """
causes:
  payment_provider_down: {category: backend, help: The payment provider is down.}
rules:
  - name: payments
    cause: payment_provider_down
    when: {status: 503, made_by: backend, resource: {prefix: /payments}}
    tests:
      - name: it answers 503
        lines: '{"requestId":"x","status":"503","resourcePath":"/payments/{id}","integration.status":"503"}'
        expect: payment_provider_down
"""


def test_own_rules_come_before_the_shipped_ones_and_may_add_causes():
    rules = load_rules(OWN, source="own.yaml", extends=shipped_rules())
    (request,) = read_excerpt(
        '{"requestId":"x","status":"503","resourcePath":"/payments/{id}","integration.status":"503"}'
    ).requests
    assert rules.classify(request).cause == "payment_provider_down"
    assert shipped_rules().classify(request).cause == "backend_5xx"
    assert list(rules.causes)[-1] == "payment_provider_down"
    assert check_rules(OWN, source="own.yaml", extends=shipped_rules()).is_good


def test_any_context_variable_can_be_asked():
    text = "rules: [{name: canary, cause: internal_error, when: {context.identity.sourceIp: {prefix: '10.'}}}]"
    rules = load_rules(text, source="own.yaml", extends=shipped_rules())
    (request,) = read_excerpt('{"requestId":"x","status":"500","ip":"10.1.2.3","integration.status":"500"}').requests
    assert rules.classify(request).rule == "canary"


def test_all_mistakes_are_reported_at_once_with_their_lines_and_hints():
    text = """
causes:
  mine: {category: integraton, help: h}
rules:
  - name: a
    cause: lambda_eror
    when: {resaon: {prefix: x}, status: high}
    tsts: []
  - name: a
    cause: lambda_error
    when: {error_message: {regex: '(x'}}
  - name: b
    cause: lambda_error
    cause: lambda_error
    when: {any: [{reason: {prefx: a}}, {status: {at_least: many}}]}
    tests: [{name: t, lines: x, expect: nonee}]
"""
    with pytest.raises(RulesError) as raised:
        load_rules(text, source="own.yaml", extends=shipped_rules())
    found = [(mistake.line, mistake.message) for mistake in raised.value.mistakes]
    expected = [
        (3, "did you mean `integration`?"),
        (6, "did you mean `lambda_error`?"),
        (7, "unknown fact `resaon`; did you mean `reason`?"),
        (7, "`high` is neither"),
        (8, "did you mean `tests`?"),
        (9, "another rule of this name"),
        (11, "no regular expression"),
        (14, "stands here twice"),
        (15, "did you mean `prefix`?"),
        (15, "`at_least` takes a whole number"),
        (16, "did you mean `none`?"),
    ]
    assert [line for line, _ in found] == [line for line, _ in expected]
    for (_, message), (_, part) in zip(found, expected, strict=True):
        assert part in message
    assert str(raised.value).startswith("own.yaml:3: ")


@pytest.mark.parametrize(
    "text",
    [
        "",
        "[]",
        "- a",
        "rules: 3",
        "causes: []",
        "rules: [3]",
        "rules: [{}]",
        "rules: [{name: a, cause: b, when: {}}]",
        "rules: [{name: a, cause: b, when: {any: []}}]",
        "rules: &a [*a]",
        "\t",
        "rules: [{name: 1, cause: true, when: 5, tests: {}, refinable: maybe}]",
        "rules: [" * 2_000,
        "{? [a]: b}",
        "x: !!python/object:os.system {}",
        "date: 2020-13-45",
    ],
)
def test_a_file_that_is_no_rules_file_is_refused_not_read_by_halves(text):
    with pytest.raises(RulesError):
        load_rules(text, source="own.yaml")


@settings(max_examples=200, deadline=None)
@given(st.text(max_size=200))
def test_any_text_is_a_rules_file_or_a_rules_error(text):
    with contextlib.suppress(RulesError):
        load_rules(text, source="own.yaml", extends=shipped_rules())


def test_a_shadowed_rule_and_one_that_never_matches_are_named():
    text = """
rules:
  - name: every-504
    cause: integration_timeout
    when: {status: 504}
    tests: [{name: t, lines: '{"requestId":"x","status":"504"}', expect: integration_timeout}]
  - name: slow-504
    cause: vpc_link
    when: {status: 504, resource: /slow}
    tests: [{name: t, lines: '{"requestId":"x","status":"504","resourcePath":"/slow"}', expect: vpc_link}]
  - name: never
    cause: vpc_link
    when: {status: 505}
"""
    report = check_rules(text, source="own.yaml", extends=shipped_rules())
    assert dict(report.shadowed) == {"slow-504": "every-504"}
    assert report.unproven == ("never",)
    assert [result.problem for result in report.results] == [
        None,
        "expected `vpc_link`, found `integration_timeout` by rule `every-504`",
    ]
    assert not report.is_good


def test_no_regular_expression_can_hang():
    text = "rules: [{name: evil, cause: vpc_link, when: {execution_text: {regex: '^(a+)+$'}}}]"
    rules = load_rules(text, source="own.yaml", extends=shipped_rules())
    step = ExecutionStep(event_id="e", at_ms=0, step=Step.REASON, text="a" * 100_000 + "!")
    timeline = RequestTimeline(api=Api(), access=None, steps=(step,), request_id=None)
    started = time.perf_counter()
    assert rules.classify(timeline).cause == "unclassified"
    assert time.perf_counter() - started < 5


@pytest.mark.parametrize("pattern", [r"(?=x)", r"(a)\1", r"(?<!x)y"])
def test_what_only_a_backtracking_engine_can_do_is_refused(pattern):
    with pytest.raises(RulesError, match="RE2"):
        load_rules(
            f"rules: [{{name: a, cause: vpc_link, when: {{reason: {{regex: '{pattern}'}}}}}}]",
            source="own.yaml",
            extends=shipped_rules(),
        )
