"""trak: TRAK, one checkpoint, gradients projected to 512 random dimensions.

Its score is of another observable, the log-odds of the right label, and in other units: positive
where training on the example raises them (`score_computers.py`). With a minus sign it ranks like
our φ. Nothing in the book computes the same number; its LDS can be compared.
"""

from tempfile import TemporaryDirectory

import torch
from torch import Tensor
from trak import TRAKer
from trak.projectors import BasicProjector, ProjectionType

from task import NETWORK, Task

PACKAGE = "traker"
DIMENSIONS = 512


def trak(task: Task) -> Tensor:
    """Minus the scores, (n, k)."""
    module = task.module()
    projector = BasicProjector(
        grad_dim=NETWORK.p,
        proj_dim=DIMENSIONS,
        seed=0,
        proj_type=ProjectionType.normal,
        device="cpu",
        dtype=task.x.dtype,
        block_size=DIMENSIONS // 2,  # with one block it frees the matrix before scoring
    )
    with TemporaryDirectory() as folder:
        tracer = TRAKer(
            module,
            "image_classification",
            len(task.x),
            save_dir=f"{folder}/trak",
            load_from_save_dir=True,
            device="cpu",
            projector=projector,
            proj_dim=DIMENSIONS,
            use_half_precision=False,
            logging_level="ERROR",
        )
        tracer.load_checkpoint(module.state_dict(), model_id=0)
        tracer.featurize((task.x, task.y), num_samples=len(task.x))
        tracer.finalize_features()
        tracer.start_scoring_checkpoint("test", module.state_dict(), 0, len(task.x_test))
        tracer.score((task.x_test, task.y_test), num_samples=len(task.x_test))
        return -torch.as_tensor(tracer.finalize_scores("test"))


QUANTITIES = {"trak": trak}
