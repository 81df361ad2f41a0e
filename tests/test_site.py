"""The built pages in a real browser, from a server and from the disk."""

from pathlib import Path

import numpy as np
import pytest
from pdf import pages
from site_checks import faults_of_dark_mode, faults_of_links, faults_of_page, weight

ROOT = Path(__file__).resolve().parent.parent


PAGES = [*pages(), "genindex", "search"]


def test_the_book_builds_without_a_warning(build):
    assert build.returncode == 0, build.stderr[-5000:]


@pytest.mark.parametrize("page", PAGES)
def test_page_from_a_server(browser, server, site, page):
    assert faults_of_page(browser, f"{server}/{page}.html", server, folder=site) == []


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


UNREADABLE = "@font-face { font-family: F; src: url(data:font/woff,no) }"
GOOD_PAGE = """<!doctype html><html lang="en"><head><title>A page</title></head><body>
<main><article><h1 id="top">A page</h1><p>Some text.</p>
<img alt="A dot" src="data:image/svg+xml,%3Csvg xmlns='http://www.w3.org/2000/svg'/%3E">
</article></main><script>
const dark = matchMedia("(prefers-color-scheme: dark)");
const show = () => { document.documentElement.dataset.theme = dark.matches ? "dark" : "light"; };
dark.addEventListener("change", show);
show();
</script></body></html>"""

LARGE = """<img style="width: 100px" alt="A square" src="data:image/svg+xml,%3Csvg
xmlns='http://www.w3.org/2000/svg' width='600' height='600'/%3E">"""


@pytest.mark.parametrize(
    ("harm", "reported"),
    [
        (None, None),
        (("<p>", "<img alt='x' src='https://example.org/x.png'><p>"), "request: https://example"),
        (("<p>", "<img alt='x' src='missing.png'><p>"), "failed: "),
        (("alt=", "title="), "alt: "),
        (("Some", "Here $$ x"), "raw TeX: "),
        (("Some", "Here \\(x\\)"), "raw TeX: "),
        (("<p>", "<h3>Too deep</h3><p>"), "headings: H3"),
        (("<p>", "<p style='color: #aaa'>"), "axe: color-contrast"),
        (("<p>", 9 * "<p>Like</p>" + "<p style='color: #aaa'>"), "axe: color-contrast"),
        (("</script>", "</script><style>[data-theme=dark] p { color: #ddd }</style>"), "dark: axe"),
        (("<h1", "<h1>Twice</h1><h1"), "headings: 2"),
        (("<p>", "<p style='width: 400px; background: red'>"), "overflow at 360"),
        (
            ("<p>", f"<div class='cell_output'><figure>{LARGE}</figure></div><p>"),
            "lettering at 320",
        ),
        (("<p>", "<script>nothing()</script><p>"), "script: "),
        (("<p>", "<script>console.error('oh')</script><p>"), "console: oh"),
        (
            ("<p>", f"<style>{UNREADABLE}</style><p style='font: 1em F'>"),
            "console: Failed to decode",
        ),
        (("show();", "show(); dark.onchange = () => nothing();"), "script: "),
    ],
)
def test_a_bad_page_is_reported(browser, tmp_path, harm, reported):
    html = GOOD_PAGE.replace(*harm, 1) if harm else GOOD_PAGE
    (tmp_path / "page.html").write_text(html, "utf-8")
    address = tmp_path.as_uri()
    faults = faults_of_page(browser, f"{address}/page.html", address, folder=tmp_path)
    assert any(fault.startswith(reported) for fault in faults) if harm else faults == []


def test_a_heavy_page_is_reported(tmp_path):
    noise = np.random.default_rng(0).bytes(400_000)
    (tmp_path / "picture.png").write_bytes(noise)
    (tmp_path / "drawing.svg").write_text("<svg>" + " " * 400_000, "utf-8")
    (tmp_path / "big.js").write_bytes(noise)
    explorable = f'<figure class="explore">{noise.hex()}</figure>'
    (tmp_path / "page.html").write_text(f"<p>Text</p>{explorable}", "utf-8")
    weighed = weight({"/page.html", "/big.js", "/picture.png", "/drawing.svg"}, tmp_path)
    assert weighed["picture.png"] == 400_000
    assert set(weighed) == {"page.html", "picture.png", "drawing.svg"}
    assert weighed["page.html"] < 100 and weighed["drawing.svg"] < 1000


def test_a_bad_link_is_reported(tmp_path):
    (tmp_path / "page.html").write_text("<a href='no.html'>a</a><a id='a' href='#b'>b</a>", "utf-8")
    assert faults_of_links(tmp_path) == [
        "page.html: no file no.html",
        "page.html: no place #b",
    ]
