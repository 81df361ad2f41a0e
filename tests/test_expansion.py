"""Every term of the expansion against moments of a Gaussian, and their sum against quadrature."""

import itertools
import math

import mpmath as mp
import numpy as np
import pytest
import sympy as sp
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from lib import models
from lib.bayesian import Gibbs
from lib.expansion import LEADING, MOST_PARAMETERS, SECOND_ORDER, expansion
from lib.objective import Objective

# Torch compiles its own rules when a forward derivative is first asked for.
pytestmark = pytest.mark.filterwarnings("ignore:.torch.jit.script:DeprecationWarning")

few = settings(deadline=None, max_examples=4, derandomize=True)
seeds = st.integers(0, 10**6)
NAN = float("nan")


def close(left, right, rtol=1e-9):
    left, right = np.asarray(left), np.asarray(right)
    assert left.shape == right.shape
    assert np.abs(left - right).max() <= rtol * np.abs(right).max()


def total(terms):
    return sum(terms.values())


# --- one parameter: formulas ---------------------------------------------------------------------

f1, f2, f3, g1, g2, g3, h, l3, l4, r1, r2 = sp.symbols("f1 f2 f3 g1 g2 g3 h l3 l4 r1 r2")

FORMULAS = {  # of the covariance; the BIF is −κ times these
    "(1,1)": f1 * g1 / h,
    "(2,2)": f2 * g2 / (2 * h**2),
    "(1,3)": f1 * g3 / (2 * h**2),
    "(3,1)": f3 * g1 / (2 * h**2),
    "(1,2) cubic": -l3 * f1 * g2 / h**3,
    "(2,1) cubic": -l3 * f2 * g1 / h**3,
    "(1,1) cubic²": l3**2 * f1 * g1 / h**4,
    "(1,1) quartic": -l4 * f1 * g1 / (2 * h**3),
    "prior slope": -(f2 * g1 + f1 * g2) * r1 / h**2 + l3 * f1 * g1 * r1 / h**3,
    "prior curvature": -f1 * g1 * r2 / h**2,
}


def test_formulas_are_the_series_of_the_covariance():
    """With w = e t and e = n^(−1/2), the energy is ½ht² and small terms: expand the exponential."""
    e, t, c = sp.symbols("e t c")  # c = 1/h
    ring = sp.ring([e, t, c, f1, f2, f3, g1, g2, g3, l3, l4, r1, r2], sp.QQ)[0]
    small = e * (l3 * t**3 / 6 + r1 * t) + e**2 * (l4 * t**4 / 24 + r2 * t**2 / 2)
    density = ring.from_expr(1 - small + small**2 / 2)
    f, g = (
        ring.from_expr(a1 * e * t + a2 * e**2 * t**2 / 2 + a3 * e**3 * t**3 / 6)
        for a1, a2, a3 in ((f1, f2, f3), (g1, g2, g3))
    )

    def mean(polynomial):
        """t^k becomes (k − 1)!! c^(k/2), or nothing if k is odd."""
        result = ring.zero
        for (power, k, *others), factor in polynomial.terms():
            if k % 2 == 0:
                others[0] += k // 2
                moment = int(sp.factorial2(k - 1)) if k else 1
                result += ring({(power, 0, *others): factor * moment})
        return result

    z = mean(density)
    covariance_z2 = mean(f * g * density) * z - mean(f * density) * mean(g * density)
    named = e**2 * FORMULAS[LEADING] + e**4 * sum(FORMULAS[name] for name in SECOND_ORDER)
    gap = covariance_z2 - ring.from_expr(sp.expand(named.subs(h, 1 / c))) * z**2
    assert min(power for power, *_ in gap.monoms()) > 4


@pytest.mark.parametrize("with_prior", [True, False])
def test_one_parameter_to_all_digits(with_prior):
    """Poisson regression; derivatives by mpmath at forty digits."""
    mp.mp.dps = 40
    x, y, beta = [0.7, -1.1, 0.4, 1.6], [2.0, 1.0, 0.0, 3.0], [0.8, 1.3, 1.1, 0.6]
    kappa, ridge, gamma, centre = 0.7, 0.4, 0.3, 0.9

    def loss(i):
        return lambda w: mp.exp(mp.mpf(x[i]) * w) - mp.mpf(y[i]) * mp.mpf(x[i]) * w

    def energy(w):
        each = sum(mp.mpf(b) * loss(i)(w) for i, b in enumerate(beta))
        held = ridge * w**2 / 2 + gamma * (w - mp.mpf(centre)) ** 2 / 2
        return mp.mpf(kappa) * each + held

    w = mp.findroot(lambda v: mp.diff(energy, v), 0.5)
    _, slope, h0, cubic, quartic = (mp.diff(energy, w, k) for k in range(5))
    assert abs(slope) < 1e-30
    f = [mp.diff(lambda v: mp.sin(2 * v) + v**2, w, k) for k in range(4)]
    r = [mp.diff(lambda v: 2 * mp.log(1 + (v - 2) ** 2), w, k) for k in range(3)]
    known = {f1: f[1], f2: f[2], f3: f[3], h: h0, l3: cubic, l4: quartic}
    known |= {r1: r[1] if with_prior else 0, r2: r[2] if with_prior else 0}
    tx, ty = torch.tensor(x, dtype=torch.float64)[:, None], torch.tensor(y, dtype=torch.float64)
    poisson = Objective(models.dot, lambda s, y: (torch.exp(s) - y * s).squeeze(-1), tx, ty, ridge)
    gibbs = Gibbs(
        poisson,
        kappa,
        gamma,
        torch.tensor([centre], dtype=torch.float64),
        (lambda v: -2 * torch.log(1 + (v[0] - 2) ** 2)) if with_prior else None,
    )
    at = torch.tensor([float(w)], dtype=torch.float64)
    found = expansion(
        gibbs,
        at,
        lambda v: torch.sin(2 * v[0]) + v[0] ** 2,
        torch.tensor(beta, dtype=torch.float64),
    )
    assert list(found) == [LEADING, *SECOND_ORDER]
    each = [[mp.diff(loss(i), w, k) for k in range(4)] for i in range(4)]
    for name, formula in FORMULAS.items():
        function = sp.lambdify([*known, g1, g2, g3], formula, "mpmath")
        want = [float(-kappa * function(*known.values(), *g[1:])) for g in each]
        assert np.abs(found[name].numpy() - want).max() <= 1e-12 * np.abs(want).max(), name
        assert np.abs(want).min() > 1e-3 or (not with_prior and name.startswith("prior")), name


# --- several parameters: joint cumulants of a Gaussian -------------------------------------------


def value(tensors, d):
    """Σ_k T_k[d, …, d]/k! at the rows of d, one column a k; no tensor need be symmetric."""
    parts = []
    for k, tensor in enumerate(tensors, start=1):
        powers = [d[:, i] for i in range(d.shape[1])]
        parts.append(
            sum(
                tensor[index] * math.prod(powers[i] for i in index)
                for index in itertools.product(range(d.shape[1]), repeat=k)
            )
            / math.factorial(k)
        )
    return np.stack(parts, axis=1)


def flat(tensors):
    """The coefficients T_k/k! in one row."""
    return np.concatenate([t.ravel() / math.factorial(k + 1) for k, t in enumerate(tensors)])


def monomials(d, order):
    """d, d⊗d, … in one row: what `flat` is to be multiplied with."""
    powers = [d]
    for _ in range(order - 1):
        powers.append(torch.outer(powers[-1], d).reshape(-1))
    return torch.cat(powers)


class World:
    """Losses, observable and prior that are polynomials about w0 with random coefficients.

    Every tensor is drawn without any symmetry. The first derivative of the last loss makes the
    energy stationary at w0.
    """

    def __init__(self, seed, p, kappa=0.7, ridge=0.4, gamma=0.6, prior=True, weighted=True):
        rng = np.random.default_rng(seed)
        n = 4
        self.p, self.n, self.kappa, self.ridge, self.gamma = p, n, kappa, ridge, gamma

        def draw(order):
            return [rng.normal(size=(p,) * k) for k in range(1, order + 1)]

        self.w0, self.centre = rng.normal(size=p), rng.normal(size=p)
        self.beta = rng.uniform(0.5, 1.5, n) if weighted else np.ones(n)
        self.losses = [draw(4) for _ in range(n)]
        turn = np.linalg.qr(rng.normal(size=(p, p)))[0]
        for tensors in self.losses:
            tensors[1] += (turn * (2.0 + 2 * np.arange(p))) @ turn.T
        pull = ridge * self.w0 + gamma * (self.w0 - self.centre)
        pull += kappa * sum(b * t[0] for b, t in zip(self.beta[:-1], self.losses, strict=False))
        self.losses[-1][0] = -pull / (kappa * self.beta[-1])
        self.phi, self.minus_log_prior = draw(4), draw(3) if prior else None

    def summed(self, k):
        return self.kappa * sum(b * t[k - 1] for b, t in zip(self.beta, self.losses, strict=True))

    def hessian(self):
        one = self.summed(2)
        return (one + one.T) / 2 + (self.ridge + self.gamma) * np.eye(self.p)

    def gibbs(self, turn=None):
        """The Gibbs posterior, φ and w*; with w = turn v, in the coordinates v."""
        turn = np.eye(self.p) if turn is None else turn
        t, back, w0 = torch.tensor(turn), np.linalg.inv(turn), torch.tensor(self.w0)

        def polynomial(v, coefficients, order):
            return coefficients @ monomials(t @ v - w0, order)

        x = torch.tensor(np.array([flat(tensors) for tensors in self.losses]))
        objective = Objective(
            lambda v, x: polynomial(v, x, 4).reshape(1),
            lambda f, y: f.squeeze(-1),
            x,
            x[:, 0],
            self.ridge,
        )
        centre = torch.tensor(back @ self.centre) if self.gamma else None
        prior = None
        if self.minus_log_prior is not None:
            minus = torch.tensor(flat(self.minus_log_prior))
            prior = lambda v: 3.0 - polynomial(v, minus, 3)  # noqa: E731
        watched = torch.tensor(flat(self.phi))
        gibbs = Gibbs(objective, self.kappa, self.gamma, centre, prior)
        return gibbs, torch.tensor(back @ self.w0), lambda v: polynomial(v, watched, 4) - 5.0

    def terms(self, turn=None):
        gibbs, w, phi = self.gibbs(turn)
        return expansion(gibbs, w, phi, torch.tensor(self.beta))


def partitions(items):
    if not items:
        yield []
        return
    first, *rest = items
    for size in range(len(rest) + 1):
        for others in itertools.combinations(rest, size):
            left = [i for i in rest if i not in others]
            for partition in partitions(left):
                yield [[first, *others], *partition]


def cumulant(weights, *values):
    """The joint cumulant of random variables given by their values at weighted points."""
    return sum(
        (-1) ** (len(blocks) - 1)
        * math.factorial(len(blocks) - 1)
        * math.prod(weights @ math.prod(values[i] for i in block) for block in blocks)
        for blocks in partitions(list(range(len(values))))
    )


def gauss_hermite(covariance, nodes=6):
    """Points and weights of N(0, C), exact for polynomials of degree 2·nodes − 1."""
    z, u = np.polynomial.hermite_e.hermegauss(nodes)
    p = len(covariance)
    z = np.array(list(itertools.product(z, repeat=p)))
    u = np.array([math.prod(c) for c in itertools.product(u, repeat=p)])
    return z @ np.linalg.cholesky(covariance).T, u / u.sum()


def by_cumulants(world):
    """Cov = κ(φ, L) − κ(φ, L, V) + ½κ(φ, L, V, V) − …, where V is what the Gaussian leaves out."""
    d, u = gauss_hermite(np.linalg.inv(world.hessian()))
    f = value(world.phi, d).T
    u3, u4 = (value([world.summed(k) for k in range(1, 5)], d)[:, k - 1] for k in (3, 4))
    s1, s2 = (
        value(world.minus_log_prior, d).T[:2] if world.minus_log_prior else np.zeros((2, len(d)))
    )

    def k(*values):
        return cumulant(u, *values)

    rows = []
    for tensors in world.losses:
        g = value(tensors, d).T
        rows.append(
            {
                "(1,1)": k(f[0], g[0]),
                "(2,2)": k(f[1], g[1]),
                "(1,3)": k(f[0], g[2]),
                "(3,1)": k(f[2], g[0]),
                "(1,2) cubic": -k(f[0], g[1], u3),
                "(2,1) cubic": -k(f[1], g[0], u3),
                "(1,1) cubic²": k(f[0], g[0], u3, u3) / 2,
                "(1,1) quartic": -k(f[0], g[0], u4),
                "prior slope": -k(f[1], g[0], s1) - k(f[0], g[1], s1) + k(f[0], g[0], u3, s1),
                "prior curvature": -k(f[0], g[0], s2),
            }
        )
    return {name: -world.kappa * np.array([row[name] for row in rows]) for name in rows[0]}


def isserlis(covariance, *indices):
    """E of a product of coordinates of N(0, C): the sum over pairings."""
    if not indices:
        return 1.0
    first, *rest = indices
    return sum(
        covariance[first, rest[j]] * isserlis(covariance, *rest[:j], *rest[j + 1 :])
        for j in range(len(rest))
    )


@few
@given(seeds, st.sampled_from([(0, 0, 0, 1), (2, 1, 1, 0, 2, 2), (0, 0, 1, 2, 2, 2, 1, 0), (1,)]))
def test_quadrature_gives_the_moments_of_isserlis(seed, indices):
    c = World(seed, 3).hessian() / 10
    d, u = gauss_hermite(c)
    got, want = u @ math.prod(d[:, i] for i in indices), isserlis(c, *indices)
    assert got == pytest.approx(want if len(indices) % 2 == 0 else 0, rel=1e-9, abs=1e-9)


@pytest.mark.parametrize("prior", [True, False])
@pytest.mark.parametrize("p", [1, 2, 3])
@settings(few, max_examples=3)
@given(
    seed=seeds,
    kappa=st.sampled_from([0.4, 1.0, 2.5]),
    ridge=st.sampled_from([0.7, 0.0]),
    gamma=st.sampled_from([1.2, 0.0]),
)
def test_every_term_by_cumulants(seed, p, kappa, ridge, gamma, prior):
    world = World(seed, p, kappa, ridge, gamma, prior)
    found, want = world.terms(), by_cumulants(world)
    assert list(found) == [LEADING, *SECOND_ORDER]
    for name, term in found.items():
        assert term.shape == (world.n,) and term.dtype == torch.float64
        # Cumulants cancel: what they leave is measured against the leading term, too.
        scale = np.abs(want[name]).max() + 1e-3 * np.abs(want[LEADING]).max()
        assert np.abs(term.numpy() - want[name]).max() <= 1e-9 * scale, name
        if not prior and name.startswith("prior"):
            assert (term == 0).all()


@settings(few, max_examples=2)
@given(seeds)
def test_without_weights_every_example_counts_once(seed):
    world = World(seed, 2, weighted=False)
    gibbs, w, phi = world.gibbs()
    want = by_cumulants(world)
    for name, term in expansion(gibbs, w, phi).items():
        close(term, want[name])


@pytest.mark.parametrize("p", [2, 3])
@settings(few, max_examples=2)
@given(seed=seeds)
def test_a_rotation_of_the_parameters_leaves_every_term(seed, p):
    world = World(seed, p)
    turn = np.linalg.qr(np.random.default_rng(seed).normal(size=(p, p)))[0]
    before, after = world.terms(), world.terms(turn)
    for name in before:
        close(after[name], before[name])


@pytest.mark.parametrize("p", [1, 3])
@settings(few, max_examples=2)
@given(seed=seeds)
def test_without_a_penalty_so_does_any_linear_map(seed, p):
    world = World(seed, p, ridge=0.0, gamma=0.0)
    rng = np.random.default_rng(seed)
    turn = np.linalg.qr(rng.normal(size=(p, p)))[0] * rng.uniform(0.2, 4, p)
    before, after = world.terms(), world.terms(turn)
    for name in before:
        close(after[name], before[name], 1e-8)


@pytest.mark.parametrize("seed", [7])
def test_order_of_the_examples_does_not_matter(seed):
    world = World(seed, 2)
    before = world.terms()
    order = np.random.default_rng(seed).permutation(world.n)
    world.losses, world.beta = [world.losses[i] for i in order], world.beta[order]
    after = world.terms()
    for name in before:
        close(after[name], before[name][order])


@settings(few, max_examples=2)
@given(seeds, st.integers(2, 5))
def test_temperature_and_repetition(seed, times):
    """Without restraints only (1,1) stays as κ grows: the others fall like 1/κ.

    Data repeated, and data weighted, change every example's influence alike.
    """
    base = World(seed, 2, 1.0, 0.0, 0.0, prior=False)
    gibbs, w, phi = base.gibbs()
    beta = torch.tensor(base.beta)
    one = expansion(gibbs, w, phi, beta)
    hot = expansion(Gibbs(gibbs.objective, float(times)), w, phi, beta)
    heavy = expansion(gibbs, w, phi, times * beta)
    x, y = gibbs.objective.x, gibbs.objective.y
    many = Objective(
        gibbs.objective.predict, gibbs.objective.loss, x.repeat(times, 1), y.repeat(times)
    )
    repeated = expansion(Gibbs(many), w, phi, beta.repeat(times))
    for name, term in one.items():
        order = 1 if name == LEADING else 2
        close(hot[name], term.numpy() / times ** (order - 1))
        close(heavy[name], term.numpy() / times**order)
        close(repeated[name], (term.numpy() / times**order)[np.arange(times * 4) % 4])


@pytest.mark.parametrize("seed", [7])
def test_observable_and_loss_are_on_a_par(seed):
    """With φ = L_j, what (k, m) says of i and j is what (m, k) says of j and i."""
    world = World(seed, 2)
    tables = []
    for tensors in world.losses:
        world.phi = tensors
        tables.append(world.terms())
    mirror = {"(1,3)": "(3,1)", "(3,1)": "(1,3)"}
    mirror |= {"(1,2) cubic": "(2,1) cubic", "(2,1) cubic": "(1,2) cubic"}
    for name in tables[0]:
        matrix = np.array([table[name].numpy() for table in tables])
        other = np.array([table[mirror.get(name, name)].numpy() for table in tables])
        close(matrix, other.T)
    assert np.linalg.matrix_rank(np.array([table[LEADING].numpy() for table in tables])) == 2


# --- the sum, against quadrature -----------------------------------------------------------------

# ℓ, ℓ′ and ℓ″ of the loss as a function of s = wᵀx.
LINKS = {
    "logistic": (
        lambda s, y: np.logaddexp(0, -y * s),
        lambda s, y: -y / (1 + np.exp(y * s)),
        lambda s, y: 1 / (2 + np.exp(s) + np.exp(-s)),
    ),
    "poisson": (
        lambda s, y: np.exp(s) - y * s,
        lambda s, y: np.exp(s) - y,
        lambda s, y: np.exp(s),
    ),
    "tanh": (
        lambda s, y: 0.5 * (y - np.tanh(s)) ** 2,
        lambda s, y: -(y - np.tanh(s)) * np.cosh(s) ** -2,
        lambda s, y: np.cosh(s) ** -4 + 2 * (y - np.tanh(s)) * np.tanh(s) * np.cosh(s) ** -2,
    ),
}


def model_of(kind, x, y, l2):
    if kind == "logistic":
        return models.logistic(x, y, l2)
    if kind == "poisson":
        return Objective(models.dot, lambda s, y: (s.exp() - y * s).squeeze(-1), x, y, l2)
    return Objective(lambda w, x: models.dot(w, x).tanh(), models.squared_error, x, y, l2)


CASES = {
    "logistic": (
        np.array([[1.0, 0.4], [1.0, -1.3], [1.0, 2.1], [1.0, -0.2], [0.6, 1.1], [-0.9, 1.5]]),
        np.array([1.0, -1, 1, 1, -1, 1]),
    ),
    "poisson": (np.array([[0.7], [-1.1], [0.4], [1.6]]), np.array([2.0, 1.0, 0.0, 3.0])),
    "tanh": (np.array([[0.6], [-1.0], [0.3], [1.4]]), np.array([0.2, -0.9, 0.6, 0.5])),
}


def residuals(kind, copies, *, kappa=1.0, ridge=0.0, gamma=0.0, prior=False, weighted=False):
    """(terms, exact BIF) for the data repeated: by the library, and by a grid of numpy."""
    x, y = CASES[kind]
    n, p = x.shape
    rng = np.random.default_rng(5)
    beta = rng.uniform(0.6, 1.4, n) if weighted else np.ones(n)
    centre, q, m = np.array([0.3, -0.4])[:p], np.array([2.5, -0.7])[:p], np.array([1.3, 0.2])[:p]
    loss, slope, bend = LINKS[kind]

    w = np.zeros(p)
    for _ in range(60):
        s = x @ w
        gradient = copies * kappa * x.T @ (beta * slope(s, y)) + ridge * w + gamma * (w - centre)
        curvature = copies * kappa * (x.T * (beta * bend(s, y))) @ x + (ridge + gamma) * np.eye(p)
        w = w - np.linalg.solve(curvature, gradient)

    def log_prior(v, log):  # a Student t about m
        return -2 * log(1 + ((v - m) ** 2).sum(-1))

    # Steps of half a posterior width: the trapezoid rule leaves exp(−8π²) of a Gaussian.
    side = np.arange(-9, 9.25, 0.5)
    z = np.array(list(itertools.product(side, repeat=p)))
    v = w + z @ np.linalg.cholesky(np.linalg.inv(curvature)).T
    each = loss(v @ x.T, y)
    energy = copies * kappa * (each - loss(x @ w, y)) @ beta
    energy += 0.5 * ridge * (v**2).sum(1) + 0.5 * gamma * ((v - centre) ** 2).sum(1)
    if prior:
        energy = energy - log_prior(v, np.log)
    density = np.exp(energy.min() - energy)
    density /= density.sum()
    watched = np.exp(v @ q) + v[:, 0]
    exact = -kappa * (density * (watched - density @ watched)) @ (each - density @ each)

    tq, tm = torch.tensor(q), torch.tensor(m)
    objective = model_of(
        kind, torch.tensor(x).repeat(copies, 1), torch.tensor(y).repeat(copies), ridge
    )
    gibbs = Gibbs(
        objective,
        kappa,
        gamma,
        torch.tensor(centre) if gamma else None,
        (lambda v: -2 * torch.log(1 + ((v - tm) ** 2).sum())) if prior else None,
    )
    terms = expansion(
        gibbs,
        torch.tensor(w),
        lambda v: torch.exp(v @ tq) + v[0],
        torch.tensor(beta).repeat(copies) if weighted else None,
    )
    return {name: term[:n].numpy() for name, term in terms.items()}, exact


COPIES = (512, 1024, 2048)


def falls_like(errors):
    """The exponent a in error ~ copies^(−a)."""
    sizes = [np.abs(e).max() for e in errors]
    return -np.polyfit(np.log(COPIES), np.log(sizes), 1)[0]


EVERYTHING = {"kappa": 0.8, "ridge": 0.5, "gamma": 0.7, "prior": True, "weighted": True}
VARIANTS = {
    "plain": {},
    "localised": {"gamma": 2.0},
    "prior": {"prior": True},
    "weighted": {"kappa": 1.7, "weighted": True},
    "everything": EVERYTHING,
}


@pytest.mark.parametrize(
    "kind, variant",
    [
        ("logistic", "plain"),
        ("logistic", "localised"),
        ("logistic", "everything"),
        ("poisson", "prior"),
        ("poisson", "everything"),
        ("tanh", "weighted"),
        ("tanh", "everything"),
    ],
)
def test_sum_misses_only_the_third_order(kind, variant):
    runs = [residuals(kind, copies, **VARIANTS[variant]) for copies in COPIES]
    assert 2.8 < falls_like([total(terms) - exact for terms, exact in runs]) < 3.2
    assert 0.9 < falls_like([total(terms) for terms, _ in runs]) < 1.1
    # Each term has the order that its place in the list says, and none can be spared.
    for name in (LEADING, *SECOND_ORDER):
        order = 1 if name == LEADING else 2
        if name.startswith("prior") and "prior" not in VARIANTS[variant]:
            continue
        without = [total(terms) - terms[name] - exact for terms, exact in runs]
        assert order - 0.2 < falls_like(without) < order + 0.2, name


# --- linear regression ---------------------------------------------------------------------------


def regression(seed):
    rng = np.random.default_rng(seed)
    n, p = int(rng.integers(4, 8)), int(rng.integers(2, 4))
    x, y = rng.normal(size=(n, p)), rng.normal(size=n)
    kappa, ridge, gamma = rng.uniform(0.3, 3, 3)
    beta, centre = rng.uniform(0.3, 2, n), rng.normal(size=p)
    precision = kappa * (x.T * beta) @ x + (ridge + gamma) * np.eye(p)
    w = np.linalg.solve(precision, kappa * x.T @ (beta * y) + gamma * centre)
    model = models.linear(torch.tensor(x), torch.tensor(y), float(ridge))
    gibbs = Gibbs(model, float(kappa), float(gamma), torch.tensor(centre))
    return rng, x, y, beta, w, np.linalg.inv(precision), gibbs


@few
@given(seeds, st.booleans())
def test_linear_regression_is_exact(seed, curved):
    """Linear φ: nothing but (1,1). Quadratic φ: (2,2) besides, and then nothing is missing."""
    rng, x, y, beta, w, v, gibbs = regression(seed)
    p = len(w)
    q, m = rng.normal(size=p), curved * rng.normal(size=(p, p))
    tq, tm = torch.tensor(q), torch.tensor(m)
    terms = expansion(gibbs, torch.tensor(w), lambda u: tq @ u + u @ tm @ u, torch.tensor(beta))
    d, u = gauss_hermite(v, 3)
    d = w + d
    phi, losses = d @ q + np.einsum("ma,ab,mb->m", d, m, d), 0.5 * (y - d @ x.T) ** 2
    exact = -gibbs.inverse_temperature * (u * (phi - u @ phi)) @ (losses - u @ losses)
    close(total(terms), exact)
    present = {LEADING, "(2,2)"} if curved else {LEADING}
    for name, term in terms.items():
        if name in present:
            assert term.abs().max() > 1e-4 * terms[LEADING].abs().max()
        else:
            assert term.abs().max() <= 1e-12 * terms[LEADING].abs().max(), name


# --- limits and bad input ------------------------------------------------------------------------


def quadratics(diagonal, n=2):
    """Losses ½ Σ d_a w_a² / n: the smallest objective with a given Hessian."""
    d = torch.tensor(diagonal, dtype=torch.float64)
    x = torch.ones(n, 1, dtype=torch.float64)
    return Objective(lambda w, x: (0.5 * d @ w**2 / n).reshape(1), lambda f, y: f[0], x, x[:, 0])


def zeros(p):
    return torch.zeros(p, dtype=torch.float64)


def test_as_many_parameters_as_promised():
    p = MOST_PARAMETERS
    assert p == 24
    model = quadratics(np.arange(1.0, p + 1))
    terms = expansion(Gibbs(model), zeros(p), lambda w: (w**2).sum())
    close(terms["(2,2)"], np.full(2, -0.5 * (1 / np.arange(1.0, p + 1)).sum()))
    with pytest.raises(ValueError, match=r"^w_star: expected 1 to 24 parameters, got 25$"):
        expansion(Gibbs(quadratics(np.ones(25))), zeros(25), torch.sum)


@pytest.mark.parametrize("kappa", [1e-6, 1.0, 1e6])
def test_a_minimum_is_one_to_a_millionth_of_the_posterior_width(kappa):
    gibbs, width = Gibbs(quadratics([2.0, 5.0]), kappa), torch.tensor([2.0, 5.0]) ** -0.5
    off = torch.tensor([0.6, -0.8]).double() * width / kappa**0.5
    expansion(gibbs, 0.9e-6 * off, torch.sum)
    with pytest.raises(ValueError, match=r"^w_star: expected a minimum"):
        expansion(gibbs, 1.1e-6 * off, torch.sum)


@pytest.mark.parametrize("order", [[0, 1], [1, 0]])
def test_flat_directions_are_refused_unless_held(order):
    flat = np.array([1.0, 1e-15])[order]
    with pytest.raises(ValueError, match=r"^w_star: expected a positive definite Hessian"):
        expansion(Gibbs(quadratics(flat)), zeros(2), torch.sum)
    narrow = np.array([1.0, 2e-14])[order]
    close(expansion(Gibbs(quadratics(narrow)), zeros(2), lambda w: (w**2).sum())[LEADING], [0, 0])
    held = expansion(Gibbs(quadratics(flat), 1.0, 0.5, zeros(2)), zeros(2), lambda w: (w**2).sum())
    close(held["(2,2)"], np.full(2, -0.5 / 1.5**2))


X, Y = (torch.tensor(a) for a in CASES["logistic"])
MODEL = models.logistic(X, Y, 0.5)
W = zeros(2)
for _ in range(50):
    s = torch.sigmoid(X @ W)
    W = W - torch.linalg.solve(
        (X.T * (s * (1 - s))) @ X + 0.5 * torch.eye(2), X.T @ (s - (Y + 1) / 2) + 0.5 * W
    )
GIBBS = Gibbs(MODEL)
SADDLE = Gibbs(quadratics([1.0, -1.0]))


def kinked(function):
    """Losses w², plus a function whose third derivative at zero does not exist."""
    x = torch.ones(3, 1, dtype=torch.float64)
    return Gibbs(Objective(lambda w, x: w**2 + function(w), lambda f, y: f[0], x, x[:, 0]))


@pytest.mark.parametrize(
    "name, call",
    [
        ("w_star", lambda: expansion(GIBBS, W * NAN, torch.sum)),
        ("w_star", lambda: expansion(GIBBS, W[:, None], torch.sum)),
        ("w_star", lambda: expansion(GIBBS, W[0], torch.sum)),
        ("w_star", lambda: expansion(GIBBS, W.tolist(), torch.sum)),
        ("w_star", lambda: expansion(GIBBS, W + 1e-3, torch.sum)),
        ("w_star", lambda: expansion(GIBBS, W, torch.sum, torch.arange(6.0).double())),
        ("w_star", lambda: expansion(Gibbs(MODEL, 1.0, 1.0, W + 1), W, torch.sum)),
        ("w_star", lambda: expansion(SADDLE, zeros(2), torch.sum)),
        ("w_star", lambda: expansion(GIBBS, W, lambda w: (w - W).abs().sqrt().sum())),
        ("w_star", lambda: expansion(kinked(lambda w: w.abs() ** 2.5), zeros(1), torch.sum)),
        (
            "w_star",
            lambda: expansion(
                Gibbs(MODEL, log_prior=lambda w: -(w - W).abs().sqrt().sum()), W, torch.sum
            ),
        ),
        ("beta", lambda: expansion(GIBBS, W, torch.sum, torch.ones(5).double())),
        ("beta", lambda: expansion(GIBBS, W, torch.sum, torch.ones(6, 1).double())),
        ("beta", lambda: expansion(GIBBS, W, torch.sum, NAN * torch.ones(6).double())),
        ("phi", lambda: expansion(GIBBS, W, lambda w: w)),
        ("phi", lambda: expansion(GIBBS, W, lambda w: w[:1])),
        ("phi", lambda: expansion(GIBBS, W, lambda w: 1.0)),
        ("log_prior", lambda: expansion(Gibbs(MODEL, log_prior=lambda w: w), W, torch.sum)),
        ("log_prior", lambda: expansion(Gibbs(MODEL, log_prior=lambda w: 0.0), W, torch.sum)),
    ],
)
def test_bad_input_is_named(name, call):
    with pytest.raises(ValueError, match=rf"^{name}: "):
        call()


def test_log_prior_does_not_move_the_point_of_expansion():
    """w* is the minimum without it: its slope is the business of a term."""
    gibbs = Gibbs(MODEL, log_prior=lambda w: 5 * w[0])
    terms = expansion(gibbs, W, torch.sum)
    assert terms["prior slope"].abs().max() > 0.1 and (terms["prior curvature"] == 0).all()
