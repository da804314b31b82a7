"""What must never leave, and what must stay readable."""

import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from exporter import redaction
from exporter.redaction import REDACTED, redact, strip_url

JWT = "eyJhbGciOiJIUzI1NiIsInR5cCI6IkpXVCJ9.eyJzdWIiOiIxMjM0NTY3ODkwIn0.dozjgNryP4J3jVmNHl0w5N_XgL0n3I9PlFUP0THsR8U"
SESSION_TOKEN = "IQoJb3JpZ2luX2VjEJr//////////wEaCXVzLWVhc3QtMSJHMEUCIQDq9Zx8Vb3mK7wT1pLr5nYc2sQf" * 4
UUID = "286364ab-3a83-11e9-8dc8-db3cf4c83204"

# Each: a text, and what of it must be gone.
SECRETS = {
    "jwt": (f"invalid token {JWT} given", JWT.split(".")),
    "jwt cut off": (f"got {JWT[:60]} [TRUNCATED]", [JWT[:36], JWT[37:60]]),
    "bearer": ("header was Bearer abc.DEF-123", ["abc.DEF-123"]),
    "short bearer in quotes": ("got 'Bearer xyz' instead", ["xyz"]),
    "basic": ("Basic dXNlcjpwYXNz failed", ["dXNlcjpwYXNz"]),
    "authorization header": ('{"Authorization": "Digest username=bob, nonce=1f"}', ["bob", "1f"]),
    "authorization in a map": ("{Accept=*/*, authorization=hunter2 extra words", ["hunter2", "extra"]),
    "signed request": (
        "Authorization=AWS4-HMAC-SHA256 Credential=AKIAIOSFODNN7EXAMPLE/20200101/us-east-1/execute-api/aws4_request, SignedHeaders=host, Signature=fe5f80",
        ["AKIAIOSFODNN7EXAMPLE", "fe5f80"],
    ),
    "token quoted by the gateway": (
        "'hunter2secret' not a valid key=value pair (missing equal-sign) in Authorization header: 'hunter2secret'.",
        ["hunter2secret"],
    ),
    "hashed token quoted by the gateway": (
        "Invalid key=value pair (missing equal-sign) in Authorization header (hashed with SHA-256 and encoded with Base64): 'abcdefg='.",
        ["abcdefg"],
    ),
    "access key": ("The key AKIAIOSFODNN7EXAMPLE is unknown", ["AKIAIOSFODNN7EXAMPLE"]),
    "temporary access key": ("key=ASIAIOSFODNN7EXAMPLE,", ["ASIAIOSFODNN7EXAMPLE"]),
    "bare secret key": ("tried wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY here", ["wJalrXUtnFEMI", "bPxRfiCYEXAMPLEKEY"]),
    "named secret key": ("AWS_SECRET_ACCESS_KEY=short", ["short"]),
    "bare session token": (f"with {SESSION_TOKEN}", [SESSION_TOKEN[:40], SESSION_TOKEN[-40:]]),
    "session token header": ("{X-Amz-Security-Token=FwoGZXIv, Host=h}", ["FwoGZXIv"]),
    "signed url": (
        "GET https://b.s3.amazonaws.com/k?X-Amz-Credential=AKIAX%2F1&X-Amz-Signature=0a1b&X-Amz-Security-Token=Iq%3D",
        ["AKIAX", "0a1b", "Iq%3D"],
    ),
    "signed url of cloudfront": ("https://d.cloudfront.net/x?Expires=1&Signature=q~w&Key-Pair-Id=K2", ["q~w", "K2"]),
    "api key in a relative query": ("Resource Path: /x?api_key=k-123&v=2", ["k-123", "=2"]),
    "token in a fragment": ("redirect to https://app/#access_token=zzz9&x=1", ["zzz9"]),
    "password in a url": ("redis://:hunter2@cache:6379/0", ["hunter2"]),
    "password with every delimiter": ("postgres://zoltan:p/a@s?s#w@db.internal:5432/x", ["p/a", "s?s", "#w", "zoltan"]),
    "user in a url": ("ftp://bob@host/x", ["bob"]),
    "token as user in a url": ("https://ghp_0123456789abcdef@github.com/x", ["ghp_0123456789abcdef"]),
    "query of an illegal uri": (
        "Illegal character in query at index 31: https://h/p?name=John Smith&pin=1 2",
        ["John", "Smith", "1 2"],
    ),
    "cookie": ("Cookie: session=abc; theme=dark", ["abc", "dark"]),
    "set-cookie in json": ('{"Set-Cookie":"sid=abc; Path=/", "x":1}', ["sid", "abc"]),
    "cookies of a version 2 event": ('{"cookies":["a=secret1"],"rawPath":"/"}', ["secret1"]),
    "json in json": (r'{"body":"{\"password\":\"hunter2\"}"}', ["hunter2"]),
    "quoted password with blanks": ('{"password": "correct horse, battery"}', ["correct", "horse", "battery"]),
    "password with an escaped quote": (r'{"db_password": "a\"b c"}', ["b c"]),
    "unquoted password": ("password=pa,ss}word;x", ["pa,ss", "word;x"]),
    "python dict": ("{'client_secret': 'xyzzy'}", ["xyzzy"]),
    "hash rocket": (':token=>"xyzzy"', ["xyzzy"]),
    "e-mail": ("User zoltan.kiss+x@mail.example.co.uk. not found", ["zoltan", "kiss", "example"]),
    "e-mail of one word": ("<root@example.com>", ["root@", "example"]),
    "encoded e-mail": ("/users/zoltan.kiss%40example.com/orders", ["zoltan", "kiss", "example"]),
    "unicode e-mail": ("jürgen@bücher.example", ["jürgen", "bücher"]),
    "hex": ("key 5f4dcc3b5aa765d61d8327deb882cf99", ["5f4dcc3b"]),
    "base64": ("value c2VjcmV0LXZhbHVlLXRoYXQtaXMtbG9uZy1lbm91Z2g3MzE5 x", ["c2VjcmV0"]),
    "card": ("card 4111111111111111 declined", ["4111111111111111"]),
    "card in groups": ("card 4111 1111 1111 1111 declined", ["4111 1111", "1111 1111"]),
    "card with dashes": ("5500-0000-0000-0004", ["5500-0000"]),
    "amex": ("3782 822463 10005", ["822463"]),
    "private key": ("-----BEGIN RSA PRIVATE KEY-----\nMIIE\nabc\n-----END RSA PRIVATE KEY----- end", ["MIIE", "abc"]),
    "private key cut off": ("-----BEGIN PRIVATE KEY-----\nMIIE\nabc [TRUNCATED]", ["MIIE", "abc"]),
    "iam principal": (
        "User: arn:aws:sts::123456789012:assumed-role/dev/john is not authorized to perform: execute-api:Invoke on resource: arn:aws:execute-api:us-east-1:********9012:ab12cd34ef/prod/GET/x",
        ["john", "9012:ab"],
    ),
    "iam user": ("denied for arn:aws:iam::123456789012:user/john", ["john"]),
    "masked key": ("API Key ****abcdef exceeded", ["abcdef"]),
    "value quoted by a body validator": ('[string "hunter2" is too short (length: 7)]', ["hunter2"]),
    "stripe": ("Invalid API Key provided: sk_live_4eC39HqLyjW", ["4eC39HqLyjW"]),
}

KEPT = (
    "Execution failed due to configuration error: Malformed Lambda proxy response",
    "Execution failed due to a timeout error",
    'Execution failed due to configuration error: Invalid JSON in response: Unrecognized field "errorType" , not marked as ignorable',
    "Execution failed due to configuration error: API Gateway does not have permission to assume the provided role arn:aws:iam::123456789012:role/api-gateway",
    "Execution failed due to configuration error: Host name 'api.example.com' does not match the certificate subject provided by the peer (CN=*.example.org)",
    "Execution failed due to configuration error: PKIX path building failed: sun.security.provider.certpath.SunCertPathBuilderException: unable to find valid certification path to requested target",
    "Execution failed due to configuration error: No match for output mapping and no default output mapping configured. Endpoint Response Status Code: 403",
    "Execution failed due to configuration error: Integration response of reported length 10485761 is larger than allowed maximum of 10485760 bytes.",
    "Execution failed due to configuration error: Authorization header already present",
    f"Lambda invocation failed with status: 429. Lambda request id: {UUID}",
    'Request body does not match model schema for content type application/json: [object has missing required properties (["password","token"])]',
    "Missing required request parameters: [token, x-api-key]",
    "API Key not authorized because method 'GET /x' requires API Key and API Key is not associated with a Usage Plan for API Stage ab12cd34ef/prod: API Key was required but not present",
    f"Verifying Usage Plan for request: {UUID}. API Key:  API Stage: ab12cd34ef/prod",
    "The security token included in the request is expired",
    "The request signature we calculated does not match the signature you provided. Check your AWS Secret Access Key and signing method.",
    "Signature expired: 20200101T000000Z is now earlier than 20200101T001000Z",
    "Authorization header requires 'Credential' parameter. Authorization header requires 'Signature' parameter.",
    "Missing Authentication Token",
    "User: anonymous is not authorized to perform: execute-api:Invoke on resource: arn:aws:execute-api:us-east-1:********:ab12cd34ef/prod/GET/x",
    "X-ray Tracing ID : Root=1-6962324d-273b8749616a929c8bd4fd14",
    "2019-02-27T11:31:00.123Z 286364ab-3a83-11e9-8dc8-db3cf4c83204 Task timed out after 10.00 seconds",
    "Cannot find module '@prisma/client'\nRequire stack:\n- /var/task/node_modules/lodash@4.17.21/index.js",
    "https://lambda.us-east-1.amazonaws.com/2015-03-31/functions/arn:aws:lambda:us-east-1:123456789012:function:OrdersStack-CreateOrder9F2A7C1B-Xy12Ab34Cd56/invocations",
    "org.springframework.beans.factory.support.AbstractAutowireCapableBeanFactory failed at 1579627365978",
    "http://orders.internal:8080/orders/42",
    "Basic authentication failed",
)


@pytest.mark.parametrize(("text", "gone"), SECRETS.values(), ids=SECRETS)
def test_a_secret_is_cut(text: str, gone: list[str]) -> None:
    redacted = redact(text)
    assert [part for part in gone if part in redacted] == []


@pytest.mark.parametrize("text", KEPT)
def test_what_the_gateway_says_stays_as_it_is(text: str) -> None:
    assert redact(text) == text


def test_only_the_secret_is_cut() -> None:
    assert redact(f"login of john@example.com with Bearer {JWT} failed") == (
        f"login of {REDACTED} with Bearer {REDACTED} failed"
    )


def test_names_of_query_parameters_stay() -> None:
    assert redact("/x?a=1&b=2") == f"/x?a={REDACTED}&b={REDACTED}"


@pytest.mark.parametrize(
    ("url", "safe"),
    [
        ("https://api.example.com/orders/42?token=abc#frag", "https://api.example.com/orders/42"),
        ("https://api.example.com/orders#access_token=abc", "https://api.example.com/orders"),
        ("https://user:pass@api.example.com:8443/x", f"https://{REDACTED}@api.example.com:8443/x"),
        ("https://api.example.com/users/john@example.com", f"https://api.example.com/users/{REDACTED}"),
        ("", ""),
    ],
)
def test_a_url_loses_userinfo_query_and_fragment(url: str, safe: str) -> None:
    assert strip_url(url) == safe


# Pieces that mean something to some pattern, so that they meet in ways nobody thought of.
PIECES = st.sampled_from(
    [
        *(text for text, _ in SECRETS.values()),
        *("password", "token", "cookie", "Authorization", "Bearer", "Basic", "eyJ", "AKIA", "://", "@", "%40", "***"),
        *(
            "=",
            ":",
            "?",
            "&",
            "#",
            '"',
            "'",
            "\\",
            "/",
            ".",
            "-",
            "_",
            " ",
            "\n",
            "[",
            "]",
            ", ",
            "}",
            REDACTED,
            "arn:",
        ),
        *(
            "a",
            "B",
            "7",
            "4111",
            "1111 ",
            "abcdef0123456789",
            "example.com",
            "User: ",
            " is not authorized",
            'string "',
        ),
    ]
)


@settings(max_examples=500)
@given(st.lists(PIECES | st.text(max_size=8), max_size=12).map("".join))
def test_redacting_twice_is_redacting_once(text: str) -> None:
    once = redact(text)
    assert redact(once) == once


@settings(max_examples=500)
@given(st.lists(PIECES | st.text(max_size=8), max_size=12).map("".join))
def test_a_cut_that_is_left_out_would_have_cut_nothing(text: str) -> None:
    whole = text
    for cut in redaction._CUTS:
        whole = cut.pattern.sub(cut.replacement, whole)
    assert redaction._cut_once(text) == whole


@given(st.uuids().map(str))
def test_an_id_that_is_not_looked_at_has_nothing_to_be_cut(text: str) -> None:
    assert redact(text) == redaction._cut_once(text) == text


def test_an_id_in_capitals_may_end_like_a_key() -> None:
    assert redact("01234567-89AB-4DEF-8123-ACCA12345678") == f"01234567-89AB-4DEF-8123-{REDACTED}"


@given(st.text())
def test_any_text_is_redacted(text: str) -> None:
    assert isinstance(redact(text), str)
    assert isinstance(strip_url(text), str)


HOSTILE = (
    *(
        "a",
        "A1b",
        "0",
        ".",
        "-",
        "_",
        "/",
        "=",
        "*",
        " ",
        "\n",
        "\\",
        '"',
        "'",
        "a ",
        "1234 ",
        "1234-",
        "a.",
        "a@",
        "a@a.",
    ),
    *(
        "%40",
        "a%40a.",
        "://",
        "://a:",
        "://a:b@",
        "?a",
        "?a=",
        "&",
        "&a=",
        "#",
        "eyJ",
        "eyJa.",
        "AKIA",
        "Bearer ",
        "basic ",
    ),
    *(
        "cookie",
        "cookie=",
        'cookie="',
        "authorization header ",
        "authorization header (",
        "password",
        "password=",
        'token="',
    ),
    *("secret ", "arn:", "arn:a ", "User: ", "User: a is not ", "-----BEGIN A-----", "-----BEGIN ", 'string "', "' "),
    *(
        "Illegal character in ",
        "Illegal character in path at index 1: ",
        ":assumed-role/",
        ":assumed-role/a/",
        ":user/",
        "xox",
    ),
)
# Every pattern is tried, whatever the text consists of.
EVERY_NEEDLE = (
    " -----begin illegal character in input string not a valid key=value pair :// ?cookie authorization bearer basic "
    "token secret eyj akia _live_ @ %40 is not authorized :assumed-role/ :user/ ***"
)


def test_time_grows_with_the_length_of_the_text_and_not_with_its_square() -> None:
    def seconds(text: str) -> float:
        began = time.thread_time()
        redact(text)
        return time.thread_time() - began

    def is_slow(unit: str) -> bool:
        """Eight times the length takes about eight times as long; were it the square, 64 times."""
        short = unit * (2_000 // len(unit)) + EVERY_NEEDLE
        long = unit * (16_000 // len(unit)) + EVERY_NEEDLE
        return seconds(long) > 24 * seconds(short)

    # A busy machine makes one measurement lie, not five in a row.
    assert [unit for unit in HOSTILE if all(is_slow(unit) for _ in range(5))] == []
