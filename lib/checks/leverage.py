"""Exercise 02_leverage: linear regression, where influence and leave-one-out have closed forms."""

from functools import cache

import numpy as np
import sympy as sp
import torch

from lib.checks.engine import Choice, Formula, Function, Mistake, Number
from lib.data import figure_one
from lib.linear_regression import deletion_update, leverage, regression_influence
from lib.models import with_intercept
from lib.random_problems import regression


def _retrain(x, y, weights):
    """argmin Σ weights_i (y_i − wᵀx_i)², by a least-squares routine that knows no influence."""
    root = np.sqrt(np.asarray(weights))[:, None]
    return np.linalg.lstsq(root * x.numpy(), root[:, 0] * y.numpy(), rcond=None)[0]


def _fit(x, y):
    return _retrain(x, y, np.ones(len(x)))


def _weights(x, j, beta_j):
    weights = np.ones(len(x))
    weights[j] = beta_j
    return weights


def _parts(x, y, j):
    """A⁻¹x_j, r_j, h_j and A⁻¹ as arrays, the pieces that wrong formulas are made of."""
    x, y = x.numpy(), y.numpy()
    inverse = np.linalg.inv(x.T @ x)
    pull = inverse @ x[j]
    return pull, y[j] - x[j] @ inverse @ x.T @ y, x[j] @ pull, inverse


def _x_y_j(rng):
    """A regression well enough conditioned that any correct route gives the answer's digits."""
    while np.linalg.cond((c := regression(rng)).x) > 50:
        pass
    return c.x, c.y, c.j


def _x_y(rng):
    return _x_y_j(rng)[:2]


def _x_y_j_beta(rng):
    return *_x_y_j(rng), float(rng.uniform(0.1, 0.9))


def _linear(formula):
    """A mistake's formula in the pieces (pull, r, h, n) of example j."""

    def wrong(x, y, j, *rest):
        pull, r, h, _ = _parts(x, y, j)
        return formula(pull, r, h, len(x), *rest)

    return wrong


part_a = Function(
    "leverage.part_a",
    "the minimiser w* of ½ Σ (y_i − wᵀx_i)²",
    truth=_fit,
    cases=_x_y,
    mistakes=[
        Mistake(
            "no A",
            lambda x, y: x.T @ y,
            "This is Σ x_i y_i alone: solve the normal equations A w = Σ x_i y_i for w.",
        ),
        Mistake(
            "mean on one side",
            lambda x, y: _fit(x, y) / len(x),
            "Too small by exactly n: "
            "A is a sum over examples, so its right-hand side must be one too.",
        ),
        Mistake(
            "inputs one by one",
            lambda x, y: (x.T @ y) / (x * x).sum(0),
            "Each input is fitted alone here. A has off-diagonal entries: inputs share the work.",
        ),
        Mistake(
            "intercept",
            lambda x, y: _fit(x - x.mean(0), y - y.mean()),
            "This is the fit with an intercept, or on centred data. Here wᵀx has to do without.",
        ),
        Mistake(
            "sign",
            lambda x, y: -_fit(x, y),
            "Sign flipped: ∇L = A w − Σ x_i y_i, and it is zero at w*.",
        ),
    ],
    hints=[
        "Set ∇L(w) = −Σ x_i (y_i − x_iᵀw) to zero.",
        "A w = Σ x_i y_i, in matrices (x.T @ x) w = x.T @ y. Solve, do not invert.",
    ],
)


def _slope_in_beta(x, y, j, step=3e-4):
    up, down = (_retrain(x, y, _weights(x, j, 1 + s * step)) for s in (1, -1))
    return (up - down) / (2 * step)


part_b = Function(
    "leverage.part_b",
    "∂w*/∂β_j at β = 1 for the example j",
    truth=_slope_in_beta,
    cases=_x_y_j,
    rtol=1e-5,
    mistakes=[
        Mistake(
            "removal",
            _linear(lambda pull, r, h, n: -pull * r),
            "Sign flipped: this is the "
            "effect of removing z_j. Influence is the derivative for upweighting.",
        ),
        Mistake(
            "mean Hessian",
            _linear(lambda pull, r, h, n: n * pull * r),
            "Too large by exactly n: H here is the Hessian of the summed loss.",
        ),
        Mistake(
            "deletion",
            _linear(lambda pull, r, h, n: -pull * r / (1 - h)),
            "This is the "
            "whole effect of deleting z_j. Influence is its first-order part, of other sign: "
            "where does 1/(1 − h_j) come from?",
        ),
        Mistake(
            "deletion, sign",
            _linear(lambda pull, r, h, n: pull * r / (1 - h)),
            "Too large by 1/(1 − h_j), which gathers the higher orders of a whole deletion. At "
            "β = 1 z_j is still in: A sums over all n.",
        ),
        Mistake(
            "label for residual",
            lambda x, y, j: _parts(x, y, j)[0] * y[j].item(),
            "The gradient at z_j has the residual r_j in it, not the label y_j.",
        ),
        Mistake(
            "no Hessian",
            lambda x, y, j: x[j] * _parts(x, y, j)[1],
            "This is −∇L_j, the pull alone. How far the fit moves takes A⁻¹ as well.",
        ),
    ],
    hints=[
        "Differentiate the normal equations in β_j.",
        "Only two terms depend on β_j: β_j x_j x_jᵀ and β_j x_j y_j.",
        "A ∂w*/∂β_j = x_j (y_j − x_jᵀw*).",
    ],
)

part_c = Function(
    "leverage.part_c",
    "w*(β_j) − w*, exactly, when example j has weight β_j and the others 1",
    truth=lambda x, y, j, beta_j: _retrain(x, y, _weights(x, j, beta_j)) - _fit(x, y),
    cases=_x_y_j_beta,
    mistakes=[
        Mistake(
            "β for 1 − β",
            _linear(lambda pull, r, h, n, b: -b * pull * r / (1 - b * h)),
            "What is taken away from z_j is 1 − β_j, not β_j: at β_j = 1 nothing may change.",
        ),
        Mistake(
            "first order",
            _linear(lambda pull, r, h, n, b: -(1 - b) * pull * r),
            "This is the first-order part. Sherman–Morrison adds a denominator.",
        ),
        Mistake(
            "sign",
            _linear(lambda pull, r, h, n, b: (1 - b) * pull * r / (1 - (1 - b) * h)),
            "Sign flipped: less weight on z_j lets the fit move away from y_j.",
        ),
        Mistake(
            "deletion's denominator",
            _linear(lambda pull, r, h, n, b: -(1 - b) * pull * r / (1 - h)),
            "1 − h_j belongs to a full deletion. At weight β_j only 1 − β_j of "
            "x_j x_jᵀ is taken away.",
        ),
        Mistake(
            "plus below",
            _linear(lambda pull, r, h, n, b: -(1 - b) * pull * r / (1 + (1 - b) * h)),
            "The sign below is that of adding: Sherman–Morrison with "
            "A − (1 − β_j) x_j x_jᵀ has a minus there.",
        ),
        Mistake(
            "weight squared",
            lambda x, y, j, b: _retrain(x, y, _weights(x, j, b * b)) - _fit(x, y),
            "β_j multiplies the loss, not x_j and y_j: scaling both weights the loss by β_j².",
        ),
        Mistake(
            "not the change",
            lambda x, y, j, b: _retrain(x, y, _weights(x, j, b)),
            "This is w*(β_j) itself. The change w*(β_j) − w* is asked.",
        ),
        Mistake(
            "label for residual",
            lambda x, y, j, b: (
                -(1 - b) * _parts(x, y, j)[0] * y[j].item() / (1 - (1 - b) * _parts(x, y, j)[2])
            ),
            "The residual r_j = y_j − w*ᵀx_j belongs here, not the label y_j.",
        ),
        Mistake(
            "no factor",
            _linear(lambda pull, r, h, n, b: -pull * r / (1 - (1 - b) * h)),
            "A factor 1 − β_j is missing above: at β_j = 1 nothing may change.",
        ),
        Mistake(
            "second order",
            _linear(lambda pull, r, h, n, b: -(1 - b) * pull * r * (1 + (1 - b) * h)),
            "Right to second order in 1 − β_j. The exact change sums the whole series.",
        ),
        Mistake(
            "deletion",
            _linear(lambda pull, r, h, n, b: -pull * r / (1 - h)),
            "This is a full deletion, β_j = 0. The weight is β_j here.",
        ),
    ],
    hints=[
        "The weighted normal equations have A − (1 − β_j) x_j x_jᵀ on the left.",
        "Sherman–Morrison with u = −(1 − β_j) x_j and v = x_j.",
        "Numerator −(1 − β_j) A⁻¹x_j r_j, denominator 1 − (1 − β_j) h_j.",
    ],
)

_s, _h = sp.symbols("s h", positive=True)

part_d = Formula(
    "leverage.part_d",
    "what the first order leaves out, divided by the first order, in h and s = 1 − β_j",
    truth=_s * _h / (1 - _s * _h),
    domain={"s": (-0.9, 0.9), "h": (0.05, 0.95)},
    mistakes=[
        Mistake(
            "next term only",
            _s * _h,
            "sh is the second-order term over the first, or the rest over the whole. Sum the whole "
            "series, and divide its rest by the first term.",
        ),
        Mistake(
            "whole over first",
            1 / (1 - _s * _h),
            "That is everything divided by the first "
            "order. Take the first order away before dividing.",
        ),
        Mistake("at deletion", _h / (1 - _h), "Right at s = 1, a full deletion. Keep s."),
        Mistake(
            "sign below",
            _s * _h / (1 + _s * _h),
            "The sign below is flipped: sh + s²h² + … = sh/(1 − sh).",
        ),
        Mistake(
            "sign of the remainder",
            -_s * _h / (1 - _s * _h),
            "Sign flipped: over the first order the rest is +sh + s²h² + …, of the sign of s.",
        ),
        Mistake(
            "first over whole",
            1 - _s * _h,
            "That is the first order over everything: upside "
            "down, and with the first order not taken away.",
        ),
    ],
    hints=[
        "With s = 1 − β_j the change is −A⁻¹x_j r_j · s (1 + sh + s²h² + …).",
        "Remainder over first order: sh + s²h² + …, a geometric series.",
    ],
)

part_e = Function(
    "leverage.part_e",
    "the change of w* when z_j is deleted",
    truth=lambda x, y, j: (
        _fit(torch.cat([x[:j], x[j + 1 :]]), torch.cat([y[:j], y[j + 1 :]])) - _fit(x, y)
    ),
    cases=_x_y_j,
    mistakes=[
        Mistake(
            "label for residual",
            lambda x, y, j: -_parts(x, y, j)[0] * y[j].item() / (1 - _parts(x, y, j)[2]),
            "The residual r_j = y_j − w*ᵀx_j belongs here, not the label y_j.",
        ),
        Mistake(
            "not the change",
            lambda x, y, j: _retrain(x, y, _weights(x, j, 0.0)),
            "This is w* without z_j. The change is asked: subtract the w* of all examples.",
        ),
        Mistake(
            "first order",
            _linear(lambda pull, r, h, n: -pull * r),
            "This is minus the influence, the first-order part. Where does 1/(1 − h_j) come from?",
        ),
        Mistake(
            "sign",
            _linear(lambda pull, r, h, n: pull * r / (1 - h)),
            "Sign flipped: deleting z_j lets the fit move away from y_j.",
        ),
        Mistake(
            "influence",
            _linear(lambda pull, r, h, n: pull * r),
            "This is the influence: of "
            "opposite sign, and without the higher orders that 1/(1 − h_j) sums.",
        ),
        Mistake(
            "squared",
            _linear(lambda pull, r, h, n: -pull * r / (1 - h) ** 2),
            "One factor 1/(1 − h_j) too many: it stands squared in Cook's distance, not here.",
        ),
        Mistake(
            "plus",
            _linear(lambda pull, r, h, n: -pull * r / (1 + h)),
            "1 + h_j would be for adding a second copy of z_j. Deleting has 1 − h_j.",
        ),
        Mistake(
            "average leverage",
            lambda x, y, j: (
                -_parts(x, y, j)[0] * _parts(x, y, j)[1] / (1 - x.shape[1] / x.shape[0])
            ),
            "p/n is the average leverage. This example has its own, h_j = x_jᵀA⁻¹x_j.",
        ),
    ],
    hints=[
        "Set β_j = 0 in part (c).",
        "−A⁻¹x_j r_j / (1 − h_j).",
    ],
)


@cache
def share_predicted() -> float:
    """Influence over true leave-one-out effect on the slope, for point B of the figure."""
    x, y = figure_one()
    x = with_intercept(x[:, None])
    return float(-regression_influence(x, y)[-1, 1] / deletion_update(x, y)[-1, 1])


part_f = Number(
    "leverage.part_f",
    "the share of point B's true effect that influence predicts",
    truth=share_predicted,
    mistakes=[
        Mistake(
            "leverage",
            1 - share_predicted(),
            "That is the leverage itself: the share that influence misses.",
        ),
        Mistake(
            "upside down",
            1 / share_predicted(),
            "Upside down: influence predicts less than the true effect, not more.",
        ),
        Mistake(
            "percent",
            100 * share_predicted(),
            "Right in percent. Give the share as a number between 0 and 1.",
        ),
        Mistake(
            "exact",
            1.0,
            "That would need leverage zero, and B stands far out: what is its leverage?",
        ),
        Mistake(
            "half",
            0.5,
            "No rule makes it half: divide minus the influence, part "
            "(b), by the deletion, part (e).",
        ),
    ],
    hints=["Divide minus part (b) by part (e): what is left?", "1 − h_B."],
)


@cache
def _gap_far_away() -> str:
    """Whether leave-one-out minus its first-order prediction grows without bound as x_B does."""
    x, y = figure_one()
    gaps = []
    for far in (1e3, 1e5):
        moved = x.clone()
        moved[-1] = far
        design = with_intercept(moved[:, None])
        assert leverage(design)[-1] > 0.99
        gaps.append(abs(deletion_update(design, y) + regression_influence(design, y))[-1, 1])
    return "unbounded" if gaps[1] > 2 * gaps[0] else "bounded"


part_g = Choice(
    "leverage.part_g",
    "what the gap between the true and the predicted change of slope does as B moves away",
    truth=_gap_far_away,
    wrong={
        "unbounded": "The ratio 1/(1 − h) has no bound, but the residual shrinks as it grows: "
        "the line is pulled to B. Move B further and look at the gap itself.",
        "vanishes": "Influence goes to zero here, and leave-one-out does not: deleting B gives "
        "back the line of the other points. Compute the gap at x_B = 1000.",
    },
    hints=[
        "r_B/(1 − h_B) is the residual of B from the line fitted without B.",
        "So the deletion's effect on the slope tends to a constant, while influence tends to zero.",
    ],
)
