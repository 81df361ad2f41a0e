"""The built site and a browser for the tests of the pages, and what all tests share."""

import functools
import gzip
import http.server
import json
import os
import shutil
import subprocess
import sys
import threading
from pathlib import Path
from types import SimpleNamespace

import chromium
import numpy as np
import pytest
from filelock import FileLock
from playwright.sync_api import sync_playwright

ROOT = Path(__file__).resolve().parent.parent
PACKED = (".html", ".css", ".js", ".json", ".svg", ".txt")


@pytest.fixture(scope="session")
def build(tmp_path_factory, worker_id):
    """The book, built from nothing: a second build would not repeat the warnings of the first.

    Workers share it: the first that asks builds, the others wait.
    """
    base = tmp_path_factory.getbasetemp()
    base = base if worker_id == "master" else base.parent
    kept = base / "build.json"
    with FileLock(base / "build.lock"):
        if not kept.exists():
            shutil.rmtree(ROOT / "_build" / "html", ignore_errors=True)
            command = [Path(sys.executable).with_name("jupyter-book"), "build", ".", "--all", "-W"]
            ran = subprocess.run(
                [*command, "-n", "--keep-going", "-q"],
                cwd=ROOT,
                capture_output=True,
                text=True,
                check=False,
            )
            kept.write_text(json.dumps({"returncode": ran.returncode, "stderr": ran.stderr}))
    return SimpleNamespace(**json.loads(kept.read_text()))


@pytest.fixture(scope="session")
def site(build) -> Path:
    """The folder of the built pages."""
    html = ROOT / "_build" / "html"
    assert (html / "index.html").exists(), build.stderr[-5000:]
    return html


@functools.cache
def packed(path: Path) -> bytes:
    """A file as servers send it, where packing helps."""
    body = path.read_bytes()
    return gzip.compress(body, 6) if path.suffix in PACKED else body


class _Quiet(http.server.SimpleHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, *_):
        pass

    def do_GET(self):
        path = Path(self.translate_path(self.path))
        path = path / "index.html" if path.is_dir() else path
        missing = not path.is_file()
        if missing and not (path := Path(self.directory, "404.html")).is_file():
            self.send_error(404)
            return
        body = packed(path)
        self.send_response(404 if missing else 200)
        self.send_header("Content-Type", self.guess_type(str(path)))
        self.send_header("Content-Length", str(len(body)))
        if path.suffix in PACKED:
            self.send_header("Content-Encoding", "gzip")
        self.end_headers()
        self.wfile.write(body)


@pytest.fixture(scope="session")
def server(site):
    """Address of a local server that serves the site, packed, as a host of pages does."""
    handler = functools.partial(_Quiet, directory=site)
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as httpd:
        threading.Thread(target=httpd.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{httpd.server_port}"
        httpd.shutdown()


@pytest.fixture(scope="session")
def browser_path():
    """The browser of the machine, else Playwright's own; CI fails without one, others skip."""
    with sync_playwright() as playwright:
        found = chromium.find(playwright)
        if found is None:
            subprocess.run([sys.executable, "-m", "playwright", "install", "chromium"], check=False)
            found = chromium.find(playwright)
    if found is None:
        complain = pytest.fail if os.environ.get("CI") else pytest.skip
        complain("no browser: install chromium, or let Playwright download its own")
    return str(found)


@pytest.fixture(scope="session")
def browser(browser_path):
    """A browser for the tests of the pages."""
    with sync_playwright() as playwright:
        browser = chromium.launch(playwright)
        yield browser
        browser.close()


@pytest.fixture(params=range(3))
def rng(request):
    """Three numpy Generators, one after the other."""
    return np.random.default_rng(request.param)


@pytest.fixture
def progress_file(tmp_path, monkeypatch):
    """What is passed here is not recorded as the user's progress."""
    monkeypatch.setenv("ATTRIBUTION_PROGRESS", str(tmp_path / "progress.json"))
