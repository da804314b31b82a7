"""Why a request failed: an ordered list of rules, the first of which that holds names the cause.

The rules are data (`config/rules.yaml`, and a user's own in front of it), read and checked here once; every mistake is
reported at once with its line and a hint, because a rule that silently never matches is a failure that nobody counts.
Classifying is a total function of what the gateway logged of one request. It never looks at a clock or a network,
and `shipped_rules` alone reads a file.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import cache
from importlib import resources
from itertools import compress, groupby, pairwise
from pathlib import Path
from types import MappingProxyType
from typing import NamedTuple

from msgspec.structs import replace

from exporter.conditions import Proof
from exporter.conditions.facts import REASON_STEPS, Fact, Facts, Value
from exporter.model import GATEWAY_ERRORS, Cause, Failure, RequestTimeline, Step
from exporter.rules_file import NO_FAILURE, Rule, RulesError, RulesFile, RuleTest

__all__ = [
    "NO_FAILURE",
    "UNCLASSIFIED",
    "RuleSet",
    "RuleTest",
    "RulesError",
    "load_rules",
    "rule_tests",
    "shipped_rules",
]

UNCLASSIFIED = "unclassified"
"""The cause of a failure that no rule explains."""

MAX_EVIDENCE = 1_024
"""Characters of evidence kept: a label-sized proof, not a log line of a megabyte."""


class _Verdict(NamedTuple):
    """The rule that names the cause (None: no rule does), and the facts that prove it."""

    rule: Rule | None
    proof: Proof


class _Question:
    """The fact that rules ask for next, and what its values lead to."""

    __slots__ = ("answers", "fact")

    def __init__(self, fact: Fact) -> None:
        self.fact = fact
        self.answers: dict[tuple[Value, ...], _Question | _Verdict] = {}


class _Verdicts:
    """What came out for facts seen before: most failures of a storm are alike in all that rules ask.

    Which fact is asked for next follows from the values of those before. So the facts of a request, in the order in
    which they were read, lead to its verdict from one dictionary to the next. May be used by several threads.
    """

    _MOST = 1_024
    _FEWEST_FACTS = 4
    """What fewer led to is found as fast anew; such are reasons that name another id each time."""
    _MOST_TEXT = 2_048
    """Characters of all values together: what is longer is not likely to come again."""

    def __init__(self) -> None:
        self._first: _Question | None = None
        self._kept = 0

    def find(self, facts: Facts) -> _Verdict | None:
        """The verdict on these facts. Reads those that the rules would read, in the same order."""
        found: _Question | _Verdict | None = self._first
        timeline = facts.timeline
        while type(found) is _Question:
            fact = found.fact
            # Each is asked for once: no use looking for it first.
            values = facts[fact] = fact.read(timeline)
            found = found.answers.get(values)
        assert not isinstance(found, _Question), "a loop that ends ends behind the questions"
        return found

    def keep(self, facts: Facts, verdict: _Verdict) -> None:
        """Remember the verdict on the facts that were read."""
        asked = list(facts.items())
        if len(asked) < self._FEWEST_FACTS:
            return
        if sum(len(str(value)) for _, values in asked for value in values) > self._MOST_TEXT:
            return
        question = self._first
        if question is None or self._kept >= self._MOST:
            question = self._first = _Question(asked[0][0])
            self._kept = 0
        for (_, values), (following, _) in pairwise(asked):
            found = question.answers.setdefault(values, _Question(following))
            assert isinstance(found, _Question), "the same answers lead to the same question"
            question = found
        question.answers[asked[-1][1]] = verdict
        self._kept += 1


class _Stretch:
    """Rules that follow each other and need the same facts: most are of no use to most requests."""

    __slots__ = ("_fact", "_needs", "_openings", "_rules")

    def __init__(self, needs: frozenset[Fact], rules: Iterable[Rule]) -> None:
        self._needs = needs
        self._rules = tuple(rules)
        self._fact = next(iter(needs)) if len(needs) == 1 else None
        """The one fact that all need."""
        self._openings = [rule.when.openings.get(self._fact, ("",)) for rule in self._rules] if self._fact else []

    def rules_for(self, facts: Facts) -> Iterable[Rule]:
        """The rules, in order, that may hold of these facts."""
        if self._needs and not any(map(facts.__getitem__, self._needs)):
            return ()
        values = facts[self._fact] if self._fact is not None else ()
        if len(values) != 1 or not isinstance(values[0], str):
            return self._rules
        return compress(self._rules, map(values[0].startswith, self._openings))


@dataclass(frozen=True, kw_only=True, slots=True)
class RuleSet:
    """The closed set of causes and the rules that prove them, in order."""

    causes: Mapping[str, Cause]
    rules: tuple[Rule, ...]
    _stretches: "tuple[_Stretch, ...]" = field(init=False, repr=False, compare=False)
    """The rules in order, those together that need the same facts."""
    _verdicts: "_Verdicts" = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "_verdicts", _Verdicts())
        stretches = tuple(_Stretch(needs, rules) for needs, rules in groupby(self.rules, lambda rule: rule.when.needs))
        object.__setattr__(self, "_stretches", stretches)

    def classify(self, timeline: RequestTimeline) -> Failure | None:
        """Why the request failed; None if it did not. A failure that no rule explains is `unclassified`."""
        judged = _judged(timeline)
        if not is_failure(judged):
            return None
        facts = Facts(judged)
        verdict = self._verdicts.find(facts)
        if verdict is None:
            verdict = self._first_that_holds(facts)
            self._verdicts.keep(facts, verdict)
        rule, proof = verdict
        if rule is None:
            evidence = f"status={judged.status}" if judged.status is not None else ""
            return self._failure(timeline, UNCLASSIFIED, UNCLASSIFIED, evidence, refinable=True)
        evidence = "; ".join(dict.fromkeys(fact.cite(judged, value) for fact, value in proof))
        return self._failure(timeline, rule.cause, rule.name, evidence, refinable=rule.refinable)

    def _first_that_holds(self, facts: Facts) -> _Verdict:
        for stretch in self._stretches:
            for rule in stretch.rules_for(facts):
                proof = rule.when.match(facts)
                if proof is not None:
                    return _Verdict(rule, proof)
        return _Verdict(None, ())

    def holding(self, timeline: RequestTimeline) -> tuple[str, ...]:
        """Every rule that holds for a failed request, by name and in order: the first one names the cause."""
        judged = _judged(timeline)
        facts = Facts(judged)
        return (
            tuple(rule.name for rule in self.rules if rule.when.match(facts) is not None) if is_failure(judged) else ()
        )

    def _failure(self, timeline: RequestTimeline, cause: str, rule: str, evidence: str, *, refinable: bool) -> Failure:
        return Failure(
            timeline=timeline,
            cause=cause,
            category=self.causes[cause].category,
            rule=rule,
            evidence=evidence[:MAX_EVIDENCE],
            refinable=refinable,
        )


_FAILING_STEPS = REASON_STEPS | {Step.GATEWAY_RESPONSE}
_COMPLETED = Step.COMPLETED


def is_failure(timeline: RequestTimeline) -> bool:
    """A status of 400 or more, or words of the gateway that say so whatever the status."""
    status = timeline.status
    if status is not None and status >= 400:
        return True
    if any(line.step in _FAILING_STEPS for line in timeline.steps):
        return True
    access = timeline.access
    if access is None:
        return False
    if access.glance.response_type is not None or (status is None and access.error_message is not None):
        return True
    error = access.integration.error if access.integration is not None else None
    return error is not None and error.startswith(GATEWAY_ERRORS)


def _judged(timeline: RequestTimeline) -> RequestTimeline:
    """Without execution lines that end in another status than the access line's: callers may reuse an id."""
    status = timeline.access.glance.status if timeline.access is not None else None
    if status is None or not timeline.steps:
        return timeline
    ends = {line.status for line in timeline.steps if line.step is _COMPLETED and line.status is not None}
    return replace(timeline, steps=()) if ends and status not in ends else timeline


# ------------------------------------------------------------------------------------------------------------- loading


def load_rules(text: str, *, source: str, extends: RuleSet | None = None) -> RuleSet:
    """Read a rules file. Its rules come before those of `extends`, whose causes they may use and add to.

    Raises `RulesError` listing all mistakes.
    """
    reader = RulesFile(text, source)
    causes = reader.causes(extends.causes if extends is not None else {})
    if extends is None and UNCLASSIFIED not in causes:
        reader.mistake(1, f"the cause `{UNCLASSIFIED}` is missing: it takes what no rule explains")
    taken = {rule.name for rule in extends.rules} if extends is not None else set()
    rules = reader.rules(causes, taken)
    reader.check()
    return RuleSet(causes=MappingProxyType(causes), rules=rules + (extends.rules if extends is not None else ()))


def rule_tests(text: str, *, source: str) -> tuple[RuleTest, ...]:
    """The tests beside the rules of a file that `load_rules` accepts."""
    reader = RulesFile(text, source)
    tests = reader.tests()
    reader.check()
    return tests


def shipped_text() -> str:
    """The rules file that comes with the program: packaged beside this module, in a checkout under `config/`."""
    packaged = resources.files("exporter") / "rules.yaml"
    if packaged.is_file():
        return packaged.read_text(encoding="utf-8")
    return (Path(__file__).parent.parent / "config" / "rules.yaml").read_text(encoding="utf-8")


@cache
def shipped_rules() -> RuleSet:
    """The rules that come with the program, read once."""
    return load_rules(shipped_text(), source="rules.yaml")
