"""The tab of a task instance, with its report card, and what a user can change there."""

from __future__ import annotations

from typing import TYPE_CHECKING

from local_airflow import LocalAirflow
from ui_page import PORTAL, RUN, page_of, with_uploads

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Dialog, Page

CARD = f"/dags/upload/runs/{RUN}/tasks/task/plugin/scantrust-task-instance"


def test_tab_of_a_task_instance_is_a_report_card(page: Page) -> None:
    page.goto(CARD)
    card = page.locator(".st-card")
    card.wait_for()
    text = card.inner_text()
    for part in ("Warning", "1 unknown key", "1 row", "NOWHERE", "scantrust_default", "Codes updated", "Try"):
        assert part in text
    assert PORTAL == card.get_by_role("link", name="Scantrust portal").get_attribute("href")


def test_user_acknowledges_a_problem_in_the_note_and_withdraws_it(page: Page, airflow: LocalAirflow) -> None:
    place = f"dags/upload/dagRuns/{RUN}/taskInstances/task"
    airflow.api("PATCH", f"{place}?update_mask=note", json={"note": "Seen by Ann."})
    page.goto(CARD)
    page.get_by_role("button", name="Acknowledge", exact=True).click()
    page.get_by_text("A user has acknowledged this.").wait_for()
    assert "Seen by Ann.\nScantrust: acknowledged (try 1)" == airflow.api("GET", place)["note"]
    page.goto("/plugin/scantrust")
    page.get_by_role("link", name="1 needs attention").wait_for()
    page.goto(CARD)
    page.get_by_role("button", name="Withdraw acknowledgment").click()
    page.get_by_role("button", name="Acknowledge", exact=True).wait_for()
    assert "Seen by Ann." == airflow.api("GET", place)["note"]


def test_user_who_may_only_read_is_told_so(browser: Browser, airflow: LocalAirflow) -> None:
    with page_of(browser, airflow, "guest") as page:
        with_uploads(page, lambda uploads: [{**each, "needs_attention": True} for each in uploads])
        page.goto(f"/dags/scantrust_sync_upload/runs/{RUN}/tasks/upload/plugin/scantrust-task-instance")
        page.get_by_role("button", name="Acknowledge", exact=True).click()
        page.get_by_role("alert").get_by_text("You may not change this task").wait_for()


def test_clear_asks_first(page: Page) -> None:
    questions: list[str] = []

    def refuse(dialog: Dialog) -> None:
        questions.append(dialog.message)
        dialog.dismiss()

    page.on("dialog", refuse)
    page.goto(CARD)
    page.get_by_role("button", name="Clear and run again").click()
    assert [f"Clear task of {RUN}? Airflow then runs this task again."] == questions
