"""The plugin as Airflow loads it, in every process and in every version."""

from __future__ import annotations

import importlib
import subprocess
import sys
from importlib.metadata import entry_points
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from urllib.parse import urlsplit

import airflow
import pytest

from airflow_provider_scantrust import __version__
from airflow_provider_scantrust.get_provider_info import get_provider_info
from airflow_provider_scantrust.plugins import scantrust as plugin

datamodels: Any = pytest.importorskip(
    "airflow.api_fastapi.core_api.datamodels.plugins", reason="Airflow 3.1 has pages of plugins"
)
uploads: Any = importlib.import_module("airflow_provider_scantrust.plugins.uploads")
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
    monkeypatch.setattr(airflow, "__version__", version)
    try:
        old = importlib.reload(plugin).ScantrustPlugin
        assert ([], []) == (old.fastapi_apps, old.react_apps)
    finally:
        monkeypatch.undo()
        importlib.reload(plugin)


def test_loading_the_plugin_imports_no_web_framework() -> None:
    code = "import sys, airflow_provider_scantrust.plugins.scantrust; print('fastapi' in sys.modules)"
    before = "import sys, airflow.plugins_manager; print('fastapi' in sys.modules)"
    assert b"False" in subprocess.check_output([sys.executable, "-c", before])
    assert b"False" in subprocess.check_output([sys.executable, "-c", code])


def jobs_of(state: str, xcoms: dict[str, Any], ended: dict[str, Any] | None = None) -> list[list[str]]:
    names = ("dag_id", "run_id", "task_id", "start_date", "end_date")
    task = SimpleNamespace(
        **dict.fromkeys(names), map_index=-1, state=state, try_number=1, operator="ScantrustUploadOperator"
    )
    jobs: list[list[str]] = uploads._row(task, xcoms, ended or {})["jobs"]
    return jobs


FAILED = {"jobs": 2, "failed": 1, "task_ids": ["z"]}
REPORT = {"mode": "async", "rows": 2, "codes_affected": 1, "task_ids": ["a"]}


@pytest.mark.parametrize(
    ("state", "xcoms", "ended", "job"),
    [
        ("success", {"return_value": REPORT}, {}, "complete"),
        # It waited, and failed because of what it counted then.
        ("failed", {"report": REPORT, "task_ids": ["a"]}, {}, "complete"),
        ("failed", {"report": {**REPORT, "codes_affected": None}}, {}, "not known"),
        ("failed", {"task_ids": ["a"]}, {}, "not known"),
        # Its wait has seen all jobs end, and names those that failed.
        ("failed", {"task_ids": ["a"], "failed_jobs": FAILED}, {"z": "failed"}, "complete"),
        (
            "failed",
            {"task_ids": ["a"], "failed_jobs": {**FAILED, "failed": 200}},
            {"z": "failed"},
            "not known",
        ),
        ("success", {"return_value": {**REPORT, "codes_affected": None}}, {"a": "failed"}, "failed"),
        # An XCom backend that keeps values elsewhere leaves their address here.
        ("failed", {"task_ids": "s3://xcom/1", "failed_jobs": "s3://xcom/2"}, {"a": "complete"}, None),
        ("up_for_retry", {"task_ids": ["a"]}, {}, "not known"),
        ("success", {"return_value": {**REPORT, "codes_affected": None}}, {}, "not known"),
        ("success", {"return_value": {**REPORT, "codes_affected": None}}, {"a": "complete"}, "complete"),
        ("deferred", {"task_ids": ["a"]}, {}, "waited for"),
        ("running", {"task_ids": ["a"]}, {}, "waited for"),
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
