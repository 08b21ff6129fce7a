"""
Background jobs: pending, then in-progress, then complete or failed.

Rule: a job's state lives in memory, so that a question for it never waits for the database.
"""

from __future__ import annotations

import asyncio
import threading
import uuid
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from typing import Any, Literal

from airflow_provider_scantrust.sandbox.clock import Clock, Stopped
from airflow_provider_scantrust.sandbox.registry import Registry
from airflow_provider_scantrust.sandbox.settings import FINAL_STATES, Settings
from airflow_provider_scantrust.sandbox.store import Store
from airflow_provider_scantrust.sandbox.updates import apply_submission, product_error, submission_cost
from airflow_provider_scantrust.sandbox.validation import Submission


@dataclass
class Steering:
    """How the next jobs go; what the fields mean: `Controls.jobs`."""

    times: int | None = None
    fail: bool = False
    hang: bool | Literal["pending", "in-progress"] = False
    seconds: float | None = None
    polls: int | None = None

    def __post_init__(self) -> None:
        if self.hang not in (False, True, "pending", "in-progress"):
            raise ValueError(f"hang is a truth value, 'pending' or 'in-progress', not {self.hang!r}")

    @property
    def counts_polls(self) -> bool:
        """Whether questions move the job on, and not time."""
        return self.polls is not None and not self.hang


@dataclass
class Job:
    """One job; the documented fields, and what only the control calls show."""

    id: str
    reference: str
    created_by: str
    created_at: str
    constraints: dict[str, Any]
    scm_data: dict[str, Any]
    state: str = "pending"
    codes_affected: int | None = None
    started_at: str | None = None
    completed_at: str | None = None
    error: str | None = None


class _Run:
    """A job under way."""

    def __init__(self, steering: Steering) -> None:
        self.steering = steering
        self.questions = 0
        self.asked_enough = asyncio.Event()
        self.task: asyncio.Task[None]


class Jobs:
    """Runs jobs on the event loop of the server, and the SQL of each in a thread."""

    def __init__(self, store: Store, registry: Registry, settings: Settings, clock: Clock) -> None:
        self._store = store
        self._registry = registry
        self._settings = settings
        self._clock = clock
        self._lock = threading.Lock()
        self._ending = threading.Lock()
        self._steering: list[Steering] = []
        self._runs: dict[str, _Run] = {}
        self._jobs = {row["id"]: Job(**row) for row in store.kept("job")}

    def steer(self, **steering: Any) -> None:
        """Say how the next jobs go."""
        order = Steering(**steering)
        with self._lock:
            if order != Steering(times=order.times):
                self._steering.append(order)

    def forget_steering(self) -> None:
        """Let the next jobs go their own way."""
        with self._lock:
            self._steering.clear()

    def clear(self) -> None:
        """Forget all jobs and orders; a job under way changes nothing any more."""
        with self._ending, self._lock:
            self._steering.clear()
            self._jobs.clear()

    def resume(self) -> None:
        """Begin again the jobs that were under way when the sandbox stopped."""
        for job in list(self._jobs.values()):
            if job.state not in FINAL_STATES:
                job.state, job.started_at = "pending", None
                self._start(job, Steering())

    def submit(self, submission: Submission, created_by: str) -> Job:
        """Take a job in; it runs on."""
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
            steering = self._take_steering()
        self._start(job, steering)
        return job

    async def ask(self, task_id: str) -> dict[str, Any] | None:
        """Answer the status of a job; None when there is no such job."""
        job = self._jobs.get(task_id)
        if job is None:
            return None
        run = self._runs.get(task_id)
        if run and run.steering.counts_polls:
            run.questions += 1
            if run.questions >= (run.steering.polls or 0):
                run.asked_enough.set()
                await asyncio.shield(run.task)
            elif run.questions > 1:
                _begin(job)
        return self._answer(job)

    def show(self) -> list[dict[str, Any]]:
        """Show all jobs."""
        with self._lock:
            return [asdict(job) for job in self._jobs.values()]

    def _take_steering(self) -> Steering:
        while self._steering:
            order = self._steering[0]
            if order.times is None:
                return order
            if order.times > 0:
                order.times -= 1
                return order
            self._steering.pop(0)
        return Steering()

    def _start(self, job: Job, steering: Steering) -> None:
        run = self._runs[job.id] = _Run(steering)
        run.task = asyncio.get_running_loop().create_task(self._run(job, run))

    async def _run(self, job: Job, run: _Run) -> None:
        steering = run.steering
        try:
            await asyncio.to_thread(self._store.keep, "job", job.id, asdict(job))
            if steering.hang == "pending":
                return
            if steering.counts_polls:
                await run.asked_enough.wait()
                _begin(job)
            else:
                await self._clock.service(self._settings.pending_seconds)
                _begin(job)
                if steering.hang:
                    return
                await self._clock.service(await self._seconds(job, steering))
            await asyncio.to_thread(self._end, job, steering.fail)
        except Stopped:
            pass
        finally:
            del self._runs[job.id]

    async def _seconds(self, job: Job, steering: Steering) -> float:
        if steering.seconds is not None:
            return steering.seconds
        return await asyncio.to_thread(submission_cost, _submission(job), self._store, self._settings)

    def _end(self, job: Job, fail: bool) -> None:
        with self._ending:
            if self._jobs.get(job.id) is not job:
                return
            error = (
                "Told to fail." if fail else product_error(job.scm_data.get("product", ""), self._registry)
            )
            codes = 0 if error else apply_submission(_submission(job), self._store, self._registry)
            # The state comes last: who sees the end sees the rest of it too.
            job.error, job.codes_affected, job.completed_at = error, codes, _now()
            job.state = "failed" if error else "complete"
            self._store.keep("job", job.id, asdict(job))

    def _answer(self, job: Job) -> dict[str, Any]:
        state = job.state
        answer = {
            "id": job.id,
            "reference": job.reference,
            "state": self._settings.states.get(state, state),
            "codes_affected": job.codes_affected,
            "created_by": job.created_by,
            "created_at": job.created_at,
            "started_at": job.started_at,
            "completed_at": job.completed_at,
        }
        return {_camel(key): value for key, value in answer.items()} if self._settings.camel_case else answer


def _begin(job: Job) -> None:
    if job.started_at is None:
        job.started_at = _now()
        job.state = "in-progress"


def _submission(job: Job) -> Submission:
    return Submission(job.constraints, job.scm_data)


def _camel(name: str) -> str:
    first, *rest = name.split("_")
    return first + "".join(part.capitalize() for part in rest)


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")
