"""Exercise 04_convergence: where the response of a run tends, and along what it runs away."""

from functools import cache

import numpy as np
import sympy as sp
import torch

from lib.checks.engine import Choice, Formula, Function, Mistake, Number
from lib.random_problems import normal, stretched

VALLEY = (1.5, -2.0, 0.75, -1.0, 0.75)
"""Slopes s_i of the losses ½x² + s_i y in the last experiment; they sum to zero."""

RATE, STEPS = 0.25, 120


def _no_examples(args: tuple) -> float:
    """Parts that know no n: no ratio with n in it is to be claimed."""
    return float("nan")


def _spread(rng: np.random.Generator, eigenvalues: np.ndarray) -> torch.Tensor:
    """A symmetric matrix with these eigenvalues, along random axes."""
    axes = np.linalg.qr(rng.standard_normal((len(eigenvalues), len(eigenvalues))))[0]
    h = axes @ np.diag(eigenvalues) @ axes.T
    return torch.from_numpy((h + h.T) / 2)


# --- (a) how much to take ------------------------------------------------------------------------


@cache
def distance_to_the_run_without() -> dict[float, float]:
    """How far w_T(ε) ends from the w_T of the other examples alone, by ε; least squares."""
    rng = np.random.default_rng(2)
    n, k = 8, 3
    x, y = stretched(rng, n, 2).numpy(), rng.standard_normal(n)

    def run(rows, weights):
        w = np.array([0.5, -1.0])
        for _ in range(60):
            w = w - 0.1 / n * (weights * (x[rows] @ w - y[rows])) @ x[rows]
        return w

    others = np.delete(np.arange(n), k)
    without, distances = run(others, 1.0), {}
    for epsilon in (-1.0, 0.0, 1 / n, 0.5, 1.0, 2.0, float(n)):
        weights = np.ones(n)
        weights[k] = 1 - epsilon
        distances[epsilon] = float(np.linalg.norm(run(np.arange(n), weights) - without))
    return distances


def _removes() -> float:
    distances = distance_to_the_run_without()
    return next(epsilon for epsilon, distance in distances.items() if distance < 1e-12)


part_a = Number(
    "convergence.part_a",
    "the ε that removes z_k from the run",
    truth=_removes,
    mistakes=[
        Mistake(
            "1/n",
            1 / 8,
            "1/n is the share of z_k in the mean loss. Its weight is 1 − ε, and has to become 0.",
        ),
        Mistake(
            "nothing taken",
            0.0,
            "At ε = 0 the run is as it was: z_k has weight 1.",
        ),
        Mistake(
            "added once more",
            -1.0,
            "At ε = −1 the weight is 2: z_k is there twice.",
        ),
        Mistake(
            "n",
            8.0,
            "At ε = n the weight is 1 − n, far below zero. z_k is gone when its weight is 0.",
        ),
        Mistake(
            "half",
            0.5,
            "At ε = ½ half of z_k is left.",
        ),
        Mistake(
            "overshot",
            2.0,
            "At ε = 2 the weight is −1: the run climbs L_k.",
        ),
    ],
    hints=[
        "In the step, by what is ∇L_k multiplied?",
        "1 − ε = 0.",
    ],
)

# --- (b) one step of the response ----------------------------------------------------------------


def _one_step(rng: np.random.Generator) -> tuple:
    p, b, n = int(rng.integers(2, 5)), int(rng.integers(5, 8)), int(rng.integers(9, 13))
    batch = torch.from_numpy(rng.choice(n, b, replace=False))
    present = rng.random() < 0.5
    k = int(rng.choice(batch if present else np.setdiff1d(np.arange(n), batch)))
    raw = rng.standard_normal((b, p, p))
    hessians = torch.from_numpy((raw + raw.swapaxes(1, 2)) / 2 + np.eye(p))
    return normal(rng, p), hessians, normal(rng, b, p), float(rng.uniform(0.2, 0.7)), batch, k


def _two_fractions(response, hessians, gradients, rate, batch, k):
    """An SGD step on quadratic losses from w_t = εr, at ε = ±1: a parabola in ε, so that half the
    difference is its slope."""

    def after(epsilon):
        w = epsilon * response.numpy()
        each = gradients.numpy() + hessians.numpy() @ w
        weights = 1 - epsilon * (batch.numpy() == k)
        return w - rate * (weights @ each) / len(batch)

    return (after(1.0) - after(-1.0)) / 2


def _step(moved=None, pushed=None):
    """A mistake in J r, from (r, the H_i, η, b, who is z_k), or in the direct term, from
    (the ∇L_i, η, b, who is z_k)."""
    moved = moved or (lambda r, h, rate, b, own: r - rate / b * h.sum(0) @ r)
    pushed = pushed or (lambda g, rate, b, own: rate / b * own @ g)

    def wrong(response, hessians, gradients, rate, batch, k):
        own, b = (batch == k).to(gradients.dtype), len(batch)
        return moved(response, hessians, rate, b, own) + pushed(gradients, rate, b, own)

    return wrong


def _through_the_push(response, hessians, gradients, rate, batch, k):
    own, b = (batch == k).to(gradients.dtype), len(batch)
    new = response + rate / b * own @ gradients
    return new - rate / b * hessians.sum(0) @ new


part_b = Function(
    "convergence.part_b",
    "r_{t+1} from r_t",
    truth=_two_fractions,
    cases=_one_step,
    n=_no_examples,
    draws=15,  # an example that is always, or never, in the batch would hide mistakes
    mistakes=[
        Mistake(
            "direct term's sign",
            _step(pushed=lambda g, rate, b, own: -rate / b * own @ g),
            "The direct term's sign is that of upweighting. Here z_k has weight 1 − ε, so the "
            "step loses its pull: +.",
        ),
        Mistake(
            "no 1/b",
            _step(pushed=lambda g, rate, b, own: rate * own @ g),
            "The direct term lacks its 1/b: z_k is one of b examples in the step's mean.",
        ),
        Mistake(
            "still when absent",
            _step(
                moved=lambda r, h, rate, b, own: (
                    r - rate / b * h.sum(0) @ r if own.any() else r.clone()
                )
            ),
            "Without z_k in the batch nothing changes here. But the step still starts from a w_t "
            "that moved: J_t r.",
        ),
        Mistake(
            "z_k left out of J",
            _step(
                moved=lambda r, h, rate, b, own: (
                    r - rate / b * ((1 - own)[:, None, None] * h).sum(0) @ r
                )
            ),
            "H_k is left out of J_t, as if ε = 1. The derivative is at ε = 0, where z_k has its "
            "full weight.",
        ),
        Mistake(
            "H_k alone in J",
            _step(
                moved=lambda r, h, rate, b, own: r - rate / b * (own[:, None, None] * h).sum(0) @ r
            ),
            "J_t has H_k alone. All b gradients of the batch are taken at the w_t that moved.",
        ),
        Mistake(
            "sum in J",
            _step(moved=lambda r, h, rate, b, own: r - rate * h.sum(0) @ r),
            "J_t has the sum of the batch's Hessians. The step has their mean: 1/b.",
        ),
        Mistake(
            "batch's gradient",
            _step(pushed=lambda g, rate, b, own: rate * g.mean(0)),
            "The direct term is that of the whole batch. ε multiplies ∇L_k alone.",
        ),
        Mistake(
            "others' gradients",
            _step(pushed=lambda g, rate, b, own: rate / b * (1 - own) @ g),
            "The direct term is that of all examples but z_k. ε multiplies ∇L_k alone.",
        ),
        Mistake(
            "J on the direct term",
            _through_the_push,
            "J_t acts on the direct term too. That push happens in this very step: only later "
            "steps carry it on.",
        ),
        Mistake(
            "no direct term",
            _step(pushed=lambda g, rate, b, own: 0 * g[0]),
            "This is J_t r alone. When z_k is in the batch, ε also acts in this step.",
        ),
        Mistake(
            "J forgotten",
            _step(moved=lambda r, h, rate, b, own: r),
            "The old response is carried over unchanged. ∇L is taken at a w_t that moved: J_t r.",
        ),
        Mistake(
            "zero when absent",
            lambda *case: _step()(*case) * (case[4] == case[5]).any(),
            "Without z_k in the batch the response is not zero: earlier steps moved w_t, and J_t "
            "carries that on.",
        ),
        Mistake(
            "direct term alone",
            _step(moved=lambda r, h, rate, b, own: 0 * r),
            "This is the direct term alone: what earlier steps did to w_t is forgotten.",
        ),
        Mistake(
            "plus in J",
            _step(moved=lambda r, h, rate, b, own: r + rate / b * h.sum(0) @ r),
            "J_t = I + ηĤ here. Descent contracts where the loss is curved upwards: I − ηĤ.",
        ),
        Mistake(
            "no η in J",
            _step(moved=lambda r, h, rate, b, own: r - h.mean(0) @ r),
            "J_t lacks the step size: I − ηĤ, not I − Ĥ.",
        ),
        Mistake(
            "no η in the direct term",
            _step(pushed=lambda g, rate, b, own: own @ g / b),
            "The direct term lacks the step size: (η/b) ∇L_k.",
        ),
        Mistake(
            "sign",
            lambda *case: -_step()(*case),
            "Sign flipped as a whole: the new response has J_t r with a plus, and +(η/b) ∇L_k.",
        ),
        Mistake(
            "change alone",
            _step(moved=lambda r, h, rate, b, own: -rate * h.mean(0) @ r),
            "This is how the response changes in the step. The old response r has to be added.",
        ),
        Mistake(
            "sums for means",
            _step(
                moved=lambda r, h, rate, b, own: r - rate * h.sum(0) @ r,
                pushed=lambda g, rate, b, own: rate * own @ g,
            ),
            "1/b is missing, in J_t and in the direct term: a step has the batch's mean.",
        ),
    ],
    hints=[
        "Differentiate the step in ε at ε = 0: through w_t(ε), and through 1 − ε.",
        "Through w_t: (I − ηĤ) r, with Ĥ the mean of all b Hessians. Through 1 − ε: "
        "+(η/b) ∇L_k, if k is in the batch.",
        "own = (batch == k): r − rate * hessians.mean(0) @ r + rate / b * own @ gradients.",
    ],
)

# --- (c) K steps near a minimum ------------------------------------------------------------------


def _window(rng: np.random.Generator) -> tuple:
    p, n, k = int(rng.integers(2, 5)), int(rng.integers(9, 14)), int(rng.integers(5, 9))
    mean = rng.permutation(np.linspace(0.3, 1.5, p) * rng.uniform(0.8, 1.2, p))
    return _spread(rng, n * mean), normal(rng, p), n, float(rng.uniform(0.3, 0.7)), k


def _two_runs(hessian, gradient, n, rate, steps):
    """K steps of gradient descent, with z_k and without. Its loss is linear, so that w_K is a
    linear function of ε; the total loss is quadratic."""
    hessian, gradient = hessian.numpy(), gradient.numpy()
    start = np.cos(np.arange(len(gradient)))
    ends = []
    for epsilon in (0.0, 1.0):
        w = start
        for _ in range(steps):
            w = w - rate / n * (hessian @ w - epsilon * gradient)
        ends.append(w)
    return ends[1] - ends[0]


def _filtered(formula, shrink=lambda rate, s, n: 1 - rate * s / n):
    """A mistake along the eigenvectors of H: a factor from the eigenvalue s, q = 1 − ηs/n, n, η
    and K."""

    def wrong(hessian, gradient, n, rate, steps):
        s, axes = np.linalg.eigh(hessian.numpy())
        return axes @ (formula(s, shrink(rate, s, n), n, rate, steps) * (axes.T @ gradient.numpy()))

    return wrong


def _entrywise(hessian, gradient, n, rate, steps):
    h = hessian.numpy()
    kept = (np.eye(len(h)) - rate * h / n) ** steps
    return (np.eye(len(h)) - kept) @ np.linalg.solve(h, gradient.numpy())


part_c = Function(
    "convergence.part_c",
    "the response after K steps of gradient descent",
    truth=_two_runs,
    cases=_window,
    n=lambda args: args[2],
    mistakes=[
        Mistake(
            "upweighting",
            _filtered(lambda s, q, n, rate, steps: -(1 - q**steps) / s),
            "Sign flipped: this is for upweighting. z_k loses weight here, and w follows −∇L_k "
            "less.",
        ),
        Mistake(
            "no 1/n in the power",
            _filtered(
                lambda s, q, n, rate, steps: (1 - q**steps) / s,
                shrink=lambda rate, s, n: 1 - rate * s,
            ),
            "The power lacks 1/n: a step is η/n times the summed gradient, so it shrinks by "
            "I − ηH/n.",
        ),
        Mistake(
            "no 1/n in the power, upweighting",
            _filtered(
                lambda s, q, n, rate, steps: -(1 - q**steps) / s,
                shrink=lambda rate, s, n: 1 - rate * s,
            ),
            "Two slips: the power lacks 1/n, I − ηH/n; and the sign is that of upweighting.",
        ),
        Mistake(
            "mean Hessian without 1/n",
            _filtered(lambda s, q, n, rate, steps: n * (1 - q**steps) / s),
            "Too large by exactly n: with the mean Hessian the push is ∇L_k/n.",
        ),
        Mistake(
            "1/n twice",
            _filtered(lambda s, q, n, rate, steps: (1 - q**steps) / (n * s)),
            "Too small by exactly n: H is the sum already, so H⁻¹∇L_k needs no 1/n.",
        ),
        Mistake(
            "one step less",
            _filtered(lambda s, q, n, rate, steps: (1 - q ** (steps - 1)) / s),
            "One step too few: with r_0 = 0, r_1 is already η∇L_k/n.",
        ),
        Mistake(
            "one step more",
            _filtered(lambda s, q, n, rate, steps: (1 - q ** (steps + 1)) / s),
            "One step too many: r_1 = η∇L_k/n, and the power is K.",
        ),
        Mistake(
            "exponential",
            _filtered(lambda s, q, n, rate, steps: (1 - np.exp(-rate * steps * s / n)) / s),
            "e^(−ηKH/n) is near the power only for small steps. K whole steps are asked.",
        ),
        Mistake(
            "K → ∞",
            _filtered(lambda s, q, n, rate, steps: 1 / s),
            "H⁻¹∇L_k is where the response tends. After K steps part of the way is missing.",
        ),
        Mistake(
            "what is missing",
            _filtered(lambda s, q, n, rate, steps: q**steps / s),
            "This is what is missing to the limit after K steps. The response is the rest.",
        ),
        Mistake(
            "no contraction",
            _filtered(lambda s, q, n, rate, steps: rate * steps / n + 0 * s),
            "ηK∇L_k/n adds up the pushes as if no later step reacted. Each is carried on by "
            "I − ηH/n.",
        ),
        Mistake(
            "last push alone",
            _filtered(lambda s, q, n, rate, steps: rate / n + 0 * s),
            "This is one push alone, η∇L_k/n. Add up all K, each carried on by the later steps.",
        ),
        Mistake(
            "first push alone",
            _filtered(lambda s, q, n, rate, steps: rate / n * q ** (steps - 1)),
            "This is the first push alone, carried to the end. Add up all K of them.",
        ),
        Mistake(
            "no η",
            _filtered(lambda s, q, n, rate, steps: (1 - q**steps) / (rate * s)),
            "Too large by exactly 1/η: the pushes are η∇L_k/n.",
        ),
        Mistake(
            "plus in the power",
            _filtered(
                lambda s, q, n, rate, steps: (q**steps - 1) / s,
                shrink=lambda rate, s, n: 1 + rate * s / n,
            ),
            "I + ηH/n grows. Descent contracts where the loss is curved upwards: I − ηH/n.",
        ),
        Mistake(
            "no inverse",
            _filtered(lambda s, q, n, rate, steps: 1 - q**steps),
            "H⁻¹ is missing: Σ_t M^t = (I − M^K)(I − M)⁻¹, and I − M = ηH/n.",
        ),
        Mistake(
            "entry by entry",
            _entrywise,
            "** raises each entry to the power. The matrix power is "
            "numpy.linalg.matrix_power or torch.linalg.matrix_power.",
        ),
        Mistake(
            "sum for the mean in the step",
            _filtered(
                lambda s, q, n, rate, steps: (1 - q**steps) / (n * s),
                shrink=lambda rate, s, n: 1 - rate * s,
            ),
            "The push has its 1/n, and the power lacks it: r ← r − ηHr/n + η∇L_k/n.",
        ),
        Mistake(
            "own step too",
            _filtered(lambda s, q, n, rate, steps: q * (1 - q**steps) / s),
            "Every push is carried on by its own step too. The sum begins with (I − ηH/n)⁰.",
        ),
    ],
    hints=[
        "Part (b) with the full batch: r ← M r + (η/n) ∇L_k, with M = I − ηH/n.",
        "r_K = (η/n) Σ_{t<K} M^t ∇L_k, and Σ_{t<K} M^t = (I − M^K)(I − M)⁻¹.",
        "[I − (I − ηH/n)^K] H⁻¹ ∇L_k.",
    ],
)

# --- (d) the limit -------------------------------------------------------------------------------


def _at_a_minimum(rng: np.random.Generator) -> tuple:
    p, n = int(rng.integers(2, 5)), int(rng.integers(7, 12))
    raw = rng.standard_normal((n, p, p))
    hessians = torch.from_numpy(raw @ raw.swapaxes(1, 2) / p + 0.2 * np.eye(p))
    gradients = normal(rng, n, p)
    return hessians, gradients - gradients.mean(0), int(rng.integers(n))


def _minus_the_slope(hessians, gradients, k, step=4e-3):
    """The minimum of Σ β_i (∇L_i·w + ½ w·H_i w) as it moves when z_k loses weight; by Richardson.
    It knows no run, and no derivative."""

    def move(epsilon):
        ends = []
        for weight in (1 - epsilon, 1 + epsilon):
            beta = np.ones(len(gradients))
            beta[k] = weight
            h = np.einsum("i,ijk->jk", beta, hessians.numpy())
            ends.append(-np.linalg.solve(h, beta @ gradients.numpy()))
        return (ends[0] - ends[1]) / (2 * epsilon)

    return (4 * move(step) - move(2 * step)) / 3


def _solved(curvature=lambda h, k: h.sum(0), scale=lambda n: 1):
    """A mistake in the curvature, from (the H_i, k), or in front, from n."""

    def wrong(hessians, gradients, k):
        return scale(len(hessians)) * torch.linalg.solve(curvature(hessians, k), gradients[k])

    return wrong


part_d = Function(
    "convergence.part_d",
    "the response as K → ∞, which is −∂w*/∂β_k",
    truth=_minus_the_slope,
    cases=_at_a_minimum,
    mistakes=[
        Mistake(
            "influence",
            _solved(scale=lambda n: -1),
            "Sign flipped: this is the influence ∂w*/∂β_k. r is the response to losing weight, "
            "minus that.",
        ),
        Mistake(
            "mean Hessian",
            _solved(scale=lambda n: n),
            "Too large by exactly n: with the mean Hessian the push is ∇L_k/n.",
        ),
        Mistake(
            "mean Hessian, influence",
            _solved(scale=lambda n: -n),
            "Sign flipped, and too large by exactly n: +(H̄)⁻¹∇L_k/n, or H⁻¹∇L_k with the sum.",
        ),
        Mistake(
            "1/n twice",
            _solved(scale=lambda n: 1 / n),
            "Too small by exactly n: with the summed Hessian the push needs no 1/n.",
        ),
        Mistake(
            "own curvature",
            _solved(lambda h, k: h[k]),
            "H_k is the curvature of z_k alone. What pulls w back is the sum over all examples.",
        ),
        Mistake(
            "without z_k",
            _solved(lambda h, k: h.sum(0) - h[k]),
            "H_k is left out, as for a whole deletion. The derivative is at ε = 0, where z_k has "
            "its full weight.",
        ),
        Mistake(
            "no Hessian",
            lambda hessians, gradients, k: gradients[k],
            "This is the push alone. How far it moves w takes H⁻¹.",
        ),
        Mistake(
            "diagonal",
            _solved(lambda h, k: torch.diag(torch.diag(h.sum(0)))),
            "The diagonal of H alone. The inverse is that of the whole matrix.",
        ),
        Mistake(
            "H for its inverse",
            lambda hessians, gradients, k: hessians.sum(0) @ gradients[k],
            "H∇L_k for H⁻¹∇L_k: where the curvature is large, w moves little.",
        ),
        Mistake(
            "inverses added",
            lambda hessians, gradients, k: torch.linalg.inv(hessians).sum(0) @ gradients[k],
            "The inverses are added. Add the Hessians, then invert.",
        ),
        Mistake(
            "all gradients",
            lambda hessians, gradients, k: 0 * gradients[k],
            "At the minimum all the gradients add up to zero, and this does too. z_k's own is the "
            "push.",
        ),
    ],
    hints=[
        "In part (c), (I − ηH/n)^K → 0 if the step is small enough.",
        "H⁻¹∇L_k, with H = Σ_i H_i.",
    ],
)

# --- (e) the largest step ------------------------------------------------------------------------


def _curved(rng: np.random.Generator) -> tuple:
    p, n = int(rng.integers(3, 6)), int(rng.integers(8, 14))
    eigenvalues = np.exp(rng.uniform(0.2, 0.5) + 0.6 * np.arange(p)) * rng.uniform(0.9, 1.1, p)
    return _spread(rng, n * eigenvalues), n


def _first_that_does_not_shrink(hessian, n):
    """The η at which the norm of I − ηH/n reaches 1, by bisection: no eigenvalue is asked for."""
    mean = hessian.numpy() / n
    low, high = 0.0, 4 / np.abs(mean).max()
    for _ in range(60):
        middle = (low + high) / 2
        grows = np.linalg.norm(np.eye(len(mean)) - middle * mean, 2) > 1
        low, high = (low, middle) if grows else (middle, high)
    return middle


def _bound(formula):
    def wrong(hessian, n):
        return formula(np.linalg.eigvalsh(hessian.numpy()), n)

    return wrong


part_e = Function(
    "convergence.part_e",
    "the step up to which the response converges",
    truth=_first_that_does_not_shrink,
    cases=_curved,
    n=lambda args: args[1],
    mistakes=[
        Mistake(
            "2/λ of the sum",
            _bound(lambda s, n: 2 / s[-1]),
            "2/λ_max(H) is for steps along the summed gradient. Here they are η/n times that: H/n.",
        ),
        Mistake(
            "1/λ of the sum",
            _bound(lambda s, n: 1 / s[-1]),
            "Two factors are missing: |1 − ηλ/n| < 1 as long as ηλ/n < 2.",
        ),
        Mistake(
            "no overshooting",
            _bound(lambda s, n: n / s[-1]),
            "Up to n/λ_max no direction overshoots. It may: |1 − ηλ/n| < 1 is all it takes.",
        ),
        Mistake(
            "flattest direction",
            _bound(lambda s, n: 2 * n / s[0]),
            "The flattest direction allows this. The steepest has long run away by then.",
        ),
        Mistake(
            "best step",
            _bound(lambda s, n: 2 * n / (s[0] + s[-1])),
            "2n/(λ_min + λ_max) is the step that converges fastest. Larger ones converge too.",
        ),
        Mistake(
            "trace",
            _bound(lambda s, n: 2 * n / s.sum()),
            "Safe, but too small: the trace adds up all eigenvalues. The largest one decides.",
        ),
        Mistake(
            "Frobenius norm",
            _bound(lambda s, n: 2 * n / np.sqrt((s**2).sum())),
            "Safe, but too small: the Frobenius norm is above λ_max.",
        ),
        Mistake(
            "mean eigenvalue",
            _bound(lambda s, n: 2 * n / s.mean()),
            "The mean eigenvalue does not decide: the steepest direction runs away first.",
        ),
        Mistake(
            "largest diagonal entry",
            lambda hessian, n: 2 * n / hessian.diagonal().max(),
            "The largest diagonal entry is below λ_max, unless the axes are eigenvectors.",
        ),
        Mistake(
            "Langevin's 4",
            _bound(lambda s, n: 4 * n / s[-1]),
            "4 belongs to a drift of −½η∇L. Here a step multiplies by 1 − ηλ/n.",
        ),
        Mistake(
            "1/n twice",
            _bound(lambda s, n: 2 * n**2 / s[-1]),
            "n is there twice. The eigenvalues of H/n are λ/n.",
        ),
        Mistake(
            "upside down",
            _bound(lambda s, n: s[-1] / (2 * n)),
            "Upside down: the steeper the loss, the smaller the step has to be.",
        ),
        Mistake(
            "n below",
            _bound(lambda s, n: 2 / (n * s[-1])),
            "n is on the wrong side: the eigenvalues of H/n are λ/n.",
        ),
    ],
    hints=[
        "Along an eigenvector of H a step multiplies what is missing to the limit by 1 − ηλ/n.",
        "|1 − ηλ/n| < 1 for every eigenvalue, so η < 2n/λ_max.",
    ],
)

# --- (f), (g) one direction in continuous time ---------------------------------------------------

_sigma, _t, _n, _g, _r0, _s = sp.symbols("sigma t n g r0 s", positive=True)


def _variation_of_constants() -> sp.Expr:
    """e^(−σt) r₀ and all pushes since, each decayed from its moment on."""
    pushes = sp.integrate(_g / _n * sp.exp(-_sigma * (_t - _s)), (_s, 0, _t))
    return _r0 * sp.exp(-_sigma * _t) + pushes


def _relaxed(rest, decay, start=_r0):
    """rest + (start − rest) decay, without the brackets: that takes sympy half the time."""
    return rest + start * decay - rest * decay


_decay = sp.exp(-_sigma * _t)
_rest = _g / (_n * _sigma)
_line_domain = {"t": (0.3, 2), "n": (2, 6), "g": (-3, 3), "r0": (-2, 2)}

part_f = Formula(
    "convergence.part_f",
    "r(t) for ṙ = −σr + g/n from r(0) = r₀",
    truth=_variation_of_constants(),
    domain={"sigma": (0.3, 2), **_line_domain},
    mistakes=[
        Mistake(
            "no 1/n",
            _relaxed(_g / _sigma, _decay),
            "The push is g/n, not g: σ is an eigenvalue of the mean Hessian.",
        ),
        Mistake(
            "upweighting",
            _relaxed(-_rest, _decay),
            "The push has the sign of upweighting. Here z_k loses weight: ṙ = −σr + g/n.",
        ),
        Mistake(
            "from zero",
            _relaxed(_rest, _decay, 0),
            "This starts at 0. It starts at r₀, which decays: r₀ e^(−σt).",
        ),
        Mistake(
            "r₀ kept",
            _r0 + _rest - _rest * _decay,
            "r₀ does not stay: without a push ṙ = −σr, and r₀ decays.",
        ),
        Mistake(
            "limit",
            _rest,
            "This is where r tends. At time t it is on its way there from r₀.",
        ),
        Mistake(
            "no push",
            _r0 * _decay,
            "The push g/n is forgotten.",
        ),
        Mistake(
            "push kept whole",
            _rest + _r0 * _decay,
            "At t = 0 this is r₀ + g/(nσ), not r₀: the constant in front of e^(−σt) is "
            "r₀ − g/(nσ).",
        ),
        Mistake(
            "growth",
            _relaxed(_rest, sp.exp(_sigma * _t)),
            "e^(+σt) grows. ṙ = −σr decays.",
        ),
        Mistake(
            "constant's sign",
            _rest + _r0 * _decay + _rest * _decay,
            "At t = 0 this is r₀ + 2g/(nσ), not r₀: the constant is r₀ − g/(nσ).",
        ),
        Mistake(
            "1/n in the exponent",
            _relaxed(_rest, sp.exp(-_sigma * _t / _n)),
            "The exponent is σt: σ belongs to the mean Hessian, which has its 1/n already.",
        ),
        Mistake(
            "equilibrium without σ",
            _relaxed(_g / _n, _decay),
            "ṙ = 0 where σr = g/n: divide by σ.",
        ),
        Mistake(
            "straight line",
            _r0 + _t * (_g / _n - _sigma * _r0),
            "Right for small t. As r changes, so does its pull back −σr.",
        ),
        Mistake(
            "flat",
            _r0 + _t * _g / _n,
            "This has no pull back: it is the solution at σ = 0.",
        ),
        Mistake(
            "n in the exponent",
            _relaxed(_rest, sp.exp(-_n * _sigma * _t)),
            "The exponent has n too many: σ is an eigenvalue of the mean Hessian.",
        ),
        Mistake(
            "steps",
            _relaxed(_rest, (1 - _sigma) ** _t),
            "1 − σ to the power t is for steps of length one. In continuous time it is e^(−σt).",
        ),
    ],
    hints=[
        "Where is ṙ = 0? How does the distance from there change?",
        "r − g/(nσ) obeys ẋ = −σx.",
        "g/(nσ) + (r₀ − g/(nσ)) e^(−σt).",
    ],
)

part_g = Formula(
    "convergence.part_g",
    "r(t) as σ → 0",
    truth=sp.limit(_variation_of_constants(), _sigma, 0),
    domain=_line_domain,
    mistakes=[
        Mistake(
            "no 1/n",
            _r0 + _t * _g,
            "The push is g/n, not g: the drift is n times slower.",
        ),
        Mistake(
            "stays",
            _r0,
            "(1 − e^(−σt))/σ does not vanish as σ → 0: expand e^(−σt) to first order.",
        ),
        Mistake(
            "from zero",
            _t * _g / _n,
            "r₀ is lost: as σ → 0 it no longer decays.",
        ),
        Mistake(
            "upweighting",
            _r0 - _t * _g / _n,
            "The push has the sign of upweighting. Here z_k loses weight: +g/n.",
        ),
        Mistake(
            "no time",
            _r0 + _g / _n,
            "(1 − e^(−σt))/σ → t.",
        ),
        Mistake(
            "half",
            _r0 + _t * _g / (2 * _n),
            "A ½ too many: (1 − e^(−σt))/σ → t.",
        ),
        Mistake(
            "zero",
            sp.Integer(0),
            "That is t → ∞ with no push. At a given t, let σ → 0.",
        ),
        Mistake(
            "no 1/n, from zero",
            _t * _g,
            "Two slips: the push is g/n, and r₀ stays.",
        ),
    ],
    hints=[
        "e^(−σt) = 1 − σt + …, in part (f).",
        "Or put σ = 0 into the equation: ṙ = g/n.",
    ],
)

# --- (h), (i) a singular Hessian -----------------------------------------------------------------


def _singular(rng: np.random.Generator) -> tuple:
    rank, flat, n = int(rng.integers(2, 4)), int(rng.integers(1, 3)), int(rng.integers(8, 14))
    values = np.append(np.linspace(0.4, 1.6, rank) * rng.uniform(0.8, 1.2, rank), np.zeros(flat))
    return _spread(rng, values), normal(rng, rank + flat), n


def _within(hessian_mean, gradient, n):
    """The stationary point of the flow that stays in the column space: of Q a, with Q a basis of
    it, aᵀ(QᵀH̄Q)a/2 − aᵀQᵀg/n is least."""
    h, g = hessian_mean.numpy(), gradient.numpy()
    rank = np.linalg.matrix_rank(h, tol=1e-8, hermitian=True)
    basis = np.linalg.qr(h @ np.random.default_rng(0).standard_normal((len(h), rank)))[0]
    return basis @ np.linalg.solve(basis.T @ h @ basis, basis.T @ g / n)


def _spectral(formula):
    """A mistake along the eigenvectors: factor(σ, n, flat) times the part of g there, with σ = 1
    put in for the zeros."""

    def wrong(hessian_mean, gradient, n):
        s, axes = np.linalg.eigh(hessian_mean.numpy())
        flat = s < 1e-8
        return axes @ (formula(np.where(flat, 1.0, s), n, flat) * (axes.T @ gradient.numpy()))

    return wrong


def _diagonal(hessian_mean, gradient, n):
    return gradient / (n * hessian_mean.diagonal())


part_h = Function(
    "convergence.part_h",
    "the equilibrium in the column space of H̄",
    truth=_within,
    cases=_singular,
    n=lambda args: args[2],
    mistakes=[
        Mistake(
            "no 1/n",
            _spectral(lambda s, n, flat: np.where(flat, 0, 1 / s)),
            "Too large by exactly n: H̄⁺ with the mean Hessian, as it is given, times ∇L_k/n.",
        ),
        Mistake(
            "1/n twice",
            _spectral(lambda s, n, flat: np.where(flat, 0, 1 / (n**2 * s))),
            "Too small by exactly n: either H̄⁺∇L_k/n, or the summed H⁺∇L_k, not both 1/n.",
        ),
        Mistake(
            "influence",
            _spectral(lambda s, n, flat: np.where(flat, 0, -1 / (n * s))),
            "Sign flipped: this is the influence. The response to losing weight is minus that.",
        ),
        Mistake(
            "influence, no 1/n",
            _spectral(lambda s, n, flat: np.where(flat, 0, -1 / s)),
            "Sign flipped, and too large by exactly n: the equilibrium solves H̄r = +∇L_k/n.",
        ),
        Mistake(
            "null part kept",
            _spectral(lambda s, n, flat: 1 / (n * s)),
            "The gradient's part in the null space is left in. In the column space there is none "
            "of it.",
        ),
        Mistake(
            "push projected",
            _spectral(lambda s, n, flat: np.where(flat, 0, 1 / n)),
            "This is the push, projected to the column space. At rest H̄r balances it: invert H̄ "
            "there.",
        ),
        Mistake(
            "null part only",
            _spectral(lambda s, n, flat: np.where(flat, 1 / n, 0)),
            "This is the push along the null space, where there is no equilibrium. The other part "
            "is asked.",
        ),
        Mistake(
            "damped with 1",
            _spectral(lambda s, n, flat: 1 / (n * (np.where(flat, 0, s) + 1))),
            "Damping makes the matrix invertible, but it is another equilibrium: H̄⁺, not "
            "(H̄ + I)⁻¹.",
        ),
        Mistake(
            "lightly damped",
            _spectral(lambda s, n, flat: 1 / (n * (np.where(flat, 0, s) + 1e-3))),
            "A damping of 10⁻³ blows up the part in the null space. That part has to be 0: H̄⁺.",
        ),
        Mistake(
            "H for its inverse",
            _spectral(lambda s, n, flat: np.where(flat, 0, s / n)),
            "H̄∇L_k/n for H̄⁺∇L_k/n: where the curvature is large, r is small.",
        ),
        Mistake(
            "diagonal",
            _diagonal,
            "Divided by the diagonal of H̄, entry by entry. It takes the pseudoinverse of the whole "
            "matrix.",
        ),
    ],
    hints=[
        "ṙ = 0 where H̄r = ∇L_k/n. Which of its two sides can have a part in the null space?",
        "Among the r in the column space exactly one solves it up to that part: the pseudoinverse.",
        "H̄⁺ ∇L_k/n, with numpy.linalg.pinv or torch.linalg.pinv.",
    ],
)


def _flow_case(rng: np.random.Generator) -> tuple:
    h, g, n = _singular(rng)
    return h, g, n, normal(rng, len(g)), float(rng.uniform(1.3, 4.0) ** rng.choice([-0.5, 1]))


def _exponential(hessian_mean, gradient, n, r0, t):
    """(r, 1) obeys a linear equation without a push: one matrix exponential, and no eigenvector."""
    p = len(r0)
    generator = torch.zeros(p + 1, p + 1, dtype=r0.dtype)
    generator[:p, :p], generator[:p, p] = -hessian_mean, gradient / n
    return (torch.linalg.matrix_exp(t * generator) @ torch.cat([r0, r0.new_ones(1)]))[:p]


def _flow(curved=None, flat=None, push=lambda n: 1 / n):
    """A mistake in the flow, along eigenvectors with σ > 0 or with σ = 0, from (σ, g, r₀, t)."""
    curved = curved or (lambda s, g, r, t: g / s + (r - g / s) * np.exp(-s * t))
    flat = flat or (lambda g, r, t: r + t * g)

    def wrong(hessian_mean, gradient, n, r0, t):
        s, axes = np.linalg.eigh(hessian_mean.numpy())
        g, r = axes.T @ gradient.numpy() * push(n), axes.T @ r0.numpy()
        null = s < 1e-8
        return axes @ np.where(null, flat(g, r, t), curved(np.where(null, 1, s), g, r, t))

    return wrong


def _null_push_unscaled(hessian_mean, gradient, n, r0, t):
    return _flow(flat=lambda g, r, t: r + t * n * g)(hessian_mean, gradient, n, r0, t)


def _drift_everywhere(hessian_mean, gradient, n, r0, t):
    """The drift of the null space, not projected, on top of the rest."""
    decaying = _flow(flat=lambda g, r, t: 0 * r)(hessian_mean, gradient, n, r0, t)
    return decaying + r0.numpy() + t * gradient.numpy() / n


def _start_not_projected(hessian_mean, gradient, n, r0, t):
    decaying = _flow(flat=lambda g, r, t: t * g)(hessian_mean, gradient, n, r0, t)
    return decaying + r0.numpy()


def _push_everywhere(hessian_mean, gradient, n, r0, t):
    settled = _flow(flat=lambda g, r, t: r)(hessian_mean, gradient, n, r0, t)
    return settled + t * gradient.numpy() / n


def _summed_exponent(hessian_mean, gradient, n, r0, t):
    return _flow(curved=lambda s, g, r, t: g / s + (r - g / s) * np.exp(-n * s * t))(
        hessian_mean, gradient, n, r0, t
    )


part_i = Function(
    "convergence.part_i",
    "r(t), with its part in the null space",
    truth=_exponential,
    cases=_flow_case,
    n=lambda args: args[2],
    mistakes=[
        Mistake(
            "null space without 1/n",
            _null_push_unscaled,
            "The drift along the null space lacks its 1/n: P₀r₀ + t P₀∇L_k/n.",
        ),
        Mistake(
            "no 1/n",
            _flow(push=lambda n: 1.0),
            "1/n is missing, in the drift and in the equilibrium: the push is ∇L_k/n.",
        ),
        Mistake(
            "upweighting",
            _flow(push=lambda n: -1 / n),
            "The push has the sign of upweighting. Here z_k loses weight: +∇L_k/n.",
        ),
        Mistake(
            "null part dropped",
            _flow(flat=lambda g, r, t: 0 * r),
            "The part in the null space is dropped. There r₀ stays, and the push adds up.",
        ),
        Mistake(
            "null part fixed",
            _flow(flat=lambda g, r, t: r),
            "The null part stays where it began here. It does so only if P₀∇L_k = 0: otherwise "
            "t P₀∇L_k/n.",
        ),
        Mistake(
            "null start dropped",
            _flow(flat=lambda g, r, t: t * g),
            "P₀r₀ is dropped: along the null space nothing pulls it back to zero.",
        ),
        Mistake(
            "null part decays",
            _flow(flat=lambda g, r, t: g + (r - g) * np.exp(-t)),
            "The null space decays here, as if its σ were 1. With σ = 0 it drifts: r₀ + t∇L_k/n.",
        ),
        Mistake(
            "drift not projected",
            _drift_everywhere,
            "r₀ + t∇L_k/n is added whole. It is the drift along the null space only: "
            "P₀(r₀ + t∇L_k/n).",
        ),
        Mistake(
            "push not projected",
            _push_everywhere,
            "t∇L_k/n is added whole. It adds up along the null space only: t P₀∇L_k/n.",
        ),
        Mistake(
            "start not projected",
            _start_not_projected,
            "r₀ is added whole, beside its decaying part. What stays is P₀r₀.",
        ),
        Mistake(
            "r₀ forgotten",
            lambda h, g, n, r0, t: _flow()(h, g, n, 0 * r0, t),
            "This starts at zero. It starts at r₀.",
        ),
        Mistake(
            "column space at rest",
            _flow(curved=lambda s, g, r, t: g / s),
            "In the column space this is already at rest. At time t it is on its way there: "
            "e^(−tH̄).",
        ),
        Mistake(
            "all at rest",
            _flow(curved=lambda s, g, r, t: g / s, flat=lambda g, r, t: 0 * r),
            "This is part (h), the equilibrium. r(t) is on its way there, and drifts in the null "
            "space.",
        ),
        Mistake(
            "growth",
            _flow(curved=lambda s, g, r, t: g / s + (r - g / s) * np.exp(s * t)),
            "e^(+tH̄) grows. ṙ = −H̄r decays.",
        ),
        Mistake(
            "summed Hessian in the exponent",
            _summed_exponent,
            "The exponent has n too many: H̄ is the mean Hessian already.",
        ),
        Mistake(
            "no push",
            _flow(push=lambda n: 0.0),
            "The push ∇L_k/n is forgotten.",
        ),
        Mistake(
            "push kept whole",
            _flow(curved=lambda s, g, r, t: g / s + r * np.exp(-s * t)),
            "At t = 0 this is not r₀: what decays is r₀ minus the equilibrium.",
        ),
        Mistake(
            "straight line",
            lambda h, g, n, r0, t: r0 + t * (g / n - h @ r0),
            "Right for small t. As r changes, so does its pull back −H̄r.",
        ),
        Mistake(
            "r₀ kept",
            _flow(curved=lambda s, g, r, t: r + g / s * (1 - np.exp(-s * t))),
            "r₀ stays whole here. In the column space it decays: e^(−tH̄)r₀.",
        ),
        Mistake(
            "no time",
            _flow(flat=lambda g, r, t: r + g),
            "Along the null space the push adds up over time: t P₀∇L_k/n.",
        ),
        Mistake(
            "equilibrium without 1/n",
            lambda h, g, n, r0, t: _flow(
                curved=lambda s, g, r, t: n * g / s + (r - n * g / s) * np.exp(-s * t)
            )(h, g, n, r0, t),
            "The equilibrium lacks its 1/n, which the drift has: H̄⁺∇L_k/n.",
        ),
        Mistake(
            "1/n in the exponent",
            lambda h, g, n, r0, t: _flow(
                curved=lambda s, g, r, t: g / s + (r - g / s) * np.exp(-s * t / n)
            )(h, g, n, r0, t),
            "The exponent is −tH̄: the mean Hessian has its 1/n already.",
        ),
    ],
    hints=[
        "Part (f) along each eigenvector of H̄, and part (g) along those with σ = 0.",
        "eigh gives H̄ = Σ σ v vᵀ. Along v: r₀·v and ∇L_k·v/n in part (f), or in part (g).",
        "With P₀ the projector to the null space: H̄⁺g/n + e^(−tH̄)(r₀ − H̄⁺g/n) + t P₀g/n.",
    ],
)

# --- (j), (k) the flat valley --------------------------------------------------------------------


def _valley_run(slopes, epsilon: float, k: int = 0, rates=(RATE,) * STEPS) -> np.ndarray:
    """Gradient descent on the mean of ½x² + s_i y, z_k with weight 1 − ε."""
    weights = np.ones(len(slopes))
    weights[k] -= epsilon
    w = np.array([1.0, 0.5])
    for rate in rates:
        each = np.stack([np.full(len(slopes), w[0]), np.asarray(slopes)], 1)
        w = w - rate * (weights @ each) / len(slopes)
    return w


def _drift(slopes, **options) -> float:
    """How fast the response of y grows still, late in a run: over its second half, a unit of
    effort."""
    rates = options.pop("rates", (RATE,) * STEPS)

    def response(used):
        down = _valley_run(slopes, 1.0, rates=used, **options)
        return down[1] - _valley_run(slopes, 0.0, rates=used, **options)[1]

    half = len(rates) // 2
    return float((response(rates) - response(rates[:half])) / sum(rates[half:]))


@cache
def runaway() -> dict[str, tuple[float, float]]:
    """The drift of the response of y in two cases for every condition of part (j): one in which it
    holds, and one in which it does not."""
    decaying = tuple(2 / (t + 1) for t in range(4000))
    n = len(VALLEY)
    no_push = np.array([0.0, -2.0, 1.25, -1.0, 1.75])
    return {
        "p0 g = 0": (_drift(no_push), _drift(VALLEY)),
        "g = 0": (_drift(0 * no_push), _drift(no_push)),
        "sum of g = 0": (_drift(VALLEY), _drift(np.array(VALLEY) + 1)),
        "decaying steps": (_drift(VALLEY, rates=decaying), _drift(VALLEY)),
        "small steps": (_drift(VALLEY, rates=(RATE / 100,) * (100 * STEPS)), _drift(VALLEY)),
        "large n": (_drift([*VALLEY, *[0.0] * (9 * n)]), _drift(VALLEY)),
    }


def _vanishes() -> str:
    """The condition under which there is no drift, and without which there is one."""
    fits = [
        name
        for name, (holds, fails) in runaway().items()
        if abs(holds) < 1e-9 and abs(fails) > 1e-3
    ]
    assert len(fits) == 1
    return fits[0]


part_j = Choice(
    "convergence.part_j",
    "the condition under which, and only under which, nothing runs away",
    truth=_vanishes,
    wrong={
        "g = 0": "Enough, but more than is needed: a push along curved directions is balanced by "
        "H̄r and does no harm.",
        "sum of g = 0": "Σ_i ∇L_i = 0 holds at every minimum, and the response of one example runs "
        "away all the same.",
        "decaying steps": "With Σ η_t = ∞ the effort t = Σ η_t still goes to infinity, if slowly, "
        "and the drift is per unit of effort.",
        "small steps": "Small steps take longer to make the same effort. The drift is per unit of "
        "effort, not per step.",
        "large n": "The drift is n times slower, and n times as long it lasts. It does not vanish.",
    },
    hints=[
        "Look at the term with t in part (i).",
        "t P₀∇L_k/n. Is it the whole gradient that has to vanish, or a part of it?",
    ],
)


@cache
def valley_drift() -> float:
    """The response of y to taking weight from z_0, from two runs; y is linear in ε."""
    return float(_valley_run(VALLEY, 1.0)[1] - _valley_run(VALLEY, 0.0)[1])


_effort = RATE * STEPS

part_k = Number(
    "convergence.part_k",
    "the response of y after the run",
    truth=valley_drift,
    rtol=0.002,  # less than one step of T
    mistakes=[
        Mistake(
            "influence",
            -_effort * VALLEY[0] / len(VALLEY),
            "Sign flipped: this is the influence. Taking weight from z_0 lets y go the way s_0 "
            "held it from.",
        ),
        Mistake(
            "no 1/n",
            _effort * VALLEY[0],
            "1/n is missing: a step is η times the mean gradient.",
        ),
        Mistake(
            "influence, no 1/n",
            -_effort * VALLEY[0],
            "Two slips: the sign is that of the influence, and 1/n is missing.",
        ),
        Mistake(
            "pseudoinverse",
            0.0,
            "0 is the pseudoinverse's answer, that of the column space. y is the flat direction: "
            "nothing holds it.",
        ),
        Mistake(
            "steps for effort",
            STEPS * VALLEY[0] / len(VALLEY),
            "η is missing: what counts is the effort ηT, not the number of steps.",
        ),
        Mistake(
            "effort alone",
            _effort / len(VALLEY),
            "The push is s_0 along y, not 1.",
        ),
        Mistake(
            "one step",
            RATE * VALLEY[0] / len(VALLEY),
            "This is one step's push. All T of them add up, as nothing pulls y back.",
        ),
        Mistake(
            "one step less",
            RATE * (STEPS - 1) * VALLEY[0] / len(VALLEY),
            "One push is missing: with r_0 = 0, r_T has all T of them.",
        ),
        Mistake(
            "1/n twice",
            _effort * VALLEY[0] / len(VALLEY) ** 2,
            "1/n is there twice. A step has it once.",
        ),
    ],
    hints=[
        "Along y the Hessian is zero: part (g), with t = ηT. What is g here?",
        "ηT s_0/n.",
    ],
)

# --- (l) what the pair is good for ---------------------------------------------------------------


def _pairs(rates: np.ndarray, runs: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """SGD with batches of one on n one-parameter losses, L_i = ½a_i(w − c_i)² + ⅓d_i w³, and the
    response to taking weight from z_0; (w_T, r_T), each of shape (runs,)."""
    rng = np.random.default_rng(seed)
    w, r = np.full(runs, 0.4), np.zeros(runs)
    for rate in rates:
        i = rng.integers(len(_A), size=runs)
        slope = _A[i] * (w - _C[i]) + _D[i] * w**2
        r = r - rate * (_A[i] + 2 * _D[i] * w) * r + rate * (i == 0) * slope
        w = w - rate * slope
    return w, r


_A, _C, _D = np.array([1.2, 0.8, 1.0, 1.4]), np.array([0.5, -0.3, 0.1, -0.2]), np.full(4, 0.15)


@cache
def response_of_sgd(runs: int = 400) -> dict[str, tuple[float, float]]:
    """Mean and standard deviation of r_T over runs that differ in their batches, for decaying steps
    and for a constant one, at two lengths; and under "limit" what the minimum's formula says."""
    w = 0.0
    for _ in range(100):
        w -= 0.5 * (_A * (w - _C) + _D * w**2).mean()
    limit = (_A[0] * (w - _C[0]) + _D[0] * w**2) / (_A + 2 * _D * w).sum()
    found = {"limit": (float(limit), 0.0)}
    for name, rate in (("decaying", lambda t: 2 / (t + 10)), ("constant", lambda t: 0.2 + 0 * t)):
        for steps in (300, 6000):
            r = _pairs(rate(np.arange(steps)), runs)[1]
            found[f"{name}, {steps} steps"] = float(r.mean()), float(r.std())
    return found


def _good_for() -> str:
    """Of three claims, the one that the runs bear out: r settles if the steps decay, as stochastic
    approximation has it for the pair; it settles whatever the steps are; it does not settle."""
    found = response_of_sgd()
    limit = found["limit"][0]
    near = {
        name: np.hypot(found[f"{name}, 6000 steps"][0] - limit, found[f"{name}, 6000 steps"][1])
        for name in ("decaying", "constant")
    }
    settles = {name: gap < 0.1 * abs(limit) for name, gap in near.items()}
    if settles["constant"]:
        return "it converges by itself"
    return "limit theorems" if settles["decaying"] else "no limit"


part_l = Choice(
    "convergence.part_l",
    "what is gained by seeing (w_t, r_t) as a Markov chain",
    truth=_good_for,
    wrong={
        "it converges by itself": "Being Markov is not enough: at a constant step the chain goes "
        "on moving, and along flat directions it drifts off.",
        "r alone": "r_t by itself is no Markov chain: its step has Ĥ and ∇L_k at w_t, which moves "
        "as well. Only the pair is.",
        "order does not matter": "Markov means that the present is enough for the future, not that "
        "the past left no trace: (w_t, r_t) depends on all batches so far.",
        "independent steps": "Each r_{t+1} is made from r_t. It is the batches that are "
        "independent of one another.",
        "no jacobians": "The chain's own step has J_t in it. What follows is a limit, not a way to "
        "leave J_t out.",
        "no limit": "At a constant step there is none but in law. With steps that decay as Robbins "
        "and Monro ask, w_t settles at a strict minimum, and r_t with it.",
    },
    hints=[
        "Which theorems are about w_{t+1} = F(w_t, batch), with independent batches and small "
        "steps?",
        "Stochastic approximation: with decaying steps such a process follows an ODE. What does "
        "the pair's say of r?",
    ],
)
