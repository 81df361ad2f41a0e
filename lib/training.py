"""Chapter 4, "Training is a map": β ↦ w_T as a pure function, one optimiser step at a time.

A state s_t is a tensor (rows, p): the parameters w_t and under them what the optimiser remembers.
`Run.step` is h_t, the map from s_t and β to s_{t+1}; all of chapter 4 differentiates it.
"""

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import ClassVar, Protocol

import torch
from torch import Tensor
from torch.func import grad, vmap
from tqdm import tqdm

from lib._validate import count, indices, positive, shaped, sized
from lib.models import token_losses
from lib.objective import Objective

# --- optimisers ----------------------------------------------------------------------------------


class Optimizer(Protocol):
    """One update h: `rows` is the height of a state, `update` takes it one gradient further."""

    rows: int

    def update(self, state: Tensor, gradient: Tensor, rate: Tensor, t: int) -> Tensor:
        """s_{t+1}, shape (rows, p), from s_t, the gradient (p,), the learning rate and t ≥ 0."""
        ...


@dataclass(frozen=True)
class SGD:
    """w ← w − η P_t g; P_t = I if no preconditioner, of shape (T, p, p), is given.

    Equations eq-sgd-step, eq-preconditioned-step.
    """

    preconditioner: Tensor | None = field(default=None, compare=False)
    rows: ClassVar[int] = 1

    def __post_init__(self):
        if self.preconditioner is not None:
            _, a, b = shaped("preconditioner", self.preconditioner, "T", "p", "p").shape
            if a != b:
                raise ValueError(f"preconditioner: expected shape (T, p, p), got (…, {a}, {b})")

    def update(self, state: Tensor, gradient: Tensor, rate: Tensor, t: int) -> Tensor:
        """One step; the state is w alone."""
        if self.preconditioner is not None:
            gradient = self.preconditioner[t] @ gradient
        return state - rate * gradient


@dataclass(frozen=True)
class Momentum:
    """m ← μ m + g, w ← w − η m (with Nesterov: w − η (g + μ m)). Equation eq-momentum-step."""

    decay: float = 0.9
    nesterov: bool = False
    rows: ClassVar[int] = 2

    def __post_init__(self):
        _share("decay", self.decay)

    def update(self, state: Tensor, gradient: Tensor, rate: Tensor, t: int) -> Tensor:
        """One step; the state is (w, m)."""
        w, m = state
        m = self.decay * m + gradient
        ahead = gradient + self.decay * m if self.nesterov else m
        return torch.stack([w - rate * ahead, m])


@dataclass(frozen=True)
class Adam:
    """m ← μ₁m + (1−μ₁)g, v ← μ₂v + (1−μ₂)g², w ← (1 − ηρ)w − η m̂/(√v̂ + ϵ).

    first, second: μ₁, μ₂.  eps: ϵ.  weight_decay: ρ, decoupled as in AdamW.  freeze: treat the
    preconditioner 1/(√v̂ + ϵ) as a constant when differentiating, which is not Adam's derivative
    but eq-preconditioned-unrolled's. Equation eq-adam-step; Kingma and Ba (2015), Loshchilov and
    Hutter (2019).
    """

    first: float = 0.9
    second: float = 0.999
    eps: float = 1e-8
    weight_decay: float = 0.0
    freeze: bool = False
    rows: ClassVar[int] = 3

    def __post_init__(self):
        _share("first", self.first)
        _share("second", self.second)
        positive("eps", self.eps)
        positive("weight_decay", self.weight_decay, or_zero=True)

    def update(self, state: Tensor, gradient: Tensor, rate: Tensor, t: int) -> Tensor:
        """One step; the state is (w, m, v)."""
        w, m, v = state
        seen = gradient.detach() if self.freeze else gradient
        m = self.first * m + (1 - self.first) * gradient
        v = self.second * v + (1 - self.second) * seen**2
        corrected = v / (1 - self.second ** (t + 1))
        # √v has no derivative at 0, m/(√v + ϵ) has: where v = 0, so is m, and √v drops out of it.
        used = corrected > 0
        root = torch.where(used, torch.where(used, corrected, 1.0).sqrt(), 0.0)
        ahead = m / (1 - self.first ** (t + 1)) / (root + self.eps)
        return torch.stack([(1 - rate * self.weight_decay) * w - rate * ahead, m, v])


def _share(name: str, value: float) -> None:
    if positive(name, value, or_zero=True) >= 1:
        raise ValueError(f"{name}: expected a number from 0 up to 1, without 1; got {value!r}")


# --- schedules and batches -----------------------------------------------------------------------


def constant(rate: float, steps: int) -> Tensor:
    """η_t = rate at every step, shape (steps,)."""
    return torch.full((count("steps", steps),), float(positive("rate", rate)), dtype=torch.float64)


def cosine(peak: float, steps: int, *, warmup: int = 0, end: float = 0.0) -> Tensor:
    """A linear rise over `warmup` steps to `peak`, then half a cosine down towards `end`; (steps,).

    Step t = warmup has the peak, and step t = steps would have `end`.
    """
    positive("peak", peak)
    positive("end", end, or_zero=True)
    count("warmup", warmup, least=0, most=count("steps", steps) - 1)
    t = torch.arange(steps, dtype=torch.float64)
    fall = (1 + torch.cos(math.pi * (t - warmup) / (steps - warmup))) / 2
    return torch.where(t < warmup, peak * (t + 1) / (warmup + 1), end + (peak - end) * fall)


def decaying(rate: float, steps: int, *, power: float = 0.75, delay: float = 1.0) -> Tensor:
    """η_t = rate (1 + t/delay)^(−power), shape (steps,): the Robbins–Monro conditions hold for
    power in (½, 1]."""
    positive("rate", rate)
    positive("power", power)
    t = torch.arange(count("steps", steps), dtype=torch.float64)
    return rate * (1 + t / positive("delay", delay)) ** -power


def full_batches(n: int, steps: int) -> Tensor:
    """Every example at every step, shape (steps, n)."""
    return torch.arange(count("n", n)).expand(count("steps", steps), n)


def epochs(n: int, batch: int, times: int, generator: torch.Generator) -> Tensor:
    """`times` passes over the examples, shuffled anew for each; (times · n / batch, batch).

    Raises ValueError unless `batch` divides n, so that no example is left out of an epoch.
    """
    count("batch", batch, most=count("n", n))
    count("times", times)
    if n % batch:
        raise ValueError(f"batch: expected a divisor of n = {n}, got {batch}")
    order = torch.stack([torch.randperm(n, generator=generator) for _ in range(times)])
    return order.view(-1, batch)


def resampled(n: int, batch: int, steps: int, generator: torch.Generator) -> Tensor:
    """An independent batch for every step, drawn without replacement; (steps, batch)."""
    count("batch", batch, most=count("n", n))
    draws = torch.rand(count("steps", steps), n, generator=generator)
    return draws.argsort(dim=1)[:, :batch]


# --- a run ---------------------------------------------------------------------------------------


def minibatch_loss(objective: Objective, w: Tensor, beta: Tensor, batch: Tensor) -> Tensor:
    """(1/b) Σ_{i∈B} β_i L_i(w) + (ρ/2n)‖w‖², a scalar; its mean over random batches is L(w; β)/n.

    batch: indices, shape (b,). Equation eq-minibatch-loss.
    """
    x, y = objective.x[batch], objective.y[batch]
    each = vmap(objective.loss_at, (None, 0, 0))(w, x, y)
    penalty = 0.5 * objective.l2 / objective.n * (w @ w)
    return (beta[batch] * each).mean() + penalty


def token_loss(objective: Objective, w: Tensor, beta: Tensor, batch: Tensor) -> Tensor:
    """(1/b) Σ_{i∈B} Σ_t β_it ℓ_it(w), a scalar: one data weight for every token of every sequence.

    objective: of a `models.Transformer`.  beta: (n · length,), sequence by sequence. At β = 1 it is
    `minibatch_loss`. Equation eq-token-loss.
    """
    x, y = objective.x[batch], objective.y[batch]
    each = vmap(lambda x_i, y_i: token_losses(objective.predict(w, x_i), y_i))(x, y)
    return (beta.view(objective.y.shape)[batch] * each).sum(dim=1).mean()


@dataclass(frozen=True)
class Run:
    """Everything that fixes one training run but the data weights.

    w0: (p,).  batches: integers (T, b), each example at most once a row.  rates: η_t ≥ 0, (T,).
    loss: (objective, w, beta, batch) → scalar, whose gradient the optimiser sees; if it reads more
    weights than one an example, `weights` is their number. Raises ValueError if shapes do not
    match or a batch names an example twice or one that does not exist.
    """

    objective: Objective
    w0: Tensor
    optimizer: Optimizer
    batches: Tensor
    rates: Tensor
    loss: Callable[[Objective, Tensor, Tensor, Tensor], Tensor] = minibatch_loss
    weights: int | None = None

    def __post_init__(self):
        shaped("w0", self.w0, "p")
        steps = len(shaped("rates", self.rates, "T"))
        if steps == 0 or self.rates.min() < 0:
            raise ValueError("rates: expected one learning rate or more, none below zero")
        _batches("batches", self.batches, steps, self.objective.n)
        if self.weights is not None:
            count("weights", self.weights)
        matrices = getattr(self.optimizer, "preconditioner", None)
        if matrices is not None:
            sized("preconditioner", matrices, steps, len(self.w0), len(self.w0))

    @property
    def steps(self) -> int:
        """T, the number of optimiser steps."""
        return len(self.rates)

    @property
    def n(self) -> int:
        """The number of data weights: of examples, unless `weights` says otherwise."""
        return self.objective.n if self.weights is None else self.weights

    def ones(self) -> Tensor:
        """β = 1, shape (n,), in the precision of the parameters."""
        return self.w0.new_ones(self.n)

    def start(self, w0: Tensor | None = None) -> Tensor:
        """s_0: the parameters over a memory of zeros, shape (rows, p)."""
        w0 = self.w0 if w0 is None else w0
        return torch.stack([w0, *[torch.zeros_like(w0)] * (self.optimizer.rows - 1)])

    def step(self, t: int, state: Tensor, beta: Tensor, batch: Tensor | None = None) -> Tensor:
        """h_t: from s_t (rows, p) and β (n,) to s_{t+1}. Equation eq-training-map."""
        batch = self.batches[t] if batch is None else batch
        gradient = grad(lambda w: self.loss(self.objective, w, beta, batch))(state[0])
        return self.optimizer.update(state, gradient, self.rates[t].to(state.dtype), t)


def _batches(name: str, value: Tensor, steps: int, n: int) -> None:
    sized(name, value, steps, "b")
    indices(name, value.reshape(-1), n)
    ordered = value.sort(dim=1).values
    if (ordered[:, 1:] == ordered[:, :-1]).any():
        raise ValueError(f"{name}: expected each example at most once in a batch")


def states(run: Run, beta: Tensor | None = None, *, progress: bool = True) -> Iterator[Tensor]:
    """s_0, s_1, …, s_T, each of shape (rows, p), as training reaches them; β = 1 if not given.

    A bar shows on runs of more than ten seconds. Raises ValueError when the run diverges.
    """
    beta = run.ones() if beta is None else shaped("beta", beta, run.n)
    state = run.start()
    yield state
    for t in tqdm(range(run.steps), desc="training", delay=10, disable=not progress, leave=False):
        state = run.step(t, state, beta)
        _converging(state, t)
        yield state


def trajectory(run: Run, beta: Tensor | None = None) -> Tensor:
    """The parameters w_0, …, w_T, shape (T + 1, p)."""
    return torch.stack([state[0] for state in states(run, beta)])


def retrain(
    run: Run,
    beta: Tensor,
    *,
    batches: Tensor | None = None,
    w0: Tensor | None = None,
    chunk: int = 64,
    progress: bool = True,
) -> Tensor:
    """π(β) = w_T for every row of beta, all rows at once: (m, n) → (m, p), or (n,) → (p,).

    batches: (m, T, b) and w0: (m, p) give each row its own batches or start; without them all share
    those of the run, and rows differ by β alone. Differentiable in beta. Raises ValueError if a row
    diverges. Equation eq-training-map.
    """
    if beta.ndim == 1:
        if batches is not None or w0 is not None:
            raise ValueError("beta: expected shape (m, n), a row for each of batches or w0")
        return retrain(run, beta[None], chunk=chunk, progress=progress)[0]
    m = len(shaped("beta", beta, "m", run.n))
    count("chunk", chunk)
    if w0 is not None:
        shaped("w0", w0, m, len(run.w0))
    if batches is not None:
        sized("batches", batches, m, run.steps, "b")
        for own in batches:
            _batches("batches", own, run.steps, run.objective.n)
    done = []
    for rows in torch.arange(m).split(chunk):
        state = vmap(run.start)(run.w0.expand(len(rows), -1) if w0 is None else w0[rows])
        bar = tqdm(range(run.steps), desc="retraining", delay=10, disable=not progress, leave=False)
        for t in bar:
            batch = run.batches[t] if batches is None else batches[rows, t]
            axes = (None, 0, 0, None if batches is None else 0)
            state = vmap(run.step, axes)(t, state, beta[rows], batch)
        _converging(state, run.steps - 1)
        done.append(state[:, 0])
    return torch.cat(done)


def _converging(state: Tensor, t: int) -> None:
    if not torch.isfinite(state).all():
        raise ValueError(f"rates: training diverged by step {t + 1}; take smaller ones")
