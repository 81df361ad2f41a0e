"""Wrong answers to the exercise on the covariance: {part id: {what went wrong: answer}}.

Written without a look at the catalogue of known mistakes.
"""

import sympy as sp
import torch

# --- (a) the posterior ---------------------------------------------------------------------------


def posterior_tempered_prior(losses, beta, log_prior, kappa):
    return torch.softmax(kappa * (log_prior - losses @ beta), dim=0)


def posterior_no_prior(losses, beta, log_prior, kappa):
    return torch.softmax(-kappa * losses @ beta, dim=0)


def posterior_not_normalised(losses, beta, log_prior, kappa):
    return torch.exp(log_prior - kappa * losses @ beta)


# --- (b) the derivative --------------------------------------------------------------------------


def bif_not_centred(losses, phi, weights, kappa):
    return -kappa * (weights * phi) @ losses


def bif_no_kappa(losses, phi, weights, kappa):
    return -(weights * (phi - weights @ phi)) @ losses


def bif_plain_means(losses, phi, weights, kappa):
    return -kappa * (weights * (phi - phi.mean())) @ (losses - losses.mean(0))


# --- (c), (d) formulas ---------------------------------------------------------------------------

kappa, n, rho, s, z, mu, v = sp.symbols("kappa n rho s z mu v")
precision = kappa * n + rho

# --- (e) regression with a prior -----------------------------------------------------------------


def _regression(x, y, noise, prior):
    """The posterior's precision and mean, from two variances."""
    p = x.T @ x / noise + torch.eye(x.shape[1], dtype=x.dtype) / prior
    return p, torch.linalg.solve(p, x.T @ y / noise)


def rbif_no_kappa(x, y, sigma, tau):
    p, mean = _regression(x, y, sigma**2, tau**2)
    return torch.linalg.solve(p, (x * (y - x @ mean)[:, None]).T).T


def rbif_least_squares_residual(x, y, sigma, tau):
    p, _ = _regression(x, y, sigma**2, tau**2)
    residual = y - x @ torch.linalg.lstsq(x, y[:, None]).solution[:, 0]
    return torch.linalg.solve(p, (x * residual[:, None]).T).T / sigma**2


def rbif_not_squared(x, y, sigma, tau):
    p, mean = _regression(x, y, sigma, tau)
    return torch.linalg.solve(p, (x * (y - x @ mean)[:, None]).T).T / sigma


# --- (g) leave one out ---------------------------------------------------------------------------


def loo_first_order(losses, phi, weights, kappa):
    return kappa * (weights * (phi - weights @ phi)) @ losses


def loo_counted_twice(losses, phi, weights, kappa):
    q = weights[:, None] * torch.exp(-kappa * losses)
    return phi @ q / q.sum(dim=0) - weights @ phi


def loo_not_normalised(losses, phi, weights, kappa):
    return phi @ (weights[:, None] * torch.exp(kappa * losses)) - weights @ phi


WRONG = {
    "bif_covariance.part_a": {
        "lets kappa temper the prior as well": posterior_tempered_prior,
        "forgets the prior": posterior_no_prior,
        "does not normalise": posterior_not_normalised,
    },
    "bif_covariance.part_b": {
        "does not centre: -kappa E[L_i phi]": bif_not_centred,
        "forgets kappa": bif_no_kappa,
        "centres at means that ignore the weights": bif_plain_means,
    },
    "bif_covariance.part_c": {
        "forgets the kappa in front of the covariance": (z - kappa * s / precision) / precision,
        "takes the mean of the data, s/n, for the posterior's": kappa * (z - s / n) / precision,
        "lets kappa temper the prior as well: n + rho for n + rho/kappa": (
            (z - s / (n + rho)) / (n + rho)
        ),
    },
    "bif_covariance.part_d": {
        "takes slope times slope times variance only, forgetting the v^2 of the curvatures": (
            -2 * kappa * mu * (mu - z) * v
        ),
        "takes E[d^4]/2 = 3 v^2/2 for Cov(d^2/2, d^2), forgetting to subtract the means": (
            -kappa * (sp.Rational(3, 2) * v**2 + 2 * mu * (mu - z) * v)
        ),
        "takes mu for the slope of w^2, forgetting the 2": -kappa * (v**2 + mu * (mu - z) * v),
    },
    "bif_covariance.part_e": {
        "forgets kappa = 1/sigma^2 in front of the covariance": rbif_no_kappa,
        "takes the residuals of least squares without the prior": rbif_least_squares_residual,
        "takes sigma and tau for variances: does not square them": rbif_not_squared,
    },
    "bif_covariance.part_g": {
        "gives minus the BIF, the first order only": loo_first_order,
        "multiplies by exp(-kappa L_i), so counts the example twice": loo_counted_twice,
        "does not normalise after dividing the example's factor out": loo_not_normalised,
    },
}
