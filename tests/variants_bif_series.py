"""Correct answers to the first and the last exercise of chapter 3: {part id: {name: answer}}.

Each was derived from the question and its hints, without a look at the reference of the part.
"""

import math
from itertools import permutations, product

import numpy as np
import scipy.special
import sympy as sp
import torch
from torch.func import grad, jacfwd, jacrev, vmap

from lib import bayesian, exact_posteriors, influence, objective
from lib.models import linear

# --- bif_covariance ------------------------------------------------------------------------------


def posterior_hint(losses, beta, log_prior, kappa):
    return torch.softmax(log_prior - kappa * losses @ beta, dim=0)


def posterior_lists(losses, beta, log_prior, kappa):
    p = []
    for row, a in zip(losses.tolist(), log_prior.tolist(), strict=True):
        p.append(math.exp(a - kappa * sum(b * l for b, l in zip(beta.tolist(), row, strict=True))))
    return [q / math.fsum(p) for q in p]


def posterior_factors(losses, beta, log_prior, kappa):
    """One likelihood after another, each tempered and to the power of its weight."""
    p = np.exp(log_prior.numpy())
    for likelihood, b in zip(np.exp(-losses.numpy()).T, beta.numpy(), strict=True):
        p = p * likelihood ** (kappa * b)
        p = p / p.sum()
    return p


def posterior_logs(losses, beta, log_prior, kappa):
    u = torch.einsum("kn,n->k", losses, beta).mul(-kappa) + log_prior
    return (u - u.logsumexp(0)).exp()


def posterior_categorical(losses, beta, log_prior, kappa):
    energy = kappa * (losses * beta).sum(1) - log_prior
    return torch.distributions.Categorical(logits=-energy).probs


def posterior_scipy(losses, beta, log_prior, kappa):
    return scipy.special.softmax(log_prior.numpy() - kappa * np.dot(losses.numpy(), beta.numpy()))


def posterior_partition(losses, beta, log_prior, kappa):
    """log Z, differentiated in the log-prior of each point."""
    return grad(lambda a: torch.logsumexp(a - kappa * (losses @ beta), 0))(log_prior)


def posterior_library(losses, beta, log_prior, kappa):
    """The prior, tilted by minus the loss: the mean of every indicator."""
    eye = torch.eye(len(losses), dtype=losses.dtype)
    prior = torch.softmax(log_prior, 0)
    return bayesian.reweighted_mean(eye, -(losses @ beta), 1.0, kappa, prior)


def posterior_ratios(losses, beta, log_prior, kappa):
    u = log_prior - kappa * (losses @ beta)
    return 1 / torch.exp(u[None, :] - u[:, None]).sum(1)


def posterior_float32(losses, beta, log_prior, kappa):
    return torch.softmax(log_prior.float() - kappa * losses.float() @ beta.float(), 0)


def bif_hint(losses, phi, weights, kappa):
    return -kappa * (weights @ (losses * phi[:, None]) - (weights @ losses) * (weights @ phi))


def bif_centred(losses, phi, weights, kappa):
    return -kappa * losses.T @ (weights * (phi - weights @ phi))


def bif_library(losses, phi, weights, kappa):
    return bayesian.bif(losses, phi, kappa, weights)


def bif_definition(losses, phi, weights, kappa):
    def mean(beta):
        return torch.softmax(weights.log() - kappa * losses @ (beta - 1), 0) @ phi

    return grad(mean)(torch.ones(losses.shape[1], dtype=losses.dtype))


def bif_differences(losses, phi, weights, kappa):
    """By differences of reweighted means, all examples at once, which know of no covariance."""
    w, l, f = weights.numpy()[:, None], losses.numpy(), phi.numpy()

    def mean(theta):  # with β_i = 1 − θ
        q = w * np.exp(kappa * theta * l)
        return f @ q / q.sum(0)

    near, far = ((mean(-t) - mean(t)) / (2 * t) for t in (1e-3, 2e-3))
    return (4 * near - far) / 3


def bif_numpy_cov(losses, phi, weights, kappa):
    table = np.cov(losses.numpy().T, phi.numpy(), aweights=weights.numpy(), ddof=0)
    return -kappa * table[-1, :-1]


def bif_loop(losses, phi, weights, kappa):
    p, f = weights.tolist(), phi.tolist()
    mean = sum(q * v for q, v in zip(p, f, strict=True))
    answer = []
    for column in losses.T.tolist():
        level = sum(q * l for q, l in zip(p, column, strict=True))
        rows = zip(p, column, f, strict=True)
        answer.append(-kappa * sum(q * (l - level) * (v - mean) for q, l, v in rows))
    return answer


def bif_pairs(losses, phi, weights, kappa):
    """Half the mean product of differences between two independent draws."""
    w, l, f = weights.numpy(), losses.numpy(), phi.numpy()
    apart = np.outer(w, w) * (f[:, None] - f)
    return -0.5 * kappa * np.einsum("kl,kln->n", apart, l[:, None] - l)


def bif_generating(losses, phi, weights, kappa):
    """The mixed second derivative of log E[exp(θφ − κ Σ b_i L_i)] at zero: a joint cumulant."""
    theta = torch.tensor(0.0, dtype=losses.dtype, requires_grad=True)
    b = torch.zeros(losses.shape[1], dtype=losses.dtype, requires_grad=True)
    log_z = torch.logsumexp(weights.log() + theta * phi - kappa * (losses @ b), 0)
    (mean,) = torch.autograd.grad(log_z, theta, create_graph=True)
    return torch.autograd.grad(mean, b)[0]


def bif_float32(losses, phi, weights, kappa):
    losses, phi, weights = losses.float(), phi.float(), weights.float()
    return kappa * (weights * (weights @ phi - phi)) @ losses


def rbif_hint(x, y, sigma, tau):
    v = torch.linalg.inv(x.T @ x / sigma**2 + torch.eye(x.shape[1]).double() / tau**2)
    r = y - x @ (v @ x.T @ y) / sigma**2
    return x @ v * r[:, None] / sigma**2


def rbif_library(x, y, sigma, tau):
    return exact_posteriors.conjugate_influence(bayesian.Gibbs(linear(x, y, l2=tau**-2), sigma**-2))


def rbif_damped(x, y, sigma, tau):
    """The damped influence function of chapter 2, at the ridge solution."""
    lam = (sigma / tau) ** 2
    solve = influence.direct(x.T @ x, lam)
    return solve((y - x @ solve(x.T @ y))[:, None] * x)


def rbif_autodiff(x, y, sigma, tau):
    def mean(beta):
        a = (beta[:, None] * x).T @ x + (sigma / tau) ** 2 * torch.eye(x.shape[1], dtype=x.dtype)
        return torch.linalg.solve(a, x.T @ (beta * y))

    return jacrev(mean)(torch.ones_like(y)).T


def rbif_augmented(x, y, sigma, tau):
    """The prior as p more examples, at zero and with a noise of their own."""
    p = x.shape[1]
    rows = np.vstack([x.numpy() / sigma, np.eye(p) / tau])
    mu = np.linalg.lstsq(rows, np.append(y.numpy() / sigma, np.zeros(p)), rcond=None)[0]
    pulls = np.linalg.pinv(rows)[:, : len(y)] / sigma  # V x_j / σ²
    return (pulls * (y.numpy() - x.numpy() @ mu)).T


def rbif_kernel(x, y, sigma, tau):
    """A Gaussian process with the kernel τ² x·x′: residuals are σ² K⁻¹ y."""
    k = tau**2 * x @ x.T + sigma**2 * torch.eye(len(y), dtype=x.dtype)
    return tau**2 * (torch.linalg.solve(k, x) * (sigma**2 * torch.linalg.solve(k, y))[:, None])


def rbif_svd(x, y, sigma, tau):
    u, s, vt = np.linalg.svd(np.asarray(x), full_matrices=False)
    filtered = s**2 + (sigma / tau) ** 2
    r = y.numpy() - u @ (s**2 / filtered * (u.T @ y.numpy()))
    return np.diag(r) @ u @ np.diag(s / filtered) @ vt


def rbif_left_out(x, y, sigma, tau):
    """From n posteriors without one example each: μ − μ_(−j) = BIF_j / (1 − h_j)."""
    lam = (sigma / tau) ** 2 * np.eye(x.shape[1])
    a, b = x.numpy().T @ x.numpy() + lam, (x.T @ y).numpy()
    mu, rows = np.linalg.solve(a, b), []
    for x_j, y_j in zip(x.numpy(), y.numpy(), strict=True):
        without = np.linalg.solve(a - np.outer(x_j, x_j), b - x_j * y_j)
        rows.append((1 - x_j @ np.linalg.solve(a, x_j)) * (mu - without))
    return rows


def rbif_lists(x, y, sigma, tau):
    precision = (x.T @ x / sigma**2).numpy() + np.eye(x.shape[1]) * tau**-2
    mu = np.linalg.solve(precision, x.numpy().T @ y.numpy()) * sigma**-2
    rows = []
    for x_j, y_j in zip(x.numpy(), y.tolist(), strict=True):
        covariances = -(y_j - mu @ x_j) * np.linalg.solve(precision, x_j)  # of L_j with every w_a
        rows.append([-c / sigma**2 for c in covariances.tolist()])
    return rows


def rbif_float32(x, y, sigma, tau):
    x, y = x.float(), y.float()
    a = x.T @ x + (sigma / tau) ** 2 * torch.eye(x.shape[1])
    return torch.linalg.solve(a, x.T * (y - x @ torch.linalg.solve(a, x.T @ y))).T


def loo_hint(losses, phi, weights, kappa):
    q = weights[:, None] * (kappa * losses).exp()
    return phi @ (q / q.sum(0)) - weights @ phi


def loo_library(losses, phi, weights, kappa):
    after = [bayesian.reweighted_mean(phi, l, 1.0, kappa, weights) for l in losses.T]
    return torch.stack(after) - bayesian.average(phi, weights)


def loo_softmax(losses, phi, weights, kappa):
    without = torch.softmax(weights.log()[:, None] + kappa * losses, dim=0)
    return torch.einsum("k,ki->i", phi, without) - (weights * phi).sum()


def loo_covariance(losses, phi, weights, kappa):
    """Cov(φ, e^(κL)) / E[e^(κL)]."""
    e = np.exp(kappa * losses.numpy())
    w, f = weights.numpy(), phi.numpy()
    return (w * (f - w @ f)) @ e / (w @ e)


def loo_numpy_average(losses, phi, weights, kappa):
    w, f = weights.numpy(), phi.numpy()
    new = [np.average(f, weights=w * np.exp(kappa * l)) for l in losses.numpy().T]
    return np.subtract(new, np.average(f, weights=w))


def loo_lists(losses, phi, weights, kappa):
    p, f = weights.tolist(), phi.tolist()
    answer = []
    for column in losses.T.tolist():
        q = [a * math.exp(kappa * (l - max(column))) for a, l in zip(p, column, strict=True)]
        mean = math.fsum(a * v for a, v in zip(q, f, strict=True)) / math.fsum(q)
        answer.append(mean - math.fsum(a * v for a, v in zip(p, f, strict=True)))
    return tuple(answer)


def loo_posterior(losses, phi, weights, kappa):
    """The prior that `weights` must have had, and part (a) with every β in turn."""
    n = losses.shape[1]
    log_prior = weights.log() + kappa * losses.sum(1)
    betas = torch.ones(n + 1, n, dtype=losses.dtype)
    betas[:n] -= torch.eye(n)
    means = vmap(lambda b: posterior_logs(losses, b, log_prior, kappa) @ phi)(betas)
    return means[:n] - means[n]


def loo_float32(losses, phi, weights, kappa):
    w = weights.float()[:, None]
    q = w * (kappa * losses.float()).exp()
    return ((q / q.sum(0) - w) * phi.float()[:, None]).sum(0)


def loo_generating(losses, phi, weights, kappa):
    """log E[exp(κL_i + tφ)], differentiated in t at zero, is the mean without example i."""

    def log_z(t):
        return torch.logsumexp(weights.log()[:, None] + kappa * losses + t * phi[:, None], 0)

    zero = torch.tensor(0.0, dtype=losses.dtype)
    return jacrev(log_z)(zero) - weights @ phi


def loo_path(losses, phi, weights, kappa):
    """κ Cov(L_i, φ) under every weight between one and zero, by Gauss–Legendre."""
    nodes, mass = np.polynomial.legendre.leggauss(40)
    l, f, total = losses.numpy(), phi.numpy()[:, None], 0.0
    for t, m in zip((nodes + 1) / 2, mass / 2, strict=True):  # the weight taken away so far
        q = scipy.special.softmax(weights.log().numpy()[:, None] + kappa * t * l, axis=0)
        total += m * kappa * ((q * l * f).sum(0) - (q * l).sum(0) * (q * f).sum(0))
    return total


def _symbols(names: str, **assumptions):
    return sp.symbols(names, **assumptions)


_kappa, _n, _rho, _s, _z, _beta = _symbols("kappa n rho s z beta")
_kp, _np, _rp = _symbols("kappa n rho", positive=True)
_sr, _zr = _symbols("s z", real=True)
_mu, _v = _symbols("mu v")
_mur, _vp = sp.Symbol("mu", real=True), sp.Symbol("v", positive=True)
_tilted_mean = _kappa * (_s + (_beta - 1) * _z) / (_kappa * (_n + _beta - 1) + _rho)
_slope = _kappa * (_n * _mu - _s + (_beta - 1) * (_mu - _z)) + _rho * _mu  # of the energy
_lam = _rho / _kappa
# N(mu, v) upweighted by beta: precision and mean, then the mean of w²
_precision = 1 / _v + _kappa * _beta
_mean = (_mu / _v + _kappa * _beta * _z) / _precision
_square = _mean**2 + 1 / _precision


def _raw(k, mu=_mu, v=_v):
    """E[w^k] under N(mu, v)."""
    return [1, mu, mu**2 + v, mu**3 + 3 * mu * v, mu**4 + 6 * mu**2 * v + 3 * v**2][k]


BIF_COVARIANCE = {
    "bif_covariance.part_a": {
        "hint": posterior_hint,
        "lists": posterior_lists,
        "factors": posterior_factors,
        "logs": posterior_logs,
        "categorical": posterior_categorical,
        "scipy": posterior_scipy,
        "partition function": posterior_partition,
        "library": posterior_library,
        "ratios": posterior_ratios,
        "float32": posterior_float32,
    },
    "bif_covariance.part_b": {
        "hint": bif_hint,
        "centred": bif_centred,
        "library": bif_library,
        "definition": bif_definition,
        "differences": bif_differences,
        "numpy's cov": bif_numpy_cov,
        "loop": bif_loop,
        "pairs": bif_pairs,
        "generating function": bif_generating,
        "float32": bif_float32,
    },
    "bif_covariance.part_c": {
        "plain": _kappa * (_z - _kappa * _s / (_kappa * _n + _rho)) / (_kappa * _n + _rho),
        "damped": (_z - _s / (_n + _lam)) / (_n + _lam),
        "positive": _kp * ((_kp * _np + _rp) * _zr - _kp * _sr) / (_kp * _np + _rp) ** 2,
        "expanded": sp.expand(_kappa * ((_kappa * _n + _rho) * _z - _kappa * _s))
        / sp.expand((_kappa * _n + _rho) ** 2),
        "together": sp.together(_kappa * (_z - _s / (_n + _lam)) / (_kappa * _n + _rho)),
        "floats": -1.0 * (_s / (1.0 * _n + _lam) - _z) / (_n + 1.0 * _rho / _kappa),
        "differentiated": sp.diff(_tilted_mean, _beta).subs(_beta, 1),
        "unevaluated": sp.Subs(sp.Derivative(_tilted_mean, _beta), _beta, 1),
        "two terms": _kappa * _z / (_kappa * _n + _rho) - _s * (_kappa / (_kappa * _n + _rho)) ** 2,
        "implicit": (-sp.diff(_slope, _beta) / sp.diff(_slope, _mu)).subs(
            {_beta: 1, _mu: _kappa * _s / (_kappa * _n + _rho)}
        ),
    },
    "bif_covariance.part_d": {
        "plain": -_kappa * (_v**2 + 2 * _mu * (_mu - _z) * _v),
        "factored": _kappa * _v * (2 * _mu * (_z - _mu) - _v),
        "positive": _kp * _vp * (2 * _mur * _zr - 2 * _mur**2 - _vp),
        "expanded": sp.expand(-_kappa * _v * (_v + 2 * _mu * (_mu - _z))),
        "raw moments": -_kappa
        * (
            _raw(4) / 2
            - _z * _raw(3)
            + _z**2 * _raw(2) / 2
            - (_raw(2) / 2 - _z * _raw(1) + _z**2 / 2) * _raw(2)
        ),
        "floats": -2.0 * _kappa * _v * (0.5 * _v + _mu * (_mu - _z)),
        "differentiated": sp.diff(_square, _beta).subs(_beta, 0),
        "unevaluated": sp.Subs(sp.Derivative(_square, _beta), _beta, 0),
        "Hermite": -_kappa * (_v * (2 * _mu) * (_mu - _z) + _v**2 / 2 * 2 * 1),
        "completed square": -_kappa * ((_v + _mu * (_mu - _z)) ** 2 - (_mu * (_mu - _z)) ** 2),
    },
    "bif_covariance.part_e": {
        "hint": rbif_hint,
        "library": rbif_library,
        "damped": rbif_damped,
        "autodiff": rbif_autodiff,
        "augmented": rbif_augmented,
        "kernel": rbif_kernel,
        "svd": rbif_svd,
        "left out": rbif_left_out,
        "lists": rbif_lists,
        "float32": rbif_float32,
    },
    "bif_covariance.part_f": {
        "plain": "unchanged",
        "capital": "Unchanged",
        "capitals": "UNCHANGED",
        "spaces": "  unchanged ",
        "newline": "unchanged\n",
        "numpy's": np.str_("unchanged"),
    },
    "bif_covariance.part_g": {
        "hint": loo_hint,
        "library": loo_library,
        "softmax": loo_softmax,
        "covariance": loo_covariance,
        "numpy's average": loo_numpy_average,
        "lists": loo_lists,
        "posterior": loo_posterior,
        "float32": loo_float32,
        "generating function": loo_generating,
        "path": loo_path,
    },
}

# --- power_series --------------------------------------------------------------------------------


def laplace_hint(o, w, kappa, gamma):
    return torch.linalg.inv(kappa * objective.hessian(o, w) + gamma * torch.eye(len(w)))


def laplace_closed(o, w, kappa, gamma):
    p = torch.sigmoid(o.x @ w)
    h = torch.einsum("i,ia,ib->ab", p * (1 - p), o.x, o.x)
    return torch.cholesky_inverse(torch.linalg.cholesky(kappa * h + gamma * torch.eye(len(w))))


def laplace_loop(o, w, kappa, gamma):
    u = gamma * np.eye(len(w))
    for x_i in o.x.numpy():
        u += kappa / (2 * np.cosh(x_i @ w.numpy() / 2)) ** 2 * np.outer(x_i, x_i)
    return np.linalg.inv(u).tolist()


def laplace_svd(o, w, kappa, gamma):
    """Along the singular vectors of √D X, with γ added to every direction's curvature."""
    root = 1 / (2 * torch.cosh(o.x @ w / 2))
    _, s, vt = torch.linalg.svd(root[:, None] * o.x, full_matrices=False)
    return (vt.T / (kappa * s**2 + gamma)) @ vt


def laplace_double_backward(o, w, kappa, gamma):
    v = w.clone().requires_grad_()
    spring = gamma / 2 * (v - w).square().sum()
    energy = kappa * torch.log1p(torch.exp(-o.y * (o.x @ v))).sum() + spring
    (slope,) = torch.autograd.grad(energy, v, create_graph=True)
    rows = [torch.autograd.grad(part, v, retain_graph=True)[0] for part in slope]
    return torch.stack(rows).inverse()


def laplace_slopes(o, w, kappa, gamma):
    def slope(v):
        return gamma * (v - w) - kappa * (o.y * torch.sigmoid(-o.y * (o.x @ v))) @ o.x

    return jacrev(slope)(w).inverse()


def laplace_difference_of_gradients(o, w, kappa, gamma):
    """Central differences of the summed gradient, four orders good."""
    columns = []
    for e in torch.eye(len(w), dtype=w.dtype).numpy():
        near, far = (
            (_summed_gradient(o, w.numpy() + t * e) - _summed_gradient(o, w.numpy() - t * e)) / t
            for t in (1e-3, 2e-3)
        )
        columns.append(kappa * (4 * near - far) / 6 + gamma * e)
    return np.linalg.inv(np.stack(columns))


def _summed_gradient(o, w):
    y, x = o.y.numpy(), o.x.numpy()
    return -(y * scipy.special.expit(-y * (x @ w))) @ x


def laplace_woodbury(o, w, kappa, gamma):
    """From an n × n matrix: (1/γ)(I − Xᵀ(D⁻¹ + XXᵀ/γ)⁻¹X/γ)."""
    x, q = o.x.numpy(), scipy.special.expit((o.x @ w).numpy())
    inner = np.diag(1 / (kappa * q * (1 - q))) + x @ x.T / gamma
    return (np.eye(len(w)) - x.T @ np.linalg.solve(inner, x) / gamma) / gamma


def laplace_float32(o, w, kappa, gamma):
    p = torch.sigmoid(o.x @ w).float()
    h = (o.x.float().T * (p * (1 - p))) @ o.x.float()
    return torch.linalg.inv(kappa * h + gamma * torch.eye(len(w)))


def leading_hint(f1, g, h):
    return -g @ torch.linalg.solve(h, f1)


def leading_einsum(f1, g, h):
    return -torch.einsum("a,ab,ib->i", f1, torch.linalg.inv(h), g)


def leading_lists(f1, g, h):
    answer = []
    for g_i in g.numpy():
        answer.append(-float(np.dot(f1.numpy(), np.linalg.solve(h.numpy(), g_i))))
    return answer


def leading_library(f1, g, h):
    return -influence.direct(h)(g) @ f1


def leading_conjugate_gradient(f1, g, h):
    return -g @ influence.conjugate_gradient(lambda v: h @ v, f1, tolerance=1e-12)[0]


def leading_whitened(f1, g, h):
    """As minus the plain product of two vectors in units of the posterior's widths."""
    root = np.linalg.cholesky(h.numpy())
    return -np.linalg.solve(root, g.numpy().T).T @ np.linalg.solve(root, f1.numpy())


def leading_autodiff(f1, g, h):
    """φ at the minimum of ½δᵀHδ + Σ(β_i − 1) g_i·δ, in β."""
    beta = torch.zeros(len(g), dtype=g.dtype)
    return grad(lambda b: -f1 @ torch.linalg.solve(h, g.T @ b))(beta)


def leading_float32(f1, g, h):
    return -torch.linalg.solve(h.float(), g.float().T).T @ f1.float()


def isserlis_hint(sigma, a, b, c, d):
    def pair(u, v):
        return u @ sigma @ v

    return pair(a, b) * pair(c, d) + pair(a, c) * pair(b, d) + pair(a, d) * pair(b, c)


def isserlis_tensor(sigma, a, b, c, d):
    fourth = torch.einsum("ij,kl->ijkl", sigma, sigma)
    fourth = fourth + fourth.permute(0, 2, 1, 3) + fourth.permute(0, 2, 3, 1)
    return torch.einsum("ijkl,i,j,k,l->", fourth, a, b, c, d)


def isserlis_permutations(sigma, a, b, c, d):
    """All 24 orders, each pairing being met eight times."""
    rows = torch.stack([a, b, c, d])
    s = (rows @ sigma @ rows.T).tolist()
    return sum(s[i][j] * s[k][l] for i, j, k, l in permutations(range(4))) / 8


def isserlis_recursive(sigma, a, b, c, d):
    """Stein: E[(u·δ) f(δ)] = uᵀΣ E[∇f]."""

    def moment(vectors):
        if not vectors:
            return 1.0
        first, rest = vectors[0], vectors[1:]
        return sum(
            float(first @ sigma @ v) * moment(rest[:k] + rest[k + 1 :]) for k, v in enumerate(rest)
        )

    return moment([a, b, c, d])


def isserlis_polarised(sigma, a, b, c, d):
    """A product of four as a sum of fourth powers, whose mean is 3 (uᵀΣu)²."""
    signs = np.array(list(product((1, -1), repeat=4)))
    u = signs @ np.stack([v.numpy() for v in (a, b, c, d)])
    powers = 3 * np.einsum("ki,ij,kj->k", u, sigma.numpy(), u) ** 2
    return signs.prod(1) @ powers / (math.factorial(4) * 16)


def isserlis_quadrature(sigma, a, b, c, d):
    """Gauss–Hermite with three nodes a side is exact up to degree five."""
    nodes = np.array(list(product((-math.sqrt(3), 0, math.sqrt(3)), repeat=len(a))))
    mass = np.where(nodes == 0, 2 / 3, 1 / 6).prod(1)
    at = nodes @ np.linalg.cholesky(sigma.numpy()).T
    return mass @ np.prod([at @ v.numpy() for v in (a, b, c, d)], axis=0)


def isserlis_loops(sigma, a, b, c, d):
    s, total = sigma.tolist(), 0.0
    for i, a_i in enumerate(a.tolist()):
        for j, b_j in enumerate(b.tolist()):
            for k, c_k in enumerate(c.tolist()):
                for l, d_l in enumerate(d.tolist()):
                    fourth = s[i][j] * s[k][l] + s[i][k] * s[j][l] + s[i][l] * s[j][k]
                    total += a_i * b_j * c_k * d_l * fourth
    return total


def isserlis_matrices(sigma, a, b, c, d):
    """tr(MΣ) tr(NΣ) + 2 tr(MΣNΣ) with M and N the symmetric parts of abᵀ and cdᵀ."""
    m, n = ((torch.outer(u, v) + torch.outer(v, u)) / 2 @ sigma for u, v in ((a, b), (c, d)))
    return m.trace() * n.trace() + 2 * (m @ n).trace()


def two_two_hint(sigma, f2, g2):
    return 0.5 * torch.trace(f2 @ sigma @ g2 @ sigma)


def two_two_einsum(sigma, f2, g2):
    return np.einsum("ab,cd,ac,bd", f2.numpy(), g2.numpy(), sigma.numpy(), sigma.numpy()) / 2


def two_two_whitened(sigma, f2, g2):
    root = torch.linalg.cholesky(sigma)
    return ((root.T @ f2 @ root) * (root.T @ g2 @ root)).sum() / 2


def two_two_kronecker(sigma, f2, g2):
    return f2.reshape(-1) @ torch.kron(sigma, sigma) @ g2.reshape(-1) / 2


def two_two_isserlis(sigma, f2, g2):
    """The fourth moments as a tensor, less the product of the means."""
    s, f, g = sigma.numpy(), f2.numpy(), g2.numpy()
    fourth = sum(np.einsum(f"{pairs}->abcd", s, s) for pairs in ("ab,cd", "ac,bd", "ad,bc"))
    both = np.einsum("ab,abcd,cd", f, fourth, g) / 4
    return both - np.trace(f @ s) * np.trace(g @ s) / 4


def two_two_generating(sigma, f2, g2):
    """log E exp(½δᵀMδ) = −½ log det(1 − ΣM): the derivative with M along f2 and g2."""
    eye = torch.eye(len(sigma), dtype=sigma.dtype)

    def slope(t):  # the derivative in s at s = 0, by the adjoint of log det
        return torch.linalg.solve(eye - t * sigma @ g2, sigma @ f2).trace() / 2

    return grad(slope)(torch.tensor(0.0, dtype=sigma.dtype))


def two_two_polarised(sigma, f2, g2):
    def variance(m):  # of ½δᵀMδ
        return np.linalg.matrix_power((sigma @ m).numpy(), 2).trace() / 2

    return (variance(f2 + g2) - variance(f2 - g2)) / 4


def two_two_quadrature(sigma, f2, g2):
    nodes = np.array(list(product((-math.sqrt(3), 0, math.sqrt(3)), repeat=len(sigma))))
    mass = np.where(nodes == 0, 2 / 3, 1 / 6).prod(1)
    d = nodes @ np.linalg.cholesky(sigma.numpy()).T
    values = np.stack([np.einsum("ka,ab,kb->k", d, m.numpy(), d) / 2 for m in (f2, g2)])
    return np.cov(values, aweights=mass, ddof=0)[0, 1]


def two_two_lists(sigma, f2, g2):
    left, right = (f2 @ sigma).tolist(), (g2 @ sigma).tolist()
    return sum(left[a][b] * right[b][a] for a in range(len(left)) for b in range(len(left))) / 2


def loss_bif_hint(x, y, sigma, tau, x_t, y_t):
    v = torch.linalg.inv(x.T @ x / sigma**2 + torch.eye(len(x_t)).double() / tau**2)
    mu = v @ x.T @ y / sigma**2
    s = x @ v @ x_t
    return -((y - x @ mu) * (y_t - x_t @ mu) * s + s**2 / 2) / sigma**2


def loss_bif_autodiff(x, y, sigma, tau, x_t, y_t):
    """The mean test loss ½(r_t² + x_tᵀVx_t) of a weighted posterior, differentiated."""

    def mean_loss(beta):
        precision = (beta[:, None] * x).T @ x / sigma**2 + torch.eye(len(x_t)).double() / tau**2
        both = torch.linalg.solve(precision, torch.stack([x.T @ (beta * y) / sigma**2, x_t], dim=1))
        r = y_t - x_t @ both[:, 0]
        return (r**2 + x_t @ both[:, 1]) / 2

    return grad(mean_loss)(torch.ones_like(y))


def loss_bif_conjugate(x, y, sigma, tau, x_t, y_t):
    p = exact_posteriors.conjugate_posterior(bayesian.Gibbs(linear(x, y, l2=tau**-2), sigma**-2))
    v, r = x @ p.covariance @ x_t, y - x @ p.mean
    return -(sigma**-2) * v * (r * (y_t - x_t @ p.mean) + 0.5 * v)


def loss_bif_process(x, y, sigma, tau, x_t, y_t):
    """A Gaussian process with the kernel τ² x·x′, on training and test inputs."""
    x, y, x_t = x.numpy(), y.numpy(), x_t.numpy()
    k = tau**2 * x @ x.T + sigma**2 * np.eye(len(y))
    r = sigma**2 * np.linalg.solve(k, y)
    v = sigma**2 * np.linalg.solve(k, tau**2 * x @ x_t)  # Cov of the function at x_j and x_t
    r_t = y_t - tau**2 * (x @ x_t) @ np.linalg.solve(k, y)
    return [-(a * r_t * b + b * b / 2) / sigma**2 for a, b in zip(r, v, strict=True)]


def loss_bif_quadrature(x, y, sigma, tau, x_t, y_t):
    """Both losses depend on two Gaussian numbers, x_jᵀw and x_tᵀw: a 3 × 3 rule each."""
    x, y, x_t = x.numpy(), y.numpy(), x_t.numpy()
    precision = x.T @ x / sigma**2 + np.eye(len(x_t)) / tau**2
    mu = np.linalg.solve(precision, x.T @ y) / sigma**2
    v = np.linalg.inv(precision)
    nodes = np.array(list(product((-math.sqrt(3), 0, math.sqrt(3)), repeat=2)))
    mass = np.where(nodes == 0, 2 / 3, 1 / 6).prod(1)
    answer = np.empty(len(y))
    for j, x_j in enumerate(x):
        both = np.stack([x_t, x_j])
        f_t, f_j = both @ mu[:, None] + np.linalg.cholesky(both @ v @ both.T) @ nodes.T
        phi, loss = (y_t - f_t) ** 2 / 2, (y[j] - f_j) ** 2 / 2
        answer[j] = -(mass @ (phi * loss) - mass @ phi * (mass @ loss)) / sigma**2
    return answer


def loss_bif_parts(x, y, sigma, tau, x_t, y_t):
    """Parts (c) and (e) with the posterior's covariance, from the ridge solution."""
    lam, kappa = (sigma / tau) ** 2, sigma**-2
    u = x.T @ x + lam * torch.eye(len(x_t), dtype=x.dtype)
    mu = torch.linalg.lstsq(u, (x.T @ y)[:, None]).solution[:, 0]
    g, f1 = (x @ mu - y)[:, None] * x, (x_t @ mu - y_t) * x_t
    curved = [two_two_hint(torch.linalg.inv(kappa * u), x_t.outer(x_t), a.outer(a)) for a in x]
    return leading_hint(f1, g, u) - kappa * torch.stack(curved)


def loss_bif_differences(x, y, sigma, tau, x_t, y_t):
    """Central differences in the precision, four orders good, one example at a time."""
    x, y, x_t = x.numpy(), y.numpy(), x_t.numpy()
    a, b = x.T @ x + (sigma / tau) ** 2 * np.eye(len(x_t)), x.T @ y

    def mean_loss(t):  # of every example with weight 1 + t
        up = a + t * x[:, :, None] * x[:, None, :]
        left = np.linalg.solve(up, np.broadcast_to(x_t[:, None], (*x.shape, 1)))[:, :, 0]
        mean = (left * (b + t * x * y[:, None])).sum(1)
        return ((y_t - mean) ** 2 + sigma**2 * left @ x_t) / 2

    near, far = ((mean_loss(t) - mean_loss(-t)) / (2 * t) for t in (1e-3, 2e-3))
    return (4 * near - far) / 3


def loss_bif_rounded(x, y, sigma, tau, x_t, y_t):
    """In double precision, as all of it in single loses digits where r_t or r_j is small."""
    s = sigma**2 * torch.linalg.solve(x.T @ x + (sigma / tau) ** 2 * torch.eye(len(x_t)), x_t)
    mu = torch.linalg.solve(x.T @ x + (sigma / tau) ** 2 * torch.eye(len(x_t)), x.T @ y)
    return (-((y - x @ mu) * (y_t - x_t @ mu) + x @ s / 2) * (x @ s) / sigma**2).float()


def laplace_qr(o, w, kappa, gamma):
    """From the triangle of the rows √(κ p (1 − p)) x and √γ I."""
    x, p = o.x.numpy(), scipy.special.expit((o.x @ w).numpy())
    rows = np.vstack([np.sqrt(kappa * p * (1 - p))[:, None] * x, gamma**0.5 * np.eye(len(w))])
    inverse = np.linalg.inv(np.linalg.qr(rows, mode="r"))
    return inverse @ inverse.T


def leading_eigenvectors(f1, g, h):
    values, vectors = np.linalg.eigh(h.numpy())
    return -(g.numpy() @ vectors) @ ((vectors.T @ f1.numpy()) / values)


def leading_sigma_points(f1, g, h):
    """Covariance over 2p points ±√p times the columns of a root of H⁻¹: exact for slopes."""
    p = len(f1)
    root = np.linalg.inv(np.linalg.cholesky(h.numpy())) * p**0.5
    delta = np.concatenate([root, -root])
    return -np.mean((delta @ f1.numpy())[:, None] * (delta @ g.numpy().T), axis=0)


def isserlis_generating(sigma, a, b, c, d):
    """The mixed fourth derivative of exp(½tᵀSt) at zero."""
    rows = torch.stack([a, b, c, d])
    s = rows @ sigma @ rows.T

    def mean(t1, t2, t3, t4):
        t = torch.stack([t1, t2, t3, t4])
        return torch.exp(t @ s @ t / 2)

    for place in range(4):
        mean = jacfwd(mean, place)
    return mean(*torch.zeros(4, dtype=s.dtype))


def isserlis_whitened(sigma, a, b, c, d):
    """Contracts the symmetric fourth moment of a standard normal."""
    root = np.linalg.cholesky(sigma.numpy())
    a, b, c, d = (root.T @ v.numpy() for v in (a, b, c, d))
    crossed = np.outer(a, b) + np.outer(b, a)
    return np.vdot(a, b) * np.vdot(c, d) + c @ crossed @ d


def two_two_tilted(sigma, f2, g2):
    """How E[½δᵀg₂δ] answers when f₂ is taken from the precision."""

    def mean(t):
        return (g2 * torch.linalg.inv(torch.linalg.inv(sigma) - t * f2)).sum() / 2

    return jacfwd(mean)(torch.tensor(0.0, dtype=sigma.dtype))


def loss_bif_slopes(x, y, sigma, tau, x_t, y_t):
    """½(r_t² + x_tᵀVx_t), differentiated by hand: dμ = κ V x_j r_j and dV = −κ V x_j x_jᵀ V."""
    x, y, x_t, kappa = x.numpy(), y.numpy(), x_t.numpy(), sigma**-2
    v = np.linalg.inv(kappa * x.T @ x + np.eye(len(x_t)) * tau**-2)
    mu = kappa * v @ x.T @ y
    answer = []
    for x_j, y_j in zip(x, y, strict=True):
        d_mu = kappa * v @ x_j * (y_j - x_j @ mu)
        d_v = -kappa * np.outer(v @ x_j, v @ x_j)
        answer.append(-(y_t - x_t @ mu) * (x_t @ d_mu) + 0.5 * x_t @ d_v @ x_t)
    return answer


def loss_bif_augmented(x, y, sigma, tau, x_t, y_t):
    """The prior as p more examples; in whitened coordinates the covariance is the identity."""
    p = len(x_t)
    rows = torch.cat([x / sigma, torch.eye(p, dtype=x.dtype) / tau])
    q, r = torch.linalg.qr(rows)
    labels = torch.cat([y / sigma, torch.zeros(p, dtype=y.dtype)])
    far = torch.linalg.solve_triangular(r.T, x_t[:, None], upper=False)[:, 0]
    near, fitted = q[: len(y)] * sigma, q.T @ labels
    residuals, r_t, s = y - near @ fitted, y_t - far @ fitted, near @ far
    return -s * (residuals * r_t + s / 2) / sigma**2


_f1, _f2, _f3, _g1, _g2, _g3, _h, _l3, _l4 = _symbols("f1 f2 f3 g1 g2 g3 h l3 l4")
_f1r, _f2r, _f3r, _g1r, _g2r, _g3r, _l3r, _l4r = _symbols("f1 f2 f3 g1 g2 g3 l3 l4", real=True)
_hp = sp.Symbol("h", positive=True)
_s2 = 1 / (_kappa * _h)  # the variance
_e = _symbols("epsilon")


def _double(k):
    """E[δ^k] for δ ~ N(0, 1/(κh))."""
    return sp.factorial2(k - 1) * _s2 ** (k // 2) if k % 2 == 0 else 0


def _tilted(k):
    """∫ δ^k (1 − ε κl3 δ³/6 + ε² (κ²l3²δ⁶/72 − κl4 δ⁴/24)), ε counting half-orders of n."""
    quadratic = (_kappa * _l3) ** 2 * _double(k + 6) / 72 - _kappa * _l4 * _double(k + 4) / 24
    return _double(k) - _e * _kappa * _l3 * _double(k + 3) / 6 + _e**2 * quadratic


def _mean_of(k):
    return _tilted(k) / _tilted(0)


_variance = sp.diff(_mean_of(2) - _mean_of(1) ** 2, _e, 2).subs(_e, 0) / 2
_cubic = sp.diff((_mean_of(3) - _mean_of(1) * _mean_of(2)) / 2, _e).subs(_e, 0)
_taylor_phi = [_f1, _f2 / 2, _f3 / 6]
_taylor_loss = [_g1, _g2 / 2, _g3 / 6]
_sum_of_pairs = sum(
    a * b * (_double(k + m) - _double(k) * _double(m))
    for k, a in enumerate(_taylor_phi, 1)
    for m, b in enumerate(_taylor_loss, 1)
    if k + m == 4
)
# Cov(f, g) under a Gaussian is Σ_k v^k/k! E[f^(k)] E[g^(k)], with E[f^(k)] = f_k + v f_(k+2)/2.
_hermite = _kappa * (
    _e * (_f1 + _e * _f3 / 2) * (_g1 + _e * _g3 / 2) + _e**2 / 2 * _f2 * _g2
)  # _e for the variance


def _squared(f1, f2, f3):
    """The part of Var(f) with four factors δ, in units of v²."""
    return f2**2 / 2 + f1 * f3


_polarised = (
    _squared(_f1 + _g1, _f2 + _g2, _f3 + _g3) - _squared(_f1 - _g1, _f2 - _g2, _f3 - _g3)
) / 4
_nodes = {
    -sp.sqrt(3): sp.Rational(1, 6),
    sp.S.Zero: sp.Rational(2, 3),
    sp.sqrt(3): sp.Rational(1, 6),
}


def _three_points(f):
    """E[f(δ)] in units of √v: exact up to degree five."""
    return sum(mass * f(node) for node, mass in _nodes.items())


_two_two = _three_points(lambda t: _f2 * _g2 * t**4 / 4) - _three_points(
    lambda t: _f2 * t**2 / 2
) * _three_points(lambda t: _g2 * t**2 / 2)
_one_three = _three_points(lambda t: (_f1 * _g3 + _f3 * _g1) * t**4 / 6)

# E[δ^k κ(hδ + l3 δ²/2 + l4 δ³/6)] = k E[δ^(k−1)], by parts: each moment from others of lower order.
_m4, _m2 = 3 * _s2**2, _s2
_m1 = -_l3 * _m2 / (2 * _h)
_m3 = (2 * _m1 / _kappa - _l3 * _m4 / 2) / _h
_m2_next = -(_l3 * _m3 / 2 + _l4 * _m4 / 6) / _h  # beyond 1/(κh)

# One loop: under a force the mean is w − l3(w)/(2κh(w)²), and κh dw/dforce = 1.
_w = _symbols("w")
_lean = -(_l3 + _l4 * _w) / (2 * _kappa * (_h + _l3 * _w) ** 2)

# In u with δ = u − l3 u²/(6h) + … the energy is quadratic, and the density leans by 1 − l3 u/(3h).
_bent_f, _bent_g = _f2 - _f1 * _l3 / (3 * _h), _g2 - _g1 * _l3 / (3 * _h)
_third_f, _third_g = -_f2 * _l3 / _h, -_g2 * _l3 / _h
_straight = -(_bent_f * _bent_g + _f1 * _third_g + _third_f * _g1) / (2 * _kappa * _h**2)

POWER_SERIES = {
    "power_series.part_a": {
        "hint": laplace_hint,
        "closed form": laplace_closed,
        "loop": laplace_loop,
        "singular vectors": laplace_svd,
        "double backward": laplace_double_backward,
        "differences": laplace_difference_of_gradients,
        "slopes": laplace_slopes,
        "Woodbury": laplace_woodbury,
        "float32": laplace_float32,
        "QR": laplace_qr,
    },
    "power_series.part_b": {
        "plain": "n^-2",
        "capital": "N^-2",
        "spaces": "  n^-2 ",
        "newline": "n^-2\n",
        "numpy's": np.str_("n^-2"),
    },
    "power_series.part_c": {
        "hint": leading_hint,
        "einsum": leading_einsum,
        "lists": leading_lists,
        "library": leading_library,
        "conjugate gradients": leading_conjugate_gradient,
        "whitened": leading_whitened,
        "autodiff": leading_autodiff,
        "float32": leading_float32,
        "eigenvectors": leading_eigenvectors,
        "sigma points": leading_sigma_points,
    },
    "power_series.part_d": {
        "hint": isserlis_hint,
        "tensor": isserlis_tensor,
        "permutations": isserlis_permutations,
        "recursive": isserlis_recursive,
        "polarised": isserlis_polarised,
        "quadrature": isserlis_quadrature,
        "loops": isserlis_loops,
        "matrices": isserlis_matrices,
        "generating function": isserlis_generating,
        "whitened": isserlis_whitened,
    },
    "power_series.part_e": {
        "hint": two_two_hint,
        "einsum": two_two_einsum,
        "whitened": two_two_whitened,
        "Kronecker": two_two_kronecker,
        "Isserlis": two_two_isserlis,
        "generating function": two_two_generating,
        "polarised": two_two_polarised,
        "quadrature": two_two_quadrature,
        "lists": two_two_lists,
        "tilted": two_two_tilted,
    },
    "power_series.part_f": {
        "plain": -(_f2 * _g2 + _f1 * _g3 + _f3 * _g1) / (2 * _kappa * _h**2),
        "three terms": -_kappa * _s2**2 * _f2 * _g2 / 2
        - _kappa * _s2**2 * _f1 * _g3 / 2
        - _kappa * _s2**2 * _f3 * _g1 / 2,
        "positive": -(_f2r * _g2r + _f1r * _g3r + _f3r * _g1r) / _hp**2 / _kp / 2,
        "pairs": -_kappa * _sum_of_pairs,
        "floats": -0.5 * _h**-2.0 * (_f2 * _g2 + _f1 * _g3 + _f3 * _g1) / _kappa,
        "Leibniz": -sp.diff(
            (_f1 * _e + _f2 * _e**2 / 2 + _f3 * _e**3 / 6)
            * (_g1 * _e + _g2 * _e**2 / 2 + _g3 * _e**3 / 6),
            (_e, 4),
        ).subs(_e, 0)
        / (8 * _kappa * _h**2)
        + _f2 * _g2 / (4 * _kappa * _h**2),
        "unevaluated": sp.Mul(
            sp.Rational(-1, 2),
            sp.Add(_f2 * _g2, _f1 * _g3, _f3 * _g1),
            _h**-2,
            1 / _kappa,
            evaluate=False,
        ),
        "Hermite": -sp.diff(_hermite, _e, 2).subs(_e, 0) / 2 * _s2**2,
        "polarised": -_kappa * _s2**2 * _polarised,
        "three points": -_kappa * _s2**2 * (_two_two + _one_three),
    },
    "power_series.part_g": {
        "plain": (_f1 * _g2 + _f2 * _g1) * _l3 / (_kappa * _h**3),
        "two terms": _f1 * _g2 * _l3 / _h**3 / _kappa + _f2 * _g1 * _l3 / _h**3 / _kappa,
        "positive": _l3r * (_f1r * _g2r + _f2r * _g1r) / _hp**3 / _kp,
        "moments": -_kappa
        * (_f1 * _g2 + _f2 * _g1)
        * (-5 * _l3 * _kappa * _s2**3 / 2 + _l3 * _kappa * _s2**2 / 2 * _s2)
        / 2,
        "tilted": -_kappa * _cubic * (_f1 * _g2 + _f2 * _g1),
        "floats": 1.0 * (_f1 * _g2 + _f2 * _g1) * _l3 * _h**-3.0 * _kappa**-1.0,
        "shift and skew": _kappa * (_f1 * _g2 + _f2 * _g1) * _kappa * _l3 * _s2**2 / 2 * _s2
        + _kappa * (_f1 * _g2 + _f2 * _g1) * _kappa * _l3 * _s2**3 / 2,
        "by parts": -_kappa * (_f1 * _g2 + _f2 * _g1) * (_m3 - _m1 * _m2) / 2,
        "straightened": _f1 * _g2 * sp.diff(_straight, _f1, _g2)
        + _f2 * _g1 * sp.diff(_straight, _f2, _g1)
        + (_f1 * _g2 + _f2 * _g1) * _l3 / (3 * _kappa * _h**3),
        "one loop": -(_f1 * _g2 + _f2 * _g1)
        / (2 * _h)
        * sp.diff(1 / (_kappa * (_h + _l3 * _w)) + (_w + _lean.subs(_w, 0)) ** 2, _w).subs(_w, 0),
    },
    "power_series.part_h": {
        "plain": -_f1 * _g1 * (_l3**2 / _h**4 - _l4 / (2 * _h**3)) / _kappa,
        "one fraction": _f1 * _g1 * (_h * _l4 - 2 * _l3**2) / (2 * _kappa * _h**4),
        "positive": _f1r * _g1r * (_hp * _l4r / 2 - _l3r**2) / _hp**4 / _kp,
        "expanded": sp.expand(-_f1 * _g1 * (_l3**2 / _h**4 - _l4 / (2 * _h**3)) / _kappa),
        "tilted": -_kappa * _f1 * _g1 * _variance,
        "moments": -_f1
        * _g1
        * (
            (105 * _l3**2 / (72 * _h**4) - 15 * _l4 / (24 * _h**3))
            - (15 * _l3**2 / (72 * _h**3) - 3 * _l4 / (24 * _h**2)) / _h
            - (-_l3 / (2 * _h**2)) ** 2
        )
        / _kappa,
        "floats": -_f1 * _g1 * (1.0 * _l3**2 * _h**-4.0 - 0.5 * _l4 * _h**-3.0) / (1.0 * _kappa),
        "effective precision": -_kappa
        * _f1
        * _g1
        * sp.diff(1 / (_kappa * _h + _e * (_l4 / (2 * _h) - _l3**2 / _h**2)), _e).subs(_e, 0),
        "by parts": -_kappa * _f1 * _g1 * (_m2_next - _m1**2),
        "one loop": -_f1 * _g1 / _h * sp.diff(_lean, _w).subs(_w, 0),
    },
    "power_series.part_i": {
        "hint": loss_bif_hint,
        "autodiff": loss_bif_autodiff,
        "conjugate posterior": loss_bif_conjugate,
        "Gaussian process": loss_bif_process,
        "quadrature": loss_bif_quadrature,
        "parts c and e": loss_bif_parts,
        "differences": loss_bif_differences,
        "rounded to float32": loss_bif_rounded,
        "slopes": loss_bif_slopes,
        "augmented": loss_bif_augmented,
    },
    "power_series.part_j": {
        "plain": "further",
        "capital": "Further",
        "capitals": "FURTHER",
        "spaces": " further  ",
        "newline": "further\n",
    },
}
