"""Wrong answers on similarity, as students give them; written without the catalogue."""

import sympy as sp
import torch
from torch.nn.functional import one_hot

m = sp.Symbol("m", real=True)
A, B, s, q, d = sp.symbols("A B s q d")
s1, s2, lam = sp.symbols("s1 s2 lambda")


def layer_no_bias_gradient(weight, a, y, query, label):
    def error(a, y):
        logits = a @ weight[:, :-1].T + weight[:, -1]
        return logits.softmax(-1) - one_hot(y, len(weight))

    return error(a, y) @ error(query, torch.tensor(label)) * (a @ query)


def layer_probabilities(weight, a, y, query, label):
    def p(a):
        return (a @ weight[:, :-1].T + weight[:, -1]).softmax(-1)

    return p(a) @ p(query) * (a @ query + 1)


def layer_logits_without_bias(weight, a, y, query, label):
    def error(a, y):
        return (a @ weight[:, :-1].T).softmax(-1) - one_hot(y, len(weight))

    return error(a, y) @ error(query, torch.tensor(label)) * (a @ query + 1)


def trak_fisher(slopes, residuals, query_slopes, query_residuals, project, damping):
    a = residuals[:, None] * (slopes @ project)
    b = query_residuals[:, None] * (query_slopes @ project)
    kernel = a.T @ a + damping * torch.eye(a.shape[1], dtype=a.dtype)
    return -a @ torch.linalg.solve(kernel, b.T)


def trak_mean_kernel(slopes, residuals, query_slopes, query_residuals, project, damping):
    a, b = slopes @ project, query_slopes @ project
    kernel = a.T @ a / len(a) + damping * torch.eye(a.shape[1], dtype=a.dtype)
    return -residuals[:, None] * (a @ torch.linalg.solve(kernel, b.T)) * query_residuals


def trak_damped_before(slopes, residuals, query_slopes, query_residuals, project, damping):
    a, b = slopes @ project, query_slopes @ project
    whole = slopes.T @ slopes + damping * torch.eye(slopes.shape[1], dtype=slopes.dtype)
    kernel = project.T @ whole @ project
    return -residuals[:, None] * (a @ torch.linalg.solve(kernel, b.T)) * query_residuals


WRONG = {
    "similarity.part_a": {
        "leaves out the gradient in the biases: a.q without the + 1": layer_no_bias_gradient,
        "uses the probabilities p instead of the errors p - y": layer_probabilities,
        "computes the logits without the biases": layer_logits_without_bias,
    },
    "similarity.part_d": {
        "gives minus p instead of minus (1 - p): wrong sign in the exponent": -1 / (1 + sp.exp(-m)),
        "stops at the derivative in p, -1/p, without dp/dm": -(1 + sp.exp(-m)),
        "forgets the minus sign": 1 / (1 + sp.exp(m)),
    },
    "similarity.part_e": {
        "builds the kernel from loss gradients r_i a_i (empirical Fisher)": trak_fisher,
        "takes the mean of a a^T over the examples instead of the sum in the kernel": (
            trak_mean_kernel
        ),
        "adds the damping before the projection: lambda P^T P instead of lambda I": (
            trak_damped_before
        ),
    },
    "similarity.part_f": {
        "takes the Gaussian formula, without the -2q of signs": (A * B + s**2) / d,
        "gives the second moment of a column: does not subtract the squared mean s^2": (
            A * B + 2 * s**2 - 2 * q
        )
        / d,
        "takes q from all three pairings without adding it back once: -3q": (A * B + s**2 - 3 * q)
        / d,
    },
    "similarity.part_g": {
        "designs the example with C in the place of its inverse (P does not harm)": (
            [3.0, -1.0],
            [1.0, 3.0],
            [3.0, 1.0],
            [[1.0, 0.0], [0.0, 10.0]],
        ),
        "P still helps, only less than Q": (
            [3.0, -1.0],
            [1.0, 3.0],
            [3.0, 1.0],
            [[1.0, 0.0], [0.0, 0.5]],
        ),
        "compares dot products instead of cosines: Q has the larger cosine": (
            [3.0, -1.0],
            [1.0, 1.0],
            [3.0, 1.0],
            [[1.0, 0.0], [0.0, 0.1]],
        ),
    },
    "similarity.part_h": {
        "does not alternate the signs: both terms negative": -s1 / lam**2 - s2 / lam**3,
        "powers of lambda too low by one: forgets the 1/lambda in front of the series": s1 / lam
        - s2 / lam**2,
        "has the 1/2! of an exponential's series in the second term": s1 / lam**2
        - s2 / (2 * lam**3),
    },
}
