"""Lines later than allowed are measured: a minute of each hour, an hour on."""

import random

from exporter.audit import HOUR_MS, Audit
from exporter.model import LogGroup, Window
from exporter.windows import MINUTE_MS
from tests.worlds import ACCESS, START_MS, Life, MemorySource, World, live, unavailable

MIDNIGHT = 1_759_968_000_000


def late_events(life: Life) -> float:
    value = life.self_metrics.registry.get_sample_value(
        "aws_apigateway_exporter_late_events_total", {"watch": "orders-prod", "group": ACCESS.name}
    )
    assert value is not None
    return value


def test_each_hour_of_a_group_has_one_audited_minute_however_the_frontier_moves():
    audit = Audit()
    minutes = set()
    frontier = MIDNIGHT
    rng = random.Random(1)
    while frontier < MIDNIGHT + 6 * HOUR_MS:
        step = rng.choice([MINUTE_MS, MINUTE_MS, 2 * MINUTE_MS, 7 * MINUTE_MS])
        minute = audit.minute(ACCESS, frontier, frontier + step)
        if minute is not None:
            assert frontier <= minute.start_ms
            assert minute.end_ms <= frontier + step
            minutes.add(minute)
        frontier += step
    assert len(minutes) == 6
    assert len({minute.start_ms % HOUR_MS for minute in minutes}) == 1


def test_groups_are_audited_at_different_minutes():
    offsets = {
        Audit().minute(LogGroup("a", "r", f"group-{number}"), MIDNIGHT, MIDNIGHT + 2 * HOUR_MS) for number in range(30)
    }
    assert len(offsets) > 10


def test_a_minute_is_due_once_an_hour_after_its_end():
    audit, window = Audit(), Window(MIDNIGHT, MIDNIGHT + MINUTE_MS)
    audit.note(ACCESS, window, 7)
    assert audit.due(window.end_ms + HOUR_MS - 1, [ACCESS]) == []
    assert audit.due(window.end_ms + HOUR_MS, []) == [], "a group that cannot be read waits"
    assert [due.noted for due in audit.due(window.end_ms + HOUR_MS, [ACCESS])] == [7]
    assert audit.due(window.end_ms + HOUR_MS, [ACCESS]) == []


def test_lines_that_come_after_the_watermark_are_told_and_not_counted(tmp_path):
    minute = Audit().minute(ACCESS, START_MS, START_MS + HOUR_MS)
    assert minute is not None
    world = World()
    line = '{"requestId":"%s","status":"500","httpMethod":"GET","resourcePath":"/x"}'
    for number, delay_ms in enumerate([1_000, 2_000, 60 * 60_000 - 90_000, 50 * 60_000]):
        at_ms = minute.start_ms + number * 1_000
        world.put(ACCESS, [(at_ms, line % f"id-{number}")], visible_ms=at_ms + delay_ms)
    life = Life(MemorySource(world=world, now=START_MS - 600_000), tmp_path, execution=False)
    live(life, random.Random(1), until_ms=minute.end_ms + HOUR_MS - 60_000, step_ms=60_000)
    assert late_events(life) == 0
    live(life, random.Random(1), until_ms=minute.end_ms + HOUR_MS + 180_000, step_ms=60_000)
    assert late_events(life) == 2
    assert sum(life.failures().values()) == 2
    live(life, random.Random(1), until_ms=minute.end_ms + 3 * HOUR_MS, step_ms=60_000)
    assert late_events(life) == 2
    life.ledger.close()


def test_an_audit_that_cannot_be_read_is_a_sample_less_and_no_failed_poll(tmp_path):
    minute = Audit().minute(ACCESS, START_MS, START_MS + HOUR_MS)
    assert minute is not None
    source = MemorySource(world=World(), now=START_MS - 600_000)
    life = Life(source, tmp_path, execution=False)
    live(life, random.Random(1), until_ms=minute.end_ms + HOUR_MS - 60_000, step_ms=60_000)

    plain = source.pages
    refused = []

    def pages(group, window, pattern=None, parts=1):
        if window.end_ms <= source.now - HOUR_MS:
            refused.append(window)
            raise unavailable(group)
        return plain(group, window, pattern, parts)

    source.pages = pages
    while source.now < minute.end_ms + HOUR_MS + 180_000:
        source.now += 60_000
        assert life.poll().outcome == "ok"
    assert refused == [minute]
    assert late_events(life) == 0
    life.ledger.close()
