"""The built site and a browser for the tests of the pages, and what all tests share."""

import functools
import http.server
import os
import shutil
import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import pytest
from playwright.sync_api import Error, sync_playwright

ROOT = Path(__file__).resolve().parent.parent
BROWSERS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
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


@pytest.fixture(scope="session")
def build():
    """The book, built from nothing: a second build would not repeat the warnings of the first."""
    shutil.rmtree(ROOT / "_build" / "html", ignore_errors=True)
    command = [Path(sys.executable).with_name("jupyter-book"), "build", ".", "--all", "-W", "-n"]
    return subprocess.run(
        [*command, "--keep-going", "-q"], cwd=ROOT, capture_output=True, text=True, check=False
    )


@pytest.fixture(scope="session")
def site(build) -> Path:
    """The folder of the built pages."""
    html = ROOT / "_build" / "html"
    assert (html / "index.html").exists(), build.stderr[-5000:]
    return html


class _Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *_):
        pass


@pytest.fixture(scope="session")
def server(site):
    """Address of a local server that serves the site."""
    handler = functools.partial(_Quiet, directory=site)
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as httpd:
        threading.Thread(target=httpd.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{httpd.server_port}"
        httpd.shutdown()


@pytest.fixture(scope="session")
def browser():
    """A browser of the machine, else Playwright's own; CI fails without one, others skip."""
    with sync_playwright() as playwright:
        browser = _launch(playwright)
        yield browser
        browser.close()


def _launch(playwright):
    found = next(filter(None, map(shutil.which, BROWSERS)), None)
    if found:
        return playwright.chromium.launch(executable_path=found, args=FLAGS)
    try:
        return playwright.chromium.launch(args=FLAGS)
    except Error:
        subprocess.run([sys.executable, "-m", "playwright", "install", "chromium"], check=False)
    try:
        return playwright.chromium.launch(args=FLAGS)
    except Error as error:
        complain = pytest.fail if os.environ.get("CI") else pytest.skip
        complain(f"no browser: install chromium, or let Playwright download its own ({error})")


@pytest.fixture(params=range(3))
def rng(request):
    """Three numpy Generators, one after the other."""
    return np.random.default_rng(request.param)


@pytest.fixture
def progress_file(tmp_path, monkeypatch):
    """What is passed here is not recorded as the user's progress."""
    monkeypatch.setenv("ATTRIBUTION_PROGRESS", str(tmp_path / "progress.json"))
