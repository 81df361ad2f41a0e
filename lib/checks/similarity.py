"""Exercise 05_similarity: what a similarity leaves out, and what it costs to leave it out."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache, partial
from itertools import combinations, product

import numpy as np
import sympy as sp
import torch

from lib.checks.engine import (
    WRONG,
    Choice,
    Formula,
    Function,
    Mistake,
    Result,
    _array,
    _Exercise,
    _is_empty,
    _kind,
)
from lib.counterfactuals import without_one
from lib.data import digits
from lib.evaluation import Recipe, sweep
from lib.models import MLP
from lib.objective import LossesOn
from lib.random_problems import normal, stretched
from lib.training import constant

# --- (a) the last layer --------------------------------------------------------------------------


def _last_layer(rng: np.random.Generator) -> tuple:
    """Labels of every kind: some are the query's, some are not; and the query is not certain."""
    while True:
        n, width, classes = rng.choice([3, 4, 5, 6], 3, replace=False).tolist()
        label = int(rng.integers(classes))
        y = np.concatenate([[label, (label + 1) % classes], rng.integers(0, classes, n - 2)])
        weight, a = normal(rng, classes, width + 1), normal(rng, n, width)
        query = normal(rng, width)
        certain = (weight[:, :-1] @ query + weight[:, -1]).softmax(0)[label] > 0.9
        if width + 1 not in (n, classes) and not certain:
            return weight, a, torch.from_numpy(rng.permutation(y)), query, label


def _by_autograd(weight, a, y, query, label):
    """Gradients of every loss in the whole matrix, its column of biases included."""

    def slope(embedding, of):
        leaf = weight.clone().requires_grad_()
        logits = leaf[:, :-1] @ embedding + leaf[:, -1]
        return torch.autograd.grad(-torch.log_softmax(logits, 0)[of], leaf)[0]

    asked = slope(query, label)
    return [(slope(one, int(of)) * asked).sum() for one, of in zip(a, y, strict=True)]


def _factors(combine, probabilities=None, bias=True):
    """A mistake's formula in the errors (n, c) and (c,), in a·a_q and in the lengths of ā."""

    def wrong(weight, a, y, query, label):
        classes = len(weight)
        logits = a @ weight[:, :-1].T + bias * weight[:, -1]
        asked = weight[:, :-1] @ query + bias * weight[:, -1]
        p = (probabilities or partial(torch.softmax, dim=-1))(logits)
        p_q = (probabilities or partial(torch.softmax, dim=-1))(asked)
        one_hot = torch.nn.functional.one_hot
        targets = one_hot(y, classes), one_hot(torch.tensor(label), classes)
        lengths = (1 + (a * a).sum(1)).sqrt(), (1 + query @ query).sqrt()
        return combine((p, p_q), targets, a @ query, lengths)

    return wrong


def _errors(p, t):
    return (p[0] - t[0]) @ (p[1] - t[1])


def _own_outputs(p, t):
    return ((p[0] - t[0]) * t[0]).sum(1) * ((p[1] - t[1]) * t[1]).sum()


def _biases_first(weight, a, y, query, label):
    return _by_autograd(torch.roll(weight, -1, 1), a, y, query, label)


part_a = Function(
    "similarity.part_a",
    "∇L_i·∇ℓ_q in the weights and biases of the last layer",
    truth=_by_autograd,
    cases=_last_layer,
    n=lambda args: len(args[1]),
    mistakes=[
        Mistake(
            "weights only",
            _factors(lambda p, t, dot, long: _errors(p, t) * dot),
            "The biases are missing: their input is 1, for the example and for the query.",
        ),
        Mistake(
            "1 outside",
            _factors(lambda p, t, dot, long: _errors(p, t) * dot + 1),
            "The 1 belongs inside the bracket: a bias's gradient is an error times 1.",
        ),
        Mistake(
            "no bias in the logits",
            _factors(lambda p, t, dot, long: _errors(p, t) * (dot + 1), bias=False),
            "The two factors are right, the probabilities are not: the logits have the biases, "
            "the last column.",
        ),
        Mistake(
            "no bias at all",
            _factors(lambda p, t, dot, long: _errors(p, t) * dot, bias=False),
            "The last column of `weight` is used nowhere: it shifts the logits, and its own "
            "gradient counts.",
        ),
        Mistake(
            "embeddings only",
            _factors(lambda p, t, dot, long: dot + 1),
            "This compares the embeddings and no more. How do the errors p − y compare?",
        ),
        Mistake(
            "embeddings only, no bias",
            _factors(lambda p, t, dot, long: dot),
            "This compares the embeddings and no more: no errors p − y, and no biases.",
        ),
        Mistake(
            "first column",
            _biases_first,
            "The biases are the *last* column of `weight`: append a 1 at the embeddings' end.",
        ),
        Mistake(
            "softmax over examples",
            _factors(
                lambda p, t, dot, long: _errors(p, t) * (dot + 1), partial(torch.softmax, dim=0)
            ),
            "The softmax runs over the examples. It runs over the classes, the last dimension.",
        ),
        Mistake(
            "errors only",
            _factors(lambda p, t, dot, long: _errors(p, t)),
            "This compares the errors and no more: right for the biases alone.",
        ),
        Mistake(
            "probabilities",
            _factors(lambda p, t, dot, long: (p[0] @ p[1]) * (dot + 1)),
            "These are the probabilities. The gradient in a logit has the error p − y.",
        ),
        Mistake(
            "labels",
            _factors(lambda p, t, dot, long: (t[0] @ t[1]) * (dot + 1)),
            "These are the labels. An error is p − y: what is left to learn, in every class.",
        ),
        Mistake(
            "own outputs",
            _factors(lambda p, t, dot, long: _own_outputs(p, t) * (dot + 1)),
            "Only the outputs of their own labels are compared. All classes have an error, p − y.",
        ),
        Mistake(
            "own outputs, one label",
            _factors(lambda p, t, dot, long: _own_outputs(p, t) * (t[0] @ t[1]) * (dot + 1)),
            "Zero unless the labels agree: but p − y has an entry for every class, of both signs.",
        ),
        Mistake(
            "sign",
            _factors(lambda p, t, dot, long: -_errors(p, t) * (dot + 1)),
            "Sign flipped: the product itself is asked, not the influence. Or is one error y − p?",
        ),
        Mistake(
            "cosine of embeddings",
            _factors(lambda p, t, dot, long: _errors(p, t) * (dot + 1) / long[0] / long[1]),
            "The embeddings were normalised. A gradient keeps its length: a longer input has more "
            "of it.",
        ),
        Mistake(
            "cosine, no bias",
            _factors(
                lambda p, t, dot, long: (
                    _errors(p, t) * dot / ((long[0] ** 2 - 1) * (long[1] ** 2 - 1)).sqrt()
                )
            ),
            "Cosine of the embeddings times the errors: neither the lengths nor the biases are "
            "there.",
        ),
        Mistake(
            "cosine",
            _factors(
                lambda p, t, dot, long: (
                    _errors(p, t)
                    * (dot + 1)
                    / (long[0] * long[1] * (p[0] - t[0]).norm(dim=1) * (p[1] - t[1]).norm())
                )
            ),
            "This is the cosine of the two gradients. Their dot product is asked.",
        ),
        Mistake(
            "mean over classes",
            _factors(lambda p, t, dot, long: _errors(p, t) * (dot + 1) / p[0].shape[1]),
            "Too small by the number of classes: a dot product adds over them.",
        ),
        Mistake(
            "sigmoid",
            _factors(lambda p, t, dot, long: _errors(p, t) * (dot + 1), torch.sigmoid),
            "The probabilities are not those of a softmax: over the classes they must sum to 1.",
        ),
        Mistake(
            "logits",
            _factors(lambda p, t, dot, long: _errors(p, t) * (dot + 1), lambda f: f),
            "These are errors of the logits, as squared error would have them. Take the softmax.",
        ),
    ],
    hints=[
        "The gradient in W is an outer product: what is it a product of? And that in the biases?",
        "(p − y) aᵀ in the weights, p − y in the biases: append a 1 to every embedding.",
        "[(p_i − y_i)·(p_q − y_q)] (a_i·a_q + 1), with y one-hot.",
    ],
)

# --- questions with several answers --------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class Letters(Choice):
    """A Choice of several of a few letters, answered as one word, such as 'ad'."""

    def __call__(self, answer=None, *, seed: int | None = None) -> Result:
        """Compare the letters, in any order, with what the experiment gives."""
        known = sorted(set("".join(self.options)))
        if isinstance(answer, list | tuple | set) and all(isinstance(one, str) for one in answer):
            answer = "".join(sorted(answer))
        if isinstance(answer, str):
            letters = set("".join(answer.lower().split())) - set(",;")
            if letters <= set(known):
                return super().__call__("".join(sorted(letters)))
        elif _is_empty(answer):
            return self._empty()
        says = f"Expected letters from {known[0]} to {known[-1]}, such as 'ad'; got"
        return Result(WRONG, f"{says} {_kind(answer)}.", diagnosis="type")


def _every_other(right: str, about: dict[str, str]) -> dict[str, str]:
    """For every wrong set of letters, what to say about the first letter that is wrong in it."""
    words = ("".join(w) for k in range(len(about)) for w in combinations(about, k + 1))
    return {
        word: next(says for letter, says in about.items() if (letter in word) != (letter in right))
        for word in words
        if word != right
    }


# --- (b) who helps through the last layer --------------------------------------------------------

UNDECIDED, CERTAIN = (1 / 3, 1 / 3, 1 / 3), 1e-9
"""Probabilities of three classes, and what a certain network gives to the other two together."""


def _certain_of(k: int) -> tuple:
    return tuple(1 - CERTAIN if j == k else CERTAIN / 2 for j in range(3))


SITUATIONS = {
    # embedding, probabilities and label of the example, then of the query
    "a": ((0.5, 1.0), _certain_of(0), 0, (0.5, 1.0), UNDECIDED, 0),
    "b": ((1.0, -0.5), UNDECIDED, 0, (0.5, 1.0), UNDECIDED, 0),
    "c": ((0.5, 1.0), _certain_of(2), 0, (0.5, 1.0), _certain_of(2), 1),
    "d": ((0.5, 1.0), UNDECIDED, 0, (0.5, 1.0), UNDECIDED, 1),
    "e": ((-0.8, -1.6), UNDECIDED, 0, (0.5, 1.0), UNDECIDED, 0),
}


@cache
def one_step_on_the_last_layer(rate: float = 1e-3) -> dict[str, float]:
    """By how much the query's loss changes, over `rate`, when one step is taken on the example."""
    found = {}
    for name, (a, p, y, a_q, p_q, y_q) in SITUATIONS.items():
        a, p, a_q, p_q = (torch.tensor(v).double() for v in (a, p, a_q, p_q))
        move = torch.zeros(3, 3).double().requires_grad_()  # of the weights, and of the biases

        def loss(move, embedding, probabilities, label):
            logits = probabilities.log() + move[:, :-1] @ embedding + move[:, -1]
            return -torch.log_softmax(logits, 0)[label]

        step = -rate * torch.autograd.grad(loss(move, a, p, y), move)[0]
        change = loss(step, a_q, p_q, y_q) - loss(torch.zeros_like(step), a_q, p_q, y_q)
        found[name] = float(change) / rate
    return found


part_b = Letters(
    "similarity.part_b",
    "the situations in which weight on z_i lowers the query's loss",
    truth=lambda: "".join(
        k for k, change in one_step_on_the_last_layer().items() if change < -1e-3
    ),
    wrong=_every_other(
        "bc",
        {
            "a": "Look at a again: however alike, what is left to learn from z_i, p − y, is zero.",
            "b": "Look at b again: at a right angle the bracket is not 0 but 1, from the biases.",
            "c": "Look at c again: the errors are (−1, 0, 1) and (0, −1, 1). And their product?",
            "d": "Look at d again: the errors are (−2, 1, 1)/3 and (1, −2, 1)/3. Their product's "
            "sign?",
            "e": "Look at e again: the label is the same, but a_i·a_q + 1 = −1.",
        },
    ),
    hints=[
        "Weight on z_i lowers the query's loss where the dot product of part (a) is positive.",
        "Write down p − y of both, three numbers each, and the sign of a_i·a_q + 1.",
        "In two of the five. In one of these the labels differ.",
    ],
)

# --- (c) other units -----------------------------------------------------------------------------

UNITS = (10.0, 0.3, 2.0)
"""What each of the three inputs is multiplied by."""


def _logistic_fit(x, y):
    """argmin Σ log(1 + e^(−y wᵀx)) by Newton's method."""
    w = np.zeros(x.shape[1])
    for _ in range(60):
        q = 1 / (1 + np.exp(y * (x @ w)))  # 1 − p of the own label
        w = w + np.linalg.solve(x.T @ (x * (q * (1 - q))[:, None]), x.T @ (q * y))
    return w


def _five_scores(x, y, x_q, y_q):
    """By letter, the five scores of all examples for the query, after a fit from nothing."""
    w = _logistic_fit(x, y)
    q, q_q = 1 / (1 + np.exp(y * (x @ w))), 1 / (1 + np.exp(y_q * (x_q @ w)))
    slopes, asked = -(q * y)[:, None] * x, -q_q * y_q * x_q
    hessian = x.T @ (x * (q * (1 - q))[:, None])

    def cosine(a, b):
        return a @ b / np.linalg.norm(a, axis=1) / np.linalg.norm(b)

    return {
        "a": cosine(x, x_q),
        "b": -cosine(slopes, asked),
        "c": -slopes @ np.linalg.solve(hessian, asked),
        "d": -slopes @ np.linalg.solve(hessian + np.eye(len(w)), asked),
        "e": -(q * y) * q_q * y_q * (x @ np.linalg.solve(x.T @ x, x_q)),
    }


@cache
def change_of_units() -> dict[str, tuple[float, float]]:
    """For each of the five scores: its correlation with itself in the new units, and the largest
    change, over the largest score."""
    rng = np.random.default_rng(3)
    x, x_q = rng.standard_normal((14, 3)), rng.standard_normal(3)
    y = np.where(x @ [1.0, -0.5, 0.7] + 1.5 * rng.standard_normal(14) > 0, 1, -1)
    before = _five_scores(x, y, x_q, 1)
    after = _five_scores(x * UNITS, y, x_q * UNITS, 1)
    return {
        k: (
            float(np.corrcoef(before[k], after[k])[0, 1]),
            float(np.abs(after[k] - before[k]).max() / np.abs(before[k]).max()),
        )
        for k in before
    }


part_c = Letters(
    "similarity.part_c",
    "the scores that survive a change of units",
    truth=lambda: "".join(k for k, (_, change) in change_of_units().items() if change < 1e-8),
    wrong=_every_other(
        "ce",
        {
            "a": "Look at a again: xᵀx_q becomes xᵀD²x_q, and the norms change in another way.",
            "b": "Look at b again: gradients become D∇L, and a cosine takes only lengths away.",
            "c": "Look at c again: gradients get a factor D, H becomes DHD. What is left of D?",
            "d": "Look at d again: H becomes DHD, but λI stays λI. What would it have to become?",
            "e": "Look at e again: Σ aaᵀ is a curvature too, of the margins' gradients ±x. Does D "
            "cancel?",
        },
    ),
    hints=[
        "The refitted model is the same function, so every p stays; its gradients become D∇.",
        "A product survives if there is a matrix between the gradients that becomes D…D.",
        "Two survive: in the others D meets an identity matrix.",
    ],
)

# --- (d) loss and margin -------------------------------------------------------------------------

_m = sp.Symbol("m", real=True)

part_d = Formula(
    "similarity.part_d",
    "the factor between ∇ℓ and ∇m, in m",
    truth=sp.diff(sp.log(1 + sp.exp(-_m)), _m),
    domain={"m": (-3, 3)},
    mistakes=[
        Mistake(
            "sign",
            1 / (1 + sp.exp(_m)),
            "Sign flipped: the loss falls as the margin grows.",
        ),
        Mistake(
            "p",
            -1 / (1 + sp.exp(-_m)),
            "This is −p. A model that is certain and right has p = 1, and no gradient.",
        ),
        Mistake("p, sign", 1 / (1 + sp.exp(-_m)), "This is p. What is missing from certainty?"),
        Mistake(
            "second derivative",
            sp.exp(_m) / (1 + sp.exp(_m)) ** 2,
            "This is p(1 − p), the second derivative of ℓ in m. The first is asked.",
        ),
        Mistake(
            "minus second derivative",
            -sp.exp(_m) / (1 + sp.exp(_m)) ** 2,
            "This is −p(1 − p), the slope of 1 − p. The slope of ℓ = −log p has one factor less.",
        ),
        Mistake(
            "the loss",
            sp.log(1 + sp.exp(-_m)),
            "This is ℓ itself, as a function of m. Differentiate it.",
        ),
        Mistake(
            "odds",
            -sp.exp(-_m),
            "This is −(1 − p)/p, the odds against the label. The factor is −(1 − p).",
        ),
        Mistake(
            "inverse",
            -(1 + sp.exp(_m)),
            "Upside down: this is what to multiply ∇ℓ with for ∇m.",
        ),
        Mistake(
            "inverse, sign",
            1 + sp.exp(_m),
            "Upside down, and the sign is flipped: the loss falls as the margin grows.",
        ),
        Mistake(
            "in p, not in m",
            -(1 + sp.exp(-_m)),
            "This is −1/p, the slope of ℓ in p. The slope of ℓ in m has dp/dm as well.",
        ),
        Mistake(
            "slope of m in p",
            (1 + sp.exp(_m)) ** 2 / sp.exp(_m),
            "This is 1/(p(1 − p)), the slope of m in p. Divide the slope of ℓ in p by it.",
        ),
        Mistake(
            "minus slope of m in p",
            -((1 + sp.exp(_m)) ** 2) / sp.exp(_m),
            "This is −dm/dp = −1/(p(1 − p)). The slope of ℓ in p is −1/p: divide it by dm/dp.",
        ),
        Mistake(
            "no 1",
            -sp.exp(-_m / 2),
            "e^m is p/(1 − p). Solve it for p.",
        ),
        Mistake(
            "constant",
            sp.Integer(-1),
            "ℓ is not −m: beyond m = 0 there is ever less to gain.",
        ),
        Mistake(
            "m",
            -(1 - _m),
            "m is not p: e^m = p/(1 − p). Solve for p.",
        ),
    ],
    hints=[
        "Both depend on the logits; but ℓ = −log p and m = log p/(1 − p) depend on each other.",
        "∇ℓ = (dℓ/dm) ∇m. Solve e^m = p/(1 − p) for p, and write ℓ in m.",
        "ℓ = log(1 + e^(−m)). Its derivative is −(1 − p).",
    ],
)

# --- (e) TRAK for squared error ------------------------------------------------------------------


def _projected_problem(rng: np.random.Generator) -> tuple:
    n, p, k = int(rng.integers(9, 13)), int(rng.integers(5, 8)), int(rng.integers(2, 4))
    d = int(rng.integers(k + 1, p))
    a, b = stretched(rng, n, p), normal(rng, k, p)
    r = normal(rng, n) + 0.5
    project = normal(rng, p, d) / d**0.5
    return a, r, b, normal(rng, k) - 0.5, project, float(rng.uniform(0.4, 3))


def _by_refitting(slopes, residuals, query_slopes, query_residuals, project, damping):
    """Each weight is moved up and down, and the move v of the projected, linearised model is
    found by least squares: no inverse and no product of gradients."""
    a, r, p = slopes.numpy(), residuals.numpy(), project.numpy()
    b, r_q = query_slopes.numpy(), query_residuals.numpy()
    rows = np.concatenate([a @ p, np.sqrt(damping) * np.eye(p.shape[1])])

    def losses_of_queries(more):
        targets = np.concatenate([more * r, np.zeros(p.shape[1])])
        v = np.linalg.lstsq(rows, targets, rcond=None)[0]
        return (r_q - b @ p @ v) ** 2 / 2

    bumps = 1e-4 * np.eye(len(r))
    return [(losses_of_queries(e) - losses_of_queries(-e)) / 2e-4 for e in bumps]


def _kernelled(combine):
    """A mistake's formula in projected gradients a (n, d), b (k, d), residuals, d × d identity."""

    def wrong(slopes, residuals, query_slopes, query_residuals, project, damping):
        a, b = slopes @ project, query_slopes @ project
        eye = torch.eye(project.shape[1]).double()
        return combine(a, residuals, b, query_residuals, damping, eye)

    return wrong


def _inside(a, b, kernel):
    return a @ torch.linalg.solve(kernel, b.T)


def _unprojected(slopes, residuals, query_slopes, query_residuals, project, damping):
    kernel = slopes.T @ slopes + damping * torch.eye(slopes.shape[1]).double()
    return -residuals[:, None] * _inside(slopes, query_slopes, kernel) * query_residuals


def _orthogonal(slopes, residuals, query_slopes, query_residuals, project, damping):
    """The kernel projected from both sides after it was made of PPᵀ twice."""
    a, b = slopes @ project @ project.T, query_slopes @ project @ project.T
    kernel = a.T @ a + damping * torch.eye(slopes.shape[1]).double()
    return -residuals[:, None] * _inside(a, b, kernel) * query_residuals


def _full(slopes, damping):
    return slopes.T @ slopes + damping * torch.eye(slopes.shape[1]).double()


def _inverted_first(slopes, residuals, query_slopes, query_residuals, project, damping):
    between = project.T @ torch.linalg.solve(_full(slopes, damping), project)
    found = slopes @ project @ between @ (query_slopes @ project).T
    return -residuals[:, None] * found * query_residuals


def _damped_first(slopes, residuals, query_slopes, query_residuals, project, damping):
    kernel = project.T @ _full(slopes, damping) @ project
    found = _inside(slopes @ project, query_slopes @ project, kernel)
    return -residuals[:, None] * found * query_residuals


part_e = Function(
    "similarity.part_e",
    "∂ℓ_q/∂β_i, TRAK's way, for squared error",
    truth=_by_refitting,
    cases=_projected_problem,
    mistakes=[
        Mistake(
            "sign",
            _kernelled(
                lambda a, r, b, s, lam, eye: r[:, None] * _inside(a, b, a.T @ a + lam * eye) * s
            ),
            "Sign flipped: −∇ℓ_qᵀ(…)⁻¹∇L_i, and the two minus signs of −r∇f cancel each other.",
        ),
        Mistake(
            "effect on the output",
            _kernelled(
                lambda a, r, b, s, lam, eye: r[:, None] * _inside(a, b, a.T @ a + lam * eye)
            ),
            "This is the influence on the query's output f_q. Its loss has the factor −r_q.",
        ),
        Mistake(
            "effect on the output, sign",
            _kernelled(
                lambda a, r, b, s, lam, eye: -r[:, None] * _inside(a, b, a.T @ a + lam * eye)
            ),
            "The query's residual is missing: ∇ℓ_q = −r_q∇f_q.",
        ),
        Mistake(
            "1 − r",
            _kernelled(
                lambda a, r, b, s, lam, eye: (
                    -(1 - r)[:, None] * _inside(a, b, a.T @ a + lam * eye) * (1 - s)
                )
            ),
            "1 − p is the factor between two gradients, of cross-entropy. For squared error it is "
            "not 1 − r.",
        ),
        Mistake(
            "inverted, then projected",
            _inverted_first,
            "PᵀC⁻¹P is not (PᵀCP)⁻¹: project first, then invert the d × d kernel.",
        ),
        Mistake(
            "damping projected",
            _damped_first,
            "The damping was projected too: λPᵀP. It is λI, in the d projected directions.",
        ),
        Mistake(
            "kernel of the queries",
            _kernelled(
                lambda a, r, b, s, lam, eye: -r[:, None] * _inside(a, b, b.T @ b + lam * eye) * s
            ),
            "The kernel is of the queries' gradients. Sum over the examples: they were trained on.",
        ),
        Mistake(
            "inverse twice",
            _kernelled(
                lambda a, r, b, s, lam, eye: (
                    -r[:, None]
                    * _inside(a, b, torch.linalg.matrix_power(a.T @ a + lam * eye, 2))
                    * s
                )
            ),
            "The inverse kernel is there twice. One stands between the two gradients.",
        ),
        Mistake(
            "query's residual only",
            _kernelled(lambda a, r, b, s, lam, eye: -_inside(a, b, a.T @ a + lam * eye) * s),
            "The example's residual r_i is missing: an example that is fitted does not pull.",
        ),
        Mistake(
            "no residuals",
            _kernelled(lambda a, r, b, s, lam, eye: -_inside(a, b, a.T @ a + lam * eye)),
            "Without residuals this is a similarity in a metric: nothing says who pulls which way.",
        ),
        Mistake(
            "identity",
            _kernelled(lambda a, r, b, s, lam, eye: -r[:, None] * (a @ b.T) * s),
            "This is the dot product of projected gradients. The kernel (Σ aaᵀ + λI)⁻¹ is missing.",
        ),
        Mistake(
            "dot over λ",
            _kernelled(lambda a, r, b, s, lam, eye: -r[:, None] * (a @ b.T) * s / lam),
            "This is the limit of heavy damping: the kernel has Σ aaᵀ beside λI.",
        ),
        Mistake(
            "no damping",
            _kernelled(lambda a, r, b, s, lam, eye: -r[:, None] * _inside(a, b, a.T @ a) * s),
            "λ is missing: the kernel is Σ aaᵀ + λI.",
        ),
        Mistake(
            "mean kernel",
            _kernelled(
                lambda a, r, b, s, lam, eye: (
                    -r[:, None] * _inside(a, b, a.T @ a / len(a) + lam * eye) * s
                )
            ),
            "The kernel is a sum over the examples, not a mean: λ is on the scale of the sum.",
        ),
        Mistake(
            "mean kernel, over n",
            _kernelled(
                lambda a, r, b, s, lam, eye: (
                    -r[:, None] * _inside(a, b, a.T @ a / len(a) + lam * eye) * s / len(a)
                )
            ),
            "λ acts as nλ here: is the kernel a mean somewhere? It is a sum, with λ as it is.",
        ),
        Mistake(
            "not projected",
            _unprojected,
            "The gradients are not projected: this is the influence in all p directions.",
        ),
        Mistake(
            "projected back",
            _orthogonal,
            "PPᵀg has p entries again, and the kernel is damped in p directions. Work with Pᵀg.",
        ),
        Mistake(
            "residuals in the kernel",
            _kernelled(
                lambda a, r, b, s, lam, eye: (
                    -r[:, None] * _inside(a, b, a.T @ (a * (r * r)[:, None]) + lam * eye) * s
                )
            ),
            "Here the kernel is Σ ∇L∇Lᵀ, with residuals squared. TRAK's has gradients of the "
            "output: Σ aaᵀ.",
        ),
        Mistake(
            "queries in the kernel",
            _kernelled(
                lambda a, r, b, s, lam, eye: (
                    -r[:, None] * _inside(a, b, a.T @ a + b.T @ b + lam * eye) * s
                )
            ),
            "The queries are in the kernel. They were not trained on: sum over the examples.",
        ),
        Mistake(
            "scaled again",
            _kernelled(
                lambda a, r, b, s, lam, eye: (
                    -r[:, None] * _inside(a, b, a.T @ a + len(eye) * lam * eye) * s
                )
            ),
            "The projection is divided by √d once more. `project` has entries of variance 1/d "
            "already.",
        ),
        Mistake(
            "kernel not inverted",
            _kernelled(
                lambda a, r, b, s, lam, eye: -r[:, None] * (a @ (a.T @ a + lam * eye) @ b.T) * s
            ),
            "The kernel must be inverted: directions that many examples share count less.",
        ),
        Mistake(
            "sizes of residuals",
            _kernelled(
                lambda a, r, b, s, lam, eye: (
                    -(r[:, None] * s).abs() * _inside(a, b, a.T @ a + lam * eye)
                )
            ),
            "The residuals' signs are lost: they say which way an example pulls.",
        ),
        Mistake(
            "one loss for a gradient",
            _kernelled(
                lambda a, r, b, s, lam, eye: (
                    -(r * r / 2)[:, None] * _inside(a, b, a.T @ a + lam * eye) * (s * s / 2)
                )
            ),
            "These are the losses ½r². Their gradients have −r.",
        ),
    ],
    hints=[
        "What takes the place of 1 − p? Compare ∇L with the gradient of the output.",
        "∇L_i = −r_i∇f_i, and the output itself is TRAK's margin. Project, then as in the chapter.",
        "−r_i r_q ã_iᵀ(Σ ããᵀ + λI)⁻¹ã_q with ã = Pᵀ∇f.",
    ],
)

# --- (f) signs for a projection ------------------------------------------------------------------

_aa, _bb, _ab, _q, _d = sp.symbols("A B s q d")


def variance_by_enumeration(a: Sequence, b: Sequence, dimension: int) -> sp.Rational:
    """Var[(Pᵀa)·(Pᵀb)] over all matrices P with entries ±1/√d, each as likely as the others."""
    a, b = ([sp.Rational(v) for v in vector] for vector in (a, b))
    of_a_column = [
        sum(u * v for u, v in zip(a, signs, strict=True))
        * sum(u * v for u, v in zip(b, signs, strict=True))
        for signs in product((1, -1), repeat=len(a))
    ]
    dots = [sum(columns) / dimension for columns in product(of_a_column, repeat=dimension)]
    mean = sum(dots) / len(dots)
    return sum((v - mean) ** 2 for v in dots) / len(dots)


def _combination():
    """The variance is linear in AB, s² and q: three enumerations give the coefficients."""
    rows, values = [], []
    for a, b in (((1, 2, -1), (3, 1, 1)), ((2, 0, 1), (1, 5, -1)), ((1, -3, 2), (2, 2, 7))):
        squares = [(u * u, v * v, u * v) for u, v in zip(a, b, strict=True)]
        total = [sum(column) for column in zip(*squares, strict=True)]
        rows.append([total[0] * total[1], total[2] ** 2, sum(u * v for u, v, _ in squares)])
        values.append(variance_by_enumeration(a, b, 1))
    found = sp.Matrix(rows).LUsolve(sp.Matrix(values))
    return (found.T @ sp.Matrix([_aa * _bb, _ab**2, _q]))[0] / _d


part_f = Formula(
    "similarity.part_f",
    "the variance of (Pᵀa)·(Pᵀb) with entries ±1/√d",
    truth=_combination(),
    domain={"A": (1, 3), "B": (1, 3), "s": (-1, 1), "q": (0.1, 0.9), "d": (2, 9)},
    mistakes=[
        Mistake(
            "Gaussian",
            (_aa * _bb + _ab**2) / _d,
            "This is the variance with Gaussian entries. The fourth power of ±1 is 1, not 3.",
        ),
        Mistake(
            "q once",
            (_aa * _bb + _ab**2 - _q) / _d,
            "q is taken away once. A fourth moment of 1 in place of 3 takes it away twice.",
        ),
        Mistake(
            "q three times",
            (_aa * _bb + _ab**2 - 3 * _q) / _d,
            "The fourth moment falls by 2, from 3 to 1: 2q is taken away.",
        ),
        Mistake(
            "plus",
            (_aa * _bb + _ab**2 + 2 * _q) / _d,
            "Signs have lighter tails than Gaussians, so 2q is taken away, not added.",
        ),
        Mistake(
            "second moment",
            _ab**2 + (_aa * _bb + _ab**2 - 2 * _q) / _d,
            "This is the mean of the square. Take away the square of the mean, s².",
        ),
        Mistake(
            "second moment at d = 1",
            (_aa * _bb + 2 * _ab**2 - 2 * _q) / _d,
            "The square of the mean, s², is not taken away from the second moment.",
        ),
        Mistake(
            "Gaussian second moment",
            (_aa * _bb + 2 * _ab**2) / _d,
            "This is the second moment of Gaussian entries at d = 1: neither s² nor 2q is taken "
            "away.",
        ),
        Mistake(
            "second moment, q three times",
            (_aa * _bb + 2 * _ab**2 - 3 * _q) / _d,
            "k = l = m = n was dropped: it was counted 3 times and should be once. Then take away "
            "s².",
        ),
        Mistake(
            "mean taken three times",
            (_aa * _bb - _ab**2 - 2 * _q) / _d,
            "Two of the three pairings give s² each, so that one s² is left when the mean's square "
            "goes.",
        ),
        Mistake(
            "mean taken twice",
            (_aa * _bb - 2 * _q) / _d,
            "Of the three pairings two give s² each, and the square of the mean takes one: s² "
            "stays.",
        ),
        Mistake(
            "no s",
            (_aa * _bb - _q) / _d,
            "This counts pairs k ≠ l once each. (r·a)(r·b) has a_k b_l and a_l b_k for each pair.",
        ),
        Mistake(
            "s squared away",
            (_aa * _bb - _ab**2) / _d,
            "This vanishes where a and b are parallel. The error does not: try a = b.",
        ),
        Mistake(
            "d squared",
            (_aa * _bb + _ab**2 - 2 * _q) / _d**2,
            "d terms of size 1/d: their variances add, so 1/d is left.",
        ),
        Mistake(
            "no d",
            _aa * _bb + _ab**2 - 2 * _q,
            "This is one column, d = 1. The dot product is a mean over d of them.",
        ),
        Mistake(
            "standard deviation",
            sp.sqrt((_aa * _bb + _ab**2 - 2 * _q) / _d),
            "This is the standard deviation. The variance is asked.",
        ),
        Mistake(
            "norms only",
            _aa * _bb / _d,
            "‖a‖²‖b‖² is one pairing of four factors. There are two more, and a correction.",
        ),
        Mistake(
            "not squared",
            (_aa * _bb + _ab - 2 * _q) / _d,
            "s enters as its square: the variance does not know b from −b.",
        ),
    ],
    hints=[
        "The d columns are independent: do d = 1 first, with signs r_k, and divide.",
        "E[r_k r_l r_m r_n] is 1 if the indices pair up, in one of three ways, or are all equal.",
        "The three pairings give AB + 2s²; k = l = m = n was counted 3 times, should be once.",
    ],
)

# --- (g) a counterexample ------------------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class Construction(_Exercise):
    """A part answered by an object with given properties, of which there are many.

    reads: the answer → arrays; raises TypeError or ValueError.  required: in order, a predicate of
    these arrays, and what to say (with a wrong example) where it is the one that fails.
    """

    reads: Callable
    required: Sequence[tuple[Callable[..., bool], Mistake]]
    shows: Callable[..., str]

    @property
    def mistakes(self) -> list[Mistake]:
        """For each requirement, a construction that fails there."""
        return [mistake for _, mistake in self.required]

    def __call__(self, answer=None, *, seed: int | None = None) -> Result:
        """Test the requirements one after the other."""
        if _is_empty(answer):
            return self._empty()
        try:
            arrays = self.reads(answer)
        except (TypeError, ValueError, RuntimeError) as error:
            return Result(WRONG, str(error), diagnosis="type")
        for holds, mistake in self.required:
            if not holds(*arrays):
                return Result(WRONG, mistake.says, self.shows(*arrays), mistake.name)
        return self._passed()


def _two_gradients(answer) -> tuple:
    wanted = "Expected (g_P, g_Q, slope, C): three vectors of two numbers and a 2 × 2 matrix"
    if not isinstance(answer, list | tuple) or len(answer) != 4:
        raise TypeError(f"{wanted}; got {_kind(answer)}.")
    try:
        arrays = tuple(map(_array, answer))
    except (TypeError, ValueError, RuntimeError):
        raise TypeError(f"{wanted}; got {_kind(answer)}.") from None
    if [a.shape for a in arrays] != [(2,), (2,), (2,), (2, 2)]:
        raise ValueError(f"{wanted}; got shapes {', '.join(str(a.shape) for a in arrays)}.")
    if not all(np.isfinite(a).all() for a in arrays):
        raise ValueError("The answer has NaN or infinity in it.")
    return arrays


def _cosines(g_p, g_q, slope, c):
    with np.errstate(invalid="ignore", divide="ignore"):
        return [g @ slope / np.linalg.norm(g) / np.linalg.norm(slope) for g in (g_p, g_q)]


def _influences(g_p, g_q, slope, c):
    return [-slope @ np.linalg.solve(c, g) for g in (g_p, g_q)]


def _shown(*arrays) -> str:
    cosines = ", ".join(f"{v:.3f}" for v in _cosines(*arrays))
    lines = [f"cosines with the slope, P and Q: {cosines}"]
    if abs(np.linalg.det(arrays[3])) > 1e-12:
        influences = ", ".join(f"{v:.3f}" for v in _influences(*arrays))
        lines.append(f"influences of P and Q: {influences}")
    return "\n".join(lines)


_SLOPE, _LOOSE = (3.0, 1.0), ((1.0, 0.0), (0.0, 0.1))

part_g = Construction(
    "similarity.part_g",
    "gradients and a curvature for which similarity has order and sign wrong",
    reads=_two_gradients,
    shows=_shown,
    required=[
        (
            lambda p, q, s, c: all(np.linalg.norm(v) > 1e-9 for v in (p, q, s)),
            Mistake(
                "zero",
                ((0.0, 0.0), (1.0, 3.0), _SLOPE, _LOOSE),
                "One of the vectors is zero: it has no direction, and its influence is nothing.",
            ),
        ),
        (
            # single precision may have turned a symmetric matrix
            lambda p, q, s, c: np.abs(c - c.T).max() <= 1e-6 * np.abs(c).max(),
            Mistake(
                "not symmetric",
                ((3.0, -1.0), (1.0, 3.0), _SLOPE, ((1.0, 0.2), (0.0, 0.1))),
                "C is not symmetric. A Hessian is, and so is a Gauss–Newton matrix.",
            ),
        ),
        (
            lambda p, q, s, c: np.linalg.eigvalsh(c)[0] > 1e-9 * np.abs(c).max(),
            Mistake(
                "not positive definite",
                ((3.0, -1.0), (1.0, 3.0), _SLOPE, ((1.0, 0.0), (0.0, -0.1))),
                "C is not positive definite: both eigenvalues must be positive.",
            ),
        ),
        (
            lambda p, q, s, c: _cosines(p, q, s, c)[1] > 1e-9,
            Mistake(
                "Q does not look helpful",
                ((3.0, -1.0), (-1.0, 2.0), _SLOPE, _LOOSE),
                "Q's cosine with the slope must be positive: similarity has to call both helpful.",
            ),
        ),
        (
            lambda p, q, s, c: np.subtract(*_cosines(p, q, s, c)) > 1e-9,
            Mistake(
                "P is not ahead",
                ((2.0, -4.0), (1.0, 3.0), _SLOPE, _LOOSE),
                "By cosine P must be more like the slope than Q, and it is not.",
            ),
        ),
        (
            lambda p, q, s, c: _influences(p, q, s, c)[1] < -1e-12,
            Mistake(
                "Q does not help",
                ((1.0, -0.2), (1.0, -1.0), _SLOPE, _LOOSE),
                "Q's influence must be negative: Q has to help. Mind the minus in −slopeᵀC⁻¹g.",
            ),
        ),
        (
            lambda p, q, s, c: np.diff(np.abs(_influences(p, q, s, c)))[0] > 1e-12,
            Mistake(
                "Q is not ahead",
                ((3.0, 0.5), (0.1, 0.3), _SLOPE, _LOOSE),
                "By size of influence Q must be ahead of P, and it is not. What does C⁻¹ enlarge?",
            ),
        ),
        (
            lambda p, q, s, c: _influences(p, q, s, c)[0] > 1e-12,
            Mistake(
                "P helps too",
                ((3.0, 0.5), (1.0, 3.0), _SLOPE, _LOOSE),
                "The order is turned round. Now the sign: P's influence must be positive, so that "
                "P harms.",
            ),
        ),
    ],
    hints=[
        "Let C be diagonal with one large and one small entry. Which products does C⁻¹ enlarge?",
        "Let P agree with the slope in the stiff coordinate and disagree, a little, in the loose "
        "one.",
        "C = diag(1, 0.1), slope (3, 1), g_P = (3, −1). And Q along the loose direction.",
    ],
)

# --- (h) heavy damping ---------------------------------------------------------------------------

_lambda, _s1, _s2 = sp.symbols("lambda s1 s2")


def _next_two_terms() -> sp.Expr:
    """From one eigenvalue c, where s_k = c^k: −1/(c + λ) as a Taylor series in u = 1/λ."""
    c, u = sp.symbols("c u", positive=True)
    taylor = sp.series(-u / (1 + c * u), u, 0, 4).removeO()
    first, second = (taylor.coeff(u, k) for k in (2, 3))
    return (first / c) * _s1 / _lambda**2 + (second / c**2) * _s2 / _lambda**3


part_h = Formula(
    "similarity.part_h",
    "the terms of order λ⁻² and λ⁻³",
    truth=_next_two_terms(),
    domain={"lambda": (2, 6), "s1": (-2, 2), "s2": (-2, 2)},
    mistakes=[
        Mistake(
            "all minus",
            -_s1 / _lambda**2 - _s2 / _lambda**3,
            "The signs alternate: the first term is −s₀/λ, so the next is plus.",
        ),
        Mistake(
            "all plus",
            _s1 / _lambda**2 + _s2 / _lambda**3,
            "The signs alternate: the term of order λ⁻² is plus, that of λ⁻³ minus.",
        ),
        Mistake(
            "sign",
            -_s1 / _lambda**2 + _s2 / _lambda**3,
            "Both signs are flipped: this is the expansion of +slopeᵀ(C + λI)⁻¹g.",
        ),
        Mistake(
            "factorials",
            _s1 / _lambda**2 - _s2 / (2 * _lambda**3),
            "No factorials: it is a geometric series, not an exponential.",
        ),
        Mistake(
            "factorials from ½",
            _s1 / (2 * _lambda**2) - _s2 / (6 * _lambda**3),
            "No factorials: it is a geometric series, and its coefficients are ±1.",
        ),
        Mistake(
            "a power of λ lost",
            _s1 / _lambda - _s2 / _lambda**2,
            "One power of λ is missing: (C + λI)⁻¹ = (I + C/λ)⁻¹/λ.",
        ),
        Mistake(
            "a power of λ lost, sign",
            -_s1 / _lambda + _s2 / _lambda**2,
            "This is −s₀/λ + s₁/λ² with every k too large by one: s₀ is the first term's.",
        ),
        Mistake(
            "a power of λ too many",
            _s1 / _lambda**3 - _s2 / _lambda**4,
            "One power of λ too many: s₀ goes with 1/λ, so s₁ goes with 1/λ².",
        ),
        Mistake(
            "small λ",
            _s1 * _lambda - _s2 * _lambda**2,
            "These are powers of λ. For large λ expand in 1/λ.",
        ),
        Mistake(
            "square of s₁",
            _s1 / _lambda**2 - _s1**2 / _lambda**3,
            "s₂ is not s₁²: C² stands between the two gradients, once.",
        ),
        Mistake(
            "one 2",
            _s1 / _lambda**2 - 2 * _s2 / _lambda**3,
            "No 2 before s₂: (1 + u)⁻¹ = 1 − u + u² − …",
        ),
        Mistake(
            "up to λ⁻²",
            _s1 / _lambda**2,
            "Right as far as it goes: the term of order λ⁻³ is missing.",
        ),
        Mistake(
            "only λ⁻³",
            -_s2 / _lambda**3,
            "Right as far as it goes: the term of order λ⁻² is missing.",
        ),
        Mistake(
            "all orders",
            _s1 / (_lambda * (_lambda + _s2 / _s1)),
            "This sums a whole geometric series of ratio −s₂/(s₁λ). The first two terms are asked.",
        ),
        Mistake(
            "powers exchanged",
            _s2 / _lambda**2 - _s1 / _lambda**3,
            "s₁ and s₂ are exchanged: every further C comes with a further 1/λ.",
        ),
        Mistake(
            "2 in front",
            2 * _s1 / _lambda**2 - 3 * _s2 / _lambda**3,
            "These are coefficients of (1 + u)⁻². It is (1 + u)⁻¹: 1 − u + u² − …",
        ),
    ],
    hints=[
        "Take λ out of the bracket: (C + λI)⁻¹ = (I + C/λ)⁻¹/λ.",
        "(I + X)⁻¹ = I − X + X² − …, with X = C/λ.",
        "−s₀/λ + s₁/λ² − s₂/λ³. The first one is the dot product.",
    ],
)

# --- (i) a copy with a wrong label ---------------------------------------------------------------


@cache
def wrong_copies(times: int) -> tuple[np.ndarray, np.ndarray]:
    """Twenty queries of the digits, each copied into the training set with a wrong label: by how
    much a copy's presence raises its query's loss, by retraining without it, and that loss; after
    `times` epochs. (20,) each."""
    images, labels = digits()
    small = torch.nn.functional.avg_pool2d(images.view(-1, 1, 8, 8), 2).flatten(1)
    small = 2 * (small - small.mean(0))
    rng = np.random.default_rng(5)
    chosen = torch.from_numpy(rng.permutation(len(small))[:200])
    asked = chosen[180:]
    given = labels[chosen].clone()
    given[180:] = (given[180:] + torch.from_numpy(rng.integers(1, 10, 20))) % 10
    mlp = MLP((16, 8, 10))
    schedule = partial(constant, 0.5)
    recipe = Recipe(mlp.objective(small[chosen], given), mlp.initial, 20, times, schedule)
    phi = LossesOn(mlp.objective(small[asked], labels[asked]))
    beta = torch.cat([torch.ones(1, 200).double(), without_one(200)[180:]])
    outcomes = sweep(recipe.reweighted, phi, beta, progress=False)[0]
    return (outcomes[0] - outcomes[1:].diagonal()).numpy(), outcomes[0].numpy()


@cache
def _harm() -> str:
    short, long = (np.median(wrong_copies(times)[0]) for times in (8, 80))
    if long < 0:
        return "helps"
    return "larger" if long > 2 * short else "smaller" if long < short / 2 else "the same"


part_i = Choice(
    "similarity.part_i",
    "what a wrong copy does to its query after a long training",
    truth=_harm,
    wrong={
        "the same": "The cosine is the same, 1 at every epoch. The harm is not: when does the "
        "network learn single examples by heart?",
        "smaller": "The network does learn the other 199 images. But what they do not explain, the "
        "wrong labels, it learns last, and by heart.",
        "helps": "A wrong label pulls towards a wrong answer, at any length: typical copies harm. "
        "How much, and when?",
    },
    hints=[
        "After eight epochs the network knows classes, but hardly an image by heart. After eighty?",
        "λ = n/η̄T falls with training: directions that few examples share get loose.",
        "The examples with wrong labels keep their errors longest: they are what is still learned.",
    ],
)
