"""The control calls over HTTP, under `/_sandbox/`: the methods of `Controls`, their arguments as JSON."""

from __future__ import annotations

import asyncio
import inspect
import json
import sqlite3
from collections.abc import Callable
from typing import Any

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from airflow_provider_scantrust.sandbox.checks import WrongValue, mapping, whole
from airflow_provider_scantrust.sandbox.controls import Controls


def control_routes(controls: Controls) -> list[Route]:
    calls: dict[tuple[str, str], Callable[..., Any]] = {
        ("GET", "/deviations/"): controls.deviations,
        ("GET", "/faults/"): controls.faults,
        ("GET", "/tasks/"): controls.tasks,
        ("GET", "/transcript/"): controls.transcript,
        ("POST", "/reset/"): controls.reset,
        ("PATCH", "/settings/"): controls.configure,
        ("POST", "/campaigns/"): controls.add_campaign,
        ("POST", "/fields/"): controls.add_field,
        ("POST", "/products/"): controls.add_product,
        ("POST", "/tokens/"): controls.add_token,
        ("DELETE", "/tokens/"): controls.remove_token,
        ("POST", "/users/"): controls.add_user,
        ("POST", "/faults/"): controls.fault,
        ("DELETE", "/faults/"): controls.clear_faults,
        ("POST", "/jobs/"): controls.jobs,
        ("DELETE", "/transcript/"): controls.clear_transcript,
        ("POST", "/seed/"): controls.seed,
        ("POST", "/codes/"): controls.add_codes,
    }
    names = sorted(f"{method} /_sandbox{path}" for method, path in [*calls, ("GET", "/codes/")])
    calls["GET", "/"] = lambda: {"calls": names, **controls.overview()}
    return [
        *(
            Route(path, _endpoint(method, action), methods=[method])
            for (method, path), action in calls.items()
        ),
        Route("/codes/", _codes_endpoint(controls)),
    ]


_Endpoint = Callable[[Request], Any]


class _Json(JSONResponse):
    def render(self, content: Any) -> bytes:
        # Requests may have lone surrogates, which UTF-8 cannot encode; they become JSON escapes.
        text = json.dumps(content, ensure_ascii=False, separators=(",", ":"))
        return text.encode(errors="backslashreplace")


def _endpoint(method: str, action: Callable[..., Any]) -> _Endpoint:
    signature = inspect.signature(action)

    def act(body: bytes) -> Response:
        try:
            arguments = mapping("arguments", json.loads(body or b"{}"))
            signature.bind(**arguments)
            result = action(**arguments)
        except (ValueError, TypeError, RecursionError, sqlite3.Error) as error:
            return _refused(error)
        return _Json(result if method == "GET" else {"done": True, "result": result})

    async def endpoint(request: Request) -> Response:
        # In a thread, because a transcript may have 100 MB.
        return await asyncio.to_thread(act, await request.body())

    return endpoint


def _codes_endpoint(controls: Controls) -> _Endpoint:
    def page_of(request: Request) -> Response:
        filters: dict[str, Any] = dict(request.query_params)
        try:
            page = _positive("page", filters.pop("page", "1"))
            size = _positive("page_size", filters.pop("page_size", "100"))
            count = controls.count(**filters)
            codes = controls.codes(limit=size, offset=size * (page - 1), **filters)
        except (ValueError, TypeError, sqlite3.Error) as error:
            return _refused(error)
        follows = str(request.url.include_query_params(page=page + 1)) if size * page < count else None
        return _Json({"count": count, "next": follows, "results": codes})

    async def endpoint(request: Request) -> Response:
        return await asyncio.to_thread(page_of, request)

    return endpoint


def _positive(name: str, text: str) -> int:
    return whole(name, int(text) if text.isdecimal() else text, low=1)


def _refused(error: Exception) -> Response:
    field = {"field": error.field} if isinstance(error, WrongValue) else {}
    return _Json({"detail": f"{type(error).__name__}: {error}", **field}, 400)
