"""What crosses the pipe between grader and submission: JSON, read without trusting the writer.

Numbers and arrays travel as values. An object of `lib` that can be made anew (a function of a
module, a dataclass, a method of one) travels as its name and fields, toward the submission only.
Anything else stays where it is: its name crosses, and calls come back to it.
"""

import builtins
import importlib
import json
from collections.abc import Callable
from dataclasses import fields, is_dataclass
from types import FunctionType, MethodType

import numpy as np
import sympy as sp
import torch

LONGEST = 1 << 26
"""Characters of one message; a longer one is a fault of who sends it."""

_DTYPES = {
    str(dtype).removeprefix("torch."): dtype
    for dtype in (torch.float64, torch.float32, torch.int64, torch.int32, torch.bool)
}
_HEADS = {
    head.__name__: head
    for head in (
        *(sp.Add, sp.Mul, sp.Pow, sp.exp, sp.log, sp.Abs, sp.sign, sp.Max, sp.Min, sp.factorial),
        *(sp.binomial, sp.sin, sp.cos, sp.tan, sp.sinh, sp.cosh, sp.tanh, sp.asin, sp.acos),
        *(sp.atan, sp.asinh, sp.acosh, sp.atanh, sp.erf, sp.erfc, sp.gamma, sp.loggamma),
    )
}
_CONSTANTS = {"pi": sp.pi, "E": sp.E, "I": sp.I, "zoo": sp.zoo, "nan": sp.nan, "oo": sp.oo}


class Foreign:
    """Stands for an answer that is no number, expression, word or function; it shows like it."""

    def __init__(self, kind: str, shown: str):
        self.__class__ = type(kind, (Foreign,), {"__repr__": lambda _: shown})


def dumps(message: dict) -> str:
    """One line."""
    return json.dumps(message, ensure_ascii=True)


def loads(line: str) -> dict:
    """The message of one line; ValueError if it is none."""
    message = json.loads(line)
    if not isinstance(message, dict):
        raise ValueError(f"message: expected an object, got {type(message).__name__}")
    return message


# --- writing --------------------------------------------------------------------------------------


def encode(value, keep: Callable[[object], dict]):
    """`value` as JSON; `keep` gives what is written for an object that stays on this side."""
    if value is None or isinstance(value, bool | str):
        return value
    if isinstance(value, int | float) and type(value) in (int, float):
        return value if isinstance(value, float) or value.bit_length() < 64 else {"int": str(value)}
    if value is Ellipsis:
        return {"ellipsis": True}
    if isinstance(value, list | tuple | set | frozenset):
        kind = next(t.__name__ for t in (list, tuple, set, frozenset) if isinstance(value, t))
        return {kind: [encode(v, keep) for v in value]}
    if isinstance(value, dict):
        return {"dict": [[encode(k, keep), encode(v, keep)] for k, v in value.items()]}
    if isinstance(value, torch.Tensor):
        return _numbers("tensor", str(value.dtype)[6:], value.detach().cpu(), keep)
    if isinstance(value, np.ndarray | np.generic):
        return _numbers("array", str(value.dtype), value, keep)
    if isinstance(value, sp.Basic):
        return {"sympy": _tree(value)}
    return keep(value)


def _numbers(kind: str, dtype: str, value, keep) -> dict:
    if dtype not in _DTYPES:
        return keep(value)
    return {kind: dtype, "shape": list(value.shape), "data": value.reshape(-1).tolist()}


def _tree(e: sp.Basic):
    if isinstance(e, sp.Symbol):
        return {"symbol": e.name}
    if isinstance(e, sp.Rational):
        return {"rational": [str(e.p), str(e.q)]}
    if isinstance(e, sp.Float):
        return {"rational": [str(int(part)) for part in sp.Rational(e).as_numer_denom()]}
    for name, constant in _CONSTANTS.items():
        if e == constant:
            return {"constant": name}
    if type(e).__name__ in _HEADS:
        return {"head": type(e).__name__, "of": [_tree(a) for a in e.args]}
    raise ValueError(f"{type(e).__name__} is not among what an answer may be made of")


def of_lib(value) -> dict | None:
    """How the other side makes `value` anew from `lib`; None if it cannot."""
    if isinstance(value, MethodType):
        owner = of_lib(value.__self__)
        return owner and {"method": value.__name__, "of": owner}
    if isinstance(value, FunctionType):
        return {"lib": [value.__module__, value.__qualname__]} if _known(value) else None
    for kind in type(value).__mro__:
        if is_dataclass(kind) and _known(kind):
            made = {f.name: encode(getattr(value, f.name), _must) for f in fields(kind) if f.init}
            return {"made": [kind.__module__, kind.__qualname__], "of": made}
    return None


def _must(value) -> dict:
    found = of_lib(value)
    if found is None:
        raise ValueError(f"{value!r}: expected something that `lib` can make anew")
    return found


def _known(thing) -> bool:
    """Whether a submission may import it: it lies in `lib`, and not among the checks."""
    module, name = thing.__module__, thing.__qualname__
    public = module.startswith("lib.") and not module.startswith(("lib.checks", "lib.grading"))
    return public and getattr(importlib.import_module(module), name, None) is thing


# --- reading --------------------------------------------------------------------------------------


def decode(value, kept: Callable[[dict], object]):
    """What `encode` wrote; `kept` makes sense of objects that stayed on the other side.

    Raises ValueError for anything that `encode` does not write.
    """
    if not isinstance(value, dict):
        if isinstance(value, list):
            raise ValueError("expected one value, got a bare list")
        return value
    try:
        if "int" in value:
            return int(value["int"])
        if "ellipsis" in value:
            return ...
        for kind in ("list", "tuple", "set", "frozenset"):
            if kind in value:
                return getattr(builtins, kind)(decode(v, kept) for v in value[kind])
        if "dict" in value:
            return {decode(k, kept): decode(v, kept) for k, v in value["dict"]}
        if "tensor" in value:
            data = torch.tensor(value["data"], dtype=_DTYPES[value["tensor"]])
            return data.reshape(value["shape"])
        if "array" in value:
            name = value["array"]
            data = np.array(value["data"], dtype=str(_DTYPES[name]).removeprefix("torch."))
            array = data.reshape(value["shape"])
            return array if array.ndim else array[()]
        if "sympy" in value:
            return _expression(value["sympy"])
    except (KeyError, TypeError, OverflowError, RecursionError, RuntimeError) as error:
        raise ValueError(f"damaged value: {error!r}") from None
    return kept(value)


def _expression(tree: dict) -> sp.Basic:
    if "symbol" in tree:
        return sp.Symbol(str(tree["symbol"]))
    if "rational" in tree:
        return sp.Rational(*map(int, tree["rational"]))
    if "constant" in tree:
        return _CONSTANTS[tree["constant"]]
    # Not evaluated: a submission chooses the numbers, and 9**9**9 would take for ever.
    return _HEADS[tree["head"]](*map(_expression, tree["of"]), evaluate=False)


def remade(value: dict, again: Callable):
    """The object of `lib` that `of_lib` named; for the submission's side alone."""
    if "lib" in value:
        return getattr(importlib.import_module(value["lib"][0]), value["lib"][1])
    if "method" in value:
        return getattr(again(value["of"]), value["method"])
    kind = getattr(importlib.import_module(value["made"][0]), value["made"][1])
    return kind(**{name: again(field) for name, field in value["of"].items()})
