"""Grade the grader, and write the page that says how it did.

`grader.py --measure --seeds 200` gives it every named mistake and every correct variant, times its
answers, and writes book/_data/grader.json (a quarter of an hour); `mutants.py --seeds 200` does the
same for mutants. Without `--measure`, book/grader.md is written from what those two have recorded.
"""

import argparse
import csv
import importlib
import json
import os
import sys
import tempfile
import time
from functools import cache
from pathlib import Path

import numpy as np
from joblib import Parallel, delayed

from lib import checks
from lib.checks import engine
from lib.checks.engine import WRONG, Choice, Formula, Function, Mistake

ROOT = Path(__file__).resolve().parent.parent
DATA = ROOT / "book" / "_data"
SLOW = 0.3
"""Seconds within which an answer should come."""
VERDICTS = ("right", "open", "misleading")


def parts() -> dict:
    """Every part of every exercise, by its id."""
    return {part.id: part for bank in checks.BANKS for part in checks.parts(bank).values()}


def mistakes(part) -> list[Mistake]:
    """The mistakes that a part has a name for."""
    if isinstance(part, Choice):
        return [Mistake(word, word, says) for word, says in part.wrong.items()]
    return part.mistakes


def mistaken(part, m: int, seed: int):
    """The wrong answer that mistake m describes; a function's values are those the grader keeps."""
    if not isinstance(part, Function):
        return mistakes(part)[m].formula
    asked = iter([*range(part.draws), 0])
    return lambda *case: engine._mistaken(part, seed, m, next(asked))


def by_seeds(part, seeds: int) -> range:
    """Words and numbers are compared with one truth, whatever the seed."""
    return range(seeds if isinstance(part, Function | Formula) else 1)


def faults(part, variants: dict, seeds: int) -> list[str]:
    """What is graded wrongly: a named mistake that is not named so, a correct answer rejected."""
    found = []
    for seed in by_seeds(part, seeds):
        # Both on the same cases, which are drawn once a seed.
        for m, mistake in enumerate(mistakes(part)):
            got = part(mistaken(part, m, seed), seed=seed)
            if (got.outcome, got.diagnosis, got.says) != (WRONG, mistake.name, mistake.says):
                found.append(f"seed {seed}: {mistake.name} is {got}")
        for name, answer in variants.items():
            if not (got := part(answer, seed=seed)):
                found.append(f"seed {seed}: variant {name} is {got}")
    return found


@cache
def _variants() -> dict[str, dict]:
    sys.path.insert(0, str(ROOT / "tests"))
    return importlib.import_module("variants").VARIANTS


def strangers() -> list[tuple[str, str, object]]:
    """Part, what is wrong, and the answer, of wrong answers written without a look at the banks."""
    sys.path.insert(0, str(ROOT / "tests"))
    modules = [importlib.import_module(f"wrong.{bank}") for bank in checks.BANKS]
    return [
        (part, wrong, answer)
        for module in modules
        for part, answers in module.WRONG.items()
        for wrong, answer in answers.items()
    ]


def verdicts() -> dict[tuple[str, str], dict]:
    """What was said to each of them, and whether that was right, open or misleading."""
    with (ROOT / "tests" / "wrong" / "verdicts.csv").open(encoding="utf-8", newline="") as file:
        return {(row["part"], row["wrong"]): row for row in csv.DictReader(file)}


def _apart(name: str) -> None:
    """What is passed while measuring is nobody's progress."""
    os.environ["ATTRIBUTION_PROGRESS"] = str(Path(tempfile.gettempdir(), f"grader-{name}.json"))


def _graded(part_id: str, seeds: int) -> dict:
    _apart(part_id)
    part, variants = parts()[part_id], _variants()[part_id]
    return {
        "mistakes": len(mistakes(part)),
        "variants": len(variants),
        "seeds": len(by_seeds(part, seeds)),
        "faults": faults(part, variants, seeds),
    }


def _seconds(answers: list[tuple]) -> list[float]:
    """How long each answer takes to be graded, on cases that were not drawn before."""
    _apart("time")
    took = []
    for seed, (part, answer) in enumerate(answers, 10**6):
        start = time.perf_counter()
        part(answer, seed=seed)
        took.append(time.perf_counter() - start)
    return took


def measure(seeds: int, jobs: int) -> dict:
    """All that grader.json holds."""
    graded = dict(
        zip(parts(), Parallel(jobs)(delayed(_graded)(p, seeds) for p in parts()), strict=True)
    )
    known = parts()
    right = [(known[p], answer) for p in known for answer in list(_variants()[p].values())[:3]]
    wrong = [(known[p], answer) for p, _, answer in strangers()]
    took = np.array(_seconds([*right, *wrong]))
    return {
        "seeds": seeds,
        "parts": graded,
        "seconds": {
            "checks": len(took),
            "median": round(float(np.median(took)), 4),
            "share in 0.3": round(float((took < SLOW).mean()), 4),
            "slowest": round(float(took.max()), 2),
        },
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--measure", action="store_true")
    parser.add_argument("--seeds", type=int, default=200)
    parser.add_argument("--jobs", type=int, default=len(os.sched_getaffinity(0)))
    asked = parser.parse_args()
    if asked.measure:
        text = json.dumps(measure(asked.seeds, asked.jobs), indent=1, ensure_ascii=False)
        (DATA / "grader.json").write_text(text + "\n", "utf-8")
    (ROOT / "book" / "grader.md").write_text(page(), "utf-8")


def page() -> str:
    """The page, from what was recorded."""
    raise NotImplementedError


if __name__ == "__main__":
    main()
