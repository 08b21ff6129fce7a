"""
Which job is asked about next, and when: one queue for all waits that talk to Scantrust with the same credentials.

Rule 1: a job is due one interval after its last answer, jittered by a tenth; the first time one interval after it came,
        or at once.
Rule 2: of the jobs that are due, the one that is due longest goes first. When more is due than may be asked, all
        intervals stretch alike, and the worst delay stays near the number of open jobs by the rate.
Rule 3: the budget holds for every second and for every minute (``pacing``).
Rule 4: a 429 stops all questions for the time that the service names and lowers the rate; the job keeps its place. No
        time that is named keeps the queue quiet for longer than five minutes, since the service may be back before.
Rule 5: a failed question costs its job the turn: it is due again after its interval, and after half a minute at most.
Rule 6: after five failures with no answer to anybody in between, one question at a time is asked, after growing
        pauses, until anything readable comes.
Rule 7: a wait that leaves costs nothing: its jobs are passed over, and swept out when they are many.
"""

from __future__ import annotations

from collections.abc import Iterable
from heapq import heapify, heappop, heappush
from math import inf

from airflow_provider_scantrust.api.flow import FIRST_BACKOFF, LONGEST_BACKOFF, Random
from airflow_provider_scantrust.api.settings import RETRY_SECONDS
from airflow_provider_scantrust.waits.jobs import Jobs
from airflow_provider_scantrust.waits.pacing import Pacer

# Scantrust: rate limits, authenticated.
POLLS_PER_MINUTE = 3000
MOST_AT_ONCE = 10
# An event loop that others share keeps its timers badly, so late questions may close up by a fifth. By much more, two
# watchers on one token would come back from each 429 in bursts that are the next one's cause.
_CLOSER = 0.8
# Questions that may go out together: six, at forty a second.
_BEAT = 0.15

_DOWN = 5
_LONGEST_QUIET = 15.0
# The last question before a deadline comes so many seconds before it.
_LAST_QUESTION = 1.0


def make_pacer(polls_per_second: int, random: Random) -> Pacer:
    """Return the budget of one token's questions."""
    return Pacer(
        polls_per_second, random=random, windows=[(POLLS_PER_MINUTE, 60.0)], closer=_CLOSER, beat=_BEAT
    )


class Wait:
    """
    The wait of one task, as the queue sees it.

    :param joined: Monotonic seconds, as all times here.
    :param until: When its deadline comes.
    :param longest: When given, the interval doubles after each question up to this.
    :param ask_first: The first question does not wait for an interval.
    """

    __slots__ = ("ask_first", "interval", "jobs", "joined", "left", "longest", "until")

    def __init__(
        self,
        jobs: Jobs,
        interval: float,
        longest: float | None,
        *,
        joined: float,
        until: float,
        ask_first: bool = False,
    ) -> None:
        self.jobs = jobs
        self.interval = interval
        self.longest = longest
        self.joined = joined
        self.until = until
        self.ask_first = ask_first
        self.left = False


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
    The jobs of all waits; it has no clock, asks nobody and does not wait.

    :param pacer: The budget.
    :param random: Returns a number in [0, 1); used for jitter only.
    :param most_at_once: Questions that may be under way together.
    """

    def __init__(self, pacer: Pacer, *, random: Random, most_at_once: int = MOST_AT_ONCE) -> None:
        # Since when nobody got a readable answer; inf while all is well.
        self.silent_since = inf
        self.failures_in_a_row = 0
        self.asking: set[Job] = set()
        self._pacer = pacer
        self._random = random
        self._most_at_once = most_at_once
        self._heap: list[Job] = []
        self._stale = 0
        self._quiet_until = -inf
        self._quiet_times = 0

    @property
    def open(self) -> int:
        """Jobs that have not ended."""
        return len(self._heap) - self._stale + sum(not job.wait.left for job in self.asking)

    @property
    def is_down(self) -> bool:
        """The service has not answered anybody for a while."""
        return self.failures_in_a_row >= _DOWN

    def add(self, wait: Wait) -> list[Job]:
        """Add a wait with its open jobs."""
        jobs = [Job(wait, task_id) for task_id in wait.jobs.open]
        for job in jobs:
            self._push(job, wait.joined, 0.0 if wait.ask_first else job.interval)
        return jobs

    def take(self, now: float, at_most: int = MOST_AT_ONCE) -> Job | float:
        """
        Return the job to ask about now, or the seconds after which to try again.

        Each job that is returned comes back through ``answered``, ``failed`` or ``throttled``; where its wait ends before
        that, through ``settle``.

        :param at_most: Do not go beyond so many questions under way.
        """
        while self._heap and self._heap[0].wait.left:
            heappop(self._heap)
            self._stale -= 1
        most = 1 if self.is_down else min(at_most, self._most_at_once)
        if not self._heap or len(self.asking) >= most:
            return inf
        seconds = max(self._heap[0].due, self._quiet_until) - now
        if seconds > 0:
            return seconds
        seconds = self._pacer.take_turn(now)
        if seconds > 0:
            return seconds
        job = heappop(self._heap)
        self.asking.add(job)
        return job

    def holds(self, job: Job) -> bool:
        """Whether anybody here still waits for what a question under way will bring; if not, it is forgotten."""
        self.settle(job)
        return job in self.asking

    def settle(self, job: Job) -> None:
        """Forget a question whose wait has left, also when its own answer was what ended the wait."""
        if job.wait.left:
            self.asking.discard(job)

    def answered(self, job: Job, now: float, *, ended: bool) -> None:
        """Take note of a readable answer."""
        self.asking.discard(job)
        self.heard()
        job.failures, job.failing_since = 0, inf
        if not ended:
            if job.wait.longest is not None:
                job.interval = min(job.wait.longest, job.interval * 2)
            self._push(job, now, job.interval)

    def heard(self) -> None:
        """Take note that the service answers: everybody's troubles are over."""
        self.silent_since = inf
        self.failures_in_a_row = self._quiet_times = 0
        self._quiet_until = -inf

    def failed(self, job: Job, now: float, retry_after: float | None = None) -> None:
        """
        Take note of a question without a readable answer.

        :param retry_after: Seconds that the service asks to wait, where it does.
        """
        self.asking.discard(job)
        self.silent_since = min(self.silent_since, now)
        job.failures += 1
        job.failing_since = min(job.failing_since, now)
        named = min(retry_after or 0.0, RETRY_SECONDS)
        self._push(job, now, max(min(job.interval, LONGEST_BACKOFF), named))
        self.failures_in_a_row += 1
        # Questions that were under way together fail together; that is one sign, not many.
        if self.is_down and now >= self._quiet_until:
            pause = min(_LONGEST_QUIET, FIRST_BACKOFF * 2.0 ** min(self._quiet_times, 10)) * self._random()
            self._quiet_until = now + max(pause, named)
            self._quiet_times += 1

    def throttled(self, job: Job, now: float, retry_after: float | None) -> None:
        """Take note of a 429."""
        self.asking.discard(job)
        self.silent_since = min(self.silent_since, now)
        self._pacer.slow_down(now, min(retry_after or FIRST_BACKOFF, RETRY_SECONDS))
        self.put_back([job])

    def leave(self, wait: Wait) -> None:
        """Pass over the jobs of a wait from now on."""
        wait.left = True
        # Those under way are in no heap, and go on to count as under way until they are settled.
        under_way = sum(job.wait is wait and job.task_id in wait.jobs.open for job in self.asking)
        self._stale += len(wait.jobs.open) - under_way
        if self._stale > len(self._heap) // 2:
            self._heap = [job for job in self._heap if not job.wait.left]
            heapify(self._heap)
            self._stale = 0

    def take_out(self, waits: set[Wait]) -> list[Job]:
        """Remove waits that go to another queue; return their jobs, also those under way."""
        jobs = [job for job in (*self._heap, *self.asking) if job.wait in waits and not job.wait.left]
        self._heap = [job for job in self._heap if job.wait not in waits and not job.wait.left]
        heapify(self._heap)
        self._stale = 0
        self.asking = {job for job in self.asking if job.wait not in waits}
        return jobs

    def put_back(self, jobs: Iterable[Job]) -> None:
        """Put jobs where they were: questions that were not asked after all, or jobs from another queue."""
        for job in jobs:
            if not job.wait.left:
                heappush(self._heap, job)

    def put_back_all(self) -> None:
        """Put back what was under way when the watcher had to stop."""
        jobs, self.asking = self.asking, set()
        self.put_back(jobs)

    def _push(self, job: Job, now: float, seconds: float) -> None:
        job.due = now + seconds * (0.9 + 0.2 * self._random())
        last = job.wait.until - min(_LAST_QUESTION, job.interval / 2)
        if now < last < job.due:
            job.due = last
        self.put_back([job])
