"""What holds for every test."""

import logging
from collections.abc import Iterator

import pytest
import structlog
from hypothesis import settings

# How long an example takes says something of the machine, not of the code.
settings.register_profile("patient", deadline=None)
settings.load_profile("patient")


@pytest.fixture(autouse=True)
def _logging_as_it_was() -> Iterator[None]:
    """Take back what a test configures of logging: its handler writes to a standard error that ends with the test."""
    root = logging.getLogger()
    handlers, level, configuration = root.handlers[:], root.level, structlog.get_config()
    yield
    root.handlers[:] = handlers
    if root.level != level:
        root.setLevel(level)  # it goes through all loggers, of which there are many
    structlog.configure(**configuration)
