"""Both transports say and hear the same, fault by fault."""

from __future__ import annotations

import asyncio
import socket
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from airflow_provider_scantrust.api import endpoints
from airflow_provider_scantrust.api.flow import converse
from airflow_provider_scantrust.api.messages import Endpoint, Fault, FaultKind, Request
from airflow_provider_scantrust.api.settings import read_settings
from airflow_provider_scantrust.exceptions import ConfigurationError, ScantrustError
from airflow_provider_scantrust.sandbox import Sandbox
from airflow_provider_scantrust.transports.aio import AioTransport, choose_proxy
from drivers import DRIVERS, LOG, ME, outcome
from tasks import bottles

UPLOAD = endpoints.upload_scm_data(bottles(1, 2), "extended_id")
SUBMIT = endpoints.upload_scm_data_async({"lot_number": "L-000001"}, {"market": "FR"})


FAULTS: dict[str, dict[str, Any]] = {
    "none": {},
    **{
        str(status): {"status": status}
        for status in (400, 401, 403, 404, 405, 406, 409, 413, 500, 502, 503, 504)
    },
    "always 500": {"status": 500, "times": None},
    "429": {"status": 429, "headers": {"Retry-After": "3"}, "times": 2},
    "429 in words": {
        "status": 429,
        "body": {"detail": "Request was throttled. Expected available in 4 seconds.", "code": "throttled"},
    },
    "429 until a date": {
        "status": 429,
        "headers": {"Retry-After": "Wed, 01 Jan 2020 00:00:00 GMT"},
        "body": "slow down",
    },
    "cut before the work": {"cut": "before"},
    "cut after the work": {"cut": "after"},
    "cut in the body": {"cut": "body"},
    "always cut": {"cut": "before", "times": None},
    "page": {"body": "<html>maintenance</html>"},
    "half of JSON": {"body": '{"items": {'},
    "other shape": {"body": [1, 2]},
    "empty": {"body": ""},
    "redirect": {"status": 302, "headers": {"Location": "/api/v2/me/?from=elsewhere"}},
    "redirect to another host": {"status": 307, "headers": {"Location": "http://other.test/"}, "times": None},
    "endless redirect": {"status": 301, "headers": {"Location": "/api/v2/me/"}, "times": None},
    "late": {"delay": 1.0},
}


@pytest.mark.parametrize("endpoint", [UPLOAD, SUBMIT, ME], ids=["upload", "submit", "me"])
@pytest.mark.parametrize("fault", FAULTS.values(), ids=FAULTS)
def test_transports_leave_the_same_transcript(
    sandbox: Sandbox, endpoint: Endpoint[Any], fault: dict[str, Any]
) -> None:
    settings = read_settings(host=sandbox.url, password=sandbox.token, extra={"request_timeout": "0.5"})
    seen = []
    for driver in DRIVERS:
        sandbox.clear_faults()
        sandbox.clear_transcript()
        if fault:
            sandbox.fault(**fault)
        result = outcome(driver, endpoint, settings)
        if endpoint is SUBMIT and isinstance(result[0], str):
            result = ("a task_id", *result[1:])
        said = [
            (
                entry["method"],
                entry["path"],
                entry.get("query"),
                entry["body"],
                entry["headers"]["authorization"],
            )
            for entry in sandbox.transcript()
        ]
        assert said
        seen.append((result, said))
    if endpoint is ME and "cut" in fault:
        # aiohttp repeats a GET once by itself when its connection is cut, and has no public switch for that.
        seen = [result[0] for result, _ in seen]
    assert seen[0] == seen[1]


@pytest.mark.parametrize("driver", DRIVERS)
def test_requests_carry_the_same_headers(sandbox: Sandbox, driver: Callable[..., Any]) -> None:
    driver(UPLOAD, read_settings(host=sandbox.url, password=sandbox.token), [])
    headers = sandbox.transcript()[-1]["headers"]
    assert headers["user-agent"].startswith("airflow-provider-scantrust/0.")
    assert "apache-airflow/" in headers["user-agent"]
    assert {"application/json"} == {headers["accept"], headers["content-type"]}
    assert "identity" == headers["accept-encoding"]
    assert sandbox.token not in str(headers)


@pytest.mark.parametrize("driver", DRIVERS)
def test_refused_connection_is_told_with_its_host(driver: Callable[..., Any]) -> None:
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        settings = read_settings(host=f"http://127.0.0.1:{closed.getsockname()[1]}", password="t")
        kind, text, *_, pauses = outcome(driver, ME, settings)
    assert "ConnectionFailed" == kind.__name__
    assert f"No answer to the test of the connection at {settings.host}: could not connect" == text
    assert 10 <= len(pauses)
    assert 240 <= sum(pauses) <= 300


@pytest.mark.parametrize("driver", DRIVERS)
def test_netrc_does_not_replace_the_token(
    sandbox: Sandbox, driver: Callable[..., Any], tmp_path: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    netrc = tmp_path / "netrc"
    netrc.write_text("machine 127.0.0.1 login someone password else\n")
    monkeypatch.setenv("NETRC", str(netrc))
    assert "sandbox@example.com" == driver(ME, read_settings(host=sandbox.url, password=sandbox.token), [])


@pytest.mark.parametrize("driver", DRIVERS)
def test_proxy_of_the_environment_is_used(
    sandbox: Sandbox, driver: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("http_proxy", sandbox.url)
    settings = read_settings(
        host="http://scantrust.test", password=sandbox.token, extra={"allow_plain_http": True}
    )
    # The sandbox is no proxy; that the request reached it is enough.
    outcome(driver, ME, settings)
    assert "scantrust.test" == sandbox.transcript()[-1]["headers"]["host"]
    monkeypatch.setenv("no_proxy", "scantrust.test")
    assert choose_proxy("http://scantrust.test/") is None


@pytest.mark.parametrize("driver", DRIVERS)
def test_missing_ca_bundle_is_a_configuration_error(driver: Callable[..., Any]) -> None:
    settings = read_settings(
        host="https://127.0.0.1:9", password="t", extra={"verify": "/no/such/bundle.pem"}
    )
    with pytest.raises(ConfigurationError, match=r"verify .*/no/such/bundle\.pem"):
        driver(ME, settings, [])


class RawServer:
    """Answers every connection with the same bytes, in pieces, and keeps it open."""

    def __init__(self, pieces: Iterator[bytes]) -> None:
        self._pieces = pieces
        self._socket = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self._socket.getsockname()[1]}"
        self._done = threading.Event()
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self._thread.start()

    def _serve(self) -> None:
        try:
            connection, _ = self._socket.accept()
        except OSError:
            return
        with connection:
            connection.recv(65_536)
            for piece in self._pieces:
                try:
                    connection.sendall(piece)
                except OSError:
                    return
                if self._done.wait(0.02):
                    return

    def close(self) -> None:
        self._done.set()
        self._socket.close()
        self._thread.join(5)


@pytest.mark.parametrize("driver", DRIVERS)
def test_trickling_answer_is_cut_off_in_time(driver: Callable[..., Any]) -> None:
    def trickle() -> Iterator[bytes]:
        yield b"HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n\r\n"
        while True:
            yield b" "

    server = RawServer(trickle())
    try:
        extra = {"request_timeout": 0.3, "retry_attempts": 1}
        kind, text, *_ = outcome(driver, ME, read_settings(host=server.url, password="t", extra=extra))
    finally:
        server.close()
    assert "ConnectionFailed" == kind.__name__
    assert "no answer in time" in text


@pytest.mark.parametrize("driver", DRIVERS)
def test_answer_without_an_end_is_refused(driver: Callable[..., Any]) -> None:
    def flood() -> Iterator[bytes]:
        yield b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n"
        for _ in range(70):
            yield b"x" * 1_000_000

    server = RawServer(flood())
    try:
        kind, text, *_ = outcome(driver, ME, read_settings(host=server.url, password="t"))
    finally:
        server.close()
    assert "UnreadableAnswer" == kind.__name__
    assert "longer than any answer of the API" in text


@pytest.mark.parametrize("driver", DRIVERS)
@pytest.mark.parametrize(
    "head",
    [
        b"",
        b"HTTP/9.9 200 OK\r\n\r\n",
        b"SSH-2.0-OpenSSH\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: x\r\n\r\n{",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: 4\r\n\r\nabcd",
        b"HTTP/1.1 2000 OK\r\n\r\n",
    ],
)
def test_no_library_exception_escapes_from_a_broken_server(driver: Callable[..., Any], head: bytes) -> None:
    server = RawServer(iter([head]))
    try:
        extra = {"request_timeout": 1, "retry_attempts": 1}
        kind, *_ = outcome(driver, ME, read_settings(host=server.url, password="t", extra=extra))
    finally:
        server.close()
    assert issubclass(kind, ScantrustError)


def test_waits_that_need_a_login_together_make_one_over_aiohttp(sandbox: Sandbox) -> None:
    settings = read_settings(
        host=sandbox.url,
        login="sandbox",
        password="sandbox-password-not-a-secret",
        extra={"auth_scheme": "login", "login_endpoint": "/api/v2/auth/login/"},
    )
    auth = settings.make_auth()

    async def ask_together() -> list[str]:
        async with AioTransport(verify=True, log=LOG) as transport:
            talks = [converse(ME, settings, auth, random=lambda: 0.5) for _ in range(60)]
            return await asyncio.gather(*map(transport.perform, talks))

    assert {"sandbox@example.com"} == set(asyncio.run(ask_together()))
    paths = [entry["path"] for entry in sandbox.transcript()]
    assert (1, 60) == (paths.count("/api/v2/auth/login/"), paths.count(ME.path))


async def test_fault_does_not_wait_for_the_threads_of_other_triggers() -> None:
    loop, end = asyncio.get_running_loop(), threading.Event()
    loop.set_default_executor(ThreadPoolExecutor(1))
    busy = loop.run_in_executor(None, end.wait)
    request = Request("GET", "http://127.0.0.1:1/", headers={}, body=None, timeout=(1.0, 1.0))
    try:
        async with AioTransport(verify=False, log=LOG) as transport, asyncio.timeout(3):
            fault = await transport._send(request)
    finally:
        end.set()
        await busy
    assert isinstance(fault, Fault)
    assert (FaultKind.CONNECT, "Connection refused") == (fault.kind, fault.detail)
