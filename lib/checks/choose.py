"""Exercise 05_choose: score a method fairly, and choose one for a budget and a question."""

import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache, partial

import numpy as np
import pandas as pd
import scipy.integrate
import scipy.stats
import sympy as sp
import torch

from lib.checks.engine import (
    WRONG,
    Choice,
    Formula,
    Function,
    Mistake,
    Number,
    Result,
    _Exercise,
    _is_empty,
    _kind,
)
from lib.comparison import ESTIMATORS, Task, Truth, compare
from lib.data import digits
from lib.evaluation import Recipe, random_subsets, sweep
from lib.models import MLP
from lib.random_problems import normal, regression
from lib.training import constant

# --- (a) the score, with ties --------------------------------------------------------------------


def _ties(rng: np.random.Generator) -> tuple:
    """Influences and outcomes in halves, so that both have ties, in no column of them alike.

    An odd number of queries, for one of which the influences have the order upside down.
    """
    while True:
        n, k, m = int(rng.integers(5, 8)), int(rng.choice([3, 5])), int(rng.integers(9, 13))
        influences = rng.integers(-3, 4, (n, k)) / 2
        beta = rng.choice([0.0, 1.0, 2.0], (m, n), p=[0.4, 0.35, 0.25])
        predicted = (beta - 1) @ influences
        sign = rng.permutation([-1] + [1] * (k - 1))
        outcomes = 4 + np.round(0.8 * sign * predicted + rng.normal(0, 1.2, (m, k)), 0) / 2
        tied = [
            all(1 < len(set(column)) < m for column in each.T) for each in (predicted, outcomes)
        ]
        if n == k or not all(tied) or (beta == 0).all(axis=1).any():
            continue
        if (_spearman(predicted.T, outcomes.T) < -0.2).sum() == 1:
            return tuple(map(torch.from_numpy, (influences, beta, outcomes)))


def _by_lists(influences, beta, outcomes):
    """Each sum written out, ranks by scipy, each correlation by Python's own statistics."""
    rows, found = beta.tolist(), []
    for of_query, seen in zip(influences.T.tolist(), outcomes.T.tolist(), strict=True):
        sums = [sum((b - 1) * v for b, v in zip(row, of_query, strict=True)) for row in rows]
        ranks = (scipy.stats.rankdata(v).tolist() for v in (sums, seen))
        found.append(statistics.correlation(*ranks))
    return statistics.fmean(found)


def _scored(weights=None, correlation=None, combine=np.mean, influences_as=None):
    """A mistake's score: other weights, another correlation, or another summary over queries."""

    def wrong(influences, beta, outcomes):
        influences, beta, y = influences.numpy(), beta.numpy(), outcomes.numpy()
        influences = influences if influences_as is None else influences_as(influences)
        predicted = (beta - 1 if weights is None else weights(beta)) @ influences
        return combine((correlation or _spearman)(predicted.T, y.T))

    return wrong


# Correlations row by row: of a and b (m,), or (rows, m).


def _cosine(a, b):
    size = np.sqrt((a * a).sum(-1) * (b * b).sum(-1))
    return (a * b).sum(-1) / np.where(size > 0, size, 1)


def _pearson(a, b):
    return _cosine(*(v - v.mean(-1, keepdims=True) for v in (a, b)))


def _spearman(a, b, method="average"):
    return _pearson(*(scipy.stats.rankdata(v, method, axis=-1) for v in (a, b)))


def _positions(a, b):
    return _pearson(*(np.argsort(v, axis=-1, kind="stable") for v in (a, b)))


def _without_ties(a, b):
    d, m = scipy.stats.rankdata(a, axis=-1) - scipy.stats.rankdata(b, axis=-1), a.shape[-1]
    return 1 - 6 * (d * d).sum(-1) / (m * (m**2 - 1))


def _kendall(a, b):
    """τ_b, from the signs of all pairs."""
    return _cosine(
        *(np.sign(v[..., :, None] - v[..., None, :]).reshape(*v.shape[:-1], -1) for v in (a, b))
    )


def _uncentred(a, b):
    return _cosine(*(scipy.stats.rankdata(v, axis=-1) for v in (a, b)))


def _summed_queries(influences, beta, outcomes):
    return _spearman(((beta - 1) @ influences).sum(1).numpy(), outcomes.sum(1).numpy())


def _all_at_once(influences, beta, outcomes):
    return _spearman(((beta - 1) @ influences).flatten().numpy(), outcomes.flatten().numpy())


def _across_queries(influences, beta, outcomes):
    predicted = ((beta - 1) @ influences).numpy()
    return _spearman(predicted, outcomes.numpy()).mean()


part_a = Function(
    "choose.part_a",
    "the linear datamodeling score",
    truth=_by_lists,
    cases=_ties,
    draws=4,
    mistakes=[
        Mistake(
            "sign",
            _scored(lambda beta: 1 - beta),
            "Sign flipped, of the predictions or of the correlation. The predicted change is "
            "Σ (β_i − 1) ∂φ/∂β_i: taking away is minus.",
        ),
        Mistake(
            "kept or not",
            _scored(lambda beta: (beta > 0) * 1.0),
            "Examples of weight 2 are treated as if they had weight 1. Their change is predicted "
            "too, by β_i − 1 = 1.",
        ),
        Mistake(
            "doubled only",
            _scored(lambda beta: (beta == 2) * 1.0),
            "Only what was doubled is summed. Examples of weight 0 count with −1.",
        ),
        Mistake(
            "changed or not",
            _scored(lambda beta: (beta != 1) * 1.0),
            "Doubling and leaving out are summed with one sign. The factor is β_i − 1.",
        ),
        Mistake(
            "left out or not, sign",
            _scored(lambda beta: (beta == 0) * 1.0),
            "Influence is for more weight: what is left out counts with −1, and what is doubled "
            "with +1.",
        ),
        Mistake(
            "means over what is kept",
            _scored(lambda beta: beta / beta.sum(axis=1, keepdims=True)),
            "The weights were divided by their sum. The losses are summed: the factor is β_i − 1.",
        ),
        Mistake(
            "ties in order",
            _scored(correlation=partial(_spearman, method="ordinal")),
            "Ties got ranks in the order in which they come. Equal values share the mean of their "
            "ranks.",
        ),
        Mistake(
            "lowest rank",
            _scored(correlation=partial(_spearman, method="min")),
            "Ties got the lowest of their ranks. They share the mean of them.",
        ),
        Mistake(
            "highest rank",
            _scored(correlation=partial(_spearman, method="max")),
            "Ties got the highest of their ranks. They share the mean of them.",
        ),
        Mistake(
            "dense ranks",
            _scored(correlation=partial(_spearman, method="dense")),
            "These ranks number the different values. Ranks count rows: two tied at the top are "
            "both 1.5.",
        ),
        Mistake(
            "positions",
            _scored(correlation=_positions),
            "`argsort` says where the smallest value is, not which rank the first value has. And "
            "mind ties.",
        ),
        Mistake(
            "not centred",
            _scored(correlation=_uncentred),
            "The ranks were not centred: a correlation is of deviations from the mean.",
        ),
        Mistake(
            "m − 1 over m",
            _scored(correlation=lambda a, b: _spearman(a, b) * a.shape[-1] / (a.shape[-1] - 1)),
            "Too large by m/(m − 1): the covariance was divided by m − 1, the variances by m.",
        ),
        Mistake(
            "formula without ties",
            _scored(correlation=_without_ties),
            "1 − 6Σd²/(m(m² − 1)) holds without ties only. Correlate the ranks.",
        ),
        Mistake(
            "no ranks",
            _scored(correlation=_pearson),
            "This is the correlation of the numbers, Pearson's. The score is that of their ranks.",
        ),
        Mistake(
            "Kendall",
            _scored(correlation=_kendall),
            "This is Kendall's τ, of pairs in order. The score has Spearman's ρ.",
        ),
        Mistake(
            "ranks of outcomes only",
            _scored(correlation=lambda a, b: _pearson(a, scipy.stats.rankdata(b, axis=-1))),
            "Only the outcomes are ranked. Rank the predictions too.",
        ),
        Mistake(
            "ranks of predictions only",
            _scored(correlation=lambda a, b: _pearson(scipy.stats.rankdata(a, axis=-1), b)),
            "Only the predictions are ranked. Rank the outcomes too.",
        ),
        Mistake(
            "all at once",
            _all_at_once,
            "All queries are ranked in one list: then it matters which query is hard. Score each "
            "query by itself.",
        ),
        Mistake(
            "queries summed",
            _summed_queries,
            "The queries were summed before they were ranked. Score each query, then average.",
        ),
        Mistake(
            "across queries",
            _across_queries,
            "This ranks the queries within each row of β. Rank the rows, for each query.",
        ),
        Mistake(
            "median",
            _scored(combine=np.median),
            "One query in the middle is taken. The score is the mean over queries.",
        ),
        Mistake(
            "sum",
            _scored(combine=np.sum),
            "This is the sum over queries. The score is their mean.",
        ),
        Mistake(
            "sizes of influences",
            _scored(influences_as=np.abs),
            "The influences' signs are lost: some examples raise the loss, others lower it.",
        ),
        Mistake(
            "sizes of correlations",
            _scored(combine=lambda each: np.mean(np.square(each))),
            "These are squares of correlations. A method that has the order backwards must score "
            "below zero.",
        ),
        Mistake(
            "absolute correlations",
            _scored(combine=lambda each: np.mean(np.abs(each))),
            "The correlations' signs are lost: to have the order backwards must count below zero.",
        ),
    ],
    hints=[
        "Three steps: what is predicted for every row of β, ranks within a column, correlation.",
        "Predicted: (beta − 1) @ influences, (m, k). Tied values share the mean of their ranks.",
        "The rank of v is (how many are below) + (how many are equal, itself included, + 1)/2.",
    ],
)

# --- (b) the sign of a leave-one-out correlation -------------------------------------------------


@cache
def leaving_out() -> dict[str, float]:
    """Least squares, a test loss: correlations over the examples, left out one at a time, of the
    change of the loss with the influences, and with what they predict."""
    rng = np.random.default_rng(2)
    while len((c := regression(rng)).x) < 12:
        pass
    x, y = c.x.numpy(), c.y.numpy()
    asked, answer = rng.standard_normal(x.shape[1]), 1.0

    def loss(weights):
        root = np.sqrt(weights)
        w = np.linalg.lstsq(root[:, None] * x, root * y, rcond=None)[0]
        return (answer - asked @ w) ** 2 / 2

    one = np.ones(len(x))
    bumps = np.eye(len(x))
    influences = [(loss(one + 1e-4 * e) - loss(one - 1e-4 * e)) / 2e-4 for e in bumps]
    changes = [loss(one - e) - loss(one) for e in bumps]
    return {
        "with the influences": float(scipy.stats.spearmanr(influences, changes).statistic),
        "with the predictions": float(
            scipy.stats.spearmanr(-np.array(influences), changes).statistic
        ),
    }


part_b = Choice(
    "choose.part_b",
    "what a correlation of −0.93 with leave-one-out changes says",
    truth=lambda: "good" if leaving_out()["with the influences"] < -0.7 else "backwards",
    wrong={
        "backwards": "What does β_i − 1 come to when z_i is left out? Influence is the derivative "
        "for *more* weight.",
        "noise": "With sixty examples a correlation of this size is no accident, of either sign.",
        "nonlinear": "That would weaken the correlation. It cannot turn its sign: what does "
        "leaving out do to β_i?",
    },
    hints=[
        "The change of the loss is about (β_i − 1) times the influence. How large is β_i − 1?",
        "Leave-one-out ≈ minus the influence.",
    ],
)

# --- (c) how many seeds --------------------------------------------------------------------------

_alpha, _s, _c = sp.symbols("alpha s c", positive=True)


def _seeds_for_a_ceiling() -> sp.Expr:
    """From the variances: effects of variance 1, and noise of variance ν a seed."""
    nu, t = sp.symbols("nu t", positive=True)
    [noise] = sp.solve(sp.Eq(_alpha * (1 + nu / _s), 1), nu)
    [seeds] = sp.solve(sp.Eq(_c**2 * (1 + noise / t), 1), t)
    return sp.factor(seeds)


part_c = Formula(
    "choose.part_c",
    "the number of seeds for a ceiling of c",
    truth=_seeds_for_a_ceiling(),
    domain={"alpha": (0.2, 0.9), "s": (2, 6), "c": (0.3, 0.95)},
    mistakes=[
        Mistake(
            "c not squared",
            _s * _c * (1 - _alpha) / (_alpha * (1 - _c)),
            "This gives a reliability of c. The ceiling is its root, so the reliability is c².",
        ),
        Mistake(
            "α squared",
            _s * _c**2 * (1 - _alpha**2) / (_alpha**2 * (1 - _c**2)),
            "α is a reliability already, not a ceiling: do not square it.",
        ),
        Mistake(
            "roots",
            _s * sp.sqrt(_c) * (1 - _alpha) / (_alpha * (1 - sp.sqrt(_c))),
            "Root in place of square: a ceiling of c needs a reliability of c².",
        ),
        Mistake(
            "no s",
            _c**2 * (1 - _alpha) / (_alpha * (1 - _c**2)),
            "This is by how many times more seeds. α is that of an average over s seeds already.",
        ),
        Mistake(
            "upside down",
            _s * _alpha * (1 - _c**2) / (_c**2 * (1 - _alpha)),
            "Upside down: a higher ceiling takes more seeds, a higher α fewer.",
        ),
        Mistake(
            "in proportion",
            _s * _c**2 / _alpha,
            "Reliability does not grow in proportion to the seeds: it can never pass 1.",
        ),
        Mistake(
            "ceilings in proportion",
            _s * _c / sp.sqrt(_alpha),
            "Ceilings do not grow in proportion to the seeds: they can never pass 1.",
        ),
        Mistake(
            "noise only",
            _s * (1 - _alpha) / (1 - _c**2),
            "1 − α is the noise in the whole. It is noise over *signal* that falls like 1/s: "
            "(1 − α)/α.",
        ),
        Mistake(
            "more seeds",
            _s * _c**2 * (1 - _alpha) / (_alpha * (1 - _c**2)) - _s,
            "This is how many seeds to add. The whole number is asked.",
        ),
        Mistake(
            "no c above",
            _s * (1 - _alpha) / (_alpha * (1 - _c**2)),
            "c² is missing above: from c² = τ/(τ + ν/t) the ratio is c²/(1 − c²).",
        ),
        Mistake(
            "ceilings for reliabilities",
            _s * _c * (1 - sp.sqrt(_alpha)) / (sp.sqrt(_alpha) * (1 - _c)),
            "It is the reliabilities, α and c², that have odds in proportion to the seeds, not "
            "√α and c.",
        ),
        Mistake(
            "√α for α",
            _s * _c**2 * (1 - sp.sqrt(_alpha)) / (sp.sqrt(_alpha) * (1 - _c**2)),
            "√α is the ceiling now. The reliability now is α itself.",
        ),
        Mistake(
            "noise for odds",
            _s * _c**2 * (1 - _alpha) / (1 - _c**2),
            "1 − α is the noise in the whole. Noise over signal is (1 − α)/α.",
        ),
        Mistake(
            "no 1 − α",
            _s * _c**2 / (_alpha * (1 - _c**2)),
            "1 − α is missing: without noise, α = 1, no seeds are needed.",
        ),
        Mistake(
            "the reliability",
            _s * _alpha / (1 + (_s - 1) * _alpha),
            "This is the reliability of s such averages together. Solve it for the number.",
        ),
    ],
    hints=[
        "Let effects have variance τ and a seed's noise ν. What is the reliability of s seeds?",
        "α = τ/(τ + ν/s), so α/(1 − α) = sτ/ν: it is proportional to the number of seeds.",
        "The ceiling c is the root of a reliability: c²/(1 − c²) for the number wanted.",
    ],
)

# --- (d) what the noise took away ----------------------------------------------------------------


def _noisy_outcomes(rng: np.random.Generator) -> tuple:
    """Effects of the rows of β, noise, and a shift of every seed's own, for queries of unequal
    noise; by chance one correlation is above its ceiling."""
    while True:
        seeds, m, k = int(rng.integers(3, 6)), int(rng.integers(9, 14)), int(rng.integers(2, 5))
        noise = normal(rng, seeds, m, k) * torch.from_numpy(rng.uniform(0.4, 1.5, k))
        outcomes = normal(rng, m, k) + noise + 0.6 * normal(rng, seeds, 1, k)
        alpha = _cronbach(outcomes.numpy())
        # Also with the shifts for noise, wrongly, every α has a root.
        shifted = _alphas(outcomes, seed_means=False)
        if k < seeds and 0.3 < alpha.min() < 0.75 and np.ptp(alpha) > 0.05 < shifted.min():
            share = rng.uniform(0.3, 0.95, k)
            share[alpha.argmin()] = rng.uniform(1.05, 1.13)
            return torch.from_numpy(share * np.sqrt(alpha)), outcomes


def _cronbach(outcomes):
    """By Cronbach's formula, which knows sums and no analysis of variance; (k,)."""
    seeds = len(outcomes)
    parts, whole = outcomes.var(axis=1, ddof=1).sum(0), outcomes.sum(0).var(axis=0, ddof=1)
    return seeds / (seeds - 1) * (1 - parts / whole)


def _alphas(
    outcomes,
    seed_means=True,
    whole=True,
    free=None,
    spread_ddof=1,
    of_one=False,
    pooled=False,
    grand=True,
):
    """Reliabilities by the analysis of variance, with some step of it done wrong."""
    y = outcomes.numpy()
    seeds, m, _ = y.shape
    rest = y - y.mean(0)
    if seed_means:
        rest = rest - (rest if grand else y).mean(1, keepdims=True)
    right = (seeds - 1) * ((m - 1) if seed_means else m)
    noise = (rest**2).sum((0, 1)) / (free(seeds, m) if free else right)
    spread = y.mean(0).var(0, ddof=spread_ddof)
    if pooled:
        noise, spread = noise.sum(), spread.sum()
    alpha = 1 - noise / (spread * (seeds if whole else 1))
    return alpha / (alpha + seeds * (1 - alpha)) if of_one else alpha


def _corrected(correlations, outcomes):
    """The truth: the mean over queries of r_q/√α_q."""
    return np.mean(correlations.numpy() / np.sqrt(_cronbach(outcomes.numpy())))


def _divided(**how):
    def wrong(correlations, outcomes):
        alpha = np.maximum(_alphas(outcomes, **how), 1e-3)
        return np.mean(correlations.numpy() / np.sqrt(alpha))

    return wrong


def _with_alpha(combine):
    return lambda correlations, outcomes: combine(correlations.numpy(), _alphas(outcomes))


def _between_seeds(outcomes):
    """The mean correlation of two seeds, (k,)."""
    each = []
    for q in range(outcomes.shape[2]):
        between = np.corrcoef(outcomes[:, :, q].numpy())
        each.append(between[~np.eye(len(between), dtype=bool)].mean())
    return np.maximum(each, 1e-3)


def _agreement(correlations, outcomes):
    return np.mean(correlations.numpy() / np.sqrt(_between_seeds(outcomes)))


def _standardised(correlations, outcomes):
    seeds, one = len(outcomes), _between_seeds(outcomes)
    return np.mean(correlations.numpy() / np.sqrt(seeds * one / (1 + (seeds - 1) * one)))


def _exchanged(correlations, outcomes):
    return _divided()(correlations, outcomes.transpose(0, 1))


def _share_of_all(correlations, outcomes):
    y = outcomes.numpy()
    share = y.mean(0).var(0, ddof=1) / y.reshape(-1, y.shape[2]).var(0, ddof=1)
    return np.mean(correlations.numpy() / np.sqrt(share))


part_d = Function(
    "choose.part_d",
    "the score, corrected for the noise of the outcomes",
    truth=_corrected,
    cases=_noisy_outcomes,
    n=lambda args: args[1].shape[1],
    mistakes=[
        Mistake(
            "not corrected",
            _with_alpha(lambda r, alpha: r.mean()),
            "This is the score itself: it is not divided by √α_q, or your α_q is 1 and the "
            "noise in the outcomes 0.",
        ),
        Mistake(
            "no root",
            _with_alpha(lambda r, alpha: (r / alpha).mean()),
            "Divided by α, not by √α: only one side of the correlation is noisy.",
        ),
        Mistake(
            "multiplied",
            _with_alpha(lambda r, alpha: (r * np.sqrt(alpha)).mean()),
            "Multiplied: this takes the noise's share away a second time. Divide by √α_q.",
        ),
        Mistake(
            "multiplied by α",
            _with_alpha(lambda r, alpha: (r * alpha).mean()),
            "Multiplied by α: this takes more away. What the noise took is given back by dividing.",
        ),
        Mistake(
            "mean α",
            _with_alpha(lambda r, alpha: r.mean() / np.sqrt(alpha.mean())),
            "The mean α was used for all. Each query has noise of its own: correct, then average.",
        ),
        Mistake(
            "mean ceiling",
            _with_alpha(lambda r, alpha: r.mean() / np.sqrt(alpha).mean()),
            "This divides a mean by a mean. Correct each query, then average.",
        ),
        Mistake(
            "one α",
            _divided(pooled=True),
            "One α from all queries' sums of squares: the noisy ones decide it. Each query has "
            "its own.",
        ),
        Mistake(
            "seed means",
            _divided(seed_means=False),
            "The seeds' own shifts were counted as noise. They move all rows alike, and no "
            "correlation.",
        ),
        Mistake(
            "noise of one seed",
            _divided(whole=False),
            "The noise of one seed is compared with the spread of the mean. It must be divided "
            "by the seeds.",
        ),
        Mistake(
            "one seed's α",
            _divided(of_one=True),
            "This is the reliability of a single seed. The correlations are with averages.",
        ),
        Mistake(
            "degrees of freedom",
            _divided(free=lambda seeds, m: seeds * m),
            "The noise's mean square is over (seeds − 1)(m − 1), not over seeds × m.",
        ),
        Mistake(
            "degrees of freedom of the seeds",
            _divided(free=lambda seeds, m: seeds * (m - 1)),
            "Mean squares are over (seeds − 1)(m − 1) and over m − 1: a degree of freedom of the "
            "seeds is missing.",
        ),
        Mistake(
            "degrees of freedom of the rows",
            _divided(free=lambda seeds, m: (seeds - 1) * m),
            "The noise's mean square is over (seeds − 1)(m − 1), not over (seeds − 1) × m.",
        ),
        Mistake(
            "degrees of freedom of all",
            _divided(free=lambda seeds, m: seeds * m - 1),
            "The noise's mean square is over (seeds − 1)(m − 1): two sets of means are gone.",
        ),
        Mistake(
            "spread over m",
            _divided(spread_ddof=0),
            "The spread of the row means is over m − 1. Does your library's variance divide by m?",
        ),
        Mistake(
            "seed means left in",
            _divided(seed_means=False, free=lambda seeds, m: (seeds - 1) * (m - 1)),
            "The seeds' own shifts were counted as noise: take away each seed's mean as well.",
        ),
        Mistake(
            "grand mean",
            _divided(grand=False),
            "The grand mean was taken away twice, with the rows' and with the seeds' means. Add "
            "it once.",
        ),
        Mistake(
            "axes exchanged",
            _exchanged,
            "Seeds and rows are exchanged: this is how well the seeds are told apart, over the "
            "rows.",
        ),
        Mistake(
            "share of the variance",
            _share_of_all,
            "Spread of the means over that of all values: seeds' shifts and single seeds' noise "
            "are in it.",
        ),
        Mistake(
            "standardised",
            _standardised,
            "Mean correlation of two seeds, by Spearman and Brown: α takes the variances as they "
            "are.",
        ),
        Mistake(
            "cut at 1",
            _with_alpha(lambda r, alpha: np.minimum(r / np.sqrt(alpha), 1).mean()),
            "A corrected correlation was cut at 1. It may come out above, by chance: cutting "
            "shifts the mean.",
        ),
        Mistake(
            "agreement of two seeds",
            _agreement,
            "The mean correlation of two seeds is about one seed's reliability. A mean has more.",
        ),
        Mistake(
            "what is left",
            _with_alpha(lambda r, alpha: (r / np.sqrt(1 - alpha)).mean()),
            "√(1 − α) is the noise's share. Divide by that of the effects, √α.",
        ),
        Mistake(
            "sum",
            _with_alpha(lambda r, alpha: (r / np.sqrt(alpha)).sum()),
            "This is the sum over queries. Their mean is asked.",
        ),
    ],
    hints=[
        "What is the best correlation that a perfect method could have with query q's outcomes?",
        "√α_q. So divide each correlation by that of its own query, and average last.",
        "α = 1 − MS/(seeds · Var of row means), MS the square of what two means leave, over "
        "(seeds − 1)(m − 1).",
    ],
)

# --- (e) two methods on the same sets ------------------------------------------------------------


def _two_methods(rng: np.random.Generator) -> tuple:
    """Two predictions that share a good deal of their error, and rows drawn with replacement.

    The second one is better, so that the size of the difference is not the difference.
    """
    while True:
        m, times = int(rng.integers(11, 16)), int(rng.integers(20, 31))
        outcomes, shared = rng.standard_normal(m), rng.standard_normal(m)
        first = 0.7 * outcomes + shared + 0.6 * rng.standard_normal(m)
        second = outcomes + shared + 0.4 * rng.standard_normal(m)
        if _pearson(second, outcomes) - _pearson(first, outcomes) > 0.02:
            break
    rows = rng.integers(0, m, (times, m))
    return *map(torch.from_numpy, (first, second, outcomes, rows)), float(rng.uniform(1.5, 2.5))


def _resampled(first, second, outcomes, rows, width):
    """One resample after the other, by Python's own statistics."""

    def gap(drawn):
        a, b, y = ([v[j].item() for j in drawn] for v in (first, second, outcomes))
        return statistics.correlation(a, y) - statistics.correlation(b, y)

    error = statistics.stdev(map(gap, rows.tolist()))
    middle = gap(range(len(outcomes)))
    return [middle - width * error, middle + width * error]


def _interval(error=None, middle=None, correlation=None, ends=(-1, 1), times=None):
    """A mistake's interval, from the two methods' correlations in every resample."""
    score = correlation or _pearson

    def wrong(first, second, outcomes, rows, width):
        a, b, y = (v.numpy() for v in (first, second, outcomes))
        r = rows.numpy()
        each = [score(v[r], y[r]) for v in (a, b)]
        gap = score(a, y) - score(b, y) if middle is None else middle(a, b, y, each)
        size = np.std(each[0] - each[1], ddof=1) if error is None else error(a, b, y, r, each)
        return [gap + end * (width if times is None else times) * size for end in ends]

    return wrong


def _sd(values):
    return np.std(values, ddof=1)


def _fixed_outcomes(a, b, y, r, each):
    return _sd(_pearson(a[r], y[None]) - _pearson(b[r], y[None]))


def _own_rows(a, b, y, r, each):
    other = np.roll(r, 1, axis=0)
    return _sd(_pearson(a[r], y[r]) - _pearson(b[other], y[other]))


def _centre_and_half(*case):
    low, high = _interval()(*case)
    return [(low + high) / 2, (high - low) / 2]


def _percentiles(first, second, outcomes, rows, width):
    a, b, y, r = (v.numpy() for v in (first, second, outcomes, rows))
    gaps = _pearson(a[r], y[r]) - _pearson(b[r], y[r])
    return np.quantile(gaps, scipy.stats.norm.cdf([-width, width]))


part_e = Function(
    "choose.part_e",
    "the interval for the difference of two methods' scores",
    truth=_resampled,
    cases=_two_methods,
    draws=4,
    mistakes=[
        Mistake(
            "not paired",
            _interval(lambda a, b, y, r, each: np.hypot(_sd(each[0]), _sd(each[1]))),
            "√(e₁² + e₂²) is for methods tried on different sets. On the same sets their errors "
            "go together.",
        ),
        Mistake(
            "errors added",
            _interval(lambda a, b, y, r, each: _sd(each[0]) + _sd(each[1])),
            "The two errors were added. Take the difference in each resample, then its spread.",
        ),
        Mistake(
            "errors subtracted",
            _interval(lambda a, b, y, r, each: abs(_sd(each[0]) - _sd(each[1]))),
            "A difference of errors is not the error of the difference: first subtract, then "
            "take the spread.",
        ),
        Mistake(
            "rows of its own",
            _interval(_own_rows),
            "The second method has other resamples than the first: that undoes the pairing.",
        ),
        Mistake(
            "outcomes not resampled",
            _interval(_fixed_outcomes),
            "The outcomes stayed in place while the predictions were resampled: they belong "
            "together.",
        ),
        Mistake(
            "ddof",
            _interval(lambda a, b, y, r, each: np.std(each[0] - each[1])),
            "Divided by the number of resamples. Its spread about its own mean has one less.",
        ),
        Mistake(
            "error of the mean",
            _interval(lambda a, b, y, r, each: _sd(each[0] - each[1]) / np.sqrt(len(r))),
            "Divided by the root of the number of resamples: more resamples do not make the "
            "score more certain.",
        ),
        Mistake(
            "over the sets",
            _interval(lambda a, b, y, r, each: _sd(each[0] - each[1]) / np.sqrt(len(y))),
            "Divided by √m. A resample has m rows already: its spread is the error.",
        ),
        Mistake(
            "variance",
            _interval(lambda a, b, y, r, each: _sd(each[0] - each[1]) ** 2),
            "The variance is in the place of the error: take its root.",
        ),
        Mistake(
            "first method's error",
            _interval(lambda a, b, y, r, each: _sd(each[0])),
            "This is the error of the first method's score, not of the difference.",
        ),
        Mistake(
            "second method's error",
            _interval(lambda a, b, y, r, each: _sd(each[1])),
            "This is the error of the second method's score, not of the difference.",
        ),
        Mistake(
            "centre of the resamples",
            _interval(middle=lambda a, b, y, each: (each[0] - each[1]).mean()),
            "Right width; but the centre is the difference on all rows, not the resamples' mean.",
        ),
        Mistake(
            "centre at zero",
            _interval(middle=lambda a, b, y, each: 0.0),
            "Right width, centred at zero. The centre is the difference of the two scores.",
        ),
        Mistake(
            "second minus first",
            _interval(middle=lambda a, b, y, each: _pearson(b, y) - _pearson(a, y)),
            "Right width, wrong sign: the first method's score minus the second's, and a "
            "correlation is positive where both rise.",
        ),
        Mistake(
            "no width",
            _interval(times=1.0),
            "`width` is used nowhere: the ends are `width` errors from the centre.",
        ),
        Mistake(
            "upper end first",
            _interval(ends=(1, -1)),
            "The ends are exchanged: the lower one comes first.",
        ),
        Mistake(
            "centre and half width",
            _centre_and_half,
            "This is the centre and the half width. Return the two ends.",
        ),
        Mistake(
            "percentiles",
            _percentiles,
            "These are percentiles of the resampled differences. The centre plus and minus "
            "`width` errors is asked.",
        ),
        Mistake(
            "ranks",
            _interval(correlation=_spearman),
            "This is the correlation of ranks. The score here is Pearson's.",
        ),
        Mistake(
            "squared correlations",
            _interval(correlation=lambda a, b: _pearson(a, b) ** 2),
            "The correlations were squared. The score is the correlation itself.",
        ),
        Mistake(
            "not centred",
            _interval(correlation=_cosine),
            "This is a cosine: Pearson's correlation is of deviations from the mean.",
        ),
        Mistake(
            "about the difference on all rows",
            _interval(
                lambda a, b, y, r, each: np.sqrt(
                    np.mean((each[0] - each[1] - _pearson(a, y) + _pearson(b, y)) ** 2)
                )
            ),
            "The spread was taken about the difference on all rows. Take it about the resamples' "
            "own mean.",
        ),
        Mistake(
            "not paired, ddof",
            _interval(lambda a, b, y, r, each: np.hypot(np.std(each[0]), np.std(each[1]))),
            "√(e₁² + e₂²) is for methods tried on different sets. On the same sets their errors "
            "go together.",
        ),
        Mistake(
            "centre of the resamples, ddof",
            _interval(
                lambda a, b, y, r, each: np.std(each[0] - each[1]),
                lambda a, b, y, each: (each[0] - each[1]).mean(),
            ),
            "The centre is the difference on all rows, and the spread is over R − 1, not R.",
        ),
        Mistake(
            "predictions not resampled",
            _interval(
                lambda a, b, y, r, each: _sd(_pearson(a[None], y[r]) - _pearson(b[None], y[r]))
            ),
            "The predictions stayed in place while the outcomes were resampled: they belong "
            "together.",
        ),
        Mistake(
            "between the methods",
            _interval(lambda a, b, y, r, each: _sd(_pearson(a[r], b[r]))),
            "This is about the correlation of the two methods with each other.",
        ),
    ],
    hints=[
        "The two scores rise and fall together: what is to be resampled is their difference.",
        "For every row of `rows`: take these entries of all three, two correlations, subtract.",
        "Centre: the difference on all rows. Half width: `width` × standard deviation of the "
        "differences (÷ R − 1).",
    ],
)

# --- (f) a damping from a recipe -----------------------------------------------------------------


def _recipe(rng: np.random.Generator) -> tuple:
    batch, per_epoch = int(rng.integers(3, 9)), int(rng.integers(4, 9))
    epochs, peak = int(rng.integers(3, 7)), float(rng.uniform(0.1, 0.6))
    steps = per_epoch * epochs
    warmup = int(rng.integers(2, steps // 3))
    return batch * per_epoch, batch, epochs, peak, float(peak * rng.uniform(0.05, 0.3)), warmup


def _closed_form(n, batch, epochs, peak, last, warmup):
    """Both sums in closed form: 1 + … + k, and cosines at equal steps, which sum to 1."""
    steps = epochs * n // batch
    rest = steps - warmup
    effort = peak * (warmup + 1) / 2 + rest * last + (peak - last) * (rest + 1) / 2
    return n / effort


def _rates(steps, peak, last, warmup, start=1, ends=0):
    """The schedule; `start` and `ends` shift where its two parts begin and end."""
    t = np.arange(steps)
    phase = np.pi * (t - warmup) / max(steps - warmup - ends, 1)
    falling = last + (peak - last) * (1 + np.cos(phase)) / 2
    return np.where(t < warmup, peak * (t + start) / max(warmup, 1), falling)


def _damped_by(combine):
    """A mistake's λ, from the recipe and its number of steps."""

    def wrong(n, batch, epochs, peak, last, warmup):
        return combine(n, batch, epochs, peak, last, warmup, epochs * n // batch)

    return wrong


part_f = Function(
    "choose.part_f",
    "the damping that the recipe implies",
    truth=_closed_form,
    cases=_recipe,
    n=lambda args: args[0],
    mistakes=[
        Mistake(
            "upside down",
            _damped_by(lambda n, b, e, p, la, w, t: _rates(t, p, la, w).sum() / n),
            "Upside down: longer training damps less.",
        ),
        Mistake(
            "no n",
            _damped_by(lambda n, b, e, p, la, w, t: 1 / _rates(t, p, la, w).sum()),
            "This is for the mean Hessian. On the scale of the sum it is n times that.",
        ),
        Mistake(
            "mean rate",
            _damped_by(lambda n, b, e, p, la, w, t: n / _rates(t, p, la, w).mean()),
            "The mean rate is for a single step. η̄T is the sum over all steps.",
        ),
        Mistake(
            "peak all along",
            _damped_by(lambda n, b, e, p, la, w, t: n / (p * t)),
            "The rate is at its peak for one or two steps only: sum what was used.",
        ),
        Mistake(
            "epochs for steps",
            _damped_by(
                lambda n, b, e, p, la, w, t: n / (_rates(t, p, la, w).mean() * e),
            ),
            "This counts epochs. The sum is over steps, n/b of them in each epoch.",
        ),
        Mistake(
            "steps of one example",
            _damped_by(lambda n, b, e, p, la, w, t: n / _rates(e * n, p, la, w).sum()),
            "A step takes b examples, so an epoch has n/b steps, not n.",
        ),
        Mistake(
            "divided by b",
            _damped_by(lambda n, b, e, p, la, w, t: n / (b * _rates(t, p, la, w).sum())),
            "A step takes the *mean* over the batch: b has its effect in the number of steps only.",
        ),
        Mistake(
            "multiplied by b",
            _damped_by(lambda n, b, e, p, la, w, t: n * b / _rates(t, p, la, w).sum()),
            "b is once too many: a step takes the mean over the batch, and η̄T adds rates.",
        ),
        Mistake(
            "b for n",
            _damped_by(lambda n, b, e, p, la, w, t: b / _rates(t, p, la, w).sum()),
            "b for n: each example is in a batch b/n of the time, at 1/b of the step. That is 1/n.",
        ),
        Mistake(
            "no warm-up",
            _damped_by(lambda n, b, e, p, la, w, t: n / _rates(t, p, la, 0).sum()),
            "This is a cosine from the first step on. The rate climbs during the warm-up.",
        ),
        Mistake(
            "after the warm-up",
            _damped_by(lambda n, b, e, p, la, w, t: n / _rates(t, p, la, w)[w:].sum()),
            "The steps of the warm-up are not in the sum. They trained the model too.",
        ),
        Mistake(
            "warm-up on top",
            _damped_by(lambda n, b, e, p, la, w, t: n / _rates(t + w, p, la, w).sum()),
            "The warm-up was added to the run. It is the first part of its T steps.",
        ),
        Mistake(
            "flat warm-up",
            _damped_by(
                lambda n, b, e, p, la, w, t: n / (p * w + _rates(t, p, la, w)[w:].sum()),
            ),
            "The warm-up is at the peak all along. It climbs, in equal steps from peak/warmup.",
        ),
        Mistake(
            "warm-up from zero",
            _damped_by(lambda n, b, e, p, la, w, t: n / _rates(t, p, la, w, start=0).sum()),
            "Here the warm-up starts at rate 0. Step t has peak·(t + 1)/warmup.",
        ),
        Mistake(
            "ends early",
            _damped_by(lambda n, b, e, p, la, w, t: n / _rates(t, p, la, w, ends=1).sum()),
            "(peak − last)/2 is missing in the sum of the rates. They fall once, from the peak at "
            "t = warmup towards `last`, which they would reach at t = T, after the last step.",
        ),
        Mistake(
            "cosine to zero",
            _damped_by(lambda n, b, e, p, la, w, t: n / _rates(t, p, 0.0, w).sum()),
            "The cosine falls to zero here. It falls to `last`.",
        ),
        Mistake(
            "last added",
            _damped_by(
                lambda n, b, e, p, la, w, t: n / (_rates(t, p, 0.0, w).sum() + la * (t - w))
            ),
            "`last` was added on top, so that the rate jumps after the warm-up. The cosine spans "
            "peak − last.",
        ),
        Mistake(
            "warm-up up to the peak",
            _damped_by(
                lambda n, b, e, p, la, w, t: (
                    n / (_rates(t, p, la, w)[w:].sum() + p * w / 2)  # (t + 1)/(warmup + 1)
                )
            ),
            "The warm-up is over warmup + 1, as `lib.training.cosine` has it. Here step t has "
            "peak·(t + 1)/warmup.",
        ),
        Mistake(
            "warm-up too long",
            _damped_by(
                lambda n, b, e, p, la, w, t: n / (_rates(t, p, la, w).sum() + p * (w + 1) / w - p)
            ),
            "Step t = warmup is the first of the cosine, at the peak. The warm-up is for "
            "t < warmup.",
        ),
        Mistake(
            "cosine over T",
            _damped_by(
                lambda n, b, e, p, la, w, t: (
                    n / (_rates(t, p, la, w)[:w].sum() + _rates(t, p, la, 0)[: t - w].sum())
                )
            ),
            "The cosine is stretched over T steps. It falls over the T − warmup that are left.",
        ),
        Mistake(
            "cosine from the start",
            _damped_by(
                lambda n, b, e, p, la, w, t: (
                    n / (_rates(t, p, la, w)[:w].sum() + _rates(t, p, la, 0)[w:].sum())
                )
            ),
            "The cosine is under way when the warm-up ends. It starts then, at the peak: "
            "t − warmup.",
        ),
        Mistake(
            "a step ahead",
            _damped_by(lambda n, b, e, p, la, w, t: n / (_rates(t, p, la, w).sum() - p + la)),
            "peak − last is missing in the sum of the rates: at t = warmup the rate is the "
            "peak. Is the cosine a step ahead, or upside down?",
        ),
        Mistake(
            "step T",
            _damped_by(lambda n, b, e, p, la, w, t: n / (_rates(t, p, la, w).sum() + la)),
            "A rate for t = T is in the sum. The steps are t = 0, …, T − 1.",
        ),
        Mistake(
            "without the last step",
            _damped_by(lambda n, b, e, p, la, w, t: n / _rates(t, p, la, w)[:-1].sum()),
            "The last step is not in the sum. The steps are t = 0, …, T − 1.",
        ),
        Mistake(
            "no ½",
            _damped_by(
                lambda n, b, e, p, la, w, t: (
                    n / (p * (w + 1) / 2 + _rates(t, 2 * p - la, la, w)[w:].sum())
                )
            ),
            "The ½ before (peak − last)(1 + cos …) is missing: it starts at the peak.",
        ),
        Mistake(
            "last not added",
            _damped_by(lambda n, b, e, p, la, w, t: n / (_rates(t, p, la, w).sum() - la * (t - w))),
            "`last` is not added: the cosine falls to it from the peak.",
        ),
        Mistake(
            "the effort",
            _damped_by(lambda n, b, e, p, la, w, t: _rates(t, p, la, w).sum()),
            "This is η̄T, the sum of the rates. The damping is n over it.",
        ),
        Mistake(
            "T twice",
            _damped_by(lambda n, b, e, p, la, w, t: n / (t * _rates(t, p, la, w).sum())),
            "T is there twice: the sum of the rates is η̄T already.",
        ),
        Mistake(
            "one epoch",
            _damped_by(lambda n, b, e, p, la, w, t: n * e / _rates(t, p, la, w).sum()),
            "This is the mean over epochs. η̄T is the sum over all steps of all epochs.",
        ),
        Mistake(
            "rates squared",
            _damped_by(lambda n, b, e, p, la, w, t: n / (_rates(t, p, la, w) ** 2).sum()),
            "The rates were squared. η̄T is their plain sum.",
        ),
        Mistake(
            "last rate",
            _damped_by(lambda n, b, e, p, la, w, t: n / (la * t)),
            "The last rate was used for all steps. Sum those that were used.",
        ),
    ],
    hints=[
        "λ = n/η̄T, where η̄T is the sum of the rates of all steps. How many steps are there?",
        "T = epochs·n/b. Write out the T rates and sum them.",
        "n / (Σ_{t<W} peak (t + 1)/W + Σ_{j<T−W} [last + ½(peak − last)(1 + cos(πj/(T − W)))]).",
    ],
)

# --- (g) tuned on what is reported ---------------------------------------------------------------

SETTINGS, TRUE_SCORE, NOISE = 7, 0.6, 0.04
"""Settings of a knob that all have one true score, each measured with a normal error."""


def _largest_of(many: int) -> float:
    """The mean of the largest of some standard normal numbers, by integration."""

    def integrand(v):
        return v * many * scipy.stats.norm.pdf(v) * scipy.stats.norm.cdf(v) ** (many - 1)

    return scipy.integrate.quad(integrand, -10, 10)[0]


def _largest_size(many: int) -> float:
    """The mean of the largest of some |v|, v standard normal: the integral of its tail."""
    return scipy.integrate.quad(lambda v: 1 - (2 * scipy.stats.norm.cdf(v) - 1) ** many, 0, 10)[0]


@cache
def optimism() -> float:
    """By how much the best measured score exceeds the true one, on average."""
    return NOISE * _largest_of(SETTINGS)


part_g = Number(
    "choose.part_g",
    "by how much the reported score is too high, on average",
    truth=optimism,
    rtol=0.008,  # three decimals
    mistakes=[
        Mistake(
            "unbiased",
            0.0,
            "Each of the seven measurements is right on average. The largest of the seven is not.",
        ),
        Mistake(
            "one error",
            NOISE,
            "One standard error is a guess. How large is the largest of seven, on average? Draw "
            "them.",
        ),
        Mistake(
            "bound",
            NOISE * np.sqrt(2 * np.log(SETTINGS)),
            "About two errors, σ√(2 log 7), is a bound. The largest of seven stays well below it: "
            "draw them.",
        ),
        Mistake(
            "error of the mean",
            NOISE / np.sqrt(SETTINGS),
            "This is the error of the mean of seven. It is the largest that gets reported.",
        ),
        Mistake(
            "in errors",
            _largest_of(SETTINGS),
            "Right, in units of the standard error. Multiply by 0.04.",
        ),
        Mistake(
            "the report",
            TRUE_SCORE + NOISE * _largest_of(SETTINGS),
            "This is the reported score. By how much is it above the true one?",
        ),
        Mistake(
            "two settings",
            NOISE * _largest_of(2),
            "This is the larger of two. There are seven settings.",
        ),
        Mistake(
            "median",
            NOISE * scipy.stats.norm.ppf(0.5 ** (1 / SETTINGS)),
            "This is the median of the largest of seven. On average it is a little more.",
        ),
        Mistake(
            "quantile",
            NOISE * scipy.stats.norm.ppf(1 - 1 / SETTINGS),
            "One in seven is above this. The largest of seven is further out on average: draw "
            "them.",
        ),
        Mistake(
            "quantile of eight",
            NOISE * scipy.stats.norm.ppf(1 - 1 / (SETTINGS + 1)),
            "The quantile 7/8 is where the largest has its mean for *uniform* numbers. Draw "
            "normal ones.",
        ),
        Mistake(
            "in percent",
            100 * NOISE * _largest_of(SETTINGS),
            "In percent. The scores, 0.6 and so on, are not.",
        ),
        Mistake(
            "largest size",
            NOISE * _largest_size(SETTINGS),
            "This is the largest error in size, of either sign. Errors below zero are not chosen.",
        ),
        Mistake(
            "all errors",
            NOISE * SETTINGS,
            "Seven errors are not added: only the largest of the seven gets reported.",
        ),
        Mistake(
            "mean size",
            NOISE * np.sqrt(2 / np.pi),
            "This is the mean size of one error. It is the largest of seven that is reported.",
        ),
        Mistake(
            "spread",
            NOISE * (2 * _largest_of(SETTINGS)),
            "This is how far the best is above the worst. How far is it above the truth?",
        ),
    ],
    hints=[
        "Draw seven normal numbers of size 0.04 many times. What is the largest, on average?",
        "rng.normal(0, 0.04, (100_000, 7)).max(axis=1).mean()",
    ],
)

# --- (h) a budget and a question -----------------------------------------------------------------


@dataclass(frozen=True)
class _Method:
    """What must be at hand, which questions are answered, and how many trainings it takes."""

    needs: int
    answers: str
    trainings: int = 0
    one_an_example: bool = False


@dataclass(frozen=True)
class _Situation:
    has: int
    asks: str
    trainings: int = 0
    examples: int = 10_000


DATA, WEIGHTS, CHECKPOINTS, RUN = range(4)

METHODS = {
    "similarity": _Method(DATA, "what is alike"),
    "influence function": _Method(WEIGHTS, "this model"),
    "tracin": _Method(CHECKPOINTS, "this model"),
    "source": _Method(CHECKPOINTS, "this model"),
    "unrolling": _Method(RUN, "this model"),
    "unrolling over seeds": _Method(RUN, "such models", 10),
    "datamodel": _Method(DATA, "such models", one_an_example=True),
    "retraining": _Method(DATA, "one group", 20),
}
"""In this order: of several that can answer a question, the last answers it best."""

SITUATIONS = {
    "copies": _Situation(RUN, "what is alike", 1000),
    "final weights": _Situation(WEIGHTS, "this model", 100),
    "checkpoints": _Situation(CHECKPOINTS, "this model"),
    "repeatable": _Situation(RUN, "this model"),
    "any seed": _Situation(RUN, "such models", 100),
    "cheap": _Situation(RUN, "such models", 5000, 1000),
    "suspects": _Situation(RUN, "one group", 100),
}


def best_method(situation: str) -> str:
    """The last method that can be afforded there and answers what is asked."""
    given = SITUATIONS[situation]

    def fits(method: _Method) -> bool:
        trainings = max(method.trainings, given.examples if method.one_an_example else 0)
        return (
            method.needs <= given.has
            and method.answers == given.asks
            and trainings <= given.trainings
        )

    return [name for name, method in METHODS.items() if fits(method)][-1]


@dataclass(frozen=True, eq=False)
class Matching(_Exercise):
    """A part answered by one word for each of several situations, {situation: word}.

    wrong: for every situation, what to say of a word, and under "" of all other words.
    """

    right: dict[str, str]
    words: Sequence[str]
    wrong: dict[str, dict[str, str]]

    @property
    def mistakes(self) -> list[Mistake]:
        """One situation answered by each wrong word, all others right."""
        return [
            Mistake(f"{name}: {word}", {**self.right, name: word}, self._says(name, word))
            for name in self.right
            for word in self.words
            if word != self.right[name]
        ]

    def _says(self, name: str, word: str) -> str:
        return f"{name!r}: {self.wrong[name].get(word, self.wrong[name][''])}"

    def __call__(self, answer=None, *, seed: int | None = None) -> Result:
        """Compare one situation after the other, and speak of the first that is wrong."""
        if _is_empty(answer):
            return self._empty()
        if not isinstance(answer, dict) or set(answer) != set(self.right):
            names = ", ".join(map(repr, self.right))
            says = f"Expected a dictionary with the keys {names}."
            return Result(WRONG, says, diagnosis="type")
        if all(_is_empty(word) for word in answer.values()):
            return self._empty()
        for name, right in self.right.items():
            if _is_empty(answer[name]):
                return self._empty(f"There is no answer yet for {name!r}.")
            word = " ".join(str(answer[name]).lower().split())
            if word not in self.words:
                says = f"{name!r}: expected a method of the list, got {_kind(answer[name])}."
                return Result(WRONG, says, diagnosis="type")
            if word != right:
                return Result(WRONG, self._says(name, word), diagnosis=f"{name}: {word}")
        return self._passed()


_OF_THIS_RUN = "This is about the one run at hand. The question is about such models, at any seed."
_OF_OTHERS = "This makes other models, at other seeds. The question is about this one."

part_h = Matching(
    "choose.part_h",
    "a method for each budget and question",
    right={name: best_method(name) for name in SITUATIONS},
    words=tuple(METHODS),
    wrong={
        "copies": {
            "": "A cause is not asked for. What is the cheapest thing that finds what looks alike?",
            "retraining": "No counterfactual is asked for: a copy may have no effect and is a copy "
            "still.",
            "influence function": "An influential example need not be alike, nor a copy "
            "influential. What is alike is asked.",
        },
        "final weights": {
            "": "That needs more than the final weights: checkpoints, or the run.",
            "similarity": "It says what is alike, not what pulled. The weights allow for more.",
            "retraining": _OF_OTHERS,
            "datamodel": _OF_OTHERS,
            "unrolling over seeds": _OF_OTHERS,
        },
        "checkpoints": {
            "": "That needs a run that can be repeated, or trainings to spare.",
            "similarity": "It says what is alike, not what pulled. The checkpoints allow for more.",
            "influence function": "It sees the end only, as if training had converged there: the "
            "checkpoints know of the past.",
            "tracin": "It adds up pushes and forgets that later steps undo them: no curvature. "
            "What has both?",
        },
        "repeatable": {
            "": "It approximates what can be had here exactly: the derivative of this run.",
            "similarity": "It says what is alike, not what a little more weight would do.",
            "retraining": "A whole training for each example, and for a *small* change of weight: "
            "a derivative gives all at once.",
            "datamodel": "It needs thousands of trainings, and is about the average of them, not "
            "this run.",
            "unrolling over seeds": "This is about the average model. The question is about one "
            "run: one unrolling.",
        },
        "any seed": {
            "": _OF_THIS_RUN,
            "similarity": "It knows of no model at all, neither this one nor the average.",
            "datamodel": "A regression with 10 000 unknowns on 100 trainings: most would be "
            "guessed. What does one run tell about all examples?",
            "retraining": "It would test one group, or a hundred single examples. All 10 000 are "
            "asked about.",
        },
        "cheap": {
            "": _OF_THIS_RUN,
            "similarity": "It knows of no model at all, neither this one nor the average.",
            "unrolling over seeds": "It averages derivatives, of small changes. Here halves are "
            "compared, and there are trainings enough to fit to that.",
            "retraining": "It would test one group. With 5000 trainings every example can have a "
            "coefficient.",
        },
        "suspects": {
            "": "It predicts, to first order or from a fit. One group can simply be tried: what "
            "would settle it?",
            "similarity": "That the documents look like the behaviour is why they are suspected.",
        },
    },
    hints=[
        "Three questions to each: what is at hand, about which model, about what kind of change?",
        "Without the run there is no unrolling; without checkpoints no SOURCE and no TracIn.",
        "A datamodel needs more trainings than examples. One group needs no method: leave it out.",
    ],
)

# --- (i), (j) predict, run, compare --------------------------------------------------------------

RIVALS = {
    "a": "label × pixel cosine",
    "b": "influence, λ untuned",
    "c": "exact unrolling",
}


def small_task() -> Task:
    """A long training on 160 digits of sixteen pixels, and thirty others as queries."""
    images, labels = digits()
    small = 2 * torch.nn.functional.avg_pool2d(images.view(-1, 1, 8, 8) - 0.3, 2).flatten(1)
    order = torch.from_numpy(np.random.default_rng(3).permutation(len(small)))
    seen, asked = order[:160], order[160:190]
    mlp = MLP((16, 8, 10))
    train = mlp.objective(small[seen], labels[seen])
    recipe = Recipe(train, mlp.initial, 20, 40, partial(constant, 0.3))
    return Task(mlp, recipe, mlp.objective(small[asked], labels[asked]))


def small_truths(task: Task) -> list[Truth]:
    """Sixty times 5 % dropped from the same run, and sixty halves trained anew from three seeds."""
    rng = np.random.default_rng(0)
    most, halves = random_subsets(160, 152, 60, rng), random_subsets(160, 80, 60, rng)
    same = sweep(task.recipe.reweighted, task.phi, most, progress=False)[0]
    anew = sweep(task.recipe.anew, task.phi, halves, seeds=(1, 2, 3), progress=False).mean(0)
    return [Truth("5 % dropped", most, same, 3), Truth("halves, anew", halves, anew, 3)]


@cache
def small_comparison() -> pd.DataFrame:
    """The three rivals against both truths: one row a pair."""
    task = small_task()
    rivals = [e for e in ESTIMATORS if e.name in RIVALS.values()]
    return compare(task, small_truths(task), np.random.default_rng(1), rivals)


def _ordered(truth: str) -> str:
    """The rivals' letters, the highest score first."""
    part = small_comparison()
    scores = part[part.truth == truth].set_index("method").lds
    return "".join(sorted(RIVALS, key=lambda letter: -scores[RIVALS[letter]]))


part_i = Choice(
    "choose.part_i",
    "the order of the three against small changes of the same run",
    truth=lambda: _ordered("5 % dropped"),
    wrong={
        "abc": "That is the reverse. Dropping 5 % from the same run is nearly what c computes, and "
        "a knows nothing of the run.",
        "acb": "The pixels do not know this run. And which of the two others does?",
        "bac": "Unrolling last? Dropping 5 % from the same run is nearly what it computes.",
        "bca": "The influence function takes the end for a minimum. Unrolling follows the very run "
        "that is tested.",
        "cab": "Unrolling is ahead. But the influence function knows the model, and pixels do not.",
    },
    hints=[
        "Which of the three is the derivative of exactly this run? Which never looks at the model?",
        "The closer a method is to what is being tested, the higher it scores.",
    ],
)

part_j = Choice(
    "choose.part_j",
    "which of the three leads against halves, trained anew",
    truth=lambda: _ordered("halves, anew")[0],
    wrong={
        "c": "It is exact for small changes of one run. Half the data and another start are "
        "neither.",
        "b": "A derivative at the whole data, for one start. Halves are far away, and the starts "
        "are others: what carries over to new models?",
    },
    hints=[
        "The models are new ones, and half of the data is gone: is a derivative good that far?",
        "What does a class's loss depend on when half of the class is gone, whatever the start?",
    ],
)
