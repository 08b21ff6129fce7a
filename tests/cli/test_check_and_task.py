"""`check`, `task` and `sandbox`, and how commands are found."""

from __future__ import annotations

import json
import signal
import subprocess
import time
from collections.abc import Callable
from datetime import UTC, datetime

import pytest
import requests
from airflow.providers_manager import ProvidersManager

from airflow_provider_scantrust.api.messages import Answer
from airflow_provider_scantrust.cli.check import Access, read_skew
from airflow_provider_scantrust.cli.main import make_parser
from airflow_provider_scantrust.cli.sandbox import SANDBOX_FLAGS
from airflow_provider_scantrust.cli.table import COMMANDS
from airflow_provider_scantrust.hooks.scantrust import ScantrustHook
from airflow_provider_scantrust.sandbox import Sandbox
from airflow_provider_scantrust.sandbox.cli import _parser

from .conftest import Ran

Run = Callable[..., Ran]
Start = Callable[..., "subprocess.Popen[str]"]
LOT = {"lot_number": "L-000001"}


def test_check_says_who_and_where(sandbox: Sandbox, run: Run) -> None:
    ran = run("check", "--output", "json")
    found = json.loads(ran.out)
    assert 0 == ran.code
    assert (sandbox.url, "sandbox@example.com", None) == (
        found["service"],
        found["account"],
        found["permissions"],
    )
    assert 0 < found["round_trip_ms"] < 5000
    assert abs(found["clock_skew_seconds"]) <= 2


def test_check_shows_a_table_to_people(sandbox: Sandbox, run: Run) -> None:
    assert "sandbox@example.com" in run("check").out


def test_check_names_missing_permissions(sandbox: Sandbox, run: Run) -> None:
    sandbox.fault(path="/api/v2/me/", body={"email": "a@b.ch", "permissions": ["codes_view", "product_view"]})
    ran = run("check", "--output", "json")
    assert ["codes_view", "product_view"] == json.loads(ran.out)["permissions"]
    assert "The token lacks scm_bulk_edit, scm_code_edit" in ran.err


@pytest.mark.parametrize(
    ("date", "skew", "is_wrong"),
    [
        ("Sun, 22 Nov 2026 12:00:00 GMT", 0, False),
        ("Sun, 22 Nov 2026 12:10:00 GMT", 600, True),
        ("Sun, 22 Nov 2026 11:59:00 GMT", -60, True),
        ("yesterday", None, False),
    ],
)
def test_wrong_clock_is_seen(date: str, skew: int | None, is_wrong: bool) -> None:
    noon = datetime(2026, 11, 22, 12, tzinfo=UTC).timestamp()
    found = read_skew(Answer(200, {"date": date}, b"", elapsed=0.4, received_at=noon + 0.7))
    assert skew == found
    assert is_wrong is Access("me", None, 0.4, found).is_clock_wrong


@pytest.mark.parametrize(
    ("connection", "code", "says"),
    [
        ({"password": "wrong-token"}, 1, "make a new one in the portal"),
        ({"host": "http://127.0.0.1:9", "extra": {"retry_seconds": 0.01}}, 75, "ConnectionFailed"),
        ({"password": ""}, 1, "The connection has no token"),
    ],
)
def test_failed_check_says_what_to_do(
    sandbox: Sandbox,
    run: Run,
    monkeypatch: pytest.MonkeyPatch,
    connection: dict[str, object],
    code: int,
    says: str,
) -> None:
    whole = {**json.loads(sandbox.connection_json), **connection}
    monkeypatch.setenv("AIRFLOW_CONN_SCANTRUST_DEFAULT", json.dumps(whole))
    ran = run("check")
    assert (code, "") == (ran.code, ran.out)
    assert says in ran.err


def test_connection_that_is_not_there_is_named(sandbox: Sandbox, run: Run) -> None:
    ran = run("check", "--conn-id", "nowhere")
    assert 1 == ran.code
    assert "There is no Airflow connection 'nowhere'" in ran.err


def test_task_shows_states_and_counts(sandbox: Sandbox, run: Run) -> None:
    sandbox.jobs(polls=1)
    sandbox.jobs(hang="pending")
    hook = ScantrustHook()
    done, hanging = hook.submit(LOT, {"market": "CH"}), hook.submit(LOT, {"market": "FR"})
    ran = run("task", done, hanging, "--output", "json")
    assert 0 == ran.code
    assert [(done, "complete"), (hanging, "pending")] == [
        (each["task_id"], each["state"]) for each in json.loads(ran.out)
    ]
    assert [True, False] == [each["completed_at"] is not None for each in json.loads(ran.out)]


def test_task_waits_for_the_end(sandbox: Sandbox, run: Run) -> None:
    sandbox.jobs(polls=3)
    task_id = ScantrustHook().submit(LOT, {"market": "CH"})
    ran = run("task", task_id, "--wait", "--poll-interval", "0.01", "--output", "json")
    assert (0, "complete") == (ran.code, json.loads(ran.out)[0]["state"])


@pytest.mark.parametrize("wait", [[], ["--wait", "--poll-interval", "0.01"]])
def test_task_that_failed_is_an_error_for_scripts(sandbox: Sandbox, run: Run, wait: list[str]) -> None:
    sandbox.jobs(polls=1, fail=True)
    ran = run("task", ScantrustHook().submit(LOT, {"market": "CH"}), *wait, "--output", "json")
    assert (1, "failed") == (ran.code, json.loads(ran.out)[0]["state"])


def test_task_that_is_not_known_does_not_hide_the_others(sandbox: Sandbox, run: Run) -> None:
    sandbox.jobs(polls=1)
    task_id = ScantrustHook().submit(LOT, {"market": "CH"})
    ran = run("task", "nothing", task_id, "--output", "json")
    assert (1, ["not known", "complete"]) == (ran.code, [each["state"] for each in json.loads(ran.out)])


def test_wait_that_is_stopped_says_that_jobs_go_on(sandbox: Sandbox, start: Start) -> None:
    sandbox.jobs(hang=True)
    task_id = ScantrustHook().submit(LOT, {"market": "CH"})
    sandbox.clear_transcript()
    process = start("task", task_id, "--wait", "--poll-interval", "0.05")
    while not sandbox.transcript():
        assert process.poll() is None
        time.sleep(0.05)
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=60)
    assert 130 == process.returncode
    assert "Stopped waiting" in err
    assert task_id in err
    assert "Traceback" not in err


def test_sandbox_is_the_sandbox(start: Start) -> None:
    process = start("sandbox", "--port", "0", "--seed", "5")
    assert process.stdout is not None
    url = process.stdout.readline().split()[4]
    assert 200 == requests.get(f"{url}/_sandbox/", timeout=30).status_code
    process.send_signal(signal.SIGTERM)
    process.communicate(timeout=60)
    assert 0 == process.returncode


def test_sandbox_passes_every_option_on(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    passed: list[str] = []

    def main(words: list[str]) -> int:
        passed.extend(words)
        return 0

    monkeypatch.setattr("airflow_provider_scantrust.sandbox.cli.main", main)
    assert 0 == run("sandbox", "--port", "0", "--field", "a", "--field", "b", "--no-rate-limits").code
    assert ["--port=0", "--field=a", "--field=b", "--no-rate-limits"] == passed


def test_sandbox_has_all_options_of_its_own_command() -> None:
    assert {*SANDBOX_FLAGS, "-h", "--help"} == set(_parser()._option_string_actions)


@pytest.mark.parametrize("command", COMMANDS, ids=lambda command: command.name)
def test_airflow_has_the_commands_with_the_same_options(command: object) -> None:
    if not hasattr(ProvidersManager, "cli_command_functions"):
        pytest.skip("this Airflow takes no commands from providers")
    from airflow.cli.cli_parser import get_parser

    name = getattr(command, "name", "")
    words = {
        "plan": ["a.csv", "--column", "a=b", "--null-value", "-", "--output", "json"],
        "upload": ["a.csv", "--max-rejected", "0.5", "--resume", "p"],
        "task": ["1", "2", "--wait"],
    }.get(name, [])
    ours = vars(make_parser().parse_args([name, *words]))
    theirs = vars(get_parser().parse_args(["scantrust", name, *words]))
    ours.pop("command")
    assert ours == {option: theirs[option] for option in ours}
