"""What watching will take: calls a second against the region's quota, and bytes a day, before anything is read.

Pure. How much a group takes in is known from a sample (`check-config --probe`), else estimated from what CloudWatch
Logs says it holds: that figure lags by hours and counts compressed bytes, so it gives a range, never a number.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final, NamedTuple

from exporter.config.settings import Watch
from exporter.discovery.stages import GroupFacts
from exporter.model import LogGroup
from exporter.windows import BUCKET_MS, MINUTE_MS, OVERLAP_MS

DEFAULT_QUOTA: Final = 10
FILTER_LOG_EVENTS_QUOTA: Final[Mapping[str, int]] = {
    "us-east-1": 25,
    "ap-northeast-3": 5,
    "ap-southeast-3": 5,
    "ca-west-1": 5,
    "eu-central-1": 5,
    "il-central-1": 5,
}
"""FilterLogEvents calls a second of one account in a region, not adjustable; elsewhere `DEFAULT_QUOTA` [CloudWatch Logs
quotas]."""

PAGE_BYTES: Final = 1_048_576
"""The most bytes AWS puts in a page."""
STORED_SHARE: Final = 0.15
"""The share of what comes in that is stored after compression, as AWS's own pricing examples reckon."""
PLANNED_SHARE: Final = 0.9
"""How much of a call budget is planned with; the rest is for retries and backlogs."""
_DAY_MS: Final = 86_400_000


class Volume(NamedTuple):
    """Bytes a day that a group takes in: between `low` and `high`."""

    low: float
    high: float


@dataclass(frozen=True, kw_only=True, slots=True)
class WatchForecast:
    """What one watch takes."""

    watch: str
    calls_per_second: float
    """By the high estimate; a group of unknown volume counts as one page a poll."""
    least_calls_per_second: float
    """What it would take if almost nothing were to be read."""
    volume: Volume | None
    """What its groups take in; None where that is known of none of them."""
    unknown_groups: tuple[str, ...]
    """Groups whose volume is not known."""


@dataclass(frozen=True, kw_only=True, slots=True)
class PlaceForecast:
    """What all watches of an account and region take together."""

    account: str
    region: str
    quota_calls_per_second: int
    """Of FilterLogEvents, for all tools of the account."""
    budget_calls_per_second: float
    """What the configuration allows the exporter."""
    watches: tuple[WatchForecast, ...]
    fetch_failures: tuple[str, ...]
    """Watches that should read failing lines only (`fetch: failures`), so that the rest fits the budget."""

    @property
    def calls_per_second(self) -> float:
        """The calls of all watches, each polled at the configured interval."""
        return sum(watch.calls_per_second for watch in self.watches)

    @property
    def volume(self) -> Volume:
        """The bytes a day of all groups whose volume is known."""
        known = [watch.volume for watch in self.watches if watch.volume is not None]
        return Volume(sum(volume.low for volume in known), sum(volume.high for volume in known))

    @property
    def fits(self) -> bool:
        """Whether every watch can be polled as often as configured."""
        return self.calls_per_second <= self.budget_calls_per_second * PLANNED_SHARE


def quota_of(region: str) -> int:
    """FilterLogEvents calls a second that AWS allows an account in a region."""
    return FILTER_LOG_EVENTS_QUOTA.get(region, DEFAULT_QUOTA)


def stored_volume(facts: GroupFacts | None, *, now_ms: int) -> Volume | None:
    """What a group takes in a day, by what it has stored; None for one that is younger than a day or unknown.

    It holds what came in while its age and retention allow; how much of that is compressed away is not told.
    """
    if facts is None or not facts.stored_bytes or facts.created_at_ms is None:
        return None
    days = (now_ms - facts.created_at_ms) / _DAY_MS
    if days < 1:
        return None
    if facts.retention_days is not None:
        days = min(days, facts.retention_days)
    return Volume(facts.stored_bytes / days, facts.stored_bytes / days / STORED_SHARE)


def forecast(
    watches: Sequence[Watch],
    volumes: Mapping[LogGroup, Volume],
    *,
    budgets: Mapping[str, float],
    poll_interval_ms: int,
) -> tuple[PlaceForecast, ...]:
    """What watching takes, for each account and region. `budgets`: calls a second by account name."""
    places = sorted({(watch.account, watch.region) for watch in watches})
    return tuple(
        _of_place(
            account,
            region,
            [
                _of_watch(watch, volumes, poll_interval_ms)
                for watch in watches
                if (watch.account, watch.region) == (account, region)
            ],
            budgets[account],
        )
        for account, region in places
    )


def _of_place(account: str, region: str, watches: list[WatchForecast], budget: float) -> PlaceForecast:
    # The greatest first: they are where reading failing lines only saves the most.
    over = sum(watch.calls_per_second for watch in watches) - budget * PLANNED_SHARE
    advised: list[str] = []
    for watch in sorted(watches, key=lambda watch: (-watch.calls_per_second, watch.watch)):
        saved = watch.calls_per_second - watch.least_calls_per_second
        if over <= 0 or saved <= 0:
            break
        advised.append(watch.watch)
        over -= saved
    return PlaceForecast(
        account=account,
        region=region,
        quota_calls_per_second=quota_of(region),
        budget_calls_per_second=budget,
        watches=tuple(watches),
        fetch_failures=tuple(advised),
    )


def _of_watch(watch: Watch, volumes: Mapping[LogGroup, Volume], poll_interval_ms: int) -> WatchForecast:
    known = [volumes[group] for group in watch.groups if group in volumes]

    def calls_per_second(pages_per_ms: float) -> float:
        pages = pages_per_poll(
            pages_per_ms,
            max_request_ms=watch.max_request_ms,
            allowed_lateness_ms=watch.allowed_lateness_ms,
            poll_interval_ms=poll_interval_ms,
        )
        return pages * 1000 / poll_interval_ms

    least = calls_per_second(0)
    return WatchForecast(
        watch=watch.name,
        calls_per_second=sum(
            calls_per_second(volumes[group].high / PAGE_BYTES / _DAY_MS)
            if group in volumes and watch.fetch != "failures"
            else least
            for group in watch.groups
        ),
        least_calls_per_second=least * len(watch.groups),
        volume=Volume(sum(volume.low for volume in known), sum(volume.high for volume in known)) if known else None,
        unknown_groups=tuple(group.name for group in watch.groups if group not in volumes),
    )


def pages_per_poll(
    pages_per_ms: float, *, max_request_ms: int, allowed_lateness_ms: int, poll_interval_ms: int
) -> float:
    """The pages of one group that a poll reads: the cheaper of one wide window and the three passes (`windows.py`)."""

    def pages(length_ms: float) -> float:
        return max(1.0, pages_per_ms * length_ms)

    wide = pages(allowed_lateness_ms + max_request_ms + (MINUTE_MS + BUCKET_MS) / 2)
    sweep = pages(MINUTE_MS + max_request_ms) * poll_interval_ms / MINUTE_MS
    return min(wide, pages(poll_interval_ms + OVERLAP_MS) * 2 + sweep)
