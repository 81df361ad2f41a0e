"""What a figure that moves holds, and how it is written into a page."""

import json
import re
from xml.etree import ElementTree

import numpy as np
import pytest
import torch

from lib.explore import (
    Control,
    Frame,
    Panel,
    area,
    band,
    decades,
    explorable,
    level_curves,
    line,
    note,
    points,
)

NAN = float("nan")
PANELS = [
    Panel((0, 1), (-1, 1), "time", "place", "left", [line([0, 1], [0, 0], "soft", "zero")]),
    Panel((0, 2), (0, 1), "a", "b"),
]


def frame(k, c):
    return Frame(
        [[line([0, 1], [k, c], label="a < b")], [points([c], [k])]],
        f"leave-one-out at {k:g}, {1e-5:g}",
        [(k, c)],
    )


def make(**changes):
    given = {
        "name": "fig-1",
        "panels": PANELS,
        "controls": [
            Control("k", [-1, 0], 0),
            Control("c", [0.5, 2, 3], 2, "{:.1f}", drag="xy", panel=1, play=True),
        ],
        "frame": frame,
        "alt": "</script><b>",
        "caption": "x < y",
    } | changes
    return explorable(given.pop("name"), **given)


def test_one_frame_for_each_setting_the_last_control_fastest():
    figure = make()
    spec = figure.spec
    assert [f["handles"] for f in spec["frames"]] == [
        [[k, c]] for k in (-1, 0) for c in (0.5, 2, 3)
    ]
    assert [f["marks"][0][0]["y"] for f in spec["frames"]][3] == [0, 0.5]
    k, c = spec["controls"]
    still = {"drag": "", "panel": 0, "play": False}
    assert k == {"name": "k", "values": [-1, 0], "labels": ["−1", "0"], "start": 1} | still
    moves = {"drag": "xy", "panel": 1, "play": True}
    labels = ["0.5", "2.0", "3.0"]
    assert c == {"name": "c", "values": [0.5, 2, 3], "labels": labels, "start": 1} | moves
    assert figure.start == 4
    assert spec["panels"][0]["x"] == (0, 1) and spec["panels"][0]["ylabel"] == "place"
    assert spec["panels"][0]["marks"][0]["label"] == "zero"
    assert spec["frames"][0]["readout"] == "leave-one-out at −1, 1e−05"


def test_labels_may_be_words():
    control = Control("k", [0, 1], 0, labels=["short", "long"])
    assert make(**ONE | {"controls": [control]}).spec["controls"][0]["labels"] == ["short", "long"]


def test_page():
    page = make()._repr_html_()
    assert 'id="fig-1"' in page and "<figcaption>x &lt; y</figcaption>" in page
    assert '<output aria-live="off">leave-one-out at 0, 1e−05</output>' in page
    assert 'min="0" max="2" step="1" value="1" aria-valuetext="2.0">' in page
    assert page.count('<button type="button" aria-label="Play: c">') == 1
    legend = re.search(r'<ul class="explore-legend">.*?</ul>', page)[0]
    assert re.findall(r"</svg>(.*?)</li>", legend) == ["zero", "a &lt; b"]


def test_what_the_page_stores_is_the_figure():
    page = make()._repr_html_()
    data = re.search(r'<script type="application/json">(.*?)</script>', page, re.S)[1]
    assert "<" not in data
    stored, spec = json.loads(data), json.loads(json.dumps(make().spec))

    def marks(places):
        found = [dict(stored["marks"][k]) for k in places]
        for mark in found:
            mark |= {axis: stored["series"][mark[axis]] for axis in "xy"}
        return found

    def unlabelled(group):
        return [{key: v for key, v in mark.items() if key != "label"} for mark in group]

    for one, frame in zip(stored["frames"], spec["frames"], strict=True):
        assert [marks(group) for group in one["marks"]] == [unlabelled(g) for g in frame["marks"]]
        assert (one["readout"], one["handles"]) == (frame["readout"], frame["handles"])
    for one, panel in zip(stored["panels"], spec["panels"], strict=True):
        assert one == panel | {"marks": one["marks"]}
        assert marks(one["marks"]) == unlabelled(panel["marks"])
    assert stored["controls"] == spec["controls"]
    assert len(stored["series"]) == len({tuple(column) for column in stored["series"]})
    assert len(stored["marks"]) == len({json.dumps(mark) for mark in stored["marks"]}) == 1 + 6 + 6


def test_picture():
    canvas = ElementTree.fromstring(make().picture())
    assert canvas.get("role") == "img" and canvas.get("aria-label") == "</script><b>"
    left, right = canvas
    sizes = [(svg.get("width"), svg.get("height"), svg.get("viewBox")) for svg in canvas]
    assert sizes == [("336", "285.6", "0 0 336 285.6"), ("336", "285.6", "336 0 336 285.6")]
    assert not [*left.iter("circle")]
    [handle] = right.iter("circle")
    x, y = float(handle.get("cx")), float(handle.get("cy"))  # at (0, 2) of the second panel
    assert (x, y) == pytest.approx((336 + 56, 285.6 - 40 - 2 * (285.6 - 40 - 12)), abs=0.06)
    slant = [e.get("d") for e in left.iter("path") if e.get("class") == "line a"]
    top, bottom = 26, 285.6 - 40  # from (0, 0) to (1, 2): half way up, then out at the top
    half = (top + bottom) / 2
    assert slant == [f"M56.0,{half:.1f}L324.0,{half - (bottom - top):.1f}"]
    titles = [[e.text for e in svg.iter("text") if e.get("class") == "title"] for svg in canvas]
    assert titles == [["left"], []]
    sides = [e.text for e in canvas.iter("text") if e.get("text-anchor") == "end"]
    assert sides == ["−1", "0", "1", "0", "0.5", "1"]


def test_marks():
    assert line([0, 1], [2, 3], "a", "l", True) == {
        "kind": "line",
        "x": [0, 1],
        "y": [2, 3],
        "role": "a dashed",
        "label": "l",
    }
    assert points([0], [1 / 3], size=2)["y"] == [0.3333] and points([0], [1])["size"] == 4
    assert points([0], [1], size=2)["size"] == 2
    assert area([0, 1, 1], [0, 0, 1], "c")["kind"] == "area"
    assert band([0, 1], [2, 3], [4, 5]) == area([0, 1, 1, 0], [2, 3, 5, 4])
    assert note(1, 2, "here", "b", "end", lift=-4) == {
        "kind": "note",
        "x": 1,
        "y": 2,
        "text": "here",
        "role": "b",
        "anchor": "end",
        "lift": -4,
    }
    assert decades(-2, 1) == [(-2, "0.01"), (-1, "0.1"), (0, "1"), (1, "10")]


def _gaussian_grid(side, reach=6.0):
    axis = torch.linspace(-reach, reach, side).double()
    nodes = torch.cartesian_prod(axis, 2 * axis)
    mass = torch.softmax(-0.5 * (nodes[:, 0] ** 2 + (nodes[:, 1] / 2) ** 2), 0)
    return nodes, mass


def test_level_curves_hold_the_share_they_say():
    curves = level_curves(*_gaussian_grid(241), "b", "mass", dashed=True)
    assert [c["label"] for c in curves] == ["mass", ""] and curves[0]["role"] == "b dashed"
    for curve, share in zip(curves, (0.5, 0.9), strict=True):
        radius = np.hypot(curve["x"], np.array(curve["y"]) / 2)  # of an ellipse: √(−2 log(1 − s))
        assert radius == pytest.approx(np.sqrt(-2 * np.log(1 - share)), abs=0.02)
        assert (curve["x"][0], curve["y"][0]) == (curve["x"][-1], curve["y"][-1])
        assert len(curve["x"]) <= 90


def test_level_curves_of_two_humps_are_four():
    nodes, _ = _gaussian_grid(241)
    hump = [torch.exp(-4 * ((nodes - torch.tensor([k, 0.0])) ** 2).sum(1)) for k in (-3.0, 3.0)]
    mass = sum(hump) / sum(hump).sum()
    assert len(level_curves(nodes, mass)) == 4


def static(k):
    return Frame([[]], "")


ONE = {"panels": PANELS[:1], "controls": [Control("k", [0, 1], 0)], "frame": static}


def test_without_handle_or_legend():
    figure = make(**ONE | {"panels": [Panel((0, 1), (0, 1), "", "")]})
    assert figure.spec["frames"][1] == {"marks": [[]], "readout": "", "handles": []}
    assert "<ul" not in figure._repr_html_()


@pytest.mark.parametrize(
    "name, call",
    [
        ("role", lambda: line([0], [0], "red")),
        ("role", lambda: note(0, 0, "", "red")),
        ("x", lambda: line([0, 1], [0])),
        ("x", lambda: points([NAN], [0])),
        ("y", lambda: points([0], [NAN])),
        ("y", lambda: note(0, float("inf"), "")),
        ("size", lambda: points([0], [0], size=-1)),
        ("mass", lambda: level_curves(torch.ones(9, 2), torch.ones(8))),
        ("nodes", lambda: level_curves(torch.ones(8, 2), torch.ones(8))),
        ("nodes", lambda: level_curves(_gaussian_grid(5)[0].flip(1), torch.ones(25))),
        ("name", lambda: make(name='a" b')),
        ("name", lambda: make(name="")),
        ("anchor", lambda: note(0, 0, "", anchor="left")),
        ("lift", lambda: note(0, 0, "", lift=NAN)),
        ("drag", lambda: make(**ONE | {"controls": [Control("k", [0], 0, drag="z")]})),
        ("panel", lambda: make(**ONE | {"controls": [Control("k", [0], 0, panel=1)]})),
        ("labels", lambda: make(**ONE | {"controls": [Control("k", [0], 0, labels=["a", "b"])]})),
        ("panels", lambda: make(panels=[])),
        ("panels", lambda: make(panels=[Panel((1, 0), (0, 1), "", "")])),
        ("panels", lambda: make(panels=[Panel((0, NAN), (0, 1), "", "")])),
        ("panels", lambda: make(panels=[Panel((0, 1), (1, 1), "", "")])),
        ("controls", lambda: make(controls=[])),
        ("start", lambda: make(controls=[Control("k", [0, 1], 0.5)])),
        ("start", lambda: make(controls=[Control("k", [], 0)])),
        ("values", lambda: make(**ONE | {"controls": [Control("k", [0, NAN], 0)]})),
        ("frame", lambda: make(frame=lambda k, c: Frame([[]], ""))),
        ("handles", lambda: make(**ONE | {"frame": lambda k: Frame([[]], "", [(0, 0)])})),
        ("handles", lambda: make(frame=lambda k, c: Frame([[], []], ""))),
        ("handles", lambda: make(frame=lambda k, c: Frame([[], []], "", [(NAN, 0)]))),
    ],
)
def test_bad_input_is_named(name, call):
    with pytest.raises(ValueError, match=rf"^{name}: "):
        call()


def test_live_computes_at_values_that_have_no_frame():
    asked = []

    def watched(k, c):
        asked.append((k, c))
        return frame(k, c)

    controls = [
        Control("k", [-1, 0], 0),
        Control("c", [0.0, 0.5, 1.0], 0.5, drag="xy", panel=1, between=True),
    ]
    box = explorable("fig-1", PANELS, controls, watched, alt="Two.", caption="What.").live()
    shown, first, second = box.children
    assert "leave-one-out at 0, 1e−05" in shown.value
    before = len(asked)
    second.value = 0.123
    first.value = -1
    assert asked[before:] == [(0, 0.123), (-1, 0.123)]
    assert "leave-one-out at −1, 1e−05" in shown.value
    first.value = 0
    canvas = ElementTree.fromstring(re.search("<div.*?</div>", shown.value)[0])
    [handle] = [element for element in canvas.iter() if element.get("class") == "handle"]
    top, bottom = 12, 0.85 * 336 - 40  # of the second panel, whose axis goes from 0 to 1
    assert float(handle.get("cx")) == pytest.approx(336 + 56, abs=0.1)
    assert float(handle.get("cy")) == pytest.approx(bottom - 0.123 * (bottom - top), abs=0.1)


def test_live_offers_the_values_there_are_where_no_others_can_be_computed():
    figure = make()
    first = figure.live().children[1]
    assert [value for _, value in first.options] == [-1, 0]
    with pytest.raises(Exception, match="Invalid selection"):
        first.value = -0.5
