"""Bergson: MAGIC, the exact derivative of a training run.

`Trainer.backward` returns ∂φ/∂(example weight) for one φ (`magic/trainer.py`, `weight_grads`): our
convention, no change. Its command line trains Hugging Face language models; its trainer takes any
module that returns a loss, which is what runs here. SOURCE (`approx_unrolling`) reads such language
models from disk and has no other way in: not run, but its two filters are compared with ours.
"""

from tempfile import TemporaryDirectory

import torch
import torchopt
from bergson.approx_unrolling.approx_unrolling_math import f_backward, f_segment
from bergson.magic.trainer import BackwardState, Trainer
from torch import Tensor, nn
from torch.nn.functional import cross_entropy
from torchopt.pytree import tree_iter

from task import RATE, SIGMA, Answer, Task, clock

PACKAGE = "bergson"
QUERIES = 3
"""It goes back once for each φ; the seconds of a few are scaled up to all."""


class Weighted(nn.Module):
    """The network with the loss that training minimises: (1/b) Σ β_i L_i."""

    def __init__(self, network: nn.Module):
        super().__init__()
        self.network = network

    def forward(self, x: Tensor, y: Tensor, example_weight: Tensor, shift_loss_mask: Tensor):
        """A scalar."""
        return (example_weight * cross_entropy(self.network(x), y, reduction="none")).mean()


class Batches:
    """The run's batches in order, as the trainer asks for them."""

    device = torch.device("cpu")

    def __init__(self, task: Task):
        self.task = task
        self.weights = nn.Parameter(torch.ones_like(task.x[:, 0]))

    def __len__(self) -> int:
        return self.task.run.steps

    def __getitem__(self, t: int) -> dict[str, Tensor]:
        batch = self.task.run.batches[t]
        return {
            "x": self.task.x[batch],
            "y": self.task.y[batch],
            "example_weight": self.weights[batch],
            "shift_loss_mask": torch.ones(len(batch), 1),
        }

    @property
    def requires_grad(self) -> bool:
        return self.weights.requires_grad

    @requires_grad.setter
    def requires_grad(self, value: bool):
        self.weights.requires_grad = value


def magic(task: Task) -> Answer:
    """The first test digits, (n, QUERIES), training included."""
    model = Weighted(task.module(task.run.w0))
    trainer, start = Trainer.initialize(model, torchopt.sgd(RATE))
    batches, columns = Batches(task), []
    with TemporaryDirectory() as folder:
        began = clock()
        end = trainer.train(start, batches, inplace=True, save_dir=folder, save_mode="sqrt")
        trained = clock()
        final = end.to("cpu").detach_()
        for x, y in zip(task.x_test[:QUERIES], task.y_test[:QUERIES], strict=True):
            end.detach_()
            end.copy_(final)
            state = BackwardState(*slopes(model, end, x, y), torch.zeros_like(batches.weights))
            back = trainer.backward(
                folder, batches, state, end, cleanup=False, inplace=True, save_mode="sqrt"
            )
            columns.append(back.weight_grads.detach())
        done = clock()
    each = tuple((b - a) / len(columns) for a, b in zip(trained, done, strict=True))
    once = (b - a for a, b in zip(began, trained, strict=True))
    seconds = tuple(o + e * len(task.x_test) for o, e in zip(once, each, strict=True))
    return Answer(torch.stack(columns, dim=1), seconds)


def slopes(model: nn.Module, end, x: Tensor, y: Tensor) -> tuple[dict[str, Tensor], list[Tensor]]:
    """∇φ in the parameters, and zeros for the optimiser's memory."""
    end.requires_grad = True
    with end.activate(model) as named:
        phi = cross_entropy(model.network(x[None]), y[None])
        slope = torch.autograd.grad(phi, list(named.values()))
    leaves = [leaf for leaf in tree_iter(end.opt_state) if isinstance(leaf, Tensor)]
    zeros = [torch.zeros_like(leaf) for leaf in leaves if leaf.is_floating_point()]
    return dict(zip(named, slope, strict=True)), zeros


def filters(task: Task) -> Tensor:
    """SOURCE's F_S and F_r on a range of eigenvalues, (2, m)."""
    sigma = SIGMA.to(task.x.dtype)
    return torch.stack([f_backward(task.effort)(sigma), f_segment(task.effort)(sigma)])


QUANTITIES = {"unrolled": magic}
EVIDENCE = {"filters": filters}
