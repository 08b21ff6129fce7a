"""The provider's own OpenLineage facet; needs the extra ``openlineage``, so only methods import it."""

from __future__ import annotations

from typing import Any

import attr
from airflow.providers.common.compat.openlineage.facet import RunFacet

# The $id of ScantrustUploadRunFacet.json beside this file; a change of shape is a new version in both.
SCHEMA_URL = "urn:airflow-provider-scantrust:facets:1-0-1:ScantrustUploadRunFacet.json"


@attr.define
class ScantrustUploadRunFacet(RunFacet):
    """
    The upload's report, in OpenLineage's spelling; it contains no keys of rows.

    OpenLineage's client leaves out fields that are None.
    """

    mode: str = ""
    rows: int = 0
    requests: int = 0
    codesAffected: int | None = None
    unmatched: int | None = None
    discardedFields: list[str] | None = None
    rejected: dict[str, int] = attr.field(factory=dict)
    taskIds: list[str] = attr.field(factory=list)
    seconds: float = 0.0

    @staticmethod
    def _get_schema() -> str:
        return f"{SCHEMA_URL}#/$defs/ScantrustUploadRunFacet"

    @classmethod
    def of(cls, report: dict[str, Any]) -> ScantrustUploadRunFacet:
        """Return the facet of a report that a task returns."""
        return cls(
            mode=report["mode"],
            rows=report["rows"],
            requests=report["requests"],
            codesAffected=report["codes_affected"],
            unmatched=report["unmatched"]["count"],
            discardedFields=report["discarded_fields"],
            rejected=report.get("rejected", {}),
            taskIds=report["task_ids"],
            seconds=report["seconds"],
        )
