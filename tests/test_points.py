import io
import math
from dataclasses import replace
from fractions import Fraction

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from points_cases import CHANGES, SIGMAS, rich, some
from scenes import batches, none, one
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.data import DataLoader, default_collate

from falloff import heatmaps, losses
from falloff.points import Extent, Points, collate

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
    assert points.extent.sigma == float(points.sigma[points.valid].max()) and points.extent.max_per_class == 2
    assert points.weight[0, 1] == 0 and points.sigma[0, 1] == 1  # padding


def test_extra_arrays_keep_their_type_and_are_zero_on_padding():
    extra = {"a": torch.full((2, 3, 2), torch.nan), "b": torch.ones(2, 3, dtype=torch.bool),
             "c": torch.ones(2, 3, dtype=torch.int32)}
    valid = torch.tensor([[False] * 3, [True] * 3])
    points = Points(GOOD["xy"], GOOD["label"], valid, extra=extra)
    assert {name: value.dtype for name, value in points.extra.items()} == {
        "a": torch.float32, "b": torch.bool, "c": torch.int32
    }
    assert all(not value[0].any() for value in points.extra.values())


def test_extra_arrays_go_with_their_points_through_every_operation():
    points = some()
    index = torch.tensor([1, 0, 1])
    for part, rows in ((points[1:], slice(1, None)), (points[index], index), (points.to("cpu"), slice(None)),
                       (points.at_stride(1), slice(None))):
        assert part.extra.keys() == points.extra.keys()
        assert all(torch.equal(value, points.extra[name][rows]) for name, value in part.extra.items())
    for fewer in (points.above(0.25), points.where(points.label == 1)):
        assert fewer.extra["instance"].tolist() == (points.extra["instance"] * fewer.valid).tolist()


@given(batches((6, 9), 3), batches((6, 9), 3, images=1))
def test_batches_join_to_one_that_holds_the_points_of_all(first, second):
    joined = Points.cat([first, second])
    assert len(joined) == 3 and joined.label.shape[1] == max(first.label.shape[1], second.label.shape[1])
    for whole, part in ((joined[:2], first), (joined[2:], second)):
        assert torch.equal(whole.xy[whole.valid], part.xy[part.valid])
        assert torch.equal(whole.label[whole.valid], part.label[part.valid])
    assert joined.extent == Extent.of(joined.xy, joined.label, joined.valid)


@pytest.mark.parametrize("sigma", [torch.rand(2, 3) + 1, torch.eye(2).expand(2, 3, 2, 2) * 4])
def test_joining_carries_every_array_and_pads_widths_with_ones(sigma):
    points = some(sigma)
    longer = Points.cat([points, points.padded(5)])
    again = Points(longer.xy, longer.label, longer.valid, longer.score, longer.extra, sigma=longer.sigma)
    assert torch.equal(again.sigma, longer.sigma) and again.extent == longer.extent
    assert all(torch.equal(value[2:, :3], points.extra[name]) for name, value in longer.extra.items())


@pytest.mark.bad_input
def test_batches_that_do_not_carry_the_same_are_not_joined():
    points = some()
    bare = Points(points.xy, points.label, points.valid)
    for batches_, named in (
        ([], "got none"),
        ([points, points, bare], r"as 'score', batches\[2\] has nothing, batches\[0\] shape \(batch, points\)"),
        ([points, some(torch.ones(2, 3, 2))], r"as 'sigma', batches\[1\] has shape \(batch, points, 2\) on cpu"),
        ([points, replace(points, extra={})], r"as 'size', batches\[1\] has nothing, batches\[0\] shape"),
        ([bare, replace(bare, extra={"seen": points.valid})], r"as 'seen', batches\[1\] has shape .*\[0\] nothing"),
    ):
        with pytest.raises(ValueError, match=f"batches must be some that all carry the same arrays.*{named}"):
            Points.cat(batches_)
    with pytest.raises(TypeError, match=r"batches\[1\] must be falloff.points.Points, got tuple"):
        Points.cat([points, (points.xy, points.label)])


@pytest.mark.bad_input
def test_samples_that_do_not_carry_the_same_are_named_with_their_number():
    people = [{"keypoints": [1, 2, 2], "area": 4.0}] * 2 + [{"keypoints": [1, 2, 2]}]
    samples = [(torch.rand(1, 4, 4), Points.from_coco([[person]], 1)) for person in people]
    with pytest.raises(ValueError, match=r"as 'scale', samples\[2\] has nothing, samples\[0\] shape \(batch, points\)"):
        collate(samples)
    with pytest.raises(ValueError, match=r"as 'scale', images\[2\] has nothing"):
        Points.stack([points for _, points in samples])
    with pytest.raises(TypeError, match=r"samples\[1\] must be falloff.points.Points, got NoneType"):
        collate([samples[0], (samples[1][0], None)])


def test_at_a_stride_pixels_and_lengths_are_those_of_the_map():
    sigma = torch.full((2, 3), 3.0)
    coarse, points = some(sigma).at_stride(4), some(sigma)
    assert torch.allclose(coarse.xy[points.valid], ((points.xy + 0.5) / 4 - 0.5)[points.valid])
    assert not coarse.xy[~points.valid].any()
    assert (coarse.sigma[points.valid] == 0.75).all() and coarse.extent.sigma == 0.75
    spread = torch.tensor([[4.0, 1.0], [1.0, 2.0]]).expand(2, 3, 2, 2)
    assert torch.equal(some(spread).at_stride(2).sigma[points.valid], (spread / 4)[points.valid])


def test_at_a_stride_sizes_shrink_and_the_rest_stays():
    points = some()
    coarse = points.at_stride(4)
    assert torch.allclose(coarse.extra["size"], points.extra["size"] / 4)
    assert torch.allclose(coarse.extra["scale"], points.extra["scale"] / 4)
    assert torch.equal(coarse.extra["instance"], points.extra["instance"]) and torch.equal(coarse.score, points.score)


@given(batches((7, 12), 3), st.sampled_from([1, 2, 3, 4, 8, 1.5, 2.4, 0.1, 1 / 3, 1 / 4, 1 / 7]))
def test_no_point_of_a_picture_leaves_it_at_a_stride_and_the_way_back_is_the_way_there(points, stride):
    ratio = Fraction(stride).limit_denominator()
    size = tuple(math.ceil(length / ratio) for length in (7, 12))
    coarse = points.at_stride(stride)
    coarse.check_inside(size, 3)
    Points(coarse.xy, coarse.label, coarse.valid).check_inside(size, 3)
    assert torch.allclose(coarse.at_stride(1 / stride).xy, points.xy, atol=1e-5)


@given(st.integers(1, 4096), st.integers(1, 64))
def test_the_last_place_of_a_picture_is_the_last_place_of_its_map(columns, stride):
    edge = one(columns * stride - 0.5, -0.5).at_stride(stride)
    assert edge.xy.tolist() == [[[columns - 0.5, -0.5]]] and edge.extent.high == (columns - 0.5, -0.5)
    back = one(columns - 0.5, -0.5).at_stride(1 / stride)
    assert back.xy.tolist() == [[[columns * stride - 0.5, -0.5]]]


@pytest.mark.parametrize("name", ["focal", "mse", "dice", "dsnt"])
def test_points_that_left_or_were_sliced_away_are_refused_by_no_loss(name):
    # sleap-nn PR 666, kornia PR 4194
    logits = torch.randn(2, 1, 8, 8, generator=torch.Generator().manual_seed(0))
    points = Points.from_lists([([[1.0, 2.0], [99.0, 3.0]], [0, 0]), ([[5.0, 5.0]], [0])])
    clean = Points.from_lists([([[1.0, 2.0]], [0]), ([[5.0, 5.0]], [0])])
    loss = losses.make(name)
    assert float(loss(logits, points.where(points.xy[..., 0] < 8))) == pytest.approx(float(loss(logits, clean)))
    assert float(loss(logits[1:], points[1:])) == pytest.approx(float(loss(logits[1:], clean[1:])))
    with pytest.raises(ValueError, match=r"x reaches from 1 to 99|one image has 2"):
        loss(logits, points)


@pytest.mark.parametrize("degrees", [0, 30, 90])
def test_points_turned_and_scaled_carry_widths_and_drop_what_leaves(degrees):
    turn, scale = math.radians(degrees), 2.0
    linear = scale * torch.tensor([[math.cos(turn), -math.sin(turn)], [math.sin(turn), math.cos(turn)]])
    middle = torch.tensor([4.0, 4.0])
    matrix = torch.cat([linear, (middle - linear @ middle)[:, None]], dim=1).expand(2, 2, 3)
    points = some(torch.tensor([1.0, 3.0]).expand(2, 3, 2))
    moved = points.affine(matrix, (12, 14))
    expected = (points.xy - middle) @ linear.T + middle
    inside = ((expected >= -0.5) & (expected <= torch.tensor([13.5, 11.5]))).all(-1)
    assert torch.equal(moved.valid, points.valid & inside) and moved.valid.any() and not moved.valid.all()
    assert torch.allclose(moved.xy[moved.valid], expected[moved.valid], atol=1e-5)
    spread = linear @ torch.diag(torch.tensor([1.0, 9.0])) @ linear.T
    assert torch.allclose(moved.sigma[moved.valid], spread.expand(int(moved.valid.sum()), 2, 2), atol=1e-4)
    assert torch.allclose(moved.extra["size"][moved.valid], points.extra["size"][moved.valid] @ linear.abs().T)
    assert torch.allclose(moved.extra["scale"][moved.valid], points.extra["scale"][moved.valid] * scale)
    moved.check_inside((12, 14), 3)
    Points(moved.xy, moved.label, moved.valid, sigma=moved.sigma)  # would refuse what is no covariance


@pytest.mark.parametrize(
    ("changed", "error", "named"),
    [
        ({"extra": {"size": torch.ones(2, 4)}}, ValueError, r"size must have the shape \(2, 3, ...\)"),
        ({"extra": {"size": [1.0]}}, TypeError, "size must be a torch.Tensor, got list"),
        ({"extra": {"label": torch.ones(2, 3)}}, ValueError, "extra must not use the names of fields, got label"),
    ],
)
@pytest.mark.bad_input
def test_bad_extra_arrays_are_named(changed, error, named):
    with pytest.raises(error, match=named):
        Points(**{**GOOD, **changed})


@pytest.mark.bad_input
def test_a_stride_that_is_none_is_refused():
    for stride in (0, -1.0, torch.inf):
        with pytest.raises(ValueError, match="stride must be"):
            some().at_stride(stride)


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


def test_a_threshold_needs_scores():
    with pytest.raises(ValueError, match="no score"):
        one(1.0, 1.0).above(0.5)


def test_the_extent_is_always_that_of_the_points_themselves():
    points = Points.from_lists([([[1.0, 2.0], [99.0, 3.0]], [0, 0]), ([[5.0, 5.0]], [1])])
    for part in (points[1:], points.where(points.xy[..., 0] < 9), points.at_stride(3), points[:1].padded(7)):
        assert part.extent == Extent.of(part.xy, part.label, part.valid)
    assert not points[1:].crowded() and points.crowded()


def test_what_lies_outside_a_picture_is_dropped_by_one_call_that_looks_at_nothing():
    points = Points.from_lists([([[1.0, 2.0], [99.0, 3.0], [7.5, -0.5]], [0, 0, 1]),
                                ([[-0.6, 5.0], [0.0, 7.5]], [1, 2])])
    eager = points.inside((8, 8), 2)
    assert eager.valid.tolist() == [[True, False, True], [False, False, False]]
    assert points.inside((8, 8)).valid.tolist() == [[True, False, True], [False, True, False]]
    eager.check_inside((8, 8), 2)
    with pytest.raises(ValueError, match="points with 2 coordinates need 2 lengths"):
        points.inside((1, 8, 8))


class NothingRead(TorchDispatchMode):
    """Refuses every operation whose result depends on values in shape or as a Python number: a GPU would wait."""

    READS = ("_local_scalar_dense", "nonzero", "_unique2", "unique_dim", "masked_select", "is_nonzero", "lift_fresh")

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        assert func._schema.name.removeprefix("aten::") not in self.READS, func
        return func(*args, **(kwargs or {}))


@pytest.mark.parametrize("sigma", SIGMAS)
@pytest.mark.parametrize("change", CHANGES)
def test_every_change_gives_fresh_and_valid_points_and_looks_at_no_value(change, sigma):
    points, matrix = rich(SIGMAS[sigma]), CHANGES[change]
    if change == "affine":  # its matrix is made beforehand, as a GPU's would be
        turn = torch.tensor([[0.0, -2.0, 12.0], [1.0, 0.5, 0.0]]).expand(2, 2, 3)
        matrix = lambda points: points.affine(turn, (9, 9), swap=[(0, 2)])  # noqa: E731
    if change == "index":
        rows = torch.arange(2)
        matrix = lambda points: points[rows]  # noqa: E731
    with NothingRead():
        moved = matrix(points)
    fresh = Points(moved.xy, moved.label, moved.valid, moved.score, moved.extra, sigma=moved.sigma, weight=moved.weight)
    for name, part in fresh._arrays().items():
        assert torch.equal(part, moved._arrays()[name]), name
    assert moved.widest_sigma() >= fresh.extent.sigma * (1 - 1e-6)
    assert fresh.extent == moved.extent and moved.extra.keys() == points.extra.keys()
    assert (moved.sigma is None) == (sigma == "none") and moved.weight is not None and moved.score is not None


@given(batches((6, 9), 3), st.sampled_from([((0, 1),), ((0, 2),), ()]))
def test_two_flips_leave_everything_where_it_was(points, swap):
    spread = torch.tensor([[2.0, 0.5], [0.5, 1.0]]).expand(*points.label.shape, 2, 2)
    points = replace(points, sigma=spread)
    once = points.flip(9, swap=swap)
    again = once.flip(9, swap=swap)
    once.check_inside((6, 9), 3)
    assert torch.allclose(again.xy, points.xy, atol=1e-6) and torch.equal(again.label, points.label)
    assert torch.equal(again.sigma, points.sigma)
    assert torch.equal(once.sigma[points.valid][:, 0, 1], -points.sigma[points.valid][:, 0, 1])


@pytest.mark.parametrize("sigma", SIGMAS)
def test_the_map_of_flipped_points_is_the_flipped_map(sigma):
    points = rich(SIGMAS[sigma]).inside((7, 10))
    heat = heatmaps.render(points, (7, 10), 3, 1.5)
    flipped = heatmaps.render(points.flip(10), (7, 10), 3, 1.5)
    assert torch.allclose(flipped, heat.flip(-1), atol=1e-6)


@given(batches((6, 9), 3), st.integers(0, 40), st.integers(0, 40))
def test_a_crop_of_what_was_added_leaves_the_points_where_they_were(points, left, top):
    wider = points.pad(left, top)
    wider.check_inside((6 + top, 9 + left), 3)
    back = wider.crop(top, left, 6, 9)
    assert torch.equal(back.valid, points.valid) and torch.allclose(back.xy, points.xy, atol=1e-5)


def test_a_crop_counts_from_its_own_corner_and_drops_what_lies_outside():
    points = Points.from_lists([([[4.0, 3.0], [10.0, 3.0], [3.5, 2.5]], [0, 1, 2])], sigma=[[1.0, 2.0, 3.0]])
    crop = points.crop(3, 4, 5, 6)
    assert crop.to_lists() == [([[0.0, 0.0], [-0.5, -0.5]], [0, 2])]
    crop.check_inside((5, 6), 3)
    assert crop.sigma.tolist() == [[1.0, 1.0, 3.0]]


def test_resized_points_lie_where_the_resized_picture_has_them():
    image = torch.zeros(1, 1, 8, 12)
    image[0, 0, 3:5, 6:8] = 1.0  # its middle is between pixels, at (6.5, 3.5)
    large = torch.nn.functional.interpolate(image, scale_factor=(3.0, 2.0), mode="bilinear", align_corners=False)
    total = large.sum()
    x, y = ((large.sum(axes) * torch.arange(24)).sum() / total for axes in ((0, 1, 2), (0, 1, 3)))
    moved = replace(one(6.5, 3.5), sigma=torch.ones(1, 1)).scale((2, 3))
    assert moved.xy[0, 0].tolist() == pytest.approx([float(x), float(y)], abs=1e-5) == [13.5, 11.5]
    assert moved.sigma.tolist() == [[[2.0, 3.0]]]


def test_lengths_are_resized_each_along_its_axis():
    spread = torch.tensor([[4.0, 1.0], [1.0, 2.0]]).expand(2, 3, 2, 2)
    points = rich(spread)
    moved = points.scale((2, 0.5))
    assert torch.allclose(moved.extra["size"], points.extra["size"] * torch.tensor([2.0, 0.5]))
    assert torch.allclose(moved.extra["scale"], points.extra["scale"])
    assert torch.equal(moved.sigma[points.valid][0], torch.tensor([[16.0, 1.0], [1.0, 0.5]]))
    axes = rich(torch.tensor([1.0, 3.0]).expand(2, 3, 2)).scale(3)
    assert torch.equal(axes.sigma[points.valid][0], torch.tensor([3.0, 9.0]))
    assert torch.equal(points.scale(0.25).xy, points.at_stride(4).xy)


@pytest.mark.bad_input
def test_a_matrix_is_taken_with_its_last_row_or_without_as_a_tensor_an_array_or_lists():
    points, half = rich(torch.rand(2, 3) + 1), [[0.0, -1.0, 9.0], [1.0, 0.0, 0.5]]
    whole = torch.tensor([*half, [0.0, 0.0, 1.0]])
    expected = points.affine(torch.tensor(half), (20, 20))
    assert torch.equal(expected.xy[0, 0], torch.tensor([7.0, 1.5]))  # (1, 2)
    noisy = whole + torch.tensor([[0.0], [0.0], [1e-8]])  # as an inverse leaves it
    for matrix in (half, np.array(half), whole, whole.numpy(), whole.tolist(), whole.double(), whole.expand(2, 3, 3),
                   whole.expand(2, 3, 3).numpy(), torch.tensor(half).expand(2, 2, 3), noisy):
        moved = points.affine(matrix, (20, 20))
        assert all(torch.equal(part, moved._arrays()[name]) for name, part in expected._arrays().items())
    volume = Points(torch.ones(1, 1, 3), torch.zeros(1, 1, dtype=torch.int64), torch.ones(1, 1, dtype=torch.bool))
    assert volume.affine(torch.diag(torch.tensor([2.0, 3.0, 4.0, 1.0])), (9, 9, 9)).xy.tolist() == [[[2, 3, 4]]]
    for wrong in ("ab", [[1, None, 0]] * 2, {"a": 1}):
        with pytest.raises((TypeError, ValueError), match="matrix must be"):
            points.affine(wrong, (20, 20))


def test_a_turn_carries_covariances_and_boxes_as_numpy_has_them():
    generator = np.random.default_rng(0)
    linear = generator.normal(size=(2, 2, 2)) * 0.4 + np.eye(2)
    root = generator.normal(size=(2, 3, 2, 2)) + 2 * np.eye(2)
    spread = root @ root.transpose(0, 1, 3, 2)
    points = rich(torch.tensor(spread, dtype=torch.float32))
    matrix = torch.tensor(np.concatenate([linear, np.full((2, 2, 1), 5.0)], axis=2), dtype=torch.float32)
    moved = points.affine(matrix, (60, 60))
    assert torch.equal(moved.valid, points.valid)
    for image, point in points.valid.nonzero().tolist():
        a, width = linear[image], points.extra["size"][image, point].numpy()
        np.testing.assert_allclose(moved.sigma[image, point], a @ spread[image, point] @ a.T, rtol=1e-4, atol=1e-5)
        np.testing.assert_allclose(moved.xy[image, point], a @ points.xy[image, point].numpy() + 5, rtol=1e-5)
        corners = np.array([[x, y] for x in (-0.5, 0.5) for y in (-0.5, 0.5)]) * width @ a.T
        np.testing.assert_allclose(moved.extra["size"][image, point], np.ptp(corners, axis=0), rtol=1e-5)
        grown = float(moved.extra["scale"][image, point] / points.extra["scale"][image, point])
        assert grown == pytest.approx(math.sqrt(abs(np.linalg.det(a))), rel=1e-4)


def test_one_matrix_serves_all_images_and_a_quarter_turn_swaps_width_and_height():
    points = some()
    moved = points.affine(torch.tensor([[0.0, -1.0, 9.0], [1.0, 0.0, 0.0]]), (20, 20))
    assert torch.allclose(moved.extra["size"][moved.valid], points.extra["size"][moved.valid].flip(-1))
    assert torch.equal(moved.xy, points.affine(torch.tensor([[[0.0, -1.0, 9.0], [1.0, 0.0, 0.0]]] * 2), (20, 20)).xy)


@pytest.mark.parametrize("index", [0, -2, np.int64(0), np.uint8(0), torch.tensor(0), np.array(0), [0], np.array([0]),
                                   torch.tensor([0], dtype=torch.int32), [True, False], np.array([True, False]),
                                   torch.tensor([True, False]), slice(0, 1), slice(None, 0, -1), range(1)])
def test_any_index_of_images_gives_a_batch_of_them(index):
    points = some()
    expected = points[1:] if isinstance(index, slice) and index.step == -1 else points[:1]
    assert len(points[index]) == 1 and torch.equal(points[index].xy, expected.xy)
    assert points[index].extent == expected.extent


def test_no_image_is_a_batch_too_and_a_batch_is_walked_image_by_image():
    points = some()
    assert len(points[[]]) == len(points[2:]) == len(points[torch.zeros(2, dtype=torch.bool)]) == 0
    assert [image.valid.sum().item() for image in points] == [3, 1]
    assert torch.equal(Points.stack(list(points)).xy, points.xy)


@pytest.mark.bad_input
@pytest.mark.parametrize(("index", "error", "named"), [
    (2, IndexError, "there is no image 2: points hold 2"),
    (-3, IndexError, "there is no image -3"),
    ([5], IndexError, "there is no image 5: points hold 2"),
    (torch.tensor([1, 7]), IndexError, "there is no image 7: points hold 2"),
    (torch.tensor(7), IndexError, "there is no image 7: points hold 2"),
    (np.array([0, -3]), IndexError, "there is no image -3: points hold 2"),
    (torch.tensor([True]), IndexError, r"must have the shape \(2,\), got \(1,\)"),
    (torch.ones(2, 3, dtype=torch.bool), IndexError, r"where\(\) takes one of points"),
    ((0, 1), TypeError, "images must be an integer, a slice"),
    (True, TypeError, "images must be"), (1.0, TypeError, "images must be"), ("a", TypeError, "images must be"),
    (None, TypeError, "images must be"), (torch.tensor([[0]]), TypeError, "images must be"),
    (torch.tensor([0.5]), TypeError, "images must be"),
])
def test_what_is_no_index_of_images_is_refused(index, error, named):
    with pytest.raises(error, match=named):
        some()[index]


@given(batches((6, 9), 3))
def test_lists_and_batches_are_two_forms_of_the_same(points):
    again = Points.from_lists(points.to_lists())
    assert again.to_lists() == points.to_lists() and len(again) == len(points)
    assert torch.equal(again.xy[again.valid], points.xy[points.valid])
    assert Points.cat(list(points)).to_lists() == points.to_lists()


def test_lists_may_hold_widths_and_weights():
    points = Points.from_lists([([[1, 2]], [0]), ([], []), ([[1, 2], [3, 4]], [0, 1])],
                               sigma=[[1.5], [], [2, 3]], weight=[[0.5], [], [1, 2]])
    assert points.sigma.tolist() == [[1.5, 1], [1, 1], [2, 3]] and points.weight.tolist() == [[0.5, 0], [0, 0], [1, 2]]


def test_arrays_that_were_flipped_are_taken():
    xy = np.array([[1.0, 2.0], [3.0, 4.0]])
    points = Points.from_lists([(xy[::-1], np.array([0, 1], dtype=np.int16)[::-1])])
    assert points.to_lists() == [([[3.0, 4.0], [1.0, 2.0]], [1, 0])]


def test_columns_of_a_table_are_taken_for_arrays():
    table = pd.DataFrame({"x": [1.0, 3.0], "y": [2.0, 4.0], "kind": [1, 0]}, index=[7, 9])
    points = Points.from_lists([(table[["x", "y"]], table["kind"])])
    assert points.to_lists() == [([[1.0, 2.0], [3.0, 4.0]], [1, 0])]


TABLE = pd.DataFrame({"x": [1.0], "y": [2.0]})


@pytest.mark.bad_input
@pytest.mark.parametrize(("make", "named"), [
    (lambda: Points.from_lists(TABLE), "images must be a list with an entry for each image, got DataFrame"),
    (lambda: Points.from_lists({0: ([[1, 2]], [0])}), "images must be a list with an entry for each image, got dict"),
    (lambda: Points.from_lists(TABLE["x"]), "images must be a list with an entry for each image, got Series"),
    (lambda: Points.from_lists(7), "images must be a list with an entry for each image, got int"),
    (lambda: Points.from_lists([{"xy": [[1, 2]], "label": [0]}]), r"image 0 must be a tuple \(xy, label\).* got dict"),
    (lambda: Points.from_lists([([[1, 2]], [0]), TABLE]), "image 1 must be a tuple .* got DataFrame"),
    (lambda: Points.from_lists([([[1, 2]], [0])], weight=2.0), "weight must be a list with an entry for each image"),
    (lambda: Points.from_lists([([[1, 2]], [0])], sigma={0: [1.0]}), "sigma must be a list with .* got dict"),
    (lambda: Points.from_boxes({0: [[0, 0, 1, 1]]}, [[0]]), "boxes must be a list with an entry for each image"),
    (lambda: Points.from_boxes([[[0, 0, 1, 1]]], 0), "labels must be a list with an entry for each image, got int"),
    (lambda: Points.from_coco([[PERSON, "a"]], 3), "image 0, annotation 1 must be a dict as in COCO's file, got 'a'"),
    (lambda: Points.from_coco(7, 3), "images must hold a list of annotations for each image, got 7"),
    (lambda: Points.from_coco([[{**PERSON, "area": "big"}]], 3), "image 0, annotation 0: area must be a number"),
    (lambda: Points(np.zeros((1, 1, 2)), GOOD["label"], GOOD["valid"]), "xy must be a torch.Tensor, got ndarray; "),
    (lambda: Points(GOOD["xy"], None, GOOD["valid"]), "label must be a torch.Tensor, got NoneType"),
    (lambda: Points(**GOOD, extra=[1]), "extra must be a dict of tensors, got list"),
    (lambda: Points(**GOOD, extra={"size": np.ones((2, 3, 2))}), "size must be a torch.Tensor, got ndarray"),
])
def test_what_is_no_list_for_each_image_or_no_tensor_is_named(make, named):
    with pytest.raises(TypeError, match=named):
        make()


@pytest.mark.bad_input
@pytest.mark.parametrize(("images", "options", "named"), [
    ([([[1, 2]], [0]), ([[None, 2]], [0])], {}, "image 1: xy must be numbers"),
    ([([[1, 2]], [0]), ([[1, 2]], ["nose"])], {}, "image 1: label must be numbers"),
    ([({"x": 1}, [0])], {}, "image 0: xy must be numbers"),
    ([([[1, 2]], [0])], {"sigma": [[1.0, 2.0]]}, r"image 0: 1 positions .* got sigma \(2,\)"),
    ([([[1, 2]], [0])], {"weight": [2.0, 1.0]}, "weight must hold the values of each of 1 images, got"),
    ([([[10, 20, 2], [30, 40, 1]], [0, 1])], {}, "Points.from_coco"),
    ([([], []), (np.array([[10, 20, 2], [0, 0, 0]]), [0, 1])], {}, "Points.from_coco"),
])
def test_lists_of_the_wrong_kind_are_named_with_their_image(images, options, named):
    with pytest.raises(ValueError, match=named):
        Points.from_lists(images, **options)


def test_visibility_in_place_of_a_slice_is_named_where_it_meets_a_picture():
    with pytest.raises(ValueError, match=r"Points\.from_coco"):
        losses.make("bce")(torch.zeros(1, 1, 8, 8), Points.from_lists([([[1.5, 2.0, 2.0]], [0])]))


def test_a_type_of_numbers_is_chosen_as_a_tensors_is_but_never_half_precision():
    points = rich(torch.rand(2, 3) + 1)
    for double in (points.to(torch.float64), points.to("cpu", torch.float64), points.to(dtype=torch.float64)):
        kinds = {name: part.dtype for name, part in double._arrays().items()}
        floating = {"xy", "score", "sigma", "weight", "size", "scale"}
        assert {name for name, kind in kinds.items() if kind == torch.float64} == floating
        assert kinds["instance"] == kinds["label"] == torch.int64
    assert points.to(torch.bfloat16).xy.dtype == points.to(torch.float16).sigma.dtype == torch.float32
    assert torch.equal(points.cpu().to("cpu", non_blocking=True).xy, points.xy)
    with pytest.raises(TypeError, match=r"dtype must be floating point, got torch\.int64"):
        points.to(torch.int64)


def test_points_go_to_a_file_and_come_back_without_running_code_from_it():
    file, points = io.BytesIO(), rich(torch.rand(2, 3) + 1)
    torch.save({"points": points, "part": points[1:]}, file)
    file.seek(0)
    loaded = torch.load(file, weights_only=True)
    assert torch.equal(loaded["points"].sigma, points.sigma) and loaded["part"].extent == points[1:].extent


class Samples(torch.utils.data.Dataset):
    """Pictures of 0 to 2 points each."""

    def __len__(self):
        return 6

    def __getitem__(self, index):
        count = index % 3
        points = Points.from_lists([([[index, 2.0]] * count, [count] * count)], sigma=[[1.0] * count])
        return {"image": torch.full((1, 4, 4), float(index)), "points": points, "more": (index, None)}


@pytest.mark.parametrize("workers", [0, 2])
def test_a_loader_joins_the_points_of_its_samples(workers):
    first, second = DataLoader(Samples(), 3, collate_fn=collate, num_workers=workers)
    assert first["points"].valid.tolist() == [[False, False], [True, False], [True, True]]
    assert second["points"].extent.high == (5.0, 2.0) and second["more"][0].tolist() == [3, 4, 5]
    assert second["more"][1] is None and first["image"].shape == (3, 1, 4, 4)
    plain = default_collate([Samples()[index]["points"] for index in range(6)])
    assert len(plain) == 6 and plain.sigma.shape == (6, 2)


@pytest.mark.bad_input
def test_samples_that_are_whole_batches_are_not_stacked():
    with pytest.raises(ValueError, match=r"images\[1\] must be points of one image, got 2"):
        Points.stack([some()[0], some()])


def test_lightning_and_accelerate_take_points_for_what_they_are():
    batch = (torch.zeros(2, 1, 4, 4), some())
    sizes = pytest.importorskip("lightning.pytorch.utilities.data").extract_batch_size  # endless for an Iterable
    assert sizes(batch) == 2
    move = pytest.importorskip("lightning.fabric.utilities").move_data_to_device
    send = pytest.importorskip("accelerate.utils").send_to_device
    for moved in (move(batch, torch.device("cpu")), send(batch, torch.device("cpu"))):
        assert torch.equal(moved[1].xy, batch[1].xy)


@pytest.mark.parametrize(("xy", "named"), [
    ([[2.0, 3.0], [70.0, 5.0]],
     r"image 1, point 1 at \(70, 5\) .* of \(height, width\) \(32, 64\): x .* from 1 to 70, allowed is -0\.5 to 63\.5"),
    ([[2.0, 3.0], [-1.0, -1.0]], "-1 often stands for a point that is missing"),
    ([[20.0, 50.0], [9.0, 60.0]], "if the axes were swapped"),
    ([[1.0, 1.0], [64.0, 32.0]], "from 1 in MATLAB"),
    ([[0.0, 0.0], [90.0, 70.0]], "1 of 3 points lie at 0 in every axis"),
    ([[5.0, 5.0], [90.0, 70.0]], r"inside\(\) drops what a crop left outside"),
])
def test_the_error_for_a_point_outside_names_it_and_what_may_be_the_cause(xy, named):
    points = Points.from_lists([([[1.0, 1.0]], [0]), (xy, [0, 0])])
    with pytest.raises(ValueError, match=named):
        points.check_inside((32, 64), 1)


def test_the_error_for_a_label_names_the_point_and_labels_that_count_from_1():
    points = Points.from_lists([([[1.0, 1.0]], [1]), ([[2.0, 3.0], [4.0, 5.0]], [1, 2])])
    with pytest.raises(ValueError, match=r"image 1, point 1: label 2 is not in \[0, 2\).* labels count from 0"):
        points.check_inside((8, 8), 2)


PERSON = {"keypoints": [10, 20, 2, 0, 0, 0, 30, 24, 1], "area": 400.0, "bbox": [8, 10, 30, 30], "num_keypoints": 2}


def test_coco_key_points_become_points_of_their_kinds():
    other = {"keypoints": [[1, 2, 0], [3, 4, 1], [5, 6, 2]], "bbox": [0, 0, 9, 4]}
    points = Points.from_coco([[{"bbox": [0, 0, 5, 5]}, PERSON, other], [], [PERSON]], ["nose", "left", "right"])
    assert points.to_lists() == [([[10, 20], [30, 24], [3, 4], [5, 6]], [0, 2, 1, 2]), ([], []),
                                 ([[10, 20], [30, 24]], [0, 2])]
    assert points.extra["visibility"][0].tolist() == [2, 1, 1, 2]
    assert points.extra["instance"][0].tolist() == [1, 1, 2, 2]
    assert points.extra["scale"][0].tolist() == [20, 20, 6, 6] and points.extra["visibility"].dtype == torch.int64
    assert "scale" not in Points.from_coco([[{"keypoints": [1, 2, 2]}]], 1).extra
    assert Points.from_coco([[], []], 3).xy.shape == (2, 0, 2)


@pytest.mark.bad_input
@pytest.mark.parametrize(("images", "kinds", "error", "named"), [
    ([PERSON], 3, TypeError, "a list of annotations for each image"),
    ([[PERSON]], "nose", TypeError, "the names of all kinds"),
    ([[PERSON]], 2, ValueError, "image 0, annotation 0: keypoints must be 6 numbers, x, y and v of 2 kinds, got 9"),
    ([[], [{"keypoints": [1, 2, 0.7]}]], 1, ValueError, "image 1, annotation 0, key point 0: v must be .* got 0.7"),
    ([[{"keypoints": [1, "2", 2]}]], 1, TypeError, "image 0, annotation 0: keypoints must be numbers"),
    ([], 1, ValueError, "at least one"),
    ([[], [PERSON, {**PERSON, "area": -1}]], 3, ValueError, "image 1, annotation 1: area must be finite and at"),
    ([[{"keypoints": [1, 2, 2], "bbox": [1, 2]}]], 1, ValueError, r"image 0, annotation 0: bbox must be \(x, y, w.*"),
])
def test_annotations_of_the_wrong_kind_are_named(images, kinds, error, named):
    with pytest.raises(error, match=named):
        Points.from_coco(images, kinds)


def test_boxes_are_measured_from_edges_of_pixels_and_points_from_their_centres():
    boxes, labels = [[[0, 0, 8, 4], [2, 1, 1, 1]], np.zeros((0, 4))], [[3, 0], []]
    centres = Points.from_boxes(boxes, labels)
    assert centres.to_lists() == [([[3.5, 1.5], [2.0, 1.0]], [3, 0]), ([], [])]  # a box of one pixel has its centre
    assert centres.extra["size"][0].tolist() == [[8, 4], [1, 1]] and centres.extra["instance"][0].tolist() == [0, 1]
    corners = Points.from_boxes(boxes, labels, at="corners")
    assert corners.to_lists()[0] == ([[-0.5, -0.5], [7.5, 3.5], [1.5, 0.5], [2.5, 1.5]], [6, 7, 0, 1])
    corners.check_inside((4, 8), 8)  # a box that fills its picture has its corners inside
    assert corners.extra["instance"][0].tolist() == [0, 0, 1, 1]
    mirrored = centres.flip(8).corners()
    assert mirrored.to_lists()[0][0][2:] == [[4.5, 0.5], [5.5, 1.5]]


def test_the_corners_of_large_boxes_get_wide_gaussians():
    points = Points.from_boxes([[[0, 0, 8, 4], [0, 0, 40, 60]], []], [[0, 0], []], at="corners")
    width, height = points.extra["size"].unbind(-1)
    wide = replace(points, sigma=heatmaps.object_radius(height, width, 0.3) / 3)
    expected = [heatmaps.object_radius(4, 8, 0.3) / 3] * 2 + [heatmaps.object_radius(60, 40, 0.3) / 3] * 2
    assert wide.sigma[0].tolist() == pytest.approx(expected) and wide.sigma[1].tolist() == [1.0] * 4


@pytest.mark.bad_input
@pytest.mark.parametrize(("boxes", "labels", "options", "named"), [
    ([[[0, 0, 8, 0]]], [[3]], {}, r"image 0, box 0 must be finite and of a width and height above 0, got .*8.0, 0.0"),
    ([[], [[0, 0, 8]]], [[], [3]], {}, r"image 1: boxes must have shape \(n, 4\)"),
    ([[[0, 0, 8, 9]]], [[3, 4]], {}, "image 0: 1 positions need as many labels"),
    ([[[0, 0, 8, 9]]], [], {}, "boxes hold 1 images, labels 0"),
    ([[[0, 0, 8, 9]]], [[3]], {"at": "center"}, "at must be one of centre, corners"),
])
def test_boxes_of_the_wrong_kind_are_named(boxes, labels, options, named):
    with pytest.raises(ValueError, match=named):
        Points.from_boxes(boxes, labels, **options)


@pytest.mark.bad_input
@pytest.mark.parametrize(("change", "named"), [
    (lambda points: points.flip(0), "width must be an integer above 0, got 0"),
    (lambda points: points.flip(9, swap=[1, 0]), r"swap must be pairs .* got \[1, 0\]"),
    (lambda points: points.flip(9, swap=[(0, 1), (1, 2)]), "swap must be pairs that name each class at most once"),
    (lambda points: points.scale(0), "factor must be finite and above 0"),
    (lambda points: points.scale((1, 2, 3)), "points with 2 coordinates need 2 lengths, got factor"),
    (lambda points: points.pad(math.nan, 0), "left must be finite, got nan"),
    (lambda points: points.crop(0, 0, 0, 4), "height and width must be"),
    (lambda points: points.padded(2), "count must be an integer, at least 3, got 2"),
    (lambda points: points.where(torch.ones(3, dtype=torch.bool)), r"kept must be a bool tensor \(2, 3\)"),
    (lambda points: points.where(points.xy[..., 0]), "kept must be a bool tensor"),
    (lambda points: Points(points.xy, points.label, points.valid).corners(), "points must carry 'size' in extra"),
    (lambda points: points.affine(torch.eye(2), (8, 8)), r"matrix must be \(2, 3\), \(3, 3\), \(2, 2, 3\) or"),
    (lambda points: points.affine(torch.eye(3).expand(3, 3, 3), (8, 8)), r"or \(2, 3, 3\), got \(3, 3, 3\)"),
    (lambda points: points.affine(torch.eye(3), 8), r"size must be \(height, width\) in pixels, .* got 8"),
    (lambda points: points.affine(np.diag([1.0, 1.0, 2.0]), (8, 8)), r"must be affine, .* got \[0.0, 0.0, 2.0\]"),
    (lambda points: points.affine([[1, 0, 0], [0, 1, 0], [0.002, 0, 1]], (8, 8)), r"matrix must be affine, .* image 0"),
    (lambda points: points.affine(torch.stack([torch.eye(3), torch.eye(3).T + torch.eye(3)[[1, 0, 0]]]), (8, 8)),
     "matrix must be affine, .* for image 1"),
    (lambda points: points.inside(32), r"size must be \(height, width\) in pixels, each above 0, got 32"),
    (lambda points: points.inside((True, 32)), r"size must be \(height, width\)"),
    (lambda points: points.inside((math.nan, 32)), r"size must be \(height, width\)"),
    (lambda points: points.inside("ab"), r"size must be \(height, width\)"),
    (lambda points: points.inside((8, 8), True), "classes must be an integer above 0, got True"),
    (lambda points: points.check_inside(32, 3), r"size must be \(height, width\)"),
    (lambda points: points.at_stride(1e-30), "stride must be from 1e-06 to 1e\\+06, got 1e-30"),
    (lambda points: points.at_stride(1e30), "stride must be from 1e-06 to 1e\\+06, got 1e\\+30"),
    (lambda points: points.at_stride(math.inf), "stride must be finite and above 0, got inf"),
    (lambda points: points.at_stride(math.nan), "stride must be finite and above 0, got nan"),
    (lambda points: points.scale((1, 1e-9)), "factor must be from 1e-06"),
    (lambda points: points.above(math.nan), "threshold must be a number, got nan"),
    (lambda points: points.flip(9, swap=[(0.5, 1)]), "swap must be pairs"),
    (lambda points: points.flip(9, swap=3), "swap must be pairs .*, got 3"),
])
def test_changes_that_cannot_be_made_are_named(change, named):
    with pytest.raises(ValueError, match=named):
        change(some())


@pytest.mark.bad_input
@pytest.mark.parametrize("number", [np.float32, np.int64, np.float64, np.uint8, torch.tensor, np.array])
def test_numbers_of_numpy_are_numbers(number):
    points = some()
    assert torch.equal(points.at_stride(number(2)).xy, points.at_stride(2).xy)
    assert torch.equal(points.scale((number(2), 1)).xy, points.scale((2, 1)).xy)
    assert torch.equal(points.crop(number(1), number(2), 8, 8).xy, points.crop(1, 2, 8, 8).xy)


@pytest.mark.bad_input
@pytest.mark.parametrize("number", [np.int64, np.uint8, np.int32])
def test_whole_numbers_of_numpy_are_sizes(number):
    points = some()
    assert torch.equal(points.flip(number(12)).xy, points.flip(12).xy)
    assert torch.equal(points.crop(0, 0, number(5), number(6)).xy, points.crop(0, 0, 5, 6).xy)
    assert points.padded(number(5)).label.shape == (2, 5)
    points.check_inside((number(12), number(12)), number(3))
    assert Points.from_coco([[], []], number(3)).xy.shape == (2, 0, 2)


# What a newcomer's file has.


@pytest.mark.parametrize("at", ["centre", "corners"])
def test_a_picture_without_boxes_collates_with_one_that_has_some(at):
    empty = Points.from_boxes([[]], [[]], at=at)
    assert empty.xy.shape == (1, 0, 2) and empty.extra["size"].shape == (1, 0, 2)
    some = Points.from_boxes([[[0, 0, 8, 4]]], [[1]], at=at)
    joined = Points.cat([empty, some])
    assert joined.valid.sum(1).tolist() == [0, 1 if at == "centre" else 2]
    assert torch.equal(joined.extra["size"][1, 0], torch.tensor([8.0, 4.0]))
    none = Points.from_boxes([[], np.zeros((0, 4))], [[], []], at=at)
    assert none.extra["size"].shape == (2, 0, 2)


def test_key_points_of_several_categories_get_labels_of_their_own():
    cat = {"category_id": 3, "keypoints": [1, 2, 2, 0, 0, 0], "area": 4}
    bird = {"category_id": 8, "keypoints": [5, 6, 2, 7, 8, 1, 9, 10, 2], "area": 4}
    points = Points.from_coco([[bird, cat], [cat]], {3: ["nose", "tail"], 8: ["beak", "wing", "foot"]})
    assert points.label[0][points.valid[0]].tolist() == [2, 3, 4, 0] and points.label[1, 0] == 0
    assert points.xy[0, 3].tolist() == [1, 2] and points.extra["instance"][0].tolist() == [0, 0, 0, 1]
    same = dict(bird, category_id=8, keypoints=cat["keypoints"])
    with pytest.warns(UserWarning, match=r"categories \[3, 8\], whose key points get the same labels: kinds as"):
        Points.from_coco([[cat], [same]], ["a", "b"])


@pytest.mark.parametrize(
    ("annotation", "named"),
    [
        ({"category_id": 4, "keypoints": [1, 2, 2]}, r"annotation 0: category_id must be one of \[3, 8\].* got 4"),
        ({"keypoints": [1, 2, 2]}, "category_id must be one of .* got None"),
        ({"category_id": 8, "keypoints": [1, 2, 2]}, "keypoints must be 6 numbers, x, y and v of 2 kinds, got 3"),
        ({"category_id": 8, "keypoints": [1, 2, 2, 1, 1, 7]}, "annotation 0, key point 1: v must be 0, 1 or 2, got 7"),
    ],
)
@pytest.mark.bad_input
def test_an_annotation_that_its_category_does_not_fit_is_named(annotation, named):
    with pytest.raises(ValueError, match=named):
        Points.from_coco([[annotation]], {3: ["nose"], 8: ["beak", "wing"]})


@pytest.mark.bad_input
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_a_matrix_in_half_precision_is_refused(dtype):
    points = Points.from_lists([([[100.0, 200.0]], [0])])
    with pytest.raises(TypeError, match=f"matrix must be float32 or float64, got {dtype}.* under autocast"):
        points.affine(torch.eye(3, dtype=dtype), (512, 512))
