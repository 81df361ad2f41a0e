"""Captum: TracIn at checkpoints, and influence with the Hessian formed.

TracInCP adds learning rate × ∇φᵀ∇L over checkpoints (`_influence_batch_tracincp`): positive where
training on the example lowers φ. Ours is minus that, with the rate summed over the steps a
checkpoint stands for and divided by n. NaiveInfluenceFunction returns ∇φᵀ H⁻¹ ∇L; with a summed
loss and `hessian_reg` = λ that is minus ours.
"""

from captum.influence import NaiveInfluenceFunction, TracInCP
from torch import Tensor, nn
from torch.utils.data import TensorDataset

from task import DAMPING, Task, state

PACKAGE = "captum"


def tracin(task: Task) -> Tensor:
    """Five checkpoints."""
    rate = task.effort / len(task.x)
    return -along(task, [(w, rate) for w in task.checkpoints])


def dot(task: Task) -> Tensor:
    """One checkpoint, the last, with rate 1."""
    return -along(task, [(task.w, 1.0)])


def along(task: Task, checkpoints: list[tuple[Tensor, float]]) -> Tensor:
    """Captum's scores, (n, k)."""

    def load(module: nn.Module, checkpoint: tuple[Tensor, float]) -> float:
        module.load_state_dict(state(checkpoint[0]))
        return checkpoint[1]

    tracer = TracInCP(
        task.module(),
        TensorDataset(task.x, task.y),
        checkpoints,
        load,
        loss_fn=nn.CrossEntropyLoss(reduction="sum"),
        batch_size=len(task.x),
        sample_wise_grads_per_batch=True,
    )
    return tracer.influence((task.x_test, task.y_test)).T


def exact(task: Task) -> Tensor:
    """H formed, all its eigenvalues kept."""

    def load(module: nn.Module, w: Tensor) -> float:
        module.load_state_dict(state(w))
        return 1.0

    influences = NaiveInfluenceFunction(
        task.module(),
        TensorDataset(task.x, task.y),
        task.w,
        load,
        loss_fn=nn.CrossEntropyLoss(reduction="sum"),
        batch_size=len(task.x),
        projection_dim=None,
        hessian_reg=DAMPING,
        hessian_inverse_tol=0.0,
        sample_wise_grads_per_batch=True,
    )
    return -influences.influence((task.x_test, task.y_test)).T


QUANTITIES = {"tracin": tracin, "dot": dot, "exact": exact}
