"""The look of the figures: one colour, mark and dash for each loss through the whole book.

The colours differ in hue and lightness so that readers with any common form of colour blindness tell them apart, and
text in them can be read on the page; the lighter twin of each is used on dark pages (:data:`DARK`). Figures are drawn
for a column of 5.4 inches, so that on a phone their text is still readable.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure


class Look(NamedTuple):
    """How a name is written and drawn; ``marker`` and ``dash`` in Matplotlib's words."""

    title: str
    color: str
    marker: str
    dash: str


INK, MUTED, GRID, PAPER = "#20242b", "#5f6773", "#d5d8de", "#fefefe"
PALE, DEEP = "#ffffff", "#010102"  # drawn on a picture, which is the same on a dark page
_BLUE, _PINK, _BROWN, _GREEN, _GREY, _ORANGE = "#0050a8", "#c4015e", "#7a4600", "#006654", "#727683", "#c05600"
# Six losses have a colour of their own. Another has that of the one it descends from, with the next dash and mark.
LOOK = {
    "bce": Look("BCE", _BLUE, "o", "-"),
    "weighted-bce": Look("weighted BCE", _PINK, "v", "-"),
    "focal": Look("focal", _BROWN, "s", "-"),
    "soft-bce": Look("soft BCE", _GREEN, "^", "-"),
    "mse": Look("MSE", _GREY, "D", "-"),
    "distance-aware": Look("distance-aware", _ORANGE, "P", "-"),
    "quality-focal": Look("quality focal", _BROWN, "X", "--"),
    "varifocal": Look("varifocal", _BROWN, "<", ":"),
    "weighted-mse": Look("weighted MSE", _GREY, "X", "--"),
    "adaptive-wing": Look("adaptive wing", _GREY, "<", ":"),
    "distance-map-bce": Look("distance-map BCE", _ORANGE, "X", "--"),
    "softmax-distance-aware": Look("softmax distance-aware", _ORANGE, "<", ":"),
    "dice": Look("Dice", _PINK, "X", "--"),
    "tversky": Look("Tversky", _PINK, "<", ":"),
    "spatial-kl": Look("spatial KL", _GREEN, "X", "--"),
    "spatial-js": Look("spatial JS", _GREEN, "<", ":"),
    "dsnt": Look("DSNT", _GREEN, "p", "-."),
}
TITLE = {name: look.title for name, look in LOOK.items()}
COLOR = {name: look.color for name, look in LOOK.items()}
MARKER = {name: look.marker for name, look in LOOK.items()}
# What is no loss (a system, a net, a decoder) is drawn in ink: in this order.
_INKS = (
    (INK, "o", "-"), (MUTED, "v", "--"), (INK, "s", ":"), (MUTED, "^", "-."),
    (INK, "D", "--"), (MUTED, "P", "-"), (INK, "X", "-."), (MUTED, "<", ":"),
)
# What each colour becomes on a dark page; every colour of a figure is here.
DARK = {
    INK: "#e8eaed", MUTED: "#a3abb7", GRID: "#3d434c", PAPER: "#121212", PALE: PALE, DEEP: DEEP,
    _BLUE: "#45b0ff", _PINK: "#e870c8", _BROWN: "#c8701c", _GREEN: "#7fe0b8", _GREY: "#85888f", _ORANGE: "#ffb468",
}
WIDTH = 5.4  # inches

_STYLE: dict[Any, Any] = {
    "figure.facecolor": "none", "axes.facecolor": "none", "savefig.facecolor": "none", "savefig.transparent": True,
    "text.color": INK, "axes.labelcolor": INK, "axes.titlecolor": INK, "axes.edgecolor": MUTED,
    "xtick.color": MUTED, "ytick.color": MUTED, "xtick.labelcolor": INK, "ytick.labelcolor": INK,
    "grid.color": GRID, "grid.linewidth": 0.8, "axes.grid": True, "axes.axisbelow": True,
    "axes.spines.top": False, "axes.spines.right": False, "axes.titlesize": 11, "axes.titlelocation": "left",
    "font.size": 11, "axes.labelsize": 11, "xtick.labelsize": 10, "ytick.labelsize": 10, "legend.fontsize": 10,
    "legend.frameon": False, "lines.linewidth": 2.0, "lines.markersize": 6, "image.cmap": "gray",
    "image.interpolation": "nearest", "svg.fonttype": "path", "svg.hashsalt": "falloff", "figure.dpi": 96,
}


def arm(name: str) -> str:
    """An arm of an experiment in the book's words: "bce, bias 0" begins with a loss, which gets its title."""
    loss, *rest = name.split(", ")
    return ", ".join([TITLE.get(loss, loss), *rest])


def new(rows: int = 1, columns: int = 1, *, height: float = 3.2, **options: Any) -> tuple[Figure, np.ndarray | Axes]:
    """A figure of the book's width with its axes, as ``plt.subplots`` returns them.

    Args:
        rows, columns: of axes; more than two columns are too small on a phone, except for pictures.
        height: of the whole figure in inches.
        options: further arguments of ``plt.subplots``.
    """
    mpl.use("agg", force=False)
    import matplotlib.pyplot as plt

    mpl.rcdefaults()  # whatever the reader's own matplotlibrc says
    mpl.rcParams.update(_STYLE)
    return plt.subplots(rows, columns, figsize=(WIDTH, height), layout="constrained", **options)


def axes(ax: Axes, *, title: str | None = None, x: str | None = None, y: str | None = None) -> Axes:
    """Name an axes: title, x label and y label, with units."""
    ax.set(title=title or "", xlabel=x or "", ylabel=y or "")
    return ax


def looks(names: Iterable[str]) -> dict[str, Look]:
    """How each name is drawn: a loss as in the whole book, what is no loss in ink, by its place among such names.

    Name systems, nets or decoders always all and in one order, and each looks the same in every figure.

    Raises:
        ValueError: more names that are no loss than can be told apart.
    """
    names = list(dict.fromkeys(names))
    others = [name for name in names if name not in LOOK]
    if len(others) > len(_INKS):
        raise ValueError(f"names must have at most {len(_INKS)} that are no loss, got {len(others)}: {others}")
    inks = {name: Look(str(name), *ink) for name, ink in zip(others, _INKS, strict=False)}
    return {name: LOOK.get(name) or inks[name] for name in names}


def label_ends(ax: Axes, ends: Mapping[str, tuple[float, float]], *, gap: float | None = None) -> None:
    """Write each name beside the end (x, y) of its line, in its colour, moved apart where they would overlap.

    A thin line leads from the end to the name. A line that ends nowhere (y is NaN) has its name at the foot. Scales and
    limits of the axes are to be set before.

    Args:
        ends: by :func:`looks`, in this order.
        gap: the least distance between two names as a share of the height of the axes; if not given, a line of text.
    """
    from scipy.optimize import isotonic_regression

    if not ends:
        return
    place = {name: (ax.transScale + ax.transLimits).transform(end)[1] for name, end in ends.items()}
    order = sorted(ends, key=lambda name: -1.0 if math.isnan(place[name]) else place[name])
    if gap is None:
        gap = 0.17 / (ax.get_position().height * ax.figure.figure.get_figheight())
    steps = np.arange(len(order)) * min(gap, 1 / max(1, len(order) - 1))
    # The nearest places that lie `gap` apart: a monotone fit of what is wanted, less the gaps.
    fit = isotonic_regression(np.clip([np.nan_to_num(place[name]) for name in order], 0, 1) - steps).x
    look = looks(ends)
    for name, at in zip(order, np.clip(fit, 0, 1 - steps[-1]) + steps, strict=True):
        _, y = ends[name]
        title, color, _, dash = look[name]
        lead = None if math.isnan(y) else {
            "arrowstyle": "-", "color": color, "linestyle": dash, "linewidth": 0.8, "shrinkA": 0, "shrinkB": 0,
            "relpos": (0, 0.5),
        }
        ax.annotate(
            title + (" (undefined)" if math.isnan(y) else ""), xy=ends[name] if lead else (1, 0), xycoords="data",
            xytext=(1.03, at), textcoords="axes fraction", color=color, va="center", fontweight="bold", fontsize=10,
            annotation_clip=False, arrowprops=lead,
        )


def dark(drawing: str) -> str:
    """An SVG in the colours for a dark page."""
    for light, twin in DARK.items():
        drawing = drawing.replace(light, twin)
    return drawing
