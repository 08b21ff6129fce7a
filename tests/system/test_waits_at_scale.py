"""
Mapped sensors and two sensors on very many ids, all deferred at once, and a triggerer that is killed while they end.

One of the two starts and ends without a worker. ``make waits-at-scale`` runs it with a thousand mapped sensors
and five thousand ids for each of the two, which takes a quarter of an hour.
"""

from __future__ import annotations

import json
import os
import sqlite3
import threading
import time
from collections import Counter
from collections.abc import Callable, Collection, Iterator
from contextlib import closing, contextmanager
from datetime import UTC, datetime
from typing import Any

import pytest
import requests

import reliability_page
from airflow_provider_scantrust.sandbox import Sandbox
from local_airflow import LocalAirflow

MAPPED = int(os.environ.get("MAPPED", "10"))
# More than the row of a trigger holds.
MANY = int(os.environ.get("MANY", "900"))
# After so many seconds without a heartbeat Airflow takes a triggerer for dead, and another one runs its
# triggers too. That is its default; these tests have a shorter one, to see kills soon.
TAKEN_FOR_DEAD = 30.0
# Of the mapped sensors, one in ten waits for a job that fails.
FAILED = MAPPED // 10
# Seconds that starting workers takes, and seconds that asking for each job twice does, with much to spare.
PATIENCE = 120 + 5 * MAPPED + (MAPPED + 2 * MANY) / 5
ON_MANY = ("ids_from_a_task", "ids_from_a_task_without_worker")


class Heart:
    """
    The heartbeat of the triggerer, as it is in the database; looked at each second.

    :param worst: Seconds that it was old at most, from each start of the triggerer on.
    """

    def __init__(self, airflow: LocalAirflow) -> None:
        self.worst = 0.0
        self.looked = 0
        self._airflow = airflow
        self._is_killed = threading.Event()
        self._ended = threading.Event()

    @contextmanager
    def watched(self) -> Iterator[None]:
        """Look at it until the block ends."""
        thread = threading.Thread(target=self._watch)
        thread.start()
        try:
            yield
        finally:
            self._ended.set()
            thread.join()

    @contextmanager
    def killed(self) -> Iterator[None]:
        """Do not look at it in this block."""
        self._is_killed.set()
        yield
        self._is_killed.clear()

    def _watch(self) -> None:
        query = "SELECT max(latest_heartbeat) FROM job WHERE job_type = 'TriggererJob'"
        while not self._ended.wait(1):
            ((beat,),) = read(self._airflow, query)
            age = (datetime.now(UTC) - datetime.fromisoformat(beat).replace(tzinfo=UTC)).total_seconds()
            # Also when it was killed while this looked.
            if not self._is_killed.is_set():
                self.worst = max(self.worst, age)
                self.looked += 1


def read(airflow: LocalAirflow, query: str, *values: str) -> list[Any]:
    """Ask the database: thousands of tasks are too much to ask the API for again and again."""
    database = sqlite3.connect(f"file:{airflow.home / 'airflow.db'}?mode=ro", uri=True, timeout=30)
    with closing(database):
        return database.execute(query, values).fetchall()


def states(airflow: LocalAirflow, run_ids: Collection[str]) -> Counter[str]:
    """Count the tasks of some runs that wait, by their state."""
    query = "SELECT run_id, state FROM task_instance WHERE task_id = 'task'"
    return Counter(state for run_id, state in read(airflow, query) if run_id in run_ids)


def results(airflow: LocalAirflow, run_id: str) -> dict[int, Any]:
    """Return what each of the mapped sensors has returned."""
    query = "SELECT map_index, value FROM xcom WHERE run_id = ? AND task_id = 'task' AND key = 'return_value'"
    return {index: json.loads(value) for index, value in read(airflow, query, run_id)}


def wait_until(what: str, condition: Callable[[], bool]) -> float:
    """Return the seconds that it took."""
    began = time.monotonic()
    while not condition():
        assert time.monotonic() - began < PATIENCE, f"after {PATIENCE:.0f} s, not yet: {what}"
        time.sleep(1)
    return time.monotonic() - began


@pytest.fixture
def holding(sandbox: Sandbox) -> Sandbox:
    """A sandbox that takes any pace, and calls every job in-progress until it is told to tell."""
    sandbox.configure(rate_limits=False, states={"complete": "in-progress", "failed": "in-progress"})
    sandbox.add_codes([{"extended_id": "WAITED"}])
    return sandbox


def tell(sandbox: Sandbox) -> None:
    sandbox.configure(states={"complete": "complete", "failed": "failed"})


def submit(sandbox: Sandbox, count: int) -> list[str]:
    """Submit jobs for one code each, as somebody else would."""
    body = {"constraints": {"extended_id": ["WAITED"]}, "scm_data": {"market": "FR"}}
    url = f"{sandbox.url}/api/v2/scm/upload/async/"
    with requests.Session() as session:
        session.headers["Authorization"] = f"UAT {sandbox.token}"
        return [str(session.post(url, json=body, timeout=10).json()["task_id"]) for _ in range(count)]


def test_waits_at_scale_survive_the_triggerer_and_keep_its_heart_beating(
    airflow: LocalAirflow, holding: Sandbox
) -> None:
    holding.jobs(times=FAILED, fail=True)
    task_ids = {"mapped_at_scale": submit(holding, MAPPED)}
    task_ids |= {dag_id: submit(holding, MANY) for dag_id in ON_MANY}
    heart = Heart(airflow)
    with heart.watched():
        runs = {
            dag_id: airflow.trigger(dag_id, conf={"task_ids": ids}, run_id=f"{dag_id}_at_scale")
            for dag_id, ids in task_ids.items()
        }
        deferring = wait_until(
            "all are deferred",
            lambda: states(airflow, runs.values()) == {"deferred": MAPPED + len(ON_MANY)},
        )
        largest = max(length for (length,) in read(airflow, "SELECT length(kwargs) FROM trigger"))
        memory = airflow.memory_mb()["triggerer"]
        began = time.monotonic()
        holding.clear_transcript()
        tell(holding)
        half = (MAPPED + len(ON_MANY) * MANY) // 2
        wait_until("half were polled", lambda: holding._service.transcript.number >= half)
        with heart.killed():
            airflow.kill("triggerer")
            left = states(airflow, runs.values())["deferred"]
            airflow.start_part("triggerer")
        for dag_id in ON_MANY:
            assert "success" == airflow.wait_for_run(dag_id, runs[dag_id], timeout=PATIENCE)
        assert "failed" == airflow.wait_for_run("mapped_at_scale", runs["mapped_at_scale"], timeout=PATIENCE)
        ending = time.monotonic() - began

    mapped = runs["mapped_at_scale"]
    assert {"success": MAPPED - FAILED, "failed": FAILED} == states(airflow, [mapped])
    ended_well = list(enumerate(task_ids["mapped_at_scale"]))[FAILED:]
    assert {index: {"codes_affected": 1, "tasks": {task_id: 1}} for index, task_id in ended_well} == results(
        airflow, mapped
    )
    for dag_id in ON_MANY:
        expected = {"codes_affected": MANY, "jobs": MANY, "tasks": {}}
        assert {-1: expected} == results(airflow, runs[dag_id])
    assert left > 0
    assert largest < 48 * 1024
    assert heart.looked > deferring / 2
    assert heart.worst < TAKEN_FOR_DEAD

    line = {
        "mapped sensors": MAPPED,
        "ids of each of two more": MANY,
        "seconds to defer all": round(deferring),
        "seconds to end all": round(ending),
        "deferred at the kill": left,
        "looks at the heartbeat": heart.looked,
        "oldest heartbeat, s": round(heart.worst, 1),
        "memory of the triggerer, MB": round(memory),
        "largest trigger, bytes": largest,
    }
    reliability_page.print_line(line)
    if (MAPPED, MANY) == (1000, 5000):
        reliability_page.write_line("waits-at-scale", line)
