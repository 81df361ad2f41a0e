"""Kronfluence: K-FAC, EK-FAC and no preconditioner.

Its score is ∇φᵀ (F̄ + δI)⁻¹ ∇L_i for a train loss summed over the batch, with F̄ a mean over
examples (`factor/config.py` divides by the number of examples processed; damping is added after).
With δ = λ/n that is −n times ours. The Fisher matrix is sampled: the task draws one label an
example.
"""

from tempfile import TemporaryDirectory

import torch
from kronfluence import Analyzer, FactorArguments, ScoreArguments, prepare_model
from kronfluence import Task as Definition
from torch import Tensor, nn
from torch.nn.functional import cross_entropy
from torch.utils.data import TensorDataset

from task import DAMPING, Task

PACKAGE = "kronfluence"


class Digits(Definition):
    """Cross-entropy, summed; labels drawn from the network where Kronfluence wants a sample."""

    def compute_train_loss(self, batch, model: nn.Module, sample: bool = False) -> Tensor:
        """The loss that is trained on, or that of drawn labels."""
        x, y = batch
        f = model(x)
        if sample:
            y = torch.multinomial(f.detach().softmax(dim=1), 1, generator=self.generator)[:, 0]
        return cross_entropy(f, y, reduction="sum")

    def compute_measurement(self, batch, model: nn.Module) -> Tensor:
        """φ."""
        x, y = batch
        return cross_entropy(model(x), y, reduction="sum")

    generator = None


class EveryLabel(Digits):
    """Asked for a sample, takes the label given, with a loss times √p: for data with all labels.

    A matrix of outer products then adds up to the Fisher matrix itself, and nothing is drawn.
    """

    def compute_train_loss(self, batch, model: nn.Module, sample: bool = False) -> Tensor:
        """√p_y times the loss of label y, or the loss that is trained on."""
        if not sample:
            return super().compute_train_loss(batch, model)
        x, y = batch
        f = model(x)
        root = f.detach().softmax(dim=1).gather(1, y[:, None])[:, 0].sqrt()
        return (root * cross_entropy(f, y, reduction="none")).sum()


def scores(task: Task, strategy: str, definition: Definition, factors_of: TensorDataset, damping):
    """Kronfluence's pairwise scores, (n, k)."""
    dtype = task.x.dtype
    names = ("activation_covariance_dtype", "gradient_covariance_dtype")
    names += ("per_sample_gradient_dtype", "lambda_dtype", "eigendecomposition_dtype")
    factor_args = FactorArguments(strategy=strategy, **dict.fromkeys(names, dtype))
    names = ("per_sample_gradient_dtype", "precondition_dtype", "score_dtype")
    score_args = ScoreArguments(damping_factor=damping, **dict.fromkeys(names, dtype))
    train, test = TensorDataset(task.x, task.y), TensorDataset(task.x_test, task.y_test)
    with TemporaryDirectory() as folder:
        analyzer = Analyzer(
            "digits",
            prepare_model(task.module(), definition),
            definition,
            cpu=True,
            output_dir=folder,
            disable_tqdm=True,
            disable_model_save=True,
        )
        analyzer.fit_all_factors(
            "factors",
            factors_of,
            per_device_batch_size=len(train),
            factor_args=factor_args,
        )
        analyzer.compute_pairwise_scores(
            "scores",
            "factors",
            test,
            train,
            per_device_query_batch_size=len(test),
            per_device_train_batch_size=len(train),
            score_args=score_args,
        )
        return analyzer.load_pairwise_scores("scores")["all_modules"].T


def plain(task: Task, strategy: str) -> Tensor:
    """As its users run it: one drawn label an example."""
    definition, n = Digits(), len(task.x)
    definition.generator = torch.Generator().manual_seed(3)
    data = TensorDataset(task.x, task.y)
    return -scores(task, strategy, definition, data, DAMPING / n) / n


def every_label(task: Task, strategy: str) -> Tensor:
    """The same on ten copies of the data, one for each label: the mean is a tenth of the Fisher."""
    n, classes = len(task.x), 10
    labels = torch.arange(classes).repeat(n)
    data = TensorDataset(task.x.repeat_interleave(classes, dim=0), labels)
    found = scores(task, strategy, EveryLabel(), data, DAMPING / n / classes)
    return -found / n / classes


def dot(task: Task) -> Tensor:
    """Strategy "identity": ∇φᵀ∇L, minus ours."""
    data = TensorDataset(task.x, task.y)
    return -scores(task, "identity", Digits(), data, None)


QUANTITIES = {
    "ekfac": lambda task: plain(task, "ekfac"),
    "kfac": lambda task: plain(task, "kfac"),
    "dot": dot,
}

EVIDENCE = {
    "ekfac, given every label": lambda task: every_label(task, "ekfac"),
    "kfac, given every label": lambda task: every_label(task, "kfac"),
}
