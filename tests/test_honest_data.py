"""The cases that answers are graded on hide nothing: no size, symmetry or zero by accident."""

import itertools
from collections.abc import Iterator
from dataclasses import fields, is_dataclass

import numpy as np
import pytest
import torch

from lib import checks
from lib.checks.engine import Function

PARTS = [
    part
    for bank in checks.BANKS
    for part in checks.parts(bank).values()
    if isinstance(part, Function)
]
CASES = 40


def _leaves(name: str, value) -> Iterator[tuple[str, np.ndarray]]:
    """Every array and number in an argument, with a name to speak of it."""
    if isinstance(value, torch.Tensor):
        yield name, value.detach().cpu().numpy()
    elif isinstance(value, np.ndarray) or (isinstance(value, int | float) and value is not True):
        yield name, np.asarray(value)
    elif isinstance(value, list | tuple):
        for k, v in enumerate(value):
            yield from _leaves(f"{name}[{k}]", v)
    elif is_dataclass(value) and not callable(value):
        for f in fields(value):
            yield from _leaves(f"{name}.{f.name}", getattr(value, f.name))


def faults(part: Function, count: int = CASES) -> set[str]:
    """What the part's cases have in common that could hide a mistake."""
    rng = np.random.default_rng(7)
    names = part._arguments()
    found, sizes, seen = set(), {}, {}
    for case in (part.cases(rng) for _ in range(count)):
        arrays = dict(
            leaf for name, value in zip(names, case, strict=False) for leaf in _leaves(name, value)
        )
        for name, a in arrays.items():
            seen.setdefault(name, []).append(a)
            for axis, size in enumerate(a.shape):
                sizes.setdefault((name, axis), []).append(size)
            found |= {f"{name} is {what}" for what in _tame(a)}
        for (one, a), (other, b) in itertools.combinations(arrays.items(), 2):
            if a.size > 1 and a.shape == b.shape and np.array_equal(a, b):
                found.add(f"{one} is {other}")
    for name, values in seen.items():
        if len(values) == count and all(np.array_equal(v, values[0]) for v in values):
            found.add(f"{name} is always the same")
    # Two axes of one length in every case are one axis of the problem; in some, an accident.
    for (one, a), (other, b) in itertools.combinations(sizes.items(), 2):
        if one[0].split("[")[0] == other[0].split("[")[0] and one[0] != other[0]:
            continue  # members of one list
        if len(a) == len(b) == count and a != b and any(map(np.equal, a, b)):
            found.add(f"axis {one[1]} of {one[0]} is as long as axis {other[1]} of {other[0]}")
    return found


def _tame(a: np.ndarray) -> Iterator[str]:
    if a.ndim == 0:
        if a.dtype.kind == "f" and abs(a) in (0, 1):
            yield "0 or ±1"
        return
    if a.size == 1:
        yield "of one element"
    elif a.dtype.kind == "f" and np.ptp(a) == 0:
        yield "constant"
    if a.ndim == 2 and a.dtype.kind == "f" and a.size > 1:
        for axis, what in ((0, "columns"), (1, "rows")):
            if a.shape[axis] > 1 and (np.ptp(a, axis) == 0).any():
                yield f"constant in its {what}"
        if a.shape[0] == a.shape[1]:
            if np.allclose(a, a.T):
                yield "symmetric"
            if np.allclose(a, np.diag(np.diag(a))):
                yield "diagonal"
            if np.allclose(a @ a.T, np.eye(len(a))):
                yield "orthogonal"


HESSIAN = "a Hessian is symmetric"
COVARIANCE = "a covariance is symmetric"
FEW = "drawn from few values, so that there are ties"
NO_PENALTY = dict.fromkeys(
    ("objective.l2 is 0 or ±1", "objective.l2 is always the same"),
    "the question is about the losses, without a penalty",
)
MEANT = {
    "curvature.part_a": NO_PENALTY,
    "curvature.part_d": NO_PENALTY,
    "power_series.part_a": NO_PENALTY,
    "power_series.part_c": {"h is symmetric": HESSIAN},
    "power_series.part_d": {"sigma is symmetric": COVARIANCE},
    "power_series.part_e": {
        "f2 is symmetric": HESSIAN,
        "g2 is symmetric": HESSIAN,
        "sigma is symmetric": COVARIANCE,
    },
    "transport.part_f": {"cov_p is symmetric": COVARIANCE, "cov_q is symmetric": COVARIANCE},
    "unrolling.part_a": {"hessian is symmetric": HESSIAN},
    "convergence.part_c": {"hessian is symmetric": HESSIAN},
    "convergence.part_e": {"hessian is symmetric": HESSIAN},
    "convergence.part_h": {"hessian_mean is symmetric": HESSIAN},
    "convergence.part_i": {"hessian_mean is symmetric": HESSIAN},
    "entangled.part_b": {"curvature is symmetric": HESSIAN},
    "choose.part_a": {
        f"{name} is constant in its rows": FEW for name in ("beta", "influences", "outcomes")
    },
}
"""What is so because the question says so: {part id: {fault: reason}}."""


@pytest.mark.parametrize("part", PARTS, ids=lambda part: part.id)
def test_cases_hide_nothing(part):
    assert faults(part) == set(MEANT.get(part.id, ()))


def toy(cases) -> Function:
    return Function("toy.part_a", "x", truth=lambda x, y: x, cases=cases, hints=["One.", "Two."])


def _normal(rng, *shape):
    return torch.from_numpy(rng.normal(size=shape))


@pytest.mark.parametrize(
    ("cases", "fault"),
    [
        (lambda rng: (_normal(rng, 3, 4), float(rng.uniform(2, 3))), None),
        (lambda rng: (_normal(rng, 3, 4), 1.0), "y is 0 or ±1"),
        (lambda rng: (torch.ones(3), _normal(rng, 3)), "x is constant"),
        (lambda rng: (_normal(rng, 3).expand(4, 3), 2), "x is constant in its columns"),
        (lambda rng: (_normal(rng, 1), _normal(rng, 2)), "x is of one element"),
        (lambda rng: (torch.diag(_normal(rng, 3)), 2), "x is diagonal"),
        (lambda rng: (torch.linalg.qr(_normal(rng, 3, 3))[0], 2), "x is orthogonal"),
        (lambda rng: (torch.cov(_normal(rng, 3, 5)), 2), "x is symmetric"),
        (lambda rng: (x := _normal(rng, 3), x.clone()), "x is y"),
        (lambda rng: (_normal(rng, 3), [0.5, 2.5]), "y[0] is always the same"),
        (
            lambda rng: (_normal(rng, 3), _normal(rng, int(rng.integers(2, 5)))),
            "axis 0 of x is as long as axis 0 of y",
        ),
    ],
)
def test_the_lint_sees(cases, fault):
    found = faults(toy(cases))
    assert fault in found if fault else found == set()
