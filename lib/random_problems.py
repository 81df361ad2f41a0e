"""Random problems on which formulas are checked and answers graded.

All dimensions of one problem differ, and nothing is constant, symmetric or orthogonal by accident:
a wrong formula has nowhere to hide. Every function takes a numpy Generator.
"""

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from lib.models import MLP, cross_entropy, logistic, squared_error
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


@dataclass(frozen=True)
class Trained:
    """An objective, parameters w (p,), an observable's direction q (p,), and an example j."""

    objective: Objective
    w: Tensor
    q: Tensor
    j: int

    def phi(self, w: Tensor) -> Tensor:
        """A curved observable: sin(q·w) + ½ (q·w)²."""
        return torch.sin(self.q @ w) + 0.5 * (self.q @ w) ** 2


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
