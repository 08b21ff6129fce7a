"""
Jobs of the async upload: pending, then in-progress, then complete or failed.

Rule: a status is answered from memory, so that a poll never waits for the database.
"""

from __future__ import annotations

import asyncio
import threading
import uuid
from dataclasses import dataclass, fields
from datetime import UTC, datetime
from typing import Any

from airflow_provider_scantrust.sandbox.checks import choice, number, truth, whole
from airflow_provider_scantrust.sandbox.clock import Clock
from airflow_provider_scantrust.sandbox.errors import Stopped
from airflow_provider_scantrust.sandbox.orders import Order, Orders
from airflow_provider_scantrust.sandbox.registry import Registry
from airflow_provider_scantrust.sandbox.settings import FINAL_STATES, Settings
from airflow_provider_scantrust.sandbox.store import Store
from airflow_provider_scantrust.sandbox.updates import apply_submission, product_error, submission_cost
from airflow_provider_scantrust.sandbox.validation import Submission


@dataclass
class Steering(Order):
    """How the next jobs behave; `Controls.jobs` explains the fields."""

    fail: bool = False
    hang: bool | str = False
    seconds: float | None = None
    polls: int | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        truth("fail", self.fail)
        choice("hang", self.hang, (False, True, "pending", "in-progress"))
        if self.seconds is not None:
            number("seconds", self.seconds)
        if self.polls is not None:
            whole("polls", self.polls, low=1)

    @property
    def counts_polls(self) -> bool:
        """Whether polls move the job on, and not time."""
        return self.polls is not None and not self.hang


@dataclass
class Job:
    """One job, with the documented fields and those that only the control calls show."""

    id: str
    reference: str
    created_by: int
    created_at: str
    constraints: dict[str, Any]
    scm_data: dict[str, Any]
    state: str = "pending"
    codes_affected: int | None = None
    started_at: str | None = None
    completed_at: str | None = None
    error: str | None = None

    def begin(self) -> None:
        """Go from pending to in-progress."""
        if self.started_at is None:
            self.started_at = _now()
            self.state = "in-progress"


class _Run:
    """A job in progress whose polls are counted."""

    def __init__(self, steering: Steering) -> None:
        self.steering = steering
        self.polls = 0
        self.end: asyncio.Task[None] | None = None


class Jobs:
    """Runs jobs on the event loop of the server, and the SQL of each in a thread."""

    def __init__(self, store: Store, registry: Registry, settings: Settings, clock: Clock) -> None:
        self._store = store
        self._registry = registry
        self._settings = settings
        self._clock = clock
        self._lock = threading.Lock()
        self._jobs: dict[str, Job] = {}
        self._counted: dict[str, _Run] = {}
        # asyncio itself does not keep a reference to a task.
        self._tasks: set[asyncio.Task[None]] = set()
        self.steering: Orders[Steering] = Orders()

    def __len__(self) -> int:
        return len(self._jobs)

    def submit(self, submission: Submission, created_by: int) -> Job:
        """Start a job; it runs in the background."""
        with self._lock:
            job = Job(
                id=str(uuid.uuid4()),
                reference=f"SCM-{len(self._jobs) + 1:06d}",
                created_by=created_by,
                created_at=_now(),
                constraints=dict(submission.constraints),
                scm_data=dict(submission.scm_data),
            )
            self._jobs[job.id] = job
        steering = self.steering.take() or Steering()
        if steering.counts_polls:
            self._counted[job.id] = _Run(steering)
        else:
            self._start(self._run(job, steering))
        return job

    async def poll(self, task_id: str) -> dict[str, Any] | None:
        """Return the status of a job, or None if it does not exist."""
        job = self._jobs.get(task_id)
        if job is None:
            return None
        if run := self._counted.get(task_id):
            run.polls += 1
            if run.polls >= (run.steering.polls or 0):
                run.end = run.end or self._start(self._finish(job, run.steering))
                await asyncio.shield(run.end)
                self._counted.pop(task_id, None)
            elif run.polls > 1:
                job.begin()
        return {
            "id": job.id,
            "reference": job.reference,
            "state": self._settings.states.get(job.state, job.state),
            "codes_affected": job.codes_affected,
            "created_by": job.created_by,
            "created_at": job.created_at,
            "started_at": job.started_at,
            "completed_at": job.completed_at,
        }

    def show(self) -> list[dict[str, Any]]:
        """Show all jobs."""
        with self._lock:
            jobs = list(self._jobs.values())
        return [{each.name: getattr(job, each.name) for each in fields(job)} for job in jobs]

    def _start(self, work: Any) -> asyncio.Task[None]:
        task: asyncio.Task[None] = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    async def _run(self, job: Job, steering: Steering) -> None:
        try:
            if steering.hang == "pending":
                return
            await self._clock.service(self._settings.pending_seconds)
            job.begin()
            if steering.hang:
                return
            seconds = steering.seconds
            if seconds is None:
                submission = Submission(job.constraints, job.scm_data)
                seconds = await asyncio.to_thread(submission_cost, submission, self._store, self._settings)
            await self._clock.service(seconds)
            await self._finish(job, steering)
        except Stopped:
            pass

    async def _finish(self, job: Job, steering: Steering) -> None:
        job.begin()
        await asyncio.to_thread(self._end, job, steering.fail)

    def _end(self, job: Job, fail: bool) -> None:
        codes = 0
        try:
            error = (
                "Ordered to fail." if fail else product_error(job.scm_data.get("product", ""), self._registry)
            )
            if error is None:
                submission = Submission(job.constraints, job.scm_data)
                codes = apply_submission(submission, self._store, self._registry)
        except Exception as failure:
            # A job always ends, even if the database fails.
            error = f"{type(failure).__name__}: {failure}"
        # The state is set last, so that a reader who sees the end also sees the result.
        job.error, job.codes_affected, job.completed_at = error, codes, _now()
        job.state = FINAL_STATES[error is not None]


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")
