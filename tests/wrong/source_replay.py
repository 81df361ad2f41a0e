"""Wrong answers on SOURCE and REPLAY, as students give them; written without the catalogue."""

import sympy as sp
import torch

eta, K, n = sp.symbols("eta K n", positive=True)
sigma = sp.symbols("sigma", real=True)


def filter_cancelling(sigma, effort):
    flat = sigma == 0
    safe = torch.where(flat, 1.0, sigma)
    return torch.where(flat, effort, (1 - torch.exp(-effort * sigma)) / safe)


def filter_zero(sigma, effort):
    flat = sigma == 0
    safe = torch.where(flat, 1.0, sigma)
    return torch.where(flat, 0.0, -torch.expm1(-effort * sigma) / safe)


def filter_clamped(sigma, effort):
    sigma = sigma.clamp(min=0)
    flat = sigma == 0
    safe = torch.where(flat, 1.0, sigma)
    return torch.where(flat, effort, -torch.expm1(-effort * sigma) / safe)


def _filters(hessian, effort):
    values, v = torch.linalg.eigh(hessian)
    flat = values == 0
    safe = torch.where(flat, 1.0, values)
    response = torch.where(flat, effort, -torch.expm1(-effort * safe) / safe)
    return v @ torch.diag(torch.exp(-effort * values)) @ v.T, v @ torch.diag(response) @ v.T


def source_own_segment(hessians, gradients, efforts, q):
    total, n = 0, gradients.shape[1]
    for k in reversed(range(len(efforts))):
        keep, response = _filters(hessians[k], efforts[k])
        q = keep @ q
        total = total - gradients[k] @ (response @ q) / n
    return total


def source_order(hessians, gradients, efforts, q):
    total, n = 0, gradients.shape[1]
    product = torch.eye(len(q), dtype=q.dtype)
    for k in reversed(range(len(efforts))):
        keep, response = _filters(hessians[k], efforts[k])
        total = total - gradients[k] @ (product @ response).T @ q / n
        product = keep @ product
    return total


def source_no_mean(hessians, gradients, efforts, q):
    total = 0
    for k in reversed(range(len(efforts))):
        keep, response = _filters(hessians[k], efforts[k])
        total = total - gradients[k] @ (response @ q)
        q = keep @ q
    return total


def replay_root(run, T):
    every = 1
    while every**2 < T:
        every += 1
    marks, s = [], run.s0
    for t in range(T):
        if t % every == 0:
            marks.append((t, s))
        s = run.step(t, s)
    adjoint, total = run.end(s), 0
    for first, start in reversed(marks):
        piece = [start]
        for t in range(first, min(first + every, T) - 1):
            piece.append(run.step(t, piece[-1]))
        for j in reversed(range(len(piece))):
            adjoint, added = run.pull(first + j, piece[j], adjoint)
            total = total + added
    return total


def replay_from_start(run, T):
    s = run.s0
    for t in range(T):
        s = run.step(t, s)
    adjoint, total = run.end(s), 0
    for t in reversed(range(T)):
        s = run.s0
        for early in range(t):
            s = run.step(early, s)
        adjoint, added = run.pull(t, s, adjoint)
        total = total + added
    return total


def replay_one_late(run, T):
    def walk(first, count, state):
        if count == 0:
            yield state
            return
        half = (count + 1) // 2
        s = state
        for t in range(first, first + half):
            s = run.step(t, s)
        yield from walk(first + half, count - half, s)
        del s
        yield from walk(first, half - 1, state)

    adjoint, total = None, 0
    for t, state in zip(reversed(range(T)), walk(0, T, run.s0), strict=False):
        if adjoint is None:
            adjoint = run.end(state)
        adjoint, added = run.pull(t, state, adjoint)
        total = total + added
    return total


def cost_to_the_end(T, k):
    def node(m):
        if m == 1:
            return 0, 0
        c = -(-m // k)
        below = [node(min(c, m - start)) for start in range(0, m, c)]
        return m + sum(b[0] for b in below), max(j + b[1] for j, b in enumerate(below))

    if T == 1:
        return 1, 1
    steps, held = node(T)
    return steps, 1 + held


def cost_first_child_too(T, k):
    def node(m, root):
        if m == 1:
            return int(root), 0
        c = -(-m // k)
        starts = range(0, m, c)
        below = [node(min(c, m - start), False) for start in starts]
        steps = m if root else starts[-1]
        return steps + sum(b[0] for b in below), max(j + 1 + b[1] for j, b in enumerate(below))

    steps, held = node(T, True)
    return steps, 1 + held


def cost_bounds(T, k):
    levels = 0
    while k**levels < T:
        levels += 1
    return T * levels, 1 + (k - 1) * levels


WRONG = {
    "source_replay.part_a": {
        "uses gradient flow's exponential instead of K discrete steps": sp.exp(-eta * K * sigma),
        "subtracts eta*sigma K times (first order) instead of multiplying K factors": 1
        - eta * K * sigma,
        "gives the share that is lost, one minus the factor, instead of what is left": 1
        - (1 - eta * sigma) ** K,
    },
    "source_replay.part_b": {
        "forgets the factor eta of the push: the bare geometric sum": (1 - (1 - eta * sigma) ** K)
        / (eta * sigma),
        "sums K + 1 terms instead of K": (1 - (1 - eta * sigma) ** (K + 1)) / sigma,
        "starts the series at the first power, as if each push decayed in its own step too": (
            1 - eta * sigma
        )
        * (1 - (1 - eta * sigma) ** K)
        / sigma,
    },
    "source_replay.part_c": {
        "keeps the discrete steps' power instead of the exponential": (1 - (1 - eta * sigma) ** K)
        / sigma,
        "takes K for the time instead of eta*K": (1 - sp.exp(-K * sigma)) / sigma,
        "keeps the factor eta of the discrete push": eta * (1 - sp.exp(-eta * K * sigma)) / sigma,
    },
    "source_replay.part_d": {
        "computes 1 - exp directly, so that small sigma cancel": filter_cancelling,
        "gives zero instead of the effort at sigma = 0, like a pseudoinverse": filter_zero,
        "clamps negative sigma to zero": filter_clamped,
    },
    "source_replay.part_e": {
        "gives the inverse, the limit eta*K of the filter itself": eta * K,
        "forgets eta: one over the number of steps": 1 / K,
        "gives the damping for the summed Hessian, n/(eta*K)": n / (eta * K),
    },
    "source_replay.part_g": {
        "multiplies by the segment's own F_S too (product over l' >= l)": source_own_segment,
        "multiplies the later segments' F_S in the reverse order": source_order,
        "forgets the 1/n": source_no_mean,
    },
    "source_replay.part_h": {
        "keeps every sqrt(T)-th state and the piece between two: too many states for large T": (
            replay_root
        ),
        "runs from s_0 again for every step: about T^2/2 forward steps": replay_from_start,
        "gives pull the state s_{t+1} instead of s_t": replay_one_late,
    },
    "source_replay.part_i": {
        "runs every node to its own end, not only to the first state of its last child": (
            cost_to_the_end
        ),
        "counts a first child's state separately from its parent's (one state too many a level)": (
            cost_first_child_too
        ),
        "returns the upper bounds T*ceil(log_k T) and 1 + (k-1)*ceil(log_k T) instead of counts": (
            cost_bounds
        ),
    },
}
