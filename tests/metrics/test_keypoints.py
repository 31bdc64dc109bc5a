import math
from dataclasses import replace
from functools import partial

import numpy as np
import pytest
import torch
from hypothesis import given
from matching_cases import GOOD, SEEDS, apart, labelled, none_in_a_volume, random_case, scored, there
from scenes import none

from falloff import metrics
from falloff.points import Points


def keypoint_case(seed, batch=3, classes=4):
    """At most one labelled point of a class in an image; predictions of any number, some of a class that none has."""
    generator = torch.Generator().manual_seed(seed)
    label = torch.stack([torch.randperm(classes, generator=generator) for _ in range(batch)])
    xy = torch.rand(batch, classes, 2, generator=generator) * 8
    predicted, _ = random_case(seed, batch=batch, classes=classes + 1)
    return predicted, Points(xy, label, torch.rand(batch, classes, generator=generator) < 0.7)


def keypoints_one_by_one(predicted, truth):
    """(image, labelled point, distance to the best prediction of its class) of each key point."""
    found = []
    for b in range(len(truth)):
        for n in there(truth, b):
            same = [m for m in there(predicted, b) if predicted.label[b, m] == truth.label[b, n]]
            best = max(same, key=lambda m: float(predicted.score[b, m]), default=None)
            found.append((b, n, math.inf if best is None else apart(predicted, truth, b, best, n)))
    return found


def keypoints():
    """Two images: a face whose class 0 is 5 px off and class 1 exact, and one whose class 1 has no prediction."""
    predicted = scored(
        [(3.0, 4.0, 0, 0.9), (0.0, 0.0, 0, 0.8), (10.0, 10.0, 1, 0.1)], [(8.0, 8.0, 0, 0.3), (1.0, 1.0, 2, 0.9)]
    )
    truth = labelled([(0.0, 0.0, 0), (10.0, 10.0, 1)], [(2.0, 0.0, 0), (1.0, 1.0, 1)])
    return predicted, truth


def test_key_points_worked_by_hand():
    predicted, truth = keypoints()
    # The best score counts, not the nearest prediction.
    assert metrics.keypoint_distances(predicted, truth).tolist() == [[5.0, 0.0], [10.0, math.inf]]
    assert metrics.keypoint_distances(predicted, truth).dtype == torch.float64
    for threshold, share in ((4.9, 1 / 4), (5.0, 2 / 4), (10.0, 3 / 4), (1e6, 3 / 4)):  # equal to it is correct
        assert metrics.pck(predicted, truth, threshold=threshold) == share
    each = torch.tensor([1.0, 10.0])
    assert metrics.pck(predicted, truth, threshold=each) == 2 / 4  # 0 <= 1 and 10 <= 10
    assert metrics.pckh(predicted, truth, head_size=2 * each) == 2 / 4
    assert metrics.pckh(predicted, truth, head_size=100.0, fraction=0.05) == 2 / 4  # 5 and 0 <= 5
    assert metrics.nme(predicted, truth, scale=2.0) == math.inf
    assert metrics.nme(predicted[:1], truth[:1], scale=2.0) == (5 / 2 + 0) / 2
    only_first = labelled([(0.0, 0.0, 0)], [(2.0, 0.0, 0)])
    assert metrics.nme(predicted, only_first, scale=torch.tensor([2.0, 5.0])) == (5 / 2 + 10 / 5) / 2


def test_oks_worked_by_hand():
    predicted, truth = keypoints()
    # s = 10 and kappa = 1/2: d = 5 gives exp(-25 / (2 * 100 / 4)) = exp(-1/2), d = 10 exp(-2).
    found = metrics.oks(predicted, truth, scale=10.0, kappa=0.5)
    assert found.dtype == torch.float64
    assert found.tolist() == pytest.approx([(math.exp(-0.5) + 1) / 2, math.exp(-2) / 2])
    # The same distances in units of s * kappa, now from each image and each class; class 1 is met exactly or missing.
    each = metrics.oks(predicted, truth, scale=torch.tensor([5.0, 10.0]), kappa=torch.tensor([1.0, 7.0]))
    assert each.tolist() == pytest.approx([(math.exp(-0.5) + 1) / 2, math.exp(-0.5) / 2])
    # Two numbers whose product is 0 in float64.
    assert metrics.oks(predicted, truth, scale=1e-200, kappa=1e-200).tolist() == [0.5, 0.0]


def test_of_equal_scores_the_first_prediction_is_the_key_points():
    for low in (0.5, -math.inf):  # a score of minus infinity is still ahead of padding
        predicted = Points(
            torch.tensor([[[9.0, 9.0], [3.0, 0.0], [4.0, 0.0]]]),
            torch.zeros(1, 3, dtype=torch.int64),
            torch.tensor([[False, True, True]]),
            torch.tensor([[1.0, low, low]]),
        )
        assert metrics.keypoint_distances(predicted, labelled([(0.0, 0.0, 0)])).tolist() == [[3.0]]


def test_key_points_bear_padding_and_empty_images():
    predicted, truth = scored([(1.0, 0.0, 0, 0.5)], []), labelled([], [(0.0, 0.0, 0)])
    distance = metrics.keypoint_distances(predicted, truth)
    assert distance[0].isnan().all() and distance[1].tolist() == [math.inf]
    assert metrics.pck(predicted, truth, threshold=1.0) == 0.0
    similarity = metrics.oks(predicted, truth, scale=1.0, kappa=1.0)
    assert similarity[0].isnan() and similarity[1] == 0
    assert metrics.keypoint_distances(scored([], []), truth)[1].tolist() == [math.inf]
    for slots in (0, 2):
        nobody = none(2, slots)
        assert metrics.keypoint_distances(predicted, nobody).shape == (2, slots)
        assert metrics.oks(predicted, nobody, scale=1.0, kappa=torch.ones(1)).isnan().all()
        assert math.isnan(metrics.pck(predicted, nobody, threshold=1.0))
        assert math.isnan(metrics.nme(predicted, nobody, scale=1.0))


@given(SEEDS)
def test_key_points_on_random_cases(seed):
    predicted, truth = keypoint_case(seed)
    one_by_one = keypoints_one_by_one(predicted, truth)
    expected = torch.full(truth.label.shape, math.nan, dtype=torch.float64)
    for b, n, distance in one_by_one:
        expected[b, n] = distance
    torch.testing.assert_close(
        metrics.keypoint_distances(predicted, truth), expected, equal_nan=True, rtol=0, atol=1e-6
    )
    size, kappa = torch.tensor([2.0, 3.0, 4.0]), torch.tensor([0.5, 1.0, 1.5, 2.0])
    share, error = math.nan, math.nan
    if one_by_one:
        share = sum(distance <= 0.8 * float(size[b]) for b, _, distance in one_by_one) / len(one_by_one)
        error = sum(distance / float(size[b]) for b, _, distance in one_by_one) / len(one_by_one)
    assert metrics.pckh(predicted, truth, head_size=size, fraction=0.8) == pytest.approx(share, nan_ok=True)
    assert metrics.pck(predicted, truth, threshold=0.8 * size.double()) == pytest.approx(share, nan_ok=True)
    assert metrics.nme(predicted, truth, scale=size) == pytest.approx(error, nan_ok=True)
    similarity = metrics.oks(predicted, truth, scale=size, kappa=kappa)
    for b in range(3):
        terms = [
            math.exp(-(distance**2) / (2 * float(size[b]) ** 2 * float(kappa[truth.label[b, n]]) ** 2))
            for image, n, distance in one_by_one
            if image == b
        ]
        mean = sum(terms) / len(terms) if terms else math.nan
        assert float(similarity[b]) == pytest.approx(mean, abs=1e-6, nan_ok=True)


def test_images_with_one_point_of_a_class_are_key_points_even_beside_others():
    truth = labelled([(0.0, 0.0, 0)], [(1.0, 1.0, 0), (2.0, 2.0, 0)])
    assert metrics.keypoint_distances(scored([(3.0, 4.0, 0, 0.5)]), truth[:1])[0, 0] == 5


def test_volumes_are_measured_along_three_axes():
    label, valid = torch.zeros(1, 1, dtype=torch.int64), torch.ones(1, 1, dtype=torch.bool)
    predicted = Points(torch.tensor([[[1.0, 2.0, 2.0]]]), label, valid, torch.ones(1, 1))
    truth = Points(torch.zeros(1, 1, 3), label, valid)
    assert metrics.localisation_error(predicted, truth, radius=3.0) == 3.0
    assert metrics.keypoint_distances(predicted, truth).tolist() == [[3.0]]


@pytest.mark.parametrize("nothing", [0.0, -1.0, math.nan, math.inf])
def test_an_image_without_key_points_does_not_count_whatever_its_scale(nothing):
    # The first and the last image have a key point, 5 px off in units of 10 and exact in units of 2.
    predicted = scored([(3.0, 4.0, 0, 0.9)], [(1.0, 1.0, 0, 0.9)], [], [(7.0, 7.0, 0, 0.9)])
    truth = labelled([(0.0, 0.0, 0)], [], [], [(7.0, 7.0, 0)])
    scale = torch.tensor([10.0, nothing, nothing, 2.0])
    assert metrics.pck(predicted, truth, threshold=scale / 4) == 1 / 2
    assert metrics.pckh(predicted, truth, head_size=scale, fraction=0.25) == 1 / 2
    assert metrics.pckh(predicted, truth, head_size=scale) == 1
    assert metrics.nme(predicted, truth, scale=scale) == (5 / 10 + 0) / 2
    found = metrics.oks(predicted, truth, scale=scale, kappa=0.5)
    assert found[[0, 3]].tolist() == pytest.approx([math.exp(-0.5), 1]) and found[[1, 2]].isnan().all()
    nobody = labelled([], [], [], [])
    assert math.isnan(metrics.nme(predicted, nobody, scale=torch.full((4,), nothing)))
    assert metrics.oks(predicted, nobody, scale=torch.full((4,), nothing), kappa=0.5).isnan().all()


@pytest.mark.parametrize("bad", [0.0, -1.0, math.nan, math.inf])
@pytest.mark.bad_input
def test_a_scale_that_counts_is_refused_with_its_image(bad):
    predicted = scored([], [(3.0, 4.0, 0, 0.9)], [(3.0, 4.0, 0, 0.9)])
    truth, scale = labelled([], [(0.0, 0.0, 0)], [(0.0, 0.0, 0)]), torch.tensor([bad, 1.0, bad])
    for metric, name in ((metrics.pck, "threshold"), (metrics.pckh, "head_size"), (metrics.nme, "scale"),
                         (partial(metrics.oks, kappa=1.0), "scale")):
        with pytest.raises(ValueError, match=f"{name} must be finite and above 0, got {bad} for image 2"):
            metric(predicted, truth, **{name: scale})
    with pytest.raises(ValueError, match=f"kappa must be finite and above 0, got {bad} for class 1"):
        metrics.oks(predicted, truth, scale=1.0, kappa=torch.tensor([1.0, bad]))


KEYPOINT_METRICS = [
    metrics.keypoint_distances,
    partial(metrics.pck, threshold=1.0),
    partial(metrics.pckh, head_size=1.0),
    partial(metrics.nme, scale=1.0),
    partial(metrics.oks, scale=1.0, kappa=1.0),
]


@pytest.mark.parametrize(
    ("changed", "error", "named"),
    [
        ({"truth": labelled([(0.0, 0.0, 0), (1.0, 1.0, 0), (2.0, 2.0, 1)])}, ValueError, "truth holds 2 points of one"),
        ({"predicted": labelled([(0.0, 0.0, 0)])}, ValueError, "predicted carries no score"),
        ({"truth": None}, TypeError, "truth must be"),
        ({"truth": labelled([], [])}, ValueError, "predicted holds 1 images, truth 2"),
        ({"truth": none_in_a_volume()}, ValueError, "predicted has 2 coordinates per point, truth 3"),
    ],
)
@pytest.mark.parametrize("metric", KEYPOINT_METRICS)
@pytest.mark.bad_input
def test_bad_key_points_are_named(metric, changed, error, named):
    with pytest.raises(error, match=named):
        metric(**{"predicted": GOOD["predicted"], "truth": GOOD["truth"], **changed})


@pytest.mark.parametrize(
    ("value", "error", "named"),
    [
        (0.0, ValueError, "{} must be finite and above 0, got 0.0"),
        (math.nan, ValueError, "{} must be finite and above 0, got nan"),
        ("2", TypeError, "{} must be a number or a floating point tensor, one for each, got '2'"),
        (np.ones(1), TypeError, r"{} must be a number or a floating point tensor, one for each, got array"),
        (True, TypeError, "{} must be a number or a floating point tensor, one for each, got True"),
        (torch.tensor([0.0]), ValueError, "{} must be finite and above 0, got 0.0"),
        (torch.tensor([math.nan]), ValueError, "{} must be finite and above 0, got nan"),
        (torch.tensor([1]), TypeError, "{} must be a number or a floating point tensor, .*, got torch.int64"),
        (torch.tensor([[1.0]]), ValueError, r"{} must be a number or have the shape \(.*\), got \(1, 1\)"),
    ],
)
@pytest.mark.parametrize(
    ("metric", "name"),
    [
        (metrics.pck, "threshold"),
        (metrics.pckh, "head_size"),
        (metrics.nme, "scale"),
        (partial(metrics.oks, kappa=1.0), "scale"),
        (partial(metrics.oks, scale=1.0), "kappa"),
    ],
)
@pytest.mark.bad_input
def test_bad_scales_are_named(metric, name, value, error, named):
    with pytest.raises(error, match=named.format(name)):
        metric(GOOD["predicted"], GOOD["truth"], **{name: value})


@pytest.mark.parametrize("metric", [
    metrics.keypoint_distances, partial(metrics.pck, threshold=1.0), partial(metrics.pckh, head_size=1.0),
    partial(metrics.nme, scale=1.0), partial(metrics.oks, scale=1.0, kappa=1.0),
])
def test_several_animals_in_a_picture_are_sent_to_the_metrics_of_instances(metric):
    truth = Points.from_lists([([[0.0, 0.0]], [1]), ([[0.0, 0.0], [4.0, 4.0], [8.0, 8.0]], [0, 1, 1])])
    predicted = replace(truth, score=torch.ones_like(truth.label, dtype=torch.float32))
    with pytest.raises(ValueError, match=r"2 points of one class in image 1: key-point metrics allow 1.*"
                                         r"metrics.instances.*metrics.average_precision.*metrics.oks_distance"):
        metric(predicted, truth)


@pytest.mark.bad_input
def test_as_many_scales_as_images_are_needed_and_a_fraction_above_0():
    with pytest.raises(ValueError, match=r"threshold must be a number or have the shape \(1,\), got \(2,\)"):
        metrics.pck(GOOD["predicted"], GOOD["truth"], threshold=torch.ones(2))
    with pytest.raises(ValueError, match=r"fraction must be finite and above 0, got 0.0"):
        metrics.pckh(GOOD["predicted"], GOOD["truth"], head_size=1.0, fraction=0.0)
