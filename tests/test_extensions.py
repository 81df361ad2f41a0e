"""What the build does to pages: mathematics, style sheets, fonts, names for those who listen."""

import re
import sys
import unicodedata
from pathlib import Path
from xml.etree import ElementTree

import pytest
import tinycss2
from fontTools.ttLib import TTFont
from site_checks import ALL_SHOWN
from test_site import ROOT

sys.path.insert(0, str(ROOT / "book" / "_ext"))

from accessible import repair
from lighten import (
    CHOICE,
    SCROLLING,
    scripts_last,
    settled,
    used_rules,
    without_measuring,
    words_of,
)
from mathematics import FORMULA, typeset
from narrow_figures import both_sides


def test_formulas_become_markup_and_mathml():
    [inline, display], css = typeset([("w_i < 2", False), (r"\frac{1}{n}", True)], "fonts")
    for html in (inline, display):
        assert "<mjx-math" in html and "\\" not in html
    maths = [ElementTree.fromstring(re.search("<math.*</math>", h)[0]) for h in (inline, display)]
    assert "".join(maths[0].itertext()) == "wi<2"
    assert "".join(maths[1].itertext()) == "1n"
    assert maths[1].find(".//{*}mfrac") is not None
    assert 'url("fonts/' in css


@pytest.mark.parametrize("tex", [r"\frac{1}", r"\nosuchmacro", "a^b^c", r"\begin{aligned} a"])
def test_a_formula_that_fails_is_told_and_costs_no_other(tex):
    [bad, good], _ = typeset([(tex, True), ("x", False)], "fonts")
    assert bad["fault"] and "<math" in good


def _parts(tex, display=True):
    """A formula's letters, with ⟦ ⟧ around each part that a narrow page may move to a new line."""
    [html], _ = typeset([(tex, display)], "fonts")
    html = re.sub("<mjx-assistive.*", "", html)
    html = re.sub("<mjx-parts?>", "⟦", re.sub("</mjx-parts?>", "⟧", html))
    html = re.sub(r'<mjx-c class="mjx-c(\w+)[^>]*>', lambda letter: chr(int(letter[1], 16)), html)
    letters = unicodedata.normalize("NFKC", re.sub("<.*?>", "", html))
    return letters.replace("−", "-")


@pytest.mark.parametrize(
    ("tex", "parts"),
    [
        ("a + b", "⟦a⟧⟦+b⟧"),
        ("a = b + c", "⟦a⟧⟦⟦=b⟧⟦+c⟧⟧"),
        (r"a = b, \qquad c \le d", "⟦⟦a⟧⟦=b,⟧⟧⟦⟦c⟧⟦≤d⟧⟧"),
        (r"a = -b \approx c", "⟦a⟧⟦=-b⟧⟦≈c⟧"),
        (r"a\;=\; -b", "⟦a⟧⟦=-b⟧"),
        ("(a - b)^2 - c", "⟦(a-b)2⟧⟦-c⟧"),
        (r"\big(a = \{b - c\}\big) = [d - e]_f", "⟦(a={b-c})⟧⟦=[d-e]f⟧"),
        (r"\frac{a + b}{c} x_{i = j}", "a+bcxi=j"),
        (r"\begin{aligned} a &= b \\ &= c \end{aligned}", "a=b=c"),
        ("-a", "-a"),
    ],
)
def test_a_displayed_formula_may_break_between_its_largest_parts(tex, parts):
    assert _parts(tex) == parts
    assert _parts(tex, display=False) == re.sub("[⟦⟧]", "", parts)


@pytest.mark.parametrize(
    ("html", "inline", "display"),
    [
        (r'<span class="math notranslate">\(a &lt; b\)</span>', "a &lt; b", None),
        ('<div class="math notranslate" id="q">\n\\[\nx\n\\]</div>', None, "\nx\n"),
        (
            '<div class="math notranslate" id="q">\n<span class="eqno">(1)<a href="#q">#</a></span>'
            "\\[y\\]</div>",
            None,
            "y",
        ),
    ],
)
def test_formulas_are_found_where_sphinx_puts_them(html, inline, display):
    match = FORMULA.fullmatch(html)
    assert (match["inline"], match["display"]) == (inline, display)
    assert FORMULA.search(html.replace("math", "text")) is None


@pytest.mark.parametrize(
    ("css", "kept"),
    [
        (".used { a: b }", ".used{a: b}"),
        (".unused { a: b }", ""),
        (".unused, p.used::before { a: b }", "p.used::before{a: b}"),
        (".used .unused { a: b }", ""),
        ("p:not(.unused) { a: b }", "p:not(.unused){a: b}"),
        (":is(.unused, .used) { a: b }", ":is(.unused, .used){a: b}"),
        ("@media print { .unused { a: b } .used { c: d } }", "@media print {.used{c: d}}"),
        ("@media print { .unused { a: b } }", ""),
        ("@font-face { font-family: f }", "@font-face { font-family: f }"),
        (r".used\:more { a: b }", ""),
        ("html[data-theme=dark] { a: b }", "html[data-theme=dark]{a: b}"),
    ],
)
def test_rules_are_kept_if_their_classes_occur(css, kept):
    rules = tinycss2.parse_stylesheet(css, skip_comments=True, skip_whitespace=True)
    assert used_rules(rules, words_of(['<p class="used">'])) == kept


def test_a_broken_style_sheet_is_told():
    with pytest.raises(ValueError, match=r"style sheet: .* in line 2"):
        used_rules(tinycss2.parse_stylesheet("p { a: b }\n}", True, True), set())


def test_scripts_come_after_the_text_in_their_order():
    page = (
        '<head><script data-cfasync="false">first()</script><link rel="preload" href="x">'
        '<script src="a.js"></script><script src="vendor/fontawesome/6/all.js"></script>'
        "<script>b()</script></head><body><p>text</p>"
        "<!-- Scripts loaded after <body> --><script src='c.js'></script></body>"
    )
    light = scripts_last(page)
    order = [light.index(s) for s in ("first()", "text", "a.js", "b()", "c.js")]
    assert order == sorted(order)
    assert "fontawesome" not in light and "preload" not in light
    assert scripts_last(light) == light


def test_the_logo_lies_in_a_landmark():
    html = '<div class="bd-sidebar-primary bd-sidebar"><img></div>'
    assert 'role="region" aria-label="Book"' in repair(html)
    assert repair(repair(html)) == repair(html)


def test_fonts_have_every_character_the_style_sheet_shows(site):
    css = (site / "_static" / "bundle.css").read_text("utf-8")
    faces = re.findall(r"@font-face.*?\{(.*?)\}", css, re.DOTALL)
    fonts = {}
    for face in faces:
        family = re.search(r"font-family:\s*[\"']?([^;\"']+)", face)[1].strip()
        address = re.search(r'url\("([^"]+)"\)', face)[1]
        fonts[family] = set(TTFont(site / "_static" / address).getBestCmap() or ())
    icons = re.findall(r"\.fa-([\w-]+)::?before\{content:\s*\"(.)\"", css)
    assert len(icons) > 10
    for name, glyph in icons:
        family = "Font Awesome 6 Brands" if name == "github" else "Font Awesome 6 Free"
        assert ord(glyph) in fonts[family], name
    glyph = r"mjx-c\.mjx-c[0-9A-F]+(?:\.TEX-\w+)*::before \{[^}]*content: \"(.)\""
    shown = set(re.findall(glyph, css))
    assert len(shown) > 60
    in_mathematics = set().union(*(codes for name, codes in fonts.items() if "MJX" in name))
    assert {ord(glyph) for glyph in shown} <= in_mathematics


def _read(caption: str, kind: str) -> str:
    other = {"beside": "stacked", "stacked": "beside"}[kind]
    return re.sub("<[^>]+>", "", re.sub(rf'<span class="{other}">.*?</span>', "", caption))


@pytest.mark.parametrize(
    ("beside", "stacked"),
    [
        ("Left: a. Right: b.", "Above: a. Below: b."),
        ("Left, the one; right, the other.", "Above, the one; below, the other."),
        ("Worse on the left.", "Worse above."),
        ("The order is right, and most is left: all right.", None),
    ],
)
def test_captions_say_where_panels_stand(beside, stacked):
    both = both_sides(beside)
    assert _read(both, "beside") == beside
    assert _read(both, "stacked") == (stacked or beside)
    assert both_sides(both) == both


@pytest.mark.parametrize("page", ["search", "book/intro", "book/notation", "book/03d_power_series"])
def test_letters_of_formulas_are_there_before_the_first_layout(browser, site, server, page):
    opened = browser.new_page()
    fetched = []
    opened.on("request", lambda request: fetched.append(request.url))
    opened.goto(f"{server}/{page}.html", wait_until="networkidle")
    asked = opened.evaluate("[...document.querySelectorAll('link[rel=preload]')].map(a => a.href)")
    fonts = dict(
        opened.evaluate("document.fonts.ready.then(all => [...all].map(f => [f.family, f.status]))")
    )
    typeset = opened.locator("mjx-container").count() > 0
    opened.close()
    assert len(asked) >= (2 if typeset else 0)
    families = {
        "MathJax_Zero": "MJXZERO",
        "MathJax_Main-Regular": "MJXTEX",
        "MathJax_Math-Italic": "MJXTEX-I",
    }
    assert {fonts[families[Path(url).stem]] for url in asked} <= {"loaded"}
    assert "error" not in fonts.values()
    assert [fetched.count(url) for url in asked] == [1] * len(asked)  # and not once more by the CSS
    assert all(Path(site, url.removeprefix(server).lstrip("/")).is_file() for url in asked)


@pytest.mark.parametrize(("change", "old"), [(settled, CHOICE), (without_measuring, SCROLLING)])
def test_what_the_theme_does_slowly_is_changed_and_if_it_is_not_there_one_is_told(change, old):
    once = change(f"a = {old};")
    assert old not in once and change(once) == once
    with pytest.raises(ValueError, match="than before"):
        change("a = other;")


def test_what_is_not_marked_in_code_has_the_colour_of_all_code(site):
    colours = dict(
        re.findall(
            r"(\S+ \.highlight(?: \.\w+)?) {[^}]*color: (#\w+)",
            (site / "_static/pygments.css").read_text(),
        )
    )
    for theme in ("light", "dark"):
        code = f'html[data-theme="{theme}"] .highlight'
        assert [colours[f"{code} .{kind}"] for kind in "npw"] == [colours[code]] * 3
    page = (site / "book" / "04_unrolling.html").read_text("utf-8")
    assert '<span class="k">' in page and '<span class="n">' not in page


def test_a_page_is_light_or_dark_from_its_first_line(browser, site):
    address = Path(site, "book/intro.html").as_uri()
    for mode, scheme, shown in [
        ("", "dark", "dark"),
        ("", "light", "light"),
        ("light", "dark", "light"),
        ("dark", "light", "dark"),
    ]:
        page = browser.new_page(color_scheme=scheme)
        page.add_init_script(f"""localStorage.clear(); if ({mode!r}) localStorage.mode = {mode!r};
          window.seen = [];
          new MutationObserver(() => window.seen.push(document.documentElement.dataset.theme))
            .observe(document, {{ subtree: true, attributeFilter: ["data-theme"] }});""")
        page.goto(address)
        page.wait_for_function("document.readyState === 'complete'")
        assert set(page.evaluate("window.seen")) == {shown}
        page.close()


def test_code_that_scrolls_can_be_reached_by_the_keyboard(browser, site):
    page = browser.new_page(viewport={"width": 360, "height": 800})
    page.goto(Path(site, "book/04_unrolling.html").as_uri())
    style = page.add_style_tag(content=ALL_SHOWN)
    wide = page.evaluate_handle("""[...document.querySelectorAll("article pre[style]")].findLast(
      pre => pre.scrollWidth > pre.clientWidth && !pre.closest("details"))""").as_element()
    style.evaluate("style => style.remove()")
    wide.scroll_into_view_if_needed()
    page.wait_for_function("pre => pre.tabIndex === 0", arg=wide)
    page.close()


@pytest.mark.parametrize("width", [1280, 360])
def test_code_out_of_sight_is_as_high_as_in_sight(browser, site, width):
    page = browser.new_page(viewport={"width": width, "height": 800})
    page.goto(Path(site, "book/04_unrolling.html").as_uri())
    heights = """() => [...document.querySelectorAll("article pre[style]")]
      .map(pre => pre.getBoundingClientRect().height).filter(height => height)"""
    article = "document.querySelector('article').getBoundingClientRect().height"
    before, length = page.evaluate(heights), page.evaluate(article)
    assert len(before) > 5
    page.add_style_tag(content=ALL_SHOWN)
    assert page.evaluate(heights) == pytest.approx(before, abs=0.6)
    assert page.evaluate(article) == pytest.approx(length, rel=0.03)  # formulas are guessed at
    page.close()


def test_formulas_break_on_a_telephone_and_only_there(browser, site):
    page = browser.new_page(viewport={"width": 1280, "height": 800})
    page.goto(Path(site, "book/02b_curvature.html").as_uri())
    formulas = page.locator("div.math > mjx-container")
    heights = "all => all.map(f => f.getBoundingClientRect().height)"
    over = "all => all.filter(f => f.scrollWidth > f.clientWidth + 1).length"
    page.add_style_tag(content=ALL_SHOWN)
    wide = formulas.evaluate_all(heights)
    unbroken = "{ white-space: nowrap !important; flex-wrap: nowrap !important }"
    page.add_style_tag(content=f":is(mjx-math, mjx-parts) {unbroken}")
    assert formulas.evaluate_all(heights) == wide
    page.set_viewport_size({"width": 360, "height": 800})
    assert formulas.evaluate_all(over) > 5
    page.reload()
    page.add_style_tag(content=ALL_SHOWN)
    assert formulas.evaluate_all(over) == 0
    page.close()


def test_icons_are_drawn_from_the_font(browser, server):
    page = browser.new_page()
    page.goto(f"{server}/book/intro.html")
    page.evaluate("document.fonts.ready.then(() => true)")
    faces = page.evaluate("[...document.fonts].map(face => [face.family, face.status])")
    assert any("Font Awesome 6 Free" in family and at == "loaded" for family, at in faces)
    page.close()
