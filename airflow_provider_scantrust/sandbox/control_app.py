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

from airflow_provider_scantrust.sandbox.checks import WrongValue, mapping
from airflow_provider_scantrust.sandbox.controls import Controls

_PAGE_SIZE = 100


def control_routes(controls: Controls) -> list[Route]:
    """Make the routes."""
    shown: dict[str, Callable[[], Any]] = {
        "/faults/": controls.faults,
        "/tasks/": controls.tasks,
        "/transcript/": controls.transcript,
        "/deviations/": controls.deviations,
    }
    done: dict[tuple[str, str], Callable[..., Any]] = {
        ("POST", "/reset/"): controls.reset,
        ("PATCH", "/settings/"): controls.configure,
        ("POST", "/campaigns/"): controls.add_campaign,
        ("POST", "/fields/"): controls.add_field,
        ("DELETE", "/fields/"): controls.remove_field,
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
    calls = sorted(
        [*(f"GET /_sandbox{path}" for path in (*shown, "/codes/")), *(f"{m} /_sandbox{p}" for m, p in done)]
    )
    return [
        Route("/", _shows(lambda: {"calls": calls, **controls.overview()})),
        *(Route(path, _shows(show)) for path, show in shown.items()),
        *(Route(path, _does(action), methods=[method]) for (method, path), action in done.items()),
        Route("/codes/", _lists_codes(controls)),
    ]


_Endpoint = Callable[[Request], Any]


class _Json(JSONResponse):
    def render(self, content: Any) -> bytes:
        # Requests may have lone surrogates, which UTF-8 cannot encode; they become JSON escapes.
        text = json.dumps(content, ensure_ascii=False, separators=(",", ":"))
        return text.encode(errors="backslashreplace")


def _shows(show: Callable[[], Any]) -> _Endpoint:
    async def endpoint(request: Request) -> Response:
        # Read and rendered in a thread, because a transcript may have 100 MB.
        return await asyncio.to_thread(lambda: _Json(show()))

    return endpoint


def _does(action: Callable[..., Any]) -> _Endpoint:
    signature = inspect.signature(action)

    def act(body: bytes) -> Response:
        try:
            arguments = mapping("arguments", json.loads(body or b"{}"))
            signature.bind(**arguments)
            return _Json({"done": True, "result": action(**arguments)})
        except (ValueError, TypeError, RecursionError, sqlite3.Error) as error:
            return _refused(error)

    async def endpoint(request: Request) -> Response:
        return await asyncio.to_thread(act, await request.body())

    return endpoint


def _lists_codes(controls: Controls) -> _Endpoint:
    def page_of(request: Request) -> Response:
        filters: dict[str, Any] = dict(request.query_params)
        try:
            page, size = (_positive(name, filters.pop(name, default)) for name, default in _PAGING)
            count = controls.count(**filters)
            codes = controls.codes(limit=size, offset=size * (page - 1), **filters)
        except (ValueError, TypeError, sqlite3.Error) as error:
            return _refused(error)
        follows = str(request.url.include_query_params(page=page + 1)) if size * page < count else None
        return _Json({"count": count, "next": follows, "results": codes})

    async def endpoint(request: Request) -> Response:
        return await asyncio.to_thread(page_of, request)

    return endpoint


_PAGING = (("page", "1"), ("page_size", str(_PAGE_SIZE)))


def _positive(name: str, text: str) -> int:
    if not text.isdecimal() or not 0 < int(text[:10]) < 10**9:
        raise WrongValue(name, f"must be a whole number from 1, not {text!r}")
    return int(text)


def _refused(error: Exception) -> Response:
    field = {"field": error.field} if isinstance(error, WrongValue) else {}
    return _Json({"detail": f"{type(error).__name__}: {error}", **field}, 400)
