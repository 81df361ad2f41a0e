"""Wrong answers to the exercise on croissants: {part id: {what went wrong: answer}}.

Written without a look at the catalogue of known mistakes.
"""

import math
from itertools import combinations

import numpy as np
import sympy as sp

# --- (a) leave one out ---------------------------------------------------------------------------


def removal_flipped(value, n):
    everybody = frozenset(range(n))
    return [value(everybody) - value(everybody - {i}) for i in range(n)]


def removal_alone(value, n):
    return [value(frozenset({i})) - value(frozenset()) for i in range(n)]


def removal_never_back(value, n):
    rest, effects = frozenset(range(n)), []
    for i in range(n):
        before = value(rest)
        rest = rest - {i}
        effects.append(value(rest) - before)
    return effects


# --- (c) the Shapley value -----------------------------------------------------------------------


def _shapley(value, n, sizes, weight):
    psi = np.zeros(n)
    for i in range(n):
        others = [k for k in range(n) if k != i]
        for size in sizes:
            for s in map(frozenset, combinations(others, size)):
                psi[i] += (value(s | {i}) - value(s)) * weight(size)
    return psi


def shapley_banzhaf(value, n):
    return _shapley(value, n, range(n), lambda size: 1 / 2 ** (n - 1))


def shapley_times_binomial(value, n):
    return _shapley(value, n, range(n), lambda size: math.comb(n - 1, size) / n)


def shapley_no_empty_set(value, n):
    return _shapley(value, n, range(1, n), lambda size: 1 / (n * math.comb(n - 1, size)))


# --- (d) a share of one among k ------------------------------------------------------------------

k, n = sp.symbols("k n", positive=True)

# --- (e) sampling --------------------------------------------------------------------------------


def _contributions(value, n, orders, by_place=False):
    table = np.zeros((len(orders), n))
    for row, order in zip(table, orders.tolist(), strict=True):
        present = frozenset()
        for place, i in enumerate(order):
            row[place if by_place else i] = value(present | {i}) - value(present)
            present = present | {i}
    return table


def sampled_biased(value, n, orders):
    table = _contributions(value, n, orders)
    return np.stack([table.mean(0), table.std(0) / math.sqrt(len(orders))])


def sampled_spread(value, n, orders):
    table = _contributions(value, n, orders)
    return np.stack([table.mean(0), table.std(0, ddof=1)])


def sampled_by_place(value, n, orders):
    table = _contributions(value, n, orders, by_place=True)
    return np.stack([table.mean(0), table.std(0, ddof=1) / math.sqrt(len(orders))])


WRONG = {
    "croissants.part_a": {
        "takes v(N) - v(N without i), the player's presence less its absence: the sign": (
            removal_flipped
        ),
        "gives what each player adds alone, v({i}) - v(empty set)": removal_alone,
        "removes the players one after another and never puts one back": removal_never_back,
    },
    "croissants.part_c": {
        "weighs all subsets alike, by 1/2^(n-1) (the Banzhaf value)": shapley_banzhaf,
        "multiplies by the binomial instead of dividing by it": shapley_times_binomial,
        "leaves out the empty coalition: sizes from 1": shapley_no_empty_set,
    },
    "croissants.part_d": {
        "takes the chance to arrive first among all n, 1/n": 1 / n,
        "averages over all subsets alike, 1/2^(k-1) (the Banzhaf value)": 2 ** (1 - k),
        "gives the share of all k among the n, k/n": k / n,
    },
    "croissants.part_e": {
        "takes the biased spread, ddof=0: divides by m instead of m - 1": sampled_biased,
        "gives the spread of the contributions, not divided by sqrt(m)": sampled_spread,
        "puts each contribution at the player's place of arrival, not at the player's number": (
            sampled_by_place
        ),
    },
}
