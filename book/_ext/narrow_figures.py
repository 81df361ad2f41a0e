"""Figures for telephones: `lib.figures` stores each twice, and a narrow page takes the other.

There panels stand below one another, as those of the figures that move do, and captions say so.
"""

import hashlib
import os
import re
from pathlib import Path

import nbformat

NARROW = "application/vnd.attribution-book.narrow+svg"  # lib.figures.NARROW, which loads matplotlib
WIDTH = 575
IMAGE = re.compile(
    r'(?<!-narrow\.svg">)<img\b[^>]*\bsrc="(?P<folder>[^"]*)(?P<name>[0-9a-f]{64})\.svg"[^>]*>'
)
CAPTION = re.compile(r"<figcaption\b.*?</figcaption>", re.DOTALL)
SIDE = re.compile(r"\b(?:Left|Right)(?=[:,])|(?<=; )right(?=,)|\bon the (?:left|right)\b")
STACKED = {"left": "above", "right": "below"}


def both_sides(caption: str) -> str:
    """A caption that says left and right where panels stand side by side, else above and below."""

    def pair(match: re.Match) -> str:
        beside = match[0]
        below = STACKED[beside.split()[-1].lower()]
        below = below.capitalize() if beside[0].isupper() else below
        return f'<span class="beside">{beside}</span><span class="stacked">{below}</span>'

    return caption if 'class="beside"' in caption else SIDE.sub(pair, caption)


def narrow_figures(folder: Path) -> dict[str, str]:
    """The narrow SVG of every figure of the notebooks, by the name Sphinx gives the wide one."""
    found = {}
    for path in folder.glob("*/*.ipynb"):
        for cell in nbformat.read(path, as_version=4).cells:
            for output in cell.get("outputs", ()):
                data = output.get("data", {})
                if NARROW in data:
                    wide = os.linesep.join(data["image/svg+xml"].splitlines())  # as MyST-NB does
                    found[hashlib.sha256(wide.encode()).hexdigest()] = data[NARROW]
    return found


def leave_out(app, docname, source):
    """Keep the narrow ones from MyST-NB, which would warn of a kind it does not know."""
    if NARROW not in source[0]:
        return
    notebook = nbformat.reads(source[0], as_version=4)
    for cell in notebook.cells:
        for output in cell.get("outputs", ()):
            output.get("data", {}).pop(NARROW, None)
    source[0] = nbformat.writes(notebook)


def offer_narrow(app, exception):
    """Give the pages just written both, for the browser to choose."""
    if exception or app.builder.format != "html":
        return
    figures = narrow_figures(Path(app.srcdir))
    out = Path(app.outdir)
    for name, svg in figures.items():
        if (out / "_images" / f"{name}.svg").exists():
            (out / "_images" / f"{name}-narrow.svg").write_text(svg, "utf-8")

    def both(match: re.Match) -> str:
        if match["name"] not in figures:
            return match[0]
        return (
            f'<picture><source media="(max-width: {WIDTH}px)" '
            f'srcset="{match["folder"]}{match["name"]}-narrow.svg">{match[0]}</picture>'
        )

    for page in out.rglob("*.html"):
        html = page.read_text("utf-8")
        better = CAPTION.sub(lambda match: both_sides(match[0]), IMAGE.sub(both, html))
        if better != html:
            page.write_text(better, "utf-8")


def setup(app):
    app.connect("source-read", leave_out)
    app.connect("build-finished", offer_narrow, priority=650)
    return {"version": "1", "parallel_read_safe": True, "parallel_write_safe": True}
