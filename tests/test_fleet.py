"""Watches come, change and go while others poll: who takes over a log group waits until it is let go."""

import random
import threading
from collections import Counter
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC
from pathlib import Path

import pytest
from apscheduler.executors.pool import ThreadPoolExecutor
from apscheduler.schedulers.background import BackgroundScheduler

from exporter.access_filter import failed_access_patterns
from exporter.fleet import Fleet
from exporter.ledger.sqlite import SqliteLedger
from exporter.metrics.self_metrics import SelfMetrics
from exporter.metrics.totals import Totals
from exporter.record import Recorder
from exporter.rules import shipped_rules
from exporter.taking import Labelling
from tests.test_reload import until
from tests.worlds import ACCESS, EXECUTION, START_MS, Life, MemorySource, make_world, scratch

END_MS = START_MS + 3_600_000


class Gate:
    """Stops whoever lists, until it is opened; knows how many list at once."""

    def __init__(self):
        self.arrived = threading.Semaphore(0)
        self.may_pass = threading.Event()
        self.most_at_once = 0
        self._listing = set()
        self._lock = threading.Lock()

    def __call__(self, group, _):
        with self._lock:
            self._listing.add(threading.get_ident())
            self.most_at_once = max(self.most_at_once, len(self._listing))
        self.arrived.release()
        self.may_pass.wait(10)
        with self._lock:
            self._listing.discard(threading.get_ident())


class OnePlace:
    """Every group is in one place."""

    def __init__(self, source):
        self._source = source

    def source(self, account, region):
        return self._source

    calls_per_second = 1_000.0

    def owner(self, account):
        return account

    def rate(self, account):
        return self.calls_per_second


class Harbour:
    """A fleet on a world that is over: whoever reads all of it once knows the truth."""

    def __init__(self, directory, seed):
        self.world = make_world(random.Random(seed), count=80, ids="both")
        self.source = MemorySource(world=self.world, now=END_MS)
        life = Life(self.source, directory)
        life.ledger.close()
        self.spec = replace(life.spec, poll_interval_ms=1_000, initial_lookback_ms=7_200_000)
        self.ledger = SqliteLedger(directory / "fleet.db")
        self.totals = Totals(zero_hold_ms=0, max_series=20_000, now_ms=lambda: END_MS)
        self.metrics = SelfMetrics(version="test", now_ms=lambda: END_MS)
        self.stop = threading.Event()
        self.scheduler = BackgroundScheduler(
            executors={"default": ThreadPoolExecutor(8)},
            job_defaults={"coalesce": True, "max_instances": 1, "misfire_grace_time": None},
            timezone=UTC,
        )
        self.rules = shipped_rules()
        self.recorder = self.new_recorder()
        self.place = OnePlace(self.source)
        self.fleet = Fleet(
            places=self.place,
            ledger=self.ledger,
            totals=self.totals,
            self_metrics=self.metrics,
            scheduler=self.scheduler,
            stop=self.stop,
        )

    def new_recorder(self):
        return Recorder(
            wants=lambda _status, _cause: True,
            admit=self.totals.admit,
            labelling=Labelling(),
            span_options=None,
        )

    def apply(self, *specs):
        self.fleet.apply(specs, rules=self.rules, recorder=self.recorder)

    def states(self):
        return {status.name: status.state for status in self.fleet.statuses()}

    def counted(self):
        return Counter(
            {
                row.key.labels[3:]: row.value
                for row in self.ledger.series()
                if row.key.metric == "aws_apigateway_failed_requests_total"
            }
        )


@pytest.fixture
def harbour():
    with scratch() as directory, sailing(Harbour(Path(directory), 7)) as made:
        yield made


@contextmanager
def sailing(harbour):
    harbour.scheduler.start()
    try:
        yield harbour
    finally:
        harbour.stop.set()
        harbour.scheduler.shutdown()
        harbour.ledger.close()


def test_a_watch_counts_the_truth(harbour):
    harbour.apply(harbour.spec)
    until(lambda: harbour.counted() == harbour.world.failures())


def test_a_changed_watch_waits_for_the_poll_under_way_and_counts_nothing_twice(harbour):
    gate = harbour.source.fault = Gate()
    harbour.apply(harbour.spec)
    assert gate.arrived.acquire(timeout=10)
    for max_request_ms in (31_000, 32_000, 33_000):
        harbour.apply(replace(harbour.spec, max_request_ms=max_request_ms))
    assert harbour.states() == {"orders-prod": "waiting"}
    assert not gate.arrived.acquire(timeout=1.5), "the new one polls while the old one does"
    gate.may_pass.set()
    until(lambda: harbour.states() == {"orders-prod": "up"})
    until(lambda: harbour.counted() == harbour.world.failures())
    assert gate.most_at_once == 1


def test_groups_may_change_hands_in_the_middle_of_a_poll(harbour):
    alone = [
        replace(harbour.spec, name=name, groups=tuple(item for item in harbour.spec.groups if item.group == group))
        for name, group in (("access", ACCESS), ("execution", EXECUTION))
    ]
    gate = harbour.source.fault = Gate()
    harbour.apply(harbour.spec)
    assert gate.arrived.acquire(timeout=10)
    harbour.apply(alone[0])
    harbour.apply(harbour.spec)
    gate.may_pass.set()
    until(lambda: harbour.states() == {"orders-prod": "up"})
    until(lambda: harbour.counted() == harbour.world.failures())
    assert gate.most_at_once == 1


def test_what_is_applied_again_goes_on_undisturbed(harbour):
    harbour.apply(harbour.spec)
    until(lambda: harbour.states() == {"orders-prod": "up"})
    harbour.apply(replace(harbour.spec))
    assert harbour.states() == {"orders-prod": "up"}


def test_other_rules_or_another_recorder_make_it_anew(harbour):
    harbour.apply(harbour.spec)
    until(lambda: harbour.counted() == harbour.world.failures())
    harbour.recorder = harbour.new_recorder()
    harbour.apply(harbour.spec)
    until(lambda: harbour.states() == {"orders-prod": "up"})
    assert harbour.counted() == harbour.world.failures()


def test_a_watch_that_is_taken_away_leaves_no_metrics_behind_even_if_it_was_polling(harbour):
    gate = harbour.source.fault = Gate()
    harbour.apply(harbour.spec)
    assert gate.arrived.acquire(timeout=10)
    harbour.apply()
    gate.may_pass.set()
    until(lambda: b'watch="orders-prod"' not in harbour.metrics.render(openmetrics=False))
    assert harbour.fleet.stages() == frozenset()
    assert not harbour.fleet.not_ready()


def test_it_is_ready_when_every_watch_was_polled_once_and_as_long_as_one_of_them_works(harbour):
    other = replace(harbour.spec, name="other", groups=harbour.spec.groups[:1])
    harbour.apply(harbour.spec)
    until(lambda: not harbour.fleet.not_ready())
    gate = harbour.source.fault = Gate()
    harbour.apply(replace(harbour.spec, groups=harbour.spec.groups[1:]), other)
    assert not harbour.fleet.not_ready(), "new watches take nobody off a Service"
    gate.may_pass.set()


def failures_only(harbour):
    return harbour.metrics.registry.get_sample_value(
        "aws_apigateway_exporter_fetches_failures_only", {"watch": harbour.spec.name}
    )


def test_a_watch_fetches_failing_lines_only_while_the_call_budget_is_not_enough_for_all(harbour):
    harbour.source.filters = True
    harbour.source.page_size = 10
    groups = [replace(item, failure_patterns=failed_access_patterns("auto")) for item in harbour.spec.groups]
    harbour.apply(replace(harbour.spec, fetch="auto", groups=tuple(groups)))
    until(lambda: not harbour.fleet.not_ready())
    harbour.fleet.stretch_intervals()
    until(lambda: failures_only(harbour) == 0)

    harbour.place.calls_per_second = 0.5
    harbour.fleet.stretch_intervals()
    until(lambda: failures_only(harbour) == 1)

    harbour.place.calls_per_second = 1_000.0
    until(lambda: harbour.fleet.stretch_intervals() or failures_only(harbour) == 0)
    assert harbour.counted() == harbour.world.failures()


def test_a_watch_that_is_to_fetch_everything_does_so_however_small_the_budget_is(harbour):
    harbour.apply(harbour.spec)
    until(lambda: not harbour.fleet.not_ready())
    harbour.place.calls_per_second = 0.001
    harbour.fleet.stretch_intervals()
    assert failures_only(harbour) is None
    assert harbour.counted() == harbour.world.failures()
