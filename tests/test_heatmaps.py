import itertools
import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st
from scenes import batches, none, one

from falloff import heatmaps
from falloff.points import Points

SIZE, CLASSES = (7, 9), 2


def every_pixel(height, width):
    """One image per pixel, each with a point on that pixel."""
    grid = itertools.product(range(height), range(width))
    return Points.from_lists([([[float(column), float(row)]], [0]) for row, column in grid])


def test_the_peak_of_a_point_on_a_pixel_is_that_pixel_borders_too():
    # Newell's reference code moves peaks near the left and upper border inwards by up to 2 px.
    maps = heatmaps.render(every_pixel(*SIZE), SIZE, 1, 1.75).flatten(1)
    assert maps.argmax(1).tolist() == list(range(SIZE[0] * SIZE[1]))
    assert (maps.amax(1) == 1).all()


def test_pixels_of_points_on_pixels_are_their_positives_and_no_other():
    found = heatmaps.positives(every_pixel(*SIZE), SIZE, 1).flatten(1)
    assert torch.equal(found, torch.eye(SIZE[0] * SIZE[1], dtype=torch.bool))


@given(batches(SIZE, CLASSES), st.sampled_from([0.4, 1.0, 2.5, 40.0]))
def test_each_pixel_has_the_gaussian_of_its_nearest_point_of_the_class(points, sigma):
    maps = heatmaps.render(points, SIZE, CLASSES, sigma)
    for b, c, i, j in itertools.product(range(len(points)), range(CLASSES), *map(range, SIZE)):
        squares = [
            (j - x) ** 2 + (i - y) ** 2
            for (x, y), label, valid in zip(
                points.xy[b].tolist(), points.label[b], points.valid[b], strict=True
            )
            if valid and label == c
        ]
        wanted = math.exp(-min(squares) / (2 * sigma**2)) if squares else 0.0
        assert float(maps[b, c, i, j]) == pytest.approx(wanted, abs=1e-6)


def exact(points, size, covariance, merge):
    """Every pixel's Gaussians from their definition, in double precision; covariance (B, N, axes, axes)."""
    axes = len(size)
    grid = torch.stack(torch.meshgrid(*(torch.arange(n).double() for n in size), indexing="ij")[::-1], -1)
    maps = torch.zeros(len(points), CLASSES, *size, dtype=torch.float64)
    for b, n in points.valid.nonzero().tolist():
        gap = grid - points.xy[b, n].double()
        inverse = torch.linalg.inv(covariance[b, n].double())
        value = torch.exp(-0.5 * ((gap @ inverse) * gap).sum(-1))
        here = maps[b, points.label[b, n]]
        here.copy_(torch.maximum(here, value) if merge == "max" else 1 - (1 - here) * (1 - value))
    assert gap.shape[-1] == axes
    return maps


@pytest.mark.parametrize("merge", ["max", "noisy-or"])
@pytest.mark.parametrize("form", ["number", "each", "axes", "covariance"])
@pytest.mark.parametrize("size", [SIZE, (5, 6, 7)])
@settings(max_examples=10)
@given(seed=st.integers(0, 10**6))
def test_any_width_shape_and_merge_is_the_definition(size, form, merge, seed):
    generator = torch.Generator().manual_seed(seed)
    axes, lengths = len(size), torch.tensor(size[::-1])
    xy = torch.rand(2, 4, axes, generator=generator, dtype=torch.float64) * lengths - 0.5
    label = torch.randint(0, CLASSES, (2, 4), generator=generator)
    points = Points(xy, label, torch.rand(2, 4, generator=generator) < 0.8)
    points = Points(points.xy, points.label, points.valid | (torch.arange(4) == 0))
    wide = 0.5 + 2 * torch.rand(2, 4, axes, generator=generator, dtype=torch.float64)
    turn = torch.linalg.qr(torch.randn(2, 4, axes, axes, generator=generator, dtype=torch.float64))[0]
    sigma = {
        "number": 1.3, "each": wide[..., 0], "axes": wide,
        "covariance": turn @ torch.diag_embed(wide.square()) @ turn.mT,
    }[form]
    covariance = {
        "number": torch.eye(axes).expand(2, 4, axes, axes) * 1.69,
        "each": torch.diag_embed(wide[..., :1].square().expand_as(wide)),
        "axes": torch.diag_embed(wide.square()), "covariance": sigma,
    }[form]
    maps = heatmaps.render(points, size, CLASSES, sigma, merge=merge)
    assert torch.allclose(maps, exact(points, size, covariance, merge), atol=1e-12)
    if form != "number":  # carried by the points, it is the same
        own = Points(points.xy, points.label, points.valid, sigma=sigma)
        assert torch.equal(heatmaps.render(own, size, CLASSES, 99.0, merge=merge), maps)


def test_in_a_volume_the_peak_of_a_point_on_a_voxel_is_that_voxel():
    size = (3, 4, 5)
    places = [([[float(x), float(y), float(z)]], [0]) for z, y, x in itertools.product(*map(range, size))]
    maps = heatmaps.render(Points.from_lists(places), size, 1, 1.5).flatten(1)
    assert maps.argmax(1).tolist() == list(range(60)) and (maps.amax(1) == 1).all()


@given(batches(SIZE, CLASSES))
def test_every_point_has_a_positive_within_half_a_pixel_and_no_positive_is_without_a_point(points):
    found = heatmaps.positives(points, SIZE, CLASSES)
    claimed = set()
    for b, n in points.valid.nonzero().tolist():
        (x, y), c = points.xy[b, n].tolist(), int(points.label[b, n])
        close = {
            (b, c, i, j) for i, j in found[b, c].nonzero().tolist() if abs(i - y) <= 0.5 and abs(j - x) <= 0.5
        }
        assert close
        claimed |= close
    assert claimed == set(map(tuple, found.nonzero().tolist()))


def test_a_point_between_pixels_is_a_positive_although_its_map_is_nowhere_1():
    # `gt.eq(1)` in CornerNet, CenterNet and mmdet finds no positive here and trains towards an empty map.
    points = one(3.4, 2.3)
    assert heatmaps.render(points, SIZE, 1, 1.0).max() < 1
    assert heatmaps.positives(points, SIZE, 1).nonzero().tolist() == [[0, 0, 2, 3]]


@given(batches(SIZE, CLASSES, images=3))
def test_no_image_leaks_into_another(points):
    together = heatmaps.render(points, SIZE, CLASSES, 1.5), heatmaps.positives(points, SIZE, CLASSES)
    for b in range(3):
        alone = heatmaps.render(points[b : b + 1], SIZE, CLASSES, 1.5)
        assert torch.equal(together[0][b : b + 1], alone)
        assert torch.equal(together[1][b : b + 1], heatmaps.positives(points[b : b + 1], SIZE, CLASSES))


@given(batches(SIZE, 1))
def test_the_order_of_points_and_their_repetition_change_nothing(points):
    twice = Points(
        torch.cat([points.xy.flip(1), points.xy], 1),
        torch.cat([points.label.flip(1), points.label], 1),
        torch.cat([points.valid.flip(1), points.valid], 1),
    )
    assert torch.equal(heatmaps.render(points, SIZE, 1, 1.5), heatmaps.render(twice, SIZE, 1, 1.5))


@given(batches(SIZE, 1))
def test_a_mirrored_picture_has_mirrored_maps(points):
    mirrored = Points(
        torch.tensor([SIZE[1] - 1.0, 0.0]) + points.xy * torch.tensor([-1.0, 1.0]), points.label, points.valid
    )
    maps = heatmaps.render(points, SIZE, 1, 1.2)
    assert torch.allclose(heatmaps.render(mirrored, SIZE, 1, 1.2), maps.flip(3), atol=1e-6)


@given(batches(SIZE, CLASSES).map(lambda p: Points(p.xy.round().clamp(min=0.0, max=6.0), p.label, p.valid)))
def test_as_sigma_goes_to_zero_the_map_becomes_the_labelled_pixels(points):
    maps = heatmaps.render(points, SIZE, CLASSES, 1e-3)
    assert torch.equal(maps, heatmaps.positives(points, SIZE, CLASSES).float())


@pytest.mark.parametrize("slots", [0, 3])
def test_without_points_maps_are_zero(slots):
    assert heatmaps.render(none(2, slots), SIZE, 4, 1.0).shape == (2, 4, *SIZE)
    assert heatmaps.render(none(2, slots), SIZE, 4, 1.0).sum() == 0
    assert not heatmaps.positives(none(2, slots), SIZE, 4).any()


def test_maps_have_the_dtype_of_the_positions():
    maps = heatmaps.render(one(2.25, 3.0, dtype=torch.float64), SIZE, 1, 1.0)
    assert maps.dtype == torch.float64
    assert float(maps[0, 0, 3, 2]) == pytest.approx(math.exp(-0.03125), rel=1e-15)


@given(batches(SIZE, CLASSES), st.sampled_from([None, 0.7, 3.0]))
def test_the_list_of_near_pixels_holds_the_whole_map(points, sigma):
    near = heatmaps.pixels_near(points, SIZE, CLASSES, sigma)
    positives = heatmaps.positives(points, SIZE, CLASSES)
    heat = positives.float() if sigma is None else heatmaps.render(points, SIZE, CLASSES, sigma)
    rebuilt = torch.zeros(heat.numel())
    rebuilt[near.index] = near.heat
    assert torch.equal(rebuilt, heat.flatten())
    assert near.index[near.counts].sort().values.tolist() == near.index.unique().tolist()


def overlap(box, other):
    wide = min(box[2], other[2]) - max(box[0], other[0])
    high = min(box[3], other[3]) - max(box[1], other[1])
    shared = max(0.0, wide) * max(0.0, high)
    area = sum((b[2] - b[0]) * (b[3] - b[1]) for b in (box, other))
    return shared / (area - shared)


def worst_overlap(height, width, radius):
    """The smallest IoU over all ways to move two corners of a box by a radius along both axes."""
    box = (0.0, 0.0, width, height)
    return min(
        overlap(box, [edge + sign * radius for edge, sign in zip(box, signs, strict=True)])
        for signs in itertools.product((-1, 1), repeat=4)
    )


@given(st.floats(2.0, 500.0), st.floats(2.0, 500.0), st.floats(0.1, 0.95))
@example(100.0, 100.0, 0.7)  # CenterNet's formula gives an IoU of 0.206 here
@example(100.0, 100.0, 0.3)  # and 0 here
def test_corners_within_the_radius_keep_the_iou_and_no_larger_radius_does(height, width, asked):
    radius = heatmaps.object_radius(height, width, asked)
    assert worst_overlap(height, width, radius) == pytest.approx(asked, abs=1e-6)
    assert worst_overlap(height, width, radius * 1.01) < asked


def test_a_perfect_overlap_leaves_no_room():
    assert heatmaps.object_radius(10.0, 20.0, 1.0) == pytest.approx(0.0, abs=1e-9)


@pytest.mark.parametrize(
    ("arguments", "error", "named"),
    [
        (((8, 8), 1, 0.0), ValueError, "sigma must be finite and above 0, got 0.0"),
        (((8, 8), 1, -1.0), ValueError, "sigma"),
        (((8, 8), 1, math.nan), ValueError, "sigma"),
        (((8, 8), 1, math.inf), ValueError, "sigma"),
        (((8, 8), 1, "1"), TypeError, "sigma must be a number, got '1'"),
        (((8, 8), 1, True), TypeError, "sigma"),
        (((8, 0), 1, 1.0), ValueError, "size must be"),
        (((8, 8.0), 1, 1.0), ValueError, "size must be"),
        ((8, 1, 1.0), ValueError, "size must be .* got 8"),
        (((8, 8, 8), 1, 1.0), ValueError, "points with 2 coordinates need 2 lengths"),
        (((8,), 1, 1.0), ValueError, "size must be"),
        (((8, 8), 0, 1.0), ValueError, "classes must be an integer above 0, got 0"),
        (((8, 8), 1.0, 1.0), ValueError, "classes"),
        (((8, 4), 1, 1.0), ValueError, "outside the picture .*: x"),
        (((8, 8), 1, torch.zeros(1, 1)), ValueError, "sigma must be finite and above 0"),
        (((8, 8), 1, torch.ones(1, 2)), ValueError, r"sigma must have the shape \(1, 1\)"),
        (((8, 8), 1, -torch.eye(2).view(1, 1, 2, 2)), ValueError, "positive definite covariance"),
    ],
)
@pytest.mark.bad_input
def test_bad_arguments_of_render_are_named(arguments, error, named):
    with pytest.raises(error, match=named):
        heatmaps.render(one(5.0, 2.0), *arguments)


@pytest.mark.parametrize(
    ("arguments", "error", "named"),
    [
        ((0.0, 4.0), ValueError, "height"),
        ((4.0, -1.0), ValueError, "width"),
        ((4.0, math.nan), ValueError, "width"),
        ((4.0, 4.0, 0.0), ValueError, "min_iou must be finite and above 0"),
        ((4.0, 4.0, 1.5), ValueError, "min_iou must be in"),
        ((4.0, 4.0, math.nan), ValueError, "min_iou must be in"),
    ],
)
@pytest.mark.bad_input
def test_bad_arguments_of_object_radius_are_named(arguments, error, named):
    with pytest.raises(error, match=named):
        heatmaps.object_radius(*arguments)


@pytest.mark.bad_input
def test_an_iou_that_is_no_number_is_named():
    with pytest.raises(TypeError, match="min_iou"):
        heatmaps.object_radius(4.0, 4.0, "0.7")


@pytest.mark.bad_input
def test_a_merge_that_is_not_known_is_named():
    with pytest.raises(ValueError, match="merge must be one of max, noisy-or, got 'sum'"):
        heatmaps.render(one(5.0, 2.0), (8, 8), 1, 1.0, merge="sum")


def test_a_pixel_of_maps_counts_where_one_that_it_covers_does_as_at_the_border_of_a_picture_alone():
    mask = torch.zeros(2, 1, 8, 8, dtype=torch.bool)
    mask[0, 0, :5, :7] = mask[1, 0, :4, :8] = True
    found = heatmaps.counted(mask, 4)
    assert found[:, 0].tolist() == [[[True, True], [True, True]], [[True, True], [False, False]]]
    assert heatmaps.counted(mask[..., :5, :7], 4)[0].all()  # the first picture without what fills it up
    assert heatmaps.counted(mask, 1) is mask and heatmaps.counted(None, 4) is None


@pytest.mark.bad_input
@pytest.mark.parametrize("number", [np.int64, np.uint8, np.int8])
def test_numbers_of_numpy_draw_the_same_maps(number):
    points = one(1.5, 2.0)
    size = number(8), number(9)
    assert torch.equal(heatmaps.render(points, size, number(1), number(2)), heatmaps.render(points, (8, 9), 1, 2))
    near = heatmaps.pixels_near(points, size, number(1), np.float32(1.5))
    assert torch.equal(near.heat, heatmaps.pixels_near(points, (8, 9), 1, 1.5).heat)
    assert torch.equal(heatmaps.positives(points, size, number(1)), heatmaps.positives(points, (8, 9), 1))
    assert torch.equal(heatmaps.render(points, (8, 9), 1, torch.tensor(2.0)), heatmaps.render(points, (8, 9), 1, 2.0))


def test_the_radii_of_many_boxes_are_those_of_each():
    boxes = torch.tensor([[[10.0, 16.0], [3.0, 60.0]], [[10.0, 32.0], [9.0, 60.0]]], dtype=torch.float64)
    height, width = boxes.unbind()
    for least in (0.3, 0.7, 1.0):
        expected = [[heatmaps.object_radius(h, w, least) for h, w in zip(*pair, strict=True)]
                    for pair in zip(height.tolist(), width.tolist(), strict=True)]
        assert torch.allclose(heatmaps.object_radius(height, width, least), torch.tensor(expected, dtype=torch.float64))


def test_at_a_stride_points_count_pixels_of_the_image_and_sizes_and_widths_those_of_the_maps():
    points = one(5.5, 9.5)  # at stride 4 (5.5 + 0.5) / 4 - 0.5 = 1 and 2
    maps = heatmaps.render(points, (3, 4), 1, 1.0, stride=4)
    assert maps.shape == (1, 1, 3, 4)
    assert maps[0, 0, 2].tolist() == pytest.approx([math.exp(-0.5), 1, math.exp(-0.5), math.exp(-2)])
    assert maps[0, 0, :, 1].tolist() == pytest.approx([math.exp(-2), math.exp(-0.5), 1])
    assert heatmaps.positives(points, (3, 4), 1, stride=4).nonzero().tolist() == [[0, 0, 2, 1]]
    near = heatmaps.pixels_near(points, (3, 4), 1, None, stride=4)
    assert (near.index.tolist(), near.heat.tolist()) == ([2 * 4 + 1], [1])
    own = replace(points, sigma=torch.full((1, 1), 8.0))  # a point's own width counts pixels of the image: 2 here
    assert heatmaps.render(own, (3, 4), 1, 1.0, stride=4)[0, 0, 2, 0] == pytest.approx(math.exp(-1 / 8))
    given = heatmaps.render(points, (3, 4), 1, torch.ones(1, 1), stride=4)  # one that is given counts those of the maps
    assert torch.equal(given, maps)
    finer = heatmaps.positives(one(1.0, 2.0), (8, 8), 1, stride=0.5)  # 1.5 / 0.5 - 0.5 = 2.5, and a tie goes up
    assert finer.nonzero().tolist() == [[0, 0, 5, 3]]


@settings(max_examples=20)
@given(points=batches((12, 20), CLASSES, torch.float32), stride=st.sampled_from([1, 2, 4, np.float32(0.5), 2.5]))
def test_a_stride_draws_what_points_at_the_stride_do(points, stride):
    size, there = (math.ceil(12 / stride), math.ceil(20 / stride)), points.at_stride(stride)
    for draw in (heatmaps.positives, lambda *of, **at: heatmaps.render(*of, 1.2, merge="noisy-or", **at),
                 lambda *of, **at: heatmaps.pixels_near(*of, 1.2, **at).heat):
        assert torch.equal(draw(points, size, CLASSES, stride=stride), draw(there, size, CLASSES))


WRONG_STRIDES = [(0, ValueError), (-4, ValueError), (math.nan, ValueError), (math.inf, ValueError), (True, TypeError),
                 ((4, 4), TypeError), ("4", TypeError), (None, TypeError), (torch.ones(2), TypeError)]


@pytest.mark.bad_input
@pytest.mark.parametrize(("stride", "error"), WRONG_STRIDES)
def test_a_stride_that_is_none_is_named(stride, error):
    points = one(5.0, 2.0)
    for draw in (heatmaps.positives, lambda *of, **at: heatmaps.render(*of, 1.0, **at),
                 lambda *of, **at: heatmaps.pixels_near(*of, 1.0, **at)):
        with pytest.raises(error, match="stride must be"):
            draw(points, (8, 8), 1, stride=stride)
        with pytest.raises(ValueError, match=r"at \(5, 2\) lies outside the picture of .* \(4, 4\)"):
            draw(points, (2, 2), 1, stride=2)


@pytest.mark.graphs
def test_a_compiled_drawing_leaves_out_what_lies_outside():
    points = Points.from_lists([([[30.0, 2.0], [3.0, 4.0], [1.0, 1.0]], [0, 0, 7])])
    compiled = torch.compile(lambda p: heatmaps.render(p, (4, 4), 1, 1.0, stride=2), backend="eager", fullgraph=True)
    assert torch.equal(compiled(points), heatmaps.render(points.inside((8, 8), 1), (4, 4), 1, 1.0, stride=2))
