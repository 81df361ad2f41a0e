"""Exercise 03_sgld: a sampler step by step, what its step costs, and an error for its answer."""

from functools import cache

import numpy as np
import sympy as sp
import torch

from lib.checks.engine import Choice, Formula, Function, Mistake, Number
from lib.random_problems import normal, stretched

# --- (a) one step --------------------------------------------------------------------------------


def _one_step(rng: np.random.Generator) -> tuple:
    p = int(rng.integers(2, 6))
    return normal(rng, p), 2 * normal(rng, p), float(rng.uniform(0.05, 0.8)), normal(rng, p)


def _lowest_nearby(w, gradient, step, xi):
    """The step goes to the minimum over v of ∇U·v + ‖v − w − √η ξ‖²/η, a parabola in every
    coordinate, whose lowest point is read from three of its values."""
    w, gradient, xi = w.numpy(), gradient.numpy(), xi.numpy()
    below, middle, above = (
        gradient * v + (v - w - np.sqrt(step) * xi) ** 2 / step for v in (-1, 0, 1)
    )
    return 0.5 * (below - above) / (below - 2 * middle + above)


part_a = Function(
    "sgld.part_a",
    "the state after one Langevin step",
    truth=_lowest_nearby,
    cases=_one_step,
    mistakes=[
        Mistake(
            "whole drift",
            lambda w, g, step, xi: w - step * g + step**0.5 * xi,
            "The drift is −½η∇U. With −η∇U beside √η ξ, small steps sample exp(−2U), not exp(−U).",
        ),
        Mistake(
            "noise η",
            lambda w, g, step, xi: w - 0.5 * step * g + step * xi,
            "The noise must have variance η, so its size is √η: with η ξ it fades as the steps "
            "shrink.",
        ),
        Mistake(
            "noise √(2η)",
            lambda w, g, step, xi: w - 0.5 * step * g + (2 * step) ** 0.5 * xi,
            "√(2η) goes with a drift of −η∇U. Beside −½η∇U it samples exp(−U/2), twice as hot.",
        ),
        Mistake(
            "other convention",
            lambda w, g, step, xi: w - step * g + (2 * step) ** 0.5 * xi,
            "Right sampler, other convention: this is a step of size 2η. Here the drift is −½η∇U.",
        ),
        Mistake(
            "uphill",
            lambda w, g, step, xi: w + 0.5 * step * g + step**0.5 * xi,
            "Uphill: the drift lowers the energy, so it goes along −∇U.",
        ),
        Mistake(
            "noise subtracted",
            lambda w, g, step, xi: w - 0.5 * step * g - step**0.5 * xi,
            "The same in distribution, since −ξ is as normal as ξ. But here √η ξ is added.",
        ),
        Mistake(
            "no noise",
            lambda w, g, step, xi: w - 0.5 * step * g,
            "Without noise this is gradient descent: it ends in a minimum and samples nothing.",
        ),
        Mistake(
            "half noise",
            lambda w, g, step, xi: w + 0.5 * (step**0.5 * xi - step * g),
            "The ½ belongs to the drift alone. The noise is √η ξ.",
        ),
        Mistake(
            "half under the root",
            lambda w, g, step, xi: w - 0.5 * step * g + (0.5 * step) ** 0.5 * xi,
            "The ½ belongs to the drift alone. With √(η/2) ξ small steps sample exp(−2U), "
            "twice as cold.",
        ),
        Mistake(
            "noise unscaled",
            lambda w, g, step, xi: w - 0.5 * step * g + xi,
            "ξ has variance 1, however small the step. The noise must have variance η: √η ξ.",
        ),
        Mistake(
            "the move alone",
            lambda w, g, step, xi: step**0.5 * xi - 0.5 * step * g,
            "This is the move alone. The new state is w plus the move.",
        ),
        Mistake(
            "drift without η",
            lambda w, g, step, xi: w - 0.5 * g + step**0.5 * xi,
            "The drift lacks η: it must shrink with the step, −½η∇U.",
        ),
    ],
    hints=[
        "Two things are added to w: a drift along −∇U, and noise. How large is each?",
        "The drift is −½η∇U. The noise has variance η.",
        "w − ½η∇U + √η ξ.",
    ],
)

# --- (b) the gradient of a mini-batch ------------------------------------------------------------


def _batch(rng: np.random.Generator) -> tuple:
    n, p = int(rng.integers(8, 14)), int(rng.integers(2, 5))
    m = int(rng.integers(p + 1, n - 2))
    rows = torch.from_numpy(rng.choice(n, m, replace=False))
    kappa, gamma = rng.uniform(1.3, 3.0, 2) ** rng.choice([-1, 1], 2)
    x, y, w, centre = stretched(rng, n, p), normal(rng, n), normal(rng, p), normal(rng, p)
    return x, y, w, rows, float(kappa), float(gamma), centre


def _difference_of_energies(x, y, w, rows, kappa, gamma, centre):
    """The batch's energy is a parabola in each coordinate: a central difference is its slope."""
    x, y, w, centre = x.numpy(), y.numpy(), w.numpy(), centre.numpy()
    count = np.zeros(len(x))
    count[rows.numpy()] = len(x) / len(rows)

    def energy(v):
        return kappa * count @ (y - x @ v) ** 2 / 2 + gamma * ((v - centre) ** 2).sum() / 2

    return [(energy(w + e) - energy(w - e)) / 2 for e in np.eye(len(w))]


def _two_pulls(combine):
    """A mistake's formula in the batch's Σ∇L, in w − w*, n/m, κ and γ."""

    def wrong(x, y, w, rows, kappa, gamma, centre):
        pull = -(y - x @ w)[rows] @ x[rows]
        return combine(pull, w - centre, len(x) / len(rows), kappa, gamma)

    return wrong


part_b = Function(
    "sgld.part_b",
    "the gradient of the energy, estimated from the batch",
    truth=_difference_of_energies,
    cases=_batch,
    mistakes=[
        Mistake(
            "no n/m",
            _two_pulls(lambda pull, away, scale, kappa, gamma: kappa * pull + gamma * away),
            "The batch stands in for all n examples: its summed gradient counts n/m times.",
        ),
        Mistake(
            "batch mean",
            lambda x, y, w, rows, kappa, gamma, centre: (
                -kappa * (y - x @ w)[rows] @ x[rows] / len(rows) + gamma * (w - centre)
            ),
            "This is the batch's mean gradient, but the energy has the sum over all n: times n.",
        ),
        Mistake(
            "upside down",
            _two_pulls(lambda pull, away, scale, kappa, gamma: kappa * pull / scale + gamma * away),
            "m/n is upside down: a smaller batch must count more for each example, n/m.",
        ),
        Mistake(
            "n for n/m",
            lambda x, y, w, rows, kappa, gamma, centre: (
                -kappa * len(x) * (y - x @ w)[rows] @ x[rows] + gamma * (w - centre)
            ),
            "n times the batch's sum is m times too much: n times its mean is wanted.",
        ),
        Mistake(
            "restraint scaled",
            _two_pulls(
                lambda pull, away, scale, kappa, gamma: scale * (kappa * pull + gamma * away)
            ),
            "n/m scales up what was left out of the batch. The restraint is there whole: no n/m.",
        ),
        Mistake(
            "no κ",
            _two_pulls(lambda pull, away, scale, kappa, gamma: scale * pull + gamma * away),
            "κ is missing: the energy is κ Σ L_i plus the restraint.",
        ),
        Mistake(
            "neither κ nor n/m",
            _two_pulls(lambda pull, away, scale, kappa, gamma: pull + gamma * away),
            "Two factors are missing on the losses: κ, and n/m for what the batch leaves out.",
        ),
        Mistake(
            "κ on the restraint",
            _two_pulls(
                lambda pull, away, scale, kappa, gamma: kappa * (scale * pull + gamma * away)
            ),
            "κ tempers the losses and nothing else: the restraint is ½γ‖w − w*‖², without κ.",
        ),
        Mistake(
            "no restraint",
            _two_pulls(lambda pull, away, scale, kappa, gamma: kappa * scale * pull),
            "The restraint's gradient γ(w − w*) is missing: nothing holds the chain at w*.",
        ),
        Mistake(
            "residual's sign",
            _two_pulls(lambda p, away, scale, kappa, gamma: gamma * away - kappa * scale * p),
            "The losses' gradient has the wrong sign: ∇L_i = −(y_i − wᵀx_i) x_i.",
        ),
        Mistake(
            "restraint's sign",
            _two_pulls(lambda p, away, scale, kappa, gamma: kappa * scale * p - gamma * away),
            "The restraint's sign is flipped: its gradient γ(w − w*) points away from w*.",
        ),
        Mistake(
            "held at zero",
            lambda x, y, w, rows, kappa, gamma, centre: (
                -kappa * len(x) / len(rows) * (y - x @ w)[rows] @ x[rows] + gamma * w
            ),
            "γw holds the chain at zero, as a prior would. The centre is w*: γ(w − w*).",
        ),
        Mistake(
            "restraint halved",
            _two_pulls(lambda p, away, scale, kappa, g: kappa * scale * p + 0.5 * g * away),
            "The ½ of ½γ‖w − w*‖² goes when it is differentiated: γ(w − w*).",
        ),
        Mistake(
            "restraint doubled",
            _two_pulls(lambda p, away, scale, kappa, g: kappa * scale * p + 2 * g * away),
            "½γ‖w − w*‖² has a ½ for the 2 to cancel: its gradient is γ(w − w*), not twice that.",
        ),
        Mistake(
            "first rows",
            lambda x, y, w, rows, kappa, gamma, centre: (
                -kappa * len(x) / (m := len(rows)) * (y - x @ w)[:m] @ x[:m] + gamma * (w - centre)
            ),
            "These are the first m examples. `rows` holds the indices of the batch: x[rows].",
        ),
        Mistake(
            "all examples",
            lambda x, y, w, rows, kappa, gamma, centre: (
                -kappa * (y - x @ w) @ x + gamma * (w - centre)
            ),
            "This is the exact gradient, from all n examples. Use those in `rows` alone.",
        ),
    ],
    hints=[
        "Which of the two parts of the energy does a batch leave out, and how much of it?",
        "∇L_i = −(y_i − wᵀx_i) x_i, summed over the batch and counted n/m times.",
        "κ (n/m) Σ_rows ∇L_i + γ (w − w*).",
    ],
)

# --- (c), (d) what a finite step does ------------------------------------------------------------

_h, _eta, _noise = sp.symbols("h eta S", positive=True)
_shrunk = 1 - _eta * _h / 4

part_c = Formula(
    "sgld.part_c",
    "the variance in which full-batch SGLD settles on ½hw², in h and η",
    truth=1 / (_h * _shrunk),
    domain={"h": (0.5, 2), "eta": (0.1, 1.5)},
    mistakes=[
        Mistake(
            "exact posterior",
            1 / _h,
            "1/h is the posterior's variance, reached as η → 0. At a finite step SGLD misses it.",
        ),
        Mistake(
            "other convention",
            1 / (_h * (1 - _eta * _h / 2)),
            "ηh/4, not ηh/2: (1 − ½ηh)² = 1 − ηh + ¼η²h². (ηh/2 is for drift −η∇U, noise √(2η) ξ.)",
        ),
        Mistake(
            "sign",
            1 / (_h * (1 + _eta * _h / 4)),
            "The sign in the bracket is flipped: 1 − (1 − ½ηh)² = ηh − ¼η²h².",
        ),
        Mistake(
            "first order",
            (1 + _eta * _h / 4) / _h,
            "Right to first order in η. The exact variance is the sum of the whole series.",
        ),
        Mistake(
            "upside down",
            _shrunk / _h,
            "Upside down: SGLD spreads too far, not too little. It diverges at ηh = 4.",
        ),
        Mistake(
            "inflation only",
            1 / _shrunk,
            "This is the inflation, the factor on the posterior's variance 1/h. The product is "
            "asked.",
        ),
        Mistake(
            "not squared",
            2 / _h,
            "w shrinks by 1 − ½ηh a step, so its variance shrinks by the square of that.",
        ),
        Mistake(
            "cross term",
            4 / (_eta * _h**2),
            "(1 − ½ηh)² has a cross term: 1 − ηh + ¼η²h².",
        ),
        Mistake(
            "noise η",
            _eta / (_h * _shrunk),
            "A factor η too many: √η ξ has variance η, and η cancels.",
        ),
        Mistake(
            "standard deviation",
            1 / sp.sqrt(_h * _shrunk),
            "This is the standard deviation. The variance is asked.",
        ),
        Mistake(
            "whole drift",
            1 / (_h * (2 - _eta * _h)),
            "The drift is −½ηhw, so w shrinks by 1 − ½ηh a step, not by 1 − ηh.",
        ),
    ],
    hints=[
        "w ← (1 − ½ηh) w + √η ξ. What is the new variance, in terms of the old?",
        "Where it settles, v = (1 − ½ηh)² v + η.",
        "1 − (1 − ½ηh)² = ηh (1 − ηh/4).",
    ],
)

part_d = Formula(
    "sgld.part_d",
    "the variance in which SGLD settles with gradient noise of variance S, in h, η and S",
    truth=(1 + _eta * _noise / 4) / (_h * _shrunk),
    domain={"h": (0.5, 2), "eta": (0.1, 1.5), "S": (0.5, 4)},
    mistakes=[
        Mistake(
            "no gradient noise",
            1 / (_h * _shrunk),
            "This is the full batch's variance, part (c). Each noisy gradient adds ¼η²S to a step.",
        ),
        Mistake(
            "exact posterior",
            1 / _h,
            "1/h is the posterior's variance. A finite step misses it, and noisy gradients miss it "
            "by more.",
        ),
        Mistake(
            "inflation only",
            (1 + _eta * _noise / 4) / _shrunk,
            "This is the factor on the posterior's variance 1/h. The product is asked.",
        ),
        Mistake(
            "ηS/2",
            (1 + _noise / 2) / (_h * _shrunk),
            "The noise goes through ½η, so a step's variance grows by its square, ¼η²S, not ½ηS.",
        ),
        Mistake(
            "ηh/2, from (c)",
            (1 + _eta * _noise / 4) / (_h * (1 - _eta * _h / 2)),
            "The gradient's noise is right, the rest is not: ηh/4, as in part (c), not ηh/2.",
        ),
        Mistake(
            "sign, from (c)",
            (1 + _eta * _noise / 4) / (_h * (1 + _eta * _h / 4)),
            "The gradient's noise is right; the sign below is flipped: 1 − ηh/4, as in part (c).",
        ),
        Mistake(
            "other convention",
            (1 + _eta * _noise / 2) / (_h * (1 - _eta * _h / 2)),
            "Right for drift −η∇U and noise √(2η) ξ, which is a step of 2η here. Now it is −½η∇U.",
        ),
        Mistake(
            "½ not squared",
            (1 + _eta * _noise / 2) / (_h * _shrunk),
            "Variance takes the square of the factor: −½η times noise of variance S has ¼η²S.",
        ),
        Mistake(
            "η not squared",
            (1 + _noise / 4) / (_h * _shrunk),
            "The gradient is multiplied by ½η, so the noise adds ¼η²S a step, not ¼ηS.",
        ),
        Mistake(
            "whole drift",
            (1 + _eta * _noise) / (_h * _shrunk),
            "The gradient, and the noise in it, is multiplied by ½η: a step adds ¼η²S, not η²S.",
        ),
        Mistake(
            "exact step",
            (1 + _eta * _noise / 4) / _h,
            "The gradient's noise is there, but the finite step of part (c) is lost: 1 − ηh/4.",
        ),
        Mistake(
            "subtracted",
            (1 - _eta * _noise / 4) / (_h * _shrunk),
            "Independent noise adds variance, whatever the sign in front of the gradient.",
        ),
        Mistake(
            "S squared",
            (1 + _eta * _noise**2 / 4) / (_h * _shrunk),
            "S is a variance already: do not square it.",
        ),
        Mistake(
            "added once",
            1 / (_h * _shrunk) + _eta**2 * _noise / 4,
            "¼η²S comes in at every step, like η, and piles up: divide it by ηh(1 − ηh/4) as well.",
        ),
        Mistake(
            "gradient noise alone",
            _eta * _noise / (4 * _h * _shrunk),
            "This is the share of the gradient's noise alone. The injected √η ξ is still there.",
        ),
    ],
    hints=[
        "The step is now w ← w − ½η (hw + s) + √η ξ with Var s = S, independent of w and ξ.",
        "v = (1 − ½ηh)² v + η + ¼η²S.",
    ],
)

# --- (e) the sampler -----------------------------------------------------------------------------


def _linear_force(matrix: np.ndarray, centre: np.ndarray):
    """w ↦ matrix (w − centre), in torch or in numpy as w is."""
    in_torch = torch.from_numpy(matrix), torch.from_numpy(centre)

    def gradient(w):
        if isinstance(w, torch.Tensor):
            return in_torch[0] @ (w - in_torch[1])
        return matrix @ (np.asarray(w) - centre)

    gradient.pieces = matrix, centre
    return gradient


def _run_case(rng: np.random.Generator) -> tuple:
    p, steps = int(rng.integers(2, 5)), int(rng.integers(5, 10))
    x = stretched(rng, p + 4, p).numpy()
    gradient = _linear_force(x.T @ x / 4 + 0.3 * np.eye(p), rng.standard_normal(p))
    return gradient, normal(rng, p), float(rng.uniform(0.1, 0.4)), normal(rng, steps, p)


def _by_powers(gradient, w0, step, noise):
    """The gradient is A (w − c), so w_t = c + M^t (w₀ − c) + √η Σ_s M^(t−s) ξ_s with
    M = I − ½ηA: no state is reached from the one before."""
    matrix, centre = gradient.pieces
    values, vectors = np.linalg.eigh(matrix)
    kept = 1 - 0.5 * step * values
    start, xi = vectors.T @ (w0.numpy() - centre), noise.numpy() @ vectors
    t = np.arange(len(noise))
    lag = t[:, None] - t
    response = np.where(lag[:, :, None] >= 0, kept ** np.maximum(lag, 0)[:, :, None], 0)
    states = kept ** (t[:, None] + 1) * start + step**0.5 * np.einsum("tsp,sp->tp", response, xi)
    return centre + states @ vectors.T


def _walk(move):
    """A mistake's run: w ← move(gradient, w, step, ξ), stored after each step."""

    def wrong(gradient, w0, step, noise):
        w, states, xi = w0.numpy(), [], noise.numpy()
        for t in range(len(xi)):
            w = move(gradient, w, step, xi, t, w0.numpy())
            states.append(w)
        return np.stack(states)

    return wrong


def _langevin(gradient, w, step, xi):
    return w - 0.5 * step * gradient(w) + step**0.5 * xi


def _right(g, w, step, xi, t, w0):
    return _langevin(g, w, step, xi[t])


def _after_noise(g, w, step, xi, t, w0):
    noisy = w + step**0.5 * xi[t]
    return noisy - 0.5 * step * g(noisy)


def _before(gradient, w0, step, noise):
    states = _walk(_right)(gradient, w0, step, noise)
    return np.concatenate([w0.numpy()[None], states[:-1]])


def _same_array(gradient, w0, step, noise):
    states = _walk(_right)(gradient, w0, step, noise)
    return np.repeat(states[-1:], len(states), axis=0)


part_e = Function(
    "sgld.part_e",
    "the states after each of the T steps",
    truth=_by_powers,
    cases=_run_case,
    n=lambda args: len(args[3]),
    mistakes=[
        Mistake(
            "before the step",
            _before,
            "These are the states before each step: the first row must be w after the first step.",
        ),
        Mistake(
            "same array",
            _same_array,
            "Every row is the last state: was one array changed in place and stored T times? "
            "Store copies.",
        ),
        Mistake(
            "frozen gradient",
            _walk(lambda g, w, step, xi, t, w0: w - 0.5 * step * g(w0) + step**0.5 * xi[t]),
            "The gradient is always the one at w0. Each step needs it at the current state.",
        ),
        Mistake(
            "always from w0",
            _walk(lambda g, w, step, xi, t, w0: _langevin(g, w0, step, xi[t])),
            "Every step starts from w0. A chain goes on from the state it has reached.",
        ),
        Mistake(
            "noise reused",
            _walk(lambda g, w, step, xi, t, w0: _langevin(g, w, step, xi[0])),
            "The same noise in every step: step t takes row t of `noise`.",
        ),
        Mistake(
            "noise first",
            _walk(_after_noise),
            "The gradient is taken after the noise was added. Take it at the state before the "
            "step.",
        ),
        Mistake(
            "no noise",
            _walk(lambda g, w, step, xi, t, w0: w - 0.5 * step * g(w)),
            "Without noise this is gradient descent: it ends in a minimum and samples nothing.",
        ),
        Mistake(
            "uphill",
            _walk(lambda g, w, step, xi, t, w0: w + 0.5 * step * g(w) + step**0.5 * xi[t]),
            "Uphill: the drift lowers the energy, so it goes along −∇U.",
        ),
        Mistake(
            "whole drift",
            _walk(lambda g, w, step, xi, t, w0: w - step * g(w) + step**0.5 * xi[t]),
            "The drift is −½η∇U. With −η∇U beside √η ξ, small steps sample exp(−2U), not exp(−U).",
        ),
        Mistake(
            "noise η",
            _walk(lambda g, w, step, xi, t, w0: w - 0.5 * step * g(w) + step * xi[t]),
            "The noise must have variance η, so its size is √η.",
        ),
        Mistake(
            "noise √(2η)",
            _walk(lambda g, w, step, xi, t, w0: w - 0.5 * step * g(w) + (2 * step) ** 0.5 * xi[t]),
            "√(2η) goes with a drift of −η∇U. Beside −½η∇U it samples exp(−U/2), twice as hot.",
        ),
        Mistake(
            "other convention",
            _walk(lambda g, w, step, xi, t, w0: w - step * g(w) + (2 * step) ** 0.5 * xi[t]),
            "Right sampler, other convention: these are steps of size 2η. Here the drift is −½η∇U.",
        ),
        Mistake(
            "noise unscaled",
            _walk(lambda g, w, step, xi, t, w0: w - 0.5 * step * g(w) + xi[t]),
            "The rows of `noise` are standard normal: multiply them by √η.",
        ),
    ],
    hints=[
        "One loop over the rows of `noise`, and part (a) in it.",
        "Take the gradient at the current state, step, store a copy of the new state.",
        "torch.stack(states) makes (T, p) of a list of T states.",
    ],
)

# --- (f) the largest step ------------------------------------------------------------------------

CURVATURES = np.array([0.3, 2.0, 5.0])
"""Eigenvalues of the quadratic energy in part (f)."""


@cache
def largest_step() -> float:
    """The step from which on two chains with the same noise move apart, by bisection over runs."""
    turn = np.linalg.qr(np.random.default_rng(0).standard_normal((3, 3)))[0]
    curvature = turn @ np.diag(CURVATURES) @ turn.T

    def move_apart(step):
        gap = np.ones(3)
        for _ in range(2000):
            gap = gap - 0.5 * step * curvature @ gap
            if np.abs(gap).max() > 1e3:
                return True
        return False

    low, high = 0.01, 20.0
    while high - low > 1e-3:
        middle = (low + high) / 2
        low, high = (low, middle) if move_apart(middle) else (middle, high)
    return (low + high) / 2


part_f = Number(
    "sgld.part_f",
    "the step at which SGLD starts to diverge on this energy",
    truth=largest_step,
    mistakes=[
        Mistake(
            "gradient descent",
            2 / CURVATURES.max(),
            "2/λ is the limit for w − η∇U. The drift here is −½η∇U: when does |1 − ½ηλ| reach 1?",
        ),
        Mistake(
            "half as far",
            1 / CURVATURES.max(),
            "At ηλ = 1 a step just halves w. It may overshoot: when does |1 − ½ηλ| reach 1?",
        ),
        Mistake(
            "no curvature",
            4.0,
            "4 is the limit of ηλ, the step times the curvature. Which λ is it here?",
        ),
        Mistake(
            "flattest",
            4 / CURVATURES.min(),
            "The flattest direction allows that step. The steepest one diverges long before.",
        ),
        Mistake(
            "flattest, gradient descent",
            2 / CURVATURES.min(),
            "The steepest direction diverges first, not the flattest; and the drift is −½η∇U.",
        ),
        Mistake(
            "middle",
            4 / CURVATURES[1],
            "At that step the direction with λ = 5 multiplies w by 1 − 5 = −4 every time.",
        ),
        Mistake(
            "mean curvature",
            4 / CURVATURES.mean(),
            "No average of directions helps: the chain diverges as soon as one of them does.",
        ),
        Mistake(
            "trace",
            4 / CURVATURES.sum(),
            "Too careful: directions do not add up, the steepest one alone sets the limit.",
        ),
    ],
    hints=[
        "Along an eigenvector with eigenvalue λ a step multiplies w by 1 − ½ηλ, and adds noise.",
        "|1 − ½ηλ| < 1 for every λ. Which λ is the first to break it?",
    ],
)

# --- (g) how hard to hold ------------------------------------------------------------------------


def _spectrum(rng: np.random.Generator) -> tuple:
    """A γ far below 1/radius or above p/radius: a search between wrong ends misses it."""
    wide = rng.random() < 0.5
    while True:
        p, flat = int(rng.integers(5, 10)), int(rng.integers(2, 5))
        mu = np.exp(rng.uniform(np.log(0.01), np.log(3), p)) * (1 if wide else 1e4)
        kappa = float(rng.uniform(1.3, 3.0) ** rng.choice([-1, 1]))
        # A radius that even the curved directions alone would exceed, had γ not held them.
        radius = float(np.sqrt(rng.uniform(0.3, 0.8) * (1 / (kappa * mu[flat:])).sum()))
        mu[:flat] = 0
        gamma = _held(kappa * mu, radius**2)
        if gamma < 0.45 / radius if wide else gamma > p / radius:
            return torch.from_numpy(rng.permutation(mu)), kappa, radius


def _held(curvature, square):
    """γ with Σ 1/(a_i + γ) = square: the largest eigenvalue of 11ᵀ/square − diag(a)."""
    return np.linalg.eigvalsh(1 / square - np.diag(curvature))[-1]


def _deviations(mu, kappa, radius):
    """γ with Σ 1/√(κμ_i + γ) = radius, by bisection."""
    low, high = 0.0, (len(mu) / radius) ** 2
    for _ in range(60):
        middle = (low + high) / 2
        spread = (1 / np.sqrt(kappa * mu.numpy() + middle)).sum()
        low, high = (middle, high) if spread > radius else (low, middle)
    return low


part_g = Function(
    "sgld.part_g",
    "the γ at which the draws keep a root-mean-square distance `radius` from w*",
    truth=lambda eigenvalues, kappa, radius: _held(kappa * eigenvalues.numpy(), radius**2),
    cases=_spectrum,
    draws=12,
    mistakes=[
        Mistake(
            "flat everywhere",
            lambda mu, kappa, radius: len(mu) / radius**2,
            "p/R² is for a loss that is flat everywhere. Along the other directions κμ holds too.",
        ),
        Mistake(
            "one direction",
            lambda mu, kappa, radius: 1 / radius**2,
            "1/R² is for one flat direction and no other. Every direction adds its own 1/(κμ_i + "
            "γ).",
        ),
        Mistake(
            "flat directions only",
            lambda mu, kappa, radius: int((mu == 0).sum()) / radius**2,
            "Only the flat directions are counted. Draws spread along the curved ones as well.",
        ),
        Mistake(
            "flat directions dropped",
            lambda mu, kappa, radius: _held(kappa * mu[mu > 0].numpy(), radius**2),
            "The zero eigenvalues are left out, but along those directions draws spread the most.",
        ),
        Mistake(
            "no κ",
            lambda mu, kappa, radius: _held(mu.numpy(), radius**2),
            "κ is missing: the draws' precision is κμ_i + γ.",
        ),
        Mistake(
            "κ on γ",
            lambda mu, kappa, radius: _held(kappa * mu.numpy(), radius**2) / kappa,
            "κ tempers the losses and nothing else: the precision is κμ_i + γ, not κ(μ_i + γ).",
        ),
        Mistake(
            "not squared",
            lambda mu, kappa, radius: _held(kappa * mu.numpy(), radius),
            "E‖w − w*‖² is the square of the radius: R², not R.",
        ),
        Mistake(
            "mean over directions",
            lambda mu, kappa, radius: _held(kappa * mu.numpy(), len(mu) * radius**2),
            "‖w − w*‖² adds up the p directions: their sum is R², not their mean.",
        ),
        Mistake(
            "half",
            lambda mu, kappa, radius: _held(kappa * mu.numpy(), 2 * radius**2),
            "A ½ too many: exp(−½(κμ + γ)δ²) has variance 1/(κμ + γ).",
        ),
        Mistake(
            "deviations added",
            _deviations,
            "Standard deviations do not add up; variances do. Σ 1/(κμ_i + γ) = R².",
        ),
        Mistake(
            "mean curvature",
            lambda mu, kappa, radius: len(mu) / radius**2 - kappa * mu.mean().item(),
            "The mean of 1/(κμ_i + γ) is not 1 over the mean: each direction has its own variance.",
        ),
    ],
    hints=[
        "In the eigenbasis of H the draws are independent, with variances 1/(κμ_i + γ).",
        "E‖w − w*‖² is their sum, which falls as γ grows: look for γ between 1/R² and p/R².",
        "scipy.optimize.brentq finds where Σ 1/(κμ_i + γ) − R² changes sign; so do 60 halvings.",
    ],
)

# --- (h) the estimate and its error --------------------------------------------------------------


def _chains(rng: np.random.Generator) -> tuple:
    chains, draws, n = int(rng.integers(3, 6)), int(rng.integers(8, 13)), int(rng.integers(6, 8))
    w = rng.standard_normal((chains, draws, 2)) + 0.7 * rng.standard_normal((chains, 1, 2))
    losses = 0.5 * (rng.standard_normal(n) - w @ rng.standard_normal((2, n))) ** 2
    phi = w @ rng.standard_normal(2) + 0.5 * w[:, :, 0] ** 2 + rng.uniform(1, 2)
    kappa = float(rng.uniform(1.3, 3.0) ** rng.choice([-1, 1]))
    return torch.from_numpy(losses), torch.from_numpy(phi), kappa


def _from_moments(losses, phi, kappa):
    """np.cov over all draws for the value; for the error, how far apart any two chains are."""
    a, b = losses.numpy(), phi.numpy()
    chains, draws, n = a.shape
    value = -kappa * np.cov(a.reshape(-1, n).T, b.ravel())[-1, :-1]
    product, a_c, b_c = np.einsum("ctn,ct->cn", a, b) / draws, a.mean(1), b.mean(1)[:, None]
    each = product - a_c.mean(0) * b_c - a_c * b_c.mean(0)  # up to what all chains share
    squares = ((each[:, None] - each) ** 2).sum((0, 1)) / 2  # each pair once
    factor = kappa * chains * draws / (chains * draws - 1)
    return value, factor * np.sqrt(squares / (chains**2 * (chains - 1)))


def _each_chain(losses, phi, kappa, *, loss_axes=(0, 1), phi_axes=(0, 1), lost=None):
    """κ times each chain's covariance: (chains, n). Means are taken over the axes given, none for
    (); `lost` degrees of freedom in each chain, 1/C if not given."""
    a, b = losses.numpy(), phi.numpy()
    a, b = (
        v - v.mean(axes, keepdims=True) if axes else v
        for v, axes in ((a, loss_axes), (b, phi_axes))
    )
    divisor = a.shape[1] - (1 / len(a) if lost is None else lost)
    return kappa * np.einsum("ctn,ct->cn", a, b) / divisor


def _standard_error(each, chains, draws):
    return each.std(0, ddof=1) / chains**0.5


WITHIN = {"loss_axes": 1, "phi_axes": 1}
"""Each chain centred on its own means."""


def _changed(value=lambda v: -v, error=_standard_error, **options):
    """A mistake in the value, from κ Cov, or in the error, from each chain's κ Cov (which the
    options change)."""

    def wrong(losses, phi, kappa):
        pooled = _each_chain(losses, phi, kappa)
        return value(pooled.mean(0)), error(_each_chain(losses, phi, kappa, **options), *phi.shape)

    return wrong


def _centred_within(**options):
    """Value and error both from chains that are centred on their own means."""

    def wrong(losses, phi, kappa):
        each = _each_chain(losses, phi, kappa, **WITHIN, **options)
        return -each.mean(0), _standard_error(each, *phi.shape)

    return wrong


def _uncentred(losses, phi, kappa):
    each = kappa * torch.einsum("ctn,ct->cn", losses, phi) / phi.shape[1]
    return -each.mean(0), each.std(0) / len(each) ** 0.5


def _as_if_independent(losses, phi, kappa):
    a, b = losses - losses.mean((0, 1)), phi - phi.mean()
    product = kappa * (a * b[:, :, None]).flatten(0, 1)
    total = len(product)
    return -product.sum(0) / (total - 1), product.std(0) / total**0.5


def _scaled(factor):
    def wrong(losses, phi, kappa):
        value, error = _from_moments(losses, phi, kappa)
        return factor(kappa, phi.numel()) * value, factor(kappa, phi.numel()) * error

    return wrong


part_h = Function(
    "sgld.part_h",
    "the estimated BIF of every example, and its standard error",
    truth=_from_moments,
    cases=_chains,
    n=lambda args: args[0].shape[2],
    mistakes=[
        Mistake(
            "sign",
            _changed(value=lambda v: v),
            "Sign flipped: the BIF is −κ Cov(L_i, φ). The error is right.",
        ),
        Mistake(
            "centred per chain",
            _centred_within(lost=1),
            "Each chain is centred on its own means, which hides chains that sit apart. "
            "Use the means of all draws.",
        ),
        Mistake(
            "centred per chain, with C/(N − 1)",
            _centred_within(),
            "C/(N − 1) is right, but each chain is centred on its own means: mean over dimensions "
            "0 and 1.",
        ),
        Mistake(
            "not centred",
            _uncentred,
            "E[L_i φ] alone is no covariance: take the means of L_i and of φ away first.",
        ),
        Mistake(
            "no κ",
            _scaled(lambda kappa, total: 1 / kappa),
            "κ is missing: in the posterior β_i multiplies κ L_i, not L_i.",
        ),
        Mistake(
            "error without κ",
            lambda losses, phi, kappa: _changed(
                error=lambda e, c, t: e.std(0, ddof=1) / c**0.5 / kappa
            )(losses, phi, kappa),
            "The value has its κ, but the error lacks it.",
        ),
        Mistake(
            "N for N − 1",
            _scaled(lambda kappa, total: (total - 1) / total),
            "Divided by N where the sample covariance of N draws has N − 1.",
        ),
        Mistake(
            "divided by C",
            _changed(error=lambda e, c, t: e.std(0) / c**0.5),
            "The value is right. The spread between C chains is about their own mean: divide by "
            "C − 1, not C.",
        ),
        Mistake(
            "error of one chain",
            _changed(error=lambda e, c, t: e.std(0, ddof=1)),
            "The value is right. The error is that of a single chain: the mean of C of them has "
            "1/√C of it.",
        ),
        Mistake(
            "error over C",
            _changed(error=lambda e, c, t: e.std(0, ddof=1) / c),
            "The value is right, the error is not: a mean of C numbers has the error s/√C, not "
            "s/C.",
        ),
        Mistake(
            "divided by C, of one chain",
            _changed(error=lambda e, c, t: e.std(0)),
            "The value is right. The error needs C − 1 for C (numpy: ddof=1), and 1/√C for the "
            "mean.",
        ),
        Mistake(
            "error centred per chain",
            _changed(lost=1, **WITHIN),
            "The value is right. For the error each chain is centred on its own means: use those "
            "of all draws.",
        ),
        Mistake(
            "error centred per chain, with C/(N − 1)",
            _changed(**WITHIN),
            "The value is right; the error's products are about each chain's means, not those of "
            "all draws.",
        ),
        Mistake(
            "φ not centred",
            _changed(phi_axes=()),
            "Centring L_i alone is enough for the value, not for the error: each chain keeps "
            "φ̄ Σ_t(L_i − L̄_i).",
        ),
        Mistake(
            "losses not centred",
            _changed(loss_axes=()),
            "Centring φ alone is enough for the value, not for the error: take the mean of L_i "
            "away as well.",
        ),
        Mistake(
            "error over all draws",
            _changed(error=lambda e, c, t: e.std(0, ddof=1) / (c * t) ** 0.5),
            "Divide by the root of the number of chains, since it is chains you take the spread "
            "of.",
        ),
        Mistake(
            "as if independent",
            _as_if_independent,
            "This error takes all draws for independent. Neighbours in a chain are not; "
            "whole chains are.",
        ),
        Mistake(
            "variance",
            _changed(error=lambda e, c, t: e.var(0, ddof=1) / c),
            "This is the square of the standard error.",
        ),
        Mistake(
            "negative error",
            _changed(error=lambda e, c, t: -e.std(0, ddof=1) / c**0.5),
            "A standard error is not negative: the minus belongs to the value.",
        ),
    ],
    hints=[
        "Subtract from losses and phi their means over chains and draws, then multiply.",
        "b = −kappa * C / (N − 1) * products.sum(1) has one row for each chain.",
        "b.mean(0) and b.std(0) / C**0.5, where torch's std divides by C − 1.",
    ],
)

# --- (i) what a smaller step buys ----------------------------------------------------------------


@cache
def halving_the_step(chains: int = 3000, draws: int = 1000) -> dict[str, float]:
    """Bias and error of a variance at step ½η, over those at η: many chains on U = ½w².

    The variance is exactly 1; chains start in their stationary distribution.
    """
    rng = np.random.default_rng(0)
    bias, error = [], []
    for step in (0.8, 0.4):
        kept = 1 - 0.5 * step
        w = rng.standard_normal(chains) * np.sqrt(step / (1 - kept**2))
        sums = np.zeros((2, chains))
        for _ in range(draws):
            sums += (w, w * w)
            w = kept * w + np.sqrt(step) * rng.standard_normal(chains)
        mean, square = sums / draws
        variance = square - 2 * mean * mean.mean() + mean.mean() ** 2  # as in part (h)
        bias.append(abs(variance.mean() - 1))
        error.append(variance.std())
    return {"bias": bias[1] / bias[0], "error": error[1] / error[0]}


def _bias_and_error() -> str:
    ratio = halving_the_step()
    words = [
        f"{'less' if ratio[name] < 0.95 else 'more' if ratio[name] > 1.05 else 'same'} {name}"
        for name in ("bias", "error")
    ]
    return ", ".join(words)


part_i = Choice(
    "sgld.part_i",
    "what half the step does to a variance's bias and standard error, at as many draws",
    truth=_bias_and_error,
    wrong={
        "less bias, less error": "Less bias, yes. But each draw now is closer to the one before: "
        "how much news is in the same number of draws?",
        "less bias, same error": "Draws at half the step are more alike, so the same number of "
        "them says less. What is 1 − ½ηh, the correlation of neighbours?",
        "more bias, less error": "The other way round: put η and η/2 into part (c), and into "
        "1 − ½ηh, the correlation of neighbouring draws.",
        "more bias, more error": "Part (c) at η and at η/2: which variance is nearer to 1/h?",
        "more bias, same error": "Part (c) at η and at η/2: which variance is nearer to 1/h? And "
        "how alike are neighbouring draws at each?",
        "same bias, less error": "The bias, part (c) against 1/h, has η in it. And for the error: "
        "how alike are neighbouring draws at η and at η/2?",
        "same bias, more error": "The bias comes from the step alone, part (c): no number of "
        "draws removes it, but a smaller step does.",
        "same bias, same error": "Both depend on the step: the bias by part (c), the error by "
        "1 − ½ηh, the correlation of neighbouring draws.",
    },
    hints=[
        "The bias is part (c) against 1/h. For the error: how alike are neighbouring draws?",
        "Neighbouring draws of w correlate by 1 − ½ηh. More alike draws average out more slowly.",
    ],
)
