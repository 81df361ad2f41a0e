"""Mutants of the solutions: what counts as one, and that none passes that is not explained."""

import csv
from pathlib import Path

import numpy as np
import pytest
from mutants import DATA, WHY, explained, grade_mutants, mutants, outcome

from lib.checks.engine import Function

ROOT = Path(__file__).resolve().parent.parent

SOURCE = """def f(x, y):
    # begin
    return -g(x, y) + 2 * x[0, 1]
    # end"""

OF_SOURCE = {
    "return -g(x, y) - 2 * x[0, 1]",
    "return -g(x, y)",
    "return 2 * x[0, 1]",
    "return -(-g(x, y) + 2 * x[0, 1])",
    "return g(x, y) + 2 * x[0, 1]",
    "return -g(y, x) + 2 * x[0, 1]",
    "return -g(x, y) + 2 / x[0, 1]",
    "return -g(x, y) + 2",
    "return -g(x, y) + 3 * x[0, 1]",
    "return -g(x, y) + 1 * x[0, 1]",
    "return -g(x, y) + 2 * x[1, 0]",
    "return -g(x, y) + 2 * x[1, 1]",
    "return -g(x, y) + 2 * x[-1, 1]",
    "return -g(x, y) + 2 * x[0, 2]",
    "return -g(x, y) + 2 * x[0, 0]",
}


def test_a_mutant_has_one_thing_changed():
    found = [source.splitlines()[1].strip() for _, _, source in mutants(SOURCE, 2, 4)]
    assert len(found) == len(set(found))
    assert set(found) == OF_SOURCE
    assert list(mutants(SOURCE, 4, 4)) == []


DOUBLE = Function(
    "toy.part_a",
    "twice x",
    truth=lambda x: 2 * x,
    cases=lambda rng: (float(rng.uniform(1, 2)),),
    n=lambda args: 1,
    hints=["Add.", "x + x"],
)


@pytest.mark.parametrize(
    ("source", "wanted"),
    [
        ("def f(x): return 2 * x", ("passed", "")),
        ("def f(x): return -2 * x", ("wrong", "ratio -1")),
        ("def f(x): return x.y", ("wrong", "raises")),
        ("def f(x):\n    while True: pass", ("stopped", "")),
        ("f = 1 / 0", ("raises", "ZeroDivisionError")),
        ("g = None", ("not attempted", "")),
    ],
)
def test_what_a_mutant_comes_to(source, wanted, monkeypatch, progress_file):
    monkeypatch.setattr("mutants.SECONDS", 1)
    assert outcome(DOUBLE, source, "f", {}, seed=0) == wanted


def recorded() -> list[dict]:
    with (DATA / "mutants.csv").open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def test_every_mutant_that_passed_is_explained():
    for row in recorded():
        assert explained(row), row
        assert row["passed"] == row["seeds"], row  # else the cases of some seeds are too tame


def test_no_explanation_is_left_over():
    rows = recorded()
    for part, line in WHY:
        assert any((row["part"], row["line"]) == (part, line) for row in rows), (part, line)


def test_the_record_is_what_grading_gives(progress_file):
    name = "02_degenerate_ab"
    again = [row for row in grade_mutants(name, seeds=3) if row["passed"]]
    keys = ("part", "kind", "line")
    before = [row for row in recorded() if row["part"].startswith("degenerate_ab.")]
    assert [[row[k] for k in keys] for row in again] == [[row[k] for k in keys] for row in before]
    assert np.all([row["passed"] == 3 for row in again])
