"""Exercise 03_bif_covariance: the derivative of a posterior mean is a covariance."""

from collections.abc import Callable
from functools import cache

import numpy as np
import sympy as sp
import torch

from lib.checks.engine import Choice, Formula, Function, Mistake
from lib.random_problems import regression


def in_numpy(formula: Callable) -> Callable:
    """A mistake's formula, which is handed arrays in place of tensors."""

    def wrong(*args):
        return formula(*(a.numpy() if isinstance(a, torch.Tensor) else a for a in args))

    return wrong


def not_near_one(rng: np.random.Generator) -> float:
    """A temperature or a scale at which a forgotten or inverted factor shows."""
    return float(rng.uniform(0.4, 0.75) if rng.random() < 0.5 else rng.uniform(1.4, 2.2))


def _grid_case(rng: np.random.Generator) -> tuple:
    m, n = int(rng.integers(14, 25)), int(rng.integers(3, 7))
    losses = torch.from_numpy(rng.uniform(0.1, 2.0, (m, n)))
    beta = torch.from_numpy(rng.uniform(0.2, 0.8, n) + (rng.random(n) < 0.5))
    log_prior = torch.from_numpy(rng.standard_normal(m) - rng.uniform(0.5, 2.0))
    return losses, beta, log_prior, not_near_one(rng)


def _one_after_another(losses, beta, log_prior, kappa):
    """Bayes' rule example by example: what comes out of one is the prior of the next."""
    belief = np.exp(log_prior.numpy())
    for loss, b in zip(losses.numpy().T, beta.numpy(), strict=True):
        belief = belief / np.exp(loss) ** (kappa * b)
        belief = belief / belief.sum()
    return belief


def _softmax(logs: np.ndarray) -> np.ndarray:
    p = np.exp(logs - logs.max(axis=0))
    return p / p.sum(axis=0)


part_a = Function(
    "bif_covariance.part_a",
    "the probabilities of m parameters under the Gibbs posterior",
    truth=_one_after_another,
    cases=_grid_case,
    n=lambda args: len(args[1]),
    mistakes=[
        Mistake(
            "sign",
            in_numpy(lambda losses, beta, prior, kappa: _softmax(kappa * losses @ beta + prior)),
            "Sign flipped in the exponent: a parameter is the less probable the higher its loss.",
        ),
        Mistake(
            "not normalised",
            in_numpy(lambda losses, beta, prior, kappa: np.exp(prior - kappa * losses @ beta)),
            "Not yet probabilities: they must sum to one, so divide by their sum Z(β).",
        ),
        Mistake(
            "largest is one",
            in_numpy(
                lambda losses, beta, prior, kappa: np.exp(
                    (logs := prior - kappa * losses @ beta) - logs.max()
                )
            ),
            "Taking away the largest exponent avoids overflow, but the sum must still become one.",
        ),
        Mistake(
            "logarithms",
            in_numpy(
                lambda losses, beta, prior, kappa: np.log(_softmax(prior - kappa * losses @ beta))
            ),
            "These are the logarithms of the probabilities.",
        ),
        Mistake(
            "no beta",
            in_numpy(
                lambda losses, beta, prior, kappa: _softmax(prior - kappa * losses.sum(axis=1))
            ),
            "This is the posterior at β = 1. Each loss has its own weight β_i.",
        ),
        Mistake(
            "no kappa",
            in_numpy(lambda losses, beta, prior, kappa: _softmax(prior - losses @ beta)),
            "This is the posterior at κ = 1. The inverse temperature multiplies the losses.",
        ),
        Mistake(
            "temperature",
            in_numpy(lambda losses, beta, prior, kappa: _softmax(prior - losses @ beta / kappa)),
            "κ is the inverse of a temperature: the losses are multiplied by it, not divided.",
        ),
        Mistake(
            "tempered prior",
            in_numpy(lambda losses, beta, prior, kappa: _softmax(kappa * (prior - losses @ beta))),
            "κ multiplies the losses only. Here it tempers the prior as well.",
        ),
        Mistake(
            "no prior",
            in_numpy(lambda losses, beta, prior, kappa: _softmax(-kappa * losses @ beta)),
            "The prior is missing: ϱ(w) multiplies the exponential.",
        ),
        Mistake(
            "prior's sign",
            in_numpy(lambda losses, beta, prior, kappa: _softmax(-prior - kappa * losses @ beta)),
            "This divides by the prior: log ϱ is added in the exponent, while losses are "
            "subtracted.",
        ),
        Mistake(
            "logarithm for prior",
            in_numpy(
                lambda losses, beta, prior, kappa: (
                    (p := prior * _softmax(-kappa * losses @ beta)) / p.sum()
                )
            ),
            "This multiplies by log ϱ. The prior density itself is e^(log ϱ).",
        ),
        Mistake(
            "mean loss",
            in_numpy(
                lambda losses, beta, prior, kappa: _softmax(
                    prior - kappa * losses @ beta / len(beta)
                )
            ),
            "The losses are added up, not averaged: the more examples, the sharper the posterior.",
        ),
    ],
    hints=[
        "p_β(w) ∝ exp(−κ Σ β_i L_i(w)) ϱ(w), one number for every row. Then make them sum to one.",
        "torch.softmax(exponent, dim=0) normalises, and does not overflow.",
        "The exponent is log_prior − kappa * losses @ beta.",
    ],
)


def _posterior_case(rng: np.random.Generator) -> tuple:
    losses, _, log_prior, kappa = _grid_case(rng)
    m, n = losses.shape
    weights = _one_after_another(losses, torch.ones(n), log_prior, kappa)
    phi = 2 * rng.standard_normal(m) + rng.choice([-1, 1]) * rng.uniform(0.5, 1.5)
    return losses, torch.from_numpy(phi), torch.from_numpy(weights), kappa


def _reweighted(losses, phi, weights, change):
    """E[φ] after each example's exponent has changed by `change` times its loss, shape (n,)."""
    p = weights[:, None] * np.exp(change * losses)
    return (phi @ p) / p.sum(axis=0)


def _bif_by_differences(losses, phi, weights, kappa, step=1e-4):
    data = losses.numpy(), phi.numpy(), weights.numpy()
    up, down = (_reweighted(*data, -kappa * s * step) for s in (1, -1))
    return (up - down) / (2 * step)


def _covariance(losses, phi, weights):
    return (weights * (phi - weights @ phi)) @ losses


def _spread(values, weights):
    """The variance of each column."""
    return weights @ (values - weights @ values) ** 2


part_b = Function(
    "bif_covariance.part_b",
    "the BIF of every example on φ, from probabilities on m points",
    truth=_bif_by_differences,
    cases=_posterior_case,
    n=lambda args: args[0].shape[1],
    mistakes=[
        Mistake(
            "sign",
            in_numpy(lambda losses, phi, p, kappa: kappa * _covariance(losses, phi, p)),
            "Sign flipped: more weight on z_i makes parameters with a high L_i rarer, hence the "
            "minus.",
        ),
        Mistake(
            "no kappa",
            in_numpy(lambda losses, phi, p, kappa: -_covariance(losses, phi, p)),
            "κ is missing: β_i stands in the exponent as κ β_i L_i, so its derivative brings κ "
            "down.",
        ),
        Mistake(
            "no kappa, sign",
            in_numpy(lambda losses, phi, p, kappa: _covariance(losses, phi, p)),
            "The plain covariance: −κ in front of it is missing. Differentiate the exponent.",
        ),
        Mistake(
            "kappa below",
            in_numpy(lambda losses, phi, p, kappa: -_covariance(losses, phi, p) / kappa),
            "κ is on the wrong side: the derivative of −κ β_i L_i in β_i is −κ L_i.",
        ),
        Mistake(
            "uncentred",
            in_numpy(lambda losses, phi, p, kappa: -kappa * (p * phi) @ losses),
            "E[L_i φ] is only one of two terms. Z(β) depends on β_i too, and brings + κ E[L_i] "
            "E[φ].",
        ),
        Mistake(
            "log Z",
            in_numpy(lambda losses, phi, p, kappa: -kappa * p @ losses),
            "−κ E[L_i] is the derivative of log Z(β). φ has to come in: differentiate E[φ].",
        ),
        Mistake(
            "product of means",
            in_numpy(lambda losses, phi, p, kappa: -kappa * (p @ phi) * (p @ losses)),
            "−κ E[L_i] E[φ]: the mean of the product is missing, and this term has the other sign.",
        ),
        Mistake(
            "equal weights",
            in_numpy(
                lambda losses, phi, p, kappa: (
                    -kappa * _covariance(losses, phi, np.full(len(p), 1 / len(p)))
                )
            ),
            "Every point counts alike here. E is the average under the probabilities `weights`.",
        ),
        Mistake(
            "sample covariance",
            in_numpy(
                lambda losses, phi, p, kappa: (
                    -kappa * (phi - phi.mean()) @ (losses - losses.mean(axis=0)) / (len(phi) - 1)
                )
            ),
            "This is the covariance of draws, all alike and over m − 1. These points carry "
            "probabilities.",
        ),
        Mistake(
            "m - 1",
            in_numpy(
                lambda losses, phi, p, kappa: (
                    -kappa * len(p) / (len(p) - 1) * _covariance(losses, phi, p)
                )
            ),
            "Too large by m/(m − 1): that corrects means estimated from draws. Here they are "
            "exact.",
        ),
        Mistake(
            "np.cov",
            in_numpy(
                lambda losses, phi, p, kappa: -kappa * _covariance(losses, phi, p) / (1 - p @ p)
            ),
            "Too large by 1/(1 − Σ p²), which np.cov puts there for draws. Probabilities are "
            "exact: ddof=0.",
        ),
        Mistake(
            "mean of weighted",
            in_numpy(lambda losses, phi, p, kappa: -kappa * _covariance(losses, phi, p) / len(p)),
            "Too small by exactly m: the probabilities sum to one already, so add, do not average.",
        ),
        Mistake(
            "plain means",
            in_numpy(
                lambda losses, phi, p, kappa: (
                    -kappa * (p * (phi - phi.mean())) @ (losses - losses.mean(axis=0))
                )
            ),
            "Centred about plain means. The means in a covariance are taken under `weights` too.",
        ),
        Mistake(
            "plain mean of phi",
            in_numpy(lambda losses, phi, p, kappa: -kappa * (p * (phi - phi.mean())) @ losses),
            "φ is centred about its plain mean. Take weights @ phi, its mean under `weights`.",
        ),
        Mistake(
            "plain means of the losses",
            in_numpy(
                lambda losses, phi, p, kappa: -kappa * (p * phi) @ (losses - losses.mean(axis=0))
            ),
            "The losses are centred about plain means. Take weights @ losses, under `weights`.",
        ),
        Mistake(
            "correlation",
            in_numpy(
                lambda losses, phi, p, kappa: (
                    -kappa
                    * _covariance(losses, phi, p)
                    / np.sqrt(_spread(losses, p) * _spread(phi, p))
                )
            ),
            "This has the correlation for the covariance: do not divide by standard deviations.",
        ),
        Mistake(
            "regression slope",
            in_numpy(
                lambda losses, phi, p, kappa: (
                    -kappa * _covariance(losses, phi, p) / _spread(losses, p)
                )
            ),
            "Divided by the variance of L_i: Cov/Var is the slope of φ regressed on L_i.",
        ),
        Mistake(
            "deletion",
            in_numpy(lambda losses, phi, p, kappa: _reweighted(losses, phi, p, kappa) - p @ phi),
            "This is the whole effect of leaving z_i out. The BIF is a slope, at β = 1 and for "
            "more weight.",
        ),
        Mistake(
            "deletion, sign",
            in_numpy(lambda losses, phi, p, kappa: p @ phi - _reweighted(losses, phi, p, kappa)),
            "This is the whole step from β_i = 0 to 1. The BIF is the slope at its end, β = 1.",
        ),
        Mistake(
            "doubled",
            in_numpy(lambda losses, phi, p, kappa: _reweighted(losses, phi, p, -kappa) - p @ phi),
            "This is the whole step from β_i = 1 to 2. The BIF is the slope at its start, β = 1.",
        ),
    ],
    hints=[
        "∂ log p_β(w)/∂β_i = −κ (L_i(w) − E[L_i]). Multiply by φ(w) p(w) and add over w.",
        "−κ (E[L_i φ] − E[L_i] E[φ]), with every E taken under `weights`.",
        "phi − weights @ phi is φ centred. It is enough to centre one of the two.",
    ],
)

_kappa, _n, _rho, _s, _z = sp.symbols("kappa n rho s z", positive=True)
_precision = _kappa * _n + _rho
_mean = _kappa * _s / _precision

part_c = Formula(
    "bif_covariance.part_c",
    "the BIF of z on φ = w for the Gaussian posterior, in κ, n, ρ, s and z",
    truth=_kappa * (_z - _mean) / _precision,
    domain={"kappa": (0.3, 3), "n": (3, 12), "rho": (0.5, 5), "s": (-9, 9), "z": (-4, 4)},
    mistakes=[
        Mistake(
            "sign",
            -_kappa * (_z - _mean) / _precision,
            "Sign flipped: more weight on z pulls the posterior mean towards z.",
        ),
        Mistake(
            "no kappa",
            (_z - _mean) / _precision,
            "This is −Cov(L, w). The derivative in β brings down a factor κ.",
        ),
        Mistake(
            "no kappa, sign",
            -(_z - _mean) / _precision,
            "This is Cov(L, w). The BIF is −κ times it.",
        ),
        Mistake(
            "tempered prior",
            (_z - _s / (_n + _rho)) / (_n + _rho),
            "κρ stands here for ρ (or κ = 1). The prior is not multiplied by κ, so κ does not "
            "cancel.",
        ),
        Mistake(
            "tempered prior in V",
            (_z - _mean) / (_n + _rho),
            "The mean is right, but the variance has κρ for ρ: κ multiplies the losses only.",
        ),
        Mistake(
            "untempered mean",
            _kappa * (_z - _s / (_n + _rho)) / _precision,
            "The mean has κ in it too: κn and ρ are the precisions it balances.",
        ),
        Mistake(
            "no kappa above the mean",
            _kappa * (_z - _s / _precision) / _precision,
            "The mean is κs/(κn + ρ): its κ above the line is missing. For ρ = 0 it must be s/n.",
        ),
        Mistake(
            "mean of the data",
            _kappa * (_z - _s / _n) / _precision,
            "s/n is the mean of the data. The prior shrinks the posterior mean towards 0.",
        ),
        Mistake(
            "prior not in V",
            (_z - _mean) / _n,
            "The prior adds to the precision: the variance is 1/(κn + ρ), not 1/(κn).",
        ),
        Mistake(
            "no prior",
            (_z - _s / _n) / _n,
            "This is the answer for a flat prior, ρ = 0. Keep ρ.",
        ),
        Mistake(
            "label for residual",
            _kappa * _z / _precision,
            "The slope of L at the posterior mean is μ − z: the mean is missing.",
        ),
        Mistake(
            "penalty in L",
            _kappa * (_z - _mean - _rho * _mean) / _precision,
            "The prior carries no data weight, so it is no part of the loss of z.",
        ),
        Mistake(
            "deletion",
            -_kappa * (_z - _mean) / (_precision - _kappa),
            "This is the whole effect of leaving z out. The BIF is the slope at β = 1.",
        ),
        Mistake(
            "deletion, sign",
            _kappa * (_z - _mean) / (_precision - _kappa),
            "At β = 1 all n examples are there: κ(n − 1) belongs to leaving one out.",
        ),
        Mistake(
            "variance for precision",
            _kappa * (_z - _kappa * _s / (_kappa * _n + 1 / _rho)) / (_kappa * _n + 1 / _rho),
            "ρ is the precision of the prior, not its variance: it is added to κn as it is.",
        ),
    ],
    hints=[
        "The posterior is Gaussian: complete the square in κ Σ ½(w − z_j)² + ½ρw².",
        "Precision κn + ρ, mean μ = κs/(κn + ρ). Now Cov(½(w − z)², w) under it.",
        "With w = μ + d: Cov(½(w − z)², w) = (μ − z) Var(w), as E[d³] = 0.",
    ],
)

_mu, _v = sp.symbols("mu v", positive=True)
_slopes = 2 * _mu * _v * (_mu - _z)

part_d = Formula(
    "bif_covariance.part_d",
    "the BIF of z on φ = w² under N(mu, v), in κ, mu, v and z",
    truth=-_kappa * (_v**2 + _slopes),
    domain={"kappa": (0.3, 3), "mu": (-3, 3), "v": (0.3, 3), "z": (-4, 4)},
    mistakes=[
        Mistake(
            "slopes only",
            -_kappa * _slopes,
            "This is slope times slope times variance, the influence function. Both functions "
            "also curve.",
        ),
        Mistake(
            "curvatures only",
            -_kappa * _v**2,
            "The linear parts of L and w² about mu co-vary as well. This is right only at z = mu "
            "or mu = 0.",
        ),
        Mistake(
            "sign",
            _kappa * (_v**2 + _slopes),
            "Sign flipped: the BIF is minus κ times the covariance.",
        ),
        Mistake("no kappa", -(_v**2 + _slopes), "The derivative in β brings down a factor κ."),
        Mistake(
            "no kappa, sign",
            _v**2 + _slopes,
            "This is Cov(L, w²). The BIF is −κ times it.",
        ),
        Mistake(
            "half a square",
            -_kappa * (_v**2 / 2 + _slopes),
            "The curved part is off: with d = w − mu, Var(d²) = 2v², not v².",
        ),
        Mistake(
            "uncentred",
            -_kappa * (sp.Rational(3, 2) * _v**2 + _slopes),
            "E[d⁴] = 3v² is a moment. The covariance of ½d² and d² takes away E[½d²] E[d²] = ½v².",
        ),
        Mistake(
            "half of L dropped",
            -_kappa * (2 * _v**2 + _slopes),
            "The curved part is twice too large: L has ½d² in it, so Cov(½d², d²) = v².",
        ),
        Mistake(
            "slope of L",
            -_kappa * (_v**2 - _slopes),
            "The slope of ½(w − z)² at mu is mu − z, not z − mu.",
        ),
        Mistake(
            "slope of w²",
            -_kappa * (_v**2 + _slopes / 2),
            "The slope of w² at mu is 2 mu.",
        ),
        Mistake(
            "no z",
            -_kappa * (_v**2 + 2 * _mu**2 * _v),
            "This is the answer for z = 0: the slope of L at mu is mu − z.",
        ),
        Mistake(
            "no mean",
            -_kappa * (_v**2 - 2 * _mu * _v * _z),
            "The slope of L at mu is mu − z: expand both functions about the mean.",
        ),
    ],
    hints=[
        "Put w = mu + d and expand both functions in d. Constants drop out of a covariance.",
        "Cov(½d² + (mu − z)d, d² + 2 mu d), with E[d] = E[d³] = 0, E[d²] = v, E[d⁴] = 3v².",
        "Cov(½d², d²) = v² and Cov((mu − z)d, 2 mu d) = 2 mu (mu − z) v.",
    ],
)


def regression_case(rng: np.random.Generator) -> tuple:
    """Noise and prior of different size, neither near one."""
    while np.linalg.cond((c := regression(rng)).x) > 50:
        pass
    sigma = not_near_one(rng)
    return c.x, c.y, sigma, sigma * not_near_one(rng)


def _posterior_mean(x, y, sigma, tau, beta):
    """The mean of N(μ, V) under weights β: least squares on the data and one row for each prior."""
    root, p = np.sqrt(beta)[:, None] / sigma, x.shape[1]
    rows = np.concatenate([root * x, np.eye(p) / tau])
    return np.linalg.lstsq(rows, np.concatenate([root[:, 0] * y, np.zeros(p)]), rcond=None)[0]


def _regression_by_differences(x, y, sigma, tau, step=3e-4):
    bumps = step * np.eye(len(x))
    up, down = (
        np.array([_posterior_mean(x.numpy(), y.numpy(), sigma, tau, 1 + s * b) for b in bumps])
        for s in (1, -1)
    )
    return (up - down) / (2 * step)


def _damped(x, y, lam, lam_residual=None):
    """(A + λI)⁻¹ x_j r_j, the residual at the fit damped by `lam_residual`."""
    a, eye = x.T @ x, np.eye(x.shape[1])
    at = np.linalg.solve(a + (lam if lam_residual is None else lam_residual) * eye, x.T @ y)
    return np.linalg.solve(a + lam * eye, (x * (y - x @ at)[:, None]).T).T


def _with_variance(bend: Callable) -> Callable:
    """A mistake's formula: front · V x_j r_j with r_j at pull · V Σ x_i y_i.

    `bend` makes V⁻¹, front and pull from A, I, σ and τ.
    """

    def wrong(x, y, sigma, tau):
        precision, front, pull = bend(x.T @ x, np.eye(x.shape[1]), sigma, tau)
        solved = np.linalg.solve(precision, x.T)  # V x_j, one a column
        return front * (solved * (y - pull * x @ (solved @ y))).T

    return in_numpy(wrong)


def _leverages(x, lam):
    return np.einsum("ja,ab,jb->j", x, np.linalg.inv(x.T @ x + lam * np.eye(x.shape[1])), x)


part_e = Function(
    "bif_covariance.part_e",
    "the BIF of every example on w in conjugate linear regression",
    truth=_regression_by_differences,
    cases=regression_case,
    rtol=1e-5,
    mistakes=[
        Mistake(
            "sign",
            in_numpy(lambda x, y, sigma, tau: -_damped(x, y, (sigma / tau) ** 2)),
            "Sign flipped: ∇L_j = −x_j r_j, so two minus signs meet. Weight pulls the fit towards "
            "y_j.",
        ),
        Mistake(
            "no sigma",
            in_numpy(lambda x, y, sigma, tau: sigma**2 * _damped(x, y, (sigma / tau) ** 2)),
            "Off by a factor σ²: L_j is the plain ½(y_j − wᵀx_j)², so −κ Cov(L_j, w) has κ = 1/σ² "
            "in front.",
        ),
        Mistake(
            "sigma twice",
            in_numpy(lambda x, y, sigma, tau: _damped(x, y, (sigma / tau) ** 2) / sigma**2),
            "Off by a factor 1/σ²: it stands in front once, either as κ or inside the loss.",
        ),
        Mistake(
            "one sigma",
            in_numpy(lambda x, y, sigma, tau: sigma * _damped(x, y, (sigma / tau) ** 2)),
            "1/σ stands in front for κ = 1/σ²: `sigma` is the standard deviation of the noise.",
        ),
        Mistake(
            "no sigma in mu",
            _with_variance(lambda a, i, s, t: (a / s**2 + i / t**2, 1 / s**2, 1)),
            "The mean is μ = V Σ x_i y_i / σ², and its 1/σ² is missing.",
        ),
        Mistake(
            "residual at least squares",
            in_numpy(lambda x, y, sigma, tau: _damped(x, y, (sigma / tau) ** 2, 0.0)),
            "The residual is that of least squares. Cov(L_j, w) has it at the posterior mean μ.",
        ),
        Mistake(
            "no prior",
            in_numpy(lambda x, y, sigma, tau: _damped(x, y, 0.0)),
            "This is the influence function without a prior: V⁻¹ has I/τ² in it.",
        ),
        Mistake(
            "no prior in V",
            in_numpy(lambda x, y, sigma, tau: _damped(x, y, 0.0, (sigma / tau) ** 2)),
            "The residual is right, but V is not: V⁻¹ has I/τ² in it.",
        ),
        Mistake(
            "label for residual",
            in_numpy(
                lambda x, y, sigma, tau: (
                    np.linalg.solve(
                        x.T @ x + (sigma / tau) ** 2 * np.eye(x.shape[1]), (x * y[:, None]).T
                    ).T
                )
            ),
            "The slope of L_j at μ has the residual y_j − x_jᵀμ in it, not the label.",
        ),
        Mistake(
            "sigma for variance",
            in_numpy(lambda x, y, sigma, tau: _damped(x, y, sigma / tau)),
            "σ and τ are standard deviations: the precisions are 1/σ² and 1/τ².",
        ),
        Mistake(
            "sigma for variance in V",
            _with_variance(lambda a, i, s, t: (a / s + i / t, 1 / s**2, 1 / s**2)),
            "σ and τ are standard deviations, in V⁻¹ too: it is A/σ² + I/τ².",
        ),
        Mistake(
            "sigma for variance but in front",
            in_numpy(lambda x, y, sigma, tau: _damped(x, y, sigma / tau) / sigma),
            "1/σ² is right in front, and belongs into V⁻¹ and μ as well: V⁻¹ = A/σ² + I/τ².",
        ),
        Mistake(
            "tau for variance",
            in_numpy(lambda x, y, sigma, tau: _damped(x, y, sigma**2 / tau)),
            "τ is a standard deviation: what the prior adds to V⁻¹ is I/τ², not I/τ.",
        ),
        Mistake(
            "upside down",
            in_numpy(lambda x, y, sigma, tau: _damped(x, y, (tau / sigma) ** 2)),
            "Upside down: the damping is σ²/τ², the stronger the narrower the prior.",
        ),
        Mistake(
            "precision tau squared",
            in_numpy(lambda x, y, sigma, tau: _damped(x, y, (sigma * tau) ** 2)),
            "τ² is the variance of the prior: what it adds to V⁻¹ is 1/τ².",
        ),
        Mistake(
            "prior n times",
            in_numpy(lambda x, y, sigma, tau: _damped(x, y, len(x) * (sigma / tau) ** 2)),
            "The prior is n times too strong: A is a sum over the examples, and the prior comes "
            "once.",
        ),
        Mistake(
            "no noise in V",
            in_numpy(lambda x, y, sigma, tau: _damped(x, y, 1 / tau**2)),
            "This is the answer at σ = 1: V⁻¹ = A/σ² + I/τ².",
        ),
        Mistake(
            "no noise in V, but around it",
            _with_variance(lambda a, i, s, t: (a + i / t**2, 1 / s**2, 1 / s**2)),
            "1/σ² is in front and in μ, but not in V: V⁻¹ = A/σ² + I/τ².",
        ),
        Mistake(
            "no noise in V, but in front",
            _with_variance(lambda a, i, s, t: (a + i / t**2, 1 / s**2, 1)),
            "1/σ² is in front, but neither in V⁻¹ = A/σ² + I/τ² nor in μ = V Σ x_i y_i / σ².",
        ),
        Mistake(
            "deletion",
            in_numpy(
                lambda x, y, sigma, tau: (
                    -_damped(x, y, lam := (sigma / tau) ** 2) / (1 - _leverages(x, lam))[:, None]
                )
            ),
            "This is what leaving z_j out does to μ, all orders of it. The BIF is the slope at "
            "β = 1.",
        ),
        Mistake(
            "deletion, sign",
            in_numpy(
                lambda x, y, sigma, tau: (
                    _damped(x, y, lam := (sigma / tau) ** 2) / (1 - _leverages(x, lam))[:, None]
                )
            ),
            "The factor 1/(1 − κ x_jᵀVx_j) belongs to leaving z_j out, not to the slope at β = 1.",
        ),
    ],
    hints=[
        "The posterior is N(μ, V) with V⁻¹ = A/σ² + I/τ² and μ = V Σ x_i y_i / σ².",
        "With d = w − μ, L_j = ½(r_j − x_jᵀd)². Only its linear part, −r_j x_jᵀd, co-varies with "
        "d.",
        "BIF = −κ · (−r_j V x_j), with κ = 1/σ² and r_j = y_j − x_jᵀμ.",
    ],
)


@cache
def _both_variances_times_four() -> str:
    """What happens to the BIF on w, by differences of the posterior mean."""
    x, y, sigma, tau = regression_case(np.random.default_rng(0))
    ratios = _regression_by_differences(x, y, 2 * sigma, 2 * tau) / _regression_by_differences(
        x, y, sigma, tau
    )
    for word, factor in (("unchanged", 1), ("divided by 4", 1 / 4), ("multiplied by 4", 4)):
        if abs(ratios / factor - 1).max() < 1e-4:
            return word
    raise AssertionError(ratios)


part_f = Choice(
    "bif_covariance.part_f",
    "the BIF on w when σ² and τ² are both multiplied by 4",
    truth=_both_variances_times_four,
    wrong={
        "divided by 4": "κ = 1/σ² is divided by 4, and so it would be if the covariance stayed. "
        "What does V do?",
        "multiplied by 4": "V and the covariance are multiplied by 4. But the BIF is −κ times the "
        "covariance: what does κ do?",
    },
    hints=[
        "Evaluate part (e) at (σ, τ) and at (2σ, 2τ).",
        "Take κ = 1/σ² into V: (A + λI)⁻¹ x_j r_j. What is λ?",
    ],
)

_NODES, _SHARES = np.polynomial.legendre.leggauss(24)


def _along_the_path(losses, phi, weights, kappa):
    """E[φ] at β_i = 0 minus at 1: its slope −κ Cov_β(L_i, φ) integrated over β_i."""
    losses, phi = losses.numpy(), phi.numpy()[:, None, None]
    taken = (1 + _NODES) / 2  # 1 − β_i
    p = weights.numpy()[:, None, None] * np.exp(kappa * taken * losses[:, :, None])
    p = p / p.sum(axis=0)
    centred = phi - (p * phi).sum(axis=0)
    return kappa * (p * centred * losses[:, :, None]).sum(axis=0) @ _SHARES / 2


part_g = Function(
    "bif_covariance.part_g",
    "E[φ] without z_i minus E[φ], for every i",
    truth=_along_the_path,
    cases=_posterior_case,
    n=lambda args: args[0].shape[1],
    mistakes=[
        Mistake(
            "doubled",
            in_numpy(
                lambda losses, phi, p, kappa: _reweighted(losses, phi, p, -kappa) - p @ phi,
            ),
            "e^(−κL_i) counts z_i a second time, β_i = 2. To take it out, divide p by e^(−κL_i).",
        ),
        Mistake(
            "doubled, sign",
            in_numpy(
                lambda losses, phi, p, kappa: p @ phi - _reweighted(losses, phi, p, -kappa),
            ),
            "Minus the effect of counting z_i twice: the same to first order only. Put β_i at 0, "
            "not at 2.",
        ),
        Mistake(
            "sign",
            in_numpy(
                lambda losses, phi, p, kappa: p @ phi - _reweighted(losses, phi, p, kappa),
            ),
            "Sign flipped: without z_i minus with it.",
        ),
        Mistake(
            "not the change",
            in_numpy(lambda losses, phi, p, kappa: _reweighted(losses, phi, p, kappa)),
            "This is E[φ] without z_i. The change is asked: subtract E[φ] of all examples.",
        ),
        Mistake(
            "not normalised",
            in_numpy(
                lambda losses, phi, p, kappa: (p * phi) @ np.exp(kappa * losses) - p @ phi,
            ),
            "p e^(κL_i) does not sum to one: divide by E[e^(κL_i)].",
        ),
        Mistake(
            "no kappa",
            in_numpy(
                lambda losses, phi, p, kappa: _reweighted(losses, phi, p, 1.0) - p @ phi,
            ),
            "The factor of z_i in p is e^(−κL_i), with κ in it.",
        ),
        Mistake(
            "first order",
            in_numpy(lambda losses, phi, p, kappa: kappa * _covariance(losses, phi, p)),
            "This is minus the BIF, the first order in 1 − β_i. The exact change is asked.",
        ),
        Mistake(
            "BIF",
            in_numpy(lambda losses, phi, p, kappa: -kappa * _covariance(losses, phi, p)),
            "This is the BIF: the slope at β = 1, for more weight. Leaving out has the other sign, "
            "and all orders.",
        ),
        Mistake(
            "second order",
            in_numpy(
                lambda losses, phi, p, kappa: (
                    (p * phi) @ (u := 1 + kappa * losses + (kappa * losses) ** 2 / 2) / (p @ u)
                    - p @ phi
                )
            ),
            "e^(κL_i) is cut off after its second order here. Keep the exponential itself.",
        ),
        Mistake(
            "p forgotten",
            in_numpy(
                lambda losses, phi, p, kappa: phi @ _softmax(kappa * losses) - p @ phi,
            ),
            "The new weights are p e^(κL_i), normalised. Here p is left out of them.",
        ),
        Mistake(
            "equal weights",
            in_numpy(
                lambda losses, phi, p, kappa: phi @ _softmax(kappa * losses) - phi.mean(),
            ),
            "Every point counts alike here. Both averages are taken under `weights`.",
        ),
        Mistake(
            "flat prior",
            in_numpy(
                lambda losses, phi, p, kappa: (
                    phi @ _softmax(kappa * (losses - losses.sum(axis=1, keepdims=True))) - p @ phi
                )
            ),
            "A new posterior from the other losses lacks the prior. It is inside `weights`: start "
            "from them.",
        ),
        Mistake(
            "loss for exponential",
            in_numpy(
                lambda losses, phi, p, kappa: (p * phi) @ losses / (p @ losses) - p @ phi,
            ),
            "Weighted by L_i itself. What z_i contributes to p is the factor e^(−κL_i).",
        ),
    ],
    hints=[
        "By which factor does p at β_i = 0 differ from p at β = 1, up to normalisation?",
        "E[φ e^(κL_i)] / E[e^(κL_i)] − E[φ], both under `weights`.",
        "q = weights[:, None] * (kappa * losses).exp(); divide by q.sum(0).",
    ],
)
