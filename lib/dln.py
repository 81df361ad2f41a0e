"""Chapter 4, "When influence comes and goes": a two-layer linear network W = W₂W₁.

Closed forms for its modes and for how an example moves them, with the perturbation of the singular
basis in full; then the network itself, trained by gradient flow, to hold the formulas against.
Inputs are white, (1/n) Σ x xᵀ = I, unless a Σ_xx is given. Influences are derivatives in β_p of a
*mean* of losses, so they carry a factor 1/n, like the unrolled influence of gradient descent.
"""

import math
from dataclasses import dataclass

import numpy as np
import torch
from scipy.integrate import solve_ivp
from torch import Tensor

from lib._validate import count, positive, shaped

# --- one mode ------------------------------------------------------------------------------------


def mode_strength(s: Tensor, t: Tensor, g0: float, tau: float = 1.0) -> Tensor:
    """𝒢(t) = s e^{2st/τ} / (e^{2st/τ} − 1 + s/𝒢(0)): solves τ𝒢' = 2𝒢(s − 𝒢).

    s: singular values > 0, and t ≥ 0, of shapes that broadcast.  g0: 𝒢(0) > 0, not near s by need.
    Equation eq-mode; Saxe, McClelland and Ganguli (2014).
    """
    left, left_over = _decay(s, t, g0, tau)
    return s / (1 + left * left_over)


def mode_sensitivity(s: Tensor, t: Tensor, g0: float, tau: float = 1.0) -> Tensor:
    """g′ = ∂𝒢/∂s at fixed t and 𝒢(0): 0 at the start, above 1 just after t*, and 1 in the end.

    Arguments as in `mode_strength`. Equation eq-mode-sensitivity.
    """
    left, left_over = _decay(s, t, g0, tau)
    whole = 1 + left * left_over
    slope = left / g0 - 2 * t / tau * left * left_over
    return 1 / whole - s * slope / whole**2


def _decay(s: Tensor, t: Tensor, g0: float, tau: float) -> tuple[Tensor, Tensor]:
    """e^{−2st/τ} and s/𝒢(0) − 1: written so that nothing overflows."""
    positive("g0", g0)
    positive("tau", tau)
    if not (torch.isfinite(s).all() and (s > 0).all()):
        raise ValueError("s: expected positive singular values")
    if not (torch.isfinite(t).all() and (t >= 0).all()):
        raise ValueError("t: expected times of zero or more")
    return torch.exp(-2 * s * t / tau), s / g0 - 1


def transition_time(s: Tensor, g0: float, tau: float = 1.0) -> Tensor:
    """t* = (τ/2s) log(s/𝒢(0) − 1), where 𝒢 = s/2; needs 𝒢(0) < s/2. Equation eq-transition-time."""
    if not ((s > 2 * positive("g0", g0)) & torch.isfinite(s)).all():
        raise ValueError(f"s: expected singular values above 2 g0 = {2 * g0:g}")
    return positive("tau", tau) / (2 * s) * torch.log(s / g0 - 1)


# --- how an example turns and stretches the singular basis ---------------------------------------


def singular_rotations(s: Tensor, e: Tensor) -> tuple[Tensor, Tensor]:
    """Skew A, B (d, d) with U(h) = I + hA and V(h)ᵀ = I + hB for the SVD of diag(s) + hE.

    A_jk = (s_k E_jk + s_j E_kj)/(s_k² − s_j²) and B_jk = (s_k E_kj + s_j E_jk)/(s_j² − s_k²).
    Raises ValueError if two singular values are equal: then only the whole of `mode_response` has a
    meaning. Equation eq-singular-rotations.
    """
    d = len(shaped("s", s, "d"))
    shaped("e", e, d, d)
    square = s**2
    gap = square[None, :] - square[:, None]
    off = ~torch.eye(d, dtype=torch.bool)
    if (gap[off].abs() <= 1e-12 * square.max()).any():
        raise ValueError("s: expected different singular values; see mode_response")
    gap = torch.where(off, gap, 1.0)
    a = torch.where(off, (s[None, :] * e + s[:, None] * e.T) / gap, 0.0)
    b = torch.where(off, -(s[None, :] * e.T + s[:, None] * e) / gap, 0.0)
    return a, b


@dataclass(frozen=True)
class Sources:
    """The three terms of dW/dh: AG, D = diag(g′_k E_kk) and GB, shape (d, d) each."""

    left_rotation: Tensor
    strength: Tensor
    right_rotation: Tensor

    @property
    def total(self) -> Tensor:
        """Their sum, dW/dh."""
        return self.left_rotation + self.strength + self.right_rotation


def three_sources(s: Tensor, g: Tensor, slope: Tensor, e: Tensor) -> Sources:
    """dW/dh = AG + D + GB when diag(s) is perturbed by hE and every mode has strength g(s).

    s, g, slope: singular values, 𝒢(t) and g′ = ∂𝒢/∂s, shape (d,).  e: (d, d), any matrix.
    Equation eq-three-sources; Lee et al. (2025).
    """
    a, b = singular_rotations(s, e)
    shaped("g", g, len(s))
    shaped("slope", slope, len(s))
    return Sources(a * g, torch.diag(slope * e.diagonal()), g[:, None] * b)


def mode_response(
    s: Tensor, g: Tensor, slope: Tensor, e: Tensor, elapsed: float = math.inf
) -> Tensor:
    """The same dW/dh without A and B, shape (d, d); equal singular values are allowed.

    The symmetric part of E_jk is multiplied by (g_k − g_j)/(s_k − s_j), or g′ if s_j = s_k, and the
    skew part by (g_k + g_j)/(s_k + s_j).  elapsed: t/τ, for a start that does not turn with the
    singular basis: the skew part then lacks e^(−(s_j + s_k)t/τ) of itself.
    Equations eq-mode-response, eq-fixed-start.
    """
    d = len(shaped("s", s, "d"))
    if not (s > 0).all():
        raise ValueError("s: expected positive singular values")
    for name, value in (("g", g), ("slope", slope)):
        shaped(name, value, d)
    shaped("e", e, d, d)
    rise, run = g[None, :] - g[:, None], s[None, :] - s[:, None]
    # The quotient loses digits as s_k nears s_j; the mean slope is then the better answer.
    same = run.abs() <= 1e-6 * (s[None, :] + s[:, None])
    divided = torch.where(
        same, (slope[None, :] + slope[:, None]) / 2, rise / torch.where(same, 1.0, run)
    )
    together = (g[None, :] + g[:, None]) / (s[None, :] + s[:, None])
    turned = -torch.expm1(-elapsed * (s[None, :] + s[:, None]))
    return divided * (e + e.T) / 2 + together * turned * (e - e.T) / 2


def weight_response(
    sigma_yx: Tensor,
    x_p: Tensor,
    y_p: Tensor,
    t: float,
    g0: float,
    n: int,
    tau: float = 1.0,
    *,
    fixed_start: bool = False,
) -> tuple[Tensor, Tensor]:
    """W(t) and its response ∂W(t)/∂β_p to the cross-covariance alone, in any basis; (d, d) each.

    sigma_yx: (1/n) Σ y xᵀ = U diag(s) Vᵀ, of full rank.  The start is 𝒢(0) U Vᵀ, and turns with the
    basis unless it is a fixed_start, as that of a network is. With E = (Uᵀy_p)(Vᵀx_p)ᵀ the response
    is U (AG + D + GB) Vᵀ/n. It leaves out that more weight on z_p also changes Σ_xx: see
    `flow_response`. Equations eq-general-basis, eq-fixed-start.
    """
    d = len(shaped("x_p", x_p, "d"))
    shaped("y_p", y_p, d)
    count("n", n)
    u, s, vt = torch.linalg.svd(shaped("sigma_yx", sigma_yx, d, d))
    time = torch.as_tensor(t, dtype=s.dtype)
    g, slope = mode_strength(s, time, g0, tau), mode_sensitivity(s, time, g0, tau)
    elapsed = t / tau if fixed_start else math.inf
    response = mode_response(s, g, slope, torch.outer(u.T @ y_p, vt @ x_p), elapsed)
    return u * g @ vt, u @ response @ vt / n


def loss_influence(w: Tensor, response: Tensor, x_q: Tensor, y_q: Tensor) -> Tensor:
    """∂ℓ_q/∂β_p = −(y_q − W x_q)ᵀ (∂W/∂β_p) x_q of ℓ_q = ½‖y_q − W x_q‖²; negative is helpful.

    Equation eq-dln-loss-influence.
    """
    return -(y_q - w @ x_q) @ response @ x_q


# --- the network itself --------------------------------------------------------------------------


@dataclass(frozen=True)
class Covariances:
    """All that training sees: Σ_yx = (1/n) Σ β_i y_i x_iᵀ and Σ_xx = (1/n) Σ β_i x_i x_iᵀ."""

    yx: Tensor
    xx: Tensor


def covariances(x: Tensor, y: Tensor, beta: Tensor | None = None) -> Covariances:
    """Σ_yx and Σ_xx of x (n, d) and y (n, d), weighted by beta (n,) if given; divided by n."""
    n = len(shaped("x", x, "n", "d"))
    shaped("y", y, n, "d")
    weighted = x if beta is None else shaped("beta", beta, n)[:, None] * x
    return Covariances(y.T @ weighted / n, x.T @ weighted / n)


def balanced_start(sigma_yx: Tensor, g0: float, rotation: Tensor | None = None):
    """W₁ = √𝒢(0) R Vᵀ and W₂ = √𝒢(0) U Rᵀ: balanced and aligned with the SVD of Σ_yx.

    rotation: R, orthogonal; I if not given. What is between the layers does not show in W₂W₁.
    """
    u, _, vt = torch.linalg.svd(shaped("sigma_yx", sigma_yx, "d", "d"))
    eye = torch.eye(len(u), dtype=u.dtype)
    r = eye if rotation is None else shaped("rotation", rotation, *u.shape)
    if (r @ r.T - eye).abs().max() > 1e-8:
        raise ValueError("rotation: expected an orthogonal matrix")
    root = positive("g0", g0) ** 0.5
    return root * r @ vt, root * u @ r.T


def gradient_flow(
    data: Covariances, w1: Tensor, w2: Tensor, times: Tensor, tau: float = 1.0, *, rtol=1e-11
) -> Tensor:
    """W(t) = W₂W₁ under gradient flow of the mean loss, at ascending times; (times, d, d).

    τW₁' = W₂ᵀ(Σ_yx − WΣ_xx), τW₂' = (Σ_yx − WΣ_xx)W₁ᵀ, by an explicit Runge–Kutta method of order 8
    with relative error `rtol` a step. Equation eq-dln-flow.
    """
    d = len(shaped("w1", w1, "d", "d"))
    shaped("w2", w2, d, d)
    if (shaped("times", times, "times").diff(prepend=times.new_zeros(1)) < 0).any():
        raise ValueError("times: expected ascending times of zero or more")
    positive("tau", tau)
    yx, xx = data.yx.numpy(), data.xx.numpy()

    def slope(_, state):
        a, b = state.reshape(2, d, d)
        pull = yx - b @ a @ xx
        return np.concatenate([(b.T @ pull).ravel(), (pull @ a.T).ravel()]) / tau

    start = torch.stack([w1, w2]).reshape(-1).numpy()
    if times[-1] == 0:
        return (w2 @ w1).expand(len(times), d, d)
    solved = solve_ivp(
        slope, (0.0, float(times[-1])), start, "DOP853", times.numpy(), rtol=rtol, atol=rtol * 1e-2
    )
    if not solved.success:
        raise ValueError(f"times: the flow could not be followed: {solved.message}")
    path = torch.from_numpy(solved.y.T.copy()).view(-1, 2, d, d)
    return path[:, 1] @ path[:, 0]


def flow_response(
    x: Tensor,
    y: Tensor,
    p: int,
    times: Tensor,
    w1: Tensor,
    w2: Tensor,
    tau: float = 1.0,
    *,
    cross_only: bool = False,
    step: float = 1e-3,
) -> Tensor:
    """∂W(t)/∂β_p of the network trained from (w1, w2), by central differences; (times, d, d).

    cross_only: let β_p enter Σ_yx only, as the closed forms do; otherwise upweight z_p in truth.
    """
    bump = torch.zeros(len(x), dtype=x.dtype)
    bump[count("p", p, least=0, most=len(x) - 1)] = positive("step", step)

    def trained(sign: float) -> Tensor:
        data = covariances(x, y, 1 + sign * bump)
        if cross_only:
            data = Covariances(data.yx, covariances(x, y).xx)
        return gradient_flow(data, w1, w2, times, tau)

    return (8 * (trained(1) - trained(-1)) - (trained(2) - trained(-2))) / (12 * step)


def white_inputs(n: int, d: int, generator: torch.Generator) -> Tensor:
    """n random inputs with (1/n) Σ x xᵀ = I exactly, shape (n, d); n ≥ d."""
    count("d", d)
    raw = torch.randn(count("n", n, least=d), d, generator=generator, dtype=torch.float64)
    return torch.linalg.qr(raw)[0] * n**0.5
