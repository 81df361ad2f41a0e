"""Chapter 3, "Draws from a posterior": Langevin samplers, and whether to trust them.

Samplers run many chains as one batch and yield one state (chains, p) at a time, so that a run can
be kept (`collect`) or consumed as it comes (`bayesian.bayesian_influence`) in bounded memory.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial

import torch
from arviz_stats.base import array_stats
from torch import Tensor
from torch.func import grad, vmap
from tqdm import tqdm

from lib._validate import count, positive, shaped
from lib.bayesian import Gibbs, energy_and_gradient, restraint
from lib.influence import spectrum


def sgld(
    gibbs: Gibbs,
    w0: Tensor,
    *,
    step: float,
    draws: int,
    generator: torch.Generator,
    batch: int | None = None,
    burn_in: int = 0,
    thin: int = 1,
    progress: bool = True,
) -> Iterator[Tensor]:
    """Stochastic gradient Langevin dynamics: w ← w − ½η ∇Û(w) + √η ξ, for all chains at once.

    w0: (chains, p), one start a chain.  step: η.  batch: m examples a chain and step, drawn without
    replacement, whose gradients count n/m times; all examples if not given. Yields `draws` states
    (chains, p): the first `burn_in` steps are dropped, then every `thin`-th is kept. Biased at any
    η > 0 (`sgld_covariance`). A bar shows on runs of more than ten seconds. Raises ValueError if a
    chain diverges. Equation eq-sgld; Welling and Teh (2011).
    """
    positive("step", step)
    n = gibbs.objective.n
    if batch is not None:
        count("batch", batch, most=n)
    slope = partial(_minibatch_gradient, gibbs, batch=batch, generator=generator)

    def update(w: Tensor) -> Tensor:
        return w - 0.5 * step * slope(w) + step**0.5 * _normal_like(w, generator)

    return _run("SGLD", update, w0, draws, burn_in, thin, generator, progress)


def mala(
    gibbs: Gibbs,
    w0: Tensor,
    *,
    step: float,
    draws: int,
    generator: torch.Generator,
    burn_in: int = 0,
    thin: int = 1,
    progress: bool = True,
) -> Iterator[Tensor]:
    """The Metropolis-adjusted Langevin algorithm: full-batch steps of `sgld`, accepted or refused
    so that the posterior itself is stationary, at any step; for all chains at once.

    Arguments as in `sgld`. What a large step costs here is refusals: see `acceptance`.
    Equation eq-mala; Roberts and Tweedie (1996).
    """
    positive("step", step)
    value = slope = None

    def update(w: Tensor) -> Tensor:
        nonlocal value, slope
        if value is None:
            value, slope = energy_and_gradient(gibbs, w)
        new = w - 0.5 * step * slope + step**0.5 * _normal_like(w, generator)
        if not torch.isfinite(new).all():
            return new
        new_value, new_slope = energy_and_gradient(gibbs, new)
        forth = ((new - w + 0.5 * step * slope) ** 2).sum(dim=1)
        back = ((w - new + 0.5 * step * new_slope) ** 2).sum(dim=1)
        log_ratio = value - new_value + (forth - back) / (2 * step)
        uniform = torch.rand(len(w), generator=generator, dtype=w.dtype, device=generator.device)
        # An energy that overflows is refused: NaN compares false.
        accept = uniform.to(w.device).log() < log_ratio
        value = torch.where(accept, new_value, value)
        slope = torch.where(accept[:, None], new_slope, slope)
        return torch.where(accept[:, None], new, w)

    return _run("MALA", update, w0, draws, burn_in, thin, generator, progress)


def _run(
    name: str,
    update: Callable[[Tensor], Tensor],
    w0: Tensor,
    draws: int,
    burn_in: int,
    thin: int,
    generator: torch.Generator,
    progress: bool,
) -> Iterator[Tensor]:
    """Check the arguments now, not when the first state is asked for."""
    shaped("w0", w0, "chains", "p")
    count("draws", draws)
    count("burn_in", burn_in, least=0)
    count("thin", thin)
    if not isinstance(generator, torch.Generator):
        raise ValueError(f"generator: expected a torch.Generator, got {type(generator).__name__}")

    start = w0.clone()

    def states() -> Iterator[Tensor]:
        w = start
        total = burn_in + draws * thin
        bar = tqdm(total=total, desc=name, delay=10, disable=not progress, leave=False)
        with bar:
            for t in range(1, total + 1):
                w = update(w)
                if not torch.isfinite(w).all():
                    raise ValueError(f"step: {name} diverged at step {t}; take a smaller one")
                bar.update()
                if t > burn_in and (t - burn_in) % thin == 0:
                    yield w.clone()  # the caller may do with it as he likes

    return states()


def _normal_like(w: Tensor, generator: torch.Generator) -> Tensor:
    noise = torch.randn(w.shape, generator=generator, dtype=w.dtype, device=generator.device)
    return noise.to(w.device)


def _minibatch_gradient(
    gibbs: Gibbs, w: Tensor, *, batch: int | None, generator: torch.Generator
) -> Tensor:
    """∇Û = κ (n/m) Σ_B ∇L_k + ∇restraint, a fresh batch B for each chain; (chains, p)."""
    objective = gibbs.objective
    n = objective.n
    if batch is None or batch == n:
        return energy_and_gradient(gibbs, w)[1]
    order = torch.rand(len(w), n, generator=generator, device=generator.device)
    rows = order.argsort(dim=1)[:, :batch].to(objective.x.device)
    scale = gibbs.inverse_temperature * n / batch

    def estimate(v: Tensor, x: Tensor, y: Tensor) -> Tensor:
        return scale * vmap(objective.loss_at, (None, 0, 0))(v, x, y).sum() + restraint(gibbs, v)

    return vmap(grad(estimate))(w, objective.x[rows], objective.y[rows])


def collect(states: Iterator[Tensor]) -> Tensor:
    """All states of a run: an iterator of (chains, p) → (chains, draws, p)."""
    return torch.stack(list(states), dim=1)


# --- what a finite step does ---------------------------------------------------------------------


def sgld_covariance(curvature: Tensor, step: float, gradient_noise: Tensor | None = None) -> Tensor:
    """SGLD's stationary covariance on the energy ½ wᵀHw at a finite step, shape (p, p).

    curvature: H, positive definite.  gradient_noise: S, the covariance of a mini-batch gradient,
    the same everywhere; zero if not given. Solves V = (I − ½ηH) V (I − ½ηH) + ηI + ¼η²S. Raises
    ValueError unless 0 < η < 4 / λ_max(H), beyond which there is no stationary distribution.
    Equations eq-step-bias, eq-batch-bias.
    """
    values, vectors = spectrum("curvature", curvature)
    if values.min() <= 0:
        raise ValueError("curvature: expected a positive definite matrix")
    if positive("step", step) >= 4 / values.max():
        raise ValueError(f"step: expected less than 4/λ_max = {4 / values.max():.3g}, got {step:g}")
    kept = 1 - 0.5 * step * values
    added = step * torch.eye(len(values), dtype=values.dtype, device=values.device)
    if gradient_noise is not None:
        spectrum("gradient_noise", shaped("gradient_noise", gradient_noise, *curvature.shape))
        added = added + 0.25 * step**2 * vectors.T @ gradient_noise @ vectors
    return vectors @ (added / (1 - torch.outer(kept, kept))) @ vectors.T


def minibatch_noise(slopes: Tensor, batch: int) -> Tensor:
    """S = n²/m · (n − m)/(n − 1) · Cov of the rows: the covariance of (n/m) Σ_B slopes_k, (p, p).

    slopes: κ∇L_i at one w, shape (n, p); batches of m drawn without replacement.
    Equation eq-batch-noise.
    """
    n = len(shaped("slopes", slopes, "n", "p"))
    m = count("batch", batch, most=n)
    if n < 2:
        raise ValueError(f"slopes: expected two rows or more, got {n}")
    centred = slopes - slopes.mean(dim=0)
    return centred.T @ centred / n * (n**2 / m * (n - m) / (n - 1))


# --- whether to trust a run ----------------------------------------------------------------------


@dataclass(frozen=True)
class Diagnostics:
    """R̂ and the effective sample size of each quantity, shape (k,); by ArviZ."""

    rhat: Tensor
    ess: Tensor


def diagnostics(traces: Tensor) -> Diagnostics:
    """Rank-normalised split R̂ and bulk effective sample size of traces (chains, draws[, k]).

    R̂ compares the spread between chains with the spread within: trust draws whose R̂ is below 1.01.
    Raises ValueError with fewer than two chains or four draws, or if a quantity never moves.
    Vehtari et al. (2021), as computed by ArviZ.
    """
    if traces.ndim == 2:
        traces = traces[:, :, None]
    chains, length, _ = shaped("traces", traces, "chains", "draws", "k").shape
    if chains < 2 or length < 4:
        raise ValueError(
            f"traces: expected two chains of four draws or more, got {tuple(traces.shape)}"
        )
    if (traces.amax(dim=1) == traces.amin(dim=1)).all(dim=0).any():
        raise ValueError("traces: a quantity never moves; were all proposals refused?")
    array = traces.detach().cpu().double().numpy()
    rhat = array_stats.rhat(array, chain_axis=0, draw_axis=1)
    ess = array_stats.ess(array, chain_axis=0, draw_axis=1)
    return Diagnostics(torch.from_numpy(rhat), torch.from_numpy(ess))


def acceptance(draws: Tensor) -> float:
    """The share of proposals that MALA accepted, from an unthinned run (chains, draws, p)."""
    if shaped("draws", draws, "chains", "draws", "p").shape[1] < 2:
        raise ValueError("draws: expected at least two draws a chain")
    return (draws[:, 1:] != draws[:, :-1]).any(dim=2).double().mean().item()
