"""Exercise 02_influence_derivation: the influence function from the optimality condition."""

from functools import cache

import numpy as np
import sympy as sp
import torch
from torch.func import grad, vmap

from lib.checks.engine import Choice, Formula, Function, Mistake
from lib.objective import Objective
from lib.random_problems import Wave, logistic_problem

_n, _rho, _s, _z = sp.symbols("n rho s z", positive=True)
_w = _s / (_n + _rho)

part_a = Formula(
    "influence_derivation.part_a",
    "∂w*/∂β_i at β = 1 for the penalised mean, in n, ρ, s = Σ z_j and z = z_i",
    truth=(_z - _w) / (_n + _rho),
    domain={"n": (3, 12), "rho": (1, 5), "s": (-9, 9), "z": (-4, 4)},
    mistakes=[
        Mistake(
            "removal",
            -(_z - _w) / (_n + _rho),
            "Sign flipped: more weight on z pulls w* "
            "towards z. The derivative for upweighting is asked.",
        ),
        Mistake(
            "mean Hessian",
            _n * (_z - _w) / (_n + _rho),
            "Too large by exactly n: the second derivative of the summed objective is n + ρ.",
        ),
        Mistake(
            "mean for minimum",
            (_z - _s / _n) / (_n + _rho),
            "s/n is the mean, but the penalty shrinks the minimum: w* = s/(n + ρ).",
        ),
        Mistake(
            "penalty not in H",
            (_z - _w) / _n,
            "The penalty bends the objective too: its second derivative ρ belongs in H.",
        ),
        Mistake(
            "no penalty",
            (_z - _s / _n) / _n,
            "This is the answer for ρ = 0. The penalty "
            "shrinks w* and bends the objective: w* = s/(n + ρ), H = n + ρ.",
        ),
        Mistake(
            "label for residual",
            _z / (_n + _rho),
            "The slope of L_i at w* is w* − z, not −z: w* is missing.",
        ),
        Mistake(
            "penalty in g",
            (_z - _w - _rho * _w) / (_n + _rho),
            "The penalty carries no data weight, so it has no share in the gradient of L_i.",
        ),
        Mistake(
            "deletion",
            (_z - _w) / (_n + _rho - 1),
            "This is minus the whole effect of "
            "deleting z. At β = 1 the Hessian still holds all n examples.",
        ),
    ],
    hints=[
        "Write ρw + Σ β_i (w − z_i) = 0 and differentiate every w in β_i.",
        "(n + ρ) ∂w/∂β_i + (w − z_i) = 0 at β = 1.",
        "And w* itself at β = 1 is s/(n + ρ).",
    ],
)


def _minimum(rng: np.random.Generator) -> tuple[Objective, torch.Tensor]:
    objective = logistic_problem(rng).objective
    start = torch.zeros(objective.x.shape[1], dtype=torch.float64)
    return objective, _retrained(objective, start, np.ones((1, objective.n)), steps=30)[0]


def _minimum_and_phi(rng: np.random.Generator) -> tuple:
    q = torch.from_numpy(rng.standard_normal(5))
    objective, w = _minimum(rng)
    return objective, w, Wave(q[: len(w)])


def _retrained(objective, w, weights, steps=8):
    """w* under each row of data weights, (m, n) → (m, p): Newton's method for logistic regression
    in numpy, which shares no code with the library."""
    x, y = objective.x.numpy(), objective.y.numpy()
    w = np.repeat(w.numpy()[None], len(weights), axis=0)
    for _ in range(steps):
        p = 1 / (1 + np.exp(y * (w @ x.T)))
        slope = (-weights * y * p) @ x + objective.l2 * w
        curvature = np.einsum("mi,ij,ik->mjk", weights * p * (1 - p), x, x)
        curvature += objective.l2 * np.eye(x.shape[1])
        w = w - np.linalg.solve(curvature, slope[:, :, None])[:, :, 0]
    return torch.from_numpy(w)


def _difference(objective, w, phi=lambda w: w, *, step=3e-4):
    eye = np.eye(objective.n)
    up, down = (vmap(phi)(_retrained(objective, w, 1 + s * step * eye)) for s in (1, -1))
    return (up - down) / (2 * step)


def _linear(change):
    """A mistake's formula: ∂w* from the gradients g (n, p), the Hessian h of the losses without
    the penalty, ρ and w; followed by ∇φ if there is a φ."""

    def wrong(objective, w, phi=None):
        x, y = objective.x.numpy(), objective.y.numpy()
        p = 1 / (1 + np.exp(y * (x @ w.numpy())))
        moved = change(-(y * p)[:, None] * x, (x.T * p * (1 - p)) @ x, objective.l2, w.numpy())
        return moved if phi is None else moved @ grad(phi)(w).numpy()

    return wrong


def _solved(g, h, l2=0.0):
    return -g @ np.linalg.inv(h + l2 * np.eye(len(h)))


def _deleted(objective, w, phi=lambda w: w):
    return vmap(phi)(_retrained(objective, w, 1 - np.eye(objective.n))) - phi(w)


part_b = Function(
    "influence_derivation.part_b",
    "∂w*/∂β_i at β = 1, one row for every example",
    truth=_difference,
    cases=_minimum,
    n=lambda args: args[0].n,
    rtol=1e-4,
    draws=3,
    mistakes=[
        Mistake(
            "removal",
            _linear(lambda g, h, l2, w: -_solved(g, h, l2)),
            "Sign flipped: this is "
            "the first-order effect of removing z_i. Influence is the derivative for "
            "upweighting.",
        ),
        Mistake(
            "mean Hessian",
            _linear(lambda g, h, l2, w: len(g) * _solved(g, h, l2)),
            "Too large by exactly n: H here is the Hessian of the summed loss.",
        ),
        Mistake(
            "leave-one-out, sign",
            lambda *args: -_deleted(*args),
            "This is minus the whole effect of deleting z_i, all orders of it. Influence is the "
            "slope at β = 1.",
        ),
        Mistake(
            "leave-one-out",
            _deleted,
            "This is the effect of deleting z_i, a difference. "
            "Influence is the slope at β = 1, of other sign.",
        ),
        Mistake(
            "no Hessian",
            _linear(lambda g, h, l2, w: -g),
            "This is the pull of z_i alone. How "
            "far the minimum moves also depends on curvature: solve with H.",
        ),
        Mistake(
            "multiplied by H",
            _linear(lambda g, h, l2, w: -g @ (h + l2 * np.eye(len(h)))),
            "Multiplied by H instead of solved with it: the more curvature, the less w* moves.",
        ),
        Mistake(
            "penalty not in H",
            _linear(lambda g, h, l2, w: _solved(g, h)),
            "The penalty is part of what is minimised: H must hold its second derivative.",
        ),
        Mistake(
            "penalty in g",
            _linear(lambda g, h, l2, w: _solved(g + l2 * w, h, l2)),
            "The penalty carries no data weight: g_i is the gradient of L_i alone.",
        ),
    ],
    hints=[
        "lib.objective has gradients(objective, w), one row an example, and hessian(objective, w).",
        "Differentiate ∇L(w*(β); β) = 0 in β_i: H ∂w*/∂β_i + g_i = 0.",
        "torch.linalg.solve(H, g.T).T solves for all rows at once.",
    ],
)

part_c = Function(
    "influence_derivation.part_c",
    "∂φ(w*(β))/∂β_i at β = 1 for every example",
    truth=_difference,
    cases=_minimum_and_phi,
    n=lambda args: args[0].n,
    rtol=1e-4,
    draws=3,
    mistakes=[
        Mistake(
            "removal",
            _linear(lambda g, h, l2, w: -_solved(g, h, l2)),
            "Sign flipped: this is "
            "what φ does, to first order, when z_i is removed. Influence is for upweighting.",
        ),
        Mistake(
            "mean Hessian",
            _linear(lambda g, h, l2, w: len(g) * _solved(g, h, l2)),
            "Too large by exactly n: H here is the Hessian of the summed loss.",
        ),
        Mistake(
            "no Hessian",
            _linear(lambda g, h, l2, w: -g),
            "A dot product of two gradients: the inverse Hessian between them is missing.",
        ),
        Mistake(
            "no Hessian, no minus",
            _linear(lambda g, h, l2, w: g),
            "The plain dot product of "
            "two gradients: the inverse Hessian between them is missing, and a minus.",
        ),
        Mistake(
            "solved twice",
            _linear(lambda g, h, l2, w: -_solved(_solved(g, h, l2), h, l2)),
            "The inverse Hessian stands here twice: it belongs to ∇L_i or to ∇φ, not to both.",
        ),
        Mistake(
            "difference of φ",
            lambda o, w, phi: (
                vmap(phi)(
                    w + torch.from_numpy(_linear(lambda g, h, l2, w: _solved(g, h, l2))(o, w))
                )
                - phi(w)
            ),
            "φ(w + ∂w) − φ(w) takes a whole step along the derivative. The slope is ∇φ·∂w.",
        ),
        Mistake(
            "leave-one-out, sign",
            lambda *args: -_deleted(*args),
            "This is minus the whole effect of deleting z_i, all orders of it. Influence is the "
            "slope at β = 1.",
        ),
        Mistake(
            "leave-one-out",
            _deleted,
            "This is the effect of deleting z_i. Influence is the slope at β = 1, of other sign.",
        ),
        Mistake(
            "gradient at zero",
            lambda o, w, phi: (
                _linear(lambda g, h, l2, w: _solved(g, h, l2))(o, w) @ grad(phi)(0 * w).numpy()
            ),
            "∇φ is evaluated at w = 0: the chain rule wants it at w*.",
        ),
        Mistake(
            "penalty not in H",
            _linear(lambda g, h, l2, w: _solved(g, h)),
            "The penalty is part of what is minimised: H must hold its second derivative.",
        ),
        Mistake(
            "penalty in g",
            _linear(lambda g, h, l2, w: _solved(g + l2 * w, h, l2)),
            "The penalty carries no data weight: g_i is the gradient of L_i alone.",
        ),
    ],
    hints=[
        "φ depends on β_i only through w*(β): one chain rule.",
        "torch.func.grad(phi)(w) is ∇φ at w*; part (b) is the other factor.",
        "One solve is enough for all examples: v = H⁻¹∇φ, then −g_i·v.",
    ],
)


def two_wells(w, weight):
    """Two quadratic wells at −1 and 1; the second is the deeper one once weight > 1."""
    return torch.minimum((w + 1) ** 2, (w - 1) ** 2 + 0.1 * (1 - weight))


@cache
def _across_the_tie() -> str:
    grid = torch.linspace(-2, 2, 4001, dtype=torch.float64)
    before, after = (grid[two_wells(grid, b).argmin()] for b in (0.99, 1.01))
    return "jumps" if abs(after - before) > 0.5 else "smooth"


part_d = Choice(
    "influence_derivation.part_d",
    "what the global minimum does as β_i passes the tie",
    truth=_across_the_tie,
    wrong={
        "smooth": "Followed alone, each well's minimum is smooth in β_i. But which of the two "
        "wells holds the argmin at β_i = 0.99, and which at 1.01?",
        "stays": "It stays within one well only while that well is the deeper one. Evaluate both "
        "wells at β_i = 0.99 and 1.01.",
    },
    hints=[
        "Plot two_wells for β_i = 0.99 and for 1.01.",
        "The implicit function theorem follows one well. The argmin is free to change wells.",
    ],
)

_g, _h = sp.symbols("g Hbar", positive=True)

part_e = Formula(
    "influence_derivation.part_e",
    "∂w*/∂β_i at β = 1 for one parameter w, by g = ∂L_i/∂w, n and the mean Hessian Hbar",
    truth=-_g / (_n * _h),
    domain={"n": (3, 12), "g": (-4, 4), "Hbar": (1, 6)},
    mistakes=[
        Mistake(
            "no 1/n",
            -_g / _h,
            "Too large by exactly n: with the mean objective, β_i "
            "multiplies L_i/n, so the pull of z_i is g/n.",
        ),
        Mistake(
            "sign",
            _g / (_n * _h),
            "Sign flipped: a positive slope g pushes the minimum to the left.",
        ),
        Mistake(
            "n twice",
            -_g / (_n**2 * _h),
            "n is counted twice: the mean Hessian already has its 1/n.",
        ),
        Mistake(
            "n upside down",
            -_n * _g / _h,
            "n is on the wrong side: with more data, one example moves the minimum less.",
        ),
        Mistake(
            "deletion",
            -_g / ((_n - 1) * _h),
            "n − 1 belongs to a deletion. At β = 1 all n examples are present.",
        ),
    ],
    hints=[
        "The mean objective is stationary where (1/n) Σ β_i ∇L_i(w*) = 0. Differentiate in β_i.",
        "Hbar ∂w*/∂β_i + g/n = 0.",
    ],
)
