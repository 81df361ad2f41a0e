"""Grade notebooks of a class: `grade.py SUBMISSIONS`, or `make grade SUBMISSIONS=folder`.

SUBMISSIONS holds STUDENT/…/NN_exercise.ipynb, as nbgrader collects it in submitted/. The report
lies in --out: grades.csv, feedback/STUDENT/NN_exercise.html, and gradebook.db for nbgrader.
A submission that was graded before is not graded again.
"""

import argparse
import ast
import csv
import hashlib
import html
import json
import multiprocessing
import os
import secrets
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from multiprocessing.connection import wait
from pathlib import Path

import nbformat
from nbgrader.api import Gradebook, MissingEntry

from lib.checks import BANKS, parts
from lib.checks.engine import EMPTY, Function, Result, _problems, _wrong
from lib.grading.sandbox import LIB, Ended, Sandbox, write_lib

ROOT = Path(__file__).resolve().parent.parent
EXERCISES = ROOT / "exercises"
TOTAL = 180
"""Seconds that one submission may take, all its parts together."""

RESTARTS = 12
"""How often a submission's process is started again after it has ended."""


@dataclass(frozen=True, eq=False)
class Asked:
    """One part of an exercise, as its check cell asks it."""

    cell: str
    part: object
    answer: str
    points: float


@dataclass(frozen=True)
class Exercise:
    """A notebook as it was handed out."""

    name: str
    cells: list
    asked: list[Asked]
    helpers: dict[str, set[str]]


def exercise(path: Path) -> Exercise:
    """Read the notebook of an exercise as it was handed out."""
    cells = [c for c in nbformat.read(path, 4).cells if c.cell_type == "code"]
    asked, helpers = [], {}
    for cell in cells:
        known = cell.metadata.get("nbgrader", {})
        if known.get("grade_id") == "install":
            continue
        tree = ast.parse(cell.source)
        for node in ast.walk(tree):
            if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
                if node.value.id in BANKS:
                    helpers.setdefault(node.value.id, set()).add(node.attr)
        if known.get("grade"):
            call = tree.body[-1].value
            part = parts(call.func.value.id)[call.func.attr]
            asked.append(Asked(known["grade_id"], part, call.args[0].id, known["points"]))
    return Exercise(path.stem, cells, asked, helpers)


# --- what of a notebook is run --------------------------------------------------------------------


def _reads_and_binds(source: str) -> tuple[set[str], set[str]]:
    try:
        nodes = list(ast.walk(ast.parse(source)))
    except SyntaxError:  # magics
        return set(), set()
    names = [n for n in nodes if isinstance(n, ast.Name)]
    binds = {n.id for n in names if not isinstance(n.ctx, ast.Load)}
    binds |= {n.name for n in nodes if isinstance(n, ast.FunctionDef | ast.ClassDef)}
    for n in nodes:
        if isinstance(n, ast.Import | ast.ImportFrom):
            binds |= {a.asname or a.name.partition(".")[0] for a in n.names}
    return {n.id for n in names if isinstance(n.ctx, ast.Load)}, binds


def steps(submitted: list, given: Exercise) -> list[str | Asked]:
    """In the notebook's order: cells to run, and parts to grade, each once.

    Run are the student's own cells, and given ones whose names those read; the rest of what was
    given draws figures and trains networks, which takes minutes. Check cells are not run, so that
    what a student did to them does not matter; they mark where a part is graded.
    """
    stubs = {c.source for c in given.cells if c.metadata.get("nbgrader", {}).get("solution")}
    shown = {c.source for c in given.cells} - stubs
    checks = {asked.cell: asked for asked in given.asked}
    plan = []
    for cell in submitted:
        name = cell.metadata.get("nbgrader", {}).get("grade_id")
        if name in checks:
            plan += [checks.pop(name)]
        elif name != "install" and name not in {asked.cell for asked in given.asked}:
            plan += [cell.source]
    plan += checks.values()  # deleted: graded at the end
    wanted, chosen = set(), []
    for step in reversed(plan):
        if isinstance(step, Asked):
            wanted.add(step.answer)
        else:
            reads, binds = _reads_and_binds(step)
            if step in shown and not binds & wanted:
                continue
            wanted |= reads
        chosen.append(step)
    return chosen[::-1]


# --- one submission -------------------------------------------------------------------------------


def _open(path: Path) -> list:
    try:
        with path.open(encoding="utf-8") as file:
            cells = nbformat.reads(file.read(1 << 25), 4).cells
        return [c for c in cells if c.cell_type == "code" and isinstance(c.source, str)]
    except Exception as error:  # whatever the file is, it is the student's
        raise ValueError(f"not a notebook that can be read ({type(error).__name__})") from None


def _results(
    path: Path, given: Exercise, lib: Path, seed: int, seconds: float
) -> Iterator[tuple[Asked, Result]]:
    """A Result for each part, whatever the submission does."""
    try:
        plan = steps(_open(path), given)
    except ValueError as error:
        yield from ((a, _wrong("unreadable", f"The file is {error}.")) for a in given.asked)
        return
    graded, raised, starts = set(), {}, 0
    while len(graded) < len(given.asked):
        starts += 1
        with Sandbox(lib, seconds=seconds) as sandbox:
            try:
                for at, step in enumerate(plan):
                    if isinstance(step, str):
                        told = sandbox.cell(step)
                        if told:
                            raised[at] = f"A cell above raised {told}"
                    elif step not in graded:
                        result = step.part(sandbox.value(step.answer), seed=seed)
                        if result.outcome == EMPTY and raised:
                            says = "; ".join(
                                f"a cell above raised {told}" for told in raised.values()
                            )
                            result = Result(EMPTY, result.says, says)
                        yield step, result
                        graded.add(step)
            except Ended as error:
                if isinstance(step, str):
                    plan[at], raised[at] = "", f"A cell above was stopped: {error}."
                else:
                    yield step, _wrong("ended", f"Stopped: {error}.")
                    graded.add(step)
        if starts > RESTARTS:
            often = _wrong("ended", "Not graded: this notebook was stopped too often.")
            yield from ((asked, often) for asked in given.asked if asked not in graded)
            return


def grade(
    path: Path, given: Exercise, lib: Path, target: Path, seed: int, seconds: float, key: str
) -> None:
    """Grade one submission and write its report, a part at a time, so that none is lost."""
    rows, report = {}, {"key": key, "whole": False}
    for asked, result in _results(path, given, lib, seed, seconds):
        score = asked.points * bool(result)
        known = {"cell": asked.cell, "points": asked.points, "score": score}
        rows[asked] = known | asdict(result)
        _write(target, report | {"parts": [rows[a] for a in given.asked if a in rows]})
    _write(target, report | {"whole": True, "parts": [rows[a] for a in given.asked]})


def _write(target: Path, report: dict) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    beside = target.with_suffix(".part")
    beside.write_text(json.dumps(report, indent=1, ensure_ascii=False), "utf-8")
    beside.replace(target)


# --- all of them ----------------------------------------------------------------------------------


@dataclass(frozen=True)
class Submission:
    """One file of one student."""

    student: str
    exercise: str
    path: Path

    def place(self, folder: Path, suffix: str) -> Path:
        """Where what is written about it lies."""
        return folder / self.student / f"{self.exercise}{suffix}"


def collect(folder: Path, known: set[str]) -> list[Submission]:
    """What lies at STUDENT/…/NN_exercise.ipynb; ValueError for two of one student and exercise."""
    found = {}
    for path in sorted(folder.rglob("*.ipynb")):
        inside = path.relative_to(folder).parts
        if len(inside) < 2 or any(name.startswith(".") for name in inside):
            continue
        one = Submission(inside[0], path.stem, path)
        if one.exercise not in known:
            print(f"{path}: no exercise of this name, left out", file=sys.stderr)
        elif (one.student, one.exercise) in found:
            raise ValueError(f"{path}: {one.student} has handed in {one.exercise} twice")
        else:
            found[one.student, one.exercise] = one
    return list(found.values())


def _key(submission: Submission, seed: int) -> str:
    """Changes when the submission does, or what it is graded with."""
    told = hashlib.sha256(f"{seed} ".encode())
    given = EXERCISES / f"{submission.exercise}.ipynb"
    for path in (submission.path, given, *sorted(LIB.rglob("*.py"))):
        told.update(path.read_bytes())
    return told.hexdigest()


def _report(path: Path) -> dict:
    try:
        return json.loads(path.read_text("utf-8"))
    except (OSError, ValueError):
        return {}


def _completed(report: dict, given: Exercise, why: str) -> dict:
    """What was not reached counts as wrong, and says why."""
    graded = {row["cell"]: row for row in report.get("parts", [])}
    says = asdict(_wrong("ended", f"Not graded: {why}."))
    rows = [
        graded.get(a.cell, {"cell": a.cell, "points": a.points, "score": 0.0} | says)
        for a in given.asked
    ]
    return report | {"parts": rows, "whole": True}


def grade_all(
    submissions: list[Submission], out: Path, seed: int, seconds: float, jobs: int
) -> int:
    """Grade what was not graded before, each in a process of its own; returns how many."""
    given = {
        name: exercise(EXERCISES / f"{name}.ipynb") for name in {s.exercise for s in submissions}
    }
    keys = {s: _key(s, seed) for s in submissions}
    waiting = [
        s
        for s in submissions
        if (r := _report(s.place(out / "results", ".json"))).get("key") != keys[s] or not r["whole"]
    ]
    for name in sorted({s.exercise for s in waiting}):  # drawn once, for all that are to come
        for asked in given[name].asked:
            if isinstance(asked.part, Function):
                _problems(asked.part, seed)
    fork = multiprocessing.get_context("fork")
    running, done = {}, 0
    with tempfile.TemporaryDirectory() as scratch:
        # Passing here is not the progress of who grades.
        os.environ["ATTRIBUTION_PROGRESS"] = str(Path(scratch, "progress.json"))
        libs = {}
        for name in given:
            libs[name] = Path(scratch, name)
            write_lib(libs[name], given[name].helpers)
        queue = list(waiting)
        while queue or running:
            while queue and len(running) < jobs:
                s = queue.pop(0)
                target = s.place(out / "results", ".json")
                target.unlink(missing_ok=True)
                arguments = (
                    s.path,
                    given[s.exercise],
                    libs[s.exercise],
                    target,
                    seed,
                    seconds,
                    keys[s],
                )
                process = fork.Process(target=grade, args=arguments)
                process.start()
                running[process] = s, target, time.monotonic() + TOTAL
            wait([process.sentinel for process in running], timeout=1)
            for process, (s, target, deadline) in list(running.items()):
                late = time.monotonic() > deadline
                if process.is_alive() and not late:
                    continue
                process.kill()
                process.join()
                del running[process]
                report = _report(target)
                if not report.get("whole"):
                    why = "it took too long" if late else "the grader failed; please tell us"
                    report = _completed({"key": keys[s], **report}, given[s.exercise], why)
                    _write(target, report)
                done += 1
                _feedback(s, report, out)
                got = sum(row["score"] for row in report["parts"])
                print(f"{done}/{len(waiting)} {s.student} {s.exercise}: {got:g}", flush=True)
    return done


# --- reports --------------------------------------------------------------------------------------


def _feedback(s: Submission, report: dict, out: Path) -> None:
    rows = []
    for row in report["parts"]:
        kept = {name: row[name] for name in ("outcome", "says", "more", "diagnosis")}
        points = f"{row['score']:g} of {row['points']:g}"
        rows.append(f"<h2>{html.escape(row['cell'])}: {points}</h2>{Result(**kept)._repr_html_()}")
    target = s.place(out / "feedback", ".html")
    target.parent.mkdir(parents=True, exist_ok=True)
    title = html.escape(f"{s.student}, {s.exercise}")
    target.write_text(
        f'<!doctype html><html lang="en"><meta charset="utf-8"><title>{title}</title>'
        "<style>body { font: 1rem/1.5 sans-serif; max-width: 44rem; margin: 2rem auto }"
        "h2 { font-size: 1rem; margin: 1.5rem 0 0.3rem } pre { overflow-x: auto }</style>"
        f"<h1>{title}</h1>{''.join(rows)}</html>\n",
        "utf-8",
    )


def write_csv(submissions: list[Submission], out: Path) -> None:
    """A line for each part of each submission."""
    with (out / "grades.csv").open("w", encoding="utf-8", newline="") as file:
        table = csv.writer(file)
        table.writerow(["student", "exercise", "part", "score", "points", "outcome", "diagnosis"])
        for s in submissions:
            for row in _report(s.place(out / "results", ".json"))["parts"]:
                facts = [row[k] for k in ("cell", "score", "points", "outcome", "diagnosis")]
                table.writerow([s.student, s.exercise, *facts])


def write_gradebook(submissions: list[Submission], out: Path) -> None:
    """The scores in nbgrader's own database, where its tools find them."""
    # It starts a program that was installed beside this Python.
    os.environ["PATH"] = f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', '')}"
    with Gradebook(f"sqlite:///{(out / 'gradebook.db').resolve()}") as book:
        for name in sorted({s.exercise for s in submissions}):
            book.update_or_create_assignment(name)
            book.update_or_create_notebook(name, name)
            for asked in exercise(EXERCISES / f"{name}.ipynb").asked:
                options = {"max_score": asked.points, "cell_type": "code"}
                book.update_or_create_grade_cell(asked.cell, name, name, **options)
        for s in submissions:
            book.update_or_create_student(s.student)
            try:
                book.find_submission(s.exercise, s.student)
            except MissingEntry:
                book.add_submission(s.exercise, s.student)
            for row in _report(s.place(out / "results", ".json"))["parts"]:
                mark = book.find_grade(row["cell"], s.exercise, s.exercise, s.student)
                mark.auto_score, mark.needs_manual_grade = row["score"], False
        book.db.commit()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("submissions", type=Path)
    parser.add_argument("--out", type=Path, default=Path("graded"))
    parser.add_argument("--jobs", type=int, default=len(os.sched_getaffinity(0)))
    parser.add_argument("--seconds", type=float, default=10, help="that one call may take")
    parser.add_argument("--seed", type=int, help="of the random cases; kept in --out")
    asked = parser.parse_args()
    if not asked.submissions.is_dir():
        sys.exit(f"submissions: expected a folder, got {asked.submissions}")
    try:
        found = collect(asked.submissions, {path.stem for path in EXERCISES.glob("*.ipynb")})
    except ValueError as error:
        sys.exit(f"submissions: {error}")
    if not found:
        sys.exit(f"submissions: expected STUDENT/…/NN_exercise.ipynb in {asked.submissions}")
    asked.out.mkdir(parents=True, exist_ok=True)
    kept = asked.out / "seed.txt"
    if asked.seed is not None or not kept.exists():
        kept.write_text(str(secrets.randbits(31) if asked.seed is None else asked.seed))
    print(f"Submissions run in {Sandbox.means()}.")
    new = grade_all(found, asked.out, int(kept.read_text()), asked.seconds, asked.jobs)
    write_csv(found, asked.out)
    write_gradebook(found, asked.out)
    print(f"{new} graded, {len(found) - new} as before. See {asked.out}/grades.csv")


if __name__ == "__main__":
    main()
