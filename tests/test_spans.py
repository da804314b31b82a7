"""A failure as a trace: the waterfall, events, joining, privacy and names, read back from the bytes that are sent."""

import ast
import gzip
import itertools
import json
import pkgutil
import re
import textwrap
import time
from pathlib import Path

import opentelemetry.semconv._incubating.attributes as semconv_attributes
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from opentelemetry.semconv.schemas import Schemas

from exporter import execution_log
from exporter.access_log import access_parser
from exporter.model import (
    AccessGlance,
    AccessRecord,
    Api,
    ExecutionStep,
    Failure,
    LogEvent,
    LogGroup,
    PhaseOutcome,
    RequestTimeline,
    Step,
)
from exporter.span_batch import pack
from exporter.spans import SpanOptions, failure_spans, span_ids, trace_url
from tests.otlp_receiver import decode_records, decode_spans

T = 1_700_000_000_000
ID = "17cb49b2-c061-4fb4-9f1c-1d2f5d1c9f00"
XRAY = "1-5759e988-bd862e3fe1be46a994272793"
XRAY_HEX = "5759e988bd862e3fe1be46a994272793"
TRACEPARENT = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
LAMBDA = (
    "https://lambda.eu-west-1.amazonaws.com/2015-03-31/functions/"
    "arn:aws:lambda:eu-west-1:123456789012:function:orders-create:live/invocations"
)
LAMBDA_ID = "a1b2c3d4-0000-4000-8000-000000000001"
ORDERS = Api(id="ab12cd34ef", name="orders", stage="prod", type="REST", region="eu-west-1", account_id="123456789012")
ACCESS = {
    "requestId": ID,
    "extendedRequestId": "Vwc2MGFUrPEFV_g=",
    "httpMethod": "POST",
    "resourcePath": "/orders/{id}",
    "requestTimeEpoch": str(T),
}
PARSER = access_parser("auto")
DEFAULTS = SpanOptions()


def access_of(**fields):
    line = json.dumps({**ACCESS, **{key.replace("__", "."): value for key, value in fields.items()}})
    record = PARSER.parse(
        LogEvent(event_id="34594411449411532791988959220823609535420837773733789696", at_ms=T, message=line)
    )
    assert isinstance(record, AccessRecord)
    return record


def steps_of(*lines):
    """Execution lines as `(milliseconds after T, text)`."""
    steps = []
    for number, (after_ms, text) in enumerate(lines):
        read = execution_log.parse(LogEvent(event_id=str(number), at_ms=T + after_ms, message=f"({ID}) {text}"))
        steps.append(read[1])
    return tuple(steps)


def failure_of(cause, category, *, access=None, lines=(), evidence="the evidence", api=ORDERS, request_id=ID):
    return Failure(
        timeline=RequestTimeline(
            api=api,
            access=access,
            steps=steps_of(*lines),
            request_id=request_id,
            extended_request_id=access.glance.extended_request_id if access else None,
            groups=(LogGroup("default", "eu-west-1", "access/orders"), LogGroup("default", "eu-west-1", "execution")),
        ),
        cause=cause,
        category=category,
        rule="a-rule",
        evidence=evidence,
        refinable=False,
    )


def sent(*failures, options=DEFAULTS, **facts):
    """The spans as a receiver gets them."""
    batches = pack([failure_spans(failure, options, **facts) for failure in failures])
    return [span for batch in batches if batch.signal == "traces" for span in decode_spans(gzip.decompress(batch.body))]


def records_sent(*failures, options, **facts):
    """The log records as a receiver gets them."""
    batches = pack([failure_spans(failure, options, **facts) for failure in failures])
    return [
        record for batch in batches if batch.signal == "logs" for record in decode_records(gzip.decompress(batch.body))
    ]


def root_of(*args, **kwargs):
    return sent(failure_of("integration_timeout", "integration", *args, **kwargs))[0]


def tree(spans):
    """Spans as people see them: times relative to the root's start, in milliseconds."""
    root = spans[0]
    shown = []
    for span in spans:
        assert span is root or (span.parent_span_id, span.trace_id) == (root.span_id, root.trace_id)
        start, end = ((at - root.start_ns) // 1_000_000 for at in (span.start_ns, span.end_ns))
        error = f" ERROR {span.attributes['error.type']}" if span.status == "ERROR" else ""
        code = (
            f" {span.attributes['http.response.status_code']}" if "http.response.status_code" in span.attributes else ""
        )
        indent = "" if span is root else "  "
        source = span.attributes["apigateway.time_source"]
        shown.append(f"{indent}{span.name} [{span.kind}] {start}..{end} {source}{code}{error}")
        shown += [
            f"  * {(event.at_ns - root.start_ns) // 1_000_000} {event.name} {event.attributes['apigateway.text']}"
            for event in span.events
        ]
    return "\n".join(shown)


def picture(text):
    return textwrap.dedent(text).strip()


START = (
    (0, "Extended Request Id: Vwc2MGFUrPEFV_g="),
    (
        1,
        "API Key authorized because method 'POST /orders/{id}' does not require API Key. Request will not contribute to throttle or quota limits",
    ),
    (2, "Starting execution for request: " + ID),
)
TIMEOUT = (
    *START,
    (12, f"Sending request to {LAMBDA}"),
    (29_012, "Execution failed due to a timeout error"),
    (29_013, "Method completed with status: 504"),
)


# ------------------------------------------------------------------------------------------------------------ waterfall


def test_an_integration_timeout_shows_29_seconds_in_the_integration():
    access = access_of(
        status="504", responseLatency="29014", integrationLatency="29000", error__responseType="INTEGRATION_TIMEOUT"
    )

    spans = sent(failure_of("integration_timeout", "integration", access=access, lines=TIMEOUT))

    assert tree(spans) == picture(f"""
        POST /orders/{{id}} [SERVER] 0..29014 logged 504 ERROR integration_timeout
          * 0 apigateway.request.start Extended Request Id: Vwc2MGFUrPEFV_g=
          * 1 apigateway.request.start {START[1][1]}
          * 2 apigateway.request.start Starting execution for request: {ID}
          * 12 apigateway.integration.request Sending request to {LAMBDA}
          * 29012 apigateway.reason Execution failed due to a timeout error
          * 29013 apigateway.completed Method completed with status: 504
          integration [CLIENT] 12..29012 logged ERROR integration_timeout
        """)


def test_without_access_log_the_lines_time_the_request():
    spans = sent(failure_of("integration_timeout", "integration", lines=TIMEOUT))

    assert [line for line in tree(spans).splitlines() if "*" not in line] == [
        "POST /orders/{id} [SERVER] 0..29013 lines 504 ERROR integration_timeout",
        "  integration [CLIENT] 12..29012 lines ERROR integration_timeout",
    ]


def test_without_execution_log_the_integration_ends_with_the_response_and_the_rest_precedes_it():
    access = access_of(
        status="504",
        responseLatency="29050",
        integrationLatency="29000",
        waf__latency="4",
        waf__status="200",
        authorizer__latency="38",
        authorizer__status="200",
    )

    assert tree(sent(failure_of("integration_timeout", "integration", access=access))) == picture("""
        POST /orders/{id} [SERVER] 0..29050 logged 504 ERROR integration_timeout
          waf [INTERNAL] 0..4 placed
          authorizer [INTERNAL] 4..42 placed
          integration [CLIENT] 50..29050 placed ERROR integration_timeout
        """)


def test_a_timeout_whose_integration_nobody_timed_gets_what_the_other_phases_leave():
    access = access_of(status="504", responseLatency="29010", authorizer__latency="10", authorizer__status="200")

    assert tree(sent(failure_of("integration_timeout", "integration", access=access))) == picture("""
        POST /orders/{id} [SERVER] 0..29010 logged 504 ERROR integration_timeout
          authorizer [INTERNAL] 0..10 placed
          integration [CLIENT] 10..29010 remainder ERROR integration_timeout
        """)


def test_a_throttled_request_gets_no_phase_it_never_reached():
    access = access_of(status="429", responseLatency="3", error__responseType="THROTTLED")

    assert tree(sent(failure_of("throttled", "throttle", access=access))) == picture("""
        POST /orders/{id} [SERVER] 0..3 logged 429
        """)


def test_a_function_error_marks_the_integration_and_names_the_function():
    lines = (
        *START,
        (10, f"Sending request to {LAMBDA}"),
        (402, "Received response. Status: 200, Integration latency: 392 ms"),
        (
            403,
            f"Lambda execution failed with status 200 due to customer function error: boom. Lambda request id: {LAMBDA_ID}",
        ),
        (404, "Method completed with status: 502"),
        (405, f"AWS Integration Endpoint RequestId : {LAMBDA_ID}"),
    )

    root, integration = sent(failure_of("lambda_error", "integration", lines=lines))

    assert (root.end_ns - root.start_ns) // 1_000_000 == 404, "the trailer is no part of the request"
    assert (integration.start_ns, integration.end_ns) == ((T + 10) * 1_000_000, (T + 402) * 1_000_000)
    assert integration.attributes == {
        "apigateway.phase": "integration",
        "apigateway.time_source": "logged",
        "aws.request_id": LAMBDA_ID,
        "http.response.status_code": 200,
        "url.full": LAMBDA,
        "server.address": "lambda.eu-west-1.amazonaws.com",
        "server.port": 443,
        "faas.invoked_provider": "aws",
        "faas.invoked_region": "eu-west-1",
        "faas.invoked_name": "orders-create",
        "error.type": "lambda_error",
    }
    assert (integration.status, integration.status_message) == ("ERROR", "the evidence")
    assert root.attributes["apigateway.integration_request_id"] == LAMBDA_ID


def test_an_authorizers_own_call_is_not_taken_for_the_integration():
    lines = (
        (0, f"Starting authorizer: 62mgrc for request: {ID}"),
        (2, f"Sending request to {LAMBDA}"),
        (702, "Execution failed due to configuration error: Authorizer error"),
        (703, "Method completed with status: 500"),
    )

    spans = sent(failure_of("authorizer_configuration", "authorizer", lines=lines))

    assert [line for line in tree(spans).splitlines() if "*" not in line] == [
        "HTTP [SERVER] 0..703 lines 500 ERROR authorizer_configuration",
        "  authorizer [INTERNAL] 0..702 lines ERROR authorizer_configuration",
    ]
    assert spans[1].attributes["faas.invoked_name"] == "orders-create"


def test_an_authorizer_that_let_the_request_through_precedes_the_integration():
    lines = (
        (0, f"Starting authorizer: 62mgrc for request: {ID}"),
        (1, f"Sending request to {LAMBDA}"),
        (50, "Successfully completed authorizer execution"),
        (60, "Sending request to https://user:pw@backend.example.com:8443/v1/orders?token=abc"),
        (160, "Received response. Status: 503, Integration latency: 100 ms"),
        (161, "Successfully completed execution"),
        (162, "Method completed with status: 503"),
    )

    spans = sent(failure_of("backend_5xx", "backend", lines=lines))

    assert [line for line in tree(spans).splitlines() if "*" not in line] == [
        "HTTP [SERVER] 0..162 lines 503 ERROR backend_5xx",
        "  authorizer [INTERNAL] 0..50 lines",
        "  integration [CLIENT] 60..160 logged 503 ERROR backend_5xx",
    ]
    assert spans[2].attributes["url.full"].endswith("backend.example.com:8443/v1/orders")
    assert (spans[2].attributes["server.address"], spans[2].attributes["server.port"]) == ("backend.example.com", 8443)


def test_a_denied_caller_is_no_error_of_the_server_but_of_the_authorizer():
    access = access_of(status="403", responseLatency="45", authorizer__latency="40", authorizer__status="403")

    assert tree(sent(failure_of("authorizer_denied", "auth", access=access))) == picture("""
        POST /orders/{id} [SERVER] 0..45 logged 403
          authorizer [INTERNAL] 0..40 placed ERROR authorizer_denied
        """)


def test_a_masked_function_error_leaves_the_root_unset():
    access = access_of(status="200", responseLatency="100", integrationLatency="90", integrationStatus="200")

    root, integration = sent(failure_of("masked_lambda_error", "backend", access=access))

    assert (root.status, "error.type" in root.attributes) == ("UNSET", False)
    assert integration.attributes["error.type"] == "masked_lambda_error"


def test_a_mapping_that_fails_leaves_the_integration_innocent_but_shows_its_status():
    lines = (
        *START,
        (5, "Sending request to https://backend.example.com/x"),
        (15, "Received response. Status: 404, Integration latency: 10 ms"),
        (
            16,
            "Execution failed due to configuration error: No match for output mapping and no default output mapping configured. Endpoint Response Status Code: 404",
        ),
        (17, "Method completed with status: 500"),
    )

    root, integration = sent(failure_of("output_mapping", "configuration", lines=lines))

    assert root.attributes["error.type"] == "output_mapping"
    assert (integration.status, integration.attributes.get("error.type")) == ("ERROR", "404"), "by the conventions"


def test_a_latency_longer_than_the_request_is_cut_and_said_to_be():
    access = access_of(status="504", responseLatency="28990", integrationLatency="29000")

    root, integration = sent(failure_of("integration_timeout", "integration", access=access))

    assert (integration.start_ns, integration.end_ns) == (root.start_ns, root.end_ns)
    assert integration.attributes["apigateway.time_clamped"] is True


def test_a_status_that_no_line_tells_is_an_error_unless_the_caller_was_refused():
    timeout = sent(
        failure_of("integration_timeout", "integration", lines=((0, "Execution failed due to a timeout error"),))
    )
    refused = sent(failure_of("unauthorized", "auth", lines=((0, f"Unauthorized request: {ID}"),)))

    assert (timeout[0].status, timeout[0].attributes["apigateway.time_source"]) == ("ERROR", "instant")
    assert refused[0].status == "UNSET"


# --------------------------------------------------------------------------------------------------------- names, facts


@pytest.mark.parametrize(
    ("access", "api_type", "name", "route"),
    [
        ({"httpMethod": "GET", "resourcePath": "/pets"}, "REST", "GET /pets", "/pets"),
        ({"httpMethod": "GET", "resourcePath": "-"}, "REST", "GET", None),
        ({"httpMethod": "BREW", "resourcePath": "/pets"}, "REST", "HTTP /pets", "/pets"),
        ({"httpMethod": "GET", "resourcePath": "-", "routeKey": "$default"}, "HTTP", "GET", None),
        ({"httpMethod": "-", "resourcePath": "-", "routeKey": "$connect"}, "WEBSOCKET", "$connect", None),
    ],
)
def test_a_span_is_named_by_method_and_template_never_by_a_path(access, api_type, name, route):
    api = Api(id="x", name="pets", stage="prod", type=api_type)
    record = access_of(status="500", path="/prod/pets/4711", **access)

    root = sent(failure_of("internal_error", "gateway", access=record, api=api))[0]

    assert (root.name, root.attributes.get("http.route")) == (name, route)


def test_the_root_says_what_failed_and_by_which_ids_to_find_it():
    access = access_of(
        status="504",
        responseLatency="10",
        error__responseType="INTEGRATION_TIMEOUT",
        error__message="Endpoint request timed out",
        path="/prod/orders/1",
        domainName="api.example.com",
        integration__requestId=LAMBDA_ID,
    )

    root = sent(failure_of("integration_timeout", "integration", access=access))[0]

    assert root.attributes == {
        "http.request.method": "POST",
        "http.route": "/orders/{id}",
        "url.scheme": "https",
        "url.path": "/prod/orders/1",
        "server.address": "api.example.com",
        "http.response.status_code": 504,
        "error.type": "integration_timeout",
        "apigateway.api_id": "ab12cd34ef",
        "apigateway.api_type": "REST",
        "apigateway.stage": "prod",
        "apigateway.request_id": ID,
        "apigateway.extended_request_id": "Vwc2MGFUrPEFV_g=",
        "apigateway.integration_request_id": LAMBDA_ID,
        "apigateway.response_type": "INTEGRATION_TIMEOUT",
        "apigateway.error_message": "Endpoint request timed out",
        "apigateway.cause": "integration_timeout",
        "apigateway.category": "integration",
        "apigateway.rule": "a-rule",
        "apigateway.evidence": "the evidence",
        "apigateway.failed_phase": "integration",
        "apigateway.time_source": "logged",
    }


def test_the_resource_is_the_api_observed_and_the_operators_attributes_do_not_hide_it():
    options = SpanOptions(resource=(("service.name", "apigateway-exporter"), ("deployment.environment.name", "live")))

    root = sent(failure_of("internal_error", "gateway", access=access_of(status="500")), options=options)[0]

    assert root.resource == {
        "service.name": "orders",
        "deployment.environment.name": "live",
        "cloud.provider": "aws",
        "cloud.region": "eu-west-1",
        "cloud.account.id": "123456789012",
        "cloud.resource_id": "arn:aws:execute-api:eu-west-1:123456789012:ab12cd34ef/prod",
        "aws.log.group.names": ["access/orders", "execution"],
    }
    assert (root.scope, root.schema_url) == ("apigateway-exporter", Schemas.V1_44_0.value)


@pytest.mark.parametrize(
    ("region", "partition"), [("cn-north-1", "aws-cn"), ("us-gov-west-1", "aws-us-gov"), ("us-east-1", "aws")]
)
def test_the_arn_is_of_the_regions_partition(region, partition):
    api = Api(id="a", name="n", stage="s", region=region, account_id="123456789012")

    root = sent(failure_of("internal_error", "gateway", access=access_of(status="500"), api=api))[0]

    assert root.resource["cloud.resource_id"] == f"arn:{partition}:execute-api:{region}:123456789012:a/s"


def conventions():
    """Every attribute of the semantic conventions: its name, and whether it is deprecated."""
    known = {}
    for module in pkgutil.iter_modules(semconv_attributes.__path__):
        source = Path(module.module_finder.path, f"{module.name}.py").read_text(encoding="utf-8")
        nodes = ast.parse(source).body
        for node, after in itertools.zip_longest(nodes, nodes[1:]):
            if isinstance(node, ast.AnnAssign) and isinstance(node.value, ast.Constant):
                about = after.value.value if isinstance(after, ast.Expr) else ""
                # What became stable is «deprecated in favor of stable» here, and goes on under the same name.
                known[node.value.value] = about.lstrip().startswith("Deprecated: ")
    return known


def test_every_name_that_is_not_ours_stands_in_the_semantic_conventions_and_is_not_deprecated():
    known = conventions()
    access = access_of(
        status="504", path="/x", domainName="d", identity__sourceIp="192.0.2.1", identity__userAgent="curl",
        authorizer__requestId=LAMBDA_ID, authorizer__latency="2",
    )  # fmt: skip
    fields = frozenset({"identity.sourceIp", "identity.userAgent"})
    websocket = Api(id="ws", name="chat", stage="prod", type="WEBSOCKET", region="eu-west-1", account_id="123456789012")

    failures = [
        failure_of("integration_timeout", "integration", access=access, lines=TIMEOUT, api=api)
        for api in (ORDERS, websocket)
    ]
    used = set()
    for options in (SpanOptions(allowed_fields=fields), SpanOptions(events="logs", join="link")):
        told = [*sent(*failures, options=options), *records_sent(*failures, options=options)]
        used |= {key for item in told for key in (*item.attributes, *item.resource)}

    theirs = {key for key in used if not key.startswith("apigateway.")}
    assert theirs <= known.keys()
    assert not {key for key in theirs if known[key]}
    assert {
        "faas.invoked_name",
        "client.address",
        "user_agent.original",
        "cloud.resource_id",
        "aws.request_id",
    } <= theirs
    # The check sees deprecation at all.
    assert known["http.status_code"]
    assert not known["http.response.status_code"]


def test_every_attribute_of_ours_is_documented():
    page = (Path(__file__).parent.parent / "docs/traces.md").read_text(encoding="utf-8")
    ours = {
        name
        for path in (Path(__file__).parent.parent / "exporter").glob("*.py")
        for name in re.findall(r'"(apigateway\.[a-z_]+)"', path.read_text(encoding="utf-8"))
    }

    assert len(ours) > 20
    assert not {name for name in ours if f"`{name}`" not in page}


def test_the_schema_is_the_newest_that_the_conventions_package_knows():
    newest = max(Schemas, key=lambda schema: tuple(map(int, schema.value.rpartition("/")[2].split("."))))

    span = sent(failure_of("throttled", "throttle", access=access_of(status="429")))[0]

    assert span.schema_url == newest.value


# --------------------------------------------------------------------------------------------------------------- events


def test_too_many_lines_are_cut_the_reason_is_kept_and_the_number_left_out_is_said():
    chatter = tuple((index, f"Method request path: {{a={index}}}") for index in range(100))
    lines = (*chatter, (200, "Execution failed due to a timeout error"), (201, "Method completed with status: 504"))

    root = sent(failure_of("integration_timeout", "integration", lines=lines), options=SpanOptions(max_events=10))[0]

    assert len(root.events) == 10
    assert [event.name for event in root.events[-2:]] == ["apigateway.reason", "apigateway.completed"]
    assert root.attributes["apigateway.lines_left_out"] == root.dropped_events == 92
    assert [event.at_ns for event in root.events] == sorted(event.at_ns for event in root.events)


def test_reason_lines_are_kept_even_beyond_the_cap():
    lines = tuple((index, f"Execution failed due to configuration error: number {index}") for index in range(5))

    root = sent(failure_of("configuration_error", "configuration", lines=lines), options=SpanOptions(max_events=2))[0]

    assert len(root.events) == 5
    assert "apigateway.lines_left_out" not in root.attributes


LOGS = SpanOptions(events="logs")


def test_instead_of_events_the_lines_may_be_log_records_on_the_same_trace_and_span():
    failure = failure_of("integration_timeout", "integration", access=access_of(status="504"), lines=TIMEOUT)

    (as_events, *children), (root, *same_children) = sent(failure), sent(failure, options=LOGS)
    records = records_sent(failure, options=LOGS)

    assert (root.trace_id, root.span_id, same_children) == (as_events.trace_id, as_events.span_id, children)
    assert root.events == []
    assert {(record.trace_id, record.span_id) for record in records} == {(root.trace_id, root.span_id)}
    assert [(record.at_ns, record.name, record.body) for record in records] == [
        (event.at_ns, event.name, event.attributes["apigateway.text"]) for event in as_events.events
    ]
    assert {(record.scope, record.schema_url) for record in records} == {(root.scope, root.schema_url)}
    assert records[0].resource == root.resource
    assert {tuple(record.attributes.items()) for record in records} == {
        (("apigateway.cause", "integration_timeout"), ("apigateway.request_id", ID))
    }


def test_the_reason_is_an_error_or_a_warning_the_other_lines_are_information():
    timeout = failure_of("integration_timeout", "integration", access=access_of(status="504"), lines=TIMEOUT)
    refused = failure_of(
        "unauthorized",
        "auth",
        lines=((0, "Unauthorized request: x"), (1, "Method completed with status: 401")),
    )

    assert [record.severity for record in records_sent(timeout, options=LOGS)] == ["INFO"] * 4 + ["ERROR", "INFO"]
    assert [record.severity for record in records_sent(refused, options=LOGS)] == ["WARN", "INFO"]


def test_log_records_are_capped_like_events_and_the_span_says_so():
    chatter = tuple((index, f"Method request path: {{a={index}}}") for index in range(100))
    failure = failure_of("integration_timeout", "integration", lines=chatter)
    options = SpanOptions(events="logs", max_events=10)

    assert len(records_sent(failure, options=options)) == 10
    root = sent(failure, options=options)[0]
    assert (root.attributes["apigateway.lines_left_out"], root.dropped_events) == (90, 0)


def test_a_failure_without_execution_lines_has_no_log_records():
    failure = failure_of("throttled", "throttle", access=access_of(status="429"))

    assert [batch.signal for batch in pack([failure_spans(failure, LOGS)])] == ["traces"]


def test_a_sampled_span_says_for_how_many_it_stands():
    failure = failure_of("throttled", "throttle", access=access_of(status="429"))

    assert sent(failure, sampled_from=100)[0].attributes["apigateway.sampled_from"] == 100
    assert "apigateway.sampled_from" not in sent(failure)[0].attributes


# -------------------------------------------------------------------------------------------------------------- joining


def headers(*pairs):
    return "Method request headers: {" + ", ".join(pairs) + "}"


@pytest.mark.parametrize(
    ("header", "trace_id", "parent"),
    [
        (f"traceparent={TRACEPARENT}", "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"),
        (f"traceparent={TRACEPARENT[:-1]}0", "4bf92f3577b34da6a3ce929d0e0e4736", ""),
        (f"X-Amzn-Trace-Id=Root={XRAY};Parent=53995c3f42cd8ad8;Sampled=1", XRAY_HEX, "53995c3f42cd8ad8"),
        (
            f"X-Amzn-Trace-Id=Self=1-5759e988-000000000000000000000001;Sampled=1;Parent=53995c3f42cd8ad8;Root={XRAY}",
            XRAY_HEX,
            "53995c3f42cd8ad8",
        ),
        (
            f"X-Amzn-Trace-Id=root={XRAY};parent=53995c3f42cd8ad8;sampled=1;lineage=a87bd80c:0",
            XRAY_HEX,
            "53995c3f42cd8ad8",
        ),
        (f"X-Amzn-Trace-Id=Root={XRAY};Parent=53995c3f42cd8ad8;Sampled=0", XRAY_HEX, ""),
        (f"X-Amzn-Trace-Id=Root={XRAY};Parent=53995c3f42cd8ad8", XRAY_HEX, ""),
        (f"X-Amzn-Trace-Id=Root={XRAY};Parent=0000000000000000;Sampled=1", XRAY_HEX, ""),
        (f"X-Amzn-Trace-Id=Root={XRAY}", XRAY_HEX, ""),
    ],
)
def test_a_logged_trace_is_joined_its_span_only_if_it_was_sampled(header, trace_id, parent):
    root = root_of(lines=(*START, (3, headers("Accept=*/*", header)), (4, "Method completed with status: 504")))

    assert (root.trace_id, root.parent_span_id) == (trace_id, parent)
    assert root.flags & 0x200 == (0x200 if parent else 0), "the parent is remote"
    assert root.attributes["apigateway.caller_trace_id"] == trace_id


@pytest.mark.parametrize(
    "header",
    [
        "traceparent=00-00000000000000000000000000000000-00f067aa0ba902b7-01",
        "traceparent=ff-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
        "traceparent=00-4BF92F3577B34DA6A3CE929D0E0E4736-00f067aa0ba902b7-01",
        "X-Amzn-Trace-Id=Root=1-00000000-000000000000000000000000;Sampled=1",
        "X-Amzn-Trace-Id=Root=nonsense",
    ],
)
def test_a_context_that_is_not_valid_joins_nothing(header):
    root = root_of(lines=((0, headers(header)), (4, "Method completed with status: 504")))

    assert (root.trace_id, root.parent_span_id) == (ID.replace("-", ""), "")


@pytest.mark.parametrize("spelling", [XRAY, f"Root={XRAY}"])
def test_the_xray_root_is_found_in_the_access_variable_and_in_the_trailer(spelling):
    by_access = root_of(access=access_of(status="504", xrayTraceId=spelling))
    by_trailer = root_of(lines=(*TIMEOUT, (29_014, f"X-ray Tracing ID : {spelling}")))

    assert by_access.trace_id == by_trailer.trace_id == XRAY_HEX
    assert "apigateway.integration_request_id" not in by_trailer.attributes


def test_traceparent_goes_before_xray():
    lines = (*START, (3, headers(f"X-Amzn-Trace-Id=Root={XRAY};Sampled=1", f"traceparent={TRACEPARENT}")))

    assert root_of(access=access_of(status="504", xrayTraceId=XRAY), lines=lines).trace_id == TRACEPARENT[3:35]


def test_what_the_gateway_sent_on_names_the_trace_but_not_the_parent():
    lines = (
        *START,
        (3, f"Endpoint request headers: {{X-Amzn-Trace-Id=Root={XRAY};Parent=53995c3f42cd8ad8;Sampled=1}}"),
    )

    root = root_of(lines=lines)

    assert (root.trace_id, root.parent_span_id) == (XRAY_HEX, "")


@pytest.mark.parametrize(
    ("options", "facts"),
    [(SpanOptions(join="link"), {}), (SpanOptions(), {"is_crowded": [TRACEPARENT[3:35]].__contains__})],
)
def test_a_failure_that_may_not_join_gets_its_own_trace_and_a_link(options, facts):
    lines = (*START, (3, headers(f"traceparent={TRACEPARENT}")), (4, "Method completed with status: 504"))
    failure = failure_of("integration_timeout", "integration", lines=lines)

    root = sent(failure, options=options, **facts)[0]

    assert (root.trace_id, root.parent_span_id) == (ID.replace("-", ""), "")
    assert [(link.trace_id, link.span_id) for link in root.links] == [(TRACEPARENT[3:35], TRACEPARENT[36:52])]


def test_a_reused_or_unusable_request_id_names_no_trace():
    access = access_of(status="504")
    failure = failure_of("integration_timeout", "integration", access=access)
    reused = span_ids(failure, SpanOptions(), reused_id=True)
    nil = span_ids(
        failure_of(
            "integration_timeout", "integration", access=access, request_id="00000000-0000-0000-0000-000000000000"
        ),
        SpanOptions(),
    )

    assert span_ids(failure, SpanOptions()).trace_id == ID.replace("-", "")
    for ids in (reused, nil):
        assert re.fullmatch("[0-9a-f]{32}", ids.trace_id)
        assert ids.trace_id not in (ID.replace("-", ""), "0" * 32)


def test_ids_are_the_same_whatever_else_a_poll_saw():
    access = access_of(status="504", responseLatency="29014")
    alone = failure_of("internal_error", "gateway", access=access)
    whole = failure_of("integration_timeout", "integration", access=access, lines=TIMEOUT)

    assert span_ids(alone, SpanOptions()) == span_ids(whole, SpanOptions())
    assert [(span.trace_id, span.span_id) for span in sent(whole)] == [
        (span.trace_id, span.span_id) for span in sent(whole)
    ]
    assert (sent(whole)[0].trace_id, sent(whole)[0].span_id) == span_ids(whole, SpanOptions())


def test_two_requests_with_one_id_are_two_spans():
    first, second = (
        AccessRecord(event_id=event_id, at_ms=T, glance=access_of(status="504").glance) for event_id in ("1", "2")
    )

    ids = {span_ids(failure_of("x", "gateway", access=access), SpanOptions()).span_id for access in (first, second)}

    assert len(ids) == 2


def test_a_link_template_becomes_the_address_of_the_trace():
    ids = span_ids(failure_of("x", "gateway", access=access_of(status="500")), SpanOptions())
    options = SpanOptions(link_template="https://tempo.example.com/trace/{trace_id}?span={span_id}")

    assert trace_url(ids, options) == f"https://tempo.example.com/trace/{ids.trace_id}?span={ids.span_id}"
    assert trace_url(ids, SpanOptions()) is None


# -------------------------------------------------------------------------------------------------------------- privacy

JWT = "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxMjM0NTY3ODkwIn0.dozjgNryP4J3jVmNHl0w5N_XgL0n3I9PlFUP0THsR8U"
SECRETS = (
    "joe@example.com",
    JWT,
    "hunter2hunter2",
    "AKIAIOSFODNN7EXAMPLE",
    "192.0.2.77",
    "Mozilla/5.0",
    "sess-4711-secret",
)


def test_nothing_private_reaches_a_span_from_any_place_a_line_can_hold_it():
    mess = f"joe@example.com {JWT} password=hunter2hunter2 AKIAIOSFODNN7EXAMPLE"
    access = access_of(
        status="502",
        responseLatency="10",
        path=f"/orders/joe@example.com/{JWT}",
        error__message=mess,
        integration__error=mess,
        integration__latency="5",
        authorizer__error=mess,
        authorizer__latency="3",
        error__validationErrorString=mess,
        identity__sourceIp="192.0.2.77",
        identity__userAgent="Mozilla/5.0",
        identity__caller="joe@example.com",
        identity__user="joe@example.com",
    )
    lines = (
        (0, headers("Cookie=session=sess-4711-secret", f"Authorization=Bearer {JWT}", "User-Agent=Mozilla/5.0")),
        (1, "Method request query string: {password=hunter2hunter2}"),
        (2, 'Method request body before transformations: {"email": "joe@example.com"}'),
        (
            3,
            "Sending request to https://joe:hunter2hunter2@backend.example.com/x?X-Amz-Security-Token=AKIAIOSFODNN7EXAMPLE",
        ),
        (
            4,
            f"Lambda execution failed with status 200 due to customer function error: {mess}. Lambda request id: {LAMBDA_ID}",
        ),
        (5, "Method completed with status: 502"),
    )

    failure = failure_of("lambda_error", "integration", access=access, lines=lines)
    spans = sent(failure)

    assert len(spans) == 3
    assert [secret for secret in SECRETS if secret in repr(spans)] == []


def test_a_field_opened_by_name_is_shown_and_no_other():
    access = access_of(
        status="500", identity__sourceIp="192.0.2.77", identity__userAgent="curl/8", identity__user="joe"
    )
    options = SpanOptions(allowed_fields=frozenset({"identity.sourceIp", "identity.user"}))

    attributes = sent(failure_of("internal_error", "gateway", access=access), options=options)[0].attributes

    assert attributes["client.address"] == "192.0.2.77"
    assert attributes["apigateway.context.identity.user"] == "joe"
    assert "user_agent.original" not in attributes


# -------------------------------------------------------------------------------------------------- packing, properties


def test_spans_of_one_api_share_a_resource_and_large_lots_are_split():
    other = Api(id="zz", name="pets", stage="dev")
    failures = [
        failure_of("internal_error", "gateway", access=access_of(status="500"), api=api) for api in (ORDERS, other) * 3
    ]
    spans = [failure_spans(failure, SpanOptions()) for failure in failures]

    (together,) = pack(spans)
    apart = pack(spans, max_bytes=1)

    assert (together.spans, [batch.spans for batch in apart]) == (6, [1] * 6)
    assert [span.resource["service.name"] for span in decode_spans(gzip.decompress(together.body))] == [
        "orders"
    ] * 3 + ["pets"] * 3
    assert pack([]) == ()


texts = st.text(st.characters(), max_size=40)
some = st.one_of(st.none(), st.integers(-5, 2**70))
times = st.one_of(st.integers(T, T + 40_000), st.integers(-(2**65), 2**65))
outcomes = st.one_of(
    st.none(),
    st.builds(
        PhaseOutcome, status=some, latency_ms=st.one_of(st.none(), st.integers(-5, 40_000)), error=st.none() | texts
    ),
)
contexts = st.none() | texts | st.sampled_from([TRACEPARENT, f"Root={XRAY};Parent=53995c3f42cd8ad8;Sampled=1", XRAY])


@st.composite
def timelines(draw):
    request_id = draw(st.none() | texts | st.just(ID))
    latency = st.none() | st.integers(-5, 40_000)
    access = None
    if draw(st.booleans()):
        glance = AccessGlance(
            request_id=request_id,
            extended_request_id=draw(st.none() | texts),
            status=draw(st.none() | st.integers(100, 599)),
            method=draw(st.sampled_from(["GET", "_OTHER", "unknown"])),
            resource=draw(st.sampled_from(["/a", "unknown", "$default"])),
            api_id=None,
            stage=None,
            latency_ms=draw(latency),
            integration_latency_ms=draw(latency),
            response_type=None,
        )
        phases = {name: draw(outcomes) for name in ("waf", "authenticate", "authorizer", "authorize", "integration")}
        fields = draw(
            st.dictionaries(
                st.sampled_from(["path", "domainName", "identity.sourceIp", "integration.requestId"]), texts
            )
        )
        access = AccessRecord(
            event_id=draw(texts),
            at_ms=draw(times),
            glance=glance,
            xray_trace_id=draw(contexts),
            error_message=draw(st.none() | texts),
            fields=fields,
            **phases,
        )
    lines = draw(
        st.lists(
            st.tuples(
                times, st.sampled_from(list(Step)), texts, st.none() | texts | st.just(LAMBDA), latency, contexts
            ),
            min_size=0 if access else 1,
            max_size=12,
        )
    )
    steps = tuple(
        ExecutionStep(
            event_id=str(number),
            at_ms=at_ms,
            step=step,
            text=text,
            name=name,
            latency_ms=latency_ms,
            trace_context=context,
        )
        for number, (at_ms, step, text, name, latency_ms, context) in enumerate(sorted(lines, key=lambda line: line[0]))
    )
    return RequestTimeline(api=ORDERS, access=access, steps=steps, request_id=request_id)


@settings(max_examples=150, deadline=None)
@given(
    timelines(),
    st.sampled_from(
        [
            ("integration_timeout", "integration"),
            ("authorizer_denied", "auth"),
            ("waf_blocked", "waf"),
            ("mine", "my category"),
        ]
    ),
    st.booleans(),
    st.sampled_from(["trace", "link"]),
)
def test_any_timeline_becomes_valid_spans(timeline, cause, fact, join):
    failure = Failure(timeline=timeline, cause=cause[0], category=cause[1], rule="r", evidence="e", refinable=False)
    options = SpanOptions(join=join, max_events=4, allowed_fields=frozenset({"identity.sourceIp"}))

    root, *children = sent(failure, options=options, reused_id=fact, is_crowded=lambda _: fact)

    assert span_ids(failure, options, reused_id=fact, crowded=fact) == (root.trace_id, root.span_id)
    for span in (root, *children):
        assert re.fullmatch("[0-9a-f]{32}", span.trace_id)
        assert re.fullmatch("[0-9a-f]{16}", span.span_id)
        assert span.trace_id.strip("0")
        assert span.span_id.strip("0")
        assert span.start_ns <= span.end_ns
    assert root.parent_span_id.strip("0") or root.parent_span_id == ""
    free_ns = root.start_ns
    for child in children:
        assert (child.trace_id, child.parent_span_id) == (root.trace_id, root.span_id)
        assert free_ns <= child.start_ns, "no phase overlaps the one before it"
        free_ns = child.end_ns
    assert free_ns <= root.end_ns
    assert len({span.span_id for span in (root, *children)}) == 1 + len(children)


def test_a_storm_is_told_faster_than_2000_failures_a_second():
    failures = [
        failure_of(
            "integration_timeout",
            "integration",
            access=access_of(status="504", responseLatency="29014", integrationLatency="29000"),
            lines=TIMEOUT,
        )
    ] * 300

    started = time.process_time()
    batches = pack([failure_spans(failure, SpanOptions()) for failure in failures])
    spent_s = time.process_time() - started

    assert sum(batch.spans for batch in batches) == 600
    assert spent_s < 0.6, "a quarter of the promised speed is left to slow machines"
