"""Chapter 3, "Three readings": influence as the best shift of a whole distribution.

Downweighting z_k by ε turns the Boltzmann distribution p of the loss into p_ε. How well does moving
every draw w to w + ε r(w) imitate that? The cost of a shift is a Kullback–Leibler divergence.
"""

from collections.abc import Callable

import torch
from torch import Tensor
from torch.func import grad, jacfwd, vmap

from lib._validate import count, finite, number, shaped
from lib.bayesian import Gibbs, average, energy, losses_at
from lib.counterfactuals import fit
from lib.exact_posteriors import Gaussian
from lib.influence import direct, parameter_influence, spectrum
from lib.objective import Objective, hessian, weighted_loss

Shift = Callable[[Tensor], Tensor]
"""r: from w, shape (p,), to the direction in which it is moved, shape (p,)."""


def shift_kl(
    gibbs: Gibbs,
    k: int,
    epsilon: float,
    shift: Shift,
    w: Tensor,
    weights: Tensor | None = None,
) -> Tensor:
    """D(τ_# p ‖ p_ε) for τ(w) = w + ε r(w), as an average over points of p; a scalar, in nats.

    w: (m, p) points of p, with probabilities (m,) if from `quadrature`, without if they are draws.
    p_ε has weight 1 − ε on example k. Raises ValueError if τ folds (a determinant is not positive)
    or k is no example. Equation eq-shift-kl; Mlodozeniec et al. (2025).
    """
    objective = gibbs.objective
    shaped("w", w, "m", "p")
    beta = _downweighted(objective, w, k, epsilon)
    r = shaped("shift", vmap(shift)(w), *w.shape)
    stretch = finite("shift", vmap(jacfwd(shift))(w))
    eye = torch.eye(w.shape[1], dtype=w.dtype, device=w.device)
    sign, log_volume = torch.linalg.slogdet(eye + epsilon * stretch)
    if (sign <= 0).any():
        raise ValueError("epsilon: the map folds; expected det(I + ε ∇r) > 0 at every point")
    gained = average(energy(gibbs, w + epsilon * r, beta) - energy(gibbs, w) - log_volume, weights)
    # log Z_ε/Z = log E_p[exp(κ ε L_k)]; far out L_k may be huge where no mass is.
    tilt = gibbs.inverse_temperature * epsilon * losses_at(objective, w)[:, k]
    log_mass = -torch.full_like(tilt, len(tilt)).log() if weights is None else weights.log()
    return gained + torch.logsumexp(tilt + log_mass, dim=0)


def asymptotic_cost(
    objective: Objective, w_star: Tensor, k: int, r: Tensor, epsilon: float
) -> Tensor:
    """F(r, ε) = lim κ→∞ of D(τ_# p ‖ p_ε)/κ at a unique minimum w*, for r = r(w*); a scalar.

    Not a Taylor series: it minimises the perturbed loss. The objective must be convex, as for
    `fit`; a penalty is part of L, so it is taken to grow with κ. Raises ValueError if w_star is no
    minimum. Equation eq-asymptotic-cost; Mlodozeniec et al. (2025).
    """
    _at_minimum(objective, w_star)
    beta = _downweighted(objective, w_star, k, epsilon)
    shaped("r", r, *w_star.shape)
    lowest = fit(objective, beta, w_star, tolerance=1e-13)
    shifted = weighted_loss(objective, w_star + epsilon * r, beta)
    return shifted - weighted_loss(objective, lowest, beta)


def quadratic_cost(
    objective: Objective, w_star: Tensor, k: int, r: Tensor, epsilon: float
) -> Tensor:
    """½ε² (r − r_IF)ᵀ H (r − r_IF), what F(r, ε) is to second order; a scalar.

    Raises ValueError if w_star is no minimum. Equation eq-transport-cost.
    """
    r_if = influence_shift(objective, w_star, k)
    away = shaped("r", r, *w_star.shape) - r_if
    return 0.5 * number("epsilon", epsilon) ** 2 * away @ hessian(objective, w_star) @ away


def influence_shift(objective: Objective, w_star: Tensor, k: int) -> Tensor:
    """r_IF = H⁻¹∇L_k(w*), shape (p,): the response to *down*weighting, minus the influence.

    Raises ValueError if w_star is no minimum. Equation eq-r-if.
    """
    k = count("k", k, least=0, most=objective.n - 1)
    _at_minimum(objective, w_star)
    return -parameter_influence(objective, w_star)[k]


def _at_minimum(objective: Objective, w_star: Tensor) -> None:
    shaped("w_star", w_star, "p")
    slope = grad(lambda w: weighted_loss(objective, w))(w_star)
    if (slope @ direct(hessian(objective, w_star))(slope)).abs().sqrt() > 1e-6:
        raise ValueError("w_star: expected a minimum of the loss; its gradient is not zero")


def _downweighted(objective: Objective, like: Tensor, k: int, epsilon: float) -> Tensor:
    """Data weights 1, and 1 − ε for example k."""
    beta = torch.ones(objective.n, dtype=like.dtype, device=like.device)
    beta[count("k", k, least=0, most=objective.n - 1)] = 1 - number("epsilon", epsilon)
    return beta


# --- Gaussians, where everything is a formula ----------------------------------------------------


def gaussian_kl(q: Gaussian, p: Gaussian) -> Tensor:
    """D(q ‖ p) = ½[tr(P⁻¹Q) − dim + (μ_p − μ_q)ᵀP⁻¹(μ_p − μ_q) + log det P − log det Q], in nats.

    Equation eq-gaussian-kl.
    """
    _alike(q, p)
    root_p, root_q = (torch.linalg.cholesky(g.covariance) for g in (p, q))
    spread = torch.linalg.solve_triangular(root_p, root_q, upper=False)
    apart = torch.linalg.solve_triangular(root_p, (p.mean - q.mean)[:, None], upper=False)
    volume = 2 * (root_p.diagonal().log().sum() - root_q.diagonal().log().sum())
    return 0.5 * ((spread**2).sum() - len(p.mean) + (apart**2).sum() + volume)


def _alike(q: Gaussian, p: Gaussian) -> None:
    d = len(shaped("q", q.mean, "d"))
    for name, gaussian in (("q", q), ("p", p)):
        shaped(name, gaussian.mean, d)
        values, _ = spectrum(name, shaped(name, gaussian.covariance, d, d))
        if values[0] <= torch.finfo(values.dtype).eps ** 0.75 * values[-1]:
            raise ValueError(f"{name}: expected a positive definite covariance")


def gaussian_map(q: Gaussian, p: Gaussian) -> tuple[Tensor, Tensor]:
    """(K, b) of the optimal transport map w ↦ Kw + b from q to p; K is symmetric and positive.

    K = Q^(−1/2) (Q^(1/2) P Q^(1/2))^(1/2) Q^(−1/2), b = μ_p − K μ_q; shapes (p, p) and (p,).
    Equation eq-gaussian-map.
    """
    _alike(q, p)
    half = _power(q.covariance, 0.5)
    inverse_half = _power(q.covariance, -0.5)
    matrix = inverse_half @ _power(half @ p.covariance @ half, 0.5) @ inverse_half
    return matrix, p.mean - matrix @ q.mean


def _power(matrix: Tensor, exponent: float) -> Tensor:
    values, vectors = torch.linalg.eigh((matrix + matrix.T) / 2)
    return (vectors * values**exponent) @ vectors.T
