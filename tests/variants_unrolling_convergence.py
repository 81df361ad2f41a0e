"""Correct answers to the exercises on unrolling and on its limit: {part id: {name: answer}}.

Derived from the questions and their hints, without a look at the reference of any part.
"""

import math
from decimal import Decimal
from fractions import Fraction
from functools import reduce

import numpy as np
import scipy.integrate
import scipy.linalg
import scipy.optimize
import sympy as sp
import torch
from torch.func import jacrev, jvp

from lib.models import valley
from lib.source import response_flow
from lib.training import SGD, Adam, Run, constant, full_batches, retrain
from lib.unrolling import reverse_mode

# --- unrolling -----------------------------------------------------------------------------------


def step_hint(response, hessian, gradient, rate, b, member):
    carried = response - rate * hessian @ response
    return carried - rate / b * gradient if member else carried


def step_numpy(response, hessian, gradient, rate, b, member):
    j = np.eye(len(response)) - rate * hessian.numpy()
    return np.dot(j, response.numpy()) - float(member) * rate * gradient.numpy() / b


def step_list(response, hessian, gradient, rate, b, member):
    r, g = response.tolist(), gradient.tolist()
    out = []
    for k, row in enumerate(hessian.tolist()):
        pull = sum(h * v for h, v in zip(row, r, strict=True))
        out.append(r[k] - rate * (pull + (g[k] / b if member else 0.0)))
    return out


def step_float32(response, hessian, gradient, rate, b, member):
    response, hessian, gradient = response.float(), hessian.float(), gradient.float()
    return response - rate * (hessian @ response + member * gradient / b)


def step_jvp(response, hessian, gradient, rate, b, member):
    """The step as a map of β, near a point where w moves by the response."""

    def step(beta):
        w = beta * response
        return w - rate * (hessian @ w + beta * member / b * gradient)

    one = torch.ones((), dtype=response.dtype)
    return jvp(step, (one,), (one,))[1]


def step_differences(response, hessian, gradient, rate, b, member):
    def end(beta):  # affine in β, so that a difference is the derivative
        w = beta * response
        return w - rate * torch.mv(hessian, w) - rate * beta * int(member) * gradient / b

    return end(1) - end(0)


def step_chain(response, hessian, gradient, rate, b, member):
    """Both ways that β has into the step, by autograd."""

    def step(w, beta):
        loss = beta * member / b * gradient @ w  # of which the gradient at any w is that at w_t
        return w - rate * (hessian @ w + torch.autograd.grad(loss, w, create_graph=True)[0])

    w = torch.zeros_like(response)
    one = torch.ones((), dtype=response.dtype)
    by_w, by_beta = torch.autograd.functional.jacobian(step, (w, one))
    return by_w @ response + by_beta


def step_addmv(response, hessian, gradient, rate, b, member):
    push = torch.where(torch.tensor(member), gradient, torch.zeros_like(gradient))
    return torch.addmv(response - rate / b * push, hessian, response, alpha=-rate)


def step_augmented(response, hessian, gradient, rate, b, member):
    """One matrix, p by p + 1, on (R, 1)."""
    p = len(response)
    move = np.eye(p, p + 1)
    move[:, :p] -= rate * hessian.numpy()
    move[:, p] = -rate / b * gradient.numpy() if member else 0
    return move @ np.append(response.numpy(), 1)


def step_imaginary(response, hessian, gradient, rate, b, member):
    """A complex step in β."""
    beta = 1 + 1e-30j
    w = (beta - 1) * response.numpy()
    slope = hessian.numpy() @ w + (beta if member else 0) * gradient.numpy() / b
    return np.imag(w - rate * slope) / 1e-30


def sum_hint(hessians, gradients, rates, member, b):
    p = gradients.shape[1]
    m, total = torch.eye(p, dtype=gradients.dtype), torch.zeros(p, dtype=gradients.dtype)
    for t in reversed(range(len(rates))):
        if member[t]:
            total = total - rates[t] / b * m @ gradients[t]
        m = m @ (torch.eye(p, dtype=m.dtype) - rates[t] * hessians[t])
    return total


def sum_recursion(hessians, gradients, rates, member, b):
    r = torch.zeros_like(gradients[0])
    for t in range(len(rates)):
        r = step_hint(r, hessians[t], gradients[t], rates[t], b, member[t])
    return r


def sum_numpy(hessians, gradients, rates, member, b):
    h, g, eta, inside = (a.numpy() for a in (hessians, gradients, rates, member))
    total = 0
    for t in np.flatnonzero(inside):
        push = -eta[t] / b * g[t]
        for s in range(t + 1, len(eta)):
            push = push - eta[s] * h[s] @ push
        total = total + push
    return total if inside.any() else np.zeros(g.shape[1])


def sum_products(hessians, gradients, rates, member, b):
    """The printed sum, every product formed anew, the latest factor on the left."""
    eye = torch.eye(gradients.shape[1], dtype=gradients.dtype)
    steps = [eye - eta * h for eta, h in zip(rates, hessians, strict=True)]
    total = torch.zeros_like(gradients[0])
    for t, push in enumerate(-rates[:, None] / b * member[:, None] * gradients):
        total = total + reduce(lambda m, j: j @ m, steps[t + 1 :], eye) @ push
    return total


def sum_augmented(hessians, gradients, rates, member, b):
    """(r, 1) under matrices of size p + 1."""
    p = gradients.shape[1]
    state = torch.zeros(p + 1, dtype=gradients.dtype)
    state[p] = 1
    for h, g, eta, inside in zip(hessians, gradients, rates, member, strict=True):
        move = torch.eye(p + 1, dtype=gradients.dtype)
        move[:p, :p] -= eta * h
        move[:p, p] = -eta / b * inside * g
        state = move @ state
    return state[:p]


def sum_system(hessians, gradients, rates, member, b):
    """All steps at once: r_{t+1} − J_t r_t = push, a block-bidiagonal system."""
    h, g, eta = hessians.numpy(), gradients.numpy(), rates.numpy()
    steps, p = g.shape
    system = np.eye(steps * p)
    for t in range(1, steps):
        rows, columns = slice(t * p, (t + 1) * p), slice((t - 1) * p, t * p)
        system[rows, columns] = -(np.eye(p) - eta[t] * h[t])
    pushes = -(eta * member.numpy() / b)[:, None] * g
    return np.linalg.solve(system, pushes.ravel())[-p:]


def _trained(hessians, gradients, rates, member, b, beta, preconditioners=None):
    """SGD on losses with these Hessians and slopes at w = 0, where the run at β = 1 stays."""
    w = torch.zeros(gradients.shape[1], dtype=gradients.dtype)
    for t in range(len(rates)):
        slope = hessians[t] @ w + (beta - 1) * member[t] * gradients[t] / b
        if preconditioners is not None:
            slope = preconditioners[t] @ slope
        w = w - rates[t] * slope
    return w


def _slopes(end, by):
    """The derivative of a vector in one number, entry by entry, by reverse mode."""
    return torch.stack([torch.autograd.grad(e, by, retain_graph=True)[0] for e in end])


def sum_autodiff(hessians, gradients, rates, member, b):
    beta = torch.ones((), dtype=gradients.dtype, requires_grad=True)
    return _slopes(_trained(hessians, gradients, rates, member, b, beta), beta)


def sum_float32(hessians, gradients, rates, member, b):
    return sum_recursion(hessians.float(), gradients.float(), rates.float(), member, b)


def sum_list(hessians, gradients, rates, member, b):
    r = [0.0] * gradients.shape[1]
    rows = (hessians.tolist(), gradients.tolist(), rates.tolist(), member.tolist())
    for h, g, eta, inside in zip(*rows, strict=True):
        r = [
            r[k] - eta * sum(h[k][l] * r[l] for l in range(len(r))) - eta * inside * g[k] / b
            for k in range(len(r))
        ]
    return r


def _after_all(jacobians, pushes):
    """The steps r ↦ Jr + push one after the other, as one such map: by halves."""
    if len(jacobians) == 1:
        return jacobians[0], pushes[0]
    half = len(jacobians) // 2
    early_j, early = _after_all(jacobians[:half], pushes[:half])
    late_j, late = _after_all(jacobians[half:], pushes[half:])
    return late_j @ early_j, late_j @ early + late


def sum_halves(hessians, gradients, rates, member, b):
    eye = torch.eye(gradients.shape[1], dtype=gradients.dtype)
    jacobians = eye - rates[:, None, None] * hessians
    return _after_all(jacobians, -(rates * member / b)[:, None] * gradients)[1]


def tilted_recursion(hessians, preconditioners, gradients, rates, member, b):
    r = torch.zeros_like(gradients[0])
    for h, q, g, eta, inside in zip(
        hessians, preconditioners, gradients, rates, member, strict=True
    ):
        r = r - eta * q @ (h @ r + inside / b * g)
    return r


def tilted_as_plain(hessians, preconditioners, gradients, rates, member, b):
    """Part (b) for the Hessians PĤ and the gradients P∇L."""
    slopes = torch.einsum("tpq,tq->tp", preconditioners, gradients)
    return sum_hint(preconditioners @ hessians, slopes, rates, member, b)


def tilted_numpy(hessians, preconditioners, gradients, rates, member, b):
    h, q, g, eta = (a.numpy() for a in (hessians, preconditioners, gradients, rates))
    ahead, total = np.eye(g.shape[1]), np.zeros(g.shape[1])
    for t in range(len(eta) - 1, -1, -1):
        total -= eta[t] / b * bool(member[t]) * (ahead @ q[t] @ g[t])
        ahead = ahead - eta[t] * ahead @ q[t] @ h[t]
    return total


def tilted_autodiff(hessians, preconditioners, gradients, rates, member, b):
    beta = torch.ones((), dtype=gradients.dtype, requires_grad=True)
    end = _trained(hessians, gradients, rates, member, b, beta, preconditioners)
    return _slopes(end, beta)


def tilted_system(hessians, preconditioners, gradients, rates, member, b):
    return sum_system(
        preconditioners @ hessians,
        (preconditioners @ gradients[:, :, None])[:, :, 0],
        rates,
        member,
        b,
    )


def tilted_transposed(hessians, preconditioners, gradients, rates, member, b):
    """Every coordinate of w_T by reverse mode; (PĤ)ᵀ = ĤP."""
    carried = torch.eye(gradients.shape[1], dtype=gradients.dtype)  # columns: adjoints
    total = torch.zeros_like(gradients[0])
    for t in reversed(range(len(rates))):
        total = total - rates[t] / b * member[t] * (carried.T @ preconditioners[t] @ gradients[t])
        carried = carried - rates[t] * hessians[t] @ preconditioners[t] @ carried
    return total


def tilted_cholesky(hessians, preconditioners, gradients, rates, member, b):
    """P = CCᵀ: with w = Cu the step on u is a plain one, with the Hessian CᵀĤC."""
    r = torch.zeros_like(gradients[0])
    for t in range(len(rates)):
        c = torch.linalg.cholesky(preconditioners[t])
        u = torch.linalg.solve_triangular(c, r[:, None], upper=False)[:, 0]
        u = step_hint(
            u, c.T @ hessians[t] @ c, c.T @ gradients[t], rates[t].item(), b, bool(member[t])
        )
        r = c @ u
    return r


def tilted_jvp(hessians, preconditioners, gradients, rates, member, b):
    """Forward mode through the run."""
    one = torch.ones((), dtype=gradients.dtype)
    return jvp(
        lambda beta: _trained(hessians, gradients, rates, member, b, beta, preconditioners),
        (one,),
        (one,),
    )[1]


def tilted_halves(hessians, preconditioners, gradients, rates, member, b):
    scaled = rates[:, None, None] * preconditioners
    eye = torch.eye(gradients.shape[1], dtype=gradients.dtype)
    pushes = -torch.einsum("tpq,t,tq->tp", scaled, member / b, gradients)
    return _after_all(eye - torch.bmm(scaled, hessians), pushes)[1]


def tilted_float32(hessians, preconditioners, gradients, rates, member, b):
    given = (a.float() for a in (hessians, preconditioners, gradients, rates))
    return tilted_recursion(*given, member, b)


def back_hint(hessians, gradients, member, rates, b, q):
    total, a = torch.zeros(gradients.shape[1], dtype=q.dtype), q
    for t in reversed(range(len(rates))):
        total -= rates[t] / b * member[t] * (gradients[t] @ a)
        a = a - rates[t] * hessians[t] @ a
    return total


def back_numpy(hessians, gradients, member, rates, b, q):
    a, adjoints = q.numpy(), []
    for h, eta in zip(hessians.numpy()[::-1], rates.numpy()[::-1], strict=True):
        adjoints.append(a)
        a = a - eta * a @ h
    weights = -rates.numpy()[:, None] / b * member.numpy()
    return np.einsum("ti,tip,tp->i", weights, gradients.numpy(), np.array(adjoints[::-1]))


def back_forward(hessians, gradients, member, rates, b, q):
    """Forward mode: the responses of all examples, and q at the end."""
    r = torch.zeros_like(gradients[0])
    for h, g, inside, eta in zip(hessians, gradients, member, rates, strict=True):
        r = r - eta * r @ h - eta / b * inside[:, None] * g
    return r @ q


def back_each(hessians, gradients, member, rates, b, q):
    return [
        q @ sum_recursion(hessians, gradients[:, i], rates, member[:, i], b)
        for i in range(gradients.shape[1])
    ]


def back_backward(hessians, gradients, member, rates, b, q):
    """One backward() through the run."""
    beta = torch.ones(gradients.shape[1], dtype=q.dtype, requires_grad=True)
    w = torch.zeros_like(q)
    for h, g, inside, eta in zip(hessians, gradients, member, rates, strict=True):
        w = w - eta * (h @ w + (beta[inside] - 1) @ g[inside] / b)
    (w @ q).backward()
    return beta.grad


def back_list(hessians, gradients, member, rates, b, q):
    h, g, inside, eta, a = (v.tolist() for v in (hessians, gradients, member, rates, q))
    total = [0.0] * len(g[0])
    for t in reversed(range(len(eta))):
        for i, slope in enumerate(g[t]):
            if inside[t][i]:
                total[i] -= eta[t] / b * sum(u * v for u, v in zip(slope, a, strict=True))
        pulled = [sum(row[l] * a[l] for l in range(len(a))) for row in h[t]]
        a = [u - eta[t] * v for u, v in zip(a, pulled, strict=True)]
    return total


def back_recursion(hessians, gradients, member, rates, b, q):
    """The last step, and a shorter run with another q."""
    if len(rates) == 0:
        return torch.zeros(gradients.shape[1], dtype=q.dtype)
    last = torch.where(member[-1], gradients[-1] @ q, 0.0) * rates[-1] / b
    before = torch.addmv(q, hessians[-1], q, alpha=-rates[-1].item())
    rest = (hessians[:-1], gradients[:-1], member[:-1], rates[:-1])
    return back_recursion(*rest, b, before) - last


def back_products(hessians, gradients, member, rates, b, q):
    """All adjoints from the products of Jacobians, stored, though the text advises against it."""
    eye = torch.eye(len(q), dtype=q.dtype)
    onward = [eye]
    for h, eta in zip(hessians[1:].flip(0), rates[1:].flip(0), strict=True):
        onward.append(onward[-1] @ (eye - eta * h))
    onward = torch.stack(onward[::-1])
    return -torch.einsum("p,tpq,tnq,tn,t->n", q, onward, gradients, member.double(), rates) / b


def back_float32(hessians, gradients, member, rates, b, q):
    return back_hint(hessians.float(), gradients.float(), member, rates.float(), b, q.float())


def back_system(hessians, gradients, member, rates, b, q):
    """The transposed system of all steps."""
    steps, p = gradients.shape[0], len(q)
    system = np.eye(steps * p)
    for t in range(1, steps):
        rows, columns = slice((t - 1) * p, t * p), slice(t * p, (t + 1) * p)
        system[rows, columns] = -(np.eye(p) - (rates[t] * hessians[t]).numpy()).T
    last = np.concatenate([np.zeros((steps - 1) * p), q.numpy()])
    adjoints = np.linalg.solve(system, last).reshape(steps, p)
    sights = (rates[:, None] / b * member).numpy()
    return -(sights * (gradients.numpy() @ adjoints[:, :, None])[:, :, 0]).sum(0)


_eta, _mu2, _eps, _v0 = sp.symbols("eta mu2 eps v0", positive=True)
_g1, _g2 = sp.symbols("g1 g2")
_beta, _e = sp.symbols("beta e", real=True)
_g = _g1 + _g2
_v = _mu2 * _v0 + (1 - _mu2) * _g**2


def _second_moment(g):
    return _mu2 * _v0 + (1 - _mu2) * g**2


def _move(beta):
    g = beta * _g1 + _g2
    return -_eta * g / (sp.sqrt(_second_moment(g)) + _eps)


def _through_v():
    v, w = sp.symbols("v w")
    step = w - _eta * _g / (sp.sqrt(v) + _eps)
    return step.diff(v).subs(v, _v) * 2 * (1 - _mu2) * _g * _g1


def _through_everything():
    """As functions of β, and the chain rule by sympy."""
    g, v = sp.Function("g")(_beta), sp.Function("v")(_beta)
    slope = sp.diff(-_eta * g / (sp.sqrt(v) + _eps), _beta)
    v_dot = 2 * (1 - _mu2) * _g * _g1
    return slope.subs({g.diff(_beta): _g1, v.diff(_beta): v_dot}).subs({g: _g, v: _v})


def _slope_in_g():
    g = sp.Symbol("g")
    return sp.diff(-_eta * g / (sp.sqrt(_second_moment(g)) + _eps), g).subs(g, _g) * _g1


def _slope_without_root_below():
    """The denominator freed of its root."""
    g = _beta * _g1 + _g2
    v = _second_moment(g)
    return sp.diff(-_eta * g * (sp.sqrt(v) - _eps) / (v - _eps**2), _beta).subs(_beta, 1)


_P = 1 / (sp.sqrt(_v) + _eps)
_root_slope = (1 - _mu2) * _g * _g1 / sp.sqrt(_v)


def tracin_hint(gradients, phi_slopes, member, rates, b):
    total = torch.zeros(gradients.shape[1], dtype=gradients.dtype)
    for t in range(len(rates)):
        total -= rates[t] / b * member[t] * (gradients[t] @ phi_slopes[t])
    return total


def tracin_einsum(gradients, phi_slopes, member, rates, b):
    return -torch.einsum("t,ti,tip,tp->i", rates / b, member.double(), gradients, phi_slopes)


def tracin_numpy(gradients, phi_slopes, member, rates, b):
    products = (gradients.numpy() * phi_slopes.numpy()[:, None]).sum(-1)
    return -np.where(member.numpy(), products, 0).T @ rates.numpy() / b


def tracin_loop(gradients, phi_slopes, member, rates, b):
    steps, n = member.shape
    return [
        -sum(
            float(rates[t]) / b * float(phi_slopes[t] @ gradients[t, i])
            for t in range(steps)
            if member[t, i]
        )
        for i in range(n)
    ]


def tracin_float32(gradients, phi_slopes, member, rates, b):
    return tracin_hint(gradients.float(), phi_slopes.float(), member, rates.float(), b)


def tracin_unrolled(gradients, phi_slopes, member, rates, b):
    """Reverse mode without curvature, a step at a time, each with its own slope of φ."""
    flat = torch.zeros(1, *phi_slopes.shape[1:], phi_slopes.shape[1], dtype=rates.dtype)
    return sum(
        back_hint(flat, gradients[t : t + 1], member[t : t + 1], rates[t : t + 1], b, slope)
        for t, slope in enumerate(phi_slopes)
    )


def tracin_autodiff(gradients, phi_slopes, member, rates, b):
    """What the steps do to φ's tangents, differentiated in β."""

    def gained(beta):
        steps = -rates[:, None] / b * ((beta * member)[:, :, None] * gradients).sum(1)
        return (steps * phi_slopes).sum()

    return torch.func.grad(gained)(torch.ones(member.shape[1], dtype=rates.dtype))


def tracin_batched(gradients, phi_slopes, member, rates, b):
    dots = torch.bmm(gradients, phi_slopes[:, :, None]).squeeze(-1)
    return dots.masked_fill(~member, 0).T @ rates / -b


def tracin_one_product(gradients, phi_slopes, member, rates, b):
    """A row of T·p numbers an example, on the T·p numbers of the slopes."""
    steps, n, p = gradients.shape
    pushes = -rates[:, None, None] / b * torch.where(member[:, :, None], gradients, 0.0)
    return pushes.transpose(0, 1).reshape(n, steps * p) @ phi_slopes.reshape(steps * p)


def tracin_visits(gradients, phi_slopes, member, rates, b):
    """A list of who was seen when, and a sum for each."""
    t, i = np.nonzero(member.numpy())
    gained = -rates.numpy()[t] / b * np.sum(gradients.numpy()[t, i] * phi_slopes.numpy()[t], 1)
    return np.bincount(i, weights=gained, minlength=member.shape[1])


def _doubled_weights():
    """Words of (g) from a run of Adam with doubled weights, on the valley."""
    run = Run(
        valley(torch.tensor([0.5, -1.0, 2.0]).double()),
        torch.tensor([1.0, -2.0]).double(),
        Adam(eps=1e-13),
        full_batches(3, 9),
        constant(0.1, 9),
    )
    moved = (retrain(run, 2 * run.ones()) - retrain(run, run.ones())).norm() > 1e-6
    total = reverse_mode(run, lambda w: w @ w).sum().abs() > 1e-6
    return f"w_t {'changes' if moved else 'stays'}, the sum is {'not ' if total else ''}zero"


def _early_or_late():
    words = []
    for sigma in (1.0, 0.0):
        hessians = torch.full((9, 1, 1), sigma).double()
        rates, ones = torch.full((9,), 0.3).double(), torch.ones(9, 1).double()
        first, last = (
            abs(sum_hint(hessians, ones, rates, torch.arange(9) == t, 2).item()) for t in (0, 8)
        )
        words.append("same" if first == last else "first" if first > last else "last")
    return f"curved: {words[0]}, flat: {words[1]}"


UNROLLING = {
    "unrolling.part_a": {
        "hint": step_hint,
        "numpy": step_numpy,
        "list": step_list,
        "float32": step_float32,
        "jvp": step_jvp,
        "differences": step_differences,
        "jacobian in β": step_chain,
        "addmv": step_addmv,
        "augmented": step_augmented,
        "complex step": step_imaginary,
    },
    "unrolling.part_b": {
        "hint": sum_hint,
        "recursion": sum_recursion,
        "numpy, by sights": sum_numpy,
        "products": sum_products,
        "augmented": sum_augmented,
        "one system": sum_system,
        "autodiff": sum_autodiff,
        "list": sum_list,
        "float32": sum_float32,
        "by halves": sum_halves,
    },
    "unrolling.part_c": {
        "recursion": tilted_recursion,
        "as part (b)": tilted_as_plain,
        "numpy": tilted_numpy,
        "autodiff": tilted_autodiff,
        "one system": tilted_system,
        "adjoints": tilted_transposed,
        "other coordinates": tilted_cholesky,
        "float32": tilted_float32,
        "jvp": tilted_jvp,
        "by halves": tilted_halves,
    },
    "unrolling.part_d": {
        "hint": back_hint,
        "numpy": back_numpy,
        "forward": back_forward,
        "each by part (b)": back_each,
        "backward": back_backward,
        "list": back_list,
        "one system": back_system,
        "float32": back_float32,
        "recursion": back_recursion,
        "products": back_products,
    },
    "unrolling.part_e": {
        "diff": sp.diff(_move(_beta), _beta).subs(_beta, 1),
        "one fraction": -_eta
        * _g1
        * (_mu2 * _v0 + _eps * sp.sqrt(_v))
        / (sp.sqrt(_v) * (sp.sqrt(_v) + _eps) ** 2),
        "chain rule": _through_everything(),
        "fixed and left out": -_eta * _g1 / (sp.sqrt(_v) + _eps) + _through_v(),
        "floats": (
            -1.0 * _eta * _g1 / (_v**0.5 + _eps)
            + _eta * _g**2 * (1.0 - _mu2) * _g1 / (_v**0.5 * (_v**0.5 + _eps) ** 2)
        ),
        "no assumptions": sp.diff(_move(_beta), _beta)
        .subs(_beta, 1)
        .subs({s: sp.Symbol(s.name) for s in (_eta, _mu2, _eps, _v0)}),
        "product rule": -_eta * (_g1 * _P - _g * _P**2 * _root_slope),
        "logarithmic": -_eta * _g * _P * (_g1 / _g - _root_slope * _P),
        "in g": _slope_in_g(),
        "root above": _slope_without_root_below(),
    },
    "unrolling.part_f": {
        "diff": sp.diff(_move(_beta), _beta).subs(_beta, 1) + _eta * _g1 / (sp.sqrt(_v) + _eps),
        "hint": _eta * _g * (1 - _mu2) * _g * _g1 / sp.sqrt(_v) / (sp.sqrt(_v) + _eps) ** 2,
        "through v": _through_v(),
        "derivative of P": -_eta
        * _g
        * sp.diff(1 / (sp.sqrt(_second_moment(_beta * _g1 + _g2)) + _eps), _beta).subs(_beta, 1),
        "expanded": sp.expand(_eta * (1 - _mu2) * _g1 * _g**2)
        / (sp.sqrt(_v) * (_v + 2 * _eps * sp.sqrt(_v) + _eps**2)),
        "unevaluated": -_eta
        * _g
        * sp.Subs(
            sp.Derivative((sp.sqrt(_second_moment(_beta * _g1 + _g2)) + _eps) ** -1, _beta),
            _beta,
            1,
        ),
        "floats": _eta * _g1 * (1.0 - _mu2) * _g**2.0 * _v**-0.5 * (_v**0.5 + _eps) ** -2.0,
        "page": (sp.sqrt(_v) + _eps) ** -2
        * _g
        / (2 * sp.sqrt(_v))
        * 2
        * (1 - _mu2)
        * _g
        * _g1
        * _eta,
        "in g": _slope_in_g() + _eta * _P * _g1,
        "logarithmic": _eta
        * _g
        * _P
        * sp.diff(sp.log(sp.sqrt(_second_moment(_beta * _g1 + _g2)) + _eps), _beta).subs(_beta, 1),
    },
    "unrolling.part_g": {
        "plain": "w_t stays, the sum is zero",
        "capital": "W_t stays, the sum is zero",
        "capitals": "W_T STAYS, THE SUM IS ZERO",
        "spaces": "  w_t stays,  the sum is zero ",
        "run": _doubled_weights(),
    },
    "unrolling.part_h": {
        "hint": tracin_hint,
        "einsum": tracin_einsum,
        "numpy": tracin_numpy,
        "loop": tracin_loop,
        "by part (d)": tracin_unrolled,
        "autodiff": tracin_autodiff,
        "batched": tracin_batched,
        "float32": tracin_float32,
        "one product": tracin_one_product,
        "visits": tracin_visits,
    },
    "unrolling.part_i": {
        "plain": "curved: last, flat: same",
        "capitals": "CURVED: LAST, FLAT: SAME",
        "spaces": " curved: last,  flat:  same ",
        "newline": "curved: last,\nflat: same\n",
        "computed": _early_or_late(),
    },
}


# --- convergence ---------------------------------------------------------------------------------


def next_hint(response, hessians, gradients, rate, batch, k):
    own = (batch == k).double()
    return response - rate * hessians.mean(0) @ response + rate / len(batch) * own @ gradients


def next_numpy(response, hessians, gradients, rate, batch, k):
    r, h, g, rows = (a.numpy() for a in (response, hessians, gradients, batch))
    push = np.where((rows == k)[:, None], g, 0).sum(0)
    return r + rate * (push - np.einsum("jpq,q->p", h, r)) / len(rows)


def next_loop(response, hessians, gradients, rate, batch, k):
    b, out = len(batch), response.clone()
    for h, g, i in zip(hessians, gradients, batch.tolist(), strict=True):
        out = out - rate / b * (h @ response)
        if i == k:
            out = out + rate / b * g
    return out


def next_list(response, hessians, gradients, rate, batch, k):
    r, h, g = response.tolist(), hessians.tolist(), gradients.tolist()
    out = []
    for a in range(len(r)):
        pull = 0.0
        for j, i in enumerate(batch.tolist()):
            pull += sum(x * y for x, y in zip(h[j][a], r, strict=True))
            pull -= g[j][a] if i == k else 0.0
        out.append(r[a] - rate * pull / len(batch))
    return out


def _step_at(response, hessians, gradients, rate, batch, k, epsilon):
    weights = 1 - epsilon * (batch == k)
    w = epsilon * response
    slopes = gradients + hessians @ w
    return w - rate / len(batch) * (weights @ slopes)


def next_autodiff(response, hessians, gradients, rate, batch, k):
    """The step in ε, with w(ε) = w + εr and quadratic losses."""
    epsilon = torch.zeros((), dtype=response.dtype, requires_grad=True)
    return _slopes(_step_at(response, hessians, gradients, rate, batch, k, epsilon), epsilon)


def next_central(response, hessians, gradients, rate, batch, k):
    """A central difference is exact on a quadratic."""
    up, down = (
        _step_at(response, hessians, gradients, rate, batch, k, torch.tensor(e).double())
        for e in (0.5, -0.5)
    )
    return up - down


def next_upweighted(response, hessians, gradients, rate, batch, k):
    """Minus what upweighting does, by part (a) of the exercise on unrolling."""
    own = [j for j, i in enumerate(batch) if i == k]
    push = gradients[own].sum(0)
    return -step_hint(-response, hessians.mean(0), push, rate, len(batch), bool(own))


def next_shares(response, hessians, gradients, rate, batch, k):
    """A batch of one for every example, and the mean of what they do."""
    ends = [
        response - rate * (h @ response) + (rate * g if i == k else 0)
        for h, g, i in zip(hessians, gradients, batch.tolist(), strict=True)
    ]
    return sum(ends) / len(ends)


def next_jvp(response, hessians, gradients, rate, batch, k):
    """Forward mode in w and ε at once, with quadratic losses."""

    def step(w, epsilon):
        kept = torch.ones(len(batch), dtype=w.dtype) - epsilon * (batch == k)
        slopes = gradients + torch.einsum("jpq,q->jp", hessians, w)
        return w - rate * torch.mean(kept[:, None] * slopes, 0)

    at = (torch.zeros_like(response), torch.zeros((), dtype=response.dtype))
    return jvp(step, at, (response, torch.ones_like(at[1])))[1]


def next_float32(response, hessians, gradients, rate, batch, k):
    given = (a.float() for a in (response, hessians, gradients))
    response, hessians, gradients = given
    push = gradients[batch == k].sum(0) / len(batch)
    return response - rate * (hessians.mean(0) @ response - push)


def window_hint(hessian, gradient, n, rate, steps):
    eye = torch.eye(len(hessian), dtype=hessian.dtype)
    power = torch.linalg.matrix_power(eye - rate / n * hessian, steps)
    return (eye - power) @ torch.linalg.solve(hessian, gradient)


def window_recursion(hessian, gradient, n, rate, steps):
    r = torch.zeros_like(gradient)
    for _ in range(steps):
        r = r - rate / n * (hessian @ r - gradient)
    return r


def window_series(hessian, gradient, n, rate, steps):
    h, term = hessian.numpy() / n, gradient.numpy() * rate / n
    total = np.zeros(len(h))
    for _ in range(steps):
        total = total + term
        term = term - rate * h @ term
    return total


def window_eigen(hessian, gradient, n, rate, steps):
    values, vectors = torch.linalg.eigh(hessian)
    gain = (1 - (1 - rate * values / n) ** steps) / values
    return vectors @ (gain * (vectors.T @ gradient))


def window_augmented(hessian, gradient, n, rate, steps):
    p = len(gradient)
    move = np.zeros((p + 1, p + 1))
    move[:p, :p] = np.eye(p) - rate / n * hessian.numpy()
    move[:p, p] = rate / n * gradient.numpy()
    move[p, p] = 1
    return np.linalg.matrix_power(move, steps)[:p, p]


def window_doubling(hessian, gradient, n, rate, steps):
    """S_{2k} = S_k + M^k S_k, by the binary digits of K."""
    eye = torch.eye(len(hessian), dtype=hessian.dtype)
    m = eye - rate * hessian / n
    total, power = torch.zeros_like(m), eye
    for digit in bin(steps)[2:]:
        total, power = total + power @ total, power @ power
        if digit == "1":
            total, power = total + power, power @ m
    return total @ gradient * (rate / n)


def window_unrolled(hessian, gradient, n, rate, steps):
    """Minus the derivative of (b) of the exercise on unrolling, on full batches."""
    mean = (hessian / n).expand(steps, -1, -1)
    slopes, rates = gradient.expand(steps, -1), torch.full((steps,), rate).double()
    return -sum_hint(mean, slopes, rates, torch.ones(steps, dtype=torch.bool), n)


def window_trained(hessian, gradient, n, rate, steps):
    """Gradient descent on a quadratic with εg·w taken from it; affine in ε."""

    def trained(epsilon):
        w = torch.zeros_like(gradient)
        for _ in range(steps):
            w = w - rate * (hessian @ w - epsilon * gradient) / n
        return w

    return trained(1.0)


def window_vector(hessian, gradient, n, rate, steps):
    """What K steps leave of the gradient, and one Cholesky solve for what they took."""
    left = gradient
    for _ in range(steps):
        left = torch.addmv(left, hessian, left, alpha=-rate / n)
    root = torch.linalg.cholesky(hessian)
    return torch.cholesky_solve((gradient - left)[:, None], root).squeeze(1)


def window_float32(hessian, gradient, n, rate, steps):
    return window_recursion(hessian.float(), gradient.float(), n, rate, steps)


def limit_solve(hessians, gradients, k):
    return torch.linalg.solve(hessians.sum(0), gradients[k])


def limit_inverse(hessians, gradients, k):
    return np.linalg.inv(hessians.numpy().sum(axis=0)) @ gradients.numpy()[k]


def limit_cholesky(hessians, gradients, k):
    factor = torch.linalg.cholesky(torch.einsum("ipq->pq", hessians))
    return torch.cholesky_solve(gradients[k][:, None], factor)[:, 0]


def limit_means(hessians, gradients, k):
    return torch.linalg.lstsq(hessians.mean(0), gradients[k]).solution / len(hessians)


def limit_eigen(hessians, gradients, k):
    values, vectors = np.linalg.eigh(np.add.reduce(hessians.numpy()))
    return vectors @ ((vectors.T @ gradients[k].numpy()) / values)


def limit_descent(hessians, gradients, k):
    """The response of part (c) after 2²⁰ steps, by squaring."""
    h, n = hessians.sum(0), len(hessians)
    return window_doubling(h, gradients[k], n, n / torch.linalg.eigvalsh(h)[-1].item(), 2**20)


def limit_conjugate(hessians, gradients, k):
    h, g = hessians.sum(0).numpy(), gradients[k].numpy()
    return scipy.optimize.minimize(
        lambda r: r @ h @ r / 2 - g @ r,
        np.zeros(len(g)),
        jac=lambda r: h @ r - g,
        hess=lambda r: h,
        method="trust-exact",
        options={"gtol": 1e-12},
    ).x


def limit_minimum(hessians, gradients, k):
    """Minus the derivative of the weighted minimum of the second-order losses."""
    one = torch.ones(len(gradients), dtype=gradients.dtype)

    def minimum(beta):
        h = torch.einsum("i,ipq->pq", beta, hessians)
        return -torch.linalg.solve(h, beta @ gradients)

    return -jacrev(minimum)(one)[:, k]


def limit_qr(hessians, gradients, k):
    q, upper = np.linalg.qr(sum(hessians.numpy()))
    return scipy.linalg.solve_triangular(upper, q.T @ gradients[k].numpy())


def limit_float32(hessians, gradients, k):
    return torch.linalg.solve(hessians.sum(0).float(), gradients[k].float())


def bound_eigvalsh(hessian, n):
    return 2 * n / torch.linalg.eigvalsh(hessian)[-1]


def bound_norm(hessian, n):
    return 2 * n / np.linalg.norm(hessian.numpy(), 2)


def bound_mean(hessian, n):
    return 2 / torch.linalg.eigvals(hessian / n).real.max().item()


def bound_svd(hessian, n):
    return 2 / (torch.linalg.svdvals(hessian)[0] / n)


def bound_scipy(hessian, n):
    p = len(hessian)
    return 2 * n / scipy.linalg.eigvalsh(hessian.numpy(), subset_by_index=[p - 1, p - 1])[0]


def bound_power(hessian, n):
    """The matrix squared again and again, for its largest eigenvalue."""
    log, m = 0.0, hessian
    for k in range(40):
        size = m.norm()
        log, m = log + math.log(size) / 2**k, (m / size) @ (m / size)
    return 2 * n / math.exp(log)


def bound_halvings(hessian, n):
    low, high = 0.0, 4 * n / torch.trace(hessian).item() * len(hessian)
    eye = torch.eye(len(hessian), dtype=hessian.dtype)
    for _ in range(80):
        middle = (low + high) / 2
        radius = torch.linalg.eigvalsh(eye - middle / n * hessian).abs().max()
        low, high = (middle, high) if radius < 1 else (low, middle)
    return low


def bound_polynomial(hessian, n):
    """The largest root of the characteristic polynomial."""
    return 2 * n / np.roots(np.poly(hessian.numpy())).real.max()


def bound_tridiagonal(hessian, n):
    t = scipy.linalg.hessenberg(hessian.numpy() / n)
    return 2 / scipy.linalg.eigvalsh_tridiagonal(np.diag(t), np.diag(t, -1)).max()


def bound_float32(hessian, n):
    return 2 * n / torch.linalg.eigvalsh(hessian.float()).max()


_sigma, _t, _n = sp.symbols("sigma t n", positive=True)
_s = sp.Symbol("s", positive=True)
_gk, _r0 = sp.symbols("g r0")
_flow = _r0 * sp.exp(-_sigma * _t) + _gk / _n * (1 - sp.exp(-_sigma * _t)) / _sigma


def _solved():
    r = sp.Function("r")
    equation = sp.Eq(r(_t).diff(_t), -_sigma * r(_t) + _gk / _n)
    return sp.dsolve(equation, r(_t), ics={r(0): _r0}).rhs


def _solved_flat():
    r = sp.Function("r")
    return sp.dsolve(sp.Eq(r(_t).diff(_t), _gk / _n), r(_t), ics={r(0): _r0}).rhs


def _plain_names():
    return {s: sp.Symbol(s.name) for s in (_sigma, _t, _n)}


def rest_pinv(hessian_mean, gradient, n):
    return torch.linalg.pinv(hessian_mean, hermitian=True, rtol=1e-9) @ gradient / n


def rest_default(hessian_mean, gradient, n):
    return np.linalg.pinv(hessian_mean.numpy()) @ gradient.numpy() / n


def rest_lstsq(hessian_mean, gradient, n):
    return np.linalg.lstsq(hessian_mean.numpy(), gradient.numpy() / n, rcond=1e-10)[0]


def rest_eigen(hessian_mean, gradient, n):
    values, vectors = torch.linalg.eigh(hessian_mean)
    kept = values > 1e-9 * values.max()
    v = vectors[:, kept]
    return v @ (v.T @ gradient / values[kept]) / n


def rest_filled(hessian_mean, gradient, n):
    """H̄ + P₀ is invertible, and is H̄ where it counts."""
    floor = scipy.linalg.null_space(hessian_mean.numpy(), rcond=1e-9)
    p0 = floor @ floor.T
    g = gradient.numpy() / n
    return np.linalg.solve(hessian_mean.numpy() + p0, g - p0 @ g)


def rest_basis(hessian_mean, gradient, n):
    """In coordinates of the column space."""
    q = scipy.linalg.orth(hessian_mean.numpy(), rcond=1e-9)
    inside = q.T @ hessian_mean.numpy() @ q
    return q @ np.linalg.inv(inside) @ q.T @ gradient.numpy() / n


def rest_summed(hessian_mean, gradient, n):
    return torch.linalg.pinv(n * hessian_mean, rtol=1e-9) @ gradient


def rest_damped(hessian_mean, gradient, n):
    """Two dampings, extrapolated to none, on the part in the column space."""
    q = torch.from_numpy(scipy.linalg.orth(hessian_mean.numpy(), rcond=1e-9))
    g, eye = q @ (q.T @ gradient) / n, torch.eye(len(gradient), dtype=gradient.dtype)
    size = torch.linalg.eigvalsh(hessian_mean)[-1]
    low, high = (torch.linalg.solve(hessian_mean + c * size * eye, g) for c in (1e-6, 2e-6))
    return q @ (q.T @ (2 * low - high))


def rest_bordered(hessian_mean, gradient, n):
    """With the null space as a constraint: its multipliers take up the rest of the gradient."""
    floor = scipy.linalg.null_space(hessian_mean.numpy(), rcond=1e-9)
    p, d = floor.shape
    bordered = np.block([[hessian_mean.numpy(), floor], [floor.T, np.zeros((d, d))]])
    return np.linalg.solve(bordered, np.append(gradient.numpy() / n, np.zeros(d)))[:p]


def rest_float32(hessian_mean, gradient, n):
    return torch.linalg.pinv(hessian_mean.float(), hermitian=True) @ gradient.float() / n


def flow_hint(hessian_mean, gradient, n, r0, t):
    values, vectors = torch.linalg.eigh(hessian_mean)
    flat = values < 1e-9 * values.max()
    rest = torch.linalg.pinv(hessian_mean, rtol=1e-9) @ gradient / n
    p0 = vectors[:, flat] @ vectors[:, flat].T
    decay = torch.linalg.matrix_exp(-t * hessian_mean)
    return rest + decay @ (r0 - rest) + t * p0 @ gradient / n


def flow_eigen(hessian_mean, gradient, n, r0, t):
    sigma, v = np.linalg.eigh(hessian_mean.numpy())
    start, push = v.T @ r0.numpy(), v.T @ gradient.numpy() / n
    flat = np.abs(sigma) < 1e-9 * sigma.max()
    safe = np.where(flat, 1.0, sigma)
    gained = np.where(flat, t, -np.expm1(-t * safe) / safe)
    return v @ (np.where(flat, 1, np.exp(-t * safe)) * start + gained * push)


def flow_augmented(hessian_mean, gradient, n, r0, t):
    """d/dt (r, 1) is linear: one matrix exponential, and no null space to be found."""
    p = len(gradient)
    a = np.zeros((p + 1, p + 1))
    a[:p, :p], a[:p, p] = -hessian_mean.numpy(), gradient.numpy() / n
    return (scipy.linalg.expm(t * a) @ np.append(r0.numpy(), 1))[:p]


def flow_ode(hessian_mean, gradient, n, r0, t):
    h, g = hessian_mean.numpy(), gradient.numpy() / n
    return scipy.integrate.solve_ivp(
        lambda _, r: g - h @ r, (0, t), r0.numpy(), "DOP853", rtol=1e-10, atol=1e-12
    ).y[:, -1]


def flow_library(hessian_mean, gradient, n, r0, t):
    """The library's flow starts from zero."""
    start = torch.linalg.matrix_exp(-t * hessian_mean) @ r0
    return start + response_flow(hessian_mean, gradient / n, torch.tensor([t]).double())[0]


def flow_quadrature(hessian_mean, gradient, n, r0, t):
    """The pushes of all times s, each decayed for t − s: composite Gauss-Legendre."""
    at, weight = np.polynomial.legendre.leggauss(12)
    pieces = 16
    width, total = t / pieces, torch.linalg.matrix_exp(-t * hessian_mean) @ r0
    ages = (np.arange(pieces)[:, None] + (at + 1) / 2) * width
    shares = np.broadcast_to(weight * width / 2, ages.shape)
    decays = torch.linalg.matrix_exp(-torch.from_numpy(ages.ravel())[:, None, None] * hessian_mean)
    mean = torch.einsum("s,spq->pq", torch.from_numpy(shares.ravel()), decays)
    return total + mean @ gradient / n


def flow_doubling(hessian_mean, gradient, n, r0, t):
    """A short Taylor step, doubled twelve times."""
    h = hessian_mean * (t / 2**12)
    eye = torch.eye(len(h), dtype=h.dtype)
    decay = eye - h + h @ h / 2 - h @ h @ h / 6 + h @ h @ h @ h / 24
    gain = (eye - h / 2 + h @ h / 6 - h @ h @ h / 24) * (t / 2**12)
    for _ in range(12):
        decay, gain = decay @ decay, gain + decay @ gain
    return decay @ r0 + gain @ gradient / n


def flow_subspaces(hessian_mean, gradient, n, r0, t):
    """In a basis of the column space, and in one of the null space."""
    h, g, r0 = hessian_mean.numpy(), gradient.numpy() / n, r0.numpy()
    q, floor = scipy.linalg.orth(h, rcond=1e-9), scipy.linalg.null_space(h, rcond=1e-9)
    inside = q.T @ h @ q
    rest = np.linalg.solve(inside, q.T @ g)
    curved = rest + scipy.linalg.expm(-t * inside) @ (q.T @ r0 - rest)
    return q @ curved + floor @ (floor.T @ r0 + t * (floor.T @ g))


def flow_block(hessian_mean, gradient, n, r0, t):
    """exp of (−H̄, I; 0, 0): in its corner is ∫ e^{−sH̄} ds."""
    p = len(gradient)
    zero, eye = torch.zeros_like(hessian_mean), torch.eye(p, dtype=hessian_mean.dtype)
    both = torch.cat([torch.cat([-hessian_mean, eye], 1), torch.cat([zero, zero], 1)])
    both = torch.linalg.matrix_exp(t * both)
    return both[:p, :p] @ r0 + both[:p, p:] @ gradient / n


def flow_float32(hessian_mean, gradient, n, r0, t):
    p = len(gradient)
    a = torch.zeros(p + 1, p + 1)
    a[:p, :p], a[:p, p] = -hessian_mean, gradient / n
    return torch.linalg.matrix_exp(t * a)[:p] @ torch.cat([r0, torch.ones(1)]).float()


_tilts = (1.5, -2, 0.75, -1, 0.75)


def _valley_by_hand(taken=1e-3):
    def end(epsilon):
        y = 0.5
        for _ in range(120):
            y -= 0.25 / 5 * (sum(_tilts) - epsilon * _tilts[0])
        return y

    return (end(taken) - end(-taken)) / (2 * taken)


def _valley_run():
    run = Run(
        valley(torch.tensor(_tilts).double()),
        torch.tensor([1.0, 0.5]).double(),
        SGD(),
        full_batches(5, 120),
        constant(0.25, 120),
    )
    return -reverse_mode(run, lambda w: w[1])[0]


CONVERGENCE = {
    "convergence.part_a": {
        "int": 1,
        "float": 1.0,
        "sympy": sp.Integer(1),
        "fraction": Fraction(8, 8),
        "tensor": torch.ones(()),
        "numpy": np.float32(1),
        "solved": sp.solve(1 - _e, _e)[0],
    },
    "convergence.part_b": {
        "hint": next_hint,
        "numpy": next_numpy,
        "loop": next_loop,
        "list": next_list,
        "autodiff": next_autodiff,
        "central difference": next_central,
        "by upweighting": next_upweighted,
        "float32": next_float32,
        "shares": next_shares,
        "jvp": next_jvp,
    },
    "convergence.part_c": {
        "hint": window_hint,
        "recursion": window_recursion,
        "series": window_series,
        "eigh": window_eigen,
        "augmented": window_augmented,
        "doubling": window_doubling,
        "by unrolling": window_unrolled,
        "trained": window_trained,
        "float32": window_float32,
        "of a vector": window_vector,
    },
    "convergence.part_d": {
        "solve": limit_solve,
        "inverse": limit_inverse,
        "cholesky": limit_cholesky,
        "means": limit_means,
        "eigh": limit_eigen,
        "long descent": limit_descent,
        "minimised": limit_conjugate,
        "moved minimum": limit_minimum,
        "float32": limit_float32,
        "QR": limit_qr,
    },
    "convergence.part_e": {
        "eigvalsh": bound_eigvalsh,
        "norm": bound_norm,
        "mean Hessian": bound_mean,
        "svd": bound_svd,
        "scipy": bound_scipy,
        "squarings": bound_power,
        "halvings": bound_halvings,
        "float32": bound_float32,
        "polynomial": bound_polynomial,
        "tridiagonal": bound_tridiagonal,
    },
    "convergence.part_f": {
        "plain": _flow,
        "hint": _gk / (_n * _sigma) + (_r0 - _gk / (_n * _sigma)) * sp.exp(-_sigma * _t),
        "dsolve": _solved(),
        "integral": sp.exp(-_sigma * _t) * _r0
        + sp.integrate(sp.exp(-_sigma * _s) * _gk / _n, (_s, 0, _t)),
        "one fraction": (_gk * (sp.exp(_sigma * _t) - 1) + _n * _sigma * _r0)
        / (_n * _sigma * sp.exp(_sigma * _t)),
        "hyperbolic": sp.exp(-_sigma * _t / 2)
        * (_r0 * sp.exp(-_sigma * _t / 2) + 2 * _gk / (_n * _sigma) * sp.sinh(_sigma * _t / 2)),
        "no assumptions": _flow.subs(_plain_names()),
        "floats": _r0 * sp.exp(-1.0 * _sigma * _t)
        - (sp.exp(-1.0 * _sigma * _t) - 1.0) * _gk / (1.0 * _n * _sigma),
        "base e": sp.E ** (-_t * _sigma) * (_r0 - _gk / _n / _sigma) + _gk / _n / _sigma,
        "from the start": _r0 + (_gk / _n - _sigma * _r0) * (1 - sp.exp(-_sigma * _t)) / _sigma,
    },
    "convergence.part_g": {
        "plain": _r0 + _gk * _t / _n,
        "limit": sp.limit(_flow, _sigma, 0),
        "unevaluated": sp.Limit(_flow, _sigma, 0),
        "series": _flow.series(_sigma, 0, 1).removeO(),
        "integral": _r0 + sp.Integral(_gk / _n, (_s, 0, _t)),
        "one fraction": (_n * _r0 + _gk * _t) / _n,
        "floats": 1.0 * _r0 + 1.0 * _t / _n * _gk,
        "no assumptions": (_r0 + _t * _gk / _n).subs(_plain_names()),
        "dsolve": _solved_flat(),
        "straight line": _r0 + _t * _flow.diff(_t).subs(_t, 0).subs(_sigma, 0),
    },
    "convergence.part_h": {
        "pinv": rest_pinv,
        "numpy": rest_default,
        "lstsq": rest_lstsq,
        "eigh": rest_eigen,
        "null space filled": rest_filled,
        "in a basis": rest_basis,
        "summed Hessian": rest_summed,
        "damped": rest_damped,
        "float32": rest_float32,
        "bordered": rest_bordered,
    },
    "convergence.part_i": {
        "hint": flow_hint,
        "eigh": flow_eigen,
        "augmented": flow_augmented,
        "ode": flow_ode,
        "library": flow_library,
        "quadrature": flow_quadrature,
        "doubling": flow_doubling,
        "float32": flow_float32,
        "subspaces": flow_subspaces,
        "block": flow_block,
    },
    "convergence.part_j": {
        "plain": "P0 g = 0",
        "small": "p0 g = 0",
        "spaces": "  P0  g = 0 ",
        "newline": "P0 g = 0\n",
        "tab": "P0 g\t= 0",
    },
    "convergence.part_k": {
        "int": 9,
        "float": 9.0,
        "product": 0.25 * 120 * 1.5 / 5,
        "sympy": sp.Rational(1, 4) * 120 * sp.Rational(3, 2) / 5,
        "decimal": Decimal("0.25") * 120 * Decimal("1.5") / 5,
        "by hand": _valley_by_hand(),
        "run": _valley_run(),
    },
    "convergence.part_l": {
        "plain": "limit theorems",
        "capital": "Limit theorems",
        "capitals": "LIMIT THEOREMS",
        "spaces": " limit  theorems ",
        "newline": "limit theorems\n",
    },
}
