"""Which stages discovery takes: the `include` and `exclude` of the configuration, as a question about one stage.

A stage is taken if it meets every kind of condition that `include` names, and none that `exclude` names. Names, tag
values and stage names are glob patterns (`*`, `?`, `[…]`), case matters. Pure: it asks nobody.
"""

from collections.abc import Iterable, Mapping
from fnmatch import fnmatchcase

from exporter.config.sections import Discover, Selection
from exporter.discovery.stages import Stage

Tags = Mapping[str, str]


def wants_type(discover: Discover, api_type: str) -> bool:
    """Whether APIs of this type are looked for."""
    return {"REST": discover.rest, "HTTP": discover.http, "WEBSOCKET": discover.websocket}.get(api_type, False)


def may_take(discover: Discover, name: str, tags: Tags) -> bool:
    """Whether any stage of an API of this name and tags could be taken: if not, its stages need no call."""
    names = discover.include.names
    return (not names or _any(names, name)) and not (
        _any(discover.exclude.names, name) or _has_any(discover.exclude, tags)
    )


def takes(discover: Discover, stage: Stage) -> bool:
    """Whether a stage is taken."""
    include, exclude = discover.include, discover.exclude
    return (
        wants_type(discover, stage.api_type)
        and may_take(discover, stage.api_name, stage.api_tags)
        and (not include.stages or _any(include.stages, stage.name))
        and all(_has(stage.tags, tag) or _has(stage.api_tags, tag) for tag in include.tags.items())
        and not (_any(exclude.stages, stage.name) or _has_any(exclude, stage.tags))
    )


def _any(patterns: Iterable[str], text: str) -> bool:
    return any(fnmatchcase(text, pattern) for pattern in patterns)


def _has_any(selection: Selection, tags: Tags) -> bool:
    return any(_has(tags, tag) for tag in selection.tags.items())


def _has(tags: Tags, tag: tuple[str, str]) -> bool:
    key, pattern = tag
    return key in tags and fnmatchcase(tags[key], pattern)
