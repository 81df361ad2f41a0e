"""Correct answers to the exercise on finding the cause of a behaviour: {part id: {name: answer}}.

Derived from the questions and their hints, without a look at the reference of any part.
"""

import math
import statistics
from itertools import combinations, permutations, product

import numpy as np
import scipy.linalg
import scipy.stats
import torch
from torch.func import grad, hessian, jacrev, vmap

from lib import counterfactuals, evaluation
from lib.influence import direct, gauss_newton, influence
from lib.models import log_odds_on
from lib.objective import gradients

# --- (a) the behaviour ---------------------------------------------------------------------------


def behaviour_hint(predict, w, shown, labels, answer):
    logits = vmap(predict, (None, 0))(w, shown[labels != answer])
    rest = torch.cat([logits[:, :answer], logits[:, answer + 1 :]], dim=1)
    return (logits[:, answer] - rest.logsumexp(1)).mean()


def behaviour_logit(predict, w, shown, labels, answer):
    p = vmap(lambda x: predict(w, x).softmax(0)[answer])(shown)
    return torch.logit(p)[labels != answer].mean()


def behaviour_loop(predict, w, shown, labels, answer):
    total, many = 0.0, 0
    for x, label in zip(shown, labels.tolist(), strict=True):
        if label != answer:
            f = predict(w, x)
            others = sum(torch.exp(f[c] - f[answer]) for c in range(len(f)) if c != answer)
            total, many = total - torch.log(others), many + 1
    return total / many


def behaviour_library(predict, w, shown, labels, answer):
    x = shown[labels != answer]
    return log_odds_on(predict, x, torch.full((len(x),), answer))(w)


def behaviour_log_sigmoid(predict, w, shown, labels, answer):
    """log p − log(1 − p), the latter as the log of a sum of the other probabilities."""
    logs = vmap(predict, (None, 0))(w, shown[labels.ne(answer)]).log_softmax(1)
    others = [c for c in range(logs.shape[1]) if c != answer]
    return logs[:, answer].mean() - logs[:, others].logsumexp(1).mean()


# --- (b) the influence ---------------------------------------------------------------------------


def score_library(objective, w, phi, effort):
    solve = direct(gauss_newton(objective, w), objective.n / effort)
    return influence(objective, w, phi, solve)


def score_numpy(objective, w, phi, effort):
    G = gauss_newton(objective, w).numpy()
    slopes, slope = gradients(objective, w).numpy(), grad(phi)(w).numpy()
    inverse = np.linalg.inv(G + len(slopes) / effort * np.eye(len(slope)))
    return -np.einsum("p,pq,nq->n", slope, inverse, slopes)


def score_cholesky(objective, w, phi, effort):
    """One response an example, and then their inner products with the slope of φ."""
    G = gauss_newton(objective, w)
    G = G + torch.diag_embed(torch.full_like(w, objective.n / effort))
    root = torch.linalg.cholesky(G)
    responses = -torch.cholesky_solve(gradients(objective, w).T, root)
    return (responses.T @ jacrev(phi)(w)).tolist()


def score_least_squares(objective, w, phi, effort):
    """Each response as the least squares solution that the damping pulls to zero."""
    values, basis = np.linalg.eigh(gauss_newton(objective, w).numpy())
    root = np.sqrt(values.clip(0))[:, None] * basis.T
    tall = np.vstack([root, math.sqrt(objective.n / effort) * np.eye(len(w))])
    right = np.linalg.lstsq(tall.T, grad(phi)(w).numpy())[0]  # tallᵀ u = ∇φ, of least norm
    return -gradients(objective, w).numpy() @ np.linalg.lstsq(tall, right)[0]


def score_tangent(objective, w, phi, effort):
    """G as the Hessian of the loss of the linearised outputs, whose slope is that of the loss."""
    predict, loss = objective.predict, objective.loss

    def linearised(v, x, y):
        f, J = predict(w, x), jacrev(predict)(w, x)
        return loss(f + J @ (v - w), y)

    G = vmap(hessian(linearised), (None, 0, 0))(w, objective.x, objective.y).sum(0)
    damping = objective.l2 + objective.n / effort
    damped = G + damping * torch.eye(len(w), dtype=w.dtype)
    return -torch.linalg.solve(damped, gradients(objective, w).T).T @ grad(phi)(w)


# --- (c) the removal -----------------------------------------------------------------------------


def without_hint(scores, k):
    order = scores.argsort(descending=True, stable=True)[:k]
    beta = torch.ones(len(scores)).double()
    beta[order[scores[order] > 0]] = 0
    return beta


def without_sorted(scores, k):
    s = scores.tolist()
    gone = set(sorted((i for i in range(len(s)) if s[i] > 0), key=lambda i: (-s[i], i))[:k])
    return [0.0 if i in gone else 1.0 for i in range(len(s))]


def without_numpy(scores, k):
    s = scores.numpy()
    order = np.lexsort((np.arange(len(s)), -s))[:k]
    beta = np.ones(len(s))
    beta[order] = s[order] <= 0
    return beta


def without_one_by_one(scores, k):
    left, beta = scores.tolist(), [1] * len(scores)
    for _ in range(min(k, len(left))):
        best = max(left)
        if best <= 0:
            break
        at = left.index(best)
        left[at], beta[at] = -math.inf, 0
    return beta


def without_ranks(scores, k):
    """The rank of every score: how many are above it, or equal and before it."""
    at = torch.arange(len(scores))
    before = (scores[None] == scores[:, None]) & (at[None] < at[:, None])
    rank = ((scores[None] > scores[:, None]) | before).sum(1)
    return 1 - ((rank < k) & (scores > 0)).double()


def without_library(scores, k):
    most = min(k, int((scores > 0).sum()))
    return evaluation.removals(scores, [most])[0]


def without_float32(scores, k):
    return without_hint(scores, k).float()


def without_mask(scores, k):
    """The example of the kth highest score and all before it in one sorting by score and index."""
    s = torch.cat([scores.clamp(min=0), torch.zeros(k).double()])
    threshold = torch.sort(s, descending=True).values[k - 1] if k else torch.inf
    above, equal = scores > threshold, (scores == threshold) & (scores > 0)
    gone = above | (equal & (equal.cumsum(0) <= k - above.sum()))
    return (~gone).int()


# --- (e) the proof -------------------------------------------------------------------------------


def proof_hint(train, report, n, named, control, used, seeds):
    def ends(group, seed):
        beta = torch.ones(n).double()
        beta[group] = 0
        return report(train(beta, seed))

    d = torch.stack([ends(named, s) - ends(control, s) for s in seeds if s != used])
    return torch.stack([d.mean(0), d.std(0) / len(d) ** 0.5])


def proof_numpy(train, report, n, named, control, used, seeds):
    d = []
    for s in set(seeds) - {used}:
        both = []
        for group in (named.tolist(), control.tolist()):
            beta = torch.tensor([float(i not in group) for i in range(n)]).double()
            both.append(np.asarray(report(train(beta, s))))
        d.append(both[0] - both[1])
    return np.stack([np.mean(d, axis=0), scipy.stats.sem(d, axis=0)])


def proof_tuple(train, report, n, named, control, used, seeds):
    fresh = [s for s in seeds if s != used]
    d = 0
    for sign, group in ((1, named), (-1, control)):
        beta = torch.ones(n, dtype=torch.float64).index_fill(0, group, 0.0)
        d = d + sign * torch.stack([report(train(beta, s)) for s in fresh])
    variance, mean = torch.var_mean(d, 0)
    return mean, (variance / len(fresh)).sqrt()


def proof_lists(train, report, n, named, control, used, seeds):
    columns = []
    for s in seeds:
        if s == used:
            continue
        a, b = torch.ones(2, n).double()
        a[named], b[control] = 0, 0
        columns.append((report(train(a, s)) - report(train(b, s))).tolist())
    rows = list(zip(*columns, strict=True))
    errors = [statistics.stdev(r) / math.sqrt(len(r)) for r in rows]
    return [[statistics.fmean(r) for r in rows], errors]


def proof_sweep(train, report, n, named, control, used, seeds):
    beta = torch.ones(2, n).double()
    beta[0, named], beta[1, control] = 0, 0
    out = evaluation.sweep(
        lambda rows, s: torch.stack([train(b, s) for b in rows]),
        report,
        beta,
        [s for s in seeds if s != used],
        progress=False,
    )
    d = out[:, 0] - out[:, 1]
    return torch.stack([d.mean(0), torch.sqrt(d.var(0) / len(d))])


def proof_jackknife(train, report, n, named, control, used, seeds):
    """The error by leaving out one seed after the other."""
    everyone = torch.arange(n)
    gone = [(~torch.isin(everyone, g)).double() for g in (named, control)]
    d = torch.stack(
        [report(train(gone[0], s)) - report(train(gone[1], s)) for s in seeds if s != used]
    )
    many = len(d)
    without_each = (d.sum(0) - d) / (many - 1)
    spread = (without_each - d.mean(0)).square().sum(0)
    return torch.stack([d.mean(0), ((many - 1) / many * spread).sqrt()])


# --- (f) the Shapley value -----------------------------------------------------------------------


def divide_hint(outcome):
    m = outcome.dim()
    psi = torch.zeros(m).double()
    for order in permutations(range(m)):
        present = [0] * m
        for j in order:
            before = outcome[tuple(present)]
            present[j] = 1
            psi[j] += outcome[tuple(present)] - before
    return psi / math.factorial(m)


def divide_sizes(outcome):
    """By the sizes of the sets that a group joins."""
    m = outcome.dim()
    psi = []
    for j in range(m):
        others = [i for i in range(m) if i != j]
        value = 0.0
        for size in range(m):
            for s in combinations(others, size):
                at = [int(i in s) for i in range(m)]
                joined = [int(i in s or i == j) for i in range(m)]
                step = float(outcome[tuple(joined)] - outcome[tuple(at)])
                value += step / (m * math.comb(m - 1, size))
        psi.append(value)
    return psi


def divide_library(outcome):
    m = outcome.dim()
    return counterfactuals.shapley(
        lambda s: float(outcome[tuple(int(i in s) for i in range(m))]), m
    )


def divide_dividends(outcome):
    """Each set's own surplus, shared equally among its members."""
    surplus, m = outcome.numpy().astype(float), outcome.dim()
    for j in range(m):
        absent, there = np.take(surplus, 0, axis=j), np.take(surplus, 1, axis=j)
        surplus = np.stack([absent, there - absent], axis=j)
    psi = np.zeros(m)
    for at in product((0, 1), repeat=m):
        for j in range(m):
            if at[j]:
                psi[j] += surplus[at] / sum(at)
    return psi


def divide_gauss(outcome):
    """Owen's integral of the multilinear extension over the diagonal."""
    m = outcome.dim()
    nodes, weights = np.polynomial.legendre.leggauss(m)
    psi = torch.zeros(m, dtype=torch.float64)
    for t, share in zip((nodes + 1) / 2, weights / 2, strict=True):
        each = torch.tensor([1 - t, t]).double()
        for j in range(m):
            value = outcome.double().movedim(j, 0)
            value = value[1] - value[0]
            while value.dim():
                value = torch.tensordot(each, value, dims=1)
            psi[j] += share * value
    return psi


def divide_least_squares(outcome):
    """The additive game closest to the outcomes in Shapley's weights, with the total fixed."""
    v, m = outcome.numpy().astype(float), outcome.dim()
    whole, nothing = v[(1,) * m], v[(0,) * m]
    if m == 1:
        return [whole - nothing]
    sets = [s for s in product((0, 1), repeat=m) if 0 < sum(s) < m]
    z = np.array(sets, dtype=float)
    size = z.sum(1).astype(int)
    weight = np.array([(m - 1) / (math.comb(m, s) * s * (m - s)) for s in size])
    y = np.array([v[s] - nothing for s in sets])
    system = np.zeros((m + 1, m + 1))
    system[:m, :m] = z.T @ (weight[:, None] * z)
    system[:m, m], system[m, :m] = 1, 1
    right = np.append(z.T @ (weight * y), whole - nothing)
    return np.linalg.solve(system, right)[:m]


def divide_float32(outcome):
    return divide_hint(outcome).float()


# --- (h) in rounds -------------------------------------------------------------------------------


def rounds_hint(attribute, n, k, times):
    beta, rows = torch.ones(n).double(), []
    for _ in range(times):
        scores = torch.where(beta > 0, attribute(beta), torch.tensor(-torch.inf))
        beta = beta * without_hint(scores, k)
        rows.append(beta)
    return torch.stack(rows)


def rounds_multiplied(attribute, n, k, times):
    """A score of zero is never positive."""
    rows = [torch.ones(n, dtype=torch.float64)]
    for _ in range(times):
        rows.append(rows[-1] * without_hint(attribute(rows[-1]) * rows[-1], k))
    return torch.stack(rows[1:])


def rounds_list(attribute, n, k, times):
    gone, rows = [], []
    for _ in range(times):
        scores = attribute(torch.tensor([float(i not in gone) for i in range(n)])).tolist()
        left = [i for i in range(n) if i not in gone and scores[i] > 0]
        gone = gone + sorted(left, key=lambda i: (-scores[i], i))[:k]
        rows.append([float(i not in gone) for i in range(n)])
    return rows


def rounds_compressed(attribute, n, k, times):
    """Only the examples that are left, and the rule of (c) among them."""
    rows = torch.ones(times, n).double()
    for t in range(times):
        before = rows[t - 1] if t else torch.ones(n).double()
        left = before.nonzero()[:, 0]
        rows[t] = before
        rows[t, left] = without_ranks(attribute(before.clone())[left], k)
    return rows


def rounds_numpy(attribute, n, k, times):
    beta, rows = np.ones(n), np.empty((times, n))
    for t in range(times):
        scores = attribute(torch.from_numpy(beta.copy())).numpy().copy()
        scores[beta == 0] = -1
        for i in np.argsort(-scores, kind="stable")[:k]:
            if scores[i] > 0:
                beta[i] = 0
        rows[t] = beta
    return rows


def rounds_recursion(attribute, n, k, times):
    if times == 0:
        return torch.ones(0, n).double()
    before = rounds_recursion(attribute, n, k, times - 1)
    beta = before[-1] if len(before) else torch.ones(n).double()
    scores = attribute(beta.clone()).clone()
    scores[beta == 0] = 0
    return torch.cat([before, torch.minimum(beta, without_hint(scores, k))[None]])


def rounds_float32(attribute, n, k, times):
    return rounds_hint(attribute, n, k, times).float()


# The first twelve of (b)'s influences on (a)'s observable at the model of seed 0.
_TWELVE = [117, 174, 350, 116, 29, 166, 349, 259, 52, 229, 111, 377]

FIND_THE_CAUSE = {
    "find_the_cause.part_a": {
        "hint": behaviour_hint,
        "logit": behaviour_logit,
        "loop": behaviour_loop,
        "library": behaviour_library,
        "log probabilities": behaviour_log_sigmoid,
    },
    "find_the_cause.part_b": {
        "library": score_library,
        "numpy": score_numpy,
        "Cholesky": score_cholesky,
        "least squares": score_least_squares,
        "tangent": score_tangent,
    },
    "find_the_cause.part_c": {
        "hint": without_hint,
        "sorted": without_sorted,
        "numpy": without_numpy,
        "one by one": without_one_by_one,
        "ranks": without_ranks,
        "library": without_library,
        "float32": without_float32,
        "threshold": without_mask,
    },
    "find_the_cause.part_d": {
        "list": _TWELVE,
        "tuple": tuple(_TWELVE),
        "tensor": torch.tensor(_TWELVE),
        "numpy": np.array(_TWELVE),
        "sorted": sorted(_TWELVE),
        "set": set(_TWELVE),
    },
    "find_the_cause.part_e": {
        "hint": proof_hint,
        "numpy": proof_numpy,
        "tuple": proof_tuple,
        "lists": proof_lists,
        "sweep": proof_sweep,
        "jackknife": proof_jackknife,
    },
    "find_the_cause.part_f": {
        "hint": divide_hint,
        "sizes": divide_sizes,
        "library": divide_library,
        "dividends": divide_dividends,
        "integral": divide_gauss,
        "least squares": divide_least_squares,
        "float32": divide_float32,
    },
    "find_the_cause.part_g": {
        "plain": "against, for",
        "capital": "Against, for",
        "capitals": "AGAINST, FOR",
        "spaces": "  against, for ",
        "newline": "against, for\n",
    },
    "find_the_cause.part_h": {
        "hint": rounds_hint,
        "multiplied": rounds_multiplied,
        "list": rounds_list,
        "compressed": rounds_compressed,
        "numpy": rounds_numpy,
        "recursion": rounds_recursion,
        "float32": rounds_float32,
    },
}
