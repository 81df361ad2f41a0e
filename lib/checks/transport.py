"""Exercise 03_transport: what it costs to imitate a change of the data by a shift of the draws."""

from functools import cache

import numpy as np
import sympy as sp
import torch

from lib.checks.engine import Choice, Formula, Function, Mistake, Number
from lib.random_problems import normal, regression

# --- (a) the cost of a shift ---------------------------------------------------------------------


def _wells(rng: np.random.Generator) -> tuple:
    """A quartic loss, one example's share of it, a shift, and the grid for p ∝ exp(−κL)."""
    slope, centre = rng.uniform(0.5, 1.5, 2) * rng.choice([-1, 1], 2)
    quartic, bend = rng.uniform(0.1, 0.4), rng.uniform(0.6, 1.4)
    kappa = float(rng.uniform(1.3, 2.5) ** rng.choice([-1, 1]))
    epsilon = float(rng.uniform(0.15, 0.5))
    r = float(rng.uniform(0.4, 1.2) * rng.choice([-1, 1]))

    def loss_k(w):
        return 0.5 * bend * (w - centre) ** 2 + 0.3 * w

    def loss(w):
        return loss_k(w) + quartic * w**4 / 4 + 0.2 * (w + slope) ** 2

    w = torch.linspace(-7, 7, int(rng.integers(301, 400)), dtype=torch.float64)
    weights = torch.softmax(-kappa * loss(w), dim=0)
    return w, weights, loss, loss_k, kappa, epsilon, r


GRID = np.linspace(-8, 8, 501)


def _density(energy):
    """exp(−energy) on the grid, normalised by a sum, and its logarithm."""
    log = -energy - (-energy).max()
    log -= np.log(np.exp(log).sum())
    return np.exp(log), log


def _two_densities(w, weights, loss, loss_k, kappa, epsilon, r):
    """∫ q log(q/p_ε) from the densities: a shifted draw lies at v where an unshifted one lies at
    v − εr. Knows nothing of the given points."""
    q, log_q = _density(kappa * loss(GRID - epsilon * r))
    _, log_p = _density(kappa * (loss(GRID) - epsilon * loss_k(GRID)))
    return (q * (log_q - log_p)).sum()


def _reversed(w, weights, loss, loss_k, kappa, epsilon, r):
    _, log_q = _density(kappa * loss(GRID - epsilon * r))
    p, log_p = _density(kappa * (loss(GRID) - epsilon * loss_k(GRID)))
    return (p * (log_p - log_q)).sum()


def _average(values, weights):
    return (weights * values).sum()


def _log_average(tilt, weights):
    return np.log((weights * np.exp(tilt)).sum())


def _cost(energy=None, log_z=None):
    """A mistake in the energy term, from (L, L_k, w, moved w, ε), or in the log Z term, from
    (κεL_k, weights)."""
    energy = energy or (lambda loss, loss_k, w, v, e: loss(v) - e * loss_k(v) - loss(w))
    log_z = log_z or _log_average

    def wrong(w, weights, loss, loss_k, kappa, epsilon, r):
        w, weights = w.numpy(), weights.numpy()
        gained = energy(loss, loss_k, w, w + epsilon * r, epsilon)
        return kappa * _average(gained, weights) + log_z(kappa * epsilon * loss_k(w), weights)

    return wrong


part_a = Function(
    "transport.part_a",
    "D(q ‖ p_ε) of the shifted draws, in nats",
    truth=_two_densities,
    cases=_wells,
    n=lambda args: len(args[0]),
    mistakes=[
        Mistake(
            "no log Z",
            _cost(log_z=lambda tilt, weights: 0),
            "log Z_ε/Z is missing: p_ε has a normaliser of its own, and D is never negative.",
        ),
        Mistake(
            "upweighted",
            lambda w, weights, loss, loss_k, kappa, epsilon, r: _two_densities(
                w, weights, loss, loss_k, kappa, -epsilon, -r
            ),
            "This is the cost of imitating an upweighting. Here z_k is downweighted: L − εL_k.",
        ),
        Mistake(
            "energy's sign",
            _cost(energy=lambda loss, loss_k, w, v, e: loss(v) + e * loss_k(v) - loss(w)),
            "p_ε has the loss L − εL_k. The normaliser fits that, the energy term has + εL_k.",
        ),
        Mistake(
            "log Z's sign",
            _cost(log_z=lambda tilt, weights: -_log_average(tilt, weights)),
            "The sign of log Z_ε/Z is flipped: −log p_ε = κ(L − εL_k) + log Z_ε.",
        ),
        Mistake(
            "log Z upweighted",
            _cost(log_z=lambda tilt, weights: _log_average(-tilt, weights)),
            "Z_ε/Z = E[exp(+κεL_k)]: the minus of the energy meets the minus of −εL_k.",
        ),
        Mistake(
            "mean of the tilt",
            _cost(log_z=_average),
            "log E[exp X] is not E[X], and never below it: average exp(κεL_k), then take the log.",
        ),
        Mistake(
            "L_k not shifted",
            _cost(energy=lambda loss, loss_k, w, v, e: loss(v) - e * loss_k(w) - loss(w)),
            "L_k is taken where the draw was. The shifted draw is judged by p_ε where it is now.",
        ),
        Mistake(
            "L not subtracted",
            _cost(energy=lambda loss, loss_k, w, v, e: loss(v) - e * loss_k(v)),
            "− L(w) is missing, the loss before the shift: it comes from log q, which is log p(w).",
        ),
        Mistake(
            "no κ",
            lambda w, weights, loss, loss_k, kappa, epsilon, r: _cost()(
                w, weights, loss, loss_k, 1.0, epsilon, r
            ),
            "κ is missing: the log-densities are −κL and −κ(L − εL_k), up to constants.",
        ),
        Mistake(
            "energy without κ",
            lambda w, weights, loss, loss_k, kappa, epsilon, r: (
                _cost(log_z=lambda tilt, p: 0)(w, weights, loss, loss_k, 1.0, epsilon, r)
                + _log_average(kappa * epsilon * loss_k(w).numpy(), weights.numpy())
            ),
            "The normaliser has its κ, but the energy term lacks it.",
        ),
        Mistake(
            "log Z without κ",
            lambda w, weights, loss, loss_k, kappa, epsilon, r: (
                _cost(log_z=lambda tilt, p: 0)(w, weights, loss, loss_k, kappa, epsilon, r)
                + _log_average(epsilon * loss_k(w).numpy(), weights.numpy())
            ),
            "The energy term has its κ, but the normaliser lacks it: E[exp(κεL_k)].",
        ),
        Mistake(
            "over κ",
            lambda w, weights, loss, loss_k, kappa, epsilon, r: (
                _two_densities(w, weights, loss, loss_k, kappa, epsilon, r) / kappa
            ),
            "This is D/κ, of which F is the limit. D itself is asked.",
        ),
        Mistake(
            "other direction",
            _reversed,
            "This is D(p_ε ‖ q). The average must be over the shifted draws: D(q ‖ p_ε).",
        ),
        Mistake(
            "backwards",
            lambda w, weights, loss, loss_k, kappa, epsilon, r: _two_densities(
                w, weights, loss, loss_k, kappa, epsilon, -r
            ),
            "Shifted backwards: a draw w goes to w + εr. It is q's density that has v − εr in it.",
        ),
        Mistake(
            "no ε in the shift",
            lambda w, weights, loss, loss_k, kappa, epsilon, r: _two_densities(
                w, weights, loss, loss_k, kappa, epsilon, r / epsilon
            ),
            "The draws move by εr, not by r.",
        ),
        Mistake(
            "no weights",
            lambda w, weights, loss, loss_k, kappa, epsilon, r: _cost()(
                w, torch.full_like(weights, 1 / len(w)), loss, loss_k, kappa, epsilon, r
            ),
            "All grid points count alike here. They have the probabilities `weights`.",
        ),
        Mistake(
            "normaliser without weights",
            _cost(log_z=lambda tilt, weights: np.log(np.exp(tilt).mean())),
            "In log Z_ε/Z all grid points count alike. It is an average under p as well.",
        ),
    ],
    hints=[
        "D = E_p[log p(w) − log p_ε(w + εr)], with log p = −κL − log Z and the like for p_ε.",
        "Z_ε/Z = ∫ exp(−κ(L − εL_k)) / Z is an average under p: of what?",
        "κ E[L(w+εr) − εL_k(w+εr) − L(w)] + log E[exp(κεL_k(w))], both averages over `weights`.",
    ],
)

# --- (b), (c) the low-temperature limit at a quadratic minimum -----------------------------------

_epsilon, _l, _g, _h, _r = sp.symbols("epsilon l g h r", positive=True)
_domain = {"epsilon": (0.1, 0.9), "l": (-2, 2), "g": (-2, 2), "h": (0.5, 3)}
_log_z = _epsilon * _l + _epsilon**2 * _g**2 / (2 * _h)

part_b = Formula(
    "transport.part_b",
    "the limit of (1/κ) log(Z_ε/Z), in ε, l, g and h",
    truth=_log_z,
    domain=_domain,
    mistakes=[
        Mistake(
            "vanishes",
            sp.Integer(0),
            "It does not vanish: log(Z_ε/Z) grows like κ. Of D/κ only the log-determinant of the "
            "shift vanishes.",
        ),
        Mistake(
            "first order",
            _epsilon * _l,
            "This is ε L_k(w*). The lowest point of L − εL_k has moved away from w*, which gives "
            "a second term.",
        ),
        Mistake(
            "second order alone",
            _epsilon**2 * _g**2 / (2 * _h),
            "The value of L_k at the minimum is lost: εl.",
        ),
        Mistake(
            "sign",
            -_log_z,
            "Sign flipped: (1/κ) log Z_ε → −inf(L − εL_k), minus the lowest value.",
        ),
        Mistake(
            "no half",
            _epsilon * _l + _epsilon**2 * _g**2 / _h,
            "Moving to w = εg/h gains ε²g²/h from L_k, and costs half of it in ½hw².",
        ),
        Mistake(
            "second term's sign",
            _epsilon * _l - _epsilon**2 * _g**2 / (2 * _h),
            "The minimum of L − εL_k is below its value at w = 0, so −inf is larger, not smaller.",
        ),
        Mistake(
            "upweighted",
            -_epsilon * _l + _epsilon**2 * _g**2 / (2 * _h),
            "That is for L + εL_k, an upweighting. Downweighting lowers the loss by εL_k.",
        ),
        Mistake(
            "h upstairs",
            _epsilon * _l + _epsilon**2 * _g**2 * _h / 2,
            "h is on the wrong side: in a steep valley there is less to gain by moving.",
        ),
        Mistake(
            "g not squared",
            _epsilon * _l + _epsilon**2 * _g / (2 * _h),
            "g enters twice: it decides how far the minimum moves, εg/h, and what each step gains.",
        ),
    ],
    hints=[
        "By Laplace's method (1/κ) log Z_ε → −inf_w [L(w) − εL_k(w)].",
        "½hw² − ε(l + gw) is lowest at w = εg/h.",
    ],
)

_cost_at = _epsilon**2 * _h * (_r - _g / _h) ** 2 / 2
_energy_at = _h * _epsilon**2 * _r**2 / 2 - _epsilon * _l - _epsilon**2 * _g * _r

part_c = Formula(
    "transport.part_c",
    "F(r, ε) for the same losses, in ε, r, g and h",
    truth=_cost_at,
    domain={**_domain, "r": (-2, 2)},
    mistakes=[
        Mistake(
            "no log Z",
            _energy_at,
            "This is the energy term alone. Part (b) has to be added: it is where the square's "
            "last term comes from.",
        ),
        Mistake(
            "no second term of log Z",
            _energy_at + _epsilon * _l,
            "Add all of part (b), with its ε²g²/(2h): F is never negative, this can be.",
        ),
        Mistake(
            "log Z subtracted",
            _energy_at - _log_z,
            "Part (b) is subtracted here: −log p_ε = κ(L − εL_k) + log Z_ε has a plus.",
        ),
        Mistake(
            "L_k not shifted",
            _h * _epsilon**2 * _r**2 / 2 + _epsilon**2 * _g**2 / (2 * _h),
            "L_k is taken at w = 0, where the draws were. They are at εr now: L_k = l + gεr there.",
        ),
        Mistake(
            "r for εr",
            _h * (_r - _epsilon * _g / _h) ** 2 / 2,
            "The draws are moved by εr, not by r: the whole square has ε² in front.",
        ),
        Mistake(
            "influence's sign",
            _epsilon**2 * _h * (_r + _g / _h) ** 2 / 2,
            "Lowest at r = −g/h, the influence. z_k is downweighted: the best shift is minus that.",
        ),
        Mistake(
            "no half",
            2 * _cost_at,
            "Twice the answer: the loss is ½hw².",
        ),
        Mistake(
            "ε not squared",
            _cost_at / _epsilon,
            "The draws move by εr and the minimum by εg/h: the cost is quadratic in the gap.",
        ),
        Mistake(
            "no ε",
            _cost_at / _epsilon**2,
            "The draws move by εr and the minimum by εg/h, not by r and g/h.",
        ),
        Mistake(
            "no curvature in front",
            _cost_at / _h,
            "h is missing in front: missing the minimum by δ costs ½hδ² of loss, not ½δ².",
        ),
        Mistake(
            "h for 1/h",
            _epsilon**2 * _h * (_r - _g * _h) ** 2 / 2,
            "r_IF = H⁻¹∇L_k: the slope is divided by h, not multiplied.",
        ),
        Mistake(
            "inverse metric",
            _cost_at / _h**2,
            "Measured with H⁻¹. A gap costs more where the loss is steep: H, not its inverse.",
        ),
        Mistake(
            "distance from zero",
            _h * _epsilon**2 * _r**2 / 2,
            "That is what the shift costs in L alone. It is meant to follow L − εL_k.",
        ),
    ],
    hints=[
        "As κ → ∞ the draws sit at w = 0: the energy term is L(εr) − εL_k(εr) − L(0).",
        "Add part (b); l cancels. Complete the square in r.",
    ],
)

# --- (d) what remains -----------------------------------------------------------------------------


def _new_loss(w: float, epsilon: float) -> float:
    """L − εL_k for L = e^w − w, least at 0 with curvature 1, and L_k = sin(w + ½)."""
    return np.exp(w) - w - epsilon * np.sin(w + 0.5)


def _moved_minimum(epsilon: float) -> float:
    """Where L − εL_k is lowest, by Newton's method."""
    w = 0.0
    for _ in range(30):
        slope = np.exp(w) - 1 - epsilon * np.cos(w + 0.5)
        w -= slope / (np.exp(w) + epsilon * np.sin(w + 0.5))
    return w


@cache
def remaining_costs() -> dict[float, tuple[float, float]]:
    """F(r_IF, ε) and F(r_IF + εw₂, ε), by ε, with w₂ from second differences of the minimum."""
    d = 1e-3
    r_if = np.cos(0.5)  # the slope of L_k over a curvature of 1
    w_2 = (_moved_minimum(d) + _moved_minimum(-d)) / (2 * d**2)
    costs = {}
    for epsilon in (0.2, 0.1, 0.05):
        lowest = _new_loss(_moved_minimum(epsilon), epsilon)
        shifts = r_if, r_if + epsilon * w_2
        costs[epsilon] = tuple(float(_new_loss(epsilon * r, epsilon) - lowest) for r in shifts)
    return costs


def _order() -> str:
    costs = remaining_costs()
    slope = np.log2(costs[0.1][1] / costs[0.05][1])
    assert abs(slope - round(slope)) < 0.2
    return {4: "fourth", 5: "fifth", 6: "sixth", 7: "seventh", 8: "eighth"}[round(slope)]


part_d = Choice(
    "transport.part_d",
    "the order in ε of the cost that remains at r_IF + εw₂",
    truth=_order,
    wrong={
        "second": "Second order is what a shift costs that misses r_IF. This one has it, and more.",
        "third": "The distance to the minimum is of third order. The loss above a minimum is "
        "quadratic in the distance.",
        "fourth": "Fourth order is what r_IF alone leaves: it misses the minimum by ε²w₂. That is "
        "made good now.",
        "fifth": "F is a height above a minimum, quadratic in the distance: its order is even, "
        "twice that of the distance.",
        "eighth": "Eighth order would take the path's third term too. Which term is the first "
        "that this shift leaves out?",
        "zero": "Zero if the path of the minimum ended with its second term. In general it goes "
        "on, and so a little is left.",
    },
    hints=[
        "F is the value of L − εL_k at the shifted w*, above its lowest. How far is it from there?",
        "The shift leaves out the third term of the path: a distance of order ε³.",
    ],
)

# --- (e) the best shift of a posterior -----------------------------------------------------------


def _posterior_case(rng: np.random.Generator) -> tuple:
    while np.linalg.cond((c := regression(rng)).x) > 50:
        pass
    sigma, tau = float(rng.uniform(1.3, 2.5) ** rng.choice([-1, 1])), float(rng.uniform(0.5, 2.0))
    return c.x, c.y, sigma, tau, c.j


def _posterior_mean(x, y, sigma, tau, k, weight):
    """Least squares on the weighted rows, with the prior as p rows more."""
    root = np.ones(len(x))
    root[k] = np.sqrt(weight)
    p = x.shape[1]
    rows = np.concatenate([root[:, None] * x.numpy() / sigma, np.eye(p) / tau])
    return np.linalg.lstsq(rows, np.append(root * y.numpy() / sigma, np.zeros(p)), rcond=None)[0]


def _follow_the_mean(x, y, sigma, tau, k, step=4e-3):
    """With the covariances given, the divergence is least where the means agree: εr is how far
    the mean moves when z_k loses ε. The quotient as ε → 0, by Richardson."""

    def move(epsilon):
        down, up = (_posterior_mean(x, y, sigma, tau, k, 1 - s * epsilon) for s in (1, -1))
        return (down - up) / (2 * epsilon)

    return (4 * move(step) - move(2 * step)) / 3


def _pieces(x, y, sigma, tau, k, *, prior=True):
    """V x_k and r_k; without the prior, A⁻¹x_k σ² and the residual of least squares."""
    x, y = x.numpy(), y.numpy()
    precision = x.T @ x / sigma**2 + prior * np.eye(x.shape[1]) / tau**2
    pull = np.linalg.solve(precision, x[k])
    return pull, y[k] - x[k] @ np.linalg.solve(precision, x.T @ y / sigma**2)


def _shift(formula, **options):
    """A mistake's formula in V x_k, r_k, x_k, y_k and κ."""

    def wrong(x, y, sigma, tau, k):
        pull, r = _pieces(x, y, sigma, tau, k, **options)
        return formula(pull, r, x[k].numpy(), y[k].item(), 1 / sigma**2)

    return wrong


def _least_squares_residual(x, y, sigma, tau, k):
    pull, _ = _pieces(x, y, sigma, tau, k)
    _, r = _pieces(x, y, sigma, tau, k, prior=False)
    return -pull * r / sigma**2


def _prior_in_mean_alone(x, y, sigma, tau, k):
    pull, _ = _pieces(x, y, sigma, tau, k, prior=False)
    _, r = _pieces(x, y, sigma, tau, k)
    return -pull * r / sigma**2


def _no_sigma_in_covariance(x, y, sigma, tau, k):
    """V = (A + I/τ²)⁻¹ put into V Xᵀy/σ² and −V x_k r_k/σ²."""
    x, y = x.numpy(), y.numpy()
    pull, fit = np.linalg.solve(
        x.T @ x + np.eye(x.shape[1]) / tau**2, np.stack([x[k], x.T @ y / sigma**2], axis=1)
    ).T
    return -pull * (y[k] - x[k] @ fit) / sigma**2


part_e = Function(
    "transport.part_e",
    "the constant shift r that costs least as ε → 0",
    truth=_follow_the_mean,
    cases=_posterior_case,
    mistakes=[
        Mistake(
            "influence",
            _shift(lambda pull, r, x, y, kappa: kappa * pull * r),
            "This is the BIF, for upweighting. z_k loses weight here, so the mean moves by "
            "minus that.",
        ),
        Mistake(
            "no κ",
            _shift(lambda pull, r, x, y, kappa: -pull * r),
            "κ = 1/σ² is missing: with L_k = ½(y_k − wᵀx_k)² the energy has L_k/σ² in it.",
        ),
        Mistake(
            "κ twice",
            _shift(lambda pull, r, x, y, kappa: -(kappa**2) * pull * r),
            "One factor 1/σ² too many.",
        ),
        Mistake(
            "κ = 1/σ",
            lambda x, y, sigma, tau, k: _shift(lambda pull, r, *_: -pull * r / sigma)(
                x, y, sigma, tau, k
            ),
            "κ is 1/σ², not 1/σ.",
        ),
        Mistake(
            "residual of least squares",
            _least_squares_residual,
            "The residual is that of least squares. It belongs at the posterior mean μ.",
        ),
        Mistake(
            "no prior",
            _shift(lambda pull, r, x, y, kappa: -kappa * pull * r, prior=False),
            "The prior is left out: V = (A/σ² + I/τ²)⁻¹, and μ is shrunk towards zero.",
        ),
        Mistake(
            "prior in μ alone",
            _prior_in_mean_alone,
            "The prior is in μ but not in V: V = (A/σ² + I/τ²)⁻¹ serves for both.",
        ),
        Mistake(
            "no σ",
            lambda x, y, sigma, tau, k: _shift(lambda pull, r, *_: -pull * r)(x, y, 1.0, tau, k),
            "σ is forgotten: A + I/τ² weighs data with noise σ² as if σ were 1. It is A/σ² + I/τ².",
        ),
        Mistake(
            "no σ in V",
            _no_sigma_in_covariance,
            "V = (A + I/τ²)⁻¹ lacks its 1/σ²: the data's share of the precision is A/σ².",
        ),
        Mistake(
            "σ in front alone",
            lambda x, y, sigma, tau, k: _shift(lambda pull, r, *_: -pull * r / sigma**2)(
                x, y, 1.0, tau, k
            ),
            "1/σ² is in front, but V and μ are those of σ = 1: V = (A/σ² + I/τ²)⁻¹, μ = V Xᵀy/σ².",
        ),
        Mistake(
            "λ upside down",
            lambda x, y, sigma, tau, k: _shift(lambda pull, r, *_: -pull * r)(
                x, y, 1.0, sigma / tau, k
            ),
            "The penalty τ²/σ² is upside down: σ²V⁻¹ = A + (σ²/τ²) I. A wide prior shrinks little.",
        ),
        Mistake(
            "τ² for 1/τ²",
            lambda x, y, sigma, tau, k: _shift(lambda pull, r, x, y, kappa: -kappa * pull * r)(
                x, y, sigma, 1 / tau, k
            ),
            "The prior N(0, τ²I) has precision 1/τ², not τ².",
        ),
        Mistake(
            "label for residual",
            _shift(lambda pull, r, x, y, kappa: -kappa * pull * y),
            "The slope of L_k has the residual r_k = y_k − μᵀx_k in it, not the label.",
        ),
        Mistake(
            "deletion",
            _shift(lambda pull, r, x, y, kappa: -kappa * pull * r / (1 - kappa * x @ pull)),
            "This is how far the mean moves when z_k goes altogether, ε = 1. Here ε → 0.",
        ),
        Mistake(
            "no V",
            _shift(lambda pull, r, x, y, kappa: -kappa * x * r),
            "This is the pull on the mean alone. How far it moves takes V, the inverse Hessian.",
        ),
        Mistake(
            "mean Hessian",
            lambda x, y, sigma, tau, k: len(x) * _follow_the_mean(x, y, sigma, tau, k),
            "Too large by exactly n: the energy has the sum of the losses, not their mean.",
        ),
    ],
    hints=[
        "Both are Gaussian, and p_ε does not depend on r: εr must take μ to the mean of p_ε.",
        "So r is −∂μ/∂β_k, minus the BIF of z_k on w.",
        "r = −V x_k r_k/σ², with r_k = y_k − μᵀx_k and μ = V Xᵀy/σ².",
    ],
)

# --- (f) the divergence of two Gaussians ---------------------------------------------------------


def _spread(rng: np.random.Generator, p: int) -> np.ndarray:
    root = rng.standard_normal((p, p + 2))
    return np.exp(rng.uniform(-0.7, 0.7)) * (root @ root.T / (p + 2) + 0.2 * np.eye(p))


def _two_gaussians(rng: np.random.Generator) -> tuple:
    p = int(rng.integers(2, 5))
    covariances = torch.from_numpy(_spread(rng, p)), torch.from_numpy(_spread(rng, p))
    return normal(rng, p), covariances[0], normal(rng, p), covariances[1]


def _log_gaussian(points, mean, covariance):
    """log N(mean, covariance) at each row, factor by factor along the principal axes."""
    values, axes = np.linalg.eigh(covariance)
    standard = (points - mean) @ axes / np.sqrt(values)
    return (-0.5 * standard**2 - 0.5 * np.log(2 * np.pi * values)).sum(axis=1)


def _mean_log_ratio(mean_q, cov_q, mean_p, cov_p):
    """E_q[log q − log p]: both are quadratic, and 2p points, ±√p standard deviations out along the
    principal axes of q, have the moments of q up to the third."""
    m_q, c_q, m_p, c_p = (np.asarray(a) for a in (mean_q, cov_q, mean_p, cov_p))
    values, axes = np.linalg.eigh(c_q)
    out = np.sqrt(len(values) * values)[:, None] * axes.T
    points = m_q + np.concatenate([out, -out])
    return (_log_gaussian(points, m_q, c_q) - _log_gaussian(points, m_p, c_p)).mean()


def _terms(combine):
    """A mistake's formula in tr(P⁻¹Q), p, the distance in P⁻¹, and log det P − log det Q."""

    def wrong(mean_q, cov_q, mean_p, cov_p):
        q, p, away = cov_q.numpy(), cov_p.numpy(), (mean_p - mean_q).numpy()
        trace, far = np.trace(np.linalg.solve(p, q)), away @ np.linalg.solve(p, away)
        volume = np.linalg.slogdet(p)[1] - np.linalg.slogdet(q)[1]
        return combine(trace, len(p), far, volume)

    return wrong


def _with_q_metric(mean_q, cov_q, mean_p, cov_p):
    away = (mean_p - mean_q).numpy()
    by_q, by_p = (away @ np.linalg.solve(c.numpy(), away) for c in (cov_q, cov_p))
    return _mean_log_ratio(mean_q, cov_q, mean_p, cov_p) + 0.5 * (by_q - by_p)


def _with_trace(trace_of):
    def wrong(mean_q, cov_q, mean_p, cov_p):
        q, p = cov_q.numpy(), cov_p.numpy()
        right = np.trace(np.linalg.solve(p, q))
        return _mean_log_ratio(mean_q, cov_q, mean_p, cov_p) + 0.5 * (trace_of(q, p) - right)

    return wrong


part_f = Function(
    "transport.part_f",
    "D(q ‖ p) of two Gaussians, in nats",
    truth=_mean_log_ratio,
    cases=_two_gaussians,
    mistakes=[
        Mistake(
            "other direction",
            lambda mean_q, cov_q, mean_p, cov_p: _mean_log_ratio(mean_p, cov_p, mean_q, cov_q),
            "This is D(p ‖ q). The average of log q − log p is over q here.",
        ),
        Mistake(
            "no dimension",
            _terms(lambda trace, d, far, volume: 0.5 * (trace + far + volume)),
            "Minus the dimension is missing: with q = p the trace equals it, and D = 0.",
        ),
        Mistake(
            "log det not halved",
            _terms(lambda trace, d, far, volume: 0.5 * (trace - d + far) + volume),
            "The ½ is in front of the log-determinants too: a density has 1/√det.",
        ),
        Mistake(
            "log det's sign",
            _terms(lambda trace, d, far, volume: 0.5 * (trace - d + far - volume)),
            "The log-determinants are the wrong way round: −log p brings +½ log det P.",
        ),
        Mistake(
            "no log det",
            _terms(lambda trace, d, far, volume: 0.5 * (trace - d + far)),
            "The log-determinants are missing: a wider p has lower density.",
        ),
        Mistake(
            "no means",
            _terms(lambda trace, d, far, volume: 0.5 * (trace - d + volume)),
            "The distance of the means is missing.",
        ),
        Mistake(
            "means alone",
            _terms(lambda trace, d, far, volume: 0.5 * far),
            "That is all only if the two covariances are equal.",
        ),
        Mistake(
            "means not halved",
            _terms(lambda trace, d, far, volume: 0.5 * (trace - d + volume) + far),
            "The distance of the means is halved like the rest.",
        ),
        Mistake(
            "no half",
            _terms(lambda trace, d, far, volume: trace - d + far + volume),
            "Twice the answer: log-densities of Gaussians have a ½ in front.",
        ),
        Mistake(
            "distance by Q",
            _with_q_metric,
            "The distance of the means is measured with Q⁻¹. It comes from log p: P⁻¹.",
        ),
        Mistake(
            "trace inverted",
            _with_trace(lambda q, p: np.trace(np.linalg.solve(q, p))),
            "tr(Q⁻¹P) is for the other direction. E_q of (w − μ_p)ᵀP⁻¹(w − μ_p) gives tr(P⁻¹Q).",
        ),
        Mistake(
            "trace not inverted",
            _with_trace(lambda q, p: np.trace(p @ q)),
            "P in the trace must be inverted: tr(P⁻¹Q).",
        ),
    ],
    hints=[
        "Average log q(w) − log p(w) over q: both are quadratic in w.",
        "E_q[(w − a)ᵀM(w − a)] = tr(MQ) + (μ_q − a)ᵀM(μ_q − a).",
        "½ [tr(P⁻¹Q) − dim + (μ_p − μ_q)ᵀP⁻¹(μ_p − μ_q) + log det P − log det Q].",
    ],
)

# --- (g), (h) singular minima --------------------------------------------------------------------


@cache
def cost_on_the_segment() -> dict[float, float]:
    """D(q ‖ p_ε)/(κε) at ε = 0.001 and κ = 5·10⁶ for shifts (0, c(1 − y²)) along the segment, by c.

    p is a Gaussian in x times a uniform in y; ½x² in L_k is averaged exactly, y on a fine grid.
    """
    epsilon, kappa = 1e-3, 5e6
    y = np.linspace(-1, 1, 200_001)
    ends = np.ones_like(y)
    ends[[0, -1]] = 0.5
    uniform = ends / ends.sum()
    # log E[exp(κε(½x² + y))]: E over x ~ N(0, 1/(2κ)), and over y shifted by its largest term.
    tilt = kappa * epsilon
    log_z = -0.5 * np.log(1 - epsilon / 2) + tilt + np.log(uniform @ np.exp(tilt * (y - 1)))
    costs = {}
    for c in (-1.0, 0.0, 1.0):
        moved = y + epsilon * c * (1 - y**2)
        log_volume = uniform @ np.log(1 - 2 * epsilon * c * y)
        energy = -tilt * (uniform @ moved + 0.5 / (2 * kappa))
        costs[c] = (energy + log_z - log_volume) / tilt
    return costs


part_g = Number(
    "transport.part_g",
    "the limit of F/ε on the segment",
    truth=lambda: min(cost_on_the_segment().values()),
    mistakes=[
        Mistake(
            "zero",
            0.0,
            "Zero is what the formula with H⁺ promises. But L_k varies along the segment, "
            "and p_ε gathers at its end.",
        ),
        Mistake(
            "half",
            0.5,
            "What is the mean of y over the segment, and what its largest value? F/ε tends to "
            "their difference.",
        ),
        Mistake(
            "two",
            2.0,
            "2 is all the way from y = −1 to y = 1. The draws are spread evenly between them.",
        ),
    ],
    hints=[
        "F = E[(L − εL_k)(shifted draw)] − inf(L − εL_k), with the draws uniform on the segment.",
        "To first order in ε the shift does not matter: −ε E[y], against −ε max y.",
    ],
)

part_h = Formula(
    "transport.part_h",
    "the leading order of F(r, ε) at the minimum of w⁶/6, in ε",
    truth=sp.Rational(5, 6) * _epsilon ** sp.Rational(6, 5),
    domain={"epsilon": (0.05, 0.9)},
    mistakes=[
        Mistake(
            "zero",
            sp.Integer(0),
            "H = 0 here, but the cost is not: L − εL_k dips below 0, where no bounded εr reaches.",
        ),
        Mistake(
            "quartic",
            sp.Rational(3, 4) * _epsilon ** sp.Rational(4, 3),
            "That is the cost for L = w⁴/4, the page's example. Here L = w⁶/6: solve w⁵ = ε.",
        ),
        Mistake(
            "quartic's power",
            sp.Rational(5, 6) * _epsilon ** sp.Rational(4, 3),
            "The factor is right, the power is that of w⁴/4. How does the minimum of w⁶/6 − εw "
            "move?",
        ),
        Mistake(
            "quartic's factor",
            sp.Rational(3, 4) * _epsilon ** sp.Rational(6, 5),
            "The power is right, the factor is that of w⁴/4. At w⁵ = ε: w⁶/6 − εw = (1/6 − 1) εw.",
        ),
        Mistake(
            "sign",
            -sp.Rational(5, 6) * _epsilon ** sp.Rational(6, 5),
            "Sign flipped: this is inf(L − εL_k). F is the height of the shifted draws above it.",
        ),
        Mistake(
            "where",
            _epsilon ** sp.Rational(1, 5),
            "This is where L − εL_k is lowest. How low is it there?",
        ),
        Mistake(
            "L alone",
            _epsilon ** sp.Rational(6, 5) / 6,
            "This is L at the new minimum. L − εL_k takes ε·w away from it: 1/6 − 1.",
        ),
        Mistake(
            "L_k alone",
            _epsilon ** sp.Rational(6, 5),
            "This is what −εL_k gains at the new minimum. L costs a sixth of it: 1 − 1/6.",
        ),
        Mistake(
            "quadratic",
            _epsilon**2 / 2,
            "This is for L = ½w², with H = 1. Here the slope of L is w⁵: solve w⁵ = ε.",
        ),
        Mistake(
            "order of a parabola",
            _epsilon**2,
            "ε² is the order where H > 0. Here H = 0, and L has the slope w⁵: solve w⁵ = ε.",
        ),
        Mistake(
            "shift's own cost",
            _epsilon**6 / 6,
            "L(εr) is of order ε⁶, but F compares with the minimum of L − εL_k, which is lower.",
        ),
    ],
    hints=[
        "The draws sit at w = 0, and after a bounded shift at εr: L − εL_k is −ε²r + O(ε⁶) there.",
        "w⁶/6 − εw is lowest at w = ε^(1/5).",
    ],
)
