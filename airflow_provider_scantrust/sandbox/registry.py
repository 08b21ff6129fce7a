"""The small state: campaigns and their fields, products, tokens, users."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import secrets
import threading
import time
from collections.abc import Iterable
from dataclasses import asdict, dataclass, field
from datetime import datetime
from typing import Any, Literal

from airflow_provider_scantrust.sandbox.store import IDENTITY, SPECIAL, Store

# Scantrust, "SCM data": the permissions that uploads need.
UPLOAD_PERMISSIONS = ("codes_view", "scm_bulk_edit", "scm_code_edit", "product_view")
ALL_PERMISSIONS = UPLOAD_PERMISSIONS


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
    """A token; `expires` is in seconds since 1970."""

    token: str
    scheme: str
    permissions: list[str]
    expires: float | None
    owner: str

    @property
    def expired(self) -> bool:
        """Whether its time is over."""
        return self.expires is not None and time.time() >= self.expires


class Registry:
    """Keeps everything in memory for quick answers, and writes it through to the store."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._lock = threading.RLock()
        self._key = secrets.token_bytes(32)
        self._read()

    def clear(self) -> None:
        """Forget everything that the store no longer has."""
        with self._lock:
            self._read()

    def _read(self) -> None:
        store = self._store
        self.campaigns = {row["id"]: Campaign(**row) for row in store.kept("campaign")}
        self.products = {row["sku"]: Product(**row) for row in store.kept("product")}
        self.tokens = {row["token"]: Token(**row) for row in store.kept("token")}
        self.users: dict[str, str] = {row["username"]: row["password"] for row in store.kept("user")}

    def add_campaign(self, campaign: int, name: str | None, fields: Iterable[str]) -> None:
        """Define a campaign, or add fields to one that exists."""
        with self._lock:
            if campaign not in self.campaigns:
                self.campaigns[campaign] = Campaign(campaign, name or f"Campaign {campaign}")
                self._keep("campaign", str(campaign), self.campaigns[campaign])
            for each in fields:
                self.add_field(each, campaign)

    def add_field(self, name: str, campaign: int) -> None:
        """Define a field on a campaign."""
        if not name or name in SPECIAL or name in (IDENTITY, "campaign"):
            raise ValueError(f"{name!r} cannot be the name of an SCM field")
        with self._lock:
            found = self.campaign(campaign)
            self._store.add_field(name)
            if name not in found.fields:
                found.fields.append(name)
                self._keep("campaign", str(campaign), found)

    def remove_field(self, name: str, campaign: int) -> None:
        """Take a field from a campaign."""
        with self._lock:
            found = self.campaign(campaign)
            if name in found.fields:
                found.fields.remove(name)
                self._keep("campaign", str(campaign), found)

    def campaign(self, campaign: int) -> Campaign:
        """
        Find a campaign.

        :raises ValueError: There is no such campaign.
        """
        try:
            return self.campaigns[campaign]
        except KeyError:
            raise ValueError(f"unknown campaign {campaign!r}") from None

    def field_names(self, campaign: int) -> list[str]:
        """Name the SCM fields of a campaign."""
        return list(self.campaigns[campaign].fields)

    def is_field(self, name: str) -> bool:
        """Tell whether any campaign has this SCM field."""
        return any(name in campaign.fields for campaign in list(self.campaigns.values()))

    def add_product(self, sku: str, campaign: int, name: str | None) -> int:
        """Define a product, or move one that exists to a campaign."""
        with self._lock:
            self.campaign(campaign)
            known = self.products.get(sku)
            number = known.id if known else 1 + max((each.id for each in self.products.values()), default=0)
            self.products[sku] = Product(number, sku, name or sku, campaign)
            self._keep("product", sku, self.products[sku])
            return number

    def product(self, value: str) -> Product | None:
        """Find a product by SKU or id."""
        by_id = (each for each in list(self.products.values()) if str(each.id) == value)
        return self.products.get(value) or next(by_id, None)

    def add_token(
        self,
        token: str,
        permissions: Iterable[str],
        expires: datetime | float | None,
        scheme: Literal["UAT", "JWT"],
        owner: str = "sandbox@example.com",
    ) -> None:
        """Define a token."""
        until = expires.timestamp() if isinstance(expires, datetime) else expires
        if until is not None and not isinstance(expires, datetime):
            until += time.time()
        with self._lock:
            self.tokens[token] = Token(token, scheme, list(permissions), until, owner)
            self._keep("token", token, self.tokens[token])

    def remove_token(self, token: str) -> None:
        """Revoke a token."""
        with self._lock:
            self.tokens.pop(token, None)
            self._store.drop("token", token)

    def add_user(self, username: str, password: str) -> None:
        """Define a user."""
        with self._lock:
            self.users[username] = password
            self._store.keep("user", username, {"username": username, "password": password})

    def log_in(self, username: str, password: str, seconds: float) -> str | None:
        """Make a JWT, which has all rights; None when the user or the password is wrong."""
        if self.users.get(username) != password:
            return None
        now = time.time()
        claims = {
            "username": username,
            "iat": int(now),
            "exp": int(now + seconds),
            "jti": secrets.token_hex(8),
        }
        signed = f"{_segment({'typ': 'JWT', 'alg': 'HS256'})}.{_segment(claims)}"
        signature = hmac.new(self._key, signed.encode(), hashlib.sha256).digest()
        token = f"{signed}.{_base64(signature)}"
        self.add_token(token, ALL_PERMISSIONS, seconds, "JWT", username)
        return token

    def _keep(self, kind: str, key: str, record: Campaign | Product | Token) -> None:
        self._store.keep(kind, key, asdict(record))


def _segment(claims: dict[str, Any]) -> str:
    return _base64(json.dumps(claims, separators=(",", ":")).encode())


def _base64(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()
