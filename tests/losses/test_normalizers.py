"""What a sum over pixels is divided by."""

import pytest
import torch
from family import CLASSES, NORMALIZED, SIZE, gradient, scene
from hypothesis import given, settings
from hypothesis import strategies as st
from scenes import batches, none

from falloff import losses
from falloff.points import Points


@pytest.mark.parametrize("name", NORMALIZED)
@settings(max_examples=10)
@given(points=batches(SIZE, CLASSES, torch.float64, images=4), seed=st.integers(0, 99))
def test_normalised_by_image_the_loss_of_a_batch_is_the_mean_of_its_parts_however_it_is_split(name, points, seed):
    logits = torch.randn(4, CLASSES, *SIZE, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))
    loss = losses.make(name, normalizer="image")
    whole = float(loss(logits, points))
    for cuts in ([2, 2], [1, 3], [1, 1, 2]):
        parts, first = 0.0, 0
        for length in cuts:
            part = slice(first, first + length)
            parts, first = parts + length * float(loss(logits[part], points[part])), first + length
        assert parts / 4 == pytest.approx(whole, rel=1e-10)


@pytest.mark.parametrize("name", NORMALIZED)
@pytest.mark.parametrize("normalizer", ["points", "image", "pixels", "running", 3])
def test_every_normaliser_is_defined_without_points(name, normalizer):
    logits = torch.zeros(2, CLASSES, *SIZE, requires_grad=True)
    value, slope = gradient(losses.make(name, normalizer=normalizer), logits, none(2, 3))
    assert torch.isfinite(value) and torch.isfinite(slope).all()


def test_a_running_mean_follows_the_batches_it_was_trained_on_alone():
    loss, plain = losses.make("bce", normalizer="running"), losses.make("bce", normalizer=1.0)
    logits = torch.zeros(1, 1, *SIZE, requires_grad=True)
    two, six = (Points.from_lists([([[float(i), 1.0] for i in range(n)], [0] * n)]) for n in (2, 6))
    assert float(loss(logits, two)) == pytest.approx(float(plain(logits, two)) / 2)
    with torch.no_grad():
        assert float(loss(logits, six)) == pytest.approx(float(plain(logits, six)) / 2)
    assert float(loss(logits, six)) == pytest.approx(float(plain(logits, six)) / 2.4)  # 0.9 * 2 + 0.1 * 6
    assert losses.make("bce", normalizer="running") == loss  # the state is no option


@pytest.mark.parametrize("name", NORMALIZED)
def test_a_hidden_point_does_not_count(name):
    logits, points = scene()
    mask = torch.ones(2, 1, *SIZE, dtype=torch.bool)
    mask[1] = False  # the second image with its one point
    alone = losses.make(name)(logits[:1], points[:1])
    assert float(losses.make(name)(logits, points, mask=mask)) == pytest.approx(float(alone), rel=1e-6)
