"""Section 1.4: what is trained and what is watched.

An objective is a model, a loss and data; everything else in the library is a function of it.
Parameters are one flat vector w of shape (p,), data weights β one vector of shape (n,).
Sums are sums: no quantity here is divided by n (see the book's page on notation).
"""

from collections.abc import Callable
from dataclasses import dataclass, replace

import torch
from torch import Tensor
from torch.func import functional_call, grad, jacrev, jvp, vjp, vmap
from torch.func import hessian as second_derivative

from lib._validate import finite, indices, positive, scalar, shaped, sized

Observable = Callable[[Tensor], Tensor]
"""φ: a differentiable function from w, shape (p,), to a scalar, or (k,) for k observables."""


@dataclass(frozen=True)
class Objective:
    """The per-example losses L_i(w) = ℓ(f_w(x_i), y_i), and ½ ρ‖w‖² if `l2` is ρ > 0.

    predict: (w, x_i) → outputs f of shape (c,).  loss: (f, y_i) → scalar.
    x: (n, …), y: (n, …), one row an example.  The penalty carries no data weight.
    Raises ValueError if x and y differ in length, are empty or are not finite.
    Equation eq-weighted-loss.
    """

    predict: Callable[[Tensor, Tensor], Tensor]
    loss: Callable[[Tensor, Tensor], Tensor]
    x: Tensor
    y: Tensor
    l2: float = 0.0

    def __post_init__(self):
        positive("l2", self.l2, or_zero=True)
        for name, data in (("x", self.x), ("y", self.y)):
            if not isinstance(data, Tensor) or data.ndim == 0 or len(data) == 0:
                raise ValueError(f"{name}: expected a tensor with one row an example")
            if data.is_floating_point():
                finite(name, data)
        if len(self.x) != len(self.y):
            raise ValueError(
                f"y: expected {len(self.x)} rows, one for each row of x; got {len(self.y)}"
            )

    @property
    def n(self) -> int:
        """The number of training examples."""
        return len(self.x)

    def loss_at(self, w: Tensor, x: Tensor, y: Tensor) -> Tensor:
        """ℓ(f_w(x), y) of one example, in the training set or not: a scalar."""
        sized("w", w, "p")
        if self.x.is_floating_point() and w.dtype != self.x.dtype:
            raise ValueError(f"w: expected {self.x.dtype} like x, got {w.dtype}")
        return scalar("loss", self.loss(self.predict(w, x), y))

    def take(self, index: Tensor) -> "Objective":
        """The same model and loss on the chosen examples (a boolean mask or indices)."""
        if index.dtype == torch.bool:
            sized("index", index, self.n)
            index = index.nonzero()[:, 0]
        index = indices("index", index, self.n)
        return replace(self, x=self.x[index], y=self.y[index])


def losses(objective: Objective, w: Tensor) -> Tensor:
    """The per-example losses L_i(w), shape (n,)."""
    finite("w", w)
    return vmap(objective.loss_at, (None, 0, 0))(w, objective.x, objective.y)


def weighted_loss(objective: Objective, w: Tensor, beta: Tensor | None = None) -> Tensor:
    """L(w; β) = Σ_i β_i L_i(w) + ½ ρ‖w‖², a scalar; β = 1 if not given.

    Raises ValueError unless beta has shape (n,). Equation eq-weighted-loss.
    """
    each = vmap(objective.loss_at, (None, 0, 0))(w, objective.x, objective.y)
    if beta is not None:
        each = sized("beta", beta, objective.n) * each
    return each.sum() + 0.5 * objective.l2 * (w @ w)


def gradients(objective: Objective, w: Tensor) -> Tensor:
    """g_i = ∇L_i(w), one row an example, shape (n, p). The penalty has no share in them."""
    finite("w", w)
    return vmap(grad(objective.loss_at), (None, 0, 0))(w, objective.x, objective.y)


def hessian(objective: Objective, w: Tensor, beta: Tensor | None = None) -> Tensor:
    """H = ∇²L(w; β), the Hessian of the summed loss and its penalty, shape (p, p)."""
    product = hessian_product(objective, w, beta)
    return vmap(product, chunk_size=64)(torch.eye(len(w)).to(w))  # 64 rows: bounds the memory


def hessian_product(
    objective: Objective, w: Tensor, beta: Tensor | None = None
) -> Callable[[Tensor], Tensor]:
    """v ↦ H v, (p,) → (p,), for many products at one w: the gradient is traced once.

    `hessian_vector_product` is the definition; here a product goes back through ∇L, as H is
    symmetric.
    """
    finite("w", w)
    if beta is not None:
        finite("beta", beta)
    back = vjp(grad(lambda u: weighted_loss(objective, u, beta)), w)[1]
    return lambda v: back(shaped("v", v, len(w)))[0]


def hessian_vector_product(
    objective: Objective, w: Tensor, v: Tensor, beta: Tensor | None = None
) -> Tensor:
    """H v without forming H, shape (p,): the directional derivative of the gradient."""
    shaped("v", v, *finite("w", w).shape)
    if beta is not None:
        finite("beta", beta)
    return jvp(grad(lambda u: weighted_loss(objective, u, beta)), (w,), (v,))[1]


def outputs(objective: Objective, w: Tensor) -> Tensor:
    """The model's outputs f_w(x_i) on the training inputs, shape (n, c)."""
    finite("w", w)
    return vmap(objective.predict, (None, 0))(w, objective.x)


def output_jacobians(objective: Objective, w: Tensor) -> Tensor:
    """J_i = ∂f_w(x_i)/∂w, shape (n, c, p)."""
    finite("w", w)
    return vmap(jacrev(objective.predict), (None, 0))(w, objective.x)


def output_hessians(objective: Objective, w: Tensor) -> Tensor:
    """The second derivative of ℓ in the outputs, at f_w(x_i), shape (n, c, c)."""
    return vmap(second_derivative(objective.loss))(outputs(objective, w), objective.y)


def loss_on(objective: Objective, x: Tensor, y: Tensor) -> Observable:
    """The observable φ(w) = the mean loss on the rows of x and y, which need not be trained on."""
    watched = replace(objective, x=x, y=y, l2=0.0)
    return lambda w: weighted_loss(watched, w) / watched.n


@dataclass(frozen=True)
class LossesOn:
    """The observable φ(w) = the losses on the rows of x and y, one a row, shape (k,)."""

    watched: Objective

    def __call__(self, w: Tensor) -> Tensor:
        """φ(w), shape (k,)."""
        watched = self.watched
        return vmap(watched.loss_at, (None, 0, 0))(w, watched.x, watched.y)

    def gradient(self, w: Tensor) -> Tensor:
        """∇φ(w), shape (k, p): each loss differentiated by itself, not all of them k times."""
        return gradients(self.watched, w)


def losses_on(objective: Objective, x: Tensor, y: Tensor) -> LossesOn:
    """One observable for each row of x and y: its loss. Returns φ: (p,) → (k,)."""
    return LossesOn(replace(objective, x=x, y=y, l2=0.0))


def observable_gradient(phi: Observable, w: Tensor) -> Tensor:
    """∇φ(w), shape (p,), or (k, p) if φ is k observables.

    Raises ValueError if φ(w) is neither a scalar nor of shape (k,), or is not finite.
    """
    value = phi(finite("w", w))
    if not isinstance(value, Tensor) or value.ndim > 1:
        shape = f"shape {tuple(value.shape)}" if isinstance(value, Tensor) else repr(value)
        raise ValueError(f"phi: expected a scalar or shape (k,), got {shape}")
    finite("phi", value)
    return phi.gradient(w) if isinstance(phi, LossesOn) else jacrev(phi)(w)


def from_module(
    module: torch.nn.Module, loss: Callable[[Tensor, Tensor], Tensor], x: Tensor, y: Tensor
) -> tuple[Objective, Tensor]:
    """An objective on the flattened parameters of any module, and those parameters, shape (p,).

    loss: (f of shape (c,), y_i) → scalar. Buffers stay as they are; the module must treat examples
    independently (put batch normalisation in evaluation mode).
    """
    named = {name: value.detach() for name, value in module.named_parameters()}
    if not named:
        raise ValueError("module: expected a module with parameters")
    names, shapes = list(named), [value.shape for value in named.values()]
    sizes = [value.numel() for value in named.values()]

    def predict(w: Tensor, x_i: Tensor) -> Tensor:
        parts = [part.view(shape) for part, shape in zip(w.split(sizes), shapes, strict=True)]
        out = functional_call(module, dict(zip(names, parts, strict=True)), (x_i.unsqueeze(0),))
        return out.squeeze(0)

    return Objective(predict, loss, x, y), torch.cat([v.reshape(-1) for v in named.values()])
