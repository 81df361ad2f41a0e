"""Wrong answers to the exercise on the derivation: {part id: {what went wrong: answer}}.

Written without a look at the catalogue of known mistakes.
"""

import sympy as sp
import torch
from torch.func import grad

from lib.objective import gradients, hessian

# --- (a), (e) formulas ---------------------------------------------------------------------------

n, rho, s, z, g, Hbar = sp.symbols("n rho s z g Hbar", positive=True)
w_star = s / (n + rho)

# --- (b) any model -------------------------------------------------------------------------------


def movement_not_turned(objective, w):
    return -torch.linalg.solve(hessian(objective, w), gradients(objective, w).T)


def movement_times_hessian(objective, w):
    return -gradients(objective, w) @ hessian(objective, w)


def movement_penalty_in_gradient(objective, w):
    pulls = gradients(objective, w) + objective.l2 * w
    return -torch.linalg.solve(hessian(objective, w), pulls.T).T


# --- (c) the chain rule --------------------------------------------------------------------------


def _movement(objective, w):
    return -torch.linalg.solve(hessian(objective, w), gradients(objective, w).T).T


def phi_two_solves(objective, w, phi):
    return _movement(objective, w) @ torch.linalg.solve(hessian(objective, w), grad(phi)(w))


def phi_difference(objective, w, phi):
    return torch.stack([phi(w + step) - phi(w) for step in _movement(objective, w)])


def phi_no_hessian(objective, w, phi):
    return -gradients(objective, w) @ grad(phi)(w)


WRONG = {
    "influence_derivation.part_a": {
        "differentiates only the numerator of w*, so that w* does not get subtracted from z": (
            z / (n + rho)
        ),
        "forgets the penalty altogether, in the minimum and in the Hessian": (z - s / n) / n,
        "puts the penalty's slope rho w* into the gradient of the one example": (
            (z - w_star - rho * w_star) / (n + rho)
        ),
    },
    "influence_derivation.part_b": {
        "returns shape (p, n): the solution of H X = G^T is not transposed back": (
            movement_not_turned
        ),
        "multiplies by H, not by its inverse": movement_times_hessian,
        "adds the penalty's slope rho w to the gradient of every example": (
            movement_penalty_in_gradient
        ),
    },
    "influence_derivation.part_c": {
        "applies the inverse Hessian twice": phi_two_solves,
        "takes phi(w + movement) - phi(w), a finite difference, for the derivative": (
            phi_difference
        ),
        "leaves out the Hessian: minus the plain product of the gradients": phi_no_hessian,
    },
    "influence_derivation.part_e": {
        "takes g for the pull of the example, forgetting its 1/n": -g / Hbar,
        "divides by n twice": -g / (n**2 * Hbar),
        "gives the effect of less weight: the sign": g / (n * Hbar),
    },
}
