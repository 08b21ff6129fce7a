"""What a retry does after a try that ended early, over a real socket: nothing is lost, nothing repeated in silence."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from airflow.providers.common.compat.sdk import AirflowFailException, TaskDeferred

from airflow_provider_scantrust.exceptions import (
    ConnectionFailed,
    PermissionDenied,
    RequestRejected,
    RequestTooLarge,
    ScantrustError,
    ServiceUnavailable,
    TaskFailed,
    Throttled,
)
from airflow_provider_scantrust.sandbox import Sandbox
from airflow_provider_scantrust.uploads.calls import Call
from airflow_provider_scantrust.uploads.kept import Try, forget_jobs
from airflow_provider_scantrust.uploads.progress import Progress
from airflow_provider_scantrust.uploads.report import Report
from tasks import Died, Store, attempt, bottles

KEY = "scantrust_upload"


PAYLOADS: dict[str, dict[str, Any]] = {
    "items": {"items": bottles(1, 2, 3), "mode": "async"},
    "constraints": {"constraints": {"extended_id": ["SBX00000001"]}, "scm_data": {"market": "FR"}},
    "source": {"source": bottles(1, 2, 3), "mode": "async"},
}
payloads = pytest.mark.parametrize("payload", PAYLOADS.values(), ids=PAYLOADS)


def make_progress(
    store: Store, jobs: int = 4, max_in_flight: int = 4, try_number: int = 1, **of: Any
) -> Progress:
    of = {"account": "a", "options": "o", "series": (2, 2), **of}
    this_try = Try(of.pop("series"), try_number, f"try {try_number}")
    progress = Progress(store, this_try, max_in_flight=max_in_flight, log=logging.getLogger(), **of)
    progress.take_up("f", range(jobs))
    return progress


def job(number: int, key: str = "L") -> Call:
    return Call(number, constraints={"lot": key}, scm_data={"market": "FR"}, example=key)


@payloads
@pytest.mark.parametrize("deferrable", [False, True])
def test_ids_are_kept_before_the_first_wait_and_waited_for_again(
    sandbox: Sandbox, payload: dict[str, Any], deferrable: bool
) -> None:
    sandbox.jobs(hang=True)
    store = Store()
    if not deferrable:
        sandbox.fault(path="/api/v2/scm/tasks/*", status=403)
    with pytest.raises(TaskDeferred if deferrable else AirflowFailException):
        attempt(store, payload, deferrable=deferrable)
    (task,) = sandbox.tasks()
    assert [task["id"]] == list(store[KEY]["jobs"])


@payloads
def test_retry_waits_for_the_job_that_was_submitted(sandbox: Sandbox, payload: dict[str, Any]) -> None:
    store = Store()
    sandbox.fault(path="/api/v2/scm/tasks/*", status=403)
    with pytest.raises(AirflowFailException):
        attempt(store, payload)
    report = attempt(store, payload, try_number=2)
    assert [task["id"] for task in sandbox.tasks()] == report["task_ids"]
    assert 1 == report["requests"]
    assert "possibly_submitted_twice" not in report


@payloads
@pytest.mark.parametrize("wait_for_completion", [True, False])
def test_retry_of_an_upload_whose_success_airflow_did_not_learn_of_sends_nothing(
    sandbox: Sandbox, payload: dict[str, Any], wait_for_completion: bool, capsys: pytest.CaptureFixture[str]
) -> None:
    store = Store()
    first = attempt(store, payload, wait_for_completion=wait_for_completion)
    second = attempt(store, payload, try_number=2, wait_for_completion=wait_for_completion)
    assert first.pop("seconds") >= 0
    assert second.pop("seconds") >= 0
    assert first == second
    assert 1 == len(sandbox.tasks())
    assert "Airflow did not record that" in capsys.readouterr().out


@payloads
def test_changed_payload_is_submitted_anew(
    sandbox: Sandbox, payload: dict[str, Any], capsys: pytest.CaptureFixture[str]
) -> None:
    store = Store()
    sandbox.fault(path="/api/v2/scm/tasks/*", status=403)
    with pytest.raises(AirflowFailException):
        attempt(store, payload)
    changed = {**payload, "scm_data": {"market": "IT"}} if "scm_data" in payload else {**payload}
    for name in {"items", "source"} & changed.keys():
        changed[name] = bottles(1, 2, 4)
    report = attempt(store, changed, try_number=2)
    assert 2 == len(sandbox.tasks())
    assert [sandbox.tasks()[-1]["id"]] == report["task_ids"]
    assert "has changed since the last try" in capsys.readouterr().out


@payloads
def test_succeeded_upload_that_is_cleared_is_submitted_anew(
    sandbox: Sandbox, payload: dict[str, Any]
) -> None:
    store = Store()
    first, second = attempt(store, payload), attempt(store, payload, try_number=2, cleared=True)
    assert first["task_ids"] != second["task_ids"]
    assert 2 == len(sandbox.tasks())


@payloads
def test_failed_job_is_submitted_anew(sandbox: Sandbox, payload: dict[str, Any]) -> None:
    store = Store()
    sandbox.jobs(fail=True)
    with pytest.raises(Exception, match="failed at Scantrust"):
        attempt(store, payload)
    attempt(store, payload, try_number=2)
    assert ["failed", "complete"] == [task["state"] for task in sandbox.tasks()]


def test_of_many_jobs_only_those_that_failed_are_submitted_anew(
    sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("airflow_provider_scantrust.uploads.kept.JOBS_TOGETHER", 4)
    rows = [{"extended_id": f"SBX{number:08d}", "market": str(number)} for number in range(1, 19)]
    payload = {"items": rows, "mode": "async", "max_in_flight": 1}
    store = Store()
    # The seventh and the fourteenth job fail, and one of them in the second try too.
    for well in (6, 6):
        sandbox.jobs(times=well, polls=1)
        sandbox.jobs(fail=True)
    with pytest.raises(TaskFailed, match="2 of 18"):
        attempt(store, payload)
    sandbox.jobs()
    sandbox.jobs(fail=True)
    with pytest.raises(TaskFailed, match="1 of 18"):
        attempt(store, payload, try_number=2)
    report = attempt(store, payload, try_number=3)
    assert 21 == len(sandbox.tasks())
    complete = [task["id"] for task in sandbox.tasks() if task["state"] == "complete"]
    assert sorted(complete) == sorted(report["task_ids"])
    assert (18, 21, 0) == (report["codes_affected"], report["requests"], report["unmatched"]["count"])
    assert 18 == sum(sandbox.count(market=row["market"]) for row in rows)


@pytest.mark.parametrize(
    ("requests", "failed", "task_ids"),
    [
        pytest.param(2, 1, ["b"], id="more than the job became of its call"),
        pytest.param(1, 2, ["b"], id="not all are named"),
        pytest.param(1, 1, ["z"], id="not one that was kept"),
        pytest.param(1, 0, [], id="none is named"),
    ],
)
def test_everything_is_forgotten_where_failed_jobs_cannot_be_told_apart(
    requests: int, failed: int, task_ids: list[str]
) -> None:
    store = Store()
    progress = make_progress(store)
    with closing(progress):
        for number, task_id in enumerate("abc"):
            counted = Report("async", 0, 0.0, requests=requests)
            counted.add_job(job(number), task_id)
            progress.call_done(number, counted)
    forget_jobs(store, {"failed": failed, "task_ids": task_ids}, logging.getLogger())
    assert {} == store


@payloads
def test_task_with_a_job_that_scantrust_no_longer_knows_can_be_cleared(
    sandbox: Sandbox, payload: dict[str, Any], capsys: pytest.CaptureFixture[str]
) -> None:
    store = Store()
    sandbox.fault(path="/api/v2/scm/tasks/*", status=404)
    with pytest.raises(AirflowFailException, match="NotFound"):
        attempt(store, payload)
    assert "everything is uploaded again" in capsys.readouterr().out
    attempt(store, payload, try_number=2, cleared=True)
    assert 2 == len(sandbox.tasks())


@payloads
def test_crash_between_submit_and_noting_the_id_is_told(
    sandbox: Sandbox, payload: dict[str, Any], capsys: pytest.CaptureFixture[str]
) -> None:
    store = Store(dies=lambda value: bool(value["jobs"]))
    with pytest.raises(Died):
        attempt(store, payload)
    assert 1 == len(sandbox.tasks())
    store.dead, store.dies = False, lambda value: False
    report = attempt(store, payload, try_number=2)
    assert 2 == len(sandbox.tasks())
    assert 1 == report["possibly_submitted_twice"]
    assert "Scantrust may run it twice" in capsys.readouterr().out


@pytest.mark.parametrize("wait", [True, False])
def test_retry_of_an_ended_upload_gives_the_same_report_and_sends_nothing(
    sandbox: Sandbox, tmp_path: Path, wait: bool
) -> None:
    source, rejects = tmp_path / "rows.csv", tmp_path / "rejects.csv"
    source.write_text("extended_id,market,unknown\nSBX00000001,FR,1\nNOBODY,FR,1\n,FR,1\nSBX00000002,DE,2\n")
    payload = {"source": str(source), "rejects_path": str(rejects), "wait_for_completion": wait}
    sandbox.seed(3000)
    with source.open("a") as file:
        file.writelines(f"SBX{number:08d},IT,3\n" for number in range(3, 3001))
        file.write("NOWHERE,IT,3\n")
    store = Store()
    report = attempt(store, payload)
    assert ("sync", 3000) == (report["mode"], report["codes_affected"])
    written, sent = rejects.read_bytes(), len(sandbox.transcript())
    again = attempt(store, payload, try_number=2)
    assert {**report, "seconds": 0} == {**again, "seconds": 0}
    assert (written, sent) == (rejects.read_bytes(), len(sandbox.transcript()))


@payloads
def test_crash_before_the_submit_sends_nothing(sandbox: Sandbox, payload: dict[str, Any]) -> None:
    store = Store(dies=lambda value: True)
    with pytest.raises(Died):
        attempt(store, payload)
    assert [] == sandbox.tasks()


def test_calls_are_written_down_before_more_than_max_in_flight_could_be_repeated() -> None:
    store = Store()
    progress = make_progress(store)
    for number in range(3):
        progress.call_done(number, Report("sync", 1, 0.0, requests=1))
    progress.before_call(Call(3, [{"extended_id": "A"}]), 0)
    assert KEY not in store
    progress.before_call(Call(4, [{"extended_id": "B"}]), 1)
    assert "0-2" == store[KEY]["done"]


def test_keys_of_finished_calls_are_not_left_to_send() -> None:
    store = Store()
    progress = make_progress(store, jobs=2)
    counted = Report(requests=1)
    ids = {"extended_id": ["A", "B", "C"]}
    counted.add_job(Call(0, constraints=ids, scm_data={"market": "FR"}, example="A"), "t")
    with closing(progress):
        progress.call_done(0, counted)
        progress.call_done(2, Report(requests=1))
    assert 3 + 5 == make_progress(store, jobs=2, try_number=2).keys_done(items_per_call=5)


def test_jobs_that_were_only_to_come_next_are_not_reported() -> None:
    store = Store()
    progress = make_progress(store)

    def submit_one_in_vain() -> None:
        with closing(progress):
            progress.before_call(job(0), 0)
            assert "0-3" == store[KEY]["submitting"]
            raise ServiceUnavailable("503")

    with pytest.raises(ServiceUnavailable):
        submit_one_in_vain()
    assert 1 == make_progress(store).report.possibly_twice


def reported_after(*requests: Callable[[Progress], None], error: Exception | None = None) -> int:
    """Return how many jobs a retry says may run twice, after a try that made these requests and then failed."""
    store = Store()
    progress = make_progress(store)

    def run() -> None:
        with closing(progress):
            for request in requests:
                request(progress)
            raise error or ServiceUnavailable("503")

    with pytest.raises(type(error or ServiceUnavailable(""))):
        run()
    return make_progress(store).report.possibly_twice


def test_job_of_a_call_that_is_repeated_is_reported() -> None:
    counted = Report("sync", 2, 0.0, requests=3, unmatched=1)
    counted.add_job(job(1), "t-1")
    assert 1 == reported_after(lambda progress: progress.call_done(1, counted))
    assert 0 == reported_after(lambda progress: progress.call_done(1, Report("sync", 2, 0.0, unmatched=1)))


@pytest.mark.parametrize(
    ("error", "unknown"),
    [
        (RequestRejected("400", status=400), 0),
        (PermissionDenied("403", status=403), 0),
        (Throttled("429", status=429), 0),
        (ConnectionFailed("cut"), 1),
        (ServiceUnavailable("502", status=502), 1),
        (None, 1),
    ],
)
def test_only_jobs_that_may_have_been_made_are_reported(error: ScantrustError | None, unknown: int) -> None:
    """One refusal says nothing of the other submits under way (they had no answer yet)."""

    def submit(progress: Progress) -> None:
        for number in range(3):
            progress.before_call(job(number), number)
        if error is not None:
            progress.answered(job(0), error)

    assert 2 + unknown == reported_after(submit, error=PermissionDenied("403"))


def test_refusal_of_one_part_of_a_call_does_not_hide_the_job_of_another() -> None:
    def submit(progress: Progress) -> None:
        progress.before_call(job(0), 0)
        progress.answered(job(0), None)
        progress.before_call(job(0), 0)
        progress.answered(job(0), RequestRejected("400", status=400))

    assert 1 == reported_after(submit)


def test_calls_of_another_size_are_another_upload(sandbox: Sandbox) -> None:
    payload = {"source": bottles(*range(1, 31)), "mode": "async"}
    store = Store()
    sandbox.jobs(fail=True)
    with pytest.raises(TaskFailed):
        attempt(store, payload, ids_per_job=20, max_in_flight=1)
    report = attempt(store, payload, try_number=2, ids_per_job=15, max_in_flight=1)
    assert (30, 2) == (report["codes_affected"], len(report["task_ids"]))


def test_ended_upload_without_its_report_starts_over(caplog: pytest.LogCaptureFixture) -> None:
    store = Store()
    make_progress(store).close()
    store[KEY] |= {"ended": [[2, 2], 1, None], "whole": None}
    assert make_progress(store, try_number=2).report.jobs == {}
    assert "is not complete, so the upload starts over" in caplog.text


def test_no_entry_of_the_store_grows_with_the_upload() -> None:
    store = Store()
    progress = make_progress(store, 5000, 16)
    for number in range(5000):
        progress.before_call(job(number, "k" * 1000), 0)
        counted = Report("async", 0, 0.0)
        counted.add_job(job(number, "k" * 1000), f"01234567-0123-4567-89ab-{number:012d}")
        progress.call_done(number, counted)
    with closing(progress):
        pass
    assert 26 == len(store)
    assert all(len(json.dumps(entry)) < 64_000 for entry in store.values())
    again = make_progress(store, 5000, 16)
    assert list(progress.report.jobs.items()) == list(again.report.jobs.items())
    assert set(range(5000)) == again.done
    forget_jobs(store, {}, logging.getLogger())
    assert {} == store


def test_jobs_of_all_entries_are_taken_up_again(sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("airflow_provider_scantrust.uploads.kept.JOBS_TOGETHER", 4)
    rows = [{"extended_id": f"SBX{number:08d}", "market": str(number)} for number in range(1, 19)]
    payload = {"items": rows, "mode": "async", "max_in_flight": 2}
    sandbox.fault(path="/api/v2/scm/upload/async/", status=403, skip=14)
    store = Store()
    with pytest.raises(AirflowFailException, match="PermissionDenied"):
        attempt(store, payload)
    report = attempt(store, payload, try_number=2)
    assert (18, 18) == (len(report["task_ids"]), report["codes_affected"])
    assert sorted(task["id"] for task in sandbox.tasks()) == sorted(report["task_ids"])
    del store[f"{KEY}_jobs_1"]
    assert 18 == len(attempt(store, payload, try_number=3)["task_ids"])
    assert 36 == len(sandbox.tasks())


@payloads
def test_without_a_store_a_retry_starts_over_and_says_so(
    sandbox: Sandbox, payload: dict[str, Any], capsys: pytest.CaptureFixture[str]
) -> None:
    said = "This Airflow keeps no state between tries"
    attempt(None, payload)
    assert said not in capsys.readouterr().out
    attempt(None, payload, try_number=2)
    assert said in capsys.readouterr().out
    assert 2 == len(sandbox.tasks())


def test_submit_without_an_answer_is_told_by_the_retry(
    sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    connection = json.loads(sandbox.connection_json)
    connection["extra"] = {**connection.get("extra", {}), "retry_attempts": 1}
    monkeypatch.setenv("AIRFLOW_CONN_SCANTRUST_DEFAULT", json.dumps(connection))
    sandbox.fault(path="/api/v2/scm/upload/async/", cut="after")
    store = Store()
    with pytest.raises(ConnectionFailed):
        attempt(store, PAYLOADS["items"])
    assert 1 == attempt(store, PAYLOADS["items"], try_number=2)["possibly_submitted_twice"]


def test_sync_calls_of_items_are_not_made_again(sandbox: Sandbox) -> None:
    sandbox.seed(4950)
    rows = [{"extended_id": f"SBX{number:08d}", "market": str(number)} for number in range(1, 5001)]
    payload = {"items": rows, "mode": "sync", "max_in_flight": 1}
    sandbox.fault(path="/api/v2/scm/upload/", status=403, skip=3)
    store = Store()
    with pytest.raises(AirflowFailException):
        attempt(store, payload)
    sandbox.clear_transcript()
    report = attempt(store, payload, try_number=2)
    assert (5000, 6) == (report["codes_affected"], report["requests"])
    assert 3 == len(sandbox.transcript())


def test_each_submit_that_was_repeated_is_told(sandbox: Sandbox, capsys: pytest.CaptureFixture[str]) -> None:
    rows = [{"extended_id": f"SBX{number:08d}", "market": str(number)} for number in range(1, 13)]
    sandbox.fault(path="/api/v2/scm/upload/async/", status=502, work=True, times=12)
    report = attempt(Store(), {"items": rows, "mode": "async", "max_in_flight": 12})
    assert 12 == len(report["task_ids"])
    told = capsys.readouterr().out.count("A job was submitted again because")
    replayed = {
        json.dumps(task["scm_data"]) for task in sandbox.tasks() if task["id"] not in report["task_ids"]
    }
    assert len(replayed) == told
    assert told > 5


def test_part_that_is_in_flight_stays_announced_when_another_part_is_refused() -> None:
    store = Store()
    progress = make_progress(store)
    for _ in range(2):
        progress.before_call(job(1), 0)
    progress.answered(job(1), RequestTooLarge("too large"))
    progress.all_calls_made(Report())
    assert "1" in store[KEY]["submitting"].replace("-", ",").split(",")
    progress.answered(job(1), RequestTooLarge("too large"))
    with closing(progress):
        pass
    assert "" == store[KEY]["submitting"]
