"""What a loss refuses."""

import math
import re
from dataclasses import replace

import numpy as np
import pytest
import torch
from family import NAMES, SIZE, scene
from scenes import one

from falloff import decode, losses

X = torch.zeros(2, 3)


@pytest.mark.parametrize(
    ("call", "error", "named"),
    [
        (lambda: losses.focal(X.long(), X), TypeError, "logits must be floating point"),
        (
            lambda: losses.focal(X, X.long()),
            TypeError,
            "labels must be bool or floating point, got torch.int64",
        ),
        (
            lambda: losses.focal(X, X[:1]),
            ValueError,
            r"labels must have the logits' shape \(2, 3\), got \(1, 3\)",
        ),
        (lambda: losses.focal(X, X - 0.1), ValueError, r"labels must be in \[0, 1\]"),
        (lambda: losses.focal(X, X + torch.nan), ValueError, r"labels must be in \[0, 1\] and not NaN"),
        (lambda: losses.focal(X, X, gamma=-1.0), ValueError, "gamma"),
        (lambda: losses.focal(X, X, alpha=-0.1), ValueError, "alpha"),
        (lambda: losses.weighted_bce(X, X, positive_weight=-1.0), ValueError, "positive_weight"),
        (lambda: losses.weighted_bce(X, X + 1.5), ValueError, "labels"),
        (lambda: losses.distance_aware(X, X, X), TypeError, "positives must be bool"),
        (
            lambda: losses.distance_aware(X, X[0].bool(), X),
            ValueError,
            "positives must have the logits' shape",
        ),
        (lambda: losses.distance_aware(X, X.bool(), X + 1.1), ValueError, r"heatmap must be in \[0, 1\]"),
        (
            lambda: losses.distance_aware(X, X.bool(), X[:, :2]),
            ValueError,
            "heatmap must have the logits' shape",
        ),
        (lambda: losses.mse(X, X - 1), ValueError, "heatmap"),
        (lambda: losses.mse(X, X, scale=-1.0), ValueError, "scale"),
        (lambda: losses.prior_bias(0.0), ValueError, "probability must be in .* got 0.0"),
        (lambda: losses.prior_bias(1.0), ValueError, "probability"),
        (lambda: losses.prior_bias(math.nan), ValueError, "probability"),
    ],
)
@pytest.mark.bad_input
def test_bad_arguments_of_the_elementwise_forms_are_named(call, error, named):
    with pytest.raises(error, match=named):
        call()


@pytest.mark.parametrize(
    ("labels", "error"),
    [
        (X - 0.1, ValueError),
        (X + 1.1, ValueError),
        (X + torch.nan, ValueError),
        (X[:1], ValueError),
        (X.long(), TypeError),
    ],
)
@pytest.mark.bad_input
def test_bad_labels_of_bce_are_named(labels, error):
    with pytest.raises(error, match="labels"):
        losses.bce(X, labels)


@pytest.mark.parametrize(
    ("call", "named"),
    [
        (lambda: losses.focal(X, X, alpha="a"), "alpha"),
        (lambda: losses.prior_bias("a"), "probability"),
    ],
)
@pytest.mark.bad_input
def test_arguments_that_are_no_numbers_are_named(call, named):
    with pytest.raises(TypeError, match=named):
        call()


@pytest.mark.bad_input
@pytest.mark.parametrize("form", [losses.spatial_kl, losses.spatial_js, losses.dice, losses.tversky])
def test_targets_of_the_dense_forms_are_checked(form):
    logits = torch.zeros(2, 3, 4, 5)
    for target in (torch.zeros(1, 1, 4, 5), torch.full_like(logits, 5.0), torch.full_like(logits, torch.nan)):
        with pytest.raises(ValueError, match=r"heatmap|labels"):
            form(logits, target)


MAPS = torch.zeros(1, 2, 6, 8)


@pytest.mark.parametrize(
    ("logits", "points", "error", "named"),
    [
        (MAPS.long(), one(1.0, 1.0), TypeError, "logits must be a floating point tensor, got torch.int64"),
        ([0.0], one(1.0, 1.0), TypeError, "logits must be a floating point tensor, got list"),
        (MAPS[0], one(1.0, 1.0), ValueError, "logits must have shape"),
        (MAPS.expand(3, -1, -1, -1), one(1.0, 1.0), ValueError, "logits hold 3 images, points 1"),
        (MAPS, [[1.0, 1.0]], TypeError, "points must be falloff.points.Points, got list"),
        (MAPS, one(8.0, 1.0), ValueError, r"image 0, point 0 at \(8, 1\) lies outside the picture .*: x reaches"),
        (MAPS, one(1.0, 1.0, label=2), ValueError, r"label 2 is not in \[0, 2\)"),
    ],
)
@pytest.mark.parametrize("name", NAMES)
@pytest.mark.bad_input
def test_bad_maps_and_points_are_named(name, logits, points, error, named):
    with pytest.raises(error, match=named):
        losses.make(name)(logits, points)


@pytest.mark.parametrize("name", NAMES)
def test_a_logit_that_is_nan_is_named_with_its_place(name):
    logits = MAPS.clone()
    logits[0, 1, 4, 3] = torch.nan
    with pytest.raises(ValueError, match=r"logits must be finite.*\(0, 1, 4, 3\) is nan"):
        losses.make(name)(logits, one(1.0, 1.0))


@pytest.mark.parametrize(
    ("mask", "error", "named"),
    [
        (torch.ones(2, 1, 5, 8, dtype=torch.bool), ValueError, r"mask must have as many axes .* got \(2, 1, 5, 8\)"),
        (torch.ones(6, 8, dtype=torch.bool), ValueError, "mask must have as many axes"),
        (torch.ones(2, 1, *SIZE), TypeError, "mask must be a bool tensor, got torch.float32"),
        ([[True]], TypeError, "mask must be a bool tensor, got list"),
    ],
)
@pytest.mark.bad_input
def test_bad_masks_are_named(mask, error, named):
    logits, points = scene()
    with pytest.raises(error, match=named):
        losses.make("bce")(logits, points, mask=mask)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.bad_input
def test_at_a_stride_a_point_outside_is_named_in_pixels_of_the_image(name):
    with pytest.raises(ValueError, match=r"maps \(6, 8\) at stride 4 cover a picture of \(24, 32\)"):
        losses.make(name)(MAPS, one(200.0, 1.0), stride=4)
    with pytest.raises(ValueError, match=r"at \(32, 1\) lies outside the picture .* \(24, 32\): .* to 31.5"):
        losses.make(name)(MAPS, one(32.0, 1.0), stride=4)
    losses.make(name)(MAPS, one(31.5, 23.5), stride=4)


@pytest.mark.bad_input
@pytest.mark.parametrize("call", [
    lambda stride: losses.make("bce")(MAPS, one(1.0, 1.0), stride=stride),
    lambda stride: losses.make("bce").elementwise(MAPS, one(1.0, 1.0), stride=stride),
    lambda stride: losses.at_points(MAPS, one(1.0, 1.0), "offset", stride=stride),
    lambda stride: losses.count(one(1.0, 1.0), mask=MAPS[:, :1] == 0, stride=stride),
    lambda stride: decode.peaks(MAPS, count=1, stride=stride),
    lambda stride: one(1.0, 1.0).check_inside((6, 8), 1, stride=stride),
])
@pytest.mark.parametrize("stride", [True, 0, -1, 1e-30, 1e-320, 1e30, math.inf, math.nan, "2", None])
def test_a_stride_that_is_none_is_named_with_its_value(call, stride):
    with pytest.raises((TypeError, ValueError), match=f"stride must be .*, got {re.escape(repr(stride))}$"):
        call(stride)


@pytest.mark.bad_input
def test_a_target_that_is_no_tensor_is_named():
    with pytest.raises(TypeError, match=r"target must be a torch.Tensor or a name, got ndarray"):
        losses.at_points(MAPS, one(1.0, 1.0), np.zeros((1, 1, 2)))


@pytest.mark.bad_input
def test_a_weight_that_would_get_no_gradient_is_refused():
    weight = torch.ones(1, 1, requires_grad=True)
    with pytest.raises(ValueError, match=r"weight must not require a gradient.*weight.detach\(\)"):
        replace(one(1.0, 1.0), weight=weight)
    with torch.no_grad():
        assert torch.isfinite(losses.make("bce")(MAPS, replace(one(1.0, 1.0), weight=weight)))


@pytest.mark.bad_input
@pytest.mark.parametrize(("stride", "error"), [
    (0, ValueError), (-4, ValueError), (math.nan, ValueError), (math.inf, ValueError), (True, TypeError),
    ((4, 4), TypeError), ("4", TypeError), (None, TypeError),
])
def test_a_stride_that_is_none_is_named_wherever_one_is_taken(stride, error):
    points, mask = one(1.0, 1.0), torch.ones(1, 1, 6, 8, dtype=torch.bool)
    calls = [lambda name=name: losses.make(name)(MAPS, points, stride=stride) for name in NAMES]
    calls += [lambda name=name: losses.best_constant(losses.make(name), points, SIZE, 2, stride=stride)
              for name in NAMES]
    calls += [lambda: losses.make("bce").elementwise(MAPS, points, stride=stride),
              lambda: losses.at_points(MAPS, points, "offset", stride=stride),
              lambda: losses.count(points, stride=stride), lambda: losses.count(points, mask=mask, stride=stride)]
    for call in calls:
        with pytest.raises(error, match="stride must be"):
            call()
