"""`python -m lib.checks`: what is passed, what is next, what saved notebooks show."""

import json
import subprocess
import sys

import nbformat
import pytest
from conftest import ROOT
from nbformat.v4 import new_code_cell, new_notebook, new_output

from lib.checks import BANKS, __main__, leverage, parts, record


@pytest.fixture(autouse=True)
def fresh(progress_file): ...


def said(*arguments) -> str:
    command = [sys.executable, "-m", "lib.checks", *map(str, arguments)]
    ran = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    return ran.stdout + ran.stderr


def test_what_is_passed_and_what_is_next():
    first = parts(BANKS[0])
    record.passed(first["part_a"].id)
    lines = said().splitlines()
    assert lines[0].split() == [BANKS[0], "█" + "░" * (len(first) - 1), f"1/{len(first)}"]
    assert len(lines) == len(BANKS) + 3
    assert lines[-2] == f"Next: part (b) of exercises/01_{BANKS[0]}.ipynb"
    assert lines[-1].strip() == first["part_b"].asks


def test_in_the_end_nothing_is_next():
    for bank in BANKS:
        for part in parts(bank).values():
            record.passed(part.id)
    assert __main__.next_part() == "All parts of all exercises are passed."


def test_hints_are_counted(capsys):
    leverage.part_a.hint()
    leverage.part_a.hint()
    leverage.part_b.hint()
    __main__.main([])
    assert "Hints seen: 3, solutions: 0\n" in capsys.readouterr().out


def saved(path, *cells):
    """A notebook of (source, what the check said or None)."""
    made = []
    for source, result in cells:
        data = {"text/plain": repr(result)}
        outputs = [] if result is None else [new_output("execute_result", data)]
        made.append(new_code_cell(source, outputs=outputs))
    nbformat.write(new_notebook(cells=made), path)
    return path


def test_a_saved_notebook_shows_its_verdicts(tmp_path, capsys):
    cells = [
        ("leverage.part_a(f)", leverage.part_a(3)),
        ("leverage.part_a(f)", leverage.part_a()),  # the last one counts
        ("if leverage.part_b(g):\n    draw()", leverage.part_c()),
        ("leverage.part_c(h)", None),
        ("other.part_a(h)", None),
    ]
    path = saved(tmp_path / "mine.ipynb", *cells)
    found = __main__.verdicts(path)
    assert list(found) == ["leverage.part_a", "leverage.part_b", "leverage.part_c"]
    assert found["leverage.part_a"].startswith("… Not attempted yet")
    __main__.main([str(path)])
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "mine.ipynb: 0 of 3 parts passed when it was saved"
    assert lines[3] == "  (c) – not run"


@pytest.mark.parametrize("path", sorted(ROOT.glob("solutions/*.ipynb")), ids=lambda p: p.stem)
def test_every_solution_shows_that_all_is_passed(path):
    found = __main__.verdicts(path)
    assert set(found) == {part.id for part in parts(path.stem.partition("_")[2]).values()}
    assert all(says.startswith("✓ Passed") for says in found.values())


def test_export_and_reset(tmp_path):
    record.passed("leverage.part_a")
    target = tmp_path / "mine.json"
    assert "Written to" in said("--export", target)
    assert json.loads(target.read_text("utf-8")) == {
        "hints": {},
        "passed": ["leverage.part_a"],
        "solutions": [],
    }
    assert "Forgotten" in said("--reset")
    assert record.read()["passed"] == []


@pytest.mark.parametrize("text", ["", "[]", "{}", "print(1)"])
def test_what_is_no_notebook_is_told(tmp_path, text):
    path = tmp_path / "mine.ipynb"
    path.write_text(text, "utf-8")
    assert said(path) == f"notebook: {path}: expected a notebook in Jupyter's format\n"
    assert "No such file" in said(tmp_path / "none.ipynb")


def test_a_notebook_and_the_record_are_two_questions(tmp_path):
    assert "are about the record" in said(tmp_path / "a.ipynb", "--reset")
