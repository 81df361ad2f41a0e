"""The exercises on the covariance and on its power series: formulas against quadrature, truths
against the library, and the small experiments behind the predictions."""

from pathlib import Path

import nbformat
import numpy as np
import pytest
import torch
from graded import agrees
from numpy.polynomial import Polynomial

from lib import checks
from lib.bayesian import Gibbs, bif, covariance, losses_at, reweighted_mean
from lib.checks import power_series
from lib.exact_posteriors import conjugate_influence, quadrature
from lib.expansion import LEADING, SECOND_ORDER, expansion
from lib.models import linear, logistic
from lib.objective import loss_on

# Raised once, inside torch, when forward-mode derivatives are first used.
pytestmark = pytest.mark.filterwarnings("ignore:.torch.jit.script. is deprecated")

ROOT = Path(__file__).resolve().parent.parent
BIF, SERIES = checks.parts("bif_covariance"), checks.parts("power_series")


def cases(part, draws=5):
    rng = np.random.default_rng(0)
    return [part.cases(rng) for _ in range(draws)]


def close(left, right, rtol):
    left, right = np.asarray(left), np.asarray(right)
    assert left.shape == right.shape
    assert np.abs(left - right).max() <= rtol * np.abs(right).max()


# --- formulas against numbers that know no formula -----------------------------------------------


def slope_of_mean(phi, energy, loss, step=1e-4):
    """∂E[φ]/∂β of one example, by differences of means under the density on a grid."""
    w = np.linspace(-12, 12, 4001)

    def mean(change):
        logs = -energy(w) - change * loss(w)
        p = np.exp(logs - logs.max())
        return phi(w) @ p / p.sum()

    return (mean(step) - mean(-step)) / (2 * step)


@pytest.mark.parametrize("index", [0, 2, 3])
def test_bif_on_w(index):
    data, kappa, rho = np.array([1.5, -2.0, 3.25, 0.5]), 0.7, 1.4
    number = slope_of_mean(
        lambda w: w,
        lambda w: kappa * 0.5 * ((w[:, None] - data) ** 2).sum(axis=1) + 0.5 * rho * w**2,
        lambda w: kappa * 0.5 * (w - data[index]) ** 2,
    )
    point = {"kappa": kappa, "n": 4, "rho": rho, "s": data.sum(), "z": data[index]}
    agrees(BIF["part_c"], point, number)


@pytest.mark.parametrize(("mu", "z"), [(0.75, -1.5), (-1.25, 2.0), (0.0, 1.0)])
def test_bif_on_the_square(mu, z):
    kappa, v = 1.6, 0.8
    number = slope_of_mean(
        lambda w: w**2,
        lambda w: (w - mu) ** 2 / (2 * v),
        lambda w: kappa * 0.5 * (w - z) ** 2,
    )
    agrees(BIF["part_d"], {"kappa": kappa, "mu": mu, "v": v, "z": z}, number)


POINT = dict(f1=0.75, f2=-1.25, f3=2.0, g1=-1.5, g2=0.5, g3=1.75, h=1.2, l3=0.8, l4=2.5, kappa=0.7)


def second_order(f, g, cubic=0.0, quartic=0.0):
    """The coefficient of n⁻² in −κ Cov(f, g), f and g functions of δ, for an energy that is κn
    times ½hδ² + cubic δ³/6 + quartic δ⁴/24: covariances on a grid at many n, a fit in 1/n."""
    h, kappa = POINT["h"], POINT["kappa"]

    def scaled(n):
        delta = np.linspace(-12, 12, 3001) / np.sqrt(kappa * n * h)
        total = n * (h * delta**2 / 2 + cubic * delta**3 / 6 + quartic * delta**4 / 24)
        p = np.exp(-kappa * total)
        p /= p.sum()
        return -kappa * n * (p * (f(delta) - p @ f(delta))) @ g(delta)

    u = 0.0028 * (1 - np.cos(np.pi * (np.arange(9) + 0.5) / 9))
    return Polynomial.fit(u, [scaled(1 / v) for v in u], 8).convert().coef[1]


def polynomial(*derivatives):
    a, b, c = (*derivatives, 0.0, 0.0)[:3]
    return lambda d: a * d + b * d**2 / 2 + c * d**3 / 6


def test_gaussian_terms():
    f = polynomial(POINT["f1"], POINT["f2"], POINT["f3"])
    g = polynomial(POINT["g1"], POINT["g2"], POINT["g3"])
    agrees(SERIES["part_f"], POINT, second_order(f, g))


def test_slope_and_curvature_terms():
    odd = second_order(
        polynomial(POINT["f1"]), polynomial(0.0, POINT["g2"]), POINT["l3"], POINT["l4"]
    ) + second_order(
        polynomial(0.0, POINT["f2"]), polynomial(POINT["g1"]), POINT["l3"], POINT["l4"]
    )
    agrees(SERIES["part_g"], POINT, odd, rel=1e-5)


def test_slope_terms():
    both = second_order(polynomial(POINT["f1"]), polynomial(POINT["g1"]), POINT["l3"], POINT["l4"])
    agrees(SERIES["part_h"], POINT, both, rel=1e-5)


def test_the_three_are_all_there_is():
    f = polynomial(POINT["f1"], POINT["f2"], POINT["f3"])
    g = polynomial(POINT["g1"], POINT["g2"], POINT["g3"])
    by_name = {
        s: POINT[s.name] for part in "fgh" for s in SERIES[f"part_{part}"].truth.free_symbols
    }
    total = sum(SERIES[f"part_{part}"].truth for part in "fgh").subs(by_name)
    assert float(total) == pytest.approx(second_order(f, g, POINT["l3"], POINT["l4"]), rel=1e-5)


# --- truths against the library, which takes another route ---------------------------------------


def test_covariances_on_points():
    for losses, phi, weights, kappa in cases(BIF["part_b"]):
        close(
            BIF["part_b"].truth(losses, phi, weights, kappa), bif(losses, phi, kappa, weights), 1e-7
        )
        left_out = [
            reweighted_mean(phi, column, 1.0, kappa, weights) - weights @ phi for column in losses.T
        ]
        close(BIF["part_g"].truth(losses, phi, weights, kappa), left_out, 1e-9)


def test_conjugate_regression():
    for x, y, sigma, tau in cases(BIF["part_e"]):
        gibbs = Gibbs(linear(x, y, l2=1 / tau**2), 1 / sigma**2)
        close(BIF["part_e"].truth(x, y, sigma, tau), conjugate_influence(gibbs), 1e-6)


def test_loss_at_a_test_point():
    for x, y, sigma, tau, x_t, y_t in cases(SERIES["part_i"], 2):
        gibbs = Gibbs(linear(x, y, l2=1 / tau**2), 1 / sigma**2)
        phi = loss_on(gibbs.objective, x_t[None], torch.tensor([y_t]).double())
        mu = torch.linalg.solve(
            x.T @ x + (sigma / tau) ** 2 * torch.eye(len(x_t)).double(), x.T @ y
        )
        whole = sum(expansion(gibbs, mu, phi).values())
        close(SERIES["part_i"].truth(x, y, sigma, tau, x_t, y_t), whole, 1e-6)


def test_gaussian_moments_from_draws():
    """Both truths within four standard errors of what a million draws give."""
    generator = torch.Generator().manual_seed(0)

    def draws(sigma):
        noise = torch.randn(1_000_000, len(sigma), generator=generator, dtype=torch.float64)
        return noise @ torch.linalg.cholesky(sigma).T

    def near(truth, values):
        error = values.std() / len(values) ** 0.5
        assert abs(float(truth) - values.mean()) < 4 * error < 0.2 * abs(float(truth))

    sigma, *vectors = cases(SERIES["part_d"], 1)[0]
    delta = draws(sigma)
    near(
        SERIES["part_d"].truth(sigma, *vectors),
        torch.stack([delta @ v for v in vectors]).prod(dim=0),
    )
    sigma, f2, g2 = cases(SERIES["part_e"], 1)[0]
    delta = draws(sigma)
    f, g = (0.5 * torch.einsum("ma,ab,mb->m", delta, m, delta) for m in (f2, g2))
    near(SERIES["part_e"].truth(sigma, f2, g2), (f - f.mean()) * (g - g.mean()))


# --- predictions ---------------------------------------------------------------------------------


def test_four_times_the_variances():
    for x, y, sigma, tau in cases(BIF["part_e"]):
        truth = BIF["part_e"].truth
        close(truth(x, y, 2 * sigma, 2 * tau), truth(x, y, sigma, tau), 1e-6)
    assert BIF["part_f"].truth() == "unchanged"


def five(copies=1):
    """The five examples of the predictions, each repeated."""
    x, y = torch.from_numpy(power_series.FIVE_X), torch.from_numpy(power_series.FIVE_Y)
    return logistic(x.repeat(copies)[:, None], y.repeat(copies))


def test_the_notebook_shows_the_same_five():
    cells = nbformat.read(ROOT / "solutions" / "03_power_series.ipynb", as_version=4).cells
    source = next(c.source for c in cells if c.source.startswith("x = torch.tensor"))
    shown = {"torch": torch}
    exec(source, shown)
    data = five()
    close(shown["x"], data.x[:, 0], 1e-7)  # written in single precision there
    close(shown["y"], data.y, 1e-7)


def test_odd_term_has_the_size_of_its_formula():
    """n² Cov(δ, ½δ²) tends to −ℓ₃/h³, both of the data taken once."""
    w = power_series.five_minimum()
    u = 1 / (1 + np.exp(power_series.FIVE_Y * power_series.FIVE_X * w))
    a = -power_series.FIVE_Y * power_series.FIVE_X
    assert abs((a * u).sum()) < 1e-12, "not a minimum"
    h, l3 = (a**2 * u * (1 - u)).sum(), (a**3 * u * (1 - u) * (1 - 2 * u)).sum()
    copies = 4000.0  # as an inverse temperature: the posterior of that many copies
    nodes, p = quadrature(Gibbs(five(), copies), (w - 0.3,), (w + 0.3,), 4001)
    delta = nodes[:, 0] - w
    assert copies**2 * covariance(delta, delta**2 / 2, p) == pytest.approx(-l3 / h**3, rel=0.01)
    assert SERIES["part_b"].truth() == "n^-2"


@pytest.mark.parametrize("copies", [1, 10, 100])
def test_one_term_more_makes_it_worse(copies):
    gibbs, test_point = Gibbs(five(copies)), torch.ones(1, 1).double()
    w = torch.tensor([power_series.five_minimum()], dtype=torch.float64)
    half = 30 / copies**0.5
    nodes, p = quadrature(gibbs, (w.item() - half,), (w.item() + 2 * half,), 6001)
    phi = losses_at(logistic(test_point, test_point[0]), nodes)[:, 0]
    exact = bif(losses_at(five(), nodes), phi, weights=p)
    on_test = loss_on(gibbs.objective, test_point, test_point[0])
    terms = {name: term[:5] for name, term in expansion(gibbs, w, on_test).items()}
    # the numbers of the last hint: three of the wrong sign, two more than twice too large
    ratios = terms["(2,2)"] / sum(terms[name] for name in SECOND_ORDER)
    assert abs(ratios / torch.tensor([-1.4, -1.5, 26, -2.6, 2.2]) - 1).max() < 0.03
    gap = exact - terms[LEADING]
    assert (abs(gap - terms["(2,2)"]) > 1.2 * abs(gap)).all()
    if copies == 100:
        assert (abs(exact - sum(terms.values())) < 0.1 * abs(gap)).all()
    assert power_series.one_term_more(copies) == SERIES["part_j"].truth() == "further"
