"""What the tests of the exercises share."""

import pytest
import sympy as sp


def agrees(part, point, number, rel=1e-6):
    """The part's formula at a point is a number that was found without it."""
    by_name = {s: sp.Rational(str(point[s.name])) for s in part.truth.free_symbols}
    assert float(part.truth.subs(by_name)) == pytest.approx(float(number), rel=rel)
