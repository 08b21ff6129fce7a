"""
How fast the calls of one token may follow each other.

Rule 1: calls start evenly spaced, a little slower than the service's limit: what is sent evenly does not arrive evenly.
Rule 2: a 429 stops everybody for the time that the service names, and lowers the rate once, however many calls it hit.
Rule 3: the rate then recovers step by step, so that several processes on one token settle together below the limit.
"""

from __future__ import annotations

from collections.abc import Callable

# Scantrust: rate limits, scm_update.
UPLOADS_PER_SECOND = 10.0
# The service counts calls as they arrive, in any window of a second.
_MARGIN = 0.98
_LOWERED = 0.7
_SLOWEST = 0.2
# Of the rate itself, for each second: quickly up to just below where the last 429 came, then feeling the way.
_RECOVERY, _FEELING = 0.05, 0.002
_JUST_BELOW = 0.9
# A turn that a thread took late may be made up for; more would crowd a second.
_LATE = 0.02
_ONE_SIGN = 1.0


class Pacer:
    """
    Gives out turns; it has no clock and does not wait.

    :param rate: Calls a second that the service allows.
    :param random: Returns a number in [0, 1); used for jitter only.
    """

    def __init__(self, rate: float = UPLOADS_PER_SECOND, *, random: Callable[[], float]) -> None:
        self._random = random
        self._full = rate * _MARGIN
        self._rate = self._ceiling = self._full
        self._next_turn = float("-inf")
        self._recovered_at = self._lowered_at = float("-inf")
        self.throttled = 0

    def take_turn(self, now: float) -> float:
        """
        Take a turn when there is one; return 0, or else the seconds after which to ask again.

        :param now: Monotonic seconds.
        """
        if now < self._next_turn:
            return self._next_turn - now
        self._recover(now)
        due = self._next_turn if now - self._next_turn < _LATE else now
        self._next_turn = due + 1 / self._rate
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
        self._next_turn = max(self._next_turn, now + seconds + self._random() / self._rate)

    def _recover(self, now: float) -> None:
        if self._rate < self._full:
            seconds = now - self._recovered_at
            quick = max(0.0, min(self._ceiling - self._rate, self._rate * _RECOVERY * seconds))
            seconds -= quick / (self._rate * _RECOVERY)
            self._rate = min(self._full, (self._rate + quick) * (1 + _FEELING * seconds))
        self._recovered_at = now
