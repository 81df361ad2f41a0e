"""The narrow version of a static figure, which telephones show."""

import re
from io import StringIO

import numpy as np
import pytest
from IPython.core.interactiveshell import InteractiveShell

from lib import figures
from lib.figures import NARROW, narrow, plt


@pytest.fixture(autouse=True)
def style():
    with plt.style.context("default"):
        figures.style()
        yield
    plt.close("all")


def _svg(figure):
    out = StringIO()
    figure.savefig(out, format="svg", metadata={"Date": None})
    return out.getvalue()


def _inches(svg):
    width, height = re.search(r'width="([\d.]+)pt" height="([\d.]+)pt"', svg).groups()
    return float(width) / 72, float(height) / 72


def test_panels_of_a_row_are_stacked_and_the_figure_stays_as_it_was():
    figure, axes = plt.subplots(1, 3, figsize=(9, 3), sharey=True)
    for axis, role in zip(axes, "abc", strict=True):
        axis.plot([0, 1], [0, 2], label=role)
    figure.legend(ncols=5)
    before = _svg(figure)
    stacked = narrow(figure)
    width, height = _inches(stacked)
    assert width == pytest.approx(4) and height == pytest.approx(3 * 3 + 2 * 0.2)
    assert _svg(figure) == before
    told = [
        ['<g id="text_' in axis for axis in svg.split('<g id="matplotlib.axis_')[2::2]]
        for svg in (before.split('<g id="legend')[0], stacked.split('<g id="legend')[0])
    ]
    assert told == [[True, False, False], [True, True, True]]  # each panel has its own scale now


def test_a_single_panel_gets_narrower_but_not_flat():
    figure, axis = plt.subplots(figsize=(7, 3))
    axis.plot([0, 1])
    assert _inches(narrow(figure)) == pytest.approx((4, 2.7))


def test_pictures_without_ticks_stand_four_in_a_row():
    figure, axes = plt.subplots(1, 10, figsize=(8, 1))
    for axis in axes:
        figures.digit(axis, np.zeros(64))
    width, height = _inches(narrow(figure))
    assert width == pytest.approx(4)
    assert height == pytest.approx(3 * 4 / 4 * (1 / 0.8))  # as tall for its width as before


def test_rows_of_pictures_are_broken_after_six_and_stay_apart():
    figure, axes = plt.subplots(2, 8, figsize=(8, 2))
    for k, axis in enumerate(axes.flat):
        figures.digit(axis, np.zeros(64), f"picture {k}")
    stacked = narrow(figure)
    width, height = _inches(stacked)
    assert width == pytest.approx(4)
    assert height == pytest.approx(4 * 4 / 6)  # as tall for its width as before
    left, top = zip(
        *(
            re.search(
                r"translate\(([\d.]+) ([\d.]+)\)", stacked.split(f"<!-- picture {k} -->")[1]
            ).groups()
            for k in range(16)
        ),
        strict=True,
    )
    assert [len({*top[a:b]}) for a, b in ((0, 6), (6, 8), (8, 14), (14, 16))] == [1] * 4
    assert [float(top[k]) for k in (0, 6, 8, 14)] == sorted({float(y) for y in top})
    assert float(left[6]) == pytest.approx(float(left[0]), abs=3)


def test_a_scale_read_off_a_neighbour_is_named_on_its_own_panel():
    figure, axes = plt.subplots(1, 3, figsize=(8, 3), sharey=True)
    axes[0].set_ylabel("height")
    axes[2].set_ylabel("width")
    before = _svg(figure)
    stacked = narrow(figure)
    assert [stacked.count(f"<!-- {name} -->") for name in ("height", "width")] == [2, 1]
    assert _svg(figure) == before


def test_several_rows_are_stacked_column_after_column():
    figure, axes = plt.subplots(2, 2, figsize=(8, 5))
    names = {"first": axes[0, 0], "second": axes[1, 0], "third": axes[0, 1], "fourth": axes[1, 1]}
    for name, axis in names.items():
        axis.set_title(name)
    figure.colorbar(axes[0, 0].pcolormesh(np.eye(2)), ax=axes[0, 0])
    stacked = narrow(figure)
    assert _inches(stacked) == pytest.approx((4, 4 * 2.7))
    heights = [
        float(re.search(r"translate\([\d.]+ ([\d.]+)\)", stacked.split(f"<!-- {name} -->")[1])[1])
        for name in names
    ]
    assert heights == sorted(heights)


def test_plots_among_pictures_keep_their_order_and_height():
    figure, axes = plt.subplots(2, 2, figsize=(8, 5))
    figures.digit(axes[0, 0], np.zeros(64))
    assert _inches(narrow(figure)) == pytest.approx((4, 5))
    assert narrow(plt.figure()) is None


def test_the_legend_of_a_single_panel_goes_below_it():
    figure, axis = plt.subplots(figsize=(7, 3))
    axis.plot([0, 1], label="rising")
    axis.legend()
    before = _svg(figure)
    stacked = narrow(figure)
    assert _svg(figure) == before
    low = [
        max(float(y) for y in re.findall(r"translate\([\d.]+ ([\d.]+)\)", svg.split(mark)[1]))
        for svg, mark in ((stacked, '<g id="legend'), (stacked.split('<g id="legend')[0], "axis_1"))
    ]
    assert low[0] > low[1]  # under the numbers of the horizontal axis


@pytest.mark.parametrize("layout", ["none", "tight"])
def test_a_layout_of_the_reader_s_own_is_left_alone(layout):
    figure, _ = plt.subplots(1, 2, layout=layout)
    assert narrow(figure) is None


def test_a_notebook_stores_both():
    shell = InteractiveShell.instance()
    try:
        figures.style()
        figure, _ = plt.subplots()
        data, _ = shell.display_formatter.format(figure)
        assert _inches(data[NARROW])[0] == pytest.approx(4)
    finally:
        InteractiveShell.clear_instance()
