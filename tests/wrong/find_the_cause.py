"""Wrong answers to the exercise on finding the cause: {part id: {what went wrong: answer}}.

Written without a look at the catalogue of known mistakes.
"""

from itertools import product

import torch
from torch.func import grad, vmap

from lib.influence import gauss_newton
from lib.objective import gradients

# --- (a) the behaviour ---------------------------------------------------------------------------


def behaviour_all_rows(predict, w, shown, labels, answer):
    logs = vmap(predict, (None, 0))(w, shown).log_softmax(1)
    others = torch.cat([logs[:, :answer], logs[:, answer + 1 :]], dim=1)
    return (logs[:, answer] - others.logsumexp(1)).mean()


def behaviour_log_probability(predict, w, shown, labels, answer):
    logits = vmap(predict, (None, 0))(w, shown[labels != answer])
    return logits.log_softmax(1)[:, answer].mean()


def behaviour_of_mean(predict, w, shown, labels, answer):
    logits = vmap(predict, (None, 0))(w, shown[labels != answer])
    p = logits.softmax(1)[:, answer].mean()
    return torch.log(p / (1 - p))


# --- (b) the influence ---------------------------------------------------------------------------


def _score(objective, w, phi, damping):
    damped = gauss_newton(objective, w) + damping * torch.eye(len(w), dtype=w.dtype)
    return -gradients(objective, w) @ torch.linalg.solve(damped, grad(phi)(w))


def score_of_mean(objective, w, phi, effort):
    return _score(objective, w, phi, 1 / effort)


def score_no_minus(objective, w, phi, effort):
    return -_score(objective, w, phi, objective.n / effort)


def score_undamped(objective, w, phi, effort):
    return _score(objective, w, phi, 0.0)


# --- (c) the removal -----------------------------------------------------------------------------


def without_any_sign(scores, k):
    beta = torch.ones(len(scores)).double()
    beta[scores.argsort(descending=True, stable=True)[:k]] = 0
    return beta


def without_ties_from_the_end(scores, k):
    first = scores.argsort(stable=True).flip(0)[:k]
    beta = torch.ones(len(scores)).double()
    beta[first[scores[first] > 0]] = 0
    return beta


def without_inverted(scores, k):
    first = scores.argsort(descending=True, stable=True)[:k]
    beta = torch.zeros(len(scores)).double()
    beta[first[scores[first] > 0]] = 1
    return beta


# --- (d) the names: of the model of seed 0 -------------------------------------------------------

LOWEST_SCORES = [122, 237, 236, 282, 345, 335, 368, 70, 382, 84, 43, 277]
HIGHEST_LOSSES = [215, 185, 204, 246, 136, 326, 332, 395, 257, 230, 145, 105]
MOST_ALIKE = [38, 333, 281, 384, 50, 133, 104, 148, 141, 132, 318, 18]

# --- (e) the proof -------------------------------------------------------------------------------


def _outcomes(train, report, n, group, seeds):
    beta = torch.ones(n).double()
    beta[group] = 0
    return torch.stack([report(train(beta, seed)) for seed in seeds])


def proof_every_seed(train, report, n, named, control, used, seeds):
    a, b = (_outcomes(train, report, n, group, seeds) for group in (named, control))
    return torch.stack([(a - b).mean(0), (a - b).std(0) / len(seeds) ** 0.5])


def proof_deviation(train, report, n, named, control, used, seeds):
    fresh = [seed for seed in seeds if seed != used]
    a, b = (_outcomes(train, report, n, group, fresh) for group in (named, control))
    return torch.stack([(a - b).mean(0), (a - b).std(0)])


def proof_unpaired(train, report, n, named, control, used, seeds):
    fresh = [seed for seed in seeds if seed != used]
    a, b = (_outcomes(train, report, n, group, fresh) for group in (named, control))
    error = ((a.var(0) + b.var(0)) / len(fresh)).sqrt()
    return torch.stack([a.mean(0) - b.mean(0), error])


# --- (f) the Shapley value -----------------------------------------------------------------------


def divide_leave_one_out(outcome):
    m = outcome.ndim
    whole = outcome[(1,) * m]
    return torch.stack([whole - outcome[tuple(int(i != j) for i in range(m))] for j in range(m)])


def divide_all_sets_alike(outcome):
    m, total = outcome.ndim, torch.zeros(outcome.ndim).double()
    for at in product((0, 1), repeat=m):
        for j in range(m):
            if not at[j]:
                total[j] += outcome[(*at[:j], 1, *at[j + 1 :])] - outcome[at]
    return total / 2 ** (m - 1)


def divide_one_order(outcome):
    m, values = outcome.ndim, []
    for j in range(m):
        joined = (1,) * (j + 1) + (0,) * (m - j - 1)
        before = (1,) * j + (0,) * (m - j)
        values.append(outcome[joined] - outcome[before])
    return torch.stack(values)


# --- (h) in rounds -------------------------------------------------------------------------------


def _without(scores, k):
    first = scores.argsort(descending=True, stable=True)[:k]
    beta = torch.ones(len(scores)).double()
    beta[first[scores[first] > 0]] = 0
    return beta


def rounds_unmasked(attribute, n, k, times):
    beta, rows = torch.ones(n).double(), []
    for _ in range(times):
        beta = beta * _without(attribute(beta), k)
        rows.append(beta)
    return torch.stack(rows)


def rounds_first_scores(attribute, n, k, times):
    scores = attribute(torch.ones(n).double())
    return torch.stack([_without(scores, k * (t + 1)) for t in range(times)])


def rounds_not_kept(attribute, n, k, times):
    beta, rows = torch.ones(n).double(), []
    for _ in range(times):
        scores = attribute(beta).masked_fill(beta == 0, -torch.inf)
        beta = _without(scores, k)
        rows.append(beta)
    return torch.stack(rows)


WRONG = {
    "find_the_cause.part_a": {
        "averages over all rows, those with the label `answer` included": behaviour_all_rows,
        "gives the mean log-probability instead of the log-odds": behaviour_log_probability,
        "takes the log-odds of the mean probability instead of the mean of the log-odds": (
            behaviour_of_mean
        ),
    },
    "find_the_cause.part_b": {
        "uses the mean loss's damping, 1/effort, beside the summed G": score_of_mean,
        "forgets the minus": score_no_minus,
        "forgets the damping": score_undamped,
    },
    "find_the_cause.part_c": {
        "removes k examples even if their scores are not positive": without_any_sign,
        "removes the higher index first among equal scores": without_ties_from_the_end,
        "gives 1 to the removed and 0 to the kept": without_inverted,
    },
    "find_the_cause.part_d": {
        "names those of the lowest scores, which work against the behaviour": LOWEST_SCORES,
        "names those of the highest loss": HIGHEST_LOSSES,
        "names those whose embeddings are most like those of the images shown": MOST_ALIKE,
    },
    "find_the_cause.part_e": {
        "averages over all seeds, the one used to find the names included": proof_every_seed,
        "gives the standard deviation instead of the standard error": proof_deviation,
        "takes the two trainings of a seed for independent: variances added, not paired": (
            proof_unpaired
        ),
    },
    "find_the_cause.part_f": {
        "gives leave-one-out: what is lost without each group from the whole": divide_leave_one_out,
        "averages over all sets with equal weight (Banzhaf)": divide_all_sets_alike,
        "takes a single order of joining, first to last": divide_one_order,
    },
    "find_the_cause.part_h": {
        "does not mask the scores of those already gone, which take places again": rounds_unmasked,
        "uses the scores of the first round throughout": rounds_first_scores,
        "forgets earlier rounds: those removed before come back": rounds_not_kept,
    },
}
