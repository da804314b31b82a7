"""The tables of docs/configuration.md, made from the configuration's own schema.

`python tests/configuration_reference.py` writes them; a test of test_config.py fails while they differ.
"""

from pathlib import Path

import yaml

from exporter.config import config_schema
from exporter.config.wording import all_keys, followed

PAGE = Path(__file__).parent.parent / "docs" / "configuration.md"
BEGIN = "<!-- keys: made by tests/configuration_reference.py -->\n"
END = "<!-- end of keys -->\n"


def key_in_words(path):
    """`watches[].access_log.format`."""
    return "".join("[]" if part == 0 else f".{part}" for part in path).removeprefix(".")


def reference():
    """One table a section, in the order of the schema; the tables of inner sections follow."""
    schema = config_schema()
    keys = dict(all_keys(schema))
    tables = []
    for section in dict.fromkeys(path[:-1] for path in keys):
        title, about = "The top of the file", ""
        if section:
            title, about = f"`{key_in_words(section)}`", f"{_section_of(keys, section, schema)['description']}\n\n"
        rows = "".join(_row(path, key, schema) for path, key in keys.items() if path[:-1] == section)
        tables.append(f"### {title}\n\n{about}| key | default | meaning |\n|---|---|---|\n{rows}")
    return "\n".join(tables)


def _section_of(keys, path, schema):
    """The schema of a section, or (path part 0) of the items of a list."""
    return followed(keys[path[:-1]]["items"] if path[-1] == 0 else keys[path], schema)


def _row(path, key, schema):
    meaning = key.get("description") or followed(key, schema)["description"]
    return f"| `{key_in_words(path)}` | {_default(key, schema)} | {meaning} |\n"


def _default(key, schema):
    if "default" not in key:
        return "required"
    if key["default"] is None:
        return "none"
    if "properties" in followed(key, schema):
        return "its keys' own"
    return f"`{yaml.safe_dump(key['default'], default_flow_style=True).removesuffix('...' + chr(10)).strip()}`"


def page_with(tables):
    """The page with `tables` in their place."""
    text = PAGE.read_text(encoding="utf-8")
    before, _, rest = text.partition(BEGIN)
    _, _, after = rest.partition(END)
    return f"{before}{BEGIN}\n{tables}\n{END}{after}"


if __name__ == "__main__":
    PAGE.write_text(page_with(reference()), encoding="utf-8")
