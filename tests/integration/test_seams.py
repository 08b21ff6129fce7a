"""The moments between two writes, second looks, and counts that two places keep; each of these was wrong once."""

from __future__ import annotations

import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from airflow.providers.common.compat.sdk import AirflowFailException

from airflow_provider_scantrust.api import flow
from airflow_provider_scantrust.exceptions import (
    ConfigurationError,
    ScantrustError,
    SourceNotFound,
    UploadInterrupted,
)
from airflow_provider_scantrust.hooks import scantrust as hooks
from airflow_provider_scantrust.hooks.scantrust import ScantrustHook
from airflow_provider_scantrust.hooks.waiting import WorkerWait
from airflow_provider_scantrust.operators.scantrust import ScantrustUploadOperator
from airflow_provider_scantrust.sandbox import Sandbox
from airflow_provider_scantrust.uploads import kept, report
from airflow_provider_scantrust.waits.pacing import Pacer
from tasks import Died, Store, TaskInstance, attempt, bottles, run

KEY = "scantrust_upload"
SUBMIT = "/api/v2/scm/upload/async/"
UPLOAD = "/api/v2/scm/upload/"


@pytest.fixture(autouse=True)
def fast(monkeypatch: pytest.MonkeyPatch) -> None:
    """As many uploads a second as there is time for, and short pauses."""
    monkeypatch.setattr(hooks, "Pacer", lambda **_: Pacer(5000, random=lambda: 0.0))
    monkeypatch.setattr(flow, "FIRST_BACKOFF", 0.01)
    # Fewer jobs make as many entries, and as many runs of sizes.
    monkeypatch.setattr(kept, "JOBS_TOGETHER", 20)
    monkeypatch.setattr(report, "_RUNS", 20)


def different(number: int) -> list[dict[str, str]]:
    """Return rows that are a job each."""
    return [{"extended_id": f"SBX{place:08d}", "market": f"M{place:04d}"} for place in range(1, number + 1)]


@pytest.mark.parametrize("deferrable", [False, True])
def test_many_jobs_of_many_sizes_are_counted_alike_deferred_or_not(
    sandbox: Sandbox, tmp_path: Path, deferrable: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    sandbox.seed(80)
    rows: list[dict[str, str]] = []
    for group in range(41):
        for _ in range(1 + group % 2):
            rows.append({"extended_id": f"SBX{len(rows) + 1:08d}", "market": f"M{group:04d}"})
    next(row for row in rows if row["market"] == "M0040")["extended_id"] = "NOSUCHCODE1"
    monkeypatch.setattr(WorkerWait, "poll_before_deferral", lambda *_, **__: None)
    path = tmp_path / "rejects.jsonl"
    done, _, _ = run(
        lambda: ScantrustUploadOperator(
            task_id="task",
            source=rows,
            mode="async",
            deferrable=deferrable,
            poll_interval=0.05,
            rejects_path=str(path),
        )
    )
    assert 1 == done["unmatched"]["count"]
    # Deferred, it is counted; it must not be taken for another row.
    listed = (
        [json.loads(line)["extended_id"] for line in path.read_text().splitlines()] if path.exists() else []
    )
    assert ([] if deferrable else ["NOSUCHCODE1"]) == listed


class EndsWhenJobsAreForgotten(Store):
    """
    A store that takes no main entry once a job has failed.

    :param error: What the write raises.
    """

    def __init__(self, error: BaseException) -> None:
        super().__init__()
        self.error: BaseException | None = error

    def set(self, key: str, value: Any) -> None:
        if self.error and key == KEY and "ended" in value and value.get("whole", 1) is None:
            raise self.error
        super().set(key, value)


@pytest.mark.parametrize("error", [Died(), RuntimeError("the API server is away")])
def test_job_that_failed_is_made_again_although_forgetting_it_was_interrupted(
    sandbox: Sandbox, error: BaseException
) -> None:
    number = 23
    sandbox.seed(number)
    sandbox.jobs(fail=True)
    store = EndsWhenJobsAreForgotten(error)
    with pytest.raises((Died, ScantrustError)):
        attempt(store, source=different(number), mode="async", max_in_flight=1)
    store.error = None
    done = attempt(store, try_number=2, source=different(number), mode="async", max_in_flight=1)
    assert number == done["codes_affected"]
    for row in different(number):
        assert row["market"] == (sandbox.code(row["extended_id"]) or {})["market"]


def test_source_that_is_gone_with_incomplete_progress_is_not_a_success(
    sandbox: Sandbox, tmp_path: Path
) -> None:
    source = tmp_path / "rows.csv"
    rows = different(21)
    sandbox.seed(21)
    source.write_text(
        "extended_id,market\n" + "".join(f"{row['extended_id']},{row['market']}\n" for row in rows)
    )
    sandbox.fault(path="/api/v2/scm/tasks/*", status=403, times=1)
    store = Store()
    with pytest.raises(AirflowFailException):
        attempt(store, source=str(source), mode="async")
    store.delete(f"{KEY}_jobs_0")
    source.unlink()
    with pytest.raises(SourceNotFound):
        attempt(store, try_number=2, source=str(source), mode="async")


class Refuses(BaseHTTPRequestHandler):
    """Refuses each row, and one of them as too large."""

    protocol_version = "HTTP/1.1"

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        answer = b'{"product": ["does not exist"]}'
        self.send_response(413 if body["constraints"]["lot_number"] == "L0003" else 400)
        self.send_header("Content-Length", str(len(answer)))
        self.end_headers()
        self.wfile.write(answer)

    def log_message(self, *_: Any) -> None:
        pass


def test_file_of_which_nothing_is_accepted_fails_also_with_a_call_that_is_too_large(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    with ThreadingHTTPServer(("127.0.0.1", 0), Refuses) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            connection = {
                "conn_type": "scantrust",
                "host": f"http://127.0.0.1:{server.server_port}",
                "password": "t-1",
            }
            monkeypatch.setenv("AIRFLOW_CONN_SCANTRUST_DEFAULT", json.dumps(connection))
            rows = [{"lot_number": f"L{number:04d}", "product": "nope"} for number in range(300)]
            with pytest.raises(AirflowFailException, match="TooManyRejected: Scantrust refused"):
                attempt(
                    None, source=rows, data_key="lot_number", rejects_path=str(tmp_path / "rejects.jsonl")
                )
        finally:
            server.shutdown()
            thread.join()


@pytest.mark.parametrize("second", [{"status": 401}, {"status": 429, "headers": {"Retry-After": "3600"}}])
def test_job_that_may_be_there_is_reported_also_when_the_last_error_is_certain(
    sandbox: Sandbox, second: dict[str, Any]
) -> None:
    sandbox.fault(path=SUBMIT, status=502, work=True, times=1)
    sandbox.fault(path=SUBMIT, times=1, **second)
    store = Store()
    with pytest.raises((AirflowFailException, ScantrustError)):
        attempt(store, items=bottles(1, 2, 3), mode="async")
    done = attempt(store, try_number=2, items=bottles(1, 2, 3), mode="async")
    assert 2 == len(sandbox.tasks())
    assert 1 == done["possibly_submitted_twice"]


def test_job_that_may_be_there_is_reported_also_after_a_stop(sandbox: Sandbox) -> None:
    sandbox.fault(path=SUBMIT, status=502, work=True, times=1, headers={"Retry-After": "30"})
    store = Store()
    operator = ScantrustUploadOperator(
        task_id="upload", items=bottles(1, 2, 3), mode="async", deferrable=False, poll_interval=0.05
    )
    ti = TaskInstance()
    ti.id = "try 1"

    def stop_after_the_submit() -> None:
        while not sandbox.tasks():
            threading.Event().wait(0.02)
        operator.on_kill()

    stopper = threading.Thread(target=stop_after_the_submit, daemon=True)
    stopper.start()
    context: Any = {"ti": ti, "task_state_store": store}
    with pytest.raises(UploadInterrupted):
        operator.execute(context)
    stopper.join()
    assert 1 == attempt(store, try_number=2, items=bottles(1, 2, 3), mode="async")["possibly_submitted_twice"]


def test_each_part_of_a_job_that_may_be_there_twice_is_reported(
    sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    sandbox.configure(body_limit=110)
    submit = ScantrustHook.submit
    is_refused = False

    def refuse_the_fourth(self: ScantrustHook, *arguments: Any) -> str:
        nonlocal is_refused
        if len(sandbox.tasks()) == 3 and not is_refused:
            is_refused = True
            sandbox.fault(path=SUBMIT, status=403, times=1)
        return submit(self, *arguments)

    monkeypatch.setattr(ScantrustHook, "submit", refuse_the_fourth)
    payload: dict[str, Any] = {
        "constraints": {"extended_id": [f"SBX{number:08d}" for number in range(1, 9)]},
        "scm_data": {"market": "FR"},
        "max_in_flight": 1,
    }
    store = Store()
    with pytest.raises(AirflowFailException):
        attempt(store, **payload)
    assert 3 == attempt(store, try_number=2, **payload)["possibly_submitted_twice"]
    sandbox.configure(body_limit=0)


def test_clear_repeats_a_job_that_came_before_the_first_discarded_field(sandbox: Sandbox) -> None:
    rows = bottles(1, 2, market="FR", grape_color="2020")
    sandbox.fault(path=UPLOAD, status=504, times=1)
    sandbox.fault(path="/api/v2/scm/tasks/*", status=403, times=1)
    store = Store()
    options: dict[str, Any] = {"source": rows, "items_per_call": 1, "max_in_flight": 1}
    with pytest.raises(AirflowFailException):
        attempt(store, **options)
    sandbox.add_field("grape_color")
    attempt(store, try_number=3, cleared=True, **options)
    assert ["2020", "2020"] == [(sandbox.code(row["extended_id"]) or {})["grape_color"] for row in rows]


def test_source_that_became_a_folder_during_the_wait_fails_nothing(
    sandbox: Sandbox, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = tmp_path / "rows.csv"
    source.write_text("extended_id,market\nSBX00000001,FR\nNOSUCHCODE,FR\n")

    def change(*_: Any, **__: Any) -> None:
        source.unlink()
        source.mkdir()

    monkeypatch.setattr(WorkerWait, "poll_before_deferral", change)
    rejects = str(tmp_path / "rejects.csv")
    done, _, _ = run(
        lambda: ScantrustUploadOperator(
            task_id="task", source=str(source), mode="async", poll_interval=0.05, rejects_path=rejects
        )
    )
    assert 1 == done["codes_affected"]


def test_rejects_that_cannot_be_written_do_not_hide_why_the_upload_ended(
    sandbox: Sandbox, tmp_path: Path
) -> None:
    sandbox.fault(path=UPLOAD, status=403, times=1)
    store = Store()
    path = tmp_path / "folder" / "rejects.jsonl"
    rows = [*bottles(1, 2), {"market": "FR"}]

    def block(self: Any, *_: Any) -> Any:
        raise OSError("the disk is full")

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("airflow_provider_scantrust.operators.files.RejectsFile.write", block)
        with pytest.raises(AirflowFailException, match="PermissionDenied"):
            attempt(store, source=rows, rejects_path=str(path))


def test_changed_rejects_path_gets_the_rejects_of_the_next_try(sandbox: Sandbox, tmp_path: Path) -> None:
    rows = [*bottles(1), {"extended_id": "NOPE12345", "market": "FR"}]
    first, second = tmp_path / "a" / "rejects_1.jsonl", tmp_path / "b" / "rejects_2.jsonl"
    store = Store()
    attempt(store, source=rows, rejects_path=str(first))
    done = attempt(store, try_number=2, cleared=True, source=rows, rejects_path=str(second))
    assert str(second) == done["rejects_path"]
    assert second.exists()
    assert not first.exists()


@pytest.mark.parametrize("has_earlier_file", [False, True])
def test_rejects_file_of_a_try_that_died_right_after_it_was_written_is_replaced(
    sandbox: Sandbox, tmp_path: Path, has_earlier_file: bool
) -> None:
    path, store = tmp_path / "rejects.jsonl", Store()
    rows = [*bottles(1), {"extended_id": "NOPE12345", "market": "FR"}]
    if has_earlier_file:
        attempt(store, source=[*rows, {"extended_id": "NOPE67890", "market": "FR"}], rejects_path=str(path))
    before = path.exists() and path.read_bytes()
    store.dies = lambda value: path.exists() and path.read_bytes() != before
    with pytest.raises(Died):
        attempt(store, try_number=2, cleared=True, source=rows, rejects_path=str(path))
    store.dies, store.dead = (lambda value: False), False
    done = attempt(store, try_number=3, cleared=True, source=rows, rejects_path=str(path))
    assert (str(path), [path]) == (done["rejects_path"], list(tmp_path.iterdir()))


def test_handover_to_a_job_stops_at_a_discarded_field_that_must_not_be(sandbox: Sandbox) -> None:
    sandbox.fault(path=UPLOAD, status=504, times=1, skip=1)
    rows = bottles(1, 2, market="FR", nosuch="x")
    with pytest.raises(AirflowFailException, match="DiscardedFields"):
        attempt(None, source=rows, items_per_call=1, max_in_flight=1, on_discarded="fail")
    assert [] == sandbox.tasks()


@pytest.mark.parametrize("ids", [" SBX00000001", [" SBX00000001", "SBX00000002\u00a0"]])
def test_constraints_strip_the_blanks_that_rows_strip(sandbox: Sandbox, ids: Any) -> None:
    done = attempt(None, constraints={"extended_id": ids}, scm_data={"market": "FR"})
    assert (1 if isinstance(ids, str) else 2) == done["codes_affected"]


def test_connection_that_changes_before_the_first_poll_is_named(
    sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    poll = WorkerWait.poll_before_deferral
    with Sandbox(time_scale=0.01, rate_limits=False) as other:

        def change(self: WorkerWait) -> Any:
            monkeypatch.setenv("AIRFLOW_CONN_SCANTRUST_DEFAULT", other.connection_json)
            sandbox.fault(path="/api/v2/scm/tasks/*", status=401, times=None)
            return poll(self)

        monkeypatch.setattr(WorkerWait, "poll_before_deferral", change)
        with pytest.raises(
            (AirflowFailException, ConfigurationError), match="has changed since the job was submitted"
        ):
            run(
                lambda: ScantrustUploadOperator(
                    task_id="task", items=bottles(1), mode="async", poll_interval=0.05
                )
            )
