"""
Wait for asynchronous jobs in the triggerer.

Rule: a trigger is run again after a triggerer restart, so it only asks; it never submits.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import AsyncIterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from airflow.triggers.base import BaseTrigger, TriggerEvent

from airflow_provider_scantrust.api.waiting import ERROR_BUDGET, Watch, jobs_go_on
from airflow_provider_scantrust.exceptions import ConfigurationError, ScantrustError, from_dict

if TYPE_CHECKING:
    from airflow_provider_scantrust.api.settings import Settings

_CLASS_PATH = "airflow_provider_scantrust.triggers.scantrust.ScantrustTaskTrigger"
_CONNECTION_PAUSES = (1.0, 2.0, 4.0)


class ScantrustTaskTrigger(BaseTrigger):
    """
    Fire once, when all jobs have ended, the deadline has come, or asking has become useless.

    Its arguments hold ids and seconds only: Airflow stores and prints them.

    :param task_ids: The jobs' ids.
    :param deadline: Seconds since the epoch at which the wait ends: it holds over restarts.
    :param poll_interval: Seconds between two questions for one job.
    :param longest_poll_interval: When given, the interval doubles after each question up to this.
    :param error_budget: Seconds without a readable answer about a job after which the wait ends.
    :param scantrust_conn_id: The Airflow connection.
    """

    def __init__(
        self,
        task_ids: Sequence[str],
        deadline: float,
        poll_interval: float = 10.0,
        longest_poll_interval: float | None = None,
        error_budget: float = ERROR_BUDGET,
        scantrust_conn_id: str = "scantrust_default",
    ) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.task_ids = list(task_ids)
        self.deadline = deadline
        self.poll_interval = poll_interval
        self.longest_poll_interval = longest_poll_interval
        self.error_budget = error_budget
        self.scantrust_conn_id = scantrust_conn_id

    def serialize(self) -> tuple[str, dict[str, Any]]:
        """Return the class path and the arguments, as plain JSON."""
        return _CLASS_PATH, {
            "task_ids": self.task_ids,
            "deadline": self.deadline,
            "poll_interval": self.poll_interval,
            "longest_poll_interval": self.longest_poll_interval,
            "error_budget": self.error_budget,
            "scantrust_conn_id": self.scantrust_conn_id,
        }

    async def run(self) -> AsyncIterator[TriggerEvent]:
        """Wait, and yield the one event that :func:`read_event` reads."""
        try:
            event: dict[str, Any] = {"status": "complete", "codes_affected": await self._wait()}
        except ScantrustError as error:
            event = {"status": "error", "error": error.as_dict()}
        yield TriggerEvent(event)  # type: ignore[no-untyped-call]

    async def on_kill(self) -> None:
        """Say that the jobs go on; Airflow 3.3 calls this when a user marks or clears the deferred task."""
        self.log.warning("The wait was ended by hand. %s", jobs_go_on(self.task_ids))

    async def _wait(self) -> dict[str, int | None]:
        from airflow_provider_scantrust.transports.aio import AioTransport

        settings = await self._settings()
        watch = Watch(
            self.task_ids,
            settings,
            settings.make_auth(),
            deadline=self.deadline,
            now=time.time,
            random=random.random,
            error_budget=self.error_budget,
        )
        async with AioTransport(verify=settings.verify, log=self.log) as transport:
            # The worker has just asked. An event that comes before Airflow has seen the worker off can make the
            # scheduler fail the task, so the first question waits for its turn.
            wait = watch.wait(self.poll_interval, self.longest_poll_interval, ask_first=False)
            return await transport.perform(wait)

    async def _settings(self) -> Settings:
        """Look the connection up; "not found" may also be a passing fault of Airflow's API, so it is asked again."""
        from airflow.providers.common.compat.connection import get_async_connection, get_async_extra_dejson
        from airflow.providers.common.compat.sdk import AirflowNotFoundException

        from airflow_provider_scantrust.hooks.scantrust import settings_of

        for pause in (*_CONNECTION_PAUSES, None):
            try:
                connection = await get_async_connection(self.scantrust_conn_id)
                break
            except AirflowNotFoundException as error:
                if pause is None:
                    raise ConfigurationError(
                        f"The triggerer does not find the connection {self.scantrust_conn_id!r}."
                    ) from error
                await asyncio.sleep(pause)
        return settings_of(connection, await get_async_extra_dejson(connection), self.log)


def read_event(event: Any) -> dict[str, int | None]:
    """
    Return the codes affected by each job from a trigger's event.

    :raises ScantrustError: The error that ended the wait; also for an event that is not understood, since it
        crossed a process and a database and an unknown word must not pass for success.
    """
    if isinstance(event, Mapping):
        codes = event.get("codes_affected")
        if event.get("status") == "complete" and isinstance(codes, Mapping):
            return {str(task_id): count for task_id, count in codes.items()}
        error = event.get("error")
        if event.get("status") == "error" and isinstance(error, Mapping):
            raise from_dict(error)
    raise ScantrustError(f"The trigger sent an event that this version does not understand: {event!r:.300}")
