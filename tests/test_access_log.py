"""Every format and quirk of access lines known from AWS's documents and from the field."""

import re

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from exporter.access_json import JsonLines
from exporter.access_log import AccessFormatError, access_parser
from exporter.access_values import text_of
from exporter.access_variables import VARIABLES, variables_of
from exporter.model import AccessGlance, AccessRecord, LogEvent, PhaseOutcome, Unreadable

AT_MS = 1_719_403_200_000
UUID = "17cb49b2-9061-11ed-8f3a-0242ac120002"
EXTENDED = "Vwc2MGFUrPEFV_g="

VALUES = {
    "requestId": UUID,
    "extendedRequestId": EXTENDED,
    "identity.sourceIp": "203.0.113.7",
    "identity.caller": "AROAEXAMPLE:session",
    "identity.user": "AIDAEXAMPLE",
    "requestTime": "26/Jun/2024:12:00:00 +0000",
    "httpMethod": "GET",
    "resourcePath": "/orders/{id}",
    "protocol": "HTTP/1.1",
    "status": "504",
    "responseLength": "41",
}
HTTP_VALUES = {
    "requestId": "JKJaXmPLvHcESHA=",
    "identity.sourceIp": "203.0.113.7",
    "requestTime": "26/Jun/2024:12:00:00 +0000",
    "httpMethod": "GET",
    "routeKey": "GET /pets",
    "protocol": "HTTP/1.1",
    "status": "200",
    "responseLength": "2",
}

CLF = (
    "$context.identity.sourceIp $context.identity.caller $context.identity.user [$context.requestTime]"
    '"$context.httpMethod $context.resourcePath $context.protocol" $context.status $context.responseLength '
    "$context.requestId $context.extendedRequestId"
)
JSON = (
    '{ "requestId":"$context.requestId", "extendedRequestId":"$context.extendedRequestId",'
    '"ip": "$context.identity.sourceIp", "caller":"$context.identity.caller", "user":"$context.identity.user", '
    '"requestTime":"$context.requestTime", "httpMethod":"$context.httpMethod", '
    '"resourcePath":"$context.resourcePath", "status":"$context.status", "protocol":"$context.protocol", '
    '"responseLength":"$context.responseLength" }'
)
XML = (
    '<request id="$context.requestId"> <extendedRequestId>$context.extendedRequestId</extendedRequestId> '
    "<ip>$context.identity.sourceIp</ip> <caller>$context.identity.caller</caller> "
    "<user>$context.identity.user</user> <requestTime>$context.requestTime</requestTime> "
    "<httpMethod>$context.httpMethod</httpMethod> <resourcePath>$context.resourcePath</resourcePath> "
    "<status>$context.status</status> <protocol>$context.protocol</protocol> "
    "<responseLength>$context.responseLength</responseLength> </request>"
)
CSV = (
    "$context.identity.sourceIp,$context.identity.caller,$context.identity.user,$context.requestTime,"
    "$context.httpMethod,$context.resourcePath,$context.protocol,$context.status,$context.responseLength,"
    "$context.requestId,$context.extendedRequestId"
)
EXTENDED_FIRST = "$context.extendedRequestId " + CLF.removesuffix(" $context.extendedRequestId")
REST_SAMPLES = {
    "clf": [CLF, CLF.replace("]", "] "), EXTENDED_FIRST, EXTENDED_FIRST.replace("]", "] ")],
    "json": [JSON],
    "xml": [XML, XML.replace("> <", "><")],
    "csv": [CSV, "$context.extendedRequestId," + CSV.removesuffix(",$context.extendedRequestId")],
}
OLD_SAMPLES = {
    "clf": [CLF.replace("]", "] ").removesuffix(" $context.extendedRequestId")],
    "json": [JSON.replace(' "extendedRequestId":"$context.extendedRequestId",', "")],
    "xml": [XML.replace(" <extendedRequestId>$context.extendedRequestId</extendedRequestId>", "")],
    "csv": [CSV.removesuffix(",$context.extendedRequestId")],
}
HTTP_SAMPLES = {
    "clf": [
        (
            '$context.identity.sourceIp - - [$context.requestTime] "$context.httpMethod $context.routeKey '
            '$context.protocol" $context.status $context.responseLength $context.requestId'
        )
    ],
    "json": [
        (
            '{ "requestId":"$context.requestId", "ip": "$context.identity.sourceIp", '
            '"requestTime":"$context.requestTime", "httpMethod":"$context.httpMethod","routeKey":"$context.routeKey", '
            '"status":"$context.status","protocol":"$context.protocol", "responseLength":"$context.responseLength" }'
        )
    ],
    "xml": [
        (
            '<request id="$context.requestId"> <ip>$context.identity.sourceIp</ip> '
            "<requestTime>$context.requestTime</requestTime> <httpMethod>$context.httpMethod</httpMethod> "
            "<routeKey>$context.routeKey</routeKey> <status>$context.status</status> "
            "<protocol>$context.protocol</protocol> <responseLength>$context.responseLength</responseLength> </request>"
        )
    ],
    "csv": [
        (
            "$context.identity.sourceIp,$context.requestTime,$context.httpMethod,$context.routeKey,$context.protocol,"
            "$context.status,$context.responseLength,$context.requestId"
        )
    ],
}


def samples(formats):
    return [(name, form) for name, forms in formats.items() for form in forms]


def rendered(form, values):
    """A line as API Gateway writes it: absent variables are a dash."""
    return re.sub(r"\$context\.([A-Za-z0-9_]+(?:\.[A-Za-z0-9_]+)*)", lambda found: values.get(found[1], "-"), form)


def event(message, at_ms=AT_MS):
    return LogEvent(event_id="e1", at_ms=at_ms, message=message)


def record(message, spec="auto"):
    parser = access_parser(spec)
    found = parser.parse(event(message))
    assert isinstance(found, AccessRecord), found
    assert parser.glance(message) == found.glance
    assert parser.glance(message) == found.glance, "a second look, at what was learnt, must see the same"
    return found


def fields(message, spec="auto"):
    return dict(record(message, spec).fields)


# ----------------------------------------------------------------------------------------------------- AWS's own samples


@pytest.mark.parametrize(("name", "form"), samples(REST_SAMPLES))
def test_samples_read_alike_by_name_by_guess_and_by_their_own_format(name, form):
    line = rendered(form, VALUES)
    for spec in (name, "auto", form):
        assert fields(line, spec) == VALUES


@pytest.mark.parametrize(("name", "form"), samples(OLD_SAMPLES))
def test_samples_of_older_consoles_log_no_extended_id(name, form):
    line = rendered(form, VALUES)
    for spec in (name, "auto", form):
        found = record(line, spec)
        assert found.glance.request_id == UUID
        assert found.glance.extended_request_id is None
        assert dict(found.fields) == {key: value for key, value in VALUES.items() if key != "extendedRequestId"}


@pytest.mark.parametrize(("name", "form"), samples(HTTP_SAMPLES))
@pytest.mark.parametrize("route", ["GET /pets", "$default"])
def test_http_api_samples_log_a_route_key(name, form, route):
    values = HTTP_VALUES | {"routeKey": route}
    for spec in (name, "auto", form):
        found = record(rendered(form, values), spec)
        assert dict(found.fields) == values
        assert found.glance.resource == ("/pets" if route == "GET /pets" else "$default")
        assert found.glance.method == "GET"


@pytest.mark.parametrize(("name", "form"), samples(REST_SAMPLES))
def test_absent_values_are_never_a_dash(name, form):
    values = {"requestId": UUID, "extendedRequestId": EXTENDED, "status": "403"}
    for spec in (name, "auto", form):
        found = record(rendered(form, values), spec)
        assert dict(found.fields) == values
        assert found.glance == AccessGlance(
            request_id=UUID,
            extended_request_id=EXTENDED,
            status=403,
            method="unknown",
            resource="unknown",
            api_id=None,
            stage=None,
            latency_ms=None,
            integration_latency_ms=None,
            response_type=None,
        )


def test_the_line_of_the_support_article():
    found = record(
        f'{{"requestId": "{UUID}", "ip": "1.2.3.4", "caller": "-", "user": "-", "requestTime": '
        '"26/Jun/2024:12:00:00 +0000", "httpMethod": "GET", "resourcePath": "/x", "status": "403",'
        '"message": "Missing Authentication\n Token", "protocol": "HTTP/1.1"}'
    )
    assert found.error_message == "Missing Authentication Token"
    assert found.glance.status == 403


# --------------------------------------------------------------------------------------------------------------- records


def test_every_documented_variable_is_read_from_json_under_its_own_name():
    values = {name: f"v{place}" for place, name in enumerate(sorted(VARIABLES))} | {"requestId": UUID, "status": "500"}
    for spec in ("auto", "{" + ",".join(f'"{name}":"$context.{name}"' for name in sorted(VARIABLES)) + "}"):
        for spelled in (str, lambda name: f"$context.{name}", lambda name: name.replace(".", "_")):
            line = "{" + ",".join(f'"{spelled(name)}":"{values[name]}"' for name in values) + "}"
            assert fields(line, spec) == values


def test_phases_in_every_spelling():
    found = record(
        f'{{"requestId":"{UUID}","status":"500","waf.status":"200","waf_error":"-","wafLatency":"3",'
        '"wafResponseCode":"WAF_ALLOW","authenticate":{"status":"200"},"authorizer":{"error":"The user is denied",'
        '"status":"403","latency":"29","integrationStatus":"200"},"authorize.status":"403","integration":'
        '{"status":"502","error":"Lambda Customer Function Error:boom\\n at x","latency":"-"},"integrationLatency":"12",'
        '"integrationStatus":"200","validationErrorString":"[object has missing  required properties]",'
        '"xrayTraceId":"1-5759e988-bd862e3fe1be46a994272793","errorMessage":"Internal server error"}'
    )
    assert found.waf == PhaseOutcome(status=200, latency_ms=3)
    assert found.waf_response_code == "WAF_ALLOW"
    assert found.authenticate == PhaseOutcome(status=200)
    assert found.authorizer == PhaseOutcome(status=403, latency_ms=29, error="The user is denied")
    assert found.authorize == PhaseOutcome(status=403)
    assert found.integration == PhaseOutcome(
        status=502, latency_ms=12, error="Lambda Customer Function Error:boom at x"
    )
    assert found.integration_service_status == 200
    assert found.validation_error == "[object has missing required properties]"
    assert found.xray_trace_id == "1-5759e988-bd862e3fe1be46a994272793"
    assert found.error_message == "Internal server error"


def test_integration_error_message_is_the_integrations_error():
    found = record(f'{{"requestId":"{UUID}","status":"500","integrationErrorMessage":"x","integration_latency":7}}')
    assert found.integration == PhaseOutcome(error="x", latency_ms=7)
    assert found.waf is None


@pytest.mark.parametrize(
    "key", ["error_message", "errorMessage", "error.message", "$context.error.message", "error-message", "ErrorMessage"]
)
def test_names_of_one_variable(key):
    found = record(f'{{"requestId":"{UUID}","status":"403","{key}":"Forbidden"}}')
    assert found.error_message == "Forbidden"
    assert found.fields["error.message"] == "Forbidden"


@pytest.mark.parametrize(
    ("key", "variable"),
    [
        ("ip", "identity.sourceIp"),
        ("sourceIp", "identity.sourceIp"),
        ("userAgent", "identity.userAgent"),
        ("identity_userAgent", "identity.userAgent"),
        ("responseType", "error.responseType"),
        ("error_response_type", "error.responseType"),
        ("latency", "responseLatency"),
        ("response_latency", "responseLatency"),
        ("integrationStatus", "integrationStatus"),
        ("integration_status", "integration.status"),
        ("integrationError", "integration.error"),
        ("request_id", "requestId"),
        ("method", "httpMethod"),
        ("resource", "resourcePath"),
        ("traceId", "xrayTraceId"),
        ("waf-response-code", "wafResponseCode"),
        ("api_id", "apiId"),
        ("stage", "stage"),
        ("request_time_epoch", "requestTimeEpoch"),
        ("authorizer.claims.sub", "authorizer.claims.sub"),
        ("flavour", "flavour"),
    ],
)
def test_keys_that_people_write(key, variable):
    assert fields(f'{{"extendedRequestId":"{EXTENDED}","{key}":"value"}}') == {
        "extendedRequestId": EXTENDED,
        variable: "value",
    }


def test_message_is_the_error_message_only_where_nothing_better_is():
    found = record('{"requestId":"abcd","message":"access log","error":{"messageString":"Forbidden"}}')
    assert found.error_message == "Forbidden"
    assert found.fields["message"] == "access log"
    assert record('{"Message":"Forbidden","requestId":"abcd","error":"ACCESS_DENIED"}').error_message == "Forbidden"
    assert record('{"requestId":"abcd","error":"Forbidden"}').error_message == "Forbidden"


@pytest.mark.parametrize(
    ("epoch", "at_ms"),
    [
        (f'"{AT_MS - 30_000}"', AT_MS - 30_000),
        (str(AT_MS - 30_000), AT_MS - 30_000),
        (str(AT_MS - 3_600_001), AT_MS),
        (str(AT_MS // 1000), AT_MS),
        ('"-"', AT_MS),
        ('"soon"', AT_MS),
        ("9" * 30, AT_MS),
    ],
)
def test_arrival_is_believed_only_near_the_event_time(epoch, at_ms):
    assert record(f'{{"requestId":"{UUID}","requestTimeEpoch":{epoch},"status":"500"}}').at_ms == at_ms


# ---------------------------------------------------------------------------------- what a caller must not make up: labels


@pytest.mark.parametrize(
    ("logged", "status"),
    [
        ('"404"', 404),
        ("404", 404),
        ('"99"', None),
        ('"600"', None),
        ("-1", None),
        ('"abc"', None),
        ("null", None),
        ("true", None),
    ],
)
def test_status(logged, status):
    assert record(f'{{"requestId":"{UUID}","status":{logged}}}').glance.status == status


@pytest.mark.parametrize(
    ("keys", "method", "resource"),
    [
        ('"httpMethod":"QUERY","resourcePath":"/a"', "QUERY", "/a"),
        ('"httpMethod":"get","resourcePath":"/"', "_OTHER", "/"),
        ('"httpMethod":"X-EVIL","path":"/prod/secret/42"', "_OTHER", "unknown"),
        ('"httpMethod":"-","routeKey":"POST /pets/{id}"', "POST", "/pets/{id}"),
        ('"routeKey":"ANY /pets"', "unknown", "/pets"),
        ('"routeKey":"$connect"', "unknown", "$connect"),
        ('"routeKey":"sendMessage","eventType":"MESSAGE"', "unknown", "sendMessage"),
        ('"resourcePath":"-","routeKey":"$default"', "unknown", "$default"),
        ('"resourcePath":"/' + "a" * 512 + '"', "unknown", "unknown"),
        ('"resourcePath":"/a\\u0007b"', "unknown", "unknown"),
        ('"resourcePath":"/a\\nb"', "unknown", "unknown"),
    ],
)
def test_method_and_resource(keys, method, resource):
    glance = record(f'{{"requestId":"{UUID}",{keys}}}').glance
    assert (glance.method, glance.resource) == (method, resource)


@pytest.mark.parametrize(
    ("logged", "ms"),
    [
        ('"29001"', 29001),
        ("29001", 29001),
        ('"12.6"', 13),
        ("12.4", 12),
        ('"-"', None),
        ('"-5"', None),
        ('"1e9"', None),
        ('"٣"', None),
    ],
)
def test_latencies(logged, ms):
    glance = record(f'{{"requestId":"{UUID}","responseLatency":{logged},"integration":{{"latency":{logged}}}}}').glance
    assert (glance.latency_ms, glance.integration_latency_ms) == (ms, ms)


def test_the_placeholder_of_refused_ids_is_passed_on():
    assert record('{"requestId":"UUID_REPLACED_INVALID_REQUEST_ID"}').glance.request_id == (
        "UUID_REPLACED_INVALID_REQUEST_ID"
    )


@pytest.mark.parametrize(
    ("message", "reason"),
    [
        ("", "empty"),
        (" \n", "empty"),
        ("{", "not_json"),
        ("{hello}", "not_json"),
        ('{"requestId":"-","status":"-"}', "no_known_field"),
        ('{"hello":"world"}', "no_known_field"),
        ("{}", "no_known_field"),
        ("<a>", "format_mismatch"),
        ("START RequestId: 1 Version: $LATEST", "format_mismatch"),
        ("[1]", "format_mismatch"),
    ],
)
def test_unreadable_lines_have_a_reason(message, reason):
    parser = access_parser("auto")
    assert parser.glance(message) == Unreadable(reason=reason)
    assert parser.parse(event(message)) == Unreadable(reason=reason)


# ------------------------------------------------------------------------------------------ lines that differ in their keys


def test_formats_mixed_in_one_group_are_each_read_right():
    lines = [
        f'{{"requestId":"{UUID}","status":"200","stage":"prod"}}',
        '{"requestId":"other","status":"500"}',
        '{"status":"404","requestId":"turned","resourcePath":"/x"}',
        '{"request_id":"snake","status":403,"error":{"responseType":"THROTTLED"}}',
        '{"request_id":"snake","status":403,"error":{"message":"no type"}}',
        '{"request_id":"snake","status":403,"error":"-"}',
        '{"requestId":"extra","status":"200","stage":"prod","apiId":"ab12cd34ef"}',
        rendered(CLF, VALUES),
        rendered(XML, VALUES),
        '{"requestId":"listed","status":"200","tags":["a",{"stage":"x"}]}',
    ]
    alone = [access_parser("auto").glance(line) for line in lines]
    together = access_parser("auto")
    for _ in range(3):
        assert [together.glance(line) for line in lines] == alone
    assert [glance.request_id for glance in alone] == [
        UUID, "other", "turned", "snake", "snake", "snake", "extra", UUID, UUID, "listed",
    ]  # fmt: skip
    assert [glance.stage for glance in alone] == ["prod", *[None] * 5, "prod", None, None, None]
    assert [glance.response_type for glance in alone] == [None, None, None, "THROTTLED", *[None] * 6]


_KEYS = ["requestId", "request_id", "status", "stage", "resourcePath", "error", "message", "ua", "apiId", "routeKey"]


@given(
    st.lists(
        st.dictionaries(st.sampled_from(_KEYS), st.sampled_from(['"-"', '"/v"', "1", "null", '{"responseType":"T"}'])),
        max_size=12,
    )
)
def test_no_line_inherits_from_another(lines):
    together = access_parser("auto")
    for line in lines:
        message = "{" + ",".join(f'"{key}":{value}' for key, value in line.items()) + "}"
        assert together.glance(message) == access_parser("auto").glance(message)


def test_what_python_takes_for_equal_is_not_the_same_resource():
    parser, line = access_parser("auto"), '{{"requestId":"r","status":200,"resourcePath":{}}}'
    for logged in ("true", "1", "1.0") * 2:
        assert parser.glance(line.format(logged)).resource == logged


# -------------------------------------------------------------------------------------------------------------- torn lines


@pytest.mark.parametrize(
    ("message", "wanted"),
    [
        ('{"requestId":"i-1","m":""Unauthorized"","status":"401"}', {"requestId": "i-1", "m": "Unauthorized", "status": "401"}),
        (
            '{"error_messageString": " "Endpoint request timed out"", "requestId":"i-1"}',
            {"error.messageString": "Endpoint request timed out", "requestId": "i-1"},
        ),
        (
            '{"requestId":"i-1","error_messageString":""Endpoint request timed out""}',
            {"error.messageString": "Endpoint request timed out", "requestId": "i-1"},
        ),
        ('{"requestId":"i-1","status":-,"integrationLatency":-}', {"requestId": "i-1"}),
        ('{"requestId":"i-1","status":504,"responseType":INTEGRATION_TIMEOUT }', {"requestId": "i-1", "status": "504", "error.responseType": "INTEGRATION_TIMEOUT"}),
        ('{"requestId":"i-1","userAgent":"say "hi", \\o/ {x}","status":"200"}', {"requestId": "i-1", "identity.userAgent": 'say "hi", \\o/ {x}', "status": "200"}),
        ('{"requestId":"i-1","userAgent":"C:\\","status":"200"}', {"requestId": "i-1", "identity.userAgent": "C:\\", "status": "200"}),
        ('{"requestId":"i-1","userAgent":"a \\"b\\"","m":""x""}', {"requestId": "i-1", "identity.userAgent": 'a "b"', "m": "x"}),
        ('{"requestId":"i-1","errorMessage":"one\ntwo","status":"502"}', {"requestId": "i-1", "error.message": "one\ntwo", "status": "502"}),
        ('{"requestId":"i-1","status":"502","userAgent":"Mozi', {"requestId": "i-1", "status": "502"}),
        ('{"requestId":"i-1","status":50', {"requestId": "i-1"}),
        ('{"requestId":"i-1","status":"502",}', {"requestId": "i-1", "status": "502"}),
        ('{"requestId":"i-1","error":{"message":""no"","responseType":"X"},"status":"403"}', {"requestId": "i-1", "error.message": "no", "error.responseType": "X", "status": "403"}),
        ('{"error":{"messageString":""no""},"status":"403","requestId":"i-1"}', {"error.messageString": "no", "status": "403", "requestId": "i-1"}),
        ('{"requestId":"i-1","a":{},"status":-,"b":[1,2],"stage":"p"}', {"requestId": "i-1", "b": "[1,2]", "stage": "p"}),
    ],
)  # fmt: skip
def test_torn_json_is_read_as_far_as_it_is_whole(message, wanted):
    assert fields(message) == wanted


def test_an_escaped_user_agent_in_a_torn_line_cannot_forge_a_key():
    found = record('{"requestId":"i-1","ua":"x\\",\\"status\\":\\"200","m":""torn"","status":"500"}')
    assert found.glance.status == 500


def test_a_known_format_reads_torn_lines_by_its_own_text():
    spec = (
        '{"id":"$context.requestId","rt":"$context.error.responseType","m":"$context.error.messageString",'
        '"s":$context.status,"lat":$context.responseLatency,"ua":"$context.identity.userAgent"}'
    )
    line = rendered(
        spec,
        {
            "requestId": UUID,
            "error.responseType": "UNAUTHORIZED",
            "error.messageString": '"Unauthorized"',
            "status": "401",
            "identity.userAgent": 'x","s":200,"y":"z',
        },
    )
    found = record(line, spec)
    assert found.glance.status == 401
    assert found.glance.response_type == "UNAUTHORIZED"
    assert found.error_message == "Unauthorized"
    assert found.fields["identity.userAgent"] == 'x","s":200,"y":"z'


# ---------------------------------------------------------------------------------------------------------- own formats

OWN = {
    "requestId": UUID,
    "extendedRequestId": EXTENDED,
    "status": "502",
    "httpMethod": "POST",
    "resourcePath": "/a/{b}",
    "path": "/prod/a/1",
    "protocol": "HTTP/1.1",
    "stage": "prod-1",
    "apiId": "ab12cd34ef",
    "domainName": "api.example.com",
    "responseLatency": "31",
    "integrationLatency": "29",
    "responseLength": "12",
    "requestTime": "26/Jun/2024:12:00:00 +0000",
    "requestTimeEpoch": str(AT_MS),
    "identity.sourceIp": "2001:db8::1",
    "identity.user": "AIDA",
    "identity.userAgent": "Mozilla/5.0 (X11; Linux) (KHTML, like Gecko)",
    "error.message": "Internal server error",
    "error.messageString": '"Internal server error"',
    "error.responseType": "DEFAULT_5XX",
    "integration.error": "a, b | c",
    "integration.status": "-",
    "authorizer.claims.cognito:groups": "a b",
    "xrayTraceId": "1-5759e988-bd862e3fe1be46a994272793",
}


def own_line(form):
    parts = re.split(r"(\$context\.[A-Za-z0-9_]+(?:\.[A-Za-z0-9_]+)*(?::groups)?|\$\{context\.\w+\})", form)
    names = [part.removeprefix("$").strip("{}").removeprefix("context.") for part in parts[1::2]]
    line = "".join(OWN[names[place // 2]] if place % 2 else part for place, part in enumerate(parts))
    return line, {name: OWN[name] for name in names if OWN[name] != "-"}


@pytest.mark.parametrize(
    "form",
    [
        "$context.requestId",
        "$context.status$context.requestId",
        "$context.requestId$context.status$context.extendedRequestId",
        "$context.httpMethod$context.resourcePath $context.requestId",
        "https://$context.domainName$context.path $context.requestId",
        "/$context.stage$context.resourcePath $context.status $context.requestId",
        "$context.responseLatency$context.httpMethod $context.requestId",
        "$context.requestTimeEpoch$context.status $context.requestId",
        "$context.identity.userAgent $context.status $context.requestId",
        "$context.requestId - $context.identity.userAgent",
        '"$context.identity.userAgent" "$context.error.message" $context.requestId',
        "$context.identity.userAgent | $context.error.message | $context.requestId",
        "$context.requestId\t$context.error.message\t$context.identity.userAgent",
        "$context.identity.userAgent,$context.error.message,$context.requestId",
        "$context.identity.userAgent $context.status $context.error.message $context.requestId",
        "$context.identity.sourceIp:$context.status:$context.requestId",
        "[$context.requestTime] $context.requestId ua=$context.identity.userAgent error=$context.integration.error",
        "requestId=$context.requestId, status=$context.status, latency=${context.responseLatency}ms",
        "$context.requestId,$context.integration.status,$context.path,$context.status",
        "$context.requestId $context.authorizer.claims.cognito:groups; $context.stage",
        '{"id":"$context.requestId","req":"$context.httpMethod $context.resourcePath $context.protocol","s":$context.status}',
        '{"id":"$context.requestId","a":{"b":{"c":"$context.error.responseType"}},"t":[ "$context.stage" ]}',
        '{"id":"$context.requestId","m":$context.error.messageString,"x":$context.responseLatency}',
        '{"id":"$context.requestId","m":"$context.error.messageString","x":$context.integration.status}',
        '{"id":"$context.requestId","url":"https://$context.domainName$context.path","kind":"access"}',
        '{"id":"$context.requestId","s":"$context.status",}',
        "<r><i>$context.requestId</i><m>$context.error.message</m><u>$context.identity.userAgent</u></r>",
        "$context.requestId $context.identity.userAgent $context.status",
        "$context.error.messageString $context.identity.userAgent | $context.requestId",
        '"$context.error.messageString" "$context.identity.userAgent" $context.requestId',
        "$context.extendedRequestId|$context.requestId|$context.apiId|$context.stage|$context.xrayTraceId",
    ],
)  # fmt: skip
def test_own_formats(form):
    line, values = own_line(form)
    found = fields(line, form)
    if "error.messageString" in found:
        found["error.messageString"] = f'"{found["error.messageString"].strip(chr(34))}"'
    assert {name: found.get(name) for name in values} == values
    assert record(line, form).glance.request_id == UUID


@pytest.mark.parametrize(
    ("form", "first", "second"),
    [
        ("$context.requestId $context.identity.userAgent$context.path", "identity.userAgent", "path"),
        ("$context.status $context.path$context.requestId", "path", "requestId"),
        ("$context.responseLatency$context.integrationLatency $context.requestId", "responseLatency", "integrationLatency"),
        ("$context.stage$context.apiId $context.requestId", "stage", "apiId"),
        ("$context.requestId $context.identity.userAgent $context.error.message", "identity.userAgent", "error.message"),
        ("$context.requestId $context.identity.userAgent $context.stage $context.error.message", "identity.userAgent", "error.message"),
        ("$context.requestId $context.identity.sourceIp:$context.identity.user", "identity.sourceIp", "identity.user"),
        ("$context.requestId $context.path-$context.resourcePath", "path", "resourcePath"),
        ('{"id":"$context.requestId","x":"$context.identity.userAgent$context.path"}', "identity.userAgent", "path"),
    ],
)  # fmt: skip
def test_formats_that_could_be_cut_in_two_ways_are_refused_by_name(form, first, second):
    with pytest.raises(AccessFormatError) as refused:
        access_parser(form)
    assert f"$context.{first} and $context.{second} " in str(refused.value)


@pytest.mark.parametrize(
    ("spec", "hint"),
    [
        ("", "auto, clf, csv, json, xml"),
        ("jsonl", "auto, clf, csv, json, xml"),
        ("$context.stage $context.httpMethod", "$context.requestId"),
        ("$context.requestId $context.", "position 19"),
    ],
)
def test_unknown_formats_are_refused_with_a_way_out(spec, hint):
    with pytest.raises(AccessFormatError, match=re.escape(hint)):
        access_parser(spec)


def test_lines_from_before_a_format_was_changed_are_still_read():
    assert fields(rendered(CLF, VALUES), "$context.requestId|$context.status") == VALUES
    assert access_parser("$context.requestId|$context.status").glance("nonsense") == Unreadable(
        reason="format_mismatch"
    )


def test_a_constant_of_the_format_is_no_variable():
    spec = '{"message":"access","id":"$context.requestId","status":"$context.status"}'
    found = record(f'{{"message":"access","id":"{UUID}","status":"500"}}', spec)
    assert found.error_message is None
    assert found.fields["message"] == "access"


# -------------------------------------------------------------------------------------------------------------- any text

_FORMATS = ["auto", "clf", "csv", "json", "xml", CLF, CSV, XML, JSON, "$context.status$context.requestId", '{"m":$context.error.message,"s":"$context.status"}']  # fmt: skip
_BITS = st.sampled_from(
    [*'{}[]":,<>/\\- \n0', '"status"', '"requestId":', '"m":""', "</a>", "<status>", "\\ud800", "\ud800", "504", UUID, "GET /"]
)  # fmt: skip
_ANY = st.one_of(
    st.text(),
    st.lists(_BITS, max_size=40).map("".join),
    st.lists(_BITS, max_size=40).map(lambda bits: '{"requestId":"x",' + "".join(bits)),
)
_PARSERS = [access_parser(spec) for spec in _FORMATS]


@given(_ANY)
def test_any_text_gives_an_answer_and_both_looks_agree(text):
    for parser in _PARSERS:
        glance, found = parser.glance(text), parser.parse(event(text))
        if isinstance(found, AccessRecord):
            assert glance == found.glance
            assert found == parser.parse(event(text), glance)
            assert "-" not in found.fields.values()
        else:
            assert glance == found


@given(
    st.dictionaries(
        st.sampled_from(
            [*VARIABLES, "context.status", "$context.path", "latency", "message", "time", "a key", "a.key"]
        ),
        st.none() | st.booleans() | st.integers() | st.sampled_from(["", "-", '"-"', "504"]) | st.text(),
        max_size=12,
    )
)
def test_every_value_of_a_json_line_is_told_by_its_variable(logged):
    variables, expected = variables_of(logged), {}
    for key, value in logged.items():
        if (text := text_of(value)) is not None:
            expected.setdefault(variables[key], text)
    assert list(JsonLines().values(msgspec.json.encode(logged).decode()).items()) == list(expected.items())


@pytest.mark.parametrize("spec", _FORMATS)
@pytest.mark.parametrize(
    "unit", ["[", '{"a":', '"', '",', " ", '{"', "</a>", "<a>", '"}', "\\", ',"a":', "- ", "a,", "]" + '"', "\t\n }"]
)
def test_long_hostile_lines_take_no_longer_than_their_length(spec, unit):
    parser = access_parser(spec)
    for message in (unit * 20_000, '{"requestId":"' + unit * 20_000, "1.2.3.4 - - [" + unit * 20_000 + "x"):
        assert parser.glance(message) is not None


_LETTERS = st.characters(codec="utf-8", categories=("L", "N"))
_GENERATED = {
    "requestId": st.uuids().map(str),
    "extendedRequestId": st.from_regex(r"[A-Za-z0-9_-]{15}=", fullmatch=True),
    "status": st.integers(100, 599).map(str),
    "httpMethod": st.sampled_from(["GET", "POST", "DELETE", "PATCH"]),
    "resourcePath": st.from_regex(r"(/[a-z]{1,5}|/\{[a-z]{1,5}\+?\}){1,4}", fullmatch=True),
    "responseLatency": st.integers(0, 900_000).map(str),
    "identity.sourceIp": st.ip_addresses().map(str),
    "requestTime": st.just("26/Jun/2024:12:00:00 +0000"),
    "protocol": st.just("HTTP/1.1"),
    "stage": st.from_regex(r"[A-Za-z0-9_]{1,9}", fullmatch=True),
    "error.responseType": st.sampled_from(["THROTTLED", "DEFAULT_5XX", "INTEGRATION_FAILURE"]),
    "identity.userAgent": st.lists(st.text(_LETTERS, min_size=1, max_size=6), min_size=1, max_size=4).map(" ".join),
    "error.message": st.lists(st.text(_LETTERS, min_size=1, max_size=6), min_size=1, max_size=4).map(" ".join),
}  # fmt: skip
_NAMES = st.lists(st.sampled_from(sorted(set(_GENERATED) - {"requestId"})), unique=True).map(
    lambda names: [*names, "requestId"]
)
_SHAPES = {
    "json": lambda names: "{" + ",".join(f'"k{place}":"$context.{name}"' for place, name in enumerate(names)) + "}",
    "quoted": lambda names: " ".join(f'"$context.{name}"' for name in names),
    "bars": lambda names: "|".join(f"$context.{name}" for name in names),
    "csv": lambda names: ",".join(f"$context.{name}" for name in names),
    "pairs": lambda names: " ".join(f"k{place}=$context.{name}" for place, name in enumerate(names)),
    "xml": lambda names: "<r>" + "".join(f"<k{place}>$context.{name}</k{place}>" for place, name in enumerate(names)) + "</r>",
}  # fmt: skip


@pytest.mark.parametrize("shape", _SHAPES)
@given(data=st.data(), names=_NAMES)
def test_what_a_format_writes_it_reads(shape, data, names):
    values = {
        name: data.draw(kind if name == "requestId" else st.one_of(st.just("-"), kind))
        for name, kind in _GENERATED.items()
        if name in names
    }
    form = _SHAPES[shape](names)
    assert fields(rendered(form, values), form) == {name: value for name, value in values.items() if value != "-"}
