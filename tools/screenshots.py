"""
Takes the screenshots of the docs from a real Airflow with the demo's uploads, into docs/images.

The figures of earlier days are made up, as copies of today's upload; the tasks of today are real.
"""

from __future__ import annotations

import shutil
import tempfile
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import quote

from airflow_history import copy_upload
from airflow_provider_scantrust.sandbox import Sandbox
from browser import chromium
from local_airflow import LocalAirflow

if TYPE_CHECKING:
    from playwright.sync_api import Page, ViewportSize

ROOT = Path(__file__).resolve().parent.parent
IMAGES = ROOT / "docs" / "images"
EXAMPLES = ROOT / "dags_examples"
DAY_AFTER = datetime(2026, 11, 2, 7, tzinfo=UTC)
WIDE: ViewportSize = {"width": 1440, "height": 900}
PORTAL = quote("https://portal.scantrust.com/#/", safe="")


def main() -> None:
    """Run the examples and take the pictures."""
    IMAGES.mkdir(exist_ok=True)
    home = Path(tempfile.mkdtemp(prefix="screenshots-"))
    try:
        with Sandbox() as sandbox:
            sandbox.seed_csv(EXAMPLES / "sample_data" / "codes.csv")
            uri = sandbox.connection_uri
            connections = {"scantrust_default": f"{uri}{'&' if '?' in uri else '?'}portal_url={PORTAL}"}
            config = {"scheduler.use_job_schedule": "False"}
            with LocalAirflow(home, EXAMPLES, connections=connections, config=config) as airflow:
                runs = run_examples(airflow, sandbox)
                take_pictures(airflow.ui_url, runs)
    finally:
        shutil.rmtree(home, ignore_errors=True)


def run_examples(airflow: LocalAirflow, sandbox: Sandbox) -> dict[str, str]:
    """Leave a history with something of every kind in it; return the run of each Dag."""
    runs: dict[str, str] = {}
    for dag_id in ("scantrust_sync_upload", "scantrust_async_upload"):
        runs[dag_id] = airflow.trigger(dag_id, logical_date=DAY_AFTER)
        airflow.wait_for_run(dag_id, runs[dag_id])
    copy_upload(
        airflow.home / "airflow.db",
        "scantrust_sync_upload",
        runs["scantrust_sync_upload"],
        "upload",
        copies=40,
        days=6.5,
        other_tasks=1,
    )
    sandbox.jobs(fail=True)
    failed = airflow.trigger("scantrust_async_upload", logical_date=DAY_AFTER + timedelta(days=1))
    airflow.wait_for_run("scantrust_async_upload", failed)
    sandbox.jobs(hang=True, times=None)
    waiting = airflow.trigger("scantrust_upload_and_wait", logical_date=DAY_AFTER)
    airflow.wait_for_task("scantrust_upload_and_wait", waiting, "upload", states={"deferred"})
    return runs


def take_pictures(url: str, runs: dict[str, str]) -> None:
    """
    Visit the places that the docs show.

    :param runs: The run of each Dag.
    """
    with chromium() as browser:
        for scheme in ("light", "dark"):
            page = browser.new_page(
                base_url=url,
                color_scheme="dark" if scheme == "dark" else "light",
                viewport=WIDE,
            )
            page.goto("/plugin/scantrust")
            picture(page, f"page-{scheme}")
            page.close()
        page = browser.new_page(base_url=url, viewport=WIDE)
        page.goto("/plugin/scantrust")
        page.get_by_label("Show").select_option(label="Needs attention")
        picture(page, "needs-attention")
        page.set_viewport_size({"width": 1400, "height": 800})
        card = task_path("scantrust_sync_upload", runs, "upload")
        page.goto(f"{card}/plugin/scantrust-task-instance")
        picture(page, "task-tab")
        page.goto(f"{task_path('scantrust_async_upload', runs, 'wait')}/details")
        page.get_by_role("link", name="Scantrust portal").wait_for()
        page.screenshot(path=IMAGES / "portal-link.png")
        page.set_viewport_size({"width": 1400, "height": 1900})
        page.goto("/connections")
        page.get_by_role("button", name="Add Connection").click()
        page.locator("input[name=connection_id]").fill("scantrust_default")
        page.get_by_role("combobox", name="Connection Type").fill("scantrust")
        page.get_by_role("option", name="scantrust").click()
        # Airflow shows one of its parts at a time.
        for part, field, name in (
            ("Standard Fields", "input[name=password]", "connection-form"),
            ("Extra Fields", "text=Allow plain http", "connection-extra"),
        ):
            header = page.get_by_role("button", name=part, exact=True)
            if header.get_attribute("aria-expanded") != "true":
                header.click()
            page.locator(field).first.wait_for()
            # It opens by an animation.
            page.wait_for_timeout(1000)
            page.get_by_role("dialog").screenshot(path=IMAGES / f"{name}.png")


def task_path(dag_id: str, runs: dict[str, str], task_id: str) -> str:
    """Return the path of a task instance in the UI."""
    return f"/dags/{dag_id}/runs/{quote(runs[dag_id], safe='')}/tasks/{task_id}"


def picture(page: Page, name: str) -> None:
    """Take a picture of the whole window once its rows are there."""
    page.locator(".st-row, .st-card").first.wait_for()
    page.screenshot(path=IMAGES / f"{name}.png")


if __name__ == "__main__":
    main()
