"""Integration tests talk to the sandbox over a real socket."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import pytest

from airflow_provider_scantrust.api import flow
from airflow_provider_scantrust.api.extras import EXTRAS
from airflow_provider_scantrust.sandbox import Sandbox


@pytest.fixture(scope="session")
def running_sandbox() -> Iterator[Sandbox]:
    with Sandbox(time_scale=0.01, rate_limits=False) as sandbox:
        yield sandbox


@pytest.fixture
def sandbox(running_sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch) -> Sandbox:
    """A sandbox with 50 codes in lots of ten, and a connection to it."""
    running_sandbox.reset()
    running_sandbox.seed(50, codes_per_lot=10)
    monkeypatch.setenv("AIRFLOW_CONN_SCANTRUST_DEFAULT", running_sandbox.connection_json)
    return running_sandbox


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Five tries in all, pauses of milliseconds where they would be seconds, and as many polls as there is time for."""
    monkeypatch.setattr("random.random", lambda: 0.005)
    monkeypatch.setattr(flow, "FIRST_BACKOFF", 0.005)
    monkeypatch.setattr(flow, "LONGEST_BACKOFF", 0.1)
    for name, default in (("retry_attempts", 5), ("max_polls_per_second", 10_000)):
        monkeypatch.setitem(EXTRAS, name, replace(EXTRAS[name], default=default))
