"""HTTP over a socket that the application can cut."""

from __future__ import annotations

import asyncio
from typing import Any

from uvicorn.config import Config
from uvicorn.protocols.http.h11_impl import H11Protocol
from uvicorn.server import ServerState


class CuttableProtocol(H11Protocol):
    """Puts `cut` into the state of every request's scope: it closes the socket, even in the middle of an answer."""

    def __init__(
        self,
        config: Config,
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
