"""Make the built pages work without a network, from a server as from the disk."""

import re
import shutil
from importlib.metadata import files
from pathlib import Path

# All that tex-chtml.js can ask for: itself, TeX packages it loads later, the fonts.
WANTED = ("tex-chtml.js", "input/tex/extensions/", "output/chtml/fonts/woff-v2/")
PRELOADED_FONT = re.compile(r'<link rel="preload" as="font"[^>]*>\s*')


def copy_mathjax(app):
    """Take MathJax from its package: neither committed here nor fetched."""
    for source in files("sphinx-mathjax-offline"):
        _, found, name = source.as_posix().partition("static/mathjax/")
        target = Path(app.outdir, "_static", "mathjax", name)
        if found and name.startswith(WANTED) and not target.exists():
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(source.locate(), target)


def drop_font_preloads(app, exception):
    """Browsers refuse to preload a font from disk; the style sheet loads it."""
    for page in Path(app.outdir).rglob("*.html"):
        html = page.read_text("utf-8")
        if PRELOADED_FONT.search(html):
            page.write_text(PRELOADED_FONT.sub("", html), "utf-8")


def setup(app):
    app.connect("builder-inited", copy_mathjax)
    app.connect("build-finished", drop_font_preloads)
    return {"version": "1", "parallel_read_safe": True, "parallel_write_safe": True}
