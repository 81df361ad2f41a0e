"""Correct answers to the exercises on SOURCE and REPLAY and on stages: {part id: {name: answer}}.

Derived from the questions and their hints, without a look at the reference of any part.
"""

import math
from fractions import Fraction
from functools import cache, reduce
from itertools import accumulate, pairwise

import numpy as np
import scipy.integrate
import scipy.linalg
import scipy.optimize
import scipy.special
import sympy as sp
import torch
from torch.func import grad, jacfwd, jvp, vmap

from lib import dln
from lib import replay as replay_library
from lib import source as source_library
from lib.dln import loss_influence, mode_sensitivity, mode_strength
from lib.influence import direct, parameter_influence
from lib.models import linear
from lib.objective import hessian

# --- source_replay -------------------------------------------------------------------------------

eta, K = sp.symbols("eta K", positive=True)
sigma = sp.symbols("sigma", real=True)
_t, _u, _r = sp.symbols("t u r")
_steps = sp.Symbol("K", integer=True, positive=True)
_flow = (1 - sp.exp(-eta * K * sigma)) / sigma


def _fixed_point():
    """r = 1/σ stays; the distance from it shrinks by 1 − ησ a step."""
    rest = sp.solve(sp.Eq(_r, (1 - eta * sigma) * _r + eta), _r)[0]
    return rest + (0 - rest) * (1 - eta * sigma) ** K


def _recurrence():
    k = sp.Symbol("k", integer=True)
    r = sp.Function("r")
    solved = sp.rsolve(r(k + 1) - (1 - eta * sigma) * r(k) - eta, r(k), {r(0): 0})
    return solved.subs(k, K)


def _dsolve():
    r = sp.Function("r")
    time = sp.Symbol("time")
    s = sp.Symbol("sigma", nonzero=True)
    found = sp.dsolve(r(time).diff(time) - 1 + s * r(time), ics={r(0): 0})
    return found.rhs.subs(time, eta * K)


def filter_hint(sigma, effort):
    flat = sigma == 0
    safe = torch.where(flat, 1.0, sigma)
    return torch.where(flat, effort, -torch.expm1(-effort * sigma) / safe)


def filter_exprel(sigma, effort):
    return effort * scipy.special.exprel(-effort * sigma.numpy())


def filter_loop(sigma, effort):
    return [-math.expm1(-effort * s) / s if s else effort for s in sigma.tolist()]


def filter_float32(sigma, effort):
    return filter_hint(sigma, effort).float()


def filter_sinh(sigma, effort):
    half = effort * sigma / 2
    ratio = torch.where(half.abs() < 1e-6, 1 + half**2 / 6, half.sinh() / half)
    return effort * torch.exp(-half) * ratio


def filter_taylor(sigma, effort):
    """A series where x is small, the formula where it is not."""
    out = np.empty(len(sigma))
    for k, s in enumerate(sigma.numpy()):
        x = effort * s
        if abs(x) < 0.5:
            out[k] = effort * sum((-x) ** j / math.factorial(j + 1) for j in range(18))
        else:
            out[k] = (1 - np.exp(-x)) / s
    return out


def filter_block(sigma, effort):
    """The corner of exp([[−σ, 1], [0, 0]] · effort)."""
    blocks = torch.zeros(len(sigma), 2, 2, dtype=sigma.dtype)
    blocks[:, 0, 0], blocks[:, 0, 1] = -sigma, 1
    return torch.linalg.matrix_exp(effort * blocks)[:, 0, 1]


def filter_mpmath(sigma, effort):
    with sp.core.evalf.mp.workdps(60):
        mp = sp.core.evalf.mp
        return [
            float((1 - mp.exp(-mp.mpf(effort) * mp.mpf(s))) / mp.mpf(s)) if s else effort
            for s in sigma.tolist()
        ]


def filter_library(sigma, effort):
    return source_library.response_filter(sigma, effort)


def source_hint(hessians, gradients, efforts, q):
    total = 0
    for h, g, effort in zip(
        hessians.flip(0), gradients.flip(0), torch.as_tensor(efforts).flip(0), strict=True
    ):
        values, v = torch.linalg.eigh(h)
        f = filter_hint(values, effort)
        total = total - g @ (v @ (f * (v.T @ q))) / len(g)
        q = v @ (torch.exp(-effort * values) * (v.T @ q))
    return total


def source_expm(hessians, gradients, efforts, q):
    """e^{−cH} and ∫e^{−uH}du as blocks of one exponential."""
    p, n = len(q), gradients.shape[1]
    carry, total = np.eye(p), np.zeros(n)
    for h, g, effort in reversed(list(zip(hessians, gradients, efforts, strict=True))):
        block = np.zeros((2 * p, 2 * p))
        block[:p, :p], block[:p, p:] = -h.numpy(), np.eye(p)
        whole = scipy.linalg.expm(float(effort) * block)
        total -= q.numpy() @ carry @ whole[:p, p:] @ g.numpy().T / n
        carry = carry @ whole[:p, :p]
    return total


def source_forward(hessians, gradients, efforts, q):
    """From the first segment to the last: R ← F_S R − F_r ḡ/n, for all examples."""
    response = torch.zeros(gradients.shape[2], gradients.shape[1], dtype=q.dtype)
    for h, g, effort in zip(hessians, gradients, efforts, strict=True):
        values, v = torch.linalg.eigh(h)
        keep = v @ torch.diag(torch.exp(-values * effort)) @ v.T
        add = v @ torch.diag(filter_library(values, float(effort))) @ v.T
        response = keep @ response - add @ g.T / g.shape[0]
    return q @ response


def source_flow(hessians, gradients, efforts, q):
    """The differential equation ṙ = −H r − ḡᵢ/n, integrated in a Taylor series of short steps."""
    n, p = gradients.shape[1:]
    r = np.zeros((p, n))
    for h, g, effort in zip(hessians.numpy(), gradients.numpy(), efforts.tolist(), strict=True):
        parts = 8
        for _ in range(parts):
            term = r
            for k in range(1, 14):
                term = (-h @ term - (g.T / n if k == 1 else 0)) * (effort / parts / k)
                r = r + term
    return q.numpy() @ r


def source_doubling(hessians, gradients, efforts, q):
    """F_S(2c) = F_S(c)², F_r(2c) = F_r(c)(I + F_S(c)), from a short Taylor series."""
    n, p = gradients.shape[1:]
    one = torch.eye(p, dtype=q.dtype)
    r = torch.zeros(p, n, dtype=q.dtype)
    for h, g, effort in zip(hessians, gradients, efforts, strict=True):
        x = -h * float(effort) / 2**12
        grown = float(effort) / 2**12 * reduce(lambda f, k: one + x @ f / k, range(9, 1, -1), one)
        keep = one - h @ grown
        for _ in range(12):
            grown, keep = grown + grown @ keep, keep @ keep
        r = keep @ r - grown @ g.T / n
    return r.T @ q


def source_quadrature(hessians, gradients, efforts, q):
    """F_r = ∫_0^c e^{−uH} du by Gauss and Legendre."""
    nodes, weights = np.polynomial.legendre.leggauss(12)
    total = [0.0] * gradients.shape[1]
    for k in range(len(hessians)):
        carried = q
        for later in reversed(range(k + 1, len(hessians))):
            carried = torch.linalg.matrix_exp(-efforts[later] * hessians[later]) @ carried
        c = float(efforts[k])
        times = torch.from_numpy(c / 2 * (1 + nodes))[:, None, None]
        f = torch.tensordot(
            torch.from_numpy(c / 2 * weights), torch.linalg.matrix_exp(-times * hessians[k]), 1
        )
        for i in range(len(total)):
            total[i] -= float(carried @ f @ gradients[k, i]) / len(total)
    return total


def source_svd(hessians, gradients, efforts, q):
    """The eigenbasis from numpy, in einsum, all segments at once."""
    values, v = np.linalg.eigh(hessians.numpy())
    x = np.asarray(efforts)[:, None] * values
    f = np.asarray(efforts)[:, None] * scipy.special.exprel(-x)
    responses = np.einsum("lpa,la,lqa->lpq", v, f, v)
    keeps = np.einsum("lpa,la,lqa->lpq", v, np.exp(-x), v)
    total = 0
    for k in range(len(x)):
        left = reduce(lambda m, s: s @ m, keeps[k + 1 :], np.eye(len(q)))
        total -= gradients[k].numpy() @ (left @ responses[k]).T @ q.numpy()
    return total / gradients.shape[1]


def replay_hint(run, T):
    s = run.s0
    for t in range(T):
        s = run.step(t, s)
    adjoint, total = run.end(s), 0

    def back(first, last, state):
        nonlocal adjoint, total
        if last - first == 1:
            adjoint, added = run.pull(first, state, adjoint)
            total = total + added
            return
        middle = (first + last + 1) // 2
        s = state
        for t in range(first, middle):
            s = run.step(t, s)
        back(middle, last, s)
        back(first, middle, state)

    back(0, T, run.s0)
    return total


def replay_stack(run, T):
    """An explicit stack of pieces; the root lays down its middles on the way to the end."""
    state, stack, first, last = run.s0, [], 0, T
    while last - first > 1:
        middle = (first + last + 1) // 2
        stack.append((first, middle, state))
        for t in range(first, middle):
            state = run.step(t, state)
        first = middle
    adjoint = run.end(run.step(first, state))
    adjoint, total = run.pull(first, state, adjoint)
    while stack:
        first, last, state = stack.pop()
        while last - first > 1:
            middle = (first + last + 1) // 2
            stack.append((first, middle, state))
            for t in range(first, middle):
                state = run.step(t, state)
            first = middle
        adjoint, added = run.pull(first, state, adjoint)
        total += added
    return total


def replay_halves(run, T):
    """The middle rounded down, a generator of states from last to first."""

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

    total, adjoint = 0, None
    for t, state in zip(range(T, -1, -1), walk(0, T, run.s0), strict=True):
        if adjoint is None:
            adjoint = run.end(state)
        else:
            adjoint, added = run.pull(t, state, adjoint)
            total = total + added
    return total


def replay_adjoint_passed(run, T):
    """Nothing shared: a piece takes the adjoint at its end and returns that at its start."""

    def back(state, first, last, adjoint):
        if first + 1 == last:
            if adjoint is None:
                adjoint = run.end(run.step(first, state))
            return run.pull(first, state, adjoint)
        middle = -(-(first + last) // 2)
        later = state
        for t in range(first, middle):
            later = run.step(t, later)
        adjoint, second = back(later, middle, last, adjoint)
        del later
        adjoint, rest = back(state, first, middle, adjoint)
        return adjoint, rest + second

    return back(run.s0, 0, T, None)[1]


def replay_binomial(run, T):
    """Griewank's: split so that few states and few repeats suffice."""
    keep = max(1, math.ceil(math.log2(max(T, 2))))

    @cache
    def price(length, free):
        """Steps to go back through a piece, and where to split it."""
        if length == 1:
            return 0, None
        if free == 0:
            return length * (length - 1) // 2, None
        options = (
            (at + price(length - at, free - 1)[0] + price(at, free)[0], at)
            for at in range(1, length)
        )
        return min(options)

    adjoint, total = None, None

    def pull(t, state):
        nonlocal adjoint, total
        if adjoint is None:
            adjoint = run.end(run.step(t, state))
        adjoint, added = run.pull(t, state, adjoint)
        total = added if total is None else total + added

    def back(first, length, state, free):
        at = price(length, free)[1]
        if at is None:
            for t in reversed(range(first, first + length)):
                s = state
                for early in range(first, t):
                    s = run.step(early, s)
                pull(t, s)
            return
        s = state
        for t in range(first, first + at):
            s = run.step(t, s)
        back(first + at, length - at, s, free - 1)
        s = None
        back(first, at, state, free)

    back(0, T, run.s0, keep)
    return total


def replay_library_walk(run, T):
    shelf = replay_library.Shelf()
    shelf.put(0, run.s0, T)
    adjoint, total = None, 0
    for t, state in replay_library.backwards(T, 2, run.step, shelf):
        if t == T:
            adjoint = run.end(state)
        else:
            adjoint, added = run.pull(t, state, adjoint)
            total = total + added
    return total


def cost_hint(T, k):
    def steps(m):
        if m == 1:
            return 0
        c = -(-m // k)
        starts = range(0, m, c)
        return starts[-1] + sum(steps(min(c, m - start)) for start in starts)

    def held(m):
        if m == 1:
            return 0
        c = -(-m // k)
        return max(j + held(min(c, m - start)) for j, start in enumerate(range(0, m, c)))

    if T == 1:
        return 1, 1
    c = -(-T // k)
    starts = range(0, T, c)
    return T + sum(steps(min(c, T - start)) for start in starts), 1 + held(T)


def cost_simulated(T, k):
    """The walk itself, step by step, with a set for a shelf."""
    shelf, steps, most = {0}, 0, 1

    def through(first, last, root):
        nonlocal steps, most
        if last - first == 1 and not root:
            return
        c = math.ceil(Fraction(last - first, k))
        starts = list(range(first, last, c))
        stop = last if root else starts[-1]
        for t in range(first, stop):
            steps += 1
            if t + 1 in starts:
                shelf.add(t + 1)
                most = max(most, len(shelf))
        for start in reversed(starts):
            if c > 1:
                through(start, min(start + c, last), False)
            if start != first:
                shelf.remove(start)

    through(0, T, True)
    assert shelf == {0}
    return steps, most


def cost_stack(T, k):
    """Pieces on a stack, with the number of states below them."""
    steps, most, stack = T, 1, [(T, 1)]
    last_of_root = (T - 1) // -(-T // k) * -(-T // k)
    steps -= last_of_root  # counted again below, like any node's
    while stack:
        m, below = stack.pop()
        most = max(most, below)
        if m == 1:
            continue
        c = math.ceil(m / k)
        sizes = [c] * (m // c) + ([m % c] if m % c else [])
        steps += m - sizes[-1]
        stack.extend((size, below + j) for j, size in enumerate(sizes))
    return steps, most


@cache
def _node(m, k):
    if m == 1:
        return 0, 0
    c = (m + k - 1) // k
    full, rest = divmod(m, c)
    sizes = [c] * full + [rest] * (rest > 0)
    children = [_node(size, k) for size in sizes]
    return (
        m - sizes[-1] + sum(child[0] for child in children),
        max(j + child[1] for j, child in enumerate(children)),
    )


def cost_cached(T, k):
    """The root runs its last child too."""
    c = (T + k - 1) // k
    last = T - (T - 1) // c * c
    steps, held = _node(T, k)
    return [steps + last, held + 1]


def cost_numpy(T, k):
    steps, held = cost_cached(T, k)
    return np.array([steps, held])


def cost_library(T, k):
    shelf = replay_library.Shelf()
    shelf.put(0, 0, T)
    for _ in replay_library.backwards(T, k, lambda t, s: s + 1, shelf):
        pass
    return torch.tensor([shelf.forward_steps, shelf.most_in_memory])


def cost_levels(T, k):
    """Level by level: the pieces of a size are counted, and the held states by position."""
    pieces, steps, most, root = {(T, 1): 1}, 0, 1, True
    while pieces:
        below = {}
        for (m, held), many in pieces.items():
            most = max(most, held)
            if m == 1:
                steps += many if root else 0
                continue
            c = -(-m // k)
            count = -(-m // c)
            steps += many * (m if root else (count - 1) * c)
            for j in range(count):
                child = (min(c, m - j * c), held + j)
                below[child] = below.get(child, 0) + many
        pieces, root = below, False
    return steps, most


def _ratio(x):
    return -np.expm1(-x) * (1 + x) / x


def _at_root():
    """Where the slope vanishes, e^x = 1 + x + x²."""
    x = scipy.optimize.brentq(lambda x: math.exp(x) - 1 - x - x * x, 1, 3)
    return (1 - math.exp(-x)) * (1 + x) / x


def _by_newton():
    x = 2.0
    for _ in range(30):
        x -= (math.exp(x) - 1 - x - x * x) / (math.exp(x) - 1 - 2 * x)
    return (1 + x) ** 2 / (1 + x + x * x)  # with e^{−x} = 1/(1 + x + x²)


def _largest_torch():
    sigma = torch.logspace(-4, 4, 100_001, dtype=torch.float64)
    return (filter_library(sigma, 0.3) * (sigma + 1 / 0.3)).max()


def _largest_sympy():
    x = sp.Symbol("x")
    f = (1 - sp.exp(-x)) * (1 + x) / x
    return f.subs(x, sp.nsolve(f.diff(x), x, 2))


def _recurrence_alone():
    k = sp.Symbol("k", integer=True)
    r = sp.Function("r")
    return sp.rsolve(r(k + 1) - (1 - eta * sigma) * r(k), r(k), {r(0): 1}).subs(k, K)


_affine = sp.Matrix([[1 - eta * sigma, eta], [0, 1]])  # (r, 1) → (r, 1)


def _laplace():
    p = sp.Symbol("p", positive=True)
    time, s = sp.symbols("time s", positive=True)
    found = sp.inverse_laplace_transform(1 / (p * (p + s)), p, time)
    return found.subs({s: sigma, time: eta * K})


def filter_product(sigma, effort):
    """F(c) = F(c/2)(1 + e^{−cσ/2})/… without end: a product of means of 1 and an exponential."""
    halves = effort / 2 ** torch.arange(1, 61, dtype=sigma.dtype)
    return effort * ((1 + torch.exp(-halves[:, None] * sigma)) / 2).prod(0)


def source_affine(hessians, gradients, efforts, q):
    """ṙ = −Hr − Gᵀ/n as one linear system, (r, 1) with a 1 for every example."""
    n, p = gradients.shape[1:]
    state = torch.cat([torch.zeros(p, n, dtype=q.dtype), torch.eye(n, dtype=q.dtype)])
    for h, g, effort in zip(hessians, gradients, efforts, strict=True):
        rate = torch.zeros(p + n, p + n, dtype=q.dtype)
        rate[:p, :p], rate[:p, p:] = -h, -g.T / n
        state = torch.linalg.matrix_exp(rate * effort) @ state
    return q @ state[:p]


def source_autodiff(hessians, gradients, efforts, q):
    """The displacement that all weights make together, differentiated in each of them."""
    n = gradients.shape[1]

    def moved(beta):
        w = torch.zeros_like(q)
        for h, g, effort in zip(hessians, gradients, efforts, strict=True):
            values, v = torch.linalg.eigh(h)
            along, push = v.T @ w, v.T @ (beta @ g) / n
            w = v @ (torch.exp(-values * effort) * along - filter_sinh(values, effort) * push)
        return q @ w

    return grad(moved)(torch.ones(n, dtype=q.dtype))


def source_adjoint_flow(hessians, gradients, efforts, q):
    """Back in time: ȧ = −Ha along the way back, and every push is met by −aᵀgᵢ/n."""
    p, n = len(q), gradients.shape[1]
    state = np.concatenate([q.numpy(), np.zeros(n)])
    for h, g, effort in reversed(list(zip(hessians, gradients, efforts, strict=True))):
        rate = np.zeros((p + n, p + n))
        rate[:p, :p], rate[p:, :p] = -h.numpy(), -g.numpy() / n
        flow = scipy.integrate.solve_ivp(
            lambda _, z, rate=rate: rate @ z,
            (0, float(effort)),
            state,
            method="DOP853",
            rtol=1e-11,
            atol=1e-12,
        )
        state = flow.y[:, -1]
    return state[p:]


def replay_binary(run, T):
    """To reach t, states wait where the binary digits of t are summed up so far."""
    shelf, adjoint, total = [(0, run.s0)], None, 0
    for t in reversed(range(T)):
        while shelf[-1][0] > t:
            shelf.pop()
        at, state = shelf[-1]
        while at < t:
            leap = 1 << ((t - at).bit_length() - 1)
            for early in range(at, at + leap):
                state = run.step(early, state)
            at += leap
            shelf.append((at, state))
        if adjoint is None:
            adjoint = run.end(run.step(t, state))
        adjoint, added = run.pull(t, state, adjoint)
        total = total + added
    return total


def replay_uneven(run, T):
    """Pieces of three fifths and two fifths, first laid down on the way to the end."""
    adjoint, total = None, 0

    def back(first, length, state):
        nonlocal adjoint, total
        if length == 1:
            if adjoint is None:
                adjoint = run.end(run.step(first, state))
            adjoint, added = run.pull(first, state, adjoint)
            total = total + added
            return
        leap, later = min(length - 1, (3 * length + 4) // 5), state
        for t in range(first, first + leap):
            later = run.step(t, later)
        back(first + leap, length - leap, later)
        del later
        back(first, leap, state)

    back(0, T, run.s0)
    return total


def replay_shelf(run, T):
    """A dictionary of states; whatever is past the one that is needed is thrown away."""
    shelf, pulls = {0: run.s0}, []
    adjoint = None
    for t in range(T - 1, -1, -1):
        at = max(shelf)
        while at != t:
            middle = at + (t - at + 1) // 2
            state = shelf[at]
            while at < middle:
                state, at = run.step(at, state), at + 1
            shelf[at] = state
        state = shelf.pop(t)
        adjoint = run.end(run.step(t, state)) if adjoint is None else adjoint
        adjoint, added = run.pull(t, state, adjoint)
        pulls.append(added)
    return torch.stack(pulls).sum(0)


def replay_thirds(run, T):
    """Three children a node, all but the first of whose states are kept until they are done."""
    adjoint, total = None, 0

    def back(first, last, state):
        nonlocal adjoint, total
        if last - first == 1:
            adjoint = run.end(run.step(first, state)) if adjoint is None else adjoint
            adjoint, added = run.pull(first, state, adjoint)
            total = total + added
            return
        starts = list(range(first, last, -(-(last - first) // 3)))
        kept = [state]
        for start, following in pairwise(starts):
            state = kept[-1]
            for t in range(start, following):
                state = run.step(t, state)
            kept.append(state)
        for start, end in reversed(list(pairwise([*starts, last]))):
            state = kept.pop()
            back(start, end, state)

    back(0, T, run.s0)
    return total


def cost_by_step(T, k):
    """Every step by itself: how often it is run, and what is held while it is pulled."""
    steps, most = 0, 1
    for t in range(T):
        first, size, held, root = 0, T, 1, True
        while size > 1 or root:
            piece = math.ceil(Fraction(size, k))
            last_start = first + (size - 1) // piece * piece
            steps += root or t < last_start
            if size == 1:
                break
            child = (t - first) // piece
            held += child
            size = min(piece, first + size - (first + child * piece))
            first, root = first + child * piece, False
        most = max(most, held)
    return steps, most


def cost_intervals(T, k):
    """What is run, as intervals in an array of differences; what waits, likewise."""
    runs, waiting = np.zeros(T + 1, int), np.zeros(T + 1, int)
    nodes = [(0, T)]
    runs[0], runs[T] = 1, -1
    while nodes:
        first, last = nodes.pop()
        if last - first == 1:
            continue
        c = -((first - last) // k)
        starts = np.arange(first, last, c)
        if (first, last) != (0, T):
            runs[first] += 1
            runs[starts[-1]] -= 1
        for start in starts[1:]:  # it waits while its younger siblings, and it, are gone through
            waiting[start] += 1
            waiting[last] -= 1
        nodes += [(start, min(start + c, last)) for start in starts.tolist()]
    return runs.cumsum().sum(), 1 + waiting.cumsum().max()


def cost_events(T, k):
    """The walk as a list of events: steps run, states put on the shelf (+) or taken (−)."""

    def walk(first, last, stop):
        if stop > first:
            yield stop - first, 0
        if last - first == 1:
            return
        c = (last - first + k - 1) // k
        starts = list(range(first, last, c))
        yield 0, len(starts) - 1
        for start in starts[::-1]:
            end = min(start + c, last)
            inner = (end - start + k - 1) // k
            yield from walk(start, end, start + (end - start - 1) // inner * inner)
            yield 0, -(start != first)

    steps, shelf = zip((0, 1), *walk(0, T, T), strict=True)
    return float(sum(steps)), float(max(accumulate(shelf)))


SOURCE_REPLAY = {
    "source_replay.part_a": {
        "power": (1 - eta * sigma) ** K,
        "plain symbols": (1 - sp.Symbol("eta") * sp.Symbol("sigma")) ** sp.Symbol("K"),
        "integer K": (1 - eta * sigma) ** _steps,
        "one step less": (1 - eta * sigma) ** (K - 1) * (1 - sigma * eta),
        "rate outside": eta**K * (1 / eta - sigma) ** K,
        "floats": (1.0 - 1.0 * eta * sigma) ** (1.0 * K),
        "a product": sp.Product(1 - eta * sigma, (_t, 1, K)),
        "a limit undone": (1 - (eta * K * sigma) / K) ** K,
        "recurrence": _recurrence_alone(),
        "matrix power": (_affine**K)[0, 0],
    },
    "source_replay.part_b": {
        "series": (1 - (1 - eta * sigma) ** K) / sigma,
        "fixed point": _fixed_point(),
        "recurrence": _recurrence(),
        "general m": ((1 - _u**K) / (1 - _u) * eta).subs(_u, 1 - eta * sigma),
        "expanded": 1 / sigma - (1 - eta * sigma) ** K / sigma,
        "other way round": ((1 - sigma * eta) ** K - 1) / -sigma,
        "first term apart": eta + (1 - eta * sigma - (1 - eta * sigma) ** K) / sigma,
        "floats": (1.0 - (1 - 1.0 * eta * sigma) ** K) * sigma ** (-1.0),
        "matrix power": (_affine**K)[0, 1],
        "one less what is left, undone": ((1 - eta * sigma) ** K - 1) / (1 - eta * sigma - 1) * eta,
    },
    "source_replay.part_c": {
        "solution": _flow,
        "expanded": 1 / sigma - sp.exp(-K * eta * sigma) / sigma,
        "integral": sp.integrate(sp.exp(-sigma * _u), (_u, 0, eta * K)),
        "unevaluated integral": sp.Integral(sp.exp(-sigma * (eta * K - _u)), (_u, 0, eta * K)),
        "dsolve": _dsolve(),
        "hyperbolic": 2 * sp.exp(-eta * K * sigma / 2) * sp.sinh(eta * K * sigma / 2) / sigma,
        "over the exponential": (sp.exp(eta * K * sigma) - 1) / (sigma * sp.exp(eta * K * sigma)),
        "limit of steps": sp.limit((1 - (1 - _r / _u) ** _u) / sigma, _u, sp.oo).subs(
            _r, eta * K * sigma
        ),
        "Laplace": _laplace(),
        "tanh": 2 / sigma / (1 + 1 / sp.tanh(eta * K * sigma / 2)),
    },
    "source_replay.part_d": {
        "hint": filter_hint,
        "exprel": filter_exprel,
        "loop": filter_loop,
        "float32": filter_float32,
        "sinh": filter_sinh,
        "Taylor": filter_taylor,
        "block exponential": filter_block,
        "sixty digits": filter_mpmath,
        "library": filter_library,
        "product": filter_product,
    },
    "source_replay.part_e": {
        "inverse effort": 1 / (eta * K),
        "powers": eta**-1 * K**-1,
        "limit": 1 / sp.limit(_flow, sigma, 0),
        "solved": sp.solve(sp.Eq(1 / _u, eta * K), _u)[0],
        "series": 1 / sp.series(_flow, sigma, 0, 2).removeO().subs(sigma, 0),
        "floats": 1.0 / (1.0 * eta * K),
        "limit of steps": 1 / sp.limit((1 - (1 - eta * sigma) ** K) / sigma, sigma, 0),
        "slope at zero": 1 / sp.diff(1 - sp.exp(-eta * K * sigma), sigma).subs(sigma, 0),
        "sum of the rates": 1 / sp.Sum(eta, (_t, 1, K)),
        "difference of the inverses": sp.limit(1 / _flow - sigma, sigma, 0),
    },
    "source_replay.part_f": {
        "grid": _ratio(np.linspace(1e-3, 20, 200_001)).max(),
        "root": _at_root(),
        "Newton": _by_newton(),
        "torch, in σ": _largest_torch(),
        "sympy": _largest_sympy(),
        "scipy": -scipy.optimize.minimize_scalar(
            lambda x: -_ratio(x), bounds=(0.1, 10), method="bounded"
        ).fun,
        "rounded": 1.298,
    },
    "source_replay.part_g": {
        "hint": source_hint,
        "block exponential": source_expm,
        "forward": source_forward,
        "integrated flow": source_flow,
        "doubling": source_doubling,
        "quadrature": source_quadrature,
        "all at once": source_svd,
        "affine": source_affine,
        "autodiff": source_autodiff,
        "adjoint flow": source_adjoint_flow,
    },
    "source_replay.part_h": {
        "hint": replay_hint,
        "stack": replay_stack,
        "halves": replay_halves,
        "adjoint passed": replay_adjoint_passed,
        "binomial": replay_binomial,
        "library": replay_library_walk,
        "binary digits": replay_binary,
        "uneven": replay_uneven,
        "a shelf": replay_shelf,
        "thirds": replay_thirds,
    },
    "source_replay.part_i": {
        "hint": cost_hint,
        "simulated": cost_simulated,
        "stack": cost_stack,
        "cached": cost_cached,
        "numpy": cost_numpy,
        "library": cost_library,
        "levels": cost_levels,
        "step by step": cost_by_step,
        "intervals": cost_intervals,
        "events": cost_events,
    },
    "source_replay.part_j": {
        "plain": "2 and 100",
        "capital": "2 And 100",
        "spaces": "  2  and 100 ",
        "from part (i)": " and ".join(
            str(min((2, 100), key=lambda k, which=which: cost_hint(10_000, k)[which]))
            for which in (1, 0)
        ),
        "from bounds": "{} and {}".format(
            *(
                min((2, 100), key=lambda k, f=f: f(k * 1.0, math.ceil(math.log(10_000, k) - 1e-9)))
                for f in (lambda k, d: 1 + (k - 1) * d, lambda k, d: d)
            )
        ),
    },
}

# --- dln_stagewise -------------------------------------------------------------------------------

g, s, t, tau, g0 = sp.symbols("g s t tau g0", positive=True)
s_j, s_k, E_jk, E_kj = sp.symbols("s_j s_k E_jk E_kj")
_grown = sp.exp(2 * s * t / tau)
_strength = s * _grown / (_grown - 1 + s / g0)
_q = sp.exp(-2 * s * t / tau)
_left = _q * (s / g0 - 1)


_spent = tau / (2 * s) * sp.log(g / (s - g))  # ∫ d𝒢/𝒢̇


def _rise_of_a_product():
    a, b = sp.symbols("a b", positive=True)
    slopes = b * (s - b * a) / tau, (s - b * a) * a / tau
    return (slopes[0] * b + a * slopes[1]).subs({a: sp.sqrt(g), b: sp.sqrt(g)})


def _rise_of_solution():
    """𝒢̇ of the solution, with t eliminated through e^{2st/τ} = 𝒢(s/𝒢(0) − 1)/(s − 𝒢)."""
    grown = g * (s / g0 - 1) / (s - g)
    return sp.simplify(_strength.diff(t).subs(t, tau / (2 * s) * sp.log(grown)))


def _slope_by_logarithm():
    """∂ log 𝒢/∂s times 𝒢."""
    return _strength * sp.diff(sp.log(s) - sp.log(1 + _left), s)


def _slope_by_logistic():
    """𝒢 = s · logistic(x): two factors."""
    share = 1 / (1 + _left)
    x_slope = 2 * t / tau - 1 / (s - g0)
    return share + s * share * (1 - share) * x_slope


def _slope_by_reciprocal():
    reciprocal = -1 / s**2 + _q / s**2 - 2 * t / tau * (1 / g0 - 1 / s) * _q
    return -(_strength**2) * reciprocal


def _slope_implicit():
    """From F(𝒢, s) = log(𝒢/(s − 𝒢)) − log(g0/(s − g0)) − 2st/τ = 0."""
    f = sp.log(g / (s - g)) - sp.log(g0 / (s - g0)) - 2 * s * t / tau
    return (-f.diff(s) / f.diff(g)).subs(g, _strength)


def rotations_hint(s, E):
    gap = s[None, :] ** 2 - s[:, None] ** 2
    gap.fill_diagonal_(1)
    a = (s[None, :] * E + s[:, None] * E.T) / gap
    b = -(s[None, :] * E.T + s[:, None] * E) / gap
    off = 1 - torch.eye(len(s), dtype=s.dtype)
    return torch.stack([a * off, b * off])


def rotations_loop(s, E):
    s, E = s.tolist(), E.tolist()
    a, b = ([[0.0] * len(s) for _ in s] for _ in range(2))
    for j in range(len(s)):
        for k in range(len(s)):
            if j != k:
                system = [[s[k], s[j]], [-s[j], -s[k]]]
                a[j][k], b[j][k] = np.linalg.solve(system, [E[j][k], E[k][j]])
    return [a, b]


def rotations_symmetric(s, E):
    """In U: eigenvectors of MMᵀ; in V: those of MᵀM."""

    def eigenvector_turn(change):
        gap = np.subtract.outer(s.numpy() ** 2, s.numpy() ** 2)
        with np.errstate(divide="ignore", invalid="ignore"):
            turn = change / -gap
        return np.where(gap == 0, 0, turn)

    e, d = E.numpy(), np.diag(s.numpy())
    return np.stack([eigenvector_turn(e @ d + d @ e.T), -eigenvector_turn(e.T @ d + d @ e)])


def rotations_sum(s, E):
    """(A + B)_jk comes from the skew part of E and (A − B)_jk from the symmetric one."""
    off = ~torch.eye(len(s), dtype=torch.bool)
    plus = (E - E.T) / (s[:, None] + s)
    minus = (E + E.T) / torch.where(off, s - s[:, None], torch.inf)
    return torch.stack([plus + minus, plus - minus]) / 2


def rotations_differences(s, E):
    def turned(h):
        u, _, vt = torch.linalg.svd(torch.diag(s) + h * E)
        sign = u.diagonal().sign()
        return torch.stack([u * sign, sign[:, None] * vt])

    h = 1e-3
    near, far = (turned(k * h) - turned(-k * h) for k in (1, 2))
    fine, finer = (turned(k * h) - turned(-k * h) for k in (0.5, 0.25))
    first = [(8 * a - b) / (12 * step) for a, b, step in ((near, far, h), (fine, near, h / 2))]
    last = (8 * finer - fine) / (12 * h / 4)
    better = (16 * first[1] - first[0]) / 15, (16 * last - first[1]) / 15
    return (64 * better[1] - better[0]) / 63


def rotations_jvp(s, E):
    """Through torch's SVD, whose signs are made those of the identity."""

    def frames(h):
        u, _, vt = torch.linalg.svd(torch.diag(s) + h * E)
        sign = u.diagonal().sign().detach()
        return torch.stack([u * sign, vt * sign[:, None]])

    return jacfwd(frames)(s.new_zeros(()))


def rotations_least_squares(s, E):
    """The linear system AS + D + SB = E, A and B skew, D diagonal, as it stands."""
    d = len(s)
    pairs = [(j, k) for j in range(d) for k in range(j)]
    columns = []
    for side in (0, 1):
        for j, k in pairs:
            skew = torch.zeros(d, d, dtype=s.dtype)
            skew[j, k], skew[k, j] = 1, -1
            columns.append((skew * s if side == 0 else s[:, None] * skew).reshape(-1))
    for j in range(d):
        columns.append(
            torch.zeros(d, d, dtype=s.dtype)
            .index_put((torch.tensor(j),) * 2, s.new_tensor(1.0))
            .reshape(-1)
        )
    found = torch.linalg.lstsq(torch.stack(columns, 1), E.reshape(-1, 1)).solution[:, 0]
    out = torch.zeros(2, d, d, dtype=s.dtype)
    for side in (0, 1):
        for m, (j, k) in enumerate(pairs):
            out[side, j, k] = found[side * len(pairs) + m]
            out[side, k, j] = -out[side, j, k]
    return out


def rotations_library(s, E):
    return torch.stack(dln.singular_rotations(s, E))


def response_hint(s, g, slope, E):
    run, rise = s[None] - s[:, None], g[None] - g[:, None]
    same = run == 0
    quotient = torch.where(same, slope[:, None].expand_as(E), rise / torch.where(same, 1.0, run))
    skew = (g[None] + g[:, None]) / (s[None] + s[:, None])
    return quotient * (E + E.T) / 2 + skew * (E - E.T) / 2


def response_loop(s, g, slope, E):
    d = len(s)
    out = np.zeros((d, d))
    for j in range(d):
        for k in range(d):
            if s[j] == s[k]:
                symmetric = slope[j].item()
            else:
                symmetric = ((g[j] - g[k]) / (s[j] - s[k])).item()
            skew = ((g[j] + g[k]) / (s[j] + s[k])).item()
            e, et = E[j, k].item(), E[k, j].item()
            out[j, k] = e * (symmetric + skew) / 2 + et * (symmetric - skew) / 2
    return out


def response_float32(s, g, slope, E):
    return response_hint(s, g, slope, E).float()


def response_dilation(s, g, slope, E):
    """An odd function of the symmetric matrix [[0, M], [Mᵀ, 0]], whose eigenvalues are ±s."""
    d = len(s)
    root = 0.5**0.5
    one = torch.eye(d, dtype=s.dtype)
    v = torch.cat([torch.cat([one, one]), torch.cat([one, -one])], 1) * root
    values, f, f1 = torch.cat([s, -s]), torch.cat([g, -g]), torch.cat([slope, slope])
    run, rise = values[:, None] - values, f[:, None] - f
    loewner = torch.where(run == 0, f1[:, None], rise / torch.where(run == 0, 1.0, run))
    big = torch.zeros(2 * d, 2 * d, dtype=s.dtype)
    big[:d, d:], big[d:, :d] = E, E.T
    return (v @ (loewner * (v.T @ big @ v)) @ v.T)[:d, d:]


def response_interpolated(s, g, slope, E):
    """By differences of the matrix function whose odd polynomial meets g and slope at every s."""
    s_, g_, slope_ = (a.numpy() for a in (s, g, slope))
    where = np.unique(s_, return_index=True)[1]
    s_, g_, slope_ = s_[where], g_[where], slope_[where]
    powers = np.arange(1, 4 * len(s_), 2)
    table = np.concatenate([s_[:, None] ** powers, powers * s_[:, None] ** (powers - 1.0)])
    coefficients = np.linalg.solve(table, np.concatenate([g_, slope_]))

    def odd(m):
        total, power = 0, m
        for c in coefficients:
            total, power = total + c * power, power @ m.T @ m
        return total

    return jvp(odd, (torch.diag(s),), (E,))[1]


def response_nudged(s, g, slope, E):
    """Equal values set a little apart, their strengths along the slope; then A and B."""
    s = s.clone()
    g = g.clone()
    for j in range(len(s)):
        if (s[:j] == s[j]).any():
            nudge = 1e-7 * (j + 1)
            g[j] += slope[j] * nudge
            s[j] += nudge
    a, b = rotations_sum(s, E)
    return a * g + torch.diag(slope * E.diagonal()) + g[:, None] * b


def response_library(s, g, slope, E):
    return dln.mode_response(s, g, slope, E)


def loss_hint(s, g, slope, x, y, x_q, y_q):
    residual = y_q - g * x_q
    moves = [response_hint(s, g, slope, torch.outer(b, a)) for a, b in zip(x, y, strict=True)]
    return torch.stack([-(residual @ move @ x_q) / len(x) for move in moves])


def loss_numpy(s, g, slope, x, y, x_q, y_q):
    residual = y_q - torch.diag(g) @ x_q
    out = []
    for a, b in zip(x.numpy(), y.numpy(), strict=True):
        move = response_loop(s, g, slope, torch.from_numpy(np.outer(b, a) / len(x)))
        out.append(-float(residual.numpy() @ move @ x_q.numpy()))
    return out


def loss_adjoint(s, g, slope, x, y, x_q, y_q):
    """The response is its own adjoint: one matrix −r x_qᵀ serves all examples."""
    pulled = response_hint(s, g, slope, torch.outer(g * x_q - y_q, x_q))
    return torch.einsum("jk,pj,pk->p", pulled, y, x) / x.shape[0]


def loss_autodiff(s, g, slope, x, y, x_q, y_q):
    n = len(x)

    def loss(beta):
        e = torch.einsum("p,pj,pk->jk", beta - 1, y, x) / n
        w = torch.diag(g) + response_dilation(s, g, slope, e)
        return 0.5 * (y_q - w @ x_q).square().sum()

    return grad(loss)(torch.ones(n, dtype=x.dtype))


def loss_einsum(s, g, slope, x, y, x_q, y_q):
    e = y[:, :, None] * x[:, None, :] / len(x)
    run = s - s[:, None]
    quotient = torch.where(run == 0, slope, (g - g[:, None]) / torch.where(run == 0, 1, run))
    skew = (g + g[:, None]) / (s + s[:, None])
    w = quotient * (e + e.mT) / 2 + skew * (e - e.mT) / 2
    return torch.einsum("j,pjk,k->p", g * x_q - y_q, w, x_q)


def loss_library(s, g, slope, x, y, x_q, y_q):
    moves = [dln.mode_response(s, g, slope, torch.outer(b, a)) for a, b in zip(x, y, strict=True)]
    influences = [loss_influence(torch.diag(g), m / len(x), x_q, y_q) for m in moves]
    return torch.stack(influences)


def loss_finite(s, g, slope, x, y, x_q, y_q):
    """A small step of the weight, central."""
    h = 1e-4

    def loss(move):
        return 0.5 * (y_q - (torch.diag(g) + move) @ x_q) @ (y_q - (torch.diag(g) + move) @ x_q)

    out = []
    for a, b in zip(x, y, strict=True):
        move = response_hint(s, g, slope, torch.outer(b, a) / len(x))
        out.append((loss(h * move) - loss(-h * move)) / (2 * h))
    return out


_PAIR, _DOG, _CAT = (torch.tensor(v).double() for v in ((3.0, 1.0), (1.0, 0.5), (1.0, -0.5)))


def _dog_on_cat(time):
    g, slope = (
        f(_PAIR, torch.tensor(time).double(), 0.01) for f in (mode_strength, mode_sensitivity)
    )
    y = _PAIR * torch.stack([_DOG, _DOG, _DOG, _DOG])
    return float(loss_hint(_PAIR, g, slope, y / _PAIR, y, _CAT, _PAIR * _CAT)[0])


def _turn_by_symbols():
    """g and g′ through lambdify, the response written out for two modes, bisection."""
    strength = sp.lambdify((s, t), _strength.subs({tau: 1, g0: sp.Rational(1, 100)}))
    slope = sp.lambdify((s, t), _strength.diff(s).subs({tau: 1, g0: sp.Rational(1, 100)}))

    def influence(time):
        (a, a1), (b, b1) = ((strength(v, time), slope(v, time)) for v in (3, 1))
        off = [3 * 0.5, 0.5]  # 4E_12, 4E_21
        first, second = (b - a) / (1 - 3), (a + b) / 4
        mean, half = (off[1] + off[0]) / 2, (off[0] - off[1]) / 2
        move = np.array(
            [[3 * a1, first * mean + second * half], [first * mean - second * half, 0.25 * b1]]
        )
        cat = np.array([1, -0.5])
        return -((np.array([3, 1]) - [a, b]) * cat) @ move @ cat / 4

    low, high = 0.5, 3.0
    for _ in range(60):
        middle = (low + high) / 2
        low, high = (middle, high) if influence(middle) < 0 else (low, middle)
    return low


def _turn_on_grid():
    times = np.arange(0.5, 4, 1e-3)
    values = np.array([_dog_on_cat(float(time)) for time in times])
    return times[1:][values[1:] * values[:-1] < 0][0]


def _turn_by_svd():
    """The loss of W(t) for Σ_yx + h E, each in its own basis; no response formula."""

    def loss(h, time):
        u, strengths, vt = torch.linalg.svd(torch.diag(_PAIR) + h * torch.outer(_PAIR * _DOG, _DOG))
        w = u * mode_strength(strengths, torch.tensor(time).double(), 0.01) @ vt
        return 0.5 * (_PAIR * _CAT - w @ _CAT).square().sum()

    return scipy.optimize.brentq(
        lambda time: float(loss(1e-4, time) - loss(-1e-4, time)), 0.6, 3, xtol=1e-8
    )


def late_hint(x, y, p):
    S = y.T @ x / len(x)
    return torch.outer(y[p] - S @ x[p], x[p]) / len(x)


def late_numpy(x, y, p):
    x, y = x.numpy(), y.numpy()
    S = sum(np.outer(b, a) for a, b in zip(x, y, strict=True)) / len(x)
    return np.outer(y[p] - S @ x[p], x[p]) / len(x)


def late_autodiff(x, y, p):
    def solved(weight):
        beta = torch.ones(len(x), dtype=x.dtype).index_put((torch.tensor(p),), weight)
        return torch.linalg.solve((x.T * beta) @ x, (x.T * beta) @ y).T

    return jacfwd(solved)(torch.tensor(1.0, dtype=x.dtype))


def late_two_terms(x, y, p):
    """∂(Σ_yx Σ_xx⁻¹) by the product rule."""
    n = x.shape[0]
    yx, xx = torch.einsum("ij,ik->jk", y, x) / n, x.T @ x / n
    inverse = torch.linalg.inv(xx)
    return (y[p][:, None] * x[p] / n) @ inverse - yx @ inverse @ (
        x[p][:, None] * x[p] / n
    ) @ inverse


def late_refit(x, y, p):
    """Least squares on the examples with one of them a little heavier, and lighter."""

    def fitted(extra):
        root = np.ones((len(x), 1))
        root[p] = np.sqrt(1 + extra)
        return np.linalg.lstsq(root * x.numpy(), root * y.numpy(), rcond=None)[0].T

    return (8 * (fitted(5e-3) - fitted(-5e-3)) - (fitted(1e-2) - fitted(-1e-2))) / 0.06


def late_chapter_two(x, y, p):
    """The influence function of linear regression, one output at a time."""
    solve = direct(hessian(linear(x, y[:, 0]), x[0]))  # the same for every output
    fitted = torch.linalg.lstsq(x, y).solution
    moves = [
        parameter_influence(linear(x, y[:, j]), fitted[:, j], solve)[p] for j in range(y.shape[1])
    ]
    return torch.stack(moves)


def late_leave_one_out(x, y, p):
    """From the exact effect of leaving out, times minus 1 − leverage."""
    rest = [i for i in range(len(x)) if i != p]
    w, without = (
        torch.linalg.lstsq(x[rows], y[rows]).solution.T for rows in (list(range(len(x))), rest)
    )
    return (w - without) * (1 - x[p] @ torch.linalg.inv(x.T @ x) @ x[p])


def _slope_by_tanh():
    """𝒢 = s(1 + tanh u)/2 with u = s(t − t*)/τ."""
    u = s * t / tau - sp.log(s / g0 - 1) / 2
    return (1 + sp.tanh(u)) / 2 + s / (2 * sp.cosh(u) ** 2) * (t / tau - 1 / (s - g0) / 2)


def _slope_by_variation():
    """τ dg′/dt = 2(s − 2𝒢)g′ + 2𝒢 is solved by 𝒢̇ times the integral of 1/(s − 𝒢)."""
    integral = (t + tau * (_grown - 1) / (2 * s * (s / g0 - 1))) / s
    return 2 * _strength * (s - _strength) / tau * integral


def _slope_in_three_places():
    """Each s by itself: where it ends, how fast, and how far it has to go."""
    a, b, c = sp.symbols("a b c", positive=True)
    e = sp.exp(2 * b * t / tau)
    apart = a * e / (e - 1 + c / g0)
    return sum(apart.diff(v) for v in (a, b, c)).subs({a: s, b: s, c: s})


def rotations_dilation(s, E):
    """First-order change of the eigenvectors of [[0, M], [Mᵀ, 0]], whose eigenvalues are ±s."""
    d = len(s)
    one, none = torch.eye(d, dtype=s.dtype), torch.zeros_like(E)
    vectors = torch.cat([torch.cat([one, one]), torch.cat([one, -one])], 1) * 0.5**0.5
    values = torch.cat([s, -s])
    change = torch.cat([torch.cat([none, E], 1), torch.cat([E.T, none], 1)])
    gap = values[None, :] - values[:, None]
    gap.fill_diagonal_(torch.inf)
    moved = vectors @ ((vectors.T @ change @ vectors) / gap)
    return 2**0.5 * torch.stack([moved[:d, :d], moved[d:, :d].T])


def rotations_batched(s, E):
    """The two equations of each pair, all pairs in one call."""
    d = len(s)
    first, second = s.expand(d, d), s[:, None].expand(d, d)  # s_k and s_j
    system = torch.stack([first, second, -second, -first], -1).reshape(d, d, 2, 2)
    system[range(d), range(d)] = torch.eye(2, dtype=s.dtype)
    found = torch.linalg.solve(system, torch.stack([E, E.T], -1)[..., None])[..., 0]
    return found.permute(2, 0, 1) * (1 - torch.eye(d, dtype=s.dtype))


def _draft_in_matrices():
    a = sp.Matrix([[0, E_jk / (s_k - s_j)], [E_kj / (s_j - s_k), 0]])
    diagonal = sp.diag(s_j, s_k)
    return (a * diagonal + diagonal * a.T)[0, 1]


def response_projectors(s, g, slope, E):
    """Between the spaces of the different singular values."""
    values, where = np.unique(s.numpy(), return_inverse=True)
    first = [list(where).index(a) for a in range(len(values))]
    g_, slope_, e = g.numpy()[first], slope.numpy()[first], E.numpy()
    spaces = [np.diag((where == a).astype(float)) for a in range(len(values))]
    out = np.zeros_like(e)
    for a, p in enumerate(spaces):
        for b, q in enumerate(spaces):
            rise = slope_[a] if a == b else (g_[a] - g_[b]) / (values[a] - values[b])
            mean = (g_[a] + g_[b]) / (values[a] + values[b])
            out += p @ (rise * (e + e.T) + mean * (e - e.T)) @ q / 2
    return out


def _coefficients(s, g, slope):
    """What multiplies E_jk, and what E_kj: s_k𝒢_k − s_j𝒢_j and s_j𝒢_k − s_k𝒢_j over s_k² − s_j²."""
    column, row = s[:, None], s[None]
    gap = row**2 - column**2
    same, safe = gap == 0, torch.where(gap == 0, 1, gap)
    own = torch.where(same, (slope + g / s) / 2, (row * g - column * g[:, None]) / safe)
    other = torch.where(same, (slope - g / s) / 2, (column * g - row * g[:, None]) / safe)
    return own, other


def response_two_coefficients(s, g, slope, E):
    own, other = _coefficients(s, g, slope)
    return own * E + other * E.mT


def response_divided(s, g, slope, E):
    s, g, slope, e = (a.numpy() for a in (s, g, slope, E))
    run, rise = np.subtract.outer(s, s), np.subtract.outer(g, g)
    quotient = np.divide(rise, run, out=np.diag(slope) + 0 * run, where=run != 0)
    for j, k in np.argwhere(run == 0):
        quotient[j, k] = slope[j]
    skew = np.add.outer(g, g) / np.add.outer(s, s)
    return ((quotient + skew) * e + (quotient - skew) * e.T) / 2


def loss_bilinear(s, g, slope, x, y, x_q, y_q):
    """No matrix for any example: two bilinear forms in its x and y."""
    own, other = _coefficients(s, g, slope)
    r = g * x_q - y_q
    forth = torch.einsum("pj,jk,pk->p", y * r, own, x * x_q)
    back = torch.einsum("pj,jk,pk->p", x * r, other, y * x_q)
    return (forth + back) / len(x)


def loss_forward(s, g, slope, x, y, x_q, y_q):
    """The loss's derivative along each response."""

    def loss(w):
        return (y_q - w @ x_q).square().sum() / 2

    def along(a, b):
        move = response_two_coefficients(s, g, slope, b[:, None] * a[None] / x.shape[0])
        return jvp(loss, (torch.diag(g),), (move,))[1]

    return vmap(along)(x, y)


def loss_sums(s, g, slope, x, y, x_q, y_q):
    s, g, slope, x, y, x_q, y_q = (a.tolist() for a in (s, g, slope, x, y, x_q, y_q))
    d, out = range(len(s)), []
    for a, b in zip(x, y, strict=True):
        total = 0.0
        for j in d:
            for k in d:
                rise = slope[j] if s[j] == s[k] else (g[k] - g[j]) / (s[k] - s[j])
                mean = (g[k] + g[j]) / (s[k] + s[j])
                w = rise * (b[j] * a[k] + b[k] * a[j]) + mean * (b[j] * a[k] - b[k] * a[j])
                total += (g[j] * x_q[j] - y_q[j]) * x_q[k] * w / 2
        out.append(total / len(x))
    return out


def late_descent(x, y, p):
    """The Hessian in W is the identity, so the change is minus the example's gradient over n."""

    def loss(w):
        return 0.5 * (y[p] - w @ x[p]).square().sum()

    return -grad(loss)(torch.einsum("ij,ik->jk", y, x) / len(x)) / len(x)


def late_rank_one(x, y, p):
    """Σ_xx⁻¹ by Sherman and Morrison, exactly in the weight, then its derivative."""
    n = len(x)
    S, pull, norm = y.T @ x / n, torch.outer(y[p], x[p]) / n, x[p] @ x[p] / n

    def ends(extra):
        w = S + extra * pull
        return w - torch.outer(w @ x[p], x[p]) * (extra / n / (1 + extra * norm))

    return jacfwd(ends)(x.new_zeros(()))


def late_kronecker(x, y, p):
    """(Σ_xx ⊗ I) vec W = vec Σ_yx, differentiated."""
    n, d = x.shape
    x, y = x.numpy(), y.numpy()
    big = np.kron(x.T @ x / n, np.eye(d))
    w = np.linalg.solve(big, (y.T @ x / n).flatten(order="F"))
    left = np.outer(y[p], x[p]).flatten(order="F") - np.kron(np.outer(x[p], x[p]), np.eye(d)) @ w
    return np.linalg.solve(big, left / n).reshape(d, d, order="F")


DLN_STAGEWISE = {
    "dln_stagewise.part_a": {
        "product": 2 * g * (s - g) / tau,
        "product rule": _rise_of_a_product(),
        "expanded": 2 * g * s / tau - 2 * g**2 / tau,
        "square": (s**2 / 2 - 2 * (g - s / 2) ** 2) / tau,
        "from the solution": _rise_of_solution(),
        "floats": 2.0 * (s - g) * g / tau,
        "root": 2 * sp.sqrt(g) * (s - g) * sp.sqrt(g) / tau,
        "logistic": 2 * s / tau * g * (1 - g / s),
        "potential": sp.diff((s * g**2 - 2 * g**3 / 3) / tau, g),
        "slope of the time": 1 / sp.diff(_spent, g),
    },
    "dln_stagewise.part_b": {
        "logarithm": tau / (2 * s) * sp.log(s / g0 - 1),
        "solved": sp.solve(sp.Eq(_grown, s / g0 - 1), t)[0],
        "difference of logarithms": tau * (sp.log(s - g0) - sp.log(g0)) / s / 2,
        "atanh": tau / s * sp.atanh(1 - 2 * g0 / s),
        "root": tau / s * sp.log(sp.sqrt((s - g0) / g0)),
        "time as an integral": -_spent.subs(g, g0) + _spent.subs(g, s / 2),
        "turned round": -tau / (2 * s) * sp.log(g0 / (s - g0)),
        "asinh": tau / (2 * s) * sp.asinh((s / g0 - 1) / 2 - g0 / (s - g0) / 2),
        "start apart": tau / (2 * s) * (sp.log(1 - g0 / s) - sp.log(g0 / s)),
        "solution solved": sp.solve(sp.Eq(_strength, s / 2), t)[0],
    },
    "dln_stagewise.part_c": {
        "sympy": _strength.diff(s),
        "simplified": sp.simplify(_strength.diff(s)),
        "logarithm": _slope_by_logarithm(),
        "logistic": _slope_by_logistic(),
        "reciprocal": _slope_by_reciprocal(),
        "implicit": _slope_implicit(),
        "page": 1 / (1 + _left)
        - s / (1 + _left) ** 2 * (_q / g0 - 2 * t / tau * _q * (s / g0 - 1)),
        "tanh": _slope_by_tanh(),
        "variation": _slope_by_variation(),
        "three places": _slope_in_three_places(),
    },
    "dln_stagewise.part_d": {
        "one": 1,
        "float": 1.0,
        "sympy": sp.Integer(1),
        "limit": sp.limit(
            _slope_by_reciprocal().subs({s: 3, g0: sp.Rational(1, 9), tau: 1}), t, sp.oo
        ),
        "late value": float(_strength.diff(s).subs({s: 2, g0: 0.01, tau: 1, t: 40})),
        "numpy": np.float64(1),
        "torch": torch.tensor(1.0),
        "limit of 𝒢": sp.diff(s, s),
    },
    "dln_stagewise.part_e": {
        "plain": "slope times residual",
        "capital": "Slope Times Residual",
        "spaces": " slope  times residual",
        "new line": "slope times residual\n",
        "joined": " times ".join(["slope", "residual"]),
    },
    "dln_stagewise.part_f": {
        "hint": rotations_hint,
        "loop": rotations_loop,
        "two eigenproblems": rotations_symmetric,
        "sum and difference": rotations_sum,
        "differences": rotations_differences,
        "through the SVD": rotations_jvp,
        "least squares": rotations_least_squares,
        "library": rotations_library,
        "dilation": rotations_dilation,
        "batched": rotations_batched,
    },
    "dln_stagewise.part_g": {
        "sum": E_jk / (s_k - s_j) * s_k + s_j * E_kj / (s_j - s_k),
        "one fraction": (s_k * E_jk - s_j * E_kj) / (s_k - s_j),
        "other sign": (s_j * E_kj - s_k * E_jk) / (s_j - s_k),
        "E and an error": E_jk + s_j * (E_jk - E_kj) / (s_k - s_j),
        "halves": (E_jk + E_kj) / 2 + (s_j + s_k) / (s_k - s_j) * (E_jk - E_kj) / 2,
        "expanded": sp.expand((s_k * E_jk - s_j * E_kj) / (s_k - s_j)),
        "matrices": _draft_in_matrices(),
        "determinant": sp.Matrix([[s_k, s_j], [E_kj, E_jk]]).det() / (s_k - s_j),
        "a line at zero": sp.interpolate([(s_j, E_jk), (s_k, E_kj)], t).subs(t, 0),
        "ratio": (E_jk - s_j / s_k * E_kj) / (1 - s_j / s_k),
    },
    "dln_stagewise.part_h": {
        "plain": "symmetric",
        "capital": "Symmetric",
        "upper": "SYMMETRIC",
        "spaces": "  symmetric ",
        "by trial": next(
            word
            for word, e in (("every", (2, 5)), ("skew", (2, -2)), ("symmetric", (2, 2)))
            if (3 * e[0] - 1 * e[1]) / (3 - 1) == e[0]
        ),
    },
    "dln_stagewise.part_i": {
        "hint": response_hint,
        "loop": response_loop,
        "float32": response_float32,
        "dilation": response_dilation,
        "odd polynomial": response_interpolated,
        "nudged": response_nudged,
        "library": response_library,
        "projectors": response_projectors,
        "two coefficients": response_two_coefficients,
        "divided": response_divided,
    },
    "dln_stagewise.part_j": {
        "hint": loss_hint,
        "numpy": loss_numpy,
        "adjoint": loss_adjoint,
        "autodiff": loss_autodiff,
        "einsum": loss_einsum,
        "differences": loss_finite,
        "library": loss_library,
        "bilinear": loss_bilinear,
        "forward": loss_forward,
        "sums": loss_sums,
    },
    "dln_stagewise.part_k": {
        "plain": "rotation",
        "capital": "Rotation",
        "spaces": " rotation ",
        "upper": "ROTATION",
        "new line": "rotation\n",
    },
    "dln_stagewise.part_l": {
        "symbols": _turn_by_symbols(),
        "grid": _turn_on_grid(),
        "from the loss": _turn_by_svd(),
        "brentq": scipy.optimize.brentq(_dog_on_cat, 0.5, 3),
        "three digits": round(_turn_by_symbols(), 3),
        "tensor": torch.tensor(_turn_by_symbols()),
    },
    "dln_stagewise.part_m": {
        "hint": late_hint,
        "numpy": late_numpy,
        "autodiff": late_autodiff,
        "product rule": late_two_terms,
        "refit": late_refit,
        "chapter 2": late_chapter_two,
        "leaving out": late_leave_one_out,
        "descent": late_descent,
        "rank one": late_rank_one,
        "Kronecker": late_kronecker,
    },
}
