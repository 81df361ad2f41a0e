"""Chapter 5, "The comparison": every estimator of the book on one task, in one table.

A `Task` is a training recipe and some queries, whose losses are the observables; a `Truth` is what
retraining said; an `Estimator` turns a task into influences (n, k). Those with a knob are given all
its settings and judged by the one that did best on the tuning half of the truth.
"""

import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import cached_property
from multiprocessing import get_context
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from sklearn.linear_model import RidgeCV
from torch import Tensor

from lib import similarity
from lib._validate import shaped
from lib.bayesian import Gibbs, bayesian_influence
from lib.counterfactuals import without_one
from lib.curvature import ekfac, kfac, kronecker
from lib.evaluation import Recipe, Score, lds, predicted_effects, random_subsets, sweep
from lib.influence import Solve, columns, direct, gauss_newton, influence
from lib.models import MLP
from lib.objective import LossesOn, Objective, gradients, observable_gradient
from lib.sampling import sgld
from lib.source import Curvature, ekfac_curvature, exact_curvature, segments, source
from lib.training import Run, trajectory
from lib.unrolling import reverse_mode, tracin, tracin_at


@dataclass(frozen=True)
class Task:
    """A network, how it is trained, the seed of the run to attribute, and the queries."""

    mlp: MLP
    recipe: Recipe
    queries: Objective
    seed: int = 0

    @property
    def train(self) -> Objective:
        """The training set's objective."""
        return self.recipe.objective

    @property
    def phi(self) -> LossesOn:
        """The observables: the loss of every query, (p,) → (k,)."""
        return LossesOn(self.queries)

    @cached_property
    def run(self) -> Run:
        """The run whose model is attributed."""
        return self.recipe.run(self.seed)

    @cached_property
    def path(self) -> Tensor:
        """Its parameters w_0, …, w_T, shape (T + 1, p)."""
        return trajectory(self.run)

    @property
    def w(self) -> Tensor:
        """The trained parameters w_T, shape (p,)."""
        return self.path[-1]

    @property
    def effort(self) -> float:
        """η̄T, the learning rates of the run summed."""
        return self.run.rates.sum().item()

    @property
    def dampings(self) -> dict[str, float]:
        """λ from a hundredth to a hundred times n/η̄T, the damping that training chose."""
        natural = self.train.n / self.effort
        times = (0.01, 0.1, 0.3, 1.0, 3.0, 10.0, 100.0)
        return {f"λ = {by:g} n/η̄T": by * natural for by in times}


Influences = Tensor | Mapping[str, Tensor]
"""(n, k), or such a matrix for every setting of the estimator's knob."""


@dataclass(frozen=True)
class Estimator:
    """One row of the comparison: its name, what it needs to see, and how it answers."""

    name: str
    needs: str
    estimate: Callable[[Task], Influences]


NEEDS = ("the data", "the model", "checkpoints", "the run", "retraining")
"""What an estimator may need, from the least to the most."""


# --- estimators ----------------------------------------------------------------------------------

ESTIMATORS: list[Estimator] = []
"""Every estimator of the book that can give a number to each of a thousand examples."""


def _listed(name: str, needs: str):
    def add(function: Callable[[Task], Influences]) -> Callable[[Task], Influences]:
        ESTIMATORS.append(Estimator(name, needs, function))
        return function

    return add


@_listed("same label", "the data")
def by_label(task: Task) -> Tensor:
    """−1 for examples with the query's label: a score that never looks at the model."""
    return similarity.same_label(task.train, task.queries)


@_listed("label × pixel cosine", "the data")
def by_label_and_pixels(task: Task) -> Tensor:
    """Alike and of one label: another score that never looks at the model."""
    return similarity.label_and_pixels(task.train, task.queries)


@_listed("embedding cosine", "the model")
def by_embedding(task: Task) -> Tensor:
    """Cosine of the last hidden layer's activations."""
    return similarity.embedding_cosine(task.mlp, task.train, task.queries, task.w)


@_listed("last-layer gradients", "the model")
def by_last_layer(task: Task) -> Tensor:
    """Dot product of the last layer's gradients."""
    return similarity.last_layer_dot(task.mlp, task.train, task.queries, task.w)


@_listed("gradient dot", "the model")
def by_gradient_dot(task: Task) -> Tensor:
    """Dot product of gradients."""
    return similarity.gradient_dot(task.train, task.queries, task.w)


@_listed("gradient cosine", "the model")
def by_gradient_cosine(task: Task) -> Tensor:
    """Cosine of gradients."""
    return similarity.gradient_cosine(task.train, task.queries, task.w)


@_listed("TRAK, one model", "the model")
def by_trak(task: Task) -> Influences:
    """TRAK from one model, by the number of projected dimensions."""
    many = [d for d in (32, 128, 512) if d < min(task.train.n, len(task.w))]
    return {
        f"{d} dimensions": similarity.trak(
            task.train, task.queries, task.w, d, torch.Generator().manual_seed(d), damping=1e-3
        )
        for d in many
    }


def _damped(task: Task, solves: Callable[[float], Solve]) -> Influences:
    """−∇φᵀ(C + λI)⁻¹∇L_i at every damping, from gradients computed once."""
    slopes, pushes = gradients(task.train, task.w), observable_gradient(task.phi, task.w)
    return {
        name: -slopes @ columns(solves(damping)(pushes)) for name, damping in task.dampings.items()
    }


@_listed("influence, K-FAC", "the model")
def by_kfac(task: Task) -> Influences:
    """The influence function with K-FAC, by damping."""
    blocks = kfac(task.mlp, task.train, task.w)
    return _damped(task, lambda damping: kronecker(blocks, damping))


@_listed("influence, EK-FAC", "the model")
def by_ekfac(task: Task) -> Influences:
    """The influence function with EK-FAC, by damping."""
    blocks = ekfac(task.mlp, task.train, task.w)
    return _damped(task, lambda damping: kronecker(blocks, damping))


@_listed("influence", "the model")
def by_gauss_newton(task: Task) -> Influences:
    """The influence function with Gauss–Newton, factorised once, by damping."""
    values, vectors = torch.linalg.eigh(gauss_newton(task.train, task.w))
    return _damped(task, lambda damping: lambda v: (v @ vectors / (values + damping)) @ vectors.T)


@_listed("influence, λ untuned", "the model")
def by_natural_damping(task: Task) -> Tensor:
    """The influence function with Gauss–Newton and the damping that training chose."""
    solve = direct(gauss_newton(task.train, task.w), task.train.n / task.effort)
    return influence(task.train, task.w, task.phi, solve)


@_listed("Bayesian influence", "the model")
def by_posterior(task: Task) -> Influences:
    """The Bayesian influence function by SGLD held to w_T as training's effort says; by κ."""
    n, held = task.train.n, task.train.n / task.effort
    steepest = sum(b.eigenvalues.max().item() for b in ekfac(task.mlp, task.train, task.w))
    found = {}
    for cold in (1.0, 10.0, 100.0):
        gibbs = Gibbs(task.train, cold, cold * held, task.w)
        draws = sgld(
            gibbs,
            task.w.expand(8, -1).clone(),
            step=0.3 / (cold * (steepest + held)),
            draws=600,
            generator=torch.Generator().manual_seed(0),
            batch=min(200, n),
            burn_in=400,
            thin=5,
            progress=False,
        )
        found[f"κ = {cold:g}"] = bayesian_influence(gibbs, draws, task.phi).value
    return found


@_listed("TracIn, 5 checkpoints", "checkpoints")
def by_tracin_checkpoints(task: Task) -> Tensor:
    """TracIn at five checkpoints, each for a fifth of the steps."""
    parts = segments(task.run, 5, 1)
    at = torch.cat([part.checkpoints for part in parts])
    return tracin_at(task.train, at, at.new_tensor([part.effort for part in parts]), task.phi)


def _source(task: Task, curvature: Curvature) -> Tensor:
    return source(task.train, segments(task.run, 3, 2), task.w, task.phi, curvature)


@_listed("SOURCE, EK-FAC", "checkpoints")
def by_source_ekfac(task: Task) -> Tensor:
    """SOURCE with three segments of two checkpoints, in EK-FAC's eigenbasis."""
    return _source(task, ekfac_curvature(task.mlp))


@_listed("SOURCE", "checkpoints")
def by_source(task: Task) -> Tensor:
    """SOURCE with three segments of two checkpoints, with the whole Hessian."""
    return _source(task, exact_curvature)


@_listed("TracIn, every step", "the run")
def by_tracin(task: Task) -> Tensor:
    """TracIn along the whole run."""
    return tracin(task.run, task.phi)


@_listed("exact unrolling", "the run")
def by_unrolling(task: Task) -> Tensor:
    """Reverse mode through the run, for all queries at once."""
    return reverse_mode(task.run, task.phi, progress=False)


@_listed("leave-one-out", "retraining")
def by_leaving_one_out(task: Task) -> Tensor:
    """Minus the leave-one-out effects: one retraining an example, same start and batches."""
    beta = torch.cat([torch.ones(1, task.train.n).double(), without_one(task.train.n)])
    outcomes = sweep(task.recipe.reweighted, task.phi, beta, (task.seed,), progress=False)[0]
    return outcomes[0] - outcomes[1:]


@_listed("datamodel", "retraining")
def by_datamodel(task: Task) -> Tensor:
    """A ridge regression of the losses on who was in, from 2000 trainings on random halves.

    Ilyas et al. (2022), who use many more trainings and a sparse regression.
    """
    n, batch = task.train.n, task.recipe.batch
    kept = random_subsets(n, n // 2 // batch * batch, 2000, np.random.default_rng([7, task.seed]))
    outcomes = sweep(task.recipe.anew, task.phi, kept, (task.seed + 1000,), progress=False)[0]
    ridge = RidgeCV(np.logspace(0, 4, 9), alpha_per_target=True).fit(kept, outcomes)
    return torch.from_numpy(ridge.coef_.T.copy()).to(task.w.dtype)


# --- the table -----------------------------------------------------------------------------------


@dataclass(frozen=True)
class Truth:
    """Retrained outcomes (m, k) for data weights (m, n): those to tune on, and those to report."""

    name: str
    beta: Tensor
    outcomes: Tensor
    tuning: int

    def __post_init__(self):
        m, _ = shaped("beta", self.beta, "m", "n").shape
        shaped("outcomes", self.outcomes, m, "k")
        if not 3 <= self.tuning <= m - 3:
            raise ValueError(
                f"tuning: expected at least 3 rows, and 3 to report; got {self.tuning}"
            )

    def score(self, influences: Influences, rng: np.random.Generator) -> tuple[Score, str]:
        """The score on the rows to report, and the setting that did best on the others."""
        if isinstance(influences, Tensor):
            influences = {"": influences}
        if not influences:
            raise ValueError("influences: expected at least one setting of the estimator's knob")
        tune, report = slice(None, self.tuning), slice(self.tuning, None)
        if len(influences) > 1:
            on_tuning = {
                name: lds(
                    predicted_effects(each, self.beta[tune]), self.outcomes[tune], rng, resamples=2
                ).value
                for name, each in influences.items()
            }
            chosen = max(on_tuning, key=on_tuning.get)
        else:
            [chosen] = influences
        predicted = predicted_effects(influences[chosen], self.beta[report])
        return lds(predicted, self.outcomes[report], rng), chosen


@dataclass(frozen=True)
class Measured:
    """A result, the seconds it took, and the megabytes by which it raised the process's peak."""

    value: Influences
    seconds: float
    megabytes: float


def measured(estimator: Callable[[Task], Influences], task: Task) -> Measured:
    """Run an estimator alone, in a fresh process on one thread, with the training run at hand."""
    _ = task.path  # trained here, and handed over with the task
    with ProcessPoolExecutor(1, get_context("spawn")) as pool:
        return pool.submit(_measured, estimator, task).result()


def _measured(estimator: Callable[[Task], Influences], task: Task) -> Measured:
    torch.set_num_threads(1)
    gradients(task.train.take(torch.arange(2)), task.w)  # what torch.func does once, not timed
    before, start = _peak(), time.perf_counter()
    value = estimator(task)
    return Measured(value, time.perf_counter() - start, _peak() - before)


def _peak() -> float:
    """The most memory that this process ever had, in megabytes; NaN where Linux does not tell.

    Not by getrusage: its maximum begins with that of the process which started this one.
    """
    status = Path("/proc/self/status")
    if not status.exists():
        return float("nan")
    [line] = [line for line in status.read_text().splitlines() if line.startswith("VmHWM:")]
    return int(line.split()[1]) / 1024


def compare(
    task: Task,
    truths: Sequence[Truth],
    rng: np.random.Generator,
    estimators: Sequence[Estimator] = ESTIMATORS,
    *,
    alone: bool = False,
) -> pd.DataFrame:
    """Every estimator against every truth, one row a pair: method, needs, truth, setting, lds,
    error, seconds, megabytes.

    alone: run each estimator in a process of its own, which makes seconds and megabytes comparable;
    without it they are those of this process, and memory is not told.
    """
    rows = []
    for estimator in estimators:
        if alone:
            found = measured(estimator.estimate, task)
        else:
            start = time.perf_counter()
            value = estimator.estimate(task)
            found = Measured(value, time.perf_counter() - start, float("nan"))
        for truth in truths:
            score, setting = truth.score(found.value, rng)
            rows.append(
                {
                    "method": estimator.name,
                    "needs": estimator.needs,
                    "truth": truth.name,
                    "setting": setting,
                    "lds": score.value,
                    "error": score.error,
                    "seconds": found.seconds,
                    "megabytes": found.megabytes,
                }
            )
    return pd.DataFrame(rows)
