"""Whether rules do what the tests beside them say: the work of `test-rules`.

Beside the tests it finds two mistakes that no test states: a rule that none of its tests proves, and a rule that would
hold but is never asked because another one in front of it takes its requests.
"""

from collections.abc import Mapping
from dataclasses import dataclass

from exporter.excerpt import read_excerpt
from exporter.model import Failure, RequestTimeline
from exporter.rules import NO_FAILURE, RuleSet, RuleTest, load_rules, rule_tests


@dataclass(frozen=True, kw_only=True, slots=True)
class RuleTestResult:
    """One test, run."""

    test: RuleTest
    problem: str | None
    """What is wrong, in a sentence; None if it passed."""


@dataclass(frozen=True, kw_only=True, slots=True)
class RuleReport:
    """All tests of a rules file, run."""

    results: tuple[RuleTestResult, ...]
    unproven: tuple[str, ...]
    """Rules that no test shows to decide anything: they may never match."""
    shadowed: Mapping[str, str]
    """Rules that hold in a test of theirs but never decide one, and the rule in front that takes their requests."""

    @property
    def is_good(self) -> bool:
        """Whether every test passed and every rule is proven."""
        return not self.unproven and not self.shadowed and all(result.problem is None for result in self.results)


def check_rules(text: str, *, source: str, extends: RuleSet | None = None) -> RuleReport:
    """Run the tests of a rules file against its rules, which stand in front of those of `extends`.

    Raises `RulesError` if the file has mistakes, `AccessFormatError` if a test names a format that cannot be read.
    """
    rules = load_rules(text, source=source, extends=extends)
    own = rules.rules[: len(rules.rules) - (len(extends.rules) if extends is not None else 0)]
    causes = {rule.name: rule.cause for rule in own}
    results: list[RuleTestResult] = []
    decided: set[str] = set()
    in_front: dict[str, str] = {}
    for test in rule_tests(text, source=source):
        requests = read_excerpt(test.lines, access_format=test.access_format).requests
        failure = rules.classify(requests[0]) if requests else None
        results.append(RuleTestResult(test=test, problem=_problem(test, causes[test.rule], requests, failure)))
        if failure is None:
            continue
        decided.add(failure.rule)
        if failure.rule != test.rule and test.rule in rules.holding(requests[0]):
            in_front.setdefault(test.rule, failure.rule)
    return RuleReport(
        results=tuple(results),
        unproven=tuple(name for name in causes if name not in decided and name not in in_front),
        shadowed={name: front for name, front in in_front.items() if name not in decided},
    )


def _problem(
    test: RuleTest, own_cause: str, requests: tuple[RequestTimeline, ...], failure: Failure | None
) -> str | None:
    if len(requests) != 1:
        return f"its lines hold {len(requests)} requests; a test is about one"
    cause = failure.cause if failure is not None else NO_FAILURE
    if cause != test.expect:
        found = f"`{cause}` by rule `{failure.rule}`" if failure is not None else "no failure"
        return f"expected `{test.expect}`, found {found}"
    if test.expect == own_cause and failure is not None and failure.rule != test.rule:
        return f"the cause is right, but rule `{failure.rule}` in front proves it"
    return None
