"""Make the built pages light, and able to work without a network, from a server as from the disk.

The theme asks for a dozen style sheets, most of their rules unused, and an icon set of half a
megabyte as a script. Pages get one style sheet with the rules they use and a font of the icons they
show; no script is loaded before the text. What else keeps a telephone busy is changed or left
out: see CHOICE, SCROLLING and PLAIN.
"""

import hashlib
import posixpath
import re
import shutil
from itertools import pairwise
from pathlib import Path

import tinycss2
from fonts import cut

BUNDLE = "bundle.css"
ICONS = "vendor/fontawesome"
STYLE = re.compile(r'<link\b[^>]*?href="(?P<up>[^"]*?)_static/(?P<name>[^"?]+\.css)[^"]*"[^>]*>\s*')
SCRIPT = re.compile(r"<script\b[^>]*>.*?</script>\s*", re.DOTALL)
PRELOAD = re.compile(r'<link rel="preload"[^>]*>\s*')
AFTER_BODY = "<!-- Scripts loaded after <body>"
URL = re.compile(r"""url\((?P<quote>["']?)(?!data:|#)(?P<to>[^)"']+)(?P=quote)\)""")
ICON = re.compile(r"\\(?P<code>[ef][0-9a-f]{3})\b|(?P<itself>[\ue000-\uf8ff])")
COMMENT = re.compile(r"/\*.*?\*/", re.DOTALL)

CHOICE = 'dataset.theme = localStorage.getItem("theme") || "auto"'
SETTLED = (
    'dataset.theme = ((mode) => /^(light|dark)$/.test(mode) ? mode : matchMedia("(prefers-color-'
    'scheme: dark)").matches ? "dark" : "light")(document.documentElement.dataset.mode)'
)
"""The theme finds out at the end whether a page is light or dark, and all is styled once more."""
SCROLLING = "pre, .nboutput > .output_area, .cell_output > .output, .jp-RenderedHTMLCommon"
"""The theme measures each of these in turn, at the start and after every change of the page, a
figure that moves included; `book.js` does it for those near the reader."""

NOTHING = "no-such-element"
PLAIN = re.compile(r'<span class="[npw]">([^<]*)</span>')
"""Names, punctuation, spaces: a third of a page's elements, in the colour of all code."""
CODE = re.compile(r"<pre>(?=<span></span>)(.*?)</pre>", re.DOTALL)


def measured(html: str) -> str:
    """A page whose code says how many lines it has: out of sight it is not laid out."""
    return CODE.sub(
        lambda code: f'<pre style="--lines: {code[1].count(chr(10))}">{code[1]}</pre>', html
    )


def settled(html: str) -> str:
    """A page that knows from its first line whether it is light or dark."""
    if CHOICE not in html and SETTLED not in html:
        raise ValueError("the theme chooses between light and dark in another way than before")
    return html.replace(CHOICE, SETTLED)


def without_measuring(script: str) -> str:
    """The theme's script, which now finds nothing to measure."""
    if SCROLLING not in script and NOTHING not in script:
        raise ValueError("the theme's script looks for what scrolls in another way than before")
    return script.replace(SCROLLING, NOTHING)


def words_of(texts) -> set[str]:
    """Everything in pages and scripts that could be the name of a class."""
    return {word for text in texts for word in re.findall(r"[\w-]+", text)}


def _classes(selector: list) -> set[str]:
    """The classes a selector needs; those inside :not(), :is() and the like decide nothing."""
    return {b.value for a, b in pairwise(selector) if a == "." and b.type == "ident"}


def _alternatives(prelude: list) -> list[list]:
    found = [[]]
    for token in prelude:
        if token == ",":
            found.append([])
        else:
            found[-1].append(token)
    return found


def used_rules(rules: list, words: set[str]) -> str:
    """A style sheet without the rules whose classes occur nowhere."""
    kept = []
    for rule in rules:
        if rule.type == "qualified-rule":
            selectors = [s for s in _alternatives(rule.prelude) if _classes(s) <= words]
            if selectors:
                chosen = ",".join(tinycss2.serialize(s).strip() for s in selectors)
                kept.append(f"{chosen}{{{tinycss2.serialize(rule.content).strip()}}}")
        elif rule.type == "at-rule" and rule.at_keyword in (
            "media",
            "supports",
            "layer",
        ):
            if rule.content is None:
                kept.append(rule.serialize())
                continue
            inner = used_rules(tinycss2.parse_rule_list(rule.content, True, True), words)
            if inner:
                kept.append(f"@{rule.at_keyword}{tinycss2.serialize(rule.prelude)}{{{inner}}}")
        elif rule.type == "at-rule" and rule.at_keyword != "charset":
            kept.append(rule.serialize())
        elif rule.type == "error":
            raise ValueError(f"style sheet: {rule.message} in line {rule.source_line}")
    return "\n".join(kept)


def _sheet(static: Path, name: str) -> str:
    """A style sheet with what it imports put in, its addresses relative to the static folder."""
    text = COMMENT.sub("", (static / name).read_text("utf-8"))

    def imported(match: re.Match) -> str:
        return _sheet(
            static,
            posixpath.normpath(posixpath.join(posixpath.dirname(name), match[1])),
        )

    def address(match: re.Match) -> str:
        to = posixpath.normpath(posixpath.join(posixpath.dirname(name), match["to"]))
        return f'url("{to}")'

    parts = re.split(r"""(@import ["'][^"']+["'];)""", text)
    return "".join(
        re.sub(r"""@import ["']([^"']+)["'];""", imported, part)
        if part.startswith("@import")
        else URL.sub(address, part)
        for part in parts
    )


def _small_fonts(static: Path, css: str) -> str:
    """Cut the icon fonts down to the icons that the style sheet names."""
    wanted = {int(code, 16) if code else ord(itself) for code, itself in ICON.findall(css)}
    for name, family in (("fa-solid-900", "Free"), ("fa-brands-400", "Brands")):
        [source] = static.glob(f"{ICONS}/*/webfonts/{name}.ttf")
        cut(source, static / f"{name}.woff", wanted)
        weight = 900 if family == "Free" else 400
        css += (
            f'\n@font-face{{font-family:"Font Awesome 6 {family}";font-weight:{weight};'
            f'font-display:block;src:url("{name}.woff")}}'
        )
    return css


def bundle(static: Path, names: list[str], words: set[str]) -> str:
    """One style sheet of those named, in their order, with what is used."""
    parts = []
    for name in names:
        text = _sheet(static, name)
        if ICONS in name:
            text = re.sub(r"@font-face\s*\{[^}]*\}", "", text)
        rules = tinycss2.parse_stylesheet(text, skip_comments=True, skip_whitespace=True)
        # MathJax wrote only what is used, and its scripts are not here to be searched.
        parts.append(text if name == "mathematics.css" else used_rules(rules, words))
    return _small_fonts(static, "\n".join(parts))


def scripts_last(html: str) -> str:
    """Move the scripts of the head to the end of the body; without the icons' script."""
    head, body = html.split("</head>", 1)
    moved = [
        script
        for script in SCRIPT.findall(head)
        if "data-cfasync" not in script  # the theme and letters, before anything is drawn
    ]
    for script in moved:
        head = head.replace(script, "", 1)
    moved = "".join(script for script in moved if f"{ICONS}/" not in script)
    head = PRELOAD.sub("", head)
    if AFTER_BODY in body:
        return f"{head}</head>{body.replace(AFTER_BODY, moved + AFTER_BODY, 1)}"
    return f"{head}{moved}</head>{body}"


def lighten(app, exception):
    """Rewrite the pages just written."""
    if exception or app.builder.format != "html":
        return
    out = Path(app.outdir)
    static = out / "_static"
    texts = {page: page.read_text("utf-8") for page in sorted(out.rglob("*.html"))}
    pages = {page: html for page, html in texts.items() if static not in page.parents}
    fresh = [html for html in pages.values() if len(STYLE.findall(html)) > 1]
    if not fresh:
        return
    names = [name for _, name in STYLE.findall(fresh[0]) if name != BUNDLE]
    for html in fresh:
        if [name for _, name in STYLE.findall(html) if name != BUNDLE] != names:
            raise ValueError("pages ask for different style sheets; one bundle cannot serve them")
    scripts = (p.read_text("utf-8") for p in static.rglob("*.js") if ICONS not in p.as_posix())
    css = bundle(static, names, words_of([*pages.values(), *scripts]))
    (static / BUNDLE).write_text(css, "utf-8")
    version = hashlib.sha256(css.encode()).hexdigest()[:8]
    for page, html in pages.items():
        found = STYLE.search(html)
        if not found:
            continue
        link = f'<link rel="stylesheet" href="{found["up"]}_static/{BUNDLE}?v={version}" />\n'
        first = found.start()
        light = html[:first] + link + STYLE.sub("", html[first:])
        page.write_text(measured(PLAIN.sub(r"\1", settled(scripts_last(light)))), "utf-8")
    theme = static / "scripts" / "pydata-sphinx-theme.js"
    theme.write_text(without_measuring(theme.read_text("utf-8")), "utf-8")
    shutil.rmtree(static / "vendor")


def setup(app):
    app.connect("build-finished", lighten, priority=900)
    return {"version": "1", "parallel_read_safe": True, "parallel_write_safe": True}
