"""The watcher over a real socket: what waits share, and what ends them."""

from __future__ import annotations

import asyncio
import json
import logging
import time
from collections.abc import Callable
from typing import Any

import pytest
from airflow.triggers.base import TaskSuccessEvent, TriggerEvent
from structlog.contextvars import bind_contextvars, get_contextvars

from airflow_provider_scantrust import exceptions as exc
from airflow_provider_scantrust.api.settings import Settings
from airflow_provider_scantrust.hooks.scantrust import ScantrustHook
from airflow_provider_scantrust.sandbox import Sandbox
from airflow_provider_scantrust.transports.aio import AioTransport
from airflow_provider_scantrust.triggers import counters, sharing, watcher
from airflow_provider_scantrust.triggers.scantrust import ScantrustTaskTrigger, read_event
from airflow_provider_scantrust.waits.outcome import Outcome
from airflow_provider_scantrust.waits.queue import Queue
from tasks import FIRST_EVENT, TaskInstance, bottles, fire

pytestmark = pytest.mark.usefixtures("quick")
STATUS_PATH = "/api/v2/scm/tasks/"


def submit(sandbox: Sandbox, many: int = 1) -> list[str]:
    hook = ScantrustHook()
    constraints = {"extended_id": [row["extended_id"] for row in bottles(1, 2)]}
    ids = [hook.submit(constraints, {"lot_number": "L-9"}) for _ in range(many)]
    sandbox.clear_transcript()
    return ids


def trigger(*task_ids: str, seconds: float = 20.0, **options: Any) -> ScantrustTaskTrigger:
    return ScantrustTaskTrigger(task_ids, time.time() + seconds, **{"poll_interval": 0.05, **options})


async def start(*triggers: ScantrustTaskTrigger) -> list[asyncio.Task[TriggerEvent]]:
    return [asyncio.create_task(fire(each)) for each in triggers]


async def outcomes(*triggers: ScantrustTaskTrigger) -> list[Any]:
    events = await asyncio.gather(*await start(*triggers))
    return [event.payload for event in events]


async def until(claim: Callable[[], bool]) -> None:
    for _ in range(1000):
        if claim():
            return
        await asyncio.sleep(0.005)
    raise AssertionError("it does not come true")


def watchers() -> list[watcher.Watcher]:
    found = sharing._WATCHERS.get(asyncio.get_running_loop())
    return list(found._watchers.values()) if found else []


def asked(sandbox: Sandbox) -> list[str]:
    return [
        entry["path"].removeprefix(STATUS_PATH).strip("/")
        for entry in sandbox.transcript()
        if entry["path"].startswith(STATUS_PATH)
    ]


@pytest.fixture
def lookups(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The connections that were looked up."""
    seen: list[str] = []
    real = sharing.read_connection

    async def read(conn_id: str) -> Settings:
        seen.append(conn_id)
        return await real(conn_id)

    monkeypatch.setattr(sharing, "read_connection", read)
    return seen


@pytest.fixture
def sessions(monkeypatch: pytest.MonkeyPatch) -> list[AioTransport]:
    """The transports that were opened."""
    seen: list[AioTransport] = []
    real = AioTransport.__aenter__

    async def enter(self: AioTransport) -> AioTransport:
        seen.append(self)
        return await real(self)

    monkeypatch.setattr(AioTransport, "__aenter__", enter)
    return seen


def closed(transport: AioTransport) -> bool:
    return transport._session is not None and transport._session.closed


async def test_500_waits_share_one_lookup_one_session_and_few_connections(
    sandbox: Sandbox, lookups: list[str], sessions: list[AioTransport], monkeypatch: pytest.MonkeyPatch
) -> None:
    made = []
    real = asyncio.get_running_loop().create_connection

    async def connect(*args: Any, **kwargs: Any) -> Any:
        made.append(args)
        return await real(*args, **kwargs)

    monkeypatch.setattr(asyncio.get_running_loop(), "create_connection", connect)
    connection = json.loads(sandbox.connection_json)
    connection["extra"] = {"max_polls_per_second": 1000}
    monkeypatch.setenv("AIRFLOW_CONN_SCANTRUST_DEFAULT", json.dumps(connection))
    (task_id,) = submit(sandbox)
    payloads = await outcomes(*(trigger(task_id, poll_interval=0.5) for _ in range(500)))
    assert [{task_id: 2}] * 500 == [read_event(payload).counts for payload in payloads]
    assert ["scantrust_default"] == lookups
    assert 1 == len(sessions)
    assert closed(sessions[0])
    assert 1 <= len(made) <= 10
    assert [None] == [each._task for each in watchers()]


async def test_one_trigger_waits_for_many_jobs(sandbox: Sandbox) -> None:
    sandbox.jobs(polls=2)
    sandbox.jobs(polls=1, fail=True)
    ids = submit(sandbox, 4)
    (payload,) = await outcomes(trigger(*ids))
    with pytest.raises(exc.TaskFailed, match=f"1 of 4 .*{ids[1]}"):
        read_event(payload)


async def test_no_deadline_and_no_timeout_is_a_wait_without_end(sandbox: Sandbox) -> None:
    event = await fire(ScantrustTaskTrigger(submit(sandbox), poll_interval=0.05))
    assert 2 == read_event(event.payload).codes_affected


async def test_deadline_that_passed_while_the_triggerer_was_away_does_not_end_the_wait_unasked(
    sandbox: Sandbox,
) -> None:
    sandbox.jobs(polls=1)
    sandbox.jobs(hang="pending", times=2)
    ended, pending, other = submit(sandbox, 3)
    waits = (trigger(*ids, seconds=-60.0) for ids in ([ended], [pending], [ended, pending, other]))
    began = time.monotonic()
    payloads = await outcomes(*waits)
    # One answer about each job is enough.
    assert time.monotonic() - began < 10.0
    assert {ended: 2} == read_event(payloads[0]).counts
    with pytest.raises(exc.WaitTimedOut, match=rf"1 of 1 .*{pending} \(pending\)"):
        read_event(payloads[1])
    with pytest.raises(exc.WaitTimedOut, match=r"2 of 3 .*\(pending\).*\(pending\)"):
        read_event(payloads[2])


async def test_after_the_deadline_a_poll_that_failed_is_repeated(sandbox: Sandbox) -> None:
    sandbox.jobs(polls=1)
    sandbox.fault(method="GET", path=f"{STATUS_PATH}*", status=503, times=2)
    (payload,) = await outcomes(trigger(*submit(sandbox), seconds=-60.0))
    assert 2 == read_event(payload).codes_affected


async def test_a_429_stops_everybody_and_ends_no_wait(sandbox: Sandbox) -> None:
    ids = submit(sandbox, 20)
    sandbox.fault(method="GET", path=f"{STATUS_PATH}*", status=429, headers={"Retry-After": "1"})
    began = time.monotonic()
    payloads = await outcomes(*(trigger(each, error_budget=3.0) for each in ids))
    assert ["complete"] * 20 == [payload["status"] for payload in payloads]
    assert time.monotonic() - began > 1.0


async def test_bad_gateways_here_and_there_end_nobody(sandbox: Sandbox) -> None:
    sandbox.fault(method="GET", path=f"{STATUS_PATH}*", status=502, probability=0.3, times=None)
    payloads = await outcomes(*(trigger(each) for each in submit(sandbox, 20)))
    assert ["complete"] * 20 == [payload["status"] for payload in payloads]


async def test_outage_shorter_than_the_error_budget_ends_no_wait(sandbox: Sandbox) -> None:
    sandbox.fault(method="GET", path=f"{STATUS_PATH}*", cut="before", times=15)
    payloads = await outcomes(*(trigger(each) for each in submit(sandbox, 5)))
    assert ["complete"] * 5 == [payload["status"] for payload in payloads]


async def test_outage_longer_than_the_error_budget_ends_the_waits_it_is_too_long_for(
    sandbox: Sandbox,
) -> None:
    ids = submit(sandbox, 6)
    sandbox.fault(method="GET", path=f"{STATUS_PATH}*", status=503, times=None)
    impatient = [trigger(each, error_budget=0.3) for each in ids[:5]]
    patient = asyncio.create_task(fire(trigger(ids[5])))
    for payload in await outcomes(*impatient):
        with pytest.raises(exc.ServiceUnavailable, match="Gave up after"):
            read_event(payload)
    sandbox.clear_faults()
    assert {ids[5]: 2} == read_event((await patient).payload).counts


async def test_a_job_that_alone_is_not_answered_ends_its_own_wait(sandbox: Sandbox) -> None:
    good, bad = submit(sandbox, 2)
    sandbox.fault(method="GET", path=f"{STATUS_PATH}{bad}/", status=500, times=None)
    first, second = await outcomes(trigger(good), trigger(bad, error_budget=0.3))
    assert {good: 2} == read_event(first).counts
    with pytest.raises(exc.ServiceUnavailable):
        read_event(second)


async def test_failures_in_a_row_that_may_be_chance_do_not_end_a_wait(sandbox: Sandbox) -> None:
    sandbox.jobs(polls=100)
    sandbox.jobs(polls=1)
    other, unlucky = submit(sandbox, 2)
    sandbox.fault(method="GET", path=f"{STATUS_PATH}{unlucky}/", status=500, times=15)
    # Longer than a busy machine takes for a poll: no answer for so long would end any wait.
    payloads = await outcomes(trigger(other), trigger(unlucky, error_budget=0.4))
    assert ["complete"] * 2 == [payload["status"] for payload in payloads]


async def test_cancelled_wait_is_asked_about_no_more(sandbox: Sandbox, sessions: list[AioTransport]) -> None:
    sandbox.jobs(hang=True)
    sandbox.jobs(polls=30)
    stopped, other = submit(sandbox, 2)
    one, two = await start(trigger(stopped), trigger(other))
    await until(lambda: stopped in asked(sandbox))
    one.cancel()
    with pytest.raises(asyncio.CancelledError):
        await one
    await asyncio.sleep(0.1)
    sandbox.clear_transcript()
    assert "complete" == (await two).payload["status"]
    assert {other} == set(asked(sandbox))
    assert 1 == len(sessions)


async def test_last_one_leaves_and_closes_all_also_when_cancelled(
    sandbox: Sandbox, sessions: list[AioTransport]
) -> None:
    sandbox.jobs(hang=True)
    (task_id,) = submit(sandbox)
    waiting = await start(*(trigger(task_id) for _ in range(3)))
    await until(lambda: task_id in asked(sandbox))
    for task in waiting:
        task.cancel()
    await asyncio.wait(waiting)
    assert [True] == [closed(each) for each in sessions]
    assert not [task for task in asyncio.all_tasks() if task.get_name().startswith("scantrust")]
    (again,) = submit(sandbox)
    assert "complete" == (await outcomes(trigger(again)))[0]["status"]
    assert [True, True] == [closed(each) for each in sessions]


async def test_rotated_token_moves_the_waits_of_its_connection(
    sandbox: Sandbox, lookups: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    sandbox.jobs(polls=8)
    ids = submit(sandbox)
    waiting = await start(*(trigger(ids[0], poll_interval=0.2) for _ in range(5)))
    await until(lambda: ids[0] in asked(sandbox))
    connection = json.loads(sandbox.connection_json)
    old = connection["password"]
    connection["password"] = "the-next-token"
    sandbox.add_token("the-next-token")
    monkeypatch.setenv("AIRFLOW_CONN_SCANTRUST_DEFAULT", json.dumps(connection))
    sandbox.remove_token(old)
    events = await asyncio.gather(*waiting)
    assert ["complete"] * 5 == [event.payload["status"] for event in events]
    assert ["scantrust_default"] * 2 == lookups
    assert 2 == len(watchers())
    sandbox.add_token(old)


@pytest.mark.parametrize("old_host", ["answers 404", "does not answer"])
async def test_changed_connection_moves_the_waits_before_an_error_is_judged(
    sandbox: Sandbox, old_host: str, lookups: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    good = json.loads(sandbox.connection_json)
    sandbox.jobs(polls=4, times=None)
    ids = submit(sandbox, 2)
    with Sandbox(rate_limits=False) as other:
        monkeypatch.setenv("AIRFLOW_CONN_SCANTRUST_DEFAULT", other.connection_json)
        sandbox_first = trigger("t-1", poll_interval=0.05)
        (payload,) = await outcomes(sandbox_first)
        with pytest.raises(exc.NotFound):
            read_event(payload)
        if old_host == "answers 404":
            monkeypatch.setenv("AIRFLOW_CONN_SCANTRUST_DEFAULT", json.dumps(good))
            payloads = await outcomes(*(trigger(each) for each in ids))
    if old_host != "answers 404":
        monkeypatch.setenv("AIRFLOW_CONN_SCANTRUST_DEFAULT", json.dumps(good))
        payloads = await outcomes(*(trigger(each) for each in ids))
    assert ["complete"] * 2 == [payload["status"] for payload in payloads]


async def test_job_of_another_account_is_not_said_to_be_gone(
    sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    (task_id,) = submit(sandbox)
    account = await asyncio.to_thread(lambda: ScantrustHook().settings.account_digest)
    with Sandbox(rate_limits=False) as other:
        monkeypatch.setenv("AIRFLOW_CONN_SCANTRUST_DEFAULT", other.connection_json)
        (payload,) = await outcomes(trigger(task_id, account=account))
        with pytest.raises(exc.ConfigurationError, match="has changed since the job was submitted"):
            read_event(payload)
        own = await asyncio.to_thread(lambda: ScantrustHook().settings.account_digest)
        (payload,) = await outcomes(trigger("gone", account=own))
        with pytest.raises(exc.NotFound):
            read_event(payload)


@pytest.mark.parametrize("known", [False, True])
@pytest.mark.parametrize(
    "fault", [exc.TransientError("not found"), RuntimeError("Airflow's own"), OSError("no socket")]
)
async def test_lookup_that_fails_for_a_while_ends_no_wait(
    sandbox: Sandbox, known: bool, fault: Exception, monkeypatch: pytest.MonkeyPatch
) -> None:
    real, failures = sharing.read_connection, [fault] * 3

    async def read(conn_id: str) -> Settings:
        if failures:
            raise failures.pop()
        return await real(conn_id)

    monkeypatch.setattr(sharing, "backoff", lambda *_: 0.05)
    monkeypatch.setattr(sharing, "_GOOD_FOR", 0.0)
    ids = submit(sandbox, 3)
    if known:
        await outcomes(trigger(ids[0]))
    monkeypatch.setattr(sharing, "read_connection", read)
    payloads = await outcomes(*(trigger(each) for each in ids))
    assert ["complete"] * 3 == [payload["status"] for payload in payloads]


async def test_lookup_that_hangs_does_not_delay_the_deadline(
    sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def hang(conn_id: str) -> Settings:
        await asyncio.sleep(10.0)
        raise AssertionError("the wait has ended before")

    monkeypatch.setattr(sharing, "read_connection", hang)
    began = time.monotonic()
    (payload,) = await outcomes(trigger("t-1", seconds=0.5))
    assert time.monotonic() - began < 5.0
    with pytest.raises(exc.WaitTimedOut):
        read_event(payload)


async def test_lookup_that_began_before_a_poll_does_not_judge_its_error(
    sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    real, gate = sharing.read_connection, asyncio.Event()

    async def read_slowly(conn_id: str) -> Settings:
        settings = await real(conn_id)
        await gate.wait()
        return settings

    sandbox.jobs(polls=8)
    ids = submit(sandbox)
    waiting = await start(trigger(*ids, poll_interval=0.2))
    await until(lambda: bool(asked(sandbox)))
    monkeypatch.setattr(sharing, "read_connection", read_slowly)
    monkeypatch.setattr(sharing, "_GOOD_FOR", 0.0)
    waiting += await start(trigger(*ids, poll_interval=0.2))
    await asyncio.sleep(0.1)
    connection = {**json.loads(sandbox.connection_json), "password": "the-next-token"}
    sandbox.add_token("the-next-token")
    monkeypatch.setenv("AIRFLOW_CONN_SCANTRUST_DEFAULT", json.dumps(connection))
    sandbox.remove_token(sandbox.token)
    await until(lambda: 401 in [entry["status"] for entry in sandbox.transcript()])
    gate.set()
    events = await asyncio.gather(*waiting)
    assert ["complete"] * 2 == [event.payload["status"] for event in events]


async def test_secrets_backend_that_stays_away_ends_waits_with_an_error_that_a_retry_may_fix(
    sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AIRFLOW__SECRETS__BACKEND", "airflow.secrets.local_filesystem.LocalFilesystemBackend")
    (payload,) = await outcomes(trigger("t-1", scantrust_conn_id="nowhere", error_budget=0.2))
    with pytest.raises(exc.TransientError, match=r"'nowhere'.*secrets backend"):
        read_event(payload)


@pytest.mark.parametrize("options", [{}, {"end_from_trigger": True, "do_xcom_push": False}])
async def test_event_of_a_deferred_wait_comes_after_the_worker_is_gone(
    sandbox: Sandbox, options: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    slept: list[float] = []

    async def sleep(seconds: float) -> None:
        slept.append(seconds)

    waiting = trigger(*submit(sandbox), **options)
    # A property in Airflow 3.3.
    name = "_task_instance" if hasattr(type(waiting), "task_instance") else "task_instance"
    setattr(waiting, name, TaskInstance() if options else None)
    events = waiting.run()
    monkeypatch.setattr("airflow_provider_scantrust.triggers.scantrust.FIRST_EVENT", FIRST_EVENT)
    monkeypatch.setattr("airflow_provider_scantrust.triggers.scantrust.asyncio.sleep", sleep)
    monkeypatch.setattr(sharing, "wait_shared", _no_wait)
    assert isinstance(await anext(events), TaskSuccessEvent) == bool(options)
    assert 1 == len(slept)
    assert 4.0 < slept[0] <= 5.0


async def _no_wait(wait: watcher.TriggerWait) -> Outcome:
    return Outcome.of(dict.fromkeys(wait.jobs.open, 1))


async def test_token_that_is_refused_and_unchanged_ends_the_wait(
    sandbox: Sandbox, lookups: list[str]
) -> None:
    (task_id,) = submit(sandbox)
    sandbox.fault(method="GET", path=f"{STATUS_PATH}*", status=401, times=None)
    (payload,) = await outcomes(trigger(task_id))
    with pytest.raises(exc.AuthenticationFailed):
        read_event(payload)
    assert 2 == len(lookups)


@pytest.mark.parametrize(("status", "error"), [(404, exc.NotFound), (403, exc.PermissionDenied)])
async def test_waits_that_end_by_an_error_leave_room_for_the_others(
    sandbox: Sandbox, status: int, error: type[exc.ScantrustError]
) -> None:
    sandbox.jobs(polls=5, times=1)
    ids = submit(sandbox, 1)
    for number in range(30):
        sandbox.fault(method="GET", path=f"{STATUS_PATH}gone-{number}/", status=status, times=None)
    good, *bad = await start(
        trigger(*ids, poll_interval=0.2), *(trigger(f"gone-{number}") for number in range(30))
    )
    for event in await asyncio.gather(*bad):
        with pytest.raises(error):
            read_event(event.payload)
    assert {ids[0]: 2} == read_event((await good).payload).counts


async def test_refused_login_ends_all_waits(sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch) -> None:
    ids = submit(sandbox, 3)
    connection = {
        **json.loads(sandbox.connection_json),
        "login": "anna",
        "password": "wrong",
        "extra": {"auth_scheme": "login", "login_endpoint": "/api/v2/login/"},
    }
    monkeypatch.setenv("AIRFLOW_CONN_SCANTRUST_DEFAULT", json.dumps(connection))
    sandbox.fault(method="POST", path="/api/v2/login/", status=401, times=None)
    for payload in await outcomes(*(trigger(task_id) for task_id in ids)):
        with pytest.raises(exc.AuthenticationFailed):
            read_event(payload)


async def test_lookup_that_fails_after_a_401_ends_no_wait(
    sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    (task_id,) = submit(sandbox)
    sandbox.fault(method="GET", path=f"{STATUS_PATH}*", status=401)
    real, seen = sharing.read_connection, []

    async def read(conn_id: str) -> Settings:
        seen.append(conn_id)
        if len(seen) == 2:
            raise OSError("no Airflow")
        return await real(conn_id)

    monkeypatch.setattr(sharing, "read_connection", read)
    assert {task_id: 2} == read_event((await outcomes(trigger(task_id)))[0]).counts


async def test_connections_with_one_token_share_a_watcher(
    sandbox: Sandbox, sessions: list[AioTransport], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AIRFLOW_CONN_OTHER", sandbox.connection_json)
    ids = submit(sandbox, 2)
    await outcomes(trigger(ids[0]), trigger(ids[1], scantrust_conn_id="other"))
    assert (1, 1) == (len(sessions), len(watchers()))


async def test_watcher_that_was_idle_for_long_is_made_anew(
    sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sharing, "_KEPT_IDLE", 0.0)
    monkeypatch.setattr(sharing, "_GOOD_FOR", 0.0)
    for polls_per_second in (20, 30):
        connection = {
            **json.loads(sandbox.connection_json),
            "extra": {"max_polls_per_second": polls_per_second},
        }
        monkeypatch.setenv("AIRFLOW_CONN_SCANTRUST_DEFAULT", json.dumps(connection))
        await outcomes(trigger(*submit(sandbox)))
        assert [polls_per_second] == [each.settings.polls_per_second for each in watchers()]


async def test_connection_that_is_not_there_ends_the_wait_with_its_name(
    sandbox: Sandbox,
) -> None:
    payloads = await outcomes(
        *(trigger("t-1", scantrust_conn_id="nowhere", error_budget=0.2) for _ in range(3))
    )
    for payload in payloads:
        with pytest.raises(exc.ConfigurationError, match="'nowhere'"):
            read_event(payload)


async def test_ca_bundle_that_is_not_there_ends_the_waits(
    sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    connection = {**json.loads(sandbox.connection_json), "extra": {"verify": "/no/such/file"}}
    monkeypatch.setenv("AIRFLOW_CONN_SCANTRUST_DEFAULT", json.dumps(connection))
    for payload in await outcomes(trigger("t-1"), trigger("t-2")):
        with pytest.raises(exc.ConfigurationError, match="/no/such/file"):
            read_event(payload)


async def test_connection_that_is_corrected_after_a_ca_bundle_was_not_there_is_used_at_once(
    sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    ids = submit(sandbox)
    connection = {**json.loads(sandbox.connection_json), "extra": {"verify": "/no/such/file"}}
    monkeypatch.setenv("AIRFLOW_CONN_SCANTRUST_DEFAULT", json.dumps(connection))
    assert "error" == (await outcomes(trigger(*ids)))[0]["status"]
    monkeypatch.setenv("AIRFLOW_CONN_SCANTRUST_DEFAULT", sandbox.connection_json)
    assert "complete" == (await outcomes(trigger(*ids)))[0]["status"]


async def test_error_of_the_watcher_itself_ends_no_wait(
    sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(watcher, "_FIRST_RESTART", 0.05)
    ids = submit(sandbox, 3)
    real_take, real_answered, calls = Queue.take, watcher.Watcher._take, [0, 0]

    def take(self: Any, *args: Any) -> Any:
        calls[0] += 1
        if calls[0] == 4:
            raise RuntimeError("a bug in the queue")
        return real_take(self, *args)

    def answered(self: Any, *args: Any) -> None:
        calls[1] += 1
        if calls[1] == 2:
            raise RuntimeError("a bug with an answer")
        real_answered(self, *args)

    monkeypatch.setattr(Queue, "take", take)
    monkeypatch.setattr(watcher.Watcher, "_take", answered)
    payloads = await outcomes(*(trigger(each) for each in ids))
    assert ["complete"] * 3 == [payload["status"] for payload in payloads]
    for bug in ("a bug in the queue", "a bug with an answer"):
        assert bug in caplog.text


async def test_lines_come_in_the_context_that_airflow_takes_the_task_from(
    sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Airflow's triggerer binds the trigger's id as this test does, and sorts all lines by it."""
    of_jobs: list[tuple[Any, str]] = []
    of_watcher: list[tuple[Any, str]] = []

    class Log:
        def info(self, event: str, *args: Any) -> None:
            of_jobs.append((get_contextvars().get("trigger_id"), event % args))

    class Handler(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            of_watcher.append((get_contextvars().get("trigger_id"), record.getMessage()))

    async def run_as_airflow_does(task_id: str) -> None:
        bind_contextvars(trigger_id=task_id)
        await fire(trigger(task_id))

    monkeypatch.setattr(ScantrustTaskTrigger, "_log", Log())
    sandbox.fault(method="GET", path=f"{STATUS_PATH}*", status=502)
    ids = submit(sandbox, 2)
    handler = Handler()
    watcher.log.addHandler(handler)
    try:
        await asyncio.gather(*(run_as_airflow_does(each) for each in ids))
    finally:
        watcher.log.removeHandler(handler)
    assert set(ids) == {whose for whose, _ in of_jobs}
    assert all(f"task_id {whose}," in text for whose, text in of_jobs)
    assert [None] == [whose for whose, text in of_watcher if text.startswith("ServiceUnavailable")]


async def test_a_line_a_minute_and_stats_in_batches(
    sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(counters, "LINE_SECONDS", 0.2)
    monkeypatch.setattr(counters, "STATS_SECONDS", 0.2)
    sent: list[tuple[str, str, Any]] = []

    class Stats:
        def __getattr__(self, kind: str) -> Callable[..., None]:
            def send(name: str, value: Any, tags: dict[str, str]) -> None:
                assert {"conn_id": "scantrust_default"} == tags
                sent.append((kind, name, value))

            return send

    monkeypatch.setattr(counters, "find_stats", Stats)
    sandbox.jobs(polls=8)
    sandbox.fault(method="GET", path=f"{STATUS_PATH}*", status=502, skip=1)
    with caplog.at_level(logging.INFO, logger=watcher.__name__):
        await outcomes(trigger(*submit(sandbox)))
    assert "1 open (waits: 1)" in caplog.text
    assert len(asked(sandbox)) == sum(value for _, name, value in sent if name == "scantrust.polls")
    assert 1 == sum(value for _, name, value in sent if name == "scantrust.polls_failed")
    assert ("gauge", "scantrust.waits_open", 1) in sent
    assert ("gauge", "scantrust.waits_open", 0) == [each for each in sent if each[0] == "gauge"][-1]
    assert 1 == len([each for each in sent if each[1] == "scantrust.detection_delay"])


def test_the_triggerers_own_stats_are_found() -> None:
    stats = pytest.importorskip(
        "airflow._shared.observability.metrics.stats", reason="there is but one Stats"
    )
    # From 3.3 on the module itself sends, before that a class in it does.
    sender = stats if hasattr(stats, "incr") else stats.Stats
    assert sender.incr == counters.find_stats().incr
