"""The Scantrust page as its users see it: in a real Airflow, after a few uploads, in a headless Chromium."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import pytest
import requests
from airflow.utils.state import TaskInstanceState

from airflow_provider_scantrust import __version__
from local_airflow import LocalAirflow
from ui_page import PORTAL, RUN, UPLOADS, cell, page_of, row_of, statuses

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page, Route


def number(value: Any) -> str:
    return "" if value is None else f"{value:,}"


def test_page_agrees_with_the_xcoms(page: Page, airflow: LocalAirflow) -> None:
    page.goto("/plugin/scantrust")
    for dag_id, task_id in UPLOADS:
        report = airflow.xcom(dag_id, RUN, task_id)
        row = row_of(page, dag_id, task_id)
        row.wait_for()
        shown = {
            name: cell(row, name) for name in ("mode", "rows", "calls", "codes", "unmatched", "rejected")
        }
        assert {
            "mode": report["mode"],
            "rows": number(report["rows"]),
            "calls": number(report["requests"]),
            "codes": number(report["codes_affected"]),
            "unmatched": number(report["unmatched"]["count"]),
            "rejected": number(sum(report.get("rejected", {}).values())),
        } == shown
        jobs = row.locator("[data-column=jobs] code")
        assert report["task_ids"] == jobs.all_text_contents()
    wait = row_of(page, "scantrust_async_upload", "wait")
    assert "150" == cell(wait, "codes")
    # The upload did not wait; that its job is complete is known from the sensor.
    submit = row_of(page, "scantrust_async_upload", "submit")
    assert "1 complete" == cell(submit, "jobs")


def test_rows_that_need_a_human_stand_out(page: Page) -> None:
    page.goto("/plugin/scantrust")
    failed = row_of(page, "upload_fail_on_unmatched", "task")
    assert "Failed" in cell(failed, "status")
    assert "1" == cell(failed, "unmatched")
    assert "Unmatched keys" in cell(row_of(page, "upload", "task"), "status")
    assert "Such as NOWHERE" == failed.locator("strong").get_attribute("title")
    page.get_by_label("Show").select_option(label="What needs you")
    assert ["failed", "unmatched"] == statuses(page)
    page.get_by_text("2 of 9 uploads and waits of the last 7 days; 2 need you").wait_for()


def test_failed_try_stands_out_and_calls_nobody(page: Page) -> None:
    page.goto("/plugin/scantrust")
    row = row_of(page, "upload_async_on_worker", "task")
    assert "Failed, will retry" in cell(row, "status")
    assert "1 failed" == cell(row, "jobs")


def test_every_state_of_a_task_has_its_word(page: Page) -> None:
    words = {
        "success": "Done",
        "failed": "Failed",
        "upstream_failed": "Failed",
        "up_for_retry": "Failed, will retry",
        "running": "Running",
        "deferred": "Waiting",
        "up_for_reschedule": "Waiting",
        "awaiting_input": "Waiting",
        "scheduled": "Queued",
        "queued": "Queued",
        "restarting": "Queued",
        None: "Not started",
        "skipped": "Skipped",
        "removed": "Skipped",
    }
    assert {None, *(state.value for state in TaskInstanceState)} == set(words)

    def answer_with_each(route: Route) -> None:
        real = route.fetch()
        found = real.json()
        (upload,) = [each for each in found["uploads"] if each["dag_id"] == "scantrust_sync_upload"]
        uploads = [{**upload, "run_id": str(state), "state": state} for state in words]
        route.fulfill(response=real, json={**found, "uploads": uploads})

    page.route("**/scantrust/uploads?*", answer_with_each)
    page.goto("/plugin/scantrust")
    page.locator(".st-table tbody tr").first.wait_for()
    rows = page.locator(".st-table tbody tr").all()
    shown = {cell(row, "run_id"): cell(row, "status").partition(" ")[2] for row in rows}
    assert {str(state): word for state, word in words.items()} == shown


def test_what_waits_is_seen_with_its_jobs(page: Page) -> None:
    page.goto("/plugin/scantrust")
    page.get_by_text("Waiting now, without a worker: 1 task with 1 job").wait_for()
    page.get_by_role("button", name="Show them").click()
    assert ["waiting"] == statuses(page)
    row = row_of(page, "upload_async", "task")
    assert "1 waited for" == cell(row, "jobs")
    assert "so far" in cell(row, "seconds")


def test_charts_add_the_codes_up(page: Page, airflow: LocalAirflow) -> None:
    page.goto("/plugin/scantrust")
    table = page.get_by_role("table", name="Codes updated a day")
    table.wait_for(state="attached")
    days = [
        int(text.replace(",", "").replace("none", "0")) for text in table.locator("td").all_text_contents()
    ]
    assert 7 == len(days)
    reports = [airflow.xcom(dag_id, RUN, task_id) for dag_id, task_id in UPLOADS]
    assert 150 + sum(report["codes_affected"] or 0 for report in reports) == sum(days)
    waits = page.get_by_role("table", name=re.compile("^Time until asynchronous jobs ended"))
    assert 1 == len([text for text in waits.locator("td:nth-child(2)").all_text_contents() if text != "none"])


@pytest.mark.parametrize(
    ("path", "rows", "hidden"),
    [
        ("/dags/scantrust_async_upload/plugin/scantrust-dag", 2, ["dag_id"]),
        (f"/dags/scantrust_async_upload/runs/{RUN}/plugin/scantrust-run", 2, ["dag_id", "run_id"]),
        ("/dags/scantrust_async_upload/tasks/wait/plugin/scantrust-task", 1, ["dag_id"]),
        (
            f"/dags/scantrust_async_upload/runs/{RUN}/tasks/submit/plugin/scantrust-task-instance",
            1,
            ["dag_id", "run_id"],
        ),
    ],
)
def test_tabs_show_what_belongs_to_them(page: Page, path: str, rows: int, hidden: list[str]) -> None:
    page.goto(path)
    assert rows == len(statuses(page))
    assert "true" == page.get_by_role("link", name="Scantrust", exact=True).last.evaluate(
        "link => String(location.pathname.endsWith(new URL(link.href).pathname))"
    )
    for column in hidden:
        assert 0 == page.locator(f"[data-column={column}]").count()


def test_navigation_leads_to_the_page(page: Page) -> None:
    page.goto("/")
    page.get_by_role("button", name="Browse").click()
    page.get_by_role("menuitem", name="Scantrust").click()
    page.get_by_role("heading", name="Scantrust uploads").wait_for()


def test_links_go_where_they_say(page: Page) -> None:
    page.goto("/plugin/scantrust")
    row = row_of(page, "scantrust_sync_upload", "upload")
    assert PORTAL == row.get_by_role("link", name="Scantrust portal").get_attribute("href")
    row.get_by_role("link", name="Log of").click()
    page.get_by_text("Uploaded: ").first.wait_for()
    assert f"/dags/scantrust_sync_upload/runs/{RUN}/tasks/upload" == urlsplit(page.url).path
    page.go_back()
    row.get_by_role("link", name="upload", exact=True).click()
    page.wait_for_url("**/tasks/upload/details")
    page.get_by_text("ScantrustUploadOperator").first.wait_for()


@pytest.mark.parametrize(
    ("dag_id", "task_id"),
    [
        ("upload", "task"),
        ("scantrust_async_upload", "wait"),
        ("upload_async", "task"),
        ("upload_fail_on_unmatched", "task"),
    ],
    ids=["operator", "sensor", "deferred", "failed"],
)
def test_portal_is_a_link_of_the_task(page: Page, airflow: LocalAirflow, dag_id: str, task_id: str) -> None:
    links = airflow.api("GET", f"dags/{dag_id}/dagRuns/{RUN}/taskInstances/{task_id}/links")
    assert {"Scantrust portal": PORTAL} == links["extra_links"]
    page.goto(f"/dags/{dag_id}/runs/{RUN}/tasks/{task_id}/details")
    assert PORTAL == page.get_by_role("link", name="Scantrust portal").get_attribute("href")


def test_table_is_sorted_with_the_keyboard(page: Page) -> None:
    page.goto("/plugin/scantrust")
    header = page.get_by_role("columnheader", name="Codes affected")
    header.get_by_role("button").focus()
    page.keyboard.press("Enter")
    assert "descending" == header.get_attribute("aria-sort")
    codes = [int(text) for text in page.locator("td[data-column=codes]").all_inner_texts() if text]
    assert sorted(codes, reverse=True) == codes
    page.keyboard.press("Enter")
    assert "ascending" == header.get_attribute("aria-sort")


def test_text_finds_uploads(page: Page) -> None:
    page.goto("/plugin/scantrust")
    page.get_by_label("Dag, run or task").fill("no such upload")
    page.get_by_text("Nothing here matches the filters.").wait_for()
    page.get_by_label("Dag, run or task").fill("async_upload WAIT")
    page.get_by_text("1 of 9 uploads").wait_for()
    assert 1 == row_of(page, "scantrust_async_upload", "wait").count()


def test_guest_sees_only_what_is_the_guests(browser: Browser, airflow: LocalAirflow) -> None:
    with page_of(browser, airflow, "guest") as page:
        page.goto("/plugin/scantrust")
        assert 1 == len(statuses(page))
        assert 1 == row_of(page, "scantrust_sync_upload", "upload").count()
        answer = page.request.get("/scantrust/uploads?dag_id=upload")
        assert 403 == answer.status


def test_user_without_rights_sees_nothing(browser: Browser, airflow: LocalAirflow) -> None:
    with page_of(browser, airflow, "nobody") as page:
        page.goto("/plugin/scantrust")
        page.get_by_role("alert").get_by_text("You may not read task instances and XComs here").wait_for()
        assert 0 == page.locator(".st-table").count()
        assert 403 == page.request.get("/scantrust/uploads").status


def test_nothing_but_its_files_is_for_strangers(airflow: LocalAirflow) -> None:
    assert 401 == requests.get(f"{airflow.ui_url}/scantrust/uploads", timeout=10).status_code
    for path in ("docs", "redoc", "openapi.json", "static/", f"static/{__version__}/..%2fapp.py"):
        assert 404 == requests.get(f"{airflow.ui_url}/scantrust/{path}", timeout=10).status_code


def test_error_is_told_and_a_refresh_mends_it(page: Page) -> None:
    page.route("**/scantrust/uploads?*", lambda route: route.fulfill(status=503, body="busy"))
    page.goto("/plugin/scantrust")
    page.get_by_role("alert").get_by_text("Airflow answered with HTTP 503").wait_for()
    page.unroute("**/scantrust/uploads?*")
    page.get_by_role("button", name="Refresh").click()
    page.locator(".st-table tbody tr").first.wait_for()
    assert 0 == page.get_by_role("alert").count()


def test_loading_and_emptiness_are_told(page: Page) -> None:
    held: list[Any] = []
    page.route("**/scantrust/uploads?*", lambda route: held.append(route))
    page.goto("/dags/wait_poke/plugin/scantrust-dag")
    page.get_by_role("status").get_by_text("Loading uploads").wait_for()
    held[0].continue_()
    page.get_by_text("There are no uploads of the last 7 days that you may see.").wait_for()


def test_colours_follow_airflows_mode(browser: Browser, airflow: LocalAirflow, page: Page) -> None:
    page.goto("/plugin/scantrust")
    colours = []
    for scheme in ("light", "dark"):
        page.emulate_media(color_scheme=scheme)
        page.reload()
        page.locator(".st-table tbody tr").first.wait_for()
        colours.append(page.locator(".st-page").evaluate("page => getComputedStyle(page).color"))
    assert colours[0] != colours[1]
