"""Correct answers to the exercise on finding the cause of a behaviour: {part id: {name: answer}}.

Derived from the questions and their hints, without a look at the reference of any part.
"""

import heapq
import math
import statistics
from functools import cache, reduce
from itertools import accumulate, combinations, permutations, product

import numpy as np
import scipy.linalg
import scipy.sparse.linalg
import scipy.stats
import torch
from torch.func import grad, hessian, jacrev, vmap

from lib import counterfactuals, evaluation
from lib.influence import direct, gauss_newton, gauss_newton_vector_product, influence
from lib.models import log_odds_on
from lib.objective import gradients, output_hessians, output_jacobians

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


def behaviour_weighted(predict, w, shown, labels, answer):
    """All rows, of which those with the label `answer` have no weight; that logit masked."""
    logits = torch.stack([predict(w, x) for x in shown])
    at = torch.arange(logits.shape[1]) == answer
    odds = logits[:, answer] - logits.masked_fill(at, -torch.inf).logsumexp(1)
    weight = (labels != answer).to(odds.dtype)
    return weight @ odds / weight.sum()


def behaviour_by_the_loss(predict, w, shown, labels, answer):
    """1/p − 1 = e^loss − 1."""
    x = shown[labels != answer]
    logits = vmap(lambda x: predict(w, x))(x)
    target = torch.full((len(x),), answer)
    loss = torch.nn.functional.cross_entropy(logits, target, reduction="none")
    return -loss.expm1().log().mean()


def behaviour_pairwise(predict, w, shown, labels, answer):
    """The other logits added up two by two."""
    columns = vmap(predict, (None, 0))(w, shown[labels != answer]).unbind(1)
    others = [f for c, f in enumerate(columns) if c != answer]
    return (columns[answer] - reduce(torch.logaddexp, others)).sum() / len(columns[0])


def behaviour_odds_product(predict, w, shown, labels, answer):
    """The logarithm of the geometric mean of the odds, each a reciprocal sum."""
    logits = vmap(predict, (None, 0))(w, shown[torch.nonzero(labels != answer)[:, 0]])
    ratios = torch.exp(logits - logits[:, answer : answer + 1])
    against = ratios.sum(1) - ratios[:, answer]
    return torch.log(against.pow(-1 / len(against)).prod())


def behaviour_two_classes(predict, w, shown, labels, answer):
    """The contrast of two classes, `answer` and the rest, after a softmax over both."""
    logits = vmap(predict, (None, 0))(w, shown[labels != answer])
    groups = torch.nn.functional.one_hot(torch.tensor(answer), logits.shape[1])
    shifted = (logits - logits.amax(1, keepdim=True)).exp()
    two = torch.stack([shifted @ groups.to(w.dtype), shifted @ (1 - groups).to(w.dtype)], 1)
    return (two.log() @ torch.tensor([1, -1]).to(w.dtype)).mean()


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


def score_eigen(objective, w, phi, effort):
    values, basis = torch.linalg.eigh(gauss_newton(objective, w))
    slope = basis.T @ grad(phi)(w) / (values + objective.n / effort)
    return -(gradients(objective, w) @ basis) @ slope


def score_conjugate_gradients(objective, w, phi, effort):
    """G is never formed."""

    def damped(v):
        v = torch.from_numpy(np.ravel(v))
        return (gauss_newton_vector_product(objective, w, v) + objective.n / effort * v).numpy()

    p = len(w)
    operator = scipy.sparse.linalg.LinearOperator((p, p), matvec=damped, dtype=float)
    found, _ = scipy.sparse.linalg.cg(operator, grad(phi)(w).numpy(), rtol=1e-8, maxiter=100 * p)
    return -gradients(objective, w).numpy() @ found


def score_moved_minimum(objective, w, phi, effort):
    """The minimum of the damped quadratic model, differentiated in the data weights."""
    damped = gauss_newton(objective, w) + objective.n / effort * torch.eye(len(w)).double()
    slopes, slope = gradients(objective, w), grad(phi)(w)

    def value(beta):
        return slope @ (w - torch.linalg.solve(damped, (beta - 1) @ slopes))

    return grad(value)(torch.ones(objective.n, dtype=w.dtype))


def score_outputs(objective, w, phi, effort):
    """Woodbury's identity: a system as large as the number of all outputs."""
    values, basis = torch.linalg.eigh(output_hessians(objective, w))
    roots = basis * values.clamp(min=0).sqrt()[:, None]
    rows = torch.einsum("ncd,ncp->ndp", roots, output_jacobians(objective, w)).flatten(0, 1)
    damping = objective.l2 + objective.n / effort
    small = damping * torch.eye(len(rows), dtype=w.dtype) + rows @ rows.T
    slope = grad(phi)(w)
    found = (slope - rows.T @ torch.linalg.solve(small, rows @ slope)) / damping
    return gradients(objective, w) @ -found


def score_qr(objective, w, phi, effort):
    G = gauss_newton(objective, w).numpy()
    q, upper = np.linalg.qr(G + objective.n / effort * np.identity(len(G)))
    responses = scipy.linalg.solve_triangular(upper, q.T @ gradients(objective, w).numpy().T)
    return [-float(grad(phi)(w).numpy() @ r) for r in responses.T]


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


def without_heap(scores, k):
    s = scores.tolist()
    first = heapq.nlargest(k, range(len(s)), key=lambda i: (s[i], -i))
    return np.array([i not in first or s[i] <= 0 for i in range(len(s))], dtype=float)


def without_levels(scores, k):
    """One value of the scores after the other, from the highest down."""
    s, left = scores.numpy(), k
    beta = np.ones_like(s)
    for level in np.unique(s[s > 0])[::-1]:
        gone = np.flatnonzero(s == level)[:left]
        beta[gone] = 0
        left -= len(gone)
    return torch.from_numpy(beta)


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


def proof_running(train, report, n, named, control, used, seeds):
    """Mean and sum of squares kept up to date, seed by seed."""
    mean, squares, many = 0.0, 0.0, 0
    for seed in seeds:
        if seed == used:
            continue
        betas = [torch.ones(n, dtype=torch.float64).scatter(0, g, 0.0) for g in (named, control)]
        a, b = (report(train(beta, seed)) for beta in betas)
        many += 1
        off = a - b - mean
        mean = mean + off / many
        squares = squares + off * (a - b - mean)
    return torch.stack([mean, (squares / (many - 1) / many) ** 0.5])


def _reports(train, report, n, named, control, used, seeds):
    """All outcomes, shape (seeds, 2, k): without the named, without the control."""
    out = []
    for seed in filter(lambda s: s != used, seeds):
        keep = [np.setdiff1d(np.arange(n), group.numpy()) for group in (named, control)]
        betas = [torch.zeros(n, dtype=torch.float64) for _ in keep]
        for beta, kept in zip(betas, keep, strict=True):
            beta[torch.from_numpy(kept)] = 1
        out.append([report(train(beta, seed)).tolist() for beta in betas])
    return np.array(out)


def proof_regression(train, report, n, named, control, used, seeds):
    """Ordinary least squares with a level for every seed: the effect of the named."""
    out = _reports(train, report, n, named, control, used, seeds)
    m = len(out)
    design = np.column_stack([np.tile([1.0, 0.0], m), np.kron(np.eye(m), np.ones((2, 1)))])
    y = out.reshape(2 * m, -1)
    found = np.linalg.lstsq(design, y)[0]
    variance = ((y - design @ found) ** 2).sum(0) / (2 * m - (m + 1))
    return found[0], np.sqrt(variance * np.linalg.inv(design.T @ design)[0, 0])


def proof_pairs(train, report, n, named, control, used, seeds):
    """The variance as half the mean squared difference of two seeds."""
    out = _reports(train, report, n, named, control, used, seeds)
    d = np.diff(out, axis=1)[:, 0] * -1
    squares = [(a - b) ** 2 / 2 for a, b in combinations(d, 2)]
    return np.array([d.mean(0), np.sqrt(np.mean(squares, axis=0) / len(d))])


def proof_float32(train, report, n, named, control, used, seeds):
    return proof_hint(train, report, n, named, control, used, seeds).float()


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


def divide_potential(outcome):
    """Hart and Mas-Colell: the Shapley value is the slope of a potential."""
    m = outcome.dim()

    @cache
    def potential(at):
        if not any(at):
            return 0.0
        before = sum(potential((*at[:j], 0, *at[j + 1 :])) for j in range(m) if at[j])
        return (float(outcome[at] - outcome[(0,) * m]) + before) / sum(at)

    whole = (1,) * m
    return [potential(whole) - potential((*whole[:j], 0, *whole[j + 1 :])) for j in range(m)]


def divide_shares(outcome):
    """Every outcome counts for the groups in it and against the others, by its size."""
    m = outcome.dim()
    psi = np.zeros(m)
    for at in product((0, 1), repeat=m):
        s, value = sum(at), outcome[at].item()
        for j in range(m):
            ahead, behind = (s - 1, m - s) if at[j] else (s, m - s - 1)
            share = math.factorial(ahead) * math.factorial(behind) / math.factorial(m)
            psi[j] += share * value if at[j] else -share * value
    return psi


def divide_arrays(outcome):
    """All steps of one group as an array, averaged in each size, and then over the sizes."""
    m = outcome.dim()
    size = np.indices((2,) * (m - 1)).sum(0).ravel() if m > 1 else np.zeros(1, dtype=int)
    many = np.bincount(size)
    steps = [np.diff(outcome.numpy(), axis=j).ravel() for j in range(m)]
    return np.array([(np.bincount(size, weights=s) / many).mean() for s in steps])


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


def rounds_accumulate(attribute, n, k, times):
    def go(beta, _):
        scores = torch.where(beta == 0, -1.0, attribute(beta))
        return beta * without_sizes(scores, k)

    def without_sizes(scores, k):
        rank = torch.empty(n, dtype=torch.long)
        rank[torch.argsort(-scores, stable=True)] = torch.arange(n)
        return 1.0 - ((rank < k) & (scores > 0)).double()

    states = accumulate(range(times), go, initial=torch.ones(n).double())
    return list(states)[1:]


def rounds_heap(attribute, n, k, times):
    left, rows = set(range(n)), np.zeros((times, n))
    for row in rows:
        beta = torch.zeros(n).double()
        beta[sorted(left)] = 1
        s = attribute(beta).tolist()
        best = heapq.nsmallest(k, left, key=lambda i: (-s[i], i))
        left -= {i for i in best if s[i] > 0}
        row[sorted(left)] = 1
    return rows


def rounds_own_factors(attribute, n, k, times):
    """What each round removes, and the products of all rounds so far."""
    factors = torch.ones(times + 1, n, dtype=torch.float64)
    for t in range(times):
        beta = factors[: t + 1].prod(0)
        factors[t + 1] = torch.tensor(without_sorted(attribute(beta) * beta, k))
    return factors.cumprod(0)[1:]


def rounds_float32(attribute, n, k, times):
    return rounds_hint(attribute, n, k, times).float()


# The first twelve of (b)'s influences on (a)'s observable at the model of seed 0.
_TWELVE = [117, 174, 350, 116, 29, 166, 349, 259, 52, 229, 111, 377]
# Of other scores there: exact unrolling, and the influence with EK-FAC.
_BY_UNROLLING = [350, 166, 117, 29, 229, 174, 116, 349, 259, 52, 111, 24]
_BY_EKFAC = [350, 117, 174, 259, 29, 116, 166, 52, 349, 229, 195, 111]

FIND_THE_CAUSE = {
    "find_the_cause.part_a": {
        "hint": behaviour_hint,
        "logit": behaviour_logit,
        "loop": behaviour_loop,
        "library": behaviour_library,
        "log probabilities": behaviour_log_sigmoid,
        "weighted": behaviour_weighted,
        "by the loss": behaviour_by_the_loss,
        "two by two": behaviour_pairwise,
        "geometric mean": behaviour_odds_product,
        "two classes": behaviour_two_classes,
    },
    "find_the_cause.part_b": {
        "library": score_library,
        "numpy": score_numpy,
        "Cholesky": score_cholesky,
        "least squares": score_least_squares,
        "tangent": score_tangent,
        "eigh": score_eigen,
        "conjugate gradients": score_conjugate_gradients,
        "moved minimum": score_moved_minimum,
        "by outputs": score_outputs,
        "QR": score_qr,
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
        "heap": without_heap,
        "levels": without_levels,
    },
    "find_the_cause.part_d": {
        "list": _TWELVE,
        "tuple": tuple(_TWELVE),
        "tensor": torch.tensor(_TWELVE),
        "numpy": np.array(_TWELVE),
        "sorted": sorted(_TWELVE),
        "set": set(_TWELVE),
        "by unrolling": _BY_UNROLLING,
        "by EK-FAC": np.array(_BY_EKFAC, dtype=np.int32),
        "numpy integers": list(np.array(_TWELVE)),
        "list of tensors": list(torch.tensor(_TWELVE)),
    },
    "find_the_cause.part_e": {
        "hint": proof_hint,
        "numpy": proof_numpy,
        "tuple": proof_tuple,
        "lists": proof_lists,
        "sweep": proof_sweep,
        "jackknife": proof_jackknife,
        "running": proof_running,
        "regression": proof_regression,
        "pairs of seeds": proof_pairs,
        "float32": proof_float32,
    },
    "find_the_cause.part_f": {
        "hint": divide_hint,
        "sizes": divide_sizes,
        "library": divide_library,
        "dividends": divide_dividends,
        "integral": divide_gauss,
        "least squares": divide_least_squares,
        "float32": divide_float32,
        "potential": divide_potential,
        "shares": divide_shares,
        "arrays": divide_arrays,
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
        "accumulate": rounds_accumulate,
        "heap": rounds_heap,
        "own factors": rounds_own_factors,
    },
}
