"""Training runs against torch.optim and numpy; schedules and batches against their formulas."""

import itertools
import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.special import zeta

from lib import models
from lib import training as tr
from lib.counterfactuals import train
from lib.models import MLP, Transformer, squared_error
from lib.training import SGD, Adam, Momentum, Run, retrain, states, trajectory
from lib.unrolling import reverse_mode

few = settings(deadline=None, max_examples=8, derandomize=True)
seeds = st.integers(0, 10**6)
NAN, INF = float("nan"), float("inf")


def close(left, right, rtol=1e-12):
    left, right = np.asarray(left), np.asarray(right)
    assert left.shape == right.shape
    assert np.isfinite(left).all() and np.abs(left - right).max() <= rtol * np.abs(right).max()


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


# --- optimisers against torch.optim --------------------------------------------------------------


class Net:
    """A tanh network of 13 parameters with squared error and a penalty, written out in torch."""

    def __init__(self, seed, n=7, l2=0.4):
        rng = np.random.default_rng(seed)
        self.n, self.l2 = n, l2
        self.x, self.y = (
            torch.tensor(rng.normal(size=(n, 2)) + 0.3),
            torch.tensor(rng.normal(size=n)),
        )
        self.objective = MLP((2, 3, 1)).objective(self.x, self.y, l2, loss=squared_error)
        self.w0 = torch.tensor(0.7 * rng.normal(size=13))
        self.beta = torch.tensor(rng.uniform(0, 2, size=n))

    def loss(self, w, beta, batch):
        first, last = w[:9].view(3, 3), w[9:]
        f = torch.tanh(self.x[batch] @ first[:, :2].T + first[:, 2]) @ last[:3] + last[3]
        each = 0.5 * (self.y[batch] - f) ** 2
        return (beta[batch] * each).sum() / len(batch) + 0.5 * self.l2 / self.n * (w**2).sum()

    def path(self, make, batches, rates, beta=None, w0=None):
        """w_0, …, w_T by one of torch's optimisers."""
        w = (self.w0 if w0 is None else w0).clone().requires_grad_()
        optimizer, path = make([w]), [w.detach().clone()]
        for batch, rate in zip(batches, rates.tolist(), strict=True):
            optimizer.param_groups[0]["lr"] = rate
            optimizer.zero_grad()
            self.loss(w, self.beta if beta is None else beta, batch).backward()
            optimizer.step()
            path.append(w.detach().clone())
        return torch.stack(path)


OPTIMIZERS = {
    "sgd": (SGD(), lambda w: torch.optim.SGD(w)),
    "momentum": (Momentum(0.8), lambda w: torch.optim.SGD(w, momentum=0.8)),
    "momentum's default": (Momentum(), lambda w: torch.optim.SGD(w, momentum=0.9)),
    "nesterov": (
        Momentum(0.8, nesterov=True),
        lambda w: torch.optim.SGD(w, momentum=0.8, nesterov=True),
    ),
    "adam": (
        Adam(0.7, 0.95, eps=1e-3),
        lambda w: torch.optim.Adam(w, betas=(0.7, 0.95), eps=1e-3),
    ),
    "adam's default": (Adam(), lambda w: torch.optim.Adam(w)),
    "adam, frozen": (Adam(freeze=True), lambda w: torch.optim.Adam(w)),
    "adamw": (
        Adam(0.8, 0.9, weight_decay=0.3),
        lambda w: torch.optim.AdamW(w, betas=(0.8, 0.9), weight_decay=0.3),
    ),
}
EACH = pytest.mark.parametrize("name", OPTIMIZERS)


@EACH
@given(seeds, st.integers(1, 7))
@few
def test_optimisers_are_torchs(name, seed, size):
    net, (optimizer, make) = Net(seed), OPTIMIZERS[name]
    batches, rates = tr.resampled(7, size, 9, generator(seed)), tr.cosine(0.06, 9, warmup=3)
    run = Run(net.objective, net.w0, optimizer, batches, rates)
    wanted = net.path(make, batches, rates)
    close(trajectory(run, net.beta), wanted)
    close(retrain(run, net.beta, progress=False), wanted[-1])
    close(trajectory(run), net.path(make, batches, rates, torch.ones(7)))
    assert not torch.equal(wanted[0], wanted[-1])


def test_preconditioned_sgd_by_hand():
    rng = np.random.default_rng(0)
    x, y, p = rng.normal(size=(6, 3)), rng.normal(size=6), rng.normal(size=(8, 3, 3))
    batches, rates = tr.epochs(6, 3, 4, generator()), tr.decaying(0.1, 8)
    w = w0 = rng.normal(size=3)
    run = Run(
        models.linear(torch.tensor(x), torch.tensor(y), l2=0.5),
        torch.tensor(w0),
        SGD(torch.tensor(p)),
        batches,
        rates,
    )
    for t, batch in enumerate(batches.numpy()):
        slope = x[batch].T @ (x[batch] @ w - y[batch]) / 3 + 0.5 / 6 * w
        w = w - rates[t].item() * p[t] @ slope
    close(trajectory(run)[-1], w)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_precision_is_that_of_the_parameters(dtype):
    net = Net(0)
    objective = MLP((2, 3, 1)).objective(net.x.to(dtype), net.y.to(dtype), loss=squared_error)
    run = Run(objective, net.w0.to(dtype), Adam(), tr.full_batches(7, 3), tr.constant(0.1, 3))
    assert {s.dtype for s in states(run)} == {dtype} and run.ones().dtype == dtype
    assert retrain(run, run.ones()[None], progress=False).dtype == dtype


def test_states_start_at_w0_over_zeros_and_leave_it_alone():
    net = Net(1)
    run = Run(net.objective, net.w0, Adam(), tr.full_batches(7, 3), tr.constant(0.1, 3))
    before = net.w0.clone()
    first, *rest = states(run, progress=False)
    assert torch.equal(first, torch.stack([before, torch.zeros(13), torch.zeros(13)]))
    assert len(rest) == run.steps == 3 and run.n == 7
    assert (rest[0][1:] != 0).all() and torch.equal(net.w0, before)


# --- the loss ------------------------------------------------------------------------------------


@given(seeds, st.integers(1, 5))
@few
def test_minibatch_loss_averages_to_the_full_loss_over_n(seed, size):
    rng = np.random.default_rng(seed)
    x, y = rng.normal(size=(5, 2)), rng.choice([-1.0, 1.0], 5)
    w, beta, rho = rng.normal(size=2), rng.uniform(0, 2, size=5), rng.uniform(0.1, 1)
    objective = models.logistic(torch.tensor(x), torch.tensor(y), l2=rho)
    drawn = [
        tr.minibatch_loss(
            objective, torch.tensor(w), torch.tensor(beta), torch.tensor(batch)
        ).item()
        for batch in itertools.combinations(range(5), size)
    ]
    close(np.mean(drawn), (beta @ np.logaddexp(0, -y * (x @ w)) + 0.5 * rho * w @ w) / 5)


@given(seeds)
@few
def test_full_batches_are_gradient_descent(seed):
    net = Net(seed)
    beta = torch.tensor(np.random.default_rng(seed).uniform(0, 2, size=(3, 7)))
    run = Run(net.objective, net.w0, SGD(), tr.full_batches(7, 12), tr.constant(0.05, 12))
    close(
        retrain(run, beta, progress=False), train(net.objective, beta, net.w0, steps=12, rate=0.05)
    )


def test_token_loss_weighs_every_token():
    rng = np.random.default_rng(2)
    model = Transformer(vocabulary=3, length=4, width=4, heads=2, layers=1)
    objective = model.objective(torch.tensor(rng.integers(0, 3, size=(5, 5))))
    w, batch = model.initial(generator()), torch.tensor([3, 1])
    ones, weights = torch.ones(20).double(), torch.tensor(rng.uniform(0, 2, size=20))
    logits = np.array([model.predict(w, tokens).numpy() for tokens in objective.x[batch]])
    chance = np.exp(logits) / np.exp(logits).sum(axis=2, keepdims=True)
    chosen = np.take_along_axis(chance, objective.y[batch].numpy()[..., None], axis=2)[..., 0]
    each = np.zeros((5, 4))
    each[[3, 1]] = -np.log(chosen)
    close(tr.token_loss(objective, w, weights, batch), weights.numpy() @ each.ravel() / 2)
    slopes = torch.func.grad(tr.token_loss, 2)(objective, w, weights, batch)
    close(slopes, each.ravel() / 2)
    whole = tr.minibatch_loss(objective, w, torch.ones(5).double(), batch)
    close(tr.token_loss(objective, w, ones, batch), whole)


# --- many runs at once ---------------------------------------------------------------------------


@EACH
@pytest.mark.parametrize("chunk", [1, 2, 64])
def test_every_row_is_a_run_of_its_own(name, chunk):
    net, (optimizer, make) = Net(3), OPTIMIZERS[name]
    rng = np.random.default_rng(3)
    beta, rates = torch.tensor(rng.uniform(0, 2, size=(5, 7))), tr.constant(0.05, 6)
    batches = torch.stack([tr.resampled(7, 3, 6, generator(i)) for i in range(5)])
    w0 = torch.tensor(rng.normal(size=(5, 13)))
    run = Run(net.objective, net.w0, optimizer, batches[0], rates)

    def rows(**own):
        return retrain(run, beta, chunk=chunk, progress=False, **own)

    def torchs(batches, w0):
        same = zip(batches, beta, w0, strict=True)
        return torch.stack([net.path(make, b, rates, one, w)[-1] for b, one, w in same])

    shared, start = batches[:1].expand(5, -1, -1), net.w0.expand(5, -1)
    close(rows(), torchs(shared, start))
    close(rows(batches=batches), torchs(batches, start))
    close(rows(w0=w0), torchs(shared, w0))
    close(rows(batches=batches, w0=w0), torchs(batches, w0))


def test_one_row_heeds_its_own_batches_and_start():
    net = Net(3)
    batches, rates = tr.resampled(7, 3, 6, generator()), tr.constant(0.05, 6)
    run = Run(net.objective, net.w0, SGD(), tr.full_batches(7, 6), rates)
    other = net.w0 + 1
    for own in ({"w0": other[None]}, {"batches": batches[None]}):
        wanted = retrain(run, net.beta[None], progress=False, **own)[0]
        try:
            found = retrain(run, net.beta, progress=False, **own)
        except ValueError:
            continue
        close(found, wanted)


def test_the_bars_count_the_steps_and_can_be_turned_off(monkeypatch):
    made = []
    monkeypatch.setattr(
        tr,
        "tqdm",
        lambda steps, desc, delay, disable, leave: made.append((disable, delay)) or steps,
    )
    net = Net(0)
    run = Run(net.objective, net.w0, SGD(), tr.full_batches(7, 3), tr.constant(0.1, 3))
    for progress in (True, False):
        list(states(run, progress=progress))
        retrain(run, net.beta, progress=progress)
        retrain(run, net.beta[None], progress=progress)
    assert made == [(False, 10)] * 3 + [(True, 10)] * 3


# --- derivatives in β ----------------------------------------------------------------------------


@EACH
def test_retrain_is_differentiable(name):
    net, optimizer = Net(4), OPTIMIZERS[name][0]
    run = Run(
        net.objective, net.w0, optimizer, tr.epochs(7, 7, 8, generator()), tr.constant(0.05, 8)
    )

    def phi(w):
        return torch.sin(w.sum()) + w @ w

    found = torch.func.grad(lambda b: phi(retrain(run, b, progress=False)))(run.ones())
    close(found, reverse_mode(run, phi, progress=False))
    rows = torch.func.grad(lambda b: phi(retrain(run, b[None], progress=False)[0]))(run.ones())
    close(rows, found)


def adam(x, y, beta, w, rates, eps):
    """Adam on a linear regression, full batches, from the paper's algorithm in numpy."""
    m = v = np.zeros_like(w)
    for t, rate in enumerate(rates, start=1):
        slope = x.T @ (beta * (x @ w - y)) / len(x)
        m, v = 0.9 * m + 0.1 * slope, 0.999 * v + 0.001 * slope**2
        w = w - rate * m / (1 - 0.9**t) / (np.sqrt(v / (1 - 0.999**t)) + eps)
    return w


def test_adam_where_a_gradient_is_always_zero():
    rng = np.random.default_rng(5)
    x, y, w, q = rng.normal(size=(6, 3)), *rng.normal(size=(1, 6)), *rng.normal(size=(2, 3))
    x[:, 1] = 0
    rates = np.full(10, 0.05)
    run = Run(
        models.linear(torch.tensor(x), torch.tensor(y)),
        torch.tensor(w),
        Adam(),
        tr.full_batches(6, 10),
        torch.tensor(rates),
    )

    def moved(h):
        return np.array([q @ adam(x, y, 1 + h * e, w, rates, 1e-8) for e in np.eye(6)])

    near, far = (moved(h) - moved(-h) for h in (1e-3, 2e-3))
    found = reverse_mode(run, lambda v: torch.tensor(q) @ v, progress=False)
    close(found, (8 * near - far) / 12e-3, 1e-8)
    close(trajectory(run)[-1], adam(x, y, np.ones(6), w, rates, 1e-8))
    assert trajectory(run)[-1, 1] == w[1]


def test_adam_where_the_examples_gradients_cancel():
    """w₁ = −η g/(|g| + ϵ) has the slope −η/ϵ where g = 0."""
    z = torch.tensor([[1.0], [-1.0]]).double()
    start = torch.zeros(1).double()
    run = Run(models.location(z), start, Adam(eps=0.2), tr.full_batches(2, 1), tr.constant(0.1, 1))
    found = reverse_mode(run, lambda w: w[0], progress=False)
    close(found, [0.1 / 0.2 / 2, -0.1 / 0.2 / 2])


# --- schedules and batches -----------------------------------------------------------------------


def test_constant():
    assert tr.constant(0.3, 4).tolist() == [0.3] * 4
    assert tr.constant(1, 2).dtype == torch.float64


@given(st.floats(0.01, 2), st.integers(1, 30), st.integers(0, 29), st.floats(0, 0.5))
@few
def test_cosine_by_its_formula(peak, steps, warmup, end):
    warmup = min(warmup, steps - 1)
    wanted = [
        peak * (t + 1) / (warmup + 1)
        if t < warmup
        else end + (peak - end) * math.cos(0.5 * math.pi * (t - warmup) / (steps - warmup)) ** 2
        for t in range(steps)
    ]
    close(tr.cosine(peak, steps, warmup=warmup, end=end), wanted)
    assert tr.cosine(peak, steps, warmup=warmup)[warmup] == peak


@given(st.floats(0.01, 2), st.integers(1, 30), st.floats(0.1, 2), st.floats(0.1, 50))
@few
def test_decaying_by_its_formula(rate, steps, power, delay):
    wanted = [rate * math.exp(-power * math.log1p(t / delay)) for t in range(steps)]
    close(tr.decaying(rate, steps, power=power, delay=delay), wanted)


def test_decaying_meets_robbins_and_monro():
    """Σ η_t has no bound, Σ η_t² has: compared with ∫ and with ζ at the default power ¾."""
    steps = 10**5
    rates = tr.decaying(1.0, steps)
    assert rates.sum() > 4 * ((steps + 1) ** 0.25 - 1)
    assert zeta(1.5) - 2 / steps**0.5 < (rates**2).sum() < zeta(1.5)


def test_full_batches():
    assert tr.full_batches(3, 2).tolist() == [[0, 1, 2], [0, 1, 2]]


@given(st.integers(1, 5), st.integers(1, 4), st.integers(1, 4), seeds)
@few
def test_an_epoch_has_every_example_once(batch, per_epoch, times, seed):
    n = batch * per_epoch
    found = tr.epochs(n, batch, times, generator(seed))
    assert found.shape == (times * per_epoch, batch)
    for epoch in found.split(per_epoch):
        assert sorted(epoch.flatten().tolist()) == list(range(n))
    assert torch.equal(found, tr.epochs(n, batch, times, generator(seed)))


def test_epochs_are_shuffled_anew_and_evenly():
    found = tr.epochs(4, 2, 6000, generator(1)).view(6000, 4)
    kinds, counts = found.unique(dim=0, return_counts=True)
    assert len(kinds) == 24
    assert ((counts - 250) ** 2 / 250).sum() < 52  # χ² with 23 degrees of freedom


def test_resampled_batches_are_all_equally_likely():
    before = torch.get_rng_state()
    found = tr.resampled(5, 2, 20_000, generator(2))
    assert torch.equal(found, tr.resampled(5, 2, 20_000, generator(2)))
    assert torch.equal(torch.get_rng_state(), before)
    kinds, counts = found.unique(dim=0, return_counts=True)
    assert len(kinds) == 20 and (kinds[:, 0] != kinds[:, 1]).all()
    assert ((counts - 1000) ** 2 / 1000).sum() < 45  # χ² with 19 degrees of freedom
    assert tr.resampled(5, 5, 1, generator()).sort().values.tolist() == [list(range(5))]


# --- errors --------------------------------------------------------------------------------------


def test_divergence_is_told_with_its_step():
    """w ← (1 − η) w from 1: at η = 1e100 the fourth step leaves float64."""
    z = torch.zeros(2, 1).double()
    run = Run(
        models.location(z),
        torch.ones(1).double(),
        SGD(),
        tr.full_batches(2, 6),
        tr.constant(1e100, 6),
    )
    with pytest.raises(ValueError, match="rates: training diverged by step 4;"):
        trajectory(run)
    with pytest.raises(ValueError, match="rates: training diverged by step 6;"):
        retrain(run, run.ones()[None])
    with pytest.raises(ValueError, match="rates: training diverged"):
        retrain(run, torch.tensor([[0.0, 0.0], [1.0, 1.0], [0.0, 0.0]]).double())
    assert len(trajectory(replace(run, batches=run.batches[:3], rates=run.rates[:3]))) == 4


NET = Net(0)
GOOD = Run(NET.objective, NET.w0, SGD(), tr.full_batches(7, 3), tr.constant(0.1, 3))
BETA = NET.beta[None]


def without(name, value):
    return lambda: replace(GOOD, **{name: value})


@pytest.mark.parametrize(
    "name, call",
    [
        ("decay", lambda: Momentum(1.0)),
        ("decay", lambda: Momentum(-0.1)),
        ("first", lambda: Adam(first=1)),
        ("first", lambda: Adam(first=NAN)),
        ("second", lambda: Adam(second=1.0)),
        ("eps", lambda: Adam(eps=0)),
        ("weight_decay", lambda: Adam(weight_decay=-1)),
        ("preconditioner", lambda: SGD(torch.eye(3))),
        ("preconditioner", lambda: SGD(torch.ones(3, 2, 4))),
        ("preconditioner", lambda: SGD(torch.full((1, 2, 2), NAN))),
        ("preconditioner", without("optimizer", SGD(torch.ones(3, 4, 4).double()))),
        ("preconditioner", without("optimizer", SGD(torch.ones(2, 13, 13).double()))),
        ("rate", lambda: tr.constant(0.0, 3)),
        ("rate", lambda: tr.decaying(-1, 3)),
        ("peak", lambda: tr.cosine(0, 3)),
        ("end", lambda: tr.cosine(1, 3, end=-1)),
        ("end", lambda: tr.cosine(1, 3, end=INF)),
        ("warmup", lambda: tr.cosine(1, 3, warmup=3)),
        ("warmup", lambda: tr.cosine(1, 3, warmup=-1)),
        ("power", lambda: tr.decaying(1, 3, power=0)),
        ("delay", lambda: tr.decaying(1, 3, delay=0)),
        ("steps", lambda: tr.constant(1, 0)),
        ("steps", lambda: tr.cosine(1, 0)),
        ("steps", lambda: tr.decaying(1, 1.5)),
        ("steps", lambda: tr.full_batches(3, 0)),
        ("steps", lambda: tr.resampled(3, 1, 0, generator())),
        ("n", lambda: tr.full_batches(0, 3)),
        ("n", lambda: tr.epochs(0, 1, 1, generator())),
        ("n", lambda: tr.resampled(0, 1, 1, generator())),
        ("batch", lambda: tr.epochs(6, 4, 1, generator())),
        ("batch", lambda: tr.epochs(6, 7, 1, generator())),
        ("batch", lambda: tr.resampled(6, 7, 1, generator())),
        ("batch", lambda: tr.resampled(6, 0, 1, generator())),
        ("times", lambda: tr.epochs(6, 3, 0, generator())),
        ("w0", without("w0", NET.w0[None])),
        ("w0", without("w0", NET.w0 * NAN)),
        ("rates", without("rates", torch.tensor([0.1, 0.1, -0.1]))),
        ("rates", without("rates", torch.tensor([0.1, 0.1, NAN]))),
        ("rates", without("rates", torch.ones(3, 1))),
        ("rates", lambda: replace(GOOD, rates=GOOD.rates[:0], batches=GOOD.batches[:0])),
        ("batches", without("batches", GOOD.batches[:2])),
        ("batches", without("batches", GOOD.batches + 1)),
        ("batches", without("batches", GOOD.batches - 1)),
        ("batches", without("batches", GOOD.batches + 0.0)),
        ("batches", without("batches", GOOD.batches[:, :0])),
        ("batches", without("batches", torch.tensor([[0, 1, 2], [3, 4, 5], [6, 2, 6]]))),
        ("weights", without("weights", 0)),
        ("beta", lambda: trajectory(GOOD, NET.beta[:6])),
        ("beta", lambda: trajectory(GOOD, NET.beta * NAN)),
        ("beta", lambda: retrain(GOOD, BETA[:, :6])),
        ("beta", lambda: retrain(GOOD, BETA[None])),
        ("beta", lambda: retrain(GOOD, BETA * NAN)),
        ("chunk", lambda: retrain(GOOD, BETA, chunk=0)),
        ("w0", lambda: retrain(GOOD, BETA, w0=NET.w0)),
        ("w0", lambda: retrain(GOOD, BETA, w0=torch.ones(2, 13).double())),
        ("w0", lambda: retrain(GOOD, BETA, w0=NET.w0[None] * INF)),
        ("batches", lambda: retrain(GOOD, BETA, batches=GOOD.batches)),
        ("batches", lambda: retrain(GOOD, BETA, batches=GOOD.batches[None, :2])),
        ("batches", lambda: retrain(GOOD, BETA, batches=GOOD.batches[None] + 1)),
        ("batches", lambda: retrain(GOOD, BETA, batches=GOOD.batches[None] * 0)),
    ],
)
def test_bad_input_is_named(name, call):
    with pytest.raises(ValueError, match=f"^{name}: "):
        call()


def test_a_rate_of_zero_and_weights_of_zero_are_allowed():
    still = replace(GOOD, rates=GOOD.rates * 0)
    assert torch.equal(trajectory(still)[-1], NET.w0)
    assert torch.isfinite(retrain(GOOD, torch.zeros(1, 7).double(), progress=False)).all()
