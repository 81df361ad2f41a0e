"""Copy MathJax into the built pages, so that they need no network."""

import shutil
from importlib.metadata import files
from pathlib import Path

# All that tex-chtml.js can ask for: itself, the TeX packages it loads on first use, the fonts.
WANTED = ("tex-chtml.js", "input/tex/extensions/", "output/chtml/fonts/woff-v2/")


def copy_mathjax(app):
    if app.builder.format != "html":
        return
    for source in files("sphinx-mathjax-offline"):
        _, found, name = source.as_posix().partition("static/mathjax/")
        target = Path(app.outdir, "_static", "mathjax", name)
        if found and name.startswith(WANTED) and not target.exists():
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(source.locate(), target)


def setup(app):
    app.connect("builder-inited", copy_mathjax)
    return {"version": "1", "parallel_read_safe": True, "parallel_write_safe": True}
