"""
Which job is polled next, when, and when a wait ends: one queue for all waits that use the same credentials.

Rule 1: a job is due one interval after its last answer, with a tenth of jitter. The first poll comes after
        one interval, or immediately.
Rule 2: of the jobs that are due, the one that is due longest goes first. When more is due than may be polled,
        all intervals stretch alike: the worst delay stays near the number of open jobs divided by the rate.
Rule 3: the rate limit holds for every second and for every minute (``pacing``).
Rule 4: a 429 stops all polls for the time that the service names and lowers the rate; the job keeps its
        place. No time that is named stops the queue for longer than five minutes, since the service may be
        back before.
Rule 5: a failed poll is repeated soon, before the jobs that are due, but not two repeats in a row; after
        three failures in a row the job waits for its turn again, so that broken jobs do not hold up the
        others.
Rule 6: after five failures with no answer in between, one poll at a time is sent, after growing pauses, until
        an answer can be read.
Rule 7: a wait ends when its jobs have ended, with a permanent error, at its deadline, or when its error
        budget has passed: no answer to any poll for so long, or a long run of failures of one of its jobs.
"""

from __future__ import annotations

from collections.abc import Iterable
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
# Seconds for a last answer when the deadline had passed before the wait began, as after a triggerer that was
# away.
GRACE = 120.0
# An event loop that others share keeps its timers badly, so late polls may close up by a fifth. By much more,
# two watchers on one token would come back from each 429 in bursts that cause the next one.
_CLOSER = 0.8
# Seconds whose polls may be sent together: seven, at 47 a second.
_BEAT = 0.15
# Next to none: the rate is below the service's already.
_MARGIN = 0.001

_DOWN = 5
_LONGEST_QUIET = 15.0
# The last poll before a deadline comes so many seconds before it.
_LAST_POLL = 1.0
# Failures in a row that are repeated before all other jobs.
_REPEATED_SOON = 3
# Failures in a row that end a wait. In a long queue they are minutes apart, so few of them are mere chance:
# where every third answer is broken, one wait of two hundred meets five in a row.
_RUN = 20
# Seconds between two looks at all deadlines, at least: one look at ten thousand waits takes a millisecond.
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


class Wait:
    """
    The wait of one task, as the queue sees it.

    :param interval: Seconds between two polls of one job.
    :param longest: When given, the interval doubles after each poll up to this.
    :param joined: Monotonic seconds, as all times here.
    :param left: Seconds to the deadline.
    :param once: Poll each job until it has given one answer that can be read.
    :param poll_first: The first poll does not wait for an interval. It never does once the deadline has
        passed.
    """

    __slots__ = ("error", "interval", "is_over", "jobs", "joined", "longest", "once", "poll_first", "until")

    def __init__(
        self,
        jobs: Jobs,
        interval: float,
        longest: float | None = None,
        *,
        joined: float,
        left: float,
        once: bool = False,
        poll_first: bool = False,
    ) -> None:
        self.jobs = jobs
        self.interval = interval
        self.longest = longest
        self.once = once
        self.joined = joined
        self.until = joined + (left if left > 0 else GRACE)
        self.poll_first = poll_first or left <= 0
        self.is_over = False
        self.error: ScantrustError | None = None

    def end(self, error: ScantrustError | None) -> None:
        """Take note of the end; the queue calls this."""
        self.error = error


class Job:
    """One job of a wait; ``due`` changes only while it is in no heap."""

    __slots__ = ("due", "failing_since", "failures", "interval", "task_id", "wait")

    def __init__(self, wait: Wait, task_id: str) -> None:
        self.wait = wait
        self.task_id = task_id
        self.interval = wait.interval
        self.due = inf
        self.failures = 0
        self.failing_since = inf

    def __lt__(self, other: Job) -> bool:
        return self.due < other.due


class Queue:
    """
    The jobs of all waits; it has no clock, sends nothing and does not sleep.

    :param pacer: The rate.
    :param random: Returns a number in [0, 1); used for jitter only.
    :param most_at_once: Polls that may be under way together.
    """

    def __init__(self, pacer: Pacer, *, random: Random, most_at_once: int = MOST_AT_ONCE) -> None:
        self.waits: set[Wait] = set()
        # Since when no answer could be read; infinite while there are answers.
        self.silent_since = inf
        self.under_way: set[Job] = set()
        self._pacer = pacer
        self._random = random
        self._most_at_once = most_at_once
        # Jobs in their turn, and jobs whose failed poll is repeated.
        self._turns: list[Job] = []
        self._repeats: list[Job] = []
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
        queued = len(self._turns) + len(self._repeats) - self._stale
        return queued + sum(not job.wait.is_over for job in self.under_way)

    @property
    def is_down(self) -> bool:
        """The service has not answered for a while."""
        return self._failures_in_a_row >= _DOWN

    def add(self, wait: Wait) -> float:
        """Add a wait with its open jobs; return when the first of them is due."""
        self.waits.add(wait)
        self._look_at = min(self._look_at, wait.until if self.silent_since == inf else wait.joined)
        jobs = [Job(wait, task_id) for task_id in wait.jobs.open]
        for job in jobs:
            self._push(job, wait.joined, 0.0 if wait.poll_first else job.interval)
        return min((job.due for job in jobs), default=inf)

    def take(self, now: float, at_most: int = MOST_AT_ONCE) -> Job | float:
        """
        Return the job to poll now, or the seconds after which to try again.

        Each job that is returned comes back through :meth:`take_result`, or by :meth:`put_back`.

        :param at_most: Do not go beyond so many polls under way.
        """
        for heap in (self._turns, self._repeats):
            while heap and heap[0].wait.is_over:
                heappop(heap)
                self._stale -= 1
        most = 1 if self.is_down else min(at_most, self._most_at_once)
        if len(self.under_way) >= most:
            return inf
        turn, repeat = (heap[0].due if heap else inf for heap in (self._turns, self._repeats))
        seconds = max(min(turn, repeat), self._quiet_until) - now
        if seconds <= 0:
            seconds = self._pacer.take_turn(now)
        if seconds > 0:
            return seconds
        # Never two repeats in a row while others are due: those may be the broken ones.
        self._repeated = repeat <= now and not (self._repeated and turn <= now)
        job = heappop(self._repeats if self._repeated else self._turns)
        self.under_way.add(job)
        return job

    def holds(self, job: Job) -> bool:
        """Whether the result of a poll under way is still of use here; if not, the poll is forgotten."""
        if job.wait.is_over:
            self.under_way.discard(job)
        return job in self.under_way

    def take_result(self, job: Job, result: Task | ScantrustError, now: float) -> Notice | None:
        """Take what a poll has brought; return what the task's log should say about it."""
        if not self.holds(job):
            return None
        self.under_way.discard(job)
        wait = job.wait
        if isinstance(result, Task):
            self._heard()
            notice = wait.jobs.take(result)
            job.failures, job.failing_since = 0, inf
            if not wait.jobs.open:
                self.end(wait)
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
            self.put_back([job])
        else:
            self._failed(job, result, now)
        return None

    def expire(self, now: float) -> float:
        """End the waits whose deadline or error budget has passed; return the seconds until the next look."""
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
        """Pass over the jobs of a wait from now on."""
        if wait not in self.waits:
            return
        self.waits.remove(wait)
        wait.is_over = True
        # Those under way are in no heap.
        under_way = sum(job.wait is wait and job.task_id in wait.jobs.open for job in self.under_way)
        self._stale += len(wait.jobs.open) - under_way
        if self._stale > (len(self._turns) + len(self._repeats)) // 2:
            self._sweep(set())

    def take_out(self, waits: set[Wait]) -> list[Job]:
        """Remove waits that go to another queue; return their jobs, also those under way."""
        jobs = [job for job in (*self._turns, *self._repeats, *self.under_way) if job.wait in waits]
        jobs = [job for job in jobs if not job.wait.is_over]
        self.waits -= waits
        self.under_way = {job for job in self.under_way if job.wait not in waits}
        self._sweep(waits)
        return jobs

    def take_in(self, waits: set[Wait], jobs: Iterable[Job]) -> None:
        """Take on what :meth:`take_out` of another queue has returned; each job keeps its turn."""
        self.waits |= waits
        self._look_at = -inf
        self.put_back(jobs)

    def put_back(self, jobs: Iterable[Job]) -> None:
        """Put jobs where they were: they were not polled after all, or come from another queue."""
        for job in jobs:
            if not job.wait.is_over:
                heappush(self._repeats if 0 < job.failures <= _REPEATED_SOON else self._turns, job)

    def put_back_all(self) -> None:
        """Put back all that is under way: the watcher had to stop."""
        jobs, self.under_way = self.under_way, set()
        self.put_back(jobs)

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
        # A repeat that fails is no news about the service.
        if not 1 < job.failures <= _REPEATED_SOON + 1:
            self._failures_in_a_row += 1
        # Polls that were under way together fail together; that is one sign, not many.
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
        self.put_back([job])

    def _sweep(self, gone: set[Wait]) -> None:
        for heap in (self._turns, self._repeats):
            heap[:] = [job for job in heap if not job.wait.is_over and job.wait not in gone]
            heapify(heap)
        self._stale = 0
