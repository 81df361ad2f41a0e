"""Correct answers to every part, as different readers would write them: {part id: {name: answer}}.

Each was derived from the question and its hints, without a look at the reference of the part.
"""

import math
from decimal import Decimal
from fractions import Fraction
from itertools import combinations, permutations

import numpy as np
import scipy.linalg
import scipy.special
import scipy.stats
import sympy as sp
import torch
from torch.func import grad, jacfwd, jacrev, jvp, vjp, vmap
from variants_bif_series import BIF_COVARIANCE, POWER_SERIES
from variants_distributional_entangled import DISTRIBUTIONAL, ENTANGLED
from variants_find_the_cause import FIND_THE_CAUSE
from variants_sgld_transport import SGLD, TRANSPORT
from variants_similarity_choose import CHOOSE, SIMILARITY
from variants_source_dln import DLN_STAGEWISE, SOURCE_REPLAY
from variants_unrolling_convergence import CONVERGENCE, UNROLLING

from lib import counterfactuals, influence, linear_regression
from lib.models import ab_model, valley
from lib.objective import gradients, hessian_product, output_hessians, output_jacobians
from lib.objective import hessian as objective_hessian


def _symbols(names: str, **assumptions):
    return sp.symbols(names, **assumptions)


# --- croissants ----------------------------------------------------------------------------------


def removal_list(value, n):
    everybody = frozenset(range(n))
    return [value(everybody - {i}) - value(everybody) for i in range(n)]


def removal_float32(value, n):
    everybody = set(range(n))
    return torch.tensor([value(everybody - {i}) - value(everybody) for i in range(n)])


def removal_list_of_float32(value, n):
    whole = torch.tensor(value(frozenset(range(n))))
    return [torch.tensor(value(frozenset(range(n)) - {i})) - whole for i in range(n)]


def removal_loop(value, n):
    effects = np.zeros(n)
    for i in range(n):
        rest = []
        for k in range(n):
            if k != i:
                rest.append(k)
        effects[i] -= value(tuple(range(n)))
        effects[i] += value(tuple(rest))
    return effects


def removal_tuple(value, n):
    v = {i: value(frozenset({*range(n)} - {i})) for i in range(-1, n)}
    return tuple(np.float64(v[i] - v[-1]) for i in range(n))


def removal_with_gradient(value, n):
    v = torch.tensor(
        [value(frozenset(range(n)) - {i}) for i in range(n + 1)],
        dtype=torch.float64,
        requires_grad=True,
    )
    return v[:-1] - v[-1]


def removal_fractions(value, n):
    return [
        Fraction(value(frozenset(range(n)) - {i})) - Fraction(value(frozenset(range(n))))
        for i in range(n)
    ]


def shapley_hint(value, n):
    psi = [0.0] * n
    for i in range(n):
        for s in counterfactuals.subsets(n):
            if i not in s:
                psi[i] += (value(s | {i}) - value(s)) / (n * math.comb(n - 1, len(s)))
    return psi


def shapley_library(value, n):
    return counterfactuals.shapley(value, n)


def shapley_factorials(value, n):
    psi = torch.zeros(n, dtype=torch.float64)
    for i in range(n):
        others = [k for k in range(n) if k != i]
        for size in range(n):
            weight = math.factorial(size) * math.factorial(n - size - 1) / math.factorial(n)
            for s in map(frozenset, combinations(others, size)):
                psi[i] += weight * (value(s | {i}) - value(s))
    return psi


def shapley_orders(value, n):
    marginals = []
    for order in permutations(range(n)):
        row = np.empty(n)
        row[list(order)] = np.diff([value(order[:k]) for k in range(n + 1)])
        marginals.append(row)
    return np.mean(marginals, axis=0)


def shapley_bits(value, n):
    v = np.array([value([i for i in range(n) if m >> i & 1]) for m in range(2**n)])
    size = np.array([m.bit_count() for m in range(2**n)])
    psi = []
    for i in range(n):
        without = np.array([m for m in range(2**n) if not m >> i & 1])
        gains = v[without | (1 << i)] - v[without]
        psi.append(
            np.mean([gains[size[without] == k].mean() for k in range(n)])  # sizes alike
        )
    return np.stack(psi)


def shapley_dividends(value, n):
    """By Harsanyi: each coalition's surplus over its parts is shared equally among its members."""
    surplus = {}
    for s in counterfactuals.subsets(n):
        surplus[s] = value(s) - sum(d for t, d in surplus.items() if t < s)
    return [sum(d / len(s) for s, d in surplus.items() if i in s) for i in range(n)]


def shapley_float32(value, n):
    psi = torch.zeros(n)
    for i in range(n):
        for s in counterfactuals.subsets(n):
            if i not in s:
                psi[i] += (value(s | {i}) - value(s)) / n / math.comb(n - 1, len(s))
    return psi


def _walk(value, n, orders):
    table = np.zeros((len(orders), n))
    for t, order in enumerate(np.asarray(orders)):
        present = frozenset()
        for i in order:
            table[t, i] = value(present | {i}) - value(present)
            present |= {i}
    return table


def sampled_hint(value, n, orders):
    table = _walk(value, n, orders)
    return table.mean(axis=0), table.std(ddof=1, axis=0) / math.sqrt(len(orders))


def sampled_stack(value, n, orders):
    table = torch.zeros(len(orders), n, dtype=torch.float64)
    for row, order in zip(table, orders.tolist(), strict=True):
        for place, i in enumerate(order):
            row[i] = value(set(order[: place + 1])) - value(set(order[:place]))
    return torch.stack([table.mean(0), table.std(0) / len(orders) ** 0.5])


def sampled_tensor_players(value, n, orders):
    table = torch.zeros(len(orders), n, dtype=torch.float64)
    for t, order in enumerate(orders):
        for place in range(n):
            before = frozenset(int(i) for i in order[:place])
            i = order[place].item()
            table[t, i] = value(before | {i}) - value(before)
    return [table.mean(0), (table.var(0) / len(orders)).sqrt()]


def sampled_lists(value, n, orders):
    m = len(orders)
    rows = _walk(value, n, orders).tolist()
    means = [math.fsum(row[i] for row in rows) / m for i in range(n)]
    spread = [
        math.sqrt(sum((row[i] - means[i]) ** 2 for row in rows) / (m - 1) / m) for i in range(n)
    ]
    return [means, spread]


def sampled_moments(value, n, orders):
    table, m = _walk(value, n, orders), len(orders)
    first, second = table.sum(0), (table**2).sum(0)
    return np.array([first / m, np.sqrt((second - first**2 / m) / (m * (m - 1)))])


def sampled_cumulative(value, n, orders):
    values = np.array([[value(order[:k]) for k in range(n + 1)] for order in orders.tolist()])
    table = np.take_along_axis(np.diff(values, axis=1), orders.argsort(dim=1).numpy(), axis=1)
    return np.vstack([np.average(table, axis=0), np.std(table, axis=0) / np.sqrt(len(table) - 1)])


def removal_masks(value, n):
    present = ~np.eye(n + 1, n, dtype=bool)  # the last row: everybody
    v = np.array([value(frozenset(np.flatnonzero(row).tolist())) for row in present])
    return v[:-1] - v[-1]


def removal_combinations(value, n):
    """In the order of `combinations`, the last player is left out first."""
    without = [value(frozenset(rest)) for rest in combinations(range(n), n - 1)]
    return np.flip(without) - value(frozenset(range(n)))


def shapley_recursion(value, n):
    """By the player who comes last: him at v(N) − v(N∖i), anybody else in the game without him."""

    def share(i, players):
        if i not in players:
            return 0.0
        last = value(players) - value(players - {i})
        return (last + sum(share(i, players - {k}) for k in players - {i})) / len(players)

    return [share(i, frozenset(range(n))) for i in range(n)]


def shapley_integral(value, n):
    """Owen: everybody is present with chance p, and p is uniform; exact by Gauss–Legendre."""
    nodes, mass = np.polynomial.legendre.leggauss(n)
    psi = np.zeros(n)
    for s in counterfactuals.subsets(n):
        for i in set(range(n)) - s:
            p = (nodes + 1) / 2
            chance = mass / 2 @ (p ** len(s) * (1 - p) ** (n - 1 - len(s)))
            psi[i] += chance * (value(s | {i}) - value(s))
    return psi


def shapley_regression(value, n):
    """The additive game nearest to v with the kernel's weights, exact at the empty and full set."""
    inner = [s for s in counterfactuals.subsets(n) if 0 < len(s) < n]
    z = np.array([[float(i in s) for i in range(n)] for s in inner]).reshape(-1, n)
    k = np.array([1 / (math.comb(n, len(s)) * len(s) * (n - len(s))) for s in inner])
    empty, full = value(frozenset()), value(frozenset(range(n)))
    system = np.zeros((n + 1, n + 1))
    system[:n, :n], system[:n, n], system[n, :n] = z.T @ (k[:, None] * z), 1, 1
    gains = np.array([value(s) - empty for s in inner]).reshape(-1)
    return np.linalg.solve(system, np.append(z.T @ (k * gains), full - empty))[:n]


def sampled_running(value, n, orders):
    """Welford: mean and spread, one order after another."""
    mean, square = np.zeros(n), np.zeros(n)
    for t, row in enumerate(_walk(value, n, orders), 1):
        gap = row - mean
        mean = mean + gap / t
        square = square + gap * (row - mean)
    return mean, np.sqrt(square / (t - 1) / t)


def sampled_jackknife(value, n, orders):
    table, m = _walk(value, n, orders), len(orders)
    without = np.stack([np.delete(table, t, axis=0).mean(0) for t in range(m)])
    return table.mean(0), np.sqrt((m - 1) * without.var(axis=0))


def sampled_pairs(value, n, orders):
    """The variance as half the mean squared difference of two different orders."""
    table, m = torch.from_numpy(_walk(value, n, orders)), len(orders)
    apart = (table[:, None] - table).square().sum((0, 1)) / (2 * m * (m - 1))
    return torch.stack([torch.mean(table, 0), (apart / m).sqrt()])


def sampled_sem(value, n, orders):
    table = _walk(value, n, orders)
    return [table.sum(0) / len(table), scipy.stats.sem(table, axis=0)]


_k, _n = _symbols("k n")
_kp = _symbols("k", positive=True)
_ki, _ni, _j = _symbols("k n j", integer=True)

CROISSANTS = {
    "croissants.part_a": {
        "list": removal_list,
        "float32": removal_float32,
        "list of float32": removal_list_of_float32,
        "loop": removal_loop,
        "tuple": removal_tuple,
        "gradient": removal_with_gradient,
        "fractions": removal_fractions,
        "library": lambda value, n: (
            np.array([value(frozenset(range(n)) - {i}) for i in range(n)])
            - value(frozenset(range(n)))
        ),
        "masks": removal_masks,
        "combinations": removal_combinations,
    },
    "croissants.part_b": {
        "plain": "nothing",
        "capital": "Nothing",
        "capitals": "NOTHING",
        "spaces": "  nothing ",
        "newline": "nothing\n",
    },
    "croissants.part_c": {
        "hint": shapley_hint,
        "library": shapley_library,
        "factorials": shapley_factorials,
        "orders": shapley_orders,
        "bits": shapley_bits,
        "dividends": shapley_dividends,
        "float32": shapley_float32,
        "recursion": shapley_recursion,
        "integral": shapley_integral,
        "regression": shapley_regression,
    },
    "croissants.part_d": {
        "plain": 1 / _k,
        "positive": 1 / _kp,
        "unsimplified": (_n - 1) / (_n * _k - _k),
        "factorials": sp.factorial(_ki - 1) / sp.factorial(_ki),
        "harmonic difference": sp.Integer(1) - (_k - 1) / _k,
        "float": 1.0 / _k,
        "exponent": sp.exp(-sp.log(_kp)),
        "sum": sp.Sum(1 / (_ki * _ni), (_j, 1, _ni)),
        "integral": sp.Integral(_j ** (_kp - 1), (_j, 0, 1)),
        "slope of a logarithm": sp.diff(sp.log(_kp), _kp),
    },
    "croissants.part_e": {
        "hint": sampled_hint,
        "stack": sampled_stack,
        "tensor players": sampled_tensor_players,
        "lists": sampled_lists,
        "moments": sampled_moments,
        "cumulative": sampled_cumulative,
        "gradient": lambda *args: torch.tensor(np.array(sampled_hint(*args)), requires_grad=True),
        "running": sampled_running,
        "jackknife": sampled_jackknife,
        "pairs": sampled_pairs,
        "scipy's": sampled_sem,
    },
    "croissants.part_f": {
        "integer": -3,
        "float": -3.0,
        "numpy": np.float64(-3),
        "0-d": np.array(-3.0),
        "torch": torch.tensor(-3.0),
        "sympy": sp.Integer(-3),
        "fraction": Fraction(-3),
    },
}

# --- influence_derivation ------------------------------------------------------------------------


def movement_hint(objective, w):
    h, g = objective_hessian(objective, w), gradients(objective, w)
    return -torch.linalg.solve(h, g.T).T


def _logistic(objective, w):
    """Gradients and Hessian of the penalised logistic loss, written out."""
    x, y, w = objective.x.numpy(), objective.y.numpy(), w.numpy()
    s = 1 / (1 + np.exp(-y * (x @ w)))
    g = ((s - 1) * y)[:, None] * x
    return g, np.einsum("n,np,nq->pq", s * (1 - s), x, x) + objective.l2 * np.identity(len(w))


def movement_numpy(objective, w):
    g, h = _logistic(objective, w)
    return -g @ np.linalg.inv(h)


def movement_rows(objective, w):
    g, h = _logistic(objective, w)
    return [(-np.linalg.solve(h, g_i)).tolist() for g_i in g]


def movement_eigenvectors(objective, w):
    g, h = _logistic(objective, w)
    values, vectors = np.linalg.eigh(h)
    return np.einsum("pk,k,qk,nq->np", vectors, -1 / values, vectors, g)


def _total(objective, w, beta):
    margins = objective.y * (objective.x @ w)
    each = torch.nn.functional.softplus(-margins)
    return (beta * each).sum() + objective.l2 / 2 * (w**2).sum()


def movement_mixed_derivative(objective, w):
    ones = torch.ones(objective.n, dtype=w.dtype)
    slope = grad(lambda v, b: _total(objective, v, b))
    mixed = jacrev(slope, argnums=1)(w, ones)
    return -torch.cholesky_solve(
        mixed, torch.linalg.cholesky(jacrev(slope)(w, ones)), upper=False
    ).T


def movement_newton_step(objective, w):
    """At a minimum, one Newton step under β = 1 + ε e_i is linear in ε: read off its slope."""
    g, h = _logistic(objective, w)
    w = torch.tensor(w.numpy(), requires_grad=True)
    rows = []
    for g_i in g:
        rows.append(w - torch.from_numpy(np.linalg.solve(h, g_i)))
    return torch.stack(rows) - w


def phi_chain(objective, w, phi):
    return movement_numpy(objective, w) @ grad(phi)(w).numpy()


def phi_one_solve(objective, w, phi):
    g, h = _logistic(objective, w)
    v = np.linalg.solve(h, grad(phi)(w).numpy())
    return [-float(g_i @ v) for g_i in g]


def phi_directional(objective, w, phi):
    rows = torch.tensor(movement_rows(objective, w), dtype=w.dtype)
    return vmap(lambda row: jvp(phi, (w,), (row,))[1])(rows)


def phi_backward(objective, w, phi):
    at = w.clone().requires_grad_(True)
    phi(at).backward()
    g, h = _logistic(objective, w)
    return np.einsum("np,pq,q->n", -g, np.linalg.inv(h), at.grad.numpy())


def phi_conjugate_gradient(objective, w, phi):
    h = torch.from_numpy(_logistic(objective, w)[1])
    v, _ = influence.conjugate_gradient(lambda u: h @ u, grad(phi)(w), tolerance=1e-12)
    return -torch.from_numpy(_logistic(objective, w)[0]) @ v


def phi_finite_slope(objective, w, phi):
    """∇φ by central differences, which are good to nine digits here."""
    eye = 1e-5 * torch.eye(len(w), dtype=w.dtype)
    slope = torch.stack([phi(w + e) - phi(w - e) for e in eye]) / 2e-5
    g, h = _logistic(objective, w)
    return -(torch.from_numpy(g) @ torch.linalg.inv(torch.from_numpy(h)) @ slope)


def _retrained(objective, w, i, weight):
    """Newton's iterations from the minimum, with another weight on example i."""
    x, y, w = objective.x.numpy(), objective.y.numpy(), w.numpy()
    beta = np.where(np.arange(len(y)) == i, weight, 1.0)
    for _ in range(5):
        q = scipy.special.expit(-y * (x @ w))
        h = (x.T * (beta * q * (1 - q))) @ x + objective.l2 * np.eye(len(w))
        w = w + np.linalg.solve(h, (beta * q * y) @ x - objective.l2 * w)
    return torch.from_numpy(w)


def movement_retrained(objective, w):
    """Minima at nearby weights, differences good to four orders."""

    def slope(i, t):
        return (_retrained(objective, w, i, 1 + t) - _retrained(objective, w, i, 1 - t)) / (2 * t)

    return torch.stack([(4 * slope(i, 2e-3) - slope(i, 4e-3)) / 3 for i in range(objective.n)])


def movement_qr(objective, w):
    """H = RᵀR from the rows √(s(1−s)) x and √ρ I, without H itself."""
    x, y = objective.x.numpy(), objective.y.numpy()
    s = 1 / (1 + np.exp(-y * (x @ w.numpy())))
    rows = np.vstack([np.sqrt(s * (1 - s))[:, None] * x, objective.l2**0.5 * np.eye(len(w))])
    r = np.linalg.qr(rows, mode="r")
    half = scipy.linalg.solve_triangular(r, x.T * ((1 - s) * y), trans="T")
    return scipy.linalg.solve_triangular(r, half).T


def movement_matrix_free(objective, w):
    solve = influence.matrix_free(hessian_product(objective, w), tolerance=1e-11)
    return [-solve(g_i) for g_i in gradients(objective, w)]


def movement_float32(objective, w):
    g, h = (torch.from_numpy(a).float() for a in _logistic(objective, w))
    return torch.linalg.solve(h, -g, left=False)


def phi_retrained(objective, w, phi):
    """φ at minima with nearby weights, differences good to four orders."""

    def slope(i, t):
        up, down = (_retrained(objective, w, i, 1 + t * sign) for sign in (1, -1))
        return (phi(up) - phi(down)) / (2 * t)

    return [(4 * slope(i, 2e-3) - slope(i, 4e-3)) / 3 for i in range(objective.n)]


def phi_through_newton(objective, w, phi):
    """Backwards through one Newton step under β, which is right to first order in β − 1."""

    def after(beta):
        slope = grad(lambda v: _total(objective, v, beta))
        return phi(w - torch.linalg.solve(jacrev(slope)(w), slope(w)))

    return jacrev(after)(torch.ones(objective.n, dtype=w.dtype))


def phi_whitened(objective, w, phi):
    g, h = _logistic(objective, w)
    root = np.linalg.cholesky(h)
    pulls = scipy.linalg.solve_triangular(root, g.T, lower=True)
    seen = scipy.linalg.solve_triangular(root, grad(phi)(w).numpy(), lower=True)
    return (-(seen[:, None] * pulls).sum(0)).tolist()


def phi_eigenvectors(objective, w, phi):
    values, vectors = torch.linalg.eigh(objective_hessian(objective, w))
    pulls, seen = gradients(objective, w) @ vectors, jacrev(phi)(w) @ vectors
    return -torch.einsum("nk,k,k->n", pulls, seen, values.reciprocal())


_n, _rho, _s, _z = _symbols("n rho s z", real=True)
_np, _rhop, _sp, _zp = _symbols("n rho s z", positive=True)
_ws = _s / (_n + _rho)
_b, _wv = _symbols("b w")
_implicit = _rho * _wv + _n * _wv - _s + _b * (_wv - _z)
_shift = sp.Symbol("shift")
_g, _hbar = _symbols("g Hbar")

INFLUENCE_DERIVATION = {
    "influence_derivation.part_a": {
        "hint": (_z - _ws) / (_n + _rho),
        "one fraction": (_z * (_n + _rho) - _s) / (_n + _rho) ** 2,
        "positive": (_zp - _sp / (_np + _rhop)) / (_np + _rhop),
        "expanded": sp.expand(_z * (_n + _rho) - _s) / sp.expand((_n + _rho) ** 2),
        "differentiated": sp.diff((_s + _b * _z) / (_n + _rho + _b), _b).subs(_b, 0),
        "unevaluated": sp.Subs(sp.Derivative((_s + _b * _z) / (_n + _rho + _b), _b), _b, 0),
        "implicit": (-sp.diff(_implicit, _b) / sp.diff(_implicit, _wv)).subs({_b: 0, _wv: _ws}),
        "sign outside": -(_ws - _z) / (_n + _rho),
        "floats": 1.0 * (_z - _ws) / (1.0 * _n + _rho),
        "solved": sp.solve((_n + _rho) * _shift + _ws - _z, _shift)[0],
    },
    "influence_derivation.part_b": {
        "hint": movement_hint,
        "numpy": movement_numpy,
        "rows": movement_rows,
        "eigenvectors": movement_eigenvectors,
        "mixed derivative": movement_mixed_derivative,
        "newton step": movement_newton_step,
        "retrained": movement_retrained,
        "QR": movement_qr,
        "matrix-free": movement_matrix_free,
        "float32": movement_float32,
    },
    "influence_derivation.part_c": {
        "chain": phi_chain,
        "one solve": phi_one_solve,
        "directional": phi_directional,
        "backward": phi_backward,
        "conjugate gradient": phi_conjugate_gradient,
        "finite slope": phi_finite_slope,
        "retrained": phi_retrained,
        "through Newton": phi_through_newton,
        "whitened": phi_whitened,
        "eigenvectors": phi_eigenvectors,
    },
    "influence_derivation.part_d": {
        "plain": "jumps",
        "capital": "Jumps",
        "capitals": "JUMPS",
        "spaces": " jumps  ",
        "tab": "\tjumps\n",
    },
    "influence_derivation.part_e": {
        "plain": -_g / (_n * _hbar),
        "positive": -_symbols("g", positive=True)
        / _symbols("n", integer=True)
        / _symbols("Hbar", positive=True),
        "unsimplified": -(_g / _n) * _hbar**-1,
        "floats": -1.0 * _g / _n / _hbar,
        "solved": sp.solve(_hbar * _wv + _g / _n, _wv)[0],
        "one third": -3 * (1 / 3) * _g / (_n * _hbar),
        "expanded": -(_g * _n + _g) / (_n * (_n + 1) * _hbar),
        "summed Hessian": (-_g / _shift).subs(_shift, _n * _hbar),
        "logarithms": -sp.exp(sp.log(_g) - sp.log(_n) - sp.log(_hbar)),
        "quadratic": sp.diff(
            sp.solve(sp.diff(_hbar * _wv**2 / 2 + _b * _g * _wv / _n, _wv), _wv)[0], _b
        ),
    },
}

# --- leverage ------------------------------------------------------------------------------------


def _np_xy(x, y):
    return x.numpy(), y.numpy()


def fit_loops(x, y):
    """Normal equations by pure Python, solved by Gauss-Jordan elimination with pivots."""
    x, y = x.tolist(), y.tolist()
    p = len(x[0])
    rows = [
        [math.fsum(r[a] * r[b] for r in x) for b in range(p)]
        + [math.fsum(r[a] * t for r, t in zip(x, y, strict=True))]
        for a in range(p)
    ]
    for a in range(p):
        best = max(range(a, p), key=lambda r, a=a: abs(rows[r][a]))
        rows[a], rows[best] = rows[best], rows[a]
        rows[a] = [v / rows[a][a] for v in rows[a]]
        for b in range(p):
            if b != a:
                rows[b] = [v - rows[b][a] * u for v, u in zip(rows[b], rows[a], strict=True)]
    return [row[-1] for row in rows]


def influence_hint(x, y, j):
    a = x.T @ x
    w = torch.linalg.solve(a, x.T @ y)
    return torch.linalg.solve(a, x[j] * (y[j] - x[j] @ w))


def influence_inverse(x, y, j):
    x, y = _np_xy(x, y)
    inverse = np.linalg.inv(np.einsum("ni,nk->ik", x, x))
    return inverse @ x[j] * (y[j] - x[j] @ inverse @ x.T @ y)


def influence_autodiff(x, y, j):
    """Differentiate the weighted solution itself, through the solver."""

    def solution(beta_j):
        beta = torch.ones(len(x), dtype=x.dtype).index_put((torch.tensor(j),), beta_j)
        return torch.linalg.solve((x.T * beta) @ x, x.T @ (beta * y))

    return jacfwd(solution)(torch.tensor(1.0, dtype=x.dtype))


def influence_differences(x, y, j):
    def solution(beta_j):
        extra = (beta_j - 1) * torch.outer(x[j], x[j])
        return torch.linalg.solve(x.T @ x + extra, x.T @ y + (beta_j - 1) * x[j] * y[j])

    return (solution(1 + 3e-4) - solution(1 - 3e-4)) / 6e-4


def influence_pseudoinverse(x, y, j):
    pinv = np.linalg.pinv(x.numpy())
    hat = x.numpy() @ pinv
    return (pinv[:, j] * (np.eye(len(y)) - hat)[j].dot(y.numpy())).tolist()


def path_hint(x, y, j, beta):
    a = x.T @ x
    pull = torch.linalg.solve(a, x[j])
    r, h = y[j] - x[j] @ torch.linalg.solve(a, x.T @ y), x[j] @ pull
    return -(1 - beta) * pull * r / (1 - (1 - beta) * h)


def path_weighted(x, y, j, beta):
    x, y = _np_xy(x, y)
    weights = np.ones(len(y))
    weights[j] = beta
    new = np.linalg.solve(x.T @ np.diag(weights) @ x, x.T @ (weights * y))
    return new - np.linalg.lstsq(x, y, rcond=None)[0]


def path_rows(x, y, j, beta):
    """Scale row j of x and y by √β, which weights its squared error by β."""
    scaled_x, scaled_y = x.clone(), y.clone()
    scaled_x[j] *= beta**0.5
    scaled_y[j] *= beta**0.5
    return (torch.linalg.pinv(scaled_x) @ scaled_y - torch.linalg.pinv(x) @ y).tolist()


def path_series(x, y, j, beta):
    """The whole geometric series, until its terms vanish."""
    s, h = 1 - beta, float(linear_regression.leverage(x)[j])
    terms = math.ceil(-40 / math.log10(s * h)) if s * h > 0 else 1
    total = sum(s**k * h ** (k - 1) for k in range(1, terms + 1))
    return -linear_regression.regression_influence(x, y)[j] * total


def deletion_hint(x, y, j):
    a = x.T @ x
    pull = torch.linalg.solve(a, x[j])
    return -pull * (y[j] - x[j] @ torch.linalg.solve(a, x.T @ y)) / (1 - x[j] @ pull)


def deletion_refit(x, y, j):
    keep = [i for i in range(len(y)) if i != j]
    return np.linalg.lstsq(x.numpy()[keep], y.numpy()[keep], rcond=None)[0] - np.array(
        fit_loops(x, y)
    )


def deletion_mask(x, y, j):
    keep = torch.arange(len(y)) != j
    return torch.linalg.lstsq(x[keep], y[keep, None]).solution[:, 0] - torch.linalg.lstsq(
        x, y[:, None]
    ).solution.squeeze(-1)


def deletion_downdate(x, y, j):
    a, b = x.T @ x, x.T @ y
    less_a, less_b = a - torch.outer(x[j], x[j]), b - x[j] * y[j]
    return torch.linalg.inv(less_a) @ less_b - torch.linalg.inv(a) @ b


def deletion_prediction_error(x, y, j):
    """By the residual from the line fitted without j."""
    keep = np.arange(len(y)) != j
    x, y = _np_xy(x, y)
    without = np.linalg.pinv(x[keep]) @ y[keep]
    return -np.linalg.inv(x.T @ x) @ x[j] * (y[j] - x[j] @ without)


def fit_qr(x, y):
    q, r = np.linalg.qr(x.numpy())
    return scipy.linalg.solve_triangular(r, q.T @ y.numpy())


def fit_newton(x, y):
    """One Newton step from anywhere, all derivatives automatic: the loss is quadratic."""

    def loss(w):
        return 0.5 * (y - x @ w).square().sum()

    at = torch.ones(x.shape[1], dtype=x.dtype)
    return at - torch.linalg.solve(jacfwd(grad(loss))(at), grad(loss)(at))


def influence_cholesky(x, y, j):
    root = torch.linalg.cholesky(x.T @ x)
    both = torch.cholesky_solve(torch.stack([x.T @ y, x[j]], dim=1), root)
    return both[:, 1] * (y[j] - x[j] @ both[:, 0])


def influence_from_deletion(x, y, j):
    """The change at a deletion, taken back and shrunk by 1 − h_j."""
    rest = np.delete(x.numpy(), j, 0), np.delete(y.numpy(), j)
    x, y = _np_xy(x, y)
    moved = np.linalg.pinv(x) @ y - np.linalg.pinv(rest[0]) @ rest[1]
    return moved * (1 - x[j] @ np.linalg.pinv(x)[:, j])


def influence_by_derivatives(x, y, j):
    """Minus the inverse Hessian times the gradient of example j, both automatic."""

    def loss(w, rows, labels):
        return ((labels - rows @ w) ** 2).sum() / 2

    w = torch.from_numpy(np.linalg.lstsq(x.numpy(), y.numpy(), rcond=None)[0])
    bent = jacrev(jacrev(loss))(w, x, y)
    return -(grad(loss)(w, x[j, None], y[j, None]) @ torch.linalg.pinv(bent, hermitian=True))


def influence_svd(x, y, j):
    u, s, vt = torch.linalg.svd(x, full_matrices=False)
    return (vt.T @ (u[j] / s) * (y[j] - u[j] @ (u.T @ y))).tolist()


def influence_float32(x, y, j):
    return torch.tensor(influence_pseudoinverse(x, y, j), dtype=torch.float32)


def path_between(x, y, j, beta):
    """The path is straight, from the fit with j to the fit without: how far along?"""
    x, y = _np_xy(x, y)
    end = np.linalg.lstsq(np.delete(x, j, 0), np.delete(y, j), rcond=None)[0]
    start = np.linalg.lstsq(x, y, rcond=None)[0]
    h = x[j] @ np.linalg.solve(x.T @ x, x[j])
    return (end - start) * (1 - beta) * (1 - h) / (beta * h + 1 - h)


def path_bordered(x, y, j, beta):
    """The residual of example j as one more unknown: A w + (1 − β) x_j e = b, x_jᵀw + e = y_j."""
    p = x.shape[1]
    system = torch.eye(p + 1, dtype=x.dtype)
    system[:p, :p], system[:p, p], system[p, :p] = x.T @ x, (1 - beta) * x[j], x[j]
    new = torch.linalg.solve(system, torch.cat([x.T @ y, y[j, None]]))[:p]
    return new - torch.linalg.solve(x.T @ x, x.T @ y)


def path_newton(x, y, j, beta):
    """From w*, one Newton step of the weighted loss, which is quadratic."""
    weights = torch.ones_like(y)
    weights[j] = beta
    w = linear_regression.least_squares(x, y)

    def loss(v):
        return 0.5 * (weights * (y - x @ v).square()).sum()

    return -torch.linalg.solve(jacrev(grad(loss))(w), grad(loss)(w))


def path_of_labels(x, y, j, beta):
    """The old fit is that of y; the new one too, with another label at j."""
    x, y = _np_xy(x, y)
    pinv = np.linalg.pinv(x)
    h, fitted = x[j] @ pinv[:, j], x[j] @ pinv @ y
    new_fitted = (beta * y[j] * h + fitted - h * y[j]) / (1 - (1 - beta) * h)
    label = beta * y[j] + (1 - beta) * new_fitted
    return (pinv[:, j] * (label - y[j])).tolist()


def deletion_zero_row(x, y, j):
    """A row of zeros has no say, whatever its label."""
    less_x, less_y = x.clone(), y.clone()
    less_x[j] = less_y[j] = 0
    return fit_qr(less_x, less_y) - fit_qr(x, y)


def deletion_missing_value(x, y, j):
    """Put the prediction in place of the label until it is its own: the fit without j."""
    h = x[j] @ torch.linalg.solve(x.T @ x, x[j])
    w = linear_regression.least_squares(x, y)
    label = (x[j] @ w - h * y[j]) / (1 - h)
    filled = torch.where(torch.arange(len(y)) == j, label, y)
    return linear_regression.least_squares(x, filled) - w


def deletion_bordered(x, y, j):
    """With a parameter of its own, example j is fitted whatever the others say."""
    own = np.zeros((len(y), 1))
    own[j] = 1
    x, y = _np_xy(x, y)
    new = np.linalg.lstsq(np.hstack([x, own]), y, rcond=None)[0][:-1]
    return (new - np.linalg.lstsq(x, y, rcond=None)[0]).tolist()


_s, _h = _symbols("s h", real=True)
_whole = _s / (1 - _s * _h)
_first = _s * sp.diff(_whole, _s).subs(_s, 0)
_k = _symbols("k", integer=True)
LEVERAGE = {
    "leverage.part_a": {
        "solve": lambda x, y: torch.linalg.solve(x.T @ x, x.T @ y),
        "lstsq": lambda x, y: np.linalg.lstsq(x.numpy(), y.numpy(), rcond=None)[0],
        "inverse": lambda x, y: torch.linalg.inv(x.T @ x) @ x.T @ y,
        "pseudoinverse": lambda x, y: np.linalg.pinv(x.numpy()) @ y.numpy(),
        "loops": fit_loops,
        "einsum": lambda x, y: torch.linalg.solve(
            torch.einsum("ni,nk->ik", x, x), torch.einsum("ni,n->i", x, y)
        ).tolist(),
        "library": linear_regression.least_squares,
        "means": lambda x, y: torch.linalg.solve(x.T @ x / len(x), (x * y[:, None]).mean(0)),
        "QR": fit_qr,
        "Newton": fit_newton,
    },
    "leverage.part_b": {
        "hint": influence_hint,
        "inverse": influence_inverse,
        "library": lambda x, y, j: linear_regression.regression_influence(x, y)[j],
        "autodiff": influence_autodiff,
        "differences": influence_differences,
        "pseudoinverse": influence_pseudoinverse,
        "Cholesky": influence_cholesky,
        "from deletion": influence_from_deletion,
        "derivatives": influence_by_derivatives,
        "singular vectors": influence_svd,
        "float32": influence_float32,
    },
    "leverage.part_c": {
        "hint": path_hint,
        "weighted": path_weighted,
        "rows": path_rows,
        "library": linear_regression.weighted_update,
        "series": path_series,
        "other names": lambda X, Y, i, weight: np.asarray(path_hint(X, Y, i, weight)),
        "between two fits": path_between,
        "bordered": path_bordered,
        "Newton": path_newton,
        "labels": path_of_labels,
    },
    "leverage.part_d": {
        "plain": _s * _h / (1 - _s * _h),
        "minus one": 1 / (1 - _s * _h) - 1,
        "positive": sp.Mul(*_symbols("s h", positive=True))
        / (1 - sp.Mul(*_symbols("s h", positive=True))),
        "inverse": 1 / (1 / (_s * _h) - 1),
        "flipped": -_s * _h / (_s * _h - 1),
        "floats": 1.0 / (1.0 - 1.0 * _s * _h) - 1.0,
        "ratio of both": (_s / (1 - _s * _h) - _s) / _s,
        "series": sp.Sum((_s * _h) ** _k, (_k, 1, sp.oo)).doit().args[0][0],
        "whole and first": (_whole - _first) / _first,
        "over s": _h / (1 / _s - _h),
    },
    "leverage.part_e": {
        "hint": deletion_hint,
        "refit": deletion_refit,
        "mask": deletion_mask,
        "downdate": deletion_downdate,
        "prediction error": deletion_prediction_error,
        "library": lambda x, y, j: linear_regression.deletion_update(x, y)[j],
        "path at zero": lambda x, y, j: path_hint(x, y, j, 0).numpy(),
        "zero row": deletion_zero_row,
        "missing value": deletion_missing_value,
        "bordered": deletion_bordered,
    },
    "leverage.part_f": {
        "rounded": 0.17,
        "numpy": np.float64(0.168),
        "fraction": Fraction(1, 6),
        "torch": torch.tensor(0.1675),
        "sympy": sp.Rational(167, 1000),
        "0-d": np.array(0.1674),
        "decimal": Decimal("0.1675"),
    },
    "leverage.part_g": {
        "plain": "bounded",
        "capital": "Bounded",
        "capitals": "BOUNDED",
        "spaces": "  bounded",
        "newline": "bounded \n",
    },
}


# --- curvature -----------------------------------------------------------------------------------


def gauss_newton_hint(objective, w):
    j, bent = output_jacobians(objective, w), output_hessians(objective, w)
    return torch.einsum("ncp,ncd,ndq->pq", j, bent, j)


def _jacobians_and_probabilities(objective, w):
    j = vmap(jacfwd(objective.predict), (None, 0))(w, objective.x)
    f = vmap(objective.predict, (None, 0))(w, objective.x)
    return j.numpy(), torch.softmax(f, -1).numpy()


def gauss_newton_softmax(objective, w):
    j, q = _jacobians_and_probabilities(objective, w)
    g = np.zeros((len(w), len(w)))
    for j_i, q_i in zip(j, q, strict=True):
        g += j_i.T @ (np.diag(q_i) - np.outer(q_i, q_i)) @ j_i
    return g


def _roots(objective, w):
    """Rows whose outer products add up to G, from diag(q) − qqᵀ = BᵀB, B = diag(√q)(I − 1qᵀ)."""
    j, q = _jacobians_and_probabilities(objective, w)
    centred = j - np.einsum("nc,ncp->np", q, j)[:, None]
    return (np.sqrt(q)[:, :, None] * centred).reshape(-1, len(w))


def gauss_newton_roots(objective, w):
    rows = _roots(objective, w)
    return (rows.T @ rows).tolist()


def gauss_newton_fisher(objective, w):
    """For cross-entropy G is the Fisher information: average over labels drawn from the model."""

    def log_q(v, x_i):
        return torch.log_softmax(objective.predict(v, x_i), -1)

    scores = vmap(jacrev(log_q), (None, 0))(w, objective.x)
    q = vmap(log_q, (None, 0))(w, objective.x).exp()
    return torch.einsum("nc,ncp,ncq->pq", q, scores, scores).requires_grad_()


def gauss_newton_products(objective, w):
    """Column by column: forward through the outputs, the loss's Hessian, and back."""

    def f(v):
        return vmap(objective.predict, (None, 0))(v, objective.x)

    q = torch.softmax(f(w), -1)
    back = vjp(f, w)[1]

    def column(v):
        moved = jvp(f, (w,), (v,))[1]
        return back(q * moved - q * (q * moved).sum(-1, keepdim=True))[0]

    return vmap(column)(torch.eye(len(w), dtype=w.dtype)).T


def damped_hint(objective, w, phi, damping):
    g = gauss_newton_softmax(objective, w) + damping * np.eye(len(w))
    return -gradients(objective, w).numpy() @ np.linalg.solve(g, grad(phi)(w).numpy())


def damped_inverse(objective, w, phi, lam):
    """One row an example, from the parameters' own influence and the chain rule."""
    damped = torch.from_numpy(gauss_newton_softmax(objective, w)) + lam * torch.eye(len(w))
    moved = -gradients(objective, w) @ torch.linalg.inv(damped).T
    slope = grad(phi)(w)
    return [row @ slope for row in moved]


def damped_push_through(objective, w, phi, damping):
    """(RᵀR + λI)⁻¹v = (v − Rᵀ(RRᵀ + λI)⁻¹Rv)/λ: a system as large as the outputs."""
    rows, v = _roots(objective, w), grad(phi)(w).numpy()
    inner = np.linalg.solve(rows @ rows.T + damping * np.eye(len(rows)), rows @ v)
    return (-gradients(objective, w).numpy() @ (v - rows.T @ inner) / damping).tolist()


def damped_eigenvectors(objective, w, phi, damping):
    _, sizes, directions = np.linalg.svd(_roots(objective, w))
    values = np.zeros(len(w))
    values[: len(sizes)] = sizes**2
    g, v = gradients(objective, w).numpy() @ directions.T, directions @ grad(phi)(w).numpy()
    return [-(g_i / (values + damping)) @ v for g_i in g]


def damped_conjugate_gradient(objective, w, phi, damping):
    rows = torch.from_numpy(_roots(objective, w))
    v, _ = influence.conjugate_gradient(
        lambda u: rows.T @ (rows @ u), grad(phi)(w), damping=damping, tolerance=1e-9
    )
    return -(gradients(objective, w) * v).sum(dim=1)


def gauss_newton_linearised(objective, w):
    """The Hessian of the loss of the network's tangent at w."""

    def tangent_loss(v):
        def one(x_i, y_i):
            f, moved = jvp(lambda u: objective.predict(u, x_i), (w,), (v,))
            return objective.loss(f + moved, y_i)

        return vmap(one)(objective.x, objective.y).sum()

    return jacfwd(grad(tangent_loss))(torch.zeros_like(w))


def gauss_newton_by_difference(objective, w):
    """H less what the network's own curvature adds, and less the penalty."""

    def bent_network(v):
        f = vmap(objective.predict, (None, 0))
        pull = vmap(grad(objective.loss))(f(w, objective.x), objective.y)  # held at w
        return (pull * f(v, objective.x)).sum() + objective.l2 / 2 * v @ v

    return objective_hessian(objective, w) - jacfwd(jacrev(bent_network))(w)


def gauss_newton_pairs(objective, w):
    """Half the sum over pairs of outputs of q_c q_d (J_c − J_d)(J_c − J_d)ᵀ."""
    j, q = _jacobians_and_probabilities(objective, w)
    g = np.zeros((len(w), len(w)))
    for c, d in combinations(range(q.shape[1]), 2):
        apart = j[:, c] - j[:, d]
        g += (apart.T * (q[:, c] * q[:, d])) @ apart
    return g


def gauss_newton_blocks(objective, w):
    rows = output_jacobians(objective, w).reshape(-1, len(w))
    middle = torch.block_diag(*output_hessians(objective, w))
    return rows.T @ middle @ rows


def gauss_newton_float32(objective, w):
    return torch.from_numpy(gauss_newton_softmax(objective, w)).float()


def damped_cholesky(objective, w, phi, damping):
    g = torch.tensor(gauss_newton_pairs(objective, w)) + damping * torch.eye(len(w))
    both = torch.cholesky_solve(gradients(objective, w).T, torch.linalg.cholesky(g))
    return -torch.einsum("pn,p->n", both, jacrev(phi)(w))


def damped_least_squares(objective, w, phi, damping):
    """(RᵀR + λI)⁻¹ by QR of R over √λ I, each example's pull whitened by the triangle."""
    rows = np.vstack([_roots(objective, w), damping**0.5 * np.eye(len(w))])
    r = np.linalg.qr(rows, mode="r")
    pulls = scipy.linalg.solve_triangular(r, gradients(objective, w).numpy().T, trans="T")
    return -pulls.T @ scipy.linalg.solve_triangular(r, grad(phi)(w).numpy(), trans="T")


def damped_updates(objective, w, phi, damping):
    """The inverse by Sherman and Morrison, from I/λ and one row of R after another."""
    inverse = np.eye(len(w)) / damping
    for row in _roots(objective, w):
        pull = inverse @ row
        inverse -= np.outer(pull, pull) / (1 + row @ pull)
    return [-(g_i @ inverse @ grad(phi)(w).numpy()) for g_i in gradients(objective, w).numpy()]


def damped_implicit(objective, w, phi, damping):
    """The proximal Bregman objective itself, and the implicit function theorem on it."""
    slope = grad(influence.proximal_bregman(objective, w, damping))
    ones = torch.ones(objective.n, dtype=w.dtype)
    bent, mixed = jacfwd(slope, 0)(w, ones), jacfwd(slope, 1)(w, ones)
    return -grad(phi)(w) @ torch.linalg.solve(bent, mixed)


def damped_float32(objective, w, phi, damping):
    return np.asarray(damped_hint(objective, w, phi, damping), dtype=np.float32)


_w, _x, _y = _symbols("w x y")
_wr, _xr, _yr = _symbols("w x y", real=True)
_u = _symbols("u")
_f = sp.exp(_w * _x)

CURVATURE = {
    "curvature.part_a": {
        "hint": gauss_newton_hint,
        "softmax": gauss_newton_softmax,
        "roots": gauss_newton_roots,
        "Fisher": gauss_newton_fisher,
        "products": gauss_newton_products,
        "linearised": gauss_newton_linearised,
        "by difference": gauss_newton_by_difference,
        "pairs": gauss_newton_pairs,
        "blocks": gauss_newton_blocks,
        "float32": gauss_newton_float32,
    },
    "curvature.part_b": {
        "plain": _x**2 * _f * (_f - _y),
        "expanded": _x**2 * sp.exp(2 * _w * _x) - _x**2 * _y * sp.exp(_w * _x),
        "differentiated": sp.diff((_y - _f) ** 2 / 2, _w, 2) - sp.diff(_f, _w) ** 2,
        "unevaluated": sp.Derivative(sp.Rational(1, 2) * (_yr - sp.exp(_wr * _xr)) ** 2, _wr, 2)
        - sp.Derivative(sp.exp(_wr * _xr), _wr) ** 2,
        "floats": 0.5 * sp.diff((_y - _f) ** 2, _w, 2) - _x**2 * _f**2.0,
        "power of e": _x**2 * sp.E ** (_w * _x) * (sp.E ** (_w * _x) - _y),
        "hyperbolic": _x**2 * (sp.cosh(_w * _x) + sp.sinh(_w * _x)) * (_f - _y),
        "sign outside": -(_y - _f) * sp.diff(_f, _w, _w),
        "completed square": _x**2 * ((_f - _y / 2) ** 2 - _y**2 / 4),
        "substituted": (_x**2 * (_u**2 - _u * _y)).subs(_u, _f),
    },
    "curvature.part_c": {
        "plain": "no",
        "capital": "No",
        "capitals": "NO",
        "spaces": " no ",
        "newline": "no\n",
    },
    "curvature.part_d": {
        "hint": damped_hint,
        "inverse": damped_inverse,
        "push-through": damped_push_through,
        "eigenvectors": damped_eigenvectors,
        "conjugate gradient": damped_conjugate_gradient,
        "Cholesky": damped_cholesky,
        "least squares": damped_least_squares,
        "updates": damped_updates,
        "implicit": damped_implicit,
        "float32": damped_float32,
    },
    "curvature.part_e": {
        "float": 1 / (-0.5 + 0.3),
        "integer": -5,
        "numpy": np.linalg.inv(np.diag([-0.5 + 0.3, 2.3]))[0, 0],
        "torch": torch.tensor(-5.0, requires_grad=True),
        "fraction": 1 / (Fraction(-1, 2) + Fraction(3, 10)),
        "sympy": 1 / (sp.Rational(-1, 2) + sp.Rational(3, 10)),
        "0-d": np.array(-5.0, dtype=np.float32),
    },
    "curvature.part_f": {
        "plain": "pbrf",
        "capitals": "PBRF",
        "capital": "Pbrf",
        "spaces": " PBRF ",
        "newline": "pbrf\n",
    },
}

# --- degenerate_ab -------------------------------------------------------------------------------


def ab_hint(a, b, z):
    off = (2 * a * b - z).sum()
    return torch.stack(
        [torch.stack([len(z) * torch.tensor(b**2).double(), off]), torch.stack([off, off * 0])]
    ) + torch.diag(torch.tensor([0.0, len(z) * a**2], dtype=torch.float64))


def ab_lists(a, b, z):
    h = [[0.0, 0.0], [0.0, 0.0]]
    for z_i in z.tolist():
        h[0][0] += b * b
        h[1][1] += a * a
        h[0][1] += 2 * a * b - z_i
        h[1][0] += 2 * a * b - z_i
    return h


def ab_gauss_newton_and_rest(a, b, z):
    v = np.array([b, a])
    rest = (a * b - z.numpy()).sum()
    return len(z) * np.outer(v, v) + rest * np.array([[0, 1], [1, 0]])


def ab_mean(a, b, z):
    n, off = len(z), len(z) * (2 * a * b - z.mean())
    return [[n * b**2, off], [off, n * a**2]]


def ab_double_backward(a, b, z):
    w = torch.tensor([a, b], dtype=torch.float64, requires_grad=True)
    (slope,) = torch.autograd.grad(0.5 * (z - w[0] * w[1]).square().sum(), w, create_graph=True)
    return [torch.autograd.grad(part, w, retain_graph=True)[0] for part in slope]


def ab_slope_differences(a, b, z):
    """Central differences of the gradient written by hand, which is quadratic in (a, b)."""

    def slope(a, b):
        r = (a * b - z.numpy()).sum()
        return np.array([b * r, a * r])

    e = 1e-3
    return np.stack(
        [(slope(a + e, b) - slope(a - e, b)) / (2 * e), (slope(a, b + e) - slope(a, b - e)) / 2e-3]
    )


def valley_solve(s, damping):
    n = len(s)
    g = torch.stack([torch.zeros_like(s), s])
    return -torch.linalg.solve(torch.diag(torch.tensor([n + damping, damping])).double(), g)[1]


def valley_autodiff(s, damping):
    """y minimises Σ β_i s_i y + ½λy²: differentiate −Σ β_i s_i / λ in β."""
    return jacrev(lambda beta: -(beta @ s) / damping)(torch.ones_like(s))


def valley_descent(s, damping):
    """Gradient descent on the damped loss, for every bumped weight at once."""
    beta, y = 1 + torch.eye(len(s), dtype=s.dtype), torch.zeros_like(s)
    for _ in range(80):
        y = y - (beta @ s + damping * y)
    return y


def ab_library(a, b, z):
    return objective_hessian(ab_model(z), torch.tensor([a, b], dtype=z.dtype))


def ab_second_differences(a, b, z):
    """Of the loss, quadratic in a and in b: a step of one is exact."""

    def loss(a, b):
        return ((z - a * b) ** 2).sum().item() / 2

    here = 2 * loss(a, b)
    corners = loss(a + 1, b + 1) + loss(a - 1, b - 1) - loss(a + 1, b - 1) - loss(a - 1, b + 1)
    aa, bb = loss(a + 1, b) + loss(a - 1, b) - here, loss(a, b + 1) + loss(a, b - 1) - here
    return np.array([[aa, corners / 4], [corners / 4, bb]])


def ab_polynomial(a, b, z):
    """n a²b²/2 − ab Σz + …, differentiated by sympy."""
    at = sp.symbols("p q")
    loss = len(z) * (at[0] * at[1]) ** 2 / 2 - at[0] * at[1] * sp.Float(float(z.sum()))
    bent = sp.hessian(loss, at).subs({at[0]: a, at[1]: b})
    return np.array(bent.tolist(), dtype=float)


def ab_forward(a, b, z):
    def residuals(w):
        return z - w[0] * w[1]

    w = torch.tensor([a, b], dtype=torch.float64)
    j, bent = jacfwd(residuals)(w), jacfwd(jacfwd(residuals))(w)
    return j.T @ j + torch.einsum("n,npq->pq", residuals(w), bent)


def ab_float32(a, b, z):
    off = torch.sum(2 * a * b - z)
    diagonal = torch.tensor([b, a], dtype=z.dtype).square() * z.numel()
    return torch.diag(diagonal).float() + off.float() * (1 - torch.eye(2))


def valley_library(s, damping):
    model, at = valley(s), torch.zeros(2, dtype=s.dtype)
    solve = influence.direct(objective_hessian(model, at), damping)
    return influence.influence(model, at, lambda w: w[1], solve)


def valley_differences(s, damping):
    """Minima of the tethered loss with one weight moved up or down."""
    answer = []
    for i in range(len(s)):
        up, down = s.sum() + 0.5 * s[i], s.sum() - 0.5 * s[i]
        answer.append(-up / damping + down / damping)
    return torch.stack(answer)


def valley_series(s, damping):
    """Gradient descent along y with half the best step, as a geometric series."""
    step = 0.5 / damping
    return (-s * step * sum(0.5**k for k in range(60))).numpy()


def valley_float32(s, damping):
    return s.float().neg() / damping


_z, _zbar, _n, _lam, _v = _symbols("z zbar n lambda V")
_zp, _zbarp, _np, _lamp, _vp = _symbols("z zbar n lambda V", positive=True)
_vec = sp.Matrix([1, _zbar])  # the minimum a = z̄, b = 1 of the valley
_vv = _vec.dot(_vec)
_rest = (_n * _zbar - _z) / (_n - 1)  # the mean of the others
_along = sp.Matrix([sp.sqrt(_v), 0])  # v, in axes of its own
_solved = (_n * _along * _along.T + _lam * sp.eye(2)).LUsolve(_along)
_a, _b, _beta = _symbols("a b beta")

DEGENERATE_AB = {
    "degenerate_ab.part_a": {
        "hint": ab_hint,
        "lists": ab_lists,
        "Gauss-Newton and rest": ab_gauss_newton_and_rest,
        "mean": ab_mean,
        "double backward": ab_double_backward,
        "slope differences": ab_slope_differences,
        "library": ab_library,
        "second differences": ab_second_differences,
        "polynomial": ab_polynomial,
        "forward": ab_forward,
        "float32": ab_float32,
    },
    "degenerate_ab.part_b": {
        "plain": (_z - _zbar) / _n,
        "two terms": _z / _n - _zbar / _n,
        "positive": -(_zbarp - _zp) / _np,
        "at one minimum": (_vec.T * (_vec * _vec.T / (_n * _vv**2)) * _vec)[0] * (_z - _zbar),
        "floats": 0.5 * (2.0 * _z - 2 * _zbar) / _n,
        "differentiated": sp.diff((_n * _zbar + _beta * _z) / (_n + _beta), _beta).subs(_beta, 0),
        "unevaluated": sp.Subs(
            sp.Derivative((_n * _zbar + _beta * _z) / (_n + _beta), _beta), _beta, 0
        ),
        "limit of the damped": sp.limit((_z - _zbar) * _v / (_n * _v + _lam), _lam, 0),
        "from the deletion": (_zbar - _rest) * (_n - 1) / _n,
        "one more copy": ((_n * _zbar + _z) / (_n + 1) - _zbar) * (1 + 1 / _n),
    },
    "degenerate_ab.part_c": {
        "plain": (_zbar - _z) / (_n - 1),
        "means": (_n * _zbar - _z) / (_n - 1) - _zbar,
        "positive": -(_zp - _zbarp) / (_np - 1),
        "together": sp.together((_n * _zbar - _z) / (_n - 1) - _zbar),
        "sign below": (_z - _zbar) / (1 - _n),
        "floats": -1.0 * (_z - _zbar) / (_n - 1.0),
        "from the influence": -(_z - _zbar) / _n / (1 - 1 / _n),
        "two fractions": _zbar / (_n - 1) - _z / (_n - 1),
        "weight zero": ((_n * _zbar + (_beta - 1) * _z) / (_n + _beta - 1)).subs(_beta, 0) - _zbar,
        "distance to the rest": -(_z - _rest) / _n,
    },
    "degenerate_ab.part_d": {
        "plain": (_z - _zbar) * _v / (_n * _v + _lam),
        "positive": (_zp - _zbarp) / (_np + _lamp / _vp),
        "shrunk": (_z - _zbar) / _n * (1 - _lam / (_n * _v + _lam)),
        "sign outside": -(_zbar - _z) * _v * (_n * _v + _lam) ** -1,
        "expanded": sp.expand((_z - _zbar) * _v) / (_lam + _n * _v),
        "floats": (_z - _zbar) * _v * 1.0 / (1.0 * _lam + _n * _v),
        "one third": 3 * (_z - _zbar) * _v * (1 / 3) / (_n * _v + _lam),
        "Sherman-Morrison": (_z - _zbar) * (_v / _lam - _n * _v**2 / (_lam * (_lam + _n * _v))),
        "slope of a logarithm": (_z - _zbar) * sp.diff(sp.log(_n * _v + _lam), _n),
        "solved along v": (_z - _zbar) * _along.dot(_solved),
    },
    "degenerate_ab.part_e": {
        "plain": 2 * _zbar * (_z - _zbar) / (_n * _v + _lam),
        "positive": 2 * _zbarp * (_zp - _zbarp) / (_np * _vp + _lamp),
        "two terms": (2 * _z * _zbar - 2 * _zbar**2) / (_lam + _n * _v),
        "difference of squares": (_z**2 - _zbar**2 - (_z - _zbar) ** 2) / (_n * _v + _lam),
        "over V": 2 * _zbar * (_z - _zbar) / _v / (_n + _lam / _v),
        "floats": 2.0 * _zbar * (_z - _zbar) / (_n * _v + _lam),
        "substituted": (2 * _a * _b * (_z - _a * _b) / (_n * _v + _lam)).subs(_a, _zbar / _b),
        "Sherman-Morrison": 2
        * _zbar
        * (_z - _zbar)
        * (1 / _lam - _n * _v / (_lam * (_lam + _n * _v))),
        "slope of a logarithm": _zbar * (_z - _zbar) * sp.diff(2 * sp.log(_n * _v + _lam), _lam),
        "from part d": 2 * _zbar * (_z - _zbar) * _along.dot(_solved) / _v,
    },
    "degenerate_ab.part_f": {
        "plain": "finite",
        "capital": "Finite",
        "capitals": "FINITE",
        "spaces": " finite ",
        "newline": "finite\n",
    },
    "degenerate_ab.part_g": {
        "torch": lambda s, damping: -s / damping,
        "numpy": lambda s, damping: -s.numpy() / damping,
        "list": lambda s, damping: [-s_i / damping for s_i in s.tolist()],
        "tensors": lambda s, damping: [-s_i / damping for s_i in s],
        "solve": valley_solve,
        "autodiff": valley_autodiff,
        "descent": valley_descent,
        "library": valley_library,
        "differences": valley_differences,
        "series": valley_series,
        "float32": valley_float32,
    },
}

VARIANTS = (
    CROISSANTS
    | INFLUENCE_DERIVATION
    | LEVERAGE
    | CURVATURE
    | DEGENERATE_AB
    | BIF_COVARIANCE
    | SGLD
    | POWER_SERIES
    | TRANSPORT
    | UNROLLING
    | SOURCE_REPLAY
    | CONVERGENCE
    | DLN_STAGEWISE
    | DISTRIBUTIONAL
    | ENTANGLED
    | SIMILARITY
    | CHOOSE
    | FIND_THE_CAUSE
)
