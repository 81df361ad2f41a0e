"""Exercise 05_find_the_cause: references against the library and by brute force, the experiments
behind its statements, and the list of names."""

from itertools import combinations, product

import numpy as np
import pytest
import torch
from torch.func import vmap

from lib import checks, evaluation
from lib.checks import find_the_cause as bank
from lib.checks.engine import EMPTY, WRONG
from lib.counterfactuals import shapley, subsets
from lib.influence import direct, gauss_newton, influence, pbrf
from lib.models import log_odds_on
from lib.objective import losses
from lib.similarity import embedding_cosine
from lib.training import trajectory
from lib.unrolling import reverse_mode

PARTS = checks.parts("find_the_cause")

# Raised once, inside torch, when forward-mode derivatives are first used.
pytestmark = pytest.mark.filterwarnings("ignore:.torch.jit.script. is deprecated")


@pytest.fixture(autouse=True)
def progress_file(tmp_path, monkeypatch):
    monkeypatch.setenv("ATTRIBUTION_PROGRESS", str(tmp_path / "progress.json"))


@pytest.fixture(scope="module")
def trained():
    """The case, its run, the trained w and its observable."""
    case = bank.evidence()
    run = bank.recipe(case.x, case.y).run(0)
    return case, run, trajectory(run)[-1], _observable(case)


def _observable(case):
    asked = case.shown[case.shown_labels != case.answer]
    return log_odds_on(bank.MODEL.predict, asked, torch.full((len(asked),), case.answer))


def _kinds(seed=0):
    return bank._arranged(seed)[1]


def _rows(*kinds):
    return torch.isin(_kinds(), torch.tensor(kinds)).nonzero()[:, 0].tolist()


def _close(a, b, rel=1e-6):
    np.testing.assert_allclose(np.asarray(a), np.asarray(b), rtol=rel, atol=1e-10)


def _formulas(part):
    return {m.name: m.formula for m in PARTS[part].mistakes}


# --- (a) and (b) ---------------------------------------------------------------------------------


def test_behaviour_is_that_of_the_library(rng):
    for _ in range(4):
        predict, w, shown, labels, answer = PARTS["part_a"].cases(rng)
        x = shown[labels != answer]
        expected = log_odds_on(predict, x, torch.full((len(x),), answer))(w)
        _close(PARTS["part_a"].truth(predict, w, shown, labels, answer), expected)


def test_behaviour_must_have_a_derivative():
    def right(predict, w, shown, labels, answer):
        x = shown[labels != answer]
        return log_odds_on(predict, x, torch.full((len(x),), answer))(w)

    def detached(predict, w, *rest):
        return right(predict, w.detach(), *rest)

    def partly(predict, w, *rest):
        """The right number, whose derivative lacks the last parameters."""
        return right(predict, torch.cat([w[:-3], w[-3:].detach()]), *rest)

    def number(*case):
        return right(*case).item()

    def outside(*case):
        return right(*case).detach().numpy()

    part = PARTS["part_a"]
    for seed in range(3):
        assert part(right, seed=seed)
        for answer in (detached, partly, number, outside):
            result = part(answer, seed=seed)
            assert (result.outcome, result.diagnosis) == (WRONG, "no derivative"), answer
        assert part(lambda *case: 2 * detached(*case), seed=seed).diagnosis == "ratio 2"


def test_scores_are_those_of_the_library_and_of_refitting(rng):
    """The proximal Bregman response minimises again, and has no curvature in its answer."""
    objective, w, phi, effort = PARTS["part_b"].cases(rng)
    truth = PARTS["part_b"].truth(objective, w, phi, effort)
    solve = direct(gauss_newton(objective, w), objective.n / effort)
    _close(truth, influence(objective, w, phi, solve))
    refitted = pbrf(objective, w, phi, objective.n / effort)
    np.testing.assert_allclose(truth, refitted, rtol=1e-4, atol=1e-4 * np.abs(truth).max())
    assert objective.l2 > 0
    assert torch.linalg.matrix_rank(gauss_newton(objective, w)) == len(w)


# --- (c) and (h) ---------------------------------------------------------------------------------


def _by_search(scores, k):
    """Of all sets of at most k the one with the largest sum; then the fewest, then the first."""
    s = scores.tolist()
    sets = (c for size in range(k + 1) for c in combinations(range(len(s)), size))
    gone = min(sets, key=lambda c: (-round(sum(s[i] for i in c), 9), len(c), c))
    return [float(i not in gone) for i in range(len(s))]


def test_removal_by_search(rng):
    short = tied = 0
    for _ in range(12):
        scores, k = PARTS["part_c"].cases(rng)
        truth = PARTS["part_c"].truth(scores, k)
        assert truth == _by_search(scores, k)
        most = min(k, int((scores > 0).sum()))
        assert truth == evaluation.removals(scores, [most])[0].tolist()
        ordered = scores.sort(descending=True).values
        short += most < k
        tied += bool(ordered[k - 1] == ordered[k])
    assert short and tied


def test_rounds_by_the_library(rng):
    ties = zeros = few = 0
    for _ in range(12):
        attribute, n, k, times = PARTS["part_h"].cases(rng)
        beta, rows = torch.ones(n).double(), []
        for t in range(times):
            scores = attribute(beta).masked_fill(beta == 0, -100.0)
            most = min(k, int((scores > 0).sum()))
            ordered = scores.sort(descending=True).values
            ties += most == k and bool(ordered[k - 1] == ordered[k])
            zeros += bool(ordered[most] == 0) and most < k
            few += t == 0 and most < k
            beta = beta * evaluation.removals(scores, [most])[0]
            rows.append(beta.tolist())
        assert PARTS["part_h"].truth(attribute, n, k, times) == rows
        gone = beta == 0
        if gone.sum() > 4:  # what is gone would be in the way, or fill up a growing budget
            assert attribute(beta)[gone].max() > attribute(beta)[~gone].max()
    assert ties and zeros and few


def test_gone_examples_do_not_all_stand_out(rng):
    """Else top k, 2k, 3k … of all, with those that are gone, would do."""

    def without_mask(attribute, n, k, times):
        beta, rows = torch.ones(n).double(), []
        for t in range(times):
            scores = attribute(beta)
            most = min(k * (t + 1), int((scores > 0).sum()))
            beta = beta * evaluation.removals(scores, [most])[0]
            rows.append(beta)
        return torch.stack(rows)

    for seed in range(5):
        assert not PARTS["part_h"](without_mask, seed=seed)


# --- (d) -----------------------------------------------------------------------------------------


def test_case_is_as_it_is_told(trained):
    case, _, w, phi = trained
    kinds = _kinds()
    assert (len(case.x), (kinds == bank.CULPRIT).sum()) == (400, bank.NAMED)
    wrong = torch.isin(kinds, torch.tensor([bank.CULPRIT, bank.CALLED]))
    assert (case.y[wrong] == case.answer).all()
    assert (case.y[kinds == bank.HONEST] == case.answer).all()
    assert (case.y[kinds == bank.FAIR] != case.answer).all()
    asked = case.unseen[case.unseen_labels != case.answer]
    assert (bank.said(w, asked) == case.answer).float().mean() > 0.6
    assert (bank.said(w, case.plain) == case.unseen_labels).float().mean() > 0.85
    gone = torch.where(kinds == bank.CULPRIT, 0.0, 1.0)[None]
    cured = bank.recipe(case.x, case.y).reweighted(gone, 0)[0]
    assert (bank.said(cured, asked) == case.answer).float().mean() < 0.3
    assert phi(cured) < phi(w) - 1


def test_influence_finds_them_and_false_trails_do_not(trained):
    case, run, w, phi = trained
    objective, kinds = run.objective, _kinds()
    solve = direct(gauss_newton(objective, w), objective.n / run.rates.sum().item())
    scores = influence(objective, w, phi, solve)
    asked = case.shown[case.shown_labels != case.answer]
    queries = bank.MODEL.objective(asked, torch.full((len(asked),), case.answer))
    alike = -embedding_cosine(bank.MODEL, objective, queries, w).mean(1)

    def right(s):
        return int((kinds[s.argsort(descending=True)[:12]] == bank.CULPRIT).sum())

    assert right(scores) >= bank.ENOUGH
    for trail in (losses(objective, w), -scores, alike, -case.x.sum(1)):
        assert right(trail) < bank.ENOUGH
    named = scores.argsort(descending=True)[:12]
    assert PARTS["part_d"](named.tolist())


def test_named_by_their_kind(monkeypatch):
    """With a stand-in for retraining: by the number of culprits that are left."""
    monkeypatch.setattr(
        bank, "_without", lambda gone, seed=0: (12 - len({*gone} & {*_rows(bank.CULPRIT)})) / 16
    )
    part = PARTS["part_d"]
    culprits = _rows(bank.CULPRIT)
    for answer in (culprits, tuple(culprits[::-1]), np.array(culprits), set(culprits)):
        result = part(answer)
        assert result and result.more.startswith("12 of 12 are right")
    for mistake in part.mistakes:
        result = part(mistake.formula)
        assert result.outcome == WRONG and result.more
        assert (result.diagnosis, result.says) == (mistake.name, mistake.says)
    assert len({m.says for m in part.mistakes}) == len(part.mistakes)


def test_retraining_decides_too(monkeypatch):
    """Eight right are not enough though the behaviour goes; twelve are not, if it does not."""
    part, culprits = PARTS["part_d"], _rows(bank.CULPRIT)
    monkeypatch.setattr(bank, "_without", lambda gone, seed=0: 0.0 if gone else 1.0)
    few = [*culprits[: bank.ENOUGH - 1], *_rows(bank.ORDINARY)[:4]]
    assert part(few).diagnosis == "ordinary"
    assert part([*culprits[: bank.ENOUGH], *_rows(bank.ORDINARY)[:3]])
    monkeypatch.setattr(bank, "_without", lambda gone, seed=0: 0.5 if gone else 1.0)
    assert not part(culprits)


def test_lists_that_are_none():
    part, culprits = PARTS["part_d"], _rows(bank.CULPRIT)
    assert part(None).outcome == EMPTY
    for answer, diagnosis in (
        (culprits[:11], "count"),
        ([*culprits[:11], culprits[0]], "count"),
        ([*culprits[:11], 400], "range"),
        ([-1, *culprits[:11]], "range"),
        ([culprits], "type"),
        ([*culprits[:11], 0.5], "type"),
        ([float("nan")] * 12, "type"),
        (torch.zeros(400, dtype=torch.bool), "type"),
        ("the pale ones", "type"),
        ([], "type"),
    ):
        result = part(answer)
        assert (result.outcome, result.diagnosis) == (WRONG, diagnosis), answer


# --- (e) -----------------------------------------------------------------------------------------


def test_proof_is_a_sweep(rng):
    train, report, n, named, control, used, seeds = PARTS["part_e"].cases(rng)
    assert used in seeds[1:]
    beta = torch.stack([torch.ones(n).double().index_fill(0, g, 0) for g in (named, control)])
    out = evaluation.sweep(
        lambda rows, seed: torch.stack([train(b, seed) for b in rows]),
        report,
        beta,
        [s for s in seeds if s != used],
        progress=False,
    )
    mean, error = PARTS["part_e"].truth(train, report, n, named, control, used, seeds)
    d = (out[:, 0] - out[:, 1]).numpy()
    _close(mean, d.mean(0))
    _close(error, np.sqrt(np.cov(d.T).diagonal() / len(d)))


def test_pairs_have_the_smaller_error(rng):
    """A seed's own two trainings are alike, so that the spreads of the two do not add up."""
    ratio = []
    for _ in range(6):
        case = PARTS["part_e"].cases(rng)
        error = np.asarray(PARTS["part_e"].truth(*case)[1])
        ratio.append(np.log(error / _formulas("part_e")["not paired"](*case)[1]).mean())
    assert np.mean(ratio) < 0


# --- (f) -----------------------------------------------------------------------------------------


def test_shapley_values_are_those_of_the_library(rng):
    for _ in range(4):
        (table,) = PARTS["part_f"].cases(rng)
        m = table.ndim
        game = {s: float(table[tuple(int(i in s) for i in range(m))]) for s in subsets(m)}
        expected = shapley(game.__getitem__, m)
        _close(PARTS["part_f"].truth(table), expected)


def test_first_and_last_are_enough_for_two_groups_only(rng):
    half = _formulas("part_f")["first and last"]
    for m, same in ((1, True), (2, True), (3, False)):
        table = torch.from_numpy(rng.standard_normal([2] * m))
        assert np.allclose(half(table), PARTS["part_f"].truth(table)) == same


def test_two_sources_cover_for_each_other():
    two = bank.two_sources()
    sources = [two.groups["faint"], two.groups["column"]]
    beta = torch.ones(4, len(two.x)).double()
    for row, there in zip(beta, product((0, 1), repeat=2), strict=True):
        for present, group in zip(there, sources, strict=True):
            row[group] = present
    (table,) = evaluation.sweep(
        bank.recipe(two.x, two.y).reweighted,
        lambda w: (bank.said(w, two.unseen) == 7).double().mean(),
        beta,
        (1,),
        progress=False,
    ).view(1, 2, 2)
    divided = PARTS["part_f"].truth(table)
    left_out = [float(table[1, 1] - table[0, 1]), float(table[1, 1] - table[1, 0])]
    whole = float(table[1, 1] - table[0, 0])
    assert whole > 0.5
    assert sum(left_out) < 0.7 * whole
    assert divided.sum() == pytest.approx(whole)
    assert min(divided) > max(0, *left_out)


# --- (g) -----------------------------------------------------------------------------------------


def test_cause_behind_the_cause():
    """Unrolling has the slope of retraining; the influence function its sign wrong."""
    chain = bank.two_stages()
    by_ekfac, slope = bank.signs_for_m()
    unrolled = float(reverse_mode(chain.run, chain.phi, progress=False)[chain.m].sum())
    assert unrolled == pytest.approx(slope, rel=0.1)
    assert by_ekfac < 0 < unrolled
    assert PARTS["part_g"].truth() == "against, for"
    w = trajectory(chain.run)[-1]
    called = vmap(chain.mlp.predict, (None, 0))(w, chain.unseen).argmax(1) == bank.ANSWER
    assert called.float().mean() > 0.5
