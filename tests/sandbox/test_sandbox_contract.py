"""The answers have the shape of the samples in `tests/contract`, which the client's tests read too."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import requests

from airflow_provider_scantrust.sandbox import Sandbox

from .conftest import Caller

SAMPLES = Path(__file__).parent.parent / "contract"
ONE, TWO = "SBX00000001", "SBX00000002"
LOT = {"lot_number": "L-000001"}
SOURCES = {"documented", "observed", "assumed"}


class Scene:
    """Makes the sandbox give the answer of each sample."""

    def __init__(self, sandbox: Sandbox, caller: Caller) -> None:
        self.sandbox = sandbox
        self.caller = caller

    def answer(self, name: str) -> requests.Response:
        response = getattr(self, name.replace("/", "_"))()
        assert isinstance(response, requests.Response)
        return response

    def upload_updated(self) -> requests.Response:
        return self.caller.upload(
            [{"extended_id": ONE, "market": "CH", "vintage": "2020"}, {"extended_id": TWO, "market": "CH"}]
        )

    def upload_nothing_matched(self) -> requests.Response:
        return self.caller.upload([{"extended_id": "no-such-code", "market": "CH"}])

    def upload_field_discarded(self) -> requests.Response:
        return self.caller.upload([{"extended_id": ONE, "market": "CH", "colour": "red"}])

    def upload_everything_discarded(self) -> requests.Response:
        return self.caller.upload([{"extended_id": ONE, "colour": "red"}])

    def upload_unknown_product(self) -> requests.Response:
        return self.caller.upload([{"extended_id": ONE, "product": "prod_9"}])

    def upload_no_items(self) -> requests.Response:
        return self.caller.call("POST", "/api/v2/scm/upload/", json={})

    def upload_gateway_timeout(self) -> requests.Response:
        self.sandbox.configure(gateway_timeout=0)
        return self.upload_updated()

    def submit_accepted(self) -> requests.Response:
        return self.caller.submit(LOT, {"market": "CH"})

    def submit_list_of_lots(self) -> requests.Response:
        return self.caller.submit({"lot_number": ["L-000001"]}, {"market": "CH"})

    def submit_no_constraints(self) -> requests.Response:
        return self.caller.submit({}, {"market": "CH"})

    def _task(self, polls: int, **order: Any) -> requests.Response:
        self.sandbox.jobs(polls=polls, **order)
        task_id = self.submit_accepted().json()["task_id"]
        for _ in range(min(polls, 2)):
            response = self.caller.call("GET", f"/api/v2/scm/tasks/{task_id}/")
        return response

    def task_pending(self) -> requests.Response:
        self.sandbox.jobs(hang="pending")
        return self.caller.call("GET", f"/api/v2/scm/tasks/{self.submit_accepted().json()['task_id']}/")

    def task_in_progress(self) -> requests.Response:
        return self._task(polls=3)

    def task_complete(self) -> requests.Response:
        return self._task(polls=1)

    def task_failed(self) -> requests.Response:
        return self._task(polls=1, fail=True)

    def task_complete_camel_case(self) -> requests.Response:
        self.sandbox.configure(deviations=["camel_case_keys"])
        return self._task(polls=1)

    def task_unknown(self) -> requests.Response:
        return self.caller.call("GET", "/api/v2/scm/tasks/no-such-task/")

    def me_ok(self) -> requests.Response:
        return self.caller.me()

    def login_ok(self) -> requests.Response:
        self.sandbox.add_user("anna", "right")
        body = {"username": "anna", "password": "right"}
        return self.caller.call("POST", "/api/v2/auth/login/", json=body)

    def login_wrong_password(self) -> requests.Response:
        return self.caller.call("POST", "/api/v2/auth/login/", json={"username": "anna", "password": "wrong"})

    def errors_no_credentials(self) -> requests.Response:
        return self.caller.me("")

    def errors_invalid_token(self) -> requests.Response:
        return self.caller.me("UAT wrong")

    def errors_expired_token(self) -> requests.Response:
        self.sandbox.add_token("old", expires=0)
        return self.caller.me("UAT old")

    def errors_expired_jwt(self) -> requests.Response:
        self.sandbox.add_token("old", expires=0, scheme="JWT")
        return self.caller.me("JWT old")

    def errors_no_permission(self) -> requests.Response:
        self.sandbox.add_token("weak", permissions=[])
        self.caller.headers = {"Authorization": "UAT weak"}
        return self.upload_updated()

    def errors_unknown_path(self) -> requests.Response:
        return self.caller.call("GET", "/api/v2/no/such/path/")

    def errors_wrong_method(self) -> requests.Response:
        return self.caller.call("PUT", "/api/v2/me/")

    def errors_broken_json(self) -> requests.Response:
        headers = {**self.caller.headers, "Content-Type": "application/json"}
        return self.caller.call("POST", "/api/v2/scm/upload/", data='{"items":', headers=headers)

    def errors_not_json(self) -> requests.Response:
        headers = {**self.caller.headers, "Content-Type": "text/plain"}
        return self.caller.call("POST", "/api/v2/scm/upload/", data="text", headers=headers)

    def errors_throttled(self) -> requests.Response:
        self.sandbox.configure(rate_limits=True, limits={"authenticated": (1, 7)})
        self.caller.me()
        return self.caller.me()

    def errors_no_slash(self) -> requests.Response:
        return self.caller.call("GET", "/api/v2/me", allow_redirects=False)

    def _fault(self, status: int) -> requests.Response:
        self.sandbox.fault(status=status)
        return self.caller.me()

    def errors_conflict(self) -> requests.Response:
        return self._fault(406)

    def errors_internal_server_error(self) -> requests.Response:
        return self._fault(500)

    def errors_bad_gateway(self) -> requests.Response:
        return self._fault(502)

    def errors_service_temporarily_unavailable(self) -> requests.Response:
        return self._fault(503)


@pytest.mark.parametrize(
    "file", sorted(SAMPLES.glob("*/*.json")), ids=lambda file: f"{file.parent.name}/{file.name}"
)
def test_answer_has_the_shape_of_the_sample(sandbox: Sandbox, caller: Caller, file: Path) -> None:
    sample = json.loads(file.read_text(encoding="utf-8"))
    name, status, _ = file.name.split(".")
    assert sample["source"] in SOURCES
    assert int(status) == sample["status"]
    response = Scene(sandbox, caller).answer(f"{file.parent.name}/{name}")
    assert sample["status"] == response.status_code
    for header, value in sample["headers"].items():
        assert value == response.headers[header]
    body = response.text if isinstance(sample["body"], str) else response.json()
    assert _shape(sample["body"]) == _shape(body)


def _shape(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _shape(each) for key, each in value.items()}
    if isinstance(value, list):
        return [_shape(each) for each in value]
    return type(value).__name__
