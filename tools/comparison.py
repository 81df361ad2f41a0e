"""Write book/_data/comparison.csv: every estimator against three kinds of retraining, on two tasks,
twice over with other seeds. `make comparison` runs it; a run takes about a quarter of an hour."""

import argparse
import platform
import time
from datetime import date
from functools import partial
from pathlib import Path

import joblib
import numpy as np
import pandas as pd
import torch

from lib.comparison import Task, Truth, compare
from lib.counterfactuals import without_one
from lib.data import digits
from lib.evaluation import Recipe, random_subsets, reliability, sweep
from lib.models import MLP
from lib.training import constant

BOOK = Path(__file__).parent.parent / "book"
TRAININGS = {"short": (0.1, 15), "long": (0.3, 60)}
"""Learning rate and epochs."""


def task(training: str, seed: int) -> Task:
    """1000 digits, a 64-32-10 network, the losses on 100 other digits."""
    rate, times = TRAININGS[training]
    images, labels = digits()
    images = (images - 0.5).float()
    order = torch.from_numpy(np.random.default_rng(0).permutation(len(images)))
    seen, watched = order[:1000], order[1000:1100]
    mlp = MLP((64, 32, 10))
    recipe = Recipe(
        mlp.objective(images[seen], labels[seen]),
        partial(mlp.initial, dtype=torch.float32),
        batch=100,
        times=times,
        schedule=partial(constant, rate),
    )
    return Task(mlp, recipe, mlp.objective(images[watched], labels[watched]), seed)


def truths(one: Task, rng: np.random.Generator) -> tuple[list[Truth], float]:
    """Three kinds of retraining, and how reliable the one that averages over seeds is."""
    recipe, phi, seed, n = one.recipe, one.phi, one.seed, one.train.n
    halves, most = random_subsets(n, n // 2, 90, rng), random_subsets(n, 19 * n // 20, 90, rng)
    others = range(seed + 1, seed + 4)
    averaged = sweep(recipe.anew, phi, halves, others, chunk=45)
    singles = without_one(n, torch.from_numpy(rng.choice(n, 300, replace=False)))
    same = torch.cat([most, singles])
    found = sweep(recipe.reweighted, phi, same, (seed,), chunk=45)[0]
    return [
        Truth("halves, anew", halves, averaged.mean(dim=0).double(), 30),
        Truth("5 % dropped, same run", most, found[:90].double(), 30),
        Truth("one dropped, same run", singles, found[90:].double(), 100),
    ], reliability(averaged.double()).mean().item()


def main() -> None:
    """Run both tasks with both seeds and write the table."""
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--out", type=Path, default=BOOK / "_data" / "comparison.csv")
    out = options.parse_args().out
    tables = []
    for training in TRAININGS:
        for seed in (0, 100):
            one, rng = task(training, seed), np.random.default_rng([5, seed])
            with joblib.parallel_config("loky", n_jobs=2):
                known, trust = truths(one, rng)
            start = time.perf_counter()
            sweep(one.recipe.reweighted, one.phi, torch.ones(1, one.train.n), (seed,))
            alone = time.perf_counter() - start
            table = compare(one, known, rng, alone=True)
            facts = {"training": training, "seed": seed, "reliability": trust}
            tables.append(table.assign(**facts, training_seconds=alone))
            print(tables[-1].to_string(), flush=True)
    out.parent.mkdir(exist_ok=True)
    machine = f"{platform.machine()}, one thread, {date.today():%B %Y}"
    pd.concat(tables).assign(machine=machine).round(5).to_csv(out, index=False)


if __name__ == "__main__":
    main()
