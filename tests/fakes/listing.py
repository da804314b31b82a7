"""The answers of CloudWatch Logs' read operations: pages, tokens, refusals; no HTTP.

A token carries its own state (query, place, age), so that it outlives a restart of the fake as AWS's outlive ours.
"""

import base64
import hashlib
import hmac
import itertools
from collections.abc import Callable, Mapping
from typing import Any

import msgspec

from tests.fakes.faults import Fault, Faults
from tests.fakes.patterns import BadPattern, Predicate, compile_pattern
from tests.fakes.world import Group, Stored, World

PAGE_BYTES = 1_048_576
PAGE_EVENTS = 10_000
TOKEN_LIFE_MS = 24 * 3_600_000
_KEY = b"the fake's own"
ACCOUNT_ID = "123456789012"
REGION = "eu-west-1"

Parameters = Mapping[str, Any]


class Refused(Exception):
    """An error answer: HTTP status, AWS error code."""

    def __init__(self, code: str, message: str, status: int = 400) -> None:
        super().__init__(message)
        self.code = code
        self.status = status


class Token(msgspec.Struct, frozen=True, kw_only=True):
    """A place in a listing."""

    query: str
    """Digest of the parameters it was given for."""
    after: int
    """The id behind which the next page begins; -1 at the start."""
    given_at_ms: int
    serial: int
    """Makes every token a new text."""
    empties: int = 0
    """Empty pages still to come before that page."""
    over: bool = False
    """Behind the last page: only empty pages are left."""

    def text(self) -> str:
        body = msgspec.json.encode(self)
        return base64.urlsafe_b64encode(hmac.digest(_KEY, body, "sha256")[:12] + body).decode()

    @classmethod
    def read(cls, text: str) -> "Token":
        try:
            raw = base64.urlsafe_b64decode(text)
            token = msgspec.json.decode(raw[12:], type=cls)
        except ValueError:
            raise Refused("InvalidParameterException", "The specified nextToken is invalid.") from None
        if not hmac.compare_digest(hmac.digest(_KEY, raw[12:], "sha256")[:12], raw[:12]):
            raise Refused("InvalidParameterException", "The specified nextToken is invalid.")
        return token


class Reader:
    """Answers the read operations from a world."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.end_included = True
        """Whether an event at `endTime` itself is given: AWS's text says yes, users saw no."""
        self.visibility_delay_ms = 0
        """How long after its ingestion an event shows up."""
        self.linked: set[str] = set()
        """The accounts that are linked to this one. Their groups are in the world by ARN."""
        self.scan_events: int | None = None
        """How many events one call looks at, so that a filtered listing has empty and partial pages by itself."""
        self._patterns: dict[str | None, Predicate] = {}
        self._serial = itertools.count()

    def operations(self) -> Mapping[str, Callable[[Parameters, Faults, Fault], bytes]]:
        return {
            "FilterLogEvents": self.filter_log_events,
            "GetLogEvents": self.get_log_events,
            "DescribeLogGroups": self.describe_log_groups,
            "DescribeLogStreams": self.describe_log_streams,
            "TestMetricFilter": self.test_metric_filter,
        }

    # ------------------------------------------------------------------------------------------------ FilterLogEvents

    def filter_log_events(self, asked: Parameters, faults: Faults, fault: Fault) -> bytes:
        group = self._group(asked)
        limit = asked.get("limit", PAGE_EVENTS)
        if not 1 <= limit <= PAGE_EVENTS:
            raise Refused("InvalidParameterException", "limit must be between 1 and 10000")
        if "logStreamNames" in asked and "logStreamNamePrefix" in asked:
            raise Refused("InvalidParameterException", "logStreamNames and logStreamNamePrefix exclude each other")
        start_ms, end_ms = asked.get("startTime", 0), asked.get("endTime")
        if end_ms is not None and start_ms > end_ms:
            raise Refused("InvalidParameterException", "startTime is after endTime")
        matches = self._pattern(asked.get("filterPattern"))
        query = _digest(asked)
        token = self._token(asked, query, faults)
        if fault is Fault.EMPTY:
            return _page([], self._give(token, empties=token.empties, over=token.over))
        if token.empties or token.over:
            return self._empty_page(token, faults)

        page, last_looked_at, more = self._page(group, asked, limit, matches, token.after)
        if fault is Fault.REPEATED_PAGE or (faults.endless_repeats and not more):
            return _page(page, self._give(token))
        if fault is Fault.SAME_TOKEN:
            return _page(page, asked.get("nextToken") or self._give(token).text())
        if more:
            return _page(page, self._give(token, after=last_looked_at, empties=faults.empty_middle))
        if faults.empty_last or faults.endless:
            return _page(page, self._give(token, over=True, empties=max(0, faults.empty_last - 1)))
        return _page(page, None)

    def _page(
        self, group: Group, asked: Parameters, limit: int, matches: Predicate, after: int
    ) -> tuple[list[Stored], int, bool]:
        """The events of the page behind `after`, the last id looked at, and whether there is more."""
        end_ms = asked.get("endTime", 1 << 62) + (0 if self.end_included else -1)
        names, prefix = asked.get("logStreamNames"), asked.get("logStreamNamePrefix", "")
        all_match = not asked.get("filterPattern", "").strip() and names is None and not prefix
        page: list[Stored] = []
        size = 60
        visible = group.visible(self.world.now_ms(), self.visibility_delay_ms, asked.get("startTime", 0), after)
        for looked_at, event in enumerate(visible, 1):
            if event.at_ms > end_ms:
                break
            wanted = all_match or (
                event.stream.startswith(prefix) and (names is None or event.stream in names) and matches(event.message)
            )
            if wanted:
                size += len(event.encoded) + 1
                if page and (size > PAGE_BYTES or len(page) == limit):
                    return page, after, True
                page.append(event)
            after = event.number
            if looked_at == self.scan_events:
                return page, after, True
        return page, after, False

    def _empty_page(self, token: Token, faults: Faults) -> bytes:
        if token.over and token.empties == 0 and not faults.endless:
            return _page([], None)
        return _page([], self._give(token, empties=max(0, token.empties - 1), over=token.over))

    def _token(self, asked: Parameters, query: str, faults: Faults) -> Token:
        now_ms = self.world.now_ms()
        if "nextToken" not in asked:
            return Token(query=query, after=-1, given_at_ms=now_ms, serial=0, empties=faults.empty_first)
        token = Token.read(asked["nextToken"])
        if token.query != query:
            raise Refused("InvalidParameterException", "The specified nextToken belongs to other parameters.")
        if now_ms - token.given_at_ms > TOKEN_LIFE_MS:
            raise Refused("InvalidParameterException", "The specified nextToken has expired.")
        return token

    def _give(self, token: Token, *, after: int | None = None, empties: int = 0, over: bool = False) -> Token:
        return Token(
            query=token.query,
            after=token.after if after is None else after,
            given_at_ms=self.world.now_ms(),
            serial=next(self._serial),
            empties=empties,
            over=over,
        )

    def _pattern(self, pattern: str | None) -> Predicate:
        if pattern not in self._patterns:
            try:
                self._patterns[pattern] = compile_pattern(pattern)
            except BadPattern as error:
                raise Refused("InvalidParameterException", f"Invalid filter pattern: {error}") from None
        return self._patterns[pattern]

    # -------------------------------------------------------------------------------------------------- the lesser ones

    def get_log_events(self, asked: Parameters, faults: Faults, fault: Fault) -> bytes:
        """One stream, from its head only, end excluded; the end is reached when the token does not change."""
        group = self._group(asked)
        if not asked.get("startFromHead", False):
            raise Refused("InvalidParameterException", "this fake reads from the head only")
        after = int(asked["nextToken"].removeprefix("f/")) if "nextToken" in asked else -1
        visible = group.visible(self.world.now_ms(), self.visibility_delay_ms, asked.get("startTime", 0), after)
        before_ms = asked.get("endTime", 1 << 62)
        page = [event for event in visible if event.stream == asked["logStreamName"] and event.at_ms < before_ms]
        page = page[: asked.get("limit", PAGE_EVENTS)]
        return msgspec.json.encode(
            {
                "events": [
                    {"timestamp": event.at_ms, "message": event.message, "ingestionTime": event.ingested_at_ms}
                    for event in page
                ],
                "nextForwardToken": f"f/{page[-1].number if page else after}",
                "nextBackwardToken": f"b/{page[0].number if page else after}",
            }
        )

    def describe_log_groups(self, asked: Parameters, faults: Faults, fault: Fault) -> bytes:
        if "logGroupNamePrefix" in asked and "logGroupNamePattern" in asked:
            raise Refused("InvalidParameterException", "logGroupNamePrefix and logGroupNamePattern exclude each other")
        prefix, part = asked.get("logGroupNamePrefix", ""), asked.get("logGroupNamePattern", "")
        after = asked.get("nextToken", "")
        named = sorted(
            (arn.partition(":log-group:")[2], arn)
            for arn in (_arn(key) for key in self.world.groups if self._is_seen(key, asked))
        )
        names = [(n, arn) for n, arn in named if n.startswith(prefix) and part in n and f"{n} {arn}" > after]
        page = names[: asked.get("limit", 50)]
        groups = []
        for name, arn in page:
            group = self.world.groups[name if f":{ACCOUNT_ID}:" in arn else arn]
            described = {
                "logGroupName": name,
                "arn": f"{arn}:*",
                "logGroupArn": arn,
                "creationTime": group.created_at_ms,
                "logGroupClass": "STANDARD",
            }
            if group.retention_days is not None:
                described["retentionInDays"] = group.retention_days
            groups.append(described)
        answer: dict[str, object] = {"logGroups": groups}
        if len(names) > len(page):
            answer["nextToken"] = " ".join(page[-1])
        return msgspec.json.encode(answer)

    def test_metric_filter(self, asked: Parameters, faults: Faults, fault: Fault) -> bytes:
        messages = asked["logEventMessages"]
        if not 1 <= len(messages) <= 50 or not all(messages):
            raise Refused("InvalidParameterException", "1 to 50 messages, none of them empty")
        matches = self._pattern(asked["filterPattern"])
        found = [
            {"eventNumber": number, "eventMessage": message, "extractedValues": {}}
            for number, message in enumerate(messages, 1)
            if matches(message)
        ]
        return msgspec.json.encode({"matches": found})

    def _is_seen(self, key: str, asked: Parameters) -> bool:
        """Whether a group is listed: the account's own, and of linked accounts those that are asked for."""
        ids = asked.get("accountIdentifiers") or []
        if not asked.get("includeLinkedAccounts"):
            return not key.startswith("arn:")
        if any(account != ACCOUNT_ID and account not in self.linked for account in ids):
            raise Refused("InvalidParameterException", "an account is not linked")
        account = _arn(key).split(":")[4]
        return account in (ids or {ACCOUNT_ID, *self.linked})

    def describe_log_streams(self, asked: Parameters, faults: Faults, fault: Fault) -> bytes:
        prefix = asked.get("logStreamNamePrefix", "")
        names = sorted({event.stream for event in self._group(asked).events})
        return msgspec.json.encode({"logStreams": [{"logStreamName": n} for n in names if n.startswith(prefix)]})

    def _group(self, asked: Parameters) -> Group:
        if ("logGroupName" in asked) == ("logGroupIdentifier" in asked):
            raise Refused("InvalidParameterException", "exactly one of logGroupName and logGroupIdentifier")
        name = group_name(asked)
        if "logGroupName" in asked and name.startswith("arn:"):
            raise Refused("InvalidParameterException", "logGroupName must not be an ARN")
        if name.endswith(":*"):
            raise Refused("InvalidParameterException", "the ARN must not end in :*")
        if name.startswith("arn:") and name.split(":")[4] not in self.linked:
            raise Refused("ResourceNotFoundException", "The specified log group does not exist.")
        if name not in self.world.groups:
            raise Refused("ResourceNotFoundException", "The specified log group does not exist.")
        return self.world.groups[name]


def group_name(asked: Parameters) -> str:
    """The group a call is about: by name, by ARN where it is another account's; empty where it is about none."""
    if "logGroupName" in asked:
        return asked["logGroupName"]
    identifier = asked.get("logGroupIdentifier", "")
    own = f":{ACCOUNT_ID}:log-group:"
    return identifier.split(own, 1)[1] if own in identifier else identifier


def _arn(key: str) -> str:
    """The ARN of a group by its key in the world."""
    return key if key.startswith("arn:") else f"arn:aws:logs:{REGION}:{ACCOUNT_ID}:log-group:{key}"


def _digest(asked: Parameters) -> str:
    bound = {name: value for name, value in asked.items() if name not in ("nextToken", "limit")}
    return hashlib.sha256(msgspec.json.encode(bound, order="sorted")).hexdigest()[:16]


def _page(events: list[Stored], token: "Token | str | None") -> bytes:
    text = token.text() if isinstance(token, Token) else token
    tail = b"" if text is None else b',"nextToken":"' + text.encode() + b'"'
    return b'{"events":[' + b",".join([event.encoded for event in events]) + b'],"searchedLogStreams":[]' + tail + b"}"
