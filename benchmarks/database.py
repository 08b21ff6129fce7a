"""
Uploading the rows of a PostgreSQL query: memory, and what a retry repeats after its worker was killed.

    python benchmarks/database.py [--rows 1000000]

Each upload is a process of its own that runs the function of the example Dag, against a server of 0.5 s a
call. The large one is killed after half of its calls, and the second try continues from the stored progress.
Memory is VmHWM, the most that the process ever held, sampled every 0.2 s.
"""

from __future__ import annotations

import argparse
import json
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from math import inf
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import psycopg
import requests

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT), str(ROOT / "tools" / "real_airflow"), str(ROOT / "tools" / "reliability")]

from bulk import HERE, ITEMS_PER_CALL, say, upload_environment  # noqa: E402
from distributed_airflow import Postgres  # noqa: E402

DAY = "2026-11-01"
FILL = """
    CREATE TABLE bottles (extended_id text PRIMARY KEY, lot_number text, bottling_date date, market text);
    INSERT INTO bottles SELECT 'SBX' || lpad(n::text, 8, '0'), 'L-' || n, date '{day}', 'FR' FROM generate_series(1, {rows}) n
"""


def main() -> None:
    """Run three uploads and print the table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").strip().splitlines()[0])
    parser.add_argument("--rows", type=int, default=1_000_000)
    rows = parser.parse_args().rows
    calls = -(-rows // ITEMS_PER_CALL)
    with tempfile.TemporaryDirectory() as folder, stub_server() as url:
        few = Path(folder, "few")
        with warehouse(few, rows // 10) as database:
            results = [(f"{rows // 10:,} rows", run(url, database, few))]
        many = Path(folder, "many")
        with warehouse(many, rows) as database:
            killed = run(url, database, many, kill_after=calls // 2)
            second = run(url, database, many, try_number=2)
        results += [(f"{rows:,} rows, killed", killed), ("second try", second)]
    print(f"\n{'upload':24} {'calls':>6} {'seconds':>8} {'peak MB':>8}")
    for name, result in results:
        print(f"{name:24} {result['calls']:6} {result['seconds']:8.1f} {result['peak']:8.1f}")
    print(f"{rows:,} rows need {calls:,} calls; {killed['calls'] + second['calls'] - calls} were made twice")


@contextmanager
def stub_server() -> Iterator[str]:
    """Run the server that stands for Scantrust, and return its URL."""
    command = [sys.executable, str(HERE / "stub_server.py")]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as server:
        assert server.stdin
        assert server.stdout
        try:
            yield f"http://127.0.0.1:{server.stdout.readline().strip()}"
        finally:
            server.stdin.close()


@contextmanager
def warehouse(folder: Path, rows: int) -> Iterator[str]:
    """Run a PostgreSQL server with a table of so many bottles, and return its connection's URI."""
    say(f"filling a table with {rows:,} rows")
    folder.mkdir()
    server = Postgres(folder)
    server.start()
    try:
        uri = f"postgres://airflow@127.0.0.1:{server.port}/airflow"
        with psycopg.connect(uri) as connection:
            connection.execute(FILL.format(day=DAY, rows=rows))
        yield uri
    finally:
        server.stop()


def run(
    url: str, database: str, folder: Path, *, try_number: int = 1, kill_after: float = inf
) -> dict[str, Any]:
    """Upload in a process of its own, and kill it after so many calls."""
    say(f"uploading, try {try_number}")
    code = f"import database; database.upload({str(folder / 'progress.json')!r}, {try_number})"
    env = upload_environment(url, str(folder)) | {"AIRFLOW_CONN_WAREHOUSE": database}
    count_calls(url)
    calls, peak, started = 0, 0.0, time.monotonic()
    with (
        (folder / "log").open("ab") as log,
        subprocess.Popen([sys.executable, "-c", code], cwd=HERE, env=env, stdout=log, stderr=log) as child,
    ):
        while child.poll() is None:
            peak = max(peak, peak_of(child.pid))
            calls += count_calls(url)
            if calls >= kill_after:
                child.kill()
            time.sleep(0.2)
    if child.returncode not in (0, -signal.SIGKILL):
        raise SystemExit((folder / "log").read_text())
    seconds = time.monotonic() - started
    return {"calls": calls + count_calls(url), "seconds": seconds, "peak": peak}


def count_calls(url: str) -> int:
    """Return how many calls came since the last question."""
    counts = requests.get(f"{url}/counts", timeout=10).json()
    return int(counts["calls"] - counts["throttled"])


def peak_of(pid: int) -> float:
    """Return the most megabytes that a process has held; 0 when it has just ended."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return next((int(line.split()[1]) / 1024 for line in lines if line.startswith("VmHWM")), 0.0)


class FileStore:
    """What an upload uses of Airflow's task state store, in a file that outlives the process."""

    def __init__(self, path: str) -> None:
        self._path = Path(path)

    def get(self, key: str) -> Any:
        """Return the value, or None."""
        return self._read().get(key)

    def set(self, key: str, value: Any) -> None:
        """Store the value."""
        self._write({**self._read(), key: value})

    def delete(self, key: str) -> None:
        """Forget the value."""
        self._write({name: value for name, value in self._read().items() if name != key})

    def _read(self) -> dict[str, Any]:
        return dict(json.loads(self._path.read_text())) if self._path.exists() else {}

    def _write(self, entries: dict[str, Any]) -> None:
        new = self._path.with_suffix(".new")
        new.write_text(json.dumps(entries))
        new.replace(self._path)


def upload(store: str, try_number: int) -> None:
    """Run the function of the example Dag as a worker does."""
    from airflow_provider_scantrust.decorators.scantrust import ScantrustUploadDecoratedOperator
    from dags_examples.scantrust_from_database import upload_bottles

    # One series of tries has the same max_tries and retries.
    ti = SimpleNamespace(
        id=f"try-{try_number}",
        try_number=try_number,
        max_tries=2,
        task=SimpleNamespace(retries=2),
        xcom_push=lambda key, value: None,
    )
    context: Any = {"ti": ti, "task_state_store": FileStore(store)}
    task = ScantrustUploadDecoratedOperator(
        task_id="upload", python_callable=upload_bottles.function, op_args=[DAY], deferrable=False
    )
    task.execute(context)


if __name__ == "__main__":
    main()
