"""Several examples at once: exact deletions, modes, and the second order, each by another route."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from lib import groups
from lib.counterfactuals import fit
from lib.influence import direct, gauss_newton, influence
from lib.ledger import differences
from lib.linear_regression import deletion_update, least_squares
from lib.models import linear
from lib.objective import gradients
from lib.random_problems import logistic_problem, network_problem, normal, regression

# Raised once, inside torch, when forward-mode derivatives are first used.
pytestmark = pytest.mark.filterwarnings("ignore:.torch.jit.script. is deprecated")

seeds = st.integers(0, 2**32 - 1)


@given(seeds)
@settings(max_examples=60, deadline=None)
def test_a_group_taken_out_is_a_fit_to_the_rest(seed):
    rng = np.random.default_rng(seed)
    c = regression(rng)
    n, p = c.x.shape
    group = torch.from_numpy(rng.choice(n, int(rng.integers(1, n - p)), replace=False))
    left = np.setdiff1d(np.arange(n), group)
    rest = np.linalg.lstsq(c.x.numpy()[left], c.y.numpy()[left], rcond=None)[0]
    moved = groups.group_update(c.x, c.y, group)
    np.testing.assert_allclose(moved, rest - least_squares(c.x, c.y).numpy(), atol=1e-7)


def test_a_group_of_one_is_a_deletion(rng):
    c = regression(rng)
    alone = torch.stack([groups.group_update(c.x, c.y, torch.tensor([j])) for j in range(len(c.y))])
    torch.testing.assert_close(alone, deletion_update(c.x, c.y))


@given(seeds)
@settings(max_examples=40, deadline=None)
def test_modes_add_up_and_belong_to_eigenvectors(seed):
    rng = np.random.default_rng(seed)
    c = network_problem(rng)
    curvature, slopes, push = (
        gauss_newton(c.objective, c.w),
        gradients(c.objective, c.w),
        normal(rng, len(c.w)),
    )
    values, terms = groups.by_mode(curvature, slopes, push, 0.2)
    whole = -slopes @ torch.linalg.solve(curvature + 0.2 * torch.eye(len(push)).double(), push)
    torch.testing.assert_close(terms.sum(dim=1), whole, rtol=1e-7, atol=1e-9)
    assert (values.diff() >= 0).all()
    vectors = np.linalg.eigh(curvature.numpy())[1]
    for k in (0, len(push) - 1):  # by projection: a sign of v_k drops out
        v = vectors[:, k]
        by_hand = -(slopes.numpy() @ v) * (push.numpy() @ v) / (values[k].item() + 0.2)
        if values.diff().min() > 1e-6:
            np.testing.assert_allclose(terms[:, k], by_hand, rtol=1e-4, atol=1e-7)


@given(seeds)
@settings(max_examples=8, deadline=None)
def test_second_influence_is_a_second_difference(seed):
    rng = np.random.default_rng(seed)
    c = logistic_problem(rng)
    n = c.objective.n
    w = fit(c.objective, torch.ones(n).double(), c.w, tolerance=1e-13)
    pairs = torch.from_numpy(np.stack([rng.choice(n, 2, replace=False) for _ in range(3)]))
    pairs = torch.cat([pairs, pairs[:1, :1].expand(1, 2)])  # and once the same example twice

    def refit(pair, a, b):
        beta = torch.ones(n).double()
        beta[pair[0]] += a
        beta[pair[1]] += b
        return c.phi(fit(c.objective, beta, w, tolerance=1e-13))

    h = 1e-2
    found = groups.second_influence(c.objective, w, c.phi, pairs)
    for pair, value in zip(pairs, found, strict=True):
        corners = [s * t * refit(pair, s * h, t * h) for s in (1, -1) for t in (1, -1)]
        assert value.item() == pytest.approx(sum(corners).item() / (4 * h * h), rel=5e-3, abs=1e-5)


def test_second_influence_of_least_squares_by_its_exact_deletions(rng):
    """Leaving out both, less each alone, at weights close to one: what the second order is."""
    c = regression(rng)
    model, q = linear(c.x, c.y), normal(rng, c.x.shape[1])
    w, pair = least_squares(c.x, c.y), torch.tensor([[0, 2]])

    def phi(weights):
        root = torch.ones(len(c.y)).double()
        root[pair[0]] = weights.sqrt()
        return q @ least_squares(root[:, None] * c.x, root * c.y)

    def mixed(a):
        return differences(
            lambda b: phi(torch.stack([1 + a[0], 1 + b[0]])), torch.zeros(1).double()
        )

    truth = differences(lambda a: mixed(a)[0], torch.zeros(1).double())
    found = groups.second_influence(model, w, lambda v: q @ v, pair)
    torch.testing.assert_close(found, truth, rtol=1e-6, atol=1e-9)


def test_a_given_solve_is_used(rng):
    c = logistic_problem(rng)
    damped = direct(gauss_newton(c.objective, c.w), 3.0)
    pair = torch.tensor([[0, 1]])
    with_it = groups.second_influence(c.objective, c.w, c.phi, pair, damped)
    assert not torch.allclose(with_it, groups.second_influence(c.objective, c.w, c.phi, pair))
    assert influence(c.objective, c.w, c.phi, damped).shape == (c.objective.n,)


def test_interactions_are_what_the_sum_misses(rng):
    alone, both, whole = normal(rng, 4, 2), normal(rng, 4), normal(rng, 1)[0]
    found = groups.interactions(alone, both, whole)
    for k in range(4):
        effects = [(v - whole).item() for v in (both[k], alone[k, 0], alone[k, 1])]
        assert found[k].item() == pytest.approx(effects[0] - effects[1] - effects[2])


X, Y = torch.eye(4, 2).double() + 0.1, torch.arange(4.0).double()
MODEL = linear(
    torch.tensor([[1.0, 0.0], [0.5, 1.0], [2.0, 1.0]]).double(), torch.arange(3.0).double()
)
W = torch.ones(2).double()


@pytest.mark.parametrize(
    ("name", "call"),
    [
        ("group", lambda: groups.group_update(X, Y, torch.tensor([0, 0]))),
        ("group", lambda: groups.group_update(X, Y, torch.tensor([0, 4]))),
        ("group", lambda: groups.group_update(X, Y, torch.tensor([0, 2, 3]))),
        ("group", lambda: groups.group_update(X, Y, torch.tensor([]))),
        ("x", lambda: groups.group_update(X[:, :1] * torch.ones(1, 2), Y, torch.tensor([0]))),
        ("damping", lambda: groups.by_mode(-torch.eye(2).double(), X, W)),
        ("damping", lambda: groups.by_mode(torch.zeros(2, 2).double(), X, W)),
        ("damping", lambda: groups.by_mode(torch.eye(2).double(), X, W, -1.0)),
        ("slopes", lambda: groups.by_mode(torch.eye(2).double(), X.T, W)),
        ("push", lambda: groups.by_mode(torch.eye(2).double(), X, torch.ones(3).double())),
        ("phi", lambda: groups.second_influence(MODEL, W, lambda w: w, torch.tensor([[0, 1]]))),
        ("pairs", lambda: groups.second_influence(MODEL, W, torch.sum, torch.tensor([[0, 3]]))),
        ("pairs", lambda: groups.second_influence(MODEL, W, torch.sum, torch.tensor([0, 1]))),
        ("pairs", lambda: groups.interactions(X, Y[None], W[0])),
        ("singles", lambda: groups.interactions(X[:3], Y, W[0])),
        ("whole", lambda: groups.interactions(X, Y, W)),
    ],
)
def test_bad_input_is_named(name, call):
    with pytest.raises(ValueError, match=f"^{name}: "):
        call()
