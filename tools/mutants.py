"""Give the grader mutants of every worked solution, and record which it lets pass.

`mutants.py --seeds 20` writes book/_data/mutants.csv, a line for each mutant that passed at some
seed, and mutants.json, the counts. A mutant is the solution with one operator, sign, constant,
index, axis, term or pair of arguments changed.
"""

import argparse
import ast
import contextlib
import copy
import csv
import io
import json
import os
import signal
import tempfile
from collections.abc import Iterator
from pathlib import Path

from grade import exercise, steps
from joblib import Parallel, delayed
from nbformat import read

from lib.checks.engine import PASSED, Formula, Function

ROOT = Path(__file__).resolve().parent.parent
DATA = ROOT / "book" / "_data"
SECONDS = 5
"""What a mutant may take before it counts as stopped, and so as not passed."""

_SWAPS = {
    ast.Add: [ast.Sub],
    ast.Sub: [ast.Add],
    ast.Mult: [ast.Div],
    ast.Div: [ast.Mult],
    ast.MatMult: [ast.Mult],
    ast.Pow: [ast.Mult],
    ast.Lt: [ast.LtE, ast.GtE],
    ast.LtE: [ast.Lt, ast.Gt],
    ast.Gt: [ast.GtE, ast.LtE],
    ast.GtE: [ast.Gt, ast.Lt],
    ast.Eq: [ast.NotEq],
    ast.NotEq: [ast.Eq],
    ast.And: [ast.Or],
    ast.Or: [ast.And],
}


def _changed(node: ast.AST) -> Iterator[tuple[str, ast.AST]]:
    """What one node may be replaced by, and what to call the change."""
    if isinstance(node, ast.BinOp):
        for other in _SWAPS.get(type(node.op), ()):
            yield "operator", ast.BinOp(node.left, other(), node.right)
        if isinstance(node.op, ast.Add | ast.Sub):
            yield "dropped term", node.left
            yield "dropped term", node.right
        if isinstance(node.op, ast.Mult | ast.Div):
            yield "dropped factor", node.left
        if isinstance(node.op, ast.Sub | ast.Div | ast.MatMult | ast.Pow):
            yield "swapped", ast.BinOp(node.right, node.op, node.left)
    elif isinstance(node, ast.AugAssign):
        for other in _SWAPS.get(type(node.op), ()):
            yield "operator", ast.AugAssign(node.target, other(), node.value)
    elif isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.USub | ast.Not):
        yield "sign", node.operand
    elif isinstance(node, ast.Return) and node.value is not None:
        yield "sign", ast.Return(ast.UnaryOp(ast.USub(), node.value))
    elif isinstance(node, ast.Compare) and len(node.ops) == 1:
        for other in _SWAPS.get(type(node.ops[0]), ()):
            yield "comparison", ast.Compare(node.left, [other()], node.comparators)
    elif isinstance(node, ast.BoolOp):
        yield "comparison", ast.BoolOp(_SWAPS[type(node.op)][0](), node.values)
    elif isinstance(node, ast.Constant) and type(node.value) in (int, float):
        for value in (node.value + 1, node.value - 1):
            yield "constant", ast.Constant(value)
    elif isinstance(node, ast.Attribute) and node.attr in ("T", "mT"):
        yield "transpose", node.value
    elif isinstance(node, ast.Subscript) and isinstance(node.slice, ast.Tuple):
        if len(node.slice.elts) == 2:
            turned = ast.Tuple(node.slice.elts[::-1], ast.Load())
            yield "index", ast.Subscript(node.value, turned, node.ctx)
    elif isinstance(node, ast.Call):
        for k in range(len(node.args) - 1):
            args = list(node.args)
            args[k], args[k + 1] = args[k + 1], args[k]
            yield "arguments", ast.Call(node.func, args, node.keywords)


def mutants(source: str, first: int, last: int) -> Iterator[tuple[str, int, str]]:
    """Kind, line and source of each mutant of the lines from first to last, counted from 1."""
    tree = ast.parse(source)
    seen = {ast.unparse(tree)}
    places = [n for n in ast.walk(tree) if first <= getattr(n, "lineno", 0) <= last]
    for place in range(len(places)):
        for kind, number in [(kind, k) for k, (kind, _) in enumerate(_changed(places[place]))]:
            new = copy.deepcopy(tree)
            old = [n for n in ast.walk(new) if first <= getattr(n, "lineno", 0) <= last][place]
            put = list(_changed(old))[number][1]
            _Put(old, put).visit(new)
            text = ast.unparse(ast.fix_missing_locations(new))
            if text not in seen:
                seen.add(text)
                yield kind, old.lineno, text


class _Put(ast.NodeTransformer):
    def __init__(self, old: ast.AST, new: ast.AST):
        self.old, self.new = old, new

    def visit(self, node):
        return self.new if node is self.old else self.generic_visit(node)


class _Late(BaseException):
    pass


def _late(*_):
    raise _Late


def _answer(source: str, name: str, names: dict):
    """What `name` is after the source; the names before are left as they are."""
    with contextlib.redirect_stdout(io.StringIO()):
        exec(compile(source, "<mutant>", "exec"), names)
    return names.get(name)


def outcome(part, source: str, name: str, names: dict, seed: int) -> tuple[str, str]:
    """Outcome and diagnosis of one mutant at one seed; 'stopped' if it takes too long."""
    signal.signal(signal.SIGALRM, _late)
    signal.alarm(SECONDS)
    try:
        result = part(_answer(source, name, dict(names)), seed=seed)
        return result.outcome, result.diagnosis
    except _Late:
        return "stopped", ""
    except Exception as error:  # the cell itself fails
        return "raises", type(error).__name__
    finally:
        signal.alarm(0)


def grade_mutants(name: str, seeds: int) -> list[dict]:
    """Every mutant of one exercise's solutions, with the seeds at which it passed."""
    os.environ["ATTRIBUTION_PROGRESS"] = str(Path(tempfile.gettempdir(), f"mutants-{name}.json"))
    given = exercise(ROOT / f"exercises/{name}.ipynb")
    asked = {a.cell.removesuffix("-check"): a for a in given.asked}
    cells = [c for c in read(ROOT / f"solutions/{name}.ipynb", 4).cells if c.cell_type == "code"]
    needed = {step for step in steps(cells, given) if isinstance(step, str)}
    names, rows = {"__name__": "__main__"}, []
    for cell in cells:
        known = cell.metadata.get("nbgrader", {})
        if known.get("solution") and known["grade_id"] in asked:
            one = asked[known["grade_id"]]
            if isinstance(one.part, Function | Formula):
                rows += _of_cell(cell.source, one.part, one.answer, names, seeds)
        if cell.source in needed and "solution-only" not in cell.metadata.get("tags", []):
            with contextlib.redirect_stdout(io.StringIO()):
                exec(compile(cell.source, "<cell>", "exec"), names)
    return rows


def _of_cell(source: str, part, answer: str, names: dict, seeds: int) -> Iterator[dict]:
    lines = source.splitlines()
    first, last = (
        next(k for k, line in enumerate(lines, 1) if f"### {edge} SOLUTION" in line)
        for edge in ("BEGIN", "END")
    )
    for kind, line, mutant in mutants(source, first, last):
        got = [outcome(part, mutant, answer, names, seed) for seed in range(3)]
        if any(out == PASSED for out, _ in got):
            got += [outcome(part, mutant, answer, names, seed) for seed in range(3, seeds)]
        yield {
            "part": part.id,
            "kind": kind,
            "line": lines[line - 1].strip(),
            "passed": sum(out == PASSED for out, _ in got),
            "seeds": len(got),
            "diagnosis": got[0][1],
        }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("exercise", nargs="*")
    parser.add_argument("--seeds", type=int, default=20)
    parser.add_argument("--jobs", type=int, default=len(os.sched_getaffinity(0)))
    asked = parser.parse_args()
    names = asked.exercise or [path.stem for path in sorted((ROOT / "exercises").glob("*.ipynb"))]
    found = Parallel(asked.jobs)(delayed(grade_mutants)(name, asked.seeds) for name in names)
    rows = [row for each in found for row in each]
    survivors = [row for row in rows if row["passed"]]
    print(f"{len(rows)} mutants, {len(survivors)} passed at some seed")
    for row in survivors:
        print(
            f"{row['part']:28s} {row['kind']:12s} {row['passed']:3d}/{row['seeds']}  {row['line']}"
        )
    if asked.exercise:
        return
    named = [row for row in rows if row["diagnosis"] not in ("", "unknown")]
    counts = {"mutants": len(rows), "passed": len(survivors), "named": len(named)}
    (DATA / "mutants.json").write_text(json.dumps(counts | {"seeds": asked.seeds}) + "\n", "utf-8")
    with (DATA / "mutants.csv").open("w", encoding="utf-8", newline="") as file:
        table = csv.DictWriter(
            file, ["part", "kind", "line", "passed", "seeds"], extrasaction="ignore"
        )
        table.writeheader()
        table.writerows(survivors)


if __name__ == "__main__":
    main()
