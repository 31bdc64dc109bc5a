"""Losses over classes, images and maps: from the points as from dense maps, and where each is smallest."""

import math

import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from scenes import batches, one
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


def test_tversky_at_a_half_is_dice_and_dice_is_the_usual_overlap():
    torch.manual_seed(0)
    logits, labels = torch.randn(3, 2, 5, 5).double(), torch.rand(3, 2, 5, 5).double()
    ours = losses.dice(logits, labels, smooth=1e-12)
    assert torch.allclose(ours, losses.tversky(logits, labels, alpha=0.5, beta=0.5, smooth=1e-12), rtol=1e-12)
    p = torch.sigmoid(logits)
    usual = 1 - 2 * (p * labels).sum((1, 2, 3)) / (p.sum((1, 2, 3)) + labels.sum((1, 2, 3)))
    assert torch.allclose(ours, usual, rtol=1e-9)


def test_overlap_losses_of_a_soft_target_are_smallest_at_zero_or_one_never_at_the_target():
    labels = torch.tensor([[0.9, 0.6, 0.3, 0.1]], dtype=torch.float64)
    logits = torch.zeros(1, 4, dtype=torch.float64, requires_grad=True)
    optimizer = torch.optim.Adam([logits], lr=0.3)
    for _ in range(400):
        optimizer.zero_grad()
        losses.dice(logits, labels, smooth=0.01).sum().backward()
        optimizer.step()
    p = torch.sigmoid(logits.detach())[0]
    assert p[0] > 0.99 and p[1] > 0.99 and p[3] < 0.01


@pytest.mark.parametrize("name", ["spatial-kl", "spatial-js"])
def test_spatial_divergences_are_smallest_and_zero_at_the_target(name):
    points = Points.from_lists([([[3.3, 2.1], [6.0, 4.0]], [0, 0])])
    heat = heatmaps.render(points, SIZE, 1, 1.5).double()
    loss = losses.make(name)
    at_target = heat.clamp(min=1e-300).log()
    assert float(loss(at_target, points)) == pytest.approx(0.0, abs=1e-7)
    logits = at_target.clone().requires_grad_()
    (slope,) = torch.autograd.grad(loss(logits, points), logits)
    assert float(slope.abs().max()) < 1e-6
    generator = torch.Generator().manual_seed(0)
    for _ in range(5):
        elsewhere = at_target + 0.1 * torch.randn(at_target.shape, generator=generator, dtype=torch.float64)
        assert float(loss(elsewhere, points)) > 1e-5


def test_jensen_shannon_is_at_most_log_2():
    logits = torch.zeros(1, 1, *SIZE)
    logits[0, 0, 5, 7] = 1e4
    assert float(losses.make("spatial-js", sigma=0.3)(logits, one(1.0, 1.0))) == pytest.approx(math.log(2), rel=1e-5)
    assert float(losses.make("spatial-kl", sigma=0.3)(logits, one(1.0, 1.0))) > 1000


def test_dsnt_pulls_the_mean_onto_the_point():
    points = one(3.3, 2.1)
    logits = torch.zeros(1, 1, *SIZE, requires_grad=True)
    optimizer, loss = torch.optim.Adam([logits], lr=0.1), losses.make("dsnt")
    for _ in range(300):
        optimizer.zero_grad()
        loss(logits, points).backward()
        optimizer.step()
    assert losses.soft_argmax(logits.detach())[0, 0].tolist() == pytest.approx([3.3, 2.1], abs=0.05)


def test_the_soft_argmax_of_one_bright_pixel_is_that_pixel_and_of_a_flat_map_its_middle():
    logits = torch.zeros(1, 2, 5, 9)
    logits[0, 0, 1, 6] = 100.0
    assert losses.soft_argmax(logits)[0].tolist() == [[6.0, 1.0], pytest.approx([4.0, 2.0])]


def test_distances_of_dsnt_are_in_half_widths_of_the_picture():
    logits = torch.zeros(1, 1, 4, 8)
    logits[0, 0, 1, 6] = 1e3
    value = losses.make("dsnt", regularisation=0.0)(logits, one(2.0, 1.0))
    assert float(value) == pytest.approx(2 * 4 / 8)


def test_a_hidden_point_is_no_target_to_a_spatial_loss():
    # Only the rim of its Gaussian is visible: pulling that up would be wrong.
    logits, points = torch.zeros(1, 1, *SIZE, requires_grad=True), one(3.0, 2.0)
    mask = torch.ones(1, 1, *SIZE, dtype=torch.bool)
    mask[..., 1:4, 2:5] = False
    for name in ("spatial-kl", "spatial-js", "dsnt"):
        value = losses.make(name)(logits, points, mask=mask)
        assert float(value) == 0 and not torch.autograd.grad(value, logits)[0].any()


def test_two_points_on_one_pixel_count_once_with_the_larger_weight():
    logits, places = torch.randn(1, 1, *SIZE, generator=torch.Generator().manual_seed(0)), [[3.0, 2.0], [3.2, 2.1]]
    for weights in ([1.0, 4.0], [4.0, 1.0]):
        points = Points.from_lists([(places, [0, 0])])
        points = Points(points.xy, points.label, points.valid, weight=torch.tensor([weights]))
        both = [float(losses.make(name)(logits, points)) for name in ("softmax-distance-aware", "distance-aware")]
        assert both[0] == pytest.approx(both[1], rel=1e-6)


@pytest.mark.bad_input
@pytest.mark.parametrize("form", [losses.spatial_kl, losses.spatial_js, losses.dice, losses.tversky])
def test_targets_of_the_dense_forms_are_checked(form):
    logits = torch.zeros(2, 3, 4, 5)
    for target in (torch.zeros(1, 1, 4, 5), torch.full_like(logits, 5.0), torch.full_like(logits, torch.nan)):
        with pytest.raises(ValueError, match=r"heatmap|labels"):
            form(logits, target)


def test_dsnt_refuses_two_points_of_a_class():
    points = Points.from_lists([([[1.0, 1.0], [2.0, 2.0]], [0, 0])])
    with pytest.raises(ValueError, match="dsnt needs at most one point of each class in an image; one image has 2"):
        losses.make("dsnt")(torch.zeros(1, 1, *SIZE), points)


@pytest.mark.parametrize("name", WHOLE)
def test_gradients_with_masks_and_weights(name):
    torch.manual_seed(1)
    logits = torch.randn(2, 2, 4, 5, dtype=torch.float64, requires_grad=True)
    points = Points.from_lists([([[1.2, 0.9], [3.5, 2.5]], [0, 1]), ([[4.0, 0.0]], [1])])
    weighted = Points(points.xy, points.label, points.valid, weight=torch.tensor([[0.5, 2.0], [1.0, 0.0]]))
    mask = torch.rand(2, 1, 4, 5) > 0.3
    assert gradcheck(lambda x: losses.make(name)(x, weighted, mask=mask), [logits])


@pytest.mark.bad_input
def test_a_mask_that_tells_classes_apart_has_no_meaning_under_a_softmax():
    with pytest.raises(ValueError, match="mask must be the same for all classes"):
        losses.make("softmax-distance-aware")(
            torch.zeros(1, 2, *SIZE), one(1.0, 1.0), mask=torch.ones(1, 2, *SIZE, dtype=torch.bool)
        )
