"""What is to be read: watches as they were configured or found -> the specs of the watches that run.

Watches that share a log group become one, because the lines of a group are read once. A plan made anew of what did not
change is equal to the old one.
"""

from collections import defaultdict
from collections.abc import Callable, Sequence

from exporter.access_filter import failed_access_patterns
from exporter.access_log import AccessFormatError, AccessParser, access_parser
from exporter.config import Config, Watch
from exporter.metrics import StageInfo
from exporter.model import UNKNOWN, Api, LogGroup
from exporter.taking import Labelling
from exporter.watch_spec import Fetch, WatchGroup, WatchSpec

_FETCHES: tuple[Fetch, ...] = ("all", "auto", "failures")


class Planner:
    """Makes plans, and remembers the parsers of the last one: a group that keeps its format keeps its parser."""

    def __init__(self) -> None:
        self._parsers: dict[tuple[LogGroup, str], AccessParser] = {}

    def plan(self, config: Config, watches: Sequence[Watch]) -> Sequence[WatchSpec]:
        """The specs for `watches`, by the settings of `config`.

        Raises `AccessFormatError`, which names the watch, and has then changed nothing.
        """
        for watch in watches:
            _check_format(watch)
        parsers: dict[tuple[LogGroup, str], AccessParser] = {}

        def parser_of(group: LogGroup, text: str) -> AccessParser:
            key = (group, text)
            parsers[key] = self._parsers.get(key) or access_parser(text)
            return parsers[key]

        specs = [_merged(part, config, parser_of) for part in _parts(watches)]
        self._parsers = parsers
        return specs


def _check_format(watch: Watch) -> None:
    if watch.access_log is None:
        return
    try:
        access_parser(watch.access_log.format)
        patterns = failed_access_patterns(watch.access_log.format)
    except AccessFormatError as error:
        raise AccessFormatError(f"watch `{watch.name}`: access_log.format: {error}") from None
    if watch.fetch != "all" and not patterns:
        raise AccessFormatError(
            f"watch `{watch.name}`: `fetch: {watch.fetch}` finds failing lines by their status, which the access log's "
            "format does not have: add $context.status to it, or write `fetch: all`"
        )


def _parts(watches: Sequence[Watch]) -> Sequence[Sequence[Watch]]:
    """The watches, those together that share a log group; each part stands where its last watch does."""
    parts: dict[int, list[Watch]] = {}
    part_of: dict[LogGroup, int] = {}
    for number, watch in enumerate(watches):
        same = sorted({part_of[group] for group in watch.groups if group in part_of})
        parts[number] = [*(other for part in same for other in parts.pop(part)), watch]
        part_of |= {group: number for other in parts[number] for group in other.groups}
    return list(parts.values())


def _merged(watches: Sequence[Watch], config: Config, parser_of: Callable[[LogGroup, str], AccessParser]) -> WatchSpec:
    apis: defaultdict[LogGroup, list[Api]] = defaultdict(list)
    formats: dict[LogGroup, str] = {}
    executions: dict[LogGroup, None] = {}
    for watch in watches:
        api = api_of(watch)
        group = watch.access_group
        if group is not None and watch.access_log is not None:
            formats.setdefault(group, watch.access_log.format)
            apis[group].append(api)
        group = watch.execution_group
        if group is not None:
            executions[group] = None
            apis[group].append(api)
    access = [
        WatchGroup(
            group=group,
            kind="access",
            apis=tuple(apis[group]),
            parser=parser_of(group, text),
            failure_patterns=failed_access_patterns(text),
        )
        for group, text in formats.items()
    ]
    execution = [WatchGroup(group=group, kind="execution", apis=tuple(apis[group])) for group in executions]
    return WatchSpec(
        name="+".join(watch.name for watch in watches),
        groups=(*access, *execution),
        max_request_ms=max(watch.max_request_ms for watch in watches),
        allowed_lateness_ms=max(watch.allowed_lateness_ms for watch in watches),
        poll_interval_ms=config.poll_interval_ms,
        initial_lookback_ms=config.initial_lookback_ms,
        labelling=labelling_of(config),
        # Of watches whose groups are read together, the one that wants most decides.
        fetch=next(mode for mode in _FETCHES if any(watch.fetch == mode for watch in watches)),
        reader=watches[0].account,
    )


def api_of(watch: Watch) -> Api:
    """The watch's API; one that nothing names is called as the watch is, so that its series can be told apart."""
    api = watch.api
    if api.name != UNKNOWN:
        return api
    return Api(id=api.id, name=watch.name, stage=api.stage, type=api.type, region=api.region, account_id=api.account_id)


def stage_infos(watches: Sequence[Watch]) -> Sequence[StageInfo]:
    """What `stage_info` shows of watches that are configured by hand."""
    return [
        StageInfo(
            api=api_of(watch),
            access_log_group=UNKNOWN if watch.access_group is None else watch.access_group.name,
            execution_log_group=UNKNOWN if watch.execution_group is None else watch.execution_group.name,
        )
        for watch in watches
    ]


def labelling_of(config: Config) -> Labelling:
    """Which labels the detail has."""
    return Labelling(by_method=config.labels.method, by_resource=config.labels.resource)
