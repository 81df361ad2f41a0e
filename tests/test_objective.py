"""Losses and their derivatives against numpy formulas and complex steps."""

from itertools import pairwise

import numpy as np
import pytest
import torch
from torch.func import vmap

from lib import models
from lib.objective import (
    LossesOn,
    Objective,
    from_module,
    gradients,
    hessian,
    hessian_product,
    hessian_vector_product,
    loss_on,
    losses,
    losses_on,
    observable_gradient,
    output_hessians,
    output_jacobians,
    outputs,
    weighted_loss,
)
from lib.random_problems import network_problem, normal

# Torch compiles its own rules when a forward derivative is first asked for.
pytestmark = pytest.mark.filterwarnings("ignore:.torch.jit.script:DeprecationWarning")

SEEDS = range(3)


def close(left, right, rtol=1e-10):
    left, right = np.asarray(left), np.asarray(right)
    assert left.shape == right.shape
    assert np.abs(left - right).max() <= rtol * np.abs(right).max()


def soft(f):
    return np.exp(f) / np.exp(f).sum(axis=-1, keepdims=True)


def net(w, x, sizes):
    """The network in numpy, one row an example; w may be complex, for exact derivatives."""
    at = 0
    for layer, (inside, outside) in enumerate(pairwise(sizes)):
        rows = []
        for _ in range(outside):
            rows.append(w[at : at + inside + 1])
            at += inside + 1
        x = np.stack([x @ row[:-1] + row[-1] for row in rows], axis=-1)
        if layer < len(sizes) - 2:
            x = np.tanh(x)
    return x


def complex_step(f, w):
    """The derivative of f at w, along the last axis, to machine precision."""
    step = 1e-30j * np.eye(len(w))
    return np.stack([np.imag(f(w + e)) * 1e30 for e in step], axis=-1)


def richardson(f, w, h=1e-2):
    """The derivative of f at w by central differences of three step lengths, error O(h⁶)."""

    def central(h):
        return np.stack([(f(w + e) - f(w - e)) / (2 * h) for e in h * np.eye(len(w))], axis=-1)

    a, b, c = central(h), central(h / 2), central(h / 4)
    first, second = (4 * b - a) / 3, (4 * c - b) / 3
    return (16 * second - first) / 15


def problem(kind, seed):
    """An objective of the library, and its n losses as a numpy function of w."""
    rng = np.random.default_rng(seed)
    x, y, w = rng.normal(size=(6, 3)), rng.normal(size=6), rng.normal(size=3)
    if kind == "linear":
        made = models.linear(torch.tensor(x), torch.tensor(y), l2=0.7)
        return made, w, lambda w: 0.5 * (y - x @ w) ** 2
    if kind == "logistic":
        y = np.where(y > 0, 1.0, -1.0)
        made = models.logistic(torch.tensor(x), torch.tensor(y), l2=0.7)
        return made, w, lambda w: np.log(1 + np.exp(-y * (x @ w)))
    if kind == "location":
        return models.location(torch.tensor(x)), w, lambda w: 0.5 * ((x - w) ** 2).sum(axis=1)
    if kind == "ab":
        return models.ab_model(torch.tensor(y)), w[:2], lambda w: 0.5 * (y - w[0] * w[1]) ** 2
    if kind == "double well":
        return (
            models.double_well(torch.tensor(y), 0.3),
            w[:1],
            lambda w: 0.3 * (w[0] ** 2 - 1) ** 2 - y * w[0],
        )
    if kind == "poisson":
        counts = np.abs(y).round()
        return (
            models.poisson(torch.tensor(x), torch.tensor(counts), 0.4),
            w,
            lambda w: np.exp(x @ w) - counts * (x @ w),
        )
    if kind == "valley":
        return models.valley(torch.tensor(y)), w[:2], lambda w: 0.5 * w[0] ** 2 + y * w[1]
    sizes = (3, 4, 3) if kind == "classes" else (3, 2, 4, 1)
    mlp = models.MLP(sizes)
    w = 0.6 * rng.normal(size=mlp.p)
    if kind == "classes":
        labels = rng.integers(3, size=6)
        made = mlp.objective(torch.tensor(x), torch.tensor(labels), l2=0.7)

        def each(w):
            return -np.log(soft(net(w, x, sizes))[np.arange(6), labels])
    else:
        made = mlp.objective(torch.tensor(x), torch.tensor(y), 0.7, loss=models.squared_error)

        def each(w):
            return 0.5 * (y - net(w, x, sizes)[:, 0]) ** 2

    return made, w, each


KINDS = [
    "linear",
    "logistic",
    "poisson",
    "location",
    "ab",
    "valley",
    "double well",
    "classes",
    "deep",
]


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("kind", KINDS)
def test_losses_and_all_derivatives(kind, seed):
    objective, w, each = problem(kind, seed)
    rng = np.random.default_rng(100 + seed)
    beta, v = rng.uniform(-0.5, 2, objective.n), rng.normal(size=len(w))
    tw, tb, tv = torch.tensor(w), torch.tensor(beta), torch.tensor(v)
    ridge = objective.l2
    assert objective.n == 6

    close(losses(objective, tw), each(w))
    close(weighted_loss(objective, tw), each(w).sum() + ridge / 2 * (w @ w))
    close(weighted_loss(objective, tw, tb), beta @ each(w) + ridge / 2 * (w @ w))

    per_example = complex_step(each, w)
    close(gradients(objective, tw), per_example)

    bends = richardson(lambda u: complex_step(each, u), w)
    for weights, given in ((np.ones(6), None), (beta, tb)):
        bend = np.tensordot(weights, bends, 1) + ridge * np.eye(len(w))
        close(hessian(objective, tw, given), bend, 1e-8)
        close(hessian_vector_product(objective, tw, tv, given), bend @ v, 1e-8)


@pytest.mark.parametrize("seed", SEEDS)
def test_logistic_derivatives_by_their_formulas(seed):
    objective, w, _ = problem("logistic", seed)
    x, y = objective.x.numpy(), objective.y.numpy()
    s = 1 / (1 + np.exp(-x @ w))
    close(gradients(objective, torch.tensor(w)), ((s - (y + 1) / 2)[:, None] * x))
    close(hessian(objective, torch.tensor(w)), x.T @ np.diag(s * (1 - s)) @ x + 0.7 * np.eye(3))
    close(output_hessians(objective, torch.tensor(w)), (s * (1 - s))[:, None, None])


@pytest.mark.parametrize("seed", SEEDS)
def test_outputs_and_their_derivatives(seed):
    objective, w, _ = problem("classes", seed)
    x, sizes = objective.x.numpy(), (3, 4, 3)
    f = net(w, x, sizes)
    close(outputs(objective, torch.tensor(w)), f)
    jacobians = complex_step(lambda u: net(u, x, sizes), w)
    close(output_jacobians(objective, torch.tensor(w)), jacobians)
    bends = [np.diag(q) - np.outer(q, q) for q in soft(f)]
    close(output_hessians(objective, torch.tensor(w)), bends)


def test_logistic_loss_does_not_overflow():
    f, y = torch.tensor([-800.0], dtype=torch.float64), torch.tensor(1.0, dtype=torch.float64)
    assert models.logistic_loss(f, y) == 800
    assert models.cross_entropy(torch.tensor([800.0, 0.0]), torch.tensor(1)) == 800


def test_loss_on_is_a_mean_without_the_penalty():
    objective, w, _ = problem("linear", 0)
    rng = np.random.default_rng(5)
    x, y = rng.normal(size=(4, 3)), rng.normal(size=4)
    phi = loss_on(objective, torch.tensor(x), torch.tensor(y))
    close(phi(torch.tensor(w)), (0.5 * (y - x @ w) ** 2).mean())
    many = vmap(phi)(torch.tensor(np.stack([w, 2 * w])))
    close(many, [(0.5 * (y - x @ u) ** 2).mean() for u in (w, 2 * w)])


@pytest.mark.parametrize("seed", SEEDS)
def test_losses_on_are_losses_without_the_penalty(seed):
    objective, w, _ = problem("classes", seed)
    rng = np.random.default_rng(seed)
    x, labels = rng.normal(size=(4, 3)), rng.integers(0, 3, 4)

    def each(u):
        f = net(u, x, (3, 4, 3))
        return np.log(np.exp(f).sum(axis=1)) - f[np.arange(4), labels]

    phi, tw = losses_on(objective, torch.tensor(x), torch.tensor(labels)), torch.tensor(w)
    assert isinstance(phi, LossesOn) and phi.watched.l2 == 0 and objective.l2 > 0
    close(phi(tw), each(w))
    close(LossesOn(phi.watched)(tw), each(w))
    close(vmap(phi)(torch.tensor(np.stack([w, 2 * w]))), [each(w), each(2 * w)])
    slopes = complex_step(each, w)
    close(phi.gradient(tw), slopes)
    close(observable_gradient(phi, tw), slopes)
    # With a penalty in the objective that is watched there is still none in the losses.
    close(LossesOn(objective)(tw), losses(objective, tw))
    own = losses_on(objective, objective.x[[4, 1]], objective.y[[4, 1]])
    close(own(tw), losses(objective, tw)[[4, 1]])


@pytest.mark.parametrize("seed", SEEDS)
def test_observable_gradients_by_complex_steps(seed):
    rng = np.random.default_rng(seed)
    w, q, mix = rng.normal(size=4), rng.normal(size=4), rng.normal(size=(3, 4))
    tw, tq, tmix = torch.tensor(w), torch.tensor(q), torch.tensor(mix)
    single = observable_gradient(lambda u: torch.sin(tq @ u) + (tq @ u) ** 2, tw)
    close(single, complex_step(lambda u: np.sin(q @ u) + (q @ u) ** 2, w))
    several = observable_gradient(lambda u: torch.sin(tmix @ u) * u[:3], tw)
    close(several, complex_step(lambda u: np.sin(mix @ u) * u[:3], w))
    assert single.shape == (4,) and several.shape == (3, 4)
    assert observable_gradient(lambda u: u[:1] ** 2, tw).shape == (1, 4)


@pytest.mark.parametrize("p", [63, 64, 65, 130])
def test_a_hessian_of_many_columns(p):
    """They are made 64 at a time: logistic regression's, by its formula."""
    rng = np.random.default_rng(p)
    x, y, w = rng.normal(size=(5, p)), rng.choice([-1.0, 1.0], 5), rng.normal(size=p) / p**0.5
    beta = rng.uniform(-0.5, 2, 5)
    objective = models.logistic(torch.tensor(x), torch.tensor(y), 0.7)
    s = 1 / (1 + np.exp(-x @ w))
    for weights, given in ((np.ones(5), None), (beta, torch.tensor(beta))):
        wanted = (x.T * (weights * s * (1 - s))) @ x + 0.7 * np.eye(p)
        close(hessian(objective, torch.tensor(w), given), wanted)
    single = models.logistic(torch.tensor(x).float(), torch.tensor(y).float(), 0.7)
    found = hessian(single, torch.tensor(w).float())
    assert found.dtype == torch.float32
    close(found, ((x.T * (s * (1 - s))) @ x + 0.7 * np.eye(p)).astype("f"), 1e-5)


def test_take_keeps_the_penalty_whole():
    objective, w, each = problem("classes", 1)
    tw, want = torch.tensor(w), each(w)[[4, 1]]
    some = objective.take(torch.tensor([4, 1]))
    close(losses(some, tw), want)
    close(weighted_loss(some, tw), want.sum() + 0.35 * (w @ w))
    mask = torch.tensor([False, True, False, False, True, False])
    close(losses(objective.take(mask), tw), each(w)[[1, 4]])


def test_mlp_start_has_zero_biases_and_variance_one_over_inputs():
    mlp = models.MLP((50, 80, 3))
    assert mlp.shapes == [(80, 51), (3, 81)] and mlp.p == 80 * 51 + 3 * 81
    first, last = mlp.layers(mlp.initial(torch.Generator().manual_seed(0)))
    assert (first[:, -1] == 0).all() and (last[:, -1] == 0).all()
    assert abs(first[:, :-1].var().item() * 50 - 1) < 0.1
    again = mlp.initial(torch.Generator().manual_seed(0))
    assert torch.equal(again, torch.cat([first.reshape(-1), last.reshape(-1)]))


def test_mlp_shifts_are_added_before_the_nonlinearity():
    rng = np.random.default_rng(0)
    mlp = models.MLP((2, 3, 2))
    w, x = rng.normal(size=mlp.p), rng.normal(size=2)
    s1, s2 = rng.normal(size=3), rng.normal(size=2)
    first, last = w[:9].reshape(3, 3), w[9:].reshape(2, 4)
    a = np.tanh(first @ np.append(x, 1) + s1)
    shifts = [torch.tensor(s1), torch.tensor(s2)]
    f, inputs = mlp.forward(torch.tensor(w), torch.tensor(x), shifts)
    close(f, last @ np.append(a, 1) + s2)
    close(inputs[0], np.append(x, 1))
    close(inputs[1], np.append(a, 1))


def test_with_intercept():
    x = torch.arange(6.0).reshape(3, 2)
    assert models.with_intercept(x).tolist() == [[1, 0, 1], [1, 2, 3], [1, 4, 5]]


class Tied(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.inner = torch.nn.Linear(3, 3).double()
        self.outer = torch.nn.Linear(3, 3).double()
        self.outer.weight = self.inner.weight

    def forward(self, x):
        return self.outer(torch.tanh(self.inner(x)))


@pytest.mark.parametrize("tied", [False, True])
def test_from_module_against_backward(tied):
    torch.manual_seed(0)
    plain = torch.nn.Sequential(torch.nn.Linear(3, 4), torch.nn.ReLU(), torch.nn.Linear(4, 3))
    module = Tied() if tied else plain.double()
    x, y = torch.randn(5, 3).double(), torch.tensor([0, 2, 1, 1, 0])
    objective, w = from_module(module, models.cross_entropy, x, y)
    assert w.shape == (sum(p.numel() for p in module.parameters()),) and not w.requires_grad
    rows = []
    for x_i, y_i in zip(x, y, strict=True):
        module.zero_grad()
        torch.nn.functional.cross_entropy(module(x_i[None]), y_i[None]).backward()
        rows.append(torch.cat([p.grad.reshape(-1) for p in module.parameters()]))
    close(gradients(objective, w), torch.stack(rows))
    before = losses(objective, w)
    assert not torch.equal(losses(objective, w + 1), before)
    assert torch.equal(losses(objective, w), before)


X, Y, W = torch.ones(3, 2).double(), torch.ones(3).double(), torch.ones(2).double()
NAN = float("nan")
LINE = models.linear(X, Y)
MLP = models.MLP((2, 3, 2))
PLANE = MLP.objective(X, Y, loss=models.squared_error)
VECTOR_LOSS = Objective(LINE.predict, lambda f, y: f - y, X, Y)


@pytest.mark.parametrize(
    "name, call",
    [
        ("x", lambda: models.linear(X[:, 0], Y)),
        ("x", lambda: models.linear(X * NAN, Y)),
        ("x", lambda: models.linear(X.long(), Y)),
        ("x", lambda: models.linear(X.tolist(), Y)),
        ("x", lambda: models.linear(X[:0], Y[:0])),
        ("x", lambda: models.with_intercept(Y)),
        ("y", lambda: models.linear(X, Y[:2])),
        ("y", lambda: models.linear(X, Y[:, None])),
        ("y", lambda: models.linear(X, Y * NAN)),
        ("y", lambda: models.logistic(X, 0 * Y)),
        ("l2", lambda: models.linear(X, Y, l2=-1.0)),
        ("l2", lambda: models.linear(X, Y, l2=NAN)),
        ("l2", lambda: models.linear(X, Y, l2="1")),
        ("l2", lambda: models.linear(X, Y, l2=True)),
        ("x", lambda: Objective(LINE.predict, LINE.loss, 3.0, Y)),
        ("y", lambda: Objective(LINE.predict, LINE.loss, X, Y[:1])),
        ("z", lambda: models.location(Y)),
        ("z", lambda: models.ab_model(X)),
        ("s", lambda: models.valley(X)),
        ("s", lambda: models.double_well(X)),
        ("y", lambda: models.poisson(X, -1 - Y.abs())),
        ("y", lambda: models.poisson(X, Y[1:])),
        ("sizes", lambda: models.MLP((3,))),
        ("sizes", lambda: models.MLP((3, 0, 1))),
        ("sizes", lambda: models.MLP((3, 1.5))),
        ("x", lambda: MLP.objective(Y[:, None], torch.ones(3).long())),
        ("y", lambda: MLP.objective(X, torch.tensor([0, 1, 2]))),
        ("y", lambda: MLP.objective(X, torch.tensor([0, 1, -1]))),
        ("y", lambda: MLP.objective(X, torch.tensor([0.0, 1.0, 0.5]))),
        ("y", lambda: models.MLP((2, 1)).objective(X, 0 * Y, loss=models.logistic_loss)),
        (
            "y",
            lambda: losses(PLANE, torch.ones(17).double()),
        ),
        ("w", lambda: losses(LINE, W * NAN)),
        ("w", lambda: losses(LINE, torch.ones(3).double())),
        ("w", lambda: losses(LINE, torch.ones(2, 1).double())),
        ("w", lambda: losses(LINE, W.float())),
        ("w", lambda: losses(LINE, [1.0, 1.0])),
        ("w", lambda: losses(models.location(X), W[:1])),
        ("w", lambda: losses(models.ab_model(Y), Y)),
        ("w", lambda: losses(models.valley(Y), Y)),
        ("w", lambda: weighted_loss(LINE, W[:1])),
        ("w", lambda: gradients(LINE, W * NAN)),
        ("w", lambda: hessian(LINE, W * NAN)),
        ("w", lambda: hessian_vector_product(LINE, W * NAN, W)),
        ("w", lambda: outputs(LINE, W * NAN)),
        ("w", lambda: output_jacobians(LINE, W * NAN)),
        ("w", lambda: output_hessians(LINE, W * NAN)),
        ("w", lambda: outputs(LINE, Y)),
        ("w", lambda: MLP.layers(W)),
        ("x", lambda: MLP.predict(torch.ones(17).double(), Y)),
        ("v", lambda: hessian_vector_product(LINE, W, Y)),
        ("v", lambda: hessian_vector_product(LINE, W, W * NAN)),
        ("beta", lambda: weighted_loss(LINE, W, W)),
        ("beta", lambda: weighted_loss(LINE, W, Y[:, None])),
        ("beta", lambda: hessian(LINE, W, W)),
        ("beta", lambda: hessian(LINE, W, Y * NAN)),
        ("beta", lambda: hessian_vector_product(LINE, W, W, Y * NAN)),
        ("loss", lambda: losses(VECTOR_LOSS, W)),
        ("loss", lambda: gradients(VECTOR_LOSS, W)),
        ("x", lambda: loss_on(LINE, X[:0], Y[:0])),
        ("x", lambda: loss_on(LINE, X * NAN, Y)),
        ("y", lambda: loss_on(LINE, X, Y[:2])),
        ("index", lambda: LINE.take(torch.tensor([3]))),
        ("index", lambda: LINE.take(torch.tensor([-1]))),
        ("index", lambda: LINE.take(torch.tensor(1))),
        ("index", lambda: LINE.take(torch.tensor([True]))),
        ("index", lambda: LINE.take(torch.zeros(3).bool())),
        ("index", lambda: LINE.take(torch.tensor([0.0]))),
        ("x", lambda: losses_on(LINE, X[:0], Y[:0])),
        ("x", lambda: losses_on(LINE, X * NAN, Y)),
        ("y", lambda: losses_on(LINE, X, Y[:2])),
        ("w", lambda: losses_on(LINE, X, Y)(W[:1])),
        ("w", lambda: losses_on(LINE, X, Y).gradient(W * NAN)),
        ("w", lambda: observable_gradient(torch.sum, W * NAN)),
        ("w", lambda: observable_gradient(torch.sum, W.long())),
        ("phi", lambda: observable_gradient(lambda w: w[None], W)),
        ("phi", lambda: observable_gradient(lambda w: 1.0, W)),
        ("phi", lambda: observable_gradient(lambda w: w / 0, W)),
        ("phi", lambda: observable_gradient(lambda w: w.sum() * NAN, W)),
        ("module", lambda: from_module(torch.nn.ReLU(), models.squared_error, X, Y)),
    ],
)
def test_bad_input_is_named(name, call):
    with pytest.raises(ValueError, match=rf"^{name}: expected"):
        call()


def test_many_hessian_products_at_one_point(rng):
    c = network_problem(rng)
    beta = 1 + 0.3 * normal(rng, c.objective.n)
    product, rows = hessian_product(c.objective, c.w, beta), normal(rng, 5, len(c.w))
    want = torch.stack([hessian_vector_product(c.objective, c.w, v, beta) for v in rows])
    torch.testing.assert_close(product(rows[0]), want[0])
    torch.testing.assert_close(torch.func.vmap(product)(rows), want)
    with pytest.raises(ValueError, match=r"^v: "):
        product(rows)
    with pytest.raises(ValueError, match=r"^w: "):
        hessian_product(c.objective, c.w * torch.nan)
