"""The built pages in a real browser, from a server and from the disk."""

import re
import shutil
from pathlib import Path

import numpy as np
import pytest
import yaml
from site_checks import faults_of_dark_mode, faults_of_links, faults_of_page

from lib.data import figure_one

ROOT = Path(__file__).resolve().parent.parent


def _files(entry):
    if isinstance(entry, dict):
        yield from (entry[key] for key in ("root", "file") if key in entry)
        entry = entry.values()
    if not isinstance(entry, str | bool):
        for child in entry:
            if not isinstance(child, str | bool):
                yield from _files(child)


PAGES = [*_files(yaml.safe_load((ROOT / "_toc.yml").read_text("utf-8"))), "genindex", "search"]


def test_the_book_builds_without_a_warning(build):
    assert build.returncode == 0, build.stderr[-5000:]


@pytest.mark.parametrize("page", PAGES)
def test_page_from_a_server(browser, server, page):
    assert faults_of_page(browser, f"{server}/{page}.html", server) == []


@pytest.mark.parametrize("page", PAGES)
def test_page_from_the_disk(browser, site, page):
    assert faults_of_page(browser, f"{site.as_uri()}/{page}.html", site.as_uri()) == []


def test_dark_mode(browser, server):
    assert faults_of_dark_mode(browser, f"{server}/{PAGES[0]}.html") == []


@pytest.mark.parametrize("start", ["server", "disk"])
def test_search_finds_a_page(browser, server, site, start):
    address = server if start == "server" else site.as_uri()
    page = browser.new_page()
    page.goto(f"{address}/search.html?q=notation")
    page.locator("#search-results li a").first.wait_for(timeout=10_000)
    page.close()


def test_links_lead_somewhere(site):
    assert faults_of_links(site) == []


def test_only_the_exercises_are_published_as_notebooks(site):
    assert not (site / "_sources").exists()
    for path in site.rglob("*.ipynb"):  # exercises may be downloaded, and nothing else
        assert path.read_text("utf-8") == (ROOT / "exercises" / path.name).read_text("utf-8")


def _numbers(text: str) -> list[float]:
    return [float(word.replace("−", "-")) for word in re.findall(r"[−-]?\d+(?:\.\d+)?", text)]


@pytest.fixture
def explorable(browser, site):
    """Opens a page at one explorable: its element, with the page behind it."""
    page = browser.new_page(viewport={"width": 1280, "height": 900})

    def opened(chapter: str, name: str):
        page.goto(f"{site.as_uri()}/book/{chapter}.html")
        figure = page.locator(f"#{name}")
        figure.scroll_into_view_if_needed()
        figure.locator(".handle").wait_for()
        return figure

    yield opened
    page.close()


def _slope(x, y):
    return np.polyfit(x, y, 1)[0]


def test_leverage_explorable_shows_what_refitting_gives(explorable):
    figure = explorable("02_influence_functions", "explore-leverage")
    control, readout = figure.locator("input"), figure.locator("output")
    x, y = (t.numpy().copy() for t in figure_one())
    told = set()
    for steps in (0, 5, 20):
        control.focus()
        for _ in range(steps):
            figure.page.keyboard.press("ArrowRight")
        index = int(control.input_value())
        x[-1] = np.linspace(0.5, 30, 60)[index]
        leverage = 1 / len(x) + (x[-1] - x.mean()) ** 2 / ((x - x.mean()) ** 2).sum()
        change = _slope(x[:-1], y[:-1]) - _slope(x, y)
        shown = _numbers(readout.inner_text())
        assert shown[0] == pytest.approx(leverage, abs=0.006)
        assert shown[1] == pytest.approx(change, abs=6e-4)
        assert shown[2] == pytest.approx(change * (1 - leverage), abs=6e-4)
        told.add(readout.inner_text())
    assert len(told) == 3


def test_dragging_the_handle_moves_the_control(explorable):
    figure = explorable("02_influence_functions", "explore-leverage")
    control = figure.locator("input")
    before = int(control.input_value())
    box = figure.locator(".handle").bounding_box()
    x, y = box["x"] + box["width"] / 2, box["y"] + box["height"] / 2
    mouse = figure.page.mouse
    mouse.move(x, y)
    mouse.down()
    mouse.move(x - 60, y, steps=5)
    mouse.up()
    after = int(control.input_value())
    assert after < before
    moved = figure.locator(".handle").bounding_box()
    assert moved["x"] == pytest.approx(box["x"] - 60, abs=6)
    mouse.move(x + 60, y, steps=3)  # let go: nothing follows any more
    assert int(control.input_value()) == after


def test_ab_explorable_shows_the_closed_form(explorable):
    figure = explorable("02b_curvature", "explore-ab")
    damping, anchor = figure.locator("input").all()
    for keys in ((), ("ArrowRight",) * 3, ("ArrowLeft",) * 5):
        for key in keys:
            for control in (damping, anchor):
                control.focus()
                figure.page.keyboard.press(key)
        a, b, lam, z, on_ab, _, on_square = _numbers(
            figure.locator("output").inner_text().replace("a²", "a squared")
        )
        length = a * a + b * b
        assert a * b == pytest.approx(2, rel=0.02)
        assert on_ab == pytest.approx((z - 2) * length / (3 * length + lam), rel=0.02)
        assert on_square == pytest.approx(4 * (z - 2) / (3 * length + lam), rel=0.02)


GOOD_PAGE = """<!doctype html><html lang="en"><head><title>A page</title>
<script async src="mathjax/tex-chtml.js"></script></head><body>
<article><h1 id="top">A page</h1><p>\\(x^2\\)</p>
<img alt="A dot" src="data:image/svg+xml,%3Csvg xmlns='http://www.w3.org/2000/svg'/%3E">
</article></body></html>"""


@pytest.mark.parametrize(
    ("harm", "reported"),
    [
        (None, None),
        (("<p>", "<img alt='x' src='https://example.org/x.png'><p>"), "request: https://example"),
        (("<p>", "<img alt='x' src='missing.png'><p>"), "failed: "),
        (("alt=", "title="), "alt: "),
        (("x^2", "\\frac{1}"), "TeX: Missing"),
        (("x^2", "\\nosuchmacro"), "TeX: undefined"),
        (("\\(x^2\\)", "Here $$ x"), "raw $$: "),
        (("<h1", "<h1>Twice</h1><h1"), "headings: 2"),
        (("<p>", "<p style='width: 400px; background: red'>"), "overflow at 360"),
        (("<p>", "<script>nothing()</script><p>"), "script: "),
        (("<p>", "<script>console.error('oh')</script><p>"), "console: oh"),
    ],
)
def test_a_bad_page_is_reported(browser, site, tmp_path, harm, reported):
    shutil.copytree(site / "_static" / "mathjax", tmp_path / "mathjax")
    html = GOOD_PAGE.replace(*harm, 1) if harm else GOOD_PAGE
    (tmp_path / "page.html").write_text(html, "utf-8")
    faults = faults_of_page(browser, f"{tmp_path.as_uri()}/page.html", tmp_path.as_uri())
    assert any(fault.startswith(reported) for fault in faults) if harm else faults == []


def test_a_bad_link_is_reported(tmp_path):
    (tmp_path / "page.html").write_text("<a href='no.html'>a</a><a id='a' href='#b'>b</a>", "utf-8")
    assert faults_of_links(tmp_path) == [
        "page.html: no file no.html",
        "page.html: no place #b",
    ]
