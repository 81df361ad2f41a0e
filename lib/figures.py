"""The look of every static figure: call `style()` once at the top of a notebook."""

from io import StringIO

import matplotlib
import matplotlib.pyplot as plt
from cycler import cycler
from IPython import get_ipython
from matplotlib.figure import Figure
from matplotlib.gridspec import GridSpec
from matplotlib.layout_engine import ConstrainedLayoutEngine
from matplotlib_inline.backend_inline import set_matplotlib_formats

BLUE, ORANGE, GREEN, PINK, SKY, GREY = (
    "#0072b2", "#c4500a", "#00805f", "#a2417b", "#4a9fd4", "#7a828b",
)  # fmt: skip
"""Okabe and Ito's palette, darkened where white paper needs it: told apart by everyone."""

NARROW = "application/vnd.attribution-book.narrow+svg"
"""The kind of output that holds a figure as a telephone shows it; other front ends pass it over."""

_NARROW_INCHES = 4.0
_HALF_A_LINE = 22  # letters of a legend that leave room for a second column


def narrow(figure: Figure) -> str | None:
    """The figure as SVG for a telephone, or None if it is not in `style`'s constrained layout.

    Plots are stacked, column after column, each with the name of a scale that it read off its
    neighbour. Rows of pictures, which have no ticks, are broken: one row after four, several after
    six. Other grids keep their order. The legend of the figure, or of its only panel, goes below.
    The figure is left as it was.
    """
    layout = figure.get_layout_engine()
    specs = {axis: spec for axis in figure.axes if (spec := axis.get_subplotspec())}
    grids = {spec.get_gridspec() for spec in specs.values()}
    if not isinstance(layout, ConstrainedLayoutEngine) or len(grids) != 1:
        return None
    [grid] = grids
    width, height = figure.get_size_inches()
    ticks = [len(axis.get_xticks()) + len(axis.get_yticks()) > 0 for axis in specs]
    places = {}
    if all(ticks):
        ordered = sorted(specs, key=lambda axis: specs[axis].num1 % grid.ncols)
        stacked = GridSpec(len(ordered), 1, figure=figure)
        places = {axis: stacked[k] for k, axis in enumerate(ordered)}
        row = height / grid.nrows
        tall = len(ordered) * max(2.7, min(row, row * _NARROW_INCHES * grid.ncols / width))
    elif not any(ticks):
        columns = min(4 if grid.nrows == 1 else 6, grid.ncols)
        lines = -(-grid.ncols // columns)  # of each row
        stacked = GridSpec(lines * grid.nrows, columns, figure=figure)
        for axis, spec in specs.items():
            row, column = divmod(spec.num1, grid.ncols)
            places[axis] = stacked[row * lines + column // columns, column % columns]
        tall = lines * height * _NARROW_INCHES * grid.ncols / width / columns
    else:
        tall = height
    legends = list(figure.legends)
    if len(specs) == 1:
        legends += [legend for axis in specs if (legend := axis.get_legend())]
    labelled = {axis: axis.yaxis.get_tick_params().get("labelleft", True) for axis in specs}
    unnamed = {axis for axis in specs if not labelled[axis] and not axis.get_ylabel()}
    names = {
        spec.num1 // grid.ncols: axis.get_ylabel() for axis, spec in specs.items() if labelled[axis]
    }
    spread = layout.get()["hspace"]
    below = []
    try:
        layout.set(hspace=0.1 if all(ticks) else spread)
        for legend in legends:  # its columns cannot be set anew
            legend.set(visible=False, in_layout=False)
            texts = legend.get_texts()
            words = [text.get_text() for text in texts]
            columns = 2 if max(map(len, words)) <= _HALF_A_LINE else 1
            again = figure.legend(
                legend.legend_handles,
                words,
                title=legend.get_title().get_text(),
                loc="outside lower center",
                ncols=columns,
                fontsize=texts[0].get_fontsize(),
            )
            below.append(again)
            tall += 0.2 * -(-len(words) // columns)
        figure.set_size_inches(_NARROW_INCHES, tall)
        for axis, place in places.items():
            axis.set_subplotspec(place)
            if all(ticks):  # those that read a shared scale off their neighbour
                axis.tick_params(labelleft=True)
            if axis in unnamed:
                axis.set_ylabel(names.get(specs[axis].num1 // grid.ncols, ""))
        drawn = StringIO()
        figure.savefig(drawn, format="svg", metadata={"Date": None})
        return drawn.getvalue()
    finally:
        figure.set_size_inches(width, height)
        layout.set(hspace=spread)
        for axis, spec in specs.items():
            axis.set_subplotspec(spec)
            axis.tick_params(labelleft=labelled[axis])
            if axis in unnamed:
                axis.set_ylabel("")
        for legend in below:
            legend.remove()
        for legend in legends:
            legend.set(visible=True, in_layout=True)


def style() -> None:
    """Vector figures on white, without dates or random ids, in safe colours.

    White, for in Jupyter's dark theme black lettering on nothing would be lost. The pages turn
    figures over in the dark, white into the colour of the page.

    In a notebook each is stored twice: as it stands, and as `narrow` draws it.
    """
    matplotlib.rcParams.update(
        {
            "svg.hashsalt": "book",
            "figure.figsize": (7.2, 3.2),
            "figure.constrained_layout.use": True,
            "figure.facecolor": "white",
            "axes.facecolor": "none",
            "savefig.facecolor": "white",
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
    if shell := get_ipython():
        shell.display_formatter.mimebundle_formatter.for_type(Figure, _with_narrow)


def _with_narrow(figure: Figure, **_) -> dict[str, str]:
    drawn = narrow(figure)
    return {} if drawn is None else {NARROW: drawn}


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
