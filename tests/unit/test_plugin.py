"""The plugin as Airflow loads it, in every process and in every version."""

from __future__ import annotations

import importlib
import json
import subprocess
import sys
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from importlib.metadata import entry_points
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from urllib.parse import urlsplit
from uuid import uuid4

import airflow
import pytest
from sqlalchemy.orm import Session

from airflow_provider_scantrust import __version__
from airflow_provider_scantrust.get_provider_info import get_provider_info
from airflow_provider_scantrust.plugins import problems, rows
from airflow_provider_scantrust.plugins import scantrust as plugin

datamodels: Any = pytest.importorskip(
    "airflow.api_fastapi.core_api.datamodels.plugins", reason="Airflow 3.1 has pages of plugins"
)
internals: Any = importlib.import_module("airflow_provider_scantrust.plugins.internals")
STATIC = Path(plugin.__file__).parent / "static"


def test_airflow_finds_the_plugin_in_either_way() -> None:
    (entry,) = entry_points(group="airflow.plugins", name="scantrust")
    assert plugin.ScantrustPlugin is entry.load()
    (declared,) = get_provider_info()["plugins"]
    assert entry.value.replace(":", ".") == declared["plugin-class"]
    assert plugin.ScantrustPlugin.name == declared["name"]


def test_apps_are_what_airflows_api_hands_to_its_ui() -> None:
    apps = [datamodels.ReactAppResponse.model_validate(each) for each in plugin.ScantrustPlugin.react_apps]
    assert {"nav", "dag", "dag_run", "task", "task_instance"} == {app.destination for app in apps}
    assert len({app.url_route for app in apps}) == len(apps)
    # The bundle leaves its component under this name, for all of them.
    assert {"Scantrust"} == {app.name for app in apps}
    for app in apps:
        for url in (app.bundle_url, app.icon, app.icon_dark_mode):
            prefix, _, name = str(url).rpartition("/")
            assert f"{plugin.URL_PREFIX}/static/{__version__}" == prefix
            assert (STATIC / name).is_file()


def test_files_of_the_page_are_found_from_where_airflow_is_mounted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AIRFLOW__API__BASE_URL", "https://airflow.example.com/team/")
    for app in plugin._react_apps():
        assert urlsplit(app["bundle_url"]).path.startswith("/team/scantrust/static/")


@pytest.mark.parametrize("version", ["2.11.2", "3.0.6"])
def test_airflow_before_3_1_gets_no_page(monkeypatch: pytest.MonkeyPatch, version: str) -> None:
    package = sys.modules["airflow_provider_scantrust.plugins"]
    monkeypatch.setattr(airflow, "__version__", version)
    try:
        importlib.reload(package)
        old = importlib.reload(plugin).ScantrustPlugin
        assert ([], []) == (old.fastapi_apps, old.react_apps)
    finally:
        monkeypatch.undo()
        importlib.reload(package)
        importlib.reload(plugin)


def test_where_airflows_parts_have_changed_the_page_says_so_and_its_files_are_served(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    from fastapi.testclient import TestClient

    from airflow_provider_scantrust.plugins.app import make_app

    # None: the import of this module fails, as when a name of Airflow's is gone.
    monkeypatch.setitem(sys.modules, "airflow_provider_scantrust.plugins.internals", None)
    with TestClient(make_app()) as client:
        assert 501 == client.get("/uploads").status_code
        assert 200 == client.get(f"/static/{__version__}/page.js").status_code


def test_loading_the_plugin_imports_no_web_framework() -> None:
    code = "import sys, airflow_provider_scantrust.plugins.scantrust; print('fastapi' in sys.modules)"
    before = "import sys, airflow.plugins_manager; print('fastapi' in sys.modules)"
    assert b"False" in subprocess.check_output([sys.executable, "-c", before])
    assert b"False" in subprocess.check_output([sys.executable, "-c", code])


NOW = datetime(2026, 11, 2, 7, tzinfo=UTC)


def row_of(
    state: str | None,
    xcoms: dict[str, Any],
    ended: dict[str, Any] | None = None,
    fields: Any = None,
    **of_task: Any,
) -> dict[str, Any]:
    names = ("dag_id", "run_id", "run_state", "task_id", "start_date", "end_date", "note")
    task = {
        **dict.fromkeys(names),
        "run_after": NOW,
        "map_index": -1,
        "state": state,
        "try_number": 1,
        "max_tries": 2,
        "operator": "ScantrustUploadOperator",
        **of_task,
    }
    jobs = {job: rows.EndedJob(how, None, None) for job, how in (ended or {}).items()}
    row: dict[str, Any] = rows.make_row(SimpleNamespace(**task), xcoms, fields, jobs, now=NOW)
    return row


def jobs_of(state: str, xcoms: dict[str, Any], ended: dict[str, Any] | None = None) -> list[list[str]]:
    return [each[:2] for each in row_of(state, xcoms, ended)["jobs"]]


FAILED = {"jobs": 2, "failed": 1, "task_ids": ["z"]}
REPORT = {"mode": "async", "rows": 2, "codes_affected": 1, "task_ids": ["a"]}


@pytest.mark.parametrize(
    ("state", "xcoms", "ended", "job"),
    [
        ("success", {"return_value": REPORT}, {}, "complete"),
        # It waited, and failed because of what it counted then.
        ("failed", {"report": REPORT, "task_ids": ["a"]}, {}, "complete"),
        ("failed", {"report": {**REPORT, "codes_affected": None}}, {}, "unknown"),
        ("failed", {"task_ids": ["a"]}, {}, "unknown"),
        # Its wait has seen all jobs end, and names those that failed.
        ("failed", {"task_ids": ["a"], "failed_jobs": FAILED}, {"z": "failed"}, "complete"),
        (
            "failed",
            {"task_ids": ["a"], "failed_jobs": {**FAILED, "failed": 200}},
            {"z": "failed"},
            "unknown",
        ),
        ("success", {"return_value": {**REPORT, "codes_affected": None}}, {"a": "failed"}, "failed"),
        # An XCom backend that keeps values elsewhere leaves their address here.
        ("failed", {"task_ids": "s3://xcom/1", "failed_jobs": "s3://xcom/2"}, {"a": "complete"}, None),
        ("up_for_retry", {"task_ids": ["a"]}, {}, "unknown"),
        ("success", {"return_value": {**REPORT, "codes_affected": None}}, {}, "unknown"),
        ("success", {"return_value": {**REPORT, "codes_affected": None}}, {"a": "complete"}, "complete"),
        ("deferred", {"task_ids": ["a"]}, {}, "waiting"),
        ("running", {"task_ids": ["a"]}, {}, "waiting"),
    ],
)
def test_job_is_as_airflow_knows_it(
    state: str, xcoms: dict[str, Any], ended: dict[str, str], job: str | None
) -> None:
    states = dict(jobs_of(state, xcoms, ended))
    assert job == states.pop("a", None)
    assert set(states.values()) <= {"failed"}


def test_jobs_that_failed_come_first_though_only_some_are_listed() -> None:
    xcoms = {
        "task_ids": [f"t-{number}" for number in range(30)],
        "failed_jobs": {**FAILED, "task_ids": ["t-29"]},
    }
    jobs = jobs_of("failed", xcoms, {"t-29": "failed"})
    assert (20, ["t-29", "failed"], ["t-0", "complete"]) == (len(jobs), *jobs[:2])


ODD = [None, 3, -1, 1e999, 10**400, "text", [], [3, ["a"]], {}, {"a": [1]}, {"a": 10**400}, True]


@pytest.mark.parametrize("odd", ODD, ids=lambda odd: repr(odd)[:20])
@pytest.mark.parametrize(
    "name",
    ["unmatched", "task_ids", "rejected", "discarded_fields", "codes_affected", "rows", "seconds", "jobs"],
)
def test_no_xcom_of_other_peoples_making_takes_the_page_down(name: str, odd: Any) -> None:
    shape = row_of("success", {"return_value": REPORT})
    for xcoms in (
        {"return_value": {**REPORT, name: odd}},
        {"return_value": {"codes_affected": 1, "tasks": odd, name: odd}},
        {"return_value": odd, "report": odd, "task_ids": odd, "failed_jobs": {"task_ids": odd, name: odd}},
        {"return_value": {**REPORT, "unmatched": {"count": odd, "examples": odd}}, "failed_jobs": odd},
    ):
        seen = rows.ended_jobs({(1, "t", -1): xcoms}, {})[1]
        row = row_of("success", xcoms, {job: each.state for job, each in seen.items()})
        problems.open_problems([row])
        rows.as_json(row)
        assert {*shape, "needs_attention"} == set(row)
        for key in ("rows", "calls", "codes", "unmatched", "seconds", "jobs_total"):
            assert row[key] is None or type(row[key]) in (int, float)
        for key in ("examples", "discarded"):
            assert all(isinstance(text, str) for text in row[key] or [])
        assert all(isinstance(count, int) for count in row["rejected"].values())


def test_dry_run_is_told_from_an_upload() -> None:
    plan = {"mode": "sync", "rows": 5, "keys": 2, "rejected": 3, "sync_calls": 1, "jobs": 0}
    row = row_of("success", {"return_value": plan})
    assert ("dry run", 5, None, {"not valid": 3}) == (
        row["mode"],
        row["rows"],
        row["codes"],
        row["rejected"],
    )


def test_wait_for_more_jobs_than_its_result_names_has_seen_them_end() -> None:
    result = {"codes_affected": 149, "jobs": 150, "tasks": {"a": 0}}
    row = row_of("success", {"return_value": result})
    assert (150, "a", "complete") == (row["jobs_total"], *row["jobs"][0][:2])


@pytest.fixture(scope="module")
def database() -> Iterator[Any]:
    """Airflow's own tables, without Airflow."""
    from airflow.models import import_all_models
    from airflow.models.base import Base
    from sqlalchemy import create_engine

    import_all_models()  # type: ignore[no-untyped-call]
    engine = create_engine("sqlite://")
    Base.metadata.create_all(engine)
    yield engine
    engine.dispose()


def history(session: Any, tasks: dict[str, tuple[str, str | None, dict[str, Any]]]) -> None:
    """Write one running run: task_id -> operator, state and XComs."""
    from airflow.models.dagrun import DagRun
    from airflow.models.taskinstance import TaskInstance
    from airflow.models.xcom import XComModel
    from sqlalchemy import insert

    place = {"dag_id": "d", "run_id": "r"}
    now = datetime.now(UTC)
    session.execute(
        insert(DagRun.__table__).values(
            **place, id=1, state="running", run_type="manual", run_after=now, clear_number=0
        )
    )
    for task_id, (operator, state, xcoms) in tasks.items():
        of_task = {**place, "task_id": task_id, "map_index": -1}
        session.execute(
            insert(TaskInstance.__table__).values(
                **of_task,
                # A UUID, or the text of one before Airflow 3.3.
                id=TaskInstance.__table__.c.id.type.python_type(str(uuid4())),
                operator=operator,
                state=state,
                try_number=1,
                max_tries=0,
                pool="default_pool",
                pool_slots=1,
            )
        )
        for key, value in xcoms.items():
            session.execute(
                insert(XComModel.__table__).values(
                    **of_task, dag_run_id=1, key=key, value=value, timestamp=now
                )
            )


UPLOAD = ("ScantrustUploadOperator", "success", {"return_value": {**REPORT, "codes_affected": None}})


def test_tab_of_a_task_knows_what_a_sensor_of_the_same_run_has_seen(database: Any) -> None:
    with Session(database) as session:
        wait = ("ScantrustTaskSensor", "success", {"return_value": {"codes_affected": 1, "tasks": {"a": 1}}})
        history(session, {"upload": UPLOAD, "wait": wait})
        of_task = internals._of_task("upload", -1)
        (row,) = internals.find_uploads(session, {"d"}, of_task=of_task, limit=9, now=NOW)
        assert [["a", "complete", 1, None]] == row["jobs"]


@pytest.mark.parametrize(
    ("state", "xcoms", "job", "codes"),
    [
        # It failed, was cleared, and started in the triggerer, which clears no XComs.
        (
            "success",
            {"failed_jobs": FAILED, "return_value": {"codes_affected": 1, "tasks": {"a": 1}}},
            "complete",
            1,
        ),
        ("deferred", {"return_value": {"codes_affected": 1, "tasks": {"a": 1}}}, None, None),
        (None, {"failed_jobs": FAILED}, None, None),
    ],
)
def test_what_an_earlier_try_has_left_is_not_taken_for_this_one(
    database: Any, state: str | None, xcoms: dict[str, Any], job: str | None, codes: int | None
) -> None:
    with Session(database) as session:
        history(session, {"wait": ("ScantrustTaskSensor", state, xcoms)})
        (row,) = internals.find_uploads(session, {"d"}, run_id="r", limit=9, now=NOW)
        assert ({"a": job} if job else {}, codes) == ({each[0]: each[1] for each in row["jobs"]}, row["codes"])
        assert row["run_is_active"]


BROKEN = {
    "NaN": '{"mode": "sync", "rows": NaN, "codes_affected": 1}',
    "infinite": '{"mode": "sync", "rows": 1e999, "codes_affected": 1}',
    "nested": "[" * 100_000 + "]" * 100_000,
    "long number": '{"mode": "sync", "rows": ' + "9" * 5_000 + ', "codes_affected": 1}',
    "no JSON": "{",
}


@pytest.mark.parametrize("stored", BROKEN.values(), ids=BROKEN)
@pytest.mark.parametrize("table", ["xcom", "rendered_task_instance_fields"])
def test_value_that_no_browser_reads_hides_no_other_upload(database: Any, stored: str, table: str) -> None:
    from airflow.models.renderedtifields import RenderedTaskInstanceFields
    from sqlalchemy import insert, text

    with Session(database) as session:
        good = {"return_value": REPORT}
        history(
            session, {"bad": ("ScantrustUploadOperator", "success", good), "good": (*UPLOAD[:2], good)}
        )
        place = {"dag_id": "d", "run_id": "r", "map_index": -1, "rendered_fields": {"source": "a.csv"}}
        for task_id in ("bad", "good"):
            session.execute(insert(RenderedTaskInstanceFields.__table__).values(**place, task_id=task_id))
        column = "value" if table == "xcom" else "rendered_fields"
        session.execute(text(f"UPDATE {table} SET {column} = :v WHERE task_id = 'bad'"), {"v": stored})  # noqa: S608
        bad, read = internals.find_uploads(session, {"d"}, run_id="r", limit=9, now=NOW)
        assert (2, "a.csv") == (read["rows"], read["source"])
        assert bad["rows"] is None if table == "xcom" else bad["source"] is None
        assert json.loads(rows.as_json([bad, read]))


FULL = {**REPORT, "mode": "sync", "rows": 9, "codes_affected": 9, "task_ids": [], "discarded_fields": []}


def texts_of(row: dict[str, Any]) -> list[str]:
    return [each["text"] for each in row["problems"]]


@pytest.mark.parametrize(
    ("state", "xcoms", "texts"),
    [
        ("success", {"return_value": FULL}, []),
        ("success", {"return_value": {**FULL, "discarded_fields": None}}, []),
        ("success", {"return_value": {**FULL, "discarded_fields": ["colour"]}}, ["1 field ignored: colour"]),
        (
            "success",
            {"return_value": {**FULL, "discarded_fields": list("abcdefg")}},
            ["7 fields ignored: a, b, c, d, e and 2 more"],
        ),
        ("success", {"return_value": {**FULL, "unmatched": {"count": 5}}}, ["5 unknown keys"]),
        (
            "success",
            {"return_value": {**FULL, "rejected": {"refused": 2, "invalid": 1}}},
            ["3 rows rejected (2 refused, 1 invalid)"],
        ),
        ("success", {"return_value": {**FULL, "codes_affected": 0}}, ["No code updated by 9 rows"]),
        ("success", {"return_value": {**FULL, "rows": 0, "codes_affected": 0}}, []),
        ("success", {"return_value": {"codes_affected": 0, "tasks": {"a": 0}}}, ["No code updated by 1 job"]),
        (
            "failed",
            {"failure": {"error": "TokenRefused", "message": "Scantrust refused the token.", "try_number": 1}},
            ["TokenRefused: Scantrust refused the token."],
        ),
        # From an earlier try.
        (
            "failed",
            {"failure": {"error": "TokenRefused", "message": "Old.", "try_number": 7}},
            ["No reason was recorded. The log has more."],
        ),
        ("failed", {}, ["No reason was recorded. The log has more."]),
        ("upstream_failed", {}, ["An upstream task failed, so this task did not run."]),
        ("failed", {"failed_jobs": FAILED}, ["No reason was recorded. The log has more.", "1 of 2 jobs failed"]),
        ("running", {}, []),
    ],
)
def test_row_says_why_it_needs_attention(state: str, xcoms: dict[str, Any], texts: list[str]) -> None:
    row = row_of(state, xcoms)
    problems.open_problems([row])
    assert (texts, bool(texts)) == (texts_of(row), row["needs_attention"])


@pytest.mark.parametrize(("hours", "text"), [(23, None), (24, "State of 1 job unknown for 1 day")])
def test_job_that_nothing_waits_for_needs_attention_after_a_day(hours: int, text: str | None) -> None:
    report = {**FULL, "codes_affected": None, "jobs": 1, "task_ids": ["a"]}
    row = row_of("success", {"return_value": report}, end_date=NOW - timedelta(hours=hours))
    assert ([text] if text else []) == texts_of(row)


def test_failed_try_that_airflow_repeats_needs_no_attention_and_says_why() -> None:
    row = row_of("up_for_retry", {"failure": {"error": "ServiceUnavailable", "message": "503", "try_number": 1}})
    problems.open_problems([row])
    assert (["ServiceUnavailable: 503"], False) == (texts_of(row), row["needs_attention"])


def run_of(hours: int, state: str = "success", task_id: str = "t", **report: Any) -> dict[str, Any]:
    due = {"run_id": str(hours), "task_id": task_id, "dag_id": "d", "run_after": NOW + timedelta(hours=hours)}
    return row_of(state, {"return_value": {**FULL, **report}} if state == "success" else {}, **due)


KEYS_UNKNOWN = {"unmatched": {"count": 5}}
IGNORED = {"discarded_fields": ["colour"]}


@pytest.mark.parametrize(
    ("later", "needs_attention"),
    [
        ([], True),
        ([run_of(1)], False),
        ([run_of(1, "failed")], True),
        ([run_of(1, task_id="other")], True),
        ([run_of(-1)], True),
        # Without this problem, with another one.
        ([run_of(1, **IGNORED)], False),
        ([run_of(1, **KEYS_UNKNOWN)], True),
        ([run_of(2, **KEYS_UNKNOWN), run_of(1)], False),
    ],
)
@pytest.mark.parametrize("is_elsewhere", [True, False], ids=["outside", "listed"])
def test_problem_is_gone_when_a_later_run_succeeds_without_it(
    later: list[dict[str, Any]], needs_attention: bool, is_elsewhere: bool
) -> None:
    row = run_of(0, **KEYS_UNKNOWN)
    shown = sorted([row, *([] if is_elsewhere else later)], key=lambda each: each["due"], reverse=True)
    problems.open_problems(shown, later if is_elsewhere else [])
    assert needs_attention == row["needs_attention"]


def test_dry_run_clears_no_problem() -> None:
    plan = {"mode": "sync", "rows": 5, "rejected": 0, "sync_calls": 1}
    dry = row_of("success", {"return_value": plan}, run_after=NOW + timedelta(hours=1))
    row = row_of("success", {"return_value": {**FULL, **IGNORED}})
    problems.open_problems([dry, row])
    assert row["needs_attention"]


@pytest.mark.parametrize(
    ("note", "needs_attention"),
    [
        (None, True),
        ("Scantrust: acknowledged (try 1)", False),
        ("Seen by Ann.\nScantrust: acknowledged (try 1)", False),
        # Another try has to be acknowledged again.
        ("Scantrust: acknowledged (try 2)", True),
        ("not Scantrust: acknowledged (try 1)", True),
    ],
)
def test_note_acknowledges_the_problems_of_its_try(note: str | None, needs_attention: bool) -> None:
    row = row_of("success", {"return_value": {**FULL, **KEYS_UNKNOWN}}, note=note)
    problems.open_problems([row])
    assert (needs_attention, not needs_attention) == (row["needs_attention"], row["acknowledged"])


def test_report_card_has_what_the_report_says() -> None:
    report = {**FULL, "reason": "few rows", "rejects_path": "/r.csv", "jobs": 1501, "task_ids": ["a"]}
    row = row_of("success", {"return_value": report}, fields={"source": "/d.csv", "scantrust_conn_id": "b"})
    known = {name: row[name] for name in ("mode_reason", "rejects_path", "jobs_total", "source", "connection")}
    assert {
        "mode_reason": "few rows",
        "rejects_path": "/r.csv",
        "jobs_total": 1501,
        "source": "/d.csv",
        "connection": "b",
    } == known
