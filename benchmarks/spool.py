"""
What it costs to read, check, merge and plan a file, with the spool and with what it could have been built on.

A million rows of six columns, all different; fresh processes on one core, taken in turn, medians. Memory is
the peak over a Python that has imported nothing. DuckDB and polars read the file themselves and check no
values, which favours them.
"""

from __future__ import annotations

import argparse
import csv
import importlib
import io
import os
import random
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
PEERS = ROOT / ".bench" / "spools"
COLUMNS = ("extended_id", "lot_number", "bottling_date", "product", "line", "rfid")
CALL = 999
FLOOR, MOST_MEGABYTES = 150_000, 60.0


def with_spool(path: str) -> Iterator[Any]:
    """Plan with the package's own spool."""
    from airflow_provider_scantrust.sources.opening import open_source
    from airflow_provider_scantrust.uploads.plan import make_plan
    from airflow_provider_scantrust.uploads.spool import Spool

    with Spool("extended_id") as spool:
        spool.fill(open_source(path, partial(io.FileIO, path)), warn=print)
        plan = make_plan(spool)
        yield None
        yield from plan.calls()


def with_dict(path: str) -> Iterator[Any]:
    """Keep all rows in a dict, as ``items=`` does."""
    from airflow_provider_scantrust.sources.opening import open_source
    from airflow_provider_scantrust.uploads.check import RowCheck

    check = RowCheck("extended_id")
    found: dict[str, dict[str, Any]] = {}
    for line, row in open_source(path, partial(io.FileIO, path)):
        key, names, values = check.read(row, line)
        found[key] = {"extended_id": key, **dict(zip(names, values, strict=True))}
    rows = list(found.values())
    sizes: dict[tuple[Any, ...], int] = {}
    for row in rows:
        data = tuple(row.values())[1:]
        sizes[data] = sizes.get(data, 0) + 1
    _check(any(size > CALL for size in sizes.values()))
    yield None
    yield from (rows[start : start + CALL] for start in range(0, len(rows), CALL))


def with_duckdb(path: str) -> Iterator[Any]:
    """Let DuckDB read, look for repeats and group, on disk and in bounds."""
    duckdb = importlib.import_module("duckdb")
    with tempfile.TemporaryDirectory() as folder, duckdb.connect(f"{folder}/rows.db") as db:
        db.execute("SET threads = 1; SET memory_limit = '200MB'")
        db.execute("CREATE TABLE rows AS SELECT * FROM read_csv(?, all_varchar = true)", [path])
        _check(db.execute("SELECT 1 FROM rows GROUP BY extended_id HAVING count(*) > 1").fetchone())
        data = ", ".join(COLUMNS[1:])
        _check(db.execute(f"SELECT 1 FROM rows GROUP BY {data} HAVING count(*) > {CALL}").fetchone())
        yield None
        found = db.execute("SELECT * FROM rows")
        while page := found.fetchmany(CALL):
            yield [dict(zip(COLUMNS, row, strict=True)) for row in page]


def with_polars(path: str) -> Iterator[Any]:
    """Let polars read, look for repeats and group, in memory."""
    os.environ["POLARS_MAX_THREADS"] = "1"
    pl = importlib.import_module("polars")
    frame = pl.read_csv(path, infer_schema=False)
    _check(frame["extended_id"].n_unique() < len(frame))
    groups = frame.lazy().group_by(COLUMNS[1:]).len().filter(pl.col("len") > CALL)
    _check(len(groups.collect(engine="streaming")))
    yield None
    for piece in frame.iter_slices(CALL):
        yield piece.to_dicts()


WAYS: dict[str, Callable[[str], Iterator[Any]]] = {
    "spool (SQLite)": with_spool,
    "dict": with_dict,
    "DuckDB": with_duckdb,
    "polars": with_polars,
}


def main() -> int:
    """Print the table; return 1 when the spool is over its budget."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--only", help="the beginning of a way's name")
    parser.add_argument("--measure", nargs=2, metavar=("WAY", "FILE"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.measure:
        measure(*options.measure)
        return 0
    install_peers()
    ways = [name for name in WAYS if name.startswith(options.only or "")]
    with tempfile.TemporaryDirectory() as folder:
        path = f"{folder}/rows.csv"
        write_rows(path, options.rows)
        figures: dict[str, list[tuple[float, ...]]] = {name: [] for name in ways}
        for _ in range(options.rounds):
            for name in ways:
                figures[name].append(run(name, path))
    print(f"{options.rows:,} different rows {'rows/s':>16} {'MB':>6} {'calls/s':>9}")
    medians = {}
    for name, runs in figures.items():
        seconds, megabytes, calls = (statistics.median(column) for column in zip(*runs, strict=True))
        medians[name] = (options.rows / seconds, megabytes)
        print(f"{name:31} {options.rows / seconds:8,.0f} {megabytes:6.0f} {calls:9,.0f}")
    speed, megabytes = medians.get("spool (SQLite)", (FLOOR, 0.0))
    print(f"budget: {FLOOR:,} rows/s and {MOST_MEGABYTES:g} MB; medians of {options.rounds} runs")
    return int(speed < FLOOR or megabytes > MOST_MEGABYTES)


def install_peers() -> None:
    """Install what is compared with beside the environment."""
    if not PEERS.exists():
        print("bench: installing DuckDB and polars to compare with", flush=True)
        pip = [sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
        subprocess.run([*pip, "--target", str(PEERS), "duckdb", "polars"], check=True)


def write_rows(path: str, rows: int) -> None:
    """Write the file; its rows are the same each time."""
    chance = random.Random(3)
    with open(path, "w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(COLUMNS)
        for number in range(rows):
            day = f"2026-11-{number % 28 + 1:02}"
            key = f"{chance.getrandbits(80):020X}"
            writer.writerow(
                [key, f"L-{number // 5000:05}", day, f"prod_{number % 50}", number % 7, f"E28{number:09}"]
            )


def run(name: str, path: str) -> tuple[float, ...]:
    """Return seconds until the plan, megabytes over the bare process, and calls a second, of a fresh process."""
    env = {**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT), str(PEERS)])}
    command = [sys.executable, __file__, "--measure", name, path]
    return tuple(map(float, subprocess.check_output(command, env=env, text=True).split()))


def measure(name: str, path: str) -> None:
    """Print what :func:`run` returns."""
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, {max(os.sched_getaffinity(0))})
    before, started = peak_memory(), time.perf_counter()
    way = WAYS[name](path)
    next(way)
    planned = time.perf_counter()
    calls = sum(1 for _ in islice(way, 1_000_000))
    print(planned - started, peak_memory() - before, calls / (time.perf_counter() - planned))


def peak_memory() -> float:
    """Return megabytes; getrusage would answer with the parent's."""
    with open("/proc/self/status") as status:
        return next(int(line.split()[1]) / 1024 for line in status if line.startswith("VmHWM"))


def _check(found: object) -> None:
    if found:
        raise SystemExit("The rows of this benchmark are all different.")


if __name__ == "__main__":
    sys.exit(main())
