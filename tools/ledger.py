"""Write book/ledger.md: every labelled equation of the chapters and the check that runs for it.

`ledger.py` writes the page; `ledger.py --check` fails if an equation or an erratum has no check, a
check has no equation, or the page is not what it would write.
"""

import argparse
import ast
import functools
import re
import sys
from dataclasses import dataclass
from pathlib import Path

import nbformat
from notebooks import ROOT

KINDS = {
    "numeric": "random problems",
    "symbolic": "symbols",
    "definition": "definition",
    "experiment": "experiment",
}

LABEL = re.compile(r"^\$\$ *\((eq-[\w-]+)\)\s*$", re.MULTILINE)
ERRATUM = re.compile(r"^\((erratum-[\w-]+)\)=\s*$", re.MULTILINE)
HEADED = re.compile(r"^\((erratum-[\w-]+)\)=\n#+ (.+)$", re.MULTILINE)
UNCOMPUTED = re.compile(r"\*\*Check\.\*\* Nothing to compute")

HEADER = """\
# Ledger

Every displayed equation of the chapters, and the check that ties it to running code. A check
compares two routes to the same number. All of them run whenever the book is tested, and one that
fails stops it.

*Kinds.* **Random problems**: both sides computed on random draws. **Symbols**: both sides compared
as expressions at random exact points. **Definition**: there is nothing to derive, so the
function that implements it is compared with the definition written out anew.
**Experiment**: a run whose outcome is tested.

The number leads to the equation, the kind to the line that says the check came out; from that line
"ledger" leads back here.

| Equation | In the draft | Check | Where |
|---|---|---|---|
"""

ERRATA = """
## Errata

Where a check disagreed with the draft notes, the {doc}`errata <errata>` say what holds. These are
their checks.

| Erratum | Check | Where |
|---|---|---|
"""


@dataclass(frozen=True)
class Check:
    """One call of holds(): its label, kind of evidence, place in the draft, page and section."""

    label: str
    kind: str
    draft: str
    page: str
    section: str
    ran: bool


def chapters(root: Path) -> list[Path]:
    """The chapter notebooks, in order."""
    return sorted(root.glob("book/*.ipynb"))


@functools.lru_cache(maxsize=64)
def _read(path: Path, modified: int) -> list:
    return nbformat.read(path, as_version=4).cells


def _cells(path: Path) -> list:
    """The cells of a notebook, read again when it has changed."""
    return _read(path, path.stat().st_mtime_ns)


def labels(root: Path) -> list[str]:
    """The labels of all displayed equations of the chapters, in order of appearance."""
    found = []
    for path in chapters(root):
        for cell in _cells(path):
            if cell.cell_type == "markdown":
                found += LABEL.findall(cell.source)
    return found


def unlabelled(root: Path) -> list[str]:
    """Displayed equations without a label, which no check could name."""
    found = []
    for path in chapters(root):
        for cell in _cells(path):
            if cell.cell_type == "markdown":
                ends = re.findall(r"^\$\$(.*)$", cell.source, re.MULTILINE)
                found += [f"{path.stem}: $${end}" for end in ends[1::2] if "(eq-" not in end]
    return found


def _slug(heading: str) -> str:
    return re.sub(r"[^\w\- ]", "", heading.lower()).strip().replace(" ", "-")


def checks(root: Path) -> list[Check]:
    """Every call of holds() in the chapters; `ran` if a stored output shows its outcome."""
    return [check for path in chapters(root) for check in _checks_of(path, path.stat().st_mtime_ns)]


@functools.lru_cache(maxsize=64)
def _checks_of(path: Path, modified: int) -> list[Check]:
    found = []
    section = ""
    for cell in _read(path, modified):
        if cell.cell_type == "markdown":
            headings = re.findall(r"^#{1,3} (.+)$", cell.source, re.MULTILINE)
            section = headings[-1] if headings else section
            continue
        shown = "".join(o.get("data", {}).get("text/plain", "") for o in cell.get("outputs", []))
        for node in ast.walk(ast.parse(cell.source)):
            if isinstance(node, ast.Call) and getattr(node.func, "id", "") == "holds":
                label, evidence = (node.args[0].value, node.args[1])
                draft = next((k.value.value for k in node.keywords if k.arg == "draft"), "")
                kind = KINDS[evidence.func.id]
                ran = f"{label} holds" in shown
                found.append(Check(label, kind, draft, path.name, section, ran))
    return found


def errata(root: Path) -> tuple[set[str], set[str]]:
    """The labels of all errata, and of those that say there is nothing to compute."""
    text = (root / "book" / "errata.md").read_text("utf-8")
    parts = ERRATUM.split(text)
    entries = dict(zip(parts[1::2], parts[2::2], strict=True))
    return set(entries), {label for label, body in entries.items() if UNCOMPUTED.search(body)}


def gaps(root: Path) -> list[str]:
    """What is amiss: equations and errata without a check, checks without an equation, doubles."""
    equations, done = labels(root), checks(root)
    entries, uncomputed = errata(root)
    names = [check.label for check in done]
    wanted = {*equations, *entries}
    return [
        *(f"{place}: a displayed equation without a label" for place in unlabelled(root)),
        *(f"{label}: no check" for label in sorted(wanted - uncomputed - set(names))),
        *(f"{label}: labelled twice" for label in _doubles(equations)),
        *(f"{label}: checked twice" for label in _doubles(names)),
        *(f"{c.label}: a check of nothing in the text" for c in done if c.label not in wanted),
        *(f"{c.label}: its check has not run" for c in done if not c.ran),
    ]


def _doubles(names: list[str]) -> list[str]:
    return sorted({name for name in names if names.count(name) > 1})


def _row(check: Check, *cells: str) -> str:
    """A row with an address, whose kind leads to the line of the check: book/_ext/finding.py
    gives that line its address, and a link back.
    """
    first, *rest = cells
    kind = f'<a href="{Path(check.page).stem}.html#check-{check.label}">{check.kind}</a>'
    where = f"[{check.section}]({check.page}#{_slug(check.section)})"
    first = f'<a id="ledger-{check.label}"></a>{first}'
    return f"| {' | '.join([first, *rest, kind, where])} |\n"


def page(root: Path) -> str:
    """The ledger as a page."""
    done = {check.label: check for check in checks(root)}
    equations = [
        _row(done[label], f"{{eq}}`{label}` `{label}`", done[label].draft or "—")
        for label in labels(root)
        if label in done
    ]
    text = (root / "book" / "errata.md").read_text("utf-8")
    faults = [
        _row(done[label], f"[{heading}](#{label})")
        for label, heading in HEADED.findall(text)
        if label in done
    ]
    return HEADER + "".join(equations) + ERRATA + "".join(faults)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--check", action="store_true", help="compare, write nothing")
    target = ROOT / "book" / "ledger.md"
    if parser.parse_args().check:
        found = gaps(ROOT)
        if target.read_text("utf-8") != page(ROOT):
            found.append("book/ledger.md is not what the chapters make: run tools/ledger.py")
        sys.exit("\n".join(found) if found else 0)
    target.write_text(page(ROOT), encoding="utf-8")


if __name__ == "__main__":
    main()
