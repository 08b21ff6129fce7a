"""
What the chaos runs upload, and what every code must say afterwards.

Rule: each upload has codes of its own and a value that no other sets, so that the sandbox's jobs and codes
tell whose they are.
"""

from __future__ import annotations

import csv
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

DAG_ID = "scantrust_chaos"
# All codes begin so.
CODE = "CHA0"
MEANT_TO_FAIL = "scantrust_chaos_meant_to_fail"
SENSORS = ("wait_deferred", "wait_poke", "wait_reschedule", "wait_triggerer")
MAPPED = 3
ALIKE, OWN = 2000, 300
SOURCE_JOBS, IDS_PER_JOB = 300, 50


@dataclass
class Upload:
    """
    One upload.

    :param name: The run's number, the task and its map index.
    :param jobs: Asynchronous jobs that it makes.
    :param expected: Code -> (market, case_id) after it.
    """

    name: str
    run: int
    task_id: str
    map_index: int = -1
    jobs: int = 0
    expected: dict[str, tuple[str, str]] = field(default_factory=dict)


class Workload:
    """
    Uploads of every kind, fourteen in each run of the Dag.

    :param runs: Runs of the Dag.
    :param folder: Where the source files go.
    """

    def __init__(self, runs: int, folder: Path) -> None:
        self.uploads: list[Upload] = []
        self._folder = folder
        self._codes = 0
        folder.mkdir(parents=True, exist_ok=True)
        self.confs = [self._run(number) for number in range(1, runs + 1)]
        self.bad_codes = list(self._take(max(1, runs // 5)))
        self.bad_confs = [
            {"bad_row": [{"extended_id": code, "activation_status": 7}]} for code in self.bad_codes
        ]

    def write_codes(self, path: Path) -> int:
        """Write all codes as the sandbox reads them, each in the lot of its upload; return how many."""
        with path.open("w", encoding="utf-8", newline="") as file:
            writer = csv.writer(file)
            writer.writerow(["extended_id", "lot_number"])
            for upload in self.uploads:
                writer.writerows([code, upload.name] for code in upload.expected)
            writer.writerows([code, "BAD"] for code in self.bad_codes)
        return self._codes

    def _run(self, run: int) -> dict[str, Any]:
        conf: dict[str, Any] = {
            "items_sync": self._items(run, "items_sync", alike=0, own=30),
            "source_mixed": self._source(run, "source_mixed", alike=ALIKE, own=OWN, jobs=1),
            "source_jobs": self._source(
                run, "source_jobs", alike=SOURCE_JOBS, own=0, jobs=SOURCE_JOBS // IDS_PER_JOB
            ),
            "mapped": [self._items(run, "mapped", alike=10, own=1, map_index=n) for n in range(MAPPED)],
        }
        for task_id in ("items_async", "items_async_worker"):
            conf[task_id] = self._items(run, task_id, alike=10, own=2)
        for task_id in ("lot", "lot_worker"):
            upload = self._upload(run, task_id)
            upload.jobs = 1
            upload.expected = dict.fromkeys(self._take(20), (upload.name, ""))
            conf[task_id] = {
                "constraints": {"lot_number": upload.name},
                "scm_data": {"market": upload.name},
            }
        for sensor in SENSORS:
            task_id = sensor.replace("wait", "submit")
            conf[task_id] = self._items(run, task_id, alike=10, own=1)
        return conf

    def _upload(self, run: int, task_id: str, map_index: int = -1) -> Upload:
        name = f"{run}-{task_id}" + (f"-{map_index}" if map_index >= 0 else "")
        upload = Upload(name, run, task_id, map_index)
        self.uploads.append(upload)
        return upload

    def _items(
        self, run: int, task_id: str, *, alike: int, own: int, map_index: int = -1
    ) -> list[dict[str, str]]:
        """Return rows: each set of identical data makes a job, unless all go synchronously."""
        upload = self._upload(run, task_id, map_index)
        rows = [{"extended_id": code, "market": upload.name} for code in self._take(alike)]
        rows += [
            {"extended_id": code, "market": upload.name, "case_id": f"C-{code}"} for code in self._take(own)
        ]
        upload.jobs = 1 + own if alike else 0
        upload.expected = {row["extended_id"]: (row["market"], row.get("case_id", "")) for row in rows}
        return rows

    def _source(self, run: int, task_id: str, *, alike: int, own: int, jobs: int) -> str:
        upload = self._upload(run, task_id)
        upload.jobs = jobs
        upload.expected = dict.fromkeys(self._take(alike), (upload.name, "together"))
        upload.expected |= {code: (upload.name, f"C-{code}") for code in self._take(own)}
        path = self._folder / f"{upload.name}.csv"
        with path.open("w", encoding="utf-8", newline="") as file:
            writer = csv.writer(file)
            writer.writerow(["extended_id", "market", "case_id"])
            writer.writerows([code, *values] for code, values in upload.expected.items())
        return str(path)

    def _take(self, count: int) -> Iterator[str]:
        for _ in range(count):
            self._codes += 1
            yield f"{CODE}{self._codes:07d}"
