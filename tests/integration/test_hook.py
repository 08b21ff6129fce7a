"""The hook over a real socket, with connections as users write them."""

from __future__ import annotations

import copy
import json
import logging
import pickle
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any
from urllib.parse import quote

import certifi
import pendulum
import pytest
import requests

from airflow_provider_scantrust import exceptions as exc
from airflow_provider_scantrust.api.endpoints import get_me, upload_scm_data
from airflow_provider_scantrust.api.flow import converse, make_request
from airflow_provider_scantrust.api.messages import Answer
from airflow_provider_scantrust.api.settings import read_settings
from airflow_provider_scantrust.hooks import connection as connection_module
from airflow_provider_scantrust.hooks.gate import GatedTransport
from airflow_provider_scantrust.hooks.scantrust import ScantrustHook
from airflow_provider_scantrust.sandbox import Sandbox
from airflow_provider_scantrust.transports.blocking import BlockingTransport, make_session
from airflow_provider_scantrust.waits.pacing import Pacer
from tasks import bottles

CONNECTION = "AIRFLOW_CONN_SCANTRUST_DEFAULT"


def connect(monkeypatch: pytest.MonkeyPatch, sandbox: Sandbox, **changes: Any) -> ScantrustHook:
    fields = {**json.loads(sandbox.connection_json), **changes}
    monkeypatch.setenv(CONNECTION, json.dumps(fields))
    return ScantrustHook()


@pytest.mark.parametrize("form", ["uri", "json", "uri with schema", "uri with extra"])
def test_connection_works_in_every_form(sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch, form: str) -> None:
    forms = {
        "uri": sandbox.connection_uri,
        "json": sandbox.connection_json,
        "uri with schema": f"scantrust://:{sandbox.token}@127.0.0.1:{sandbox.port}/http",
        "uri with extra": f"scantrust://:{sandbox.token}@{quote(sandbox.url, safe='')}?auth_scheme=UAT&verify=true",
    }
    monkeypatch.setenv(CONNECTION, forms[form])
    hook = ScantrustHook()
    assert sandbox.url == hook.settings.base_url
    works, sentence = hook.test_connection()
    assert works
    assert f"Connected to Scantrust at 127.0.0.1:{sandbox.port} as sandbox@example.com." == sentence


def test_connection_id_is_the_users(sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AIRFLOW_CONN_SCANTRUST_STAGING", sandbox.connection_uri)
    monkeypatch.delenv(CONNECTION)
    assert ScantrustHook("scantrust_staging").test_connection()[0]


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"password": "wrong-token"}, "make a new one in the portal"),
        ({"password": ""}, "no token"),
        ({"host": "http://scantrust.test"}, "Plain http"),
        ({"extra": {"auth_scheme": "login"}}, "needs a login"),
        ({"host": "http://127.0.0.1:9", "extra": {"retry_attempts": 1}}, "could not connect"),
    ],
)
def test_connection_that_does_not_work_says_why(
    sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch, changes: dict[str, Any], said: str
) -> None:
    works, sentence = connect(monkeypatch, sandbox, **changes).test_connection()
    assert not works
    assert said in sentence


def test_extra_that_is_no_object_is_told(sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch) -> None:
    works, sentence = connect(monkeypatch, sandbox, extra='["UAT"]').test_connection()
    assert not works
    # Airflow 3.0 itself cannot read such a connection.
    assert any(said in sentence for said in ("extra must be a JSON object", "Airflow cannot read it"))
    assert "\n" not in sentence


def test_copy_of_a_hook_is_a_new_hook_without_the_token(sandbox: Sandbox) -> None:
    hook = ScantrustHook()
    hook.get_conn()
    for copied in (copy.deepcopy(hook), pickle.loads(pickle.dumps(hook))):
        assert (hook.scantrust_conn_id, None) == (copied.scantrust_conn_id, copied._settings)
        assert copied.test_connection()[0]
    assert sandbox.token.encode() not in pickle.dumps(hook)


def test_upload_tells_what_was_updated(sandbox: Sandbox) -> None:
    result = ScantrustHook().upload([*bottles(1, market="FR", colour="red"), *bottles(99, market="FR")])
    assert (1, 1, {"SBX00000001": ["market"]}) == (result.codes_affected, result.total_updates, result.items)
    code = sandbox.code("SBX00000001")
    assert code is not None
    assert "FR" == code["market"]


def test_upload_by_an_scm_key_updates_all_its_codes(sandbox: Sandbox) -> None:
    result = ScantrustHook().upload([{"lot_number": "L-000002", "market": "JP"}], data_key="lot_number")
    assert 10 == result.codes_affected
    assert 10 == sandbox.count(market="JP")


def test_submitted_job_can_be_followed(sandbox: Sandbox) -> None:
    sandbox.jobs(polls=3)
    hook = ScantrustHook()
    task_id = hook.submit({"lot_number": "L-000001"}, {"market": "DE"})
    tasks = [hook.get_task(task_id) for _ in range(3)]
    assert [False, False, True] == [task.is_done for task in tasks]
    assert not tasks[2].is_failed
    assert (task_id, 10) == (tasks[2].id, tasks[2].codes_affected)
    assert isinstance(tasks[2].completed_at, pendulum.DateTime)
    assert tasks[0].completed_at is None


def test_refused_data_is_told_by_field(sandbox: Sandbox) -> None:
    with pytest.raises(exc.RequestRejected, match="product") as caught:
        ScantrustHook().upload(bottles(1, product="no such product"))
    assert 400 == caught.value.status
    assert caught.value.fields


def test_token_without_permission_is_told(sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch) -> None:
    sandbox.add_token("reader-token", permissions=["codes_view"])
    hook = connect(monkeypatch, sandbox, password="reader-token")
    with pytest.raises(exc.PermissionDenied):
        hook.upload(bottles(1))


def test_expired_token_is_told(sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch) -> None:
    sandbox.add_token("expired-token", expires=-1)
    hook = connect(monkeypatch, sandbox, password="expired-token")
    with pytest.raises(exc.AuthenticationFailed):
        hook.upload(bottles(1))


def test_upload_of_too_much_times_out_and_updates_nothing(sandbox: Sandbox) -> None:
    sandbox.configure(code_seconds=100.0)
    with pytest.raises(exc.UploadTimedOut):
        ScantrustHook().upload([{"lot_number": "L-000001", "market": "JP"}], data_key="lot_number")
    assert 0 == sandbox.count(market="JP")


LOGIN = {
    "login": "sandbox",
    "password": "sandbox-password-not-a-secret",
    "extra": {"auth_scheme": "login", "login_endpoint": "/api/v2/auth/login/"},
}


def test_login_is_made_once_for_many_calls(sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch) -> None:
    hook = connect(monkeypatch, sandbox, **LOGIN)
    for _ in range(3):
        hook.upload(bottles(1))
    paths = [entry["path"] for entry in sandbox.transcript()]
    assert paths == ["/api/v2/auth/login/"] + ["/api/v2/scm/upload/"] * 3


def test_threads_that_start_together_share_lookup_gate_and_login(
    sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    hook = connect(monkeypatch, sandbox, **LOGIN)
    lookups: list[str] = []
    look_up = hook.get_connection

    def slow_look_up(conn_id: str) -> Any:
        lookups.append(conn_id)
        together.wait(0.2)
        return look_up(conn_id)

    together = threading.Event()
    monkeypatch.setattr(hook, "get_connection", slow_look_up)
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda _: hook.upload(bottles(1)), range(8)))
    assert 1 == len(lookups)
    paths = [entry["path"] for entry in sandbox.transcript()]
    assert ["/api/v2/auth/login/"] + ["/api/v2/scm/upload/"] * 8 == paths


def test_expired_jwt_costs_one_login_and_no_task(sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch) -> None:
    hook = connect(monkeypatch, sandbox, **LOGIN)
    hook.upload(bottles(1))
    sandbox.clear_transcript()
    sandbox.fault(path="/api/v2/scm/upload/", status=401)
    hook.upload(bottles(1))
    assert [401, 200, 200] == [entry["status"] for entry in sandbox.transcript()]


def test_wrong_password_is_told(sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch) -> None:
    hook = connect(monkeypatch, sandbox, **{**LOGIN, "password": "wrong-password"})
    with pytest.raises(exc.ScantrustError, match="the login") as caught:
        hook.upload(bottles(1))
    assert caught.value.permanent


def test_login_whose_answer_is_not_understood_shows_no_token(
    sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    hook = connect(monkeypatch, sandbox, **LOGIN)
    body = {"key": "eyJ-a-token-under-another-name", "user": "anna"}
    sandbox.fault(path="/api/v2/auth/login/", status=200, body=body)
    with pytest.raises(exc.UnreadableAnswer, match="key, user") as caught:
        hook.upload(bottles(1))
    assert "eyJ" not in f"{caught.value} {caught.value.as_dict()}"
    sandbox.fault(path="/api/v2/auth/login/", status=200, body={f"name-{n}": 1 for n in range(10_000)})
    with pytest.raises(exc.UnreadableAnswer) as caught:
        hook.upload(bottles(1))
    assert len(str(caught.value)) < 1_000


def test_time_at_the_gate_is_part_of_the_budget(sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch) -> None:
    now = [0.0]

    def sleep(seconds: float) -> None:
        now[0] += seconds

    hook = connect(monkeypatch, sandbox, extra={"retry_seconds": 60})
    sandbox.fault(path="/api/v2/scm/upload/", status=429, headers={"Retry-After": "1"}, times=None)
    settings = hook.settings
    auth = settings.make_auth()
    transport = GatedTransport(
        make_session(settings, auth),
        pacer=Pacer(random=lambda: 0.0),
        retry_seconds=60,
        log=logging.getLogger(__name__),
        sleep=sleep,
        clock=lambda: now[0],
    )
    endpoint = upload_scm_data(bottles(1), "extended_id")
    with transport.session, pytest.raises(exc.Throttled):
        transport.perform(converse(endpoint, settings, auth, random=lambda: 0.5))
    assert 40 < now[0] <= 66


@pytest.mark.parametrize("verify", [False, "bundle"])
def test_verify_of_the_connection_outranks_the_environments_bundle(
    sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, verify: Any
) -> None:
    if verify:
        verify = str(tmp_path / "bundle.pem")
        Path(verify).write_text(Path(certifi.where()).read_text())
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", certifi.where())
    hook = connect(monkeypatch, sandbox, extra={"verify": verify})
    with hook.get_conn() as session:
        sent = session.merge_environment_settings(f"{sandbox.url}/api/v2/me/", {}, None, None, None)
        assert verify == sent["verify"]


@pytest.mark.parametrize(
    ("status", "error", "said"),
    [
        (400, exc.AuthenticationFailed, "user name or password is wrong"),
        (401, exc.AuthenticationFailed, "user name or password is wrong"),
        (403, exc.AuthenticationFailed, "the user may not log in"),
        *((status, exc.ConfigurationError, "login_endpoint") for status in (404, 405, 406, 413, 415, 422)),
    ],
)
def test_what_a_login_answers_is_about_the_connection(
    sandbox: Sandbox,
    monkeypatch: pytest.MonkeyPatch,
    status: int,
    error: type[exc.ScantrustError],
    said: str,
) -> None:
    hook = connect(monkeypatch, sandbox, **LOGIN)
    sandbox.fault(path="/api/v2/auth/login/", status=status)
    with pytest.raises(error, match=said):
        hook.upload(bottles(1))


def test_session_signs_calls_to_its_host_only(sandbox: Sandbox) -> None:
    with ScantrustHook().get_conn() as session:
        assert isinstance(session, requests.Session)
        assert session.get(f"{sandbox.url}/api/v2/me/", timeout=5).ok
        with Sandbox() as other:
            assert 401 == session.get(f"{other.url}/api/v2/me/", timeout=5).status_code
            assert "authorization" not in other.transcript()[-1]["headers"]


def test_rate_limit_is_waited_out(sandbox: Sandbox) -> None:
    sandbox.configure(rate_limits=True, limits={"scm_update": (5, 1.0)})
    # Two that do not know of each other; each alone would keep below the limit.
    hooks = [ScantrustHook(), ScantrustHook()]
    with ThreadPoolExecutor(2) as pool:
        list(pool.map(lambda hook: [hook.upload(bottles(1)) for _ in range(9)], hooks))
    statuses = [entry["status"] for entry in sandbox.transcript()]
    assert 18 == statuses.count(200)
    assert 1 <= statuses.count(429) == sum(hook.pacer.throttled for hook in hooks)


def test_one_hook_keeps_below_the_rate_limit(sandbox: Sandbox) -> None:
    sandbox.configure(rate_limits=True)
    hook = ScantrustHook()
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda _: hook.upload(bottles(1)), range(25)))
    # On a busy machine a call may arrive late and the next ones in time, and then one is refused.
    assert [entry["status"] for entry in sandbox.transcript()].count(429) <= 1


def test_connection_that_is_not_there_is_no_exception(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(CONNECTION, raising=False)
    works, sentence = ScantrustHook().test_connection()
    assert not works
    assert "scantrust_default" in sentence


def test_submit_without_a_constraint_is_not_sent(sandbox: Sandbox) -> None:
    with pytest.raises(exc.InvalidInput, match="all codes would match"):
        ScantrustHook().submit({}, {"market": "FR"})
    assert [] == sandbox.transcript()


def by_threads(hook: ScantrustHook, calls: int = 16) -> list[str]:
    """Upload from many threads at once; return how each ended."""

    def upload(_: int) -> str:
        together.wait(10)
        try:
            hook.upload(bottles(1))
        except exc.ScantrustError as error:
            return type(error).__name__
        return "done"

    together = threading.Barrier(calls)
    with ThreadPoolExecutor(calls) as pool:
        return list(pool.map(upload, range(calls)))


def logins(sandbox: Sandbox) -> int:
    return [entry["path"] for entry in sandbox.transcript()].count("/api/v2/auth/login/")


def test_wrong_password_is_tried_once_by_all_threads(
    sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    hook = connect(monkeypatch, sandbox, **{**LOGIN, "password": "wrong-password"})
    assert {"AuthenticationFailed"} == set(by_threads(hook))
    assert {"AuthenticationFailed"} == set(by_threads(hook))
    assert 1 == logins(sandbox)


def test_token_that_expires_costs_all_threads_one_login(
    sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    hook = connect(monkeypatch, sandbox, **LOGIN)
    hook.upload(bottles(1))
    (token,) = [name for name in sandbox._service.registry.tokens if name.startswith("eyJ")]
    sandbox.add_token(token, expires=-1)
    assert {"done"} == set(by_threads(hook))
    assert 2 == logins(sandbox)


def test_throttled_login_does_not_slow_uploads_down(
    sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    hook = connect(monkeypatch, sandbox, **LOGIN)
    sandbox.fault(path="/api/v2/auth/login/", status=429, headers={"Retry-After": "1"}, times=1)
    assert {"done"} == set(by_threads(hook, 4))
    assert 2 == logins(sandbox)
    assert 0 == hook.pacer.throttled


@pytest.mark.parametrize(("seconds", "pause"), [(100, 100.0), (400, 0.0)])
def test_gate_stops_all_threads_for_no_longer_than_the_connections_budget(
    monkeypatch: pytest.MonkeyPatch, seconds: int, pause: float
) -> None:
    pauses: list[float] = []
    now = [0.0]

    def sleep(seconds: float) -> None:
        pauses.append(seconds)
        now[0] += seconds

    settings = read_settings(host="https://scantrust.test", password="t", extra={"retry_seconds": 200})
    auth = settings.make_auth()
    transport = GatedTransport(
        make_session(settings, auth),
        pacer=Pacer(random=lambda: 0.0),
        retry_seconds=settings.budget.seconds,
        log=logging.getLogger(__name__),
        sleep=sleep,
        clock=lambda: now[0],
    )
    throttled = Answer(429, {"retry-after": str(seconds)}, b"{}", 0.0, 0.0)
    monkeypatch.setattr(BlockingTransport, "_send", lambda *_: throttled)
    for _ in range(2):
        transport._send(make_request(get_me(), settings, auth))
    assert pause == pytest.approx(sum(pauses), abs=2.0)


@pytest.mark.parametrize("conn_id", ["other_conn", "", None])
def test_missing_connection_is_an_error_that_names_it(monkeypatch: pytest.MonkeyPatch, conn_id: Any) -> None:
    monkeypatch.delenv(CONNECTION, raising=False)
    with pytest.raises(exc.ConfigurationError, match=f"There is no Airflow connection {conn_id!r}"):
        ScantrustHook(conn_id).upload(bottles(1))


def test_connection_that_a_secrets_backend_may_hold_is_worth_a_retry(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(CONNECTION, raising=False)
    monkeypatch.setenv("AIRFLOW__SECRETS__BACKEND", "airflow.secrets.local_filesystem.LocalFilesystemBackend")
    with pytest.raises(exc.TransientError, match=r"scantrust_default.* the secrets backend") as caught:
        ScantrustHook().upload(bottles(1))
    assert not caught.value.permanent
    with pytest.raises(exc.ConfigurationError, match="There is no Airflow connection None"):
        ScantrustHook(None).upload(bottles(1))  # type: ignore[arg-type]


def test_settings_of_the_extra_are_no_secrets(sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch) -> None:
    hook = connect(
        monkeypatch, sandbox, extra={"auth_scheme": "UAT", "verify": "true", "portal_url": "https://p.test"}
    )
    masked: list[str] = []
    monkeypatch.setattr(connection_module, "mask_secret", masked.append)
    assert hook.settings.portal_url
    assert {sandbox.token} == set(masked)


def test_paths_of_the_connection_are_used(sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch) -> None:
    hook = connect(
        monkeypatch,
        sandbox,
        extra={"upload_path": "/v9/up/", "task_path": "/v9/{task_id}", "me_path": "/v9/me"},
    )
    for call in (lambda: hook.upload(bottles(1)), lambda: hook.get_task("t-1")):
        with pytest.raises(exc.NotFound):
            call()
    assert not hook.test_connection()[0]
    assert ["/v9/up/", "/v9/t-1", "/v9/me"] == [entry["path"] for entry in sandbox.transcript()]
