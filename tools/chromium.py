"""The one Chromium that prints the book, takes its pictures and tests its pages."""

import shutil
from pathlib import Path

from playwright.sync_api import Browser, Playwright

# The shell paints no window: it opens a page in two thirds of the time.
NAMES = (
    "chromium-headless-shell",
    "chromium",
    "chromium-browser",
    "google-chrome",
    "google-chrome-stable",
)
FLAGS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    # A page that asks for something outside is reported, and must not wait for an answer.
    "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1",
]


def find(playwright: Playwright) -> Path | None:
    """The browser of the machine, else the one that Playwright has downloaded, else none."""
    path = next(filter(None, map(shutil.which, NAMES)), None) or playwright.chromium.executable_path
    return Path(path) if Path(path).exists() else None


def launch(playwright: Playwright) -> Browser:
    """Start it; FileNotFoundError says how to get one."""
    path = find(playwright)
    if path is None:
        raise FileNotFoundError(
            f"no browser: expected one of {', '.join(NAMES)}, or `playwright install chromium`"
        )
    return playwright.chromium.launch(executable_path=path, args=FLAGS)
