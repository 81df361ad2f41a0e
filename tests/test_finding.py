"""Finding one's way: search, index, cheat sheet, reports, the footer, pages moved or missing."""

import functools
import http.server
import importlib
import re
import subprocess
import threading
from pathlib import Path
from urllib.parse import parse_qs, urlencode, urlsplit

import nbformat
import pytest
import yaml
from site_checks import BASE, faults_of_page

from lib.comparison import ESTIMATORS
from lib.ledger import Held

ROOT = Path(__file__).resolve().parent.parent
CONFIG = yaml.safe_load((ROOT / "_config.yml").read_text("utf-8"))["sphinx"]["config"]
SHEET = (ROOT / "book" / "cheat_sheet.md").read_text("utf-8")
CARDS = re.findall(r":::\{grid-item-card\} (.+?)\n:::", SHEET, re.DOTALL)


@pytest.fixture
def extension(monkeypatch):
    """Imports a module of book/_ext."""
    monkeypatch.syspath_prepend(ROOT / "book" / "_ext")
    return importlib.import_module


@pytest.fixture
def page(browser):
    """A page that collects its errors, in `page.faults`."""
    page = browser.new_page(viewport={"width": 1280, "height": 900})
    page.faults = []
    page.on("pageerror", lambda error: page.faults.append(str(error)))
    page.on("console", lambda line: line.type == "error" and page.faults.append(line.text))
    yield page
    page.close()


# --- search, glossary, index ---------------------------------------------------------------------

WANTED = {
    "β": "data-weight",
    "beta": "data-weight",
    "data weight": "data-weight",
    "λ": "damping",
    "lambda": "damping",
    "damping": "damping",
    "H": "Hessian",
    "h": "leverage",
    "influence": "influence",
    "κ": "inverse-temperature",
    "φ": "observable",
    "phi": "observable",
    "h_j": "leverage",
    "BIF": "BIF",
    "LOO": "leave-one-out-effect",
    "EK-FAC": "EK-FAC",
    "SOURCE": "SOURCE",
    "Gauss–Newton matrix": "Gauss",
    "gauss-newton": "Gauss",
    "leverage": "leverage",
}


@pytest.mark.parametrize("start", ["server", "disk"])
def test_search_leads_to_the_definition(page, server, site, start):
    address = server if start == "server" else site.as_uri()
    definitions = (site / "book" / "glossary.html").read_text("utf-8")
    for query, term in WANTED.items():
        page.goto(f"{address}/search.html?{urlencode({'q': query})}", wait_until="commit")
        first = page.locator("#search-results li a").first
        first.wait_for(timeout=10_000)
        found, anchor = urlsplit(first.get_attribute("href")), term
        assert found.path == "book/glossary.html", query
        entry = re.search(rf'((?:<dt [^\n]*?</dt>)*<dt id="{found.fragment}".*?)</?dd', definitions)
        assert re.search(rf'id="term-{anchor}', entry[1]), (query, found.fragment)
        assert "Glossary > " in first.inner_text()
    assert page.faults == []


def test_search_finds_a_symbol_on_the_page_of_notation(page, site):
    page.goto(f"{site.as_uri()}/search.html?q=%CE%BA")
    page.locator("#search-results li a[href^='book/notation.html']").first.wait_for(timeout=10_000)


def test_query_and_index_spell_greek_alike(extension, page, site):
    words = extension("words")
    page.goto(f"{site.as_uri()}/search.html")
    for text in ("φ", "η̄K and κ", "ϵ-δ", "Gauss–Newton", "β_i λΩ"):
        assert page.evaluate("text => splitQuery(text)", text) == words.BookSearch({}).split(text)
    assert words.named(r"\varphi(\pi)") == r"\phi(\pi)"


def test_every_entry_of_the_glossary_leads_somewhere(extension, site):
    source = (ROOT / "book" / "glossary.md").read_text("utf-8")
    entries = re.findall(r"^  .+(?:\n  .+)*", source.partition(":::{glossary}")[2], re.MULTILINE)
    assert len(entries) > 90
    for entry in entries:
        assert re.search(r"\{(eq|doc|prf:ref)\}`", entry), entry
    index = (site / "genindex.html").read_text("utf-8")
    for term in extension("words").glossary_terms(source):
        assert f"<strong>{term.replace(chr(39), '&#39;')}</strong>" in index, term
    assert 'href="book/02_influence_functions.html#index-leverage"' in index  # set off in the text


# --- the cheat sheet -----------------------------------------------------------------------------


def _on_the_sheet() -> set[str]:
    """The functions named on it, as module.name: `lib.a`: `f`, `g`; `h`."""
    found = set()
    for line in re.findall(r"^: (`lib\..+)$", SHEET, re.MULTILINE):
        for name in re.findall(r"`([\w.]+)`", line.partition(" · ")[0]):
            if name.startswith("lib."):
                module = name.removeprefix("lib.")
            else:
                found.add(f"{module}.{name}")
    return found


def test_names_on_the_sheet_exist():
    for name in _on_the_sheet():
        module, _, function = name.partition(".")
        assert hasattr(importlib.import_module(f"lib.{module}"), function), name


# What takes an observable or queries and is no estimator: a solver, a way of drawing, a piece.
NOT_ESTIMATORS = {
    "bayesian.average",
    "bayesian.susceptibility_by_definition",
    "similarity.margins",
    "unrolling.adjoint_at_end",
    "unrolling.pull_back",
}


@pytest.mark.parametrize(
    "module",
    ["bayesian", "counterfactuals", "influence", "replay", "similarity", "source", "unrolling"],
)
def test_every_estimator_of_the_library_is_on_the_sheet(module):
    space = vars(importlib.import_module(f"lib.{module}"))
    asked = {"phi", "queries", "value"}
    estimators = {
        f"{module}.{name}"
        for name, function in space.items()
        if getattr(function, "__module__", "") == f"lib.{module}"
        and not name.startswith("_")
        and asked & set(getattr(function, "__annotations__", {}))
        and not isinstance(function, type)
    }
    assert estimators, module
    assert estimators - NOT_ESTIMATORS <= _on_the_sheet()


def test_every_row_of_the_comparison_is_on_the_sheet():
    text = re.sub(r"\$[^$]*\$", "", "\n".join(CARDS))
    rows = re.findall(r"(?<!\*)\*([^*\n]+)\*(?!\*)", text)
    assert sorted(rows) == sorted(estimator.name for estimator in ESTIMATORS)


def _bare(tex: str) -> str:
    """TeX without what only spaces it."""
    tex = re.sub(r"\\(?:displaystyle|quad|[,;!:])|[\s&]", "", tex.replace(r"\ ", ""))
    return tex.rstrip(".,")


def test_formulas_on_the_sheet_are_those_of_the_chapters():
    equations = {}
    for path in ROOT.glob("book/*.ipynb"):
        for cell in nbformat.read(path, as_version=4).cells:
            for tex, label in re.findall(
                r"^\$\$\n(.*?)\n\$\$ \((eq-[\w-]+)\)", cell.source, re.DOTALL | re.MULTILINE
            ):
                equations[label] = _bare(tex)
    quoted = re.findall(r"\$\\displaystyle ([^$]+)\$ \{eq\}`([\w-]+)`", SHEET)
    assert len(quoted) > 25
    for tex, label in quoted:
        assert _bare(tex) in equations[label], label


def test_the_sheet_has_two_printed_sides(page, site):
    page.goto(f"{site.as_uri()}/book/cheat_sheet.html")
    page.evaluate("document.fonts.ready.then(() => true)")
    printed = page.pdf(prefer_css_page_size=True)
    assert len(re.findall(rb"/Type\s*/Page\b", printed)) == 2


# --- reporting a problem -------------------------------------------------------------------------

FORM = yaml.safe_load((ROOT / ".github" / "ISSUE_TEMPLATE" / "erratum.yml").read_text("utf-8"))


def _asked(address: str) -> dict[str, str]:
    """What a report's address fills in, after a look at the form."""
    parts = urlsplit(address)
    assert f"https://{parts.netloc}{parts.path}" == (
        CONFIG["html_theme_options"]["repository_url"] + "/issues/new"
    )
    values = {key: value for key, [value] in parse_qs(parts.query).items()}
    assert values.pop("template") == "erratum.yml"
    assert set(values) <= {part["id"] for part in FORM["body"]}
    return values


def _report(page) -> dict[str, str]:
    footer = page.get_by_role("link", name="Report a problem with this page")
    footer.dispatch_event("pointerdown")
    return _asked(footer.get_attribute("href"))


def test_a_report_names_the_page_without_scripts(browser, site):
    context = browser.new_context(java_script_enabled=False)
    page = context.new_page()
    page.goto(f"{site.as_uri()}/book/02_influence_functions.html")
    addresses = page.locator('a[href*="issues/new"]').evaluate_all("all => all.map(a => a.href)")
    context.close()
    found = [_asked(address) for address in addresses]
    assert {values["page"].partition(" (")[2] for values in found} == {
        "book/02_influence_functions.html)"
    }
    assert "eq-deletion" in {values.get("cell") for values in found}
    assert sum("cell" not in values for values in found) == 2  # in the header and in the footer


def test_a_report_tells_the_section_and_what_was_clicked(page, site):
    page.goto(f"{site.as_uri()}/book/02_influence_functions.html")
    page.evaluate("document.fonts.ready.then(() => true)")
    page.evaluate(
        "document.getElementById('what-leverage-is').scrollIntoView({behavior: 'instant'})"
    )
    assert re.fullmatch(r"section “[\d. ]*What leverage is”", _report(page)["cell"])
    line = page.locator("#check-eq-cook")
    line.click(position={"x": 3, "y": 3})
    assert _report(page)["cell"].startswith("eq-cook, section “")
    page.evaluate("scrollTo({top: 0, behavior: 'instant'})")
    assert _report(page)["cell"].startswith("section")  # no longer in sight


# --- the footer ----------------------------------------------------------------------------------


def test_every_page_tells_version_and_date(site, extension):
    finding = extension("finding")
    stamp = ", ".join(filter(None, (f"Version {finding.VERSION}", finding.last_change())))
    pages = [p for p in site.rglob("*.html") if "_static" not in p.parts]
    moved = {site / f"{page}.html" for page in CONFIG["redirects"]} | {site / "index.html"}
    for path in pages:
        if path not in moved:
            assert f'<p class="finding">{stamp} · ' in path.read_text("utf-8"), path


def test_date_comes_from_the_environment_or_the_history(extension, monkeypatch):
    finding = extension("finding")
    monkeypatch.setenv("SOURCE_DATE_EPOCH", "86399")
    assert finding.last_change() == "1 January 1970"
    monkeypatch.delenv("SOURCE_DATE_EPOCH")
    monkeypatch.setattr(finding, "ROOT", Path("/"))
    assert finding.last_change() == ""


def test_the_citation_has_the_version_of_the_library(extension):
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text("utf-8"))
    assert str(citation["version"]) == extension("finding").VERSION


# --- the lines of the checks ---------------------------------------------------------------------


def test_a_stored_line_is_recognised(extension):
    finding = extension("finding")
    for label in ("eq-loo", "erratum-pull"):
        [[_, found, _]] = finding.HELD.findall(Held(label, "1 < 2, as it should")._repr_html_())
        assert found == label


# --- pages that moved, and pages that are not there ----------------------------------------------


@pytest.mark.parametrize("scripts", [True, False])
def test_a_moved_page_leads_to_the_new_one(browser, site, scripts):
    context = browser.new_context(java_script_enabled=scripts)
    page = context.new_page()
    for old, new in CONFIG["redirects"].items():
        page.goto(f"{site.as_uri()}/{old}.html#top")
        page.wait_for_url(lambda url, new=new: urlsplit(url).path.endswith(f"/{new}"))
        if scripts:
            assert urlsplit(page.url).fragment == "top"
    context.close()


def test_every_page_that_moved_has_a_redirect():
    log = subprocess.run(
        [
            "git",
            "log",
            "--diff-filter=RD",
            "-M",
            "--name-status",
            "--format=",
            "--",
            "book",
            "solutions",
        ],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    ).stdout
    gone = {Path(line.split("\t")[1]) for line in log.splitlines() if "\t" in line}
    pages = {p for p in gone if p.suffix in (".md", ".ipynb") and not (ROOT / p).exists()}
    assert {p.with_suffix("").as_posix() for p in pages} <= set(CONFIG["redirects"])


@pytest.fixture(scope="module")
def published(site):
    """A server that keeps the site where it will lie, and shows 404.html as GitHub does."""

    class Handler(http.server.SimpleHTTPRequestHandler):
        def translate_path(self, path):
            inside = urlsplit(path).path
            return super().translate_path("/" + inside.removeprefix(BASE) if BASE in inside else "")

        def send_error(self, code, *_):
            body = (site / "404.html").read_bytes()
            self.send_response(200)  # a browser would note a 404 as an error of the page
            self.send_header("Content-Type", "text/html; charset=utf-8")
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_):
            pass

    handler = functools.partial(Handler, directory=site)
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as httpd:
        threading.Thread(target=httpd.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{httpd.server_port}"
        httpd.shutdown()


@pytest.mark.parametrize("address", ["no-such", "book/no/such/page.html"])
def test_what_is_not_there_is_helped_on_at_any_depth(browser, published, address):
    assert urlsplit(CONFIG["html_baseurl"]).path == BASE
    assert faults_of_page(browser, f"{published}{BASE}{address}", published) == []
    page = browser.new_page()
    page.goto(f"{published}{BASE}{address}")
    assert page.locator("h1:visible").inner_text() == "Nothing at this address"
    page.get_by_role("link", name="Notation").first.wait_for()
    page.locator("form.not-found input").fill("leverage")
    page.keyboard.press("Enter")
    page.locator("#search-results li a").first.wait_for(timeout=10_000)
    assert urlsplit(page.url).path == f"{BASE}search.html"
    page.close()
