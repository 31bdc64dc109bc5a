"""The kinds of figure that the book draws: curves with a band, dots by row, maps and matrices.

Seaborn and SciPy are imported where they draw: who wants only the colours (Sphinx) does not wait for them.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.colors import LogNorm, Normalize
from matplotlib.image import AxesImage
from matplotlib.patheffects import withStroke
from matplotlib.transforms import ScaledTranslation
from numpy.typing import ArrayLike

from falloff import sets
from falloff.plots.style import DEEP, INK, MUTED, PALE, TITLE, label_ends, looks

if TYPE_CHECKING:
    from falloff.data import Dataset
    from falloff.points import Points

_MAP = "viridis"
_DECADES = 6  # of a logarithmic colour scale, unless limits are given: what is smaller has the lowest colour


def curve(
    ax: Axes, table: pd.DataFrame, x: str, y: str, by: str = "loss", *, order: Sequence[str] | None = None,
    label: bool = True,
) -> Axes:
    """A line for each group: every seed faint, the mean over seeds with the band of its 95 % t interval.

    Where a seed lacks a value, or it is NaN, the mean is undefined and its line has a gap; one seed has no band. Set
    scales and limits of ``ax`` before.

    Args:
        table: one row for each group, ``seed`` and ``x``.
        by: the column of groups.
        order: the groups to draw; all, as they come, if not given. See :func:`falloff.plots.looks`.
        label: write each group's name beside its line's end.

    Raises:
        ValueError: a column is missing, a group has no row, or a seed has an ``x`` twice.
    """
    import seaborn as sns

    groups = _groups(table, by, order, "seed", x, y)
    drawn = {"x": x, "y": y, "ax": ax, "legend": False}
    ends = {}
    for name, look in looks(groups).items():
        if groups[name].duplicated(["seed", x]).any():
            raise ValueError(f"table must have each {x!r} of a seed once, got one twice for {name!r}")
        wide = groups[name].pivot_table(index=x, columns="seed", values=y, dropna=False)
        each = wide.melt(value_name=y, ignore_index=False).reset_index()
        # Seaborn leaves out what is NaN and joins its neighbours: the pieces between are lines of their own.
        piece = each[y].isna().groupby(each["seed"]).cumsum()
        if len(each.dropna()):
            sns.lineplot(each, units=each["seed"].astype(str) + "/" + piece.astype(str), estimator=None,
                         color=look.color, linewidth=0.8, alpha=0.4, marker=".", markersize=2.5, markeredgewidth=0,
                         **drawn)
        undefined = wide.isna().any(axis=1)
        whole = each[each[x].map(~undefined)]
        for _, part in whole.groupby(whole[x].map(undefined.cumsum())):
            sns.lineplot(
                part, errorbar=_ends, err_kws={"alpha": 0.15, "linewidth": 0}, color=look.color, linestyle=look.dash,
                marker=look.marker, markersize=5, markeredgecolor=look.color, markevery=math.ceil(len(wide) / 12),
                **drawn)
        mean = wide[~undefined].mean(axis=1)
        ends[name] = (mean.index[-1], mean.iloc[-1]) if len(mean) else (math.nan, math.nan)
    if label:
        label_ends(ax, ends)
    return ax


def dots(
    ax: Axes, table: pd.DataFrame, value: str, row: str = "loss", *, order: Sequence[str] | None = None
) -> Axes:
    """A row for each group: every seed a small dot, and above them the mean with its 95 % t interval.

    One seed has no interval. A group with a value that is NaN has no mean: the row says how many are undefined.

    Args:
        table: one row for each group and seed.
        row: the column of groups.
        order: the rows from the top; all, as they come, if not given. A row wants about 0.3 inches of height.

    Raises:
        ValueError: a column is missing, or a group has no row.
    """
    import seaborn as sns

    groups = _groups(table, row, order, value)
    found = looks(groups)
    raised = ScaledTranslation(0, 5 / 72, ax.figure.dpi_scale_trans)
    for place, (name, look) in enumerate(found.items()):
        group = groups[name]
        drawn = {"x": value, "y": row, "order": list(groups), "color": look.color, "ax": ax, "legend": False}
        sns.stripplot(group.dropna(subset=value), jitter=False, marker=look.marker, size=4, alpha=0.6, linewidth=0,
                      **drawn)
        undefined = int(group[value].isna().sum())
        if undefined:
            ax.annotate(f"{undefined} of {len(group)} undefined", (1, place), (0, 3), ("axes fraction", "data"),
                        "offset points", ha="right", color=MUTED, fontsize=9)
            continue
        before = len(ax.lines)
        sns.pointplot(group, errorbar=_ends, linestyle="none", marker=look.marker, markersize=7, markeredgewidth=0,
                      err_kws={"linewidth": 2}, **drawn)
        for line in ax.lines[before:]:  # beside the dots, so that none is hidden
            line.set_transform(line.get_transform() + raised)
    ax.set_yticks(range(len(groups)), [look.title for look in found.values()])
    ax.set(ylabel="", ylim=(len(groups) - 0.4, -0.6))
    return ax


def picture(ax: Axes, dataset: Dataset, index: int) -> None:
    """A picture of a data set with a ring around each labelled point; of a set that is not made here the points alone.

    Args:
        dataset: a split of it.
        index: of the picture.
    """
    points = dataset.points[[index]]
    _image(ax, dataset, index)
    _marks(ax, points.xy[0][points.valid[0]], "o", 11)


def answers(ax: Axes, dataset: Dataset, index: int, found: Points, *, radius: float = 2.0) -> None:
    """A picture with the best answers of a net, as many as there are labelled points, each with the class it names.

    A ring is a labelled point that was found, a square one that was missed, and a cross an answer that is wrong: of
    another class, too far off, or the second one for a point. Without the picture where that is not made here.

    Args:
        dataset: a split of it.
        index: of the picture.
        found: points with scores for all pictures of the split.
        radius: in pixels, within which an answer of the point's class is right.
    """
    from falloff import metrics

    truth = dataset.points[[index]]
    _image(ax, dataset, index)
    match = metrics.match(found[[index]], truth, radius=radius).best(truth.valid.sum(1))
    there, right = match.predicted.valid[0], match.truth[0] >= 0
    _marks(ax, truth.xy[0][truth.valid[0] & match.found[0]], "o", 11)
    _marks(ax, truth.xy[0][truth.valid[0] & ~match.found[0]], "s", 11)
    _marks(ax, match.predicted.xy[0][there & ~right], "x", 6)
    said = match.predicted.xy[0][there]
    for place, (xy, kind) in enumerate(zip(said, match.predicted.label[0][there], strict=True)):
        before = int((said[:place] - xy).norm(dim=-1).lt(2 * radius).sum())  # one name below the other
        beside = ax.annotate(dataset.classes[int(kind)], xy.tolist(), (7, 3 - 12 * before), textcoords="offset points",
                             color=PALE, fontsize=11, fontweight="bold")
        beside.set_path_effects([withStroke(linewidth=2.4, foreground=DEEP)])


def score_map(
    ax: Axes, values: ArrayLike, points: Points | None = None, *, found: Points | None = None, log: bool = False,
    limits: tuple[float, float] | None = None, label: str | None = None, bar: bool = True, stride: int | float = 1,
) -> AxesImage:
    """A map as an image whose axes count pixels, an integer being a pixel's centre; NaN is left blank.

    Args:
        values: (height, width), such as the scores of a class or the charge of each pixel.
        points: of one image, labelled: a ring around each.
        found: of one image, predicted: a cross at each.
        log: a logarithmic scale of colours; what lies below it, also 0, has its lowest colour.
        limits: of the scale; else from 0 (logarithmic: from the smallest value above 0, within six decades of the
            largest) to the largest value.
        label: what the colours stand for, with its unit, beside the bar.
        bar: draw the bar.
        stride: pixels of the image along a pixel of the map, for points in pixels of the image.

    Raises:
        ValueError: ``values`` has not two dimensions, ``points`` or ``found`` holds more than one image, or ``stride``
            is not above 0.
    """
    shown = np.asarray(values, dtype=float)
    if shown.ndim != 2:
        raise ValueError(f"values must have the shape (height, width), got {shown.shape}")
    low, high = limits or _limits(shown, log)
    below = log and bool((shown < low).any())
    image = ax.imshow(np.where(shown < low, low, shown) if log else shown, cmap=_MAP, interpolation="none",
                      norm=LogNorm(low, high) if log else Normalize(low, high))
    for name, marked, mark, size in (("points", points, "o", 11), ("found", found, "x", 6)):
        if marked is None:
            continue
        if len(marked.xy) != 1:
            raise ValueError(f"{name} must hold one image, got {len(marked.xy)}")
        _marks(ax, marked.at_stride(stride).xy[0][marked.valid[0]], mark, size)
    _framed(ax, *shown.shape)
    if bar:
        beside = ax.figure.colorbar(image, cax=ax.inset_axes((1.04, 0, 0.05, 1)), label=label,
                                    extend="min" if below else "neither")
        for tip in beside.ax.patches:
            tip.set_rasterized(True)  # as the colours of the bar are: a dark page changes no colour of a map
    return image


def matrix(
    ax: Axes, frame: pd.DataFrame, *, digits: int = 2, limits: tuple[float, float] | None = None,
    label: str | None = None,
) -> Axes:
    """A table as coloured cells with the number written in each; NaN is a blank cell with a dash.

    Args:
        frame: numbers; the names of losses in its index and columns are written as their titles.
        digits: behind the point.
        limits: of the scale of colours; else the smallest and largest number.
        label: what the numbers are, with their unit, beside the bar.

    Raises:
        ValueError: ``frame`` is empty.
    """
    import seaborn as sns

    if frame.empty:
        raise ValueError(f"frame must have rows and columns, got {frame.shape}")
    low, high = limits or (None, None)
    titled = frame.rename(index=TITLE, columns=TITLE).rename(columns=_in_lines)
    sns.heatmap(titled, ax=ax, vmin=low, vmax=high, cmap=_MAP, annot=True, fmt=f".{digits}f",
                annot_kws={"fontsize": 10}, rasterized=True, cbar_kws={"label": label})
    colors = np.asarray(ax.collections[0].get_facecolor())[frame.notna().to_numpy().ravel()]
    for text, color in zip(ax.texts, colors, strict=True):
        text.set_text(text.get_text().replace("-", "−"))
        text.set_color(DEEP if _luminance(color) > 0.18 else PALE)  # where black and white have the same contrast
    for row, column in np.argwhere(frame.isna().to_numpy()):
        ax.text(column + 0.5, row + 0.5, "–", ha="center", va="center", color=INK)
    ax.set(xlabel="", ylabel="")
    ax.grid(False)
    ax.tick_params(length=0)
    ax.tick_params(axis="y", rotation=0)
    if any(name.get_rotation() for name in ax.get_xticklabels()):  # level, they would overlap
        for name in ax.get_xticklabels():
            name.set(rotation=35, ha="right", rotation_mode="anchor")
    return ax


def _in_lines(name: object) -> object:
    """The head of a narrow column: each word of a long one on a line of its own."""
    if not isinstance(name, str) or "\n" in name or len(name) <= 8:
        return name
    return name.replace(" ", "\n").replace("-", "-\n")


def _image(ax: Axes, dataset: Dataset, index: int) -> None:
    """A picture of a data set, black where the set is not made here."""
    height, width = dataset.size
    image = dataset.images[index]
    shown = image.permute(1, 2, 0).expand(-1, -1, 3) if sets.is_made(dataset.name) else np.zeros((height, width, 3))
    ax.imshow(shown, interpolation="none")
    _framed(ax, height, width)


def _marks(ax: Axes, xy: ArrayLike, mark: str, size: float) -> None:
    """White marks that can be seen on a picture of any brightness."""
    ax.plot(*np.asarray(xy).T, linestyle="none", marker=mark, ms=size, mfc="none", mec=PALE, mew=1.2,
            path_effects=[withStroke(linewidth=2.8, foreground=DEEP)])


def _framed(ax: Axes, height: int, width: int) -> None:
    """All of a picture and nothing beside it."""
    ax.set(xlim=(-0.5, width - 0.5), ylim=(height - 0.5, -0.5), xticks=[], yticks=[], aspect="equal")
    ax.grid(False)
    ax.spines[:].set_visible(False)


def _groups(table: pd.DataFrame, by: str, order: Sequence[str] | None, *columns: str) -> dict[str, pd.DataFrame]:
    missing = [column for column in (by, *columns) if column not in table]
    if missing or table.empty:
        raise ValueError(f"table must have rows and the columns {[by, *columns]}, got {len(table)} of {list(table)}")
    groups = dict(iter(table.groupby(by, sort=False)))
    empty = [name for name in order or () if name not in groups]
    if empty:
        raise ValueError(f"order must name values of {by!r} in the table, {list(groups)}, got {empty}")
    return {name: groups[name] for name in (groups if order is None else order)}


def _ends(values: ArrayLike) -> tuple[float, float]:
    """Ends of Student's 95 % interval of the mean, as :func:`falloff.study.statistics.interval` has them."""
    from scipy import stats

    x = np.asarray(values, dtype=float)
    half = stats.t.ppf(0.975, len(x) - 1) * x.std(ddof=1) / math.sqrt(len(x))
    return x.mean() - half, x.mean() + half


def _limits(values: np.ndarray, log: bool) -> tuple[float, float]:
    some = values[np.isfinite(values) & (values > 0)] if log else np.append(values[np.isfinite(values)], 0.0)
    if some.size == 0 or (not log and np.ptp(some) == 0):
        return (10.0**-_DECADES if log else 0.0), 1.0
    low, high = some.min(), some.max()
    return (max(low, high * 10.0**-_DECADES) if low < high else high / 10) if log else low, high


def _luminance(color: Sequence[float]) -> float:
    """Relative luminance of an sRGB colour in [0, 1] (WCAG 2)."""
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in color[:3]]
    return float(np.dot((0.2126, 0.7152, 0.0722), linear))
