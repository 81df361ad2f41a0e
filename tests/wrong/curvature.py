"""Wrong answers to the exercise on curvature: {part id: {what went wrong: answer}}.

Written without a look at the catalogue of known mistakes.
"""

import sympy as sp
import torch
from torch.func import grad

from lib.objective import gradients, hessian, output_hessians, output_jacobians

# --- (a) Gauss-Newton ----------------------------------------------------------------------------


def _gauss_newton(objective, w):
    j, bends = output_jacobians(objective, w), output_hessians(objective, w)
    return torch.einsum("ncp,ncd,ndq->pq", j, bends, j)


def gauss_newton_mean(objective, w):
    return _gauss_newton(objective, w) / objective.n


def gauss_newton_no_loss(objective, w):
    j = output_jacobians(objective, w)
    return torch.einsum("ncp,ncq->pq", j, j)


def gauss_newton_of_gradients(objective, w):
    g = gradients(objective, w)
    return g.T @ g


# --- (b) what G leaves out -----------------------------------------------------------------------

w, x, y = sp.symbols("w x y", real=True)
f = sp.exp(w * x)

# --- (d) the damped formula ----------------------------------------------------------------------


def _damped(objective, w, phi, matrix):
    return -gradients(objective, w) @ torch.linalg.solve(matrix, grad(phi)(w))


def damped_hessian(objective, w, phi, lam):
    eye = torch.eye(len(w), dtype=w.dtype)
    return _damped(objective, w, phi, hessian(objective, w) + lam * eye)


def damped_mean(objective, w, phi, lam):
    eye = torch.eye(len(w), dtype=w.dtype)
    return _damped(objective, w, phi, gauss_newton_mean(objective, w) + lam * eye)


def damped_everywhere(objective, w, phi, lam):
    return _damped(objective, w, phi, _gauss_newton(objective, w) + lam)


WRONG = {
    "curvature.part_a": {
        "takes the mean over the examples, not the sum": gauss_newton_mean,
        "leaves out the loss's Hessian in the outputs: the sum of J^T J": gauss_newton_no_loss,
        "sums outer products of the loss gradients (the empirical Fisher matrix)": (
            gauss_newton_of_gradients
        ),
    },
    "curvature.part_b": {
        "gives H, without subtracting G": x**2 * f * (2 * f - y),
        "differentiates f once, not twice: the residual times f', which is the gradient": (
            (f - y) * x * f
        ),
        "takes the residual as y - f: the sign": (y - f) * x**2 * f,
    },
    "curvature.part_d": {
        "uses the Hessian H for G": damped_hessian,
        "takes the mean over the examples in G, not the sum": damped_mean,
        "adds lam to every entry of G, not to the diagonal only": damped_everywhere,
    },
}
