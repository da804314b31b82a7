"""Lines of a page, many at a time: every one counts once, whatever stands beside it, and no failure is passed over."""

import json
from collections import Counter
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from exporter import metrics
from exporter.access_log import access_parser
from exporter.correlate import Correlator
from exporter.model import Api, CounterKey, LogEvent, LogGroup
from exporter.taking import UNREADABLE, AccessTaker, Directory, Labelling
from exporter.tally import Seen
from exporter.tombstones import Tombstones

GROUP = LogGroup("default", "eu-west-1", "access")
START_MS = 1_760_000_000_000


class Watched(Correlator):
    """Notes which access lines it is shown."""

    def __init__(self) -> None:
        super().__init__(
            tombstones={GROUP: Tombstones()},
            has_access=True,
            describe=lambda _unit: pytest.fail("nothing is judged here"),
            classify=lambda _timeline: None,
            max_request_ms=30_000,
        )
        self.shown = []

    def take_access(self, group, event, glance):
        self.shown.append(event.event_id)
        super().take_access(group, event, glance)


def taker(correlator, apis=()):
    return AccessTaker(
        GROUP,
        parser=access_parser("auto"),
        directory=Directory(apis),
        correlator=correlator,
        admit=lambda key: key,
        labelling=Labelling(),
    )


def taken(pages, correlator, apis=()):
    reader, seen = taker(correlator, apis), Seen()
    reader.begin()
    for events in pages:
        reader.take(events, seen)
    reader.finish(seen)
    return seen.buckets


def json_line(request, style):
    """One request as three stages log it: flat, nested, and with both names of the integration's latency."""
    line = {
        "requestId": request["id"],
        "status": request["status"],
        "httpMethod": request["method"],
        "resourcePath": request["resource"],
        "apiId": request["api"],
        "stage": "prod",
    }
    response, integration = request["response_ms"], request["integration_ms"]
    if style == "flat":
        line |= {"status": str(request["status"]), "responseLatency": str(response), "integrationLatency": integration}
    elif style == "nested":
        line |= {"responseLatency": response, "integration": {"latency": integration}}
    else:
        line |= {
            "responseLatency": response,
            "integrationLatency": "-",
            "integration.latency": "-" if integration is None else str(integration),
        }
    return json.dumps(line)


requests = st.fixed_dictionaries(
    {
        "id": st.sampled_from(["a", "b", "c", "d", "e", "f", "-"]),
        "status": st.sampled_from([200, 200, 200, 201, 302, 404, 504]),
        "method": st.sampled_from(["GET", "POST"]),
        "resource": st.sampled_from(["/", "/orders/{id}"]),
        "api": st.sampled_from(["one", "one", "two"]),
        "response_ms": st.sampled_from([0, 7, 29_003]),
        "integration_ms": st.sampled_from([None, 5, 1_200]),
        "at_ms": st.integers(0, 45_000),
        "style": st.sampled_from(["flat", "flat", "flat", "nested", "two names", "text", "nothing", "nobody's"]),
    }
)


UNREADABLES = {
    "text": ("neither one format nor the other", "format_mismatch"),
    "nothing": ("  ", "empty"),
    "nobody's": ('{"requestId": "-", "httpMethod": "GET", "responseLatency": 7}', "no_known_field"),
}
"""Lines that are no requests, and why."""


def expected(lines):
    """What a reader with all the time in the world would count, line by line."""
    found: dict[int, Counter[CounterKey]] = {}
    for line in lines:
        counts = found.setdefault((START_MS + line["at_ms"]) // 10_000, Counter())
        if line["style"] in UNREADABLES:
            _, reason = UNREADABLES[line["style"]]
            counts[CounterKey(UNREADABLE, (GROUP.name, reason))] += 1
            continue
        api = Api(id=line["api"], name=line["api"], stage="prod")
        counts[metrics.requests(api, line["method"], line["resource"], line["status"])] += 1
        for histogram, ms in (
            (metrics.RESPONSE_LATENCY, line["response_ms"]),
            (metrics.INTEGRATION_LATENCY, line["integration_ms"]),
        ):
            if ms is not None:
                counts.update(metrics.latencies(histogram, api, [(ms, 1)]))
    return {bucket: {key: count for key, count in counts.items() if count} for bucket, counts in found.items()}


@given(lines=st.lists(requests, max_size=60), cuts=st.lists(st.integers(0, 60), max_size=3))
def test_whatever_lines_come_together_each_counts_once_and_what_failed_is_passed_on(lines, cuts):
    events = [
        LogEvent(
            event_id=str(number),
            at_ms=START_MS + line["at_ms"],
            message=UNREADABLES.get(line["style"], [""])[0] or json_line(line, line["style"]),
        )
        for number, line in enumerate(lines)
    ]
    bounds = [0, *sorted(cuts), len(events)]
    pages = [events[start:end] for start, end in pairwise(bounds)]
    correlator = Watched()

    found = taken(pages, correlator)

    shown = {
        bucket: {key: count for key, count in counts.items() if count}  # a sum of nothing may be there or not
        for bucket, counts in found.items()
    }
    assert shown == expected(lines)
    read = [(event, line) for event, line in zip(events, lines, strict=True) if line["style"] not in UNREADABLES]
    failed = {event.event_id for event, line in read if line["status"] >= 400}
    assert failed <= set(correlator.shown)
    assert len(correlator.shown) == len(set(correlator.shown))
    for page in pages:
        before = {line["id"] for event, line in read if line["status"] >= 400 and event in page} - {"-"}
        later = events[events.index(page[-1]) + 1 :] if page else []
        same_id = {event.event_id for event, line in read if line["id"] in before and event in later}
        assert same_id <= set(correlator.shown), "a line that an open request may need"


def test_more_lines_than_are_taken_together_and_more_stages_than_one():
    events, apis = [], [Api(id=f"api{number}", name=f"api{number}", stage="prod") for number in range(3)]
    for number in range(2_000):
        line = {
            "id": f"r{number}",
            "status": 200,
            "method": "GET",
            "resource": "/",
            "api": f"api{number % 3}",
            "response_ms": number % 50,
            "integration_ms": 1,
        }
        events.append(
            LogEvent(event_id=f"{number:04}", at_ms=START_MS + number * 40, message=json_line(line, "nested"))
        )
    found = taken([events], Watched(), apis)
    totals: Counter[CounterKey] = Counter()
    for counts in found.values():
        totals.update(counts)
    for number, api in enumerate(apis):
        mine = range(number, 2_000, 3)
        assert totals[metrics.requests(api, "GET", "/", 200)] == len(mine)
        observed = metrics.latencies(metrics.RESPONSE_LATENCY, api, [(one % 50, 1) for one in mine])
        assert {key: totals[key] for key in observed} == observed
    assert len(found) == 8, "80 seconds, in stretches of ten"


def test_a_line_unlike_all_before_it_tells_the_correlator_which_ids_are_logged():
    """A stage's format was changed: what no failure has shown yet is known by the first success of a new route."""

    def line(number, fields):
        message = json.dumps({"status": "200", "httpMethod": "GET", **fields})
        return LogEvent(event_id=f"{number:04}", at_ms=START_MS + number, message=message)

    correlator = Watched()
    before = [line(number, {"extendedRequestId": f"e{number}=", "resourcePath": "/"}) for number in range(600)]
    after = [line(600, {"requestId": "r", "extendedRequestId": "e=", "resourcePath": "/new"})]
    taken([before, after], correlator)
    assert correlator.shown[-1] == "0600"
    assert correlator._identity._joins_by_request_id is True


@pytest.mark.parametrize(
    "differing",
    [{"status": "502", "integration.error": "Lambda execution failed with status 502 of %d"}, {"httpMethod": "M%d"}],
    ids=["errors", "methods"],
)
def test_however_many_kinds_of_lines_callers_make_no_line_of_a_listing_is_kept(differing):
    reader, seen, lines = taker(Watched()), Seen(), 20_000
    reader.begin()
    for number in range(0, lines, 1_000):
        page = [
            LogEvent(
                event_id=f"{at:056d}",
                at_ms=START_MS + at // 10,
                message=json.dumps(
                    {"requestId": "-", "status": "200", "httpMethod": "GET"}
                    | {key: text % at if "%d" in text else text for key, text in differing.items()}
                ),
            )
            for at in range(number, number + 1_000)
        ]
        reader.take(page, seen)
        counted = sum(sum(counts.values()) for counts in seen.buckets.values())
        assert number + 1_000 - counted <= 5_000
    reader.finish(seen)
    (counts,) = seen.buckets.values()
    assert list(counts.values()) == [lines]
