"""The ledger page, and the promise behind it: no equation without a check that runs."""

import re
import shutil
from pathlib import Path

import ledger
import nbformat
import pytest

ROOT = Path(__file__).resolve().parent.parent


def test_every_equation_and_erratum_has_a_check_that_ran():
    assert ledger.gaps(ROOT) == []


def test_ledger_page_is_up_to_date():
    assert (ROOT / "book" / "ledger.md").read_text("utf-8") == ledger.page(ROOT)


@pytest.mark.parametrize("module", sorted(ROOT.glob("lib/*.py")), ids=lambda path: path.stem)
def test_equations_named_in_docstrings_are_in_the_book(module):
    named = set(re.findall(r"\beq-[\w-]+", module.read_text("utf-8")))
    assert named <= set(ledger.labels(ROOT))


@pytest.fixture
def copy(tmp_path):
    shutil.copytree(ROOT / "book", tmp_path / "book", ignore=shutil.ignore_patterns("_*"))
    return tmp_path


def _edit(path, change):
    notebook = nbformat.read(path, as_version=4)
    change(notebook.cells)
    nbformat.write(notebook, path)


def _without(label):
    def change(cells):
        cells[:] = [cell for cell in cells if f'"{label}"' not in cell.source]

    return change


def test_a_removed_check_is_reported(copy):
    for path in ledger.chapters(copy):
        for check in [c for c in ledger.checks(ROOT) if c.page == path.name]:
            shutil.copy(ROOT / "book" / path.name, path)
            _edit(path, _without(check.label))
            assert f"{check.label}: no check" in ledger.gaps(copy)


def test_an_equation_without_label_and_a_check_without_equation_are_reported(copy):
    path = copy / "book" / "01_counterfactuals.ipynb"

    def change(cells):
        for cell in cells:
            cell.source = cell.source.replace("$$ (eq-loo)", "$$")

    _edit(path, change)
    found = ledger.gaps(copy)
    assert "eq-loo: a check of nothing in the text" in found
    assert any("a displayed equation without a label" in gap for gap in found)


def test_a_check_that_never_ran_is_reported(copy):
    path = copy / "book" / "01_counterfactuals.ipynb"

    def change(cells):
        for cell in cells:
            if "eq-hiker" in cell.source and cell.cell_type == "code":
                cell.outputs = []

    _edit(path, change)
    assert "eq-hiker: its check has not run" in ledger.gaps(copy)


def test_rows_and_lines_of_checks_lead_to_each_other(site):
    html = (site / "book" / "ledger.html").read_text("utf-8")
    rows = re.findall(r"<tr[^>]*>.*?</tr>", html, re.DOTALL)
    rows = [row for row in rows if 'id="ledger-' in row]
    pages = {p.name: p.read_text("utf-8") for p in (site / "book").glob("*.html")}
    labels = []
    for row in rows:
        label = re.search(r'id="ledger-([\w-]+)"', row)[1]
        for file, place in re.findall(r'href="([\w.]*)#([^"]+)"', row):
            assert f'id="{place}"' in pages[file or "ledger.html"], (label, place)
        assert re.search(rf'href="[\w.]+#check-{label}"', row)
        assert re.search(rf'href="[\w.]+#(?:equation-)?{label}"', row)
        labels.append(label)
    assert sorted(labels) == sorted(check.label for check in ledger.checks(ROOT))
    lines = [
        line
        for page in pages.values()
        for line in re.findall(r'<div class="holds".*?</div>', page, re.DOTALL)
    ]
    back = [re.search(r'id="check-([\w-]+)".*ledger\.html#ledger-\1"', line)[1] for line in lines]
    assert sorted(back) == sorted(labels)
