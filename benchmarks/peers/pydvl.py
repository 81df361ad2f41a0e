"""pyDVL: influence with the Hessian formed or by conjugate gradients, EK-FAC, and Shapley values.

`influences` returns ∇φᵀ (H̄ + δI)⁻¹ ∇L_i, shape (k, n), with H̄ a mean over examples
(`influence/torch/functional.py`): −n times ours with δ = λ/n. EK-FAC's factors are those of the
loss Σ_c log p_c √p_c, summed (`util.empirical_cross_entropy_loss_fn`), in place of the Fisher
matrix. Shapley values are in the units of the game.
"""

import numpy as np
import torch
from pydvl.influence.torch import (
    CgInfluence,
    DirectInfluence,
    EkfacInfluence,
    SecondOrderMode,
)
from pydvl.valuation import ShapleyValuation
from pydvl.valuation.games import DummyGameDataset
from pydvl.valuation.samplers import DeterministicUniformSampler
from pydvl.valuation.stopping import NoStopping
from pydvl.valuation.utility.base import UtilityBase
from torch import Tensor
from torch.nn.functional import cross_entropy
from torch.utils.data import DataLoader, TensorDataset

from task import DAMPING, PLAYERS, TOLERANCE, Task

PACKAGE = "pyDVL"


def scores(task: Task, model) -> Tensor:
    """Minus pyDVL's scores over n, (n, k)."""
    data = TensorDataset(task.x, task.y)
    model = model.fit(DataLoader(data, len(data)))
    found = model.influences(task.x_test, task.y_test, task.x, task.y)
    return -found.detach().T / len(data)


def exact(task: Task) -> Tensor:
    """H formed."""
    return scores(task, DirectInfluence(task.module(), cross_entropy, DAMPING / len(task.x)))


def gauss_newton(task: Task) -> Tensor:
    """What it calls Gauss–Newton, from two batches: with one it divides by zero."""
    model = DirectInfluence(
        task.module(),
        cross_entropy,
        DAMPING / len(task.x),
        second_order_mode=SecondOrderMode.GAUSS_NEWTON,
    )
    data = TensorDataset(task.x, task.y)
    model = model.fit(DataLoader(data, len(data) // 2))
    found = model.influences(task.x_test, task.y_test, task.x, task.y)
    return -found.detach().T / len(data)


def cg(task: Task) -> Tensor:
    """All test digits at once, to the same tolerance."""
    return scores(
        task,
        CgInfluence(
            task.module(),
            cross_entropy,
            DAMPING / len(task.x),
            rtol=TOLERANCE,
            atol=0.0,
            solve_simultaneously=True,
        ),
    )


def ekfac(task: Task) -> Tensor:
    """EK-FAC with corrected eigenvalues."""
    return scores(
        task,
        EkfacInfluence(
            task.module(),
            update_diagonal=True,
            hessian_regularization=DAMPING / len(task.x),
        ),
    )


class Table(UtilityBase):
    """The small game."""

    def __init__(self, table: list[float]):
        self.table = table

    def __call__(self, sample) -> float:
        if sample is None:
            return 0.0
        return self.table[sum(1 << int(i) for i in sample.subset)]


def shapley(task: Task) -> Tensor:
    """Every coalition once for every player."""
    valuation = ShapleyValuation(
        Table(task.game), DeterministicUniformSampler(), NoStopping(), progress=False
    )
    valuation.fit(DummyGameDataset(PLAYERS))
    return torch.from_numpy(np.array(valuation.result.values))


QUANTITIES = {
    "exact": exact,
    "cg": cg,
    "ekfac": ekfac,
    "shapley": shapley,
}

EVIDENCE = {"gauss-newton": gauss_newton}
