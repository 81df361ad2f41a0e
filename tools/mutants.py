"""Give the grader mutants of every worked solution, and record which it lets pass.

`mutants.py --seeds 200` writes book/_data/mutants.csv, a line for each mutant that passed at some
seed, and mutants.json, the counts by exercise. A mutant is the solution with one operator, sign,
constant, index, axis, term or pair of arguments changed. The last column of mutants.csv is written
by hand, why a mutant is no mistake; it is kept when the others are written anew.
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


def mutants(source: str, first: int, last: int) -> Iterator[tuple[str, str]]:
    """Kind and source of each mutant of the lines from first to last, counted from 1."""
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
                yield kind, text


def _becomes(source: str, mutant: str) -> tuple[str, str]:
    """The first line that the change touches, before and after it."""
    lines = ast.unparse(ast.parse(source)).splitlines(), mutant.splitlines()
    before, after = next((a, b) for a, b in zip(*lines, strict=False) if a != b)
    return before.strip(), after.strip()


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
    for kind, mutant in mutants(source, first, last):
        got = [outcome(part, mutant, answer, names, seed) for seed in range(3)]
        if any(out == PASSED for out, _ in got):
            got += [outcome(part, mutant, answer, names, seed) for seed in range(3, seeds)]
        line, becomes = _becomes(source, mutant)
        yield {
            "part": part.id,
            "kind": kind,
            "line": line,
            "becomes": becomes,
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
    found = Parallel(asked.jobs, backend="multiprocessing")(
        delayed(grade_mutants)(name, asked.seeds) for name in names
    )
    survivors = [row for rows in found for row in rows if row["passed"]]
    print(f"{sum(map(len, found))} mutants, {len(survivors)} passed at some seed")
    for row in survivors:
        print("{part:24s} {kind:12s} {passed:3d}/{seeds}  {line}  →  {becomes}".format(**row))
    if not asked.exercise:
        _write(dict(zip(names, found, strict=True)), survivors, asked.seeds)


def _write(found: dict[str, list[dict]], survivors: list[dict], seeds: int) -> None:
    counts = {
        name: {
            "mutants": len(rows),
            "passed": sum(row["passed"] > 0 for row in rows),
            "named": sum(row["diagnosis"] not in ("", "unknown") for row in rows),
        }
        for name, rows in found.items()
    }
    text = json.dumps({"seeds": seeds, "exercises": counts}, indent=1)
    (DATA / "mutants.json").write_text(text + "\n", "utf-8")
    why = {_key(row): row["why"] for row in recorded()}
    with (DATA / "mutants.csv").open("w", encoding="utf-8", newline="") as file:
        table = csv.DictWriter(file, COLUMNS, extrasaction="ignore", lineterminator="\n")
        table.writeheader()
        table.writerows(row | {"why": why.get(_key(row), "")} for row in survivors)


COLUMNS = ("part", "kind", "line", "becomes", "passed", "seeds", "why")


def _key(row: dict) -> tuple:
    return tuple(row[column] for column in COLUMNS[:4])


def recorded() -> list[dict]:
    """The mutants that passed when they were last given, and why they are no mistakes."""
    if not (DATA / "mutants.csv").exists():
        return []
    with (DATA / "mutants.csv").open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


if __name__ == "__main__":
    main()
