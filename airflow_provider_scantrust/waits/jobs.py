"""
Waiting for asynchronous jobs, as a conversation that workers and triggers perform alike.

Rule 1: a failed question is not a failed job: it is asked again within the error budget.
Rule 2: only the job's own state, a permanent error or the deadline ends a wait; a state never seen before does not.
Rule 3: all jobs are waited for, also after one has failed, so that the outcome does not depend on who asked when.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

from airflow_provider_scantrust.api.auth import Auth
from airflow_provider_scantrust.api.endpoints import check_task_id, get_scm_task
from airflow_provider_scantrust.api.flow import Random, converse, given_up
from airflow_provider_scantrust.api.messages import Conversation, Notice, Pause
from airflow_provider_scantrust.api.models import Task, TaskState
from airflow_provider_scantrust.api.settings import Budget, Settings
from airflow_provider_scantrust.exceptions import TaskFailed, TransientError, WaitTimedOut
from airflow_provider_scantrust.waits.outcome import NAMED

# Seconds without any readable answer about a job after which a wait ends.
ERROR_BUDGET = 600.0
_NAMED = 10


class Jobs:
    """
    The jobs that one task waits for, and what is known of them; it asks nobody.

    Poke, reschedule and the triggerer's watcher alike take their answers, ends and errors from here.

    :param deadline: Seconds since the epoch at which the wait ends: it must outlive the process.
    :param error_budget: Seconds without any readable answer about a job after which the wait ends.
    """

    __slots__ = ("deadline", "ended", "error_budget", "failed", "open")

    def __init__(
        self, task_ids: Iterable[str], *, deadline: float, error_budget: float = ERROR_BUDGET
    ) -> None:
        # The last word that Scantrust had for the state of each.
        self.open: dict[str, str | None] = {check_task_id(task_id): None for task_id in task_ids}
        self.ended: dict[str, int | None] = {}
        # How each of those that failed is described.
        self.failed: dict[str, str] = {}
        self.deadline = deadline
        self.error_budget = error_budget

    def take(self, task: Task) -> Notice | None:
        """Take an answer about an open job; return what the task's log should say about it."""
        is_new = self.open[task.id] != task.state_word
        if task.is_done:
            del self.open[task.id]
            self.ended[task.id] = task.codes_affected
            if task.is_failed:
                self.failed[task.id] = task.describe()
        else:
            self.open[task.id] = task.state_word
        if not is_new:
            return None
        if task.state is TaskState.UNKNOWN:
            return Notice(
                f"Task {task.id} is in the state {task.state_word!r}, which this package does not know. It is not "
                "taken for an end: the wait goes on."
            )
        if task.is_failed:
            return Notice(f"An asynchronous upload failed at Scantrust: {task.describe()}.")
        return Notice(f"Scantrust: {task.describe()}.", warning=False)

    def seconds_left(self, now: float) -> float:
        """
        Return the seconds to the deadline.

        :param now: Wall clock, seconds since the epoch.
        :raises WaitTimedOut: There are none.
        """
        left = self.deadline - now
        if left <= 0:
            raise self.timed_out()
        return left

    def timed_out(self) -> WaitTimedOut:
        """Return the error for a deadline that has come."""
        states = [f"{task_id} ({word or 'never answered'})" for task_id, word in self.open.items()]
        return WaitTimedOut(
            f"{len(self.open)} of {len(self.open) + len(self.ended)} asynchronous uploads had not ended in time: "
            f"{_some(states)}. {jobs_go_on(self.open)}"
        )

    def given_up(self, error: TransientError, tries: int, seconds: float) -> TransientError:
        """Return the error for a wait whose error budget is used up; ``error`` is the last of many."""
        return given_up(error, tries, seconds, Budget(attempts=None, seconds=self.error_budget))

    def outcome(self) -> dict[str, int | None]:
        """
        Return the codes affected by each job that has ended.

        :raises TaskFailed: At least one of them failed.
        """
        if self.failed:
            raise TaskFailed(
                f"{len(self.failed)} of {len(self.ended)} asynchronous uploads failed at Scantrust: "
                + _some([f"({text})" for text in self.failed.values()])
                + ". Scantrust gives no reason here; its portal or support can.",
                failed_jobs={
                    "jobs": len(self.ended),
                    "failed": len(self.failed),
                    "task_ids": list(self.failed)[:NAMED],
                },
            )
        return self.ended


class Watch(Jobs):
    """
    Jobs, and the conversation that asks about them one after the other: for a worker, which may wait.

    :param now: Returns the wall clock, seconds since the epoch.
    :param random: Returns a number in [0, 1); used for jitter only.
    """

    def __init__(
        self,
        task_ids: Iterable[str],
        settings: Settings,
        auth: Auth,
        *,
        deadline: float,
        now: Callable[[], float],
        random: Random,
        error_budget: float = ERROR_BUDGET,
    ) -> None:
        super().__init__(task_ids, deadline=deadline, error_budget=error_budget)
        self._settings = settings
        self._auth = auth
        self._now = now
        self._random = random
        self._budget = Budget(attempts=None, seconds=error_budget, retry_unreadable=True)

    def ask(self) -> Conversation[bool]:
        """
        Ask once about every job that has not ended; return whether all have.

        :raises WaitTimedOut: No answer came before the deadline.
        :raises TransientError: No readable answer came within the error budget.
        :raises ScantrustError: A permanent error: no permission, no such task.
        """
        for task_id in list(self.open):
            left = self.deadline - self._now()
            question = converse(
                get_scm_task(task_id, self._settings.dialect),
                self._settings,
                self._auth,
                random=self._random,
                budget=self._budget.at_most(left),
            )
            try:
                task = yield from question
            except TransientError as error:
                if left < self._budget.seconds:
                    raise self.timed_out() from error
                raise
            if (notice := self.take(task)) is not None:
                yield notice
        return not self.open

    def wait(
        self, poll_interval: float, longest_poll_interval: float | None = None, *, ask_first: bool = True
    ) -> Conversation[dict[str, int | None]]:
        """
        Ask until all jobs have ended; return the codes affected by each.

        :param poll_interval: Seconds between two questions for one job; jittered by a tenth.
        :param longest_poll_interval: When given, the interval doubles after each question up to this.
        :param ask_first: Ask before the first pause.
        :raises TaskFailed: At least one job failed.
        :raises WaitTimedOut: The deadline came first.
        :raises ScantrustError: As :meth:`ask`.
        """
        while not (ask_first and (yield from self.ask())):
            ask_first = True
            left = self.check_deadline()
            yield Pause(min(left, poll_interval * (0.9 + 0.2 * self._random())))
            if longest_poll_interval is not None:
                poll_interval = min(longest_poll_interval, poll_interval * 2)
        return self.outcome()

    def check_deadline(self) -> float:
        """
        Return the seconds left.

        :raises WaitTimedOut: There are none.
        """
        return self.seconds_left(self._now())


def jobs_go_on(task_ids: Iterable[str]) -> str:
    """Return the sentence for whoever ends a wait early."""
    ids = list(task_ids)
    if not ids:
        return "No asynchronous upload is open."
    return f"Scantrust has no call that cancels a job, so it goes on there: {_some(ids)}."


def _some(texts: list[str]) -> str:
    more = len(texts) - _NAMED
    return ", ".join(texts[:_NAMED]) + (f" and {more} more" if more > 0 else "")
