"""What the values of access log variables look like: how a reader of lines knows where one ends.

A line with a value of another shape is none that the format makes. What values mean is not known here: that is the work
of `access_values.py`.
"""

import re
from typing import NamedTuple

from exporter.access_variables import VARIABLES


class Shape(NamedTuple):
    """What a variable's values look like."""

    exact: str | None = None
    """A pattern of which no match begins another match: it ends by itself, without a delimiter."""
    chars: str | None = None
    """The class of its characters (a regex class body); None: any text at all, spaces and quotes too."""
    head: str = ""
    """A pattern that stands before its characters."""
    longest: int = 2048
    quoted: bool = False
    """Whether the value brings double quotes of its own."""


SLASH = "(?=/)"
"""The head of a path."""
VERB = "(?:[A-Z]{1,16} (?=/))?"
"""The head of an HTTP API's route: the method, where it is not `$default`."""

_ID = Shape(
    exact=(
        r"[0-9a-fA-F]{8}-(?:[0-9a-fA-F]{4}-){3}[0-9a-fA-F]{12}|[A-Za-z0-9_+/-]{8,40}={1,2}(?!=)"
        r"|UUID_REPLACED_INVALID_REQUEST_ID"
    ),
    chars=r"A-Za-z0-9_=+/.:-",
    longest=256,
)
_NUMBER = Shape(chars="0-9.", longest=24)
_CODE = Shape(exact="[0-9]{3}", chars="0-9", longest=3)
_WORD = Shape(chars=r"\S")
_NAME = Shape(chars=r"A-Za-z0-9_$.-", longest=256)
_TEXT = Shape()

_NUMBERS = """
    responseLength responseLatency integrationLatency dataProcessed integration.timeToAllHeaders
    integration.timeToFirstContent
"""
_WORDS = """
    identity.caller identity.user identity.userArn identity.apiKey identity.apiKeyId identity.principalOrgId
    identity.cognitoAuthenticationProvider identity.cognitoAuthenticationType identity.cognitoIdentityId
    identity.cognitoIdentityPoolId identity.vpcId identity.vpceId customDomain.basePathMatched
    customDomain.routingRuleIdMatched webaclArn cipherSuite integration.responseTransferMode
"""
_IDS = """
    requestId extendedRequestId awsEndpointRequestId awsEndpointRequestId2 connectionId messageId integration.requestId
    authorizer.requestId
"""

_SHAPES = {
    "status": _CODE,
    "responseOverride.status": _CODE,
    "integrationStatus": _CODE,
    "integration.integrationStatus": _CODE,
    "requestTimeEpoch": Shape(exact="[0-9]{13}", chars="0-9", longest=16),
    "connectedAt": Shape(exact="[0-9]{13}", chars="0-9", longest=16),
    "requestTime": Shape(
        exact=r"[0-9]{1,2}/[A-Za-z]{3}/[0-9]{4}:[0-9]{2}:[0-9]{2}:[0-9]{2} [+-][0-9]{4}",
        chars="0-9A-Za-z/:+ -",
        longest=40,
    ),
    "httpMethod": Shape(
        exact="GET|HEAD|POST|PUT|DELETE|CONNECT|OPTIONS|TRACE|PATCH|QUERY", chars="A-Za-z_-", longest=32
    ),
    "eventType": Shape(exact="CONNECT|MESSAGE|DISCONNECT", chars="A-Z", longest=32),
    "isCanaryRequest": Shape(exact="true|false", chars="a-zA-Z", longest=8),
    "protocol": Shape(exact=r"[A-Za-z]{2,9}/[0-9]\.[0-9]", chars="A-Za-z0-9/.", longest=16),
    "tlsVersion": Shape(exact=r"TLSv[0-9]\.[0-9]", chars="A-Za-z0-9.", longest=16),
    "accountId": Shape(exact="[0-9]{12}", chars="0-9", longest=16),
    "apiId": Shape(exact="[a-z0-9]{10}", chars="A-Za-z0-9_-", longest=64),
    "stage": _NAME,
    "domainName": _NAME,
    "domainPrefix": _NAME,
    "deploymentId": _NAME,
    "resourceId": _NAME,
    "wafResponseCode": Shape(exact="WAF_ALLOW|WAF_BLOCK", chars="A-Z_", longest=32),
    "error.responseType": Shape(chars="A-Z0-9_", longest=64),
    "xrayTraceId": Shape(exact="(?:Root=)?1-[0-9a-f]{8}-[0-9a-f]{24}", chars="A-Za-z0-9_=;.:-", longest=256),
    "path": Shape(chars=r"\S", head=SLASH),
    "resourcePath": Shape(chars=r"\S", head=SLASH),
    "routeKey": Shape(chars=r"\S", head=VERB),
    "error.messageString": Shape(quoted=True),
    "identity.sourceIp": Shape(chars="0-9A-Fa-f:.", longest=64),
    "identity.accountId": Shape(exact="[0-9]{12}", chars="0-9", longest=16),
    **dict.fromkeys(_NUMBERS.split(), _NUMBER),
    **dict.fromkeys(_WORDS.split(), _WORD),
    **dict.fromkeys(_IDS.split(), _ID),
}


def shape_of(name: str) -> Shape:
    """The shape of a variable's values; any text for a variable that is not known."""
    shape = _SHAPES.get(name)
    if shape is not None:
        return shape
    if name in VARIABLES and name.endswith((".latency", "Latency")):
        return _NUMBER
    if name in VARIABLES and name.endswith((".status", "Status")):
        return _CODE
    return _TEXT


_ASCII = [chr(code) for code in range(0x20, 0x7F)]


def members(chars: str | None) -> frozenset[str]:
    """The printable ASCII characters of a class; None: all."""
    return frozenset(_ASCII) if chars is None else frozenset(re.findall(f"[{chars}]", "".join(_ASCII)))


def may_hold(shape: Shape, char: str) -> bool:
    """Whether values of this shape may contain a character, be it ASCII or not."""
    return shape.chars is None or re.match(f"[{shape.chars}]", char) is not None
