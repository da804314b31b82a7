"""Worlds of requests with a known truth, a source that shows them as CloudWatch would, and lives of a watch in them.

A world is made of requests whose true cause, labels and count are known by construction. Its lines become visible
late, in one or two batches, in the midst of a listing if need be, and never change. A `Life` polls a watch through a
world and may be crashed anywhere; what counts is what its ledger holds in the end.
"""

import contextlib
import itertools
import json
import random
import tempfile
from bisect import bisect_left
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from operator import itemgetter
from pathlib import Path

from exporter.access_filter import failed_access_patterns
from exporter.access_log import access_parser
from exporter.ledger.sqlite import SqliteLedger
from exporter.metrics.self_metrics import SelfMetrics
from exporter.metrics.totals import Totals
from exporter.model import Api, LogEvent, LogGroup, Page, Window
from exporter.pipeline import PollOutcome, Watch
from exporter.record import Recorder, Told
from exporter.rules import shipped_rules
from exporter.sources import GroupUnreadable, ListingBroken, SourceError, Unavailable
from exporter.spans import SpanOptions
from exporter.taking import Labelling
from exporter.watch_spec import Fetch, WatchGroup, WatchSpec
from tests.fakes.patterns import compile_pattern

ACCESS = LogGroup("default", "eu-west-1", "access/orders")
EXECUTION = LogGroup("default", "eu-west-1", "API-Gateway-Execution-Logs_ab12cd34ef/prod")
API = Api(id="ab12cd34ef", name="orders", stage="prod", region="eu-west-1")
START_MS = 1_760_000_040_000
"""A minute's beginning, so that times in tests are easy to read."""
PLACEHOLDER = "UUID_REPLACED_INVALID_REQUEST_ID"


class Crash(BaseException):
    """The process dies here."""


@dataclass(kw_only=True)
class Request:
    """One request, its truth and its lines."""

    number: int
    arrival_ms: int
    duration_ms: int
    outcome: str
    request_id: str
    extended_id: str
    method: str = "GET"
    resource: str = "/orders/{id}"
    has_access: bool = True
    logged_request_id: str | None = None
    """What the access line says; None: the format has no request id."""
    logs_extended_id: bool = True

    @property
    def status(self) -> int:
        return OUTCOMES[self.outcome][0]

    @property
    def cause(self) -> str | None:
        return OUTCOMES[self.outcome][1]

    def access_line(self) -> str:
        message, kind = OUTCOMES[self.outcome][2:4]
        line = {
            "httpMethod": self.method,
            "resourcePath": self.resource,
            "status": str(self.status),
            "responseLatency": str(self.duration_ms),
            "error.message": message or "-",
            "error.responseType": kind or "-",
        }
        if self.logged_request_id is not None:
            line["requestId"] = self.logged_request_id
        if self.logs_extended_id:
            line["extendedRequestId"] = self.extended_id
        return json.dumps(line)

    def execution_lines(self, level: str) -> list[tuple[int, str]]:
        reasons = OUTCOMES[self.outcome][4]
        if reasons is None:
            return []
        begin, end = self.arrival_ms + 3, self.arrival_ms + self.duration_ms
        lines: list[tuple[int, str]] = []
        if level == "INFO":
            lines += [
                (begin, f"Extended Request Id: {self.extended_id}"),
                (
                    begin,
                    (
                        f"API Key authorized because method '{self.method} {self.resource}' does not require API Key. "
                        "Request will not contribute to throttle or quota limits"
                    ),
                ),
                (begin, f"Starting execution for request: {self.request_id}"),
                (begin, f"HTTP Method: {self.method}, Resource Path: /orders/17"),
                (begin + 1, "Sending request to https://lambda.eu-west-1.amazonaws.com/2015-03-31/functions/f"),
            ]
        lines += [(end, text) for text in reasons]
        if level == "INFO" and self.outcome in {"ok", "backend_5xx"}:
            lines += [
                (end, f"Received response. Status: {self.status}, Integration latency: {self.duration_ms} ms"),
                (end, "Successfully completed execution"),
            ]
        if level == "INFO" or reasons:
            lines.append((end, f"Method completed with status: {self.status}"))
        if level == "INFO":
            lines.append((end, "AWS Integration Endpoint RequestId : 0c7b5b0c-1f6a-4c80-8d1a-000000000000"))
        return [(at_ms, f"({self.request_id}) {text}") for at_ms, text in lines]


OUTCOMES: dict[str, tuple[int, str | None, str | None, str | None, list[str] | None]] = {
    # status, cause, error.message, error.responseType, reason lines (None: the request never reached execution)
    "ok": (200, None, None, None, []),
    "timeout": (
        504,
        "integration_timeout",
        "Endpoint request timed out",
        "INTEGRATION_TIMEOUT",
        ["Execution failed due to a timeout error"],
    ),
    "permission": (
        500,
        "lambda_permission",
        "Internal server error",
        "API_CONFIGURATION_ERROR",
        ["Execution failed due to configuration error: Invalid permissions on Lambda function"],
    ),
    "lambda_error": (
        502,
        "lambda_error",
        "Internal server error",
        "DEFAULT_5XX",
        [
            (
                "Lambda execution failed with status 200 due to customer function error: division by zero. "
                "Lambda request id: 0c7b5b0c-1f6a-4c80-8d1a-111111111111"
            )
        ],
    ),
    "throttled_lambda": (
        500,
        "lambda_throttled",
        "Internal server error",
        "API_CONFIGURATION_ERROR",
        [
            "Lambda invocation failed with status: 429. Lambda request id: 0c7b5b0c-1f6a-4c80-8d1a-222222222222",
            "Execution failed due to configuration error: Rate Exceeded.",
        ],
    ),
    "missing_token": (
        403,
        "missing_authentication_token",
        "Missing Authentication Token",
        "MISSING_AUTHENTICATION_TOKEN",
        None,
    ),
    "masked": (
        200,
        "masked_lambda_error",
        None,
        None,
        [
            (
                "Lambda execution failed with status 200 due to customer function error: boom. "
                "Lambda request id: 0c7b5b0c-1f6a-4c80-8d1a-333333333333"
            )
        ],
    ),
}
FAILING = [name for name in OUTCOMES if name != "ok"]


@dataclass(kw_only=True)
class World:
    """All lines of all requests, with the moment at which each becomes visible."""

    requests: list[Request] = field(default_factory=list)
    lines: list[tuple[LogGroup, LogEvent, int, int]] = field(default_factory=list)
    """(group, event, visible from, request number)."""
    _batch: int = 0

    def put(self, group: LogGroup, lines: list[tuple[int, str]], *, visible_ms: int, number: int = -1) -> None:
        """One PutLogEvents batch."""
        self._batch += 1
        for index, (at_ms, message) in enumerate(lines):
            number_of_event = at_ms << 144 | visible_ms << 80 | self._batch << 16 | index
            event = LogEvent(
                event_id=f"{number_of_event:056d}",
                at_ms=at_ms,
                message=message,
                ingested_at_ms=visible_ms,
            )
            self.lines.append((group, event, visible_ms, number))

    def failures(self) -> Counter[tuple[str, ...]]:
        """The true counts: (method, resource, status, cause)."""
        return Counter(
            (request.method, request.resource, str(request.status), request.cause)
            for request in self.requests
            if request.cause is not None
        )

    def totals(self) -> Counter[str]:
        """All requests that have an access line, by status."""
        return Counter(str(request.status) for request in self.requests if request.has_access)


def make_world(
    rng: random.Random,
    *,
    count: int = 60,
    span_ms: int = 600_000,
    level: str = "INFO",
    access: bool = True,
    execution: bool = True,
    ids: str = "both",
    reuse: float = 0.0,
    placeholder: float = 0.0,
    two_batches: float = 0.0,
    longest_ms: int = 29_000,
    timeout_ms: int = 29_000,
    lateness_ms: int = 300_000,
    late: float = 0.3,
    soonest_ms: int = 300,
    outcomes: list[str] | None = None,
    vended: Callable[[int, str], str] = lambda _at_ms, line: line,
    websocket: bool = False,
) -> World:
    """Requests over `span_ms`, their lines at most `lateness_ms` late, a share `late` of them at least `soonest_ms`.

    `ids`: both, request or extended. `vended`: how execution lines are delivered, by their time. `websocket`: with ids as
    WebSocket APIs have them, where both are one.
    """
    world = World()
    used: list[str] = []
    for number in range(count):
        outcome = rng.choice(outcomes) if outcomes else rng.choice(["ok"] * 3 + FAILING)
        if not execution and outcome == "masked":
            outcome = "ok"
        if not access and outcome == "missing_token":
            outcome = "timeout"
        if level == "ERROR" and not access and outcome == "ok":
            outcome = "permission"
        if placeholder and outcome == "masked":
            outcome = "permission"
        longest = longest_ms if rng.random() < 0.3 else 900
        request = Request(
            number=number,
            arrival_ms=START_MS + rng.randrange(span_ms),
            duration_ms=timeout_ms if outcome == "timeout" else rng.randrange(5, longest),
            outcome=outcome,
            request_id=f"{rng.getrandbits(32):08x}-1f6a-4c80-8d1a-{rng.getrandbits(48):012x}",
            extended_id=f"{rng.getrandbits(64):016x}=",
            method=rng.choice(["GET", "POST"]),
            resource=rng.choice(["/orders", "/orders/{id}"]),
            has_access=access,
        )
        if websocket:
            request.request_id = request.extended_id = f"{rng.getrandbits(60):015x}="
        if used and rng.random() < reuse:
            request.request_id = rng.choice(used)
        used.append(request.request_id)
        request.logged_request_id = request.request_id if ids != "extended" else None
        request.logs_extended_id = ids != "request"
        if ids != "extended" and rng.random() < placeholder:
            request.logged_request_id = PLACEHOLDER
        world.requests.append(request)
        end_ms = request.arrival_ms + request.duration_ms

        def visible(most_ms: int = lateness_ms, end_ms: int = end_ms) -> int:
            delay = rng.randrange(300, 4_000) if rng.random() >= late else rng.randrange(soonest_ms, most_ms)
            return end_ms + delay

        if access:
            line = [(request.arrival_ms, request.access_line())]
            world.put(ACCESS, line, visible_ms=visible(), number=number)
        lines = request.execution_lines(level) if execution else []
        lines = [(at_ms, vended(at_ms, line)) for at_ms, line in lines]
        if lines and rng.random() < two_batches:
            cut = rng.randrange(1, len(lines)) if len(lines) > 1 else 1
            first_ms = visible(lateness_ms - 40_000)
            world.put(EXECUTION, lines[cut:], visible_ms=first_ms, number=number)
            if lines[:cut]:
                world.put(EXECUTION, lines[:cut], visible_ms=first_ms + rng.randrange(5_000, 40_000), number=number)
        elif lines:
            world.put(EXECUTION, lines, visible_ms=visible(), number=number)
    return world


_VENDED_FIELDS = {
    "resource_arn": "arn:aws:apigateway:eu-west-1:123456789012:/restapis/ab12cd34ef/stages/prod",
    "api_id": "ab12cd34ef",
    "resource_path": "/orders/42",
    "http_method": "GET",
}


def vended_json(at_ms: int, line: str) -> str:
    """The line as its delivery wraps it."""
    return json.dumps(_VENDED_FIELDS | {"event_timestamp": at_ms, "payload": line})


def vended_json_with_id(at_ms: int, line: str) -> str:
    """The same with the request id in a field of its own."""
    request_id, _, text = line[1:].partition(") ")
    return json.dumps(_VENDED_FIELDS | {"event_timestamp": at_ms, "request_id": request_id, "payload": text})


def vended_plain(at_ms: int, line: str) -> str:
    """The line with the fields of a delivery in front of it."""
    return " ".join([*_VENDED_FIELDS.values(), str(at_ms), line])


def vended_since(at_ms: int) -> Callable[[int, str], str]:
    """Lines of a group that was the stage's own and is delivered to from some time on, which its batches straddle."""
    return lambda line_ms, line: vended_json(line_ms, line) if line_ms >= at_ms or "Sending" in line else line


def slowly(rng: random.Random) -> Callable[[], int]:
    """How long pages take where AWS is busy: tens to hundreds of milliseconds, now and then seconds."""
    return lambda: rng.randrange(1_000, 8_000) if rng.random() < 0.05 else rng.randrange(20, 400)


@dataclass(kw_only=True)
class MemorySource:
    """A `Source` over a world: pages by its clock, faults on demand."""

    world: World
    now: int = START_MS
    page_size: int = 10_000
    page_bytes: int = 1_000
    """Of pages with all lines; what a pattern selects is little."""
    skew_ms: int = 0
    """How far our own clock is ahead until the first answer."""
    fault: Callable[[LogGroup, int], SourceError | BaseException | None] = lambda _group, _page: None
    """Asked before each page: what goes wrong there."""
    mixer: random.Random | None = None
    """Lists every window in parts, whatever it was allowed, and mixes their pages; None: never."""
    page_takes_ms: Callable[[], int] | None = None
    """How long the next page takes: lines that become visible meanwhile are in it, unless its listing has passed them.
    None: no time, so that all pages of a listing show the same lines."""
    scanner: random.Random | None = None
    """Looks at a stretch of a listing at a time: pages may be empty, and a token then stands further on than the last
    line given, before the next one that was visible. None: pages are full, and a token is the last line's place."""
    repeat: Callable[[], bool] = lambda: False
    """Whether a page is given twice."""
    filters: bool = False
    """Whether patterns are expected; they then select as AWS's do."""
    selects_all: bool = False
    """Whether it ignores patterns, as what stands in for AWS may."""
    selects_none_by: str | None = None
    """Patterns that begin so select nothing."""
    tells_selected: bool = True
    """Whether it may be asked what a pattern selects."""
    pages_given: int = 0
    windows: list[tuple[LogGroup, Window]] = field(default_factory=list)
    patterns: list[str | None] = field(default_factory=list)
    _answered: bool = False
    _sorted: dict[LogGroup, list[tuple[str, int, LogEvent]]] = field(default_factory=dict)
    _sorted_of: tuple[list[tuple[LogGroup, LogEvent, int, int]] | None, int] = (None, 0)
    """What is sorted there, and how many lines it had."""

    def now_ms(self) -> int:
        return self.now if self._answered else self.now + self.skew_ms

    def pages(self, group: LogGroup, window: Window, pattern: str | None = None, parts: int = 1) -> Iterator[Page]:
        assert parts > 0
        assert pattern is None or self.filters
        self.windows.append((group, window))
        self.patterns.append(pattern)
        if self.mixer is None:
            yield from self._listed(group, window, pattern)
            return
        cuts = sorted(self.mixer.randint(*window) for _ in range(self.mixer.randrange(1, 6)))
        ends = [window.start_ms, *cuts, window.end_ms]
        chains = [self._listed(group, Window(*own), pattern, part) for part, own in enumerate(itertools.pairwise(ends))]
        while chains:
            chain = self.mixer.choice(chains)
            try:
                yield next(chain)
            except StopIteration:
                chains.remove(chain)

    def _listed(self, group: LogGroup, window: Window, pattern: str | None, part: int = 0) -> Iterator[Page]:
        selects = compile_pattern(None if self.selects_all else pattern)
        if pattern is not None and pattern[0] == self.selects_none_by:
            selects = lambda _: False  # noqa: E731
        size = self.page_bytes if pattern is None else 1_000
        ahead: list[LogEvent] | None = None
        place, at_ms = "", window.start_ms
        while ahead is None or ahead or at_ms < window.end_ms:
            if self.page_takes_ms is not None:
                self.now += self.page_takes_ms()
            if ahead is None or self.page_takes_ms is not None:
                # A token is a place in the order of events: what becomes visible behind it is not given any more.
                ahead = [event for event in self._visible(group, window, place) if selects(event.message)]
            fault = self.fault(group, self.pages_given)
            if fault is not None:
                raise fault
            most = self.page_size if self.scanner is None else self.scanner.choice([0, self.page_size, self.page_size])
            shown, ahead = ahead[:most], ahead[most:]
            at_ms = shown[-1].at_ms if shown else at_ms
            place = shown[-1].event_id if shown else place
            if self.scanner is None:
                at_ms = window.end_ms
            else:
                next_ms = ahead[0].at_ms if ahead else window.end_ms
                at_ms = self.scanner.choice([self.scanner.randint(at_ms, next_ms), next_ms])
                place = max(place, f"{at_ms << 144:056d}")
            page = Page(events=shown, response_bytes=size, part=part, server_at_ms=self.now)
            self._answered = True
            self.pages_given += 1
            yield page
            if self.repeat():
                yield page

    def _visible(self, group: LogGroup, window: Window, place: str) -> Iterator[LogEvent]:
        """What may be seen now of a window behind a place, in the order of event ids, which begin with the time."""
        all_lines = self.world.lines
        if self._sorted_of[0] is not all_lines or self._sorted_of[1] != len(all_lines):
            self._sorted_of = all_lines, len(all_lines)
            self._sorted = {}
            for where, event, visible_ms, _ in all_lines:
                self._sorted.setdefault(where, []).append((event.event_id, visible_ms, event))
            for of_group in self._sorted.values():
                of_group.sort(key=itemgetter(0))
        lines = self._sorted.get(group, [])
        begin = bisect_left(lines, max(place, f"{window.start_ms << 144:056d}"), key=itemgetter(0))
        end = bisect_left(lines, f"{window.end_ms << 144:056d}", key=itemgetter(0))
        return (
            event for event_id, visible_ms, event in lines[begin:end] if visible_ms <= self.now and event_id > place
        )

    def selected(self, pattern: str, messages: Sequence[str]) -> frozenset[str] | None:
        if not self.tells_selected:
            return None
        none = pattern[0] == self.selects_none_by
        return frozenset(() if none else filter(compile_pattern(pattern), messages))


class Life:
    """A watch that lives, dies and lives again on one ledger."""

    def __init__(
        self,
        source: MemorySource,
        directory: Path | str,
        *,
        access: bool = True,
        execution: bool = True,
        max_request_ms: int = 30_000,
        allowed_lateness_ms: int = 330_000,
        poll_interval_ms: int = 20_000,
        initial_lookback_ms: int = 900_000,
        access_format: str = "auto",
        fetch: Fetch = "all",
        spans: bool | SpanOptions = False,
        budget: int = 1_000_000,
        open_ledger: Callable[[Path], SqliteLedger] = SqliteLedger,
        show: Callable[[Sequence[Told]], None] = lambda _: None,
    ) -> None:
        self.source = source
        self.path = Path(directory) / "state.db"
        groups = []
        if access:
            groups.append(
                WatchGroup(
                    group=ACCESS,
                    kind="access",
                    apis=(API,),
                    parser=access_parser(access_format),
                    failure_patterns=failed_access_patterns(access_format),
                )
            )
        if execution:
            groups.append(WatchGroup(group=EXECUTION, kind="execution", apis=(API,)))
        self.spec = WatchSpec(
            name="orders-prod",
            groups=tuple(groups),
            max_request_ms=max_request_ms,
            allowed_lateness_ms=allowed_lateness_ms,
            poll_interval_ms=poll_interval_ms,
            initial_lookback_ms=initial_lookback_ms,
            fetch=fetch,
        )
        self._span_options = SpanOptions() if spans is True else spans or None
        self._budget = budget
        self._open_ledger = open_ledger
        self._show = show
        self.restarts = -1
        self.born()

    def born(self) -> None:
        """A new process on the same state."""
        self.restarts += 1
        self.ledger = self._open_ledger(self.path)
        self.totals = Totals(zero_hold_ms=0, max_series=20_000, now_ms=lambda: self.source.now)
        self.totals.load(self.ledger.series())
        self.self_metrics = SelfMetrics(version="test", now_ms=lambda: self.source.now)
        self.watch = Watch(
            self.spec,
            source=self.source,
            ledger=self.ledger,
            totals=self.totals,
            self_metrics=self.self_metrics,
            rules=shipped_rules(),
            recorder=Recorder(
                wants=lambda _status, _cause: True,
                admit=self.totals.admit,
                labelling=Labelling(),
                span_options=self._span_options,
                budget=lambda _status, _cause: self._budget,
                show=self._show,
            ),
            ticks=lambda: self.source.now / 1000,
            stopping=lambda: False,
        )

    def poll(self) -> PollOutcome:
        return self.watch.poll()

    def die(self) -> None:
        """`kill -9`: what is not committed is gone."""
        self.ledger.close()
        self.born()

    def failures(self) -> Counter[tuple[str, ...]]:
        """What the ledger counted: (method, resource, status, cause)."""
        return Counter(
            {
                row.key.labels[3:]: row.value
                for row in self.ledger.series()
                if row.key.metric == "aws_apigateway_failed_requests_total"
            }
        )

    def totals_by_status(self) -> Counter[str]:
        """All requests counted, by status."""
        counts: Counter[str] = Counter()
        for row in self.ledger.series():
            if row.key.metric == "aws_apigateway_requests_total":
                counts[row.key.labels[5]] += row.value
        return counts

    def settled(self) -> dict[str, float]:
        """Why requests were settled, in this life."""
        return {
            sample.labels["reason"]: sample.value
            for metric in self.self_metrics.registry.collect()
            for sample in metric.samples
            if sample.name == "aws_apigateway_exporter_requests_settled_total"
        }


def live(
    life: Life,
    rng: random.Random,
    *,
    until_ms: int,
    step_ms: int = 20_000,
    crash: float = 0.0,
    gaps: float = 0.0,
) -> None:
    """Poll every `step_ms` until `until_ms`; with probability `crash` die at a random page or right after a poll."""
    source = life.source
    while source.now < until_ms:
        source.now += step_ms if rng.random() >= gaps else rng.randrange(step_ms, 20 * step_ms)
        dies = rng.random() < crash
        if dies and rng.random() < 0.6:
            last = source.pages_given + rng.randrange(0, 4)
            plain = source.fault
            source.fault = lambda group, page, last=last, plain=plain: Crash() if page >= last else plain(group, page)
            with contextlib.suppress(Crash):
                life.poll()
            source.fault = plain
        else:
            life.poll()
        if dies:
            life.die()


def unavailable(group: LogGroup) -> SourceError:
    return Unavailable(group, "throttled", "Rate exceeded")


def denied(group: LogGroup) -> SourceError:
    return GroupUnreadable(group, "denied", "AccessDeniedException")


def broken(group: LogGroup) -> SourceError:
    return ListingBroken(group, "token", "a token came back twice")


def scratch() -> tempfile.TemporaryDirectory[str]:
    """A directory for a ledger where a commit costs no disk."""
    return tempfile.TemporaryDirectory(dir="/dev/shm" if Path("/dev/shm").is_dir() else None)
