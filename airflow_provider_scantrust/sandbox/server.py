"""A sandbox on a socket of this machine, served from a thread."""

from __future__ import annotations

import asyncio
import json
import socket
import threading
from collections.abc import Iterable
from os import PathLike
from typing import Any
from urllib.parse import quote

import uvicorn
from uvicorn.protocols.http.h11_impl import H11Protocol
from uvicorn.server import ServerState

from airflow_provider_scantrust.sandbox.app import build_app
from airflow_provider_scantrust.sandbox.checks import texts, whole
from airflow_provider_scantrust.sandbox.controls import Controls
from airflow_provider_scantrust.sandbox.service import Service
from airflow_provider_scantrust.sandbox.settings import DEFAULT_TOKEN, Settings


class Sandbox(Controls):
    """
    A local Scantrust: `with Sandbox() as sandbox:` serves it on `sandbox.url` until the block ends.

    :param port: Port on 127.0.0.1; 0 for a free port.
    :param seed: Number of codes to add at the start (`Controls.seed`).
    :param seed_csv: CSV file of codes to add at the start (`Controls.seed_csv`).
    :param fields: SCM fields of the default campaign, besides `DEFAULT_FIELDS`.
    :param token: The token that exists from the start, with all permissions.
    :param time_scale: Real seconds per service second; see `Settings`.
    :param settings: Any other field of `Settings`.
    :raises ValueError: An argument is not valid, or the CSV file is wrong.
    """

    def __init__(
        self,
        *,
        port: int = 0,
        seed: int = 0,
        seed_csv: str | PathLike[str] | None = None,
        fields: Iterable[str] = (),
        token: str = DEFAULT_TOKEN,
        time_scale: float = 0.01,
        **settings: Any,
    ) -> None:
        first = Settings()
        first.change(time_scale=time_scale, **settings)
        added = texts("fields", fields)
        self.token = token
        self._port = whole("port", port, high=65535)
        self._socket: socket.socket | None = None
        self._thread: threading.Thread | None = None
        self._is_used = False
        super().__init__(lambda: Service(first, token, added, seed, seed_csv))

    def start(self) -> Sandbox:
        """
        Serve from a thread; on return, the socket accepts connections. After a stop, the sandbox starts new.

        :raises OSError: The port is in use.
        """
        if self._thread is not None:
            raise RuntimeError("the sandbox is running")
        # asyncio sets TCP_NODELAY only if the protocol is named; without it, each answer takes 40 ms.
        bound = socket.socket(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP)
        try:
            # Without SO_REUSEADDR, a port stays in use for a minute after a sandbox on it was stopped.
            bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            bound.bind(("127.0.0.1", self._port))
            # Listen immediately: with SO_REUSEADDR, the port is free for others until a socket listens.
            bound.listen()
            if self._is_used:
                self.reset()
        except BaseException:
            bound.close()
            raise
        self._socket, self._is_used = bound, True
        self._port = bound.getsockname()[1]
        self._server = _Server(
            uvicorn.Config(
                build_app(self, lambda: self._service),
                http=_CuttableProtocol,
                ws="none",
                lifespan="off",
                loop="asyncio",
                log_config=None,
                log_level="warning",
                access_log=False,
                server_header=False,
                # Like a gateway; with uvicorn's 5 s, clients that poll meet closed connections all the time.
                timeout_keep_alive=75,
                timeout_graceful_shutdown=1,
            ),
        )
        self._thread = threading.Thread(
            target=self._server.run, args=([bound],), name="scantrust-sandbox", daemon=True
        )
        self._thread.start()
        self._server.ready.wait()
        return self

    def stop(self) -> None:
        """Stop serving: requests in progress are cut, jobs in progress stay as they are."""
        if self._thread is None:
            return
        self._service.clock.stop()
        self._server.should_exit = True
        self._thread.join()
        self._thread = None
        if self._socket is not None:
            self._socket.close()

    def __enter__(self) -> Sandbox:
        return self.start()

    def __exit__(self, *exception: object) -> None:
        self.stop()

    @property
    def port(self) -> int:
        """
        The port it listens on.

        :raises RuntimeError: The sandbox chooses a free port when it starts, and has not started.
        """
        if not self._port:
            raise RuntimeError("the sandbox has no port before its start")
        return self._port

    @property
    def url(self) -> str:
        """The base URL, for example http://127.0.0.1:8017."""
        return f"http://127.0.0.1:{self.port}"

    @property
    def connection_uri(self) -> str:
        """The Airflow connection as a URI; the host is URL-encoded, so that Airflow keeps its scheme."""
        return f"scantrust://:{quote(self.token, safe='')}@{quote(self.url, safe='')}"

    @property
    def connection_json(self) -> str:
        """The Airflow connection as JSON."""
        return json.dumps({"conn_type": "scantrust", "host": self.url, "password": self.token})


class _Server(uvicorn.Server):
    def __init__(self, config: uvicorn.Config) -> None:
        super().__init__(config)
        self.ready = threading.Event()

    def run(self, sockets: list[socket.socket] | None = None) -> None:
        try:
            super().run(sockets)
        finally:
            # Also if the start failed, because `Sandbox.start` must not wait forever.
            self.ready.set()

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        self.ready.set()


class _CuttableProtocol(H11Protocol):
    """Puts `cut` into the state of every request's scope: it closes the socket, even in the middle of an answer."""

    def __init__(
        self,
        config: uvicorn.Config,
        server_state: ServerState,
        app_state: dict[str, Any],
        _loop: asyncio.AbstractEventLoop | None = None,
    ) -> None:
        # uvicorn copies this dict into each request's scope; ASGI itself gives no access to the transport.
        super().__init__(config, server_state, {**app_state, "cut": self._cut}, _loop)

    def _cut(self, flush: bool) -> None:
        if flush:
            self.transport.close()
        else:
            self.transport.abort()
