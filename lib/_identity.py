"""A digest of everything that decides a computation, so that a folder of results knows its own."""

import hashlib
from collections.abc import Mapping
from dataclasses import fields, is_dataclass
from enum import Enum
from functools import partial
from pathlib import Path
from types import BuiltinFunctionType, CodeType, FunctionType, MethodType, ModuleType

import numpy as np
from torch import Tensor, device, dtype

NUMBERS = (bool, int, float, complex, np.generic)
SAID_BY_REPR = (*NUMBERS, str, bytes, Path, dtype, device, type, type(None), type(...))


def digest(*things) -> str:
    """Equal for equal values in any process: tensors, arrays, functions, dataclasses, containers.

    A function counts with its code, defaults and what it closes over, not with the functions and
    globals it calls; a dict counts with its order. Raises ValueError for an object of another kind.
    """
    sha = hashlib.sha256()
    for part in _parts(things, ()):
        sha.update(len(part).to_bytes(8, "little") + part)
    return sha.hexdigest()


def _parts(thing, above: tuple[int, ...]):
    """Byte strings that say what `thing` is; `above` are the objects it lies in."""
    if id(thing) in above:
        yield b"itself"
        return
    above = (*above, id(thing))
    yield type(thing).__qualname__.encode()
    if isinstance(thing, Tensor):
        thing = thing.numpy(force=True)
    if isinstance(thing, np.ndarray) and thing.dtype != object:
        yield str((thing.dtype.str, thing.shape)).encode()
        yield np.ascontiguousarray(thing).tobytes()
    elif isinstance(thing, SAID_BY_REPR):
        yield repr(thing).encode()
    elif isinstance(thing, Enum | ModuleType):
        yield str(thing).encode()
    elif isinstance(thing, BuiltinFunctionType):
        yield thing.__qualname__.encode()
        yield from _parts(thing.__self__, above)  # its module, or the object it is a method of
    elif isinstance(thing, slice):
        yield from _parts((thing.start, thing.stop, thing.step), above)
    elif isinstance(thing, Mapping):
        yield str(len(thing)).encode()  # without it ([1], 2) would be ([1, 2],)
        for key, value in thing.items():
            yield from _parts(key, above)
            yield from _parts(value, above)
    elif isinstance(thing, tuple | list | range):
        yield str(len(thing)).encode()
        for part in thing:
            yield from _parts(part, above)
    elif isinstance(thing, set | frozenset):
        yield str(len(thing)).encode()
        yield from sorted(digest(part).encode() for part in thing)
    elif isinstance(thing, CodeType):
        yield thing.co_code
        yield from _parts((thing.co_consts, thing.co_names, thing.co_varnames), above)
    elif isinstance(thing, FunctionType):
        cells = [_content(cell) for cell in thing.__closure__ or ()]
        given = (thing.__defaults__, thing.__kwdefaults__)
        yield f"{thing.__module__}.{thing.__qualname__}".encode()
        yield from _parts((thing.__code__, given, cells), above)
    elif isinstance(thing, MethodType):
        yield from _parts((thing.__func__, thing.__self__), above)
    elif isinstance(thing, partial):
        yield from _parts((thing.func, thing.args, thing.keywords), above)
    elif is_dataclass(thing):
        yield from _parts([getattr(thing, field.name) for field in fields(thing)], above)
    elif hasattr(thing, "__wrapped__"):
        yield from _parts(thing.__wrapped__, above)
    elif hasattr(thing, "__dict__") and _written_in_python(type(thing)):
        yield from _parts(vars(thing), above)
    else:
        raise ValueError(f"cannot tell two objects of type {type(thing).__name__} apart")


def _written_in_python(kind: type) -> bool:
    """Whether all that an object holds is in its `__dict__`: not so for a subclass of deque."""
    return all(base.__flags__ & 1 << 9 for base in kind.__mro__[:-1])  # Py_TPFLAGS_HEAPTYPE


def _content(cell):
    try:
        return cell.cell_contents
    except ValueError:  # a name that is not bound yet
        return None
