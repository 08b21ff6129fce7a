"""One Airflow for all tests of its UI, after a few uploads, and a headless Chromium."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import quote

import pytest

from airflow_provider_scantrust.sandbox import Sandbox
from browser import NoBrowser, chromium
from doc_blocks import ROOT
from local_airflow import LocalAirflow
from ui_page import PORTAL, USERS, make_history, page_of

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page


@pytest.fixture(scope="package")
def browser() -> Iterator[Browser]:
    try:
        with chromium() as browser:
            yield browser
    except NoBrowser as error:
        if os.environ.get("SCANTRUST_REQUIRE_BROWSER"):
            raise
        pytest.skip(str(error))


@pytest.fixture(scope="package")
def airflow(
    browser: Browser, running_sandbox: Sandbox, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[LocalAirflow]:
    """An Airflow with users, in which uploads ended well, left something to do, failed and wait."""
    home = tmp_path_factory.mktemp("airflow")
    dags = home / "dags"
    shutil.copytree(ROOT / "dags_examples", dags, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("scantrust_system.py", "scantrust_ui.py"):
        shutil.copy(Path(__file__).parent.parent / "dags" / name, dags)
    passwords = home / "passwords.json"
    passwords.write_text(json.dumps({user: user for user in USERS}))
    uri = running_sandbox.connection_uri
    with LocalAirflow(
        home,
        dags,
        connections={
            "scantrust_default": f"{uri}{'&' if '?' in uri else '?'}portal_url={quote(PORTAL, safe='')}"
        },
        env={"PYTHONPATH": str(ROOT / "tests" / "support")},
        config={
            "scheduler.use_job_schedule": "False",
            "core.auth_manager": "narrow_auth.NarrowAuthManager",
            "core.simple_auth_manager_all_admins": "False",
            "core.simple_auth_manager_users": "admin:admin,guest:viewer,nobody:viewer",
            "core.simple_auth_manager_passwords_file": str(passwords),
        },
    ) as airflow:
        airflow.sign_in("admin", "admin")
        make_history(airflow, running_sandbox)
        yield airflow


@pytest.fixture
def page(browser: Browser, airflow: LocalAirflow) -> Iterator[Page]:
    with page_of(browser, airflow, "admin") as page:
        yield page
