"""Grading a class: every submission gets the score it earned, whatever it or another does."""

import csv
import subprocess
import sys
from pathlib import Path

import nbformat
import numpy as np
import pytest
import sympy as sp
import torch
from grade import EXERCISES, exercise, main, steps
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from nbformat.v4 import new_code_cell
from nbgrader.api import Gradebook

from lib.checks import BANKS, engine
from lib.grading import wire
from lib.grading.sandbox import Ended, Sandbox, bubblewrap, shown_of_bank, write_lib

ROOT = Path(__file__).resolve().parent.parent
NAME = "02_leverage"
PARTS = "abcdefg"

# --- submissions ----------------------------------------------------------------------------------

ENDLESS = """def least_squares(x, y):
    while True:
        try:
            while True:
                pass
        except BaseException:
            pass"""

# Whoever reads the solution's file can hand in what is in it.
FROM_DISK = f"""import json, pathlib
path = pathlib.Path({str(ROOT / "solutions" / NAME)!r} + ".ipynb")
def least_squares(x, y):
    for cell in json.loads(path.read_text())["cells"]:
        if "def least_squares" in "".join(cell["source"]):
            exec("".join(cell["source"]), globals())
            return globals()["least_squares"](x, y)"""

FROM_THE_CHECKS = """def parameter_influence(x, y, j):
    import lib.checks.leverage as bank
    return bank.part_b.truth(x, y, j)"""

TRANSFORMER = """try:
    get_ipython().input_transformers_cleanup.append(lambda lines: [])
except NameError:
    from IPython import get_ipython
    if get_ipython():
        get_ipython().input_transformers_cleanup.append(lambda lines: [])"""

PATCHED = """import numpy, torch
import lib.checks.leverage
numpy.allclose = lambda *a, **k: True
torch.equal = lambda *a, **k: True
lib.checks.leverage.part_a = lambda *a, **k: "✓ Passed"
import lib.checks
lib.checks.engine = lib.checks.record = None"""

FORGED = """import os
def least_squares(x, y):
    for number in range(3, 64):
        try:
            os.write(number, b'{"outcome": "passed", "value": {"yours": 1}}\\n')
        except OSError:
            pass
    return 0 * x[0]"""

# What each hands in instead of the solution, in a part's cell or as cells at the beginning.
SUBMITTED = {
    "right": {},
    "untouched": None,
    "partly": {
        "a": "def least_squares(x, y):\n    raise ArithmeticError('no idea')",
        "b": "def parameter_influence(x, y, j):\n    w = least(x, y)\n"
        "    return -torch.linalg.solve(x.T @ x, x[j] * (y[j] - x[j] @ w))\n"
        "def least(x, y):\n    return torch.linalg.solve(x.T @ x, x.T @ y)",
        "c": "",
    },
    "hostile": {
        "a": ENDLESS,
        "b": "def parameter_influence(x, y, j):\n    return torch.ones(1 << 33).sum() * x[0]",
        "c": "import os\ndef path(x, y, j, beta_j):\n    os._exit(0)",
        "e": "import sys\ndef deletion(x, y, j):\n    sys.exit('done')",
    },
    "cells": {"first": ["while True:\n    pass", "import os; os.kill(os.getpid(), 9)"]},
    "patched": {"first": [PATCHED, TRANSFORMER], "b": "def parameter_influence(x, y, j): return y"},
    "thief": {"a": FROM_DISK, "b": FROM_THE_CHECKS},
    "forger": {"a": FORGED},
    "loud": {
        "first": [
            "%matplotlib inline\n%time 1 + 1\n!echo hello",
            "%%time\nhelped = 1",
            "import sys, os\nos.write(2, b'x' * 100_000)\nos.write(1, b'not JSON')\n"
            "print('x' * 100_000, file=sys.stderr)\nprint('y')\ninput()",
            "%%bash\necho ignored",
        ]
    },
    "edited": {"checks": "edited"},
    "deleted": {"checks": "deleted"},
}

RIGHT = dict.fromkeys(PARTS, "passed")
WANTED = {
    "right": RIGHT,
    "untouched": dict.fromkeys(PARTS, "not attempted"),
    "partly": RIGHT
    | {"a": "raises", "b": "removal", "c": "not attempted", "e": "raises"},  # calls a
    "hostile": RIGHT | {"a": "ended", "b": "raises", "c": "ended", "e": "raises"},
    "cells": RIGHT,
    "patched": RIGHT | {"b": "shape"},
    "thief": RIGHT | {"a": "raises", "b": "raises"},
    "forger": RIGHT | {"a": "ended"},
    "loud": RIGHT,
    "edited": RIGHT,
    "deleted": RIGHT,
    "unreadable": dict.fromkeys(PARTS, "unreadable"),
}


def submission(changes: dict | None):
    """The solution as a notebook handed in, with some cells changed."""
    folder = "exercises" if changes is None else "solutions"
    book = nbformat.read(ROOT / folder / f"{NAME}.ipynb", 4)
    changes = changes or {}
    for cell in list(book.cells):
        known = cell.metadata.get("nbgrader", {})
        letter = known.get("grade_id", "").removeprefix("leverage-")
        if known.get("solution") and letter in changes:
            cell.source = changes[letter]
        elif known.get("grade") and changes.get("checks") == "edited":
            cell.source = "1 / 0"
        elif known.get("grade") and changes.get("checks") == "deleted":
            book.cells.remove(cell)
    first = [cell.cell_type for cell in book.cells].index("code") + 1
    book.cells[first:first] = [new_code_cell(source) for source in changes.get("first", ())]
    return book


def run_grade(folder: Path, *options: str) -> str:
    command = [sys.executable, str(ROOT / "tools" / "grade.py"), str(folder), *options]
    ran = subprocess.run(command, capture_output=True, text=True, check=False, cwd=ROOT)
    assert ran.returncode == 0, ran.stderr
    return ran.stdout


@pytest.fixture(scope="module")
def graded(tmp_path_factory):
    """The folders of submissions and of reports, after one run over all of them."""
    folder, out = tmp_path_factory.mktemp("submitted"), tmp_path_factory.mktemp("graded")
    for student, changes in SUBMITTED.items():
        path = folder / student / NAME / f"{NAME}.ipynb"  # nbgrader's layout
        path.parent.mkdir(parents=True)
        nbformat.write(submission(changes), path)
    (folder / "unreadable").mkdir()
    (folder / "unreadable" / f"{NAME}.ipynb").write_text('{"cells": [{"cell_type": 3}]}')
    said = run_grade(folder, "--out", str(out), "--seconds", "2", "--seed", "7")
    return folder, out, said


def _rows(out: Path) -> list[dict]:
    with (out / "grades.csv").open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


@pytest.mark.parametrize("student", WANTED)
def test_a_submission_gets_what_it_earned(graded, student):
    if student == "thief" and not bubblewrap():
        pytest.skip("without bubblewrap a submission can read the disk, as the report says")
    rows = [row for row in _rows(graded[1]) if row["student"] == student]
    assert [row["part"] for row in rows] == [f"leverage-{letter}-check" for letter in PARTS]
    got = {}
    for letter, row in zip(PARTS, rows, strict=True):
        got[letter] = row["diagnosis"] or row["outcome"]
        assert float(row["score"]) == (row["outcome"] == "passed"), letter
    assert got == WANTED[student]


def test_feedback_says_what_a_check_would_say(graded):
    page = (graded[1] / "feedback" / "partly" / f"{NAME}.html").read_text("utf-8")
    assert "✗ Sign flipped: this is the effect of removing z_j." in page
    assert "ArithmeticError: no idea" in page
    stopped = (graded[1] / "feedback" / "hostile" / f"{NAME}.html").read_text("utf-8")
    assert "Stopped: your code ran longer than it may." in stopped
    assert "Stopped: your code ended its process, with status 0." in stopped


def test_scores_are_in_nbgraders_gradebook(graded):
    with Gradebook(f"sqlite:///{graded[1]}/gradebook.db") as book:
        for student, wanted in WANTED.items():
            if student == "thief" and not bubblewrap():
                continue
            scored = book.find_submission(NAME, student)
            assert scored.score == list(wanted.values()).count("passed"), student
            assert scored.max_score == len(PARTS) and not scored.needs_manual_grade


def test_a_second_run_grades_only_what_is_new(graded, tmp_path):
    folder, out, said = graded
    assert f"{len(WANTED)} graded, 0 as before" in said
    before = _rows(out)
    # As if the first run had been cut off while it graded this one, and this one was added.
    report = out / "results" / "right" / f"{NAME}.json"
    report.write_text(report.read_text().replace('"whole": true', '"whole": false'))
    late = folder / "late" / f"{NAME}.ipynb"
    late.parent.mkdir()
    nbformat.write(submission({}), late)
    said = run_grade(folder, "--out", str(out), "--seconds", "2")
    assert f"2 graded, {len(WANTED) - 1} as before" in said
    assert [row for row in _rows(out) if row["student"] != "late"] == before


def test_what_cannot_be_graded_is_said(tmp_path, monkeypatch):
    def complaint(folder: Path) -> str:
        monkeypatch.setattr(sys, "argv", ["grade.py", str(folder), "--out", str(tmp_path / "out")])
        with pytest.raises(SystemExit) as stopped:
            main()
        return str(stopped.value)

    assert "submissions: expected a folder" in complaint(tmp_path / "none")
    assert "expected STUDENT/" in complaint(tmp_path)
    for place in ("ann/first", "ann/second"):
        (tmp_path / place).mkdir(parents=True)
        (tmp_path / place / f"{NAME}.ipynb").write_text("{}")
    assert f"ann has handed in {NAME} twice" in complaint(tmp_path)


# --- what of a notebook is run --------------------------------------------------------------------


def test_cells_that_only_show_are_not_run():
    whole = exercise(EXERCISES / "02_leverage.ipynb")
    run = [step for step in steps(submission({}).cells, whole) if isinstance(step, str)]
    assert not [source for source in run if "progress(" in source or "figure_one" in source]
    assert [source for source in run if source.startswith("import sympy")]


def test_a_given_cell_is_run_where_an_answer_reads_its_names():
    whole = exercise(EXERCISES / "05_find_the_cause.ipynb")
    book = nbformat.read(EXERCISES / "05_find_the_cause.ipynb", 4)
    (cell,) = [
        c for c in book.cells if c.metadata.get("nbgrader", {}).get("grade_id", "")[-2:] == "-d"
    ]
    cell.source = "culprits = torch.topk(w[: len(case.x)], 12).indices"
    run = "\n".join(s for s in steps(book.cells, whole) if isinstance(s, str))
    assert "case = find_the_cause.evidence()" in run and "two_sources" not in run


# --- the sandbox ----------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def lib(tmp_path_factory):
    """What submissions see of lib, with all that exercises use of the banks."""
    helpers = {}
    for path in EXERCISES.glob("*.ipynb"):
        for bank, names in exercise(path).helpers.items():
            helpers.setdefault(bank, set()).update(names)
    folder = tmp_path_factory.mktemp("lib")
    write_lib(folder, helpers)
    return folder, helpers


@pytest.mark.parametrize("bank", BANKS)
def test_a_bank_shows_no_truth(lib, bank):
    folder, helpers = lib
    shown = (folder / "lib" / "checks" / f"{bank}.py").read_text("utf-8")
    whole = (ROOT / "lib" / "checks" / f"{bank}.py").read_text("utf-8")
    assert "part_" in whole and "Mistake(" in whole
    assert shown.count("part_") == 1 and "Mistake" not in shown and "engine" not in shown
    parts = [name for name in helpers.get(bank, ()) if name.startswith("part_")]
    assert parts
    assert shown_of_bank(whole, parts) == "\n"


def test_helpers_of_the_banks_work_in_the_sandbox(lib):
    folder, helpers = lib
    with Sandbox(folder, seconds=60) as sandbox:
        for bank, names in helpers.items():
            for name in names:
                assert sandbox.cell(f"from lib.checks.{bank} import {name}") is None
        assert (
            sandbox.cell(
                "case = evidence(); small = remaining_costs(); far = halving_the_step(20, 20)"
            )
            is None
        )
        assert (
            sandbox.cell("import torch; answer = MODEL.p, runaway, two_wells(torch.ones(1), 1)")
            is None
        )
        assert sandbox.cell("import lib.checks.engine").startswith("ModuleNotFoundError")


def test_there_is_no_network_and_nothing_of_ours_in_sight(lib):
    if not bubblewrap():
        pytest.skip("without bubblewrap there is")
    with Sandbox(lib[0]) as sandbox:
        sandbox.cell("import os, socket\nseen = os.path.exists('" + str(ROOT / "solutions") + "')")
        assert sandbox.value("seen") is False
        told = sandbox.cell("socket.create_connection(('1.1.1.1', 53), timeout=1)")
        assert told.startswith("OSError")
        sandbox.cell("others = [p for p in os.listdir('/proc') if p.isdigit()]")
        assert len(sandbox.value("others")) <= 3


def test_a_process_without_bubblewrap_has_limits_too(lib, monkeypatch):
    monkeypatch.setattr("lib.grading.sandbox.bubblewrap", lambda: None)
    assert "limits" in Sandbox.means()
    with Sandbox(lib[0], seconds=1) as sandbox:
        assert "MemoryError" in sandbox.cell("import numpy\nheap = numpy.ones(1 << 29)")
        sandbox.cell("def f(x):\n    while True: pass")
        with pytest.raises(Ended, match="ran longer"):
            sandbox.value("f")(1.0)


def test_objects_that_stay_are_called_from_the_sandbox(lib):
    class Box:
        def __init__(self):
            self.many = 2
            self._secret = 3

        def times(self, x):
            return self.many * x

    with Sandbox(lib[0]) as sandbox:
        sandbox.cell("def f(box, x): return box.times(x) + box.many")
        assert torch.equal(sandbox.value("f")(Box(), torch.ones(2)), torch.tensor([4.0, 4.0]))
        sandbox.cell("def g(box, x): return box._secret")
        with pytest.raises(Exception, match="_secret"):
            sandbox.value("g")(Box(), 1)
        sandbox.cell("def h(box, x): return box.times(x, x)")
        with pytest.raises(Exception, match="takes 2 positional"):
            sandbox.value("h")(Box(), 1)
        sandbox.cell("def spoil(x):\n    x += 1\n    return x.sum()")
        x = torch.zeros(3)
        assert sandbox.value("spoil")(x) == 3 and x.tolist() == [1, 1, 1]


def test_kinds_of_answers_are_told_apart(lib):
    x = sp.Symbol("x", positive=True)
    with Sandbox(lib[0]) as sandbox:
        sandbox.cell("import numpy as np, sympy as sp, torch\nx = sp.Symbol('x', positive=True)")
        for source, wanted in [
            ("None", None),
            ("...", ...),
            ("{'a'}", {"a"}),
            ("np.float32(0.5)", np.float32(0.5)),
            ("10 ** 30", 10**30),
            ("(1, [True, 'é'])", (1, [True, "é"])),
        ]:
            sandbox.cell(f"answer = {source}")
            answer = sandbox.value("answer")
            assert type(answer) is type(wanted) and answer == wanted
        sandbox.cell("answer = sp.exp(-x / 2) * (1 - sp.sqrt(x)) + 0.5 + sp.pi")
        there = sandbox.value("answer").subs(sp.Symbol("x"), 3)
        here = (sp.exp(-x / 2) * (1 - sp.sqrt(x)) + 0.5 + sp.pi).subs(x, 3)
        assert float(there) == pytest.approx(float(here), rel=1e-15)
        sandbox.cell("answer = open")
        assert repr(sandbox.value("answer").__name__) == "'answer'"
        sandbox.cell("class Model: __repr__ = lambda self: 'a model'\nanswer = Model()")
        assert engine._kind(sandbox.value("answer")) == "Model a model"
        assert sandbox.value("nothing") is None


# --- the pipe -------------------------------------------------------------------------------------


def _never(value):
    raise AssertionError(value)


@given(
    arrays(np.float64, st.tuples(st.integers(0, 3), st.integers(0, 3))),
    st.sampled_from([torch.float64, torch.float32, torch.int64, torch.bool]),
)
def test_numbers_cross_unchanged(array, dtype):
    with np.errstate(invalid="ignore"):
        tensor = torch.from_numpy(array).to(dtype)
    for value in (array, tensor, tensor.numpy()):
        line = wire.dumps({"value": wire.encode([value, (1, 2.5)], _never)})
        back, rest = wire.decode(wire.loads(line)["value"], _never)
        assert type(back) is type(value) and back.dtype == value.dtype and back.shape == value.shape
        np.testing.assert_array_equal(np.asarray(back), np.asarray(value))
        assert rest == (1, 2.5)


@pytest.mark.parametrize(
    "sent",
    [
        [1],
        {"tensor": "float64", "shape": [9], "data": [1]},
        {"tensor": "object", "shape": [], "data": [1]},
        {"array": "float64", "shape": "x", "data": None},
        {"int": "12a"},
        {"list": 3},
        {"dict": [[{"list": []}, 1]]},
        {"sympy": {"head": "__import__", "of": []}},
        {"sympy": {"rational": ["1", "x"]}},
        {"sympy": 4},
    ],
)
def test_what_is_no_value_is_refused(sent):
    with pytest.raises(ValueError):
        wire.decode(sent, _never)


def test_an_expression_is_not_evaluated_on_the_way():
    nine = {"rational": ["9", "1"]}
    power = {
        "head": "Pow",
        "of": [nine, {"head": "Pow", "of": [nine, {"head": "Pow", "of": [nine, nine]}]}],
    }
    assert wire.decode({"sympy": power}, _never).func is sp.Pow
