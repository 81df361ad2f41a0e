"""Wrong answers on groups and modes, as students give them; written without the catalogue."""

import math

import sympy as sp
import torch

r_i, r_j, h_i, h_j, h_ij = sp.symbols("r_i r_j h_i h_j h_ij")
m, k, h = sp.symbols("m k h", positive=True)


def price_unweighted(influences, counts):
    total = influences.mean(1)
    rise = (-influences).max(1).values.clamp(min=0)
    return torch.where(total > 0, rise, 0.0)


def price_sign(influences, counts):
    total = influences @ counts.to(influences.dtype) / counts.sum()
    rise = influences.max(1).values.clamp(min=0)
    return torch.where(total > 0, rise, 0.0)


def price_not_clamped(influences, counts):
    total = influences @ counts.to(influences.dtype) / counts.sum()
    return torch.where(total > 0, (-influences).max(1).values, 0.0)


def modes_exchanged(curvature, slopes, push, damping, cut):
    sigma, v = torch.linalg.eigh(curvature)
    terms = -(slopes @ v) * (push @ v) / (sigma + damping)
    return torch.stack([terms[:, sigma < cut].sum(1), terms[:, sigma >= cut].sum(1)], dim=1)


def modes_damped_cut(curvature, slopes, push, damping, cut):
    sigma, v = torch.linalg.eigh(curvature)
    sigma = sigma + damping
    terms = -(slopes @ v) * (push @ v) / sigma
    return torch.stack([terms[:, sigma >= cut].sum(1), terms[:, sigma < cut].sum(1)], dim=1)


def modes_rows(curvature, slopes, push, damping, cut):
    sigma, v = torch.linalg.eigh(curvature)
    terms = -(slopes @ v.T) * (v @ push) / (sigma + damping)
    return torch.stack([terms[:, sigma >= cut].sum(1), terms[:, sigma < cut].sum(1)], dim=1)


def _ridge(x, y, rho):
    a = x.T @ x + rho * torch.eye(x.shape[1], dtype=x.dtype)
    return a, torch.linalg.solve(a, x.T @ y)


def group_sum(x, y, rho, group, queries):
    a, w = _ridge(x, y, rho)
    pulls = torch.linalg.solve(a, x[group].T)
    leverage = (x[group] * pulls.T).sum(1)
    return -queries @ pulls @ ((y[group] - x[group] @ w) / (1 - leverage))


def group_first_order(x, y, rho, group, queries):
    a, w = _ridge(x, y, rho)
    return -queries @ torch.linalg.solve(a, x[group].T @ (y[group] - x[group] @ w))


def group_no_penalty(x, y, rho, group, queries):
    a = x.T @ x
    w = torch.linalg.solve(a, x.T @ y)
    pulls = torch.linalg.solve(a, x[group].T)
    kept = torch.eye(len(group), dtype=x.dtype) - x[group] @ pulls
    return -queries @ pulls @ torch.linalg.solve(kept, y[group] - x[group] @ w)


def _interaction(sign=1, own_j=False):
    det = (1 - h_i) * (1 - h_j) - h_ij**2
    turned_i = ((1 - h_j) * r_i + sign * h_ij * r_j) / det
    turned_j = (sign * h_ij * r_i + (1 - h_i) * r_j) / det
    alone_j = -(h_j if own_j else h_ij) * r_j / (1 - h_j)
    return -h_i * turned_i - h_ij * turned_j + h_i * r_i / (1 - h_i) - alone_j


def _second(margins, rho, w, query):
    e = torch.exp(-margins * w)
    slope, bend, third = -margins * e, margins**2 * e, -(margins**3 * e).sum()
    big = bend.sum() + rho
    return -slope / big, bend, third, big, math.exp(-query * w)


def second_no_third(margins, rho, w, query):
    u, bend, _, big, phi = _second(margins, rho, w, query)
    of_w = -(torch.outer(bend, u) + torch.outer(u, bend)) / big
    return query**2 * phi * torch.outer(u, u) - query * phi * of_w


def second_no_bend_of_phi(margins, rho, w, query):
    u, bend, third, big, phi = _second(margins, rho, w, query)
    of_w = -(torch.outer(bend, u) + torch.outer(u, bend) + third * torch.outer(u, u)) / big
    return -query * phi * of_w


def second_one_sided(margins, rho, w, query):
    u, bend, third, big, phi = _second(margins, rho, w, query)
    of_w = -(torch.outer(bend, u) + third * torch.outer(u, u)) / big
    return query**2 * phi * torch.outer(u, u) - query * phi * of_w


def shares_undivided(value):
    other = (value[:, 1] - value[:, 0]).mean()
    return torch.stack([value[-1, 1] - value[0, 0] - other, other])


def shares_last(value):
    return torch.stack([value[-1, 1] - value[-2, 1], value[-1, 1] - value[-1, 0]])


def shares_banzhaf(value):
    copies = len(value) - 1
    weight = torch.tensor([math.comb(copies, j) / 2**copies for j in range(copies + 1)]).double()
    other = weight @ (value[:, 1] - value[:, 0])
    return torch.stack([(value[-1, 1] - value[0, 0] - other) / copies, other])


WRONG = {
    "entangled.part_a": {
        "takes the plain mean over classes for the total, without the counts": price_unweighted,
        "takes the influence itself for the rise, instead of minus it (leaving out)": price_sign,
        "lets the price be negative where no class's loss rises": price_not_clamped,
    },
    "entangled.part_b": {
        "exchanges the two columns: loose modes first": modes_exchanged,
        "compares eigenvalue plus damping with the cut": modes_damped_cut,
        "takes the rows of the eigenvector matrix for modes, not its columns": modes_rows,
    },
    "entangled.part_c": {
        "adds up the exact effects of leaving out single examples": group_sum,
        "gives the first-order influence, without (I - H_S)^-1": group_first_order,
        "forgets the penalty everywhere: ordinary least squares": group_no_penalty,
    },
    "entangled.part_d": {
        "takes j's effect on its own prediction, h_j r_j/(1-h_j), instead of on that at x_i": (
            _interaction(own_j=True)
        ),
        "gives the lowest order only, -h_ij (h_i r_j + h_ij r_i)": -h_ij * (h_i * r_j + h_ij * r_i),
        "wrong sign of the off-diagonal entries in the inverse of I - H_S": _interaction(sign=-1),
    },
    "entangled.part_e": {
        "takes h for the leverage among the k copies": m * (1 - k * h) / (k * (1 - m * h)),
        "takes h/k for the leverage of a copy among the k": m * (1 - h) / (k * (1 - m * h / k)),
        "adds k copies instead of k - 1: leverage h/(1 + k h) among them": m
        / (k * (1 + (k - m) * h)),
    },
    "entangled.part_h": {
        "leaves out the losses' third derivative": second_no_third,
        "leaves out phi'' u_i u_j": second_no_bend_of_phi,
        "has only one of the two terms L_i'' u_j and L_j'' u_i": second_one_sided,
    },
    "entangled.part_i": {
        "does not divide the copies' share by their number": shares_undivided,
        "gives the last player's gains (leave-one-out) instead of means over orders": shares_last,
        "weights the numbers of copies by binomial coefficients (Banzhaf) for the other example": (
            shares_banzhaf
        ),
    },
}
