"""How discovery asks AWS: one call at a time, within a budget, patiently, and only what its policy allows.

Every operation stands in `PERMISSIONS` with the IAM action it needs; one that does not cannot be asked. Nothing here
knows what an answer means.
"""

import random
from collections.abc import Callable, Mapping
from typing import Final, NamedTuple, TypeVar

from botocore.exceptions import BotoCoreError, ClientError

from exporter.sources.budget import CallBudget
from exporter.sources.refusals import Refusal, refusal_of

MANAGEMENT_CALLS_PER_SECOND: Final = 1.5
"""To API Gateway's management API, for each account: AWS allows 10 a second for all tools of an account together, and
`GetResources` 2.5 [API Gateway quotas]; deployments need them too."""

BACKOFF_SECONDS: Final = (0.0, 1.0, 2.0, 4.0, 8.0)
"""The attempts at one call, each by the longest pause before it (the pause is drawn between 0 and that)."""

_Answer = TypeVar("_Answer")
_Item = TypeVar("_Item")

OnCall = Callable[[str, str, int], None]
"""Told of every attempt: operation, code (`OK`, AWS's error code, or the exception's name), bytes of log data (0)."""


class Permission(NamedTuple):
    """What IAM asks for an operation."""

    action: str
    resource: str
    """The ARN it is granted on, with `*` for region and account."""


_ANY_LOG: Final = "*"

PERMISSIONS: Final[Mapping[str, Permission]] = {
    "GetRestApis": Permission("apigateway:GET", "arn:aws:apigateway:*::/restapis"),
    "GetStages": Permission("apigateway:GET", "arn:aws:apigateway:*::/restapis/*/stages"),
    "GetResources": Permission("apigateway:GET", "arn:aws:apigateway:*::/restapis/*/resources"),
    "GetApis": Permission("apigateway:GET", "arn:aws:apigateway:*::/apis"),
    "GetApiStages": Permission("apigateway:GET", "arn:aws:apigateway:*::/apis/*/stages"),
    "GetIntegrations": Permission("apigateway:GET", "arn:aws:apigateway:*::/apis/*/integrations"),
    "DescribeLogGroups": Permission("logs:DescribeLogGroups", _ANY_LOG),
    "DescribeDeliverySources": Permission("logs:DescribeDeliverySources", _ANY_LOG),
    "DescribeDeliveries": Permission("logs:DescribeDeliveries", _ANY_LOG),
    "DescribeDeliveryDestinations": Permission("logs:DescribeDeliveryDestinations", _ANY_LOG),
}
"""Every operation that discovery asks for. `GetApiStages` is apigatewayv2's `GetStages`."""

_AWS_NAMES: Final = {"GetApiStages": "GetStages"}
_UNREACHABLE: Final = frozenset({"credentials", "network", "stopping", "throttled", "timeout"})


class CallFailed(Exception):
    """A call that brought no answer, even after retries. `str()` is safe to show."""

    def __init__(self, refusal: Refusal) -> None:
        super().__init__(f"{refusal.operation} failed: {refusal.code}")
        self.refusal = refusal

    @property
    def hopeless(self) -> bool:
        """Whether no other call to the same account and region would fare better, or would be polite."""
        return self.refusal.reason in _UNREACHABLE


class Caller:
    """Asks one service of one account and region.

    `wait(seconds)` pauses the calling thread and says True as soon as the program stops (`threading.Event.wait`).
    """

    def __init__(
        self,
        *,
        budget: CallBudget,
        on_call: OnCall,
        wait: Callable[[float], bool],
        jitter: random.Random | None = None,
    ) -> None:
        self._budget = budget
        self._on_call = on_call
        self._wait = wait
        self._jitter = jitter or random.Random()  # noqa: S311 no secret: it only spreads retries

    def ask(self, operation: str, call: Callable[[], _Answer]) -> _Answer:
        """The answer of `call`, which makes the one call that `operation` (a key of `PERMISSIONS`) names.

        Raises `CallFailed`.
        """
        aws_name = _AWS_NAMES.get(operation, operation)
        refusal = Refusal("unavailable", operation, "")
        for longest_pause in BACKOFF_SECONDS:
            if self._wait(self._jitter.uniform(0, longest_pause)) or not self._budget.acquire():
                raise CallFailed(Refusal("stopping", operation, "stopping"))
            try:
                answer = call()
            except (BotoCoreError, ClientError) as error:
                refusal = refusal_of(error, aws_name)
                self._on_call(refusal.operation, refusal.code, 0)
                if refusal.operation == aws_name:
                    refusal = refusal._replace(operation=operation)
                if not refusal.passing:
                    raise CallFailed(refusal) from error
            else:
                self._on_call(aws_name, "OK", 0)
                return answer
        raise CallFailed(refusal)

    def list_all(self, operation: str, page: Callable[[str | None], tuple[list[_Item], str | None]]) -> list[_Item]:
        """Every item of a listing. `page(token)` gives a page's items and the next page's token.

        Raises `CallFailed`: half a list is no list.
        """
        found: list[_Item] = []
        tokens: set[str] = set()
        token: str | None = None
        while True:
            items, token = self.ask(operation, lambda at=token: page(at))  # type: ignore[misc]
            found += items
            if not token:
                return found
            if token in tokens:
                raise CallFailed(Refusal("token", operation, "the same page came twice"))
            tokens.add(token)
