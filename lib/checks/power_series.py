"""Exercise 03_power_series: the BIF of a nearly Gaussian posterior, term by term."""

from collections.abc import Callable
from functools import cache

import numpy as np
import sympy as sp
import torch

from lib.checks.bif_covariance import in_numpy, not_near_one, regression_case
from lib.checks.engine import Choice, Formula, Function, Mistake
from lib.models import logistic
from lib.random_problems import normal, stretched

# --- the Gaussian at a minimum -------------------------------------------------------------------


def _laplace_case(rng: np.random.Generator) -> tuple:
    n, p = int(rng.integers(9, 15)), int(rng.integers(2, 5))
    while np.linalg.cond(x := stretched(rng, n, p)) > 20:
        pass
    objective = logistic(x, torch.from_numpy(rng.choice([-1.0, 1.0], n)))
    return objective, 0.5 * normal(rng, p), not_near_one(rng), float(rng.uniform(0.3, 3.0))


def _total_slope(objective, w):
    """∇ Σ L_i at every row of w, (m, p) → (m, p), for logistic regression in numpy."""
    x, y = objective.x.numpy(), objective.y.numpy()
    return (-y / (1 + np.exp(y * (w @ x.T)))) @ x


def _curvature(objective, w, step=1e-4):
    bumps = step * np.eye(len(w))
    up, down = (_total_slope(objective, w.numpy() + s * bumps) for s in (1, -1))
    return (up - down) / (2 * step)


def _laplace_truth(objective, w, kappa, gamma):
    return np.linalg.inv(kappa * _curvature(objective, w) + gamma * np.eye(len(w)))


def _energy_with(bend: Callable) -> Callable:
    """A mistake's formula: the inverse of a wrong precision, from H, κ, γ I and n."""

    def wrong(objective, w, kappa, gamma):
        h = _curvature(objective, w)
        return np.linalg.inv(bend(h, kappa, gamma * np.eye(len(w)), objective.n))

    return wrong


def _outer_products(objective, w, kappa, gamma):
    x, y = objective.x.numpy(), objective.y.numpy()
    g = (-y / (1 + np.exp(y * (x @ w.numpy()))))[:, None] * x
    return np.linalg.inv(kappa * g.T @ g + gamma * np.eye(len(w)))


def _p_for_variance(objective, w, kappa, gamma):
    x = objective.x.numpy()
    p = 1 / (1 + np.exp(-x @ w.numpy()))
    return np.linalg.inv(kappa * x.T @ (p[:, None] * x) + gamma * np.eye(len(w)))


part_a = Function(
    "power_series.part_a",
    "the covariance of the Gaussian with the energy's curvature at w",
    truth=_laplace_truth,
    cases=_laplace_case,
    n=lambda args: args[0].n,
    draws=4,
    mistakes=[
        Mistake(
            "not inverted",
            lambda objective, w, kappa, gamma: (
                kappa * _curvature(objective, w) + gamma * np.eye(len(w))
            ),
            "This is the curvature of the energy, the precision. The covariance is its inverse.",
        ),
        Mistake(
            "mean Hessian",
            _energy_with(lambda h, kappa, held, n: kappa * h / n + held),
            "The energy has the losses summed, not averaged: H is the Hessian of the sum.",
        ),
        Mistake(
            "gamma times kappa",
            _energy_with(lambda h, kappa, held, n: kappa * (h + held)),
            "κ multiplies the losses and not the spring: γ has no temperature.",
        ),
        Mistake(
            "no kappa",
            _energy_with(lambda h, kappa, held, n: h + held),
            "κ is missing: it multiplies the losses in the energy, and so their curvature.",
        ),
        Mistake(
            "kappa below",
            _energy_with(lambda h, kappa, held, n: h / kappa + held),
            "κ is an inverse temperature: it multiplies H. Dividing makes cold posteriors wide.",
        ),
        Mistake(
            "no gamma",
            _energy_with(lambda h, kappa, held, n: kappa * h),
            "The spring is missing: ½γ‖w − w*‖² adds γ to the curvature in every direction.",
        ),
        Mistake(
            "half gamma",
            _energy_with(lambda h, kappa, held, n: kappa * h + held / 2),
            "The second derivative of ½γ‖w − w*‖² is γI, not ½γI.",
        ),
        Mistake(
            "twice gamma",
            _energy_with(lambda h, kappa, held, n: kappa * h + 2 * held),
            "The second derivative of ½γ‖w − w*‖² is γI: the ½ takes the 2 away.",
        ),
        Mistake(
            "gamma every example",
            _energy_with(lambda h, kappa, held, n: kappa * h + n * held),
            "γ is counted once for each example. The spring is there once.",
        ),
        Mistake(
            "gamma below",
            _energy_with(lambda h, kappa, held, n: kappa * h + np.linalg.inv(held)),
            "γ is a precision, not a variance: it is added to κH as it is.",
        ),
        Mistake(
            "outer products",
            _outer_products,
            "Σ g_i g_iᵀ is not the Hessian: they agree only on average over labels that the model "
            "draws itself.",
        ),
        Mistake(
            "kappa outside",
            lambda objective, w, kappa, gamma: (
                kappa * np.linalg.inv(_curvature(objective, w) + gamma * np.eye(len(w)))
            ),
            "κ belongs inside the inverse, on H alone. It is the BIF that has κ in front.",
        ),
        Mistake(
            "damped influence",
            _energy_with(lambda h, kappa, held, n: h + held / kappa),
            "Too large by κ: (H + γ/κ I)⁻¹ stands in the influence function, where a κ is "
            "multiplied in.",
        ),
        Mistake(
            "no identity",
            _energy_with(lambda h, kappa, held, n: kappa * h + held[0, 0]),
            "γ is added to every entry of κH. The spring adds γI, γ on the diagonal.",
        ),
        Mistake(
            "p for p(1 − p)",
            _p_for_variance,
            "A logistic loss has the curvature p(1 − p) x xᵀ: the 1 − p is missing.",
        ),
    ],
    hints=[
        "−log of a Gaussian density has the inverse covariance as its Hessian. What is the "
        "energy's?",
        "lib.objective has hessian(objective, w), of the summed loss. The spring adds γI.",
        "torch.linalg.inv(kappa * H + gamma * torch.eye(p))",
    ],
)

# --- one small logistic regression, its data repeated --------------------------------------------

FIVE_X = np.array([0.5, 1.0, 1.5, -1.2, -1.8])
FIVE_Y = np.array([-1.0, 1.0, 1.0, -1.0, -1.0])
"""Five examples with one input. The observable is the loss on the test point x = 1, y = 1."""


def _softplus_slopes(w):
    """First and second derivative of every loss at w."""
    u = 1 / (1 + np.exp(FIVE_Y * FIVE_X * w))
    return -FIVE_Y * FIVE_X * u, FIVE_X**2 * u * (1 - u)


@cache
def five_minimum() -> float:
    w = 0.0
    for _ in range(50):
        g, h = _softplus_slopes(w)
        w -= g.sum() / h.sum()
    return float(w)


@cache
def _points(copies: int) -> tuple[np.ndarray, np.ndarray]:
    """w − w* on a grid, and its probabilities under the posterior of `copies` times the data."""
    width = 1 / np.sqrt(copies * _softplus_slopes(five_minimum())[1].sum())
    delta = np.linspace(-14, 14, 4001) * width
    logs = -copies * _losses(five_minimum() + delta).sum(axis=1)
    p = np.exp(logs - logs.max())
    return delta, p / p.sum()


def _losses(w):
    """(m,) → (m, 5)."""
    return np.log1p(np.exp(-w[:, None] * FIVE_X * FIVE_Y))


@cache
def _order_of_odd_term() -> str:
    """The power of n by which the covariance of δ and ½δ² falls, from two large data sets."""
    odd = []
    for copies in (500, 2000):
        delta, p = _points(copies)
        odd.append((p * (delta - p @ delta)) @ delta**2 / 2)
    slope = np.log(abs(odd[1] / odd[0])) / np.log(4)
    assert abs(2 * slope - round(2 * slope)) < 0.02
    return {-2: "n^-1", -3: "n^-3/2", -4: "n^-2", -6: "n^-3"}[round(2 * slope)]


part_b = Choice(
    "power_series.part_b",
    "the size of Cov(T_1[φ], T_2[L_i]) under the posterior, as n → ∞",
    truth=_order_of_odd_term,
    wrong={
        "zero": "Zero under N(w*, H⁻¹), whose odd moments vanish. The posterior has a skew: "
        "e^(−ℓ₃δ³/6) tilts it.",
        "n^-1": "That is the size of Cov(T_1, T_1). Here one δ more is under the average.",
        "n^-3/2": "|δ|³ is of that size, but its sign cancels in the Gaussian. The skew, smaller "
        "by another n^(−1/2), is what is left.",
        "n^-3": "Too small: δ³ brings n^(−3/2), and the skew of the posterior only one more "
        "n^(−1/2).",
    },
    hints=[
        "δ = w − w* is of size n^(−1/2). How large is ℓ₃δ³/6, if ℓ₃ grows like n?",
        "To first order the density is Gaussian × (1 − ℓ₃δ³/6). Under it, E[δ·δ²] is a sixth "
        "moment.",
        "ℓ₃ E[δ⁶] with ℓ₃ of size n and δ⁶ of size n^(−3).",
    ],
)

# --- Gaussian moments ----------------------------------------------------------------------------


def _spd(rng: np.random.Generator, p: int) -> np.ndarray:
    """A positive definite matrix, neither near diagonal nor ill-conditioned."""
    root = rng.standard_normal((p, p + 2))
    return root @ root.T / p + rng.uniform(0.3, 0.8) * np.eye(p)


def _leading_case(rng: np.random.Generator) -> tuple:
    n, p = int(rng.integers(6, 12)), int(rng.integers(2, 5))
    return normal(rng, p), normal(rng, n, p), torch.from_numpy(_spd(rng, p))


def _by_cubature(f1, g, h):
    """−E[(f1·δ)(g_i·δ)] over 2p equally weighted points with the moments of N(0, h⁻¹)."""
    p = len(f1)
    corners = np.sqrt(p) * np.concatenate([np.eye(p), -np.eye(p)])
    delta = np.linalg.solve(np.linalg.cholesky(h.numpy()).T, corners.T).T
    return -np.mean((delta @ f1.numpy())[:, None] * (delta @ g.numpy().T), axis=0)


def _between(middle: Callable) -> Callable:
    """A mistake's formula: a wrong matrix between f1 and g_i."""
    return in_numpy(lambda f1, g, h: g @ middle(h, len(g)) @ f1)


part_c = Function(
    "power_series.part_c",
    "the first term of the BIF of every example",
    truth=_by_cubature,
    cases=_leading_case,
    n=lambda args: len(args[1]),
    mistakes=[
        Mistake(
            "covariance",
            _between(lambda h, n: np.linalg.inv(h)),
            "This is Cov(T_1[φ], T_1[L_i]). The BIF is minus the covariance.",
        ),
        Mistake(
            "multiplied by h",
            _between(lambda h, n: -h),
            "Multiplied by h instead of solved with it: the covariance of δ is h⁻¹.",
        ),
        Mistake(
            "multiplied by h, sign",
            _between(lambda h, n: h),
            "The covariance of δ is h⁻¹, not h; and the BIF is minus the covariance.",
        ),
        Mistake(
            "no h",
            _between(lambda h, n: -np.eye(len(h))),
            "A plain dot product: E[δδᵀ] = h⁻¹ is missing between the two slopes.",
        ),
        Mistake(
            "no h, sign",
            _between(lambda h, n: np.eye(len(h))),
            "A plain dot product: E[δδᵀ] = h⁻¹ is missing between the two slopes, and a minus.",
        ),
        Mistake(
            "diagonal",
            _between(lambda h, n: -np.diag(1 / np.diag(h))),
            "Only the diagonal of h is inverted here. Parameters vary together: invert all of h.",
        ),
        Mistake(
            "entry by entry",
            _between(lambda h, n: -1 / h),
            "1 / h inverts the entries one by one. The inverse matrix is needed.",
        ),
        Mistake(
            "mean Hessian",
            _between(lambda h, n: -n * np.linalg.inv(h)),
            "Too large by exactly n: h is the Hessian of the summed loss already.",
        ),
        Mistake(
            "solved twice",
            _between(lambda h, n: -np.linalg.inv(h @ h)),
            "h⁻¹ stands between the two slopes once, not twice.",
        ),
        Mistake(
            "half",
            _between(lambda h, n: -np.linalg.inv(h) / 2),
            "There is no ½: T_1 is the slope times δ, with nothing in front.",
        ),
    ],
    hints=[
        "E[(f1·δ)(g_i·δ)] = f1ᵀ E[δδᵀ] g_i, and the mean of δ is zero.",
        "E[δδᵀ] = h⁻¹. And the BIF is minus the covariance, as κ = 1.",
        "−g @ torch.linalg.solve(h, f1): the influence function.",
    ],
)


def _isserlis_case(rng: np.random.Generator) -> tuple:
    p = int(rng.integers(2, 5))
    return torch.from_numpy(_spd(rng, p)), *(normal(rng, p) for _ in range(4))


@cache
def _gauss_hermite(p: int) -> tuple[np.ndarray, np.ndarray]:
    """Nodes (3^p, p) and weights for N(0, I), exact up to degree 5 in every coordinate."""
    node, weight = np.polynomial.hermite_e.hermegauss(3)
    grid = np.stack(np.meshgrid(*[node] * p, indexing="ij"), axis=-1).reshape(-1, p)
    weights = np.stack(np.meshgrid(*[weight] * p, indexing="ij"), axis=-1).reshape(-1, p)
    return grid, weights.prod(axis=1) / np.sqrt(2 * np.pi) ** p


def _deltas(sigma) -> tuple[np.ndarray, np.ndarray]:
    """Nodes and weights for N(0, Σ)."""
    grid, weights = _gauss_hermite(len(sigma))
    return grid @ np.linalg.cholesky(sigma.numpy()).T, weights


def _fourth_moment(sigma, a, b, c, d):
    delta, weights = _deltas(sigma)
    return weights @ np.prod([delta @ v.numpy() for v in (a, b, c, d)], axis=0)


def _pairings(combine: Callable) -> Callable:
    """A mistake's formula in the three products of pairs (ab)(cd), (ac)(bd), (ad)(bc)."""

    def wrong(sigma, a, b, c, d):
        def pair(u, v):
            return u @ sigma @ v

        return combine(pair(a, b) * pair(c, d), pair(a, c) * pair(b, d), pair(a, d) * pair(b, c))

    return wrong


part_d = Function(
    "power_series.part_d",
    "E[(a·δ)(b·δ)(c·δ)(d·δ)] for δ ~ N(0, Σ)",
    truth=_fourth_moment,
    cases=_isserlis_case,
    mistakes=[
        Mistake(
            "one pairing",
            _pairings(lambda one, two, three: one),
            "This is E[(a·δ)(b·δ)] E[(c·δ)(d·δ)]. The two products are not independent.",
        ),
        Mistake(
            "crossed pairings",
            _pairings(lambda one, two, three: two + three),
            "This is Cov((a·δ)(b·δ), (c·δ)(d·δ)). The moment also has the pairing (ab)(cd).",
        ),
        Mistake(
            "no (ad)(bc)",
            _pairings(lambda one, two, three: one + two),
            "The pairing (ad)(bc) is missing: a can be paired with b, with c, or with d.",
        ),
        Mistake(
            "no (ac)(bd)",
            _pairings(lambda one, two, three: one + three),
            "The pairing (ac)(bd) is missing: a can be paired with b, with c, or with d.",
        ),
        Mistake(
            "average",
            _pairings(lambda one, two, three: (one + two + three) / 3),
            "The three pairings are added, not averaged: for a = b = c = d it is 3 Var².",
        ),
        Mistake(
            "three times one",
            _pairings(lambda one, two, three: 3 * one),
            "3 (ab)(cd) is right only where the three pairings agree, as for a = b = c = d.",
        ),
        Mistake(
            "twice each",
            _pairings(lambda one, two, three: 2 * (one + two + three)),
            "Each pairing is counted twice: {ab, cd} and {cd, ab} are the same.",
        ),
        Mistake(
            "no sigma",
            lambda sigma, a, b, c, d: _fourth_moment(torch.eye(len(a)).double(), a, b, c, d),
            "This is the moment for Σ = I: a pair contributes aᵀΣb.",
        ),
        Mistake(
            "precision",
            lambda sigma, a, b, c, d: _fourth_moment(torch.linalg.inv(sigma), a, b, c, d),
            "Σ is the covariance of δ itself: a pair contributes aᵀΣb, with no inverse.",
        ),
        Mistake(
            "diagonal",
            lambda sigma, a, b, c, d: _fourth_moment(sigma.diag().diag(), a, b, c, d),
            "The coordinates of δ are correlated: aᵀΣb needs all of Σ, not its diagonal.",
        ),
    ],
    hints=[
        "Isserlis: an even moment of a Gaussian is a sum over all ways to pair its factors.",
        "Four factors make three pairings, and a pair contributes E[(a·δ)(b·δ)] = aᵀΣb.",
        "(ab)(cd) + (ac)(bd) + (ad)(bc).",
    ],
)


def _two_two_case(rng: np.random.Generator) -> tuple:
    p = int(rng.integers(2, 5))
    f2, g2 = (m + m.T + torch.eye(p) for m in (normal(rng, p, p), normal(rng, p, p)))
    return torch.from_numpy(_spd(rng, p)), f2, g2


def _quadratic_covariance(sigma, f2, g2):
    delta, weights = _deltas(sigma)
    f, g = (0.5 * np.einsum("ma,ab,mb->m", delta, m.numpy(), delta) for m in (f2, g2))
    return weights @ ((f - weights @ f) * g)


def _trace(*matrices):
    product = matrices[0]
    for m in matrices[1:]:
        product = product @ m
    return product.trace()


part_e = Function(
    "power_series.part_e",
    "Cov(½δᵀf2δ, ½δᵀg2δ) for δ ~ N(0, Σ)",
    truth=_quadratic_covariance,
    cases=_two_two_case,
    mistakes=[
        Mistake(
            "no half",
            lambda sigma, f2, g2: _trace(f2, sigma, g2, sigma),
            "Twice the answer: two crossed pairings, each with ½ · ½ in front.",
        ),
        Mistake(
            "quarter",
            lambda sigma, f2, g2: _trace(f2, sigma, g2, sigma) / 4,
            "Half the answer: two of the three pairings are crossed, and both count.",
        ),
        Mistake(
            "no halves",
            lambda sigma, f2, g2: 2 * _trace(f2, sigma, g2, sigma),
            "This is Cov(δᵀf2δ, δᵀg2δ): the two ½ of Taylor's terms are missing.",
        ),
        Mistake(
            "product of means",
            lambda sigma, f2, g2: _trace(f2, sigma) * _trace(g2, sigma) / 4,
            "This is E[½δᵀf2δ] E[½δᵀg2δ], which a covariance takes away. The crossed pairings "
            "remain.",
        ),
        Mistake(
            "uncentred",
            lambda sigma, f2, g2: (
                _trace(f2, sigma, g2, sigma) / 2 + _trace(f2, sigma) * _trace(g2, sigma) / 4
            ),
            "This is the mean of the product. A covariance takes away the product of the means.",
        ),
        Mistake(
            "BIF",
            lambda sigma, f2, g2: -_trace(f2, sigma, g2, sigma) / 2,
            "This is what the term adds to the BIF. The covariance is asked, without the minus.",
        ),
        Mistake(
            "entry by entry",
            lambda sigma, f2, g2: (f2 * sigma * g2 * sigma).sum() / 2,
            "These are products of entries. The indices are contracted around a circle: f2, Σ, g2, "
            "Σ.",
        ),
        Mistake(
            "one sigma",
            lambda sigma, f2, g2: _trace(f2, sigma, g2) / 2,
            "One Σ is missing: δ occurs four times, and each Σ pairs two of them.",
        ),
        Mistake(
            "no sigma",
            lambda sigma, f2, g2: _trace(f2, g2) / 2,
            "This is the answer for Σ = I: δ occurs four times, and each Σ pairs two of them.",
        ),
        Mistake(
            "order",
            lambda sigma, f2, g2: _trace(f2, g2, sigma, sigma) / 2,
            "Both Σ stand side by side here. One stands on each side of f2 and of g2; and a sum of "
            "products, entry by entry, is tr(AᵀB).",
        ),
        Mistake(
            "precision",
            lambda sigma, f2, g2: (
                _trace(f2, torch.linalg.inv(sigma), g2, torch.linalg.inv(sigma)) / 2
            ),
            "Σ is the covariance of δ itself; do not invert it.",
        ),
    ],
    hints=[
        "Write both as ½ Σ_ab f2_ab δ_a δ_b and use part (d) on δ_a δ_b δ_c δ_d.",
        "The pairing (ab)(cd) is the product of the means. Each crossed one gives ¼ tr(f2 Σ g2 Σ).",
        "½ tr(f2 Σ g2 Σ).",
    ],
)

# --- all terms of order n⁻², for one parameter ---------------------------------------------------

_f1, _f2, _f3, _g1, _g2, _g3, _h, _l3, _l4 = sp.symbols("f1 f2 f3 g1 g2 g3 h l3 l4", positive=True)
_kappa = sp.Symbol("kappa", positive=True)
_any = (-3, 3)
_curved = -_f2 * _g2 / (2 * _kappa * _h**2)
_thirds = -(_f1 * _g3 + _f3 * _g1) / (2 * _kappa * _h**2)
_fourths = (_f2 * _g2 + _f1 * _g3 + _f3 * _g1) / (2 * _h**2)  # at κ = 1, without the BIF's minus

part_f = Formula(
    "power_series.part_f",
    "the terms of order n⁻² of the BIF under N(0, 1/(κh))",
    truth=-_fourths / _kappa,
    domain={name: _any for name in ("f1", "f2", "f3", "g1", "g2", "g3")}
    | {"h": (0.5, 4), "kappa": (0.3, 3)},
    mistakes=[
        Mistake(
            "(2,2) only",
            _curved,
            "Cov(T_1, T_3) is of the same order: a slope and a third derivative make δ⁴ as well.",
        ),
        Mistake(
            "odd ones only",
            _thirds,
            "The curvatures are missing: Cov(½f2δ², ½g2δ²) is δ⁴ as well.",
        ),
        Mistake(
            "(3,1) missing",
            _curved - _f1 * _g3 / (2 * _kappa * _h**2),
            "Cov(T_1[φ], T_3[L_i]) is there, and Cov(T_3[φ], T_1[L_i]) is not.",
        ),
        Mistake(
            "(1,3) missing",
            _curved - _f3 * _g1 / (2 * _kappa * _h**2),
            "Cov(T_3[φ], T_1[L_i]) is there, and Cov(T_1[φ], T_3[L_i]) is not.",
        ),
        Mistake(
            "no sixth",
            _curved + 6 * _thirds,
            "T_3 = δ³/6 times the third derivative: a sixth is missing in the (1,3) terms.",
        ),
        Mistake(
            "no three",
            _curved + _thirds / 3,
            "E[δ⁴] = 3/(κh)², not 1/(κh)²: three pairings, in the (1,3) terms too.",
        ),
        Mistake(
            "uncentred",
            3 * _curved / 2 + _thirds,
            "½δ² has the mean 1/(2κh): take the product of the means away in the (2,2) term.",
        ),
        Mistake(
            "no half in (2,2)",
            2 * _curved + _thirds,
            "Var(½δ²) = ¼ · 2/(κh)² = 1/(2κ²h²): the (2,2) term is twice too large.",
        ),
        Mistake(
            "half of (2,2)",
            _curved / 2 + _thirds,
            "Var(δ²) = (3 − 1)/(κh)² = 2/(κh)²: the (2,2) term is half of what it should be.",
        ),
        Mistake(
            "covariance",
            _fourths / _kappa**2,
            "This is the covariance. The BIF is −κ times it.",
        ),
        Mistake(
            "covariance at kappa 1",
            _fourths,
            "This is the covariance at κ = 1. κ is in the variance 1/(κh), and −κ before the "
            "covariance.",
        ),
        Mistake(
            "variance 1/h",
            -_kappa * _fourths,
            "The −κ in front is there, but the variance of δ is 1/(κh), not 1/h.",
        ),
        Mistake(
            "no kappa in front",
            -_fourths / _kappa**2,
            "This is minus the covariance. The BIF is −κ times it.",
        ),
        Mistake(
            "kappa 1",
            -_fourths,
            "This is the answer at κ = 1: the energy is κ Σ L_j, and the BIF −κ times the "
            "covariance.",
        ),
        Mistake(
            "leading term too",
            -_f1 * _g1 / _h - _fourths / _kappa,
            "f1 g1/h is of order n⁻¹. Only the terms of order n⁻² are asked.",
        ),
        Mistake(
            "(3,3) too",
            -_fourths / _kappa - 5 * _f3 * _g3 / (12 * _kappa**2 * _h**3),
            "Cov(T_3, T_3) has δ⁶ in it, so it is of order n⁻³.",
        ),
    ],
    hints=[
        "h grows like n, so δ² is of order n⁻¹: which products of a T_k and a T_m have four δ?",
        "E[δ⁴] = 3/(κh)². Cov(½f2δ², ½g2δ²) = ¼ f2 g2 (3 − 1)/(κh)².",
        "Cov(f1δ, g3δ³/6) = f1 g3 · 3/(6κ²h²), and the same with φ and L_i exchanged. Times −κ.",
    ],
)

_mixed = _f1 * _g2 + _f2 * _g1
_leaning = _l3 * _mixed / (_kappa * _h**3)
_slopes = -_f1 * _g1 / _kappa
_cubic = _l3**2 / _h**4
_quartic = _l4 / (2 * _h**3)
_names = ("f1", "f2", "g1", "g2", "l3", "l4")
_domain = {name: _any for name in _names} | {"h": (0.5, 4), "kappa": (0.3, 3)}

part_g = Formula(
    "power_series.part_g",
    "the terms of order n⁻² of the BIF with one slope and one curvature",
    truth=_leaning,
    domain=_domain,
    mistakes=[
        Mistake(
            "Gaussian",
            sp.Integer(0),
            "Zero under the Gaussian. The cubic term of the energy gives the posterior a third "
            "moment.",
        ),
        Mistake(
            "sign",
            -_leaning,
            "Sign flipped: e^(−κ l3 δ³/6) favours the δ of the other sign than l3, and the BIF has "
            "one more minus.",
        ),
        Mistake(
            "covariance",
            -_leaning / _kappa,
            "This is the covariance. The BIF is −κ times it.",
        ),
        Mistake(
            "covariance at kappa 1",
            -_kappa * _leaning,
            "This is the covariance at κ = 1. The energy is κ Σ L_j, and the BIF −κ times the "
            "covariance.",
        ),
        Mistake(
            "energy without kappa",
            _kappa**2 * _leaning,
            "The −κ in front is there, but the energy is κ Σ L_j: its derivatives are κh and κl3.",
        ),
        Mistake(
            "cubic without kappa",
            _leaning / _kappa,
            "One κ is missing: before the covariance (the BIF is −κ times it), or in the cubic, "
            "κ l3 δ³/6.",
        ),
        Mistake(
            "kappa 1",
            _kappa * _leaning,
            "This is the answer at κ = 1: the energy is κ Σ L_j, and the BIF −κ times the "
            "covariance.",
        ),
        Mistake(
            "uncentred",
            5 * _leaning / 4,
            "E[δ³] = −5 l3/(2κ²h³) is a moment. The covariance takes E[δ] E[δ²] away: E[δ] is not "
            "zero any more.",
        ),
        Mistake(
            "half",
            _leaning / 2,
            "Half of it. The cubic shifts the mean of δ, and skews δ about its mean: the two count "
            "alike.",
        ),
        Mistake(
            "half, sign",
            -_leaning / 2,
            "The sign, and half is missing: the cubic shifts the mean of δ and skews it.",
        ),
        Mistake(
            "no sixth",
            6 * _leaning,
            "Six times too large: the cubic term of the energy is κ l3 δ³/6.",
        ),
        Mistake(
            "Taylor's half",
            2 * _leaning,
            "Twice too large: T_2 is ½ of curvature times δ².",
        ),
        Mistake(
            "(2,1) missing",
            _l3 * _f1 * _g2 / (_kappa * _h**3),
            "The slope of L_i and the curvature of φ make a term as well.",
        ),
        Mistake(
            "(1,2) missing",
            _l3 * _f2 * _g1 / (_kappa * _h**3),
            "The slope of φ and the curvature of L_i make a term as well.",
        ),
        Mistake(
            "power of h",
            _h * _leaning,
            "l3 grows like n, so this is of order n⁻¹: δ⁶ brings h⁻³.",
        ),
        Mistake(
            "l4",
            _leaning - _slopes * _quartic,
            "l4 enters with both slopes only: part (h).",
        ),
        Mistake(
            "part (h) too",
            _leaning + _slopes * (_cubic - _quartic),
            "The terms with both slopes, f1 g1, are part (h). One slope and one curvature are "
            "asked.",
        ),
    ],
    hints=[
        "To first order in l3 the mean of X is E[X] − (κ l3/6) E[X δ³], both under N(0, 1/(κh)).",
        "E[δ⁴] = 3/(κh)² and E[δ⁶] = 15/(κh)³ give E[δ] = −l3/(2κh²), E[δ³] = −5 l3/(2κ²h³).",
        "Cov(δ, ½δ²) = ½ (E[δ³] − E[δ] E[δ²]), with E[δ²] = 1/(κh) to this order. Then times −κ.",
    ],
)

part_h = Formula(
    "power_series.part_h",
    "what is left at order n⁻² of the BIF: the terms with both slopes",
    truth=_slopes * (_cubic - _quartic),
    domain=_domain,
    mistakes=[
        Mistake(
            "quartic only",
            -_slopes * _quartic,
            "l3² is of order n², and l3²/h⁴ of order n⁻²: the cubic counts, squared.",
        ),
        Mistake(
            "cubic only",
            _slopes * _cubic,
            "The quartic is missing: κ l4 δ⁴/24 is as small as the cubic squared.",
        ),
        Mistake(
            "sign",
            _slopes * (_quartic - _cubic),
            "Sign flipped: l4 > 0 makes the posterior narrower, l3² wider, and the BIF is −κ Cov.",
        ),
        Mistake(
            "covariance",
            -_slopes * (_cubic - _quartic) / _kappa,
            "This is the change of the covariance. The BIF is −κ times it.",
        ),
        Mistake(
            "covariance at kappa 1",
            -_kappa * _slopes * (_cubic - _quartic),
            "This is the covariance at κ = 1. The energy is κ Σ L_j, and the BIF −κ times the "
            "covariance.",
        ),
        Mistake(
            "energy without kappa",
            _kappa**2 * _slopes * (_cubic - _quartic),
            "The −κ in front is there, but the energy is κ Σ L_j: its derivatives are κh, κl3 and "
            "κl4.",
        ),
        Mistake(
            "no kappa in front",
            _slopes * (_cubic - _quartic) / _kappa,
            "This is minus the change of the covariance. The BIF is −κ times it.",
        ),
        Mistake(
            "kappa 1",
            _kappa * _slopes * (_cubic - _quartic),
            "This is the answer at κ = 1: the energy is κ Σ L_j, and the BIF −κ times the "
            "covariance.",
        ),
        Mistake(
            "no slopes",
            (_quartic - _cubic) / _kappa,
            "f1 g1 is missing: δ comes with the slope of φ, and with that of L_i.",
        ),
        Mistake(
            "variance",
            (_cubic - _quartic) / _kappa**2,
            "This is what the variance of δ has beyond 1/(κh). Multiply by both slopes and by −κ.",
        ),
        Mistake(
            "variance at kappa 1",
            _cubic - _quartic,
            "This is what the variance of δ gains, at κ = 1. Both slopes are missing, and κ with "
            "its minus.",
        ),
        Mistake(
            "sign of the quartic",
            _slopes * (_cubic + _quartic),
            "l4 > 0 makes the walls steeper and the posterior narrower: against l3², it has the "
            "other sign.",
        ),
        Mistake(
            "sign of the cubic",
            -_slopes * (_cubic + _quartic),
            "The cubic enters squared, and leaning to one side widens the posterior: against l4, "
            "it has the other sign.",
        ),
        Mistake(
            "uncentred",
            _slopes * (5 * _cubic / 4 - _quartic),
            "This has E[δ²] − 1/(κh). The variance takes E[δ]² = l3²/(4κ²h⁴) away.",
        ),
        Mistake(
            "not normalised",
            _slopes * (29 * _cubic / 24 - 5 * _quartic / 4),
            "The normalising constant changes too, by (5 l3²/(24h³) − l4/(8h²))/κ: divide by it.",
        ),
        Mistake(
            "neither",
            _slopes * (35 * _cubic / 24 - 5 * _quartic / 4),
            "This is ∫ δ² alone: divide by the new normalising constant, and take E[δ]² away.",
        ),
        Mistake(
            "half the cubic",
            _slopes * (_cubic / 2 - _quartic),
            "Half of the l3² part: the curvature at the shifted mean, κh − l3²/(2h²), gives "
            "l3²/(2κ²h⁴). The skew gives as much.",
        ),
        Mistake(
            "twice the quartic",
            _slopes * (_cubic - 2 * _quartic),
            "The quartic part is twice too large: (l4/24)(15 − 3) is l4/2.",
        ),
        Mistake(
            "leading term too",
            -_f1 * _g1 / _h + _slopes * (_cubic - _quartic),
            "f1 g1/h is of order n⁻¹, the influence function. What is smaller is asked.",
        ),
        Mistake(
            "no 24",
            _slopes * (_cubic - 24 * _quartic),
            "The quartic term of the energy is κ l4 δ⁴/24.",
        ),
        Mistake(
            "part (g) too",
            _leaning + _slopes * (_cubic - _quartic),
            "f1 g2 and f2 g1 are part (g): here φ and L_i are both linear, T_1 and T_1.",
        ),
    ],
    hints=[
        "It is −κ f1 g1 times what the variance of δ has beyond 1/(κh).",
        "Density ∝ Gaussian × (1 − κl3δ³/6 − κl4δ⁴/24 + ½(κl3δ³/6)²): find ∫1, ∫δ and ∫δ² of it.",
        "Gaussian moments E[δ⁴], E[δ⁶], E[δ⁸] are 3/(κh)², 15/(κh)³, 105/(κh)⁴. "
        "Then E[δ²] − E[δ]², with E[δ] = −l3/(2κh²).",
    ],
)

# --- where the series is exact, and where it is cut too early ------------------------------------


def _test_loss_case(rng: np.random.Generator) -> tuple:
    x, y, sigma, tau = regression_case(rng)
    return x, y, sigma, tau, normal(rng, x.shape[1]), float(rng.standard_normal() + 1.0)


def _expected_test_loss(x, y, sigma, tau, x_t, y_t, beta):
    """E[½(y_t − wᵀx_t)²] under every row of β, (m, n) → (m,), from mean and variance of wᵀx_t."""
    precision = np.einsum("mj,ja,jb->mab", beta, x, x) / sigma**2 + np.eye(x.shape[1]) / tau**2
    pull = beta @ (x * y[:, None]) / sigma**2
    sides = np.stack([pull, np.broadcast_to(x_t, pull.shape)], axis=-1)
    mean, variance = np.moveaxis(np.linalg.solve(precision, sides), -1, 0) @ x_t
    return 0.5 * (y_t - mean) ** 2 + 0.5 * variance


def _test_loss_by_differences(x, y, sigma, tau, x_t, y_t, step=3e-4):
    arguments = x.numpy(), y.numpy(), sigma, tau, x_t.numpy(), y_t
    bump = step * np.eye(len(x))
    up, down = (_expected_test_loss(*arguments, 1 + s * bump) for s in (1, -1))
    return (up - down) / (2 * step)


def _pieces(formula: Callable) -> Callable:
    """A mistake's formula in κ, r_j, r_t and s = x_jᵀVx_t."""

    def wrong(x, y, sigma, tau, x_t, y_t):
        kappa = 1 / sigma**2
        v = np.linalg.inv(kappa * x.T @ x + np.eye(x.shape[1]) / tau**2)
        mean = kappa * v @ x.T @ y
        return formula(kappa, y - x @ mean, y_t - x_t @ mean, x @ v @ x_t)

    return in_numpy(wrong)


def _least_squares(formula: Callable) -> Callable:
    """The same pieces without the prior."""
    return lambda x, y, sigma, tau, x_t, y_t: _pieces(formula)(x, y, sigma, np.inf, x_t, y_t)


def _other_precision(bend: Callable) -> Callable:
    """A mistake's formula: the right sum, with a wrong V⁻¹ made from A, I, σ and τ."""

    def wrong(x, y, sigma, tau, x_t, y_t):
        v = np.linalg.inv(bend(x.T @ x, np.eye(x.shape[1]), sigma, tau))
        mean, s = v @ x.T @ y / sigma**2, x @ v @ x_t
        return -((y - x @ mean) * (y_t - x_t @ mean) * s + s**2 / 2) / sigma**2

    return in_numpy(wrong)


def _residuals_at_least_squares(x, y, sigma, tau, x_t, y_t):
    s = x @ np.linalg.solve(x.T @ x / sigma**2 + np.eye(x.shape[1]) / tau**2, x_t)
    mean = np.linalg.solve(x.T @ x, x.T @ y)
    return -((y - x @ mean) * (y_t - x_t @ mean) * s + s**2 / 2) / sigma**2


def _no_posterior(x, y, sigma, tau, x_t, y_t):
    kappa = 1 / sigma**2
    mean = np.linalg.solve(x.T @ x + (sigma / tau) ** 2 * np.eye(x.shape[1]), x.T @ y)
    s = x @ x_t
    return -kappa * ((y - x @ mean) * (y_t - x_t @ mean) * s + s**2 / 2)


part_i = Function(
    "power_series.part_i",
    "the exact BIF of every example on the loss at a test point",
    truth=_test_loss_by_differences,
    cases=_test_loss_case,
    rtol=1e-5,
    mistakes=[
        Mistake(
            "slopes only",
            _pieces(lambda kappa, r, r_t, s: -kappa * r * r_t * s),
            "This is the (1,1) term, an influence function with damping. Both losses curve: where "
            "is (2,2)?",
        ),
        Mistake(
            "curvatures only",
            _pieces(lambda kappa, r, r_t, s: -kappa * s**2 / 2),
            "This is the (2,2) term. The slopes at μ, with the residuals in them, are missing.",
        ),
        Mistake(
            "sign",
            _pieces(lambda kappa, r, r_t, s: kappa * (r * r_t * s + s**2 / 2)),
            "Sign flipped: the BIF is minus κ times the covariance.",
        ),
        Mistake(
            "no kappa",
            _pieces(lambda kappa, r, r_t, s: -(r * r_t * s + s**2 / 2)),
            "This is −Cov(L_j, φ): κ = 1/σ² is missing in front.",
        ),
        Mistake(
            "no kappa, sign",
            _pieces(lambda kappa, r, r_t, s: r * r_t * s + s**2 / 2),
            "This is Cov(L_j, φ). The BIF is −κ times it, with κ = 1/σ².",
        ),
        Mistake(
            "sign of the curvatures",
            _pieces(lambda kappa, r, r_t, s: -kappa * (r * r_t * s - s**2 / 2)),
            "½(x_jᵀd)² and ½(x_tᵀd)² are large together: their covariance is +½s², whatever the "
            "sign of s.",
        ),
        Mistake(
            "sign of the slopes",
            _pieces(lambda kappa, r, r_t, s: -kappa * (-r * r_t * s + s**2 / 2)),
            "Both slopes have a minus: −r_j x_j and −r_t x_t. The two cancel in the covariance.",
        ),
        Mistake(
            "no half",
            _pieces(lambda kappa, r, r_t, s: -kappa * (r * r_t * s + s**2)),
            "The curvature term is twice too large: ½ tr(f2 V g2 V) = ½ s².",
        ),
        Mistake(
            "quarter",
            _pieces(lambda kappa, r, r_t, s: -kappa * (r * r_t * s + s**2 / 4)),
            "The curvature term is half of what it should be: ½ tr(f2 V g2 V) = ½ s².",
        ),
        Mistake(
            "kappa twice",
            _pieces(lambda kappa, r, r_t, s: -(kappa**2) * (r * r_t * s + s**2 / 2)),
            "1/σ² is there twice: once in front is enough, as the losses are unscaled.",
        ),
        Mistake(
            "kappa once",
            _pieces(lambda kappa, r, r_t, s: -(kappa * r * r_t * s + s**2 / 2)),
            "κ = 1/σ² multiplies the whole covariance: it is missing before ½ s².",
        ),
        Mistake(
            "sigma not in V",
            _pieces(
                lambda kappa, r, r_t, s: -kappa * (r * r_t * (s * kappa) + (s * kappa) ** 2 / 2)
            ),
            "(A + λI)⁻¹ with λ = σ²/τ² is V/σ²: the posterior's covariance is σ² times that.",
        ),
        Mistake(
            "sigma not in V but in mu",
            _other_precision(lambda a, i, sigma, tau: a + (sigma / tau) ** 2 * i),
            "(A + λI)⁻¹ is V/σ². In μ = V Σ x_i y_i / σ² it needs no 1/σ², and s = x_jᵀVx_t needs "
            "a σ².",
        ),
        Mistake(
            "tau squared for its inverse",
            _other_precision(lambda a, i, sigma, tau: a / sigma**2 + tau**2 * i),
            "τ² is the variance of the prior: what it adds to V⁻¹ is I/τ².",
        ),
        Mistake(
            "residuals at least squares",
            in_numpy(_residuals_at_least_squares),
            "V is right, but the residuals are those of least squares. Take them at the posterior "
            "mean μ.",
        ),
        Mistake(
            "s once",
            _pieces(lambda kappa, r, r_t, s: -kappa * (r * r_t * s + s / 2)),
            "The curvature term has s squared: V enters ½ tr(f2 V g2 V) twice.",
        ),
        Mistake(
            "no prior",
            _least_squares(lambda kappa, r, r_t, s: -kappa * (r * r_t * s + s**2 / 2)),
            "This is the answer without a prior: V⁻¹ has I/τ² in it.",
        ),
        Mistake(
            "classical",
            _least_squares(lambda kappa, r, r_t, s: -kappa * r * r_t * s),
            "This is the influence function at least squares: no prior, and no curvature term.",
        ),
        Mistake(
            "no V",
            in_numpy(_no_posterior),
            "V is missing between the two inputs: s = x_jᵀVx_t.",
        ),
    ],
    hints=[
        "The posterior is N(μ, V) exactly, and both losses are quadratic: which terms are there "
        "at all?",
        "Slopes −r_j x_j and −r_t x_t, curvatures x_j x_jᵀ and x_t x_tᵀ. Parts (c) and (e) with "
        "Σ = V.",
        "−κ (r_j r_t s + ½ s²) with s = x_jᵀVx_t and κ = 1/σ².",
    ],
)


@cache
def one_term_more(copies: int = 100) -> str:
    """Whether (2,2) brings the series closer to the exact BIF of all five examples."""
    delta, p = _points(copies)
    phi = np.log1p(np.exp(-(five_minimum() + delta)))
    exact = -(p * (phi - p @ phi)) @ _losses(five_minimum() + delta)
    g1, g2 = _softplus_slopes(five_minimum())
    u = 1 / (1 + np.exp(five_minimum()))
    f1, f2, h = -u, u * (1 - u), copies * g2.sum()
    first, second = -f1 * g1 / h, -f2 * g2 / (2 * h**2)
    closer = abs(exact - first - second) < abs(exact - first)
    return "closer" if closer.all() else "mixed" if closer.any() else "further"


part_j = Choice(
    "power_series.part_j",
    "what the (2,2) term does to the error of the (1,1) term on this problem",
    truth=one_term_more,
    wrong={
        "closer": "So one would think, but (2,2) is one of several terms of order n⁻². Add up all "
        "of parts (f) to (h).",
        "mixed": "A fair guess: nothing fixes the sign of what is left out. Compute it for the "
        "five examples.",
    },
    hints=[
        "Put the derivatives at w* into parts (f), (g) and (h), for every example.",
        "BIF − (1,1) is about the sum of (f), (g) and (h), at κ = 1. Compare −f2 g2/(2h²) with it.",
        "Adding t to a guess helps only if t has the sign of what is missing, and is less than "
        "twice as large.",
        "The ratio of −f2 g2/(2h²) to that sum is −1.4, −1.5, 26, −2.6 and 2.2 for the five "
        "examples.",
    ],
)
