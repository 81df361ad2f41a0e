"""Wrong answers to the exercise on the power series: {part id: {what went wrong: answer}}.

Written without a look at the catalogue of known mistakes.
"""

import sympy as sp
import torch

from lib.objective import hessian

# --- (a) Laplace's Gaussian ----------------------------------------------------------------------


def laplace_all_tempered(objective, w, kappa, gamma):
    return torch.linalg.inv(kappa * (hessian(objective, w) + gamma * torch.eye(len(w))))


def laplace_precision(objective, w, kappa, gamma):
    return kappa * hessian(objective, w) + gamma * torch.eye(len(w))


def laplace_half_gamma(objective, w, kappa, gamma):
    return torch.linalg.inv(kappa * hessian(objective, w) + gamma / 2 * torch.eye(len(w)))


# --- (c) the first term --------------------------------------------------------------------------


def leading_covariance(f1, g, h):
    return g @ torch.linalg.solve(h, f1)


def leading_times_hessian(f1, g, h):
    return -g @ h @ f1


def leading_not_summed(f1, g, h):
    return -torch.linalg.solve(h, g.T).T * f1


# --- (d) four factors ----------------------------------------------------------------------------


def isserlis_one(sigma, a, b, c, d):
    return (a @ sigma @ b) * (c @ sigma @ d)


def isserlis_two(sigma, a, b, c, d):
    return (a @ sigma @ c) * (b @ sigma @ d) + (a @ sigma @ d) * (b @ sigma @ c)


def isserlis_inverse(sigma, a, b, c, d):
    def pair(u, v):
        return u @ torch.linalg.solve(sigma, v)

    return pair(a, b) * pair(c, d) + pair(a, c) * pair(b, d) + pair(a, d) * pair(b, c)


# --- (e) curvature against curvature -------------------------------------------------------------


def two_two_one_pairing(sigma, f2, g2):
    return torch.trace(f2 @ sigma @ g2 @ sigma) / 4


def two_two_not_centred(sigma, f2, g2):
    means = torch.trace(f2 @ sigma) * torch.trace(g2 @ sigma) / 4
    return means + torch.trace(f2 @ sigma @ g2 @ sigma) / 2


def two_two_entries(sigma, f2, g2):
    return ((f2 @ sigma) * (g2 @ sigma)).sum() / 2


# --- (f) to (h) formulas -------------------------------------------------------------------------

kappa, f1, f2, f3, g1, g2, g3, h = sp.symbols("kappa f1 f2 f3 g1 g2 g3 h")
l3, l4 = sp.symbols("l3 l4")

# --- (i) where the series ends -------------------------------------------------------------------


def _regression(x, y, sigma, tau, x_t, y_t):
    """The residuals, the one of the test point, and s_j = x_j^T V x_t."""
    precision = x.T @ x / sigma**2 + torch.eye(x.shape[1], dtype=x.dtype) / tau**2
    mean = torch.linalg.solve(precision, x.T @ y / sigma**2)
    return y - x @ mean, y_t - x_t @ mean, x @ torch.linalg.solve(precision, x_t)


def loss_bif_slopes(x, y, sigma, tau, x_t, y_t):
    r, r_t, s = _regression(x, y, sigma, tau, x_t, y_t)
    return -r * r_t * s / sigma**2


def loss_bif_no_half(x, y, sigma, tau, x_t, y_t):
    r, r_t, s = _regression(x, y, sigma, tau, x_t, y_t)
    return -(r * r_t * s + s**2) / sigma**2


def loss_bif_no_prior(x, y, sigma, tau, x_t, y_t):
    a = x.T @ x / sigma**2
    mean = torch.linalg.solve(a, x.T @ y / sigma**2)
    s = x @ torch.linalg.solve(a, x_t)
    return -((y - x @ mean) * (y_t - x_t @ mean) * s + s**2 / 2) / sigma**2


WRONG = {
    "power_series.part_a": {
        "lets kappa temper the localisation as well, kappa (H + gamma I)": laplace_all_tempered,
        "returns the precision, not its inverse": laplace_precision,
        "takes gamma/2 for the second derivative of the localisation": laplace_half_gamma,
    },
    "power_series.part_c": {
        "gives the covariance, not minus it: the sign": leading_covariance,
        "multiplies by H, not by its inverse": leading_times_hessian,
        "does not sum over the parameters: shape (n, p)": leading_not_summed,
    },
    "power_series.part_d": {
        "takes only the pairing (ab)(cd)": isserlis_one,
        "leaves out the pairing (ab)(cd), as in a covariance": isserlis_two,
        "takes sigma for the precision and inverts it": isserlis_inverse,
    },
    "power_series.part_e": {
        "counts one of the two crossed pairings: 1/4 for 1/2": two_two_one_pairing,
        "gives the mean of the product, not taking away the product of the means": (
            two_two_not_centred
        ),
        "multiplies f2 sigma and g2 sigma entry by entry, without transposing one of them": (
            two_two_entries
        ),
    },
    "power_series.part_f": {
        "takes only the two curvatures, forgetting (1,3) and (3,1)": (
            -f2 * g2 / (2 * kappa * h**2)
        ),
        "does not take the product of the means from (2,2): 3/4 f2 g2 for 1/2 f2 g2": (
            -(3 * f2 * g2 / 4 + f1 * g3 / 2 + f3 * g1 / 2) / (kappa * h**2)
        ),
        "takes 1/h for the variance, not 1/(kappa h)": (
            -kappa * (f2 * g2 + f1 * g3 + f3 * g1) / (2 * h**2)
        ),
    },
    "power_series.part_g": {
        "takes E[delta^3]/2 for the covariance, without subtracting E[delta] E[delta^2]/2": (
            5 * l3 * (f1 * g2 + f2 * g1) / (4 * kappa * h**3)
        ),
        "counts only the shift of the mean, half of the answer": (
            l3 * (f1 * g2 + f2 * g1) / (2 * kappa * h**3)
        ),
        "gives the covariance, not times -kappa": -l3 * (f1 * g2 + f2 * g1) / (kappa**2 * h**3),
    },
    "power_series.part_h": {
        "takes the density to first order only, so that no l3^2 occurs": (
            f1 * g1 * l4 / (2 * kappa * h**3)
        ),
        "gives E[delta^2], not taking E[delta]^2 away: 5/4 l3^2": (
            -f1 * g1 * (5 * l3**2 / (4 * h**4) - l4 / (2 * h**3)) / kappa
        ),
        "does not divide by the normaliser": (
            -f1
            * g1
            * ((sp.Rational(35, 24) - sp.Rational(1, 4)) * l3**2 / h**4 - 5 * l4 / (8 * h**3))
            / kappa
        ),
    },
    "power_series.part_i": {
        "keeps the slopes only, forgetting the curvatures' s^2/2": loss_bif_slopes,
        "forgets the 1/2 of s^2/2": loss_bif_no_half,
        "forgets the prior, in the mean and in the covariance": loss_bif_no_prior,
    },
}
