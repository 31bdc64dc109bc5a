"""The sliders over the formulas of chapter 4, in a real browser: they say what the library computes."""

from __future__ import annotations

import itertools
from pathlib import Path

import pytest
import torch

from falloff import losses, plots
from falloff.plots.style import DARK
from falloff.points import Points

STATIC = Path(__file__).resolve().parents[2] / "book" / "_static"


@pytest.fixture
def page(browser, tmp_path: Path):
    """A page with nothing but the sliders."""
    path = tmp_path / "page.html"
    path.write_text(f'<link rel="stylesheet" href="{STATIC}/study.css"><div class="explore"></div>'
                    f'<script src="{STATIC}/explore.js"></script>', encoding="utf-8")
    page = browser.new_page()
    page.goto(path.as_uri())
    yield page
    page.close()


def test_the_formulas_are_the_librarys(page) -> None:
    point = Points.from_lists([([[0.0, 0.0]], [0])])
    options = {"sigma": 1.3, "alpha": 1.5, "beta": 3.0}
    made = {
        "bce": losses.make("bce"), "focal": losses.make("focal", gamma=1.5),
        "soft-bce": losses.make("soft-bce", sigma=1.3),
        "distance-aware": losses.make("distance-aware", **options),
    }
    assert sorted(page.evaluate("falloff.names")) == sorted(made)
    for (name, loss), p in itertools.product(made.items(), (0.05, 0.4, 0.9)):
        logits = torch.full((1, 1, 1, 9), p, dtype=torch.float64).logit().requires_grad_()
        each = loss.elementwise(logits, point)
        slope, = torch.autograd.grad(each.sum(), logits)
        for expected, what in ((each.detach(), "cost"), (slope, "gradient")):
            said = page.evaluate("([what, name, p, o]) => [0, 1, 2, 3, 4, 5, 6, 7, 8].map("
                                 "(d) => falloff[what](name, p, d, o))", [what, name, p, options])
            torch.testing.assert_close(torch.tensor(said, dtype=torch.float64), expected[0, 0, 0], rtol=1e-4, atol=1e-6)


def test_sliders_move_the_curves_and_the_words(page) -> None:
    before = page.inner_html(".charts")
    assert "distance-aware 0.22" in page.inner_text(".read")  # at 2 px, of a score of 0.9
    page.get_by_label("distance, px").fill("6")
    page.get_by_label("draw").select_option("gradient")
    assert page.inner_text(".read").startswith("At 6 px a score of 0.9 has the gradient")
    assert page.inner_html(".charts") != before
    assert page.locator(".charts polyline").count() == 8


def test_colours_are_those_of_the_figures() -> None:
    style = (STATIC / "study.css").read_text(encoding="utf-8")
    for name in ("bce", "focal", "soft-bce", "distance-aware"):
        for color in (plots.COLOR[name], DARK[plots.COLOR[name]]):
            assert f"--{name}: {color};" in style
