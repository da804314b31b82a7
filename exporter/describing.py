"""A unit's lines, read in full: the timeline that rules judge and spans tell of.

Joining works on looks; what a look leaves out is read here, for failures only. It decides neither which lines belong
together nor what they prove, and reads no log group.
"""

from collections.abc import Mapping, Sequence

from exporter import execution_log
from exporter.access_log import AccessParser
from exporter.model import AccessRecord, Api, LogGroup, RequestTimeline
from exporter.taking import Directory
from exporter.units import Unit


class Describer:
    """Reads the lines of one watch's requests. For one thread at a time."""

    def __init__(
        self,
        *,
        parsers: Mapping[LogGroup, AccessParser],
        directory: Directory,
        execution_apis: Mapping[LogGroup, Sequence[Api]],
    ) -> None:
        """`parsers`: of access groups. `directory`: of the whole watch. `execution_apis`: the stages of each group."""
        self._parsers = parsers
        self._directory = directory
        self._of_execution = {group: Directory(apis) for group, apis in execution_apis.items()}

    def describe(self, unit: Unit) -> RequestTimeline:
        """Return the timeline of a unit."""
        access: AccessRecord | None = None
        if unit.access is not None:
            glance = unit.access.glance
            parsed = self._parsers[unit.access.group].parse(unit.access.event, glance)
            access = parsed if isinstance(parsed, AccessRecord) else None
            api = self._directory.resolve(glance.api_id, glance.stage)
            if access is None:
                access = AccessRecord(event_id=unit.access.event.event_id, at_ms=unit.access.event.at_ms, glance=glance)
        else:
            api = self._of_execution[unit.execution[0].group].resolve(None, None)
        steps = [
            execution_log.step_of(line.event_id, line.at_ms, text)
            for line in unit.execution
            if (text := line.text.strip())
        ]
        glance_id = access.glance.request_id if access is not None else None
        groups = [unit.access.group] if unit.access is not None else []
        groups += [line.group for line in unit.execution]
        return RequestTimeline(
            api=api,
            access=access,
            steps=tuple(steps),
            request_id=min(unit.request_ids, default=glance_id),
            extended_request_id=min(unit.extended_ids, default=None),
            groups=tuple(dict.fromkeys(groups)),
        )
