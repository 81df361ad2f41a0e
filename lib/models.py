"""Small models: each function returns an `Objective` on the data it is given."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.func import vmap

from lib._validate import count, indices, shaped, sized
from lib.objective import Objective


def squared_error(f: Tensor, y: Tensor) -> Tensor:
    """½‖y − f‖², a scalar."""
    if y.numel() != f.numel():
        raise ValueError(f"y: expected as many numbers as outputs, {f.numel()}; got {y.numel()}")
    return 0.5 * ((y - f) ** 2).sum()


def cross_entropy(f: Tensor, y: Tensor) -> Tensor:
    """−log softmax(f)_y for logits f of shape (c,) and an integer label y."""
    return torch.logsumexp(f, -1) - f.gather(-1, y.long().reshape(1)).squeeze(-1)


def log_odds(f: Tensor, y: Tensor) -> Tensor:
    """log p_y/(1 − p_y), for logits f of shape (c,) and an integer label y; linear in f_y."""
    others = torch.arange(len(f), device=f.device) != y
    rest = torch.logsumexp(f.masked_fill(~others, float("-inf")), -1)
    return f.gather(-1, y.long().reshape(1)).squeeze(-1) - rest


def log_odds_on(
    predict: Callable[[Tensor, Tensor], Tensor], x: Tensor, y: Tensor
) -> Callable[[Tensor], Tensor]:
    """The observable φ(w) = the mean log-odds of the answers y (n,) on the inputs x (n, …).

    predict: (w, x_i) → logits (c,), such as `MLP.predict`. Unlike a loss it does not level off
    where the model is sure of y.
    """
    if len(x) != len(y) or len(x) == 0:
        raise ValueError(f"y: expected one answer a row of x, got {len(y)} for {len(x)}")
    return lambda w: vmap(lambda x_i, y_i: log_odds(predict(w, x_i), y_i))(x, y).mean()


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


def deep_linear(x: Tensor, y: Tensor) -> Objective:
    """f_w(x) = W₂W₁x with squared error; w holds W₁, then W₂, row by row; x, y: (n, d).

    Equation eq-dln-flow is its gradient flow.
    """
    d = shaped("x", x, "n", "d").shape[1]
    shaped("y", y, len(x), d)

    def predict(w, x_i):
        w1, w2 = sized("w", w, 2 * d * d).view(2, d, d)
        return w2 @ (w1 @ x_i)

    return Objective(predict, squared_error, x, y)


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


@dataclass(frozen=True)
class Transformer:
    """A decoder-only transformer on one flat vector w: predicts each next token from those before.

    Learned positions; `layers` blocks, each causal attention with `heads` heads, then a two-layer
    network of four times the width; inputs of both normalised (without learned scales), outputs
    added to the stream. No biases. w holds the matrices of `shapes` row by row, in order.
    """

    vocabulary: int
    length: int
    width: int = 16
    heads: int = 2
    layers: int = 2

    def __post_init__(self):
        for name in ("vocabulary", "length", "width", "heads", "layers"):
            count(name, getattr(self, name))
        if self.width % self.heads:
            raise ValueError(f"heads: expected a divisor of width = {self.width}, got {self.heads}")

    @property
    def shapes(self) -> list[tuple[int, int]]:
        """(out, in) of token and position embeddings, of each layer's four matrices, and at last of
        the map to logits."""
        d = self.width
        layer = [(3 * d, d), (d, d), (4 * d, d), (d, 4 * d)]
        return [(self.vocabulary, d), (self.length, d), *layer * self.layers, (self.vocabulary, d)]

    @property
    def p(self) -> int:
        """The number of parameters."""
        return sum(rows * columns for rows, columns in self.shapes)

    def initial(self, generator: torch.Generator, dtype: torch.dtype = torch.float64) -> Tensor:
        """A random start, shape (p,): entries of variance 1/width, or 1/in within the layers."""
        matrices = [
            torch.randn(shape, generator=generator, dtype=dtype) / shape[1] ** 0.5
            for shape in self.shapes
        ]
        return torch.cat([matrix.reshape(-1) for matrix in matrices])

    def predict(self, w: Tensor, tokens: Tensor) -> Tensor:
        """Logits (length, vocabulary) of what follows each of the tokens, integers (length,)."""
        sized("tokens", tokens, self.length)
        parts = sized("w", w, self.p).split([a * b for a, b in self.shapes])
        matrices = [part.view(shape) for part, shape in zip(parts, self.shapes, strict=True)]
        embed, position, *layers, unembed = matrices
        stream = embed[tokens] + position
        for at in range(0, len(layers), 4):
            attend, project, widen, narrow = layers[at : at + 4]
            stream = stream + self._attention(_normalised(stream), attend) @ project.T
            hidden = torch.nn.functional.gelu(_normalised(stream) @ widen.T, approximate="tanh")
            stream = stream + hidden @ narrow.T
        return _normalised(stream) @ unembed.T

    def _attention(self, stream: Tensor, attend: Tensor) -> Tensor:
        """Each position's mean of the values before it and at it, weighted by softmax(q·k/√d)."""
        split = (stream @ attend.T).view(self.length, 3, self.heads, -1)
        query, key, value = split.permute(1, 2, 0, 3)  # (heads, length, width/heads) each
        scores = query @ key.transpose(1, 2) / query.shape[2] ** 0.5
        future = torch.ones_like(scores[0], dtype=torch.bool).triu(1)
        weights = scores.masked_fill(future, float("-inf")).softmax(dim=2)
        return (weights @ value).transpose(0, 1).reshape(self.length, self.width)

    def objective(self, tokens: Tensor) -> Objective:
        """Next-token prediction on sequences (n, length + 1): the loss adds over positions."""
        sized("tokens", tokens, "n", self.length + 1)
        indices("tokens", tokens.reshape(-1), self.vocabulary)
        return Objective(self.predict, next_token_loss, tokens[:, :-1], tokens[:, 1:])


def _normalised(stream: Tensor) -> Tensor:
    return torch.nn.functional.layer_norm(stream, stream.shape[-1:])


def token_losses(f: Tensor, y: Tensor) -> Tensor:
    """−log softmax(f_t)_{y_t} at every position, shape (length,); f: (length, vocabulary)."""
    return torch.logsumexp(f, -1) - f.gather(-1, y[:, None]).squeeze(-1)


def next_token_loss(f: Tensor, y: Tensor) -> Tensor:
    """The sum of `token_losses`, a scalar."""
    return token_losses(f, y).sum()
