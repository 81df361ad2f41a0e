"""Exercise 04_source_replay: a few segments for a whole run, or the whole run from a few states."""

from dataclasses import dataclass
from functools import cache

import mpmath
import numpy as np
import scipy.linalg
import scipy.optimize
import sympy as sp
import torch

from lib.checks.engine import WRONG, Choice, Formula, Function, Mistake, Number, Result
from lib.random_problems import normal, stretched
from lib.replay import Shelf, backwards, depth, most_states, most_steps

# --- (a) to (c) one segment, one eigenvector -----------------------------------------------------

_eta, _k, _sigma = sp.symbols("eta K sigma")
_left = (1 - _eta * _sigma) ** _k
_SEGMENT = {"sigma": (-0.8, 1.5), "eta": (0.1, 0.5), "K": (2, 9)}

part_a = Formula(
    "source_replay.part_a",
    "what is left of a displacement along the eigenvector after K steps",
    truth=sp.exp(_k * sp.log(1 - _eta * _sigma)),
    domain=_SEGMENT,
    mistakes=[
        Mistake(
            "gradient flow",
            sp.exp(-_eta * _k * _sigma),
            "This is gradient flow's factor, the limit of small steps. K whole steps are asked "
            "first.",
        ),
        Mistake(
            "one step too few",
            (1 - _eta * _sigma) ** (_k - 1),
            "One step too few: K − 1 steps lie between the first and the last of K states. Here "
            "K steps are taken.",
        ),
        Mistake(
            "one step too many",
            (1 - _eta * _sigma) ** (_k + 1),
            "One step too many: K steps, K factors.",
        ),
        Mistake(
            "uphill",
            (1 + _eta * _sigma) ** _k,
            "Descent shrinks what lies along a positive σ: a step multiplies by 1 − ησ.",
        ),
        Mistake(
            "what is lost",
            1 - _left,
            "This is the share that is lost. What is left is asked.",
        ),
        Mistake(
            "first order",
            1 - _k * _eta * _sigma,
            "Right to first order in η. Factors multiply: K of them make a power.",
        ),
        Mistake(
            "no rate",
            (1 - _sigma) ** _k,
            "The rate is missing: a step subtracts η times the gradient, and that is ησ.",
        ),
        Mistake(
            "one step",
            1 - _eta * _sigma,
            "This is one step. A segment has K of them.",
        ),
        Mistake(
            "rate shared out",
            (1 - _eta * _sigma / _k) ** _k,
            "η is the rate of each step, not of the segment: no division by K.",
        ),
        Mistake(
            "sum for a power",
            _k * (1 - _eta * _sigma),
            "The K factors are added here. Each acts on what the one before has left: multiply.",
        ),
        Mistake(
            "implicit steps",
            (1 + _eta * _sigma) ** -_k,
            "That is for gradients taken at a step's end. Descent takes them at its start: 1 − ησ.",
        ),
        Mistake(
            "growing",
            sp.exp(_eta * _k * _sigma),
            "Along a positive σ a displacement shrinks; and these are whole steps, no exponential.",
        ),
    ],
    hints=[
        "Near the path the gradient changes by H̄δ when w is displaced by δ. What does one step do?",
        "δ ← δ − ηH̄δ, and along the eigenvector H̄δ = σδ.",
        "K times the factor 1 − ησ.",
    ],
)

part_b = Formula(
    "source_replay.part_b",
    "the answer r_K to a constant push",
    truth=(1 - _left) / _sigma,
    domain=_SEGMENT,
    mistakes=[
        Mistake(
            "converged",
            1 / _sigma,
            "1/σ is the answer once converged, as in the influence function. K steps may be few.",
        ),
        Mistake(
            "what is left",
            _left,
            "This is F_S, what is left of one displacement. Here every step adds a new push.",
        ),
        Mistake(
            "not divided",
            1 - _left,
            "The geometric series has the divisor 1 − (1 − ησ) = ησ, and η cancels: divide by σ.",
        ),
        Mistake(
            "no rate",
            (1 - _left) / (_eta * _sigma),
            "The push is multiplied by η in every step, which cancels the η below.",
        ),
        Mistake(
            "rate twice",
            _eta * (1 - _left) / _sigma,
            "One η too many: the series' divisor is ησ, so η cancels.",
        ),
        Mistake(
            "all at once",
            _eta * _k,
            "ηK is the sum of the pushes, each kept whole: right at σ = 0 only.",
        ),
        Mistake(
            "one step too few",
            (1 - (1 - _eta * _sigma) ** (_k - 1)) / _sigma,
            "One push too few: the sum has K terms, from (1 − ησ)⁰ to (1 − ησ)^(K − 1).",
        ),
        Mistake(
            "one step too many",
            (1 - (1 - _eta * _sigma) ** (_k + 1)) / _sigma,
            "One push too many: the sum has K terms, from (1 − ησ)⁰ to (1 − ησ)^(K − 1).",
        ),
        Mistake(
            "push before shrinking",
            (1 - _eta * _sigma) * (1 - _left) / _sigma,
            "The last push is not shrunk any more: the powers in the sum start at 0, not at 1.",
        ),
        Mistake(
            "gradient flow",
            (1 - sp.exp(-_eta * _k * _sigma)) / _sigma,
            "This is gradient flow's, part (c). K whole steps are asked.",
        ),
        Mistake(
            "sign",
            (_left - 1) / _sigma,
            "Sign flipped: the push is along +1, so r_1 = η.",
        ),
        Mistake(
            "series not divided",
            _eta * (1 - _left),
            "The series is (1 − m^K)/(1 − m) with m = 1 − ησ: its divisor is missing.",
        ),
        Mistake(
            "uphill",
            ((1 + _eta * _sigma) ** _k - 1) / _sigma,
            "A positive σ pulls back: r is multiplied by 1 − ησ, not by 1 + ησ.",
        ),
    ],
    hints=[
        "r_1 = η, r_2 = η + (1 − ησ)η, …: what kind of sum is it?",
        "η Σ_{t<K} (1 − ησ)^t, a geometric series.",
        "Σ_{t<K} m^t = (1 − m^K)/(1 − m), with m = 1 − ησ.",
    ],
)

part_c = Formula(
    "source_replay.part_c",
    "gradient flow's answer to the same push after the time ηK",
    truth=(1 - sp.exp(-_eta * _k * _sigma)) / _sigma,
    domain=_SEGMENT,
    mistakes=[
        Mistake(
            "powers",
            (1 - _left) / _sigma,
            "These are still K whole steps, part (b). Gradient flow has an exponential.",
        ),
        Mistake(
            "what is left",
            sp.exp(-_eta * _k * _sigma),
            "This is what is left of a displacement. The answer to the push is asked.",
        ),
        Mistake(
            "not divided",
            1 - sp.exp(-_eta * _k * _sigma),
            "Where the flow rests, σr = 1: divide by σ.",
        ),
        Mistake(
            "divided by ησ",
            (1 - sp.exp(-_eta * _k * _sigma)) / (_eta * _sigma),
            "In ṙ = 1 − σr the rate is in the clock, not in the push: it rests at 1/σ.",
        ),
        Mistake(
            "no rate",
            (1 - sp.exp(-_k * _sigma)) / _sigma,
            "The flow runs for the time ηK, the rates summed, not for K.",
        ),
        Mistake(
            "one step",
            (1 - sp.exp(-_eta * _sigma)) / _sigma,
            "This is the time η of one step. K of them take ηK.",
        ),
        Mistake(
            "growing",
            (sp.exp(_eta * _k * _sigma) - 1) / _sigma,
            "A positive σ pulls back: the exponent is −ηKσ.",
        ),
        Mistake(
            "converged",
            1 / _sigma,
            "1/σ is where the flow would come to rest. It has run for the time ηK only.",
        ),
        Mistake(
            "sign",
            (sp.exp(-_eta * _k * _sigma) - 1) / _sigma,
            "Sign flipped: at first r grows, with slope 1.",
        ),
        Mistake(
            "rate twice",
            _eta * (1 - sp.exp(-_eta * _k * _sigma)) / _sigma,
            "One η too many: in ṙ = 1 − σr the push is 1, and the rate is in the time ηK.",
        ),
        Mistake(
            "divided by ηKσ",
            (1 - sp.exp(-_eta * _k * _sigma)) / (_eta * _k * _sigma),
            "Too small by the effort: the flow rests at 1/σ, however long it has run.",
        ),
        Mistake(
            "all at once",
            _eta * _k,
            "ηK is the push times the time, without the pull back −σr: right at σ = 0 only.",
        ),
    ],
    hints=[
        "Solve ṙ = 1 − σr from r(0) = 0.",
        "The distance from rest, r − 1/σ, shrinks by e^(−σ·time).",
        "Part (b) with e^(−ηKσ) for (1 − ησ)^K.",
    ],
)

# --- (d) the filter as code ----------------------------------------------------------------------


def _spectrum(rng: np.random.Generator) -> tuple:
    """Ordinary, negative, zero and hardly any curvature, in random order, and an effort."""
    effort = float(rng.uniform(1.5, 6.0))
    ordinary = rng.uniform(0.2, 4, int(rng.integers(2, 6)))
    negative = -rng.uniform(0.1, 0.6, 2)
    # Between the ordinary and the tiny ones no threshold is right: the difference has lost digits
    # below, or the limit is not reached yet.
    small = rng.uniform(3e-5, 3e-4, 2) * [1, -1]
    between = rng.uniform([3e-7, 1e-12], [9e-7, 3e-12]) * rng.choice([1, -1], 2)
    tiny = rng.uniform(1e-18, 5e-17, 2) / effort * [1, -1]
    large = rng.uniform(40, 90, 1)
    sigma = np.concatenate([ordinary, negative, small, between, tiny, large, [0.0]])
    return torch.from_numpy(rng.permutation(sigma)), effort


def _in_many_digits(sigma, effort):
    """∫₀^effort e^(−σu) du: its exact value, rounded from sixty digits."""
    with mpmath.workdps(60):
        exact = [
            mpmath.mpf(effort) if s == 0 else -mpmath.expm1(-mpmath.mpf(effort) * s) / s
            for s in map(mpmath.mpf, sigma.tolist())
        ]
        return [float(v) for v in exact]


def _filtered(formula, at_zero=None):
    """A mistake's filter; at σ = 0 a value of its own, the right one if none is given."""

    def wrong(sigma, effort):
        sigma = sigma.numpy()
        safe = np.where(sigma == 0, 1.0, sigma)
        limit = effort if at_zero is None else at_zero(effort)
        return np.where(sigma == 0, limit, formula(safe, effort))

    return wrong


def _response(sigma, effort):
    return -np.expm1(-effort * sigma) / sigma


part_d = Function(
    "source_replay.part_d",
    "the response filter (1 − e^(−effort·σ))/σ at every eigenvalue",
    truth=_in_many_digits,
    cases=_spectrum,
    rtol=1e-8,
    mistakes=[
        Mistake(
            "cancellation",
            _filtered(lambda s, e: (1 - np.exp(-e * s)) / s),
            "Digits cancel at tiny σ: 1 − e^(−x) loses x beside 1. Which function gives e^x − 1 "
            "with all digits?",
            noise=lambda s, e: ((s != 0) & ((e * s).abs() < 1e-9)).numpy(),
        ),
        Mistake(
            "zero at zero",
            _filtered(_response, lambda e: 0.0),
            "At σ = 0 the answer is not zero: without curvature every push stays. What is the "
            "limit?",
        ),
        Mistake(
            "one at zero",
            _filtered(_response, lambda e: 1.0),
            "The limit at σ = 0 is not 1: (1 − e^(−effort·σ))/σ tends to the effort.",
        ),
        Mistake(
            "zero where flat",
            _filtered(lambda s, e: (1 - np.exp(-e * s)) / s, lambda e: 0.0),
            "Zero at σ = 0 and at tiny σ: a pseudoinverse, or lost digits? Training moves along "
            "flat directions, by the whole effort.",
        ),
        Mistake(
            "converged",
            _filtered(lambda s, e: 1 / s),
            "1/σ is the filter of a converged run. A segment stops after the effort: 1 − e^(−x) "
            "above.",
        ),
        Mistake(
            "negative set to zero",
            lambda s, e: _filtered(_response)(s.clamp(min=0), e),
            "Negative eigenvalues were set to zero. Along them a displacement grows: keep σ as "
            "it is.",
        ),
        Mistake(
            "absolute value",
            lambda s, e: _filtered(_response)(s.abs(), e),
            "|σ| in place of σ: where the curvature is negative, a displacement grows.",
        ),
        Mistake(
            "propagation",
            lambda s, e: np.exp(-e * s.numpy()),
            "This is F_S, what is left of a displacement. The response filter is (1 − F_S)/σ.",
        ),
        Mistake(
            "not divided",
            lambda s, e: -np.expm1(-e * s.numpy()),
            "This is 1 − F_S. It must still be divided by σ.",
        ),
        Mistake(
            "sign",
            _filtered(lambda s, e: -_response(s, e), lambda e: -e),
            "Sign flipped: e^(−x) − 1 is negative for x > 0. The filter is positive for every σ.",
        ),
        Mistake(
            "growing",
            lambda s, e: _filtered(_response)(-s, e),
            "The exponent's sign is flipped: with positive σ what was added decays.",
        ),
        Mistake(
            "no unit",
            lambda s, e: _filtered(_response)(s, e) / e,
            "Too small by the effort: divide by σ, not by effort·σ.",
        ),
        Mistake(
            "no effort",
            lambda s, e: _filtered(_response)(s, 1.0),
            "The effort is missing: the exponent is −effort·σ.",
        ),
        Mistake(
            "damped",
            lambda s, e: 1 / (s + 1 / e),
            "This is the damped inverse of part (e), close to the filter but not it.",
        ),
        Mistake(
            "sign of expm1",
            _filtered(lambda s, e: -_response(s, e)),
            "Right at σ = 0. Elsewhere the sign is flipped: expm1(−x) is e^(−x) − 1.",
        ),
        Mistake(
            "pseudoinverse",
            lambda s, e: np.where(
                abs(s.numpy()) < 1e-10, 0, 1 / np.where(s.numpy() == 0, 1, s.numpy())
            ),
            "This is the pseudoinverse. Training moves along flat directions, by the effort, and "
            "elsewhere stops short of 1/σ.",
        ),
    ],
    hints=[
        "Where does (1 − e^(−x))/σ lose digits, and where does it divide by zero?",
        "torch.expm1(x) is e^x − 1 with all its digits. At σ = 0 the limit is the effort.",
        "torch.where(flat, effort, −torch.expm1(−effort·σ)/safe), safe = σ with 1 where it is 0.",
    ],
)

# --- (e), (f) a damping that does nearly the same ------------------------------------------------

part_e = Formula(
    "source_replay.part_e",
    "the damping λ at which 1/(σ + λ) meets gradient flow's F_r as σ → 0",
    truth=1 / sp.limit(part_c.truth, _sigma, 0),
    domain={"eta": (0.1, 0.5), "K": (2, 9)},
    mistakes=[
        Mistake(
            "upside down",
            _eta * _k,
            "ηK is the value both have at σ = 0. There 1/(σ + λ) is 1/λ.",
        ),
        Mistake("no rate", 1 / _k, "The limit of F_r is ηK, the rates summed: η is missing."),
        Mistake("one step", 1 / _eta, "1/η is for a single step. K of them have the effort ηK."),
        Mistake("K upside down", _k / _eta, "Longer training is less damping: K belongs below."),
        Mistake("η upside down", _eta / _k, "Larger steps are less damping: η belongs below."),
        Mistake(
            "undamped",
            sp.Integer(0),
            "Without damping 1/σ has no bound as σ → 0. F_r does: what is its limit?",
        ),
    ],
    hints=[
        "What does F_r tend to as σ → 0? And 1/(σ + λ)?",
        "(1 − e^(−x))/σ ≈ x/σ with x = ηKσ.",
    ],
)


def excess_over_damping(x):
    """F_r(σ)(σ + λ) with λ = 1/(ηK), in x = ηKσ > 0."""
    return -np.expm1(-x) * (1 + x) / x


@cache
def place_of_largest_excess() -> float:
    """Where the derivative vanishes: e^x = 1 + x + x²."""
    return scipy.optimize.brentq(lambda x: np.exp(x) - 1 - x - x * x, 1, 3)


def largest_excess() -> float:
    """The largest value over all x > 0."""
    return float(excess_over_damping(place_of_largest_excess()))


_x = np.linspace(0.01, 20, 4000)


part_f = Number(
    "source_replay.part_f",
    "the largest factor by which F_r exceeds the damped inverse",
    truth=largest_excess,
    rtol=5e-4,
    mistakes=[
        Mistake(
            "the place",
            place_of_largest_excess(),
            "That is the x = ηKσ where the ratio is largest. How large is it there?",
        ),
        Mistake(
            "never",
            1.0,
            "They meet at σ → 0 and at σ → ∞. In between F_r is larger: scan x = ηKσ.",
        ),
        Mistake(
            "at x = 1",
            float(excess_over_damping(1.0)),
            "That is the ratio at ηKσ = 1. It grows a little further on.",
        ),
        Mistake(
            "upside down",
            1 / largest_excess(),
            "Upside down: this is the damped inverse over F_r.",
        ),
        Mistake(
            "excess alone",
            largest_excess() - 1,
            "That is the excess over 1. The ratio itself is asked.",
        ),
        Mistake(
            "percent",
            100 * (largest_excess() - 1),
            "Right, in percent above 1. The ratio itself is asked.",
        ),
        Mistake(
            "difference",
            float((-np.expm1(-_x) / _x - 1 / (1 + _x)).max()),
            "That is the largest difference of the two, in units of ηK. The ratio is asked.",
        ),
        Mistake(
            "excess alone, rounded", 0.298, "That is the excess over 1. The ratio itself is asked."
        ),
        Mistake("percent, rounded", 29.8, "Right, in percent above 1. The ratio itself is asked."),
        Mistake("rounded", 1.3, "Nearly: give three digits after the point."),
    ],
    hints=[
        "Divide one by the other and write x for ηKσ: one variable is left.",
        "(1 − e^(−x))(1 + x)/x on a fine grid of x from 0 to 20.",
    ],
)

# --- (g) SOURCE ----------------------------------------------------------------------------------


def _segments(rng: np.random.Generator) -> tuple:
    """Three or four segments; symmetric curvatures with a negative and, in two, a zero one."""
    many, p, n = int(rng.integers(3, 5)), int(rng.integers(5, 7)), int(rng.integers(7, 11))
    flat = rng.choice(many, 2, replace=False)
    hessians = []
    for part in range(many):
        values = np.append(rng.uniform(0.3, 2.0, p - 1), -rng.uniform(0.1, 0.4))
        if part in flat:
            values[0] = 0.0
        basis = np.linalg.qr(rng.standard_normal((p, p)))[0]
        h = basis * values @ basis.T
        hessians.append((h + h.T) / 2)
    slopes = rng.standard_normal((many, n, p)) + 0.5 * rng.standard_normal((many, 1, p))
    efforts = torch.from_numpy(rng.uniform(0.4, 1.6, many))
    return torch.from_numpy(np.array(hessians)), torch.from_numpy(slopes), efforts, normal(rng, p)


def _flow(hessians, gradients, efforts, q):
    """ṙ_i = −H̄ r_i − ḡ_i/n through all segments: a homogeneous system once the pushes are carried
    along as constants, so that one matrix exponential does a segment. No filter, no eigenvalue."""
    _, n, p = gradients.shape
    state = np.concatenate([np.zeros((p, n)), np.eye(n)])
    for h, g, effort in zip(hessians.numpy(), gradients.numpy(), efforts.tolist(), strict=True):
        rule = np.zeros((p + n, p + n))
        rule[:p, :p], rule[:p, p:] = -h, -g.T / n
        state = scipy.linalg.expm(effort * rule) @ state
    return q.numpy() @ state[:p]


def _matrices(hessians, efforts):
    """F_S and F_r of every segment, as matrices."""
    left, answer = [], []
    for h, effort in zip(hessians.numpy(), efforts.tolist(), strict=True):
        values, vectors = np.linalg.eigh(h)
        values = np.where(abs(values) < 1e-13, 1e-13, values)
        left.append(vectors * np.exp(-effort * values) @ vectors.T)
        answer.append(vectors * _response(values, effort) @ vectors.T)
    return left, answer


def _summed(push):
    """A mistake's influence −Σ_ℓ pushᵀ F_r(H̄_ℓ) ḡ_ℓ/n, from push(left, ℓ, q)."""

    def wrong(hessians, gradients, efforts, q):
        left, answer = _matrices(hessians, efforts)
        n = gradients.shape[1]
        return -sum(
            g @ answer[k] @ push(left, k, q.numpy()) / n for k, g in enumerate(gradients.numpy())
        )

    return wrong


def _through(order):
    """push of `_summed`: q multiplied by the F_S of the segments in order(ℓ, L), in turn."""

    def push(left, k, q):
        for other in order(k, len(left)):
            q = left[other] @ q
        return q

    return push


_right = _through(lambda k, many: range(many - 1, k, -1))


def _averaged(weights):
    """All segments as one, averaged with the given weights."""

    def wrong(hessians, gradients, efforts, q):
        share = weights(efforts) / weights(efforts).sum()
        one = [torch.tensordot(share, t, 1)[None] for t in (hessians, gradients)]
        return _flow(*one, efforts.sum()[None], q)

    return wrong


def _other_filter(matrix):
    """F_r replaced by matrix(h, effort)."""

    def wrong(hessians, gradients, efforts, q):
        left, _ = _matrices(hessians, efforts)
        n, many = gradients.shape[1], len(efforts)
        return -sum(
            gradients[k].numpy()
            @ matrix(hessians[k].numpy(), efforts[k].item())
            @ _right(left, k, q.numpy())
            / n
            for k in range(many)
        )

    return wrong


def _entrywise(hessians, gradients, efforts, q):
    """The exponential of a matrix taken entry by entry."""
    left = [np.exp(-e * h) for h, e in zip(hessians.numpy(), efforts.tolist(), strict=True)]
    _, answer = _matrices(hessians, efforts)
    n = gradients.shape[1]
    return -sum(
        g @ answer[k] @ _right(left, k, q.numpy()) / n for k, g in enumerate(gradients.numpy())
    )


def _exponents_added(hessians, gradients, efforts, q):
    """One exponential of the sum in place of the product of the F_S."""
    _, answer = _matrices(hessians, efforts)
    n, found = gradients.shape[1], 0
    for k, g in enumerate(gradients.numpy()):
        rest = torch.tensordot(efforts[k + 1 :], hessians[k + 1 :], 1).numpy()
        found = found - g @ answer[k] @ scipy.linalg.expm(-rest) @ q.numpy() / n
    return found


def _response_last(hessians, gradients, efforts, q):
    """F_r to the left of the F_S."""
    left, answer = _matrices(hessians, efforts)
    n, found = gradients.shape[1], 0
    for k, g in enumerate(gradients.numpy()):
        carried = answer[k] @ q.numpy()
        found = found - g @ _right(left, k, carried) / n
    return found


def _growing(hessians, gradients, efforts, q):
    """F_S with the other sign in its exponent."""
    left, _ = _matrices(-hessians, efforts)
    _, answer = _matrices(hessians, efforts)
    n = gradients.shape[1]
    return -sum(
        g @ answer[k] @ _right(left, k, q.numpy()) / n for k, g in enumerate(gradients.numpy())
    )


def _without_flat(h, effort):
    values, vectors = np.linalg.eigh(h)
    flat = abs(values) < 1e-10
    answer = np.where(flat, 0, _response(np.where(flat, 1, values), effort))
    return vectors * answer @ vectors.T


part_g = Function(
    "source_replay.part_g",
    "SOURCE, in this book's sign",
    truth=_flow,
    cases=_segments,
    n=lambda args: args[1].shape[1],
    mistakes=[
        Mistake(
            "paper's sign",
            lambda *case: -_flow(*case),
            "Sign flipped: this is the paper's score, the effect of taking weight away. ∂φ/∂β has "
            "a minus.",
        ),
        Mistake(
            "no 1/n",
            lambda h, g, e, q: g.shape[1] * _flow(h, g, e, q),
            "Too large by n: an example is one of n in the mean loss, so its push is ḡ/n.",
        ),
        Mistake(
            "paper's sign, no 1/n",
            lambda h, g, e, q: -g.shape[1] * _flow(h, g, e, q),
            "The paper's sign, and too large by n: the push is −ḡ/n for weight that is added.",
        ),
        Mistake(
            "order of training reversed",
            lambda h, g, e, q: _flow(h.flip(0), g.flip(0), e.flip(0), q),
            "The segments are taken in reverse: what happened in segment ℓ goes through the later "
            "ones.",
        ),
        Mistake(
            "through earlier segments",
            _summed(_through(lambda k, many: range(k - 1, -1, -1))),
            "Segment ℓ's push goes through the segments before it here. It must go through those "
            "after.",
        ),
        Mistake(
            "own segment too",
            _summed(_through(lambda k, many: range(many - 1, k - 1, -1))),
            "The push of segment ℓ goes through its own F_S too. F_r knows the rest of its "
            "segment: ℓ' > ℓ only.",
        ),
        Mistake(
            "no propagation",
            _summed(lambda left, k, q: q),
            "Each segment's answer is taken as if training ended with it: the later F_S are "
            "missing.",
        ),
        Mistake(
            "product's order",
            _summed(_through(lambda k, many: range(k + 1, many))),
            "The F_S do not commute: q meets the last segment first, qᵀF_L … F_(ℓ+1).",
        ),
        Mistake(
            "next segment only",
            _summed(_through(lambda k, many: range(k + 1, min(k + 2, many)))),
            "Only the next segment's F_S is there. Keep multiplying: all later ones.",
        ),
        Mistake(
            "last segment only",
            lambda h, g, e, q: _flow(h[-1:], g[-1:], e[-1:], q),
            "This is the last segment alone. Add the earlier ones, carried through the later.",
        ),
        Mistake(
            "averaged",
            _averaged(torch.ones_like),
            "All segments are averaged into one. Their curvatures differ, and early pushes fade.",
        ),
        Mistake(
            "averaged by effort",
            _averaged(lambda efforts: efforts),
            "All segments are averaged into one, by effort. Their curvatures differ, and early "
            "pushes fade.",
        ),
        Mistake(
            "F_S for F_r",
            _other_filter(lambda h, effort: scipy.linalg.expm(-effort * h)),
            "Within its own segment a push acts by F_r, the sum over steps, not by F_S.",
        ),
        Mistake(
            "summed pushes",
            _other_filter(lambda h, effort: effort * np.eye(len(h))),
            "Within its own segment a push is taken to stay whole. It decays as well: F_r, not ηK.",
        ),
        Mistake(
            "flat directions lost",
            _other_filter(_without_flat),
            "Nothing moves along flat directions here. H̄ is singular, and F_r(0) is the effort, "
            "not 0.",
        ),
        Mistake(
            "no effort in F_r",
            _other_filter(
                lambda h, effort: _matrices(torch.from_numpy(h)[None], torch.ones(1))[1][0]
            ),
            "F_r misses its effort: it is (1 − e^(−effort·σ))/σ, with this segment's effort.",
        ),
        Mistake(
            "entry by entry",
            _entrywise,
            "The exponential is taken of every entry. A matrix has one through its eigenvalues.",
        ),
        Mistake(
            "exponents added",
            _exponents_added,
            "The product of the F_S is no exponential of a sum: the H̄ do not commute.",
        ),
        Mistake(
            "F_r on the left",
            _response_last,
            "F_r(H̄_ℓ) acts on ḡ first, then the later F_S: it stands on the right of the product.",
        ),
        Mistake(
            "growing",
            _growing,
            "F_S has the wrong sign in its exponent: a displacement shrinks along a positive σ.",
        ),
        Mistake(
            "divided by n again",
            lambda h, g, e, q: _flow(h / h.new_tensor(g.shape[1]), g, e, q),
            "The Hessians are divided by n here. They are means already: the bar.",
        ),
        Mistake(
            "damped inverse",
            _other_filter(lambda h, effort: np.linalg.inv(h + np.eye(len(h)) / effort)),
            "The damped inverse of part (e) stands for F_r: it is near it, and not it.",
        ),
    ],
    hints=[
        "Go from the last segment to the first, and carry q along.",
        "In each: add −ḡ F_r(H̄) q/n, then q ← F_S(H̄) q. Filters act in the eigenbasis.",
        "values, V = torch.linalg.eigh(H̄); F_r(H̄) q = V @ (f(values) * (V.T @ q)), part (d) as f.",
    ],
)

# --- (h) REPLAY ----------------------------------------------------------------------------------


class _State:
    """A state that cannot be looked into or copied, so that it counts as long as it is alive."""

    def __init__(self, run, w):
        self._run, self._w = run, w
        run.alive += 1
        run.most_alive = max(run.most_alive, run.alive)

    def __del__(self):
        self._run.alive -= 1

    def __reduce_ex__(self, protocol):
        raise TypeError("a state cannot be copied; run to it again")

    def __repr__(self):
        return "<a state>"


@dataclass(frozen=True, eq=False)
class _Training:
    """SGD with one example a step on L_i = log cosh x_i·w − y_i x_i·w; φ curved, along q."""

    x: np.ndarray
    y: np.ndarray
    w0: np.ndarray
    q: np.ndarray
    rates: np.ndarray
    order: np.ndarray


class Run:
    """One run: s0, step, end and pull for REPLAY. Counts steps, and the states that are alive."""

    def __init__(self, training: _Training):
        self._training = training
        self.forward_steps = self.alive = self.most_alive = 0
        self.s0 = _State(self, training.w0)

    def step(self, t: int, state):
        """s_{t+1} from s_t."""
        i, w = self._at(t, state)
        a = self._training
        self.forward_steps += 1
        return _State(self, w - a.rates[t] * (np.tanh(a.x[i] @ w) - a.y[i]) * a.x[i])

    def end(self, state):
        """∂φ/∂s at a state: A_T at s_T."""
        self._at(0, state)
        along = self._training.q @ state._w
        return torch.from_numpy((np.cos(along) + along) * self._training.q)

    def pull(self, t: int, state, adjoint):
        """A_t and what step t adds to the influence, from s_t and A_{t+1}."""
        i, w = self._at(t, state)
        a, adjoint = self._training, np.asarray(adjoint)
        f = np.tanh(a.x[i] @ w)
        along = adjoint @ a.x[i]
        gain = np.zeros(len(a.x))
        gain[i] = -a.rates[t] * (f - a.y[i]) * along
        pulled = adjoint - a.rates[t] * (1 - f**2) * along * a.x[i]
        return torch.from_numpy(pulled), torch.from_numpy(gain)

    def _at(self, t, state):
        last = len(self._training.rates) - 1
        if not isinstance(state, _State):
            raise ValueError(f"state: expected one of the run's states, got {state!r:.40}")
        if not isinstance(t, int | np.integer) or not 0 <= t <= last:
            raise ValueError(f"t: expected a step from 0 to {last}, got {t!r:.40}")
        return self._training.order[t], state._w


def _training(rng: np.random.Generator, steps: int) -> _Training:
    n, p = int(rng.integers(5, 9)), int(rng.integers(2, 5))
    x = stretched(rng, n, p).numpy()
    order = np.concatenate([np.arange(n), rng.integers(0, n, steps - n)])
    return _Training(
        x / np.linalg.norm(x, axis=1).mean(),
        rng.uniform(-0.8, 0.8, n),
        rng.standard_normal(p),
        rng.standard_normal(p),
        rng.uniform(0.1, 0.4, steps),
        rng.permutation(order),
    )


def counted(answer, T: int) -> tuple[int, int]:
    """Forward steps, and most states alive at once, that a REPLAY takes on a run of T steps."""
    run = Run(_training(np.random.default_rng(0), T))
    answer(run, T)
    return run.forward_steps, run.most_alive


IN_HAND = 3
"""States that a walk may hold besides those it keeps: the one at hand, the next, and s_T."""


@dataclass(frozen=True, eq=False)
class _Replay(Function):
    """A function of (run, T) whose forward steps and live states are counted while it works.

    A case holds what a run is made from: each call gets a run of its own.
    """

    def _ask(self, answer, case, truth):
        training, steps = case
        run = Run(training)
        value = super()._ask(answer, (run, steps), truth)
        if isinstance(value, Result):
            return value
        if not np.allclose(value.array, truth, rtol=0, atol=1e-5 * np.abs(truth).max()):
            return value
        cost = self._cost(run, steps)
        return value if cost is None else cost

    def _cost(self, run: Run, steps: int) -> Result | None:
        """What to say of a right answer that cost too much."""
        levels = depth(steps, 2)
        states = most_states(steps, 2) + IN_HAND

        def wrong(name, says):
            return Result(WRONG, says, diagnosis=name)

        if run.most_alive >= steps:
            return wrong(
                "stores all states",
                f"Right, but {run.most_alive} states were alive at once: all of them. Keep the one "
                "half-way, and run to the others again.",
            )
        if run.most_alive > states:
            return wrong(
                "stores too many states",
                f"Right, but {run.most_alive} states were alive at once. With T = {steps}, "
                f"1 + {levels} kept and {IN_HAND} in hand must do.",
            )
        if run.forward_steps >= steps * (steps - 1) // 2:
            return wrong(
                "replays from the start",
                f"Right, but {run.forward_steps} forward steps, about T²/2: every state was "
                "reached from s_0. Start from one half-way.",
            )
        if run.forward_steps > most_steps(steps, 2):
            return wrong(
                "takes too many steps",
                f"Right, but {run.forward_steps} forward steps. With T = {steps}, T⌈log₂T⌉ = "
                f"{most_steps(steps, 2)} must do.",
            )
        return None


def _trained_with_imaginary_weights(run, T):
    """∂φ(w_T(β))/∂β by the imaginary part at β_i = 1 + ih, all i at once: nothing goes back."""
    h = 1e-30
    beta = 1 + 1j * h * np.eye(len(run.x))
    w = np.tile(run.w0.astype(complex), (len(run.x), 1))
    for t in range(T):
        i = run.order[t]
        push = run.rates[t] * beta[:, i] * (np.tanh(w @ run.x[i]) - run.y[i])
        w = w - push[:, None] * run.x[i]
    along = w @ run.q
    return (np.sin(along) + along**2 / 2).imag / h


def _walked(visits=None, end=lambda states: states[-1], total=lambda gains: sum(gains)):
    """A mistake of the walk back: visits(states, T) gives the (t, s) to pull at, in turn."""
    visits = visits or (lambda states, T: ((t, states[t]) for t in reversed(range(T))))

    def wrong(training, T):
        run = Run(training)
        states = [run.s0]
        for t in range(T):
            states.append(run.step(t, states[-1]))
        adjoint, gains = run.end(end(states)), []
        for t, state in visits(states, T):
            adjoint, gain = run.pull(t, state, adjoint)
            gains.append(gain)
        return total(gains)

    return wrong


def _without_jacobians(training, T):
    run = Run(training)
    state, states = run.s0, []
    for t in range(T):
        states.append(state)
        state = run.step(t, state)
    adjoint = run.end(state)
    return sum(run.pull(t, s, adjoint)[1] for t, s in enumerate(states))


def _each_step_the_last(training, T):
    run = Run(training)
    state, total = run.s0, 0
    for t in range(T):
        after = run.step(t, state)
        total = total + run.pull(t, state, run.end(after))[1]
        state = after
    return total


part_h = _Replay(
    "source_replay.part_h",
    "∂φ(s_T)/∂β from few states and few forward steps",
    truth=_trained_with_imaginary_weights,
    cases=lambda rng: (_training(rng, steps := int(rng.integers(33, 65))), steps),
    draws=3,
    n=lambda args: len(args[0].x),
    mistakes=[
        Mistake(
            "first to last",
            _walked(lambda states, T: ((t, states[t]) for t in range(T))),
            "The steps are pulled through first to last. The adjoint goes back: T − 1 first, 0 "
            "last.",
        ),
        Mistake(
            "halves in the wrong order",
            _walked(
                lambda states, T: (
                    (t, states[t])
                    for t in [*reversed(range((T + 1) // 2)), *reversed(range((T + 1) // 2, T))]
                )
            ),
            "The first half is pulled through before the second. Later steps come first.",
        ),
        Mistake(
            "a state too late",
            _walked(lambda states, T: ((t, states[t + 1]) for t in reversed(range(T)))),
            "Step t is pulled through at s_(t+1). Its derivative is taken where it starts, at s_t.",
        ),
        Mistake(
            "a state too early",
            _walked(lambda states, T: ((t, states[max(t - 1, 0)]) for t in reversed(range(T)))),
            "Step t is pulled through at the state before s_t: one forward step too few.",
        ),
        Mistake(
            "always s_0",
            _walked(lambda states, T: ((t, states[0]) for t in reversed(range(T)))),
            "Every step is pulled through at s_0. Step t needs s_t: run forward to it.",
        ),
        Mistake(
            "step 0 left out",
            _walked(lambda states, T: ((t, states[t]) for t in range(T - 1, 0, -1))),
            "Step 0, from s_0, is left out: T steps, T pulls.",
        ),
        Mistake(
            "last step left out",
            _walked(lambda states, T: ((t, states[t]) for t in reversed(range(T - 1)))),
            "The last step, t = T − 1, is left out. A_T is the adjoint after it.",
        ),
        Mistake(
            "last gain only",
            _walked(total=lambda gains: gains[-1]),
            "This is what step 0 adds. Add up what all the steps do.",
        ),
        Mistake(
            "adjoint not moved",
            _without_jacobians,
            "The adjoint stays A_T. Each pull gives the one for the step before: pass it on.",
        ),
        Mistake(
            "end at s_0",
            _walked(end=lambda states: states[0]),
            "A_T is taken at s_0. It is ∂φ/∂s at the last state, s_T.",
        ),
        Mistake(
            "end too early",
            _walked(end=lambda states: states[-2]),
            "A_T is taken at s_(T−1), one step early.",
        ),
        Mistake(
            "sign",
            _walked(total=lambda gains: -sum(gains)),
            "Sign flipped: the gains have the book's sign already.",
        ),
        Mistake(
            "mean",
            _walked(total=lambda gains: sum(gains) / len(gains)),
            "The gains are averaged. The influence is their sum.",
        ),
        Mistake(
            "always s_T",
            _walked(lambda states, T: ((t, states[T]) for t in reversed(range(T)))),
            "Every step is pulled through at s_T. Step t needs s_t: run forward to it.",
        ),
        Mistake(
            "a new end each step",
            _each_step_the_last,
            "A_T is taken anew at every state. It is taken once, at s_T, and then pulled back.",
        ),
    ],
    hints=[
        "To go back through [first, last) from s_first: run to the middle, go back through the "
        "second half, then the first.",
        "A recursive back(first, last, state): with one step left, pull; else step to "
        "middle = (first + last + 1)//2.",
        "back(middle, last, s_middle), then back(first, middle, state). Before: run to s_T for "
        "A_T, keeping nothing.",
    ],
)

# --- (i), (j) what it costs ----------------------------------------------------------------------


@cache
def _walk(steps: int, k: int) -> tuple[int, int]:
    """The walk itself, with the number t for the state s_t."""
    shelf = Shelf()
    shelf.put(0, 0, steps)
    for t, state in backwards(steps, k, lambda t, state: state + 1, shelf):
        assert t == state
    return shelf.forward_steps, shelf.most_in_memory


def _nodes(steps, k, whole=False, first=True, width=lambda length, k: -(-length // k), leaf=1):
    """Forward steps by node, the root to its end; whole: every node to its end."""
    if steps == 1:
        return leaf if first or whole else 0
    size = max(1, width(steps, k))
    starts = range(0, steps, size)
    taken = steps if first or whole else starts[-1]
    if size > 1:
        for start in starts:
            taken += _nodes(min(size, steps - start), k, whole, False, width, leaf)
    return taken


def _held(steps, k, width=lambda length, k: -(-length // k), more=lambda many: many - 1):
    """Most states held in a node besides its own first one: any child may be the deepest."""
    size = max(1, width(steps, k))
    starts = range(0, steps, size)
    if size == 1:
        return more(len(starts))
    return max(
        more(len(starts)) - (len(starts) - 1 - at) + _held(min(size, steps - start), k, width, more)
        for at, start in enumerate(starts)
    )


def _held_twice(steps, k):
    """Most states held if every node but the root lays down its own first state anew."""
    size = -(-steps // k)
    starts = range(0, steps, size)
    own = 1
    if size == 1:
        return own + len(starts) - 1
    return own + max(
        at + _held_twice(min(size, steps - start), k) if min(size, steps - start) > 1 else at
        for at, start in enumerate(starts)
    )


def _floor(length, k):
    return length // k


def _cost_case(rng: np.random.Generator) -> tuple:
    k = int(rng.integers(2, 8))
    return int(rng.integers(max(30, k * k + 2), 400)), k


part_i = Function(
    "source_replay.part_i",
    "REPLAY's forward steps, and the most states it holds",
    truth=lambda T, k: _walk(T, k),
    cases=_cost_case,
    draws=8,
    n=lambda args: args[0],
    mistakes=[
        Mistake(
            "the bounds",
            lambda T, k: (most_steps(T, k), most_states(T, k)),
            "These are the bounds. Count what is really done: the last child needs no run of its "
            "own length.",
        ),
        Mistake(
            "first run left out",
            lambda T, k: (_walk(T, k)[0] - T + _root(T, k)[-1], _walk(T, k)[1]),
            "The root is run to its last child only. The first run goes on to s_T, where φ is "
            "read.",
        ),
        Mistake(
            "first run twice",
            lambda T, k: (_walk(T, k)[0] + _root(T, k)[-1], _walk(T, k)[1]),
            "The root is run twice. The run to s_T lays down its children's states on the way.",
        ),
        Mistake(
            "every node to its end",
            lambda T, k: (_nodes(T, k, whole=True), _walk(T, k)[1]),
            "Every node is run to its end. Only the first run is; the others stop at the last "
            "child's first state.",
        ),
        Mistake(
            "s_0 not counted",
            lambda T, k: (_walk(T, k)[0], _walk(T, k)[1] - 1),
            "One state too few. Is s_0 counted? It is on the shelf to the very end.",
        ),
        Mistake(
            "s_T counted",
            lambda T, k: (_walk(T, k)[0], _walk(T, k)[1] + 1),
            "One state too many: a child's first state is its parent's, and s_T is not kept.",
        ),
        Mistake(
            "all k children a level",
            lambda T, k: (_walk(T, k)[0], 1 + _held(T, k, more=lambda many: many)),
            "One state too many a level: a first child shares its first state with its parent.",
        ),
        Mistake(
            "all that are kept",
            lambda T, k: (_walk(T, k)[0], T),
            "That is how many states are ever kept. How many at the same time?",
        ),
        Mistake(
            "the root's states",
            lambda T, k: (_walk(T, k)[0], len(_root(T, k))),
            "These are the root's states alone. The levels below keep their own while it waits.",
        ),
        Mistake(
            "rounded down",
            lambda T, k: (_nodes(T, k, width=_floor), 1 + _held(T, k, _floor)),
            "Children have ⌈length/k⌉ steps, rounded up: rounded down there may be more than k.",
        ),
        Mistake(
            "pulls counted",
            lambda T, k: (_walk(T, k)[0] + T, _walk(T, k)[1]),
            "T too many: going back through a step is a pull, no forward step.",
        ),
        Mistake(
            "swapped",
            lambda T, k: _walk(T, k)[::-1],
            "The right two numbers in the wrong order: forward steps first, states second.",
        ),
        Mistake(
            "every state kept",
            lambda T, k: (T, T),
            "That is without REPLAY: one run, all states kept.",
        ),
        Mistake(
            "from the start each time",
            lambda T, k: (T * (T - 1) // 2 + T, 1),
            "That is running from s_0 to every state. The tree keeps some to start from.",
        ),
        Mistake(
            "every longer node to its end",
            lambda T, k: (_nodes(T, k, whole=True, leaf=0), _walk(T, k)[1]),
            "Every node is run to its end. Only the first run is; the others stop at the last "
            "child's first state.",
        ),
        Mistake(
            "first states twice",
            lambda T, k: (_walk(T, k)[0], _held_twice(T, k)),
            "A child's first state lies on the shelf already: a node does not keep it again.",
        ),
        Mistake(
            "first run apart",
            lambda T, k: (_walk(T, k)[0] - T, _walk(T, k)[1]),
            "T too few: the first run, all the way from s_0 to s_T, takes steps as well.",
        ),
    ],
    hints=[
        "A node of m steps has children that start at 0, c, 2c, …, with c = ⌈m/k⌉. How far is it "
        "run forward?",
        "To its last child's start, and the root to T. In child j, the starts 0 … j are held, and "
        "what is kept inside it.",
        "steps(m) = last start + Σ steps(child); held(m) = max over j of j + held(child j); states "
        "are 1 + held(T).",
    ],
)


def _root(T, k):
    return range(0, T, -(-T // k))


LONG = 10_000


@cache
def _fewer() -> str:
    (steps_2, states_2), (steps_100, states_100) = (_walk(LONG, k) for k in (2, 100))
    return f"{2 if states_2 < states_100 else 100} and {2 if steps_2 < steps_100 else 100}"


part_j = Choice(
    "source_replay.part_j",
    "which k holds fewer states, and which takes fewer forward steps, at T = 10 000",
    truth=_fewer,
    wrong={
        "2 and 2": "Two children need fewer states, but a tree ⌈log₂ 10⁴⌉ = 14 deep: nearly every "
        "level runs half of T again.",
        "100 and 100": "Fewer steps, true: the tree is 2 deep. But each level keeps up to 99 "
        "states besides the first.",
        "100 and 2": "The other way round: states grow as (k − 1) log_k T, steps as T log_k T.",
    },
    hints=[
        "The tree is ⌈log_k T⌉ deep: 14 levels or 2. What does a level cost in steps, what in "
        "states?",
        "Or ask your part (i).",
    ],
)
