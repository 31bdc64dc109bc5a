import math
import subprocess
import sys
from itertools import combinations

import matplotlib as mpl
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
from matplotlib.colors import to_rgb
from skimage.color import xyz2lab
from skimage.color.colorconv import xyz_from_rgb

from falloff import losses, plots
from falloff.plots import style
from falloff.study import tuning


def test_every_loss_that_has_a_look_has_one_of_its_own():
    assert set(tuning.SPACES) <= set(style.LOOK) <= set(losses.names())
    assert len({look.title for look in style.LOOK.values()}) == len(style.LOOK)
    assert len({look[1:] for look in style.LOOK.values()}) == len(style.LOOK)
    assert len({(look.color, look.dash) for look in style.LOOK.values()}) == len(style.LOOK)


def test_what_is_no_loss_is_told_apart_in_ink_and_leaves_the_losses_as_they_are():
    names = [f"net-{i}" for i in range(8)]
    found = style.looks([*names, "focal", *names])
    assert list(found) == [*names, "focal"]
    assert found["focal"] == style.LOOK["focal"]
    inks = [found[name] for name in names]
    assert {look.color for look in inks} == {style.INK, style.MUTED}
    assert len({(look.color, look.dash) for look in inks}) == len({look.marker for look in inks}) == 8
    with pytest.raises(ValueError, match="at most 8 that are no loss, got 9"):
        style.looks([*names, "one more"])


def test_a_figure_looks_the_same_whatever_its_reader_has_set(monkeypatch):
    monkeypatch.setitem(mpl.rcParams, "text.usetex", True)
    monkeypatch.setitem(mpl.rcParams, "lines.linestyle", "--")
    fig, ax = plots.new()
    assert (ax.plot([0, 1])[0].get_linestyle(), ax.set_title("$y$").get_usetex()) == ("-", False)
    plt.close(fig)


def test_a_table_has_three_digits_that_count_and_a_dash_for_none(monkeypatch):
    shown = []
    monkeypatch.setattr("IPython.display.display", lambda data, raw: shown.append(data["text/markdown"]))
    some = [math.nan, 0.5, 1234.5, -0.00012345]
    plots.table(pd.DataFrame({"error": some}, index=pd.Index(list("abcd"), name="loss")), "tab-one", "Errors.")
    cells = [row.split("|")[2].strip() for row in shown[0].splitlines() if row.startswith("|")]
    assert cells[2:] == ["–", "0.500", "1,234", "−0.000123"]


def test_every_colour_can_be_read_on_its_page(contrast):
    for light in (style.INK, style.MUTED, *style.COLOR.values()):
        assert contrast(light, "#ffffff") >= 4.5
        assert contrast(style.DARK[light], "#121212") >= 4.5


# What a colour, linear in light, is to who lacks a kind of cone (Machado et al. 2009, table 1, severity 1).
SEEN = {
    "all": np.eye(3),
    "no red": [[0.152286, 1.052583, -0.204868], [0.114503, 0.786281, 0.099216], [-0.003882, -0.048116, 1.051998]],
    "no green": [[0.367322, 0.860646, -0.227968], [0.280085, 0.672501, 0.047413], [-0.011820, 0.042940, 0.968881]],
    "no blue": [[1.255528, -0.076749, -0.178779], [-0.078411, 0.930809, 0.147602], [0.004733, 0.691367, 0.303900]],
}


@pytest.mark.parametrize("page", ["light", "dark"])
@pytest.mark.parametrize("cones", SEEN)
def test_readers_with_any_colour_vision_tell_the_six_colours_and_ink_apart(cones, page):
    colors = [*dict.fromkeys(style.COLOR.values()), style.INK]
    rgb = np.array([to_rgb(color if page == "light" else style.DARK[color]) for color in colors])
    linear = np.where(rgb <= 0.04045, rgb / 12.92, ((rgb + 0.055) / 1.055) ** 2.4)
    lab = xyz2lab(np.clip(linear @ np.transpose(SEEN[cones]), 0, 1) @ xyz_from_rgb.T)
    assert len(colors) == 7
    assert min(np.linalg.norm(one - two) for one, two in combinations(lab, 2)) > 12  # CIE 1976; 2.3 is just seen


def test_a_drawing_for_a_dark_page_keeps_no_light_colour():
    assert style.dark(" ".join(style.DARK)) == " ".join(style.DARK.values())


@pytest.mark.parametrize("scale", ["linear", "log"])
def test_names_at_line_ends_keep_their_order_and_their_distance(ax, scale):
    ax.set(yscale=scale, ylim=(0.01, 1))
    wanted = {name: (1.0, 0.5 + 1e-3 * place) for place, name in enumerate(style.LOOK)}
    plots.label_ends(ax, wanted, gap=0.05)
    at = {text.get_text(): text.get_position()[1] for text in ax.texts}
    places = [at[style.TITLE[name]] for name in wanted]
    assert np.diff(places) == pytest.approx(np.full(len(places) - 1, 0.05))
    assert min(places) >= 0
    assert max(places) <= 1


def test_a_name_with_room_stands_at_the_end_of_its_line(ax):
    ax.set(yscale="log", ylim=(0.01, 1))
    plots.label_ends(ax, {"bce": (1.0, 0.1), "mse": (1.0, 0.5)})
    assert ax.texts[0].get_position()[1] == pytest.approx(0.5)


def test_the_look_of_the_book_is_there_without_the_libraries_that_draw():
    code = "import sys, falloff.plots; print([m for m in ('seaborn', 'scipy', 'torch', 'IPython') if m in sys.modules])"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "[]\n"
