"""The plugin as Airflow loads it, in every process and in every version."""

from __future__ import annotations

import importlib
import json
import subprocess
import sys
from collections.abc import Iterator
from datetime import UTC, datetime
from importlib.metadata import entry_points
from pathlib import Path
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
from page_rows import FAILED, NOW, REPORT, row_of

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


def jobs_of(state: str, xcoms: dict[str, Any], ended: dict[str, Any] | None = None) -> list[list[str]]:
    return [each[:2] for each in row_of(state, xcoms, ended)["jobs"]]


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
        for more in ({"run_id": "r"}, {"days": 366}, {"dag_id": "d", "run_id": "r"}):
            options: dict[str, Any] = {"task_id": "upload", "map_index": -1, **more}
            answer = internals.get_uploads(session, {"d"}, **options)
            (row,) = json.loads(answer.body)["uploads"]
            assert [["a", "complete", 1, None]] == row["jobs"]
        for other in ({"run_id": "s"}, {"dag_id": "e"}, {"task_id": "x"}, {"map_index": 0}):
            assert b'"uploads": []' in bytes(internals.get_uploads(session, {"d"}, **other).body)


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
        (row,) = internals.find_uploads(session, {"d"}, internals.DagRun.run_id == "r", limit=9, now=NOW)
        assert ({"a": job} if job else {}, codes) == (
            {each[0]: each[1] for each in row["jobs"]},
            row["codes"],
        )
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
        history(session, {"bad": ("ScantrustUploadOperator", "success", good), "good": (*UPLOAD[:2], good)})
        place = {"dag_id": "d", "run_id": "r", "map_index": -1, "rendered_fields": {"source": "a.csv"}}
        for task_id in ("bad", "good"):
            session.execute(insert(RenderedTaskInstanceFields.__table__).values(**place, task_id=task_id))
        column = "value" if table == "xcom" else "rendered_fields"
        session.execute(text(f"UPDATE {table} SET {column} = :v WHERE task_id = 'bad'"), {"v": stored})
        bad, read = internals.find_uploads(session, {"d"}, internals.DagRun.run_id == "r", limit=9, now=NOW)
        assert (2, "a.csv") == (read["rows"], read["source"])
        assert bad["rows"] is None if table == "xcom" else bad["source"] is None
        assert json.loads(rows.as_json([bad, read]))
