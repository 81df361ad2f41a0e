"""Exercise 05_distributional: the mean run, the spread between runs, and one run in particular."""

from functools import cache, partial

import numpy as np
import sympy as sp
import torch

from lib.checks.engine import Choice, Formula, Function, Mistake, Number
from lib.counterfactuals import without_one
from lib.data import digits
from lib.distributional import over_seeds, unrolled_over_seeds
from lib.evaluation import Recipe, sweep
from lib.influence import direct, gauss_newton, influence
from lib.models import MLP
from lib.objective import losses_on
from lib.training import constant, retrain

# --- (a) how many seeds ---------------------------------------------------------------------------


def _pilot(rng: np.random.Generator) -> tuple:
    seeds = int(rng.integers(6, 11))
    before = 4 + rng.uniform(0.6, 1.0) * rng.standard_normal(seeds)
    effect = rng.uniform(-0.3, 0.3) + rng.uniform(0.2, 0.4) * rng.standard_normal(seeds)
    after = 4 + rng.uniform(0.5, 0.8) * (before - 4) + effect
    return torch.from_numpy(before), torch.from_numpy(after), float(rng.uniform(0.02, 0.06))


def _by_pairs(before, after, precision):
    """Variances as half the mean squared difference of two seeds: no mean is taken away."""
    before, after = before.numpy(), after.numpy()

    def spread(v):
        return np.subtract.outer(v, v)[np.triu_indices(len(v), 1)] ** 2 / 2

    paired, apart = spread(after - before), spread(before) + spread(after)
    return np.array([paired.mean(), apart.mean()]) / precision**2


def _needed(paired, apart, power=2, ddof=1):
    """A mistake in terms of var(before), var(after) and the covariance of the two."""

    def wrong(before, after, precision):
        (b, c), (_, a) = np.cov(before.numpy(), after.numpy(), ddof=ddof)
        return np.array([paired(b, a, c), apart(b, a, c)]) / precision**power

    return wrong


def _difference(b, a, c):
    return b + a - 2 * c


def _sum(b, a, c):
    return b + a


part_a = Function(
    "distributional.part_a",
    "the number of seeds at which the mean effect has this standard error, paired and unpaired",
    truth=_by_pairs,
    cases=_pilot,
    mistakes=[
        Mistake(
            "order",
            _needed(_sum, _difference),
            "The two are swapped: first the number for runs in pairs, then for unrelated runs.",
        ),
        Mistake(
            "divided by S",
            _needed(_difference, _sum, ddof=0),
            "Your variances divide by the number of pilot seeds: that is too small on average. "
            "Divide by one less.",
        ),
        Mistake(
            "precision not squared",
            _needed(_difference, _sum, power=1),
            "The standard error is √(Var/S): solved for S, the precision is squared.",
        ),
        Mistake(
            "standard deviation",
            _needed(lambda *v: _difference(*v) ** 0.5, lambda *v: _sum(*v) ** 0.5, power=1),
            "This is the root of the number of seeds: the standard error falls as 1/√S.",
        ),
        Mistake(
            "upside down",
            lambda *case: 1 / _by_pairs(*case),
            "Upside down: a smaller precision must need more seeds, not fewer.",
        ),
        Mistake(
            "error of the pilot",
            lambda before, after, precision: _by_pairs(before, after, precision) / len(before),
            "Var/S of the pilot over precision² is not the number of seeds: the pilot's own S "
            "plays no part, only its variances do.",
        ),
        Mistake(
            "twice the first",
            _needed(_difference, lambda b, a, c: 2 * b),
            "Right for pairs. Unpaired, 2 Var(φ) is for equal variances: here each data set has "
            "its own.",
        ),
        Mistake(
            "one data set",
            _needed(_difference, lambda b, a, c: b),
            "Right for pairs. Unpaired, the mean with all data is not the only noisy one: what "
            "does the other add?",
        ),
        Mistake(
            "one covariance",
            _needed(lambda b, a, c: b + a - c, _sum),
            "Right for unrelated runs. Var(a − b) = Var(a) + Var(b) − 2 Cov(a, b): the covariance "
            "counts twice.",
        ),
        Mistake(
            "covariance added",
            _needed(lambda b, a, c: b + a + 2 * c, _sum),
            "Right for unrelated runs. The covariance of a pair is taken away in a difference: "
            "pairing helps.",
        ),
        Mistake(
            "no covariance",
            _needed(_sum, _sum),
            "Right for unrelated runs. A pair shares its seed: take the variance of the "
            "differences, row by row.",
        ),
        Mistake(
            "deviations added",
            _needed(_difference, lambda b, a, c: (b**0.5 + a**0.5) ** 2),
            "Right for pairs. Of independent runs the variances add up, not the standard "
            "deviations.",
        ),
        Mistake(
            "mean of the variances",
            _needed(_difference, lambda b, a, c: (b + a) / 2),
            "Right for pairs. The variance of a difference of independent numbers is the sum of "
            "their variances, not the mean.",
        ),
        Mistake(
            "twice the second",
            _needed(_difference, lambda b, a, c: 2 * a),
            "Right for pairs. Unpaired, twice the variance without z_i is for equal variances: "
            "here each data set has its own.",
        ),
        Mistake(
            "the other data set",
            _needed(_difference, lambda b, a, c: a),
            "Right for pairs. Unpaired, the mean without z_i is not the only noisy one: what do "
            "the runs on all data add?",
        ),
        Mistake(
            "changes not centred",
            lambda before, after, precision: np.array(
                [
                    ((after - before) ** 2).mean().item() / precision**2,
                    _by_pairs(before, after, precision)[1],
                ]
            ),
            "Right for unrelated runs. A variance of changes is about their mean, which is not "
            "zero.",
        ),
        Mistake(
            "rounded up",
            lambda *case: np.ceil(_by_pairs(*case)),
            "Rounded up to whole seeds: return the numbers as they are.",
        ),
    ],
    hints=[
        "A mean over S seeds has the standard error √(Var/S). Which variance, in either case?",
        "Paired: (after − before).var(). Unpaired: before.var() + after.var().",
        "S = variance / precision**2, for both.",
    ],
)

# --- (b) what pairing saves -----------------------------------------------------------------------

_rho, _k = sp.symbols("rho k", positive=True)
_ratio = (1 + _k**2) / (1 + _k**2 - 2 * _rho * _k)

part_b = Formula(
    "distributional.part_b",
    "how many times as many seeds the unpaired comparison needs, in rho and k",
    truth=_ratio,
    domain={"rho": (-0.9, 0.95), "k": (0.3, 3)},
    mistakes=[
        Mistake(
            "equal spreads",
            1 / (1 - _rho),
            "Right at k = 1, equal spreads. The two data sets have their own: keep k.",
        ),
        Mistake(
            "upside down",
            1 / _ratio,
            "Upside down: this is how many times as many the paired comparison needs.",
        ),
        Mistake(
            "root",
            sp.sqrt(_ratio),
            "This is the ratio of the standard errors. The number of seeds goes with its square.",
        ),
        Mistake(
            "one covariance",
            (1 + _k**2) / (1 + _k**2 - _rho * _k),
            "The covariance counts twice in the variance of a difference.",
        ),
        Mistake(
            "sign of ρ",
            _ratio.subs(_rho, -_rho),
            "The sign of ρ is flipped: runs that go up and down together make pairing worthwhile.",
        ),
        Mistake(
            "no k beside ρ",
            (1 + _k**2) / (1 + _k**2 - 2 * _rho),
            "The covariance is ρ times both standard deviations: a factor k is missing beside ρ.",
        ),
        Mistake(
            "k not squared",
            (1 + _k) / (1 + _k - 2 * _rho * _k),
            "k is a ratio of standard deviations; variances add up, and theirs is k².",
        ),
        Mistake(
            "k for variances",
            (1 + _k) / (1 + _k - 2 * _rho * sp.sqrt(_k)),
            "k is the ratio of the standard deviations, not of the variances.",
        ),
        Mistake(
            "deviations added",
            (1 + _k) ** 2 / (1 + _k**2 - 2 * _rho * _k),
            "Unpaired, the variances add up, not the standard deviations: 1 + k², not (1 + k)².",
        ),
        Mistake(
            "twice the first",
            2 / (1 + _k**2 - 2 * _rho * _k),
            "Unpaired the variance is σ² + k²σ², not 2σ².",
        ),
        Mistake(
            "explained variance",
            1 / (1 - _rho**2),
            "1 − ρ² is the share that a regression leaves. A difference leaves "
            "Var(a) + Var(b) − 2 Cov(a, b).",
        ),
        Mistake(
            "twice the second",
            2 * _k**2 / (1 + _k**2 - 2 * _rho * _k),
            "Unpaired the variance is σ² + k²σ², not 2k²σ².",
        ),
        Mistake(
            "how many more",
            _ratio - 1,
            "This is how many more, in multiples of the paired number. How many times as many is "
            "1 larger.",
        ),
        Mistake(
            "share saved",
            1 - 1 / _ratio,
            "This is the share of the seeds that pairing saves. Divide the two variances.",
        ),
    ],
    hints=[
        "Divide the two variances of part (a), with σ, kσ and the covariance ρ·σ·kσ.",
        "Unpaired σ² + k²σ², paired σ² + k²σ² − 2ρkσ²; σ cancels.",
    ],
)

# --- (c) the example's share and the seed's -------------------------------------------------------


def _unequal_effects(rng: np.random.Generator) -> tuple:
    """n examples, each retrained with seeds of its own number and with a noise of its own; mostly
    of so little spread that the estimate of it is negative."""
    n, negative = int(rng.integers(7, 12)), rng.random() < 0.75
    seeds = rng.permutation(np.arange(n) % 4 + 2)
    spread, low = (0.15, 0.8) if negative else (0.8, 0.3)
    while True:
        rows = zip(rng.normal(0.7, spread, n), rng.uniform(low, 1.5, n), seeds, strict=True)
        effects = [torch.from_numpy(c + s * rng.standard_normal(k)) for c, s, k in rows]
        if negative == (_by_products(effects)[0] < -0.02):
            return (effects,)


def _by_products(effects):
    """From products of two different seeds, or of two different examples: neither has a bias."""
    effects = [e.numpy() for e in effects]
    n = len(effects)
    squares = [(e.sum() ** 2 - e @ e) / (len(e) * (len(e) - 1)) for e in effects]
    means = np.array([e.mean() for e in effects])
    crossed = (means.sum() ** 2 - means @ means) / (n * (n - 1))
    gaps = [np.subtract.outer(e, e)[np.triu_indices(len(e), 1)] ** 2 / 2 for e in effects]
    return np.array([np.mean(squares) - crossed, np.mean([g.mean() for g in gaps])])


def _split(between, within=lambda v, s: v.mean(), of_means=1, of_seeds=1):
    """A mistake: (spread of the means M, variances v, numbers of seeds s) → the example's part, and
    (v, s) → the seed's; `of_means`, `of_seeds` are taken off the divisors of the variances."""

    def wrong(effects):
        v = np.array([e.numpy().var(ddof=of_seeds) for e in effects])
        s = np.array([len(e) for e in effects])
        spread = np.var([e.mean().item() for e in effects], ddof=of_means)
        return np.array([between(spread, v, s), within(v, s)])

    return wrong


def _unbiased(spread, v, s):
    return spread - (v / s).mean()


def _pooled(v, s):
    return (v * (s - 1)).sum() / (s - 1).sum()


def _about_all_effects(effects):
    """A mistake: the means' spread about the mean of all effects, however many each example has."""
    means = np.array([e.mean().item() for e in effects])
    off = means.mean() - np.concatenate([e.numpy() for e in effects]).mean()
    n, (between, within) = len(effects), _by_products(effects)
    return np.array([between + n * off**2 / (n - 1), within])


def _analysis_of_variance(effects):
    """A mistake: sums of squares between and within, as for noise that is the same everywhere."""
    means = np.array([e.mean().item() for e in effects])
    s = np.array([len(e) for e in effects])
    n, total = len(s), s.sum()
    within = _pooled(np.array([e.numpy().var(ddof=1) for e in effects]), s)
    between = s @ (means - s @ means / total) ** 2 / (n - 1)
    return np.array([(between - within) / ((total - s @ s / total) / (n - 1)), within])


part_c = Function(
    "distributional.part_c",
    "the variance of effects that belongs to the example, and to the seed",
    truth=_by_products,
    cases=_unequal_effects,
    mistakes=[
        Mistake(
            "not corrected",
            _split(lambda m, v, s: m),
            "The seed's part is right. The spread of the means has noise in it too: each mean has "
            "the variance v_i/S_i.",
        ),
        Mistake(
            "whole variance taken away",
            _split(lambda m, v, s: m - v.mean()),
            "The seed's part is right. A mean over S_i seeds carries v_i/S_i of the noise, not "
            "v_i.",
        ),
        Mistake(
            "added",
            _split(lambda m, v, s: m + (v / s).mean()),
            "The seed's part is right. Noise makes the means spread more: take its share away, do "
            "not add it.",
        ),
        Mistake(
            "set to zero",
            _split(lambda m, v, s: max(_unbiased(m, v, s), 0.0)),
            "The example's part is set to zero where it comes out negative. That makes it too "
            "large on average: leave it as it is.",
        ),
        Mistake(
            "mean number of seeds",
            _split(lambda m, v, s: m - v.mean() / s.mean()),
            "The seed's part is right. Divide each v_i by its own S_i before averaging: the "
            "examples differ in both.",
        ),
        Mistake(
            "all seeds",
            _split(lambda m, v, s: m - v.mean() / s.sum()),
            "The seed's part is right. Each mean is over its own S_i seeds, not over all of them "
            "together.",
        ),
        Mistake(
            "mean of 1/S",
            _split(lambda m, v, s: m - v.mean() * (1 / s).mean()),
            "The seed's part is right. The mean of v_i/S_i is not the mean of v_i times that of "
            "1/S_i.",
        ),
        Mistake(
            "pooled",
            _split(lambda m, v, s: m - (_pooled(v, s) / s).mean(), _pooled),
            "Pooling lets examples with more seeds count for more. Here each example has one "
            "vote: the plain mean of the v_i.",
        ),
        Mistake(
            "pooled within",
            _split(_unbiased, _pooled),
            "The example's part is right. For the seed's take the plain mean of the v_i, not one "
            "weighted by their seeds.",
        ),
        Mistake(
            "means divided by n",
            _split(_unbiased, of_means=0),
            "The seed's part is right. The variance of the n means is divided by n here: it needs "
            "n − 1.",
        ),
        Mistake(
            "seeds divided by S",
            _split(_unbiased, of_seeds=0),
            "The variance within an example is about its own mean: divide by S_i − 1, not S_i.",
        ),
        Mistake(
            "both divided by n",
            _split(_unbiased, of_means=0, of_seeds=0),
            "Both variances divide by the number where they need one less, n − 1 and S_i − 1.",
        ),
        Mistake(
            "neither corrected",
            _split(lambda m, v, s: m, of_means=0, of_seeds=0),
            "Three corrections are missing: n − 1, S_i − 1, and the noise v_i/S_i in each mean.",
        ),
        Mistake(
            "S over S − 1",
            _split(lambda m, v, s: m - (v / (s - 1)).mean()),
            "The seed's part is right. S_i − 1 has been used in v_i already: the mean's variance "
            "is v_i/S_i.",
        ),
        Mistake(
            "order",
            lambda effects: _by_products(effects)[::-1],
            "The two are swapped: first the example's part, then the seed's.",
        ),
        Mistake(
            "shares",
            lambda effects: _by_products(effects) / _by_products(effects).sum(),
            "These are the shares. The two variances themselves are asked.",
        ),
        Mistake(
            "noise of the mean",
            _split(_unbiased, lambda v, s: (v / s).mean()),
            "The example's part is right. The seed's part is the variance of one run, v_i, not of "
            "a mean over runs.",
        ),
        Mistake(
            "sum of the noise",
            _split(lambda m, v, s: m - (v / s).sum()),
            "The seed's part is right. The spread of the means has the mean of the v_i/S_i in it, "
            "not their sum.",
        ),
        Mistake(
            "noise over n − 1",
            _split(lambda m, v, s: m - (v / s).sum() / (len(v) - 1)),
            "The seed's part is right. The noise to be taken away is the plain mean of the "
            "v_i/S_i: divide by n.",
        ),
        Mistake(
            "summed within",
            _split(_unbiased, lambda v, s: v.sum()),
            "The example's part is right. The seed's part is the mean of the v_i, not their sum.",
        ),
        Mistake(
            "within over n − 1",
            _split(_unbiased, lambda v, s: v.sum() / (len(v) - 1)),
            "The example's part is right. The seed's part is a plain mean over examples: divide "
            "by n.",
        ),
        Mistake(
            "grand mean",
            _about_all_effects,
            "The seed's part is right. The means spread about their own mean; the mean of all "
            "effects weights examples by their seeds.",
        ),
        Mistake(
            "analysis of variance",
            _analysis_of_variance,
            "The textbook's analysis of variance weights examples by their seeds and takes all "
            "for equally noisy. Here each has one vote.",
        ),
    ],
    hints=[
        "For each example: mean, variance v_i (over S_i − 1) and number of seeds S_i.",
        "The means spread by the examples' variance plus the noise left in them, v_i/S_i each.",
        "means.var() − mean of v_i/S_i, and the mean of the v_i.",
    ],
)

# --- (d) how well a score can do that is blind to the seed ----------------------------------------

_B, _W, _m = sp.symbols("B W m", positive=True)
_best = _B / sp.sqrt((_B + _W) * (_B + _W / _m))

part_d = Formula(
    "distributional.part_d",
    "the correlation of one run's effects with the mean effects of m other runs, in B, W and m",
    truth=_best,
    domain={"B": (0.2, 3), "W": (0.2, 3), "m": (1.5, 12)},
    mistakes=[
        Mistake(
            "infinitely many",
            sp.sqrt(_B / (_B + _W)),
            "Right as m → ∞. With m runs the mean still has the noise W/m in it.",
        ),
        Mistake(
            "one run",
            _B / (_B + _W),
            "Right for m = 1, two single runs. A mean over m runs has less noise, W/m.",
        ),
        Mistake(
            "with the truth",
            sp.sqrt(_B / (_B + _W / _m)),
            "This is the correlation with the mean over all seeds. One run has the noise W as "
            "well.",
        ),
        Mistake(
            "two means",
            _B / (_B + _W / _m),
            "This is for two means over m runs each. One side here is a single run.",
        ),
        Mistake(
            "squared",
            _best**2,
            "This is the square of the correlation.",
        ),
        Mistake(
            "product of variances",
            _B / ((_B + _W) * (_B + _W / _m)),
            "A correlation divides by the standard deviations: take the root of the product.",
        ),
        Mistake(
            "noise times m",
            _B / sp.sqrt((_B + _W) * (_B + _m * _W)),
            "Averaging makes the noise smaller: W/m, not mW.",
        ),
        Mistake(
            "noise over √m",
            _B / sp.sqrt((_B + _W) * (_B + _W / sp.sqrt(_m))),
            "W is a variance: a mean over m runs has W/m of it. The root belongs to the standard "
            "deviation.",
        ),
        Mistake(
            "all divided by m",
            _B / sp.sqrt((_B + _W) * (_B + _W) / _m),
            "Only the noise shrinks with m. What belongs to the examples, B, is in every run "
            "alike.",
        ),
        Mistake(
            "shared noise",
            (_B + _W / _m) / sp.sqrt((_B + _W) * (_B + _W / _m)),
            "The run itself is not among the m: no noise is shared, and the covariance is B alone.",
        ),
        Mistake(
            "one run more",
            _B / sp.sqrt((_B + _W) * (_B + _W / (_m + 1))),
            "The mean is over the m other runs: the noise in it is W/m, not W/(m + 1).",
        ),
        Mistake(
            "half a root",
            _B / ((_B + _W) * sp.sqrt(_B + _W / _m)),
            "Both variances stand under the root: √(B + W) as well.",
        ),
        Mistake(
            "noise over m²",
            _B / sp.sqrt((_B + _W) * (_B + _W / _m**2)),
            "A mean over m runs has the noise W/m: it is a sum of m terms of variance W/m² each.",
        ),
    ],
    hints=[
        "Write an effect as b_i + noise, with variances B and W, the noise fresh in every run.",
        "The covariance is B. The variances: B + W for one run, B + W/m for the mean of m.",
    ],
)

# --- (e) the probability of an event --------------------------------------------------------------


def _runs(rng: np.random.Generator) -> tuple:
    """φ and its influences in a few runs, each run with influences of its own size."""
    seeds, n = int(rng.integers(5, 9)), int(rng.integers(9, 13))
    values = rng.uniform(0.3, 1.0) + rng.gamma(2.0, 0.6, seeds)
    slopes = rng.standard_normal(n) + rng.uniform(0.4, 1.2) * rng.standard_normal((seeds, n))
    return torch.from_numpy(values), torch.from_numpy(slopes + 0.5 * values[:, None])


def _runs_and_band(rng: np.random.Generator) -> tuple:
    values, slopes = _runs(rng)
    low = float(values.mean() + rng.uniform(-0.5, 0.1))
    return values, slopes, low, low + float(rng.uniform(0.5, 1.2)), float(rng.uniform(0.15, 0.5))


def _complex_step(feature):
    """∂/∂β_i of a feature of all runs' φ, along φ + iε ∂φ/∂β_i: exact, and nothing is derived."""

    def truth(values, slopes, *rest):
        moved = values.numpy()[:, None] + 1e-30j * slopes.numpy()
        return feature(moved, *rest).imag / 1e-30

    return truth


def _logistic(z):
    return 1 / (1 + np.exp(-z))


def _bell(z):
    return _logistic(z) * _logistic(-z)


def _inside(values, low, high, width):
    return (_logistic((values - low) / width) - _logistic((values - high) / width)).mean(axis=0)


def _banded(weight, power=1):
    """A mistake of the form E[weight·∂φ/∂β]/width^power; weight sees (φ − low)/h, (φ − high)/h."""

    def wrong(values, slopes, low, high, width):
        v = values.numpy()
        return (weight((v - low) / width, (v - high) / width) @ slopes.numpy()) / (
            len(v) * width**power
        )

    return wrong


def _edges(a, b):
    return _bell(a) - _bell(b)


def _of_means(values, slopes, low, high, width):
    mean = values.mean().item()
    edges = _edges((mean - low) / width, (mean - high) / width)
    return edges * slopes.numpy().mean(0) / width


def _apart(values, slopes, low, high, width):
    v = values.numpy()
    return _edges((v - low) / width, (v - high) / width).mean() * slopes.numpy().mean(0) / width


def _centred(values, slopes, low, high, width):
    v = values.numpy()
    weight = _edges((v - low) / width, (v - high) / width)
    return (weight - weight.mean()) @ slopes.numpy() / (len(v) * width)


part_e = Function(
    "distributional.part_e",
    "the influence of every example on the smoothed probability",
    truth=_complex_step(_inside),
    cases=_runs_and_band,
    mistakes=[
        Mistake(
            "no width",
            _banded(_edges, 0),
            "A factor 1/width is missing: the chain rule, for (φ − low)/width.",
        ),
        Mistake(
            "times width",
            _banded(_edges, -1),
            "Times width, where the chain rule divides by it.",
        ),
        Mistake(
            "sum over seeds",
            lambda *case: len(case[0]) * _complex_step(_inside)(*case),
            "Too large by the number of seeds: a probability is a mean over seeds.",
        ),
        Mistake(
            "plus",
            _banded(lambda a, b: _bell(a) + _bell(b)),
            "The two edges are added. Passing the upper one leaves the band: a minus.",
        ),
        Mistake(
            "lower edge only",
            _banded(lambda a, b: _bell(a)),
            "This is the probability of more than low. Runs that rise above high leave the band.",
        ),
        Mistake(
            "upper edge only",
            _banded(lambda a, b: -_bell(b)),
            "This is the probability of less than high. Runs that rise above low enter the band.",
        ),
        Mistake(
            "sign",
            _banded(lambda a, b: -_edges(a, b)),
            "Sign flipped: a run at the lower edge whose φ rises enters the band.",
        ),
        Mistake(
            "σ for its slope",
            _banded(lambda a, b: _logistic(a) - _logistic(b)),
            "σ itself stands where its derivative σ(1 − σ) should.",
        ),
        Mistake(
            "σ for its slope, no width",
            _banded(lambda a, b: _logistic(a) - _logistic(b), 0),
            "Influences weighted by how much each run is inside. What counts is which runs are at "
            "an edge: differentiate σ.",
        ),
        Mistake(
            "σ squared",
            _banded(lambda a, b: _logistic(a) ** 2 - _logistic(b) ** 2),
            "The derivative of σ is σ(1 − σ), not σ².",
        ),
        Mistake(
            "hard indicator",
            _banded(lambda a, b: ((a > 0) & (b < 0)).astype(float), 0),
            "This is the mean influence in runs inside the band. They stay inside: those at an "
            "edge count.",
        ),
        Mistake(
            "of the mean run",
            _of_means,
            "This is for a run with the mean φ. Take the weight in every run, then the mean over "
            "runs.",
        ),
        Mistake(
            "means apart",
            _apart,
            "The mean of a product is not the product of means: weight each run's own influence "
            "before averaging.",
        ),
        Mistake(
            "centred",
            _centred,
            "This takes the mean weight away, as for a covariance. A probability is a mean; its "
            "influence is one too.",
        ),
        Mistake(
            "product of two edges",
            _banded(lambda a, b: _bell(a) * _logistic(-b) - _logistic(a) * _bell(b)),
            "This is for the product of two smooth steps. The smoothed band here is their "
            "difference.",
        ),
        Mistake(
            "width twice",
            _banded(_edges, 2),
            "Divided by the width twice: the chain rule brings it once.",
        ),
        Mistake(
            "band as one σ",
            _banded(lambda a, b: (p := _logistic(a) - _logistic(b)) * (1 - p)),
            "p(1 − p) is the slope of one σ. The band is a difference of two, and each has its "
            "own slope.",
        ),
        Mistake(
            "normal bell",
            _banded(lambda a, b: (np.exp(-(a**2) / 2) - np.exp(-(b**2) / 2)) / (2 * np.pi) ** 0.5),
            "This is the bell of a normal distribution. The slope of σ is σ(1 − σ).",
        ),
        Mistake(
            "log-probability",
            lambda values, slopes, *band: _complex_step(lambda v, *b: np.log(_inside(v, *b)))(
                values, slopes, *band
            ),
            "This is the influence on log P. That on P itself is asked.",
        ),
    ],
    hints=[
        "Seeds do not depend on β: the derivative goes inside the mean.",
        "σ′(z) = σ(z)(1 − σ(z)), and z = (φ − low)/width brings 1/width.",
        "weight = (bell((φ − low)/h) − bell((φ − high)/h))/h; then (weight @ slopes)/S.",
    ],
)

# --- (f) a lopsided distribution ------------------------------------------------------------------


def _skewness(values):
    away = values - values.mean(axis=0)
    return (away**3).mean(axis=0) / (away**2).mean(axis=0) ** 1.5


def _skewed(formula):
    """A mistake in the pieces: C₃ = 3Cov((φ−μ)², φ′), C₂ = 2Cov(φ, φ′), m₃, m₂, and the rest."""

    def wrong(values, slopes):
        v, g = values.numpy(), slopes.numpy()
        away = v - v.mean()
        m2, m3 = (away**2).mean(), (away**3).mean()
        of_third = 3 * ((away**2 - m2) @ g) / len(v)
        of_second = 2 * (away @ g) / len(v)
        return formula(of_third, of_second, m3, m2, g.mean(0), len(v))

    return wrong


part_f = Function(
    "distributional.part_f",
    "the influence of every example on the skewness over runs",
    truth=_complex_step(_skewness),
    cases=_runs,
    mistakes=[
        Mistake(
            "third moment",
            _skewed(lambda c3, c2, m3, m2, g, s: c3),
            "This is the influence on the third central moment. The skewness divides it by the "
            "spread cubed, which moves too.",
        ),
        Mistake(
            "spread held",
            _skewed(lambda c3, c2, m3, m2, g, s: c3 / m2**1.5),
            "The numerator's part is right, the variance's is missing or zero: it has an influence "
            "too, by the quotient rule.",
        ),
        Mistake(
            "mean held",
            _skewed(
                lambda c3, c2, m3, m2, g, s: (c3 + 3 * m2 * g) / m2**1.5 - 1.5 * m3 * c2 / m2**2.5
            ),
            "μ moves as well: (φ − μ)² is multiplied by ∂φ/∂β minus its mean over runs.",
        ),
        Mistake(
            "mean and spread held",
            _skewed(lambda c3, c2, m3, m2, g, s: (c3 + 3 * m2 * g) / m2**1.5),
            "μ and the variance are held fixed. Both depend on β.",
        ),
        Mistake(
            "sign of the spread's part",
            _skewed(lambda c3, c2, m3, m2, g, s: c3 / m2**1.5 + 1.5 * m3 * c2 / m2**2.5),
            "The spread's part has the wrong sign: it stands in the denominator.",
        ),
        Mistake(
            "variance's 2",
            _skewed(lambda c3, c2, m3, m2, g, s: c3 / m2**1.5 - 0.75 * m3 * c2 / m2**2.5),
            "The spread's part is half of what it should be: the influence on a variance is "
            "2 Cov(φ, ∂φ/∂β).",
        ),
        Mistake(
            "no 3/2",
            _skewed(lambda c3, c2, m3, m2, g, s: c3 / m2**1.5 - m3 * c2 / m2**2.5),
            "The derivative of m₂^(−3/2) is −(3/2) m₂^(−5/2): the 3/2 is missing.",
        ),
        Mistake(
            "m₂ to the −3/2",
            _skewed(lambda c3, c2, m3, m2, g, s: c3 / m2**1.5 - 1.5 * m3 * c2 / m2**1.5),
            "The derivative of m₂^(−3/2) has the exponent −5/2.",
        ),
        Mistake(
            "no 3",
            _skewed(lambda c3, c2, m3, m2, g, s: c3 / 3 / m2**1.5 - 1.5 * m3 * c2 / m2**2.5),
            "A 3 is missing: the derivative of (φ − μ)³ is 3(φ − μ)² times that of φ − μ.",
        ),
        Mistake(
            "2 for 3",
            _skewed(lambda c3, c2, m3, m2, g, s: c3 * 2 / 3 / m2**1.5 - 1.5 * m3 * c2 / m2**2.5),
            "The derivative of a cube has the factor 3, not 2.",
        ),
        Mistake(
            "divided by S − 1",
            _skewed(
                lambda c3, c2, m3, m2, g, s: (
                    (c3 / m2**1.5 - 1.5 * m3 * c2 / m2**2.5) * ((s - 1) / s) ** 1.5
                )
            ),
            "The variance here is divided by S − 1. All means over runs divide by S.",
        ),
        Mistake(
            "both divided by S − 1",
            _skewed(
                lambda c3, c2, m3, m2, g, s: (
                    (c3 / m2**1.5 - 1.5 * m3 * c2 / m2**2.5) * ((s - 1) / s) ** 0.5
                )
            ),
            "Both moments here are divided by S − 1. All means over runs divide by S.",
        ),
        Mistake(
            "not centred",
            _complex_step(lambda v: (v**3).mean(0) / (v**2).mean(0) ** 1.5),
            "φ is not centred: the moments are those of φ − μ.",
        ),
        Mistake(
            "centred above only",
            _complex_step(lambda v: ((v - v.mean(0)) ** 3).mean(0) / (v**2).mean(0) ** 1.5),
            "The variance below is not centred: it is the mean of (φ − μ)².",
        ),
        Mistake(
            "divided by m₂",
            _complex_step(
                lambda v: ((v - v.mean(0)) ** 3).mean(0) / ((v - v.mean(0)) ** 2).mean(0)
            ),
            "The third moment is divided by the spread cubed, m₂^(3/2), not by m₂.",
        ),
        Mistake(
            "kurtosis",
            _complex_step(
                lambda v: ((v - v.mean(0)) ** 4).mean(0) / ((v - v.mean(0)) ** 2).mean(0) ** 2
            ),
            "This is the influence on the fourth standardised moment. Skewness has the third.",
        ),
        Mistake(
            "sign",
            lambda *case: -_complex_step(_skewness)(*case),
            "Sign flipped: an example that raises the highest runs most makes the upper tail "
            "longer.",
        ),
        Mistake(
            "spread divided by S − 1",
            _skewed(
                lambda c3, c2, m3, m2, g, s: (
                    c3 / (m2 * s / (s - 1)) ** 1.5 - 1.5 * m3 * c2 / (m2 * s / (s - 1)) ** 2.5
                )
            ),
            "m₂ is divided by S − 1 here. All means over runs divide by S.",
        ),
        Mistake(
            "corrected skewness",
            _skewed(
                lambda c3, c2, m3, m2, g, s: (
                    (c3 / m2**1.5 - 1.5 * m3 * c2 / m2**2.5) * (s * (s - 1)) ** 0.5 / (s - 2)
                )
            ),
            "This is for the bias-corrected skewness of statistics packages. All means here "
            "divide by S.",
        ),
        Mistake(
            "log of the skewness",
            _skewed(lambda c3, c2, m3, m2, g, s: c3 / m3 - 1.5 * c2 / m2),
            "This is the relative change, ∂skew/skew. Multiply by the skewness.",
        ),
    ],
    hints=[
        "Write skew = m₃ m₂^(−3/2), and differentiate each factor.",
        "∂m₃/∂β_i = 3 E[(φ−μ)² (∂φ − E ∂φ)], since μ moves too; ∂m₂/∂β_i = 2 Cov(φ, ∂φ).",
        "∂skew = ∂m₃/m₂^(3/2) − (3/2) m₃ ∂m₂/m₂^(5/2).",
    ],
)

# --- (g), (h) thirty runs -------------------------------------------------------------------------

PILOT, LATER = range(10), range(10, 30)
"""The seeds of the first runs, which are shown, and of those that come after the prediction."""


@cache
def experiment():
    """Sixty digits, a small network, and φ: the loss on the held-out image that is hardest on
    average over thirty seeds: (recipe, φ)."""
    images, labels = digits()
    small = torch.nn.functional.avg_pool2d(images.view(-1, 1, 8, 8), 2).flatten(1)
    small = 2 * (small - small.mean(0))
    order = torch.from_numpy(np.random.default_rng(0).permutation(len(small)))
    seen, unseen = order[:60], order[60:]
    mlp = MLP((16, 6, 10))
    recipe = Recipe(
        mlp.objective(small[seen], labels[seen]),
        mlp.initial,
        batch=6,
        times=8,
        schedule=partial(constant, 0.5),
    )
    every = losses_on(recipe.objective, small[unseen], labels[unseen])
    hard = unseen[over_seeds(recipe, every, [*PILOT, *LATER]).mean(0).argmax()][None]
    return recipe, losses_on(recipe.objective, small[hard], labels[hard])


@cache
def unrolled() -> torch.Tensor:
    """The unrolled influence of every example in each of the thirty runs, (30, n)."""
    recipe, phi = experiment()
    return unrolled_over_seeds(recipe, phi, [*PILOT, *LATER])[1][:, :, 0]


def _correlation(a, b) -> float:
    return float(np.corrcoef(a, b)[0, 1])


@cache
def effects_in_one_run(runs: int = 6, others: int = 10) -> dict[str, float]:
    """The correlation of four answers with the effects of leaving examples out of one run: its mean
    over `runs` runs, and for the last two from `others` other runs."""
    recipe, phi = experiment()
    net = recipe.objective
    beta = torch.cat([torch.ones(1, net.n).double(), without_one(net.n)])
    outcomes = sweep(recipe.reweighted, phi, beta, range(runs + others), chunk=61, progress=False)
    effects = (outcomes[:, 1:] - outcomes[:, :1])[:, :, 0]
    slopes = unrolled()

    def at_the_end(seed):
        run = recipe.run(seed)
        w = retrain(run, run.ones(), progress=False)
        held = net.n / run.rates.sum().item()
        return influence(net, w, phi, direct(gauss_newton(net, w), held))[:, 0]

    says = {
        "unrolling this run": lambda s: -slopes[s],
        "influence function of this run": lambda s: -at_the_end(s),
        "unrolling ten others": lambda s: -slopes[runs : runs + others].mean(0),
        "retraining ten others": lambda s: effects[runs:].mean(0),
    }
    return {
        name: float(np.mean([_correlation(guess(s), effects[s]) for s in range(runs)]))
        for name, guess in says.items()
    }


def _closest() -> str:
    found = effects_in_one_run()
    return max(found, key=found.get)


part_g = Choice(
    "distributional.part_g",
    "which of the four comes closest to the effects in this run",
    truth=_closest,
    wrong={
        "influence function of this run": "It sees where the run ended, not the batches on the "
        "way. Which of the four uses all that made this run what it is?",
        "unrolling ten others": "Averaging removes what belongs to a single run, and the question "
        "is about a single run.",
        "retraining ten others": "Exact, but about other runs: what this seed does to an effect "
        "is lost in their mean, however many there are.",
    },
    hints=[
        "Two kinds of error: an approximation in this run, or the truth about other runs.",
        "Part (d) with m = 10 says how far other runs get. Which of the other two leaves out less "
        "of what happened in this one?",
    ],
)


@cache
def correlation_of_two_with_a_third() -> float:
    """The mean correlation of the average over two pilot runs with a later run."""
    slopes = unrolled()
    pairs = [(a, b) for a in PILOT for b in PILOT if a < b]
    return float(
        np.mean(
            [_correlation((slopes[a] + slopes[b]) / 2, slopes[s]) for a, b in pairs for s in LATER]
        )
    )


@cache
def _pilot_split() -> tuple[float, float]:
    return tuple(_by_products(list(unrolled()[: len(PILOT)].T)).tolist())


def _from_pilot(formula):
    return float(formula.subs(dict(zip((_B, _W), _pilot_split(), strict=True))))


part_h = Number(
    "distributional.part_h",
    "the mean correlation of two averaged runs with a third",
    truth=correlation_of_two_with_a_third,
    rtol=0.05,
    mistakes=[
        Mistake(
            "one run",
            _from_pilot(_best.subs(_m, 1)),
            "That is for one run against another. Two runs are averaged on one side: m = 2.",
        ),
        Mistake(
            "infinitely many",
            _from_pilot(sp.sqrt(_B / (_B + _W))),
            "Too high: about what many averaged runs would give, or two means of two. Here it is a "
            "mean of two, m = 2, against one run.",
        ),
        Mistake(
            "with the truth",
            _from_pilot(sp.sqrt(_B / (_B + _W / 2))),
            "That is their correlation with the mean over all seeds. A single run has noise of "
            "its own.",
        ),
        Mistake(
            "squared",
            _from_pilot(_best.subs(_m, 2) ** 2),
            "That is the square of the correlation.",
        ),
        Mistake(
            "the seed's share",
            _from_pilot(_W / (_B + _W)),
            "That is the seed's share of the variance. Put B and W into part (d).",
        ),
        Mistake("perfect", 1.0, "Runs differ by their seeds: it cannot be 1."),
    ],
    hints=[
        "Part (c) on the ten pilot runs gives B and W; ten seeds for each example.",
        "Part (d) with these and m = 2.",
    ],
)
