"""One library, one quantity, one process: told "go", it computes and says what that took.

    python worker.py MODULE QUANTITY

Answers are lines of JSON. Imports, the data and one call on a small piece of them come before the
first "go"; memory is the most that this process held since, less what it held then.
"""

import contextlib
import importlib
import json
import os
import platform
import resource
import sys
import traceback
import warnings
from dataclasses import replace
from importlib.metadata import version

os.environ["HF_HUB_OFFLINE"] = "1"
SPEAK = os.fdopen(os.dup(1), "w")
os.dup2(2, 1)  # whatever a library prints goes to stderr

import torch  # noqa: E402

import task as the  # noqa: E402


def say(**what) -> None:
    """One line of JSON to whoever started this."""
    print(json.dumps(what), file=SPEAK, flush=True)


def memory(field: str) -> int:
    """VmRSS, or VmHWM, its highest since `forget`, in bytes."""
    with open("/proc/self/status") as file:
        return next(int(line.split()[1]) * 1024 for line in file if line.startswith(field))


def forget() -> int:
    """Begin to watch the highest memory from here; returns what is held now, in bytes."""
    if platform.system() != "Linux":
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with open("/proc/self/clear_refs", "w") as file:
        file.write("5")
    return memory("VmRSS")


def highest() -> int:
    """The most held since, in bytes."""
    if platform.system() != "Linux":
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return memory("VmHWM")


def main(name: str, quantity: str) -> None:
    """Serve until stdin ends."""
    warnings.simplefilter("ignore")
    torch.set_num_threads(1)
    try:
        module = importlib.import_module(name)
    except ImportError as missing:
        return say(missing=str(missing))
    function = {**module.QUANTITIES, **getattr(module, "EVIDENCE", {})}[quantity]
    given = the.task()
    given = replace(
        given,
        game=the.game() if quantity == "shapley" else None,
        traces=the.traces(given.x.dtype) if quantity == "covariance" else None,
    )
    with contextlib.suppress(Exception):  # if it fails here it will say so below
        function(given.small())
    say(version=version(module.PACKAGE))
    value = None
    for line in sys.stdin:
        order, _, path = line.strip().partition(" ")
        if order == "save":
            torch.save(value, path)
            say(saved=path)
            continue
        try:
            before, began = forget(), the.clock()
            value = function(given)
            took = tuple(b - a for a, b in zip(began, the.clock(), strict=True))
            held = highest() - before
        except Exception as error:
            traceback.print_exc()
            return say(failed=f"{type(error).__name__}: {error}")
        if isinstance(value, the.Answer):
            value, took = value.value, value.seconds
        say(processor=took[0], clock=took[1], memory=held, columns=value.shape[-1])


if __name__ == "__main__":
    main(*sys.argv[1:])
