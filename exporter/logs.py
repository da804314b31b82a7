"""The exporter's own log: one line an event on standard error, as logfmt or JSON.

Lines of the libraries come out in the same form. It never prints a line that CloudWatch gave, nor a credential:
callers pass names, counts and reasons; should a library's message or an unforeseen exception quote one all the same,
it is redacted like any text from outside.
"""

import logging
import sys
from typing import TYPE_CHECKING, Literal, get_args

import structlog

from exporter.redaction import redact

if TYPE_CHECKING:
    from structlog.typing import EventDict, Processor

Level = Literal["debug", "info", "warn", "error"]
Format = Literal["logfmt", "json"]

LEVELS: tuple[Level, ...] = get_args(Level)
FORMATS: tuple[Format, ...] = get_args(Format)

_QUIET = {
    "apscheduler": logging.ERROR,  # it warns of every tick that meets a poll still running, which is by design
    "botocore": logging.WARNING,
    "boto3": logging.WARNING,
    "urllib3": logging.ERROR,
    "uvicorn": logging.WARNING,
    "werkzeug": logging.ERROR,
}


def configure(level: Level, log_format: Format) -> None:
    """Set up logging for the process; may be called again."""
    shared: list[Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True, key="ts"),
        structlog.processors.format_exc_info,
        _without_secrets,
    ]
    renderer: Processor = (
        structlog.processors.JSONRenderer()
        if log_format == "json"
        else structlog.processors.LogfmtRenderer(key_order=["ts", "level", "event"], bool_as_flag=False)
    )
    structlog.configure(
        processors=[
            structlog.stdlib.filter_by_level,
            *shared,
            structlog.stdlib.ProcessorFormatter.wrap_for_formatter,
        ],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.stdlib.BoundLogger,
        cache_logger_on_first_use=True,
    )
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=shared,
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, renderer],
        )
    )
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel({"warn": "WARNING"}.get(level, level.upper()))
    for name, quiet in _QUIET.items():
        logging.getLogger(name).setLevel(quiet)


def _without_secrets(_logger: object, _method: str, line: "EventDict") -> "EventDict":
    return {name: redact(value) if isinstance(value, str) else value for name, value in line.items()}
