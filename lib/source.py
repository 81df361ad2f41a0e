"""Chapter 4, "A few segments": the product of Jacobians replaced by functions of a curvature.

Within a segment the Hessian and the gradients are taken as constant; a sum over its steps is then a
geometric series, and acts on each eigenvalue σ of the mean Hessian H̄ by a filter.
"""

from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise

import torch
from torch import Tensor

from lib._validate import count, finite, positive, rows_of, shaped
from lib.curvature import ekfac, function_of
from lib.influence import columns, spectrum
from lib.models import MLP
from lib.objective import Objective, Observable, gradients, hessian, observable_gradient
from lib.training import Run, trajectory

# --- filters -------------------------------------------------------------------------------------


def propagation_filter(sigma: Tensor, effort: float, steps: int | None = None) -> Tensor:
    """F_S(σ) = e^(−ησK): what is left of a displacement along σ after a segment.

    effort: η̄K, the segment's learning rates summed.  steps: K; with it, the exact power
    (1 − η̄σ)^K of gradient descent instead of gradient flow's exponential. Any shape.
    Equation eq-source-propagation; Bae et al. (2024).
    """
    finite("sigma", sigma)
    positive("effort", effort, or_zero=True)
    if steps is None:
        return torch.exp(-effort * sigma)
    return (1 - effort / count("steps", steps) * sigma) ** steps


def response_filter(sigma: Tensor, effort: float, steps: int | None = None) -> Tensor:
    """F_r(σ) = (1 − F_S(σ))/σ: the answer to a constant push, 1/σ once converged and η̄K before.

    At σ = 0 the limit, η̄K. Arguments as in `propagation_filter`.
    Equation eq-source-response; Bae et al. (2024).
    """
    finite("sigma", sigma)
    positive("effort", effort, or_zero=True)
    if steps is None:
        lost = -torch.expm1(-effort * sigma)
    else:
        # 1 − (1 − x)^K without cancellation for small x; past x = 1 there is none.
        x = effort / count("steps", steps) * sigma
        small = x < 0.5
        lost = torch.where(
            small,
            -torch.expm1(steps * torch.log1p(-torch.where(small, x, 0.0))),
            1 - (1 - x) ** steps,
        )
    flat = sigma == 0
    return torch.where(flat, effort, lost / torch.where(flat, 1.0, sigma))


# --- curvatures ----------------------------------------------------------------------------------

Filter = Callable[[Tensor], Tensor]
"""f: eigenvalues σ to numbers, of any shape."""

Filtered = Callable[[Filter, Tensor], Tensor]
"""(f, v) ↦ f(H̄) v for one mean curvature H̄ and v of shape (p,) or (m, p)."""

Curvature = Callable[[Objective, Tensor], Filtered]
"""How to get the mean curvature H̄ of a segment from its checkpoints, shape (c, p)."""


def exact_curvature(objective: Objective, checkpoints: Tensor) -> Filtered:
    """The Hessian divided by n and averaged over the checkpoints (c, p), diagonalised."""
    shaped("checkpoints", checkpoints, "c", "p")
    mean = torch.stack([hessian(objective, w) for w in checkpoints]).mean(dim=0) / objective.n
    values, vectors = spectrum("curvature", mean)
    return lambda f, v: (rows_of("v", v, len(values)) @ vectors * f(values)) @ vectors.T


def ekfac_curvature(mlp: MLP) -> Curvature:
    """EK-FAC's eigenbasis and eigenvalues, averaged over the checkpoints; for larger networks.

    The penalty ρ adds ρ/n to every eigenvalue.
    """

    def curvature(objective: Objective, checkpoints: Tensor) -> Filtered:
        shaped("checkpoints", checkpoints, "c", "p")
        blocks = ekfac(mlp, objective, checkpoints)
        return lambda f, v: function_of(blocks, lambda s: f((s + objective.l2) / objective.n), v)

    return curvature


# --- segments ------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Segment:
    """Steps over which the Hessian and the gradients are taken as constant.

    checkpoints: (c, p), averaged over.  effort: η̄K, their learning rates summed.  steps: K.
    """

    checkpoints: Tensor
    effort: float
    steps: int


def segments(run: Run, many: int, checkpoints: int | None = None) -> list[Segment]:
    """Cut a run into `many` segments of equal length (to a step), in the order of training.

    checkpoints: how many, evenly spaced, represent each segment; all its steps if not given.
    """
    count("many", many, most=run.steps)
    path = trajectory(run)
    cuts = [round(run.steps * part / many) for part in range(many + 1)]
    found = []
    for first, last in pairwise(cuts):
        length = last - first
        held = min(length, length if checkpoints is None else count("checkpoints", checkpoints))
        at = first + ((torch.arange(held) + 0.5) * length / held).long()
        effort = run.rates[first:last].sum().item()
        found.append(Segment(path[at], effort, length))
    return found


def source(
    objective: Objective,
    parts: list[Segment],
    w_end: Tensor,
    phi: Observable,
    curvature: Curvature = exact_curvature,
    *,
    power: bool = False,
) -> Tensor:
    """−∇φ(w_T)ᵀ Σ_ℓ (Π_{ℓ'>ℓ} F_S(H̄_ℓ')) F_r(H̄_ℓ) ḡ_{i,ℓ}/n: SOURCE; (n,) or (n, k).

    In this book's sign, that of ∂φ/∂β_i: Bae et al. define the effect of downweighting.
    w_end: w_T, (p,).  power: gradient descent's powers in place of the exponentials. An example is
    taken to be in a batch with probability b/n.  Equation eq-source; Bae et al. (2024).
    """
    push = observable_gradient(phi, shaped("w_end", w_end, "p"))
    if not parts:
        raise ValueError("parts: expected at least one segment")
    total = w_end.new_zeros(objective.n, *push.shape[:-1])
    for part in reversed(parts):
        filtered = curvature(objective, part.checkpoints)
        steps = part.steps if power else None
        slopes = torch.stack([gradients(objective, w) for w in part.checkpoints]).mean(dim=0)
        answer = filtered(lambda s, e=part.effort, k=steps: response_filter(s, e, k), push)
        total = total - slopes @ columns(answer) / objective.n
        push = filtered(lambda s, e=part.effort, k=steps: propagation_filter(s, e, k), push)
    return total


def response_flow(mean_hessian: Tensor, slope: Tensor, times: Tensor) -> Tensor:
    """r(t) of ṙ = −H̄r + g with r(0) = 0, at every time; shape (times, p).

    mean_hessian: H̄ = H/n, (p, p).  slope: g = ∇L_k/n, (p,), for taking weight from z_k; minus that
    for adding. Along ker H̄ it grows as t; elsewhere it tends to H̄⁻¹g. Equation eq-response-flow.
    """
    values, vectors = spectrum("mean_hessian", mean_hessian)
    shaped("slope", slope, len(values))
    if (shaped("times", times, "times") < 0).any():
        raise ValueError("times: expected times of zero or more")
    # A rounding error for an eigenvalue would turn a line into a slow exponential.
    values = torch.where(values.abs() <= 1e-12 * values.abs().max(), 0.0, values)
    gained = torch.stack([response_filter(values, t.item()) for t in times])
    return gained * (slope @ vectors) @ vectors.T
