"""The data sets, against scikit-learn's own, and Figure 1's balance."""

import numpy as np
import pytest
import torch
from sklearn.datasets import load_breast_cancer, load_diabetes, load_digits
from sklearn.preprocessing import scale

from lib.data import breast_cancer, diabetes, digits, figure_one


def test_diabetes():
    x, y = diabetes()
    raw = load_diabetes()
    np.testing.assert_allclose(x, scale(raw.data), atol=1e-12)
    np.testing.assert_allclose(y, scale(raw.target), atol=1e-12)
    assert x.shape == (442, 10) and x.dtype == y.dtype == torch.float64


def test_breast_cancer():
    x, y = breast_cancer()
    raw = load_breast_cancer()
    np.testing.assert_allclose(x, scale(raw.data), atol=1e-12)
    assert list(raw.target_names) == ["malignant", "benign"]
    assert (y.numpy() == np.where(raw.target == 1, 1.0, -1.0)).all()
    assert x.shape == (569, 30) and x.dtype == y.dtype == torch.float64


def test_digits():
    x, y = digits()
    raw = load_digits()
    assert (x.numpy() * 16 == raw.data).all() and (y.numpy() == raw.target).all()
    assert x.max() == 1 and x.dtype == torch.float64 and y.dtype == torch.int64
    some, labels = digits((8, 3))
    rows = [k for k in range(len(raw.target)) if raw.target[k] in (3, 8)]
    assert (some.numpy() * 16 == raw.data[rows]).all()
    assert labels.tolist() == [{8: 0, 3: 1}[raw.target[k]] for k in rows]
    assert set(digits(list(range(10)))[1].tolist()) == set(range(10))


@pytest.mark.parametrize("classes", [(10,), (-1, 2), (3, 3), (), (1.0,), (True, 2)])
def test_bad_classes_are_named(classes):
    with pytest.raises(ValueError, match=r"^classes: expected"):
        digits(classes)


def test_figure_one():
    x, y = (t.numpy() for t in figure_one())
    assert x.shape == y.shape == (40,) and x[-2:].tolist() == [2.7, 14.0]
    assert all(torch.equal(a, b) for a, b in zip(figure_one(), figure_one(), strict=True))

    def slope(j, weight):
        weights = np.ones(40)
        weights[j] = weight
        return np.polyfit(x, y, 1, w=np.sqrt(weights))[0]

    pull_a, pull_b = ((slope(j, 1 + 1e-4) - slope(j, 1 - 1e-4)) / 2e-4 for j in (38, 39))
    assert abs(pull_a / pull_b - 1) < 1e-6 and pull_a > 0
    lever = 1 / 40 + (x - x.mean()) ** 2 / ((x - x.mean()) ** 2).sum()
    assert np.round(lever[-2:], 2).tolist() == [0.03, 0.83]
    fit = np.polyfit(x[:38], y[:38], 1)
    assert y[38] > np.polyval(fit, 2.7) + 5
