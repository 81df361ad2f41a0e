"""Exercises 03_sgld and 03_transport: formulas against numbers that know no formula, references
against the library."""

import itertools

import numpy as np
import pytest
import sympy as sp
import torch
from graded import agrees

from lib import checks
from lib.bayesian import Gibbs, bayesian_influence, energy_and_gradient, losses_at
from lib.checks import sgld as sgld_bank
from lib.checks import transport as transport_bank
from lib.exact_posteriors import Gaussian, conjugate_influence, conjugate_posterior
from lib.models import linear
from lib.objective import Objective
from lib.random_problems import normal, regression
from lib.sampling import collect, sgld, sgld_covariance
from lib.transport import gaussian_kl, shift_kl

SGLD, TRANSPORT = checks.parts("sgld"), checks.parts("transport")

# Raised once, inside torch, when forward-mode derivatives are first used.
pytestmark = pytest.mark.filterwarnings("ignore:.torch.jit.script. is deprecated")


def _close(a, b, rel=1e-6):
    np.testing.assert_allclose(np.asarray(a), np.asarray(b), rtol=rel, atol=1e-10)


# --- SGLD: formulas ------------------------------------------------------------------------------


def test_stationary_variances():
    """The chain is linear in its noise: its variance is the sum of squared responses to a kick."""
    h, eta, s = 1.7, 0.9, 2.5

    def response(xi, slip, steps=400):
        w, squares = 0.0, 0.0
        for t in range(steps):
            slope = h * w + (slip if t == 0 else 0.0)
            w = w - 0.5 * eta * slope + np.sqrt(eta) * (xi if t == 0 else 0.0)
            squares += w**2
        return squares

    point = {"h": h, "eta": eta, "S": s}
    agrees(SGLD["part_c"], point, response(1.0, 0.0))
    agrees(SGLD["part_d"], point, response(1.0, 0.0) + s * response(0.0, 1.0))


def test_largest_step():
    limit = sgld_bank.largest_step()
    curvature = torch.from_numpy(np.diag(sgld_bank.CURVATURES))
    assert torch.isfinite(sgld_covariance(curvature, 0.995 * limit)).all()
    with pytest.raises(ValueError, match="4/λ_max"):
        sgld_covariance(curvature, 1.005 * limit)


def test_half_the_step():
    def error(step, draws=1000):
        """Of a Gaussian chain's variance: Var = 2 Σ c_l² (T − |l|)/T², from its covariances."""
        kept, lag = 1 - step / 2, np.arange(1 - draws, draws)
        c = step / (1 - kept**2) * kept ** np.abs(lag)
        return np.sqrt(2 * (c**2 * (draws - np.abs(lag))).sum()) / draws

    ratio = sgld_bank.halving_the_step()
    assert ratio["bias"] == pytest.approx((1 / 0.9 - 1) / (1 / 0.8 - 1), abs=0.02)
    assert ratio["error"] == pytest.approx(error(0.4) / error(0.8), rel=0.04)
    assert 1.1 < ratio["error"] < 2**0.5
    assert len(SGLD["part_i"].options) == 9


def test_half_the_step_in_several_directions():
    """Any direction's variance gets less biased and less certain; an influence may do neither."""
    h = np.array([1.0, 0.6, 0.05])

    def inflation(step):
        return 1 / (h * (1 - step * h / 4)) - 1 / h

    def variance_of_square(step, share):  # times T/2, for long chains: Σ c_l², c_l = Σ share v k^l
        lag = np.arange(1, 3000)[:, None]
        v, kept = 1 / (h * (1 - step * h / 4)), 1 - step * h / 2
        return (share @ v) ** 2 + 2 * (((share * v * kept**lag).sum(1)) ** 2).sum()

    for share in np.random.default_rng(0).dirichlet(np.ones(3), 50):
        full, half = (variance_of_square(step, share) for step in (0.9, 0.45))
        assert share @ inflation(0.45) < share @ inflation(0.9) and half > full
    cancelling = np.array([1.0, -inflation(0.9)[0] / inflation(0.9)[1], 0])
    assert abs(cancelling @ inflation(0.9)) < 1e-12 < abs(cancelling @ inflation(0.45))


def test_errors_of_one_centred_factor(rng):
    """With one factor centred the value is that of both: only the error tells."""
    losses, phi, kappa = SGLD["part_h"].cases(rng)
    value, error = SGLD["part_h"].truth(losses, phi, kappa)
    formulas = {m.name: m.formula for m in SGLD["part_h"].mistakes}
    for name, loss_centre, phi_centre in (
        ("φ not centred", losses.mean((0, 1)), 0.0),
        ("losses not centred", 0.0, phi.mean()),
    ):
        same, other = formulas[name](losses, phi, kappa)
        _close(same, value)
        products = (losses - loss_centre) * (phi - phi_centre)[:, :, None]
        b = -kappa * len(phi) / (phi.numel() - 1) * products.sum(1)
        _close(b.mean(0), value)
        _close(b.std(0) / len(phi) ** 0.5, other)
        assert not np.allclose(other, error)


# --- SGLD: references ----------------------------------------------------------------------------


def test_batches_are_right_on_average(rng):
    x, y, w, _, kappa, gamma, centre = SGLD["part_b"].cases(rng)
    batches = itertools.combinations(range(len(x)), 3)
    each = [SGLD["part_b"].truth(x, y, w, torch.tensor(b), kappa, gamma, centre) for b in batches]
    gibbs = Gibbs(linear(x, y), kappa, gamma, centre)
    _close(np.mean(each, axis=0), energy_and_gradient(gibbs, w[None])[1][0])


def test_states_are_those_of_the_library(rng):
    c = regression(rng)
    gibbs = Gibbs(linear(c.x, c.y, l2=0.5), 1.3)
    posterior = conjugate_posterior(gibbs)
    w0, step = normal(rng, 1, c.x.shape[1]), 0.02
    generator = torch.Generator().manual_seed(0)
    states = collect(sgld(gibbs, w0, step=step, draws=6, generator=generator))[0]
    generator.manual_seed(0)
    noise = torch.cat([torch.randn(w0.shape, generator=generator, dtype=w0.dtype) for _ in states])
    precision = torch.linalg.inv(posterior.covariance)
    force = sgld_bank._linear_force(precision.numpy(), posterior.mean.numpy())
    _close(SGLD["part_e"].truth(force, w0[0], step, noise), states)
    _close(SGLD["part_a"].truth(w0[0], force(w0[0]), step, noise[0]), states[0])
    _close(force(w0[0]), force(w0[0].numpy()))


def test_localisation_keeps_the_distance(rng):
    mu, kappa, radius = SGLD["part_g"].cases(rng)
    gamma = SGLD["part_g"].truth(mu, kappa, radius)
    covariance = torch.linalg.inv(torch.diag(kappa * mu + gamma))
    assert covariance.trace().item() == pytest.approx(radius**2) and gamma > 0


def test_estimate_is_that_of_the_library(rng):
    c = regression(rng)
    gibbs = Gibbs(linear(c.x, c.y), 0.7)
    draws = normal(rng, 4, 9, c.x.shape[1]) + normal(rng, 4, 1, c.x.shape[1])

    def phi(w):
        return torch.sin(w).sum()

    losses = losses_at(gibbs.objective, draws.flatten(0, 1)).unflatten(0, (4, 9))
    value, error = SGLD["part_h"].truth(losses, torch.sin(draws).sum(-1), 0.7)
    estimate = bayesian_influence(gibbs, draws, phi)
    _close(value, estimate.value)
    _close(error, estimate.error)


# --- transport: formulas -------------------------------------------------------------------------


def test_quadratic_costs_by_quadrature():
    """Both Gaussians have one covariance here, so D/κ is its own limit; κ = 3 will do."""
    epsilon, l, g, h, r, kappa = 0.4, -0.7, 1.3, 0.8, 0.6, 3.0
    w = np.linspace(-12, 12, 4001)
    old, new = 0.5 * h * w**2, 0.5 * h * w**2 - epsilon * (l + g * w)
    z_old, z_new = (np.exp(-kappa * energy).sum() for energy in (old, new))
    shifted = np.exp(-kappa * 0.5 * h * (w - epsilon * r) ** 2)
    shifted /= shifted.sum()
    log_ratio = np.log(shifted, where=shifted > 0, out=np.zeros_like(w)) + kappa * new
    point = {"epsilon": epsilon, "l": l, "g": g, "h": h, "r": r}
    agrees(TRANSPORT["part_b"], point, np.log(z_new / z_old) / kappa)
    agrees(TRANSPORT["part_c"], point, (shifted @ log_ratio + np.log(z_new)) / kappa)


def test_order_of_the_least_cost():
    costs = transport_bank.remaining_costs()
    assert list(costs) == [0.2, 0.1, 0.05] and min(min(both) for both in costs.values()) > 0
    first, second = (costs[0.1][k] / costs[0.05][k] for k in (0, 1))
    assert first == pytest.approx(2**4, rel=0.1) and second == pytest.approx(2**6, rel=0.1)
    orders = ["eighth", "fifth", "fourth", "second", "sixth", "third", "zero"]
    assert TRANSPORT["part_d"].options == orders and TRANSPORT["part_d"].truth() == "sixth"
    # What the wrong answers are told: the path's terms, as a power series by sympy.
    e, w = sp.symbols("epsilon w")
    slope = sp.exp(w) - 1 - e * sp.cos(w + sp.Rational(1, 2))
    path = sp.Integer(0)
    for k in range(1, 5):
        miss = slope.subs(w, path).diff(e, k).subs(e, 0) / sp.factorial(k)
        path -= miss * e**k
    terms = [float(path.coeff(e, k)) for k in range(1, 5)]
    assert all(abs(term) > 0.1 for term in terms)
    assert costs[0.05][0] == pytest.approx(0.05**4 * terms[1] ** 2 / 2, rel=0.1)
    assert costs[0.05][1] == pytest.approx(0.05**6 * terms[2] ** 2 / 2, rel=0.1)
    # A shift that misses r_IF costs ε², and one that takes the third term as well ε⁸.
    new_loss, minimum = transport_bank._new_loss, transport_bank._moved_minimum

    def order(shifted, epsilon):
        high, low = (
            new_loss(shifted(e), e) - new_loss(minimum(e), e) for e in (epsilon, epsilon / 2)
        )
        return np.log2(high / low)

    assert order(lambda e: 0.5 * e, 0.02) == pytest.approx(2, abs=0.1)
    by_third_term = order(lambda e: sum(terms[k] * e ** (k + 1) for k in range(3)), 0.1)
    assert by_third_term == pytest.approx(8, abs=0.3)


def test_cost_at_a_degenerate_minimum():
    w = np.linspace(-2, 2, 400_001)
    for epsilon in (0.5, 0.01):
        lowest = (w**6 / 6 - epsilon * w).min()
        agrees(TRANSPORT["part_h"], {"epsilon": epsilon}, -lowest)
    # With a shift, and at a finite κ: D/κ nears the formula as κ → ∞ and then ε → 0.
    kappa, epsilon, r = 1e10, 1e-3, 0.8
    w = np.linspace(-0.3, 0.5, 200_001)
    log_p, log_new = -kappa * w**6 / 6, -kappa * (w**6 / 6 - epsilon * w)
    p = np.exp(log_p - np.logaddexp.reduce(log_p))
    moved = w + epsilon * r
    energy = kappa * (moved**6 / 6 - epsilon * moved - w**6 / 6)
    d = p @ energy + np.logaddexp.reduce(log_new) - np.logaddexp.reduce(log_p)
    agrees(TRANSPORT["part_h"], {"epsilon": epsilon}, d / kappa, rel=0.02)


def test_cost_on_the_segment_is_free_of_the_shift():
    costs = transport_bank.cost_on_the_segment()
    assert len(costs) == 3
    for cost in costs.values():
        assert cost == pytest.approx(1, abs=0.005)


# --- transport: references -----------------------------------------------------------------------


def test_cost_of_a_shift_is_that_of_the_library(rng):
    w, weights, loss, loss_k, kappa, epsilon, r = TRANSPORT["part_a"].cases(rng)

    def each(v, which):
        return torch.where(which == 0, loss_k(v), loss(v) - loss_k(v)).squeeze(-1)

    rows = torch.arange(2.0, dtype=w.dtype)
    objective = Objective(lambda v, row: v, each, rows, rows)
    gibbs = Gibbs(objective, kappa)
    by_library = shift_kl(gibbs, 0, epsilon, lambda v: 0 * v + r, w[:, None], weights)
    truth = TRANSPORT["part_a"].truth(w, weights, loss, loss_k, kappa, epsilon, r)
    _close(truth, by_library)
    assert truth > 0


def test_best_shift_is_minus_the_influence(rng):
    x, y, sigma, tau, k = TRANSPORT["part_e"].cases(rng)
    gibbs = Gibbs(linear(x, y, l2=1 / tau**2), 1 / sigma**2)
    best = TRANSPORT["part_e"].truth(x, y, sigma, tau, k)
    _close(best, -conjugate_influence(gibbs)[k])
    # Neighbouring shifts cost more, by the divergence itself.
    posterior = conjugate_posterior(gibbs)
    beta = torch.ones(len(x), dtype=x.dtype)
    beta[k] -= 1e-3
    changed = conjugate_posterior(gibbs, beta)
    for away in 0.1 * normal(rng, 5, len(best)):
        near, far = (
            gaussian_kl(Gaussian(posterior.mean + 1e-3 * r, posterior.covariance), changed)
            for r in (torch.from_numpy(best), torch.from_numpy(best) + away)
        )
        assert far > near


def test_gaussian_divergence_is_that_of_the_library(rng):
    mean_q, cov_q, mean_p, cov_p = TRANSPORT["part_f"].cases(rng)
    truth = TRANSPORT["part_f"].truth(mean_q, cov_q, mean_p, cov_p)
    _close(truth, gaussian_kl(Gaussian(mean_q, cov_q), Gaussian(mean_p, cov_p)))
    assert TRANSPORT["part_f"].truth(mean_q, cov_q, mean_q, cov_q) == pytest.approx(0, abs=1e-12)
