"""The library's side of every comparison: one function a quantity, from a `Task` to (n, k)."""

import torch
from torch import Tensor

from lib.bayesian import Gibbs, bayesian_influence, bif
from lib.counterfactuals import shapley
from lib.curvature import ekfac, kfac, kronecker
from lib.influence import direct, influence, matrix_free
from lib.objective import hessian, hessian_product
from lib.sampling import sgld
from lib.source import (
    ekfac_curvature,
    propagation_filter,
    response_filter,
    segments,
    source,
)
from lib.unrolling import reverse_mode, tracin_at
from task import BIF, DAMPING, NETWORK, PLAYERS, SIGMA, TOLERANCE, Task

PACKAGE = "attribution-book"


def unrolled(task: Task) -> Tensor:
    """The exact derivative of the run, training included."""
    return reverse_mode(task.run, task.phi, progress=False)


def exact(task: Task) -> Tensor:
    """−∇φᵀ (H + λI)⁻¹ ∇L, H formed."""
    solve = direct(hessian(task.objective, task.w), DAMPING)
    return influence(task.objective, task.w, task.phi, solve)


def cg(task: Task) -> Tensor:
    """The same by conjugate gradients, H not formed."""
    product = hessian_product(task.objective, task.w)
    solve = matrix_free(product, damping=DAMPING, tolerance=TOLERANCE)
    return influence(task.objective, task.w, task.phi, solve)


def eigen(task: Task) -> Tensor:
    """−∇φᵀ (C + λI)⁻¹ ∇L with EK-FAC for C."""
    blocks = ekfac(NETWORK, task.objective, task.w)
    return influence(task.objective, task.w, task.phi, kronecker(blocks, DAMPING))


def factored(task: Task) -> Tensor:
    """The same with K-FAC."""
    blocks = kfac(NETWORK, task.objective, task.w)
    return influence(task.objective, task.w, task.phi, kronecker(blocks, DAMPING))


def dot(task: Task) -> Tensor:
    """−∇φᵀ∇L at the end of training."""
    return influence(task.objective, task.w, task.phi, lambda v: v)


def checkpoints(task: Task) -> Tensor:
    """TracIn at five checkpoints."""
    efforts = task.w.new_full((len(task.checkpoints),), task.effort)
    return tracin_at(task.objective, task.checkpoints, efforts, task.phi)


def few_segments(task: Task) -> Tensor:
    """SOURCE with three segments of two checkpoints each and EK-FAC, training included."""
    parts = segments(task.run, 3, checkpoints=2)
    return source(task.objective, parts, task.w, task.phi, ekfac_curvature(NETWORK))


def shares(task: Task) -> Tensor:
    """The exact Shapley value of the small game, (players,)."""
    table = task.game

    def value(coalition: frozenset[int]) -> float:
        return table[sum(1 << i for i in coalition)]

    return shapley(value, PLAYERS)


def draws(task: Task) -> Tensor:
    """The Bayesian influence function, from SGLD held near w*."""
    gibbs = Gibbs(
        task.objective,
        inverse_temperature=BIF.inverse_temperature,
        localisation=BIF.localisation,
        centre=task.w,
    )
    states = sgld(
        gibbs,
        task.w.expand(BIF.chains, -1),
        step=BIF.step,
        draws=BIF.draws,
        batch=BIF.batch,
        generator=torch.Generator().manual_seed(1),
        progress=False,
    )
    return bayesian_influence(gibbs, states, task.phi).value


def traces(task: Task) -> Tensor:
    """−κ Cov(L_i, φ_j) of given traces of losses: no sampling."""
    losses, phi = task.traces
    return bif(losses, phi, BIF.inverse_temperature)


def filters(task: Task) -> Tensor:
    """SOURCE's F_S and F_r on a range of eigenvalues, (2, m)."""
    sigma = SIGMA.to(task.x.dtype)
    remembered = propagation_filter(sigma, task.effort)
    return torch.stack([remembered, response_filter(sigma, task.effort)])


QUANTITIES = {
    "unrolled": unrolled,
    "exact": exact,
    "cg": cg,
    "ekfac": eigen,
    "kfac": factored,
    "dot": dot,
    "tracin": checkpoints,
    "source": few_segments,
    "shapley": shares,
    "bif": draws,
    "covariance": traces,
}

EVIDENCE = {"filters": filters}
