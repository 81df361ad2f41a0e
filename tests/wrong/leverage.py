"""Wrong answers to the exercise on leverage: {part id: {what went wrong: answer}}.

Written without a look at the catalogue of known mistakes.
"""

import sympy as sp
import torch

# --- (a) the minimiser ---------------------------------------------------------------------------


def fit_centred(x, y):
    x, y = x - x.mean(0), y - y.mean()
    return torch.linalg.solve(x.T @ x, x.T @ y)


def fit_half_mean(x, y):
    return torch.linalg.solve(x.T @ x, (x * y[:, None]).mean(0))


def fit_one_column_each(x, y):
    return (x.T @ y) / (x**2).sum(0)


# --- (b) the influence ---------------------------------------------------------------------------


def _fit(x, y):
    return torch.linalg.solve(x.T @ x, x.T @ y)


def _without(x, y, j):
    keep = torch.arange(len(y)) != j
    return x[keep], y[keep]


def influence_of_label(x, y, j):
    return torch.linalg.solve(x.T @ x, x[j] * y[j])


def influence_left_out_matrix(x, y, j):
    rest, _ = _without(x, y, j)
    return torch.linalg.solve(rest.T @ rest, x[j]) * (y[j] - x[j] @ _fit(x, y))


def influence_of_removal(x, y, j):
    return -torch.linalg.solve(x.T @ x, x[j]) * (y[j] - x[j] @ _fit(x, y))


# --- (c) the path --------------------------------------------------------------------------------


def path_first_order(x, y, j, beta_j):
    return (beta_j - 1) * torch.linalg.solve(x.T @ x, x[j]) * (y[j] - x[j] @ _fit(x, y))


def path_rows_times_beta(x, y, j, beta_j):
    scale = torch.ones_like(y)
    scale[j] = beta_j
    return _fit(scale[:, None] * x, scale * y) - _fit(x, y)


def path_plus(x, y, j, beta_j):
    pull, taken = torch.linalg.solve(x.T @ x, x[j]), 1 - beta_j
    return -taken * pull * (y[j] - x[j] @ _fit(x, y)) / (1 + taken * (x[j] @ pull))


# --- (d) the rest over the first term ------------------------------------------------------------

s, h = sp.symbols("s h", positive=True)

# --- (e) deletion --------------------------------------------------------------------------------


def deletion_first_order(x, y, j):
    return -torch.linalg.solve(x.T @ x, x[j]) * (y[j] - x[j] @ _fit(x, y))


def deletion_new_fit(x, y, j):
    return _fit(*_without(x, y, j))


def deletion_twice(x, y, j):
    pull = torch.linalg.solve(x.T @ x, x[j])
    residual = y[j] - x[j] @ _fit(*_without(x, y, j))
    return -pull * residual / (1 - x[j] @ pull)


WRONG = {
    "leverage.part_a": {
        "centres x and y first, which fits an intercept": fit_centred,
        "takes the mean of x_i y_i with the sum of x_i x_i^T: too small by n": fit_half_mean,
        "fits each column by itself, dividing by the diagonal of A": fit_one_column_each,
    },
    "leverage.part_b": {
        "takes the label y_j for the residual": influence_of_label,
        "uses A without example j (which is the influence over 1 - h_j)": (
            influence_left_out_matrix
        ),
        "gives the effect of less weight: the sign": influence_of_removal,
    },
    "leverage.part_c": {
        "keeps the first order only, (beta_j - 1) times the influence": path_first_order,
        "multiplies row j of x and y by beta_j, which weights its loss by beta_j^2": (
            path_rows_times_beta
        ),
        "has a plus in the denominator, 1 + (1 - beta_j) h_j": path_plus,
    },
    "leverage.part_d": {
        "keeps only the second term of the series, s h (which is also the rest over the whole)": (
            s * h
        ),
        "divides the whole series by the first term, not the rest: 1/(1 - s h)": 1 / (1 - s * h),
        "sets s = 1, as for a deletion: h/(1 - h)": h / (1 - h),
    },
    "leverage.part_e": {
        "gives minus the influence, without 1/(1 - h_j)": deletion_first_order,
        "returns the new minimiser and does not subtract the old one": deletion_new_fit,
        "takes the residual of the fit without j and divides by 1 - h_j once more": deletion_twice,
    },
}
