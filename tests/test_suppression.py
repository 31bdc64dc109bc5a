"""What a better prediction of another class leaves out, against a loop over points."""

import re

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from falloff.points import Points
from falloff.suppression import between_classes

SCENES = st.lists(st.lists(st.tuples(st.integers(0, 6), st.integers(0, 6), st.sampled_from([0.1, 0.5, 0.5, 0.9])),
                           max_size=6), min_size=1, max_size=3)


def points_of(scenes):
    made = Points.from_lists([([(x, y) for x, y, _ in scene], list(range(len(scene)))) for scene in scenes])
    score = torch.zeros(made.valid.shape)
    for image, scene in enumerate(scenes):
        score[image, : len(scene)] = torch.tensor([one[2] for one in scene])
    return Points(made.xy, made.label, made.valid, score)


def kept_of(scene, radius):
    kept = []
    for place in sorted(range(len(scene)), key=lambda place: -scene[place][2]):
        x, y, _ = scene[place]
        if all((x - scene[other][0]) ** 2 + (y - scene[other][1]) ** 2 > radius**2 for other in kept):
            kept.append(place)
    return sorted(kept)


@given(SCENES, st.sampled_from([0.5, 1.0, 2.0, 3.5]))
def test_the_best_stays_and_leaves_out_what_is_near(scenes, radius):
    found = between_classes(points_of(scenes), radius)
    for image, scene in enumerate(scenes):
        assert found.label[image][found.valid[image]].tolist() == kept_of(scene, radius)


def test_what_was_left_out_leaves_out_nothing():
    chain = points_of([[(0, 0, 0.9), (2, 0, 0.5), (4, 0, 0.1)]])
    assert between_classes(chain, 2.0).valid.tolist() == [[True, False, True]]


@pytest.mark.parametrize("radius", [0, -1.0, float("nan"), "2"])
def test_a_radius_is_above_0(radius):
    with pytest.raises((TypeError, ValueError), match=rf"radius must be .*{re.escape(repr(radius))}"):
        between_classes(points_of([[(0, 0, 0.9)]]), radius)


def test_points_without_scores_have_no_better_one():
    with pytest.raises(ValueError, match="points must have scores"):
        between_classes(Points.from_lists([([(1, 2)], [0])]), 1.0)
