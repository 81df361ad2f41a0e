"""Put the built site into one zip, print it into one PDF, and link to both from the first page.

All pages become one document, so that equations and sections are linked inside the file; Chromium
prints it.
"""

import re
import shutil
import zipfile
from html import escape, unescape
from pathlib import Path
from posixpath import dirname, join, normpath
from tempfile import TemporaryDirectory
from urllib.parse import urlsplit

import chromium
import yaml
from playwright.sync_api import sync_playwright

ROOT = Path(__file__).resolve().parent.parent
SITE = ROOT / "_build" / "html"
NAME = "data-attribution-checked"
CONFIG = yaml.safe_load((ROOT / "_config.yml").read_text("utf-8"))
BASE = CONFIG["sphinx"]["config"]["html_baseurl"]

STYLE = """
@page { size: A4; margin: 18mm 17mm 20mm; }
.bd-article { max-width: none; padding: 0; }
.book-part { break-before: page; }
.book-title { margin-top: 35%; text-align: center; break-after: page; }
.book-title h1 { font-size: 3rem; }
"""
FOOTER = """<div style="width: 100%; text-align: center; font: 9px sans-serif; color: #555">
<span class="pageNumber"></span></div>"""


def pages(root: Path = ROOT) -> list[str]:
    """The pages of the book in the order of its contents, such as book/intro."""

    def files(entry):
        if isinstance(entry, dict):
            yield from (entry[key] for key in ("root", "file") if key in entry)
            entry = entry.values()
        if not isinstance(entry, str | bool):
            for child in entry:
                if not isinstance(child, str | bool):
                    yield from files(child)

    return list(files(yaml.safe_load((root / "_toc.yml").read_text("utf-8"))))


def _anchor(page: str, place: str = "") -> str:
    return f"{page}--{place}".replace("/", "-")


def _address(page: str, address: str, known: set[str], asset: bool) -> str:
    """Where a link or a picture of one page leads, seen from the document of all."""
    parts = urlsplit(address)
    if parts.scheme or parts.netloc:
        return address
    path = normpath(join(dirname(page), parts.path)) if parts.path else f"{page}.html"
    target = path.removesuffix(".html")
    if asset:
        return path
    if target in known:
        return f"#{_anchor(target, parts.fragment) if parts.fragment else _anchor(target)}"
    # Not in the book: the index, a notebook to download.
    return BASE + path + (f"#{parts.fragment}" if parts.fragment else "")


ARTICLE = re.compile(r"<article.*?>(.*)</article>", re.DOTALL)
DROPPED = re.compile(r'<script\b.*?</script>|<a class="headerlink".*?</a>|<source\b.*?>', re.DOTALL)
ATTRIBUTE = re.compile(r' (id|for|aria-labelledby|aria-describedby|clip-path|src|href)="([^"]*)"')


def part(page: str, html: str, known: set[str]) -> str:
    """The text of one page with its ids made its own, links to known pages kept inside."""

    def rewritten(match: re.Match) -> str:
        key, value = match[1], unescape(match[2])
        if key in ("src", "href"):
            value = _address(page, value, known, asset=key == "src")
        elif key == "clip-path":
            value = value.replace("url(#", f"url(#{_anchor(page)}")
        else:
            value = _anchor(page, value)
        return f' {key}="{escape(value)}"'

    text = DROPPED.sub("", ARTICLE.search(html)[1])
    return (
        f'<article class="bd-article book-part" id="{_anchor(page)}">'
        f"{ATTRIBUTE.sub(rewritten, text)}</article>"
    )


def document(site: Path = SITE) -> str:
    """The whole book as one page, to lie in the folder of the site."""
    names = pages()
    first = (site / f"{names[0]}.html").read_text("utf-8")
    title = CONFIG["title"]
    sheet = re.search(r'href="[^"]*_static/(bundle\.css[^"]*)"', first)[1]
    parts = [part(name, (site / f"{name}.html").read_text("utf-8"), set(names)) for name in names]
    return (
        f'<!doctype html><html lang="en" data-theme="light"><head><meta charset="utf-8">'
        f'<title>{title}</title><link rel="stylesheet" href="_static/{sheet}">'
        f"<style>{STYLE}</style></head><body>"
        f'<div class="bd-article book-title"><h1>{title}</h1></div>{"".join(parts)}</body></html>'
    )


def write_pdf(target: Path, site: Path = SITE) -> None:
    """Print the book."""
    page_file = site / f"{NAME}.htm"  # not .html: it is no page of the site
    page_file.write_text(document(site), "utf-8")
    try:
        with sync_playwright() as playwright:
            browser = chromium.launch(playwright)
            page = browser.new_page(color_scheme="light")
            page.goto(page_file.as_uri(), timeout=300_000)
            page.evaluate("document.fonts.ready.then(() => true)")
            page.pdf(
                path=target,
                prefer_css_page_size=True,
                display_header_footer=True,
                header_template="<span></span>",
                footer_template=FOOTER,
                outline=True,
                tagged=True,
            )
            browser.close()
    finally:
        page_file.unlink()


def write_zip(target: Path, site: Path = SITE) -> None:
    """The site as one file, to be unpacked and opened at index.html."""
    with TemporaryDirectory() as folder:
        made = Path(folder, target.name)
        with zipfile.ZipFile(made, "w", zipfile.ZIP_DEFLATED) as archive:
            for path in sorted(site.rglob("*")):
                if path.is_file() and path.suffix not in (".zip", ".pdf"):
                    archive.write(path, Path(NAME, path.relative_to(site)))
        shutil.move(made, target)


def write(site: Path = SITE) -> None:
    """Both files beside the pages; then, and not before, the first page offers them."""
    offered = re.compile(r'<p class="downloads">.*?</p>')
    first = site / f"{pages()[0]}.html"
    html = first.read_text("utf-8")
    if len(offered.findall(html)) != 1:
        raise ValueError(f'{first.name}: expected one <p class="downloads"> for the links')
    first.write_text(offered.sub('<p class="downloads"></p>', html), "utf-8")  # none in the zip
    kinds = {"pdf": write_pdf, "zip": write_zip}
    links = []
    for kind, make in kinds.items():
        file = site / f"{NAME}.{kind}"
        make(file, site)
        size = f"{file.stat().st_size / 1e6:.0f} MB"
        links.append(f'<a href="../{file.name}" download>{kind.upper()}</a>, {size}')
    paragraph = f'<p class="downloads">The whole book to keep: {"; ".join(links)}.</p>'
    first.write_text(offered.sub(paragraph, html), "utf-8")


if __name__ == "__main__":
    write()
