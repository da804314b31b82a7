"""Log text as people have it becomes requests."""

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from exporter.excerpt import read_excerpt, render_json, render_text, verdict
from exporter.rules import shipped_rules

ONE = "5cb7ee58-39e6-11e9-be7e-29aff96747f2"
TWO = "4edbb3b3-4088-40bf-81ad-b0b3cc72210e"
STREAM = "e369853df766fa44e1ed0ff613f563bd"
TIMEOUT = f"({ONE}) Execution failed due to a timeout error"
ENDS_504 = f"({ONE}) Method completed with status: 504"
MALFORMED = f"({ONE}) Execution failed due to configuration error: Malformed Lambda proxy response"
ENDS_502 = f"({ONE}) Method completed with status: 502"


def causes(text, access_format="auto"):
    rules = shipped_rules()
    failures = [rules.classify(request) for request in read_excerpt(text, access_format=access_format)]
    return [failure.cause if failure else None for failure in failures]


def access(**fields):
    return json.dumps({"requestId": ONE, **fields})


TEST_PAGE = """Execution log for request cb320022-ee50-4349-b162-0db57b507192
Fri Feb 18 09:07:20 UTC 2022 : Starting execution for request: cb320022-ee50-4349-b162-0db57b507192
Fri Feb 18 09:07:20 UTC 2022 : Method request body before transformations:\x20
Fri Feb 18 09:07:20 UTC 2022 : Endpoint response body before transformations: {"Answer:":" is 0 years old!"}
Fri Feb 18 09:07:20 UTC 2022 : Execution failed due to configuration error: Malformed Lambda proxy response
Fri Feb 18 09:07:20 UTC 2022 : Method completed with status: 502
"""

WRAPPED = {
    "raw lines": f"{TIMEOUT}\n{ENDS_504}",
    "windows line ends": f"{TIMEOUT}\r\n{ENDS_504}\r\n",
    "aws logs tail": f"2026-01-01T00:00:00.123000+00:00 {STREAM} {TIMEOUT}\n2026-01-01T00:00:00.123000+00:00 {STREAM} {ENDS_504}",
    "awslogs": f"API-Gateway-Execution-Logs_ab12/prod {STREAM} {TIMEOUT}\nAPI-Gateway-Execution-Logs_ab12/prod {STREAM} {ENDS_504}",
    "a time and a bar": f"2023-10-27T14:40:57.744+01:00 | {TIMEOUT}\n2023-10-27T14:40:57.744+01:00 | {ENDS_504}",
    "a time and a tab": f"2024-06-04 18:49:51.785\t{TIMEOUT}\n2024-06-04 18:49:51.785\t{ENDS_504}",
    "the console's two lines": f"09:20:08\n{TIMEOUT}\n2019-02-26T16:48:37.000Z\n{ENDS_504}",
    "folded and unfolded": f"{TIMEOUT}\n{TIMEOUT}\n{ENDS_504}\n{ENDS_504}",
    "a quotation": f"> {TIMEOUT}\n> {ENDS_504}",
    "a list of code": f"- `{TIMEOUT}`\n- `{ENDS_504}`",
    "a code block": f"```log\n{TIMEOUT}\n{ENDS_504}\n```",
    "zappa tail": f"[2b4492] [1551199717349] Starting execution for request: {ONE}\n"
    "[2b4492] [1551199717350] Execution failed due to a timeout error\n[2b4492] [1551199717350] Method completed with status: 504",
    "json lines": "\n".join(json.dumps({"timestamp": 1, "message": line}) for line in (TIMEOUT, ENDS_504)),
    "filter-log-events": json.dumps(
        {
            "events": [
                {"logStreamName": STREAM, "timestamp": 1, "message": line, "ingestionTime": 2, "eventId": "3"}
                for line in (TIMEOUT, ENDS_504)
            ],
            "searchedLogStreams": [],
        },
        indent=4,
    ),
    "get-log-events, one document a line": "".join(
        json.dumps({"events": [{"timestamp": 1, "message": line}]}) for line in (TIMEOUT, ENDS_504)
    ),
    "a subscription's record": json.dumps(
        {
            "messageType": "DATA_MESSAGE",
            "owner": "123456789012",
            "logGroup": "g",
            "logStream": STREAM,
            "subscriptionFilters": ["x"],
            "logEvents": [{"id": "1", "timestamp": 1, "message": line} for line in (TIMEOUT, ENDS_504)],
        }
    ),
    "an object in a program": f'  {{\n    id: "34592909648632771509146330006962549870931336726003449873",\n    timestamp: 1551199717349,\n    message: "{TIMEOUT}"\n  }},\n  {{\n    message: "{ENDS_504}"\n  }},',
    "insights csv, the newest first": f"@timestamp,@message,@log\n2019-02-26 16:48:37.002,{ENDS_504},1:x\n2019-02-26 16:48:37.001,{TIMEOUT},1:x\n",
    "insights json": json.dumps(
        {
            "results": [
                [{"field": "@timestamp", "value": "2019-02-26 16:48:37.000"}, {"field": "@message", "value": line}]
                for line in (TIMEOUT, ENDS_504)
            ]
        }
    ),
    "insights rows": json.dumps(
        [{"@timestamp": "2019-02-26 16:48:37.000", "@message": line} for line in (TIMEOUT, ENDS_504)]
    ),
    "an insights table": f"| @timestamp | @message | @log |\n| --- | --- | --- |\n| 2024-05-21 19:49:16.1 | {TIMEOUT} | 1:x |\n| 2024-05-21 19:49:16.2 | {ENDS_504} | 1:x |",
    "the console's csv": f'timestamp,message\n1579627365978,"({ONE}) HTTP Method: PUT, Resource Path: /x"\n1579627365978,"({ONE}) Endpoint request body after transformations: {{\n  ""a"": 1\n}}"\n1579627365979,{TIMEOUT}\n1579627365979,{ENDS_504}\n',
    "csv without its header": f'1579627365978,"{TIMEOUT}, sort of"\n1579627365978,"{ENDS_504}"',
    "vended json": "\n".join(
        json.dumps({"resource_arn": "a", "event_timestamp": 1, "api_id": "ab12", "payload": line})
        for line in (TIMEOUT, ENDS_504)
    ),
    "no id at all": "Execution failed due to a timeout error\nMethod completed with status: 504",
    "one line": "Execution failed due to a timeout error",
    "prose around it": f"We see this in CloudWatch:\n\n{TIMEOUT}\n{ENDS_504}\n\nAny ideas?",
}


@pytest.mark.parametrize("text", WRAPPED.values(), ids=WRAPPED.keys())
def test_a_timeout_is_read_out_of_whatever_it_came_in(text):
    assert causes(text) == ["integration_timeout"]


@pytest.mark.parametrize(
    "text",
    [
        TEST_PAGE,
        json.dumps(TEST_PAGE),
        json.dumps(
            {
                "status": 502,
                "body": '{"message": "Internal server error"}',
                "headers": {},
                "log": TEST_PAGE,
                "latency": 10,
            },
            indent=2,
        ),
    ],
    ids=["pasted", "one json string", "test-invoke-method"],
)
def test_the_test_page_s_log_is_read(text):
    assert causes(text) == ["malformed_lambda_response"]
    (request,) = read_excerpt(text)
    assert request.request_id == "cb320022-ee50-4349-b162-0db57b507192"


ACCESS_LINES = {
    "json": (access(status="504"), "integration_timeout"),
    "pretty json": (json.dumps({"requestId": ONE, "status": "504"}, indent=4), "integration_timeout"),
    "behind a time": (f"2023-10-27T14:40:57.744+01:00 {STREAM} {access(status='504')}", "integration_timeout"),
    "in an event": (json.dumps({"timestamp": 1, "message": access(status="504")}), "integration_timeout"),
    "broken by messageString": (
        f'{{"requestId":"{ONE}","error_message": "Endpoint request timed out", "error_messageString": " "Endpoint request timed out"", "status":"504"}}',
        "integration_timeout",
    ),
    "broken and pretty": (
        f'{{\n  "requestId": "{ONE}",\n  "error_messageString": ""Endpoint request timed out"",\n  "error_responseType": "INTEGRATION_TIMEOUT",\n  "status": "504"\n}}',
        "integration_timeout",
    ),
    "a message broken over two lines": (
        '{"requestId": "17cb49b2-c061-11e9-9f0b-0f2d2e2b3c4d","status": "403","message": "Missing Authentication\n Token"}',
        "missing_authentication_token",
    ),
    "fields left out": (
        '{"requestId": "17cb49b2-…","status": "403","message": "Missing Authentication\\n Token",…}',
        "missing_authentication_token",
    ),
    "clf": (
        f'127.0.0.1 - - [27/Oct/2023:13:40:57 +0000]"GET /x HTTP/1.1" 504 87 {ONE} JKJaXmPLvHcESHA=',
        "integration_timeout",
    ),
    "csv": (
        f"1.1.1.1,-,-,27/Oct/2023:13:40:57 +0000,GET,/x,HTTP/1.1,504,3,{ONE},JKJaXmPLvHcESHA=",
        "integration_timeout",
    ),
    "xml": (
        f'<request id="{ONE}"> <httpMethod>GET</httpMethod> <resourcePath>/x</resourcePath> <status>504</status> </request>',
        "integration_timeout",
    ),
}


@pytest.mark.parametrize(("text", "cause"), ACCESS_LINES.values(), ids=ACCESS_LINES.keys())
def test_an_access_line_is_a_request_in_every_format(text, cause):
    assert causes(text) == [cause]


def test_a_format_of_one_s_own_is_read_with_its_format_string():
    assert causes(f"504 {ONE} /orders", access_format="$context.status $context.requestId $context.resourcePath") == [
        "integration_timeout"
    ]


# ----------------------------------------------------------------------------------------------------------- joining


def test_both_logs_join_by_request_id():
    text = access(status="502", error_message="Internal server error") + f"\n{MALFORMED}\n{ENDS_502}"
    assert causes(text) == ["malformed_lambda_response"]


def test_both_logs_join_by_the_extended_id():
    text = (
        '{"extendedRequestId":"Vts2FFmArPEFh8g=","status":"429"}\n'
        f"({ONE}) Extended Request Id: Vts2FFmArPEFh8g=\n({ONE}) Key throttle limit exceeded for RestApi a, Stage b, Resource c, HttpMethod POST. Limit: 1.00 Burst: 1\n"
        f"({ONE}) Method completed with status: 429"
    )
    assert causes(text) == ["throttled"]


def test_placeholders_join_nothing():
    lines = [
        json.dumps({"requestId": "UUID_REPLACED_INVALID_REQUEST_ID", "status": status})
        for status in ("200", "404", "504")
    ]
    assert causes("\n".join(lines)) == [None, "route_not_found", "integration_timeout"]


def test_two_access_lines_with_one_id_are_two_requests_and_the_status_tells_whose_the_execution_lines_are():
    text = "\n".join(
        [
            access(status="200"),
            access(status="504"),
            f"({ONE}) Execution failed due to a network error communicating with endpoint",
            ENDS_504,
        ]
    )
    assert causes(text) == [None, "integration_network"]


def test_requests_that_interleave_are_told_apart():
    text = f"({ONE}) Starting execution for request: {ONE}\n({TWO}) Starting execution for request: {TWO}\n{TIMEOUT}\n({TWO}) Method completed with status: 200\n{ENDS_504}"
    assert causes(text) == ["integration_timeout", None]


def test_lines_without_ids_end_with_their_terminal_line_or_with_prose():
    text = (
        "Execution failed due to a timeout error\nMethod completed with status: 504\n"
        "Execution failed due to configuration error: Invalid endpoint address\n"
        "And on another day:\n"
        "Execution failed due to a network error communicating with endpoint\n"
    )
    assert causes(text) == ["integration_timeout", "invalid_endpoint", "integration_network"]


def test_an_access_line_and_lines_without_ids_that_end_alike_are_one_request():
    text = (
        access(status="504")
        + "\nExecution failed due to a network error communicating with endpoint\nMethod completed with status: 504"
    )
    assert causes(text) == ["integration_network"]


# --------------------------------------------------------------------------------------------- lines of several lines


@pytest.mark.parametrize(
    "body",
    [
        "first\nExecution failed due to a timeout error",
        '{\n  "status": 500,\n  "requestId": "x",\n  "inner":\n  {"status": 404, "requestId": "x"}\n}',
        '\n{"message":"x","status":404,"requestId":"x"}',
        '{"a": "x [TRUNCATED]',
        "\n\nMethod completed with status: 500",
    ],
)
def test_a_body_belongs_to_its_line_whatever_it_says(body):
    text = f"({ONE}) Endpoint response body before transformations: {body}\n({ONE}) Successfully completed execution\n({ONE}) Method completed with status: 200"
    assert causes(text) == [None]
    assert read_excerpt(text).unreadable == 0


def test_a_function_s_error_of_many_lines_is_one_line():
    text = (
        f"({ONE}) Lambda execution failed with status 200 due to customer function error: Error: Cannot find module 'x'\n"
        f"Require stack:\n- /var/task/x.js\n- /var/task/y.js. Lambda request id: {TWO}\n{ENDS_502}"
    )
    (request,) = read_excerpt(text)
    assert len(request.steps) == 2
    assert request.steps[0].text.endswith(f"Lambda request id: {TWO}")
    assert causes(text) == ["lambda_error"]


def test_what_is_no_log_is_counted_and_nothing_else():
    found = read_excerpt("hello\nworld\n\n")
    assert (found.requests, found.unreadable) == ((), 2)


# ------------------------------------------------------------------------------------------------------------ verdicts


def test_a_verdict_holds_what_the_command_promises():
    (request,) = read_excerpt(access(status="504", ip="203.0.113.7", userAgent="curl/8") + f"\n{TIMEOUT}\n{ENDS_504}")
    found = json.loads(render_json(request, shipped_rules().classify(request)))
    assert found == {
        "request_id": ONE,
        "status": 504,
        "failure": True,
        "cause": "integration_timeout",
        "category": "integration",
        "rule": "integration-timeout-line",
        "evidence": "Execution failed due to a timeout error",
        "fields": verdict(request, None).fields,
        "timeline": ["Execution failed due to a timeout error", "Method completed with status: 504"],
    }
    assert found["fields"]["status"] == "504"
    assert found["fields"]["requestId"] == ONE


def test_a_success_has_a_verdict_too():
    (request,) = read_excerpt(access(status="200"))
    found = json.loads(render_json(request, shipped_rules().classify(request)))
    assert (found["failure"], found["cause"], found["category"], found["rule"], found["evidence"]) == (
        False,
        None,
        None,
        None,
        None,
    )
    assert "no failure" in render_text(request, None)


def test_no_secret_is_in_a_verdict():
    token = "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxMjM0NTY3ODkwIn0.dozjgNryP4J3jVmNHl0w5N_XgL0n3I9PlFUP0THsR8U"
    (request,) = read_excerpt(
        access(status="401", authorization=f"Bearer {token}", error_message=f"bad token {token}")
        + f"\n({ONE}) Method request headers: {{Authorization=Bearer {token}}}\n({ONE}) Method completed with status: 401"
    )
    failure = shipped_rules().classify(request)
    for shown in (render_json(request, failure), render_text(request, failure)):
        assert token not in shown
        assert "unauthorized" in shown


# --------------------------------------------------------------------------------------------------------------- total

pieces = st.one_of(
    st.text(max_size=40),
    st.sampled_from([*WRAPPED.values(), TEST_PAGE, *(text for text, _ in ACCESS_LINES.values())]).flatmap(
        lambda text: st.integers(0, len(text)).map(lambda cut: text[:cut])
    ),
    st.sampled_from(
        ["{", "[", '"', "\n", "| ", "@timestamp,@message\n", "timestamp,message\n", '1579627365978,"', "\ud800", "```"]
    ),
)


@settings(max_examples=400, deadline=None)
@given(st.lists(pieces, max_size=6))
def test_any_text_gives_an_answer(parts):
    found = read_excerpt("".join(parts))
    assert found.unreadable >= 0
    for request in found:
        render_json(request, shipped_rules().classify(request))


@pytest.mark.parametrize(
    "text",
    [
        "{" * 50_000,
        "[" * 50_000,
        '{"a":\n' * 3_000,
        "(" * 50_000,
        "|" * 50_000,
        '"' * 50_001,
        '1579627365978,"' * 3_000,
        "> " * 30_000,
    ],
)
def test_hostile_text_is_read_in_good_time(text):
    assert read_excerpt(text).requests == ()
