"""The autograder: a part is a reference, fresh random cases, and named mistakes as data.

A check has three outcomes, passed, not attempted and wrong; the first line of a wrong one names the
error. A specific claim is made only if it holds on every case that failed.
"""

import inspect
import json
import re
import signal
import threading
from collections.abc import Callable, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field, fields, is_dataclass, replace
from functools import lru_cache
from html import escape
from pathlib import Path

import numpy as np
import sympy as sp
import torch

from lib.checks import record
from lib.symbolic import DIGITS, Domain, points, value_at

PASSED, EMPTY, WRONG = "passed", "not attempted", "wrong"
MARKS = {PASSED: "✓", EMPTY: "…", WRONG: "✗"}

CLAIM = 1e-5
"""How closely an answer must match a mistake's formula before it is called by that name."""

HUGE = 1e8
"""How many times too large an answer is that has blown up."""

FLOAT32 = 1e-4
"""How closely an answer in single precision must match."""


LIMIT = 5
"""Seconds that one call of a student's function, or one formula, may take."""


class TooLong(BaseException):
    """Raised in a student's code; no Exception, which that code might catch."""


@contextmanager
def limited(seconds: float | None = None):
    """Raise TooLong in what runs longer, as far as Python can: on Unix, in the main thread."""
    main = threading.current_thread() is threading.main_thread()
    if not main or not hasattr(signal, "setitimer") or signal.getitimer(signal.ITIMER_REAL)[0]:
        yield  # elsewhere, or where somebody else's clock is running
        return

    def late(*_):
        raise TooLong

    before = signal.signal(signal.SIGALRM, late)
    try:
        signal.setitimer(signal.ITIMER_REAL, seconds or LIMIT)
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


@dataclass(frozen=True)
class Result:
    """The outcome of one check; `says` is its first line, `more` what may follow."""

    outcome: str
    says: str
    more: str = ""
    diagnosis: str = ""

    def __bool__(self) -> bool:
        return self.outcome == PASSED

    def __repr__(self) -> str:
        return f"{MARKS[self.outcome]} {self.says}" + (f"\n{self.more}" if self.more else "")

    def _repr_html_(self) -> str:
        kind = {PASSED: "passed", EMPTY: "empty", WRONG: "wrong"}[self.outcome]
        more = f"<pre>{escape(self.more)}</pre>" if self.more else ""
        # Jupyter has no style sheet of ours, and these colours read on light and on dark.
        colour = {PASSED: "#2e9e5b", EMPTY: "#8a8f98", WRONG: "#d9534f"}[self.outcome]
        style = f"border-left: 0.25rem solid {colour}; padding: 0.3rem 0.8rem"
        return (
            f'<div class="check-result {kind}" style="{style}">'
            f"{MARKS[self.outcome]} {escape(self.says)}{more}</div>"
        )


@dataclass(frozen=True)
class Mistake:
    """A wrong answer that people give: its formula (or symbolic expression) and what to say.

    noise: of a function's arguments, where its numbers are nothing but rounding, and not compared.
    """

    name: str
    formula: object
    says: str
    noise: Callable | None = None


@dataclass(frozen=True, eq=False)
class _Exercise:
    """What all kinds of parts share: an identity such as 'leverage.part_b', a question, hints."""

    id: str
    asks: str
    hints: Sequence[str] = field(kw_only=True)

    def hint(self, number: int | None = None) -> str:
        """Print the next hint, from nudge to near-solution; or the given one, counted from 1."""
        if number is None:
            number = min(record.hints_seen(self.id) + 1, len(self.hints))
        if not 1 <= number <= len(self.hints):
            raise ValueError(f"number: expected a hint from 1 to {len(self.hints)}, got {number}")
        record.saw_hint(self.id, number)
        print(f"Hint {number} of {len(self.hints)}: {self.hints[number - 1]}")

    def solution(self) -> None:
        """Print the worked solution and its reason, or where they are; counted, as hints are."""
        record.saw_solution(self.id)
        print(_worked(*self.id.split(".")))

    def _passed(self) -> Result:
        record.passed(self.id)
        return Result(PASSED, f"Passed: {self.asks}.")

    def _empty(self, more: str = "") -> Result:
        return Result(EMPTY, f"Not attempted yet: {self.asks}. For a nudge: {self.id}.hint()", more)


_SOLUTIONS = Path(__file__).resolve().parents[2] / "solutions"


def _worked(bank: str, part: str) -> str:
    """The solution's cell above the check of a part, and what is said below it."""
    found = sorted(_SOLUTIONS.glob(f"[0-9][0-9]_{bank}.ipynb"))
    if not found:
        return "The worked solution stands on the exercise's page in the book, below the hints."
    cells = json.loads(found[0].read_text("utf-8"))["cells"]
    sources = ["".join(cell["source"]) for cell in cells]
    at = next(k for k, source in enumerate(sources) if source.startswith(f"{bank}.{part}("))
    answer = next(source for source in sources[at::-1] if "### BEGIN SOLUTION" in source)
    told = [re.sub(r"^(\w+ = None\n)? *### (BEGIN|END) SOLUTION\n?", "", answer, flags=re.M)]
    for cell, source in zip(cells[at + 1 :], sources[at + 1 :], strict=True):
        if source.startswith("## "):
            break
        only_here = "solution-only" in cell["metadata"].get("tags", ())
        told += [source] * (only_here and cell["cell_type"] == "markdown")
    return "\n".join(told)


def _is_empty(answer) -> bool:
    return answer is None or answer is Ellipsis


# --- functions, compared on random cases ---------------------------------------------------------


@dataclass(frozen=True)
class _Given:
    array: np.ndarray
    precision: float


def _number_of_examples(args: tuple) -> int:
    return len(args[0])


@dataclass(frozen=True, eq=False)
class Function(_Exercise):
    """A part answered by a function.

    truth: the same signature as the answer, by another route than the formula that is asked for.
    cases: Generator → tuple of arguments.  n: the number of examples in a case, for ratios like n.
    """

    truth: Callable
    cases: Callable[[np.random.Generator], tuple]
    mistakes: Sequence[Mistake] = ()
    rtol: float = 1e-6
    draws: int = 6
    n: Callable[[tuple], int] = _number_of_examples

    def __call__(self, answer=None, *, seed: int | None = None) -> Result:
        """Grade a function; a fixed seed repeats the same cases."""
        if _is_empty(answer):
            return self._empty()
        if not callable(answer):
            return _wrong("type", f"Expected the function itself, not called; got {_kind(answer)}.")
        seed = int(np.random.default_rng().integers(2**63)) if seed is None else seed
        cases, truths = _problems(self, seed)
        if not _takes(answer, cases[0]):
            wanted = ", ".join(self._arguments())
            return _wrong("arguments", f"Expected a function of ({wanted}); yours takes others.")
        given = []
        for case, truth in zip(cases, truths, strict=True):
            value = self._ask(answer, case, truth)
            if isinstance(value, Result):
                if value.outcome == EMPTY and given:
                    return _wrong("type", NO_RETURN, self._describe(case))
                return value
            given.append(value)
        # Asked again at the end, when anything kept between calls has had time to change.
        again = self._ask(answer, cases[0], truths[0])
        if not isinstance(again, _Given) or not _close(again.array, given[0].array, 1e-9):
            return _wrong(
                "not deterministic",
                "The same arguments did not give the same answer twice: is something random, or "
                "kept from one call to the next?",
            )
        failing = {
            k: value
            for k, (value, truth) in enumerate(zip(given, truths, strict=True))
            if not _close(value.array, truth, max(self.rtol, value.precision))
        }
        return self._diagnose(failing, seed) if failing else self._passed()

    def _ask(self, answer: Callable, case: tuple, truth: np.ndarray) -> _Given | Result:
        """One call of a student's function: its value, or the Result that ends the check."""
        args = _fresh(case)

        def wrong(diagnosis, says):
            return _wrong(diagnosis, says, self._describe(case))

        try:
            # One that runs elsewhere has a limit there.
            with nullcontext() if hasattr(answer, "slope") else limited():
                value = answer(*args)
        except NotImplementedError:
            return self._empty()
        except TooLong:
            says = f"Your function was stopped after {LIMIT} seconds: does a loop of it never end?"
            return wrong("stopped", says)
        except (Exception, SystemExit) as error:
            what = _short(f"{type(error).__name__}: {error}", 150)
            return wrong("raises", f"Your function raised {what}")
        if _is_empty(value):
            return self._empty("Your function gave nothing: if you wrote it, does it `return`?")
        try:
            array = _array(value)
        except (TypeError, ValueError, RuntimeError):
            wanted = f"numbers of shape {truth.shape}" if truth.ndim else "a number"
            return wrong("type", f"Expected {wanted}, got {_kind(value)}.")
        if array.shape != truth.shape:
            return wrong("shape", f"Expected shape {truth.shape}, got {array.shape}.")
        if not np.isfinite(array).all():
            return wrong("not finite", "The answer has NaN or infinity in it.")
        if not _equal(args, case):
            return _wrong(
                "changes arguments", "Your function changed its arguments in place: work on a copy."
            )
        return _Given(array, _precision(value))

    def _arguments(self) -> list[str]:
        parameters = inspect.signature(self.truth).parameters.values()
        return [p.name for p in parameters if p.default is p.empty]

    def _describe(self, case: tuple) -> str:
        named = zip(self._arguments(), case, strict=False)
        return "called with " + ", ".join(_argument(name, value) for name, value in named)

    def _diagnose(self, failing: dict[int, _Given], seed: int) -> Result:
        cases, truths = _problems(self, seed)

        def all_match(other, rtol):
            return all(
                _close(value.array, other(k), max(rtol, value.precision))
                for k, value in failing.items()
            )

        def made(m):
            noise = self.mistakes[m].noise or (lambda *case: False)
            return all(
                _close(
                    np.where(noise(*cases[k]), 0, value.array),
                    np.where(noise(*cases[k]), 0, _mistaken(self, seed, m, k)),
                    max(CLAIM, value.precision),
                )
                for k, value in failing.items()
            )

        for m, mistake in enumerate(self.mistakes):
            if made(m):
                return _wrong(mistake.name, mistake.says)
        for name, factor, says in RATIOS:
            if all_match(lambda k, f=factor: f(self.n(cases[k])) * truths[k], self.rtol):
                return _wrong(name, says)
        if all_match(lambda k: truths[k], FLOAT32):
            return _wrong(
                "precision",
                "Right to about four digits, not to all: is something in float32, or approximated?",
            )
        if all(_size(value.array) > HUGE * _size(truths[k]) for k, value in failing.items()):
            return _wrong(
                "huge",
                "Far too large in every case: does it divide by nearly zero, or invert a singular "
                "matrix?",
            )
        k = min(failing, key=lambda k: (truths[k].size, self.n(cases[k])))
        many = (
            f"{len(failing)} of {self.draws} cases" if len(failing) < self.draws else "every case"
        )
        return _wrong(
            "unknown",
            f"Not {self.asks}: it differs on {many}. The smallest case is below.",
            f"{self._describe(cases[k])}\n{_both(truths[k], failing[k].array)}",
        )


# Cases, truths and mistaken answers of a seed are kept: the tests grade many answers on them.


@lru_cache(maxsize=16)
def _problems(part: Function, seed: int) -> tuple[list, list]:
    rng = np.random.default_rng(seed)
    cases = [part.cases(rng) for _ in range(part.draws)]
    return cases, [_array(part.truth(*_fresh(case))) for case in cases]


@lru_cache(maxsize=256)
def _mistaken(part: Function, seed: int, m: int, k: int) -> np.ndarray:
    # Not a copy: what a case has computed about itself serves all mistakes, and none changes it.
    return _array(part.mistakes[m].formula(*_problems(part, seed)[0][k]))


def slope_of(answer: Callable, args: tuple, place: int) -> torch.Tensor:
    """The derivative of a scalar answer in one argument; asked of where the answer is computed."""
    elsewhere = getattr(answer, "slope", None)
    return elsewhere(args, place) if elsewhere else torch.func.grad(answer, place)(*args)


NO_RETURN = "Your function gives nothing in some cases: is a `return` missing from one branch?"

RATIOS = [
    ("ratio -1", lambda n: -1, "Sign flipped: this is minus the answer."),
    ("ratio n", lambda n: n, "Too large by exactly n: is there a sum for a mean, or the reverse?"),
    (
        "ratio 1/n",
        lambda n: 1 / n,
        "Too small by exactly n: is there a mean for a sum, or n twice?",
    ),
    ("ratio -n", lambda n: -n, "Sign flipped, and too large by exactly n."),
    ("ratio -1/n", lambda n: -1 / n, "Sign flipped, and too small by exactly n."),
    ("ratio n/(n-1)", lambda n: n / (n - 1), "Too large by n/(n − 1): is an n − 1 there for an n?"),
    ("ratio (n-1)/n", lambda n: (n - 1) / n, "Too small by (n − 1)/n: is an n there for an n − 1?"),
    ("ratio 2", lambda n: 2, "Twice the answer: is there a 2 too many, or a ½ missing?"),
    ("ratio 1/2", lambda n: 0.5, "Half the answer: is there a ½ too many, or a 2 missing?"),
    ("ratio -2", lambda n: -2, "Minus twice the answer: the sign, and a factor of 2."),
    ("ratio -1/2", lambda n: -0.5, "Minus half the answer: the sign, and a factor of 2."),
]


def _takes(answer: Callable, case: tuple) -> bool:
    try:
        inspect.signature(answer).bind(*case)
    except TypeError:
        return False
    except ValueError:  # some built-in functions do not tell
        pass
    return True


def _fresh(argument):
    """A copy that may be spoilt; functions are passed on as they are."""
    if isinstance(argument, torch.Tensor):
        return argument.clone()
    if isinstance(argument, list | tuple):
        return type(argument)(map(_fresh, argument))
    if is_dataclass(argument):
        return replace(argument, **{name: _fresh(v) for name, v in _fields(argument).items()})
    return argument


def _fields(value) -> dict:
    """What a dataclass was made from; not what it has computed since."""
    return {f.name: getattr(value, f.name) for f in fields(value)}


def _equal(a, b) -> bool:
    """Whether two arguments are the same still; functions are not looked into."""
    if isinstance(b, torch.Tensor):
        return torch.equal(a, b)
    if is_dataclass(b):
        a, b = _fields(a), _fields(b)
    if isinstance(b, dict):
        return a.keys() == b.keys() and all(_equal(a[key], b[key]) for key in b)
    if isinstance(b, list | tuple):
        return len(a) == len(b) and all(map(_equal, a, b))
    return callable(b) or a == b


def _array(value) -> np.ndarray:
    """Numbers in any dress as a float64 array; raises TypeError for anything else."""
    try:
        return _as_floats(value)
    except Exception as error:  # what objects raise that are asked for their numbers
        raise TypeError("expected numbers") from error


def _as_floats(value) -> np.ndarray:
    if isinstance(value, list | tuple):
        value = [_array(v) for v in value]
    if isinstance(value, torch.Tensor) and value.is_floating_point():
        value = value.detach().cpu().double().numpy()
    array = np.asarray(value)
    if array.dtype.kind == "O":
        array = np.array([float(v) for v in array.flat]).reshape(array.shape)
    if array.dtype.kind not in "fiu":
        raise TypeError(f"expected numbers, got {array.dtype}")
    return array.astype(float)


def _precision(value) -> float:
    """The relative tolerance that the answer's own floating-point format calls for."""
    if isinstance(value, list | tuple):
        return max(map(_precision, value), default=0.0)
    return FLOAT32 if str(getattr(value, "dtype", "")).endswith("float32") else 0.0


def _size(a: np.ndarray) -> float:
    return float(np.abs(a).max(initial=0))


def _close(a: np.ndarray, b: np.ndarray, rtol: float) -> bool:
    return a.shape == b.shape and _size(a - b) <= rtol * _size(b) + 1e-12


def _short(text: str, length: int) -> str:
    """One line, cut to length."""
    text = " ".join(text.split())
    return text if len(text) <= length else text[: length - 1] + "…"


def _kind(value) -> str:
    try:
        shown = repr(value)
    except Exception:  # an object of the student's, or an integer of too many digits
        shown = ""
    return _short(f"{type(value).__name__} {shown}", 80)


def _both(truth: np.ndarray, given: np.ndarray) -> str:
    """Both arrays, with as many digits as it takes to tell them apart."""
    for precision in (5, 8, 12):
        options = {"precision": precision, "suppress_small": True, "threshold": 12}
        left, right = (np.array2string(array, **options) for array in (truth, given))
        if left != right:
            break
    return f"expected {left}\ngot      {right}"


def _argument(name: str, value) -> str:
    if isinstance(value, torch.Tensor):
        return f"{name} of shape {tuple(value.shape)}"
    return f"{name} = {value:.4g}" if isinstance(value, int | float) else name


def _wrong(diagnosis: str, says: str, more: str = "") -> Result:
    return Result(WRONG, says, more, diagnosis)


# --- formulas, compared as symbols ---------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class Formula(_Exercise):
    """A part answered by a sympy expression in the named symbols, drawn from the domain."""

    truth: sp.Expr
    domain: Domain
    mistakes: Sequence[Mistake] = ()
    draws: int = 10

    def __call__(self, answer=None, *, seed: int | None = None) -> Result:
        """Grade an expression by its values at random exact points."""
        if _is_empty(answer):
            return self._empty()
        try:
            with limited():
                return self._grade(answer, seed)
        except TooLong:
            says = f"Not evaluated within {LIMIT} seconds: is there a form without sum or integral?"
            return _wrong("stopped", says)

    def _unknown(self, expression: sp.Expr) -> list[str]:
        return sorted({s.name for s in expression.free_symbols} - set(self.domain))

    def _grade(self, answer, seed: int | None) -> Result:
        names = ", ".join(self.domain)
        expression = _expression(answer)
        if expression is None:
            return _wrong("type", f"Expected a sympy expression in {names}; got {_kind(answer)}.")
        if self._unknown(expression):
            expression = sp.cancel(expression)  # a symbol that drops out does no harm
        if unknown := self._unknown(expression):
            which = _short(", ".join(unknown), 80)
            return _wrong("symbols", f"Not a symbol of this part: {which}. It speaks of {names}.")
        seed = int(np.random.default_rng(seed).integers(2**31))
        given = _values(self, expression, seed)

        def agree(places, other):
            return [_agree(given[k], other[k]) for k in places]

        truth = _values(self, self.truth, seed)
        failing = [k for k, same in enumerate(agree(range(self.draws), truth)) if not same]
        if not failing:
            return self._passed()
        for mistake in self.mistakes:
            if all(agree(failing, _values(self, sp.sympify(mistake.formula), seed))):
                return _wrong(mistake.name, mistake.says)
        for name, factor, says in RATIOS:
            ratio = sp.nsimplify(factor(sp.Symbol("n")))
            known = {s.name for s in ratio.free_symbols} <= set(self.domain)
            if known and all(agree(failing, _values(self, ratio * self.truth, seed))):
                return _wrong(name, says)
        k = failing[0]
        at = ", ".join(f"{name} = {float(v):.3g}" for name, v in _points(self, seed)[k].items())
        return _wrong(
            "unknown",
            f"Not {self.asks}: the two differ at {len(failing)} of {self.draws} random points.",
            f"at {at}\nexpected {sp.N(truth[k], 5)}\ngot      {sp.N(given[k], 5)}",
        )


@lru_cache(maxsize=4)
def _points(part: Formula, seed: int) -> list[dict[str, sp.Rational]]:
    return points(part.domain, part.draws, seed)


@lru_cache(maxsize=64)
def _values(part: Formula, expression: sp.Expr, seed: int) -> list[sp.Expr]:
    """An expression's values at the part's points: the part's own are compared many times."""
    return [value_at(expression, point) for point in _points(part, seed)]


def _agree(a: sp.Expr, b: sp.Expr) -> bool:
    """Whether two values are finite and the same to half the digits carried."""
    if not (a.is_finite and b.is_finite):
        return False
    return bool(abs(a - b) <= sp.Float(10) ** (-DIGITS // 2) * (1 + abs(b)))


def _expression(answer) -> sp.Expr | None:
    """The answer as an exact sympy expression; None if it is no number or expression."""
    try:
        answer = sp.sympify(answer, strict=True)  # strict: a string is never parsed
    except Exception:  # what objects raise that are asked for an expression
        return None
    if not isinstance(answer, sp.Expr) or getattr(answer, "is_Matrix", False):
        return None
    floats = {f: sp.nsimplify(f, rational=True) for f in answer.atoms(sp.Float) if f.is_finite}
    try:
        return answer.xreplace(floats).doit()
    except Exception:  # whatever sympy meets on the way
        return None


# --- predictions, made before an experiment ------------------------------------------------------


@dataclass(frozen=True, eq=False)
class Choice(_Exercise):
    """A part answered by one of several words; each wrong one has its own reply."""

    truth: Callable[[], str]
    wrong: dict[str, str]

    @property
    def options(self) -> list[str]:
        """The words that may be answered."""
        return sorted({self.truth(), *self.wrong})

    def __call__(self, answer=None, *, seed: int | None = None) -> Result:
        """Compare the word with what the experiment gives."""
        if _is_empty(answer):
            return self._empty()
        if isinstance(answer, str):
            word = " ".join(answer.lower().split())
            if not word:
                return self._empty()
            if word == self.truth():
                return self._passed()
            if word in self.wrong:
                return _wrong(word, self.wrong[word])
        options = [repr(option) for option in self.options]
        if sum(map(len, options)) > 90:
            says = f"Expected one of the answers below; got {_kind(answer)}."
            return _wrong("type", says, "\n".join(options))
        return _wrong("type", f"Expected one of {', '.join(options)}; got {_kind(answer)}.")


@dataclass(frozen=True, eq=False)
class Number(_Exercise):
    """A part answered by one number, compared with what the experiment gives, within `rtol`."""

    truth: Callable[[], float]
    mistakes: Sequence[Mistake] = ()
    rtol: float = 0.02

    def __call__(self, answer=None, *, seed: int | None = None) -> Result:
        """Compare the number; a mistake's formula is the wrong number itself."""
        if _is_empty(answer):
            return self._empty()
        try:
            value = _array(answer)
        except (TypeError, ValueError, RuntimeError):
            return _wrong("type", f"Expected a number, got {_kind(answer)}.")
        if value.shape != ():
            return _wrong("shape", f"Expected one number, got an array of shape {value.shape}.")
        if not np.isfinite(value):
            return _wrong("not finite", f"Expected a finite number, got {float(value)}.")
        if _close(value, _array(self.truth()), self.rtol):
            return self._passed()
        for mistake in self.mistakes:
            if _close(value, _array(mistake.formula), self.rtol):
                return _wrong(mistake.name, mistake.says)
        if _close(value, -_array(self.truth()), self.rtol):
            return _wrong("ratio -1", "Right size, wrong sign.")
        return _wrong("unknown", f"Not {self.asks}. For a nudge: {self.id}.hint()")
