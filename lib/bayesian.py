"""Chapter 3: Bayesian influence functions, π(β) = a posterior over w.

A Gibbs posterior is an energy. The derivative of an average over it is a covariance, so the module
is: the posterior, averages and covariances, and the influence function. Draws come from
`lib.sampling`, exact answers from `lib.exact_posteriors`.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from itertools import islice

import torch
from torch import Tensor
from torch.func import grad_and_value, vmap

from lib._validate import count, finite, number, positive, rows_of, scalar, shaped, sized
from lib.objective import Objective, Observable

# --- the posterior -------------------------------------------------------------------------------


@dataclass(frozen=True)
class Gibbs:
    """p_β(w) ∝ exp(−κ Σ_i β_i L_i(w) − ½ρ‖w‖² − ½γ‖w − w*‖²) ϱ(w), a distribution over parameters.

    inverse_temperature: κ, which tempers the losses and nothing else.  localisation: γ, and
    centre: w* of shape (p,).  The objective's penalty ρ is a Gaussian prior; log_prior: w ↦ log ϱ,
    up to a constant, for any other.  κ = 1 on negative log-likelihoods is the Bayesian posterior.
    Raises ValueError unless κ > 0 and γ ≥ 0, or if γ > 0 has no centre.
    Equations eq-gibbs, eq-localised; Kreer et al. (2025).
    """

    objective: Objective
    inverse_temperature: float = 1.0
    localisation: float = 0.0
    centre: Tensor | None = None
    log_prior: Observable | None = None

    def __post_init__(self):
        positive("inverse_temperature", self.inverse_temperature)
        positive("localisation", self.localisation, or_zero=True)
        if self.localisation and self.centre is None:
            raise ValueError("centre: expected w* of shape (p,), which localisation holds on to")
        if self.centre is not None:
            shaped("centre", self.centre, "p")


def energy(gibbs: Gibbs, w: Tensor, beta: Tensor | None = None) -> Tensor:
    """U_β(w) = −log p_β(w) up to a constant: (p,) → scalar, (m, p) → (m,). Equation eq-gibbs."""
    _weights_given(gibbs, beta)
    if rows_of("w", w, w.shape[-1]).ndim == 1:
        return energy_at(gibbs, w, beta)
    return vmap(lambda v: energy_at(gibbs, v, beta))(w)


def energy_and_gradient(
    gibbs: Gibbs, w: Tensor, beta: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """U_β, shape (m,), and ∇U_β, shape (m, p), at every row of w (m, p); minus the score."""
    _weights_given(gibbs, beta)
    shaped("w", w, "m", "p")
    slope, value = vmap(grad_and_value(lambda v: energy_at(gibbs, v, beta)))(w)
    return value, slope


def _weights_given(gibbs: Gibbs, beta: Tensor | None) -> None:
    if beta is not None:
        shaped("beta", beta, gibbs.objective.n)


def energy_at(gibbs: Gibbs, w: Tensor, beta: Tensor | None = None) -> Tensor:
    """U_β of one w (p,), a scalar; looks at no value, so it may run under any transform."""
    objective = gibbs.objective
    each = vmap(objective.loss_at, (None, 0, 0))(w, objective.x, objective.y)
    total = each.sum() if beta is None else beta @ each
    return gibbs.inverse_temperature * total + restraint(gibbs, w)


def restraint(gibbs: Gibbs, w: Tensor) -> Tensor:
    """½ρ‖w‖² + ½γ‖w − w*‖² − log ϱ(w) of one w: what carries no data weight and no temperature."""
    held = 0.5 * gibbs.objective.l2 * (w @ w)
    if gibbs.localisation:
        away = sized("w", w, len(gibbs.centre)) - gibbs.centre
        held = held + 0.5 * gibbs.localisation * (away @ away)
    if gibbs.log_prior is not None:
        held = held - scalar("log_prior", gibbs.log_prior(w))
    return held


# --- averages over weighted points ---------------------------------------------------------------


def average(values: Tensor, weights: Tensor | None = None) -> Tensor:
    """E[values] over m points, (m, …) → (…); weights: (m,) probabilities, equal if not given."""
    finite("values", values)
    if weights is None:
        return values.mean(dim=0)
    return torch.tensordot(_probabilities(weights, len(values)), values, dims=1)


def covariance(a: Tensor, b: Tensor, weights: Tensor | None = None) -> Tensor:
    """Cov(a, b) over m points: (m, n) against (m, k) gives (n, k); (m,) counts as no dimension.

    Without weights the points are draws, and the sum is divided by m − 1. Equation eq-covariance.
    """
    a, b = finite("a", a), finite("b", b)
    if len(a) != len(b) or len(a) < 2:
        raise ValueError(f"b: expected as many points as in a, two or more; got {len(b)}")
    centred = a - average(a, weights)
    if weights is None:
        counted = centred / (len(a) - 1)
    else:
        counted = centred * weights.reshape(-1, *[1] * (a.ndim - 1))
    return torch.tensordot(counted, b - average(b, weights), dims=([0], [0]))


def _probabilities(weights: Tensor, m: int) -> Tensor:
    shaped("weights", weights, m)
    tolerance = max(1e-8, 100 * torch.finfo(weights.dtype).eps)
    if weights.min() < 0 or abs(weights.sum() - 1) > tolerance:
        raise ValueError("weights: expected non-negative numbers that sum to one")
    return weights


def reweighted_mean(
    phi: Tensor,
    psi: Tensor,
    theta: float,
    inverse_temperature: float = 1.0,
    weights: Tensor | None = None,
) -> Tensor:
    """E_{p_θ}[φ] with p_θ ∝ p e^{κθψ}, from values of φ (m, …) and ψ (m,) at points of p.

    Equation eq-tilted.
    """
    shaped("psi", psi, len(phi))
    tilt = positive("inverse_temperature", inverse_temperature) * number("theta", theta) * psi
    if weights is not None:
        tilt = tilt + _probabilities(weights, len(psi)).log()
    return average(phi, torch.softmax(tilt, dim=0))


def susceptibility(
    phi: Tensor, psi: Tensor, inverse_temperature: float = 1.0, weights: Tensor | None = None
) -> Tensor:
    """χ(φ|ψ) = κ Cov(φ, ψ): how E[φ] answers a tilt by ψ; (m, …) and (m, …) → (…, …).

    Equation eq-fluctuation-response; Baker et al. (2025).
    """
    return positive("inverse_temperature", inverse_temperature) * covariance(phi, psi, weights)


def susceptibility_by_definition(
    phi: Tensor,
    psi: Tensor,
    inverse_temperature: float = 1.0,
    weights: Tensor | None = None,
    *,
    step: float = 1e-3,
) -> Tensor:
    """χ(φ|ψ) = ∂/∂θ E_{p_θ}[φ] at θ = 0, by differences of reweighted means; (m, …) → (…).

    The error falls like step⁴. Knows nothing of covariances. Equation eq-susceptibility.
    """
    positive("step", step)
    near, far = (
        (
            reweighted_mean(phi, psi, theta, inverse_temperature, weights)
            - reweighted_mean(phi, psi, -theta, inverse_temperature, weights)
        )
        / (2 * theta)
        for theta in (step, 2 * step)
    )
    return (4 * near - far) / 3


def bif(
    losses: Tensor, phi: Tensor, inverse_temperature: float = 1.0, weights: Tensor | None = None
) -> Tensor:
    """BIF(z_i, φ) = −κ Cov(L_i, φ), all examples and observables at once.

    losses: (m, n), phi: (m,) or (m, k), at m points of the posterior. Returns (n,) or (n, k).
    Positive: upweighting z_i raises E[φ]. Equation eq-bif; Kreer et al. (2025).
    """
    shaped("losses", losses, "m", "n")
    return susceptibility(-losses, phi, inverse_temperature, weights)


def losses_at(objective: Objective, w: Tensor, *, chunk: int = 4096) -> Tensor:
    """L_i(w) of every example at every row of w: (m, p) → (m, n), `chunk` rows at a time."""
    shaped("w", w, "m", "p")
    count("chunk", chunk)
    one = vmap(objective.loss_at, (None, 0, 0))
    each = vmap(lambda v: one(v, objective.x, objective.y))
    return torch.cat([each(part) for part in w.split(chunk)])


# --- the influence function, from draws ----------------------------------------------------------


@dataclass(frozen=True)
class Estimate:
    """A Monte-Carlo estimate: its value, and its standard error of the same shape."""

    value: Tensor
    error: Tensor


def bayesian_influence(
    gibbs: Gibbs, draws: Tensor | Iterable[Tensor], phi: Observable, *, block: int = 32
) -> Estimate:
    """∂E[φ]/∂β_i = −κ Cov(L_i, φ) of every example, from draws of the posterior; (n,) or (n, k).

    draws: (chains, draws, p), or an iterable of states (chains, p), of which `block` are held at a
    time.  phi: w ↦ scalar, or (k,) for k observables at once. The error is the spread between
    chains, which should be independent and many: below a hundred it is itself uncertain. Raises
    ValueError with fewer than two chains or two draws, or if a loss or φ is not finite.
    Equation eq-bif; Kreer et al. (2025).
    """
    count("block", block)
    if isinstance(draws, Tensor):
        draws = shaped("draws", draws, "chains", "draws", "p").unbind(dim=1)
    states = iter(draws)
    sums, vector = None, False
    while new := _block_of(gibbs, list(islice(states, block)), phi):
        vector = new.vector
        sums = new.sums if sums is None else sums.merged(new.sums)
        del new  # before the next block is drawn
    if sums is None or len(sums.a) < 2 or sums.count < 2:
        raise ValueError("draws: expected at least two chains of at least two draws")
    value, error = sums.covariance()
    value, error = -gibbs.inverse_temperature * value, gibbs.inverse_temperature * error
    return Estimate(value, error) if vector else Estimate(value[:, 0], error[:, 0])


@dataclass(frozen=True)
class _Comoments:
    """Means and centred products of each chain, merged block by block (Chan et al., 1979)."""

    count: int
    a: Tensor  # (chains, n)
    b: Tensor  # (chains, k)
    product: Tensor  # (chains, n, k): Σ (a − mean)(b − mean)

    @classmethod
    def of(cls, a: Tensor, b: Tensor) -> "_Comoments":
        mean_a, mean_b = a.mean(dim=1), b.mean(dim=1)
        product = torch.einsum("ctn,ctk->cnk", a - mean_a[:, None], b - mean_b[:, None])
        return cls(a.shape[1], mean_a, mean_b, product)

    def merged(self, other: "_Comoments") -> "_Comoments":
        total = self.count + other.count
        far_a, far_b = other.a - self.a, other.b - self.b
        between = torch.einsum("cn,ck->cnk", far_a, far_b) * (self.count * other.count / total)
        share = other.count / total
        return _Comoments(
            total,
            self.a + share * far_a,
            self.b + share * far_b,
            self.product + other.product + between,
        )

    def covariance(self) -> tuple[Tensor, Tensor]:
        """The covariance over all draws, and its standard error from the spread between chains.

        Each chain's products are taken about the mean of all, so their mean is the covariance.
        """
        chains = len(self.a)
        far_a, far_b = self.a - self.a.mean(dim=0), self.b - self.b.mean(dim=0)
        each = self.product / self.count + torch.einsum("cn,ck->cnk", far_a, far_b)
        each = each * (chains * self.count / (chains * self.count - 1))
        return each.mean(dim=0), each.std(dim=0) / chains**0.5


@dataclass(frozen=True)
class _Block:
    sums: _Comoments
    vector: bool  # whether φ has a dimension of its own


def _block_of(gibbs: Gibbs, states: list[Tensor], phi: Observable) -> _Block | None:
    """What a block of states (chains, p) adds; None if there are none."""
    if not states:
        return None
    for state in states:
        sized("draws", state, "chains", "p")
    w = torch.stack(states, dim=1)  # (chains, block, p)
    flat = w.reshape(-1, w.shape[-1])
    losses = losses_at(gibbs.objective, flat).unflatten(0, w.shape[:2])
    if not torch.isfinite(losses).all():
        raise ValueError("draws: a loss is not finite at some draw")
    phis = finite("phi", vmap(phi)(flat))
    if phis.ndim > 2:
        raise ValueError(f"phi: expected a scalar or shape (k,), got {tuple(phis.shape[1:])}")
    sums = _Comoments.of(losses, phis.reshape(*w.shape[:2], -1))
    return _Block(sums, phis.ndim == 2)
