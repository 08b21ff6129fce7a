"""The connection form as its users see it, and its Test button."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from airflow_provider_scantrust.get_provider_info import get_provider_info
from airflow_provider_scantrust.sandbox import Sandbox
from local_airflow import LocalAirflow

if TYPE_CHECKING:
    from playwright.sync_api import Page, Response


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
    """When this fails with a newer Airflow, its UI has been fixed: docs/connect.md can say less."""
    save_connection(page, "without_port", host=running_sandbox.url, password=running_sandbox.token)
    answer = press_test(page, "without_port")
    assert 400 == answer.status
    assert "The host or port to test differs from the stored connection" in answer.text()
