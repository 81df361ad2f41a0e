"""curvlinops: the Hessian, K-FAC and EK-FAC as linear operators, and their inverses.

It has no influence functions: the gradients here are torch.func's, the solves are its own. With a
summed loss its operators are sums, so damping is λ, and ours is −∇L (C + λI)⁻¹ ∇φ.
"""

import torch
from curvlinops import (
    CGInverseLinearOperator,
    EKFACLinearOperator,
    FisherType,
    HessianLinearOperator,
    KFACInverseLinearOperator,
    KFACLinearOperator,
)
from curvlinops.examples import IdentityLinearOperator
from torch import Tensor, nn
from torch.func import functional_call, grad, vmap
from torch.nn.functional import cross_entropy

from task import DAMPING, TOLERANCE, Task

PACKAGE = "curvlinops-for-pytorch"


def rows(module: nn.Module, x: Tensor, y: Tensor) -> Tensor:
    """One gradient an example, in the order of the module's parameters, (m, p)."""
    named = {name: value.detach() for name, value in module.named_parameters()}

    def loss(parameters, x_i, y_i):
        return cross_entropy(functional_call(module, parameters, (x_i[None],)), y_i[None])

    each = vmap(grad(loss), (None, 0, 0))(named, x, y)
    return torch.cat([each[name].reshape(len(x), -1) for name in named], dim=1)


def influence(task: Task, inverse) -> Tensor:
    """−∇L (C + λI)⁻¹ ∇φ, (n, k), with inverse: (module, loss, parameters, data) → (C + λI)⁻¹."""
    module = task.module()
    loss, data = nn.CrossEntropyLoss(reduction="sum"), [(task.x, task.y)]
    solve = inverse(module, loss, list(module.parameters()), data)
    push = rows(module, task.x_test, task.y_test)
    return -rows(module, task.x, task.y) @ (solve @ push.T.contiguous()).detach()


def damped(operator):
    """C + λI."""
    shapes = [tuple(shape) for shape in operator._in_shape]
    identity = IdentityLinearOperator(shapes, operator.device, operator.dtype)
    return operator + DAMPING * identity


def exact(task: Task) -> Tensor:
    """H formed from products with the unit vectors, then torch's solver."""

    class Formed:
        def __init__(self, module, loss, parameters, data):
            operator = HessianLinearOperator(
                module, loss, parameters, data, check_deterministic=False
            )
            eye = torch.eye(operator.shape[0], dtype=operator.dtype)
            self.matrix = (operator @ eye).detach() + DAMPING * eye

        def __matmul__(self, v: Tensor) -> Tensor:
            return torch.linalg.solve(self.matrix, v)

    return influence(task, Formed)


def cg(task: Task) -> Tensor:
    """All test digits at once, to the same tolerance."""

    def inverse(module, loss, parameters, data):
        operator = HessianLinearOperator(module, loss, parameters, data, check_deterministic=False)
        return CGInverseLinearOperator(
            damped(operator),
            tolerance=TOLERANCE,
            eps=0.0,
            stop_updating_after=0.0,
            max_iter=500,
            max_tridiag_iter=0,
        )

    return influence(task, inverse)


def kronecker(task: Task, kind: type) -> Tensor:
    """K-FAC or EK-FAC of the Gauss–Newton matrix, exact in the labels."""

    def inverse(module, loss, parameters, data):
        operator = kind(
            module,
            loss,
            parameters,
            data,
            fisher_type=FisherType.TYPE2,
            separate_weight_and_bias=False,
            check_deterministic=False,
        )
        return KFACInverseLinearOperator(operator, damping=DAMPING, use_exact_damping=True)

    return influence(task, inverse)


QUANTITIES = {
    "exact": exact,
    "cg": cg,
    "kfac": lambda task: kronecker(task, KFACLinearOperator),
    "ekfac": lambda task: kronecker(task, EKFACLinearOperator),
}
