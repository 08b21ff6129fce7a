"""Reading a connection's fields."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from airflow_provider_scantrust.api.auth import TokenAuth
from airflow_provider_scantrust.api.endpoints import (
    get_me,
    get_scm_task,
    upload_scm_data,
    upload_scm_data_async,
)
from airflow_provider_scantrust.api.models import TaskState
from airflow_provider_scantrust.api.settings import Budget, read_settings
from airflow_provider_scantrust.api.texts import CUT
from airflow_provider_scantrust.exceptions import ConfigurationError


@pytest.mark.parametrize(
    ("fields", "base_url"),
    [
        ({}, "https://api.scantrust.com"),
        ({"host": "  "}, "https://api.scantrust.com"),
        ({"host": "api.staging.scantrust.io"}, "https://api.staging.scantrust.io"),
        ({"host": "https://api.staging.scantrust.io/"}, "https://api.staging.scantrust.io"),
        ({"host": "proxy.test/scantrust/"}, "https://proxy.test/scantrust"),
        ({"host": "proxy.test", "port": 8443}, "https://proxy.test:8443"),
        ({"host": "api.scantrust.com", "port": 443}, "https://api.scantrust.com"),
        ({"host": "http://127.0.0.1:80/x"}, "http://127.0.0.1/x"),
        ({"host": "http://127.0.0.1:8017"}, "http://127.0.0.1:8017"),
        ({"host": "127.0.0.1", "schema": "http", "port": 8017}, "http://127.0.0.1:8017"),
        ({"host": "http://localhost", "port": 8017}, "http://localhost:8017"),
        ({"host": "http://[::1]:8017"}, "http://[::1]:8017"),
        ({"host": "HTTPS://API.Scantrust.com"}, "https://api.scantrust.com"),
        ({"host": "  https://api.scantrust.com//\n"}, "https://api.scantrust.com"),
        ({"host": "[::1]:8017", "schema": "http"}, "http://[::1]:8017"),
        # As Airflow reads scantrust://:token@[::1]:8017/http.
        ({"host": "::1", "port": 8017, "schema": "http"}, "http://[::1]:8017"),
        ({"host": "https.example.test"}, "https://https.example.test"),
        ({"host": "httpbin.test/https:x"}, "https://httpbin.test/https:x"),
        ({"host": "http://nas.test", "extra": {"allow_plain_http": "true"}}, "http://nas.test"),
    ],
)
def test_host_is_understood(fields: dict[str, Any], base_url: str) -> None:
    assert base_url == read_settings(password="t", **fields).base_url


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"host": "http://api.scantrust.com"}, "Plain http"),
        ({"host": "http://127.0.0.1.evil.test"}, "Plain http"),
        ({"host": "http://localhost.evil.test"}, "Plain http"),
        ({"host": "ftp://x.test"}, "must be https or http"),
        ({"host": "https://user:pw@x.test"}, "put the token in the password"),
        ({"host": "https://x.test?a=1"}, "without spaces, query"),
        ({"host": "x test"}, "without spaces"),
        ({"host": "x\r\nHost: y"}, "host"),
        ({"host": "https://x.test:99999"}, "from 1 to 65535"),
        ({"host": "https://x.test:1", "port": 2}, "two ports"),
        ({"port": 2}, "no host"),
        *(
            ({"host": host}, "has a scheme that is not written as")
            for host in (
                *("https:/api.x.test", "https:api.x.test", "https:///api.x.test", "https//api.x.test"),
                *(
                    "http//127.0.0.1",
                    "https;//api.x.test",
                    "https:\\\\api.x.test",
                    "//api.x.test",
                    "/api.x.test",
                ),
                *("https", "http", "https:", "https://", "https:8443", "HTTPS:/api.x.test", ":/api.x.test"),
                *(
                    "https://https://api.x.test",
                    "https://http//api.x.test",
                ),
                *("://api.x.test", "http:/127.0.0.1:8017", "https://///"),
            )
        ),
        # As Airflow reads scantrust://:token@https:/api.x.test, and the same with two slashes in its host.
        ({"host": "https", "schema": ""}, "has a scheme that is not written as"),
        ({"host": "htps://api.x.test"}, "must be https or http"),
        ({"host": "scantrust://api.x.test"}, "must be https or http"),
        ({"host": "https", "schema": "api.x.test"}, "must be https or http"),
        ({"host": "https%3A%2F%2Fapi.x.test"}, "neither a host name nor"),
        ({"host": "api.x.test:"}, "must be a number"),
        ({"host": "api.x.test:/path"}, "must be a number"),
        ({"host": "api.x.test:port"}, "must be a number"),
        ({"host": "api.x.test:80:90"}, "must be a number"),
        ({"host": "https://:443"}, "neither a host name nor"),
        ({"host": "api.x.test\\path"}, "backslash"),
        ({"host": "https:\\api.x.test"}, "has a scheme"),
        ({"host": "api .x.test"}, "without spaces"),
        ({"host": "api\t.x.test"}, "without spaces"),
        ({"host": "jane:secret@api.x.test"}, "put the token in the password"),
        ({"host": "token@api.x.test"}, "put the token in the password"),
        ({"host": "2001:db8::1"}, "without brackets"),
        ({"host": "[2001:db8::1"}, "brackets"),
        ({"host": "[2001:db8::1]x"}, "brackets"),
        ({"host": "api..x.test"}, "neither a host name nor"),
        ({"host": f"{'a' * 64}.test"}, "neither a host name nor"),
        ({"host": "api.x.test//v2"}, "path"),
        ({"password": ""}, "no token"),
        ({"password": None}, "no token"),
        ({"password": "UAT abc"}, "auth_scheme"),
        ({"password": "abc\r\nX-Evil: 1"}, "line break"),
        ({"password": "tökén"}, "another character"),
        ({"extra": {"auth_scheme": "Basic"}}, "must be UAT, JWT or login"),
        ({"extra": {"auth_scheme": "login"}}, "needs a login"),
        ({"login": "jane", "extra": {"auth_scheme": "login"}}, "login_endpoint"),
        (
            {"login": "j", "extra": {"auth_scheme": "login", "login_endpoint": "https://evil.test/"}},
            "path below",
        ),
        ({"login": "j", "extra": {"auth_scheme": "login", "login_endpoint": "//evil.test/"}}, "path below"),
        ({"extra": {"request_timeout": "soon"}}, "request_timeout"),
        ({"extra": {"request_timeout": 0}}, "request_timeout"),
        ({"extra": {"connect_timeout": float("nan")}}, "connect_timeout"),
        ({"extra": {"retry_attempts": 0}}, "retry_attempts"),
        ({"extra": {"retry_seconds": True}}, "retry_seconds"),
        ({"extra": {"max_polls_per_second": 0}}, "max_polls_per_second"),
        ({"extra": {"allow_plain_http": "maybe"}}, "allow_plain_http"),
    ],
)
def test_what_cannot_work_is_named(fields: dict[str, Any], said: str) -> None:
    with pytest.raises(ConfigurationError, match=said):
        read_settings(**{"password": "t", **fields})


def test_extra_may_be_text_as_in_a_uri() -> None:
    settings = read_settings(
        password=" token\n",
        extra={
            "request_timeout": "30",
            "connect_timeout": "2.5",
            "retry_attempts": "3",
            "retry_seconds": "60",
            "max_polls_per_second": "20",
            "verify": "False",
            "auth_scheme": "jwt",
        },
    )
    assert (30.0, 2.5, False, "JWT") == (
        settings.request_timeout,
        settings.connect_timeout,
        settings.verify,
        settings.auth_scheme,
    )
    assert Budget(attempts=3, seconds=60.0) == settings.budget
    assert 20 == settings.polls_per_second
    assert "JWT token" == settings.make_auth().header()


def test_defaults_are_just_above_the_gateways_minute() -> None:
    settings = read_settings(password="t")
    assert (75.0, True, "UAT") == (settings.request_timeout, settings.verify, settings.auth_scheme)
    assert "https://portal.scantrust.com/#/" == settings.portal_url


def test_connections_that_differ_in_how_they_ask_are_one_account() -> None:
    one = read_settings(password="t", extra={"max_polls_per_second": 5, "request_timeout": 9, "x": 1})
    other = read_settings(password="t", host="https://api.scantrust.com/")
    assert one.account == other.account
    assert hash(one.account) == hash(other.account)
    assert one.account != read_settings(password="u").account
    assert one.account != read_settings(password="t", extra={"verify": False}).account
    assert "'t'" not in repr(one.account)


def test_unknown_extras_are_kept_for_a_warning() -> None:
    assert ("auth_schema",) == read_settings(password="t", extra={"auth_schema": "UAT"}).ignored


def test_verify_may_be_a_path() -> None:
    assert "/etc/ca.pem" == read_settings(password="t", extra={"verify": "/etc/ca.pem"}).verify


@given(
    host=st.none() | st.text(max_size=30),
    schema=st.none() | st.text(max_size=6),
    port=st.none() | st.integers(0, 70_000),
    password=st.none() | st.text(max_size=20),
    extra=st.dictionaries(
        st.sampled_from(
            ["auth_scheme", "verify", "request_timeout", "login_endpoint", "allow_plain_http", "x"]
        ),
        st.none() | st.booleans() | st.floats() | st.text(max_size=20) | st.lists(st.integers(), max_size=2),
    ),
)
def test_no_other_exception_escapes_from_any_connection(**fields: Any) -> None:
    try:
        settings = read_settings(login="jane", **fields)
    except ConfigurationError as error:
        secret = (fields["password"] or "").strip()
        assert len(secret) < 8 or secret not in str(error)  # noqa: PT017 - any raise is fine, this is more
    else:
        assert settings.base_url.startswith(("https://", "http://"))
        assert not settings.base_url.endswith("/")


@pytest.mark.parametrize(
    "secret", ["marked-4711", 'marked"4711', "marked\\4711", "märked-4711", "marked'4711"]
)
def test_secret_is_hidden_in_every_form_in_which_answers_show_it(secret: str) -> None:
    auth = TokenAuth("UAT", secret)
    for text in (secret, json.dumps({"echo": secret}), repr(secret), repr({"echo": secret})):
        assert "4711" not in auth.hide(f"said {text} to all")
    for length in range(5, len(secret)):
        assert f"said ***{CUT}" == auth.hide(f"said {secret[:length]}{CUT}")


LOGIN = {"auth_scheme": "login", "login_endpoint": "/login/"}


def test_digest_of_an_account_is_stable_across_versions() -> None:
    digest = read_settings(password="token").account_digest
    assert "b5309f8aef60c663a59abe63b22c0614" == digest
    again = read_settings(
        password=" token\n", host="https://API.scantrust.com/", login="unused", extra={"x": 1}
    )
    assert digest == again.account_digest


@pytest.mark.parametrize(
    "other",
    [
        {"host": "https://api.staging.scantrust.io"},
        {"host": "https://api.scantrust.com/prefix"},
        {"password": "tokeN"},
        {"extra": {"auth_scheme": "JWT"}},
        {"login": "jane", "extra": LOGIN},
    ],
)
def test_digest_changes_with_service_scheme_and_credential(other: dict[str, Any]) -> None:
    fields = {"password": "token", **other}
    assert read_settings(password="token").account_digest != read_settings(**fields).account_digest


def test_digest_of_a_login_changes_with_user_and_password_and_not_with_its_token() -> None:
    digests = {
        read_settings(login=login, password=password, extra=LOGIN).account_digest
        for login, password in (("jane", "secret-1"), ("jane", "secret-2"), ("john", "secret-1"))
    }
    assert 3 == len(digests)
    settings = read_settings(login="jane", password="secret-1", extra=LOGIN)
    assert settings.account_digest in digests
    assert "secret" not in settings.account_digest


def test_paths_and_words_of_another_service_can_be_set() -> None:
    extra = {
        "upload_path": "v3/upload/",
        "upload_async_path": "/v3/async/",
        "task_path": "/v3/tasks//{task_id}",
        "me_path": "/v3/me",
        "done_states": "Archived, all-good",
        "failed_states": ["Complete"],
        "items_per_call": "100",
    }
    settings = read_settings(password="t", extra=extra)
    dialect = settings.dialect
    assert "/v3/upload/" == upload_scm_data([], "k", dialect).path
    assert "/v3/async/" == upload_scm_data_async({"k": "v"}, {}, dialect).path
    assert "/v3/me" == get_me(dialect).path
    status = get_scm_task("t-1", dialect)
    assert "/v3/tasks//t-1" == status.path
    states = [status.read({"state": word}).state for word in ("all good", "ARCHIVED", "complete", "pending")]
    assert [TaskState.COMPLETE, TaskState.COMPLETE, TaskState.FAILED, TaskState.PENDING] == states
    assert 100 == settings.items_per_call
    assert 999 == read_settings(password="t").items_per_call
    assert settings.account != read_settings(password="t").account
    assert settings.account_digest == read_settings(password="t").account_digest


@pytest.mark.parametrize(
    ("name", "value"),
    [
        *(
            ("task_path", value)
            for value in ("/tasks/", "//evil.test/{task_id}", "/a/../{task_id}/", "/{task_id}?x=1")
        ),
        *(
            ("task_path", value)
            for value in ("/{task_id}/{task_id}/", "/{id}/", "https://evil.test/{task_id}/", 5)
        ),
        *(("task_path", value) for value in ("/a/%2e%2e/{task_id}/", "/a;b/{task_id}/", "/@a/{task_id}/")),
        *(("upload_path", value) for value in ("https://evil.test/", "//evil.test/", "/a b/", "/", ["/a/"])),
        *(("items_per_call", value) for value in (0, 1000, 1.5, "many", True)),
        *(("done_states", value) for value in (7, "a\nb", [5], {"a": "b"}, "x" * 100)),
    ],
)
def test_settings_of_another_service_are_checked(name: str, value: Any) -> None:
    with pytest.raises(ConfigurationError, match=name):
        read_settings(password="t", extra={name: value})


def test_line_break_at_the_end_of_a_mounted_password_is_not_sent() -> None:
    assert " pass word " == read_settings(login="jane", password=" pass word \r\n", extra=LOGIN).secret
