"""What the right numbers are, by the plainest way: numpy, dense matrices, loops, retraining.

Formulas for this one network, written out; neither `lib` nor torch nor any library compared takes
part. Arrays in double precision; influences are ∂φ_j/∂β_i, shape (n, k).
"""

from itertools import permutations

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]

HIDDEN, OUTPUTS, PIXELS = 32, 10, 64
CUT = HIDDEN * (PIXELS + 1)


def layers(w: Array) -> tuple[Array, Array]:
    """The two augmented weight matrices, (32, 65) and (10, 33)."""
    return w[:CUT].reshape(HIDDEN, PIXELS + 1), w[CUT:].reshape(OUTPUTS, HIDDEN + 1)


def forward(w: Array, x: Array) -> tuple[Array, Array, Array]:
    """Inputs of both layers with trailing ones, (m, 65) and (m, 33); probabilities, (m, 10)."""
    first, second = layers(w)
    ones = np.ones((len(x), 1))
    a = np.hstack([x, ones])
    h = np.hstack([np.tanh(a @ first.T), ones])
    f = h @ second.T
    p = np.exp(f - f.max(axis=1, keepdims=True))
    return a, h, p / p.sum(axis=1, keepdims=True)


def losses(w: Array, x: Array, y: Array) -> Array:
    """−log p_y, (m,)."""
    return -np.log(forward(w, x)[2][np.arange(len(y)), y])


def deltas(w: Array, x: Array, pull: Array) -> tuple[Array, Array]:
    """A gradient in the outputs (m, 10), carried back to both layers' pre-activations."""
    _, h, _ = forward(w, x)
    return pull @ layers(w)[1][:, :-1] * (1 - h[:, :-1] ** 2), pull


def pulled(w: Array, x: Array, pull: Array) -> Array:
    """The gradient in w of Σ_c pull_c f_c for each example, (m, p)."""
    a, h, _ = forward(w, x)
    d1, d2 = deltas(w, x, pull)
    parts = d1[:, :, None] * a[:, None, :], d2[:, :, None] * h[:, None, :]
    return np.hstack([part.reshape(len(x), -1) for part in parts])


def gradients(w: Array, x: Array, y: Array) -> Array:
    """∇L_i, (m, p)."""
    return pulled(w, x, forward(w, x)[2] - np.eye(OUTPUTS)[y])


def mean_gradient(w: Array, x: Array, y: Array, beta: Array) -> Array:
    """(1/m) Σ β_i ∇L_i, (p,), without the (m, p) matrix."""
    a, h, p = forward(w, x)
    d1, d2 = deltas(w, x, (p - np.eye(OUTPUTS)[y]) * beta[:, None] / len(x))
    return np.concatenate([(d1.T @ a).ravel(), (d2.T @ h).ravel()])


def hessian(w: Array, x: Array, y: Array, step: float = 1e-4) -> Array:
    """The Hessian of the summed loss, by fourth-order differences of the gradient, (p, p)."""
    rows, ones = [], np.ones(len(x))
    for i in range(len(w)):
        bump = np.zeros_like(w)
        bump[i] = step
        near, far = (
            mean_gradient(w + m * bump, x, y, ones) - mean_gradient(w - m * bump, x, y, ones)
            for m in (1, 2)
        )
        rows.append((8 * near - far) / (12 * step) * len(x))
    matrix = np.array(rows)
    return (matrix + matrix.T) / 2


def roots(w: Array, x: Array, y: Array, kind: str) -> list[Array]:
    """Output gradients whose outer products make a curvature: one array (m, 10) each.

    fisher: √p_c (p − e_c) for every class c, which is Gauss–Newton for this loss.  empirical: the
    gradient at the label.  surrogate: Σ_c √p_c (e_c − p), all classes in one vector.
    """
    p = forward(w, x)[2]
    each = [np.sqrt(p[:, [c]]) * (p - np.eye(OUTPUTS)[c]) for c in range(OUTPUTS)]
    return {"fisher": each, "empirical": [p - np.eye(OUTPUTS)[y]], "surrogate": [sum(each)]}[kind]


def curvature(w: Array, x: Array, y: Array, kind: str = "fisher") -> Array:
    """Σ_i of those outer products in w: Gauss–Newton or its stand-ins, summed, (p, p)."""
    total = np.zeros((len(w), len(w)))
    for root in roots(w, x, y, kind):
        rows = pulled(w, x, root)
        total += rows.T @ rows
    return total


def kronecker(
    w: Array, x: Array, y: Array, kind: str = "fisher", *, corrected: bool = True
) -> Array:
    """EK-FAC's matrix (K-FAC's, if not corrected), written out with its zeros, (p, p)."""
    a, h, _ = forward(w, x)
    pulls = [deltas(w, x, root) for root in roots(w, x, y, kind)]
    matrix = curvature(w, x, y, kind)
    result = np.zeros_like(matrix)
    for layer, (inputs, part) in enumerate(((a, slice(0, CUT)), (h, slice(CUT, len(w))))):
        s = sum(pull[layer].T @ pull[layer] for pull in pulls) / len(x)
        value_s, q_s = np.linalg.eigh(s)
        value_a, q_a = np.linalg.eigh(inputs.T @ inputs / len(x))
        q = np.kron(q_s, q_a)
        values = len(x) * np.kron(value_s, value_a)
        if corrected:
            values = np.einsum("pi,pq,qi->i", q, matrix[part, part], q, optimize=True)
        result[part, part] = (q * values) @ q.T
    return result


def influence(matrix: Array, damping: float, train: Array, test: Array) -> Array:
    """−∇L_iᵀ (C + λI)⁻¹ ∇φ_j from gradients (n, p) and (k, p); (n, k)."""
    return -train @ np.linalg.solve(matrix + damping * np.eye(len(matrix)), test.T)


def trained(start: Array, x: Array, y: Array, batches: Array, rate: float, beta: Array) -> Array:
    """w_T of SGD with data weights, (p,)."""
    w = start.copy()
    for batch in batches:
        w = w - rate * mean_gradient(w, x[batch], y[batch], beta[batch])
    return w


def unrolled(run: dict, which: list[int], x_test: Array, y_test: Array, step: float = 1e-2):
    """∂φ_j/∂β_i by retraining at β_i = 1 ± h and 1 ± 2h, for some i; (m, k)."""

    def at(i: int, moved: float) -> Array:
        beta = np.ones(len(run["x"]))
        beta[i] += moved
        return losses(trained(**run, beta=beta), x_test, y_test)

    return np.array(
        [
            (8 * (at(i, step) - at(i, -step)) - (at(i, 2 * step) - at(i, -2 * step))) / (12 * step)
            for i in which
        ]
    )


def shapley(value, n: int) -> Array:
    """The mean marginal contribution over all n! orders of arrival, (n,)."""
    table = np.array([value({i for i in range(n) if code >> i & 1}) for code in range(2**n)])
    total = np.zeros(n)
    rest = np.array(list(permutations(range(n - 1))))
    for first in range(n):  # n times (n − 1)! orders: memory for one of them
        others = np.array([i for i in range(n) if i != first])
        orders = np.hstack([np.full((len(rest), 1), first), others[rest]])
        after = np.cumsum(1 << orders, axis=1)
        gained = table[after] - table[after - (1 << orders)]
        total += np.bincount(orders.ravel(), gained.ravel(), minlength=n)
    return total / (n * len(rest))
