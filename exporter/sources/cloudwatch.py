"""CloudWatch Logs as a `Source`: lists a log group page by page, patiently, within the call budget.

It follows every page to the last one, retries what may pass, and says in the words of `exporter.sources` what does
not. It never gives up a page silently, never takes an empty page or a cut-off answer for the end, never sorts or
de-duplicates what AWS gives, and never asks AWS past the budget.
"""

import math
import random
import threading
import time
from collections.abc import Callable, Collection, Iterator, Sequence
from typing import TYPE_CHECKING

from botocore.exceptions import BotoCoreError, ClientError

from exporter.arns import LogGroupArn, is_account_id
from exporter.loops import are_within
from exporter.model import LogGroup, Page, Window
from exporter.sources import GroupUnreadable, ListingBroken, PatternRefused, SourceError, Unavailable
from exporter.sources.budget import CallBudget
from exporter.sources.lanes import Lanes
from exporter.sources.refusals import Refusal, refusal_of
from exporter.sources.wire import OPERATION, Answer, Malformed, attach, read_answer

if TYPE_CHECKING:
    from mypy_boto3_logs import CloudWatchLogsClient
    from mypy_boto3_logs.type_defs import FilterLogEventsRequestTypeDef

PAGE_LIMIT = 10_000
"""The most events AWS puts in a page."""

BACKOFF_SECONDS = (0.0, 0.5, 1.0, 2.0, 4.0, 8.0)
"""The attempts at one page, each by the longest pause before it (the pause is drawn between 0 and that)."""

FRUITLESS_PAGES = 1_000
"""So many pages in a row that bring nothing later than what was there before are no listing any more."""
FRUITLESS_FILTERED_PAGES = 10 * FRUITLESS_PAGES
"""The same with a filter pattern: AWS answers with an empty page for each stretch that it searched in vain."""

ANSWER_SECONDS = 0.3
"""How long AWS may take for a full page (100 to 300 ms): while it does, the budget has calls for other listings."""

RECONNECT_SECONDS = 60.0
"""A client whose credentials fail is replaced (files may have changed), at most this often."""

_HALF_A_SECOND_MS = 500
"""The `Date` header is cut to whole seconds: on average it is that much behind."""

OnCall = Callable[[str, str, int], None]
"""Told of every attempt: operation, code (`OK`, AWS's error code, or the exception's name), bytes of the answer."""


class CloudWatchSource:
    """One account and region; any number of threads may list at once, sharing the budget and the connections.

    `connect` makes a client (`sessions.logs_client`); it is called when first needed, and again when credentials
    failed. `own`: what the account is called, by its name and, where known, its 12 digits; a group of another account
    is asked for by its ARN, as a monitoring account has to. `wait(seconds)` pauses the calling thread and says True as
    soon as the program stops (`threading.Event.wait`). `clock` gives seconds since the epoch and is read once: from
    then on time passes by `ticks`, which never steps, and by the service's own clock.
    """

    def __init__(
        self,
        connect: "Callable[[], CloudWatchLogsClient]",
        *,
        budget: CallBudget,
        on_call: OnCall,
        wait: Callable[[float], bool],
        clock: Callable[[], float] = time.time,
        ticks: Callable[[], float] = time.monotonic,
        jitter: random.Random | None = None,
        own: Collection[str] = (),
        lanes: Lanes | None = None,
    ) -> None:
        """`lanes`: threads for listings side by side; None: a window is never cut into parts."""
        self._own = frozenset(own)
        self._lanes = lanes
        self._connection = _Connection(connect, ticks)
        self._budget = budget
        self._on_call = on_call
        self._wait = wait
        self._ticks = ticks
        self._jitter = jitter or random.Random()  # noqa: S311 no secret: it only spreads retries
        self._known_time = (int(clock() * 1000), ticks())

    def pages(self, group: LogGroup, window: Window, pattern: str | None = None, parts: int = 1) -> Iterator[Page]:
        """See `Source.pages`. A page given twice by AWS is given twice here."""
        if window.start_ms >= window.end_ms:
            return
        # More listings at once than the budget has calls while one answer is on its way would only queue.
        lanes = min(parts, math.ceil(self._budget.calls_per_second * ANSWER_SECONDS))
        if lanes < 2 or self._lanes is None:
            yield from self._listed(group, window, pattern)
            return
        chains = [self._listed(group, own, pattern, part) for part, own in enumerate(_cut(window, parts))]
        yield from self._lanes.merged(chains, lanes)

    def _listed(self, group: LogGroup, window: Window, pattern: str | None, part: int = 0) -> Iterator[Page]:
        """One listing, each page by the token of the one before."""
        request = _listing_request(group, window, pattern, is_own=group.account in self._own)
        tokens: set[str] = set()
        latest_ms, fruitless = window.start_ms - 1, 0
        patience = FRUITLESS_PAGES if pattern is None else FRUITLESS_FILTERED_PAGES
        while True:
            answer = self._ask(group, request)
            # AWS documents its end as included and has been seen to exclude it.
            events = answer.events
            if not are_within(events, window.start_ms, window.end_ms):
                events = [event for event in events if window.start_ms <= event.at_ms < window.end_ms]
            if events and events[-1].at_ms > latest_ms:
                latest_ms, fruitless = events[-1].at_ms, 0
            else:
                fruitless += 1
            token = answer.next_token
            page = Page(events=events, response_bytes=answer.body_bytes, part=part, server_at_ms=answer.server_at_ms)
            del answer, events
            yield page
            del page  # its memory is for the next one

            if token is None:
                return
            if token in tokens:
                raise ListingBroken(group, "token", "the service gave a page token for the second time")
            if fruitless >= patience:
                raise ListingBroken(group, "endless", f"{fruitless} pages in a row brought nothing new")
            tokens.add(token)
            request["nextToken"] = token

    def selected(self, pattern: str, messages: Sequence[str]) -> frozenset[str] | None:
        """See `Source.selected`. One attempt: who may not ask, or not now, does without."""
        if not self._budget.acquire():
            return None
        try:
            answer = self._connection.client().test_metric_filter(filterPattern=pattern, logEventMessages=[*messages])
        except (BotoCoreError, ClientError) as error:
            refusal = refusal_of(error, "TestMetricFilter")
            self._on_call(refusal.operation, refusal.code, 0)
            return None
        self._on_call("TestMetricFilter", "OK", 0)
        return frozenset(match["eventMessage"] for match in answer["matches"])

    def now_ms(self) -> int:
        """See `Source.now_ms`. Until the first answer of the service it is this machine's clock."""
        known_ms, at = self._known_time
        return known_ms + int((self._ticks() - at) * 1000)

    def close(self) -> None:
        """Close the connections. A later listing opens new ones."""
        self._connection.close()

    def _ask(self, group: LogGroup, request: "FilterLogEventsRequestTypeDef") -> Answer:
        """One page, asked for until it comes or the attempts are used up."""
        attempt = 0
        while True:
            if self._wait(self._jitter.uniform(0, BACKOFF_SECONDS[attempt])) or not self._budget.acquire():
                raise Unavailable(group, "stopping", "the program stops")
            outcome = self._attempt(request)
            if isinstance(outcome, Answer):
                return outcome
            attempt += 1
            if not outcome.passing or attempt == len(BACKOFF_SECONDS):
                raise _as_source_error(group, outcome)

    def _attempt(self, request: "FilterLogEventsRequestTypeDef") -> Answer | Refusal:
        """One call. What nobody foresaw is raised as it came."""
        try:
            result = self._connection.client().filter_log_events(**request)
            answer = read_answer(result)
        except Malformed as error:
            refusal = Refusal("malformed", OPERATION, type(error).__name__)
        except (BotoCoreError, ClientError) as error:
            refusal = refusal_of(error, OPERATION)
            if refusal.reason == "credentials":
                self._connection.distrust()
            if refusal.reason == "invalid" and "nextToken" not in request and "filterPattern" in request:
                refusal = refusal._replace(reason="pattern")
            elif refusal.reason == "unforeseen" or (refusal.reason == "invalid" and "nextToken" not in request):
                self._on_call(refusal.operation, refusal.code, 0)
                raise
        else:
            self._on_call(OPERATION, "OK", answer.body_bytes)
            # Refusals are dated too, but perhaps by a proxy: only an answer that is one is AWS's own.
            if answer.server_at_ms is not None:
                self._known_time = (answer.server_at_ms + _HALF_A_SECOND_MS, self._ticks())
            return answer
        self._on_call(refusal.operation, refusal.code, 0)
        return refusal


class _Connection:
    """The one client, made when needed and made anew when its credentials are no good."""

    def __init__(self, connect: "Callable[[], CloudWatchLogsClient]", ticks: Callable[[], float]) -> None:
        self._connect = connect
        self._ticks = ticks
        self._lock = threading.Lock()
        self._client: CloudWatchLogsClient | None = None
        self._made_at = 0.0
        self._distrusted = False

    def client(self) -> "CloudWatchLogsClient":
        with self._lock:
            if self._client is None or (self._distrusted and self._ticks() - self._made_at >= RECONNECT_SECONDS):
                # Other threads may still use the old one; it goes with the last of them.
                self._client = self._connect()
                self._made_at = self._ticks()
                self._distrusted = False
                attach(self._client)
            return self._client

    def distrust(self) -> None:
        """Its credentials failed: make a new one, when it is old enough that files may have changed."""
        self._distrusted = True

    def close(self) -> None:
        with self._lock:
            if self._client is not None:
                self._client.close()
                self._client = None


def _cut(window: Window, parts: int) -> Iterator[Window]:
    """`window` in parts of equal length, in order; fewer where it has fewer milliseconds."""
    parts = min(parts, window.end_ms - window.start_ms)
    cuts = [window.start_ms + (window.end_ms - window.start_ms) * part // parts for part in range(parts + 1)]
    return map(Window, cuts, cuts[1:])


def _listing_request(
    group: LogGroup, window: Window, pattern: str | None, *, is_own: bool
) -> "FilterLogEventsRequestTypeDef":
    request: FilterLogEventsRequestTypeDef = {
        "startTime": window.start_ms,
        "endTime": window.end_ms,
        "limit": PAGE_LIMIT,
        # AWS always interleaves the streams by now; what stands in for it may not.
        "interleaved": True,
    }
    if is_own or not is_account_id(group.account):
        request["logGroupName"] = group.name
    else:
        # By its name AWS would look for it in the account that asks.
        request["logGroupIdentifier"] = str(LogGroupArn(group.region, group.account, group.name))
    if pattern is not None:
        request["filterPattern"] = pattern
    return request


def _as_source_error(group: LogGroup, refusal: Refusal) -> SourceError:
    if refusal.reason == "missing":
        return GroupUnreadable(group, "missing", "there is no such log group")
    if refusal.reason == "denied":
        return GroupUnreadable(group, "denied", "AWS denies logs:FilterLogEvents")
    if refusal.reason == "pattern":
        return PatternRefused(group, "pattern", "the service refused the filter pattern")
    if refusal.reason == "invalid":
        return ListingBroken(group, "token", "the service refused its own page token")
    return Unavailable(group, refusal.reason, f"{refusal.operation} failed: {refusal.code}")
