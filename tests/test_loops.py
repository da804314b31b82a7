"""The loops, as Python and compiled: both do what their contract says, and the same, whatever a line holds."""

import importlib.util
import json
from collections import Counter
from operator import attrgetter
from pathlib import Path

import msgspec
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from exporter import access_format, loops
from exporter.access_format import AccessFormatError, TextFormat, pieces_of
from exporter.access_json import form_of
from exporter.access_log import CLF, CSV, XML, access_parser
from exporter.access_values import Columns, glance_from
from exporter.access_variables import GLANCE_VARIABLES
from exporter.execution_log import COMPLETED, HEAD, ROUTINE_HEADS
from exporter.model import LogEvent
from exporter.torn_json import REFUSED

SOURCE = Path(__file__).parent.parent / "exporter" / "loops.py"


def from_source():
    """The module as it is where nothing was compiled."""
    spec = importlib.util.spec_from_file_location("loops_from_source", SOURCE)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


PYTHON = from_source()
BOTH = [PYTHON, loops] if loops.COMPILED else [PYTHON]
each = pytest.mark.parametrize("module", BOTH, ids=lambda module: "compiled" if module.COMPILED else "python")


def event(message, number=0):
    return LogEvent(event_id=f"{number:056d}", at_ms=1_760_000_000_000 + number, message=message)


# ------------------------------------------------------------------------------------------------- JSON access lines

KEYS = (
    "requestId",
    "extendedRequestId",
    "responseLatency",
    "status",
    "httpMethod",
    "resourcePath",
    "error.responseType",
)
KNOWN = ("-", "-", "200", "GET", "/orders/{id}", "-")
"""Of the keys behind the first."""


def columns_of(module, first, messages, *, names=KEYS, known=None, start=0):
    """What `module` makes of lines with the keys of `first`; and how many it read."""
    tree = json.loads(first)
    line = msgspec.defstruct(
        "Line",
        [(f"f{place}", str | int | float | bool | None) for place in range(len(tree))],
        rename={f"f{place}": key for place, key in enumerate(tree)},
        forbid_unknown_fields=True,
        namespace={"absent": None},
    )
    places = {key: f"f{place}" for place, key in enumerate(tree)}
    reader = module.JsonColumns(
        msgspec.json.Decoder(line).decode,
        attrgetter(*(places.get(name, "absent") if name in names else "absent" for name in GLANCE_VARIABLES)),
        REFUSED,
        form_of(first, {key: key for key in tree if key in names}),
        len(GLANCE_VARIABLES),
    )
    columns = Columns([], [], [], [], [], [])
    read = reader.read([event(message) for message in messages], start, columns, known or {})
    return read, columns


def same_types(columns):
    """The columns with the types of what they hold: 1 is not True, nor 1.0."""
    return [[(type(value), value) for value in column] for column in columns]


@each
def test_lines_with_the_same_keys_are_read_up_to_one_with_others(module):
    def line(number):
        return json.dumps({"requestId": f"id-{number}", "status": "200", "responseLatency": str(number)})

    read, columns = columns_of(module, line(0), [line(1), line(2), '{"requestId": "x"}', line(3)])
    assert read == 2
    assert columns.request_ids == ["id-1", "id-2"]
    assert columns.responses == ["1", "2"]
    assert columns.extended_ids == [None, None]
    assert columns.routes == [("200", *[None] * 8)] * 2
    read, columns = columns_of(module, line(0), [line(1), line(2)], start=1)
    assert (read, columns.request_ids) == (1, ["id-2"])
    assert columns_of(module, line(0), [])[0] == 0


@each
def test_what_is_known_of_repeating_values_stands_for_them(module):
    line = '{"requestId":"a","status":"200"}'
    known = {("200", *[None] * 8): "known"}
    _, columns = columns_of(module, line, [line, line.replace("200", "201"), line], known=known)
    assert columns.routes == ["known", ("201", *[None] * 8), "known"]
    assert columns.row(1, columns.routes[1]) == ("a", None, None, None, None, "201", *[None] * 8)


@each
@pytest.mark.parametrize(
    ("line", "status"),
    [
        ('{"requestId":"b","status":204}', 204),
        ('{"requestId":"b","status":0}', 0),
        ('{"requestId":"b","status":-1}', -1),
        ('{"requestId":"b","status":1.5}', 1.5),
        ('{"requestId":"b","status":1e2}', 100.0),
        ('{"requestId":"b","status":999999999999999999}', 999_999_999_999_999_999),
        ('{"requestId":"b","status":9999999999999999999}', 9_999_999_999_999_999_999),
        ('{"requestId":"b","status":true}', True),
        ('{"requestId":"b","status":null}', None),
        ('{"requestId":"b","status":"204"}', "204"),
        ('{"requestId":"b", "status" : 204 }', 204),
        ('{"requestId":"b","status":204}\r\n \t', 204),
        ('{"status":204,"requestId":"b"}', 204),
    ],
)
def test_a_number_is_read_as_json_has_it(module, line, status):
    read, columns = columns_of(module, '{"requestId":"a","status":1}', [line])
    assert read == 1
    assert columns.request_ids == ["b"]
    assert same_types(columns)[-1][0][1][0] == status
    assert type(columns.routes[0][0]) is type(status)


@each
@pytest.mark.parametrize(
    "line",
    [
        "",
        "{",
        '{"requestId":"b","status":204',
        '{"requestId":"b","status":0204}',
        '{"requestId":"b","status":}',
        '{"requestId":"b","status":204}x',
        '{"requestId":"b","status":204}{"requestId":"b","status":204}',
        '{"requestId":"b\x01","status":204}',
        '{"requestId":"b","status":204,"more":1}',
        '{"requestId":"b","status":20 4}',
        '{"requestId":"b"c","status":204}',
        "\x00",
    ],
)
def test_what_is_no_json_with_these_keys_is_not_read(module, line):
    read, columns = columns_of(module, '{"requestId":"a","status":1}', [line, '{"requestId":"c","status":1}'])
    assert read == 0
    assert not any(columns)


@each
@pytest.mark.parametrize(
    ("text", "value"),
    [
        (r"a\"b", 'a"b'),
        (r"a\\", "a\\"),
        (r"\u00e9", "é"),
        ("é", "é"),
        ("\U0001f600", "\U0001f600"),
        ("", ""),
        ("\x7f", "\x7f"),
    ],
)
def test_a_text_is_read_as_json_has_it(module, text, value):
    line = '{"requestId":"%s","status":"1"}'
    for first in (line % "a", line % text):
        read, columns = columns_of(module, first, [line % text, line % "z"])
        assert (read, columns.request_ids) == (2, [value, "z"])


def test_a_form_is_what_stands_around_the_values():
    line = '{ "a": "x\\"y", "n": {"b":12, "c":"-"} , "t": true, "d":[7,"z"], "s": null }'
    between, quoted, columns = form_of(line, {"a": "requestId", "n.b": "status", "n.c": "stage"})
    assert between == ['{ "a": "', '", "n": {"b":', ', "c":"', '"} , "t": true, "d":[', ',"', '"], "s": null }']
    assert quoted == [True, False, True, False, True]
    assert columns == [GLANCE_VARIABLES.index("requestId"), GLANCE_VARIABLES.index("status"), 10, -1, -1]
    assert GLANCE_VARIABLES[10] == "stage"


@pytest.mark.parametrize("value", ["true", "null", "1.5", "-3", "1e3"])
def test_where_something_else_than_a_text_or_a_whole_number_is_wanted_lines_have_no_form(value):
    assert form_of(f'{{"a":"x","b":{value}}}', {"b": "status"}) is None


@pytest.mark.parametrize(("value", "is_kept"), [("true", True), ("null", True), ("1.0", False), ("-3", False)])
def test_no_value_is_kept_as_part_of_a_form(value, is_kept):
    form = form_of(f'{{"a":"x","b":{value}}}', {"a": "status"})
    assert (form is not None) is is_kept


@each
def test_lines_with_the_keys_but_not_the_form_are_counted_where_forms_are_of_use(module):
    line = '{"requestId":"a","status":1}'
    reader = module.JsonColumns(
        msgspec.json.Decoder(dict).decode,
        lambda found: (found["requestId"], *[None] * 13),
        REFUSED,
        form_of(line, {}),
        14,
    )
    for messages in ([line, line], ['{"requestId": "a"}', line, "{"]):
        reader.read([event(message) for message in messages], 0, Columns([], [], [], [], [], []), {})
    assert reader.misfits == (1 if module.COMPILED else 0)


@pytest.mark.skipif(not loops.COMPILED, reason="nothing was compiled: .ci/run fails where that is so")
def test_a_form_that_was_one_of_a_kind_is_learnt_anew():
    """Such as that of a line into which a caller pasted a key once more; or a stage's, before it was written otherwise."""
    parser, spaced = access_parser("auto"), '{"requestId": "a-%d", "status": "200"}'
    lines = ['{"requestId":"x","status":"404","status":"200"}', *(spaced % number for number in range(2_000))]
    for start in range(0, len(lines), 100):
        columns, unreadable = parser.look_at([event(line) for line in lines[start : start + 100]], {})
        assert not unreadable
    assert columns.request_ids == ["a-1999"]
    many = parser._look.__self__._json._learnt[0].many
    assert many.misfits == 0
    parser.look_at([event(spaced % 1), event(spaced % 2)], {})
    assert many.misfits == 0


CHARACTERS = st.sampled_from('ab019-/{}:,"\\ \t\n\x00\x1f\x7fé\U0001f600') | st.characters()
TEXTS = st.sampled_from(["-", "200", "GET", "/orders/{id}", ""]) | st.text(CHARACTERS, max_size=12)
SCALARS = TEXTS | st.integers(-3, 10**19) | st.floats(allow_nan=False, allow_infinity=False) | st.booleans() | st.none()


@st.composite
def some_lines(draw):
    """A line, and others: with its keys as they stood, or spaced, ordered or escaped otherwise, torn, or with others."""
    keys = draw(st.lists(st.sampled_from([*KEYS, "ip", "path"]), min_size=1, max_size=9, unique=True))
    separators = draw(st.sampled_from([(",", ":"), (", ", ": "), (" , ", " :")]))
    escaped = draw(st.booleans())

    def line(values):
        return json.dumps(dict(zip(keys, values, strict=True)), separators=separators, ensure_ascii=escaped)

    values = st.lists(draw(st.sampled_from([TEXTS, SCALARS])), min_size=len(keys), max_size=len(keys)).map(line)
    pasted = st.lists(TEXTS, min_size=len(keys), max_size=len(keys)).map(
        lambda found: (
            "{"
            + separators[0].join(f'"{key}"{separators[1]}"{text}"' for key, text in zip(keys, found, strict=True))
            + "}"
        )
    )
    cut = st.tuples(values, st.integers(0, 200)).map(lambda pair: pair[0][: pair[1]])
    padded = st.tuples(values, st.text(" \t\r\n}x", max_size=3)).map("".join)
    return draw(values), draw(st.lists(values | pasted | cut | padded | TEXTS, max_size=12))


@pytest.mark.skipif(not loops.COMPILED, reason="nothing was compiled: .ci/run fails where that is so")
@settings(max_examples=300)
@given(some_lines(), st.booleans(), st.integers(0, 3))
def test_compiled_columns_are_those_of_python(drawn, knows, start):
    first, messages = drawn
    known = {("200", *[None] * 8): "known", (None,) * 9: 1.5} if knows else {}
    start = min(start, len(messages))
    expected = columns_of(PYTHON, first, messages, known=known, start=start)
    found = columns_of(loops, first, messages, known=known, start=start)
    assert found[0] == expected[0]
    assert same_types(found[1]) == same_types(expected[1])


@settings(max_examples=200)
@given(some_lines())
def test_lines_taken_together_say_what_each_says_alone(drawn):
    first, messages = drawn
    together, alone = access_parser("auto"), access_parser("auto")
    events = [event(message) for message in [first, first, *messages, first]]
    columns, unreadable = together.look_at(events, {})
    read = [place for place in range(len(events)) if place not in unreadable]
    found = {place: glance_from(columns.row(row, columns.routes[row])) for row, place in enumerate(read)} | unreadable
    assert [found[place] for place in range(len(events))] == [alone.glance(one.message) for one in events]


# ------------------------------------------------------------------------------------------------- other access lines


def form_of_text(spec):
    """The form of a format's lines; None where it has none."""
    pieces = pieces_of(spec)
    return access_format._form(pieces, access_format._compile(pieces).reaches)


def text_columns_of(module, spec, messages, *, known=None, start=0):
    """What `module` makes of lines in the format `spec`; and how many it read."""
    reader = module.TextColumns(TextFormat(pieces_of(spec))._row_of, form_of_text(spec), len(GLANCE_VARIABLES))
    columns = Columns([], [], [], [], [], [])
    read = reader.read([event(message) for message in messages], start, columns, known or {})
    return read, columns


@pytest.mark.parametrize("spec", [*CLF, *CSV, *XML])
def test_lines_of_all_samples_have_a_form(spec):
    assert form_of_text(spec) is not None


LINE = '203.0.113.7 - - [26/Jun/2024:12:00:00 +0000] "GET /orders/{id} HTTP/1.1" 504 41 id-1 Vwc2MGFUrPEFV_g='


@each
def test_lines_of_one_format_are_read_up_to_one_of_another(module):
    lines = [LINE, f" {LINE}\n", LINE.replace("id-1", "id-2"), LINE.replace("504", "5x4"), LINE]
    read, columns = text_columns_of(module, CLF[0], lines)
    assert read == 3
    assert columns.request_ids == ["id-1", "id-1", "id-2"]
    assert columns.extended_ids == ["Vwc2MGFUrPEFV_g="] * 3
    assert columns.routes == [("504", "GET", "/orders/{id}", *[None] * 6)] * 3
    assert text_columns_of(module, CLF[0], lines, start=4)[1].request_ids == ["id-1"]
    assert text_columns_of(module, CLF[0], lines, start=3)[0] == 0
    assert text_columns_of(module, CLF[0], [])[0] == 0


@each
def test_what_is_known_of_repeating_texts_stands_for_them_whether_a_line_fits_the_form_or_not(module):
    known = {("504", "GET", "/orders/{id}", *[None] * 6): "known"}
    odd = LINE.replace("203.0.113.7", "\u0663")  # no form, and no line of the format
    lines = [LINE, LINE.replace("{id}", "é"), LINE, odd]
    read, columns = text_columns_of(module, CLF[0], lines, known=known)
    assert read == 3
    assert columns.routes == ["known", ("504", "GET", "/orders/é", *[None] * 6), "known"]


@each
@pytest.mark.parametrize(
    ("spec", "line", "values"),
    [
        ("$context.routeKey $context.status", "GET /pets 200", ("200", None, None, "GET /pets")),
        ("$context.routeKey $context.status", "$default 200", ("200", None, None, "$default")),
        ("$context.routeKey $context.status", "- 200", ("200", None, None, "-")),
        ("$context.routeKey $context.status", "GET pets 200", None),
        ("$context.routeKey $context.status", f"{'A' * 16} /x 200", ("200", None, None, f"{'A' * 16} /x")),
        ("$context.routeKey $context.status", f"{'A' * 17} /x 200", None),
        ("$context.resourcePath|$context.status", "/a|200", ("200", None, "/a", None)),
        ("$context.resourcePath|$context.status", "-|-", ("-", None, "-", None)),
        ("$context.resourcePath|$context.status", "a|200", None),
        ("$context.resourcePath|$context.status", f"/{'a' * 2047}|200", ("200", None, f"/{'a' * 2047}", None)),
        ("$context.resourcePath|$context.status", f"/{'a' * 2048}|200", None),
        ("$context.resourcePath|$context.status", "/a|2000", None),
        ("$context.status|$context.resourcePath", "200|/a|b", ("200", None, "/a|b", None)),
        ("$context.status|$context.error.message", "200|a | b", ("200", None, None, None)),
        ("$context.status|$context.error.message", "200|", ("200", None, None, None)),
        ("$context.status|$context.error.message", "\x1f200|a\x1f", ("200", None, None, None)),
        ("$context.integration.error|$context.status", "\x1fa|200", ("200", *[None] * 6, "a")),
        ("$context.status|$context.integration.error", "200|a\x1f\n", ("200", *[None] * 6, "a")),
        ("$context.identity.userAgent | $context.status", "a || b | 200", ("200", None, None, None)),
        ("$context.identity.userAgent | $context.status", "a |200", None),
    ],
)
def test_values_reach_as_far_as_the_format_says(module, spec, line, values):
    read, columns = text_columns_of(module, spec, [line])
    assert read == (values is not None)
    if values is not None:
        assert columns.routes == [(*values, *[None] * (9 - len(values)))]


TEXT_SPECS = (
    *(CLF[0], CLF[1], CLF[-1], CSV[0], CSV[-1], XML[0]),
    "$context.status - $context.identity.userAgent | $context.requestId",
    "$context.requestId\t$context.error.message\t$context.status\t$context.error.message",
    "$context.requestId,$context.path,$context.routeKey,$context.status",
    "$context.routeKey/$context.status|$context.requestId",
    "$context.path-$context.status-$context.requestId",
    "$context.requestId $context.identity.userAgent",
    "[$context.requestTime] $context.requestId $context.responseLatency ua=$context.identity.userAgent e=$context.status",
    "$context.requestId :: $context.responseLatency::$context.integrationLatency;;$context.status",
    "$context.identity.user $context.requestId $context.requestId $context.status $context.integration.latency",
)
TEXT_VALUES = (
    *("-", "--", "200", "504", "5044", "GET", "GET /", "GET /a b", "/", "/orders/{id}", "/-", "-/", "$default", "id-1"),
    *("", " ", "  ", ",", ", ", "|", "::", ":", ";", "\t", "<", '"', "]", "[", "x" * 300, "9" * 25, "A" * 17 + " /x"),
    *("26/Jun/2024:12:00:00 +0000", "HTTP/1.1", "é", "\x1c", "\x00", "\x7f", "\n", "Mozilla/5.0 (X11; Linux) | x"),
)
USUAL = {
    "status": ["200", "504", "-"],
    "httpMethod": ["GET", "PATCH", "-"],
    "resourcePath": ["/orders/{id}", "/", "-"],
    "path": ["/orders/42", "/a,b", "/-", "-"],
    "routeKey": ["GET /pets", "$default", "-"],
    "requestTime": ["26/Jun/2024:12:00:00 +0000"],
    "protocol": ["HTTP/1.1"],
    "responseLength": ["41", "-"],
    "identity.sourceIp": ["203.0.113.7", "::1"],
    "identity.userAgent": ["curl/8", "Mozilla/5.0 (X11; Linux)", "-", ""],
    "error.message": ["Forbidden", "a b", "-", ""],
    "error.messageString": ['"Forbidden"', "-"],
    "error.responseType": ["THROTTLED", "-"],
    **{
        name: ["0", "7", "29000", "007", "1.5", "-"]
        for name in ("responseLatency", "integrationLatency", "integration.latency")
    },
}
_SEPARATORS = st.sampled_from(
    [" ", ",", "|", " | ", '"', '" "', "\t", " - ", "-", "/", ":", "::", "]", "[", "<a>", "é"]
)
_NAMES = st.sampled_from(
    [*GLANCE_VARIABLES, "path", "identity.userAgent", "error.message", "error.messageString", "requestTime", "protocol"]
)


@st.composite
def text_lines(draw):
    """A format that can be read, and lines: filled in, torn, padded, or of anything."""
    spec = draw(st.sampled_from(TEXT_SPECS))
    if draw(st.booleans()):
        parts = draw(st.lists(st.tuples(_NAMES, _SEPARATORS), min_size=1, max_size=5))
        spec = draw(st.sampled_from(["", "["])) + "".join(f"$context.{name}{after}" for name, after in parts)
    try:
        pieces = pieces_of(spec.removesuffix(draw(st.sampled_from(["", spec[-1]]))))
        TextFormat(pieces)
    except AccessFormatError:
        assume(False)
    spec = "".join(piece if isinstance(piece, str) else f"$context.{piece.name}" for piece in pieces)
    usual = [[piece] if isinstance(piece, str) else USUAL.get(piece.name, ["id-1", "-"]) for piece in pieces]
    good = st.tuples(*map(st.sampled_from, usual)).map(list)
    places = [place for place, piece in enumerate(pieces) if not isinstance(piece, str)]
    odd = st.tuples(good, st.sampled_from(places), st.sampled_from(TEXT_VALUES) | st.text(CHARACTERS, max_size=4)).map(
        lambda told: [*told[0][: told[1]], told[2], *told[0][told[1] + 1 :]]
    )
    line = (good | odd).map("".join)
    padded = st.tuples(st.text(" \t\r\n\x0b\x1fx", max_size=2), line, st.text(" \t\r\n\x0b\x1fx", max_size=2))
    cut = st.tuples(line, st.integers(0, 120)).map(lambda pair: pair[0][: pair[1]])
    return spec, draw(st.lists(line | padded.map("".join) | cut | TEXTS, min_size=1, max_size=8))


OF_SEVERAL_FORMATS = (
    *(LINE, LINE.replace("504", "200"), LINE.replace("] ", "]"), LINE.rpartition(" ")[0], LINE.replace("{id}", "é")),
    "203.0.113.7,-,-,26/Jun/2024:12:00:00 +0000,GET,/orders/{id},HTTP/1.1,504,41,id-1,Vwc2MGFUrPEFV_g=",
    "203.0.113.7,26/Jun/2024:12:00:00 +0000,GET,GET /pets,HTTP/1.1,200,2,JKJaXmPLvHcESHA=",
    '<request id="id-1"> <status>504</status> <protocol>HTTP/1.1</protocol> </request>',
    (
        '<request id="id-1"> <ip>203.0.113.7</ip> <caller>-</caller> <user>-</user> <requestTime>26/Jun/2024:12:00:00 +0000'
        "</requestTime> <httpMethod>GET</httpMethod> <resourcePath>/a</resourcePath> <status>504</status> <protocol>HTTP/1.1"
        "</protocol> <responseLength>41</responseLength> </request>"
    ),
    *('{"requestId":"id-1","status":"504"}', '{"requestId":"id-2","status":200}', '{"requestId":"id-3"', '{"a":1}'),
    *("id-1|504|a | b", "id-2|200|", "id-1 | 504", "", " ", "\n", "<", "{", "{}", "-", "é"),
)


@settings(max_examples=300)
@given(
    st.sampled_from(
        [
            *("auto", "clf", "csv", "json", "xml", "$context.requestId|$context.status|$context.integration.error"),
            '{"requestId":"$context.requestId","status":"$context.status"}',
        ]
    ),
    st.lists(st.sampled_from(OF_SEVERAL_FORMATS), max_size=12),
)
def test_lines_of_several_formats_taken_together_say_what_each_says_alone(spec, messages):
    parser = access_parser(spec)
    events = [event(message) for message in messages]
    columns, unreadable = parser.look_at(events, {})
    read = [place for place in range(len(events)) if place not in unreadable]
    assert [len(column) for column in columns] == [len(read)] * len(columns)
    found = {place: glance_from(columns.row(row, columns.routes[row])) for row, place in enumerate(read)} | unreadable
    assert [found[place] for place in range(len(events))] == [access_parser(spec).glance(text) for text in messages]


@pytest.mark.skipif(not loops.COMPILED, reason="nothing was compiled: .ci/run fails where that is so")
@settings(max_examples=300)
@given(text_lines(), st.booleans())
def test_compiled_columns_of_texts_are_those_of_the_expression(drawn, knows):
    spec, messages = drawn
    known = {("200", *[None] * 8): "known", (None,) * 9: 1.5} if knows else {}
    for start in range(len(messages)):
        expected = text_columns_of(PYTHON, spec, messages, known=known, start=start)
        found = text_columns_of(loops, spec, messages, known=known, start=start)
        assert found[0] == expected[0]
        assert same_types(found[1]) == same_types(expected[1])


# ------------------------------------------------------------------------------------------------- execution lines

ID = "594dd09c-1f6a-4c80-8d1a-%012d"
LINK, TRAILER = "Extended Request Id: x=", "X-ray Tracing ID : Root=1-2"
KINDS = {
    **dict.fromkeys((f") {head}" for head in ROUTINE_HEADS), loops.MIDDLE),
    f") {TRAILER[:HEAD]}": loops.TRAILER,
    f") {LINK[:HEAD]}": loops.LINK,
    f") {COMPLETED[:HEAD]}": loops.TERMINAL,
}
STRETCH_MS = 10
MIDDLE = "Starting execution for request: 1"
REASON = "Execution failed due to configuration error: Invalid permissions on Lambda function"


class Taken:
    """What a module's loop made of some events; the caller does nothing with those that are left to it."""

    def __init__(self, module, events, *, open_ids=(), shared=(), lines=()):
        self.lines_by_id = {request_id: [event("before")] for request_id in lines}
        self.ended = {}
        self.left = []
        routine, place = module.Routine(KINDS, STRETCH_MS), -1
        while (
            place := routine.take(events, place + 1, self.lines_by_id, set(open_ids), set(shared), self.ended)
        ) < len(events):
            self.left.append(place)
        assert place == len(events)

    @property
    def told(self):
        return self.left, {key: [one.message for one in lines] for key, lines in self.lines_by_id.items()}, self.ended


def numbered(*lines):
    return [event(f"({ID % request}) {text}", number) for number, (request, text) in enumerate(lines)]


@each
def test_a_request_that_ends_well_is_counted_by_its_time_and_status(module):
    events = numbered((1, LINK), (1, MIDDLE), (2, MIDDLE), (1, COMPLETED + "204"), (1, TRAILER), (2, MIDDLE))
    left, lines, ended = Taken(module, events).told
    assert left == []
    assert lines == {ID % 2: [events[2].message, events[5].message]}
    assert ended == {(events[3].at_ms // STRETCH_MS, 204): 1}


OTHER_IDS = ("JKJaXmPLvHc%03d=", "PDS1PEC4oAMFp%02d=", "fQke_hDCDoEE%03d=")
"""Of WebSocket APIs: 15 or 16 characters."""


@each
@pytest.mark.parametrize("form", [ID, *OTHER_IDS])
def test_an_id_of_any_kind_is_filed_under(module, form):
    one, other = form % 1, form % 2
    lines = [f"({one}) {LINK}", f"({other}) {MIDDLE}", f"({one}) {COMPLETED}200", f"({one}) {TRAILER}"]
    left, kept, ended = Taken(module, [event(line, number) for number, line in enumerate(lines)]).told
    assert (left, kept, list(ended.values())) == ([], {other: [lines[1]]}, [1])
    left = Taken(module, [event(f"({one}) {text}") for text in (REASON, MIDDLE, COMPLETED + "504", "")]).left
    assert left == [0, 2, 3]
    assert {module.end_of_id(line) for line in (*lines, f"({one}) é")} == {len(one) + 1}


@each
@pytest.mark.parametrize(
    "lines",
    [
        [(1, REASON)],
        [(1, COMPLETED + "200")],
        [(3, MIDDLE)],
        [(1, LINK), (1, LINK)],
        [(1, LINK), (1, COMPLETED + "404")],
        [(1, LINK), (1, COMPLETED + "099")],
        [(1, LINK), (1, COMPLETED + "200 ")],
        [(1, LINK), (1, COMPLETED + "2000")],
        [(1, LINK), (1, COMPLETED + "2x0")],
        [(1, LINK), (1, COMPLETED + "२००")],
        [(4, LINK), (4, COMPLETED + "200")],
        [(1, LINK), (1, "Method completed")],
        [(1, LINK), (1, "")],
    ],
    ids=str,
)
def test_whatever_else_a_line_is_is_left_to_the_caller(module, lines):
    events = numbered(*lines)
    assert Taken(module, events, open_ids={ID % 3}, shared={ID % 4}).left == [len(lines) - 1]


@each
def test_a_line_beyond_ascii_is_what_it_is(module):
    """The id of it is one that no request has; but what is filed under it ends as well as any other."""
    left, lines, ended = Taken(
        module, [event("é594dd09c-1f6a-4c80-8d1a-000000000001) Method completed with status: 200")], lines={ID % 1}
    ).told
    assert (left, lines) == ([], {})
    assert [status for _, status in ended] == [200]


@each
def test_ends_are_counted_by_stretches_of_time(module):
    """Whatever time a line tells: it may be one that no machine word holds."""
    ends = [
        (0, 200),
        (9, 200),
        (9, 204),
        (9, 200),
        (10, 200),
        (-1, 200),
        (1 << 70, 200),
        (1 << 70, 200),
        (-(1 << 63), 200),
    ]
    ended = {(0, 200): 5}
    left = [event(f"({ID % number}) {COMPLETED}{status}", number) for number, (_, status) in enumerate(ends)]
    events = [msgspec.structs.replace(line, at_ms=at_ms) for line, (at_ms, _) in zip(left, ends, strict=True)]
    lines = {ID % number: [] for number in range(len(ends))}
    assert module.Routine(KINDS, STRETCH_MS).take(events, 0, lines, {}, set(), ended) == len(events)
    assert ended == {
        (0, 200): 5 + 3,
        (0, 204): 1,
        (1, 200): 1,
        (-1, 200): 1,
        ((1 << 70) // 10, 200): 2,
        (-(1 << 63) // 10, 200): 1,
    }


@each
def test_nobody_need_ask_for_what_ended(module):
    assert (
        module.Routine(KINDS, STRETCH_MS).take(
            numbered((1, MIDDLE), (1, COMPLETED + "200")), 0, lines := {}, {}, set(), None
        )
        == 2
    )
    assert not lines


EXECUTION_TEXTS = st.sampled_from(
    [
        *(LINK, TRAILER, MIDDLE, REASON),
        *(f"{COMPLETED}{status}" for status in ("200", "399", "400", "100", "99", "é", "200\n")),
        *("Method request headers: {X=é}", "Method request path:\x00", "Usage Plan check succeeded for é"),
        "Method completed wi",
    ]
) | st.text(max_size=30)
MESSAGES = st.builds(
    lambda form, request, text, wrap: wrap.format(form % request, text),
    st.sampled_from([ID, *OTHER_IDS]),
    st.integers(1, 4),
    EXECUTION_TEXTS,
    st.sampled_from(["({}) {}"] * 8 + ["({} {}", "é{}) {}", "({})\u2028{}", "{}{}", " ({}) {}"]),
) | st.text(max_size=80)


@pytest.mark.skipif(not loops.COMPILED, reason="nothing was compiled: .ci/run fails where that is so")
@settings(max_examples=400)
@given(
    st.lists(MESSAGES, max_size=30),
    *[
        st.sets(
            st.builds(lambda form, request: form % request, st.sampled_from([ID, *OTHER_IDS]), st.integers(1, 4)),
            max_size=2,
        )
        for _ in range(3)
    ],
)
def test_compiled_routine_is_that_of_python(messages, open_ids, shared, lines):
    events = [event(message, number) for number, message in enumerate(messages)]
    found, expected = (
        Taken(module, events, open_ids=open_ids, shared=shared, lines=lines).told for module in (loops, PYTHON)
    )
    assert found == expected


@pytest.mark.skipif(not loops.COMPILED, reason="nothing was compiled: .ci/run fails where that is so")
def test_heads_of_another_length_are_refused():
    with pytest.raises(ValueError, match="too short"):
        loops.Routine({"too short": 0}, STRETCH_MS)


# ------------------------------------------------------------------------------------------------- both


def ids(*texts):
    return [LogEvent(event_id=text, at_ms=0, message="") for text in texts]


@each
@pytest.mark.parametrize(
    ("texts", "after", "ascending"),
    [
        ((), "9", True),
        (("1",), "", True),
        (("1", "2"), "0", True),
        (("1", "2"), "1", False),
        (("1", "1"), "", False),
        (("2", "1"), "", False),
        (("09", "1"), "", True),
        (("1", "09"), "", False),
        (("a", "é"), "", True),
        (("é", "a"), "", False),
        (("é", "\U0001f600"), "z", True),
    ],
)
def test_ids_that_ascend_prove_that_no_event_came_twice(module, texts, after, ascending):
    assert module.are_ascending(ids(*texts), after) is ascending


@given(st.lists(st.text(st.sampled_from("019aé\U0001f600\x00"), max_size=3), max_size=6), st.text(max_size=3))
def test_ids_ascend_as_texts_do(texts, after):
    expected = all(one < other for one, other in zip([after, *texts], texts, strict=False))
    assert [module.are_ascending(ids(*texts), after) for module in BOTH] == [expected] * len(BOTH)


@each
@pytest.mark.parametrize(
    ("times", "within"),
    [
        ((), True),
        ((10,), True),
        ((19, 10, 15), True),
        ((15, 9, 15), False),
        ((15, 20), False),
        ((-(1 << 70),), False),
        ((1 << 70, 15), False),
    ],
)
def test_times_lie_within_a_window_without_its_end(module, times, within):
    events = [LogEvent(event_id="", at_ms=at_ms, message="") for at_ms in times]
    assert module.are_within(events, 10, 20) is within


@given(st.lists(st.integers(-3, 12) | st.integers(-(1 << 65), 1 << 65), max_size=5))
def test_times_lie_within_a_window_as_numbers_do(times):
    events = [LogEvent(event_id="", at_ms=at_ms, message="") for at_ms in times]
    expected = all(0 <= at_ms < 10 for at_ms in times)
    assert [module.are_within(events, 0, 10) for module in BOTH] == [expected] * len(BOTH)


class Lookalike:
    """An event of another make: it has what events have, elsewhere."""

    def __init__(self, of):
        self.event_id, self.at_ms, self.message = of.event_id, of.at_ms, of.message


@each
def test_events_of_another_make_are_read_by_name(module):
    events = [Lookalike(one) for one in numbered((1, LINK), (1, COMPLETED + "200"))]
    routine, lines, ended = module.Routine(KINDS, STRETCH_MS), {}, {}
    assert routine.take(events, 0, lines, {}, set(), ended) == 2
    assert (lines, list(ended.values())) == ({}, [1])
    assert module.are_in_order(events)
    assert module.are_within(events, events[0].at_ms, events[1].at_ms + 1)
    assert module.are_ascending(events, "")


@pytest.mark.skipif(not loops.COMPILED, reason="nothing was compiled: .ci/run fails where that is so")
@pytest.mark.parametrize("field", ["event_id", "message"])
def test_an_event_whose_text_is_none_is_refused(field):
    """`LogEvent` checks nothing when it is not decoded; nothing may be read as text that is none."""
    events = [LogEvent(**({"event_id": "1", "at_ms": 1, "message": "x"} | {field: 5}))]
    with pytest.raises(TypeError):
        loops.are_ascending(events, "") if field == "event_id" else loops.Routine(KINDS, STRETCH_MS).take(
            events, 0, {}, {}, set(), None
        )


@given(st.lists(st.integers(0, 3) | st.integers(-(1 << 65), 1 << 65), max_size=6))
def test_events_are_in_order_as_numbers_are(times):
    events = [LogEvent(event_id="", at_ms=at_ms, message="") for at_ms in times]
    assert [module.are_in_order(events) for module in BOTH] == [times == sorted(times)] * len(BOTH)


VALUES = st.sampled_from([None, "-", "1", "12", 12, 1, True, 1.0, ("-", None), ("-", None)])


@given(st.lists(VALUES | st.text(max_size=2) | st.integers(0, 5_000), max_size=60), st.lists(VALUES))
def test_values_are_tallied_by_what_they_are(values, before):
    """However many objects a value is: what lies elsewhere and equals it counts under it."""
    copies = [f"{value} "[:-1] if isinstance(value, str) else value for value in values]
    expected = Counter([*before, *values, *copies])
    for module in BOTH:
        counts = dict(Counter(before))
        module.tally(values + copies, counts)
        assert list(counts.items()) == list(expected.items()), "in the order in which they came"


@each
def test_more_values_than_are_told_apart_by_their_place_are_tallied(module):
    values = [str(number) for number in range(10_000)] * 2
    module.tally(values, counts := {"7": 1})
    assert counts == Counter([*values, "7"])


class _Text(str):
    """A text of a kind of its own, which equals any other."""

    __slots__ = ()


IDS = st.sampled_from([f"0c7b5b0c-1f6a-4c80-8d1a-{number:012x}" for number in range(40)]) | st.text(min_size=5)
IDS |= IDS.map(_Text)


@given(st.lists(VALUES | IDS), st.sets(VALUES | IDS) | st.sets(IDS))
def test_the_places_of_wanted_values(values, wanted):
    expected = [place for place, value in enumerate(values) if value in wanted]
    assert [module.places_of(values, wanted) for module in BOTH] == [expected] * len(BOTH)
    assert [module.places_of(values, dict.fromkeys(wanted)) for module in BOTH] == [expected] * len(BOTH)
