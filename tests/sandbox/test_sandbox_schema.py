"""Schemathesis holds the sandbox to its own OpenAPI description: what fits is answered so, what does not is refused."""

from __future__ import annotations

from typing import Any

import schemathesis
from hypothesis import HealthCheck, settings
from schemathesis.specs.openapi.checks import positive_data_acceptance

from airflow_provider_scantrust.sandbox import Sandbox
from airflow_provider_scantrust.sandbox.openapi import document

# Which fields a campaign has, and which keys an item needs, no schema can say.
NOT_SAID = [positive_data_acceptance]
schema = schemathesis.openapi.from_dict(document())


@schema.parametrize()
@settings(max_examples=15, suppress_health_check=list(HealthCheck))
def test_sandbox_answers_as_its_description_says(case: Any, sandbox: Sandbox) -> None:
    headers = {"Authorization": f"UAT {sandbox.token}"}
    case.call_and_validate(base_url=sandbox.url, headers=headers, excluded_checks=NOT_SAID)
