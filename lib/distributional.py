"""Chapter 5, "Which run do you mean?": influence on what many runs have in common.

A seed s draws the start and the batches; w_T(β, s) is one run. Given the seeds, all that follows is
the chapter on unrolling, for many runs at once.
"""

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.func import vmap

from lib._validate import shaped
from lib.evaluation import Recipe
from lib.objective import Observable, observable_gradient
from lib.training import retrain


def over_seeds(
    recipe: Recipe, phi: Observable, seeds: Sequence[int], beta: Tensor | None = None
) -> Tensor:
    """φ(w_T(β, s)) for every seed, all runs trained at once; shape (seeds,), or (seeds, k).

    beta: (n,), or (seeds, n) for weights of each run's own; 1 if not given. Differentiable in beta.
    """
    if len(set(seeds)) != len(seeds) or len(seeds) == 0:
        raise ValueError(f"seeds: expected different integers, at least one, got {list(seeds)}")
    runs = [recipe.run(seed) for seed in seeds]
    many, n = len(runs), recipe.objective.n
    beta = runs[0].ones() if beta is None else beta
    if beta.ndim == 1:
        beta = beta.expand(many, -1)
    shaped("beta", beta, many, n)
    batches = torch.stack([run.batches for run in runs])
    w0 = torch.stack([run.w0 for run in runs])
    return vmap(phi)(retrain(runs[0], beta, batches=batches, w0=w0, chunk=many, progress=False))


def unrolled_over_seeds(
    recipe: Recipe, phi: Observable, seeds: Sequence[int]
) -> tuple[Tensor, Tensor]:
    """φ and ∂φ(w_T(β, s))/∂β_i of every run: shapes (seeds,) and (seeds, n), or (seeds, k) and
    (seeds, n, k) for k observables.

    `unrolling.reverse_mode` of every run, all at once and all steps kept. Equations eq-unrolled,
    eq-mean-over-runs.
    """
    w0 = recipe.run(seeds[0]).w0 if len(seeds) else torch.zeros(1)
    many = observable_gradient(phi, w0).shape[:-1].numel()
    beta = w0.new_ones(len(seeds), recipe.objective.n).requires_grad_()
    values = over_seeds(recipe, phi, seeds, beta)
    columns = values.view(len(seeds), many).unbind(dim=1)
    slopes = [torch.autograd.grad(column.sum(), beta, retain_graph=True)[0] for column in columns]
    influences = torch.stack(slopes, dim=2)
    return values.detach(), influences.view(*influences.shape[:2], *values.shape[1:])


def mean_influence(influences: Tensor) -> tuple[Tensor, Tensor]:
    """∂E_s[φ]/∂β_i and its standard error over seeds, from (seeds, n, …); shape (n, …) each.

    Equation eq-mean-over-runs.
    """
    many = len(influences)
    if many < 2:
        raise ValueError(f"influences: expected those of two seeds or more, got {many}")
    return influences.mean(dim=0), influences.std(dim=0) / many**0.5


def variance_influence(values: Tensor, influences: Tensor) -> Tensor:
    """∂Var_s[φ]/∂β_i = 2 Cov_s(φ, ∂φ/∂β_i) of the given seeds, (n,) or (n, k).

    values: (seeds,) or (seeds, k); influences: (seeds, n) or (seeds, n, k). The variance of these
    seeds as they are, divided by their number. Equation eq-variance-influence.
    """
    seeds = shaped("values", values, "seeds", *["k"] * (values.ndim - 1)).shape[0]
    shaped("influences", influences, seeds, "n", *values.shape[1:])
    away = (values - values.mean(dim=0)).unsqueeze(1)
    return 2 * (away * (influences - influences.mean(dim=0))).mean(dim=0)
