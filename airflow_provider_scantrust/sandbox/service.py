"""The imitated API: finds the call, checks it in the order of Django REST Framework, and answers."""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from os import PathLike
from typing import Any

from airflow_provider_scantrust.sandbox.clock import Clock
from airflow_provider_scantrust.sandbox.errors import Refused, detail, gateway, unauthenticated
from airflow_provider_scantrust.sandbox.faults import Faults
from airflow_provider_scantrust.sandbox.jobs import Jobs
from airflow_provider_scantrust.sandbox.limits import Throttle
from airflow_provider_scantrust.sandbox.registry import ALL_PERMISSIONS, UPLOAD_PERMISSIONS, Registry, Token
from airflow_provider_scantrust.sandbox.seeding import seed_codes, seed_csv
from airflow_provider_scantrust.sandbox.settings import (
    DEFAULT_CAMPAIGN,
    DEFAULT_FIELDS,
    DEFAULT_PASSWORD,
    DEFAULT_PRODUCTS,
    DEFAULT_TOKEN,
    DEFAULT_USERNAME,
    Settings,
)
from airflow_provider_scantrust.sandbox.store import Store
from airflow_provider_scantrust.sandbox.transcript import Transcript
from airflow_provider_scantrust.sandbox.updates import apply_upload, check_products, upload_cost
from airflow_provider_scantrust.sandbox.validation import read_submission, read_upload


@dataclass
class Start:
    """What a sandbox begins with, and goes back to."""

    settings: Settings
    db: str | PathLike[str] | None = None
    token: str = DEFAULT_TOKEN
    fields: tuple[str, ...] = ()
    seed: int = 0
    seed_csv: str | PathLike[str] | None = None


@dataclass
class Call:
    """A request that reached the API."""

    method: str
    path: str
    headers: Mapping[str, str]
    address: str
    body: bytes
    query: str = ""


@dataclass
class Route:
    """One endpoint: who may call it, and what counts it."""

    method: str
    path: re.Pattern[str]
    answer: Callable[[Call, Token, str], Awaitable[Any]]
    scope: str = "authenticated"
    permissions: tuple[str, ...] = ()

    @property
    def methods(self) -> tuple[str, ...]:
        """The methods it answers; Django answers HEAD wherever it answers GET."""
        return (self.method, "HEAD", "OPTIONS") if self.method == "GET" else (self.method, "OPTIONS")


class Service:
    """Everything a sandbox holds, and the calls that it answers."""

    def __init__(self, start: Start) -> None:
        self._start = start
        self.settings = start.settings.copy()
        self.store = Store(start.db)
        self.registry = Registry(self.store)
        self.clock = Clock(self.settings)
        self.faults = Faults()
        self.transcript = Transcript()
        self.throttle = Throttle(self.settings)
        self.jobs = Jobs(self.store, self.registry, self.settings, self.clock)
        self._routes = [
            Route("POST", re.compile("/api/v2/scm/upload/"), self._upload, "scm_update", UPLOAD_PERMISSIONS),
            Route(
                "POST",
                re.compile("/api/v2/scm/upload/async/"),
                self._submit,
                "scm_update",
                UPLOAD_PERMISSIONS,
            ),
            Route("GET", re.compile("/api/v2/scm/tasks/([0-9A-Za-z_-]+)/"), self._task),
            Route("GET", re.compile("/api/v2/me/"), self._me),
            Route("POST", re.compile("/api/v2/auth/login/"), self._log_in, "login"),
        ]
        try:
            self._begin()
        except BaseException:
            self.store.close()
            raise

    def reset(self) -> None:
        """Go back to the start."""
        self.jobs.clear()
        self.store.clear()
        self.registry.clear()
        self.faults.clear()
        self.throttle.clear()
        self.transcript.clear()
        for name, value in vars(self._start.settings.copy()).items():
            setattr(self.settings, name, value)
        self._begin()

    async def answer(self, call: Call) -> tuple[Any, dict[str, str]]:
        """
        Answer a call with 200.

        :raises Refused: Any other answer.
        """
        route, argument = self._find(call)
        token = self._authenticate(call, route)
        allow = {"Allow": ", ".join(route.methods)}
        if call.method not in route.methods:
            raise detail(405, f'Method "{call.method}" not allowed.', allow)
        if call.method == "OPTIONS":
            return _METADATA, allow
        return await route.answer(call, token, argument), allow

    def _begin(self) -> None:
        start, registry = self._start, self.registry
        fresh = not registry.campaigns
        if fresh:
            registry.add_campaign(DEFAULT_CAMPAIGN, "Sandbox winery", DEFAULT_FIELDS)
            for sku in DEFAULT_PRODUCTS:
                registry.add_product(sku, DEFAULT_CAMPAIGN, None)
            registry.add_user(DEFAULT_USERNAME, DEFAULT_PASSWORD)
        for name in start.fields:
            registry.add_field(name, DEFAULT_CAMPAIGN)
        registry.add_token(start.token, ALL_PERMISSIONS, None, "UAT")
        if fresh and start.seed:
            seed_codes(self, start.seed, codes_per_lot=1000, campaign=DEFAULT_CAMPAIGN)
        if fresh and start.seed_csv is not None:
            seed_csv(self, start.seed_csv)

    def _find(self, call: Call) -> tuple[Route, str]:
        for route in self._routes:
            if match := route.path.fullmatch(call.path):
                return route, "".join(match.groups())
            if route.path.fullmatch(f"{call.path}/"):
                query = f"?{call.query}" if call.query else ""
                raise Refused(301, "", {"Location": f"{call.path}/{query}"})
        raise detail(404, "Not found.")

    def _authenticate(self, call: Call, route: Route) -> Token:
        if route.scope == "login":
            self.throttle.count("login", call.address)
            return _ANYBODY
        try:
            token = self._token(call.headers.get("authorization", ""))
        except Refused:
            self.throttle.count("anonymous", call.address)
            raise
        if not set(route.permissions) <= set(token.permissions):
            raise detail(403, "You do not have permission to perform this action.")
        self.throttle.count(route.scope, token.token)
        return token

    def _token(self, header: str) -> Token:
        scheme, _, value = header.strip().partition(" ")
        scheme = scheme.upper()
        if scheme not in ("UAT", "JWT"):
            raise unauthenticated()
        token = self.registry.tokens.get(value.strip())
        if token is None or token.scheme != scheme:
            raise unauthenticated("Invalid token.")
        if token.expired:
            raise unauthenticated("Signature has expired." if scheme == "JWT" else "Token has expired.")
        return token

    async def _upload(self, call: Call, token: Token, argument: str) -> Any:
        upload = read_upload(_json(call), self.registry.is_field)
        check_products(upload, self.registry)
        cost = await asyncio.to_thread(upload_cost, upload, self.store, self.settings)
        if cost > self.settings.gateway_timeout:
            await self.clock.service(self.settings.gateway_timeout)
            raise gateway(504)
        await self.clock.service(cost)
        return await asyncio.to_thread(apply_upload, upload, self.store, self.registry)

    async def _submit(self, call: Call, token: Token, argument: str) -> Any:
        submission = read_submission(_json(call), self.registry.is_field)
        return {"task_id": self.jobs.submit(submission, token.owner).id}

    async def _task(self, call: Call, token: Token, argument: str) -> Any:
        answer = await self.jobs.ask(argument)
        if answer is None:
            raise detail(404, "Not found.")
        return answer

    async def _me(self, call: Call, token: Token, argument: str) -> Any:
        return {"id": 1, "email": token.owner, "company": {"id": 1, "name": "Sandbox winery"}}

    async def _log_in(self, call: Call, token: Token, argument: str) -> Any:
        body = _json(call)
        given = body if isinstance(body, dict) else {}
        wrong = [name for name in ("username", "password") if not isinstance(given.get(name), str)]
        if wrong:
            raise Refused(400, {name: ["This field is required."] for name in wrong})
        jwt = self.registry.log_in(given["username"], given["password"], self.settings.jwt_seconds)
        if jwt is None:
            raise Refused(400, {"non_field_errors": ["Unable to log in with provided credentials."]})
        return {"token": jwt}


# What Django REST Framework says to OPTIONS.
_METADATA = {
    "name": "Scantrust sandbox",
    "description": "",
    "renders": ["application/json"],
    "parses": ["application/json"],
}
_ANYBODY = Token(token="", scheme="", permissions=[], expires=None, owner="")


def _json(call: Call) -> Any:
    if not call.body:
        return {}
    kind = call.headers.get("content-type", "application/octet-stream")
    if kind.partition(";")[0].strip().lower() != "application/json":
        raise detail(415, f'Unsupported media type "{kind}" in request.')
    try:
        return json.loads(call.body.decode(), parse_constant=_refuse_constant)
    except (ValueError, RecursionError) as error:
        raise detail(400, f"JSON parse error - {error}") from None


def _refuse_constant(name: str) -> Any:
    raise ValueError(f"Out of range float values are not JSON compliant: {name!r}")
