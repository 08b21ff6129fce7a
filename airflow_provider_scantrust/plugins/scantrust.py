"""
The plugin that adds the Scantrust page to the Airflow UI.

Rule: every Airflow process may load it, so it imports neither FastAPI nor any part of Airflow that is not
yet loaded.
"""

from __future__ import annotations

from typing import Any
from urllib.parse import urlsplit

from airflow.providers.common.compat.sdk import AirflowPlugin, conf

from airflow_provider_scantrust import __version__
from airflow_provider_scantrust.plugins import HAS_PAGES, ROUTES

URL_PREFIX = "/scantrust"
# The name in the UI, and the global variable with the bundle's component.
NAME = "Scantrust"


class _PageApp:
    """The page's ASGI app, created on the first request."""

    def __init__(self) -> None:
        self._app: Any = None

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        if self._app is None:
            from airflow_provider_scantrust.plugins.app import make_app

            self._app = make_app()
        await self._app(scope, receive, send)


def _react_apps() -> list[dict[str, str]]:
    base = urlsplit(conf.get("api", "base_url", fallback="") or "").path.rstrip("/")
    static = f"{base}{URL_PREFIX}/static/{__version__}"
    return [
        {
            "name": NAME,
            "bundle_url": f"{static}/page.js",
            "icon": f"{static}/icon.svg",
            "icon_dark_mode": f"{static}/icon-dark.svg",
            "destination": destination,
            "url_route": route,
            "category": "browse",
        }
        for destination, route in ROUTES.items()
    ]


class ScantrustPlugin(AirflowPlugin):
    """Uploads and waits, as a page and as tabs; without effect before Airflow 3.1."""

    name = "scantrust"
    fastapi_apps: list[Any] = (
        [{"app": _PageApp(), "url_prefix": URL_PREFIX, "name": NAME}] if HAS_PAGES else []
    )
    react_apps: list[Any] = _react_apps() if HAS_PAGES else []
