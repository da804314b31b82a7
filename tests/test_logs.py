"""The exporter's own log as tests have it; what it never says stands in `test_privacy.py`."""

import logging

import pytest
import structlog

from exporter import logs


@pytest.mark.parametrize("turn", ["the first", "the next"])
def test_what_a_test_configures_of_logging_ends_with_it(turn, capsys):
    """Its handler writes to a standard error that is closed with the test."""
    logging.getLogger("exporter").error("said by %s", turn)
    structlog.get_logger("exporter").warning("said as nobody configured it")
    told = capsys.readouterr()
    assert "Logging error" not in told.err
    assert "said as nobody configured it" in told.out

    logs.configure("info", "logfmt")
    structlog.get_logger("exporter").warning("said as configured")
    told = capsys.readouterr()
    assert (told.out, told.err.count('event="said as configured"')) == ("", 1)
