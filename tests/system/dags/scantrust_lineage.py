"""DAGs of the lineage tests: an upload that waits, one with an outlet, and a DAG that its event starts."""

from __future__ import annotations

from typing import Any

from airflow.providers.openlineage.utils.selective_enable import enable_lineage
from airflow.sdk import DAG, Asset, task

from airflow_provider_scantrust.operators.scantrust import ScantrustUploadOperator

CAMPAIGN = Asset(uri="scantrust://api.scantrust.com/campaigns/126")

with DAG("campaign", schedule=None) as campaign:
    upload = ScantrustUploadOperator(
        task_id="upload",
        constraints={"lot_number": "L-000001"},
        scm_data={"market": "FR"},
        poll_interval=1,
    )
    note = ScantrustUploadOperator(
        task_id="note",
        items=[{"extended_id": "SBX00000002", "market": "FR"}],
        outlets=[CAMPAIGN],
    )
    upload >> note

with DAG("campaign_that_fails", schedule=None) as campaign_that_fails:
    ScantrustUploadOperator(
        task_id="upload",
        items=[{"extended_id": key, "market": "FR"} for key in ("SBX00000001", "NOWHERE")],
        on_unmatched="fail",
    )

for dag in (campaign, campaign_that_fails):
    enable_lineage(dag)

with DAG("after_campaign", schedule=[CAMPAIGN]):

    @task
    def read(*, triggering_asset_events: Any = None) -> int:
        """Return what the report says."""
        (event,) = triggering_asset_events[CAMPAIGN]
        return int(event.extra["codes_affected"])

    read()
