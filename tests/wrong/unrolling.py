"""Wrong answers to the exercise on unrolling a training run: {part id: {what went wrong: answer}}.

Written without a look at the catalogue of known mistakes.
"""

import sympy as sp
import torch

# --- (a) one step --------------------------------------------------------------------------------


def step_only_members(response, hessian, gradient, rate, b, member):
    if not member:
        return response
    return response - rate * hessian @ response - rate / b * gradient


def step_push_carried(response, hessian, gradient, rate, b, member):
    new = response - rate / b * gradient if member else response
    return new - rate * hessian @ new


def step_hessian_over_b(response, hessian, gradient, rate, b, member):
    return response - rate / b * (hessian @ response + member * gradient)


# --- (b) the sum over the steps ------------------------------------------------------------------


def sum_own_jacobian(hessians, gradients, rates, member, b):
    total = torch.zeros_like(gradients[0])
    onward = torch.eye(len(total), dtype=total.dtype)
    for t in reversed(range(len(rates))):
        onward = onward - rates[t] * onward @ hessians[t]
        if member[t]:
            total -= rates[t] / b * onward @ gradients[t]
    return total


def sum_order_of_product(hessians, gradients, rates, member, b):
    total = torch.zeros_like(gradients[0])
    onward = torch.eye(len(total), dtype=total.dtype)
    for t in reversed(range(len(rates))):
        if member[t]:
            total -= rates[t] / b * onward @ gradients[t]
        onward = onward - rates[t] * hessians[t] @ onward
    return total


def sum_skips_steps(hessians, gradients, rates, member, b):
    response = torch.zeros_like(gradients[0])
    for t in range(len(rates)):
        if member[t]:
            response = response - rates[t] * hessians[t] @ response - rates[t] / b * gradients[t]
    return response


# --- (c) with a preconditioner -------------------------------------------------------------------


def tilted_order(hessians, preconditioners, gradients, rates, member, b):
    response = torch.zeros_like(gradients[0])
    for t in range(len(rates)):
        carried = response - rates[t] * hessians[t] @ preconditioners[t] @ response
        response = carried - rates[t] / b * member[t] * preconditioners[t] @ gradients[t]
    return response


def tilted_push_only(hessians, preconditioners, gradients, rates, member, b):
    response = torch.zeros_like(gradients[0])
    for t in range(len(rates)):
        carried = response - rates[t] * hessians[t] @ response
        response = carried - rates[t] / b * member[t] * preconditioners[t] @ gradients[t]
    return response


def tilted_no_b(hessians, preconditioners, gradients, rates, member, b):
    response = torch.zeros_like(gradients[0])
    for t in range(len(rates)):
        push = hessians[t] @ response + member[t] * gradients[t]
        response = response - rates[t] * preconditioners[t] @ push
    return response


# --- (d) backwards -------------------------------------------------------------------------------


def back_too_early(hessians, gradients, member, rates, b, q):
    adjoint, total = q, torch.zeros(gradients.shape[1], dtype=q.dtype)
    for t in reversed(range(len(rates))):
        adjoint = adjoint - rates[t] * hessians[t] @ adjoint
        total -= rates[t] / b * member[t] * (gradients[t] @ adjoint)
    return total


def back_forwards(hessians, gradients, member, rates, b, q):
    adjoint, total = q, torch.zeros(gradients.shape[1], dtype=q.dtype)
    for t in range(len(rates)):
        total -= rates[t] / b * member[t] * (gradients[t] @ adjoint)
        adjoint = adjoint - rates[t] * hessians[t] @ adjoint
    return total


def back_all_members(hessians, gradients, member, rates, b, q):
    adjoint, total = q, torch.zeros(gradients.shape[1], dtype=q.dtype)
    for t in reversed(range(len(rates))):
        total -= rates[t] / b * (gradients[t] @ adjoint)
        adjoint = adjoint - rates[t] * hessians[t] @ adjoint
    return total


# --- (e), (f) Adam -------------------------------------------------------------------------------

eta, mu2, eps, v0 = sp.symbols("eta mu2 eps v0", positive=True)
g1, g2 = sp.symbols("g1 g2")
g = g1 + g2
root = sp.sqrt(mu2 * v0 + (1 - mu2) * g**2)
fixed = -eta * g1 / (root + eps)

# --- (h) TracIn ----------------------------------------------------------------------------------


def tracin_of_the_literature(gradients, phi_slopes, member, rates, b):
    along = torch.einsum("tnp,tp->tn", gradients, phi_slopes)
    return (rates[:, None] * member * along).sum(0)


def tracin_last_slope(gradients, phi_slopes, member, rates, b):
    return -(rates[:, None] / b * member * (gradients @ phi_slopes[-1])).sum(0)


def tracin_all_members(gradients, phi_slopes, member, rates, b):
    return -torch.einsum("t,tnp,tp->n", rates / b, gradients, phi_slopes)


WRONG = {
    "unrolling.part_a": {
        "leaves the response as it is if z_i is not in the batch: no Jacobian then": (
            step_only_members
        ),
        "lets the Jacobian act on this step's push as well": step_push_carried,
        "divides the mean Hessian by b once more": step_hessian_over_b,
    },
    "unrolling.part_b": {
        "multiplies each push by the Jacobian of its own step, too": sum_own_jacobian,
        "multiplies the Jacobians in the reversed order": sum_order_of_product,
        "leaves out the Jacobians of the steps without z_i": sum_skips_steps,
    },
    "unrolling.part_c": {
        "has H P for P H in the Jacobian": tilted_order,
        "preconditions the push only, not the Jacobian": tilted_push_only,
        "forgets to divide the push by b": tilted_no_b,
    },
    "unrolling.part_d": {
        "steps the adjoint back before it meets the step's gradients, A_t for A_(t+1)": (
            back_too_early
        ),
        "carries q through the steps from first to last": back_forwards,
        "ignores who is in which batch": back_all_members,
    },
    "unrolling.part_e": {
        "holds the preconditioner fixed": fixed,
        "forgets the inner derivative g1: differentiates in g": (
            -eta * (mu2 * v0 + eps * root) / (root * (root + eps) ** 2)
        ),
        "halves the derivative of sqrt(v): the 2 of the squared gradient is lost": (
            fixed + eta * g**2 * (1 - mu2) * g1 / (2 * root * (root + eps) ** 2)
        ),
    },
    "unrolling.part_f": {
        "gives fixed minus exact: the sign": (
            -eta * (1 - mu2) * g**2 * g1 / (root * (root + eps) ** 2)
        ),
        "forgets the factor g, the gradient that P multiplies": (
            eta * (1 - mu2) * g * g1 / (root * (root + eps) ** 2)
        ),
        "puts the derivative of v for that of sqrt(v)": (
            eta * g * 2 * (1 - mu2) * g * g1 / (root + eps) ** 2
        ),
    },
    "unrolling.part_h": {
        "uses the literature's scale: no minus and no 1/b": tracin_of_the_literature,
        "takes the slope of phi at the last step for all steps": tracin_last_slope,
        "ignores who is in which batch": tracin_all_members,
    },
}
