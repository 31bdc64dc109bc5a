"""A figure laid out anew for a phone, whose text would be too small if the drawing were only shown smaller."""

from __future__ import annotations

import math

from matplotlib.axes import Axes
from matplotlib.figure import Figure

WIDTH = 3.6  # inches; a phone's column of 342 px at 96 dots per inch


def narrow(fig: Figure) -> Figure:
    """Make a figure as wide as a phone's column, its text as large as before; returns the same figure.

    Panels go one below the other, each as high as before and with the words on its axes that it shared with its
    neighbour; pictures without a bar of colours two in a row. Titles wrap, the bar beside a matrix of numbers goes, and
    a legend of the figure, which stands outside at the upper left, takes as many columns as fit.
    """
    panels = [ax for ax in fig.axes if ax.get_subplotspec() is not None]
    rows, columns, *_ = panels[0].get_subplotspec().get_geometry()  # type: ignore[union-attr]  # as chosen above
    pictures = not any(len(ax.get_xticks()) or len(ax.get_yticks()) for ax in panels)
    bars = any(ax.child_axes for ax in panels)
    across = min(columns, 2 if pictures and not bars else 1)
    down = math.ceil(len(panels) / across)
    width, height = fig.get_size_inches()
    scale = WIDTH / across / (width / columns) * (0.9 if bars else 1) if pictures else 1
    fig.set_size_inches(WIDTH, height / rows * down * scale)
    grid = fig.add_gridspec(down, across)
    for place, ax in enumerate(panels):
        neighbour = panels[place - place % columns]
        ax.set_subplotspec(grid[place // across, place % across])
        if across < columns and not pictures:
            _own_words(ax, neighbour)
        ax.set_title(ax.get_title(loc="left"), loc="left", wrap=True)
        ax.xaxis.label.set_wrap(True)
    for bar in [ax for ax in fig.axes if ax.get_subplotspec() is None]:
        bar.remove()
        names = [name.get_text().replace("-\n", "-").replace("\n", " ") for name in panels[0].get_xticklabels()]
        panels[0].set_xticklabels(names, rotation=35, ha="right", rotation_mode="anchor")
        for number in panels[0].texts:
            number.set_fontsize(8.5)
    for legend in list(fig.legends):
        _as_wide_as_fits(fig, legend)
    return fig


def _own_words(ax: Axes, neighbour: Axes) -> None:
    ax.tick_params(axis="y", labelleft=True)
    ax.tick_params(axis="x", labelbottom=True)
    if ax.get_shared_y_axes().joined(ax, neighbour) and not ax.get_ylabel():
        ax.set_ylabel(neighbour.get_ylabel())


def _as_wide_as_fits(fig: Figure, legend) -> None:
    legend.remove()
    names = [text.get_text() for text in legend.get_texts()]
    for ncols in range(len(names), 0, -1):
        again = fig.legend(legend.legend_handles, names, loc="outside upper left", ncols=ncols, columnspacing=1)
        if again.get_window_extent().width <= fig.bbox.width:
            return
        if ncols > 1:
            again.remove()
