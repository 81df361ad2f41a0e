"""SOURCE's filters at fifty digits, its sums by explicit loops, its limits by exact unrolling."""

import itertools

import mpmath as mp
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.integrate import solve_ivp
from scipy.linalg import expm, sqrtm
from scipy.optimize import minimize_scalar

from lib import models
from lib.influence import direct, influence
from lib.objective import losses_on
from lib.source import (
    Segment,
    ekfac_curvature,
    exact_curvature,
    propagation_filter,
    response_filter,
    response_flow,
    segments,
    source,
)
from lib.training import SGD, Run, constant, full_batches
from lib.unrolling import reverse_mode

# Torch compiles its own rules when a forward derivative is first asked for.
pytestmark = pytest.mark.filterwarnings("ignore:.torch.jit.script:DeprecationWarning")

few = settings(deadline=None, max_examples=40, derandomize=True)
SEEDS = range(3)
NAN = float("nan")


def close(left, right, rtol=1e-10):
    left, right = np.asarray(left), np.asarray(right)
    assert left.shape == right.shape
    assert np.isfinite(left).all() and np.abs(left - right).max() <= rtol * np.abs(right).max()


# --- filters -------------------------------------------------------------------------------------


def exact_filters(sigma, effort, steps):
    """F_S and F_r from their definitions, at fifty digits."""
    with mp.workdps(50):
        sigma, effort = mp.mpf(sigma), mp.mpf(effort)
        kept = mp.exp(-effort * sigma) if steps is None else (1 - effort * sigma / steps) ** steps
        if sigma != 0:
            # Fifty digits would not be enough for 1 − F_S with a σ of 10⁻³⁰⁰.
            with mp.workdps(400):
                x = effort * sigma
                left = mp.exp(-x) if steps is None else (1 - x / steps) ** steps
                answer = (1 - left) / sigma
        else:
            answer = effort
        return kept, answer


SIGMAS = [0.0, *(sign * v for sign in (1, -1) for v in (1e-300, 1e-17, 1e-9, 1e-4, 0.03, 0.7, 2.0))]
SIGMAS += [9.0, 60.0, 1e3]


@pytest.mark.parametrize("steps", [None, 4])
def test_a_segment_without_effort_changes_nothing(steps):
    sigma = torch.tensor([-1.0, 0.0, 2.0])
    assert torch.equal(propagation_filter(sigma, 0.0, steps), torch.ones(3))
    assert torch.equal(response_filter(sigma, 0.0, steps), torch.zeros(3))


@pytest.mark.parametrize("effort", [1e-3, 0.9, 12.0])
@pytest.mark.parametrize("steps", [None, 1, 2, 7, 40, 1000])
def test_filters_at_fifty_digits(steps, effort):
    kept = propagation_filter(torch.tensor(SIGMAS, dtype=torch.float64), effort, steps)
    answer = response_filter(torch.tensor(SIGMAS, dtype=torch.float64), effort, steps)
    for sigma, found_kept, found_answer in zip(SIGMAS, kept, answer, strict=True):
        want_kept, want_answer = exact_filters(sigma, effort, steps)
        if abs(want_kept) > 1e300:  # gradient descent that blows up past the largest float
            continue
        # Rounding x or 1 − x to a float moves (1 − x)^K by up to K roundings; F_r is spared them
        # where it matters, from 0 up to the step that lands on the minimum.
        x = effort * sigma if steps is None else effort * sigma / steps
        lost = abs(x) if steps is None else steps * (1 + abs(x)) / max(abs(1 - x), 1e-16)
        assert abs(found_kept.item() - want_kept) <= 1e-15 * (1 + lost) * abs(want_kept) + 1e-300
        bound = 1e-15 if 0 <= x <= 1 else 1e-15 * (1 + lost)
        assert abs(found_answer.item() - want_answer) <= bound * abs(want_answer)


@few
@given(
    st.floats(-3, 30).filter(lambda s: abs(s) > 1e-3 or s == 0),
    st.floats(0.01, 5),
    st.integers(1, 60),
)
def test_power_filters_are_a_geometric_sum(sigma, effort, steps):
    eta = effort / steps
    terms = [(1 - eta * sigma) ** k for k in range(steps + 1)]
    found = response_filter(torch.tensor([[sigma]], dtype=torch.float64), effort, steps)
    scale = eta * sum(map(abs, terms))
    assert found.shape == (1, 1)
    assert found.item() == pytest.approx(eta * sum(terms[:-1]), abs=1e-12 * scale)
    kept = propagation_filter(torch.tensor([[sigma]], dtype=torch.float64), effort, steps)
    assert kept.item() == pytest.approx(terms[-1], rel=1e-11)


@few
@given(st.floats(-4, 20), st.floats(0.05, 3))
def test_exponential_filters_are_the_limit_of_many_steps(sigma, effort):
    """To order 1/K, and with the constant of that order: (1 − x/K)^K ≈ e^(−x)(1 − x²/2K)."""
    s, x, steps = torch.tensor(sigma, dtype=torch.float64), effort * sigma, 10**7
    ratio = propagation_filter(s, effort, steps) / propagation_filter(s, effort)
    assert ratio.item() == pytest.approx(1 - x**2 / (2 * steps), abs=1e-8 + 1e-3 * x**2 / steps)
    close(response_filter(s, effort, steps), response_filter(s, effort), 1e-4)


def test_response_filter_is_a_damping_within_three_tenths():
    """(σ + λ)F_r with λ = 1/effort: 1 at both ends, and never above 1.2984…"""
    effort = 2.5
    s = torch.logspace(-9, 6, 2001).double()
    ratio = response_filter(s, effort) * (s + 1 / effort)
    top = -minimize_scalar(lambda x: -(1 - np.exp(-x)) * (1 + 1 / x), bounds=(0.1, 9)).fun
    assert 1.2984 < top < 1.2985
    assert 1 - 1e-12 <= ratio.min() and top - 1e-4 < ratio.max() <= top + 1e-12
    assert abs(ratio[0] - 1) < 1e-8 and abs(ratio[-1] - 1) < 1e-5


# --- models --------------------------------------------------------------------------------------


def quadratic(seed, n=7, p=3):
    rng = np.random.default_rng(seed)
    x, y, ridge = rng.normal(size=(n, p)), rng.normal(size=n), rng.uniform(0.1, 0.5)
    model = models.linear(torch.tensor(x), torch.tensor(y), l2=ridge)
    return model, (x, y, ridge), torch.tensor(rng.normal(size=p)), rng.normal(size=p)


def logistic(seed, n=8, p=3):
    """Gradients and mean Hessian by their textbook formulas, and the minimum by Newton's method."""
    rng = np.random.default_rng(seed)
    x, y, ridge = rng.normal(size=(n, p)) + 0.4, rng.choice([-1.0, 1.0], n), rng.uniform(0.4, 1)
    model = models.logistic(torch.tensor(x), torch.tensor(y), l2=float(ridge))

    def slopes(w):
        return (-y / (1 + np.exp(y * (x @ w))))[:, None] * x

    def mean_bend(w):
        s = 1 / (1 + np.exp(-x @ w))
        return ((x.T * (s * (1 - s))) @ x + ridge * np.eye(p)) / n

    w = np.zeros(p)
    for _ in range(30):
        w = w - np.linalg.solve(n * mean_bend(w), slopes(w).sum(0) + ridge * w)
    return model, slopes, mean_bend, w, rng


def observable(q):
    """φ and its gradient in numpy."""
    tq = torch.tensor(q)
    return lambda w: torch.sin(w @ tq) + (w @ tq) ** 2, lambda w: (np.cos(w @ q) + 2 * (w @ q)) * q


def answer_matrix(bend, effort):
    """∫₀^effort e^(−sH̄) ds, by the exponential of a block matrix; H̄ may be singular."""
    p = len(bend)
    blocks = np.block([[-bend, np.eye(p)], [np.zeros((p, 2 * p))]])
    return expm(effort * blocks)[:p, p:]


def descent(model, w0, rates):
    return Run(model, w0, SGD(), full_batches(model.n, len(rates)), rates)


def last(run):
    state = run.start()
    for t in range(run.steps):
        state = run.step(t, state, run.ones())
    return state[0]


# --- source --------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["quadratic", "logistic", "deep"])
@pytest.mark.parametrize("seed", SEEDS)
def test_one_segment_a_step_with_powers_is_exact_unrolling(seed, kind):
    """Full batches: with K = 1 nothing is approximated, whatever the model and the rates."""
    rng = np.random.default_rng(seed)
    if kind == "quadratic":
        model, _, w0, q = quadratic(seed)
    elif kind == "logistic":
        model, _, _, w, _ = logistic(seed)
        w0, q = torch.tensor(w + rng.normal(size=3)), rng.normal(size=3)
    else:
        model = models.ab_model(torch.tensor(rng.normal(size=5) + 1))
        w0, q = torch.tensor([0.3, 0.9]).double(), rng.normal(size=2)
    run = descent(model, w0, torch.tensor(rng.uniform(0.05, 0.3, 12)))
    phi = observable(q)[0]
    parts = segments(run, 12)
    found = source(model, parts, last(run), phi, power=True)
    close(found, reverse_mode(run, phi, progress=False))
    # Not so by the exponentials, nor with two steps a segment.
    exact = reverse_mode(run, phi, progress=False)
    for other in (
        source(model, parts, last(run), phi),
        source(model, segments(run, 6), last(run), phi, power=True),
    ):
        assert 1e-5 < (other - exact).norm() / exact.norm() < 0.5


@pytest.mark.parametrize("seed", SEEDS)
def test_powers_on_a_quadratic_by_hand(seed):
    """Three segments of unequal rates; the mean gradient and the powers written out in numpy."""
    model, (x, y, ridge), w0, q = quadratic(seed)
    phi, slope = observable(q)
    rates = np.array([0.3] * 3 + [0.2, 0.1, 0.15] + [0.05] * 3)
    bend = (x.T @ x + ridge * np.eye(3)) / len(x)
    w, path = w0.numpy(), []
    for rate in rates:
        path.append(w)
        w = w - rate * (x.T @ (x @ w - y) + ridge * w) / len(x)
    onward, want = np.eye(3), 0
    for first in (6, 3, 0):
        eta = rates[first : first + 3].mean()
        step = np.eye(3) - eta * bend
        summed = eta * (np.eye(3) + step + step @ step)
        slopes = np.mean([(x @ v - y)[:, None] * x for v in path[first : first + 3]], axis=0)
        want = want - slopes @ summed @ onward @ slope(w) / len(x)
        onward = step @ step @ step @ onward
    run = descent(model, w0, torch.tensor(rates))
    close(source(model, segments(run, 3), torch.tensor(w), phi, power=True), want)


@pytest.mark.parametrize("seed", SEEDS)
def test_error_falls_with_the_number_of_segments(seed):
    model, _, w0, q = quadratic(seed)
    phi, run = observable(q)[0], descent(model, w0, constant(0.1, 32))
    exact, w = reverse_mode(run, phi, progress=False), last(run)
    errors = [
        (source(model, segments(run, many), w, phi, power=True) - exact).norm() / exact.norm()
        for many in (1, 2, 4, 8, 16, 32)
    ]
    assert errors[0] > 0.02 and errors[-1] < 1e-12
    assert all(fine < coarse / 2 for coarse, fine in itertools.pairwise(errors))


@pytest.mark.parametrize("seed", SEEDS)
def test_the_floor_of_the_exponentials_falls_with_the_step(seed):
    """At fixed effort ηT = 2 and one segment a step: first order in η."""
    model, _, w0, q = quadratic(seed)
    phi, floors = observable(q)[0], []
    for steps in (10, 20, 40):
        run = descent(model, w0, constant(2.0 / steps, steps))
        exact = reverse_mode(run, phi, progress=False)
        floors.append((source(model, segments(run, steps), last(run), phi) - exact).norm())
    assert all(1.7 < coarse / fine < 2.6 for coarse, fine in itertools.pairwise(floors))


@pytest.mark.parametrize("seed", SEEDS)
def test_one_segment_at_the_minimum_by_matrix_exponentials(seed):
    model, slopes, mean_bend, w, rng = logistic(seed)
    phi, slope = observable(rng.normal(size=3))
    tw = torch.tensor(w)
    for effort in (0.1, 3.0, 40.0):
        found = source(model, [Segment(tw[None], effort, 10)], tw, phi)
        close(found, -slopes(w) @ answer_matrix(mean_bend(w), effort) @ slope(w) / len(slopes(w)))


@pytest.mark.parametrize("seed", SEEDS)
def test_several_segments_by_matrix_exponentials(seed):
    """Checkpoints far apart, so that the curvatures do not commute and the order shows."""
    model, slopes, mean_bend, w, rng = logistic(seed)
    phi, slope = observable(rng.normal(size=3))
    stops = [w + 2 * rng.normal(size=(many, 3)) for many in (1, 3, 2)]
    efforts, w_end = (4.0, 1.5, 6.0), w + rng.normal(size=3)
    bends = [np.mean([mean_bend(v) for v in stop], axis=0) for stop in stops]
    means = [np.mean([slopes(v) for v in stop], axis=0) for stop in stops]
    later = expm(-efforts[2] * bends[2])
    response = (
        answer_matrix(bends[2], efforts[2]) @ means[2].T
        + later @ answer_matrix(bends[1], efforts[1]) @ means[1].T
        + later @ expm(-efforts[1] * bends[1]) @ answer_matrix(bends[0], efforts[0]) @ means[0].T
    )
    parts = [Segment(torch.tensor(s), e, 9) for s, e in zip(stops, efforts, strict=True)]
    found = source(model, parts, torch.tensor(w_end), phi)
    close(found, -slope(w_end) @ response / model.n)


@pytest.mark.parametrize("seed", SEEDS)
def test_many_observables_by_matrix_exponentials(seed):
    model, slopes, mean_bend, w, rng = logistic(seed)
    there, labels = rng.normal(size=(4, 3)), rng.choice([-1.0, 1.0], 4)
    phi = losses_on(model, torch.tensor(there), torch.tensor(labels))
    stops, efforts = [w + rng.normal(size=(many, 3)) for many in (2, 1)], (3.0, 0.8)
    w_end = w + rng.normal(size=3)
    pushes = (-labels / (1 + np.exp(labels * (there @ w_end))))[:, None] * there
    bends = [np.mean([mean_bend(v) for v in stop], axis=0) for stop in stops]
    means = [np.mean([slopes(v) for v in stop], axis=0) for stop in stops]
    response = (
        answer_matrix(bends[1], efforts[1]) @ means[1].T
        + expm(-efforts[1] * bends[1]) @ answer_matrix(bends[0], efforts[0]) @ means[0].T
    )
    parts = [Segment(torch.tensor(s), e, 9) for s, e in zip(stops, efforts, strict=True)]
    found = source(model, parts, torch.tensor(w_end), phi)
    assert found.shape == (model.n, 4)
    close(found, -(pushes @ response).T / model.n)


@pytest.mark.parametrize("power", [True, False])
def test_many_observables_in_ekfacs_basis(power):
    """Each is what it is alone."""
    mlp, rng = models.MLP((2, 3, 3)), np.random.default_rng(4)
    objective = mlp.objective(torch.tensor(rng.normal(size=(6, 2))), torch.arange(6) % 3, 0.2)
    points = torch.tensor(0.7 * rng.normal(size=(3, mlp.p)))
    parts, w = [Segment(points[:2], 2.0, 5), Segment(points[2:], 0.7, 4)], points[2]
    x, y = torch.tensor(rng.normal(size=(4, 2))), torch.tensor([0, 2, 1, 1])
    options = {"curvature": ekfac_curvature(mlp), "power": power}
    found = source(objective, parts, w, losses_on(objective, x, y), **options)
    alone = [
        source(objective, parts, w, lambda v, i=i: objective.loss_at(v, x[i], y[i]), **options)
        for i in range(4)
    ]
    close(found, torch.stack(alone, dim=1))
    column = source(objective, parts, w, losses_on(objective, x[:1], y[:1]), **options)
    close(column, alone[0][:, None])


@pytest.mark.parametrize("power", [True, False])
@pytest.mark.parametrize("seed", SEEDS)
def test_long_training_at_a_minimum_gives_the_influence_function(seed, power):
    model, slopes, mean_bend, w, rng = logistic(seed)
    phi, slope = observable(rng.normal(size=3))
    tw = torch.tensor(w)
    found = source(model, [Segment(tw[None], 4000.0, 20000)], tw, phi, power=power)
    close(found, influence(model, tw, phi))
    close(found, -slopes(w) @ np.linalg.solve(model.n * mean_bend(w), slope(w)))


@pytest.mark.parametrize("seed", SEEDS)
def test_short_training_damps(seed):
    """λ = 1/effort, on the scale of the mean: at small σ all of 1/σ becomes 1/λ; for an example's
    influence on its own loss, a quadratic form, damping is within 1.2984… everywhere."""
    model, slopes, _, w, rng = logistic(seed)
    phi, slope = observable(rng.normal(size=3))
    tw = torch.tensor(w)
    found = source(model, [Segment(tw[None], 1e-7, 5)], tw, phi)
    close(found, -slopes(w) @ slope(w) * 1e-7 / model.n, 1e-6)
    close(found, influence(model, tw, phi, lambda v: v / (model.n / 1e-7)), 1e-6)
    one = model.take(torch.tensor([2]))
    for effort in (0.1, 1.0, 10.0, 100.0):

        def own(v):
            return one.loss_at(v, one.x[0], one.y[0])

        hessian = torch.tensor(model.n * logistic(seed)[2](w))
        damped = influence(model, tw, own, direct(hessian, model.n / effort))[2]
        ratio = source(model, [Segment(tw[None], effort, 5)], tw, own)[2] / damped
        assert 1 <= ratio <= 1.29843 and damped < 0


@pytest.mark.parametrize("batch", [1, 2])
def test_batches_enter_by_their_share(batch):
    """Where every Jacobian is a number, SOURCE is the mean over all sequences of batches."""
    z = torch.tensor([[0.3, 1.0], [-1.2, 0.4], [2.0, -0.7]]).double()
    model, rates = models.location(z), torch.tensor([0.5, 0.3, 0.4]).double()
    w0, q = torch.tensor([1.0, 2.0]).double(), torch.tensor([0.6, -1.1]).double()
    choices = list(itertools.combinations(range(3), batch))
    mean = torch.zeros(3).double()
    for batches in itertools.product(choices, repeat=3):
        run = Run(model, w0, SGD(), torch.tensor(batches), rates)
        mean += reverse_mode(run, lambda w: w @ q, progress=False) / len(choices) ** 3
    whole = descent(model, w0, rates)
    close(source(model, segments(whole, 3), last(whole), lambda w: w @ q, power=True), mean)


# --- segments ------------------------------------------------------------------------------------


@few
@given(st.integers(1, 13), st.data())
def test_segments_cover_the_run(steps, data):
    """A path that moves by a whole number at each step, so that a checkpoint tells its time."""
    many = data.draw(st.integers(1, steps))
    held = data.draw(st.one_of(st.none(), st.integers(1, 5)))
    model = models.valley(torch.ones(2).double())
    rates = torch.arange(1.0, steps + 1).double()
    run = descent(model, torch.zeros(2).double(), rates)
    times = {-float(rates[:t].sum()): t for t in range(steps + 1)}
    parts = segments(run, many, held)
    assert len(parts) == many and sum(part.steps for part in parts) == steps
    assert max(p.steps for p in parts) - min(p.steps for p in parts) <= 1
    first = 0
    for part in parts:
        k = part.steps
        assert part.effort == float(rates[first : first + k].sum())
        at = [times[v] - first for v in part.checkpoints[:, 1].tolist()]
        assert len(at) == (k if held is None else min(k, held))
        for j, place in enumerate(at):
            # Step j of them stands for an equal share of the segment, and lies in its middle.
            assert abs(place + 0.5 - (j + 0.5) * k / len(at)) <= 0.5
        assert at == sorted(set(at)) and 0 <= at[0] and at[-1] < k
        first += k


# --- curvatures ----------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", SEEDS)
def test_exact_curvature_is_a_function_of_the_mean_hessian(seed):
    model, _, mean_bend, w, rng = logistic(seed)
    stops, v = w + rng.normal(size=(4, 3)), rng.normal(size=(5, 3))
    bend = np.mean([mean_bend(stop) for stop in stops], axis=0)
    filtered = exact_curvature(model, torch.tensor(stops))
    close(filtered(lambda s: torch.exp(-3 * s), torch.tensor(v)), v @ expm(-3 * bend))
    close(filtered(torch.sqrt, torch.tensor(v[0])), sqrtm(bend) @ v[0])


def dense(matrix, f, v):
    values, vectors = np.linalg.eigh(matrix)
    return v @ (vectors * f(values)) @ vectors.T


def test_ekfac_curvature_of_one_layer_is_exact():
    """Squared error: Gauss–Newton is I ⊗ Σ āāᵀ, the Hessian itself, and the same everywhere."""
    rng = np.random.default_rng(0)
    mlp, x = models.MLP((3, 2)), rng.normal(size=(8, 3))
    y = torch.tensor(rng.normal(size=(8, 2)))
    model = mlp.objective(torch.tensor(x), y, l2=0.6, loss=models.squared_error)
    tall = np.column_stack([x, np.ones(8)])
    bend = (np.kron(np.eye(2), tall.T @ tall) + 0.6 * np.eye(8)) / 8
    stops, v = torch.tensor(rng.normal(size=(3, 8))), rng.normal(size=(2, 8))
    filtered = ekfac_curvature(mlp)(model, stops)
    close(filtered(lambda s: torch.exp(-2 * s), torch.tensor(v)), v @ expm(-2 * bend))
    parts = [Segment(stops, 3.0, 8), Segment(stops[:1], 2.0, 4)]
    phi = observable(rng.normal(size=8))[0]
    for power in (True, False):
        found = source(model, parts, stops[0], phi, ekfac_curvature(mlp), power=power)
        close(found, source(model, parts, stops[0], phi, power=power))


@pytest.mark.parametrize("seed", SEEDS)
def test_ekfac_curvature_of_one_example_is_exact(seed):
    """One layer, one example, several checkpoints: the mean of S_c ⊗ āāᵀ is a Kronecker product."""
    rng = np.random.default_rng(seed)
    mlp, x, y = models.MLP((2, 3)), rng.normal(size=(1, 2)), torch.tensor([1])
    model = mlp.objective(torch.tensor(x), y, l2=0.2)
    stops, v = rng.normal(size=(4, 9)), rng.normal(size=9)
    tall, bend = np.append(x[0], 1), 0.2 * np.eye(9)
    for w in stops:
        f = np.exp(w.reshape(3, 3) @ tall)
        s = f / f.sum()
        bend = bend + np.kron(np.diag(s) - np.outer(s, s), np.outer(tall, tall)) / 4
    filtered = ekfac_curvature(mlp)(model, torch.tensor(stops))
    want = dense(bend, lambda s: 1 / (s + 0.1), v)
    close(filtered(lambda s: 1 / (s + 0.1), torch.tensor(v)), want)


# --- the response as a flow ----------------------------------------------------------------------


@pytest.mark.parametrize("singular", [False, True])
@pytest.mark.parametrize("seed", SEEDS)
def test_response_flow_solves_its_equation(seed, singular):
    rng = np.random.default_rng(seed)
    q = np.linalg.qr(rng.normal(size=(4, 4)))[0]
    bend = (q * [0.0 if singular else 0.3, 0.5, 1.0, 2.0]) @ q.T
    slope, times = rng.normal(size=4), np.array([0.0, 1e-4, 0.2, 1.0, 5.0, 20.0])
    solved = solve_ivp(
        lambda _, r: slope - bend @ r, (0, 20), 0 * slope, "DOP853", times, rtol=1e-12, atol=1e-13
    )
    found = response_flow(torch.tensor(bend), torch.tensor(slope), torch.tensor(times))
    close(found, solved.y.T, 1e-9)
    assert (found[0] == 0).all()


def test_response_flow_drifts_along_the_null_space_and_settles_elsewhere():
    rng = np.random.default_rng(1)
    q = np.linalg.qr(rng.normal(size=(5, 5)))[0]
    bend, slope = (q * [0.0, 0.0, 0.7, 1.0, 3.0]) @ q.T, rng.normal(size=5)
    null = q[:, :2] @ q[:, :2].T
    times = torch.tensor([1.0, 30.0, 1e3, 1e6]).double()
    found = response_flow(torch.tensor(bend), torch.tensor(slope), times).numpy()
    for t, r in zip(times.tolist(), found, strict=True):
        close(null @ r, t * null @ slope, 1e-12)
    for r in found[2:]:
        settled = r - null @ r
        np.testing.assert_allclose(settled, np.linalg.pinv(bend) @ slope, atol=1e-8)
    flat = response_flow(torch.zeros(2, 2).double(), torch.tensor([1.0, -2.0]).double(), times)
    close(flat, np.outer(times, [1.0, -2.0]))


def test_response_flow_is_training_with_less_weight():
    """At a minimum and with small steps: minus one segment's response for more weight."""
    model, slopes, mean_bend, w, _ = logistic(0)
    g = torch.tensor(slopes(w)[3] / model.n)
    found = response_flow(torch.tensor(mean_bend(w)), g, torch.tensor([2.5]).double())[0]
    tw = torch.tensor(w)
    parts = [Segment(tw[None], 2.5, 50)]
    more = [source(model, parts, tw, lambda v, k=k: v[k])[3].item() for k in range(3)]
    close(found, -np.array(more))


# --- bad input -----------------------------------------------------------------------------------

MODEL, _, W, _ = quadratic(0)
ONES = torch.ones(3).double()
EYE = torch.eye(3).double()
RUN = descent(MODEL, W, constant(0.1, 4))
PART = Segment(W[None], 1.0, 4)
ONE_LAYER = models.MLP((2, 3))
LABELLED = ONE_LAYER.objective(torch.ones(4, 2).double(), torch.tensor([0, 1, 2, 1]))


@pytest.mark.parametrize(
    "name, call",
    [
        *[
            case
            for f in (propagation_filter, response_filter)
            for case in (
                ("sigma", lambda f=f: f(ONES * NAN, 1.0)),
                ("sigma", lambda f=f: f(ONES * NAN, 1.0, 3)),
                ("sigma", lambda f=f: f(torch.tensor([1]), 1.0)),
                ("sigma", lambda f=f: f(1.0, 1.0)),
                ("effort", lambda f=f: f(ONES, -1.0)),
                ("effort", lambda f=f: f(ONES, NAN)),
                ("effort", lambda f=f: f(ONES, -1.0, 3)),
                ("effort", lambda f=f: f(ONES, NAN, 3)),
                ("steps", lambda f=f: f(ONES, 1.0, 0)),
                ("steps", lambda f=f: f(ONES, 1.0, 2.0)),
            )
        ],
        ("checkpoints", lambda: exact_curvature(MODEL, W)),
        ("checkpoints", lambda: exact_curvature(MODEL, W[None] * NAN)),
        ("v", lambda: exact_curvature(MODEL, W[None])(torch.exp, ONES[:2])),
        ("v", lambda: exact_curvature(MODEL, W[None])(torch.exp, ONES * NAN)),
        ("checkpoints", lambda: ekfac_curvature(ONE_LAYER)(LABELLED, torch.ones(9).double())),
        ("w", lambda: ekfac_curvature(ONE_LAYER)(LABELLED, torch.ones(2, 8).double())),
        ("many", lambda: segments(RUN, 0)),
        ("many", lambda: segments(RUN, 5)),
        ("many", lambda: segments(RUN, 2.0)),
        ("checkpoints", lambda: segments(RUN, 2, 0)),
        ("checkpoints", lambda: segments(RUN, 2, 1.0)),
        ("parts", lambda: source(MODEL, [], W, torch.sum)),
        ("w_end", lambda: source(MODEL, [PART], W[None], torch.sum)),
        ("w_end", lambda: source(MODEL, [PART], W * NAN, torch.sum)),
        ("phi", lambda: source(MODEL, [PART], W, lambda w: w[None])),
        ("v", lambda: source(MODEL, [PART], W[:2], torch.sum)),
        ("effort", lambda: source(MODEL, [Segment(W[None], -1.0, 4)], W, torch.sum)),
        ("steps", lambda: source(MODEL, [Segment(W[None], 1.0, 0)], W, torch.sum, power=True)),
        ("mean_hessian", lambda: response_flow(EYE[:2], ONES, ONES)),
        ("mean_hessian", lambda: response_flow(EYE + torch.ones(3, 3).triu(1), ONES, ONES)),
        ("mean_hessian", lambda: response_flow(EYE * NAN, ONES, ONES)),
        ("slope", lambda: response_flow(EYE, ONES[:2], ONES)),
        ("slope", lambda: response_flow(EYE, ONES * NAN, ONES)),
        ("times", lambda: response_flow(EYE, ONES, torch.tensor(1.0))),
        ("times", lambda: response_flow(EYE, ONES, ONES * NAN)),
        ("times", lambda: response_flow(EYE, ONES, -ONES)),
    ],
)
def test_bad_input_is_named(name, call):
    with pytest.raises(ValueError, match=rf"^{name}: expected"):
        call()
