"""The autograder: catalogued mistakes are named, correct variants accepted, accidents survived."""

import itertools
import textwrap
from dataclasses import dataclass, replace
from functools import cached_property

import grader
import numpy as np
import pytest
import sympy as sp
import torch
from variants import VARIANTS

from lib import checks
from lib.checks import engine, record
from lib.checks.engine import (
    EMPTY,
    PASSED,
    WRONG,
    Choice,
    Formula,
    Function,
    Mistake,
    Number,
    Result,
)
from lib.counterfactuals import shapley
from lib.models import linear

# Raised once, inside torch, when forward-mode derivatives are first used.
pytestmark = pytest.mark.filterwarnings("ignore:.torch.jit.script. is deprecated")

SEEDS = 40
"""The page on the grader is made with 200."""
PARTS = [part for bank in checks.BANKS for part in checks.parts(bank).values()]
COMPUTED = [part for part in PARTS if isinstance(part, Function | Formula)]


def each(parts):
    return pytest.mark.parametrize("part", parts, ids=lambda part: part.id)


@pytest.fixture(autouse=True)
def progress_file(tmp_path, monkeypatch):
    monkeypatch.setenv("ATTRIBUTION_PROGRESS", str(tmp_path / "progress.json"))
    return tmp_path / "progress.json"


# --- the banks -----------------------------------------------------------------------------------


@each(PARTS)
def test_mistakes_are_named_and_variants_accepted(part):
    if isinstance(part, Formula):
        part = replace(part, draws=2)  # fewer points are the harder test of telling them apart
    assert grader.faults(part, VARIANTS[part.id], SEEDS) == []
    assert len(VARIANTS[part.id]) >= (10 if part in COMPUTED else 5)


def test_variants_belong_to_parts():
    assert set(VARIANTS) == {part.id for part in PARTS}


@each(PARTS)
def test_banks_speak_briefly_and_help(part):
    assert len(part.hints) >= 2
    names = [mistake.name for mistake in grader.mistakes(part)]
    assert len(set(names)) == len(names)
    if part in COMPUTED:
        assert len(names) >= 4
    said = [mistake.says for mistake in grader.mistakes(part)]
    for says in [*said, part().says, part._passed().says, *part.hints]:
        assert len(textwrap.wrap(f"✗ {says}", 100)) <= 2, says


@pytest.mark.parametrize("bank", checks.BANKS)
def test_parts_know_their_own_names(bank):
    for name, part in checks.parts(bank).items():
        assert part.id == f"{bank}.{name}"


def test_unknown_bank():
    with pytest.raises(ValueError, match="bank: expected one of croissants"):
        checks.parts("baguettes")


# --- formulas against numbers that know no formula -----------------------------------------------


def _agrees(part, point, number, rel=1e-6):
    by_name = {s: sp.Rational(str(point[s.name])) for s in part.truth.free_symbols}
    assert float(part.truth.subs(by_name)) == pytest.approx(float(number), rel=rel)


def test_shapley_value_of_sufficient_ingredients():
    part = checks.parts("croissants")["part_d"]
    for n, k in [(3, 2), (5, 2), (6, 3)]:
        _agrees(part, {"n": n, "k": k}, shapley(lambda s, k=k: float(min(s, default=k) < k), n)[0])


def test_penalised_mean():
    z, rho, step = np.array([1.5, -2.0, 3.0, 0.25]), 1.5, 1e-5

    def lowest(beta):  # the minimum of a parabola from three of its values
        value = [rho * w**2 / 2 + (beta * (w - z) ** 2 / 2).sum() for w in (-1, 0, 1)]
        return (value[0] - value[2]) / (value[0] - 2 * value[1] + value[2]) / 2

    bump = step * np.eye(4)[2]
    slope = (lowest(1 + bump) - lowest(1 - bump)) / (2 * step)
    point = {"n": 4, "rho": rho, "s": z.sum(), "z": z[2]}
    _agrees(checks.parts("influence_derivation")["part_a"], point, slope)
    mean_hessian = {"n": 4, "g": z.mean() - z[2], "Hbar": 1}
    point = {"n": 4, "g": mean_hessian["g"], "Hbar": 1}
    move = (np.average(z, weights=1 + bump) - np.average(z, weights=1 - bump)) / (2 * step)
    _agrees(checks.parts("influence_derivation")["part_e"], point, move)


def test_remainder_beyond_first_order():
    x, y, beta = np.array([1.0, 2.0, 4.0]), np.array([1.0, -1.0, 2.0]), 0.4
    weights = np.array([1, 1, beta])
    change = (weights * x * y).sum() / (weights * x * x).sum() - (x * y).sum() / (x * x).sum()
    first = -(1 - beta) * x[2] * (y[2] - x[2] * (x @ y) / (x @ x)) / (x @ x)
    h = x[2] ** 2 / (x @ x)
    _agrees(checks.parts("leverage")["part_d"], {"s": 1 - beta, "h": h}, (change - first) / first)


def test_hessian_minus_gauss_newton():
    w, x, y, e = 0.4, 1.2, -0.7, 1e-4

    def f(w):
        return np.exp(w * x)

    loss = [0.5 * (y - f(w + k * e)) ** 2 for k in (-1, 0, 1)]
    h = (loss[0] - 2 * loss[1] + loss[2]) / e**2
    g = ((f(w + e) - f(w - e)) / (2 * e)) ** 2
    _agrees(checks.parts("curvature")["part_b"], {"w": w, "x": x, "y": y}, h - g, rel=1e-5)


def test_degenerate_formulas():
    parts = checks.parts("degenerate_ab")
    data = np.array([1.0, 2.0, 4.5])
    n, zbar, z = 3, data.mean(), data[2]
    a, lam = 2.0, 0.7
    v = np.array([zbar / a, a])  # at the minimum (a, z̄/a)
    h, g = n * np.outer(v, v), -(z - zbar) * v
    point = {"z": z, "zbar": zbar, "n": n, "lambda": lam, "V": v @ v}
    _agrees(parts["part_b"], point, -v @ np.linalg.pinv(h) @ g)
    _agrees(parts["part_c"], point, data[:2].mean() - zbar)
    damped = np.linalg.solve(h + lam * np.eye(2), g)
    _agrees(parts["part_d"], point, -v @ damped)
    _agrees(parts["part_e"], point, -np.array([2 * a, 0]) @ damped)


# --- functions -----------------------------------------------------------------------------------


def _cases(rng):
    n = int(rng.integers(4, 9))
    return torch.from_numpy(rng.uniform(1, 2, n)), float(rng.uniform(3, 4))


SCALED = Function(
    "toy.part_a",
    "a times every x",
    truth=lambda x, a: a * x,
    cases=_cases,
    mistakes=[
        Mistake("squared", lambda x, a: a * x * x, "x is squared."),
        Mistake("half of it", lambda x, a: a * x / 2 if len(x) < 6 else a * x * 7, "Odd."),
    ],
    hints=["Multiply.", "a * x"],
)


def _stub(x, a): ...


def _raise(error):
    def answer(x, a):
        raise error

    return answer


@pytest.mark.parametrize(
    "answer", [None, ..., _stub, _raise(NotImplementedError()), lambda x, a: ...]
)
def test_not_attempted(answer, capsys, progress_file):
    result = SCALED(answer)
    assert result.outcome == EMPTY and not result
    assert result.says == "Not attempted yet: a times every x. For a nudge: toy.part_a.hint()"
    assert not progress_file.exists()


def test_forgotten_return():
    def answer(x, a):
        a * x

    assert "does it `return`" in SCALED(answer).more
    calls = itertools.count()
    result = SCALED(lambda x, a: a * x if len(x) > 5 or next(calls) < 1 else None, seed=0)
    assert (result.outcome, result.diagnosis) == (WRONG, "type") and "`return`" in result.says


@pytest.mark.parametrize(
    ("answer", "says"),
    [
        (
            torch.ones(3),
            "Expected the function itself, not called; got Tensor tensor([1., 1., 1.])",
        ),
        (sp.Symbol("x"), "Expected the function itself, not called; got Symbol x"),
        (lambda x, a: "three", "got str 'three'"),
        (lambda x, a: {"x": x}, "got dict"),
        (lambda x, a: sp.Symbol("x"), "got Symbol x"),
        (lambda x, a: [sp.Symbol("x")] * len(x), "got list [x, x"),
        (lambda x, a: [None] * len(x), "got list [None, None"),
        (lambda x, a: x > a, "got Tensor tensor([False"),
        (lambda x, a: 1j * a * x.numpy(), "got ndarray array"),
        (lambda x, a: (1j * a * x).conj(), "got Tensor tensor"),
        (lambda x, a: np.array(["1.0"] * len(x)), "got ndarray"),
        (lambda x, a: [[1.0], [1.0, 2.0]], "got list [[1.0], [1.0, 2.0]]"),
        (lambda x, a: (a * x_i for x_i in x), "got generator"),
        (lambda x, a: lambda: x, "got function"),
    ],
)
def test_wrong_type(answer, says):
    result = SCALED(answer)
    assert result.diagnosis == "type" and says in result.says
    assert "\n" not in result.says and len(result.says) <= 200


@pytest.mark.parametrize(
    ("answer", "shape"),
    [
        (lambda x, a: a * x[:, None], "1)."),
        (lambda x, a: a * x[None].repeat(2, 1).T, "2)."),
        (lambda x, a: float(a * x[0]), "got ()."),
        (lambda x, a: [], "got (0,)."),
        (lambda x, a: torch.outer(x, x), ")."),
    ],
)
def test_wrong_shape_is_never_broadcast(answer, shape):
    result = SCALED(answer)
    assert result.diagnosis == "shape" and result.says.endswith(shape)
    assert "x of shape (" in result.more


def test_a_scalar_answer_for_equal_entries_is_not_broadcast():
    constant = Function("toy.x", "ones", truth=lambda x, a: 0 * x + 1, cases=_cases, hints=["", ""])
    assert constant(lambda x, a: 1.0).diagnosis == "shape"


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), -float("inf")])
def test_not_finite(bad):
    assert SCALED(lambda x, a: a * x + bad).diagnosis == "not finite"


@pytest.mark.parametrize(
    ("error", "says"),
    [
        (ValueError("no such\nthing"), "ValueError: no such thing"),
        (KeyError("x"), "KeyError: 'x'"),
        (AssertionError(), "AssertionError"),
        (SystemExit(1), "SystemExit: 1"),
        (RecursionError("deep"), "RecursionError: deep"),
        (RuntimeError("long " * 100), "RuntimeError: long"),
    ],
)
def test_raising(error, says, capfd):
    result = SCALED(_raise(error))
    assert result.diagnosis == "raises"
    assert result.says.startswith("Your function raised " + says)
    assert len(result.says) <= 200 and "\n" not in result.says
    assert "Traceback" not in repr(result) and capfd.readouterr().err == ""


def test_an_interrupt_is_not_swallowed():
    with pytest.raises(KeyboardInterrupt):
        SCALED(_raise(KeyboardInterrupt()))


@pytest.mark.parametrize("answer", [lambda x: x, lambda x, a, b: x, lambda: 1, lambda *, x, a: x])
def test_wrong_number_of_arguments(answer):
    result = SCALED(answer)
    assert result.diagnosis == "arguments"
    assert result.says == "Expected a function of (x, a); yours takes others."


@pytest.mark.parametrize("answer", [lambda *args: args[0] * args[1], lambda u, v, w=1: u * v])
def test_other_names_and_defaults_are_fine(answer):
    assert SCALED(answer)


def test_changed_arguments():
    def answer(x, a):
        x *= a
        return x.clone()

    assert SCALED(answer, seed=3).diagnosis == "changes arguments"
    assert SCALED(lambda x, a: a * x, seed=3), "the kept cases must not have changed"


def test_changed_data_of_an_objective():
    def cases(rng):
        return (linear(torch.from_numpy(rng.standard_normal((4, 2))), torch.ones(4).double()),)

    part = Function(
        "toy.part_z",
        "the sum of x",
        truth=lambda o: o.x.sum(0),
        cases=cases,
        n=lambda args: args[0].n,
        hints=["", ""],
    )

    def answer(o):
        total = o.x.sum(0)
        o.x.zero_()
        return total

    assert part(answer, seed=0).diagnosis == "changes arguments"
    assert part(lambda o: o.x.sum(0), seed=0)


def test_not_deterministic():
    rng = np.random.default_rng(0)
    counter = itertools.count()

    assert SCALED(lambda x, a: a * x + rng.normal()).diagnosis == "not deterministic"
    assert (
        SCALED(lambda x, a: a * x + (next(counter) >= SCALED.draws)).diagnosis
        == "not deterministic"
    )

    kept_sum = []

    def accumulates(x, a):
        kept_sum.append(float(x.sum()))
        return a * x + sum(kept_sum)

    assert SCALED(accumulates).diagnosis == "not deterministic"


def test_a_right_answer_may_be_graded_twice():
    for _ in range(2):
        assert SCALED(lambda x, a: a * x, seed=1)
        assert SCALED(lambda x, a: a * x)


@pytest.mark.parametrize(
    "answer",
    [
        lambda x, a: (a * x).float(),
        lambda x, a: (a * x).numpy().astype(np.float32),
        lambda x, a: list((a * x).float()),
        lambda x, a: tuple((a * x).numpy().astype("float32")),
    ],
)
def test_float32_is_accepted(answer):
    assert SCALED(answer)


def test_lost_precision_is_named():
    result = SCALED(lambda x, a: (a * x).float().double() * (1 + 1e-5))
    assert result.diagnosis == "precision" and "float32" in result.says
    assert SCALED(lambda x, a: (a * x * x).float()).diagnosis == "squared"
    assert SCALED(lambda x, a: -(a * x).float()).diagnosis == "ratio -1"


RATIOS = {
    "ratio -1": lambda n: -1,
    "ratio n": lambda n: n,
    "ratio 1/n": lambda n: 1 / n,
    "ratio -n": lambda n: -n,
    "ratio -1/n": lambda n: -1 / n,
    "ratio n/(n-1)": lambda n: n / (n - 1),
    "ratio (n-1)/n": lambda n: (n - 1) / n,
    "ratio 2": lambda n: 2,
    "ratio 1/2": lambda n: 1 / 2,
    "ratio -2": lambda n: -2,
    "ratio -1/2": lambda n: -1 / 2,
}


@pytest.mark.parametrize("name", RATIOS)
def test_constant_ratios(name):
    factor = RATIOS[name]
    assert SCALED(lambda x, a: factor(len(x)) * a * x).diagnosis == name
    n = sp.Symbol("n")
    assert MEAN(sp.nsimplify(factor(n)) * MEAN.truth).diagnosis == name


def test_other_ratios_are_not_guessed():
    assert SCALED(lambda x, a: 3.5 * a * x).diagnosis == "unknown"
    assert SCALED(lambda x, a: 0 * x).diagnosis == "unknown"


def test_an_answer_that_blows_up_is_told_so():
    assert SCALED(lambda x, a: 1e9 * a * x).diagnosis == "huge"
    # What is far too large in some cases only has another reason.
    assert SCALED(lambda x, a: a * x * (1e9 if len(x) < 6 else 1.5), seed=0).diagnosis == "unknown"


def test_rounding_noise_is_not_compared():
    tiny = Function(
        "toy.part_b",
        "(1 − e^(−x))/x",
        truth=lambda x: -torch.expm1(-x) / x,
        cases=lambda rng: (torch.from_numpy(rng.uniform([1, 1e-18], [2, 1e-17])),),
        mistakes=[
            Mistake(
                "cancellation",
                lambda x: (1 - torch.exp(-x)) / x,
                "Digits cancel.",
                noise=lambda x: (x < 1e-9).numpy(),
            )
        ],
        hints=["expm1", "expm1"],
    )
    assert tiny(lambda x: -torch.expm1(-x) / x)
    for cancels in (lambda x: (1 - torch.exp(-x)) / x, lambda x: (1 - 1 / torch.exp(x)) / x):
        assert tiny(cancels).diagnosis == "cancellation"
    assert tiny(lambda x: 2 * (1 - torch.exp(-x)) / x).diagnosis == "unknown"


@dataclass(frozen=True)
class _Keeps:
    x: torch.Tensor

    @cached_property
    def twice(self):
        return 2 * self.x


def test_what_an_argument_computes_about_itself_is_no_change():
    doubled = Function(
        "toy.part_c",
        "twice x",
        truth=lambda k: 2 * k.x,
        cases=lambda rng: (_Keeps(torch.from_numpy(rng.uniform(1, 2, 3))),),
        n=lambda args: 3,
        hints=["twice", "twice"],
    )
    assert doubled(lambda k: k.twice)


def test_a_claim_must_hold_on_every_failing_case():
    def partly(wrong, rest):
        return SCALED(lambda x, a: wrong(x, a) if len(x) < 6 else rest(x, a), seed=0)

    assert partly(lambda x, a: a * x * x, lambda x, a: a * x).diagnosis == "squared"
    assert partly(lambda x, a: a * x * x, lambda x, a: a + x).diagnosis == "unknown"
    assert partly(lambda x, a: -a * x, lambda x, a: 2 * a * x).diagnosis == "unknown"
    assert partly(lambda x, a: a * x / 2, lambda x, a: a * x * 7).diagnosis == "half of it"
    assert partly(lambda x, a: a * x / 2, lambda x, a: a * x * 8).diagnosis == "unknown"


def test_an_unknown_error_shows_the_smallest_failing_case():
    sizes = []

    def answer(x, a):
        sizes.append(len(x))
        return a * x + (len(x) > 5)

    result = SCALED(answer, seed=0)
    failing = [size for size in sizes[: SCALED.draws] if size > 5]
    assert result.diagnosis == "unknown"
    assert f"differs on {len(failing)} of {SCALED.draws} cases" in result.says
    described, expected, got = result.more.splitlines()
    assert described.startswith(f"called with x of shape ({min(failing)},), a = 3.")
    assert expected.startswith("expected [") and got.startswith("got      [")
    assert "every case" in SCALED(lambda x, a: a + x).says


def test_a_seed_repeats_the_cases_and_none_draws_anew():
    def record_in(seen):
        return lambda x, a: seen.append(a) or a * x

    first, second, third, fourth = [], [], [], []
    for seen, seed in [(first, 1), (second, 1), (third, None), (fourth, None)]:
        SCALED(record_in(seen), seed=seed)
    assert first == second and third != fourth


# --- formulas ------------------------------------------------------------------------------------

_x, _n, _y = sp.symbols("x n y", positive=True)
MEAN = Formula(
    "toy.part_b",
    "the share of x",
    truth=_x / (_n + 1),
    domain={"x": (-3, 3), "n": (4, 9)},
    mistakes=[Mistake("absolute", sp.Abs(_x) / (_n + 1) * (_n + 2), "Odd.")],
    hints=["", ""],
)


@pytest.mark.parametrize("answer", [None, ...])
def test_formula_not_attempted(answer):
    assert MEAN(answer).outcome == EMPTY


@pytest.mark.parametrize(
    "answer",
    [
        "x/(n + 1)",
        "__import__('os').system('false')",
        True,
        [_x],
        lambda x, n: x / (n + 1),
        sp.Matrix([_x]),
        sp.ImmutableMatrix([_x]),
        sp.MatrixSymbol("A", 2, 2),
        sp.Eq(_x, 1),
        {_x},
        np.array([1.0, 2.0]),
        torch.ones(2),
        torch.ones(2, requires_grad=True),
    ],
)
def test_formula_of_wrong_type(answer):
    result = MEAN(answer)
    assert result.diagnosis == "type"
    assert result.says.startswith("Expected a sympy expression in x, n; got ")


@pytest.mark.parametrize("answer", [0, 1.5, np.float64(2), np.int64(2), torch.tensor(0.3), 1j])
def test_numbers_are_constant_formulas(answer):
    assert MEAN(answer).diagnosis == "unknown"


@pytest.mark.parametrize("number", [3, 3.0, np.int64(3), np.array(3.0), torch.tensor(3.0)])
def test_a_number_can_be_the_formula(number):
    part = Formula("toy.c", "three", truth=sp.Integer(3), domain={"x": (1, 2)}, hints=["", ""])
    assert part(number)


@pytest.mark.parametrize(
    "answer", [sp.nan, sp.zoo, sp.oo, float("nan"), 1 / (_x - _x + sp.Integer(0))]
)
def test_infinite_formulas(answer):
    assert MEAN(answer).diagnosis == "unknown"


def test_unknown_symbols():
    result = MEAN(_x * _y / (_n + 1) + sp.Symbol("alpha"))
    assert result.diagnosis == "symbols"
    assert result.says == "Not a symbol of this part: alpha, y. It speaks of x, n."


def test_a_symbol_that_drops_out_does_no_harm():
    part = checks.parts("transport")["part_b"]
    kappa = sp.Symbol("kappa")
    assert part((kappa * part.truth + kappa) / kappa - 1)
    assert part(part.truth * kappa).diagnosis == "symbols"


def test_symbols_are_matched_by_name():
    x, n = sp.Symbol("x", negative=True), sp.Symbol("n", integer=True)
    assert MEAN(x / (n + 1))
    assert MEAN(x / (n + 1) + sp.Symbol("x") - x)


def test_formula_unknown_error_shows_a_point():
    result = MEAN(_x + _n)
    assert result.says == "Not the share of x: the two differ at 10 of 10 random points."
    described, expected, got = result.more.splitlines()
    assert described.startswith("at x = ") and expected.startswith("expected ")
    assert got.startswith("got ")


def test_formula_claims_hold_at_every_failing_point():
    x = sp.Symbol("x")  # of either sign, as the domain has it
    assert MEAN(sp.Abs(x) / (_n + 1), seed=0).diagnosis == "ratio -1"  # where it fails, x < 0
    mixed = sp.Piecewise((-MEAN.truth, x < 0), (2 * MEAN.truth, True))
    assert MEAN(mixed, seed=0).diagnosis == "unknown"


@pytest.mark.parametrize(
    "answer",
    [
        0.1 * _x * 10 / (_n + 1),
        (1 / 3) * _x * 3 / (_n + 1),
        sp.Float(2) * _x / (2 * _n + 2.0),
        sp.Integral(1 / (_n + 1), (_y, 0, _x)),
    ],
)
def test_floats_and_unevaluated_forms_are_accepted(answer):
    assert MEAN(answer)


def test_nearly_right_is_wrong():
    assert not MEAN(_x / (_n + 1) * (1 + sp.Rational(1, 10**9)))


# --- words and numbers ---------------------------------------------------------------------------

WORD = Choice("toy.part_c", "the way", truth=lambda: "up", wrong={"down": "No."}, hints=["", ""])
FIVE = Number(
    "toy.part_d",
    "five",
    truth=lambda: 5.0,
    mistakes=[Mistake("six", 6.0, "One too many.")],
    hints=["", ""],
)


@pytest.mark.parametrize("answer", [None, ..., "", "  \n"])
def test_choice_not_attempted(answer):
    assert WORD(answer).outcome == EMPTY


@pytest.mark.parametrize(
    "answer", ["left", 3, ["up"], np.array([1, 2]), torch.ones(2), sp.Symbol("up")]
)
def test_choice_of_wrong_type(answer):
    result = WORD(answer)
    assert result.diagnosis == "type" and result.says.startswith(
        "Expected one of 'down', 'up'; got"
    )


def test_choice_options():
    assert WORD.options == ["down", "up"]
    assert WORD(" DOWN ").says == "No."


@pytest.mark.parametrize(
    "answer", ["5", [5.0], True, 5 + 0j, {5.0}, lambda: 5, sp.Symbol("x"), np.ones(2)]
)
def test_number_of_wrong_type(answer):
    assert FIVE(answer).diagnosis in ("type", "shape")


def test_numbers():
    assert FIVE(5.05) and not FIVE(5.2)
    assert FIVE(6).says == "One too many."
    assert FIVE(-5).diagnosis == "ratio -1"
    assert FIVE(float("nan")).diagnosis == "not finite"
    assert FIVE(7).diagnosis == "unknown"
    assert FIVE(None).outcome == FIVE(...).outcome == EMPTY


# --- results, hints and progress -----------------------------------------------------------------


def test_result_shows_itself():
    wrong = Result(WRONG, "<b>no</b>", "x < 1 & y")
    assert repr(wrong) == "✗ <b>no</b>\nx < 1 & y" and not wrong
    html = wrong._repr_html_()
    assert "<b>" not in html and "&lt;b&gt;no" in html and "x &lt; 1 &amp; y" in html
    assert 'class="check-result wrong"' in html
    assert repr(Result(PASSED, "Yes")).startswith("✓") and Result(PASSED, "Yes")
    assert 'class="check-result empty"' in Result(EMPTY, "")._repr_html_()


def test_what_a_student_writes_is_escaped():
    for answer in [lambda x, a: "<script>", _raise(ValueError("<script>")), "<script>"]:
        assert "<script>" not in SCALED(answer)._repr_html_()
    for part in (MEAN, WORD, FIVE):
        assert "<script>" not in part("<script>")._repr_html_()
    assert "<script>" not in MEAN(sp.Symbol("<script>"))._repr_html_()


def test_hints_go_on_to_the_last(capsys):
    for text in ["Hint 1 of 2: Multiply.", "Hint 2 of 2: a * x", "Hint 2 of 2: a * x"]:
        SCALED.hint()
        assert capsys.readouterr().out.strip() == text
    SCALED.hint(1)
    assert "Multiply" in capsys.readouterr().out
    SCALED.hint()
    assert "a * x" in capsys.readouterr().out
    for number in (0, 3):
        with pytest.raises(ValueError, match="number: expected a hint from 1 to 2"):
            SCALED.hint(number)


@each(PARTS)
def test_a_solution_is_shown_with_its_reason_and_counted(part, capsys):
    part.solution()
    shown = capsys.readouterr().out
    assert "SOLUTION" not in shown and " = None" not in shown
    assert len(shown.split("**")) > 2 or "\n\n" in shown.strip()
    part.solution()
    assert record.read()["solutions"] == [part.id]


def test_without_the_notebooks_a_solution_is_on_its_page(capsys, tmp_path, monkeypatch):
    monkeypatch.setattr(engine, "_SOLUTIONS", tmp_path)
    checks.parts("leverage")["part_a"].solution()
    assert "on the exercise's page" in capsys.readouterr().out


def test_progress_is_kept(progress_file):
    part = checks.parts("curvature")["part_e"]
    before = checks.progress()
    assert [done for _, done, _ in before.rows] == [0] * len(checks.BANKS)
    for _ in range(2):
        part(-5)
    part(7)
    assert record.read()["passed"] == ["curvature.part_e"]
    assert dict((bank, done) for bank, done, _ in checks.progress().rows)["curvature"] == 1
    assert "1/6" in repr(checks.progress())
    html = checks.progress()._repr_html_()
    assert html.count("<progress") == len(checks.BANKS) and 'max="6" value="1"' in html
    left = sorted(file.name for file in progress_file.parent.iterdir())
    assert left == ["progress.json", "progress.json.lock"]
    record.reset()
    assert record.read()["passed"] == [] and not progress_file.exists()


@pytest.mark.parametrize(
    "content",
    [
        b"{",
        b"[]",
        b"3",
        b"null",
        b"\xff\xfe",
        b'{"passed": 3, "hints": []}',
        b'{"passed": [[], 1], "hints": {"toy.part_a": "x"}}',
        b'{"solutions": {"toy.part_a": 1}}',
    ],
)
def test_a_corrupt_record_is_replaced(content, progress_file):
    progress_file.write_bytes(content)
    assert repr(checks.progress())
    SCALED.hint()
    assert SCALED(lambda x, a: a * x)
    assert record.read() == {
        "passed": ["toy.part_a"],
        "hints": {"toy.part_a": 1},
        "solutions": [],
    }


def test_an_unwritable_folder(tmp_path, monkeypatch, capsys):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("ATTRIBUTION_PROGRESS", str(tmp_path / "file" / "progress.json"))
    assert SCALED(lambda x, a: a * x)
    assert "(progress not saved: " in capsys.readouterr().out
    SCALED.hint()
    SCALED.hint()
    assert "Hint 2 of 2" in capsys.readouterr().out, "hints go on without a file"
    monkeypatch.setenv("ATTRIBUTION_PROGRESS", str(tmp_path))
    assert SCALED(lambda x, a: a * x)
    assert [file.name for file in tmp_path.iterdir()] == ["file"]


def test_a_wrong_catalogue_is_no_excuse():
    """A mistake whose formula gives NaN, or another shape, is passed over."""
    part = replace(
        SCALED,
        mistakes=[
            Mistake("nan", lambda x, a: x * float("nan"), ""),
            Mistake("shape", lambda x, a: x[:, None], ""),
        ],
    )
    assert part(lambda x, a: x).diagnosis == "unknown"
