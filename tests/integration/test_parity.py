"""
The parity table: every final state and fault, waited for in every way, ends alike.

One difference is meant, and is in the table: a failed job fails a sensor without using its retries, because
another poll cannot fix it, while an operator's retry submits the job again
(docs/adr/0005-errors-at-the-edge.md).
"""

from __future__ import annotations

import json
import re
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing
from dataclasses import dataclass
from http.client import HTTPConnection
from typing import Any
from urllib.parse import urlsplit

import pytest
from airflow.providers.common.compat.sdk import (
    AirflowFailException,
    AirflowSensorTimeout,
    AirflowSkipException,
    TaskDeferred,
)

# Loaded here: the first wait of a process must not spend its short timeout on imports.
from airflow_provider_scantrust import exceptions as exc
from airflow_provider_scantrust.hooks.scantrust import ScantrustHook
from airflow_provider_scantrust.operators.scantrust import ScantrustUploadOperator
from airflow_provider_scantrust.sandbox import Sandbox
from airflow_provider_scantrust.sensors.scantrust import ScantrustTaskSensor
from airflow_provider_scantrust.triggers.start import has_start
from tasks import TaskInstance, bottles, run, with_xcom

STATUS_PATH = "/api/v2/scm/tasks/"
QUICK = 0.05
UNTIL_THE_DEADLINE = {"timeout": 6.0, "poke_interval": 0.5}


def sensor(task_ids: list[str], **options: Any) -> Callable[[], ScantrustTaskSensor]:
    options = {"poke_interval": QUICK, "timeout": 20, **options}
    return lambda: ScantrustTaskSensor(task_id="wait", scantrust_task_id=task_ids, **options)


def operator(poke_interval: float = QUICK, **options: Any) -> Callable[[], ScantrustUploadOperator]:
    options = {"poll_interval": poke_interval, "timeout": 20, **options}
    return lambda: ScantrustUploadOperator(
        task_id="upload", items=bottles(1, 2, lot_number="L-9"), mode="async", **options
    )


WAYS: dict[str, tuple[Callable[..., Callable[[], Any]], dict[str, Any]]] = {
    "sensor deferred": (sensor, {"deferrable": True}),
    "sensor started in the triggerer": (sensor, {"start_from_trigger": True}),
    "sensor ended in the triggerer": (sensor, {"end_from_trigger": True}),
    "sensor without a worker": (sensor, {"start_from_trigger": True, "end_from_trigger": True}),
    "sensor poke": (sensor, {"deferrable": False, "mode": "poke"}),
    "sensor reschedule": (sensor, {"deferrable": False, "mode": "reschedule"}),
    "operator deferred": (operator, {"deferrable": True}),
    "operator on the worker": (operator, {"deferrable": False}),
}
WITHOUT = "sensor without a worker"
SENSORS = [name for name in WAYS if name.startswith("sensor")]


def submit(scantrust_conn_id: str = "scantrust_default") -> list[str]:
    return [
        ScantrustHook(scantrust_conn_id).submit(
            {"extended_id": [row["extended_id"] for row in bottles(1, 2)]}, {"lot_number": "L-9"}
        )
    ]


def submit_many(sandbox: Sandbox, number: int) -> list[str]:
    """Submit jobs for one code each, faster than the hook would; the first is for a code that does not exist."""
    with closing(HTTPConnection(urlsplit(sandbox.url).netloc, timeout=10)) as connection:
        return [_submit_one(connection, sandbox.token, f"SBX{min(job, 1):08d}") for job in range(number)]


def _submit_one(connection: HTTPConnection, token: str, code: str) -> str:
    body = {"constraints": {"extended_id": [code]}, "scm_data": {"lot_number": "L"}}
    headers = {"Authorization": f"UAT {token}", "Content-Type": "application/json"}
    connection.request("POST", "/api/v2/scm/upload/async/", json.dumps(body), headers)
    return str(json.loads(connection.getresponse().read())["task_id"])


def wait(way: str, **options: Any) -> Any:
    """Wait in that way; for a sensor the job is submitted first, for an operator it is by itself."""
    make, fixed = WAYS[way]
    return run(make(submit(), **fixed, **options) if make is sensor else make(**fixed, **options))


def jobs(polls: int | None = None, hang: bool = False, **settings: Any) -> Callable[[Sandbox], None]:
    def script(sandbox: Sandbox) -> None:
        sandbox.configure(**settings)
        sandbox.jobs(polls=polls, hang=hang)

    return script


@dataclass(frozen=True)
class Waited:
    """How a wait in one way ended."""

    sandbox: Sandbox
    ti: TaskInstance
    result: Any = None
    states: Sequence[str] = ()
    error: Exception | None = None
    seconds: float = 0.0


class Fleet:
    """A sandbox and a connection for each way, so that the ways can wait at the same time."""

    def __init__(self, sandboxes: Mapping[str, Sandbox]) -> None:
        self._sandboxes = sandboxes

    def wait(
        self, ways: Iterable[str], script: Callable[[Sandbox], None], **options: Any
    ) -> Iterator[tuple[str, Waited]]:
        """Wait in all these ways at once, and return one after the other; an exception names the way."""
        with with_xcom(), ThreadPoolExecutor(len(WAYS)) as pool:
            waits = {way: pool.submit(self._wait, way, script, options) for way in ways}
        for way, future in waits.items():
            try:
                yield way, future.result()
            except BaseException as error:
                error.add_note(f"The way: {way}")
                raise

    def connection(self, way: str) -> str:
        return f"way_{list(WAYS).index(way)}"

    def _wait(self, way: str, script: Callable[[Sandbox], None], options: dict[str, Any]) -> Waited:
        sandbox = self._sandboxes[way]
        sandbox.reset()
        sandbox.seed(50, codes_per_lot=10)
        script(sandbox)
        make, fixed = WAYS[way]
        began, ti = time.monotonic(), TaskInstance()
        options = {**fixed, "scantrust_conn_id": self.connection(way), **options}
        arguments = [submit(self.connection(way))] if make is sensor else []
        try:
            result, _, states = run(make(*arguments, **options), ti=ti)
        except Exception as error:
            return Waited(sandbox, ti, error=error, seconds=time.monotonic() - began)
        return Waited(sandbox, ti, result, states)


@pytest.fixture(scope="module")
def sandboxes() -> Iterator[Mapping[str, Sandbox]]:
    with ExitStack() as stack:
        yield {way: stack.enter_context(Sandbox(time_scale=0.01, rate_limits=False)) for way in WAYS}


@pytest.fixture
def fleet(sandboxes: Mapping[str, Sandbox], monkeypatch: pytest.MonkeyPatch) -> Fleet:
    fleet = Fleet(sandboxes)
    for way, sandbox in sandboxes.items():
        monkeypatch.setenv(f"AIRFLOW_CONN_{fleet.connection(way)}".upper(), sandbox.connection_json)
    return fleet


def faults(*many: dict[str, Any]) -> Callable[[Sandbox], None]:
    def script(sandbox: Sandbox) -> None:
        for fault in many:
            sandbox.fault(method="GET", path=f"{STATUS_PATH}*", **fault)

    return script


GOOD: dict[str, Callable[[Sandbox], None]] = {
    "complete": lambda sandbox: None,
    "complete at once": lambda sandbox: sandbox.jobs(polls=1),
    "complete after six questions": lambda sandbox: sandbox.jobs(polls=6),
    "other words": jobs(polls=3, states={"in-progress": "In progress", "complete": "SUCCESS"}),
    "unknown word on the way": jobs(polls=4, states={"in-progress": "archiving"}),
    "camel case": jobs(polls=3, deviations=["camel_case_keys"]),
    "500, 502, 503, 504": faults(*({"status": status} for status in (500, 502, 503, 504))),
    "throttled": faults({"status": 429, "headers": {"Retry-After": "1"}, "skip": 1}),
    "cut": faults({"cut": "before"}, {"cut": "after"}, {"cut": "body"}),
    "garbage": faults({"body": "<html>"}, {"body": '{"state":'}, {"body": [1]}, {"body": {"state": 5}}),
    "redirect": faults({"status": 302, "headers": {"Location": "/api/v2/me/"}}),
    "longer outage than the tries of one call": faults({"status": 503, "times": 12}),
}
# "redirect" leads to an answer without a state, which is one more unreadable answer.


@pytest.mark.usefixtures("quick")
@pytest.mark.parametrize("script", GOOD.values(), ids=GOOD)
def test_wait_that_can_go_on_succeeds_in_every_way(fleet: Fleet, script: Callable[[Sandbox], None]) -> None:
    for way, waited in fleet.wait(WAYS, script):
        if waited.error:
            raise waited.error
        result, states = waited.result, waited.states
        assert 2 == result["codes_affected"]
        (task,) = waited.sandbox.tasks()
        if way.startswith("sensor"):
            assert {"codes_affected": 2, "tasks": {task["id"]: 2}} == result
        else:
            assert ([task["id"]], {"count": 0, "examples": []}) == (result["task_ids"], result["unmatched"])
            assert [task["id"]] == waited.ti.xcoms["task_ids"]
        assert ("deferred" in states) <= ("deferred" in way or "triggerer" in way or way == WITHOUT)
        # Before Airflow 3.3 it starts on a worker, and says so.
        assert ("running" not in states) == (way == WITHOUT and has_start())
        assert 1 == len([entry for entry in waited.sandbox.transcript() if entry["method"] == "POST"])


def after_the_first_question(**fault: Any) -> Callable[[Sandbox], None]:
    """The job goes on for ever, and all questions but the first meet the fault."""

    def script(sandbox: Sandbox) -> None:
        sandbox.jobs(hang=True)
        sandbox.fault(method="GET", path=f"{STATUS_PATH}*", times=None, skip=1, **fault)

    return script


BAD: dict[str, tuple[Callable[[Sandbox], None], dict[str, Any], type[Exception], type[Exception], str]] = {
    "failed": (
        lambda sandbox: sandbox.jobs(polls=3, fail=True),
        {},
        AirflowFailException,
        exc.TaskFailed,
        r"1 of 1 job failed at Scantrust\. Failed: \(task_id .*, reference SCM-.*, state 'failed', created_at 20",
    ),
    "failed at once": (
        lambda sandbox: sandbox.jobs(polls=1, fail=True),
        {},
        AirflowFailException,
        exc.TaskFailed,
        "failed at Scantrust",
    ),
    "never ends": (
        lambda sandbox: sandbox.jobs(hang=True),
        UNTIL_THE_DEADLINE,
        AirflowSensorTimeout,
        exc.WaitTimedOut,
        r"had not ended in time: .* \(in-progress\)\. Scantrust has no call that cancels a job",
    ),
    "unknown word for ever": (
        jobs(hang=True, states={"in-progress": "archived"}),
        UNTIL_THE_DEADLINE,
        AirflowSensorTimeout,
        exc.WaitTimedOut,
        r"\(archived\)",
    ),
    "401 at once": (
        faults({"status": 401, "times": None}),
        {},
        AirflowFailException,
        exc.AuthenticationFailed,
        r"AuthenticationFailed: Scantrust refused the status of task .* \(401\)",
    ),
    "401 later": (
        after_the_first_question(status=401),
        {},
        AirflowFailException,
        exc.AuthenticationFailed,
        "make a new one in the portal",
    ),
    "403": (
        faults({"status": 403, "times": None}),
        {},
        AirflowFailException,
        exc.PermissionDenied,
        "lacks a permission",
    ),
    "404": (
        faults({"status": 404, "times": None}),
        {},
        AirflowFailException,
        exc.NotFound,
        "it does not exist",
    ),
    "redirect to another host": (
        faults({"status": 302, "headers": {"Location": "http://other.test/"}, "times": None}),
        {},
        AirflowFailException,
        exc.UnexpectedRedirect,
        "the token stays on its host",
    ),
    "outage": (
        after_the_first_question(status=503),
        {"error_budget": 0.5},
        exc.ServiceUnavailable,
        exc.ServiceUnavailable,
        r"exceed the retry budget of 0 s|exceed the retry budget of 1 s",
    ),
    "throttled for ever": (
        after_the_first_question(status=429, headers={"Retry-After": "50"}),
        {"error_budget": 5},
        exc.Throttled,
        exc.Throttled,
        "throttled the status",
    ),
    "garbage for ever": (
        after_the_first_question(body="<html>"),
        {"error_budget": 0.5},
        exc.UnreadableAnswer,
        exc.UnreadableAnswer,
        "cannot be understood",
    ),
    "outage until the deadline": (
        faults({"status": 503, "times": None}),
        UNTIL_THE_DEADLINE,
        AirflowSensorTimeout,
        exc.WaitTimedOut,
        "never answered",
    ),
}


def run_to_failure(make: Callable[[], Any], error: type[BaseException], match: str) -> tuple[str, Any]:
    """Return what the error says, and the XCom ``failed_jobs``."""
    ti = TaskInstance()
    with pytest.raises(error, match=match) as caught:
        run(make, ti=ti)
    return str(caught.value), ti.xcoms.get("failed_jobs")


def cause(error: BaseException) -> BaseException:
    return error if isinstance(error, exc.ScantrustError) else error.__context__ or error


@pytest.mark.usefixtures("quick")
@pytest.mark.parametrize(("script", "options", "raised", "because", "said"), BAD.values(), ids=BAD)
def test_wait_that_cannot_go_on_ends_alike_in_every_way(
    fleet: Fleet,
    script: Callable[[Sandbox], None],
    options: dict[str, Any],
    raised: type[Exception],
    because: type[Exception],
    said: str,
) -> None:
    for way, waited in fleet.wait(WAYS, script, **options):
        operator_fails = because is exc.TaskFailed and way.startswith("operator")
        expected = exc.TaskFailed if operator_fails else raised
        assert waited.error is not None
        assert type(waited.error) is expected, waited.error
        assert re.search(said, str(waited.error))
        assert type(cause(waited.error)) is because
        # There are loggers that follow the causes to their end.
        assert waited.error.__cause__ is not waited.error


MANY_GOOD: dict[str, Callable[[Sandbox], None]] = {
    "an outage in the middle": faults({"status": 503, "times": 30, "skip": 15}),
    "every fifth poll fails": faults({"status": 502, "probability": 0.2, "times": None}),
    "throttled again and again": faults(
        *({"status": 429, "headers": {"Retry-After": "0"}, "skip": skip} for skip in (3, 20, 40))
    ),
    "cut and garbage": faults(
        {"cut": "after", "times": 5, "skip": 5}, {"body": "<html>", "times": 5, "skip": 20}
    ),
}


@pytest.mark.usefixtures("quick")
@pytest.mark.parametrize("way", SENSORS)
@pytest.mark.parametrize("script", MANY_GOOD.values(), ids=MANY_GOOD)
def test_many_jobs_get_through_trouble_in_every_way(
    sandbox: Sandbox, way: str, script: Callable[[Sandbox], None]
) -> None:
    sandbox.jobs(polls=2, times=None)
    task_ids = submit_many(sandbox, 25)
    script(sandbox)
    _, options = WAYS[way]
    result, *_ = run(sensor(task_ids, **{**options, "timeout": 60}))
    assert (24, 25) == (result["codes_affected"], len(result["tasks"]))


@pytest.mark.usefixtures("quick")
@pytest.mark.parametrize("status", [429, 503])
def test_long_pause_that_the_service_names_ends_no_wait_before_its_deadline(
    fleet: Fleet, status: int
) -> None:
    script = faults({"status": status, "headers": {"Retry-After": "900"}, "times": None})
    for _, waited in fleet.wait(WAYS, script, timeout=5.0):
        assert isinstance(waited.error, AirflowSensorTimeout)
        assert "never answered" in str(waited.error)
        assert waited.seconds > 4.9


@pytest.mark.usefixtures("quick")
@pytest.mark.parametrize(
    ("case", "error", "permanent"),
    [("404", "NotFound", True), ("outage", "ServiceUnavailable", False), ("failed", "TaskFailed", True)],
)
def test_failed_try_says_why_in_an_xcom(fleet: Fleet, case: str, error: str, permanent: bool) -> None:
    script, options, raised, _, _ = BAD[case]
    for _, waited in fleet.wait(SENSORS, script, **options):
        assert isinstance(waited.error, raised)
        failure = waited.ti.xcoms["failure"]
        assert (error, 1, permanent) == (failure["error"], failure["try_number"], failure["permanent"])
        assert 0 < len(failure["message"]) <= 300


SKIPS = [
    # case, soft_fail skips it, never_fail skips it
    ("failed", True, True),
    ("never ends", True, True),
    ("401 later", True, True),
    ("outage", False, True),
]


@pytest.mark.usefixtures("quick")
@pytest.mark.parametrize("option", ["soft_fail", "never_fail"])
@pytest.mark.parametrize(("case", "soft", "never"), SKIPS)
def test_soft_fail_and_never_fail_skip_alike(
    fleet: Fleet, option: str, case: str, soft: bool, never: bool
) -> None:
    script, options, raised, _, _ = BAD[case]
    skips = soft if option == "soft_fail" else never
    for _, waited in fleet.wait(SENSORS, script, **options, **{option: True}):
        assert isinstance(waited.error, AirflowSkipException if skips else raised)


@pytest.mark.parametrize("way", [way for way in SENSORS if "without" not in way and "started" not in way])
def test_iterator_of_ids_is_waited_for(sandbox: Sandbox, way: str) -> None:
    sandbox.jobs(polls=4, times=None)
    ids = [*submit(), *submit()]
    make, fixed = WAYS[way]
    result, *_ = run(make(iter(ids), **fixed))
    assert set(ids) == result["tasks"].keys()


@pytest.mark.usefixtures("sandbox", "quick")
@pytest.mark.parametrize("way", SENSORS)
def test_never_fail_skips_also_without_a_connection(way: str) -> None:
    with pytest.raises(AirflowSkipException):
        wait(way, scantrust_conn_id="nowhere", never_fail=True, error_budget=0.2)


@pytest.mark.usefixtures("sandbox", "quick")
@pytest.mark.parametrize("way", SENSORS)
@pytest.mark.parametrize(
    ("connection", "said"),
    [(None, "no Airflow connection 'nowhere'"), ('{"conn_type": "scantrust", "password": "a b"}', "token")],
)
def test_connection_that_cannot_work_fails_without_a_retry_in_every_way(
    way: str, connection: str | None, said: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    if connection:
        monkeypatch.setenv("AIRFLOW_CONN_NOWHERE", connection)
    with pytest.raises(AirflowFailException, match=f"ConfigurationError.*{said}"):
        wait(way, scantrust_conn_id="nowhere", error_budget=0.5)


@pytest.mark.usefixtures("sandbox")
@pytest.mark.parametrize("options", [{}, {"never_fail": True}])
def test_silent_fail_goes_on_while_a_secrets_backend_may_be_down(
    options: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AIRFLOW__SECRETS__BACKEND", "airflow.secrets.local_filesystem.LocalFilesystemBackend")
    task = sensor(submit(), silent_fail=True, scantrust_conn_id="nowhere", **options)()
    context: Any = {"ti": TaskInstance()}
    with pytest.raises(TaskDeferred):
        task.execute(context)


@pytest.mark.usefixtures("quick")
@pytest.mark.parametrize("way", SENSORS)
def test_silent_fail_waits_through_any_outage(sandbox: Sandbox, way: str) -> None:
    faults({"status": 503, "times": 15})(sandbox)
    result, *_ = wait(way, silent_fail=True, error_budget=0.1)
    assert 2 == result["codes_affected"]


@pytest.mark.usefixtures("quick")
@pytest.mark.parametrize("way", SENSORS)
def test_many_jobs_are_one_wait_with_all_failures_named(sandbox: Sandbox, way: str) -> None:
    sandbox.jobs(polls=2)
    sandbox.jobs(polls=1, fail=True)
    sandbox.jobs(polls=4)
    sandbox.jobs(polls=3, fail=True)
    task_ids = [submit()[0] for _ in range(4)]
    _, options = WAYS[way]
    text, failed = run_to_failure(sensor(task_ids, **options), AirflowFailException, "2 of 4 jobs failed")
    assert [False, True, False, True] == [task_id in text for task_id in task_ids]
    assert {"jobs": 4, "failed": 2, "task_ids": [task_ids[1], task_ids[3]]} == failed


@pytest.mark.usefixtures("quick")
@pytest.mark.parametrize("way", [way for way in WAYS if way.startswith("operator")])
def test_upload_names_its_jobs_that_failed(sandbox: Sandbox, way: str) -> None:
    sandbox.jobs(polls=3, fail=True)
    _, options = WAYS[way]
    _, failed = run_to_failure(operator(**options), exc.TaskFailed, "1 of 1 job failed")
    (task,) = sandbox.tasks()
    assert {"jobs": 1, "failed": 1, "task_ids": [task["id"]]} == failed


@pytest.mark.usefixtures("quick")
@pytest.mark.parametrize("way", SENSORS)
def test_of_many_jobs_that_failed_a_hundred_are_named_in_every_way(sandbox: Sandbox, way: str) -> None:
    sandbox.jobs(times=None, polls=2, fail=True)
    task_ids = submit_many(sandbox, 101)
    _, options = WAYS[way]
    make = sensor(task_ids, **{**options, "timeout": 60})
    _, failed = run_to_failure(make, AirflowFailException, "101 of 101 jobs failed")
    assert (101, 101, 100) == (failed["jobs"], failed["failed"], len(set(failed["task_ids"])))


@pytest.mark.usefixtures("quick")
@pytest.mark.parametrize("number", [100, 101, 1001])
def test_result_of_many_jobs_is_bounded_and_the_same_in_every_way(sandbox: Sandbox, number: int) -> None:
    task_ids = submit_many(sandbox, number)
    affected = dict.fromkeys(task_ids[1:], 1) if number <= 100 else {}
    for way in SENSORS:
        _, options = WAYS[way]
        result, *_ = run(sensor(task_ids, **{**options, "timeout": 120}))
        assert (number, number - 1) == (result.get("jobs", 100), result["codes_affected"]), way
        assert {task_ids[0]: 0, **affected} == result["tasks"], way


@pytest.mark.usefixtures("quick")
@pytest.mark.parametrize("way", SENSORS)
def test_nothing_to_wait_for_is_done_at_once(sandbox: Sandbox, way: str) -> None:
    _, options = WAYS[way]
    result, _, states = run(sensor([], **options))
    assert {"codes_affected": 0, "tasks": {}} == result
    starts_there = "start_from_trigger" in options
    assert "deferred" not in states or starts_there


@pytest.mark.parametrize("way", SENSORS)
@pytest.mark.parametrize("task_id", ["../me", "a/b?x=1", ""])
def test_id_that_is_none_fails_at_once_and_asks_nothing(sandbox: Sandbox, way: str, task_id: str) -> None:
    _, options = WAYS[way]
    with pytest.raises(AirflowFailException, match="InvalidInput"):
        run(sensor([task_id], **options))
    assert [] == sandbox.transcript()
