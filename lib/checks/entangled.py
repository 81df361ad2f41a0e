"""Exercise 05_entangled: one influence split by what is watched and by mode, and groups."""

from functools import cache
from itertools import combinations
from math import factorial

import numpy as np
import sympy as sp
import torch

from lib.checks.engine import Choice, Formula, Function, Mistake, Number
from lib.data import figure_one
from lib.random_problems import normal, stretched

# --- (a) what is watched --------------------------------------------------------------------------


def _classes(rng: np.random.Generator) -> tuple:
    """Influences with, among others, a harmful example that harms every class, and two whose
    weighted and plain means over classes differ in sign."""
    n, k = int(rng.integers(12, 17)), int(rng.integers(4, 7))
    counts = rng.permutation(np.arange(k) ** 2 * 7 + rng.integers(5, 12, k))
    table = 0.4 * rng.standard_normal((n, k)) + 0.1
    table[0] = np.abs(table[0])
    tilt = -0.61 / (k - 1) * rng.uniform(1.0, 1.3, (2, k))  # together more than the largest class
    tilt[:, counts.argmax()] = rng.uniform(0.5, 0.6, 2)
    table[1], table[2] = tilt[0], -tilt[1]
    return torch.from_numpy(rng.permutation(table)), torch.from_numpy(counts.astype(float))


def _one_by_one(influences, counts):
    """Each example left out of a table of class losses, in plain Python."""
    many, out = counts.tolist(), []
    for row in influences.tolist():
        rises = [0.0] + [-v for v in row]
        total = sum(m * v for m, v in zip(many, rises[1:], strict=True))
        out.append(max(rises) if total < 0 else 0.0)
    return out


def _priced(harm, chosen=lambda total, plain: total > 0):
    """A mistake: harm sees (influences, the classes' shares), chosen the two kinds of mean."""

    def wrong(influences, counts):
        table, share = influences.numpy(), counts.numpy() / counts.numpy().sum()
        kept = chosen(table @ share, table.mean(1))
        return np.where(kept, harm(table, share), 0.0)

    return wrong


def _worst(table, share):
    return (-table).max(1).clip(min=0)


part_a = Function(
    "entangled.part_a",
    "the price of leaving each example out, as the worst-hit class pays it",
    truth=_one_by_one,
    cases=_classes,
    mistakes=[
        Mistake(
            "plain mean",
            _priced(_worst, lambda total, plain: plain > 0),
            "The total is over test examples, so a class counts by their number, not once.",
        ),
        Mistake(
            "all examples",
            _priced(_worst, lambda total, plain: total == total),
            "Examples that lower the total loss have a price here too: nobody would leave them "
            "out. Zero for these.",
        ),
        Mistake(
            "the helpful ones",
            _priced(_worst, lambda total, plain: total < 0),
            "These are the prices of examples that help the total. A positive influence on a loss "
            "is harmful.",
        ),
        Mistake(
            "sign of leaving out",
            _priced(lambda table, share: table.max(1).clip(min=0)),
            "Leaving out is minus influence: the class with the most negative influence is hit.",
        ),
        Mistake(
            "both signs",
            _priced(lambda table, share: table.max(1).clip(min=0), lambda total, plain: total < 0),
            "Both signs are flipped: this is the largest harm that a helpful example does to a "
            "class.",
        ),
        Mistake(
            "gains",
            _priced(lambda table, share: (-table).max(1)),
            "Where no class loses by leaving out, the price is zero, not negative.",
        ),
        Mistake(
            "weighted",
            _priced(lambda table, share: (-table * share).max(1).clip(min=0)),
            "The price is the rise of that class's own mean loss, not its part in the total.",
        ),
        Mistake(
            "sum over classes",
            _priced(lambda table, share: (-table).clip(min=0).sum(1)),
            "The rises of all classes that lose are added up. The worst-hit one alone is asked.",
        ),
        Mistake(
            "largest size",
            _priced(lambda table, share: np.abs(table).max(1)),
            "The largest effect of either sign. A class whose loss falls pays nothing.",
        ),
        Mistake(
            "net",
            _priced(lambda table, share: (-table).max(1) + table @ share),
            "The change of the total was taken away from the price: the worst-hit class's rise "
            "alone is asked.",
        ),
        Mistake(
            "total",
            _priced(lambda table, share: table @ share),
            "This is the total influence, the gain. What does the worst-hit class pay for it?",
        ),
        Mistake(
            "all examples, gains",
            _priced(lambda table, share: (-table).max(1), lambda total, plain: total == total),
            "Two zeros are missing: where no class loses, and for examples that the total does "
            "not call harmful.",
        ),
        Mistake(
            "in the total",
            _priced(lambda table, share: (-table).clip(min=0) @ share),
            "The rises are averaged over the test images. The worst-hit class alone is asked.",
        ),
        Mistake(
            "mean over classes",
            _priced(lambda table, share: (-table).clip(min=0).mean(1)),
            "The rises are averaged over the classes. The worst-hit class alone is asked.",
        ),
        Mistake(
            "counted",
            lambda influences, counts: (
                counts.sum().item()
                * _priced(lambda table, share: (-table * share).max(1).clip(min=0))(
                    influences, counts
                )
            ),
            "Multiplied by the class's number of images. Asked is the rise of its mean loss.",
        ),
        Mistake(
            "change of the total",
            _priced(lambda table, share: -table @ share),
            "This is the change of the total. What does the worst-hit class pay for it?",
        ),
    ],
    hints=[
        "share = counts/counts.sum(), and the total influence is influences @ share.",
        "Left out, class c's loss changes by −influences[:, c]. Its maximum over c, at least 0.",
        "torch.where(total > 0, (−influences).max(1).values.clamp(min=0), 0.0)",
    ],
)

# --- (b) modes ------------------------------------------------------------------------------------


def _spectral(rng: np.random.Generator) -> tuple:
    """A curvature with modes below the cut, between cut − λ and the cut among them, and above."""
    p, n = int(rng.integers(5, 8)), int(rng.integers(8, 12))
    cut, damping = float(rng.uniform(0.8, 1.2)), float(rng.uniform(0.3, 0.5))
    steep = cut + rng.uniform(0.3, 2.0, int(rng.integers(2, p - 2)))
    loose = rng.uniform(0.02, cut - damping - 0.1, p - len(steep) - 1)
    sigma = np.concatenate([[cut - damping * rng.uniform(0.3, 0.7)], steep, loose])
    basis = np.linalg.qr(rng.standard_normal((p, p)))[0]
    curvature = torch.from_numpy((basis * sigma) @ basis.T)
    curvature = (curvature + curvature.T) / 2
    return curvature, normal(rng, n, p), normal(rng, p), damping, cut


def _matrix_sign(a):
    """+1 on the eigenvectors above zero and −1 below, by Newton's iteration: none is computed."""
    for _ in range(40):
        a = (a + np.linalg.inv(a)) / 2
    return a


def _by_projector(curvature, slopes, push, damping, cut):
    c, one = curvature.numpy(), np.eye(len(curvature))
    solved = np.linalg.solve(c + damping * one, push.numpy())
    steep = (one + _matrix_sign(c - cut * one)) / 2
    return -np.stack([slopes.numpy() @ steep @ solved, slopes.numpy() @ (one - steep) @ solved], 1)


def _modes(term, kept=lambda s, damping, cut: s >= cut):
    """A mistake: term(a, q, σ, λ), with a = slopes·v and q = push·v, and which modes come first."""

    def wrong(curvature, slopes, push, damping, cut):
        s, v = np.linalg.eigh(curvature.numpy())
        terms = term(slopes.numpy() @ v, push.numpy() @ v, s, damping)
        first = kept(s, damping, cut)
        return np.stack([terms[:, first].sum(1), terms[:, ~first].sum(1)], 1)

    return wrong


def _term(a, q, s, damping):
    return -a * q / (s + damping)


def _by_rows(curvature, slopes, push, damping, cut):
    """A mistake: it depends on the signs of the eigenvectors, so those are torch's here."""
    s, v = torch.linalg.eigh(curvature)
    terms = _term(slopes @ v.T, push @ v.T, s, damping)
    return torch.stack([terms[:, s >= cut].sum(1), terms[:, s < cut].sum(1)], 1)


part_b = Function(
    "entangled.part_b",
    "the influence of every example through the modes from the cut on, and through the others",
    truth=_by_projector,
    cases=_spectral,
    n=lambda args: len(args[1]),
    mistakes=[
        Mistake(
            "sign",
            _modes(lambda *a: -_term(*a)),
            "Sign flipped: influence has a minus, −∇φᵀ(C + λI)⁻¹∇L_i.",
        ),
        Mistake(
            "order",
            _modes(_term, lambda s, damping, cut: s < cut),
            "The columns are swapped: first the modes with σ_k ≥ cut.",
        ),
        Mistake(
            "order, sign",
            _modes(lambda *a: -_term(*a), lambda s, damping, cut: s < cut),
            "The columns are swapped, and the sign is flipped.",
        ),
        Mistake(
            "undamped",
            _modes(lambda a, q, s, damping: -a * q / s),
            "λ is missing: each mode is divided by σ_k + λ.",
        ),
        Mistake(
            "no curvature",
            _modes(lambda a, q, s, damping: -a * q),
            "These are the products of slopes. A mode's share is divided by σ_k + λ.",
        ),
        Mistake(
            "cut on σ + λ",
            _modes(_term, lambda s, damping, cut: s + damping >= cut),
            "The cut was put to σ_k + λ. It is for the curvature's own eigenvalues σ_k.",
        ),
        Mistake(
            "rows",
            _by_rows,
            "Eigenvectors are the columns of what eigh returns; these are the rows.",
        ),
        Mistake(
            "times",
            _modes(lambda a, q, s, damping: -a * q * (s + damping)),
            "Multiplied by σ_k + λ. A loose mode, of small σ_k, moves the most: divide.",
        ),
        Mistake(
            "root",
            _modes(lambda a, q, s, damping: -a * q / (s + damping) ** 0.5),
            "Divided by the root of σ_k + λ.",
        ),
        Mistake(
            "squared",
            _modes(lambda a, q, s, damping: -a * q / (s + damping) ** 2),
            "Divided by σ_k + λ twice: once for each factor. It belongs to the product.",
        ),
        Mistake(
            "singular values",
            _modes(lambda a, q, s, damping: -a * q * s / (s * s + damping)),
            "σ/(σ² + λ) is for a least-squares problem with singular values σ. Here 1/(σ_k + λ).",
        ),
        Mistake(
            "sizes",
            _modes(lambda *a: np.abs(_term(*a))),
            "Sizes of the terms are added up. Terms have signs, and cancel.",
        ),
        Mistake(
            "steep and all",
            lambda *case: np.stack(
                [_by_projector(*case)[:, 0], _by_projector(*case).sum(1)], axis=1
            ),
            "The second column is the whole influence. It should hold the other modes alone.",
        ),
        Mistake(
            "all and loose",
            lambda *case: np.stack(
                [_by_projector(*case).sum(1), _by_projector(*case)[:, 1]], axis=1
            ),
            "The first column is the whole influence. It should hold the steep modes alone.",
        ),
        Mistake(
            "sizes, with a minus",
            _modes(lambda *a: -np.abs(_term(*a))),
            "Minus the sizes of the terms are added up. Terms have signs, and cancel.",
        ),
    ],
    hints=[
        "s, v = torch.linalg.eigh(curvature): column k of v is v_k.",
        "terms = −(slopes @ v) · (push @ v)/(s + damping), of shape (n, p), one column a mode.",
        "Sum terms[:, s >= cut] and terms[:, s < cut] over their columns; stack the two.",
    ],
)

# --- (c) a group ----------------------------------------------------------------------------------


def _grouped(rng: np.random.Generator) -> tuple:
    n, p, m = int(rng.integers(10, 14)), int(rng.integers(3, 5)), int(rng.integers(5, 8))
    x = stretched(rng, n, p)
    y = x @ normal(rng, p) + normal(rng, n)
    size = int(rng.integers(2, 4)) if p == 4 else 4
    group = torch.from_numpy(rng.choice(n, size, replace=False))
    return x, y, float(rng.uniform(0.5, 2.0)), group, stretched(rng, m, p)


def _ridge(x, y, rho):
    """The penalty as p more rows of data, for a least-squares routine that knows nothing of it."""
    p = x.shape[1]
    x, y = np.vstack([x, rho**0.5 * np.eye(p)]), np.concatenate([y, np.zeros(p)])
    return np.linalg.lstsq(x, y, rcond=None)[0]


def _refitted(x, y, rho, group, queries):
    x, y = x.numpy(), y.numpy()
    left = np.setdiff1d(np.arange(len(x)), group.numpy())
    return queries.numpy() @ (_ridge(x[left], y[left], rho) - _ridge(x, y, rho))


def _removed(change, of=lambda x, y, w: y - x @ w, penalty=True):
    """A mistake in the pieces: change(P, H, r) is −A⁻¹X_Sᵀ(I − H)⁻¹r when right, with P = A⁻¹X_Sᵀ;
    `of` gives the residuals."""

    def wrong(x, y, rho, group, queries):
        x, y, s = x.numpy(), y.numpy(), group.numpy()
        a = x.T @ x + (rho if penalty else 0) * np.eye(x.shape[1])
        w = np.linalg.solve(a, x.T @ y)
        pulls = np.linalg.solve(a, x[s].T)
        return queries.numpy() @ change(pulls, x[s] @ pulls, of(x[s], y[s], w))

    return wrong


def _exactly(pulls, h, r):
    return -pulls @ np.linalg.solve(np.eye(len(r)) - h, r)


def _still_all(x, y, rho, group, queries):
    left = np.setdiff1d(np.arange(len(x)), group.numpy())
    w = _ridge(x.numpy()[left], y.numpy()[left], rho)
    return queries.numpy() @ w


def _refits(before=lambda rho, n, left: rho, after=lambda rho, n, left: rho):
    """A mistake: another penalty in the fit to all, or in the fit without the group."""

    def wrong(x, y, rho, group, queries):
        x, y, n = x.numpy(), y.numpy(), len(x)
        left = np.setdiff1d(np.arange(n), group.numpy())
        rest = _ridge(x[left], y[left], after(rho, n, len(left)))
        return queries.numpy() @ (rest - _ridge(x, y, before(rho, n, len(left))))

    return wrong


def _unpenalised(of_fit=False, of_hat=False):
    """A mistake: the formula with XᵀX for A in the fit, or in H_S."""

    def wrong(x, y, rho, group, queries):
        x, y, s = x.numpy(), y.numpy(), group.numpy()
        plain, a = x.T @ x, x.T @ x + rho * np.eye(x.shape[1])
        w = np.linalg.solve(plain if of_fit else a, x.T @ y)
        h = x[s] @ np.linalg.solve(plain if of_hat else a, x[s].T)
        return queries.numpy() @ _exactly(np.linalg.solve(a, x[s].T), h, y[s] - x[s] @ w)

    return wrong


def _half_deleted(inputs=True, labels=True):
    """A mistake: the group stays in XᵀX, or in Xᵀy."""

    def wrong(x, y, rho, group, queries):
        x, y, s = x.numpy(), y.numpy(), group.numpy()
        a, b = x.T @ x + rho * np.eye(x.shape[1]), x.T @ y
        left = np.linalg.solve(a - inputs * x[s].T @ x[s], b - labels * x[s].T @ y[s])
        return queries.numpy() @ (left - np.linalg.solve(a, b))

    return wrong


part_c = Function(
    "entangled.part_c",
    "the change of every query's prediction when the group is deleted",
    truth=_refitted,
    cases=_grouped,
    mistakes=[
        Mistake(
            "first order",
            _removed(lambda p, h, r: -p @ r),
            "This is minus the sum of influences. A whole deletion has (I − H_S)⁻¹ as well.",
        ),
        Mistake(
            "sum of leave-one-out",
            _removed(lambda p, h, r: -p @ (r / (1 - np.diag(h)))),
            "This is the sum of leave-one-out effects. Beside the diagonal, H_S says how the "
            "members stand in for each other.",
        ),
        Mistake(
            "sign",
            _removed(lambda p, h, r: -_exactly(p, h, r)),
            "Sign flipped: deleting the group lets the fit move away from its labels.",
        ),
        Mistake(
            "plus",
            _removed(lambda p, h, r: -p @ np.linalg.solve(np.eye(len(r)) + h, r)),
            "I + H_S is for adding a second copy of the group. Deleting has I − H_S.",
        ),
        Mistake(
            "not inverted",
            _removed(lambda p, h, r: -p @ (r - h @ r)),
            "I − H_S is multiplied with. Solve with it.",
        ),
        Mistake(
            "second order",
            _removed(lambda p, h, r: -p @ (r + h @ r)),
            "Right to second order: I + H_S are the first two terms of (I − H_S)⁻¹.",
        ),
        Mistake(
            "labels",
            _removed(_exactly, of=lambda x, y, w: y),
            "The labels stand where the residuals r_S = y_S − X_S w* should.",
        ),
        Mistake(
            "residuals without the group",
            _removed(lambda p, h, r: _exactly(p, h, np.linalg.solve(np.eye(len(r)) - h, r))),
            "(I − H_S)⁻¹ is there twice: with the residuals of the fit without the group, no "
            "further factor is needed.",
        ),
        Mistake(
            "no penalty",
            _removed(_exactly, penalty=False),
            "ρ is missing: A = XᵀX + ρI, in w*, in H_S and in the answer.",
        ),
        Mistake(
            "penalty shrunk",
            _refits(after=lambda rho, n, left: rho * left / n),
            "The penalty was reduced with the data. It is not theirs: ρ stays.",
        ),
        Mistake(
            "whole row sums",
            _removed(lambda p, h, r: -p @ (r / (1 - h.sum(1)))),
            "(I − H_S)⁻¹ is the inverse of a matrix; this divides by its row sums.",
        ),
        Mistake(
            "entry by entry",
            _removed(lambda p, h, r: -p @ ((1 / (np.eye(len(r)) - h)) @ r)),
            "Each entry of I − H_S was inverted by itself. The matrix has to be.",
        ),
        Mistake(
            "predictions",
            _still_all,
            "These are the new predictions. Their change is asked.",
        ),
        Mistake(
            "sum of influences",
            _removed(lambda p, h, r: p @ r),
            "This is the sum of influences. A deletion goes the other way, and it has (I − H_S)⁻¹ "
            "as well.",
        ),
        Mistake(
            "penalty not in w*",
            _unpenalised(of_fit=True),
            "The residuals are those of the fit without a penalty. w* is A⁻¹Xᵀy, with ρ in A.",
        ),
        Mistake(
            "penalty not in H_S",
            _unpenalised(of_hat=True),
            "ρ is missing in H_S: it is X_S A⁻¹X_Sᵀ, with A = XᵀX + ρI.",
        ),
        Mistake(
            "penalty dropped",
            _refits(after=lambda rho, n, left: 0.0),
            "The penalty went with the group. It stays as it is.",
        ),
        Mistake(
            "mean of the losses",
            _refits(lambda rho, n, left: n * rho, lambda rho, n, left: left * rho),
            "This is for the mean of the losses plus the penalty. Here the losses are summed.",
        ),
        Mistake(
            "no half in the penalty",
            _refits(lambda rho, n, left: 2 * rho, lambda rho, n, left: 2 * rho),
            "This is for a penalty ρ‖w‖². With its ½ the matrix has ρ on the diagonal, not 2ρ.",
        ),
        Mistake(
            "labels stay",
            _half_deleted(labels=False),
            "The group is taken out of XᵀX only. Its labels are to go as well: Xᵀy − X_Sᵀy_S.",
        ),
        Mistake(
            "inputs stay",
            _half_deleted(inputs=False),
            "The group is taken out of Xᵀy only. Its inputs are to go as well: A − X_SᵀX_S.",
        ),
    ],
    hints=[
        "A = XᵀX + ρI and w* = A⁻¹Xᵀy. Deleting S takes X_SᵀX_S off A, and X_Sᵀy_S off Xᵀy.",
        "w* changes by −A⁻¹X_Sᵀ(I − H_S)⁻¹r_S, with H_S = X_S A⁻¹X_Sᵀ and r_S = y_S − X_S w*.",
        "pulls = solve(a, x[group].T); −queries @ pulls @ solve(eye − x[group] @ pulls, r).",
    ],
)

# --- (d) two examples -----------------------------------------------------------------------------

_ri, _rj, _hi, _hj, _hij = sp.symbols("r_i r_j h_i h_j h_ij")


def _both_deleted() -> sp.Expr:
    """Δ_ij of the prediction at x_i: −(h_i, h_ij)·(I − H_S)⁻¹ (r_i, r_j)."""
    kept = sp.Matrix([[1 - _hi, -_hij], [-_hij, 1 - _hj]])
    return sp.factor(-(sp.Matrix([[_hi, _hij]]) * kept.inv() * sp.Matrix([_ri, _rj]))[0])


_together = _both_deleted()
_alone_i, _alone_j = -_hi * _ri / (1 - _hi), -_hij * _rj / (1 - _hj)
_interaction = sp.factor(_together - _alone_i - _alone_j)

part_d = Formula(
    "entangled.part_d",
    "the interaction of i and j on the prediction at x_i, in r_i, r_j, h_i, h_j and h_ij",
    truth=_interaction,
    domain={
        "r_i": (-2, 2),
        "r_j": (-2, 2),
        "h_i": (0.05, 0.6),
        "h_j": (0.05, 0.6),
        "h_ij": (-0.3, 0.3),
    },
    mistakes=[
        Mistake(
            "together",
            _together,
            "This is Δ_ij, the effect of both. The interaction is what the two single effects "
            "leave of it.",
        ),
        Mistake(
            "sign",
            -_interaction,
            "Sign flipped: the effect of both, minus the two single ones.",
        ),
        Mistake(
            "influences taken away",
            _together + _hi * _ri + _hij * _rj,
            "The single effects here are first-order. Left out alone, i moves its prediction by "
            "−h_i r_i/(1 − h_i).",
        ),
        Mistake(
            "second order",
            -_hij * (_hi * _rj + _hij * _ri),
            "This is the second derivative, right to lowest order. The exact interaction has all "
            "orders.",
        ),
        Mistake(
            "only i taken away",
            _together - _alone_i,
            "The single effect of j on the prediction at x_i is missing, −h_ij r_j/(1 − h_j).",
        ),
        Mistake(
            "only j taken away",
            _together - _alone_j,
            "The single effect of i is missing, −h_i r_i/(1 − h_i).",
        ),
        Mistake(
            "own prediction of j",
            _together - _alone_i + _hj * _rj / (1 - _hj),
            "The last term is j's effect on its own prediction. At x_i it is −h_ij r_j/(1 − h_j).",
        ),
        Mistake(
            "sign of h_ij",
            _interaction.subs(_hij, -_hij),
            "The sign of h_ij is flipped: off its diagonal I − H_S has −h_ij.",
        ),
        Mistake(
            "plus in the determinant",
            (-_hi * ((1 - _hj) * _ri + _hij * _rj) - _hij * (_hij * _ri + (1 - _hi) * _rj))
            / ((1 - _hi) * (1 - _hj) + _hij**2)
            - _alone_i
            - _alone_j,
            "The determinant of I − H_S is (1 − h_i)(1 − h_j) − h_ij²: a minus.",
        ),
        Mistake(
            "diagonal not swapped",
            (-_hi * ((1 - _hi) * _ri + _hij * _rj) - _hij * (_hij * _ri + (1 - _hj) * _rj))
            / ((1 - _hi) * (1 - _hj) - _hij**2)
            - _alone_i
            - _alone_j,
            "In the inverse of a 2 × 2 matrix the diagonal entries change places: 1 − h_j stands "
            "above.",
        ),
        Mistake(
            "singles added",
            _together + _alone_i + _alone_j,
            "The single effects are added. They are taken away.",
        ),
        Mistake(
            "prediction at x_j",
            _interaction.subs({_ri: _rj, _rj: _ri, _hi: _hj, _hj: _hi}, simultaneous=True),
            "This is the interaction on the prediction at x_j.",
        ),
        Mistake(
            "minus in the inverse",
            (-_hi * ((1 - _hj) * _ri - _hij * _rj) + _hij * (_hij * _ri - (1 - _hi) * _rj))
            / ((1 - _hi) * (1 - _hj) - _hij**2)
            - _alone_i
            - _alone_j,
            "Off its diagonal the inverse of I − H_S has +h_ij: two minus signs.",
        ),
        Mistake(
            "no h_ij² below",
            (-_hi * ((1 - _hj) * _ri + _hij * _rj) - _hij * (_hij * _ri + (1 - _hi) * _rj))
            / ((1 - _hi) * (1 - _hj))
            - _alone_i
            - _alone_j,
            "The determinant of I − H_S is (1 − h_i)(1 − h_j) − h_ij²: the second term is missing.",
        ),
        Mistake(
            "no determinant",
            -_hi * ((1 - _hj) * _ri + _hij * _rj)
            - _hij * (_hij * _ri + (1 - _hi) * _rj)
            - _alone_i
            - _alone_j,
            "In the inverse of I − H_S the division by the determinant is missing.",
        ),
    ],
    hints=[
        "At x_i, part (c) has queries @ pulls = (h_i, h_ij). Invert the 2 × 2 matrix I − H_S.",
        "(I − H_S)⁻¹ has (1 − h_j, h_ij) and (h_ij, 1 − h_i) over (1 − h_i)(1 − h_j) − h_ij².",
        "From Δ_ij take Δ_i = −h_i r_i/(1 − h_i) and Δ_j = −h_ij r_j/(1 − h_j).",
    ],
)

# --- (e) copies -----------------------------------------------------------------------------------

_m, _k, _h = sp.symbols("m k h", positive=True)
_share = _m * (1 - _h) / (_k * (1 + (_k - _m - 1) * _h))

part_e = Formula(
    "entangled.part_e",
    "the share of the whole effect that the first m of k copies bring, in m, k and h",
    truth=_share,
    domain={"m": (1.1, 2.9), "k": (3.2, 9), "h": (0.1, 0.95)},
    mistakes=[
        Mistake(
            "proportional",
            _m / _k,
            "Copies do not share equally: those that are left hold the fit. Compare "
            "m/(1 − m h′) with k/(1 − k h′).",
        ),
        Mistake(
            "leverage among copies",
            _m * (1 - _k * _h) / (_k * (1 - _m * _h)),
            "Right if h were a copy's leverage among the k. Here it is that of a single copy: "
            "h′ = h/(1 + (k − 1)h).",
        ),
        Mistake(
            "upside down",
            1 / _share,
            "Upside down: the whole over the part. It should be below 1 for m < k.",
        ),
        Mistake(
            "the rest",
            1 - _share,
            "This is the share that the last k − m bring.",
        ),
        Mistake(
            "k copies beside",
            _m * (1 + (_k - 1) * _h - _k * _h) / (_k * (1 + (_k - _m) * _h)),
            "One copy too many is left: 1 − m h′ is (1 + (k − m − 1)h)/(1 + (k − 1)h).",
        ),
        Mistake(
            "leverage with k more",
            (_m / (1 - _m * _h / (1 + _k * _h))) / (_k / (1 - _k * _h / (1 + _k * _h))),
            "h is the leverage with one copy there, so k − 1 are added: h′ = h/(1 + (k − 1)h).",
        ),
        Mistake(
            "leverage divided",
            _m * (1 - _h) / (_k * (1 - _m * _h / _k)),
            "The leverage is not shared out as h/k: Sherman–Morrison gives h′ = h/(1 + (k − 1)h).",
        ),
        Mistake(
            "no m/k",
            (1 - _h) / (1 + (_k - _m - 1) * _h),
            "The factor m/k is missing: at m = k the share is 1, but halfway it is not this.",
        ),
        Mistake(
            "singles",
            _m * (1 - _h) / (_k * (1 + (_k - 2) * _h)),
            "This is m times the effect of the first copy. Each next one has fewer to cover for "
            "it.",
        ),
        Mistake(
            "first order",
            _m * (1 - _h) / (_k * (1 + (_k - 1) * _h)),
            "This has the first-order effect of the m copies, m A⁻¹x r without 1/(1 − m h′).",
        ),
        Mistake(
            "added instead",
            _m * (1 + (_k - 1) * _h) / (_k * (1 + (_m - 1) * _h)),
            "This is the share that the first m bring when copies are added. Taken away, the "
            "first bring the least.",
        ),
        Mistake(
            "not a share",
            _m * (1 + (_k - 1) * _h) / (1 + (_k - _m - 1) * _h),
            "This is the effect of m copies, as a multiple of A⁻¹x r. Divide by that of all k.",
        ),
        Mistake(
            "sign in h′",
            _m * (1 + _h - 2 * _k * _h) / (_k * (1 + _h - (_k + _m) * _h)),
            "The more copies, the less leverage each has: h′ = h/(1 + (k − 1)h), with a plus.",
        ),
    ],
    hints=[
        "With leverage h′ of a copy among the k, removing m changes w* by −m/(1 − m h′) A⁻¹x r.",
        "Starting from one copy, k − 1 more make it h′ = h/(1 + (k − 1)h), by Sherman–Morrison.",
        "1 − m h′ = (1 + (k − 1 − m)h)/(1 + (k − 1)h); put this in m(1 − k h′)/(k(1 − m h′)).",
    ],
)

# --- (f) near-copies ------------------------------------------------------------------------------


def _line(x, y):
    """Intercept and slope."""
    return np.linalg.lstsq(np.stack([np.ones(len(x)), x], 1), y, rcond=None)[0]


def near_copies() -> tuple[np.ndarray, np.ndarray]:
    """The cloud of the book's first figure and, last, five points far to its right and low."""
    x, y = (v.numpy()[:-2] for v in figure_one())
    far_x, far_y = [4.8, 4.9, 5.0, 5.1, 5.25], [0.2, 0.35, 0.1, 0.3, 0.25]
    return np.append(x, far_x), np.append(y, far_y)


@cache
def group_over_singles() -> dict[str, float]:
    """The change of slope without all five, and the sum of its changes without each, by refits."""
    x, y = near_copies()
    five = range(len(x) - 5, len(x))
    slope = _line(x, y)[1]

    def without(which):
        return _line(np.delete(x, which), np.delete(y, which))[1] - slope

    return {"all five": without(list(five)), "sum of singles": sum(without(i) for i in five)}


@cache
def _factor() -> float:
    found = group_over_singles()
    return found["all five"] / found["sum of singles"]


NEAR_LEVERAGE = 0.136
"""The leverage of each of the five points, to about five per cent."""

part_f = Number(
    "entangled.part_f",
    "the effect of all five over the sum of the single effects",
    truth=_factor,
    rtol=0.06,
    mistakes=[
        Mistake(
            "additive",
            1.0,
            "That would be a sum without interaction. These five stand in for each other.",
        ),
        Mistake(
            "upside down",
            1 / _factor(),
            "Upside down: with all five gone nothing holds the line, so the group does more than "
            "the sum.",
        ),
        Mistake("five", 5.0, "Not the number of points: it depends on their leverage, and how?"),
        Mistake(
            "against influence",
            1 / (1 - 5 * NEAR_LEVERAGE),
            "That compares with the sum of influences. A leave-one-out effect has 1/(1 − h) of "
            "its own.",
        ),
        Mistake(
            "as if alone",
            (1 + 3 * NEAR_LEVERAGE) / (1 - NEAR_LEVERAGE),
            "That takes h for the leverage of one point without the other four. Here h is among "
            "the five.",
        ),
        Mistake(
            "against one",
            5 * _factor(),
            "That compares with the effect of one. The sum has five of them.",
        ),
    ],
    hints=[
        "The five are nearly copies: what is the factor for k copies of leverage h, all removed?",
        "k/(1 − kh) for the group, and k/(1 − h) for the sum of single effects.",
        "(1 − h)/(1 − 5h).",
    ],
)

# --- (g) redundancy or synergy --------------------------------------------------------------------


def two_ends() -> tuple[np.ndarray, np.ndarray]:
    """A flat cloud around zero, and last two points at −9 and 9, both well above it."""
    rng = np.random.default_rng(3)
    x = np.append(np.linspace(-3, 3, 21), [-9.0, 9.0])
    y = np.append(0.3 * rng.standard_normal(21), [3.0, 3.2])
    return x, y


@cache
def ends_removed() -> dict[str, float]:
    """The change of the line's height at 0, without the left end, the right end, and both."""
    x, y = two_ends()
    n, height = len(x), _line(x, y)[0]
    groups = {"without left": [n - 2], "without right": [n - 1], "without both": [n - 2, n - 1]}
    return {name: _line(np.delete(x, g), np.delete(y, g))[0] - height for name, g in groups.items()}


def _kind_and_sign() -> str:
    left, right, both = ends_removed().values()
    assert left * right > 0
    kind = "redundancy" if (both - left - right) * left > 0 else "synergy"
    x, _ = two_ends()
    intercept, slope = _line(x, np.eye(len(x))[-1])  # column j of the hat matrix is a fit to e_j
    return f"{kind}, h_ij {'>' if intercept + slope * x[-2] > 0 else '<'} 0"


part_g = Choice(
    "entangled.part_g",
    "the kind of interaction of the two ends on the height of the line at 0, and the sign of h_ij",
    truth=_kind_and_sign,
    wrong={
        "redundancy, h_ij > 0": "h_ij = 1/n + (x_i − x̄)(x_j − x̄)/Σ(x − x̄)², and these two are on "
        "opposite sides. What does one of them alone do to the line?",
        "redundancy, h_ij < 0": "The sign is right. Both raise the height, but left alone each "
        "also tilts the line: does one cover for the other, or need it?",
        "synergy, h_ij > 0": "The kind is right. h_ij = 1/n + (x_i − x̄)(x_j − x̄)/Σ(x − x̄)²: "
        "they are on opposite sides.",
        "none, h_ij = 0": "h_ij = 1/n + (x_i − x̄)(x_j − x̄)/Σ(x − x̄)² is zero only if the second "
        "part is as large as 1/n. Here it is far larger.",
    },
    hints=[
        "Without the left end, what does the right one do to the line? And what is left of its "
        "push at 0?",
        "To lowest order I_ij = −h_ij(a_i r_j + a_j r_i), with a = 1/n for the height in the "
        "middle; the single effects are −a_i r_i.",
    ],
)

# --- (h) one more derivative ----------------------------------------------------------------------


def _newton(margins, rho, beta, w, steps):
    """The minimiser of Σ β_i e^(−m_i w) + ½ρw², for weights of any shape (..., n), also complex."""
    for _ in range(steps):
        pull = beta * np.exp(-margins * w[..., None])
        slope = -(margins * pull).sum(-1) + rho * w
        w = w - slope / ((margins**2 * pull).sum(-1) + rho)
    return w


def _exponential(rng: np.random.Generator) -> tuple:
    """One parameter, margins of both signs, and the minimum not too near zero."""
    while True:
        n = int(rng.integers(5, 9))
        margins = rng.standard_normal(n) + rng.uniform(0.2, 0.6)
        rho, query = float(rng.uniform(0.5, 1.5)), float(rng.uniform(0.8, 1.6))
        w = float(_newton(margins, rho, np.ones(n), np.zeros(()), 60))
        if 0.15 < abs(w) < 1.5 and (margins < 0).any():
            return torch.from_numpy(margins), rho, w, query


def _by_refitting(margins, rho, w, query):
    """Every pair of weights moved, one by a finite and the other by an imaginary step."""
    margins, n, h = margins.numpy(), len(margins), 2e-3
    offsets = np.array([-2, -1, 1, 2]) * h
    beta = np.ones((n, n, 4, n), complex)
    for i in range(n):
        beta[i, :, :, i] += 1e-25j
        beta[:, i, :, i] += offsets
    lowest = _newton(margins, rho, beta, np.full((n, n, 4), w + 0j), 14)
    slope = np.exp(-query * lowest).imag / 1e-25
    return slope @ np.array([1, -8, 8, -1]) / (12 * h)


def _second(formula):
    """A mistake in the pieces: u_i, ∇²L_i, their matrices, H, T = Σ∇³L_i, φ′, φ″, ρ."""

    def wrong(margins, rho, w, query):
        m = margins.numpy()
        e = np.exp(-m * w)
        big = (m**2 * e).sum() + rho
        u = m * e / big
        push, curved = -query * np.exp(-query * w), query**2 * np.exp(-query * w)
        return formula(u, m**2 * e, big, -(m**3 * e).sum(), push, curved, rho)

    return wrong


def _pair(a, b):
    return np.outer(a, b) + np.outer(b, a)


def _response(u, c, big, third):
    return -(_pair(c, u) + third * np.outer(u, u)) / big


part_h = Function(
    "entangled.part_h",
    "∂²φ/∂β_i∂β_j for every pair, at β = 1",
    truth=_by_refitting,
    cases=_exponential,
    mistakes=[
        Mistake(
            "φ taken as linear",
            _second(lambda u, c, H, T, f, g, rho: f * _response(u, c, H, T)),
            "φ is curved: φ″ u_i u_j is missing.",
        ),
        Mistake(
            "w taken as linear",
            _second(lambda u, c, H, T, f, g, rho: g * np.outer(u, u)),
            "Only φ″ u_i u_j is here. The minimum itself bends with β: differentiate "
            "Σ β_i L_i′ + ρw = 0 twice.",
        ),
        Mistake(
            "no third derivative",
            _second(lambda u, c, H, T, f, g, rho: g * np.outer(u, u) - f * _pair(c, u) / H),
            "The third derivative is missing: H changes also because w does, by Σ_i L_i‴ u_j.",
        ),
        Mistake(
            "third derivative's sign",
            _second(lambda u, c, H, T, f, g, rho: g * np.outer(u, u) + f * _response(u, c, H, -T)),
            "The third derivative's term has the wrong sign: in the bracket it is added, and "
            "the third derivative of e^(−m w) is −m³ e^(−m w).",
        ),
        Mistake(
            "own curvature missing",
            _second(lambda u, c, H, T, f, g, rho: g * np.outer(u, u) - f * T * np.outer(u, u) / H),
            "L_i″ u_j + L_j″ u_i is missing: β_i weights the curvature of L_i as well.",
        ),
        Mistake(
            "not symmetric",
            _second(
                lambda u, c, H, T, f, g, rho: (
                    g * np.outer(u, u) - f * (np.outer(c, u) + T * np.outer(u, u)) / H
                )
            ),
            "L_j″ u_i is missing: the answer has to be symmetric in i and j.",
        ),
        Mistake(
            "not symmetric, the other",
            _second(
                lambda u, c, H, T, f, g, rho: (
                    g * np.outer(u, u) - f * (np.outer(u, c) + T * np.outer(u, u)) / H
                )
            ),
            "L_i″ u_j is missing: the answer has to be symmetric in i and j.",
        ),
        Mistake(
            "diagonal once",
            _second(
                lambda u, c, H, T, f, g, rho: (
                    g * np.outer(u, u) + f * (_response(u, c, H, T) + np.diag(c * u) / H)
                )
            ),
            "Right off the diagonal. For i = j both L_i″ u_j and L_j″ u_i are there still: twice "
            "L_i″ u_i.",
        ),
        Mistake(
            "sign of u",
            _second(lambda u, c, H, T, f, g, rho: g * np.outer(u, u) + f * _response(-u, c, H, T)),
            "u has the wrong sign: u_i = −L_i′/H, and L_i′ = −m_i e^(−m_i w).",
        ),
        Mistake(
            "sign of the bend",
            _second(lambda u, c, H, T, f, g, rho: g * np.outer(u, u) - f * _response(u, c, H, T)),
            "The term with ∂²w has the wrong sign: φ′ is −q e^(−q w), and ∂²w is −(…)/H, since all "
            "terms of the twice differentiated equation add up to zero.",
        ),
        Mistake(
            "not divided by H",
            _second(
                lambda u, c, H, T, f, g, rho: g * np.outer(u, u) + f * H * _response(u, c, H, T)
            ),
            "∂²w is not divided by H.",
        ),
        Mistake(
            "ρ left out of H",
            lambda margins, rho, w, query: _second(
                lambda u, c, H, T, f, g, _: (
                    g * np.outer(u, u) * (H / (H - rho)) ** 2
                    + f * _response(u * H / (H - rho), c, H - rho, T)
                )
            )(margins, rho, w, query),
            "H is the second derivative of all that is minimised: ρ belongs to it.",
        ),
        Mistake(
            "interaction of removals",
            _second(
                lambda u, c, H, T, f, g, rho: -(g * np.outer(u, u) + f * _response(u, c, H, T))
            ),
            "Sign flipped. (Even for removing both there is no minus: (−1)·(−1) = 1.)",
        ),
        Mistake(
            "Taylor's half",
            _second(
                lambda u, c, H, T, f, g, rho: 0.5 * (g * np.outer(u, u) + f * _response(u, c, H, T))
            ),
            "A ½ of Taylor's series is in it. The derivative itself is asked.",
        ),
        Mistake(
            "of w",
            _second(lambda u, c, H, T, f, g, rho: _response(u, c, H, T)),
            "This is ∂²w*/∂β_i∂β_j. φ is a function of w*: φ″ u_i u_j + φ′ ∂²w*.",
        ),
        Mistake(
            "half of a pair",
            _second(
                lambda u, c, H, T, f, g, rho: g * np.outer(u, u) + f * _response(u, c / 2, H, T)
            ),
            "L_i″ u_j and L_j″ u_i both count in full: their sum has no ½.",
        ),
        Mistake(
            "half of T",
            _second(
                lambda u, c, H, T, f, g, rho: g * np.outer(u, u) + f * _response(u, c, H, T / 2)
            ),
            "T u_i u_j has no ½: that is Taylor's series, not the derivative.",
        ),
        Mistake(
            "no q",
            _second(
                lambda u, c, H, T, f, g, rho: f**2 / g * (np.outer(u, u) - _response(u, c, H, T))
            ),
            "q is missing: φ′ = −q e^(−q w) and φ″ = q² e^(−q w).",
        ),
        Mistake(
            "ρ in T",
            _second(
                lambda u, c, H, T, f, g, rho: g * np.outer(u, u) + f * _response(u, c, H, T + rho)
            ),
            "ρ is in T. ½ρw² has a second derivative, and no third.",
        ),
        Mistake(
            "nothing for i = j",
            _second(
                lambda u, c, H, T, f, g, rho: (
                    (1 - np.eye(len(u))) * (g * np.outer(u, u) + f * _response(u, c, H, T))
                )
            ),
            "Right off the diagonal. For i = j there is a second derivative too.",
        ),
    ],
    hints=[
        "φ″ u_i u_j + φ′ ∂²w*, with u_i = ∂w*/∂β_i = −L_i′/H and H = Σ L_i″ + ρ.",
        "Differentiate Σ β_k L_k′(w) + ρw = 0 in β_i, then in β_j, with w = w*(β).",
        "H ∂²w* = −(L_i″ u_j + L_j″ u_i + T u_i u_j), with T = Σ L_k‴; ρw has no third derivative.",
    ],
)

# --- (i) Shapley, with symmetry -------------------------------------------------------------------


def _values(rng: np.random.Generator) -> tuple:
    k = int(rng.integers(3, 7))
    gains = rng.uniform(0.1, 1.0, (k + 1, 2)) * np.sign(rng.uniform(-0.4, 1, (k + 1, 2)))
    return (torch.from_numpy(gains.cumsum(0) + rng.uniform(1, 2) * np.array([0, 1])),)


def _over_coalitions(value):
    """By the definition, over all coalitions of k + 1 players who know nothing of symmetry."""
    v = value.numpy()
    k = len(v) - 1
    players = [*range(k), "other"]

    def worth(team):
        return v[len(team) - ("other" in team), int("other" in team)]

    def shapley(player):
        rest = [p for p in players if p != player]
        return sum(
            (worth([*team, player]) - worth(team))
            * (factorial(size) * factorial(k - size) / factorial(k + 1))
            for size in range(k + 1)
            for team in combinations(rest, size)
        )

    return [shapley(0), shapley("other")]


def _shared(other, copy=lambda v, o: (v[-1, 1] - v[0, 0] - o) / (len(v) - 1)):
    """A mistake: the other's value from v, then a copy's, by default what is left over k."""

    def wrong(value):
        v = value.numpy()
        o = other(v)
        return np.array([copy(v, o), o])

    return wrong


def _mean_gain(v):
    return (v[:, 1] - v[:, 0]).mean()


def _binomial(v):
    k = len(v) - 1
    ways = np.array([factorial(k) / factorial(m) / factorial(k - m) for m in range(k + 1)])
    return ways @ (v[:, 1] - v[:, 0]) / 2**k


def _banzhaf_copy(v, _):
    k = len(v) - 1
    ways = np.array([factorial(k - 1) / factorial(m) / factorial(k - 1 - m) for m in range(k)])
    return (ways[:, None] * np.diff(v, axis=0)).sum() / 2**k


part_i = Function(
    "entangled.part_i",
    "the Shapley value of a copy, and of the other example",
    truth=_over_coalitions,
    cases=_values,
    n=lambda args: len(args[0]) - 1,
    mistakes=[
        Mistake(
            "order",
            lambda value: _over_coalitions(value)[::-1],
            "The two are swapped: first the value of one copy, then that of the other example.",
        ),
        Mistake(
            "leave one out",
            _shared(lambda v: v[-1, 1] - v[-1, 0], lambda v, o: v[-1, 1] - v[-2, 1]),
            "These are leave-one-out effects, of whoever comes last. Average over all orders.",
        ),
        Mistake(
            "other left out",
            _shared(lambda v: v[-1, 1] - v[-1, 0]),
            "The other's value is its leave-one-out effect, with all copies there before it. It "
            "may come in any place.",
        ),
        Mistake(
            "first",
            _shared(lambda v: v[0, 1] - v[0, 0], lambda v, o: v[1, 0] - v[0, 0]),
            "These are the effects of whoever comes first. Average over all orders.",
        ),
        Mistake(
            "binomial",
            _shared(_binomial),
            "Coalitions of copies count alike here. In a random order every number of copies "
            "before the other is as likely.",
        ),
        Mistake(
            "Banzhaf",
            _shared(_binomial, _banzhaf_copy),
            "All coalitions count alike: these are Banzhaf's values. In a random order every size "
            "is as likely.",
        ),
        Mistake(
            "mean over k",
            _shared(lambda v: (v[:, 1] - v[:, 0]).sum() / (len(v) - 1)),
            "Divided by k: from 0 to k copies may come before the other, k + 1 cases.",
        ),
        Mistake(
            "without the empty case",
            _shared(lambda v: (v[1:, 1] - v[1:, 0]).mean()),
            "The other may also come before all copies: the case of 0 is missing.",
        ),
        Mistake(
            "without the full case",
            _shared(lambda v: (v[:-1, 1] - v[:-1, 0]).mean()),
            "The other may also come after all copies: the case of k is missing.",
        ),
        Mistake(
            "copies among themselves",
            _shared(_mean_gain, lambda v, o: (v[-1, 0] - v[0, 0]) / (len(v) - 1)),
            "The other's value is right. The copies share what is left of v(k, with) − v(0, "
            "without), not what they gain alone.",
        ),
        Mistake(
            "copies with the other",
            _shared(_mean_gain, lambda v, o: (v[-1, 1] - v[0, 1]) / (len(v) - 1)),
            "The other's value is right. The copies' gains with the other there are only a part "
            "of the orders: use what is left over.",
        ),
        Mistake(
            "all copies",
            _shared(_mean_gain, lambda v, o: v[-1, 1] - v[0, 0] - o),
            "The first number is the value of all copies together: divide it by k.",
        ),
        Mistake(
            "divided by k + 1",
            _shared(_mean_gain, lambda v, o: (v[-1, 1] - v[0, 0] - o) / len(v)),
            "The other's value is right. What is left belongs to the k copies: divide by k.",
        ),
        Mistake(
            "everything to all",
            _shared(
                lambda v: (v[-1, 1] - v[0, 0]) / len(v),
                lambda v, o: (v[-1, 1] - v[0, 0]) / len(v),
            ),
            "All k + 1 get the same here. The copies are alike; the other is not like them.",
        ),
        Mistake(
            "nothing for none",
            _shared(_mean_gain, lambda v, o: (v[-1, 1] - o) / (len(v) - 1)),
            "v(0, without) is not zero: what is divided is the difference from it.",
        ),
        Mistake(
            "gains averaged",
            _shared(_mean_gain, lambda v, o: np.diff(v, axis=0).mean()),
            "The other's value is right. In random orders the gains of copies do not count alike: "
            "use what is left over.",
        ),
        Mistake(
            "copies as one player",
            _shared(lambda v: (v[0, 1] - v[0, 0] + v[-1, 1] - v[-1, 0]) / 2),
            "This takes all copies for one player. The other may also come between them.",
        ),
        Mistake(
            "other first",
            _shared(lambda v: v[0, 1] - v[0, 0]),
            "The other's value is what it does with no copy there. It may come in any place.",
        ),
        Mistake(
            "sum over places",
            _shared(lambda v: (v[:, 1] - v[:, 0]).sum()),
            "Summed over the k + 1 places where the other may come. Take the mean.",
        ),
        Mistake(
            "leave one out, sign",
            _shared(lambda v: v[-1, 0] - v[-1, 1], lambda v, o: v[-2, 1] - v[-1, 1]),
            "This is what leaving each out does. A Shapley value is an average gain, over all "
            "orders.",
        ),
    ],
    hints=[
        "In a random order, how many copies come before the other? Each number is as likely.",
        "The other: the mean of value[m, 1] − value[m, 0] over m = 0, …, k.",
        "All k + 1 values add up to value[k, 1] − value[0, 0], and the copies' are equal.",
    ],
)
