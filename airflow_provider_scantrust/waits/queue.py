"""
Which job is polled next, when, and when a wait ends: one queue for all waits that use the same credentials.

Rule 1: a job is due one interval after its last answer, with a jitter of 10%. The first poll comes after one
        interval, or immediately.
Rule 2: of the jobs that are due, the one that has been due longest goes first. If more jobs are due than may
        be polled, all intervals become longer by the same factor: the longest delay is about the number of
        open jobs divided by the rate.
Rule 3: the rate limit holds for every second and for every minute (``pacing``).
Rule 4: a 429 stops all polls for the time that the service names and lowers the rate; the job keeps its
        place. The stop is never longer than five minutes, because the service may be back earlier.
Rule 5: a failed poll is repeated soon, before the jobs that are due, but not two repeats in a row. After
        three failures in a row the job waits for its turn again, so that broken jobs do not delay the
        others.
Rule 6: after five failures with no answer in between, one poll at a time is sent, after growing pauses, until
        an answer can be read.
Rule 7: a wait ends when its jobs have ended, with a permanent error, at its deadline, or when its error
        budget has passed: for that long no poll got an answer, or the polls of one job failed many times in
        a row.
"""

from __future__ import annotations

from dataclasses import KW_ONLY, InitVar, dataclass, field
from heapq import heapify, heappop, heappush
from math import inf

from airflow_provider_scantrust.api.flow import FIRST_BACKOFF, LONGEST_BACKOFF, Random, backoff
from airflow_provider_scantrust.api.messages import Notice
from airflow_provider_scantrust.api.models import Task
from airflow_provider_scantrust.api.settings import RETRY_SECONDS
from airflow_provider_scantrust.exceptions import ScantrustError, Throttled, TransientError
from airflow_provider_scantrust.waits.jobs import Jobs
from airflow_provider_scantrust.waits.pacing import Pacer

# Scantrust: rate limits, authenticated.
POLLS_PER_MINUTE = 3000
MOST_AT_ONCE = 10
# Seconds for a last answer about each job if the deadline passed before the wait began, for example while the
# triggerer was down.
GRACE = 120.0
# Timers in a shared event loop are often late, so late polls may follow each other 20% more closely. With
# much more than that, two watchers with one token would send bursts after each 429 that cause the next one.
_CLOSER = 0.8
# The polls of this many seconds may be sent together: seven polls at 47 a second.
_BEAT = 0.15
# Very small, because the rate is already below the service's limit.
_MARGIN = 0.001

_DOWN = 5
_LONGEST_QUIET = 15.0
# Seconds from the last poll to the deadline.
_LAST_POLL = 1.0
# A poll that failed up to three times in a row is repeated before all other jobs.
_REPEATED_SOON = 3
# Failures in a row that end a wait. In a long queue they are minutes apart, and a few in a row may be chance:
# if every third answer is broken, one of two hundred waits has five in a row.
_RUN = 20
# The least seconds between two checks of all deadlines: to check ten thousand waits takes a millisecond.
_LOOK = 0.05


def make_pacer(polls_per_second: int, random: Random) -> Pacer:
    """Return the pacer for the polls of one token."""
    return Pacer(
        polls_per_second,
        random=random,
        windows=[(POLLS_PER_MINUTE, 60.0)],
        closer=_CLOSER,
        beat=_BEAT,
        margin=_MARGIN,
    )


@dataclass(eq=False, slots=True)
class Wait:
    """
    The wait of one task, as the queue sees it.

    :param interval: Seconds between two polls of one job.
    :param longest: If given, the interval doubles after each poll, up to this value.
    :param joined: When the wait began, in monotonic seconds, like all times here.
    :param left: Seconds to the deadline. If it has passed, the first poll is sent immediately, and the wait
        ends with one readable answer about each job.
    :param once: Poll each job until there is one readable answer.
    :param poll_first: Send the first poll immediately, not after one interval.
    """

    jobs: Jobs
    interval: float
    longest: float | None = None
    _: KW_ONLY
    joined: float
    left: InitVar[float]
    once: bool = False
    poll_first: bool = False
    until: float = field(init=False)
    is_late: bool = field(init=False)
    unanswered: int = field(init=False)
    error: ScantrustError | None = field(init=False, default=None)

    def __post_init__(self, left: float) -> None:
        self.is_late = left <= 0
        self.until = self.joined + (GRACE if self.is_late else left)
        self.once = self.once or self.is_late
        self.poll_first = self.poll_first or self.is_late
        # Counts with `once` only.
        self.unanswered = len(self.jobs.open)

    def end(self, error: ScantrustError | None) -> None:
        """End the wait, with an error or without; called by the queue."""
        self.error = error


@dataclass(eq=False, slots=True)
class Job:
    """One job of a wait; ``due`` may change only while the job is in no heap."""

    wait: Wait
    task_id: str
    interval: float
    due: float = inf
    failures: int = 0
    failing_since: float = inf

    def __lt__(self, other: Job) -> bool:
        return self.due < other.due


class Queue:
    """
    The jobs of all waits. It has no clock, sends nothing and does not sleep.

    :param pacer: Limits the rate.
    :param random: Returns a number in [0, 1); used for jitter only.
    """

    def __init__(self, pacer: Pacer, *, random: Random) -> None:
        self.waits: set[Wait] = set()
        # The time since which no answer could be read; infinite while answers can be read.
        self.silent_since = inf
        # When the last failed poll is to be repeated.
        self._repeat_at = inf
        self.under_way: set[Job] = set()
        self._pacer = pacer
        self._random = random
        # Jobs that wait for their turn, and jobs whose failed poll is repeated.
        self._turns: list[Job] = []
        self._repeats: list[Job] = []
        # How many jobs of waits that have left may still be in the heaps.
        self._stale = 0
        self._repeated = False
        self._failures_in_a_row = 0
        self._last_error: TransientError | None = None
        self._quiet_until = -inf
        self._quiet_times = 0
        self._look_at = -inf

    @property
    def open(self) -> int:
        """Jobs that have not ended."""
        return sum(len(wait.jobs.open) for wait in self.waits)

    @property
    def is_down(self) -> bool:
        """The service has not answered for a while."""
        return self._failures_in_a_row >= _DOWN

    def add(self, wait: Wait) -> float:
        """Add a wait with its open jobs; return when the first of them is due."""
        self.waits.add(wait)
        self._look_at = min(self._look_at, wait.until if self.silent_since == inf else wait.joined)
        jobs = [Job(wait, task_id, wait.interval) for task_id in wait.jobs.open]
        for job in jobs:
            self._push(job, wait.joined, 0.0 if wait.poll_first else job.interval)
        return min((job.due for job in jobs), default=inf)

    def take(self, now: float, at_most: int = MOST_AT_ONCE) -> Job | float:
        """
        Return the job to poll now, or the seconds after which to try again.

        Give each returned job back with :meth:`take_result` or :meth:`put_back_all`.

        :param at_most: Most polls in flight at the same time.
        """
        for heap in (self._turns, self._repeats):
            while heap and heap[0].wait not in self.waits:
                heappop(heap)
        most = 1 if self.is_down else at_most
        if len(self.under_way) >= most:
            return inf
        turn, repeat = (heap[0].due if heap else inf for heap in (self._turns, self._repeats))
        due = min(turn, repeat)
        if self.silent_since < due < inf and not self.under_way:
            # If the wait of the failed poll has left, another job is polled: silence counts against all waits.
            due = min(due, self._repeat_at)
        seconds = max(due, self._quiet_until) - now
        if seconds <= 0:
            seconds = self._pacer.take_turn(now)
        if seconds > 0:
            return seconds
        # Never two repeats in a row while other jobs are due, because the repeated jobs may be broken.
        self._repeated = repeat < turn if turn > now else repeat <= now and not self._repeated
        job = heappop(self._repeats if self._repeated else self._turns)
        job.due = min(job.due, now)
        self.under_way.add(job)
        return job

    def holds(self, job: Job) -> bool:
        """Whether the queue still needs the result of a poll in flight; if not, the poll is forgotten."""
        if job.wait not in self.waits:
            self.under_way.discard(job)
        return job in self.under_way

    def take_result(self, job: Job, result: Task | ScantrustError, now: float) -> Notice | None:
        """Take the result of a poll; return the line for the task's log, if there is news."""
        if not self.holds(job):
            return None
        self.under_way.discard(job)
        wait = job.wait
        if isinstance(result, Task):
            self._heard()
            notice = wait.jobs.take(result)
            job.failures, job.failing_since = 0, inf
            wait.unanswered -= 1
            if not wait.jobs.open:
                self.end(wait)
            elif wait.is_late and wait.unanswered == 0:
                self.end(wait, wait.jobs.timed_out())
            elif not result.is_done:
                if wait.longest is not None:
                    job.interval = min(wait.longest, job.interval * 2)
                self._push(job, now, inf if wait.once else job.interval)
            return notice
        if not isinstance(result, TransientError):
            self._heard()
            self._push(job, now, 0.0)
            self.end(wait, result)
            return None
        self._last_error = result
        if self.silent_since == inf:
            self.silent_since = self._look_at = now
        if isinstance(result, Throttled):
            self._pacer.slow_down(now, min(result.retry_after or FIRST_BACKOFF, RETRY_SECONDS))
            self._put_back(job)
        else:
            self._failed(job, result, now)
        self._repeat_at = job.due
        return None

    def expire(self, now: float) -> float:
        """End waits whose deadline or error budget has passed; return the seconds until the next check."""
        if now < self._look_at:
            return self._look_at - now
        self._look_at = inf
        for wait in list(self.waits):
            silent_since = max(self.silent_since, wait.joined)
            if now >= wait.until:
                self.end(wait, wait.jobs.timed_out())
            elif self._last_error is not None and now - silent_since > wait.jobs.error_budget:
                tries = max(1, self._failures_in_a_row)
                self.end(wait, wait.jobs.given_up(self._last_error, tries, now - silent_since))
            else:
                self._look_at = min(self._look_at, wait.until, silent_since + wait.jobs.error_budget)
        self._look_at = max(self._look_at, now + _LOOK)
        return self._look_at - now

    def end(self, wait: Wait, error: ScantrustError | None = None) -> None:
        """End a wait."""
        if wait in self.waits:
            self.leave(wait)
            wait.end(error)

    def leave(self, wait: Wait) -> None:
        """Ignore the jobs of a wait from now on."""
        if wait not in self.waits:
            return
        self.waits.remove(wait)
        self._stale += len(wait.jobs.open)
        # To remove the jobs each time would be slow if thousands of waits end together.
        if self._stale > (len(self._turns) + len(self._repeats)) // 2:
            self._sweep()

    def move(self, waits: set[Wait], other: Queue) -> None:
        """Move some of the waits to another queue; each job keeps its turn, and polls in flight are forgotten."""
        jobs = [job for job in (*self._turns, *self._repeats, *self.under_way) if job.wait in waits]
        self.waits -= waits
        self.under_way = {job for job in self.under_way if job.wait not in waits}
        self._sweep()
        other.waits |= waits
        other._look_at = -inf
        for job in jobs:
            other._put_back(job)

    def put_back_all(self) -> None:
        """Put back all jobs with a poll in flight, because the watcher stopped."""
        for job in self.under_way:
            self._put_back(job)
        self.under_way.clear()

    def _put_back(self, job: Job) -> None:
        if job.wait in self.waits:
            heappush(self._repeats if 0 < job.failures <= _REPEATED_SOON else self._turns, job)

    def _heard(self) -> None:
        self.silent_since = inf
        self._last_error = None
        self._failures_in_a_row = self._quiet_times = 0
        self._quiet_until = -inf

    def _failed(self, job: Job, error: TransientError, now: float) -> None:
        job.failures += 1
        job.failing_since = min(job.failing_since, now)
        named = min(error.retry_after or 0.0, RETRY_SECONDS)
        pause = min(job.interval, LONGEST_BACKOFF)
        if job.failures <= _REPEATED_SOON:
            pause = min(pause, backoff(job.failures, self._random))
        self._push(job, now, max(pause, named))
        # A failed repeat says nothing new about the service.
        if not 1 < job.failures <= _REPEATED_SOON + 1:
            self._failures_in_a_row += 1
        # Polls in flight at the same time fail at the same time, so they count as one.
        if self.is_down and now >= self._quiet_until:
            pause = min(_LONGEST_QUIET, FIRST_BACKOFF * 2.0 ** min(self._quiet_times, 10)) * self._random()
            self._quiet_until = now + max(pause, named)
            self._quiet_times += 1
        failing = now - job.failing_since
        if job.failures >= _RUN and failing > job.wait.jobs.error_budget:
            self.end(job.wait, job.wait.jobs.given_up(error, job.failures, failing))

    def _push(self, job: Job, now: float, seconds: float) -> None:
        job.due = now + seconds * (0.9 + 0.2 * self._random())
        last = job.wait.until - min(_LAST_POLL, job.interval / 2)
        if now < last < job.due < inf:
            job.due = last
        self._put_back(job)

    def _sweep(self) -> None:
        for heap in (self._turns, self._repeats):
            heap[:] = [job for job in heap if job.wait in self.waits]
            heapify(heap)
        self._stale = 0
