"""
Wait for asynchronous jobs in the triggerer.

Rule: a trigger runs again after a restart of the triggerer, so it only polls and never submits. All
triggers of one triggerer poll through one watcher per service and token (``watcher``).
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import suppress
from datetime import datetime
from inspect import signature
from math import inf
from typing import Any

from airflow.providers.common.compat.sdk import AirflowTaskTimeout
from airflow.triggers.base import BaseTrigger, TaskSuccessEvent, TriggerEvent
from asgiref.sync import sync_to_async

from airflow_provider_scantrust.api.inputs import read_task_ids
from airflow_provider_scantrust.exceptions import (
    ConfigurationError,
    ScantrustError,
    TransientError,
    WaitTimedOut,
    from_dict,
)
from airflow_provider_scantrust.waits.jobs import ERROR_BUDGET, Jobs, jobs_go_on
from airflow_provider_scantrust.waits.outcome import Outcome

CLASS_PATH = "airflow_provider_scantrust.triggers.scantrust.ScantrustTaskTrigger"
# Seconds before each try to read the ids.
_LOOKUP_PAUSES = (0.0, 1.0, 2.0, 4.0)
_RENDERING_SECONDS = 60.0
# The least seconds from the start of a deferred wait to its event. If the event comes before Airflow has
# recorded the end of the worker's process, the scheduler fails the task.
FIRST_EVENT = 5.0


class ScantrustTaskTrigger(BaseTrigger):
    """
    Fire once, when all jobs have ended, the deadline has passed, or polling cannot succeed any more.

    Its arguments have no secrets, because Airflow stores and prints them.

    The ids come in one of three ways: in ``task_ids``; in the XCom ``stored_at``, if they are too many for a
    row of the database; or in ``scantrust_task_id``, with templates, if Airflow starts the wait in the
    triggerer without a worker.

    :param task_ids: The jobs' ids.
    :param deadline: Seconds since the epoch at which the wait ends, also after restarts. With None, Airflow's
        own timeout of the trigger sets the end; see ``spare_seconds``.
    :param poll_interval: Seconds between two polls of one job.
    :param longest_poll_interval: If given, the interval doubles after each poll, up to this value.
    :param error_budget: Seconds without a readable answer about a job after which the wait ends.
    :param scantrust_conn_id: The Airflow connection. (templated if the wait starts in the triggerer)
    :param stored_at: Where the list of ids is: the arguments of ``XCom.get_one``.
    :param scantrust_task_id: As for the sensor. (templated)
    :param spare_seconds: Without ``deadline``: the wait ends this long before Airflow's own timeout of the
        trigger. A wait that starts in the triggerer has no other record of when it started.
    :param end_from_trigger: End the task in the triggerer, without a worker, if all jobs succeeded.
    :param do_xcom_push: Store the result in this case.
    :param account: ``Settings.account_digest`` of the connection that the jobs were submitted with, if it is
        known. A 404 for another account does not mean that a job is gone.
    """

    # Set by Airflow's triggerer before it calls run.
    timeout_after: datetime | None = None

    def __init__(
        self,
        task_ids: Sequence[str] = (),
        deadline: float | None = None,
        poll_interval: float = 10.0,
        longest_poll_interval: float | None = None,
        error_budget: float = ERROR_BUDGET,
        scantrust_conn_id: str = "scantrust_default",
        stored_at: dict[str, Any] | None = None,
        scantrust_task_id: Any = None,
        spare_seconds: float = 0.0,
        end_from_trigger: bool = False,
        do_xcom_push: bool = True,
        account: str | None = None,
    ) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.task_ids = list(task_ids)
        self.poll_interval = poll_interval
        self.longest_poll_interval = longest_poll_interval
        self.error_budget = error_budget
        self.scantrust_conn_id = scantrust_conn_id
        self.scantrust_task_id = scantrust_task_id
        self.stored_at = stored_at
        self.spare_seconds = spare_seconds
        self.end_from_trigger = end_from_trigger
        self.do_xcom_push = do_xcom_push
        self.account = account
        self._deadline = deadline
        # As given; rendering replaces the attributes.
        self._templates = {"scantrust_task_id": scantrust_task_id, "scantrust_conn_id": scantrust_conn_id}
        self._context: Any = None

    @property
    def deadline(self) -> float:
        """Seconds since the epoch at which the wait ends."""
        if self._deadline is not None:
            return self._deadline
        # Without a timeout of the deferral, the wait has no deadline.
        return inf if self.timeout_after is None else self.timeout_after.timestamp() - self.spare_seconds

    def serialize(self) -> tuple[str, dict[str, Any]]:
        """Return the class path and the arguments as they were given, as plain JSON."""
        is_found_later = self._templates["scantrust_task_id"] is not None or self.stored_at is not None
        return CLASS_PATH, {
            **{name: getattr(self, name) for name in signature(ScantrustTaskTrigger).parameters},
            "task_ids": [] if is_found_later else self.task_ids,
            "deadline": self._deadline,
            **self._templates,
        }

    def render_template_fields(self, context: Any, jinja_env: Any = None) -> None:
        """Keep the context for :meth:`run`, which renders the templates with a time limit."""
        self._context = context

    async def run(self) -> AsyncIterator[TriggerEvent]:
        """Wait, and yield one event: for :func:`read_event`, or to end the task in the triggerer."""
        from airflow_provider_scantrust.triggers.sharing import wait_shared
        from airflow_provider_scantrust.triggers.watcher import TriggerWait

        started = time.monotonic()
        outcome: Outcome | None
        try:
            await self._find_task_ids()
            deadline = self.deadline
            wait = TriggerWait(
                Jobs(self.task_ids, deadline=deadline, error_budget=self.error_budget),
                self.poll_interval,
                self.longest_poll_interval,
                joined=time.monotonic(),
                left=deadline - time.time(),
                conn_id=self.scantrust_conn_id,
                account=self.account,
                # The logger of the class: one for each of thousands of waits would take a kilobyte each.
                log=self.logger(),
                # If a worker started the wait, it has just polled.
                poll_first=self.scantrust_task_id is not None,
            )
            # Awaited directly, because another coroutine would take memory in each of thousands of waits.
            outcome = await wait_shared(wait)
            event: dict[str, Any] = {"status": "complete", "outcome": outcome.as_dict()}
        except ScantrustError as error:
            outcome = None
            event = {"status": "error", "error": error.as_dict()}
        if self.scantrust_task_id is None:
            await asyncio.sleep(started + FIRST_EVENT - time.monotonic())
        if outcome is not None and self.end_from_trigger and await self._store_result(outcome):
            self.log.info(outcome.describe())
            yield TaskSuccessEvent()
            return
        yield TriggerEvent(event)  # type: ignore[no-untyped-call]

    async def on_kill(self) -> None:
        """Log that the jobs continue. Airflow 3.3 calls this when a deferred task is marked, cleared, removed or timed out."""
        self.log.warning("The wait was stopped. %s", jobs_go_on(self.task_ids))

    async def _find_task_ids(self) -> None:
        """
        Get the ids from the XCom or the template, if they are not in the arguments.

        :raises InvalidInput: There are no ids.
        :raises ConfigurationError: A template needs a value that the triggerer cannot get.
        """
        if self._context is not None:
            try:
                # Templates wait for Airflow's API in this task: they switch greenlets, which no linter sees.
                async with asyncio.timeout(_RENDERING_SECONDS):  # noqa: ASYNC100
                    super().render_template_fields(self._context)
            except TimeoutError as error:
                raise ConfigurationError(
                    f"A template got no answer in the triggerer within {_RENDERING_SECONDS:.0f} s; `xcom_pull` needs "
                    "`map_indexes=-1` there. Without start_from_trigger it is rendered on a worker."
                ) from error
        if self.scantrust_task_id is not None:
            self.task_ids = read_task_ids(self.scantrust_task_id)
        elif self.stored_at is not None:
            self.task_ids = await self._load_task_ids(self.stored_at)

    async def _load_task_ids(self, stored_at: dict[str, Any]) -> list[str]:
        from airflow.providers.common.compat.sdk import XCom

        for pause in _LOOKUP_PAUSES:
            await asyncio.sleep(pause)
            try:
                # In a thread, which works on every Airflow and does not block the triggerer.
                if (
                    stored := await sync_to_async(XCom.get_one, thread_sensitive=False)(**stored_at)
                ) is not None:
                    return read_task_ids(stored)
            except Exception as error:
                # Airflow or the user's XCom backend may raise any exception for a temporary fault.
                self.log.warning("The ids of the jobs cannot be read: %s: %s", type(error).__name__, error)
        raise TransientError(
            f"The triggerer does not find the ids of the jobs: they were in the XCom {stored_at}."
        )

    async def _store_result(self, outcome: Outcome) -> bool:
        """
        Store the task's result as a worker would; return whether it is stored.

        The event's own ``xcoms`` would be encoded twice and would bypass the XCom backend.
        """
        ti: Any = self.task_instance
        if ti is None:
            # `dag.test()` has no triggerer to end the task.
            return False
        if not self.do_xcom_push:
            return True
        from airflow.providers.common.compat.sdk import XCom

        place = {name: getattr(ti, name) for name in ("dag_id", "run_id", "task_id", "map_index")}
        try:
            await sync_to_async(XCom.set, thread_sensitive=False)("return_value", outcome.result(), **place)
        except Exception as error:
            self.log.warning(
                "The result cannot be stored from the triggerer, so the task ends on a worker: %s: %s",
                type(error).__name__,
                error,
            )
            return False
        return True


def read_event(event: Any, deadline_is: str = "timeout") -> Outcome:
    """
    Return the outcome in a trigger's event.

    :param deadline_is: Which limit the trigger's deadline is: ``timeout`` or ``execution_timeout``.
    :raises AirflowTaskTimeout: The task's ``execution_timeout`` has passed.
    :raises ScantrustError: The error that ended the wait, or an event that is not understood: events cross
        processes and a database, and an unknown status must not count as success.
    """
    if isinstance(event, Mapping):
        status, outcome, error = (event.get(name) for name in ("status", "outcome", "error"))
        if status == "complete" and isinstance(outcome, Mapping):
            with suppress(ValueError):
                return Outcome.from_dict(outcome)
        # The event comes from a triggerer with an older release.
        if status == "complete" and isinstance(codes := event.get("codes_affected"), Mapping):
            return Outcome.of(codes)
        if status == "error" and isinstance(error, Mapping):
            ended = from_dict(error)
            if isinstance(ended, WaitTimedOut) and deadline_is == "execution_timeout":
                raise AirflowTaskTimeout(f"execution_timeout has passed. {ended}") from ended
            raise ended
    raise ScantrustError(f"The trigger sent an event that this version does not understand: {event!r:.300}")
