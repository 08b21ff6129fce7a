"""
What a chaos run has come to, by the sandbox's own data and by what the tasks have told.

Rule: a job counts as submitted again when the sandbox has two of the same constraints and data; no two
uploads share any. It counts as reported when its upload's report or log says it.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from airflow_client import TaskInstance
from chaos_workload import DAG_ID, Workload
from secret_search import SecretSearch

SUBMITTED_AGAIN = "A job was submitted again because"
# Airflow refuses the writes of a worker whose try it has given up. The line says that the next try may submit
# the jobs of this one again, without a number; the uploads here have fewer than a thousand.
NOT_KEPT, ANY_NUMBER = "The progress of this upload cannot be kept", 1000
_QUESTION = "the status of task "
# Airflow's API server was away for longer than Airflow itself bears. That costs a try and says nothing about
# a wait.
_AIRFLOWS_OWN = "AirflowRuntimeError"


@dataclass
class Verdict:
    """
    The counts of a run; ``wrong`` has a line for each thing that should not be.

    :param codes: Codes that were checked.
    :param lost: Codes that have not the value they should have.
    :param again: Jobs that the sandbox has more than once.
    :param untold: Those of them that no task has told.
    :param possible: Jobs that tasks have told may be there twice.
    :param false_failures: Waits that failed though the job did not.
    :param stuck: Tasks that had not ended in time.
    :param tries: Tries beyond the first.
    :param secrets: Places where the token was found.
    """

    uploads: int = 0
    codes: int = 0
    lost: int = 0
    jobs: int = 0
    again: int = 0
    untold: int = 0
    possible: int = 0
    false_failures: int = 0
    stuck: int = 0
    tries: int = 0
    secrets: int = 0
    errors: Counter[str] = field(default_factory=Counter)
    wrong: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class Ended:
    """A task of a run, as Airflow has it at the end, and what it returned."""

    run: int
    task: TaskInstance
    report: Any


def judge_codes(verdict: Verdict, workload: Workload, codes: Iterable[Mapping[str, Any]]) -> None:
    """Compare every code with what its upload sets."""
    expected = {code: values for upload in workload.uploads for code, values in upload.expected.items()}
    expected |= dict.fromkeys(workload.bad_codes, ("", ""))
    for code in codes:
        values = expected.pop(code["extended_id"], None)
        verdict.codes += 1
        if values != (code["market"], code["case_id"]):
            verdict.lost += 1
            verdict.wrong.append(
                f"code {code['extended_id']} has {code['market']!r} and {code['case_id']!r}, not {values}"
            )
    if expected:
        verdict.lost += len(expected)
        verdict.wrong.append(f"{len(expected)} codes are not in the sandbox at all")


def judge_jobs(
    verdict: Verdict, workload: Workload, jobs: Iterable[Mapping[str, Any]], told: Mapping[str, int]
) -> None:
    """
    Count each upload's jobs.

    :param told: Upload -> jobs of which it has told that there may be two.
    """
    by_upload: dict[str, Counter[str]] = {}
    for job in jobs:
        key = json.dumps([job["constraints"], job["scm_data"]], sort_keys=True)
        by_upload.setdefault(job["scm_data"]["market"], Counter())[key] += 1
        if job["state"] != "complete":
            verdict.wrong.append(f"job {job['id']} of {job['scm_data']['market']} is {job['state']}")
    for upload in workload.uploads:
        submitted = by_upload.pop(upload.name, Counter())
        again = sum(count > 1 for count in submitted.values())
        verdict.jobs += len(submitted)
        verdict.again += again
        verdict.possible += told.get(upload.name, 0)
        if len(submitted) != upload.jobs:
            verdict.wrong.append(f"{upload.name} has {len(submitted)} different jobs, not {upload.jobs}")
        if again > told.get(upload.name, 0):
            verdict.untold += again - told.get(upload.name, 0)
            verdict.wrong.append(
                f"{upload.name}: {again} jobs were submitted again, and {told.get(upload.name, 0)} told"
            )
    verdict.wrong += [f"jobs of no upload: {name}" for name in by_upload]


def judge_tasks(verdict: Verdict, ended: Iterable[Ended], log_folder: Path) -> dict[str, int]:
    """
    Check how each task has ended and what its tries have logged; return the jobs told, by upload.

    :param log_folder: Where Airflow keeps the logs of its tasks.
    """
    told: dict[str, int] = {}
    for each in ended:
        task, name = each.task, name_of(each.run, each.task)
        verdict.tries += max(0, task.try_number - 1)
        meant = "failed" if task.raw["dag_id"] != DAG_ID else "success"
        if task.state not in ("success", "failed"):
            verdict.stuck += 1
        if task.state != meant:
            verdict.wrong.append(f"{name} is {task.state} after try {task.try_number}, not {meant}")
        if isinstance(each.report, dict):
            told[name] = int(each.report.get("possibly_submitted_twice", 0))
        for line in log_lines(log_folder, task):
            event = str(line.get("event", ""))
            told[name] = told.get(name, 0) + event.startswith(SUBMITTED_AGAIN)
            told[name] += ANY_NUMBER * event.startswith(NOT_KEPT)
            for kind, text in errors_of(line):
                verdict.errors[kind] += 1
                if kind == _AIRFLOWS_OWN or meant == "failed":
                    continue
                if _QUESTION in text or task.task_id.startswith("wait_"):
                    verdict.false_failures += 1
                    verdict.wrong.append(f"{name} failed while it waited: {kind}: {text:.300}")
    return told


def judge_search(verdict: Verdict, search: SecretSearch) -> None:
    """Count where the token was found; a place that was not searched is wrong as well."""
    verdict.secrets = len(search.found)
    verdict.wrong += [f"the token is in {place}" for place in search.found]
    verdict.wrong += [f"the search for the token did not find {mark}" for mark in search.unseen]


def name_of(run: int, task: TaskInstance) -> str:
    """Return the name of a task's upload."""
    return f"{run}-{task.task_id}" + (f"-{task.map_index}" if task.map_index >= 0 else "")


def log_lines(folder: Path, task: TaskInstance) -> Iterator[dict[str, Any]]:
    """Return what all tries of a task have logged; a line that a kill has cut is left out."""
    path = (
        folder
        / f"dag_id={task.raw['dag_id']}"
        / f"run_id={task.raw['dag_run_id']}"
        / f"task_id={task.task_id}"
    )
    if task.map_index >= 0:
        path /= f"map_index={task.map_index}"
    for file in sorted(path.glob("attempt=*.log*")):
        for text in file.read_text(encoding="utf-8", errors="replace").splitlines():
            try:
                line = json.loads(text)
            except ValueError:
                continue
            if isinstance(line, dict):
                yield line


def errors_of(line: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """Return the class and the text of the exception that ended a try, if the line tells of one."""
    details = line.get("error_detail")
    if line.get("event") == "Task failed with exception" and isinstance(details, list) and details:
        yield str(details[0].get("exc_type")), str(details[0].get("exc_value"))
