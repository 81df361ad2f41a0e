"""Retraining against numpy and scikit-learn; Shapley against its axioms and all orders."""

import itertools
import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.linear_model import LogisticRegression, Ridge

from lib import counterfactuals as cf
from lib import models
from lib.objective import Objective

# Torch compiles its own rules when a forward derivative is first asked for.
pytestmark = pytest.mark.filterwarnings("ignore:.torch.jit.script:DeprecationWarning")

few = settings(deadline=None, max_examples=25, derandomize=True)
seeds = st.integers(0, 10**6)
NAN = float("nan")


def classified(seed, n=12, p=3):
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(n, p)) + 0.5
    return x, rng.choice([-1.0, 1.0], n), float(rng.uniform(0.3, 1))


def newton(x, y, beta, ridge):
    """Weighted, penalised logistic regression by its textbook formulas."""
    w = np.zeros(x.shape[1])
    for _ in range(60):
        s = 1 / (1 + np.exp(-x @ w))
        slope = x.T @ (beta * (s - (y + 1) / 2)) + ridge * w
        bend = (x.T * (beta * s * (1 - s))) @ x + ridge * np.eye(len(w))
        w = w - np.linalg.solve(bend, slope)
    return w


def tensors(*arrays):
    return [torch.tensor(a) for a in arrays]


# --- fit and train -------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", range(4))
def test_fit_against_newton_and_sklearn(seed):
    x, y, ridge = classified(seed)
    beta = np.random.default_rng(seed).uniform(0, 2, (5, len(x)))
    objective = models.logistic(*tensors(x, y), l2=ridge)
    cold = cf.fit(objective, torch.tensor(beta), torch.zeros(3).double())
    want = np.array([newton(x, y, b, ridge) for b in beta])
    np.testing.assert_allclose(cold, want, rtol=0, atol=1e-11)
    for b, w in zip(beta, cold, strict=True):
        other = LogisticRegression(C=1 / ridge, fit_intercept=False, tol=1e-10, max_iter=1000)
        np.testing.assert_allclose(other.fit(x, y, b).coef_[0], w, rtol=0, atol=1e-6)
        one = cf.fit(objective, torch.tensor(b), torch.zeros(3).double())
        np.testing.assert_allclose(one, w, rtol=0, atol=1e-11)
    warm = cf.fit(objective, torch.tensor(beta), torch.tensor(want[0]), chunk=2)
    np.testing.assert_allclose(warm, cold, rtol=0, atol=1e-11)


@pytest.mark.parametrize("start", [0.0, 30.0])
def test_fit_survives_bad_scaling_and_a_far_start(start):
    x, y, _ = classified(7, n=40)
    x = x * [1.0, 50.0, 0.01]
    objective = models.logistic(*tensors(x, y), l2=1e-3)
    w = cf.fit(objective, torch.ones(40).double(), torch.full((3,), start / 50).double())
    np.testing.assert_allclose(w, newton(x, y, np.ones(40), 1e-3), rtol=1e-9)


def test_fit_where_full_newton_steps_diverge():
    x, y = tensors(np.array([[1.0], [1.0], [1.0]]), np.array([1.0, 1.0, -1.0]))
    w = cf.fit(models.logistic(x, y), torch.ones(3).double(), torch.tensor([8.0]).double())
    assert abs(w.item() - math.log(2)) < 1e-10


@pytest.mark.parametrize("seed", range(3))
def test_train_is_gradient_descent_on_the_mean(seed):
    x, y, ridge = classified(seed)
    beta = np.random.default_rng(seed).uniform(0, 2, (3, len(x)))
    w0 = np.array([0.3, -0.2, 0.1])
    rows = []
    for b in beta:
        w = w0.copy()
        for _ in range(17):
            s = 1 / (1 + np.exp(-x @ w))
            w = w - 0.4 / len(x) * (x.T @ (b * (s - (y + 1) / 2)) + ridge * w)
        rows.append(w)
    objective = models.logistic(*tensors(x, y), l2=ridge)
    found = cf.train(
        objective, torch.tensor(beta), torch.from_numpy(w0), steps=17, rate=0.4, chunk=2
    )
    np.testing.assert_allclose(found, rows, rtol=1e-12)
    one = cf.train(objective, *tensors(beta[1], w0), steps=17, rate=0.4)
    np.testing.assert_allclose(one, rows[1], rtol=1e-12)
    assert w0.tolist() == [0.3, -0.2, 0.1]


def test_training_from_the_minimum_stays_there():
    x, y, ridge = classified(1)
    objective, ones = models.logistic(*tensors(x, y), l2=ridge), torch.ones(12).double()
    w = torch.tensor(newton(x, y, np.ones(12), ridge))
    np.testing.assert_allclose(cf.train(objective, ones, w, steps=50, rate=0.5), w, atol=1e-12)


X, Y, _ = (torch.tensor(a) for a in classified(0))
LOGISTIC = models.logistic(X, Y, l2=0.5)
ONES, ORIGIN = torch.ones(12).double(), torch.zeros(3).double()
TWINS = models.linear(torch.cat([X, X[:, :1] / 3], dim=1), Y)
SADDLE = models.ab_model(Y)


@pytest.mark.parametrize(
    "name, call",
    [
        ("beta", lambda: cf.fit(LOGISTIC, ONES[:3], ORIGIN)),
        ("beta", lambda: cf.fit(LOGISTIC, ONES * NAN, ORIGIN)),
        ("beta", lambda: cf.fit(LOGISTIC, ONES.long(), ORIGIN)),
        ("beta", lambda: cf.fit(LOGISTIC, ONES[None, None], ORIGIN)),
        ("w0", lambda: cf.fit(LOGISTIC, ONES, ORIGIN * NAN)),
        ("w0", lambda: cf.fit(LOGISTIC, ONES, ORIGIN[None])),
        ("w", lambda: cf.fit(LOGISTIC, ONES, ORIGIN[:2])),
        ("tolerance", lambda: cf.fit(LOGISTIC, ONES, ORIGIN, tolerance=0)),
        ("chunk", lambda: cf.fit(LOGISTIC, ONES, ORIGIN, chunk=0)),
        ("max_steps", lambda: cf.fit(LOGISTIC, ONES, ORIGIN, max_steps=0)),
        ("max_steps", lambda: cf.fit(LOGISTIC, ONES, ORIGIN, max_steps=1)),
        ("objective", lambda: cf.fit(TWINS, ONES, torch.zeros(4).double())),
        ("objective", lambda: cf.fit(LOGISTIC, -ONES, ORIGIN)),
        ("objective", lambda: cf.fit(SADDLE, ONES, torch.zeros(2).double())),
        ("objective", lambda: cf.fit(models.valley(Y), ONES, torch.zeros(2).double())),
        ("w0", lambda: cf.train(LOGISTIC, ONES, ORIGIN * NAN, steps=1, rate=0.1)),
        ("beta", lambda: cf.train(LOGISTIC, ONES[:3], ORIGIN, steps=1, rate=0.1)),
        ("beta", lambda: cf.train(LOGISTIC, ONES * NAN, ORIGIN, steps=1, rate=0.1)),
        ("steps", lambda: cf.train(LOGISTIC, ONES, ORIGIN, steps=0, rate=0.1)),
        ("steps", lambda: cf.train(LOGISTIC, ONES, ORIGIN, steps=1.5, rate=0.1)),
        ("rate", lambda: cf.train(LOGISTIC, ONES, ORIGIN, steps=1, rate=0)),
        ("rate", lambda: cf.train(LOGISTIC, ONES, ORIGIN, steps=1, rate=NAN)),
        ("chunk", lambda: cf.train(LOGISTIC, ONES, ORIGIN, steps=1, rate=0.1, chunk=0)),
        ("rate", lambda: cf.train(TWINS, ONES, torch.zeros(4).double(), steps=300, rate=900.0)),
        ("rate", lambda: cf.train(TWINS, ONES, torch.zeros(4).double(), steps=5, rate=9.0)),
        ("n", lambda: cf.without_one(0)),
        ("indices", lambda: cf.without_one(3, torch.tensor([3]))),
        ("indices", lambda: cf.without_one(3, torch.tensor([-1]))),
        ("indices", lambda: cf.without_one(3, torch.tensor([], dtype=torch.long))),
        ("indices", lambda: cf.without_one(3, torch.tensor([True, False, True]))),
        ("indices", lambda: cf.without_one(3, torch.tensor(1))),
        ("n", lambda: cf.leave_one_out(lambda beta: beta, lambda w: w.sum(), -2)),
        ("phi", lambda: cf.leave_one_out(lambda beta: beta, lambda w: w, 3)),
        (
            "indices",
            lambda: cf.leave_one_out(lambda b: b, lambda w: w.sum(), 3, torch.tensor([9])),
        ),
    ],
)
def test_bad_input_is_named(name, call):
    with pytest.raises(ValueError, match=rf"^{name}: "):
        call()


def test_a_step_onto_nan_is_shortened():
    # −Σ log f is not defined for f ≤ 0, where a full Newton step from 5 would land.
    hill = Objective(
        lambda w, x: w, lambda f, y: (f - torch.log(f)).sum(), torch.ones(2).double(), ONES[:2]
    )
    w = cf.fit(hill, ONES[:2], torch.tensor([5.0]).double())
    assert abs(w.item() - 1) < 1e-10


@pytest.mark.parametrize("seed", range(12))
def test_a_singular_hessian_is_seen_through_rounding(seed):
    # A third of these pass Cholesky's own test, with a last pivot of about 1e-8.
    x = np.random.default_rng(seed).normal(size=(9, 2))
    x = np.column_stack([x, x @ [0.3, 0.7]])
    flat = models.linear(*tensors(x, x[:, 0] ** 2))
    with pytest.raises(ValueError, match=r"^objective: expected a positive definite Hessian"):
        cf.fit(flat, torch.ones(9).double(), torch.zeros(3).double())


def test_only_steps_that_are_too_long_are_shortened():
    w = torch.tensor([[1.0], [1.0]]).double()
    step = w * torch.tensor([[1.0], [3.0]]).double()
    lengths = cf._backtrack(lambda u: 0.5 * (u**2).sum(dim=1), w, step, w)
    assert lengths.tolist() == [1.0, 0.5]


# --- leave-one-out -------------------------------------------------------------------------------


def test_without_one():
    assert torch.equal(cf.without_one(4), torch.tensor(1 - np.eye(4)))
    assert cf.without_one(3, torch.tensor([2, 0])).tolist() == [[1, 1, 0], [0, 1, 1]]


@pytest.mark.parametrize("seed", range(3))
def test_leave_one_out_against_sklearn(seed):
    x, y, ridge = classified(seed)
    rng = np.random.default_rng(seed)
    q, target = rng.normal(size=3), rng.normal(size=12)
    keep = ~np.eye(12, dtype=bool)

    def phi(w):
        return (w * torch.tensor(q)).sum() ** 2

    model = models.linear(*tensors(x, target), l2=ridge)
    found = cf.leave_one_out(lambda b: cf.fit(model, b, ORIGIN), phi, 12)
    line = Ridge(alpha=ridge, fit_intercept=False)
    whole = (line.fit(x, target).coef_ @ q) ** 2
    want = [(line.fit(x[k], target[k]).coef_ @ q) ** 2 - whole for k in keep]
    np.testing.assert_allclose(found, want, rtol=1e-8)

    model = models.logistic(*tensors(x, y), l2=ridge)
    some = torch.tensor([5, 2])
    found = cf.leave_one_out(lambda b: cf.fit(model, b, ORIGIN), phi, 12, some)
    line = LogisticRegression(C=1 / ridge, fit_intercept=False, tol=1e-12, max_iter=2000)
    whole = (line.fit(x, y).coef_[0] @ q) ** 2
    want = [(line.fit(x[k], y[k]).coef_[0] @ q) ** 2 - whole for k in keep[[5, 2]]]
    np.testing.assert_allclose(found, want, rtol=0, atol=1e-4 * np.abs(want).max() + 1e-7)


# --- Shapley -------------------------------------------------------------------------------------


def game(seed, n=None):
    rng = np.random.default_rng(seed)
    n = n or int(rng.integers(1, 6))
    table = rng.normal(size=2**n)
    return lambda s: float(table[sum(2**i for i in s)]), n


@few
@given(seeds)
def test_shapley_is_the_mean_over_all_orders(seed):
    v, n = game(seed)
    total = np.zeros(n)
    for order in itertools.permutations(range(n)):
        for place, i in enumerate(order):
            total[i] += v(frozenset(order[: place + 1])) - v(frozenset(order[:place]))
    np.testing.assert_allclose(cf.shapley(v, n), total / math.factorial(n), atol=1e-12)


@few
@given(seeds)
def test_efficiency_and_linearity(seed):
    v, n = game(seed)
    u, _ = game(seed + 1, n)
    both = cf.shapley(lambda s: 2 * v(s) - 3 * u(s), n)
    np.testing.assert_allclose(both, 2 * cf.shapley(v, n) - 3 * cf.shapley(u, n), atol=1e-12)
    assert abs(cf.shapley(v, n).sum().item() - (v(frozenset(range(n))) - v(frozenset()))) < 1e-12


@few
@given(seeds, st.integers(2, 5))
def test_symmetry_and_the_null_player(seed, n):
    v, _ = game(seed, n)
    rename = {0: 1, 1: 0}

    def even(s):
        return v(s) + v(frozenset(rename.get(i, i) for i in s))

    psi = cf.shapley(even, n)
    assert abs(psi[0] - psi[1]) < 1e-12
    assert abs(cf.shapley(lambda s: v(s - {n - 1}), n)[n - 1]) < 1e-12


def test_largest_game():
    weights = np.random.default_rng(0).normal(size=10)
    psi = cf.shapley(lambda s: 1 + sum(weights[i] for i in s), 10)
    np.testing.assert_allclose(psi, weights, atol=1e-12)
    assert len(cf.subsets(10)) == len(set(cf.subsets(10))) == 1024
    assert cf.subsets(0) == [frozenset()]
    assert [len(s) for s in cf.subsets(3)] == [0, 1, 1, 1, 2, 2, 2, 3]


def test_sampled_shapley_by_hand():
    v, n = game(3, 4)
    calls = []

    def counted(s):
        calls.append(s)
        return v(s)

    mean, error = cf.shapley_sampled(counted, n, 25, np.random.default_rng(8))
    assert len(calls) == len(set(calls)) <= 16
    rng, rows = np.random.default_rng(8), []
    for _ in range(25):
        order = rng.permutation(n).tolist()
        rows.append(
            [
                v(frozenset(order[: order.index(i) + 1])) - v(frozenset(order[: order.index(i)]))
                for i in range(n)
            ]
        )
    np.testing.assert_allclose(mean, np.mean(rows, axis=0), atol=1e-12)
    np.testing.assert_allclose(error, np.std(rows, axis=0, ddof=1) / 5, atol=1e-12)


def test_sampled_shapley_is_unbiased_and_its_error_calibrated():
    v, n = game(4, 4)
    truth, rng = cf.shapley(v, n).numpy(), np.random.default_rng(0)
    runs = [cf.shapley_sampled(v, n, 30, rng) for _ in range(600)]
    means, errors = (np.array([r[k].numpy() for r in runs]) for k in (0, 1))
    spread = means.std(axis=0, ddof=1)
    assert (np.abs(means.mean(axis=0) - truth) < 4 * spread / np.sqrt(600)).all()
    # 600 runs know a variance to 6 %.
    np.testing.assert_allclose((errors**2).mean(axis=0), spread**2, rtol=0.25)
    inside = (np.abs(means - truth) < 2 * errors).mean()
    assert 0.92 < inside < 0.97


RNG = np.random.default_rng(0)


@pytest.mark.parametrize(
    "name, call",
    [
        ("n", lambda: cf.shapley(len, 17)),
        ("n", lambda: cf.shapley(len, 0)),
        ("n", lambda: cf.shapley(len, 2.0)),
        ("n", lambda: cf.subsets(17)),
        ("n", lambda: cf.subsets(-1)),
        ("value", lambda: cf.shapley(lambda s: NAN, 2)),
        ("value", lambda: cf.shapley(lambda s: None, 2)),
        ("value", lambda: cf.shapley(lambda s: torch.ones(2), 2)),
        ("n", lambda: cf.shapley_sampled(len, 0, 5, RNG)),
        ("permutations", lambda: cf.shapley_sampled(len, 3, 1, RNG)),
        ("rng", lambda: cf.shapley_sampled(len, 3, 5, torch.Generator())),
        ("value", lambda: cf.shapley_sampled(lambda s: float("inf"), 3, 5, RNG)),
        ("do", lambda: cf.HIKER.world(hiker=True)),
        ("do", lambda: cf.HIKER.but_for("boulder", "unharmed", rain=True)),
        ("cause", lambda: cf.HIKER.but_for("rain", "unharmed")),
        ("effect", lambda: cf.HIKER.but_for("boulder", "rain")),
    ],
)
def test_bad_games_and_models_are_named(name, call):
    with pytest.raises(ValueError, match=rf"^{name}: "):
        call()


# --- causal models -------------------------------------------------------------------------------


def test_the_hiker():
    assert cf.HIKER.world() == {"boulder": True, "dodge": True, "unharmed": True}
    quiet = {"boulder": False, "dodge": False, "unharmed": True}
    assert cf.HIKER.world(boulder=False) == quiet
    assert cf.HIKER.world(dodge=False)["unharmed"] is False
    assert cf.HIKER.world(boulder=False, dodge=True)["unharmed"] is True
    assert cf.HIKER.but_for("boulder", "dodge")
    assert cf.HIKER.but_for("dodge", "unharmed")
    assert not cf.HIKER.but_for("boulder", "unharmed")
    assert cf.HIKER.but_for("boulder", "unharmed", dodge=False)
    assert not cf.HIKER.but_for("dodge", "unharmed", boulder=False)


def test_but_for_flips_the_cause_in_the_given_world():
    xor = cf.CausalModel(
        {
            "one": lambda v: True,
            "two": lambda v: False,
            "both": lambda v: v["one"] and v["two"],
            "odd": lambda v: v["one"] != v["two"],
        }
    )
    assert xor.but_for("one", "both", two=True) and not xor.but_for("one", "both")
    assert xor.but_for("one", "odd", two=True)


def test_causal_order_and_interventions():
    chain = cf.CausalModel(
        {"a": lambda v: 2, "b": lambda v: v["a"] + 1, "c": lambda v: v["a"] * v["b"]}
    )
    assert chain.world() == {"a": 2, "b": 3, "c": 6}
    assert chain.world(b=10) == {"a": 2, "b": 10, "c": 20}
    assert chain.world(a=0, c=5) == {"a": 0, "b": 1, "c": 5}
