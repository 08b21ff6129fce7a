"""TLS with a real server: both transports trust the same, and say the same."""

from __future__ import annotations

import ssl
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
import trustme

from airflow_provider_scantrust import exceptions as exc
from airflow_provider_scantrust.api.settings import read_settings
from airflow_provider_scantrust.sandbox import Sandbox
from drivers import DRIVERS, ME, outcome

SEEN: list[str | None] = []


class Handler(BaseHTTPRequestHandler):
    """Answers `me` to everybody and remembers what they showed."""

    def do_GET(self) -> None:
        SEEN.append(self.headers["Authorization"])
        body = b'{"email": "tls@example.com"}'
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *args: Any) -> None:
        """Say nothing."""


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> tuple[trustme.CA, Path]:
    path = tmp_path_factory.mktemp("tls") / "ca.pem"
    ca = trustme.CA()
    ca.cert_pem.write_to_path(str(path))
    return ca, path


@pytest.fixture(params=["127.0.0.1", "other.test"])
def server(request: Any, authority: tuple[trustme.CA, Path]) -> Iterator[tuple[str, str]]:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority[0].issue_cert(request.param).configure_cert(context)
    with serve(context) as url:
        yield request.param, url


@contextmanager
def serve(context: ssl.SSLContext) -> Iterator[str]:
    httpd = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    httpd.socket = context.wrap_socket(httpd.socket, server_side=True)
    thread = threading.Thread(target=httpd.serve_forever, args=(0.05,), daemon=True)
    thread.start()
    try:
        yield f"https://127.0.0.1:{httpd.server_address[1]}"
    finally:
        httpd.shutdown()
        httpd.server_close()
        thread.join()


# urllib3 warns each time when verification is off, which is what one of the cases asks for.
@pytest.mark.filterwarnings("ignore::urllib3.exceptions.InsecureRequestWarning")
@pytest.mark.parametrize("driver", DRIVERS)
@pytest.mark.parametrize(
    "verify", ["default", "own CA", "own CA, environment's beside it", "environment", "off"]
)
def test_only_a_trusted_certificate_of_this_host_gets_the_token(
    server: tuple[str, str],
    authority: tuple[trustme.CA, Path],
    driver: Callable[..., Any],
    verify: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    name, url = server
    if verify.startswith("own CA, "):
        import certifi

        monkeypatch.setenv("REQUESTS_CA_BUNDLE", certifi.where())
    if verify == "environment":
        monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(authority[1]))
    extra = {"own": str(authority[1]), "off": "false"}.get(verify.split(" ")[0])
    settings = read_settings(host=url, password="marked-token", extra={"verify": extra})
    SEEN.clear()
    result = outcome(driver, ME, settings)
    trusted = verify == "off" or (verify != "default" and name == "127.0.0.1")
    if trusted:
        assert ("tls@example.com", []) == result
        assert ["UAT marked-token"] == SEEN
    else:
        assert exc.CertificateRejected is result[0]
        assert [] == SEEN


@pytest.mark.parametrize("driver", DRIVERS)
def test_expired_certificate_does_not_get_the_token(
    authority: tuple[trustme.CA, Path], driver: Callable[..., Any]
) -> None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    expired = datetime.now(UTC) - timedelta(days=1)
    authority[0].issue_cert("127.0.0.1", not_after=expired).configure_cert(context)
    with serve(context) as url:
        SEEN.clear()
        settings = read_settings(host=url, password="marked-token", extra={"verify": str(authority[1])})
        kind, text, *_ = outcome(driver, ME, settings)
    assert (exc.CertificateRejected, []) == (kind, SEEN)
    assert "The TLS certificate of 127.0.0.1" in text


@pytest.mark.parametrize("driver", DRIVERS)
@pytest.mark.parametrize("where", ["verify", "REQUESTS_CA_BUNDLE"])
@pytest.mark.parametrize("content", [b"", b"no certificate", b"-----BEGIN CERTIFICATE-----\nAAAA\n", None])
def test_bundle_that_cannot_be_used_is_a_configuration_error(
    driver: Callable[..., Any],
    where: str,
    content: bytes | None,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    bundle = tmp_path / "bundle.pem"
    if content is not None:
        bundle.write_bytes(content)
    if where != "verify":
        monkeypatch.setenv(where, str(bundle))
    extra = {"verify": str(bundle) if where == "verify" else None}
    settings = read_settings(host="https://127.0.0.1:9", password="marked-token", extra=extra)
    with pytest.raises(exc.ConfigurationError, match=r"bundle\.pem"):
        driver(ME, settings, [])


@pytest.mark.parametrize("driver", DRIVERS)
def test_plain_http_to_a_server_of_tls_says_what_to_write(
    authority: tuple[trustme.CA, Path], driver: Callable[..., Any]
) -> None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority[0].issue_cert("127.0.0.1").configure_cert(context)
    with serve(context) as url:
        settings = read_settings(host=url.replace("https", "http"), password="marked-token")
        kind, text, *_, pauses = outcome(driver, ME, settings)
    assert (exc.ConfigurationError, []) == (kind, pauses)
    assert f"Write {url} as the host" in text


@pytest.mark.parametrize("driver", DRIVERS)
def test_tls_to_a_server_without_it_says_what_to_write(driver: Callable[..., Any]) -> None:
    httpd = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=httpd.serve_forever, args=(0.05,), daemon=True)
    thread.start()
    url = f"127.0.0.1:{httpd.server_address[1]}"
    try:
        with pytest.raises(exc.ConfigurationError, match=f"write http://{url} as the host"):
            driver(ME, read_settings(host=url, password="marked-token"), [])
    finally:
        httpd.shutdown()
        httpd.server_close()
        thread.join()


@pytest.mark.parametrize("driver", DRIVERS)
def test_tls_to_the_sandbox_says_what_to_write(sandbox: Sandbox, driver: Callable[..., Any]) -> None:
    with pytest.raises(exc.ConfigurationError, match=f"write {sandbox.url} as the host"):
        driver(ME, read_settings(host=f"127.0.0.1:{sandbox.port}", password=sandbox.token), [])
