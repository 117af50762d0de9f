"""A real Chromium: one of this machine, or else one that Playwright gets."""

import shutil
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from playwright.async_api import Browser, Error, Playwright, async_playwright

_NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
_INSTALL_SECONDS_MAX = 300


@asynccontextmanager
async def chromium() -> AsyncIterator[Browser]:
    """Started, and ended with the block. Fails where there is none and none can be had."""
    async with async_playwright() as playwright:
        # Root, as in a container, has no sandbox; the page is our own.
        browser = await playwright.chromium.launch(executable_path=_executable(playwright), args=["--no-sandbox"])
        try:
            yield browser
        finally:
            await browser.close()


def _executable(playwright: Playwright) -> str:
    found = next(filter(None, map(shutil.which, _NAMES)), None)
    if found is not None:
        return found
    own = playwright.chromium.executable_path
    if not Path(own).exists():
        done = subprocess.run(
            [sys.executable, "-m", "playwright", "install", "chromium"],
            capture_output=True,
            text=True,
            timeout=_INSTALL_SECONDS_MAX,
            check=False,
        )
        if done.returncode:
            raise Error(f"there is no Chromium, and none can be had: install one of {', '.join(_NAMES)}: {done.stderr}")
    return own
