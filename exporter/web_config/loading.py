"""The file, read and put together."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

from pydantic import ValidationError

from exporter.config.document import Document, Mistake, Value, read_document
from exporter.config.loading import ConfigError
from exporter.config.wording import mistake_of
from exporter.web_config.sections import WebFile
from exporter.web_config.tls import ServerTls, files_of, findings_of, has_tls, make_tls


class RateLimit(NamedTuple):
    """A token bucket."""

    interval_s: float
    """A token comes every so many seconds."""
    burst: int
    """So many tokens are kept."""


@dataclass(frozen=True, kw_only=True, slots=True)
class WebConfig:
    """What the web server enforces. The default: nothing at all."""

    tls: ServerTls | None = None
    headers: Mapping[str, str] = field(default_factory=dict)
    users: Mapping[str, bytes] = field(default_factory=dict, repr=False)
    """bcrypt hashes by user; empty: nobody is asked who they are."""
    rate_limit: RateLimit | None = None
    asks_for_http2: bool = False
    """Whether the file wishes for HTTP/2, which is not spoken here."""
    files: tuple[Path, ...] = ()
    """Every file that this was made of."""


def load_web_config(path: str) -> WebConfig:
    """Load a web configuration file; files it names are relative to it. Raises ConfigError with all of its mistakes."""
    document = read_document(_text_of(path), None)
    file, mistakes = _read(document, path)
    directory = Path(path).parent
    tls = None
    if has_tls(file.tls_server_config):
        findings = list(findings_of(file.tls_server_config))
        if not findings:
            tls, more = make_tls(file.tls_server_config, directory)
            findings += more
        for key, text in findings:
            place = ("tls_server_config", key) if key else ("tls_server_config",)
            mistakes.append(Mistake(document.line_of(place), place, text))
    limit = RateLimit(file.rate_limit.interval_s, file.rate_limit.burst)
    if limit.interval_s > 0 and limit.burst < 1:
        place = ("rate_limit",)
        text = "without `burst` no request would ever be let through; write how many may come at once, like `burst: 20`"
        mistakes.append(Mistake(document.line_of(place), place, text))
    if mistakes:
        raise ConfigError(path, mistakes)
    headers = file.http_server_config.headers.model_dump(by_alias=True)
    return WebConfig(
        tls=tls,
        headers={name: value for name, value in headers.items() if value},
        users={name: value.get_secret_value().encode() for name, value in file.basic_auth_users.items()},
        rate_limit=limit if limit.interval_s > 0 else None,
        asks_for_http2=bool(file.http_server_config.http2),
        files=(Path(path), *files_of(file.tls_server_config, directory)),
    )


def _text_of(path: str) -> str:
    try:
        return Path(path).read_text(encoding="utf-8-sig")
    except OSError as error:
        text = f"cannot be read: {error.strerror or error}; check the path and the rights of the file"
        raise ConfigError(path, [Mistake(0, (), text)]) from None
    except UnicodeDecodeError:
        raise ConfigError(path, [Mistake(0, (), "is not UTF-8 text; save it as UTF-8")]) from None


def _read(document: Document, path: str) -> tuple[WebFile, list[Mistake]]:
    values: Value = {} if document.values is None and not document.mistakes else document.values
    if not isinstance(values, dict):
        raise ConfigError(path, document.mistakes or [Mistake(1, (), "the file must be made of `key: value` lines")])
    try:
        file = WebFile.model_validate(values)
    except ValidationError as error:
        schema = WebFile.model_json_schema()
        found = [mistake_of(detail, document, schema) for detail in error.errors(include_url=False)]
        known = {mistake.path for mistake in document.mistakes}
        raise ConfigError(
            path, [*document.mistakes, *(mistake for mistake in found if mistake.path not in known)]
        ) from None
    return file, list(document.mistakes)
