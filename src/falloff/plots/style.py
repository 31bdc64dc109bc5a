"""The look of the figures: one colour and one marker for each loss through the whole book.

The colours are those of Okabe and Ito, told apart by readers with any common form of colour blindness; the lighter
twin of each is used on dark pages (:data:`DARK`). Figures are drawn for a column of 5.4 inches, so that on a phone
their text is still readable.
"""

from __future__ import annotations

from collections.abc import Mapping
from itertools import pairwise

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

INK, MUTED, GRID, PAPER = "#20242b", "#5f6773", "#d5d8de", "#fefefe"
COLOR = {
    "bce": "#0072b2", "weighted-bce": "#b5578e", "focal": "#a87400", "soft-bce": "#00825f",
    "mse": "#6e6e74", "distance-aware": "#cc4e00",
}
MARKER = {"bce": "o", "weighted-bce": "v", "focal": "s", "soft-bce": "^", "mse": "D", "distance-aware": "P"}
TITLE = {
    "bce": "BCE", "weighted-bce": "weighted BCE", "focal": "focal", "soft-bce": "soft BCE", "mse": "MSE",
    "distance-aware": "distance-aware",
}
# What each colour becomes on a dark page.
DARK = {
    INK: "#e8eaed", MUTED: "#a3abb7", GRID: "#3d434c", PAPER: "#121212",
    "#0072b2": "#56b4f0", "#b5578e": "#e79bc8", "#a87400": "#f0b83c", "#00825f": "#38cfa2", "#6e6e74": "#b0b0b6",
    "#cc4e00": "#ff8a4c",
}
WIDTH = 5.4  # inches

_STYLE = {
    "figure.facecolor": "none", "axes.facecolor": "none", "savefig.facecolor": "none", "savefig.transparent": True,
    "text.color": INK, "axes.labelcolor": INK, "axes.titlecolor": INK, "axes.edgecolor": MUTED,
    "xtick.color": MUTED, "ytick.color": MUTED, "xtick.labelcolor": INK, "ytick.labelcolor": INK,
    "grid.color": GRID, "grid.linewidth": 0.8, "axes.grid": True, "axes.axisbelow": True,
    "axes.spines.top": False, "axes.spines.right": False, "axes.titlesize": 11, "axes.titlelocation": "left",
    "font.size": 11, "axes.labelsize": 11, "xtick.labelsize": 10, "ytick.labelsize": 10, "legend.fontsize": 10,
    "legend.frameon": False, "lines.linewidth": 2.0, "lines.markersize": 6, "image.cmap": "gray",
    "image.interpolation": "nearest", "svg.fonttype": "path", "svg.hashsalt": "falloff", "figure.dpi": 96,
}


def new(rows: int = 1, columns: int = 1, *, height: float = 3.2, **options: object) -> tuple[Figure, np.ndarray | Axes]:
    """A figure of the book's width with its axes, as ``plt.subplots`` returns them.

    Args:
        rows, columns: of axes; more than two columns are too small on a phone, except for pictures.
        height: of the whole figure in inches.
        options: further arguments of ``plt.subplots``.
    """
    mpl.use("agg", force=False)
    import matplotlib.pyplot as plt

    mpl.rcParams.update(_STYLE)
    return plt.subplots(rows, columns, figsize=(WIDTH, height), layout="constrained", **options)


def axes(ax: Axes, *, title: str | None = None, x: str | None = None, y: str | None = None) -> Axes:
    """Name an axes: title, x label and y label, with units."""
    ax.set(title=title or "", xlabel=x or "", ylabel=y or "")
    return ax


def label_ends(ax: Axes, ends: Mapping[str, tuple[float, float]], *, gap: float = 0.06) -> None:
    """Write each loss's name beside the end (x, y) of its line, in its colour, moved apart where they would overlap.

    ``gap`` is the least distance between two names as a share of the height of the axes.
    """
    low, high = ax.get_ylim()
    wanted = sorted(ends, key=lambda name: ends[name][1])
    place = {name: (ends[name][1] - low) / (high - low) for name in wanted}
    for _ in range(200):
        for one, two in pairwise(wanted):
            overlap = gap - (place[two] - place[one])
            if overlap > 1e-9:
                place[one] -= overlap / 2
                place[two] += overlap / 2
    for name in wanted:
        ax.annotate(
            TITLE[name], xy=(1.02, place[name]), xycoords="axes fraction", color=COLOR[name], va="center",
            fontweight="bold", annotation_clip=False, fontsize=10,
        )
