"""Real data that ships inside scikit-learn, and small synthetic sets: nothing is downloaded."""

import numpy as np
import torch
from sklearn.datasets import load_breast_cancer, load_diabetes, load_digits
from torch import Tensor

from lib._validate import count


def _standardised(x: np.ndarray) -> Tensor:
    return torch.tensor((x - x.mean(axis=0)) / x.std(axis=0), dtype=torch.float64)


def diabetes() -> tuple[Tensor, Tensor]:
    """442 patients: ten standardised measurements, shape (442, 10), and the disease's progression
    one year later, standardised, shape (442,). Efron et al. (2004)."""
    data = load_diabetes()
    y = torch.tensor(data.target, dtype=torch.float64)
    return _standardised(data.data), (y - y.mean()) / y.std(correction=0)


def breast_cancer() -> tuple[Tensor, Tensor]:
    """569 tumours: thirty standardised measurements, shape (569, 30), and labels 1 (benign) or −1,
    shape (569,). Street, Wolberg and Mangasarian (1993)."""
    data = load_breast_cancer()
    return _standardised(data.data), torch.tensor(2.0 * data.target - 1.0, dtype=torch.float64)


def digits(classes: tuple[int, ...] | None = None) -> tuple[Tensor, Tensor]:
    """Handwritten digits, 8 × 8 pixels in [0, 1], shape (n, 64), and integer labels, shape (n,).

    classes: keep these digits only, relabelled 0, 1, … in the given order.
    """
    data = load_digits()
    x = torch.tensor(data.data / 16.0, dtype=torch.float64)
    y = torch.tensor(data.target, dtype=torch.int64)
    if classes is None:
        return x, y
    for digit in classes:
        count("classes", digit, least=0, most=9)
    if len(set(classes)) != len(classes) or len(classes) == 0:
        raise ValueError(f"classes: expected different digits, at least one, got {classes}")
    keep = torch.isin(y, torch.tensor(classes))
    relabel = torch.full((10,), -1)
    relabel[list(classes)] = torch.arange(len(classes))
    return x[keep], relabel[y[keep]]


def small_digits() -> tuple[Tensor, Tensor]:
    """The digits at 4 × 4 pixels, averaged over blocks, centred and doubled, shape (n, 16), and
    their labels, shape (n,): for networks small enough to be retrained thousands of times."""
    images, labels = digits()
    small = torch.nn.functional.avg_pool2d(images.view(-1, 1, 8, 8), 2).flatten(1)
    return 2 * (small - small.mean(dim=0)), labels


def figure_one() -> tuple[Tensor, Tensor]:
    """Thirty-eight points near a line, A above their right edge and B far out; (40,) each.

    A is second to last and B last. With an intercept their leverages are 0.03 and 0.83, and y_B is
    chosen so that both have the same influence on the slope. Rebuilds the draft's Figure 1.
    """
    rng = np.random.default_rng(7)
    x = np.append(np.linspace(0.0, 3.0, 38), [2.7, 14.0])
    y = np.append(0.5 + 0.4 * x[:38] + 0.4 * rng.standard_normal(38), [8.0, 0.0])
    # The slope's influence is (x_j − x̄) r_j / Σ(x − x̄)²: linear in y, so one equation gives y_B.
    design = np.column_stack([np.ones(40), x])
    hat = design @ np.linalg.inv(design.T @ design) @ design.T
    pull = (x - x.mean())[:, None] * (np.eye(40) - hat)
    balance = pull[-2] - pull[-1]
    y[-1] = -balance[:-1] @ y[:-1] / balance[-1]
    return torch.from_numpy(x), torch.from_numpy(y)


BRACKETS = "([)]ab"
"""The tokens of `brackets`, in order: two that open, the two that close them, two letters."""


def brackets(n: int, length: int, rng: np.random.Generator, depth: int = 4) -> Tensor:
    """n sequences of a small language, integers (n, length), indices into BRACKETS.

    At every place: a letter with probability 0.4; else a bracket, which opens or closes the last
    open one with equal chance if both are possible. At most `depth` are open at once; a sequence
    may end with some open.
    """
    count("n", n)
    count("length", length)
    count("depth", depth)
    rows = []
    for _ in range(n):
        row, open_ = [], []
        for _ in range(length):
            if rng.random() < 0.4:
                row.append(int(rng.integers(4, 6)))
            elif len(open_) < depth and (not open_ or rng.random() < 0.5):
                open_.append(int(rng.integers(2)))
                row.append(open_[-1])
            else:
                row.append(open_.pop() + 2)
        rows.append(row)
    return torch.tensor(rows)
