"""One sandbox for all tests of the sandbox, as new before each."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import requests

from airflow_provider_scantrust.sandbox import Sandbox

SETTINGS: dict[str, Any] = {"time_scale": 0.001, "rate_limits": False, "seed": 3000}


class Caller:
    """Calls a sandbox as a client would, knowing no more of it than paths."""

    def __init__(self, sandbox: Sandbox, session: requests.Session) -> None:
        self._url = sandbox.url
        self._session = session
        self.headers = {"Authorization": f"UAT {sandbox.token}"}

    def call(self, method: str, path: str, **options: Any) -> requests.Response:
        options = {"headers": self.headers, "timeout": 30, **options}
        return self._session.request(method, self._url + path, **options)

    def upload(self, items: Any, **body: Any) -> requests.Response:
        return self.call("POST", "/api/v2/scm/upload/", json={"items": items, **body})

    def submit(self, constraints: Any, scm_data: Any) -> requests.Response:
        return self.call(
            "POST", "/api/v2/scm/upload/async/", json={"constraints": constraints, "scm_data": scm_data}
        )

    def task(self, task_id: str) -> dict[str, Any]:
        response = self.call("GET", f"/api/v2/scm/tasks/{task_id}/")
        assert response.status_code == 200
        answer: dict[str, Any] = response.json()
        return answer

    def run(self, sandbox: Sandbox, constraints: Any, scm_data: Any) -> dict[str, Any]:
        """Submit a job that ends at its first poll, and poll it."""
        sandbox.jobs(polls=1)
        return self.task(self.submit(constraints, scm_data).json()["task_id"])

    def me(self, authorization: str | None = None) -> requests.Response:
        headers = self.headers if authorization is None else {"Authorization": authorization}
        return self.call("GET", "/api/v2/me/", headers=headers)

    def control(self, method: str, path: str, **options: Any) -> requests.Response:
        return self.call(method, f"/_sandbox{path}", headers={}, **options)


@pytest.fixture(scope="session")
def _running() -> Iterator[Sandbox]:
    with Sandbox(**SETTINGS) as sandbox:
        yield sandbox


@pytest.fixture
def sandbox(_running: Sandbox) -> Sandbox:
    _running.reset()
    return _running


@pytest.fixture
def caller(sandbox: Sandbox) -> Iterator[Caller]:
    with requests.Session() as session:
        yield Caller(sandbox, session)
