"""Every estimator of the comparison by another route, on a network written out; and the table."""

import math
import os
import sys
import time
from dataclasses import replace
from functools import cache, partial
from itertools import pairwise

import numpy as np
import pytest
import torch
from scipy.linalg import block_diag, expm
from scipy.stats import spearmanr

from lib import comparison as co
from lib.comparison import ESTIMATORS, Estimator, Task, Truth, compare
from lib.evaluation import Recipe, predicted_effects
from lib.models import MLP
from lib.objective import Objective
from lib.training import constant, cosine

# Torch compiles its own rules when a forward derivative is first asked for.
pytestmark = pytest.mark.filterwarnings("ignore:.torch.jit.script:DeprecationWarning")

NAN = float("nan")
N, K, BATCH, TIMES, SEED, PEAK = 40, 5, 10, 3, 3, 0.6
STEPS = N // BATCH * TIMES


def close(left, right, rtol=1e-9):
    left, right = np.asarray(left), np.asarray(right)
    assert left.shape == right.shape
    assert np.isfinite(left).all() and np.abs(left - right).max() <= rtol * np.abs(right).max()


def small_task(**changes):
    rng = np.random.default_rng(0)
    x = torch.tensor(rng.normal(size=(N + K, 6)) + 0.3)
    y = torch.tensor(np.append(rng.permutation(N) % 3, [0, 1, 2, 2, 1]))
    mlp = MLP((6, 4, 3))
    recipe = Recipe(mlp.objective(x[:N], y[:N]), mlp.initial, BATCH, TIMES, partial(cosine, PEAK))
    return Task(mlp, replace(recipe, **changes), mlp.objective(x[N:], y[N:]), SEED)


TASK = small_task()


# --- the same network, its training and its derivatives, by hand ---------------------------------


def hidden(w, x):
    first = w[:28].view(4, 7)
    return torch.tanh(x @ first[:, :6].T + first[:, 6])


def logits(w, x):
    last = w[28:].view(3, 5)
    return hidden(w, x) @ last[:, :4].T + last[:, 4]


def net_losses(w, objective):
    chances = logits(w, objective.x).log_softmax(dim=1)
    return -chances[torch.arange(objective.n), objective.y]


def net_margins(w, objective):
    own = logits(w, objective.x).softmax(dim=1)[torch.arange(objective.n), objective.y]
    return torch.log(own / (1 - own))


def jacobian(values, w):
    return torch.autograd.functional.jacobian(values, w).numpy()


def slopes(objective, w):
    return jacobian(lambda v: net_losses(v, objective), w)


RATES = [PEAK * (1 + math.cos(math.pi * t / STEPS)) / 2 for t in range(STEPS)]
EFFORT = sum(RATES)


def batches(kept):
    """The start, and the batches of those who are kept, in their order of arrival."""
    draws = torch.Generator().manual_seed(SEED)
    w0 = TASK.mlp.initial(draws)
    found = []
    for _ in range(TIMES):
        order = [i for i in torch.randperm(N, generator=draws).tolist() if kept[i]]
        found += [order[at : at + BATCH] for at in range(0, len(order), BATCH)]
    return w0, found


def path(beta):
    """w_0, …, w_T by plain SGD and backward passes."""
    w, steps = batches([1] * N)
    points = [w]
    for batch, rate in zip(steps, RATES, strict=True):
        w = w.detach().requires_grad_()
        (beta[batch] * net_losses(w, TASK.train.take(torch.tensor(batch)))).sum().backward()
        w = (w - rate / BATCH * w.grad).detach()
        points.append(w)
    return torch.stack(points)


def retrained(beta):
    """The losses on the queries after training with data weights beta; (k,)."""
    return net_losses(path(beta)[-1], TASK.queries)


ONES = torch.ones(N).double()
PATH = path(ONES)
W = PATH[-1]
QUERIES = torch.arange(K)


@cache
def found(name):
    """The answer of the estimator of this name."""
    [estimate] = [e.estimate for e in ESTIMATORS if e.name == name]
    return estimate(TASK)


def cosines(a, b):
    a, b = (rows / np.linalg.norm(rows, axis=1)[:, None] for rows in (a, b))
    return a @ b.T


# --- the task ------------------------------------------------------------------------------------


def test_the_task_is_the_run():
    close(TASK.path, PATH, 1e-12)
    assert torch.equal(TASK.w, TASK.path[-1]) and TASK.train is TASK.recipe.objective
    assert TASK.run.steps == STEPS and TASK.effort == pytest.approx(EFFORT, rel=1e-12)
    close(TASK.phi(W), net_losses(W, TASK.queries))
    assert not torch.equal(replace(TASK, seed=4).w, TASK.w)
    assert Task(TASK.mlp, TASK.recipe, TASK.queries).seed == 0


def test_dampings_are_those_of_training_and_around_it():
    natural = N / EFFORT
    wanted = [natural / 100, natural / 10, 0.3 * natural, natural, 3 * natural, 10 * natural]
    close(list(TASK.dampings.values()), [*wanted, 100 * natural])
    assert list(TASK.dampings)[:4] == [f"λ = {by} n/η̄T" for by in ("0.01", "0.1", "0.3", "1")]


def test_the_list_is_complete():
    functions = {value for name, value in vars(co).items() if name.startswith("by_")}
    assert {each.estimate for each in ESTIMATORS} == functions and len(functions) == 19
    assert len({each.name for each in ESTIMATORS}) == len(ESTIMATORS)
    needs = [co.NEEDS.index(each.needs) for each in ESTIMATORS]
    assert needs == sorted(needs) and set(needs) == set(range(5))


@pytest.mark.parametrize("name", [each.name for each in ESTIMATORS])
def test_every_estimator_answers_for_every_example_and_query(name):
    answer = found(name)
    answers = {"": answer} if isinstance(answer, torch.Tensor) else answer
    assert len(answers) > 0
    for setting, influences in answers.items():
        assert isinstance(setting, str) and influences.shape == (N, K)
        assert influences.dtype == torch.float64 and torch.isfinite(influences).all()
        assert not influences.requires_grad and influences.abs().max() > 0


# --- estimators that look at the data or the model -----------------------------------------------


def test_likeness():
    alike = -(TASK.train.y.numpy()[:, None] == TASK.queries.y.numpy()).astype(float)
    close(found("same label"), alike)
    mean = TASK.train.x.numpy().mean(axis=0)
    close(
        found("label × pixel cosine"),
        alike * cosines(TASK.train.x.numpy() - mean, TASK.queries.x.numpy() - mean),
    )
    a, b = hidden(W, TASK.train.x).numpy(), hidden(W, TASK.queries.x).numpy()
    close(found("embedding cosine"), -cosines(a - a.mean(axis=0), b - a.mean(axis=0)))


def test_gradients():
    a, b = slopes(TASK.train, W), slopes(TASK.queries, W)
    close(found("gradient dot"), -a @ b.T)
    close(found("gradient cosine"), -cosines(a, b))
    close(found("last-layer gradients"), -a[:, 28:] @ b[:, 28:].T)


def test_trak():
    assert list(found("TRAK, one model")) == ["32 dimensions"]
    projection = torch.randn(
        43, 32, generator=torch.Generator().manual_seed(32), dtype=torch.float64
    )
    a, b = (
        jacobian(lambda v, o=o: net_margins(v, o), W) @ projection.numpy() / 32**0.5
        for o in (TASK.train, TASK.queries)
    )
    out, there = (1 - torch.exp(-net_losses(W, o)).numpy() for o in (TASK.train, TASK.queries))
    wanted = -out[:, None] * (a @ np.linalg.solve(a.T @ a + 1e-3 * np.eye(32), b.T)) * there
    close(found("TRAK, one model")["32 dimensions"], wanted, 1e-6)


def pairs(w):
    """For each layer and example its input with a 1, and the pre-activations' Jacobian (3, out)."""
    layers = [([], []), ([], [])]
    last = w[28:].view(3, 5)[:, :4].numpy()
    for x in TASK.train.x:
        h = hidden(w, x).numpy()
        layers[0][0].append(np.append(x.numpy(), 1))
        layers[0][1].append(last * (1 - h**2))
        layers[1][0].append(np.append(h, 1))
        layers[1][1].append(np.eye(3))
    return [(np.array(a), np.array(j)) for a, j in layers]


def bends(w):
    """diag(p) − ppᵀ of each example's softmax, (n, 3, 3)."""
    p = logits(w, TASK.train.x).softmax(dim=1).numpy()
    return np.einsum("nc,cd->ncd", p, np.eye(3)) - np.einsum("nc,nd->ncd", p, p)


def whole_gauss_newton(w):
    j = jacobian(lambda v: logits(v, TASK.train.x), w)
    return np.einsum("ncp,ncd,ndq->pq", j, bends(w), j)


def factored(points, fitted):
    """K-FAC of means over points, (p, p); fitted: EK-FAC."""
    blocks = []
    at, n = [pairs(w) for w in points], N * len(points)
    for layer in (0, 1):
        a = np.concatenate([each[layer][0] for each in at])
        j = np.concatenate([each[layer][1] for each in at])
        bent = np.concatenate([bends(w) for w in points])
        s = np.einsum("nco,ncd,ndq->noq", j, bent, j)
        block = N * np.kron(s.mean(axis=0), a.T @ a / n)
        if fitted:
            exact = sum(np.kron(s_i, np.outer(a_i, a_i)) for s_i, a_i in zip(s, a, strict=True))
            turn = np.kron(np.linalg.eigh(s.mean(axis=0))[1], np.linalg.eigh(a.T @ a / n)[1])
            block = turn * np.diag(turn.T @ exact @ turn) @ turn.T / len(points)
        blocks.append(block)
    return block_diag(*blocks)


@pytest.mark.parametrize("name", ["influence", "influence, K-FAC", "influence, EK-FAC"])
def test_influence_functions(name):
    curvature = {
        "influence": lambda: whole_gauss_newton(W),
        "influence, K-FAC": lambda: factored([W], fitted=False),
        "influence, EK-FAC": lambda: factored([W], fitted=True),
    }[name]()
    answers, dampings = found(name), TASK.dampings
    assert list(answers) == list(dampings)
    a, b = slopes(TASK.train, W), slopes(TASK.queries, W)
    for setting, damping in dampings.items():
        wanted = -a @ np.linalg.solve(curvature + damping * np.eye(43), b.T)
        close(answers[setting], wanted, 1e-7)
    if name == "influence":
        close(found("influence, λ untuned"), answers["λ = 1 n/η̄T"])


DRAWN, SGLD = [], co.sgld


@pytest.fixture(autouse=True)
def short(monkeypatch):
    """Samplers run for a twentieth of the time, and what they drew is noted."""

    def shorter(gibbs, w0, *, draws, burn_in, thin, **options):
        states = list(SGLD(gibbs, w0, draws=draws // 20, burn_in=burn_in // 20, **options))
        DRAWN.append((gibbs, w0, options, torch.stack(states)))
        return states

    monkeypatch.setattr(co, "sgld", shorter)


def test_the_bayesian_influence_function():
    """Minus κ times the covariances of what was drawn, around w_T, as tightly as training did."""
    DRAWN.clear()
    answers = co.by_posterior(TASK)
    for (setting, answer), (gibbs, w0, options, states) in zip(answers.items(), DRAWN, strict=True):
        cold = float(setting.removeprefix("κ = "))
        assert gibbs.objective is TASK.train and gibbs.inverse_temperature == cold
        assert gibbs.localisation == pytest.approx(cold * N / EFFORT, rel=1e-12)
        assert torch.equal(gibbs.centre, TASK.w) and (w0 == TASK.w).all() and len(w0) > 1
        # Well within what is stable on the steepest side of the well.
        steepest = np.linalg.eigvalsh(whole_gauss_newton(W)).max() + N / EFFORT
        assert 0.1 < options["step"] * cold * steepest < 1
        points = states.reshape(-1, 43)
        train, asked = (
            np.array([net_losses(w, o).numpy() for w in points]) for o in (TASK.train, TASK.queries)
        )
        wanted = -cold * np.cov(train, asked, rowvar=False)[:N, N:]
        close(answer, wanted, 1e-7)
    again = co.by_posterior(TASK)
    assert all(torch.equal(answer, again[setting]) for setting, answer in answers.items())


# --- estimators that look at the run -------------------------------------------------------------


def cuts(many):
    """First and last step of each segment."""
    at = [round(STEPS * part / many) for part in range(many + 1)]
    return list(pairwise(at))


def test_tracin():
    wanted = np.zeros((N, K))
    for t, batch in enumerate(batches([1] * N)[1]):
        push = slopes(TASK.queries, PATH[t]).T
        wanted[batch] -= RATES[t] / BATCH * slopes(TASK.train, PATH[t])[batch] @ push
    close(found("TracIn, every step"), wanted)


def test_tracin_at_checkpoints():
    wanted = 0
    for first, last in cuts(5):
        w = PATH[first + (last - first) // 2]
        share = sum(RATES[first:last]) / N
        wanted = wanted - share * slopes(TASK.train, w) @ slopes(TASK.queries, w).T
    close(found("TracIn, 5 checkpoints"), wanted)


@pytest.mark.parametrize("name", ["SOURCE", "SOURCE, EK-FAC"])
def test_source(name):
    def mean_curvature(points):
        if name == "SOURCE, EK-FAC":
            return factored(points, fitted=True) / N
        exact = [
            torch.autograd.functional.hessian(lambda v: net_losses(v, TASK.train).sum(), w)
            for w in points
        ]
        return torch.stack(exact).mean(dim=0).numpy() / N

    wanted, push, p = 0, slopes(TASK.queries, W).T, 43
    for first, last in reversed(cuts(3)):
        points = [PATH[first + 1], PATH[first + 3]]  # of four steps
        bend, effort = mean_curvature(points), sum(RATES[first:last])
        both = np.block([[-bend, np.eye(p)], [np.zeros((p, 2 * p))]])
        answered = expm(effort * both)[:p, p:]  # ∫ e^(−tH̄) dt
        mean = np.mean([slopes(TASK.train, w) for w in points], axis=0)
        wanted = wanted - mean @ answered @ push / N
        push = expm(-effort * bend) @ push
    close(found(name), wanted, 1e-7)


def test_exact_unrolling_is_the_derivative_of_retraining():
    h, wanted = 1e-3, []
    for i in range(N):
        up, down, far_up, far_down = (
            retrained(ONES + by * h * torch.eye(N).double()[i]) for by in (1, -1, 2, -2)
        )
        wanted.append((8 * (up - down) - (far_up - far_down)) / (12 * h))
    close(found("exact unrolling"), torch.stack(wanted), 1e-7)


def test_leave_one_out():
    whole = retrained(ONES)
    wanted = [whole - retrained(ONES - torch.eye(N).double()[i]) for i in range(N)]
    close(found("leave-one-out"), torch.stack(wanted), 1e-8)


class Additive(Recipe):
    """Training whose parameters, and so the losses below, are a sum over those who were there."""

    def anew(self, kept, seed):
        return kept @ self.shares()

    @staticmethod
    def shares():
        return torch.tensor(np.random.default_rng(5).normal(size=(N, 43)))


def linear_loss(f, y):
    return f.sum() + y


def test_the_datamodel_recovers_what_is_additive():
    """Up to a constant, which who was in cannot tell, as a half is always in."""
    rng = np.random.default_rng(6)
    x = torch.tensor(rng.normal(size=(K, 43)))
    queries = Objective(lambda w, x_i: w * x_i, linear_loss, x, torch.arange(K).double())
    recipe = Additive(**vars(small_task().recipe))
    answer = co.by_datamodel(Task(TASK.mlp, recipe, queries, SEED))
    wanted = (Additive.shares() @ x.T).numpy()
    wanted -= wanted.mean(axis=0)
    close(answer, wanted, 0.01)
    assert answer.mean(dim=0).abs().max() < 1e-9


@pytest.fixture
def sweeps(monkeypatch):
    """What is trained, on which weights and seeds, and what comes out."""
    seen, sweep = [], co.sweep

    def kept(training, phi, beta, which, **options):
        outcomes = sweep(training, phi, beta, which, **options)
        seen.append((training, beta, which, outcomes[0]))
        return outcomes

    monkeypatch.setattr(co, "sweep", kept)
    return seen


def penalties(beta, outcomes, answer):
    """The α of each column, from ridge regression's Xᵀ(y − Xa) = αa."""
    x, y = ((table - table.mean(dim=0)).numpy() for table in (beta, outcomes))
    a = answer.numpy()
    pulled = x.T @ (y - x @ a)
    found = (pulled * a).sum(axis=0) / (a**2).sum(axis=0)
    close(pulled, found * a, 1e-6)
    return found


class HalfNoise(Recipe):
    """Training to two parameters: one additive, the other as good as random."""

    def anew(self, kept, seed):
        u, v = torch.tensor(np.random.default_rng(7).normal(size=(2, N)))
        return torch.stack([kept @ u, torch.sin(1000 * kept @ v)], dim=1)


def test_the_datamodel_penalises_every_query_as_it_needs(sweeps):
    x = torch.eye(2).double()
    queries = Objective(lambda w, x_i: w * x_i, linear_loss, x, torch.zeros(2).double())
    recipe = HalfNoise(**vars(small_task().recipe))
    answer = co.by_datamodel(Task(TASK.mlp, recipe, queries, SEED))
    [(_, beta, _, outcomes)] = sweeps
    close(penalties(beta, outcomes, answer), [1.0, 1e4], 1e-6)


def test_the_datamodel_is_a_regression_on_halves(sweeps):
    """What it trains on: 2000 halves of whole batches, all from one seed that is not the run's."""
    answer = co.by_datamodel(TASK)
    [(training, beta, (seed,), outcomes)] = sweeps
    assert training == TASK.recipe.anew and seed != SEED
    assert beta.shape == (2000, N) and (beta.sum(dim=1) == N // 2).all()
    near = np.abs(np.log10(penalties(beta, outcomes, answer))[:, None] - np.linspace(0, 4, 9))
    assert near.min(axis=1).max() < 1e-6
    other = co.by_datamodel(replace(TASK, seed=SEED + 1))
    assert (
        not torch.equal(sweeps[1][1], beta) and np.corrcoef(other[:, 0], answer[:, 0])[0, 1] > 0.3
    )


def test_how_well_the_estimators_do_here():
    """Against retraining with one example less: the exact derivative leads, and signs are right."""
    truth = torch.stack(
        [retrained(ONES - torch.eye(N).double()[i]) - retrained(ONES) for i in range(N)]
    )
    scores = {}
    for each in ESTIMATORS:
        answer = found(each.name)
        if not isinstance(answer, torch.Tensor):
            answer = list(answer.values())[len(answer) // 2]
        scores[each.name] = np.mean([spearmanr(-answer[:, q], truth[:, q])[0] for q in range(K)])
    assert scores.pop("embedding cosine") < 0.5  # it looks at no label
    assert min(scores.values()) > 0.25
    assert scores["exact unrolling"] > 0.95 and scores["leave-one-out"] > 1 - 1e-9
    assert scores["SOURCE"] > scores["gradient dot"] > scores["same label"]


# --- truth and table -----------------------------------------------------------------------------


def columns(rng, rows=30):
    return torch.tensor(rng.uniform(0, 1, size=(rows, N)).round())


def spearman(influences, beta, outcomes):
    predicted = (beta.numpy() - 1) @ influences.numpy()
    return np.mean([spearmanr(predicted[:, q], outcomes[:, q])[0] for q in range(K)])


def two_minds():
    """Outcomes that follow a on the rows to tune on, and b on those to report."""
    rng = np.random.default_rng(1)
    a, b = (torch.tensor(rng.normal(size=(N, K))) for _ in range(2))
    beta = columns(rng)
    outcomes = torch.cat([(beta[:12] - 1) @ a, (beta[12:] - 1) @ b])
    return a, b, Truth("two minds", beta, outcomes, 12)


def test_a_setting_is_chosen_on_the_rows_to_tune_on_alone():
    a, b, truth = two_minds()
    beta, outcomes = truth.beta, truth.outcomes
    for influences in ({"a": a, "b": b}, {"b": b, "a": a}):
        score, chosen = truth.score(influences, np.random.default_rng(0))
        assert chosen == "a"
        assert score.value == pytest.approx(spearman(a, beta[12:], outcomes[12:]), abs=1e-12)
        assert abs(score.value) < 0.4 and 0 < score.error < 0.3
    # And nothing that is to be reported has a say.
    noise = torch.tensor(np.random.default_rng(2).normal(size=(18, K)))
    other = replace(truth, outcomes=torch.cat([outcomes[:12], noise]))
    assert other.score({"a": a, "b": b}, np.random.default_rng(0))[1] == "a"
    swapped = replace(truth, tuning=27)
    score, chosen = swapped.score({"a": a, "b": b}, np.random.default_rng(0))
    on_tuning = [spearman(each, beta[:27], outcomes[:27]) for each in (a, b)]
    assert chosen == "ab"[int(np.argmax(on_tuning))]
    best = a if chosen == "a" else b
    assert score.value == pytest.approx(spearman(best, beta[27:], outcomes[27:]), abs=1e-12)


def test_the_worst_setting_is_not_chosen():
    """Minus the best one correlates as strongly."""
    a, b, truth = two_minds()
    names = {"minus a": -a, "noisy": a + 2 * b, "a little noisy": a + 0.5 * b}
    assert truth.score(names, np.random.default_rng(0))[1] == "a little noisy"


def test_one_setting_needs_no_choice():
    _, b, truth = two_minds()
    wanted = spearman(b, truth.beta[12:], truth.outcomes[12:])
    assert wanted == pytest.approx(1)
    for influences, name in ((b, ""), ({"only": b}, "only")):
        score, chosen = truth.score(influences, np.random.default_rng(0))
        assert chosen == name and score.value == pytest.approx(1, abs=1e-12)
    single = truth.score(b.float(), np.random.default_rng(0))[0]
    assert single.value > 0.999


def test_three_rows_are_enough_for_either():
    a, _, truth = two_minds()
    for tuning in (3, 27):
        score, chosen = replace(truth, tuning=tuning).score(
            {"a": a, "-a": -a}, np.random.default_rng(0)
        )
        assert chosen == "a" and np.isfinite(score.error)


def hungry(task):
    """Takes 600 MB and a quarter of a second, and looks at where it is."""
    assert "path" in vars(task), "trained again"
    assert torch.get_num_threads() == 1
    assert os.environ.get("NOT_IN_PROCESS") != str(os.getpid())
    time.sleep(0.25)
    return co.by_label(task) * torch.ones(600 * 2**20 // 4)[-1]


CHOSEN = [
    Estimator("hungry", "the data", hungry),
    Estimator("dot", "the model", co.by_gradient_dot),
]
COLUMNS = ["method", "needs", "truth", "setting", "lds", "error", "seconds", "megabytes"]


def two_truths():
    """One that follows the second estimator, and one that follows neither."""
    beta = columns(np.random.default_rng(3), 20)
    follows = Truth("follows", beta, predicted_effects(co.by_gradient_dot(TASK), beta), 5)
    return [two_minds()[2], follows]


def test_the_table(monkeypatch):
    monkeypatch.setattr(torch, "get_num_threads", lambda: 1)
    task, truths = small_task(), two_truths()
    assert len(task.path) == STEPS + 1
    table = compare(task, truths, np.random.default_rng(0), CHOSEN)
    assert list(table.columns) == COLUMNS and len(table) == 4
    assert table.method.tolist() == ["hungry", "hungry", "dot", "dot"]
    assert table.needs.tolist() == ["the data"] * 2 + ["the model"] * 2
    assert table.truth.tolist() == ["two minds", "follows"] * 2
    assert table.setting.tolist() == [""] * 4
    wanted = [
        spearman(each, one.beta[one.tuning :], one.outcomes[one.tuning :])
        for each in (co.by_label(TASK), co.by_gradient_dot(TASK))
        for one in truths
    ]
    close(table.lds, wanted)
    assert wanted[3] == pytest.approx(1) and wanted[1] < 0.9
    assert (table.error[:3] > 0.01).all() and (table.error[:3] < 0.5).all()
    assert abs(table.error[3]) < 1e-9
    assert table.seconds[0] == table.seconds[1] >= 0.25
    assert table.seconds[2] == table.seconds[3] > 0
    assert table.megabytes.isna().all()


def test_each_in_a_process_of_its_own(monkeypatch):
    monkeypatch.setenv("OMP_NUM_THREADS", "2")  # of which it should use one
    monkeypatch.setenv("NOT_IN_PROCESS", str(os.getpid()))
    task, truths = small_task(), two_truths()
    torch.ones(2**30 // 4)  # what this process once had is not what another needs
    alone = compare(task, truths, np.random.default_rng(0), CHOSEN, alone=True)
    monkeypatch.delenv("NOT_IN_PROCESS")
    monkeypatch.setattr(torch, "get_num_threads", lambda: 1)
    here = compare(task, truths, np.random.default_rng(0), CHOSEN)
    told = ["method", "needs", "truth", "setting", "lds", "error"]
    assert alone[told].equals(here[told]) and list(alone.columns) == COLUMNS
    assert alone.seconds[0] == alone.seconds[1] >= 0.25 and alone.seconds[2] > 0
    if sys.platform == "linux":
        assert alone.megabytes[0] == alone.megabytes[1] and 500 < alone.megabytes[0] < 700
        assert 0 <= alone.megabytes[2] < 200


def test_settings_reach_the_table():
    a, b, truth = two_minds()
    estimators = [Estimator("both", "the run", lambda task: {"b": b, "a": a})]
    table = compare(
        TASK, [truth, replace(truth, name="again")], np.random.default_rng(0), estimators
    )
    assert table.setting.tolist() == ["a", "a"] and table.truth.tolist() == ["two minds", "again"]
    assert table.lds[0] == table.lds[1] and len(compare(TASK, [], None, estimators)) == 0


# --- errors --------------------------------------------------------------------------------------

A, _, TRUTH = two_minds()


@pytest.mark.parametrize(
    "name, call",
    [
        ("beta", lambda: replace(TRUTH, beta=TRUTH.beta[0])),
        ("beta", lambda: replace(TRUTH, beta=TRUTH.beta * NAN)),
        ("outcomes", lambda: replace(TRUTH, outcomes=TRUTH.outcomes[:, 0])),
        ("outcomes", lambda: replace(TRUTH, outcomes=TRUTH.outcomes[1:])),
        ("outcomes", lambda: replace(TRUTH, outcomes=TRUTH.outcomes * NAN)),
        ("tuning", lambda: replace(TRUTH, tuning=2)),
        ("tuning", lambda: replace(TRUTH, tuning=28)),
        ("tuning", lambda: replace(TRUTH, tuning=-3)),
        ("influences", lambda: TRUTH.score({}, np.random.default_rng(0))),
        ("influences", lambda: TRUTH.score(A[0], np.random.default_rng(0))),
        ("influences", lambda: TRUTH.score(A * NAN, np.random.default_rng(0))),
        ("influences", lambda: TRUTH.score({"a": A, "b": A * NAN}, np.random.default_rng(0))),
        ("predicted", lambda: TRUTH.score(A[:, 1:], np.random.default_rng(0))),
        ("predicted", lambda: TRUTH.score(0 * A, np.random.default_rng(0))),
        ("batch", lambda: small_task(batch=7).run),
        ("rates", lambda: small_task(schedule=partial(constant, 1e308)).w),
    ],
)
def test_bad_input_is_named(name, call):
    with pytest.raises(ValueError, match=f"^{name}: "):
        call()
