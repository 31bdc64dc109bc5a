"""Losses by name, and their options."""

import math
import sys
from pathlib import Path

import pytest
import torch
from family import NAMES, SIZE
from scenes import one

from falloff import losses
from falloff.losses import PointLoss
from falloff.points import Points

OUTSIDE = """
from dataclasses import dataclass
from falloff.losses import PixelLoss, PointLoss

@dataclass(frozen=True, kw_only=True)
class Height(PointLoss):
    scale: float = 2.0
    above_zero = ("scale",)

    def _total(self, logits, points, mask):
        return self.scale * logits.sum()

class Undecorated(PointLoss):
    scale: float = 2.0

class Renamed(Height):
    name = "renamed"

@dataclass(frozen=True, kw_only=True)
class NoSlope(PixelLoss):
    def charge(self, x, heat, positive):
        return (x - heat) ** 2

@dataclass(frozen=True, kw_only=True)
class NoCharge(PixelLoss):
    pass

class Nothing(PointLoss):
    pass

number = 3
"""


@pytest.fixture
def outside(tmp_path, monkeypatch):
    """A module outside the package that holds a loss."""
    (tmp_path / "of_mine.py").write_text(OUTSIDE)
    (tmp_path / "in_need.py").write_text("import of_nobody")
    monkeypatch.syspath_prepend(tmp_path)
    yield
    for name in ("of_mine", "in_need"):
        sys.modules.pop(name, None)


def test_options_fill_in_defaults_and_names_are_known():
    assert NAMES[:6] == ["bce", "weighted-bce", "focal", "soft-bce", "mse", "distance-aware"]
    assert losses.options("distance-aware") == {
        "normalizer": "points",
        "alpha": 2.0,
        "beta": 4.0,
        "sigma": 1.5,
    }


@pytest.mark.parametrize(
    ("name", "given_options", "error", "named"),
    [
        ("distance-awear", {}, ValueError, "did you mean 'distance-aware'"),
        ("", {}, ValueError, "no loss is named ''; known: bce"),
        ("focal", {"gama": 2.0}, ValueError, "focal has no option 'gama'.*did you mean 'gamma'"),
        ("bce", {"sigma": 1.0}, ValueError, "bce has no option 'sigma'"),
        ("focal", {"gamma": -1.0}, ValueError, "gamma must be finite and at least 0, got -1.0"),
        ("focal", {"gamma": math.nan}, ValueError, "gamma"),
        ("focal", {"gamma": "2"}, TypeError, "gamma must be a number.*'2'"),
        ("focal", {"gamma": None}, TypeError, "gamma must be a number"),
        ("focal", {"alpha": 1.5}, ValueError, r"alpha must be in \[0, 1\]"),
        ("focal", {"alpha": True}, TypeError, "alpha"),
        ("distance-aware", {"beta": -0.1}, ValueError, "beta"),
        ("distance-aware", {"alpha": math.inf}, ValueError, "alpha"),
        ("distance-aware", {"sigma": 0.0}, ValueError, "sigma"),
        ("soft-bce", {"sigma": -1.0}, ValueError, "sigma"),
        ("mse", {"scale": 0.0}, ValueError, "scale"),
        ("mse", {"positive_weight": 1.0}, ValueError, "mse has no option 'positive_weight'"),
        ("weighted-mse", {"positive_weight": -1.0}, ValueError, "positive_weight"),
        ("weighted-bce", {"positive_weight": math.inf}, ValueError, "positive_weight"),
        (
            "bce",
            {"normalizer": "images"},
            ValueError,
            "normalizer must be one of points, image, pixels, running, or a number above 0, got 'images'",
        ),
        ("bce", {"normalizer": 0}, ValueError, "normalizer"),
        ("bce", {"normalizer": True}, ValueError, "normalizer"),
        ("dice", {"alpha": 0.5}, ValueError, "dice has no option 'alpha'"),
        ("tversky", {"smooth": 0.0}, ValueError, "smooth"),
        ("tversky", {"beta": -1.0}, ValueError, "beta"),
        ("dsnt", {"regularisation": -1.0}, ValueError, "regularisation"),
        ("spatial-kl", {"sigma": 0}, ValueError, "sigma"),
        ("adaptive-wing", {"alpha": 1.0}, ValueError, "alpha must be above 1, got 1.0"),
        ("adaptive-wing", {"theta": 0.0}, ValueError, "theta"),
        ("quality-focal", {"beta": -1.0}, ValueError, "beta"),
        ("varifocal", {"gamma": math.nan}, ValueError, "gamma"),
        ("distance-map-bce", {"reach": 0}, ValueError, "reach"),
        ("softmax-distance-aware", {"normalizer": "batch"}, ValueError, "normalizer"),
    ],
)
@pytest.mark.bad_input
def test_bad_names_and_options_are_named(name, given_options, error, named):
    with pytest.raises(error, match=named):
        losses.make(name, **given_options)


@pytest.mark.parametrize("name", NAMES)
def test_a_loss_is_found_under_the_name_that_it_has(name):
    assert losses.find(name).name == name
    assert type(losses.make(name)) is losses.find(name)


def test_a_loss_outside_the_package_is_made_by_module_and_name(outside):
    assert losses.options("of_mine:Height") == {"scale": 2.0}
    assert issubclass(losses.find("of_mine:Height"), PointLoss)
    logits = torch.ones(1, 1, *SIZE)
    assert float(losses.make("of_mine:Height", scale=0.5)(logits, one(1.0, 1.0))) == 24.0
    assert "of_mine:Height" not in losses.names()


@pytest.mark.parametrize(
    ("name", "given_options", "error", "named"),
    [
        ("of_mine:Hight", {}, ValueError, "loss 'of_mine:Hight': the module has no 'Hight'.*did you mean 'Height'"),
        ("of_nobody:Height", {}, ValueError, "loss 'of_nobody:Height': .* No module named 'of_nobody'"),
        ("in_need:Height", {}, ValueError, "loss 'in_need:Height': .* No module named 'of_nobody'"),
        ("of_mine:", {}, ValueError, "loss 'of_mine:' must be written 'module:Name'"),
        (":Height", {}, ValueError, "loss ':Height' must be written"),
        (".of_mine:Height", {}, ValueError, "loss '.of_mine:Height' must be written"),
        ("of_mine:Undecorated", {"scale": 1.0}, TypeError,
         r"Undecorated has options of its own \(scale\), so the class needs @dataclass\(frozen=True, kw_only=True\)"),
        ("of_mine:number", {}, TypeError, "loss 'of_mine:number' must be a subclass of .*PointLoss, got 3"),
        ("of_mine:dataclass", {}, TypeError, "loss 'of_mine:dataclass' must be a subclass"),
        ("of_mine:Height", {"scael": 1.0}, ValueError, "of_mine:Height has no option 'scael'.*did you mean 'scale'"),
        ("of_mine:Height", {"scale": 0.0}, ValueError, "scale must be finite and above 0, got 0.0"),
    ],
)
@pytest.mark.bad_input
def test_a_loss_that_is_not_there_is_named(outside, name, given_options, error, named):
    with pytest.raises(error, match=named):
        losses.make(name, **given_options)


@pytest.mark.bad_input
def test_what_a_loss_of_ones_own_lacks_is_named(outside):
    logits, points = torch.ones(2, 1, *SIZE, requires_grad=True), Points.from_lists([([[1.0, 1.0]], [0])] * 2)
    for step in (torch.enable_grad, torch.no_grad):
        with step(), pytest.raises(TypeError, match=r"charge must return two tensors, .* its slope .*, got Tensor"):
            losses.make("of_mine:NoSlope")(logits, points)
    for name, named in (("NoCharge", "NoCharge must define charge"), ("Nothing", "Nothing must define _total")):
        with pytest.raises(NotImplementedError, match=named):
            losses.make(f"of_mine:{name}")(logits, points)
    with pytest.raises(NotImplementedError, match=r"Height must define best_constant.* first bias"):
        losses.best_constant(losses.make("of_mine:Height"), points, SIZE, 1)
    for given, named in (({"reduction": "none"}, "Height gives one number for a batch, so reduction must be 'sum'"),
                         ({"parts": True}, "Height tells no parts"), ({"normalizer": 2}, "Height takes no normalizer")):
        with pytest.raises(ValueError, match=named):
            losses.make("of_mine:Height")(logits, points, **given)
    assert losses.make("of_mine:Renamed").name == "renamed" and losses.make("of_mine:Height").name == "Height"


def test_no_file_of_losses_is_named_as_one_of_the_functions():
    # Else ``import falloff.losses.focal as module`` would give the function.
    files = {path.stem for path in Path(losses.__file__).parent.glob("*.py")}
    assert not files & set(losses.__all__)
