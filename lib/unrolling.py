"""Chapter 4: the exact derivative of a training run, ∂φ(w_T(β))/∂β_i at β = 1.

First the definition, by retraining; then forward mode, which carries ∂s_t/∂β along; the explicit
products of step Jacobians; and reverse mode, which pulls ∂φ/∂s_t back through the run. All of them
return influences of shape (n,), and all agree. TracIn, at the end, leaves the Jacobians out.
"""

from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import replace

import torch
from torch import Tensor
from torch.func import hessian, jvp, vjp, vmap
from tqdm import tqdm

from lib._validate import count, indices, positive, shaped
from lib.influence import columns
from lib.objective import Objective, Observable, gradients, observable_gradient
from lib.training import SGD, Adam, Run, minibatch_loss, retrain, states, trajectory

# --- the definition ------------------------------------------------------------------------------


def by_retraining(
    run: Run,
    phi: Observable,
    which: Tensor | None = None,
    *,
    step: float = 1e-3,
    chunk: int = 64,
) -> Tensor:
    """∂φ(w_T(β))/∂β_i by retraining at β_i = 1 ± h and 1 ± 2h, for the given weights or all;
    (m,), or (m, k) for k observables.

    Four runs an example, combined so that the error is of order h⁴. No derivative enters it.
    Equation eq-unrolled.
    """
    positive("step", step)
    observable_gradient(phi, run.w0)
    which = torch.arange(run.n) if which is None else indices("which", which, run.n)
    bump = run.w0.new_zeros(len(which), run.n)
    bump[torch.arange(len(which)), which] = step

    def moved(by: float) -> Tensor:
        return vmap(phi)(retrain(run, 1 + by * bump, chunk=chunk))

    return (8 * (moved(1) - moved(-1)) - (moved(2) - moved(-2))) / (12 * step)


# --- forward mode: the response recursion --------------------------------------------------------


def responses(
    run: Run, directions: Tensor | None = None, *, progress: bool = True
) -> Iterator[tuple[Tensor, Tensor]]:
    """The joint chain (s_t, R_t) for t = 0, …, T, with R_t = ∂s_t/∂β along the given directions.

    directions: (m, n), one change of the data weights a row; the n unit vectors if not given.
    Yields states (rows, p) and responses (m, rows, p); the response of w_t is R_t[:, 0]. One step
    costs m Jacobian-vector products, and nothing is stored. Raises ValueError on divergence.
    Equation eq-response-recursion; Mlodozeniec et al. (2025).
    """
    beta = run.ones()
    if directions is None:
        directions = torch.eye(run.n, dtype=beta.dtype, device=beta.device)
    shaped("directions", directions, "m", run.n)
    response = beta.new_zeros(len(directions), run.optimizer.rows, len(run.w0))
    path = states(run, progress=progress)
    state = next(path)
    yield state, response
    for t, following in enumerate(path):

        def push(moved: Tensor, direction: Tensor, t=t, state=state) -> Tensor:
            return jvp(lambda s, b: run.step(t, s, b), (state, beta), (moved, direction))[1]

        response = vmap(push)(response, directions)
        if not torch.isfinite(response).all():
            raise ValueError(f"run: the response overflowed at step {t + 1}")
        state = following
        yield state, response


def forward_mode(
    run: Run, phi: Observable, directions: Tensor | None = None, *, progress: bool = True
) -> Tensor:
    """∂φ(w_T(β))/∂β along the given directions (m, n), or for every weight; shape (m,) or (n,),
    or (m, k) or (n, k) for k observables.

    Equations eq-response-recursion, eq-unrolled-phi.
    """
    observable_gradient(phi, run.w0)
    state, response = deque(responses(run, directions, progress=progress), maxlen=1).pop()
    return response[:, 0] @ columns(observable_gradient(phi, state[0]))


# --- explicit Jacobians --------------------------------------------------------------------------


def step_jacobian(run: Run, t: int, w: Tensor) -> Tensor:
    """J_t = I − η_t P_t Ĥ_t, shape (p, p), with Ĥ_t the Hessian of the mini-batch loss at w.

    For SGD, with or without preconditioner. Equations eq-step-jacobian, eq-preconditioned-step.
    """
    preconditioner = _matrices(run)
    count("t", t, least=0, most=run.steps - 1)
    curvature = hessian(lambda v: run.loss(run.objective, v, run.ones(), run.batches[t]))(w)
    if preconditioner is not None:
        curvature = preconditioner[t] @ curvature
    return torch.eye(len(w)).to(w) - run.rates[t] * curvature


def explicit(run: Run) -> Tensor:
    """∂w_T/∂β_i = −Σ_t (η_t/b) 1[i∈B_t] J_{(t+1):T} P_t ∇L_i(w_t), written out; shape (n, p).

    For SGD, with or without preconditioner; p² numbers a step, and p³ operations.
    Equations eq-unrolled, eq-preconditioned-unrolled; Hara et al. (2019).
    """
    preconditioner = _matrices(run)
    if run.loss is not minibatch_loss:
        raise ValueError("run: expected the loss of one weight an example; use `forward_mode`")
    path = trajectory(run)
    total = run.w0.new_zeros(run.n, len(run.w0))
    onward = torch.eye(len(run.w0)).to(run.w0)  # J_{(t+1):T}
    for t in reversed(range(run.steps)):
        batch, w = run.batches[t], path[t]
        direct = gradients(run.objective.take(batch), w)
        if preconditioner is not None:
            direct = direct @ preconditioner[t].T
        total[batch] -= run.rates[t] / len(batch) * direct @ onward.T
        onward = onward @ step_jacobian(run, t, w)
    return total


def _matrices(run: Run) -> Tensor | None:
    if not isinstance(run.optimizer, SGD):
        raise ValueError(
            f"run: expected SGD, got {type(run.optimizer).__name__}; use `frozen` or `forward_mode`"
        )
    return run.optimizer.preconditioner


def frozen(run: Run) -> Run:
    """An Adam run without momentum as preconditioned SGD, its P_t fixed to what Adam used.

    Same trajectory, another derivative: in Adam, P_t = diag 1/(√v̂_t + ϵ) itself depends on w_t and
    on β. Raises ValueError unless the optimiser is Adam with first = 0 and no weight decay.
    Equation eq-adam-neglects.
    """
    adam = run.optimizer
    if not isinstance(adam, Adam) or adam.first != 0 or adam.weight_decay != 0:
        raise ValueError("run: expected Adam with first = 0 and no weight decay")
    path = torch.stack(list(states(run)))
    t = torch.arange(1, run.steps + 1, dtype=path.dtype)
    corrected = path[1:, 2] / (1 - adam.second**t)[:, None]
    return replace(run, optimizer=SGD(torch.diag_embed(1 / (corrected.sqrt() + adam.eps))))


# --- reverse mode --------------------------------------------------------------------------------


def adjoint_at_end(phi: Observable, last: Tensor) -> Tensor:
    """A_T = ∂φ/∂s_T, shape (rows, p), or (k, rows, p): ∇φ(w_T) over zeros. Equation eq-adjoint."""
    slope = observable_gradient(phi, last[0])[..., None, :]
    return torch.nn.functional.pad(slope, (0, 0, 0, len(last) - 1))


def pull_back(
    run: Run,
    adjoint: Tensor,
    total: Tensor,
    backwards: Iterable[tuple[int, Tensor]],
) -> Iterator[tuple[int, Tensor, Tensor]]:
    """Go back one step for each state (t, s_t) given: from A_{t+1} and the influence gathered so
    far to (t, A_t, influence), of shapes (rows, p) and (n,), or (k, rows, p) and (k, n).

    A_t = A_{t+1} ∂h_t/∂s_t, and the influence gains A_{t+1} ∂h_t/∂β: vector-Jacobian products, in
    which the gradient inside h_t is differentiated too. Raises ValueError on overflow.
    Equations eq-adjoint, eq-metagradient.
    """
    for t, state in backwards:
        pull = vjp(lambda s, b, t=t: run.step(t, s, b), state, run.ones())[1]
        adjoint, direct = pull(adjoint) if adjoint.ndim == 2 else vmap(pull)(adjoint)
        total = total + direct
        if not (torch.isfinite(adjoint).all() and torch.isfinite(total).all()):
            raise ValueError(f"run: the derivative overflowed going back at step {t}")
        yield t, adjoint, total


def reverse_mode(run: Run, phi: Observable, *, progress: bool = True) -> Tensor:
    """∂φ(w_T(β))/∂β_i for every weight by a pass forward and a pass back, all T states kept; (n,),
    or (n, k) for k observables, which go back together.

    One run whatever n is. Equation eq-metagradient; Maclaurin et al. (2015). `replay.replay` gives
    the same bits from a few states.
    """
    observable_gradient(phi, run.w0)
    kept = list(states(run, progress=progress))
    adjoint = adjoint_at_end(phi, kept[-1])
    total = run.w0.new_zeros(*adjoint.shape[:-2], run.n)
    path = reversed(list(enumerate(kept[:-1])))
    bar = tqdm(path, "going back", run.steps, delay=10, disable=not progress, leave=False)
    return columns(deque(pull_back(run, adjoint, total, bar), maxlen=1).pop()[2])


# --- TracIn: the Jacobians left out --------------------------------------------------------------


def tracin(run: Run, phi: Observable) -> Tensor:
    """−Σ_t (η_t/b) 1[i∈B_t] ∇φ(w_t)ᵀ∇L_i(w_t): what the step itself does to φ; (n,) or (n, k).

    In this book's sign and scale: minus 1/b times "TracIn ideal". For SGD; other optimisers take
    other steps. Equation eq-tracin; Pruthi et al. (2020).
    """
    if not isinstance(run.optimizer, SGD) or run.optimizer.preconditioner is not None:
        raise ValueError("run: expected plain SGD; TracIn knows no other step")
    if run.loss is not minibatch_loss:
        raise ValueError("run: expected the loss of one weight an example")
    total = run.w0.new_zeros(run.n, *observable_gradient(phi, run.w0).shape[:-1])
    for t, state in enumerate(states(run)):
        if t < run.steps:
            batch = run.batches[t]
            slopes = gradients(run.objective.take(batch), state[0])
            push = columns(observable_gradient(phi, state[0]))
            total[batch] -= run.rates[t] / len(batch) * slopes @ push
    return total


def tracin_at(
    objective: Objective, checkpoints: Tensor, efforts: Tensor, phi: Observable
) -> Tensor:
    """−Σ_c (effort_c/n) ∇φ(w_c)ᵀ∇L_i(w_c) over checkpoints (C, p), shape (n,) or (n, k).

    efforts: (C,), the learning rates of the steps each checkpoint stands for, summed: in those
    steps an example is drawn with probability b/n. Equation eq-tracin; Pruthi et al. (2020).
    """
    shaped("checkpoints", checkpoints, "C", "p")
    shaped("efforts", efforts, len(checkpoints))
    total = checkpoints.new_zeros(objective.n, *observable_gradient(phi, checkpoints[0]).shape[:-1])
    for w, effort in zip(checkpoints, efforts, strict=True):
        push = columns(observable_gradient(phi, w) * (effort / objective.n))
        total -= gradients(objective, w) @ push
    return total
