"""
Uploading files: the script that people write today beside the operator, against a server of 0.5 s a call.

    python benchmarks/bulk.py [--rows 1000000] [--runs 3] [--without-script]

The script reads with csv.DictReader and sends 999 items a call, one call after the other. Each run is a
process of its own; memory is its peak over what it holds before it opens the file. Seconds and memory are
medians of the runs, in which the cases take turns. A million rows take the script more than eight minutes,
and five millions take the operator as long.
"""

from __future__ import annotations

import argparse
import csv
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import requests

HERE = Path(__file__).resolve().parent
COLUMNS = ["extended_id", "lot_number", "bottling_date", "market", "product", "case_id"]
ITEMS_PER_CALL = 999
CALLS_PER_SECOND = 10


def main() -> None:
    """Run all cases and print the table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").strip().splitlines()[0])
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--runs", type=int, default=1, help="times that each case is run")
    parser.add_argument("--without-script", action="store_true", help="leave out the slow side")
    options = parser.parse_args()
    rows = options.rows
    floor = -(-rows // ITEMS_PER_CALL) / CALLS_PER_SECOND
    with tempfile.TemporaryDirectory() as folder:
        different, lots, larger = (
            Path(folder) / name for name in ("different.csv", "lots.csv", "larger.csv")
        )
        say(f"writing files of {rows} and {5 * rows} rows")
        write_rows(different, rows, distinct=rows)
        write_rows(lots, rows, distinct=200)
        write_rows(larger, 5 * rows, distinct=5 * rows)
        with subprocess.Popen(
            [sys.executable, HERE / "stub_server.py"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        ) as server:
            try:
                url = f"http://127.0.0.1:{server.stdout.readline().strip()}"  # type: ignore[union-attr]
                cases = [
                    ("operator, all different", "operator", different),
                    ("operator, 200 lots", "operator", lots),
                    ("operator, five times the rows", "operator", larger),
                    ("plan only", "plan", different),
                    ("plan only, five times the rows", "plan", larger),
                ]
                if not options.without_script:
                    cases[:0] = [
                        ("script, all different", "script", different),
                        ("script, 200 lots", "script", lots),
                    ]
                rounds = [[run(kind, url, path) for _, kind, path in cases] for _ in range(options.runs)]
            finally:
                server.stdin.close()  # type: ignore[union-attr]
    runs = zip(*rounds, strict=True)
    print_table([(name, median(of)) for (name, _, _), of in zip(cases, runs, strict=True)], floor)
    print(f"medians of {options.runs} runs")


def median(runs: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Return the median of each figure."""
    return {name: statistics.median(run[name] for run in runs) for name in runs[0]}


def run(kind: str, url: str, path: Path) -> dict[str, Any]:
    """Run one case in a process of its own."""
    say(f"{kind} on {path.name}")
    requests.get(f"{url}/counts", timeout=10)
    code = f"import bulk; bulk.{kind}({url!r}, {str(path)!r})"
    with tempfile.TemporaryDirectory() as home:
        done = subprocess.run(
            [sys.executable, "-c", code],
            cwd=HERE,
            env=upload_environment(url, home),
            capture_output=True,
            text=True,
            check=True,
        )
    result: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return {**result, **requests.get(f"{url}/counts", timeout=10).json()}


def upload_environment(url: str, home: str) -> dict[str, str]:
    """Return the environment of a process that uploads with the operator."""
    env = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    env["AIRFLOW_HOME"] = home
    connection = {"conn_type": "scantrust", "host": url, "password": "benchmark"}
    env["AIRFLOW_CONN_SCANTRUST_DEFAULT"] = json.dumps(connection)
    return env


def script(url: str, path: str) -> None:
    """What people write today."""
    session = requests.Session()
    session.headers["Authorization"] = "UAT benchmark"

    def send(items: list[dict[str, str]]) -> None:
        body = {"data_key": "extended_id", "items": items}
        session.post(f"{url}/api/v2/scm/upload/", json=body, timeout=75).raise_for_status()

    def upload() -> None:
        items = []
        with open(path, encoding="utf-8", newline="") as file:
            for row in csv.DictReader(file):
                items.append(row)
                if len(items) == ITEMS_PER_CALL:
                    send(items)
                    items = []
        if items:
            send(items)

    measure(upload)


def operator(url: str, path: str, **options: Any) -> None:
    """The operator, as a worker runs it."""
    from airflow_provider_scantrust.operators.scantrust import ScantrustUploadOperator

    task = ScantrustUploadOperator(
        task_id="upload", source=path, deferrable=False, poll_interval=1, **options
    )
    context: Any = {"ti": SimpleNamespace(try_number=1, xcom_push=lambda **_: None)}
    measure(lambda: task.execute(context))


def plan(url: str, path: str) -> None:
    """Read, check and plan, and send nothing."""
    operator(url, path, dry_run=True)


def measure(work: Any) -> None:
    """Print the seconds and the memory that some work takes."""
    before = memory("VmRSS")
    started = time.perf_counter()
    work()
    seconds = time.perf_counter() - started
    print(json.dumps({"seconds": seconds, "mb": memory("VmHWM") - before}))


def memory(name: str) -> float:
    """Return a figure of this process in MB."""
    with open("/proc/self/status", encoding="ascii") as file:
        return next(int(line.split()[1]) / 1024 for line in file if line.startswith(name))


def write_rows(path: Path, rows: int, distinct: int) -> None:
    """Write a file whose rows carry so many different sets of data."""
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(COLUMNS)
        for number in range(rows):
            data = number % distinct
            writer.writerow(
                [
                    f"{number:020X}",
                    f"L-{data // 7}",
                    f"2026-11-{data % 28 + 1:02}",
                    "FR",
                    "prod_1",
                    f"C-{data}",
                ]
            )


def print_table(results: list[tuple[str, dict[str, Any]]], floor: float) -> None:
    """Print one line for each case."""
    by_name = dict(results)
    print(
        f"\n{'case':32} {'seconds':>8} {'calls':>6} {'429':>4} {'MB':>6} {'times faster':>13} {'of the floor':>13}"
    )
    for name, result in results:
        peer = by_name.get(name.replace("operator", "script"))
        faster = f"{peer['seconds'] / result['seconds']:.1f}" if peer and "operator" in name else ""
        share = f"{100 * floor / result['seconds']:.1f} %" if name == "operator, all different" else ""
        print(
            f"{name:32} {result['seconds']:8.1f} {result['calls']:6.0f} {result['throttled']:4.0f} {result['mb']:6.1f} "
            f"{faster:>13} {share:>13}"
        )
    print(
        f"the floor is {floor:.1f} s: all different rows in calls of {ITEMS_PER_CALL}, {CALLS_PER_SECOND} calls a second"
    )


def say(text: str) -> None:
    """Print one line of progress."""
    print(f"bench: {text}", flush=True)


if __name__ == "__main__":
    main()
