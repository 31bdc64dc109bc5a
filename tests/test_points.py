import math
from fractions import Fraction

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scenes import batches, none, one

from falloff import losses
from falloff.points import Extent, Points

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


def some(sigma=None):
    """Two images with 3 and 1 points, and extra arrays of several dtypes."""
    points = Points.from_lists([([[1.0, 2.0], [3.0, 4.0], [5.0, 6.5]], [0, 1, 1], [0.1, 0.2, 0.3]),
                                ([[9.5, 0.0]], [2], [0.4])])
    extra = {"size": torch.rand(2, 3, 2) + 1, "instance": torch.randint(1, 9, (2, 3)),
             "seen": torch.ones(2, 3, dtype=torch.bool), "scale": torch.rand(2, 3) + 1}
    return Points(points.xy, points.label, points.valid, points.score, extra, sigma=sigma)


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
    for batches_ in ([], [points, Points(points.xy, points.label, points.valid)],
                     [points, some(torch.ones(2, 3, 2))]):
        with pytest.raises(ValueError, match="batches must be some that all carry the same arrays"):
            Points.cat(batches_)


def test_at_a_stride_pixels_and_lengths_are_those_of_the_map():
    sigma = torch.full((2, 3), 3.0)
    coarse, points = some(sigma).at_stride(4), some(sigma)
    assert torch.allclose(coarse.xy, (points.xy + 0.5) / 4 - 0.5)
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
    assert torch.allclose(moved.extra["size"][moved.valid], points.extra["size"][moved.valid] * scale)
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


@pytest.mark.bad_input
def test_one_image_by_number_is_refused_since_it_would_drop_an_axis():
    with pytest.raises(TypeError, match="slice or a tensor"):
        Points(**GOOD)[0]


def test_a_threshold_needs_scores():
    with pytest.raises(ValueError, match="no score"):
        one(1.0, 1.0).above(0.5)


class Made(torch.nn.Module):
    """Points made inside a graph, which gives some of their arrays or the points themselves."""

    def __init__(self, whole):
        super().__init__()
        self.whole = whole

    def forward(self, xy, label, valid):
        points = Points(xy, label, valid, xy[..., 0], {"size": xy + 1}, sigma=xy[..., 0] + 1, weight=xy[..., 0])
        points = Points.cat([points, points[:1].where(points.label[:1] > 0)]).at_stride(2)
        return points if self.whole else (points.xy, points.label, points.valid)


def arrays():
    valid = torch.tensor([[True] * 3, [True, False, True]])
    return torch.rand(2, 3, 2) * 8, torch.tensor([[0, 1, 2], [2, 1, 0]]), valid


COMPILERS = {
    "compile": lambda net: torch.compile(net, fullgraph=True, backend="eager"),
    "export": lambda net: torch.export.export(net, arrays()).module(),
    "strict export": lambda net: torch.export.export(net, arrays(), strict=True).module(),
}


@pytest.mark.parametrize("whole", [False, True])
@pytest.mark.parametrize("compiler", COMPILERS)
def test_points_made_inside_a_graph_are_those_made_outside(compiler, whole):
    net, given = COMPILERS[compiler](Made(whole)), arrays()
    expected, found = Made(whole)(*given), net(*given)
    if whole:
        assert found.extent == expected.extent and found.extra.keys() == expected.extra.keys()
        found, expected = ((p.xy, p.label, p.valid, p.sigma, p.weight, p.extra["size"]) for p in (found, expected))
    assert all(torch.equal(a, b) for a, b in zip(found, expected, strict=True))


def test_points_are_made_under_vmap_and_pass_through_it():
    xy, label, valid = arrays()
    made = torch.vmap(lambda x, c, v: Points(x[None], c[None], v[None]))(xy, label, valid)
    assert torch.equal(made.xy[:, 0], Points(xy, label, valid).xy)
    moved = torch.vmap(lambda points: points.where(points.xy[..., 0] < 4).xy)(made)
    assert torch.equal(moved[:, 0], Points(xy, label, valid & (xy[..., 0] < 4)).xy)


def test_what_is_wrong_with_points_made_in_a_graph_is_found_where_they_are_first_read():
    made = torch.compile(lambda xy, label: Points(xy, label, label < 9), fullgraph=True, backend="eager")
    label = torch.zeros(1, 2, dtype=torch.int64)
    with pytest.raises(ValueError, match="xy must be finite where valid: image 0, point 1"):
        made(torch.tensor([[[0.0, 1.0], [torch.nan, 0.0]]]), label).check_inside((4, 4), 1)
    with pytest.raises(ValueError, match="label must not be negative"):
        made(torch.zeros(1, 2, 2), label - 1).extent  # noqa: B018


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
    drop = torch.compile(lambda points: points.inside((8, 8), 2), fullgraph=True, backend="eager")
    assert torch.equal(drop(points).xy, eager.xy) and drop(points).extent == eager.extent
    with pytest.raises(ValueError, match="points with 2 coordinates need 2 lengths"):
        points.inside((1, 8, 8))
