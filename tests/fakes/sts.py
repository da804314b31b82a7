"""As much of STS as assuming a role takes: AssumeRole and GetCallerIdentity, in its XML."""

import itertools
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from xml.sax.saxutils import escape

_NAMESPACE = "https://sts.amazonaws.com/doc/2011-06-15/"


@dataclass
class Role:
    """A role that may be assumed."""

    external_id: str | None = None
    seconds: float = 3600


class Sts:
    """Roles and the credentials given for them."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self.roles: dict[str, Role] = {}
        self._clock = clock
        self._serial = itertools.count(1)
        self._expires: dict[str, float] = {}
        self._role_of: dict[str, str] = {}

    def has_expired(self, access_key: str) -> bool:
        """Whether `access_key` was given here and is too old by now."""
        return self._clock() >= self._expires.get(access_key, float("inf"))

    def answer(self, asked: dict[str, str], access_key: str, *, down: bool) -> tuple[int, str, bytes]:
        """HTTP status, code and body."""
        if down:
            return 503, "ServiceUnavailable", _error("ServiceUnavailable", "STS is down")
        action = asked.get("Action", "")
        if action == "AssumeRole":
            return self._assume(asked)
        if action == "GetCallerIdentity":
            arn = self._role_of.get(access_key, "arn:aws:iam::123456789012:user/tester")
            inner = f"<Arn>{escape(arn)}</Arn><UserId>AIDA</UserId><Account>{arn.split(':')[4]}</Account>"
            return 200, "OK", _result(action, inner)
        return 400, "InvalidAction", _error("InvalidAction", action)

    def _assume(self, asked: dict[str, str]) -> tuple[int, str, bytes]:
        arn = asked["RoleArn"]
        role = self.roles.get(arn)
        if role is None or role.external_id != asked.get("ExternalId"):
            return 403, "AccessDenied", _error("AccessDenied", f"not authorized to perform: sts:AssumeRole on {arn}")
        key = f"ASIA{next(self._serial):016d}"
        expires = self._clock() + role.seconds
        self._expires[key], self._role_of[key] = expires, arn
        inner = (
            f"<Credentials><AccessKeyId>{key}</AccessKeyId><SecretAccessKey>secret</SecretAccessKey>"
            f"<SessionToken>token</SessionToken>"
            f"<Expiration>{datetime.fromtimestamp(expires, UTC).strftime('%Y-%m-%dT%H:%M:%SZ')}</Expiration>"
            f"</Credentials><AssumedRoleUser><AssumedRoleId>AROA:x</AssumedRoleId><Arn>{escape(arn)}</Arn>"
            f"</AssumedRoleUser>"
        )
        return 200, "OK", _result("AssumeRole", inner)


def _result(action: str, inner: str) -> bytes:
    return (
        f'<{action}Response xmlns="{_NAMESPACE}"><{action}Result>{inner}</{action}Result>'
        f"<ResponseMetadata><RequestId>0</RequestId></ResponseMetadata></{action}Response>"
    ).encode()


def _error(code: str, message: str) -> bytes:
    return (
        f'<ErrorResponse xmlns="{_NAMESPACE}"><Error><Type>Sender</Type><Code>{code}</Code>'
        f"<Message>{escape(message)}</Message></Error><RequestId>0</RequestId></ErrorResponse>"
    ).encode()
