"""The Scantrust page as its users see it: in a real Airflow, after a few uploads, in a headless Chromium."""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit
from zoneinfo import ZoneInfo

import pytest
import requests
from airflow.utils.state import TaskInstanceState

from airflow_provider_scantrust import __version__
from local_airflow import LocalAirflow
from ui_page import PORTAL, RUN, UPLOADS, cell, page_of, row_of, status_of, statuses, with_uploads

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page


def number(value: Any) -> str:
    return "" if value is None else f"{value:,}"


def test_page_agrees_with_the_xcoms(page: Page, airflow: LocalAirflow) -> None:
    page.goto("/plugin/scantrust")
    for dag_id, task_id in UPLOADS:
        report = airflow.xcom(dag_id, RUN, task_id)
        row = row_of(page, dag_id, task_id)
        row.wait_for()
        shown = {name: cell(row, name) for name in ("rows", "codes", "unmatched")}
        assert {
            "rows": number(report["rows"]),
            "codes": number(report["codes_affected"]),
            "unmatched": number(report["unmatched"]["count"]),
        } == shown
        assert report["mode"] in cell(row, "upload")
    wait = row_of(page, "scantrust_async_upload", "wait")
    assert "150" == cell(wait, "codes")
    # The upload did not wait; that its job is complete is known from the sensor.
    submit = row_of(page, "scantrust_async_upload", "submit")
    assert "1 complete" == cell(submit, "jobs").replace("\n", " ")


def test_rows_that_need_attention_say_why(page: Page) -> None:
    page.goto("/plugin/scantrust")
    failed = row_of(page, "upload_fail_on_unmatched", "task")
    assert ("Failed", "1") == (status_of(failed), cell(failed, "unmatched"))
    assert "1 unknown key" in cell(failed, "why")
    warning = row_of(page, "upload", "task")
    assert ("Warning", "No code updated by 1 row\n1 unknown key") == (
        status_of(warning),
        cell(warning, "why"),
    )
    page.get_by_role("link", name="2 need attention").click()
    assert ["failed", "warning"] == statuses(page)
    assert "show=attention" in page.url
    page.reload()
    assert ["failed", "warning"] == statuses(page)


def test_try_that_airflow_repeats_needs_no_attention_and_says_why(page: Page) -> None:
    page.goto("/plugin/scantrust")
    row = row_of(page, "upload_async_on_worker", "task")
    assert "Will retry" == status_of(row)
    assert "1 of 1 job failed" in cell(row, "why")
    assert row.get_attribute("data-attention") is None


def test_every_state_of_a_task_has_its_word(page: Page) -> None:
    words = {
        "success": "Done",
        "failed": "Failed",
        "upstream_failed": "Failed",
        "up_for_retry": "Will retry",
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

    def one_of_each(uploads: list[dict[str, Any]]) -> list[dict[str, Any]]:
        (upload,) = [each for each in uploads if each["dag_id"] == "scantrust_sync_upload"]
        return [
            {**upload, "run_id": str(state), "key": str(state), "state": state, "problems": []}
            for state in words
        ]

    with_uploads(page, one_of_each)
    page.goto("/plugin/scantrust")
    page.locator(".st-table tbody tr").first.wait_for()
    rows = page.locator(".st-table tbody tr").all()
    shown = {row.locator("[data-column=start] a").inner_text(): status_of(row) for row in rows}
    assert {str(state): word for state, word in words.items()} == shown


def test_what_waits_is_seen_with_its_jobs(page: Page) -> None:
    page.goto("/plugin/scantrust")
    page.get_by_role("link", name="1 task waits without a worker").click()
    assert ["waiting"] == statuses(page)
    row = row_of(page, "upload_async", "task")
    assert "1 waiting" == cell(row, "jobs").replace("\n", " ")
    assert "so far" in cell(row, "seconds")


def test_charts_show_what_failed_beside_what_was_updated(page: Page) -> None:
    page.goto("/plugin/scantrust")
    sums = {}
    for title in ("Rows per day", "Uploads and waits per day"):
        table = page.get_by_role("table", name=title)
        table.wait_for(state="attached")
        assert 7 == table.locator("tbody tr").count()
        names = table.locator("thead th").all_text_contents()[1:]
        for place, name in enumerate(names, start=2):
            texts = table.locator(f"tbody tr > :nth-child({place})").all_text_contents()
            sums[title, name] = sum(int(text.replace(",", "").replace("none", "0")) for text in texts)
    assert sums["Rows per day", "Updated"] > 0
    assert 2 == sums["Rows per day", "Unknown keys"]
    assert (1, 1) == tuple(sums["Uploads and waits per day", name] for name in ("Warning", "Failed"))


def test_mapped_tasks_of_a_run_are_one_row_that_opens(page: Page) -> None:
    def mapped(uploads: list[dict[str, Any]]) -> list[dict[str, Any]]:
        (upload,) = [each for each in uploads if each["dag_id"] == "scantrust_sync_upload"]
        return [{**upload, "map_index": index, "key": str(index)} for index in range(12)]

    with_uploads(page, mapped)
    page.goto("/plugin/scantrust")
    assert 1 == len(statuses(page))
    fold = page.get_by_role("button", name="Mapped tasks of upload")
    fold.focus()
    page.keyboard.press("Enter")
    assert ("true", 12) == (fold.get_attribute("aria-expanded"), page.locator(".st-member").count())
    fold.click()
    assert 0 == page.locator(".st-member").count()


@pytest.mark.parametrize("width", [1280, 1440, 1920])
@pytest.mark.parametrize(
    "path",
    ["/plugin/scantrust", f"/dags/scantrust_async_upload/runs/{RUN}/plugin/scantrust-run"],
    ids=["page", "run"],
)
def test_table_needs_no_sideways_scrolling(page: Page, path: str, width: int) -> None:
    long = "scheduled__2026-11-02T07:00:00.141253+00:00"
    why = [{"kind": "failed", "text": "ServiceUnavailable: Scantrust answered 503 for 300 s", "open": True}]
    names = {"run_id": long, "dag_id": "d_" * 40, "task_id": "t" * 60, "problems": why}
    # A value in each column.
    counts = {
        "unmatched": 4_713,
        "rejected": {"refused": 5},
        "jobs": [["a", "complete", 1, None]],
        "jobs_total": 1,
    }
    with_uploads(page, lambda uploads: [{**each, **names, **counts} for each in uploads])
    page.set_viewport_size({"width": width, "height": 900})
    page.goto(path)
    page.locator(".st-table tbody tr").first.wait_for()
    assert page.locator(".st-scroll").evaluate("box => box.scrollWidth <= box.clientWidth")


def test_column_that_is_empty_for_every_row_is_not_shown(page: Page) -> None:
    page.goto("/plugin/scantrust")
    page.locator(".st-scroll th[data-column=unmatched]").wait_for()
    # No upload here has rejected rows.
    assert 0 == page.locator(".st-scroll [data-column=rejected]").count()
    page.get_by_label("Search").fill("winery")
    page.get_by_text("1 of 9 uploads").wait_for()
    assert 0 == page.locator(".st-scroll [data-column=unmatched]").count()


def test_moments_are_in_the_time_zone_that_the_user_chose_in_airflow(page: Page) -> None:
    page.goto("/plugin/scantrust")
    row = row_of(page, "winery", "upload")
    before = row.locator("time").inner_text()
    page.evaluate("localStorage.setItem('timezone', JSON.stringify('Pacific/Kiritimati'))")
    page.reload()
    row.wait_for()
    there = row.locator("time").inner_text()
    assert before != there
    moment = datetime.fromisoformat(str(row.locator("time").get_attribute("datetime")))
    assert f"{moment.astimezone(ZoneInfo('Pacific/Kiritimati')):%Y-%m-%d %H:%M:%S}" == there


@pytest.mark.parametrize(
    ("path", "rows"),
    [
        ("/dags/scantrust_async_upload/plugin/scantrust-dag", 2),
        (f"/dags/scantrust_async_upload/runs/{RUN}/plugin/scantrust-run", 2),
        ("/dags/scantrust_async_upload/tasks/wait/plugin/scantrust-task", 1),
    ],
)
def test_tabs_show_what_belongs_to_them(page: Page, path: str, rows: int) -> None:
    page.goto(path)
    assert rows == len(statuses(page))
    assert "true" == page.get_by_role("link", name="Scantrust", exact=True).last.evaluate(
        "link => String(location.pathname.endsWith(new URL(link.href).pathname))"
    )
    assert "scantrust_async_upload" not in page.locator(".st-table").inner_text()


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
    page.get_by_text("Report: ").first.wait_for()
    assert f"/dags/scantrust_sync_upload/runs/{RUN}/tasks/upload" == urlsplit(page.url).path
    page.go_back()
    row.get_by_role("link", name="upload", exact=True).click()
    page.wait_for_url("**/tasks/upload/plugin/scantrust-task-instance")
    page.get_by_role("heading", name="Scantrust report").wait_for()


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
    report = f"/dags/{dag_id}/runs/{RUN}/tasks/{task_id}/plugin/scantrust-task-instance"
    assert {"Scantrust portal": PORTAL, "Scantrust report": report} == links["extra_links"]
    page.goto(f"/dags/{dag_id}/runs/{RUN}/tasks/{task_id}/details")
    assert PORTAL == page.get_by_role("link", name="Scantrust portal").get_attribute("href")


def test_table_is_sorted_with_the_keyboard(page: Page) -> None:
    page.goto("/plugin/scantrust")
    header = page.get_by_role("columnheader", name="Codes")
    header.get_by_role("button").focus()
    page.keyboard.press("Enter")
    assert "descending" == header.get_attribute("aria-sort")
    codes = [int(text) for text in page.locator("td[data-column=codes]").all_inner_texts() if text]
    assert sorted(codes, reverse=True) == codes
    page.keyboard.press("Enter")
    assert "ascending" == header.get_attribute("aria-sort")


def test_text_finds_uploads(page: Page) -> None:
    page.goto("/plugin/scantrust")
    page.get_by_label("Search").fill("zebra")
    page.get_by_text("No upload matches the filters.").wait_for()
    page.get_by_label("Search").fill("async_upload WAIT")
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


def test_error_is_shown_until_a_refresh_succeeds(page: Page) -> None:
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


def test_colors_follow_airflows_mode(browser: Browser, airflow: LocalAirflow, page: Page) -> None:
    page.goto("/plugin/scantrust")
    colors = []
    for scheme in ("light", "dark"):
        page.emulate_media(color_scheme=scheme)
        page.reload()
        page.locator(".st-table tbody tr").first.wait_for()
        colors.append(page.locator(".st-page").evaluate("page => getComputedStyle(page).color"))
    assert colors[0] != colors[1]
