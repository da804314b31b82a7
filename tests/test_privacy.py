"""Secrets in every place a line can hold one, through the whole path: none comes out, by no way out.

The ways out are spans, log records, metrics (ours and about ourselves), the exporter's own log, the state file, and
the verdicts of `classify`. Bodies, header dumps, query values and identities must not come out at all, whatever they
hold; elsewhere, between words that are shown, secrets and personal data are cut out of the text.
"""

import gzip
import json
import logging
import random

import msgspec
import pytest
import structlog

from exporter import logs
from exporter.excerpt import read_excerpt, render_json, render_text
from exporter.find import Found, picture_of, render_picture
from exporter.rules import shipped_rules
from exporter.spans import SpanOptions
from tests.otlp_receiver import decode_records, decode_spans
from tests.worlds import ACCESS, EXECUTION, START_MS, Life, MemorySource, World, live, scratch

JWT = "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxMjM0NTY3ODkwIn0.dozjgNryP4J3jVmNHl0w5N_XgL0n3I9PlFUP0THsR8U"
SIGNATURE = "fe5f80f77d5fa3beca038a248ff027d0445342fe2855ddc963176630326f1024"
SESSION = "IQoJb3JpZ2luX2VjEJr//////////wEaCXVzLWVhc3QtMSJHMEUCIQDqZ4KfbP0lXc9m"

LAMBDA_ID = "0c7b5b0c-1f6a-4c80-8d1a-111111111111"

SECRETS = {
    # what a text may hold: what of it must not come out
    "joe.public@example.com": ("joe.public",),
    "joe.public%40example.com": ("joe.public",),
    JWT: ("dozjgNryP4J3", "eyJzdWIi"),
    "Bearer opaque-token-4711": ("opaque-token",),
    "Authorization: Basic am9lOmh1bnRlcjI=": ("am9lOmh1bnRlcjI",),
    "AKIAIOSFODNN7EXAMPLE": ("IOSFODNN7",),
    "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY": ("wJalrXUtn", "bPxRfiCY"),
    f"X-Amz-Security-Token={SESSION}": ("IQoJb3Jp", "DqZ4KfbP0"),
    f"https://bucket.s3.amazonaws.com/k?X-Amz-Credential=AKIAIOSFODNN7EXAMPLE%2F20260101&X-Amz-Signature={SIGNATURE}": (
        SIGNATURE[:12],
        "IOSFODNN7",
        "20260101",
    ),
    "/orders?api_key=ak4711confidential&page=2": ("ak4711confidential",),
    "x-api-key: ak4711confidential": ("ak4711confidential",),
    "Cookie: sid=sess4711confidential; theme=dark": ("sess4711confidential",),
    "password=hunter2hunter2": ("hunter2",),
    '{"password": "hunter2hunter2"}': ("hunter2",),
    "https://joe:hunter2hunter2@db.internal/x": ("hunter2",),
    "4111 1111 1111 1111": ("4111 1111",),
    "sk_live_4eC39HqLyjWDarjtT1": ("4eC39HqLyj",),
    "-----BEGIN PRIVATE KEY-----MIIEvQIBADANBgkq-----END PRIVATE KEY-----": ("MIIEvQIBADANBgkq",),
}
PROSE = "Ms Roe of 5 Elm Street owes us money"
"""Of no telling shape: must not come out of what is left out whole."""

LEFT_OUT = (
    "Method request query string: {{name={}}}",
    "Method request headers: {{X-Note={}, Host=api.example.com}}",
    "Method request body before transformations: {}",
    "Endpoint request headers: {{X-Note={}}}",
    "Endpoint request body after transformations: {}",
    "Endpoint response headers: {{X-Note={}}}",
    "Endpoint response body before transformations: {}",
    "Method response headers: {{X-Note={}}}",
    "Method response body after transformations: {}",
    "Endpoint request URI: https://backend.example.com/x?note={}",
    "Sending request to https://backend.example.com/x?note={}",
    "Using valid authorizer policy for principal: {}",
    "Incoming identity: {}",
)
"""Execution lines whose blank holds what was left out whole."""
SHOWN = (
    "Method request path: {{id={}}}",
    "HTTP Method: GET, Resource Path: /orders/{}",
    "Endpoint request URI: {}",
    "Sending request to {}",
    f"Lambda execution failed with status 200 due to customer function error: {{}}. Lambda request id: {LAMBDA_ID}",
    "Execution failed due to configuration error: {}",
    "Execution failed due to configuration error: Illegal character in query at index 31: https://b.example.com/x?a={}",
    "Execution failed due to configuration error: Malformed Lambda proxy response {}",
    "Execution failed due to a network error communicating with endpoint {}",
    "Unauthorized request: {}",
    "Invalid key=value pair (missing equal-sign) in Authorization header: '{}'.",
    "The Lambda function returned the following error: {}. Check your Lambda function code and try again.",
    "Authorizer error: {}",
    "Gateway response type: DEFAULT_5XX with status code: 500, error: {}",
    "AWS Integration Endpoint RequestId : {}",
    "X-ray Tracing ID : {}",
    "User: {} is not authorized to perform: execute-api:Invoke",
    'Request body does not match model schema for content type application/json: [string "{}" is too long]',
    "A line that nobody has seen before: {}",
    "API Key {} not authorized because method 'GET /orders' requires API Key",
)
"""Execution lines that are shown, with a blank in which a caller's or a function's text may stand."""
FIELDS_LEFT_OUT = (
    *("identity.userAgent", "identity.sourceIp", "identity.user", "identity.caller", "identity.userArn"),
    *("identity.apiKey", "identity.cognitoIdentityId", "identity.cognitoAuthenticationProvider"),
    *("authorizer.claims.email", "authorizer.principalId", "authorizer.tenant", "requestOverride.header.X-Note"),
    *("responseOverride.header.X-Note", "identity.clientCert.subjectDN", "note"),
)
FIELDS_SHOWN = (
    *("path", "error.message", "error.validationErrorString", "integration.error", "authorizer.error", "waf.error"),
    *("authenticate.error", "authorize.error", "integration.requestId", "awsEndpointRequestId", "authorizer.requestId"),
    *("domainName", "customDomain.basePathMatched", "integrationErrorMessage", "integration.integrationStatus"),
)


def line_of(number, **fields):
    """An access line of a failure, every phase timed."""
    timed = {f"{phase}.latency": "2" for phase in ("waf", "authenticate", "authorizer", "authorize", "integration")}
    return json.dumps(
        {
            "requestId": id_of(number), "httpMethod": "GET", "resourcePath": "/orders/{id}", "status": "500",
            "responseLatency": "40", "requestTimeEpoch": str(at_ms(number)), **timed, **fields,
        }
    )  # fmt: skip


def id_of(number):
    return f"{number:08x}-1f6a-4c80-8d1a-0123456789ab"


def at_ms(number):
    return START_MS + number * 20


def hidden():
    """Every hiding: (place, access line or None, execution lines, what must not come out)."""
    secrets = tuple(SECRETS.items())
    prose = (*secrets, (PROSE, ("Roe", "Elm Street", "owes")))
    places = [(LEFT_OUT, prose), (SHOWN, secrets)]
    for templates, texts in places:
        for template in templates:
            for text, parts in texts:
                yield template, {}, template.format(text), parts
    for fields, texts in ((FIELDS_LEFT_OUT, prose), (FIELDS_SHOWN, secrets)):
        for name in fields:
            for text, parts in texts:
                yield name, {name: text}, None, parts


HIDDEN = list(hidden())


@pytest.fixture(scope="module")
def world():
    world = World()
    for number, (_, fields, line, _) in enumerate(HIDDEN):
        begin = at_ms(number)
        lines = [
            "Extended Request Id: Vwc2MGFUrPEFV_g=",
            *([line] if line else []),
            "Method completed with status: 500",
        ]
        stamped = [(begin + 1 + index, f"({id_of(number)}) {text}") for index, text in enumerate(lines)]
        world.put(ACCESS, [(begin, line_of(number, **fields))], visible_ms=begin + 500)
        world.put(EXECUTION, stamped, visible_ms=begin + 500)
        # Nothing of what cannot be read or joined may be shown either.
        _, _, _, parts = HIDDEN[number]
        world.put(ACCESS, [(begin, f"not an access line {' '.join(parts)}")], visible_ms=begin + 500)
        world.put(EXECUTION, [(begin, f"not an execution line {' '.join(parts)}")], visible_ms=begin + 500)
    return world


@pytest.fixture(scope="module", params=["span", "logs"])
def lived(request, world):
    """What a watch made of the world: spans, log records, metrics, its state file."""
    with scratch() as directory:
        life = Life(MemorySource(world=world), directory, spans=SpanOptions(events=request.param, max_events=200))
        live(life, random.Random(1), until_ms=at_ms(len(HIDDEN)) + 600_000, step_ms=400_000)
        rows = [*life.ledger.outbox_head(1 << 30), *life.ledger.outbox_head(1 << 30, "logs")]
        shown = {
            "metrics": life.totals.render(openmetrics=True).decode(),
            "own metrics": life.self_metrics.render(openmetrics=False).decode(),
        }
        life.ledger.close()
        shown["state"] = life.path.read_bytes().decode("latin-1")
    bodies = [(row.signal, gzip.decompress(row.body)) for row in rows]
    spans = [span for signal, body in bodies if signal == "traces" for span in decode_spans(body)]
    records = [record for signal, body in bodies if signal == "logs" for record in decode_records(body)]
    return spans, records, shown


def came_out(told_by_number):
    """Which hidings did not hold: place, what came out."""
    return sorted(
        {
            (place, part)
            for number, (place, _, _, parts) in enumerate(HIDDEN)
            for part in parts
            if part in told_by_number.get(number, "")
        }
    )


def test_no_secret_is_on_a_span_or_a_log_record(lived):
    spans, records, _ = lived
    roots = {span.trace_id: span for span in spans if span.kind == "SERVER"}
    told = {}
    for item in (*spans, *records):
        number = int(roots[item.trace_id].attributes["apigateway.request_id"][:8], 16)
        told[number] = told.get(number, "") + repr(item)

    assert told.keys() == set(range(len(HIDDEN))), "each hiding is a failure with a trace"
    assert came_out(told) == []


def test_what_must_be_shown_is_shown(lived):
    """The check would see what comes out: words around a secret do."""
    spans, records, _ = lived
    text = repr(spans) + repr(records)
    for words in (
        "due to customer function error: ", "A line that nobody has seen before: ", "https://backend.example.com/x",
        "Method request body before transformations: [", "X-ray Tracing ID : ", "https://db.internal/x",
    ):  # fmt: skip
        assert words in text


@pytest.mark.parametrize("way", ["metrics", "own metrics", "state"])
def test_no_secret_is_in_metrics_or_the_state_file(lived, way):
    _, _, shown = lived
    parts = {part for _, _, _, parts in HIDDEN for part in parts}

    assert len(shown[way]) > 1000
    assert sorted(part for part in parts if part in shown[way]) == []


@pytest.mark.parametrize("render", [render_json, render_text])
def test_no_secret_is_in_a_verdict(render):
    rules = shipped_rules()
    told = {}
    for number, (_, fields, line, _) in enumerate(HIDDEN):
        lines = [line_of(number, **fields), f"({id_of(number)}) {line}" if line else ""]
        excerpt = read_excerpt("\n".join([*lines, f"({id_of(number)}) Method completed with status: 500"]))
        told[number] = "\n".join(render(timeline, rules.classify(timeline)) for timeline in excerpt)

    prose = {"Roe", "Elm Street", "owes"}
    # A person who pastes a log asks for its fields by name; what has no telling shape stays in them.
    assert [(place, part) for place, part in came_out(told) if part not in prose or place in LEFT_OUT] == []


@pytest.mark.parametrize("render", [lambda picture: msgspec.json.encode(picture).decode(), render_picture])
def test_no_secret_and_no_identity_is_in_what_find_shows(render):
    rules = shipped_rules()
    told = {}
    for number, (_, fields, line, _) in enumerate(HIDDEN):
        lines = [line_of(number, **fields), f"({id_of(number)}) {line}" if line else ""]
        excerpt = read_excerpt("\n".join([*lines, f"({id_of(number)}) Method completed with status: 500"]))
        for timeline in excerpt:
            failure = rules.classify(timeline)
            found = Found(unit=None, timeline=timeline, failure=failure, reused_id=False, complete=True)
            picture = picture_of(found, causes=rules.causes.values(), options=SpanOptions())
            told[number] = told.get(number, "") + render(picture)

    assert told.keys() == set(range(len(HIDDEN)))
    assert came_out(told) == []


@pytest.mark.parametrize("log_format", ["logfmt", "json"])
def test_the_log_cuts_secrets_out_even_of_what_it_should_never_have_been_given(log_format, capfd):
    """A library's warning, a receiver's answer, the message of an exception that nobody foresaw."""
    logs.configure("debug", log_format)
    for text in SECRETS:
        structlog.get_logger("exporter").warning("spans given up", said=text)
        logging.getLogger("some.library").error("connection is broken: %s", text)
        try:
            float(text)
        except ValueError:
            structlog.get_logger("exporter").exception("poll failed unexpectedly")
    log = capfd.readouterr().err

    assert log.count("spans given up") == log.count("is broken") == len(SECRETS)
    assert log.count("ValueError: could not convert string to float: ") == len(SECRETS)
    assert sorted(part for parts in SECRETS.values() for part in parts if part in log) == []
