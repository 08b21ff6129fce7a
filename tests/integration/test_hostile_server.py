"""A server that answers garbage over a real socket: both transports end in time, alike, with one typed error."""

from __future__ import annotations

import gzip
import itertools
import resource
import socket
import struct
import threading
import time
import zlib
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from typing import Any

import pytest

from airflow_provider_scantrust.api import endpoints
from airflow_provider_scantrust.api.settings import read_settings
from airflow_provider_scantrust.exceptions import (
    ConnectionFailed,
    ScantrustError,
    ServiceUnavailable,
    UnreadableAnswer,
)
from drivers import DRIVERS, ME, by_requests, outcome

SUBMIT = endpoints.upload_scm_data_async({"lot_number": "L-1"}, {"market": "FR"})
GOOD = b'{"email": "jane@x.test"}'
SECONDS = 0.4


class HostileServer:
    """Gives the same pieces to each connection; a number among them is a pause in seconds."""

    def __init__(self, pieces: Callable[[], Iterable[bytes | float]], *, cut: bool = False) -> None:
        self._pieces = pieces
        self._cut = cut
        self._socket = socket.create_server(("127.0.0.1", 0), backlog=50)
        self._over = threading.Event()
        self._threads: list[threading.Thread] = []
        self.url = f"http://127.0.0.1:{self._socket.getsockname()[1]}"
        self.requests: list[bytes] = []

    def __enter__(self) -> HostileServer:
        self._start(self._accept)
        return self

    def __exit__(self, *exception: object) -> None:
        self._over.set()
        # An accept that waits is not woken by a close.
        with socket.create_connection(self._socket.getsockname()):
            pass
        for thread in self._threads:
            thread.join(5)
            assert not thread.is_alive()
        self._socket.close()

    def _start(self, target: Callable[..., None], *args: Any) -> None:
        thread = threading.Thread(target=target, args=args, daemon=True)
        self._threads.append(thread)
        thread.start()

    def _accept(self) -> None:
        while not self._over.is_set():
            connection, _ = self._socket.accept()
            connection.settimeout(5)
            self._start(self._serve, connection)

    def _serve(self, connection: socket.socket) -> None:
        with connection:
            try:
                self.requests.append(connection.recv(65_536))
                for piece in self._pieces():
                    if self._over.is_set():
                        return
                    if isinstance(piece, bytes):
                        connection.sendall(piece)
                    elif self._over.wait(piece):
                        return
                if self._cut:
                    # A reset instead of an end.
                    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
                elif not self._over.wait(0.01):
                    connection.shutdown(socket.SHUT_WR)
                    self._over.wait(SECONDS)
            except OSError:
                return


def answer(body: bytes, *headers: str, status: str = "200 OK", length: int | None = None) -> bytes:
    size = f"Content-Length: {len(body) if length is None else length}"
    return "\r\n".join([f"HTTP/1.1 {status}", size, *headers, "", ""]).encode("latin-1") + body


def chunked(*chunks: bytes) -> bytes:
    return b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" + b"".join(chunks)


def repeat(piece: bytes, pause: float = 0.0) -> Iterator[bytes | float]:
    for number in itertools.count():
        yield piece
        if pause:
            yield pause
        elif number > 100_000:
            return


def drip(data: bytes, pause: float = 0.05) -> Iterator[bytes | float]:
    for letter in data:
        yield bytes([letter])
        yield pause


def pack_spaces(megabytes: int) -> bytes:
    """Return what ``gzip`` makes of so many spaces, of one piece that is packed once."""
    spaces = b" " * 1_000_000
    packer = zlib.compressobj(9, wbits=-15)
    piece = packer.compress(spaces) + packer.flush(zlib.Z_FULL_FLUSH)
    checksum = 0
    for _ in range(megabytes):
        checksum = zlib.crc32(spaces, checksum)
    end = packer.flush() + struct.pack("<II", checksum, megabytes * len(spaces))
    return gzip.compress(b"", mtime=0)[:10] + piece * megabytes + end


BOMB = pack_spaces(200)


def zlib_raw(data: bytes) -> bytes:
    packer = zlib.compressobj(wbits=-15)
    return packer.compress(data) + packer.flush()


# What is said, and what both transports make of it: data, a class of error, or either of two.
GARBAGE: dict[str, tuple[Callable[[], Iterable[bytes | float]], Any]] = {
    "nothing": (list, ConnectionFailed),
    "another protocol": (lambda: [b"SSH-2.0-OpenSSH_9.6\r\n"], ConnectionFailed),
    "TLS": (lambda: [b"\x15\x03\x01\0\x02\x02\x46"], ConnectionFailed),
    "zeros": (lambda: [bytes(10_000)], ConnectionFailed),
    "no status": (lambda: [b"HTTP/1.1\r\n\r\n"], ConnectionFailed),
    "status of letters": (lambda: [b"HTTP/1.1 abc OK\r\n\r\n"], ConnectionFailed),
    "HTTP 0.9": (lambda: [GOOD], ConnectionFailed),
    "body cut": (lambda: [answer(GOOD, length=1_000)], ConnectionFailed),
    "length of letters": (lambda: [b"HTTP/1.1 200 OK\r\nContent-Length: many\r\n\r\n" + GOOD], None),
    "negative length": (lambda: [answer(GOOD, length=-1)], None),
    "chunk of no size": (lambda: [chunked(b"zz\r\nabc\r\n")], ConnectionFailed),
    "huge chunk": (lambda: [chunked(b"fffffffffffffffff\r\nabc")], ConnectionFailed),
    "negative chunk": (lambda: [chunked(b"-5\r\nabcde\r\n0\r\n\r\n")], ConnectionFailed),
    "chunks cut": (lambda: [chunked(b"5\r\nabcde\r\n")], ConnectionFailed),
    "endless size of a chunk": (lambda: [chunked(), *[b"0" * 10_000] * 100], ConnectionFailed),
    "endless extension of a chunk": (lambda: [chunked(b"5;"), *[b"x" * 10_000] * 100], ConnectionFailed),
    "header flood": (
        lambda: itertools.chain([b"HTTP/1.1 200 OK\r\n"], repeat(b"X-Flood: y\r\n" * 100)),
        ConnectionFailed,
    ),
    "endless header": (
        lambda: itertools.chain([b"HTTP/1.1 200 OK\r\nX: "], repeat(b"y" * 10_000)),
        ConnectionFailed,
    ),
    "endless status line": (
        lambda: itertools.chain([b"HTTP/1.1 200 "], repeat(b"y" * 10_000)),
        ConnectionFailed,
    ),
    "a long header": (lambda: [answer(GOOD, "X-Long: " + "y" * 60_000)], "jane@x.test"),
    "a gateway that waited too long": (
        lambda: [answer(b"", "Connection: close", status="408 Request Timeout")],
        ServiceUnavailable,
    ),
    "header without a colon": (lambda: [b"HTTP/1.1 200 OK\r\nnonsense\r\n\r\n" + GOOD], None),
    "header of odd bytes": (lambda: [answer(GOOD, "X-\xff: \xe4\x00")], None),
    "slow body": (
        lambda: itertools.chain([answer(b"", length=10_000)], drip(b" " * 10_000)),
        ConnectionFailed,
    ),
    "slow chunks": (lambda: itertools.chain([chunked()], repeat(b"1\r\n \r\n", 0.05)), ConnectionFailed),
    "silence": (lambda: [5.0], ConnectionFailed),
    "endless body": (
        lambda: itertools.chain([b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n"], repeat(b" " * 1_000_000)),
        UnreadableAnswer,
    ),
    "gzip": (lambda: [answer(gzip.compress(GOOD), "Content-Encoding: gzip")], "jane@x.test"),
    "deflate": (lambda: [answer(zlib.compress(GOOD), "Content-Encoding: deflate")], "jane@x.test"),
    "raw deflate": (lambda: [answer(zlib_raw(GOOD), "Content-Encoding: deflate")], "jane@x.test"),
    "identity": (lambda: [answer(GOOD, "Content-Encoding: identity")], "jane@x.test"),
    "gzip that is none": (lambda: [answer(GOOD, "Content-Encoding: gzip")], "jane@x.test"),
    "gzip cut": (lambda: [answer(gzip.compress(GOOD)[:-9], "Content-Encoding: gzip")], UnreadableAnswer),
    "gzip bomb": (lambda: [answer(BOMB, "Content-Encoding: gzip")], UnreadableAnswer),
    "gzip bomb in gzip": (
        lambda: [answer(gzip.compress(BOMB), "Content-Encoding: gzip, gzip")],
        UnreadableAnswer,
    ),
    "unknown packing": (lambda: [answer(b"\x0b\x02\x80", "Content-Encoding: br")], UnreadableAnswer),
    "another type": (lambda: [answer(GOOD, "Content-Type: text/html; charset=utf-7")], "jane@x.test"),
    "a page": (lambda: [answer(b"<html>" + b"x" * 100_000)], UnreadableAnswer),
    "no JSON": (lambda: [answer(b"[" * 1_000_000)], UnreadableAnswer),
    "two lengths": (
        lambda: [b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nContent-Length: 24\r\n\r\n" + GOOD],
        None,
    ),
    "more than its length": (lambda: [answer(GOOD) + b"HTTP/1.1 200 OK\r\n\r\nmore"], "jane@x.test"),
    "a cookie": (lambda: [answer(GOOD, "Set-Cookie: a=b; Path=/")], "jane@x.test"),
    "an upgrade": (
        lambda: [answer(b"", "Upgrade: h2c", "Connection: Upgrade", status="101 Switching Protocols")],
        None,
    ),
    "a status of its own": (lambda: [answer(GOOD, status="999 Odd")], ServiceUnavailable),
}


@contextmanager
def measured() -> Iterator[None]:
    """Nothing takes long, and nothing takes much memory: 200 MB unpacked would show."""
    started = time.monotonic()
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    yield
    assert time.monotonic() - started < 10 * SECONDS
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 120 * 1024


RESETS = ["nothing", "body cut", "chunks cut", "gzip", "a page"]


@pytest.mark.parametrize(
    ("case", "cut"), [*((case, False) for case in GARBAGE), *((case, True) for case in RESETS)]
)
def test_garbage_is_one_typed_error_in_both_transports(case: str, cut: bool) -> None:
    pieces, expected = GARBAGE[case]
    found = []
    for driver in DRIVERS:
        with HostileServer(pieces, cut=cut) as server, measured():
            # Its end is its length, which is not to be a race with the time.
            seconds = 8 * SECONDS if case == "endless body" else SECONDS
            extra = {"request_timeout": seconds, "retry_attempts": 1}
            result = outcome(driver, ME, read_settings(host=server.url, password="marked-token", extra=extra))
        assert "marked-token" not in str(result)
        found.append(result[0])
    for result in found:
        assert isinstance(result, str) or issubclass(result, ScantrustError), found
        if cut and isinstance(expected, str):
            # A reset may overtake what was sent before it.
            assert result in (expected, ConnectionFailed), found
        elif cut and expected is UnreadableAnswer:
            assert result in (expected, ConnectionFailed), found
        elif expected is not None:
            assert expected == result, found


@pytest.mark.parametrize("driver", DRIVERS)
def test_retry_after_that_is_said_twice_is_read_alike(driver: Callable[..., Any]) -> None:
    reply = answer(b"", "Retry-After: 3", "Retry-After: 5", status="429 Too Many Requests")
    with HostileServer(lambda: [reply]) as server:
        extra = {"request_timeout": SECONDS, "retry_attempts": 1, "retry_seconds": 0.2}
        kind, *_, pauses = outcome(driver, ME, read_settings(host=server.url, password="t", extra=extra))
    assert ("Throttled", []) == (kind.__name__, pauses)


@pytest.mark.parametrize("driver", DRIVERS)
def test_submit_whose_answer_is_garbage_says_what_may_have_happened(driver: Callable[..., Any]) -> None:
    with HostileServer(lambda: [answer(b"<html>")]) as server:
        extra = {"request_timeout": SECONDS, "retry_attempts": 1}
        with pytest.raises(UnreadableAnswer, match="may still have been submitted"):
            driver(SUBMIT, read_settings(host=server.url, password="t", extra=extra), [])
    assert 1 == len([request for request in server.requests if request])


@contextmanager
def reading(read: Callable[[socket.socket], None]) -> Iterator[str]:
    """A server that takes one connection and reads from it as slowly as it likes; gives its URL."""

    def serve() -> None:
        connection, _ = server.accept()
        with connection, suppress(OSError):
            read(connection)

    with socket.create_server(("127.0.0.1", 0)) as server:
        # What the system keeps for a reader that does not read would hide how slow it is.
        server.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4_096)
        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        yield f"http://127.0.0.1:{server.getsockname()[1]}"
        thread.join(10)


UPLOAD = endpoints.upload_scm_data([{"extended_id": "A", "market": "x" * 8_000_000}], "extended_id")


def test_large_request_may_take_longer_than_to_connect() -> None:
    reply = answer(b'{"total_updates": 1, "items": {"A": ["market"]}, "codes_affected": 1}')

    def read_slowly(connection: socket.socket) -> None:
        head = connection.recv(10_000)
        left = int(head.lower().partition(b"content-length: ")[2].split(b"\r\n")[0])
        left -= len(head.partition(b"\r\n\r\n")[2])
        started = time.monotonic()
        while left > 0:
            if time.monotonic() - started < 3 * SECONDS:
                over.wait(SECONDS / 20)
            left -= len(connection.recv(100_000))
        connection.sendall(reply)

    over = threading.Event()
    with reading(read_slowly) as url:
        extra = {"connect_timeout": SECONDS, "request_timeout": 20, "retry_attempts": 1}
        assert 1 == by_requests(UPLOAD, read_settings(host=url, password="t", extra=extra), []).codes_affected


def test_request_that_is_taken_too_slowly_ends_in_time() -> None:
    def read_too_slowly(connection: socket.socket) -> None:
        while connection.recv(10_000) and not over.wait(0.05):
            pass

    over = threading.Event()
    with reading(read_too_slowly) as url:
        extra = {"connect_timeout": SECONDS, "request_timeout": 2 * SECONDS, "retry_attempts": 1}
        started = time.monotonic()
        kind, text, *_ = outcome(by_requests, UPLOAD, read_settings(host=url, password="t", extra=extra))
        over.set()
    assert (ConnectionFailed, True) == (kind, "no answer in time" in text)
    assert time.monotonic() - started < 6 * SECONDS


@pytest.mark.parametrize("driver", DRIVERS)
def test_answer_behind_an_interim_one_is_never_taken_for_that_of_the_next_call(
    driver: Callable[..., Any],
) -> None:
    pieces: list[bytes | float] = [b"HTTP/1.1 103 Early Hints\r\nLink: </x>\r\n\r\n", 0.05, answer(GOOD)]
    with HostileServer(lambda: pieces) as server:
        extra = {"request_timeout": SECONDS, "retry_attempts": 2}
        result = outcome(driver, ME, read_settings(host=server.url, password="t", extra=extra))
    # requests does not pass over it; the connection is closed, and the call repeated.
    assert result[0] in ("jane@x.test", ConnectionFailed)
    assert all(1 == request.count(b"HTTP/1.1") for request in server.requests if request)
