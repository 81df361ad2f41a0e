"""Chapter 5, "What else it teaches": influence by mode, and why groups are not sums.

First one influence split along the eigenvectors of the curvature; then several examples at once:
exactly for regression, to second order for any minimum, and by retraining.
"""

from collections.abc import Callable

import torch
from torch import Tensor
from torch.func import grad, jvp, vmap

from lib._validate import count, indices, positive, scalar, shaped
from lib.influence import Solve, direct, spectrum
from lib.linear_regression import least_squares
from lib.objective import Objective, Observable, gradients, hessian, weighted_loss


def by_mode(
    curvature: Tensor, slopes: Tensor, push: Tensor, damping: float = 0.0
) -> tuple[Tensor, Tensor]:
    """The influence of every example, mode by mode: eigenvalues σ_k, ascending, shape (p,), and
    terms −(∇φ·v_k)(v_k·∇L_i)/(σ_k + λ), shape (n, p), which sum to the influence.

    curvature: C, (p, p).  slopes: ∇L_i, (n, p).  push: ∇φ, (p,).  Raises ValueError if C + λI is
    not positive definite. Equation eq-modes.
    """
    values, vectors = spectrum("curvature", curvature)
    shaped("slopes", slopes, "n", len(values))
    shaped("push", push, len(values))
    shifted = values + positive("damping", damping, or_zero=True)
    if shifted[0] <= torch.finfo(values.dtype).eps ** 0.75 * shifted[-1]:
        raise ValueError("damping: expected enough to make the curvature positive definite")
    return values, -(slopes @ vectors) * (push @ vectors) / shifted


def group_update(x: Tensor, y: Tensor, group: Tensor) -> Tensor:
    """w*_(−S) − w* = −A⁻¹ X_Sᵀ (I − P_S)⁻¹ r_S, exactly, for the least squares without S; (p,).

    x: (n, p), y: (n,).  group: the different examples of S.  P_S: their block of the hat matrix
    X A⁻¹ Xᵀ, and r_S their residuals. Raises ValueError if the fit without S is not unique.
    Equation eq-group-deletion; Cook and Weisberg (1982).
    """
    w = least_squares(x, y)
    group = indices("group", group, len(x))
    if len(group.unique()) != len(group):
        raise ValueError("group: expected different examples")
    rows = x[group]
    pulls = torch.linalg.solve(x.T @ x, rows.T)  # A⁻¹ X_Sᵀ
    kept = torch.eye(len(group), dtype=x.dtype) - rows @ pulls
    if torch.linalg.eigvalsh((kept + kept.T) / 2)[0] < 1e-12:
        raise ValueError("group: without these examples the fit is not unique")
    return -pulls @ torch.linalg.solve(kept, y[group] - rows @ w)


def second_influence(
    objective: Objective, w: Tensor, phi: Observable, pairs: Tensor, solve: Solve | None = None
) -> Tensor:
    """∂²φ(π(β))/∂β_i∂β_j at β = 1 for every pair (i, j), shape (m,), with π the argmin.

    u_ijᵀ∇φ + u_iᵀ∇²φ u_j, with u_i = −H⁻¹∇L_i and −H u_ij = ∇²L_i u_j + ∇²L_j u_i + ∇³L[u_i, u_j].
    pairs: integers (m, 2).  solve: H⁻¹, exact if not given. Removing both changes φ by about this
    more than the sum of removing each. Equation eq-second-influence.
    """
    scalar("phi", phi(w))
    shaped("pairs", pairs.to(w.dtype), "m", 2)
    indices("pairs", pairs.reshape(-1), objective.n)
    solve = solve or direct(hessian(objective, w))
    moves = -solve(gradients(objective, w))  # u_i, (n, p)
    slope, push = grad(phi), grad(phi)(w)

    def along(gradient: Callable[[Tensor], Tensor], v: Tensor) -> Tensor:
        return jvp(gradient, (w,), (v,))[1]

    def of_pair(pair: Tensor) -> Tensor:
        (i, j), (u, v) = pair, moves[pair]

        def one(k: Tensor) -> Callable[[Tensor], Tensor]:
            return grad(lambda w: objective.loss_at(w, objective.x[k], objective.y[k]))

        def bent(at: Tensor) -> Tensor:  # ∇²L(at) v
            return jvp(grad(lambda w: weighted_loss(objective, w)), (at,), (v,))[1]

        force = along(one(i), v) + along(one(j), u) + jvp(bent, (w,), (u,))[1]
        return torch.cat([force, (u @ along(slope, v))[None]])

    found = vmap(of_pair, chunk_size=64)(pairs)
    return -solve(found[:, :-1]) @ push + found[:, -1]


def interactions(singles: Tensor, pairs: Tensor, whole: Tensor) -> Tensor:
    """Δ_ij − Δ_i − Δ_j from retrained outcomes: pairs − singles_i − singles_j + whole, shape (m,).

    singles: (m, 2), φ without i and without j.  pairs: (m,), φ without both.  whole: φ with all, a
    scalar. Of the sign of the effects: each stood in for the other (redundancy); of the other sign:
    each needed the other (synergy). Equation eq-interaction.
    """
    m = len(shaped("pairs", pairs, "m"))
    count("m", m)
    shaped("singles", singles, m, 2)
    return pairs - singles.sum(dim=1) + scalar("whole", whole)
