"""Scores of likeness by loops with plain autograd, and TRAK by dense algebra."""

import math
from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from lib import similarity as sim
from lib.models import MLP, location

few = settings(deadline=None, max_examples=6, derandomize=True)
seeds = st.integers(0, 10**6)
NAN = float("nan")
N, K, WIDTH = 9, 4, 5


def close(left, right, rtol=1e-10):
    left, right = np.asarray(left), np.asarray(right)
    assert left.shape == right.shape
    assert np.isfinite(left).all() and np.abs(left - right).max() <= rtol * np.abs(right).max()


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


class Net:
    """A tanh network 3-5-c, or a linear one, with its outputs written out in torch."""

    def __init__(self, seed, classes=3, linear=False, dtype=torch.float64, width=WIDTH):
        rng = np.random.default_rng(seed)
        self.classes, self.linear, self.width = classes, linear, width
        self.mlp = MLP((3, classes)) if linear else MLP((3, width, classes))
        self.w = torch.tensor(0.8 * rng.normal(size=self.mlp.p), dtype=dtype)
        x = torch.tensor(rng.normal(size=(N + K, 3)) + 0.4, dtype=dtype)
        y = torch.tensor(np.append(rng.permutation(N) % classes, np.arange(K) % classes))
        self.train = self.mlp.objective(x[:N], y[:N], 0.7)  # the penalty plays no part
        self.queries = self.mlp.objective(x[N:], y[N:])

    def embedding(self, w, x):
        if self.linear:
            return x
        first = w[: 4 * self.width].view(self.width, 4)
        return torch.tanh(x @ first[:, :3].T + first[:, 3])

    def logits(self, w, x):
        a = self.embedding(w, x)
        last = w[-self.classes * (a.shape[-1] + 1) :].view(self.classes, -1)
        return a @ last[:, :-1].T + last[:, -1]

    def margin(self, w, x, y):
        chance = self.logits(w, x).softmax(-1)[y]
        return torch.log(chance / (1 - chance))

    def loss(self, w, x, y):
        return -self.logits(w, x).log_softmax(-1)[y]

    def slopes(self, objective, value):
        """One gradient an example, by backward passes; (n, p)."""
        found = []
        for x, y in zip(objective.x, objective.y, strict=True):
            w = self.w.clone().requires_grad_()
            value(w, x, y).backward()
            found.append(w.grad)
        return torch.stack(found).numpy()

    def missing(self, objective):
        """1 − p of each example's own label."""
        return np.array(
            [
                1 - self.logits(self.w, x).softmax(-1)[y].item()
                for x, y in zip(objective.x, objective.y, strict=True)
            ]
        )


def cosine(a, b):
    return sum(a * b) / math.sqrt(sum(a * a) * sum(b * b))


def table(score):
    """score(i, q) for every example and query."""
    return [[score(i, q) for q in range(K)] for i in range(N)]


@given(seeds)
@few
def test_cosines_by_a_loop(seed):
    rng = np.random.default_rng(seed)
    a, b = rng.normal(size=(N, 3)), rng.normal(size=(K, 3))
    close(sim.cosines(torch.tensor(a), torch.tensor(b)), table(lambda i, q: cosine(a[i], b[q])))
    a[2], b[1] = 0, 0
    found = sim.cosines(torch.tensor(a), torch.tensor(b))
    assert (found[2] == 0).all() and (found[:, 1] == 0).all() and torch.isfinite(found).all()
    tiny = sim.cosines(torch.tensor(1e-100 * a), torch.tensor(b))
    close(tiny, found)


@given(seeds)
@few
def test_scores_that_look_at_no_model(seed):
    net = Net(seed)
    labels, asked = net.train.y.tolist(), net.queries.y.tolist()
    alike = np.array(table(lambda i, q: -1.0 if labels[i] == asked[q] else 0.0))
    found = sim.same_label(net.train, net.queries)
    assert np.array_equal(found, alike) and found.dtype == torch.float64
    x, there = net.train.x.numpy(), net.queries.x.numpy()
    mean = x.mean(axis=0)
    wanted = alike * table(lambda i, q: cosine(x[i] - mean, there[q] - mean))
    close(sim.label_and_pixels(net.train, net.queries), wanted)


@pytest.mark.parametrize("linear", [False, True])
@given(seeds)
@few
def test_embeddings(linear, seed):
    net = Net(seed, linear=linear)
    a = net.embedding(net.w, net.train.x).numpy()
    b = net.embedding(net.w, net.queries.x).numpy()
    close(sim.hidden(net.mlp, net.train, net.w), a)
    mean = a.mean(axis=0)
    wanted = table(lambda i, q: -cosine(a[i] - mean, b[q] - mean))
    close(sim.embedding_cosine(net.mlp, net.train, net.queries, net.w), wanted)


@pytest.mark.parametrize("linear", [False, True])
@given(seeds)
@few
def test_gradients(linear, seed):
    net = Net(seed, linear=linear)
    a, b = (net.slopes(o, net.loss) for o in (net.train, net.queries))
    close(sim.gradient_dot(net.train, net.queries, net.w), table(lambda i, q: -(a[i] @ b[q])))
    close(
        sim.gradient_cosine(net.train, net.queries, net.w), table(lambda i, q: -cosine(a[i], b[q]))
    )
    last = net.classes * (4 if linear else WIDTH + 1)
    a, b = a[:, -last:], b[:, -last:]
    found = sim.last_layer_dot(net.mlp, net.train, net.queries, net.w)
    close(found, table(lambda i, q: -(a[i] @ b[q])))


def test_signs():
    """An example helps a query that is its copy: every score is negative."""
    net = Net(0)
    for score in (
        lambda o: sim.same_label(o, o),
        lambda o: sim.label_and_pixels(o, o),
        lambda o: sim.embedding_cosine(net.mlp, o, o, net.w),
        lambda o: sim.gradient_dot(o, o, net.w),
        lambda o: sim.gradient_cosine(o, o, net.w),
        lambda o: sim.last_layer_dot(net.mlp, o, o, net.w),
        lambda o: sim.trak(o, o, net.w, 8, generator(), damping=0.1),
    ):
        assert (score(net.train).diagonal() < 0).all()


# --- TRAK ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("classes", [2, 3, 7])
@given(seeds)
@few
def test_margins(classes, seed):
    net = Net(seed, classes)
    wanted = [net.margin(net.w, x, y).item() for x, y in zip(net.train.x, net.train.y, strict=True)]
    close(sim.margins(net.train, net.w), wanted)
    floating = replace(net.train, y=net.train.y.double())  # as cross_entropy takes them
    close(sim.margins(floating, net.w), wanted)


def test_margins_of_a_sure_model_do_not_overflow():
    """f = (800, 0, 1) has log p₀/(1 − p₀) = 800 − log(1 + e)."""
    f = torch.tensor([[800.0, 0, 1], [-800, 0, 1], [0, 1, 0]]).double()
    identity = MLP((3, 3))
    objective = identity.objective(f, torch.tensor([0, 0, 1]))
    w = torch.cat([torch.eye(3), torch.zeros(3, 1)], dim=1).double().reshape(-1)
    rest = math.log(1 + math.e)
    close(sim.margins(objective, w), [800 - rest, -800 - rest, 1 - math.log(2)])


def by_algebra(net, projection, damping):
    """−(1 − p_i)(1 − p_q) a_iᵀ (Σ a aᵀ + λI)⁻¹ a_q, entry by entry."""
    a, b = (net.slopes(o, net.margin) @ projection for o in (net.train, net.queries))
    inverse = np.linalg.inv(
        sum(np.outer(row, row) for row in a) + damping * np.eye(projection.shape[1])
    )
    out, there = net.missing(net.train), net.missing(net.queries)
    return np.array(table(lambda i, q: -out[i] * there[q] * (a[i] @ inverse @ b[q])))


@pytest.mark.parametrize("classes", [2, 3])
@given(seeds, st.integers(1, 7), st.sampled_from([0.0, 0.3]))
@few
def test_trak_by_dense_algebra(classes, seed, dimension, damping):
    net = Net(seed, classes)
    projection = torch.randn(net.mlp.p, dimension, generator=generator(seed), dtype=torch.float64)
    wanted = by_algebra(net, projection.numpy() / math.sqrt(dimension), damping)
    found = sim.trak(net.train, net.queries, net.w, dimension, generator(seed), damping=damping)
    close(found, wanted, 1e-7)


@given(seeds)
@few
def test_trak_with_all_dimensions_is_influence_on_the_margins(seed):
    """Without damping any invertible projection drops out, were it square: here of 8 parameters."""
    net = Net(seed, 2, linear=True)
    # One logit against the other: the margins' gradients span half of the parameters.
    a, b = (net.slopes(o, net.margin) for o in (net.train, net.queries))
    inverse = np.linalg.pinv(a.T @ a, rcond=1e-10)
    out, there = net.missing(net.train), net.missing(net.queries)
    wanted = -out[:, None] * (a @ inverse @ b.T) * there
    close(sim.trak(net.train, net.queries, net.w, 4, generator(seed)), wanted, 1e-6)


def test_trak_is_a_margins_share_in_the_influence_on_the_loss():
    """Binary: L = log(1 + e^(−m)) has ∇L = −(1 − p)∇m, so with Σ a aᵀ for its curvature the
    influence is −∇ℓ_qᵀ(Σ a aᵀ)⁻¹∇L_i; and twice the data, half the influence."""
    net = Net(3, 2, linear=True)
    a = net.slopes(net.train, net.margin)
    losses, asked = net.slopes(net.train, net.loss), net.slopes(net.queries, net.loss)
    close(losses, -net.missing(net.train)[:, None] * a)
    wanted = -losses @ np.linalg.pinv(a.T @ a, rcond=1e-10) @ asked.T
    found = sim.trak(net.train, net.queries, net.w, 4, generator())
    close(found, wanted, 1e-7)
    twice = net.train.take(torch.arange(N).repeat(2))
    again = sim.trak(twice, net.queries, net.w, 4, generator())
    close(again, found.repeat(2, 1) / 2, 1e-7)


def test_trak_tends_to_the_unprojected_kernel():
    """The error falls as one over the root of the dimension."""
    net, damping = Net(1, width=80), 2.0
    exact = by_algebra(net, np.eye(len(net.w)), damping)
    errors = []
    for dimension in (30, 120, 480):
        drawn = [
            sim.trak(net.train, net.queries, net.w, dimension, generator(s), damping=damping)
            for s in range(12)
        ]
        off = torch.stack(drawn).numpy() - exact
        errors.append(np.sqrt(np.mean(off**2) / np.mean(exact**2)))
    assert errors[2] < 0.15
    assert all(1.6 < before / after < 2.4 for before, after in pairwise(errors))


def test_trak_depends_on_its_generator_alone():
    net = Net(2)
    one, same, other = (
        sim.trak(net.train, net.queries, net.w, 5, generator(s), damping=0.1) for s in (0, 0, 1)
    )
    assert torch.equal(one, same) and not torch.equal(one, other)


def test_precision_is_that_of_the_parameters():
    single, double = Net(4, dtype=torch.float32), Net(4)
    for score in (
        lambda net: sim.same_label(net.train, net.queries),
        lambda net: sim.label_and_pixels(net.train, net.queries),
        lambda net: sim.embedding_cosine(net.mlp, net.train, net.queries, net.w),
        lambda net: sim.gradient_dot(net.train, net.queries, net.w),
        lambda net: sim.last_layer_dot(net.mlp, net.train, net.queries, net.w),
    ):
        assert score(single).dtype == torch.float32
        close(score(single), np.asarray(score(double), dtype=np.float32), 1e-4)
    found = sim.trak(single.train, single.queries, single.w, 5, generator(), damping=0.5)
    projection = torch.randn(single.mlp.p, 5, generator=generator(), dtype=torch.float32)
    assert found.dtype == torch.float32
    close(found, by_algebra(double, projection.double().numpy() / 5**0.5, 0.5).astype("f"), 1e-4)


# --- errors --------------------------------------------------------------------------------------

NET = Net(0)
A, B = torch.ones(3, 2).double(), torch.ones(4, 2).double()
TWO = location(A)  # whose labels are vectors


def trak(net=NET, dimension=4, w=None, **options):
    w = net.w if w is None else w
    return sim.trak(net.train, net.queries, w, dimension, generator(), **options)


@pytest.mark.parametrize(
    "name, call",
    [
        ("a", lambda: sim.cosines(A[0], B)),
        ("a", lambda: sim.cosines(A * NAN, B)),
        ("b", lambda: sim.cosines(A, B[:, :1])),
        ("b", lambda: sim.cosines(A, B.long())),
        ("y", lambda: sim.same_label(TWO, NET.queries)),
        ("y", lambda: sim.same_label(NET.train, TWO)),
        ("y", lambda: sim.label_and_pixels(TWO, NET.queries)),
        ("w", lambda: sim.hidden(NET.mlp, NET.train, NET.w[1:])),
        ("w", lambda: sim.hidden(NET.mlp, NET.train, NET.w * NAN)),
        ("w", lambda: sim.embedding_cosine(NET.mlp, NET.train, NET.queries, NET.w[1:])),
        ("w", lambda: sim.gradient_dot(NET.train, NET.queries, NET.w * NAN)),
        ("w", lambda: sim.gradient_cosine(NET.train, NET.queries, NET.w[1:])),
        ("w", lambda: sim.last_layer_dot(NET.mlp, NET.train, NET.queries, NET.w[1:])),
        ("w", lambda: sim.margins(NET.train, NET.w * NAN)),
        ("dimension", lambda: trak(dimension=0)),
        ("dimension", lambda: trak(dimension=len(NET.w) + 1)),
        ("dimension", lambda: trak(dimension=2.0)),
        ("damping", lambda: trak(damping=-1.0)),
        ("damping", lambda: trak(damping=NAN)),
        ("w", lambda: trak(w=NET.w * NAN)),
        ("w", lambda: trak(w=NET.w[1:])),
    ],
)
def test_bad_input_is_named(name, call):
    with pytest.raises(ValueError, match=f"^{name}: "):
        call()


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("seed", range(8))
def test_a_singular_kernel_is_told(seed, dtype):
    """Ten dimensions of nine examples; or nine of seven, as two of them are copies."""
    net = Net(seed, dtype=dtype)
    copies = net.train.take(torch.tensor([0, 1, 2, 3, 4, 5, 6, 0, 1]))
    for train, dimension in ((net.train, N + 1), (copies, N)):
        with pytest.raises(ValueError, match=r"^damping: expected more"):
            sim.trak(train, net.queries, net.w, dimension, generator(seed))
        damped = sim.trak(train, net.queries, net.w, dimension, generator(seed), damping=0.1)
        assert torch.isfinite(damped).all()
