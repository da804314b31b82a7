"""`/failures`: what is kept of failures and for how long, what of them is shown and what never is, to whom and how."""

import gc
import html
import http.client
import json
import random
import re
import shlex
import threading
import tracemalloc
from collections import Counter
from contextlib import contextmanager
from dataclasses import replace
from html.parser import HTMLParser
from urllib.parse import urlsplit

import msgspec
import pytest
from click.testing import CliRunner
from hypothesis import given
from hypothesis import strategies as st
from starlette.requests import Request

from exporter.cli import main
from exporter.config import load_config
from exporter.daemon import Daemon
from exporter.delivery import shown_options
from exporter.failures import FailurePages, RecentFailures
from exporter.failures.entry import entry_of, kind_of, shown_of
from exporter.failures.minutes import KEPT_MINUTES, MOST_CELLS, Minutes
from exporter.failures.selection import FILTERS, read_selection
from exporter.find.picture import SHOWN_FIELDS
from exporter.ledger import LedgerError
from exporter.ledger.sqlite import SqliteLedger
from exporter.metrics.self_metrics import SelfMetrics
from exporter.model import AccessGlance, AccessRecord, Api, ExecutionStep, Failure, LogGroup, RequestTimeline, Step
from exporter.record import Recorder, Told
from exporter.rules import shipped_rules
from exporter.settle import Settled, SettleReason
from exporter.spans import SpanOptions
from exporter.taking import Labelling
from exporter.units import Unit
from exporter.web import WebServer, build_app
from exporter.web.guard import HEADERS
from exporter.web_config import load_web_config
from tests import test_privacy
from tests.chromium import Chromium
from tests.test_privacy import HIDDEN, at_ms, came_out
from tests.worlds import START_MS, Life, MemorySource, live, make_world, scratch

T = 1_760_000_040_000
"""A minute's beginning."""
MINUTE = 60_000
ORDERS = Api(id="ab12cd34ef", name="orders", stage="prod", region="eu-west-1")
PETS = Api(id="ffffffffff", name="pets", stage="v1")
OPTIONS = SpanOptions(link_template="https://tempo.example/trace/{trace_id}?span={span_id}")
HOSTILE = """<script>alert(1)</script>"'`&{x}\x00\x1b[31m\u202eevil\ud800</style></title>"""


def told(
    number=1, *, cause="integration_timeout", category="integration", status=504, at_ms=T, api=ORDERS, steps=(),
    fields=None, resource="/orders/{id}", evidence="Execution failed due to a timeout error", trace_id=None,
    request_id=None, extended_id=None, latency_ms=29_012, event_id=None,
):  # fmt: skip
    """A failure that is durable; each number is another request."""
    request_id = request_id or f"{number:08x}-1f6a-4c80-8d1a-0123456789ab"
    glance = AccessGlance(
        request_id=request_id, extended_request_id=extended_id, status=status, method="GET", resource=resource,
        api_id=None, stage=None, latency_ms=latency_ms, integration_latency_ms=None, response_type=None,
    )  # fmt: skip
    access = AccessRecord(event_id=event_id or str(number), at_ms=at_ms, glance=glance, fields=fields or {})
    timeline = RequestTimeline(
        api=api, access=access, steps=tuple(steps), request_id=request_id, extended_request_id=extended_id,
        groups=(LogGroup("default", "eu-west-1", "access/orders"),),
    )  # fmt: skip
    failure = Failure(timeline=timeline, cause=cause, category=category, rule="r", evidence=evidence, refinable=False)
    unit = Unit(
        access=None, execution=(), ids=frozenset(), extended_ids=frozenset(), first_ms=at_ms, last_ms=at_ms, terminal=True
    )  # fmt: skip
    return Told(Settled(unit=unit, failure=failure, reason=SettleReason.ACCESS_ONLY, reused_id=False), trace_id)


def line(number, text, *, step=Step.OTHER, at_ms=T):
    return ExecutionStep(event_id=str(number), at_ms=at_ms + number, step=step, text=text)


def store(**changes):
    return RecentFailures(since_ms=T, **changes)


def full(failures, **changes):
    recent = store(**changes)
    recent.add(failures, OPTIONS)
    return recent


def causes_of(recent):
    return [entry.kind.cause for entry in recent.newest_first()]


# ---------------------------------------------------------------------------------------------------------- the store


def test_a_storm_of_one_cause_pushes_out_none_of_another():
    recent = full([told(0, cause="waf_failure", at_ms=T - 3_600_000)], per_cause=20)
    for lot in range(10):
        recent.add([told(lot * 1000 + n, at_ms=T + lot * 1000 + n) for n in range(1, 500)], OPTIONS)

    kept = causes_of(recent)
    assert kept.count("waf_failure") == 1
    assert kept.count("integration_timeout") == 20
    assert recent.holding().learned == 4991


def test_a_storm_of_one_stage_pushes_out_none_of_another():
    recent = full([told(0, api=PETS, at_ms=T - 1)], per_cause=5)
    recent.add([told(n, at_ms=T + n) for n in range(1, 100)], OPTIONS)

    assert [entry.kind.api_name for entry in recent.newest_first()].count("pets") == 1


@given(st.permutations(list(range(30))), st.integers(1, 30))
def test_of_each_cause_the_last_are_kept_in_whatever_order_they_are_told(order, size):
    recent = store(per_cause=7)
    failures = [told(n, at_ms=T + n) for n in order]
    for begin in range(0, len(failures), size):
        recent.add(failures[begin : begin + size], OPTIONS)

    assert [entry.at_ms - T for entry in recent.newest_first()] == [29, 28, 27, 26, 25, 24, 23]


def test_beyond_its_memory_whoever_has_most_gives_up_its_oldest():
    rare = [told(n, cause="waf_failure", at_ms=T + n) for n in range(3)]
    recent = full([*rare, *(told(100 + n, at_ms=T + n) for n in range(40))], max_bytes=30_000)

    kept = causes_of(recent)
    assert recent.holding().size_bytes <= 30_000
    assert kept.count("waf_failure") == 3
    assert 3 <= kept.count("integration_timeout") < 40
    newest = [entry.at_ms for entry in recent.newest_first() if entry.kind.cause == "integration_timeout"]
    assert newest[0] == T + 39


def test_memory_is_what_is_said_even_if_every_failure_is_as_big_as_it_can_be():
    rng = random.Random(1)

    endless = "".join(rng.choices("abcdefghijklmnopqrstuvwxyz ,.;:", k=1 << 20))

    def noise(length):
        begin = rng.randrange(len(endless) - length)
        return endless[begin : begin + length]

    limit = 1024 * 1024
    recent = store(max_bytes=limit, per_cause=1000)
    gc.collect()
    tracemalloc.start()
    try:
        for n in range(25):
            steps = [line(m, noise(9_000), step=Step.REASON) for m in range(30)]
            recent.add([told(n, steps=steps, fields={"path": noise(50_000), "error.message": noise(50_000)})], OPTIONS)
        for n in range(800):
            recent.add([told(1000 + n, cause=f"cause_{n % 40}", resource=f"/{n}", at_ms=T + n)], OPTIONS)
        gc.collect()
        used, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()

    assert recent.holding().size_bytes <= limit
    assert recent.holding().failures > 40
    assert used < 1.25 * limit + 1024 * 1024  # the counts of the charts come on top


def test_a_failure_told_again_under_its_id_takes_the_place_of_the_first():
    recent = full([told(1, status=500)])
    recent.add([told(1, status=504)], OPTIONS)

    (entry,) = recent.newest_first()
    assert entry.kind.status == 504
    assert recent.get(entry.id) is entry


def test_many_threads_may_tell_and_look_at_once():
    recent = store(per_cause=10)
    broken = []

    def tell(base):
        try:
            for n in range(40):
                recent.add([told(base + n, cause=f"cause_{n % 3}", at_ms=T + n)], OPTIONS)
                recent.newest_first(), recent.kinds(), recent.counted(0, 2**60), recent.holding()
        except Exception as error:  # noqa: BLE001 told by the test's own thread
            broken.append(error)

    threads = [threading.Thread(target=tell, args=[base]) for base in (0, 1000, 2000, 3000)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert not broken
    assert recent.holding()[::2] == (30, 160)
    assert sum(count for _, _, count in recent.counted(0, 2**60)) == 160


def test_every_failure_is_counted_over_time_kept_or_not():
    recent = full([told(n, at_ms=T + (n % 2) * MINUTE) for n in range(100)], per_cause=5)

    assert sorted((at_ms, count) for at_ms, _, count in recent.counted(0, 2**60)) == [(T, 50), (T + MINUTE, 50)]


def test_counts_are_forgotten_after_a_day_and_when_they_are_too_many():
    minutes = Minutes()
    kind = kind_of(told())
    first = T // MINUTE
    minutes.add({(first, kind): 1, (first + KEPT_MINUTES - 1, kind): 1})
    assert minutes.first_ms == T
    minutes.add({(first + KEPT_MINUTES, kind): 1})
    assert minutes.first_ms == T + (KEPT_MINUTES - 1) * MINUTE
    minutes.add({(first, kind): 5})
    assert minutes.first_ms == T + (KEPT_MINUTES - 1) * MINUTE

    kinds = [kind._replace(cause=f"cause_{n}") for n in range(MOST_CELLS)]
    minutes.add({(first + KEPT_MINUTES + 1, one): 1 for one in kinds})
    assert minutes.first_ms == T + (KEPT_MINUTES + 1) * MINUTE


# ----------------------------------------------------------------------------------- only what is durable, all of that


def lived(directory, recent, world, *, crash=0.0, until_ms=START_MS + 2_400_000, step_ms=20_000, **changes):
    """The life of a watch whose failures `recent` is told of."""
    life = Life(MemorySource(world=world), directory, show=lambda failures: recent.add(failures, OPTIONS), **changes)
    live(life, random.Random(5), until_ms=until_ms, crash=crash, step_ms=step_ms)
    return life


def test_what_is_shown_is_what_the_ledger_counted_through_crashes():
    with scratch() as directory:
        recent = store(per_cause=100_000, max_bytes=1 << 40)
        life = lived(directory, recent, make_world(random.Random(5), count=150), crash=0.2)

        counted = life.failures()
        assert life.restarts > 3
        assert recent.holding()[::2] == (counted.total(), counted.total())
        assert (
            Counter((e.method, e.resource, str(e.kind.status), e.kind.cause) for e in recent.newest_first()) == counted
        )
        life.ledger.close()


def test_what_could_not_be_committed_is_not_shown():
    class Full(SqliteLedger):
        def commit(self, commit):
            raise LedgerError("disk full")

    with scratch() as directory:
        recent = store()
        life = lived(directory, recent, make_world(random.Random(5)), open_ledger=Full)

        assert recent.holding().learned == 0
        life.ledger.close()


def test_a_recorder_hands_over_what_counts_with_the_trace_that_exists():
    handed = []
    recorder = Recorder(
        wants=lambda status, _cause: status != 429,
        admit=lambda key: key,
        labelling=Labelling(),
        span_options=OPTIONS,
        budget=lambda _status, cause: 0 if cause == "throttled" else 10,
        show=handed.extend,
    )
    lot = [told(1), told(2, status=429), told(3, status=503, cause="throttled")]
    recorded = recorder.record([item.settled for item in lot])
    assert handed == []
    recorder.keep(recorded)

    assert [item.settled.failure.timeline.status for item in handed] == [504, 503]
    assert handed[0].trace_id == "000000011f6a4c808d1a0123456789ab"
    assert handed[1].trace_id is None


# ------------------------------------------------------------------------------------------------- what is never shown


def test_no_secret_and_no_person_is_in_the_list_or_on_a_page(world):
    with scratch() as directory:
        recent = store(per_cause=100_000, max_bytes=1 << 40)
        lived(directory, recent, world, until_ms=at_ms(len(HIDDEN)) + 600_000, step_ms=400_000).ledger.close()
    pages = FailurePages(recent, causes=lambda: shipped_rules().causes, now_ms=lambda: T)
    told_by_number, listed = {}, {}
    for entry in recent.newest_first():
        seen = [body_of(pages, f"/failures/{entry.id}{form}") for form in ("", "?format=json")]
        number = int(json.loads(seen[1])["request_id"][:8], 16)
        told_by_number[number] = html.unescape("".join(seen)) + repr(entry)
        listed[number] = entry.evidence

    assert told_by_number.keys() == set(range(len(HIDDEN))), "each hiding is a failure with a page"
    assert came_out(told_by_number) == []
    assert came_out(listed) == []


world = test_privacy.world


def test_variables_of_persons_are_shown_only_where_traces_fields_opens_them():
    fields = {
        "identity.sourceIp": "203.0.113.9",
        "authorizer.principalId": "4711",
        "note": "Ms Roe",
        "path": "/o?q=Roe",
    }
    fields |= {"status": "504", "authorizer.tenant": "acme"}
    one = told(fields=fields)

    closed = shown_of(entry_of(one, kind_of(one), SpanOptions()), {})
    opened = shown_of(entry_of(one, kind_of(one), SpanOptions(allowed_fields=frozenset({"identity.sourceIp"}))), {})

    assert closed.fields == {"path": "/o", "status": "504"}
    assert opened.fields == {"identity.sourceIp": "203.0.113.9", "path": "/o", "status": "504"}
    assert not [name for name in SHOWN_FIELDS if name.startswith(("identity.", "authorizer.claims", "authorizer.pr"))]


def test_the_configuration_says_what_may_be_shown():
    text = """
watches: [{name: a, region: eu-west-1, access_log: {group: g}}]
traces: {fields: [identity.sourceIp], join: link, link_template: "https://t.example/{trace_id}"}
"""
    options = shown_options(load_config("c.yaml", text))
    assert options.allowed_fields == {"identity.sourceIp"}
    assert (options.join, options.link_template) == ("link", "https://t.example/{trace_id}")


@given(st.text(), st.text(), st.dictionaries(st.sampled_from(sorted(SHOWN_FIELDS)), st.text(), max_size=4), st.text())
def test_whatever_a_line_holds_it_becomes_an_entry_and_a_page(text, resource, fields, request_id):
    one = told(
        fields=fields, resource=resource, request_id=request_id or None, evidence=text, steps=[line(1, text)],
        extended_id=text or None, api=msgspec.structs.replace(ORDERS, name=text),
    )  # fmt: skip
    pages, recent = pages_of([one])
    (entry,) = recent.newest_first()

    assert body_of(pages, f"/failures/{entry.id}").startswith("<!DOCTYPE html>")
    assert body_of(pages, "/failures").startswith("<!DOCTYPE html>")
    assert json.loads(body_of(pages, f"/failures/{entry.id}?format=json"))["id"] == entry.id


def test_a_request_with_ten_thousand_lines_is_told_in_a_bounded_size():
    steps = [line(n, "x" * 10_000, step=Step.REASON) for n in range(10_000)]
    one = told(steps=steps)
    shown = shown_of(entry_of(one, kind_of(one), OPTIONS), {})

    assert len(shown.timeline) == 200
    assert shown.lines_left_out == 9_800
    assert max(map(len, shown.timeline)) < 5_000


# ----------------------------------------------------------------------------------------------------------- the pages


class Answer:
    def __init__(self, response):
        self.status = response.status
        self.headers = response.headers
        self.text = response.read().decode()
        self.json = json.loads(self.text) if "json" in response.headers.get("Content-Type", "") else None


def get(address, path, headers=None, method="GET"):
    connection = http.client.HTTPConnection(*address, timeout=10)
    connection.request(method, path, headers=headers or {})
    answer = Answer(connection.getresponse())
    connection.close()
    return answer


@contextmanager
def serving(pages, *, web_config=None):
    own = SelfMetrics(version="1.2.3", now_ms=lambda: 0)
    app = build_app(
        product=own, own=own, alive=lambda: True, not_ready=list, watches=list, config=str, reload=None,
        version="1.2.3", failures=() if pages is None else pages.routes(),
    )  # fmt: skip
    server = WebServer(app, "127.0.0.1:0", *(() if web_config is None else (lambda: web_config,)))
    server.start()
    try:
        yield server.address
    finally:
        server.stop()


def pages_of(failures, *, now_ms=T + 10 * MINUTE, **changes):
    recent = full(failures, **changes)
    return FailurePages(recent, causes=lambda: shipped_rules().causes, now_ms=lambda: now_ms), recent


def body_of(pages, url):
    """What a page answers, without a server in between."""
    parts = urlsplit(url)
    identity = parts.path.removeprefix("/failures").lstrip("/")
    scope = {
        "type": "http", "method": "GET", "path": parts.path, "query_string": parts.query.encode(), "headers": [],
        "path_params": {"identity": identity},
    }  # fmt: skip
    (route,) = [route for route in pages.routes() if ("{" in route.path) == bool(identity)]
    return route.endpoint(Request(scope)).body.decode()


MANY = [
    told(1, at_ms=T + 1),
    told(2, at_ms=T + 2, api=PETS, cause="throttled", category="throttle", status=429),
    told(3, at_ms=T + 5 * MINUTE, cause="backend_5xx", category="backend", status=503),
    told(4, at_ms=T + 6 * MINUTE, cause="backend_4xx", category="backend", status=404, api=PETS),
]


@pytest.fixture(scope="module")
def address():
    pages, _ = pages_of(MANY)
    with serving(pages) as bound:
        yield bound


@pytest.mark.parametrize(
    ("query", "wanted"),
    [
        ("", [404, 503, 429, 504]),
        ("api=orders", [503, 504]),
        ("api=ffffffffff", [404, 429]),
        ("stage=v1", [404, 429]),
        ("cause=throttled", [429]),
        ("category=backend", [404, 503]),
        ("status=5xx", [503, 504]),
        ("status=429,503-504", [503, 429, 504]),
        ("since=6m", [404, 503]),
        ("until=2025-10-09T08:58:00Z", [429, 504]),
        ("since=2025-10-09T10:58:00%2B02:00", [404, 503]),
        ("category=backend&status=404&api=pets", [404]),
        ("category=backend&api=&status=", [404, 503]),
        ("cause=waf_failure", []),
    ],
)
def test_filters(address, query, wanted):
    answer = get(address, f"/failures?format=json&{query}")
    assert [failure["status"] for failure in answer.json["failures"]] == wanted
    assert answer.json["matching"] == len(wanted)
    page = get(address, f"/failures?{query}")
    assert page.status == 200
    assert re.findall(r'<td [^>]*class="status[^"]*"[^>]*>(\d+)', page.text) == [str(status) for status in wanted]


@pytest.mark.parametrize(
    ("query", "said"),
    [
        ("status=teapot", "status: write `5xx`"),
        ("since=yesterday", "since: write a length of time"),
        ("until=99999999999999d", "until: write"),
        ("causes=throttled", "causes: there is no filter of this name"),
        ("before=here", "before: this is no place"),
        ("format=xml", "format: write"),
    ],
)
def test_a_filter_that_cannot_be_read_is_said_and_not_ignored(address, query, said):
    page = get(address, f"/failures?{query}")
    assert page.status == 400
    assert said in html.unescape(page.text)
    if "format" not in query:
        refused = get(address, f"/failures?{query}&format=json")
        assert (refused.status, list(refused.json["mistakes"])) == (400, [query.split("=")[0]])


@given(st.lists(st.tuples(st.sampled_from([*FILTERS, "before", "format", "x"]), st.text())))
def test_whatever_is_asked_for_there_is_an_answer(parameters):
    selection = read_selection(parameters, T)
    assert selection.takes(kind_of(told())) in (True, False)
    assert all(name in dict(parameters) for name in selection.mistakes)


def test_pages_are_fifty_long_and_go_back_and_forth_without_losing_one_even_when_new_ones_come():
    pages, recent = pages_of([told(n, at_ms=T + n // 3) for n in range(120)], per_cause=200)
    ids = [entry.id for entry in recent.newest_first()]

    def walk(rel, query):
        seen = []
        while True:
            text = body_of(pages, f"/failures{query}")
            seen.append(re.findall(r'href="/failures/([0-9a-f]{16})"', text))
            link = re.search(rf'href="/failures([^"#]*)(?:#newest)?" rel="{rel}"', text)
            if link is None:
                return seen, query
            query = html.unescape(link[1])
            recent.add([told(1000 + len(seen), at_ms=T + 10_000)], OPTIONS)

    forth, last = walk("next", "?cause=integration_timeout")
    assert [len(page) for page in forth] == [50, 50, 20]
    assert [identity for page in forth for identity in page] == ids
    assert "cause=integration_timeout" in last
    back, _ = walk("prev", last)
    assert set(ids) <= {identity for page in back for identity in page}


def test_charts_count_what_is_asked_for_in_words_and_bars(address):
    text = get(address, "/failures?api=pets").text
    assert 'aria-label="backend: 1 failure between' in text
    assert 'aria-label="throttled: 1 failure between' in text
    assert 'aria-label="integration_timeout' not in text
    assert all(drawn for drawn in re.findall(r'class="bars" d="([^"]*)"', text))


def test_the_page_says_since_when_it_knows_and_what_a_restart_does():
    pages, _ = pages_of([])
    text = re.sub("<[^>]*>", "", body_of(pages, "/failures"))
    assert "This process started at 2025-10-09 08:54:00 and knows what it has counted since: 0 failures" in text
    assert "A restart starts empty" in text
    assert "There was no failure so far." in text


STEPS = (
    line(0, "Extended Request Id: Vwc2MGFUrPEFV_g=", step=Step.REQUEST_START),
    ExecutionStep(
        event_id="1", at_ms=T + 12, step=Step.INTEGRATION_REQUEST, text="Sending request to https://b.example.com/x",
        name="https://b.example.com/x",
    ),
    line(29_010, "Execution failed due to a timeout error", step=Step.REASON),
    ExecutionStep(event_id="3", at_ms=T + 29_012, step=Step.COMPLETED, text="Method completed with status: 504", status=504),
)  # fmt: skip
ONE = told(
    7, steps=STEPS, fields={"status": "504", "resourcePath": "/orders/{id}"}, trace_id="0" * 31 + "7",
    extended_id="Vwc2MGFUrPEFV_g=",
)  # fmt: skip


def test_one_failure_tells_all_that_is_known():
    pages, recent = pages_of([ONE])
    (entry,) = recent.newest_first()
    text = html.unescape(
        re.sub(r"<style>.*?</style>|<[^>]*>", " ", body_of(pages, f"/failures/{entry.id}"), flags=re.DOTALL)
    )
    cause = shipped_rules().causes["integration_timeout"]
    for words in (
        "504 GET /orders/{id}", "orders/prod (REST, eu-west-1, ab12cd34ef)", "2025-10-09T08:54:00.000Z", "29,012 ms",
        "integration_timeout", "integration", cause.help, cause.advice, "Execution failed due to a timeout error", "rule r",
        "+29,010 ms", "+12 ms", "Method completed with status: 504", "resourcePath", "Vwc2MGFUrPEFV_g=", "access/orders",
    ):  # fmt: skip
        assert " ".join(words.split()) in " ".join(text.split()), words
    page = body_of(pages, f"/failures/{entry.id}")
    assert "<mark>Execution failed due to a timeout error</mark>" in page
    assert f'href="https://tempo.example/trace/{"0" * 31}7?span={entry.id}"' in page
    assert 'aria-label="integration: from 12 to 29,010 ms"' in page


def test_the_json_of_one_failure_is_what_find_tells_and_more():
    pages, recent = pages_of([ONE])
    (entry,) = recent.newest_first()
    one = json.loads(body_of(pages, f"/failures/{entry.id}?format=json"))

    assert one["cause"] == "integration_timeout"
    assert one["phases"][0] | {"source": ""} == {
        "name": "integration", "offset_ms": 12, "duration_ms": 28_998, "source": "", "status": None, "error": None,
    }  # fmt: skip
    assert list(zip(one["offsets_ms"], one["timeline"], strict=True))[2] == (
        29_010, "Execution failed due to a timeout error",
    )  # fmt: skip
    assert one["advice"] == shipped_rules().causes["integration_timeout"].advice
    assert one["trace_id"] == "0" * 31 + "7"


def test_a_failure_without_a_trace_has_no_link_to_one():
    pages, recent = pages_of([told()])
    (entry,) = recent.newest_first()
    assert "tempo.example" not in body_of(pages, f"/failures/{entry.id}")
    assert json.loads(body_of(pages, f"/failures/{entry.id}?format=json"))["trace_id"] is None


@pytest.mark.parametrize("request_id", ["x; rm -rf /", "$(id)", "a'b\"c", "--help", "-x", "two\nlines", "`id`"])
def test_the_find_command_is_safe_to_paste_and_find_takes_it(request_id, tmp_path):
    one = told(request_id=request_id)
    command = shown_of(entry_of(one, kind_of(one), OPTIONS), {}).find
    words = shlex.split(command)
    assert words[:3] == ["apigateway-exporter", "find", f"--request-id={request_id}"]
    path = tmp_path / "c.yaml"
    path.write_text("watches: []\n")
    result = CliRunner().invoke(main, [*words[1:], f"--config.file={path}"])
    assert "No such option" not in result.output
    assert "Error: Missing" not in result.output


@pytest.mark.parametrize("request_id", ["-", "UUID_REPLACED_INVALID_REQUEST_ID"])
def test_an_id_that_says_nothing_is_not_looked_for(request_id):
    one = told(request_id=request_id)
    assert "find --cause=integration_timeout --api=ab12cd34ef" in entry_find(one)


def entry_find(one):
    return shown_of(entry_of(one, kind_of(one), OPTIONS), {}).find


class Elements(HTMLParser):
    """Every element, and whether each was closed in its turn."""

    def __init__(self, text):
        super().__init__()
        self.seen, self.open, self.words = [], [], []
        self.feed(text)

    def handle_starttag(self, name, attributes):
        self.seen.append((name, dict(attributes)))
        if name not in {"meta", "input"}:
            self.open.append(name)

    def handle_endtag(self, name):
        assert self.open.pop() == name

    def handle_data(self, data):
        self.words.append(data)


def test_nothing_from_outside_becomes_markup():
    hostile = told(
        resource=HOSTILE, request_id=HOSTILE, extended_id=HOSTILE, evidence=HOSTILE, cause=HOSTILE, category=HOSTILE,
        steps=[line(1, HOSTILE)], fields={"status": HOSTILE, "path": HOSTILE, "integration.error": HOSTILE},
        api=msgspec.structs.replace(ORDERS, id=HOSTILE, name=HOSTILE, stage=HOSTILE, region=HOSTILE),
    )  # fmt: skip
    pages, recent = pages_of([hostile])
    (entry,) = recent.newest_first()
    for url in (
        "/failures",
        f"/failures/{entry.id}",
        "/failures/%3Cscript%3E",
        "/failures?cause=%3Cscript%3E&x=%22%3E",
    ):
        text = body_of(pages, url)
        elements = Elements(text)
        assert elements.open == []
        assert "script" not in {name for name, _ in elements.seen}
        assert not [name for _, attributes in elements.seen for name in attributes if name.startswith("on")]
        addresses = [a.get("href") or a.get("action") or "/" for _, a in elements.seen]
        assert all(address.startswith(("/", "#")) and not address.startswith("//") for address in addresses)
        assert not re.search("[\x00-\x08\x1b\u202e\ud800]", text)
    assert "alert(1)" in "".join(Elements(body_of(pages, f"/failures/{entry.id}")).words), "it is shown, as text"


@pytest.mark.parametrize("path", ["/failures/0123456789abcdef", "/failures/%3Cscript%3E", "/failures/a%00"])
def test_an_unknown_failure_is_404_in_words(address, path):
    answer = get(address, path)
    assert answer.status == 404
    assert "<script" not in answer.text
    assert "apigateway-exporter find" in answer.text
    assert get(address, f"{path}?format=json").json == {"mistakes": {"id": "no failure that is kept has this id"}}


def test_nothing_of_it_is_there_unless_it_is_enabled():
    with serving(None) as bound:
        assert get(bound, "/failures").status == 404
        assert get(bound, "/failures/0123456789abcdef").status == 404
        assert "/failures" not in get(bound, "/").text


def test_the_landing_page_leads_there_where_it_is_enabled(address):
    assert '<a href="/failures">' in get(address, "/").text


def test_it_is_behind_the_same_password_and_headers(tmp_path):
    file = tmp_path / "web.yml"
    file.write_text('basic_auth_users: {prometheus: "$2b$04$abcdefghijklmnopqrstuuYPn2DnTLvcXv1YAHCUpW7cGLR0lBhSO"}\n')
    pages, recent = pages_of(MANY)
    with serving(pages, web_config=load_web_config(str(file))) as bound:
        for path in ("/failures", f"/failures/{recent.newest_first()[0].id}", "/failures?format=json"):
            refused = get(bound, path)
            assert refused.status == 401
            assert "orders" not in refused.text
            assert refused.headers["Content-Security-Policy"] == HEADERS["Content-Security-Policy"]


def test_pages_are_not_to_be_stored_and_only_to_be_read(address):
    for path in ("/failures", "/failures?format=json", "/failures/0123456789abcdef"):
        assert get(address, path).headers["Cache-Control"] == "no-store"
        assert get(address, path, method="POST").status == 405
    assert get(address, "/failures", method="HEAD").text == ""


# ----------------------------------------------------------------------------------------------------------- the daemon


@pytest.mark.parametrize(
    ("written", "status"), [("", 404), ("web: {failures_page: false}", 404), ("web: {failures_page: true}", 200)]
)
def test_the_configuration_decides_and_a_reload_cannot_change_it(tmp_path, written, status):
    text = f"{written}\nstate: {{path: {tmp_path}/s.db}}\nwatches: []\ndiscover: null\n"
    text = text.replace("watches: []", "watches: [{name: a, region: eu-west-1, access_log: {group: g}}]")
    config = load_config("c.yaml", text)
    other = config.web.model_copy(update={"failures_page": status == 404})
    daemon = Daemon(
        replace(config, web=config.web.model_copy(update={"listen_address": type(config.web.listen_address)("127.0.0.1", 0)})),
        environ={},
        load=lambda: replace(config, web=other),
    )  # fmt: skip
    daemon._web.start()
    try:
        assert get(daemon.address, "/failures").status == status
        assert "web.failures_page: cannot change while running" in (daemon.reload() or "")
    finally:
        daemon._web.stop()
        daemon._ledger.close()


def test_every_cause_that_is_shipped_says_what_to_do():
    pages, recent = pages_of([told(n, cause=name) for n, name in enumerate(shipped_rules().causes)])
    for entry in recent.newest_first():
        one = json.loads(body_of(pages, f"/failures/{entry.id}?format=json"))
        assert one["meaning"]
        assert one["advice"]


# --------------------------------------------------------------------------------------------------------- in a browser

LOOKS = [(360, 800), (390, 844), (1280, 900), (2560, 1440)]

# Every text against the ground it stands on, by the formula of WCAG 2.
CONTRASTS = """
(() => {
  const parts = text => (text.match(/[\\d.]+/g) || [0, 0, 0, 0]).map(Number);
  const light = ([r, g, b]) => [r, g, b].map(v => v / 255)
    .map(v => v <= .04045 ? v / 12.92 : ((v + .055) / 1.055) ** 2.4)
    .reduce((sum, v, i) => sum + v * [.2126, .7152, .0722][i], 0);
  const ground = element => {
    for (let at = element; at; at = at.parentElement) {
      const color = parts(getComputedStyle(at).backgroundColor);
      if (color.length < 4 || color[3] > 0) return color;
    }
    return [255, 255, 255];
  };
  const weak = [];
  const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  while (walker.nextNode()) {
    const element = walker.currentNode.parentElement;
    if (!walker.currentNode.data.trim() || !element.getClientRects().length) continue;
    const [a, b] = [light(parts(getComputedStyle(element).color)), light(ground(element))];
    const contrast = (Math.max(a, b) + .05) / (Math.min(a, b) + .05);
    if (contrast < 4.5) weak.push([walker.currentNode.data.trim().slice(0, 40), contrast]);
  }
  return weak;
})()
"""
UNNAMED = """
[...document.querySelectorAll('a, button, input:not([type=hidden]), select, summary, [role=img]')]
  .filter(e => !(e.getAttribute('aria-label') || (e.labels && e.labels.length) || e.textContent.trim()))
  .map(e => e.outerHTML)
"""
TOO_WIDE = "document.documentElement.scrollWidth > document.documentElement.clientWidth"


@pytest.fixture(scope="module")
def browser():
    with Chromium() as browser:
        yield browser


@pytest.fixture(scope="module")
def sights():
    """A list and a page that hold all that can be hard to show."""
    long = "/orders/{id}/" + "averylongsegmentwithoutanybreak" * 8
    hostile = told(
        9, resource=long, evidence=HOSTILE + "x" * 600, steps=[*STEPS, line(29_013, HOSTILE + "y" * 3000)], at_ms=T + 9,
        fields={"status": "504", "integration.error": HOSTILE + "z" * 3000}, api=msgspec.structs.replace(ORDERS, name="n" * 120),
    )  # fmt: skip
    causes = list(shipped_rules().causes.values())
    many = [
        told(100 + n, cause=causes[n % len(causes)].name, category=causes[n % len(causes)].category, at_ms=T + n * 700)
        for n in range(200)
    ]
    pages, recent = pages_of([*MANY, *many, ONE, hostile])
    identities = {entry.at_ms: entry.id for entry in recent.newest_first()}
    with serving(pages) as (host, port):
        base = f"http://{host}:{port}"
        yield {
            "list": f"{base}/failures",
            "list, filtered by mistake": f"{base}/failures?status=teapot&cause=waf_failure&until=1h",
            "one": f"{base}/failures/{next(e.id for e in recent.newest_first() if shown_of(e, {}).trace_id)}",
            "one that is hostile": f"{base}/failures/{identities[T + 9]}",
            "one that is unknown": f"{base}/failures/0123456789abcdef",
        }


@pytest.mark.process
@pytest.mark.servers
@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
@pytest.mark.parametrize(("width", "height"), LOOKS)
def test_every_page_fits_is_legible_and_asks_for_nothing_else(browser, sights, width, height, dark):
    browser.look(width, height, dark=dark)
    for name, url in sights.items():
        browser.open(url)
        assert browser.run("document.querySelectorAll('h1').length") == 1
        assert not browser.run(TOO_WIDE), f"{name} is wider than {width} px"
        assert browser.run(CONTRASTS) == [], name
        assert browser.run(UNNAMED) == [], name
        assert browser.run("matchMedia('(prefers-color-scheme: dark)').matches") is dark
        complaints = [c for c in browser.complaints() if not (c.get("source") == "network" and c.get("url") == url)]
        assert complaints == [], name  # a refusal of the content security policy would be one
        assert browser.requests() == [url], "nothing else is fetched"
    assert browser.run("getComputedStyle(document.body).backgroundColor") == (
        "rgb(16, 21, 27)" if dark else "rgb(255, 255, 255)"
    )


@pytest.mark.process
@pytest.mark.servers
def test_the_bars_are_drawn(browser, sights):
    for name in ("list", "one"):
        browser.look(390, 844, dark=False)
        browser.open(sights[name])
        boxes = browser.run(
            "[...document.querySelectorAll('path.bars')].map(p => p.getBoundingClientRect()).map(r => [r.width, r.height])"
        )
        shown = [box for box in boxes if box[0] >= 1 and box[1] >= 1]
        assert len(shown) >= (10 if name == "list" else 1)


@pytest.mark.process
@pytest.mark.servers
def test_the_keyboard_reaches_everything_and_shows_where_it_is(browser, sights):
    browser.look(1280, 900, dark=False)
    browser.open(sights["list"])
    reached = []
    for _ in range(12):
        browser.press("Tab")
        reached.append(browser.run("document.activeElement.id || document.activeElement.textContent"))
        outline = browser.run("getComputedStyle(document.activeElement).outlineWidth")
        assert outline == "3px", reached[-1]
    assert reached[:9] == [
        "Skip to content", "API Gateway exporter", "api", "stage", "category", "cause", "status", "since", "Show",
    ]  # fmt: skip
    browser.open(sights["one"])
    stops = browser.run("[...document.querySelectorAll('a[href], [tabindex=\"0\"]')].length")
    for _ in range(stops):
        browser.press("Tab")
    assert browser.run("document.activeElement.textContent") == "As JSON"


@pytest.mark.process
@pytest.mark.servers
def test_the_form_filters_without_a_script(browser, sights):
    browser.look(1280, 900, dark=False)
    browser.open(sights["list"])
    browser.run("document.querySelector('#cause').value = 'backend_5xx'")
    browser.run("document.querySelector('button').focus()")
    browser.events.clear()
    browser.press("Enter")
    browser.wait_for_load()
    assert "cause=backend_5xx" in browser.run("location.search")
    causes = browser.run("[...document.querySelectorAll('table:last-of-type strong')].map(e => e.textContent)")
    assert set(causes) == {"backend_5xx"}
    assert browser.run("document.querySelector('#cause').value") == "backend_5xx"
