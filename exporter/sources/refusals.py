"""What an AWS call that failed means: to be tried again, to be told, or never thought of.

One table for all that asks AWS. It looks only at error codes, HTTP statuses and exception types, never at message
texts, and it calls `unforeseen` what nobody foresaw, so that the caller lets that exception pass.
"""

from collections.abc import Mapping
from typing import NamedTuple

from botocore import exceptions
from botocore.exceptions import BotoCoreError, ClientError

_THROTTLES = frozenset(
    {
        "BandwidthLimitExceeded",
        "LimitExceededException",
        "RequestLimitExceeded",
        "RequestThrottled",
        "RequestThrottledException",
        "SlowDown",
        "Throttling",
        "ThrottlingException",
        "ThrottledException",
        "TooManyRequestsException",
    }
)
_DENIALS = frozenset({"AccessDenied", "AccessDeniedException", "UnauthorizedException", "UnauthorizedOperation"})
_BAD_CREDENTIALS = frozenset(
    {
        "ExpiredToken",
        "ExpiredTokenException",
        "IncompleteSignature",
        "IncompleteSignatureException",
        "InvalidAccessKeyId",
        "InvalidClientTokenId",
        "InvalidSignatureException",  # also what a clock more than 5 minutes off gets
        "MissingAuthenticationToken",
        "MissingAuthenticationTokenException",
        "RequestExpired",
        "SignatureDoesNotMatch",
        "UnrecognizedClientException",
    }
)
_MEANINGS: Mapping[str, str] = {
    **dict.fromkeys(_THROTTLES, "throttled"),
    **dict.fromkeys(_DENIALS, "denied"),
    **dict.fromkeys(_BAD_CREDENTIALS, "credentials"),
    "InvalidParameterException": "invalid",
    "NotFoundException": "missing",
    "ResourceNotFoundException": "missing",
    "ServiceUnavailableException": "unavailable",
}
_NO_CREDENTIALS = (
    exceptions.ConfigParseError,
    exceptions.CredentialRetrievalError,
    exceptions.LoginError,
    exceptions.MetadataRetrievalError,
    exceptions.NoAuthTokenError,
    exceptions.NoCredentialsError,
    exceptions.PartialCredentialsError,
    exceptions.ProfileNotFound,
    exceptions.SSOError,
    exceptions.TokenRetrievalError,
    exceptions.UnknownCredentialError,
)
_PASSING = frozenset({"malformed", "network", "throttled", "timeout", "unavailable"})


class Refusal(NamedTuple):
    """What a failed call came to."""

    reason: str
    """`throttled`, `unavailable`, `network`, `timeout`, `malformed`, `credentials`, `denied`, `missing`,
    `invalid` or `unforeseen`."""
    operation: str
    """The operation that failed; another than the one called when it was a step to credentials (`AssumeRole`)."""
    code: str
    """AWS's error code, or the exception's name where no answer came."""

    @property
    def passing(self) -> bool:
        """Whether the same call may go well a moment later."""
        return self.reason in _PASSING


def refusal_of(error: BotoCoreError | ClientError, operation: str) -> Refusal:
    """What `error`, raised by calling `operation`, means."""
    if isinstance(error, ClientError):
        return _refusal_by_answer(error, operation)
    return Refusal(_reason_without_answer(error), operation, type(error).__name__)


def _reason_without_answer(error: BotoCoreError) -> str:
    if isinstance(error, exceptions.ReadTimeoutError | exceptions.ConnectTimeoutError):
        return "timeout"
    if isinstance(error, exceptions.HTTPClientError | exceptions.ConnectionError):
        return "network"
    if isinstance(error, _NO_CREDENTIALS):
        return "credentials"
    return "unforeseen"


def _refusal_by_answer(error: ClientError, operation: str) -> Refusal:
    code = error.response.get("Error", {}).get("Code", "")
    status = error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0)
    if error.operation_name != operation:
        # botocore calls STS or SSO inside any call whose credentials are due: an AccessDenied of AssumeRole says
        # nothing about the log group.
        return Refusal("credentials", error.operation_name, code)
    by_status = "throttled" if status == 429 else "unavailable" if status >= 500 else "unforeseen"
    return Refusal(_MEANINGS.get(code, by_status), operation, code)
