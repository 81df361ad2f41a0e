"""Are two formulas the same function? Decided by high-precision numbers, not by simplification."""

import math
import random
from collections.abc import Mapping

import sympy as sp

from lib._validate import count

DIGITS = 40

Domain = Mapping[str, tuple[float, float]]
"""The interval from which each symbol is drawn, by the symbol's name."""


def points(domain: Domain, draws: int, seed: int) -> list[dict[str, sp.Rational]]:
    """Random exact points of the domain, with distinct coordinates, none of them zero.

    Raises ValueError if an interval is empty, or too narrow for that.
    """
    count("draws", draws)
    ends = {name: (math.ceil(a * 997), math.floor(b * 997)) for name, (a, b) in domain.items()}
    for name, (low, high) in ends.items():
        if low > high:
            raise ValueError(f"domain: expected a wider interval for {name}, got {domain[name]}")
    rng = random.Random(seed)
    drawn = []
    for _ in range(1000 * draws):
        point = {
            name: sp.Rational(rng.randint(low, high), 997) for name, (low, high) in ends.items()
        }
        if len(set(point.values())) == len(point) and 0 not in point.values():
            drawn.append(point)
        if len(drawn) == draws:
            return drawn
    raise ValueError(f"domain: no distinct, nonzero values found in {dict(domain)}")


def value_at(expression: sp.Expr, point: Mapping[str, sp.Rational]) -> sp.Expr:
    """The expression's value to forty digits, its symbols matched to the point by name."""
    expression = sp.sympify(expression)
    known = {s: point[s.name] for s in expression.free_symbols if s.name in point}
    return expression.evalf(DIGITS, subs=known)


def same_at(left: sp.Expr, right: sp.Expr, point: Mapping[str, sp.Rational]) -> bool:
    """Whether both have the same finite value at one point, to half the digits carried."""
    a, b = value_at(left, point), value_at(right, point)
    if not (a.is_number and b.is_number and a.is_finite and b.is_finite):
        return False
    return bool(abs(a - b) <= sp.Float(10) ** (-DIGITS // 2) * (1 + abs(b)))


def same(left: sp.Expr, right: sp.Expr, domain: Domain, *, draws: int = 12, seed: int = 0) -> bool:
    """Whether two expressions agree at random points of the domain."""
    return all(same_at(left, right, point) for point in points(domain, draws, seed))
