"""Sums over pixels: from the points as from dense maps, with weights and widths."""

import pytest
import torch
from family import CLASSES, PIXEL, SIZE, scene, with_
from hypothesis import given, settings
from hypothesis import strategies as st
from scenes import batches, none, one

from falloff import heatmaps, losses
from falloff.points import Points


def divisor(normalizer, points, logits):
    labelled = points.valid.sum(1).double()
    if normalizer == "image":
        return len(labelled) * labelled.clamp(min=1).view(-1, 1, 1, 1)
    sizes = {"points": labelled.sum().clamp(min=1), "running": labelled.sum().clamp(min=1), "pixels": logits.numel()}
    return sizes.get(normalizer, normalizer)


@pytest.mark.parametrize("normalizer", ["points", "image", "pixels", "running", 7.0])
@pytest.mark.parametrize("name", PIXEL)
@settings(max_examples=12)
@given(data=st.data())
def test_from_the_points_is_the_sum_of_the_dense_form(name, normalizer, data):
    points = data.draw(batches(SIZE, CLASSES, torch.float64))
    torch.manual_seed(data.draw(st.integers(0, 99)))
    logits = (3 * torch.randn(2, CLASSES, *SIZE, dtype=torch.float64)).requires_grad_()
    loss = losses.make(name, normalizer=normalizer)
    value = loss(logits, points)
    dense = (loss.elementwise(logits, points, normalizer=1) / divisor(normalizer, points, logits)).sum()
    assert value.item() == pytest.approx(dense.item(), rel=1e-12)
    (grad,) = torch.autograd.grad(value, logits)
    (dense_grad,) = torch.autograd.grad(dense, logits)
    assert torch.allclose(grad, dense_grad, rtol=1e-12, atol=1e-14)
    coarse, single = Points(points.xy.float(), points.label, points.valid), logits.detach().float()
    dense = loss.elementwise(single, coarse, normalizer=1).double() / divisor(normalizer, points, logits)
    value = losses.make(name, normalizer=normalizer)(single, coarse)
    assert float(value) == pytest.approx(float(dense.sum()), rel=1e-6)


@pytest.mark.parametrize("name", PIXEL)
def test_a_well_trained_map_does_not_lose_its_loss_to_cancellation(name):
    # Background at -8 and the one point at 8: the loss is the dense form's, however small.
    logits = torch.full((1, 1, 32, 32), -8.0)
    logits[0, 0, 5, 7] = 8.0
    logits.requires_grad_()
    loss, points = losses.make(name), one(7.0, 5.0)
    value, dense = loss(logits, points), loss.elementwise(logits, points).sum()
    assert value.item() == pytest.approx(dense.item(), rel=1e-5)
    (grad,) = torch.autograd.grad(value, logits)
    (dense_grad,) = torch.autograd.grad(dense, logits)
    assert torch.allclose(grad, dense_grad, rtol=1e-4, atol=0)


@pytest.mark.parametrize("slots", [0, 3])
@pytest.mark.parametrize("name", PIXEL)
def test_without_points_the_negative_term_is_left_with_a_finite_gradient(name, slots):
    torch.manual_seed(0)
    logits = torch.randn(2, CLASSES, *SIZE, requires_grad=True)
    value = losses.make(name)(logits, none(2, slots))
    zeros = torch.zeros_like(logits)
    alone = {
        **dict.fromkeys(("bce", "weighted-bce", "soft-bce", "distance-map-bce"), losses.bce(logits, zeros)),
        "mse": losses.mse(logits, zeros),
        "weighted-mse": losses.mse(logits, zeros),
        "adaptive-wing": losses.adaptive_wing(logits, zeros),
        "focal": losses.focal(logits, zeros),
        "quality-focal": losses.focal(logits, zeros),
        "varifocal": 0.75 * losses.focal(logits, zeros),
        "distance-aware": losses.focal(logits, zeros),
    }.get(name, losses.make(name).elementwise(logits, none(2, slots)))
    assert float(value) == pytest.approx(float(alone.sum()), rel=1e-6)
    value.backward()
    assert torch.isfinite(logits.grad).all() and (logits.grad != 0).any()


@pytest.mark.parametrize("name", ["bce", "weighted-bce", "focal", "distance-aware", "distance-map-bce"])
@given(points=batches(SIZE, CLASSES))
def test_every_point_pulls_its_pixel_up_between_pixels_too(name, points):
    logits = torch.zeros(2, CLASSES, *SIZE, requires_grad=True)
    losses.make(name)(logits, points).backward()
    assert torch.equal(logits.grad < 0, heatmaps.positives(points, SIZE, CLASSES))


@pytest.mark.parametrize(("soft", "hard"), [
    ("distance-aware", "focal"), ("soft-bce", "bce"), ("quality-focal", "focal"),
])
def test_as_sigma_goes_to_zero_the_gaussian_losses_become_those_of_hard_labels(soft, hard):
    torch.manual_seed(0)
    logits, points = torch.randn(1, 2, *SIZE), Points.from_lists([([[1.0, 2.0], [7.0, 5.0]], [0, 1])])
    sharp = losses.make(soft, sigma=1e-3)(logits, points)
    assert float(sharp) == pytest.approx(float(losses.make(hard)(logits, points)), rel=1e-6)


@pytest.mark.parametrize("name", PIXEL)
def test_masking_part_of_an_even_map_does_not_change_its_mean(name):
    logits, mask = torch.full((1, 1, *SIZE), 0.7), torch.ones(1, 1, *SIZE, dtype=torch.bool)
    loss, points = losses.make(name, normalizer="pixels"), none(1)
    mask[..., :3] = False
    assert float(loss(logits, points, mask=mask)) == pytest.approx(float(loss(logits, points)), rel=1e-6)


@pytest.mark.parametrize("name", PIXEL)
def test_a_loss_is_linear_in_the_weight_of_a_point(name):
    # Weighting prediction and target alike, as microsoft's human-pose code does, would square it.
    logits, points = scene(torch.float64)
    values = [
        float(losses.make(name)(logits, with_(points, weight=torch.tensor([[w, 1.0], [1.0, 1.0]]))))
        for w in (0.0, 1.0, 2.0, 4.0)
    ]
    assert values[1] == pytest.approx(float(losses.make(name)(logits, points)), rel=1e-12)
    assert values[2] - values[1] == pytest.approx(values[1] - values[0], rel=1e-9)
    assert values[3] - values[1] == pytest.approx(3 * (values[1] - values[0]), rel=1e-9)
    assert values[1] > values[0]


@pytest.mark.parametrize("name", PIXEL)
def test_a_point_of_weight_0_is_charged_nowhere_but_still_one_of_those_divided_by(name):
    logits, points = scene(torch.float64)
    unweighed = with_(points, weight=torch.tensor([[0.0, 1.0], [1.0, 1.0]]))
    given = float(losses.make(name)(logits, unweighed))
    assert given * int(points.valid.sum()) == pytest.approx(float(losses.make(name)(logits, unweighed, normalizer=1)))
    if losses.make(name).width is None:  # its pixel alone
        mask = ~heatmaps.positives(points.where(unweighed.weight == 0), SIZE, CLASSES)
        left = losses.make(name)(logits, points, mask=mask, normalizer=int(points.valid.sum()))
        assert given == pytest.approx(float(left))


def test_where_points_overlap_the_nearer_ones_weight_decides():
    logits = torch.zeros(1, 1, *SIZE)
    points = Points.from_lists([([[2.0, 2.0], [5.0, 2.0]], [0, 0])])
    loss, weight = losses.make("soft-bce", normalizer=1.0), torch.tensor([[3.0, 1.0]])
    heat = heatmaps.render(points, SIZE, 1, 1.5)
    nearer = heatmaps.render(one(2.0, 2.0), SIZE, 1, 1.5) == heat
    factor = torch.where(nearer, 1 + heat * 2, 1.0)
    wanted = (loss.elementwise(logits, points) * factor).sum()
    assert float(loss(logits, with_(points, weight=weight))) == pytest.approx(float(wanted), rel=1e-6)


@pytest.mark.parametrize("name", ["distance-aware", "soft-bce", "mse", "quality-focal"])
def test_widths_of_each_point_are_those_of_the_dense_form(name):
    logits, points = scene()
    shapes = {
        "each": torch.tensor([[0.7, 2.5], [4.0, 1.0]]),
        "along axes": torch.tensor([[[0.7, 2.0], [2.5, 1.0]], [[4.0, 0.5], [1.0, 1.0]]]),
        "covariance": torch.tensor([[3.0, 1.2], [1.2, 1.0]]).expand(2, 2, 2, 2),
    }
    for sigma in shapes.values():
        loss, own = losses.make(name, normalizer=1.0), with_(points, sigma=sigma)
        heat = heatmaps.render(points, SIZE, CLASSES, sigma)
        positive = heatmaps.positives(points, SIZE, CLASSES)
        dense = loss.charge(logits.detach(), heat, positive)[0].sum()
        assert float(loss(logits, own)) == pytest.approx(float(dense), rel=1e-6)


@pytest.mark.parametrize("name", PIXEL)
def test_a_volume_is_summed_over_its_three_axes(name):
    size = (3, 5, 7)
    points = Points.from_lists([([[5.2, 3.0, 1.0], [6.4, 0.0, 2.3]], [0, 1]), ([[1.0, 4.0, 0.0]], [1])])
    logits = torch.randn(2, CLASSES, *size, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    loss = losses.make(name, normalizer=1.0)
    positives = heatmaps.positives(points, size, CLASSES)
    assert positives.nonzero().tolist() == [[0, 0, 1, 3, 5], [0, 1, 2, 0, 6], [1, 1, 0, 4, 1]]
    assert float(loss(logits, points)) == pytest.approx(float(loss.elementwise(logits, points).sum()), rel=1e-9)


@pytest.mark.parametrize("normalizer", [None, "image", "pixels", 7])
@pytest.mark.parametrize("name", PIXEL)
def test_the_dense_form_sums_to_the_loss_with_mask_weights_stride_and_normaliser(name, normalizer):
    logits, points = scene(torch.float64)
    points = with_(points, weight=torch.tensor([[2.0, 0.5], [3.0, 1.0]])).at_stride(1 / 4)
    mask = torch.ones(2, 1, *SIZE, dtype=torch.bool)
    mask[0, :, 2:4, 1:] = False
    loss, given = losses.make(name), {"mask": mask, "stride": 4, "normalizer": normalizer}
    value, dense = loss(logits, points, **given), loss.elementwise(logits, points, **given)
    assert dense.shape == logits.shape and (dense[~mask.expand_as(dense)] == 0).all()
    assert float(dense.sum()) == pytest.approx(float(value), rel=1e-12)
    slopes = (torch.autograd.grad(one, logits)[0] for one in (value, dense.sum()))
    assert torch.allclose(*slopes, rtol=1e-9, atol=1e-14)
    assert torch.allclose(dense.sum((1, 2, 3)), loss(logits, points, reduction="none", **given), rtol=1e-12)
    half = loss.elementwise(logits.to(torch.bfloat16), points, **given)
    assert half.dtype == torch.float32
    assert float(half.sum()) == pytest.approx(float(loss(logits.to(torch.bfloat16), points, **given)), rel=1e-5)
