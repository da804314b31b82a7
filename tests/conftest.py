"""What holds for every test."""

import logging
from collections.abc import Iterator
from urllib.request import Request, urlopen

import pytest
import structlog
from hypothesis import settings
from moto.server import ThreadedMotoServer

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


@pytest.fixture
def moto_url() -> Iterator[str]:
    """The address of a moto server with nothing in it: all of a process share one world, whatever test made it."""
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    url = "http://{}:{}".format(*server.get_host_and_port())
    urlopen(Request(f"{url}/moto-api/reset", method="POST")).close()
    yield url
    server.stop()
