"""The page's web application: its files, and the rows that it shows."""

from __future__ import annotations

import logging
from pathlib import Path

from fastapi import FastAPI
from fastapi.responses import JSONResponse
from fastapi.staticfiles import StaticFiles

from airflow_provider_scantrust import __version__

log = logging.getLogger(__name__)


def make_app() -> FastAPI:
    """Return the app that the plugin mounts; if Airflow's internals have changed, the page shows an error."""
    app = FastAPI(title="Scantrust", docs_url=None, redoc_url=None, openapi_url=None)
    try:
        from airflow_provider_scantrust.plugins.internals import router
    except Exception:
        log.warning("The Scantrust page does not work with this version of Airflow.", exc_info=True)
        app.add_api_route("/uploads", _not_available)
    else:
        app.include_router(router)
    # The version is in the path, so that no browser mixes files of two versions.
    app.mount(f"/static/{__version__}", StaticFiles(directory=Path(__file__).parent / "static"))
    return app


def _not_available() -> JSONResponse:
    return JSONResponse({"detail": "This page does not work with this version of Airflow."}, status_code=501)
