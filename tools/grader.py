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
from collections import Counter
from functools import cache
from pathlib import Path

import mutants
import nbformat
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


sys.path.insert(0, str(ROOT / "tests"))  # where the answers are that it is given


@cache
def _variants() -> dict[str, dict]:
    return importlib.import_module("variants").VARIANTS


def strangers() -> list[tuple[str, str, object]]:
    """Part, what is wrong, and the answer, of wrong answers written without a look at the banks."""
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
        zip(
            parts(),
            Parallel(jobs, backend="multiprocessing")(delayed(_graded)(p, seeds) for p in parts()),
            strict=True,
        )
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
    graded = json.loads((DATA / "grader.json").read_text("utf-8"))
    mutated = json.loads((DATA / "mutants.json").read_text("utf-8"))
    judged = verdicts()
    said = Counter(row["verdict"] for row in judged.values())
    odd = importlib.import_module("odd")
    banks = {path.stem.split("_", 1)[1]: path.stem for path in (ROOT / "exercises").glob("*.ipynb")}
    rows, total = [], Counter()
    for bank in checks.BANKS:
        here = [row for part, row in graded["parts"].items() if part.startswith(f"{bank}.")]
        own = [row for (part, _), row in judged.items() if part.startswith(f"{bank}.")]
        counts = Counter(
            parts=len(here),
            mistakes=sum(row["mistakes"] for row in here),
            variants=sum(row["variants"] for row in here),
            mutants=mutated["exercises"][banks[bank]]["mutants"],
            passed=mutated["exercises"][banks[bank]]["passed"],
            named=mutated["exercises"][banks[bank]]["named"],
            right=sum(row["verdict"] == "right" for row in own),
            judged=len(own),
        )
        total += counts
        rows.append(_row(f"[{_title(banks[bank])}](../solutions/{banks[bank]}.ipynb)", counts))
    rows.append(_row("**all**", total))
    reasons = dict.fromkeys((row["line"], row["becomes"], row["why"]) for row in mutants.recorded())
    survivors = "".join(f"| `{line}` | `{becomes}` | {why} |\n" for line, becomes, why in reasons)
    share = {
        verdict: f"{said[verdict] / said.total():.1%}".replace("%", "\u00a0%")
        for verdict in VERDICTS
    }
    return PAGE.format(
        seeds=graded["seeds"],
        mutant_seeds=mutated["seeds"],
        mistakes=total["mistakes"],
        mutants=total["mutants"],
        passed=total["passed"],
        named=f"{total['named'] / (total['mutants'] - total['passed']):.0%}".replace(
            "%", "\u00a0%"
        ),
        variants=total["variants"],
        judged=said.total(),
        **{verdict: said[verdict] for verdict in VERDICTS},
        **{f"share_{verdict}": share[verdict] for verdict in VERDICTS},
        odd=len(odd.VALUES) + len(odd.FUNCTIONS) + 1,
        median=round(1000 * graded["seconds"]["median"]),
        soon=f"{graded['seconds']['share in 0.3']:.1%}".replace("%", "\u00a0%"),
        slowest=graded["seconds"]["slowest"],
        checks=graded["seconds"]["checks"],
        rows="".join(rows),
        survivors=survivors,
    )


def _title(name: str) -> str:
    first = nbformat.read(ROOT / f"solutions/{name}.ipynb", 4).cells[0].source
    return first.splitlines()[0].removeprefix("# ").split(":")[0]


def _row(name: str, c: Counter) -> str:
    cells = (
        c["parts"],
        c["mistakes"],
        f"{c['mutants'] - c['passed']}\u00a0+\u00a0{c['passed']}",
        c["variants"],
        f"{c['right']}\u00a0of\u00a0{c['judged']}",
    )
    return f"| {name} | {' | '.join(map(str, cells))} |\n"


PAGE = """\
# How good is the grader?

A tick is worth what the check behind it is worth. So the checks are graded too, on answers whose worth is known. The
figures below come from one command, given at the end, and tests hold the book to them.

## Does it catch mistakes?

Each part has a list of wrong answers that people give, with a first line for each. There are {mistakes} of them. Given
to the grader on {seeds} draws of its random cases, all are caught, and each is called by its own name every time.

A list catches what its author thought of. *Mutants* are made without thinking: take a worked solution and change one
operator, sign, constant, index, axis, term or pair of arguments. That gives {mutants} programs. The grader passes
{passed}, on each of {mutant_seeds} draws, and is right to: a matrix that is symmetric may be transposed, a search may
start from another place. Here they are, with the reason for each.

:::{{dropdown}} The {passed} mutants that are no mistakes
| line | becomes | why it is no mistake |
|---|---|---|
{survivors}:::

## Does it accept what is right?

{variants} correct answers, ten or more for every function and formula, are written in as many ways as we could find:
loops and einsum, inverses and solves, derivatives by hand and by machine, lists and tensors, other libraries. On the
same {seeds} draws none is rejected.

## Does it say the right thing?

This is harder to know, since the author of a list finds its mistakes easy to recognise. So {judged} wrong answers,
three to a part, were written separately, from the chapters and exercises alone and without a look at the lists; each
came with a sentence on what is wrong with it. Then the first line of the grader was compared with that sentence.

| the first line | answers | share |
|---|--:|--:|
| names the mistake, or what it comes to | {right} | {share_right} |
| leaves it open: says where the answer differs, and no more | {open} | {share_open} |
| claims a mistake that was not made | {misleading} | {share_misleading} |

What it left open then has been given a name since, where there is one; the table stays as it was. It flatters the
grader a little: those who wrote the answers had read the same warnings in the text that the lists are made from. Of the
mutants, which nobody would hand in, {named} get a name and the others are shown the smallest case they fail on.

## And nonsense?

Every part was handed {odd} things that nobody asks for: nothing, words, NaN, an array of a million zeros, a module, an
object that raises at every touch; functions that recurse, exit, print, sleep for an hour, loop for ever or spoil their
arguments. Each gets one of the three outcomes and a first line that can be read. What runs longer than five seconds is
stopped, as far as Python can stop it.

## How long does it take?

Of {checks} answers, right and wrong, on cases never drawn before, {soon} were graded within 0.3 seconds on one core; the
median is {median} ms, the slowest {slowest} s.

## Exercise by exercise

| exercise | parts | named mistakes | mutants: caught + no mistake | correct variants | strangers' mistakes named |
|---|--:|--:|--:|--:|--:|
{rows}
A reader whose right answer is rejected, or whose wrong one passes, has found what all this has missed. Please tell us:
at the foot of each page there is a link for it.

```
make grader
.venv/bin/python -m pytest tests/test_checks.py tests/test_mutants.py tests/test_strangers.py tests/test_fuzz.py
```
"""  # noqa: E501


if __name__ == "__main__":
    main()
