"""Writes a long history into the SQLite database of a local Airflow, as copies of a run that it has made."""

from __future__ import annotations

import json
import random
import sqlite3
import uuid
from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from urllib.parse import quote

Row = dict[str, Any]


def copy_upload(
    database: Path, dag_id: str, run_id: str, task_id: str, *, copies: int, days: float, other_tasks: int = 0
) -> None:
    """
    Make so many runs of one upload each, at even distances over the last days; about every tenth has a problem.

    :param task_id: A task of the run that returned a report.
    :param other_tasks: Tasks of each run that are no upload.
    """
    chance = random.Random(1)  # noqa: S311 - figures of a made-up history
    connection = sqlite3.connect(database, timeout=60)
    connection.row_factory = sqlite3.Row
    where = "dag_id = ? AND run_id = ?"
    run = _one(connection, f"SELECT * FROM dag_run WHERE {where}", dag_id, run_id)
    task = _one(
        connection, f"SELECT * FROM task_instance WHERE {where} AND task_id = ?", dag_id, run_id, task_id
    )
    xcoms = [
        dict(row)
        for row in connection.execute(
            f"SELECT * FROM xcom WHERE {where} AND task_id = ?", (dag_id, run_id, task_id)
        )
    ]
    first_id = connection.execute("SELECT max(id) FROM dag_run").fetchone()[0] + 1
    runs: list[Row] = []
    tasks: list[Row] = []
    values: list[Row] = []
    for number in range(copies):
        start = datetime.now(UTC) - timedelta(days=days * (number + 1) / (copies + 1))
        seconds = chance.uniform(1, 600)
        name = f"scheduled__{start.isoformat()}"
        times = {"start_date": _stamp(start), "end_date": _stamp(start + timedelta(seconds=seconds))}
        due = {"run_after": _stamp(start), "logical_date": _stamp(start)}
        runs.append({**run, **due, **times, "id": first_id + number, "run_id": name})
        state = "failed" if number % 40 == 0 else "success"
        tasks.append(
            {**task, **times, "id": uuid.uuid4().hex, "run_id": name, "duration": seconds, "state": state}
        )
        tasks += [
            {
                **tasks[-1],
                "id": uuid.uuid4().hex,
                "task_id": f"other_{other}",
                "operator": "PythonOperator",
                "state": "success",
            }
            for other in range(other_tasks)
        ]
        for xcom in xcoms:
            value = json.loads(xcom["value"])
            key = xcom["key"]
            if key == "return_value" and state == "failed":
                key = "failure"
                value = {"error": "ServiceUnavailable", "message": "Scantrust answered 503 for 300 s."}
                value |= {"try_number": task["try_number"], "permanent": False}
            elif key == "return_value":
                unmatched = {"count": chance.randrange(1, 99), "examples": ["0A70568137"]}
                value |= {"codes_affected": chance.randrange(5000), "seconds": round(seconds, 3)}
                value |= {"unmatched": unmatched} if number % 13 == 0 else {}
                value |= {"mode": "async", "task_ids": [str(uuid.uuid4())]} if number % 2 else {}
            elif key == "_link_ScantrustReportLink":
                value = value.replace(quote(run_id, safe=""), quote(name, safe=""))
            values.append(
                {
                    **xcom,
                    "dag_run_id": first_id + number,
                    "run_id": name,
                    "key": key,
                    "value": json.dumps(value),
                }
            )
    for table, rows in (("dag_run", runs), ("task_instance", tasks), ("xcom", values)):
        _insert(connection, table, rows)
    connection.commit()
    connection.close()


def _one(connection: sqlite3.Connection, query: str, *values: Any) -> Row:
    return dict(connection.execute(query, values).fetchone())


def _insert(connection: sqlite3.Connection, table: str, rows: Iterable[Row]) -> None:
    rows = list(rows)
    names = ", ".join(f'"{name}"' for name in rows[0])
    marks = ", ".join("?" * len(rows[0]))
    connection.executemany(
        f"INSERT INTO {table} ({names}) VALUES ({marks})", [tuple(row.values()) for row in rows]
    )


def _stamp(moment: datetime) -> str:
    return moment.strftime("%Y-%m-%d %H:%M:%S.%f")
