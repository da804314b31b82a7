"""`check-config --probe`: asks AWS whether what is configured can work, before anything is counted.

A sample of every log group is read through the daemon's own source and budget (one call for most groups, three at
most): can it be read, do its lines parse, do the ids of a stage's two logs meet, how much comes in. It writes nothing,
moves nothing, and no line it reads is ever shown.
"""

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

from exporter.access_log import AccessFormatError, access_parser
from exporter.config.settings import Config, Watch
from exporter.discovery.discovery import Discovered
from exporter.discovery.findings import Finding
from exporter.discovery.forecast import PlaceForecast, Volume, forecast
from exporter.execution_log import PLACEHOLDER_IDS, parse, split
from exporter.model import LogEvent, LogGroup, Unreadable, Window
from exporter.sources import Source, SourceError

SAMPLE_MS: Final = 15 * 60_000
"""How far back a sample begins."""
MOST_PAGES: Final = 3
ENOUGH_BYTES: Final = 512 * 1024
"""A sample of so many bytes of log text is not made greater."""
_EVENT_OVERHEAD_BYTES: Final = 26
"""What CloudWatch Logs adds to each event when it counts bytes."""
_PARSED: Final = 500
"""So many execution lines of a sample are read in full; of the others only the ids are."""
_DAY_MS: Final = 86_400_000
_EXTENDED_ID: Final = "Extended Request Id: "


@dataclass(frozen=True, kw_only=True, slots=True)
class GroupProbe:
    """What a sample of one log group told."""

    group: LogGroup
    refused: str | None = None
    """Why it cannot be read; None where it can."""
    lines: int = 0
    parsed: int = 0
    """How many of them were read in full."""
    unreadable: Mapping[str, int] = field(default_factory=dict)
    """Lines that could not be read as what they should be, by reason."""
    without_status: int = 0
    """Access lines that name no status."""
    request_ids: frozenset[str] = frozenset()
    extended_ids: frozenset[str] = frozenset()
    extended_by_request: Mapping[str, str] = field(default_factory=dict)
    """Of execution lines: the extended id of a request, where a line names it."""
    volume: Volume | None = None
    """What comes in a day, by this sample; None where nothing came, or too little to tell."""


@dataclass(frozen=True, kw_only=True, slots=True)
class WatchProbe:
    """What the samples of one watch's groups told together."""

    watch: Watch
    access: GroupProbe | None
    execution: GroupProbe | None
    joined: int
    """Requests of the execution sample whose access line is in the access sample."""

    @property
    def problems(self) -> tuple[str, ...]:
        """What keeps it from working, with the way to mend it."""
        return tuple(_problems(self))


@dataclass(frozen=True, kw_only=True, slots=True)
class ProbeReport:
    """What `check-config --probe` found out."""

    watches: tuple[WatchProbe, ...]
    findings: tuple[Finding, ...]
    """What discovery says of the accounts; empty without `discover`."""
    forecast: tuple[PlaceForecast, ...]

    @property
    def ok(self) -> bool:
        """Whether every watch can work, and discovery found nothing that hides failures."""
        return not any(watch.problems for watch in self.watches) and not any(
            finding.severity == "error" for finding in self.findings
        )


def probe(config: Config, discovered: Discovered | None, *, source: Callable[[str, str], Source]) -> ProbeReport:
    """Sample every group of every watch. `discovered`: what a refresh found, None without `discover`.

    `source(account name, region)` is what the daemon would read by. A group that cannot be read is part of the report.
    """
    watches = config.watches if discovered is None else (*config.watches, *discovered.watches)
    samples: dict[LogGroup, GroupProbe] = {}
    probes = []
    for watch in watches:
        access = execution = None
        group = watch.access_group
        if group is not None and watch.access_log is not None:
            if group not in samples:
                samples[group] = _access(group, watch.access_log.format, source(watch.account, watch.region))
            access = samples[group]
        group = watch.execution_group
        if group is not None:
            if group not in samples:
                samples[group] = _execution(group, source(watch.account, watch.region))
            execution = samples[group]
        probes.append(WatchProbe(watch=watch, access=access, execution=execution, joined=_joined(access, execution)))
    return ProbeReport(
        watches=tuple(probes),
        findings=() if discovered is None else discovered.findings,
        forecast=forecast(
            watches,
            {group: sample.volume for group, sample in samples.items() if sample.volume is not None},
            budgets={account.name: account.calls_per_second for account in config.accounts},
            poll_interval_ms=config.poll_interval_ms,
        ),
    )


# -------------------------------------------------------------------------------------------------------------- samples


@dataclass(frozen=True, kw_only=True, slots=True)
class _Sample:
    events: Sequence[LogEvent]
    volume: Volume | None


def _sample(group: LogGroup, source: Source) -> _Sample:
    """The first lines of the last minutes. Raises `SourceError`."""
    now_ms = source.now_ms()
    window = Window(now_ms - SAMPLE_MS, now_ms)
    events: list[LogEvent] = []
    sampled_bytes = 0
    covered_ms: int | None = None
    pages = source.pages(group, window)
    for _ in range(MOST_PAGES):
        page = next(pages, None)
        if page is None:
            covered_ms = SAMPLE_MS
            break
        events += page.events
        sampled_bytes += sum(len(event.message) + _EVENT_OVERHEAD_BYTES for event in page.events)
        if sampled_bytes >= ENOUGH_BYTES:
            covered_ms = max(1, max(event.at_ms for event in events) - window.start_ms)
            break
    # A few lines of a listing that did not end tell nothing of how many there are.
    daily = sampled_bytes / covered_ms * _DAY_MS if covered_ms is not None and events else None
    return _Sample(events=events, volume=None if daily is None else Volume(daily, daily))


def _access(group: LogGroup, form: str, source: Source) -> GroupProbe:
    try:
        parser = access_parser(form)
        sample = _sample(group, source)
    except (AccessFormatError, SourceError) as error:
        return GroupProbe(group=group, refused=str(error))
    unreadable: Counter[str] = Counter()
    request_ids: set[str | None] = set()
    extended_ids: set[str | None] = set()
    without_status = 0
    for event in sample.events:
        glance = parser.glance(event.message)
        if isinstance(glance, Unreadable):
            unreadable[glance.reason] += 1
            continue
        request_ids.add(glance.request_id)
        extended_ids.add(glance.extended_request_id)
        without_status += glance.status is None
    return GroupProbe(
        group=group,
        lines=len(sample.events),
        parsed=len(sample.events),
        unreadable=dict(unreadable),
        without_status=without_status,
        request_ids=_honest(request_ids),
        extended_ids=_honest(extended_ids),
        volume=sample.volume,
    )


def _execution(group: LogGroup, source: Source) -> GroupProbe:
    try:
        sample = _sample(group, source)
    except SourceError as error:
        return GroupProbe(group=group, refused=str(error))
    unreadable: Counter[str] = Counter()
    request_ids: set[str | None] = set()
    extended: dict[str, str] = {}
    for number, event in enumerate(sample.events):
        request_id, text = split(event.message)
        request_ids.add(request_id)
        if request_id is not None and text.startswith(_EXTENDED_ID):
            extended[request_id] = text.removeprefix(_EXTENDED_ID).strip()
        if number < _PARSED and isinstance(read := parse(event), Unreadable):
            unreadable[read.reason] += 1
    return GroupProbe(
        group=group,
        lines=len(sample.events),
        parsed=min(len(sample.events), _PARSED),
        unreadable=dict(unreadable),
        request_ids=_honest(request_ids),
        extended_by_request=extended,
        volume=sample.volume,
    )


def _honest(ids: set[str | None]) -> frozenset[str]:
    return frozenset(request_id for request_id in ids if request_id is not None) - PLACEHOLDER_IDS


def _joined(access: GroupProbe | None, execution: GroupProbe | None) -> int:
    if access is None or execution is None:
        return 0
    return sum(
        request_id in access.request_ids or execution.extended_by_request.get(request_id) in access.extended_ids
        for request_id in execution.request_ids
    )


# ------------------------------------------------------------------------------------------------------------- verdicts


def _problems(probed: WatchProbe) -> Iterator[str]:
    for sample in (probed.access, probed.execution):
        if sample is None:
            continue
        if sample.refused is not None:
            yield f"cannot be read: {sample.refused}"
        elif sample.parsed and sample.parsed == sum(sample.unreadable.values()):
            reasons = ", ".join(sorted(sample.unreadable))
            yield f"no line of {sample.group.name} can be read ({reasons}); are group and format the stage's own?"
    access, execution = probed.access, probed.execution
    if access is not None and access.lines and access.without_status == access.lines:
        yield f"no line of {access.group.name} names a status; add $context.status to the stage's access log format"
    if access is None or execution is None or probed.joined:
        return
    if execution.request_ids and access.parsed > sum(access.unreadable.values()):
        if not access.request_ids and not access.extended_ids:
            yield f"no line of {access.group.name} names a request id; add $context.requestId to the format"
        else:
            text = "no id stands in both logs, so execution lines explain nothing"
            yield f"{text}; add $context.requestId to the format, and look whether both groups are the same stage's"


# ----------------------------------------------------------------------------------------------------------------- text


def render(report: ProbeReport) -> list[str]:
    """The report as lines of text."""
    lines = []
    for probed in report.watches:
        lines.append(f"{'FAIL' if probed.problems else 'ok  '} {probed.watch.name}")
        lines += [f"       {_in_words(kind, sample)}" for kind, sample in _samples(probed)]
        if probed.access is not None and probed.execution is not None and probed.execution.request_ids:
            known = len(probed.execution.request_ids)
            lines.append(
                f"       joined: {probed.joined} of {known} requests in the execution sample have an access line"
            )
        lines += [f"     ! {problem}" for problem in probed.problems]
    if report.findings:
        lines += ["", "What discovery says of the accounts:"]
        lines += [f"  {_finding_in_words(finding)}" for finding in _worst_first(report.findings)]
    for place in report.forecast:
        lines += ["", *_forecast_in_words(place)]
    return lines


def _samples(probed: WatchProbe) -> Iterator[tuple[str, GroupProbe]]:
    for kind, sample in (("access   ", probed.access), ("execution", probed.execution)):
        if sample is not None:
            yield kind, sample


def _in_words(kind: str, sample: GroupProbe) -> str:
    if sample.refused is not None:
        return f"{kind}  {sample.group.name}: not readable"
    if not sample.lines:
        return f"{kind}  {sample.group.name}: readable; no line in the last {SAMPLE_MS // 60_000} minutes"
    bad = "".join(f", {count} {reason}" for reason, count in sorted(sample.unreadable.items()))
    return f"{kind}  {sample.group.name}: readable; {sample.lines} lines sampled{bad}"


def _worst_first(findings: Sequence[Finding]) -> list[Finding]:
    return sorted(findings, key=lambda finding: ("error", "warning", "info").index(finding.severity))


def _finding_in_words(finding: Finding) -> str:
    where = f"{finding.account}/{finding.region}"
    stage = "" if finding.api is None else f" {finding.api.name}/{finding.api.stage}"
    return f"{finding.severity:<7} {finding.kind:<24} {where}{stage}: {finding.text}"


def _forecast_in_words(place: PlaceForecast) -> Iterator[str]:
    yield f"Watching {place.account}/{place.region} will take about"
    yield (
        f"  {place.calls_per_second:.2f} calls a second; the configuration allows {place.budget_calls_per_second:g},"
        f" AWS {place.quota_calls_per_second}"
    )
    low, high = place.volume
    if high:
        spread = _size(high) if low == high else f"{_size(low)} to {_size(high)}"
        yield f"  {spread} of new log data a day"
    unknown = sum(len(watch.unknown_groups) for watch in place.watches)
    if unknown:
        yield f"  not counting {unknown} log groups whose volume is not known"
    if place.fits:
        return
    if place.fetch_failures:
        yield f"  more than the budget: set `fetch: failures` for {', '.join(place.fetch_failures)},"
        yield "  or raise the account's calls_per_second; else polls are stretched"
    else:
        yield "  more than the budget: raise the account's calls_per_second or poll_interval; else polls are stretched"


def _size(size: float) -> str:
    for unit in ("B", "KiB", "MiB", "GiB"):
        if size < 1024:
            return f"{size:.0f} {unit}" if unit == "B" else f"{size:.1f} {unit}"
        size /= 1024
    return f"{size:.1f} TiB"
