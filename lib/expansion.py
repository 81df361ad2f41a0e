"""Chapter 3, "What the influence function leaves out": the BIF as a power series.

Near a minimum the energy is a quadratic plus small cubic and quartic terms, and a covariance is
a sum of contractions with C = H⁻¹. The first is the influence function; the others are smaller by
a factor 1/n, and each has a name here.
"""

from dataclasses import replace

import torch
from torch import Tensor
from torch.func import grad, jacfwd, vmap

from lib._validate import finite, scalar, shaped
from lib.bayesian import Gibbs, energy_at
from lib.objective import Observable

LEADING = "(1,1)"
"""The influence function: slope of φ against slope of L_i."""

SECOND_ORDER = (
    "(2,2)",
    "(1,3)",
    "(3,1)",
    "(1,2) cubic",
    "(2,1) cubic",
    "(1,1) cubic²",
    "(1,1) quartic",
    "prior slope",
    "prior curvature",
)
"""(k, m): k-th derivative of φ against m-th of L_i; then what else of the energy takes part."""

MOST_PARAMETERS = 24


def expansion(
    gibbs: Gibbs, w_star: Tensor, phi: Observable, beta: Tensor | None = None
) -> dict[str, Tensor]:
    """The terms of BIF(z_i, φ) at order n⁻¹ and n⁻², by name, shape (n,) each; they add up.

    The energy expanded at w_star is κ Σ β_i L_i with its penalty and localisation; it must be
    stationary and positive definite there. `log_prior` counts as O(1) and enters through its slope
    and curvature at order n⁻². Raises ValueError otherwise, or beyond MOST_PARAMETERS parameters.
    Equations eq-term-11 to eq-term-prior; Kreer et al. (2025), appendix A, has the first two.
    """
    p = len(shaped("w_star", w_star, "p"))
    if not 1 <= p <= MOST_PARAMETERS:
        raise ValueError(f"w_star: expected 1 to {MOST_PARAMETERS} parameters, got {p}")
    objective, kappa = gibbs.objective, gibbs.inverse_temperature
    if beta is not None:
        shaped("beta", beta, objective.n)
    growing = replace(gibbs, log_prior=None)
    slope, h, cubic, quartic = _derivatives(lambda w: energy_at(growing, w, beta), w_star, 4)
    f1, f2, f3 = _derivatives(lambda w: scalar("phi", phi(w)), w_star, 3)
    g1, g2, g3 = _per_example(objective, w_star)
    c = _inverse(h)
    # At a minimum Newton's step has nowhere to go; measured in posterior widths.
    if (slope @ c @ slope).sqrt() > 1e-6:
        raise ValueError("w_star: expected a minimum of the energy; its gradient is not zero")

    cf, cg = c @ f1, g1 @ c  # (p,), (n, p)
    tadpole = torch.einsum("dij,ij->d", cubic, c)
    terms = {
        "(1,1)": g1 @ cf,
        "(2,2)": 0.5 * torch.einsum("nab,bc,cd,da->n", g2, c, f2, c),
        "(1,3)": 0.5 * torch.einsum("b,nbcd,cd->n", cf, g3, c),
        "(3,1)": 0.5 * torch.einsum("nb,bcd,cd->n", cg, f3, c),
        "(1,2) cubic": -0.5 * torch.einsum("b,nbc,c->n", cf, g2, c @ tadpole)
        - 0.5 * torch.einsum("b,nij,jk,kbl,li->n", cf, g2, c, cubic, c),
        "(2,1) cubic": -0.5 * cg @ f2 @ c @ tadpole
        - 0.5 * torch.einsum("nb,ij,jk,kbl,li->n", cg, f2, c, cubic, c),
        "(1,1) cubic²": 0.5 * torch.einsum("nb,bij,ik,jl,ckl,c->n", cg, cubic, c, c, cubic, cf)
        + 0.5 * torch.einsum("nb,bck,k,c->n", cg, cubic, c @ tadpole, cf),
        "(1,1) quartic": -0.5 * torch.einsum("nb,bcij,ij,c->n", cg, quartic, c, cf),
        "prior slope": torch.zeros_like(g1[:, 0]),
        "prior curvature": torch.zeros_like(g1[:, 0]),
    }
    if gibbs.log_prior is not None:
        r1, r2 = _derivatives(lambda w: -scalar("log_prior", gibbs.log_prior(w)), w_star, 2)
        shift = c @ r1  # minus how far the prior moves the mode
        terms["prior slope"] = (
            -torch.einsum("b,nbc,c->n", cf, g2, shift)
            - cg @ f2 @ shift
            + torch.einsum("nb,bck,k,c->n", cg, cubic, shift, cf)
        )
        terms["prior curvature"] = -cg @ r2 @ cf
    return {name: -kappa * term for name, term in terms.items()}


def _derivatives(function: Observable, w: Tensor, order: int) -> list[Tensor]:
    """The derivative tensors of orders 1 … order at w: (p,), (p, p), …"""
    found, derivative = [], grad(function)
    for _ in range(order):
        found.append(finite("w_star", derivative(w)))
        derivative = jacfwd(derivative)
    return found


def _per_example(objective, w: Tensor) -> list[Tensor]:
    """∇L_i, ∇²L_i and ∇³L_i of every example: (n, p), (n, p, p), (n, p, p, p)."""
    found, derivative = [], grad(objective.loss_at)
    for _ in range(3):
        each = vmap(derivative, (None, 0, 0))(w, objective.x, objective.y)
        found.append(finite("w_star", each))
        derivative = jacfwd(derivative)
    return found


def _inverse(h: Tensor) -> Tensor:
    factor, failed = torch.linalg.cholesky_ex(h)
    if failed or factor.diagonal().min() <= 1e-7 * factor.diagonal().max():
        raise ValueError("w_star: expected a positive definite Hessian; add a localisation")
    return torch.cholesky_inverse(factor)
