"""Every kind of figure, drawn with every loss, in light and dark; FALLOFF_GALLERY names a folder that keeps them."""

import io
import os
import re
from itertools import combinations
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
import torch
from matplotlib.axis import Axis, Tick
from matplotlib.collections import PathCollection
from matplotlib.colors import to_hex
from matplotlib.text import Text

from falloff import heatmaps, plots
from falloff.data import Dataset
from falloff.plots import style
from falloff.plots.narrow import narrow
from falloff.points import Points
from falloff.study import statistics

SIX = list(style.LOOK)[:6]
SYSTEMS = ["heatmap", "cascade", "retinanet", "cornernet"]
SEEDS = 5


def curves(names, seeds=SEEDS, by="loss"):
    rng = np.random.default_rng(0)
    return pd.DataFrame([
        {by: name, "seed": seed, "step": step, "ap": (0.95 - 0.04 * place) * step / (step + 200) + rng.normal(0, 0.02)}
        for place, name in enumerate(names) for seed in range(seeds) for step in range(0, 2001, 200)
    ])


def ends(names, seeds=SEEDS, by="loss"):
    rng = np.random.default_rng(1)
    return pd.DataFrame([
        {by: name, "seed": seed, "ap": 0.9 - 0.04 * place + rng.normal(0, 0.015), "error": 0.4 + rng.gamma(2, 0.05)}
        for place, name in enumerate(names) for seed in range(seeds)
    ])


def one_image(*xy):
    return Points.from_lists([(torch.tensor(xy, dtype=torch.float32), torch.zeros(len(xy), dtype=torch.int64))])


def charges():
    """What a wrong pixel is charged: next to nothing at a point, so it spans decades, and 0 on the points' pixels."""
    heat = heatmaps.render(one_image((12.3, 20.6), (40, 9)), (48, 56), 1, 2.0)[0, 0]
    return (1 - heat) ** 4


def draw_curve(names, by="loss", height=3.4):
    fig, ax = plots.new(height=height)
    ax.set(ylim=(0, 1))
    plots.curve(ax, curves(names, by=by), "step", "ap", by)
    plots.axes(ax, x="step", y="validation AP at 2 px")
    return fig


def draw_dots(names, by="loss", height=2.8):
    table = ends(names, by=by)
    table.loc[3, "error"] = np.nan
    fig, (left, right) = plots.new(1, 2, height=height, sharey=True)
    plots.dots(left, table, "ap", by)
    plots.dots(right, table, "error", by)
    plots.axes(left, x="AP at 2 px")
    plots.axes(right, x="error (px)")
    return fig


def draw_gaps():
    """A seed without a value in the middle or at first, one seed alone, and a loss of which nothing is defined."""
    table = curves(SIX[:4], seeds=3)
    table.loc[(table["loss"] == "bce") & (table["seed"] == 1) & (table["step"] == 800), "ap"] = np.nan
    table.loc[(table["loss"] == "weighted-bce") & (table["seed"] == 2) & (table["step"] < 600), "ap"] = np.nan
    table.loc[table["loss"] == "soft-bce", "ap"] = np.nan
    fig, (left, right) = plots.new(1, 2, height=3.0, sharey=True)
    left.set(ylim=(0, 1))
    plots.curve(left, table, "step", "ap", order=["bce", "weighted-bce"], label=False)
    plots.curve(right, table[table["seed"] == 0], "step", "ap", order=["focal", "soft-bce"])
    plots.axes(left, title="gaps", x="step", y="AP")
    plots.axes(right, title="one seed", x="step")
    return fig


def draw_maps():
    fig, (left, right) = plots.new(1, 2, height=2.5)
    points, found = one_image((12.3, 20.6), (40, 9)), one_image((13, 21), (30, 30))
    plots.score_map(left, 1 - charges(), points, found=found, label="score")
    plots.score_map(right, charges(), points, log=True, label="factor on the charge")
    plots.axes(left, title="linear")
    plots.axes(right, title="logarithmic")
    return fig


def draw_grid():
    fig, grid = plots.new(3, 3, height=5.2)
    for ax, name in zip(grid.flat, list(style.LOOK)[:9], strict=True):
        plots.score_map(ax, 1 - charges(), found=one_image((13, 21)), bar=False)
        plots.axes(ax, title=style.TITLE[name])
    return fig


def draw_matrix():
    rng = np.random.default_rng(2)
    frame = pd.DataFrame(rng.uniform(0, 1, (6, 4)), SIX, ["1 px", "2 px", "4 px", "8 px"])
    frame.iloc[2, 1] = np.nan
    fig, ax = plots.new(height=3.0)
    plots.matrix(ax, frame, label="mean AP")
    return fig


def draw_square():
    frame = pd.DataFrame(np.random.default_rng(3).normal(0, 0.1, (6, 6)), SIX, SIX)
    fig, ax = plots.new(height=3.8)
    plots.matrix(ax, frame, label="difference in AP", limits=(-0.3, 0.3))
    return fig


KINDS = {
    "curve-six": lambda: draw_curve(SIX),
    "curve-all": lambda: draw_curve(list(style.LOOK), height=4.8),
    "curve-systems": lambda: draw_curve(SYSTEMS, "system"),
    "curve-gaps": draw_gaps,
    "dots-six": lambda: draw_dots(SIX),
    "dots-all": lambda: draw_dots(list(style.LOOK), height=6.0),
    "dots-systems": lambda: draw_dots(SYSTEMS, "system", 2.2),
    "maps": draw_maps,
    "maps-grid": draw_grid,
    "matrix": draw_matrix,
    "matrix-square": draw_square,
}


@pytest.fixture(params=[*KINDS, *(f"{kind}-narrow" for kind in KINDS)], scope="module")
def drawn(request):
    """A kind of figure, as it is and for a phone, with the kind for a label."""
    kind = request.param.removesuffix("-narrow")
    fig = KINDS[kind]() if kind == request.param else narrow(KINDS[kind]())
    fig.set_label(request.param)
    yield fig
    plt.close(fig)


def svg(fig):
    buffer = io.StringIO()
    fig.savefig(buffer, format="svg", metadata={"Date": None, "Creator": None})
    return buffer.getvalue()


def written(fig):
    """The texts that are drawn, laid out: of the labels of ticks those within the limits."""
    fig.canvas.draw()  # anew, since an SVG is laid out at its own dots per inch
    of_ticks = {label for tick in fig.findobj(Tick) for label in (tick.label1, tick.label2)}
    shown = [text for text in fig.findobj(Text) if text not in of_ticks]
    for axis in fig.findobj(Axis):
        low, high = sorted(axis.get_view_interval())
        for which in ("major", "minor"):
            places, labels = axis.get_ticklocs(minor=which == "minor"), axis.get_ticklabels(which=which)
            shown += [label for place, label in zip(places, labels, strict=False) if low <= place <= high]
    return [text for text in shown if text.get_visible() and text.get_text().strip()]


def extent(text):
    """Where a text stands, in pixels, without the line that leads to it."""
    return Text.get_window_extent(text)


def test_every_kind_is_drawn_in_light_and_dark(drawn, tmp_path):
    kind, drawing = drawn.get_label(), svg(drawn)
    for folder in {tmp_path, Path(os.environ.get("FALLOFF_GALLERY", tmp_path))}:
        folder.mkdir(parents=True, exist_ok=True)
        (folder / f"{kind}.svg").write_text(drawing, encoding="utf-8")
        (folder / f"{kind}.dark.svg").write_text(style.dark(drawing), encoding="utf-8")
    assert len(drawing) < 300_000


def test_the_same_table_gives_the_same_picture():
    first, second = KINDS["dots-six"](), KINDS["dots-six"]()
    assert svg(first) == svg(second)
    plt.close("all")


def test_every_colour_of_a_figure_has_a_twin_for_dark_pages(drawn):
    used = set(re.findall(r"(?:fill|stroke|stop-color): ?(#[0-9a-f]{6})", svg(drawn)))
    used |= {to_hex(text.get_color()) for text in written(drawn)}  # an SVG says nothing of what is black
    assert used
    assert used <= set(style.DARK)


def test_no_text_leaves_the_figure(drawn):
    texts, (width, height) = written(drawn), drawn.canvas.get_width_height()
    for text in texts:
        box = extent(text)
        assert box.x0 >= -1 and box.y0 >= -1 and box.x1 <= width + 1 and box.y1 <= height + 1, text.get_text()


def test_no_two_texts_overlap(drawn):
    level = [text for text in written(drawn) if text.get_rotation() in (0, 90)]
    for one, two in combinations(level, 2):
        a, b = extent(one), extent(two)
        apart = a.x1 <= b.x0 + 1 or b.x1 <= a.x0 + 1 or a.y1 <= b.y0 + 3 or b.y1 <= a.y0 + 3  # 3: room for descenders
        assert apart, (one.get_text(), two.get_text())


@pytest.mark.parametrize("names", [SIX, list(style.LOOK), SYSTEMS], ids=["six", "all", "systems"])
def test_every_group_is_named_in_its_colour(names, ax):
    plots.curve(ax, curves(names), "step", "ap")
    named = {text.get_text(): text.get_color() for text in ax.texts}
    assert named == {look.title: look.color for look in style.looks(names).values()}
    fig = draw_dots(names)
    assert [label.get_text() for label in fig.axes[0].get_yticklabels()] == [style.TITLE.get(n, n) for n in names]
    plt.close(fig)


def test_every_seed_of_a_curve_is_a_line_and_every_group_has_its_dash_and_mark(ax):
    plots.curve(ax, curves(["bce", "varifocal"]), "step", "ap")
    thin = [line for line in ax.lines if line.get_linewidth() < 1]
    means = [line for line in ax.lines if line.get_linewidth() >= 1]
    assert len(thin) == 2 * SEEDS
    assert all(line.get_alpha() > 0.3 for line in thin)
    assert [(line.get_color(), line.get_marker(), line.get_linestyle()) for line in means] == [
        style.LOOK[name][1:] for name in ("bce", "varifocal")]


def test_every_seed_is_a_dot_even_where_the_mean_is_undefined(ax):
    table = ends(["bce", "mse"])
    table.loc[[0, 1], "ap"] = np.nan
    plots.dots(ax, table, "ap")
    shown = [group.get_offsets() for group in ax.collections if isinstance(group, PathCollection)]
    assert [len(row) for row in shown if len(row)] == [SEEDS - 2, SEEDS]
    assert np.concatenate(list(map(np.asarray, shown)))[:, 0] == pytest.approx(table["ap"].dropna().to_numpy())
    assert [text.get_text() for text in ax.texts] == ["2 of 5 undefined"]


def test_the_band_of_a_curve_is_the_interval_of_the_seeds(ax):
    table = curves(["bce"])
    plots.curve(ax, table, "step", "ap")
    corners = ax.collections[0].get_paths()[0].vertices
    mean = next(line for line in ax.lines if line.get_linewidth() >= 1)
    for (step, group), middle in zip(table.groupby("step"), mean.get_ydata(), strict=True):
        of = statistics.interval(group["ap"])
        at = corners[corners[:, 0] == step, 1]
        assert (at.min(), middle, at.max()) == pytest.approx((of.low, of.mean, of.high), abs=1e-12)


def test_the_bars_of_dots_are_the_intervals_of_the_seeds(ax):
    table = ends(SIX)
    plots.dots(ax, table, "ap")
    bars = [line.get_xdata() for line in ax.lines if len(line.get_xdata()) == 2]
    of = [statistics.interval(table.loc[table["loss"] == name, "ap"]) for name in SIX]
    assert np.array(bars) == pytest.approx(np.array([(one.low, one.high) for one in of]), abs=1e-12)


def test_one_seed_has_a_mean_and_no_interval(ax):
    plots.curve(ax, curves(["bce"], seeds=1), "step", "ap")
    assert not any(len(band.get_paths()) and np.isfinite(band.get_paths()[0].vertices).all() for band in ax.collections)
    assert len(ax.lines) == 2
    plots.dots(ax, ends(["bce"], seeds=1), "ap")
    assert [len(line.get_xdata()) for line in ax.lines[2:] if np.isfinite(line.get_xdata()).all()] == [1]


@pytest.mark.parametrize("missing", ["nan", "row"])
def test_a_mean_over_some_of_the_seeds_is_not_drawn(ax, missing):
    table = curves(["bce"])
    lost = (table["seed"] == 2) & (table["step"] == 800)
    table = table[~lost] if missing == "row" else table.assign(ap=table["ap"].mask(lost))
    plots.curve(ax, table, "step", "ap")
    means = [line for line in ax.lines if line.get_linewidth() >= 1]
    assert [list(line.get_xdata()) for line in means] == [[0, 200, 400, 600], [1000, 1200, 1400, 1600, 1800, 2000]]


def test_a_group_without_any_value_is_named_all_the_same(ax):
    plots.curve(ax, curves(["bce", "mse"]).assign(ap=lambda t: t["ap"].where(t["loss"] == "bce")), "step", "ap")
    assert sorted(text.get_text() for text in ax.texts) == ["BCE", "MSE (undefined)"]


@pytest.mark.parametrize("draw", [lambda *a, **k: plots.curve(*a[:2], "step", "ap", **k),
                                  lambda *a, **k: plots.dots(*a[:2], "ap", **k)], ids=["curve", "dots"])
def test_what_is_not_there_is_refused_by_name(ax, draw):
    table = curves(["bce"])
    with pytest.raises(ValueError, match=r"order must name .*\['bce'\], got \['mse'\]"):
        draw(ax, table, order=["bce", "mse"])
    with pytest.raises(ValueError, match="rows and the columns"):
        draw(ax, table[:0])
    with pytest.raises(ValueError, match=r"columns .*'ap'.*got"):
        draw(ax, table.drop(columns="ap"))


def test_a_seed_with_two_values_at_one_step_is_refused(ax):
    table = curves(["bce"])
    with pytest.raises(ValueError, match="got one twice for 'bce'"):
        plots.curve(ax, pd.concat([table, table[:1]]), "step", "ap")


@pytest.mark.parametrize("log", [False, True])
@pytest.mark.parametrize("values", [0.0, 3.0, np.nan, 1e-45], ids=str)
def test_a_map_of_one_value_is_drawn(ax, values, log):
    image = plots.score_map(ax, np.full((4, 5), values), log=log)
    assert svg(ax.figure)
    assert 0 <= image.norm.vmin < image.norm.vmax


@pytest.mark.parametrize("log", [False, True])
def test_only_undefined_pixels_of_a_map_are_blank(ax, log):
    values = np.array([[0.0, 1e-9, np.nan], [1e-3, 1.0, 0.5]])
    image = plots.score_map(ax, values, log=log)
    colors = image.to_rgba(image.get_array())
    assert (colors[..., 3] == [[1, 1, 0], [1, 1, 1]]).all()
    assert image.norm.vmin == (pytest.approx(1e-6) if log else 0)


def test_points_of_a_map_lie_at_their_pixels(ax):
    plots.score_map(ax, torch.zeros(8, 6), one_image((2.0, 5.0)), found=one_image((2.5, 4.75), (1, 1)))
    rings, crosses = (line.get_xydata().tolist() for line in ax.lines)
    assert rings == [[2.0, 5.0]]
    assert crosses == [[2.5, 4.75], [1.0, 1.0]]
    assert (ax.get_xlim(), ax.get_ylim()) == ((-0.5, 5.5), (7.5, -0.5))
    assert ax.images[0].get_extent() == [-0.5, 5.5, 7.5, -0.5]


def test_points_of_an_image_lie_on_a_map_at_a_stride(ax):
    plots.score_map(ax, torch.zeros(3, 4), one_image((5.5, 9.5)), found=one_image((-0.5, 11.5)), stride=4)
    assert [line.get_xydata().tolist() for line in ax.lines] == [[[1.0, 2.0]], [[-0.5, 2.5]]]


@pytest.mark.parametrize("channels", [1, 3])
def test_a_picture_of_a_set_that_is_made_here_is_shown_and_one_of_others_is_not(ax, channels):
    images = torch.full((2, channels, 6, 8), 200, dtype=torch.uint8)
    points = Points.from_lists([([(1.0, 1.0)], [0]), ([(2.5, 4.0)], [0])])
    for name, shown in (("digits", 200), ("digits(points=3)", 200), ("faces", 0)):
        ax.clear()
        plots.picture(ax, Dataset(name, "val", images, points, ("a",)), 1)
        assert (ax.images[0].get_array() == shown).all() and ax.images[0].get_array().shape == (6, 8, 3)
        assert [line.get_xydata().tolist() for line in ax.lines] == [[[2.5, 4.0]]]  # the rings of this picture alone
        assert (ax.get_xlim(), ax.get_ylim()) == ((-0.5, 7.5), (5.5, -0.5))


def test_answers_are_right_wrong_or_missing(ax):
    images = torch.zeros(1, 1, 40, 40, dtype=torch.uint8)
    truth = Points.from_lists([([(10.0, 10.0), (30.0, 30.0)], [0, 1])])
    said = Points(torch.tensor([[[11.0, 10.0], [10.5, 10.0], [30.0, 31.0]]]), torch.tensor([[0, 1, 1]]),
                  torch.ones(1, 3, dtype=torch.bool), torch.tensor([[0.9, 0.8, 0.1]]))  # the last is one too many
    plots.answers(ax, Dataset("digits", "val", images, truth, ("a", "b")), 0, said)
    marks = {line.get_marker(): line.get_xydata().tolist() for line in ax.lines}
    assert marks == {"o": [[10.0, 10.0]], "s": [[30.0, 30.0]], "x": [[10.5, 10.0]]}
    assert [text.get_text() for text in ax.texts] == ["a", "b"]
    assert ax.texts[0].get_position() != ax.texts[1].get_position()  # one below the other


def test_a_map_that_is_none_is_refused(ax):
    with pytest.raises(ValueError, match=r"values must have the shape .* got \(2, 3, 4\)"):
        plots.score_map(ax, np.zeros((2, 3, 4)))
    two = Points.from_lists([(torch.zeros(1, 2), torch.zeros(1, dtype=torch.int64))] * 2)
    with pytest.raises(ValueError, match="found must hold one image, got 2"):
        plots.score_map(ax, np.zeros((3, 4)), found=two)
    with pytest.raises(ValueError, match="frame must have rows"):
        plots.matrix(ax, pd.DataFrame())


def test_the_numbers_of_a_matrix_are_legible_on_their_cells(ax, contrast):
    frame = pd.DataFrame(np.linspace(-1, 1, 48).reshape(6, 8))
    frame.iloc[1, 1] = np.nan
    plots.matrix(ax, frame)
    cells = ax.collections[0].get_facecolors()
    for text in ax.texts:
        place = int(text.get_position()[1]) * 8 + int(text.get_position()[0])
        if text.get_text() != "–":
            assert contrast(to_hex(text.get_color()), to_hex(cells[place])) >= 4.4
            assert float(text.get_text().replace("−", "-")) == pytest.approx(frame.to_numpy().flat[place], abs=0.006)
    assert sum(text.get_text() == "–" for text in ax.texts) == 1
