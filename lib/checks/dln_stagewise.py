"""Exercise 04_dln_stagewise: how an example acts on a deep linear network, while it is trained."""

from dataclasses import dataclass
from functools import cache

import numpy as np
import scipy.optimize
import sympy as sp
import torch

from lib import dln
from lib.checks.engine import Choice, Formula, Function, Mistake, Number
from lib.random_problems import normal

# --- (a) to (c) one mode -------------------------------------------------------------------------

_g, _s, _t, _tau, _g0 = sp.symbols("g s t tau g0")
_strength = _s * sp.exp(2 * _s * _t / _tau) / (sp.exp(2 * _s * _t / _tau) - 1 + _s / _g0)

part_a = Formula(
    "dln_stagewise.part_a",
    "d𝒢/dt of a mode, in g = 𝒢, s and τ",
    # The equation does not know the time: its right-hand side is the first slope of a solution.
    truth=sp.diff(_strength, _t).subs(_t, 0).subs(_g0, _g),
    domain={"g": (0.1, 3), "s": (0.5, 4), "tau": (0.5, 2)},
    mistakes=[
        Mistake(
            "one layer moves",
            _g * (_s - _g) / _tau,
            "Half of it: 𝒢 = ab changes through both layers, ȧb + aḃ.",
        ),
        Mistake(
            "the layer's",
            sp.sqrt(_g) * (_s - _g) / _tau,
            "This is ȧ, the layer's. With 𝒢 = a² the strength moves by 2aȧ.",
        ),
        Mistake(
            "chain rule without a",
            2 * sp.sqrt(_g) * (_s - _g) / _tau,
            "𝒢 = a² has the derivative 2aȧ, and ȧ has another a = √𝒢 in it.",
        ),
        Mistake(
            "one layer in all",
            (_s - _g) / _tau,
            "This is a network with one layer. With two, each one's slope has the other as a "
            "factor.",
        ),
        Mistake(
            "one layer, twice",
            2 * (_s - _g) / _tau,
            "Each layer's slope has the other layer as a factor: a·a = 𝒢 is missing.",
        ),
        Mistake(
            "sign",
            2 * _g * (_g - _s) / _tau,
            "Sign flipped: descent moves 𝒢 towards s.",
        ),
        Mistake("no τ", 2 * _g * (_s - _g), "τ is missing: it slows the clock."),
        Mistake(
            "τ above",
            2 * _tau * _g * (_s - _g),
            "τ slows the clock: it belongs below.",
        ),
        Mistake(
            "early growth",
            2 * _g * _s / _tau,
            "This is the growth at first, while 𝒢 is small. It stops at s: s − 𝒢.",
        ),
        Mistake(
            "share of s",
            2 * _g * (1 - _g / _s) / _tau,
            "Too small by s: the residual is s − 𝒢, not 1 − 𝒢/s.",
        ),
    ],
    hints=[
        "With 𝒢 = ab: 𝒢̇ = ȧb + aḃ.",
        "τȧ = b(s − ab) and τḃ = a(s − ab), with a = b.",
        "Both terms are 𝒢(s − 𝒢)/τ.",
    ],
)

_late = _tau / (2 * _s) * (sp.log(_s - _g0) - sp.log(_g0))
_MODE = {"s": (1, 4), "g0": (0.05, 0.45), "tau": (0.5, 2)}

part_b = Formula(
    "dln_stagewise.part_b",
    "the time t* at which 𝒢 = s/2",
    truth=_late,
    domain=_MODE,
    mistakes=[
        Mistake(
            "start neglected",
            _tau / (2 * _s) * sp.log(_s / _g0),
            "Right for 𝒢(0) ≪ s, not exactly: s/𝒢(0) − 1 is in the logarithm.",
        ),
        Mistake(
            "no 2",
            _tau / _s * sp.log(_s / _g0 - 1),
            "Twice as long: the exponent is 2st/τ.",
        ),
        Mistake(
            "no s below",
            _tau / 2 * sp.log(_s / _g0 - 1),
            "The exponent is 2st/τ: strong modes are early, divide by s.",
        ),
        Mistake(
            "no τ",
            sp.log(_s / _g0 - 1) / (2 * _s),
            "τ is missing: it slows the clock.",
        ),
        Mistake(
            "upside down",
            _tau / (2 * _s) * sp.log(_g0 / (_s - _g0)),
            "Sign flipped, a time before the start: what is in the logarithm is upside down.",
        ),
        Mistake(
            "half of 1",
            _tau / (2 * _s) * sp.log((_s / _g0 - 1) / (2 * _s - 1)),
            "Here 𝒢 = 1/2. Half of its end s is asked.",
        ),
        Mistake(
            "plus",
            _tau / (2 * _s) * sp.log(_s / _g0 + 1),
            "Its sign: half of e + c = 2e with c = s/𝒢(0) − 1, so e = c.",
        ),
        Mistake(
            "logarithm alone",
            sp.log(_s / _g0 - 1),
            "This is 2st/τ at that time. Solve for t.",
        ),
        Mistake(
            "growth without end",
            _tau / (2 * _s) * sp.log(_s / (2 * _g0)),
            "Here 𝒢 grows exponentially up to s/2. It has slowed down by then: use the solution.",
        ),
    ],
    hints=[
        "Put 𝒢 = s/2 into the solution and divide by s.",
        "e^(2st/τ) = s/𝒢(0) − 1.",
    ],
)

_decay = sp.exp(-2 * _s * _t / _tau)
_sensitivity = -(_strength**2) * (
    -1 / _s**2 + _decay / _s**2 - 2 * _t / _tau * (1 / _g0 - 1 / _s) * _decay
)

part_c = Formula(
    "dln_stagewise.part_c",
    "g′ = ∂𝒢/∂s at fixed t and 𝒢(0)",
    # Through 1/𝒢 = 1/s + (1/𝒢(0) − 1/s) e^(−2st/τ).
    truth=_sensitivity,
    domain={**_MODE, "t": (0.1, 2)},
    mistakes=[
        Mistake(
            "in time",
            sp.diff(_strength, _t),
            "This is the derivative in t. The one in s is asked.",
        ),
        Mistake(
            "exponent held",
            _strength**2 * (1 - _decay) / _s**2,
            "The s in the exponent is held fixed here. A stronger mode is also faster.",
        ),
        Mistake(
            "exponent only",
            _strength**2 * 2 * _t / _tau * (1 / _g0 - 1 / _s) * _decay,
            "Only the exponent's s is differentiated. s stands in two other places.",
        ),
        Mistake(
            "numerator only",
            sp.diff(_s * sp.exp(2 * _s * _t / _tau), _s) * _strength / (_s / _decay),
            "Only the numerator is differentiated. s stands in the denominator too, twice.",
        ),
        Mistake(
            "start moves along",
            sp.diff(_strength.subs(_g0, _s * sp.Symbol("c")), _s).subs(sp.Symbol("c"), _g0 / _s),
            "Here 𝒢(0)/s is held fixed. The start does not know s: hold 𝒢(0).",
        ),
        Mistake(
            "whole over s",
            _strength / _s,
            "𝒢/s would be right if 𝒢 were proportional to s. Its time to be learned depends on s "
            "too.",
        ),
        Mistake(
            "in the end",
            sp.Integer(1),
            "1 is the limit after training. During it g′ depends on t.",
        ),
        Mistake(
            "second factor only",
            -_sensitivity / _strength**2,
            "This is −∂(1/𝒢)/∂s. ∂𝒢/∂s has a factor 𝒢² on it.",
        ),
        Mistake(
            "in the start",
            sp.diff(_strength, _g0),
            "This is the derivative in 𝒢(0). The one in s is asked.",
        ),
        Mistake(
            "τ = 1",
            _sensitivity.subs(_tau, 1),
            "This is for τ = 1. Keep tau: it stands in the exponent.",
        ),
        Mistake(
            "times the residual",
            _sensitivity * (_s - _strength),
            "This is g′ times the residual s − 𝒢. g′ alone is asked.",
        ),
        Mistake(
            "relative",
            _sensitivity / _strength,
            "This is the derivative of log 𝒢. That of 𝒢 is 𝒢 times it.",
        ),
        Mistake(
            "quotient rule",
            sp.diff(_s * sp.exp(2 * _s * _t / _tau), _s)
            / sp.diff(sp.exp(2 * _s * _t / _tau) + _s / _g0, _s),
            "Above and below are differentiated one by one. A quotient has its own rule.",
        ),
    ],
    hints=[
        "sympy does it: sp.diff, with 𝒢(t) of the statement written in s, t, tau and g0.",
        "Or by hand from 1/𝒢 = 1/s + (1/𝒢(0) − 1/s) e^(−2st/τ): ∂𝒢 = −𝒢² ∂(1/𝒢).",
    ],
)

# --- (d), (e) when -------------------------------------------------------------------------------


def _mode(s, t, g0, tau=1.0):
    """𝒢 from 1/𝒢, which relaxes to 1/s."""
    return 1 / (1 / s + (1 / g0 - 1 / s) * np.exp(-2 * s * t / tau))


def _slope(s, t, g0):
    """∂𝒢/∂s by an imaginary step."""
    return _mode(s + 1e-30j, t, g0).imag / 1e-30


part_d = Number(
    "dln_stagewise.part_d",
    "the limit of g′ as t → ∞",
    truth=lambda: float(_slope(3.0, 30.0, 1e-3)),
    rtol=1e-3,
    mistakes=[
        Mistake(
            "zero",
            0.0,
            "A learned mode has 𝒢 = s, so it moves with s. What fades is the residual s − 𝒢.",
        ),
        Mistake("half", 0.5, "At t* the mode is half learned. In the end 𝒢 = s: differentiate."),
        Mistake("two", 2.0, "The 2 is in the exponent, which is gone by then: 𝒢 = s."),
    ],
    hints=["What is 𝒢 in the end, as a function of s?", "𝒢 = s, and so ∂𝒢/∂s …"],
)


@cache
def _one_that_peaks() -> str:
    """The quantity that is below a hundredth of its maximum both at the start and in the end."""
    s, g0 = 3.0, 1e-3
    t = np.linspace(0, 6, 2001)
    g, slope = _mode(s, t, g0), _slope(s, t, g0)
    curves = {
        "strength": g,
        "slope": slope,
        "residual": s - g,
        "slope times residual": slope * (s - g),
    }
    (name,) = [
        name
        for name, curve in curves.items()
        if max(abs(curve[0]), abs(curve[-1])) < 0.01 * curve.max()
    ]
    return name


part_e = Choice(
    "dln_stagewise.part_e",
    "which quantity is peaked around t*, and near zero before and after",
    truth=_one_that_peaks,
    wrong={
        "slope": "g′ rises above 1 just after t*, and then settles at 1, as in part (d).",
        "strength": "𝒢 goes from about 0 to s and stays there.",
        "residual": "s − 𝒢 is s at first: nothing is learned yet.",
    },
    hints=[
        "Before t* the slope is about zero. After it, which factor is?",
        "g′ → 1 and s − 𝒢 → 0: look at their product.",
    ],
)

# --- (f) the rotations ---------------------------------------------------------------------------


def _values(rng: np.random.Generator, d: int) -> np.ndarray:
    """Singular values, largest first, at least 0.4 apart."""
    return (0.5 + np.cumsum(rng.uniform(0.4, 1.0, d)))[::-1].copy()


def _perturbed(rng: np.random.Generator) -> tuple:
    d = int(rng.integers(3, 5))
    return torch.from_numpy(_values(rng, d)), normal(rng, d, d)


def _by_svd(s, E):
    """Differences of the singular vectors, with U's diagonal kept positive."""
    h = 1e-3

    def factors(step):
        u, _, vt = np.linalg.svd(np.diag(s) + step * E.numpy())
        sign = np.sign(np.diag(u))
        return np.stack([u * sign, sign[:, None] * vt])

    return (8 * (factors(h) - factors(-h)) - (factors(2 * h) - factors(-2 * h))) / (12 * h)


def _skew(above_a, above_b, below=lambda sj, sk: sk**2 - sj**2):
    """A mistake's [A, B], from the numerators and the denominator at (s_j, s_k, E_jk, E_kj)."""

    def wrong(s, E):
        s, E = s.numpy(), E.numpy()
        sj, sk = s[:, None], s[None, :]
        gap = below(sj, sk) + np.eye(len(s))
        off = 1 - np.eye(len(s))
        return np.stack([off * above(sj, sk, E, E.T) / gap for above in (above_a, above_b)])

    return wrong


_rotations = _skew(
    lambda sj, sk, e, et: sk * e + sj * et, lambda sj, sk, e, et: -(sk * et + sj * e)
)
_of_draft = _skew(lambda sj, sk, e, et: e, lambda sj, sk, e, et: -et, below=lambda sj, sk: sk - sj)

part_f = Function(
    "dln_stagewise.part_f",
    "A and B, stacked",
    truth=_by_svd,
    cases=_perturbed,
    n=lambda args: len(args[0]),
    mistakes=[
        Mistake(
            "the draft's",
            _of_draft,
            "This is the draft's formula. It holds for symmetric E only; part (g) shows "
            "what goes wrong.",
        ),
        Mistake(
            "E made symmetric",
            lambda s, E: _rotations(s, (E + E.T) / 2),
            "E is taken for symmetric. Its skew part turns the two bases as well, and differently.",
        ),
        Mistake(
            "signs",
            lambda s, E: -_rotations(s, E),
            "Both signs are flipped: check the (j, k) entry of AS + SB against E_jk.",
        ),
        Mistake(
            "swapped",
            lambda s, E: _rotations(s, E)[::-1],
            "B comes first here. A, of the left basis, is wanted first.",
        ),
        Mistake(
            "V for its transpose",
            lambda s, E: _rotations(s, E) * np.array([1, -1])[:, None, None],
            "A is right; B has the other sign: Vᵀ = I + εB, so V = I − εB.",
        ),
        Mistake(
            "A's sign",
            lambda s, E: _rotations(s, E) * np.array([-1, 1])[:, None, None],
            "B is right; A has the other sign: U = I + εA.",
        ),
        Mistake(
            "transposed E",
            lambda s, E: _rotations(s, E.T),
            "E_jk and E_kj are exchanged, or s_j and s_k above: in A it is s_k that goes with "
            "E_jk.",
        ),
        Mistake(
            "gap not squared",
            _skew(
                lambda sj, sk, e, et: sk * e + sj * et,
                lambda sj, sk, e, et: -(sk * et + sj * e),
                below=lambda sj, sk: sk - sj,
            ),
            "Below is the gap of the squares, s_k² − s_j²: A comes from M Mᵀ.",
        ),
        Mistake(
            "minus above",
            _skew(lambda sj, sk, e, et: sk * e - sj * et, lambda sj, sk, e, et: sk * et - sj * e),
            "The numerators have a plus: eliminate B from A_jk s_k + s_j B_jk = E_jk and its "
            "mirror image.",
        ),
        Mistake(
            "one term",
            _skew(lambda sj, sk, e, et: sk * e, lambda sj, sk, e, et: -sj * e),
            "E_kj is missing. The (k, j) entry of the equation has the same two unknowns.",
        ),
        Mistake(
            "the bases themselves",
            lambda s, E: _rotations(s, E) + np.eye(len(s)),
            "These are I + A and I + B. The change alone is asked.",
        ),
        Mistake(
            "upper half",
            lambda s, E: np.triu(_rotations(s, E)),
            "Only the upper half is filled. A and B are skew.",
        ),
        Mistake(
            "mirrored",
            lambda s, E: np.triu(_rotations(s, E)) + np.triu(_rotations(s, E)).transpose(0, 2, 1),
            "The lower half mirrors the upper one. A rotation's derivative is skew: change the "
            "sign.",
        ),
        Mistake(
            "one basis",
            lambda s, E: np.stack([(a := _rotations(s, E)[0]), -a]),
            "B is −A here, as if V were U. For E that is not symmetric they turn differently.",
        ),
        Mistake(
            "eigenvectors",
            _skew(lambda sj, sk, e, et: e, lambda sj, sk, e, et: -e, below=lambda sj, sk: sk - sj),
            "These are eigenvectors, where U = V. A singular value decomposition has two bases.",
        ),
        Mistake(
            "E made skew",
            lambda s, E: _rotations(s, (E - E.T) / 2),
            "Only E's skew part is there. The symmetric part turns both bases together.",
        ),
    ],
    hints=[
        "Off the diagonal, (I + εA)S(I + εB) must be S + εE to first order; and A, B are skew.",
        "A_jk s_k + s_j B_jk = E_jk, and with j, k exchanged −A_jk s_j − s_k B_jk = E_kj. Solve.",
        "A_jk = (s_k E_jk + s_j E_kj)/(s_k² − s_j²), B_jk = −(s_k E_kj + s_j E_jk)/(s_k² − s_j²).",
    ],
)

# --- (g), (h) the fault --------------------------------------------------------------------------

_sj, _sk, _e_jk, _e_kj = sp.symbols("s_j s_k E_jk E_kj")


def _limit_in_the_draft() -> sp.Expr:
    """The entry (1, 2) of AS + SB for two modes, as matrices."""
    strengths, a = sp.diag(_sj, _sk), sp.zeros(2)
    a[0, 1], a[1, 0] = _e_jk / (_sk - _sj), _e_kj / (_sj - _sk)
    return (a * strengths + strengths * a.T)[0, 1]


part_g = Formula(
    "dln_stagewise.part_g",
    "the (j, k) entry of AG + G′ + GB as t → ∞, with the draft's A and B",
    truth=_limit_in_the_draft(),
    domain={"s_j": (0.5, 4), "s_k": (0.5, 4), "E_jk": (-2, 2), "E_kj": (-2, 2)},
    mistakes=[
        Mistake(
            "what it should be",
            _e_jk,
            "This is what it has to be, since W → S + εE. What do the draft's A and B make of it?",
        ),
        Mistake(
            "plus",
            (_sk * _e_jk + _sj * _e_kj) / (_sk - _sj),
            "One sign: B_jk is A_kj = E_kj/(s_j − s_k), with the gap turned round.",
        ),
        Mistake(
            "left only",
            _sk * _e_jk / (_sk - _sj),
            "This is AG alone. GB has an entry there too, s_j B_jk.",
        ),
        Mistake(
            "right only",
            -_sj * _e_kj / (_sk - _sj),
            "This is GB alone. AG has an entry there too, A_jk s_k.",
        ),
        Mistake(
            "B = A",
            (_sk + _sj) * _e_jk / (_sk - _sj),
            "B is taken for A. The draft has A_jk = B_kj, so B is the transpose of A.",
        ),
        Mistake(
            "sides exchanged",
            (_sj * _e_jk - _sk * _e_kj) / (_sk - _sj),
            "AG scales the columns of A, by s_k, and GB the rows of B, by s_j.",
        ),
        Mistake(
            "E exchanged",
            (_sk * _e_kj - _sj * _e_jk) / (_sk - _sj),
            "E_jk and E_kj are exchanged: A_jk has E_jk.",
        ),
        Mistake(
            "symmetric part",
            (_e_jk + _e_kj) / 2,
            "This would be E's symmetric part. Do the sum: the s do not cancel.",
        ),
        Mistake(
            "error alone",
            _sj * (_e_jk - _e_kj) / (_sk - _sj),
            "That is how far it is from E_jk. The whole entry is asked.",
        ),
        Mistake(
            "no strengths",
            (_e_jk - _e_kj) / (_sk - _sj),
            "This is A + B. Each is multiplied by G: AG + GB.",
        ),
    ],
    hints=[
        "As t → ∞ G is diag(s), and G′ is diagonal.",
        "(AG)_jk = A_jk s_k and (GB)_jk = s_j B_jk.",
        "B_jk = A_kj = E_kj/(s_j − s_k).",
    ],
)


@cache
def _where_the_draft_holds() -> str:
    """The widest of the classes of E for which the draft's late limit is E off the diagonal."""
    rng = np.random.default_rng(0)
    s, raw = _values(rng, 4), rng.standard_normal((4, 4))
    classes = {
        "every": raw,
        "rank one": np.outer(raw[0], raw[1]),
        "skew": raw - raw.T,
        "symmetric": raw + raw.T,
        "diagonal": np.diag(raw[0]),
    }
    for name, e in classes.items():
        a, b = _of_draft(torch.from_numpy(s), torch.from_numpy(e))
        off = ~np.eye(4, dtype=bool)
        if np.allclose((a * s + s[:, None] * b)[off], e[off]):
            return name
    return "none"


part_h = Choice(
    "dln_stagewise.part_h",
    "for which E the draft's limit is right",
    truth=_where_the_draft_holds,
    wrong={
        "every": "Put E_jk = 1 and E_kj = 0 into part (g): s_k/(s_k − s_j) is not 1.",
        "none": "Put E_kj = E_jk into part (g): the gap cancels.",
        "skew": "With E_kj = −E_jk it is (s_k + s_j)/(s_k − s_j) times what it should be.",
        "rank one": "y xᵀ has rank one, and y_j x_k differs from y_k x_j unless y ∥ x.",
        "diagonal": "Right for those, where nothing turns. But for others too: put E_kj = E_jk.",
    },
    hints=[
        "Set part (g) equal to E_jk.",
        "s_k E_jk − s_j E_kj = (s_k − s_j) E_jk leaves s_j (E_jk − E_kj) = 0.",
    ],
)

# --- (i) the whole response ----------------------------------------------------------------------


def _learned(rng: np.random.Generator, s: np.ndarray) -> tuple:
    """s, 𝒢 and g′ of every mode at a time when some are learned and some are not."""
    g0 = float(rng.uniform(0.01, 0.1))
    t = float(rng.uniform(0.8, 1.2) * np.log(s.mean() / g0 - 1) / (2 * s.mean()))
    return tuple(map(torch.from_numpy, (s, _mode(s, t, g0), _slope(s, t, g0))))


def _with_equal_ones(rng: np.random.Generator) -> tuple:
    d = int(rng.integers(3, 5))
    s = _values(rng, d)
    first = int(rng.integers(d - 1))
    s[first + 1] = s[first]
    return *_learned(rng, s), normal(rng, d, d)


def _exact_response(s, g, slope, E):
    """W(M) = M p(MᵀM), with the polynomial p for which a singular value s becomes 𝒢, with slope g′:
    the function is that of U𝒢(S)Vᵀ, and M is given an imaginary step. No singular vector."""
    (s, first), g, slope = np.unique(s.numpy(), return_index=True), g.numpy(), slope.numpy()
    g, slope = g[first], slope[first]
    u, scale = s**2 / s.max() ** 2, s.max() ** 2
    powers = np.arange(2 * len(s))
    rows = u[:, None] ** powers
    slopes = powers * u[:, None] ** np.maximum(powers - 1, 0)
    wanted = np.concatenate([g / s, (slope - g / s) / (2 * u)])
    coefficients = np.linalg.solve(np.concatenate([rows, slopes]), wanted)

    def w(m):
        square, total = m.T @ m / scale, np.zeros_like(m)
        for c in coefficients[::-1]:
            total = total @ square + c * np.eye(len(m))
        return m @ total

    return lambda m, direction: w(m + 1e-30j * direction).imag / 1e-30


def _derivative(s, g, slope, E):
    return _exact_response(s, g, slope, E)(np.diag(s.numpy()), E.numpy())


def _two_parts(s, g, slope):
    """The factors of the symmetric and of the skew part, and where s_j = s_k."""
    s, g, slope = s.numpy(), g.numpy(), slope.numpy()
    run, rise = s[None] - s[:, None], g[None] - g[:, None]
    same = run == 0
    divided = np.where(same, slope[None] + 0 * run, rise / np.where(same, 1, run))
    return divided, (g[None] + g[:, None]) / (s[None] + s[:, None]), same


def _response_by(change):
    """A mistake's response, from (divided, together, same, symmetric part, skew part, slope)."""

    def wrong(s, g, slope, E):
        divided, together, same = _two_parts(s, g, slope)
        e = E.numpy()
        return change(divided, together, same, (e + e.T) / 2, (e - e.T) / 2, slope.numpy())

    return wrong


_response = _response_by(
    lambda divided, together, same, symmetric, skew, slope: divided * symmetric + together * skew
)


def _off(same):
    """Equal singular values of two different modes."""
    return same & ~np.eye(len(same), dtype=bool)


def _draft_response(s, g, slope, E):
    """With the draft's rotations, and none between equal singular values."""
    s, g, e = s.numpy(), g.numpy(), E.numpy()
    gap = s[None] - s[:, None]
    a = np.where(gap == 0, 0, e / np.where(gap == 0, 1, gap))
    return a * g + np.diag(slope.numpy() * np.diag(e)) + g[:, None] * a.T


part_i = Function(
    "dln_stagewise.part_i",
    "dW/dε, with equal singular values or without",
    truth=_derivative,
    cases=_with_equal_ones,
    n=lambda args: len(args[0]),
    mistakes=[
        Mistake(
            "zero for equal ones",
            _response_by(
                lambda d, tog, same, sym, skew, slope: np.where(_off(same), 0, d) * sym + tog * skew
            ),
            "Between equal singular values the symmetric part is lost. The quotient has a limit "
            "there: g′.",
        ),
        Mistake(
            "equal ones left out",
            _response_by(
                lambda d, tog, same, sym, skew, slope: np.where(_off(same), 0, d * sym + tog * skew)
            ),
            "Entries between equal singular values are left at zero. A and B have no limit there; "
            "the response has.",
        ),
        Mistake(
            "skew part lost",
            _response_by(lambda d, tog, same, sym, skew, slope: d * sym),
            "E's skew part is lost. It counts with (𝒢_j + 𝒢_k)/(s_j + s_k).",
        ),
        Mistake(
            "symmetric part lost",
            _response_by(lambda d, tog, same, sym, skew, slope: tog * skew),
            "E's symmetric part is lost. It counts with the quotient of the differences.",
        ),
        Mistake(
            "quotient for both parts",
            _response_by(lambda d, tog, same, sym, skew, slope: d * (sym + skew)),
            "The quotient of the differences is for E's symmetric part. The skew part has sums in "
            "its place.",
        ),
        Mistake(
            "sums for both parts",
            _response_by(lambda d, tog, same, sym, skew, slope: tog * (sym + skew)),
            "The quotient of the sums is for E's skew part. The symmetric part has differences in "
            "its place.",
        ),
        Mistake(
            "slope for both parts",
            _response_by(
                lambda d, tog, same, sym, skew, slope: (
                    np.where(same, d, 0) * (sym + skew) + np.where(same, 0, d * sym + tog * skew)
                )
            ),
            "Between equal singular values g′ is applied to all of E. For the skew part it is 𝒢/s.",
        ),
        Mistake(
            "𝒢/s for both parts",
            _response_by(
                lambda d, tog, same, sym, skew, slope: (
                    np.where(_off(same), tog, d) * sym + tog * skew
                )
            ),
            "Between equal singular values 𝒢/s is applied to all of E. For the symmetric part it "
            "is g′.",
        ),
        Mistake(
            "𝒢/s for g′",
            _response_by(
                lambda d, tog, same, sym, skew, slope: np.where(same, tog, d) * sym + tog * skew
            ),
            "𝒢/s stands where g′ should, on the diagonal too: how 𝒢 changes with s, at fixed t.",
        ),
        Mistake(
            "mean slope everywhere",
            _response_by(
                lambda d, tog, same, sym, skew, slope: (
                    (slope[None] + slope[:, None]) / 2 * sym + tog * skew
                )
            ),
            "A mean of slopes stands for the quotient of the differences. They agree only as s_j "
            "nears s_k.",
        ),
        Mistake(
            "skew part's sign",
            _response_by(lambda d, tog, same, sym, skew, slope: d * sym - tog * skew),
            "The skew part has the wrong sign, or the response is transposed: E − Eᵀ, in this "
            "order.",
        ),
        Mistake(
            "parts exchanged",
            _response_by(lambda d, tog, same, sym, skew, slope: tog * sym + d * skew),
            "The two factors are exchanged: differences for the symmetric part, sums for the skew "
            "one.",
        ),
        Mistake(
            "in the end",
            lambda s, g, slope, E: E,
            "E is the response in the end, when W = S + εE. At time t not all of it is learned.",
        ),
        Mistake(
            "the draft's",
            _draft_response,
            "This has the draft's A and B: wrong for E that is not symmetric, and nothing "
            "for equal ones.",
        ),
        Mistake(
            "strengths only",
            lambda s, g, slope, E: np.diag(slope.numpy() * np.diag(E.numpy())),
            "This is G′ alone. The rotations AG + GB fill the rest.",
        ),
        Mistake(
            "no halves",
            lambda s, g, slope, E: 2 * _response(s, g, slope, E),
            "Twice too much: the parts of E are (E + Eᵀ)/2 and (E − Eᵀ)/2.",
        ),
        Mistake(
            "zero on the diagonal too",
            _response_by(
                lambda d, tog, same, sym, skew, slope: np.where(same, 0, d) * sym + tog * skew
            ),
            "Where s_j = s_k the quotient is set to zero, on the diagonal too. Its limit is g′.",
        ),
        Mistake(
            "no G′",
            _response_by(
                lambda d, tog, same, sym, skew, slope: (
                    np.where(np.eye(len(d)), 0, d) * sym + tog * skew
                )
            ),
            "The diagonal is empty: G′ is missing.",
        ),
        Mistake(
            "G′ twice",
            _response_by(
                lambda d, tog, same, sym, skew, slope: d * (1 + np.eye(len(d))) * sym + tog * skew
            ),
            "The diagonal is there twice: with g′ for j = k the formula has G′ in it already.",
        ),
        Mistake(
            "G′ without E",
            _response_by(
                lambda d, tog, same, sym, skew, slope: (
                    np.where(np.eye(len(d)), 0, d) * sym + tog * skew + np.diag(slope)
                )
            ),
            "The diagonal is g′_k alone. It is g′_k E_kk: s_k moves by E_kk.",
        ),
        Mistake(
            "gap's sign",
            _response_by(
                lambda d, tog, same, sym, skew, slope: np.where(same, d, -d) * sym + tog * skew
            ),
            "The differences are in opposite order: 𝒢_k − 𝒢_j goes with s_k − s_j.",
        ),
        Mistake(
            "skew part lost between equal ones",
            _response_by(
                lambda d, tog, same, sym, skew, slope: d * sym + np.where(same, 0, tog) * skew
            ),
            "Between equal singular values the skew part is lost. There it counts with 𝒢/s.",
        ),
    ],
    hints=[
        "Put part (f) into AG + GB and collect what multiplies E_jk + E_kj, and E_jk − E_kj.",
        "Symmetric part: (𝒢_k − 𝒢_j)/(s_k − s_j), which tends to g′. Skew part: "
        "(𝒢_k + 𝒢_j)/(s_k + s_j).",
        "torch.where(run == 0, slope, rise/run), with run = s[None] − s[:, None] and 1 where it is "
        "0.",
    ],
)

# --- (j) a test loss -----------------------------------------------------------------------------


def _tested(rng: np.random.Generator) -> tuple:
    d = int(rng.integers(2, 4))
    n = int(rng.integers(d + 2, 9))
    return *_learned(rng, _values(rng, d)), *(normal(rng, *k) for k in ((n, d), (n, d), (d,), (d,)))


def _slopes_of_loss(s, g, slope, x, y, x_q, y_q):
    """½‖y_q − W x_q‖² with z_p's weight given a real step, W to first order by its exact
    derivative: a parabola in the step, so a central difference is its slope."""
    m, n = np.diag(s.numpy()), len(x)
    along = _exact_response(s, g, slope, None)

    def loss(w):
        return 0.5 * ((y_q.numpy() - w @ x_q.numpy()) ** 2).sum()

    w = np.diag(g.numpy())
    moves = [along(m, np.outer(b, a)) / n for a, b in zip(x.numpy(), y.numpy(), strict=True)]
    return [(loss(w + move) - loss(w - move)) / 2 for move in moves]


def _influences(residual=None, response=_response, driver=np.outer, at=None, factor=None):
    """A mistake's influences, with some of its ingredients replaced."""
    residual = residual or (lambda s, g, a, b, x_q, y_q: y_q - g * x_q)
    at = at or (lambda a, b, x_q, y_q: x_q)
    factor = factor or (lambda n: -1 / n)

    def wrong(s, g, slope, x, y, x_q, y_q):
        x_q, y_q = x_q.numpy(), y_q.numpy()
        found = []
        for a, b in zip(x.numpy(), y.numpy(), strict=True):
            dw = np.asarray(response(s, g, slope, torch.from_numpy(driver(b, a))))
            r = residual(s.numpy(), g.numpy(), a, b, x_q, y_q)
            found.append(factor(len(x)) * r @ dw @ at(a, b, x_q, y_q))
        return found

    return wrong


def _rotation_alone(s, g, slope, E):
    return _response(s, g, slope, E - torch.diag(E.diagonal()))


def _strengths_alone(s, g, slope, E):
    return np.diag(slope.numpy() * np.diag(E.numpy()))


part_j = Function(
    "dln_stagewise.part_j",
    "∂ℓ_q/∂β_p for every training example",
    truth=_slopes_of_loss,
    cases=_tested,
    n=lambda args: len(args[3]),
    mistakes=[
        Mistake(
            "sign",
            _influences(factor=lambda n: 1 / n),
            "Sign flipped: ℓ = ½‖y − Wx‖² falls as Wx nears y. Negative is helpful.",
        ),
        Mistake(
            "no 1/n",
            _influences(factor=lambda n: -1),
            "Too large by n: β_p changes the covariance by y_p x_pᵀ/n.",
        ),
        Mistake(
            "sign, no 1/n",
            _influences(factor=lambda n: 1),
            "Sign flipped, and too large by n: β_p changes the covariance by y_p x_pᵀ/n.",
        ),
        Mistake(
            "x_p for x_q",
            _influences(at=lambda a, b, x_q, y_q: a),
            "The response is applied to x_p. The loss is that of the test input x_q.",
        ),
        Mistake(
            "p's residual",
            _influences(residual=lambda s, g, a, b, x_q, y_q: b - g * a),
            "The residual is that of the training example. It is the test loss that is "
            "differentiated: y_q − Wx_q.",
        ),
        Mistake(
            "its own loss",
            _influences(
                residual=lambda s, g, a, b, x_q, y_q: b - g * a, at=lambda a, b, x_q, y_q: a
            ),
            "This is the influence on the example's own loss. The test example is (x_q, y_q).",
        ),
        Mistake(
            "label for residual",
            _influences(residual=lambda s, g, a, b, x_q, y_q: y_q),
            "The label y_q stands for the residual y_q − Wx_q.",
        ),
        Mistake(
            "residual in the end",
            _influences(residual=lambda s, g, a, b, x_q, y_q: y_q - s * x_q),
            "The residual has W = diag(s), of the end. At time t it is W = diag(𝒢).",
        ),
        Mistake(
            "strengths only",
            _influences(response=_strengths_alone),
            "Only G′ is there. The rotations mix the modes, and count too.",
        ),
        Mistake(
            "rotations only",
            _influences(response=_rotation_alone),
            "Only the rotations are there. The strengths change too, by G′.",
        ),
        Mistake(
            "transposed driver",
            _influences(driver=lambda b, a: np.outer(a, b)),
            "E, or the whole response, is transposed: W maps x to y, so E = y_p x_pᵀ, and x_q is "
            "on its right.",
        ),
        Mistake(
            "the draft's",
            _influences(response=_draft_response),
            "The response has the draft's A and B, which hold for symmetric E only.",
        ),
        Mistake(
            "in the end",
            _influences(response=lambda s, g, slope, E: E),
            "y_p x_pᵀ itself is the response in the end. At time t it is that of part (i).",
        ),
        Mistake(
            "residual squared",
            _influences(factor=lambda n: -2 / n),
            "Twice too much: the loss has a ½ in front.",
        ),
        Mistake(
            "driven by the residual",
            lambda s, g, slope, x, y, x_q, y_q: _influences()(s, g, slope, x, y - g * x, x_q, y_q),
            "E has the example's residual for its label. It is y_p x_pᵀ: only Σ_yx changes here.",
        ),
    ],
    hints=[
        "∂ℓ_q = −(y_q − Wx_q)ᵀ ∂W x_q.",
        "∂W/∂β_p is part (i) with E = y_p x_pᵀ, divided by n.",
        "A loop over p, with W = diag(g): residual = y_q − g * x_q.",
    ],
)

# --- (k), (l) the dog and the cat ----------------------------------------------------------------

S, START = np.array([3.0, 1.0]), 0.01
DOG, CAT = np.array([1.0, 0.5]), np.array([1.0, -0.5])


def animals() -> tuple[torch.Tensor, torch.Tensor]:
    """Dog, cat and two more: four examples (x, y) with white inputs and y = diag(3, 1) x."""
    far = np.sqrt(2 - DOG[1] ** 2)
    x = torch.from_numpy(np.stack([DOG, CAT, [1, far], [1, -far]]))
    return x, x * torch.from_numpy(S)


def harm(t: float, part: str = "all", response=_derivative, start: float = START) -> float:
    """The dog's influence on the cat's loss at time t, or what one part of E = y xᵀ has in it."""
    e = np.outer(S * DOG, DOG)
    mask = {
        "all": np.ones((2, 2)),
        "strength of mode 1": np.diag([1.0, 0.0]),
        "strength of mode 2": np.diag([0.0, 1.0]),
        "rotation": 1 - np.eye(2),
    }[part]
    g, slope = _mode(S, t, start), _slope(S, t, start)
    dw = response(*map(torch.from_numpy, (S, g, slope, mask * e)))
    return float(-(S * CAT - g * CAT) @ dw @ CAT / 4)


@cache
def _harmful() -> str:
    """The part that raises the cat's loss at all times looked at, where the others never do."""
    parts = ["strength of mode 1", "strength of mode 2", "rotation"]
    signs = {part: {harm(t, part) > 0 for t in np.linspace(0.1, 6, 60)} for part in parts}
    (name,) = [part for part in parts if signs[part] == {True}]
    assert all(signs[part] == {False} for part in parts if part != name)
    return name


part_k = Choice(
    "dln_stagewise.part_k",
    "which part of the response raises the cat's loss",
    truth=_harmful,
    wrong={
        "strength of mode 1": "It makes mode 1 larger, and so faster, which both animals need: "
        "g′(s_1 − 𝒢_1) only lowers the loss.",
        "strength of mode 2": "More of s_2 suits the cat as well: W_22 = 1 is right for both, "
        "whatever the sign of x_2.",
    },
    hints=[
        "On the diagonal, x_2 enters the dog's E_22 as a square, and the cat's loss as another.",
        "Off the diagonal, the cat's second output hears of the dog's x_1: does that fit −½?",
    ],
)


@cache
def flip() -> float:
    """When the dog's influence on the cat's loss turns from helpful to harmful."""
    return scipy.optimize.brentq(harm, 0.5, 3)


@cache
def upweighted_flips() -> tuple[float, float]:
    """The same of the network itself, trained with more weight on the dog: Σ_xx moves too."""
    x, y = animals()
    times = torch.linspace(0.5, 5, 181, dtype=torch.float64)
    w1, w2 = dln.balanced_start(torch.diag(torch.from_numpy(S)), START)
    path = dln.gradient_flow(dln.covariances(x, y), w1, w2, times)
    moves = dln.flow_response(x, y, 0, times, w1, w2)
    harms = torch.stack(
        [dln.loss_influence(w, move, x[1], y[1]) for w, move in zip(path, moves, strict=True)]
    ).numpy()
    t, turns = times.numpy(), np.flatnonzero(harms[1:] * harms[:-1] < 0)
    first, second = t[turns] - harms[turns] * (t[1] - t[0]) / (harms[turns + 1] - harms[turns])
    return float(first), float(second)


@dataclass(frozen=True)
class _Later:
    """A number that is computed when it is first asked for."""

    number: object

    def __float__(self):
        return float(self.number())


def _draft_flip(low, high):
    return _Later(
        lambda: scipy.optimize.brentq(lambda t: harm(t, response=_draft_response), low, high)
    )


part_l = Number(
    "dln_stagewise.part_l",
    "the time at which the dog's influence on the cat's loss changes sign",
    truth=flip,
    rtol=4e-3,
    mistakes=[
        Mistake(
            "mode 1 learned",
            float(np.log(S[0] / START - 1) / (2 * S[0])),
            "That is t* of mode 1. There the dog still helps most.",
        ),
        Mistake(
            "mode 2 learned",
            float(np.log(S[1] / START - 1) / (2 * S[1])),
            "That is t* of mode 2, which the draft names. The sign has changed before.",
        ),
        Mistake(
            "very early",
            _Later(lambda: scipy.optimize.brentq(harm, 1e-6, 0.1)),
            "There the influence is of the order of 𝒢(0), and so is its sign's worth. The later "
            "change is asked.",
        ),
        Mistake(
            "the page's start",
            _Later(lambda: scipy.optimize.brentq(lambda t: harm(t, start=1e-3), 1, 3)),
            "That is from the page's start, 𝒢(0) = 0.001. Here it is 0.01.",
        ),
        Mistake(
            "the draft's",
            _draft_flip(1, 2),
            "That is with the draft's A and B. Use your part (j).",
        ),
        Mistake(
            "the draft's second",
            _draft_flip(2, 4),
            "That is with the draft's A and B, which even change back. Use your part (j).",
        ),
        Mistake(
            "true upweighting",
            _Later(lambda: upweighted_flips()[0]),
            "That is with Σ_xx changed too, by a run of the network. Here only Σ_yx changes.",
        ),
        Mistake(
            "true upweighting, back",
            _Later(lambda: upweighted_flips()[1]),
            "That is a true run's second change, with Σ_xx changed too. Here only Σ_yx changes.",
        ),
    ],
    hints=[
        "Compute part (j) with n = 4 on a grid of times, and look for the change after t = 0.5.",
        "𝒢 from the statement of (b), g′ from (c): sp.lambdify makes functions of them.",
        "Halve the interval in which the sign changes, between t*_1 and t*_2.",
    ],
)

# --- (m) true upweighting ------------------------------------------------------------------------


def _white(rng: np.random.Generator) -> tuple:
    n, d = int(rng.integers(6, 11)), int(rng.integers(2, 5))
    x = np.linalg.qr(rng.standard_normal((n, d)))[0] * n**0.5
    y = x @ rng.standard_normal((d, d)) + rng.standard_normal((n, d))
    return torch.from_numpy(x), torch.from_numpy(y), int(rng.integers(n))


def _refitted(x, y, p):
    """Weighted least squares, whose solution the network reaches, at an imaginary weight."""
    x, y = x.numpy(), y.numpy()
    beta = np.ones(len(x), dtype=complex)
    beta[p] += 1e-30j
    return np.linalg.solve((x.T * beta) @ x, (x.T * beta) @ y).T.imag / 1e-30


def _updated(formula):
    """A mistake's formula in x_p, y_p, S = Σ_yx and n."""

    def wrong(x, y, p):
        x, y = x.numpy(), y.numpy()
        return formula(x[p], y[p], y.T @ x / len(x), len(x))

    return wrong


part_m = Function(
    "dln_stagewise.part_m",
    "the limit of ∂W/∂β_p when β_p changes all that training sees",
    truth=_refitted,
    cases=_white,
    mistakes=[
        Mistake(
            "the draft's",
            _updated(lambda a, b, m, n: np.outer(b, a) / n),
            "This changes Σ_yx alone. More weight on z_p also changes Σ_xx, which takes off Sx_p.",
        ),
        Mistake(
            "the draft's, no 1/n",
            _updated(lambda a, b, m, n: np.outer(b, a)),
            "Σ_xx changes as well, which takes off Sx_p; and both covariances have a 1/n.",
        ),
        Mistake(
            "no 1/n",
            _updated(lambda a, b, m, n: np.outer(b - m @ a, a)),
            "Too large by n: the covariances are means, so β_p enters with 1/n.",
        ),
        Mistake(
            "transposed",
            _updated(lambda a, b, m, n: np.outer(a, b - m @ a) / n),
            "Transposed: W maps x to y, so the residual is on the left.",
        ),
        Mistake(
            "sign",
            _updated(lambda a, b, m, n: np.outer(m @ a - b, a) / n),
            "Sign flipped: this is for taking weight away. More weight moves Wx_p towards y_p.",
        ),
        Mistake(
            "S transposed",
            _updated(lambda a, b, m, n: np.outer(b - m.T @ a, a) / n),
            "S is transposed: Σ_yx = (1/n) Σ y xᵀ, and the network's output is Sx_p.",
        ),
        Mistake(
            "summed covariance",
            _updated(lambda a, b, m, n: np.outer(b - n * m @ a, a) / n),
            "Sx_p is n times too large: S is a mean, (1/n) Σ y xᵀ, and the change of Σ_xx has a "
            "1/n too.",
        ),
        Mistake(
            "Σ_xx only",
            _updated(lambda a, b, m, n: -np.outer(m @ a, a) / n),
            "Only Σ_xx is changed here. Σ_yx gains y_p x_pᵀ/n at the same time.",
        ),
        Mistake(
            "other added",
            _updated(lambda a, b, m, n: np.outer(b + m @ a, a) / n),
            "The change of Σ_xx enters with a minus: −S x_p x_pᵀ/n.",
        ),
        Mistake(
            "left out",
            _updated(lambda a, b, m, n: -np.outer(b - m @ a, a) / (n - a @ a)),
            "This is the whole effect of leaving z_p out, with its leverage x_pᵀx_p/n. The "
            "derivative is asked.",
        ),
        Mistake(
            "with the leverage",
            _updated(lambda a, b, m, n: np.outer(b - m @ a, a) / (n - a @ a)),
            "1 − x_pᵀx_p/n below belongs to leaving z_p out. The derivative at β = 1 has none.",
        ),
        Mistake(
            "difference of inputs",
            _updated(lambda a, b, m, n: np.outer(b - a, a) / n),
            "The prediction is Sx_p, not x_p.",
        ),
        Mistake(
            "nothing",
            lambda x, y, p: 0 * y.T @ x,
            "Zero is for examples that are fitted, y_p = Sx_p. These have residuals.",
        ),
        Mistake(
            "S on the other side",
            _updated(lambda a, b, m, n: (np.outer(b, a) - np.outer(a, a) @ m) / n),
            "S is on the wrong side of x_p x_pᵀ: W ∂Σ_xx has W on the left.",
        ),
        Mistake(
            "S's diagonal",
            _updated(lambda a, b, m, n: np.outer(b - np.diag(m) * a, a) / n),
            "Only S's diagonal is there. Here S is any square matrix.",
        ),
        Mistake(
            "one more copy",
            _updated(lambda a, b, m, n: np.outer(b - m @ a, a) / (n + a @ a)),
            "This is the whole effect of a second copy of z_p. The derivative at β = 1 is asked.",
        ),
    ],
    hints=[
        "In the end WΣ_xx = Σ_yx. Differentiate both sides in β_p.",
        "∂Σ_xx = x_p x_pᵀ/n, ∂Σ_yx = y_p x_pᵀ/n, and Σ_xx = I.",
        "(y_p − Sx_p) x_pᵀ/n with S = Σ_yx.",
    ],
)
