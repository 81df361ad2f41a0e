"""Exercises 05_similarity and 05_choose: truths against routes that know no formula and against the
library, the experiments behind predictions, and the kinds of parts that only these banks have."""

import math
from dataclasses import replace
from itertools import combinations, pairwise, product

import numpy as np
import pytest
import scipy.optimize
import scipy.stats
import sympy as sp
import torch
from graded import agrees
from variants_similarity_choose import CHOOSE, SIMILARITY

from lib import checks
from lib.checks import choose as choose_bank
from lib.checks import similarity as similarity_bank
from lib.checks.engine import EMPTY, WRONG
from lib.comparison import ESTIMATORS, by_label_and_pixels, by_unrolling
from lib.data import digits
from lib.evaluation import lds, predicted_effects, reliability
from lib.influence import direct, gauss_newton, influence
from lib.linear_regression import deletion_update, least_squares, regression_influence
from lib.models import MLP, cross_entropy, linear, log_odds, logistic
from lib.objective import Objective, hessian
from lib.random_problems import normal, regression
from lib.similarity import cosines, hidden, last_layer_dot, trak

SIM, CHO = checks.parts("similarity"), checks.parts("choose")
VARIANTS = {**SIMILARITY, **CHOOSE}
GRADED_HERE = [SIM["part_b"], SIM["part_c"], SIM["part_g"], CHO["part_h"]]

# Raised once, inside torch, when forward-mode derivatives are first used.
pytestmark = [
    pytest.mark.filterwarnings("ignore:.torch.jit.script. is deprecated"),
    pytest.mark.usefixtures("progress_file"),
]


def _close(a, b, rel=1e-6):
    np.testing.assert_allclose(np.asarray(a), np.asarray(b), rtol=rel, atol=1e-10)


# --- letters, constructions, matchings -----------------------------------------------------------


@pytest.mark.parametrize("part", GRADED_HERE, ids=lambda part: part.id)
def test_wrong_answers_are_named_and_right_ones_accepted(part):
    wrong = (
        [(word, word, says) for word, says in part.wrong.items()]
        if hasattr(part, "truth")
        else [(mistake.name, mistake.formula, mistake.says) for mistake in part.mistakes]
    )
    assert len({name for name, _, _ in wrong}) == len(wrong) >= 8
    for name, answer, says in wrong:
        result = part(answer)
        assert (result.outcome, result.diagnosis, result.says) == (WRONG, name, says)
    for name, answer in VARIANTS[part.id].items():
        assert part(answer), name
    assert part(None).outcome == part(...).outcome == EMPTY


@pytest.mark.parametrize("name", ["part_b", "part_c"])
def test_letters(name):
    part, right = SIM[name], SIM[name].truth()
    every = {"".join(w) for k in range(1, 6) for w in combinations("abcde", k)}
    assert set(part.wrong) == every - {right} and set(part.options) == every
    for word, says in part.wrong.items():
        letter = says.split()[2]  # "Look at x again"
        assert says.startswith(f"Look at {letter} again: ")
        assert (letter in word) != (letter in right)
    for answer in (right[::-1], list(right), set(right), f" {right[0]},\n{right[1:].upper()} "):
        assert part(answer)
    for answer in ("", " \n", []):
        assert part(answer).outcome == EMPTY
    for answer in ("x" + right, f"{right[0]} and {right[1]}", 3, [1, 2], {right: True}, sp.S.One):
        result = part(answer)
        assert result.diagnosis == "type" and "letters from a to e, such as 'ad'" in result.says


def _rotation(angle):
    return np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])


def test_constructions_are_judged_by_their_properties(rng):
    """Random constructions: accepted exactly where a calculation of its own says so."""
    part, seen = SIM["part_g"], set()
    means = ((3, -1), (0.5, 1.5), (3, 1))
    for _ in range(300):
        turn = _rotation(rng.uniform(0, 6))
        p, q, slope = (turn @ rng.normal(mean, 0.7) for mean in means)
        c = turn @ np.diag([1.0, rng.uniform(-0.05, 0.3)]) @ turn.T
        c[0, 1] += 0.3 * (rng.uniform() < 0.1)
        valid = False
        if abs(c[0, 1] - c[1, 0]) < 1e-9 and np.trace(c) > 0 and np.linalg.det(c) > 0:
            by_p, by_q = (-(np.linalg.inv(c) @ slope) @ g for g in (p, q))
            angle_p, angle_q = (
                abs(np.arctan2(slope[0] * g[1] - slope[1] * g[0], slope @ g)) for g in (p, q)
            )
            valid = by_p > 0 > by_q and -by_q > by_p and angle_p < angle_q < np.pi / 2
        result = part((p, q, slope, c))
        assert bool(result) == valid
        seen.add(result.diagnosis)
    assert seen == {"", *(mistake.name for mistake in part.mistakes)} - {"zero"}


def test_constructions_of_wrong_kind():
    part, right = SIM["part_g"], SIMILARITY["similarity.part_g"]["hint"]
    assert part(right)
    for answer in (right[:3], "abc", {"C": 1}, 3, (*right[:3], 0.1), (*right[:3], np.eye(3))):
        assert part(answer).diagnosis == "type"
    for entry in (math.nan, math.inf, 1j, "1"):
        assert part(([entry, -1.0], *right[1:])).diagnosis == "type"
    tie = part((right[1], right[1], *right[2:]))
    assert tie.diagnosis == "P is not ahead" and "other way" not in tie.says
    assert "cosines with the slope" in tie.more and "influences of P and Q" in tie.more
    flat = part((*right[:3], [[1.0, 0.0], [0.0, 0.0]]))
    assert flat.diagnosis == "not positive definite" and "influences" not in flat.more


def test_matchings():
    part = CHO["part_h"]
    assert part.right == {
        "copies": "similarity",
        "final weights": "influence function",
        "checkpoints": "source",
        "repeatable": "unrolling",
        "any seed": "unrolling over seeds",
        "cheap": "datamodel",
        "suspects": "retraining",
    }
    empty = dict.fromkeys(part.right)
    assert part(empty).outcome == EMPTY
    partly = part({**part.right, "cheap": None})
    assert partly.outcome == EMPTY and "'cheap'" in partly.more
    assert part({**empty, "copies": "tracin"}).diagnosis == "copies: tracin"
    for bad in (list(part.right), {}, {**part.right, "more": "tracin"}, "similarity", 3):
        assert part(bad).diagnosis == "type"
    for word in ("similarities", 3, ["source"], ""):
        result = part({**part.right, "suspects": word})
        assert result.diagnosis == "type" and result.says.startswith("'suspects': ")
    # The first wrong one is spoken of.
    both = part({**part.right, "repeatable": "source", "cheap": "tracin"})
    assert both.diagnosis == "repeatable: source"


def test_methods_need_what_the_library_says():
    needs = {e.name: e.needs for e in ESTIMATORS}
    rows = {
        "similarity": "label × pixel cosine",
        "influence function": "influence, λ untuned",
        "source": "SOURCE",
        "unrolling": "exact unrolling",
    }
    levels = ("the data", "the model", "checkpoints", "the run")
    for method, row in rows.items():
        names = [name for name in needs if name.startswith(row)]
        assert names
        for name in names:
            assert choose_bank.METHODS[method].needs == levels.index(needs[name]), name
    assert needs["datamodel"] == "retraining" and choose_bank.METHODS["datamodel"].one_an_example


# --- similarity: formulas and references ---------------------------------------------------------


def test_last_layer_by_steps_on_it(rng):
    """A step against z_i's gradient, itself by differences, changes the query's loss by −dot."""
    weight, a, y, query, label = (
        v.numpy() if isinstance(v, torch.Tensor) else v for v in SIM["part_a"].cases(rng)
    )

    def loss(weight, a, y):
        logits = weight @ np.append(a, 1)
        return np.log(np.exp(logits).sum()) - logits[y]

    for i, found in enumerate(
        SIM["part_a"].truth(*map(torch.tensor, (weight, a, y, query)), label)
    ):
        slope = np.zeros_like(weight)
        for place in np.ndindex(*weight.shape):
            bump = np.zeros_like(weight)
            bump[place] = 1e-5
            slope[place] = (
                loss(weight + bump, a[i], y[i]) - loss(weight - bump, a[i], y[i])
            ) / 2e-5
        up, down = (loss(weight + s * 1e-5 * slope, query, label) for s in (1, -1))
        assert float(found) == pytest.approx((up - down) / 2e-5, rel=1e-5, abs=1e-8)


def test_last_layer_is_that_of_the_library(rng):
    mlp = MLP((3, 4, 5))
    w = normal(rng, mlp.p)
    made = [
        mlp.objective(normal(rng, n, 3), torch.from_numpy(rng.integers(0, 5, n))) for n in (6, 2)
    ]
    embeddings = [hidden(mlp, one, w) for one in made]
    dots = last_layer_dot(mlp, *made, w)
    for q in range(2):
        case = mlp.layers(w)[-1], embeddings[0], made[0].y, embeddings[1][q], int(made[1].y[q])
        _close(SIM["part_a"].truth(*case), -dots[:, q])


def test_situations_are_as_described():
    """What the question says of each: labels, embeddings; and the changes, from two factors."""
    changes = similarity_bank.one_step_on_the_last_layer()
    dots = {"a": 1.25, "b": 0, "c": 1.25, "d": 1.25, "e": -2}
    errors = {"a": 0, "b": 6 / 9, "c": 1, "d": -1 / 3, "e": 6 / 9}
    labels = {"a": (0, 0), "b": (0, 0), "c": (0, 1), "d": (0, 1), "e": (0, 0)}
    for name, (a, p, y, a_q, p_q, y_q) in similarity_bank.SITUATIONS.items():
        assert np.dot(a, a_q) == pytest.approx(dots[name]) and (y, y_q) == labels[name]
        assert (a == a_q) == (name in "acd")
        assert sum(p) == pytest.approx(1) and sum(p_q) == pytest.approx(1)
        expected = -errors[name] * (dots[name] + 1)
        assert changes[name] == pytest.approx(expected, rel=5e-3, abs=1e-6)


def test_change_of_units_for_other_data(rng):
    """By the library's functions, on data of its own, fitted by a general minimiser."""
    lasting = {name: True for name in "abcde"}
    units = torch.tensor(similarity_bank.UNITS).double()
    for _ in range(3):
        x, x_q = normal(rng, 12, 3), normal(rng, 1, 3)
        y = torch.from_numpy(np.where(x[:, 0].numpy() + rng.normal(0, 2, 12) > 0, 1.0, -1.0))
        # Each point with both labels as well, so that a finite minimum exists.
        x, y = torch.cat([x, x[:4]]), torch.cat([y, -y[:4]])
        scores = [_five_scores(x * by, y, x_q * by) for by in (torch.ones(3).double(), units)]
        for name in lasting:
            before, after = (score[name] for score in scores)
            lasting[name] &= bool((after - before).abs().max() < 1e-5 * before.abs().max())
    assert "".join(name for name in lasting if lasting[name]) == SIM["part_c"].truth()


def _five_scores(x, y, x_q):
    train = logistic(x, y)

    def total(w):
        return np.logaddexp(0, -(y.numpy() * (x.numpy() @ w))).sum()

    def slope(w):
        return -(y / (1 + torch.exp(y * (x @ torch.tensor(w))))).numpy() @ x.numpy()

    start = scipy.optimize.minimize(total, np.zeros(3), jac=slope, method="BFGS").x
    w = torch.tensor(scipy.optimize.root(slope, start, tol=1e-13).x)
    bent = hessian(train, w)

    def phi(w):
        return torch.nn.functional.softplus(-(x_q @ w)).squeeze()

    as_softmax = [
        Objective(lambda w, v: torch.stack([0 * (w @ v), w @ v]), cross_entropy, rows, labels)
        for rows, labels in ((x, (y > 0).long()), (x_q, torch.ones(1).long()))
    ]
    pulls = torch.func.vmap(lambda v, t: torch.func.grad(_logistic)(w, v, t))(x, y)
    pull = torch.func.grad(phi)(w)
    return {
        "a": cosines(x, x_q),
        "b": -cosines(pulls, pull[None]),
        "c": influence(train, w, phi, direct(bent)),
        "d": influence(train, w, phi, direct(bent, 1.0)),
        "e": trak(*as_softmax, w, 3, torch.Generator().manual_seed(0)),
    }


def _logistic(w, v, t):
    return torch.nn.functional.softplus(-t * (w @ v))


def test_loss_and_margin_by_differences(rng):
    for classes in (2, 3, 5):
        f, y = normal(rng, classes), torch.tensor(int(rng.integers(classes)))
        steps = 1e-6 * torch.eye(classes).double()
        slopes = [
            torch.stack([(of(f + e, y) - of(f - e, y)) / 2e-6 for e in steps])
            for of in (cross_entropy, log_odds)
        ]
        ratio = slopes[0] / slopes[1]
        assert (ratio - ratio[0]).abs().max() < 1e-7
        agrees(SIM["part_d"], {"m": log_odds(f, y).item()}, ratio[0])


def test_trak_for_squared_error_is_an_influence_function(rng):
    """That of a linear model in the projected slopes, at zero, whose labels are the residuals."""
    slopes, residuals, query_slopes, query_residuals, project, damping = SIM["part_e"].cases(rng)
    train = linear(slopes @ project, residuals)
    zero = torch.zeros(project.shape[1]).double()
    asked = query_slopes @ project

    def phi(v):
        return (query_residuals - asked @ v) ** 2 / 2

    by_library = influence(train, zero, phi, direct(gauss_newton(train, zero), damping))
    case = slopes, residuals, query_slopes, query_residuals, project, damping
    _close(SIM["part_e"].truth(*case), by_library)


def test_signs_for_a_projection(rng):
    """Against matrices written out, for vectors that the formula was not made of."""
    a, b = (1, -2, 2, 1), (3, 1, -1, 2)
    dots = [
        ((np.array(signs).reshape(4, 2).T @ a) @ (np.array(signs).reshape(4, 2).T @ b)) / 2
        for signs in product((1, -1), repeat=8)
    ]
    point = {
        "A": np.dot(a, a),
        "B": np.dot(b, b),
        "s": np.dot(a, b),
        "q": np.dot(np.square(a), np.square(b)),
        "d": 2,
    }
    agrees(SIM["part_f"], point, np.var(dots))
    assert similarity_bank.variance_by_enumeration(a, b, 2) == pytest.approx(np.var(dots))
    assert np.mean(dots) == pytest.approx(np.dot(a, b))
    # For Gaussian entries by drawing, and never less than for signs.
    drawn = rng.standard_normal((200_000, 2, 4)) / 2**0.5
    gaussian = np.var(((drawn @ a) * (drawn @ b)).sum(1))
    assert gaussian == pytest.approx((point["A"] * point["B"] + point["s"] ** 2) / 2, rel=0.03)
    assert gaussian > np.var(dots)
    # Where a and b share a single coordinate, signs make no error.
    one = {"A": 4, "B": 9, "s": 6, "q": 36, "d": 3}
    agrees(SIM["part_f"], one, similarity_bank.variance_by_enumeration((2, 0), (3, 0), 3))


def test_next_terms_of_heavy_damping(rng):
    """What the first three terms leave of the library's influence falls as λ⁻⁴, to a constant."""
    root, slope, pull = normal(rng, 4, 4), normal(rng, 4), normal(rng, 4)
    curvature = root @ root.T
    powers = [(slope @ torch.linalg.matrix_power(curvature, k) @ pull).item() for k in range(4)]
    for lam in (1e3, 2e3):
        exact = -(slope @ direct(curvature, lam)(pull)).item()
        point = {"s1": powers[1], "s2": powers[2], "lambda": lam}
        by_name = {s: sp.Float(point[s.name]) for s in SIM["part_h"].truth.free_symbols}
        terms = float(SIM["part_h"].truth.subs(by_name))
        left = exact + powers[0] / lam - terms
        assert left * lam**4 == pytest.approx(powers[3], rel=0.2, abs=0.02 * abs(powers[3]))


def test_a_wrong_copy_by_plain_steps():
    """One copy's harm after two epochs, by a loop that knows no library but the network."""
    harm, loss = similarity_bank.wrong_copies(2)
    images, labels = digits()
    small = torch.nn.functional.avg_pool2d(images.view(-1, 1, 8, 8), 2).flatten(1)
    small = 2 * (small - small.mean(0))
    rng = np.random.default_rng(5)
    chosen = torch.from_numpy(rng.permutation(len(small))[:200])
    given = labels[chosen].clone()
    given[180:] = (given[180:] + torch.from_numpy(rng.integers(1, 10, 20))) % 10
    assert (given[180:] != labels[chosen[180:]]).all() and (
        given[:180] == labels[chosen[:180]]
    ).all()
    mlp, generator = MLP((16, 8, 10)), torch.Generator().manual_seed(0)
    start = mlp.initial(generator)
    batches = torch.cat([torch.randperm(200, generator=generator).view(10, 20) for _ in range(2)])
    left_out = 3

    def trained(keep):
        w = start.clone()
        for batch in batches:
            rows = [j for j in batch.tolist() if keep or j != 180 + left_out]
            w = w.requires_grad_()
            f = torch.func.vmap(lambda v, w=w: mlp.predict(w, v))(small[chosen[rows]])
            total = torch.nn.functional.cross_entropy(f, given[rows], reduction="sum")
            w = (w - 0.5 / 20 * torch.autograd.grad(total, w)[0]).detach()
        own = chosen[180 + left_out]
        return torch.nn.functional.cross_entropy(
            mlp.predict(w, small[own])[None], labels[own][None]
        )

    assert loss[left_out] == pytest.approx(trained(True).item())
    assert harm[left_out] == pytest.approx((trained(True) - trained(False)).item(), rel=1e-6)


def test_wrong_copies_harm_more_after_a_long_training():
    short, long = (similarity_bank.wrong_copies(times)[0] for times in (8, 80))
    assert np.median(long) > 3 * np.median(short) > 0  # well beyond the factor of 2 in the question
    assert (long > 0).mean() > 0.8 and SIM["part_i"].truth() == "larger"


# --- choose: formulas and references -------------------------------------------------------------


def test_score_is_that_of_the_library(rng):
    for _ in range(5):
        influences, beta, outcomes = CHO["part_a"].cases(rng)
        predicted = predicted_effects(influences, beta)
        by_library = lds(predicted, outcomes, np.random.default_rng(0), resamples=2).value
        score = CHO["part_a"].truth(influences, beta, outcomes)
        assert score == pytest.approx(by_library)
        # A constant plays no part: β @ influences has the same order as (β − 1) @ influences.
        assert CHO["part_a"].truth(influences, beta + 3, outcomes) == pytest.approx(score)


def test_cases_of_the_score_tell_mistakes_apart(rng):
    for _ in range(20):
        influences, beta, outcomes = CHO["part_a"].cases(rng)
        predicted = (beta - 1) @ influences
        for each in (*predicted.T, *outcomes.T):
            assert 1 < len(each.unique()) < len(each)
        columns = predicted.T, outcomes.T
        each = [scipy.stats.spearmanr(*pair).statistic for pair in zip(*columns, strict=True)]
        assert min(each) < -0.2 < max(each) and (beta == 2).any() and (beta.sum(1) > 0).all()


def test_leaving_out_has_the_sign_of_minus_influence(rng):
    """By the library's exact deletions, over other problems; and in the bank's own."""
    found = choose_bank.leaving_out()
    assert found["with the influences"] == pytest.approx(-found["with the predictions"])
    assert found["with the influences"] < -0.9
    every = []
    for _ in range(30):
        c = regression(rng)
        q, answer = normal(rng, c.x.shape[1]), 1.0
        miss = q @ least_squares(c.x, c.y) - answer
        effects = -(regression_influence(c.x, c.y) @ q) * -miss
        changes = ((miss + deletion_update(c.x, c.y) @ q) ** 2 - miss**2) / 2
        every.append(scipy.stats.spearmanr(effects, changes).statistic)
    assert np.median(every) < -0.8


def test_number_of_seeds_by_drawing(rng):
    nu, few, many = 3.0, 2, 9
    effect = rng.standard_normal(400_000)

    def ceiling(seeds):
        average = effect + rng.normal(0, math.sqrt(nu / seeds), len(effect))
        return np.corrcoef(effect, average)[0, 1]

    point = {"alpha": round(ceiling(few) ** 2, 6), "s": few, "c": round(ceiling(many), 6)}
    agrees(CHO["part_c"], point, many, rel=0.05)


def test_corrected_score(rng):
    correlations, outcomes = CHO["part_d"].cases(rng)
    by_library = (correlations / reliability(outcomes).sqrt()).mean()
    assert CHO["part_d"].truth(correlations, outcomes) == pytest.approx(by_library.item())
    assert ((correlations / reliability(outcomes).sqrt()) > 1).sum() == 1
    assert correlations.max() < 1


def test_correction_finds_the_score_without_noise(rng):
    """Many sets: a method's correlation with effects that no one can see."""
    m, noise = 6000, np.array([0.5, 1.0, 2.0])
    effect = rng.standard_normal((m, 3))
    method = effect + np.array([0.3, 0.8, 0.5]) * rng.standard_normal((m, 3))
    outcomes = effect + noise * rng.standard_normal((3, m, 3)) + rng.standard_normal((3, 1, 3))

    def correlations(a, b):
        return np.array([np.corrcoef(a[:, q], b[:, q])[0, 1] for q in range(3)])

    seen = correlations(method, outcomes.mean(0))
    found = CHO["part_d"].truth(torch.from_numpy(seen), torch.from_numpy(outcomes))
    hidden_score = correlations(method, effect).mean()
    assert found == pytest.approx(hidden_score, abs=0.02) and seen.mean() < hidden_score - 0.1


def test_paired_errors_are_those_of_new_sets(rng):
    """The bootstrap's error against the spread over trainings drawn anew."""
    m = 150

    def drawn():
        outcomes, shared = rng.standard_normal((2, m))
        first = 0.7 * outcomes + shared + 0.3 * rng.standard_normal(m)
        return first, outcomes + shared + 0.3 * rng.standard_normal(m), outcomes

    def scores(first, second, outcomes):
        return [np.corrcoef(v, outcomes)[0, 1] for v in (first, second)]

    anew = np.array([scores(*drawn()) for _ in range(1000)])
    halves = []
    for _ in range(12):
        case = [torch.from_numpy(v) for v in drawn()]
        rows = torch.from_numpy(rng.integers(0, m, (80, m)))
        low, high = CHO["part_e"].truth(*case, rows, 1.0)
        halves.append((high - low) / 2)
        gap = np.subtract(*scores(*(v.numpy() for v in case)))
        assert (low + high) / 2 == pytest.approx(gap)
    true = np.diff(anew, axis=1).std()
    assert np.mean(halves) == pytest.approx(true, rel=0.15)
    assert np.hypot(*anew.std(axis=0)) > 1.5 * true  # unpaired


def test_implied_damping_by_training(rng):
    """A loss without curvature, L_i = w: each example's weight moves w_T by −η̄T/n on average, and
    damped influence at zero curvature is −1/λ."""
    for _ in range(3):
        n, batch, epochs, peak, last, warmup = CHO["part_f"].cases(rng)
        steps = epochs * n // batch
        moved, t = np.zeros(n), 0  # ∂w/∂β
        for _ in range(epochs):
            for rows in rng.permutation(n).reshape(-1, batch):
                rate = (
                    peak * (t + 1) / warmup
                    if t < warmup
                    else last
                    + (peak - last) / 2 * (1 + math.cos(math.pi * (t - warmup) / (steps - warmup)))
                )
                moved[rows] -= rate / batch
                t += 1
        assert t == steps
        damping = CHO["part_f"].truth(n, batch, epochs, peak, last, warmup)
        assert damping == pytest.approx(-1 / moved.mean())


def test_optimism_by_drawing(rng):
    bank = choose_bank
    drawn = rng.normal(bank.TRUE_SCORE, bank.NOISE, (400_000, bank.SETTINGS))
    assert drawn.max(axis=1).mean() - bank.TRUE_SCORE == pytest.approx(bank.optimism(), rel=5e-3)
    sizes = np.abs(drawn - bank.TRUE_SCORE).max(axis=1).mean()
    assert sizes == pytest.approx(bank.NOISE * bank._largest_size(bank.SETTINGS), rel=5e-3)
    part = CHO["part_g"]
    assert part(0.054) and not part(0.053) and not part(0.055)
    # The mistakes' numbers are apart by more than the tolerance, of each other and of the truth.
    values = sorted([bank.optimism(), *(float(m.formula) for m in part.mistakes)])
    assert all(b - a > 2 * part.rtol * b for a, b in pairwise(values))


def test_small_comparison_by_hand():
    """Two rivals' scores anew: pixels without the library, unrolling by its own function; and the
    order is beyond the errors."""
    task, table = choose_bank.small_task(), choose_bank.small_comparison()
    x, x_q = task.train.x.numpy(), task.queries.x.numpy()
    a, b = x - x.mean(0), x_q - x.mean(0)
    a, b = (v / np.linalg.norm(v, axis=1, keepdims=True) for v in (a, b))
    same = task.train.y.numpy()[:, None] == task.queries.y.numpy()[None]
    influences = {"a": -(a @ b.T) * same, "c": by_unrolling(task).numpy()}
    _close(influences["a"], by_label_and_pixels(task))
    for truth in choose_bank.small_truths(task):
        beta, outcomes = truth.beta[truth.tuning :].numpy(), truth.outcomes[truth.tuning :].numpy()
        part = table[table.truth == truth.name].set_index("method")
        for letter, values in influences.items():
            predicted = (beta - 1) @ values
            each = [
                scipy.stats.spearmanr(p, y).statistic
                for p, y in zip(predicted.T, outcomes.T, strict=True)
            ]
            assert part.lds[choose_bank.RIVALS[letter]] == pytest.approx(np.mean(each))
        scores = [part.loc[choose_bank.RIVALS[letter]] for letter in "abc"]
        for one, other in combinations(scores, 2):
            assert abs(one.lds - other.lds) > 1.5 * max(one.error, other.error)
    assert CHO["part_i"].truth() == "cba" and CHO["part_j"].truth() == "a"
    assert len(CHO["part_i"].options) == 6 and CHO["part_j"].options == ["a", "b", "c"]


def test_mistakes_that_are_right_after_all():
    """Answers that look like mistakes and give the same number: the parts must accept them."""
    part = CHO["part_a"]

    def not_subtracted(influences, beta, outcomes):
        return part.truth(influences, beta + 1, outcomes)

    def linear_fall(n, batch, epochs, peak, last, warmup):
        """As many steps on a straight line have the same sum as half a cosine."""
        steps = epochs * n // batch
        fall = steps - warmup
        rates = [peak * (t + 1) / warmup for t in range(warmup)]
        return n / sum([*rates, *(peak + (last - peak) * j / fall for j in range(fall))])

    assert part(not_subtracted, seed=0) and CHO["part_f"](linear_fall, seed=0)
    assert replace(part, draws=2)(not_subtracted, seed=1)
