"""The data sets, against scikit-learn's own, Figure 1's balance, and a parser for the brackets."""

from collections import Counter

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import chisquare
from sklearn.datasets import load_breast_cancer, load_diabetes, load_digits
from sklearn.preprocessing import scale

from lib.data import BRACKETS, brackets, breast_cancer, diabetes, digits, figure_one, small_digits


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


def still_open(text):
    """What is left of a text when letters and matching pairs are taken out, again and again."""
    before, text = None, text.replace("a", "").replace("b", "")
    while text != before:
        before, text = text, text.replace("()", "").replace("[]", "")
    return text


@settings(deadline=None, max_examples=30, derandomize=True)
@given(st.integers(0, 10**6), st.integers(1, 6), st.integers(1, 25), st.integers(1, 5))
def test_brackets_close_what_was_opened_last(seed, n, length, depth):
    rows = brackets(n, length, np.random.default_rng(seed), depth)
    assert rows.shape == (n, length) and rows.dtype == torch.int64
    assert torch.equal(rows, brackets(n, length, np.random.default_rng(seed), depth))
    for row in rows.tolist():
        text = "".join(BRACKETS[token] for token in row)
        for end in range(length + 1):
            left = still_open(text[:end])
            assert set(left) <= set("([") and len(left) <= depth


def chances(length, depth, text=""):
    """The probability of every text of this length, as the language is described."""
    if not length:
        return {text: 1.0}
    left = still_open(text)
    share = {"a": 0.2, "b": 0.2}
    both = bool(left) and len(left) < depth
    if len(left) < depth:
        share |= dict.fromkeys("([", 0.15 if both else 0.3)
    if left:
        share[")" if left[-1] == "(" else "]"] = 0.3 if both else 0.6
    return {
        whole: chance * rest
        for token, chance in share.items()
        for whole, rest in chances(length - 1, depth, text + token).items()
    }


@pytest.mark.parametrize("length, depth", [(1, 4), (3, 1), (3, 2), (2, 4)])
def test_brackets_have_the_stated_chances(length, depth):
    want, n = chances(length, depth), 8000
    assert sum(want.values()) == pytest.approx(1)
    rows = brackets(n, length, np.random.default_rng(0), depth).tolist()
    seen = Counter("".join(BRACKETS[token] for token in row) for row in rows)
    assert set(seen) <= set(want)
    assert chisquare([seen[k] for k in want], [n * c for c in want.values()]).pvalue > 1e-3


def test_brackets_go_four_deep_if_not_told_otherwise():
    rows = brackets(300, 20, np.random.default_rng(1)).tolist()
    texts = ["".join(BRACKETS[token] for token in row) for row in rows]
    assert max(len(still_open(text[:end])) for text in texts for end in range(21)) == 4


@pytest.mark.parametrize("bad", [0, -1, 2.0, True])
def test_bad_sizes_of_brackets_are_named(bad):
    for name in ("n", "length", "depth"):
        with pytest.raises(ValueError, match=rf"^{name}: expected"):
            brackets(**({"n": 2, "length": 2, "rng": np.random.default_rng(0)} | {name: bad}))


def test_small_digits_are_block_means():
    images, labels = digits()
    small, same = small_digits()
    blocks = images.numpy().reshape(-1, 4, 2, 4, 2).mean(axis=(2, 4)).reshape(-1, 16)
    np.testing.assert_allclose(small, 2 * (blocks - blocks.mean(axis=0)), atol=1e-14)
    assert torch.equal(same, labels)
