"""The call budget: how often one account and region may be asked, whoever asks.

CloudWatch Logs limits FilterLogEvents to 5 to 25 calls a second per account and region (the exact figure differs by
region and cannot be raised), and shares that quota among every tool of the account. The budget keeps this program far
below it. It hands out turns in the order they were asked for; it never drops a turn, never refuses one, and knows
nothing of what a call is for.
"""

import math
import threading
from collections.abc import Callable

BURST_SECONDS = 2.0
"""An idle budget lets through what it would in this many seconds, at once."""

MEMORY_SECONDS = 60.0
"""How far back `utilisation` looks (exponentially fading)."""


class CallBudget:
    """Turns for `calls_per_second`, first come first served; safe to share between threads.

    In any stretch of `t` seconds at most `calls_per_second * (t + BURST_SECONDS) + 1` turns begin.

    `clock` gives seconds and never steps back (`time.monotonic`). `wait(seconds)` pauses the calling thread and says
    True as soon as the program stops (`threading.Event.wait`).
    """

    def __init__(self, calls_per_second: float, *, clock: Callable[[], float], wait: Callable[[float], bool]) -> None:
        if not (calls_per_second > 0 and math.isfinite(calls_per_second)):
            raise ValueError(f"calls_per_second must be a number above 0, not {calls_per_second}")
        self.calls_per_second = calls_per_second
        self._spacing = 1 / calls_per_second
        self._clock = clock
        self._wait = wait
        self._lock = threading.Lock()
        self._next_turn = -math.inf
        self._recent_turns = 0.0
        self._recent_at = clock()

    def acquire(self) -> bool:
        """Wait for a turn. False: the program stops, make no call."""
        with self._lock:
            now = self._clock()
            # A turn is a point in time that nobody else gets: reserving under the lock is what makes the order fair.
            turn = max(self._next_turn, now - BURST_SECONDS)
            self._next_turn = turn + self._spacing
            self._recent_turns = self._faded(now) + 1
            self._recent_at = now
        return not self._wait(max(0.0, turn - now))

    @property
    def utilisation(self) -> float:
        """The share of the budget asked for over the last minute or so: at 1 and above, callers queue."""
        with self._lock:
            return self._faded(self._clock()) * self._spacing / MEMORY_SECONDS

    @property
    def backlog_seconds(self) -> float:
        """How long a caller that asks now would wait."""
        with self._lock:
            return max(0.0, self._next_turn - self._clock())

    def _faded(self, now: float) -> float:
        return self._recent_turns * math.exp((self._recent_at - now) / MEMORY_SECONDS)
