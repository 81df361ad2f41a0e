"""Exercise 02_degenerate_ab: two parameters, one product, and what damping hides."""

from functools import cache

import numpy as np
import sympy as sp
import torch

from lib.checks.engine import Choice, Formula, Function, Mistake
from lib.influence import direct, influence
from lib.models import ab_model
from lib.objective import hessian


def _anywhere(rng: np.random.Generator) -> tuple:
    n = int(rng.integers(5, 12))
    a, b = rng.uniform(0.5, 2.0, 2) * rng.choice([-1, 1], 2)
    return float(a), float(b), torch.from_numpy(rng.standard_normal(n) + 0.5)


OFFSETS = (-1, 0, 1)


def _second_differences(a, b, z):
    """The loss is quadratic in a and in b, so differences with any step are its derivatives."""
    z = z.numpy()
    loss = np.array(
        [[0.5 * ((z - (a + i) * (b + k)) ** 2).sum() for k in OFFSETS] for i in OFFSETS]
    )
    bend, slope = np.array([1, -2, 1]), np.array([-0.5, 0, 0.5])
    mixed = slope @ loss @ slope
    return [[bend @ loss[:, 1], mixed], [mixed, loss[1] @ bend]]


def _entries(corner, side, off):
    def wrong(a, b, z):
        o = off(a, b, z)
        return [[corner(a, b, z), o], [o, side(a, b, z)]]

    return wrong


part_a = Function(
    "degenerate_ab.part_a",
    "the Hessian of Σ ½(z_i − ab)² in (a, b)",
    truth=_second_differences,
    cases=_anywhere,
    n=lambda args: len(args[2]),
    mistakes=[
        Mistake(
            "mean",
            lambda a, b, z: np.array(_second_differences(a, b, z)) / len(z),
            "Too small by exactly n: the loss is a sum over the examples.",
        ),
        Mistake(
            "minimiser only",
            _entries(
                lambda a, b, z: len(z) * b * b,
                lambda a, b, z: len(z) * a * a,
                lambda a, b, z: len(z) * a * b,
            ),
            "Right at a minimum only. Elsewhere the off-diagonal entry is Σ (2ab − z_i).",
        ),
        Mistake(
            "swapped",
            _entries(
                lambda a, b, z: len(z) * a * a,
                lambda a, b, z: len(z) * b * b,
                lambda a, b, z: (2 * a * b - z).sum().item(),
            ),
            "The diagonal is swapped: two derivatives in a leave b², and two in b leave a².",
        ),
        Mistake(
            "off-diagonal sign",
            _entries(
                lambda a, b, z: len(z) * b * b,
                lambda a, b, z: len(z) * a * a,
                lambda a, b, z: (z - 2 * a * b).sum().item(),
            ),
            "The off-diagonal sign is flipped: ∂²/∂a∂b of ½(z − ab)² is 2ab − z.",
        ),
        Mistake(
            "residual off-diagonal",
            _entries(
                lambda a, b, z: len(z) * b * b,
                lambda a, b, z: len(z) * a * a,
                lambda a, b, z: (a * b - z).sum().item(),
            ),
            "The off-diagonal has two terms: ab − z from the residual, and another ab from "
            "the product rule.",
        ),
        Mistake(
            "one example",
            _entries(
                lambda a, b, z: b * b,
                lambda a, b, z: a * a,
                lambda a, b, z: (2 * a * b - z).sum().item(),
            ),
            "The diagonal is that of one example: each of the n adds b² and a².",
        ),
    ],
    hints=[
        "Differentiate ½(z_i − ab)² twice, then add over i.",
        "∂²/∂a² = b², ∂²/∂b² = a², ∂²/∂a∂b = 2ab − z_i.",
    ],
)

_z, _zbar, _n, _lam, _v = sp.symbols("z zbar n lambda V", positive=True)
_d = _z - _zbar
_data = {"z": (-4, 4), "zbar": (-2, 2), "n": (3, 12)}
_damped = {**_data, "lambda": (0.1, 3), "V": (4, 9)}

part_b = Formula(
    "degenerate_ab.part_b",
    "the influence of z on φ = ab with the pseudoinverse, in z, zbar and n",
    truth=_d / _n,
    domain=_data,
    mistakes=[
        Mistake("sign", -_d / _n, "Sign flipped: upweighting z pulls the product towards z."),
        Mistake(
            "deletion",
            -_d / (_n - 1),
            "This is the whole leave-one-out effect. Influence is "
            "the slope, of other sign and with n.",
        ),
        Mistake(
            "deletion, sign",
            _d / (_n - 1),
            "n − 1 belongs to a deletion. At β = 1 all n examples are there.",
        ),
        Mistake("no n", _d, "Too large by exactly n: H sums over the examples, H = n v vᵀ."),
        Mistake("no residual", _z / _n, "The gradient of L_i has the residual z − z̄ in it, not z."),
    ],
    hints=[
        "At a minimum H = n v vᵀ with v = (b, a). What is its pseudoinverse?",
        "H⁺ = v vᵀ / (n‖v‖⁴), ∇φ = v, ∇L_i = −(z − z̄) v.",
    ],
)

part_c = Formula(
    "degenerate_ab.part_c",
    "the exact change of φ = ab when z is left out, in z, zbar and n",
    truth=-_d / (_n - 1),
    domain=_data,
    mistakes=[
        Mistake(
            "first order",
            -_d / _n,
            "This is minus the influence. The mean of the others divides by n − 1.",
        ),
        Mistake("sign", _d / (_n - 1), "Sign flipped: without a large z the mean falls."),
        Mistake(
            "influence",
            _d / _n,
            "This is the influence. Leaving z out has the other sign, and n − 1.",
        ),
        Mistake(
            "new mean",
            (_n * _zbar - _z) / (_n - 1),
            "This is the new value of φ. The change is asked: subtract z̄.",
        ),
        Mistake(
            "mean over n",
            (_n * _zbar - _z) / _n - _zbar,
            "n − 1 examples are left, so their sum is divided by n − 1.",
        ),
    ],
    hints=[
        "At any minimum φ = ab is the mean of the data.",
        "The mean of the others is (n z̄ − z)/(n − 1).",
    ],
)

part_d = Formula(
    "degenerate_ab.part_d",
    "the damped influence of z on φ = ab, with V = a² + b²",
    truth=_d * _v / (_n * _v + _lam),
    domain=_damped,
    mistakes=[
        Mistake(
            "no residual",
            _z * _v / (_n * _v + _lam),
            "The gradient of L_i has the residual z − z̄ in it, not z.",
        ),
        Mistake(
            "sign",
            -_d * _v / (_n * _v + _lam),
            "Sign flipped: upweighting z pulls the product towards z.",
        ),
        Mistake(
            "no n",
            _d * _v / (_v + _lam),
            "H sums over examples: its eigenvalue is n‖v‖², not ‖v‖².",
        ),
        Mistake(
            "damping scaled",
            _d * _v / (_n * _v + _n * _lam),
            "λ is added to the summed Hessian once, not n times.",
        ),
        Mistake("no damping", _d / _n, "This is the limit λ → 0. Keep λ."),
        Mistake(
            "V nowhere",
            _d / (_n + _lam),
            "V cancels without damping only: the eigenvalue is nV, and λ is added to that.",
        ),
        Mistake(
            "damped pseudoinverse",
            _d * _v**2 / (_n * _v**2 + _lam),
            "λ is added to the eigenvalue nV of H, not to nV².",
        ),
        Mistake(
            "norm lost",
            _d / (_n * _v + _lam),
            "A factor ‖v‖² is missing: ∇φ and ∇L_i each bring one v.",
        ),
        Mistake(
            "null space",
            _d * _v / (_n * _v + _lam) + _d / _lam,
            "The 1/λ direction does not contribute: ∇φ and ∇L_i both lie along v.",
        ),
    ],
    hints=[
        "Both ∇φ and ∇L_i lie along v, so only one eigenvalue of H matters.",
        "(H + λI)⁻¹v = v / (n‖v‖² + λ), with V standing for ‖v‖².",
    ],
)

part_e = Formula(
    "degenerate_ab.part_e",
    "the damped influence of z on φ = a², with V = a² + b²",
    truth=2 * _zbar * _d / (_n * _v + _lam),
    domain=_damped,
    mistakes=[
        Mistake(
            "diverging",
            2 * _zbar * _d / _lam,
            "∇φ has a part in the flat direction, but ∇L_i "
            "has none: the 1/λ term is multiplied by zero.",
        ),
        Mistake(
            "wrong observable",
            _d * _v / (_n * _v + _lam),
            "This is the answer for φ = ab. For a² the gradient is (2a, 0).",
        ),
        Mistake("no damping", 2 * _zbar * _d / (_n * _v), "This is the limit λ → 0. Keep λ."),
        Mistake(
            "(ab)²",
            2 * _zbar * _d * _v / (_n * _v + _lam),
            "This is the answer for (ab)². φ is a² alone, and its gradient (2a, 0).",
        ),
        Mistake(
            "no n",
            2 * _zbar * _d / (_v + _lam),
            "H sums over examples: its eigenvalue is n‖v‖², not ‖v‖².",
        ),
        Mistake(
            "no residual",
            2 * _zbar * _z / (_n * _v + _lam),
            "The gradient of L_i has the residual z − z̄ in it, not z.",
        ),
        Mistake(
            "half", _zbar * _d / (_n * _v + _lam), "Half the answer: the derivative of a² is 2a."
        ),
        Mistake(
            "sign",
            -2 * _zbar * _d / (_n * _v + _lam),
            "Sign flipped: for z̄ > 0 and z above it, the product grows, and a² with it.",
        ),
    ],
    hints=[
        "∇φ = (2a, 0) and ∇L_i = −(z − z̄)(b, a). Which products of the two survive?",
        "(2a, 0)·(b, a) = 2ab, and ab = z̄ at the minimum.",
    ],
)


@cache
def _limit_of_a_squared() -> str:
    """What the influence on a² does as λ falls, measured at one minimum of the ab-model."""
    z = torch.tensor([1.0, 2.0, 3.5], dtype=torch.float64)
    w = torch.tensor([2.0, z.mean() / 2.0], dtype=torch.float64)
    h = hessian(ab_model(z), w)
    scores = [
        influence(ab_model(z), w, lambda w: w[0] ** 2, direct(h, lam)).abs().max()
        for lam in (1e-3, 1e-6)
    ]
    return "diverges" if scores[1] > 10 * scores[0] else "finite"


part_f = Choice(
    "degenerate_ab.part_f",
    "the influence on a² as λ → 0",
    truth=_limit_of_a_squared,
    wrong={
        "diverges": "∇φ does reach into the flat direction. Does any ∇L_i? They all lie along v: "
        "evaluate your part (e) at λ = 1, 0.01, 0.0001.",
        "zero": "The pull along v = (b, a) moves a too, as long as b ≠ 0. Evaluate part (e) "
        "at λ = 0.01 and 0.0001.",
    },
    hints=[
        "Divergence needs both ∇φ and ∇L_i to have a part in the null space.",
        "Put λ = 0 in part (e).",
    ],
)


def _valley_case(rng: np.random.Generator) -> tuple:
    n = int(rng.integers(3, 8))
    s = rng.standard_normal(n)
    return torch.from_numpy(s - s.mean()), float(rng.uniform(0.2, 0.8))


def _valley_truth(s, lam):
    """The minimiser's y at β_i = 1 ± step. The damped loss is a parabola in y whatever x: its
    lowest point is read from three values of it."""

    def lowest(beta):
        below, middle, above = (beta @ s.numpy() * y + 0.5 * lam * y**2 for y in OFFSETS)
        return 0.5 * (below - above) / (below - 2 * middle + above)

    step = 1e-3 * np.eye(len(s))
    return (lowest(1 + step) - lowest(1 - step)) / 2e-3


part_g = Function(
    "degenerate_ab.part_g",
    "the damped influence of every example on y, at (0, 0) in the valley",
    truth=_valley_truth,
    cases=_valley_case,
    mistakes=[
        Mistake(
            "sign",
            lambda s, lam: s / lam,
            "Sign flipped: upweighting a loss that rises with y pushes y down.",
        ),
        Mistake(
            "pseudoinverse",
            lambda s, lam: 0 * s,
            "Zero is the pseudoinverse's answer: it "
            "drops the flat direction, and every pull along it.",
        ),
        Mistake(
            "mean",
            lambda s, lam: -s / (len(s) * lam),
            "Too small by exactly n: λ is the "
            "only curvature along y, and it is not summed over examples.",
        ),
        Mistake(
            "wrong direction",
            lambda s, lam: -s / (len(s) + lam),
            "n + λ is the curvature along x. Along y the losses have none.",
        ),
        Mistake(
            "damping upstairs",
            lambda s, lam: -lam * s,
            "λ is on the wrong side: less damping lets y move further.",
        ),
    ],
    hints=[
        "At (0, 0) the gradient of L_i is (0, s_i). What is (H + λI)⁻¹ on it?",
        "H = diag(n, 0), so along y only λ is left.",
    ],
)
