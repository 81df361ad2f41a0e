"""Chapter 3: posteriors that need no sampling, to test against.

By quadrature in one or two dimensions, whatever the model; in closed form for linear regression.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from lib._validate import count, finite, number, shaped, sized
from lib.bayesian import Gibbs, energy
from lib.models import dot, squared_error


def quadrature(
    gibbs: Gibbs,
    low: tuple[float, ...],
    high: tuple[float, ...],
    points: int,
    beta: Tensor | None = None,
    *,
    bounded: bool = False,
) -> tuple[Tensor, Tensor]:
    """Points w (m, p) on a grid and their probabilities (m,) under p_β, for one or two parameters.

    low, high: the ends of the grid, `points` to a side. With equal spacing the sum over a smooth
    density that vanishes at the ends is exact to all digits once the grid is fine enough. Raises
    ValueError for more than two parameters, or if more than 1e-10 of the mass lies on the grid's
    edge; bounded=True says that the parameter space itself ends there.
    """
    count("points", points, least=3)
    if len(low) != len(high) or not 1 <= len(low) <= 2:
        raise ValueError("low: expected the ends of one or two parameters, as many as in high")
    if not all(number("low", a) < number("high", b) for a, b in zip(low, high, strict=True)):
        raise ValueError(f"high: expected ends above {low}, got {high}")
    like = gibbs.objective.x
    dtype = like.dtype if like.is_floating_point() else torch.float64
    sides = [
        torch.linspace(a, b, points, dtype=dtype, device=like.device)
        for a, b in zip(low, high, strict=True)
    ]
    w = torch.cartesian_prod(*sides).reshape(-1, len(low))
    logs = torch.cat([-energy(gibbs, part, beta) for part in w.split(65536)])
    weights = torch.softmax(finite("energy", logs), dim=0)
    ends = ((w == w.amin(dim=0)) | (w == w.amax(dim=0))).sum(dim=1)
    if bounded:  # the trapezoid rule counts half of each end
        weights = weights * 0.5**ends
        weights = weights / weights.sum()
    elif (outside := weights[ends > 0].sum()) > 1e-10:
        raise ValueError(f"low, high: {outside:.0e} of the mass lies on the edge; widen the grid")
    return w, weights


@dataclass(frozen=True)
class Gaussian:
    """N(mean, covariance): shapes (p,) and (p, p)."""

    mean: Tensor
    covariance: Tensor


def conjugate_posterior(gibbs: Gibbs, beta: Tensor | None = None) -> Gaussian:
    """The posterior of a linear regression, exactly: V = (κ Σ β_i x_i x_iᵀ + (ρ + γ) I)⁻¹ and
    μ = V (κ Σ β_i x_i y_i + γ w*).

    A noise variance σ² is κ = 1/σ², a prior N(0, τ²I) is ρ = 1/τ². Raises ValueError unless the
    objective comes from `models.linear`, without a log_prior, and V⁻¹ is positive definite.
    Equation eq-conjugate.
    """
    objective = gibbs.objective
    linear = objective.predict is dot and objective.loss is squared_error
    if not linear or gibbs.log_prior is not None:
        raise ValueError("gibbs: expected an objective made by models.linear, and no log_prior")
    if beta is not None:
        shaped("beta", beta, objective.n)
    x, y = objective.x, objective.y
    weighted = gibbs.inverse_temperature * (x if beta is None else beta[:, None] * x)
    eye = torch.eye(x.shape[1], dtype=x.dtype, device=x.device)
    precision = weighted.T @ x + (objective.l2 + gibbs.localisation) * eye
    factor, failed = torch.linalg.cholesky_ex(precision)
    if failed or factor.diagonal().min() <= 1e-7 * factor.diagonal().max():
        raise ValueError("gibbs: singular precision; add a penalty or a localisation")
    pull = weighted.T @ y
    if gibbs.localisation:
        pull = pull + gibbs.localisation * sized("centre", gibbs.centre, x.shape[1])
    return Gaussian(
        torch.cholesky_solve(pull[:, None], factor)[:, 0], torch.cholesky_inverse(factor)
    )


def conjugate_influence(gibbs: Gibbs) -> Tensor:
    """BIF(z_j, w) = κ V x_j r_j with r_j = y_j − x_jᵀμ, one row an example, shape (n, p).

    Exact, and the derivative of the posterior mean. Equation eq-regression-bif.
    """
    posterior, x, y = conjugate_posterior(gibbs), gibbs.objective.x, gibbs.objective.y
    r = y - x @ posterior.mean
    return gibbs.inverse_temperature * (x * r[:, None]) @ posterior.covariance
