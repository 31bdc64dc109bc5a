"""Bugs found in the public libraries of this field, each with a test that fails on it.

Where the fault fits in a few lines it stands beside the test, written anew from its formula, and has to show itself
there: such a test proves that it can fail.
"""

import itertools
import math
from dataclasses import replace
from typing import get_args

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scenes import batches, coordinates, none, one
from torch.nn.functional import binary_cross_entropy_with_logits, logsigmoid, max_pool2d

from falloff import decode, heatmaps, losses, metrics
from falloff.losses import autograd
from falloff.points import Points

NAMES = losses.names()
SIZE, CLASSES = (6, 8), 3
PROBABLE = ["bce", "weighted-bce", "focal", "soft-bce", "distance-aware", "quality-focal", "varifocal",
            "distance-map-bce", "softmax-distance-aware"]  # sums over pixels of what a probability costs
SUMS = [name for name in NAMES if "normalizer" in losses.options(name)]
IN_EACH_MAP = ["spatial-kl", "spatial-js", "dsnt"]  # they place points and have no background
HALVES = [torch.float16, torch.bfloat16]


def scene():
    """Two images, points of several classes on and between pixels, at most one of a class (as dsnt wants it)."""
    return Points.from_lists([([[1.0, 2.0], [3.4, 4.3], [5.0, 0.6]], [0, 2, 1]), ([[0.0, 5.2]], [1])])


def random_logits(dtype=torch.float32, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(2, CLASSES, *SIZE, generator=generator, dtype=torch.float64).to(dtype)


def slope(loss, logits, *arguments, **options):
    """The gradient of a loss with respect to the logits."""
    logits = logits.detach().requires_grad_()
    return torch.autograd.grad(loss(logits, *arguments, **options).sum(), logits)[0]


def clamped_focal(x, heat, low=1e-4):
    """The loss of CornerNet and CenterNet on one image with one point: a clamped sigmoid, positives by equality."""
    p, positive = torch.sigmoid(x).clamp(low, 1 - low), heat.eq(1)
    near = torch.log(p) * (1 - p) ** 2 * positive
    return -(near + torch.log(1 - p) * p**2 * (1 - heat) ** 4 * ~positive).sum()


# Saturated logits: the values and slopes of one pixel.


@pytest.mark.parametrize("dtype", HALVES)
@pytest.mark.parametrize("name", NAMES)
def test_a_correct_saturated_peak_is_finite_in_half_precision(name, dtype):
    # CornerNet, CenterNet, keras-cv, sleap-nn: 1 - 1e-4 rounds to 1 in both, and 0 times log(0) is NaN.
    logits, points = torch.full((1, 1, *SIZE), -20.0, dtype=dtype), one(4.0, 3.0)
    logits[0, 0, 3, 4] = 20.0
    heat = heatmaps.render(points, SIZE, 1, 1.5).to(dtype)
    assert torch.isnan(clamped_focal(logits, heat)) and torch.isnan(slope(clamped_focal, logits, heat)).any()
    assert torch.isfinite(losses.make(name)(logits, points))
    assert torch.isfinite(slope(losses.make(name), logits, points)).all()


@pytest.mark.parametrize("name", NAMES)
def test_a_correct_saturated_peak_is_finite_under_autocast(name):
    # The same in CenterNet with mixed precision, where the net puts out bfloat16 unasked.
    features, points = torch.full((1, 1, *SIZE), -20.0), one(4.0, 3.0)
    features[0, 0, 3, 4] = 20.0
    layer = torch.nn.Conv2d(1, 1, 1, bias=False)
    torch.nn.init.ones_(layer.weight)
    heat = heatmaps.render(points, SIZE, 1, 1.5)
    with torch.autocast("cpu", torch.bfloat16):
        logits = layer(features)
        assert logits.dtype == torch.bfloat16 and torch.isnan(clamped_focal(logits, heat.to(logits.dtype)))
        value = losses.make(name)(logits, points)
    value.backward()
    assert torch.isfinite(value) and torch.isfinite(layer.weight.grad).all()


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, *HALVES])
@pytest.mark.parametrize("name", PROBABLE)
def test_confident_mistakes_have_the_full_slope(name, dtype):
    # Clamped at 1e-4, the slope is 0 beyond 9.21 (CornerNet, CenterNet); with 1e-12 in the logarithm, from 17 on
    # (mmdet), in single precision.
    label_0 = torch.zeros(1)
    for x in (9.3, 12.0, 17.0, 30.0, 80.0):
        wrong = torch.tensor([x])
        assert float(slope(clamped_focal, wrong, label_0)) == 0
        assert x < 17 or float(slope(lambda x: -torch.log(1 - torch.sigmoid(x) + 1e-12), wrong)) == 0
        logits = torch.full((1, 1, 48, 48), -x, dtype=dtype)  # wrong at the point, and at one pixel far from it
        logits[0, 0, 40, 40] = x
        grad = slope(losses.make(name), logits, one(3.0, 2.0))
        full_1, full_0 = {"weighted-bce": 100.0}.get(name, 1.0), {"varifocal": 0.75}.get(name, 1.0)
        assert float(grad[0, 0, 2, 3]) == pytest.approx(-full_1, rel=0.01)
        assert float(grad[0, 0, 40, 40]) == pytest.approx(full_0, rel=0.01)


def powers_of_p_t(x, t, gamma=0.5):
    """The focal loss of torchvision and fvcore."""
    p = torch.sigmoid(x)
    p_t = p * t + (1 - p) * (1 - t)
    return (binary_cross_entropy_with_logits(x, t, reduction="none") * (1 - p_t) ** gamma).sum()


def powers_of_exp(x, t, gamma=0.5):
    """Kornia's binary focal loss."""
    one, zero = logsigmoid(-x).exp().pow(gamma) * logsigmoid(x), logsigmoid(x).exp().pow(gamma) * logsigmoid(-x)
    return -(t * one + (1 - t) * zero).sum()


@pytest.mark.parametrize("label", [0.0, 1.0])
@pytest.mark.parametrize(("faulty", "logit"), [(powers_of_p_t, 20.0), (powers_of_exp, 110.0)])
def test_gammas_below_1_have_finite_slopes_at_saturated_logits(faulty, logit, label):
    # p ** gamma is infinitely steep at p = 0, where p of a sure and correct pixel rounds to.
    x, t = torch.tensor([logit if label else -logit]), torch.tensor([label])
    assert torch.isnan(slope(faulty, x, t)).all()
    exact = float(slope(powers_of_exp, x.double(), t.double()))  # where nothing underflows yet
    assert exact != 0
    for ours in (
        lambda x: losses.focal(x, t, gamma=0.5),
        lambda x: losses.quality_focal(x, t, beta=0.5),
        lambda x: losses.distance_aware(x, t.bool(), t, alpha=0.5),
        lambda x: losses.make("focal", gamma=0.5)(x.view(1, 1, 1, 1), one(0.0, 0.0) if label else none()),
    ):
        assert float(slope(ours, x)) == pytest.approx(exact, rel=1e-5)


@pytest.mark.parametrize("name", IN_EACH_MAP)
def test_a_sure_peak_in_the_wrong_place_is_finite(name):
    # kornia (the logarithm of an underflowed softmax), mmpose (1e-24 beside it, which is 0 in float16).
    logits, points = torch.full((1, 1, *SIZE), -200.0), one(1.0, 1.0)
    logits[0, 0, 5, 7] = 200.0
    target = heatmaps.render(points, SIZE, 1, 1.5).flatten(2).softmax(2)
    p = torch.softmax(logits.flatten(2), 2)
    assert not torch.isfinite((target * (target.log() - p.log())).sum())
    assert torch.isfinite(losses.make(name)(logits, points))
    assert torch.isfinite(slope(losses.make(name), logits, points)).all()


@pytest.mark.parametrize("name", NAMES)
def test_logits_that_are_nan_are_an_error_and_not_a_loss(name):
    # mmpose's varifocal loss sets its NaN to 0, and training goes on with a gradient that is still NaN.
    logits = random_logits()
    logits[1, 2, 3, 4] = torch.nan
    with pytest.raises(ValueError, match="must be finite"):
        losses.make(name)(logits, scene())


@pytest.mark.parametrize("name", NAMES)
def test_double_precision_stays_double(name):
    # fvcore computes in single precision whatever it gets: a numerical gradient of it is noise.
    points = replace(scene(), xy=scene().xy.double())
    logits, step = random_logits(torch.float64), 1e-9
    grad = slope(losses.make(name), logits, points)
    assert grad.dtype == torch.float64 and losses.make(name)(logits, points).dtype == torch.float64

    def difference(loss):
        return float(loss(logits + step * grad.sign()) - loss(logits - step * grad.sign())) / (2 * step)

    label = torch.zeros_like(logits).float()
    up_cast = difference(lambda x: binary_cross_entropy_with_logits(x.float(), label, reduction="sum"))
    assert up_cast != pytest.approx(float(grad.abs().sum()), rel=1e-3)
    assert difference(lambda x: losses.make(name)(x, points)) == pytest.approx(float(grad.abs().sum()), rel=1e-4)


# Which pixels are positive.


@given(coordinates(SIZE[1]), coordinates(SIZE[0]))
def test_a_point_between_pixels_has_exactly_one_positive(x, y):
    assert heatmaps.positives(one(x, y), SIZE, 1).sum() == 1


@pytest.mark.parametrize(
    ("rule", "count"),
    [(lambda heat: heat.eq(1), 0), (lambda heat: heat > 0.99, 0), (lambda heat: heat >= 0.5, 4)],
    ids=["CornerNet, CenterNet, mmdet, mmpose", "keras-cv", "sleap-nn"],
)
def test_positives_are_not_read_from_the_heatmap(rule, count):
    points = one(3.4, 2.4)
    assert rule(heatmaps.render(points, SIZE, 1, 1.0)).sum() == count
    assert heatmaps.positives(points, SIZE, 1).nonzero().tolist() == [[0, 0, 2, 3]]


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("xy", [(3.4, 2.4), (4.5, 2.5), (-0.5, 2.2), (7.3, 5.5)])
def test_a_point_between_pixels_pulls_its_pixel_up(name, xy):
    # Without a positive every pixel is pushed down; CenterNet's `gt.eq(1)` finds none here.
    points, faulty = one(*xy), torch.full((1, 1, *SIZE), -3.0)
    assert (slope(clamped_focal, faulty, heatmaps.render(points, SIZE, 1, 1.5)) >= 0).all()
    logits = torch.full((1, 1, *SIZE), -3.0 if losses.make(name).is_probability else 0.0)
    grad = slope(losses.make(name), logits, points)
    assert (grad[heatmaps.positives(points, SIZE, 1)] < 0).all()


@pytest.mark.parametrize("name", NAMES)
def test_an_empty_map_is_not_the_best_answer_to_a_point_between_pixels(name):
    points = one(3.4, 2.4)
    heat = heatmaps.render(points, SIZE, 1, 1.5)
    peak = torch.where(heatmaps.positives(points, SIZE, 1), 3.0, 8 * heat - 8)
    assert clamped_focal(torch.full_like(heat, -30.0), heat) < 1e-6 < clamped_focal(peak, heat)
    empty, answer = -30.0, peak
    if name in ("dice", "tversky"):
        answer = 16 * heat - 8
    elif name in IN_EACH_MAP:
        answer = heat.log().clamp(min=-30.0)
    elif not losses.make(name).is_probability:
        empty, answer = 0.0, heat
    assert losses.make(name)(torch.full_like(heat, empty), points) > 1.5 * losses.make(name)(answer, points)


# What is drawn, and where.


def test_the_peak_of_a_point_on_a_pixel_is_that_pixel_borders_too():
    # Newell's reference code, whose first pixel is 1, takes the first row of its cropped window one or two too early.
    def newell(x, reach=3):
        first, skipped = max(1, x - reach), max(1, reach - x)
        return first + reach + 1 - skipped

    assert [newell(x) for x in range(1, 7)] == [3, 4, 4, 4, 5, 6]
    grid = list(itertools.product(range(SIZE[0]), range(SIZE[1])))
    every = Points.from_lists([([[float(column), float(row)]], [0]) for row, column in grid])
    maps = heatmaps.render(every, SIZE, 1, 1.75).flatten(1)
    assert maps.argmax(1).tolist() == list(range(len(grid)))
    assert (maps.amax(1) == 1).all()


@given(st.floats(1.0, 6.0), st.floats(1.0, 4.0), st.sampled_from([0.8, 1.0, 1.75, 3.0]))
def test_the_drawn_gaussian_has_the_points_own_centre_and_the_width_asked_for(x, y, sigma):
    # Centres cut to int (CenterNet) or rounded to a pixel (mmpose's MSRA codec); 1.75 drawn where the paper says 1
    # (Newell); a width that is not the documented one (DeepLabCut).
    def centre_and_width(row):
        here = int(row[1:-1].argmax()) + 1
        before, at, after = torch.log(row[here - 1 : here + 2]).tolist()
        bend = 2 * at - before - after  # 1 / sigma^2
        return here + 0.5 * (after - before) / bend, bend**-0.5

    heat = heatmaps.render(one(x, y, dtype=torch.float64), SIZE, 1, sigma)[0, 0]
    assert centre_and_width(heat.amax(0)) == pytest.approx((x, sigma), abs=1e-9)
    assert centre_and_width(heat.amax(1)) == pytest.approx((y, sigma), abs=1e-9)
    cut = heatmaps.render(one(float(int(x)), y, dtype=torch.float64), SIZE, 1, sigma)[0, 0]
    assert centre_and_width(cut.amax(0))[0] == pytest.approx(int(x), abs=1e-9)


@pytest.mark.parametrize(("x", "pixel"), [(-0.5, 0), (-0.4, 0), (0.49, 0), (0.51, 1), (2.7, 3), (7.5, 7)])
def test_a_points_pixel_is_the_nearest_and_not_the_one_int_gives(x, pixel):
    # CornerNet, CenterNet and CenterNet2 take int(), which cuts towards 0: half of all points get another pixel.
    heat = heatmaps.render(one(x, 1.0), SIZE, 1, 1.0)
    assert int(heat[0, 0, 1].argmax()) == pixel
    assert heatmaps.positives(one(x, 1.0), SIZE, 1).nonzero().tolist() == [[0, 0, 1, pixel]]
    assert int(2.7) == 2 and int(0.51) == 0


@pytest.mark.parametrize("x", [-0.5, 0.0, 7.0, 7.5])
@pytest.mark.parametrize("y", [-0.5, 0.0, 5.0, 5.5])
def test_a_point_on_the_border_has_a_map(x, y):
    # microsoft/human-pose-estimation draws nothing for some of them.
    assert heatmaps.render(one(x, y), SIZE, 1, 1.0).max() > 0.75


@given(batches(SIZE, CLASSES, images=3))
def test_the_maps_of_an_image_hold_its_own_points_alone(points):
    # sleap-nn merges the points of all images of a batch into each of them.
    maps = heatmaps.render(points, SIZE, CLASSES, 1.5)
    for b in range(3):
        assert torch.equal(maps[b : b + 1], heatmaps.render(points[b : b + 1], SIZE, CLASSES, 1.5))


def test_an_image_without_points_has_empty_maps_beside_one_with_points():
    points = Points.from_lists([([[1.0, 2.0], [5.0, 3.0]], [0, 1]), ([], [])])
    maps = heatmaps.render(points, SIZE, CLASSES, 1.5)
    merged = maps.amax(0).expand(2, -1, -1, -1)  # sleap-nn
    assert merged[1].max() == 1
    assert maps[1].max() == 0


@pytest.mark.parametrize("merge", ["max", "noisy-or"])
@given(points=batches(SIZE, 1))
def test_heat_stays_in_0_to_1_where_points_overlap(merge, points):
    heat = heatmaps.render(points, SIZE, 1, 1.5, merge=merge)
    assert heat.min() >= 0 and heat.max() <= 1


def test_overlapping_points_neither_add_up_nor_overwrite_each_other():
    # Summed in landmarker; overwritten by the last in microsoft/human-pose-estimation and in DeepLabCut's offsets.
    places = [(3.0, 2.0), (4.0, 2.0)]
    alone = [heatmaps.render(one(*place), SIZE, 1, 1.5) for place in places]
    assert sum(alone).max() > 1

    def overwritten(maps):
        return torch.where(maps[1] > 0, maps[1], maps[0])

    assert not torch.equal(overwritten(alone), overwritten(alone[::-1]))
    orders = [heatmaps.render(Points.from_lists([(order, [0, 0])]), SIZE, 1, 1.5) for order in (places, places[::-1])]
    assert torch.equal(*orders)
    assert torch.equal(orders[0], torch.maximum(*alone))


@pytest.mark.parametrize("name", [name for name in NAMES if name != "dsnt"])
def test_the_order_of_points_changes_no_loss(name):
    points = Points.from_lists([([[3.0, 2.0], [4.2, 2.0], [3.2, 2.1], [6.0, 5.0]], [0, 0, 0, 1])])
    points = replace(points, weight=torch.tensor([[1.0, 2.0, 3.0, 0.5]]))
    loss, logits = losses.make(name), random_logits()[:1]
    for order in map(list, itertools.permutations(range(4))):
        turned = Points(points.xy[:, order], points.label[:, order], points.valid, weight=points.weight[:, order])
        assert float(loss(logits, turned)) == pytest.approx(float(loss(logits, points)), rel=1e-6)


def wrong_root(b, c, a):
    """CenterNet's: the larger root, divided by 2 whatever a is."""
    return (b + math.sqrt(b * b - 4 * a * c)) / 2


def worst_iou(height, width, radius):
    """The smallest overlap of a box with itself, its corners moved by a radius along both axes."""
    found = []
    for left, top, right, bottom in itertools.product((-radius, radius), repeat=4):
        wide, high = width + right - left, height + bottom - top
        shared = max(0.0, width + min(0, right) - max(0, left)) * max(0.0, height + min(0, bottom) - max(0, top))
        found.append(shared / (width * height + abs(wide * high) - shared))
    return min(found)


@pytest.mark.parametrize(("asked", "centernet"), [(0.7, 0.206), (0.3, 0.0)])
def test_corners_within_the_object_radius_keep_the_iou(asked, centernet):
    total, area = 200.0, 100.0 * 100.0
    shift, shrink = (total, area * (1 - asked) / (1 + asked), 1), (2 * total, area * (1 - asked), 4)
    grow = (-2 * asked * total, -area * (1 - asked), 4 * asked)
    faulty = min(wrong_root(*equation) for equation in (shift, shrink, grow))
    assert worst_iou(100.0, 100.0, faulty) == pytest.approx(centernet, abs=1e-3)
    assert worst_iou(100.0, 100.0, heatmaps.object_radius(100.0, 100.0, asked)) == pytest.approx(asked, abs=1e-9)
    for height, width in ((3.0, 400.0), (17.0, 5.0)):
        assert worst_iou(height, width, heatmaps.object_radius(height, width, asked)) >= asked - 1e-9


@pytest.mark.parametrize(
    ("place", "label"),
    [((-0.6, 1.0), 0), ((7.6, 1.0), 0), ((1.0, -0.6), 0), ((1.0, 5.6), 0), ((1.0, 1.0), CLASSES)],
)
def test_what_lies_outside_the_maps_is_an_error_and_not_written_elsewhere(place, label):
    # Flat indices without a check put it into the next row, map or image; int() draws x = -0.6 at 0.
    maps = torch.zeros(2, CLASSES, *SIZE)
    x, y = (math.floor(part + 0.5) for part in place)
    maps.view(-1)[(label * SIZE[0] + y) * SIZE[1] + x] = 1.0
    assert maps.sum() == 1
    points = Points.from_lists([([list(place)], [label]), ([], [])])
    for call in (
        lambda: heatmaps.render(points, SIZE, CLASSES, 1.5),
        lambda: heatmaps.positives(points, SIZE, CLASSES),
        *(lambda name=name: losses.make(name)(torch.zeros(2, CLASSES, *SIZE), points) for name in NAMES),
    ):
        with pytest.raises(ValueError, match=r"outside the picture|not in \[0, 3\)"):
            call()


# Which pixels a point reaches.


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
@pytest.mark.parametrize("name", NAMES)
def test_a_point_reaches_the_map_of_its_own_image_and_class_and_no_other(name, layout):
    # A label or an image lost from a flat index, as where sleap-nn flattens images and points into one axis.
    logits = random_logits().contiguous(memory_format=layout)
    without = slope(losses.make(name), logits, none(2))
    for b, c in itertools.product(range(2), range(CLASSES)):
        images = [([], []), ([], [])]
        images[b] = ([[6.0, 2.0]], [c])
        changed = slope(losses.make(name), logits, Points.from_lists(images)) != without
        if isinstance(losses.make(name), losses.PixelLoss) or name in ("spatial-kl", "spatial-js", "dsnt"):
            assert changed.flatten(2).any(2).nonzero().tolist() == [[b, c]]
        else:  # classes compete, or share one sum
            assert changed.flatten(1).any(1).tolist() == [image == b for image in range(2)]
        assert changed[b, c, 1:4, 5:8].any()


@pytest.mark.parametrize("name", NAMES)
def test_no_class_is_background(name):
    # kornia's multi-class focal loss gives class 0 another alpha than the rest.
    logits, points, order = random_logits(), scene(), torch.tensor([2, 0, 1])
    renamed = replace(points, label=order.argsort()[points.label])
    assert float(losses.make(name)(logits[:, order], renamed)) == pytest.approx(
        float(losses.make(name)(logits, points)), rel=1e-6
    )


# Nothing labelled, or nothing counted.


def finite_and_useful(name, value, grad):
    """A number with a gradient, which is not 0 where the loss says something of background."""
    return bool(torch.isfinite(value) and torch.isfinite(grad).all() and (name in IN_EACH_MAP or (grad != 0).any()))


@pytest.mark.parametrize(("name", "options"), [
    *((name, {"normalizer": way}) for name in SUMS for way in ("points", "image", "pixels", "running", 5.0)),
    *((name, {}) for name in NAMES if name not in SUMS),
])
@pytest.mark.parametrize("slots", [0, 2])
def test_a_batch_without_points_has_a_finite_loss_and_gradient(name, options, slots):
    # lightning-pose takes the mean over labelled maps, apex divides by the number of positives.
    logits = random_logits().requires_grad_()
    error = logits.detach().square().mean((2, 3))
    assert torch.isnan(error[torch.zeros(2, CLASSES, dtype=torch.bool)].mean())
    assert torch.isinf(error.sum() / none(2, slots).valid.sum())
    value = losses.make(name, **options)(logits, none(2, slots))
    value.backward()
    assert finite_and_useful(name, value, logits.grad)


@pytest.mark.parametrize("name", NAMES)
def test_an_image_without_points_beside_one_with_points_is_finite_and_learns_its_background(name):
    options = {"normalizer": "image"} if name in SUMS else {}
    points = Points.from_lists([([], []), ([[3.0, 2.0]], [1])])
    logits = random_logits().requires_grad_()
    value = losses.make(name, **options)(logits, points)
    value.backward()
    assert finite_and_useful(name, value, logits.grad[0]) and (logits.grad[1] != 0).any()


@pytest.mark.parametrize("name", NAMES)
def test_where_nothing_counts_the_loss_still_has_a_gradient_and_it_is_0(name):
    # AdeelH's focal loss returns a new tensor of 0 without a graph, on the CPU: backward() then fails.
    logits, nothing = random_logits().requires_grad_(), torch.zeros(2, 1, *SIZE, dtype=torch.bool)
    value = losses.make(name)(logits, scene(), mask=nothing)
    value.backward()
    assert abs(value.item()) < 1e-6
    assert (logits.grad == 0).all()


# Weights and masks.


def squared_error(z, y, weight):
    """mmpose's combined loss and microsoft/human-pose-estimation: output and target are both multiplied."""
    return ((weight * z - weight * y) ** 2).sum()


@pytest.mark.parametrize("name", [name for name in NAMES if name not in ("dice", "tversky")])
def test_the_loss_is_linear_in_a_points_weight(name):
    z, y = torch.tensor([0.3]), torch.tensor([1.0])
    assert squared_error(z, y, 2.0) == pytest.approx(4 * float(squared_error(z, y, 1.0)))
    points, logits = replace(scene(), xy=scene().xy.double()), random_logits(torch.float64)

    def at(weight):
        weights = torch.ones(points.label.shape, dtype=torch.float64)
        weights[0, 1] = weight
        return float(losses.make(name)(logits, replace(points, weight=weights)))

    step = at(1.0) - at(0.0)
    assert abs(step) > 1e-3
    assert at(1.0) == pytest.approx(float(losses.make(name)(logits, points)), rel=1e-12)
    assert at(2.0) - at(1.0) == pytest.approx(step, rel=1e-9)
    assert at(5.0) - at(1.0) == pytest.approx(4 * step, rel=1e-9)


@pytest.mark.parametrize("name", ["dice", "tversky"])
def test_an_overlap_stays_one_whatever_the_weights(name):
    points, logits = scene(), random_logits()
    for weight in (0.0, 0.5, 50.0):
        weighted = replace(points, weight=torch.full(points.label.shape, weight))
        for scale in (-5.0, 1.0, 5.0):
            assert 0 <= float(losses.make(name)(scale * logits, weighted)) <= 1


@pytest.mark.parametrize("hidden", [1, 4, 7])
@pytest.mark.parametrize("name", SUMS)
def test_a_mask_does_not_change_the_mean_of_a_uniform_map(name, hidden):
    # mmpose and kornia divide by all pixels: hiding half of them halves the loss.
    logits, mask = torch.full((2, CLASSES, *SIZE), 0.7), torch.ones(2, 1, *SIZE, dtype=torch.bool)
    mask[..., :hidden] = False
    error = logits.square()
    assert (error * mask).mean() == pytest.approx(float(error.mean()) * (8 - hidden) / 8)
    loss = losses.make(name, normalizer="pixels")
    assert float(loss(logits, none(2), mask=mask)) == pytest.approx(float(loss(logits, none(2))), rel=1e-6)


@pytest.mark.parametrize("hidden", [7.0, -1e4, torch.inf, torch.nan])
@pytest.mark.parametrize("name", NAMES)
def test_logits_under_a_mask_change_nothing_whatever_they_are(name, hidden):
    # A loss that is multiplied by its mask keeps the NaN, as 0 * NaN is NaN.
    mask = torch.ones(2, 1, *SIZE, dtype=torch.bool)
    mask[..., 6:] = False
    logits = random_logits()
    spoilt = torch.where(mask, logits, hidden)
    assert math.isfinite(hidden) or torch.isnan(spoilt * mask).any()
    assert losses.make(name)(spoilt, scene(), mask=mask) == losses.make(name)(logits, scene(), mask=mask)
    grad = slope(losses.make(name), spoilt, scene(), mask=mask)
    assert torch.equal(grad, slope(losses.make(name), logits, scene(), mask=mask))
    assert (grad[..., 6:] == 0).all()


@pytest.mark.parametrize("name", SUMS)
def test_the_loss_by_image_does_not_depend_on_how_a_batch_is_split(name):
    # The number of positives of a whole batch (CornerNet, CenterNet, mmdet) couples its images.
    logits, points, loss = random_logits(), scene(), losses.make(name, normalizer="image")
    parts = [float(loss(logits[b : b + 1], points[b : b + 1])) for b in range(2)]
    assert float(loss(logits, points)) == pytest.approx(sum(parts) / 2, rel=1e-6)
    alone = slope(loss, logits[:1], points[:1]) / 2
    assert torch.allclose(slope(loss, logits, points)[:1], alone, rtol=1e-5, atol=1e-7)


# What a call leaves behind.


@pytest.mark.parametrize("name", NAMES)
def test_a_call_leaves_its_arguments_and_itself_as_they_were(name):
    # CornerNet and CenterNet2 take the sigmoid in place; MONAI's focal loss changes its own weights in a call.
    logits, points, loss = random_logits().requires_grad_(), scene(), losses.make(name)
    before, places, destroyed = logits.detach().clone(), points.xy.clone(), logits.detach().clone()
    destroyed.sigmoid_()
    assert not torch.equal(destroyed, before)
    first = loss(logits, points)
    first.backward()
    assert torch.equal(logits.detach(), before) and torch.equal(points.xy, places)
    assert torch.equal(loss(logits, points), first)


def same_gradient_each_time(loss, logits, points):
    """Backward three times through one graph, each with its own scale, then once more after emptying in place."""
    value = loss(logits, points)
    (wanted,) = torch.autograd.grad(value, logits, retain_graph=True)
    wanted = wanted.clone()
    total = 0.0
    for scale in (1.0, 1.0, 3.0):  # the first two as loss.backward() has it
        value.backward(torch.tensor(scale), retain_graph=True)
        total += scale
        assert torch.allclose(logits.grad, total * wanted, rtol=1e-5, atol=1e-7)
    logits.grad.zero_()
    value.backward()
    assert torch.allclose(logits.grad, wanted, rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize("name", NAMES)
def test_every_backward_through_one_graph_gives_the_same_gradient(name):
    # apex scales the gradient that it saved in place: the second backward scales it again.
    saved = torch.tensor([0.5])
    assert [float(saved.mul_(2)) for _ in range(2)] == [1.0, 2.0]
    same_gradient_each_time(losses.make(name), random_logits().requires_grad_(), scene())


def test_every_backward_through_one_compiled_graph_gives_the_same_gradient(monkeypatch):
    # As in apex, where the gradient is made in the forward pass and kept for the backward.
    monkeypatch.setattr(autograd, "COMPILED_FROM", 0)
    logits, points, loss = random_logits().requires_grad_(), scene(), losses.make("bce")
    loss(logits, points)
    if not autograd.compiler_works():
        pytest.skip("no compiler here")
    same_gradient_each_time(loss, logits, points)


# Peaks.


def drawn(*rows):
    return torch.tensor(rows, dtype=torch.float32)[None, None]


def places(points):
    """The valid points of one image, as (x, y)."""
    return [tuple(xy) for xy in points.xy[0][points.valid[0]].tolist()]


FLAT = {
    "pair": drawn([0, 0, 0, 0], [0, 1, 1, 0], [0, 0, 0, 0]),
    "square": drawn([0, 0, 0, 0], [0, 1, 1, 0], [0, 1, 1, 0]),
    "row": drawn([0, 0, 0, 0, 0], [1, 1, 1, 1, 1]),
    "diagonals": drawn([0, 1, 0], [1, 0, 1], [0, 1, 0]),
}


@pytest.mark.parametrize("shape", FLAT)
def test_a_flat_top_is_one_peak(shape):
    # CenterNet keeps each pixel that equals the maximum around it; kornia none of them.
    scores = FLAT[shape]
    assert (max_pool2d(scores, 3, 1, 1).eq(scores) & (scores > 0.5)).sum() == scores.sum() > 1
    assert len(places(decode.peaks(scores, count=9, threshold=0.5))) == 1


def test_a_peak_on_the_border_is_a_peak():
    # kornia's 3 x 3 suppression compares inner pixels alone and never fires on the first and last row and column.
    def inner_alone(scores):
        around = scores.unfold(2, 3, 1).unfold(3, 3, 1).flatten(4)
        return (scores[..., 1:-1, 1:-1] > torch.cat([around[..., :4], around[..., 5:]], 4).amax(4)).any()

    missed = 0
    for y, x in itertools.product(range(SIZE[0]), range(SIZE[1])):
        scores = torch.zeros(1, 1, *SIZE)
        scores[0, 0, y, x] = 1.0
        assert places(decode.peaks(scores, count=9, threshold=0.5)) == [(x, y)]
        missed += not inner_alone(scores)
    assert missed == 2 * sum(SIZE) - 4


@pytest.mark.parametrize("refine", [way for way in get_args(decode.Refinement) if way not in ("none", "offsets")])
@pytest.mark.parametrize("turned", [False, True])
def test_refinement_treats_both_borders_alike(refine, turned):
    # mmpose refines where 1 < x < W - 1: next to the left and upper border it does not, next to the others it does.
    def mmpose(x, width=8):
        return 1 < x < width - 1

    assert [mmpose(x) for x in (1, 6)] == [False, True]
    for x in range(8):
        row = torch.full((1, 1, 5, 8), 0.1)
        row[0, 0, 2, x] = 1.0
        for side, value in ((x - 1, 0.3), (x + 1, 0.5)):
            if 0 <= side < 8:
                row[0, 0, 2, side] = value
        maps = [row, row.flip(3)]
        left, right = (
            decode.peaks(part.mT if turned else part, count=1, refine=refine).xy[0, 0, int(turned)] for part in maps
        )
        assert float(left) == pytest.approx(7 - float(right), abs=1e-6)
        assert refine == "soft-argmax" or (float(left) > x) == (0 < x < 7)


# Metrics.


def predictions(*rows):
    """One image of (x, y, label, score)."""
    return Points.from_lists([([row[:2] for row in rows], [row[2] for row in rows], [row[3] for row in rows])])


def test_a_second_prediction_on_one_point_is_false():
    # Counting predictions with a label near them rewards the double peaks of CenterNet.
    truth = one(2.0, 2.0)
    double = predictions((2.0, 2.0, 0, 0.9), (2.4, 2.0, 0, 0.8))
    near = torch.linalg.vector_norm(double.xy - truth.xy, dim=-1) <= 1.0
    assert near.double().mean() == 1
    assert metrics.match(double, truth, radius=1.0).truth.tolist() == [[0, -1]]
    assert metrics.f1(double, truth, radius=1.0) == pytest.approx(2 / 3)
    assert metrics.precision_recall(double, truth, radius=1.0).precision.tolist() == [1.0, 0.5]


def test_a_second_prediction_does_not_stand_for_a_point_that_was_missed():
    truth = Points.from_lists([([[2.0, 2.0], [9.0, 9.0]], [0, 0])])
    double = predictions((2.0, 2.0, 0, 0.9), (2.4, 2.0, 0, 0.8))
    assert metrics.average_precision(double, truth, radius=1.0) == pytest.approx(0.5)


def test_a_prediction_of_another_class_or_image_finds_nothing():
    # spotiflow leaves out the classes of the second set of points when the first has some.
    truth = Points.from_lists([([[2.0, 2.0]], [0]), ([], [])])
    found = Points.from_lists([([[2.0, 2.0]], [1], [0.9]), ([[2.0, 2.0]], [0], [0.9])])
    assert metrics.f1(found, truth, radius=1.0) == 0
