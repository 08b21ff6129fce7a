"""Who may call what, how often, and how refusals look."""

from __future__ import annotations

from typing import Any

import pytest

from airflow_provider_scantrust.sandbox import ALL_PERMISSIONS, Sandbox
from airflow_provider_scantrust.sandbox.errors import Refused
from airflow_provider_scantrust.sandbox.limits import Throttle
from airflow_provider_scantrust.sandbox.settings import DEFAULT_PASSWORD, DEFAULT_USERNAME, Settings

from .conftest import Caller

LOGIN = "/api/v2/auth/login/"
CREDENTIALS = {"username": DEFAULT_USERNAME, "password": DEFAULT_PASSWORD}


@pytest.mark.parametrize(
    ("authorization", "detail"),
    [
        ("", "Authentication credentials were not provided."),
        ("Bearer sandbox-token-not-a-secret", "Authentication credentials were not provided."),
        ("UAT", "Invalid token."),
        ("UAT wrong", "Invalid token."),
        ("JWT sandbox-token-not-a-secret", "Invalid token."),
    ],
)
def test_wrong_credentials_are_401_and_name_the_scheme(
    caller: Caller, authorization: str, detail: str
) -> None:
    response = caller.me(authorization)
    assert (401, {"detail": detail}) == (response.status_code, response.json())
    assert response.headers["WWW-Authenticate"].startswith("UAT")


@pytest.mark.parametrize("expires", [0, -1])
def test_expired_token_is_401(sandbox: Sandbox, caller: Caller, expires: float) -> None:
    sandbox.add_token("old", expires=expires)
    response = caller.me("UAT old")
    assert (response.status_code, response.json()) == (401, {"detail": "Token has expired."})


def test_token_works_until_it_expires_or_is_revoked(sandbox: Sandbox, caller: Caller) -> None:
    sandbox.add_token("new", expires=3600)
    assert caller.me("UAT new").status_code == 200
    sandbox.remove_token("new")
    assert caller.me("UAT new").status_code == 401


@pytest.mark.parametrize("missing", ALL_PERMISSIONS)
def test_uploads_need_every_permission_and_the_task_needs_none(
    sandbox: Sandbox, caller: Caller, missing: str
) -> None:
    sandbox.jobs(hang=True)
    task_id = caller.submit({"lot_number": "L-000001"}, {"market": "CH"}).json()["task_id"]
    sandbox.add_token("some", permissions=[each for each in ALL_PERMISSIONS if each != missing])
    caller.headers = {"Authorization": "UAT some"}
    for response in (caller.upload([{"extended_id": "SBX00000001"}]), caller.submit({"x": "y"}, {"x": "y"})):
        assert response.status_code == 403
        assert response.json() == {"detail": "You do not have permission to perform this action."}
    assert caller.task(task_id)["id"] == task_id


def test_login_gives_a_jwt_with_all_rights(caller: Caller) -> None:
    response = caller.call("POST", LOGIN, json=CREDENTIALS, headers={})
    assert response.status_code == 200
    jwt = response.json()["token"]
    assert jwt.count(".") == 2
    caller.headers = {"Authorization": f"JWT {jwt}"}
    assert caller.upload([{"extended_id": "SBX00000001", "market": "CH"}]).status_code == 200


def test_expired_jwt_is_401(sandbox: Sandbox, caller: Caller) -> None:
    sandbox.add_token("old", expires=0, scheme="JWT")
    response = caller.me("JWT old")
    assert (response.status_code, response.json()) == (401, {"detail": "Signature has expired."})


@pytest.mark.parametrize(("deviations", "status"), [([], 200), (["login_ends_others"], 401)])
def test_earlier_jwt_works_on_unless_a_login_ends_it(
    sandbox: Sandbox, caller: Caller, deviations: list[str], status: int
) -> None:
    sandbox.configure(deviations=deviations)
    first, second = (caller.call("POST", LOGIN, json=CREDENTIALS).json()["token"] for _ in range(2))
    assert [status, 200] == [caller.me(f"JWT {jwt}").status_code for jwt in (first, second)]
    assert caller.me().status_code == 200


def test_wrong_password_is_400(sandbox: Sandbox, caller: Caller) -> None:
    sandbox.add_user("anna", "right")
    assert caller.call("POST", LOGIN, json={"username": "anna", "password": "right"}).status_code == 200
    response = caller.call("POST", LOGIN, json={"username": "anna", "password": "wrong"})
    assert (response.status_code, list(response.json())) == (400, ["non_field_errors"])
    response = caller.call("POST", LOGIN, json={"username": {"a": 1}})
    assert (response.status_code, list(response.json())) == (400, ["username", "password"])


@pytest.mark.parametrize("path", ["/api/v2/me", "/api/v2/scm/upload", "/api/v2/scm/tasks/1"])
@pytest.mark.parametrize("method", ["GET", "POST"])
def test_path_without_its_slash_is_redirected(caller: Caller, method: str, path: str) -> None:
    response = caller.call(method, path, allow_redirects=False)
    assert (301, f"{path}/") == (response.status_code, response.headers["Location"])


def test_redirect_keeps_the_query(caller: Caller) -> None:
    response = caller.call("GET", "/api/v2/me?a=1&b=c%20d%C3%A9", allow_redirects=False)
    assert response.headers["Location"] == "/api/v2/me/?a=1&b=c%20d%C3%A9"


def test_post_without_the_slash_becomes_a_get_and_is_refused(sandbox: Sandbox, caller: Caller) -> None:
    response = caller.call("POST", "/api/v2/scm/upload", json={"items": []})
    assert (response.status_code, response.json()) == (405, {"detail": 'Method "GET" not allowed.'})
    assert [entry["method"] for entry in sandbox.transcript()] == ["POST", "GET"]


@pytest.mark.parametrize(
    "path",
    [
        "/",
        "/api/v2/",
        "/api/v2/codes/",
        "/api/v2/scm/tasks/1/2/",
        "/api/v2/me//",
        "/api/v2/scm/tasks/a%0d%0ab",
        "/api/v2/scm/tasks/é/",
    ],
)
def test_unknown_path_is_404(caller: Caller, path: str) -> None:
    response = caller.call("GET", path)
    assert (response.status_code, response.json()) == (404, {"detail": "Not found."})


def test_wrong_method_is_405_and_names_the_right_one(caller: Caller) -> None:
    response = caller.call("DELETE", "/api/v2/me/")
    assert (response.status_code, response.json()) == (405, {"detail": 'Method "DELETE" not allowed.'})
    assert response.headers["Allow"] == "GET, HEAD, OPTIONS"


@pytest.mark.parametrize("path", ["/api/v2/me/", "/api/v2/scm/tasks/no-such-task/"])
def test_head_is_answered_as_get_without_a_body(caller: Caller, path: str) -> None:
    get, head = caller.call("GET", path), caller.call("HEAD", path)
    assert (get.status_code, b"") == (head.status_code, head.content)
    assert get.headers["Content-Length"] == head.headers["Content-Length"]


@pytest.mark.parametrize(
    ("path", "allow"),
    [
        ("/api/v2/me/", "GET, HEAD, OPTIONS"),
        ("/api/v2/scm/upload/", "POST, OPTIONS"),
        ("/api/v2/auth/login/", "POST, OPTIONS"),
    ],
)
def test_options_name_the_methods_and_do_nothing(
    sandbox: Sandbox, caller: Caller, path: str, allow: str
) -> None:
    response = caller.call("OPTIONS", path, json={"items": [{"extended_id": "SBX00000001", "market": "CH"}]})
    assert (200, allow) == (response.status_code, response.headers["Allow"])
    assert {"name", "description", "renders", "parses"} == set(response.json())
    assert sandbox.count(market="CH") == 0


@pytest.mark.parametrize("body", ['{"items": [', "{'items': []}", '{"items": NaN}', b"\xff", "[" * 100_000])
def test_malformed_json_is_400(caller: Caller, body: Any) -> None:
    headers = {**caller.headers, "Content-Type": "application/json"}
    response = caller.call("POST", "/api/v2/scm/upload/", data=body, headers=headers)
    assert response.status_code == 400
    assert response.json()["detail"].startswith("JSON parse error - ")


@pytest.mark.parametrize("kind", ["text/plain", "application/x-www-form-urlencoded", "application/jsonp"])
def test_other_content_types_are_415(caller: Caller, kind: str) -> None:
    headers = {**caller.headers, "Content-Type": kind}
    response = caller.call("POST", "/api/v2/scm/upload/", data="{}", headers=headers)
    assert response.status_code == 415
    assert response.json() == {"detail": f'Unsupported media type "{kind}" in request.'}


def test_charset_beside_the_content_type_is_fine(caller: Caller) -> None:
    headers = {**caller.headers, "Content-Type": "application/json; charset=utf-8"}
    body = '{"items": [{"extended_id": "SBX00000001"}]}'
    assert caller.call("POST", "/api/v2/scm/upload/", data=body, headers=headers).status_code == 200


def test_request_over_the_limit_is_429_with_the_wait_in_body_and_header(
    sandbox: Sandbox, caller: Caller
) -> None:
    sandbox.configure(rate_limits=True, limits={"scm_update": (2, 3600)})
    items = [{"extended_id": "SBX00000001", "market": "CH"}]
    assert [caller.upload(items).status_code, caller.submit(items[0], items[0]).status_code] == [200, 200]
    refused = caller.upload([{"extended_id": "SBX00000002", "market": "CH"}])
    assert refused.status_code == 429
    wait = refused.headers["Retry-After"]
    assert 3590 <= int(wait) <= 3600
    assert refused.json() == {
        "detail": f"Request was throttled. Expected available in {wait} seconds.",
        "code": "throttled",
    }
    assert (sandbox.code("SBX00000002") or {})["market"] == ""


def test_scopes_and_users_are_counted_apart_and_tokens_of_one_user_together(
    sandbox: Sandbox, caller: Caller
) -> None:
    one = (1, 3600)
    limits = {"scm_update": one, "authenticated": one, "anonymous": one, "login": one}
    sandbox.configure(rate_limits=True, limits=limits)
    sandbox.add_token("other", user=2)
    sandbox.add_token("same")
    items = [{"extended_id": "SBX00000001", "market": "CH"}]

    def statuses() -> list[int]:
        calls = [
            caller.upload(items),
            caller.me(),
            caller.me("UAT other"),
            caller.me("UAT wrong"),
            caller.call("POST", LOGIN, json=CREDENTIALS),
        ]
        return [response.status_code for response in calls]

    assert statuses() == [200, 200, 200, 401, 200]
    assert caller.me("UAT same").status_code == 429
    assert statuses() == [429] * 5


def test_window_slides() -> None:
    now = [0.0]
    throttle = Throttle(Settings(limits={"scm_update": (2, 10.0)}), clock=lambda: now[0])

    def wait(at: float) -> str | None:
        now[0] = at
        try:
            throttle.count("scm_update", "token")
        except Refused as refused:
            return refused.headers["Retry-After"]
        return None

    assert [wait(0.0), wait(4.0), wait(4.1), wait(9.9)] == [None, None, "6", "1"]
    # A client that waits that long is let in; the second place is free only when the second request has left
    # the window.
    assert [wait(10.0), wait(10.1), wait(14.1)] == [None, "4", None]
