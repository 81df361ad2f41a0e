"""The derivative of a training run by five routes, and each of them against numpy."""

import itertools
import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from lib import models
from lib import training as tr
from lib import unrolling as un
from lib.models import MLP, Transformer, squared_error
from lib.objective import losses_on
from lib.random_problems import network_problem
from lib.replay import replay
from lib.training import SGD, Adam, Momentum, Run, states, trajectory

# Torch compiles its own rules when a forward derivative is first asked for.
pytestmark = pytest.mark.filterwarnings("ignore:.torch.jit.script:DeprecationWarning")

few = settings(deadline=None, max_examples=10, derandomize=True)
seeds = st.integers(0, 10**6)
NAN, INF = float("nan"), float("inf")


def close(left, right, rtol=1e-10):
    left, right = np.asarray(left), np.asarray(right)
    assert left.shape == right.shape
    assert np.isfinite(left).all() and np.abs(left - right).max() <= rtol * np.abs(right).max()


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def central(f, h=1e-3):
    """The derivative at 0 of a function of one number, error O(h⁴)."""
    return (8 * (f(h) - f(-h)) - (f(2 * h) - f(-2 * h))) / (12 * h)


# --- all routes agree ----------------------------------------------------------------------------

T = 11
OPTIMIZERS = {
    "sgd": (SGD(), tr.cosine(0.5, T)),
    "momentum": (Momentum(), tr.decaying(0.2, T)),
    "nesterov": (Momentum(0.8, nesterov=True), tr.cosine(0.2, T, warmup=3)),
    "adam": (Adam(), tr.cosine(0.05, T, warmup=3)),
    "adam with a large ϵ": (Adam(0.5, 0.9, eps=0.1), tr.constant(0.1, T)),
    "adamw": (Adam(weight_decay=0.3), tr.cosine(0.05, T, warmup=3, end=0.01)),
}
EACH = pytest.mark.parametrize("name", OPTIMIZERS)


def network_run(seed, name="sgd", size=3, classes=3, l2=0.4):
    """Mini-batch training of a penalised tanh network, and a curved observable."""
    problem = network_problem(np.random.default_rng(seed), classes)
    objective, (optimizer, rates) = replace(problem.objective, l2=l2), OPTIMIZERS[name]
    size = objective.n if size is None else size
    batches = tr.resampled(objective.n, size, T, generator(seed))
    return Run(objective, problem.w, optimizer, batches, rates), problem.phi


@EACH
@pytest.mark.parametrize("seed, size, classes", [(0, 3, 3), (1, 1, 3), (2, None, 1)])
def test_every_route_to_the_derivative_agrees(name, seed, size, classes):
    run, phi = network_run(seed, name, size, classes)
    exact = un.reverse_mode(run, phi, progress=False)
    close(un.by_retraining(run, phi, step=3e-4), exact, 1e-6)
    close(un.forward_mode(run, phi, progress=False), exact, 1e-12)
    assert torch.equal(replay(run, phi, k=3, progress=False).influence, exact)
    seen = run.batches.flatten().unique()
    assert (exact[seen] != 0).all() and (exact != 0).sum() == len(seen)


@EACH
@pytest.mark.parametrize("seed, size", [(0, 3), (2, None)])
def test_many_observables_at_once(name, seed, size):
    """∂φ/∂β = ∂φ/∂w ∂w/∂β, the first factor by differences of φ, for k = 3 and for k = 1."""
    run, _ = network_run(seed, name, size)
    rng = np.random.default_rng(seed)
    p = len(run.w0)
    mix = torch.tensor(rng.normal(size=(3, p)))
    x = torch.tensor(rng.normal(size=(3, run.objective.x.shape[1])))
    *_, (last, response) = un.responses(run, progress=False)
    for phi in (
        lambda w: torch.sin(mix @ w) + w[:3] ** 2,
        losses_on(run.objective, x, torch.tensor([2, 0, 1])),
        lambda w: torch.cos(mix[:1] @ w),
    ):
        pushes = [central(lambda h, e=e, f=phi: f(last[0] + h * e)) for e in torch.eye(p).double()]
        wanted = response[:, 0] @ torch.stack(pushes)
        assert wanted.shape in ((run.n, 3), (run.n, 1))
        close(un.forward_mode(run, phi, progress=False), wanted, 1e-8)
        close(un.reverse_mode(run, phi, progress=False), wanted, 1e-8)
        close(un.by_retraining(run, phi, step=3e-4), wanted, 1e-6)
        some = torch.tensor([4, 0, 4])
        close(un.by_retraining(run, phi, some, step=3e-4, chunk=2), wanted[some], 1e-6)
        directions = torch.tensor(rng.normal(size=(2, run.n)))
        close(un.forward_mode(run, phi, directions, progress=False), directions @ wanted, 1e-8)


def test_by_retraining_some_examples_and_its_order():
    run, phi = network_run(3)
    exact = un.reverse_mode(run, phi, progress=False)
    some = torch.tensor([4, 0, 4])
    close(un.by_retraining(run, phi, some), exact[some], 1e-6)
    close(un.by_retraining(run, phi, some, chunk=2), un.by_retraining(run, phi, some), 1e-9)
    wide, narrow = (
        (un.by_retraining(run, phi, some, step=h) - exact[some]).norm().item() for h in (0.08, 0.04)
    )
    assert math.log2(wide / narrow) == pytest.approx(4, abs=0.4)


def test_one_weight_for_every_token():
    model = Transformer(vocabulary=3, length=3, width=4, heads=2, layers=1)
    objective = model.objective(torch.tensor(np.random.default_rng(0).integers(0, 3, size=(4, 4))))
    w0, batches = model.initial(generator()), tr.epochs(4, 2, 3, generator())
    by_token = Run(objective, w0, Adam(), batches, tr.constant(0.02, 6), tr.token_loss, weights=12)
    by_sequence = Run(objective, w0, Adam(), batches, tr.constant(0.02, 6))

    def phi(w):
        return objective.loss_at(w, objective.x[0], objective.y[3])

    found = un.reverse_mode(by_token, phi, progress=False)
    close(un.forward_mode(by_token, phi, progress=False), found, 1e-9)
    close(un.by_retraining(by_token, phi, step=1e-4), found, 1e-6)
    close(found.view(4, 3).sum(dim=1), un.reverse_mode(by_sequence, phi, progress=False), 1e-9)


# --- forward mode --------------------------------------------------------------------------------


@EACH
def test_responses_are_a_chain(name):
    """R_{t+1} = ∂h_t/∂s R_t + ∂h_t/∂β by differences of h_t, from (s_t, R_t) alone."""
    run, _ = network_run(4, name)
    chain = list(un.responses(run, progress=False))
    assert len(chain) == T + 1 and (chain[0][1] == 0).all()
    assert chain[-1][1].shape == (run.n, run.optimizer.rows, len(run.w0))
    for (state, _), same in zip(chain, states(run, progress=False), strict=True):
        assert torch.equal(state, same)
    for t in range(3, T):  # where Adam is smooth enough
        (state, response), (_, after) = chain[t : t + 2]
        for i in (0, run.n - 1):
            unit = torch.eye(run.n).double()[i]

            def step(h, t=t, state=state, moved=response[i], unit=unit):
                return run.step(t, state + h * moved, 1 + h * unit)

            close(central(step, 1e-4), after[i], 1e-6)


def test_directions_are_linear():
    run, phi = network_run(5, "adam")
    directions = torch.tensor(np.random.default_rng(0).normal(size=(2, run.n)))
    each = list(un.responses(run, progress=False))
    for (_, some), (_, every) in zip(
        un.responses(run, directions, progress=False), each, strict=True
    ):
        assert some.shape == (2, 3, len(run.w0))
        close(some, torch.tensordot(directions, every, 1))
    exact = un.reverse_mode(run, phi, progress=False)
    close(un.forward_mode(run, phi, directions, progress=False), directions @ exact)


# --- explicit Jacobians --------------------------------------------------------------------------


def spd(rng, steps, p):
    mix = rng.normal(size=(steps, p, p))
    return torch.tensor(mix @ mix.transpose(0, 2, 1) / p + 0.3 * np.eye(p))


@pytest.mark.parametrize("seed, preconditioned", [(0, False), (1, True)])
def test_explicit_is_forward_mode(seed, preconditioned):
    run, phi = network_run(seed, size=4)
    p = len(run.w0)
    if preconditioned:
        matrices = spd(np.random.default_rng(seed), T, p)
        run = replace(run, optimizer=SGD(matrices), rates=run.rates / 5)
        assert not torch.equal(trajectory(run), trajectory(replace(run, optimizer=SGD())))
    *_, (state, response) = un.responses(run, progress=False)
    found = un.explicit(run)
    close(found, response[:, 0])
    slope = torch.func.grad(phi)(state[0])
    close(found @ slope, un.reverse_mode(run, phi, progress=False))
    for t in (0, T - 1):
        jacobian = un.step_jacobian(run, t, run.w0)
        columns = [
            central(lambda h, t=t, e=e: run.step(t, (run.w0 + h * e)[None], run.ones())[0])
            for e in torch.eye(p).double()
        ]
        close(jacobian, torch.stack(columns, dim=1), 1e-8)


class Quadratic:
    """Penalised linear regression, whose training is linear algebra."""

    def __init__(self, seed, n=6, p=3):
        rng = np.random.default_rng(seed)
        self.x, self.y, self.rho = rng.normal(size=(n, p)) + 0.3, rng.normal(size=n), 0.7
        self.w0, self.q, self.n, self.p = rng.normal(size=p), rng.normal(size=p), n, p
        self.objective = models.linear(torch.tensor(self.x), torch.tensor(self.y), l2=self.rho)

    def run(self, batches, rates, optimizer=None):
        optimizer = SGD() if optimizer is None else optimizer
        return Run(self.objective, torch.tensor(self.w0), optimizer, batches, rates)

    def slopes(self, w):
        return (self.x @ w - self.y)[:, None] * self.x

    def phi(self, w):
        s = w @ torch.tensor(self.q)
        return torch.sin(s) + s**2

    def slope(self, w):
        return (np.cos(w @ self.q) + 2 * (w @ self.q)) * self.q


@pytest.mark.parametrize("seed", range(2))
def test_explicit_by_the_closed_form_of_full_batches(seed):
    """w_T = w* + (I − ηH/n)^T (w_0 − w*) for any β."""
    case, rate, steps = Quadratic(seed), 0.2, 15

    def end(beta):
        h = (case.x.T * beta) @ case.x + case.rho * np.eye(3)
        w = np.linalg.solve(h, case.x.T @ (beta * case.y))
        shrink = np.linalg.matrix_power(np.eye(3) - rate / case.n * h, steps)
        return w + shrink @ (case.w0 - w)

    run = case.run(tr.full_batches(case.n, steps), tr.constant(rate, steps))
    wanted = np.array([central(lambda h, e=e: end(1 + h * e)) for e in np.eye(case.n)])
    close(un.explicit(run), wanted, 1e-8)


@pytest.mark.parametrize("preconditioned", [False, True])
def test_explicit_by_hand(preconditioned):
    """R ← (I − ηPĤ) R − (η/b) P g_i, row by row in numpy."""
    case, batches, rates = Quadratic(2), tr.epochs(6, 2, 3, generator()), tr.decaying(0.3, 9)
    matrices = spd(np.random.default_rng(1), 9, 3) if preconditioned else None
    w, responses = case.w0, np.zeros((6, 3))
    for t, batch in enumerate(batches.numpy()):
        p = np.eye(3) if matrices is None else matrices[t].numpy()
        bend = case.x[batch].T @ case.x[batch] / 2 + case.rho / 6 * np.eye(3)
        rate, slopes = rates[t].item(), case.slopes(w)
        responses = responses @ (np.eye(3) - rate * p @ bend).T
        responses[batch] -= rate / 2 * slopes[batch] @ p.T
        w = w - rate * p @ (slopes[batch].sum(axis=0) / 2 + case.rho / 6 * w)
    close(un.explicit(case.run(batches, rates, SGD(matrices))), responses)


# --- Adam ----------------------------------------------------------------------------------------


def adam_run(seed, **options):
    run, phi = network_run(seed, size=4)
    return replace(run, optimizer=Adam(**options), rates=tr.constant(0.05, T)), phi


@pytest.mark.parametrize("options", [{}, {"second": 0.8, "eps": 1e-2}])
def test_frozen_is_another_derivative_of_the_same_run(options):
    run, phi = adam_run(6, first=0.0, **options)
    fixed, held = un.frozen(run), replace(run, optimizer=Adam(first=0.0, freeze=True, **options))
    close(trajectory(fixed), trajectory(run), 1e-12)
    slope = torch.func.grad(phi)(trajectory(run)[-1])
    found = un.explicit(fixed) @ slope
    close(un.by_retraining(fixed, phi, step=3e-4), found, 1e-6)
    close(un.forward_mode(held, phi, progress=False), found)
    close(un.reverse_mode(held, phi, progress=False), found)
    exact = un.reverse_mode(run, phi, progress=False)
    assert (found - exact).norm() > 0.3 * exact.norm()


def test_adam_knows_no_scale_of_the_loss():
    """Twice all the weights is the same run as ϵ → 0, so the influences add to nothing."""
    problem = network_problem(np.random.default_rng(7))
    n = problem.objective.n
    run = Run(
        problem.objective,
        problem.w,
        Adam(eps=1e-30),
        tr.full_batches(n, 20),
        tr.constant(0.02, 20),
    )
    doubled = trajectory(run, 2 * run.ones())
    close(doubled, trajectory(run), 1e-9)
    found = un.reverse_mode(run, problem.phi, progress=False)
    assert found.sum().abs() < 1e-8 * found.abs().max()
    held = replace(run, optimizer=Adam(eps=1e-30, freeze=True))
    other = un.reverse_mode(held, problem.phi, progress=False)
    assert other.sum().abs() > 1e-2 * other.abs().max()


# --- reverse mode --------------------------------------------------------------------------------


def test_adjoints_are_the_slopes_of_phi_in_the_state():
    """A_t by differences of the rest of the run in s_t; and the influence of the steps after t."""
    run, phi = network_run(8, "nesterov")
    kept = list(states(run, progress=False))
    end = un.adjoint_at_end(phi, kept[-1])
    assert end.shape == kept[-1].shape and (end[1] == 0).all()
    back = list(
        un.pull_back(run, end, torch.zeros(run.n).double(), reversed(list(enumerate(kept[:-1]))))
    )
    assert [t for t, _, _ in back] == list(range(T))[::-1]

    def rest(t, state, beta):
        for later in range(t, T):
            state = run.step(later, state, beta)
        return phi(state[0])

    rng = np.random.default_rng(0)
    for t, adjoint, total in back[::3]:
        moved = torch.tensor(rng.normal(size=tuple(adjoint.shape)))
        push = torch.tensor(rng.normal(size=run.n))
        slope = central(lambda h, t=t, m=moved: rest(t, kept[t] + h * m, run.ones()))
        close((adjoint * moved).sum(), slope, 1e-7)
        close(total @ push, central(lambda h, t=t, p=push: rest(t, kept[t], 1 + h * p)), 1e-7)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_precision_is_that_of_the_parameters(dtype):
    rng = np.random.default_rng(9)
    mlp = MLP((2, 3, 1))
    x, y = (torch.tensor(rng.normal(size=s), dtype=dtype) for s in ((5, 2), 5))
    objective = mlp.objective(x, y, 0.3, loss=squared_error)
    batches = tr.epochs(5, 5, 4, generator())
    run = Run(objective, mlp.initial(generator(), dtype), Adam(), batches, tr.constant(0.1, 4))
    found = un.reverse_mode(run, lambda w: w.sum(), progress=False)
    pushed = un.forward_mode(run, lambda w: w.sum(), progress=False)
    plain = replace(run, optimizer=SGD())
    assert {found.dtype, pushed.dtype, un.explicit(plain).dtype} == {dtype}
    assert un.tracin(plain, lambda w: w.sum()).dtype == dtype
    close(pushed, found, 1e-4 if dtype == torch.float32 else 1e-12)


def test_the_bars_can_be_turned_off(monkeypatch):
    made = []

    def bar(steps, *_, disable, delay, **__):
        made.append((disable, delay))
        return steps

    monkeypatch.setattr(tr, "tqdm", bar)
    monkeypatch.setattr(un, "tqdm", bar)
    run, phi = network_run(0)
    for progress in (True, False):
        un.reverse_mode(run, phi, progress=progress)
        un.forward_mode(run, phi, progress=progress)
    assert made == [(False, 10)] * 3 + [(True, 10)] * 3


# --- TracIn --------------------------------------------------------------------------------------


@given(seeds, st.integers(1, 6))
@few
def test_tracin_by_hand(seed, size):
    case = Quadratic(seed)
    batches, rates = tr.resampled(6, size, 7, generator(seed)), tr.decaying(0.3, 7)
    w, wanted = case.w0, np.zeros(6)
    for rate, batch in zip(rates.tolist(), batches.numpy(), strict=True):
        slopes = case.slopes(w)
        for i in batch:
            wanted[i] -= rate / size * slopes[i] @ case.slope(w)
        w = w - rate * (slopes[batch].sum(axis=0) / size + case.rho / 6 * w)
    close(un.tracin(case.run(batches, rates), case.phi), wanted)


@given(seeds, st.integers(1, 6))
@few
def test_tracin_of_many_observables_by_hand(seed, size):
    case = Quadratic(seed)
    rng = np.random.default_rng(seed)
    there, y = rng.normal(size=(4, 3)), rng.normal(size=4)
    phi = losses_on(case.objective, torch.tensor(there), torch.tensor(y))

    def pushes(w):
        return (there @ w - y)[:, None] * there

    batches, rates = tr.resampled(6, size, 7, generator(seed)), tr.decaying(0.3, 7)
    w, wanted = case.w0, np.zeros((6, 4))
    for rate, batch in zip(rates.tolist(), batches.numpy(), strict=True):
        slopes = case.slopes(w)
        for i, q in itertools.product(batch, range(4)):
            wanted[i, q] -= rate / size * slopes[i] @ pushes(w)[q]
        w = w - rate * (slopes[batch].sum(axis=0) / size + case.rho / 6 * w)
    close(un.tracin(case.run(batches, rates), phi), wanted)
    points, efforts = rng.normal(size=(2, 3)), [0.7, 0.2]
    wanted = -sum(
        e / 6 * case.slopes(w) @ pushes(w).T for w, e in zip(points, efforts, strict=True)
    )
    efforts = torch.tensor(efforts, dtype=torch.float64)
    close(un.tracin_at(case.objective, torch.tensor(points), efforts, phi), wanted)
    single = un.tracin_at(case.objective, torch.tensor(points), efforts, lambda w: phi(w)[:1])
    close(single, wanted[:, :1])


def test_adjoints_of_many_observables():
    run, _ = network_run(8, "nesterov")
    last = list(states(run, progress=False))[-1]
    end = un.adjoint_at_end(lambda w: w[:4] ** 2, last)
    assert end.shape == (4, *last.shape) and (end[:, 1] == 0).all()
    close(end[:, 0, :4], torch.diag(2 * last[0, :4]))
    assert (end[:, 0, 4:] == 0).all()


def test_tracin_is_exact_to_first_order_in_one_step():
    run, phi = network_run(1)
    one = replace(run, batches=run.batches[:1], rates=run.rates[:1] * 1e-7)
    close(un.tracin(one, phi), un.reverse_mode(one, phi, progress=False), 1e-5)


def test_tracin_at_checkpoints():
    case, rates = Quadratic(3), tr.decaying(0.3, 8)
    run = case.run(tr.full_batches(6, 8), rates)
    found = un.tracin_at(case.objective, trajectory(run)[:-1], rates, case.phi)
    close(found, un.tracin(run, case.phi))
    points, efforts = np.random.default_rng(0).normal(size=(2, 3)), [0.7, 0.2]
    wanted = -sum(
        effort / 6 * case.slopes(w) @ case.slope(w)
        for w, effort in zip(points, efforts, strict=True)
    )
    efforts = torch.tensor(efforts, dtype=torch.float64)
    close(un.tracin_at(case.objective, torch.tensor(points), efforts, case.phi), wanted)


# --- errors --------------------------------------------------------------------------------------


def test_overflow_of_one_observable_is_told():
    z = torch.tensor([[1.0], [-1.0]]).double()
    start, rates = torch.zeros(1).double(), tr.constant(1e200, 3)
    run = Run(models.location(z), start, SGD(), tr.full_batches(2, 3), rates)
    with pytest.raises(ValueError, match="run: the derivative overflowed going back at step 1"):
        un.reverse_mode(run, lambda w: torch.cat([0 * w, w]), progress=False)


def test_overflow_is_told():
    """At the mean of ±1 the run stands still, while a response grows by 1 − η at every step."""
    z = torch.tensor([[1.0], [-1.0]]).double()
    start, rates = torch.zeros(1).double(), tr.constant(1e200, 3)
    run = Run(models.location(z), start, SGD(), tr.full_batches(2, 3), rates)
    assert (trajectory(run) == 0).all()
    with pytest.raises(ValueError, match="run: the response overflowed at step 2"):
        un.forward_mode(run, lambda w: w[0], progress=False)
    with pytest.raises(ValueError, match="run: the derivative overflowed going back at step 1"):
        un.reverse_mode(run, lambda w: w[0], progress=False)
    loud = replace(run, objective=models.location(1e300 * z), rates=rates * 1e-180)
    with pytest.raises(ValueError, match="run: the derivative overflowed going back at step 2"):
        un.reverse_mode(loud, lambda w: w[0], progress=False)  # the influence, not the adjoint
    steep = models.linear(torch.full((2, 1), 1e100, dtype=torch.float64), 1e-290 * z[:, 0])
    steep = replace(run, objective=steep, rates=tr.constant(1.0, 3))
    with pytest.raises(ValueError, match="run: the derivative overflowed going back at step 1"):
        un.reverse_mode(steep, lambda w: w[0], progress=False)  # the adjoint, not the influence
    diverging = replace(run, w0=start + 1, rates=rates * 1e50)
    for route in (un.forward_mode, un.reverse_mode, un.by_retraining):
        with pytest.raises(ValueError, match="rates: training diverged"):
            route(diverging, lambda w: w[0])


GOOD, PHI = network_run(0)
ADAM = replace(GOOD, optimizer=Adam(first=0.0))
POINTS = GOOD.w0[None]
SEQUENCES = Transformer(3, 2, 2, 1, 1)
TOKENS = Run(
    SEQUENCES.objective(torch.tensor([[0, 1, 2], [2, 1, 0]])),
    SEQUENCES.initial(generator()),
    SGD(),
    tr.full_batches(2, 2),
    tr.constant(0.1, 2),
    tr.token_loss,
    4,
)


@pytest.mark.parametrize(
    "name, call",
    [
        ("step", lambda: un.by_retraining(GOOD, PHI, step=0)),
        ("which", lambda: un.by_retraining(GOOD, PHI, torch.tensor([GOOD.n]))),
        ("which", lambda: un.by_retraining(GOOD, PHI, torch.tensor([0.5]))),
        ("chunk", lambda: un.by_retraining(GOOD, PHI, chunk=0)),
        ("phi", lambda: un.by_retraining(GOOD, lambda w: w[None])),
        ("phi", lambda: un.forward_mode(GOOD, lambda w: w[None])),
        ("phi", lambda: un.reverse_mode(GOOD, lambda w: w[None])),
        ("phi", lambda: un.tracin(GOOD, lambda w: w[None])),
        ("phi", lambda: un.tracin_at(GOOD.objective, POINTS, torch.ones(1), lambda w: w[None])),
        ("directions", lambda: next(un.responses(GOOD, torch.ones(GOOD.n).double()))),
        ("directions", lambda: un.forward_mode(GOOD, PHI, torch.ones(2, GOOD.n + 1).double())),
        ("directions", lambda: un.forward_mode(GOOD, PHI, torch.full((1, GOOD.n), NAN))),
        ("run", lambda: un.step_jacobian(ADAM, 0, GOOD.w0)),
        ("t", lambda: un.step_jacobian(GOOD, T, GOOD.w0)),
        ("t", lambda: un.step_jacobian(GOOD, -1, GOOD.w0)),
        ("w", lambda: un.step_jacobian(GOOD, 0, GOOD.w0[1:])),
        ("run", lambda: un.explicit(ADAM)),
        ("run", lambda: un.explicit(TOKENS)),
        ("run", lambda: un.frozen(GOOD)),
        ("run", lambda: un.frozen(replace(GOOD, optimizer=Adam()))),
        ("run", lambda: un.frozen(replace(GOOD, optimizer=Adam(0.0, weight_decay=0.1)))),
        ("run", lambda: un.tracin(ADAM, PHI)),
        ("run", lambda: un.tracin(TOKENS, lambda w: w.sum())),
        (
            "run",
            lambda: un.tracin(
                replace(GOOD, optimizer=SGD(spd(np.random.default_rng(0), T, len(GOOD.w0)))), PHI
            ),
        ),
        ("checkpoints", lambda: un.tracin_at(GOOD.objective, GOOD.w0, torch.ones(1), PHI)),
        ("checkpoints", lambda: un.tracin_at(GOOD.objective, POINTS * INF, torch.ones(1), PHI)),
        ("efforts", lambda: un.tracin_at(GOOD.objective, POINTS, torch.ones(2), PHI)),
        ("efforts", lambda: un.tracin_at(GOOD.objective, POINTS, torch.ones(1) * NAN, PHI)),
    ],
)
def test_bad_input_is_named(name, call):
    with pytest.raises(ValueError, match=f"^{name}: "):
        call()
