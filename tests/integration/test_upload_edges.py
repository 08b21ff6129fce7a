"""The seams of an upload, over a real socket: accounts, time limits, stops, sizes, templates, defaults."""

from __future__ import annotations

import json
import os
import signal
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from airflow.providers.common.compat.sdk import DAG, AirflowFailException, AirflowTaskTimeout
from jinja2.nativetypes import NativeEnvironment

import tasks
from airflow_provider_scantrust.decorators.scantrust import ScantrustUploadDecoratedOperator
from airflow_provider_scantrust.exceptions import RequestRejected, UploadInterrupted
from airflow_provider_scantrust.operators.scantrust import ScantrustUploadOperator
from airflow_provider_scantrust.sandbox import Sandbox
from tasks import TaskInstance, bottles

UPLOAD, SUBMIT = "/api/v2/scm/upload/", "/api/v2/scm/upload/async/"


class Store(tasks.Store):
    """A task state store that may fail like an API server that is away."""

    is_away = False

    def set(self, key: str, value: Any) -> None:
        if self.is_away:
            raise ConnectionError("the API server is away")
        super().set(key, value)


def attempt(
    store: Store, try_number: int = 1, ti: TaskInstance | None = None, **options: Any
) -> dict[str, Any]:
    ti = ti or TaskInstance()
    ti.try_number, ti.id = try_number, f"try {try_number}"
    context: Any = {"ti": ti, "task_state_store": store}
    options = {"deferrable": False, "poll_interval": 0.05, **options}
    return dict(ScantrustUploadOperator(task_id="upload", **options).execute(context))


def distinct(count: int, **fields: Any) -> list[dict[str, Any]]:
    return [{"extended_id": f"SBX{n:08d}", "market": f"M{n}", **fields} for n in range(1, count + 1)]


def connect(monkeypatch: pytest.MonkeyPatch, sandbox: Sandbox, **changes: Any) -> None:
    connection = json.loads(sandbox.connection_json)
    extra = {**connection.pop("extra", {}), **changes.pop("extra", {})}
    monkeypatch.setenv(
        "AIRFLOW_CONN_SCANTRUST_DEFAULT", json.dumps({**connection, **changes, "extra": extra})
    )


def after(seconds: float, do: Callable[[], None]) -> Any:
    """Interrupt the main thread with a call, as Airflow's time limit does."""

    def handler(*_: Any) -> None:
        do()

    before = signal.signal(signal.SIGALRM, handler)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    return before


@pytest.fixture(autouse=True)
def no_alarm() -> Any:
    before = signal.getsignal(signal.SIGALRM)
    yield
    signal.setitimer(signal.ITIMER_REAL, 0)
    signal.signal(signal.SIGALRM, before)


def test_progress_of_another_account_is_not_used(
    sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    sandbox.seed(3950)
    store, rows = Store(), distinct(4000)
    sandbox.fault(path=UPLOAD, status=403, skip=2)
    with pytest.raises(AirflowFailException):
        attempt(store, items=rows, max_in_flight=1)
    with Sandbox(time_scale=0.01, rate_limits=False) as production:
        production.seed(4000)
        monkeypatch.setenv("AIRFLOW_CONN_SCANTRUST_DEFAULT", production.connection_json)
        report = attempt(store, 2, items=rows, max_in_flight=1)
        assert (4000, 5) == (report["codes_affected"], report["requests"])
        assert 1 == production.count(market="M1")
    assert "leads to another service or account" in capsys.readouterr().out


def test_ids_that_were_answered_survive_a_time_limit(sandbox: Sandbox) -> None:
    """Submits that are answered while others hang are known to the retry."""
    rows = distinct(40)
    store = Store()
    sandbox.fault(path=SUBMIT, status=429, headers={"Retry-After": "200"}, skip=16, times=None)

    def out_of_time() -> None:
        raise AirflowTaskTimeout("no time left")

    after(2, out_of_time)
    started = time.monotonic()
    with pytest.raises(AirflowTaskTimeout):
        attempt(store, items=rows, mode="async")
    assert time.monotonic() - started < 6
    kept = len(store["scantrust_upload"]["jobs"])
    assert len(sandbox.tasks()) == kept > 0
    sandbox.clear_faults()
    report = attempt(store, 2, items=rows, mode="async")
    assert (40, 40) == (len(sandbox.tasks()), report["codes_affected"])


def test_stopped_task_makes_no_further_call_and_keeps_its_progress(sandbox: Sandbox) -> None:
    sandbox.seed(550)
    store, rows = Store(), distinct(600)
    ti = TaskInstance()
    ti.try_number = 1
    context: Any = {"ti": ti, "task_state_store": store}
    task = ScantrustUploadOperator(
        task_id="upload", items=rows, items_per_call=10, max_in_flight=2, deferrable=False
    )
    stopped_at: list[float] = []

    def stop() -> None:
        stopped_at.append(time.monotonic())
        task.on_kill()

    after(2, stop)
    with pytest.raises(UploadInterrupted):
        task.execute(context)
    assert time.monotonic() - stopped_at[0] < 2
    made = len(sandbox.transcript())
    time_to_see = threading.Event()
    time_to_see.wait(0.5)
    assert made == len(sandbox.transcript()) < 60
    assert not ti.xcoms["failure"]["permanent"]
    report = attempt(store, 2, items=rows, items_per_call=10, max_in_flight=2)
    assert (600, 60) == (report["codes_affected"], report["requests"])
    assert 60 <= len(sandbox.transcript()) <= 60 + 2


def test_store_that_fails_costs_no_row_and_no_failure(
    sandbox: Sandbox, capsys: pytest.CaptureFixture[str]
) -> None:
    store = Store()
    store.is_away = True
    report = attempt(store, items=distinct(40), mode="async")
    assert (40, 40) == (report["codes_affected"], report["jobs"])
    assert 1 == capsys.readouterr().out.count("cannot be kept (ConnectionError)")


@pytest.mark.parametrize("mode", ["auto", "sync", "async"])
def test_call_that_is_too_large_is_halved(sandbox: Sandbox, mode: str) -> None:
    sandbox.fault(path=SUBMIT if mode == "async" else UPLOAD, status=413, times=3)
    report = attempt(Store(), items=bottles(*range(1, 9)), mode=mode, max_in_flight=1)
    assert (8, 3 + 4) == (report["codes_affected"], report["requests"])


@pytest.mark.parametrize("mode", ["auto", "async"])
def test_row_that_is_too_large_alone_is_rejected(sandbox: Sandbox, mode: str) -> None:
    sandbox.fault(path=SUBMIT if mode == "async" else UPLOAD, status=413, times=3)
    report = attempt(Store(), source=bottles(*range(1, 5)), mode=mode, max_in_flight=1)
    assert (3, {"refused": 1}) == (report["codes_affected"], report["rejected"])


def test_items_per_call_bounds_each_call(sandbox: Sandbox) -> None:
    attempt(Store(), items=distinct(50), items_per_call=20)
    sizes = [len(entry["body"]["items"]) for entry in sandbox.transcript() if entry["path"] == UPLOAD]
    assert [10, 20, 20] == sorted(sizes)


def test_probe_of_a_refused_job_that_times_out_makes_calls_of_the_usual_size(sandbox: Sandbox) -> None:
    sandbox.seed(2950)
    sandbox.fault(path=SUBMIT, status=400)
    sandbox.fault(path=UPLOAD, status=504)
    report = attempt(Store(), source=bottles(*range(1, 3001)), mode="async", max_in_flight=1)
    sizes = [len(entry["body"]["items"]) for entry in sandbox.transcript() if entry["path"] == UPLOAD]
    assert 3000 == report["codes_affected"]
    assert max(sizes) <= 999


def test_connection_that_is_not_there_reports_no_job_as_possibly_there(
    sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = Store()
    monkeypatch.delenv("AIRFLOW_CONN_SCANTRUST_DEFAULT")
    with pytest.raises(Exception, match="scantrust_default"):
        attempt(store, items=distinct(40), mode="async")
    monkeypatch.setenv("AIRFLOW_CONN_SCANTRUST_DEFAULT", sandbox.connection_json)
    assert "possibly_submitted_twice" not in attempt(store, 2, items=distinct(40), mode="async")


def test_strict_items_fail_before_anything_is_sent_and_name_rows_and_fields(sandbox: Sandbox) -> None:
    rows = [*bottles(1), {"extended_id": "", "market": "x"}, {"extended_id": "SBX00000002", "market": None}]
    with pytest.raises(AirflowFailException, match=r"row 2, .*extended_id.*row 3, .*market"):
        attempt(Store(), items=rows)
    with pytest.raises(AirflowFailException, match=r"InvalidInput.*extended_id 'SBX00000001'"):
        attempt(Store(), items=[*bottles(1), *bottles(1, market="DE")])
    sandbox.fault(path=UPLOAD, status=400, body={"market": ["Not a market."]})
    assert [] == sandbox.transcript()
    with pytest.raises(AirflowFailException, match=f"{RequestRejected.__name__}.*Not a market"):
        attempt(Store(), items=bottles(1, 2, 3, 4))
    assert 1 == len(sandbox.transcript())


@pytest.mark.parametrize(
    "text",
    [
        '[{"extended_id": "SBX00000001", "market": "1", "market": "2"}]',
        "[{'extended_id': 'SBX00000001', 'market': '1', 'market': '2'}]",
    ],
)
def test_rendered_row_with_a_field_twice_is_refused(sandbox: Sandbox, text: str) -> None:
    with pytest.raises(AirflowFailException, match="'market' twice"):
        attempt(Store(), items=text)
    with pytest.raises(AirflowFailException, match="'market' twice"):
        attempt(Store(), constraints={"lot_number": "L"}, scm_data=text[1:-1])


@pytest.mark.parametrize("text", ["007", "1_000", "+5", "1e5", "", "None", "[1]", " x ", "x\n", "{# c #}"])
def test_text_without_a_template_is_sent_as_it_was_written(text: str) -> None:
    nested = {"a": [text, {"b": (text,)}], text or "k": text}
    task = ScantrustUploadOperator(
        task_id="upload", items=[nested], data_key="lot" if not text.strip() else text, scantrust_conn_id="c"
    )
    rendered = task.render_template(task.items, {}, NativeEnvironment())
    assert [nested] == rendered
    assert "8" == str(task.render_template("{{ 4 + 4 }}", {}, NativeEnvironment()))


@pytest.mark.parametrize(
    "items",
    [
        lambda: [bottles(1, 2), bottles(3)],
        lambda: [[bottles(1)], [bottles(2), bottles(3)]],
        lambda: (rows for rows in [bottles(1, 2), iter(bottles(3))]),
        lambda: [*bottles(1), bottles(2, 3)],
        lambda: tuple(bottles(1, 2, 3)),
    ],
)
def test_items_of_many_upstream_tasks_are_one_upload(sandbox: Sandbox, items: Any) -> None:
    task = ScantrustUploadOperator(task_id="upload", items=[], deferrable=False)
    task.items = items()
    context: Any = {"ti": TaskInstance()}
    assert (3, 3) == (task.execute(context)["rows"], sandbox.count(market="FR"))


def test_rows_without_an_order_are_refused(sandbox: Sandbox) -> None:
    for name in ("items", "source"):
        with pytest.raises(AirflowFailException, match="no order"):
            attempt(Store(), **{name: {("extended_id", "A")}})  # type: ignore[arg-type]


def test_what_cannot_work_is_refused_when_the_dag_is_read() -> None:
    async def rows() -> Any:
        return []

    async def more_rows() -> Any:
        yield {}

    for function in (rows, more_rows):
        with pytest.raises(ValueError, match="async def"):
            ScantrustUploadDecoratedOperator(task_id="t", python_callable=function)
    for name in ("items", "source"):
        with pytest.raises(ValueError, match=f"`{name}` is a list_iterator"):
            ScantrustUploadOperator(task_id="t", **{name: iter([])})  # type: ignore[arg-type]
    for name in ("timeout", "poll_interval", "error_budget"):
        for value in (float("inf"), float("nan"), 0, -1, "soon"):
            with pytest.raises(ValueError, match=f"`{name}`"):
                ScantrustUploadOperator(task_id="t", items=[], **{name: value})  # type: ignore[arg-type]
    for size in (0, 1000, True):
        with pytest.raises(ValueError, match="items_per_call"):
            ScantrustUploadOperator(task_id="t", items=[], items_per_call=size)
    with (
        DAG("d", schedule=None, default_args={"mode": "reschedule"}),
        pytest.raises(ValueError, match="`default_args`"),
    ):
        ScantrustUploadOperator(task_id="t", items=[])


def test_both_violations_are_named_and_the_failure_is_left(sandbox: Sandbox) -> None:
    ti = TaskInstance()
    rows = bottles(1, 99, color="red")
    with pytest.raises(AirflowFailException, match=r"this key .*color \(in 1 row\)"):
        attempt(Store(), ti=ti, items=rows, on_unmatched="fail", on_discarded="fail")
    failure = ti.xcoms["failure"]
    assert ("UnmatchedKeys", 1, True) == (failure["error"], failure["try_number"], failure["permanent"])
    assert len(failure["message"]) <= 301


def test_failure_names_the_rejects_file(sandbox: Sandbox, tmp_path: Path) -> None:
    (tmp_path / "rows.csv").write_text("extended_id,market\n,FR\n", encoding="utf-8")
    path, ti = str(tmp_path / "rejects.csv"), TaskInstance()
    with pytest.raises(AirflowFailException, match="TooManyRejected"):
        attempt(Store(), ti=ti, source=str(tmp_path / "rows.csv"), rejects_path=path)
    assert path == ti.xcoms["failure"]["rejects_path"]


def test_field_that_one_campaign_discards_is_not_discarded_everywhere(
    sandbox: Sandbox, capsys: pytest.CaptureFixture[str]
) -> None:
    sandbox.add_campaign(2, fields=["cellar"])
    sandbox.add_codes([{"extended_id": "OTHER-CAMPAIGN", "campaign": 2}])
    rows = [*bottles(1, 2, market="FR"), {"extended_id": "OTHER-CAMPAIGN", "market": "FR"}]
    report = attempt(Store(), items=rows)
    text = capsys.readouterr().out
    assert (2, ["market"]) == (report["codes_affected"], report["discarded_fields"])
    assert "market (in 1 row)" in text
    assert "no code has a new value" not in text


def test_keys_that_the_answer_spells_in_another_way_are_not_said_to_be_on_no_code(
    sandbox: Sandbox, capsys: pytest.CaptureFixture[str]
) -> None:
    body = {"total_updates": 1, "items": {"sbx00000001": ["market"]}, "codes_affected": 1}
    sandbox.fault(path="/api/v2/scm/upload/", body=body)
    attempt(Store(), items=bottles(1, market="FR"))
    assert "But Scantrust counts 1 updated code, so it may spell these keys in" in capsys.readouterr().out


def test_log_ends_with_one_sentence(sandbox: Sandbox, capsys: pytest.CaptureFixture[str]) -> None:
    rows = [*bottles(1, 2, 98, market="FR", cellar="x"), {"extended_id": ""}]
    attempt(Store(), source=rows)
    text = capsys.readouterr().out
    assert "Updated 2 of 4 rows in 0." in text
    assert "1 unknown key, 1 row rejected, 1 field ignored (cellar)." in text
    attempt(Store(), items=bottles(1, color="red"), on_discarded="ignore")
    assert "Every field of this upload was discarded" in capsys.readouterr().out
    attempt(Store(), constraints={"lot_number": "L-000001"}, scm_data={"market": "FR"})
    assert "Updated 10 codes in" in capsys.readouterr().out


def test_tasks_test_of_a_run_that_exists_uploads(sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch) -> None:
    store = Store()
    attempt(store, items=bottles(1))
    # It has the id of the earlier try, and another number.
    ti = TaskInstance()
    ti.id = "try 1"
    context: Any = {"ti": ti, "task_state_store": store}
    for number in (1, 2, 3):
        ti.try_number = number
        ScantrustUploadOperator(task_id="upload", items=bottles(1)).execute(context)
    assert 4 == len(sandbox.transcript())
    attempt(store, 4, items=bottles(1))
    assert 4 == len(sandbox.transcript())
    monkeypatch.setitem(os.environ, "AIRFLOW_TEST_MODE", "True")
    before = len(sandbox.transcript())
    attempt(store, 5, items=bottles(1))
    assert before + 1 == len(sandbox.transcript())
