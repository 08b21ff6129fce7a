"""
The jobs of one wait: what is known about them, and how a wait ends.

Rule 1: a failed poll is not a failed job. The job is polled again within the error budget.
Rule 2: only the job's own state, a permanent error or the deadline ends a wait. An unknown state does not.
Rule 3: the wait continues after one job has failed, so the result does not depend on the order of the
        polls.
"""

from __future__ import annotations

from collections.abc import Iterable

from airflow_provider_scantrust.api.auth import Auth
from airflow_provider_scantrust.api.endpoints import check_task_id, get_scm_task
from airflow_provider_scantrust.api.flow import Random, converse, given_up
from airflow_provider_scantrust.api.messages import Conversation, Notice
from airflow_provider_scantrust.api.models import Task, TaskState
from airflow_provider_scantrust.api.settings import Budget, Settings
from airflow_provider_scantrust.api.texts import plural
from airflow_provider_scantrust.exceptions import (
    ConfigurationError,
    ConnectionFailed,
    NotFound,
    PermissionDenied,
    ScantrustError,
    TaskFailed,
    TransientError,
    WaitTimedOut,
)
from airflow_provider_scantrust.waits.outcome import NAMED, Outcome

# Seconds without any readable answer about a job after which a wait ends.
ERROR_BUDGET = 600.0
_NAMED = 10
# The queue repeats a failed poll, not the poll's own conversation.
_ONE_TRY = Budget(attempts=1, seconds=0.0)


class Jobs:
    """
    The jobs that one task waits for, and what is known about them. It sends nothing.

    :param deadline: Seconds since the epoch at which the wait ends, so that it stays valid after a restart.
    :param error_budget: Seconds without any readable answer about a job after which the wait ends.
    """

    __slots__ = ("deadline", "ended", "error_budget", "failed", "open")

    def __init__(
        self, task_ids: Iterable[str], *, deadline: float, error_budget: float = ERROR_BUDGET
    ) -> None:
        # task_id -> the last state that Scantrust reported.
        self.open: dict[str, str | None] = {check_task_id(task_id): None for task_id in task_ids}
        self.ended: dict[str, int | None] = {}
        # task_id -> the description of a failed job.
        self.failed: dict[str, str] = {}
        self.deadline = deadline
        self.error_budget = error_budget

    def take(self, task: Task) -> Notice | None:
        """Take an answer about an open job; return the line for the task's log, if there is news."""
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
                f"Task {task.id} is in the state {task.state_word!r}, which this package does not know. The wait continues."
            )
        if task.is_failed:
            # The error at the end of the wait has the rest.
            return Notice(f"Job {task.id} failed at Scantrust.")
        return Notice(f"Scantrust: {task.describe()}.", warning=False)

    def timed_out(self) -> WaitTimedOut:
        """Return the error for a deadline that has passed."""
        states = [f"{task_id} ({word or 'never answered'})" for task_id, word in self.open.items()]
        return WaitTimedOut(
            f"{len(self.open):,} of {plural(len(self.open) + len(self.ended), 'job')} had not ended in time: "
            f"{_some(states)}. {jobs_go_on(self.open)}"
        )

    def given_up(self, error: TransientError, tries: int, seconds: float) -> TransientError:
        """Return the error for a wait whose error budget is used up; ``error`` is the last of many."""
        return given_up(error, tries, seconds, Budget(attempts=None, seconds=self.error_budget))

    def outcome(self) -> Outcome:
        """
        Return the codes affected by the jobs, which have ended.

        :raises TaskFailed: At least one of them failed.
        """
        if self.failed:
            raise TaskFailed(
                f"{len(self.failed):,} of {plural(len(self.ended), 'job')} failed at Scantrust. Failed: "
                + _some([f"({text})" for text in self.failed.values()])
                + ". Scantrust's API gives no reason. Look in the portal, or ask Scantrust's support.",
                failed_jobs={
                    "jobs": len(self.ended),
                    "failed": len(self.failed),
                    "task_ids": list(self.failed)[:NAMED],
                },
            )
        return Outcome.of(self.ended)


def poll_job(task_id: str, settings: Settings, auth: Auth, *, random: Random) -> Conversation[Task]:
    """
    Poll one job once; the queue decides when to poll again.

    :param random: Returns a number in [0, 1); used for jitter only.
    :raises ScantrustError: There is no usable answer.
    """
    return converse(get_scm_task(task_id, settings.dialect), settings, auth, random=random, budget=_ONE_TRY)


def calls_for_lookup(error: ScantrustError) -> bool:
    """Whether a changed connection could explain the error: a permanent error, or no answer from the host."""
    return error.permanent or isinstance(error, ConnectionFailed)


def changed_since(error: ScantrustError, conn_id: str) -> ScantrustError:
    """Return the error for a job that cannot be read because its connection has changed since the submit."""
    if not isinstance(error, NotFound | PermissionDenied):
        return error
    return ConfigurationError(
        f"The connection {conn_id!r} has changed since the job was submitted (host, token or login), and may belong to "
        f"another account now: {error} The job is kept. Correct the connection, then clear the task."
    )


def jobs_go_on(task_ids: Iterable[str]) -> str:
    """Return the sentence for the log of a wait that ends early."""
    ids = list(task_ids)
    if not ids:
        return "No job is open."
    these = "this job continues" if len(ids) == 1 else "these jobs continue"
    return f"Scantrust has no call that cancels a job, so {these}: {_some(ids)}."


def _some(texts: list[str]) -> str:
    more = len(texts) - _NAMED
    return ", ".join(texts[:_NAMED]) + (f" and {more} more" if more > 0 else "")
