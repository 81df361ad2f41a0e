"""The transformer and the deep linear network against loops in numpy."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn import functional

from lib import models
from lib.models import Transformer, deep_linear
from lib.objective import gradients, hessian, losses, weighted_loss
from lib.training import SGD, Run, constant, full_batches, minibatch_loss, token_loss

# Torch compiles its own rules when a forward derivative is first asked for.
pytestmark = pytest.mark.filterwarnings("ignore:.torch.jit.script:DeprecationWarning")

few = settings(deadline=None, max_examples=20, derandomize=True)
seeds = st.integers(0, 10**6)
shapes = st.tuples(
    st.integers(1, 6),
    st.integers(1, 5),
    st.sampled_from([(1, 1), (2, 1), (4, 2), (6, 3), (4, 4)]),
    st.integers(1, 3),
)
NAN = float("nan")


def close(left, right, rtol=1e-12):
    left, right = np.asarray(left), np.asarray(right)
    assert left.shape == right.shape
    assert np.isfinite(left).all() and np.abs(left - right).max() <= rtol * np.abs(right).max()


def drawn(seed, shape):
    """A network, its w, and tokens with one more at the end to predict."""
    vocabulary, length, (width, heads), layers = shape
    net = Transformer(vocabulary, length, width, heads, layers)
    rng = np.random.default_rng(seed)
    return net, 0.7 * rng.normal(size=net.p), rng.integers(vocabulary, size=(3, length + 1))


def normalised(row):
    row = row - row.mean()
    return row / np.sqrt((row**2).mean() + 1e-5)


def gelu(x):
    return 0.5 * x * (1 + np.tanh(np.sqrt(2 / np.pi) * (x + 0.044715 * x**3)))


def by_loops(net, w, tokens):
    """Token by token and head by head, from matrices cut out of w one after the other."""
    w, d = list(w), net.width

    def matrix(rows, columns):
        taken = [w.pop(0) for _ in range(rows * columns)]
        return np.array(taken).reshape(rows, columns)

    embed, position = matrix(net.vocabulary, d), matrix(net.length, d)
    stream = [embed[token] + position[t] for t, token in enumerate(tokens)]
    size = d // net.heads
    for _ in range(net.layers):
        query, key, value = matrix(d, d), matrix(d, d), matrix(d, d)
        project, widen, narrow = matrix(d, d), matrix(4 * d, d), matrix(d, 4 * d)
        seen = [normalised(row) for row in stream]
        mixed = np.zeros((len(tokens), d))
        for t in range(len(tokens)):
            for h in range(net.heads):
                part = slice(h * size, (h + 1) * size)
                scores = [
                    (query @ seen[t])[part] @ (key @ seen[u])[part] / np.sqrt(size)
                    for u in range(t + 1)
                ]
                weights = np.exp(scores) / np.exp(scores).sum()
                for u in range(t + 1):
                    mixed[t, part] += weights[u] * (value @ seen[u])[part]
        stream = [row + project @ mixed[t] for t, row in enumerate(stream)]
        stream = [row + narrow @ gelu(widen @ normalised(row)) for row in stream]
    unembed = matrix(net.vocabulary, d)
    assert not w
    return np.array([unembed @ normalised(row) for row in stream])


@few
@given(seeds, shapes)
def test_logits_by_loops(seed, shape):
    net, w, tokens = drawn(seed, shape)
    for row in tokens[:, :-1]:
        found = net.predict(torch.tensor(w), torch.tensor(row))
        close(found, by_loops(net, w, row))


def test_logits_with_torchs_own_attention():
    net, w, tokens = drawn(0, (5, 6, (8, 2), 1))
    w, row = torch.tensor(w), torch.tensor(tokens[0, :-1])
    embed, position, attend, project, widen, narrow, unembed = (
        part.view(shape)
        for part, shape in zip(w.split([a * b for a, b in net.shapes]), net.shapes, strict=True)
    )
    stream = functional.embedding(row, embed) + position
    parts = functional.linear(functional.layer_norm(stream, (8,)), attend).chunk(3, dim=1)
    heads = (part.view(1, 6, 2, 4).transpose(1, 2) for part in parts)
    mixed = functional.scaled_dot_product_attention(*heads, is_causal=True)
    stream = stream + functional.linear(mixed.transpose(1, 2).reshape(6, 8), project)
    hidden = torch.nn.GELU("tanh")(functional.linear(functional.layer_norm(stream, (8,)), widen))
    stream = stream + functional.linear(hidden, narrow)
    close(net.predict(w, row), functional.linear(functional.layer_norm(stream, (8,)), unembed))


@pytest.mark.parametrize("at", range(5))
def test_no_logit_depends_on_a_later_token(at):
    net, w, tokens = drawn(1, (4, 5, (8, 2), 2))
    before = torch.tensor(tokens[0, :-1])
    after = before.clone()
    after[at] = (before[at] + 1) % 4
    old, new = (net.predict(torch.tensor(w), row) for row in (before, after))
    assert torch.equal(old[:at], new[:at])
    assert ((old[at:] - new[at:]).abs().amax(dim=1) > 1e-6).all()


def test_position_matters():
    """Two equal tokens are told apart by where they stand, and only by that."""
    net, w, _ = drawn(2, (4, 5, (8, 2), 1))
    row, w = torch.tensor([2, 2, 2, 2, 2]), torch.tensor(w)
    assert (net.predict(w, row)[3] - net.predict(w, row)[4]).abs().max() > 1e-3
    w[4 * 8 : 9 * 8] = 0
    close(net.predict(w, row)[3], net.predict(w, row)[4])


def test_number_of_parameters_and_start():
    """By hand: embeddings 7·16 + 9·16, two blocks of 12·16², logits 7·16."""
    net = Transformer(7, 9)
    assert (net.width, net.heads, net.layers) == (16, 2, 2)
    assert net.p == 7 * 16 + 9 * 16 + 2 * 12 * 16**2 + 7 * 16
    big = Transformer(300, 250, 24, 3, 2)
    w = big.initial(torch.Generator().manual_seed(0))
    assert w.shape == (big.p,) and w.dtype == torch.float64
    assert torch.equal(w, big.initial(torch.Generator().manual_seed(0)))
    single = big.initial(torch.Generator().manual_seed(0), torch.float32)
    assert single.dtype == torch.float32
    at = 0
    block = [(72, 24), (24, 24), (96, 24), (24, 96)]
    for rows, columns in [(300, 24), (250, 24), *block, *block, (300, 24)]:
        part = w[at : at + rows * columns]
        # Within five standard errors of its own.
        assert abs(part.mean()) < 5 / (columns * len(part)) ** 0.5
        assert abs(columns * (part**2).mean() - 1) < 5 * (2 / len(part)) ** 0.5
        at += rows * columns
    assert at == big.p


@few
@given(seeds, shapes)
def test_objective_adds_the_losses_of_the_tokens(seed, shape):
    net, w, tokens = drawn(seed, shape)
    objective, tw = net.objective(torch.tensor(tokens)), torch.tensor(w)
    logits = torch.tensor(np.array([by_loops(net, w, row[:-1]) for row in tokens]))
    target = torch.tensor(tokens[:, 1:])
    want = functional.cross_entropy(logits.transpose(1, 2), target, reduction="none")
    close(losses(objective, tw), want.sum(dim=1))
    close(weighted_loss(objective, tw), want.sum())
    for f, y, row in zip(logits, target, want, strict=True):
        assert models.token_losses(f, y).shape == y.shape
        close(models.token_losses(f, y), row)
        close(models.next_token_loss(f, y), row.sum())
    # One weight for every token of every sequence; at 1 it is the loss of the batch.
    beta, batch = np.random.default_rng(seed).uniform(0, 2, target.shape), torch.tensor([2, 0])
    found = token_loss(objective, tw, torch.tensor(beta).reshape(-1), batch)
    close(found, (torch.tensor(beta) * want)[batch].sum() / 2)
    ones = torch.ones(3).double()
    close(minibatch_loss(objective, tw, ones, batch), want[batch].sum() / 2)


def test_token_losses_do_not_overflow():
    f = torch.tensor([[1e4, 0.0, -1e4], [0.0, 0.0, 0.0]]).double()
    close(models.token_losses(f, torch.tensor([1, 2])), [1e4, np.log(3)])


def test_gradients_by_finite_differences():
    net, w, tokens = drawn(3, (4, 4, (4, 2), 2))
    objective = net.objective(torch.tensor(tokens))
    rng = np.random.default_rng(3)
    found = gradients(objective, torch.tensor(w)).numpy()

    def total(v, row):
        f = by_loops(net, v, row[:-1])
        picked = f[np.arange(4), row[1:]]
        return (np.log(np.exp(f).sum(axis=1)) - picked).sum()

    for _ in range(4):
        u, h = rng.normal(size=net.p), 1e-4
        for g, row in zip(found, tokens, strict=True):
            a, b = ((total(w + t * u, row) - total(w - t * u, row)) / (2 * t) for t in (h, 2 * h))
            assert g @ u == pytest.approx((4 * a - b) / 3, rel=1e-6, abs=1e-6)


def test_training_learns_the_one_that_follows():
    """On sequences that count modulo four, the loss falls far below that of guessing."""
    tokens = (torch.arange(6) + torch.arange(4)[:, None]) % 4
    net = Transformer(4, 5, 8, 2, 1)
    objective, w0 = net.objective(tokens), net.initial(torch.Generator().manual_seed(0))
    run = Run(objective, w0, SGD(), full_batches(4, 60), constant(0.05, 60))
    state = run.start()
    for t in range(60):
        state = run.step(t, state, run.ones())
    assert losses(objective, state[0]).max() / 5 < 0.2 < np.log(4) < losses(objective, w0).max() / 5


# --- the deep linear network ---------------------------------------------------------------------


@pytest.mark.parametrize("seed", range(3))
def test_deep_linear_by_hand(seed):
    rng = np.random.default_rng(seed)
    w1, w2, (x, y) = *rng.normal(size=(2, 3, 3)), rng.normal(size=(2, 5, 3))
    objective = deep_linear(torch.tensor(x), torch.tensor(y))
    w = torch.tensor(np.concatenate([w1.ravel(), w2.ravel()]))
    left = y - x @ w1.T @ w2.T
    close(objective.predict(w, objective.x[1]), w2 @ w1 @ x[1])
    close(losses(objective, w), 0.5 * (left**2).sum(axis=1))
    for g, r, row in zip(gradients(objective, w), left, x, strict=True):
        first, second = -np.outer(w2.T @ r, row), -np.outer(r, w1 @ row)
        close(g, np.concatenate([first.ravel(), second.ravel()]))
    # Only the product counts: moving a factor from one layer to the other is flat.
    assert objective.l2 == 0
    scaled = torch.cat([2 * w[:9], w[9:] / 2])
    close(losses(objective, scaled), losses(objective, w))
    assert hessian(objective, w).shape == (18, 18)


# --- bad input -----------------------------------------------------------------------------------

NET = Transformer(4, 3, 4, 2, 1)
W = torch.zeros(NET.p).double()
ROW = torch.tensor([0, 1, 2])
ONES = torch.ones(4, 2).double()


@pytest.mark.parametrize(
    "name, call",
    [
        *[
            (
                name,
                lambda name=name, bad=bad: Transformer(
                    **({"vocabulary": 4, "length": 3} | {name: bad})
                ),
            )
            for name in ("vocabulary", "length", "width", "heads", "layers")
            for bad in (0, -1, 2.0, True)
        ],
        ("heads", lambda: Transformer(4, 3, 4, 3)),
        ("heads", lambda: Transformer(4, 3, 4, 8)),
        ("tokens", lambda: NET.predict(W, ROW[:2])),
        ("tokens", lambda: NET.predict(W, ROW[None])),
        ("w", lambda: NET.predict(W[1:], ROW)),
        ("w", lambda: NET.predict(W[None], ROW)),
        ("tokens", lambda: NET.objective(ROW)),
        ("tokens", lambda: NET.objective(ROW[None])),
        ("tokens", lambda: NET.objective(torch.tensor([[0, 1, 2, 4]]))),
        ("tokens", lambda: NET.objective(torch.tensor([[0, 1, 2, -1]]))),
        ("tokens", lambda: NET.objective(torch.tensor([[0.0, 1, 2, 3]]))),
        ("tokens", lambda: NET.objective(torch.zeros(0, 4).long())),
        ("x", lambda: deep_linear(ONES[0], ONES)),
        ("x", lambda: deep_linear(ONES * NAN, ONES)),
        ("y", lambda: deep_linear(ONES, ONES[:3])),
        ("y", lambda: deep_linear(ONES, torch.ones(4, 3).double())),
        ("y", lambda: deep_linear(ONES, ONES * NAN)),
        ("w", lambda: losses(deep_linear(ONES, ONES), torch.ones(7).double())),
    ],
)
def test_bad_input_is_named(name, call):
    with pytest.raises(ValueError, match=rf"^{name}: expected"):
        call()
