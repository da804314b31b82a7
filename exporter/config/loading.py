"""The configuration file -> a frozen `Config`, or all of its mistakes at once with line, path and the way to mend them.

The same loader serves the daemon, its reload and `check-config`. It reads one file and the environment it is given,
nothing else: whether a log group exists or a rules file is right is asked elsewhere.
"""

import os
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path as FilePath

import yaml
from pydantic import ValidationError

from exporter.config.document import Document, Mistake, Path, Value, read_document
from exporter.config.resolving import Standing, resolve
from exporter.config.scalars import format_duration
from exporter.config.sections import File
from exporter.config.settings import Config, Watch
from exporter.config.wording import mistake_of, path_in_words


class ConfigError(Exception):
    """The configuration cannot be used. `str()` is every mistake, one a line, and safe to show."""

    def __init__(self, file: str, mistakes: Collection[Mistake]) -> None:
        self.file = file
        self.mistakes: Sequence[Mistake] = sorted(mistakes, key=lambda mistake: mistake.line)
        super().__init__("\n".join(self._in_words(mistake) for mistake in self.mistakes))

    def _in_words(self, mistake: Mistake) -> str:
        place = f"{self.file}:{mistake.line}" if mistake.line else self.file
        return ": ".join(part for part in (place, path_in_words(mistake.path), mistake.text) if part)


def load_config(path: str | None, text: str | None = None, environ: Mapping[str, str] = os.environ) -> Config:
    """Load the file at `path`, or `text` under the name of `path`. Raises ConfigError.

    `environ` fills `${NAME}` and, for a watch that names no region, `AWS_REGION` or `AWS_DEFAULT_REGION`.
    """
    name = path or "configuration"
    if text is None:
        text = _read(path)
    document = read_document(text, environ)
    values = {} if document.values is None and not document.mistakes else document.values
    if not isinstance(values, dict):
        wrong = Mistake(1, (), "the file must be made of `key: value` lines")
        raise ConfigError(name, document.mistakes or [wrong])
    mistakes = list(document.mistakes)
    mistakes += _mistakes_of_sections(values, document)
    file, standing = _sound_part(values, [mistake.path for mistake in mistakes])
    config, findings = resolve(file, standing, FilePath(path or "").parent, environ)
    mistakes += [Mistake(document.line_of(place), place, wrong) for place, wrong in findings]
    if mistakes:
        raise ConfigError(name, mistakes)
    return config


def config_schema() -> dict[str, object]:
    """The JSON schema of the file, for editors and for the values of the Helm chart."""
    schema = File.model_json_schema()
    _tidy(schema)
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **schema, "title": "apigateway-exporter"}


def masked_yaml(config: Config) -> str:
    """What is in force, in the syntax of the file: defaults filled in, secrets as asterisks."""

    def sections(*names: str) -> dict[str, object]:
        parts = {name: getattr(config, name) for name in names}
        return {name: part.model_dump(mode="json", by_alias=True) for name, part in parts.items()}

    lateness_ms = config.allowed_lateness_ms
    shown = {
        "poll_interval": format_duration(config.poll_interval_ms),
        "allowed_lateness": None if lateness_ms is None else format_duration(lateness_ms),
        "initial_lookback": format_duration(config.initial_lookback_ms),
        **sections("state", "web"),
        "accounts": [account.model_dump(mode="json", by_alias=True) for account in config.accounts],
        "watches": [_watch_as_written(watch) for watch in config.watches],
        "discover": config.discover and config.discover.model_dump(mode="json", by_alias=True),
        **sections("failures", "labels"),
        "rules": list(config.rules),
        **sections("traces"),
    }
    return yaml.safe_dump(shown, sort_keys=False, allow_unicode=True, width=120)


def _watch_as_written(watch: Watch) -> dict[str, object]:
    api = watch.api
    return {
        "name": watch.name,
        "account": watch.account,
        "region": watch.region,
        "api": {"id": api.id, "name": api.name, "stage": api.stage, "type": api.type},
        "access_log": watch.access_log and watch.access_log.model_dump(mode="json"),
        "execution_log": watch.execution_log and watch.execution_log.model_dump(mode="json"),
        "max_request": format_duration(watch.max_request_ms),
        "fetch": watch.fetch,
    }


def _read(path: str | None) -> str:
    if path is None:
        text = "no configuration file is named; give one with --config.file, or see what the exporter does with `demo`"
        raise ConfigError("configuration", [Mistake(0, (), text)])
    try:
        return FilePath(path).read_text(encoding="utf-8-sig")
    except OSError as error:
        text = f"cannot be read: {error.strerror or error}; check the path and the rights of the file"
        raise ConfigError(path, [Mistake(0, (), text)]) from None
    except UnicodeDecodeError:
        raise ConfigError(path, [Mistake(0, (), "is not UTF-8 text; save it as UTF-8")]) from None


def _mistakes_of_sections(values: dict[str, Value], document: Document) -> list[Mistake]:
    try:
        File.model_validate(values)
    except ValidationError as error:
        schema = config_schema()
        found = [mistake_of(detail, document, schema) for detail in error.errors(include_url=False)]
        # What the document is wrong about is said once: a value that could not be read cannot be right.
        known = {mistake.path for mistake in document.mistakes}
        return [mistake for mistake in found if mistake.path not in known]
    return []


def _sound_part(values: dict[str, Value], wrong: Collection[Path]) -> tuple[File, Standing]:
    """The sections and list items without a mistake of their own, so that what they mean together is judged too."""
    sound: dict[str, Value] = {}
    places: dict[str, list[int]] = {"accounts": [], "watches": []}
    for key, value in values.items():
        if key in places and isinstance(value, list) and (key,) not in wrong:
            places[key] = [index for index in range(len(value)) if not any(path[:2] == (key, index) for path in wrong)]
            sound[key] = [value[index] for index in places[key]]
        elif not any(path[:1] == (key,) for path in wrong):
            sound[key] = value
    complete = {key: not any(path[:1] == (key,) for path in wrong) for key in places}
    standing = Standing(places["accounts"], places["watches"], complete["accounts"], complete["watches"])
    return File.model_validate(sound), standing


def _tidy(node: object) -> None:
    """Take away the titles that only repeat a key, and the line breaks of descriptions."""
    if isinstance(node, list):
        for item in node:
            _tidy(item)
    elif isinstance(node, dict):
        if isinstance(node.get("title"), str):
            del node["title"]
        if isinstance(node.get("description"), str):
            node["description"] = " ".join(node["description"].split())
        for item in node.values():
            _tidy(item)
