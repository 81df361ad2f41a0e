"""Chapter 2, "Linear regression, exactly": influence and leave-one-out in closed form.

Least squares on x (n, p) and y (n,), with L_i(w) = ½(y_i − wᵀx_i)² and A = Σ x_i x_iᵀ.
Give x a column of ones (`models.with_intercept`) for a line that need not pass through the origin.
"""

import torch
from torch import Tensor

from lib._validate import count, number, shaped


def _design(x: Tensor, y: Tensor | None = None) -> tuple[Tensor, Tensor]:
    """Q and R of x = QR; row i of Q is A^(−1/2) x_i up to a rotation, so no inverse is formed."""
    shaped("x", x, "n", "p")
    if y is not None:
        shaped("y", y, len(x))
    if not 0 < x.shape[1] <= len(x):
        raise ValueError(f"x: expected at least as many rows as columns, got {tuple(x.shape)}")
    q, r = torch.linalg.qr(x)
    pivots = r.diagonal().abs()
    if pivots.min() <= torch.finfo(x.dtype).eps ** 0.75 * pivots.max():
        raise ValueError("x: expected full column rank; A = Σ x_i x_iᵀ is singular")
    return q, r


def _row(x: Tensor, j: int) -> int:
    return count("j", j, least=0, most=len(x) - 1)


def least_squares(x: Tensor, y: Tensor) -> Tensor:
    """w* = A⁻¹ Σ x_i y_i, shape (p,). Equation eq-least-squares."""
    q, r = _design(x, y)
    return torch.linalg.solve_triangular(r, (q.T @ y)[:, None], upper=True)[:, 0]


def residuals(x: Tensor, y: Tensor) -> Tensor:
    """r_i = y_i − w*ᵀx_i, shape (n,), in the units of y."""
    return y - x @ least_squares(x, y)


def leverage(x: Tensor) -> Tensor:
    """How unusual each input is: h_i = x_iᵀ A⁻¹ x_i, shape (n,), each in [0, 1], summing to p.

    Raises ValueError if x is not a matrix or A is singular. Equation eq-leverage; Cook (1977).
    """
    q, _ = _design(x)
    return (q * q).sum(dim=1)


def regression_influence(x: Tensor, y: Tensor) -> Tensor:
    """∂w*/∂β_j = A⁻¹ x_j r_j at β = 1, one row an example, shape (n, p).

    Equation eq-regression-influence.
    """
    q, r = _design(x, y)
    pulls = torch.linalg.solve_triangular(r, q.T, upper=True).T  # rows A⁻¹ x_j
    return pulls * residuals(x, y)[:, None]


def weighted_update(x: Tensor, y: Tensor, j: int, beta_j: float) -> Tensor:
    """w*(β_j) − w*, exactly, when example j has weight β_j and the others 1; shape (p,).

    Raises ValueError if the weighted problem has no unique minimum: (1 − β_j) h_j ≥ 1. Equation
    eq-path.
    """
    s = 1.0 - number("beta_j", beta_j)
    h = leverage(x)[_row(x, j)]
    if 1 - s * h < 1e-12:
        raise ValueError(f"beta_j: no unique minimum at {beta_j:g}, where (1 - beta_j) h_j >= 1")
    return -s * regression_influence(x, y)[j] / (1 - s * h)


def update_series(x: Tensor, y: Tensor, j: int, beta_j: float, terms: int) -> Tensor:
    """The first `terms` terms of the Taylor series of w*(β_j) − w* at β_j = 1, shape (p,).

    Converges where |(1 − β_j) h_j| < 1. Its first term is −(1 − β_j) times the influence.
    Equation eq-series.
    """
    count("terms", terms)
    s, h = 1.0 - number("beta_j", beta_j), leverage(x)[_row(x, j)]
    total = sum(s**k * h ** (k - 1) for k in range(1, terms + 1))
    return -regression_influence(x, y)[j] * total


def deletion_update(x: Tensor, y: Tensor) -> Tensor:
    """w*_(−j) − w* = −A⁻¹ x_j r_j / (1 − h_j) for every j, exactly, shape (n, p).

    Raises ValueError if a leverage is 1: without that example the fit is not unique.
    Equation eq-deletion; Cook (1977).
    """
    return -regression_influence(x, y) / (1 - _removable(x))[:, None]


def _removable(x: Tensor) -> Tensor:
    h = leverage(x)
    if h.max() > 1 - 1e-12:
        raise ValueError(f"x: without row {int(h.argmax())}, of leverage 1, the fit is not unique")
    return h


def cooks_distance(x: Tensor, y: Tensor) -> Tensor:
    """D_j = r_j² h_j / (p s² (1 − h_j)²): how far all fitted values move without j; shape (n,).

    s² = Σ r_i² / (n − p). Raises ValueError unless n > p, s² > 0 and every leverage is below 1.
    Equation eq-cook; Cook (1977).
    """
    n, p = shaped("x", x, "n", "p").shape
    if n <= p:
        raise ValueError(f"x: expected more rows than columns to estimate s², got {(n, p)}")
    r, h = residuals(x, y), _removable(x)
    if r.norm() <= torch.finfo(x.dtype).eps ** 0.75 * y.norm():
        raise ValueError("y: expected labels that do not lie on the fit, where s² = 0")
    s2 = (r @ r) / (n - p)
    return r**2 * h / (p * s2 * (1 - h) ** 2)
