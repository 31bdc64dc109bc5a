"""The normalised mean error, worked by hand."""

import math
from dataclasses import dataclass

import pytest
import torch

from falloff import measures
from falloff.measures import Measured
from falloff.points import Points

CLASSES = ("snout", "ear", "tailbase")
# Two pictures: a mouse 10 px long, and one of which the tail is not labelled.
TRUTH = Points.from_lists([([(2, 2), (4, 2), (8, 10)], [0, 1, 2]), ([(3, 3), (5, 5)], [0, 1])])


@dataclass
class Said:
    maps: torch.Tensor
    stride: int = 1
    points: Points | None = None


@dataclass
class Split:
    points: Points
    classes: tuple[str, ...] = CLASSES
    mask: torch.Tensor | None = None


def maps(*places, side=16):
    """Maps of noise below 0.1 that are highest at (image, class, x, y)."""
    found = 0.1 * torch.rand(2, 3, side, side, generator=torch.Generator().manual_seed(1))
    for image, label, x, y in places:
        found[image, label, y, x] = 0.2
    return found


def nme(said, split):
    return Measured(said, split).numbers({"nme": measures.get("nme")})["nme"]


def test_errors_are_in_the_unit_of_two_points_and_the_rest_is_left_out():
    said = maps((0, 0, 2, 2), (0, 1, 7, 6), (0, 2, 8, 9), (1, 0, 15, 15), (1, 1, 0, 0))
    assert nme(Said(said), Split(TRUTH)) == pytest.approx((0 + 5 + 1) / 3 / 10)  # the second has no unit


def test_each_class_is_read_at_its_highest_score_however_low():
    said = maps((0, 0, 2, 2), (0, 1, 4, 2), (0, 2, 8, 10))
    said[0, 2] *= 1e-6
    assert nme(Said(said), Split(TRUTH)) == 0
    mask = torch.ones(2, 1, 16, 16, dtype=torch.bool)
    mask[0, 0, 2, 2] = False  # where its map is highest no pixel counts
    assert nme(Said(said), Split(TRUTH, mask=mask)) > 0


def test_maps_at_a_stride_are_read_in_pixels_of_the_image():
    said = maps((0, 0, 0, 0), (0, 1, 1, 0), (0, 2, 2, 2), side=4)  # at 1.5, 5.5 and 9.5
    distances = math.hypot(0.5, 0.5), math.hypot(1.5, 0.5), math.hypot(1.5, 0.5)
    assert nme(Said(said, stride=4), Split(TRUTH)) == pytest.approx(sum(distances) / 3 / 10)


@pytest.mark.parametrize("case", ["no pair", "no classes", "crowded", "in one place"])
def test_it_is_undefined_without_a_unit(case):
    split = {"no pair": Split(TRUTH, ("snout", "ear", "tail")), "no classes": Split(TRUTH, ()),
             "crowded": Split(Points.from_lists([([(2, 2), (3, 2), (8, 10)], [0, 0, 2])] * 2)),
             "in one place": Split(Points.from_lists([([(2, 2), (3, 2), (2, 2)], [0, 1, 2])] * 2))}[case]
    assert math.isnan(nme(Said(maps()), split))
