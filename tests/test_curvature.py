"""K-FAC and EK-FAC against explicit loops on a tiny network."""

import numpy as np
import pytest
import torch
from scipy.linalg import block_diag, expm

from lib import models
from lib.curvature import Layer, ekfac, function_of, kfac, kronecker, layer_statistics

# Torch compiles its own rules when a forward derivative is first asked for.
pytestmark = pytest.mark.filterwarnings("ignore:.torch.jit.script:DeprecationWarning")

SEEDS = range(3)
N, SIZES = 9, (2, 3, 3)


def close(left, right, rtol=1e-9):
    left, right = np.asarray(left), np.asarray(right)
    assert left.shape == right.shape
    assert np.abs(left - right).max() <= rtol * np.abs(right).max()


def tiny(seed, classes=True):
    """A network, its objective and w; and for each layer pairs (√p_c d, ā) of all i and c.

    Under cross-entropy the Gauss–Newton matrix is the mean of gradient outer products over labels
    drawn from the model; under squared error with unit output Hessian, over the output directions.
    """
    rng = np.random.default_rng(seed)
    mlp = models.MLP(SIZES)
    x, w = rng.normal(size=(N, 2)), 0.8 * rng.normal(size=mlp.p)
    if classes:
        objective = mlp.objective(torch.tensor(x), torch.tensor(rng.integers(3, size=N)))
    else:
        y = torch.tensor(rng.normal(size=(N, 3)))
        objective = mlp.objective(torch.tensor(x), y, loss=models.squared_error)
    return mlp, objective, torch.tensor(w), outer_pairs(objective, w, classes)


def outer_pairs(objective, w, classes=True):
    first, last = w[:9].reshape(3, 3), w[9:].reshape(3, 4)
    pairs = [[], []]
    for row in objective.x.numpy():
        a0 = np.append(row, 1)
        h = np.tanh(first @ a0)
        a1 = np.append(h, 1)
        f = last @ a1
        p = np.exp(f) / np.exp(f).sum()
        for c in range(3):
            d1 = np.sqrt(p[c]) * (p - np.eye(3)[c]) if classes else np.eye(3)[c]
            d0 = (1 - h**2) * (last[:, :3].T @ d1)
            pairs[0].append((d0, a0))
            pairs[1].append((d1, a1))
    return pairs


def factors(pairs):
    """A, S and the layer's own block of Gauss–Newton, summed over examples."""
    big_a = sum(np.outer(a, a) for _, a in pairs) / (3 * N)
    big_s = sum(np.outer(d, d) for d, _ in pairs) / N
    block = sum(np.outer(np.outer(d, a).ravel(), np.outer(d, a).ravel()) for d, a in pairs)
    return big_a, big_s, block


@pytest.mark.parametrize("classes", [True, False])
@pytest.mark.parametrize("seed", SEEDS)
def test_kfac_factors(seed, classes):
    mlp, objective, w, pairs = tiny(seed, classes)
    for block, (a, r), layer in zip(
        kfac(mlp, objective, w), layer_statistics(mlp, objective, w), pairs, strict=True
    ):
        big_a, big_s, _ = factors(layer)
        close(a, [pair[1] for pair in layer[::3]])
        close((r @ r.transpose(1, 2)).sum(0) / N, big_s)
        close(block.matrix(), N * np.kron(big_s, big_a))
        assert block.eigenvalues.shape == (len(big_s), len(big_a))
        close(block.q_a @ block.q_a.T, np.eye(len(big_a)))
        close(block.q_s.T @ torch.tensor(big_s) @ block.q_s, np.diag(np.linalg.eigvalsh(big_s)))


@pytest.mark.parametrize("seed", SEEDS)
def test_ekfac_eigenvalues_by_loops(seed):
    mlp, objective, w, pairs = tiny(seed)
    for block, layer in zip(ekfac(mlp, objective, w), pairs, strict=True):
        big_a, big_s, full = factors(layer)
        v, u = np.linalg.eigh(big_a)[1], np.linalg.eigh(big_s)[1]
        direct = np.zeros((len(big_s), len(big_a)))
        for d, a in layer:
            for k in range(len(big_s)):
                for m in range(len(big_a)):
                    direct[k, m] += (u[:, k] @ np.outer(d, a) @ v[:, m]) ** 2
        close(block.eigenvalues, direct)
        q = np.kron(block.q_s.numpy(), block.q_a.numpy())
        close(block.eigenvalues.reshape(-1), np.diag(q.T @ full @ q))
        close(block.matrix(), q @ np.diag(np.diag(q.T @ full @ q)) @ q.T)


@pytest.mark.parametrize("seed", SEEDS)
def test_ekfac_is_the_better_fit_and_keeps_the_trace(seed):
    mlp, objective, w, pairs = tiny(seed)
    both = zip(kfac(mlp, objective, w), ekfac(mlp, objective, w), pairs, strict=True)
    for plain, better, layer in both:
        full = factors(layer)[2]
        gaps = [np.linalg.norm(block.matrix().numpy() - full) for block in (plain, better)]
        assert gaps[1] < gaps[0]
        close(better.eigenvalues.sum(), np.trace(full))


def test_one_linear_layer_with_squared_error_is_exact():
    rng = np.random.default_rng(0)
    mlp, x = models.MLP((3, 2)), rng.normal(size=(8, 3))
    y = torch.tensor(rng.normal(size=(8, 2)))
    objective = mlp.objective(torch.tensor(x), y, loss=models.squared_error)
    w = torch.tensor(rng.normal(size=mlp.p))
    tall = np.column_stack([x, np.ones(8)])
    for method in (kfac, ekfac):
        close(method(mlp, objective, w)[0].matrix(), np.kron(np.eye(2), tall.T @ tall))


@pytest.mark.parametrize("method", [kfac, ekfac])
@pytest.mark.parametrize("seed", SEEDS)
def test_kronecker_is_the_dense_inverse(seed, method):
    mlp, objective, w, pairs = tiny(seed)
    dense = np.zeros((mlp.p, mlp.p))
    at = 0
    for layer in pairs:
        big_a, big_s, full = factors(layer)
        size = len(full)
        q = np.kron(np.linalg.eigh(big_s)[1], np.linalg.eigh(big_a)[1])
        exact = q @ np.diag(np.diag(q.T @ full @ q)) @ q.T
        dense[at : at + size, at : at + size] = (
            N * np.kron(big_s, big_a) if method is kfac else exact
        )
        at += size
    v = np.random.default_rng(seed).normal(size=(4, mlp.p))
    want = np.linalg.solve(dense + 0.3 * np.eye(mlp.p), v.T).T
    solve = kronecker(method(mlp, objective, w), 0.3)
    close(solve(torch.tensor(v)), want)
    close(solve(torch.tensor(v[1])), want[1])


@pytest.mark.parametrize("seed", SEEDS)
def test_several_checkpoints_by_loops(seed):
    """Means over checkpoints of A, of S, and of the squares along their common eigenvectors."""
    mlp, objective, w, pairs = tiny(seed)
    stops, layers = [w], [[pairs[0]], [pairs[1]]]
    for other in (10 + seed, 20 + seed):
        # The data of this seed at the parameters of another.
        stops.append(tiny(other)[2])
        for layer, found in zip(layers, outer_pairs(objective, stops[-1].numpy()), strict=True):
            layer.append(found)
    both = (kfac(mlp, objective, torch.stack(stops)), ekfac(mlp, objective, torch.stack(stops)))
    for plain, better, layer in zip(*both, layers, strict=True):
        big_a, big_s, full = (
            np.mean(kind, axis=0) for kind in zip(*map(factors, layer), strict=True)
        )
        close(plain.matrix(), N * np.kron(big_s, big_a))
        q = np.kron(np.linalg.eigh(big_s)[1], np.linalg.eigh(big_a)[1])
        close(better.matrix(), q @ np.diag(np.diag(q.T @ full @ q)) @ q.T)


@pytest.mark.parametrize("seed", SEEDS)
def test_function_of_blocks_is_the_matrix_function(seed):
    mlp, objective, w, _ = tiny(seed)
    blocks = ekfac(mlp, objective, w)
    bend = block_diag(*[block.matrix() for block in blocks])
    v = np.random.default_rng(seed).normal(size=(4, mlp.p))
    found = function_of(blocks, lambda s: torch.exp(-s / 3), torch.tensor(v))
    close(found, v @ expm(-bend / 3))
    close(function_of(blocks, torch.square, torch.tensor(v[2])), bend @ bend @ v[2])


MLP, OBJECTIVE, W, _ = tiny(0)
BLOCKS = [Layer(torch.eye(3).double(), torch.eye(3).double(), torch.ones(3, 3).double())]
HOLLOW = MLP.objective(OBJECTIVE.x, OBJECTIVE.y, loss=lambda f, y: -(f**2).sum())
OTHER = models.MLP((2, 3, 3, 3)).objective(OBJECTIVE.x, OBJECTIVE.y)


@pytest.mark.parametrize("method", [layer_statistics, kfac, ekfac])
@pytest.mark.parametrize(
    "name, objective, w",
    [
        ("w", OBJECTIVE, W[:-1]),
        ("w", OBJECTIVE, W * float("nan")),
        ("w", OBJECTIVE, W[:, None]),
        ("w", OBJECTIVE, W[None, :-1]),
        ("w", OBJECTIVE, W[None, None]),
        ("objective", HOLLOW, W),
        ("objective", OTHER, W),
    ],
)
def test_bad_input_is_named(method, name, objective, w):
    with pytest.raises(ValueError, match=rf"^{name}: expected"):
        method(MLP, objective, w)


@pytest.mark.parametrize(
    "name, call",
    [
        ("damping", lambda: kronecker(BLOCKS, 0.0)),
        ("damping", lambda: kronecker(BLOCKS, -1.0)),
        ("damping", lambda: kronecker(BLOCKS, float("nan"))),
        ("v", lambda: kronecker(BLOCKS, 1.0)(W[:8])),
        ("v", lambda: kronecker(BLOCKS, 1.0)(W[:9] * float("nan"))),
        ("v", lambda: kronecker(BLOCKS, 1.0)(W[:, None])),
        ("v", lambda: function_of(BLOCKS, torch.exp, W[:8])),
        ("v", lambda: function_of(BLOCKS, torch.exp, W[:9] * float("nan"))),
        ("v", lambda: function_of(BLOCKS, torch.exp, W[:9, None, None])),
    ],
)
def test_bad_solves_are_named(name, call):
    with pytest.raises(ValueError, match=rf"^{name}: expected"):
        call()
