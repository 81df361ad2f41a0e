"""Wrong answers on stages of learning, as students give them; written without the catalogue."""

import sympy as sp
import torch

g, s, t, tau, g0 = sp.symbols("g s t tau g0", positive=True)
s_j, s_k, E_jk, E_kj = sp.symbols("s_j s_k E_jk E_kj")
_grown = sp.exp(2 * s * t / tau)
_below = _grown - 1 + s / g0
_strength = s * _grown / _below


def rotations_draft(s, E):
    gap = s[None, :] - s[:, None]
    gap.fill_diagonal_(torch.inf)
    A = E / gap
    return torch.stack([A, A.T])


def rotations_of_v(s, E):
    s_j, s_k = s[:, None], s[None, :]
    gap = s_k**2 - s_j**2
    gap.fill_diagonal_(torch.inf)
    A = (s_k * E + s_j * E.T) / gap
    B = (s_k * E.T + s_j * E) / gap
    return torch.stack([A, B])


def rotations_exchanged(s, E):
    s_j, s_k = s[:, None], s[None, :]
    gap = s_k**2 - s_j**2
    gap.fill_diagonal_(torch.inf)
    A = (s_j * E + s_k * E.T) / gap
    B = -(s_j * E.T + s_k * E) / gap
    return torch.stack([A, B])


def _quotients(s, g, slope):
    run = s[None, :] - s[:, None]
    same = run == 0
    divided = (g[None, :] - g[:, None]) / torch.where(same, 1.0, run)
    divided = torch.where(same, slope[None, :], divided)
    return divided, (g[None, :] + g[:, None]) / (s[None, :] + s[:, None])


def response_no_skew(s, g, slope, E):
    return _quotients(s, g, slope)[0] * E


def response_zero_between_equals(s, g, slope, E):
    run = s[None, :] - s[:, None]
    same = run == 0
    divided = (g[None, :] - g[:, None]) / torch.where(same, 1.0, run)
    divided = torch.where(torch.eye(len(s), dtype=torch.bool), slope[None, :], divided)
    together = (g[None, :] + g[:, None]) / (s[None, :] + s[:, None])
    return divided * (E + E.T) / 2 + together * (E - E.T) / 2


def response_no_halves(s, g, slope, E):
    divided, together = _quotients(s, g, slope)
    return divided * (E + E.T) + together * (E - E.T)


def _response(s, g, slope, E):
    return response_no_halves(s, g, slope, E) / 2


def loss_transposed(s, g, slope, x, y, x_q, y_q):
    residual, n = y_q - g * x_q, len(x)
    moves = [_response(s, g, slope, torch.outer(x[p], y[p])) for p in range(n)]
    return torch.stack([-residual @ move @ x_q / n for move in moves])


def loss_no_mean(s, g, slope, x, y, x_q, y_q):
    residual = y_q - g * x_q
    moves = [_response(s, g, slope, torch.outer(y[p], x[p])) for p in range(len(x))]
    return torch.stack([-residual @ move @ x_q for move in moves])


def loss_final_residual(s, g, slope, x, y, x_q, y_q):
    residual, n = y_q - s * x_q, len(x)
    moves = [_response(s, g, slope, torch.outer(y[p], x[p])) for p in range(n)]
    return torch.stack([-residual @ move @ x_q / n for move in moves])


def late_cross_only(x, y, p):
    return torch.outer(y[p], x[p]) / len(x)


def late_transposed_s(x, y, p):
    S = x.T @ y / len(x)
    return torch.outer(y[p] - S @ x[p], x[p]) / len(x)


def late_no_mean(x, y, p):
    S = y.T @ x / len(x)
    return torch.outer(y[p] - S @ x[p], x[p])


_fixed = sp.Symbol("fixed", positive=True)

WRONG = {
    "dln_stagewise.part_a": {
        "forgets the factor 2: only one of the two layers moves": g * (s - g) / tau,
        "gives the speed of one layer, d sqrt(g)/dt, instead of that of g": sp.sqrt(g)
        * (s - g)
        / tau,
        "forgets to divide by tau": 2 * g * (s - g),
    },
    "dln_stagewise.part_b": {
        "drops the -1 inside the logarithm (small start)": tau / (2 * s) * sp.log(s / g0),
        "forgets the 2 of the exponent 2st/tau": tau / s * sp.log(s / g0 - 1),
        "solves for strength 1/2 instead of s/2": tau
        / (2 * s)
        * sp.log((s / g0 - 1) / (2 * s - 1)),
    },
    "dln_stagewise.part_c": {
        "holds the s in the exponential fixed": (s * _fixed / (_fixed - 1 + s / g0))
        .diff(s)
        .subs(_fixed, _grown),
        "differentiates the numerator only, not the denominator": (s * _grown).diff(s) / _below,
        "differentiates in t instead of s": _strength.diff(t),
    },
    "dln_stagewise.part_f": {
        "takes the draft's A_jk = B_kj = E_jk/(s_k - s_j), as for a symmetric E": rotations_draft,
        "returns the rotation of V instead of V^T: B has the wrong sign": rotations_of_v,
        "exchanges s_j and s_k in both numerators (as if E were transposed)": rotations_exchanged,
    },
    "dln_stagewise.part_g": {
        "takes B_jk = A_jk = E_jk/(s_k - s_j), forgetting that B is the transpose": (s_k + s_j)
        * E_jk
        / (s_k - s_j),
        "does not exchange j and k in the denominator of B (wrong sign of the second term)": (
            s_k * E_jk + s_j * E_kj
        )
        / (s_k - s_j),
        "scales rows for columns: s_j multiplies A and s_k multiplies B": (s_j * E_jk - s_k * E_kj)
        / (s_k - s_j),
    },
    "dln_stagewise.part_i": {
        "multiplies all of E by the difference quotient, also its skew part": response_no_skew,
        "gives zero for the symmetric part between equal singular values, instead of the slope": (
            response_zero_between_equals
        ),
        "forgets the halves of the symmetric and the skew part": response_no_halves,
    },
    "dln_stagewise.part_j": {
        "takes E = x_p y_p^T, transposed": loss_transposed,
        "forgets the 1/n": loss_no_mean,
        "takes the query's residual at the end of training (s) instead of at time t (g)": (
            loss_final_residual
        ),
    },
    "dln_stagewise.part_m": {
        "changes Sigma_yx only and leaves Sigma_xx alone": late_cross_only,
        "takes S = Sigma_xy, the transpose": late_transposed_s,
        "forgets the 1/n": late_no_mean,
    },
}
