"""The book in one PDF and in one zip."""

import subprocess
import sys
import zipfile
from urllib.parse import urlsplit

import pdf
import pypdf
import pytest
from bs4 import BeautifulSoup
from site_checks import faults_of_page
from test_site import PAGES


@pytest.fixture(scope="module")
def written(site):
    """The folder of the site, with both files in it; they are published with it."""
    # In a process of its own: this one may have a browser open, and Playwright allows one.
    ran = subprocess.run(
        [sys.executable, pdf.__file__], capture_output=True, text=True, check=False
    )
    assert ran.returncode == 0, ran.stderr
    return site


@pytest.fixture(scope="module")
def book(written):
    return pypdf.PdfReader(written / f"{pdf.NAME}.pdf")


def _titles(outline):
    for entry in outline:
        if isinstance(entry, list):
            yield from _titles(entry)
        else:
            yield entry.title


def test_every_page_of_the_book_is_in_the_outline(site, book):
    titles = "".join("".join(_titles(book.outline)).split())  # a line's end is no space there
    for page in pdf.pages():
        html = (site / f"{page}.html").read_text("utf-8")
        heading = BeautifulSoup(html, "html.parser").select_one("article h1")
        heading.select_one(".headerlink").decompose()
        assert "".join(heading.text.split()) in titles


def test_links_lead_inside_the_book_or_to_the_web(book):
    places = set(book.named_destinations)
    inside, outside = 0, set()
    for page in book.pages:
        for link in (note.get_object() for note in page.get("/Annots", [])):
            if "/Dest" in link:
                assert str(link["/Dest"]).removeprefix("/") in {p.removeprefix("/") for p in places}
                inside += 1
            elif link.get("/A", {}).get("/S") == "/URI":
                outside.add(urlsplit(link["/A"]["/URI"]).scheme)
    assert inside > 1000
    assert outside == {"https"}


def test_equations_are_text_and_figures_are_drawn(book):
    text = " ".join("".join(page.extract_text() for page in book.pages[:16]).split())
    assert "(1.1)" in text and "✓ Equation (1.1) holds" in text
    assert not any(raw in text for raw in (r"\frac", r"\(", "$$"))


def test_the_zip_is_the_site_and_works_from_the_disk(written, browser, tmp_path):
    with zipfile.ZipFile(written / f"{pdf.NAME}.zip") as archive:
        archive.extractall(tmp_path)
    folder = tmp_path / pdf.NAME
    assert all((folder / f"{page}.html").is_file() for page in PAGES)
    first = f"{folder.as_uri()}/{PAGES[0]}.html"
    assert faults_of_page(browser, first, folder.as_uri()) == []


def test_the_first_page_offers_both(written):
    html = (written / f"{PAGES[0]}.html").read_text("utf-8")
    for kind in ("pdf", "zip"):
        assert f'href="../{pdf.NAME}.{kind}"' in html


def test_a_first_page_without_a_place_for_the_links_is_told(tmp_path):
    (tmp_path / "book").mkdir()
    (tmp_path / f"{PAGES[0]}.html").write_text("<p>nothing</p>", "utf-8")
    with pytest.raises(ValueError, match="downloads"):
        pdf.write(tmp_path)
