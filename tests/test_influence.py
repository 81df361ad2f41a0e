"""Influence against retraining, and every solver against dense linear algebra."""

import numpy as np
import pytest
import torch
from torch.func import grad

from lib import influence as inf
from lib import models
from lib.counterfactuals import fit, leave_one_out
from lib.curvature import ekfac, kfac, kronecker
from lib.objective import Objective, loss_on, losses_on, outputs

# Torch compiles its own rules when a forward derivative is first asked for.
pytestmark = pytest.mark.filterwarnings("ignore:.torch.jit.script:DeprecationWarning")

SEEDS = range(3)
NAN = float("nan")


def close(left, right, rtol=1e-8):
    left, right = np.asarray(left), np.asarray(right)
    assert left.shape == right.shape
    assert np.abs(left - right).max() <= rtol * np.abs(right).max()


def richardson(f, h):
    """The derivative at 0 of a function of one number, error O(h⁶)."""
    a, b, c = ((f(t) - f(-t)) / (2 * t) for t in (h, h / 2, h / 4))
    first, second = (4 * b - a) / 3, (4 * c - b) / 3
    return (16 * second - first) / 15


def newton(x, y, beta, ridge):
    """Weighted, penalised logistic regression by its textbook formulas."""
    w = np.zeros(x.shape[1])
    for _ in range(40):
        s = 1 / (1 + np.exp(-x @ w))
        slope = x.T @ (beta * (s - (y + 1) / 2)) + ridge * w
        w = w - np.linalg.solve((x.T * (beta * s * (1 - s))) @ x + ridge * np.eye(len(w)), slope)
    return w


def classified(seed, n=10, p=3):
    rng = np.random.default_rng(seed)
    x, y, ridge = rng.normal(size=(n, p)) + 0.5, rng.choice([-1.0, 1.0], n), rng.uniform(0.3, 1)
    w = newton(x, y, np.ones(n), ridge)
    model = models.logistic(torch.tensor(x), torch.tensor(y), l2=float(ridge))
    return x, y, ridge, w, model, rng.normal(size=p)


def phi(q):
    return lambda w: torch.sin(w @ torch.tensor(q)) + (w @ torch.tensor(q)) ** 2


def numpy_phi(q, w):
    return np.sin(w @ q) + (w @ q) ** 2


@pytest.mark.parametrize("seed", SEEDS)
def test_influence_is_the_derivative_of_retraining(seed):
    x, y, ridge, w, model, q = classified(seed)
    eye = np.eye(len(x))
    moved = np.array([richardson(lambda t, e=e: newton(x, y, 1 + t * e, ridge), 0.05) for e in eye])
    watched = [
        richardson(lambda t, e=e: numpy_phi(q, newton(x, y, 1 + t * e, ridge)), 0.05) for e in eye
    ]
    close(inf.parameter_influence(model, torch.tensor(w)), moved)
    close(inf.influence(model, torch.tensor(w), phi(q)), watched)


@pytest.mark.parametrize("seed", SEEDS)
def test_formula_at_any_point_and_with_any_solve(seed):
    x, y, ridge, _, model, q = classified(seed)
    rng = np.random.default_rng(seed)
    w, lam = rng.normal(size=3), 0.8
    s = 1 / (1 + np.exp(-x @ w))
    g = (s - (y + 1) / 2)[:, None] * x
    bend = (x.T * (s * (1 - s))) @ x + ridge * np.eye(3)
    slope = (np.cos(w @ q) + 2 * (w @ q)) * q
    inverse = np.linalg.inv(bend + lam * np.eye(3))
    solve = inf.direct(torch.tensor(bend), lam)
    tw = torch.tensor(w)
    close(inf.influence(model, tw, phi(q), solve), -g @ inverse @ slope, 1e-10)
    close(inf.parameter_influence(model, tw, solve), -g @ inverse, 1e-10)
    close(inf.influence(model, tw, phi(q)), -g @ np.linalg.inv(bend) @ slope, 1e-10)


@pytest.mark.parametrize("seed", SEEDS)
def test_many_observables_at_once(seed):
    """Against retraining: the losses on new examples, and another function with several values."""
    x, y, ridge, w, model, _ = classified(seed)
    rng = np.random.default_rng(seed)
    there, labels, mix = (
        rng.normal(size=(4, 3)),
        rng.choice([-1.0, 1.0], 4),
        rng.normal(size=(2, 3)),
    )
    tw, tmix, eye = torch.tensor(w), torch.tensor(mix), np.eye(len(x))
    cases = [
        (
            losses_on(model, torch.tensor(there), torch.tensor(labels)),
            lambda v: np.logaddexp(0, -labels * (there @ v)),
            4,
        ),
        (lambda v: torch.sin(tmix @ v) * v[:2], lambda v: np.sin(mix @ v) * v[:2], 2),
        (lambda v: v[1:2] ** 2, lambda v: v[1:2] ** 2, 1),
    ]
    for observable, by_numpy, k in cases:
        moved = [
            richardson(lambda t, e=e, f=by_numpy: f(newton(x, y, 1 + t * e, ridge)), 0.05)
            for e in eye
        ]
        found = inf.influence(model, tw, observable)
        assert found.shape == (len(x), k)
        close(found, moved)


@pytest.mark.parametrize("seed", SEEDS)
def test_many_observables_with_every_solve(seed):
    mlp, objective, w, jacobians, bends = network(seed)
    n, damping, rng = objective.n, 0.8, np.random.default_rng(seed)
    x, y = torch.tensor(rng.normal(size=(4, 2))), torch.tensor([0, 2, 1, 2])
    observable = losses_on(objective, x, y)
    curvature = 0.3 * np.eye(mlp.p) + sum(
        j.T @ b @ j for j, b in zip(jacobians, bends, strict=True)
    )
    labels = np.eye(3)[objective.y.numpy()]
    s = outputs(objective, w).softmax(dim=1).numpy()
    slopes = np.einsum("nc,ncp->np", s - labels, jacobians)
    h = 1e-5
    pushes = np.stack(
        [
            (observable(w + h * e) - observable(w - h * e)) / (2 * h)
            for e in torch.eye(mlp.p).double()
        ],
        axis=1,
    )
    wanted = -slopes @ np.linalg.inv(curvature + damping * np.eye(mlp.p)) @ pushes.T
    free = inf.matrix_free(
        lambda v: inf.gauss_newton_vector_product(objective, w, v), damping=damping
    )
    for solve in (
        inf.direct(torch.tensor(curvature), damping),
        inf.pseudoinverse(torch.tensor(curvature + damping * np.eye(mlp.p))),
        free,
    ):
        close(inf.influence(objective, w, observable, solve), wanted, 1e-7)
    for blocks in (kfac(mlp, objective, w), ekfac(mlp, objective, w)):
        dense = np.zeros((mlp.p, mlp.p))
        dense[:9, :9], dense[9:, 9:] = (block.matrix() for block in blocks)
        wanted = -slopes @ np.linalg.inv(dense + damping * np.eye(mlp.p)) @ pushes.T
        found = inf.influence(objective, w, observable, kronecker(blocks, damping))
        assert found.shape == (n, 4)
        close(found, wanted, 1e-7)


def test_columns():
    rows = torch.arange(6.0).view(2, 3)
    assert torch.equal(inf.columns(rows[0]), rows[0])
    assert inf.columns(rows).tolist() == [[0, 3], [1, 4], [2, 5]]


@pytest.mark.parametrize("seed", SEEDS)
def test_influence_knows_no_scale_of_the_objective(seed):
    _, _, ridge, w, model, q = classified(seed)
    tw = torch.tensor(w)
    mean = Objective(
        model.predict, lambda f, y: model.loss(f, y) / model.n, model.x, model.y, ridge / model.n
    )
    close(inf.influence(mean, tw, phi(q)), inf.influence(model, tw, phi(q)).numpy(), 1e-10)


@pytest.mark.parametrize("seed", SEEDS)
def test_signs(seed):
    _, _, _, w, model, _ = classified(seed, n=200)
    tw = torch.tensor(w)
    for i in (0, 7, 31):
        own = inf.influence(model, tw, loss_on(model, model.x[[i]], model.y[[i]]))
        assert own[i] < 0
    seen = loss_on(model, model.x[:20] + 0.3, model.y[:20])
    some = torch.arange(0, 200, 5)
    left_out = leave_one_out(lambda b: fit(model, b, tw), seen, 200, some)
    predicted = -inf.influence(model, tw, seen)[some]
    assert (left_out - predicted).norm() < 0.1 * left_out.norm()


# --- curvature -----------------------------------------------------------------------------------


def network(seed, classes=3):
    """A network, its objective, its parameters, and J_i and ∂²ℓ/∂f² by numpy."""
    rng = np.random.default_rng(seed)
    mlp = models.MLP((2, 3, classes))
    x, w = rng.normal(size=(7, 2)), 0.7 * rng.normal(size=mlp.p)
    if classes == 1:
        y = torch.tensor(rng.normal(size=7))
        objective = mlp.objective(torch.tensor(x), y, 0.3, loss=models.squared_error)
    else:
        y = torch.tensor(np.arange(7) % classes)
        objective = mlp.objective(torch.tensor(x), y, 0.3)

    def f(w):
        hidden = np.tanh(x @ w[:9].reshape(3, 3)[:, :2].T + w[:9].reshape(3, 3)[:, 2])
        last = w[9:].reshape(classes, 4)
        return hidden @ last[:, :3].T + last[:, 3]

    step = 1e-30
    jacobians = np.stack([f(w + 1j * step * e).imag / step for e in np.eye(mlp.p)], axis=-1)
    if classes == 1:
        bends = np.ones((7, 1, 1))
    else:
        s = np.exp(f(w)) / np.exp(f(w)).sum(axis=1, keepdims=True)
        bends = np.array([np.diag(p) - np.outer(p, p) for p in s])
    return mlp, objective, torch.tensor(w), jacobians, bends


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("classes", [1, 3])
def test_gauss_newton_by_loops(seed, classes):
    mlp, objective, w, jacobians, bends = network(seed, classes)
    total = 0.3 * np.eye(mlp.p)
    for j, b in zip(jacobians, bends, strict=True):
        total = total + j.T @ b @ j
    close(inf.gauss_newton(objective, w), total, 1e-10)
    v = np.random.default_rng(seed).normal(size=mlp.p)
    found = inf.gauss_newton_vector_product(objective, w, torch.tensor(v))
    close(found, total @ v, 1e-10)


def test_gauss_newton_of_a_linear_model_is_its_hessian():
    x, _, ridge, w, model, _ = classified(0)
    s = 1 / (1 + np.exp(-x @ w))
    bend = (x.T * (s * (1 - s))) @ x + ridge * np.eye(3)
    close(inf.gauss_newton(model, torch.tensor(w)), bend, 1e-10)


def symmetric(seed, values):
    q = np.linalg.qr(np.random.default_rng(seed).normal(size=(len(values),) * 2))[0]
    return (q * values) @ q.T


@pytest.mark.parametrize("values", [[1.0, 2, 3, 9], [-2.0, 1, 5, 7]])
@pytest.mark.parametrize("damping", [0.0, 0.4])
def test_direct(values, damping):
    c = symmetric(0, np.array(values))
    b = np.random.default_rng(1).normal(size=(5, 4))
    solve = inf.direct(torch.tensor(c), damping)
    want = np.linalg.solve(c + damping * np.eye(4), b.T).T
    close(solve(torch.tensor(b)), want, 1e-10)
    close(solve(torch.tensor(b[2])), want[2], 1e-10)


@pytest.mark.parametrize("damping", [0.0, 0.4])
def test_direct_in_single_precision(damping):
    """What is symmetric up to rounding passes, and what is singular up to rounding does not."""
    c = symmetric(3, [0.5, 1.0, 4.0, 9.0])
    rng = np.random.default_rng(0)
    v = rng.normal(size=(3, 4))
    rounded = torch.tensor(c).float() * (1 + 1e-6 * torch.tensor(rng.normal(size=(4, 4))).float())
    assert not torch.equal(rounded, rounded.T)
    found = inf.direct(rounded, damping)(torch.tensor(v).float())
    assert found.dtype == torch.float32
    close(found, np.linalg.solve(c + damping * np.eye(4), v.T).T.astype("f"), 1e-4)
    with pytest.raises(ValueError, match=r"^curvature: expected a symmetric matrix"):
        inf.direct(torch.tensor(c) * (1 + 1e-6 * torch.tensor(rng.normal(size=(4, 4)))))
    with pytest.raises(ValueError, match=r"^curvature: expected a symmetric matrix"):
        inf.direct(rounded * (1 + 0.01 * torch.tensor(rng.normal(size=(4, 4))).float()))
    singular = torch.tensor(symmetric(3, [1e-6, 1.0, 4.0, 9.0]))
    with pytest.raises(ValueError, match=r"^curvature: singular matrix"):
        inf.direct(singular.float())
    assert torch.isfinite(inf.direct(singular)(torch.tensor(v))).all()


@pytest.mark.parametrize("seed", SEEDS)
def test_kronecker_factors_in_single_precision(seed):
    mlp, objective, w, _, _ = network(seed)
    single = mlp.objective(objective.x.float(), objective.y)
    v = torch.tensor(np.random.default_rng(seed).normal(size=(2, mlp.p)))
    for method in (kfac, ekfac):
        precise = kronecker(method(mlp, objective, w), 0.5)(v)
        found = kronecker(method(mlp, single, w.float()), 0.5)(v.float())
        assert found.dtype == torch.float32
        close(found, precise.float(), 1e-4)
    hollow = mlp.objective(
        objective.x.float(), objective.y, loss=lambda f, y: -models.cross_entropy(f, y)
    )
    with pytest.raises(ValueError, match=r"^objective: expected a loss that is convex"):
        ekfac(mlp, hollow, w.float())


def test_pseudoinverse():
    c = symmetric(0, np.array([-2.0, 0, 1e-5, 5]))
    b = np.random.default_rng(1).normal(size=(5, 4))
    close(inf.pseudoinverse(torch.tensor(c))(torch.tensor(b)), b @ np.linalg.pinv(c), 1e-8)
    cut = inf.pseudoinverse(torch.tensor(c), rtol=1e-4)(torch.tensor(b[0]))
    close(cut, np.linalg.pinv(c, rcond=1e-4) @ b[0], 1e-10)
    assert (inf.pseudoinverse(torch.zeros(2, 2))(torch.ones(2)) == 0).all()


@pytest.mark.parametrize("damping", [0.0, 0.7])
def test_conjugate_gradient(damping):
    c = torch.tensor(symmetric(3, np.array([0.1, 1, 2, 3, 40, 50])))
    b = torch.tensor(np.random.default_rng(2).normal(size=(3, 6)))
    x, report = inf.conjugate_gradient(lambda v: c @ v, b[0], damping=damping)
    want = np.linalg.solve(c.numpy() + damping * np.eye(6), b.numpy().T).T
    close(x, want[0], 1e-7)
    left = (b[0] - c @ x - damping * x).norm() / b[0].norm()
    assert report.residual == pytest.approx(left.item(), rel=1e-6, abs=1e-15) and left < 1e-9
    assert 6 <= report.iterations < 20
    solve = inf.matrix_free(lambda v: c @ v, damping=damping, tolerance=1e-12)
    close(solve(b), want, 1e-9)
    close(solve(b[1]), want[1], 1e-9)
    x, report = inf.conjugate_gradient(lambda v: c @ v, 0 * b[0])
    assert (x == 0).all() and report == inf.Convergence(0, 0.0)


@pytest.mark.parametrize("block", [1, 2, 7])
def test_systems_solved_together_are_those_apart(block):
    rng = np.random.default_rng(4)
    values = 10 ** rng.uniform(-1, 2, 23)
    c, b = torch.tensor(symmetric(5, values)), torch.tensor(rng.normal(size=(7, 23)))
    b[3] = 0
    b[5] = 2 * b[1]  # a space of five dimensions, then
    want = np.linalg.solve(c.numpy() + 0.3 * np.eye(23), b.numpy().T).T
    solve = inf.matrix_free(lambda v: c @ v, damping=0.3, tolerance=1e-12, block=block)
    close(solve(b), want, 1e-9)
    together, report = inf.conjugate_gradient(lambda v: c @ v, b, damping=0.3)
    close(together, want, 1e-7)
    left = (b - together @ c - 0.3 * together).norm(dim=1) / b.norm(dim=1).clamp(min=1e-300)
    assert report.residual == pytest.approx(left.max().item(), rel=1e-5) and left.max() < 1e-9
    alone = inf.conjugate_gradient(lambda v: c @ v, b[0], damping=0.3)[1]
    assert report.iterations < alone.iterations
    with pytest.raises(ValueError, match=r"^product: curvature -"):
        inf.conjugate_gradient(lambda v: c @ v - 20 * v, b)


def test_conjugate_gradient_is_exact_after_as_many_steps_as_eigenvalues():
    c = torch.tensor(symmetric(3, np.array([1.0, 1, 1, 4, 4, 4])))
    _, report = inf.conjugate_gradient(lambda v: c @ v, torch.arange(1.0, 7.0).double())
    assert report.iterations == 2
    with pytest.raises(ValueError, match=r"^max_iterations: 1 "):
        inf.conjugate_gradient(lambda v: c @ v, torch.arange(1.0, 7.0).double(), max_iterations=1)


# --- the proximal Bregman response ---------------------------------------------------------------


@pytest.mark.parametrize("seed", SEEDS)
def test_bregman_of_cross_entropy_is_a_divergence(seed):
    _, objective, w, _, _ = network(seed)
    f = outputs(objective, w)
    g = f + torch.tensor(np.random.default_rng(seed).normal(size=(7, 3)))
    p, q = (torch.softmax(t, 1).numpy() for t in (f, g))
    close(inf.bregman(objective, g, f), (p * np.log(p / q)).sum(axis=1), 1e-10)
    _, objective, w, _, _ = network(seed, 1)
    f = outputs(objective, w)
    want = 0.5 * np.arange(7.0) ** 2
    found = inf.bregman(objective, f + torch.arange(7.0).double()[:, None], f)
    np.testing.assert_allclose(found, want, atol=1e-12)


@pytest.mark.parametrize("seed", SEEDS)
def test_proximal_objective_written_out(seed):
    mlp, objective, w, _, _ = network(seed)
    rng = np.random.default_rng(seed)
    beta, u = rng.uniform(0, 2, 7), w + 0.5 * torch.tensor(rng.normal(size=mlp.p))
    p, q = (torch.log_softmax(outputs(objective, t), 1).numpy() for t in (w, u))
    labels = objective.y.numpy()
    want = (
        (np.exp(p) * (p - q)).sum()
        + (beta - 1) @ -q[np.arange(7), labels]
        + 0.5 * (0.2 + 0.3) * ((u - w) ** 2).sum().item()
    )
    value = inf.proximal_bregman(objective, w, 0.2)
    close(value(u, torch.tensor(beta)), want, 1e-10)
    assert value(w, torch.ones(7).double()) == 0
    assert grad(value)(w, torch.ones(7).double()).abs().max() < 1e-14


def test_proximal_response_of_least_squares():
    rng = np.random.default_rng(0)
    x, y, w = rng.normal(size=(8, 3)), rng.normal(size=8), rng.normal(size=3)
    model = models.linear(torch.tensor(x), torch.tensor(y), l2=0.2)
    beta = rng.uniform(0.9, 1.1, (4, 8))
    found = inf.proximal_response(model, torch.tensor(w), torch.tensor(beta), 0.5)
    # ½Σ(xᵀ(u − w))² + Σ(β − 1)½(y − xᵀu)² + ½·0.7‖u − w‖²: quadratic in u.
    want = [
        np.linalg.solve(
            x.T @ (b[:, None] * x) + 0.7 * np.eye(3),
            x.T @ (x @ w) + x.T @ ((b - 1) * y) + 0.7 * w,
        )
        for b in beta
    ]
    close(found, want, 1e-9)


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("classes", [1, 3])
def test_pbrf_is_damped_gauss_newton_influence(seed, classes):
    mlp, objective, w, jacobians, bends = network(seed, classes)
    q = np.random.default_rng(seed).normal(size=mlp.p)
    f = outputs(objective, w).numpy()
    if classes == 1:
        slopes = f - objective.y.numpy()[:, None]
    else:
        s = np.exp(f) / np.exp(f).sum(axis=1, keepdims=True)
        slopes = s - np.eye(3)[objective.y.numpy()]
    g = np.einsum("ncp,nc->np", jacobians, slopes)
    curvature = np.einsum("ncp,ncd,ndq->pq", jacobians, bends, jacobians)
    wq = w.numpy() @ q
    slope = (np.cos(wq) + 2 * wq) * q
    want = -g @ np.linalg.solve(curvature + (0.3 + 0.9) * np.eye(mlp.p), slope)
    some = torch.tensor([5, 0])
    coarse, fine = (inf.pbrf(objective, w, phi(q), 0.9, some, step=h) for h in (4e-3, 2e-3))
    close((4 * fine - coarse) / 3, want[[5, 0]], 1e-7)
    close(inf.pbrf(objective, w, phi(q), 0.9), want, 1e-4)
    found = inf.influence(objective, w, phi(q), inf.direct(inf.gauss_newton(objective, w), 0.9))
    close(found, want, 1e-10)


# --- bad input -----------------------------------------------------------------------------------

_, _, _, W, MODEL, _ = classified(0)
W = torch.tensor(W)
EYE = torch.eye(3).double()
SKEW = torch.tensor([[1.0, 1.0], [0.0, 1.0]])
FLAT = models.linear(torch.ones(4, 3).double(), torch.ones(4).double())
OUT = outputs(MODEL, W)


def cg(c, b=W, **options):
    return inf.conjugate_gradient(lambda v: c @ v, b, **options)


@pytest.mark.parametrize(
    "name, call",
    [
        ("w", lambda: inf.influence(MODEL, W * NAN, torch.sum)),
        ("w", lambda: inf.influence(MODEL, torch.ones(4).double(), torch.sum)),
        ("phi", lambda: inf.influence(MODEL, W, lambda w: w[None])),
        ("curvature", lambda: inf.influence(FLAT, W, torch.sum)),
        ("curvature", lambda: inf.parameter_influence(FLAT, W)),
        ("w", lambda: inf.gauss_newton(MODEL, W * NAN)),
        ("w", lambda: inf.gauss_newton_vector_product(MODEL, W * NAN, W)),
        ("v", lambda: inf.gauss_newton_vector_product(MODEL, W, W[:2])),
        ("v", lambda: inf.gauss_newton_vector_product(MODEL, W, W * NAN)),
        ("curvature", lambda: inf.direct(SKEW)),
        ("curvature", lambda: inf.direct(EYE[:2])),
        ("curvature", lambda: inf.direct(EYE * NAN)),
        ("curvature", lambda: inf.direct(W)),
        ("curvature", lambda: inf.direct(torch.zeros(0, 0))),
        ("curvature", lambda: inf.direct(torch.ones(3, 3))),
        ("curvature", lambda: inf.direct(torch.ones(3, 3).double())),
        ("curvature", lambda: inf.direct(-EYE, 1.0)),
        ("damping", lambda: inf.direct(EYE, -0.1)),
        ("damping", lambda: inf.direct(EYE, NAN)),
        ("v", lambda: inf.direct(EYE)(W[:2])),
        ("v", lambda: inf.direct(EYE)(W * NAN)),
        ("curvature", lambda: inf.pseudoinverse(SKEW)),
        ("rtol", lambda: inf.pseudoinverse(EYE, rtol=0)),
        ("v", lambda: inf.pseudoinverse(EYE)(W[:, None])),
        ("b", lambda: cg(EYE, torch.ones(4, 3).double())),
        ("b", lambda: cg(EYE, W[:, None, None])),
        ("block", lambda: inf.matrix_free(lambda v: v, block=0)),
        ("b", lambda: cg(EYE, W * NAN)),
        ("damping", lambda: cg(EYE, damping=-1.0)),
        ("tolerance", lambda: cg(EYE, tolerance=0.0)),
        ("max_iterations", lambda: cg(EYE, max_iterations=0)),
        ("product", lambda: cg(-EYE)),
        ("product", lambda: cg(EYE * torch.tensor([1.0, -2.0, 3.0]), damping=0.5)),
        ("product", lambda: cg(EYE * NAN)),
        ("product", lambda: cg(0 * EYE)),
        ("v", lambda: inf.matrix_free(lambda v: v)(W * NAN)),
        ("f", lambda: inf.bregman(MODEL, OUT[:2], OUT)),
        ("f", lambda: inf.bregman(MODEL, OUT[:, 0], OUT)),
        ("f_star", lambda: inf.bregman(MODEL, OUT, OUT[:, 0])),
        ("w_star", lambda: inf.proximal_bregman(MODEL, W * NAN, 1.0)),
        ("damping", lambda: inf.proximal_bregman(MODEL, W, -1.0)),
        ("beta", lambda: inf.proximal_response(MODEL, W, torch.ones(10).double(), 1.0)),
        ("beta", lambda: inf.proximal_response(MODEL, W, 1e4 * torch.ones(1, 10).double(), 1e-3)),
        ("step", lambda: inf.pbrf(MODEL, W, torch.sum, 1.0, step=0.0)),
        ("damping", lambda: inf.pbrf(MODEL, W, torch.sum, -1.0)),
        ("indices", lambda: inf.pbrf(MODEL, W, torch.sum, 1.0, torch.tensor([10]))),
        ("indices", lambda: inf.pbrf(MODEL, W, torch.sum, 1.0, torch.tensor([-1]))),
        ("phi", lambda: inf.pbrf(MODEL, W, lambda w: w, 1.0)),
    ],
)
def test_bad_input_is_named(name, call):
    with pytest.raises(ValueError, match=rf"^{name}: "):
        call()


def test_negative_eigenvalues_keep_their_sign():
    solve = inf.direct(torch.diag(torch.tensor([-2.0, 4.0])), 1.0)
    assert torch.allclose(solve(torch.ones(2)), torch.tensor([-1.0, 0.2]))
