"""What chapters say of runs that found no point: their cells run here, on tables made up."""

import json
from itertools import product

import numpy as np
import pandas as pd
import pytest

from falloff import plots, sets, study
from falloff.project import project_root
from falloff.study import statistics


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


def test_chapter_6_shows_no_column_in_which_no_run_has_a_number(said):
    names = list(study.LOSSES)
    table = pd.DataFrame([{"loss": loss, "seed": seed, "learning_rate": 0.01, "ap": 0.1, "ap_1": 0.1,
                           "error": np.nan if loss == "mse" else 1.0, "presence_auroc": np.nan}
                          for loss, seed in product(names, (0, 1))])
    run_cell("06_head_to_head", "05-07", table=table, dataset="faces", count=2, steps=4)
    assert list(said["tab-result"]) == ["rate", "AP at 2 px", "AP at 1 px", "error (px)"]
