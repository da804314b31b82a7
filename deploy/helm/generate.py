"""What of the chart is made from something else: README.md's table, values.schema.json, and the files it packs.

`python deploy/helm/generate.py` makes them anew; tests/test_chart.py fails while they differ. Sources are values.yaml
(its comments: `# --` describes, `# @schema` adds to the schema), the configuration's own schema, and the rules and
dashboards of config/. It never invents a description: a value without one is refused.
"""

# ruff: noqa: INP001  (a program, part of no package)
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import yaml

from exporter.config import config_schema

CHART = Path(__file__).resolve().parent
CONFIG = CHART.parent.parent / "config"
BEGIN = "<!-- values: made by generate.py -->\n"
END = "<!-- end of values -->\n"
COMMAND = "python deploy/helm/generate.py"

_TYPES = {"str": "string", "int": "integer", "bool": "boolean", "seq": "array", "map": "object"}


@dataclass(frozen=True, kw_only=True)
class Value:
    """A value of the chart, as values.yaml describes it."""

    path: tuple[str, ...]
    default: object
    description: str
    schema: Mapping[str, object]


def values(text: str) -> Iterator[Value]:
    """Every described value, in order. A map without a description is a section, whose keys are values themselves.

    Raises ValueError for a value without a description.
    """
    lines = text.splitlines()
    root = yaml.compose(text, Loader=yaml.SafeLoader)
    assert isinstance(root, yaml.MappingNode)
    yield from _values_of(root, (), lines)


def _values_of(section: yaml.MappingNode, path: tuple[str, ...], lines: list[str]) -> Iterator[Value]:
    for key_node, node in section.value:
        key = (*path, key_node.value)
        description, added = _comment_above(lines, key_node.start_mark.line)
        if description:
            own = {"type": _TYPES[node.tag.rpartition(":")[2]]}
            schema = added if "$ref" in added else own | added
            yield Value(path=key, default=yaml.safe_load(yaml.serialize(node)), description=description, schema=schema)
        elif isinstance(node, yaml.MappingNode) and node.value:
            yield from _values_of(node, key, lines)
        else:
            raise ValueError(f"values.yaml:{key_node.start_mark.line + 1}: {'.'.join(key)} has no `# --` comment")


def _comment_above(lines: list[str], line: int) -> tuple[str, dict[str, object]]:
    """The description and the addition to the schema, out of the comment that ends right above a line."""
    first = line
    while first > 0 and lines[first - 1].lstrip().startswith("# ") and not lines[first].lstrip().startswith("# -- "):
        first -= 1
    if not lines[first].lstrip().startswith("# -- "):
        return "", {}
    words: list[str] = []
    added: dict[str, object] = {}
    for comment in (text.strip().removeprefix("# ") for text in lines[first:line]):
        if comment.startswith("@schema "):
            added |= yaml.safe_load(comment.removeprefix("@schema "))
        else:
            words.append(comment.removeprefix("-- "))
    return " ".join(words), added


def values_schema() -> str:
    """The text of values.schema.json."""
    of_config = config_schema()
    definitions = of_config.pop("$defs")
    assert isinstance(definitions, dict)
    del of_config["$schema"], of_config["title"]
    root: dict[str, object] = _closed({"global": {"type": "object", "description": "Shared with other charts."}})
    for value in values((CHART / "values.yaml").read_text(encoding="utf-8")):
        section = root
        for name in value.path[:-1]:
            properties = section["properties"]
            assert isinstance(properties, dict)
            section = properties.setdefault(name, _closed({}))
        properties = section["properties"]
        assert isinstance(properties, dict)
        properties[value.path[-1]] = {**value.schema, "description": value.description}
    # Draft 7, which every Helm 3 knows; nothing that the configuration's schema says needs more.
    schema = {
        "$schema": "http://json-schema.org/draft-07/schema#",
        "title": "Values of the chart apigateway-exporter",
        **root,
        "$defs": {**definitions, "Config": of_config},
    }
    return json.dumps(schema, indent=2, ensure_ascii=False) + "\n"


def _closed(properties: dict[str, object]) -> dict[str, object]:
    return {"type": "object", "additionalProperties": False, "properties": properties}


def readme() -> str:
    """The text of README.md, with the table of values in its place."""
    text = (CHART / "README.md").read_text(encoding="utf-8")
    before, _, rest = text.partition(BEGIN)
    _, _, after = rest.partition(END)
    rows = "".join(
        f"| `{'.'.join(value.path)}` | `{json.dumps(value.default)}` | {value.description} |\n"
        for value in values((CHART / "values.yaml").read_text(encoding="utf-8"))
    )
    return f"{before}{BEGIN}\n| value | default | meaning |\n|---|---|---|\n{rows}\n{END}{after}"


def packed() -> dict[Path, str]:
    """The files of config/ that the chart packs, because Helm reads nothing outside of a chart: place -> text."""
    rules = [path for path in CONFIG.glob("prometheus/*.y*ml") if path.stem in {"alerts", "recording-rules"}]
    dashboards = CONFIG.glob("grafana/*.json")
    return {
        CHART / "files" / kind / path.name: path.read_text(encoding="utf-8")
        for kind, paths in (("prometheus", rules), ("dashboards", dashboards))
        for path in sorted(paths)
    }


def made() -> dict[Path, str]:
    """Everything that this program makes: place -> text."""
    return {CHART / "values.schema.json": values_schema(), CHART / "README.md": readme(), **packed()}


def superfluous() -> set[Path]:
    """Packed files whose source is gone."""
    return {path for path in (CHART / "files").glob("*/*") if path.suffix != ".md"} - packed().keys()


if __name__ == "__main__":
    for path in superfluous():
        path.unlink()
    for path, text in made().items():
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
