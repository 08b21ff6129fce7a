"""On a real Airflow: scheduler, DAG processor, triggerer and API server, LocalExecutor, SQLite."""

from __future__ import annotations

import json
import re
import subprocess
from collections.abc import Iterator, Mapping
from functools import partial
from typing import Any

import pytest

from airflow_client import TaskInstance
from airflow_provider_scantrust.get_provider_info import get_provider_info
from airflow_provider_scantrust.sandbox import Sandbox
from local_airflow import LocalAirflow, runs_task
from secret_search import SecretSearch, files_of, values_of
from system_steps import CODES, submit, wait_until

PACKAGE = "airflow-provider-scantrust"
# Several commands in one process, since most of the time of each is the start of Airflow.
SEVERAL_COMMANDS = """
import json, sys
from airflow.__main__ import main

for place, sys.argv in enumerate(json.loads(sys.argv[1])):
    print("\\0" if place else "", end="")
    main()
"""
ENDED = {"success", "failed", "skipped", "up_for_retry"}


@pytest.fixture(scope="module")
def airflow(airflow_with_openlineage: LocalAirflow) -> LocalAirflow:
    return airflow_with_openlineage


def run_tasks(
    airflow: LocalAirflow, confs: Mapping[str, dict[str, Any]]
) -> Iterator[tuple[str, TaskInstance, str]]:
    """Run Dags of one task at the same time, each with its conf; return the Dag, the task's end and its log."""
    runs = {dag_id: airflow.trigger(dag_id, conf=conf) for dag_id, conf in confs.items()}
    for dag_id, run_id in runs.items():
        task = airflow.wait_for_task(dag_id, run_id, "task", states=ENDED, timeout=180)
        yield dag_id, task, airflow.logs(dag_id, run_id, "task")


def run_task(airflow: LocalAirflow, dag_id: str, **conf: Any) -> tuple[TaskInstance, str]:
    """Run a Dag of one task with a conf and return the task's end and its log."""
    ((_, task, log),) = run_tasks(airflow, {dag_id: conf})
    return task, log


def parse_output(text: str) -> Any:
    """Return the JSON that a CLI printed after its log lines."""
    return json.loads(text[text.rindex("\n[{", 0, None) + 1 :] if "\n[{" in text else text)


def rows(*extended_ids: str) -> list[dict[str, str]]:
    return [{"extended_id": extended_id, "market": "FR"} for extended_id in extended_ids]


def test_deferred_task_has_no_worker_and_survives_the_triggerer(
    airflow: LocalAirflow, sandbox: Sandbox
) -> None:
    sandbox.jobs(polls=15, times=2)
    runs = {
        "wait_deferred": airflow.trigger("wait_deferred", conf={"task_ids": submit(sandbox)}),
        "upload_async": airflow.trigger("upload_async", conf={"items": rows(*CODES[:5])}),
    }
    ids = [
        airflow.wait_for_task(dag_id, run_id, "task", states={"deferred"}).raw["id"]
        for dag_id, run_id in runs.items()
    ]
    # The worker's process reports the deferral and then takes a moment to end, less than the job takes.
    wait_until(
        lambda: not [each for each in airflow.worker_processes() for task in ids if runs_task(each, task)],
        seconds=8,
    )
    airflow.kill("triggerer")
    airflow.start_part("triggerer")
    for dag_id, run_id in runs.items():
        task = airflow.wait_for_task(dag_id, run_id, "task", states=ENDED, timeout=120)
        assert ("success", 1) == (task.state, task.try_number), dag_id
    assert 2 == len([entry for entry in sandbox.transcript() if entry["method"] == "POST"])


def test_what_is_new_about_a_job_is_in_the_tasks_log_and_the_watchers_own_lines_are_not(
    airflow: LocalAirflow, sandbox: Sandbox
) -> None:
    sandbox.jobs(polls=4)
    # The first question is the worker's.
    sandbox.fault(method="GET", path="/api/v2/scm/tasks/*", status=502, skip=1)
    task_ids = submit(sandbox)
    task, log = run_task(airflow, "wait_deferred", task_ids=task_ids)
    assert "success" == task.state, log
    assert f"Scantrust: task_id {task_ids[0]}, reference" in log
    assert "state 'complete'" in log
    fault = "ServiceUnavailable: a status poll at"
    assert fault not in log
    assert fault in airflow.parts["triggerer"].log_path.read_text(encoding="utf-8")


def test_failed_job_fails_the_sensor_at_once_and_names_it(airflow: LocalAirflow, sandbox: Sandbox) -> None:
    dags = ("wait_deferred", "wait_poke", "wait_reschedule")
    sandbox.jobs(polls=3, fail=True, times=len(dags))
    task_ids = {dag_id: submit(sandbox) for dag_id in dags}
    for dag_id, task, log in run_tasks(
        airflow, {dag_id: {"task_ids": ids} for dag_id, ids in task_ids.items()}
    ):
        assert ("failed", 1) == (task.state, task.try_number), log
        (task_id,) = task_ids[dag_id]
        assert "TaskFailed: 1 of 1 job failed at Scantrust. " in log
        assert f"Failed: (task_id {task_id}, reference SCM-" in log
        failed = airflow.xcom(dag_id, task.raw["dag_run_id"], "task", key="failed_jobs")
        assert {"jobs": 1, "failed": 1, "task_ids": [task_id]} == failed


def test_retry_submits_only_the_jobs_that_failed(airflow: LocalAirflow, sandbox: Sandbox) -> None:
    sandbox.jobs(polls=2)
    sandbox.jobs(polls=2, fail=True)
    markets = ("FR", "DE", "JP")
    items = [{"extended_id": code, "market": market} for code, market in zip(CODES, markets, strict=False)]
    run_id = airflow.trigger("upload_async_retried", conf={"items": items})
    task = airflow.wait_for_task(
        "upload_async_retried", run_id, "task", states={"success", "failed"}, timeout=120
    )
    assert ("success", 2) == (task.state, task.try_number)
    assert "failed at Scantrust" in airflow.logs("upload_async_retried", run_id, "task", try_number=1)
    report = airflow.xcom("upload_async_retried", run_id, "task")
    complete = [each["id"] for each in sandbox.tasks() if each["state"] == "complete"]
    assert (4, 3, 4) == (len(sandbox.tasks()), report["codes_affected"], report["requests"])
    assert sorted(complete) == sorted(report["task_ids"])


def test_time_limits_hold_deferred_and_not(airflow: LocalAirflow, sandbox: Sandbox) -> None:
    expected = {
        "wait_deferred_short": ("failed", "AirflowSensorTimeout"),
        "wait_deferred_execution_timeout": ("up_for_retry", "AirflowTaskTimeout"),
        "wait_poke_execution_timeout": ("up_for_retry", "AirflowTaskTimeout"),
    }
    sandbox.jobs(hang=True)
    conf = {"task_ids": submit(sandbox)}
    for dag_id, task, log in run_tasks(airflow, dict.fromkeys(expected, conf)):
        state, error = expected[dag_id]
        assert (state, 1) == (task.state, task.try_number), log
        assert error in log
        assert state != "failed" or "no call that cancels a job" in log


def test_revoked_token_fails_at_once(airflow: LocalAirflow, sandbox: Sandbox) -> None:
    confs: dict[str, dict[str, Any]] = {
        "upload": {"items": rows(CODES[0])},
        "wait_deferred": {"task_ids": submit(sandbox)},
    }
    sandbox.remove_token(sandbox.token)
    for _, task, log in run_tasks(airflow, confs):
        assert ("failed", 1) == (task.state, task.try_number)
        assert "AuthenticationFailed" in log
        assert "make a new one in the portal" in log


def test_unmatched_key_is_reported_or_fails_as_told(airflow: LocalAirflow, sandbox: Sandbox) -> None:
    items = rows(CODES[0], "UNKNOWN00001")
    task, log = run_task(airflow, "upload", items=items)
    assert "success" == task.state
    assert "UNKNOWN00001" in log
    task, log = run_task(airflow, "upload_fail_on_unmatched", items=items)
    assert ("failed", 1) == (task.state, task.try_number)
    assert "UnmatchedKeys" in log
    report = airflow.xcom("upload_fail_on_unmatched", task.raw["dag_run_id"], "task", key="report")
    assert {"count": 1, "examples": ["UNKNOWN00001"]} == report["unmatched"]


def test_bad_row_fails_before_anything_is_sent(airflow: LocalAirflow, sandbox: Sandbox) -> None:
    task, log = run_task(
        airflow, "upload", items=[*rows(CODES[0]), {"extended_id": CODES[1], "activation_status": 7}]
    )
    assert ("failed", 1) == (task.state, task.try_number)
    assert "row 2, field 'activation_status': 7 is out of range" in log
    assert [] == sandbox.transcript()


def test_killing_a_waiting_task_says_that_the_job_goes_on(airflow: LocalAirflow, sandbox: Sandbox) -> None:
    said = re.compile(
        r"was stopped\. Scantrust has no call that cancels a job, so this job continues: [0-9a-f-]{36}"
    )

    def is_said(dag_id: str, run_id: str) -> bool:
        return bool(said.search(airflow.logs(dag_id, run_id, "task")))

    def is_polled(job: str) -> bool:
        return sum(job in entry["path"] for entry in sandbox.transcript()) >= 3

    sandbox.jobs(hang=True, times=2)
    submitted = submit(sandbox)
    runs = {
        "wait_deferred": airflow.trigger("wait_deferred", conf={"task_ids": submitted}),
        "upload_async_on_worker": airflow.trigger("upload_async_on_worker", conf={"items": rows(*CODES[:5])}),
    }
    wait_until(lambda: len(sandbox.tasks()) == 2)
    for job in sandbox.tasks():
        wait_until(partial(is_polled, job["id"]))
    for (dag_id, run_id), state in zip(runs.items(), ("deferred", "running"), strict=True):
        airflow.wait_for_task(dag_id, run_id, "task", states={state})
        airflow.set_state(dag_id, run_id, "task", "failed")
        wait_until(partial(is_said, dag_id, run_id))


def test_airflow_shows_the_provider(airflow: LocalAirflow) -> None:
    commands = {
        "list": ["--output", "plain"],
        "get": [PACKAGE, "--full", "--output", "json"],
        "hooks": ["--output", "json"],
        "widgets": ["--output", "json"],
        "behaviours": ["--output", "json"],
    }
    given = json.dumps([["airflow", "providers", name, *options] for name, options in commands.items()])
    done = subprocess.run(
        [airflow.python, "-c", SEVERAL_COMMANDS, given],
        env=airflow.env,
        check=True,
        capture_output=True,
        text=True,
    )
    said = dict(zip(commands, done.stdout.split("\0"), strict=True))
    assert PACKAGE in said["list"]
    assert "Scantrust" in said["get"]
    (hook,) = [each for each in parse_output(said["hooks"]) if each["connection_type"] == "scantrust"]
    assert hook["class"].endswith("ScantrustHook")
    for name in get_provider_info()["connection-types"][0]["conn-fields"]:
        assert name in said["widgets"]
    assert '"scantrust"' in said["behaviours"]


def test_connection_form_and_test_button_work(airflow: LocalAirflow, sandbox: Sandbox) -> None:
    forms = airflow.api("GET", "/ui/connections/hook_meta")
    (form,) = [each for each in forms if each["connection_type"] == "scantrust"]
    assert set(get_provider_info()["connection-types"][0]["conn-fields"]) == set(form["extra_fields"])
    body = {
        "connection_id": "typed_in",
        "conn_type": "scantrust",
        "host": sandbox.url,
        "password": sandbox.token,
    }
    answer = airflow.api("POST", "connections/test", body)
    assert {
        "status": True,
        "message": f"Connected to Scantrust at {sandbox.url[7:]} as sandbox@example.com.",
    } == answer
    answer = airflow.api("POST", "connections/test", {**body, "password": "wrong-token"})
    assert answer["status"] is False
    assert "make a new one in the portal" in answer["message"]


def test_no_secret_is_in_anything_that_airflow_wrote(airflow: LocalAirflow, sandbox: Sandbox) -> None:
    """
    Search the logs of all parts at DEBUG, the database, while a task is deferred and after it, and the sandbox's transcript.

    What the runs of all tests before this one have left is searched; here come logins, a refusal and a failed
    job. A mark that is no secret must be found in each place: it is the DAG, the connection and a key that no
    code has.
    """
    mark = "marked_4713"
    url, fernet_key = (airflow.setting(name) for name in ("database.sql_alchemy_conn", "core.fernet_key"))
    log = f"logs/dag_id={mark}/*/attempt=1.log"
    places = [
        (log, mark),
        (log, '"debug"'),
        (f"{log}.trigger.*", mark),
        *((f"parts/{part}.log", mark) for part in ("api-server", "scheduler", "triggerer")),
        *((f"parts/{part}.log", "debug") for part in ("scheduler", "triggerer")),
        ("logs/dag_processor/*", mark),
        ("database/trigger.kwargs", mark),
        ("database/task_instance.next_kwargs", mark),
        ("database/task_state_store.value", mark),
        ("database/rendered_task_instance_fields.rendered_fields", mark),
        ("database/xcom.value", mark),
        ("transcript", mark),
    ]
    items = [{"extended_id": mark, "market": "DE"}, *rows(*CODES[:3])]

    sandbox.jobs(polls=7, times=2)
    run_id = airflow.trigger(mark, conf={"items": items})
    airflow.wait_for_task(mark, run_id, "task", states={"deferred"})
    deferred = list(values_of(url, fernet_key))
    task = airflow.wait_for_task(mark, run_id, "task", states=ENDED, timeout=90)
    assert "success" == task.state
    sandbox.jobs(polls=2, fail=True, times=2)
    run_task(airflow, mark, items=items)
    sandbox.fault(path="/api/v2/scm/upload/", times=None, status=403)
    run_task(airflow, "upload", items=rows(*CODES[:2]))

    assert len([secret for secret in sandbox.secrets() if secret.startswith("eyJ")]) >= 3
    search = SecretSearch(sandbox.secrets(), places)
    search.look(deferred)
    search.look(values_of(url, fernet_key))
    search.look(files_of(airflow.home))
    search.look([("transcript", json.dumps(sandbox.transcript()).encode())])
    assert ([], []) == (search.unseen, search.found)
