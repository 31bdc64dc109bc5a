import math

import pytest
import torch
from matching_cases import labelled
from scenes import none

from falloff import metrics


def test_presence_is_told_by_the_highest_score_of_a_map():
    # Present: (0, 0) at 0.9 and (1, 1) at 0.4. Absent: (0, 1) at 0.6, (1, 0) at 0.1: 3 of 4 in order.
    scores = torch.zeros(2, 2, 3, 3)
    for place, score in {(0, 0): 0.9, (1, 1): 0.4, (0, 1): 0.6, (1, 0): 0.1}.items():
        scores[(*place, 1, 1)] = score
    truth = labelled([(1.0, 1.0, 0)], [(0.0, 0.0, 1), (2.0, 2.0, 1)])
    assert metrics.presence_auroc(scores, truth) == pytest.approx(0.75)
    assert math.isnan(metrics.presence_auroc(scores[:1, :1], labelled([(1.0, 1.0, 0)])))
    assert math.isnan(metrics.presence_auroc(scores, none(2, 0)))


def test_the_class_of_a_point_is_that_of_the_highest_map_at_its_pixel():
    scores = torch.zeros(1, 3, 4, 4)
    scores[0, 2, 1, 2], scores[0, 1, 1, 2], scores[0, 0, 3, 3] = 0.9, 0.8, 0.1
    truth = labelled([(2.4, 0.6, 2), (1.6, 1.4, 1), (3.0, 3.0, 0)])  # two points on one pixel
    assert metrics.class_accuracy(scores, truth) == pytest.approx(2 / 3)
    assert math.isnan(metrics.class_accuracy(scores, none(1, 2)))


def test_mean_scores_are_those_at_the_pixels_of_points_and_at_all_others():
    scores = torch.arange(8.0).view(1, 2, 2, 2)
    assert metrics.mean_scores(scores, labelled([(1.0, 0.0, 0), (0.9, 0.1, 0), (0.0, 1.0, 1)])) == (
        (1 + 6) / 2, (28 - 7) / 6)  # two points on one pixel count once
    at_points, elsewhere = metrics.mean_scores(scores, none(1, 1))
    assert math.isnan(at_points) and elsewhere == 3.5
    everywhere = labelled([(x, y, label) for x in (0.0, 1.0) for y in (0.0, 1.0) for label in (0, 1)])
    assert metrics.mean_scores(scores, everywhere)[0] == 3.5 and math.isnan(metrics.mean_scores(scores, everywhere)[1])


def test_what_does_not_count_changes_no_number_of_maps():
    truth = labelled([(1.0, 1.0, 0)], [(0.0, 0.0, 1), (2.0, 2.0, 1)])
    scores, mask = torch.rand(2, 2, 3, 3), torch.ones(2, 1, 3, 3, dtype=torch.bool)
    padded = torch.nn.functional.pad(scores, (0, 2, 0, 1), value=9.0)
    beside = torch.nn.functional.pad(mask, (0, 2, 0, 1), value=False)
    for metric in (metrics.presence_auroc, metrics.mean_scores):
        assert metric(padded, truth, mask=beside) == pytest.approx(metric(scores, truth))
        assert metric(scores, truth, mask=mask) == pytest.approx(metric(scores, truth))
