"""OpenLineage's events and Airflow's asset events of a real run, one leg of which waits in the triggerer."""

from __future__ import annotations

import json
import re
from typing import Any
from urllib.parse import urlsplit

import pytest

from airflow_provider_scantrust.sandbox import Sandbox
from doc_blocks import ROOT
from lineage_events import check_event
from local_airflow import LocalAirflow
from secret_search import forms_of
from system_steps import EVENTS, wait_until

# Events of Dag runs are Airflow's alone.
UPLOAD = re.compile(r"campaign(_that_fails)?\.(upload|note)")


@pytest.fixture(scope="module")
def airflow(airflow_with_openlineage: LocalAirflow) -> LocalAirflow:
    return airflow_with_openlineage


@pytest.fixture(scope="module")
def ran(airflow: LocalAirflow, running_sandbox: Sandbox) -> str:
    running_sandbox.reset()
    running_sandbox.seed(20, codes_per_lot=10)
    airflow.wait_for_dag("after_campaign")
    airflow.unpause("after_campaign")
    run_id = airflow.trigger("campaign")
    assert "success" == airflow.wait_for_run("campaign", run_id, timeout=240)
    return run_id


@pytest.fixture(scope="module")
def failed(airflow: LocalAirflow, ran: str) -> str:
    run_id = airflow.trigger("campaign_that_fails")
    assert "failed" == airflow.wait_for_run("campaign_that_fails", run_id, timeout=120)
    return run_id


def events(airflow: LocalAirflow, task_id: str, kind: str) -> list[dict[str, Any]]:
    lines = (airflow.home / EVENTS).read_text("utf-8").splitlines()
    found = [json.loads(line) for line in lines]
    return [
        event
        for event in found
        if event.get("eventType") == kind and event["job"]["name"] == f"campaign.{task_id}"
    ]


def test_events_of_a_real_run_tell_of_the_upload(
    airflow: LocalAirflow, running_sandbox: Sandbox, ran: str
) -> None:
    report = airflow.xcom("campaign", ran, "upload")
    (event,) = events(airflow, "upload", "COMPLETE")
    facet = event["run"]["facets"]["scantrust_upload"]
    assert (report["codes_affected"], report["task_ids"]) == (facet["codesAffected"], facet["taskIds"])
    (codes,) = event["outputs"]
    host = urlsplit(running_sandbox.url).netloc
    assert (f"scantrust://{host}", "codes") == (codes["namespace"], codes["name"])
    # The fields were sent before the deferral; the event is of the leg after it.
    assert ["market"] == [field["name"] for field in codes["facets"]["schema"]["fields"]]
    written = (airflow.home / EVENTS).read_bytes()
    assert b"scantrust_upload" in written
    assert not any(form in written for form in forms_of(running_sandbox.token))


def test_failed_task_tells_what_it_did(airflow: LocalAirflow, failed: str) -> None:
    lines = (airflow.home / EVENTS).read_text("utf-8").splitlines()
    (event,) = [
        each
        for each in map(json.loads, lines)
        if each.get("eventType") == "FAIL" and each["job"]["name"] == "campaign_that_fails.upload"
    ]
    facet = event["run"]["facets"]["scantrust_upload"]
    assert (1, 1) == (facet["codesAffected"], facet["unmatched"])
    assert "NOWHERE" in event["run"]["facets"]["errorMessage"]["message"]


def test_every_event_of_an_upload_is_what_openlineage_allows(airflow: LocalAirflow, failed: str) -> None:
    lines = (airflow.home / EVENTS).read_text("utf-8").splitlines()
    uploads = [event for event in map(json.loads, lines) if UPLOAD.match(event["job"]["name"])]
    facets = {(event["job"]["name"], event["eventType"]): check_event(event) for event in uploads}
    assert {"START", "COMPLETE", "FAIL"} == {kind for _, kind in facets}
    assert {"scantrust_upload", "schema", "outputStatistics"} <= facets["campaign.upload", "COMPLETE"]


def test_updated_codes_start_the_dag_that_waits_for_them(airflow: LocalAirflow, ran: str) -> None:
    (event,) = airflow.api("GET", "assets/events", params={"source_dag_id": "campaign"})["asset_events"]
    report = airflow.xcom("campaign", ran, "note")
    assert report == event["extra"]
    assert 1 == report["codes_affected"]
    runs = airflow.api("GET", "dags/after_campaign/dagRuns")["dag_runs"]
    assert 1 == len(runs)
    assert "success" == airflow.wait_for_run("after_campaign", runs[0]["dag_run_id"], timeout=120)
    assert 1 == airflow.xcom("after_campaign", runs[0]["dag_run_id"], "read")


def test_dags_of_the_docs_are_joined_by_their_asset(
    airflow: LocalAirflow, running_sandbox: Sandbox, ran: str
) -> None:
    running_sandbox.seed_csv(ROOT / "dags_examples" / "sample_data" / "codes.csv")
    airflow.unpause("after_the_update")
    run_id = airflow.trigger("update_campaign")
    assert "success" == airflow.wait_for_run("update_campaign", run_id, timeout=120)

    def is_told() -> bool:
        runs = airflow.api("GET", "dags/after_the_update/dagRuns")["dag_runs"]
        ended = [run["dag_run_id"] for run in runs if run["state"] == "success"]
        return any("3 codes were updated" in airflow.logs("after_the_update", run, "tell") for run in ended)

    wait_until(is_told, 60)
