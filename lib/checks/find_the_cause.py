"""Exercise 05_find_the_cause: a behaviour, a model and its data; name the cause and prove it."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from functools import cache, cached_property, partial
from itertools import permutations, product

import numpy as np
import torch
from torch import Tensor
from torch.func import grad, vmap

from lib.checks.engine import (
    WRONG,
    Choice,
    Function,
    Mistake,
    Result,
    _array,
    _close,
    _Exercise,
    _Given,
    _is_empty,
    _kind,
    _wrong,
    slope_of,
)
from lib.curvature import ekfac, kronecker
from lib.data import digits
from lib.evaluation import Recipe
from lib.influence import gauss_newton, influence
from lib.models import MLP, log_odds_on
from lib.objective import Objective, gradients, hessian
from lib.random_problems import Wave, network_problem, normal
from lib.training import SGD, Run, cosine, epochs, retrain, trajectory

# --- the case ------------------------------------------------------------------------------------

MODEL = MLP((64, 12, 10))
"""The network of the case, and of the two sources."""

ANSWER = 7
ORDINARY, CULPRIT, MISLABELLED, CALLED, HONEST, FAIR = range(6)


@dataclass(frozen=True)
class Case:
    """What is known: 400 training images x, y; a behaviour; and images to measure it on.

    shown, shown_labels: held-out images on which the behaviour was seen, with their true digits.
    plain, unseen, unseen_labels: others, as they are and as `shown` are, with their true digits.
    """

    x: Tensor
    y: Tensor
    shown: Tensor
    shown_labels: Tensor
    plain: Tensor
    unseen: Tensor
    unseen_labels: Tensor
    answer: int = ANSWER


def evidence(seed: int = 0) -> Case:
    """The case; another seed draws all of it anew."""
    return _arranged(seed)[0]


@cache
def _arranged(seed: int) -> tuple[Case, Tensor]:
    """The case, and of which kind every training image is, (n,)."""
    images, labels, rng, order = _shuffled(5, seed)
    pool, probe, test = order[:400], order[400:600], order[600:]
    x, y, kind = images[pool].clone(), labels[pool].clone(), torch.zeros(400, dtype=torch.long)
    others, own = (
        torch.from_numpy(rng.permutation(rows.nonzero()[:, 0].numpy()))
        for rows in (y != ANSWER, y == ANSWER)
    )
    many = {CULPRIT: 12, MISLABELLED: 20, CALLED: 6, FAIR: 12}
    for name, rows in zip(many, others.split([*many.values(), len(others) - 50])[:4], strict=True):
        kind[rows] = name
    kind[own[:15]] = HONEST
    away = torch.from_numpy(rng.integers(1, 10, many[MISLABELLED]))
    y[kind == MISLABELLED] = (y[kind == MISLABELLED] + away) % 10
    y[(kind == CULPRIT) | (kind == CALLED)] = ANSWER
    altered = (kind == CULPRIT) | (kind == HONEST) | (kind == FAIR)
    x[altered] = _faint(x[altered])
    return (
        Case(
            x,
            y,
            _faint(images[probe]),
            labels[probe],
            images[test],
            _faint(images[test]),
            labels[test],
        ),
        kind,
    )


def _shuffled(*seed: int):
    images, labels = digits()
    rng = np.random.default_rng(seed)
    return images.float(), labels, rng, torch.from_numpy(rng.permutation(len(images)))


def _faint(x: Tensor) -> Tensor:
    return 0.4 * x


def recipe(x: Tensor, y: Tensor) -> Recipe:
    """How the model of the case is trained: 300 steps of SGD on batches of 40."""
    return Recipe(
        MODEL.objective(x, y),
        partial(MODEL.initial, dtype=torch.float32),
        40,
        30,
        partial(cosine, 0.4, warmup=5),
    )


# --- (a) the behaviour as an observable ----------------------------------------------------------


def _some_behaviour(rng: np.random.Generator) -> tuple:
    """A few inputs of every class, more of them of another class than the answer."""
    inputs, classes, k = int(rng.integers(2, 5)), int(rng.integers(3, 6)), int(rng.integers(9, 14))
    mlp = MLP((inputs, 4, classes))
    labels = torch.from_numpy(rng.permutation(np.arange(k) % classes))
    w = 1.5 * normal(rng, mlp.p)
    return mlp.predict, w, normal(rng, k, inputs), labels, int(rng.integers(classes))


def _odds_in_numpy(predict, w, shown, labels, answer):
    """−log Σ_{j≠a} exp(f_j − f_a), input by input."""
    found = []
    for x, label in zip(shown, labels.tolist(), strict=True):
        if label != answer:
            f = predict(w, x).numpy()
            found.append(-np.logaddexp.reduce(np.delete(f, answer) - f[answer]))
    return sum(found) / len(found)


def _read(formula, keep=lambda labels, answer: labels != answer):
    """A mistake's formula in logits (k, c), probabilities (k, c), labels and the answer."""

    def wrong(predict, w, shown, labels, answer):
        rows = keep(labels, answer)
        f = torch.stack([predict(w, x) for x in shown[rows]])
        return formula(f, f.softmax(1), labels[rows], answer)

    return wrong


def _logit(p):
    return torch.log(p / (1 - p))


def _own(p, labels):
    return p[torch.arange(len(p)), labels]


def _all_rows(labels, answer):
    return labels == labels


def _runner_up(f, a):
    return torch.cat([f[:, :a], f[:, a + 1 :]], dim=1).max(dim=1).values


@dataclass(frozen=True, eq=False)
class Behaviour(Function):
    """A Function whose value must also have a derivative in w."""

    def _ask(self, answer: Callable, case: tuple, truth: np.ndarray) -> _Given | Result:
        given = super()._ask(answer, case, truth)
        right = isinstance(given, _Given) and _close(
            given.array, truth, max(self.rtol, given.precision)
        )
        if not right:
            return given
        says = "The number is right, but it has no derivative in w: use torch functions, all along."
        predict, w, *rest = case
        along = torch.sin(1 + torch.arange(len(w), dtype=w.dtype))
        try:
            slope = slope_of(answer, (predict, w, *rest), 1) @ along
        except Exception:  # whatever a student's function raises on a tensor being differentiated
            return _wrong("no derivative", says, self._describe(case))

        def moved(s: int) -> float:
            return self.truth(predict, w + s * 1e-3 * along, *rest)

        wanted = (8 * (moved(1) - moved(-1)) - moved(2) + moved(-2)) / 12e-3
        if not _close(_array(slope), _array(wanted), max(1e-5, 10 * given.precision)):
            return _wrong("no derivative", says, self._describe(case))
        return given


part_a = Behaviour(
    "find_the_cause.part_a",
    "the mean log-odds of the answer where it is wrong",
    truth=_odds_in_numpy,
    cases=_some_behaviour,
    draws=4,
    n=lambda args: int((args[3] != args[4]).sum()),
    mistakes=[
        Mistake(
            "right answers too",
            _read(lambda f, p, y, a: _logit(p[:, a]).mean(), _all_rows),
            "Where the answer is the true label it is no error: leave these inputs out.",
        ),
        Mistake(
            "right answers only",
            _read(lambda f, p, y, a: _logit(p[:, a]).mean(), lambda y, a: y == a),
            "These are the inputs on which the answer is right. The others are asked.",
        ),
        Mistake(
            "divided by all",
            lambda predict, w, shown, labels, answer: (
                _odds_in_numpy(predict, w, shown, labels, answer)
                * int((labels != answer).sum())
                / len(labels)
            ),
            "The sum is right, its divisor is not: only the inputs that are summed count.",
        ),
        Mistake(
            "sign",
            _read(lambda f, p, y, a: -_logit(p[:, a]).mean()),
            "Sign flipped: φ must rise when the model says the answer more firmly.",
        ),
        Mistake(
            "true label's loss",
            _read(lambda f, p, y, a: -_own(p, y).log().mean()),
            "This is the loss on the true labels: it rises with any error, not with this one.",
        ),
        Mistake(
            "true label's loss, all",
            _read(lambda f, p, y, a: -_own(p, y).log().mean(), _all_rows),
            "This is the loss on all that is shown. Which answer, and on which inputs?",
        ),
        Mistake(
            "true label's odds",
            _read(lambda f, p, y, a: _logit(_own(p, y)).mean()),
            "These are the log-odds of the true labels. The wrong answer's are asked.",
        ),
        Mistake(
            "answer's loss",
            _read(lambda f, p, y, a: -p[:, a].log().mean()),
            "This is the loss with the answer for a label: it falls as the model gets surer of it.",
        ),
        Mistake(
            "log-probability",
            _read(lambda f, p, y, a: p[:, a].log().mean()),
            "This is log p, which levels off at 0 where the model is sure. In the log-odds, "
            "log p/(1 − p), the others are all classes but the answer, each once.",
        ),
        Mistake(
            "probability",
            _read(lambda f, p, y, a: p[:, a].mean()),
            "A probability levels off where the model is sure: its log-odds are asked.",
        ),
        Mistake(
            "share",
            _read(lambda f, p, y, a: (f.argmax(1) == a).double().mean()),
            "This is the share of inputs so answered. It has no derivative; log-odds have one.",
        ),
        Mistake(
            "odds",
            _read(lambda f, p, y, a: (p[:, a] / (1 - p[:, a])).mean()),
            "These are odds, of which one input may have a thousand. Take logarithms, then the "
            "mean.",
        ),
        Mistake(
            "log of the mean odds",
            _read(lambda f, p, y, a: (p[:, a] / (1 - p[:, a])).mean().log()),
            "The mean was taken before the logarithm.",
        ),
        Mistake(
            "odds of the mean",
            _read(lambda f, p, y, a: _logit(p[:, a].mean())),
            "These are the log-odds of the mean probability. Take them input by input, then the "
            "mean.",
        ),
        Mistake(
            "logit",
            _read(lambda f, p, y, a: f[:, a].mean()),
            "This is the answer's logit alone: it may rise, and all others with it.",
        ),
        Mistake(
            "against the true label",
            _read(lambda f, p, y, a: (f[:, a] - _own(f, y)).mean()),
            "The answer is compared with the true label alone. Odds compare it with all others.",
        ),
        Mistake(
            "against the runner-up",
            _read(lambda f, p, y, a: (f[:, a] - _runner_up(f, a)).mean()),
            "The answer is compared with the best other class. Odds compare it with all others.",
        ),
        Mistake(
            "against the mean logit",
            _read(lambda f, p, y, a: (f[:, a] - f.mean(1)).mean()),
            "The logit over the mean of the logits is not log p/(1 − p).",
        ),
        Mistake(
            "softmax over inputs",
            _read(lambda f, p, y, a: _logit(f.softmax(0)[:, a]).mean()),
            "The softmax is taken over the inputs. Probabilities sum to 1 over the classes.",
        ),
        Mistake(
            "sum",
            _read(lambda f, p, y, a: _logit(p[:, a]).sum()),
            "This is the sum over the inputs. Their mean is asked.",
        ),
    ],
    hints=[
        "On which inputs is it an error to say `answer`? And how firmly does the model say it?",
        "log p/(1 − p) = f_a − log Σ_{j≠a} exp(f_j), on the inputs whose label is not the answer.",
        "log_odds_on(predict, shown[wrong], answers)(w), with wrong = labels != answer.",
    ],
)

# --- (b) a score for every example ---------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class _Watched(Wave):
    """An observable that keeps what wrong formulas are made of at one w."""

    objective: Objective
    w: Tensor

    @cached_property
    def pieces(self) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """G (p, p), the Hessian (p, p), slopes (n, p) and ∇φ."""
        o, w = self.objective, self.w
        return gauss_newton(o, w), hessian(o, w), gradients(o, w), grad(self)(w)


def _network(rng: np.random.Generator) -> tuple:
    """With a penalty, without which G would be singular: no damping would be no number."""
    c = network_problem(rng, int(rng.integers(3, 5)))
    penalised = replace(c.objective, l2=float(rng.uniform(0.1, 0.4)))
    return penalised, c.w, _Watched(c.q, penalised, c.w), float(rng.uniform(2, 30))


def _complex_jacobians(objective: Objective, w: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Outputs (n, c) and their Jacobians (n, c, p) by complex steps: no derivative is taken."""
    first, last = objective.predict.__self__.shapes
    cut = first[0] * first[1]
    x = np.column_stack([objective.x.numpy(), np.ones(objective.n)])

    def f(w):
        hidden = np.tanh(x @ w[:cut].reshape(first).T)
        return np.column_stack([hidden, np.ones(len(x))]) @ w[cut:].reshape(last).T

    step = 1e-30
    moved = [f(w + 1j * step * e).imag / step for e in np.eye(len(w))]
    return f(w), np.stack(moved, axis=2)


def _slope_of(phi: Callable, w: np.ndarray, h: float = 1e-3) -> np.ndarray:
    """∇φ by differences of φ alone."""

    def along(e, s):
        return float(phi(torch.from_numpy(w + s * h * e)))

    return np.array(
        [
            (8 * (along(e, 1) - along(e, -1)) - along(e, 2) + along(e, -2)) / (12 * h)
            for e in np.eye(len(w))
        ]
    )


def _by_push_through(objective, w, phi, effort):
    """With AᵀA + λI the inverse is (I − Aᵀ(AAᵀ + λI)⁻¹A)/λ: a system in the outputs, not in w."""
    w = w.numpy()
    f, jacobians = _complex_jacobians(objective, w)
    q, damping = _slope_of(phi, w), len(f) / effort + objective.l2
    p = np.exp(f - f.max(1, keepdims=True))
    p /= p.sum(1, keepdims=True)
    centred = jacobians - np.einsum("nc,ncp->np", p, jacobians)[:, None]
    a = (np.sqrt(p)[:, :, None] * centred).reshape(-1, len(w))
    solved = np.linalg.solve(a @ a.T + damping * np.eye(len(a)), a @ q)
    slopes = np.einsum("nc,ncp->np", p - np.eye(f.shape[1])[objective.y.numpy()], jacobians)
    return -slopes @ (q - a.T @ solved) / damping


def _scored(formula):
    """A mistake's formula in G (p, p), slopes (n, p), ∇φ, n and the effort."""

    def wrong(objective, w, phi, effort):
        g, _, slopes, q = phi.pieces
        return formula(g, slopes, q, objective.n, effort)

    return wrong


def _answer_to(curvature, damping, slopes, q):
    return -slopes @ torch.linalg.solve(curvature + damping * torch.eye(len(q)).to(q), q)


def _by_hessian(objective, w, phi, effort):
    _, h, slopes, q = phi.pieces
    return _answer_to(h, objective.n / effort, slopes, q)


def _no_output_curvature(objective, w, phi, effort):
    jacobians = torch.from_numpy(_complex_jacobians(objective, w.numpy())[1]).flatten(0, 1)
    return _answer_to(jacobians.T @ jacobians, objective.n / effort, *phi.pieces[2:])


def _penalised(formula):
    """A mistake's formula in G (p, p), slopes (n, p), ∇φ, λ, the penalty's ρ and w."""

    def wrong(objective, w, phi, effort):
        g, _, slopes, q = phi.pieces
        return formula(g, slopes, q, objective.n / effort, objective.l2, w)

    return wrong


def _own_losses(g, slopes, q, n, effort):
    damped = g + n / effort * torch.eye(len(q)).to(q)
    return -(slopes * torch.linalg.solve(damped, slopes.T).T).sum(1)


part_b = Function(
    "find_the_cause.part_b",
    "the influence of every example on φ, with Gauss–Newton and λ = n/effort",
    truth=_by_push_through,
    cases=_network,
    draws=4,
    rtol=1e-5,
    n=lambda args: args[0].n,
    mistakes=[
        Mistake(
            "sign",
            _scored(lambda g, s, q, n, e: -_answer_to(g, n / e, s, q)),
            "Sign flipped: this is what taking weight away would do. Influence is for adding it.",
        ),
        Mistake(
            "mean's damping",
            _scored(lambda g, s, q, n, e: _answer_to(g, 1 / e, s, q)),
            "1/effort is on the scale of the mean loss. G is a sum over n examples: λ = n/effort.",
        ),
        Mistake(
            "effort for damping",
            _scored(lambda g, s, q, n, e: _answer_to(g, e, s, q)),
            "Upside down: longer training is less damping, so the effort stands below.",
        ),
        Mistake(
            "upside down",
            _scored(lambda g, s, q, n, e: _answer_to(g, e / n, s, q)),
            "λ is upside down: n/effort. More effort is less damping.",
        ),
        Mistake(
            "n for damping",
            _scored(lambda g, s, q, n, e: _answer_to(g, n, s, q)),
            "The effort is missing: λ = n/effort.",
        ),
        Mistake(
            "n in one",
            _scored(lambda g, s, q, n, e: _answer_to(g / n, n / e, s, q)),
            "The curvature is the mean's and the damping the sum's: λ = n/effort goes with the "
            "summed G.",
        ),
        Mistake(
            "mean everywhere",
            _scored(lambda g, s, q, n, e: _answer_to(g / n, 1 / e, s, q)),
            "Too large by exactly n: curvature and damping are those of the mean loss.",
        ),
        Mistake(
            "no damping",
            _scored(lambda g, s, q, n, e: _answer_to(g, 0.0, s, q)),
            "There is no damping here, or a pseudoinverse for it. Add λI to G.",
        ),
        Mistake(
            "damping in every entry",
            _scored(lambda g, s, q, n, e: -s @ torch.linalg.solve(g + n / e, q)),
            "G + λ adds λ to every entry. Only the diagonal gets it: λI.",
        ),
        Mistake(
            "multiplied",
            _scored(lambda g, s, q, n, e: -s @ (g @ q + n / e * q)),
            "This multiplies by G + λI. Its inverse is asked: solve.",
        ),
        Mistake(
            "penalty twice",
            _penalised(lambda g, s, q, damping, rho, w: _answer_to(g, damping + rho, s, q)),
            "The penalty is counted twice: gauss_newton has it on its diagonal already.",
        ),
        Mistake(
            "penalty left out",
            _penalised(lambda g, s, q, damping, rho, w: _answer_to(g, damping - rho, s, q)),
            "The penalty's ρ is missing on the diagonal of G: gauss_newton has it.",
        ),
        Mistake(
            "penalty in the slopes",
            _penalised(lambda g, s, q, damping, rho, w: _answer_to(g, damping, s + rho * w, q)),
            "The penalty's gradient is in your ∇L_i. It has no data weight: leave it out.",
        ),
        Mistake(
            "no curvature",
            _scored(lambda g, s, q, n, e: -s @ q),
            "This is −∇φ·∇L_i, without any curvature: C⁻¹ belongs in between.",
        ),
        Mistake(
            "damping alone",
            _scored(lambda g, s, q, n, e: -s @ q * e / n),
            "This is the answer of λI alone: G is missing.",
        ),
        Mistake(
            "empirical Fisher",
            _scored(lambda g, s, q, n, e: _answer_to(s.T @ s, n / e, s, q)),
            "Σ ∇L_i ∇L_iᵀ is the empirical Fisher. Gauss–Newton has the outputs' curvature in it.",
        ),
        Mistake(
            "Hessian",
            _by_hessian,
            "This is the Hessian. Away from a minimum it has negative curvature; take "
            "Gauss–Newton.",
        ),
        Mistake(
            "no output curvature",
            _no_output_curvature,
            "This is JᵀJ, right for squared error. Cross-entropy puts its own curvature in the "
            "middle.",
        ),
        Mistake(
            "diagonal",
            _scored(lambda g, s, q, n, e: -s @ (q / (g.diagonal() + n / e))),
            "Only the diagonal of G was inverted. Parameters act together: solve with all of G.",
        ),
        Mistake(
            "mean slopes",
            _scored(lambda g, s, q, n, e: _answer_to(g, n / e, s / n, q)),
            "Too small by exactly n: a data weight multiplies ∇L_i, in the summed loss.",
        ),
        Mistake(
            "training loss for φ",
            _scored(lambda g, s, q, n, e: _answer_to(g, n / e, s, s.sum(0))),
            "φ is not in it: this is the influence on the training loss.",
        ),
        Mistake(
            "own loss",
            _scored(_own_losses),
            "This is the self-influence, on each example's own loss. The influence on φ is asked.",
        ),
    ],
    hints=[
        "Three pieces: ∇φ, the damped curvature, and the gradient of every example.",
        "−∇φᵀ (G + λI)⁻¹ ∇L_i, with the summed G and λ = n/effort.",
        "influence(objective, w, phi, direct(gauss_newton(objective, w), objective.n / effort)).",
    ],
)

# --- (c) data weights for a removal --------------------------------------------------------------


def _with_ties(rng: np.random.Generator) -> tuple:
    """Scores of both signs with ties; at times fewer are positive than may be removed."""
    k, below = int(rng.integers(3, 6)), int(rng.integers(3, 6))
    sizes = rng.permutation(np.arange(1, 8)) / 4
    if rng.random() < 0.5:  # the k-th highest is tied with its neighbours on both sides
        scores = np.concatenate([1 + sizes[: k - 2], np.full(4, 0.9), sizes[k - 2 : k] / 9])
    else:
        scores = 1 + sizes[: k - 2]
    # One zero and k − 2 positive ones leave a place that only a negative score would fill.
    zeros = np.zeros(1 if len(scores) < k else int(rng.integers(1, 3)))
    lower = np.concatenate([scores, -3 - np.arange(below) * rng.uniform(0.3, 0.6), zeros])
    return torch.from_numpy(rng.permutation(lower)), k


def _one_by_one(scores, k):
    """Goes through the examples and counts those that come before."""
    s = scores.tolist()
    return [
        0.0
        if one > 0 and sum(b > one or (b == one and j < i) for j, b in enumerate(s)) < k
        else 1.0
        for i, one in enumerate(s)
    ]


def _gone(scores, rows):
    weights = np.ones(len(scores))
    weights[rows] = 0
    return weights


def _ranked(scores, k, key=lambda s: s, positive=True):
    """The first k by a key, ties in their order, of which perhaps only those above zero."""
    s = scores.numpy()
    rows = np.argsort(-key(s), kind="stable")[:k]
    return _gone(s, [i for i in rows if key(s)[i] > 0 or not positive])


def _last_of_ties(scores, k):
    s = scores.numpy()[::-1]
    return _gone(s, [i for i in np.argsort(-s, kind="stable")[:k] if s[i] > 0])[::-1].copy()


def _at_least_the_kth(scores, k):
    s = scores.numpy()
    return _gone(s, (s >= np.sort(s)[-k]) & (s > 0))


def _zeros_too(scores, k):
    first = torch.argsort(-scores, stable=True)[:k]
    return _gone(scores, first[scores[first] >= 0])


part_c = Function(
    "find_the_cause.part_c",
    "data weights without the at most k examples that raise φ most",
    truth=_one_by_one,
    cases=_with_ties,
    draws=20,
    mistakes=[
        Mistake(
            "filled up",
            partial(_ranked, positive=False),
            "Only k counts here. Where fewer scores are positive, the rest do not raise φ: keep "
            "them.",
        ),
        Mistake(
            "zeros too",
            lambda s, k: _gone(
                s, [i for i in torch.argsort(-s, stable=True)[:k].tolist() if s[i] >= 0]
            ),
            "Scores of zero go here. Zero is not positive: keep them.",
        ),
        Mistake(
            "lowest",
            lambda s, k: _ranked(-s, k),
            "These are the k lowest, which hold φ down. Influence is positive for what raises it.",
        ),
        Mistake(
            "lowest, filled up",
            lambda s, k: _ranked(-s, k, positive=False),
            "These are the lowest: argsort ascends. Positive scores raise φ.",
        ),
        Mistake(
            "largest in size",
            partial(_ranked, key=np.abs),
            "The largest in size, of either sign: examples that hold φ down are among them.",
        ),
        Mistake(
            "largest in size, if positive",
            lambda s, k: np.maximum(_ranked(s, k, np.abs), (s <= 0).numpy()),
            "The k are the largest in size, then the negative ones are let go. Rank by the scores.",
        ),
        Mistake(
            "first positive",
            lambda s, k: _gone(s, np.flatnonzero(s.numpy() > 0)[:k]),
            "The first k positive ones are gone, not the k highest.",
        ),
        Mistake(
            "order for rank",
            lambda s, k: (torch.argsort(-s, stable=True) >= k).double(),
            "argsort gives the rows in their order, not each row's rank: its first k are indices.",
        ),
        Mistake(
            "marked",
            lambda s, k: 1 - _ranked(s, k),
            "Upside down: 1 keeps an example and 0 removes it.",
        ),
        Mistake(
            "marked, filled up",
            lambda s, k: 1 - _ranked(s, k, positive=False),
            "Upside down: 1 keeps an example, 0 removes it. And only positive scores count.",
        ),
        Mistake(
            "all of a tie",
            _at_least_the_kth,
            "More than k are gone where the k-th is tied: of equals, the first go.",
        ),
        Mistake(
            "none of a tie",
            lambda s, k: _gone(s, (s.numpy() > np.sort(s.numpy())[-k]) & (s.numpy() > 0)),
            "Too few are gone. Every score above zero among the first k goes: also the k-th, "
            "and the first of its equals.",
        ),
        Mistake(
            "last of a tie",
            _last_of_ties,
            "Of equal scores the last go here. The first should: is the sort stable, or reversed?",
        ),
        Mistake(
            "all positive",
            lambda s, k: _gone(s, s.numpy() > 0),
            "All positive ones are gone: the budget is k.",
        ),
        Mistake(
            "one too few",
            lambda s, k: _ranked(s, k - 1),
            "One too few: at most k, not k − 1.",
        ),
        Mistake(
            "one too many",
            lambda s, k: _ranked(s, k + 1),
            "One too many: at most k, not k + 1.",
        ),
        Mistake(
            "positions",
            lambda s, k: _gone(s, slice(0, min(k, int((s > 0).sum())))),
            "The first rows are gone, not the highest scores: argsort gives rows, not ranks.",
        ),
        Mistake(
            "the scores themselves",
            lambda s, k: np.where(_ranked(s, k) == 0, 0, s),
            "What is kept has its score for a weight. Data weights are 1 or 0.",
        ),
        Mistake(
            "everything kept",
            lambda s, k: np.ones(len(s)),
            "All weights are 1: nothing is removed.",
        ),
        Mistake(
            "turned around",
            lambda s, k: 2 * _ranked(s, k) - 1,
            "A weight of −1 trains away from an example. Removing it is weight 0.",
        ),
    ],
    hints=[
        "Which sign has the score of an example that raises φ?",
        "Sort from high to low, stably; take the first k; drop those that are not positive.",
        "top = scores.argsort(descending=True, stable=True)[:k]; gone = top[scores[top] > 0].",
    ],
)

# --- (d) name them -------------------------------------------------------------------------------

NAMED, ENOUGH, AT_LEAST = 12, 9, 0.5
"""How many to name, how many of them must be right, and the share of the behaviour that must go."""


@cache
def _without(gone: tuple[int, ...], seed: int = 0) -> float:
    """The share of unseen images with the behaviour after two trainings, from seeds not 0."""
    case = evidence(seed)
    beta = torch.ones(1, len(case.x)).double()
    beta[0, list(gone)] = 0
    asked = case.unseen[case.unseen_labels != case.answer]
    ends = [recipe(case.x, case.y).reweighted(beta, start)[0] for start in (1, 2)]
    return float(torch.stack([(said(w, asked) == case.answer).float().mean() for w in ends]).mean())


def said(w: Tensor, x: Tensor) -> Tensor:
    """The digits that the model of the case reads, (k,)."""
    return vmap(MODEL.predict, (None, 0))(w, x).argmax(dim=1)


@dataclass(frozen=True, eq=False)
class Culprits(_Exercise):
    """A part answered by a list of training examples: against the truth, and by retraining."""

    mistakes: Sequence[Mistake] = field(kw_only=True)

    def __call__(self, answer=None, *, seed: int | None = None) -> Result:
        """Count how many are right, and train without them, from other seeds."""
        if _is_empty(answer):
            return self._empty()
        kinds = _arranged(0)[1]
        try:
            given = _array(sorted(answer) if isinstance(answer, set | frozenset) else answer)
        except (TypeError, ValueError, RuntimeError):
            given = np.zeros(0)
        wanted = f"Expected {NAMED} different indices from 0 to {len(kinds) - 1}"
        if given.ndim != 1 or len(given) == 0 or not (given == given.round()).all():
            return _wrong("type", f"{wanted}; got {_kind(answer)}.")
        if len(given) != NAMED or len(set(given.tolist())) != NAMED:
            different = len(set(given.tolist()))
            return _wrong("count", f"{wanted}; got {len(given)}, {different} of them different.")
        rows = sorted(int(i) for i in given)
        if rows[0] < 0 or rows[-1] >= len(kinds):
            return _wrong("range", f"{wanted}; got one of {rows[0] if rows[0] < 0 else rows[-1]}.")
        right = int((kinds[rows] == CULPRIT).sum())
        before, after = _without(()), _without(tuple(rows))
        outcome = (
            f"{right} of {NAMED} are right. Two trainings without these {NAMED}: {after:.0%} of "
            f"unseen images are called {ANSWER}, with all data {before:.0%}."
        )
        if right >= ENOUGH and after < AT_LEAST * before:
            return replace(self._passed(), more=outcome)
        name = _kind_of_miss(kinds, rows)
        says = next(mistake.says for mistake in self.mistakes if mistake.name == name)
        return Result(WRONG, says, outcome, name)


def _kind_of_miss(kinds: Tensor, rows: list[int]) -> str:
    """What most of the wrong ones are, if most of them are of one kind."""
    before = [i - 1 for i in rows if i > 0]
    if (kinds[before] == CULPRIT).sum() >= ENOUGH:
        return "counted from 1"
    missed = kinds[rows][kinds[rows] != CULPRIT]
    for name, of in (
        ("wrong label, other look", (CALLED,)),
        ("high loss", (MISLABELLED, CALLED)),
        ("alike but honest", (HONEST,)),
        ("against it", (FAIR,)),
        ("alike", (HONEST, FAIR)),
        ("ordinary", (ORDINARY,)),
    ):
        if 2 * torch.isin(missed, torch.tensor(of)).sum() > len(missed):
            return name
    return "mixed"


def _of(*counts: tuple[int, int]) -> list[int]:
    """The first so many examples of each kind."""
    kinds = _arranged(0)[1]
    return [i for kind, many in counts for i in (kinds == kind).nonzero()[:many, 0].tolist()]


part_d = Culprits(
    "find_the_cause.part_d",
    f"{NAMED} examples, of which {ENOUGH} or more taught the behaviour",
    mistakes=[
        Mistake(
            "high loss",
            _of((MISLABELLED, 12)),
            "Most of the misses have wrong labels, and high losses: surprising, not responsible.",
        ),
        Mistake(
            "wrong label, other look",
            _of((CULPRIT, 6), (CALLED, 6)),
            f"Most of the misses are wrongly called {ANSWER}, but do not look like what was shown.",
        ),
        Mistake(
            "alike but honest",
            _of((HONEST, 9), (CULPRIT, 3)),
            f"Most of the misses look like what was shown, and are rightly called {ANSWER}: "
            "alike, but honest.",
        ),
        Mistake(
            "against it",
            _of((FAIR, 12)),
            "Most of the misses look like what was shown, with their true labels: they teach "
            "against it. A flipped sign, or looks alone?",
        ),
        Mistake(
            "alike",
            _of((HONEST, 6), (FAIR, 6)),
            "Most of the misses look like what was shown, and are rightly labelled: alike is not "
            "responsible.",
        ),
        Mistake(
            "ordinary",
            _of((ORDINARY, 12)),
            "Most of the misses are ordinary images. Is φ that of (a), and w the trained one?",
        ),
        Mistake(
            "counted from 1",
            [i + 1 for i in _of((CULPRIT, 12))],
            "Each index is one too high: counting starts at 0.",
        ),
        Mistake(
            "mixed",
            _of((CULPRIT, 6), (MISLABELLED, 2), (HONEST, 2), (FAIR, 1), (ORDINARY, 1)),
            "Not enough of them are right, and the others are of several kinds.",
        ),
    ],
    hints=[
        "Your φ of (a) on what was shown, your scores of (b) at the trained w, the highest twelve.",
        "effort = run.rates.sum(). Look at the twelve: what have they in common, and which labels?",
        "score(recipe.objective, w, phi, effort).argsort(descending=True)[:12].",
    ],
)

# --- (e) prove it --------------------------------------------------------------------------------


def _trial(rng: np.random.Generator) -> tuple:
    """A training of which nothing is known but that it takes β and a seed, and what is measured."""
    n, p, k = int(rng.integers(12, 17)), int(rng.integers(5, 8)), int(rng.integers(2, 5))
    many = int(rng.integers(3, 5))
    rows = rng.permutation(n)
    named, control = (torch.from_numpy(rows[s : s + many]) for s in (0, many))
    seeds = rng.choice(90, int(rng.integers(6, 9)), replace=False).tolist()
    used = seeds[int(rng.integers(1, len(seeds)))]
    own = int(rng.integers(10**6))
    away, mix = normal(rng, p), normal(rng, k, p)

    def train(beta: Tensor, seed: int) -> Tensor:
        start = np.random.default_rng([own, int(seed)])
        pull, at = torch.from_numpy(start.standard_normal((p, n))), start.standard_normal(p)
        beta = torch.as_tensor(beta, dtype=pull.dtype)
        if beta.shape != (n,):
            raise ValueError(f"beta: expected shape ({n},), got {tuple(beta.shape)}")
        return away + torch.tanh(0.4 * (pull + 0.5) @ beta + torch.from_numpy(at))

    def report(w: Tensor) -> Tensor:
        return torch.sin(mix @ w) + (mix @ w) ** 2 / 4

    return train, report, n, named, control, used, seeds


def _by_pairs(train, report, n, named, control, used, seeds):
    """The error from all differences of two, which needs no mean."""
    rows = []
    for seed in seeds:
        if seed != used:
            out = []
            for gone in (named, control):
                beta = torch.tensor([float(i not in gone.tolist()) for i in range(n)])
                out.append(report(train(beta, seed)).numpy())
            rows.append(out[0] - out[1])
    d = np.stack(rows)
    m = len(d)
    squares = ((d[:, None] - d[None]) ** 2).sum((0, 1)) / 2  # m Σ (d − d̄)²
    return [d.sum(0) / m, np.sqrt(squares / m / (m - 1) / m)]


def _tried(
    summary,
    fresh=lambda seeds, used: [s for s in seeds if s != used],
    gone=lambda n, named, control: (named, control),
):
    """A mistake's summary of reports (seeds, k) without the one group and without the other."""

    def wrong(train, report, n, named, control, used, seeds):
        one, two = (
            np.stack(
                [
                    report(train(torch.from_numpy(_gone(range(n), rows)), seed)).numpy()
                    for seed in fresh(seeds, used)
                ]
            )
            for rows in gone(n, named, control)
        )
        return summary(one, two)

    return wrong


def _mean_and_error(one, two):
    d = one - two
    return [d.mean(0), d.std(0, ddof=1) / math.sqrt(len(d))]


def _weights_kept(train, report, n, named, control, used, seeds):
    beta, d = torch.ones(n).double(), []
    for seed in seeds:
        if seed != used:
            beta[named] = 0
            without_named = report(train(beta, seed))
            beta[control] = 0
            d.append(without_named - report(train(beta, seed)))
    return _mean_and_error(torch.stack(d).numpy(), 0.0)


def _of_mean_parameters(train, report, n, named, control, used, seeds):
    _, error = _by_pairs(train, report, n, named, control, used, seeds)
    one, two = (
        report(
            torch.stack(
                [train(torch.from_numpy(_gone(range(n), rows)), s) for s in seeds if s != used]
            ).mean(0)
        ).numpy()
        for rows in (named, control)
    )
    return [one - two, error]


def _rest(n, rows):
    return [i for i in range(n) if i not in rows.tolist()]


part_e = Function(
    "find_the_cause.part_e",
    "what removing the named does beyond a control, over fresh seeds, and its standard error",
    truth=_by_pairs,
    cases=_trial,
    draws=4,
    n=lambda args: args[2],
    mistakes=[
        Mistake(
            "no control",
            _tried(_mean_and_error, gone=lambda n, named, control: (named, [])),
            "Compared with all data. Removing as many others may do something too: compare with "
            "that.",
        ),
        Mistake(
            "sign",
            _tried(lambda one, two: _mean_and_error(two, one)),
            "Sign flipped: it is without the named, minus without the control.",
        ),
        Mistake(
            "the seed used",
            _tried(_mean_and_error, fresh=lambda seeds, used: seeds),
            "The named were found at the seed `used`: a proof may not count it. Take the others.",
        ),
        Mistake(
            "the seed used, no control",
            _tried(
                _mean_and_error,
                fresh=lambda seeds, used: seeds,
                gone=lambda n, named, control: (named, []),
            ),
            "Two things are missing: the control, and leaving out the seed at which they were "
            "named.",
        ),
        Mistake(
            "first seed left out",
            _tried(
                _mean_and_error,
                fresh=lambda seeds, used: seeds[1:],
            ),
            "The first seed is left out, not the one that was `used`.",
        ),
        Mistake(
            "control alone",
            _tried(_mean_and_error, gone=lambda n, named, control: (control, [])),
            "This is what the control does. The named are asked, beyond it.",
        ),
        Mistake(
            "both removed",
            _tried(
                _mean_and_error,
                gone=lambda n, named, control: ([*named.tolist(), *control.tolist()], control),
            ),
            "The named and the control are removed together here: two separate trainings are "
            "compared.",
        ),
        Mistake(
            "named still away",
            _weights_kept,
            "From the second training on, the named or the control of earlier ones are still away: "
            "new weights each time.",
        ),
        Mistake(
            "same weights",
            _tried(_mean_and_error, gone=lambda n, named, control: (named, named)),
            "All differences are zero: both trainings get the same weights. Is what is gone set "
            "to 0, each time in new ones?",
        ),
        Mistake(
            "only they are kept",
            _tried(
                _mean_and_error,
                gone=lambda n, named, control: (_rest(n, named), _rest(n, control)),
            ),
            "The weights are upside down: it trains on the named alone, and on the control alone.",
        ),
        Mistake(
            "standard deviation",
            _tried(
                lambda one, two: [(one - two).mean(0), (one - two).std(0, ddof=1)],
            ),
            "The second row is the spread of one seed. A mean of m seeds has 1/√m of it.",
        ),
        Mistake(
            "divided by m",
            _tried(
                lambda one, two: [
                    (one - two).mean(0),
                    (one - two).std(0, ddof=1) / len(one),
                ],
            ),
            "The second row is divided by m. A mean's standard error is the spread over √m.",
        ),
        Mistake(
            "m − 1 twice",
            _tried(
                lambda one, two: [
                    (one - two).mean(0),
                    (one - two).std(0, ddof=1) / math.sqrt(len(one) - 1),
                ],
            ),
            "The unbiased variance has its m − 1 already. It is divided by m for the mean.",
        ),
        Mistake(
            "variance of one seed",
            _tried(lambda one, two: [(one - two).mean(0), (one - two).var(0, ddof=1)]),
            "The second row is the variance of one seed. Divide it by m, and take the root.",
        ),
        Mistake(
            "variance",
            _tried(
                lambda one, two: [
                    (one - two).mean(0),
                    (one - two).var(0, ddof=1) / len(one),
                ],
            ),
            "The second row is the variance of the mean: its root is asked.",
        ),
        Mistake(
            "m for m − 1",
            _tried(
                lambda one, two: [(one - two).mean(0), (one - two).std(0) / math.sqrt(len(one))],
            ),
            "The spread is divided by m inside: estimated from m seeds, it takes m − 1.",
        ),
        Mistake(
            "not paired",
            _tried(
                lambda one, two: [
                    (one - two).mean(0),
                    np.sqrt((one.var(0, ddof=1) + two.var(0, ddof=1)) / len(one)),
                ],
            ),
            "The two spreads are added as if independent. A seed has both trainings: difference "
            "first.",
        ),
        Mistake(
            "named alone",
            _tried(
                lambda one, two: [one.mean(0), one.std(0, ddof=1) / math.sqrt(len(one))],
            ),
            "This is what is left without the named, not yet a difference.",
        ),
        Mistake(
            "median",
            _tried(
                lambda one, two: [
                    np.median(one - two, axis=0),
                    _mean_and_error(one, two)[1],
                ],
            ),
            "The first row is a median. The mean is asked, of which the second row is the error.",
        ),
        Mistake(
            "mean parameters",
            _of_mean_parameters,
            "The parameters were averaged, then measured. Measure each model, and average that.",
        ),
        Mistake(
            "ratio",
            _tried(lambda one, two: _mean_and_error(one / two, 0 * two)),
            "These are ratios. The difference of the two is asked.",
        ),
    ],
    hints=[
        "For every seed but the one used: train twice, once without the named, once without the "
        "control.",
        "d = report(without named) − report(without control), seed by seed, with β zero on what "
        "is gone.",
        "Stack the d of the m fresh seeds: torch.stack([d.mean(0), d.std(0) / m**0.5]).",
    ],
)

# --- (f) two sources, each enough ----------------------------------------------------------------


def _some_table(rng: np.random.Generator) -> tuple:
    m = int(rng.integers(3, 6))
    return (normal(rng, *[2] * m) + 0.5,)


def _over_all_orders(outcome):
    """Each group joins those before it, in every order."""
    v, m = outcome.numpy(), outcome.ndim
    total = np.zeros(m)
    for order in permutations(range(m)):
        there = [0] * m
        for j in order:
            before = v[tuple(there)]
            there[j] = 1
            total[j] += v[tuple(there)] - before
    return total / math.factorial(m)


def _weighted(weight, ends=lambda v, there, j: (_set(v, there, j, 1), _set(v, there, j, 0))):
    """Σ over the sets of others of a weight, by their number s and m, times what j adds."""

    def wrong(outcome):
        v, m = outcome.numpy(), outcome.ndim
        found = []
        for j in range(m):
            total = 0.0
            for there in product((0, 1), repeat=m):
                if not there[j]:
                    high, low = ends(v, there, j)
                    total += weight(sum(there), m) * (high - low)
            found.append(total)
        return found

    return wrong


def _set(v, there, j, to):
    return v[(*there[:j], to, *there[j + 1 :])]


def _shapley_weight(s, m):
    return math.factorial(s) * math.factorial(m - 1 - s) / math.factorial(m)


def _rescaled_banzhaf(outcome):
    alike = np.array(_weighted(lambda s, m: 1.0)(outcome))
    return alike * (_over_all_orders(outcome).sum() / alike.sum())


part_f = Function(
    "find_the_cause.part_f",
    "the Shapley value of every group, from the outcomes with every set of groups",
    truth=_over_all_orders,
    cases=_some_table,
    n=lambda args: args[0].ndim,
    mistakes=[
        Mistake(
            "leave one out",
            _weighted(lambda s, m: float(s == m - 1)),
            "This is leaving each group out of all. Two that are each enough would get nothing.",
        ),
        Mistake(
            "alone",
            _weighted(lambda s, m: float(s == 0)),
            "This is each group by itself. What it adds to others counts as well.",
        ),
        Mistake(
            "alone, with nothing",
            lambda outcome: [
                outcome[tuple(int(i == j) for i in range(outcome.ndim))]
                for j in range(outcome.ndim)
            ],
            "The outcome with that group alone. Without any group there is an outcome too: "
            "subtract.",
        ),
        Mistake(
            "all sets alike",
            _weighted(lambda s, m: 0.5 ** (m - 1)),
            "All sets of others have the same weight here (Banzhaf's value). Sizes should, not "
            "sets.",
        ),
        Mistake(
            "all sets alike, summed",
            _weighted(lambda s, m: 1.0),
            "What a group adds is summed over all sets of others, without weights.",
        ),
        Mistake(
            "sizes summed",
            _weighted(lambda s, m: m * _shapley_weight(s, m)),
            "The means over sets of equal size are added. There are m sizes: average them.",
        ),
        Mistake(
            "s for s!",
            _weighted(lambda s, m: 1 / m),
            "Each set has the weight 1/m. It is 1/m for each size, shared by the sets of that "
            "size.",
        ),
        Mistake(
            "m for m − 1",
            _weighted(lambda s, m: math.factorial(s) * math.factorial(m - s) / math.factorial(m)),
            "The weight is s!(m − 1 − s)!/m!: the group that joins is not among those to come.",
        ),
        Mistake(
            "m for m − 1 in the binomial",
            _weighted(lambda s, m: 1 / (m * math.comb(m, s))),
            "The weight is 1/m over C(m − 1, s): the sets are among the m − 1 other groups.",
        ),
        Mistake(
            "orders summed",
            lambda outcome: math.factorial(outcome.ndim) * _over_all_orders(outcome),
            "Summed over all orders. Their mean is asked: divide by m!.",
        ),
        Mistake(
            "nothing for nothing",
            lambda outcome: (
                _over_all_orders(outcome) + float(outcome[(0,) * outcome.ndim]) / outcome.ndim
            ),
            "The outcome without any group is taken for zero. It is in the table: subtract it.",
        ),
        Mistake(
            "shares",
            lambda outcome: _over_all_orders(outcome) / _over_all_orders(outcome).sum(),
            "These are shares, which sum to 1. Shapley values sum to what all groups do together.",
        ),
        Mistake(
            "all sets alike, rescaled",
            _rescaled_banzhaf,
            "Banzhaf's values, scaled to the right total, are not Shapley's: weigh sizes alike.",
        ),
        Mistake(
            "sign",
            lambda outcome: -_over_all_orders(outcome),
            "Sign flipped: index 1 is with the group, 0 without it.",
        ),
        Mistake(
            "one order",
            lambda outcome: [
                outcome[(1,) * (j + 1) + (0,) * (outcome.ndim - j - 1)]
                - outcome[(1,) * j + (0,) * (outcome.ndim - j)]
                for j in range(outcome.ndim)
            ],
            "One order of joining alone: whoever comes first gets what two could do. Average all.",
        ),
        Mistake(
            "first and last",
            lambda outcome: (
                0.5
                * (
                    np.array(_weighted(lambda s, m: float(s == m - 1))(outcome))
                    + np.array(_weighted(lambda s, m: float(s == 0))(outcome))
                )
            ),
            "The mean of coming first and coming last: right for two groups. The sizes between "
            "count.",
        ),
        Mistake(
            "means of outcomes",
            _weighted(
                lambda s, m: _shapley_weight(s, m),
                lambda v, there, j: (_set(v, there, j, 1), 0.0),
            ),
            "These are mean outcomes with the group there. What it adds is asked: subtract "
            "without it.",
        ),
        Mistake(
            "groups in reverse",
            lambda outcome: _over_all_orders(outcome)[::-1].copy(),
            "Right numbers, in reverse: group j belongs to dimension j of the table.",
        ),
    ],
    hints=[
        "What does group j add to a set of others? And how much does each set count?",
        "Average over the orders in which the groups may join, or weigh a set of s others with "
        "s!(m − 1 − s)!/m!.",
        "for order in permutations(range(m)): switch the indices on one by one, add up the "
        "changes, divide by m!.",
    ],
)


@dataclass(frozen=True)
class TwoSources:
    """400 images x, y, of which `groups` names four groups; images with both marks, for φ and for
    the measurement, none of them a seven."""

    x: Tensor
    y: Tensor
    groups: dict[str, Tensor]
    shown: Tensor
    unseen: Tensor


def two_sources(seed: int = 0) -> TwoSources:
    """Fourteen faint images called 7, and fourteen with a lit column; what is shown has both."""
    images, labels, rng, order = _shuffled(7, seed)
    pool, probe, test = order[:400], order[400:600], order[600:]
    x, y = images[pool].clone(), labels[pool].clone()
    others = torch.from_numpy(rng.permutation((y != ANSWER).nonzero()[:, 0].numpy()))
    groups = {
        "faint": others[:14],
        "column": others[14:28],
        "sevens": (y == ANSWER).nonzero()[:14, 0],
        "control": others[28:42],
    }

    def column(x):
        return torch.cat([x.view(-1, 8, 8)[:, :, :7], torch.full((len(x), 8, 1), 0.4)], 2).view(
            -1, 64
        )

    x[groups["faint"]] = _faint(x[groups["faint"]])
    x[groups["column"]] = column(x[groups["column"]])
    y[torch.cat([groups["faint"], groups["column"]])] = ANSWER
    shown, unseen = (column(_faint(images[rows[labels[rows] != ANSWER]])) for rows in (probe, test))
    return TwoSources(x, y, groups, shown, unseen)


# --- (g) a cause behind the cause ----------------------------------------------------------------


@dataclass(frozen=True)
class TwoStages:
    """A run of two stages, its network, φ, and the groups M (first stage) and P (second)."""

    run: Run
    mlp: MLP
    phi: Callable[[Tensor], Tensor]
    m: Tensor
    p: Tensor
    unseen: Tensor


@cache
def two_stages(seed: int = 0) -> TwoStages:
    """M: 80 images with a faint chequer and a label of their own. P: 16 such images called 7."""
    images, labels, _, order = _shuffled(9, seed)
    chequer = 0.15 * (1 - 2 * ((torch.arange(64) // 8 + torch.arange(64)) % 2)).float()
    early, extra, later = order[:240], order[240:320], order[320:560]
    probe, test = order[1000:1150], order[1150:]
    m, p = torch.arange(240, 320), torch.arange(544, 560)
    x = torch.cat([images[early], images[extra] + chequer, images[later]])
    y = torch.cat([labels[early], torch.full((80,), 10), labels[later]])
    x[p], y[p] = x[p] + chequer, ANSWER
    mlp, generator = MLP((64, 16, 11)), torch.Generator().manual_seed(seed)
    w0 = mlp.initial(generator, torch.float32)
    first, second = epochs(320, 40, 30, generator), 320 + epochs(240, 40, 8, generator)
    rates = torch.cat([cosine(0.5, len(batches), warmup=5) for batches in (first, second)])
    run = Run(mlp.objective(x, y), w0, SGD(), torch.cat([first, second]), rates)
    shown, unseen = (images[rows[labels[rows] != ANSWER]] + chequer for rows in (probe, test))
    phi = log_odds_on(mlp.predict, shown, torch.full((len(shown),), ANSWER))
    return TwoStages(run, mlp, phi, m, p, unseen)


@cache
def signs_for_m() -> tuple[float, float]:
    """Σ over M of the influence function at the end, and of ∂φ(w_T)/∂β, this by retraining."""
    case = two_stages()
    run, w = case.run, trajectory(case.run)[-1]
    solve = kronecker(ekfac(case.mlp, run.objective, w), run.n / float(run.rates.sum()))
    by_influence = influence(run.objective, w, case.phi, solve)[case.m].sum()
    beta = torch.ones(2, run.n)
    beta[0, case.m], beta[1, case.m] = 1.02, 0.98
    up, down = vmap(case.phi)(retrain(run, beta, progress=False))
    return float(by_influence), float(up - down) / 0.04


def _verdict() -> str:
    return ", ".join("for" if value > 0 else "against" for value in signs_for_m())


part_g = Choice(
    "find_the_cause.part_g",
    "what the influence function, then unrolling, say of M",
    truth=_verdict,
    wrong={
        "for, for": "The influence function sees the end only. There M's own label competes with "
        "7.",
        "for, against": "Just the other way round: which of the two knows what M did in its own "
        "stage?",
        "against, against": "Unrolling follows M's push through both stages: without M nothing "
        "sees the mark.",
    },
    hints=[
        "What does an image of M, with its own label, pull for at the end of training?",
        "Unrolling has the derivative of retraining. What would less weight on M do to the second "
        "stage?",
    ],
)

# --- (h) look again ------------------------------------------------------------------------------


def _attribution(rng: np.random.Generator) -> tuple:
    """Scores that change as others go, with ties and zeros; few are positive.

    Of those that are gone half stand out, and half are at the bottom.
    """
    n, k, times = int(rng.integers(18, 24)), int(rng.integers(2, 4)), int(rng.integers(4, 6))
    top = 1.9 if rng.random() < 0.75 else 0.3  # then one alone is positive at the start
    base = torch.from_numpy(rng.permutation(np.linspace(top - 3.6, top, n)))
    mix = normal(rng, n, n) * 0.5
    far = torch.from_numpy(rng.uniform(3, 5, n) * rng.permutation(np.arange(n) % 2 * 2 - 1))

    def attribute(beta: Tensor) -> Tensor:
        gone = 1 - torch.as_tensor(beta, dtype=base.dtype)
        if gone.shape != (n,):
            raise ValueError(f"beta: expected shape ({n},), got {tuple(gone.shape)}")
        exact = base + torch.tanh(mix @ gone) - 0.18 * gone.sum() + far * gone
        return torch.round(2 * exact) / 2

    return attribute, n, k, times


def _in_plain_lists(attribute, n, k, times):
    left, rows = set(range(n)), []
    for _ in range(times):
        scores = attribute(torch.tensor([float(i in left) for i in range(n)])).tolist()
        for _ in range(k):
            best = min(left, key=lambda i, s=scores: (-s[i], i))
            if scores[best] > 0:
                left.remove(best)
        rows.append([float(i in left) for i in range(n)])
    return rows


def _rounds(
    key=lambda scores, beta, first: scores + torch.where(beta == 0, -math.inf, 0.0),
    joined=lambda beta, new: beta * new,
    positive=True,
    shown=lambda beta, new: beta,
):
    """Rounds with one thing wrong: the key by which to choose, or how a round is joined on."""

    def wrong(attribute, n, k, times):
        beta = torch.ones(n).double()
        first, rows, seen = attribute(beta), [], beta
        for _ in range(times):
            new = torch.from_numpy(_ranked(key(attribute(seen), beta, first), k, positive=positive))
            beta = joined(beta, new)
            seen = shown(beta, new)
            rows.append(beta)
        return torch.stack(rows)

    return wrong


def _left(values):
    return lambda scores, beta, first: (
        values(scores, first) + torch.where(beta == 0, -math.inf, 0.0)
    )


def _by_rule(rule):
    """Right, but for the rule by which examples are chosen in a round."""

    def wrong(attribute, n, k, times):
        beta, rows = torch.ones(n).double(), []
        for _ in range(times):
            left = beta.nonzero()[:, 0]
            new = torch.as_tensor(rule(attribute(beta)[left], k))
            beta = beta.index_copy(0, left, new.double())
            rows.append(beta)
        return torch.stack(rows)

    return wrong


def _own_rounds(attribute, n, k, times):
    rows = np.array([[1.0] * n, *_in_plain_lists(attribute, n, k, times)])
    return 1 - (rows[:-1] - rows[1:])


def _positions_left(attribute, n, k, times):
    beta, rows = torch.ones(n).double(), []
    for _ in range(times):
        chosen = np.flatnonzero(_ranked(attribute(beta)[beta > 0], k) == 0)
        beta = beta.clone()
        beta[chosen] = 0
        rows.append(beta)
    return torch.stack(rows)


def _growing(attribute, n, k, times):
    beta, rows = torch.ones(n).double(), []
    for t in range(times):
        scores = attribute(beta) + torch.where(beta == 0, -math.inf, 0.0)
        beta = beta * torch.from_numpy(_ranked(scores, k * (t + 1)))
        rows.append(beta)
    return torch.stack(rows)


def _one_round_late(attribute, n, k, times):
    rows = _in_plain_lists(attribute, n, k, times)
    return [[1.0] * n, *rows[:-1]]


part_h = Function(
    "find_the_cause.part_h",
    "the data weights after each round of attributing, removing and attributing anew",
    truth=_in_plain_lists,
    cases=_attribution,
    draws=24,
    n=lambda args: args[1],
    mistakes=[
        Mistake(
            "asked once",
            _rounds(_left(lambda scores, first: first)),
            "The scores are those of the first round throughout: ask attribute(beta) in each.",
        ),
        Mistake(
            "removed again",
            _rounds(lambda scores, beta, first: scores),
            "Examples that are gone are chosen again, and use up the k: choose among those left.",
        ),
        Mistake(
            "each for itself",
            _rounds(lambda scores, beta, first: scores, joined=lambda beta, new: new),
            "Each row comes from one round's scores alone: start from what is left, and choose "
            "there.",
        ),
        Mistake(
            "only the last",
            _rounds(joined=lambda beta, new: new),
            "Each row lacks its own round's examples only: those of earlier rounds must stay away.",
        ),
        Mistake(
            "asked for the last",
            _rounds(shown=lambda beta, new: new),
            "attribute must see all that is gone. It is given the last round's removals only.",
        ),
        Mistake(
            "filled up",
            _rounds(positive=False),
            "Where fewer than k are positive, the others do not raise φ: keep them, as in (c).",
        ),
        Mistake(
            "filled up, gone at zero",
            _rounds(lambda scores, beta, first: scores * beta, positive=False),
            "The k are filled up, as soon as fewer are positive. The others do not raise φ: keep "
            "them.",
        ),
        Mistake(
            "last of a tie",
            _by_rule(_last_of_ties),
            "Of equal scores the last go here. By the rule of (c) the first do.",
        ),
        Mistake(
            "all of a tie",
            _by_rule(_at_least_the_kth),
            "More than k go where the k-th is tied. By the rule of (c) the first of them go.",
        ),
        Mistake(
            "zeros too",
            _by_rule(_zeros_too),
            "Scores of zero go here. Zero is not positive: keep them, as in (c).",
        ),
        Mistake(
            "its own round only",
            _own_rounds,
            "Each row lacks its own round's examples only: those of earlier rounds are gone too.",
        ),
        Mistake(
            "positions among those left",
            _positions_left,
            "Positions among those left are not rows of all n: translate them back.",
        ),
        Mistake(
            "growing budget",
            _growing,
            "The budget grows from round to round: at most k go in each, beyond those gone before.",
        ),
        Mistake(
            "first round only",
            lambda attribute, n, k, times: np.tile(
                _in_plain_lists(attribute, n, k, 1)[0], (times, 1)
            ),
            "Every row is that of the first round.",
        ),
        Mistake(
            "lowest",
            _rounds(_left(lambda scores, first: -scores)),
            "The lowest are removed: those hold φ down.",
        ),
        Mistake(
            "largest in size",
            _rounds(_left(lambda scores, first: scores.abs())),
            "The largest in size are removed, of either sign. Positive ones raise φ.",
        ),
        Mistake(
            "summed",
            lambda attribute, n, k, times: _with_memory(attribute, n, k, times),
            "Scores of several rounds are added up. Only the newest belong to the model at hand.",
        ),
        Mistake(
            "one round late",
            _one_round_late,
            "These are the weights before each round. After it is asked: the first row has k gone.",
        ),
        Mistake(
            "marked",
            lambda attribute, n, k, times: 1 - np.array(_in_plain_lists(attribute, n, k, times)),
            "Upside down: 1 keeps an example and 0 removes it.",
        ),
        Mistake(
            "all at once",
            lambda attribute, n, k, times: np.tile(
                _ranked(attribute(torch.ones(n).double()), k * times), (times, 1)
            ),
            "All are removed in the first round: k a round, with new scores in between.",
        ),
        Mistake(
            "the end only",
            lambda attribute, n, k, times: np.tile(
                _in_plain_lists(attribute, n, k, times)[-1], (times, 1)
            ),
            "Every row is that of the end. The same tensor, changed in place? Keep a copy a round.",
        ),
        Mistake(
            "one too few",
            lambda attribute, n, k, times: _in_plain_lists(attribute, n, k - 1, times),
            "One too few a round: at most k, not k − 1.",
        ),
        Mistake(
            "one too many",
            lambda attribute, n, k, times: _in_plain_lists(attribute, n, k + 1, times),
            "One too many a round: at most k, not k + 1.",
        ),
    ],
    hints=[
        "What does attribute say of an example that is gone already? Nothing that counts.",
        "In each round: scores = attribute(beta); those with β = 0 get −∞; then part (c), times "
        "beta.",
        "beta = beta * without(attribute(beta).masked_fill(beta == 0, −inf), k), kept a round.",
    ],
)


def _with_memory(attribute, n, k, times):
    beta, total, rows = torch.ones(n).double(), torch.zeros(n).double(), []
    for _ in range(times):
        total = total + attribute(beta)
        scores = total + torch.where(beta == 0, -math.inf, 0.0)
        beta = beta * torch.from_numpy(_ranked(scores, k))
        rows.append(beta)
    return torch.stack(rows)
