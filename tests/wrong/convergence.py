"""Wrong answers to "From unrolling to influence functions": {part id: {what went wrong: answer}}.

Written without a look at the catalogue of known mistakes.
"""

import sympy as sp
import torch

# --- (b) one step --------------------------------------------------------------------------------


def next_upweights(response, hessians, gradients, rate, batch, k):
    push = gradients[batch == k].sum(0) / len(batch)
    return response - rate * hessians.mean(0) @ response - rate * push


def next_hessian_without_k(response, hessians, gradients, rate, batch, k):
    b = len(batch)
    curvature = hessians[batch != k].sum(0) / b
    push = gradients[batch == k].sum(0) / b
    return response - rate * curvature @ response + rate * push


def next_push_not_divided(response, hessians, gradients, rate, batch, k):
    push = gradients[batch == k].sum(0)
    return response - rate * hessians.mean(0) @ response + rate * push


# --- (c) a window --------------------------------------------------------------------------------


def _window(hessian, gradient, step, steps):
    identity = torch.eye(len(hessian), dtype=hessian.dtype)
    kept = torch.linalg.matrix_power(identity - step * hessian, steps)
    return (identity - kept) @ torch.linalg.solve(hessian, gradient)


def window_summed_step(hessian, gradient, n, rate, steps):
    return _window(hessian, gradient, rate, steps)


def window_divided_again(hessian, gradient, n, rate, steps):
    return _window(hessian, gradient, rate / n, steps) / n


def window_one_too_many(hessian, gradient, n, rate, steps):
    identity = torch.eye(len(hessian), dtype=hessian.dtype)
    total, power = torch.zeros_like(hessian), identity
    for _ in range(steps + 1):
        total = total + power
        power = power @ (identity - rate / n * hessian)
    return rate / n * total @ gradient


# --- (d) the limit -------------------------------------------------------------------------------


def limit_influence(hessians, gradients, k):
    return -torch.linalg.solve(hessians.sum(0), gradients[k])


def limit_mean_hessian(hessians, gradients, k):
    return torch.linalg.solve(hessians.mean(0), gradients[k])


def limit_hessian_without_k(hessians, gradients, k):
    return torch.linalg.solve(hessians.sum(0) - hessians[k], gradients[k])


# --- (e) small enough ----------------------------------------------------------------------------


def bound_without_n(hessian, n):
    return 2 / torch.linalg.eigvalsh(hessian)[-1]


def bound_flattest(hessian, n):
    return 2 * n / torch.linalg.eigvalsh(hessian)[0]


def bound_no_overshoot(hessian, n):
    return n / torch.linalg.eigvalsh(hessian)[-1]


# --- (f), (g) one direction ----------------------------------------------------------------------

sigma, t, n = sp.symbols("sigma t n", positive=True)
g, r0 = sp.symbols("g r0")
rest = g / (n * sigma)
decay = sp.exp(-sigma * t)

# --- (h), (i) singular ---------------------------------------------------------------------------


def rest_not_divided(hessian_mean, gradient, n):
    return torch.linalg.pinv(hessian_mean, hermitian=True, rtol=1e-10) @ gradient


def rest_influence(hessian_mean, gradient, n):
    return -torch.linalg.pinv(hessian_mean, hermitian=True, rtol=1e-10) @ gradient / n


def rest_inverse(hessian_mean, gradient, n):
    return torch.linalg.inv(hessian_mean) @ gradient / n


def _parts(hessian_mean, gradient, n):
    values, vectors = torch.linalg.eigh(hessian_mean)
    flat = vectors[:, values < 1e-9 * values[-1]]
    at_rest = torch.linalg.pinv(hessian_mean, hermitian=True, rtol=1e-10) @ gradient / n
    return flat @ flat.T, at_rest


def flow_no_drift(hessian_mean, gradient, n, r0, t):
    _, at_rest = _parts(hessian_mean, gradient, n)
    return at_rest + torch.linalg.matrix_exp(-t * hessian_mean) @ (r0 - at_rest)


def flow_at_rest_at_once(hessian_mean, gradient, n, r0, t):
    p0, at_rest = _parts(hessian_mean, gradient, n)
    return at_rest + torch.linalg.matrix_exp(-t * hessian_mean) @ r0 + t * p0 @ gradient / n


def flow_flat_start_lost(hessian_mean, gradient, n, r0, t):
    values, v = torch.linalg.eigh(hessian_mean)
    start, push = v.T @ r0, v.T @ gradient / n
    flat = values < 1e-9 * values[-1]
    at_rest = push / torch.where(flat, 1.0, values)
    curved = at_rest + (start - at_rest) * torch.exp(-values * t)
    return v @ torch.where(flat, t * push, curved)


WRONG = {
    "convergence.part_b": {
        "has the push's sign for more weight on z_k": next_upweights,
        "leaves z_k out of the batch's mean Hessian": next_hessian_without_k,
        "forgets to divide the push by b": next_push_not_divided,
    },
    "convergence.part_c": {
        "forgets the 1/n of the step in the power: I - eta H": window_summed_step,
        "divides by n once more, with the summed Hessian": window_divided_again,
        "sums one term too many of the geometric series: K + 1 steps": window_one_too_many,
    },
    "convergence.part_d": {
        "gives the influence itself: the sign": limit_influence,
        "uses the mean Hessian, without dividing the gradient by n": limit_mean_hessian,
        "leaves the Hessian of z_k out of the sum": limit_hessian_without_k,
    },
    "convergence.part_e": {
        "forgets n: takes the step for one on the summed loss": bound_without_n,
        "takes the smallest eigenvalue for the largest": bound_flattest,
        "gives n/lambda_max, the bound for a decay without oscillation": bound_no_overshoot,
    },
    "convergence.part_f": {
        "does not let r0 decay": r0 + rest * (1 - decay),
        "starts from zero instead of r0": rest * (1 - decay),
        "forgets the 1/n of the push": g / sigma + (r0 - g / sigma) * decay,
    },
    "convergence.part_g": {
        "says that nothing happens: r stays at r0, the push forgotten": r0,
        "forgets the start r0": t * g / n,
        "forgets the 1/n of the push": r0 + t * g,
    },
    "convergence.part_h": {
        "forgets to divide by n, with the mean Hessian": rest_not_divided,
        "gives the influence itself: the sign": rest_influence,
        "inverts the singular matrix as it is, rounded zeros and all": rest_inverse,
    },
    "convergence.part_i": {
        "forgets the drift along the null space": flow_no_drift,
        "adds the point of rest at once, without its build-up": flow_at_rest_at_once,
        "loses the part of r0 in the null space": flow_flat_start_lost,
    },
}
