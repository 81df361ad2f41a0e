"""Random problems on which formulas are checked and answers graded.

All dimensions of one problem differ, and nothing is constant, symmetric or orthogonal by accident:
a wrong formula has nowhere to hide. Every function takes a numpy Generator.
"""

import math
from dataclasses import dataclass
from itertools import permutations

import numpy as np
import torch
from torch import Tensor

from lib.bayesian import Gibbs
from lib.counterfactuals import fit
from lib.exact_posteriors import quadrature
from lib.models import MLP, cross_entropy, logistic, poisson, squared_error
from lib.objective import Objective


def normal(rng: np.random.Generator, *shape: int) -> Tensor:
    """Standard normal numbers, float64."""
    return torch.from_numpy(rng.standard_normal(shape))


def stretched(rng: np.random.Generator, n: int, p: int) -> Tensor:
    """Inputs (n, p) off centre, with columns of different scale and correlated."""
    mix = np.eye(p) + 0.4 * rng.standard_normal((p, p))
    x = (rng.standard_normal((n, p)) + 0.3 * rng.standard_normal(p)) @ mix
    return torch.from_numpy(x * np.exp(0.3 * rng.standard_normal(p)))


@dataclass(frozen=True)
class Regression:
    """A linear regression and one of its examples: x (n, p), y (n,), 0 ≤ j < n."""

    x: Tensor
    y: Tensor
    j: int


def regression(rng: np.random.Generator) -> Regression:
    """n in 7 … 13 examples of p in 2 … 4 inputs; the labels are linear plus noise."""
    n, p = int(rng.integers(7, 14)), int(rng.integers(2, 5))
    x = stretched(rng, n, p)
    return Regression(x, x @ normal(rng, p) + normal(rng, n), int(rng.integers(n)))


@dataclass(frozen=True, eq=False)
class Wave:
    """The curved observable φ(w) = sin(q·w) + ½ (q·w)², for a direction q (p,)."""

    q: Tensor

    def __call__(self, w: Tensor) -> Tensor:
        """φ(w), a scalar."""
        return torch.sin(self.q @ w) + 0.5 * (self.q @ w) ** 2


@dataclass(frozen=True)
class Trained:
    """An objective, parameters w (p,), an observable's direction q (p,), and an example j."""

    objective: Objective
    w: Tensor
    q: Tensor
    j: int

    def phi(self, w: Tensor) -> Tensor:
        """The observable along q, a scalar."""
        return Wave(self.q)(w)


def logistic_problem(rng: np.random.Generator) -> Trained:
    """Penalised logistic regression, not at its minimum: n in 9 … 14, p in 2 … 4."""
    n, p = int(rng.integers(9, 15)), int(rng.integers(2, 5))
    x, y = stretched(rng, n, p), torch.from_numpy(rng.choice([-1.0, 1.0], n))
    objective = logistic(x, y, l2=float(rng.uniform(0.3, 1.0)))
    return Trained(objective, normal(rng, p), normal(rng, p), int(rng.integers(n)))


def network_problem(rng: np.random.Generator, classes: int = 3) -> Trained:
    """A small tanh network with `classes` logits (or one output and squared error if 1)."""
    n, inputs, hidden = int(rng.integers(7, 12)), int(rng.integers(2, 4)), int(rng.integers(4, 6))
    x = stretched(rng, n, inputs)
    mlp = MLP((inputs, hidden, classes))
    if classes == 1:
        objective = mlp.objective(x, normal(rng, n), loss=squared_error)
    else:
        labels = torch.from_numpy(rng.permutation(np.arange(n) % classes))
        objective = mlp.objective(x, labels, loss=cross_entropy)
    w = 0.7 * normal(rng, mlp.p)
    return Trained(objective, w, normal(rng, mlp.p), int(rng.integers(n)))


def game(rng: np.random.Generator):
    """A random set function on n in 3 … 5 players with v(∅) ≠ 0: (value, n)."""
    n = int(rng.integers(3, 6))
    table = rng.standard_normal(2**n)
    return lambda s: float(table[sum(1 << i for i in s)]), n


@dataclass(frozen=True)
class Posterior:
    """A Gibbs posterior over two parameters, an observable's direction q (2,), and an example j."""

    gibbs: Gibbs
    q: Tensor
    j: int

    phi = Trained.phi

    def nodes(self, beta: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Quadrature points (m, 2) and their probabilities (m,)."""
        return quadrature(self.gibbs, (-12.0, -12.0), (12.0, 12.0), 201, beta)


def posterior(rng: np.random.Generator) -> Posterior:
    """Tempered logistic regression on n in 5 … 8 examples of two inputs, with a Gaussian prior."""
    n = int(rng.integers(5, 9))
    x, y = stretched(rng, n, 2), torch.from_numpy(rng.choice([-1.0, 1.0], n))
    objective = logistic(x, y, l2=float(rng.uniform(0.6, 1.2)))
    gibbs = Gibbs(objective, inverse_temperature=float(rng.uniform(0.5, 2.0)))
    return Posterior(gibbs, normal(rng, 2), int(rng.integers(n)))


@dataclass(frozen=True)
class Counted:
    """A Poisson regression at its minimum w* (p,), and one of its examples k."""

    objective: Objective
    w_star: Tensor
    k: int


def counted(rng: np.random.Generator, p: int = 2) -> Counted:
    """n in 5 … 8 positive counts, so that the summed loss has exactly one minimum."""
    n = int(rng.integers(5, 9))
    objective = poisson(0.6 * stretched(rng, n, p), torch.from_numpy(rng.integers(1, 5, n) + 0.0))
    w_star = fit(objective, torch.ones(n, dtype=torch.float64), torch.zeros(p, dtype=torch.float64))
    return Counted(objective, w_star, int(rng.integers(n)))


@dataclass(frozen=True)
class Quartic:
    """Losses and an observable that are polynomials, given by their derivatives at w = 0.

    slopes (n, 2), bends (n, 2, 2), cubics (n, 2, 2, 2), quartics (n, 2, 2, 2, 2) of the L_i, the
    slopes summing to zero; f: the three derivative tensors of φ.
    """

    objective: Objective
    tensors: tuple[Tensor, Tensor, Tensor, Tensor]
    f: tuple[Tensor, Tensor, Tensor]

    def phi(self, w: Tensor) -> Tensor:
        """The observable, a cubic polynomial."""
        return polynomial(w, self.f)


def polynomial(w: Tensor, tensors) -> Tensor:
    """Σ_k T_k[w, …, w] / k! from the symmetric derivative tensors T_1, T_2, … at zero."""
    total = w.new_zeros(())
    for k, tensor in enumerate(tensors, start=1):
        for _ in range(k):
            tensor = tensor @ w
        total = total + tensor / math.factorial(k)
    return total


def quartic(rng: np.random.Generator) -> Quartic:
    """n in 4 … 6 random polynomials of degree four in two parameters, with a minimum at zero."""
    n = int(rng.integers(4, 7))

    def symmetric(order: int, *lead: int) -> Tensor:
        raw = rng.standard_normal((*lead, *[2] * order))
        at = len(lead)
        moved = [
            np.moveaxis(raw, range(at, at + order), [at + k for k in p])
            for p in permutations(range(order))
        ]
        return torch.from_numpy(np.mean(moved, axis=0))

    slopes = symmetric(1, n)
    slopes = slopes - slopes.mean(dim=0)
    mix = rng.standard_normal((n, 2, 2))
    bends = torch.from_numpy(mix @ np.swapaxes(mix, 1, 2) + 0.3 * np.eye(2))
    tensors = (slopes, bends, symmetric(3, n), symmetric(4, n))
    rows = torch.cat([t.flatten(1) for t in tensors], dim=1)

    def loss(w: Tensor, row: Tensor) -> Tensor:
        parts = row.split([2, 4, 8, 16])
        return polynomial(w, [part.view([2] * k) for k, part in enumerate(parts, start=1)])

    objective = Objective(lambda w, x_i: w, loss, rows, rows)
    return Quartic(objective, tensors, (symmetric(1), symmetric(2), symmetric(3)))
