"""Each assumption can be reversed, and the reversal is seen from outside."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import requests

from airflow_provider_scantrust.sandbox import Sandbox
from airflow_provider_scantrust.sandbox.deviations import DEVIATIONS, MOVED

from .conftest import SETTINGS, Caller

FIDELITY = (Path(__file__).parents[2] / "docs" / "fidelity.md").read_text(encoding="utf-8")
LINES = re.findall(r"^\| `([\w-]+)` \| .+ \| [^|]+ \|(?: `(\w+)`)? \|$", FIDELITY, re.MULTILINE)
ONE = "SBX00000001"
UPLOAD, SUBMIT = "/api/v2/scm/upload/", "/api/v2/scm/upload/async/"
# Bodies of uploads, of which a client sees what is accepted, and how it is answered.
ITEMS: list[dict[str, Any]] = [
    {"market": "CH"},
    {"market": "CH"},
    {"colour": "red"},
    {"colour": None},
    {"market": None},
    {"market": ""},
    {"vintage": 2020},
    {"bottling_date": "01/12/2016"},
    {"product": "prod_9"},
    {"activation_status": "7"},
]
BODIES: list[Any] = [
    *({"data_key": "extended_id", "items": [{"extended_id": ONE, **item}]} for item in ITEMS),
    {"items": [{"extended_id": ONE, "vintage": "2021"}]},
    {"data_key": "extended_id", "items": [{"extended_id": "no-such-code", "market": "CH"}]},
    {
        "data_key": "extended_id",
        "items": [{"extended_id": ONE, "grape": "a"}, {"extended_id": ONE, "grape": "b"}],
    },
    {"data_key": "lot_number", "items": [{"lot_number": "no-such-lot", "market": "CH"}]},
    {"data_key": "no_such_field", "items": [{"no_such_field": "1"}]},
    {"items": []},
]
JOBS: list[Any] = [
    {"constraints": {"extended_id": ONE}, "scm_data": {"vintage": 2020}},
    {"constraints": {"extended_id": [ONE]}, "scm_data": {"vintage": "2020"}},
    {"constraints": {"lot_number": ["L-000001"]}, "scm_data": {"vintage": "2020"}},
    {"constraints": {"extended_id": ONE, "lot_number": "L-000009"}, "scm_data": {"vintage": "2020"}},
]
REQUESTS: list[tuple[str, str, dict[str, Any]]] = [
    ("GET", "/api/v2/me/", {}),
    ("GET", "/api/v2/me/", {"headers": {}}),
    ("GET", "/api/v2/me", {"allow_redirects": False}),
    ("GET", "/api/v2/no/such/path/", {}),
    ("GET", "/api/v2/scm/tasks/no-such-job/", {}),
    ("DELETE", "/api/v2/me/", {}),
    ("HEAD", "/api/v2/me/", {}),
    ("OPTIONS", "/api/v2/me/", {}),
    ("OPTIONS", "/api/v2/scm/tasks/no-such-job/", {}),
    ("POST", UPLOAD, {"data": "{", "json": None}),
    ("POST", UPLOAD, {"data": "{}", "kind": "text/plain"}),
    ("GET", "/api/v2/me/", {"accept": "text/html"}),
]


def seen(response: requests.Response) -> Any:
    kept = {
        name: response.headers.get(name)
        for name in ("WWW-Authenticate", "Retry-After", "Content-Type", "Allow")
    }
    try:
        body = response.json()
    except ValueError:
        body = response.text
    if isinstance(body, dict):
        # What differs in each run.
        changing = ("id", "reference", "token", "task_id", "created_at", "started_at", "completed_at")
        body = {name: type(value).__name__ if name in changing else value for name, value in body.items()}
    return response.status_code, kept, body


def observations(sandbox: Sandbox, caller: Caller) -> dict[str, Any]:
    """Call the sandbox in all ways that show an assumption."""
    found: dict[str, Any] = {}
    for body in BODIES:
        found[f"upload {body} {len(found)}"] = seen(caller.call("POST", UPLOAD, json=body))
    for body in JOBS:
        sandbox.jobs(polls=2)
        answer = caller.call("POST", SUBMIT, json=body)
        found[f"submit {body}"] = seen(answer)
        task_id = str(answer.json().get("task_id"))
        for path in ("/api/v2/scm/tasks/{}/", "/api/v2/scm/tasks/{}/", "/api/v2/scm/tasks//{}"):
            found[f"{path} {body} {len(found)}"] = seen(caller.call("GET", path.format(task_id)))
    for method, path, given in REQUESTS:
        options = dict(given)
        headers = options.pop("headers", caller.headers)
        kind, accept = options.pop("kind", "application/json"), options.pop("accept", "*/*")
        options["headers"] = {**headers, "Content-Type": kind, "Accept": accept}
        found[f"{method} {path} {given}"] = seen(caller.call(method, path, **options))
    login = {"username": "anna", "password": "right"}
    sandbox.add_user("anna", "right")
    first, _ = (caller.call("POST", "/api/v2/auth/login/", json=login).json()["token"] for _ in range(2))
    found["first login after the second"] = seen(caller.me(f"JWT {first}"))
    sandbox.configure(rate_limits=True, limits={"authenticated": (0, 7)})
    found["throttled"] = seen(caller.me())
    return found


def test_every_line_has_an_id_of_its_own() -> None:
    table = FIDELITY.partition("| Id |")[2].partition("## What time")[0]
    ids = [line for line, _ in LINES]
    assert len(ids) == len(set(ids)) == table.count("\n| `")


def test_every_deviation_names_the_line_that_it_reverses() -> None:
    assert {name: each.line for name, each in DEVIATIONS.items()} == {
        name: line for line, name in LINES if name
    }


@pytest.fixture(scope="module")
def usual() -> dict[str, Any]:
    with Sandbox(**SETTINGS) as sandbox, requests.Session() as session:
        return observations(sandbox, Caller(sandbox, session))


def test_sandbox_without_deviations_always_does_the_same(
    sandbox: Sandbox, caller: Caller, usual: dict[str, Any]
) -> None:
    assert usual == observations(sandbox, caller)


@pytest.mark.parametrize("name", DEVIATIONS)
def test_deviation_is_seen_from_outside(
    sandbox: Sandbox, caller: Caller, usual: dict[str, Any], name: str
) -> None:
    sandbox.configure(deviations=[name])
    assert usual != observations(sandbox, caller)


def test_moved_paths_answer_where_they_are(sandbox: Sandbox, caller: Caller) -> None:
    sandbox.configure(deviations=["upload_path", "submit_path", "task_path", "me_path"])
    items = [{"extended_id": ONE, "market": "CH"}]
    assert caller.call("POST", "/api/v2/scm/uploads/", json={"items": items}).json()["codes_affected"] == 1
    body = {"constraints": {"extended_id": ONE}, "scm_data": {"market": "FR"}}
    sandbox.jobs(polls=1)
    task_id = caller.call("POST", "/api/v2/scm/jobs/", json=body).json()["task_id"]
    assert caller.call("GET", f"/api/v2/scm/jobs/{task_id}/status/").json()["codes_affected"] == 1
    assert caller.call("GET", "/api/v2/users/me/").status_code == 200


def test_all_deviations_at_once_break_nothing(sandbox: Sandbox, caller: Caller) -> None:
    sandbox.configure(deviations=[name for name in DEVIATIONS if name not in MOVED])
    failed = [name for name, (status, _, _) in observations(sandbox, caller).items() if status >= 500]
    # Malformed JSON, as its deviation wants it.
    assert 1 == len(failed)


def test_deviations_are_replaced_and_forgotten_by_a_reset(sandbox: Sandbox, caller: Caller) -> None:
    sandbox.configure(deviations=["html_404", "no_head"])
    sandbox.configure(deviations=["no_head"])
    assert ("no_head",) == sandbox.overview()["settings"]["deviations"]
    assert caller.call("HEAD", "/api/v2/me/").status_code == 405
    sandbox.reset()
    assert caller.call("HEAD", "/api/v2/me/").status_code == 200


def test_deviations_are_set_at_the_start_and_over_http() -> None:
    with Sandbox(deviations=["html_404"]) as sandbox, requests.Session() as session:
        caller = Caller(sandbox, session)
        assert caller.call("GET", "/x/").headers["Content-Type"].startswith("text/html")
        assert set(DEVIATIONS) == set(caller.control("GET", "/deviations/").json())
        assert caller.control("PATCH", "/settings/", json={"deviations": []}).status_code == 200
        assert caller.call("GET", "/x/").headers["Content-Type"] == "application/json"
