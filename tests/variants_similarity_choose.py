"""Correct answers to the exercises on similarity and on choosing: {part id: {name: answer}}.

Derived from the questions and their hints, without a look at the reference of any part.
"""

import math
import statistics
from collections import OrderedDict
from decimal import Decimal
from fractions import Fraction
from itertools import combinations, pairwise

import numpy as np
import scipy.integrate
import scipy.linalg
import scipy.stats
import sympy as sp
import torch
from scipy.spatial import distance
from torch.func import grad, jacrev, vmap

from lib.evaluation import lds, predicted_effects, reliability
from lib.models import cross_entropy
from lib.objective import Objective, gradients
from lib.training import cosine

# --- similarity ----------------------------------------------------------------------------------


def _with_one(a):
    return torch.cat([a, torch.ones(*a.shape[:-1], 1, dtype=a.dtype)], dim=-1)


def layer_hint(weight, a, y, query, label):
    def error(a, y):
        p = (a @ weight[:, :-1].T + weight[:, -1]).softmax(-1)
        return p - torch.nn.functional.one_hot(torch.as_tensor(y), len(weight))

    return error(a, y) @ error(query, label) * (a @ query + 1)


def layer_outer(weight, a, y, query, label):
    """The gradients themselves, flattened, as outer products."""

    def slope(a, y):
        a = _with_one(a)
        error = torch.softmax(weight @ a, 0)
        error[y] -= 1
        return torch.outer(error, a).flatten()

    other = slope(query, int(label))
    return torch.stack([slope(a[i], y[i]) @ other for i in range(len(a))])


def layer_autodiff(weight, a, y, query, label):
    def loss(weight, a, y):
        return cross_entropy(weight @ _with_one(a), y)

    slopes = vmap(grad(loss), (None, 0, 0))(weight, a, y)
    return (slopes * grad(loss)(weight, query, torch.tensor(int(label)))).sum((1, 2))


def layer_backward(weight, a, y, query, label):
    linear = torch.nn.Linear(weight.shape[1] - 1, len(weight), dtype=weight.dtype)
    linear.weight.data, linear.bias.data = weight[:, :-1].clone(), weight[:, -1].clone()

    def slope(a, y):
        linear.zero_grad()
        torch.nn.functional.cross_entropy(linear(a)[None], torch.tensor([int(y)])).backward()
        return linear.weight.grad.clone(), linear.bias.grad.clone()

    w_q, b_q = slope(query, label)
    found = []
    for one, answer in zip(a, y, strict=True):
        w_i, b_i = slope(one, answer)
        found.append((w_i * w_q).sum() + b_i @ b_q)
    return found


def layer_numpy(weight, a, y, query, label):
    weight, a, y, query = weight.numpy(), a.numpy(), y.numpy(), query.numpy()
    a, query = np.c_[a, np.ones(len(a))], np.r_[query, 1]
    rows = np.vstack([a, query])
    p = np.exp(rows @ weight.T)
    p /= p.sum(1, keepdims=True)
    p[np.arange(len(rows)), np.r_[y, int(label)]] -= 1
    return np.einsum("ic,c,ih,h->i", p[:-1], p[-1], a, query)


def layer_lists(weight, a, y, query, label):
    def error(a, y):
        logits = [sum(u * v for u, v in zip(row, [*a, 1.0], strict=True)) for row in weight]
        top = max(logits)
        odds = [math.exp(v - top) for v in logits]
        return [o / sum(odds) - (k == y) for k, o in enumerate(odds)]

    weight, query, there = weight.tolist(), query.tolist(), int(label)
    missing = error(query, there)
    return [
        math.fsum(u * v for u, v in zip(error(b, c), missing, strict=True))
        * (1 + math.fsum(u * v for u, v in zip(b, query, strict=True)))
        for b, c in zip(a.tolist(), y.tolist(), strict=True)
    ]


def layer_directional(weight, a, y, query, label):
    """As the derivative of every loss along the query's gradient."""

    def loss(weight, a, y):
        logits = a @ weight[:, :-1].T + weight[:, -1]
        return torch.nn.functional.cross_entropy(logits, y, reduction="none")

    label = torch.tensor([int(label)])
    direction = grad(lambda weight: loss(weight, query[None], label)[0])(weight)
    return torch.func.jvp(lambda weight: loss(weight, a, y), (weight,), (direction,))[1]


def layer_library(weight, a, y, query, label):
    shape = weight.shape
    made = [
        Objective(lambda w, x: w.view(shape) @ x, cross_entropy, _with_one(rows), labels)
        for rows, labels in ((a, y), (query[None], torch.tensor([int(label)])))
    ]
    both = [gradients(one, weight.flatten()) for one in made]
    return (both[0] @ both[1].T)[:, 0]


def layer_expanded(weight, a, y, query, label):
    """Σ p p' − p'_y − p_y' + [y = y'], and the embeddings' product in two."""
    p = torch.softmax(torch.addmm(weight[:, -1], a, weight[:, :-1].T), 1)
    p_q = torch.softmax(weight[:, :-1] @ query + weight[:, -1], 0)
    errors = p @ p_q - p_q[y] - p[:, int(label)] + (y == label)
    return errors * (a @ query) + errors


def layer_float32(weight, a, y, query, label):
    return layer_hint(weight.float(), a.float(), y, query.float(), label)


_m, _plain_m, _ell, _p, _z = sp.Symbol("m", real=True), sp.Symbol("m"), *sp.symbols("ell p z")
_p_of_m = sp.solve(sp.Eq(sp.exp(_m), _p / (1 - _p)), _p)[0]


def trak_hint(slopes, residuals, query_slopes, query_residuals, project, damping):
    a, b = slopes @ project, query_slopes @ project
    kernel = a.T @ a + damping * torch.eye(a.shape[1], dtype=a.dtype)
    return -residuals[:, None] * (a @ torch.linalg.solve(kernel, b.T)) * query_residuals


def trak_gradients(slopes, residuals, query_slopes, query_residuals, project, damping):
    """As an influence: −∇ℓ_qᵀ K⁻¹ ∇L_i with projected loss gradients."""
    pulls = -(residuals[:, None] * slopes) @ project
    pushes = -(query_residuals[:, None] * query_slopes) @ project
    kernel = project.T @ slopes.T @ slopes @ project + damping * torch.eye(project.shape[1])
    return (-pushes @ torch.linalg.inv(kernel) @ pulls.T).T


def trak_loop(slopes, residuals, query_slopes, query_residuals, project, damping):
    a = [project.T @ s for s in slopes]
    kernel = sum(torch.outer(v, v) for v in a) + damping * torch.eye(len(a[0]), dtype=a[0].dtype)
    found = torch.zeros(len(slopes), len(query_slopes), dtype=slopes.dtype)
    for q, s in enumerate(query_slopes):
        solved = torch.linalg.solve(kernel, project.T @ s)
        for i, v in enumerate(a):
            found[i, q] = -residuals[i] * query_residuals[q] * (v @ solved)
    return found


def trak_numpy(slopes, residuals, query_slopes, query_residuals, project, damping):
    j, r, k, s, p = (t.numpy() for t in (slopes, residuals, query_slopes, query_residuals, project))
    a = j @ p
    inverse = np.linalg.inv(a.T @ a + damping * np.identity(p.shape[1]))
    return np.einsum("i,ia,ab,qb,q->iq", -r, a, inverse, k @ p, s)


def trak_woodbury(slopes, residuals, query_slopes, query_residuals, project, damping):
    """a (aᵀa + λI)⁻¹ = (aaᵀ + λI)⁻¹ a: the system of the examples."""
    a, b = slopes @ project, query_slopes @ project
    gram = a @ a.T + damping * torch.eye(len(a), dtype=a.dtype)
    return -torch.outer(residuals, query_residuals) * torch.linalg.solve(gram, a @ b.T)


def trak_svd(slopes, residuals, query_slopes, query_residuals, project, damping):
    u, sigma, v = torch.linalg.svd(slopes @ project, full_matrices=False)
    filtered = u * (sigma / (sigma**2 + damping))
    return -residuals[:, None] * (filtered @ v @ (query_slopes @ project).T) * query_residuals


def trak_ridge(slopes, residuals, query_slopes, query_residuals, project, damping):
    """Least squares with rows √λ I appended, one right-hand side an example."""
    a, b = slopes @ project, query_slopes @ project
    d = a.shape[1]
    tall = torch.cat([a, damping**0.5 * torch.eye(d, dtype=a.dtype)])
    units = torch.eye(len(tall), dtype=a.dtype)[:, : len(a)]
    moved = torch.linalg.lstsq(tall, units).solution * residuals  # (d, n): with r_i f_i's pull
    return -(b @ moved * query_residuals[:, None]).T


def trak_retrained(slopes, residuals, query_slopes, query_residuals, project, damping):
    """By differentiating the fit of a linear model in the projected slopes in its weights β."""
    a, b = slopes @ project, query_slopes @ project
    identity = damping * torch.eye(a.shape[1], dtype=a.dtype)
    kernel = a.T @ a + identity

    def losses(beta):
        moved = torch.linalg.solve(kernel, a.T @ ((beta - 1) * residuals))
        return 0.5 * (query_residuals - b @ moved) ** 2

    return jacrev(losses)(torch.ones_like(residuals)).T


def trak_lists(slopes, residuals, query_slopes, query_residuals, project, damping):
    return trak_hint(slopes, residuals, query_slopes, query_residuals, project, damping).tolist()


def trak_float32(slopes, residuals, query_slopes, query_residuals, project, damping):
    given = (t.float() for t in (slopes, residuals, query_slopes, query_residuals, project))
    return trak_woodbury(*given, damping)


_A, _B, _s, _q, _d = sp.symbols("A B s q d")
_Ap, _Bp, _sp_, _qp, _dp = sp.symbols("A B s q d", positive=True)


def _enumerated():
    """Coefficients of AB, s² and q over d, from three vectors and all signs."""
    x, y, z = sp.symbols("x y z")
    equations = []
    for a, b in (((1, 2), (3, 1)), ((1, 0), (0, 1)), ((1, 1), (1, -3))):
        dots = [
            (a[0] + u * a[1]) * (b[0] + u * b[1]) for u in (1, -1)
        ]  # a common sign plays no part
        mean = sp.Rational(sum(dots), 2)
        variance = sum((v - mean) ** 2 for v in dots) / 2
        ab = sum(v * v for v in a) * sum(v * v for v in b)
        dot = sum(u * v for u, v in zip(a, b, strict=True))
        both = sum(u * u * v * v for u, v in zip(a, b, strict=True))
        equations.append(x * ab + y * dot**2 + z * both - variance)
    found = sp.solve(equations, [x, y, z], dict=True)[0]
    return (found[x] * _A * _B + found[y] * _s**2 + found[z] * _q) / _d


_s1, _s2, _lam = sp.symbols("s1 s2 lambda")
_t = sp.Symbol("t")
_s1p, _s2p, _lamp = sp.symbols("s1 s2 lambda", positive=True)


def _rotated(angle):
    """The hint's example, in other axes."""
    turn = np.array([[math.cos(angle), -math.sin(angle)], [math.sin(angle), math.cos(angle)]])
    g_p, g_q, slope = (turn @ v for v in ([3.0, -1.0], [0.1, 1.0], [3.0, 1.0]))
    return g_p, g_q, slope, turn @ np.diag([1.0, 0.1]) @ turn.T


def _by_the_kernel():
    """From influences that are wanted: g = −C·(…) with slopes chosen afterwards."""
    curvature = torch.tensor([[4.0, 1.0], [1.0, 0.5]], dtype=torch.float64)
    slope = torch.tensor([1.0, 1.0], dtype=torch.float64)
    pull = torch.linalg.solve(curvature, slope)  # (−0.5, 3): influence is −pull·g
    assert pull[0] < 0 < pull[1]
    return torch.tensor([1.0, 0.1]).double(), torch.tensor([0.0, 1.0]).double(), slope, curvature


def _searched():
    """The first of many random examples that has the properties."""
    rng = np.random.default_rng(3)
    while True:
        p, q, slope = rng.normal(size=(3, 2))
        root = rng.normal(size=(2, 2))
        c = root @ root.T
        near = [v @ slope / np.linalg.norm(v) / np.linalg.norm(slope) for v in (p, q)]
        pulls = [-slope @ np.linalg.inv(c) @ v for v in (p, q)]
        enough = near[0] > near[1] + 0.1 > 0.2 and np.linalg.cond(c) < 1e3
        if enough and pulls[0] > 0.1 and -pulls[1] > pulls[0] + 0.1:
            return p, q, slope, c


def _by_cholesky():
    """In the metric's own coordinates L⁻¹g the examples are drawn as they should be."""
    root = torch.tensor([[1.0, 0.0], [3.0, 1.0]], dtype=torch.float64)
    slope = root @ torch.tensor([1.0, 0.0], dtype=torch.float64)
    p = root @ torch.tensor([-0.1, 1.0], dtype=torch.float64)
    q = root @ torch.tensor([1.0, -2.5], dtype=torch.float64)
    return p, q, slope, root @ root.T


_m4 = sp.Symbol("m4")


def _by_recursion():
    """(C + λI)⁻¹ = (I − C(C + λI)⁻¹)/λ, put into itself: coefficients of the powers of C."""
    inverse = {}
    for _ in range(3):
        inverse = {0: 1 / _lam, **{k + 1: -v / _lam for k, v in inverse.items()}}
    return -inverse[1] * _s1 - inverse[2] * _s2


SIMILARITY = {
    "similarity.part_a": {
        "hint": layer_hint,
        "outer products": layer_outer,
        "autodiff": layer_autodiff,
        "backward": layer_backward,
        "numpy": layer_numpy,
        "lists": layer_lists,
        "directional derivative": layer_directional,
        "library": layer_library,
        "expanded": layer_expanded,
        "float32": layer_float32,
    },
    "similarity.part_b": {
        "plain": "bc",
        "other order": "cb",
        "capitals": "BC",
        "spaces": " b c ",
        "comma": "b, c",
        "twice": "bcb",
    },
    "similarity.part_c": {
        "plain": "ce",
        "other order": "ec",
        "capitals": "CE",
        "comma": "c,e",
        "newline": "c\ne\n",
    },
    "similarity.part_d": {
        "plain": -1 / (1 + sp.exp(_m)),
        "other symbol": -1 / (1 + sp.exp(_plain_m)),
        "minus what is missing": sp.exp(_m) / (1 + sp.exp(_m)) - 1,
        "derivative": sp.diff(sp.log(1 + sp.exp(-_m)), _m),
        "chain rule": sp.diff(-sp.log(_p_of_m), _m),
        "both in p": (sp.diff(-sp.log(_p), _p) / sp.diff(sp.log(_p / (1 - _p)), _p)).subs(
            _p, 1 / (1 + sp.exp(-_m))
        ),
        "tanh": (sp.tanh(_m / 2) - 1) / 2,
        "negative exponent": -sp.exp(-_m) / (1 + sp.exp(-_m)),
        "cosh": -sp.exp(-_m / 2) / (2 * sp.cosh(_m / 2)),
        "floats": 1.0 / (1.0 + sp.exp(-_m)) - 1.0,
        "unevaluated derivative": sp.Derivative(sp.log(1 + sp.exp(-_m)), _m),
    },
    "similarity.part_e": {
        "hint": trak_hint,
        "gradients": trak_gradients,
        "loop": trak_loop,
        "numpy": trak_numpy,
        "system of the examples": trak_woodbury,
        "svd": trak_svd,
        "ridge": trak_ridge,
        "fitted": trak_retrained,
        "lists": trak_lists,
        "float32": trak_float32,
    },
    "similarity.part_f": {
        "plain": (_A * _B + _s**2 - 2 * _q) / _d,
        "second moment less square": (_A * _B + 2 * _s**2 - 2 * _q) / _d - _s**2 / _d,
        "gaussian less kurtosis": (_A * _B + _s**2) / _d - 2 * _q / _d,
        "positive symbols": (_Ap * _Bp + _sp_**2 - 2 * _qp) / _dp,
        "one column, d times": _d * (_A * _B + _s**2 - 2 * _q) / _d**2,
        "pairs of different indices": ((_A * _B - _q) + (_s**2 - _q)) / _d,
        "solved from examples": _enumerated(),
        "floats": (1.0 * _A * _B + _s**2.0 - 2.0 * _q) / _d,
        "any fourth moment": ((_A * _B + 2 * _s**2 + (_m4 - 3) * _q - _s**2) / _d).subs(_m4, 1),
        "by lengths and cosines": _A * _B / _d * (1 + _s**2 / (_A * _B) * (1 - 2 * _q / _s**2)),
    },
    "similarity.part_g": {
        "hint": ([3.0, -1.0], [0.0, 1.0], [3.0, 1.0], [[1.0, 0.0], [0.0, 0.1]]),
        "tensors": _by_the_kernel(),
        "arrays": _rotated(0.7),
        "another turn": _rotated(-2.0),
        "integers": ((3, -1), (1, 9), (3, 1), ((10, 0), (0, 1))),
        "list, float32": [
            torch.tensor([5.0, -1.0]),
            torch.tensor([0.2, 3.0]),
            torch.tensor([5.0, 1.0]),
            torch.tensor([[30.0, 0.0], [0.0, 1.0]]),
        ],
        "single precision, turned": [torch.from_numpy(v).float() for v in _rotated(1.1)],
        "sign of the slope": ([-3.0, 1.0], [0.0, -1.0], [-3.0, -1.0], np.diag([1.0, 0.1])),
        "searched": _searched(),
        "cholesky": _by_cholesky(),
    },
    "similarity.part_h": {
        "plain": _s1 / _lam**2 - _s2 / _lam**3,
        "one fraction": (_lam * _s1 - _s2) / _lam**3,
        "assumptions": _s1p * _lamp**-2 - _s2p * _lamp**-3,
        "in one over lambda": sp.expand(_t**2 * (_s1 - _t * _s2)).subs(_t, 1 / _lam),
        "geometric": -sum((-1) ** k * s / _lam ** (k + 1) for k, s in ((1, _s1), (2, _s2))),
        "taylor": sum(
            sp.diff(-_t / (1 + _t * _z), _t, k).subs(_t, 0)
            / sp.factorial(k)
            / _lam**k
            * {2: _s1 / _z, 3: _s2 / _z**2}[k]
            for k in (2, 3)
        ),
        "floats": 1.0 * _s1 / _lam**2.0 - _s2 / _lam**3.0,
        "horner": (_s1 - _s2 / _lam) / _lam / _lam,
        "derivatives": -_s1 * sp.diff(1 / _lam, _lam) - _s2 * sp.diff(1 / _lam, _lam, 2) / 2,
        "recursion": _by_recursion(),
    },
    "similarity.part_i": {
        "plain": "larger",
        "capital": "Larger",
        "capitals": "LARGER",
        "spaces": "  larger ",
        "newline": "larger\n",
    },
}

# --- choose --------------------------------------------------------------------------------------


def score_hint(influences, beta, outcomes):
    def ranks(v):
        below = (v[None] < v[:, None]).sum(1)
        return below + ((v[None] == v[:, None]).sum(1) + 1) / 2

    predicted = (beta - 1).to(influences.dtype) @ influences
    a = ranks(predicted).double()
    b = ranks(outcomes).double()
    a, b = a - a.mean(0), b - b.mean(0)
    return ((a * b).sum(0) / ((a**2).sum(0) * (b**2).sum(0)).sqrt()).mean()


def score_scipy(influences, beta, outcomes):
    predicted = (beta.numpy() - 1) @ influences.numpy()
    columns = zip(predicted.T, outcomes.numpy().T, strict=True)
    return np.mean([scipy.stats.spearmanr(a, b).statistic for a, b in columns])


def score_lists(influences, beta, outcomes):
    def ranks(values):
        return [sum(v < u for v in values) + (sum(v == u for v in values) + 1) / 2 for u in values]

    found = []
    for q in range(influences.shape[1]):
        predicted = [
            sum((b - 1) * i for b, i in zip(row, influences[:, q].tolist(), strict=True))
            for row in beta.tolist()
        ]
        found.append(statistics.correlation(ranks(predicted), ranks(outcomes[:, q].tolist())))
    return statistics.fmean(found)


def score_sorted(influences, beta, outcomes):
    """Ranks by sorting, then a mean over each run of equal values."""

    def ranks(values):
        order = np.argsort(values, kind="stable")
        values = values[order]
        starts = [0, *(k for k in range(1, len(values)) if values[k] != values[k - 1])]
        out = np.empty(len(values))
        for first, last in pairwise([*starts, len(values)]):
            out[order[first:last]] = (first + 1 + last) / 2
        return out

    predicted = (beta.numpy() - 1) @ influences.numpy()
    outcomes = outcomes.numpy()
    return sum(
        np.corrcoef(ranks(predicted[:, q]), ranks(outcomes[:, q]))[0, 1]
        for q in range(outcomes.shape[1])
    ) / len(outcomes.T)


def score_signs(influences, beta, outcomes):
    """A centred rank is half the sum of the signs of the differences."""
    predicted = (beta - 1) @ influences

    def centred(v):
        return torch.sign(v[:, None] - v[None]).sum(1)

    return torch.nn.functional.cosine_similarity(
        centred(predicted), centred(outcomes), dim=0
    ).mean()


def score_unique(influences, beta, outcomes):
    def ranks(column):
        _, where, count = np.unique(column, return_inverse=True, return_counts=True)
        return (np.cumsum(count) - (count - 1) / 2)[where]

    predicted = ((beta - 1) @ influences).numpy()
    found = []
    for a, b in zip(predicted.T, outcomes.numpy().T, strict=True):
        a, b = ranks(a), ranks(b)
        found.append(np.cov(a, b)[0, 1] / (a.std(ddof=1) * b.std(ddof=1)))
    return float(np.mean(found))


def score_library(influences, beta, outcomes):
    predicted = predicted_effects(influences, beta)
    return lds(predicted, outcomes, np.random.default_rng(0), resamples=2).value


_alpha, _seeds, _c = sp.symbols("alpha s c", positive=True)
_plain = sp.symbols("alpha s c")
_many, _tau, _nu = sp.symbols("many tau nu", positive=True)
_noise = sp.solve(sp.Eq(_alpha, 1 / (1 + _nu / _seeds)), _nu)[0]
_ceiling = sp.solve(sp.Eq(_c**2, _many * _alpha / (_seeds + (_many - _seeds) * _alpha)), _many)[0]


def corrected_hint(correlations, outcomes):
    seeds, m, _ = outcomes.shape
    rest = outcomes - outcomes.mean(0) - outcomes.mean(1, keepdim=True) + outcomes.mean((0, 1))
    square = (rest**2).sum((0, 1)) / ((seeds - 1) * (m - 1))
    alpha = 1 - square / (seeds * outcomes.mean(0).var(0))
    return (correlations / alpha.sqrt()).mean()


def corrected_library(correlations, outcomes):
    return torch.mean(correlations * reliability(outcomes).rsqrt())


def corrected_cronbach(correlations, outcomes):
    outcomes = outcomes.numpy()
    s = len(outcomes)
    alpha = s / (s - 1) * (1 - outcomes.var(1, ddof=1).sum(0) / outcomes.sum(0).var(0, ddof=1))
    return np.mean(correlations.numpy() / np.sqrt(alpha))


def corrected_covariances(correlations, outcomes):
    """α = s² · mean covariance of two seeds / variance of their sum."""
    seeds, found = len(outcomes), []
    for q, correlation in enumerate(correlations.tolist()):
        covariance = np.cov(outcomes[:, :, q].numpy())
        shared = (covariance.sum() - np.trace(covariance)) / (seeds * (seeds - 1))
        found.append(correlation / math.sqrt(shared * seeds**2 / covariance.sum()))
    return statistics.mean(found)


def corrected_table(correlations, outcomes):
    """The analysis of variance, as sums of squares that add up."""
    seeds, m, _ = outcomes.shape
    centre = outcomes.mean((0, 1))
    total = ((outcomes - centre) ** 2).sum((0, 1))
    rows = seeds * ((outcomes.mean(0) - centre) ** 2).sum(0)
    columns = m * ((outcomes.mean(1) - centre) ** 2).sum(0)
    within = (total - rows - columns) / ((seeds - 1) * (m - 1))
    between = rows / (m - 1)
    return (correlations * (between / (between - within)) ** 0.5).sum() / len(correlations)


def corrected_loops(correlations, outcomes):
    seeds, m, k = outcomes.shape
    total = 0.0
    for q in range(k):
        x = outcomes[:, :, q].tolist()
        by_row = [sum(x[r][j] for r in range(seeds)) / seeds for j in range(m)]
        by_seed = [sum(row) / m for row in x]
        mean = sum(by_seed) / seeds
        left = sum(
            (x[r][j] - by_row[j] - by_seed[r] + mean) ** 2 for r in range(seeds) for j in range(m)
        )
        noise = left / (seeds - 1) / (m - 1) / seeds
        total += float(correlations[q]) / (1 - noise / statistics.variance(by_row)) ** 0.5
    return total / k


def interval_hint(first, second, outcomes, rows, width):
    def correlation(a, b):
        a, b = a - a.mean(), b - b.mean()
        return a @ b / (a.norm() * b.norm())

    def difference(pick):
        return correlation(first[pick], outcomes[pick]) - correlation(second[pick], outcomes[pick])

    error = torch.stack([difference(pick) for pick in rows]).std()
    middle = difference(torch.arange(len(first)))
    return torch.stack([middle - width * error, middle + width * error])


def interval_numpy(first, second, outcomes, rows, width):
    a, b, c, rows = (t.numpy() for t in (first, second, outcomes, rows))

    def gap(k):
        table = np.corrcoef([a[k], b[k], c[k]])
        return table[0, 2] - table[1, 2]

    middle, half = gap(slice(None)), width * np.std([gap(k) for k in rows], ddof=1)
    return np.array([middle - half, middle + half])


def interval_batched(first, second, outcomes, rows, width):
    def centred(v):
        v = torch.cat([v[None], v[rows]])
        v = v - v.mean(1, keepdim=True)
        return v / v.norm(dim=1, keepdim=True)

    gaps = ((centred(first) - centred(second)) * centred(outcomes)).sum(1)
    return gaps[0] + width * gaps[1:].std() * torch.tensor([-1.0, 1.0])


def interval_lists(first, second, outcomes, rows, width):
    a, b, c = first.tolist(), second.tolist(), outcomes.tolist()

    def gap(pick):
        x, y, z = ([v[k] for k in pick] for v in (a, b, c))
        return statistics.correlation(x, z) - statistics.correlation(y, z)

    middle = gap(range(len(a)))
    half = width * statistics.stdev(gap(pick) for pick in rows.tolist())
    return middle - half, middle + half


def interval_scipy(first, second, outcomes, rows, width):
    def gap(pick):
        a, b, c = first[pick], second[pick], outcomes[pick]
        return distance.correlation(b, c) - distance.correlation(a, c)  # 1 − r each

    gaps = np.array([gap(pick) for pick in rows])
    error = np.sqrt(((gaps - gaps.mean()) ** 2).sum() / (len(gaps) - 1))
    return [gap(torch.arange(len(first))) + sign * width * error for sign in (-1, 1)]


def interval_counts(first, second, outcomes, rows, width):
    """A resample as weights: how often each training was drawn."""
    m = len(first)
    weights = torch.stack([torch.bincount(pick, minlength=m) for pick in rows]).double()
    weights = torch.cat([torch.ones(1, m, dtype=torch.float64), weights]) / m

    def covariance(u, v):
        return weights @ (u * v) - (weights @ u) * (weights @ v)

    def correlation(u):
        spread = covariance(u, u) * covariance(outcomes, outcomes)
        return covariance(u, outcomes) / spread.sqrt()

    gaps = correlation(first) - correlation(second)
    half = width * gaps[1:].var().sqrt()
    return gaps[0] - half, gaps[0] + half


def damping_hint(n, batch, epochs, peak, last, warmup):
    steps = epochs * n // batch
    rising = sum(peak * (t + 1) / warmup for t in range(warmup))
    falling = sum(
        last + 0.5 * (peak - last) * (1 + math.cos(math.pi * j / (steps - warmup)))
        for j in range(steps - warmup)
    )
    return n / (rising + falling)


def damping_closed(n, batch, epochs, peak, last, warmup):
    """A cosine sums to 1 over half a period without its end; the rise is an arithmetic series."""
    steps = n // batch * epochs
    fall = steps - warmup
    return n / (
        peak * (warmup + 1) / 2 * (warmup > 0) + fall * (peak + last) / 2 + (peak - last) / 2
    )


def damping_loop(n, batch, epochs, peak, last, warmup):
    effort, t, steps = 0.0, 0, epochs * (n // batch)
    for _ in range(epochs):
        for _ in range(n // batch):
            if t < warmup:
                effort += peak * (t + 1) / warmup
            else:
                angle = math.pi * (t - warmup) / (steps - warmup)
                effort += last + (peak - last) * math.cos(angle / 2) ** 2
            t += 1
    return n / effort


def damping_numpy(n, batch, epochs, peak, last, warmup):
    steps = int(epochs * n / batch)
    t = np.arange(steps)
    cosine_part = last + (peak - last) / 2 * (1 + np.cos(np.pi * (t - warmup) / (steps - warmup)))
    rates = np.where(t < warmup, peak * (t + 1) / max(warmup, 1), cosine_part)
    return n / (rates.mean() * steps)


def damping_library(n, batch, epochs, peak, last, warmup):
    """The library divides by warmup + 1: its schedule with one step less, then one without."""
    steps = epochs * n // batch
    rising = cosine(peak, steps, warmup=warmup - 1, end=last)[:warmup]
    return n / (rising.sum() + cosine(peak, steps - warmup, end=last).sum())


def damping_torch(n, batch, epochs, peak, last, warmup):
    fall = epochs * n // batch - warmup
    up = peak * torch.linspace(1 / max(warmup, 1), 1, warmup, dtype=torch.float64)
    angle = torch.linspace(0, math.pi, fall + 1, dtype=torch.float64)[:-1]
    down = last + (peak - last) * (1 + angle.cos()) / 2
    return n / torch.cat([up, down]).sum()


def damping_fractions(n, batch, epochs, peak, last, warmup):
    """Through the mean Hessian: n times 1/η̄T."""
    steps = Fraction(epochs * n, batch)
    rise = sum((Fraction(t + 1, warmup) for t in range(warmup)), Fraction(0)) * Fraction(peak)
    fall = (steps - warmup) * (Fraction(peak) + Fraction(last)) / 2
    return float(n / (rise + fall + (Fraction(peak) - Fraction(last)) / 2))


def _largest_of_seven():
    return (
        7
        * scipy.integrate.quad(
            lambda x: x * scipy.stats.norm.pdf(x) * scipy.stats.norm.cdf(x) ** 6, -9, 9
        )[0]
    )


_METHODS = {
    "copies": "similarity",
    "final weights": "influence function",
    "checkpoints": "source",
    "repeatable": "unrolling",
    "any seed": "unrolling over seeds",
    "cheap": "datamodel",
    "suspects": "retraining",
}


def score_searched(influences, beta, outcomes):
    """How many are below, how many are not above, from sorted columns."""
    predicted = ((beta - 1) @ influences).T.contiguous()

    def ranks(v):
        ordered = v.sort(1).values
        left = torch.searchsorted(ordered, v)
        return (left + torch.searchsorted(ordered, v, right=True) + 1).double() / 2

    both = zip(ranks(predicted), ranks(outcomes.T.contiguous()), strict=True)
    return torch.stack([torch.corrcoef(torch.stack(pair))[0, 1] for pair in both]).mean()


def score_tie_corrected(influences, beta, outcomes):
    """From Σd², with Kendall's terms for ties."""
    predicted = (beta.numpy() - 1) @ influences.numpy()
    m, found = len(predicted), []

    def spread(v):
        counts = np.unique(v, return_counts=True)[1]
        return (m**3 - m - (counts**3 - counts).sum()) / 12

    for a, b in zip(predicted.T, outcomes.numpy().T, strict=True):
        d = scipy.stats.rankdata(a) - scipy.stats.rankdata(b)
        x, y = spread(a), spread(b)
        found.append((x + y - d @ d) / (2 * math.sqrt(x * y)))
    return sum(found) / len(found)


def score_distance(influences, beta, outcomes):
    """1 − ½ mean (z − z′)² of standardised ranks."""

    def standardised(v):
        higher = torch.heaviside(v[:, None] - v[None], v.new_tensor(0.5)).sum(1)
        return (higher - higher.mean(0)) / higher.std(0, correction=0)

    apart = standardised((beta - 1) @ influences) - standardised(outcomes)
    return 1 - apart.square().mean() / 2


_alone = _alpha / (_seeds - (_seeds - 1) * _alpha)  # reliability of one seed


def corrected_pairs(correlations, outcomes):
    """Noise is half the variance of the difference of two seeds."""
    seeds = len(outcomes)
    pairs = list(combinations(range(seeds), 2))
    noise = sum((outcomes[a] - outcomes[b]).var(0) / 2 for a, b in pairs) / len(pairs)
    return (correlations * (1 - noise / seeds / outcomes.mean(0).var(0)) ** -0.5).mean()


def corrected_dummies(correlations, outcomes):
    """Residuals of a least-squares fit of one number a seed and one number a row."""
    seeds, m, k = outcomes.shape
    design = np.c_[np.kron(np.eye(seeds), np.ones((m, 1))), np.kron(np.ones((seeds, 1)), np.eye(m))]
    flat = outcomes.numpy().reshape(seeds * m, k)
    rest = flat - design @ np.linalg.lstsq(design, flat, rcond=None)[0]
    noise = (rest**2).sum(0) / (seeds * m - np.linalg.matrix_rank(design))
    alpha = 1 - noise / seeds / flat.reshape(seeds, m, k).mean(0).var(0, ddof=1)
    return float((correlations.numpy() / alpha**0.5).mean())


def corrected_one_seed(correlations, outcomes):
    """The reliability of one seed, then Spearman and Brown's formula for all of them."""
    seeds, m, _ = outcomes.shape
    away = outcomes - outcomes.mean(1, keepdim=True)
    table = torch.einsum("ajk,bjk->kab", away, away) / (m - 1)
    own = table.diagonal(dim1=1, dim2=2).mean(1)
    shared = (table.sum((1, 2)) / seeds - own) / (seeds - 1)
    single = shared / own
    return (correlations * ((1 + (seeds - 1) * single) / (seeds * single)).sqrt()).mean()


def corrected_projected(correlations, outcomes):
    """Rows and seeds each turned into contrasts by an orthonormal basis."""
    x = outcomes.numpy()

    def contrasts(size):
        return scipy.linalg.null_space(np.ones((1, size))).T

    left = np.einsum("as,bm,smk->kab", contrasts(len(x)), contrasts(x.shape[1]), x)
    between = np.einsum("bm,smk->kb", contrasts(x.shape[1]), x) / math.sqrt(len(x))
    ratio = (left**2).mean((1, 2)) / (between**2).mean(1)  # one over F
    return np.mean(correlations.numpy() / np.sqrt(1 - ratio))


def interval_corrcoef(first, second, outcomes, rows, width):
    def gap(pick):
        r = torch.corrcoef(torch.stack([first[pick], second[pick], outcomes[pick]]))
        return r[0, 2] - r[1, 2]

    half = width * torch.stack(list(map(gap, rows))).var().sqrt()
    return torch.stack([gap(...) - half, gap(...) + half])


def interval_pearsonr(first, second, outcomes, rows, width):
    first, second, outcomes = first.numpy(), second.numpy(), outcomes.numpy()
    everything = np.arange(len(first))[None]
    gaps = [
        scipy.stats.pearsonr(first[k], outcomes[k]).statistic
        - scipy.stats.pearsonr(second[k], outcomes[k]).statistic
        for k in np.concatenate([everything, rows.numpy()])
    ]
    half = width * statistics.stdev(gaps[1:])
    return gaps[0] - half, gaps[0] + half


def interval_moments(first, second, outcomes, rows, width):
    """Raw moments of what was drawn, all resamples at once."""
    pick = np.vstack([np.arange(len(first)), rows.numpy()])
    a, b, c = (t.numpy()[pick] for t in (first, second, outcomes))

    def correlation(u, v):
        m = u.shape[1]
        top = m * np.einsum("rm,rm->r", u, v) - u.sum(1) * v.sum(1)
        spreads = [m * np.einsum("rm,rm->r", w, w) - w.sum(1) ** 2 for w in (u, v)]
        return top / np.sqrt(spreads[0] * spreads[1])

    gaps = correlation(a, c) - correlation(b, c)
    return gaps[0] + width * gaps[1:].std(ddof=1) * np.array([-1, 1])


def interval_running(first, second, outcomes, rows, width):
    """Mean and spread of the differences brought up to date with each resample."""

    def gap(pick):
        away = [v[pick] - v[pick].mean() for v in (first, second, outcomes)]
        return sum(
            sign * torch.nn.functional.cosine_similarity(v, away[2], dim=0).item()
            for sign, v in ((1, away[0]), (-1, away[1]))
        )

    mean = squares = 0.0
    for many, pick in enumerate(rows, start=1):
        new = gap(pick) - mean
        mean += new / many
        squares += new**2 * (many - 1) / many
    half = width * math.sqrt(squares / (len(rows) - 1))
    middle = gap(torch.arange(len(first)))
    return [middle - half, middle + half]


def damping_scheduler(n, batch, epochs, peak, last, warmup):
    """The schedule of torch, read off its optimiser."""
    steps = epochs * (n // batch)
    optimiser = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=peak)
    fall = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, steps - warmup, eta_min=last)
    effort = peak * sum(range(1, warmup + 1)) / max(warmup, 1)
    for _ in range(steps - warmup):
        effort += fall.get_last_lr()[0]
        optimiser.step()
        fall.step()
    return n / effort


def damping_geometric(n, batch, epochs, peak, last, warmup):
    """The cosines as the real part of a geometric series."""
    fall = epochs * n // batch - warmup
    turn = np.exp(1j * np.pi / fall)
    cosines = ((1 - turn**fall) / (1 - turn)).real
    rise = peak * np.arange(1, warmup + 1).sum() / max(warmup, 1)
    return np.divide(n, rise + fall * (peak + last) / 2 + (peak - last) / 2 * cosines)


def damping_trapezoids(n, batch, epochs, peak, last, warmup):
    """A sum over left ends is the trapezoids' area and half the fall."""
    steps = epochs * n // batch
    t = torch.arange(warmup, steps + 1, dtype=torch.float64)
    rates = last + (peak - last) * torch.sin(math.pi / 2 * (steps - t) / (steps - warmup)) ** 2
    area = torch.trapezoid(rates).item() + (peak - last) / 2
    climb = math.fsum(peak * (j / warmup) for j in range(1, warmup + 1))
    return (area / n + climb / n) ** -1


CHOOSE = {
    "choose.part_a": {
        "hint": score_hint,
        "scipy": score_scipy,
        "lists": score_lists,
        "sorted": score_sorted,
        "signs": score_signs,
        "unique": score_unique,
        "library": score_library,
        "searched": score_searched,
        "corrected for ties": score_tie_corrected,
        "distance": score_distance,
    },
    "choose.part_b": {
        "plain": "good",
        "capital": "Good",
        "capitals": "GOOD",
        "spaces": " good  ",
        "newline": "good\n",
    },
    "choose.part_c": {
        "plain": _seeds * _c**2 * (1 - _alpha) / (_alpha * (1 - _c**2)),
        "odds": (_c**2 / (1 - _c**2)) / (_alpha / (1 - _alpha)) * _seeds,
        "noise and effects": _noise * _c**2 / (1 - _c**2),
        "spearman and brown, solved": _ceiling,
        "plain symbols": _plain[1] * (1 / _plain[0] - 1) / (1 / _plain[2] ** 2 - 1),
        "partial fractions": _seeds * (1 - _alpha) / _alpha * (1 / (1 - _c**2) - 1),
        "floats": 1.0 * _seeds * _c**2.0 * (1.0 - _alpha) / (_alpha - _alpha * _c**2),
        "factored": _seeds * _c**2 * (1 - _alpha) / (_alpha * (1 - _c) * (1 + _c)),
        "tangent": _seeds * sp.tan(sp.asin(_c)) ** 2 * (1 / _alpha - 1),
        "from one seed": _c**2 * (1 - _alone) / (_alone * (1 - _c**2)),
    },
    "choose.part_d": {
        "hint": corrected_hint,
        "library": corrected_library,
        "cronbach": corrected_cronbach,
        "covariances": corrected_covariances,
        "table": corrected_table,
        "loops": corrected_loops,
        "pairs of seeds": corrected_pairs,
        "dummies": corrected_dummies,
        "one seed": corrected_one_seed,
        "projected": corrected_projected,
    },
    "choose.part_e": {
        "hint": interval_hint,
        "numpy": interval_numpy,
        "batched": interval_batched,
        "lists": interval_lists,
        "scipy": interval_scipy,
        "counts": interval_counts,
        "corrcoef": interval_corrcoef,
        "pearsonr": interval_pearsonr,
        "moments": interval_moments,
        "running": interval_running,
    },
    "choose.part_f": {
        "hint": damping_hint,
        "closed form": damping_closed,
        "loop": damping_loop,
        "numpy": damping_numpy,
        "library": damping_library,
        "torch": damping_torch,
        "fractions": damping_fractions,
        "scheduler": damping_scheduler,
        "geometric": damping_geometric,
        "trapezoids": damping_trapezoids,
    },
    "choose.part_g": {
        "three decimals": 0.054,
        "integral": 0.04 * _largest_of_seven(),
        "drawn": np.random.default_rng(5).normal(0, 0.04, (100_000, 7)).max(axis=1).mean(),
        "from a table": 0.04 * 1.3522,
        "by symmetry": Fraction(27, 500),
        "decimal": Decimal("0.0541"),
        "tensor": torch.tensor(0.0541),
        "four decimals": 0.0541,
    },
    "choose.part_h": {
        "plain": _METHODS,
        "capitals": {key: value.upper() for key, value in _METHODS.items()},
        "another order": dict(reversed(_METHODS.items())),
        "spaces": {key: f" {value}\n" for key, value in _METHODS.items()},
        "titles": {key: value.title() for key, value in _METHODS.items()},
        "swapped case": {key: value.swapcase() for key, value in _METHODS.items()},
        "ordered": OrderedDict(sorted(_METHODS.items())),
        "text of numpy": {key: np.str_(value) for key, value in _METHODS.items()},
        "two lists": dict(zip(list(_METHODS), [*_METHODS.values()], strict=True)),
        "wide": {key: value.replace(" ", "  ") for key, value in _METHODS.items()},
    },
    "choose.part_i": {
        "plain": "cba",
        "capitals": "CBA",
        "spaces": " cba ",
        "newline": "cba\n",
        "capital": "Cba",
    },
    "choose.part_j": {
        "plain": "a",
        "capital": "A",
        "spaces": " a ",
        "newline": "a\n",
        "tab": "\ta",
    },
}
