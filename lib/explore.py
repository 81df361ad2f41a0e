"""Figures that move, on the static page and in Jupyter alike.

A figure is a set of panels, one or two range controls, and one frame for each combination of their
values, all computed here in Python; `explore.js` only draws. Drag the handle or use the control.
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
                thin = curve[: -1 : max(1, len(curve) // 40)]
                closed = np.vstack([thin, thin[:1]])
                marks.append(line(*closed.T, role, "" if marks else label, dashed))
    return marks


def note(x: float, y: float, text: str, role: str = "ink") -> dict:
    """A few words beside the point (x, y)."""
    [x], [y] = _rounded("x", x), _rounded("y", y)
    return {"kind": "note", "x": x, "y": y, "text": text, "role": _known(role)}


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
    """One pair of axes: limits, labels, and the marks that every frame shares."""

    x: tuple[float, float]
    y: tuple[float, float]
    xlabel: str
    ylabel: str
    title: str = ""
    marks: Sequence[dict] = ()


@dataclass(frozen=True)
class Control:
    """One range control: a name, its values, and the value it starts from."""

    name: str
    values: Sequence[float]
    start: float
    form: str = "{:.3g}"


@dataclass(frozen=True)
class Frame:
    """What one setting of the controls shows: marks by panel, a sentence, perhaps a handle (x, y).

    Either every frame has a handle or none has.
    """

    marks: Sequence[Sequence[dict]]
    readout: str
    handle: tuple[float, float] | None = None


@dataclass(frozen=True)
class Explorable:
    """A figure that moves, as HTML; made by `explorable`."""

    name: str
    spec: dict = field(repr=False)
    caption: str = field(repr=False)

    def _repr_html_(self) -> str:
        start = 0
        controls = []
        for k, control in enumerate(self.spec["controls"]):
            at, many = control["start"], len(control["values"])
            start = start * many + at
            controls.append(
                f'<div class="explore-control"><label for="{self.name}-{k}">'
                f'{escape(control["name"])}</label><input type="range" id="{self.name}-{k}" '
                f'min="0" max="{many - 1}" step="1" value="{at}"><span>'
                f"{escape(control['labels'][at])}</span></div>"
            )
        data = json.dumps(self.spec, ensure_ascii=False, separators=(",", ":"))
        data = data.replace("<", "\\u003c")  # nothing in it may end the script element
        return (
            f"<style>{(_HERE / 'explore.css').read_text()}</style>"
            f'<figure class="explore" id="{self.name}">'
            f'<div class="explore-canvas"></div>{self._legend()}{"".join(controls)}'
            f"<output>{escape(self.spec['frames'][start]['readout'])}</output>"
            f"<figcaption>{escape(self.caption)}</figcaption>"
            f'<script type="application/json">{data}</script></figure>'
            f"<script>{(_HERE / 'explore.js').read_text()}</script>"
        )

    def _legend(self) -> str:
        seen = {}
        groups = [p["marks"] for p in self.spec["panels"]] + self.spec["frames"][0]["marks"]
        for mark in (m for group in groups for m in group):
            if mark.get("label"):
                seen.setdefault(mark["label"], mark)
        items = []
        for label, mark in seen.items():
            shape = (
                f'<path class="line {mark["role"]}" d="M0,6H24"/>'
                if mark["kind"] == "line"
                else f'<circle class="point {mark["role"]}" cx="12" cy="6" r="4"/>'
            )
            swatch = f'<svg width="24" height="12" aria-hidden="true">{shape}</svg>'
            items.append(f"<li>{swatch}{escape(label)}</li>")
        return f'<ul class="explore-legend">{"".join(items)}</ul>' if items else ""


def explorable(
    name: str,
    panels: Sequence[Panel],
    controls: Sequence[Control],
    frame: Callable[..., Frame],
    *,
    alt: str,
    caption: str,
    handle_panel: int = 0,
    drag: str = "x",
) -> Explorable:
    """Compute every frame and return the figure; `frame` takes one value of each control.

    alt: a sentence for those who do not see the picture.  drag: "x" if the handle is followed along
    x only, "xy" if in the plane; the last control is the one that dragging moves.
    """
    if not re.fullmatch(r"[A-Za-z][\w-]*", name):
        raise ValueError(f"name: expected letters, digits, - and _, got {name!r}")
    if drag not in ("x", "xy"):
        raise ValueError(f"drag: expected 'x' or 'xy', got {drag!r}")
    if not controls:
        raise ValueError("controls: expected at least one")
    if not panels:
        raise ValueError("panels: expected at least one")
    count("handle_panel", handle_panel, least=0, most=len(panels) - 1)
    for panel in panels:
        for ends in (panel.x, panel.y):
            if len(ends) != 2 or not -np.inf < ends[0] < ends[1] < np.inf:
                raise ValueError(f"panels: expected limits (low, high), got {ends}")
    described = []
    for control in controls:
        values = list(control.values)
        if control.start not in values:
            raise ValueError(f"start: expected one of the values of {control.name!r}")
        described.append(
            {
                "name": control.name,
                "values": _rounded("values", values),
                "labels": [control.form.format(v).replace("-", "−") for v in values],
                "start": values.index(control.start),
            }
        )
    frames = []
    for setting in product(*(control.values for control in controls)):
        one = frame(*setting)
        if len(one.marks) != len(panels):
            many = len(one.marks)
            raise ValueError(f"frame: expected marks for {len(panels)} panels, got {many}")
        frames.append(
            {
                "marks": [list(marks) for marks in one.marks],
                "readout": _typeset(one.readout),
                "handle": None if one.handle is None else _rounded("handle", one.handle),
            }
        )
    if len({one["handle"] is None for one in frames}) == 2:
        raise ValueError("handle: expected one in every frame or in none")
    spec = {
        "alt": alt,
        "panels": [asdict(panel) | {"marks": list(panel.marks)} for panel in panels],
        "controls": described,
        "frames": frames,
        "handle_panel": handle_panel,
        "drag": drag,
    }
    return Explorable(name, spec, caption)
