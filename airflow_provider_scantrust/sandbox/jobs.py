"""
Jobs of the async upload: pending, then in-progress, then complete or failed.

Rule: a status is answered from memory, so that a poll never waits for the database.
"""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import Coroutine
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from airflow_provider_scantrust.sandbox.clock import Clock
from airflow_provider_scantrust.sandbox.errors import Stopped
from airflow_provider_scantrust.sandbox.orders import Orders, Steering
from airflow_provider_scantrust.sandbox.registry import Registry
from airflow_provider_scantrust.sandbox.settings import FINAL_STATES, Settings
from airflow_provider_scantrust.sandbox.store import Store
from airflow_provider_scantrust.sandbox.uploads import apply_submission, product_error, submission_cost


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")


_TIMES = ("created_at", "started_at", "completed_at")
_STATUS = ("id", "reference", "state", "codes_affected", "created_by", *_TIMES)


@dataclass
class Job:
    """One job, with the documented fields and those that only the control calls show."""

    reference: str
    created_by: int
    constraints: dict[str, Any]
    scm_data: dict[str, Any]
    steering: Steering
    id: str = field(default_factory=lambda: str(uuid.uuid4()))
    created_at: str = field(default_factory=_now)
    state: str = "pending"
    codes_affected: int | None = None
    started_at: str | None = None
    completed_at: str | None = None
    error: str | None = None
    polls: int = 0
    end: asyncio.Task[None] | None = None

    def begin(self) -> None:
        """Go from pending to in-progress."""
        if self.started_at is None:
            self.started_at = _now()
            self.state = "in-progress"

    def show(self, *others: str) -> dict[str, Any]:
        """Show the documented fields and others."""
        return {name: getattr(self, name) for name in (*_STATUS, *others)}


class Jobs:
    """Runs jobs on the event loop of the server, and the SQL of each in a thread."""

    def __init__(self, store: Store, registry: Registry, settings: Settings, clock: Clock) -> None:
        self._store = store
        self._registry = registry
        self._settings = settings
        self._clock = clock
        self._jobs: dict[str, Job] = {}
        # asyncio itself does not keep a reference to a task.
        self._tasks: set[asyncio.Task[None]] = set()
        self.steering: Orders[Steering] = Orders()

    def __len__(self) -> int:
        return len(self._jobs)

    def submit(self, constraints: dict[str, Any], scm_data: dict[str, Any], created_by: int) -> Job:
        """Start a job; it runs in the background, unless polls move it on."""
        steering = self.steering.take() or Steering()
        job = Job(f"SCM-{len(self._jobs) + 1:06d}", created_by, constraints, scm_data, steering)
        self._jobs[job.id] = job
        if not steering.counts_polls:
            self._start(self._run(job))
        return job

    async def poll(self, task_id: str) -> dict[str, Any] | None:
        """Return the status of a job, or None if it does not exist."""
        job = self._jobs.get(task_id)
        if job is None:
            return None
        if job.steering.counts_polls and job.state not in FINAL_STATES:
            job.polls += 1
            if job.polls >= (job.steering.polls or 0):
                job.end = job.end or self._start(self._finish(job))
                await asyncio.shield(job.end)
            elif job.polls > 1:
                job.begin()
        status = job.show()
        return {**status, "state": self._settings.states.get(status["state"], status["state"])}

    def show(self) -> list[dict[str, Any]]:
        return [job.show("constraints", "scm_data", "error") for job in list(self._jobs.values())]

    def _start(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    async def _run(self, job: Job) -> None:
        hang, seconds = job.steering.hang, job.steering.seconds
        if hang == "pending":
            return
        with suppress(Stopped):
            await self._clock.service(self._settings.pending_seconds)
            job.begin()
            if hang:
                return
            if seconds is None:
                seconds = await asyncio.to_thread(
                    submission_cost, job.constraints, self._store, self._settings
                )
            await self._clock.service(seconds)
            await self._finish(job)

    async def _finish(self, job: Job) -> None:
        job.begin()
        await asyncio.to_thread(self._end, job)

    def _end(self, job: Job) -> None:
        codes, error = 0, "Ordered to fail." if job.steering.fail else None
        try:
            error = error or product_error(job.scm_data.get("product", ""), self._registry)
            if error is None:
                codes = apply_submission(job.constraints, job.scm_data, self._store, self._registry)
        except Exception as failure:
            # A job always ends, even if the database fails.
            error = f"{type(failure).__name__}: {failure}"
        # The state is set last, so that a reader who sees the end also sees the result.
        job.error, job.codes_affected, job.completed_at = error, codes, _now()
        job.state = FINAL_STATES[error is not None]
