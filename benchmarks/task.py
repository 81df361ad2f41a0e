"""The task that every library is given: 1000 digits to train on, 200 to ask about.

A network 64-32-10 with tanh, trained by plain SGD; φ_j is the loss on test digit j. All scores in
this folder are ∂φ_j/∂β_i at β = 1, shape (n, k): the book's convention.
"""

from dataclasses import dataclass, replace
from pathlib import Path
from time import perf_counter, process_time

import numpy as np
import torch
from torch import Tensor, nn

from lib.bayesian import losses_at
from lib.data import digits
from lib.models import MLP
from lib.objective import LossesOn, Objective, losses_on
from lib.training import SGD, Run, constant, epochs, trajectory

HERE = Path(__file__).parent
CACHE = HERE / ".cache"

NETWORK = MLP((64, 32, 10))
TRAINING, TEST = 1000, 200
RATE, BATCH, EPOCHS = 0.1, 20, 15
DAMPING = 20.0
"""λ, on the scale of the summed loss; λ/n = 0.02 for a mean loss. H + λI is positive definite."""

SUBSETS, REMOVED = 60, 50
"""How many retrainings the LDS is measured on, and how many examples each goes without."""

CHECKPOINTS = 5
"""TracIn at checkpoints: the ends of every third epoch."""

TOLERANCE = 1e-4
"""Relative residual at which conjugate gradients stop."""


@dataclass(frozen=True)
class Sampling:
    """How the Bayesian influence function is sampled: `lib.bayesian` and `lib.sampling`'s names."""

    inverse_temperature: float = 1.0
    localisation: float = 100.0
    step: float = 2e-4
    chains: int = 4
    draws: int = 500
    batch: int = 100


BIF = Sampling()

SIGMA = torch.cat([torch.zeros(1), torch.logspace(-6, 1, 50)])
"""Eigenvalues of a mean Hessian, at which SOURCE's filters are compared."""


def clock() -> tuple[float, float]:
    """Seconds of processor time of this process, all its threads, and seconds by the clock."""
    return process_time(), perf_counter()


@dataclass(frozen=True)
class Answer:
    """For a method that answers for a few of the test digits only: those, and the seconds that all
    would take, as in `clock`."""

    value: Tensor
    seconds: tuple[float, float]


@dataclass(frozen=True)
class Task:
    """Data, network, the training run, and where it went.

    x: (n, 64), y: (n,), x_test: (k, 64), y_test: (k,).  path: (T + 1, p).  game: `game()`, where
    it is asked for; traces: `traces()`, likewise.
    """

    x: Tensor
    y: Tensor
    x_test: Tensor
    y_test: Tensor
    run: Run
    path: Tensor
    game: list[float] | None = None
    traces: tuple[Tensor, Tensor] | None = None

    @property
    def objective(self) -> Objective:
        """The losses of the training digits."""
        return self.run.objective

    @property
    def w(self) -> Tensor:
        """The trained parameters, (p,)."""
        return self.path[-1]

    @property
    def phi(self) -> LossesOn:
        """The loss of each test digit, (p,) → (k,)."""
        return losses_on(self.objective, self.x_test, self.y_test)

    @property
    def checkpoints(self) -> Tensor:
        """The parameters at the end of every third epoch, (5, p)."""
        every = self.run.steps // CHECKPOINTS
        return self.path[every::every]

    @property
    def effort(self) -> float:
        """The learning rates, summed, of the steps that one checkpoint stands for."""
        return RATE * self.run.steps / CHECKPOINTS

    def small(self) -> "Task":
        """A piece of it, to call a function once before its time is taken."""
        few = self.x[:40], self.y[:40]
        batches = torch.arange(40).view(2, 20).repeat(5, 1)
        run = Run(
            NETWORK.objective(*few), self.run.w0, SGD(), batches, constant(RATE, len(batches))
        )
        path = self.path[: len(batches) + 1]
        return replace(
            self,
            x=few[0],
            y=few[1],
            x_test=self.x_test[:20],
            y_test=self.y_test[:20],
            run=run,
            path=path,
        )

    def module(self, w: Tensor | None = None) -> nn.Sequential:
        """The same network for the other libraries, holding w."""
        inputs, hidden, outputs = NETWORK.sizes
        module = nn.Sequential(nn.Linear(inputs, hidden), nn.Tanh(), nn.Linear(hidden, outputs))
        module = module.to(self.x.dtype)
        module.load_state_dict(state(self.w if w is None else w))
        return module


def state(w: Tensor) -> dict[str, Tensor]:
    """w as the state of that module: our last column of a layer is its bias."""
    named, at = {}, 0
    for place, (rows, columns) in zip(("0", "2"), NETWORK.shapes, strict=True):
        layer = w[at : at + rows * columns].view(rows, columns)
        named[f"{place}.weight"] = layer[:, :-1].clone()
        named[f"{place}.bias"] = layer[:, -1].clone()
        at += rows * columns
    return named


def task(dtype: torch.dtype = torch.float32) -> Task:
    """The task in a precision; the trajectory is computed once, in double precision, and kept."""
    x, y = digits()
    order = np.random.default_rng(0).permutation(len(y))[: TRAINING + TEST]
    x, y = x[order] - 0.5, y[order]
    generator = torch.Generator().manual_seed(0)
    w0 = NETWORK.initial(generator)
    batches = epochs(TRAINING, BATCH, EPOCHS, generator)

    def run(to: torch.dtype) -> Run:
        objective = NETWORK.objective(x[:TRAINING].to(to), y[:TRAINING])
        return Run(objective, w0.to(to), SGD(), batches, constant(RATE, len(batches)))

    kept = CACHE / "trajectory.pt"
    if not kept.exists():
        CACHE.mkdir(exist_ok=True)
        torch.save(trajectory(run(torch.float64)), kept)
    path = torch.load(kept).to(dtype)
    test = slice(TRAINING, None)
    return Task(run(dtype).objective.x, y[:TRAINING], x[test].to(dtype), y[test], run(dtype), path)


# --- a small game, for the Shapley value ---------------------------------------------------------

PLAYERS = 10


def game() -> list[float]:
    """v(S) for every set S of ten training digits, at the place Σ 2^i: a list of 1024 numbers.

    v(S) is the share of the test digits whose nearest digit in S has the right label; v(∅) = 0.
    """
    given = task()
    distance = torch.cdist(given.x_test, given.x[:PLAYERS])
    right = given.y_test[:, None] == given.y[None, :PLAYERS]
    table = [0.0]
    for code in range(1, 2**PLAYERS):
        members = [i for i in range(PLAYERS) if code >> i & 1]
        nearest = distance[:, members].argmin(dim=1)
        table.append(right[:, members].gather(1, nearest[:, None]).double().mean().item())
    return table


# --- losses at many parameters, for covariances --------------------------------------------------


def traces(dtype: torch.dtype, many: int = 500) -> tuple[Tensor, Tensor]:
    """The training and the test losses at random points near w*: (many, n) and (many, k)."""
    given = task(torch.float64)
    generator = torch.Generator().manual_seed(2)
    noise = torch.randn(many, NETWORK.p, generator=generator, dtype=torch.float64)
    points = given.w + 0.03 * noise
    test = replace(given.objective, x=given.x_test, y=given.y_test)
    return losses_at(given.objective, points).to(dtype), losses_at(test, points).to(dtype)
