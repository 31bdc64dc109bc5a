import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from matching_cases import GOOD, SEEDS, apart, by_the_rule, labelled, random_case, scored, there
from scenes import none

from falloff.metrics.localisation import mean_pck, mean_pck_influence, point_distances


def test_as_many_predictions_count_as_points_are_labelled():
    # Two points of one class. The third prediction, which hits the second point, is one too many.
    predicted = scored([(0.0, 1.0, 0, 0.9), (10.0, 3.0, 0, 0.8), (10.0, 0.0, 0, 0.7)], [(0.0, 0.0, 0, 0.9)])
    truth = labelled([(0.0, 0.0, 0), (10.0, 0.0, 0)], [])
    far = point_distances(predicted, truth, radius=4.0)
    assert far[0].tolist() == [1.0, 3.0] and far[1].isnan().all()
    near = point_distances(predicted, truth, radius=2.0)
    assert near[0].tolist() == [1.0, math.inf]
    assert mean_pck(near, radius=2.0) == pytest.approx(1 - (1 + 2) / 2 / 2)
    assert mean_pck_influence(near, radius=2.0).tolist() == [0.0, 0.0]  # all points are in one picture


def test_nothing_said_finds_nothing_and_nothing_to_find_is_no_number():
    truth = labelled([(0.0, 0.0, 0)])
    assert mean_pck(point_distances(scored([]), truth, radius=4.0), radius=4.0) == 0.0
    assert math.isnan(mean_pck(point_distances(GOOD["predicted"], none(1, 1), radius=4.0), radius=4.0))
    assert mean_pck(point_distances(**GOOD), radius=1.0) == 1.0


@given(SEEDS, st.sampled_from([0.5, 2.0, 4.0]))
def test_the_area_under_the_pck_curve_on_random_cases(seed, radius):
    predicted, truth = random_case(seed)
    errors = []
    for b in range(2):
        count = len(there(truth, b))
        kept = sorted(there(predicted, b), key=lambda m: -float(predicted.score[b, m]))[:count]
        found = {n: m for m, n in by_the_rule(predicted, truth, b, radius).items() if m in kept}
        errors += [apart(predicted, truth, b, found[n], n) if n in found else math.inf for n in there(truth, b)]
    distance = point_distances(predicted, truth, radius=radius)
    assert distance[truth.valid].tolist() == pytest.approx(errors)
    if errors:
        thresholds = (np.arange(4000) + 0.5) * radius / 4000
        curve = (np.array(errors)[:, None] <= thresholds).mean()
        assert mean_pck(distance, radius=radius) == pytest.approx(curve, abs=1e-3)


@given(SEEDS)
def test_its_influence_is_what_a_heavier_picture_changes(seed):
    predicted, truth = random_case(seed, batch=3)
    distance = point_distances(predicted, truth, radius=4.0)
    if not truth.valid.any():
        return
    near, there = (1 - distance.clamp(max=4.0) / 4.0).nansum(1), truth.valid.sum(1).double()
    for picture, influence in enumerate(mean_pck_influence(distance, radius=4.0).tolist()):
        step = torch.zeros(3, dtype=torch.float64)
        step[picture] = 1e-6
        up, down = ((near * w).sum() / (there * w).sum() for w in (1 + step, 1 - step))
        assert influence == pytest.approx(float(up - down) / 2e-6, abs=1e-6)


@pytest.mark.parametrize("radius", [0.0, -1.0, math.inf])
@pytest.mark.bad_input
def test_a_bad_radius_is_named(radius):
    with pytest.raises(ValueError, match="radius"):
        mean_pck(torch.zeros(1, 1), radius=radius)
