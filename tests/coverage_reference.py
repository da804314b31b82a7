"""The tables of docs/coverage.md: what proves each cause, and what its logs cost.

The first is made from the tests beside the shipped rules: their lines are taken away, level by level and variable by
variable, until the verdict changes. The second weighs the lines of the benchmarks. `python -m tests.coverage_reference`
writes both; a test of test_documents.py fails while they differ.
"""

import json
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

from msgspec.structs import replace

from benchmarks import prepared
from exporter.excerpt import read_excerpt
from exporter.model import ExecutionStep, RequestTimeline, Step
from exporter.rules import UNCLASSIFIED, RuleTest, rule_tests, shipped_rules, shipped_text

PAGE = Path(__file__).parent.parent / "docs" / "coverage.md"
RULES = shipped_rules()

# ------------------------------------------------------------------------------------------------------- levels of lines

DUMPS = ("Method request ", "Method response ", "Endpoint request ", "Endpoint response ", "Gateway response body")
"""What full data tracing adds."""
AT_ERROR = {Step.REASON, Step.API_KEY, Step.GATEWAY_RESPONSE, Step.COMPLETED}
ONLY_AT_INFO = ("The client is not authorized to perform this operation.",)
UNSURE_AT_ERROR = (
    "API Key not authorized because ",
    "Key throttle limit exceeded for ",
    "Missing required request parameters",
    "Request body does not match model schema",
    "Unauthorized request:",
)
"""Reasons that were seen at INFO, and of which no source says that ERROR prints them."""


def at_info(step: ExecutionStep) -> bool:
    return not step.text.startswith(DUMPS)


def at_error(step: ExecutionStep) -> bool:
    return step.step in AT_ERROR and not step.text.startswith(ONLY_AT_INFO)


ALWAYS_LOGGED = {"requestId", "extendedRequestId", "status"}


def surely_at_error(step: ExecutionStep) -> bool:
    return at_error(step) and not step.text.startswith(UNSURE_AT_ERROR)


# ------------------------------------------------------------------------------------------------------------- verdicts


def proves(timeline: RequestTimeline | None, cause: str) -> bool:
    """Whether the cause is proven, by more than the number of a status."""
    failure = RULES.classify(timeline) if timeline is not None and (timeline.access or timeline.steps) else None
    return failure is not None and failure.cause == cause and not failure.rule.startswith("status-")


def without_steps(timeline: RequestTimeline, keep: Callable[[ExecutionStep], bool]) -> RequestTimeline:
    return replace(timeline, steps=tuple(step for step in timeline.steps if keep(step)))


def requests_by_cause() -> dict[str, list[tuple[RuleTest, RequestTimeline]]]:
    found: dict[str, list[tuple[RuleTest, RequestTimeline]]] = {cause: [] for cause in RULES.causes}
    for test in rule_tests(shipped_text(), source="rules.yaml"):
        (timeline,) = read_excerpt(test.lines, access_format=test.access_format).requests
        if test.expect in found:
            found[test.expect].append((test, timeline))
    return found


def from_execution_lines(cause: str, timelines: list[RequestTimeline], keep: Callable[[ExecutionStep], bool]) -> str:
    """`yes`, `with access log`, or an empty text."""
    for timeline in timelines:
        if proves(without_steps(replace(timeline, access=None), keep), cause):
            return "yes"
    for timeline in timelines:
        alone = replace(timeline, steps=())
        if timeline.access and proves(without_steps(timeline, keep), cause) and not proves(alone, cause):
            return "with access log"
    return ""


def least_variables(cause: str, line: dict[str, object]) -> tuple[str, ...] | None:
    """The fewest variables of an access line that still prove the cause."""

    def read(keys: list[str]) -> RequestTimeline | None:
        requests = read_excerpt(json.dumps({key: line[key] for key in keys}), access_format="json").requests
        return requests[0] if requests else None

    keys = list(line)
    if not proves(read(keys), cause):
        return None
    for key in list(line):
        fewer = [other for other in keys if other != key]
        if proves(read(fewer), cause):
            keys = fewer
    timeline = read(keys)
    assert timeline is not None
    assert timeline.access is not None
    return tuple(sorted(timeline.access.fields.keys() - ALWAYS_LOGGED))


def access_lines(test: RuleTest) -> Iterator[dict[str, object]]:
    """The access lines of a test, and those that would have carried its first reason.

    `integration.error` repeats the execution log's words where these begin with `Execution failed due to configuration
    error: ` (REST APIs).
    """
    for text in test.lines.splitlines():
        if text.startswith("{"):
            with suppress(ValueError):  # API Gateway writes lines that are not JSON, too
                yield json.loads(text)
        _, found, reason = text.partition(") Execution failed due to configuration error: ")
        if found and reason.strip() and "authorizer" not in test.lines.lower():
            yield {
                "requestId": "17cb49b2-c061-11e9-9f0b-0f2d2e2b3c4d",
                "status": "500",
                "integration.error": f"Execution failed due to configuration error: {reason}",
            }


def shortest(sets: set[tuple[str, ...]]) -> list[tuple[str, ...]]:
    """Those that contain no other one."""
    return sorted(one for one in sets if not any(set(other) < set(one) for other in sets))


def statuses_alone() -> dict[str, str]:
    """Cause -> the statuses from which alone it is guessed, `400, 402-410`."""
    found: dict[str, list[int]] = {}
    for status in range(400, 600):
        line = json.dumps({"requestId": "17cb49b2-c061-11e9-9f0b-0f2d2e2b3c4d", "status": str(status)})
        failure = RULES.classify(read_excerpt(line, access_format="json").requests[0])
        assert failure is not None
        found.setdefault(failure.cause, []).append(status)
    return {cause: _in_words(numbers) for cause, numbers in found.items()}


def _in_words(numbers: list[int]) -> str:
    if len(numbers) > 3:
        return f"any other {numbers[0] // 100}xx"
    return ", ".join(map(str, numbers))


# --------------------------------------------------------------------------------------------------------------- tables


def table_of_causes() -> str:
    guesses = statuses_alone()
    rows = ["| cause | access log, with | guessed from status | ERROR | INFO |", "|---|---|---|---|---|"]
    for cause, tests in requests_by_cause().items():
        if cause == UNCLASSIFIED:
            continue
        sets = {found for test, _ in tests for line in access_lines(test) if (found := least_variables(cause, line))}
        timelines = [timeline for _, timeline in tests]
        error = from_execution_lines(cause, timelines, surely_at_error)
        if not error and from_execution_lines(cause, timelines, at_error):
            error = "not confirmed"
        info = from_execution_lines(cause, timelines, at_info)
        traced = from_execution_lines(cause, timelines, lambda _: True)
        assert info or not traced, f"{cause} is proven by data tracing alone: give it a column"
        variables = " or ".join(" + ".join(f"`{name}`" for name in names) for names in shortest(sets))
        rows.append(f"| `{cause}` | {variables} | {guesses.get(cause, '')} | {error} | {info or error} |")
    return "\n".join(rows) + "\n"


DOLLARS_PER_GB = 0.50
EVENT_OVERHEAD_BYTES = 26
"""What PutLogEvents adds to an event's UTF-8 bytes when it reckons a batch."""
REQUESTS = 2_000


def log_lines() -> dict[str, list[prepared.Line]]:
    """The lines of 2,000 requests, one in a hundred failing, by kind of log."""
    return {
        "access log, CLF": prepared.access_lines(REQUESTS, failing=0.01, form="clf"),
        "access log, JSON of 18 variables": prepared.access_lines(REQUESTS, failing=0.01, form="json"),
        "execution log, ERROR": prepared.execution_lines(REQUESTS, failing=0.01, level="ERROR"),
        "execution log, INFO": prepared.execution_lines(REQUESTS, failing=0.01, level="INFO"),
        "execution log, INFO and data tracing": prepared.execution_lines(REQUESTS, failing=0.01, level="TRACE"),
    }


def about(number: float) -> str:
    """Two digits of a number: what is weighed here is an example."""
    return f"{float(f'{number:.2g}'):,.10g}"


def table_of_costs() -> str:
    rows = [
        "| log | lines a request | bytes a request | GB for a million requests | ingestion of a million requests |",
        "|---|---|---|---|---|",
    ]
    for name, lines in log_lines().items():
        size = sum(len(line.message.encode()) + EVENT_OVERHEAD_BYTES for line in lines) / REQUESTS
        gigabytes = size * 1e6 / 1e9
        rows.append(
            f"| {name} | {about(len(lines) / REQUESTS)} | {about(size)} | {about(gigabytes)} | "
            f"${about(gigabytes * DOLLARS_PER_GB)} |"
        )
    return "\n".join(rows) + "\n"


def generated() -> dict[str, str]:
    """The parts of the page, by the names in their comments."""
    return {"causes": table_of_causes(), "costs": table_of_costs()}


if __name__ == "__main__":
    from tests.pages import rewrite

    rewrite(PAGE, generated())
