"""The look of every static figure: call `style()` once at the top of a notebook."""

import matplotlib
import matplotlib.pyplot as plt
from cycler import cycler
from matplotlib_inline.backend_inline import set_matplotlib_formats

BLUE, ORANGE, GREEN, PINK, SKY, GREY = (
    "#0072b2", "#c4500a", "#00805f", "#a2417b", "#4a9fd4", "#7a828b",
)  # fmt: skip
"""Okabe and Ito's palette, darkened where white paper needs it: told apart by everyone."""


def style() -> None:
    """Vector figures on a transparent ground, without dates or random ids, in safe colours."""
    matplotlib.rcParams.update(
        {
            "svg.hashsalt": "book",
            "figure.figsize": (7.2, 3.2),
            "figure.constrained_layout.use": True,
            "figure.facecolor": "none",
            "axes.facecolor": "none",
            "savefig.facecolor": "none",
            "legend.frameon": False,
            "font.size": 10.5,
            "axes.titlesize": 11,
            "axes.titlelocation": "left",
            "axes.titleweight": "bold",
            "axes.spines.top": False,
            "axes.spines.right": False,
            "axes.edgecolor": "#555b61",
            "lines.linewidth": 2,
            "image.cmap": "gray_r",
            "axes.prop_cycle": cycler(color=[BLUE, ORANGE, GREEN, PINK, SKY, GREY]),
        }
    )
    set_matplotlib_formats("svg", metadata={"Date": None})


def diagonal(axis) -> None:
    """Draw y = x across the axes, for predicted against true."""
    low, high = axis.get_xlim()
    axis.plot(
        [low, high], [low, high], color=GREY, linewidth=1, zorder=0, scalex=False, scaley=False
    )


def digit(axis, pixels, title: str = "") -> None:
    """Show 64 pixels as an 8 × 8 image without axes."""
    axis.imshow(pixels.reshape(8, 8), vmin=0, vmax=1)
    axis.set(xticks=[], yticks=[])
    axis.spines[:].set_visible(False)
    axis.set_title(title, fontsize=9, fontweight="normal", loc="center")


__all__ = ["BLUE", "GREEN", "GREY", "ORANGE", "PINK", "SKY", "diagonal", "digit", "plt", "style"]
