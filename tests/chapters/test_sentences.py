"""What chapters say of runs that found no point: their cells run here, on tables made up."""

import json
from itertools import product

import numpy as np
import pandas as pd
import pytest

from falloff import plots, sets, study
from falloff.project import project_root
from falloff.study import statistics

WAYS = ["none", "quarter", "parabola", "log-parabola", "soft-argmax"]
CHOSEN = ["distance-aware", "soft-bce", "focal", "mse"]


@pytest.fixture
def said(monkeypatch):
    """What the cells that ran gave: numbers and words, captions and tables by their names."""
    given = {}
    monkeypatch.setattr(plots, "number", lambda name, value: given.update({name: value}))
    monkeypatch.setattr(plots, "figure", lambda fig, name, caption, alt: given.update({name: caption}))
    monkeypatch.setattr(plots, "table", lambda frame, name, caption: given.update({name: frame}))
    return given


def run_cell(chapter, identity, **names):
    cells = json.loads((project_root() / "notebooks" / f"{chapter}.ipynb").read_text(encoding="utf-8"))["cells"]
    [source] = ["".join(cell["source"]) for cell in cells if cell["id"] == identity]
    exec(source, {"np": np, "pd": pd, "plots": plots, "sets": sets, "statistics": statistics, "seeds": [0, 1], **names})


def decoded(blind=(), but="mse"):
    """A row for each loss, way and seed; the soft-argmax is more exact than the log-parabola for all losses but one."""
    rows = [{"loss": loss, "way": way, "seed": seed, "ap_1": 0.5, "error": np.nan if (loss, way) in blind else
             {"soft-argmax": 1.2 if loss == but else 1.0, "log-parabola": 1.1}.get(way, 1.3)}
            for loss, way, seed in product(CHOSEN, WAYS, (0, 1))]
    return pd.DataFrame(rows)


AMONG = {"WAYS": WAYS, "STYLE": {way: {"color": "k", "ls": "-", "marker": "o"} for way in WAYS}, "chosen": CHOSEN}


@pytest.mark.parametrize("but", ["mse", "focal"])
def test_chapter_10_counts_the_losses_for_which_the_soft_argmax_is_the_more_exact_and_names_no_other(said, but):
    run_cell("10_between_pixels", "06-13", measured=decoded(but=but), **AMONG)
    assert said["ch6-soft"].startswith(" With 3 of 4 losses the soft-argmax has a smaller mean error")
    assert ("focal" in said["ch6-soft"]) == (but != "focal")


@pytest.mark.parametrize("blind", [[("focal", "none")], [("mse", way) for way in WAYS], list(product(CHOSEN, WAYS))])
def test_chapter_10_counts_and_compares_nothing_where_a_loss_found_no_point(said, blind):
    run_cell("10_between_pixels", "06-13", measured=decoded(blind), **AMONG)
    assert said["ch6-soft"] == said["ch6-choice"] == ""
    assert not any(word in said["ch6-spread"] + said["fig-decoders"] for word in ("nan", "smallest"))


def test_chapter_6_shows_no_column_in_which_no_run_has_a_number(said):
    names = list(study.LOSSES)
    table = pd.DataFrame([{"loss": loss, "seed": seed, "learning_rate": 0.01, "ap": 0.1, "ap_1": 0.1,
                           "error": np.nan if loss == "mse" else 1.0, "presence_auroc": np.nan}
                          for loss, seed in product(names, (0, 1))])
    run_cell("06_head_to_head", "05-07", table=table, dataset="faces", count=2, steps=4)
    assert list(said["tab-result"]) == ["rate", "AP at 2 px", "AP at 1 px", "error (px)"]
