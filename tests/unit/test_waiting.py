"""A wait on a worker, with a clock that only pauses move."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable
from typing import Any, cast

import pytest

from airflow_provider_scantrust import exceptions as exc
from airflow_provider_scantrust.api.messages import Answer, Fault, FaultKind
from airflow_provider_scantrust.api.models import Task
from airflow_provider_scantrust.hooks.waiting import WorkerWait
from airflow_provider_scantrust.waits.jobs import Jobs, jobs_go_on, poll_job
from airflow_provider_scantrust.waits.outcome import Outcome
from steps import Talk, answer, settings

Reply = Answer | Fault | Exception


class Hook:
    """A connection whose service replies from a list; the last reply is repeated. Each poll takes a tenth of a second."""

    scantrust_conn_id = "scantrust_default"
    log = logging.getLogger(__name__)

    def __init__(self, replies: Iterable[Reply]) -> None:
        self.settings = settings()
        self.replies = list(replies)
        self.now = 0.0
        self.polled: list[tuple[float, str]] = []
        self.pauses: list[float] = []
        self.changes: list[bool] = []

    def poll(self, task_id: str) -> Task:
        self.polled.append((self.now, task_id))
        reply = self.replies.pop(0) if len(self.replies) > 1 else self.replies[0]
        if isinstance(reply, Exception):
            raise reply
        auth = self.settings.make_auth()
        talk = Talk(poll_job(task_id, self.settings, auth, random=lambda: 0.5), [reply])
        task: Task = talk.run()
        return task

    def reload(self) -> bool:
        return self.changes.pop(0) if self.changes else False

    def sleep(self, seconds: float) -> None:
        self.pauses.append(seconds)
        self.now += seconds

    @property
    def ids(self) -> list[str]:
        return [task_id for _, task_id in self.polled]


@pytest.fixture(autouse=True)
def no_jitter(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("random.random", lambda: 0.5)


def waiting(
    ids: Iterable[str], replies: Iterable[Reply], *, deadline: float = 1000.0, error_budget: float = 600.0
) -> tuple[WorkerWait, Hook]:
    hook = Hook(replies)
    jobs = Jobs(ids, deadline=deadline, error_budget=error_budget)
    clock: Callable[[], float] = lambda: hook.now  # noqa: E731 - short
    return WorkerWait(cast("Any", hook), jobs, clock=clock, now=clock, sleep=hook.sleep), hook


def wait(ids: Iterable[str], replies: Iterable[Reply], **options: Any) -> tuple[Outcome, Hook]:
    worker, hook = waiting(ids, replies, **options)
    return worker.wait(10.0), hook


def state(word: str, **fields: Any) -> Answer:
    return answer(200, {"state": word, **fields})


DONE = state("complete", codes_affected=7)
DOWN = answer(503, {}, elapsed=0.0)
PENDING = state("pending")


def test_it_polls_until_the_job_has_ended() -> None:
    outcome, hook = wait(["t-1"], [PENDING, state("in-progress"), DONE])
    assert {"t-1": 7} == outcome.counts
    assert [0.0, 10.0, 20.0] == [round(now, 3) for now, _ in hook.polled]


def test_jobs_that_have_ended_are_not_polled_again() -> None:
    outcome, hook = wait(["a", "b", "a"], [DONE, state("running"), DONE])
    assert {"a": 7, "b": 7} == outcome.counts
    assert ["a", "b", "b"] == hook.ids


def test_all_jobs_are_waited_for_before_a_failure_is_reported() -> None:
    failed = state(
        "error", reference="REF-9", created_at="2026-11-01T06:00:00Z", completed_at="2026-11-01T06:05:00Z"
    )
    with pytest.raises(exc.TaskFailed) as caught:
        wait(["a", "b"], [failed, PENDING, DONE])
    for fact in ("1 of 2", "task_id a", "REF-9", "'error'", "2026-11-01T06:00:00", "2026-11-01T06:05:00"):
        assert fact in str(caught.value)


def test_unknown_state_is_logged_once_and_does_not_end_the_wait(caplog: pytest.LogCaptureFixture) -> None:
    wait(["a"], [state("archived"), state("archived"), state("archived"), DONE])
    assert 1 == caplog.text.count("'archived'")


def test_deadline_ends_the_wait_after_a_last_poll() -> None:
    worker, hook = waiting(["a"], [PENDING], deadline=25.0)
    with pytest.raises(exc.WaitTimedOut, match=r"a \(pending\).*no call that cancels"):
        worker.wait(10.0)
    assert 25.0 <= hook.now < 25.1
    assert [0.0, 10.0, 20.0, 24.0] == [round(now) for now, _ in hook.polled]


def test_failed_poll_is_not_a_failed_job() -> None:
    garbage = answer(200, b"<html>")
    cut = Fault(FaultKind.CUT, "reset")
    outcome, _ = wait(["a"], [*[DOWN] * 9, garbage, cut, answer(429, {}, retry_after="30"), DONE])
    assert {"a": 7} == outcome.counts


@pytest.mark.parametrize("status", [429, 503])
@pytest.mark.parametrize("deadline", [300.0, 500.0])
def test_a_long_pause_that_the_service_names_ends_a_wait_only_at_its_deadline(
    status: int, deadline: float
) -> None:
    named = answer(status, {}, retry_after="900", elapsed=0.0)
    worker, hook = waiting(["a"], [named], deadline=deadline)
    with pytest.raises(exc.WaitTimedOut, match="never answered"):
        worker.wait(10.0)
    assert deadline <= hook.now < deadline + 0.1
    # It is capped: a service that is back earlier is noticed after five minutes.
    outcome, hook = wait(["a"], [named, DONE])
    assert ({"a": 7}, True) == (outcome.counts, 300.0 <= hook.now < 332.0)


def test_outage_longer_than_the_error_budget_ends_the_wait() -> None:
    worker, hook = waiting(["a"], [DOWN], error_budget=60.0)
    with pytest.raises(exc.ServiceUnavailable, match="retry budget of 60 s"):
        worker.wait(10.0)
    assert 60 <= hook.now <= 62


def test_each_good_answer_renews_the_error_budget() -> None:
    outage = [DOWN] * 5
    replies = [*outage, PENDING, *outage, PENDING, *outage, DONE]
    assert {"a": 7} == wait(["a"], replies, error_budget=40.0)[0].counts


def test_outage_until_the_deadline_is_a_timeout() -> None:
    with pytest.raises(exc.WaitTimedOut, match="never answered"):
        wait(["a"], [DOWN], deadline=30.0)


@pytest.mark.parametrize(
    ("status", "error"), [(401, exc.AuthenticationFailed), (403, exc.PermissionDenied), (404, exc.NotFound)]
)
def test_permanent_error_ends_the_wait_after_one_poll(status: int, error: type[Exception]) -> None:
    worker, hook = waiting(["a"], [answer(status, {"detail": "no"})])
    with pytest.raises(error):
        worker.wait(10.0)
    assert ["a"] == hook.ids


def test_no_ids_are_no_wait() -> None:
    assert 0 == wait([], [DONE])[0].jobs


def test_open_jobs_are_named_with_a_bound() -> None:
    assert "and 40 more" in jobs_go_on(f"t-{number}" for number in range(50))
    assert "No job is open." == jobs_go_on([])


def test_a_connection_that_is_not_found_for_a_while_does_not_end_the_wait() -> None:
    lost: list[Reply] = [exc.TransientError("the secrets backend may be down")] * 6
    assert {"a": 7} == wait(["a"], [*lost, RuntimeError("Airflow's own"), DONE])[0].counts


@pytest.mark.parametrize("trouble", [answer(404, {}), answer(401, {}), Fault(FaultKind.CONNECT, "no host")])
def test_a_changed_connection_is_used_before_an_error_is_judged(trouble: Answer | Fault) -> None:
    worker, hook = waiting(["a"], [PENDING, PENDING, trouble, DONE])
    hook.changes = [True]
    assert {"a": 7} == worker.wait(10.0).counts


def test_a_job_that_a_changed_connection_does_not_know_is_not_gone() -> None:
    worker, hook = waiting(["a"], [PENDING, answer(404, {})])
    hook.changes = [True]
    with pytest.raises(exc.ConfigurationError, match="has changed since the job was submitted"):
        worker.wait(10.0)


def test_before_a_deferral_the_first_open_job_ends_the_round_and_nothing_is_logged(
    caplog: pytest.LogCaptureFixture,
) -> None:
    worker, hook = waiting(["a", "b", "c"], [DONE, PENDING, DONE])
    assert worker.poll_before_deferral() is None
    assert ["a", "b"] == hook.ids
    assert "" == caplog.text


@pytest.mark.parametrize(
    "trouble",
    [
        DOWN,
        answer(429, {}, retry_after="900"),
        answer(503, {}, retry_after="900"),
        answer(200, b"<html>"),
        Fault(FaultKind.CONNECT, "no host"),
        exc.TransientError("no connection"),
        RuntimeError("Airflow's own"),
    ],
)
def test_before_a_deferral_any_temporary_trouble_defers(trouble: Reply) -> None:
    worker, hook = waiting(["a", "b"], [trouble])
    assert worker.poll_before_deferral() is None
    assert (["a"], []) == (hook.ids, hook.pauses)


def test_before_a_deferral_jobs_that_have_ended_are_an_outcome() -> None:
    worker, _ = waiting(["a", "b"], [DONE])
    outcome = worker.poll_before_deferral()
    assert outcome is not None
    assert {"a": 7, "b": 7} == outcome.counts
    with pytest.raises(exc.TaskFailed):
        waiting(["a"], [state("failed")])[0].poll_before_deferral()
    with pytest.raises(exc.NotFound):
        waiting(["a"], [answer(404, {})])[0].poll_before_deferral()


def test_a_poke_ends_when_each_open_job_has_given_an_answer() -> None:
    worker, hook = waiting(["a", "b", "c"], [DONE, DOWN, PENDING, PENDING, DONE, DONE])
    assert worker.poke(10.0) is None
    assert ["a", "b", "c", "b"] == hook.ids
    outcome = worker.poke(10.0)
    assert outcome is not None
    assert {"a": 7, "b": 7, "c": 7} == outcome.counts
    assert {"b", "c"} == set(hook.ids[4:])


def test_a_poke_after_the_deadline_polls_once_and_then_ends_the_wait() -> None:
    worker, hook = waiting(["a"], [PENDING], deadline=5.0)
    hook.now = 6.0
    with pytest.raises(exc.WaitTimedOut):
        worker.poke(10.0)
    assert ["a"] == hook.ids


def test_five_thousand_jobs_are_polled_at_the_rate_of_the_service() -> None:
    worker, hook = waiting([f"t-{number}" for number in range(5000)], [DONE])
    assert 5000 == worker.wait(10.0).jobs
    # 47 polls a second.
    assert 104 < hook.now < 110


def test_the_deadline_is_looked_at_between_polls() -> None:
    worker, hook = waiting([f"t-{number}" for number in range(5000)], [DONE], deadline=20.0)
    with pytest.raises(exc.WaitTimedOut, match="of 5,000"):
        worker.wait(10.0)
    assert hook.now < 20.2
