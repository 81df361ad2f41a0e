"""Samplers step by step in numpy, and in distribution against formulas and scipy's integrals."""

import itertools

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.integrate import quad
from scipy.linalg import solve_discrete_lyapunov
from scipy.stats import norm, rankdata

from lib import models, sampling
from lib.bayesian import Gibbs
from lib.objective import Objective
from lib.sampling import collect, mala, minibatch_noise, sgld, sgld_covariance

few = settings(deadline=None, max_examples=25, derandomize=True)
seeds = st.integers(0, 10**6)
NAN, INF = float("nan"), float("inf")
BOTH = pytest.mark.parametrize("sampler", [sgld, mala])


def close(left, right, rtol=1e-10):
    left, right = np.asarray(left), np.asarray(right)
    assert left.shape == right.shape
    assert np.isfinite(left).all() and np.abs(left - right).max() <= rtol * np.abs(right).max()


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def z_scores(values, truth):
    """How far the mean over all draws is from the truth, in errors; values: (chains, draws, …)."""
    chains = np.asarray(values).mean(axis=1)
    error = chains.std(axis=0, ddof=1) / len(chains) ** 0.5
    assert (error > 0).all()
    return np.abs((chains.mean(axis=0) - truth) / error)


class Logistic:
    """Tempered, penalised, localised logistic regression with a Student prior, in numpy."""

    def __init__(self, seed, n=5, p=2):
        rng = np.random.default_rng(seed)
        self.x, self.y = rng.normal(size=(n, p)) + 0.5, rng.choice([-1.0, 1.0], n)
        self.kappa, self.rho, self.gamma = rng.uniform(0.6, 1.5, 3)
        self.centre = rng.normal(size=p)
        objective = models.logistic(torch.tensor(self.x), torch.tensor(self.y), l2=self.rho)
        self.gibbs = Gibbs(
            objective,
            self.kappa,
            self.gamma,
            torch.tensor(self.centre),
            lambda w: -0.8 * torch.log1p(w**2).sum(),
        )

    def energy(self, w):
        return (
            self.kappa * np.logaddexp(0, -self.y * (w @ self.x.T)).sum(-1)
            + 0.5 * self.rho * (w**2).sum(-1)
            + 0.5 * self.gamma * ((w - self.centre) ** 2).sum(-1)
            + 0.8 * np.log1p(w**2).sum(-1)
        )

    def slopes(self, w):
        """κ∇L_i of every example at one w."""
        s = 1 / (1 + np.exp(self.y * (self.x @ w)))
        return -self.kappa * (self.y * s)[:, None] * self.x

    def held(self, w):
        return self.rho * w + self.gamma * (w - self.centre) + 0.8 * 2 * w / (1 + w**2)

    def gradient(self, w):
        """One row a chain."""
        return np.array([self.slopes(v).sum(axis=0) + self.held(v) for v in w])


# --- step by step --------------------------------------------------------------------------------


@pytest.mark.parametrize("batch", [None, 5])
def test_sgld_by_hand(batch):
    case, step, w = Logistic(0), 0.3, np.random.default_rng(0).normal(size=(4, 2))
    start = torch.tensor(w)
    states = sgld(case.gibbs, start, step=step, draws=5, generator=generator(7), batch=batch)
    same = generator(7)
    for state in states:
        xi = torch.randn(4, 2, generator=same, dtype=torch.float64).numpy()
        w = w - 0.5 * step * case.gradient(w) + step**0.5 * xi
        close(state, w)
    assert start.tolist() == np.random.default_rng(0).normal(size=(4, 2)).tolist()


@pytest.mark.parametrize("batch", [1, 3, 4])
def test_sgld_with_batches_by_hand(batch):
    case, step, w = Logistic(1), 0.2, np.random.default_rng(1).normal(size=(3, 2))
    states = sgld(
        case.gibbs, torch.tensor(w), step=step, draws=4, generator=generator(3), batch=batch
    )
    same, seen = generator(3), set()
    for state in states:
        order = torch.rand(3, 5, generator=same).numpy().argsort(axis=1)[:, :batch]
        xi = torch.randn(3, 2, generator=same, dtype=torch.float64).numpy()
        slope = [
            5 / batch * case.slopes(v)[rows].sum(axis=0) + case.held(v)
            for v, rows in zip(w, order, strict=True)
        ]
        w = w - 0.5 * step * np.array(slope) + step**0.5 * xi
        close(state, w)
        seen |= {tuple(sorted(rows)) for rows in order}
    assert len(seen) > 2


def test_every_batch_is_one_that_can_be_drawn():
    """At a step so large that the noise cannot be seen, each chain's move names its batch."""
    case, step, w = Logistic(2), 1e12, np.array([0.3, -0.2])
    (state,) = sgld(
        case.gibbs,
        torch.tensor(w).repeat(3000, 1),
        step=step,
        draws=1,
        generator=generator(1),
        batch=2,
    )
    found = -2 / step * (state.numpy() - w)
    each = case.slopes(w)
    batches = [5 / 2 * (each[i] + each[j]) for i, j in itertools.combinations(range(5), 2)]
    far = np.abs(found[:, None] - (np.array(batches) + case.held(w))).max(axis=2)
    assert far.min(axis=1).max() < 1e-4
    counts = np.bincount(far.argmin(axis=1), minlength=10)
    assert ((counts - 300) ** 2 / 300).sum() < 30  # χ² with 9 degrees of freedom


@pytest.mark.parametrize("batch", [1, 2, 4])
def test_mini_batch_moves_have_the_right_mean_and_covariance(batch):
    case, step, w = Logistic(3), 1.5, np.array([0.4, -0.7])
    (state,) = sgld(
        case.gibbs,
        torch.tensor(w).repeat(40_000, 1),
        step=step,
        draws=1,
        generator=generator(5),
        batch=batch,
    )
    each = case.slopes(w)
    sums = np.array(
        [5 / batch * each[list(b)].sum(0) for b in itertools.combinations(range(5), batch)]
    )
    mean = w - 0.5 * step * case.gradient(w[None])[0]
    noise = np.cov(sums.T, ddof=0)
    away = state.numpy()[:, None] - mean
    assert z_scores(away, 0).max() < 4.5
    products = away[..., :, None] * away[..., None, :]
    assert z_scores(products, step * np.eye(2) + 0.25 * step**2 * noise).max() < 4.5
    close(minibatch_noise(torch.tensor(each), batch), noise, 1e-9)


def test_mala_by_hand():
    case, step = Logistic(4), 0.7
    w = np.random.default_rng(4).normal(size=(6, 2))
    states = mala(case.gibbs, torch.tensor(w), step=step, draws=12, generator=generator(2))
    same, taken = generator(2), []
    root = step**0.5

    def log_density(to, of):
        """log q(to | of), by scipy."""
        return norm.logpdf(to, of - 0.5 * step * case.gradient(of), root).sum(axis=1)

    for state in states:
        xi = torch.randn(6, 2, generator=same, dtype=torch.float64).numpy()
        uniform = torch.rand(6, generator=same, dtype=torch.float64).numpy()
        new = w - 0.5 * step * case.gradient(w) + root * xi
        forth = -case.energy(w) + log_density(new, w)
        back = -case.energy(new) + log_density(w, new)
        taken.append(uniform < np.exp(back - forth))
        w = np.where(taken[-1][:, None], new, w)
        close(state, w)
    assert 0.2 < np.mean(taken) < 0.8


# --- which states are kept, and what is repeatable ----------------------------------------------


SOME = Logistic(6)
W0 = torch.tensor(np.random.default_rng(6).normal(size=(3, 2)))


def run(sampler, seed=0, **options):
    options = {"step": 0.3, "draws": 6, **options}
    return collect(sampler(SOME.gibbs, W0, generator=generator(seed), **options))


@BOTH
@pytest.mark.parametrize("burn_in, thin", [(0, 1), (4, 1), (0, 3), (5, 2)])
def test_burn_in_and_thinning_keep_the_right_states(sampler, burn_in, thin):
    every = run(sampler, draws=burn_in + 6 * thin)
    kept = run(sampler, burn_in=burn_in, thin=thin)
    assert kept.shape == (3, 6, 2)
    assert torch.equal(kept, every[:, burn_in + thin - 1 :: thin])


@BOTH
def test_a_seed_fixes_the_draws(sampler):
    before = torch.get_rng_state()
    assert torch.equal(run(sampler, 1), run(sampler, 1))
    assert not torch.equal(run(sampler, 1), run(sampler, 2))
    assert torch.equal(torch.get_rng_state(), before)
    assert not torch.equal(run(sampler)[0], run(sampler)[1])


def test_a_seed_fixes_the_batches():
    assert torch.equal(run(sgld, batch=2), run(sgld, batch=2))
    assert not torch.equal(run(sgld, batch=2), run(sgld, batch=3))
    assert torch.equal(run(sgld, batch=5), run(sgld))


@BOTH
def test_states_come_one_at_a_time(sampler):
    states = sampler(SOME.gibbs, W0, step=0.3, draws=10**9, generator=generator())
    first, second = next(states), next(states)
    assert first.shape == (3, 2) and not torch.equal(first, second)
    assert torch.equal(torch.stack([first, second], dim=1), run(sampler, draws=2))
    assert torch.equal(W0, torch.tensor(np.random.default_rng(6).normal(size=(3, 2))))


def test_collect():
    states = [torch.full((4, 2), float(t)) for t in range(3)]
    assert collect(iter(states)).shape == (4, 3, 2)
    assert collect(iter(states))[1, :, 0].tolist() == [0, 1, 2]


@BOTH
def test_the_bar_counts_every_step_and_can_be_turned_off(sampler, monkeypatch):
    made = []

    class Bar:
        def __init__(self, *, total, delay, disable, **_):
            self.total, self.delay, self.disable, self.count = total, delay, disable, 0
            made.append(self)

        def __enter__(self):
            return self

        def __exit__(self, *_):
            pass

        def update(self):
            self.count += 1

    monkeypatch.setattr(sampling, "tqdm", Bar)
    run(sampler, burn_in=4, thin=3)
    run(sampler, progress=False)
    assert [(b.total, b.count, b.disable, b.delay) for b in made] == [
        (22, 22, False, 10),
        (6, 6, True, 10),
    ]


@BOTH
def test_float32(sampler):
    x, y = torch.tensor(SOME.x).float(), torch.tensor(SOME.y).float()
    gibbs = Gibbs(models.logistic(x, y))
    start = torch.zeros(3, 2)
    draws = collect(sampler(gibbs, start, step=0.3, draws=4, generator=generator()))
    assert draws.dtype == torch.float32 and torch.isfinite(draws).all()


@BOTH
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU")
@pytest.mark.parametrize("draws_on", ["cpu", "cuda"])
def test_on_a_gpu(sampler, draws_on):
    x, y = torch.tensor(SOME.x).cuda(), torch.tensor(SOME.y).cuda()
    gibbs = Gibbs(models.logistic(x, y, l2=0.5))
    rng = torch.Generator(draws_on).manual_seed(0)
    options = {"batch": 2} if sampler is sgld else {}
    found = collect(sampler(gibbs, W0.cuda(), step=0.3, draws=4, generator=rng, **options))
    assert found.device.type == "cuda" and torch.isfinite(found).all()
    if draws_on == "cpu":
        same = Gibbs(models.logistic(torch.tensor(SOME.x), torch.tensor(SOME.y), l2=0.5))
        other = sampler(same, W0, step=0.3, draws=4, generator=generator(), **options)
        close(found.cpu(), collect(other), 1e-9)


# --- the stationary distribution of SGLD ---------------------------------------------------------


@pytest.mark.parametrize("reach", [0.4, 1.6, 3.0])
def test_stationary_variance_at_a_finite_step(reach):
    """1 / (h (1 − ηh/4)) on a quadratic of curvature h = κn; `reach` is ηh."""
    z = np.array([[0.3], [1.1], [-0.4], [0.9]])
    h, mean = 1.7 * 4, z.mean()
    states = sgld(
        Gibbs(models.location(torch.tensor(z)), 1.7),
        torch.full((1500, 1), mean, dtype=torch.float64),
        step=reach / h,
        draws=150,
        burn_in=40,
        generator=generator(8),
    )
    away = collect(states).numpy()[..., 0] - mean
    variance = 1 / (h * (1 - reach / 4))
    assert z_scores(away, 0) < 4.5
    assert z_scores(away**2, variance) < 4.5
    assert z_scores(away**2, 1 / h) > 8
    close(sgld_covariance(torch.tensor([[h]], dtype=torch.float64), reach / h), [[variance]])


def steady(h, step, noise):
    """The fixed point of V = KVK + ηI + ¼η²S, by a Kronecker product."""
    p = len(h)
    kept = np.eye(p) - 0.5 * step * h
    added = step * np.eye(p) + 0.25 * step**2 * noise
    return np.linalg.solve(np.eye(p * p) - np.kron(kept, kept), added.ravel()).reshape(p, p)


def test_stationary_covariance_of_a_regression():
    rng = np.random.default_rng(9)
    x, y = rng.normal(size=(5, 2)) + 0.4, rng.normal(size=5)
    kappa, rho, gamma, centre = 1.4, 0.3, 0.6, np.array([0.5, -1.0])
    h = kappa * x.T @ x + (rho + gamma) * np.eye(2)
    mean = np.linalg.solve(h, kappa * x.T @ y + gamma * centre)
    step = 2.2 / np.linalg.eigvalsh(h).max()
    objective = models.linear(torch.tensor(x), torch.tensor(y), l2=rho)
    states = sgld(
        Gibbs(objective, kappa, gamma, torch.tensor(centre)),
        torch.tensor(mean).repeat(1500, 1),
        step=step,
        draws=150,
        burn_in=60,
        generator=generator(9),
    )
    away = collect(states).numpy() - mean
    products = away[..., :, None] * away[..., None, :]
    want = steady(h, step, np.zeros((2, 2)))
    assert z_scores(away, 0).max() < 4.5
    assert z_scores(products, want).max() < 4.5
    assert z_scores(products, np.linalg.inv(h)).max() > 8
    close(sgld_covariance(torch.tensor(h), step), want)


@pytest.mark.parametrize("batch", [1, 2, 4])
def test_stationary_covariance_with_batches(batch):
    """Where all gradients differ by a constant, the noise of a batch is the same everywhere."""
    z = np.random.default_rng(10).normal(size=(5, 2)) * [1, 2] + 0.5
    z[:, 1] += z[:, 0]
    kappa, step, mean = 0.8, 0.25, z.mean(axis=0)
    sums = [5 / batch * kappa * -z[list(b)].sum(0) for b in itertools.combinations(range(5), batch)]
    noise = np.cov(np.array(sums).T, ddof=0)
    states = sgld(
        Gibbs(models.location(torch.tensor(z)), kappa),
        torch.tensor(mean).repeat(1500, 1),
        step=step,
        draws=150,
        burn_in=30,
        generator=generator(10),
        batch=batch,
    )
    away = collect(states).numpy() - mean
    products = away[..., :, None] * away[..., None, :]
    want = steady(kappa * 5 * np.eye(2), step, noise)
    assert z_scores(away, 0).max() < 4.5
    assert z_scores(products, want).max() < 4.5
    assert z_scores(products, steady(kappa * 5 * np.eye(2), step, 0 * noise)).max() > 8
    slopes = torch.tensor(kappa * (mean - z))
    close(minibatch_noise(slopes, batch), noise)
    curvature = torch.tensor(kappa * 5 * np.eye(2))
    close(sgld_covariance(curvature, step, minibatch_noise(slopes, batch)), want)


@few
@given(seeds, st.integers(1, 4), st.floats(0.01, 3.9))
def test_sgld_covariance_solves_its_equation(seed, p, reach):
    rng = np.random.default_rng(seed)
    root, other = rng.normal(size=(2, p, p + 1))
    h, noise = root @ root.T + 0.1 * np.eye(p), other @ other.T
    step = reach / np.linalg.eigvalsh(h).max()
    kept = np.eye(p) - 0.5 * step * h
    for s in (noise, 0 * noise):
        found = sgld_covariance(torch.tensor(h), step, torch.tensor(s))
        close(found, steady(h, step, s), 1e-7)
        added = step * np.eye(p) + 0.25 * step**2 * s
        close(found, solve_discrete_lyapunov(kept, added), 1e-7)
    close(found, sgld_covariance(torch.tensor(h), step))
    close(sgld_covariance(torch.tensor(h), 1e-9), np.linalg.inv(h), 1e-6)


def test_the_curvature_must_be_symmetric():
    with pytest.raises(ValueError, match=r"^curvature: "):
        sgld_covariance(torch.tensor([[2.0, 0.5], [0.0, 1.0]]), 0.1)


@few
@given(seeds, st.integers(2, 7), st.integers(1, 7))
def test_minibatch_noise_by_all_batches(seed, n, batch):
    batch = min(batch, n)
    slopes = np.random.default_rng(seed).normal(size=(n, 3)) + 1
    sums = [n / batch * slopes[list(b)].sum(0) for b in itertools.combinations(range(n), batch)]
    away = np.array(sums) - slopes.sum(axis=0)
    found = minibatch_noise(torch.tensor(slopes), batch).numpy()
    np.testing.assert_allclose(found, away.T @ away / len(away), rtol=1e-10, atol=1e-12)


# --- the stationary distribution of MALA ---------------------------------------------------------


class Leaning:
    """A posterior of one parameter with a long left tail, its moments by scipy, exact draws."""

    x = np.array([0.5, 1.2, 2.0, 0.9])
    kappa, rho = 1.5, 0.25

    def __init__(self):
        objective = models.logistic(
            torch.tensor(self.x)[:, None], -torch.ones(4).double(), l2=self.rho
        )
        self.gibbs = Gibbs(objective, self.kappa)
        self.mass = self.integral(lambda w: 1.0)

    def density(self, w):
        losses = np.logaddexp(0, np.multiply.outer(w, self.x)).sum(axis=-1)
        return np.exp(-self.kappa * losses - 0.5 * self.rho * w**2)

    def integral(self, f):
        return quad(lambda w: f(w) * self.density(w), -16, 8, epsabs=0, epsrel=1e-11, limit=200)[0]

    def mean(self, f):
        return self.integral(f) / self.mass

    def draws(self, rng, m):
        """By inverting the distribution function."""
        grid = np.linspace(-16, 8, 40_001)
        density = self.density(grid)
        mass = np.cumsum(np.append(0, (density[1:] + density[:-1]) / 2))
        return np.interp(rng.uniform(size=m), mass / mass[-1], grid)


LEANING = Leaning()
MOMENTS = [lambda w: w, lambda w: w**2, lambda w: w**3, np.sin, lambda w: (w > 0) * 1.0]
LARGE = 10 / (1.5 * (Leaning.x**2).sum() / 4 + 0.25)  # in units of the largest curvature


def leaning_start(seed, chains):
    return torch.tensor(LEANING.draws(np.random.default_rng(seed), chains))[:, None]


def worst(draws):
    w = draws.numpy()[..., 0]
    return max(z_scores(f(w), LEANING.mean(f)) for f in MOMENTS)


def test_the_posterior_is_skewed():
    mean, square, cube = map(LEANING.mean, MOMENTS[:3])
    variance = square - mean**2
    assert (cube - 3 * mean * square + 2 * mean**3) / variance**1.5 < -0.4
    assert worst(leaning_start(1, 40_000)[:, None]) < 4.5


def test_mala_leaves_the_posterior_invariant_where_sgld_does_not():
    options = {"step": LARGE, "draws": 60, "burn_in": 20}
    start = leaning_start(0, 1500)
    exact = collect(mala(LEANING.gibbs, start, generator=generator(0), **options))
    biased = collect(sgld(LEANING.gibbs, start, generator=generator(0), **options))
    assert worst(exact) < 4.5 and worst(biased) > 8
    assert 0.3 < sampling.acceptance(exact) < 0.9


def test_mala_forgets_where_it_began():
    far = torch.full((1500, 1), 4.0).double()
    states = mala(LEANING.gibbs, far, step=LARGE, draws=60, burn_in=80, generator=generator(1))
    assert worst(collect(states)) < 4.5


def test_mala_is_in_detailed_balance():
    """From exact draws, a step and its reverse are equally likely: E[f(w)g(w')] = E[g(w)f(w')]."""
    start = leaning_start(2, 60_000)
    (state,) = mala(LEANING.gibbs, start, step=1.5 * LARGE, draws=1, generator=generator(2))
    a, b = start.numpy(), state.numpy()
    assert 0.2 < (a != b).mean() < 0.95
    for f, g in itertools.combinations(MOMENTS, 2):
        assert z_scores(f(a) * g(b) - g(a) * f(b), 0) < 4.5
    (state,) = sgld(LEANING.gibbs, start, step=1.5 * LARGE, draws=1, generator=generator(2))
    b = state.numpy()
    f, g = MOMENTS[:2]
    assert z_scores(f(a) * g(b) - g(a) * f(b), 0) > 8


# --- divergence ----------------------------------------------------------------------------------


QUARTIC = Gibbs(
    Objective(
        lambda w, x: w * x,
        lambda f, y: 0.25 * (f**4).sum(),
        torch.ones(2, dtype=torch.float64),
        torch.ones(2, dtype=torch.float64),
    )
)
FAR = torch.tensor([[0.1], [3.0]]).double()


def test_sgld_diverges_with_a_message():
    states = sgld(QUARTIC, FAR, step=1.0, draws=100, generator=generator())
    with pytest.raises(ValueError, match=r"^step: SGLD diverged at step \d+; take a smaller one"):
        for state in states:
            assert torch.isfinite(state).all()
    # Also when it happens before the first state is kept, and after so many steps as it says.
    with pytest.raises(ValueError, match=r"^step: SGLD diverged at step (\d+)") as caught:
        list(sgld(QUARTIC, FAR, step=1.0, draws=1, burn_in=99, generator=generator()))
    told = int(str(caught.value).split("at step ")[1].split(";")[0])
    assert len(run_until(QUARTIC, told - 1)) == told - 1
    with pytest.raises(ValueError, match="diverged"):
        run_until(QUARTIC, told)


def run_until(gibbs, draws):
    return list(sgld(gibbs, FAR, step=1.0, draws=draws, generator=generator()))


def test_sgld_beyond_its_stable_step():
    model = Gibbs(models.location(torch.tensor([[1.0], [2.0]]).double()), 3.0)
    start = torch.zeros(2, 1).double()
    with pytest.raises(ValueError, match=r"^step: SGLD diverged"):
        list(sgld(model, start, step=8 / 6, draws=2000, generator=generator()))
    with pytest.raises(ValueError, match=r"^step: expected less than 4/λ_max = 0.667, got 0.7"):
        sgld_covariance(torch.tensor([[6.0]]), 4.2 / 6)
    states = collect(sgld(model, start, step=3.5 / 6, draws=300, generator=generator()))
    assert states.abs().max() < 20


def test_mala_does_not_diverge_where_sgld_does():
    draws = collect(mala(QUARTIC, FAR, step=1.0, draws=300, generator=generator()))
    assert torch.isfinite(draws).all() and draws[:, -1].abs().max() <= 3
    # From 3 the first proposals land near −24 and are refused.
    assert (draws[1, :3] == 3).all()


def test_mala_refuses_an_energy_that_overflows():
    # Its own energy is finite, that of a proposal is not.
    far = torch.tensor([[1e60]], dtype=torch.float64)
    draws = collect(mala(QUARTIC, far, step=1.0, draws=4, generator=generator()))
    assert (draws == 1e60).all()


def test_mala_with_a_slope_that_overflows():
    states = mala(QUARTIC, 1e110 * FAR, step=1.0, draws=4, generator=generator())
    with pytest.raises(ValueError, match=r"^step: MALA diverged at step 1; take a smaller one"):
        next(states)


# --- whether to trust a run ----------------------------------------------------------------------


def autoregressive(seed, rho, chains=8, length=4000):
    rng = np.random.default_rng(seed)
    x = np.empty((chains, length))
    x[:, 0] = rng.normal(size=chains)
    for t in range(1, length):
        x[:, t] = rho * x[:, t - 1] + (1 - rho**2) ** 0.5 * rng.normal(size=chains)
    return x


def split_rhat(x):
    """Vehtari et al. (2021): the larger of two rank-normalised split R̂."""
    half = x.shape[1] // 2
    halves = np.concatenate([x[:, :half], x[:, -half:]])

    def plain(v):
        z = norm.ppf((rankdata(v).reshape(v.shape) - 0.375) / (v.size + 0.25))
        within = z.var(axis=1, ddof=1).mean()
        between = half * z.mean(axis=1).var(ddof=1)
        return np.sqrt(((half - 1) / half * within + between / half) / within)

    return max(plain(halves), plain(np.abs(halves - np.median(halves))))


def test_rhat_by_its_formula():
    rng = np.random.default_rng(0)
    together = rng.normal(size=(4, 200))
    apart = together + np.arange(4)[:, None]
    unequal = together * np.array([1, 1, 1, 6])[:, None]
    drifting = together + np.linspace(0, 3, 200)
    traces = torch.tensor(np.stack([together, apart, unequal, drifting], axis=2))
    found = sampling.diagnostics(traces)
    assert found.rhat.shape == found.ess.shape == (4,)
    close(found.rhat, [split_rhat(x) for x in (together, apart, unequal, drifting)], 1e-6)
    assert found.rhat[0] < 1.01 and (found.rhat[1:] > 1.1).all()
    assert found.ess[0] > 600 and found.ess[1] < 20


@pytest.mark.parametrize("rho", [0.0, 0.5, 0.9, -0.4])
def test_effective_sample_size_of_an_autoregression(rho):
    x = autoregressive(1, rho)
    found = sampling.diagnostics(torch.tensor(x))
    assert found.rhat.shape == found.ess.shape == (1,)
    want = x.size * (1 - rho) / (1 + rho)
    assert found.ess.item() == pytest.approx(want, rel=0.15)
    assert found.rhat.item() < 1.01
    assert found.ess.dtype == found.rhat.dtype == torch.float64


def test_effective_sample_size_knows_ranks_only():
    x = torch.tensor(autoregressive(3, 0.6, 4, 300))
    ess = [sampling.diagnostics(v).ess.item() for v in (x, torch.exp(4 * x), x**3)]
    assert ess[1:] == pytest.approx([ess[0]] * 2, rel=1e-9)


def test_diagnostics_of_a_run_with_gradients_and_float32():
    x = torch.tensor(autoregressive(2, 0.3, 3, 50)).float().requires_grad_()
    close(sampling.diagnostics(x).rhat, [split_rhat(x.detach().numpy())], 1e-6)


def test_diagnostics_of_the_fewest_draws():
    found = sampling.diagnostics(torch.tensor(np.random.default_rng(0).normal(size=(2, 4))))
    assert torch.isfinite(found.rhat).all() and torch.isfinite(found.ess).all()


def test_chains_that_never_left_their_starts():
    stuck = collect(mala(SOME.gibbs, W0, step=1e4, draws=50, generator=generator()))
    with pytest.raises(ValueError, match=r"^traces: "):
        sampling.diagnostics(stuck)


def test_acceptance_by_hand():
    moves = np.array([[0, 1, 1, 2, 2, 2], [5, 5, 6, 6, 7, 8]])
    draws = torch.tensor(np.stack([np.zeros_like(moves), moves], axis=2)).double()
    assert sampling.acceptance(draws) == pytest.approx(5 / 10)
    assert isinstance(sampling.acceptance(draws), float)
    assert sampling.acceptance(draws[:, 2:4]) == pytest.approx(1 / 2)
    small = collect(mala(SOME.gibbs, W0, step=1e-4, draws=50, generator=generator()))
    assert sampling.acceptance(small) == 1
    stuck = collect(mala(SOME.gibbs, W0, step=1e4, draws=50, generator=generator()))
    assert sampling.acceptance(stuck) == 0


# --- bad input -----------------------------------------------------------------------------------


def call(sampler, gibbs=SOME.gibbs, w0=W0, **options):
    """Nothing is drawn: bad arguments are told at once."""
    return sampler(gibbs, w0, **{"step": 0.1, "draws": 2, "generator": generator(), **options})


@BOTH
@pytest.mark.parametrize(
    "name, options",
    [
        ("step", {"step": 0.0}),
        ("step", {"step": -0.1}),
        ("step", {"step": NAN}),
        ("step", {"step": INF}),
        ("w0", {"w0": W0[0]}),
        ("w0", {"w0": W0 * NAN}),
        ("w0", {"w0": W0.long()}),
        ("draws", {"draws": 0}),
        ("draws", {"draws": 2.5}),
        ("burn_in", {"burn_in": -1}),
        ("burn_in", {"burn_in": 0.5}),
        ("thin", {"thin": 0}),
        ("generator", {"generator": 0}),
        ("generator", {"generator": None}),
    ],
)
def test_bad_arguments_are_named_at_once(sampler, name, options):
    with pytest.raises(ValueError, match=rf"^{name}: "):
        call(sampler, **options)


H, SLOPES = torch.tensor([[2.0, 0.3], [0.3, 1.0]]).double(), torch.ones(4, 2).double()
TRACES = torch.tensor(np.random.default_rng(0).uniform(size=(3, 9, 2)))
STILL = TRACES.clone()
STILL[:, :, 1] = 0.4


@pytest.mark.parametrize(
    "name, bad",
    [
        ("batch", lambda: call(sgld, batch=0)),
        ("batch", lambda: call(sgld, batch=6)),
        ("batch", lambda: call(sgld, batch=2.0)),
        ("w", lambda: next(call(sgld, w0=W0[:, :1]))),
        ("w", lambda: next(call(mala, w0=W0.float()))),
        ("w", lambda: next(call(sgld, w0=W0[:, :1], batch=2))),
        ("curvature", lambda: sgld_covariance(H[0], 0.1)),
        ("curvature", lambda: sgld_covariance(H * NAN, 0.1)),
        ("curvature", lambda: sgld_covariance(-H, 0.1)),
        ("curvature", lambda: sgld_covariance(torch.zeros(2, 2), 0.1)),
        ("curvature", lambda: sgld_covariance(torch.diag(torch.tensor([2.0, -1.0])), 0.1)),
        ("step", lambda: sgld_covariance(H, 0.0)),
        ("step", lambda: sgld_covariance(torch.eye(2), 4.0)),
        ("step", lambda: sgld_covariance(H, 3.0)),  # between 4/λ_max and 4/λ_min
        ("step", lambda: sgld_covariance(H, NAN)),
        ("gradient_noise", lambda: sgld_covariance(H, 0.1, H[:1])),
        ("gradient_noise", lambda: sgld_covariance(H, 0.1, H * INF)),
        ("slopes", lambda: minibatch_noise(SLOPES[0], 1)),
        ("slopes", lambda: minibatch_noise(SLOPES * NAN, 1)),
        ("slopes", lambda: minibatch_noise(SLOPES[:1], 1)),
        ("batch", lambda: minibatch_noise(SLOPES, 0)),
        ("batch", lambda: minibatch_noise(SLOPES, 5)),
        ("traces", lambda: sampling.diagnostics(TRACES[0, 0])),
        ("traces", lambda: sampling.diagnostics(TRACES[None])),
        ("traces", lambda: sampling.diagnostics(TRACES * NAN)),
        ("traces", lambda: sampling.diagnostics(TRACES[:1])),
        ("traces", lambda: sampling.diagnostics(TRACES[:, :3])),
        ("traces", lambda: sampling.diagnostics(STILL)),
        ("draws", lambda: sampling.acceptance(TRACES[0])),
        ("draws", lambda: sampling.acceptance(TRACES[:, :1])),
        ("draws", lambda: sampling.acceptance(TRACES * NAN)),
    ],
)
def test_bad_input_is_named(name, bad):
    with pytest.raises(ValueError, match=rf"^{name}: "):
        bad()
