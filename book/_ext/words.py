"""Search and index that find symbols and terms.

Greek letters are found by sign and by name. A term of the glossary is listed where
the glossary defines it and where a chapter first sets it off, in bold or italics.
"""

import json
import re
import unicodedata
from pathlib import Path

from docutils import nodes
from sphinx import addnodes
from sphinx.search.en import SearchEnglish
from sphinx.transforms import SphinxTransform

GREEK = {
    chr(code): unicodedata.name(chr(code)).split()[-1].lower().replace("lamda", "lambda")
    for code in range(ord("α"), ord("ω") + 1)
    if chr(code) != "ς"
} | {"ϕ": "phi", "ϱ": "rho", "ϵ": "epsilon"}
SIGNS = re.compile("|".join(GREEK))
VARIANT = re.compile(r"\\var(?=phi|rho|epsilon|theta)")
DASH = re.compile("[‐‑‒–—−]")

# The same for what a reader types; the rest is Sphinx's own.
SPLITTER = """\
const GREEK = <names>;
var splitQuery = (query) =>
  query
    .replace(/[α-ωϕϱϵ]/gu, (letter) => ` ${GREEK[letter] || letter} `)
    .split(/[^\\p{Letter}\\p{Number}_\\p{Emoji_Presentation}]+/gu)
    .filter((term) => term);
""".replace("<names>", json.dumps(GREEK, ensure_ascii=False))


def named(text: str) -> str:
    """Greek letters by their names, in TeX too: "φ" and "\\varphi" become "phi"."""
    return VARIANT.sub(r"\\", SIGNS.sub(lambda found: f" {GREEK[found[0]]} ", text))


def as_typed(term: str) -> str:
    """A term as a keyboard has it: a hyphen for a dash, "beta" for "β"."""
    return " ".join(DASH.sub("-", named(term)).split())


class BookSearch(SearchEnglish):
    """English, with Greek letters spelt out in the index and in the query."""

    js_splitter_code = SPLITTER

    def split(self, input: str) -> list[str]:
        return super().split(named(input))


def glossary_terms(text: str) -> set[str]:
    """The terms of the glossary's source: what is not indented in its directive."""
    inside = text.partition(":::{glossary}")[2].partition("\n:::")[0]
    lines = re.findall(r"^(?![\s:]).+$", inside, re.MULTILINE)
    return {line.partition(" : ")[0].strip("$") for line in lines}


class TermsInText(SphinxTransform):
    """An index entry for the first place of a chapter that sets a term off."""

    default_priority = 800  # before the index is collected, at 850

    def apply(self, **kwargs) -> None:
        if not re.match(r"book/\d", self.env.docname):  # chapters alone
            return
        terms = {term.lower(): term for term in self.env.app.glossary_terms}
        for node in [
            *self.document.findall(nodes.strong),
            *self.document.findall(nodes.emphasis),
        ]:
            words = " ".join(node.astext().split()).rstrip(".:,")
            if (term := terms.pop(words.lower(), None)) and len(term) > 1:
                mark = nodes.make_id(f"index-{term}")
                entry = addnodes.index(entries=[("single", term, mark, "", None)])
                node.parent.replace(node, [entry, node])
                node["ids"].append(mark)


def read_glossary(app):
    """The terms, once a build."""
    path = Path(app.srcdir, "book", "glossary.md")
    app.glossary_terms = glossary_terms(path.read_text("utf-8"))


def terms_as_titles(app, exception):
    """List the glossary's terms among the titles, so that a result tells its term.

    Sphinx lists them as index entries, and then every result is called "Glossary".
    """
    path = Path(app.outdir, "searchindex.js")
    if exception or not path.exists():
        return
    head, _, data = path.read_text("utf-8").partition("(")
    index = json.loads(data.removesuffix(")"))
    for name, _, kind, page, anchor, _ in app.env.domains["std"].get_objects():
        if kind == "term":
            place = [index["docnames"].index(page), anchor]
            typed = as_typed(name)
            for title in {
                name,
                typed,
                typed.partition("_")[0],
            }:  # "h_j", and "h" for the hasty
                titled = index["alltitles"].setdefault(title, [])
                if place not in titled:
                    titled.append(place)
            entries = index["indexentries"]
            left = [e for e in entries.pop(name.lower(), []) if e[:2] != place]
            if left:
                entries[name.lower()] = left
    path.write_text(f"{head}({json.dumps(index, sort_keys=True)})", "utf-8")


def setup(app):
    app.add_search_language(BookSearch)
    app.add_transform(TermsInText)
    app.connect("builder-inited", read_glossary)
    app.connect("build-finished", terms_as_titles)
    return {"version": "1", "parallel_read_safe": True, "parallel_write_safe": True}
