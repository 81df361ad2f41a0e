"""Wrong answers to the exercise on influence as transport: {part id: {what went wrong: answer}}.

Written without a look at the catalogue of known mistakes.
"""

import sympy as sp
import torch

# --- (a) the cost of a shift ---------------------------------------------------------------------


def kl_no_normaliser(w, weights, loss, loss_k, kappa, epsilon, r):
    moved = w + epsilon * r
    return kappa * weights @ (loss(moved) - epsilon * loss_k(moved) - loss(w))


def kl_loss_k_not_moved(w, weights, loss, loss_k, kappa, epsilon, r):
    gained = weights @ (loss(w + epsilon * r) - epsilon * loss_k(w) - loss(w))
    return kappa * gained + (weights @ torch.exp(kappa * epsilon * loss_k(w))).log()


def kl_upweighted(w, weights, loss, loss_k, kappa, epsilon, r):
    moved = w + epsilon * r
    gained = weights @ (loss(moved) + epsilon * loss_k(moved) - loss(w))
    return kappa * gained + (weights @ torch.exp(-kappa * epsilon * loss_k(w))).log()


# --- (b), (c), (h) formulas ----------------------------------------------------------------------

epsilon, l, g, h, r = sp.symbols("epsilon l g h r")

# --- (e) the best shift --------------------------------------------------------------------------


def _precision_and_mean(x, y, sigma, tau):
    precision = x.T @ x / sigma**2 + torch.eye(x.shape[1], dtype=x.dtype) / tau**2
    return precision, torch.linalg.solve(precision, x.T @ y / sigma**2)


def best_influence(x, y, sigma, tau, k):
    precision, mean = _precision_and_mean(x, y, sigma, tau)
    return torch.linalg.solve(precision, x[k] * (y[k] - x[k] @ mean) / sigma**2)


def best_left_out(x, y, sigma, tau, k):
    keep = torch.arange(len(y)) != k
    without = _precision_and_mean(x[keep], y[keep], sigma, tau)[1]
    return without - _precision_and_mean(x, y, sigma, tau)[1]


def best_no_kappa(x, y, sigma, tau, k):
    precision, mean = _precision_and_mean(x, y, sigma, tau)
    return torch.linalg.solve(precision, -(y[k] - x[k] @ mean) * x[k])


# --- (f) two Gaussians ---------------------------------------------------------------------------


def gauss_no_dimension(mean_q, cov_q, mean_p, cov_p):
    gap = mean_p - mean_q
    inverse = torch.linalg.inv(cov_p)
    return 0.5 * ((inverse @ cov_q).trace() + gap @ inverse @ gap + cov_p.logdet() - cov_q.logdet())


def gauss_reversed(mean_q, cov_q, mean_p, cov_p):
    gap = mean_p - mean_q
    inverse = torch.linalg.inv(cov_q)
    logs = cov_q.logdet() - cov_p.logdet()
    return 0.5 * ((inverse @ cov_p).trace() - len(gap) + gap @ inverse @ gap + logs)


def gauss_determinants_swapped(mean_q, cov_q, mean_p, cov_p):
    gap = mean_p - mean_q
    inverse = torch.linalg.inv(cov_p)
    logs = cov_q.logdet() - cov_p.logdet()
    return 0.5 * ((inverse @ cov_q).trace() - len(gap) + gap @ inverse @ gap + logs)


WRONG = {
    "transport.part_a": {
        "forgets the normalisers, log(Z_eps/Z)": kl_no_normaliser,
        "takes L_k at the draws before the shift": kl_loss_k_not_moved,
        "adds weight to z_k instead of taking it, eps for -eps throughout": kl_upweighted,
    },
    "transport.part_b": {
        "forgets the half of the second-order term": epsilon * l + epsilon**2 * g**2 / h,
        "gives the mean of eps L_k at the minimum, eps l, without the second order": epsilon * l,
        "forgets the minus of Laplace's method: gives the infimum itself": (
            -epsilon * l - epsilon**2 * g**2 / (2 * h)
        ),
    },
    "transport.part_c": {
        "leaves out the normaliser's second-order term eps^2 g^2/(2h)": (
            epsilon**2 * h * r**2 / 2 - epsilon**2 * g * r
        ),
        "has the best shift at -g/h, the influence itself": epsilon**2 * h * (r + g / h) ** 2 / 2,
        "takes r for the whole displacement, in place of eps r": h * (r - epsilon * g / h) ** 2 / 2,
    },
    "transport.part_e": {
        "gives the influence itself, the shift for more weight: the sign": best_influence,
        "removes z_k whole: the mean without z_k less the mean": best_left_out,
        "forgets 1/sigma^2 in the slope of the energy of z_k": best_no_kappa,
    },
    "transport.part_f": {
        "forgets the - d": gauss_no_dimension,
        "gives the divergence of p from q, the two exchanged": gauss_reversed,
        "has the log-determinants the wrong way round": gauss_determinants_swapped,
    },
    "transport.part_h": {
        "takes the page's loss w^4/4 in place of w^6/6": (
            sp.Rational(3, 4) * epsilon ** sp.Rational(4, 3)
        ),
        "takes only the term eps w at the minimum and forgets w^6/6 there": (
            epsilon ** sp.Rational(6, 5)
        ),
        "gives the lowest value itself, not the height above it: the sign": (
            -sp.Rational(5, 6) * epsilon ** sp.Rational(6, 5)
        ),
    },
}
