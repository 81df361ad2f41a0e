"""What a folder of results is kept for: equal digests in every process, others for other things."""

import collections
import enum
import math
import os
import subprocess
import sys
from dataclasses import dataclass
from functools import lru_cache, partial, wraps
from itertools import combinations
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from lib._identity import digest
from lib.evaluation import Recipe
from lib.models import MLP
from lib.objective import LossesOn
from lib.training import Adam, Momentum, constant


class Colour(enum.Enum):
    RED = 1
    BLUE = 2


class Level(enum.IntEnum):
    LOW = 1
    HIGH = 2


@dataclass(frozen=True)
class Pair:
    left: object
    right: object

    def sum(self, w):
        return self.left + self.right + w


class Plain:
    """An object that holds all it has in its __dict__."""

    def __init__(self, inside):
        self.inside = inside

    def __call__(self, w):
        return self.inside * w


class Other(Plain):
    """The same contents, another class."""


def scaled(by, shift=0.0):
    return lambda w: by * w.sum() + shift


def added(by):
    return lambda w: by + w.sum()


def decorated(function):
    @wraps(function)
    def inner(w):
        return function(w)

    return inner


def first(w, at=0, *, scale=1.0):
    return scale * w[..., at]


def after(w, at=0, *, scale=1.0):
    return scale * w[at:].sum()


def of_net(net):
    return lambda w: net(w)


def weights(seed):
    return torch.randn(3, generator=torch.Generator().manual_seed(seed))


def network(seed):
    module = torch.nn.Linear(3, 2)
    torch.nn.utils.vector_to_parameters(torch.cat([weights(seed)] * 3)[:8], module.parameters())
    return module


def recipe(**changes):
    mlp = MLP((2, 3, 2))
    x = torch.arange(8).double().view(4, 2)
    arguments = {
        "objective": mlp.objective(x, torch.tensor([0, 1, 1, 0])),
        "initial": mlp.initial,
        "batch": 2,
        "times": 3,
        "schedule": partial(constant, 0.1),
    }
    return Recipe(**{**arguments, **changes})


def things():
    """One of everything, all different, made anew by every call and in every process."""
    ones = torch.ones(2, 3, dtype=torch.float64)
    changed = ones.clone()
    changed[1, 2] = 1 + 1e-15
    other_objective = MLP((2, 3, 2)).objective(
        torch.ones(4, 2).double(), torch.tensor([0, 1, 1, 0])
    )
    return [
        # tensors and arrays
        ones,
        changed,
        ones.float(),
        ones.long(),
        ones.view(3, 2),
        ones.view(6),
        ones.numpy(),
        ones.numpy().astype(">f8"),
        torch.nn.Parameter(ones),
        torch.arange(6).view(2, 3),
        torch.arange(6).view(3, 2).T,
        torch.tensor(1.0),
        torch.zeros(0),
        torch.zeros(2, dtype=torch.float32),
        torch.zeros(2, dtype=torch.int32),
        # numbers and names
        1,
        1.0,
        1 + 1e-15,
        True,
        1 + 0j,
        np.float64(1),
        np.float32(1),
        "1",
        b"1",
        None,
        ...,
        Path("1"),
        torch.float64,
        torch.float32,
        torch.device("cpu"),
        float("nan"),
        float,
        int,
        Colour.RED,
        Colour.BLUE,
        Level.LOW,
        Level.HIGH,
        math,
        os,
        # containers
        [1, 2],
        (1, 2),
        [2, 1],
        [[1], 2],
        [[1, 2]],
        [[], 1, 2],
        ([1], 2),
        ([1, 2],),
        {1, 2},
        {1, 2, 3},
        frozenset({1, 2}),
        {"a", "b", "c"},
        range(1, 3),
        range(3),
        slice(1, 3),
        slice(1, 4),
        slice(1, 3, 2),
        {1: 2, 3: 4},
        {1: 2, 3: 5},
        {1: 2, 4: 4},
        {1: {3: 4}},
        {1: {}, 3: 4},
        # functions
        first,
        after,
        scaled(1.0),
        scaled(2.0),
        scaled(1.0, 1.0),
        scaled(ones),
        scaled(changed),
        added(1.0),
        lambda w: w[0],
        lambda w: w[1],
        lambda w: w + w,
        lambda w: w - w,
        lambda w: w.sum(),
        lambda w: w.max(),
        lambda w: [v + 1 for v in w],
        lambda w: [v + 2 for v in w],
        lambda w, a=1: w[0],
        lambda w, a=2: w[0],
        lambda w, *, a=1: w[0],
        lambda w, *, a=2: w[0],
        decorated(scaled(1.0)),
        decorated(scaled(2.0)),
        lru_cache(scaled(1.0)),
        lru_cache(scaled(2.0)),
        partial(first, at=1),
        partial(first, at=2),
        partial(first, scale=1),
        partial(after, at=1),
        partial(first, weights(0)),
        partial(first, weights(1)),
        partial(first),
        # methods, of Python and built in
        Pair(1, 2).sum,
        Pair(1, 3).sum,
        Pair(1, 2).__eq__,
        weights(0).dot,
        weights(1).dot,
        weights(0).sub,
        [1].append,
        [2].append,
        torch.sin,
        torch.cos,
        math.sin,
        len,
        # objects
        Pair(1, 2),
        Pair(2, 1),
        Pair([1], 2),
        Plain(1),
        Plain(2),
        Other(1),
        Plain(Plain(1)),
        Momentum(),
        Momentum(0.8),
        Adam(),
        network(0),
        network(1),
        of_net(network(0)),
        of_net(network(1)),
        # what the library asks about
        recipe(),
        recipe(batch=1),
        recipe(times=4),
        recipe(optimizer=Momentum()),
        recipe(schedule=partial(constant, 0.2)),
        recipe(initial=partial(MLP((2, 3, 2)).initial, dtype=torch.float32)),
        recipe(objective=other_objective),
        recipe().reweighted,
        recipe().anew,
        recipe(batch=1).anew,
        LossesOn(recipe().objective),
        LossesOn(other_objective),
    ]


def test_different_things_differ_and_equal_ones_do_not():
    once, again = [digest(thing) for thing in things()], [digest(thing) for thing in things()]
    assert once == again
    for i, j in combinations(range(len(once)), 2):
        assert once[i] != once[j], (things()[i], things()[j])
    assert all(len(found) == 64 and set(found) <= set("0123456789abcdef") for found in once)


def printed():
    """For a process of its own."""
    print(*[digest(thing) for thing in things()])


def test_every_process_agrees():
    path = os.pathsep.join([os.path.dirname(__file__), os.getcwd()])
    told = subprocess.run(
        [sys.executable, "-c", "import test_identity; test_identity.printed()"],
        # sets are gone through in another order
        env={**os.environ, "PYTHONPATH": path, "PYTHONHASHSEED": "1"},
        capture_output=True,
        text=True,
        check=True,
    )
    assert told.stdout.split() == [digest(thing) for thing in things()]


def test_what_does_not_count():
    a = torch.arange(6).double().view(2, 3)
    assert digest(a) == digest(a.T.contiguous().T) == digest(a.clone().requires_grad_())
    assert digest(torch.tensor([2 + 1j]).conj()) == digest(torch.tensor([2 - 1j]))
    assert digest({3, 1, 2}) == digest({2, 3, 1})
    assert digest(Pair(1, 2).sum) == digest(Pair(1, 2).sum)
    ahead, behind = {"a": 1, "b": 2}, {"b": 2, "a": 1}
    assert ahead == behind and digest(ahead) != digest(behind)  # the order of equations may matter


def test_arguments_are_told_apart():
    assert digest([1], 2) != digest([1, 2])
    assert digest(1, 2) != digest(2, 1)
    assert digest(1) != digest(1, 1)
    assert digest("ab", "c") != digest("a", "bc")
    assert digest({1: 2}, 3) != digest({1: 2, 3: 3})
    assert digest({1}, 2) != digest({1, 2})
    assert digest(type("int1", (int,), {})(1)) != digest(11)


nested = st.recursive(
    st.integers(0, 1) | st.sampled_from(["", "a", "1"]) | st.none(),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.lists(inner, max_size=3).map(tuple)
        | st.dictionaries(st.integers(0, 1), inner, max_size=2)
    ),
    max_leaves=6,
)


def same(a, b):
    """Equal, of equal kinds all the way down, and dicts in equal order."""
    if type(a) is not type(b):
        return False
    if isinstance(a, dict):
        return same(list(a.items()), list(b.items()))
    if isinstance(a, list | tuple):
        return len(a) == len(b) and all(map(same, a, b))
    return a == b


@settings(deadline=None, max_examples=400, derandomize=True)
@given(nested, nested)
def test_nesting(a, b):
    assert (digest(a) == digest(b)) == same(a, b)


def test_cycles_end():
    def ring(value):
        first = [value]
        first.append(first)
        return first

    def countdown(steps):
        def down(n):
            return down(n - steps) if n > 0 else n  # closes over itself

        return down

    def owner(value):
        thing = Plain(value)
        thing.mine = thing
        return thing

    for make in (ring, countdown, owner):
        assert digest(make(1)) == digest(make(1)) != digest(make(2))


def test_what_appears_twice_is_no_cycle():
    shared = [1]
    assert digest([shared, shared]) == digest([[1], [1]]) != digest([[1], [2]])


def test_a_name_not_bound_yet():
    def late():
        def inner(w):
            return unbound + w

        before = digest(inner)
        unbound = 1.0
        return before, digest(inner)

    assert len(set(late())) == 2


class Queue(collections.deque):
    """Has a __dict__, and keeps its contents elsewhere."""


@pytest.mark.parametrize(
    "kind, thing",
    [
        ("object", object()),
        ("Generator", torch.Generator()),
        ("Generator", np.random.default_rng(0)),
        ("deque", collections.deque([1])),
        ("Queue", Queue([1])),
        ("KeyError", KeyError(1)),
        ("list_iterator", iter([1])),
        ("generator", (i for i in range(2))),
        ("bytearray", bytearray(b"a")),
        ("method-wrapper", (1).__add__),
        ("ndarray", np.array([1, "a"], dtype=object)),
    ],
)
def test_other_kinds_are_refused(kind, thing):
    for inside in (thing, [thing], {1: thing}, Plain(thing), Pair(1, thing), partial(first, thing)):
        with pytest.raises(ValueError, match=f"cannot tell two objects of type {kind} apart"):
            digest(inside)
    with pytest.raises(ValueError, match=f"cannot tell two objects of type {kind} apart"):
        digest(scaled(thing))
