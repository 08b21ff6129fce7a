"""The link to the portal: right where it is known, and silent where it is not."""

from __future__ import annotations

import json
from types import SimpleNamespace
from typing import Any

import pytest

from airflow_provider_scantrust.get_provider_info import get_provider_info
from airflow_provider_scantrust.links.scantrust import ScantrustPortalLink, ScantrustReportLink
from airflow_provider_scantrust.operators.scantrust import ScantrustUploadOperator
from airflow_provider_scantrust.plugins import HAS_PAGES, rows
from airflow_provider_scantrust.sensors.scantrust import ScantrustTaskSensor

KEY: Any = None
TOKEN = "token-4711"


def connect(monkeypatch: pytest.MonkeyPatch, conn_id: str = "SCANTRUST_DEFAULT", **fields: Any) -> None:
    connection = {"conn_type": "scantrust", "password": TOKEN, **fields}
    monkeypatch.setenv(f"AIRFLOW_CONN_{conn_id}", json.dumps(connection))


def link_of(operator: Any) -> str:
    return ScantrustPortalLink().get_link(operator, ti_key=KEY)


@pytest.mark.parametrize(
    ("fields", "url"),
    [
        ({}, "https://portal.scantrust.com/#/"),
        ({"extra": {"portal_url": "https://portal.example.com/"}}, "https://portal.example.com/"),
        ({"host": "https://api.staging.example.com"}, ""),
        ({"extra": {"portal_url": "javascript:alert(1)"}}, ""),
        ({"host": "ftp://example.com"}, ""),
    ],
    ids=["production", "portal_url", "unknown environment", "no web address", "connection that cannot work"],
)
@pytest.mark.parametrize(
    "operator",
    [
        ScantrustUploadOperator(task_id="upload", items=[]),
        ScantrustTaskSensor(task_id="wait", scantrust_task_id="t-1"),
    ],
    ids=["operator", "sensor"],
)
def test_portal_is_that_of_the_connection(
    monkeypatch: pytest.MonkeyPatch, operator: Any, fields: dict[str, Any], url: str
) -> None:
    connect(monkeypatch, **fields)
    assert url == link_of(operator)


def test_missing_connection_makes_no_link_and_no_noise(caplog: pytest.LogCaptureFixture) -> None:
    operator = ScantrustUploadOperator(task_id="upload", items=[], scantrust_conn_id="nowhere")
    assert "" == link_of(operator)
    # Airflow 2 itself says that it has no database here.
    ours = [record for record in caplog.records if record.name != "airflow.models.connection"]
    assert not [record for record in ours if record.levelname in ("WARNING", "ERROR")]


def test_hook_that_the_task_has_used_is_used_again(monkeypatch: pytest.MonkeyPatch) -> None:
    connect(monkeypatch)
    operator = ScantrustUploadOperator(task_id="upload", items=[])
    assert operator.hook.settings.portal_url
    connect(monkeypatch, extra={"portal_url": "https://changed.example.com/"})
    assert "https://portal.scantrust.com/#/" == link_of(operator)


def test_mapped_task_of_airflow_2_is_asked_for_its_partial_arguments(monkeypatch: pytest.MonkeyPatch) -> None:
    connect(monkeypatch, "OTHER", extra={"portal_url": "https://other.example.com/"})
    assert "https://other.example.com/" == link_of(
        SimpleNamespace(partial_kwargs={"scantrust_conn_id": "other"})
    )


@pytest.mark.parametrize("operator", [ScantrustUploadOperator, ScantrustTaskSensor])
def test_links_are_declared_for_airflow(operator: Any) -> None:
    links = operator.operator_extra_links
    assert ["Scantrust portal", "Scantrust report"][: 2 if HAS_PAGES else 1] == [link.name for link in links]
    declared = get_provider_info()["extra-links"]
    assert {f"{type(link).__module__}.{type(link).__name__}" for link in links} <= set(declared)


@pytest.mark.parametrize(
    ("map_index", "mapped"), [(-1, ""), (None, ""), (0, "/mapped/0"), (12, "/mapped/12")]
)
def test_report_link_leads_to_the_tab_of_the_task_instance(
    monkeypatch: pytest.MonkeyPatch, map_index: int | None, mapped: str
) -> None:
    monkeypatch.setenv("AIRFLOW__API__BASE_URL", "https://airflow.example.com/team/")
    key: Any = SimpleNamespace(dag_id="d", run_id="manual__1+00:00", task_id="g.t", map_index=map_index)
    path = ScantrustReportLink().get_link(SimpleNamespace(), ti_key=key)  # type: ignore[arg-type]
    tab = "plugin/scantrust-task-instance"
    assert f"/team/dags/d/runs/manual__1%2B00%3A00/tasks/g.t{mapped}/{tab}" == path


@pytest.mark.skipif(not HAS_PAGES, reason="Airflow 2 keeps no links, and has no page")
def test_the_page_knows_tasks_by_the_key_of_the_link() -> None:
    assert rows.LINK_KEY == ScantrustPortalLink().xcom_key
