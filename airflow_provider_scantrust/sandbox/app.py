"""The ASGI application: requests in; answers, faults and cut connections out."""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Callable
from contextlib import suppress
from typing import Any

from starlette.applications import Starlette
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.routing import Mount
from starlette.types import ASGIApp, Receive, Scope, Send

from airflow_provider_scantrust.sandbox.control_app import control_routes
from airflow_provider_scantrust.sandbox.controls import Controls
from airflow_provider_scantrust.sandbox.errors import Stopped, gateway
from airflow_provider_scantrust.sandbox.orders import Fault
from airflow_provider_scantrust.sandbox.service import Service
from airflow_provider_scantrust.sandbox.transcript import Exchange

log = logging.getLogger(__name__)


def build_app(controls: Controls, current: Callable[[], Service]) -> ASGIApp:
    """Serve the control calls and the imitated API; ``current`` returns the service, as a reset replaces it."""
    control = Starlette(routes=[Mount("/_sandbox", routes=control_routes(controls))])

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        # The client hung up before its request was complete: there is nothing to do and no client to answer.
        with suppress(ClientDisconnect):
            if scope["path"].startswith("/_sandbox/"):
                await control(scope, receive, send)
            else:
                request = Request(scope, receive)
                exchange = Exchange(
                    request.method,
                    scope["path"],
                    dict(request.headers),
                    request.client.host if request.client else "",
                    await request.body(),
                    request.url.query,
                )
                await _serve(current(), exchange, scope, receive, send)

    return app


async def _serve(service: Service, exchange: Exchange, scope: Scope, receive: Receive, send: Send) -> None:
    """Take one request to one service, from the transcript to the socket."""
    service.transcript.record(exchange)
    fault = service.faults.take(lambda fault: fault.acts_on(exchange.method, exchange.path))
    cut = fault.cut if fault else None
    try:
        response = await _answer(service, exchange, fault)
    except Stopped:
        response, cut = None, "by the stop"
    exchange.fault = f"cut {cut}" if cut else _name(fault)
    if response is not None:
        exchange.status = response.status_code
        exchange.response_headers = dict(response.headers)
        exchange.response_body = bytes(response.body)
    # Recorded before it is sent, so that a client with the answer finds it in the transcript.
    exchange.seconds = time.monotonic() - exchange.began
    if response is None:
        scope["state"]["cut"](False)
        await _disconnected(receive)
    elif cut == "body":
        await _send_half(response, send)
        scope["state"]["cut"](True)
        await _disconnected(receive)
    else:
        await response(scope, receive, send)


async def _answer(service: Service, call: Exchange, fault: Fault | None) -> Response | None:
    """Return the answer, or None to cut the connection without one."""
    if fault is None:
        return await _true_answer(service, call)
    if fault.delay:
        await service.clock.real(fault.delay)
    if fault.cut == "before":
        return None
    if fault.cut == "after":
        await _true_answer(service, call)
        return None
    if not fault.answers:
        return await _true_answer(service, call)
    if fault.work:
        await _true_answer(service, call)
    scripted = fault.answer()
    return _response(scripted.status, scripted.body, scripted.headers)


async def _true_answer(service: Service, call: Exchange) -> Response:
    try:
        turn = await service.answer(call)
    except Stopped:
        raise
    except Exception:
        log.exception("the sandbox has a defect: %s %s", call.method, call.path)
        failed = gateway(500)
        return _response(failed.status, failed.body, failed.headers)
    return _response(turn.status, turn.answer, turn.headers)


def _response(status: int, body: Any, headers: dict[str, str]) -> Response:
    if isinstance(body, str):
        return Response(body, status, headers)
    text = json.dumps(body, ensure_ascii=False, separators=(",", ":"))
    return Response(text.encode(errors="replace"), status, headers, media_type="application/json")


async def _send_half(response: Response, send: Send) -> None:
    await send(
        {"type": "http.response.start", "status": response.status_code, "headers": response.raw_headers}
    )
    body = bytes(response.body)
    await send({"type": "http.response.body", "body": body[: len(body) // 2], "more_body": True})


async def _disconnected(receive: Receive) -> None:
    # uvicorn logs an error about a missing answer unless it has seen the end of the connection first.
    while (await receive())["type"] != "http.disconnect":
        pass


def _name(fault: Fault | None) -> str | None:
    if fault is None:
        return None
    return f"answer {fault.status or 200}" if fault.answers else f"delay {fault.delay}"
