"""Retraining sweeps against loops of plain SGD; scores against SciPy, textbooks and simulations."""

import math
from dataclasses import dataclass, replace
from functools import partial
from itertools import product

import joblib
import numpy as np
import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from scipy import stats

from lib import evaluation as ev
from lib.counterfactuals import fit
from lib.evaluation import Recipe, Score, lds, reliability, sweep
from lib.influence import direct
from lib.models import MLP, location, logistic
from lib.objective import LossesOn, hessian, losses
from lib.random_problems import logistic_problem
from lib.replay import load
from lib.training import Momentum, constant, cosine

# Torch compiles its own rules when a forward derivative is first asked for.
pytestmark = pytest.mark.filterwarnings("ignore:.torch.jit.script:DeprecationWarning")

few = settings(deadline=None, max_examples=5, derandomize=True)
seeds = st.integers(0, 10**6)
NAN = float("nan")


def close(left, right, rtol=1e-11):
    left, right = np.asarray(left), np.asarray(right)
    assert left.shape == right.shape
    assert np.isfinite(left).all() and np.abs(left - right).max() <= rtol * np.abs(right).max()


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


# --- training ------------------------------------------------------------------------------------


def net_losses(w, x, y):
    """Cross-entropies of a tanh network 3-4-3 written out, shape (n,)."""
    first, last = w[:16].view(4, 4), w[16:].view(3, 5)
    f = torch.tanh(x @ first[:, :3].T + first[:, 3]) @ last[:, :4].T + last[:, 4]
    return -f.log_softmax(dim=1)[torch.arange(len(y)), y]


def descend(w, x, y, weights, batches, rates, penalty, momentum=0.0):
    """Plain SGD by autograd, on (1/b) Σ_B β_i L_i + ½ penalty ‖w‖²; (p,)."""
    memory = torch.zeros_like(w)
    for batch, rate in zip(batches, rates, strict=True):
        w = w.detach().requires_grad_()
        each = torch.stack([weights[i] * net_losses(w, x[[i]], y[[i]])[0] for i in batch])
        (each.sum() / len(batch) + 0.5 * penalty * (w**2).sum()).backward()
        memory = momentum * memory + w.grad
        w = w - rate * memory
    return w.detach()


N, PENALTY = 12, 0.6


def recipe(seed=0, *, batch=3, times=2, l2=PENALTY, **changes):
    rng = np.random.default_rng(seed)
    x = torch.tensor(rng.normal(size=(N, 3)) + 0.3)
    mlp = MLP((3, 4, 3))
    objective = mlp.objective(x, torch.tensor(rng.permutation(N) % 3), l2)
    return Recipe(objective, mlp.initial, batch, times, partial(cosine, 0.7), **changes)


def orders(one, seed):
    """The start and the orders of the epochs, as drawn one after the other from one generator."""
    draws = generator(seed)
    w0 = one.initial(draws)
    return w0, [torch.randperm(N, generator=draws).tolist() for _ in range(one.times)]


def cut(order, size):
    return [order[at : at + size] for at in range(0, len(order), size)]


def rates(steps):
    return [0.7 * (1 + math.cos(math.pi * t / steps)) / 2 for t in range(steps)]


OPTIMIZERS = {0.0: {}, 0.8: {"optimizer": Momentum(0.8)}}


def test_a_run_is_fixed_by_its_seed():
    one = recipe(times=5)
    run = one.run(7)
    w0, epochs = orders(one, 7)
    assert torch.equal(run.w0, w0) and run.objective is one.objective
    assert run.batches.tolist() == [batch for order in epochs for batch in cut(order, 3)]
    close(run.rates, rates(20))
    for order in run.batches.view(5, N):
        assert order.sort().values.tolist() == list(range(N))
    assert len({tuple(order) for order in epochs}) == 5
    assert torch.equal(one.run(7).batches, run.batches) and torch.equal(one.run(7).w0, w0)
    assert not torch.equal(one.run(8).batches, run.batches)
    assert not torch.equal(one.run(8).w0, w0)


@pytest.mark.parametrize("momentum", OPTIMIZERS)
@given(seeds)
@few
def test_reweighted_is_sgd_with_other_weights(momentum, seed):
    one = recipe(seed, **OPTIMIZERS[momentum])
    rng = np.random.default_rng(seed)
    beta = torch.tensor(rng.uniform(0, 2, size=(3, N)))
    beta[0] = 1
    beta[1, rng.choice(N, 4, replace=False)] = 0
    w0, epochs = orders(one, seed)
    batches = [batch for order in epochs for batch in cut(order, 3)]
    x, y = one.objective.x, one.objective.y
    found = one.reweighted(beta, seed)
    for row, w in zip(beta, found, strict=True):
        close(w, descend(w0, x, y, row, batches, rates(8), PENALTY / N, momentum))
        close(one.reweighted(row[None], seed)[0], w)
    close(one.reweighted(beta.float().double(), seed), found, 1e-6)
    assert one.reweighted(beta.float(), seed).dtype == torch.float64


@pytest.mark.parametrize("momentum", OPTIMIZERS)
@given(seeds, st.sampled_from([3, 6, 9, 12]))
@few
def test_anew_is_sgd_on_those_who_are_kept(momentum, seed, size):
    one = recipe(seed, **OPTIMIZERS[momentum])
    rng = np.random.default_rng(seed)
    kept = torch.zeros(3, N).double()
    for row in kept:
        row[rng.choice(N, size, replace=False)] = 1
    w0, epochs = orders(one, seed)
    found = one.anew(kept, seed)
    for row, w in zip(kept, found, strict=True):
        there = one.objective.take(row == 1)
        place = (row.cumsum(0) - 1).long().tolist()  # of an example among those kept
        batches = [
            batch for order in epochs for batch in cut([place[i] for i in order if row[i]], 3)
        ]
        assert len(batches) == 2 * size // 3 and there.n == size
        weights, steps = torch.ones(size), rates(len(batches))
        close(w, descend(w0, there.x, there.y, weights, batches, steps, PENALTY / size, momentum))
        close(one.anew(row[None], seed)[0], w)


@given(seeds)
@few
def test_anew_on_everybody_is_the_run(seed):
    one, ones = recipe(seed), torch.ones(2, N).double()
    x, y, run = one.objective.x, one.objective.y, one.run(seed)
    wanted = descend(run.w0, x, y, ones[0], run.batches.tolist(), run.rates, PENALTY / N)
    close(one.anew(ones, seed), torch.stack([wanted, wanted]))
    close(one.reweighted(ones, seed), torch.stack([wanted, wanted]))


def test_anew_seeks_the_minimum_of_the_weighted_loss():
    """With a penalty that counts: location has it at Σ β_i z_i/(Σ β_i + ρ)."""
    z = torch.tensor(np.random.default_rng(0).normal(size=(8, 2)) + 1)
    objective = replace(location(z), l2=3.0)
    one = Recipe(objective, lambda g: torch.zeros(2).double(), 4, 400, partial(constant, 0.2))
    kept = torch.tensor([[0, 1, 1, 0, 0, 1, 0, 1], [1, 1, 1, 0, 1, 0, 0, 0.0]]).double()
    close(one.anew(kept, 0), kept @ z / 7, 1e-9)
    with_all = torch.tensor([[0, 1, 1, 0, 0, 1, 0, 1.0]]).double()
    whole = replace(one, batch=8).reweighted(with_all, 0)
    close(whole, with_all @ z / 7, 1e-9)


@given(seeds)
@few
def test_what_is_dropped_has_no_effect(seed):
    one, rng = recipe(seed), np.random.default_rng(seed)
    kept = torch.zeros(1, N).double()
    kept[0, rng.choice(N, 6, replace=False)] = 1
    gone = kept[0] == 0
    x, y = one.objective.x.clone(), one.objective.y.clone()
    x[gone], y[gone] = 5 * torch.tensor(rng.normal(size=(6, 3))), (y[gone] + 1) % 3
    other = replace(one, objective=replace(one.objective, x=x, y=y))
    for route in ("anew", "reweighted"):
        w = getattr(one, route)(kept, seed)
        assert torch.equal(w, getattr(other, route)(kept, seed))
        ones = torch.ones_like(kept)
        assert not torch.equal(getattr(one, route)(ones, seed), getattr(other, route)(ones, seed))


# --- data weights --------------------------------------------------------------------------------


def test_random_subsets_are_all_alike():
    beta = ev.random_subsets(5, 2, 6000, np.random.default_rng(0))
    assert beta.shape == (6000, 5) and beta.dtype == torch.float64
    assert ((beta == 0) | (beta == 1)).all() and (beta.sum(dim=1) == 2).all()
    _, counts = np.unique(beta.numpy(), axis=0, return_counts=True)
    assert len(counts) == 10 and stats.chisquare(counts).pvalue > 1e-3
    assert torch.equal(beta, ev.random_subsets(5, 2, 6000, np.random.default_rng(0)))
    assert not torch.equal(beta, ev.random_subsets(5, 2, 6000, np.random.default_rng(1)))
    assert (ev.random_subsets(3, 3, 2, np.random.default_rng(0)) == 1).all()


@given(st.lists(st.integers(-3, 3), min_size=1, max_size=9), st.data())
@settings(deadline=None, max_examples=60, derandomize=True)
def test_removals_by_a_loop(scores, data):
    n = len(scores)
    sizes = data.draw(st.lists(st.integers(0, n), max_size=4))
    found = ev.removals(torch.tensor(scores).double(), sizes)
    wanted = []
    for size in sizes:
        row, left = [1.0] * n, list(range(n))
        for _ in range(size):
            highest = max(left, key=lambda i: scores[i])  # of equals the one that comes before
            left.remove(highest)
            row[highest] = 0.0
        wanted.append(row)
    assert found.tolist() == wanted and found.shape == (len(sizes), n)
    assert found.dtype == torch.float64


@given(seeds)
@few
def test_predicted_effects_by_a_loop(seed):
    rng = np.random.default_rng(seed)
    influences, beta = rng.normal(size=(6, 3)), rng.uniform(0, 2, size=(4, 6))
    wanted = [
        [sum((beta[r, i] - 1) * influences[i, q] for i in range(6)) for q in range(3)]
        for r in range(4)
    ]
    close(ev.predicted_effects(torch.tensor(influences), torch.tensor(beta)), wanted)
    single = ev.predicted_effects(torch.tensor(influences).float(), torch.tensor(beta))
    assert single.dtype == torch.float32
    close(single, np.array(wanted, dtype=np.float32), 1e-5)


# --- the sweep -----------------------------------------------------------------------------------


def watched(one):
    return LossesOn(replace(one.objective, l2=0.0).take(torch.tensor([4, 0, 7])))


def random_weights(seed, rows=5):
    return torch.tensor(np.random.default_rng(seed).uniform(0, 2, size=(rows, N)))


def one_by_one(one, beta, which):
    """φ of every retraining by the loop above, shape (seeds, m, 3)."""
    x, y, rows = one.objective.x, one.objective.y, torch.tensor([4, 0, 7])
    found = []
    for seed, row in product(which, beta):
        w0, epochs = orders(one, seed)
        batches = [batch for order in epochs for batch in cut(order, 3)]
        w = descend(w0, x, y, row, batches, rates(8), PENALTY / N)
        found.append(net_losses(w, x[rows], y[rows]))
    return torch.stack(found).view(len(which), len(beta), 3)


@pytest.mark.parametrize("chunk", [1, 2, 5, 64])
def test_a_sweep_retrains_one_by_one(chunk):
    one, beta = recipe(1), random_weights(1)
    found = sweep(one.reweighted, watched(one), beta, (3, 1), chunk=chunk, progress=False)
    close(found, one_by_one(one, beta, (3, 1)))
    default = sweep(one.reweighted, watched(one), beta, chunk=chunk, progress=False)
    close(default, one_by_one(one, beta, (0,)))


@dataclass(frozen=True)
class Logged:
    """π(β) = by (β + seed), that notes its calls in a file and fails while another file exists."""

    folder: object
    by: float = 1.0
    failing_seed: int = -1
    error: type = RuntimeError

    def __call__(self, beta, seed):
        with open(self.folder / "log.txt", "a") as log:
            log.write(f"{seed}:{len(beta)} ")
        if seed == self.failing_seed and (self.folder / "fails").exists():
            raise self.error("stopped here")
        return self.by * (beta + seed)

    def calls(self):
        """What was called since this was last asked."""
        log = self.folder / "log.txt"
        text = log.read_text() if log.exists() else ""
        log.unlink(missing_ok=True)
        return text.split()


def total(w):
    return w.sum()


def ends(w):
    return w[[0, -1]]


@pytest.mark.parametrize("phi", [total, ends])
def test_shapes_and_jobs(phi, tmp_path):
    training, beta = Logged(tmp_path), torch.tensor(np.random.default_rng(0).normal(size=(5, 3)))
    found = sweep(training, phi, beta, (4, 0, 7), chunk=2, progress=False)
    assert training.calls() == [f"{s}:{m}" for s in (4, 0, 7) for m in (2, 2, 1)]
    wanted = [[phi(row + s).numpy() for row in beta] for s in (4, 0, 7)]
    assert np.array_equal(found, wanted)
    assert found.shape == ((3, 5) if phi is total else (3, 5, 2))
    sweep(training, phi, beta.repeat(26, 1), (1,), progress=False)
    assert training.calls() == ["1:64", "1:64", "1:2"]
    assert sweep(training, phi, beta.float(), (1,), progress=False).dtype == torch.float32


@pytest.mark.parametrize("backend", ["threading", "loky"])
def test_who_does_the_jobs_does_not_matter(backend):
    one, beta = recipe(2), random_weights(2)
    here = sweep(one.reweighted, watched(one), beta, (0, 5), chunk=2, progress=False)
    with joblib.parallel_config(backend, n_jobs=2):
        there = sweep(one.reweighted, watched(one), beta, (0, 5), chunk=2, progress=False)
    assert torch.equal(here, there)
    close(here, one_by_one(one, beta, (0, 5)))


def test_a_cluster_does_the_jobs(tmp_path):
    distributed = pytest.importorskip("distributed")
    one, beta = recipe(3), random_weights(3)
    here = sweep(one.reweighted, watched(one), beta, (0, 5), chunk=2, progress=False)
    cluster = distributed.LocalCluster(
        n_workers=2,
        threads_per_worker=1,
        processes=True,
        dashboard_address=None,
        local_directory=tmp_path,
    )
    with cluster, distributed.Client(cluster), joblib.parallel_config("dask"):
        there = sweep(
            one.reweighted, watched(one), beta, (0, 5), chunk=2, folder=tmp_path, progress=False
        )
    assert torch.equal(here, there) and len(list(tmp_path.glob("*.pt"))) == 6


@dataclass(frozen=True)
class Threads:
    """Says how many threads it had; fails if it is told to."""

    fails: bool = False

    def __call__(self, beta, seed):
        if self.fails:
            raise RuntimeError("stopped here")
        return beta.new_full((len(beta), 1), torch.get_num_threads())


def test_a_job_has_one_thread_and_gives_the_others_back():
    before = torch.get_num_threads()
    torch.set_num_threads(3)
    try:
        assert sweep(Threads(), total, torch.ones(3, 2), progress=False).tolist() == [[1, 1, 1]]
        assert torch.get_num_threads() == 3
        with pytest.raises(RuntimeError, match="stopped here"):
            sweep(Threads(fails=True), total, torch.ones(3, 2), progress=False)
        assert torch.get_num_threads() == 3
    finally:
        torch.set_num_threads(before)


@pytest.mark.parametrize("error", [RuntimeError, KeyboardInterrupt])
def test_what_is_there_is_not_computed_again(error, tmp_path):
    training = Logged(tmp_path, failing_seed=2, error=error)
    beta = torch.tensor(np.random.default_rng(0).normal(size=(5, 3)))
    inside = tmp_path / "new" / "folder"
    options = {"chunk": 3, "folder": str(inside), "progress": False}
    (tmp_path / "fails").touch()
    for _ in range(2):
        with pytest.raises(error, match="stopped here"):
            sweep(training, ends, beta, (0, 1, 2, 3), **options)
    assert training.calls() == ["0:3", "0:2", "1:3", "1:2", "2:3", "2:3"]
    assert len(list(inside.glob("*.pt"))) == 4
    (tmp_path / "fails").unlink()
    found = sweep(training, ends, beta, (0, 1, 2, 3), **options)
    assert training.calls() == ["2:3", "2:2", "3:3", "3:2"]
    assert torch.equal(found, torch.stack([(beta + s)[:, [0, -1]] for s in range(4)]))
    backwards = sweep(training, ends, beta, (3, 1), **options)
    assert training.calls() == [] and torch.equal(backwards, found[[3, 1]])
    more = torch.cat([beta, beta[:1]])  # the first job is the same, the second another
    assert torch.equal(sweep(training, ends, more, (0,), **options)[0, :5], found[0])
    assert training.calls() == ["0:3"]


def times(by):
    return lambda w: by * w[:2]


def test_a_folder_mixes_nothing_up(tmp_path):
    beta = torch.tensor(np.random.default_rng(0).normal(size=(4, 3)))
    moved = beta.clone()
    moved[3, 2] += 1e-14
    calls = [
        (Logged(tmp_path), times(1.0), beta),
        (Logged(tmp_path, by=1 + 1e-15), times(1.0), beta),
        (Logged(tmp_path), times(1 + 1e-15), beta),
        (Logged(tmp_path), ends, beta),
        (Logged(tmp_path), times(1.0), moved),
        (Logged(tmp_path), times(1.0), beta.flip(0)),
        (Logged(tmp_path), times(1.0), beta.flip(1)),
        (Logged(tmp_path), times(1.0), beta.float()),
        (Logged(tmp_path), times(1.0), beta[:2]),
    ]
    for which in ((0,), (1, 0)):
        for kept in (False, True):  # computed, then looked up
            for training, phi, weights in calls:
                found = sweep(training, phi, weights, which, folder=tmp_path, progress=False)
                wanted = [[phi(training.by * (row + s)) for row in weights] for s in which]
                wanted = torch.stack([torch.stack(row) for row in wanted])
                assert torch.equal(found, wanted) and found.dtype == weights.dtype
                assert len(training.calls()) == (0 if kept else 1)  # seed 0 was there already
    first, *_ = calls
    with pytest.raises(ValueError, match="cannot tell two objects of type Generator apart"):
        sweep(first[0], times(generator()), beta, folder=tmp_path, progress=False)


@pytest.mark.parametrize("error", [OSError, KeyboardInterrupt])
def test_no_file_is_ever_torn(error, tmp_path, monkeypatch):
    training, beta = Logged(tmp_path), torch.eye(6).double()
    save, inside, left = torch.save, tmp_path / "kept", 2

    def full(value, file):
        nonlocal left
        left -= 1
        if left < 0:
            file.write(b"half of it")
            raise error("no space left")
        save(value, file)

    with monkeypatch.context() as patch:
        patch.setattr(torch, "save", full)
        with pytest.raises(error, match="no space left"):
            sweep(training, ends, beta, chunk=2, folder=inside, progress=False)
    training.calls()
    assert [path.suffix for path in inside.iterdir()] == [".pt"] * 2
    assert all(load(path).shape == (2, 2) for path in inside.iterdir())
    (inside / "partial-replay-x").write_bytes(b"of a process that was killed")
    found = sweep(training, ends, beta, chunk=2, folder=inside, progress=False)
    assert torch.equal(found[0], beta[:, [0, -1]]) and training.calls() == ["0:2"]


class Bar:
    made: list  # by the test that patches it in

    def __init__(self, *, total, desc, delay, disable):
        self.options, self.steps, self.closed = (total, desc, delay, disable), [], False
        self.made.append(self)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.closed = True

    def update(self, by):
        self.steps.append(by)


def test_the_bar_counts_models(tmp_path, monkeypatch):
    monkeypatch.setattr(Bar, "made", [], raising=False)
    monkeypatch.setattr(ev, "tqdm", Bar)
    training, beta = Logged(tmp_path), torch.eye(5).double()
    sweep(training, ends, beta, (0, 1), chunk=3, folder=tmp_path)
    sweep(training, ends, beta, (0, 1, 2), chunk=3, folder=tmp_path, progress=False)
    first, second = Bar.made
    assert first.options == (10, "models", 10, False) and first.steps == [0, 3, 2, 3, 2]
    assert second.options == (15, "models", 10, True) and second.steps == [10, 3, 2]
    assert first.closed and second.closed


def test_the_bar_is_seen_only_if_it_takes_long(capsys):
    sweep(Threads(), total, torch.ones(3, 2), progress=True)
    assert capsys.readouterr() == ("", "")


# --- scores --------------------------------------------------------------------------------------


def rng_of(seed):
    return np.random.default_rng(seed)


@given(seeds, st.integers(3, 12), st.integers(1, 4), st.booleans())
@few
def test_lds_is_scipys_correlation(seed, m, k, ties):
    rng = rng_of(seed)
    a, b = rng.normal(size=(m, k)), rng.normal(size=(m, k))
    b = 0.6 * a + b
    if ties:
        a, b = np.round(a), np.round(b)
    assume((np.ptp(a, axis=0) > 0).all() and (np.ptp(b, axis=0) > 0).all())
    for ranks, other in ((True, stats.spearmanr), (False, stats.pearsonr)):
        wanted = np.mean([other(a[:, q], b[:, q]).statistic for q in range(k)])
        found = lds(torch.tensor(a), torch.tensor(b), rng_of(0), ranks=ranks, resamples=5)
        assert abs(found.value - wanted) < 1e-12
        assert np.isfinite(found.error) and found.error >= 0
    default = lds(torch.tensor(a), torch.tensor(b), rng_of(0), resamples=5)
    assert default == lds(torch.tensor(a), torch.tensor(b), rng_of(0), ranks=True, resamples=5)


@given(seeds)
@few
def test_what_lds_does_not_see(seed):
    rng, lds = rng_of(seed), partial(ev.lds, resamples=20)
    a, b = torch.tensor(rng.normal(size=(9, 3))), torch.tensor(rng.normal(size=(9, 3)))
    shift, scale = torch.tensor(rng.normal(size=3)), torch.tensor(rng.uniform(0.5, 2, size=3))
    ranked = lds(a, b, rng_of(1))
    assert lds(a + shift, b.exp() * scale, rng_of(1)) == ranked
    assert lds(a**3, b - shift, rng_of(1)) == ranked
    plain = lds(a, b, rng_of(1), ranks=False)
    moved = lds(a * scale + shift, b - shift, rng_of(1), ranks=False)
    assert abs(moved.value - plain.value) < 1e-12 and abs(moved.error - plain.error) < 1e-12
    curved = lds(a, b.exp(), rng_of(1), ranks=False)
    assert abs(curved.value - plain.value) > 1e-4


@pytest.mark.parametrize("ranks", [True, False])
def test_lds_of_perfect_predictions(ranks):
    b = torch.tensor(rng_of(0).normal(size=(8, 3)))
    for sign in (1, -1):
        found = lds(sign * b, b, rng_of(0), ranks=ranks)
        assert abs(found.value - sign) < 1e-12 and found.error < 1e-12
    half = lds(torch.cat([b, -b], dim=1), torch.cat([b, b], dim=1), rng_of(0), ranks=ranks)
    assert abs(half.value) < 1e-12 and half.error > 0.1  # observables are drawn anew too


def test_the_error_can_be_told_with_three_rows():
    """One row in nine resamples is drawn three times: no correlation, and no warning."""
    a, b = torch.tensor([[0.1], [0.3], [0.7]]).double(), torch.tensor([[1.0], [3], [2]]).double()
    for ranks in (True, False):
        found = lds(a, b, rng_of(0), ranks=ranks, resamples=300)
        assert 0 < found.error < 1 and np.isfinite(found.error)
    # With two of three rows drawn, the correlation is of two points: 1 or −1.
    assert found.value == pytest.approx(stats.pearsonr(a[:, 0], b[:, 0]).statistic)


def test_a_constant_resample_counts_for_nothing():
    """Outcomes that differ in one row of four: without it there is nothing to correlate."""
    b = torch.tensor([[0.1], [0.1], [0.1], [0.4]]).double()
    for ranks in (True, False):
        found = lds(b.clone(), b, rng_of(0), ranks=ranks, resamples=400)
        assert found.value == pytest.approx(1) and found.error < 1e-12


def test_the_error_by_its_definition():
    """Rows and columns drawn anew, again and again: the spread of SciPy's correlations."""
    rng = rng_of(3)
    a = rng.normal(size=(12, 4))
    b = a * np.array([1.5, 1.0, 0.5, 0.0]) + rng.normal(size=(12, 4))
    drawn, draws = [], rng_of(4)
    for _ in range(600):
        rows, columns = draws.integers(12, size=12), draws.integers(4, size=4)
        each = [stats.pearsonr(a[rows, q], b[rows, q]).statistic for q in columns]
        drawn.append(np.mean(each))
    found = lds(torch.tensor(a), torch.tensor(b), rng_of(5), ranks=False, resamples=600)
    assert abs(found.error / np.std(drawn, ddof=1) - 1) < 0.12


def population(rng, m, k, noise, shared, uneven):
    """Predictions and outcomes of m subsets and k observables from one endless population of both.

    shared: noise of a subset that all observables see.  uneven: how much better some are foretold.
    """
    true = rng.normal(size=(m, 3)) @ rng.normal(size=(3, k)) / 3**0.5
    quality = np.exp(uneven * rng.normal(size=k))
    common = rng.normal(size=(m, 1)) @ np.ones((1, k))
    outcomes = true + noise * quality * rng.normal(size=(m, k)) + shared * common
    return torch.tensor(true), torch.tensor(outcomes)


def honest(draw, ranks=True):
    """The bootstrap's error over the spread of the score from one pair of (m, k) to another."""
    rng = rng_of(6)
    values = [lds(*draw(rng), rng, ranks=ranks, resamples=2).value for _ in range(300)]
    errors = [lds(*draw(rng), rng, ranks=ranks, resamples=30).error for _ in range(15)]
    return np.mean(errors) / np.std(values)


@pytest.mark.parametrize(
    "noise, shared, uneven, ranks",
    [
        (1.0, 0.0, 0.0, True),
        (1.0, 0.0, 1.0, True),
        (0.3, 1.0, 0.0, True),
        (0.3, 1.0, 1.0, False),
        (0.1, 2.0, 0.0, True),  # all observables see nearly the same
    ],
)
def test_the_error_is_that_of_other_subsets_and_observables(noise, shared, uneven, ranks):
    ratio = honest(lambda rng: population(rng, 30, 12, noise, shared, uneven), ranks)
    assert 0.9 < ratio < 1.5


def test_the_error_is_too_large_where_nothing_is_shared():
    """Rows and columns drawn anew count noise of single entries thrice, as Owen (2007) shows."""

    def unrelated(rng):
        return tuple(torch.tensor(rng.normal(size=(2, 30, 12))))

    assert abs(honest(unrelated) / 3**0.5 - 1) < 0.15


def test_score_prints_value_and_error():
    assert str(Score(0.4567, 0.0312)) == "0.46 ± 0.03"
    assert f"{Score(-1.0, 0.0)}" == "-1.00 ± 0.00"


# --- reliability ---------------------------------------------------------------------------------


def simulated(rng, count, m, k, effect, noise, shift=1.0):
    """Effect of the weights, a seed's own shift, and noise: (seeds, m, k); and the effects."""
    weights = effect * rng.normal(size=(m, k))
    outcomes = (
        weights + shift * rng.normal(size=(count, 1, k)) + noise * rng.normal(size=(count, m, k))
    )
    return torch.tensor(outcomes), weights


@pytest.mark.parametrize(
    "count, m, effect, noise", [(3, 9, 1.0, 1.0), (2, 7, 0.5, 1.5), (5, 12, 0.0, 1.0)]
)
def test_reliability_by_simulation(count, m, effect, noise):
    """The ratio of the two mean squares is 1/F times σ²/(Sτ² + σ²), and E[1/χ²_d] = 1/(d − 2)."""
    outcomes, _ = simulated(rng_of(0), count, m, 40_000, effect, noise)
    share = noise**2 / (count * effect**2 + noise**2)
    found = reliability(outcomes)
    assert found.shape == (40_000,)
    error = found.std().item() / 40_000**0.5
    assert abs(found.mean().item() - (1 - share * (m - 1) / (m - 3))) < 4 * error


@given(seeds, st.integers(2, 5), st.integers(2, 7))
@few
def test_reliability_is_cronbachs_alpha(seed, count, m):
    """α = K/(K − 1) (1 − Σ variances of the items/variance of their sum), the seeds as items."""
    outcomes, _ = simulated(rng_of(seed), count, m, 3, 1.0, 0.7)
    items = outcomes.numpy()
    wanted = [
        count
        / (count - 1)
        * (1 - items[:, :, q].var(axis=1, ddof=1).sum() / items[:, :, q].sum(axis=0).var(ddof=1))
        for q in range(3)
    ]
    close(reliability(outcomes), wanted, 1e-9)


@given(seeds)
@few
def test_a_shift_of_a_seed_plays_no_part(seed):
    rng = rng_of(seed)
    outcomes, _ = simulated(rng, 3, 6, 2, 1.0, 0.7)
    shift = torch.tensor(10 * rng.normal(size=(3, 1, 2)))
    close(reliability(outcomes + shift), reliability(outcomes), 1e-9)
    close(reliability(7 * outcomes), reliability(outcomes), 1e-9)
    close(reliability(outcomes[0] + shift), [1.0, 1.0], 1e-9)  # all seeds agree, up to it
    other = outcomes + torch.tensor(rng.normal(size=(3, 6, 2)))
    assert (reliability(other) - reliability(outcomes)).abs().min() > 1e-6


@pytest.mark.parametrize("count, effect", [(3, 1.0), (2, 0.5), (6, 0.4)])
def test_no_prediction_correlates_better_than_the_root_of_reliability(count, effect):
    """The best one knows the effects themselves; then it does as well as that."""
    outcomes, weights = simulated(rng_of(1), count, 40_000, 2, effect, 1.0)
    averages = outcomes.mean(dim=0).numpy()
    reached = [np.corrcoef(weights[:, q], averages[:, q])[0, 1] for q in range(2)]
    close(reached, reliability(outcomes).sqrt(), 0.03)
    worse = weights + 0.5 * effect * rng_of(2).normal(size=weights.shape)
    for q in range(2):
        assert np.corrcoef(worse[:, q], averages[:, q])[0, 1] < 0.95 * reached[q]


# --- mislabelled data ----------------------------------------------------------------------------


@pytest.mark.parametrize("seed", range(3))
def test_self_influence_is_the_derivative_of_an_examples_own_loss(seed):
    objective = logistic_problem(rng_of(seed)).objective
    n, p = objective.n, objective.x.shape[1]
    start, step = torch.zeros(p).double(), 1e-3
    w = fit(objective, torch.ones(n).double(), start)

    def own(by):
        moved = fit(objective, 1 + by * step * torch.eye(n).double(), w)
        return torch.stack([losses(objective, v)[i] for i, v in enumerate(moved)])

    wanted = (8 * (own(1) - own(-1)) - (own(2) - own(-2))) / (12 * step)
    solve = direct(hessian(objective, w))
    found = ev.self_influence(objective, w, solve)
    close(found, wanted, 1e-8)
    assert (found < 0).all()
    for chunk in (1, 4, n, n + 1):
        close(ev.self_influence(objective, w, solve, chunk=chunk), found)


@given(st.lists(st.tuples(st.integers(-2, 3), st.booleans()), min_size=2, max_size=12))
@settings(deadline=None, max_examples=60, derandomize=True)
def test_detection_counts_pairs(pairs):
    bad, good = [s for s, wrong in pairs if wrong], [s for s, wrong in pairs if not wrong]
    assume(bad and good)
    wins = [1.0 if b > g else 0.5 if b == g else 0.0 for b, g in product(bad, good)]
    suspicion, wrong = (torch.tensor(column) for column in zip(*pairs, strict=True))
    assert abs(ev.detection(suspicion.double(), wrong) - np.mean(wins)) < 1e-12
    found = ev.found_by_inspection(suspicion.double(), wrong)
    left, met, wanted = list(range(len(pairs))), 0, [0.0]
    while left:
        looked_at = max(left, key=lambda i: pairs[i][0])  # of equals the one that comes before
        left.remove(looked_at)
        met += pairs[looked_at][1]
        wanted.append(met / len(bad))
    close(found, wanted, 1e-6)


# --- errors --------------------------------------------------------------------------------------

GOOD = recipe()
ONES = torch.ones(2, N).double()
TABLE = torch.tensor(rng_of(0).normal(size=(5, 2)))
CUBE = torch.tensor(rng_of(0).normal(size=(3, 5, 2)))
FLAT = torch.cat([TABLE[:, :1], torch.ones(5, 1).double()], dim=1)
MODEL = logistic(TABLE, torch.tensor([1.0, -1, 1, 1, -1]).double(), l2=0.3)
WRONG = torch.tensor([True, False, False, True, False])
SOLVE = direct(torch.eye(2).double())


def half(first=1.0):
    kept = ONES.clone()
    kept[:, :6] = 0
    kept[0, 0] = first
    kept[0, 6] = 1 - first
    return kept


def diverging(beta, seed):
    return beta * NAN


@pytest.mark.parametrize(
    "name, call",
    [
        ("batch", lambda: recipe(batch=5).run(0)),
        ("batch", lambda: recipe(batch=0).run(0)),
        ("batch", lambda: recipe(batch=13).run(0)),
        ("times", lambda: recipe(times=0).run(0)),
        (
            "rates",
            lambda: replace(GOOD, schedule=lambda steps: constant(1e200, steps)).reweighted(
                ONES, 0
            ),
        ),
        (
            "rates",
            lambda: replace(GOOD, schedule=lambda steps: constant(1e200, steps)).anew(ONES, 0),
        ),
        ("beta", lambda: GOOD.reweighted(ONES[:, 1:], 0)),
        ("beta", lambda: GOOD.reweighted(ONES * NAN, 0)),
        ("kept", lambda: GOOD.anew(ONES[0], 0)),
        ("kept", lambda: GOOD.anew(ONES[:, 1:], 0)),
        ("kept", lambda: GOOD.anew(ONES * NAN, 0)),
        ("kept", lambda: GOOD.anew(ONES.long(), 0)),
        ("kept", lambda: GOOD.anew(2 * ONES, 0)),
        ("kept", lambda: GOOD.anew(0 * ONES, 0)),
        ("kept", lambda: GOOD.anew(half(0.5), 0)),
        ("kept", lambda: GOOD.anew(torch.cat([half(), ONES]), 0)),
        (
            "kept: expected a multiple of batch = 3 ones, got 11",
            lambda: GOOD.anew(ONES - torch.eye(N)[:2], 0),
        ),
        ("m", lambda: GOOD.anew(ONES[:0], 0)),
        ("n", lambda: ev.random_subsets(0, 1, 2, rng_of(0))),
        ("size", lambda: ev.random_subsets(4, 5, 2, rng_of(0))),
        ("size", lambda: ev.random_subsets(4, 0, 2, rng_of(0))),
        ("many", lambda: ev.random_subsets(4, 2, 0, rng_of(0))),
        ("scores", lambda: ev.removals(TABLE, [1])),
        ("scores", lambda: ev.removals(TABLE[:, 0] * NAN, [1])),
        ("sizes", lambda: ev.removals(TABLE[:, 0], [1, 6])),
        ("sizes", lambda: ev.removals(TABLE[:, 0], [-1])),
        ("sizes", lambda: ev.removals(TABLE[:, 0], [0.5])),
        ("beta", lambda: sweep(GOOD.reweighted, total, ONES[0], progress=False)),
        ("beta", lambda: sweep(GOOD.reweighted, total, ONES.long(), progress=False)),
        ("beta", lambda: sweep(GOOD.reweighted, total, ONES * NAN, progress=False)),
        ("m", lambda: sweep(GOOD.reweighted, total, ONES[:0], progress=False)),
        ("chunk", lambda: sweep(GOOD.reweighted, total, ONES, chunk=0, progress=False)),
        ("chunk", lambda: sweep(GOOD.reweighted, total, ONES, chunk=2.0, progress=False)),
        ("seeds", lambda: sweep(GOOD.reweighted, total, ONES, (), progress=False)),
        ("seeds", lambda: sweep(GOOD.reweighted, total, ONES, (1, 2, 1), progress=False)),
        ("phi", lambda: sweep(diverging, total, ONES, progress=False)),
        (
            "rates",
            lambda: sweep(
                replace(GOOD, schedule=partial(constant, 1e200)).reweighted,
                total,
                ONES,
                progress=False,
            ),
        ),
        ("influences", lambda: ev.predicted_effects(TABLE[0], torch.ones(3, 5).double())),
        ("influences", lambda: ev.predicted_effects(TABLE * NAN, torch.ones(3, 5).double())),
        ("beta", lambda: ev.predicted_effects(TABLE, torch.ones(3, 4).double())),
        ("beta", lambda: ev.predicted_effects(TABLE, torch.ones(5).double())),
        ("outcomes", lambda: lds(TABLE, TABLE[:, 0], rng_of(0))),
        ("outcomes", lambda: lds(TABLE, TABLE * NAN, rng_of(0))),
        ("outcomes", lambda: lds(TABLE, FLAT, rng_of(0))),
        ("predicted", lambda: lds(TABLE[:4], TABLE, rng_of(0))),
        ("predicted", lambda: lds(TABLE[:, :1], TABLE, rng_of(0))),
        ("predicted", lambda: lds(TABLE * NAN, TABLE, rng_of(0))),
        ("predicted", lambda: lds(FLAT, TABLE, rng_of(0))),
        ("m", lambda: lds(TABLE[:2], TABLE[:2], rng_of(0))),
        ("resamples", lambda: lds(TABLE, TABLE, rng_of(0), resamples=1)),
        ("outcomes", lambda: reliability(TABLE)),
        ("outcomes", lambda: reliability(CUBE * NAN)),
        ("outcomes", lambda: reliability(CUBE[:, :1].expand(3, 5, 2))),
        ("seeds", lambda: reliability(CUBE[:1])),
        ("m", lambda: reliability(CUBE[:, :1])),
        ("w", lambda: ev.self_influence(MODEL, torch.ones(3).double(), SOLVE)),
        ("w", lambda: ev.self_influence(MODEL, TABLE[0] * NAN, SOLVE)),
        ("v", lambda: ev.self_influence(MODEL, TABLE[0], direct(torch.eye(3).double()))),
        ("chunk", lambda: ev.self_influence(MODEL, TABLE[0], SOLVE, chunk=0)),
        ("suspicion", lambda: ev.detection(TABLE, WRONG)),
        ("suspicion", lambda: ev.detection(TABLE[:, 0] * NAN, WRONG)),
        ("wrong", lambda: ev.detection(TABLE[:, 0], WRONG[:4])),
        ("wrong", lambda: ev.detection(TABLE[:, 0], WRONG.double())),
        ("wrong", lambda: ev.detection(TABLE[:, 0], WRONG & False)),
        ("wrong", lambda: ev.detection(TABLE[:, 0], WRONG | True)),
        ("suspicion", lambda: ev.found_by_inspection(TABLE, WRONG)),
        ("wrong", lambda: ev.found_by_inspection(TABLE[:, 0], WRONG & False)),
    ],
)
def test_bad_input_is_named(name, call):
    with pytest.raises(ValueError, match=f"^{name}"):
        call()
