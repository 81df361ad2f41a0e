"""REPLAY on whole numbers, its counts by recursion, its files when it is cut off anywhere."""

import json
import math
import os
import pathlib
import signal
import subprocess
import sys
import weakref
from dataclasses import replace
from typing import ClassVar

import numpy as np
import pytest
import torch

from lib import models
from lib import replay as rp
from lib import training as tr
from lib.models import MLP, squared_error
from lib.replay import Shelf, backwards, depth, most_states, most_steps, replay
from lib.training import SGD, Adam, Momentum, Run
from lib.unrolling import reverse_mode


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


# --- the tree, on any kind of state --------------------------------------------------------------


class State:
    """A whole number that knows how many of its kind are alive."""

    alive: ClassVar = weakref.WeakSet()

    def __init__(self, t):
        self.t = t
        self.alive.add(self)


def walk(steps, k):
    """The (t, s_t) in order, the shelf they came from, and the most states alive at any time."""
    shelf, most = Shelf(), 0
    State.alive.clear()

    def advance(t, state):
        nonlocal most
        assert state.t == t
        following = State(t + 1)
        most = max(most, len(State.alive))
        return following

    shelf.put(0, State(0), steps)
    order = []
    for t, state in backwards(steps, k, advance, shelf):
        order.append((t, state.t))
        assert len(shelf.memory) <= most_states(steps, k)
        del state
    return order, shelf, most


def repeated(length, k):
    """Forward steps inside a node whose first state is there: to its last child, and theirs."""
    width = -(-length // k)
    sizes = [min(width, length - start) for start in range(0, length, width)]
    return length - sizes[-1] + (sum(repeated(size, k) for size in sizes) if width > 1 else 0)


@pytest.mark.parametrize("k", range(2, 8))
def test_every_small_walk_back(k):
    for steps in range(1, 61):
        order, shelf, most = walk(steps, k)
        assert order == [(t, t) for t in range(steps, -1, -1)]
        assert shelf.memory == {} and shelf.disk == set() and shelf.most_on_disk == 0
        last = steps - (-(-steps // k)) * ((steps - 1) // -(-steps // k))
        # The root is run once, to T: its own way to its last child is not walked again.
        assert shelf.forward_steps == steps + repeated(steps, k) - (steps - last)
        assert shelf.forward_steps <= most_steps(steps, k)
        assert shelf.most_in_memory <= most_states(steps, k)
        assert most <= shelf.most_in_memory + 2  # and the two ends of a step


@pytest.mark.parametrize("k", [2, 3, 20])
def test_a_walk_goes_on_from_anywhere(k):
    for behind in range(18):
        shelf = Shelf(memory={0: 0})
        order = list(backwards(17, k, lambda t, state: state + 1, shelf, behind=behind))
        assert order == [(t, t) for t in range(behind - 1, -1, -1)] and shelf.memory == {}


def test_full_trees_need_as_much_as_any():
    for k, levels in [(2, 6), (3, 4), (5, 2), (7, 2)]:
        _, shelf, _ = walk(k**levels, k)
        assert shelf.most_in_memory == most_states(k**levels, k) == 1 + (k - 1) * levels
        assert shelf.forward_steps == k**levels + (levels - 1) * (k**levels - k ** (levels - 1))


@pytest.mark.parametrize("k", [2, 3, 5, 7, 10])
def test_depth_in_whole_numbers(k):
    assert depth(1, k) == 1
    for level in (1, 2, 3, 10, 40):
        assert depth(k**level, k) == level
        assert depth(k**level + 1, k) == level + 1
        assert depth(k**level - 1, k) == (level if k > 2 or level > 1 else 1)
    for steps in range(2, 200):
        height = depth(steps, k)
        assert k**height >= steps and (height == 1 or k ** (height - 1) < steps)
        assert most_states(steps, k) == 1 + (k - 1) * height
        assert most_steps(steps, k) == steps * height


# --- the same bits as reverse mode ---------------------------------------------------------------


def phi(w):
    return torch.sin(w.sum()) + w @ w


def network_run(steps, optimizer=None, seed=0, dtype=torch.float64):
    """Mini-batch training of a small penalised tanh network."""
    rng = np.random.default_rng(seed)
    mlp = MLP((2, 3, 1))
    x, y = (torch.tensor(rng.normal(size=s), dtype=dtype) for s in ((6, 2), 6))
    return Run(
        mlp.objective(x, y, 0.3, loss=squared_error),
        torch.tensor(rng.normal(size=mlp.p), dtype=dtype),
        Adam() if optimizer is None else optimizer,
        tr.resampled(6, 2, steps, generator(seed)),
        tr.cosine(0.05, steps),
    )


@pytest.mark.parametrize("steps", [1, 9, 31])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_bit_for_bit_reverse_mode(steps, dtype):
    run = network_run(steps, seed=steps, dtype=dtype)
    exact = reverse_mode(run, phi, progress=False)
    assert exact.dtype == dtype and (exact != 0).any()
    for k in (2, 3, 8, steps + 5):
        found = replay(run, phi, k=k, progress=False)
        assert torch.equal(found.influence, exact)
        assert found.states_on_disk == 0 < found.states_in_memory <= most_states(steps, k)
        assert steps <= found.forward_steps <= most_steps(steps, k)
    assert found.forward_steps == found.states_in_memory == steps  # k > T keeps them all


# Not getrusage: its peak outlives exec, so a child of a large process would begin with that.
MEASURE = r"""
import json, re, torch
from dataclasses import replace
from lib.objective import Objective
from lib.replay import replay
from lib.training import SGD, Run
from lib.unrolling import reverse_mode

def loss(objective, w, beta, batch):
    return 0.5 * beta[batch].sum() * (w @ w)

def phi(w):
    return w @ w

def peak():
    return int(re.search(r"VmHWM:\s*(\d+) kB", open("/proc/self/status").read())[1])

steps, x = 10**4, torch.ones(2, 1).double()
objective = Objective(lambda w, x_i: w, lambda f, y: f.sum(), x, x)
batches, rates = torch.arange(steps)[:, None] % 2, torch.full((steps,), 1e-4, dtype=torch.float64)
run = Run(objective, torch.ones(3000).double(), SGD(), batches, rates, loss)
short = replace(run, batches=batches[:2], rates=rates[:2])
for mode in (replay, reverse_mode):
    mode(short, phi, progress=False)
before = peak()
few = replay(run, phi, k=25, progress=False)
between = peak()
every = reverse_mode(run, phi, progress=False)
print(json.dumps([between - before, peak() - before, few.forward_steps,
                  torch.equal(few.influence, every), few.influence.tolist()]))
"""


@pytest.mark.skipif(not os.path.exists("/proc/self/status"), reason="Linux tells the peak there")
def test_memory_of_ten_thousand_steps():
    """Peak resident memory above that of a run of two steps, in a process of its own."""
    found = subprocess.run(
        [sys.executable, "-c", MEASURE], capture_output=True, text=True, check=True
    )
    few, every, forward_steps, same, influence = json.loads(found.stdout)
    assert every > 0.8 * 10**4 * 3000 * 8 / 1024  # it does keep them all
    assert few < 0.05 * every
    assert 10**4 <= forward_steps < 3 * math.log(10**4, 25) * 10**4
    # w_T = Π (1 − η β) w_0, every other step for either example.
    wanted = -2 * 3000 * (1 - 1e-4) ** (2 * 10**4 - 1) * 1e-4 * 5000
    assert same and influence == pytest.approx([wanted, wanted], rel=1e-10)


# --- cut off anywhere, and taken up again --------------------------------------------------------


class Stop:
    """Stands in for functions, and raises in the call of a given number, before or after it."""

    def __init__(self, monkeypatch, owner, *names, both=False):
        self.left, self.calls = None, 0
        for name in names:
            monkeypatch.setattr(owner, name, self.wrapped(getattr(owner, name), both))

    def wrapped(self, function, both):
        def call(*args, **options):
            self.tick()
            out = function(*args, **options)
            if both:
                self.tick()
            return out

        return call

    def tick(self):
        self.calls += 1
        if self.left is not None:
            self.left -= 1
            if self.left < 0:
                self.left = None
                raise KeyboardInterrupt


def whole(folder):
    """The folder has no half-written file: all can be read, none is a partial one."""
    for path in folder.iterdir():
        assert path.suffix == ".pt"
        torch.load(path, weights_only=True)
    return sorted(path.name for path in folder.iterdir())


@pytest.mark.parametrize("steps, k, spill", [(5, 2, 1), (9, 2, 3), (8, 3, 2), (4, 3, 1000)])
def test_interrupted_at_any_step(steps, k, spill, tmp_path, monkeypatch):
    run = network_run(steps, Momentum())
    exact = reverse_mode(run, phi, progress=False)
    stop = Stop(monkeypatch, Run, "step")
    quiet = {"k": k, "spill": spill, "progress": False}
    replay(run, phi, folder=tmp_path, **quiet)
    total = stop.calls
    assert whole(tmp_path) == []
    for at in range(total):
        stop.left = at
        with pytest.raises(KeyboardInterrupt):
            replay(run, phi, folder=tmp_path, **quiet)
        assert "identity.pt" in whole(tmp_path)
        found = replay(run, phi, folder=tmp_path, **quiet)
        assert torch.equal(found.influence, exact)
        assert whole(tmp_path) == []


def test_no_more_is_lost_than_is_said(tmp_path, monkeypatch):
    run, k, spill = network_run(64, SGD()), 2, 1
    stop = Stop(monkeypatch, Run, "step")
    replay(run, phi, k=k, progress=False)
    total = stop.calls
    for at in (31, 80):
        stop.left, stop.calls = at, 0
        with pytest.raises(KeyboardInterrupt):
            replay(run, phi, k=k, spill=spill, folder=tmp_path, progress=False)
        replay(run, phi, k=k, spill=spill, folder=tmp_path, progress=False)
        assert stop.calls - total <= 4 * k * spill


def test_interrupted_again_and_again(tmp_path, monkeypatch):
    run = network_run(30, SGD())
    exact = reverse_mode(run, phi, progress=False)
    stop = Stop(monkeypatch, Run, "step")
    for patience in (15, 25):
        found, attempts = None, 0
        while found is None:
            stop.left, attempts = patience, attempts + 1
            assert attempts < 100
            try:
                found = replay(run, phi, folder=tmp_path, k=2, spill=3, progress=False)
            except KeyboardInterrupt:
                whole(tmp_path)
        assert attempts > 3 and torch.equal(found.influence, exact)
        assert whole(tmp_path) == []


@pytest.mark.parametrize("steps, k, spill", [(4, 2, 1), (9, 3, 2)])
def test_interrupted_before_and_after_any_touch_of_a_file(steps, k, spill, tmp_path, monkeypatch):
    run = network_run(steps, Momentum())
    exact = reverse_mode(run, phi, progress=False)
    stop = Stop(monkeypatch, pathlib.Path, "unlink", both=True)
    for owner, name in ((os, "replace"), (os, "fsync"), (torch, "save")):
        monkeypatch.setattr(owner, name, stop.wrapped(getattr(owner, name), True))
    quiet = {"k": k, "spill": spill, "progress": False}
    replay(run, phi, folder=tmp_path, **quiet)
    total = stop.calls
    assert total > 40
    for at in range(total):
        stop.left = at
        with pytest.raises(KeyboardInterrupt):
            replay(run, phi, folder=tmp_path, **quiet)
        for path in tmp_path.glob("*.pt"):
            torch.load(path, weights_only=True)
        assert torch.equal(replay(run, phi, folder=tmp_path, **quiet).influence, exact)
        assert whole(tmp_path) == []


def test_states_go_to_disk_by_their_width(tmp_path, monkeypatch):
    run, saved = network_run(27), Stop(monkeypatch, torch, "save")
    inside = tmp_path / "new" / "folder"
    for spill, on_disk in [(1, 7), (2, 5), (3, 5), (4, 3), (9, 3), (10, 1), (27, 1), (28, 0)]:
        saved.calls = 0
        found = replay(run, phi, k=3, folder=str(inside), spill=spill, progress=False)
        assert found.states_on_disk == on_disk
        assert found.states_in_memory + found.states_on_disk == 7
        assert whole(inside) == []
    assert saved.calls == 4  # what it is, the end, and twice in 63 steps where it had come to
    assert torch.equal(found.influence, reverse_mode(run, phi, progress=False))


def killed_while_saving(folder, at):
    """For a process of its own: write half of the file of number `at`, then die."""
    save, number = torch.save, iter(range(1000))

    def half(value, file):
        save(value, file)
        if next(number) == at:
            file.truncate(file.tell() // 2)
            file.flush()
            os.kill(os.getpid(), signal.SIGKILL)

    torch.save = half
    replay(network_run(20), phi, k=2, spill=2, folder=folder, progress=False)


def test_killed_while_saving(tmp_path):
    code = f"import test_replay; test_replay.killed_while_saving({str(tmp_path)!r}, 8)"
    path = os.pathsep.join([os.path.dirname(__file__), os.getcwd()])
    dead = subprocess.run(
        [sys.executable, "-c", code], env={**os.environ, "PYTHONPATH": path}, check=False
    )
    assert dead.returncode == -signal.SIGKILL
    (partial,) = tmp_path.glob("partial-*")
    with pytest.raises(RuntimeError):
        torch.load(partial, weights_only=True)
    for path in tmp_path.glob("*.pt"):
        torch.load(path, weights_only=True)
    run = network_run(20)
    found = replay(run, phi, k=2, spill=2, folder=tmp_path, progress=False)
    assert torch.equal(found.influence, reverse_mode(run, phi, progress=False))
    assert found.forward_steps < replay(run, phi, k=2, progress=False).forward_steps
    assert whole(tmp_path) == []


@pytest.mark.parametrize("error", [OSError, KeyboardInterrupt])
def test_a_save_that_fails_leaves_nothing(error, tmp_path, monkeypatch):
    rp.save(tmp_path / "a.pt", torch.arange(3))
    assert rp.load(tmp_path / "a.pt").tolist() == [0, 1, 2]

    def full(value, file):
        file.write(b"half of it")
        raise error("no space left")

    with monkeypatch.context() as patch:
        patch.setattr(torch, "save", full)
        for name in ("a.pt", "b.pt"):
            with pytest.raises(error, match="no space left"):
                rp.save(tmp_path / name, torch.arange(4))
        assert whole(tmp_path) == ["a.pt"]
    assert rp.load(tmp_path / "a.pt").tolist() == [0, 1, 2]
    before = (tmp_path / "a.pt").read_bytes()
    with open(tmp_path / "a.pt", "rb") as reader:  # sees the old file, never a mixture
        rp.save(tmp_path / "a.pt", torch.arange(4))
        assert reader.read() == before
    assert rp.load(tmp_path / "a.pt").tolist() == [0, 1, 2, 3]


# --- whose folder it is --------------------------------------------------------------------------


def contents(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def begun(run, folder, monkeypatch, calls=20):
    """A folder in which a run was cut off on its way back."""
    with monkeypatch.context() as patch:
        Stop(patch, Run, "step").left = calls
        with pytest.raises(KeyboardInterrupt):
            replay(run, phi, k=2, spill=2, folder=folder, progress=False)
    return contents(folder)


def other_loss(objective, w, beta, batch):
    return 2 * tr.minibatch_loss(objective, w, beta, batch)


def scaled_loss(by):
    def loss(objective, w, beta, batch):
        return by * tr.minibatch_loss(objective, w, beta, batch)

    return loss


class Mine(Adam):
    """Another optimiser with the same options."""


def others(run):
    """Runs that differ from `run` in one thing each."""
    o = run.objective
    return {
        "w0": replace(run, w0=run.w0 + 1e-15),
        "batches": replace(run, batches=run.batches.flip(0)),
        "order in a batch": replace(run, batches=run.batches.flip(1)),
        "rates": replace(run, rates=run.rates * (1 + 1e-15)),
        "optimizer": replace(run, optimizer=Momentum()),
        "its kind": replace(run, optimizer=Mine()),
        "an option": replace(run, optimizer=replace(run.optimizer, second=0.99)),
        "loss": replace(run, loss=other_loss),
        "weights": replace(run, weights=7),
        "l2": replace(run, objective=replace(o, l2=0.31)),
        "x": replace(run, objective=replace(o, x=o.x.flip(0))),
        "y": replace(run, objective=replace(o, y=o.y.flip(0))),
        "predict": replace(run, objective=replace(o, predict=models.dot)),
        "loss of an example": replace(run, objective=replace(o, loss=models.logistic_loss)),
        "length": replace(run, batches=run.batches[:-1], rates=run.rates[:-1]),
    }


def test_a_folder_belongs_to_one_run(tmp_path, monkeypatch):
    run = network_run(16)
    before = begun(run, tmp_path, monkeypatch)
    assert {"identity.pt", "end.pt"} < set(before)
    options = {"k": 2, "spill": 2, "folder": tmp_path, "progress": False}
    for other in others(run).values():
        with pytest.raises(ValueError, match=r"^folder: .* was begun for another run"):
            replay(other, phi, **options)
    for change in ({"k": 3}, {"spill": 3}):
        with pytest.raises(ValueError, match=r"^folder: .* was begun for another run, k or spill"):
            replay(run, phi, **{**options, **change})
    with pytest.raises(ValueError, match=r"^folder: .* was begun for another observable phi"):
        replay(run, lambda w: 2 * phi(w), **options)
    assert contents(tmp_path) == before
    same = Run(run.objective, run.w0.clone(), Adam(), run.batches.clone(), run.rates.clone())
    found = replay(same, phi, **options)
    assert torch.equal(found.influence, reverse_mode(run, phi, progress=False))
    assert whole(tmp_path) == []


def test_what_a_loss_closes_over_is_part_of_the_run(tmp_path, monkeypatch):
    run = replace(network_run(16), loss=scaled_loss(2.0))
    before = begun(run, tmp_path, monkeypatch)
    options = {"k": 2, "spill": 2, "folder": tmp_path, "progress": False}
    with pytest.raises(ValueError, match=r"^folder: .* was begun for another run"):
        replay(replace(run, loss=scaled_loss(3.0)), phi, **options)
    assert contents(tmp_path) == before
    found = replay(replace(run, loss=scaled_loss(2.0)), phi, **options)
    assert torch.equal(found.influence, reverse_mode(run, phi, progress=False))
    assert whole(tmp_path) == []


def test_a_preconditioner_is_part_of_the_run(tmp_path, monkeypatch):
    run = network_run(16, SGD(torch.eye(13).double().repeat(16, 1, 1)))
    before = begun(run, tmp_path, monkeypatch)
    other = replace(run, optimizer=SGD(run.optimizer.preconditioner * 2))
    with pytest.raises(ValueError, match=r"^folder: .* was begun for another run"):
        replay(other, phi, k=2, spill=2, folder=tmp_path, progress=False)
    assert contents(tmp_path) == before


@pytest.mark.parametrize("name", ["notes.txt", "state-3.pt", "progress.pt", "film.partial"])
def test_a_folder_with_other_files_is_not_touched(name, tmp_path):
    (tmp_path / name).write_text("mine")
    with pytest.raises(ValueError, match=r"^folder: expected an empty one"):
        replay(network_run(5), phi, folder=tmp_path, progress=False)
    assert contents(tmp_path) == {name: b"mine"}


# --- errors --------------------------------------------------------------------------------------


def walk_of(steps, k, behind=None):
    return next(backwards(steps, k, lambda t, s: s, Shelf(memory={0: 0}), behind=behind))


@pytest.mark.parametrize(
    "name, call",
    [
        ("steps", lambda: depth(0, 2)),
        ("steps", lambda: most_states(2.0, 2)),
        ("k", lambda: depth(3, 1)),
        ("k", lambda: most_steps(3, 0)),
        ("steps", lambda: walk_of(0, 2)),
        ("k", lambda: walk_of(3, 1)),
        ("phi", lambda: replay(network_run(3), lambda w: w)),
        ("k", lambda: replay(network_run(3), phi, k=1)),
        ("k", lambda: replay(network_run(3), phi, k=2.0)),
        ("spill", lambda: replay(network_run(3), phi, spill=0)),
    ],
)
def test_bad_input_is_named(name, call):
    with pytest.raises(ValueError, match=f"^{name}: "):
        call()


def test_overflow_is_told():
    z = torch.tensor([[1.0], [-1.0]]).double()
    start, rates = torch.zeros(1).double(), tr.constant(1e200, 3)
    run = Run(models.location(z), start, SGD(), tr.full_batches(2, 3), rates)
    with pytest.raises(ValueError, match="run: the derivative overflowed going back at step 1"):
        replay(run, torch.sum, k=2, progress=False)
    with pytest.raises(ValueError, match="rates: training diverged"):
        replay(replace(run, w0=start + 1), torch.sum, k=2, progress=False)


def test_the_bar_can_be_turned_off(monkeypatch):
    made = []

    def bar(walk, *_, disable, delay, **__):
        made.append((disable, delay))
        return walk

    monkeypatch.setattr(rp, "tqdm", bar)
    for progress in (True, False):
        replay(network_run(4), phi, progress=progress)
    assert made == [(False, 10), (True, 10)]
