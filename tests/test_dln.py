"""Modes at forty digits, rotations by finite differences, both against a trained network."""

import mpmath as mp
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.integrate import solve_ivp

from lib import dln, models
from lib.training import SGD, Run, constant, full_batches
from lib.unrolling import forward_mode

# Torch compiles its own rules when a forward derivative is first asked for.
pytestmark = pytest.mark.filterwarnings("ignore:.torch.jit.script:DeprecationWarning")

few = settings(deadline=None, max_examples=40, derandomize=True)
seeds = st.integers(0, 10**6)
SEEDS = range(3)
NAN, INF = float("nan"), float("inf")


def close(left, right, rtol=1e-10):
    left, right = np.asarray(left), np.asarray(right)
    assert left.shape == right.shape
    assert np.isfinite(left).all() and np.abs(left - right).max() <= rtol * np.abs(right).max()


def t64(*values):
    return torch.tensor(values, dtype=torch.float64)


def richardson(f, h):
    """The derivative at 0 of a function of one number, error O(h⁶)."""
    a, b, c = ((f(t) - f(-t)) / (2 * t) for t in (h, h / 2, h / 4))
    first, second = (4 * b - a) / 3, (4 * c - b) / 3
    return (16 * second - first) / 15


# --- one mode ------------------------------------------------------------------------------------


def printed(s, t, g0, tau):
    """𝒢 as it is printed, for mpmath."""
    grown = mp.exp(2 * s * t / tau)
    return s * grown / (grown - 1 + s / g0)


CASES = [(3.0, 1e-3, 1.0), (0.5, 1e-6, 2.0), (1.2, 0.3, 0.5), (0.7, 0.7, 1.0), (0.4, 2.5, 1.3)]


@pytest.mark.parametrize("s, g0, tau", CASES)
def test_mode_strength_solves_its_equation(s, g0, tau):
    times = np.linspace(0, 12 * tau / s, 25)
    solved = solve_ivp(
        lambda _, g: 2 * g * (s - g) / tau,
        (0, times[-1]),
        [g0],
        "DOP853",
        times,
        rtol=1e-12,
        atol=1e-15,
    )
    found = dln.mode_strength(t64(s), torch.tensor(times), g0, tau)
    np.testing.assert_allclose(found, solved.y[0], rtol=1e-9)
    assert found[0].item() == pytest.approx(g0, rel=1e-14)


@few
@given(st.floats(0.1, 5), st.floats(1e-6, 4), st.floats(0.3, 3), st.floats(0, 15))
def test_mode_and_its_sensitivity_at_forty_digits(s, g0, tau, t):
    with mp.workdps(40):
        a, b, c, d = map(mp.mpf, (s, t, g0, tau))
        strength = printed(a, b, c, d)
        # In s at fixed t and 𝒢(0); a step of 1e-12 leaves 1e-24.
        h = mp.mpf(10) ** -12
        slope = (printed(a + h, b, c, d) - printed(a - h, b, c, d)) / (2 * h)
        in_time = (printed(a, b + h, c, d) - printed(a, b - h, c, d)) / (2 * h)
        assert abs(d * in_time - 2 * strength * (a - strength)) < 1e-20 * (1 + a**2)
    found = dln.mode_strength(t64(s), t64(t), g0, tau)
    assert found.item() == pytest.approx(float(strength), rel=1e-12)
    found = dln.mode_sensitivity(t64(s), t64(t), g0, tau)
    assert found.item() == pytest.approx(float(slope), rel=1e-10, abs=1e-12)


def test_modes_do_not_overflow_and_broadcast():
    s, t = t64(0.5, 3.0, 1e3), t64(0.0, 1e4, 1e8)[:, None]
    strength, slope = dln.mode_strength(s, t, 0.01), dln.mode_sensitivity(s, t, 0.01)
    assert strength.shape == slope.shape == (3, 3)
    np.testing.assert_allclose(strength[0], [0.01] * 3, rtol=1e-12)
    assert slope[0].abs().max() < 1e-12
    assert (strength[1:] == s).all() and (slope[1:] == 1).all()


def test_sensitivity_peaks_just_after_the_transition_and_stays():
    """Errata on 4.6(b): 0 before, about ½ + ¼ log(s/𝒢(0)) at its top, and 1, not 0, in the end."""
    s, g0 = t64(3.0), 1e-3
    turn = dln.transition_time(s, g0)
    times = torch.linspace(0, 4, 4001, dtype=torch.float64) * turn
    slope = dln.mode_sensitivity(s, times, g0)
    at = slope.argmax()
    assert slope[0].abs() < 1e-12 and slope[at].item() == pytest.approx(2.387, abs=5e-4)
    assert (times[at] / turn).item() == pytest.approx(1.068, abs=1e-3)
    assert slope[2000].item() == pytest.approx(1.005, abs=5e-4) and abs(slope[-1] - 1) < 1e-4
    assert abs(slope[at] - 0.5 - 0.25 * np.log(3000)) < 0.12
    # What does peak at the transition, and vanishes on both sides, is g′ times what is left.
    left = slope * (s - dln.mode_strength(s, times, g0))
    assert abs(times[left.argmax()] / turn - 1) < 0.05
    assert max(left[0], left[-1]) < 1e-3 * left.max()


@few
@given(st.floats(0.1, 5), st.floats(1e-7, 0.4), st.floats(0.3, 3))
def test_transition_is_halfway(s, share, tau):
    g0 = share * s
    at = dln.transition_time(t64(s), g0, tau)
    with mp.workdps(40):
        half = printed(mp.mpf(s), mp.mpf(at.item()), mp.mpf(g0), mp.mpf(tau))
    assert float(half) == pytest.approx(s / 2, rel=1e-11)


# --- rotations -----------------------------------------------------------------------------------


def signed_svd(matrix):
    """U, S, Vᵀ near the identity: each pair of vectors with U's diagonal positive."""
    u, s, vt = np.linalg.svd(matrix)
    sign = np.sign(np.diag(u))
    return u * sign, s, sign[:, None] * vt


def spectrum(rng, d):
    """Descending, at least 0.3 apart and above 0.3."""
    return np.cumsum(rng.uniform(0.3, 1.2, d))[::-1].copy()


@few
@given(seeds, st.integers(1, 5))
def test_rotations_by_finite_differences(seed, d):
    rng = np.random.default_rng(seed)
    s, e = spectrum(rng, d), rng.normal(size=(d, d))
    a, b = (m.numpy() for m in dln.singular_rotations(torch.tensor(s), torch.tensor(e)))
    left = richardson(lambda h: signed_svd(np.diag(s) + h * e)[0], 4e-3)
    right = richardson(lambda h: signed_svd(np.diag(s) + h * e)[2], 4e-3)
    np.testing.assert_allclose(a, left, atol=1e-7)
    np.testing.assert_allclose(b, right, atol=1e-7)
    assert (a == -a.T).all() and (b == -b.T).all()


def test_rotations_are_not_the_drafts():
    """A_jk = B_kj = E_jk/(s_k − s_j): neither skew nor right, unless E is symmetric."""
    s = np.array([3.0, 2.0, 0.7])
    e = np.outer([1.0, -0.4, 0.8], [0.5, 1.1, -0.9])
    gap = s[None, :] - s[:, None] + np.eye(3)
    for matrix, right in ((e, False), ((e + e.T) / 2, True)):
        draft = np.where(np.eye(3) == 1, 0, matrix / gap)
        a, b = dln.singular_rotations(torch.tensor(s), torch.tensor(matrix))
        apart = max(np.abs(a.numpy() - draft).max(), np.abs(b.numpy() - draft.T).max())
        assert apart < 1e-14 if right else apart > 0.3
        assert np.allclose(draft, -draft.T) == right


@few
@given(seeds, st.integers(1, 5), st.floats(0, 6))
def test_three_sources_by_finite_differences(seed, d, t):
    """U 𝒢(S) Vᵀ, with nothing assumed of E; the rotations and the strengths also apart."""
    rng = np.random.default_rng(seed)
    s, e, g0 = spectrum(rng, d), rng.normal(size=(d, d)), 0.01

    def strength(values):
        return values / (1 + np.exp(-2 * values * t) * (values / g0 - 1))

    def learned(h):
        u, values, vt = np.linalg.svd(np.diag(s) + h * e)
        return u * strength(values) @ vt

    want = richardson(learned, 4e-3)
    ts, te = torch.tensor(s), torch.tensor(e)
    g, slope = (f(ts, t64(t), g0) for f in (dln.mode_strength, dln.mode_sensitivity))
    parts = dln.three_sources(ts, g, slope, te)
    np.testing.assert_allclose(parts.total, want, atol=1e-7)
    np.testing.assert_allclose(dln.mode_response(ts, g, slope, te), want, atol=1e-7)
    turned = richardson(lambda h: signed_svd(np.diag(s) + h * e)[0] @ np.diag(g), 4e-3)
    np.testing.assert_allclose(parts.left_rotation, turned, atol=1e-7)
    turned = richardson(lambda h: np.diag(g) @ signed_svd(np.diag(s) + h * e)[2], 4e-3)
    np.testing.assert_allclose(parts.right_rotation, turned, atol=1e-7)
    stretched = richardson(lambda h: strength(signed_svd(np.diag(s) + h * e)[1]), 4e-3)
    np.testing.assert_allclose(parts.strength, np.diag(stretched), atol=1e-7)


def response_at_fifty_digits(s, e, t, g0):
    """d/dε of U 𝒢(S) Vᵀ, which is smooth in ε also where singular values meet."""
    with mp.workdps(50):
        h = mp.mpf(10) ** -14

        def learned(step):
            u, values, vt = mp.svd_r(mp.diag(list(map(mp.mpf, s))) + step * mp.matrix(e.tolist()))
            return u * mp.diag([printed(v, mp.mpf(t), mp.mpf(g0), 1) for v in values]) * vt

        return np.array(((learned(h) - learned(-h)) / (2 * h)).tolist(), dtype=float)


@pytest.mark.parametrize("apart", [0, 1e-15, 1e-12, 1e-9, 1e-7, 9e-7, 1.1e-6, 1e-5, 1e-3])
@pytest.mark.parametrize("t", [0.0, 2.0, 3.5, 8.0])
def test_response_where_singular_values_meet(apart, t):
    """Nine digits are kept, equal or not; A and B lose as many as s_j and s_k share."""
    rng = np.random.default_rng(5)
    s, e = np.array([2.0 * (1 + apart), 2.0, 0.6]), rng.normal(size=(3, 3))
    ts = torch.tensor(s)
    g, slope = (f(ts, t64(t), 1e-3) for f in (dln.mode_strength, dln.mode_sensitivity))
    want = response_at_fifty_digits(s, e, t, 1e-3)
    close(dln.mode_response(ts, g, slope, torch.tensor(e)), want, 1e-9)
    if apart < 1e-12:
        with pytest.raises(ValueError, match=r"^s: expected different singular values"):
            dln.three_sources(ts, g, slope, torch.tensor(e))
    else:
        total = dln.three_sources(ts, g, slope, torch.tensor(e)).total
        close(total, want, 1e-12 + 1e-15 / apart)


def test_small_modes_that_are_apart_are_not_taken_for_equal():
    """How near two modes are is measured against themselves, not against the largest."""
    s, e = t64(1e6, 1.3, 1.0), t64([0.0, 0, 0], [0, 1, 2], [0, 1, 1])
    g, slope = dln.mode_strength(s, t64(3.5), 1e-3), dln.mode_sensitivity(s, t64(3.5), 1e-3)
    alone = dln.mode_response(s[1:], g[1:], slope[1:], e[1:, 1:])
    close(dln.mode_response(s, g, slope, e)[1:, 1:], alone)


# --- the network ---------------------------------------------------------------------------------


def task(seed, s=(3.0, 2.0, 0.8), n=9, noise=0.3):
    """White inputs, and labels from a random linear map with these singular values, and noise."""
    rng = np.random.default_rng(seed)
    d = len(s)
    x = dln.white_inputs(n, d, torch.Generator().manual_seed(seed))
    u, v = (np.linalg.qr(rng.normal(size=(d, d)))[0] for _ in range(2))
    y = x @ torch.tensor((u * s) @ v.T).T + noise * torch.tensor(rng.normal(size=(n, d)))
    return x, y, y.T @ x / n


@few
@given(seeds, st.integers(1, 5), st.integers(0, 8))
def test_white_inputs_are_white(seed, d, more):
    x = dln.white_inputs(d + more, d, torch.Generator().manual_seed(seed))
    assert x.shape == (d + more, d) and x.dtype == torch.float64
    np.testing.assert_allclose(x.T @ x / (d + more), np.eye(d), atol=1e-13)
    assert torch.equal(x, dln.white_inputs(d + more, d, torch.Generator().manual_seed(seed)))
    if d > 1:
        assert not torch.equal(x, dln.white_inputs(d + more, d, torch.Generator().manual_seed(-1)))


def test_covariances_by_loops():
    rng = np.random.default_rng(0)
    x, y, beta = rng.normal(size=(5, 3)), rng.normal(size=(5, 3)), rng.uniform(0, 2, 5)
    for weights in (beta, np.ones(5)):
        yx = sum(b * np.outer(v, u) for b, u, v in zip(weights, x, y, strict=True)) / 5
        xx = sum(b * np.outer(u, u) for b, u in zip(weights, x, strict=True)) / 5
        given_beta = torch.tensor(weights) if weights is beta else None
        found = dln.covariances(torch.tensor(x), torch.tensor(y), given_beta)
        close(found.yx, yx)
        close(found.xx, xx)


@pytest.mark.parametrize("seed", SEEDS)
def test_balanced_start(seed):
    yx = task(seed)[2]
    u, s, vt = np.linalg.svd(yx.numpy())
    rotation = np.linalg.qr(np.random.default_rng(seed).normal(size=(3, 3)))[0]
    for r in (None, rotation):
        start = dln.balanced_start(yx, 0.04, None if r is None else torch.tensor(r))
        w1, w2 = (w.numpy() for w in start)
        close(w2 @ w1, 0.04 * u @ vt)
        close(w1 @ w1.T, 0.04 * np.eye(3))
        close(w2.T @ w2, 0.04 * np.eye(3))
        inner = np.eye(3) if r is None else r
        for aligned in (yx.numpy() @ w1.T @ inner, yx.numpy().T @ w2 @ inner):
            close(aligned.T @ aligned, 0.04 * np.diag(s**2))


@pytest.mark.parametrize("tau", [1.0, 2.5])
@pytest.mark.parametrize("seed", SEEDS)
def test_flow_from_a_balanced_aligned_start_is_the_modes(seed, tau):
    x, y, yx = task(seed)
    u, s, vt = np.linalg.svd(yx.numpy())
    times = torch.linspace(0, 6 * tau, 9, dtype=torch.float64)
    rotation = np.linalg.qr(np.random.default_rng(seed).normal(size=(3, 3)))[0]
    for r in (None, torch.tensor(rotation)):
        start = dln.balanced_start(yx, 0.01, r)
        path = dln.gradient_flow(dln.covariances(x, y), *start, times, tau)
        for t, w in zip(times.tolist(), path.numpy(), strict=True):
            close(w, u * np.array([float(printed(k, t, 0.01, tau)) for k in s]) @ vt, 1e-8)
            close(dln.weight_response(yx, x[0], y[0], t, 0.01, 9, tau)[0], w, 1e-8)


def test_flow_starts_where_it_is_told():
    x, y, yx = task(1)
    w1, w2 = dln.balanced_start(yx, 0.01)
    close(dln.gradient_flow(dln.covariances(x, y), w1, w2, t64(0.0)), (w2 @ w1)[None])


def test_alignment_is_needed_too():
    """Errata on 4.6's set-up: as small and as balanced, but turned against the singular basis."""
    x, y, yx = task(0)
    rng = np.random.default_rng(0)
    q1, q2 = (torch.tensor(np.linalg.qr(rng.normal(size=(3, 3)))[0]) for _ in range(2))
    w1, w2 = 0.01**0.5 * q1, 0.01**0.5 * q2
    u, s, vt = torch.linalg.svd(yx)
    times = t64(1.0, 25.0)
    path = dln.gradient_flow(dln.covariances(x, y), w1, w2, times)
    modes = [u * dln.mode_strength(s, t, 0.01) @ vt for t in times]
    assert (path[0] - modes[0]).norm() / modes[0].norm() > 0.5
    close(path[1], yx, 1e-6)


def test_flow_is_the_limit_of_gradient_descent():
    """From any start, inputs not white: t = ηT, first order in η, and so is the unrolled influence
    of an observable of W."""
    rng = np.random.default_rng(2)
    x, y = torch.tensor(rng.normal(size=(4, 2))), torch.tensor(rng.normal(size=(4, 2)))
    w1, w2, c = torch.tensor(0.5 * rng.normal(size=(3, 2, 2)))
    objective, t = models.deep_linear(x, y), 2.0
    flow = dln.gradient_flow(dln.covariances(x, y), w1, w2, t64(0.0, t))
    close(flow[0], w2 @ w1)
    response = dln.flow_response(x, y, 3, t64(t), w1, w2)[0]

    def product(w):
        return w[4:].view(2, 2) @ w[:4].view(2, 2)

    trained, influence = [], []
    for steps in (40, 80):
        start = torch.cat([w1.reshape(-1), w2.reshape(-1)])
        run = Run(objective, start, SGD(), full_batches(4, steps), constant(t / steps, steps))
        state = run.start()
        for k in range(steps):
            state = run.step(k, state, run.ones())
        trained.append(product(state[0]))
        along = t64([0.0, 0, 0, 1])
        phi = lambda w: (c * product(w)).sum()  # noqa: E731
        influence.append(forward_mode(run, phi, along, progress=False)[0])
    for (coarse, fine), limit in ((trained, flow[1]), (influence, (c * response).sum())):
        assert 1.8 < (coarse - limit).norm() / (fine - limit).norm() < 2.2
        close(2 * fine - coarse, limit, 3e-3)


@pytest.mark.parametrize("seed", SEEDS)
def test_response_in_a_general_basis_when_the_start_turns_too(seed):
    """Train on Σ_yx + h y_p x_pᵀ/n from its own aligned start: the closed form at every time."""
    x, y, yx = task(seed)
    p, times = 4, torch.linspace(0, 5, 8, dtype=torch.float64)
    white = torch.eye(3, dtype=torch.float64)

    def trained(h):
        moved = yx + h * torch.outer(y[p], x[p]) / 9
        start = dln.balanced_start(moved, 0.01)
        return dln.gradient_flow(dln.Covariances(moved, white), *start, times)

    want = richardson(trained, 0.02)
    for t, w in zip(times, want, strict=True):
        found = dln.weight_response(yx, x[p], y[p], float(t), 0.01, 9)[1]
        np.testing.assert_allclose(found, w, atol=2e-8)


@pytest.mark.parametrize("tau", [1.0, 0.4])
@pytest.mark.parametrize("seed", SEEDS)
def test_response_of_a_network_forgets_its_start(seed, tau):
    """A network's start does not turn with the example. Linearising the flow about the modes then
    gives, of the skew part of E_jk alone, a share e^(−(s_j + s_k)t/τ) less than the closed form."""
    x, y, yx = task(seed)
    u, s, vt = torch.linalg.svd(yx)
    times, p, g0 = torch.linspace(0, 6 * tau, 9, dtype=torch.float64), 1, 1e-3
    start = dln.balanced_start(yx, g0)
    found = dln.flow_response(x, y, p, times, *start, tau, cross_only=True)
    e = torch.outer(u.T @ y[p], vt @ x[p]) / 9
    together = s[:, None] + s[None, :]
    for t, network in zip(times, found, strict=True):
        closed = dln.weight_response(yx, x[p], y[p], float(t), g0, 9, tau)[1]
        g = t64(*[float(printed(k, t.item(), g0, tau)) for k in s.tolist()])
        lost = (g[:, None] + g[None, :]) / together * torch.exp(-together * t / tau)
        gap = u.T @ (closed - network) @ vt.T
        np.testing.assert_allclose(gap, lost * (e - e.T) / 2, atol=1e-7)
    # So once the slower modes have been learned the two agree.
    assert (closed - network).abs().max() < 1e-6 * network.abs().max()
    late = dln.weight_response(yx, x[p], y[p], 60.0, g0, 9)[1]
    close(late, torch.outer(y[p], x[p]) / 9, 1e-12)


def test_response_with_the_drafts_rotation_fails_in_training():
    x, y, yx = task(0)
    u, s, vt = torch.linalg.svd(yx)
    t, p = 1.8, 2
    e = torch.outer(u.T @ y[p], vt @ x[p])
    gap = s[None, :] - s[:, None] + torch.eye(3)
    draft = torch.where(torch.eye(3) == 1, 0.0, e / gap)
    g, slope = (f(s, t64(t)[0], 1e-3) for f in (dln.mode_strength, dln.mode_sensitivity))
    printed_form = u @ (draft * g + torch.diag(slope * e.diag()) + g[:, None] * draft.T) @ vt / 9
    start = dln.balanced_start(yx, 1e-3)
    trained = dln.flow_response(x, y, p, t64(t), *start, cross_only=True)[0]
    close(dln.weight_response(yx, x[p], y[p], t, 1e-3, 9)[1], trained, 1e-3)
    assert (printed_form - trained).norm() / trained.norm() > 0.2


@pytest.mark.parametrize("seed", SEEDS)
def test_true_upweighting_ends_at_the_weighted_fit(seed):
    """(y_p − M x_p) x_pᵀ/n, M = Σ_yx: the derivative of least squares; not y_p x_pᵀ/n."""
    x, y, yx = task(seed)
    p, start = 3, dln.balanced_start(yx, 0.1)
    found = dln.flow_response(x, y, p, t64(0.0, 16.0), *start)
    assert (found[0] == 0).all()
    close(found[1], torch.outer(y[p] - yx @ x[p], x[p]) / 9, 1e-6)

    def fit(h):
        root = np.sqrt(np.where(np.arange(9) == p, 1 + h, 1.0))[:, None]
        return np.linalg.lstsq(root * x.numpy(), root * y.numpy(), rcond=None)[0].T

    close(found[1], richardson(fit, 0.05), 1e-6)
    cross = dln.flow_response(x, y, p, t64(16.0), *start, cross_only=True)[0]
    close(cross, torch.outer(y[p], x[p]) / 9, 1e-6)


def test_true_upweighting_without_noise():
    """y = Sx, aligned: more weight on z_p only speeds mode k up, by x_k²/n; in the end nothing."""
    s = t64(2.5, 1.4)
    x = dln.white_inputs(6, 2, torch.Generator().manual_seed(3))
    y, p, g0 = x * s, 2, 0.01
    times = torch.linspace(0, 6, 13, dtype=torch.float64)
    start = dln.balanced_start(torch.diag(s), g0)
    found = dln.flow_response(x, y, p, times, *start)
    g = np.array([[float(printed(k, t, g0, 1)) for k in s.tolist()] for t in times.tolist()])
    pace = times.numpy()[:, None] * 2 * g * (s.numpy() - g)
    np.testing.assert_allclose(
        found.diagonal(dim1=1, dim2=2), x[p].numpy() ** 2 * pace / 6, atol=1e-8
    )
    cross = dln.flow_response(x, y, p, times, *start, cross_only=True)
    assert found[-1].abs().max() < 1e-4 and cross[-1].abs().max() > 0.05


@pytest.mark.parametrize("seed", SEEDS)
def test_loss_influence_by_finite_differences(seed):
    rng = np.random.default_rng(seed)
    w, response = rng.normal(size=(2, 3, 3))
    x, y = rng.normal(size=(2, 3))
    want = richardson(lambda h: 0.5 * ((y - (w + h * response) @ x) ** 2).sum(), 0.1)
    close(dln.loss_influence(*map(torch.tensor, (w, response, x, y))), want, 1e-9)


# --- bad input -----------------------------------------------------------------------------------

S, E = t64(3.0, 1.0), t64([1.0, 2.0], [3.0, 4.0])
X, Y = torch.eye(2, dtype=torch.float64), E
DATA = dln.covariances(X, Y)
EYE, T = torch.eye(2, dtype=torch.float64), t64(0.1)


@pytest.mark.parametrize(
    "name, call",
    [
        *[
            case
            for f in (dln.mode_strength, dln.mode_sensitivity)
            for case in (
                ("g0", lambda f=f: f(S, T, 0.0)),
                ("g0", lambda f=f: f(S, T, NAN)),
                ("tau", lambda f=f: f(S, T, 0.1, -1.0)),
                ("s", lambda f=f: f(t64(1.0, 0.0), T, 0.1)),
                ("s", lambda f=f: f(S * INF, T, 0.1)),
                ("t", lambda f=f: f(S, -T, 0.1)),
                ("t", lambda f=f: f(S, T * NAN, 0.1)),
                ("t", lambda f=f: f(S, T * INF, 0.1)),
            )
        ],
        ("s", lambda: dln.transition_time(S, 0.5)),
        ("s", lambda: dln.transition_time(S * NAN, 0.1)),
        ("s", lambda: dln.transition_time(S * INF, 0.1)),
        ("g0", lambda: dln.transition_time(S, 0.0)),
        ("tau", lambda: dln.transition_time(S, 0.1, 0.0)),
        ("s", lambda: dln.singular_rotations(t64(1.0, 1.0), E)),
        ("s", lambda: dln.singular_rotations(S[None], E)),
        ("e", lambda: dln.singular_rotations(S, E[:1])),
        ("e", lambda: dln.singular_rotations(S, E * NAN)),
        ("g", lambda: dln.three_sources(S, S[:1], S, E)),
        ("slope", lambda: dln.three_sources(S, S, S * NAN, E)),
        ("s", lambda: dln.mode_response(S[None], S, S, E)),
        ("s", lambda: dln.mode_response(0 * S, S, S, E)),
        ("g", lambda: dln.mode_response(S, S[:1], S, E)),
        ("slope", lambda: dln.mode_response(S, S, S * NAN, E)),
        ("e", lambda: dln.mode_response(S, S, S, E[:, :1])),
        ("x_p", lambda: dln.weight_response(E, S[None], S, 1.0, 0.1, 2)),
        ("y_p", lambda: dln.weight_response(E, S, S[:1], 1.0, 0.1, 2)),
        ("sigma_yx", lambda: dln.weight_response(E[:1], S, S, 1.0, 0.1, 2)),
        ("n", lambda: dln.weight_response(E, S, S, 1.0, 0.1, 0)),
        ("g0", lambda: dln.weight_response(E, S, S, 1.0, 0.0, 2)),
        ("t", lambda: dln.weight_response(E, S, S, -1.0, 0.1, 2)),
        ("x", lambda: dln.covariances(S, Y)),
        ("y", lambda: dln.covariances(X, Y[:1])),
        ("beta", lambda: dln.covariances(X, Y, S[:1])),
        ("sigma_yx", lambda: dln.balanced_start(S, 0.1)),
        ("g0", lambda: dln.balanced_start(E, -0.1)),
        ("rotation", lambda: dln.balanced_start(E, 0.1, E)),
        ("rotation", lambda: dln.balanced_start(E, 0.1, torch.eye(3, dtype=torch.float64))),
        ("w1", lambda: dln.gradient_flow(DATA, S, EYE, T)),
        ("w2", lambda: dln.gradient_flow(DATA, EYE, EYE[:1], T)),
        ("times", lambda: dln.gradient_flow(DATA, EYE, EYE, torch.tensor(1.0))),
        ("times", lambda: dln.gradient_flow(DATA, EYE, EYE, -T)),
        ("times", lambda: dln.gradient_flow(DATA, EYE, EYE, t64(0.2, 0.1))),
        ("tau", lambda: dln.gradient_flow(DATA, EYE, EYE, T, -1.0)),
        ("p", lambda: dln.flow_response(X, Y, 2, T, EYE, EYE)),
        ("p", lambda: dln.flow_response(X, Y, -1, T, EYE, EYE)),
        ("step", lambda: dln.flow_response(X, Y, 0, T, EYE, EYE, step=0.0)),
        ("d", lambda: dln.white_inputs(3, 0, torch.Generator())),
        ("n", lambda: dln.white_inputs(2, 3, torch.Generator())),
    ],
)
def test_bad_input_is_named(name, call):
    with pytest.raises(ValueError, match=rf"^{name}: expected"):
        call()
