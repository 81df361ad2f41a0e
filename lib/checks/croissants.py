"""Exercise 01_croissants: leave-one-out and Shapley values, exact and sampled."""

from itertools import permutations
from math import comb, factorial, sqrt

import numpy as np
import sympy as sp
import torch

from lib.checks.engine import Choice, Formula, Function, Mistake, Number
from lib.counterfactuals import subsets
from lib.random_problems import game

FLOUR, BUTTER, YEAST, SUGAR = range(4)


def fluffy(s: frozenset) -> float:
    """Fluffiness when the ingredients in s are premium: butter or yeast is enough."""
    return float(BUTTER in s or YEAST in s)


def _all_but(n: int, i: int) -> frozenset:
    return frozenset(range(n)) - {i}


def _removal(value, n):
    return np.array([value(_all_but(n, i)) - value(frozenset(range(n))) for i in range(n)])


def _average_over_orders(value, n):
    total = np.zeros(n)
    for order in permutations(range(n)):
        total[list(order)] += np.diff([value(frozenset(order[:k])) for k in range(n + 1)])
    return total / factorial(n)


def _weighted_marginals(value, n, weight):
    psi = np.zeros(n)
    for s in subsets(n):
        for i in set(range(n)) - s:
            psi[i] += weight(n, len(s)) * (value(s | {i}) - value(s))
    return psi


part_a = Function(
    "croissants.part_a",
    "the effect v(N∖{i}) − v(N) of removing each player",
    truth=lambda value, n: [
        value(frozenset(k for k in range(n) if k != i)) - value(frozenset(range(n)))
        for i in range(n)
    ],
    cases=game,
    n=lambda args: args[1],
    mistakes=[
        Mistake(
            "credit",
            lambda value, n: -_removal(value, n),
            "Sign flipped: this is i's credit, v(N) − v(N∖{i}). Leave-one-out is what happens when "
            "i goes.",
        ),
        Mistake(
            "alone",
            lambda value, n: [value(frozenset({i})) - value(frozenset()) for i in range(n)],
            "This adds i to the empty set. Leave-one-out takes i away from the full set N.",
        ),
        Mistake(
            "not put back",
            lambda value, n: [
                value(frozenset(range(i + 1, n))) - value(frozenset(range(i, n))) for i in range(n)
            ],
            "The players leave one after another, and nobody comes back. Take i alone out of N.",
        ),
        Mistake(
            "no baseline",
            lambda value, n: [value(_all_but(n, i)) for i in range(n)],
            "This is the value without i, not the change: subtract v(N).",
        ),
        Mistake(
            "empty baseline",
            lambda value, n: [value(_all_but(n, i)) - value(frozenset()) for i in range(n)],
            "Compared with the wrong world: subtract v(N), all players present, not v(∅).",
        ),
        Mistake(
            "i left alone",
            lambda value, n: [value(frozenset({i})) - value(frozenset(range(n))) for i in range(n)],
            "This keeps i and removes everybody else. Remove i alone: N∖{i}, not {i}.",
        ),
    ],
    hints=[
        "Which two worlds differ in player i alone, with everybody else present?",
        "N is frozenset(range(n)); N without i is frozenset(range(n)) - {i}.",
    ],
)

part_b = Choice(
    "croissants.part_b",
    "what removing premium butter does to fluffiness",
    truth=lambda: "nothing" if _removal(fluffy, 4)[BUTTER] == 0 else "lowers it",
    wrong={
        "lowers it": "Butter goes, but yeast stays: what is v({flour, yeast, sugar})?",
        "raises it": "A sufficient cause was taken away, so fluffiness cannot rise. What is v now?",
    },
    hints=[
        "Evaluate fluffy on all four ingredients, then without butter.",
        "Yeast alone is enough. So does anything change when butter goes?",
    ],
)

part_c = Function(
    "croissants.part_c",
    "the Shapley value of each player",
    truth=_average_over_orders,
    cases=game,
    n=lambda args: args[1],
    mistakes=[
        Mistake(
            "Banzhaf",
            lambda value, n: _weighted_marginals(value, n, lambda n, k: 0.5 ** (n - 1)),
            "All coalitions count alike here (the Banzhaf index). Shapley gives every size the "
            "same total weight: divide by C(n−1, |S|), and by n.",
        ),
        Mistake(
            "no weights",
            lambda value, n: _weighted_marginals(value, n, lambda n, k: 1),
            "The contributions are added up without weights: each S counts 1/(n · C(n−1, |S|)).",
        ),
        Mistake(
            "binomial above",
            lambda value, n: _weighted_marginals(value, n, lambda n, k: comb(n - 1, k) / n),
            "Multiplied by C(n−1, |S|) where it should be divided: each size counts 1/n in all.",
        ),
        Mistake(
            "sizes not averaged",
            lambda value, n: _weighted_marginals(value, n, lambda n, k: 1 / comb(n - 1, k)),
            "Too large by exactly n: average over the n coalition sizes instead of summing them.",
        ),
        Mistake(
            "wrong binomial",
            lambda value, n: _weighted_marginals(value, n, lambda n, k: 1 / n / comb(n, k)),
            "C(n, |S|) counts subsets of all n players, but S never holds i: use C(n−1, |S|).",
        ),
        Mistake(
            "leave-one-out",
            _removal,
            "This is leave-one-out, v(N∖{i}) − v(N). A Shapley value averages what i adds as it "
            "arrives, over all coalitions S without i.",
        ),
        Mistake(
            "first to arrive",
            lambda value, n: [value(frozenset({i})) - value(frozenset()) for i in range(n)],
            "This is what i adds as the first to arrive. Average over all coalitions S without i.",
        ),
        Mistake(
            "last to arrive",
            lambda value, n: -_removal(value, n),
            "This is what i adds as the last to arrive. Average over all coalitions S without i.",
        ),
        Mistake(
            "sign",
            lambda value, n: -_average_over_orders(value, n),
            "Sign flipped: a player is credited with v(S ∪ {i}) − v(S), what changes as i arrives.",
        ),
        Mistake(
            "empty set forgotten",
            lambda value, n: _weighted_marginals(
                value, n, lambda n, k: 0 if k == 0 else 1 / n / comb(n - 1, k)
            ),
            "The empty coalition is missing: S = ∅ also has no i in it, and counts.",
        ),
        Mistake(
            "largest coalition forgotten",
            lambda value, n: _weighted_marginals(
                value, n, lambda n, k: 0 if k == n - 1 else 1 / n / comb(n - 1, k)
            ),
            "The largest coalition is missing: S = N∖{i}, of size n − 1, counts too.",
        ),
    ],
    hints=[
        "For each i, run over all subsets S that do not hold i.",
        "Each S has weight 1/(n · C(n−1, |S|)). math.comb computes the binomial.",
        "lib.counterfactuals.subsets(n) lists all subsets; skip those with i in them.",
    ],
)

_k, _n = sp.symbols("k n", positive=True)

part_d = Formula(
    "croissants.part_d",
    "the Shapley value of one of k sufficient ingredients among n",
    truth=1 / _k,
    domain={"k": (2, 9), "n": (10, 20)},
    mistakes=[
        Mistake(
            "full credit",
            sp.Integer(1),
            "Full credit for each would sum to k, but the values must sum to v(N) − v(∅) = 1.",
        ),
        Mistake(
            "leave-one-out",
            sp.Integer(0),
            "That is what leave-one-out says. In some orders "
            "of arrival this ingredient comes first of the k.",
        ),
        Mistake(
            "shared by all",
            1 / _n,
            "Shared among all n, but the others never change v: they get nothing.",
        ),
        Mistake(
            "a share of k",
            _k / _n,
            "k/n is the chance that the first of all to arrive is one of the k. And v rises when "
            "the first of the k arrives, wherever it stands.",
        ),
        Mistake(
            "Banzhaf",
            2 ** (1 - _k),
            "This is the share of coalitions without the other k − 1 "
            "(Banzhaf). Shapley averages over orders of arrival, not over coalitions.",
        ),
        Mistake(
            "one too many",
            1 / (_k + 1),
            "Nearly: there are k candidates for arriving first, this one included.",
        ),
        Mistake(
            "one too few",
            1 / (_k - 1),
            "This ingredient is itself a candidate for arriving first: there are k of them.",
        ),
    ],
    hints=[
        "Let the ingredients arrive in random order. When does this one raise v from 0 to 1?",
        "Only if it comes first among the k sufficient ones. How likely is that?",
    ],
)


def _orders(rng: np.random.Generator) -> tuple:
    value, n = game(rng)
    m = int(rng.integers(6, 10))
    return value, n, torch.tensor(np.array([rng.permutation(n) for _ in range(m)]))


def _marginals(value, n, orders, by_place=False):
    table = np.empty((len(orders), n))
    for row, order in zip(table, orders.tolist(), strict=True):
        changes = np.diff([value(frozenset(order[:k])) for k in range(n + 1)])
        row[slice(None) if by_place else order] = changes
    return table


def _estimate(table, error=lambda t: t.std(0, ddof=1) / sqrt(len(t))):
    return np.stack([table.mean(0), error(table)])


part_e = Function(
    "croissants.part_e",
    "the sampled Shapley values and, in a second row, their standard errors",
    truth=lambda value, n, orders: np.stack(
        [
            np.mean(_marginals(value, n, orders), axis=0),
            np.sqrt(np.diag(np.cov(_marginals(value, n, orders).T)) / len(orders)),
        ]
    ),
    cases=_orders,
    n=lambda args: args[1],
    mistakes=[
        Mistake(
            "by place",
            lambda value, n, orders: _estimate(_marginals(value, n, orders, by_place=True)),
            "Credited to the place in the queue, not to the player standing there.",
        ),
        Mistake(
            "order inverted",
            lambda value, n, orders: _estimate(_marginals(value, n, orders.argsort(dim=1))),
            "orders[t] lists players as they arrive, the first first. It was read as each player's "
            "place.",
        ),
        Mistake(
            "sum over orders",
            lambda value, n, orders: _estimate(_marginals(value, n, orders)) * [[len(orders)], [1]],
            "The first row is a sum over the orders: divide by their number, len(orders).",
        ),
        Mistake(
            "standard deviation",
            lambda value, n, orders: _estimate(
                _marginals(value, n, orders), lambda t: t.std(0, ddof=1)
            ),
            "The second row is the spread of one draw. The error of a mean of m draws is smaller "
            "by √m.",
        ),
        Mistake(
            "population variance",
            lambda value, n, orders: _estimate(
                _marginals(value, n, orders), lambda t: t.std(0) / sqrt(len(t))
            ),
            "The spread divides by m where m − 1 belongs (ddof=1): the mean comes from the same m "
            "draws.",
        ),
        Mistake(
            "variance",
            lambda value, n, orders: _estimate(
                _marginals(value, n, orders), lambda t: t.var(0, ddof=1) / len(t)
            ),
            "The second row is the variance of the mean: take its square root.",
        ),
        Mistake(
            "error by m",
            lambda value, n, orders: _estimate(
                _marginals(value, n, orders), lambda t: t.std(0, ddof=1) / len(t)
            ),
            "The spread is divided by m. The error of a mean of m draws falls with √m only.",
        ),
        Mistake(
            "rows swapped",
            lambda value, n, orders: _estimate(_marginals(value, n, orders))[::-1],
            "The rows are swapped: first the estimates, then their standard errors.",
        ),
        Mistake(
            "error by n",
            lambda value, n, orders: _estimate(
                _marginals(value, n, orders), lambda t: t.std(0, ddof=1) / sqrt(n)
            ),
            "The error falls with the number of orders, len(orders), not of players.",
        ),
    ],
    hints=[
        "For one order, walk along it and note by how much v grows as each player arrives.",
        "That gives a table of shape (len(orders), n): its mean over orders is the estimate.",
        "Standard error: table.std(ddof=1, axis=0) / sqrt(len(orders)), if table is an array.",
    ],
)

part_f = Number(
    "croissants.part_f",
    "the sum of the three removal effects when all three are needed",
    truth=lambda: float(_removal(lambda s: float({0, 1, 2} <= s), 3).sum()),
    mistakes=[
        Mistake(
            "Shapley total",
            1.0,
            "Shapley values sum to v(N) − v(∅) = 1. Leave-one-out "
            "effects need not: remove each in turn.",
        ),
        Mistake("one effect", -1.0, "That is one removal. Each of the three does as much alone."),
        Mistake("credits", 3.0, "Right size, wrong sign: removing an ingredient lowers v."),
        Mistake(
            "no effect",
            0.0,
            "Zero would be overdetermination. Here every ingredient is "
            "necessary: what does one removal do?",
        ),
    ],
    hints=[
        "v is 1 only for the full set. What is v with one ingredient missing?",
        "Each removal takes v from 1 to 0, and there are three.",
    ],
)
