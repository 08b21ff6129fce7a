"""
Run an example Dag on its sample data: a real Airflow on SQLite, against the sandbox.

    make demo
"""

from __future__ import annotations

import argparse
import shutil
import sys
import threading
from collections.abc import Iterable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from airflow_client import TaskInstance
from airflow_provider_scantrust.sandbox import Sandbox
from local_airflow import LocalAirflow

ROOT = Path(__file__).resolve().parent.parent
EXAMPLES = ROOT / "dags_examples"
# The examples are scheduled; this run is for the day of their sample data.
DAY_AFTER = datetime(2026, 11, 2, 7, tzinfo=UTC)
# Slow enough for the wait in the triggerer to be seen.
TIME_SCALE = 3
REPORTING_TASK = {
    "scantrust_sync_upload": "upload",
    "scantrust_upload_and_wait": "upload",
    "scantrust_async_upload": "wait",
}


def main() -> None:
    """Start both, run the Dag, print its report."""
    parser = argparse.ArgumentParser(description=__doc__.strip().splitlines()[0])
    parser.add_argument("--dag", choices=sorted(REPORTING_TASK), default="scantrust_upload_and_wait")
    parser.add_argument(
        "--keep", action="store_true", help="leave Airflow and the sandbox running until Ctrl-C"
    )
    options = parser.parse_args()
    home = ROOT / ".demo"
    # What an interrupted demo has left is encrypted with a key that is gone.
    shutil.rmtree(home, ignore_errors=True)
    home.mkdir()
    say("starting the sandbox, a local Scantrust, with the codes of a winery's bottling day")
    with Sandbox(time_scale=TIME_SCALE) as sandbox:
        codes = sandbox.seed_csv(EXAMPLES / "sample_data" / "codes.csv")
        say(f"the sandbox listens on {sandbox.url} and has {codes} codes")
        say("starting Airflow: API server, scheduler, Dag processor, triggerer (about 15 seconds)")
        with LocalAirflow(
            home,
            EXAMPLES,
            connections={"scantrust_default": sandbox.connection_uri},
            # Only the run that the demo asks for, not also the one that is due today.
            config={"scheduler.use_job_schedule": "False"},
        ) as airflow:
            report = run(airflow, options.dag)
            print_table(f"Report of {options.dag}", report.items())
            code = sandbox.codes(limit=1)[0]
            print_table(
                "One of the codes now", ((name, value) for name, value in code.items() if value != "")
            )
            if options.keep:
                say(
                    f"open {airflow.ui_url} for the Airflow UI (no login needed); Ctrl-C ends Airflow and the sandbox"
                )
                wait_for_interrupt()
    if not options.keep:
        say("done; `make demo-ui` does the same and leaves the Airflow UI open")


def run(airflow: LocalAirflow, dag_id: str) -> dict[str, Any]:
    """Run the Dag once, with a line for each change of a task's state, and return its report."""
    say(f"running {dag_id} for the bottling day 2026-11-01")
    run_id = airflow.trigger(dag_id, logical_date=DAY_AFTER)
    seen: dict[tuple[str, int], str | None] = {}

    def progress(tasks: list[TaskInstance]) -> None:
        for task in tasks:
            key = (task.task_id, task.map_index)
            if task.state != seen.get(key):
                seen[key] = task.state
                where = " (in the triggerer, without a worker)" if task.state == "deferred" else ""
                say(f"  {task.task_id}: {task.state}{where}")

    state = airflow.wait_for_run(dag_id, run_id, progress=progress)
    if state != "success":
        for task in airflow.tasks(dag_id, run_id):
            if task.state == "failed":
                sys.stderr.write(airflow.logs(dag_id, run_id, task.task_id, task.try_number))
        raise SystemExit(f"demo: {dag_id} ended as {state}")
    report: dict[str, Any] = airflow.xcom(dag_id, run_id, REPORTING_TASK[dag_id])
    return report


def print_table(title: str, rows: Iterable[tuple[str, Any]]) -> None:
    """Print names and values in two columns; each entry of a list gets a line of its own."""
    lines = [line for name, value in rows for line in cells(name, value)]
    first = max(len(name) for name, _ in lines)
    second = max(len(value) for _, value in lines)
    rule = f"+-{'-' * first}-+-{'-' * second}-+"
    print(f"\n{title}\n{rule}")
    print(*(f"| {name:{first}} | {value:{second}} |" for name, value in lines), rule, sep="\n", flush=True)


def cells(name: str, value: Any) -> list[tuple[str, str]]:
    """Return the lines of one value."""
    if isinstance(value, dict):
        return [line for inner, each in value.items() for line in cells(f"{name}.{inner}", each)]
    entries = (value or ["none"]) if isinstance(value, list) else ["unknown" if value is None else value]
    return [("" if index else name, str(entry)) for index, entry in enumerate(entries)]


def say(text: str) -> None:
    """Print one line of progress."""
    print(f"demo: {text}", flush=True)


def wait_for_interrupt() -> None:
    """Return when the user presses Ctrl-C."""
    try:
        threading.Event().wait()
    except KeyboardInterrupt:
        say("ending Airflow and the sandbox")


if __name__ == "__main__":
    main()
