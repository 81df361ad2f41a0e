"""Posteriors against numpy and scipy's cubature; the influence function by five routes."""

import weakref
from dataclasses import dataclass

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.integrate import cubature
from statsmodels.api import OLS

from lib import bayesian as by
from lib import exact_posteriors as ex
from lib import models
from lib.objective import Objective
from lib.sampling import mala, sgld

few = settings(deadline=None, max_examples=25, derandomize=True)
seeds = st.integers(0, 10**6)
NAN, INF = float("nan"), float("inf")


def close(left, right, rtol=1e-9):
    left, right = np.asarray(left), np.asarray(right)
    assert left.shape == right.shape
    assert np.isfinite(left).all() and np.abs(left - right).max() <= rtol * np.abs(right).max()


def richardson(f, h):
    """The derivative at 0 of a function of one number, error O(h⁶)."""
    a, b, c = ((f(t) - f(-t)) / (2 * t) for t in (h, h / 2, h / 4))
    first, second = (4 * b - a) / 3, (4 * c - b) / 3
    return (16 * second - first) / 15


def by_weights(f, n, h=0.04):
    """∂f/∂β_i at β = 1, one row an example."""
    return np.array([richardson(lambda t, e=e: f(1 + t * e), h) for e in np.eye(n)])


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


# --- a posterior that is no Gaussian, in numpy ---------------------------------------------------


@dataclass(frozen=True)
class Skewed:
    """Tempered, localised logistic regression with a Gaussian times a Student prior."""

    x: np.ndarray
    y: np.ndarray
    kappa: float
    rho: float
    gamma: float
    centre: np.ndarray
    student: float
    q: np.ndarray

    @classmethod
    def random(cls, seed, p, gamma=True, student=True):
        rng = np.random.default_rng(seed)
        n = int(rng.integers(4, 7))
        x, y = rng.normal(size=(n, p)) + 0.6, rng.choice([-1.0, 1.0], n)
        kappa, rho, c, nu = rng.uniform(0.6, 2), rng.uniform(0.4, 1), *rng.uniform(0.5, 1.5, 2)
        centre, q = rng.normal(size=p), rng.normal(size=p)
        return cls(x, y, kappa, rho, c * gamma, centre, nu * student, q)

    @property
    def gibbs(self):
        objective = models.logistic(torch.tensor(self.x), torch.tensor(self.y), l2=self.rho)
        student = None
        if self.student:
            student = lambda w: -self.student * torch.log1p(w**2).sum()  # noqa: E731
        centre = torch.tensor(self.centre) if self.gamma else None
        return by.Gibbs(objective, self.kappa, self.gamma, centre, student)

    def losses(self, w):
        return np.logaddexp(0, -self.y * (w @ self.x.T))

    def restraint(self, w):
        away = w - self.centre
        return (
            0.5 * self.rho * (w**2).sum(-1)
            + 0.5 * self.gamma * (away**2).sum(-1)
            + self.student * np.log1p(w**2).sum(-1)
        )

    def energy(self, w, beta):
        return self.kappa * self.losses(w) @ beta + self.restraint(w)

    def gradient(self, w, beta):
        away = 1 / (1 + np.exp(self.y * (w @ self.x.T)))
        return (
            -self.kappa * (beta * self.y * away) @ self.x
            + self.rho * w
            + self.gamma * (w - self.centre)
            + self.student * 2 * w / (1 + w**2)
        )

    def phi(self, w):
        """Two observables: w · q + sin(w · q), and (w · q)²."""
        s = w @ self.q
        return np.stack([s + np.sin(s), s**2], axis=-1)

    def torch_phi(self, w):
        s = w @ torch.tensor(self.q)
        return torch.stack([s + torch.sin(s), s**2])

    def means(self, f, beta, reach=9.0):
        """E[f] under p_β, by scipy."""
        beta = np.broadcast_to(beta, len(self.x))
        lowest = self.energy(self.centre, beta)

        def integrand(w):
            density = np.exp(lowest - self.energy(w, beta))[:, None]
            return np.concatenate([density, density * f(w)], axis=1)

        p = self.x.shape[1]
        found = cubature(integrand, [-reach] * p, [reach] * p, rule="gk15", rtol=1e-11, atol=1e-12)
        assert found.status == "converged"
        return found.estimate[1:] / found.estimate[0]

    def influence(self):
        """∂E[φ]/∂β_i by differences of scipy's means, (n, 2)."""
        return by_weights(lambda beta: self.means(self.phi, beta), len(self.x))


REACH = {1: ((-9.0,), (9.0,), 400), 2: ((-9.0, -9.0), (9.0, 9.0), 160)}


@few
@given(seeds, st.integers(1, 4), st.booleans(), st.booleans())
def test_energy_and_its_gradient(seed, p, gamma, student):
    case = Skewed.random(seed, p, gamma, student)
    rng = np.random.default_rng(seed)
    w, beta = 2 * rng.normal(size=(5, p)), rng.uniform(-0.5, 2, len(case.x))
    ones, tw, tbeta = np.ones(len(case.x)), torch.tensor(w), torch.tensor(beta)
    close(by.energy(case.gibbs, tw), case.energy(w, ones))
    close(by.energy(case.gibbs, tw, tbeta), case.energy(w, beta))
    close(by.energy(case.gibbs, tw[3], tbeta), case.energy(w[3], beta))
    close(by.energy(case.gibbs, tw[3]), case.energy(w[3], ones))
    for given_beta, numpy_beta in ((None, ones), (tbeta, beta)):
        value, slope = by.energy_and_gradient(case.gibbs, tw, given_beta)
        close(value, case.energy(w, numpy_beta))
        close(slope, [case.gradient(row, numpy_beta) for row in w])
    close(by.restraint(case.gibbs, tw[1]), case.restraint(w[1]))
    close(by.losses_at(case.gibbs.objective, tw, chunk=2), case.losses(w))


def test_a_centre_without_localisation_holds_nothing():
    model = models.location(torch.ones(2, 3).double())
    loose = by.Gibbs(model, centre=torch.ones(3).double())
    w = torch.arange(3.0).double()
    assert by.energy(loose, w).item() == pytest.approx(2 * 0.5 * (1 + 0 + 1))


# --- quadrature ----------------------------------------------------------------------------------


@pytest.mark.parametrize("p", [1, 2])
@pytest.mark.parametrize("seed", range(3))
def test_quadrature_against_scipy(seed, p):
    case = Skewed.random(seed, p)
    beta = np.random.default_rng(seed).uniform(0.2, 2, len(case.x))
    for given_beta, numpy_beta in ((None, 1.0), (torch.tensor(beta), beta)):
        w, weights = ex.quadrature(case.gibbs, *REACH[p], given_beta)
        assert w.shape == (REACH[p][2] ** p, p) and weights.shape == (len(w),)
        assert weights.sum().item() == pytest.approx(1, abs=1e-12)
        close(weights @ torch.tensor(case.phi(w.numpy())), case.means(case.phi, numpy_beta))


def test_quadrature_points():
    case = Skewed.random(0, 2)
    w, weights = ex.quadrature(case.gibbs, (-7.0, -8.0), (9.0, 10.0), 90)
    a, b = np.meshgrid(np.linspace(-7, 9, 90), np.linspace(-8, 10, 90), indexing="ij")
    close(w, np.stack([a.ravel(), b.ravel()], axis=1), 1e-13)
    density = np.exp(-case.energy(w.numpy(), np.ones(len(case.x))))
    close(weights, density / density.sum(), 1e-12)


def test_quadrature_where_the_parameters_end():
    case = Skewed.random(1, 1)
    beta = np.linspace(0.5, 2, len(case.x))
    w, weights = ex.quadrature(case.gibbs, (0.0,), (1.5,), 2001, torch.tensor(beta), bounded=True)
    nodes = np.linspace(0, 1.5, 2001)[:, None]
    density = np.exp(-case.energy(nodes, beta))
    density[[0, -1]] /= 2
    close(w, nodes, 1e-13)
    close(weights, density / density.sum(), 1e-12)

    def integrand(w):
        inside = np.exp(-case.energy(w, beta))[:, None]
        return np.concatenate([inside, inside * w], axis=1)

    mass, first = cubature(integrand, [0.0], [1.5], rtol=1e-12).estimate
    close(weights @ w, [first / mass], 1e-5)
    # In two dimensions a side counts half and a corner a quarter.
    flat = Skewed.random(1, 2)
    w, weights = ex.quadrature(flat.gibbs, (0.0, -1.0), (1.0, 0.5), 4, bounded=True)
    density = np.exp(-flat.energy(w.numpy(), np.ones(len(flat.x)))).reshape(4, 4)
    ends = np.array([0.5, 1, 1, 0.5])
    density *= np.outer(ends, ends)
    close(weights, density.ravel() / density.sum(), 1e-12)


def test_quadrature_in_many_parts():
    # More points than are evaluated at once.
    model = models.location(torch.tensor([[0.3, -0.2]], dtype=torch.float64))
    w, weights = ex.quadrature(by.Gibbs(model, 2.0), (-6.0, -6.0), (7.0, 6.0), 300)
    close(weights @ w, [0.3, -0.2], 1e-9)
    close((weights * w[:, 0]) @ w[:, 1], 0.3 * -0.2, 1e-9)


def test_quadrature_of_integer_data():
    whole = torch.tensor([1, 2, 4])
    model = Objective(lambda w, x: w - x, lambda f, y: 0.5 * (f**2).sum(), whole, whole)
    w, weights = ex.quadrature(by.Gibbs(model), (-4.0,), (9.0,), 200)
    assert w.dtype == torch.float64
    close(weights @ w, [7 / 3], 1e-10)


# --- averages and covariances --------------------------------------------------------------------


def points(seed, m=9):
    """Values of three and of two quantities at m points, and probabilities."""
    rng = np.random.default_rng(seed)
    a, b, p = rng.normal(size=(m, 3)) + 2, rng.normal(size=(m, 2)) - 1, rng.uniform(size=m)
    return a, b, p / p.sum()


@few
@given(seeds, st.integers(2, 12))
def test_averages_and_covariances_in_numpy(seed, m):
    a, b, p = points(seed, m)
    ta, tb, tp = map(torch.tensor, (a, b, p))
    close(by.average(ta), a.mean(axis=0))
    close(by.average(ta, tp), np.average(a, axis=0, weights=p))
    close(by.average(ta[:, 0], tp), np.average(a[:, 0], weights=p))
    whole = np.cov(a.T, b.T)[:3, 3:]
    weighted = np.cov(a.T, b.T, aweights=p, ddof=0)[:3, 3:]
    close(by.covariance(ta, tb), whole)
    close(by.covariance(ta, tb, tp), weighted)
    close(by.covariance(ta[:, 0], tb), whole[0])
    close(by.covariance(ta, tb[:, 1], tp), weighted[:, 1])
    close(by.covariance(ta[:, 2], tb[:, 1], tp), weighted[2, 1])
    close(by.covariance(ta[:, :, None], tb, tp), weighted[:, None])
    close(by.susceptibility(ta, tb, 1.7), 1.7 * whole)
    close(by.susceptibility(ta, tb, 1.7, tp), 1.7 * weighted)
    close(by.bif(ta, tb, 1.7), -1.7 * whole)
    close(by.bif(ta, tb[:, 0], 1.7, tp), -1.7 * weighted[:, 0])
    close(by.bif(ta, tb), -whole)


@pytest.mark.parametrize("weighted", [False, True])
def test_a_covariance_of_large_numbers_keeps_its_digits(weighted):
    a, b, p = points(3)
    a, b = np.round(a * 2**12) / 2**12, np.round(b * 2**12) / 2**12
    weights = torch.tensor(p) if weighted else None
    want = by.covariance(torch.tensor(a), torch.tensor(b), weights)
    close(by.covariance(torch.tensor(a + 1e6), torch.tensor(b + 1e7), weights), want, 1e-6)


@few
@given(seeds, st.floats(-2, 2))
def test_reweighted_mean_in_numpy(seed, theta):
    a, b, p = points(seed)
    ta, psi = torch.tensor(a), torch.tensor(b[:, 0])
    p[4] = 0
    p /= p.sum()
    for kappa, given_p, numpy_p in ((1.0, None, 1 / 9), (1.6, None, 1 / 9), (1.6, p, p)):
        tilted = numpy_p * np.exp(kappa * theta * b[:, 0])
        want = tilted @ a / np.sum(tilted)
        given_p = None if given_p is None else torch.tensor(given_p)
        close(by.reweighted_mean(ta, psi, theta, kappa, given_p), want)
        close(by.reweighted_mean(ta[:, 1], psi, theta, kappa, given_p), want[1])


def test_reweighting_does_not_overflow():
    psi = torch.tensor([0.0, 2000.0, 1.0]).double()
    assert by.reweighted_mean(psi, psi, 3.0).item() == 2000


@few
@given(seeds)
def test_the_definition_by_reweighting_is_a_covariance(seed):
    a, b, p = points(seed)
    ta, psi, tp = torch.tensor(a), torch.tensor(b[:, 0]), torch.tensor(p)
    weighted = 1.3 * np.cov(a.T, b[:, 0], aweights=p, ddof=0)[:3, 3]
    plain = np.cov(a.T, b[:, 0], ddof=0)[:3, 3]
    close(by.susceptibility_by_definition(ta, psi, 1.3, tp), weighted)
    close(by.susceptibility_by_definition(ta, psi), plain)
    close(by.susceptibility_by_definition(ta[:, 2], psi, 1.3, tp), weighted[2])
    coarse, fine = (
        (by.susceptibility_by_definition(ta, psi, 1.3, tp, step=h).numpy() - weighted)
        for h in (0.02, 0.01)
    )
    assert np.abs(fine).max() < 1e-4 and 13 < np.linalg.norm(coarse) / np.linalg.norm(fine) < 19


# --- the influence function: exact routes --------------------------------------------------------


@pytest.mark.parametrize("seed, p", [(0, 1), (1, 1), (2, 1), (1, 2), (2, 2)])
def test_influence_is_the_derivative_of_scipys_means(seed, p):
    case = Skewed.random(seed, p, gamma=seed != 1, student=seed != 2)
    w, weights = ex.quadrature(case.gibbs, *REACH[p])
    losses = by.losses_at(case.gibbs.objective, w)
    phi = torch.func.vmap(case.torch_phi)(w)
    want = case.influence()
    close(by.bif(losses, phi, case.kappa, weights), want, 1e-7)
    close(by.susceptibility(-losses, phi, case.kappa, weights), want, 1e-7)
    for i, row in enumerate(want):
        found = by.susceptibility_by_definition(phi, -losses[:, i], case.kappa, weights)
        close(found, row, 1e-7)


@dataclass(frozen=True)
class Conjugate:
    """Bayesian linear regression by its formulas."""

    x: np.ndarray
    y: np.ndarray
    kappa: float
    rho: float
    gamma: float
    centre: np.ndarray

    @classmethod
    def random(cls, seed, p=None):
        rng = np.random.default_rng(seed)
        n, p = int(rng.integers(4, 9)), int(rng.integers(1, 5)) if p is None else p
        x = rng.normal(size=(n, p)) * rng.uniform(0.5, 2, p) + 0.3
        y = x @ rng.normal(size=p) + rng.normal(size=n)
        return cls(x, y, *rng.uniform(0.4, 2, 3), rng.normal(size=p))

    @property
    def gibbs(self):
        objective = models.linear(torch.tensor(self.x), torch.tensor(self.y), l2=self.rho)
        return by.Gibbs(objective, self.kappa, self.gamma, torch.tensor(self.centre))

    def posterior(self, beta=1.0):
        beta = np.broadcast_to(beta, len(self.x))
        precision = self.kappa * (self.x.T * beta) @ self.x
        precision = precision + (self.rho + self.gamma) * np.eye(self.x.shape[1])
        pull = self.kappa * self.x.T @ (beta * self.y) + self.gamma * self.centre
        return np.linalg.solve(precision, pull), np.linalg.inv(precision)

    def draws(self, rng, *shape, covariance=None):
        mean, v = self.posterior()
        v = v if covariance is None else covariance
        return mean + rng.normal(size=(*shape, len(mean))) @ np.linalg.cholesky(v).T

    def means(self, f, beta):
        """E[f] for two parameters under the conjugate posterior, by Gauss and Hermite."""
        nodes, weights = np.polynomial.hermite_e.hermegauss(40)
        mean, v = self.posterior(beta)
        z = np.stack(np.meshgrid(nodes, nodes), axis=-1).reshape(-1, 2)
        each = np.outer(weights, weights).ravel() / weights.sum() ** 2
        return each @ f(mean + z @ np.linalg.cholesky(v).T)


@few
@given(seeds)
def test_conjugate_posterior_in_numpy(seed):
    case = Conjugate.random(seed)
    beta = np.random.default_rng(seed).uniform(0.1, 2, len(case.x))
    for given_beta, numpy_beta in ((None, 1.0), (torch.tensor(beta), beta)):
        found = ex.conjugate_posterior(case.gibbs, given_beta)
        mean, covariance = case.posterior(numpy_beta)
        close(found.mean, mean)
        close(found.covariance, covariance)
    close(
        ex.conjugate_influence(case.gibbs),
        by_weights(lambda beta: case.posterior(beta)[0], len(case.x), 0.02),
        1e-8,
    )


@few
@given(seeds)
def test_conjugate_formulas_of_the_text(seed):
    case = Conjugate.random(seed)
    noise, prior = 0.7, 1.9  # σ² and τ²
    objective = models.linear(torch.tensor(case.x), torch.tensor(case.y), l2=1 / prior)
    gibbs = by.Gibbs(objective, 1 / noise)
    a, eye = case.x.T @ case.x, np.eye(case.x.shape[1])
    v = np.linalg.inv(eye / prior + a / noise)
    mean = v @ case.x.T @ case.y / noise
    close(ex.conjugate_posterior(gibbs).mean, mean)
    close(ex.conjugate_posterior(gibbs).covariance, v)
    damped = np.linalg.inv(a + noise / prior * eye)
    residual = case.y - case.x @ mean
    close(ex.conjugate_influence(gibbs), (residual[:, None] * case.x) @ damped)


def test_a_flat_prior_gives_least_squares():
    case = Conjugate.random(3, p=3)
    gibbs = by.Gibbs(models.linear(torch.tensor(case.x), torch.tensor(case.y)), 1 / 0.7)
    model = OLS(case.y, case.x).fit()
    close(ex.conjugate_posterior(gibbs).mean, model.params)
    close(ex.conjugate_posterior(gibbs).covariance, 0.7 * model.normalized_cov_params)
    other = model.get_influence()
    close(ex.conjugate_influence(gibbs), other.dfbeta * (1 - other.hat_matrix_diag[:, None]))


@pytest.mark.parametrize("seed", range(12))
def test_a_singular_precision_is_seen_through_rounding(seed):
    # A third of these pass Cholesky's own test, with a last pivot of about 1e-8.
    x = np.random.default_rng(seed).normal(size=(9, 2))
    x = torch.tensor(np.column_stack([x, x @ [0.3, 0.7]]))
    with pytest.raises(ValueError, match=r"^gibbs: singular precision"):
        ex.conjugate_posterior(by.Gibbs(models.linear(x, x[:, 0] ** 2)))
    ex.conjugate_posterior(by.Gibbs(models.linear(x, x[:, 0] ** 2, l2=0.1)))


def test_localisation_damps_and_temperature_widens():
    case = Conjugate.random(5, p=2)
    objective, centre = case.gibbs.objective, torch.tensor(case.centre)
    held = ex.conjugate_posterior(by.Gibbs(objective, 1.0, 1e9, centre))
    close(held.mean, case.centre, 1e-6)
    close(held.covariance, 1e-9 * np.eye(2), 1e-6)
    # The same losses, tempered: κ and β are one number, and the prior is not tempered.
    hot = ex.conjugate_posterior(by.Gibbs(objective, 0.25))
    fewer = ex.conjugate_posterior(by.Gibbs(objective), torch.full((objective.n,), 0.25).double())
    close(hot.mean, fewer.mean)
    close(hot.covariance, fewer.covariance)


# --- the influence function, from draws ----------------------------------------------------------


class Routes:
    """One regression of two parameters, two observables, and ∂E[φ]/∂β by Gauss and Hermite."""

    case = Conjugate.random(11, p=2)
    q = np.array([0.8, -0.5])

    def numpy_phi(self, w):
        s = w @ self.q
        return np.stack([w[..., 0], w[..., 1], s + np.sin(2 * s) + s**2], axis=-1)

    def phi(self, w):
        s = w @ torch.tensor(self.q)
        return torch.stack([w[0], w[1], s + torch.sin(2 * s) + s**2])

    def truth(self):
        return by_weights(lambda b: self.case.means(self.numpy_phi, b), len(self.case.x), 0.02)

    def finite_step(self, step):
        """−κ Cov(L_i, φ) where SGLD with this step is stationary; its mean is right."""
        mean, v = self.case.posterior()
        kept = np.eye(2) - 0.5 * step * np.linalg.inv(v)
        biased = np.linalg.solve(np.eye(4) - np.kron(kept, kept), step * np.eye(2).ravel())
        nodes, weights = np.polynomial.hermite_e.hermegauss(60)
        z = np.stack(np.meshgrid(nodes, nodes), axis=-1).reshape(-1, 2)
        each = np.outer(weights, weights).ravel() / weights.sum() ** 2
        w = mean + z @ np.linalg.cholesky(biased.reshape(2, 2)).T
        losses = 0.5 * (self.case.y - w @ self.case.x.T) ** 2
        return (
            -self.case.kappa
            * np.cov(losses.T, self.numpy_phi(w).T, aweights=each, ddof=0)[
                : len(losses.T), len(losses.T) :
            ]
        )

    @property
    def stiffest(self):
        return np.linalg.eigvalsh(np.linalg.inv(self.case.posterior()[1])).max()


ROUTES = Routes()


def test_exact_routes_agree():
    case, truth, gibbs = ROUTES.case, ROUTES.truth(), ROUTES.case.gibbs
    w, weights = ex.quadrature(gibbs, (-6.0, -6.0), (6.0, 6.0), 200)
    losses, phi = by.losses_at(gibbs.objective, w), torch.func.vmap(ROUTES.phi)(w)
    close(by.bif(losses, phi, case.kappa, weights), truth, 1e-8)
    close(ex.conjugate_influence(gibbs), truth[:, :2], 1e-8)
    close(ROUTES.finite_step(1e-9), truth, 1e-7)
    for i, row in enumerate(truth):
        found = by.susceptibility_by_definition(phi, -losses[:, i], case.kappa, weights)
        close(found, row, 1e-8)


def scores(estimate, truth):
    assert estimate.value.shape == estimate.error.shape == truth.shape
    assert (estimate.error > 0).all()
    return np.abs((estimate.value.numpy() - truth) / estimate.error.numpy())


def small(error, truth):
    """Whether a comparison can tell anything: the error is a few percent of what is estimated."""
    return error.norm() < 0.06 * np.linalg.norm(truth)


def start(seed, chains=800):
    return torch.tensor(ROUTES.case.draws(np.random.default_rng(seed), chains)) + 0.5


def test_independent_draws_agree():
    draws = torch.tensor(ROUTES.case.draws(np.random.default_rng(0), 500, 80))
    found = by.bayesian_influence(ROUTES.case.gibbs, draws, ROUTES.phi)
    assert scores(found, ROUTES.truth()).max() < 4.5
    assert small(found.error, ROUTES.truth())


def test_mala_agrees():
    step = 1.5 / ROUTES.stiffest
    states = mala(
        ROUTES.case.gibbs, start(1), step=step, draws=100, generator=generator(1), burn_in=30
    )
    found = by.bayesian_influence(ROUTES.case.gibbs, states, ROUTES.phi)
    assert scores(found, ROUTES.truth()).max() < 4.5
    assert small(found.error, ROUTES.truth())


def test_sgld_agrees_at_a_step_whose_bias_is_below_the_error():
    step, truth = 0.04 / ROUTES.stiffest, ROUTES.truth()
    states = sgld(
        ROUTES.case.gibbs,
        start(2, 400),
        step=step,
        draws=60,
        thin=10,
        burn_in=400,
        generator=generator(2),
    )
    found = by.bayesian_influence(ROUTES.case.gibbs, states, ROUTES.phi)
    bias = np.abs(ROUTES.finite_step(step) - truth)
    assert (bias < 0.5 * found.error.numpy()).all()
    assert scores(found, truth).max() < 4.5
    assert small(found.error, truth)


def test_sgld_at_a_large_step_is_off_by_its_known_bias():
    step = 2.4 / ROUTES.stiffest
    states = sgld(
        ROUTES.case.gibbs, start(3), step=step, draws=150, burn_in=30, generator=generator(3)
    )
    found = by.bayesian_influence(ROUTES.case.gibbs, states, ROUTES.phi)
    assert scores(found, ROUTES.finite_step(step)).max() < 4.5
    assert scores(found, ROUTES.truth()).max() > 8


def test_mala_agrees_with_scipy_on_a_localised_logistic_posterior():
    case = Skewed.random(0, 2)
    states = mala(
        case.gibbs,
        torch.tensor(case.centre).repeat(600, 1),
        step=0.7,
        draws=150,
        burn_in=50,
        generator=generator(0),
    )
    found = by.bayesian_influence(case.gibbs, states, case.torch_phi)
    truth = case.influence()
    assert scores(found, truth).max() < 4.5
    assert small(found.error, truth)


@pytest.mark.parametrize("common", [0.0, 0.6])
def test_the_stated_error_is_honest(common):
    """z-scores have standard deviation 1, also when a chain never forgets where it began."""
    case, truth = ROUTES.case, ROUTES.truth()
    mean, v = case.posterior()
    root, rng, z = np.linalg.cholesky(v).T, np.random.default_rng(4), []
    for _ in range(250):
        own, each = rng.normal(size=(400, 1, 2)), rng.normal(size=(400, 4, 2))
        draws = mean + (common**0.5 * own + (1 - common) ** 0.5 * each) @ root
        found = by.bayesian_influence(case.gibbs, torch.tensor(draws), ROUTES.phi)
        z.append((found.value.numpy() - truth) / found.error.numpy())
    z = np.stack(z)
    # Each spread is known to 4.5%; few chains would add to it, as products are skewed.
    assert 0.85 < z.std(axis=0).min() and z.std(axis=0).max() < 1.15
    assert np.abs(z.mean(axis=0)).max() < 0.5


def one_shot(case, draws, phi):
    """The covariance over all draws, and the spread of each chain's products, in numpy."""
    chains, length = draws.shape[:2]
    losses = 0.5 * (case.y - draws @ case.x.T) ** 2
    a, b = losses - losses.mean(axis=(0, 1)), phi - phi.mean(axis=(0, 1))
    products = np.einsum("cti,ctk->cik", a, b) / length
    products *= chains * length / (chains * length - 1)
    return products.mean(axis=0), products.std(axis=0, ddof=1) / chains**0.5


@few
@given(seeds, st.integers(2, 5), st.integers(2, 17), st.integers(1, 20))
def test_blocks_do_not_matter(seed, chains, length, block):
    case = Conjugate.random(seed, p=2)
    draws = np.random.default_rng(seed).normal(size=(chains, length, 2)) + 1
    value, error = one_shot(case, draws, ROUTES.numpy_phi(draws))
    n, flat = len(case.x), ROUTES.numpy_phi(draws).reshape(-1, 3)
    losses = 0.5 * (case.y - draws.reshape(-1, 2) @ case.x.T) ** 2
    close(value, np.cov(losses.T, flat.T)[:n, n:])
    tensor = torch.tensor(draws)
    for given_draws in (tensor, (tensor[:, t] for t in range(length))):
        found = by.bayesian_influence(case.gibbs, given_draws, ROUTES.phi, block=block)
        close(found.value, -case.kappa * value, 1e-12)
        close(found.error, case.kappa * error, 1e-11)
    default = by.bayesian_influence(case.gibbs, tensor, ROUTES.phi)
    close(default.value, -case.kappa * value, 1e-12)


@pytest.mark.parametrize("block", [1, 3, 100])
def test_a_large_mean_costs_no_digits(block):
    case, draws = Conjugate.random(0, p=2), np.random.default_rng(0).normal(size=(3, 20, 2))
    value, error = one_shot(case, draws, draws[..., :1])
    far = by.bayesian_influence(case.gibbs, torch.tensor(draws), lambda w: w[0] + 1e7, block=block)
    close(far.value, -case.kappa * value[:, 0], 1e-6)
    close(far.error, case.kappa * error[:, 0], 1e-6)


def test_shapes_of_observables():
    case = Conjugate.random(1, p=2)
    draws = torch.tensor(case.draws(np.random.default_rng(1), 4, 6))
    n = len(case.x)
    all_three = by.bayesian_influence(case.gibbs, draws, ROUTES.phi)
    assert all_three.value.shape == (n, 3)
    for k in range(3):
        one = by.bayesian_influence(case.gibbs, draws, lambda w, k=k: ROUTES.phi(w)[k])
        alone = by.bayesian_influence(case.gibbs, draws, lambda w, k=k: ROUTES.phi(w)[k : k + 1])
        assert one.value.shape == one.error.shape == (n,)
        assert alone.value.shape == alone.error.shape == (n, 1)
        close(one.value, all_three.value[:, k], 1e-12)
        close(one.error, all_three.error[:, k], 1e-11)
        close(alone.value[:, 0], all_three.value[:, k], 1e-12)


class Counting:
    """Yields states and watches how many of them are still alive."""

    def __init__(self, states):
        self.states, self.seen, self.most = list(states), [], 0

    def __iter__(self):
        return self

    def __next__(self):
        if not self.states:
            raise StopIteration
        state = self.states.pop().clone()
        self.seen.append(weakref.ref(state))
        self.most = max(self.most, sum(ref() is not None for ref in self.seen))
        return state


@pytest.mark.parametrize("block", [1, 4, 7])
def test_no_more_than_one_block_is_held(block):
    case = Conjugate.random(2, p=2)
    draws = torch.tensor(case.draws(np.random.default_rng(2), 3, 30))
    states = Counting(draws.unbind(dim=1))
    found = by.bayesian_influence(case.gibbs, states, ROUTES.phi, block=block)
    close(found.value, by.bayesian_influence(case.gibbs, draws, ROUTES.phi).value, 1e-12)
    assert len(states.seen) == 30 and states.most <= block


def test_negative_influence_of_upweighting_on_an_examples_own_loss():
    case = Conjugate.random(8, p=2)
    w, weights = ex.quadrature(case.gibbs, (-9.0, -9.0), (9.0, 9.0), 200)
    losses = by.losses_at(case.gibbs.objective, w)
    assert (by.bif(losses, losses, case.kappa, weights).diagonal() < 0).all()


# --- float32 and bad input -----------------------------------------------------------------------


def test_float32_posterior():
    case = Conjugate.random(9, p=2)
    objective = models.linear(torch.tensor(case.x).float(), torch.tensor(case.y).float(), case.rho)
    gibbs = by.Gibbs(objective, case.kappa, case.gamma, torch.tensor(case.centre).float())
    found = ex.conjugate_posterior(gibbs)
    assert found.mean.dtype == found.covariance.dtype == torch.float32
    close(found.mean, case.posterior()[0], 1e-5)
    draws = case.draws(np.random.default_rng(9), 3, 9)
    influence = by.bayesian_influence(gibbs, torch.tensor(draws).float(), lambda w: w[0])
    value, _ = one_shot(case, draws, draws[..., :1])
    assert influence.value.dtype == torch.float32
    close(influence.value, -case.kappa * value[:, 0], 1e-4)


def test_float32_quadrature():
    case = Conjugate.random(9, p=2)
    objective = models.linear(torch.tensor(case.x).float(), torch.tensor(case.y).float())
    gibbs = by.Gibbs(objective)
    w, weights = ex.quadrature(gibbs, (-9.0, -9.0), (9.0, 9.0), 300)
    assert w.dtype == weights.dtype == torch.float32
    exact = ex.conjugate_posterior(gibbs)
    close(by.average(w, weights), exact.mean, 1e-3)
    close(by.covariance(w, w, weights), exact.covariance, 1e-3)


def test_the_centre_of_a_conjugate_posterior_must_fit():
    with pytest.raises(ValueError, match="expected shape"):
        ex.conjugate_posterior(by.Gibbs(LINE, 1.0, 1.0, torch.zeros(1).double()))


LINE = models.linear(torch.tensor([[1.0, 0.2], [0.3, 1], [2, 1]]).double(), torch.ones(3).double())
TWINS = models.linear(torch.ones(3, 2).double(), torch.ones(3).double())
GIBBS, W = by.Gibbs(LINE), torch.zeros(4, 2).double()
A, B, _ = map(torch.tensor, points(0, 5))
B, P = B[:, 0], torch.full((5,), 0.2, dtype=torch.float64)
SIGNED = torch.tensor([-0.2, 0.6, 0.2, 0.2, 0.2], dtype=torch.float64)
DRAWS = torch.tensor(np.random.default_rng(0).uniform(size=(3, 4, 2)))
LOW, HIGH = (-9.0, -9.0), (9.0, 9.0)


def watch(draws, phi=lambda w: w[0], **options):
    return by.bayesian_influence(GIBBS, draws, phi, **options)


@pytest.mark.parametrize(
    "name, call",
    [
        ("inverse_temperature", lambda: by.Gibbs(LINE, 0.0)),
        ("inverse_temperature", lambda: by.Gibbs(LINE, -1.0)),
        ("inverse_temperature", lambda: by.Gibbs(LINE, INF)),
        ("inverse_temperature", lambda: by.Gibbs(LINE, NAN)),
        ("localisation", lambda: by.Gibbs(LINE, 1.0, -1.0, W[0])),
        ("localisation", lambda: by.Gibbs(LINE, 1.0, INF, W[0])),
        ("centre", lambda: by.Gibbs(LINE, 1.0, 1.0)),
        ("centre", lambda: by.Gibbs(LINE, 1.0, 1.0, W)),
        ("centre", lambda: by.Gibbs(LINE, 1.0, 0.0, W)),
        ("centre", lambda: by.Gibbs(LINE, 1.0, 1.0, W[0] * NAN)),
        ("centre", lambda: by.Gibbs(LINE, 1.0, 1.0, [0.0, 0.0])),
        ("w", lambda: by.energy(GIBBS, W[None])),
        ("w", lambda: by.energy(GIBBS, W * NAN)),
        ("w", lambda: by.energy(GIBBS, W.long())),
        ("w", lambda: by.energy(GIBBS, W[:, :1])),
        ("w", lambda: by.energy(GIBBS, W.float())),
        ("w", lambda: by.energy(by.Gibbs(LINE, 1.0, 1.0, torch.zeros(1).double()), W)),
        ("beta", lambda: by.energy(GIBBS, W, torch.ones(2).double())),
        ("beta", lambda: by.energy(GIBBS, W, torch.ones(3).double() * NAN)),
        ("log_prior", lambda: by.energy(by.Gibbs(LINE, log_prior=lambda w: w), W)),
        ("w", lambda: by.energy_and_gradient(GIBBS, W[0])),
        ("w", lambda: by.energy_and_gradient(GIBBS, W * NAN)),
        ("beta", lambda: by.energy_and_gradient(GIBBS, W, torch.ones(2).double())),
        ("values", lambda: by.average(A * NAN)),
        ("values", lambda: by.average(A.long())),
        ("weights", lambda: by.average(A, P[:4])),
        ("weights", lambda: by.average(A, P * NAN)),
        ("weights", lambda: by.average(A, P * 1.001)),
        ("weights", lambda: by.average(A, P * 0.999)),
        ("weights", lambda: by.average(A, SIGNED)),
        ("a", lambda: by.covariance(A * INF, B)),
        ("b", lambda: by.covariance(A, B * NAN)),
        ("b", lambda: by.covariance(A, B[:4])),
        ("b", lambda: by.covariance(A[:1], B[:1])),
        ("weights", lambda: by.covariance(A, B, P[:4])),
        ("weights", lambda: by.covariance(A, B, 2 * P)),
        ("psi", lambda: by.reweighted_mean(A, A, 0.1)),
        ("psi", lambda: by.reweighted_mean(A, B[:4], 0.1)),
        ("theta", lambda: by.reweighted_mean(A, B, NAN)),
        ("theta", lambda: by.reweighted_mean(A, B, torch.tensor(0.1))),
        ("inverse_temperature", lambda: by.reweighted_mean(A, B, 0.1, 0.0)),
        ("weights", lambda: by.reweighted_mean(A, B, 0.1, 1.0, 2 * P)),
        ("values", lambda: by.reweighted_mean(A * NAN, B, 0.1)),
        ("inverse_temperature", lambda: by.susceptibility(A, B, -1.0)),
        ("step", lambda: by.susceptibility_by_definition(A, B, step=0.0)),
        ("step", lambda: by.susceptibility_by_definition(A, B, step=-1e-3)),
        ("inverse_temperature", lambda: by.susceptibility_by_definition(A, B, 0.0)),
        ("losses", lambda: by.bif(B, A)),
        ("losses", lambda: by.bif(A * NAN, B)),
        ("b", lambda: by.bif(A, B[:3])),
        ("inverse_temperature", lambda: by.bif(A, B, 0.0)),
        ("w", lambda: by.losses_at(LINE, W[0])),
        ("w", lambda: by.losses_at(LINE, W * INF)),
        ("chunk", lambda: by.losses_at(LINE, W, chunk=0)),
        ("draws", lambda: watch(DRAWS[0])),
        ("draws", lambda: watch(DRAWS * NAN)),
        ("draws", lambda: watch(DRAWS[:1])),
        ("draws", lambda: watch(DRAWS[:, :1])),
        ("draws", lambda: watch(DRAWS[:, :0])),
        ("draws", lambda: watch(iter([]))),
        ("draws", lambda: watch([DRAWS[:, 0]])),
        ("phi", lambda: watch(DRAWS, lambda w: w[0] * NAN)),
        ("draws", lambda: watch(DRAWS + 1e200)),
        ("phi", lambda: watch(DRAWS, lambda w: w[None])),
        ("block", lambda: watch(DRAWS, block=0)),
        ("block", lambda: watch(DRAWS, block=2.0)),
        ("points", lambda: ex.quadrature(GIBBS, LOW, HIGH, 2)),
        ("low", lambda: ex.quadrature(GIBBS, LOW, HIGH[:1], 9)),
        ("low", lambda: ex.quadrature(GIBBS, (), (), 9)),
        ("low", lambda: ex.quadrature(GIBBS, (-9.0,) * 3, (9.0,) * 3, 9)),
        ("low", lambda: ex.quadrature(GIBBS, (NAN, -9.0), HIGH, 9)),
        ("high", lambda: ex.quadrature(GIBBS, LOW, (INF, 9.0), 9)),
        ("high", lambda: ex.quadrature(GIBBS, LOW, (9.0, -9.0), 9)),
        ("beta", lambda: ex.quadrature(GIBBS, LOW, HIGH, 9, torch.ones(2).double())),
        ("energy", lambda: ex.quadrature(by.Gibbs(LINE, 1e308), LOW, HIGH, 9)),
        ("low, high", lambda: ex.quadrature(GIBBS, (-9.0, -1.0), HIGH, 99)),
        ("low, high", lambda: ex.quadrature(GIBBS, LOW, (1.0, 9.0), 99)),
        ("gibbs", lambda: ex.conjugate_posterior(by.Gibbs(models.location(A)))),
        ("gibbs", lambda: ex.conjugate_posterior(by.Gibbs(models.logistic(LINE.x, LINE.y)))),
        ("gibbs", lambda: ex.conjugate_posterior(by.Gibbs(LINE, log_prior=lambda w: w.sum()))),
        ("gibbs", lambda: ex.conjugate_posterior(by.Gibbs(TWINS))),
        ("gibbs", lambda: ex.conjugate_posterior(GIBBS, -torch.ones(3).double())),
        ("beta", lambda: ex.conjugate_posterior(GIBBS, torch.ones(2).double())),
        ("gibbs", lambda: ex.conjugate_influence(by.Gibbs(TWINS))),
    ],
)
def test_bad_input_is_named(name, call):
    with pytest.raises(ValueError, match=rf"^{name}: "):
        call()
