"""Many runs at once, held against one run after another."""

from functools import partial

import numpy as np
import pytest
import torch

from lib import distributional as dist
from lib.evaluation import Recipe
from lib.ledger import differences
from lib.models import MLP
from lib.random_problems import normal
from lib.training import Momentum, constant, retrain
from lib.unrolling import forward_mode, reverse_mode

pytestmark = pytest.mark.filterwarnings("ignore:.torch.jit.script. is deprecated")


def small(rng, optimizer=None):
    mlp = MLP((3, 2, 3))
    x, y = normal(rng, 6, 3), torch.tensor([0, 1, 2, 1, 0, 2])
    kind = {} if optimizer is None else {"optimizer": optimizer}
    return Recipe(mlp.objective(x, y), mlp.initial, 2, 3, partial(constant, 0.3), **kind)


def probe(q):
    return lambda w: torch.stack([torch.sin(q @ w), (q @ w) ** 2])


@pytest.fixture
def case(rng):
    recipe = small(rng)
    return recipe, normal(rng, len(recipe.run(0).w0))


def test_runs_together_are_the_runs_apart(case, rng):
    recipe, q = case
    seeds = [3, 0, 11]
    beta = 1 + 0.2 * normal(rng, 3, 6)
    found = dist.over_seeds(recipe, probe(q), seeds, beta)
    for row, seed in enumerate(seeds):
        end = retrain(recipe.run(seed), beta[row], progress=False)
        torch.testing.assert_close(found[row], probe(q)(end))
    shared = dist.over_seeds(recipe, probe(q), seeds, beta[0])
    torch.testing.assert_close(shared[0], found[0])
    assert not torch.allclose(shared[1], found[1])
    torch.testing.assert_close(
        dist.over_seeds(recipe, probe(q), seeds),
        dist.over_seeds(recipe, probe(q), seeds, torch.ones(6).double()),
    )


@pytest.mark.parametrize("optimizer", [None, Momentum(0.8)])
def test_derivatives_together_are_those_apart(rng, optimizer):
    recipe = small(rng, optimizer)
    q = normal(rng, len(recipe.run(0).w0))
    values, slopes = dist.unrolled_over_seeds(recipe, probe(q), [5, 2])
    assert values.shape == (2, 2) and slopes.shape == (2, 6, 2)
    for row, seed in enumerate((5, 2)):
        run = recipe.run(seed)
        torch.testing.assert_close(slopes[row], reverse_mode(run, probe(q), progress=False))
        torch.testing.assert_close(slopes[row], forward_mode(run, probe(q), progress=False))
    one, first = dist.unrolled_over_seeds(recipe, lambda w: probe(q)(w)[0], [5, 2])
    assert one.shape == (2,) and first.shape == (2, 6)
    torch.testing.assert_close(first, slopes[:, :, 0])
    assert not values.requires_grad and not slopes.requires_grad


def test_mean_and_variance_move_as_retraining_says(case):
    recipe, q = case
    seeds, at = list(range(5)), torch.ones(6).double()

    def runs(beta):
        return dist.over_seeds(recipe, probe(q), seeds, beta)

    values, slopes = dist.unrolled_over_seeds(recipe, probe(q), seeds)
    mean, error = dist.mean_influence(slopes)
    by_retraining = differences(lambda beta: runs(beta).mean(dim=0), at).T
    torch.testing.assert_close(mean, by_retraining, rtol=1e-6, atol=1e-9)
    np.testing.assert_allclose(error, np.std(slopes.numpy(), axis=0, ddof=1) / 5**0.5)
    spread = dist.variance_influence(values, slopes)
    by_retraining = differences(lambda beta: runs(beta).var(dim=0, correction=0), at).T
    torch.testing.assert_close(spread, by_retraining, rtol=1e-6, atol=1e-9)
    torch.testing.assert_close(spread[:, 1], dist.variance_influence(values[:, 1], slopes[:, :, 1]))


def test_variance_influence_against_a_loop(rng):
    values, slopes = normal(rng, 7), normal(rng, 7, 3)
    for i in range(3):
        both = np.cov(values, slopes[:, i], ddof=0)[0, 1]
        assert dist.variance_influence(values, slopes)[i].item() == pytest.approx(2 * both)


NAN = torch.tensor([1.0, torch.nan])


@pytest.mark.parametrize(
    ("name", "call"),
    [
        ("seeds", lambda r: dist.over_seeds(r, torch.sum, [])),
        ("seeds", lambda r: dist.over_seeds(r, torch.sum, [1, 1])),
        ("seeds", lambda r: dist.unrolled_over_seeds(r, torch.sum, [])),
        ("seeds", lambda r: dist.unrolled_over_seeds(r, torch.sum, [2, 2])),
        ("beta", lambda r: dist.over_seeds(r, torch.sum, [1], torch.ones(5).double())),
        ("beta", lambda r: dist.over_seeds(r, torch.sum, [1], torch.ones(2, 6).double())),
        ("phi", lambda r: dist.unrolled_over_seeds(r, lambda w: w[None], [1])),
        ("influences", lambda r: dist.mean_influence(torch.ones(1, 3))),
        ("influences", lambda r: dist.variance_influence(torch.ones(4), torch.ones(3, 2))),
        (
            "values",
            lambda r: dist.variance_influence(torch.tensor([1.0, np.nan]), torch.ones(2, 2)),
        ),
    ],
)
def test_bad_input_is_named(case, name, call):
    with pytest.raises(ValueError, match=f"^{name}: "):
        call(case[0])
