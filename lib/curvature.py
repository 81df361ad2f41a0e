"""Chapter 2, "Never form the matrix": one Kronecker product a layer for Gauss–Newton.

In layer l the gradient of an example is d āᵀ, with ā the layer's input (and a 1 for the bias) and d
the gradient at its pre-activation. K-FAC treats the two as independent; EK-FAC keeps K-FAC's
eigenvectors and measures the eigenvalues. Both leave out what couples one layer to another.
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.func import jacrev, vmap

from lib._validate import positive, rows_of, shaped
from lib.influence import Solve
from lib.models import MLP
from lib.objective import Objective, output_hessians


@dataclass(frozen=True)
class Layer:
    """One diagonal block, Q diag(eigenvalues) Qᵀ with Q = Q_S ⊗ Q_A.

    q_a: (in + 1, in + 1), q_s: (out, out), eigenvalues: (out, in + 1), summed over examples.
    """

    q_a: Tensor
    q_s: Tensor
    eigenvalues: Tensor

    def matrix(self) -> Tensor:
        """The block written out, in the row-by-row order of w."""
        q = torch.kron(self.q_s, self.q_a)
        return (q * self.eigenvalues.reshape(-1)) @ q.T


def layer_statistics(mlp: MLP, objective: Objective, w: Tensor) -> list[tuple[Tensor, Tensor]]:
    """For each layer its inputs ā, shape (n, in + 1), and roots R, shape (n, out, c).

    R_i R_iᵀ is the Gauss–Newton matrix of the pre-activations: exact in the labels, not sampled.
    """
    shaped("w", w, mlp.p)
    if objective.predict != mlp.predict:
        raise ValueError("objective: expected one made by this network's `mlp.objective`")
    still = [w.new_zeros(rows) for rows, _ in mlp.shapes]

    def shifted(x_i):
        return jacrev(lambda shifts: mlp.forward(w, x_i, shifts)[0])(still)

    inputs = vmap(lambda x_i: tuple(mlp.forward(w, x_i)[1]))(objective.x)
    jacobians = vmap(lambda x_i: tuple(shifted(x_i)))(objective.x)
    values, vectors = torch.linalg.eigh(output_hessians(objective, w))
    if values.min() < -(torch.finfo(w.dtype).eps ** 0.6) * values.abs().max():
        raise ValueError("objective: expected a loss that is convex in the outputs")
    root = vectors * values.clamp(min=0).sqrt()[:, None, :]
    return [(a, j.transpose(1, 2) @ root) for a, j in zip(inputs, jacobians, strict=True)]


def _averaged(mlp: MLP, objective: Objective, w: Tensor) -> list[tuple[Tensor, Tensor]]:
    """`layer_statistics` of every row of w, one below the other."""
    points = rows_of("w", w, mlp.p).reshape(-1, mlp.p)
    each = [layer_statistics(mlp, objective, point) for point in points]
    return [tuple(map(torch.cat, zip(*layer, strict=True))) for layer in zip(*each, strict=True)]


def kfac(mlp: MLP, objective: Objective, w: Tensor) -> list[Layer]:
    """G_l ≈ n S_l ⊗ A_l with A = mean of ā āᵀ, S = mean of R Rᵀ: one block a layer.

    w: (p,), or (c, p) for means over c checkpoints as well.
    Equation eq-kfac; Martens and Grosse (2015).
    """
    return _kronecker_blocks(_averaged(mlp, objective, w), objective.n)


def _kronecker_blocks(statistics: list[tuple[Tensor, Tensor]], n: int) -> list[Layer]:
    blocks = []
    for a, r in statistics:
        value_a, q_a = torch.linalg.eigh(a.T @ a / len(a))
        value_s, q_s = torch.linalg.eigh(torch.einsum("noc,nqc->oq", r, r) / len(a))
        blocks.append(Layer(q_a, q_s, n * torch.outer(value_s, value_a)))
    return blocks


def ekfac(mlp: MLP, objective: Objective, w: Tensor) -> list[Layer]:
    """K-FAC's eigenvectors with the eigenvalues that fit G_l best: the diagonal of Qᵀ G_l Q.

    w: (p,), or (c, p) for means over c checkpoints as well.
    Equation eq-ekfac; George et al. (2018), Grosse et al. (2023).
    """
    statistics = _averaged(mlp, objective, w)
    blocks = []
    for block, (a, r) in zip(_kronecker_blocks(statistics, objective.n), statistics, strict=True):
        along_s = (torch.einsum("op,noc->npc", block.q_s, r) ** 2).sum(dim=2)
        fitted = along_s.T @ (a @ block.q_a) ** 2 * (objective.n / len(a))
        blocks.append(Layer(block.q_a, block.q_s, fitted))
    return blocks


def function_of(blocks: list[Layer], f: Callable[[Tensor], Tensor], v: Tensor) -> Tensor:
    """f(C) v for a block-diagonal C and every row of v, without forming C; (p,) or (m, p).

    f: eigenvalues to numbers, shape by shape.
    """
    sizes = [block.eigenvalues.numel() for block in blocks]
    rows_of("v", v, sum(sizes))
    parts = []
    for block, part in zip(blocks, v.split(sizes, dim=-1), strict=True):
        weight = part.reshape(*v.shape[:-1], *block.eigenvalues.shape)
        turned = block.q_s.T @ weight @ block.q_a * f(block.eigenvalues)
        parts.append((block.q_s @ turned @ block.q_a.T).reshape(part.shape))
    return torch.cat(parts, dim=-1)


def kronecker(blocks: list[Layer], damping: float) -> Solve:
    """(C + λI)⁻¹ for a block-diagonal C, without forming it.

    Pass damping + ρ if the objective carries a penalty ρ: the blocks hold the losses alone.
    """
    positive("damping", damping)
    return lambda v: function_of(blocks, lambda s: 1 / (s + damping), v)
