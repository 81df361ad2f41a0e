"""Ties an equation of the book to a check that runs.

    holds("eq-deletion", numeric(regressions, lambda c: retrain(c), lambda c: formula(c)))

The first argument is the equation's label in the text. The left side should know nothing of the
right: two routes to one number. A check that fails raises AssertionError naming the equation.
`tools/ledger.py` collects these calls into the book's ledger.
"""

from collections.abc import Callable
from dataclasses import dataclass
from html import escape

import numpy as np
import sympy as sp
import torch

from lib._validate import count
from lib.symbolic import Domain, points, same_at


@dataclass(frozen=True)
class Evidence:
    """What one check found: whether it came out, and a sentence that says what was compared."""

    true: bool
    says: str


@dataclass(frozen=True)
class Held:
    """An equation whose check came out; shown under the cell that ran it."""

    label: str
    says: str

    def __repr__(self) -> str:
        return f"{self.label} holds: {self.says}"

    def _repr_html_(self) -> str:
        page = "errata.html" if self.label.startswith("erratum-") else ""
        anchor = self.label if page else f"equation-{self.label}"
        link = f'<a href="{page}#{anchor}">{escape(self.label)}</a>'
        return f'<div class="holds">✓ {link} holds: {escape(self.says)}</div>'


def holds(label: str, evidence: Evidence, *, draft: str = "") -> Held:
    """Record that the check of one labelled equation came out; raise AssertionError if not.

    draft: where the equation stands in the draft notes, for the ledger's second column.
    """
    if not evidence.true:
        raise AssertionError(f"{label} does not hold: {evidence.says}")
    return Held(label, evidence.says)


def _array(value) -> np.ndarray:
    if isinstance(value, torch.Tensor):
        value = value.detach().numpy()
    return np.asarray(value, dtype=float)


def relative_error(left, right) -> float:
    """max |left − right| / max |right|.

    Infinite if the shapes differ, there is nothing to compare, or a number is not finite.
    """
    a, b = _array(left), _array(right)
    if a.shape != b.shape or a.size == 0 or not (np.isfinite(a).all() and np.isfinite(b).all()):
        return float("inf")
    gap, size = np.abs(a - b).max(), np.abs(b).max()
    return float(gap / size) if size > 0 else float(gap)


def differences(function: Callable, at: torch.Tensor, step: float = 1e-3) -> torch.Tensor:
    """∂function/∂at by central differences of fourth order; one more axis, last, of length len(at).

    Four evaluations a coordinate, and no calculus: the route that a derivative is held against.
    """
    columns = []
    for bump in step * torch.eye(len(at), dtype=at.dtype):
        near = function(at + bump) - function(at - bump)
        far = function(at + 2 * bump) - function(at - 2 * bump)
        columns.append((8 * near - far) / (12 * step))
    return torch.stack(columns, dim=-1)


def numeric(
    cases: Callable, left: Callable, right: Callable, *, draws: int = 200, rtol: float = 1e-9
) -> Evidence:
    """Compare two functions of a random case, drawn from a numpy Generator by `cases`."""
    count("draws", draws)
    rng = np.random.default_rng(0)
    worst = 0.0
    for _ in range(draws):
        case = cases(rng)
        worst = max(worst, relative_error(left(case), right(case)))
    if worst > rtol:
        return Evidence(False, f"relative error {worst:.1e} on {draws} random problems")
    return Evidence(True, f"{draws} random problems, relative error below {rtol:.0e}")


def definition(
    function: Callable, cases: Callable, by_hand: Callable, *, draws: int = 100, rtol: float = 1e-9
) -> Evidence:
    """Compare the function that implements a definition with the definition written out.

    cases: Generator → tuple of arguments for both.
    """
    found = numeric(cases, lambda c: function(*c), lambda c: by_hand(*c), draws=draws, rtol=rtol)
    return Evidence(found.true, f"{function.__name__} against the definition, {found.says}")


def symbolic(left, right, domain: Domain, *, draws: int = 12) -> Evidence:
    """Compare two sympy expressions or matrices at random exact points, to twenty digits."""
    left, right = sp.Matrix([left]), sp.Matrix([right])
    if left.shape != right.shape:
        return Evidence(False, f"shape {left.shape} differs from {right.shape}")
    pairs = list(zip(left, right, strict=True))
    for point in points(domain, draws, seed=0):
        for a, b in pairs:
            if not same_at(a, b, point):
                return Evidence(False, f"{a} differs from {b} at {point}")
    return Evidence(True, f"as symbols, at {draws} random points to twenty digits")


def experiment(claim: str, came_out: bool) -> Evidence:
    """What a run showed; `claim` is the sentence with its numbers, `came_out` the test of it."""
    if np.asarray(came_out).dtype != bool or np.asarray(came_out).ndim != 0:
        raise ValueError(f"came_out: expected true or false, got {came_out!r}")
    return Evidence(bool(came_out), claim)
