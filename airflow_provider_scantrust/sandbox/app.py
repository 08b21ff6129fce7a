"""The ASGI side: requests in, answers, faults and cuts out."""

from __future__ import annotations

import json
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from starlette.applications import Starlette
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.routing import Mount
from starlette.types import ASGIApp, Receive, Scope, Send

from airflow_provider_scantrust.sandbox.clock import Stopped
from airflow_provider_scantrust.sandbox.control_app import control_routes
from airflow_provider_scantrust.sandbox.controls import Controls
from airflow_provider_scantrust.sandbox.errors import Refused
from airflow_provider_scantrust.sandbox.faults import Fault
from airflow_provider_scantrust.sandbox.service import Call, Service


def build_app(controls: Controls, service: Service) -> ASGIApp:
    """Put the control calls beside the imitated API."""
    api = Api(service)
    control = Starlette(routes=[Mount("/_sandbox", routes=control_routes(controls))])

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        chosen = control if scope["path"].startswith("/_sandbox/") else api
        # A client that hung up amid its request: nothing is done, and there is nobody to answer.
        with suppress(ClientDisconnect):
            await chosen(scope, receive, send)

    return app


@dataclass
class _Answer:
    response: Response | None
    cut: str | None = None


class Api:
    """The imitated API as an ASGI application."""

    def __init__(self, service: Service) -> None:
        self._service = service

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        request = Request(scope, receive)
        body = await request.body()
        call = Call(
            method=request.method,
            path=scope["path"],
            headers=request.headers,
            address=request.client.host if request.client else "",
            body=body,
            query=request.url.query,
        )
        transcript = self._service.transcript
        exchange = transcript.open(call.method, call.path, call.query, dict(request.headers), body)
        fault = self._service.faults.take(call.method, call.path)
        try:
            answer = await self._answer(call, fault)
        except Stopped:
            answer = _Answer(None, "by the stop")
        response = answer.response
        exchange.fault = f"cut {answer.cut}" if answer.cut else _name(fault)
        if response is not None:
            exchange.status = response.status_code
            exchange.response_headers = dict(response.headers)
            exchange.response_body = bytes(response.body)
        # Written down before it is sent: who has the answer finds it in the transcript.
        transcript.close(exchange)
        if response is None:
            scope["state"]["cut"](False)
            await _disconnected(receive)
        elif answer.cut == "body":
            await _send_half(response, send)
            scope["state"]["cut"](True)
            await _disconnected(receive)
        else:
            await response(scope, receive, send)

    async def _answer(self, call: Call, fault: Fault | None) -> _Answer:
        if fault is None:
            return _Answer(await self._true_answer(call))
        if fault.delay:
            await self._service.clock.real(fault.delay)
        if fault.cut == "before":
            return _Answer(None, "before")
        if not fault.answers:
            response = await self._true_answer(call)
        else:
            if fault.work or fault.cut == "after":
                await self._true_answer(call)
            response = _refusal(fault.answer())
        if fault.cut == "after":
            return _Answer(None, "after")
        return _Answer(response, fault.cut)

    async def _true_answer(self, call: Call) -> Response:
        try:
            body, headers = await self._service.answer(call)
        except Refused as refused:
            return _refusal(refused)
        return _json(200, body, headers)


def _refusal(refused: Refused) -> Response:
    if isinstance(refused.body, str):
        return Response(refused.body, refused.status, refused.headers)
    return _json(refused.status, refused.body, refused.headers)


def _json(status: int, body: Any, headers: dict[str, str]) -> Response:
    text = json.dumps(body, ensure_ascii=False, separators=(",", ":"))
    return Response(text.encode(errors="replace"), status, headers, media_type="application/json")


async def _send_half(response: Response, send: Send) -> None:
    await send(
        {"type": "http.response.start", "status": response.status_code, "headers": response.raw_headers}
    )
    body = bytes(response.body)
    await send({"type": "http.response.body", "body": body[: len(body) // 2], "more_body": True})


async def _disconnected(receive: Receive) -> None:
    # uvicorn complains of a missing answer unless it has seen the end of the connection first.
    while (await receive())["type"] != "http.disconnect":
        pass


def _name(fault: Fault | None) -> str | None:
    if fault is None:
        return None
    return f"answer {fault.status or 200}" if fault.answers else f"delay {fault.delay}"
