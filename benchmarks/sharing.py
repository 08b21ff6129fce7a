"""
Several uploads on one token, in processes of their own: how they share a limit of ten calls a second.

Each starts at full speed and knows nothing of the others.
"""

from __future__ import annotations

import csv
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import requests

from bulk import COLUMNS, HERE, say, upload_environment

UPLOADS = (1, 2, 4, 8)
CALLS = 400
ITEMS_PER_CALL = 999


def main() -> None:
    """Run with one to eight uploads and print the table."""
    rows = []
    with subprocess.Popen(
        [sys.executable, HERE / "stub_server.py"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as server:
        try:
            url = f"http://127.0.0.1:{server.stdout.readline().strip()}"  # type: ignore[union-attr]
            for uploads in UPLOADS:
                say(f"{uploads} uploads of {CALLS // uploads} calls each")
                rows.append(run(url, uploads))
        finally:
            server.stdin.close()  # type: ignore[union-attr]
    print(f"\n{'uploads':>8} {'calls':>6} {'429':>5} {'share':>7} {'calls/s':>8} {'failed':>7}")
    for row in rows:
        print(
            f"{row['uploads']:8} {row['calls']:6} {row['throttled']:5} {row['throttled'] / row['calls']:7.1%} "
            f"{(row['calls'] - row['throttled']) / row['seconds']:8.2f} {row['failed']:7}"
        )


def run(url: str, uploads: int) -> dict[str, Any]:
    """Run so many uploads at once."""
    requests.get(f"{url}/counts", timeout=10)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "rows.csv"
        with path.open("w", encoding="utf-8", newline="") as file:
            writer = csv.writer(file)
            writer.writerow(COLUMNS)
            for number in range(CALLS // uploads * ITEMS_PER_CALL):
                writer.writerow(
                    [f"{number:020X}", f"L-{number}", "2026-11-01", "FR", "prod_1", f"C-{number}"]
                )
        code = f"import bulk; bulk.operator({url!r}, {str(path)!r})"
        started = time.perf_counter()
        processes = [
            subprocess.Popen(
                [sys.executable, "-c", code],
                cwd=HERE,
                env=upload_environment(url, f"{folder}/airflow-{number}"),
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
            )
            for number in range(uploads)
        ]
        failed = sum(process.wait() != 0 for process in processes)
    seconds = time.perf_counter() - started
    return {
        "uploads": uploads,
        "failed": failed,
        "seconds": seconds,
        **requests.get(f"{url}/counts", timeout=10).json(),
    }


if __name__ == "__main__":
    main()
