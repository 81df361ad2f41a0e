"""Least squares against numpy refits and statsmodels."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from statsmodels.api import OLS

from lib import linear_regression as lr

few = settings(deadline=None, max_examples=20, derandomize=True)
seeds = st.integers(0, 10**6)


def problem(seed):
    rng = np.random.default_rng(seed)
    n, p = int(rng.integers(7, 15)), int(rng.integers(1, 5))
    x = rng.normal(size=(n, p)) * rng.uniform(0.2, 3, p) + rng.normal(size=p)
    return x, x @ rng.normal(size=p) + rng.normal(size=n)


def refit(x, y, weights=None):
    """The weighted normal equations, solved."""
    weights = np.ones(len(x)) if weights is None else weights
    return np.linalg.solve(x.T @ (weights[:, None] * x), x.T @ (weights * y))


def weight_on(n, j, value):
    weights = np.ones(n)
    weights[j] = value
    return weights


def close(left, right, rtol=1e-8):
    left, right = np.asarray(left), np.asarray(right)
    assert left.shape == right.shape
    assert np.abs(left - right).max() <= rtol * np.abs(right).max()


@few
@given(seeds)
def test_against_statsmodels(seed):
    x, y = problem(seed)
    tx, ty = torch.tensor(x), torch.tensor(y)
    model = OLS(y, x).fit()
    other = model.get_influence()
    close(lr.least_squares(tx, ty), model.params)
    close(lr.residuals(tx, ty), model.resid)
    close(lr.leverage(tx), other.hat_matrix_diag)
    close(lr.cooks_distance(tx, ty), other.cooks_distance[0])
    close(lr.deletion_update(tx, ty), -other.dfbeta)


@few
@given(seeds)
def test_influence_is_the_derivative_of_a_weighted_refit(seed):
    x, y = problem(seed)
    rows = []
    for j in range(len(x)):

        def central(h, j=j):
            up, down = (refit(x, y, weight_on(len(x), j, 1 + s * h)) for s in (1, -1))
            return (up - down) / (2 * h)

        a, b, c = central(0.04), central(0.02), central(0.01)
        first, second = (4 * b - a) / 3, (4 * c - b) / 3
        rows.append((16 * second - first) / 15)
    close(lr.regression_influence(torch.tensor(x), torch.tensor(y)), rows)


@few
@given(seeds, st.sampled_from([0.0, 0.3, 1.0, 1.7, 5.0, -0.05]))
def test_weighted_update_is_a_refit(seed, weight):
    x, y = problem(seed)
    j = seed % len(x)
    hat = x[j] @ np.linalg.solve(x.T @ x, x[j])
    if (1 - weight) * hat > 0.98:
        return
    found = lr.weighted_update(torch.tensor(x), torch.tensor(y), j, weight)
    gap = found.numpy() - (refit(x, y, weight_on(len(x), j, weight)) - refit(x, y))
    assert np.abs(gap).max() <= 1e-9 * np.abs(refit(x, y)).max()


@few
@given(seeds)
def test_deletion_is_a_refit_on_the_others(seed):
    x, y = problem(seed)
    whole = refit(x, y)
    rows = [refit(np.delete(x, j, 0), np.delete(y, j)) - whole for j in range(len(x))]
    close(lr.deletion_update(torch.tensor(x), torch.tensor(y)), rows)


@few
@given(seeds, st.sampled_from([0.0, 0.5, 1.5]), st.integers(1, 6))
def test_series_leaves_the_remainder_of_a_geometric_one(seed, weight, terms):
    x, y = problem(seed)
    j = seed % len(x)
    s, hat = 1 - weight, x[j] @ np.linalg.solve(x.T @ x, x[j])
    truth = refit(x, y, weight_on(len(x), j, weight)) - refit(x, y)
    series = lr.update_series(torch.tensor(x), torch.tensor(y), j, weight, terms).numpy()
    assert np.abs(series - truth * (1 - (s * hat) ** terms)).max() <= 1e-8 * np.abs(truth).max()


@few
@given(seeds)
def test_cooks_distance_is_how_far_the_fit_moves(seed):
    x, y = problem(seed)
    n, p = x.shape
    s2 = ((y - x @ refit(x, y)) ** 2).sum() / (n - p)
    moved = [
        ((x @ (refit(np.delete(x, j, 0), np.delete(y, j)) - refit(x, y))) ** 2).sum() / (p * s2)
        for j in range(n)
    ]
    close(lr.cooks_distance(torch.tensor(x), torch.tensor(y)), moved)


def test_bad_conditioning_costs_no_more_than_it_must():
    rng = np.random.default_rng(0)
    x = rng.normal(size=(20, 3))
    x[:, 2] = x[:, 0] + 1e-6 * x[:, 2]
    y = x @ np.ones(3)
    assert np.abs(lr.least_squares(torch.tensor(x), torch.tensor(y)).numpy() - 1).max() < 1e-8
    close(lr.leverage(torch.tensor(x)).sum(), 3.0)


RNG = np.random.default_rng(1)
X, Y = torch.tensor(RNG.normal(size=(6, 2))), torch.tensor(RNG.normal(size=6))
NAN = float("nan")
TWIN = torch.stack([X[:, 0], X[:, 0] * (1 / 3)], dim=1)
LONE = torch.cat([torch.eye(2).double()[:1], X * torch.tensor([0.0, 1.0]).double()])
EVERY = [
    lr.least_squares,
    lr.residuals,
    lr.regression_influence,
    lambda x, y: lr.weighted_update(x, y, 0, 0.5),
    lambda x, y: lr.update_series(x, y, 0, 0.5, 2),
    lr.deletion_update,
    lr.cooks_distance,
]


@pytest.mark.parametrize("function", EVERY)
@pytest.mark.parametrize(
    "name, x, y",
    [
        ("x", X[:, 0], Y),
        ("x", X * NAN, Y),
        ("x", X.long(), Y),
        ("x", X.numpy(), Y),
        ("x", X[:1], Y[:1]),
        ("x", X[:0], Y[:0]),
        ("x", X[:, :0], Y),
        ("x", TWIN, Y),
        ("x", TWIN.float(), Y.float()),
        ("y", X, Y[:5]),
        ("y", X, Y[:, None]),
        ("y", X, Y * NAN),
    ],
)
def test_bad_data_is_named(function, name, x, y):
    with pytest.raises(ValueError, match=rf"^{name}: expected"):
        function(x, y)


@pytest.mark.parametrize(
    "name, call",
    [
        ("x", lambda: lr.leverage(TWIN)),
        ("x", lambda: lr.leverage(Y)),
        ("x", lambda: lr.deletion_update(LONE, torch.ones(7).double())),
        ("x", lambda: lr.cooks_distance(LONE, torch.arange(7.0).double())),
        ("x", lambda: lr.cooks_distance(X[:2], Y[:2])),
        ("y", lambda: lr.cooks_distance(X, X @ torch.ones(2).double())),
        ("j", lambda: lr.weighted_update(X, Y, 6, 0.5)),
        ("j", lambda: lr.weighted_update(X, Y, -1, 0.5)),
        ("j", lambda: lr.update_series(X, Y, 0.5, 0.5, 2)),
        ("beta_j", lambda: lr.weighted_update(X, Y, 0, NAN)),
        ("beta_j", lambda: lr.weighted_update(X, Y, 0, "0")),
        ("beta_j", lambda: lr.update_series(X, Y, 0, float("inf"), 2)),
        ("beta_j", lambda: lr.weighted_update(LONE, torch.ones(7).double(), 0, 0.0)),
        ("beta_j", lambda: lr.weighted_update(X, Y, 0, -1e4)),
        ("terms", lambda: lr.update_series(X, Y, 0, 0.5, 0)),
        ("terms", lambda: lr.update_series(X, Y, 0, 0.5, True)),
    ],
)
def test_bad_input_is_named(name, call):
    with pytest.raises(ValueError, match=rf"^{name}: "):
        call()


def test_numpy_integers_are_integers():
    a, b = lr.weighted_update(X, Y, np.int64(2), np.float32(0.5)), lr.weighted_update(X, Y, 2, 0.5)
    assert torch.equal(a, b)
