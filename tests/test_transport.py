"""Costs of a shift against integrals of densities, and against retraining on downweighted data."""

from itertools import pairwise

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import integrate, linalg, optimize, special, stats

from lib import models
from lib import transport as tr
from lib.bayesian import Gibbs
from lib.exact_posteriors import Gaussian

# Torch compiles its own rules when a forward derivative is first asked for.
pytestmark = pytest.mark.filterwarnings("ignore:.torch.jit.script:DeprecationWarning")

few = settings(deadline=None, max_examples=20, derandomize=True)
seeds = st.integers(0, 10**6)
NAN = float("nan")


def close(left, right, rtol=1e-8):
    left, right = np.asarray(left), np.asarray(right)
    assert left.shape == right.shape
    assert np.abs(left - right).max() <= rtol * np.abs(right).max()


def vector(*numbers):
    return torch.tensor(numbers, dtype=torch.float64)


def slope_of(sizes, values):
    return np.polyfit(np.log(sizes), np.log(values), 1)[0]


def without(n, k, epsilon):
    weights = np.ones(n)
    weights[k] -= epsilon
    return weights


# --- the cost of a shift, one parameter ----------------------------------------------------------

X1, Y1 = np.array([0.7, -1.1, 0.4, 1.6, -0.5]), np.array([1.0, -1.0, -1.0, 1.0, 1.0])
KAPPA, RIDGE, GAMMA, CENTRE = 0.7, 0.4, 0.3, 0.8


def energy1(w, weights):
    """Logistic regression with everything that a Gibbs posterior may have, written out."""
    each = np.logaddexp(0, -np.multiply.outer(w, X1 * Y1))
    held = 0.5 * RIDGE * w**2 + 0.5 * GAMMA * (w - CENTRE) ** 2 + np.log1p((w + 0.5) ** 2)
    return KAPPA * each @ weights + held


GIBBS1 = Gibbs(
    models.logistic(torch.tensor(X1)[:, None], torch.tensor(Y1), RIDGE),
    KAPPA,
    GAMMA,
    vector(CENTRE),
    lambda w: -torch.log1p((w[0] + 0.5) ** 2),
)


def integral(f):
    """∫f over the line, for f that vanishes well before ±25."""
    edges = [-25, -8, -3, -1, 0, 1, 3, 8, 25]
    parts = [integrate.quad(f, a, b, epsabs=1e-13, epsrel=1e-12)[0] for a, b in pairwise(edges)]
    return sum(parts)


def grid1(scale=1.0, centre=0.0, energy=energy1):
    w = centre + scale * np.linspace(-12, 12, 801)
    log = -energy(w, np.ones(5))
    weights = np.exp(log - log.max())
    return torch.tensor(w)[:, None], torch.tensor(weights / weights.sum())


# name: (r for a given ε, S⁻¹, log of its derivative)
MAPS = {
    "constant": (
        lambda e: lambda w: w.new_tensor([0.6]),
        lambda v, e: v - 0.6 * e,
        lambda v, e: 0.0 * v,
    ),
    "affine": (
        lambda e: lambda w: 0.9 * w - 0.4,
        lambda v, e: (v + 0.4 * e) / (1 + 0.9 * e),
        lambda v, e: 0 * v - np.log1p(0.9 * e),
    ),
    "nonlinear": (  # S(w) = arsinh(2w), whatever ε
        lambda e: lambda w: (torch.asinh(2 * w) - w) / e,
        lambda v, e: np.sinh(v) / 2,
        lambda v, e: np.log(np.cosh(v) / 2),
    ),
}


@pytest.mark.parametrize("k, epsilon", [(0, 0.3), (4, 1.0), (2, -0.5)])
@pytest.mark.parametrize("name", MAPS)
def test_cost_is_the_divergence_of_the_pushed_density(name, k, epsilon):
    shift, inverse, log_slope = MAPS[name]
    ones, less = np.ones(5), without(5, k, epsilon)
    log_z = np.log(integral(lambda w: np.exp(-energy1(w, ones))))
    log_z_less = np.log(integral(lambda w: np.exp(-energy1(w, less))))

    def integrand(v):
        log_q = -energy1(inverse(v, epsilon), ones) - log_z + log_slope(v, epsilon)
        log_p = -energy1(v, less) - log_z_less
        return np.exp(log_q) * (log_q - log_p)

    w, weights = grid1()
    found = tr.shift_kl(GIBBS1, k, epsilon, shift(epsilon), w, weights)
    assert found.shape == () and found.item() == pytest.approx(integral(integrand), rel=1e-8)


def test_no_shift_and_no_change_cost_nothing():
    w, weights = grid1()
    assert tr.shift_kl(GIBBS1, 1, 0.0, lambda w: 3 * w, w, weights).abs() < 1e-13
    # Without a shift it is the divergence of p from p_ε itself.
    k, epsilon = 1, 0.4
    less = without(5, k, epsilon)
    log_z, log_z_less = (
        np.log(integral(lambda w, b=b: np.exp(-energy1(w, b)))) for b in (np.ones(5), less)
    )

    def integrand(v):
        log_q, log_p = -energy1(v, np.ones(5)) - log_z, -energy1(v, less) - log_z_less
        return np.exp(log_q) * (log_q - log_p)

    found = tr.shift_kl(GIBBS1, k, epsilon, torch.zeros_like, w, weights)
    assert found.item() == pytest.approx(integral(integrand), rel=1e-8)


def moment_errors(parts, log_of):
    """mean(parts) + log mean(log_of), and its standard error by the delta method."""
    influence = parts - parts.mean() + log_of / log_of.mean() - 1
    return parts.mean() + np.log(log_of.mean()), influence.std() / len(parts) ** 0.5


@pytest.mark.parametrize("seed", range(3))
def test_draws_estimate_the_cost(seed):
    """Least squares with one parameter, of which numpy draws exactly."""
    rng = np.random.default_rng(seed)
    k, epsilon, m = 3, 0.6, 20000
    precision = KAPPA * (X1 @ X1) + RIDGE
    mu, sd = KAPPA * (X1 @ Y1) / precision, precision**-0.5
    draws = mu + sd * rng.normal(size=m)
    model = models.linear(torch.tensor(X1)[:, None], torch.tensor(Y1), RIDGE)
    found = tr.shift_kl(
        Gibbs(model, KAPPA), k, epsilon, lambda w: 0.5 * w + 0.3, torch.tensor(draws)[:, None]
    )

    def energy(w, weights):
        each = 0.5 * (Y1 - np.multiply.outer(w, X1)) ** 2
        return KAPPA * each @ weights + 0.5 * RIDGE * w**2

    less = without(5, k, epsilon)
    moved = draws + epsilon * (0.5 * draws + 0.3)
    parts = energy(moved, less) - energy(draws, np.ones(5)) - np.log(1 + 0.5 * epsilon)
    tilt = np.exp(KAPPA * epsilon * 0.5 * (Y1[k] - X1[k] * draws) ** 2)
    by_hand, error = moment_errors(parts, tilt)
    assert found.item() == pytest.approx(by_hand, rel=1e-10)
    less_precision = KAPPA * (X1 * less) @ X1 + RIDGE
    mu_less = KAPPA * (X1 * less) @ Y1 / less_precision
    sd_moved, mu_moved = (1 + 0.5 * epsilon) * sd, mu + epsilon * (0.5 * mu + 0.3)
    ratio = sd_moved**2 * less_precision
    exact = 0.5 * (ratio - 1 - np.log(ratio) + less_precision * (mu_moved - mu_less) ** 2)
    assert abs(found.item() - exact) < 4 * error and error < 0.05 * exact


# --- the cost of a shift, several parameters -----------------------------------------------------


def regression(seed, n=6, p=2):
    rng = np.random.default_rng(seed)
    x, y = rng.normal(size=(n, p)) + 0.4, rng.normal(size=n)
    gibbs = Gibbs(
        models.linear(torch.tensor(x), torch.tensor(y), 0.5), 1.3, 0.7, vector(*np.arange(p))
    )

    def posterior(weights):
        precision = 1.3 * (x.T * weights) @ x + 1.2 * np.eye(p)
        pull = 1.3 * x.T @ (weights * y) + 0.7 * np.arange(p)
        return np.linalg.solve(precision, pull), np.linalg.inv(precision)

    return rng, gibbs, posterior


def points_of(mu, v, nodes):
    """Gauss–Hermite points and weights of a Gaussian in the plane."""
    z, u = np.polynomial.hermite_e.hermegauss(nodes)
    z = np.stack(np.meshgrid(z, z, indexing="ij"), -1).reshape(-1, 2)
    u = np.outer(u, u).ravel()
    return torch.tensor(mu + z @ np.linalg.cholesky(v).T), torch.tensor(u / u.sum())


def divergence(mu_q, q, mu_p, p):
    """D(N(μ_q, Q) ‖ N(μ_p, P)), the textbook formula."""
    inverse, gap = np.linalg.inv(p), mu_p - mu_q
    volume = np.linalg.slogdet(p)[1] - np.linalg.slogdet(q)[1]
    return 0.5 * (np.trace(inverse @ q) - len(gap) + gap @ inverse @ gap + volume)


@few
@given(seeds, st.sampled_from([0.2, -0.4]))
def test_affine_shift_of_a_gaussian(seed, epsilon):
    rng, gibbs, posterior = regression(seed)
    k = seed % 6
    (mu, v), (mu_less, v_less) = posterior(np.ones(6)), posterior(without(6, k, epsilon))
    matrix, b = 0.8 * rng.normal(size=(2, 2)), rng.normal(size=2)
    jacobian = np.eye(2) + epsilon * matrix
    if np.linalg.det(jacobian) < 0.05:
        return
    w, weights = points_of(mu, v, 24)
    tm, tb = torch.tensor(matrix), torch.tensor(b)
    found = tr.shift_kl(gibbs, k, epsilon, lambda w: tm @ w + tb, w, weights)
    mu_moved = mu + epsilon * (matrix @ mu + b)
    want = divergence(mu_moved, jacobian @ v @ jacobian.T, mu_less, v_less)
    assert found.item() == pytest.approx(want, rel=1e-7)


def test_nonlinear_shift_in_the_plane():
    """S(a, b) = (sinh a, b + a²): the pushed density is known, and summed on a grid of its own."""
    _, gibbs, posterior = regression(3)
    k, epsilon = 2, 0.3
    (mu, v), (mu_less, v_less) = posterior(np.ones(6)), posterior(without(6, k, epsilon))

    def shift(w):
        return (torch.stack([torch.sinh(w[0]), w[1] + w[0] ** 2]) - w) / epsilon

    side = np.linspace(-9, 9, 401)
    z = np.stack(np.meshgrid(side, side, indexing="ij"), -1).reshape(-1, 2)
    a, c = np.arcsinh(z[:, 0]), z[:, 1] - np.arcsinh(z[:, 0]) ** 2
    log_q = stats.multivariate_normal(mu, v).logpdf(np.stack([a, c], -1))
    log_q = log_q - 0.5 * np.log1p(z[:, 0] ** 2)
    log_p = stats.multivariate_normal(mu_less, v_less).logpdf(z)
    area = (side[1] - side[0]) ** 2
    assert area * np.exp(log_q).sum() == pytest.approx(1, abs=1e-9)
    want = area * (np.exp(log_q) * (log_q - log_p)).sum()
    w, weights = points_of(mu, v, 40)
    found = tr.shift_kl(gibbs, k, epsilon, shift, w, weights)
    assert found.item() == pytest.approx(want, rel=1e-7)


# --- the limit of no temperature -----------------------------------------------------------------


def logistic(seed, n=9, p=3):
    """A penalised logistic regression: numpy's own minimiser, and derivatives by hand."""
    rng = np.random.default_rng(seed)
    x, y, ridge = rng.normal(size=(n, p)) + 0.4, rng.choice([-1.0, 1.0], n), rng.uniform(0.3, 1)
    model = models.logistic(torch.tensor(x), torch.tensor(y), float(ridge))

    def loss(w, weights):
        return weights @ np.logaddexp(0, -y * (x @ w)) + 0.5 * ridge * w @ w

    def curvature(w, weights):
        s = 1 / (1 + np.exp(-x @ w))
        return (x.T * (weights * s * (1 - s))) @ x + ridge * np.eye(p)

    def minimum(weights):
        w = np.zeros(p)
        for _ in range(40):
            slope = x.T @ (weights * (1 / (1 + np.exp(-x @ w)) - (y + 1) / 2)) + ridge * w
            w = w - np.linalg.solve(curvature(w, weights), slope)
        return w

    def example(w, k):
        """∇L_k and ∇²L_k."""
        s = 1 / (1 + np.exp(-x[k] @ w))
        return (s - (y[k] + 1) / 2) * x[k], s * (1 - s) * np.outer(x[k], x[k])

    def third(w, u):
        """∇³L[u, u], a vector."""
        s = 1 / (1 + np.exp(-x @ w))
        return x.T @ (s * (1 - s) * (1 - 2 * s) * (x @ u) ** 2)

    return rng, model, loss, curvature, minimum, example, third


@pytest.mark.parametrize("seed", range(3))
def test_asymptotic_cost_minimises_the_perturbed_loss(seed):
    rng, model, loss, _, minimum, _, _ = logistic(seed)
    w, r = minimum(np.ones(9)), rng.normal(size=3)
    for k, epsilon in ((4, 0.5), (0, 1.0), (8, -0.7)):
        less = without(9, k, epsilon)
        lowest = optimize.minimize(loss, w, args=(less,), method="BFGS", options={"gtol": 1e-9})
        want = loss(w + epsilon * r, less) - lowest.fun
        found = tr.asymptotic_cost(model, torch.tensor(w), k, torch.tensor(r), epsilon)
        assert found.shape == () and found.item() == pytest.approx(want, rel=1e-8)
        # The shift that lands on the perturbed minimum is free; no other is.
        best = (minimum(less) - w) / epsilon
        free = tr.asymptotic_cost(model, torch.tensor(w), k, torch.tensor(best), epsilon)
        assert abs(free.item()) < 1e-13
        near = tr.asymptotic_cost(model, torch.tensor(w), k, torch.tensor(best + 0.01 * r), epsilon)
        assert near.item() > 1e-7


@pytest.mark.parametrize("shift", ["constant", "bent"])
def test_asymptotic_cost_is_the_limit_of_the_divergence(shift):
    """κ → ∞ with a penalty that grows with κ, so that the minimum stays; Richardson in 1/κ."""
    k, epsilon, rho = 3, 0.5, 0.6

    def loss(w, weights):
        each = np.logaddexp(0, -np.multiply.outer(w, X1 * Y1))
        return each @ weights + 0.5 * rho * w**2

    found = optimize.minimize_scalar(
        lambda w: loss(w, np.ones(5)), bracket=(-1, 1), options={"xtol": 1e-12}
    )
    w_star, r = found.x, 0.4
    x, y = torch.tensor(X1)[:, None], torch.tensor(Y1)
    tw = vector(w_star)
    field = {
        "constant": lambda w: w.new_tensor([r]),
        "bent": lambda w: r + 0.7 * torch.sin(w - tw),
    }[shift]

    def at(kappa):
        points, weights = grid1(kappa**-0.5, w_star, lambda w, b: kappa * loss(w, b))
        gibbs = Gibbs(models.logistic(x, y, kappa * rho), kappa)
        return tr.shift_kl(gibbs, k, epsilon, field, points, weights).item() / kappa

    a, b, c, d = (at(2.0**j) for j in (8, 9, 10, 11))
    first = [2 * v - u for u, v in pairwise((a, b, c, d))]
    second = [(4 * v - u) / 3 for u, v in pairwise(first)]
    limit = (8 * second[1] - second[0]) / 7
    cost = tr.asymptotic_cost(models.logistic(x, y, rho), tw, k, vector(r), epsilon).item()
    assert limit == pytest.approx(cost, rel=1e-6)
    assert abs(a / cost - 1) > 1e-4


@pytest.mark.parametrize("epsilon", [0.9, -0.9])
@pytest.mark.parametrize("widths", [1.0, 40.0])
def test_large_kappa_neither_overflows_nor_underflows(epsilon, widths):
    """exp(κ ε L_k) is beyond all floating-point numbers here, or below them.

    A wide grid has points without weight, where it is larger still: those must not count.
    """
    kappa, rho, k = 2000.0, 0.6, 2

    def each(w):
        return kappa * np.logaddexp(0, -np.outer(w, X1 * Y1))

    def energy(w, b):
        return each(w) @ b + 0.5 * kappa * rho * w**2

    w_star = optimize.minimize_scalar(lambda w: energy(np.array([w]), np.ones(5))[0]).x
    w, weights = grid1(widths * kappa**-0.5, w_star, energy)
    objective = models.logistic(torch.tensor(X1)[:, None], torch.tensor(Y1), kappa * rho)
    found = tr.shift_kl(
        Gibbs(objective, kappa), k, epsilon, lambda w: 0.4 * torch.ones_like(w), w, weights
    )
    w, weights = w[:, 0].numpy(), weights.numpy()
    gained = energy(w + 0.4 * epsilon, without(5, k, epsilon)) - energy(w, np.ones(5))
    log_z = special.logsumexp(epsilon * each(w)[:, k], b=weights)
    assert abs(log_z) > 750
    assert found.item() == pytest.approx(weights @ gained + log_z, rel=1e-8)


# --- the influence function as a shift -----------------------------------------------------------


@pytest.mark.parametrize("seed", range(3))
def test_influence_shift_is_the_response_to_downweighting(seed):
    _, model, _, curvature, minimum, example, _ = logistic(seed)
    w = minimum(np.ones(9))
    for k in (0, 5, 8):

        def central(t, k=k):
            return (minimum(without(9, k, t)) - minimum(without(9, k, -t))) / (2 * t)

        a, b, c = central(0.2), central(0.1), central(0.05)
        first, second = (4 * b - a) / 3, (4 * c - b) / 3
        found = tr.influence_shift(model, torch.tensor(w), k)
        close(found, (16 * second - first) / 15, 1e-7)
        close(found, np.linalg.solve(curvature(w, np.ones(9)), example(w, k)[0]), 1e-9)
        # One-sided, so that the sign is beyond doubt.
        close(found, (minimum(without(9, k, 1e-3)) - w) / 1e-3, 1e-2)


@few
@given(seeds)
def test_quadratic_cost_by_hand(seed):
    rng, model, _, curvature, minimum, example, _ = logistic(seed)
    w, r, k, epsilon = minimum(np.ones(9)), rng.normal(size=3), seed % 9, rng.uniform(-2, 2)
    h = curvature(w, np.ones(9))
    away = r - np.linalg.solve(h, example(w, k)[0])
    found = tr.quadratic_cost(model, torch.tensor(w), k, torch.tensor(r), epsilon)
    assert found.shape == () and found.item() == pytest.approx(
        epsilon**2 / 2 * away @ h @ away, rel=1e-9
    )


EPSILONS = np.array([0.08, 0.04, 0.02])


@pytest.mark.parametrize("seed", range(3))
def test_quadratic_cost_is_the_leading_order(seed):
    rng, model, _, _, minimum, _, _ = logistic(seed)
    w, r, k = torch.tensor(minimum(np.ones(9))), torch.tensor(rng.normal(size=3)), 4
    exact = np.array([tr.asymptotic_cost(model, w, k, r, e).item() for e in EPSILONS])
    leading = np.array([tr.quadratic_cost(model, w, k, r, e).item() for e in EPSILONS])
    assert 1.9 < slope_of(EPSILONS, exact) < 2.1
    assert 2.8 < slope_of(EPSILONS, np.abs(exact - leading)) < 3.2
    assert slope_of(EPSILONS, leading) == pytest.approx(2)


@pytest.mark.parametrize("seed", range(3))
def test_influence_shift_costs_the_fourth_order(seed):
    """The minimum moves as w* + ε u + ε² a + …, so the influence misses by ε² a: F ≈ ½ ε⁴ aᵀHa.

    Differentiating ∇L − ε∇L_k = 0 twice: H u = ∇L_k and H a = ∇²L_k u − ½ ∇³L[u, u].
    """
    _, model, _, curvature, minimum, example, third = logistic(seed)
    w, k = minimum(np.ones(9)), 4
    h, (slope, bend) = curvature(w, np.ones(9)), example(w, k)
    u = np.linalg.solve(h, slope)
    a = np.linalg.solve(h, bend @ u - 0.5 * third(w, u))
    want = 0.5 * a @ h @ a
    tw = torch.tensor(w)
    r = tr.influence_shift(model, tw, k)
    epsilons = 8 * EPSILONS
    both = np.array(
        [[tr.asymptotic_cost(model, tw, k, r, s * e).item() for e in epsilons] for s in (1, -1)]
    )
    assert 3.8 < slope_of(epsilons, both.mean(axis=0)) < 4.2
    # The mean over both signs has even powers only.
    c, d, e = both.mean(axis=0) / epsilons**4
    first, second = (4 * d - c) / 3, (4 * e - d) / 3
    assert (16 * second - first) / 15 == pytest.approx(want, rel=1e-4)
    for epsilon in epsilons:
        assert tr.quadratic_cost(model, tw, k, r, epsilon) == 0


# --- Gaussians -----------------------------------------------------------------------------------


def gaussian(rng, p):
    root = rng.normal(size=(p, p)) + 0.5 * np.eye(p)
    return rng.normal(size=p), root @ root.T + 0.1 * np.eye(p)


def as_tensors(mu, v):
    return Gaussian(torch.tensor(mu), torch.tensor(v))


@few
@given(seeds, st.integers(1, 5))
def test_gaussian_divergence_by_formula(seed, p):
    rng = np.random.default_rng(seed)
    q, r = gaussian(rng, p), gaussian(rng, p)
    found = tr.gaussian_kl(as_tensors(*q), as_tensors(*r))
    assert found.shape == () and found.item() == pytest.approx(divergence(*q, *r), rel=1e-9)


@pytest.mark.parametrize("seed", range(2))
def test_gaussian_divergence_by_integration(seed):
    rng = np.random.default_rng(seed)
    q, r = ((rng.normal(), rng.uniform(0.5, 2)) for _ in range(2))
    one, other = stats.norm(*q), stats.norm(*r)
    want = integral(lambda v: one.pdf(v) * (one.logpdf(v) - other.logpdf(v)))
    found = tr.gaussian_kl(*(Gaussian(vector(m), vector(s**2)[None]) for m, s in (q, r)))
    assert found.item() == pytest.approx(want, rel=1e-9)
    q, r = gaussian(rng, 2), gaussian(rng, 2)
    z, u = np.polynomial.hermite_e.hermegauss(4)
    w = q[0] + np.stack(np.meshgrid(z, z), -1).reshape(-1, 2) @ np.linalg.cholesky(q[1]).T
    ratio = stats.multivariate_normal(*q).logpdf(w) - stats.multivariate_normal(*r).logpdf(w)
    want = np.outer(u, u).ravel() @ ratio / u.sum() ** 2
    found = tr.gaussian_kl(as_tensors(*q), as_tensors(*r))
    assert found.item() == pytest.approx(want, rel=1e-9)


@few
@given(seeds, st.integers(1, 4))
def test_gaussian_divergence_is_one(seed, p):
    """Zero for equals alone, positive otherwise, not symmetric, and blind to coordinates."""
    rng = np.random.default_rng(seed)
    q, r = gaussian(rng, p), gaussian(rng, p)
    one, other = as_tensors(*q), as_tensors(*r)
    assert tr.gaussian_kl(one, one).abs() < 1e-12
    there, back = tr.gaussian_kl(one, other), tr.gaussian_kl(other, one)
    assert there > 0 and back > 0 and (there - back).abs() > 1e-6 * there
    assert tr.gaussian_kl(one, as_tensors(q[0] + 1e-3, q[1])) > 0
    assert tr.gaussian_kl(one, as_tensors(q[0], 1.001 * q[1])) > 0
    a, b = rng.normal(size=(p, p)) + np.eye(p), rng.normal(size=p)
    moved = [as_tensors(a @ mu + b, a @ v @ a.T) for mu, v in (q, r)]
    assert tr.gaussian_kl(*moved).item() == pytest.approx(there.item(), rel=1e-5)


def test_regression_divergence_of_a_constant_shift():
    """With equal covariances only the means count: ½ε²(r − b)ᵀV⁻¹(r − b)."""
    rng, _, posterior = regression(0, p=3)
    mu, v = posterior(np.ones(6))
    r, b, epsilon = rng.normal(size=3), rng.normal(size=3), 0.3
    found = tr.gaussian_kl(as_tensors(mu + epsilon * r, v), as_tensors(mu + epsilon * b, v))
    want = epsilon**2 / 2 * (r - b) @ np.linalg.solve(v, r - b)
    assert found.item() == pytest.approx(want, rel=1e-9)


@few
@given(seeds, st.integers(1, 5))
def test_optimal_map(seed, p):
    rng = np.random.default_rng(seed)
    (mu_q, q), (mu_p, cov_p) = gaussian(rng, p), gaussian(rng, p)
    a, b = tr.gaussian_map(as_tensors(mu_q, q), as_tensors(mu_p, cov_p))
    a, b = a.numpy(), b.numpy()
    assert a.shape == (p, p) and b.shape == (p,)
    close(a @ q @ a.T, cov_p)
    close(a @ mu_q + b, mu_p)
    close(a, a.T)
    assert np.linalg.eigvalsh((a + a.T) / 2).min() > 0
    half = linalg.sqrtm(q)
    by_scipy = np.linalg.inv(half) @ linalg.sqrtm(half @ cov_p @ half) @ np.linalg.inv(half)
    close(a, by_scipy.real, 1e-7)

    def cost(matrix):
        """E‖Aw + b − w‖² under q, when A carries q to p."""
        gap = matrix - np.eye(p)
        return np.trace(gap @ q @ gap.T) + ((mu_p - mu_q) ** 2).sum()

    least = cost(a)
    bures = np.trace(q + cov_p - 2 * linalg.sqrtm(half @ cov_p @ half).real)
    assert least == pytest.approx(bures + ((mu_p - mu_q) ** 2).sum(), rel=1e-7)
    for _ in range(10):
        turn = np.linalg.qr(rng.normal(size=(p, p)))[0]
        other = np.linalg.cholesky(cov_p) @ turn @ np.linalg.inv(np.linalg.cholesky(q))
        close(other @ q @ other.T, cov_p, 1e-7)
        assert cost(other) >= least * (1 - 1e-9)


@few
@given(seeds, st.integers(1, 4))
def test_optimal_map_back_and_to_itself(seed, p):
    rng = np.random.default_rng(seed)
    one, other = as_tensors(*gaussian(rng, p)), as_tensors(*gaussian(rng, p))
    a, _ = tr.gaussian_map(one, other)
    back, _ = tr.gaussian_map(other, one)
    close(a @ back, np.eye(p), 1e-6)
    same, zero = tr.gaussian_map(one, one)
    close(same, np.eye(p), 1e-7)
    assert zero.abs().max() < 1e-6


# --- bad input -----------------------------------------------------------------------------------

OBJECTIVE = GIBBS1.objective
POINTS, WEIGHTS = grid1()
_, MODEL, _, _, MINIMUM, _, _ = logistic(0)
W, R = torch.tensor(MINIMUM(np.ones(9))), vector(0.1, -0.2, 0.3)
PLANE = regression(0)[1]
UNIT = Gaussian(torch.zeros(2).double(), torch.eye(2).double())
SINGULAR = Gaussian(torch.zeros(2).double(), torch.ones(2, 2).double())
INDEFINITE = Gaussian(torch.zeros(2).double(), torch.diag(vector(1.0, -1.0)))
OBLONG = Gaussian(torch.zeros(2).double(), torch.ones(2, 3).double())
UNKNOWN = Gaussian(NAN * torch.zeros(2).double(), torch.eye(2).double())
VAGUE = Gaussian(torch.zeros(2).double(), NAN * torch.eye(2).double())


def kl(k=0, epsilon=0.1, shift=torch.ones_like, w=POINTS, weights=WEIGHTS, gibbs=GIBBS1):
    return tr.shift_kl(gibbs, k, epsilon, shift, w, weights)


@pytest.mark.parametrize(
    "name, call",
    [
        ("w", lambda: kl(w=POINTS[:, 0])),
        ("w", lambda: kl(w=POINTS * NAN)),
        ("w", lambda: kl(w=POINTS.numpy())),
        ("k", lambda: kl(k=5)),
        ("k", lambda: kl(k=-1)),
        ("k", lambda: kl(k=1.0)),
        ("epsilon", lambda: kl(epsilon=NAN)),
        ("epsilon", lambda: kl(epsilon="0.1")),
        ("epsilon", lambda: kl(shift=lambda w: -20 * w)),
        ("epsilon", lambda: kl(epsilon=0.5, shift=lambda w: -2 * w)),
        ("epsilon", lambda: kl(epsilon=0.5, shift=lambda w: -(w**3))),
        (
            "epsilon",
            lambda: kl(
                shift=lambda w: torch.stack([w[0], -20 * w[1]]),
                w=torch.eye(2).double(),
                weights=None,
                gibbs=PLANE,
            ),
        ),
        ("weights", lambda: kl(weights=WEIGHTS[1:])),
        ("weights", lambda: kl(weights=2 * WEIGHTS)),
        ("k", lambda: tr.asymptotic_cost(MODEL, W, 9, R, 0.1)),
        ("k", lambda: tr.asymptotic_cost(MODEL, W, -1, R, 0.1)),
        ("epsilon", lambda: tr.asymptotic_cost(MODEL, W, 0, R, NAN)),
        ("w_star", lambda: tr.asymptotic_cost(MODEL, W * NAN, 0, R, 0.1)),
        ("w_star", lambda: tr.asymptotic_cost(MODEL, W[None], 0, R, 0.1)),
        ("r", lambda: tr.asymptotic_cost(MODEL, W, 0, R[:2], 0.1)),
        ("r", lambda: tr.asymptotic_cost(MODEL, W, 0, R[0], 0.1)),
        ("r", lambda: tr.asymptotic_cost(MODEL, W, 0, R * NAN, 0.1)),
        ("objective", lambda: tr.asymptotic_cost(MODEL, W, 0, R, 1e4)),
        ("k", lambda: tr.quadratic_cost(MODEL, W, 9, R, 0.1)),
        ("k", lambda: tr.quadratic_cost(MODEL, W, -1, R, 0.1)),
        ("epsilon", lambda: tr.quadratic_cost(MODEL, W, 0, R, NAN)),
        ("w_star", lambda: tr.quadratic_cost(MODEL, W * NAN, 0, R, 0.1)),
        ("w_star", lambda: tr.quadratic_cost(MODEL, W[None], 0, R, 0.1)),
        ("r", lambda: tr.quadratic_cost(MODEL, W, 0, R[:2], 0.1)),
        ("r", lambda: tr.quadratic_cost(MODEL, W, 0, R[0], 0.1)),
        ("r", lambda: tr.quadratic_cost(MODEL, W, 0, R * NAN, 0.1)),
        ("k", lambda: tr.influence_shift(MODEL, W, 9)),
        ("k", lambda: tr.influence_shift(MODEL, W, -1)),
        ("k", lambda: tr.influence_shift(MODEL, W, True)),
        ("w_star", lambda: tr.influence_shift(MODEL, W * NAN, 0)),
        ("q", lambda: tr.gaussian_kl(SINGULAR, UNIT)),
        ("p", lambda: tr.gaussian_kl(UNIT, SINGULAR)),
        ("q", lambda: tr.gaussian_kl(INDEFINITE, UNIT)),
        ("p", lambda: tr.gaussian_kl(UNIT, INDEFINITE)),
        ("q", lambda: tr.gaussian_kl(OBLONG, UNIT)),
        ("p", lambda: tr.gaussian_kl(UNIT, OBLONG)),
        ("q", lambda: tr.gaussian_kl(UNKNOWN, UNIT)),
        ("p", lambda: tr.gaussian_kl(UNIT, VAGUE)),
        ("q", lambda: tr.gaussian_map(SINGULAR, UNIT)),
        ("p", lambda: tr.gaussian_map(UNIT, SINGULAR)),
        ("q", lambda: tr.gaussian_map(INDEFINITE, UNIT)),
        ("p", lambda: tr.gaussian_map(UNIT, INDEFINITE)),
        ("q", lambda: tr.gaussian_map(VAGUE, UNIT)),
        ("p", lambda: tr.gaussian_map(UNIT, UNKNOWN)),
    ],
)
def test_bad_input_is_named(name, call):
    with pytest.raises(ValueError, match=rf"^{name}: "):
        call()


def test_a_fold_is_said_to_be_one():
    with pytest.raises(ValueError, match=r"^epsilon: the map folds"):
        kl(epsilon=0.5, shift=lambda w: -2 * w)
    # It is the determinant that counts, at points of p alone.
    assert torch.isfinite(kl(epsilon=0.5, shift=lambda w: -1.9 * w))


SKEW = Gaussian(torch.zeros(2).double(), torch.tensor([[1.0, 0.5], [0.0, 1.0]]).double())
THIN = Gaussian(torch.zeros(2).double(), torch.tensor([[1.0, 1.0], [1.0, 1.0 + 1e-14]]).double())
SPACE = Gaussian(torch.zeros(3).double(), torch.eye(3).double())
POINT = Gaussian(torch.zeros(()).double(), torch.eye(1).double())
TABLE = Gaussian(torch.zeros(2, 2).double(), torch.eye(2).double())


def in_plane(shift):
    return kl(shift=shift, w=torch.eye(2).double(), weights=None, gibbs=PLANE)


@pytest.mark.parametrize(
    "name, call",
    [
        ("shift", lambda: in_plane(lambda w: w[:1])),
        ("shift", lambda: in_plane(lambda w: w[0])),
        ("shift", lambda: in_plane(lambda w: w[:, None])),
        ("shift", lambda: in_plane(lambda w: NAN * w)),
        ("shift", lambda: kl(shift=lambda w: w[0])),
        ("q", lambda: tr.gaussian_kl(SKEW, UNIT)),
        ("p", lambda: tr.gaussian_kl(UNIT, SKEW)),
        ("q", lambda: tr.gaussian_map(SKEW, UNIT)),
        ("p", lambda: tr.gaussian_map(UNIT, SKEW)),
        ("p|q", lambda: tr.gaussian_kl(SPACE, UNIT)),
        ("p|q", lambda: tr.gaussian_map(SPACE, UNIT)),
        ("q", lambda: tr.gaussian_kl(POINT, UNIT)),
        ("q", lambda: tr.gaussian_kl(TABLE, UNIT)),
        ("p", lambda: tr.gaussian_map(UNIT, THIN)),
        ("w_star", lambda: tr.influence_shift(MODEL, W + 0.1, 0)),
        ("w_star", lambda: tr.quadratic_cost(MODEL, W + 0.1, 0, W, 0.1)),
        ("w_star", lambda: tr.asymptotic_cost(MODEL, W + 0.1, 0, W, 0.1)),
    ],
)
def test_bad_input_is_named_too(name, call):
    with pytest.raises(ValueError, match=rf"^({name}): "):
        call()
