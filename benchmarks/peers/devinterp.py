"""devinterp: the Bayesian influence function of language models.

`compute_bif` returns correlations, or with `compute_covariance=True` covariances, of the losses
over draws (`slt/bif.py`): ours is −κ times the covariance. Its sampler takes κ times n (`n_beta`)
and a mean loss. A digit enters as a sequence of its own number, twice; `loss_fn` looks it up.
"""

from pathlib import Path
from tempfile import TemporaryDirectory

import torch
import xarray as xr
from datasets import Dataset
from devinterp.slt.bif import compute_bif
from devinterp.slt.sampling import sample
from torch import Tensor
from torch.nn.functional import cross_entropy

from task import BIF, Task

PACKAGE = "devinterp"


def covariance(task: Task) -> Tensor:
    """−κ Cov of given traces."""
    trace = torch.cat(task.traces, dim=1).numpy()
    numbers = torch.arange(trace.shape[1]).repeat(2, 1).T.numpy()
    axes = ("chain", "draw", "batch_all", "token_pos")
    given = {
        "loss_all": (axes, trace[None, :, :, None]),
        "input_ids_all": (("batch_all", "token"), numbers),
    }
    return influences(task, xr.DataTree(xr.Dataset(given)))


def influences(task: Task, tree: xr.DataTree) -> Tensor:
    """−κ Cov, (n, k): `sample` shuffles what it observes, so digits are found by their numbers."""
    order = tree["input_ids_all"].values[:, 0].argsort().tolist()
    found = compute_bif(
        tree,
        correlation_method="sequence",
        compute_covariance=True,
        batch_index_range_1=order[: len(task.x)],
        batch_index_range_2=order[len(task.x) :],
    )
    return -BIF.inverse_temperature * torch.from_numpy(found["influences"].values)


def drawn(task: Task) -> Tensor:
    """Sampling as ours: SGLD, the same step, batch, chains and draws."""
    x, y = torch.cat([task.x, task.x_test]), torch.cat([task.y, task.y_test])

    def loss(module, numbers: Tensor) -> Tensor:
        which = numbers[:, 0]
        return cross_entropy(module(x[which]), y[which], reduction="none")[:, None]

    def sequences(many: int) -> Dataset:
        return Dataset.from_dict({"input_ids": [[i, i] for i in range(many)]}).with_format("torch")

    with TemporaryDirectory() as folder:
        tree = sample(
            task.module(),
            sequences(len(task.x)),
            {"all": (sequences(len(x)), len(x) // BIF.batch)},
            lr=BIF.step,
            n_beta=BIF.inverse_temperature * len(task.x),
            num_chains=BIF.chains,
            num_draws=BIF.draws,
            batch_size=BIF.batch,
            localization=BIF.localisation,
            num_init_loss_batches=1,
            output_path=Path(folder) / "samples.zarr",
            loss_fn=loss,
            device="cpu",
        )
        return influences(task, tree)


QUANTITIES = {"bif": drawn, "covariance": covariance}
