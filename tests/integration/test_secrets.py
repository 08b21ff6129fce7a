"""No secret is in anything that can be shown or kept: reprs, exceptions, logs, pickles, tracebacks with their locals."""

from __future__ import annotations

import asyncio
import copy
import io
import json
import logging
import traceback
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import structlog
from airflow.providers.common.compat.sdk import TaskDeferred
from rich.console import Console
from rich.traceback import Traceback

from airflow_provider_scantrust.api.auth import LoginAuth
from airflow_provider_scantrust.api.flow import converse, make_request
from airflow_provider_scantrust.api.settings import Settings, read_settings
from airflow_provider_scantrust.exceptions import ScantrustError
from airflow_provider_scantrust.hooks import connection as connection_module
from airflow_provider_scantrust.hooks import scantrust as hook_module
from airflow_provider_scantrust.hooks.scantrust import ScantrustHook
from airflow_provider_scantrust.operators.scantrust import ScantrustUploadOperator
from airflow_provider_scantrust.sandbox import Sandbox
from airflow_provider_scantrust.sensors.scantrust import ScantrustTaskSensor
from airflow_provider_scantrust.transports.aio import AioTransport
from airflow_provider_scantrust.transports.blocking import BlockingTransport, make_session
from drivers import ME
from tasks import AirflowRescheduleException, TaskInstance, bottles, fire

TOKEN = "marked-token-Qz4711"
PASSWORD = "marked-password-Qz4712"
# No number, address or time that a traceback shows can hold these by chance.
MARKS = ("Qz4711", "Qz4712")
LOGIN = {"auth_scheme": "login", "login_endpoint": "/api/v2/auth/login/"}


@pytest.fixture(params=["token", "login"])
def service(request: pytest.FixtureRequest, sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch) -> Sandbox:
    """A sandbox that knows the marked secrets, and a connection with one of them."""
    sandbox.add_token(TOKEN)
    sandbox.add_user("jane", PASSWORD)
    connection = {"conn_type": "scantrust", "host": sandbox.url, "password": TOKEN}
    if request.param == "login":
        connection |= {"login": "jane", "password": PASSWORD, "extra": LOGIN}  # type: ignore[dict-item]
    monkeypatch.setenv("AIRFLOW_CONN_SCANTRUST_DEFAULT", json.dumps(connection))
    return sandbox


def settings_of(service: Sandbox, scheme: str = "token", **extra: Any) -> Settings:
    if scheme == "login":
        return read_settings(host=service.url, login="jane", password=PASSWORD, extra={**LOGIN, **extra})
    return read_settings(host=service.url, password=TOKEN, extra=extra)


def check(text: object, *more: str) -> None:
    for mark in (*MARKS, *more):
        assert mark not in str(text)


def issued(service: Sandbox) -> list[str]:
    """Return the tokens that logins have given; they are secrets too."""
    return [token for token in service._service.registry.tokens if token.startswith("eyJ")]


def show(error: BaseException) -> str:
    return "".join(traceback.format_exception(error)) + repr(error) + repr(vars(error))


def show_locals(error: BaseException) -> Iterator[str]:
    """Show an exception as rich and structlog do when they are told to show all locals."""
    out = io.StringIO()
    shown = Traceback.from_exception(
        type(error),
        error,
        error.__traceback__,
        show_locals=True,
        locals_max_string=10_000,
        locals_max_length=1_000,
    )
    Console(file=out, width=200).print(shown)
    yield out.getvalue()
    transformer = structlog.tracebacks.ExceptionDictTransformer(show_locals=True, locals_max_string=10_000)
    yield json.dumps(transformer((type(error), error, error.__traceback__)), default=repr)


@pytest.mark.parametrize("scheme", ["token", "login"])
def test_no_object_shows_a_secret(sandbox: Sandbox, scheme: str) -> None:
    sandbox.add_user("jane", PASSWORD)
    settings = settings_of(sandbox, scheme)
    auth = settings.make_auth()
    if isinstance(auth, LoginAuth):
        auth.succeed("marked-jwt-4711")
    conversation = converse(ME, settings, auth, random=lambda: 0.5)
    log = logging.getLogger(__name__)
    shown: list[Any] = [settings, auth, make_request(ME, settings, auth), conversation, ME]
    shown += [BlockingTransport(make_session(settings, auth), log=log)]
    shown += [AioTransport(verify=True, log=log), make_session(settings, auth).headers]
    for each in shown:
        check(repr(each))
        check(str(each))
        check(f"{each}")


def make_faults(secret: str) -> dict[str, dict[str, Any]]:
    """Return answers that hold the connection's own secret."""
    return {
        "400": {"status": 400, "body": {"detail": f"Not with {secret}.", secret: [secret]}},
        "401": {"status": 401, "body": {"detail": f"Wrong: {secret}"}},
        "503": {"status": 503, "body": f"<html>{secret}"},
        "echo": {"status": 200, "body": {"echo": [secret]}},
        "redirect": {"status": 307, "headers": {"Location": f"http://other.test/?{secret}"}},
        "cut": {"cut": "before"},
        "page": {"status": 502},
        "refusal": {"status": 403},
    }


# What a server sends back stands in the locals of the code that reads it.
ECHOES = ("400", "401", "503", "echo", "redirect")


@pytest.mark.usefixtures("quick")
@pytest.mark.parametrize("fault", make_faults(""))
def test_no_exception_shows_a_secret_even_with_its_locals(
    service: Sandbox, fault: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    hook = ScantrustHook()
    service.fault(path="/api/v2/scm/upload/", times=None, **make_faults(hook.settings.secret)[fault])
    with pytest.raises(ScantrustError) as caught:
        hook.upload(bottles(1))
    # Before this function has a token among its own locals.
    shown = list(show_locals(caught.value))
    tokens = issued(service)
    check(show(caught.value), *tokens)
    if fault not in ECHOES:
        check(shown, *tokens)
        check(service.transcript(), *tokens)
    check(json.dumps(caught.value.as_dict()), *tokens)
    check(caplog.text, *tokens)
    check(repr(hook), *tokens)
    check(hook.test_connection(), *tokens)


@pytest.mark.usefixtures("quick")
def test_no_form_that_airflow_keeps_holds_a_secret(
    service: Sandbox, caplog: pytest.LogCaptureFixture
) -> None:
    """Trigger rows, events, next_kwargs, XComs, reports, rendered fields: of both tasks, to their ends."""
    caplog.set_level(logging.DEBUG)
    ti = TaskInstance()
    context: Any = {"ti": ti}
    kept: list[Any] = []
    operator = ScantrustUploadOperator(
        task_id="upload", items=bottles(1, 2), mode="async", poll_interval=0.01
    )
    service.jobs(polls=2)
    with pytest.raises(TaskDeferred) as deferred:
        operator.execute(context)
    kept += [deferred.value.trigger.serialize(), deferred.value.kwargs, repr(deferred.value.trigger)]
    kept.append(vars(deferred.value.trigger))
    event = asyncio.run(fire(deferred.value.trigger))
    kept.append(event.payload)
    kwargs = {**(deferred.value.kwargs or {}), "event": event.payload}
    kept.append(operator.execute_complete(context, **kwargs))
    kept += [ti.xcoms, {name: getattr(operator, name) for name in operator.template_fields}, repr(operator)]
    sensor = ScantrustTaskSensor(
        task_id="wait", scantrust_task_id=ti.xcoms["task_ids"], deferrable=False, mode="reschedule"
    )
    try:
        kept.append(sensor.execute(context))
    except AirflowRescheduleException as later:
        kept += [repr(later), vars(later)]
    kept += [{name: getattr(sensor, name) for name in sensor.template_fields}, repr(sensor)]
    tokens = issued(service)
    check(kept, *tokens)
    check(caplog.text, *tokens)
    check(service.transcript(), *tokens)
    assert kept
    # What is copied or kept of a task before it has run has looked up no connection.
    fresh = ScantrustUploadOperator(task_id="upload", items=bottles(1))
    check(vars(copy.deepcopy(fresh)))


@pytest.fixture
def masked(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What is registered with Airflow's masker."""
    seen: list[str] = []
    for module in (hook_module, connection_module):
        monkeypatch.setattr(module, "mask_secret", seen.append)
    return seen


def test_secret_is_masked_as_it_is_used_and_as_it_is_stored(
    sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch, masked: list[str]
) -> None:
    sandbox.add_token(TOKEN)
    connection = {
        "conn_type": "scantrust",
        "host": sandbox.url,
        "password": f"{TOKEN}\n",
        "extra": {"verify": "true"},
    }
    monkeypatch.setenv("AIRFLOW_CONN_SCANTRUST_DEFAULT", json.dumps(connection))
    assert ScantrustHook().test_connection()[0]
    assert [f"{TOKEN}\n", TOKEN] == masked


def test_token_of_a_login_is_masked(
    sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch, masked: list[str]
) -> None:
    sandbox.add_user("jane", PASSWORD)
    fields = {
        "conn_type": "scantrust",
        "host": sandbox.url,
        "login": "jane",
        "password": PASSWORD,
        "extra": LOGIN,
    }
    monkeypatch.setenv("AIRFLOW_CONN_SCANTRUST_DEFAULT", json.dumps(fields))
    assert ScantrustHook().test_connection()[0]
    assert {PASSWORD, *issued(sandbox)} == set(masked)


@pytest.mark.parametrize("mark", ["\r\nX-Evil: 1", "\nX: y", "\0", "\x7f", "ä", " a"])
@pytest.mark.parametrize(
    "make", [lambda mark: {"password": f"token{mark}"}, lambda mark: {"extra": {"auth_scheme": f"UAT{mark}"}}]
)
def test_nothing_can_be_put_into_a_header(mark: str, make: Callable[[str], dict[str, Any]]) -> None:
    with pytest.raises(ScantrustError):
        read_settings(**{"password": "token", **make(f"{mark}x")})


def test_token_of_a_login_cannot_put_anything_into_a_header(sandbox: Sandbox) -> None:
    sandbox.fault(path="/api/v2/auth/login/", times=None, body={"token": "a\r\nX-Evil: 1"})
    settings = settings_of(sandbox, "login", retry_attempts=1)
    auth = settings.make_auth()
    transport = BlockingTransport(make_session(settings, auth), log=logging.getLogger(__name__))
    with pytest.raises(ScantrustError, match="there is no token in it"):
        transport.perform(converse(ME, settings, auth, random=lambda: 0.5))
    assert ["/api/v2/auth/login/"] == [entry["path"] for entry in sandbox.transcript()]
