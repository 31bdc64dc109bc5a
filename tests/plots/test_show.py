"""How figures and numbers reach a page."""

import matplotlib.pyplot as plt

from falloff import plots
from falloff.plots import show


def test_a_figure_is_shown_as_a_drawing_and_closed(monkeypatch):
    shown = []
    monkeypatch.setattr("IPython.display.display", lambda bundle, raw: shown.append(bundle))
    fig, ax = plots.new()
    ax.plot([0, 1])
    plots.display(fig)
    assert shown[0]["image/svg+xml"].startswith("<?xml") and not plt.fignum_exists(fig.number)


def test_numbers_are_kept_under_the_name_of_their_chapter(monkeypatch):
    kept = {}
    monkeypatch.setattr(show, "number", lambda name, value: kept.update({name: value}))
    plots.numbers("ch1", one_in=12.5, word="all")
    assert kept == {"ch1-one-in": 12.5, "ch1-word": "all"}
