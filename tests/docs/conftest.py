"""Docs run against the sandbox."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from airflow_provider_scantrust.sandbox import Sandbox
from doc_blocks import ROOT


@pytest.fixture
def sandbox(monkeypatch: pytest.MonkeyPatch) -> Iterator[Sandbox]:
    with Sandbox() as sandbox:
        sandbox.seed_csv(ROOT / "dags_examples" / "sample_data" / "codes.csv")
        monkeypatch.setenv("AIRFLOW_CONN_SCANTRUST_DEFAULT", sandbox.connection_uri)
        yield sandbox
