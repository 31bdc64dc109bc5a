"""Where a training starts: the prior and the best constant."""

import math

import numpy as np
import pytest
import torch
from family import CLASSES, NAMES, PIXEL, SIZE, scene, with_
from hypothesis import given, settings
from scenes import batches, none, one

from falloff import heatmaps, losses
from falloff.points import Points


def test_the_prior_of_retinanet():
    assert losses.prior_bias(0.01) == pytest.approx(-math.log(99), rel=1e-12)
    assert 1 / (1 + math.exp(-losses.prior_bias(0.2))) == pytest.approx(0.2, rel=1e-12)


@pytest.mark.parametrize("name", [*PIXEL, "softmax-distance-aware"])
@settings(max_examples=8)
@given(points=batches(SIZE, CLASSES, torch.float64).filter(lambda p: bool(p.valid.any())))
def test_the_best_constant_is_a_minimum(name, points):
    loss = losses.make(name)
    at = losses.best_constant(loss, points, SIZE, CLASSES)

    def total(x):
        return float(loss(torch.full((2, CLASSES, *SIZE), x, dtype=torch.float64), points))

    for step in (0.01, 0.3, 3.0):
        assert total(at) < min(total(at - step), total(at + step))


def test_the_best_constant_of_cross_entropy_is_the_prior():
    points = Points.from_lists([([[1.0, 2.0], [3.0, 3.0]], [0, 1]), ([[5.0, 2.0]], [1])])
    share = 3 / (2 * 2 * 6 * 8)
    found = losses.best_constant(losses.make("bce"), points, SIZE, CLASSES)
    assert found == pytest.approx(losses.prior_bias(share), abs=1e-4)


def test_the_best_constant_of_a_large_scale_is_found():
    loss, points = losses.make("mse", scale=1e6), one(3.0, 2.0)
    at = losses.best_constant(loss, points, SIZE, 1)
    assert at == pytest.approx(1e6 * float(heatmaps.render(points, SIZE, 1, 1.5).mean()), rel=1e-3)


@pytest.mark.bad_input
@pytest.mark.parametrize("name", NAMES)
def test_points_of_which_none_counts_say_nothing_of_a_start(name):
    loss = losses.make(name)
    unweighed = with_(one(3.0, 2.0), weight=torch.zeros(1, 1))
    for points in (none(2), none(2, 3), unweighed):
        if name.startswith(("spatial", "dsnt")):  # a constant changes no softmax
            assert losses.best_constant(loss, points, SIZE, CLASSES) == 0.0
            continue
        for asked in (lambda loss, *of: losses.best_constant(loss, *of), type(loss).best_constant):
            with pytest.raises(ValueError, match=r"points must hold at least one that counts .* got none in"):
                asked(loss, points, SIZE, CLASSES)


@pytest.mark.bad_input
@pytest.mark.parametrize("loss", [losses.make("focal", alpha=0.0), losses.make("focal", alpha=1.0, gamma=5.0)])
def test_a_loss_that_charges_one_side_alone_has_no_best_constant(loss):
    with pytest.raises(ValueError, match="no constant is best"):
        losses.best_constant(loss, one(3.0, 2.0), SIZE, 1)


@pytest.mark.parametrize("name", NAMES)
def test_the_best_constant_of_very_rare_points_is_finite(name):
    found = losses.best_constant(losses.make(name), one(300.0, 200.0), (512, 512), 1)
    assert -20 < found < 5


@pytest.mark.parametrize("name", PIXEL)
def test_the_best_constant_knows_weights_and_normalisers(name):
    _, points = scene(torch.float64)
    heavy = with_(points, weight=torch.tensor([[20.0, 3.0], [0.5, 1.0]]))
    loss = losses.make(name, normalizer="image")
    at = losses.best_constant(loss, heavy, SIZE, CLASSES)
    here, less, more = (
        float(loss(torch.full((2, CLASSES, *SIZE), at + step, dtype=torch.float64), heavy)) for step in (0, -0.3, 0.3)
    )
    assert here < min(less, more)


@pytest.mark.bad_input
@pytest.mark.parametrize(("size", "classes", "named"), [
    (32, 1, r"size must be \(height, width\) .* got 32"),
    ((32,), 1, "size must be"),
    ((32, 32.0), 1, "size must be"),
    ((32, 32), 0, "classes must be an integer above 0, got 0"),
])
def test_a_size_that_is_none_is_refused_by_name(size, classes, named):
    with pytest.raises(ValueError, match=named):
        losses.best_constant(losses.make("bce"), one(1.0, 1.0), size, classes)


@pytest.mark.bad_input
@pytest.mark.parametrize("number", [np.int64, np.uint8])
@pytest.mark.parametrize("name", NAMES)
def test_numbers_of_numpy_are_sizes(name, number):
    loss, points = losses.make(name), one(1.0, 1.0)
    expected = losses.best_constant(loss, points, (8, 9), 1)
    assert losses.best_constant(loss, points, (number(8), number(9)), number(1)) == expected


def test_the_best_constant_of_images_at_a_stride_is_that_of_their_maps():
    points = Points.from_lists([([[5.5, 9.5], [14.0, 1.0]], [0, 0]), ([], [])])
    bce = losses.make("bce")  # 2 of 2 x 3 x 4 pixels
    assert losses.best_constant(bce, points, (3, 4), 1, stride=4) == pytest.approx(losses.prior_bias(2 / 24), abs=1e-4)
    own = with_(points, sigma=torch.full((2, 2), 6.0))
    for name in NAMES:
        loss = losses.make(name)
        for some in (points, own):
            expected = losses.best_constant(loss, some.at_stride(4), (3, 4), 1)
            assert losses.best_constant(loss, some, (3, 4), 1, stride=4) == expected
    with pytest.raises(ValueError, match=r"at \(14, 1\) lies outside the picture of .* \(12, 8\)"):
        losses.best_constant(bce, points, (3, 2), 1, stride=4)


def test_what_a_mask_hides_is_no_background_of_the_best_constant():
    points = Points.from_lists([([[1.0, 2.0], [3.0, 3.0], [6.0, 5.0]], [0, 1, 1]), ([[2.0, 2.0]], [1])])
    mask = torch.ones(2, 1, *SIZE, dtype=torch.bool)
    mask[0, :, :, 5:] = mask[1, :, 4:] = False  # padding, with the third point in it
    pixels = 2 * (6 * 5 + 4 * 8)
    found = losses.best_constant(losses.make("bce"), points, SIZE, CLASSES, mask=mask)
    assert found == pytest.approx(losses.prior_bias(3 / pixels), abs=1e-4)
    classes = torch.tensor([[True, False], [True, True]]).view(2, 2, 1, 1)  # the second class is not labelled in one
    found = losses.best_constant(losses.make("bce"), points, SIZE, CLASSES, mask=classes)
    assert found == pytest.approx(losses.prior_bias(2 / (3 * 6 * 8)), abs=1e-4)
    heat = heatmaps.render(points, SIZE, CLASSES, 1.5)[mask.expand(-1, CLASSES, -1, -1)].mean()
    found = losses.best_constant(losses.make("dice"), points, SIZE, CLASSES, mask=mask)
    assert found == pytest.approx(float(torch.logit(heat)), abs=1e-4)


@pytest.mark.parametrize("name", [*PIXEL, "softmax-distance-aware"])
@pytest.mark.parametrize("normalizer", ["points", "image", "pixels", "running"])
def test_the_best_constant_under_a_mask_is_a_minimum_of_the_loss_under_it(name, normalizer):
    loss, (_, points) = losses.make(name, normalizer=normalizer), scene(torch.float64)
    points = points.at_stride(1 / 4)
    mask = torch.ones(2, 1, *SIZE, dtype=torch.bool)
    mask[0, :, :, 6:] = mask[1, :, 5:] = False
    at = losses.best_constant(loss, points, SIZE, CLASSES, mask=mask, stride=4)
    here, less, more = (
        float(losses.make(name, normalizer=normalizer)(
            torch.full((2, CLASSES, *SIZE), at + step, dtype=torch.float64), points, mask=mask, stride=4))
        for step in (0, -0.05, 0.05)
    )
    assert here < min(less, more)
    whole = losses.best_constant(loss, points, SIZE, CLASSES, stride=4)
    nothing_hidden = torch.ones(1, 1, 1, 1, dtype=torch.bool)
    assert losses.best_constant(loss, points, SIZE, CLASSES, mask=nothing_hidden, stride=4) == whole != at


@pytest.mark.bad_input
def test_a_mask_of_a_start_is_checked_as_that_of_a_call():
    bce, points = losses.make("bce"), one(3.0, 2.0)
    for mask, error, named in [
        (torch.ones(1, 1, 5, 8, dtype=torch.bool), ValueError, "mask must have as many axes"),
        (torch.ones(2, 1, *SIZE, dtype=torch.bool), ValueError, "mask must have as many axes"),
        (torch.ones(1, 1, *SIZE), TypeError, "mask must be a bool tensor"),
        (torch.zeros(1, 1, *SIZE, dtype=torch.bool), ValueError, "points must hold at least one that counts"),
    ]:
        with pytest.raises(error, match=named):
            losses.best_constant(bce, points, SIZE, CLASSES, mask=mask)
