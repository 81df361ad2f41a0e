"""Correct answers to the exercises on runs and on groups: {part id: {name: answer}}.

Derived from the questions and their hints, without a look at the reference of any part.
"""

import math
import statistics
from fractions import Fraction
from itertools import combinations, permutations

import numpy as np
import scipy.linalg
import scipy.special
import scipy.stats
import sympy as sp
import torch
from torch.func import grad, jacfwd, jvp, vjp

from lib import counterfactuals, groups
from lib.distributional import variance_influence
from lib.linear_regression import least_squares
from lib.models import linear
from lib.objective import gradients, hessian

# --- distributional ------------------------------------------------------------------------------


def seeds_hint(before, after, precision):
    return torch.stack([(after - before).var(), before.var() + after.var()]) / precision**2


def seeds_numpy(before, after, precision):
    before, after = before.numpy(), after.numpy()
    apart = np.var(before, ddof=1) + np.var(after, ddof=1)
    return np.array([np.var(after - before, ddof=1), apart]) / precision**2


def seeds_statistics(before, after, precision):
    before, after = before.tolist(), after.tolist()
    change = [b - a for a, b in zip(before, after, strict=True)]
    apart = statistics.variance(before) + statistics.variance(after)
    return statistics.variance(change) / precision**2, apart / precision**2


def seeds_covariance(before, after, precision):
    c = np.cov(before, after)
    return [(c[0, 0] + c[1, 1] - 2 * c[0, 1]) / precision**2, np.trace(c) / precision**2]


def seeds_standard_errors(before, after, precision):
    """How many times as many as in the pilot, from the standard errors of the pilot."""
    many = len(before)
    paired = scipy.stats.sem(after - before)
    apart = math.hypot(scipy.stats.sem(before), scipy.stats.sem(after))
    return many * (np.array([paired, apart]) / precision) ** 2


def seeds_two_by_two(before, after, precision):
    """A variance is half the mean squared difference of two runs."""

    def variance(v):
        return (v[:, None] - v[None]).square().sum() / (2 * len(v) * (len(v) - 1))

    found = [variance(after - before), variance(before) + variance(after)]
    return [f / precision**2 for f in found]


def seeds_dot(before, after, precision):
    a, b = (before - before.mean()) / precision, (after - after.mean()) / precision
    both = a @ a + b @ b
    return torch.tensor([both - 2 * (a @ b), both]).double() / (len(a) - 1)


def seeds_float32(before, after, precision):
    return seeds_hint(before.float(), after.float(), precision)


def decompose_hint(effects):
    means = torch.stack([e.mean() for e in effects])
    noise = torch.stack([e.var() for e in effects])
    many = torch.tensor([len(e) for e in effects])
    return torch.stack([means.var() - (noise / many).mean(), noise.mean()])


def decompose_numpy(effects):
    rows = [e.numpy() for e in effects]
    left = np.mean([row.var(ddof=1) / row.size for row in rows])
    means = np.array([row.mean() for row in rows])
    return np.var(means, ddof=1) - left, np.mean([row.var(ddof=1) for row in rows])


def decompose_statistics(effects):
    rows = [e.tolist() for e in effects]
    noise = [statistics.variance(row) for row in rows]
    left = [v / len(row) for v, row in zip(noise, rows, strict=True)]
    spread = statistics.variance(map(statistics.fmean, rows))
    return [spread - statistics.fmean(left), statistics.fmean(noise)]


def decompose_standard_errors(effects):
    errors = [scipy.stats.sem(e) for e in effects]
    between = np.cov([e.mean() for e in effects]) - np.mean(np.square(errors))
    return between, np.mean([len(e) * s**2 for e, s in zip(effects, errors, strict=True)])


def decompose_products(effects):
    """Products of two different runs have the means' products as expectations: no bias."""
    n = len(effects)
    sums = torch.stack([e.sum() for e in effects])
    squares = torch.stack([e @ e for e in effects])
    many = torch.tensor([float(len(e)) for e in effects])
    own = (sums**2 - squares) / (many * (many - 1))
    means = sums / many
    others = (means.sum() ** 2 - means @ means) / (n * (n - 1))
    return own.mean() - others, (squares / many - own).mean()


def decompose_pairs(effects):
    """Half the squared difference of two examples' means, less their noise."""

    def noise(e):
        return sum(float(a - b) ** 2 / 2 for a, b in combinations(e, 2)) / math.comb(len(e), 2)

    between = [
        (a.mean() - b.mean()) ** 2 / 2 - noise(a) / len(a) / 2 - noise(b) / len(b) / 2
        for a, b in combinations(effects, 2)
    ]
    return np.mean(between), np.mean([noise(e) for e in effects])


def decompose_flat(effects):
    """All effects in one row, with the example of each."""
    who = np.repeat(np.arange(len(effects)), [len(e) for e in effects])
    value = np.concatenate(effects)
    many = np.bincount(who)
    means = np.bincount(who, value) / many
    noise = np.bincount(who, (value - means[who]) ** 2) / (many - 1)
    return np.stack([means.var(ddof=1) - np.mean(noise / many), noise.mean()])


def decompose_padded(effects):
    rows = torch.nn.utils.rnn.pad_sequence(effects, True, padding_value=torch.nan)
    many = rows.isfinite().sum(1)
    means = rows.nanmean(1)
    noise = (rows - means[:, None]).square().nansum(1) / (many - 1)
    return [means.var() - (noise / many).mean(), noise.mean()]


def decompose_float32(effects):
    return decompose_hint([e.float() for e in effects])


def band_hint(values, slopes, low, high, width):
    def bell(z):
        return torch.sigmoid(z) * (1 - torch.sigmoid(z))

    weight = (bell((values - low) / width) - bell((values - high) / width)) / width
    return weight @ slopes / len(values)


def band_numpy(values, slopes, low, high, width):
    v, d = values.numpy()[:, None], slopes.numpy()
    rise, fall = scipy.special.expit((v - low) / width), scipy.special.expit((v - high) / width)
    return np.mean((rise * (1 - rise) - fall * (1 - fall)) / width * d, axis=0)


def band_autodiff(values, slopes, low, high, width):
    """φ(β) to first order, and the derivative of P at β = 1."""

    def p(shift):
        phi = values + slopes @ shift
        return (torch.sigmoid((phi - low) / width) - torch.sigmoid((phi - high) / width)).mean()

    return grad(p)(torch.zeros(slopes.shape[1], dtype=slopes.dtype))


def band_backward(values, slopes, low, high, width):
    phi = values.clone().requires_grad_()
    (torch.sigmoid((phi - low) / width) - torch.sigmoid((phi - high) / width)).mean().backward()
    return slopes.T @ phi.grad


def band_loop(values, slopes, low, high, width):
    total = [0.0] * slopes.shape[1]
    for value, row in zip(values.tolist(), slopes.tolist(), strict=True):
        bells = [1 / (4 * math.cosh((value - edge) / width / 2) ** 2) for edge in (low, high)]
        for i, slope in enumerate(row):
            total[i] += (bells[0] - bells[1]) / width * slope / len(values)
    return total


def band_densities(values, slopes, low, high, width):
    """σ is the distribution function of a logistic variable; its density does the rest."""
    rise = scipy.stats.logistic.pdf(values.numpy(), loc=low, scale=width)
    fall = scipy.stats.logistic.pdf(values.numpy(), loc=high, scale=width)
    return (rise - fall) @ slopes.numpy() / len(values)


def band_complex(values, slopes, low, high, width):
    """By a step into the complex plane, which cancels nothing."""
    v, d, step = values.numpy(), slopes.numpy(), 1e-30

    def p(phi):
        return np.mean(np.tanh((phi - low) / width / 2) - np.tanh((phi - high) / width / 2)) / 2

    return [p(v + 1j * step * d[:, i]).imag / step for i in range(d.shape[1])]


def band_forward(values, slopes, low, high, width):
    def inside(phi):
        return ((phi - low) / width).sigmoid() - ((phi - high) / width).sigmoid()

    each = values[:, None].expand_as(slopes).contiguous()
    return jvp(inside, (each,), (slopes,))[1].mean(dim=0)


def band_float32(values, slopes, low, high, width):
    return band_hint(values.float(), slopes.float(), low, high, width)


def skew_hint(values, slopes):
    c, d = values - values.mean(), slopes - slopes.mean(0)
    m2, m3 = (c**2).mean(), (c**3).mean()
    dm3, dm2 = 3 * (c**2 @ d) / len(c), 2 * (c @ d) / len(c)
    return dm3 / m2**1.5 - 1.5 * m3 * dm2 / m2**2.5


def skew_standardised(values, slopes):
    """With z = (φ − μ)/σ: 3 E[(z² − 1 − skew·z) ∂φ]/σ."""
    v, d = values.numpy(), slopes.numpy()
    z = (v - v.mean()) / v.std()
    return 3 * (z**2 - 1 - np.mean(z**3) * z) @ d / (len(v) * v.std())


def _skewness(phi):
    c = phi - phi.mean()
    return (c**3).mean() / (c**2).mean() ** 1.5


def skew_autodiff(values, slopes):
    shift = torch.zeros(slopes.shape[1], dtype=slopes.dtype)
    return grad(lambda b: _skewness(values + slopes @ b))(shift)


def skew_pulled_back(values, slopes):
    return vjp(_skewness, values)[1](torch.ones_like(values[0]))[0] @ slopes


def skew_forward(values, slopes):
    return [jvp(_skewness, (values,), (column,))[1] for column in slopes.T.contiguous()]


def skew_complex(values, slopes):
    v, d = values.numpy(), slopes.numpy()
    return np.array([_skewness(v + 1e-30j * column).imag / 1e-30 for column in d.T])


def skew_raw_moments(values, slopes):
    """E φ, E φ², E φ³ move; the skewness follows them."""
    s = len(values)
    a, b, c = (float((values**k).mean()) for k in (1, 2, 3))
    da, db, dc = slopes.mean(0), 2 * values @ slopes / s, 3 * values**2 @ slopes / s
    m2, m3 = b - a**2, c - 3 * a * b + 2 * a**3
    dm2 = db - 2 * a * da
    dm3 = dc - 3 * b * da - 3 * a * db + 6 * a**2 * da
    return m2**-1.5 * dm3 - 1.5 * m3 * m2**-2.5 * dm2


def skew_loop(values, slopes):
    v = values.tolist()
    s, mu = len(v), statistics.fmean(v)
    m2 = sum((x - mu) ** 2 for x in v) / s
    m3 = sum((x - mu) ** 3 for x in v) / s
    out = []
    for column in slopes.T.tolist():
        mean = statistics.fmean(column)
        dm2 = sum(2 * (x - mu) * (g - mean) for x, g in zip(v, column, strict=True)) / s
        dm3 = sum(3 * (x - mu) ** 2 * (g - mean) for x, g in zip(v, column, strict=True)) / s
        out.append((dm3 * m2 - 1.5 * m3 * dm2) / m2**2.5)
    return out


def skew_library(values, slopes):
    c = values - values.mean()
    m2 = values.var(correction=0)
    dm3 = torch.einsum("s,si->i", 3 * (c**2 - m2), slopes) / len(c)
    return (dm3 - 1.5 * (c**3).mean() / m2 * variance_influence(values, slopes)) / m2**1.5


_rho, _k = sp.symbols("rho k", positive=True)
_rhop, _kp = sp.symbols("rho k")
_sigma = sp.Symbol("sigma", positive=True)
_noise = sp.Matrix([[1, _rho * _k], [_rho * _k, _k**2]]) * _sigma**2
_pair, _seeds = sp.Matrix([-1, 1]), sp.Symbol("S", positive=True)
_B, _W, _m = sp.symbols("B W m", positive=True)
_Bp, _Wp, _mp = sp.symbols("B W m")
_run = sp.Matrix([[_B + _W, _B], [_B, _B + _W / _m]])


def seeds_centring(before, after, precision):
    """Quadratic forms in the matrix that takes the mean away."""
    many = len(before)
    centre = (np.eye(many) - np.ones((many, many)) / many) / (many - 1)
    both = np.stack([before.numpy(), after.numpy()])
    c = both @ centre @ both.T / precision**2
    return np.array([[1, -1, -1, 1], [1, 0, 0, 1]]) @ c.ravel()


def seeds_jackknife(before, after, precision):
    """The variance of a mean from the means that leave out one run."""
    many = len(before)

    def of_mean(v):
        without = (v.sum() - v) / (many - 1)
        return (many - 1) / many * ((without - v.mean()) ** 2).sum()

    apart = [of_mean(before), of_mean(after)]
    return [float(many * v / precision**2) for v in (of_mean(after - before), sum(apart))]


def decompose_running(effects):
    """One pass over the runs, means and squares brought up to date."""

    def moments(values):
        mean = squares = 0.0
        for many, v in enumerate(values, start=1):
            new = v - mean
            mean += new / many
            squares += new * (v - mean)
        return mean, squares / (many - 1), many

    rows = [moments(e.tolist()) for e in effects]
    spread = moments([mean for mean, _, _ in rows])[1]
    n = len(rows)
    return spread - sum(v / many for _, v, many in rows) / n, sum(v for _, v, _ in rows) / n


def band_differences(values, slopes, low, high, width):
    """Central differences of each run's share of P, of fourth order."""
    v, h = values.numpy(), 5e-3 * width

    def inside(phi):
        return scipy.special.expit((phi - low) / width) - scipy.special.expit((phi - high) / width)

    near, far = (inside(v + k * h) - inside(v - k * h) for k in (1, 2))
    return slopes.numpy().T @ (8 * near - far) / (12 * h) / v.size


def skew_covariances(values, slopes):
    """3 (Cov(z², ∂φ) − skew · Cov(z, ∂φ))/σ, from covariance matrices."""
    z = (values - values.mean()) / values.std(correction=0)
    stacked = torch.cat([z[None], z[None] ** 2, slopes.T])
    table = torch.cov(stacked, correction=0)
    skew = table[0, 1]  # E z³, as E z = 0
    return 3 * (table[1, 2:] - skew * table[0, 2:]) / values.std(correction=0)


DISTRIBUTIONAL = {
    "distributional.part_a": {
        "hint": seeds_hint,
        "numpy": seeds_numpy,
        "statistics": seeds_statistics,
        "covariance matrix": seeds_covariance,
        "standard errors of the pilot": seeds_standard_errors,
        "two by two": seeds_two_by_two,
        "dot products": seeds_dot,
        "float32": seeds_float32,
        "centring matrix": seeds_centring,
        "jackknife": seeds_jackknife,
    },
    "distributional.part_b": {
        "plain": (1 + _k**2) / (1 + _k**2 - 2 * _rho * _k),
        "no assumptions": (_kp**2 + 1) / (_kp**2 - 2 * _kp * _rhop + 1),
        "one over one less": 1 / (1 - 2 * _rho * _k / (1 + _k**2)),
        "covariance matrix": sp.cancel(_noise.trace() / (_pair.T * _noise * _pair)[0]),
        "sigma cancelled": sp.cancel(
            (_sigma**2 + _k**2 * _sigma**2)
            / (_sigma**2 + _k**2 * _sigma**2 - 2 * _rho * _k * _sigma**2)
        ),
        "divided by k": (_k + 1 / _k) / (_k + 1 / _k - 2 * _rho),
        "square and rest": (1 + _k**2) / ((1 - _k) ** 2 + 2 * _k * (1 - _rho)),
        "floats": (1.0 + _k**2.0) / (1.0 + _k**2 - 2.0 * _rho * _k),
        "solved": sp.solve((1 + _k**2) / _seeds - (1 + _k**2 - 2 * _rho * _k) / 1, _seeds)[0],
        "one and what is more": 1 + 2 * _rho * _k / (1 + _k**2 - 2 * _rho * _k),
    },
    "distributional.part_c": {
        "hint": decompose_hint,
        "numpy": decompose_numpy,
        "statistics": decompose_statistics,
        "standard errors": decompose_standard_errors,
        "products of different runs": decompose_products,
        "pairs": decompose_pairs,
        "flat": decompose_flat,
        "padded": decompose_padded,
        "float32": decompose_float32,
        "running": decompose_running,
    },
    "distributional.part_d": {
        "plain": _B / sp.sqrt((_B + _W) * (_B + _W / _m)),
        "no assumptions": _Bp / sp.sqrt((_Bp + _Wp) * (_Bp + _Wp / _mp)),
        "two reliabilities": sp.sqrt(_B / (_B + _W)) * sp.sqrt(_m * _B / (_m * _B + _W)),
        "one fraction": _B * sp.sqrt(_m) / sp.sqrt((_B + _W) * (_m * _B + _W)),
        "covariance matrix": _run[0, 1] / sp.sqrt(_run[0, 0]) / sp.sqrt(_run[1, 1]),
        "noise to signal": 1 / sp.sqrt((1 + _W / _B) * (1 + _W / _B / _m)),
        "sums of runs": _m * _B / sp.sqrt(_m**2 * _B + _m * _W) / sp.sqrt(_B + _W),
        "floats": _B * ((_B + _W) * (_B + _W / _m)) ** -0.5,
        "logarithms": sp.exp(sp.log(_B) - sp.log(_B + _W) / 2 - sp.log(_B + _W / _m) / 2),
        "expanded root": _B * sp.sqrt(_m / (_m * _B**2 + (_m + 1) * _B * _W + _W**2)),
    },
    "distributional.part_e": {
        "hint": band_hint,
        "numpy": band_numpy,
        "autodiff": band_autodiff,
        "backward": band_backward,
        "loop": band_loop,
        "densities": band_densities,
        "complex step": band_complex,
        "forward": band_forward,
        "float32": band_float32,
        "differences": band_differences,
    },
    "distributional.part_f": {
        "hint": skew_hint,
        "standardised": skew_standardised,
        "autodiff": skew_autodiff,
        "pulled back": skew_pulled_back,
        "forward": skew_forward,
        "complex step": skew_complex,
        "raw moments": skew_raw_moments,
        "loop": skew_loop,
        "library": skew_library,
        "covariances": skew_covariances,
    },
    "distributional.part_g": {
        "plain": "unrolling this run",
        "capital": "Unrolling this run",
        "shouting": "UNROLLING THIS RUN",
        "spaces": "  unrolling  this run ",
        "line break": "unrolling\nthis run",
        "text of numpy": np.str_("unrolling this run"),
    },
    # From the pilot: B = 0.0250 and W = 0.0166.
    "distributional.part_h": {
        "typed": 0.67,
        "float": 0.0250 / math.sqrt((0.0250 + 0.0166) * (0.0250 + 0.0166 / 2)),
        "sympy": (_B / sp.sqrt((_B + _W) * (_B + _W / _m))).subs({_B: 0.0250, _W: 0.0166, _m: 2}),
        "two reliabilities": np.sqrt(0.0250 / 0.0416) * np.sqrt(0.0250 / 0.0333),
        "fraction": Fraction(67, 100),
        "tensor": torch.tensor(0.6713),
        # The pilot alone: two of its runs averaged, against the eight that are not in the average.
        "correlated within the pilot": np.float32(0.703),
    },
}

# --- entangled -----------------------------------------------------------------------------------


def price_hint(influences, counts):
    share = (counts / counts.sum()).to(influences.dtype)
    worst = (-influences).max(1).values.clamp(min=0)
    return torch.where(influences @ share > 0, worst, 0.0)


def price_numpy(influences, counts):
    total = np.average(influences.numpy(), axis=1, weights=counts.numpy())
    return np.where(total > 0, np.maximum(-influences.numpy().min(axis=1), 0), 0)


def price_loop(influences, counts):
    out = []
    for row in influences.tolist():
        total = sum(c * v for c, v in zip(counts.tolist(), row, strict=True))
        out.append(max(0.0, *(-v for v in row)) if total > 0 else 0.0)
    return out


def price_masked(influences, counts):
    out = torch.zeros(len(influences), dtype=influences.dtype)
    harmful = (influences * counts).sum(1) > 0
    out[harmful] = torch.relu(-influences[harmful]).amax(1)
    return out


def price_sorted(influences, counts):
    total = torch.einsum("nk,k->n", influences, counts.to(influences.dtype))
    least = influences.sort(dim=1).values[:, 0]
    return (total > 0) * (least.abs() - least) / 2


def price_removals(influences, counts):
    """The effect of every removal on every class, and on all test images one by one."""
    effects = -influences.numpy()
    images = np.repeat(effects, counts.numpy().astype(int), axis=1)
    helps = images.mean(axis=1) < 0
    return helps * np.clip(effects, 0, None).max(axis=1)


def price_float32(influences, counts):
    return price_hint(influences.float(), counts)


def modes_hint(curvature, slopes, push, damping, cut):
    s, v = torch.linalg.eigh(curvature)
    terms = -(slopes @ v) * (push @ v) / (s + damping)
    return torch.stack([terms[:, s >= cut].sum(1), terms[:, s < cut].sum(1)], dim=1)


def modes_numpy(curvature, slopes, push, damping, cut):
    s, v = np.linalg.eigh(curvature.numpy())
    terms = -(slopes.numpy() @ v) * (v.T @ push.numpy()) / (s + damping)
    return terms @ np.stack([s >= cut, s < cut], axis=1).astype(float)


def modes_projector(curvature, slopes, push, damping, cut):
    """The whole, and what is left of it once ∇φ is projected on the steep modes."""
    s, v = torch.linalg.eigh(curvature)
    steep = v[:, s >= cut]
    damped = curvature + damping * torch.eye(len(s), dtype=s.dtype)
    whole = -slopes @ torch.linalg.solve(damped, push)
    first = -slopes @ torch.linalg.solve(damped, steep @ (steep.T @ push))
    return torch.stack([first, whole - first], 1)


def modes_svd(curvature, slopes, push, damping, cut):
    """Of a symmetric matrix without negative eigenvalues."""
    u, s, _ = torch.linalg.svd(curvature)
    gains = torch.stack([(s >= cut) / (s + damping), (s < cut) / (s + damping)])
    return -torch.einsum("np,pk,ck,qk,q->nc", slopes, u, gains.double(), u, push)


def modes_loop(curvature, slopes, push, damping, cut):
    values, vectors = np.linalg.eigh(curvature.numpy())
    out = np.zeros((len(slopes), 2))
    for k, sigma in enumerate(values):
        v = vectors[:, k]
        for i, slope in enumerate(slopes.numpy()):
            out[i, 0 if sigma >= cut else 1] -= (push.numpy() @ v) * (v @ slope) / (sigma + damping)
    return out


def modes_library(curvature, slopes, push, damping, cut):
    values, terms = groups.by_mode(curvature, slopes, push, damping)
    return (terms * (values >= cut)).sum(1).tolist(), (terms * (values < cut)).sum(1).tolist()


def modes_columns(curvature, slopes, push, damping, cut):
    steep, loose = modes_library(curvature, slopes, push, damping, cut)
    return list(zip(steep, loose, strict=True))


def modes_subsets(curvature, slopes, push, damping, cut):
    c, columns = curvature.numpy(), []
    below = np.nextafter(cut, -np.inf)
    for bounds in ((below, np.inf), (-np.inf, below)):
        s, v = scipy.linalg.eigh(c, subset_by_value=bounds)
        columns.append(-slopes.numpy() @ v @ (v.T @ push.numpy() / (s + damping)))
    return np.stack(columns, axis=-1)


def modes_functions(curvature, slopes, push, damping, cut):
    """Two functions of the matrix."""
    s, v = torch.linalg.eigh(curvature)
    steep = v @ torch.diag((s >= cut) / (s + damping)) @ v.T
    loose = torch.linalg.inv(curvature + damping * torch.eye(len(s)).double()) - steep
    return -torch.stack([slopes @ steep @ push, slopes @ loose @ push], dim=-1)


def group_hint(x, y, rho, group, queries):
    a = x.T @ x + rho * torch.eye(x.shape[1], dtype=x.dtype)
    w = torch.linalg.solve(a, x.T @ y)
    pulls = torch.linalg.solve(a, x[group].T)
    kept = torch.eye(len(group), dtype=x.dtype) - x[group] @ pulls
    return -queries @ pulls @ torch.linalg.solve(kept, y[group] - x[group] @ w)


def group_refitted(x, y, rho, group, queries):
    x, y, queries = x.numpy(), y.numpy(), queries.numpy()
    kept = np.delete(np.arange(len(x)), group.numpy())

    def ridge(x, y):
        return np.linalg.solve(x.T @ x + rho * np.eye(x.shape[1]), x.T @ y)

    return queries @ ridge(x[kept], y[kept]) - queries @ ridge(x, y)


def group_penalty_as_data(x, y, rho, group, queries):
    """The penalty is p more examples, with the label zero."""
    p = x.shape[1]
    more = math.sqrt(rho) * torch.eye(p, dtype=x.dtype)
    x, y = torch.cat([x, more]), torch.cat([y, torch.zeros(p, dtype=y.dtype)])
    return queries @ groups.group_update(x, y, group)


def group_one_by_one(x, y, rho, group, queries):
    """One example after another, the inverse updated by Sherman and Morrison."""
    inverse = torch.linalg.inv(x.T @ x + rho * torch.eye(x.shape[1], dtype=x.dtype))
    w = start = inverse @ (x.T @ y)
    for j in group.tolist():
        pull = inverse @ x[j]
        left = 1 - x[j] @ pull
        w = w - pull * (y[j] - x[j] @ w) / left
        inverse = inverse + torch.outer(pull, pull) / left
    return queries @ (w - start)


def group_newton(x, y, rho, group, queries):
    """The loss without the group is a parabola: one Newton step from w* ends at its minimum."""
    kept = torch.ones(len(x), dtype=x.dtype).index_fill(0, group, 0.0)

    def loss(w, beta):
        return (beta * (y - x @ w) ** 2).sum() / 2 + rho * (w @ w) / 2

    def newton(w, beta):
        w = w.clone().requires_grad_()
        slope = torch.autograd.grad(loss(w, beta), w, create_graph=True)[0]
        bend = [torch.autograd.grad(entry, w, retain_graph=True)[0] for entry in slope]
        return (w - torch.linalg.solve(torch.stack(bend), slope)).detach()

    w = newton(torch.zeros(x.shape[1], dtype=x.dtype), torch.ones_like(kept))
    return queries @ (newton(w, kept) - w)


def group_dual(x, y, rho, group, queries):
    """From inner products of examples alone."""
    kept = [i for i in range(len(x)) if i not in set(group.tolist())]

    def predicted(rows):
        gram = x[rows] @ x[rows].T + rho * torch.eye(len(rows), dtype=x.dtype)
        return queries @ x[rows].T @ torch.linalg.solve(gram, y[rows])

    return predicted(kept) - predicted(list(range(len(x))))


def group_downdated(x, y, rho, group, queries):
    """−(A − X_SᵀX_S)⁻¹ X_Sᵀ r_S, with the residuals of the fit to all."""
    model = linear(x, y, l2=rho)
    zero = torch.zeros(x.shape[1], dtype=x.dtype)
    a = hessian(model, zero)
    w = -torch.linalg.solve(a, gradients(model, zero).sum(0))
    rows = x[group]
    return -queries @ torch.linalg.solve(a - rows.T @ rows, rows.T @ (y[group] - rows @ w))


def group_new_labels(x, y, rho, group, queries):
    """The labels that the fit without the group would give its members change nothing else."""
    a = x.T @ x + rho * torch.eye(x.shape[1], dtype=x.dtype)
    hat = x @ torch.linalg.solve(a, x.T)
    r = y - hat @ y
    block = torch.eye(len(group), dtype=x.dtype) - hat[group][:, group]
    change = torch.zeros_like(y)
    change[group] = -torch.linalg.solve(block, r[group])
    return queries @ torch.linalg.solve(a, x.T @ change)


def group_lstsq(x, y, rho, group, queries):
    p = x.shape[1]
    kept = torch.ones(len(x), dtype=torch.bool)
    kept[group] = False
    more, zeros = rho**0.5 * torch.eye(p, dtype=x.dtype), torch.zeros(p, dtype=x.dtype)
    whole = least_squares(torch.cat([x, more]), torch.cat([y, zeros]))
    rest = least_squares(torch.cat([x[kept], more]), torch.cat([y[kept], zeros]))
    return queries @ rest - queries @ whole


def second_hint(margins, rho, w, query):
    e = torch.exp(-margins * w)
    d1, d2 = -margins * e, margins**2 * e
    h, t = d2.sum() + rho, -(margins**3 * e).sum()
    u = -d1 / h
    bend = torch.outer(d2, u)
    uu = torch.outer(u, u)
    phi = math.exp(-query * w)
    return query**2 * phi * uu + query * phi * (bend + bend.T + t * uu) / h


def second_numpy(margins, rho, w, query):
    m = margins.numpy()
    e = np.exp(-m * w)
    h = rho + m**2 @ e
    u = m * e / h
    mixed = -(m[:, None] + m[None]) * np.outer(u, u) * h + np.outer(u, u) * (m**3 @ e)
    return np.exp(-query * w) * (query**2 * np.outer(u, u) - query * mixed / h)


def second_newton(margins, rho, w, query):
    """Two Newton steps are exact to second order in β; automatic differentiation sees them."""

    def phi(beta):
        at = torch.tensor(w).double()
        for _ in range(2):
            e = beta * torch.exp(-margins * at)
            slope, bend = -(margins * e).sum() + rho * at, (margins**2 * e).sum() + rho
            at = at - slope / bend
        return torch.exp(-query * at)

    return torch.autograd.functional.hessian(phi, torch.ones_like(margins))


def second_of_first(margins, rho, w, query):
    """The influence −φ′L_i′/H at (w, β), whose total derivative in β_j has two terms."""

    def influence(w, beta):
        e = torch.exp(-margins * w)
        h = (beta * margins**2 * e).sum() + rho
        return -query * torch.exp(-query * w) * margins * e / h

    at, ones = torch.tensor(w).double(), torch.ones_like(margins)
    e = torch.exp(-margins * w)
    u = margins * e / ((margins**2 * e).sum() + rho)
    by_w, by_beta = jacfwd(influence, argnums=(0, 1))(at, ones)
    return torch.outer(by_w, u) + by_beta


def second_loop(margins, rho, w, query):
    m = margins.tolist()
    first = [-a * math.exp(-a * w) for a in m]
    second = [a**2 * math.exp(-a * w) for a in m]
    third = -sum(a**3 * math.exp(-a * w) for a in m)
    h = sum(second) + rho
    u = [-s / h for s in first]
    p1, p2 = -query * math.exp(-query * w), query**2 * math.exp(-query * w)
    return [
        [
            p2 * u[i] * u[j] - p1 * (second[i] * u[j] + second[j] * u[i] + third * u[i] * u[j]) / h
            for j in range(len(m))
        ]
        for i in range(len(m))
    ]


def second_simplified(margins, rho, w, query):
    """u_i u_j φ q (q + m_i + m_j − T/H), with T = Σ m³e^{−mw}."""
    e = torch.exp(-margins * w)
    h = rho + (margins**2 * e).sum()
    u = margins * e / h
    bracket = query + margins[:, None] + margins - (margins**3 * e).sum() / h
    sign = query * math.exp(-query * w)
    return sign * torch.outer(u, u) * bracket


def second_float32(margins, rho, w, query):
    return second_hint(margins.float(), rho, w, query)


def shares_hint(value):
    other = (value[:, 1] - value[:, 0]).mean()
    copies = (value[-1, 1] - value[0, 0] - other) / (len(value) - 1)
    return torch.stack([copies, other])


def shares_numpy(value):
    v = value.numpy()
    other = np.mean(v[:, 1] - v[:, 0])
    return (v[-1, 1] - v[0, 0] - other) / (len(v) - 1), other


def shares_orders(value):
    """All orders in which the players may come."""
    k = len(value) - 1
    gains = np.zeros(2)
    orders = set(permutations([0] * k + [1]))
    for order in orders:
        m = present = 0
        for player in order:
            before = value[m, present].item()
            m, present = (m, 1) if player else (m + 1, present)
            gains[player] += value[m, present].item() - before
    return gains / len(orders) / [k, 1]


def shares_library(value):
    k = len(value) - 1

    def v(players):
        return value[len(set(players) - {k}), int(k in players)].item()

    return counterfactuals.shapley(v, k + 1)[[0, k]]


def shares_coalitions(value):
    k = len(value) - 1
    copy = other = 0.0
    for m in range(k + 1):
        weight = math.factorial(m) * math.factorial(k - m) / math.factorial(k + 1)
        other += math.comb(k, m) * weight * (value[m, 1] - value[m, 0])
    for m in range(k):
        for there in (0, 1):
            size = m + there
            weight = math.factorial(size) * math.factorial(k - size) / math.factorial(k + 1)
            gain = value[m + 1, there] - value[m, there]
            copy += math.comb(k - 1, m) * weight * gain
    return [copy, other]


def shares_telescoped(value):
    """Copies before the other at (m, 0), after it at (m, 1); the place of the other is uniform."""
    k = len(value) - 1
    gains = value[1:] - value[:-1]
    weight = torch.arange(1, k + 1, dtype=value.dtype) / (k + 1)
    # Copy number m comes before the other in k + 1 − m of the k + 1 places, after it in m.
    copies = ((1 - weight) * gains[:, 0] + weight * gains[:, 1]).sum() / k
    return torch.tensor([copies, (value[:, 1] - value[:, 0]).sum() / (k + 1)])


def shares_fractions(value):
    exact = [[Fraction(v) for v in row] for row in value.tolist()]
    other = sum(b - a for a, b in exact) / len(exact)
    return (exact[-1][1] - exact[0][0] - other) / (len(exact) - 1), other


def shares_float32(value):
    return shares_hint(value.float())


_ri, _rj, _hi, _hj, _hij = sp.symbols("r_i r_j h_i h_j h_ij")
_real = dict(
    zip((_ri, _rj, _hi, _hj, _hij), sp.symbols("r_i r_j h_i h_j h_ij", real=True), strict=True)
)
_det = (1 - _hi) * (1 - _hj) - _hij**2
_kept = sp.Matrix([[1 - _hi, -_hij], [-_hij, 1 - _hj]])
_both = -(sp.Matrix([[_hi, _hij]]) * _kept.inv() * sp.Matrix([_ri, _rj]))[0]
_alone_i, _alone_j = -_hi * _ri / (1 - _hi), -_hij * _rj / (1 - _hj)
# Once i is gone, j has another residual, another leverage, and another pull at x_i.
_rj_left = _rj + _hij * _ri / (1 - _hi)
_hj_left, _hij_left = _hj + _hij**2 / (1 - _hi), _hij / (1 - _hi)
_solved = sp.solve(
    [
        (1 - _hi) * sp.Symbol("a") - _hij * sp.Symbol("b") - _ri,
        (1 - _hj) * sp.Symbol("b") - _hij * sp.Symbol("a") - _rj,
    ],
    [sp.Symbol("a"), sp.Symbol("b")],
)

_cm, _ck, _ch = sp.symbols("m k h", positive=True)
_cmp, _ckp, _chp = sp.symbols("m k h")
_among = _ch / (1 + (_ck - 1) * _ch)
_share_of_five = (1 - _ch) / (1 - 5 * _ch)
_odds = _ch / (1 - _ch)  # xᵀA⁻¹x where A has none of the copies


def _reached(copies):
    """How far copies of weight one have moved w from the fit without any, in A⁻¹xr of that fit."""
    return copies / (1 + copies * _odds)


def price_argmin(influences, counts):
    """The class that loses most is the one with the least influence."""
    worst = influences.argmin(dim=1, keepdim=True)
    rise = -influences.gather(1, worst)[:, 0]
    weights = torch.softmax(counts.double().log(), 0)
    chosen = (rise > 0) & (torch.mv(influences, weights) > 0)
    return rise * chosen


def price_padded(influences, counts):
    """A class that never changes, so that no rise is a rise of zero."""
    effects = np.pad(-influences.numpy(), ((0, 0), (1, 0)))
    total = effects[:, 1:] @ counts.numpy()
    return np.heaviside(-total, 0) * effects.max(axis=1)


def price_class_by_class(influences, counts):
    worst, total = torch.zeros(len(influences)).double(), torch.zeros(len(influences)).double()
    for column, many in zip(influences.unbind(1), counts.tolist(), strict=True):
        worst = torch.maximum(worst, -column)
        total = total + many * column
    return [w if t > 0 else 0 for w, t in zip(worst.tolist(), total.tolist(), strict=True)]


def modes_whitened(curvature, slopes, push, damping, cut):
    """Coordinates in which the damped curvature is the identity."""
    s, v = torch.linalg.eigh(curvature)
    white = v * (s + damping).rsqrt()
    a, b = slopes @ white, push @ white
    return -torch.stack([a[:, keep] @ b[keep] for keep in (s >= cut, s < cut)]).T


def modes_rank_one(curvature, slopes, push, damping, cut):
    """Two inverses, put together mode by mode."""
    values, vectors = scipy.linalg.eigh(curvature.numpy())
    inverses = np.zeros((2, *curvature.shape))
    for sigma, v in zip(values, vectors.T, strict=True):
        inverses[int(sigma < cut)] += np.outer(v, v) / (sigma + damping)
    return -np.einsum("np,cpq,q->nc", slopes.numpy(), inverses, push.numpy())


def group_dummies(x, y, rho, group, queries):
    """A free constant for each member takes it out of the fit."""
    n, p = x.shape
    dummies = np.zeros((n, len(group)))
    dummies[group.numpy(), np.arange(len(group))] = 1

    def fitted(design):
        penalty = np.diag([rho] * p + [0.0] * (design.shape[1] - p))
        return np.linalg.solve(design.T @ design + penalty, design.T @ y.numpy())[:p]

    x = x.numpy()
    return queries.numpy() @ (fitted(np.hstack([x, dummies])) - fitted(x))


def second_refitted(margins, rho, w, query):
    """Second differences of φ at refitted minima, and a Richardson step."""
    m = margins.numpy()
    n = len(m)

    def phi(beta):
        at = w
        for _ in range(8):
            e = beta * np.exp(-m * at)
            at += (m @ e - rho * at) / (m**2 @ e + rho)
        return np.exp(-query * at)

    def differences(h):
        out = np.zeros((n, n))
        for i in range(n):
            for j in range(i + 1):
                a, b = h * np.eye(n)[i], h * np.eye(n)[j]
                corners = phi(1 + a + b) - phi(1 + a - b) - phi(1 - a + b) + phi(1 - a - b)
                out[i, j] = out[j, i] = corners / (4 * h**2)
        return out

    h = 8e-3
    coarse, fine, finest = (differences(h / k) for k in (1, 2, 4))
    better, best = (4 * fine - coarse) / 3, (4 * finest - fine) / 3
    return (16 * best - better) / 15


def second_polarised(margins, rho, w, query):
    """From second derivatives along single directions, which are scalars."""
    e = torch.exp(-margins * w)
    bend = (margins**2 * e).sum() + rho
    third = -(margins**3 * e).sum()

    def along(d):
        speed = (margins * e) @ d / bend
        turn = -(2 * (margins**2 * e) @ d * speed + third * speed**2) / bend
        return (query**2 * speed**2 - query * turn) * math.exp(-query * w)

    units = torch.eye(len(margins), dtype=margins.dtype)
    return [[float(along(a + b) - along(a - b)) / 4 for a in units] for b in units]


def second_lagrangian(margins, rho, w, query):
    """The Hessian of φ − λF in (w, β) with λ = φ′/H, along the curve of minima."""
    n = len(margins)
    e = torch.exp(-margins * w)
    bend = (margins**2 * e).sum() + rho
    multiplier = -query * math.exp(-query * w) / bend

    def lagrangian(z):
        at, beta = z[0], z[1:]
        slope = rho * at - (beta * margins * torch.exp(-margins * at)).sum()
        return torch.exp(-query * at) - multiplier * slope

    start = torch.cat([torch.tensor([w], dtype=margins.dtype), torch.ones(n, dtype=margins.dtype)])
    along = torch.cat([(margins * e / bend)[None], torch.eye(n, dtype=margins.dtype)])
    return along.T @ torch.func.hessian(lagrangian)(start) @ along


def shares_potential(value):
    """Hart and Mas-Colell: shares are differences of a potential, which a recursion gives."""
    v = (value - value[0, 0]).tolist()
    potential = {(0, 0): 0.0}
    for copies in range(len(v)):
        for there in (0, 1):
            if copies + there:
                before = copies * potential.get((copies - 1, there), 0.0)
                before += there * potential.get((copies, 0), 0.0)
                potential[copies, there] = (v[copies][there] + before) / (copies + there)
    k = len(v) - 1
    return potential[k, 1] - potential[k - 1, 1], potential[k, 1] - potential[k, 0]


def shares_integral(value):
    """Owen: everyone comes at a uniform time in [0, 1]; the mean gain of one who comes at x."""
    v, k = value.numpy(), len(value) - 1
    nodes, weights = np.polynomial.legendre.leggauss(k + 1)
    x = (1 + nodes)[:, None] / 2
    here, rest = (scipy.stats.binom.pmf(np.arange(many + 1), many, x) for many in (k, k - 1))
    other = here @ (v[:, 1] - v[:, 0])
    gains = np.diff(v, axis=0)
    copies = (1 - x[:, 0]) * (rest @ gains[:, 0]) + x[:, 0] * (rest @ gains[:, 1])
    return np.array([weights @ copies, weights @ other]) / 2


_copies_at = sp.Symbol("copies")
_one_parameter = _copies_at * _ch / (1 - _ch + _copies_at * _ch)  # labels 1, the others pull to 0
_moved = [_one_parameter.subs(_copies_at, many) for many in (_ck, _ck - _cm)]
_kept_bordered = sp.Matrix([[0, _hi, _hij], [_ri, 1 - _hi, -_hij], [_rj, -_hij, 1 - _hj]])
# Once j is gone, i has another residual and another leverage.
_ri_left, _hi_left = _ri + _hij * _rj / (1 - _hj), _hi + _hij**2 / (1 - _hj)


ENTANGLED = {
    "entangled.part_a": {
        "hint": price_hint,
        "numpy": price_numpy,
        "loop": price_loop,
        "masked": price_masked,
        "sorted": price_sorted,
        "removals": price_removals,
        "float32": price_float32,
        "argmin": price_argmin,
        "padded": price_padded,
        "class by class": price_class_by_class,
    },
    "entangled.part_b": {
        "hint": modes_hint,
        "numpy": modes_numpy,
        "projector": modes_projector,
        "svd": modes_svd,
        "loop": modes_loop,
        "library": modes_columns,
        "subsets": modes_subsets,
        "functions of a matrix": modes_functions,
        "whitened": modes_whitened,
        "rank one": modes_rank_one,
    },
    "entangled.part_c": {
        "hint": group_hint,
        "refitted": group_refitted,
        "penalty as data": group_penalty_as_data,
        "one by one": group_one_by_one,
        "newton": group_newton,
        "dual": group_dual,
        "downdated": group_downdated,
        "new labels": group_new_labels,
        "least squares": group_lstsq,
        "dummies": group_dummies,
    },
    "entangled.part_d": {
        "hint": -(_hi * ((1 - _hj) * _ri + _hij * _rj) + _hij * (_hij * _ri + (1 - _hi) * _rj))
        / _det
        - _alone_i
        - _alone_j,
        "inverse by sympy": _both - _alone_i - _alone_j,
        "real symbols": (_both - _alone_i - _alone_j).subs(_real),
        "deleted residuals": (_ri - ((1 - _hj) * _ri + _hij * _rj) / _det)
        - (_ri - _ri / (1 - _hi))
        - _alone_j,
        "i, then j": -_hij_left * _rj_left / (1 - _hj_left) - _alone_j,
        "solved": _ri - _solved[sp.Symbol("a")] - _alone_i - _alone_j,
        "factored": sp.factor(_both - _alone_i - _alone_j),
        "by what one leaves of the other": -_hij * (_hij * _ri / (1 - _hi) + _rj) / _det
        + _hij * _rj / (1 - _hj),
        "bordered determinant": _kept_bordered.det() / _det - _alone_i - _alone_j,
        "j, then i": -_hi_left * _ri_left / (1 - _hi_left) - _alone_i,
    },
    "entangled.part_e": {
        "plain": _cm * (1 - _ch) / (_ck * (1 + (_ck - 1 - _cm) * _ch)),
        "no assumptions": _cmp * (1 - _chp) / (_ckp * (1 - _chp + (_ckp - _cmp) * _chp)),
        "hint": _cm * (1 - _ck * _among) / (_ck * (1 - _cm * _among)),
        "from the fit without": 1 - _reached(_ck - _cm) / _reached(_ck),
        "integers": sp.Symbol("m", integer=True)
        * (1 - _ch)
        / (_ck - _ck * _ch * (sp.Symbol("m", integer=True) + 1 - _ck)),
        "odds": _cm / (_ck * (1 + (_ck - _cm) * _odds)),
        "one fraction": sp.together(1 - _reached(_ck - _cm) / _reached(_ck)),
        "floats": 1.0 * _cm * (1.0 - _ch) / _ck / (1.0 + (_ck - 1.0 - _cm) * _ch),
        "less what stays": 1
        - (_ck - _cm) * (1 + (_ck - 1) * _ch) / _ck / (1 + (_ck - _cm - 1) * _ch),
        "one parameter": (_moved[0] - _moved[1]) / _moved[0],
    },
    # The five leverages: 0.122, 0.129, 0.136, 0.144, 0.155.
    "entangled.part_f": {
        "middle": (1 - 0.136) / (1 - 5 * 0.136),
        "mean": (1 - 0.1373) / (1 - 5 * 0.1373),
        "sum of the five": (1 - 0.686 / 5) / (1 - 0.686),
        "rounded": 2.75,
        "fraction": Fraction(863, 1000) / (1 - 5 * Fraction(137, 1000)),
        "sympy": _share_of_five.subs(_ch, sp.Rational(137, 1000)),
        "tensor": torch.tensor(0.863) / torch.tensor(0.315),
        "numpy": np.float64(0.1373 / (1 - 0.6864)) / np.mean(0.1373 / (1 - 0.1373)),
    },
    "entangled.part_g": {
        "plain": "synergy, h_ij < 0",
        "capital": "Synergy, h_ij < 0",
        "shouting": "SYNERGY, H_IJ < 0",
        "spaces": "  synergy,   h_ij < 0 ",
        "line break": "synergy,\nh_ij < 0",
        "text of numpy": np.str_("synergy, h_ij < 0"),
    },
    "entangled.part_h": {
        "hint": second_hint,
        "numpy": second_numpy,
        "newton": second_newton,
        "of the first": second_of_first,
        "loop": second_loop,
        "simplified": second_simplified,
        "float32": second_float32,
        "refitted": second_refitted,
        "polarised": second_polarised,
        "lagrangian": second_lagrangian,
    },
    "entangled.part_i": {
        "hint": shares_hint,
        "numpy": shares_numpy,
        "all orders": shares_orders,
        "library": shares_library,
        "coalitions": shares_coalitions,
        "telescoped": shares_telescoped,
        "fractions": shares_fractions,
        "float32": shares_float32,
        "potential": shares_potential,
        "integral": shares_integral,
    },
}
