"""Chapter 1: what would have happened without this example?

First the two ways this book retrains, both for many weight vectors β at once; then leave-one-out,
the Shapley value, and a small structural causal model.
"""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from itertools import combinations

import numpy as np
import torch
from torch import Tensor
from torch.func import grad, vmap
from torch.func import hessian as second_derivative

from lib._validate import count, finite, positive, scalar, shaped
from lib._validate import indices as valid_indices
from lib.objective import Objective, Observable, weighted_loss

# --- training as a map from data weights β to parameters w ---------------------------------------


def fit(
    objective: Objective,
    beta: Tensor,
    w0: Tensor,
    *,
    tolerance: float = 1e-10,
    max_steps: int = 100,
    chunk: int = 64,
) -> Tensor:
    """argmin_w L(w; β) of a convex objective by Newton's method, for every row of beta.

    beta: (m, n) or (n,); w0: (p,), the start of all (from w* it is a warm start, from zero a cold
    one). Returns (m, p) or (p,). `tolerance` bounds the gradient's largest entry relative to that
    of the curvature, before a last Newton step. Raises ValueError if a Hessian is not positive
    definite on the way, or if `max_steps` do not reach the tolerance. Equation eq-argmin.
    """
    shaped("w0", w0, "p")
    finite("beta", beta)
    positive("tolerance", tolerance)
    count("max_steps", max_steps)
    count("chunk", chunk)
    if beta.ndim == 1:
        return fit(objective, beta[None], w0, tolerance=tolerance, max_steps=max_steps)[0]
    shaped("beta", beta, "m", objective.n)

    def value(w, b):
        return weighted_loss(objective, w, b)

    values, slopes = vmap(value), vmap(grad(value))
    curvatures = vmap(second_derivative(value))
    done = []
    for b in beta.split(chunk):
        w = w0.expand(len(b), -1).clone()
        for _ in range(max_steps):
            slope, curvature = slopes(w, b), curvatures(w, b)
            factor, failed = torch.linalg.cholesky_ex(curvature)
            pivots = factor.diagonal(dim1=1, dim2=2)
            # A singular matrix may pass with a pivot of rounding errors.
            if failed.any() or (pivots.amin(dim=1) <= 1e-7 * pivots.amax(dim=1)).any():
                raise ValueError(
                    "objective: expected a positive definite Hessian; it is singular or indefinite "
                    "(add an l2 penalty, or use `train` for a network)"
                )
            step = torch.cholesky_solve(slope[:, :, None], factor)[:, :, 0]
            w = w - _backtrack(lambda u, b=b: values(u, b), w, step, slope)[:, None] * step
            scale = curvature.diagonal(dim1=1, dim2=2).amax(dim=1)
            if (slope.abs().amax(dim=1) <= tolerance * scale).all():
                break
        else:
            raise ValueError(f"max_steps: {max_steps} Newton steps did not reach {tolerance:g}")
        done.append(w)
    return torch.cat(done)


def _backtrack(value, w: Tensor, step: Tensor, slope: Tensor) -> Tensor:
    """Step lengths, shape (m,), halved until each step decreases its own value enough."""
    start, decrease = value(w), (step * slope).sum(dim=1)
    length = torch.ones_like(start)
    for _ in range(40):
        # Near the minimum the true decrease drowns in rounding: allow that much.
        slack = 1e-14 * (1 + start.abs())
        short = ~(value(w - length[:, None] * step) <= start - 0.25 * length * decrease + slack)
        if not short.any():
            break
        length = torch.where(short, length / 2, length)
    return length


def train(
    objective: Objective, beta: Tensor, w0: Tensor, *, steps: int, rate: float, chunk: int = 64
) -> Tensor:
    """w after `steps` steps of full-batch gradient descent on L(w; β)/n, for every row of beta.

    beta: (m, n) or (n,); w0: (p,). Returns (m, p) or (p,). All rows share the start and the number
    of steps, so differences between them are due to β alone. Raises ValueError on divergence: if
    numbers overflow, or the loss ends above where it started.
    """
    shaped("w0", w0, "p")
    finite("beta", beta)
    count("steps", steps)
    positive("rate", rate)
    count("chunk", chunk)
    if beta.ndim == 1:
        return train(objective, beta[None], w0, steps=steps, rate=rate)[0]
    shaped("beta", beta, "m", objective.n)

    def value(w, b):
        return weighted_loss(objective, w, b)

    values, slopes = vmap(value), vmap(grad(value))
    done = []
    for b in beta.split(chunk):
        w = start = w0.expand(len(b), -1)
        for _ in range(steps):
            w = w - (rate / objective.n) * slopes(w, b)
        before, after = values(start, b), values(w, b)
        if not (torch.isfinite(w).all() and (after <= before + 1e-9 * (1 + before.abs())).all()):
            raise ValueError(f"rate: gradient descent diverged at rate {rate:g}; try a smaller one")
        done.append(w)
    return torch.cat(done)


# --- leave-one-out -------------------------------------------------------------------------------


def without_one(n: int, indices: Tensor | None = None, dtype=torch.float64) -> Tensor:
    """Data weights with one example at zero: rows 1 − e_i, shape (m, n), for the given i or all."""
    count("n", n)
    indices = torch.arange(n) if indices is None else valid_indices("indices", indices, n)
    beta = torch.ones(len(indices), n, dtype=dtype)
    beta[torch.arange(len(indices)), indices] = 0
    return beta


def leave_one_out(
    training: Callable[[Tensor], Tensor], phi: Observable, n: int, indices: Tensor | None = None
) -> Tensor:
    """φ(π(1 − e_i)) − φ(π(1)) by true retraining, for the given examples or all, shape (m,).

    training: π, from beta (m, n) to parameters (m, p), such as `fit` or `train` with its other
    arguments filled in. Positive: φ rises when z_i is taken away. To first order this is minus
    the influence. Equation eq-loo; Lewis (1973).
    """
    count("n", n)
    whole = scalar("phi", phi(training(torch.ones(1, n, dtype=torch.float64))[0]))
    return vmap(phi)(training(without_one(n, indices))) - whole


# --- Shapley -------------------------------------------------------------------------------------

SetFunction = Callable[[frozenset[int]], float]
"""v: from a set of players, numbered 0 … n − 1, to a number."""

MAX_PLAYERS = 16


def subsets(n: int) -> list[frozenset[int]]:
    """All 2^n subsets of {0, …, n − 1}, smallest first."""
    count("n", n, least=0, most=MAX_PLAYERS)
    return [frozenset(s) for size in range(n + 1) for s in combinations(range(n), size)]


def shapley(value: SetFunction, n: int) -> Tensor:
    """The Shapley value ψ_i of every player, exactly, from 2^n coalitions; shape (n,).

    Raises ValueError if n exceeds MAX_PLAYERS or a value is not a finite number.
    Equation eq-shapley; Shapley (1953).
    """
    count("n", n, most=MAX_PLAYERS)
    v = {s: _number(value(s), s) for s in subsets(n)}
    psi = torch.zeros(n, dtype=torch.float64)
    for s in v:
        for i in set(range(n)) - s:
            psi[i] += (v[s | {i}] - v[s]) / (n * math.comb(n - 1, len(s)))
    return psi


def shapley_sampled(
    value: SetFunction, n: int, permutations: int, rng: np.random.Generator
) -> tuple[Tensor, Tensor]:
    """The Shapley value estimated from random orders of arrival, and its standard error; (n,) each.

    An unbiased mean of `permutations` ≥ 2 independent draws; each costs n + 1 evaluations of value
    at most (repeated coalitions are looked up). Equation eq-shapley-sampled; Castro et al. (2009).
    """
    count("n", n)
    count("permutations", permutations, least=2)
    if not isinstance(rng, np.random.Generator):
        raise ValueError(f"rng: expected a numpy Generator, got {type(rng).__name__}")
    known: dict[frozenset[int], float] = {}

    def v(s: frozenset[int]) -> float:
        if s not in known:
            known[s] = _number(value(s), s)
        return known[s]

    marginals = np.empty((permutations, n))
    for draw in marginals:
        before: frozenset[int] = frozenset()
        for i in rng.permutation(n).tolist():
            draw[i] = v(before | {i}) - v(before)
            before = before | {i}
    error = marginals.std(axis=0, ddof=1) / math.sqrt(permutations)
    return torch.from_numpy(marginals.mean(axis=0)), torch.from_numpy(error)


def _number(value, s: frozenset[int]) -> float:
    try:
        number = float(value)
    except (TypeError, ValueError, RuntimeError):
        raise ValueError(f"value: expected a number, got {value!r} for {set(s) or '{}'}") from None
    if not math.isfinite(number):
        raise ValueError(f"value: expected a finite number, got {number} for {set(s) or '{}'}")
    return number


# --- a structural causal model -------------------------------------------------------------------


@dataclass(frozen=True)
class CausalModel:
    """Variables computed one after the other, each from those before it.

    equations: name → function of a dict of the earlier values, in causal order.
    """

    equations: Mapping[str, Callable[[dict], object]]

    def world(self, **do) -> dict:
        """The value of every variable when those in `do` are set by hand (Pearl's do-operator).

        Raises ValueError if `do` names a variable that does not exist.
        """
        if unknown := set(do) - set(self.equations):
            raise ValueError(f"do: expected names among {list(self.equations)}, got {unknown}")
        values: dict = {}
        for name, equation in self.equations.items():
            values[name] = do[name] if name in do else equation(values)
        return values

    def but_for(self, cause: str, effect: str, **given) -> bool:
        """Would `effect` have been otherwise, had the truth value of `cause` been flipped?

        Lewis's counterfactual test, in the world where `given` is set. Definition 1.1.
        """
        for name, variable in (("cause", cause), ("effect", effect)):
            if variable not in self.equations:
                raise ValueError(
                    f"{name}: expected a name among {list(self.equations)}, got {variable!r}"
                )
        actual = self.world(**given)
        flipped = self.world(**{**given, cause: not actual[cause]})
        return flipped[effect] != actual[effect]


HIKER = CausalModel(
    {
        "boulder": lambda v: True,
        "dodge": lambda v: v["boulder"],
        "unharmed": lambda v: v["dodge"] or not v["boulder"],
    }
)
"""The hiker who dodges a boulder, after Hitchcock (2001). Equation eq-hiker."""
