"""The operator over a real socket: what is sent, what is reported, what fails."""

from __future__ import annotations

import asyncio
import json
from datetime import timedelta
from pathlib import Path
from typing import Any
from unittest.mock import MagicMock

import pytest
from airflow.providers.common.compat.assets import Asset
from airflow.providers.common.compat.sdk import (
    AirflowFailException,
    AirflowSensorTimeout,
    AirflowTaskTimeout,
    BaseOperator,
    TaskDeferred,
)

from airflow_provider_scantrust import exceptions as exc
from airflow_provider_scantrust.decorators.scantrust import ScantrustUploadDecoratedOperator
from airflow_provider_scantrust.hooks.scantrust import ScantrustHook
from airflow_provider_scantrust.operators.scantrust import ScantrustUploadOperator
from airflow_provider_scantrust.sandbox import Sandbox
from airflow_provider_scantrust.sensors.scantrust import ScantrustTaskSensor
from tasks import AIRFLOW_2, TaskInstance, bottles, fire, run

UPLOAD, SUBMIT = "/api/v2/scm/upload/", "/api/v2/scm/upload/async/"


def upload(**options: Any) -> tuple[dict[str, Any], TaskInstance]:
    # One at a time, so that the order of calls is sure.
    options = {"deferrable": False, "poll_interval": 0.05, "max_in_flight": 1, **options}
    result, ti, _ = run(lambda: ScantrustUploadOperator(task_id="upload", **options))
    return result, ti


def calls(sandbox: Sandbox) -> list[str]:
    return [entry["path"] for entry in sandbox.transcript() if entry["method"] == "POST"]


def test_report_is_small_and_complete(sandbox: Sandbox) -> None:
    report, ti = upload(items=bottles(1, 2, 3))
    seconds = report.pop("seconds")
    assert 0 < seconds < 10
    assert {
        "mode": "sync",
        "reason": "extended_id selects one code each, which is quick",
        "rows": 3,
        "requests": 1,
        "codes_affected": 3,
        "unmatched": {"count": 0, "examples": []},
        "discarded_fields": [],
        "jobs": 0,
        "task_ids": [],
    } == report
    assert [] == ti.xcoms["task_ids"]


def test_many_rows_by_extended_id_go_in_calls_below_a_thousand(sandbox: Sandbox) -> None:
    sandbox.seed(2450)
    report, _ = upload(items=bottles(*range(1, 2501)), mode="sync")
    assert (2500, 3, 2500) == (report["rows"], report["requests"], report["codes_affected"])
    sizes = [len(entry["body"]["items"]) for entry in sandbox.transcript() if entry["path"] == UPLOAD]
    assert [999, 999, 502] == sizes


def test_unknown_number_of_codes_goes_async_and_says_why(sandbox: Sandbox, caplog: Any, capsys: Any) -> None:
    report, ti = upload(items=[{"lot_number": "L-000001", "market": "FR"}], data_key="lot_number")
    assert ("async", 1, 10) == (report["mode"], report["requests"], report["codes_affected"])
    assert report["task_ids"] == ti.xcoms["task_ids"] == [task["id"] for task in sandbox.tasks()]
    assert "the number of codes per lot_number is not known" in capsys.readouterr().out + caplog.text


def test_known_number_of_codes_goes_sync(sandbox: Sandbox) -> None:
    items = [{"lot_number": f"L-00000{number}", "market": "FR"} for number in (1, 2, 3)]
    report, _ = upload(items=items, data_key="lot_number", codes_per_key=10)
    assert ("sync", 30) == (report["mode"], report["codes_affected"])


def test_rows_with_identical_data_share_a_job(sandbox: Sandbox) -> None:
    items = [*bottles(1, 2, 3, market="FR"), *bottles(4, 5, market="DE")]
    report, _ = upload(items=items, mode="async", ids_per_job=2)
    jobs = [(task["constraints"]["extended_id"], task["scm_data"]["market"]) for task in sandbox.tasks()]
    assert [
        (["SBX00000004", "SBX00000005"], "DE"),
        (["SBX00000001", "SBX00000002"], "FR"),
        (["SBX00000003"], "FR"),
    ] == jobs
    assert 5 == report["codes_affected"]


def test_call_that_times_out_is_halved_until_it_passes(sandbox: Sandbox) -> None:
    sandbox.configure(code_seconds=2.0)
    items = [{"lot_number": f"L-00000{number}", "market": "FR"} for number in range(1, 6)]
    report, _ = upload(items=items, data_key="lot_number", codes_per_key=10)
    assert 50 == report["codes_affected"] == sandbox.count(market="FR")
    assert [5, 2, 3, 1, 2] == [len(entry["body"]["items"]) for entry in sandbox.transcript()]
    assert 5 == report["requests"]


def test_single_key_that_times_out_goes_async(sandbox: Sandbox) -> None:
    sandbox.configure(code_seconds=10.0)
    items = [{"lot_number": f"L-00000{number}", "market": "FR"} for number in (1, 2)]
    report, _ = upload(items=items, data_key="lot_number", codes_per_key=10)
    assert calls(sandbox) == [UPLOAD, UPLOAD, SUBMIT, UPLOAD, SUBMIT]
    assert (20, 2) == (report["codes_affected"], len(report["task_ids"]))


def test_timeout_with_mode_sync_fails_at_once(sandbox: Sandbox) -> None:
    sandbox.configure(code_seconds=10.0)
    with pytest.raises(AirflowFailException, match="UploadTimedOut"):
        upload(items=[{"lot_number": "L-000001", "market": "FR"}], data_key="lot_number", mode="sync")
    assert calls(sandbox) == [UPLOAD]


def test_jobs_that_are_not_waited_for_are_handed_on(sandbox: Sandbox) -> None:
    sandbox.jobs(hang=True)
    report, ti = upload(
        constraints={"lot_number": "L-000001"}, scm_data={"market": "FR"}, wait_for_completion=False
    )
    assert report["codes_affected"] is None
    assert ti.xcoms["task_ids"] == report["task_ids"]
    assert all(entry["method"] == "POST" for entry in sandbox.transcript())


def test_several_constraints_must_all_hold(sandbox: Sandbox) -> None:
    report, _ = upload(
        constraints={"lot_number": "L-000001", "extended_id": ["SBX00000001", "SBX00000011"]},
        scm_data={"market": "X"},
    )
    assert 1 == report["codes_affected"]
    assert {"count": 1, "examples": []} == report["unmatched"]


@pytest.mark.parametrize("mode", ["sync", "async"])
def test_unmatched_keys_are_counted_in_both_modes(sandbox: Sandbox, mode: str) -> None:
    report, _ = upload(items=bottles(1, 2, 98, 99), mode=mode)
    assert (2, 2) == (report["codes_affected"], report["unmatched"]["count"])
    if mode == "sync":
        assert ["SBX00000098", "SBX00000099"] == report["unmatched"]["examples"]


@pytest.mark.parametrize("deferrable", [True, False])
def test_unmatched_keys_fail_when_told_and_the_report_is_kept(sandbox: Sandbox, deferrable: bool) -> None:
    items = bottles(1, 99)
    kept: list[TaskInstance] = []

    class Kept(TaskInstance):
        def __init__(self) -> None:
            super().__init__()
            kept.append(self)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("tasks.TaskInstance", Kept)
        with pytest.raises(AirflowFailException, match=r"UnmatchedKeys: .* 1 of the keys "):
            upload(items=items, mode="async", on_unmatched="fail", deferrable=deferrable)
    assert 1 == kept[0].xcoms["report"]["unmatched"]["count"]
    assert 1 == kept[0].xcoms["report"]["codes_affected"]


def test_failed_upload_reports_what_was_done_and_claims_no_count(sandbox: Sandbox) -> None:
    sandbox.fault(path=UPLOAD, status=429, headers={"Retry-After": "0.1"})
    sandbox.fault(path=UPLOAD, status=403, skip=1)
    ti = TaskInstance()
    options: dict[str, Any] = {"mode": "sync", "items_per_call": 1, "max_in_flight": 1}
    with pytest.raises(AirflowFailException, match="PermissionDenied"):
        run(lambda: ScantrustUploadOperator(task_id="upload", items=bottles(1, 2, 3), **options), ti=ti)
    report = ti.xcoms["report"]
    assert ("sync", 3, 2, 1) == tuple(
        report[name] for name in ("mode", "rows", "requests", "calls_throttled")
    )
    assert report["codes_affected"] is report["unmatched"]["count"] is None


def test_upload_that_failed_before_it_had_rows_reports_none(sandbox: Sandbox) -> None:
    ti = TaskInstance()
    with pytest.raises(AirflowFailException, match="InvalidInput"):
        run(lambda: ScantrustUploadOperator(task_id="upload", items=bottles(1, extended_id="")), ti=ti)
    assert {"failure", "task_ids"} == ti.xcoms.keys()


def test_report_of_a_wait_is_replaced_by_the_result(sandbox: Sandbox) -> None:
    options: dict[str, Any] = {"mode": "async", "poll_interval": 0.05, "multiple_outputs": True}
    sandbox.jobs(seconds=100)
    result, ti, states = run(lambda: ScantrustUploadOperator(task_id="upload", items=bottles(1), **options))
    assert ["running", "deferred", "running"] == states
    assert (1, result["codes_affected"]) == (ti.xcoms["report"]["codes_affected"], 1)


def test_waiting_upload_has_a_report_without_the_result(sandbox: Sandbox) -> None:
    sandbox.jobs(hang=True)
    ti = TaskInstance()
    with pytest.raises(TaskDeferred):
        ScantrustUploadOperator(task_id="upload", items=bottles(1, 2), mode="async").execute({"ti": ti})  # type: ignore[typeddict-item]
    assert ("async", 2, None) == tuple(
        ti.xcoms["report"][name] for name in ("mode", "rows", "codes_affected")
    )


def test_discarded_field_is_named_and_fails_when_told(sandbox: Sandbox) -> None:
    items = bottles(1, 2, market="FR", color="red")
    report, _ = upload(items=items)
    assert ["color"] == report["discarded_fields"]
    with pytest.raises(AirflowFailException, match=r"DiscardedFields: .*color \(in 2 rows\)"):
        upload(items=items, on_discarded="fail")


def test_ignored_is_still_reported(sandbox: Sandbox, capsys: Any, caplog: Any) -> None:
    report, _ = upload(items=bottles(1, 99, color="red"), on_unmatched="ignore", on_discarded="ignore")
    assert 1 == report["unmatched"]["count"]
    assert ["color"] == report["discarded_fields"]
    assert "No code that this token sees" not in capsys.readouterr().out + caplog.text


def test_no_rows_are_no_call_and_no_failure(sandbox: Sandbox) -> None:
    report, _ = upload(items=[])
    assert (0, 0) == (report["rows"], report["requests"])
    assert [] == sandbox.transcript()


@pytest.mark.parametrize(
    "options",
    [
        {"items": [{"extended_id": "", "market": "FR"}]},
        {"items": "not json"},
        {"items": "{{}}"},
        {"items": [{"lot_number": "L", "market": "FR"}]},
        {"constraints": {"lot_number": ["a", "b"]}, "scm_data": {"market": "FR"}},
        {"constraints": {"lot_number": "L"}, "scm_data": {"market": None}},
        {"constraints": "[]", "scm_data": {"market": "FR"}},
    ],
)
def test_bad_input_fails_at_once_before_anything_is_sent(sandbox: Sandbox, options: dict[str, Any]) -> None:
    with pytest.raises(AirflowFailException, match="InvalidInput"):
        upload(**options)
    assert [] == sandbox.transcript()


@pytest.mark.parametrize("name", ["items", "source", "constraints"])
def test_nothing_from_upstream_is_told_as_such(sandbox: Sandbox, name: str) -> None:
    given: dict[str, Any] = {name: [], **({"scm_data": {"market": "FR"}} if name == "constraints" else {})}
    task = ScantrustUploadOperator(task_id="upload", **given)
    # What an upstream task that returned nothing is rendered to.
    setattr(task, name, None)
    context: Any = {"ti": TaskInstance()}
    with pytest.raises(AirflowFailException, match=r"nothing to upload.* is None.*return nothing"):
        task.execute(context)
    assert [] == sandbox.transcript()


def test_rendered_json_is_read(sandbox: Sandbox) -> None:
    report, _ = upload(items='[{"extended_id": "SBX00000001", "market": "FR"}]')
    assert 1 == report["codes_affected"]


def test_list_rendered_without_tojson_is_read(sandbox: Sandbox) -> None:
    report, _ = upload(items=str(bottles(1, 2)))
    assert 2 == report["codes_affected"]
    report, _ = upload(constraints="{'lot_number': 'L-000001'}", scm_data="{'market': 'FR'}")
    assert 10 == report["codes_affected"]


@pytest.mark.parametrize(
    "options",
    [
        {"dry_run": True},
        {"columns": {"id": "extended_id"}},
        {"constants": {"market": "FR"}},
        {"rejects_path": "rejects.csv"},
        {"max_rejected": 0},
    ],
)
def test_option_of_a_source_is_not_passed_over_without_one(options: dict[str, Any]) -> None:
    for rows in ({"items": bottles(1)}, {"constraints": {"lot_number": "L"}, "scm_data": {"market": "FR"}}):
        with pytest.raises(ValueError, match="is for `source` only"):
            ScantrustUploadOperator(task_id="upload", **rows, **options)


@pytest.mark.parametrize("name", ["items", "source", "constraints", "scm_data"])
def test_decorated_function_takes_no_other_rows(name: str) -> None:
    with pytest.raises(ValueError, match=f"the function returns the rows, so `{name}`"):
        ScantrustUploadDecoratedOperator(task_id="upload", python_callable=bottles, **{name: []})


def test_ids_that_a_template_renders_to_text_are_a_list(sandbox: Sandbox) -> None:
    rendered = "['SBX00000001', 'SBX00000002']"
    report, _ = upload(constraints={"extended_id": rendered}, scm_data={"market": "FR"})
    assert (2, 0) == (report["codes_affected"], report["unmatched"]["count"])


def test_constraints_that_some_ids_meet_are_not_told_as_unmet(sandbox: Sandbox) -> None:
    ids = ["SBX00000001", "NOWHERE01", "NOWHERE02"]
    with pytest.raises(
        AirflowFailException,
        match=r"with 2 of the extended_ids\. A job does not report which\. It is also possible",
    ):
        upload(constraints={"extended_id": ids}, scm_data={"market": "FR"}, on_unmatched="fail")


@pytest.mark.parametrize(
    "given",
    [
        {"constraints": {"lot_number": "L-000001"}, "scm_data": {"color": "red"}},
        {"items": [*bottles(1), {"extended_id": "NOWHERE01", "market": "FR"}], "mode": "async"},
        {"items": bottles(1, 2, color="red"), "mode": "async"},
        {"items": [{"lot_number": "L-000001", "color": "red"}], "data_key": "lot_number"},
    ],
)
def test_job_that_reports_no_fields_does_not_blame_the_keys_alone(
    sandbox: Sandbox, capsys: Any, given: dict[str, Any]
) -> None:
    upload(**given, on_discarded="fail")
    text = capsys.readouterr().out
    assert "It is also possible that the codes' campaign has none of the fields" in text
    assert 'on_discarded="fail" does not cover the jobs of this upload' in text
    assert "on_unmatched" not in text


def test_upload_whose_answers_name_fields_blames_the_keys_alone(sandbox: Sandbox, capsys: Any) -> None:
    upload(items=bottles(1, 99, market="FR"), on_discarded="fail")
    text = capsys.readouterr().out
    assert "No code that this token sees has this key (extended_id): SBX00000099." in text
    assert "also possible" not in text
    assert "does not cover" not in text


def test_unmatched_keys_of_jobs_without_a_wait_are_not_covered_in_silence(
    sandbox: Sandbox, capsys: Any
) -> None:
    upload(constraints={"lot_number": "none"}, scm_data={"market": "FR"}, wait_for_completion=False)
    assert "does not cover" not in capsys.readouterr().out
    upload(
        constraints={"lot_number": "none"},
        scm_data={"market": "FR"},
        wait_for_completion=False,
        on_unmatched="fail",
    )
    assert 'on_unmatched="fail" does not cover the jobs of this upload' in capsys.readouterr().out


def test_items_with_one_key_are_told_what_merges_them(sandbox: Sandbox) -> None:
    items = [*bottles(1, market="FR"), *bottles(1, market="DE")]
    with pytest.raises(AirflowFailException, match=r"upload them as a `source` with on_duplicate"):
        upload(items=items)
    report, _ = upload(source=items)
    assert 1 == report["codes_affected"]


def test_constraints_that_no_code_meets_are_told_as_such(sandbox: Sandbox) -> None:
    with pytest.raises(AirflowFailException, match=r"meets the constraints: lot_number=none"):
        upload(constraints={"lot_number": "none"}, scm_data={"market": "FR"}, on_unmatched="fail")


def test_refused_call_fails_at_once_and_tells_how_far_it_came(
    sandbox: Sandbox, capsys: Any, caplog: Any
) -> None:
    sandbox.seed(1950)
    sandbox.fault(path=UPLOAD, status=400, skip=1, body={"market": ["Not a market."]})
    with pytest.raises(AirflowFailException, match=r"RequestRejected: .*market: Not a market"):
        upload(items=bottles(*range(1, 2001)), mode="sync")
    said = capsys.readouterr().out + caplog.text
    assert "ended early" in said
    assert "999 codes updated by calls" in said


@pytest.mark.usefixtures("quick")
def test_outage_of_an_upload_is_left_to_the_tasks_retries(
    sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    connection = json.loads(sandbox.connection_json)
    connection["extra"] = {**connection.get("extra", {}), "retry_seconds": 1}
    monkeypatch.setenv("AIRFLOW_CONN_SCANTRUST_DEFAULT", json.dumps(connection))
    sandbox.fault(path=UPLOAD, status=503, times=None)
    with pytest.raises(exc.ServiceUnavailable, match="Gave up after"):
        upload(items=bottles(1))


@pytest.mark.usefixtures("quick")
@pytest.mark.parametrize("cut", ["before", "after"])
def test_repeated_submit_is_told(sandbox: Sandbox, cut: Any, capsys: Any, caplog: Any) -> None:
    sandbox.fault(path=SUBMIT, cut=cut)
    report, _ = upload(items=bottles(1, 2), mode="async")
    assert 2 == report["codes_affected"]
    assert (1 if cut == "before" else 2) == len(sandbox.tasks())
    assert "with unknown ids" in capsys.readouterr().out + caplog.text


def test_wrong_connection_fails_at_once(sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AIRFLOW_CONN_SCANTRUST_DEFAULT", "scantrust://:t@scantrust.test/http")
    with pytest.raises(AirflowFailException, match="ConfigurationError: Plain http"):
        upload(items=bottles(1))


@pytest.mark.parametrize(
    "context", [{}, {"ti": MagicMock()}, MagicMock()], ids=["empty", "mocked ti", "mocked"]
)
@pytest.mark.parametrize("mode", ["sync", "async"])
def test_context_made_by_hand_does(sandbox: Sandbox, mode: Any, context: Any) -> None:
    """As in the test that a user writes for a Dag."""
    for name in ("items", "source"):
        options: dict[str, Any] = {name: bottles(1, 2), "deferrable": False, "poll_interval": 0.05}
        task = ScantrustUploadOperator(task_id="upload", mode=mode, **options)
        assert 2 == task.execute(context)["codes_affected"]


@pytest.mark.parametrize("context", [{}, {"ti": MagicMock()}], ids=["empty", "mocked ti"])
def test_context_made_by_hand_is_enough_to_defer(sandbox: Sandbox, context: Any) -> None:
    sandbox.jobs(hang=True, times=2)
    for task in (
        ScantrustUploadOperator(task_id="upload", mode="async", items=bottles(1)),
        ScantrustTaskSensor(
            task_id="wait", scantrust_task_id=ScantrustHook().submit({"market": "FR"}, {"a": "b"})
        ),
    ):
        with pytest.raises(TaskDeferred):
            task.execute(context)


def test_operator_in_the_code_of_another_task_waits_on_the_worker(sandbox: Sandbox) -> None:
    """Airflow would look for execute_complete in the other task, after the upload."""
    sandbox.jobs(polls=3, times=2)
    ti = TaskInstance()
    ti.task = BaseOperator(task_id="outer")
    context: Any = {"ti": ti}
    upload_ = ScantrustUploadOperator(task_id="in", mode="async", items=bottles(1), poll_interval=0.05)
    assert 1 == upload_.execute(context)["codes_affected"]
    task_id = ScantrustHook().submit({"extended_id": [bottles(1)[0]["extended_id"]]}, {"market": "FR"})
    sensor = ScantrustTaskSensor(task_id="wait", scantrust_task_id=task_id, poke_interval=0.05)
    assert 1 == sensor.execute(context)["codes_affected"]


def test_multiple_outputs_do_not_replace_the_ids_of_all_jobs_with_the_first(
    sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("airflow_provider_scantrust.uploads.report.NAMED", 1)
    options: dict[str, Any] = {"mode": "async", "wait_for_completion": False, "multiple_outputs": True}
    report, ti = upload(items=[{**row, "market": f"M{n}"} for n, row in enumerate(bottles(1, 2))], **options)
    assert (2, ti.xcoms["task_ids"]) == (len(sandbox.tasks()), report["task_ids"])


def test_upload_goes_on_where_airflow_forgets_what_it_deferred_with(sandbox: Sandbox) -> None:
    # As `dag.test()` does, which hands on the event alone.
    sandbox.jobs(polls=3)
    task = ScantrustUploadOperator(task_id="upload", items=bottles(1, 2), mode="async", poll_interval=0.05)
    ti = TaskInstance()
    context: Any = {"ti": ti}
    with pytest.raises(TaskDeferred) as deferred:
        task.execute(context)
    event = asyncio.run(fire(deferred.value.trigger, ti))
    report = task.resume_execution("execute_complete", {"event": event.payload}, context)
    assert 2 == report["codes_affected"]


@pytest.mark.skipif(AIRFLOW_2, reason="Airflow 2 has one error for all faults of a deferral")
@pytest.mark.parametrize(
    ("options", "error"),
    [
        ({}, AirflowSensorTimeout),
        ({"execution_timeout": timedelta(minutes=1)}, AirflowTaskTimeout),
        ({"execution_timeout": timedelta(days=9)}, AirflowSensorTimeout),
    ],
)
def test_silent_triggerer_is_told_by_what_has_passed(options: dict[str, Any], error: type[Exception]) -> None:
    task = ScantrustUploadOperator(task_id="upload", items=bottles(1), **options)
    context: Any = {"ti": TaskInstance()}
    with pytest.raises(error):
        task.resume_execution("__fail__", {"error": "Trigger timeout"}, context)


def test_dry_run_wakes_no_dag_that_waits_for_codes(sandbox: Sandbox) -> None:
    ours, theirs = Asset("scantrust://api.scantrust.com/codes"), Asset("s3://bucket/done")
    task = ScantrustUploadOperator(task_id="upload", source=bottles(1), dry_run=True, outlets=[ours, theirs])
    context: Any = {"ti": TaskInstance()}
    task.execute(context)
    assert [theirs] == task.outlets


def test_paths_are_text_so_that_templates_are_rendered() -> None:
    class ObjectStoragePath:
        protocol = "s3"

        def open(self) -> None:
            """Be a path."""

        def __str__(self) -> str:
            return "s3://conn@bucket/{{ ds }}.csv"

    for given in (Path("/data/{{ ds }}.csv"), ObjectStoragePath()):
        task = ScantrustUploadOperator(task_id="upload", source=given, rejects_path=given)  # type: ignore[arg-type]
        assert [str(given)] * 2 == [task.source, task.rejects_path]
    rows = [{"extended_id": "A", "market": "FR"}]
    assert rows is ScantrustUploadOperator(task_id="rows", source=rows).source
