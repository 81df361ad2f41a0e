"""What is asked of every built page, in a browser and in its links."""

import gzip
import re
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

from axe_playwright_python.base import AXE_FILE_PATH

WIDTHS = (320, 360, 768)

FIRST_VISIT = 250_000
"""Bytes, packed, that a page may load on a first visit beside scripts and explorables."""

_EXPLORABLE = re.compile(r'<figure class="explore".*?</figure>|<script>.*?</script>', re.DOTALL)

_FAULTS_OF_CONTENT = r"""() => {
  const faults = [];
  const short = (text) => text.trim().replace(/\s+/g, " ").slice(0, 100);
  const seen = (element) => element.getClientRects().length > 0;
  // One more heading is there for print alone.
  const headings = [...document.querySelectorAll("h1")].filter(seen).length;
  if (headings !== 1) faults.push(`headings: ${headings} h1 elements`);
  for (const image of document.querySelectorAll("img"))
    if (!(image.getAttribute("alt") || "").trim()) faults.push(`alt: none for ${short(image.src)}`);
  const words = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  for (let node = words.nextNode(); node; node = words.nextNode())
    if (/\$\$|\\[([]/.test(node.data) && !node.parentElement.closest("script, style, pre, code"))
      faults.push(`raw TeX: ${short(node.data)}`);
  const levels = [...document.querySelectorAll("article :is(h1, h2, h3, h4, h5, h6)")].filter(seen);
  levels.forEach((heading, k) => {
    if (k && heading.tagName[1] - levels[k - 1].tagName[1] > 1)
      faults.push(`headings: ${heading.tagName} "${short(heading.textContent)}" skips a level`);
  });
  return faults;
}"""

_FAULTS_OF_WIDTH = r"""() => {
  const width = document.documentElement.clientWidth;
  const scrolls = (element) => {
    for (let at = element.parentElement; at && at !== document.body; at = at.parentElement)
      if (!["visible", "clip"].includes(getComputedStyle(at).overflowX)) return true;
    return false;
  };
  // Glyphs go no further than the formula around them.
  const wide = [...document.querySelectorAll("article *:not(mjx-math *)")].find((element) => {
    const box = element.getBoundingClientRect();
    return box.width > 1 && box.height > 1 && box.right > width + 1 && !scrolls(element);
  });
  const page = document.documentElement.scrollWidth;
  if (wide) return [`overflow at ${width} px: ${wide.outerHTML.slice(0, 100)}`];
  return page > width ? [`overflow at ${width} px: the page is ${page} px wide`] : [];
}"""

# Figures are lettered in 10.5 points, 14 pixels: 10 of them are left, or the drawing scrolls.
_FAULTS_OF_LETTERING = r"""async () => {
  const figures = [...document.querySelectorAll("article .cell_output img")];
  await Promise.allSettled(figures.map((image) => image.decode()));
  return figures.flatMap((image) => {
    const box = image.closest(".output, figure");
    const scale = image.getBoundingClientRect().width / image.naturalWidth;
    return scale >= 0.7 || !scale || box.scrollWidth > box.clientWidth
      ? [] : [`lettering at ${innerWidth} px: ${image.currentSrc.slice(-40)} is drawn at ${scale}`];
  });
}"""

ALL_SHOWN = "* { content-visibility: visible !important }"
"""Style for a page whose code and formulas are looked at far from the reader too."""
SHOW_ALL = f"""() => document.head.append(
  Object.assign(document.createElement("style"), {{ textContent: {ALL_SHOWN!r} }}))"""
"""The same for pages whose own scripts are off, where Playwright waits for ever to add a style."""

# Pages measure, and start, what comes near. A window as tall as the page would take the browser
# twenty seconds to paint; so it tells pages that everything is near.
_ALL_IS_NEAR = """window.IntersectionObserver = class {
  constructor(told) { this.told = told; }
  observe(target) {
    const entry = () => ({
      target, isIntersecting: true, boundingClientRect: target.getBoundingClientRect()
    });
    setTimeout(() => this.told([entry()], this));
  }
  unobserve() {}
  disconnect() {}
};
addEventListener("DOMContentLoaded", () => {
  const all = document.createElement("style");
  all.textContent = STYLE;
  document.head.append(all);
});""".replace("STYLE", repr(ALL_SHOWN))

_SETTLED = "new Promise(done => requestAnimationFrame(() => requestAnimationFrame(done)))"

_BRIGHTNESS = r"""() => {
  const rgb = getComputedStyle(document.body).backgroundColor.match(/[\d.]+/g).slice(0, 3);
  return rgb.reduce((sum, value) => sum + Number(value) / 765, 0);
}"""


# axe takes seconds for thousands of elements, and judges them by tag, class, style, and by which
# attributes, children and parents they have: of elements alike in all that, two are left. Glyphs of
# mathematics are hidden from assistive technology, which has MathML, where axe has no rules.
THIN = r"""() => {
  for (const glyphs of document.querySelectorAll("mjx-math")) glyphs.replaceChildren();
  for (const formula of document.querySelectorAll("math")) formula.textContent = "x";
  const numbers = new Map(), counts = new Map();
  const number = (...parts) => {
    const key = JSON.stringify(parts);
    if (!numbers.has(key)) numbers.set(key, numbers.size);
    return numbers.get(key);
  };
  const thin = (element, parents) => {
    const looks = ["class", "style", "role", "type"].map((name) => element.getAttribute(name));
    const own = number(parents, element.tagName, looks, element.getAttributeNames().sort());
    const inside = [...element.children].map((child) => thin(child, own)).sort();
    const text = [...element.childNodes].some((node) => node.nodeType === 3 && node.data.trim());
    const kind = number(own, text, [...new Set(inside)]);
    counts.set(kind, (counts.get(kind) || 0) + 1);
    // A list of definitions is one thing: a term without its text would be a fault.
    if (counts.get(kind) > 2 && element.parentElement.tagName !== "DL") element.remove();
    return kind;
  };
  thin(document.body);
}"""


_AXE = """options => axe.run({ resultTypes: ["violations"], ...options }).then(({ violations }) =>
  violations.flatMap(({ id, impact, nodes }) =>
    nodes.map(({ html }) => `axe: ${id} (${impact}): ${html.slice(0, 100)}`)))"""


def _faults_of_access(page, **options) -> list[str]:
    """What axe, which the page has loaded, finds on it, of any impact."""
    return page.evaluate(_AXE, options)


def _show(page, theme: str) -> None:
    page.emulate_media(color_scheme=theme)
    page.wait_for_function("theme => document.documentElement.dataset.theme === theme", arg=theme)


def weight(paths: set[str], folder: Path) -> dict[str, int]:
    """Bytes, packed, of the files loaded, without scripts and what explorables carry with them."""
    found = {}
    for path in paths:
        file = folder / unquote(path).lstrip("/")
        if not file.is_file() or file.suffix == ".js":
            continue
        if file.suffix == ".html":
            text = _EXPLORABLE.sub("", file.read_text("utf-8"))
            found[file.name] = len(gzip.compress(text.encode(), 6))
        else:
            packs = file.suffix in (".css", ".svg")
            body = file.read_bytes()
            found[file.name] = len(gzip.compress(body, 6) if packs else body)
    return found


def faults_of_page(browser, url: str, site: str, *, folder: Path | None = None) -> list[str]:
    """Open url and list what is wrong with it; all that it loads must lie under `site`.

    folder: where the files of the site are. Without it widths, weight and what axe checks are left
    out.
    """
    faults = []
    # Without motion nothing is caught halfway between two colours.
    context = browser.new_context(
        viewport={"width": 1280, "height": 900}, color_scheme="light", reduced_motion="reduce"
    )
    page = context.new_page()
    page.add_init_script(_ALL_IS_NEAR)

    def on_request(request):
        if not request.url.startswith((site, "data:", "blob:")):
            faults.append(f"request: {request.url}")

    def on_response(response):
        if response.status >= 400:
            faults.append(f"status {response.status}: {response.url}")

    paths = set()
    page.on("request", on_request)
    page.on("requestfinished", lambda request: paths.add(urlsplit(request.url).path))
    page.on("response", on_response)
    page.on("requestfailed", lambda request: faults.append(f"failed: {request.url}"))

    def on_script_error(error):
        faults.append(f"script: {error}")

    def on_console(line):
        if line.type in ("error", "warning"):  # a font that cannot be read is only a warning
            faults.append(f"console: {line.text}")

    page.on("pageerror", on_script_error)
    page.on("console", on_console)
    page.goto(url, wait_until="load")
    page.evaluate("document.fonts.ready.then(() => true)")
    faults += page.evaluate(_FAULTS_OF_CONTENT)
    if folder:
        loads = weight(paths, folder)
        if sum(loads.values()) > FIRST_VISIT:
            heaviest = sorted(loads.items(), key=lambda at: -at[1])[:5]
            faults.append(f"weight: {sum(loads.values())} bytes, most of them {heaviest}")
        for width in WIDTHS:
            page.set_viewport_size({"width": width, "height": 800})
            page.evaluate(_SETTLED)
            faults += page.evaluate(_FAULTS_OF_WIDTH)
            if width == min(WIDTHS):
                faults += page.evaluate(_FAULTS_OF_LETTERING)
        page.set_viewport_size({"width": 1280, "height": 900})
        _show(page, "dark")
        # From here on the scripts miss what is taken out.
        page.remove_listener("pageerror", on_script_error)
        page.remove_listener("console", on_console)
        page.evaluate(THIN)
        page.evaluate(AXE_FILE_PATH.read_text("utf-8"))
        # Of what axe checks, the theme changes colours alone.
        rules = {"type": "rule", "values": ["color-contrast", "link-in-text-block"]}
        in_colour = _faults_of_access(page, runOnly=rules)
        faults += [f"dark: {fault}" for fault in in_colour]
        _show(page, "light")
        faults += _faults_of_access(page, rules={"target-size": {"enabled": True}})
    context.close()
    return faults


def faults_of_dark_mode(browser, url: str) -> list[str]:
    """Press the theme button until the page says it is dark, and see whether it is."""
    page = browser.new_page(viewport={"width": 1280, "height": 900}, color_scheme="light")
    page.goto(url, wait_until="load")
    light = page.evaluate(_BRIGHTNESS)
    for _ in range(3):
        page.locator("button.theme-switch-button:visible").first.click()
        if page.locator("html").get_attribute("data-theme") == "dark":
            break
    dark = page.evaluate(_BRIGHTNESS)
    page.close()
    return [] if light > 0.8 and dark < 0.2 else [f"dark mode: brightness {light} then {dark}"]


# Where the site lies on its server; the links of 404.html, which is shown at any address, begin so.
BASE = "/attribution-book/"


class _Links(HTMLParser):
    def __init__(self, html: str):
        super().__init__()
        self.ids, self.targets = set(), []
        self.feed(html)

    def handle_starttag(self, tag, attributes):
        named = dict(attributes)
        self.ids.add(named.get("id"))
        self.targets += [named[key] for key in ("href", "src") if named.get(key)]


def faults_of_links(site: Path) -> list[str]:
    """Links inside the site that lead to no file, or to no place in it."""
    files = [path for path in sorted(site.rglob("*.html")) if "_static" not in path.parts]
    pages = {path: _Links(path.read_text("utf-8")) for path in files}
    faults = []
    for path, links in pages.items():
        for target in links.targets:
            parts = urlsplit(target)
            if parts.scheme or parts.netloc:
                continue
            folder = site if parts.path.startswith(BASE) else path.parent
            inside = folder / unquote(parts.path.removeprefix(BASE))
            file = inside.resolve() if parts.path else path
            place = unquote(parts.fragment)
            if not file.is_file():
                faults.append(f"{path.relative_to(site)}: no file {target}")
            elif place and file in pages and place not in pages[file].ids:
                faults.append(f"{path.relative_to(site)}: no place {target}")
    return faults
