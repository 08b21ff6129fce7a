"""The control calls over HTTP, under `/_sandbox/`: the methods of `Controls`, their arguments as JSON."""

from __future__ import annotations

import asyncio
import json
import os
import tempfile
from collections.abc import Callable
from datetime import datetime
from typing import Any

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import BaseRoute, Route

from airflow_provider_scantrust.sandbox.controls import Controls
from airflow_provider_scantrust.sandbox.openapi import document

_PAGE_SIZE = 100


def control_routes(controls: Controls) -> list[BaseRoute]:
    """Make the routes."""
    return [
        Route("/", _shows(controls.overview)),
        Route("/openapi.json", _shows(document)),
        Route("/reset/", _does(controls.reset), methods=["POST"]),
        Route("/settings/", _does(controls.configure), methods=["PATCH"]),
        Route("/campaigns/", _does(controls.add_campaign), methods=["POST"]),
        Route("/fields/", _does(controls.add_field), methods=["POST"]),
        Route("/fields/", _does(controls.remove_field), methods=["DELETE"]),
        Route("/products/", _does(controls.add_product), methods=["POST"]),
        Route("/tokens/", _does(controls.add_token), methods=["POST"]),
        Route("/tokens/", _does(controls.remove_token), methods=["DELETE"]),
        Route("/users/", _does(controls.add_user), methods=["POST"]),
        Route("/faults/", _shows(controls.faults)),
        Route("/faults/", _does(controls.fault), methods=["POST"]),
        Route("/faults/", _does(controls.clear_faults), methods=["DELETE"]),
        Route("/jobs/", _does(controls.jobs), methods=["POST"]),
        Route("/tasks/", _shows(controls.tasks)),
        Route("/transcript/", _shows(controls.transcript)),
        Route("/transcript/", _does(controls.clear_transcript), methods=["DELETE"]),
        Route("/seed/", _does(controls.seed), methods=["POST"]),
        Route("/codes/", _lists_codes(controls)),
        Route("/codes/", _adds_codes(controls), methods=["POST"]),
    ]


_Endpoint = Callable[[Request], Any]


class _Json(JSONResponse):
    def render(self, content: Any) -> bytes:
        # Requests may have held lone surrogates, which UTF-8 has not; so replaced, they are escapes of JSON.
        text = json.dumps(content, ensure_ascii=False, separators=(",", ":"))
        return text.encode(errors="backslashreplace")


def _shows(show: Callable[[], Any]) -> _Endpoint:
    async def endpoint(request: Request) -> Response:
        return _Json(await asyncio.to_thread(show))

    return endpoint


def _does(action: Callable[..., Any]) -> _Endpoint:
    async def endpoint(request: Request) -> Response:
        try:
            arguments = json.loads(await request.body() or b"{}")
            if isinstance(arguments.get("expires"), str):
                arguments["expires"] = datetime.fromisoformat(arguments["expires"])
            done = await asyncio.to_thread(action, **arguments)
        except (ValueError, TypeError, AttributeError) as error:
            return _refused(error)
        return _Json({"done": True, "result": done})

    return endpoint


def _lists_codes(controls: Controls) -> _Endpoint:
    async def endpoint(request: Request) -> Response:
        filters: dict[str, Any] = dict(request.query_params)
        try:
            page = max(1, int(filters.pop("page", 1)))
            size = max(1, int(filters.pop("page_size", _PAGE_SIZE)))
            count = await asyncio.to_thread(controls.count, **filters)
            codes = await asyncio.to_thread(controls.codes, limit=size, offset=size * (page - 1), **filters)
        except (ValueError, TypeError) as error:
            return _refused(error)
        follows = str(request.url.include_query_params(page=page + 1)) if size * page < count else None
        return _Json({"count": count, "next": follows, "results": codes})

    return endpoint


def _adds_codes(controls: Controls) -> _Endpoint:
    async def endpoint(request: Request) -> Response:
        try:
            if request.headers.get("content-type", "").startswith("text/csv"):
                added = await _add_csv(controls, request)
            else:
                added = await asyncio.to_thread(controls.add_codes, (await request.json())["codes"])
        except (ValueError, TypeError, LookupError) as error:
            return _refused(error)
        return _Json({"done": True, "result": added})

    return endpoint


async def _add_csv(controls: Controls, request: Request) -> int:
    # By way of a file, so that a million rows are never in memory at once.
    handle, path = tempfile.mkstemp(suffix=".csv")
    try:
        with os.fdopen(handle, "wb") as file:
            async for chunk in request.stream():
                file.write(chunk)
        return await asyncio.to_thread(controls.seed_csv, path)
    finally:
        os.unlink(path)


def _refused(error: Exception) -> Response:
    return _Json({"detail": f"{type(error).__name__}: {error}"}, 400)
