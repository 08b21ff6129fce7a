"""`plan` and `upload`: the operator's pipeline outside a Dag."""

from __future__ import annotations

import json
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from airflow_provider_scantrust.sandbox import Sandbox

from .conftest import Ran

Run = Callable[..., Ran]
Start = Callable[..., "subprocess.Popen[str]"]
MakeCsv = Callable[..., Path]


def posts(sandbox: Sandbox) -> int:
    return sum(entry["method"] == "POST" for entry in sandbox.transcript())


def test_plan_sends_nothing(sandbox: Sandbox, run: Run, make_csv: MakeCsv) -> None:
    sandbox.clear_transcript()
    ran = run("plan", make_csv(2500), "--output", "json")
    found = json.loads(ran.out)
    assert (0, "sync", 2500, 3, 0) == (
        ran.code,
        found["mode"],
        found["rows"],
        found["sync_calls"],
        found["jobs"],
    )
    assert [] == sandbox.transcript()


def test_plan_needs_no_connection(run: Run, make_csv: MakeCsv, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("_AIRFLOW_PROCESS_CONTEXT", "client")
    assert 0 == run("plan", make_csv(5), "--conn-id", "nowhere").code


def test_zero_codes_per_key_are_refused_as_by_the_operator(
    run: Run, make_csv: MakeCsv, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit, match="2"):
        run("plan", make_csv(5), "--codes-per-key", "0")
    assert "invalid number above 0 value: '0'" in capsys.readouterr().err


def test_plan_shows_rejects_and_writes_them(
    sandbox: Sandbox, run: Run, make_csv: MakeCsv, tmp_path: Path
) -> None:
    path = make_csv(5, *[f",L-{number}" for number in range(12)])
    rejects = tmp_path / "rejects.csv"
    ran = run("plan", path, "--rejects", rejects, "--output", "json")
    found = json.loads(ran.out)
    assert 3 == ran.code
    assert {"key missing": 12} == found["rejected_kinds"]
    assert list(range(7, 17)) == [each["line"] for each in found["first_rejects"]]
    assert str(rejects) == found["rejects_path"]
    assert 13 == len(rejects.read_text().splitlines())


def test_plan_reads_columns_and_constants(sandbox: Sandbox, run: Run, tmp_path: Path) -> None:
    path = tmp_path / "rows.txt"
    path.write_text("code;wine;note\nSBX00000001;Merlot;x\n", encoding="utf-8")
    options = ["--source-format", "csv", "--column", "code=extended_id", "--column", "note="]
    more = ["--column", "wine=grape", "--constant", "market=CH", "--delimiter", ";"]
    assert 0 == run("upload", path, *options, *more).code
    code: Any = sandbox.code("SBX00000001")
    assert ("Merlot", "CH") == (code["grape"], code["market"])


@pytest.mark.parametrize("command", ["plan", "upload"])
def test_file_that_is_not_there_is_named(sandbox: Sandbox, run: Run, command: str) -> None:
    ran = run(command, "/nowhere/rows.csv")
    assert (75, "") == (ran.code, ran.out)
    assert "There is no source '/nowhere/rows.csv'" in ran.err


def test_option_that_cannot_be_is_named(sandbox: Sandbox, run: Run, make_csv: MakeCsv) -> None:
    ran = run("plan", make_csv(1), "--column", "a=b", "--column", "a=c")
    assert 1 == ran.code
    assert "--column names 'a' twice" in ran.err


def test_upload_reports(sandbox: Sandbox, run: Run, make_csv: MakeCsv) -> None:
    ran = run("upload", make_csv(1200), "--output", "json")
    found = json.loads(ran.out)
    assert (0, 1200, 1200, 2) == (ran.code, found["rows"], found["codes_affected"], found["requests"])


def test_upload_waits_for_its_jobs(sandbox: Sandbox, run: Run, make_csv: MakeCsv) -> None:
    arguments = ["--mode", "async", "--poll-interval", "0.01", "--on-unmatched", "fail", "--output", "json"]
    ran = run("upload", make_csv(50, lots=2), *arguments)
    found = json.loads(ran.out)
    assert (0, 2, 50) == (ran.code, found["jobs"], found["codes_affected"])
    assert "does not cover the jobs" not in ran.err


@pytest.mark.parametrize(("lots", "which"), [(1, "it"), (2, "them"), (11, "the first 10")])
def test_upload_that_does_not_wait_gives_the_command_that_shows_its_jobs(
    sandbox: Sandbox, run: Run, make_csv: MakeCsv, monkeypatch: pytest.MonkeyPatch, lots: int, which: str
) -> None:
    monkeypatch.setenv("AIRFLOW_CONN_OTHER", sandbox.connection_json)
    monkeypatch.delenv("AIRFLOW_CONN_SCANTRUST_DEFAULT")
    options = ("--mode", "async", "--no-wait", "--conn-id", "other", "--output", "json")
    ran = run("upload", make_csv(50, lots=lots), *options)
    found = json.loads(ran.out)
    assert (0, None) == (ran.code, found["codes_affected"])
    what, _, command = ran.err.splitlines()[-1].partition(": ")
    assert f"To look at {which}" == what
    assert "python -m airflow_provider_scantrust" == command[:36]
    assert 0 == run(*command.split()[3:], "--wait", "--poll-interval", "0.01").code


def test_rows_that_are_not_updated_are_an_exit_code(
    sandbox: Sandbox, run: Run, make_csv: MakeCsv, tmp_path: Path
) -> None:
    rejects = tmp_path / "rejects.csv"
    ran = run("upload", make_csv(5, "NOWHERE123,L-1"), "--rejects", rejects, "--output", "json")
    assert (3, 1) == (ran.code, json.loads(ran.out)["unmatched"]["count"])
    assert "NOWHERE123" in rejects.read_text()


def test_on_unmatched_fail_fails(sandbox: Sandbox, run: Run, make_csv: MakeCsv) -> None:
    ran = run("upload", make_csv(5, "NOWHERE123,L-1"), "--on-unmatched", "fail")
    assert 1 == ran.code
    assert "UnmatchedKeys" in ran.err


def test_resumed_upload_after_a_kill_repeats_at_most_what_was_in_flight(
    sandbox: Sandbox, start: Start, make_csv: MakeCsv, tmp_path: Path
) -> None:
    path, progress = make_csv(2000), tmp_path / "progress.json"
    arguments = ["upload", path, "--items-per-call", "10", "--resume", progress, "--output", "json"]
    # Without it, all would be done before the kill.
    sandbox.fault(path="/api/v2/scm/upload/", times=None, delay=0.1)
    sandbox.clear_transcript()
    process = start(*arguments)
    while posts(sandbox) < 20:
        assert process.poll() is None
        time.sleep(0.05)
    # However long the second process takes to start.
    process.send_signal(signal.SIGSTOP)
    # A second process would send the same rows again.
    second = start(*arguments)
    _, err = second.communicate(timeout=60)
    assert 1 == second.returncode
    assert f"Another upload is running with --resume {progress}." in err
    process.kill()
    process.communicate()
    sandbox.clear_faults()
    resumed = start(*arguments)
    out, err = resumed.communicate(timeout=120)
    assert 0 == resumed.returncode, err
    assert "this one continues from there" in err
    assert posts(sandbox) <= 200 + 16
    assert 2000 == json.loads(out)["codes_affected"]
    lots = [code["lot_number"] for code in sandbox.codes(limit=2000)]
    assert [f"L-{number}" for number in range(1, 2001)] == lots
    assert not progress.exists()


def test_interrupted_upload_says_what_was_done(
    sandbox: Sandbox, start: Start, make_csv: MakeCsv, tmp_path: Path
) -> None:
    path, progress = make_csv(3000), tmp_path / "progress.json"
    arguments = ["upload", path, "--items-per-call", "30", "--resume", progress]
    sandbox.fault(path="/api/v2/scm/upload/", times=None, delay=0.1)
    sandbox.clear_transcript()
    process = start(*arguments)
    while posts(sandbox) < 40:
        assert process.poll() is None
        time.sleep(0.05)
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=60)
    assert 130 == process.returncode, err
    assert "Traceback" not in err
    last = err.strip().splitlines()[-1]
    assert last.startswith("Stopped: ")
    assert last.endswith(f"The same command continues from {progress}.")
    assert progress.exists()


def test_failed_job_is_submitted_again_by_the_same_command(
    sandbox: Sandbox, run: Run, make_csv: MakeCsv, tmp_path: Path
) -> None:
    arguments = ["upload", make_csv(50, lots=5), "--mode", "async", "--poll-interval", "0.01"]
    arguments += ["--resume", tmp_path / "progress.json", "--output", "json"]
    sandbox.jobs(fail=True)
    assert 1 == run(*arguments).code
    sandbox.clear_transcript()
    ran = run(*arguments)
    assert (0, 50, 1) == (ran.code, json.loads(ran.out)["codes_affected"], posts(sandbox))


def test_job_that_scantrust_does_not_know_is_not_waited_for_again(
    sandbox: Sandbox, run: Run, make_csv: MakeCsv, tmp_path: Path
) -> None:
    arguments = ["upload", make_csv(50, lots=5), "--mode", "async", "--poll-interval", "0.01"]
    arguments += ["--resume", tmp_path / "progress.json", "--output", "json"]
    sandbox.fault(path="/api/v2/scm/tasks/*", status=404)
    ran = run(*arguments)
    assert 1 == ran.code
    assert "everything is uploaded again" in ran.err
    assert (0, 50) == ((ran := run(*arguments)).code, json.loads(ran.out)["codes_affected"])


def test_progress_of_another_file_is_not_taken_up(
    sandbox: Sandbox, run: Run, make_csv: MakeCsv, tmp_path: Path
) -> None:
    arguments = ["--mode", "async", "--poll-interval", "0.01", "--resume", tmp_path / "progress.json"]
    sandbox.jobs(fail=True)
    assert 1 == run("upload", make_csv(50, lots=5), *arguments).code
    ran = run("upload", make_csv(40, lots=4), *arguments, "--output", "json")
    assert (0, 4) == (ran.code, json.loads(ran.out)["jobs"])
    assert "has changed since the last try" in ran.err


def test_progress_that_cannot_be_kept_is_found_before_anything_is_sent(
    sandbox: Sandbox, run: Run, make_csv: MakeCsv, tmp_path: Path
) -> None:
    sandbox.clear_transcript()
    ran = run("upload", make_csv(5), "--resume", tmp_path / "nowhere" / "progress.json")
    assert (1, 0) == (ran.code, posts(sandbox))
    assert "progress.json cannot be written" in ran.err


def test_another_kind_of_file_is_not_written_over(
    sandbox: Sandbox, run: Run, make_csv: MakeCsv, tmp_path: Path
) -> None:
    path = make_csv(5)
    ran = run("upload", path, "--resume", path)
    assert 1 == ran.code
    assert "is not a progress file" in ran.err
    assert path.read_text().startswith("extended_id")
