"""Discovery in a running exporter: which look counts, and that a call denied for good holds up nothing for ever."""

import threading
import time
from dataclasses import replace

import pytest

from exporter.config import load_config
from exporter.scouting import Scout
from exporter.sources.budget import CallBudget
from tests.fakes.gateway_account import FakeAccount

REGION = "eu-west-1"
DEADLINE_S = 20


class OnePlace:
    """Every account and region is this one."""

    def __init__(self, account, stop):
        self._account = account
        self._stop = stop

    def session(self, _account, _region):
        return self._account.session()

    def budget(self, _account, _region):
        return CallBudget(1_000, clock=time.monotonic, wait=self._stop.wait)

    def count(self, *_):
        pass


def config_of(discover, *, refresh_ms=50):
    """A configuration that looks again sooner than a file may say."""
    config = load_config("x", text=f"accounts: [{{name: hub, regions: [{REGION}]}}]\ndiscover: {discover}", environ={})
    assert config.discover is not None
    return replace(config, discover=config.discover.model_copy(update={"refresh_ms": refresh_ms}))


@pytest.fixture
def account():
    return FakeAccount()


@pytest.fixture
def scout(account):
    """A scout, and what it has found so far by the names of the watches."""
    stop, looked = threading.Event(), []
    scout = Scout(OnePlace(account, stop), stop, lambda found: looked.append([watch.name for watch in found.watches]))
    yield scout, looked
    stop.set()
    scout.close()


def until(condition):
    ends, pause = time.monotonic() + DEADLINE_S, threading.Event()
    while not condition():
        assert time.monotonic() < ends, "it never happened"
        pause.wait(0.02)


def test_what_is_denied_for_good_does_not_keep_a_new_configuration_from_being_in_force(account, scout):
    seeing, looked = scout
    account.rest("orders", access="access/orders")
    account.rest("billing", access="access/billing")
    account.refusals["GetApis"] = (403, "AccessDeniedException")
    seeing.set_config(config_of("{include: {names: [orders]}}"))
    until(lambda: looked and looked[-1] == ["orders-prod"])
    seeing.set_config(config_of("{include: {names: [billing]}}"))
    until(lambda: looked[-1] == ["billing-prod"])


def test_the_first_look_of_a_new_configuration_takes_nothing_away_that_it_could_not_reach(account, scout):
    seeing, looked = scout
    account.rest("orders", access="access/orders")
    seeing.set_config(config_of("{}"))
    until(lambda: looked and looked[-1] == ["orders-prod"])
    account.refusals["GetRestApis"] = (403, "AccessDeniedException")
    known = len(looked)
    seeing.set_config(config_of("{http: false}", refresh_ms=3_600_000))
    until(lambda: len(looked) > known)
    assert all(names == ["orders-prod"] for names in looked)
