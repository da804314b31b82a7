"""The protocol under attack: whatever happens to lines and process, what is counted in the end is what happened.

Worlds of requests whose truth is known by construction (`worlds.py`) are lived through with crashes, gaps, faults and
every kind of identity that callers and formats bring; then the ledger must hold exactly the truth, in all four product
metrics and with all labels. Three attacks: named ones with fixed seeds, hypothesis's choice of everything at once, and
a state machine in which requests, lines, faults and crashes come in any order.
"""

import gzip
import os
import random
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import pytest
import structlog
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    rule,
    run_state_machine_as_test,
)

from exporter import pacing
from exporter.metrics import BUCKETS_MS
from exporter.model import Window
from exporter.sources import SourceError
from tests.otlp_receiver import decode_spans
from tests.worlds import (
    ACCESS,
    EXECUTION,
    FAILING,
    OUTCOMES,
    START_MS,
    Crash,
    Life,
    MemorySource,
    Request,
    World,
    broken,
    denied,
    live,
    make_world,
    scratch,
    slowly,
    unavailable,
    vended_json,
    vended_json_with_id,
    vended_plain,
    vended_since,
)

HOUR_MS = 3_600_000
NOT_MASKED = ["ok"] * 3 + [outcome for outcome in FAILING if outcome != "masked"]
"""Without failures that their access line calls a success: with a reused id nothing tells which success it was."""
BY_ACCESS_ALONE = {
    "permission": "configuration_error",
    "throttled_lambda": "configuration_error",
    "lambda_error": "internal_error",
}
"""What an access line tells of an outcome whose reason stands in the execution log only."""

Fault = Callable[[random.Random, Any, int], SourceError | BaseException | None]


@pytest.fixture(autouse=True)
def quiet():
    structlog.configure(logger_factory=structlog.ReturnLoggerFactory())
    yield
    structlog.reset_defaults()


@dataclass(frozen=True, kw_only=True)
class Attack:
    """What is done to a world and to those who read it."""

    name: str
    world: dict[str, Any] = field(default_factory=dict)
    """For `make_world`."""
    life: dict[str, Any] = field(default_factory=dict)
    """For `Life`."""
    crash: float = 0.3
    gaps: float = 0.0
    page_size: int = 10_000
    repeat: float = 0.0
    mixed: bool = False
    """Windows are listed in parts whose pages come mixed."""
    scanned: bool = False
    """Pages may be empty, and tokens stand further on than the last line given."""
    slow: bool = False
    """Pages take time: lines become visible in the midst of a listing, in front of the place it has come to or behind."""
    skew_ms: int = 0
    fault: Fault | None = None
    asleep_ms: int = 0
    """How long nobody reads, after the first poll."""
    adversity_ms: int = 1_100_000
    calm_ms: int = 700_000
    """What follows without faults and with quick pages, so that everything can be read."""


@contextmanager
def lived(attack: Attack, seed: int, **life_options: Any) -> Iterator[tuple[World, Life]]:
    """A world and the life through it, as it stands in the end."""
    with scratch() as directory:
        world, life = _live_through(attack, seed, directory, life_options)
        try:
            yield world, life
        finally:
            life.ledger.close()


def _live_through(attack: Attack, seed: int, directory: str, life_options: Mapping[str, Any]) -> tuple[World, Life]:
    rng = random.Random(seed)
    world = make_world(rng, **attack.world)
    source = MemorySource(world=world, now=START_MS, page_size=attack.page_size, skew_ms=attack.skew_ms)
    if attack.repeat:
        source.repeat = lambda: rng.random() < attack.repeat
    watched = {key: attack.world[key] for key in ("access", "execution") if key in attack.world}
    if attack.mixed:
        source.mixer = random.Random(seed)
    if attack.slow:
        source.page_takes_ms = slowly(rng)
    if attack.scanned:
        source.scanner = rng
    life = Life(source, directory, **watched, **attack.life, **life_options)
    if attack.asleep_ms:
        life.poll()
        life.die()
        source.now += attack.asleep_ms
    if attack.fault is not None:
        fault = attack.fault
        source.fault = lambda group, page: fault(rng, group, page)
    live(life, rng, until_ms=source.now + attack.adversity_ms, crash=attack.crash, gaps=attack.gaps)
    source.fault = lambda _group, _page: None
    source.page_takes_ms = None
    live(life, rng, until_ms=source.now + attack.calm_ms)
    return world, life


# --------------------------------------------------------------------------------------------------------- the truth


def true_failures(world: World, attack: Attack) -> Counter[tuple[str, ...]]:
    """(method, resource, status, cause), as far as the logs of this attack's world can tell."""
    has_access, has_execution = attack.world.get("access", True), attack.world.get("execution", True)
    at_info = attack.world.get("level", "INFO") == "INFO"
    method_known = has_access or at_info
    # At ERROR level no execution line tells the extended id.
    joined = has_execution and (at_info or attack.world.get("ids") != "extended")
    counts: Counter[tuple[str, ...]] = Counter()
    for request in world.requests:
        if request.cause is None or (request.status < 400 and not joined):
            continue
        route = (request.method, request.resource) if method_known else ("unknown", "unknown")
        cause = request.cause if joined else BY_ACCESS_ALONE.get(request.outcome, request.cause)
        counts[*route, str(request.status), cause] += 1
    return counts


def true_totals(world: World, attack: Attack) -> Counter[tuple[str, ...]]:
    """(method, resource, status) of all requests."""
    if attack.world.get("access", True):
        return Counter((request.method, request.resource, str(request.status)) for request in world.requests)
    # Without access lines the terminal lines are all there is; at ERROR level only failures have one.
    counted = [r for r in world.requests if attack.world.get("level", "INFO") == "INFO" or r.cause is not None]
    return Counter(("unknown", "unknown", str(request.status)) for request in counted)


def counted(life: Life, metric: str) -> Counter[tuple[str, ...]]:
    """What the ledger holds of a metric, without the labels of the API and without zeros."""
    return Counter(
        {row.key.labels[3:]: row.value for row in life.ledger.series() if row.key.metric == metric and row.value}
    )


def assert_truth(world: World, life: Life, attack: Attack) -> None:
    failures = true_failures(world, attack)
    assert _promised(counted(life, "aws_apigateway_failed_requests_total"), attack) == _promised(failures, attack)
    stage = counted(life, "aws_apigateway_stage_failures_total")
    found = counted(life, "aws_apigateway_failed_requests_total")
    assert Counter({(cause,): count for (cause, _category), count in stage.items()}) == _marginal(found, -1, None)
    assert counted(life, "aws_apigateway_requests_total") == true_totals(world, attack)
    latencies = [request.duration_ms for request in world.requests] if attack.world.get("access", True) else []
    buckets = counted(life, "aws_apigateway_response_latency_seconds_bucket")
    assert buckets == Counter((_bucket(latency_ms),) for latency_ms in latencies)
    assert sum(counted(life, "aws_apigateway_response_latency_seconds_sum").values()) == sum(latencies)


def _promised(failures: Counter[tuple[str, ...]], attack: Attack) -> Counter[tuple[str, ...]]:
    """The counts by those labels that are promised for an attack of this kind."""
    world = attack.world
    if not world.get("access", True) and world.get("two_batches"):
        # Method and resource stand in a request's first lines: nobody waits for those that come last.
        return _marginal(failures, 2, None)
    if world.get("ids") == "extended" and world.get("level") == "ERROR":
        # Nothing joins the logs: what the access log does not tell is counted only while no access line has said so.
        return Counter({labels: count for labels, count in failures.items() if labels[-1] != "masked_lambda_error"})
    if world.get("reuse") and (
        world.get("level") == "ERROR" or world.get("ids") == "request" or world.get("two_batches")
    ):
        # Requests of one id and one status: nothing tells which of their reasons is whose.
        return _marginal(failures, None, 3)
    return failures


def _marginal(counts: Counter[tuple[str, ...]], begin: int | None, end: int | None) -> Counter[tuple[str, ...]]:
    """Counts by some of their labels."""
    result: Counter[tuple[str, ...]] = Counter()
    for labels, count in counts.items():
        result[labels[begin:end]] += count
    return result


def _bucket(latency_ms: int) -> str:
    return next((str(bound / 1000) for bound in BUCKETS_MS if latency_ms <= bound), "+Inf")


# --------------------------------------------------------------------------------------------------------- attacks


def sometimes(share: float, make: Callable[[Any], SourceError]) -> Fault:
    return lambda rng, group, _page: make(group) if rng.random() < share else None


def execution_denied(_rng: random.Random, group: Any, page: int) -> SourceError | None:
    return denied(group) if group == EXECUTION and 20 < page < 60 else None


LONG = {"max_request_ms": 900_000, "allowed_lateness_ms": 1_260_000}
BUSY = {"count": 100, "span_ms": 120_000}
"""So many lines that a listing takes its time while others become visible."""
SHARED = {"access": False, "reuse": 0.3, "outcomes": NOT_MASKED}
"""Requests that share an id and are known by their execution lines alone."""
LATEST = {"outcomes": ["timeout"], "late": 1.0, "soonest_ms": 298_000, "count": 200}
"""Requests as long as they can be, whose lines come in the last two seconds that are allowed."""

ATTACKS = [
    Attack(name="plain", crash=0.0),
    Attack(name="crashes"),
    Attack(name="crashes all the time", crash=0.8),
    Attack(name="gaps", gaps=0.2),
    Attack(name="two batches", world={"two_batches": 0.6}),
    Attack(name="everything as late as allowed", world={"late": 1.0, "two_batches": 0.5}),
    Attack(name="ERROR level", world={"level": "ERROR"}),
    Attack(name="ERROR level in two batches", world={"level": "ERROR", "two_batches": 0.6}),
    Attack(name="request ids only", world={"ids": "request"}),
    Attack(name="extended ids only", world={"ids": "extended"}),
    Attack(name="extended ids only at ERROR level", world={"ids": "extended", "level": "ERROR"}),
    Attack(name="reused ids", world={"reuse": 0.3}),
    Attack(name="reused ids, most of them", world={"reuse": 0.9, "count": 40, "outcomes": NOT_MASKED}),
    Attack(name="reused request ids only", world={"reuse": 0.3, "ids": "request", "outcomes": NOT_MASKED}),
    Attack(name="reused ids at ERROR level", world={"reuse": 0.3, "level": "ERROR", "outcomes": NOT_MASKED}),
    Attack(name="placeholders", world={"placeholder": 0.3}),
    Attack(name="access only", world={"execution": False}),
    Attack(name="execution only", world={"access": False}),
    Attack(name="execution only in two batches", world={"access": False, "two_batches": 0.6}),
    Attack(name="execution only at ERROR level", world={"access": False, "level": "ERROR"}),
    Attack(name="execution only, reused ids", world=SHARED),
    Attack(name="ids of WebSocket APIs", world={"websocket": True, "two_batches": 0.3}),
    Attack(name="ids of WebSocket APIs, execution only", page_size=20, world={"websocket": True, "access": False}),
    Attack(name="ids of WebSocket APIs at ERROR level", crash=0.8, world={"websocket": True, "level": "ERROR"}),
    Attack(name="ids of WebSocket APIs, requests alone", world={"websocket": True, "ids": "request"}),
    Attack(
        name="ids of WebSocket APIs, execution only, slow pages",
        slow=True,
        world=BUSY | {"websocket": True, "access": False, "two_batches": 0.3},
    ),
    Attack(name="vended", world={"vended": vended_json, "two_batches": 0.3}),
    Attack(name="vended as text", page_size=20, world={"vended": vended_plain}),
    Attack(name="vended from some time on", page_size=20, world={"vended": vended_since(START_MS + 300_000)}),
    Attack(name="vended, reused ids", world={"vended": vended_json_with_id, "reuse": 0.3}),
    Attack(name="vended, execution only, reused ids", world=SHARED | {"vended": vended_json}),
    Attack(name="vended at ERROR level", world={"vended": vended_json_with_id, "level": "ERROR"}),
    Attack(name="repeated pages", repeat=0.3, page_size=20),
    Attack(name="three passes", page_size=5),
    Attack(name="three passes in two batches", page_size=5, gaps=0.1, world={"two_batches": 0.6}),
    Attack(name="three passes of reused ids", page_size=5, world={"reuse": 0.5}),
    Attack(name="three passes, execution only", page_size=5, world={"access": False}),
    Attack(name="parts side by side", mixed=True, page_size=20, world={"two_batches": 0.3}),
    Attack(name="parts side by side at ERROR level", mixed=True, slow=True, page_size=5, world={"level": "ERROR"}),
    Attack(name="parts side by side, extended ids only", mixed=True, slow=True, page_size=5, world={"ids": "extended"}),
    Attack(name="parts side by side, execution only", mixed=True, slow=True, page_size=5, world={"access": False}),
    Attack(name="parts side by side, reused ids", mixed=True, slow=True, page_size=5, world={"reuse": 0.5}),
    Attack(name="parts side by side after an outage", mixed=True, slow=True, page_size=5, asleep_ms=6 * HOUR_MS),
    Attack(name="parts side by side, repeated pages", mixed=True, slow=True, repeat=0.3, page_size=10),
    Attack(name="parts side by side, as late as allowed", mixed=True, slow=True, page_size=10, world=LATEST),
    Attack(name="parts side by side of a busy group", mixed=True, slow=True, page_size=20, world=BUSY),
    Attack(name="parts side by side, execution only, reused ids", mixed=True, page_size=20, world=SHARED),
    Attack(name="slow pages", slow=True, page_size=20, world=BUSY | {"two_batches": 0.3}),
    Attack(name="slow pages at ERROR level", slow=True, page_size=5, world=BUSY | {"level": "ERROR"}),
    Attack(name="slow pages, extended ids only", slow=True, page_size=20, world=BUSY | {"ids": "extended"}),
    Attack(name="slow pages, execution only", slow=True, page_size=20, world=BUSY | {"access": False}),
    Attack(name="slow pages, execution only, reused ids", slow=True, page_size=20, world=SHARED),
    Attack(name="slow pages, reused ids", slow=True, page_size=20, world=BUSY | {"reuse": 0.3, "outcomes": NOT_MASKED}),
    Attack(name="slow pages, as late as allowed", slow=True, page_size=10, world=LATEST),
    Attack(name="slow scans", slow=True, scanned=True, page_size=20, world=BUSY | {"two_batches": 0.3}),
    Attack(name="slow scans, execution only", slow=True, scanned=True, page_size=20, world=BUSY | {"access": False}),
    Attack(name="throttled", fault=sometimes(0.3, unavailable), crash=0.0),
    Attack(name="throttled and crashing", fault=sometimes(0.1, unavailable)),
    Attack(name="tokens refused", fault=sometimes(0.2, broken), page_size=10),
    Attack(name="execution group denied for a while", fault=execution_denied, world={"outcomes": ["ok", "timeout"]}),
    Attack(name="our clock is ahead", skew_ms=240_000),
    Attack(name="our clock is behind", skew_ms=-240_000),
    Attack(name="requests of 15 minutes", world={"longest_ms": 900_000}, life=LONG, calm_ms=2_800_000),
    Attack(name="six hours of outage", asleep_ms=6 * HOUR_MS),
    Attack(name="six hours of outage at ERROR level", asleep_ms=6 * HOUR_MS, world={"level": "ERROR"}),
    Attack(name="six hours of outage, execution only", asleep_ms=6 * HOUR_MS, world={"access": False}),
    Attack(name="six hours of outage of three passes", asleep_ms=6 * HOUR_MS, page_size=5),
]
named = pytest.mark.parametrize("attack", [pytest.param(attack, id=attack.name) for attack in ATTACKS])


@named
@pytest.mark.parametrize("seed", range(2))
def test_counts_and_labels_are_the_truth(attack, seed):
    with lived(attack, seed) as (world, life):
        assert_truth(world, life, attack)


@pytest.mark.long
@named
def test_counts_and_labels_are_the_truth_in_many_worlds(attack):
    """Whoever changes the protocol tries more of them: `WORLDS=100`."""
    for seed in range(100, 100 + int(os.environ.get("WORLDS", "8"))):
        with lived(attack, seed) as (world, life):
            assert_truth(world, life, attack)


@pytest.mark.parametrize("seed", [101, 115, 119])
def test_the_end_of_another_request_under_the_same_id_proves_nothing(seed):
    """The last lines of a long request, whose first were not read yet, beside another's access line of equal status."""
    attack = Attack(name="", page_size=5, world={"reuse": 0.5, "outcomes": NOT_MASKED})
    with lived(attack, seed) as (world, life):
        assert_truth(world, life, attack)


def test_what_becomes_visible_behind_the_place_of_a_slow_listing_is_in_the_next_one_only():
    """A token is a place in the order of events; what stands there is decided page by page."""
    world, window = World(), Window(START_MS, START_MS + 10)
    for number, visible_ms in enumerate([0, 0, 3_000, 0, 2_000]):
        world.put(ACCESS, [(START_MS + number, str(number))], visible_ms=START_MS + visible_ms)
    source = MemorySource(world=world, now=START_MS, page_size=1, page_takes_ms=lambda: 1_000)
    listing = list(source.pages(ACCESS, window))
    assert [event.message for page in listing for event in page.events] == ["0", "1", "2", "3", "4"]
    assert [page.server_at_ms - START_MS for page in listing] == [1_000, 2_000, 3_000, 4_000, 5_000]
    assert source.now_ms() == START_MS + 5_000
    world.put(ACCESS, [(START_MS + 2, "behind"), (START_MS + 6, "ahead")], visible_ms=START_MS + 10_000)
    shown = [[event.message for page in source.pages(ACCESS, window) for event in page.events] for _ in range(2)]
    assert shown == [["0", "1", "2", "3", "4", "ahead"], ["0", "1", "2", "behind", "3", "4", "ahead"]]


@pytest.mark.parametrize("mixed", [False, True])
@pytest.mark.parametrize("seed", range(3))
def test_a_storm_in_a_backlog_is_read_in_shorter_slices(monkeypatch, seed, mixed):
    """After hours of quiet a slice is long; one that opens more than memory should hold is given up for shorter ones."""
    monkeypatch.setattr(pacing, "_CROWD", 5)
    shortened, shorten = [], pacing.Pace.shorten
    monkeypatch.setattr(pacing.Pace, "shorten", lambda pace: shortened.append(pace.slice_ms) or shorten(pace))
    world = {"count": 200, "span_ms": 5 * HOUR_MS, "outcomes": FAILING, "late": 0.1}
    attack = Attack(name="", asleep_ms=6 * HOUR_MS, crash=0.0, page_size=20, mixed=mixed, slow=mixed, world=world)
    with lived(attack, seed) as (found, life):
        assert shortened
        assert min(shortened) > 10_000
        assert_truth(found, life, attack)


@contextmanager
def alive(source: MemorySource, directory: str) -> Iterator[Life]:
    life = Life(source, directory)
    try:
        yield life
    finally:
        life.ledger.close()


def test_new_lines_do_not_wait_for_a_storm_in_a_backlog(monkeypatch):
    """Giving a slice up for shorter ones takes the place of that slice, not of what comes behind it."""
    monkeypatch.setattr(pacing, "_CROWD", 5)
    world = make_world(random.Random(1), count=60, span_ms=300_000, outcomes=FAILING)
    shortened, shorten = [], pacing.Pace.shorten
    monkeypatch.setattr(pacing.Pace, "shorten", lambda pace: shortened.append(pace.slice_ms) or shorten(pace))
    source = MemorySource(world=world, now=START_MS - 8 * HOUR_MS)
    with scratch() as directory, alive(source, directory) as life:
        life.poll()
        source.now = START_MS - 60_000  # hours of quiet, after which slices are long
        life.poll()
        source.now = START_MS + HOUR_MS
        source.windows.clear()
        assert not shortened
        assert life.poll().outcome == "ok"
        assert shortened[0] == 900_000
        assert max(window.end_ms for _, window in source.windows) == source.now
        live(life, random.Random(1), until_ms=source.now + 700_000)
        assert_truth(world, life, Attack(name="", world={"outcomes": FAILING}))


@pytest.mark.parametrize("seed", range(3))
def test_a_life_of_crashes_leaves_what_an_uninterrupted_one_leaves(seed):
    """Series, and spans: the same ids, each once, however often the process died."""
    world = {"two_batches": 0.3}
    left = []
    for crash in (0.0, 0.5):
        with lived(Attack(name="", world=world, crash=crash), seed, spans=True) as (attacked, life):
            spans = [
                (span.trace_id, span.span_id, span.name, span.attributes.get("apigateway.cause"))
                for row in life.ledger.outbox_head(1 << 30)
                for span in decode_spans(gzip.decompress(row.body))
            ]
            values = {row.key: row.value for row in life.ledger.series()}
        assert max(Counter(span_id for _, span_id, _, _ in spans).values()) == 1
        left.append((values, sorted(spans)))
    assert left[0] == left[1]
    failures = [span for span in left[0][1] if span[3] is not None]
    assert len(failures) == sum(true_failures(attacked, Attack(name="")).values())


# ------------------------------------------------------------------------------------------- hypothesis chooses it all


@st.composite
def attacks(draw: st.DrawFn) -> Attack:
    access, execution = draw(st.sampled_from([(True, True)] * 4 + [(False, True), (True, False)]))
    ids = draw(st.sampled_from(["both", "request", "extended"])) if access and execution else "both"
    level = draw(st.sampled_from(["INFO", "INFO", "ERROR"]))
    tells_apart = execution and ids != "extended" and (access or level == "INFO")
    reuse = draw(st.sampled_from([0.0, 0.0, 0.3])) if tells_apart else 0.0
    # With a second batch, a reused id whose lines tell no extended id is anybody's.
    in_doubt = reuse and (not access or ids == "request" or level == "ERROR")
    # At ERROR level nothing but status and nearness in time says which placeholder is which request's.
    joins = access and execution and ids == "both" and level == "INFO" and not reuse
    placeholder = draw(st.sampled_from([0.0, 0.2])) if joins else 0.0
    fault = draw(st.sampled_from([None, sometimes(0.1, unavailable), sometimes(0.1, broken)]))
    return Attack(
        name="any",
        world={
            "access": access,
            "execution": execution,
            "ids": ids,
            "level": level,
            "reuse": reuse,
            "placeholder": placeholder,
            "outcomes": NOT_MASKED if reuse else None,
            "two_batches": 0.0 if in_doubt else draw(st.sampled_from([0.0, 0.5])),
            "late": draw(st.sampled_from([0.1, 0.5, 1.0])),
            "count": draw(st.integers(1, 30)),
            "span_ms": draw(st.sampled_from([1_000, 60_000, 600_000])),
        },
        crash=draw(st.sampled_from([0.0, 0.3, 0.7])),
        gaps=draw(st.sampled_from([0.0, 0.1, 0.3])),
        page_size=draw(st.sampled_from([3, 20, 10_000])),
        repeat=draw(st.sampled_from([0.0, 0.2])),
        mixed=not (reuse and not access) and draw(st.booleans()),
        slow=draw(st.booleans()),
        scanned=fault is None and draw(st.booleans()),  # many pages more: at each something goes wrong now and then
        skew_ms=draw(st.sampled_from([-240_000, 0, 0, 240_000])),
        asleep_ms=draw(st.sampled_from([0, 0, 2 * HOUR_MS])),
        fault=fault,
    )


RELAXED = settings(deadline=None, suppress_health_check=list(HealthCheck))


# The line that names the extended id, which alone joins the logs, comes in a batch behind the end of its request, and
# the stretch is listed once only.
LINK_BEHIND_THE_END = Attack(
    name="the link comes last, after an outage",
    world={"ids": "extended", "two_batches": 0.5, "late": 0.1, "count": 1, "span_ms": 1_000},
    crash=0.0,
    page_size=3,
    skew_ms=-240_000,
    asleep_ms=2 * HOUR_MS,
)


@settings(RELAXED, max_examples=25, derandomize=True)
@example(attack=LINK_BEHIND_THE_END, seed=17)
@given(attack=attacks(), seed=st.integers(0, 2**32))
def test_any_attack_on_any_world_counts_the_truth(attack, seed):
    with lived(attack, seed) as (world, life):
        assert_truth(world, life, attack)


@pytest.mark.long
@settings(RELAXED, max_examples=300)
@given(attack=attacks(), seed=st.integers(0, 2**32))
def test_any_attack_on_any_world_counts_the_truth_for_long(attack, seed):
    test_any_attack_on_any_world_counts_the_truth.hypothesis.inner_test(attack, seed)


# ------------------------------------------------------------------------------------------------- the state machine


class History(RuleBasedStateMachine):
    """Requests, lines, polls, faults and deaths in any order. At no time is anything counted that did not happen."""

    def __init__(self) -> None:
        super().__init__()
        self._directory = scratch()
        self.world = World()
        self.source = MemorySource(world=self.world, now=START_MS)
        self.attack = Attack(name="history")
        self.life: Life | None = None

    @initialize(
        page_size=st.sampled_from([2, 10_000]),
        level=st.sampled_from(["INFO", "ERROR"]),
        slow=st.none() | st.integers(0, 9),
    )
    def begin(self, page_size, level, slow):
        self.source.page_size = page_size
        self.source.page_takes_ms = None if slow is None else slowly(random.Random(slow))
        self.level = level
        self.life = Life(self.source, self._directory.name)
        # What is older than the first look back does not count: the watch is born before its first request.
        self.life.poll()

    @rule(
        outcome=st.sampled_from(list(OUTCOMES)),
        ago_ms=st.integers(0, 20_000),
        duration_ms=st.integers(5, 29_000),
        access_ms=st.integers(300, 299_000),
        batch_ms=st.lists(st.integers(300, 299_000), min_size=1, max_size=2),
        cut=st.integers(1, 5),
    )
    def request(self, outcome, ago_ms, duration_ms, access_ms, batch_ms, cut):  # noqa: PLR0917 hypothesis names them
        """A request of a moment ago, whose lines become visible when they do, in one batch or two."""
        number = len(self.world.requests)
        request = Request(
            number=number,
            arrival_ms=self.source.now - ago_ms,
            duration_ms=29_000 if outcome == "timeout" else duration_ms,
            outcome=outcome,
            request_id=f"{number:08x}-1f6a-4c80-8d1a-000000000000",
            extended_id=f"extended{number}=",
        )
        request.logged_request_id = request.request_id
        self.world.requests.append(request)
        end_ms = request.arrival_ms + request.duration_ms
        self.world.put(ACCESS, [(request.arrival_ms, request.access_line())], visible_ms=end_ms + access_ms)
        lines = request.execution_lines(self.level)
        if len(batch_ms) == 2:
            self.world.put(EXECUTION, lines[:cut], visible_ms=end_ms + batch_ms[1])
            lines = lines[cut:]
        self.world.put(EXECUTION, lines, visible_ms=end_ms + batch_ms[0])

    @rule(seconds=st.sampled_from([1, 20, 20, 60, 400, 4000]))
    def time_passes(self, seconds):
        self.source.now += seconds * 1000

    @rule()
    def poll(self):
        assert self.life.poll().outcome == "ok"

    @rule(pages=st.integers(0, 6), make=st.sampled_from([unavailable, broken, lambda _group: Crash()]))
    def poll_fails(self, pages, make):
        last = self.source.pages_given + pages
        self.source.fault = lambda group, page: make(group) if page >= last else None
        try:
            self.life.poll()
        except Crash:
            self.life.die()
        self.source.fault = lambda _group, _page: None

    @rule()
    def die(self):
        self.life.die()

    @invariant()
    def nothing_is_counted_that_did_not_happen(self):
        if self.life is not None:
            counted_now = counted(self.life, "aws_apigateway_failed_requests_total")
            assert counted_now <= true_failures(self.world, self.attack)
            assert counted(self.life, "aws_apigateway_requests_total") <= true_totals(self.world, self.attack)

    def teardown(self):
        if self.life is not None:
            self.source.page_takes_ms = None
            for _ in range(45):
                self.source.now += 20_000
                self.life.poll()
            assert_truth(self.world, self.life, self.attack)
            self.life.ledger.close()
        self._directory.cleanup()


def test_any_history_counts_the_truth():
    options = settings(RELAXED, max_examples=20, stateful_step_count=25, derandomize=True)
    run_state_machine_as_test(History, settings=options)


@pytest.mark.long
def test_any_history_counts_the_truth_for_long():
    run_state_machine_as_test(History, settings=settings(RELAXED, max_examples=200, stateful_step_count=50))
