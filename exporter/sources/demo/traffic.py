"""Which request comes when in the demo, and when CloudWatch shows its lines: a stream that a seed decides.

Pure: no clock, no network; the same seed and start give the same requests to the last character. First every failure
of the catalogue is walked through in order, so that nothing has to be waited for; then failures come at random with
realistic weights, and each cause again within a few minutes. Most requests are successes throughout.
"""

import base64
import random
import uuid
from collections.abc import Iterator

import msgspec

from exporter.sources.demo.narration import Line, Request, access_line, execution_lines
from exporter.sources.demo.stages import STAGES, Outcome, Stage, outcomes

REQUESTS_PER_SECOND = 3.0
FAILURE_RATIO = 0.15
WALK_RATIO = 0.6
"""The share of failures while the catalogue is walked through."""
LATE_RATIO = 0.04


class Batch(msgspec.Struct, frozen=True, kw_only=True):
    """All lines of one request in one group: API Gateway writes them together, after its end."""

    group: str
    due_at_ms: int
    """When CloudWatch takes them in: mostly a second or two after the end, now and then up to a minute."""
    lines: tuple[Line, ...]


class ScriptedRequest(msgspec.Struct, frozen=True, kw_only=True):
    """One request and everything that will be written about it."""

    request: Request
    batches: tuple[Batch, ...]


def traffic(seed: int, start_ms: int) -> Iterator[ScriptedRequest]:
    """Requests in order of arrival from `start_ms` on, without end."""
    rng = random.Random(seed)  # noqa: S311 - chance, not secrecy
    fates = _fates(rng)
    arrived_at_ms = start_ms
    while True:
        arrived_at_ms += 1 + int(rng.expovariate(REQUESTS_PER_SECOND) * 1000)
        stage, outcome = next(fates)
        request = _request(rng, stage, outcome, arrived_at_ms)
        yield ScriptedRequest(request=request, batches=_batches(rng, request))


def _fates(rng: random.Random) -> Iterator[tuple[Stage, Outcome]]:
    """Where the next request goes and how it ends."""
    catalogue = outcomes()
    by_name = {stage.api_name: stage for stage in STAGES}
    successes = [(by_name[name], outcome) for outcome in catalogue if outcome.cause is None for name in outcome.stages]
    failures = [
        (by_name[name], outcome) for outcome in catalogue if outcome.cause is not None for name in outcome.stages
    ]
    weights = [outcome.weight for _, outcome in failures]

    # One variant of each cause first, then all the others.
    first = {outcome.cause: (stage, outcome) for stage, outcome in reversed(failures)}
    leading = [fate for fate in failures if first[fate[1].cause] == fate]
    walk = leading + [fate for fate in failures if fate not in leading]
    while walk:
        yield walk.pop(0) if rng.random() < WALK_RATIO else rng.choice(successes)

    deck: list[tuple[Stage, Outcome]] = []
    while True:
        if rng.random() >= FAILURE_RATIO:
            yield rng.choice(successes)
        elif rng.random() < 0.5:
            yield rng.choices(failures, weights)[0]
        else:
            deck = deck or rng.sample(failures, len(failures))
            yield deck.pop()


def _request(rng: random.Random, stage: Stage, outcome: Outcome, arrived_at_ms: int) -> Request:
    routes = [route for route in stage.routes if not outcome.methods or route.method in outcome.methods]
    extended_request_id = base64.urlsafe_b64encode(rng.randbytes(11)).decode()
    return Request(
        stage=stage,
        route=rng.choice(routes),
        outcome=outcome,
        # An HTTP API has one id only, of the extended kind.
        request_id=_uuid(rng) if stage.type == "REST" else extended_request_id,
        extended_request_id=extended_request_id,
        integration_request_id=_uuid(rng),
        xray_root=f"1-{arrived_at_ms // 1000:08x}-{rng.getrandbits(96):024x}",
        parent_span_id=f"{rng.getrandbits(64) | 1:016x}" if rng.random() < 0.3 else None,
        source_ip=f"203.0.113.{rng.randint(1, 254)}",
        item=str(rng.randint(1000, 9999)),
        key_suffix=f"{rng.getrandbits(24):06x}",
        arrived_at_ms=arrived_at_ms,
        took_ms=rng.randint(*outcome.took_ms),
    )


def _batches(rng: random.Random, request: Request) -> tuple[Batch, ...]:
    """The access line and the execution lines; either may come late, on its own."""
    written = (
        (request.stage.access_group, (access_line(request),)),
        (request.stage.execution_group, execution_lines(request)),
    )
    batches = []
    for group, lines in written:
        delay_ms = rng.randint(10_000, 60_000) if rng.random() < LATE_RATIO else rng.randint(300, 2_500)
        if group is not None and lines:
            batches.append(Batch(group=group, due_at_ms=request.ended_at_ms + delay_ms, lines=lines))
    return tuple(batches)


def _uuid(rng: random.Random) -> str:
    return str(uuid.UUID(int=rng.getrandbits(128), version=4))
