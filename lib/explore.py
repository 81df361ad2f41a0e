"""Figures that move, on the static page and in Jupyter alike.

A figure is a set of panels, a few range controls, and one frame for each combination of their
values, all computed here in Python; `explore.js` only draws. Drag a handle or use its control. The
frame one starts from is drawn here too, for paper and for pages without scripts.
"""

import json
import math
import re
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from html import escape
from itertools import product
from pathlib import Path

import numpy as np
import torch
from contourpy import contour_generator
from torch import Tensor

from lib._validate import count, positive, sized

_HERE = Path(__file__).parent

ROLES = ("ink", "soft", "a", "b", "c", "d")
"""The colours a mark may have, by name; the style sheet knows them for light and dark pages."""


def _rounded(name: str, values) -> list[float]:
    values = np.asarray(values, dtype=float).reshape(-1)
    if not np.isfinite(values).all():
        raise ValueError(f"{name}: expected finite numbers")
    return [float(f"{v:.4g}") for v in values]


def _typeset(text: str) -> str:
    return re.sub(r"-(?=[.\d])", "−", text)


def line(x, y, role: str = "a", label: str = "", dashed: bool = False) -> dict:
    """A curve through the points (x, y)."""
    return _mark("line", x, y, role, label) | {"role": role + (" dashed" if dashed else "")}


def points(x, y, role: str = "soft", label: str = "", size: float = 4) -> dict:
    """A dot at every (x, y); size is the radius in pixels."""
    return _mark("points", x, y, role, label) | {"size": positive("size", size)}


def level_curves(
    nodes: Tensor, mass: Tensor, role: str = "a", label: str = "", *, dashed: bool = False
) -> list[dict]:
    """The closed curves inside which half, and nine tenths, of a distribution's mass lie.

    nodes: (m, 2) on a square grid and mass: (m,), as `exact_posteriors.quadrature` gives them.
    Raises ValueError if they are not on such a grid.
    """
    side = math.isqrt(len(sized("mass", mass, len(nodes))))
    x, y = sized("nodes", nodes, side * side, 2)[::side, 0], nodes[:side, 1]
    if not (nodes == torch.cartesian_prod(x, y)).all():
        raise ValueError("nodes: expected a square grid, the second coordinate running fastest")
    contours = contour_generator(x, y, mass.view(side, side).T)
    ordered = mass.sort(descending=True).values
    marks = []
    for share in (0.5, 0.9):
        level = ordered[(ordered.cumsum(0) < share).sum()].item()
        for curve in contours.lines(level):
            if len(curve) > 8:  # a speck of a few vertices is not worth its bytes
                marks.append(line(*_thinned(curve).T, role, "" if marks else label, dashed))
    return marks


def _thinned(curve: np.ndarray, count: int = 40) -> np.ndarray:
    """At most `count` + 1 vertices of a curve, closer together where it bends."""
    steps = np.diff(curve / np.ptp(curve, axis=0), axis=0)
    length = np.hypot(*steps.T)
    bend = np.append(np.abs(np.diff(np.unwrap(np.arctan2(*steps.T)))), 0)
    way = np.append(0, np.cumsum(length / length.sum() + bend / bend.sum()))
    return curve[np.unique(np.searchsorted(way, np.linspace(0, way[-1], count + 1) - 1e-9))]


def area(x, y, role: str = "a", label: str = "") -> dict:
    """The inside of the polygon through the points (x, y), lightly filled."""
    return _mark("area", x, y, role, label)


def band(x, low, high, role: str = "a", label: str = "") -> dict:
    """What lies between two curves over x, lightly filled."""
    x, low, high = (np.asarray(v, dtype=float).reshape(-1) for v in (x, low, high))
    return area(np.append(x, x[::-1]), np.append(low, high[::-1]), role, label)


def note(
    x: float, y: float, text: str, role: str = "ink", anchor: str = "start", lift: float = 8
) -> dict:
    """A few words beside the point (x, y): to its right, over it, or to its left.

    anchor: "start", "middle" or "end".  lift: pixels by which they stand higher than the point.
    """
    [x], [y], [lift] = _rounded("x", x), _rounded("y", y), _rounded("lift", lift)
    if anchor not in _ASIDE:
        raise ValueError(f"anchor: expected one of {tuple(_ASIDE)}, got {anchor!r}")
    place = {"kind": "note", "x": x, "y": y, "anchor": anchor, "lift": lift}
    return place | {"text": text, "role": _known(role)}


def decades(low: int, high: int) -> list[tuple[int, str]]:
    """Ticks for an axis of log₁₀ values: at each whole k from low to high, labelled 10ᵏ."""
    return [(k, f"{10.0**k:g}") for k in range(low, high + 1)]


def _known(role: str) -> str:
    if role not in ROLES:
        raise ValueError(f"role: expected one of {ROLES}, got {role!r}")
    return role


def _mark(kind: str, x, y, role: str, label: str) -> dict:
    x, y = _rounded("x", x), _rounded("y", y)
    if len(x) != len(y):
        raise ValueError(f"x: expected as many numbers as in y; got {len(x)} and {len(y)}")
    return {"kind": kind, "x": x, "y": y, "role": _known(role), "label": label}


@dataclass(frozen=True)
class Panel:
    """One pair of axes: limits, labels, and the marks that every frame shares.

    xticks, yticks: pairs (place, words), such as `decades` gives; without them round numbers.
    """

    x: tuple[float, float]
    y: tuple[float, float]
    xlabel: str
    ylabel: str
    title: str = ""
    marks: Sequence[dict] = ()
    xticks: Sequence[tuple[float, str]] | None = None
    yticks: Sequence[tuple[float, str]] | None = None


@dataclass(frozen=True)
class Control:
    """One range control: a name, its values, and the value it starts from.

    labels: words for the values, where numbers say too little.  drag: "x", "y" or "xy" if the
    control has a handle in the picture, which then follows the pointer along x, along y, or in the
    plane.  panel: where that handle is.  play: a button that goes through the values.  between: the
    frame can be computed at any number between the least and the greatest value (see `live`).
    """

    name: str
    values: Sequence[float]
    start: float
    form: str = "{:.3g}"
    labels: Sequence[str] | None = None
    drag: str = ""
    panel: int = 0
    play: bool = False
    between: bool = False


@dataclass(frozen=True)
class Frame:
    """What one setting of the controls shows.

    marks: by panel.  readout: a sentence.  handles: a place (x, y) for each control with a `drag`.
    """

    marks: Sequence[Sequence[dict]]
    readout: str
    handles: Sequence[tuple[float, float]] = ()


@dataclass(frozen=True)
class Explorable:
    """A figure that moves, as HTML; made by `explorable`."""

    name: str
    spec: dict = field(repr=False)
    caption: str = field(repr=False)
    frame: Callable[..., Frame] = field(repr=False)
    settings: Sequence[Control] = field(repr=False)

    @property
    def start(self) -> int:
        """The number of the frame that the controls start from."""
        at = 0
        for control in self.spec["controls"]:
            at = at * len(control["values"]) + control["start"]
        return at

    def picture(self, frame: dict | None = None) -> str:
        """A frame, the one to start from if not given, drawn as `explore.js` draws it, 672 wide.

        An element for each panel, a window on the whole, so that they can stand beside or below
        one another.
        """
        panels, frame = self.spec["panels"], frame or self.spec["frames"][self.start]
        w = 672 / len(panels)
        h = min(max(0.85 * w, 250), 360)
        clip = f"{self.name}-live" if frame is not self.spec["frames"][self.start] else self.name
        dragged = [control["panel"] for control in self.spec["controls"] if control["drag"]]
        out = ""
        for k, (panel, marks) in enumerate(zip(panels, frame["marks"], strict=True)):
            drawn, (fx, fy) = _draw_panel(panel, marks, (k * w, 0), (w, h), f"{clip}-clip-{k}")
            for there, (x, y) in zip(dragged, frame["handles"], strict=True):
                if there == k:
                    drawn.append(
                        _tag("circle", {"class": "handle", "cx": fx(x), "cy": fy(y), "r": 9})
                    )
            window = {"width": w, "height": h, "viewBox": f"{k * w:g} 0 {w:g} {h:.1f}"}
            out += _tag("svg", window, "".join(drawn))
        look = {"class": "explore-canvas", "role": "img", "aria-label": self.spec["alt"]}
        return _tag("div", look, out)

    def _repr_html_(self) -> str:
        controls = []
        for k, control in enumerate(self.spec["controls"]):
            at, many = control["start"], len(control["values"])
            name = escape(control["name"])
            play = f'<button type="button" aria-label="Play: {name}">▶ Play</button>'
            controls.append(
                f'<div class="explore-control"><label for="{self.name}-{k}">{name}</label>'
                f'<div class="explore-slide">{play if control["play"] else ""}'
                f'<input type="range" id="{self.name}-{k}" min="0" max="{many - 1}" step="1" '
                f'value="{at}" aria-valuetext="{escape(control["labels"][at])}"></div>'
                f'<span class="explore-value">{escape(control["labels"][at])}</span></div>'
            )
        longest = max(len(label) for c in self.spec["controls"] for label in c["labels"])
        wide = f' style="--e-value: {longest / 2 + 0.5:g}rem"' if longest > 8 else ""
        data = json.dumps(_packed(self.spec), ensure_ascii=False, separators=(",", ":"))
        data = data.replace("<", "\\u003c")  # nothing in it may end the script element
        return (
            f"<style>{(_HERE / 'explore.css').read_text()}</style>"
            f'<figure class="explore" id="{self.name}">'
            f"{self.picture()}"
            f"{self._legend()}"
            f'<div class="explore-controls"{wide}>{"".join(controls)}</div>'
            f'<output aria-live="off">{escape(self.spec["frames"][self.start]["readout"])}</output>'
            f'<span role="status"></span>'
            f"<figcaption>{escape(self.caption)}</figcaption>"
            f'<script type="application/json">{data}</script></figure>'
            f"<script>{(_HERE / 'explore.js').read_text()}</script>"
        )

    def live(self):
        """The figure with widgets that compute anew when moved, for Jupyter: an ipywidgets.VBox.

        Controls made with `between` take any number, not only those that the page has frames for.
        """
        import ipywidgets  # pages do without

        sliders = []
        for control, described in zip(self.settings, self.spec["controls"], strict=True):
            look = {
                "value": control.start,
                "description": control.name,
                "style": {"description_width": "12rem"},
                "layout": ipywidgets.Layout(width="40rem", max_width="100%"),
                "continuous_update": False,
            }
            if control.between:
                low, high = min(control.values), max(control.values)
                look["readout_format"] = ".4g"
                if 0 < low < high / 20:
                    ends = {"min": math.log10(low), "max": math.log10(high)}
                    slider = ipywidgets.FloatLogSlider(**ends, step=0.01, **look)
                else:
                    step = (high - low) / 1000
                    slider = ipywidgets.FloatSlider(min=low, max=high, step=step, **look)
            else:
                pairs = list(zip(described["labels"], control.values, strict=True))
                slider = ipywidgets.SelectionSlider(options=pairs, **look)
            sliders.append(slider)
        shown = ipywidgets.HTML()

        def draw(_=None):
            values = [slider.value for slider in sliders]
            frame = _computed(self.frame, values, self.spec["panels"], self.spec["controls"])
            shown.value = (
                f"<style>{(_HERE / 'explore.css').read_text()}</style>"
                f'<figure class="explore">{self.picture(frame)}'
                f"{self._legend()}<output>{escape(frame['readout'])}</output>"
                f"<figcaption>{escape(self.caption)}</figcaption></figure>"
            )

        for slider in sliders:
            slider.observe(draw, "value")
        draw()
        return ipywidgets.VBox([shown, *sliders])

    def _legend(self) -> str:
        seen = {}
        groups = [panel["marks"] for panel in self.spec["panels"]]
        groups += self.spec["frames"][self.start]["marks"]
        for mark in (m for group in groups for m in group):
            if mark.get("label"):
                seen.setdefault(mark["label"], mark)
        shapes = {"line": "M0,6H24", "area": "M0,1H24V11H0Z", "points": "M12,6h0"}
        items = []
        for label, mark in seen.items():
            look = {"class": f"{mark['kind']} {mark['role']}", "d": shapes[mark["kind"]]}
            look |= {"stroke-width": 8} if mark["kind"] == "points" else {}
            box = {"width": 24, "height": 12, "aria-hidden": "true"}
            items.append(f"<li>{_tag('svg', box, _tag('path', look))}{escape(label)}</li>")
        return f'<ul class="explore-legend">{"".join(items)}</ul>' if items else ""


def _packed(spec: dict) -> dict:
    """The same with equal marks, and equal columns of numbers, stored once."""
    series, marks = {}, {}

    def at(mark):
        kept = {key: value for key, value in mark.items() if key != "label"}
        for axis in "xy" if mark["kind"] != "note" else "":
            kept[axis] = series.setdefault(tuple(mark[axis]), len(series))
        return marks.setdefault(tuple(kept.items()), len(marks))

    return {
        "controls": spec["controls"],
        "panels": [p | {"marks": [at(mark) for mark in p["marks"]]} for p in spec["panels"]],
        "frames": [
            frame | {"marks": [[at(mark) for mark in group] for group in frame["marks"]]}
            for frame in spec["frames"]
        ],
        "marks": [dict(mark) for mark in marks],
        "series": list(series),
    }


_ASIDE = {"start": 8, "middle": 0, "end": -8}


def _tag(name: str, attributes: dict, inside: str = "") -> str:
    def text(value):
        return escape(value) if isinstance(value, str) else f"{value:.1f}".removesuffix(".0")

    written = "".join(f' {key}="{text(value)}"' for key, value in attributes.items())
    return f"<{name}{written}>{inside}</{name}>"


def _ticks(ends: tuple[float, float], most: float) -> list[tuple[float, str]]:
    low, high = ends
    raw = (high - low) / most
    power = 10.0 ** math.floor(math.log10(raw))
    steps = [k * power for k in (0.2, 0.5, 1, 2, 5, 10)]
    at = next(k for k, step in enumerate(steps) if step >= raw)

    def multiples(step):
        return range(math.ceil(low / step - 1e-9), math.floor((high + 1e-9) / step) + 1)

    if len(multiples(steps[at])) < 3:  # one number alone tells no scale
        at -= 1
    step = steps[at]
    return [(k * step, f"{k * step:.6g}".replace("-", "−")) for k in multiples(step)]


def _draw_panel(panel: dict, marks: list, corner: tuple, size: tuple, clip: str) -> tuple:
    """The elements of one panel, and the two maps from numbers to pixels."""
    (left, top), (width, height) = corner, size
    x0, x1 = left + 56, left + width - 12
    y0, y1 = top + height - 40, top + (26 if panel["title"] else 12)
    (x_low, x_high), (y_low, y_high) = panel["x"], panel["y"]

    def fx(v):
        return x0 + (v - x_low) / (x_high - x_low) * (x1 - x0)

    def fy(v):
        return y0 - (v - y_low) / (y_high - y_low) * (y0 - y1)

    box = _tag("rect", {"x": x0, "y": y1, "width": x1 - x0, "height": y0 - y1})
    out = [_tag("clipPath", {"id": clip}, box)]
    out.append(_tag("path", {"class": "axis", "d": f"M{x0:.1f},{y1:.1f}V{y0:.1f}H{x1:.1f}"}))

    def text(words, **attributes):
        named = {key.rstrip("_").replace("_", "-"): value for key, value in attributes.items()}
        out.append(_tag("text", named, escape(words)))

    for t, words in panel["xticks"] or _ticks(panel["x"], max(3, (x1 - x0) / 75)):
        out.append(
            _tag("line", {"class": "axis", "x1": fx(t), "x2": fx(t), "y1": y0, "y2": y0 + 4})
        )
        text(words, x=fx(t), y=y0 + 16, text_anchor="middle")
    for t, words in panel["yticks"] or _ticks(panel["y"], max(3, (y0 - y1) / 55)):
        out.append(
            _tag("line", {"class": "axis", "x1": x0 - 4, "x2": x0, "y1": fy(t), "y2": fy(t)})
        )
        text(words, x=x0 - 7, y=fy(t) + 4, text_anchor="end")
    text(panel["xlabel"], class_="label", x=(x0 + x1) / 2, y=y0 + 34, text_anchor="middle")
    turn = f"translate({left + 11:.1f},{(y0 + y1) / 2:.1f}) rotate(-90)"
    text(panel["ylabel"], class_="label", text_anchor="middle", transform=turn)
    if panel["title"]:
        text(panel["title"], class_="title", x=x0, y=top + 15)
    shapes = []
    for mark in (m for m in (*panel["marks"], *marks) if m["kind"] != "note"):
        pixels = [f"{fx(u):.1f},{fy(v):.1f}" for u, v in zip(mark["x"], mark["y"], strict=True)]
        d = "".join(f"M{p}h0" for p in pixels)
        if mark["kind"] != "points":
            d = "M" * bool(pixels) + "L".join(pixels)
        look = {"class": f"{mark['kind']} {mark['role']}", "d": d}
        shapes.append(
            _tag("path", look | ({"stroke-width": 2 * mark["size"]} if "size" in mark else {}))
        )
    out.append(_tag("g", {"clip-path": f"url(#{clip})"}, "".join(shapes)))
    for mark in (m for m in (*panel["marks"], *marks) if m["kind"] == "note"):
        x, y = fx(mark["x"]) + _ASIDE[mark["anchor"]], fy(mark["y"]) - mark["lift"]
        text(mark["text"], class_=f"note {mark['role']}", x=x, y=y, text_anchor=mark["anchor"])
    return out, (fx, fy)


def explorable(
    name: str,
    panels: Sequence[Panel],
    controls: Sequence[Control],
    frame: Callable[..., Frame],
    *,
    alt: str,
    caption: str,
) -> Explorable:
    """Compute every frame and return the figure; `frame` takes one value of each control.

    alt: a sentence for those who do not see the picture.
    """
    if not re.fullmatch(r"[A-Za-z][\w-]*", name):
        raise ValueError(f"name: expected letters, digits, - and _, got {name!r}")
    if not controls:
        raise ValueError("controls: expected at least one")
    if not panels:
        raise ValueError("panels: expected at least one")
    for panel in panels:
        for ends in (panel.x, panel.y):
            if len(ends) != 2 or not -np.inf < ends[0] < ends[1] < np.inf:
                raise ValueError(f"panels: expected limits (low, high), got {ends}")
    described = [_described(control, len(panels)) for control in controls]
    axes = [asdict(panel) | {"marks": list(panel.marks)} for panel in panels]
    settings = product(*(control.values for control in controls))
    frames = [_computed(frame, values, axes, described) for values in settings]
    spec = {"alt": alt, "panels": axes, "controls": described, "frames": frames}
    return Explorable(name, spec, caption, frame, tuple(controls))


def _computed(frame: Callable[..., Frame], values, panels: list, controls: list) -> dict:
    """What `frame` says at these values, ready to be drawn."""
    one = frame(*values)
    if len(one.marks) != len(panels):
        many = len(one.marks)
        raise ValueError(f"frame: expected marks for {len(panels)} panels, got {many}")
    dragged = sum(bool(control["drag"]) for control in controls)
    if len(one.handles) != dragged:
        many = len(one.handles)
        raise ValueError(f"handles: expected one a control with drag, {dragged}; got {many}")
    return {
        "marks": [list(marks) for marks in one.marks],
        "readout": _typeset(one.readout),
        "handles": [_rounded("handles", place) for place in one.handles],
    }


def _described(control: Control, panels: int) -> dict:
    values = list(control.values)
    if control.start not in values:
        raise ValueError(f"start: expected one of the values of {control.name!r}")
    if control.drag not in ("", "x", "y", "xy"):
        raise ValueError(f"drag: expected '', 'x', 'y' or 'xy', got {control.drag!r}")
    count("panel", control.panel, least=0, most=panels - 1)
    labels = control.labels or [control.form.format(v).replace("-", "−") for v in values]
    if len(labels) != len(values):
        raise ValueError(f"labels: expected one a value of {control.name!r}, {len(values)}")
    return {
        "name": control.name,
        "values": _rounded("values", values),
        "labels": list(labels),
        "start": values.index(control.start),
        "drag": control.drag,
        "panel": control.panel,
        "play": control.play,
    }
