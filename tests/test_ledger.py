"""A check that cannot fail proves nothing: each kind of evidence is made to fail."""

import numpy as np
import pytest
import sympy as sp
import torch

from lib.ledger import (
    Evidence,
    definition,
    experiment,
    holds,
    numeric,
    relative_error,
    symbolic,
)

x, y = sp.symbols("x y")
BOX = {"x": (0.5, 2.0), "y": (1.0, 3.0)}
NAN, INF = float("nan"), float("inf")


def draw(rng):
    return rng.normal(size=3)


def test_holds_names_the_equation_either_way():
    held = holds("eq-loo", Evidence(True, "a < b"), draft="(7)")
    assert (held.label, held.says) == ("eq-loo", "a < b") and repr(held) == "eq-loo holds: a < b"
    assert 'href="#equation-eq-loo"' in held._repr_html_() and "a &lt; b" in held._repr_html_()
    erratum = holds("erratum-sign", Evidence(True, ""))._repr_html_()
    assert 'href="errata.html#erratum-sign"' in erratum
    with pytest.raises(AssertionError, match=r"^eq-loo does not hold: too far$"):
        holds("eq-loo", Evidence(False, "too far"))


def test_numeric():
    assert numeric(draw, lambda c: c + c, lambda c: 2 * c).true
    assert numeric(draw, lambda c: torch.tensor(c), lambda c: c).true
    assert not numeric(draw, lambda c: c, lambda c: -c).true
    assert not numeric(draw, lambda c: c * (1 + 1e-8), lambda c: c).true
    assert numeric(draw, lambda c: c * (1 + 1e-8), lambda c: c, rtol=1e-7).true
    assert "1.0e-08" in numeric(draw, lambda c: c * (1 + 1e-8), lambda c: c).says


def test_one_bad_case_in_many_is_found():
    cases = iter(range(200))
    found = numeric(lambda rng: next(cases), lambda c: float(c == 137), lambda c: 0.0)
    assert not found.true
    assert next(cases, None) is None


@pytest.mark.parametrize("bad", [NAN, INF, -INF])
def test_what_is_not_finite_never_agrees(bad):
    spoiled = np.array([bad, 1, 2.0])
    for left, right in ((spoiled, draw), (draw, spoiled), (spoiled, spoiled)):
        left, right = (
            (lambda c, side=side: side if isinstance(side, np.ndarray) else c)
            for side in (left, right)
        )
        assert not numeric(draw, left, right).true


def test_shapes_and_emptiness():
    assert relative_error(np.ones((3, 1)), np.ones(3)) == INF
    assert relative_error(1.0, np.ones(1)) == INF
    assert relative_error([], []) == INF
    assert relative_error([1.0, 2.0], [1.0, 4.0]) == 0.5
    assert relative_error([1.0, 2.0], [1.0, -4.0]) == 1.5
    assert relative_error([3e-9], [0.0]) == 3e-9
    assert relative_error(torch.ones(2, requires_grad=True), [1, 1]) == 0


def test_definition():
    def twice(a, b):
        return 2 * a + b

    def cases(rng):
        return rng.normal(), rng.normal()

    found = definition(twice, cases, lambda a, b: a + a + b)
    assert found.true and found.says.startswith("twice against the definition")
    assert not definition(twice, cases, lambda a, b: a + a - b).true
    assert not definition(twice, cases, lambda b, a: a + a + b).true


def test_symbolic():
    assert symbolic((x + y) ** 2, x**2 + 2 * x * y + y**2, BOX).true
    assert not symbolic((x + y) ** 2, x**2 + y**2, BOX).true
    matrix = sp.Matrix([[x, y], [1, 0]])
    assert symbolic(matrix, matrix, BOX).true
    assert not symbolic(matrix, matrix.T, BOX).true
    assert not symbolic(matrix, matrix.reshape(4, 1), BOX).true
    assert not symbolic(sp.Matrix([x, y]), sp.Matrix([x]), BOX).true
    assert not symbolic(sp.Symbol("z"), sp.Symbol("z"), BOX).true
    assert symbolic(0 * x, 0, BOX).true


def test_experiment():
    assert experiment("5 < 6", 5 < 6).true and experiment("", np.bool_(True)).true
    assert experiment("", torch.tensor(1) > 0).true
    assert not experiment("6 < 5", 6 < 5).true
    with pytest.raises(AssertionError, match="eq-path does not hold: 6 < 5"):
        holds("eq-path", experiment("6 < 5", torch.tensor(6) < 5))


@pytest.mark.parametrize(
    "name, call",
    [
        ("draws", lambda: numeric(draw, abs, abs, draws=0)),
        ("draws", lambda: definition(abs, draw, abs, draws=0)),
        ("draws", lambda: symbolic(x, x, BOX, draws=0)),
        ("came_out", lambda: experiment("", NAN)),
        ("came_out", lambda: experiment("", "no")),
        ("came_out", lambda: experiment("", np.array([True, False]))),
        ("came_out", lambda: experiment("", lambda: False)),
    ],
)
def test_bad_input_is_named(name, call):
    with pytest.raises(ValueError, match=rf"^{name}: expected"):
        call()
