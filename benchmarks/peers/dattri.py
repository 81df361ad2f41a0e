"""dattri: influence with the Hessian formed or by conjugate gradients, EK-FAC, and TracIn.

Its attributors return ∇L_iᵀ C⁻¹ ∇φ (`BaseInnerProductAttributor.attribute`): minus ours for a
summed loss and `regularization` = λ. EK-FAC asks for a mean loss; then `damping` is λ/n and the
score −n times ours. TracIn adds weight × ∇L_iᵀ∇φ. It projects gradients to 512 random dimensions
unless `projector_kwargs` is emptied after construction: the constructor takes None for the default.
"""

import torch
from dattri.algorithm import (
    IFAttributorCG,
    IFAttributorEKFAC,
    IFAttributorExplicit,
    TracInAttributor,
)
from dattri.func import fisher
from dattri.task import AttributionTask
from torch import Tensor
from torch.func import functional_call
from torch.nn.functional import cross_entropy
from torch.utils.data import DataLoader, TensorDataset

from task import DAMPING, NETWORK, Task, state

PACKAGE = "dattri"
ITERATIONS = 50
"""dattri's conjugate gradients take a number of steps, not a tolerance: with these the result
is about as far from the solution as ours."""


def definition(task: Task, checkpoints: list[Tensor], reduction: str = "sum") -> AttributionTask:
    """The loss as a function of parameters and data, one example or many."""
    module = task.module()

    def loss(parameters, data):
        x, y = data
        f = functional_call(module, parameters, (x.reshape(-1, 64),))
        return cross_entropy(f, y.reshape(-1), reduction=reduction)

    return AttributionTask(loss, module, [state(w) for w in checkpoints])


def loaders(task: Task) -> tuple[DataLoader, DataLoader]:
    """Training and test digits, each in one batch."""
    train, test = TensorDataset(task.x, task.y), TensorDataset(task.x_test, task.y_test)
    return DataLoader(train, len(train)), DataLoader(test, len(test))


def attributed(task: Task, attributor) -> Tensor:
    """dattri's scores, (n, k)."""
    train, test = loaders(task)
    attributor.cache(train)
    return attributor.attribute(train, test).detach()


def exact(task: Task) -> Tensor:
    """H formed."""
    given = definition(task, [task.w])
    return -attributed(task, IFAttributorExplicit(given, regularization=DAMPING))


def cg(task: Task) -> Tensor:
    """H in products only, all test digits at once."""
    given = definition(task, [task.w])
    return -attributed(
        task, IFAttributorCG(given, max_iter=ITERATIONS, regularization=DAMPING, mode="rev-fwd")
    )


def ekfac(task: Task, kind: type[IFAttributorEKFAC] = IFAttributorEKFAC) -> Tensor:
    """EK-FAC, on the labels given."""
    given, n = definition(task, [task.w], "mean"), len(task.x)
    return -attributed(task, kind(given, damping=DAMPING / n)) / n


def along(task: Task, checkpoints: Tensor, weight: float) -> Tensor:
    """TracIn without its projection."""
    given = definition(task, list(checkpoints))
    weights = torch.full((len(checkpoints),), weight)
    attributor = TracInAttributor(given, weights, normalized_grad=False)
    attributor.projector_kwargs = None
    return -attributor.attribute(*loaders(task))


class Repaired(IFAttributorEKFAC):
    """Its EK-FAC with two lines put right, to see whether these explain the difference.

    It lays a layer's flattened weight and bias end to end and cuts that into rows of in + 1, so
    that every row but the first begins with another row's weights; and it multiplies by the
    matrices of eigenvectors where their transposes belong (`transform_test_rep`,
    `func/fisher.py::_update_lambda`), which also makes the result depend on eigenvectors' signs.
    """

    def cache(self, full_train_dataloader: DataLoader) -> None:
        """With the eigenvectors of `estimate_eigenvector` transposed."""
        plain = fisher.estimate_eigenvector

        def transposed(covariances):
            found = plain(covariances)
            return {name: (a.T.contiguous(), s.T.contiguous()) for name, (a, s) in found.items()}

        fisher.estimate_eigenvector = transposed
        try:
            super().cache(full_train_dataloader)
        finally:
            fisher.estimate_eigenvector = plain

    def transform_test_rep(self, ckpt_idx: int, test_rep: Tensor) -> Tensor:
        """With each bias moved to the end of its row before, and back after."""
        order = interleaved()
        found = super().transform_test_rep(ckpt_idx, test_rep[:, order])
        return found[:, order.argsort()]


def interleaved() -> Tensor:
    """The places, in a list of weights and then biases layer by layer, of rows (weights, bias)."""
    places, at = [], 0
    for rows, columns in NETWORK.shapes:
        weight = at + torch.arange(rows * (columns - 1)).view(rows, columns - 1)
        bias = at + rows * (columns - 1) + torch.arange(rows)
        places.append(torch.cat([weight, bias[:, None]], dim=1).reshape(-1))
        at += rows * columns
    return torch.cat(places)


def projected(task: Task) -> Tensor:
    """TracIn as constructed by default: through 512 random dimensions."""
    given = definition(task, [task.w])
    attributor = TracInAttributor(given, torch.ones(1), normalized_grad=False)
    return -attributor.attribute(*loaders(task))


QUANTITIES = {
    "exact": exact,
    "cg": cg,
    "ekfac": ekfac,
    "tracin": lambda task: along(task, task.checkpoints, task.effort / len(task.x)),
    "dot": lambda task: along(task, task.w[None], 1.0),
}

EVIDENCE = {
    "ekfac, two lines put right": lambda task: ekfac(task, Repaired),
    "dot, through the default projection": projected,
}
