import math
from dataclasses import replace

import pytest
import torch
from hypothesis import given
from matching_cases import SEEDS, labelled, scored
from scenes import none

from falloff import metrics
from falloff.points import Points


def of(points, *owners, scale=None):
    """Key points of one image with the instance that each belongs to."""
    extra = {"instance": torch.tensor([owners])}
    return replace(points, extra=extra if scale is None else extra | {"scale": torch.tensor([scale])})


def two_people():
    """Person 0 has key points 0 and 1, person 1 key point 1 alone; areas of 10 x 10 and 5 x 5 pixels."""
    keypoints = labelled([(0.0, 0.0, 0), (30.0, 30.0, 1), (2.0, 4.0, 1)])
    return metrics.instances(of(keypoints, 0, 1, 0, scale=[10.0, 5.0, 10.0]), classes=2)


def test_an_instance_is_one_point_with_its_key_points():
    people = two_people()
    assert people.valid.tolist() == [[True, True]] and people.label.tolist() == [[0, 0]] and people.score is None
    assert people.xy.tolist() == [[[1.0, 2.0], [30.0, 30.0]]]
    assert people.extra["visible"].tolist() == [[[True, True], [False, True]]]
    assert people.extra["keypoints"][0, 0].tolist() == [[0.0, 0.0], [2.0, 4.0]]
    assert people.extra["keypoints"][0, 1, 1].tolist() == [30.0, 30.0]
    assert people.extra["scale"].tolist() == [[10.0, 5.0]]
    told = metrics.instances(of(scored([(0.0, 0.0, 0, 0.5), (2.0, 4.0, 1, 0.25)]), 1, 1), classes=2)
    assert told.score.tolist() == [[0.0, 0.375]] and told.valid.tolist() == [[False, True]]


def test_padding_belongs_to_no_instance():
    padded = Points(torch.ones(1, 3, 2), torch.zeros(1, 3, dtype=torch.int64), torch.tensor([[False, True, False]]),
                    extra={"instance": torch.tensor([[0, 1, 7]])})
    assert metrics.instances(padded, classes=1).valid.tolist() == [[False, True]]
    nobody = replace(none(2, 3), extra={"instance": torch.zeros(2, 3, dtype=torch.int64)})
    assert not metrics.instances(nobody, classes=1).valid.any()
    assert not metrics.instances(replace(none(2, 0), extra={"instance": nobody.extra["instance"][:, :0]}),
                                 classes=1).valid.any()


def test_the_distance_of_instances_worked_by_hand():
    # Of person 0 key point 0 is 5 px off: d / s kappa = 5 / (10 / 2), so exp(-1/2); key point 1 is exact.
    predicted = of(scored([(3.0, 4.0, 0, 0.9), (2.0, 4.0, 1, 0.9), (2.0, 4.0, 1, 0.4)]), 0, 0, 1)
    found = metrics.oks_distance(0.5)(metrics.instances(predicted, classes=2), two_people())
    assert found.dtype == torch.float64
    far = 1 - math.exp(-((28**2 + 26**2) / 2.5**2) / 2)
    assert found[0].tolist() == [pytest.approx([1 - (math.exp(-0.5) + 1) / 2, far]),
                                 pytest.approx([1 - 1 / 2, far])]  # a key point that is not predicted adds 0
    each = metrics.oks_distance(torch.tensor([0.25, 9.0]))(metrics.instances(predicted, classes=2), two_people())
    assert float(each[0, 0, 0]) == pytest.approx(1 - (math.exp(-2) + 1) / 2)
    listed = metrics.oks_distance([0.25, 9.0])(metrics.instances(predicted, classes=2), two_people())
    assert torch.equal(listed, each)


def test_average_precision_of_instances_is_that_of_points_with_another_distance():
    # Both people are found, one by all key points; a third answer, of one key point of person 0, comes too late.
    predicted = of(scored([(0.0, 0.0, 0, 0.9), (2.0, 4.0, 1, 0.9), (2.0, 4.0, 1, 0.8), (30.0, 30.0, 1, 0.7)]),
                   0, 0, 1, 2)
    people = metrics.instances(predicted, classes=2)
    how = {"radius": 0.5, "distance": metrics.oks_distance(0.1)}
    assert metrics.match(people, two_people(), **how).truth.tolist() == [[0, -1, 1]]
    assert metrics.average_precision(people, two_people(), **how) == pytest.approx(1 / 2 + 1 / 2 * 2 / 3)


@given(SEEDS)
def test_of_one_instance_in_an_image_the_distance_is_one_minus_its_oks(seed):
    generator = torch.Generator().manual_seed(seed)
    label = torch.arange(4).expand(2, 4)

    def draw(score):
        valid = torch.rand(2, 4, generator=generator) < 0.7
        valid[:, 0] = True
        return Points(torch.rand(2, 4, 2, generator=generator) * 8, label, valid, score,
                      extra={"instance": torch.zeros_like(label), "scale": torch.full((2, 4), 3.0)})

    predicted, truth = draw(torch.rand(2, 4, generator=generator)), draw(None)
    kappa = torch.tensor([0.5, 1.0, 1.5, 2.0])
    found = metrics.oks_distance(kappa)(*(metrics.instances(p, classes=4) for p in (predicted, truth)))
    expected = 1 - metrics.oks(predicted, truth, scale=3.0, kappa=kappa)
    torch.testing.assert_close(found[:, 0, 0], expected)


@pytest.mark.parametrize("nothing", [0.0, math.nan])
def test_the_scale_of_instances_counts_where_they_show_key_points(nothing):
    # The first image has nobody, the second one person of 10 x 10 pixels, the third one whose scale is not known.
    visible = torch.tensor([[[True]], [[True]], [[True]]])
    valid = torch.tensor([[False], [True], [True]])
    at = torch.zeros(3, 1, 1, 2)
    people = Points(at[:, :, 0], torch.zeros(3, 1, dtype=torch.int64), valid, torch.ones(3, 1),
                    extra={"keypoints": at, "visible": visible, "scale": torch.tensor([[nothing], [10.0], [nothing]])})
    distance = metrics.oks_distance(0.5)
    assert metrics.match(people[:2], people[:2], radius=0.5, distance=distance).truth.tolist() == [[-1], [0]]
    with pytest.raises(ValueError, match=f"truth must carry a 'scale' .*, got {nothing} in image 2"):
        metrics.match(people, people, radius=0.5, distance=distance)
    hidden = replace(people, extra=people.extra | {"visible": torch.tensor([[[True]], [[True]], [[False]]])})
    assert metrics.match(people, hidden, radius=0.5, distance=distance).truth.tolist() == [[-1], [0], [-1]]


@pytest.mark.bad_input
def test_what_is_missing_of_instances_is_named():
    keypoints = labelled([(0.0, 0.0, 0), (1.0, 1.0, 0)])
    for points, named in ((keypoints, "points must carry 'instance' in extra"),
                          (of(keypoints, 0, -1), "points must have instances of at least 0 in extra, got -1"),
                          (of(keypoints, 0, 0), "two key points of one class in one instance")):
        with pytest.raises(ValueError, match=named):
            metrics.instances(points, classes=1)
    with pytest.raises(ValueError, match="classes must be an integer above 0"):
        metrics.instances(of(keypoints, 0, 1), classes=0)
    with pytest.raises(ValueError, match=r"points has label 1, not in \[0, 1\)"):
        metrics.instances(of(labelled([(0.0, 0.0, 1)]), 0), classes=1)
    people = metrics.instances(of(keypoints, 0, 1), classes=1)
    with pytest.raises(ValueError, match="truth must carry 'scale' in extra, which holds keypoints, visible"):
        metrics.oks_distance(0.1)(people, people)
    with pytest.raises(ValueError, match="predicted must carry 'keypoints' in extra"):
        metrics.oks_distance(0.1)(keypoints, people)
    with pytest.raises(ValueError, match="kappa must be finite and above 0"):
        metrics.oks_distance(0.0)
    with pytest.raises(ValueError, match=r"kappa must be a number or have the shape \(2,\), got \(3,\)"):
        metrics.oks_distance(torch.ones(3))(two_people(), two_people())
