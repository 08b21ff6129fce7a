"""
How fast the calls of one token may follow each other.

Rule 1: in any window of the service's, no more calls start than it allows; a little margin is for those that travel
        unevenly. A thread that takes its turn late costs nothing: the next ones may close up.
Rule 2: a 429 stops everybody for the time that the service names, and lowers the rate once, however many calls it hit.
Rule 3: the rate then recovers step by step, so that several processes on one token settle together below the limit.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable

# Scantrust: rate limits, scm_update.
UPLOADS_PER_SECOND = 10
# Seconds by which a window is stretched: calls that start a second apart may arrive a little closer.
_MARGIN = 0.015
_LOWERED = 0.7
_SLOWEST = 0.2
# Of the rate itself, for each second: quickly up to just below where the last 429 came, then feeling the way.
_RECOVERY, _FEELING = 0.05, 0.002
_JUST_BELOW = 0.9
# Closer than evenly: how a late turn is made up for.
_CLOSER = 0.95
_ONE_SIGN = 1.0


class Pacer:
    """
    Gives out turns; it has no clock and does not wait.

    :param limit: Calls that the service allows in a second.
    :param random: Returns a number in [0, 1); used for jitter only.
    """

    def __init__(self, limit: int = UPLOADS_PER_SECOND, *, random: Callable[[], float]) -> None:
        self._random = random
        self._full = limit / (1.0 + _MARGIN)
        self._rate = self._ceiling = self._full
        self._started: deque[float] = deque([float("-inf")] * limit, maxlen=limit)
        self._paused_until = float("-inf")
        self._recovered_at = self._lowered_at = float("-inf")
        self.throttled = 0

    def take_turn(self, now: float) -> float:
        """
        Take a turn when there is one; return 0, or else the seconds after which to ask again.

        :param now: Monotonic seconds.
        """
        self._recover(now)
        next_turn = max(
            self._paused_until,
            self._started[0] + len(self._started) / self._rate,
            self._started[-1] + _CLOSER / self._rate,
        )
        if now < next_turn:
            return next_turn - now
        self._started.append(now)
        return 0.0

    def slow_down(self, now: float, seconds: float) -> None:
        """
        Take note of a 429.

        :param seconds: How long the service asks to wait.
        """
        self.throttled += 1
        # Calls that were under way together are hit together; that is one sign, not many.
        if now >= self._lowered_at + _ONE_SIGN:
            self._recover(now)
            self._ceiling = self._rate * _JUST_BELOW
            self._rate = max(_SLOWEST, self._rate * _LOWERED)
            self._lowered_at = self._recovered_at = now
        # Clients that were stopped together must not come back together.
        self._paused_until = max(self._paused_until, now + seconds + self._random() / self._rate)

    def _recover(self, now: float) -> None:
        if self._rate < self._full:
            seconds = now - self._recovered_at
            quick = max(0.0, min(self._ceiling - self._rate, self._rate * _RECOVERY * seconds))
            seconds -= quick / (self._rate * _RECOVERY)
            self._rate = min(self._full, (self._rate + quick) * (1 + _FEELING * seconds))
        self._recovered_at = now
