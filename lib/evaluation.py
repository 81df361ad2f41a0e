"""Chapter 5: does an attribution predict what retraining does?

A `Recipe` fixes training up to data weights β and a seed; `sweep` retrains on many of both; the
scores compare what influences predict, −Σ over what is taken away, with what came out.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import torch
from joblib import Parallel, delayed
from scipy.stats import rankdata
from sklearn.metrics import roc_auc_score
from torch import Tensor
from torch.func import vmap
from tqdm import tqdm

from lib._identity import digest
from lib._validate import count, finite, shaped, sized
from lib.influence import Solve
from lib.objective import Objective, Observable, gradients
from lib.replay import load, save
from lib.training import SGD, Optimizer, Run, epochs, retrain

# --- training as a map from β and a seed ---------------------------------------------------------


@dataclass(frozen=True)
class Recipe:
    """How a model is trained, but for the data weights and the seed of its start and its batches.

    initial: generator → w0, (p,).  batch: its size.  times: epochs.  schedule: number of steps →
    learning rates, (T,).
    """

    objective: Objective
    initial: Callable[[torch.Generator], Tensor]
    batch: int
    times: int
    schedule: Callable[[int], Tensor]
    optimizer: Optimizer = field(default_factory=SGD)

    def run(self, seed: int) -> Run:
        """Training on all of the data from a seed; ValueError unless `batch` divides n."""
        generator = torch.Generator().manual_seed(seed)
        w0 = self.initial(generator)
        batches = epochs(self.objective.n, self.batch, self.times, generator)
        rates = self.schedule(len(batches))
        return Run(self.objective, w0, self.optimizer, batches, rates)

    def reweighted(self, beta: Tensor, seed: int) -> Tensor:
        """The same run with other data weights, every row of beta: (m, n) → (m, p).

        The start, the batches and the number of steps are those of `run`: an example of weight zero
        keeps its place and pulls at nothing.
        """
        run = self.run(seed)
        return retrain(run, beta.to(run.w0.dtype), chunk=len(beta), progress=False)

    def anew(self, kept: Tensor, seed: int) -> Tensor:
        """Training on the examples of weight 1 alone, for every row of kept: (m, n) → (m, p).

        All rows share the start; the batches of a row hold kept examples only, so that fewer
        examples mean fewer steps. Raises ValueError unless all rows keep equally many and `batch`
        divides that number.
        """
        n = self.objective.n
        count("m", len(shaped("kept", kept, "m", n)))
        sizes = kept.sum(dim=1)
        if not (((kept == 0) | (kept == 1)).all() and (sizes == sizes[0]).all() and sizes[0] > 0):
            raise ValueError("kept: expected zeros and ones, equally many ones in every row")
        size = int(sizes[0])
        if size % self.batch:
            raise ValueError(f"kept: expected a multiple of batch = {self.batch} ones, got {size}")
        generator = torch.Generator().manual_seed(seed)
        w0 = self.initial(generator)
        order = torch.stack([torch.randperm(n, generator=generator) for _ in range(self.times)])
        arrivals = kept[:, order].bool()  # (m, times, n): in every epoch, who is there
        batches = order.expand(len(kept), -1, -1)[arrivals].view(len(kept), -1, self.batch)
        rates = self.schedule(batches.shape[1])
        # A run spreads the penalty over its n examples; here it is carried by those that are kept.
        objective = replace(self.objective, l2=self.objective.l2 * n / size)
        run = Run(objective, w0, self.optimizer, batches[0], rates)
        return retrain(run, kept.to(w0.dtype), batches=batches, chunk=len(kept), progress=False)


def random_subsets(n: int, size: int, many: int, rng: np.random.Generator) -> Tensor:
    """Data weights of `many` random subsets: `size` ones a row, the rest zeros; (many, n)."""
    count("size", size, most=count("n", n))
    beta = torch.zeros(count("many", many), n, dtype=torch.float64)
    for row in beta:
        row[rng.choice(n, size, replace=False)] = 1
    return beta


def removals(scores: Tensor, sizes: Sequence[int]) -> Tensor:
    """Data weights without the examples of highest score: one row a size, shape (sizes, n)."""
    shaped("scores", scores, "n")
    order = scores.argsort(descending=True, stable=True)
    beta = torch.ones(len(sizes), len(scores), dtype=torch.float64)
    for row, size in zip(beta, sizes, strict=True):
        row[order[: count("sizes", size, least=0, most=len(scores))]] = 0
    return beta


# --- the sweep -----------------------------------------------------------------------------------

Training = Callable[[Tensor, int], Tensor]
"""π with its seed: data weights (m, n) and a seed to parameters (m, p), row by row."""


def sweep(
    training: Training,
    phi: Observable,
    beta: Tensor,
    seeds: Sequence[int] = (0,),
    *,
    chunk: int = 64,
    folder: Path | str | None = None,
    progress: bool = True,
) -> Tensor:
    """φ(π(β)) for every seed and every row of beta (m, n); shape (seeds, m), or (seeds, m, k).

    `chunk` rows of one seed are a job, trained at once; joblib distributes the jobs, by default one
    after the other here: `joblib.parallel_config` says where else.  folder: results are kept there
    as they come, and looked up by a later call with equal arguments, if its blocks of `chunk` rows
    are the same, in any order. Raises ValueError if a training diverges, φ is not finite, or a seed
    is given twice.
    """
    finite("beta", beta)
    count("m", len(sized("beta", beta, "m", "n")))
    count("chunk", chunk)
    if len(set(seeds)) != len(seeds) or len(seeds) == 0:
        raise ValueError(f"seeds: expected different integers, at least one, got {list(seeds)}")
    if folder is not None:
        folder = Path(folder)
        folder.mkdir(parents=True, exist_ok=True)
        of_all = digest(training, phi)
    blocks = torch.arange(len(beta)).split(chunk)
    jobs = [(seed, rows) for seed in seeds for rows in blocks]
    files = [folder and folder / f"{digest(of_all, s, beta[rows])}.pt" for s, rows in jobs]
    found = {j: load(file) for j, file in enumerate(files) if file and file.exists()}
    todo = [j for j in range(len(jobs)) if j not in found]
    pool = Parallel(return_as="generator_unordered", batch_size=1)
    calls = (delayed(_job)(j, training, phi, beta[jobs[j][1]], jobs[j][0]) for j in todo)
    bar = tqdm(total=len(beta) * len(seeds), desc="models", delay=10, disable=not progress)
    with bar:
        bar.update(sum(len(jobs[j][1]) for j in found))
        for j, values in pool(calls):
            found[j] = finite("phi", torch.from_numpy(values))
            if folder is not None:
                save(files[j], found[j])
            bar.update(len(jobs[j][1]))
    values = torch.cat([found[j] for j in range(len(jobs))])
    return values.view(len(seeds), len(beta), *values.shape[1:])


def _job(j: int, training: Training, phi: Observable, beta: Tensor, seed: int):
    """One block of the sweep; numpy travels between processes by value, tensors would not."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)  # the jobs are what runs in parallel
    try:
        return j, vmap(phi)(training(beta, seed)).detach().numpy()
    finally:
        torch.set_num_threads(before)


# --- how well influences predict it --------------------------------------------------------------


@dataclass(frozen=True)
class Score:
    """A score and its standard error over other draws of the subsets and of the observables."""

    value: float
    error: float

    def __str__(self) -> str:
        return f"{self.value:.2f} ± {self.error:.2f}"


def predicted_effects(influences: Tensor, beta: Tensor) -> Tensor:
    """Σ_i (β_i − 1) ∂φ/∂β_i, what influences (n, k) say of each row of beta (m, n); (m, k).

    Equation eq-group-prediction.
    """
    shaped("influences", influences, "n", "k")
    shaped("beta", beta, "m", len(influences))
    return (beta - 1).to(influences.dtype) @ influences


def lds(
    predicted: Tensor,
    outcomes: Tensor,
    rng: np.random.Generator,
    *,
    ranks: bool = True,
    resamples: int = 200,
) -> Score:
    """The linear datamodeling score: the correlation over data weights of predicted effects (m, k)
    and outcomes (m, k), its mean over the k observables, with a bootstrap error.

    A constant added to an outcome plays no part.  ranks: Spearman's correlation, or Pearson's. The
    bootstrap draws rows and columns anew, as both stand for others. With rows that leave one
    example out, this is the leave-one-out correlation. Raises ValueError if a column is constant.
    Equation eq-lds; Park et al. (2023).
    """
    m, k = shaped("outcomes", outcomes, "m", "k").shape
    shaped("predicted", predicted, m, k)
    count("m", m, least=3)
    count("resamples", resamples, least=2)
    a, b = predicted.numpy().astype(float), outcomes.numpy().astype(float)
    for name, values in (("predicted", a), ("outcomes", b)):
        if (np.ptp(values, axis=0) == 0).any():
            raise ValueError(f"{name}: expected columns that are not constant")
    drawn = []
    while len(drawn) < resamples:
        rows, columns = rng.integers(m, size=m), rng.integers(k, size=k)
        each = _correlations(a[rows][:, columns], b[rows][:, columns], ranks)
        if not np.isnan(each).all():  # of few rows one may be drawn m times
            drawn.append(np.nanmean(each))
    return Score(_correlations(a, b, ranks).mean().item(), float(np.std(drawn, ddof=1)))


def _correlations(a: np.ndarray, b: np.ndarray, ranks: bool) -> np.ndarray:
    """Column by column, shape (k,); NaN where a resample is constant."""
    varied = (np.ptp(a, axis=0) > 0) & (np.ptp(b, axis=0) > 0)
    if ranks:
        a, b = rankdata(a, axis=0), rankdata(b, axis=0)
    a, b = a - a.mean(axis=0), b - b.mean(axis=0)
    sizes = np.sqrt((a * a).sum(axis=0) * (b * b).sum(axis=0))
    return np.divide((a * b).sum(axis=0), sizes, out=np.full(a.shape[1], np.nan), where=varied)


def reliability(outcomes: Tensor) -> Tensor:
    """How much of the spread of seed-averaged outcomes over data weights is not noise; (k,).

    outcomes: (seeds, m, k). 1 − (interaction of seeds and weights)/(spread of weights), by the
    two-way analysis of variance; 1 if all seeds agree up to a shift of their own, about 0 if data
    weights have no effect that seeds share (it may be negative then). The best possible correlation
    with such averages is its square root. Equation eq-reliability; Cronbach (1951).
    """
    seeds, m, _ = shaped("outcomes", outcomes, "seeds", "m", "k").shape
    count("seeds", seeds, least=2)
    count("m", m, least=2)
    weights = outcomes.mean(dim=0)
    rest = outcomes - weights - outcomes.mean(dim=1, keepdim=True) + outcomes.mean(dim=(0, 1))
    noise = (rest**2).sum(dim=(0, 1)) / ((seeds - 1) * (m - 1))
    spread = seeds * weights.var(dim=0)
    if (spread == 0).any():
        raise ValueError("outcomes: expected data weights to make a difference")
    return 1 - noise / spread


# --- mislabelled data ----------------------------------------------------------------------------


def self_influence(objective: Objective, w: Tensor, solve: Solve, *, chunk: int = 256) -> Tensor:
    """−g_iᵀ C⁻¹ g_i, the influence of z_i on its own loss, negative for a positive C; (n,).

    The further below zero, the more the model's answer on z_i is z_i's own doing.
    Equation eq-self-influence; Koh and Liang (2017).
    """
    slopes, chunk = gradients(objective, w), count("chunk", chunk)
    return torch.cat([-(part * solve(part)).sum(dim=1) for part in slopes.split(chunk)])


def detection(suspicion: Tensor, wrong: Tensor) -> float:
    """The chance that a wrong example looks more suspicious than a right one: the area under the
    receiver operating characteristic, from suspicions (n,) and truth values (n,)."""
    shaped("suspicion", suspicion, "n")
    if wrong.dtype != torch.bool or wrong.all() or not wrong.any():
        raise ValueError("wrong: expected truth values, of both kinds")
    sized("wrong", wrong, len(suspicion))
    return float(roc_auc_score(wrong.numpy(), suspicion.numpy()))


def found_by_inspection(suspicion: Tensor, wrong: Tensor) -> Tensor:
    """The share of wrong examples met when the k most suspicious are looked at, k = 0, …, n."""
    detection(suspicion, wrong)  # checks both
    met = wrong[suspicion.argsort(descending=True, stable=True)].cumsum(0)
    return torch.cat([met.new_zeros(1), met]) / wrong.sum()
