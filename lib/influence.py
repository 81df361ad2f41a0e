"""Chapter 2: influence functions, π(β) = argmin_w L(w; β).

One formula, −∇φᵀ C⁻¹ ∇L_i, and one choice: what C is and how it is inverted. A `Solve` is that
choice; `influence` and `parameter_influence` are everything else.
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.func import grad, jvp, vjp, vmap

from lib._validate import count, finite, positive, rows_of, scalar, shaped, sized
from lib._validate import indices as valid_indices
from lib.objective import (
    Objective,
    Observable,
    gradients,
    hessian,
    observable_gradient,
    output_hessians,
    output_jacobians,
    outputs,
    weighted_loss,
)

Solve = Callable[[Tensor], Tensor]
"""v ↦ C⁻¹ v for one curvature C and every row of v: (p,) → (p,) or (m, p) → (m, p)."""


# --- the formula ---------------------------------------------------------------------------------


def influence(
    objective: Objective, w: Tensor, phi: Observable, solve: Solve | None = None
) -> Tensor:
    """∂φ(π(β))/∂β_i = −∇φᵀ C⁻¹ ∇L_i for every example, shape (n,), or (n, k) for k observables.

    solve: C⁻¹; the exact inverse of the Hessian if not given. Positive: upweighting z_i raises φ.
    One linear solve an observable serves all n examples. Equation eq-influence-phi; Koh and Liang
    (2017).
    """
    slope = observable_gradient(phi, w)
    solve = solve or direct(hessian(objective, w))
    return -gradients(objective, w) @ columns(solve(slope))


def columns(rows: Tensor) -> Tensor:
    """(p,) as it is, (k, p) transposed: what a matrix (n, p) multiplies to (n,) or (n, k)."""
    return rows if rows.ndim == 1 else rows.T


def parameter_influence(objective: Objective, w: Tensor, solve: Solve | None = None) -> Tensor:
    """∂π(β)/∂β_i = −C⁻¹ ∇L_i, one row an example, shape (n, p).

    Leaving z_i out moves the parameters by minus this, to first order. Equation
    eq-parameter-influence; Cook (1977), Koh and Liang (2017).
    """
    solve = solve or direct(hessian(objective, w))
    return -solve(gradients(objective, w))


# --- what to invert: the Hessian or Gauss–Newton -------------------------------------------------


def gauss_newton(objective: Objective, w: Tensor) -> Tensor:
    """G = Σ_i J_iᵀ (∂²ℓ/∂f²) J_i + ρI, shape (p, p): positive semi-definite if ℓ is convex in f.

    A sum over examples, like the Hessian, to which it is equal when f is linear in w.
    Equation eq-gauss-newton; Martens (2020).
    """
    jacobians = output_jacobians(objective, w)
    summed = torch.einsum("ncp,ncd,ndq->pq", jacobians, output_hessians(objective, w), jacobians)
    return summed + objective.l2 * torch.eye(len(w), dtype=w.dtype)


def gauss_newton_vector_product(objective: Objective, w: Tensor, v: Tensor) -> Tensor:
    """G v without forming G, shape (p,): forward through f, the output Hessians, and back."""
    shaped("v", v, *finite("w", w).shape)

    def f(u):
        return vmap(objective.predict, (None, 0))(u, objective.x)

    moved = jvp(f, (w,), (v,))[1]
    bent = torch.einsum("ncd,nd->nc", output_hessians(objective, w), moved)
    return vjp(f, w)[1](bent)[0] + objective.l2 * v


# --- how to invert it ----------------------------------------------------------------------------


def direct(curvature: Tensor, damping: float = 0.0) -> Solve:
    """(C + λI)⁻¹ by factorisation; λ = `damping` is on the scale of the summed loss.

    Raises ValueError if C is not square and symmetric, or C + λI is numerically singular: then use
    damping or `pseudoinverse`. Negative eigenvalues pass, with the sign they have.
    Equation eq-damped.
    """
    values, vectors = spectrum("curvature", curvature)
    shifted = values + positive("damping", damping, or_zero=True)
    if shifted.abs().min() <= torch.finfo(values.dtype).eps ** 0.75 * shifted.abs().max():
        raise ValueError("curvature: singular matrix; give a positive damping or a pseudoinverse")
    return lambda v: ((rows_of("v", v, len(values)) @ vectors) / shifted) @ vectors.T


def pseudoinverse(curvature: Tensor, rtol: float = 1e-9) -> Solve:
    """C⁺: inverts the eigenvalues above rtol times the largest in size, and drops the others.

    What is dropped answers zero, however hard an example pulls in that direction.
    """
    values, vectors = spectrum("curvature", curvature)
    keep = values.abs() > positive("rtol", rtol) * values.abs().max()
    inverse = torch.where(keep, 1 / torch.where(keep, values, 1.0), 0.0)
    return lambda v: ((rows_of("v", v, len(values)) @ vectors) * inverse) @ vectors.T


def spectrum(name: str, matrix: Tensor) -> tuple[Tensor, Tensor]:
    """Eigenvalues, ascending, shape (p,), and eigenvectors, shape (p, p), of a symmetric matrix.

    Raises ValueError, calling it `name`, if it is not square and symmetric.
    """
    rows, columns = shaped(name, matrix, "p", "p").shape
    if rows != columns or rows == 0:
        raise ValueError(f"{name}: expected shape (p, p), got {(rows, columns)}")
    rounding = torch.finfo(matrix.dtype).eps ** 0.5
    if (matrix - matrix.T).abs().max() > rounding * matrix.abs().max():
        raise ValueError(f"{name}: expected a symmetric matrix of shape (p, p)")
    return torch.linalg.eigh((matrix + matrix.T) / 2)


@dataclass(frozen=True)
class Convergence:
    """How a conjugate-gradient solve went; `residual` is ‖b − Cx‖/‖b‖ at the end."""

    iterations: int
    residual: float


def conjugate_gradient(
    product: Callable[[Tensor], Tensor],
    b: Tensor,
    *,
    damping: float = 0.0,
    tolerance: float = 1e-10,
    max_iterations: int | None = None,
) -> tuple[Tensor, Convergence]:
    """x with (C + λI) x = b from products v ↦ C v alone, and a report.

    b: (p,), or (m, p) for m ≤ p systems solved together: their residuals search one space, so that
    more systems take fewer iterations. Returns x of b's shape; the report's residual is the worst.
    `product` takes one v, (p,), and runs under vmap if there is more than one. Raises ValueError if
    it meets a direction of curvature that is not positive, or does not reach the tolerance within
    `max_iterations` (10 p if not given). Hestenes and Stiefel (1952); O'Leary (1980), Dubrulle
    (2001) for m > 1.
    """
    rows_of("b", b, b.shape[-1])
    positive("damping", damping, or_zero=True)
    positive("tolerance", tolerance)
    right = b.reshape(-1, b.shape[-1]).T  # (p, m): one column a system
    p, m = right.shape
    if m > p:
        raise ValueError(f"b: expected at most p = {p} rows at once, got {m}")
    limit = 10 * p if max_iterations is None else count("max_iterations", max_iterations)
    sizes = right.norm(dim=0)
    goal = tolerance * sizes

    def bent(columns: Tensor) -> Tensor:
        each = product(columns[:, 0])[:, None] if m == 1 else vmap(product, 1, 1)(columns)
        return each + damping * columns

    def worst(x: Tensor) -> float:
        left = (right - bent(x)).norm(dim=0)
        return (left / torch.where(sizes > 0, sizes, 1.0)).max().item()

    x = torch.zeros_like(right)
    if not (sizes > 0).any():
        return x.T.reshape(b.shape), Convergence(0, 0.0)
    q, s = torch.linalg.qr(right)  # the residuals are q s, with orthonormal columns in q
    d = q
    for iteration in range(1, limit + 1):
        ahead = bent(d)
        inner = d.T @ ahead
        factor, failed = torch.linalg.cholesky_ex((inner + inner.T) / 2)
        if failed:
            lowest = torch.linalg.eigvalsh((inner + inner.T) / 2)[0] / (d * d).sum(dim=0).max()
            raise ValueError(
                f"product: curvature {lowest:.2e} is not positive; raise the damping "
                "or use the Gauss-Newton product"
            )
        step = torch.cholesky_inverse(factor)
        x = x + d @ step @ s
        q, turn = torch.linalg.qr(q - ahead @ step)
        s = turn @ s
        if (s.norm(dim=0) <= goal).all():
            # The recurrence drifts from the true residual, so that one is measured afresh.
            residual = worst(x)
            if residual <= 10 * tolerance:
                return x.T.reshape(b.shape), Convergence(iteration, residual)
        d = q + d @ turn.T
    raise ValueError(
        f"max_iterations: {limit} iterations left a relative residual of {worst(x):.1e}, "
        f"above {tolerance:.0e}; allow more or raise the damping"
    )


def matrix_free(product: Callable[[Tensor], Tensor], *, block: int = 256, **options) -> Solve:
    """`conjugate_gradient` as a `Solve`: `block` rows of v at a time, never a (p, p) matrix."""
    count("block", block)

    def solve(v: Tensor) -> Tensor:
        finite("v", v)
        rows = v.reshape(-1, v.shape[-1])
        parts = rows.split(min(block, v.shape[-1]))
        solved = [conjugate_gradient(product, part, **options)[0] for part in parts]
        return torch.cat(solved).reshape(v.shape)

    return solve


# --- the question a network's influence function answers -----------------------------------------


def bregman(objective: Objective, f: Tensor, f_star: Tensor) -> Tensor:
    """D_ℓ(f_i, f*_i) = ℓ(f_i) − ℓ(f*_i) − ∇ℓ(f*_i)·(f_i − f*_i) per example, shape (n,).

    f, f_star: outputs of shape (n, c). Never negative when ℓ is convex in f. Equation eq-bregman.
    """
    sized("f", f, objective.n, "c")
    sized("f_star", f_star, *f.shape)
    loss = vmap(objective.loss)
    slope = vmap(grad(objective.loss))(f_star, objective.y)
    linear = (slope * (f - f_star)).sum(dim=1)
    return loss(f, objective.y) - loss(f_star, objective.y) - linear


def proximal_bregman(
    objective: Objective, w_star: Tensor, damping: float
) -> Callable[[Tensor, Tensor], Tensor]:
    """The proximal Bregman objective (w, β) ↦ Σ D_ℓ(f_w, f_w*) + Σ (β_i − 1) L_i + ½λ‖w − w*‖².

    At β = 1 its minimum is w*, converged or not. A penalty ρ acts as ρ more damping.
    Equation eq-pbo; Bae et al. (2022).
    """
    finite("w_star", w_star)
    positive("damping", damping, or_zero=True)
    f_star = outputs(objective, w_star)
    unpenalised = Objective(objective.predict, objective.loss, objective.x, objective.y)

    def value(w: Tensor, beta: Tensor) -> Tensor:
        f = vmap(objective.predict, (None, 0))(w, objective.x)
        stay = bregman(objective, f, f_star).sum()
        near = 0.5 * (damping + objective.l2) * ((w - w_star) ** 2).sum()
        return stay + weighted_loss(unpenalised, w, beta - 1) + near

    return value


def proximal_response(
    objective: Objective,
    w_star: Tensor,
    beta: Tensor,
    damping: float,
    *,
    tolerance: float = 1e-11,
    max_steps: int = 60,
) -> Tensor:
    """argmin_w of the proximal Bregman objective for every row of beta (m, n) near 1; (m, p).

    Iterates with the curvature at w*, which converges the faster the closer beta is to 1. Raises
    ValueError if the gradient does not fall below `tolerance` relative to that of the losses.
    """
    shaped("beta", beta, "m", objective.n)
    slope = vmap(grad(proximal_bregman(objective, w_star, damping)))
    step = direct(gauss_newton(objective, w_star), damping)
    goal = tolerance * gradients(objective, w_star).norm()
    w = w_star.expand(len(beta), -1).clone()
    for _ in range(max_steps):
        pull = slope(w, beta)
        if pull.norm(dim=1).max() <= goal:
            return w
        w = w - step(pull)
    raise ValueError(
        f"beta: no minimum found in {max_steps} steps; expected weights near 1, or more damping"
    )


def pbrf(
    objective: Objective,
    w_star: Tensor,
    phi: Observable,
    damping: float,
    indices: Tensor | None = None,
    *,
    step: float = 1e-4,
) -> Tensor:
    """The influence that the proximal Bregman response really has, by central differences in β_i.

    Two minimisations an example, for the given examples or all; shape (m,). No curvature enters the
    answer: it is what `influence` with Gauss–Newton and the same damping predicts.
    Equation eq-pbrf; Bae et al. (2022).
    """
    positive("step", step)
    scalar("phi", phi(finite("w_star", w_star)))
    n = objective.n
    indices = torch.arange(n) if indices is None else valid_indices("indices", indices, n)
    bump = torch.zeros(len(indices), n, dtype=w_star.dtype)
    bump[torch.arange(len(indices)), indices] = step
    up, down = (
        vmap(phi)(proximal_response(objective, w_star, 1 + sign * bump, damping))
        for sign in (1, -1)
    )
    return (up - down) / (2 * step)
