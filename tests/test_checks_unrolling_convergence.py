"""Exercises 04_unrolling and 04_convergence: formulas against numbers that know no formula,
references against the library, and the experiments behind the predictions."""

from collections import deque
from dataclasses import replace

import numpy as np
import pytest
import torch
from graded import agrees
from scipy.integrate import solve_ivp
from torch.func import grad

from lib import checks
from lib.checks import convergence as convergence_bank
from lib.checks import unrolling as unrolling_bank
from lib.influence import parameter_influence
from lib.models import linear, valley
from lib.objective import gradients, hessian
from lib.random_problems import network_problem, normal, regression
from lib.source import response_flow
from lib.training import SGD, Adam, Run, constant, full_batches, resampled, retrain, trajectory
from lib.unrolling import explicit, forward_mode, responses, reverse_mode, tracin

UNROLLING, CONVERGENCE = checks.parts("unrolling"), checks.parts("convergence")

# Raised once, inside torch, when forward-mode derivatives are first used.
pytestmark = [
    pytest.mark.filterwarnings("ignore:.torch.jit.script. is deprecated"),
    pytest.mark.usefixtures("progress_file"),
]


def _close(a, b, rel=1e-6):
    a, b = (np.asarray(v) for v in (a, b))
    assert a.shape == b.shape
    np.testing.assert_allclose(a, b, rtol=rel, atol=rel * np.abs(b).max())


def _small_run(rng, steps=6, b=4):
    """SGD on a random network, and per step the mean Hessian, all ∇L_i, and who is in the batch."""
    c = network_problem(rng)
    seed = torch.Generator().manual_seed(int(rng.integers(1000)))
    batches = resampled(c.objective.n, b, steps, seed)
    run = Run(c.objective, c.w, SGD(), batches, torch.from_numpy(rng.uniform(0.1, 0.4, steps)))
    path = trajectory(run)
    hessians = torch.stack(
        [
            hessian(run.objective.take(rows), w) / b
            for rows, w in zip(batches, path[:-1], strict=True)
        ]
    )
    slopes = torch.stack([gradients(run.objective, w) for w in path[:-1]])
    member = torch.stack([torch.isin(torch.arange(run.n), rows) for rows in batches])
    return run, path, hessians, slopes, member, c


# --- unrolling -----------------------------------------------------------------------------------


def test_one_step_is_that_of_the_chain(rng):
    run, _, hessians, slopes, member, c = _small_run(rng)
    e = torch.eye(run.n).double()[c.j][None]
    chain = [r[0, 0] for _, r in responses(run, e, progress=False)]
    for t in range(run.steps):
        given = chain[t], hessians[t], slopes[t, c.j], run.rates[t].item(), 4, member[t, c.j].item()
        _close(UNROLLING["part_a"].truth(*given), chain[t + 1])


def test_sums_are_those_of_the_library(rng):
    run, path, hessians, slopes, member, c = _small_run(rng)
    by_library, truth = explicit(run), UNROLLING["part_b"].truth
    for i in range(run.n):
        _close(truth(hessians, slopes[:, i], run.rates, member[:, i], 4), by_library[i])
    q = grad(c.phi)(path[-1])
    backwards = UNROLLING["part_d"].truth(hessians, slopes, member, run.rates, 4, q)
    _close(backwards, reverse_mode(run, c.phi, progress=False))
    phi_slopes = torch.stack([grad(c.phi)(w) for w in path[:-1]])
    by_steps = UNROLLING["part_h"].truth(slopes, phi_slopes, member, run.rates, 4)
    _close(by_steps, tracin(run, c.phi))


def test_preconditioned_sum_is_that_of_the_library(rng):
    plain = _small_run(rng)[0]
    p = len(plain.w0)
    mix = normal(rng, plain.steps, p, p) / p**0.5
    matrices = mix @ mix.mT + 0.2 * torch.eye(p)
    run = replace(plain, optimizer=SGD(matrices))
    path, i = trajectory(run), 2
    taken = [run.objective.take(rows) for rows in run.batches]
    hessians = torch.stack([hessian(o, w) / 4 for o, w in zip(taken, path[:-1], strict=True)])
    slopes = torch.stack([gradients(run.objective, w)[i] for w in path[:-1]])
    member = (run.batches == i).any(1)
    _close(
        UNROLLING["part_c"].truth(hessians, matrices, slopes, run.rates, member, 4),
        explicit(run)[i],
    )


def test_adam_step_by_differences():
    eta, mu2, eps, v0, g1, g2, h = 0.3, 0.7, 0.2, 1.1, 0.8, -1.7, 1e-5

    def move(beta, through_v=True):
        v = mu2 * v0 + (1 - mu2) * ((beta if through_v else 1) * g1 + g2) ** 2
        return -eta * (beta * g1 + g2) / (v**0.5 + eps)

    exact, fixed = (
        (move(1 + h, through_v) - move(1 - h, through_v)) / (2 * h) for through_v in (True, False)
    )
    point = {"eta": eta, "mu2": mu2, "eps": eps, "v0": v0, "g1": g1, "g2": g2}
    agrees(UNROLLING["part_e"], point, exact, rel=1e-8)
    agrees(UNROLLING["part_f"], point, exact - fixed, rel=1e-7)


def test_all_weights_at_once(rng):
    """What the right and the wrong words claim of Adam and of SGD."""
    run, *_, c = _small_run(rng)
    full = replace(run, batches=full_batches(run.n, run.steps))
    assert UNROLLING["part_g"].truth() == "w_t stays, the sum is zero"
    assert max(unrolling_bank.weights_scaled().values()) < 1e-8
    adam = replace(full, optimizer=Adam(eps=1e-13), rates=full.rates / 10)
    _close(retrain(adam, 3 * run.ones()), retrain(adam, run.ones()), rel=1e-7)
    scores = reverse_mode(adam, c.phi, progress=False)
    assert scores.sum().abs() < 1e-6 * scores.abs().sum()
    # Under SGD c times the weights are c times the steps.
    longer = replace(full, rates=3 * full.rates)
    _close(retrain(full, 3 * run.ones()), retrain(longer, run.ones()))
    assert (retrain(full, 3 * run.ones()) - retrain(full, run.ones())).norm() > 0.01
    # ϵ undoes it: the sum is zero only as it goes to zero.
    wide = reverse_mode(replace(adam, optimizer=Adam(eps=0.1)), c.phi, progress=False)
    assert wide.sum().abs() > 1e-3 * wide.abs().sum()


def test_early_and_late():
    moved = unrolling_bank.seen_once(steps=20, rate=0.4)
    for when, later in (("first", 19), ("last", 0)):
        assert moved[when]["curved"] == pytest.approx(0.4 * 0.6**later)
        assert moved[when]["flat"] == pytest.approx(0.4)
    assert UNROLLING["part_i"].truth() == "curved: last, flat: same"
    assert len(UNROLLING["part_i"].options) == 9
    # "So it is for TracIn": one gradient and one ∇φ, seen first or last.
    slopes, ones = torch.ones(20, 2, 1).double(), torch.ones(20, 1).double()
    member = torch.zeros(20, 2, dtype=torch.bool)
    member[0, 0] = member[-1, 1] = True
    first, last = UNROLLING["part_h"].truth(slopes, ones, member, torch.full((20,), 0.4), 1)
    assert first == pytest.approx(last)


def test_runs_show_both_ends_and_absence():
    """A loop that leaves out an end, or the steps without z_i, must fail on some case."""
    for part, where in (("part_b", 3), ("part_c", 4)):
        for seed in range(100):
            rng = np.random.default_rng(seed)
            drawn = [UNROLLING[part].cases(rng)[where] for _ in range(UNROLLING[part].draws)]
            assert any(m[0] for m in drawn) and any(m[-1] for m in drawn)
            assert not any(m.all() for m in drawn) and all(m.sum() >= 2 for m in drawn)


def test_batches_have_b_members(rng):
    """So that a division by the batch's size and one by b are the same, as they are in a run."""
    for part, member, b in (("part_d", 2, 4), ("part_h", 2, 4)):
        case = UNROLLING[part].cases(rng)
        assert (case[member].sum(1) == case[b]).all()
        assert case[member].any(0).all() and b != case[member].shape[1]


@pytest.mark.parametrize(
    ("part", "answer", "diagnosis"),
    [
        (
            "part_a",
            lambda r, h, g, rate, b, m: r - rate * (h @ r + g / b) if m else 0 * r,
            "zero when absent",
        ),
        ("part_a", lambda r, h, g, rate, b, m: -m * rate / b * g, "direct term alone"),
        (
            "part_a",
            lambda r, h, g, rate, b, m: r - rate * (h @ r + g / b) if m else r.clone(),
            "still when absent",
        ),
        ("part_g", "w_t stays,\n the SUM is not zero", "w_t stays, the sum is not zero"),
    ],
)
def test_unrolling_mistakes_are_told_apart(part, answer, diagnosis):
    assert all(UNROLLING[part](answer, seed=s).diagnosis == diagnosis for s in range(20))


# --- convergence ---------------------------------------------------------------------------------


def test_only_one_fraction_removes():
    distances = convergence_bank.distance_to_the_run_without()
    assert CONVERGENCE["part_a"].truth() == 1
    assert distances[1.0] == 0 and min(d for e, d in distances.items() if e != 1) > 1e-3
    # Half the weight is half the way, nearly; ε = 1/n is about 1/n of it.
    assert distances[1 / 8] > 0.7 * distances[0.0]


def test_steps_of_the_response_are_those_of_the_chain(rng):
    run, path, *_, c = _small_run(rng)
    minus = -torch.eye(run.n).double()[c.j][None]
    chain = [r[0, 0] for _, r in responses(run, minus, progress=False)]
    for t, batch in enumerate(run.batches):
        each = [run.objective.take(batch[j : j + 1]) for j in range(4)]
        hessians = torch.stack([hessian(o, path[t]) for o in each])
        slopes = gradients(run.objective, path[t])[batch]
        given = chain[t], hessians, slopes, run.rates[t].item(), batch, c.j
        _close(CONVERGENCE["part_b"].truth(*given), chain[t + 1])


def _at_minimum(rng):
    """A regression with its minimum, and the H_i and ∇L_i there."""
    c = regression(rng)
    objective = linear(c.x, c.y)
    w = torch.linalg.lstsq(c.x, c.y).solution
    each = torch.stack([hessian(objective.take(torch.tensor([i])), w) for i in range(len(c.x))])
    return objective, w, each, gradients(objective, w), c.j


def _response(run, k):
    """Of w_T to taking weight from z_k, by the library's chain."""
    directions = -torch.eye(run.n).double()[k][None]
    return deque(responses(run, directions, progress=False), maxlen=1).pop()[1][0, 0]


def test_window_and_limit_are_those_of_runs(rng):
    objective, w, each, slopes, k = _at_minimum(rng)
    h, n = each.sum(0), objective.n
    largest = CONVERGENCE["part_e"].truth(h, n)
    run = Run(objective, w, SGD(), full_batches(n, 7), constant(0.7 * largest, 7))
    window = CONVERGENCE["part_c"].truth(h, slopes[k], n, 0.7 * largest, 7)
    _close(window, _response(run, k))
    limit = CONVERGENCE["part_d"].truth(each, slopes, k)
    _close(limit, -parameter_influence(objective, w)[k])
    late = CONVERGENCE["part_c"].truth(h, slopes[k], n, 0.5 * largest, 20_000)
    _close(late, limit)


def test_largest_step_is_sharp(rng):
    h, n = CONVERGENCE["part_e"].cases(rng)
    largest = CONVERGENCE["part_e"].truth(h, n)
    limit = torch.linalg.solve(h, torch.ones(len(h)).double())

    def off(rate, steps=3000):
        r = torch.zeros_like(limit)
        for _ in range(steps):
            r = r - rate / n * (h @ r - 1)
        return (r - limit).norm() / limit.norm()

    assert off(0.99 * largest) < 1e-6 < 1e3 < off(1.01 * largest)


@pytest.mark.parametrize(
    ("name", "safe"),
    [
        ("trace", True),
        ("Frobenius norm", True),
        ("best step", True),
        ("no overshooting", True),
        ("flattest direction", False),
        ("mean eigenvalue", False),
        ("largest diagonal entry", False),
        ("Langevin's 4", False),
    ],
)
def test_wrong_bounds_err_on_the_side_that_is_said(name, safe):
    part = CONVERGENCE["part_e"]
    formula = {m.name: m.formula for m in part.mistakes}[name]
    for seed in range(20):
        case = part.cases(np.random.default_rng(seed))
        assert (formula(*case) < part.truth(*case)) == safe


def test_flow_along_a_line_by_integration():
    sigma, n, g, r0, t = 0.7, 5, -1.3, 0.4, 1.9

    def end(sigma):
        flow = solve_ivp(
            lambda _, r: -sigma * r + g / n, (0, t), [r0], "DOP853", rtol=1e-12, atol=1e-13
        )
        return flow.y[0, -1]

    point = {"sigma": sigma, "n": n, "g": g, "r0": r0, "t": t}
    agrees(CONVERGENCE["part_f"], point, end(sigma), rel=1e-9)
    agrees(CONVERGENCE["part_g"], point, end(0.0), rel=1e-9)
    assert abs(end(1e-3) - end(0.0)) < 1e-2 * abs(end(0.0))


def test_flow_is_that_of_the_library_and_of_small_steps(rng):
    h, g, n, r0, t = CONVERGENCE["part_i"].cases(rng)
    truth = CONVERGENCE["part_i"].truth
    _close(truth(h, g, n, 0 * r0, t), response_flow(h, g / n, torch.tensor([t]).double())[0])

    def stepped(steps):
        r = r0
        for _ in range(steps):
            r = r - t / steps * (h @ r - g / n)
        return r

    _close(truth(h, g, n, r0, t), 2 * stepped(4000) - stepped(2000), rel=1e-5)


def test_flow_comes_to_rest_in_the_column_space_and_drifts_outside(rng):
    h, g, n, r0, _ = CONVERGENCE["part_i"].cases(rng)
    rest, truth = CONVERGENCE["part_h"].truth(h, g, n), CONVERGENCE["part_i"].truth
    onto = torch.linalg.pinv(h, rtol=1e-9) @ h
    late, later = truth(h, g, n, r0, 200.0), truth(h, g, n, r0, 300.0)
    _close(onto @ late, rest)
    _close(onto @ later, rest)
    _close(later - late, 100 / n * (g - onto @ g))
    _close(h @ torch.as_tensor(rest), onto @ g / n)


def test_conditions_against_running_away():
    found = convergence_bank.runaway()
    assert CONVERGENCE["part_j"].truth() == "p0 g = 0"
    assert set(found) == set(CONVERGENCE["part_j"].options)
    holds, fails = found["p0 g = 0"]
    assert abs(holds) < 1e-9 and fails == pytest.approx(1.5 / 5)
    # g = 0 suffices, but is not needed: without it, too, the drift may be none.
    assert max(map(abs, found["g = 0"])) < 1e-9
    # These hold in runs that drift, a unit of effort, as before; with more examples, slower.
    for name in ("sum of g = 0", "decaying steps", "small steps"):
        assert found[name][0] == pytest.approx(0.3)
    assert found["large n"][0] == pytest.approx(0.03)


def test_valley_is_that_of_the_library():
    s = torch.tensor(convergence_bank.VALLEY).double()
    assert s.sum() == 0
    w0 = torch.tensor([1.0, 0.5]).double()
    run = Run(valley(s), w0, SGD(), full_batches(5, 120), constant(0.25, 120))
    drift = -forward_mode(run, lambda w: w[1], progress=False)[0].item()
    assert convergence_bank.valley_drift() == pytest.approx(drift) == pytest.approx(9)


def test_one_step_more_or_less_in_the_valley_is_seen():
    part = CONVERGENCE["part_k"]
    assert part(9.0) and not part(9 * 121 / 120)
    assert part(9 * 119 / 120).diagnosis == "one step less"


def test_decaying_steps_settle_and_constant_ones_do_not():
    found = convergence_bank.response_of_sgd()
    assert CONVERGENCE["part_l"].truth() == "limit theorems"
    # The limit, from the minimum at two weights of z_0, by roots of the mean's derivative.
    a, c, d = convergence_bank._A, convergence_bank._C, convergence_bank._D

    def minimum(weight):
        beta = np.array([weight, 1.0, 1.0, 1.0])
        roots = np.roots([beta @ d, beta @ a, -(beta * a) @ c])
        return roots[np.abs(roots).argmin()]

    slope = (minimum(1 - 1e-5) - minimum(1 + 1e-5)) / 2e-5
    assert found["limit"][0] == pytest.approx(slope, rel=1e-6)
    short, long = (found[f"decaying, {steps} steps"] for steps in (300, 6000))
    assert long[1] < 0.5 * short[1] and abs(long[0] - slope) < 4 * long[1] / 20
    short, long = (found[f"constant, {steps} steps"] for steps in (300, 6000))
    assert long[1] == pytest.approx(short[1], rel=0.2) and long[1] > 0.3 * abs(slope)
    assert len(CONVERGENCE["part_l"].options) == 7


def test_pair_depends_on_the_order_of_the_batches(rng):
    run = _small_run(rng)[0]
    turned = replace(run, batches=run.batches.flip(0), rates=run.rates.flip(0))
    assert (explicit(run) - explicit(turned)).norm() > 0.01 * explicit(run).norm()


def test_removed_examples_are_in_some_batches_and_not_in_others():
    for part, there in (
        (CONVERGENCE["part_b"], lambda case: bool((case[4] == case[5]).any())),
        (UNROLLING["part_a"], lambda case: case[5]),
    ):
        for seed in range(50):
            rng = np.random.default_rng(seed)
            assert {there(part.cases(rng)) for _ in range(part.draws)} == {True, False}


@pytest.mark.parametrize(
    ("part", "answer", "diagnosis"),
    [
        (
            "part_b",
            lambda r, h, g, rate, batch, k: (
                r - rate * h.mean(0) @ r + rate / len(batch) * g[batch == k].sum(0)
                if k in batch
                else 0 * r
            ),
            "zero when absent",
        ),
        (
            "part_b",
            lambda r, h, g, rate, batch, k: rate / len(batch) * g[batch == k].sum(0),
            "direct term alone",
        ),
        ("part_d", lambda h, g, k: torch.linalg.solve(h.sum(0), g.sum(0)), "all gradients"),
        (
            "part_h",
            lambda h, g, n: torch.linalg.pinv(h / n, rtol=1e-9, hermitian=True) @ g / n,
            "no 1/n",
        ),
    ],
)
def test_convergence_mistakes_are_told_apart(part, answer, diagnosis):
    assert all(CONVERGENCE[part](answer, seed=s).diagnosis == diagnosis for s in range(20))
