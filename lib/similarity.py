"""Chapter 5, "Similarity is not attribution": scores that ask who is alike.

All have the sign of an influence on a loss: an example that is like the query and shares its label
should lower the query's loss, so its score is negative. None but `trak` is meant as a derivative.
"""

import torch
from torch import Tensor
from torch.func import grad, vmap

from lib._validate import count, positive, shaped, sized
from lib.models import MLP, log_odds
from lib.objective import Objective, gradients, outputs


def cosines(a: Tensor, b: Tensor) -> Tensor:
    """a_iᵀb_j/(‖a_i‖‖b_j‖) for rows of a (n, d) and b (k, d), shape (n, k); zero rows give zero."""
    shaped("b", b, "k", shaped("a", a, "n", "d").shape[1])
    return _unit(a) @ _unit(b).T


def _unit(rows: Tensor) -> Tensor:
    norms = rows.norm(dim=1, keepdim=True)
    return rows / torch.where(norms > 0, norms, 1.0)


def same_label(train: Objective, queries: Objective) -> Tensor:
    """−1 where an example has the query's label, 0 elsewhere; (n, k). Looks at no model."""
    sized("y", train.y, "n")
    sized("y", queries.y, "k")
    return -(train.y[:, None] == queries.y[None]).to(train.x.dtype)


def label_and_pixels(train: Objective, queries: Objective) -> Tensor:
    """−cosine of the centred inputs where labels agree, 0 elsewhere; (n, k). Looks at no model."""
    mean = train.x.mean(dim=0)
    return same_label(train, queries) * cosines(train.x - mean, queries.x - mean)


def embedding_cosine(mlp: MLP, train: Objective, queries: Objective, w: Tensor) -> Tensor:
    """−cosine of the last hidden layer's activations, centred on the training set; (n, k)."""
    a, b = hidden(mlp, train, w), hidden(mlp, queries, w)
    return -cosines(a - a.mean(dim=0), b - a.mean(dim=0))


def hidden(mlp: MLP, objective: Objective, w: Tensor) -> Tensor:
    """The input of the last layer, without its trailing 1, shape (n, width)."""
    shaped("w", w, mlp.p)
    return vmap(lambda x: mlp.forward(w, x)[1][-1][:-1])(objective.x)


def gradient_dot(train: Objective, queries: Objective, w: Tensor) -> Tensor:
    """−∇L_iᵀ∇ℓ_q, (n, k): the influence function with the identity for its curvature."""
    return -gradients(train, w) @ gradients(queries, w).T


def gradient_cosine(train: Objective, queries: Objective, w: Tensor) -> Tensor:
    """−cosine of the loss gradients, (n, k)."""
    return -cosines(gradients(train, w), gradients(queries, w))


def last_layer_dot(mlp: MLP, train: Objective, queries: Objective, w: Tensor) -> Tensor:
    """−∇L_iᵀ∇ℓ_q in the parameters of the last layer alone, (n, k)."""
    rows, columns = mlp.shapes[-1]
    last = slice(mlp.p - rows * columns, None)
    return -gradients(train, w)[:, last] @ gradients(queries, w)[:, last].T


def margins(objective: Objective, w: Tensor) -> Tensor:
    """log(p_y/(1 − p_y)) of each example's own label, shape (n,)."""
    return vmap(log_odds)(outputs(objective, w), objective.y)


def trak(
    train: Objective,
    queries: Objective,
    w: Tensor,
    dimension: int,
    generator: torch.Generator,
    *,
    damping: float = 0.0,
) -> Tensor:
    """∂ℓ_q/∂β_i by TRAK from one model, from gradients of the margin projected at random to
    `dimension` numbers; shape (n, k).

    (1 − p_q)(1 − p_i) times −a_qᵀ (Σ_j a_j a_jᵀ + λI)⁻¹ a_i, with a the projected gradients of the
    margins. Equation eq-trak; Park et al. (2023), who average over models and score the margin.
    """
    count("dimension", dimension, most=len(w))
    positive("damping", damping, or_zero=True)
    scale = dimension**-0.5
    project = torch.randn(len(w), dimension, generator=generator, dtype=w.dtype) * scale

    def projected(objective: Objective) -> tuple[Tensor, Tensor]:
        def of_one(v, x, y):
            return log_odds(objective.predict(v, x), y)

        slopes = vmap(grad(of_one), (None, 0, 0))(w, objective.x, objective.y)
        return slopes @ project, torch.sigmoid(-margins(objective, w))

    a, missing = projected(train)
    b, missing_there = projected(queries)
    kernel = a.T @ a + damping * torch.eye(dimension, dtype=w.dtype)
    factor, failed = torch.linalg.cholesky_ex(kernel)
    pivots, rounding = factor.diagonal(), torch.finfo(w.dtype).eps ** 0.4
    # A singular matrix may pass with a pivot of rounding errors.
    singular = damping == 0 and dimension > train.n
    if singular or failed or pivots.min() <= rounding * pivots.max():
        raise ValueError("damping: expected more; the projected gradients do not span")
    return -(missing[:, None] * a) @ torch.cholesky_solve(b.T, factor) * missing_there
