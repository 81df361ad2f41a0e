"""The exercises on runs and on groups: formulas and references against numbers that know no formula
and against the library, and the experiments behind the predictions."""

import itertools
from functools import partial

import numpy as np
import pytest
import scipy.optimize
import scipy.stats
import sympy as sp
import torch
from graded import agrees
from torch.func import vmap
from variants_distributional_entangled import DISTRIBUTIONAL, ENTANGLED

from lib import checks
from lib.checks import distributional as runs_bank
from lib.checks import entangled as groups_bank
from lib.checks.engine import Formula, Function
from lib.counterfactuals import fit, shapley, without_one
from lib.distributional import over_seeds, unrolled_over_seeds
from lib.evaluation import Recipe
from lib.groups import by_mode, group_update, interactions, second_influence
from lib.influence import direct, hessian, influence
from lib.linear_regression import leverage, residuals
from lib.models import linear, with_intercept
from lib.objective import Objective
from lib.random_problems import logistic_problem, network_problem, normal, regression, stretched
from lib.training import constant
from lib.unrolling import reverse_mode

RUNS, GROUPS = checks.parts("distributional"), checks.parts("entangled")

# Raised once, inside torch, when forward-mode derivatives are first used.
pytestmark = pytest.mark.filterwarnings("ignore:.torch.jit.script. is deprecated")


@pytest.fixture(autouse=True)
def progress_file(tmp_path, monkeypatch):
    monkeypatch.setenv("ATTRIBUTION_PROGRESS", str(tmp_path / "progress.json"))


def _close(a, b, rel=1e-6):
    np.testing.assert_allclose(np.asarray(a), np.asarray(b), rtol=rel, atol=1e-10)


def _formulas(part):
    return {m.name: m.formula for m in part.mistakes}


def _cases(part, seeds=40):
    rng = np.random.default_rng(1)
    return [part.cases(rng) for _ in range(seeds)]


def _orthonormal(rng, n, many):
    """Columns of mean zero and variance one (over n − 1) that are not correlated."""
    columns = np.column_stack([np.ones(n), rng.standard_normal((n, many))])
    return np.linalg.qr(columns)[0][:, 1:] * np.sqrt(n - 1)


def test_every_variant_is_graded():
    parts = {part.id for part in [*RUNS.values(), *GROUPS.values()]}
    assert {*DISTRIBUTIONAL, *ENTANGLED} == parts
    assert all(len(answers) >= 5 for answers in [*DISTRIBUTIONAL.values(), *ENTANGLED.values()])


@pytest.mark.parametrize("part", [*RUNS.values(), *GROUPS.values()], ids=lambda part: part.id)
def test_a_right_answer_with_one_slip_is_refused(part):
    """Off by a thousandth in its last entry, or in all of a formula: too much to pass."""
    answer = next(iter({**DISTRIBUTIONAL, **ENTANGLED}[part.id].values()))
    assert part(answer, seed=0)
    if isinstance(part, Formula):
        assert part(answer * sp.Rational(1001, 1000), seed=0).diagnosis == "unknown"
    elif isinstance(part, Function):

        def slip(*case):
            value = np.asarray(answer(*case)).copy()
            value[(-1,) * value.ndim] += 1e-3 * np.abs(value).max()
            return value

        assert part(slip, seed=0).diagnosis == "unknown"
    elif isinstance(answer, str):
        assert {part(word).diagnosis for word in part.options} == {*part.wrong, ""}
    else:
        assert part(answer * (1 + 2.2 * part.rtol)).outcome == "wrong"


# --- runs: formulas ------------------------------------------------------------------------------


def test_seeds_needed_give_the_precision(rng):
    """Repeat the comparison with the seeds that the answer names, and look at the spread."""
    before = 4 + 0.8 * rng.standard_normal(1000)
    after = 4.2 + 0.6 * (before - 4) + 0.3 * rng.standard_normal(1000)
    needed = RUNS["part_a"].truth(torch.from_numpy(before), torch.from_numpy(after), 0.15)
    paired, apart = np.rint(needed).astype(int)
    assert paired < apart - 15  # the two must be far enough apart to tell

    def spread(first, second):
        return np.std(after[second].mean(1) - before[first].mean(1))

    one, other = (rng.integers(len(before), size=(6000, apart)) for _ in range(2))
    assert spread(one[:, :paired], one[:, :paired]) == pytest.approx(0.15, rel=0.06)
    assert spread(one, other) == pytest.approx(0.15, rel=0.06)
    assert spread(one, one) < 0.12


def test_what_pairing_saves(rng):
    for rho, k in ((0.7, 0.6), (0.95, 1.1), (-0.4, 2.0)):
        u, v = _orthonormal(rng, 9, 2).T
        before, after = 1.3 * u + 4, 1.3 * k * (rho * u + (1 - rho**2) ** 0.5 * v) + 5
        paired, apart = RUNS["part_a"].truth(*map(torch.from_numpy, (before, after)), 0.1)
        agrees(RUNS["part_b"], {"rho": rho, "k": k}, apart / paired)


def test_the_two_variances_have_no_bias():
    """All outcomes of examples whose noise is ±s_i, in runs of S_i seeds: the estimates' mean."""
    centres, noise, seeds = np.array([0.3, 1.1, -0.4]), np.array([1.0, 0.5, 1.7]), (2, 3, 2)
    who = np.repeat(range(3), seeds)
    wanted = [np.var(centres, ddof=1), np.mean(noise**2)]

    def expected(estimate):
        outcomes = []
        for signs in itertools.product([-1, 1], repeat=sum(seeds)):
            effects = centres[who] + noise[who] * np.array(signs)
            rows = [torch.from_numpy(effects[who == i]) for i in range(3)]
            outcomes.append(np.asarray(estimate(rows)))
        return np.mean(outcomes, axis=0)

    part = RUNS["part_c"]
    _close(expected(part.truth), wanted)
    for name, formula in _formulas(part).items():
        if name != "shares":  # whose sum may be near zero
            assert np.abs(expected(formula) - wanted).max() > 1e-3, name


def test_negative_estimates_are_met():
    part = RUNS["part_c"]
    for seed in range(10):
        rng = np.random.default_rng(seed)
        truths = [part.truth(*part.cases(rng))[0] for _ in range(part.draws)]
        assert min(truths) < 0, "an estimate set to zero would pass"


def test_correlation_with_another_run(rng):
    for b, w, m in ((0.7, 1.9, 3), (2.0, 0.4, 7)):
        u = _orthonormal(rng, 30, m + 2).T
        runs = b**0.5 * u[0] + w**0.5 * u[1:]
        found = np.corrcoef(runs[0], runs[1:].mean(0))[0, 1]
        agrees(RUNS["part_d"], {"B": b, "W": w, "m": m}, found)


# --- runs: references ----------------------------------------------------------------------------


def test_influence_on_features_by_retraining(rng):
    """Move the weights, train all runs again, and look at the feature of the new φ."""
    c = network_problem(rng)
    n = c.objective.n
    batch = next(b for b in (3, 2, 1) if n % b == 0)
    starts = lambda g: torch.randn(len(c.w), generator=g).double()  # noqa: E731
    recipe = Recipe(c.objective, starts, batch, 3, partial(constant, 0.3))
    seeds, along, h = range(7), normal(rng, n), 1e-5
    values, slopes = unrolled_over_seeds(recipe, c.phi, seeds)
    low, high, width = (float(q) for q in (values.min(), values.median(), 0.6 * values.std()))

    def inside(v):
        rise, fall = (scipy.stats.logistic.cdf(v, loc=edge, scale=width) for edge in (low, high))
        return np.mean(rise - fall)

    ends = [over_seeds(recipe, c.phi, seeds, 1 + s * h * along).numpy() for s in (-1, 1)]
    for part, feature, rest in (
        ("part_e", inside, (low, high, width)),
        ("part_f", scipy.stats.skew, ()),
    ):
        moved = (feature(ends[1]) - feature(ends[0])) / (2 * h)
        truth = RUNS[part].truth(values, slopes, *rest)
        assert truth @ along.numpy() == pytest.approx(moved, rel=1e-5)


def test_a_narrow_band_counts_runs_at_its_edges():
    """As h → 0 all the weight is at the edges: what a run well inside does changes nothing."""
    values = torch.tensor([1.0, 2.0, 5.0]).double()
    slopes = torch.eye(3).double()
    at_edges = RUNS["part_e"].truth(values, slopes, 1.0, 5.0, 0.03)
    _close(at_edges, np.array([1, 0, -1]) / (4 * 0.03 * 3), rel=1e-6)


def test_skewness_has_neither_place_nor_scale():
    for values, slopes in _cases(RUNS["part_f"], 5):
        truth = RUNS["part_f"].truth
        both = torch.stack([torch.ones_like(values), values], dim=1)
        _close(truth(values, both), [0, 0])
        _close(truth(3 * values + 2, 3 * slopes), truth(values, slopes))


# --- runs: experiments ---------------------------------------------------------------------------


def test_unrolled_runs_are_those_of_the_library():
    recipe, phi = runs_bank.experiment()
    for seed in (0, 17):
        _close(
            runs_bank.unrolled()[seed], reverse_mode(recipe.run(seed), phi, progress=False)[:, 0]
        )


def test_closest_to_the_effects_in_one_run():
    found = runs_bank.effects_in_one_run()
    assert next(iter(found)) == RUNS["part_g"].truth() == max(found, key=found.get)
    assert set(found) == set(RUNS["part_g"].options)
    others = sorted(found.values())[:-1]
    assert found["unrolling this run"] > 0.9 and max(others) < 0.9
    # What is told to a solver of (g): part (d) at m = 10 says how far other runs get.
    between, within = runs_bank._pilot_split()
    limit = between / ((between + within) * (between + within / 10)) ** 0.5
    assert found["retraining ten others"] == pytest.approx(limit, abs=0.1)


def test_two_runs_and_a_third():
    part, slopes = RUNS["part_h"], runs_bank.unrolled().numpy()
    pairs = [slopes[[a, b]].mean(0) for a, b in itertools.combinations(range(10), 2)]
    table = np.corrcoef(np.concatenate([pairs, slopes[10:]]))[: len(pairs), len(pairs) :]
    assert part.truth() == pytest.approx(table.mean())
    # From the pilot alone, with variances about the means.
    pilot = slopes[:10]
    within = pilot.var(0, ddof=1).mean()
    between = pilot.mean(0).var(ddof=1) - within / 10
    predicted = between / np.sqrt((between + within) * (between + within / 2))
    assert predicted == pytest.approx(part.truth(), rel=part.rtol / 2)
    assert part(predicted)
    for mistake in part.mistakes:
        assert abs(mistake.formula / part.truth() - 1) > 1.5 * part.rtol, mistake.name


# --- groups: formulas ----------------------------------------------------------------------------


def _fit_line(x, y):
    return np.linalg.lstsq(x, y, rcond=None)[0]


def test_interaction_of_two_by_refits(rng):
    for _ in range(3):
        c = regression(rng)
        i, j = rng.choice(len(c.y), 2, replace=False)
        x, y = c.x.numpy(), c.y.numpy()
        height = [
            x[i] @ _fit_line(np.delete(x, gone, 0), np.delete(y, gone))
            for gone in ([], [i], [j], [i, j])
        ]
        whole, *singles, both = map(torch.tensor, height)
        measured = interactions(torch.stack(singles)[None], both[None], whole)
        hat = c.x @ torch.linalg.solve(c.x.T @ c.x, c.x.T)
        r = residuals(c.x, c.y)
        point = {"r_i": r[i], "r_j": r[j], "h_i": hat[i, i], "h_j": hat[j, j], "h_ij": hat[i, j]}
        agrees(GROUPS["part_d"], {name: v.item() for name, v in point.items()}, measured)


def test_second_order_of_the_interaction():
    """The reply to the lowest order is right: as the leverages shrink the two meet."""
    part, e = GROUPS["part_d"], sp.Symbol("e", positive=True)
    leverages = {s: e * s for s in part.truth.free_symbols if s.name.startswith("h")}
    ratio = (_formulas(part)["second order"] / part.truth).subs(leverages)
    assert sp.limit(sp.cancel(ratio), e, 0) == 1


def test_share_of_copies_by_refits(rng):
    c = regression(rng)
    x, y = c.x.numpy(), c.y.numpy()
    h = leverage(c.x)[c.j].item()
    for k, m in ((5, 2), (3, 1), (4, 4)):

        def slope(copies):
            rest = np.delete(np.arange(len(x)), c.j)
            rows = np.append(rest, np.full(copies, c.j))
            return _fit_line(x[rows], y[rows])

        whole, part = slope(0) - slope(k), slope(k - m) - slope(k)
        _close(part / whole, np.full(len(whole), part[0] / whole[0]))
        agrees(GROUPS["part_e"], {"m": m, "k": k, "h": h}, part[0] / whole[0])


def test_near_copies():
    part = GROUPS["part_f"]
    x, y = map(torch.from_numpy, groups_bank.near_copies())
    design, five = with_intercept(x[:, None]), torch.arange(len(x) - 5, len(x))
    together = group_update(design, y, five)[1]
    alone = sum(group_update(design, y, five[[i]])[1] for i in range(5))
    assert part.truth() == pytest.approx((together / alone).item())
    h = leverage(design)[five]
    assert groups_bank.NEAR_LEVERAGE == pytest.approx(h.mean().item(), rel=0.05)
    for value in (h.mean(), h.median()):
        assert part((1 - value) / (1 - 5 * value))
    for value in h[[0, -1]]:  # one end's leverage for all: too coarse
        assert not part((1 - value) / (1 - 5 * value))
    for mistake in part.mistakes:
        assert abs(mistake.formula / part.truth() - 1) > 1.5 * part.rtol, mistake.name


def test_two_ends():
    x, y = map(torch.from_numpy, groups_bank.two_ends())
    design, n = with_intercept(x[:, None]), len(x)
    left, right, both = groups_bank.ends_removed().values()
    ends = [torch.tensor(g) for g in ([n - 2], [n - 1], [n - 2, n - 1])]
    _close([left, right, both], [group_update(design, y, g)[0] for g in ends])
    hat = design[n - 2] @ torch.linalg.solve(design.T @ design, design[n - 1])
    # Each raises the line, so its loss lowers it; the two losses together do less than their sum.
    assert left < 0 and right < 0 and both - left - right > 0 and hat < 0
    assert GROUPS["part_g"].truth() == "synergy, h_ij < 0"
    # The reply to "none": the second part of h_ij is far larger than 1/n.
    assert abs(hat - 1 / n) > 5 / n


# --- groups: references --------------------------------------------------------------------------


def test_price_by_refits(rng):
    """A little of each example's weight is taken, the model refitted, and the classes looked at."""
    c = logistic_problem(rng)
    n, p = c.objective.n, len(c.w)
    ones, h = torch.ones(n).double(), 1e-4
    w = fit(c.objective, ones, c.w, tolerance=1e-13)
    tests = [stretched(rng, size, p) for size in (3, 4, 8)]
    labels = [torch.from_numpy(rng.choice([-1.0, 1.0], len(x))) for x in tests]

    def by_class(w):
        rows = zip(tests, labels, strict=True)
        return torch.stack([torch.log1p(torch.exp(-y * (x @ w))).mean() for x, y in rows])

    less, more = (
        vmap(by_class)(fit(c.objective, ones + s * h * torch.eye(n).double(), w, tolerance=1e-13))
        for s in (-1, 1)
    )
    rises = ((less - more) / (2 * h)).numpy()
    counts = torch.tensor([3.0, 4.0, 8.0]).double()
    total = rises @ counts.numpy()
    wanted = np.where(total < 0, np.maximum(rises.max(1), 0), 0)
    assert (wanted > 0).any() and (wanted == 0).any()
    table = influence(c.objective, w, by_class, direct(hessian(c.objective, w)))
    _close(GROUPS["part_a"].truth(table, counts), wanted, rel=1e-5)


def test_price_meets_every_kind_of_example():
    for table, counts in _cases(GROUPS["part_a"]):
        total, plain = table @ counts, table.sum(1)
        assert ((total > 0) & (table > 0).all(1)).any(), "a price of zero without the clamp"
        assert ((total > 0) & (plain < 0)).any() and ((total < 0) & (plain > 0)).any()


def test_modes_are_those_of_the_library(rng):
    curvature, slopes, push, damping, cut = GROUPS["part_b"].cases(rng)
    values, terms = by_mode(curvature, slopes, push, damping)
    truth = GROUPS["part_b"].truth(curvature, slopes, push, damping, cut)
    _close(truth[:, 0], terms[:, values >= cut].sum(1))
    _close(truth.sum(1), -slopes @ direct(curvature, damping)(push))


def test_a_mode_lies_between_the_cut_and_the_damped_cut():
    for curvature, _, _, damping, cut in _cases(GROUPS["part_b"]):
        values = torch.linalg.eigvalsh(curvature)
        assert ((values < cut) & (values + damping > cut)).any()
        assert (values - cut).abs().min() > 0.05, "a split that rounding could change"


def test_deleted_groups_are_those_of_the_library(rng):
    x, y, rho, group, queries = GROUPS["part_c"].cases(rng)
    beta = torch.ones(2, len(x)).double()
    beta[1, group] = 0
    whole, rest = fit(linear(x, y, l2=rho), beta, torch.zeros(x.shape[1]).double())
    truth = GROUPS["part_c"].truth(x, y, rho, group, queries)
    _close(truth, queries @ (rest - whole), rel=1e-8)


def test_second_derivatives_are_those_of_the_library(rng):
    margins, rho, w, query = GROUPS["part_h"].cases(rng)
    objective = Objective(
        lambda v, m: m * v, lambda f, y: torch.exp(-f).sum(), margins, margins, l2=rho
    )
    n = len(margins)
    pairs = torch.cartesian_prod(torch.arange(n), torch.arange(n))
    at = torch.tensor([w]).double()
    found = second_influence(objective, at, lambda v: torch.exp(-query * v[0]), pairs).view(n, n)
    truth = GROUPS["part_h"].truth(margins, rho, w, query)
    _close(truth, found, rel=1e-6)
    _close(truth, truth.T)


def test_second_derivative_by_refits():
    """A mixed difference of the minimum by golden sections: no derivative of a loss enters."""
    margins, rho, w, query = GROUPS["part_h"].cases(np.random.default_rng(4))
    h = 0.05

    def phi(beta):
        loss = lambda v: beta @ np.exp(-margins.numpy() * v) + rho * v**2 / 2  # noqa: E731
        found = scipy.optimize.minimize_scalar(loss, bracket=(w - 0.5, w + 0.5), tol=1e-12)
        return np.exp(-query * found.x)

    def mixed(i, j, h):
        corners = itertools.product((1, -1), repeat=2)
        eye = np.eye(len(margins))
        return sum(a * b * phi(1 + h * (a * eye[i] + b * eye[j])) for a, b in corners) / (4 * h**2)

    truth = GROUPS["part_h"].truth(margins, rho, w, query)
    for i, j in ((0, 1), (2, 2)):  # Richardson takes the error in h² away
        by_refits = (4 * mixed(i, j, h) - mixed(i, j, 2 * h)) / 3
        assert truth[i, j] == pytest.approx(by_refits, rel=2e-3)


def test_shares_are_those_of_the_library(rng):
    (value,) = GROUPS["part_i"].cases(rng)
    k = len(value) - 1
    by_library = shapley(lambda s: value[len({*s} - {k}), int(k in s)].item(), k + 1)
    copy, other = GROUPS["part_i"].truth(value)
    _close(by_library, [copy] * k + [other])
    assert k * copy + other == pytest.approx((value[k, 1] - value[0, 0]).item())


def test_the_ridge_without_one_is_no_group(rng):
    """A group of one is leave-one-out: by refits with the example's weight at zero."""
    x, y, rho, group, queries = GROUPS["part_c"].cases(rng)
    j = int(group[0])
    fits = fit(linear(x, y, l2=rho), without_one(len(x)), torch.zeros(x.shape[1]).double())
    whole = fit(linear(x, y, l2=rho), torch.ones(len(x)).double(), fits[0])
    truth = GROUPS["part_c"].truth(x, y, rho, group[:1], queries)
    _close(truth, queries @ (fits[j] - whole), rel=1e-8)
