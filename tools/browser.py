"""A headless Chromium for the tests of the Airflow UI, its screenshots and its benchmark."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from playwright.sync_api import Browser

HOW_TO_INSTALL = "`make test-ui` installs the extra ui-tests and a Chromium"


class NoBrowser(Exception):
    """There is no Chromium, or nothing to drive it with; the message says how to get it."""


@contextmanager
def chromium() -> Iterator[Browser]:
    """
    Start the Chromium of the system, or else the one that playwright has installed, and end it.

    :raises NoBrowser: There is none.
    """
    try:
        from playwright.sync_api import Error, sync_playwright
    except ImportError as error:
        raise NoBrowser(f"playwright is not installed; {HOW_TO_INSTALL}") from error
    path = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    # Chromium's own sandbox does not work for root, as in most containers.
    arguments = ["--no-sandbox"] if os.geteuid() == 0 else []
    with sync_playwright() as playwright:
        try:
            browser = playwright.chromium.launch(executable_path=path, args=arguments)
        except Error as error:
            raise NoBrowser(f"no Chromium starts here; {HOW_TO_INSTALL}") from error
        try:
            yield browser
        finally:
            browser.close()
