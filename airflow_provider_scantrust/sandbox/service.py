"""The imitated API: find the call, check it in the order of Django REST Framework, and answer."""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace
from functools import cache
from os import PathLike
from typing import Any

from airflow_provider_scantrust.sandbox.clock import Clock
from airflow_provider_scantrust.sandbox.deviations import Turn, change_answer, change_request, paths_of
from airflow_provider_scantrust.sandbox.errors import Refused, Stopped, detail, gateway, unauthenticated
from airflow_provider_scantrust.sandbox.jobs import Jobs
from airflow_provider_scantrust.sandbox.limits import Throttle
from airflow_provider_scantrust.sandbox.orders import Fault, Orders
from airflow_provider_scantrust.sandbox.registry import ALL_PERMISSIONS, Registry, Token
from airflow_provider_scantrust.sandbox.seeding import seed_codes, seed_csv
from airflow_provider_scantrust.sandbox.settings import (
    DEFAULT_CAMPAIGN,
    DEFAULT_FIELDS,
    DEFAULT_PASSWORD,
    DEFAULT_PRODUCTS,
    DEFAULT_USERNAME,
    Settings,
)
from airflow_provider_scantrust.sandbox.store import Store
from airflow_provider_scantrust.sandbox.transcript import Exchange, Transcript
from airflow_provider_scantrust.sandbox.uploads import apply_upload, read_submission, read_upload, upload_cost


@dataclass
class Route:
    """
    One endpoint: who may call it, and which rate limit counts it.

    :param answer: Takes the body, the token, and the id in the path.
    """

    name: str
    method: str
    answer: Callable[[Any, Token, str], Awaitable[Any]]
    scope: str = "authenticated"
    permissions: tuple[str, ...] = ()

    @property
    def methods(self) -> tuple[str, ...]:
        """The methods that it answers; Django answers HEAD if it answers GET."""
        return (self.method, "HEAD", "OPTIONS") if self.method == "GET" else (self.method, "OPTIONS")


class Service:
    """
    The whole state of a sandbox, and the calls that it answers.

    Rule: a reset makes a new service. Work in progress in the old one then has no effect.
    """

    def __init__(
        self, settings: Settings, token: str, fields: list[str], seed: int, csv: str | PathLike[str] | None
    ) -> None:
        # A change of settings replaces values, and alters none of them.
        self.settings = replace(settings)
        self.store = Store()
        self.registry = Registry(self.store)
        self.clock = Clock(self.settings)
        self.faults: Orders[Fault] = Orders()
        self.transcript = Transcript()
        self.throttle = Throttle(self.settings)
        self.jobs = Jobs(self.store, self.registry, self.settings, self.clock)
        self._uploaded: dict[tuple[str, str], Any] = {}
        self._routes = [
            Route("upload", "POST", self._upload, "scm_update", ALL_PERMISSIONS),
            Route("submit", "POST", self._submit, "scm_update", ALL_PERMISSIONS),
            Route("task", "GET", self._task),
            Route("me", "GET", self._me),
            Route("login", "POST", self._log_in, "login"),
        ]
        self.registry.add_campaign(DEFAULT_CAMPAIGN, [*DEFAULT_FIELDS, *fields])
        for sku in DEFAULT_PRODUCTS:
            self.registry.add_product(sku, DEFAULT_CAMPAIGN)
        self.registry.add_user(DEFAULT_USERNAME, DEFAULT_PASSWORD)
        self.registry.add_token(token, ALL_PERMISSIONS, None, "UAT")
        seed_codes(self.store, seed, 1000)
        if csv is not None:
            seed_csv(self.store, self.registry, csv)

    async def answer(self, call: Exchange) -> Turn:
        """
        Answer a call.

        :raises Stopped: The sandbox stops or is reset.
        """
        deviations = frozenset(self.settings.deviations)
        accept = call.headers.get("accept", "")
        turn = Turn(call.method, accept, deviations, self.registry.is_field, self._uploaded)
        try:
            await self._answer(call, turn)
        except Refused as refused:
            turn.status, turn.answer, turn.headers = refused.status, refused.body, refused.headers
        if deviations:
            change_answer(turn)
        if self.clock.stopped:
            raise Stopped
        return turn

    async def _answer(self, call: Exchange, turn: Turn) -> None:
        limit = self.settings.body_limit
        if limit is not None and len(call.body) > limit:
            raise gateway(413)
        route, argument = self._find(call)
        token = self._authenticate(call, route)
        turn.headers = {"Allow": ", ".join(route.methods)}
        if call.method not in route.methods:
            raise detail(405, f'Method "{call.method}" not allowed.', turn.headers)
        if call.method == "OPTIONS":
            turn.answer = _METADATA
        else:
            turn.call = route.name
            turn.sent = await asyncio.to_thread(_json, call) if route.method == "POST" else None
            if turn.deviations:
                change_request(turn)
            turn.answer = await route.answer(turn.sent, token, argument)

    def _find(self, call: Exchange) -> tuple[Route, str]:
        for route in self._routes:
            for path in paths_of(route.name, self.settings.deviations):
                if match := _pattern(path).fullmatch(call.path):
                    return route, "".join(match.groups())
                if _pattern(path).fullmatch(f"{call.path}/"):
                    query = f"?{call.query}" if call.query else ""
                    raise Refused(301, "", {"Location": f"{call.path}/{query}"})
        raise detail(404, "Not found.")

    def _authenticate(self, call: Exchange, route: Route) -> Token:
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
        self.throttle.count(route.scope, str(token.user))
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

    async def _upload(self, body: Any, token: Token, argument: str) -> Any:
        key, items, cost = await asyncio.to_thread(self._read_upload, body)
        if cost > self.settings.gateway_timeout:
            await self.clock.service(self.settings.gateway_timeout)
            raise gateway(504)
        await self.clock.service(cost)
        return await asyncio.to_thread(apply_upload, key, items, self.store, self.registry)

    def _read_upload(self, body: Any) -> tuple[str, list[dict[str, Any]], float]:
        key, items = read_upload(body, self.registry)
        return key, items, upload_cost(key, items, self.store, self.settings)

    async def _submit(self, body: Any, token: Token, argument: str) -> Any:
        constraints, scm_data = await asyncio.to_thread(read_submission, body, self.registry.is_field)
        return {"task_id": self.jobs.submit(constraints, scm_data, token.user).id}

    async def _task(self, body: Any, token: Token, argument: str) -> Any:
        answer = await self.jobs.poll(argument)
        if answer is None:
            raise detail(404, "Not found.")
        return answer

    async def _me(self, body: Any, token: Token, argument: str) -> Any:
        email = "sandbox@example.com" if token.user == 1 else f"user-{token.user}@example.com"
        return {"id": token.user, "email": email, "company": {"id": 1, "name": "Sandbox winery"}}

    async def _log_in(self, body: Any, token: Token, argument: str) -> Any:
        given = body if isinstance(body, dict) else {}
        wrong = [name for name in ("username", "password") if not isinstance(given.get(name), str)]
        if wrong:
            raise Refused(400, {name: ["This field is required."] for name in wrong})
        alone = "login_ends_others" in self.settings.deviations
        jwt = self.registry.log_in(given["username"], given["password"], alone=alone)
        if jwt is None:
            raise Refused(400, {"non_field_errors": ["Unable to log in with provided credentials."]})
        return {"token": jwt}


# Django REST Framework's answer to OPTIONS.
_METADATA = {
    "name": "Scantrust sandbox",
    "description": "",
    "renders": ["application/json"],
    "parses": ["application/json"],
}
_ANYBODY = Token(token="", scheme="", permissions=[], expires=None, user=0)


@cache
def _pattern(path: str) -> re.Pattern[str]:
    return re.compile(re.escape(path).replace("<id>", "([0-9A-Za-z_-]+)"))


def _json(call: Exchange) -> Any:
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
