"""The built pages in a real browser, from a server and from the disk."""

from pathlib import Path

import pytest
from pdf import pages
from site_checks import faults_of_dark_mode, faults_of_links, faults_of_page

ROOT = Path(__file__).resolve().parent.parent


PAGES = [*pages(), "genindex", "search"]


def test_the_book_builds_without_a_warning(build):
    assert build.returncode == 0, build.stderr[-5000:]


@pytest.mark.parametrize("page", PAGES)
def test_page_from_a_server(browser, server, page):
    assert faults_of_page(browser, f"{server}/{page}.html", server) == []


@pytest.mark.parametrize("page", PAGES)
def test_page_from_the_disk(browser, site, page):
    assert faults_of_page(browser, f"{site.as_uri()}/{page}.html", site.as_uri(), quick=True) == []


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


GOOD_PAGE = """<!doctype html><html lang="en"><head><title>A page</title></head><body>
<main><article><h1 id="top">A page</h1><p>Some text.</p>
<img alt="A dot" src="data:image/svg+xml,%3Csvg xmlns='http://www.w3.org/2000/svg'/%3E">
</article></main><script>
document.documentElement.dataset.theme = "light";
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => {
  document.documentElement.dataset.theme = "dark";
});
</script></body></html>"""


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
        (("</script>", "</script><style>[data-theme=dark] p { color: #ddd }</style>"), "dark: axe"),
        (("<h1", "<h1>Twice</h1><h1"), "headings: 2"),
        (("<p>", "<p style='width: 400px; background: red'>"), "overflow at 360"),
        (("<p>", "<script>nothing()</script><p>"), "script: "),
        (("<p>", "<script>console.error('oh')</script><p>"), "console: oh"),
    ],
)
def test_a_bad_page_is_reported(browser, tmp_path, harm, reported):
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
