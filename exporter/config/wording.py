"""What is wrong in words that help: the checks' findings -> mistakes with line, path and the way to mend them.

Values are shown as they are written in the file, and only by checks that ask for it (`{value}`): what came out of
the environment, and what is secret, is never shown.
"""

import difflib
from collections.abc import Iterator, Mapping
from typing import cast

from pydantic_core import ErrorDetails

from exporter.config.document import Document, FromEnvironment, Mistake, Path

Schema = Mapping[str, object]

_WRONG_KIND = {
    "string_type": "must be text",
    "string_sub_type": "must be text",
    "int_type": "must be a whole number",
    "int_from_float": "must be a whole number",
    "float_type": "must be a number",
    "finite_number": "must be a number",
    "bool_type": "must be `true` or `false`",
    "tuple_type": "must be a list; write each item on a line of its own after `- `, or all of them as `[a, b]`",
    "dict_type": "must be a section; write `key: value` lines beneath it",
    "model_type": "must be a section; write `key: value` lines beneath it",
    "string_too_short": "must not be empty; write a value or leave the key out",
    "too_short": "must not be empty; write at least one item or leave the key out",
}


def mistake_of(error: ErrorDetails, document: Document, schema: Schema) -> Mistake:
    """Say what pydantic found, where it stands in the file."""
    path: Path = tuple(part for part in error["loc"] if part != "[key]")
    if error["type"] == "extra_forbidden":
        text = _unknown_key(path, schema)
    elif error["type"] == "missing":
        text = f"the key `{path[-1]}` is missing; add it"
        path = path[:-1]
    else:
        source = document.source_of(path)
        text = _wrong_value(error, path, schema).replace("{value}", f"`{source}`").replace("{source}", source)
    return Mistake(document.line_of(path), path, text)


def path_in_words(path: Path) -> str:
    """`watches[0].access_log.format`."""
    text = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in path)
    return text.removeprefix(".")


def all_keys(schema: Schema) -> Iterator[tuple[Path, Schema]]:
    """Every key with its own schema; the items of lists have the path part 0."""
    yield from _keys_beneath(followed(schema, schema), (), schema)


def _keys_beneath(node: Schema, path: Path, schema: Schema) -> Iterator[tuple[Path, Schema]]:
    for key, raw in cast("Mapping[str, Schema]", node.get("properties", {})).items():
        yield (*path, key), raw
        inner = followed(raw, schema)
        if "items" in inner:
            yield from _keys_beneath(followed(cast("Schema", inner["items"]), schema), (*path, key, 0), schema)
        else:
            yield from _keys_beneath(inner, (*path, key), schema)


def followed(node: Schema, schema: Schema) -> Schema:
    """The schema that `node` stands for: its reference followed, `or null` taken off."""
    for choice in cast("list[Schema]", node.get("anyOf", [])):
        if choice.get("type") != "null":
            return followed(choice, schema)
    reference = node.get("$ref")
    if isinstance(reference, str):
        return cast("Mapping[str, Schema]", schema["$defs"])[reference.rpartition("/")[2]]
    return node


def _wrong_value(error: ErrorDetails, path: Path, schema: Schema) -> str:
    context = error.get("ctx", {})
    if error["input"] is None:
        return "has no value; write one, or leave the key out"
    if error["type"] == "value_error":
        return str(context["error"])
    if error["type"] == "literal_error":
        return _no_choice(error["input"], path, schema)
    if error["type"] in {"string_type", "string_sub_type"} and isinstance(error["input"], bool | int | float):
        return 'must be text; put it in quotes: "…"'
    if error["type"] in {"int_type", "float_type", "bool_type"} and isinstance(error["input"], FromEnvironment):
        return f"{_WRONG_KIND[error['type']]}; look at what the environment variable holds"
    if error["type"] in _WRONG_KIND:
        return _WRONG_KIND[error["type"]]
    if error["type"] == "greater_than_equal":
        return f"must be at least {context['ge']}"
    return error["msg"]


def _no_choice(value: object, path: Path, schema: Schema) -> str:
    positions = tuple(0 if isinstance(part, int) else part for part in path)
    choices = next(
        cast("list[str]", followed(own, schema)["enum"]) for key, own in all_keys(schema) if key == positions
    )
    listed = ", ".join(f"`{choice}`" for choice in choices)
    return f"{{value}} is not known here{_meant(str(value), choices) or f'; write one of {listed}'}"


def _unknown_key(path: Path, schema: Schema) -> str:
    *parent, key = (0 if isinstance(part, int) else part for part in path)
    keys = [known for known, _ in all_keys(schema)]
    siblings = [str(known[-1]) for known in keys if list(known[:-1]) == parent]
    near = _meant(str(key), siblings)
    if near:
        return f"unknown key{near}"
    elsewhere = [path_in_words(known).replace("[0]", "[…]") for known in keys if known[-1] == key]
    if elsewhere:
        return f"unknown key here; it belongs to `{elsewhere[0].rpartition('.')[0] or 'the top of the file'}`"
    return f"unknown key; known here are {', '.join(f'`{sibling}`' for sibling in siblings)}"


def _meant(word: str, known: list[str]) -> str:
    by_folded = {name.casefold().replace("-", "_"): name for name in known}
    near = difflib.get_close_matches(word.casefold().replace("-", "_"), by_folded, n=1, cutoff=0.7)
    return f"; did you mean `{by_folded[near[0]]}`?" if near else ""
