"""The autograder: one engine, one bank of parts an exercise.

    from lib.checks import leverage
    leverage.part_b(parameter_influence)     # grade
    leverage.part_b.hint()                   # a nudge

`progress()` shows how far you are.
"""

from html import escape
from importlib import import_module

from lib.checks import record

BANKS = (
    "croissants",
    "influence_derivation",
    "leverage",
    "curvature",
    "degenerate_ab",
    "bif_covariance",
    "sgld",
    "power_series",
    "transport",
    "unrolling",
    "source_replay",
    "convergence",
    "dln_stagewise",
    "distributional",
    "entangled",
    "similarity",
    "choose",
    "find_the_cause",
)


def parts(bank: str) -> dict:
    """The parts of one bank by name, in order: {'part_a': …}."""
    if bank not in BANKS:
        raise ValueError(f"bank: expected one of {', '.join(BANKS)}; got {bank!r}")
    module = import_module(f"lib.checks.{bank}")
    return {name: part for name, part in vars(module).items() if name.startswith("part_")}


class Progress:
    """Parts solved of all parts, a bar for each exercise."""

    def __init__(self, banks):
        solved = set(record.read()["passed"])
        self.rows = [
            (bank, sum(part.id in solved for part in parts(bank).values()), len(parts(bank)))
            for bank in banks
        ]

    def __repr__(self) -> str:
        return "\n".join(
            f"{bank:22s} {'█' * done}{'░' * (total - done)} {done}/{total}"
            for bank, done, total in self.rows
        )

    def _repr_html_(self) -> str:
        rows = "".join(
            f'<tr><td>{escape(bank)}</td><td><progress aria-label="{escape(bank)}" max="{total}" '
            f'value="{done}"></progress></td><td>{done} of {total}</td></tr>'
            for bank, done, total in self.rows
        )
        return f'<table class="check-progress">{rows}</table>'


def progress(bank: str | None = None) -> Progress:
    """How many parts of each exercise, or of one, have been passed on this machine."""
    return Progress(BANKS if bank is None else (bank,))
