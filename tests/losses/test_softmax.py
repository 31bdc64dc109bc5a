"""Distance-aware focal loss under a softmax."""

import pytest
import torch
from family import SIZE
from hypothesis import given, settings
from hypothesis import strategies as st
from scenes import batches, one

from falloff import losses
from falloff.points import Points


@given(points=batches(SIZE, 1, torch.float64), seed=st.integers(0, 99))
@settings(max_examples=15)
def test_with_one_class_the_softmax_is_the_sigmoid(points, seed):
    logits = 4 * torch.randn(2, 1, *SIZE, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))
    logits.requires_grad_()
    both = [losses.make(name)(logits, points) for name in ("softmax-distance-aware", "distance-aware")]
    assert both[0].item() == pytest.approx(both[1].item(), rel=1e-11)
    grads = [torch.autograd.grad(value, logits)[0] for value in both]
    assert torch.allclose(*grads, rtol=1e-9, atol=1e-13)


def test_the_softmax_makes_classes_compete():
    logits, points = torch.zeros(1, 3, *SIZE), one(3.0, 2.0, label=1)
    logits[0, 1, 2, 3] = 3.0
    loss = losses.make("softmax-distance-aware")
    alone = float(loss(logits, points))
    logits[0, 2, 2, 3] = 3.0  # as sure of another class at the same pixel
    assert float(loss(logits, points)) > alone + 0.05
    background = 1 / (1 + logits.exp().sum(1))
    assert torch.allclose(loss.scores(logits).sum(1), 1 - background)


def test_two_points_on_one_pixel_count_once_with_the_larger_weight():
    logits, places = torch.randn(1, 1, *SIZE, generator=torch.Generator().manual_seed(0)), [[3.0, 2.0], [3.2, 2.1]]
    for weights in ([1.0, 4.0], [4.0, 1.0]):
        points = Points.from_lists([(places, [0, 0])])
        points = Points(points.xy, points.label, points.valid, weight=torch.tensor([weights]))
        both = [float(losses.make(name)(logits, points)) for name in ("softmax-distance-aware", "distance-aware")]
        assert both[0] == pytest.approx(both[1], rel=1e-6)


@pytest.mark.bad_input
def test_a_mask_that_tells_classes_apart_has_no_meaning_under_a_softmax():
    with pytest.raises(ValueError, match="mask must be the same for all classes"):
        losses.make("softmax-distance-aware")(
            torch.zeros(1, 2, *SIZE), one(1.0, 1.0), mask=torch.ones(1, 2, *SIZE, dtype=torch.bool)
        )
