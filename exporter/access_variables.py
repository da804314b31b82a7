"""What an access line can tell: the `$context` variables, and the many names that people log them under.

It knows no line format, and no value: what these come to is said by `access_values.py`.
"""

import re
from collections.abc import Iterable, Mapping

_IDENTITY_NAMES = """
    accountId apiKey apiKeyId caller cognitoAuthenticationProvider cognitoAuthenticationType cognitoIdentityId
    cognitoIdentityPoolId principalOrgId sourceIp user userAgent userArn vpcId vpceId clientCert.clientCertPem
    clientCert.subjectDN clientCert.issuerDN clientCert.serialNumber clientCert.validity.notBefore
    clientCert.validity.notAfter
"""
_NAMES = """
    accountId apiId stage deploymentId domainName domainPrefix httpMethod path resourceId resourcePath routeKey protocol
    requestId extendedRequestId requestTime requestTimeEpoch isCanaryRequest awsEndpointRequestId awsEndpointRequestId2
    xrayTraceId customDomain.basePathMatched customDomain.routingRuleIdMatched tlsVersion cipherSuite
    error.message error.messageString error.responseType error.validationErrorString
    waf.error waf.latency waf.status wafResponseCode webaclArn
    authenticate.error authenticate.latency authenticate.status authorize.error authorize.latency authorize.status
    authorizer.principalId authorizer.error authorizer.latency authorizer.status authorizer.requestId
    authorizer.integrationLatency authorizer.integrationStatus
    integration.error integration.integrationStatus integration.latency integration.requestId integration.status
    integration.responseTransferMode integration.timeToAllHeaders integration.timeToFirstContent
    integrationErrorMessage integrationLatency integrationStatus
    status responseLatency responseLength responseOverride.status dataProcessed
    connectedAt connectionId messageId eventType
"""
_IDENTITY = _IDENTITY_NAMES.split()

VARIABLES = frozenset(_NAMES.split()) | frozenset(f"identity.{name}" for name in _IDENTITY)
"""The variables AWS documents for REST, HTTP and WebSocket APIs, without `$context.`; `authorizer.<property>`,
`authorizer.claims.<property>` and overrides of headers come on top."""

GLANCE_VARIABLES = (
    "requestId",
    "extendedRequestId",
    "responseLatency",
    "integrationLatency",
    "integration.latency",
    # What follows repeats from line to line: callers may remember what they made of it.
    "status",
    "httpMethod",
    "resourcePath",
    "routeKey",
    "apiId",
    "stage",
    "error.responseType",
    "integration.error",
    "integrationErrorMessage",
)
"""What a glance at a line takes, in its order."""
ROUTE_FROM = 5
"""Where those begin that repeat."""
# ------------------------------------------------------------------------------------------------- names people choose

_SEPARATORS = re.compile(r"[._\-\s]+")


def _squeezed(name: str) -> str:
    return _SEPARATORS.sub("", name).lower()


# `integration_status` is made of `integration.status`, not of `integrationStatus`: dotted names come first.
_DOTTED = {name.lower(): name for name in VARIABLES}

_SQUEEZED = {
    # Short names win over dotted ones here: `integrationStatus` squeezed is itself, not `integration.status`.
    **{_squeezed(name): name for name in sorted(VARIABLES, key=lambda name: -name.count("."))},
    **{
        alias: name
        for name, aliases in {
            "requestId": "xamznrequestid awsrequestid apigwrequestid apigatewayrequestid reqid",
            "extendedRequestId": "xamzapigwid apigwid extendedid requestextendedid extendedreqid",
            "status": "statuscode httpstatus httpstatuscode responsestatus responsestatuscode responsecode",
            "httpMethod": "method verb requestmethod httpverb",
            "resourcePath": "resource requestresource requestresourcepath httpresource routetemplate httproute",
            "path": "requestpath rawpath httppath",
            "apiId": "restapiid httpapiid apigatewayid gatewayid",
            "stage": "apistage stagename apigatewaystage",
            "responseLatency": "latencyms responselatencyms requestlatency totallatency responsetime responsetimems",
            "integrationLatency": "integrationlatencyms backendlatency integrationresponselatency",
            "integration.error": "integrationerrorstring",
            "integration.status": "functionresponsestatus",
            "integration.integrationStatus": "integrationservicestatus",
            "authorize.status": "authorizeresultstatus",
            "authorizer.status": "authorizerservicestatus",
            "error.message": "errormsg",
            "error.messageString": "errorstring",
            "error.responseType": "responsetype errortype gatewayresponsetype",
            "error.validationErrorString": "validationerror validationerrorstring errorvalidation errorvalidationerror",
            "identity.sourceIp": "ip clientip sourceipaddress ipaddress remoteip remoteaddr requestip",
            "identity.userAgent": "useragent httpuseragent requestuseragent",
            "xrayTraceId": "traceid xray xrayid xraytrace xtraceid xamzntraceid awsxraytraceid",
            "wafResponseCode": "wafresponse wafcode",
            "webaclArn": "wafaclarn wafarn wafwebaclarn",
            "requestTimeEpoch": "epoch requestepoch timeepoch requesttimems",
            "responseLength": "responsesize responsebytes contentlength",
            "domainName": "domain host hostname",
            "customDomain.basePathMatched": "basepathmatched basepath",
        }.items()
        for alias in aliases.split()
    },
}
for _name in _IDENTITY:
    _SQUEEZED.setdefault(_squeezed(_name), f"identity.{_name}")
_SQUEEZED["principalid"] = "authorizer.principalId"

_WEAK = {
    "message": "error.message",
    "id": "requestId",
    "time": "requestTime",
    "timestamp": "requestTime",
    "route": "routeKey",
    "latency": "responseLatency",
    "length": "responseLength",
    "bytes": "responseLength",
}
"""Names that could mean anything: believed only where nothing better names the variable."""
_WEAKEST = {"error": "error.message"}
"""Beside a `message`, it is rather the type of the error."""
_FIRST_WEAK_RANK = 4

_PREFIX = re.compile(r"(?:\$?context\.)+", re.IGNORECASE)


def _bare(path: str) -> str:
    return _PREFIX.sub("", path, count=1) if _PREFIX.match(path) else path


def _guesses(path: str) -> tuple[str | None, ...]:
    """What a key could mean, the surest first: the name itself, its dots written otherwise, a name like it, guesses."""
    name = _bare(path)
    dotted = _SEPARATORS.sub(".", name).lower()
    squeezed = dotted.replace(".", "")
    return (
        name if name in VARIABLES else None,
        _DOTTED.get(dotted),
        _SQUEEZED.get(squeezed),
        _WEAK.get(squeezed),
        _WEAKEST.get(squeezed),
    )


def variables_of(paths: Iterable[str], known: Mapping[str, str] | None = None) -> dict[str, str]:
    """The variable behind each key of a line (nested keys joined by dots): `known` first, then by name.

    A key that tells of no variable, or of one that another key tells better, keeps its own name. The order of the keys
    does not matter.
    """
    known = known or {}
    claims = sorted(
        (rank, path, variable)
        for path in paths
        for rank, variable in enumerate((known.get(path), *(() if path in known else _guesses(path))))
        if variable is not None
    )
    names = {path: _bare(path) for path in paths}
    taken: set[str] = set()
    settled: set[str] = set()
    for rank, path, variable in claims:
        # messageString is the message: with it, `message` must be something else.
        twin = "error.messageString" if variable == "error.message" and rank >= _FIRST_WEAK_RANK else variable
        if path not in settled and variable not in taken and twin not in taken:
            taken.add(variable)
            names[path] = variable
            settled.add(path)
    return names
