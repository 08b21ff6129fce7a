"""The OpenLineage metadata of an upload, from what the task already knows, without a call to Scantrust."""

from __future__ import annotations

import os
import time
from typing import TYPE_CHECKING, Any

from airflow_provider_scantrust.assets.scantrust import CODES, SCHEME, dataset_name, scantrust_outlets

if TYPE_CHECKING:
    from airflow.providers.common.compat.openlineage.facet import InputDataset, OutputDataset
    from airflow.providers.openlineage.extractors import OperatorLineage

    from airflow_provider_scantrust.uploads.report import Report

FACET = "scantrust_upload"


def describe_upload(
    operator: Any, report: Report | None, summary: dict[str, Any] | None
) -> OperatorLineage[Any, Any]:
    """
    Return inputs, outputs and facets of an upload.

    :param operator: The ``ScantrustUploadOperator``, which this module must not import.
    :param report: The counts; None if the task ended before it had any.
    :param summary: The returned report, if the upload has ended.
    """
    from airflow.providers.openlineage.extractors import OperatorLineage

    from airflow_provider_scantrust.lineage.facets import ScantrustUploadRunFacet

    if report is None:
        return OperatorLineage(inputs=_inputs(operator, None))
    counts = summary or report.summary(now=time.time())
    return OperatorLineage(
        inputs=_inputs(operator, report.rows),
        outputs=[] if operator.dry_run_only else _outputs(operator, report.fields, counts["codes_affected"]),
        run_facets={FACET: ScantrustUploadRunFacet.of(counts)},
    )


def source_name(source: str) -> tuple[str, str]:
    """
    Return namespace and name of a file by OpenLineage's naming rules.

    :param source: A path, or a URL of Airflow's object storage; the connection in it is not part of the name.
    """
    if "://" not in source:
        return "file", os.path.abspath(source)
    scheme, _, place, path = split_url(source)
    if scheme in ("file", "local"):
        return "file", os.path.abspath(f"/{path}")
    scheme = {"s3a": "s3", "s3n": "s3", "gcs": "gs"}.get(scheme, scheme)
    return f"{scheme}://{place}", path.strip("/") or "/"


def split_url(url: str) -> tuple[str, str, str, str]:
    """Return scheme, connection, bucket or host, and path of a URL of Airflow's object storage."""
    # Not urlsplit: object names may contain # and ?.
    scheme, _, rest = url.partition("://")
    place, _, path = rest.partition("/")
    connection = ""
    # In abfss://container@account.dfs.core.windows.net, the part before @ is not a connection; in
    # s3://connection@bucket it is.
    if not place.endswith(".core.windows.net"):
        connection, _, place = place.rpartition("@")
    return scheme.lower(), connection, place, path


def _inputs(operator: Any, rows: int | None) -> list[InputDataset]:
    from airflow.providers.common.compat.openlineage.facet import InputDataset

    # The operator has turned all paths into text.
    if not isinstance(operator.source, str):
        return []
    namespace, name = source_name(operator.source)
    facets: dict[str, Any] = {}
    if rows is not None:
        from openlineage.client.generated.input_statistics_input_dataset import (
            InputStatisticsInputDatasetFacet,
        )

        facets["inputStatistics"] = InputStatisticsInputDatasetFacet(rowCount=rows)
    return [InputDataset(namespace=namespace, name=name, inputFacets=facets)]


def _outputs(operator: Any, fields: list[str], codes_affected: int | None) -> list[OutputDataset]:
    from airflow.providers.common.compat.openlineage.facet import (
        OutputDataset,
        OutputStatisticsOutputDatasetFacet,
        SchemaDatasetFacet,
        SchemaDatasetFacetFields,
    )

    names = [dataset_name(str(asset.uri)) for asset in scantrust_outlets(operator.outlets)]
    if not names:
        names = [(f"{SCHEME}://{operator.hook.settings.host}", CODES)]
    facets: dict[str, Any] = {}
    if fields:
        facets["schema"] = SchemaDatasetFacet(fields=[SchemaDatasetFacetFields(name=name) for name in fields])
    statistics: dict[str, Any] = {}
    if codes_affected is not None:
        statistics["outputStatistics"] = OutputStatisticsOutputDatasetFacet(rowCount=codes_affected)
    return [
        OutputDataset(namespace=namespace, name=name, facets=facets, outputFacets=statistics)
        for namespace, name in names
    ]
