"""Losses over classes, images and maps: from the points as from dense maps."""

import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from scenes import batches
from torch.autograd import gradcheck

from falloff import heatmaps, losses
from falloff.points import Points

SIZE, CLASSES = (6, 8), 3


def one_per_map(points):
    """The points without a second one of a class in an image."""
    pairs = points.label[:, :, None] == points.label[:, None]
    again = (pairs & points.valid[:, None]).tril(-1).any(2)
    return Points(points.xy, points.label, points.valid & ~again)


def maps_of(points, sigma):
    size = (points, SIZE, CLASSES)
    return heatmaps.render(*size, sigma), heatmaps.positives(*size)


def dense(name, logits, points):
    """The loss of a batch from its dense form and full maps."""
    heat, positive = maps_of(points, losses.options(name)["sigma"])
    heat = heat.to(logits.dtype)
    if name == "softmax-distance-aware":
        pixel = losses.softmax_distance_aware(logits, positive, heat)
        return pixel.sum() / points.valid.sum().clamp(min=1)
    if name in ("dice", "tversky"):
        return getattr(losses, name)(logits, heat).mean()
    labelled = positive.flatten(2).any(2)
    if name == "dsnt":
        xy = torch.zeros(2, CLASSES, 2, dtype=points.xy.dtype)
        for b, n in points.valid.nonzero().tolist():
            xy[b, points.label[b, n]] = points.xy[b, n]
        each = losses.dsnt(logits, xy)
    else:
        each = getattr(losses, name.replace("-", "_"))(logits, heat)
    return torch.where(labelled, each, 0.0).sum() / labelled.sum().clamp(min=1)


WHOLE = ["softmax-distance-aware", "dice", "tversky", "spatial-kl", "spatial-js", "dsnt"]


@pytest.mark.parametrize("name", WHOLE)
@settings(max_examples=20)
@given(points=batches(SIZE, CLASSES, torch.float64).map(one_per_map), seed=st.integers(0, 99))
def test_from_the_points_is_what_the_dense_form_gives(name, points, seed):
    logits = 3 * torch.randn(2, CLASSES, *SIZE, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))
    logits.requires_grad_()
    value, wanted = losses.make(name)(logits, points), dense(name, logits, points)
    assert value.item() == pytest.approx(wanted.item(), rel=1e-11, abs=1e-13)
    (grad,) = torch.autograd.grad(value, logits)
    if wanted.requires_grad and bool(points.valid.any()):
        # Empty maps divide by 0 in the dense form, which leaves NaN gradients there.
        (dense_grad,) = torch.autograd.grad(wanted, logits)
        known = ~torch.isnan(dense_grad)
        assert torch.allclose(grad[known], dense_grad[known], rtol=1e-9, atol=1e-12)
    assert torch.isfinite(grad).all()


@pytest.mark.parametrize("name", ["spatial-kl", "spatial-js", "dice", "tversky", "softmax-distance-aware"])
@settings(max_examples=10)
@given(points=batches(SIZE, CLASSES, torch.float64), seed=st.integers(0, 9))
def test_crowded_maps_are_the_dense_ones_too(name, points, seed):
    logits = torch.randn(2, CLASSES, *SIZE, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))
    pixels = heatmaps.positives(points, SIZE, CLASSES)
    # A pixel of several classes is charged for each by the one form, and once by the other.
    assume(name != "softmax-distance-aware" or int(pixels.sum(1).max()) <= 1)
    value = losses.make(name)(logits, points)
    assert value.item() == pytest.approx(dense(name, logits, points).item(), rel=1e-11, abs=1e-13)


@pytest.mark.parametrize("name", WHOLE)
def test_gradients_with_masks_and_weights(name):
    torch.manual_seed(1)
    logits = torch.randn(2, 2, 4, 5, dtype=torch.float64, requires_grad=True)
    points = Points.from_lists([([[1.2, 0.9], [3.5, 2.5]], [0, 1]), ([[4.0, 0.0]], [1])])
    weighted = Points(points.xy, points.label, points.valid, weight=torch.tensor([[0.5, 2.0], [1.0, 0.0]]))
    mask = torch.rand(2, 1, 4, 5) > 0.3
    assert gradcheck(lambda x: losses.make(name)(x, weighted, mask=mask), [logits])
