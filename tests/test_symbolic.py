"""Equality of expressions, decided by numbers."""

import pytest
import sympy as sp

from lib.symbolic import points, same, same_at, value_at

x, y = sp.symbols("x y", positive=True)
BOX = {"x": (0.5, 2.0), "y": (-3.0, -0.3)}


@pytest.mark.parametrize(
    "left, right",
    [
        (sp.sin(x) ** 2 + sp.cos(x) ** 2, sp.Integer(1)),
        ((x + y) ** 3, x**3 + 3 * x**2 * y + 3 * x * y**2 + y**3),
        (x - x, sp.Integer(0)),
        (1 / (1 - x / 10), sum((x / 10) ** k for k in range(60))),
        (sp.Symbol("x") + 1, sp.Symbol("x", real=True) + 1),
        (x / x, 1),
        (sp.exp(sp.Integer(-30)) * x, x / sp.exp(30)),
    ],
)
def test_same(left, right):
    assert same(left, right, BOX)


@pytest.mark.parametrize(
    "left, right",
    [
        (x, -x),
        (x + y, x - y),
        (x, x + sp.Rational(1, 10**15)),
        (x, x * (1 + sp.Rational(1, 10**18))),
        (sp.sqrt(y), sp.sqrt(-y)),
        (x / (y - y), x / (y - y)),
        (sp.oo, sp.oo),
        (sp.nan, sp.nan),
        (sp.Symbol("z"), sp.Symbol("z")),
        (x, sp.Symbol("z")),
    ],
)
def test_not_same(left, right):
    assert not same(left, right, BOX)


def test_points_are_exact_distinct_and_inside():
    box = {"x": (0.5, 0.6), "y": (-0.6, -0.5), "z": (-0.01, 0.01)}
    drawn = points(box, 300, seed=1)
    assert len(drawn) == 300 and drawn == points(box, 300, seed=1) != points(box, 300, seed=2)
    for point in drawn:
        assert list(point) == ["x", "y", "z"] and len(set(point.values())) == 3
        assert all(low <= point[name] <= high for name, (low, high) in box.items())
        assert all(v != 0 and isinstance(v, sp.Rational) for v in point.values())


def test_agreement_is_asked_at_every_point():
    corner = sp.Piecewise((0, x < 1.9), (1, True))
    assert not same(corner, sp.Integer(0), BOX, draws=60)
    assert same_at(corner, sp.Integer(0), {"x": sp.Rational(1)})


def test_value_has_forty_digits():
    value = value_at(sp.sqrt(x), {"x": sp.Integer(2)})
    assert abs(value - sp.sqrt(2).evalf(60)) < sp.Float(10) ** -39


@pytest.mark.parametrize(
    "name, domain, draws",
    [
        ("domain", {"x": (2.0, 1.0)}, 3),
        ("domain", {"x": (0.0, 0.0)}, 3),
        ("domain", {"x": (1.0, 1.0), "y": (1.0, 1.0)}, 3),
        ("domain", {"x": (0.5001, 0.5002)}, 3),
        ("draws", {"x": (1.0, 2.0)}, 0),
        ("draws", {"x": (1.0, 2.0)}, 1.5),
    ],
)
def test_bad_input_is_named(name, domain, draws):
    with pytest.raises(ValueError, match=rf"^{name}: "):
        points(domain, draws, seed=0)
    with pytest.raises(ValueError, match=rf"^{name}: "):
        same(x, x, domain, draws=draws)
