"""Exercise 04_unrolling: the derivative of a training run, forward and back, and what is left out
of it by TracIn and by a preconditioner that is held fixed."""

from functools import cache

import numpy as np
import sympy as sp
import torch

from lib.checks.engine import Choice, Formula, Function, Mistake
from lib.random_problems import normal, stretched


def _no_examples(args: tuple) -> float:
    """Parts about one example know no n: no ratio with n in it is to be claimed."""
    return float("nan")


# --- random runs ---------------------------------------------------------------------------------


def _curvatures(rng: np.random.Generator, *shape: int) -> torch.Tensor:
    """Symmetric matrices that do not commute, with eigenvalues of either sign, mostly positive."""
    *lead, p = shape
    raw = rng.standard_normal((*lead, p, p))
    return torch.from_numpy((raw + raw.swapaxes(-1, -2)) / 2 + 0.8 * np.eye(p))


def _definite(rng: np.random.Generator, *shape: int) -> torch.Tensor:
    """Symmetric positive definite matrices far from the identity."""
    *lead, p = shape
    raw = rng.standard_normal((*lead, p, p))
    return torch.from_numpy(raw @ raw.swapaxes(-1, -2) / p + 0.3 * np.eye(p))


def _rates(rng: np.random.Generator, steps: int) -> torch.Tensor:
    return torch.from_numpy(rng.permutation(np.linspace(0.1, 0.6, steps)) * rng.uniform(0.8, 1.2))


def _seen(rng: np.random.Generator, steps: int) -> torch.Tensor:
    """In which steps an example takes part: in an early one and a late one, and not in all."""
    member = rng.random(steps) < 0.5
    first, never, last = rng.permutation(steps - 3)[0], steps - 3, steps - 2
    member[[0, -1]] = rng.random(2) < 0.9  # else a loop that leaves out an end would go unseen
    member[[first, never, last]] = True, False, True
    return torch.from_numpy(member)


# --- (a) one step of the response ----------------------------------------------------------------


def _one_step(rng: np.random.Generator) -> tuple:
    p, b = int(rng.integers(2, 5)), int(rng.integers(5, 9))
    member = bool(rng.random() < 0.5)
    rate = float(rng.uniform(0.2, 0.7))
    return normal(rng, p), _curvatures(rng, p), normal(rng, p), rate, b, member


def _steps_from_two_weights(response, hessian, gradient, rate, b, member):
    """An SGD step from w_t = (β_i − 1) R with β_i = 0 and 2, on quadratic losses; z_i's own has
    some curvature of its own. The step is a parabola in β_i: half the difference is its slope."""
    response, hessian, gradient = response.numpy(), hessian.numpy(), gradient.numpy()

    def after(beta):
        w = (beta - 1) * response
        own = gradient + np.outer(gradient, gradient) @ w
        return w - rate * (hessian @ w + (beta - 1) * member * own / b)

    return (after(2.0) - after(0.0)) / 2


def _step(moved=None, pushed=None):
    """A mistake in J R, from (R, Ĥ, η, b), or in the direct term, from (g, η, b, member)."""
    moved = moved or (lambda r, h, rate, b: r - rate * h @ r)
    pushed = pushed or (lambda g, rate, b, member: -member * rate / b * g)

    def wrong(response, hessian, gradient, rate, b, member):
        return moved(response, hessian, rate, b) + pushed(gradient, rate, b, member)

    return wrong


def _through_the_direct_term(response, hessian, gradient, rate, b, member):
    new = response - member * rate / b * gradient
    return new - rate * hessian @ new


def _still_when_absent(response, hessian, gradient, rate, b, member):
    if not member:
        return response
    return response - rate * hessian @ response - rate / b * gradient


def _zero_when_absent(response, hessian, gradient, rate, b, member):
    return _step()(response, hessian, gradient, rate, b, member) * member


part_a = Function(
    "unrolling.part_a",
    "∂w_{t+1}/∂β_i from ∂w_t/∂β_i",
    truth=_steps_from_two_weights,
    cases=_one_step,
    n=_no_examples,
    draws=15,  # an example that is always, or never, in the batch would hide mistakes
    mistakes=[
        Mistake(
            "direct term's sign",
            _step(pushed=lambda g, rate, b, member: member * rate / b * g),
            "The direct term's sign is flipped: more weight on z_i pushes further along −∇L_i.",
        ),
        Mistake(
            "no 1/b",
            _step(pushed=lambda g, rate, b, member: -member * rate * g),
            "The direct term lacks its 1/b: z_i is one of b examples in the step's mean.",
        ),
        Mistake(
            "J on the direct term",
            _through_the_direct_term,
            "J_t acts on the direct term too. That push happens in this very step: only later "
            "steps carry it on.",
        ),
        Mistake(
            "indicator ignored",
            _step(pushed=lambda g, rate, b, member: -rate / b * g),
            "The direct term is there even when z_i is not in the batch. Then β_i is not in the "
            "step.",
        ),
        Mistake(
            "no direct term",
            _step(pushed=lambda g, rate, b, member: 0 * g),
            "This is J_t R alone. When z_i is in the batch, β_i also acts in this step.",
        ),
        Mistake(
            "indicator upside down",
            _step(pushed=lambda g, rate, b, member: -(not member) * rate / b * g),
            "The direct term is there when z_i is not in the batch, and missing when it is.",
        ),
        Mistake(
            "still when absent",
            _still_when_absent,
            "Without z_i in the batch nothing changes here. But the step still starts from a w_t "
            "that moved: J_t R.",
        ),
        Mistake(
            "J forgotten",
            _step(moved=lambda r, h, rate, b: r),
            "The old response is carried over unchanged. ∇L is taken at a w_t that moved: "
            "J_t R, with J_t = I − ηĤ.",
        ),
        Mistake(
            "zero when absent",
            _zero_when_absent,
            "Without z_i in the batch the response is not zero: earlier steps moved w_t, and J_t "
            "carries that on.",
        ),
        Mistake(
            "direct term alone",
            _step(moved=lambda r, h, rate, b: 0 * r),
            "This is the direct term alone: what earlier steps did to w_t is forgotten.",
        ),
        Mistake(
            "change alone",
            _step(moved=lambda r, h, rate, b: -rate * h @ r),
            "This is how the response changes in the step. The old response R has to be added.",
        ),
        Mistake(
            "plus in J",
            _step(moved=lambda r, h, rate, b: r + rate * h @ r),
            "J_t = I + ηĤ here. Descent contracts where the loss is curved upwards: I − ηĤ.",
        ),
        Mistake(
            "Ĥ over b",
            _step(moved=lambda r, h, rate, b: r - rate / b * h @ r),
            "Ĥ is divided by b once more. It is the batch's mean Hessian already.",
        ),
        Mistake(
            "Ĥ times b",
            _step(moved=lambda r, h, rate, b: r - rate * b * h @ r),
            "Ĥ is multiplied by b. The step has the batch's mean in it: J_t = I − ηĤ.",
        ),
        Mistake(
            "no η in J",
            _step(moved=lambda r, h, rate, b: r - h @ r),
            "J_t lacks the step size: I − ηĤ, not I − Ĥ.",
        ),
        Mistake(
            "no η in the direct term",
            _step(pushed=lambda g, rate, b, member: -member / b * g),
            "The direct term lacks the step size: −(η/b) ∇L_i.",
        ),
        Mistake(
            "downweighting",
            lambda *case: -_step()(*case),
            "Sign flipped as a whole: the new response has J_t R with a plus, and −(η/b) ∇L_i.",
        ),
    ],
    hints=[
        "β_i reaches w_{t+1} in two ways: through w_t, and directly, if z_i is in the batch.",
        "Through w_t: (I − ηĤ) R. Directly: what multiplies β_i in the step.",
        "(I − ηĤ) R − 1[i∈B_t] (η/b) ∇L_i(w_t).",
    ],
)

# --- (b), (c) the sum over steps -----------------------------------------------------------------


def _run_case(rng: np.random.Generator) -> tuple:
    p, steps, b = int(rng.integers(2, 5)), int(rng.integers(6, 10)), int(rng.integers(11, 16))
    return (
        _curvatures(rng, steps, p),
        normal(rng, steps, p),
        _rates(rng, steps),
        _seen(rng, steps),
        b,
    )


def _preconditioned_case(rng: np.random.Generator) -> tuple:
    hessians, *rest = _run_case(rng)
    return hessians, _definite(rng, *hessians.shape[:2]), *rest


def _retrained(hessians, preconditioners, gradients, rates, member, b):
    """The run itself, twice, with β_i = 1 and 2. The batch's mean loss is quadratic, about a point
    that moves; z_i's loss is linear, so that w_T is a linear function of β_i."""
    p = gradients.shape[-1]
    centres = np.cos(np.arange(len(rates))[:, None] + np.arange(p))
    w = np.zeros((2, p))
    for t, rate in enumerate(rates.numpy()):
        slope = (w - centres[t]) @ hessians[t].numpy()
        slope[1] += member[t].item() * gradients[t].numpy() / b
        w = w - rate * slope @ preconditioners[t].numpy()
    return w[1] - w[0]


def _plain(hessians):
    return torch.eye(hessians.shape[-1], dtype=hessians.dtype).expand_as(hessians)


def _retrained_plain(hessians, gradients, rates, member, b):
    return _retrained(hessians, _plain(hessians), gradients, rates, member, b)


def _sum_of_steps(
    hessians,
    preconditioners,
    gradients,
    rates,
    member,
    b,
    *,
    jacobian=lambda rate, p, h: torch.eye(len(h), dtype=h.dtype) - rate * p @ h,
    direct=lambda rate, p, g, b: -rate / b * p @ g,
    carried=lambda t, steps: range(t + 1, steps),
    reverse=False,
    outside=None,
):
    """The sum over steps, from pieces that a mistake may change: the step's Jacobian, the direct
    term, and the steps that carry it on. `outside`: (P_t, vector) → vector, after the product."""
    steps, total = len(rates), torch.zeros_like(gradients[0])
    jacobians = [
        jacobian(rate, p, h) for rate, p, h in zip(rates, preconditioners, hessians, strict=True)
    ]
    for t in range(steps):
        if not member[t]:
            continue
        term = direct(rates[t], preconditioners[t], gradients[t], b)
        onward = list(carried(t, steps))
        for s in reversed(onward) if reverse else onward:
            term = jacobians[s] @ term
        total = total + (term if outside is None else outside(preconditioners[t], term))
    return total


def _everywhere(member):
    return torch.ones_like(member)


def _only(member, which):
    kept = torch.zeros_like(member)
    kept[torch.nonzero(member)[which]] = True
    return kept


def _alone(change=None, **options):
    """A mistake of part (b); `change` edits (gradients, rates, member) before the sum."""

    def wrong(hessians, gradients, rates, member, b):
        if change is not None:
            gradients, rates, member = change(gradients, rates, member)
        return _sum_of_steps(hessians, _plain(hessians), gradients, rates, member, b, **options)

    return wrong


def _absent_steps_skipped(hessians, gradients, rates, member, b):
    kept = member.nonzero()[:, 0]
    return _sum_of_steps(
        hessians[kept],
        _plain(hessians[kept]),
        gradients[kept],
        rates[kept],
        member[kept],
        b,
    )


def _mean_rates(gradients, rates, member):
    return gradients, rates.mean().expand_as(rates), member


def _rate_of_the_push(hessians, gradients, rates, member, b):
    total = torch.zeros_like(gradients[0])
    for t in member.nonzero()[:, 0].tolist():
        term = -rates[t] / b * gradients[t]
        for s in range(t + 1, len(rates)):
            term = term - rates[t] * hessians[s] @ term
        total = total + term
    return total


def _without(end):
    """`member` with one end of the run left out."""

    def change(gradients, rates, member):
        kept = member.clone()
        kept[end] = False
        return gradients, rates, kept

    return change


def _own_powers(hessians, gradients, rates, member, b):
    total = torch.zeros_like(gradients[0])
    for t in member.nonzero()[:, 0].tolist():
        j = torch.eye(len(total), dtype=total.dtype) - rates[t] * hessians[t]
        later = torch.linalg.matrix_power(j, len(rates) - 1 - t)
        total = total - rates[t] / b * later @ gradients[t]
    return total


def _sum_for_the_product(hessians, gradients, rates, member, b):
    each = rates[:, None, None] * hessians
    total = torch.zeros_like(gradients[0])
    for t in member.nonzero()[:, 0].tolist():
        push = -rates[t] / b * gradients[t]
        total = total + push - each[t + 1 :].sum(0) @ push
    return total


def _divided(factor):
    def wrong(hessians, gradients, rates, member, b):
        return _alone()(hessians, gradients, rates, member, b) * factor(rates, member, b)

    return wrong


part_b = Function(
    "unrolling.part_b",
    "∂w_T/∂β_i as a sum over the steps",
    truth=_retrained_plain,
    cases=_run_case,
    n=_no_examples,
    mistakes=[
        Mistake(
            "order reversed",
            _alone(reverse=True),
            "The Jacobians are multiplied in the wrong order, or the gradient from the wrong "
            "side: it stands rightmost, beside J_{t+1}, which acts first, and J_{T−1} leftmost.",
        ),
        Mistake(
            "own Jacobian too",
            _alone(carried=lambda t, steps: range(t, steps)),
            "J_{t:T} for J_{(t+1):T}: the step in which z_i pushes does not carry its own push.",
        ),
        Mistake(
            "first Jacobian missing",
            _alone(carried=lambda t, steps: range(t + 2, steps)),
            "The product starts one step late: step t + 1 already carries the push of step t on.",
        ),
        Mistake(
            "last Jacobian missing",
            _alone(carried=lambda t, steps: range(t + 1, steps - 1)),
            "The product ends one step early: J_{T−1}, of the last step, belongs to it.",
        ),
        Mistake(
            "steps before",
            _alone(carried=lambda t, steps: range(t)),
            "These are the Jacobians of the steps before t. A push at t is carried by those "
            "after it.",
        ),
        Mistake(
            "sign",
            _divided(lambda rates, member, b: -1),
            "Sign flipped: this is for taking weight from z_i. A step goes along −β_i ∇L_i.",
        ),
        Mistake(
            "no 1/b",
            _divided(lambda rates, member, b: b),
            "Too large by exactly b: z_i is one of b examples in each step's mean.",
        ),
        Mistake(
            "removal, no 1/b",
            _divided(lambda rates, member, b: -b),
            "Sign flipped, and too large by exactly b: −(η/b) ∇L_i is the push of one step.",
        ),
        Mistake(
            "1/b twice",
            _divided(lambda rates, member, b: 1 / b),
            "Too small by exactly b: is 1/b there twice?",
        ),
        Mistake(
            "no Jacobians",
            _alone(carried=lambda t, steps: []),
            "The Jacobians are dropped, as TracIn does: later steps are taken not to react to a "
            "push.",
        ),
        Mistake(
            "member ignored",
            _alone(lambda g, rates, member: (g, rates, _everywhere(member))),
            "Every step counts here, also those whose batch z_i is not in. `member` tells.",
        ),
        Mistake(
            "absent steps skipped",
            _absent_steps_skipped,
            "The steps without z_i are left out altogether. They have no push, but their J carries "
            "earlier ones on.",
        ),
        Mistake(
            "mean rate",
            _alone(_mean_rates),
            "One mean rate for all steps. Each step has its own, in its push and in its Jacobian.",
        ),
        Mistake(
            "rate of the push",
            _rate_of_the_push,
            "The Jacobians have η_t, the rate of the push, in them. J_s has the rate of its own "
            "step, η_s.",
        ),
        Mistake(
            "no η in J",
            _alone(jacobian=lambda rate, p, h: torch.eye(len(h), dtype=h.dtype) - h),
            "The Jacobians lack the step size: J_s = I − η_s Ĥ_s.",
        ),
        Mistake(
            "no η in front",
            _alone(direct=lambda rate, p, g, b: -g / b),
            "The push lacks the step size: −(η_t/b) ∇L_i(w_t).",
        ),
        Mistake(
            "plus in J",
            _alone(jacobian=lambda rate, p, h: torch.eye(len(h), dtype=h.dtype) + rate * h),
            "J_s = I + η_s Ĥ_s here. Descent contracts where the loss is curved upwards: I − ηĤ.",
        ),
        Mistake(
            "last gradient",
            _alone(lambda g, rates, member: (g[-1:].expand_as(g), rates, member)),
            "∇L_i is taken at the last step throughout. Each push has the gradient at its own w_t.",
        ),
        Mistake(
            "last visit only",
            _alone(lambda g, rates, member: (g, rates, _only(member, -1))),
            "Only the last step with z_i counts here. Each of them adds its own term.",
        ),
        Mistake(
            "first visit only",
            _alone(lambda g, rates, member: (g, rates, _only(member, 0))),
            "Only the first step with z_i counts here. Each of them adds its own term.",
        ),
        Mistake(
            "mean over steps",
            _divided(lambda rates, member, b: 1 / len(rates)),
            "Too small by exactly T: the steps' terms are added, not averaged.",
        ),
        Mistake(
            "mean over visits",
            _divided(lambda rates, member, b: 1 / int(member.sum())),
            "The terms are averaged over the steps with z_i. They add up.",
        ),
        Mistake(
            "first step forgotten",
            _alone(_without(0)),
            "The first step, t = 0, is left out. z_i may be in its batch.",
        ),
        Mistake(
            "last step forgotten",
            _alone(_without(-1)),
            "The last step, t = T − 1, is left out. No Jacobian carries its push on, but it is "
            "there.",
        ),
        Mistake(
            "indicator upside down",
            _alone(lambda g, rates, member: (g, rates, ~member)),
            "The steps without z_i are counted, and those with it are not.",
        ),
        Mistake(
            "no I in J",
            _alone(jacobian=lambda rate, p, h: -rate * h),
            "J_s = −η_s Ĥ_s here. A step adds to what is there: J_s = I − η_s Ĥ_s.",
        ),
        Mistake(
            "Ĥ over b",
            lambda hessians, gradients, rates, member, b: _alone()(
                hessians / b, gradients, rates, member, b
            ),
            "Ĥ is divided by b once more. It is the batch's mean Hessian already.",
        ),
        Mistake(
            "last Hessian",
            lambda hessians, gradients, rates, member, b: _alone()(
                hessians[-1:].expand_as(hessians), gradients, rates, member, b
            ),
            "The last Hessian is used throughout. Each J_s has the Ĥ_s of its own step.",
        ),
        Mistake(
            "own Jacobian's power",
            _own_powers,
            "J_t is raised to a power. Each later step has a Jacobian of its own, J_s.",
        ),
        Mistake(
            "sum for the product",
            _sum_for_the_product,
            "I − Σ_s η_s Ĥ_s is the product of the J_s to first order in η only. Multiply them.",
        ),
    ],
    hints=[
        "Begin with zeros and apply part (a) T times; or write the sum, and check it against that.",
        "Each step with z_i adds −(η_t/b) ∇L_i(w_t), which J_{t+1}, then … J_{T−1} carry on.",
        "Going back from t = T−1 with M = I: add −(η_t/b) M ∇L_i(w_t), and then M ← M J_t.",
    ],
)


def _with(change=None, **options):
    """A mistake of part (c); `change` edits (preconditioners, rates, member) before the sum."""

    def wrong(hessians, preconditioners, gradients, rates, member, b):
        if change is not None:
            preconditioners, rates, member = change(preconditioners, rates, member)
        return _sum_of_steps(hessians, preconditioners, gradients, rates, member, b, **options)

    return wrong


def _eye(h):
    return torch.eye(len(h), dtype=h.dtype)


part_c = Function(
    "unrolling.part_c",
    "∂w_T/∂β_i with preconditioners",
    truth=_retrained,
    cases=_preconditioned_case,
    n=_no_examples,
    mistakes=[
        Mistake(
            "Ĥ P",
            _with(jacobian=lambda rate, p, h: _eye(h) - rate * h @ p),
            "J = I − η Ĥ P here. The step multiplies the gradient by P, and the gradient's "
            "derivative is Ĥ: P Ĥ.",
        ),
        Mistake(
            "no P in the push",
            _with(direct=lambda rate, p, g, b: -rate / b * g),
            "The push lacks P_t: the step takes −(η/b) P_t β_i ∇L_i.",
        ),
        Mistake(
            "no P in J",
            _with(jacobian=lambda rate, p, h: _eye(h) - rate * h),
            "The Jacobians lack P: J_s = I − η_s P_s Ĥ_s.",
        ),
        Mistake(
            "no P",
            _with(lambda p, rates, member: (_plain(p), rates, member)),
            "This is part (b): P is missing from the push and from the Jacobians.",
        ),
        Mistake(
            "P in front",
            _with(direct=lambda rate, p, g, b: -rate / b * g, outside=lambda p, term: p @ term),
            "P_t stands left of the Jacobians. It belongs to the push: J_{(t+1):T} P_t ∇L_i.",
        ),
        Mistake(
            "P inverted",
            _with(lambda p, rates, member: (torch.linalg.inv(p), rates, member)),
            "P⁻¹ for P: the step multiplies the gradient by P, it does not solve with it.",
        ),
        Mistake(
            "P twice",
            _with(direct=lambda rate, p, g, b: -rate / b * p @ p @ g),
            "P_t multiplies the gradient twice. The step has it once.",
        ),
        Mistake(
            "last P throughout",
            _with(lambda p, rates, member: (p[-1:].expand_as(p), rates, member)),
            "The last preconditioner is used throughout. Each step has its own.",
        ),
        Mistake(
            "next P",
            _with(lambda p, rates, member: (p.roll(-1, 0), rates, member)),
            "Off by one: step t has P_t, not P_{t+1}.",
        ),
        Mistake(
            "order reversed",
            _with(reverse=True),
            "The Jacobians are multiplied in the wrong order: J_{t+1} acts first, so it stands "
            "rightmost.",
        ),
        Mistake(
            "J transposed",
            _with(jacobian=lambda rate, p, h: _eye(h) - rate * h @ p, reverse=True),
            "The product is transposed. It does not show with P = I and one step; here P Ĥ is not "
            "symmetric.",
        ),
        Mistake(
            "own Jacobian too",
            _with(carried=lambda t, steps: range(t, steps)),
            "J_{t:T} for J_{(t+1):T}: the step in which z_i pushes does not carry its own push.",
        ),
        Mistake(
            "no Jacobians",
            _with(carried=lambda t, steps: []),
            "The Jacobians are dropped: later steps are taken not to react to a push.",
        ),
        Mistake(
            "sign",
            lambda *case: -_sum_of_steps(*case),
            "Sign flipped: this is for taking weight from z_i. A step goes along −β_i P ∇L_i.",
        ),
        Mistake(
            "no 1/b",
            lambda *case: case[-1] * _sum_of_steps(*case),
            "Too large by exactly b: z_i is one of b examples in each step's mean.",
        ),
        Mistake(
            "member ignored",
            _with(lambda p, rates, member: (p, rates, _everywhere(member))),
            "Every step counts here, also those whose batch z_i is not in. `member` tells.",
        ),
        Mistake(
            "mean rate",
            _with(lambda p, rates, member: (p, rates.mean().expand_as(rates), member)),
            "One mean rate for all steps. Each step has its own, in its push and in its Jacobian.",
        ),
        Mistake(
            "plus in J",
            _with(jacobian=lambda rate, p, h: _eye(h) + rate * p @ h),
            "J_s = I + η_s P_s Ĥ_s here. A step goes down: I − η P Ĥ.",
        ),
        Mistake(
            "P before I",
            _with(jacobian=lambda rate, p, h: p @ (_eye(h) - rate * h)),
            "J = P (I − ηĤ) here. P multiplies the gradient, not w_t: I − η P Ĥ.",
        ),
        Mistake(
            "entry by entry",
            _with(jacobian=lambda rate, p, h: _eye(h) - rate * p * h),
            "P * H multiplies entry by entry. The product of matrices is P @ H.",
        ),
        Mistake(
            "diagonal of P",
            _with(lambda p, rates, member: (p * _eye(p[0]), rates, member)),
            "Of P only the diagonal is used, as if it were Adam's. Here it is a full matrix.",
        ),
    ],
    hints=[
        "P_t multiplies the whole gradient. Differentiate the step in w_t, and in β_i.",
        "In w_t: J_t = I − η_t P_t Ĥ_t. In β_i: −(η_t/b) P_t ∇L_i(w_t).",
        "Part (b) with these two; take care that P Ĥ is not symmetric.",
    ],
)

# --- (d) back through the run --------------------------------------------------------------------


def _backward_case(rng: np.random.Generator) -> tuple:
    p, n, steps = int(rng.integers(2, 5)), int(rng.integers(7, 10)), int(rng.integers(10, 13))
    b = int(rng.choice([5, 6]))
    member = torch.zeros(steps, n, dtype=torch.bool)
    for row in member:
        row[rng.choice(n, b, replace=False)] = True
    curvatures, slopes = _curvatures(rng, steps, p), normal(rng, steps, n, p)
    return curvatures, slopes, member, _rates(rng, steps), b, normal(rng, p)


def _forward(hessians, gradients, member, rates, b, q):
    """n + 1 runs at once, one of them with all weights 1, the others with one weight at 2."""
    n, p = gradients.shape[1:]
    w = np.zeros((n + 1, p))
    for t, rate in enumerate(rates.numpy()):
        slope = (w - np.cos(t + np.arange(p))) @ hessians[t].numpy()
        slope[1:] += member[t].numpy()[:, None] * gradients[t].numpy() / b
        w = w - rate * slope
    return (w[1:] - w[0]) @ q.numpy()


def _back(
    *,
    order=reversed,
    before=lambda a, h, rate, b: a,
    after=lambda a, h, rate, b: a - rate * h @ a,
    gained=lambda a, g, seen, rate, b: -rate / b * seen * (g @ a),
    steps=lambda steps: range(steps),
):
    """Reverse mode in pieces that a mistake may change: the adjoint before and after the direct
    term is collected, what is gained, and which steps are taken in which order."""

    def wrong(hessians, gradients, member, rates, b, q):
        adjoint, total = q, torch.zeros(gradients.shape[1], dtype=q.dtype)
        for t in order(steps(len(rates))):
            adjoint = before(adjoint, hessians[t], rates[t], b)
            total = total + gained(adjoint, gradients[t], member[t], rates[t], b)
            adjoint = after(adjoint, hessians[t], rates[t], b)
        return total

    return wrong


def _moved(a, h, rate, b):
    return a - rate * h @ a


def _left(a, h, rate, b):
    return a


def _after(factor):
    def wrong(hessians, gradients, member, rates, b, q):
        total = _back()(hessians, gradients, member, rates, b, q)
        return factor(len(rates), gradients.shape[1], b) * total

    return wrong


part_d = Function(
    "unrolling.part_d",
    "∂φ(w_T)/∂β_i of every example, by reverse mode",
    truth=_forward,
    cases=_backward_case,
    n=lambda args: args[1].shape[1],
    mistakes=[
        Mistake(
            "adjoint moved first",
            _back(before=_moved, after=_left),
            "The adjoint goes back over step t before z_i's push of that step is collected: that "
            "push meets A_{t+1}, not A_t.",
        ),
        Mistake(
            "sign",
            _after(lambda steps, n, b: -1),
            "Sign flipped: a step goes along −(η/b) β_i ∇L_i.",
        ),
        Mistake(
            "no 1/b",
            _after(lambda steps, n, b: b),
            "Too large by exactly b: z_i is one of b examples in each step's mean.",
        ),
        Mistake(
            "removal, no 1/b",
            _after(lambda steps, n, b: -b),
            "Sign flipped, and too large by exactly b: −(η/b) ∇L_i is the push of one step.",
        ),
        Mistake(
            "1/n for 1/b",
            _after(lambda steps, n, b: b / n),
            "1/n for 1/b: the mean of a step is over its batch.",
        ),
        Mistake(
            "mean over steps",
            _after(lambda steps, n, b: 1 / steps),
            "Too small by exactly T: the steps' gains are added, not averaged.",
        ),
        Mistake(
            "forwards",
            _back(order=iter),
            "The steps are gone through from the first to the last. ∇φ is known at the end: go "
            "back.",
        ),
        Mistake(
            "adjoint never moved",
            _back(after=_left),
            "∇φ(w_T) meets every push, as if no later step reacted to it. Carry it back with J_t.",
        ),
        Mistake(
            "plus in J",
            _back(after=lambda a, h, rate, b: a + rate * h @ a),
            "J_t = I + ηĤ here. Descent contracts where the loss is curved upwards: I − ηĤ.",
        ),
        Mistake(
            "no η in J",
            _back(after=lambda a, h, rate, b: a - h @ a),
            "The adjoint goes back with I − Ĥ: J_t = I − η_t Ĥ_t.",
        ),
        Mistake(
            "Ĥ over b",
            _back(after=lambda a, h, rate, b: a - rate / b * h @ a),
            "Ĥ is divided by b once more. It is the batch's mean Hessian already.",
        ),
        Mistake(
            "no I in J",
            _back(after=lambda a, h, rate, b: -rate * h @ a),
            "The adjoint goes back with −ηĤ alone: J_t = I − η_t Ĥ_t.",
        ),
        Mistake(
            "no η in the gain",
            _back(gained=lambda a, g, seen, rate, b: -1 / b * seen * (g @ a)),
            "The gain lacks the step size: −(η_t/b) A·∇L_i.",
        ),
        Mistake(
            "member ignored",
            _back(gained=lambda a, g, seen, rate, b: -rate / b * (g @ a)),
            "All examples gain in every step here. Those outside the batch gain nothing.",
        ),
        Mistake(
            "first step forgotten",
            _back(steps=lambda steps: range(1, steps)),
            "The loop ends before step 0: range(T − 1, 0, −1) does not reach it.",
        ),
        Mistake(
            "last step forgotten",
            _back(steps=lambda steps: range(steps - 1)),
            "The loop begins one step early: the last step is t = T − 1, and its push meets "
            "∇φ(w_T) itself.",
        ),
        Mistake(
            "last step only",
            _back(steps=lambda steps: range(steps - 1, steps)),
            "Only the last step is collected. Go back to t = 0 and add up.",
        ),
        Mistake(
            "q in place of the adjoint in J",
            lambda hessians, gradients, member, rates, b, q: _back(
                after=lambda a, h, rate, b: a - rate * h @ q
            )(hessians, gradients, member, rates, b, q),
            "J_t is applied to ∇φ(w_T) at each step. It acts on the adjoint as it has become.",
        ),
        Mistake(
            "last gradients",
            lambda hessians, gradients, *rest: _back()(
                hessians, gradients[-1:].expand_as(gradients), *rest
            ),
            "The gradients of the last step are used throughout. Each push has those at its w_t.",
        ),
        Mistake(
            "last Hessian",
            lambda hessians, *rest: _back()(hessians[-1:].expand_as(hessians), *rest),
            "The last Hessian is used throughout. J_t has the Ĥ_t of its own step.",
        ),
        Mistake(
            "Ĥ times b",
            _back(after=lambda a, h, rate, b: a - rate * b * h @ a),
            "Ĥ is multiplied by b. The step has the batch's mean in it: J_t = I − ηĤ.",
        ),
    ],
    hints=[
        "The adjoint is q at the end. What does step t gain with it, and how does it go back?",
        "Step t adds −(η_t/b) A·∇L_i(w_t) to those in its batch, and then A ← J_t A.",
        "for t in reversed(range(T)): first total -= rate/b * member[t] * (gradients[t] @ A), "
        "then A = A - rate * hessians[t] @ A.",
    ],
)

# --- (e), (f) Adam -------------------------------------------------------------------------------

_eta, _mu2, _eps, _v0, _g1, _g2, _beta = sp.symbols("eta mu2 eps v0 g1 g2 beta", positive=True)
_g = _g1 + _g2
_v = _mu2 * _v0 + (1 - _mu2) * _g**2
_root = sp.sqrt(_v)
_frozen = -_eta * _g1 / (_root + _eps)
_through_v = _eta * (1 - _mu2) * _g**2 * _g1 / (_root * (_root + _eps) ** 2)


def _adam_slope() -> sp.Expr:
    """∂w′/∂β at β = 1, by sympy from the step itself."""
    g = _beta * _g1 + _g2
    move = -_eta * g / (sp.sqrt(_mu2 * _v0 + (1 - _mu2) * g**2) + _eps)
    return sp.diff(move, _beta).subs(_beta, 1)


_adam_domain = {
    "eta": (0.1, 0.9),
    "g1": (-2, 2),
    "g2": (-3, 3),
    "mu2": (0.1, 0.9),
    "v0": (0.3, 2),
    "eps": (0.1, 0.6),
}

part_e = Formula(
    "unrolling.part_e",
    "∂w′/∂β at β = 1 for a step of Adam without momentum",
    truth=_adam_slope(),
    domain=_adam_domain,
    mistakes=[
        Mistake(
            "v held fixed",
            _frozen,
            "v is held fixed here. It has g² in it, and g has β: differentiate it too.",
        ),
        Mistake(
            "through v alone",
            _through_v,
            "This is the share through v alone. The g above has β in it as well.",
        ),
        Mistake(
            "sign",
            -_frozen - _through_v,
            "Sign flipped: Adam goes along −g/(√v + ϵ).",
        ),
        Mistake(
            "derivative in g",
            (_frozen + _through_v) / _g1,
            "This is the derivative in g. g = βg₁ + g₂, so the chain rule brings another g₁.",
        ),
        Mistake(
            "quotient rule's sign",
            _frozen - _through_v,
            "The share through v has the wrong sign: a larger v shortens the step.",
        ),
        Mistake(
            "root's half",
            _frozen + 2 * _through_v,
            "∂√v = ∂v/(2√v), and ∂v = 2(1 − μ₂) g g₁: one of the two 2s is missing.",
        ),
        Mistake(
            "both halves",
            _frozen + _through_v / 2,
            "The 2 of g² is lost: ∂v/∂β = 2(1 − μ₂) g g₁.",
        ),
        Mistake(
            "no 1 − μ₂",
            _frozen + _through_v / (1 - _mu2),
            "∂v/∂β lacks 1 − μ₂: only this step's share of v has β in it.",
        ),
        Mistake(
            "μ₂ for 1 − μ₂",
            _frozen + _through_v * _mu2 / (1 - _mu2),
            "∂v/∂β has μ₂ in it. The weight of the new g² is 1 − μ₂; v₀ does not depend on β.",
        ),
        Mistake(
            "no root",
            _frozen + 2 * _through_v * _root,
            "√ is forgotten in the chain: ∂√v/∂β = ∂v/∂β / (2√v).",
        ),
        Mistake(
            "both gradients",
            _frozen * _g / _g1 + _through_v * _g / _g1,
            "This is the derivative when all of g is weighted. Only g₁ has β: ∂g/∂β = g₁.",
        ),
        Mistake(
            "g above",
            -_eta * _g / (_root + _eps) + _through_v,
            "∂g/∂β = g₁, in the share of the numerator too.",
        ),
        Mistake(
            "g₁ squared",
            _frozen + _through_v * _g1 / _g,
            "In v stands the square of the whole gradient: ∂(g²)/∂β = 2 g g₁.",
        ),
        Mistake(
            "denominator not squared",
            _frozen + _through_v * (_root + _eps),
            "The quotient rule squares the denominator: (√v + ϵ)².",
        ),
        Mistake(
            "no ϵ",
            (_frozen + _through_v).subs(_eps, 0),
            "Right for ϵ → 0. Keep ϵ.",
        ),
        Mistake(
            "ϵ under the root",
            -_eta * _g1 * (_mu2 * _v0 + _eps) / (_v + _eps) ** sp.Rational(3, 2),
            "ϵ stands under the root here. In this step it is added to the root: √v + ϵ.",
        ),
        Mistake(
            "no η",
            _frozen / _eta + _through_v / _eta,
            "The step size η is missing.",
        ),
    ],
    hints=[
        "β is in g, and g is in v as well: the quotient rule has two terms.",
        "∂g/∂β = g₁, and ∂√v/∂β = (1 − μ₂) g g₁ / √v.",
        "−η [g₁/(√v + ϵ) − g (1 − μ₂) g g₁ / (√v (√v + ϵ)²)], with g = g₁ + g₂.",
    ],
)

part_f = Formula(
    "unrolling.part_f",
    "what holding P fixed leaves out of ∂w′/∂β",
    truth=_adam_slope() - _frozen,
    domain=_adam_domain,
    mistakes=[
        Mistake(
            "whole derivative",
            _frozen + _through_v,
            "This is the whole derivative, part (e). Take −η P g₁ away from it.",
        ),
        Mistake(
            "what is kept",
            _frozen,
            "This is what is kept, −η P g₁. What is left out is the rest of part (e).",
        ),
        Mistake(
            "no g",
            _through_v / _g,
            "A factor g is missing: P stands before g, and ∂v/∂β has a g of its own.",
        ),
        Mistake(
            "sign",
            -_through_v,
            "Sign flipped: exact minus fixed. A larger g₁² shortens the step, against −η P g₁.",
        ),
        Mistake(
            "root's half",
            2 * _through_v,
            "Twice the answer: ∂√v = ∂v/(2√v), and ∂v = 2(1 − μ₂) g g₁.",
        ),
        Mistake(
            "both halves",
            _through_v / 2,
            "Half the answer: the 2 of g² is lost, ∂v/∂β = 2(1 − μ₂) g g₁.",
        ),
        Mistake(
            "no 1 − μ₂",
            _through_v / (1 - _mu2),
            "∂v/∂β lacks 1 − μ₂: only this step's share of v has β in it.",
        ),
        Mistake(
            "μ₂ for 1 − μ₂",
            _through_v * _mu2 / (1 - _mu2),
            "∂v/∂β has μ₂ in it. The weight of the new g² is 1 − μ₂; v₀ does not depend on β.",
        ),
        Mistake(
            "g₁ squared",
            _through_v * _g1 / _g,
            "One g is missing: ∂(g²)/∂β = 2 g g₁, and the step multiplies ∂P/∂β by g.",
        ),
        Mistake(
            "both gradients",
            _through_v * _g / _g1,
            "This is for when all of g is weighted. Only g₁ has β: ∂g/∂β = g₁.",
        ),
        Mistake(
            "∂P alone",
            -_through_v / (_eta * _g),
            "This is ∂P/∂β. It enters the step as −η (∂P/∂β) g.",
        ),
        Mistake(
            "denominator not squared",
            _through_v * (_root + _eps),
            "∂(1/(√v + ϵ)) has the square of √v + ϵ below.",
        ),
        Mistake(
            "no root",
            2 * _through_v * _root,
            "√ is forgotten in the chain: ∂√v/∂β = ∂v/∂β / (2√v).",
        ),
        Mistake(
            "no ϵ",
            _through_v.subs(_eps, 0),
            "Right for ϵ → 0. Keep ϵ.",
        ),
        Mistake(
            "no η",
            _through_v / _eta,
            "The step size η is missing.",
        ),
        Mistake(
            "zero",
            sp.Integer(0),
            "Nothing is left out only if v does not depend on β. It has g² in it.",
        ),
    ],
    hints=[
        "With P fixed the derivative is −η P g₁. Subtract that from part (e).",
        "−η (∂P/∂β) g, with ∂P/∂β = −(∂√v/∂β)/(√v + ϵ)².",
    ],
)

# --- (g) all weights at once ---------------------------------------------------------------------


def _adam(scale: float, steps: int = 40, eps: float = 1e-12) -> np.ndarray:
    """w_T of Adam without weight decay on a small regression, all data weights equal to `scale`."""
    rng = np.random.default_rng(4)
    x, y = stretched(rng, 12, 3).numpy(), rng.standard_normal(12)
    w, m, v = np.zeros(3), np.zeros(3), np.zeros(3)
    for t in range(steps):
        g = scale * (x @ w - y) @ x / len(x)
        m, v = 0.9 * m + 0.1 * g, 0.99 * v + 0.01 * g**2
        ahead = m / (1 - 0.9 ** (t + 1)) / (np.sqrt(v / (1 - 0.99 ** (t + 1))) + eps)
        w = w - 0.05 * ahead
    return w


@cache
def weights_scaled() -> dict[float, float]:
    """How far Adam's w_T moves, relative to its length, when all weights are c; by c."""
    once = _adam(1.0)
    return {
        c: float(np.linalg.norm(_adam(c) - once) / np.linalg.norm(once)) for c in (0.5, 0.99, 3.0)
    }


def _scaled() -> str:
    moved = weights_scaled()
    same = max(moved.values()) < 1e-6
    flat = moved[0.99] / 0.01 < 1e-6  # the derivative along (1, …, 1)
    return f"w_t {'stays' if same else 'changes'}, the sum is {'zero' if flat else 'not zero'}"


part_g = Choice(
    "unrolling.part_g",
    "what c times all weights does to Adam's w_T, and the sum of all influences",
    truth=_scaled,
    wrong={
        "w_t changes, the sum is not zero": "That is SGD, where c times the weights are c times "
        "the step. What becomes of m̂/√v̂ when every gradient is multiplied by c?",
        "w_t stays, the sum is not zero": "Σ_i ∂φ/∂β_i is the derivative of φ(w_T) in c, at c = 1. "
        "If w_T does not depend on c, what is that derivative?",
        "w_t changes, the sum is zero": "If w_T changed with c, some φ would change with it, and "
        "Σ_i ∂φ/∂β_i is that change. What does c do to m̂ and to √v̂?",
    },
    hints=[
        "All gradients are multiplied by c. By what are m̂ and v̂ multiplied?",
        "m̂/√v̂ stays. And d/dc of φ(w_T(c, …, c)) at c = 1 is Σ_i ∂φ/∂β_i.",
    ],
)

# --- (h) TracIn ----------------------------------------------------------------------------------


def _tracin_case(rng: np.random.Generator) -> tuple:
    _, gradients, member, rates, b, _ = _backward_case(rng)
    steps, _, p = gradients.shape
    return gradients, normal(rng, steps, p), member, rates, b


def _along_the_tangents(gradients, phi_slopes, member, rates, b):
    """φ is replaced by its tangent at every w_t. How much more does the step change that tangent
    when z_i has weight 2 than when it has weight 1? The batch's other steps cancel."""
    n = gradients.shape[1]
    gained = []
    for i in range(n):
        beta = np.ones(n)
        rise = []
        for weight in (1.0, 2.0):
            beta[i] = weight
            kept = beta * member.numpy()  # (T, n)
            mean = np.einsum("tn,tnp->tp", kept, gradients.numpy()) / b
            rise.append(np.vdot(phi_slopes.numpy(), -rates.numpy()[:, None] * mean))
        gained.append(rise[1] - rise[0])
    return gained


def _traced(*, slopes=lambda s: s, seen=lambda m: m, rate=lambda r: r, scale=None):
    """TracIn in pieces: the slopes of φ, the indicator, the rates, and a factor of (T, n, b)."""
    scale = scale or (lambda steps, n, b: -1 / b)

    def wrong(gradients, phi_slopes, member, rates, b):
        steps, n, _ = gradients.shape
        each = (gradients * slopes(phi_slopes)[:, None]).sum(-1)
        total = (rate(rates)[:, None] * seen(member) * each).sum(0)
        return scale(steps, n, b) * total

    return wrong


def _cosine(gradients, phi_slopes, member, rates, b):
    unit = torch.nn.functional.normalize
    return _traced()(unit(gradients, dim=-1), unit(phi_slopes, dim=-1), member, rates, b)


part_h = Function(
    "unrolling.part_h",
    "TracIn of every example, in this book's sign and scale",
    truth=_along_the_tangents,
    cases=_tracin_case,
    n=lambda args: args[0].shape[1],
    mistakes=[
        Mistake(
            "literature's sign",
            _traced(scale=lambda steps, n, b: 1 / b),
            "This is positive where z_i lowered φ, as in the literature. Here influence is the "
            "derivative for upweighting.",
        ),
        Mistake(
            "literature's sign and scale",
            _traced(scale=lambda steps, n, b: 1),
            "This is the literature's TracIn. In this book's convention it has a minus and 1/b.",
        ),
        Mistake(
            "no 1/b",
            _traced(scale=lambda steps, n, b: -1),
            "Too large by exactly b: z_i is one of b examples in each step's mean.",
        ),
        Mistake(
            "1/n for 1/b",
            _traced(scale=lambda steps, n, b: -1 / n),
            "1/n for 1/b: the mean of a step is over its batch.",
        ),
        Mistake(
            "∇φ at the end",
            _traced(slopes=lambda s: s[-1:]),
            "∇φ is taken at the last of the w_t throughout. TracIn takes it where the step is "
            "taken: phi_slopes[t].",
        ),
        Mistake(
            "∇φ at the start",
            _traced(slopes=lambda s: s[:1]),
            "∇φ is taken at w_0 throughout. TracIn takes it where the step is taken: "
            "phi_slopes[t].",
        ),
        Mistake(
            "next ∇φ",
            _traced(slopes=lambda s: s.roll(-1, 0)),
            "Off by one: step t has ∇φ(w_t), at the start of the step.",
        ),
        Mistake(
            "mean ∇φ",
            _traced(slopes=lambda s: s.mean(0, keepdim=True)),
            "One mean ∇φ for all steps. Each step has its own.",
        ),
        Mistake(
            "member ignored",
            _traced(seen=torch.ones_like),
            "All examples count in every step here. Those outside the batch took no part in it.",
        ),
        Mistake(
            "b/n for the indicator",
            _traced(seen=torch.ones_like, scale=lambda steps, n, b: -1 / n),
            "The indicator is replaced by its mean b/n, as is done with a few checkpoints. Here "
            "`member` is known.",
        ),
        Mistake(
            "no rates",
            _traced(rate=torch.ones_like),
            "The rates are missing: a longer step has the larger effect.",
        ),
        Mistake(
            "mean rate",
            _traced(rate=lambda r: r.mean().expand_as(r)),
            "One mean rate for all steps. Each step has its own.",
        ),
        Mistake(
            "mean over steps",
            _traced(scale=lambda steps, n, b: -1 / (b * steps)),
            "Too small by exactly T: the steps are added, not averaged.",
        ),
        Mistake(
            "cosines",
            _cosine,
            "These are cosines. The lengths of ∇φ and ∇L_i belong to the effect of a step.",
        ),
        Mistake(
            "last step only",
            lambda gradients, phi_slopes, member, rates, b: _traced()(
                gradients[-1:], phi_slopes[-1:], member[-1:], rates[-1:], b
            ),
            "Only the last step is counted. Add up all T of them.",
        ),
        Mistake(
            "last gradients",
            lambda gradients, *rest: _traced()(gradients[-1:].expand_as(gradients), *rest),
            "The gradients of the last step are used throughout. Each step has ∇L_i at its own "
            "w_t.",
        ),
        Mistake(
            "mean over visits",
            lambda gradients, phi_slopes, member, rates, b: (
                _traced()(gradients, phi_slopes, member, rates, b) / member.sum(0).clamp(min=1)
            ),
            "The terms are averaged over the steps with z_i. They add up.",
        ),
        Mistake(
            "last step forgotten",
            lambda gradients, phi_slopes, member, rates, b: _traced()(
                gradients[:-1], phi_slopes[:-1], member[:-1], rates[:-1], b
            ),
            "The last step, t = T − 1, is left out: range(T) goes up to it.",
        ),
    ],
    hints=[
        "A step with z_i moves w_t by −(η_t/b) β_i ∇L_i(w_t). What does φ's tangent at w_t make "
        "of that?",
        "Its derivative in β_i is −(η_t/b) ∇φ(w_t)·∇L_i(w_t). Add up the steps with z_i.",
    ],
)

# --- (i) early or late ---------------------------------------------------------------------------


@cache
def seen_once(steps: int = 20, rate: float = 0.4) -> dict[str, dict[str, float]]:
    """|∂w_T/∂β_i| along a direction of curvature 1 and a flat one, for an example of gradient
    (1, 1) that is in the first batch alone, or in the last alone: from pairs of runs."""
    curvature, moved = np.array([1.0, 0.0]), {}
    for name, when in (("first", 0), ("last", steps - 1)):
        ends = []
        for beta in (1.0, 2.0):
            w = np.array([0.7, -0.3])
            for t in range(steps):
                w = w - rate * (curvature * w + beta * (t == when))
            ends.append(w)
        moved[name] = dict(zip(("curved", "flat"), np.abs(ends[1] - ends[0]).tolist(), strict=True))
    return moved


def _early_or_late() -> str:
    first, last = seen_once().values()

    def more(along):
        if abs(first[along] - last[along]) < 1e-3 * last[along]:
            return "same"
        return "first" if first[along] > last[along] else "last"

    return f"curved: {more('curved')}, flat: {more('flat')}"


part_i = Choice(
    "unrolling.part_i",
    "which example moves w_T more, the one seen first or the one seen last",
    truth=_early_or_late,
    wrong={
        "curved: first, flat: first": "An early push is not amplified by later steps: each "
        "multiplies it by 1 − ησ, with 0 ≤ ησ < 1.",
        "curved: first, flat: same": "The flat direction is right. Along the curved one each later "
        "step multiplies the push by 1 − ησ.",
        "curved: first, flat: last": "The other way round along the curve: each later step "
        "multiplies the push by 1 − ησ. And what does it do at σ = 0?",
        "curved: same, flat: same": "So it is for TracIn, which lets no later step react. Along "
        "the curved direction each multiplies the push by 1 − ησ.",
        "curved: same, flat: first": "Each later step multiplies a push by 1 − ησ. Put in a large "
        "σ, and then σ = 0.",
        "curved: same, flat: last": "Each later step multiplies a push by 1 − ησ. Put in a large "
        "σ, and then σ = 0.",
        "curved: last, flat: first": "The curved direction is right. Along the flat one each later "
        "step multiplies the push by 1 − 0.",
        "curved: last, flat: last": "Right for any curvature above zero, however small. On a flat "
        "direction each later step multiplies the push by 1.",
    },
    hints=[
        "In part (b), what do the later Jacobians do to a push along an eigenvector of Ĥ?",
        "They multiply it by (1 − ησ)^(T−1−t). Compare t = 0 with t = T − 1, for σ > 0 and σ = 0.",
    ],
)
