"""What the tests of the Airflow UI look at: a history of uploads, and the rows that the Scantrust page makes of it."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import requests

from airflow_provider_scantrust.sandbox import Sandbox
from doc_blocks import ROOT
from local_airflow import LocalAirflow

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Locator, Page, Route

PORTAL = "https://portal.example.com/#/"
USERS = ("admin", "guest", "nobody")
UPLOADS = {
    ("scantrust_sync_upload", "upload"),
    ("scantrust_upload_and_wait", "upload"),
    ("scantrust_async_upload", "submit"),
    ("upload", "task"),
    # An operator derived from the provider's.
    ("winery", "upload"),
}
RUN = "sample_day"
BOTTLE = (
    (ROOT / "dags_examples" / "sample_data" / "codes.csv").read_text("utf-8").splitlines()[1].split(",")[0]
)


def make_history(airflow: LocalAirflow, sandbox: Sandbox) -> None:
    sandbox.reset()
    sandbox.seed_csv(ROOT / "dags_examples" / "sample_data" / "codes.csv")
    day = datetime(2026, 11, 2, 7, tzinfo=UTC)
    for dag_id in ("scantrust_sync_upload", "scantrust_upload_and_wait", "scantrust_async_upload"):
        airflow.trigger(dag_id, logical_date=day, run_id=RUN)
    nowhere = {"items": [{"extended_id": "NOWHERE", "market": "FR"}]}
    for dag_id in ("upload", "upload_fail_on_unmatched"):
        airflow.trigger(dag_id, conf=nowhere, run_id=RUN)
    airflow.trigger("winery", conf={"items": [{"extended_id": BOTTLE, "market": "FR"}]}, run_id=RUN)
    for dag_id, _ in UPLOADS:
        assert "success" == airflow.wait_for_run(dag_id, RUN, timeout=240)
    assert "failed" == airflow.wait_for_run("upload_fail_on_unmatched", RUN, timeout=120)
    sandbox.jobs(fail=True)
    airflow.trigger("upload_async_on_worker", conf=nowhere, run_id=RUN)
    airflow.wait_for_task("upload_async_on_worker", RUN, "task", states={"up_for_retry"}, timeout=120)
    sandbox.jobs(hang=True)
    airflow.trigger("upload_async", conf={"items": [{"extended_id": "X", "market": "FR"}]}, run_id=RUN)
    airflow.wait_for_task("upload_async", RUN, "task", states={"deferred"}, timeout=120)


@contextmanager
def page_of(browser: Browser, airflow: LocalAirflow, user: str) -> Iterator[Page]:
    """A window in which somebody has signed in."""
    token = requests.post(
        f"{airflow.ui_url}/auth/token", json={"username": user, "password": user}, timeout=30
    ).json()["access_token"]
    context = browser.new_context(viewport={"width": 1600, "height": 1000}, base_url=airflow.ui_url)
    context.add_cookies([{"name": "_token", "value": token, "url": airflow.ui_url}])
    page = context.new_page()
    errors: list[str] = []
    page.on("pageerror", lambda error: errors.append(str(error)))
    try:
        yield page
    finally:
        context.close()
    assert [] == errors


def row_of(page: Page, dag_id: str, task_id: str) -> Locator:
    rows = page.locator(".st-table tbody tr")
    of_dag = page.locator("[data-column=upload] .st-muted", has_text=re.compile(f"^{dag_id}( ·|$)"))
    of_task = page.locator("[data-column=upload] a", has_text=re.compile(f"^{task_id}$"))
    return rows.filter(has=of_dag).filter(has=of_task)


def status_of(row: Locator) -> str:
    """The label of the row's status, without its mark."""
    return str(row.locator(".st-status").inner_text()).split("\n")[0].partition(" ")[2]


def with_uploads(page: Page, change: Callable[[list[dict[str, Any]]], list[dict[str, Any]]]) -> None:
    """Change the rows that the page gets."""

    def answer(route: Route) -> None:
        real = route.fetch()
        found = real.json()
        route.fulfill(response=real, json={**found, "uploads": change(found["uploads"])})

    page.route("**/scantrust/uploads?*", answer)


def cell(row: Locator, column: str) -> str:
    return str(row.locator(f"[data-column={column}]").inner_text())


def statuses(page: Page) -> list[str]:
    page.locator(".st-table tbody tr").first.wait_for()
    return sorted(row.get_attribute("data-status") or "" for row in page.locator(".st-table tbody tr").all())
