"""Bad input gets a ValueError that names the argument and says what was expected."""

from numbers import Integral, Real

import torch
from torch import Tensor


def finite(name: str, value: Tensor) -> Tensor:
    """Return `value` if it is a floating-point tensor without NaN or infinity.

    Under vmap, where values cannot be looked at, only the kind is checked.
    """
    if not isinstance(value, Tensor) or not value.is_floating_point():
        kind = value.dtype if isinstance(value, Tensor) else type(value).__name__
        raise ValueError(f"{name}: expected a floating-point tensor, got {kind}")
    try:
        every = bool(torch.isfinite(value).all())
    except RuntimeError:
        return value
    if not every:
        raise ValueError(f"{name}: expected finite numbers, got NaN or infinity")
    return value


def shaped(name: str, value: Tensor, *shape: int | str) -> Tensor:
    """Return `value` if it is finite and its shape matches; a string stands for any length."""
    return sized(name, finite(name, value), *shape)


def sized(name: str, value: Tensor, *shape: int | str) -> Tensor:
    """Return `value` if its shape matches; looks at no value, so it may run under vmap."""
    wanted = f"({', '.join(map(str, shape))}{',' if len(shape) == 1 else ''})"
    fits = value.ndim == len(shape) and all(
        isinstance(want, str) or want == have for want, have in zip(shape, value.shape, strict=True)
    )
    if not fits:
        raise ValueError(f"{name}: expected shape {wanted}, got {tuple(value.shape)}")
    return value


def rows_of(name: str, value: Tensor, p: int) -> Tensor:
    """Return `value` if it is finite and of shape (p,) or (m, p)."""
    return shaped(name, value, *(["m"] if getattr(value, "ndim", 1) == 2 else []), p)


def indices(name: str, value: Tensor, n: int) -> Tensor:
    """Return `value` if it is a list of at least one integer between 0 and n − 1, shape (m,)."""
    value = torch.as_tensor(value)
    whole = not (value.is_floating_point() or value.is_complex() or value.dtype == torch.bool)
    if not whole or value.ndim != 1 or len(value) == 0 or value.min() < 0 or value.max() >= n:
        raise ValueError(f"{name}: expected integers from 0 to {n - 1}, at least one, shape (m,)")
    return value


def scalar(name: str, value: Tensor) -> Tensor:
    """Return `value` if it is a tensor without dimensions."""
    if not isinstance(value, Tensor) or value.ndim != 0:
        shape = f"shape {tuple(value.shape)}" if isinstance(value, Tensor) else repr(value)
        raise ValueError(f"{name}: expected a scalar, got {shape}")
    return value


def number(name: str, value: float) -> float:
    """Return `value` if it is a finite number."""
    if isinstance(value, bool) or not isinstance(value, Real) or not abs(value) < float("inf"):
        raise ValueError(f"{name}: expected a finite number, got {value!r}")
    return value


def positive(name: str, value: float, *, or_zero: bool = False) -> float:
    """Return `value` if it is a finite positive number (or zero, where that makes sense)."""
    wanted = "a non-negative number" if or_zero else "a positive number"
    if isinstance(value, bool) or not isinstance(value, Real):
        raise ValueError(f"{name}: expected {wanted}, got {value!r}")
    if not (0 <= value < float("inf")) or (value == 0 and not or_zero):
        raise ValueError(f"{name}: expected {wanted}, got {value!r}")
    return value


def count(name: str, value: int, *, least: int = 1, most: int | None = None) -> int:
    """Return `value` if it is an integer between `least` and `most`."""
    wanted = f"an integer of at least {least}" + ("" if most is None else f" and at most {most}")
    if isinstance(value, bool) or not isinstance(value, Integral):
        raise ValueError(f"{name}: expected {wanted}, got {value!r}")
    if value < least or (most is not None and value > most):
        raise ValueError(f"{name}: expected {wanted}, got {value}")
    return value
