"""What stands before every route: the rate limit, who is let in, and the headers of every answer.

All of it comes from the web configuration in force at that moment. There is no path that needs no password, as in
every exporter that reads this file.
"""

import base64
import binascii
import time
from collections.abc import Callable, Mapping

from starlette.datastructures import MutableHeaders
from starlette.responses import PlainTextResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from exporter.web.passwords import Passwords, Verdict
from exporter.web_config import RateLimit, WebConfig

HEADERS: Mapping[str, str] = {
    "X-Content-Type-Options": "nosniff",
    "Content-Security-Policy": "default-src 'none'; style-src 'unsafe-inline'; frame-ancestors 'none'",
    "Referrer-Policy": "no-referrer",
}
"""Set on every answer; those that the web configuration sets win."""


class Guard:
    """An ASGI application around another."""

    def __init__(
        self, app: ASGIApp, web_config: Callable[[], WebConfig], *, clock: Callable[[], float] = time.monotonic
    ) -> None:
        """`web_config` is asked at every request, in the event loop; `clock` gives seconds."""
        self._app = app
        self._web_config = web_config
        self._clock = clock
        self._passwords = Passwords()
        self._bucket: _Bucket | None = None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Let the request through, or answer 401 or 429."""
        config = self._web_config()

        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                for name, value in {**HEADERS, **config.headers}.items():
                    headers[name] = value
            await send(message)

        answer = await self._refusal(config, scope) or self._app
        await answer(scope, receive, send_with_headers)

    async def _refusal(self, config: WebConfig, scope: Scope) -> PlainTextResponse | None:
        if not self._has_token(config.rate_limit):
            return PlainTextResponse("Too many requests.\n", 429)
        if not config.users:
            return None
        user, password = _credentials(scope)
        match Verdict.WRONG if user is None else await self._passwords.check(config.users, user, password):
            case Verdict.RIGHT:
                return None
            case Verdict.BUSY:
                return PlainTextResponse("Too many passwords are being checked.\n", 429, {"Retry-After": "1"})
        challenge = 'Basic realm="apigateway-exporter", charset="UTF-8"'
        return PlainTextResponse("Unauthorized\n", 401, {"WWW-Authenticate": challenge})

    def _has_token(self, limit: RateLimit | None) -> bool:
        if limit is None:
            return True
        if self._bucket is None or self._bucket.limit != limit:
            self._bucket = _Bucket(limit, self._clock())
        return self._bucket.take(self._clock())


class _Bucket:
    """Tokens that come in time."""

    def __init__(self, limit: RateLimit, now: float) -> None:
        self.limit = limit
        self._tokens = float(limit.burst)
        self._at = now

    def take(self, now: float) -> bool:
        self._tokens = min(self.limit.burst, self._tokens + (now - self._at) / self.limit.interval_s)
        self._at = now
        if self._tokens < 1:
            return False
        self._tokens -= 1
        return True


def _credentials(scope: Scope) -> tuple[str | None, bytes]:
    """User and password of a request; None for a user where there are none that can be read."""
    values = [value for name, value in scope["headers"] if name == b"authorization"]
    if len(values) != 1:
        return None, b""
    scheme, _, encoded = values[0].partition(b" ")
    if scheme.lower() != b"basic":
        return None, b""
    try:
        user, colon, password = base64.b64decode(encoded.strip(), validate=True).partition(b":")
        return (user.decode() if colon else None), password
    except (binascii.Error, ValueError):
        return None, b""
