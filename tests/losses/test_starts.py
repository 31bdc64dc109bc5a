"""Where a training starts: the prior and the best constant."""

import math

import pytest
import torch
from family import CLASSES, PIXEL, SIZE, scene, with_
from hypothesis import given, settings
from scenes import batches, one

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
