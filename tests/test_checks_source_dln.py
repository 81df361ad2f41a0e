"""Exercises 04_source_replay and 04_dln_stagewise: formulas against numbers that know no formula,
references against the library."""

import copy
import itertools
import pickle

import numpy as np
import pytest
import scipy.integrate
import sympy as sp
import torch
from graded import agrees

from lib import checks, dln
from lib.checks import dln_stagewise as dln_bank
from lib.checks import source_replay as source_bank
from lib.checks.engine import WRONG
from lib.models import linear
from lib.objective import gradients, hessian
from lib.replay import depth
from lib.source import response_filter, segments, source
from lib.training import SGD, Run, constant, epochs, trajectory
from lib.unrolling import reverse_mode

SOURCE, DLN = checks.parts("source_replay"), checks.parts("dln_stagewise")

# Raised once, inside torch, when forward-mode derivatives are first used.
pytestmark = [
    pytest.mark.filterwarnings("ignore:.torch.jit.script. is deprecated"),
    pytest.mark.usefixtures("progress_file"),
]


def _close(a, b, rel=1e-6):
    np.testing.assert_allclose(np.asarray(a), np.asarray(b), rtol=rel, atol=1e-10)


# --- source_replay: formulas ---------------------------------------------------------------------


@pytest.mark.parametrize("sigma", [1.3, 0.04, -0.7])
def test_a_segment_step_by_step(sigma):
    point = {"eta": 0.3, "K": 7, "sigma": sigma}
    displaced, pushed, series = 1.0, 0.0, 0.0
    for k in range(7):
        displaced -= 0.3 * sigma * displaced
        pushed = (1 - 0.3 * sigma) * pushed + 0.3
        series += 0.3 * (1 - 0.3 * sigma) ** k
    agrees(SOURCE["part_a"], point, displaced)
    agrees(SOURCE["part_b"], point, pushed)
    agrees(SOURCE["part_b"], point, series)


@pytest.mark.parametrize("sigma", [1.3, 0.04, -0.7])
def test_a_segment_in_gradient_flow(sigma):
    point = {"eta": 0.3, "K": 7, "sigma": sigma}
    flow = scipy.integrate.solve_ivp(lambda t, r: 1 - sigma * r, (0, 2.1), [0.0], rtol=1e-10)
    agrees(SOURCE["part_c"], point, flow.y[0, -1])
    integral = scipy.integrate.quad(lambda u: np.exp(-sigma * u), 0, 2.1)[0]
    agrees(SOURCE["part_c"], point, integral)
    _close(SOURCE["part_d"].truth(torch.tensor([sigma]).double(), 2.1), [integral])


def test_the_damping_agrees_where_the_curvature_vanishes():
    eta, k = 0.2, 6
    slow = 1e-9
    agrees(SOURCE["part_e"], {"eta": eta, "K": k}, slow / -np.expm1(-slow * eta * k), rel=1e-6)


def test_largest_excess_on_a_grid():
    x = np.linspace(1e-3, 50, 400_001)
    ratio = (1 - np.exp(-x)) / x * (x + 1)
    assert SOURCE["part_f"].truth() == pytest.approx(ratio.max(), abs=1e-8)
    assert SOURCE["part_f"](1.298) and SOURCE["part_f"](ratio.max())
    assert SOURCE["part_f"](1.3).diagnosis == "rounded"


def test_filter_is_that_of_the_library(rng):
    sigma, effort = SOURCE["part_d"].cases(rng)
    _close(SOURCE["part_d"].truth(sigma, effort), response_filter(sigma, effort), 1e-12)


@pytest.mark.parametrize("threshold", [1e-12, 1e-6, 1e-3])
def test_no_threshold_passes_for_a_filter(threshold):
    """Below it the limit, above it the formula as it stands (expm1 where that has its digits)."""

    def answer(sigma, effort):
        flat = sigma.abs() < threshold
        x = effort * sigma
        above = 1 - torch.exp(-x) if threshold < 1e-9 else -torch.expm1(-x)
        return torch.where(flat, effort, above / torch.where(flat, 1.0, sigma))

    for seed in range(5):
        assert SOURCE["part_d"](answer, seed=seed).outcome == WRONG


# --- source_replay: SOURCE -----------------------------------------------------------------------


def test_source_is_the_limit_of_small_steps(rng):
    """Every segment in a thousand steps of r ← r − δ(H̄r + ḡ/n), extrapolated."""
    hessians, slopes, efforts, q = SOURCE["part_g"].cases(rng)

    def stepped(many):
        r = torch.zeros(slopes.shape[2], slopes.shape[1]).double()
        for h, g, effort in zip(hessians, slopes, efforts, strict=True):
            for _ in range(many):
                r = r - effort / many * (h @ r + g.T / slopes.shape[1])
        return q @ r

    a, b, c = stepped(200), stepped(400), stepped(800)
    _close(SOURCE["part_g"].truth(hessians, slopes, efforts, q), (8 * c - 6 * b + a) / 3, 1e-4)


def test_source_is_that_of_the_library(rng):
    """On a regression, with the library's segments and their means given to the part's truth."""
    n, p = 12, 3
    x, y = (torch.from_numpy(rng.standard_normal(k)) for k in ((n, p), (n,)))
    objective = linear(x, y)
    order = epochs(n, 4, 6, torch.Generator().manual_seed(0))
    run = Run(objective, torch.zeros(p).double(), SGD(), order, constant(0.05, len(order)))
    w_end, q = trajectory(run)[-1], torch.from_numpy(rng.standard_normal(p))
    parts = segments(run, 3)
    slopes = torch.stack(
        [torch.stack([gradients(objective, w) for w in part.checkpoints]).mean(0) for part in parts]
    )
    hessians = (hessian(objective, w_end) / n).expand(3, p, p)
    efforts = torch.tensor([part.effort for part in parts], dtype=torch.float64)
    estimate = SOURCE["part_g"].truth(hessians, slopes, efforts, q)
    _close(estimate, source(objective, parts, w_end, lambda w: q @ w), 1e-8)
    exact = reverse_mode(run, lambda w: q @ w)
    assert np.corrcoef(estimate, exact)[0, 1] > 0.9


# --- source_replay: REPLAY -----------------------------------------------------------------------


def _pulled(run, T, states):
    """The walk back over states(t), from the last to the first."""
    adjoint, total = run.end(states(T)), 0
    for t in reversed(range(T)):
        adjoint, added = run.pull(t, states(t), adjoint)
        total = total + added
    return total


def _all_kept(run, T):
    states = [run.s0]
    for t in range(T):
        states.append(run.step(t, states[t]))
    return _pulled(run, T, states.__getitem__)


def _from_the_start(run, T):
    def reach(t):
        state = run.s0
        for k in range(t):
            state = run.step(k, state)
        return state

    return _pulled(run, T, reach)


def _evenly_kept(many):
    """`many` states kept from the first run; the others run to from the nearest of these."""

    def answer(run, T):
        width, kept, state = -(-T // many), {}, run.s0
        for t in range(T):
            if t % width == 0:
                kept[t] = state
            state = run.step(t, state)

        def reach(t):
            if t == T:
                return state
            near = kept[t // width * width]
            for k in range(t // width * width, t):
                near = run.step(k, near)
            return near

        return _pulled(run, T, reach)

    return answer


def _halves(leak=False, whole=False):
    """The walk asked for; leak: no state is ever let go; whole: every piece is run to its end,
    and the run before them."""

    def answer(run, T):
        leaked, total, adjoint = [], 0, None

        def run_through(first, last, state):
            for t in range(first, last):
                state = run.step(t, state)

        def back(first, last, state):
            nonlocal adjoint, total
            if whole:
                run_through(first, last, state)
            if last - first == 1:
                if adjoint is None:
                    adjoint = run.end(run.step(first, state))
                adjoint, added = run.pull(first, state, adjoint)
                total = total + added
                return
            middle, later = (first + last + 1) // 2, state
            for t in range(first, middle):
                later = run.step(t, later)
            leaked.extend([later] if leak else [])
            back(middle, last, later)
            del later
            back(first, middle, state)

        if whole:
            run_through(0, T, run.s0)
        back(0, T, run.s0)
        return total

    return answer


@pytest.mark.parametrize(
    ("answer", "diagnosis", "says"),
    [
        (_all_kept, "stores all states", "all of them"),
        (_halves(leak=True), "stores all states", "all of them"),
        (_evenly_kept(14), "stores too many states", "and 3 in hand must do"),
        (_from_the_start, "replays from the start", "about T²/2"),
        (_evenly_kept(1), "replays from the start", "about T²/2"),
        (_evenly_kept(3), "takes too many steps", "must do"),
        (_halves(whole=True), "takes too many steps", "must do"),
    ],
)
@pytest.mark.parametrize("seed", range(5))
def test_a_right_walk_that_costs_too_much(answer, diagnosis, says, seed):
    result = SOURCE["part_h"](answer, seed=seed)
    assert result.outcome == WRONG and result.diagnosis == diagnosis
    assert result.says.startswith("Right, but ") and says in result.says
    assert len(result.says) < 196  # two lines


def test_what_a_walk_is_told_was_counted():
    """The numbers of the replies are those of a run of that length, counted by hand."""
    assert source_bank.counted(_all_kept, 40) == (40, 41)
    assert source_bank.counted(_from_the_start, 40) == (40 + 39 * 40 // 2, 3)
    _, T = SOURCE["part_h"].cases(np.random.default_rng(0))
    for answer, number in ((_all_kept, T + 1), (_from_the_start, T * (T + 1) // 2)):
        result = SOURCE["part_h"](answer, seed=0)
        assert f"Right, but {number} " in result.says
    assert f"T = {T}" in SOURCE["part_h"](_evenly_kept(14), seed=0).says


def test_cost_is_spoken_of_only_if_the_answer_is_right():
    twice = SOURCE["part_h"](lambda run, T: 2 * _all_kept(run, T), seed=0)
    minus = SOURCE["part_h"](lambda run, T: -_from_the_start(run, T), seed=0)
    assert (twice.diagnosis, minus.diagnosis) == ("ratio 2", "sign")


@pytest.mark.parametrize("T", [33, 47, 64])
def test_limits_leave_room_for_the_walk_and_no_state_more(T):
    steps, states = source_bank.counted(_halves(), T)
    assert steps <= T * depth(T, 2)
    assert depth(T, 2) < states <= 1 + depth(T, 2) + source_bank.IN_HAND


def test_states_cannot_be_copied_to_escape_the_count():
    run = source_bank.Run(SOURCE["part_h"].cases(np.random.default_rng(0))[0])
    for escape in (copy.copy, copy.deepcopy, pickle.dumps):
        with pytest.raises(TypeError, match="cannot be copied"):
            escape(run.s0)
    kept = [run.s0, run.step(0, run.s0)]
    assert run.alive == run.most_alive == 2
    del kept
    assert (run.alive, run.most_alive) == (1, 2)


def test_replay_reference_is_the_derivative_of_retraining(rng):
    training, T = SOURCE["part_h"].cases(rng)

    def phi(beta):
        w = training.w0
        for i, rate in zip(training.order, training.rates, strict=True):
            w = w - rate * beta[i] * (np.tanh(training.x[i] @ w) - training.y[i]) * training.x[i]
        return np.sin(training.q @ w) + (training.q @ w) ** 2 / 2

    n, h = len(training.x), 1e-4
    slopes = [(phi(1 + h * e) - phi(1 - h * e)) / (2 * h) for e in np.eye(n)]
    _close(SOURCE["part_h"].truth(training, T), slopes, 1e-5)


def _walk_with_a_set(T, k):
    """REPLAY by the statement of (i), a set for the shelf."""
    shelf, steps, most = {0}, 0, 1
    stack = [("piece", 0, T)]
    while stack:
        kind, first, last = stack.pop()
        if kind == "drop":
            shelf.remove(first)
            continue
        size = -(-(last - first) // k)
        starts = range(first, last, size)
        steps += (T if (first, last) == (0, T) else starts[-1]) - first
        shelf |= set(starts)
        most = max(most, len(shelf))
        for start in starts:  # the last one is on top of the stack
            if start > first:
                stack.append(("drop", start, None))
            if min(start + size, last) - start > 1:
                stack.append(("piece", start, min(start + size, last)))
    assert shelf == {0}
    return steps, most


@pytest.mark.parametrize("k", [2, 3, 7])
def test_cost_of_the_tree(k):
    for T in (2, k, k * k, k * k + 1, 50, 97, 243, 343):
        assert SOURCE["part_i"].truth(T, k) == _walk_with_a_set(T, k), T


def test_fewer_states_and_fewer_steps():
    by_k = {k: _walk_with_a_set(source_bank.LONG, k) for k in (2, 100)}
    fewer = [min(by_k, key=lambda k, which=which: by_k[k][which]) for which in (1, 0)]
    assert SOURCE["part_j"].truth() == f"{fewer[0]} and {fewer[1]}" == "2 and 100"
    assert len(SOURCE["part_j"].options) == 4


# --- dln_stagewise: one mode ---------------------------------------------------------------------


def _flow_of_a_mode(s, g0, tau, t):
    """Two weights a = b = √𝒢(0) under τȧ = b(s − ab), τḃ = a(s − ab): 𝒢 at the times t."""
    found = scipy.integrate.solve_ivp(
        lambda _, w: (s - w[0] * w[1]) / tau * w[::-1],
        (0, max(t)),
        [g0**0.5] * 2,
        t_eval=np.sort(t),
        method="DOP853",
        rtol=1e-12,
        atol=1e-14,
    )
    return found.y[0] * found.y[1]


def test_slope_of_a_mode():
    s, g, tau, h = 2.3, 0.7, 1.6, 1e-4
    early = _flow_of_a_mode(s, g, tau, [h, 2 * h])
    slope = (-3 * g + 4 * early[0] - early[1]) / (2 * h)
    agrees(DLN["part_a"], {"g": g, "s": s, "tau": tau}, slope, rel=1e-5)


@pytest.mark.parametrize(("s", "g0", "tau"), [(2.3, 0.05, 1.6), (0.8, 0.2, 0.5), (3.5, 0.01, 1.0)])
def test_a_mode_is_half_learned_at_its_time(s, g0, tau):
    half = scipy.integrate.solve_ivp(
        lambda _, w: (s - w[0] * w[1]) / tau * w[::-1],
        (0, 50),
        [g0**0.5] * 2,
        events=lambda _, w: w[0] * w[1] - s / 2,
        method="DOP853",
        rtol=1e-12,
        atol=1e-14,
    ).t_events[0]
    agrees(DLN["part_b"], {"s": s, "g0": g0, "tau": tau}, half[0], rel=1e-6)


@pytest.mark.parametrize("t", [0.3, 0.9, 1.7])
def test_sensitivity_by_two_flows(t):
    s, g0, tau, h = 1.9, 0.04, 0.9, 1e-4
    up, down = (_flow_of_a_mode(s + d, g0, tau, [t])[0] for d in (h, -h))
    agrees(DLN["part_c"], {"s": s, "g0": g0, "tau": tau, "t": t}, (up - down) / (2 * h), rel=1e-6)


def test_late_limit_and_the_one_that_peaks():
    h, s = 1e-4, 2.0
    up, down = (_flow_of_a_mode(s + d, 1e-2, 1.0, [20.0])[0] for d in (h, -h))
    assert DLN["part_d"].truth() == pytest.approx((up - down) / (2 * h), abs=1e-6)
    times = np.linspace(0.01, 6, 300)
    g, up, down = (_flow_of_a_mode(3.0 + d, 1e-3, 1.0, times) for d in (0, h, -h))
    slope = (up - down) / (2 * h)
    curves = {
        "strength": g,
        "slope": slope,
        "residual": 3 - g,
        "slope times residual": slope * (3 - g),
    }
    peaked = {k for k, c in curves.items() if max(c[0], c[-1]) < 0.02 * c.max()}
    assert peaked == {DLN["part_e"].truth()} and set(curves) == set(DLN["part_e"].options)
    peak = times[curves["slope times residual"].argmax()]
    assert peak == pytest.approx(np.log(3e3 - 1) / 6, rel=0.15)


# --- dln_stagewise: the response -----------------------------------------------------------------


def test_rotations_are_those_of_the_library(rng):
    s, e = DLN["part_f"].cases(rng)
    a, b = DLN["part_f"].truth(s, e)
    np.testing.assert_allclose([a, b], torch.stack(dln.singular_rotations(s, e)), atol=1e-8)
    off = ~np.eye(len(s), dtype=bool)
    _close((a * s.numpy() + s[:, None].numpy() * b)[off], e.numpy()[off])


def test_the_drafts_limit(rng):
    """Numbers for the symbols, and the classes of E by trial."""
    s, e = np.array([2.5, 0.7]), rng.standard_normal((2, 2)).round(3)
    a = np.array([[0, e[0, 1] / (s[1] - s[0])], [e[1, 0] / (s[0] - s[1]), 0]])
    entry = (a @ np.diag(s) + np.diag(s) @ a.T)[0, 1]
    point = {"s_j": s[0], "s_k": s[1], "E_jk": e[0, 1], "E_kj": e[1, 0]}
    agrees(DLN["part_g"], point, entry)
    assert abs(entry - e[0, 1]) > 1e-3
    by_name = {x: sp.Symbol(x.name) for x in DLN["part_g"].truth.free_symbols}
    formula = DLN["part_g"].truth.subs(by_name)
    mirrored = formula.subs(sp.Symbol("E_kj"), sp.Symbol("E_jk"))
    assert sp.simplify(mirrored - sp.Symbol("E_jk")) == 0
    assert DLN["part_h"].truth() == "symmetric"


def _grown(matrix, g0, t):
    u, s, vt = np.linalg.svd(matrix)
    return u * dln.mode_strength(torch.from_numpy(s), torch.tensor(t).double(), g0).numpy() @ vt


def test_response_is_the_library_s_and_the_derivative_of_a_grown_matrix(rng):
    s, g, slope, e = DLN["part_i"].cases(rng)
    _close(DLN["part_i"].truth(s, g, slope, e), dln.mode_response(s, g, slope, e))
    t, g0, h = 0.6, 0.03, 1e-4
    time = torch.tensor(t).double()
    strengths = (f(s, time, g0) for f in (dln.mode_strength, dln.mode_sensitivity))
    by_svd = (
        _grown(np.diag(s) + h * e.numpy(), g0, t) - _grown(np.diag(s) - h * e.numpy(), g0, t)
    ) / (2 * h)
    _close(DLN["part_i"].truth(s, *strengths, e), by_svd, 1e-5)


def test_equal_singular_values_are_asked_for(rng):
    s, g, slope, _ = DLN["part_i"].cases(rng)
    for values in (s, g, slope):
        assert len(values.unique()) == len(values) - 1


def test_loss_influences_are_slopes_of_the_loss(rng):
    s, g, slope, x, y, x_q, y_q = case = DLN["part_j"].cases(rng)
    drivers = torch.einsum("pj,pk->pjk", y, x) / len(x)
    moves = [dln.mode_response(s, g, slope, e) for e in drivers]
    w, h = torch.diag(g), 1e-5

    def loss(m):
        return ((y_q - m @ x_q) ** 2).sum() / 2

    slopes = [(loss(w + h * move) - loss(w - h * move)) / (2 * h) for move in moves]
    _close(DLN["part_j"].truth(*case), slopes, 1e-5)
    _close([dln.loss_influence(w, move, x_q, y_q) for move in moves], slopes, 1e-5)


# --- dln_stagewise: the dog and the cat ----------------------------------------------------------


def _cat_after_more_dog(t, part=None, h=1e-4):
    """The cat's loss with the dog's Σ_yx a little larger and smaller, by two singular value
    decompositions: no response."""
    s, g0 = np.array([3.0, 1.0]), 0.01
    dog, cat = np.array([1, 0.5]), np.array([1, -0.5])
    e = np.outer(s * dog, dog) / 4
    e = e if part is None else e * part

    def loss(d):
        return 0.5 * ((s * cat - _grown(np.diag(s) + d * e, g0, t) @ cat) ** 2).sum()

    return (loss(h) - loss(-h)) / (2 * h)


def test_who_hurts_the_cat():
    parts = {
        "strength of mode 1": np.diag([1, 0]),
        "strength of mode 2": np.diag([0, 1]),
        "rotation": 1 - np.eye(2),
    }
    times = (0.15, 0.4, 0.95, 1.5, 2.3, 4.0)
    for t, (name, part) in itertools.product(times, parts.items()):
        harm = _cat_after_more_dog(t, part)
        assert dln_bank.harm(t, name) == pytest.approx(harm, rel=1e-4, abs=1e-8)
        assert (harm > 0) == (name == DLN["part_k"].truth()), (t, name)
    assert set(DLN["part_k"].options) == set(parts)


def test_the_turn():
    turn = DLN["part_l"].truth()
    assert _cat_after_more_dog(turn - 1e-3) < 0 < _cat_after_more_dog(turn + 1e-3)
    later = [_cat_after_more_dog(t) for t in np.linspace(turn + 0.01, 5, 40)]
    earlier = [_cat_after_more_dog(t) for t in np.linspace(0.5, turn - 0.01, 20)]
    assert min(later) > 0 > max(earlier)


def test_animals_are_white_and_fitted():
    x, y = dln_bank.animals()
    _close(x.T @ x / 4, np.eye(2))
    _close(y.T @ x / 4, np.diag([3, 1]))
    _close(x[:2], [[1, 0.5], [1, -0.5]])


def test_the_closed_form_turns_when_a_network_does_that_sees_the_labels_alone():
    x, y = dln_bank.animals()
    start = dln.balanced_start(dln.covariances(x, y).yx, g0=0.01)
    times = torch.tensor([DLN["part_l"].truth() + d for d in (-0.02, 0.02)]).double()
    path = dln.gradient_flow(dln.covariances(x, y), *start, times)
    moves = dln.flow_response(x, y, 0, times, *start, cross_only=True)
    before, after = (dln.loss_influence(w, m, x[1], y[1]) for w, m in zip(path, moves, strict=True))
    assert before < 0 < after


# --- dln_stagewise: true upweighting -------------------------------------------------------------


def test_late_response_is_the_network_s(rng):
    """Two layers under gradient flow, from any start, with more and with less weight on p."""
    x = dln.white_inputs(8, 2, torch.Generator().manual_seed(int(rng.integers(100))))
    y = x @ torch.tensor([[2.0, 0.3], [-0.4, 1.0]]).double().T
    y = y + 0.3 * torch.from_numpy(rng.standard_normal((8, 2)))
    first, second = (
        torch.eye(2).double() + 0.1 * torch.from_numpy(rng.standard_normal((2, 2)))
        for _ in range(2)
    )
    p, h, ends = 3, 1e-3, []
    for extra in (h, -h):
        beta = torch.ones(8).double()
        beta[p] += extra
        data = dln.covariances(x, y, beta)
        ends.append(dln.gradient_flow(data, first, second, torch.tensor([30.0]).double())[0])
    _close(DLN["part_m"].truth(x, y, p), (ends[0] - ends[1]) / (2 * h), 1e-4)
