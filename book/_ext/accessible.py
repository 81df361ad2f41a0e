"""What the theme's pages leave out for those who listen to them."""

import re
from pathlib import Path

REPAIRS = (
    # The logo, the search button and the contents stand in no landmark.
    (
        '<div class="bd-sidebar-primary bd-sidebar">',
        '<div class="bd-sidebar-primary bd-sidebar" role="region" aria-label="Book">',
    ),
    # The arrow that opens a chapter's list of pages has no name.
    (
        re.compile(r'<summary><span class="toctree-toggle"'),
        '<summary aria-label="Its pages"><span class="toctree-toggle"',
    ),
    (
        '<nav class="bd-toc-nav page-toc">',
        '<nav class="bd-toc-nav page-toc" aria-label="On this page">',
    ),
    # A role since withdrawn from the standard, for the entries of a list.
    (' role="doc-biblioentry"', ' role="listitem"'),
)


def repair(html: str) -> str:
    """The page with names and landmarks where the theme has none."""
    for found, better in REPAIRS:
        html = (
            found.sub(better, html)
            if isinstance(found, re.Pattern)
            else html.replace(found, better)
        )
    return html


def repair_pages(app, exception):
    """Repair the pages just written."""
    if exception or app.builder.format != "html":
        return
    for page in Path(app.outdir).rglob("*.html"):
        html = page.read_text("utf-8")
        if (better := repair(html)) != html:
            page.write_text(better, "utf-8")


def setup(app):
    app.connect("build-finished", repair_pages, priority=700)
    return {"version": "1", "parallel_read_safe": True, "parallel_write_safe": True}
