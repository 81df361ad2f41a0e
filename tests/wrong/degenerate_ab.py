"""Wrong answers to the exercise on a degenerate model: {part id: {what went wrong: answer}}.

Written without a look at the catalogue of known mistakes.
"""

import sympy as sp
import torch

# --- (a) the Hessian -----------------------------------------------------------------------------


def ab_as_at_minimum(a, b, z):
    n = len(z)
    return [[n * b * b, n * a * b], [n * a * b, n * a * a]]


def ab_swapped(a, b, z):
    n, off = len(z), (2 * a * b - z).sum()
    return [[n * a * a, off], [off, n * b * b]]


def ab_no_product_rule(a, b, z):
    n, off = len(z), (a * b - z).sum()
    return [[n * b * b, off], [off, n * a * a]]


# --- (b) to (e) formulas -------------------------------------------------------------------------

z, zbar, n = sp.symbols("z zbar n", positive=True)
lam, V = sp.symbols("lambda V", positive=True)

# --- (g) where it does diverge -------------------------------------------------------------------


def valley_pseudoinverse(s, lam):
    h = torch.diag(torch.tensor([len(s), 0.0], dtype=s.dtype))
    g = torch.stack([torch.zeros_like(s), s])
    return -(torch.linalg.pinv(h) @ g)[1]


def valley_stiff(s, lam):
    return -s / (len(s) + lam)


def valley_removal(s, lam):
    return s / lam


WRONG = {
    "degenerate_ab.part_a": {
        "puts n a b off the diagonal, which is right on the hyperbola only": ab_as_at_minimum,
        "has a^2 and b^2 exchanged on the diagonal": ab_swapped,
        "puts the sum of ab - z_i off the diagonal, forgetting half of the product rule": (
            ab_no_product_rule
        ),
    },
    "degenerate_ab.part_b": {
        "gives the effect of less weight: the sign": (zbar - z) / n,
        "takes the Hessian of one example for that of the sum: forgets 1/n": z - zbar,
        "gives z/n, the share of z in the mean, forgetting that the others' share shrinks": z / n,
    },
    "degenerate_ab.part_c": {
        "gives minus the influence, the first order only: 1/n for 1/(n - 1)": (zbar - z) / n,
        "gives the new mean, without subtracting the old one": (n * zbar - z) / (n - 1),
        "still divides by n after z is gone: -z/n": (n * zbar - z) / n - zbar,
    },
    "degenerate_ab.part_d": {
        "forgets V in the eigenvalue, n + lambda for n V + lambda": (z - zbar) / (n + lam),
        "adds lambda to n V^2, the denominator of the pseudoinverse": (
            (z - zbar) * V**2 / (n * V**2 + lam)
        ),
        "forgets the V of the numerator, v.v": (z - zbar) / (n * V + lam),
    },
    "degenerate_ab.part_e": {
        "forgets the 2 of the derivative of a^2": zbar * (z - zbar) / (n * V + lam),
        "takes (ab)^2 for a^2: 2 zbar times the influence on ab": (
            2 * zbar * (z - zbar) * V / (n * V + lam)
        ),
        "leaves out the damping": 2 * zbar * (z - zbar) / (n * V),
    },
    "degenerate_ab.part_g": {
        "takes the pseudoinverse without damping, which gives zeros": valley_pseudoinverse,
        "uses n + lambda, the curvature in x, for the one in y": valley_stiff,
        "gives the effect of less weight: the sign": valley_removal,
    },
}
