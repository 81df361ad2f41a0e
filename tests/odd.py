"""What no exercise asks for, and a student may hand in all the same: values and functions."""

import sys
import time
from fractions import Fraction

import numpy as np
import pandas as pd
import sympy as sp
import torch

from lib import checks

x = sp.Symbol("x")


class Odd:
    """Raises wherever it can."""

    def __getattr__(self, name):
        raise RuntimeError(name)

    def __repr__(self):
        raise ValueError("no repr")

    def __eq__(self, other):
        raise TypeError("no equality")

    __hash__ = None


VALUES = {
    "None": None,
    "Ellipsis": ...,
    "empty string": "",
    "string": "the answer",
    "formula in a string": "x + 1",
    "bytes": b"a",
    "NaN": float("nan"),
    "infinity": float("inf"),
    "complex": 1 + 2j,
    "bool": True,
    "numpy bool": np.True_,
    "huge integer": 10**400,
    "fraction": Fraction(1, 3),
    "empty list": [],
    "empty array": np.empty(0),
    "ragged list": [[1, 2], [3]],
    "deep list": [[[[[1.0]]]]],
    "object array": np.array([object(), None], dtype=object),
    "array of strings": np.array(["a", "b"]),
    "large array": np.zeros(10**6),
    "dictionary": {"a": 1},
    "set": {1, 2},
    "generator": (k for k in range(3)),
    "data frame": pd.DataFrame({"a": [1]}),
    "tensor": torch.ones(2, 2),
    "complex tensor": torch.ones(2, dtype=torch.complex64),
    "tensor on no device": torch.ones(2, device="meta"),
    "sparse tensor": torch.eye(3).to_sparse(),
    "symbol": x,
    "equation": sp.Eq(x, 1),
    "sympy NaN": sp.nan,
    "sympy infinity": sp.zoo,
    "matrix of symbols": sp.Matrix([[x, 1]]),
    "undefined function": sp.Function("f")(x),
    "integral": sp.Integral(sp.exp(x**x), (x, 0, 1)),
    "the class": Odd,
    "module": np,
}


def _recurses(*args):
    return _recurses(*args)


def _exits(*args):
    sys.exit(0)


def _kills(*args):
    raise KeyError("a\nb" * 1000)


def _spoils(*args):
    for a in args:
        if isinstance(a, torch.Tensor):
            a.zero_()
        elif isinstance(a, list):
            a.clear()
    return args[0]


def _prints(*args):
    print("x" * 10_000)
    print("y", file=sys.stderr)
    return args[0]


def _allocates(*args):
    return torch.ones(1 << 60)


def _sleeps(*args):
    time.sleep(3600)


def _hangs(*args):
    while True:
        try:
            time.sleep(0)
        except Exception:
            pass


def _closes(*args):
    sys.stdout.flush()
    raise BrokenPipeError


FUNCTIONS = {
    "no argument": lambda: 1,
    "keyword only": lambda *, a: a,
    "recursion": _recurses,
    "exit": _exits,
    "long error": _kills,
    "spoils arguments": _spoils,
    "prints": _prints,
    "allocates": _allocates,
    "sleeps": _sleeps,
    "hangs": _hangs,
    "broken pipe": _closes,
    "built in": max,
    "numpy's": np.sum,
    "torch's": torch.sum,
    "a part": checks.parts("leverage")["part_a"],
}
FUNCTIONS |= {f"gives {name}": (lambda v: lambda *args: v)(value) for name, value in VALUES.items()}
