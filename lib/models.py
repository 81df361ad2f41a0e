"""Small models: each function returns an `Objective` on the data it is given."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from lib._validate import count, shaped, sized
from lib.objective import Objective


def squared_error(f: Tensor, y: Tensor) -> Tensor:
    """½‖y − f‖², a scalar."""
    if y.numel() != f.numel():
        raise ValueError(f"y: expected as many numbers as outputs, {f.numel()}; got {y.numel()}")
    return 0.5 * ((y - f) ** 2).sum()


def cross_entropy(f: Tensor, y: Tensor) -> Tensor:
    """−log softmax(f)_y for logits f of shape (c,) and an integer label y."""
    return torch.logsumexp(f, -1) - f.gather(-1, y.long().reshape(1)).squeeze(-1)


def logistic_loss(f: Tensor, y: Tensor) -> Tensor:
    """log(1 + e^(−y f)) for one logit f of shape (1,) and a label y of −1 or 1."""
    return torch.nn.functional.softplus(-y * f).squeeze(-1)


def poisson_loss(f: Tensor, y: Tensor) -> Tensor:
    """e^f − y f for one log-rate f of shape (1,) and a count y."""
    return (torch.exp(f) - y * f).squeeze(-1)


def with_intercept(x: Tensor) -> Tensor:
    """x with a leading column of ones, shape (n, 1 + p)."""
    shaped("x", x, "n", "p")
    return torch.cat([x.new_ones(len(x), 1), x], dim=1)


def linear(x: Tensor, y: Tensor, l2: float = 0.0) -> Objective:
    """f_w(x) = wᵀx with squared error; x: (n, p), y: (n,). Equation eq-least-squares."""
    shaped("x", x, "n", "p")
    shaped("y", y, len(x))
    return Objective(dot, squared_error, x, y, l2)


def logistic(x: Tensor, y: Tensor, l2: float = 0.0) -> Objective:
    """Binary logistic regression on labels −1 and 1; x: (n, p), y: (n,), w: (p,)."""
    shaped("x", x, "n", "p")
    shaped("y", y, len(x))
    _signs(y)
    return Objective(dot, logistic_loss, x, y, l2)


def poisson(x: Tensor, y: Tensor, l2: float = 0.0) -> Objective:
    """Poisson regression: L_i = e^(wᵀx_i) − y_i wᵀx_i on counts y ≥ 0; x: (n, p), y: (n,)."""
    shaped("x", x, "n", "p")
    if shaped("y", y, len(x)).min() < 0:
        raise ValueError("y: expected counts, none of them negative")
    return Objective(dot, poisson_loss, x, y, l2)


def dot(w: Tensor, x_i: Tensor) -> Tensor:
    """f_w(x) = wᵀx for one input, shape (1,)."""
    return (x_i @ sized("w", w, len(x_i))).reshape(1)


def _signs(y: Tensor) -> None:
    if not ((y == 1) | (y == -1)).all():
        raise ValueError("y: expected labels -1 and 1")


def location(z: Tensor) -> Objective:
    """f_w = w with squared error, so that training returns the mean of z; z: (n, d)."""
    d = shaped("z", z, "n", "d").shape[1]
    return Objective(lambda w, x_i: sized("w", w, d), squared_error, z, z)


def ab_model(z: Tensor) -> Objective:
    """w = (a, b) enters through the product only: L_i = ½(z_i − ab)²; z: (n,). Equation eq-ab."""
    shaped("z", z, "n")

    def product(w, x_i):
        a, b = sized("w", w, 2)
        return (a * b).reshape(1)

    return Objective(product, squared_error, z, z)


def valley(s: Tensor) -> Objective:
    """w = (x, y) with L_i = ½x² + s_i y: flat along y in sum when Σ s_i = 0. Equation eq-valley."""
    shaped("s", s, "n")

    def loss(f, s_i):
        return 0.5 * f[0] ** 2 + s_i * f[1]

    return Objective(lambda w, x_i: sized("w", w, 2), loss, s, s)


def double_well(s: Tensor, depth: float = 0.6) -> Objective:
    """One parameter with L_i = depth (w² − 1)² − s_i w: two wells, and every example leans towards
    one of them; s: (n,). Equation eq-wells."""
    shaped("s", s, "n")

    def loss(f, s_i):
        return (depth * (f**2 - 1) ** 2 - s_i * f).squeeze(-1)

    return Objective(lambda w, x_i: sized("w", w, 1), loss, s, s)


@dataclass(frozen=True)
class MLP:
    """A network of linear layers with tanh between them, on one flat vector w.

    sizes: (inputs, hidden…, outputs). Layer l holds an augmented weight matrix of shape
    (out, in + 1) whose last column is the bias; w is these matrices row by row, in order.
    """

    sizes: tuple[int, ...]

    def __post_init__(self):
        if len(self.sizes) < 2:
            raise ValueError(f"sizes: expected at least inputs and outputs, got {self.sizes}")
        for size in self.sizes:
            count("sizes", size)

    @property
    def shapes(self) -> list[tuple[int, int]]:
        """The shape (out, in + 1) of each layer."""
        return [(b, a + 1) for a, b in zip(self.sizes[:-1], self.sizes[1:], strict=True)]

    @property
    def p(self) -> int:
        """The number of parameters."""
        return sum(rows * columns for rows, columns in self.shapes)

    def layers(self, w: Tensor) -> list[Tensor]:
        """The augmented weight matrices of w, shape (out, in + 1) each."""
        parts = sized("w", w, self.p).split([rows * columns for rows, columns in self.shapes])
        return [part.view(shape) for part, shape in zip(parts, self.shapes, strict=True)]

    def forward(
        self, w: Tensor, x: Tensor, shifts: Sequence[Tensor] | None = None
    ) -> tuple[Tensor, list[Tensor]]:
        """Outputs f of shape (c,) for one input, and each layer's input ā with its trailing 1.

        shifts: one vector a layer, added before the nonlinearity; differentiating in them gives
        the pre-activation gradients that K-FAC is made of.
        """
        inputs, a = [], sized("x", x, self.sizes[0])
        for depth, weight in enumerate(self.layers(w)):
            a = torch.cat([a, a.new_ones(1)])
            inputs.append(a)
            a = weight @ a
            if shifts is not None:
                a = a + shifts[depth]
            if depth < len(self.shapes) - 1:
                a = torch.tanh(a)
        return a, inputs

    def predict(self, w: Tensor, x: Tensor) -> Tensor:
        """f_w(x) for one input, shape (c,)."""
        return self.forward(w, x)[0]

    def initial(self, generator: torch.Generator, dtype: torch.dtype = torch.float64) -> Tensor:
        """A random start, shape (p,): weights of variance 1/in, biases zero."""
        parts = []
        for rows, columns in self.shapes:
            weight = torch.randn(rows, columns, generator=generator, dtype=dtype)
            weight[:, :-1] /= (columns - 1) ** 0.5
            weight[:, -1] = 0
            parts.append(weight.reshape(-1))
        return torch.cat(parts)

    def objective(self, x: Tensor, y: Tensor, l2: float = 0.0, *, loss=cross_entropy) -> Objective:
        """The objective of this network on x of shape (n, inputs) and labels y."""
        shaped("x", x, "n", self.sizes[0])
        classes = self.sizes[-1]
        if loss is cross_entropy and not ((y == y.long()) & (y >= 0) & (y < classes)).all():
            raise ValueError(f"y: expected integer labels from 0 to {classes - 1}")
        if loss is logistic_loss:
            _signs(y)
        return Objective(self.predict, loss, x, y, l2)
