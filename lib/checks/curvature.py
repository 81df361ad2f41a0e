"""Exercise 02_curvature: G against H, damping, the PBRF, and what each assumption buys."""

from functools import cache

import numpy as np
import sympy as sp
import torch
from torch.func import grad, jvp, vmap
from torch.func import hessian as second_derivative
from torch.nn.functional import cross_entropy, one_hot

from lib.checks.engine import Choice, Formula, Function, Mistake, Number
from lib.counterfactuals import leave_one_out, train
from lib.influence import direct, gauss_newton, influence, pbrf
from lib.models import MLP
from lib.objective import (
    Objective,
    gradients,
    hessian,
    loss_on,
    output_jacobians,
    outputs,
)
from lib.random_problems import network_problem, stretched


def _network(rng: np.random.Generator) -> tuple:
    case = network_problem(rng)
    return case.objective, case.w


def _linearised_hessian(objective, w):
    """The Hessian at w of the summed loss of the linearised network v ↦ f_w + J (v − w)."""

    def total(v):
        def one(x_i, y_i):
            f, moved = jvp(lambda u: objective.predict(u, x_i), (w,), (v - w,))
            return objective.loss(f + moved, y_i)

        return vmap(one)(objective.x, objective.y).sum()

    return second_derivative(total)(w)


def _pieces(objective, w):
    """Gradients (n, p), Jacobians (n, c, p) and softmax probabilities (n, c), of which wrong
    formulas are made."""
    j = output_jacobians(objective, w)
    q = torch.softmax(outputs(objective, w), dim=1)
    residual = q - one_hot(objective.y, q.shape[1])
    return torch.einsum("ncp,nc->np", j, residual), j, q


def _gauss_newton(g, j, q):
    mean = torch.einsum("nc,ncp->np", q, j)
    return torch.einsum("ncp,ncq->pq", j, q[:, :, None] * j) - mean.T @ mean


def _diagonal_only(g, j, q):
    return torch.einsum("ncp,ncq->pq", j, (q * (1 - q))[:, :, None] * j)


def _empirical_fisher(g, j, q):
    return g.T @ g


def _jacobian_gram(g, j, q):
    return torch.einsum("ncp,ncq->pq", j, j)


def _made_of(matrix):
    return lambda o, w: matrix(*_pieces(o, w))


part_a = Function(
    "curvature.part_a",
    "the Gauss–Newton matrix G, summed over the examples",
    truth=_linearised_hessian,
    cases=_network,
    n=lambda args: args[0].n,
    draws=2,
    mistakes=[
        Mistake(
            "full Hessian",
            hessian,
            "This is H. G leaves out the second derivatives of the "
            "outputs: build it from their Jacobians.",
        ),
        Mistake(
            "mean",
            _made_of(lambda g, j, q: _gauss_newton(g, j, q) / len(g)),
            "Too small by exactly n: G here is a sum over examples, as H is.",
        ),
        Mistake(
            "no output Hessian",
            _made_of(_jacobian_gram),
            "JᵀJ alone is right for squared error. For "
            "cross-entropy the Hessian of the loss in the logits stands between.",
        ),
        Mistake(
            "empirical Fisher",
            _made_of(_empirical_fisher),
            "This is Σ g_i g_iᵀ, often called the empirical Fisher. "
            "G does not contain the loss's gradient at all.",
        ),
        Mistake(
            "diagonal only",
            _made_of(_diagonal_only),
            "The loss's Hessian in the logits is not diagonal: "
            "softmax makes them compete. Entries −q_c q_d are missing.",
        ),
        Mistake(
            "sign",
            _made_of(lambda *pieces: -_gauss_newton(*pieces)),
            "Sign flipped: G is positive semi-definite for a convex loss.",
        ),
    ],
    hints=[
        "For each example: the Jacobian of the logits, (c, p), and the Hessian of the loss in "
        "them, (c, c).",
        "lib.objective has output_jacobians and output_hessians; the rest is one einsum.",
        'torch.einsum("ncp,ncd,ndq->pq", J, Hy, J).',
    ],
)

_w, _x, _y = sp.symbols("w x y", real=True)
_f = sp.exp(_w * _x)

part_b = Formula(
    "curvature.part_b",
    "H − G for f = e^(wx) and squared error",
    truth=_x**2 * _f * (_f - _y),
    domain={"w": (-1, 1), "x": (-2, 2), "y": (-3, 3)},
    mistakes=[
        Mistake("G", _x**2 * _f**2, "This is G = f′². The rest of H has the residual in it."),
        Mistake("H", _x**2 * _f * (2 * _f - _y), "This is H. Subtract G = f′²."),
        Mistake(
            "sign",
            _x**2 * _f * (_y - _f),
            "Sign flipped: the derivative of ½(y − f)² in f is f − y.",
        ),
        Mistake(
            "one derivative",
            _x * _f * (_f - _y),
            "That is the gradient. H − G has the second derivative of f, which brings x².",
        ),
        Mistake(
            "no residual",
            _x**2 * _f,
            "This is f″ alone. It is weighted by the derivative of the loss in f.",
        ),
    ],
    hints=[
        "H is the second derivative of ½(y − f)² in w; G is f′².",
        "(ℓ(f))″ = ℓ″ f′² + ℓ′ f″, and ℓ′ = f − y.",
    ],
)


@cache
def critical_gap() -> float:
    """H − G at the critical point of the two-example model f = e^(wx), x = (1, 2), y = (2, 1)."""
    objective = Objective(
        lambda w, x: torch.exp(w * x),
        lambda f, y: 0.5 * ((y - f) ** 2).sum(),
        torch.tensor([[1.0], [2.0]], dtype=torch.float64),
        torch.tensor([[2.0], [1.0]], dtype=torch.float64),
    )
    w = torch.zeros(1, dtype=torch.float64)
    for _ in range(50):
        w = w - torch.linalg.solve(hessian(objective, w), gradients(objective, w).sum(0))
    assert gradients(objective, w).sum(0).abs() < 1e-10
    return float(hessian(objective, w) - gauss_newton(objective, w))


part_c = Choice(
    "curvature.part_c",
    "whether H − G vanishes at a critical point",
    truth=lambda: "no" if abs(critical_gap()) > 1e-3 else "yes",
    wrong={
        "yes": "A critical point makes Σ ℓ′f′ vanish. H − G is Σ ℓ′f″, another sum: evaluate it at "
        "the minimum of the two examples.",
    },
    hints=[
        "Part (b) gives H − G of one example. Add the two at the w where the gradient is zero.",
        "At that w the residuals are not zero, and e^(wx) bends differently for x = 1 and x = 2.",
    ],
)


def _network_and_phi(rng: np.random.Generator) -> tuple:
    case = network_problem(rng)
    return case.objective, case.w, case.phi, float(rng.uniform(0.5, 1.5))


def _with(matrix, damping=lambda n, lam: lam, factor=1.0):
    """The damped influence, times a factor, with a matrix made of the pieces (or the Hessian)."""

    def wrong(o, w, phi, lam):
        pieces = _pieces(o, w)
        g = pieces[0]
        m = matrix(o, w) if matrix is hessian else matrix(*pieces)
        damped = m + damping(len(g), lam) * torch.eye(len(w), dtype=w.dtype)
        return -factor * g @ torch.linalg.solve(damped, grad(phi)(w))

    return wrong


def _proximal_response(objective, w, beta, lam):
    """argmin of the proximal Bregman objective for every row of beta. The steps are scaled with
    (G + λI)⁻¹, which sets their pace and not where they end."""
    g, j, q = _pieces(objective, w)
    slope = q - one_hot(objective.y, q.shape[1])  # of the losses in the outputs, at w
    labels = objective.y.expand(len(beta), -1)
    scale = torch.linalg.inv(_gauss_newton(g, j, q) + lam * torch.eye(len(w), dtype=w.dtype))

    def value(v):
        f = vmap(vmap(objective.predict, (None, 0)), (0, None))(v, objective.x)
        losses = cross_entropy(f.mT, labels, reduction="none")
        stay = losses - (f * slope).sum(dim=2)  # the Bregman divergence, but for a constant
        near = 0.5 * lam * ((v - w) ** 2).sum()
        return (stay + (beta - 1) * losses).sum() + near

    v = w.expand(len(beta), -1)
    for _ in range(20):
        pull = grad(value)(v)
        v = v - pull @ scale
        if pull.abs().max() < 1e-9:
            return v
    raise AssertionError("no minimum found")


def _proximal_difference(objective, w, phi, lam):
    bump = 3e-4 * torch.eye(objective.n, dtype=w.dtype)
    moved = _proximal_response(objective, w, torch.cat([1 + bump, 1 - bump]), lam)
    up, down = vmap(phi)(moved).chunk(2)
    return (up - down) / 6e-4


part_d = Function(
    "curvature.part_d",
    "∂φ/∂β_i of the proximal Bregman response with damping λ, for every example",
    truth=_proximal_difference,
    cases=_network_and_phi,
    n=lambda args: args[0].n,
    rtol=1e-3,
    draws=2,
    mistakes=[
        Mistake(
            "removal",
            _with(_gauss_newton, factor=-1.0),
            "Sign flipped: this is for downweighting. Influence is the derivative for upweighting.",
        ),
        Mistake(
            "mean G",
            _with(lambda g, j, q: _gauss_newton(g, j, q) / len(g)),
            "G is a mean here and λ is not: the objective sums over examples, so G must.",
        ),
        Mistake(
            "damping times n",
            _with(_gauss_newton, lambda n, lam: n * lam),
            "Damped too much: λ is added to the summed G as it is, not n times.",
        ),
        Mistake(
            "Hessian",
            _with(hessian),
            "This inverts H + λI. The Bregman term has Hessian G at "
            "w*: the network's own second derivatives drop out.",
        ),
        Mistake(
            "no inverse",
            lambda o, w, phi, lam: -_pieces(o, w)[0] @ grad(phi)(w),
            "A dot product of gradients: (G + λI)⁻¹ between them is missing.",
        ),
        Mistake(
            "empirical Fisher",
            _with(_empirical_fisher),
            "This inverts Σ g_i g_iᵀ + λI. The "
            "Bregman term has Hessian G, made of Jacobians and not of gradients.",
        ),
        Mistake(
            "no output Hessian",
            _with(_jacobian_gram),
            "JᵀJ is not G for cross-entropy: the Hessian of the loss in the logits stands between.",
        ),
        Mistake(
            "half damping",
            _with(_gauss_newton, lambda n, lam: lam / 2),
            "½λ‖w − w*‖² has second derivative λ, not λ/2.",
        ),
    ],
    hints=[
        "Differentiate the optimality condition of the proximal Bregman objective in β_i.",
        "Its Hessian at w* is G + λI, whatever the checkpoint.",
        "−g_iᵀ (G + λI)⁻¹ ∇φ with G from part (a).",
    ],
)

part_e = Number(
    "curvature.part_e",
    "the multiplier (H + λI)⁻¹ in the direction of curvature −0.5 with λ = 0.3",
    truth=lambda: float(
        direct(torch.diag(torch.tensor([-0.5, 2.0])).double(), 0.3)(
            torch.tensor([1.0, 0.0]).double()
        )[0]
    ),
    mistakes=[
        Mistake(
            "size only",
            5.0,
            "Right size, wrong sign: −0.5 + 0.3 is still negative. A "
            "small λ does not cure negative curvature.",
        ),
        Mistake(
            "absolute value",
            1.25,
            "That is 1/(|−0.5| + 0.3). Damping adds to the eigenvalue, not to its size.",
        ),
        Mistake("no damping", -2.0, "That is 1/(−0.5), without damping."),
        Mistake("not inverted", -0.2, "That is the damped eigenvalue. Invert it."),
    ],
    hints=["In an eigenvector's direction H acts as a number.", "1/(−0.5 + 0.3)."],
)


@cache
def correlations() -> tuple[float, float]:
    """Damped influence against the PBRF and against leave-one-out, on a half-trained network."""
    rng = np.random.default_rng(5)
    x = stretched(rng, 24, 3)
    mlp = MLP((3, 4, 2))
    objective = mlp.objective(x, (x[:, 0] * x[:, 1] > 0).long())
    start = mlp.initial(torch.Generator().manual_seed(5))

    def training(beta):
        return train(objective, beta, start, steps=120, rate=0.5)

    w = training(torch.ones(objective.n, dtype=torch.float64))
    phi = loss_on(objective, objective.x[:1] + 0.5, objective.y[:1])
    predicted = influence(objective, w, phi, direct(gauss_newton(objective, w), 1.0))
    truths = pbrf(objective, w, phi, 1.0), -leave_one_out(training, phi, objective.n)
    return tuple(float(np.corrcoef(predicted, truth)[0, 1]) for truth in truths)


part_f = Choice(
    "curvature.part_f",
    "which ground truth damped influence agrees with better",
    truth=lambda: "pbrf" if correlations()[0] > correlations()[1] else "loo",
    wrong={
        "loo": "Retraining starts from the initial weights and need not end near w*. Run the "
        "experiment: which of the two correlations is higher?",
        "same": "Two different counterfactuals: one stays near w*, one starts over. Run the "
        "experiment and compare the correlations.",
    },
    hints=[
        "Which of the two objectives is stationary at w*, where the formula is evaluated?",
        "If influence functions are the answer, the question is the PBRF (Bae et al., 2022).",
    ],
)
