"""Mutants of the solutions: what counts as one, and that none passes that is not explained."""

import pytest
from mutants import grade_mutants, mutants, outcome, recorded

from lib.checks.engine import Function

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
    found = [source.splitlines()[1].strip() for _, source in mutants(SOURCE, 2, 4)]
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


def test_every_mutant_that_passed_is_explained():
    assert recorded()
    for row in recorded():
        assert row["why"], row
        assert row["passed"] == row["seeds"], row  # else the cases of some seeds are too tame


def test_the_record_is_what_grading_gives(progress_file):
    name = "02_degenerate_ab"
    again = [row for row in grade_mutants(name, seeds=3) if row["passed"]]
    assert all(row["passed"] == 3 for row in again)
    keys = ("part", "kind", "line", "becomes")
    before = [row for row in recorded() if row["part"].startswith("degenerate_ab.")]
    assert [[row[k] for k in keys] for row in again] == [[row[k] for k in keys] for row in before]
