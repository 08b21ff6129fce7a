"""The Airflow UI as its users see it: a real Airflow, after a few uploads, in a headless Chromium."""

from __future__ import annotations

import json
import os
import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote, urlsplit

import pytest
import requests
from airflow.utils.state import TaskInstanceState

from airflow_provider_scantrust import __version__
from airflow_provider_scantrust.get_provider_info import get_provider_info
from airflow_provider_scantrust.sandbox import Sandbox
from browser import NoBrowser, chromium
from doc_blocks import ROOT
from local_airflow import LocalAirflow

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Locator, Page, Response, Route

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


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    try:
        with chromium() as browser:
            yield browser
    except NoBrowser as error:
        if os.environ.get("SCANTRUST_REQUIRE_BROWSER"):
            raise
        pytest.skip(str(error))


@pytest.fixture(scope="module")
def airflow(
    browser: Browser, running_sandbox: Sandbox, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[LocalAirflow]:
    """An Airflow with users, in which uploads ended well, left something to do, failed and wait."""
    home = tmp_path_factory.mktemp("airflow")
    dags = home / "dags"
    shutil.copytree(ROOT / "dags_examples", dags, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("scantrust_system.py", "scantrust_ui.py"):
        shutil.copy(Path(__file__).parent / "dags" / name, dags)
    passwords = home / "passwords.json"
    passwords.write_text(json.dumps({user: user for user in USERS}))
    uri = running_sandbox.connection_uri
    with LocalAirflow(
        home,
        dags,
        connections={
            "scantrust_default": f"{uri}{'&' if '?' in uri else '?'}portal_url={quote(PORTAL, safe='')}"
        },
        env={"PYTHONPATH": str(ROOT / "tests" / "support")},
        config={
            "scheduler.use_job_schedule": "False",
            "core.auth_manager": "narrow_auth.NarrowAuthManager",
            "core.simple_auth_manager_all_admins": "False",
            "core.simple_auth_manager_users": "admin:admin,guest:viewer,nobody:viewer",
            "core.simple_auth_manager_passwords_file": str(passwords),
        },
    ) as airflow:
        airflow.sign_in("admin", "admin")
        make_history(airflow, running_sandbox)
        yield airflow


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


@pytest.fixture
def page(browser: Browser, airflow: LocalAirflow) -> Iterator[Page]:
    with page_of(browser, airflow, "admin") as page:
        yield page


def row_of(page: Page, dag_id: str, task_id: str) -> Locator:
    rows = page.locator(".st-table tbody tr")
    return rows.filter(has=page.locator("[data-column=dag_id]", has_text=re.compile(f"^{dag_id}$"))).filter(
        has=page.locator("[data-column=task_id]", has_text=re.compile(f"^{task_id}$"))
    )


def cell(row: Locator, column: str) -> str:
    return str(row.locator(f"[data-column={column}]").inner_text())


def statuses(page: Page) -> list[str]:
    page.locator(".st-table tbody tr").first.wait_for()
    return sorted(row.get_attribute("data-status") or "" for row in page.locator(".st-table tbody tr").all())


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
    assert "1 not known" == cell(row, "jobs")


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


def save_connection(page: Page, conn_id: str, **fields: str) -> list[str]:
    """Fill the form in and save it; return the labels of its fields."""
    page.goto("/connections")
    page.get_by_role("button", name="Add Connection").click()
    page.locator("input[name=connection_id]").fill(conn_id)
    page.get_by_role("combobox", name="Connection Type").fill("scantrust")
    page.get_by_role("option", name="scantrust").click()
    form = page.get_by_role("dialog")
    for name, value in fields.items():
        page.locator(f"input[name={name}]").fill(value)
    form.get_by_role("button", name="Extra Fields", exact=True).click()
    labels = [label.split("\n")[0] for label in form.locator("label").all_inner_texts()]
    form.get_by_role("button", name="Save").click()
    page.get_by_role("row", name=re.compile(conn_id)).wait_for()
    return labels


def press_test(page: Page, conn_id: str) -> Response:
    row = page.get_by_role("row", name=re.compile(conn_id))
    with page.expect_response(lambda answer: answer.url.endswith("/connections/test")) as tested:
        row.get_by_role("button", name="Test Connection").click()
    response: Response = tested.value
    return response


def test_connection_form_has_the_declared_fields_and_saves_a_connection_that_works(
    page: Page, airflow: LocalAirflow, running_sandbox: Sandbox
) -> None:
    host, _, port = running_sandbox.url.rpartition(":")
    labels = save_connection(page, "from_the_form", host=host, port=port, password=running_sandbox.token)
    declared = next(
        entry for entry in get_provider_info()["connection-types"] if entry["connection-type"] == "scantrust"
    )
    behaviour = declared["ui-field-behaviour"]
    standard = {"host", "login", "password", "schema", "port"} - set(behaviour["hidden-fields"])
    last = 3 + len(standard)
    assert ["Connection ID", "Connection Type", "Description"] == labels[:3]
    assert {behaviour["relabeling"][name] for name in standard} == set(labels[3:last])
    fields = [field["label"] for field in declared["conn-fields"].values()]
    assert fields == [label for label in labels[last:] if label]
    saved = airflow.api("GET", "connections/from_the_form")
    assert ("scantrust", host, int(port)) == (saved["conn_type"], saved["host"], saved["port"])
    answer = press_test(page, "from_the_form").json()
    assert answer["status"], answer
    assert "Connected to Scantrust at" in answer["message"]


def test_test_button_needs_a_port_as_the_docs_say(page: Page, running_sandbox: Sandbox) -> None:
    """When this fails with a newer Airflow, its UI has been mended: docs/connect.md can say less."""
    save_connection(page, "without_port", host=running_sandbox.url, password=running_sandbox.token)
    answer = press_test(page, "without_port")
    assert 400 == answer.status
    assert "The host or port to test differs from the stored connection" in answer.text()
