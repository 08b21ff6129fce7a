"""
How fast the calls with one token may follow each other.

Rule 1: in any window of the service's limit, no more calls start than the limit allows, with a small margin
        for network delays. If a thread starts its call late, the next calls may follow more closely.
Rule 2: a 429 stops all calls for the time that the service asks for. It also lowers the rate to below that
        of the last second, because other clients with this token use the rest of the limit. Several 429s
        at the same time lower the rate only once.
Rule 3: the rate then recovers step by step, so that several processes with one token settle below the limit
        together.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from math import exp

# Scantrust: rate limits, scm_update.
UPLOADS_PER_SECOND = 10
# Seconds by which a window is stretched: calls that start a second apart may arrive a little closer.
_MARGIN = 0.015
_SLOWEST = 0.2
# Shares of the rate of the last second: the rate after a 429, and the rate up to which it recovers quickly.
_LOWERED, _JUST_BELOW = 0.8, 0.9
# Growth per second, as a share of the rate: up to this point; and beyond it, for each second since the 429.
_RECOVERY, _FEELING = 0.05, 0.0004
# The largest exponent of the growth: e**50 takes the slowest rate above any limit.
_MOST_GROWTH = 50.0
# The share of an even distance that two calls keep at least, to make up for late turns.
_CLOSER = 0.95
_ONE_SIGN = 1.0


class Pacer:
    """
    Decide when each call may start. It has no clock and does not wait.

    :param limit: Calls that the service allows in a second.
    :param random: Returns a number in [0, 1); used for jitter only.
    :param windows: Further limits: number of calls and window in seconds.
    :param closer: The share of an even distance that calls keep at least, to make up for late turns.
    :param beat: The turns of this many seconds may be taken together. The caller then wakes up less often,
        and finds the code still in the processor's cache.
    :param margin: The share by which a second is stretched; small if ``limit`` is below the service's limit.
    """

    def __init__(
        self,
        limit: int = UPLOADS_PER_SECOND,
        *,
        random: Callable[[], float],
        windows: Sequence[tuple[int, float]] = (),
        closer: float = _CLOSER,
        beat: float = 0.0,
        margin: float = _MARGIN,
    ) -> None:
        self._random = random
        self._closer = closer
        self._beat = beat
        self._full = limit / (1.0 + margin)
        self._rate = self._ceiling = self._full
        self._started: deque[float] = deque([float("-inf")] * limit, maxlen=limit)
        self._windows = [
            (deque([float("-inf")] * calls, maxlen=calls), seconds * (1.0 + _MARGIN))
            for calls, seconds in windows
        ]
        self._paused_until = float("-inf")
        self._recovered_at = self._lowered_at = float("-inf")
        self.throttled = 0
        self._pauses = 0.0

    def take_turn(self, now: float) -> float:
        """
        Take a turn if there is one, and return 0; otherwise return the seconds after which to try again.

        :param now: Monotonic seconds.
        """
        self._recover(now)
        together = max(1, int(self._rate * self._beat))
        next_turn = max(
            self._paused_until,
            self._started[0] + len(self._started) / self._rate,
            self._started[-together] + together * self._closer / self._rate,
            *(started[0] + seconds for started, seconds in self._windows),
        )
        if now < next_turn:
            return next_turn - now
        self._started.append(now)
        for started, _ in self._windows:
            started.append(now)
        return 0.0

    def slow_down(self, now: float, seconds: float) -> None:
        """
        Note a 429.

        :param seconds: How long the service asks to wait.
        """
        self.throttled += 1
        # Calls in flight at the same time get their 429 at the same time, so they count as one.
        if now >= self._lowered_at + _ONE_SIGN:
            self._recover(now)
            passed = sum(started > now - _ONE_SIGN for started in self._started) - 1
            passed_rate = min(self._rate, max(passed, 1))
            self._ceiling = passed_rate * _JUST_BELOW
            self._rate = max(_SLOWEST, passed_rate * _LOWERED)
            self._lowered_at = self._recovered_at = now
        # Clients that were throttled together must not come back together.
        end = now + seconds + self._random() / self._rate
        self._pauses += max(0.0, end - max(now, self._paused_until))
        self._paused_until = max(self._paused_until, end)

    def paused_seconds(self, now: float) -> float:
        """Return how long 429s have stopped all calls so far."""
        return self._pauses - max(0.0, self._paused_until - now)

    def _recover(self, now: float) -> None:
        """Recover quickly to just below the rate of the 429, then faster and faster: others may have left."""
        if self._rate < self._full:
            before, after = (max(0.0, moment - self._lowered_at) for moment in (self._recovered_at, now))
            quick = min(max(self._ceiling, self._rate), self._rate * _grow(_RECOVERY * (after - before)))
            felt = _grow(_FEELING * (after**2 - before**2) / 2)
            self._rate = min(self._full, max(quick, self._rate * felt))
        self._recovered_at = now


def _grow(exponent: float) -> float:
    # After hours without a call, the growth would be too large for a float.
    return exp(min(exponent, _MOST_GROWTH))
