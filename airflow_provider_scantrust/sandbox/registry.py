"""The small part of the state: campaigns and their fields, products, tokens, users."""

from __future__ import annotations

import secrets
import time
from dataclasses import dataclass
from typing import Any

from airflow_provider_scantrust.sandbox.checks import WrongValue, choice, number, text, texts, whole
from airflow_provider_scantrust.sandbox.store import COLUMNS, Store

# Scantrust, "SCM data": the permissions that uploads need.
ALL_PERMISSIONS = ("codes_view", "scm_bulk_edit", "scm_code_edit", "product_view")
_JWT_SECONDS = 3600.0


@dataclass
class Token:
    """A token; `expires` is in seconds since 1970; rate limits count requests of `user`."""

    token: str
    scheme: str
    permissions: list[str]
    expires: float | None
    user: int

    @property
    def expired(self) -> bool:
        return self.expires is not None and time.time() >= self.expires


class Registry:
    """
    Checks and keeps the small state, in memory. Each change is one step, so no thread needs a lock.

    :ivar campaigns: The names of the SCM fields of each campaign.
    :ivar products: The campaign of each SKU; the id of a product is its place, from 1 on.
    :ivar users: The password of each user; the id of a user is their place, from 1 on.
    """

    def __init__(self, store: Store) -> None:
        self._store = store
        self.campaigns: dict[int, list[str]] = {}
        self.products: dict[str, int] = {}
        self.tokens: dict[str, Token] = {}
        self.users: dict[str, str] = {}

    def add_campaign(self, campaign: Any, fields: Any) -> None:
        """Define a campaign, or add fields to one that exists."""
        number = whole("campaign", campaign, low=1)
        names = [_field("fields", each) for each in texts("fields", fields)]
        self.campaigns.setdefault(number, [])
        for each in names:
            self.add_field(each, number)

    def add_field(self, name: Any, campaign: Any) -> None:
        new = _field("name", name)
        fields = self.campaigns[self.campaign(campaign)]
        self._store.add_field(new)
        if new not in fields:
            fields.append(new)

    def campaign(self, campaign: Any) -> int:
        """
        Check that a campaign exists.

        :raises WrongValue: It does not exist.
        """
        if whole("campaign", campaign, low=1) not in self.campaigns:
            raise WrongValue("campaign", f"unknown campaign {campaign!r}")
        return int(campaign)

    def is_field(self, name: str) -> bool:
        return bool(self.campaigns_with(name))

    def campaigns_with(self, name: str) -> list[int]:
        return [campaign for campaign, fields in list(self.campaigns.items()) if name in fields]

    def add_product(self, sku: Any, campaign: Any) -> int:
        """Define a product, or move an existing one to a campaign."""
        self.products[text("sku", sku)] = self.campaign(campaign)
        return list(self.products).index(sku) + 1

    def product(self, value: str) -> str | None:
        """Find the SKU of a product by SKU or id."""
        if value in self.products:
            return value
        if not value.isdecimal():
            return None
        return {str(number): sku for number, sku in enumerate(list(self.products), 1)}.get(value)

    def add_token(self, token: Any, permissions: Any, expires: Any, scheme: Any, user: Any = 1) -> None:
        made = Token(
            text("token", token),
            choice("scheme", scheme, ("UAT", "JWT")),
            texts("permissions", permissions),
            None if expires is None else time.time() + number("expires", expires, low=-1e9),
            whole("user", user, low=1),
        )
        self.tokens[made.token] = made

    def add_user(self, username: Any, password: Any) -> None:
        """Define a user, or change a password."""
        self.users[text("username", username)] = text("password", password)

    def log_in(self, username: str, password: str, *, alone: bool) -> str | None:
        """
        Make a JWT with all permissions; None if the user or the password is wrong.

        :param alone: Whether earlier JWTs of the user become invalid.
        """
        if self.users.get(username) != password:
            return None
        user = list(self.users).index(username) + 1
        for each in list(self.tokens.values()) if alone else []:
            if (each.scheme, each.user) == ("JWT", user):
                # Another thread may have removed it.
                self.tokens.pop(each.token, None)
        # It only looks like a JWT. Clients cannot check the signature, so it has none.
        token = f"eyJ{secrets.token_urlsafe(24)}.{secrets.token_urlsafe(48)}.{secrets.token_urlsafe(32)}"
        self.add_token(token, ALL_PERMISSIONS, _JWT_SECONDS, "JWT", user)
        return token


def _field(argument: str, name: Any) -> str:
    if name == "" or name in COLUMNS:
        raise WrongValue(argument, f"{name!r} cannot be the name of an SCM field")
    return text(argument, name)
