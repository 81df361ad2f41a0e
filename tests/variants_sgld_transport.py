"""Correct answers to the exercises on sampling and on transport: {part id: {name: answer}}.

Derived from the questions and their hints, without a look at the reference of any part.
"""

import math
import statistics
from decimal import Decimal
from fractions import Fraction
from itertools import accumulate

import numpy as np
import scipy.linalg
import scipy.optimize
import scipy.special
import scipy.stats
import sympy as sp
import torch
from torch.distributions import MultivariateNormal, kl_divergence
from torch.func import grad, vjp

from lib import bayesian, exact_posteriors
from lib.models import linear
from lib.objective import gradients

# --- sgld ----------------------------------------------------------------------------------------


def step_hint(w, gradient, step, xi):
    return w - 0.5 * step * gradient + step**0.5 * xi


def step_numpy(w, gradient, step, xi):
    return np.subtract(w.numpy(), gradient.numpy() * step / 2) + np.sqrt(step) * xi.numpy()


def step_list(w, gradient, step, xi):
    rows = zip(w.tolist(), gradient.tolist(), xi.tolist(), strict=True)
    return [a - step * b / 2 + math.sqrt(step) * c for a, b, c in rows]


def step_float32(w, gradient, step, xi):
    w, gradient, xi = w.float(), gradient.float(), xi.float()
    return w - step / 2 * gradient + xi * math.sqrt(step)


def step_factored(w, gradient, step, xi):
    root = torch.tensor(step).double().sqrt()
    return w + root * (xi - root * gradient / 2)


def step_draw(w, gradient, step, xi):
    """As a draw from N(w − ½ηg, ηI), through the root of its covariance."""
    root = torch.linalg.cholesky(step * torch.eye(len(w), dtype=w.dtype))
    return torch.addmv(torch.add(w, gradient, alpha=-step / 2), root, xi)


def step_in_place(w, gradient, step, xi):
    new = w.clone()
    new.sub_(gradient, alpha=step / 2)
    return new.add_(xi, alpha=step**0.5)


def step_matrix(w, gradient, step, xi):
    return torch.stack([w, gradient, xi], 1) @ torch.tensor([1, -step / 2, step**0.5]).double()


def step_horner(w, gradient, step, xi):
    """A polynomial in √η."""
    return np.polyval([-0.5 * gradient.numpy(), xi.numpy(), w.numpy()], math.sqrt(step))


def step_slope(w, gradient, step, xi):
    """As the slope of ½‖w‖² − ½η g·w + √η ξ·w."""
    return grad(lambda v: v @ (v / 2 - step / 2 * gradient + step**0.5 * xi))(w)


def batch_hint(x, y, w, rows, kappa, gamma, centre):
    slope = -(y[rows] - x[rows] @ w) @ x[rows]
    return kappa * len(x) / len(rows) * slope + gamma * (w - centre)


def batch_numpy(x, y, w, rows, kappa, gamma, centre):
    x, y, w, rows = x.numpy(), y.numpy(), w.numpy(), rows.numpy()
    mean = np.mean((x[rows] @ w - y[rows])[:, None] * x[rows], axis=0)
    return kappa * len(y) * mean + gamma * (w - centre.numpy())


def batch_autodiff(x, y, w, rows, kappa, gamma, centre):
    def energy(w):
        each = (y[rows] - x[rows] @ w) ** 2 / 2
        return kappa * len(y) * each.mean() + gamma / 2 * (w - centre).square().sum()

    return grad(energy)(w)


def batch_backward(x, y, w, rows, kappa, gamma, centre):
    w = w.clone().requires_grad_()
    batch = 0.5 * (y - x @ w).square()[rows].sum() * len(y) / rows.numel()
    (kappa * batch + 0.5 * gamma * (w - centre) @ (w - centre)).backward()
    return w.grad


def batch_loop(x, y, w, rows, kappa, gamma, centre):
    x, y, w, centre = x.tolist(), y.tolist(), w.tolist(), centre.tolist()
    out = [gamma * (a - c) for a, c in zip(w, centre, strict=True)]
    for i in rows.tolist():
        r = y[i] - sum(a * b for a, b in zip(w, x[i], strict=True))
        for k in range(len(w)):
            out[k] -= kappa * len(x) / len(rows) * r * x[i][k]
    return out


def batch_weights(x, y, w, rows, kappa, gamma, centre):
    """Every example has a weight: n/m in the batch, zero outside."""
    beta = torch.zeros(len(x), dtype=x.dtype).index_fill(0, rows, len(x) / len(rows))
    return torch.einsum("i,i,ip->p", kappa * beta, x @ w - y, x) + gamma * w - gamma * centre


def batch_normal_equations(x, y, w, rows, kappa, gamma, centre):
    x_b, y_b, scale = x[rows], y[rows], kappa * len(x) / len(rows)
    precision = scale * x_b.T @ x_b + gamma * torch.eye(len(w), dtype=x.dtype)
    return precision @ w - (scale * x_b.T @ y_b + gamma * centre)


def batch_library(x, y, w, rows, kappa, gamma, centre):
    each = gradients(linear(x, y), w)[rows]
    return kappa * len(x) * each.mean(dim=0) + gamma * (w - centre)


def batch_float32(x, y, w, rows, kappa, gamma, centre):
    x, y, w, centre = x.float(), y.float(), w.float(), centre.float()
    residual = torch.take(y, rows) - x[rows].mv(w)
    return gamma * (w - centre) - kappa * len(y) / len(rows) * x[rows].T.mv(residual)


def batch_pulled_back(x, y, w, rows, kappa, gamma, centre):
    """The batch's residuals and the pull on w, both by reverse mode."""

    def stretched(w):
        return (x[rows] @ w - y[rows]) * math.sqrt(kappa * len(y) / len(rows))

    residuals, pull = vjp(stretched, w)
    return pull(residuals)[0] + gamma * (w - centre)


def chain_hint(gradient, w0, step, noise):
    w, states = w0, []
    for xi in noise:
        w = w - step / 2 * gradient(w) + step**0.5 * xi
        states.append(w)
    return torch.stack(states)


def chain_list(gradient, w0, step, noise):
    states = [w0]
    for t in range(len(noise)):
        states.append(states[-1] - gradient(states[-1]) * step / 2 + math.sqrt(step) * noise[t])
    return states[1:]


def chain_filled(gradient, w0, step, noise):
    states, w = torch.empty_like(noise), w0.clone()
    for t, xi in enumerate(noise):
        w += -step / 2 * gradient(w) + step**0.5 * xi
        states[t] = w
    return states


def chain_numpy(gradient, w0, step, noise):
    w, states = w0.numpy().copy(), np.zeros(tuple(noise.shape))
    for t, xi in enumerate(np.sqrt(step) * noise.numpy()):
        w = w - 0.5 * step * np.asarray(gradient(torch.from_numpy(w))) + xi
        states[t] = w
    return states


def chain_accumulate(gradient, w0, step, noise):
    def move(w, xi):
        return step_hint(w, gradient(w), step, xi)

    return list(accumulate(noise, move, initial=w0))[1:]


def chain_recursion(gradient, w0, step, noise):
    if len(noise) == 0:
        return noise
    before = chain_recursion(gradient, w0, step, noise[:-1])
    w = before[-1] if len(before) else w0
    return torch.cat([before, step_factored(w, gradient(w), step, noise[-1])[None]])


def chain_moves(gradient, w0, step, noise):
    """The sum of all moves so far."""
    moves = torch.zeros_like(noise)
    for t in range(len(noise)):
        w = w0 + moves[:t].sum(0)
        moves[t] = step**0.5 * noise[t] - step * gradient(w) / 2
    return w0 + moves.cumsum(0)


def chain_float32(gradient, w0, step, noise):
    return chain_hint(gradient, w0, step, noise).float()


def chain_rescaled(gradient, w0, step, noise):
    """In w/√η, whose noise has variance one."""
    root, states = math.sqrt(step), []
    u = w0 / root
    for xi in noise:
        u = u + xi - root / 2 * gradient(root * u)
        states.append(root * u)
    return torch.vstack(states)


def chain_generator(gradient, w0, step, noise):
    def walk():
        w = w0
        for xi in noise:
            w = torch.add(w + math.sqrt(step) * xi, gradient(w), alpha=-step / 2)
            yield w.tolist()

    return np.array(list(walk()))


def spring_brentq(eigenvalues, kappa, radius):
    precision = kappa * eigenvalues.numpy()

    def excess(gamma):
        return (1 / (precision + gamma)).sum() - radius**2

    low, high = 0.5 / radius**2, 2 * len(precision) / radius**2
    return scipy.optimize.brentq(excess, low, high, xtol=1e-15, rtol=1e-13)


def spring_halvings(eigenvalues, kappa, radius):
    precision = [kappa * mu for mu in eigenvalues.tolist()]
    low, high = 0.0, 1.0
    while sum(1 / (k + high) for k in precision) > radius**2:
        high *= 2
    for _ in range(60):
        middle = (low + high) / 2
        wide = sum(1 / (k + middle) for k in precision) > radius**2
        low, high = (middle, high) if wide else (low, middle)
    return (low + high) / 2


def spring_eigenvalue(eigenvalues, kappa, radius):
    """Where I − (D + γI)⁻¹11ᵀ/R² is singular: the largest eigenvalue of 11ᵀ/R² − D."""
    p = len(eigenvalues)
    ones = torch.ones(p, p, dtype=eigenvalues.dtype)
    return torch.linalg.eigvalsh(ones / radius**2 - kappa * torch.diag(eigenvalues))[-1]


def spring_newton(eigenvalues, kappa, radius):
    """Newton's method from the left, where the convex sum is too large."""
    gamma = 1 / radius**2
    for _ in range(25):
        variances = 1 / (kappa * eigenvalues + gamma)
        gamma = gamma + (variances.sum() - radius**2) / variances.square().sum()
    return gamma


def spring_polynomial(eigenvalues, kappa, radius):
    """All fractions on one denominator Π (κμ_i + γ), whose derivative is the numerator."""
    product = np.poly(-kappa * eigenvalues.numpy())
    roots = np.roots(np.polysub(radius**2 * product, np.polyder(product)))
    return max(roots.real)


def spring_logarithms(eigenvalues, kappa, radius):
    """By the secant method in log γ, on the logarithm of the spread."""
    d = kappa * eigenvalues.numpy()

    def excess(u):
        return float(np.log(np.sum(1 / (d + np.exp(u)))) - 2 * np.log(radius))

    start = math.log(len(d) / radius**2)
    found = scipy.optimize.root_scalar(excess, x0=start, x1=start - 0.1, xtol=1e-14)
    return np.exp(found.root)


def spring_fixed_point(eigenvalues, kappa, radius):
    """A spread too large by a factor calls for a γ larger by that factor, again and again."""
    h, gamma, before = kappa * eigenvalues.numpy(), len(eigenvalues) / radius**2, 0.0
    while abs(gamma - before) > 1e-14 * gamma:
        gamma, before = gamma * (1 / (h + gamma)).sum() / radius**2, gamma
    return gamma


def spring_reciprocal(eigenvalues, kappa, radius):
    """Newton's method on 1/spread, which is nearly straight, with the slope by autograd."""

    def excess(gamma):
        return 1 / (1 / (kappa * eigenvalues + gamma)).sum() - radius**-2

    gamma = torch.tensor(len(eigenvalues) / radius**2, dtype=eigenvalues.dtype)
    for _ in range(8):
        gamma = gamma - excess(gamma) / grad(excess)(gamma)
    return gamma.item()


def spring_grids(eigenvalues, kappa, radius):
    """A grid of γ, and a finer one between the neighbours of the best."""
    low, high = 0.5 / radius**2, 2 * len(eigenvalues) / radius**2
    for _ in range(9):
        gamma = np.linspace(low, high, 101)
        spread = (1 / np.add.outer(gamma, kappa * eigenvalues.numpy())).sum(1)
        at = np.searchsorted(-spread, -(radius**2))
        low, high = gamma[max(at - 1, 0)], gamma[min(at, 100)]
    return (low + high) / 2


def spring_float32(eigenvalues, kappa, radius):
    return np.float32(spring_brentq(eigenvalues, kappa, radius))


def estimate_hint(losses, phi, kappa):
    chains, draws, _ = losses.shape
    products = (losses - losses.mean((0, 1))) * (phi - phi.mean())[..., None]
    b = -kappa * chains / (chains * draws - 1) * products.sum(1)
    return b.mean(0), b.std(0) / chains**0.5


def estimate_numpy(losses, phi, kappa):
    """Each chain's sums, taken apart; the value by np.cov, the error by scipy."""
    a, f = losses.numpy(), phi.numpy()
    (chains, draws), n = f.shape, a.shape[2]
    value = -kappa * np.cov(a.reshape(-1, n), f.reshape(-1), rowvar=False)[:-1, -1]
    mean_a, mean_f = a.mean(axis=(0, 1)), f.mean()
    sums = (a * f[..., None]).sum(1) - a.sum(1) * mean_f - np.outer(f.sum(1), mean_a)
    b = kappa * chains / (chains * draws - 1) * (sums + draws * mean_a * mean_f)
    return np.stack([value, scipy.stats.sem(b, axis=0)])


def estimate_einsum(losses, phi, kappa):
    c, total = len(phi), phi.numel()
    d, f = losses - losses.mean(1).mean(0), phi - phi.mean(1).mean(0)
    b = torch.einsum("ctn,ct->nc", d, f).mul(-kappa * c / (total - 1))
    return torch.stack((b.sum(1) / c, torch.sqrt(b.var(1) / c)))


def estimate_loop(losses, phi, kappa):
    chains, draws, n = losses.shape
    f = phi.reshape(-1).tolist()
    mean_f = statistics.fmean(f)
    factor = -kappa * chains / (chains * draws - 1)
    out = [[], []]
    for i in range(n):
        a = losses[:, :, i].reshape(-1).tolist()
        mean_a = statistics.fmean(a)
        each = [(u - mean_a) * (v - mean_f) for u, v in zip(a, f, strict=True)]
        b = [factor * sum(each[c * draws : (c + 1) * draws]) for c in range(chains)]
        out[0].append(sum(b) / chains)
        out[1].append(statistics.stdev(b) / math.sqrt(chains))
    return out


def _chains(losses, phi, kappa):
    """The rows b_c: batched products of centred losses and φ."""
    chains, draws, n = losses.shape
    d = losses - losses.reshape(-1, n).mean(0)
    f = phi - phi.mean()
    return -kappa * chains * torch.bmm(f[:, None], d)[:, 0] / (chains * draws - 1)


def estimate_jackknife(losses, phi, kappa):
    """The error by leaving out one chain's b_c after the other."""
    b = _chains(losses, phi, kappa)
    chains = len(b)
    without = (b.sum(0) - b) / (chains - 1)
    spread = (without - without.mean(0)).square().sum(0)
    return [b.mean(0), ((chains - 1) / chains * spread) ** 0.5]


def estimate_pairs(losses, phi, kappa):
    """The variance between chains as half the mean squared difference of two of them."""
    b = _chains(losses, phi, kappa).numpy()
    chains = len(b)
    squares = ((b[:, None] - b[None]) ** 2).sum(axis=(0, 1))
    return b.sum(0) / chains, np.sqrt(squares / (2 * chains * (chains - 1)) / chains)


def estimate_library(losses, phi, kappa):
    n = losses.shape[2]
    value = -kappa * bayesian.covariance(losses.reshape(-1, n), phi.reshape(-1, 1))[:, 0]
    error = torch.var_mean(_chains(losses, phi, kappa), 0)[0].div(len(phi)).sqrt()
    return value, error


def estimate_within_between(losses, phi, kappa):
    """Each chain's own covariance, and the product of its two distances from the common means."""
    chains, draws, _ = losses.shape
    mean_a, mean_f = losses.mean(1), phi.mean(1)
    b = []
    for c in range(chains):
        own = (phi[c] - mean_f[c]) @ (losses[c] - mean_a[c])
        apart = (mean_f[c] - mean_f.mean()) * (mean_a[c] - mean_a.mean(0))
        b.append(-kappa * chains / (chains * draws - 1) * (own + draws * apart))
    b = torch.stack(b)
    return torch.stack([b.sum(0) / chains, (torch.cov(b.T).diag() / chains).sqrt()])


def estimate_centring_matrix(losses, phi, kappa):
    """All draws in one column, centred by the matrix I − 11ᵀ/N."""
    (chains, draws), total = phi.shape, phi.numel()
    centring = np.eye(total) - np.full((total, total), 1 / total)
    a = centring @ losses.numpy().reshape(total, -1)
    f = np.diag(centring @ phi.numpy().ravel())
    member = np.kron(np.eye(chains), np.ones(draws))
    b = -kappa * chains / (total - 1) * member @ f @ a
    return np.mean(b, 0), np.std(b, 0, ddof=1) / np.sqrt(chains)


def estimate_float32(losses, phi, kappa):
    return estimate_hint(losses.float(), phi.float(), kappa)


_h, _eta, _S = sp.symbols("h eta S", positive=True)
_hp, _etap, _Sp = sp.symbols("h eta S")
_keep, _v = 1 - _eta * _h / 2, sp.Symbol("v")

SGLD = {
    "sgld.part_a": {
        "hint": step_hint,
        "numpy": step_numpy,
        "list": step_list,
        "float32": step_float32,
        "factored": step_factored,
        "a draw": step_draw,
        "in place": step_in_place,
        "matrix": step_matrix,
        "Horner": step_horner,
        "slope": step_slope,
    },
    "sgld.part_b": {
        "hint": batch_hint,
        "numpy": batch_numpy,
        "autodiff": batch_autodiff,
        "backward": batch_backward,
        "loop": batch_loop,
        "data weights": batch_weights,
        "normal equations": batch_normal_equations,
        "library": batch_library,
        "float32": batch_float32,
        "pulled back": batch_pulled_back,
    },
    "sgld.part_c": {
        "plain": 1 / (_h * (1 - _eta * _h / 4)),
        "one fraction": 4 / (4 * _h - _eta * _h**2),
        "balance": _eta / (1 - _keep**2),
        "no assumptions": 4 / (_hp * (4 - _etap * _hp)),
        "solved": sp.solve(sp.Eq(_v, _keep**2 * _v + _eta), _v)[0],
        "posterior and inflation": (1 + _eta * _h / (4 - _eta * _h)) / _h,
        "floats": 1.0 / (_h - 0.25 * _eta * _h**2.0),
        "posterior and excess": 1 / _h + 1 / (4 / _eta - _h),
        "unevaluated": sp.Mul(sp.Pow(_h, -1), sp.Pow(1 - _eta * _h / 4, -1), evaluate=False),
        "difference of squares": _eta / ((1 - _keep) * (1 + _keep)),
    },
    "sgld.part_d": {
        "plain": (1 + _eta * _S / 4) / (_h * (1 - _eta * _h / 4)),
        "one fraction": (4 + _eta * _S) / (4 * _h - _eta * _h**2),
        "balance": (_eta + _eta**2 * _S / 4) / (1 - _keep**2),
        "no assumptions": (4 + _etap * _Sp) / _hp / (4 - _etap * _hp),
        "solved": sp.solve(_keep**2 * _v + _eta + _eta**2 * _S / 4 - _v, _v)[0],
        "two sources": 4 / (_h * (4 - _eta * _h)) + _eta * _S / (_h * (4 - _eta * _h)),
        "floats": (1.0 + 0.25 * _eta * _S) / (_h * (1.0 - 0.25 * _eta * _h)),
        "partial fractions": sp.apart((4 + _eta * _S) / (4 * _h - _eta * _h**2), _eta),
        "difference of squares": (_eta + (_eta / 2) ** 2 * _S) / ((1 - _keep) * (1 + _keep)),
        "a warmer bath": (_v / (_h - _eta * _h**2 / 4)).subs(
            _v, (_eta + (_eta / 2) ** 2 * _S) / _eta
        ),
    },
    "sgld.part_e": {
        "hint": chain_hint,
        "list": chain_list,
        "filled": chain_filled,
        "numpy": chain_numpy,
        "accumulate": chain_accumulate,
        "recursion": chain_recursion,
        "moves": chain_moves,
        "float32": chain_float32,
        "rescaled": chain_rescaled,
        "generator": chain_generator,
    },
    "sgld.part_f": {
        "float": 0.8,
        "ratio": 4 / 5,
        "sympy": sp.Rational(4, 5),
        "fraction": Fraction(4, 5),
        "decimal": Decimal("0.8"),
        "numpy": np.float32(0.8),
        "tensor": 4 / torch.tensor([0.3, 2.0, 5.0]).max(),
        "array": np.array(0.8),
        "of all directions": min(4 / curvature for curvature in (0.3, 2, 5)),
    },
    "sgld.part_g": {
        "brentq": spring_brentq,
        "halvings": spring_halvings,
        "largest eigenvalue": spring_eigenvalue,
        "newton": spring_newton,
        "polynomial": spring_polynomial,
        "logarithms": spring_logarithms,
        "float32": spring_float32,
        "fixed point": spring_fixed_point,
        "reciprocal": spring_reciprocal,
        "grids": spring_grids,
    },
    "sgld.part_h": {
        "hint": estimate_hint,
        "numpy": estimate_numpy,
        "einsum": estimate_einsum,
        "loop": estimate_loop,
        "jackknife": estimate_jackknife,
        "pairs": estimate_pairs,
        "library": estimate_library,
        "float32": estimate_float32,
        "within and between": estimate_within_between,
        "centring matrix": estimate_centring_matrix,
    },
    "sgld.part_i": {
        "plain": "less bias, more error",
        "capital": "Less bias, more error",
        "capitals": "LESS BIAS, MORE ERROR",
        "spaces": "  less bias,  more error ",
        "newline": "less bias,\nmore error\n",
    },
}


# --- transport -----------------------------------------------------------------------------------


def kl_hint(w, weights, loss, loss_k, kappa, epsilon, r):
    moved = w + epsilon * r
    energy = weights @ (loss(moved) - epsilon * loss_k(moved) - loss(w))
    return kappa * energy + torch.log(weights @ torch.exp(kappa * epsilon * loss_k(w)))


def kl_numpy(w, weights, loss, loss_k, kappa, epsilon, r):
    w, p = w.numpy(), weights.numpy()
    v = w + epsilon * r
    tilt = np.log(np.average(np.exp(kappa * epsilon * loss_k(w)), weights=p))
    return tilt + kappa * (np.dot(p, loss(v) - epsilon * loss_k(v)) - np.dot(p, loss(w)))


def kl_loop(w, weights, loss, loss_k, kappa, epsilon, r):
    w = w.numpy()
    v = w + epsilon * r
    here, there = loss(w).tolist(), (loss(v) - epsilon * loss_k(v)).tolist()
    each, tilts = [], []
    for p, a, b, c in zip(weights.tolist(), here, there, loss_k(w).tolist(), strict=True):
        each.append(kappa * p * (b - a))
        tilts.append(p * math.exp(kappa * epsilon * c))
    return math.fsum(each) + math.log(math.fsum(tilts))


def kl_partitions(w, weights, loss, loss_k, kappa, epsilon, r):
    """Both log-normalisers from the energies; `weights` serve for the average alone."""

    def target(w):
        return -kappa * (loss(w) - epsilon * loss_k(w))

    log_z = torch.logsumexp(-kappa * loss(w), 0)
    log_z_epsilon = torch.logsumexp(target(w), 0)
    log_ratio = (-kappa * loss(w) - log_z) - (target(w + epsilon * r) - log_z_epsilon)
    return torch.sum(weights * log_ratio)


def kl_moved_back(w, weights, loss, loss_k, kappa, epsilon, r):
    """The draws stay, and p_ε is moved by −εr: D does not change."""
    q = torch.log_softmax(-kappa * loss(w), 0)
    v = w + epsilon * r
    target = torch.log_softmax(-kappa * (loss(v) - epsilon * loss_k(v)), 0)
    return torch.nn.functional.kl_div(target, q, reduction="sum", log_target=True)


def kl_densities(w, weights, loss, loss_k, kappa, epsilon, r):
    """q and p_ε as densities on the grid, q(v) = p(v − εr), integrated by trapezoids."""
    w = w.numpy()
    log_q = -kappa * loss(w - epsilon * r)
    log_p = -kappa * (loss(w) - epsilon * loss_k(w))
    log_q = log_q - np.log(np.trapezoid(np.exp(log_q), w))
    log_p = log_p - scipy.special.logsumexp(log_p) - np.log(w[1] - w[0])
    return np.trapezoid(np.exp(log_q) * (log_q - log_p), w)


def kl_entropy(w, weights, loss, loss_k, kappa, epsilon, r):
    w = w.numpy()
    q = scipy.special.softmax(-kappa * loss(w - epsilon * r))
    p = scipy.special.softmax(-kappa * (loss(w) - epsilon * loss_k(w)))
    return scipy.stats.entropy(q, p)


def kl_path(w, weights, loss, loss_k, kappa, epsilon, r):
    """log Z_ε/Z along the path: κ times the integral of the mean of L_k over the weight taken."""
    at, share = np.polynomial.legendre.leggauss(24)
    taken = torch.from_numpy((at + 1) / 2 * epsilon)[:, None]
    k = loss_k(w)
    p = torch.softmax(kappa * taken * k - kappa * loss(w), 1)
    gained = torch.from_numpy(share) @ (p @ k) * epsilon / 2
    moved = w + epsilon * r
    return kappa * (gained + (weights * (loss(moved) - epsilon * loss_k(moved) - loss(w))).sum())


def kl_log_weights(w, weights, loss, loss_k, kappa, epsilon, r):
    """The tilt in logarithms, and one array of energies."""
    v = w + epsilon * r
    energies = torch.stack([loss(v), -epsilon * loss_k(v), -loss(w)])
    tilt = np.logaddexp.reduce(weights.log().numpy() + kappa * epsilon * loss_k(w.numpy()))
    return kappa * torch.einsum("ew,w->", energies, weights).item() + tilt


def kl_stepping_stones(w, weights, loss, loss_k, kappa, epsilon, r):
    """Z_ε/Z as a product of ratios, each over the distribution of the stage before."""
    stages, k = 8, loss_k(w)
    p, log_ratio = weights, 0.0
    for _ in range(stages):
        tilted = p * torch.exp(kappa * epsilon / stages * k)
        log_ratio += math.log(tilted.sum())
        p = tilted / tilted.sum()
    v = w + epsilon * r
    return log_ratio + kappa * float(weights @ (loss(v) - loss(w)) - epsilon * weights @ loss_k(v))


def shift_hint(x, y, sigma, tau, k):
    V = torch.linalg.inv(x.T @ x / sigma**2 + torch.eye(x.shape[1]).double() / tau**2)
    mu = V @ x.T @ y / sigma**2
    return -V @ x[k] * (y[k] - x[k] @ mu) / sigma**2


def shift_ridge(x, y, sigma, tau, k):
    x, y = x.numpy(), y.numpy()
    A = x.T @ x + (sigma / tau) ** 2 * np.eye(x.shape[1])
    mu, u = np.linalg.solve(A, np.column_stack([x.T @ y, x[k]])).T
    return u * (x[k] @ mu - y[k])


def _mean(x, y, sigma, tau, beta):
    precision = (x.T * beta) @ x / sigma**2 + torch.eye(x.shape[1], dtype=x.dtype) / tau**2
    return torch.linalg.solve(precision, x.T @ (beta * y) / sigma**2)


def shift_backward(x, y, sigma, tau, k):
    """Each coordinate of the mean, differentiated in the weight taken from z_k."""
    epsilon = torch.zeros((), dtype=x.dtype, requires_grad=True)
    beta = torch.ones_like(y) - epsilon * torch.eye(len(y), dtype=x.dtype)[k]
    mean = _mean(x, y, sigma, tau, beta)
    return [torch.autograd.grad(m, epsilon, retain_graph=True)[0] for m in mean]


def shift_complex_step(x, y, sigma, tau, k):
    """The derivative in the weight taken, as the imaginary part at an imaginary weight."""
    x, y = x.numpy(), y.numpy()
    beta = np.ones(len(y), dtype=complex)
    beta[k] -= 1e-20j
    precision = (x.T * beta) @ x / sigma**2 + np.eye(x.shape[1]) / tau**2
    return np.linalg.solve(precision, x.T @ (beta * y) / sigma**2).imag / 1e-20


def shift_library(x, y, sigma, tau, k):
    posterior = bayesian.Gibbs(linear(x, y, l2=tau**-2), sigma**-2)
    return -exact_posteriors.conjugate_influence(posterior)[k]


def shift_covariance(x, y, sigma, tau, k):
    """κ Cov(L_k, w), with the Gaussian's Cov(½(y − wᵀx)², w) = V·E[∇L_k]."""
    posterior = exact_posteriors.conjugate_posterior(
        bayesian.Gibbs(linear(x, y, l2=1 / tau**2), sigma**-2)
    )
    mean_slope = (posterior.mean @ x[k] - y[k]) * x[k]
    return sigma**-2 * torch.mv(posterior.covariance, mean_slope)


def shift_differences(x, y, sigma, tau, k):
    """Central differences of the mean in the weight taken, by stacked least squares."""
    n, p = x.shape
    rows = np.vstack([x.numpy() / sigma, np.eye(p) / tau])
    labels = np.concatenate([y.numpy() / sigma, np.zeros(p)])

    def mean(epsilon):
        root = np.ones(n + p)
        root[k] = np.sqrt(1 - epsilon)
        return np.linalg.lstsq(root[:, None] * rows, root * labels)[0]

    near, far = ((mean(e) - mean(-e)) / (2 * e) for e in (1e-3, 2e-3))
    return ((4 * near - far) / 3).tolist()


def shift_eigenbasis(x, y, sigma, tau, k):
    """The singular vectors of X, each shrunk by its own factor."""
    left, s, right = torch.linalg.svd(x, full_matrices=False)
    shrink = s / (s**2 + (sigma / tau) ** 2)
    mu = right.T @ (shrink * (left.T @ y))
    outside = x[k] - right.T @ (right @ x[k])  # nothing, unless n < p
    u = right.T @ (shrink / s * (right @ x[k])) + (tau / sigma) ** 2 * outside
    return (x[k] @ mu - y[k]) * u


def shift_removed(x, y, sigma, tau, k):
    """From the mean without z_k, as one update by Sherman and Morrison."""
    keep = torch.arange(len(y)) != k
    A = x[keep].T @ x[keep] + (sigma / tau) ** 2 * torch.eye(x.shape[1], dtype=x.dtype)
    mu, u = torch.linalg.solve(A, torch.stack([x[keep].T @ y[keep], x[k]], 1)).T
    return -u * (y[k] - x[k] @ mu) / (1 + x[k] @ u) ** 2


def shift_float32(x, y, sigma, tau, k):
    return shift_hint(x, y, sigma, tau, k).float()


def gauss_hint(mean_q, cov_q, mean_p, cov_p):
    gap = mean_p - mean_q
    total = torch.trace(torch.linalg.solve(cov_p, cov_q)) - len(gap)
    total = total + gap @ torch.linalg.solve(cov_p, gap)
    return 0.5 * (total + torch.logdet(cov_p) - torch.logdet(cov_q))


def gauss_numpy(mean_q, cov_q, mean_p, cov_p):
    a, Q, b, P = (t.numpy() for t in (mean_q, cov_q, mean_p, cov_p))
    inverse = np.linalg.inv(P)
    second_moment = Q + np.outer(a - b, a - b)
    logs = np.linalg.slogdet(P)[1] - np.linalg.slogdet(Q)[1]
    return float((np.sum(inverse * second_moment) - len(a) + logs) / 2)


def gauss_library(mean_q, cov_q, mean_p, cov_p):
    return kl_divergence(MultivariateNormal(mean_q, cov_q), MultivariateNormal(mean_p, cov_p))


def gauss_sigma_points(mean_q, cov_q, mean_p, cov_p):
    """log q − log p is quadratic: its mean over q is that over the points μ_q ± √d (root of Q)."""
    d = len(mean_q)
    reach = d**0.5 * torch.linalg.cholesky(cov_q).T
    at = torch.cat([mean_q + reach, mean_q - reach])
    q, p = MultivariateNormal(mean_q, cov_q), MultivariateNormal(mean_p, cov_p)
    return (q.log_prob(at) - p.log_prob(at)).mean()


def gauss_roots(mean_q, cov_q, mean_p, cov_p):
    """Whitened by the root of P: sums of squares, and log-diagonals for log-determinants."""
    root_q, root_p = np.linalg.cholesky(cov_q), np.linalg.cholesky(cov_p)
    both = np.column_stack([root_q, mean_q - mean_p])
    white = scipy.linalg.solve_triangular(root_p, both, lower=True)
    ratio = np.diag(root_p) / np.diag(root_q)
    return 0.5 * np.square(white).sum() - len(ratio) / 2 + np.log(ratio).sum()


def gauss_eigenvalues(mean_q, cov_q, mean_p, cov_p):
    """One dimension after the other, in the basis in which Q and P are both diagonal."""
    values, basis = scipy.linalg.eigh(cov_q.numpy(), cov_p.numpy())
    gap = basis.T @ (mean_q - mean_p).numpy()
    each = zip(values.tolist(), gap.tolist(), strict=True)
    return sum((v - 1 - math.log(v) + g * g) / 2 for v, g in each)


def gauss_cross_entropy(mean_q, cov_q, mean_p, cov_p):
    entropy = scipy.stats.multivariate_normal(mean_q.numpy(), cov_q.numpy()).entropy()
    d, gap = len(mean_q), mean_q - mean_p
    quadratic = torch.trace(torch.linalg.inv(cov_p) @ (cov_q + gap[:, None] * gap))
    cross = 0.5 * (d * math.log(2 * math.pi) + math.log(torch.linalg.det(cov_p)) + quadratic)
    return float(cross) - entropy


def gauss_bregman(mean_q, cov_q, mean_p, cov_p):
    """The Bregman divergence of the log-normaliser, in the natural parameters."""

    def log_z(half, linear):  # of exp(linear·w − wᵀ half w)
        return linear @ torch.linalg.solve(half, linear) / 4 - torch.logdet(2 * half) / 2

    def natural(mean, cov):
        return torch.linalg.inv(cov) / 2, torch.linalg.solve(cov, mean)

    q, p = natural(mean_q, cov_q), natural(mean_p, cov_p)
    slopes = grad(log_z, argnums=(0, 1))(*q)
    along = sum((s * (b - a)).sum() for s, a, b in zip(slopes, q, p, strict=True))
    return log_z(*p) - log_z(*q) - along


def gauss_singular_values(mean_q, cov_q, mean_p, cov_p):
    """q seen in coordinates in which p is standard normal."""
    root_p = torch.linalg.cholesky(cov_p)
    s = torch.linalg.svdvals(torch.linalg.solve(root_p, torch.linalg.cholesky(cov_q)))
    gap = torch.linalg.solve(root_p, mean_q - mean_p)
    return (0.5 * (s.square() - 1) - s.log()).sum() + 0.5 * gap.dot(gap)


def gauss_float32(mean_q, cov_q, mean_p, cov_p):
    return gauss_hint(mean_q, cov_q, mean_p, cov_p).float()


_e, _l, _g, _k, _r = sp.symbols("epsilon l g h r")
_ep, _lp, _gp, _kp, _rp = sp.symbols("epsilon l g h r", positive=True)
_w, _kappa, _t = sp.symbols("w kappa t", positive=True)
_down = _k * _w**2 / 2 - _e * (_l + _g * _w)  # L − εL_k
_lowest = sp.solve(sp.diff(_down, _w), _w)[0]
_log_ratio = _kappa * (_e * _l + _e**2 * _g**2 / (2 * _k))  # log E[exp(κεL_k)], a Gaussian's

TRANSPORT = {
    "transport.part_a": {
        "hint": kl_hint,
        "numpy": kl_numpy,
        "loop": kl_loop,
        "partitions": kl_partitions,
        "moved back": kl_moved_back,
        "densities": kl_densities,
        "entropy": kl_entropy,
        "path": kl_path,
        "log weights": kl_log_weights,
        "stepping stones": kl_stepping_stones,
    },
    "transport.part_b": {
        "plain": _e * _l + _e**2 * _g**2 / (2 * _k),
        "positive": _ep * _lp + (_ep * _gp) ** 2 / _kp / 2,
        "lowest value": -_down.subs(_w, _lowest),
        "factored": _e * (2 * _k * _l + _e * _g**2) / (2 * _k),
        "limit": sp.limit(_log_ratio / _kappa, _kappa, sp.oo),
        "floats": 1.0 * _e * _l + 0.5 * _e**2.0 * _g**2 / _k,
        "integrated": sp.integrate(_l + _e * _g**2 / _k, _e),
        "unevaluated": sp.Integral(_l + _t * _g**2 / _k, (_t, 0, _e)),
        "substituted": sp.Subs(_e * _l + _e * _g * _w / 2, _w, _e * _g / _k),
        "cumulants": sp.expand(
            (_kappa * _e * _l + (_kappa * _e * _g) ** 2 / (_kappa * _k) / 2) / _kappa
        ),
    },
    "transport.part_c": {
        "square": _e**2 * _k * (_r - _g / _k) ** 2 / 2,
        "expanded": sp.expand(_e**2 * (_k * _r - _g) ** 2 / (2 * _k)),
        "positive": (_ep * (_kp * _rp - _gp)) ** 2 / (2 * _kp),
        "energy and normaliser": _down.subs(_w, _e * _r) + _log_ratio / _kappa,
        "above the lowest": _down.subs(_w, _e * _r) - _down.subs(_w, _lowest),
        "two Gaussians": sp.Rational(1, 2) * (_e * _r - _e * _g / _k) ** 2 * _kappa * _k / _kappa,
        "floats": 0.5 * _k * (_e * _r - 1.0 * _e * _g / _k) ** 2,
        "unevaluated": sp.Integral(_k * (_w - _e * _g / _k), (_w, _e * _g / _k, _e * _r)),
        "other sign": _k / 2 * (_e / _k) ** 2 * (_g - _k * _r) ** 2,
        "above the best": _e**2
        * ((_k * _r**2 / 2 - _g * _r) - (_k * (_g / _k) ** 2 / 2 - _g * (_g / _k))),
    },
    "transport.part_d": {
        "plain": "sixth",
        "capital": "Sixth",
        "capitals": "SIXTH",
        "spaces": "  sixth ",
        "newline": "sixth\n",
    },
    "transport.part_e": {
        "hint": shift_hint,
        "ridge": shift_ridge,
        "backward": shift_backward,
        "complex step": shift_complex_step,
        "library": shift_library,
        "covariance": shift_covariance,
        "differences": shift_differences,
        "eigenbasis": shift_eigenbasis,
        "without z_k": shift_removed,
        "float32": shift_float32,
    },
    "transport.part_f": {
        "hint": gauss_hint,
        "numpy": gauss_numpy,
        "library": gauss_library,
        "sigma points": gauss_sigma_points,
        "roots": gauss_roots,
        "eigenvalues": gauss_eigenvalues,
        "cross entropy": gauss_cross_entropy,
        "float32": gauss_float32,
        "Bregman": gauss_bregman,
        "singular values": gauss_singular_values,
    },
    "transport.part_g": {
        "int": 1,
        "float": 1.0,
        "sympy": sp.Integer(1),
        "fraction": Fraction(1),
        "decimal": Decimal(1),
        "numpy": np.float64(1),
        "tensor": torch.tensor(1),
        "top less mean": torch.linspace(-1, 1, 101).max() - torch.linspace(-1, 1, 101).mean(),
    },
    "transport.part_h": {
        "plain": sp.Rational(5, 6) * _e ** sp.Rational(6, 5),
        "positive": 5 * _ep ** sp.Rational(6, 5) / 6,
        "lowest value": -(_w**6 / 6 - _ep * _w).subs(_w, sp.root(_ep, 5)),
        "floats": 5 / 6 * _e ** (6 / 5),
        "roots": sp.Rational(5, 6) * sp.root(_e, 5) ** 6,
        "product": _e * sp.root(_e, 5) - _e * sp.root(_e, 5) / 6,
        "unevaluated": sp.Integral(_t ** sp.Rational(1, 5), (_t, 0, _ep)),
        "logarithms": sp.exp(sp.log(_ep) * 6 / 5) * 5 / 6,
        "any power": ((1 - 1 / _w) * _ep ** (_w / (_w - 1))).subs(_w, 6),
        "in the minimum": (_w * _w**5 - _w**6 / 6).subs(_w, _ep ** sp.Rational(1, 5)),
    },
}
