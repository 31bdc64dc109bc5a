import pytest
import torch
from hypothesis import given
from scenes import batches, none, one

from falloff.points import Points

GOOD = {
    "xy": torch.zeros(2, 3, 2),
    "label": torch.zeros(2, 3, dtype=torch.int64),
    "valid": torch.ones(2, 3, dtype=torch.bool),
}


def test_lists_of_any_lengths_are_padded_with_invalid_points():
    points = Points.from_lists([([[1.5, 2.0], [3.0, 4.0]], [0, 2]), ([], []), ([[5.0, 6.0]], [1])])
    assert len(points) == 3
    assert points.valid.tolist() == [[True, True], [False, False], [True, False]]
    assert points.xy[0].tolist() == [[1.5, 2.0], [3.0, 4.0]]
    assert points.label[2, 0] == 1
    assert points.score is None


def test_lists_with_scores_keep_them():
    points = Points.from_lists([([[1.0, 2.0]], [0], [0.25]), ([], [], [])])
    assert points.score.tolist() == [[0.25], [0.0]]


def test_images_without_any_point_are_a_batch():
    points = Points.from_lists([([], []), ([], [])])
    assert points.xy.shape == (2, 0, 2)
    points.check_inside((1, 1), 1)


def test_what_padding_holds_is_of_no_account():
    points = none(batch=2, slots=3)
    assert points.xy.abs().sum() == 0
    assert points.label.sum() == 0
    points.check_inside((4, 4), 1)


@given(batches((6, 9), 3))
def test_points_within_the_picture_are_accepted_up_to_its_edge(points):
    points.check_inside((6, 9), 3)


@pytest.mark.parametrize(
    ("x", "y", "named"),
    [
        (-0.51, 2.0, "x reaches from -0.51"),
        (9.51, 2.0, "to 9.51"),
        (3.0, -0.6, "y reaches"),
        (3.0, 6.0, "y reaches"),
    ],
)
def test_a_point_outside_the_picture_is_refused(x, y, named):
    with pytest.raises(ValueError, match=named):
        one(x, y).check_inside((6, 10), 1)


def test_a_label_beyond_the_classes_is_refused():
    with pytest.raises(ValueError, match=r"label 3 is not in \[0, 3\)"):
        one(1.0, 1.0, label=3).check_inside((6, 10), 3)


def test_parts_of_a_batch():
    points = Points.from_lists([([[float(i), 0.0]], [i], [i / 10]) for i in range(4)])
    assert points[1:3].label.tolist() == [[1], [2]]
    chosen = points[torch.tensor([3, 0, 3])]
    assert chosen.label.tolist() == [[3], [0], [3]]
    assert chosen.score.flatten().tolist() == pytest.approx([0.3, 0.0, 0.3])
    assert points[points.score[:, 0] > 0.15].label.flatten().tolist() == [2, 3]


def test_below_a_threshold_points_become_padding_and_equal_to_it_they_stay():
    points = Points.from_lists([([[0.0, 0.0], [1.0, 1.0], [2.0, 2.0]], [0, 1, 2], [0.25, 0.5, 0.75])])
    assert points.above(0.5).valid.tolist() == [[False, True, True]]
    assert points.valid.all()


def test_widths_and_weights_go_with_their_points():
    points = Points.from_lists([([[1.0, 2.0]], [1]), ([[3.0, 2.0], [0.0, 0.0]], [0, 0])])
    points = Points(points.xy, points.label, points.valid, sigma=torch.rand(2, 2) + 1, weight=torch.rand(2, 2))
    part = points[1:].to("cpu")
    assert torch.equal(part.sigma, points.sigma[1:]) and torch.equal(part.weight, points.weight[1:])
    assert points.extent.sigma == float(points.sigma[points.valid].max()) and points.extent.crowd == 2
    assert points.weight[0, 1] == 0 and points.sigma[0, 1] == 1  # padding


@pytest.mark.parametrize(
    ("changed", "error", "named"),
    [
        ({"sigma": torch.zeros(2, 3)}, ValueError, "sigma must be finite and above 0: image 0, point 0 has 0.0"),
        ({"sigma": torch.full((2, 3, 2), torch.nan)}, ValueError, "sigma must be finite"),
        ({"sigma": torch.ones(2, 3, 3)}, ValueError, r"sigma must have the shape \(2, 3\) or \(2, 3, 2\) or"),
        ({"sigma": torch.ones(2, 3, 2, 2)}, ValueError, "sigma must be a symmetric, positive definite covariance"),
        ({"sigma": 1.5}, TypeError, "sigma must be a torch.Tensor, got float"),
        ({"weight": torch.full((2, 3), -1.0)}, ValueError, "weight must be finite and at least 0"),
        ({"weight": torch.ones(2, 3, dtype=torch.int64)}, TypeError, "weight must be floating point"),
        ({"weight": torch.ones(3)}, ValueError, "weight must have the shape"),
    ],
)
@pytest.mark.bad_input
def test_bad_widths_and_weights_are_named(changed, error, named):
    with pytest.raises(error, match=named):
        Points(**{**GOOD, **changed})


def test_points_in_a_volume_have_a_third_coordinate():
    points = Points.from_lists([([[1.0, 2.0, 3.0]], [0]), ([], [])])
    points.check_inside((4, 5, 6), 1)
    with pytest.raises(ValueError, match=r"z reaches from 3 to 3, allowed is -0\.5 to 1\.5"):
        points.check_inside((2, 5, 6), 1)
    with pytest.raises(ValueError, match="points with 3 coordinates need 3 lengths"):
        points.check_inside((5, 6), 1)


def test_moving_keeps_everything():
    points = Points.from_lists([([[1.0, 2.0]], [1], [0.5])]).to("cpu")
    assert points.xy.tolist() == [[[1.0, 2.0]]] and points.score.tolist() == [[0.5]]


@pytest.mark.parametrize(
    ("changed", "error", "named"),
    [
        ({"xy": [[0.0, 0.0]]}, TypeError, "xy must be a torch.Tensor, got list"),
        (
            {"xy": torch.zeros(2, 3, 2, dtype=torch.int64)},
            TypeError,
            "xy must be floating point, got torch.int64",
        ),
        ({"xy": torch.zeros(2, 3, 4)}, ValueError, "xy must have shape"),
        ({"xy": torch.zeros(3, 2)}, ValueError, "xy must have shape"),
        ({"label": torch.zeros(2, 3)}, TypeError, "label must be int64, got torch.float32"),
        ({"label": torch.zeros(2, 3, dtype=torch.int32)}, TypeError, "label must be int64, got torch.int32"),
        ({"label": torch.zeros(2, 4, dtype=torch.int64)}, ValueError, "label must have the shape"),
        ({"valid": torch.ones(2, 3)}, TypeError, "valid must be bool, got torch.float32"),
        ({"valid": torch.ones(3, 2, dtype=torch.bool)}, ValueError, "valid must have the shape"),
        ({"score": torch.ones(2, 3, dtype=torch.int64)}, TypeError, "score must be floating point"),
        ({"score": torch.ones(2)}, ValueError, "score must have the shape"),
        ({"score": 0.5}, TypeError, "score must be a torch.Tensor"),
    ],
)
@pytest.mark.bad_input
def test_wrong_types_and_shapes_are_named(changed, error, named):
    with pytest.raises(error, match=named):
        Points(**{**GOOD, **changed})


@pytest.mark.parametrize("bad", [torch.nan, torch.inf, -torch.inf])
def test_a_position_that_is_no_number_is_refused_with_its_place(bad):
    xy = GOOD["xy"].clone()
    xy[1, 2, 0] = bad
    with pytest.raises(ValueError, match="xy must be finite where valid: image 1, point 2"):
        Points(xy, GOOD["label"], GOOD["valid"])


def test_negative_labels_and_nan_scores_are_refused_with_their_place():
    with pytest.raises(ValueError, match="label must not be negative: image 0, point 0 has -1"):
        Points(GOOD["xy"], GOOD["label"] - 1, GOOD["valid"])
    with pytest.raises(ValueError, match="score must not be NaN where valid: image 0, point 0"):
        Points(**GOOD, score=torch.full((2, 3), torch.nan))


@pytest.mark.parametrize(
    ("images", "error", "named"),
    [
        ([], ValueError, "at least one"),
        ([([[1.0, 2.0]],)], ValueError, "every image must be"),
        ([([[1.0, 2.0]], [0]), ([[1.0, 2.0]], [0], [0.5])], ValueError, "every image must be"),
        ([([], []), ([[1.0, 2.0]], [0, 1])], ValueError, "image 1: 1 positions"),
        ([([[1.0, 2.0, 3.0, 4.0]], [0])], ValueError, r"image 0: xy must have shape \(n, 2\)"),
        ([([[1.0, 2.0]], [0]), ([[1.0, 2.0, 3.0]], [0])], ValueError, r"image 1: xy must have shape \(n, 2\)"),
        ([([[1.0, 2.0]], [0.5])], TypeError, "image 0: label must hold integers"),
        ([([[1.0, 2.0]], [True])], TypeError, "image 0: label must hold integers"),
    ],
)
@pytest.mark.bad_input
def test_lists_that_do_not_fit_are_named(images, error, named):
    with pytest.raises(error, match=named):
        Points.from_lists(images)


@pytest.mark.bad_input
def test_one_image_by_number_is_refused_since_it_would_drop_an_axis():
    with pytest.raises(TypeError, match="slice or a tensor"):
        Points(**GOOD)[0]


def test_a_threshold_needs_scores():
    with pytest.raises(ValueError, match="no score"):
        one(1.0, 1.0).above(0.5)
