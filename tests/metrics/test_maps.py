import math

import numpy as np
import pytest
import torch
from hypothesis import given
from matching_cases import SEEDS, labelled
from scenes import none

from falloff import metrics
from falloff.points import Points

METRICS = [metrics.presence_auroc, metrics.class_accuracy, metrics.mean_scores, metrics.maps.expected_counts]


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


def test_a_map_expects_as_many_points_as_its_scores_sum_to():
    scores = torch.tensor([[0.5, 0.25], [-1.0, 3.0]]).view(1, 1, 2, 2)
    truth = labelled([(0.0, 0.0, 0), (0.2, 0.1, 0), (1.0, 1.0, 0)])  # two on one pixel
    assert [part.tolist() for part in metrics.maps.expected_counts(scores, truth)] == [[[1.75]], [[2.0]]]
    mask = torch.tensor([[True, True], [True, False]]).view(1, 1, 2, 2)
    assert [part.tolist() for part in metrics.maps.expected_counts(scores, truth, mask=mask)] == [[[0.75]], [[1.0]]]
    two = torch.cat([scores, scores], dim=1)
    assert metrics.maps.expected_counts(two, none(1, 1))[1].tolist() == [[0.0, 0.0]]


def test_what_does_not_count_changes_no_number_of_maps():
    truth = labelled([(1.0, 1.0, 0)], [(0.0, 0.0, 1), (2.0, 2.0, 1)])
    scores, mask = torch.rand(2, 2, 3, 3), torch.ones(2, 1, 3, 3, dtype=torch.bool)
    padded = torch.nn.functional.pad(scores, (0, 2, 0, 1), value=9.0)
    beside = torch.nn.functional.pad(mask, (0, 2, 0, 1), value=False)
    for metric in (metrics.presence_auroc, metrics.mean_scores):
        assert metric(padded, truth, mask=beside) == pytest.approx(metric(scores, truth))
        assert metric(scores, truth, mask=mask) == pytest.approx(metric(scores, truth))


@given(SEEDS)
def test_metrics_of_maps_on_random_cases(seed):
    rng = np.random.default_rng(seed)
    scores = rng.normal(size=(3, 4, 5, 7))
    x, y = rng.uniform(-0.5, 6.5, size=(3, 6)), rng.uniform(-0.5, 4.5, size=(3, 6))
    label, valid = rng.integers(0, 4, size=(3, 6)), rng.random((3, 6)) < 0.6
    at, right, present = set(), [], set()
    for b, n in np.argwhere(valid):
        column, row = int(np.floor(x[b, n] + 0.5)), int(np.floor(y[b, n] + 0.5))
        column, row = min(column, 6), min(row, 4)
        at.add((b, label[b, n], row, column))
        right.append(scores[b, :, row, column].argmax() == label[b, n])
        present.add((b, label[b, n]))
    top = {(b, c): scores[b, c].max() for b in range(3) for c in range(4)}
    absent = set(top) - present
    ordered = [top[one] > top[other] for one in present for other in absent]
    inside = [scores[place] for place in at]
    truth = Points(torch.from_numpy(np.stack([x, y], -1)), torch.from_numpy(label), torch.from_numpy(valid))
    scores = torch.from_numpy(scores)
    mean = np.mean(ordered) if ordered else math.nan
    assert metrics.presence_auroc(scores, truth) == pytest.approx(mean, nan_ok=True)
    assert metrics.class_accuracy(scores, truth) == pytest.approx(np.mean(right) if right else math.nan, nan_ok=True)
    elsewhere = (float(scores.sum()) - sum(inside)) / (scores.numel() - len(inside))
    expected = (np.mean(inside) if inside else math.nan, elsewhere)
    assert metrics.mean_scores(scores, truth) == pytest.approx(expected, nan_ok=True)


@pytest.mark.parametrize("metric", METRICS)
@pytest.mark.bad_input
def test_points_without_a_place_on_the_maps_are_named(metric):
    scores = torch.rand(2, 3, 4, 6)
    named = r"truth has label 5, not in \[0, 3\), at image 1, point 1: there are 3 classes"
    with pytest.raises(ValueError, match=named):
        metric(scores, labelled([(0.0, 0.0, 0)], [(0.0, 0.0, 1), (0.0, 0.0, 5)]))
    for x, y in ((6.0, 0.0), (0.0, 4.0), (-1.0, 0.0)):
        with pytest.raises(ValueError, match="outside the picture"):
            metric(scores, labelled([(0.0, 0.0, 0)], [(x, y, 0)]))
    padded = Points(torch.full((2, 1, 2), 99.0), torch.full((2, 1), 99), torch.zeros(2, 1, dtype=torch.bool))
    metric(scores, padded)


@pytest.mark.parametrize("metric", METRICS)
@pytest.mark.bad_input
def test_scores_that_are_no_maps_of_these_images_are_named(metric):
    truth = labelled([(1.0, 1.0, 0)], [(1.0, 1.0, 1)])
    with pytest.raises(ValueError, match="scores holds 3 images, truth 2"):
        metric(torch.rand(3, 2, 4, 4), truth)
    with pytest.raises(TypeError, match="scores must be a floating point tensor"):
        metric(torch.ones(2, 2, 4, 4, dtype=torch.int64), truth)
    with pytest.raises(ValueError, match=r"scores must have shape .*, got \(2, 2\)"):
        metric(torch.rand(2, 2), truth)
    with pytest.raises(TypeError, match=r"truth must be falloff.points.Points, got list"):
        metric(torch.rand(2, 2, 4, 4), truth.to_lists())
    for mask in (torch.ones(2, 1, 4, 4), torch.ones(1, 1, 4, 4, dtype=torch.bool), [True, True]):
        if metric is not metrics.class_accuracy:
            with pytest.raises(ValueError, match=r"mask must be bool \(2, 1, 4, 4\), got"):
                metric(torch.rand(2, 2, 4, 4), truth, mask=mask)
    scores = torch.rand(2, 2, 4, 4)
    scores[1, 0, 1, 1] = math.nan
    with pytest.raises(ValueError, match="scores hold NaN in image 1"):
        metric(scores, truth)


def test_scores_without_end_are_no_nan():
    scores = torch.zeros(1, 2, 2, 2)
    scores[0, 0, 0, 0], scores[0, 1] = math.inf, -math.inf
    truth = labelled([(0.0, 0.0, 0)])
    assert metrics.presence_auroc(scores, truth) == metrics.class_accuracy(scores, truth) == 1
    assert metrics.mean_scores(scores, truth)[0] == math.inf


def test_at_a_stride_points_count_pixels_of_the_image():
    scores = torch.zeros(2, 2, 3, 4)
    scores[0, 1, 2, 1], scores[1, 0, 0, 3] = 0.8, 0.6
    truth = labelled([(5.5, 9.5, 1)], [(15.5, -0.5, 0), (8.0, 4.0, 1)])  # at stride 4 (1, 2), (3.5, -0.5), (1.6, 0.6)
    assert metrics.class_accuracy(scores, truth, stride=4) == pytest.approx(2 / 3)
    assert metrics.mean_scores(scores, truth, stride=4) == pytest.approx((1.4 / 3, 0.0))
    assert metrics.presence_auroc(scores, truth, stride=4) == pytest.approx(5 / 6)  # one of 3 ties with the absent
    for metric in METRICS:
        with pytest.raises(ValueError, match=r"image 0, point 0 at \(5.5, 9.5\) lies outside .* \(6, 8\)"):
            metric(scores, truth, stride=2)


@pytest.mark.bad_input
@pytest.mark.parametrize(("stride", "error"), [(0, ValueError), (math.nan, ValueError), (True, TypeError),
                                               ((4, 4), TypeError)])
def test_a_stride_that_is_none_is_named(stride, error):
    for metric in METRICS:
        with pytest.raises(error, match="stride must be"):
            metric(torch.zeros(1, 2, 3, 4), labelled([(5.5, 9.5, 1)]), stride=stride)
