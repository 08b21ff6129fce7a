"""The small part of the state: campaigns and their fields, products, tokens, users."""

from __future__ import annotations

import secrets
import threading
import time
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from airflow_provider_scantrust.sandbox.checks import WrongValue, choice, number, text, texts, whole
from airflow_provider_scantrust.sandbox.store import IDENTITY, SPECIAL, Store

# Scantrust, "SCM data": the permissions that uploads need.
UPLOAD_PERMISSIONS = ("codes_view", "scm_bulk_edit", "scm_code_edit", "product_view")
ALL_PERMISSIONS = UPLOAD_PERMISSIONS
SCHEMES = ("UAT", "JWT")
_JWT_SECONDS = 3600.0


@dataclass
class Campaign:
    """A campaign and the names of its SCM fields."""

    id: int
    name: str
    fields: list[str] = field(default_factory=list)


@dataclass
class Product:
    """A product; `sku` or `id` selects it."""

    id: int
    sku: str
    name: str
    campaign: int


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
        """Whether it has expired."""
        return self.expires is not None and time.time() >= self.expires


@dataclass
class User:
    """A user who can log in."""

    id: int
    password: str


class Registry:
    """Checks and keeps the small state, in memory; readers need no lock."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._lock = threading.RLock()
        self._by_id: dict[str, Product] = {}
        self.campaigns: dict[int, Campaign] = {}
        self.products: dict[str, Product] = {}
        self.tokens: dict[str, Token] = {}
        self.users: dict[str, User] = {}

    def add_campaign(self, campaign: Any, name: Any, fields: Any) -> None:
        """Define a campaign, or add fields to one that exists."""
        number = whole("campaign", campaign, low=1)
        names = [_field("fields", each) for each in texts("fields", fields)]
        title = f"Campaign {number}" if name is None else text("name", name)
        with self._lock:
            self.campaigns.setdefault(number, Campaign(number, title))
            for each in names:
                self.add_field(each, number)

    def add_field(self, name: Any, campaign: Any) -> None:
        """Define a field on a campaign."""
        new = _field("name", name)
        with self._lock:
            fields = self.campaign(campaign).fields
            self._store.add_field(new)
            if new not in fields:
                fields.append(new)

    def remove_field(self, name: Any, campaign: Any) -> None:
        """Remove a field from a campaign."""
        with self._lock:
            fields = self.campaign(campaign).fields
            if text("name", name) in fields:
                fields.remove(name)

    def campaign(self, campaign: Any) -> Campaign:
        """
        Find a campaign.

        :raises WrongValue: The campaign does not exist.
        """
        found = self.campaigns.get(whole("campaign", campaign, low=1))
        if found is None:
            raise WrongValue("campaign", f"unknown campaign {campaign!r}")
        return found

    def field_names(self, campaign: int) -> list[str]:
        """Return the names of the SCM fields of a campaign."""
        return list(self.campaigns[campaign].fields)

    def is_field(self, name: str) -> bool:
        """Return whether any campaign has this SCM field."""
        return bool(self.campaigns_with(name))

    def campaigns_with(self, name: str) -> list[int]:
        """Return the campaigns that have this SCM field."""
        return [each.id for each in list(self.campaigns.values()) if name in each.fields]

    def add_product(self, sku: Any, campaign: Any, name: Any) -> int:
        """Define a product, or move an existing one to a campaign."""
        key, title = text("sku", sku), text("name", sku if name is None else name)
        with self._lock:
            place = self.campaign(campaign).id
            known = self.products.get(key)
            product = Product(known.id if known else len(self.products) + 1, key, title, place)
            self.products[key] = self._by_id[str(product.id)] = product
            return product.id

    def product(self, value: str) -> Product | None:
        """Find a product by SKU or id."""
        return self.products.get(value) or self._by_id.get(value)

    def add_token(self, token: Any, permissions: Any, expires: Any, scheme: Any, user: Any = 1) -> None:
        """Define a token."""
        made = Token(
            text("token", token),
            choice("scheme", scheme, SCHEMES),
            texts("permissions", permissions),
            _expiry(expires),
            whole("user", user, low=1),
        )
        self.tokens[made.token] = made

    def remove_token(self, token: Any) -> None:
        """Revoke a token."""
        self.tokens.pop(text("token", token), None)

    def add_user(self, username: Any, password: Any) -> None:
        """Define a user, or change a password."""
        name, word = text("username", username), text("password", password)
        with self._lock:
            known = self.users.get(name)
            self.users[name] = User(known.id if known else len(self.users) + 1, word)

    def log_in(self, username: str, password: str, *, alone: bool) -> str | None:
        """
        Make a JWT with all permissions; None if the user or the password is wrong.

        :param alone: Whether earlier JWTs of the user become invalid.
        """
        user = self.users.get(username)
        if user is None or user.password != password:
            return None
        # It only looks like a JWT. Clients cannot check the signature, so it has none.
        token = f"eyJ{secrets.token_urlsafe(24)}.{secrets.token_urlsafe(48)}.{secrets.token_urlsafe(32)}"
        if alone:
            for each in [
                each for each in self.tokens.values() if (each.scheme, each.user) == ("JWT", user.id)
            ]:
                del self.tokens[each.token]
        self.add_token(token, ALL_PERMISSIONS, _JWT_SECONDS, "JWT", user.id)
        return token


def _field(argument: str, name: Any) -> str:
    if name in ("", IDENTITY, "campaign", *SPECIAL):
        raise WrongValue(argument, f"{name!r} cannot be the name of an SCM field")
    return text(argument, name)


def _expiry(expires: Any) -> float | None:
    if expires is None:
        return None
    if isinstance(expires, str):
        try:
            expires = datetime.fromisoformat(expires)
        except ValueError as error:
            raise WrongValue("expires", str(error)) from None
    if isinstance(expires, datetime):
        if expires.tzinfo is None:
            raise WrongValue("expires", "a time needs a time zone")
        return expires.timestamp()
    return time.time() + number("expires", expires, low=-1e9)
