"""Chapter 4, "REPLAY": reverse mode through T steps from about k log_k T states.

The steps are the leaves of a k-ary tree. Going back, each node is run forward once, from its own
first state, to lay down the first states of its children; these are then taken last to first.
"""

import math
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import NamedTemporaryFile

import torch
from torch import Tensor
from tqdm import tqdm

from lib._identity import digest
from lib._validate import count, scalar
from lib.objective import Observable
from lib.training import Run
from lib.unrolling import adjoint_at_end, pull_back

# --- the tree ------------------------------------------------------------------------------------


def depth(steps: int, k: int) -> int:
    """⌈log_k T⌉, the height of the tree, in whole numbers; at least 1."""
    count("steps", steps)
    count("k", k, least=2)
    levels, reach = 1, k
    while reach < steps:
        levels, reach = levels + 1, reach * k
    return levels


def most_states(steps: int, k: int) -> int:
    """1 + (k − 1)⌈log_k T⌉: REPLAY holds no more states. Equation eq-replay-states."""
    return 1 + (k - 1) * depth(steps, k)


def most_steps(steps: int, k: int) -> int:
    """T⌈log_k T⌉: REPLAY takes no more forward steps. Equation eq-replay-steps."""
    return steps * depth(steps, k)


@dataclass
class Shelf:
    """Where states wait: in memory, or as files of `folder` those that stand for `spill` steps.

    Counts the most it held at once of either kind, and the forward steps that were taken for it.
    latest: (t, s_t), where the forward run of an interrupted call had come to.
    """

    folder: Path | None = None
    spill: int = 1000
    memory: dict[int, object] = field(default_factory=dict)
    disk: set[int] = field(default_factory=set)
    most_in_memory: int = 0
    most_on_disk: int = 0
    forward_steps: int = 0
    latest: tuple[int, object] | None = None

    def put(self, t: int, state, width: int) -> None:
        """Keep s_t, from which `width` steps will be run."""
        if self.folder is not None and width >= self.spill:
            save(self.file(t), state)
            self.disk.add(t)
        else:
            self.memory[t] = state
        self.most_in_memory = max(self.most_in_memory, len(self.memory))
        self.most_on_disk = max(self.most_on_disk, len(self.disk))

    def get(self, t: int):
        """s_t."""
        return self.memory[t] if t in self.memory else load(self.file(t))

    def drop(self, t: int) -> None:
        """Forget s_t."""
        if t in self.memory:
            del self.memory[t]
        else:
            self.disk.remove(t)
            self.file(t).unlink()

    def passed_by(self, t: int, state) -> None:
        """Count one forward step, to s_t; note s_t in the folder every `spill` steps."""
        self.forward_steps += 1
        if self.folder is not None and self.forward_steps % self.spill == 0:
            save(self.folder / LATEST, {"t": t, "state": state})

    def file(self, t: int) -> Path:
        """Where s_t is written."""
        return self.folder / f"state-{t}.pt"

    def __contains__(self, t: int) -> bool:
        return t in self.memory or t in self.disk


def backwards(
    steps: int,
    k: int,
    advance: Callable[[int, object], object],
    shelf: Shelf,
    *,
    behind: int | None = None,
    passed: Callable[[int], None] = lambda t: None,
) -> Iterator[tuple[int, object]]:
    """(t, s_t) for t = T, T − 1, …, 0, where s_{t+1} = advance(t, s_t) and the shelf holds s_0.

    Any kind of state will do.  behind: go on below this t, with what an interrupted walk left on
    the shelf.  passed: called with t before s_t is dropped, when it and all above is done with.
    Equations eq-replay-states, eq-replay-steps; Engstrom et al. (2025).
    """
    top = count("steps", steps) if behind is None else behind
    count("k", k, least=2)

    def split(first: int, last: int) -> range:
        """Where the children of a node begin, those already behind left out."""
        return range(first, min(last, top), math.ceil((last - first) / k))

    def run_forward(starts: range, goal: int):
        """Go to s_goal from the last of the starts we have, shelving the others on the way."""
        at = max(t for t in starts if t in shelf)
        state = shelf.get(at)
        if shelf.latest is not None:  # an interrupted call had come further
            t, latest = shelf.latest
            if at < t <= goal and not any(at < start <= t for start in starts):
                at, state, shelf.latest = t, latest, None
        for t in range(at, goal):
            state = advance(t, state)
            shelf.passed_by(t + 1, state)
            if t + 1 in starts:
                shelf.put(t + 1, state, starts.step)
        return state

    def node(first: int, last: int) -> Iterator[tuple[int, object]]:
        starts = split(first, last)
        run_forward(starts, starts[-1])
        for start in reversed(starts):
            if starts.step == 1:
                yield start, shelf.get(start)
            else:
                yield from node(start, min(start + starts.step, last))
            if start > first:
                passed(start)
                shelf.drop(start)

    if behind is None:
        yield steps, run_forward(split(0, steps), steps)
    if top > 0:
        yield from node(0, steps)
    passed(0)
    shelf.drop(0)


# --- influence -----------------------------------------------------------------------------------


@dataclass(frozen=True)
class Replay:
    """An influence (n,), and what it took: forward steps, and the most states held at once."""

    influence: Tensor
    forward_steps: int
    states_in_memory: int
    states_on_disk: int


def replay(
    run: Run,
    phi: Observable,
    *,
    k: int = 8,
    folder: Path | str | None = None,
    spill: int = 1000,
    progress: bool = True,
) -> Replay:
    """∂φ(w_T(β))/∂β_i for any optimiser, bit for bit that of `reverse_mode`, from few states.

    k: children a node; k = T stores every state.  folder: keep there, instead of in memory, the
    states from which `spill` steps or more will be run, and every `spill` steps where the run has
    come to. A call with the folder of an interrupted one goes on where that one stopped, having
    lost about k · spill steps at most; its report counts its own steps. When done it removes what
    it wrote. Files appear whole or not at all. Raises ValueError if
    the folder was begun for another run, observable, k or spill.
    Equation eq-metagradient; Engstrom et al. (2025).
    """
    scalar("phi", phi(run.w0))
    count("k", k, least=2)
    count("spill", spill)
    beta = run.ones()
    shelf = Shelf(None if folder is None else Path(folder), spill)
    behind, adjoint, total = None, None, beta.new_zeros(run.n)
    if shelf.folder is not None:
        behind, adjoint, total = _open(shelf, run, phi, k, total)
    if 0 not in shelf:
        shelf.put(0, run.start(), run.steps)

    def remember(t: int) -> None:
        if t in shelf.disk and t > 0:
            save(shelf.folder / PROGRESS, {"behind": t, "adjoint": adjoint, "total": total})

    walk = backwards(
        run.steps, k, lambda t, s: run.step(t, s, beta), shelf, behind=behind, passed=remember
    )
    if behind is None:
        _, last = next(walk)
        if not torch.isfinite(last).all():
            raise ValueError("rates: training diverged; take smaller ones")
        adjoint = adjoint_at_end(phi, last)
        if shelf.folder is not None:
            save(shelf.folder / END, {"w": last[0], "slope": adjoint[0]})
        del last
    bar = tqdm(walk, "replaying", run.steps, delay=10, disable=not progress, leave=False)
    for step in pull_back(run, adjoint, total, bar):
        _, adjoint, total = step
    if shelf.folder is not None:
        for name in (PROGRESS, END, LATEST, IDENTITY):
            (shelf.folder / name).unlink(missing_ok=True)
    return Replay(total, shelf.forward_steps, shelf.most_in_memory, shelf.most_on_disk)


# --- the folder ----------------------------------------------------------------------------------

PROGRESS, END, LATEST, IDENTITY = "progress.pt", "end.pt", "latest.pt", "identity.pt"
PARTIAL = "partial-replay-"


def save(path: Path, value) -> None:
    """Write a file that is there whole or not at all, whatever happens meanwhile."""
    with NamedTemporaryFile(dir=path.parent, prefix=PARTIAL, delete=False) as file:
        try:
            torch.save(value, file)
            file.flush()
            os.fsync(file.fileno())
            os.replace(file.name, path)
        except BaseException:
            Path(file.name).unlink(missing_ok=True)
            raise


def load(path: Path):
    """Read what `save` wrote."""
    return torch.load(path, weights_only=True)


def _open(shelf: Shelf, run: Run, phi: Observable, k: int, total: Tensor):
    """Find in the folder how far an earlier call came; (behind, adjoint, total) to go on from."""
    folder = shelf.folder
    folder.mkdir(parents=True, exist_ok=True)
    for partial in folder.glob(f"{PARTIAL}*"):  # left by a process that was killed
        partial.unlink()
    identity = digest(run, k, shelf.spill)
    if not (folder / IDENTITY).exists():
        if any(folder.iterdir()):
            raise ValueError(f"folder: expected an empty one, or one begun here: {folder}")
        save(folder / IDENTITY, identity)
    elif load(folder / IDENTITY) != identity:
        raise ValueError(f"folder: {folder} was begun for another run, k or spill")
    behind = adjoint = None
    if (folder / END).exists():
        end = load(folder / END)
        adjoint, behind = adjoint_at_end(phi, run.start(end["w"])), run.steps
        if not torch.equal(adjoint[0], end["slope"]):
            raise ValueError(f"folder: {folder} was begun for another observable phi")
    if (folder / PROGRESS).exists():
        progress = load(folder / PROGRESS)
        behind, adjoint, total = progress["behind"], progress["adjoint"], progress["total"]
    if (folder / LATEST).exists():
        shelf.latest = tuple(load(folder / LATEST).values())
    for path in folder.glob("state-*.pt"):
        t = int(path.stem.removeprefix("state-"))
        if behind is not None and t >= behind:
            path.unlink()
        else:
            shelf.disk.add(t)
    return behind, adjoint, total
