"""
How long the Scantrust page takes to open in a browser with a history of uploads.

"open" is from the click in Airflow's navigation until the last of its parts is drawn; "load" is the same from
the first request for Airflow's UI, by a browser that has its files; "request" is the page's one question to
Airflow.
"""

from __future__ import annotations

import argparse
import shutil
import statistics
import sys
import tempfile
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT / "tools"), str(ROOT / "tools" / "real_airflow")]

from airflow_history import copy_upload  # noqa: E402
from airflow_provider_scantrust.sandbox import Sandbox  # noqa: E402
from browser import chromium  # noqa: E402
from local_airflow import LocalAirflow  # noqa: E402

if TYPE_CHECKING:
    from playwright.sync_api import Page

DAG = "scantrust_sync_upload"
TRIES = 7


def main() -> None:
    """Write the history, open the page and print the table."""
    parser = argparse.ArgumentParser(description=__doc__.strip().splitlines()[0])
    parser.add_argument("--uploads", type=int, default=10_000)
    parser.add_argument("--other-tasks", type=int, default=10, help="tasks of each run that are no upload")
    options = parser.parse_args()
    home = Path(tempfile.mkdtemp(prefix="page-"))
    try:
        measure(home, options.uploads, options.other_tasks)
    finally:
        shutil.rmtree(home, ignore_errors=True)


def measure(home: Path, uploads: int, other_tasks: int) -> None:
    """Measure in an Airflow of its own."""
    examples = ROOT / "dags_examples"
    with Sandbox() as sandbox:
        sandbox.seed_csv(examples / "sample_data" / "codes.csv")
        connections = {"scantrust_default": sandbox.connection_uri}
        with (
            LocalAirflow(
                home, examples, connections=connections, config={"scheduler.use_job_schedule": "False"}
            ) as airflow,
            chromium() as browser,
        ):
            run_id = airflow.trigger(DAG, logical_date=datetime(2026, 11, 2, 7, tzinfo=UTC))
            airflow.wait_for_run(DAG, run_id)
            copy_upload(
                home / "airflow.db",
                DAG,
                run_id,
                "upload",
                copies=uploads - 1,
                days=6.9,
                other_tasks=other_tasks,
            )
            page = browser.new_page()
            # The first visit fills the browser's cache and wakes Airflow.
            page.goto(f"{airflow.ui_url}/plugin/scantrust")
            wait_until_drawn(page, uploads)
            figures: dict[str, list[float]] = {"open": [], "load": [], "request": []}
            for _ in range(TRIES):
                started = time.perf_counter()
                page.goto(f"{airflow.ui_url}/plugin/scantrust")
                wait_until_drawn(page, uploads)
                figures["load"].append(time.perf_counter() - started)
                page.goto(f"{airflow.ui_url}/")
                page.get_by_role("button", name="Browse").click()
                link = page.get_by_role("menuitem", name="Scantrust")
                link.wait_for()
                started = time.perf_counter()
                with page.expect_response(lambda answer: "/scantrust/uploads" in answer.url) as found:
                    link.click()
                found.value.finished()
                figures["request"].append(time.perf_counter() - started)
                wait_until_drawn(page, uploads)
                figures["open"].append(time.perf_counter() - started)
            size = len(found.value.body())
    print(
        f"\n{uploads:,} uploads among {uploads * (other_tasks + 1):,} task instances, {size / 1e6:.1f} MB of JSON"
    )
    print(f"{'':8} {'median':>8} {'longest':>8}")
    for name, seconds in figures.items():
        print(f"{name:8} {statistics.median(seconds):6.2f} s {max(seconds):6.2f} s")


def wait_until_drawn(page: Page, uploads: int) -> None:
    """Wait for the table's rows and for the line that counts them."""
    page.locator(".st-table tbody tr").first.wait_for(timeout=60_000)
    page.get_by_text(f"of {uploads:,} uploads").wait_for()


if __name__ == "__main__":
    main()
