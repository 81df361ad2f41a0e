"""Wrong answers to the exercise on Langevin dynamics: {part id: {what went wrong: answer}}.

Written without a look at the catalogue of known mistakes.
"""

import scipy.optimize
import sympy as sp
import torch

# --- (a) one step --------------------------------------------------------------------------------


def step_full_drift(w, gradient, step, xi):
    return w - step * gradient + step**0.5 * xi


def step_noise_without_root(w, gradient, step, xi):
    return w - 0.5 * step * gradient + step * xi


def step_noise_of_two_steps(w, gradient, step, xi):
    return w - 0.5 * step * gradient + (2 * step) ** 0.5 * xi


# --- (b) a mini-batch ----------------------------------------------------------------------------


def batch_mean(x, y, w, rows, kappa, gamma, centre):
    residual = y[rows] - x[rows] @ w
    of_losses = -residual @ x[rows] / len(rows)
    return kappa * of_losses + gamma * (w - centre)


def batch_scales_restraint(x, y, w, rows, kappa, gamma, centre):
    of_losses = -(y[rows] - x[rows] @ w) @ x[rows]
    return len(x) / len(rows) * (kappa * of_losses + gamma * (w - centre))


def batch_residual_sign(x, y, w, rows, kappa, gamma, centre):
    of_losses = len(x) / len(rows) * (y[rows] - x[rows] @ w) @ x[rows]
    return kappa * of_losses + gamma * (w - centre)


# --- (c), (d) variances --------------------------------------------------------------------------

h, eta, S = sp.symbols("h eta S", positive=True)
keep = 1 - eta * h / 2

# --- (e) the sampler -----------------------------------------------------------------------------


def sampler_gradient_of_start(gradient, w0, step, noise):
    w, states, slope = w0, [], gradient(w0)
    for xi in noise:
        w = w - 0.5 * step * slope + step**0.5 * xi
        states.append(w)
    return torch.stack(states)


def sampler_state_before(gradient, w0, step, noise):
    w, states = w0, []
    for xi in noise:
        states.append(w)
        w = w - 0.5 * step * gradient(w) + step**0.5 * xi
    return torch.stack(states)


def sampler_in_place(gradient, w0, step, noise):
    w, states = w0.clone(), []
    for xi in noise:
        w -= 0.5 * step * gradient(w)
        w += step**0.5 * xi
        states.append(w)
    return torch.stack(states)


# --- (g) how hard to hold ------------------------------------------------------------------------


def _solved(precision, spread):
    p = len(precision)
    return scipy.optimize.brentq(
        lambda gamma: float((1 / (precision + gamma)).sum()) - spread,
        0.1 / spread,
        2 * p / spread,
        xtol=1e-15,
        rtol=1e-13,
    )


def hold_radius_not_squared(eigenvalues, kappa, radius):
    return _solved(kappa * eigenvalues, radius)


def hold_without_kappa(eigenvalues, kappa, radius):
    return _solved(eigenvalues, radius**2)


def hold_all_flat(eigenvalues, kappa, radius):
    return len(eigenvalues) / radius**2


# --- (h) the estimate and its error --------------------------------------------------------------


def _products(losses, phi, kappa):
    chains, total = len(phi), phi.numel()
    each = (losses - losses.mean((0, 1))) * (phi - phi.mean())[:, :, None]
    return -kappa * chains / (total - 1) * each.sum(1)


def estimate_population(losses, phi, kappa):
    b = _products(losses, phi, kappa)
    return b.mean(0), b.std(0, unbiased=False) / len(b) ** 0.5


def estimate_spread(losses, phi, kappa):
    b = _products(losses, phi, kappa)
    return b.mean(0), b.std(0)


def estimate_own_means(losses, phi, kappa):
    chains, total = len(phi), phi.numel()
    each = (losses - losses.mean(1, keepdim=True)) * (phi - phi.mean(1, keepdim=True))[:, :, None]
    b = -kappa * chains / (total - 1) * each.sum(1)
    return b.mean(0), b.std(0) / chains**0.5


WRONG = {
    "sgld.part_a": {
        "drifts by eta times the gradient, without the half": step_full_drift,
        "scales the noise by eta instead of its root": step_noise_without_root,
        "scales the noise by sqrt(2 eta), beside a drift of half eta": step_noise_of_two_steps,
    },
    "sgld.part_b": {
        "takes the batch's mean for the sum over all n: the factor n is missing": batch_mean,
        "scales the restraint by n/m as well": batch_scales_restraint,
        "has the wrong sign in the gradient of the losses, not in the restraint": (
            batch_residual_sign
        ),
    },
    "sgld.part_c": {
        "uses the drift eta h without its half, so 1 - eta h for the factor": (
            eta / (1 - (1 - eta * h) ** 2)
        ),
        "does not square the factor 1 - eta h/2 in the balance of variances": eta / (1 - keep),
        "gives the first order in eta only": (1 + eta * h / 4) / h,
    },
    "sgld.part_d": {
        "adds the variance eta^2 S to a step, without the 1/4": (
            (eta + eta**2 * S) / (1 - keep**2)
        ),
        "leaves out the widening of (c), as if without S the variance were 1/h": (
            (1 + eta * S / 4) / h
        ),
        "adds the variance eta S/2, the factor eta/2 of the noise not squared": (
            (eta + eta * S / 2) / (1 - keep**2)
        ),
    },
    "sgld.part_e": {
        "uses the gradient at the start w0 in every step": sampler_gradient_of_start,
        "stores the state before each step, not after it": sampler_state_before,
        "changes w in place, so that every row is the last state": sampler_in_place,
    },
    "sgld.part_g": {
        "sets the spread equal to R instead of R squared": hold_radius_not_squared,
        "leaves kappa out of the precision": hold_without_kappa,
        "gives p/R^2, as if all directions were flat": hold_all_flat,
    },
    "sgld.part_h": {
        "divides by C instead of C - 1 in the variance between chains": estimate_population,
        "gives the standard deviation of the b_c, not divided by sqrt(C)": estimate_spread,
        "centres each chain on its own means": estimate_own_means,
    },
}
