"""What OpenLineage is told about uploads to the sandbox."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import referencing.exceptions
from airflow.providers.common.compat.sdk import AirflowFailException
from openlineage.client.event_v2 import Job, Run, RunEvent, RunState
from openlineage.client.serde import Serde

from airflow_provider_scantrust.assets.scantrust import create_asset
from airflow_provider_scantrust.lineage.scantrust import source_name
from airflow_provider_scantrust.operators.scantrust import ScantrustUploadOperator
from airflow_provider_scantrust.sandbox import Sandbox
from lineage_events import OWN_SCHEMA, check_event
from tasks import TaskInstance, bottles

WHEN = "2026-11-01T00:00:00Z"


class OutletEvents(dict[Any, Any]):
    def __missing__(self, key: Any) -> Any:
        self[key] = type("Event", (), {"extra": {}})()
        return self[key]


def upload(
    fails: bool = False, **options: Any
) -> tuple[dict[str, Any], ScantrustUploadOperator, OutletEvents]:
    """Run an upload and return the event that OpenLineage's client makes of it, as JSON."""
    operator = ScantrustUploadOperator(task_id="upload", deferrable=False, poll_interval=0.05, **options)
    events = OutletEvents()
    context: Any = {"ti": TaskInstance(), "outlet_events": events}
    if fails:
        with pytest.raises(AirflowFailException):
            operator.execute(context)
        found = operator.get_openlineage_facets_on_failure(None)
    else:
        operator.execute(context)
        found = operator.get_openlineage_facets_on_complete(None)
    event = RunEvent(
        eventType=RunState.COMPLETE,
        eventTime=WHEN,
        producer="https://example.com",
        run=Run(runId="01a20784-1a0a-7e29-9066-de83bae525a7", facets=found.run_facets),
        job=Job(namespace="tests", name="upload", facets=found.job_facets),
        inputs=found.inputs,
        outputs=found.outputs,
    )
    sent = json.loads(Serde.to_json(event))
    check_event(sent)
    return sent, operator, events


def test_upload_of_a_file_has_source_codes_fields_and_counts(sandbox: Sandbox, tmp_path: Path) -> None:
    path = tmp_path / "rows.csv"
    rows = bottles(1, 2, 60)
    path.write_text("\n".join([",".join(rows[0]), *(",".join(row.values()) for row in rows)]))
    event, _, _ = upload(source=str(path))
    (source,) = event["inputs"]
    assert ("file", str(path)) == (source["namespace"], source["name"])
    assert 3 == source["inputFacets"]["inputStatistics"]["rowCount"]
    (codes,) = event["outputs"]
    assert (f"scantrust://{sandbox.url.removeprefix('http://')}", "codes") == (
        codes["namespace"],
        codes["name"],
    )
    assert 2 == codes["outputFacets"]["outputStatistics"]["rowCount"]
    assert sorted(rows[0].keys() - {"extended_id"}) == [
        field["name"] for field in codes["facets"]["schema"]["fields"]
    ]
    facet = event["run"]["facets"]["scantrust_upload"]
    assert ("sync", 3, 1, 2, 1) == tuple(
        facet[name] for name in ("mode", "rows", "requests", "codesAffected", "unmatched")
    )


def test_facet_meets_its_schema(sandbox: Sandbox) -> None:
    event, _, _ = upload(items=bottles(1, 2), mode="async")
    facet = event["run"]["facets"]["scantrust_upload"]
    assert 1 == len(facet["taskIds"])
    assert f"{OWN_SCHEMA['$id']}#/$defs/ScantrustUploadRunFacet" == facet["_schemaURL"]
    described = OWN_SCHEMA["$defs"]["ScantrustUploadRunFacet"]["properties"]
    # No answer to a job tells which fields were discarded, and what is not known is left out.
    assert set(described) - {"discardedFields"} == set(facet)


def test_count_that_is_not_known_yet_is_left_out(sandbox: Sandbox) -> None:
    sandbox.jobs(hang=True)
    event, _, _ = upload(items=bottles(1, 2), mode="async", wait_for_completion=False)
    assert "codesAffected" not in event["run"]["facets"]["scantrust_upload"]
    assert "outputStatistics" not in event["outputs"][0].get("outputFacets", {})


@pytest.mark.parametrize(
    ("path", "value"),
    [
        (["eventTime"], "2026-11-01"),
        (["eventType"], "DONE"),
        (["run", "runId"], "1"),
        (["run", "facets", "scantrust_upload", "rows"], "two"),
        (["job", "owner"], "me"),
        (["inputs", 0, "inputFacets", "inputStatistics", "rowCount"], 1.5),
        (["inputs", 0, "inputFacets", "inputStatistics", "rows"], 1),
        (["outputs", 0, "facets", "schema", "fields", 0, "type"], 1),
        (["outputs", 0, "facets", "schema", "_schemaURL"], "urn:of-nobody"),
    ],
    ids=lambda value: ".".join(map(str, value)) if isinstance(value, list) else "",
)
def test_what_the_schemas_do_not_allow_is_seen(
    sandbox: Sandbox, tmp_path: Path, path: list[Any], value: Any
) -> None:
    (tmp_path / "rows.csv").write_text("extended_id,market\nSBX00000001,FR")
    place, _, _ = upload(source=str(tmp_path / "rows.csv"))
    event = place
    for step in path[:-1]:
        place = place[step]
    place[path[-1]] = value
    with pytest.raises((jsonschema.ValidationError, referencing.exceptions.Unresolvable)):
        check_event(event)


def test_outlets_name_what_was_updated_and_get_the_report(sandbox: Sandbox) -> None:
    asset = create_asset(name="campaigns/126")
    event, _, events = upload(items=bottles(1, 2), outlets=[asset])
    (codes,) = event["outputs"]
    assert ("scantrust://api.scantrust.com", "campaigns/126") == (codes["namespace"], codes["name"])
    assert 2 == events[asset].extra["codes_affected"]


def test_upload_that_fails_by_its_counts_says_what_was_done(sandbox: Sandbox) -> None:
    event, _, events = upload(fails=True, items=bottles(1, 99), on_unmatched="fail", outlets=[create_asset()])
    facet = event["run"]["facets"]["scantrust_upload"]
    assert (1, 1) == (facet["codesAffected"], facet["unmatched"])
    assert {} == events


def test_upload_that_is_refused_has_sent_nothing(sandbox: Sandbox) -> None:
    event, _, _ = upload(fails=True, items=[{"market": "FR"}])
    assert 0 == event["run"]["facets"]["scantrust_upload"]["codesAffected"]


def test_lineage_costs_no_call(sandbox: Sandbox) -> None:
    _, operator, _ = upload(items=bottles(1, 2))
    calls = len(sandbox.transcript())
    operator.get_openlineage_facets_on_complete(None)
    assert calls == len(sandbox.transcript())


def test_nothing_of_the_rows_is_told(sandbox: Sandbox) -> None:
    rows = bottles(1, 99)
    text = json.dumps(upload(items=rows)[0])
    assert [] == [value for row in rows for value in row.values() if value in text]


@pytest.mark.parametrize(
    ("source", "name"),
    [
        ("/data/rows.csv", ("file", "/data/rows.csv")),
        ("file:///data/rows.csv", ("file", "/data/rows.csv")),
        ("s3://bucket/day/rows.csv", ("s3://bucket", "day/rows.csv")),
        ("s3://bucket/in/rows#1?.csv", ("s3://bucket", "in/rows#1?.csv")),
        ("s3://my_conn@bucket/day/rows.csv", ("s3://bucket", "day/rows.csv")),
        ("gs://my_conn@bucket/rows.csv", ("gs://bucket", "rows.csv")),
        (
            "abfss://box@account.dfs.core.windows.net/rows.csv",
            ("abfss://box@account.dfs.core.windows.net", "rows.csv"),
        ),
    ],
)
def test_sources_have_openlineages_names(source: str, name: tuple[str, str]) -> None:
    assert name == source_name(source)
