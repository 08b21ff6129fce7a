"""Proxies of the environment, and redirects: both transports take the same way, and the token goes to its own host only."""

from __future__ import annotations

import contextlib
import select
import socket
import ssl
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
import trustme

from airflow_provider_scantrust.api.settings import Settings, read_settings
from airflow_provider_scantrust.exceptions import (
    ConfigurationError,
    ConnectionFailed,
    ScantrustError,
    UnexpectedRedirect,
)
from drivers import DRIVERS, ME, outcome

TOKEN = "marked-token-4711"
# Said by no name server: who reaches it does so through the proxy.
HOST = "scantrust.test"


@contextlib.contextmanager
def serve(handler: type[BaseHTTPRequestHandler], context: ssl.SSLContext | None = None) -> Iterator[int]:
    httpd = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    if context is not None:
        httpd.socket = context.wrap_socket(httpd.socket, server_side=True)
    thread = threading.Thread(target=httpd.serve_forever, args=(0.05,), daemon=True)
    thread.start()
    try:
        yield httpd.server_address[1]
    finally:
        httpd.shutdown()
        httpd.server_close()
        thread.join()


class Quiet(BaseHTTPRequestHandler):
    def log_message(self, *args: Any) -> None:
        """Say nothing."""

    def answer(self, status: int, body: bytes = b"", **headers: str) -> None:
        self.send_response(status)
        for name, value in {"Content-Length": str(len(body)), "Connection": "close", **headers}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)
        self.close_connection = True


class Seen:
    """What a service and a proxy were told."""

    def __init__(self) -> None:
        self.service: list[tuple[str, str | None]] = []
        self.proxy: list[tuple[str, str, str | None, str | None]] = []
        self.redirect: str | None = None


def make_service(seen: Seen) -> type[Quiet]:
    class Service(Quiet):
        def do_GET(self) -> None:
            seen.service.append((self.path, self.headers["Authorization"]))
            if seen.redirect and len(seen.service) == 1:
                self.answer(302, Location=seen.redirect)
            else:
                self.answer(200, b'{"email": "jane@x.test"}')

    return Service


def make_proxy(seen: Seen, target: list[int]) -> type[Quiet]:
    class Proxy(Quiet):
        """Takes every host for the one service there is."""

        def note(self) -> None:
            heard = (
                self.command,
                self.path,
                self.headers["Proxy-Authorization"],
                self.headers["Authorization"],
            )
            seen.proxy.append(heard)

        def do_GET(self) -> None:
            self.note()
            self.answer(200, b'{"email": "jane@x.test"}')

        def do_CONNECT(self) -> None:
            self.note()
            with socket.create_connection(("127.0.0.1", target[0])) as there:
                self.send_response(200)
                self.end_headers()
                here = self.connection
                while True:
                    ready, _, _ = select.select([here, there], [], [], 5)
                    if not ready or not all(pump(each, there if each is here else here) for each in ready):
                        break
            self.close_connection = True

    return Proxy


def pump(source: socket.socket, target: socket.socket) -> bool:
    with contextlib.suppress(OSError):
        data = source.recv(65_536)
        target.sendall(data)
        return bool(data)
    return False


@pytest.fixture
def seen() -> Seen:
    return Seen()


@pytest.fixture(scope="module")
def tls(tmp_path_factory: pytest.TempPathFactory) -> tuple[ssl.SSLContext, Path]:
    authority = trustme.CA()
    bundle = tmp_path_factory.mktemp("tls") / "ca.pem"
    authority.cert_pem.write_to_path(str(bundle))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert(HOST, "127.0.0.1").configure_cert(context)
    return context, bundle


@pytest.fixture
def service(seen: Seen) -> Iterator[int]:
    with serve(make_service(seen)) as port:
        yield port


@pytest.fixture
def secure(seen: Seen, tls: tuple[ssl.SSLContext, Path]) -> Iterator[int]:
    with serve(make_service(seen), tls[0]) as port:
        yield port


@pytest.fixture
def proxy(seen: Seen, secure: int) -> Iterator[int]:
    with serve(make_proxy(seen, [secure])) as port:
        yield port


def settings(host: str, **extra: Any) -> Settings:
    extra = {"allow_plain_http": True, "request_timeout": 5, "retry_attempts": 1, **extra}
    return read_settings(host=host, password=TOKEN, extra=extra)


@pytest.mark.parametrize("driver", DRIVERS)
@pytest.mark.parametrize("name", ["http_proxy", "ALL_PROXY", "all_proxy"])
def test_http_goes_through_the_proxy(
    driver: Callable[..., Any], name: str, proxy: int, seen: Seen, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(name, f"http://jane:secret@127.0.0.1:{proxy}")
    assert ("jane@x.test", []) == outcome(driver, ME, settings(f"http://{HOST}"))
    assert [("GET", f"http://{HOST}/api/v2/me/", "Basic amFuZTpzZWNyZXQ=", f"UAT {TOKEN}")] == seen.proxy


@pytest.mark.parametrize("driver", DRIVERS)
@pytest.mark.parametrize("name", ["HTTPS_PROXY", "https_proxy", "ALL_PROXY"])
@pytest.mark.parametrize("scheme", ["http://", ""])
def test_https_goes_through_a_tunnel_that_does_not_see_the_token(
    driver: Callable[..., Any],
    name: str,
    scheme: str,
    proxy: int,
    seen: Seen,
    tls: tuple[ssl.SSLContext, Path],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv(name, f"{scheme}127.0.0.1:{proxy}")
    assert ("jane@x.test", []) == outcome(driver, ME, settings(f"https://{HOST}", verify=str(tls[1])))
    assert [("CONNECT", f"{HOST}:443", None, None)] == seen.proxy
    assert [("/api/v2/me/", f"UAT {TOKEN}")] == seen.service


@pytest.mark.parametrize("driver", DRIVERS)
@pytest.mark.parametrize("no_proxy", ["127.0.0.1", "*", "127.0.0.0/8", "other.test, 127.0.0.1"])
def test_no_proxy_is_honoured(
    driver: Callable[..., Any],
    no_proxy: str,
    proxy: int,
    service: int,
    seen: Seen,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("http_proxy", f"http://127.0.0.1:{proxy}")
    monkeypatch.setenv("NO_PROXY", no_proxy)
    assert ("jane@x.test", []) == outcome(driver, ME, settings(f"http://127.0.0.1:{service}"))
    assert ([], 1) == (seen.proxy, len(seen.service))


@pytest.mark.parametrize("driver", DRIVERS)
def test_proxy_that_is_down_or_refuses_is_no_connection(
    driver: Callable[..., Any], service: int, seen: Seen, monkeypatch: pytest.MonkeyPatch
) -> None:
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        down = f"http://jane:secret-of-the-proxy@127.0.0.1:{closed.getsockname()[1]}"
        # The service is no proxy: it answers CONNECT with 501.
        for address in (down, f"http://jane:secret-of-the-proxy@127.0.0.1:{service}"):
            monkeypatch.setenv("https_proxy", address)
            kind, *said = outcome(driver, ME, settings(f"https://{HOST}"))
            assert kind is ConnectionFailed
            assert "secret-of-the-proxy" not in str(said)
            assert TOKEN not in str(said)
    assert [] == seen.service


@pytest.mark.parametrize("driver", DRIVERS)
@pytest.mark.parametrize("scheme", ["https", "http"])
def test_redirect_elsewhere_never_carries_the_token(
    driver: Callable[..., Any],
    scheme: str,
    secure: int,
    seen: Seen,
    tls: tuple[ssl.SSLContext, Path],
) -> None:
    """From https: to http, to another port, to another name of the same machine, to another user."""
    other = Seen()
    with serve(make_service(other), tls[0] if scheme == "https" else None) as port:
        for target in (
            f"{scheme}://127.0.0.1:{port}/api/v2/me/",
            f"//127.0.0.1:{port}/api/v2/me/",
            f"{scheme}://localhost:{port}/",
            f"https://user@127.0.0.1:{secure}/api/v2/me/",
            f"http://127.0.0.1:{secure}/api/v2/me/",
        ):
            seen.service.clear()
            seen.redirect = target
            kind, text, *_ = outcome(driver, ME, settings(f"https://127.0.0.1:{secure}", verify=str(tls[1])))
            assert kind is UnexpectedRedirect
            assert TOKEN not in text
            assert 1 == len(seen.service)
    assert [] == other.service


@pytest.mark.parametrize("driver", DRIVERS)
def test_redirect_within_its_origin_is_followed_with_the_token(
    driver: Callable[..., Any], secure: int, seen: Seen, tls: tuple[ssl.SSLContext, Path]
) -> None:
    seen.redirect = "/api/v2/me/?again=1"
    result = outcome(driver, ME, settings(f"https://127.0.0.1:{secure}", verify=str(tls[1])))
    assert ("jane@x.test", []) == result
    assert [("/api/v2/me/", f"UAT {TOKEN}"), ("/api/v2/me/?again=1", f"UAT {TOKEN}")] == seen.service


@pytest.mark.parametrize("driver", DRIVERS)
def test_no_proxy_hears_what_goes_unencrypted_to_this_machine(
    monkeypatch: pytest.MonkeyPatch, driver: Callable[..., Any]
) -> None:
    class Service(Quiet):
        def do_GET(self) -> None:
            self.answer(200, b'{"email": "jane@x.test"}')

    monkeypatch.delenv("NO_PROXY", raising=False)
    monkeypatch.delenv("no_proxy", raising=False)
    # No server listens there.
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:9")
    with serve(Service) as port:
        settings = read_settings(host=f"http://127.0.0.1:{port}", password=TOKEN)
        assert "jane@x.test" == driver(ME, settings, [])


@pytest.mark.parametrize("driver", DRIVERS)
def test_proxy_that_is_none_of_http_is_refused(
    monkeypatch: pytest.MonkeyPatch, driver: Callable[..., Any]
) -> None:
    monkeypatch.setenv("https_proxy", "socks5://127.0.0.1:9")
    with pytest.raises(ConfigurationError, match="socks5"):
        driver(ME, read_settings(host=f"https://{HOST}", password=TOKEN), [])


@pytest.mark.parametrize("driver", DRIVERS)
@pytest.mark.parametrize("proxy", ["http://jane:p/ss-secret@proxy:1", "http://jane:ss-secret@proxy:port"])
def test_bad_proxy_is_told_without_its_password(
    monkeypatch: pytest.MonkeyPatch, driver: Callable[..., Any], proxy: str
) -> None:
    monkeypatch.setenv("https_proxy", proxy)
    extra = {"retry_attempts": 1}
    with pytest.raises(ScantrustError) as caught:
        driver(ME, read_settings(host=f"https://{HOST}", password=TOKEN, extra=extra), [])
    assert "ss-secret" not in f"{caught.value} {caught.value.as_dict()}"
