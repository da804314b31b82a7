"""Which watches to search for an API and a stage. Pure."""

from collections.abc import Sequence

from exporter.model import UNKNOWN, Api
from exporter.watch_spec import WatchSpec


class NoSuchApi(ValueError):
    """No watch is of the API or stage asked for. The message names those that there are."""


def watches_of(specs: Sequence[WatchSpec], api: str | None, stage: str | None) -> Sequence[WatchSpec]:
    """Leave out the watches that cannot be of `api` (an id or a name) and `stage`; raises `NoSuchApi` if none can.

    A watch whose API only its lines tell stays.
    """
    if not specs:
        raise NoSuchApi("there is no watch, configured or discovered: there are no log groups to search")
    chosen = [spec for spec in specs if any(_may_be(known, api, stage) for item in spec.groups for known in item.apis)]
    if not chosen:
        known = {
            f"{item.name}/{item.stage} ({item.id})" for spec in specs for group in spec.groups for item in group.apis
        }
        asked = "/".join(text for text in (api, stage) if text)
        raise NoSuchApi(f"no watch is of `{asked}`; the configuration has {', '.join(sorted(known))}")
    return chosen


def _may_be(known: Api, api: str | None, stage: str | None) -> bool:
    return (api is None or known.id == UNKNOWN or api in {known.id, known.name}) and (
        stage is None or known.stage in {stage, UNKNOWN}
    )
