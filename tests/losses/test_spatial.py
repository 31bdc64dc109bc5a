"""Losses of each map's spatial softmax."""

import math

import pytest
import torch
from family import SIZE
from scenes import one

from falloff import heatmaps, losses
from falloff.points import Points


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


def test_dsnt_refuses_two_points_of_a_class():
    points = Points.from_lists([([[1.0, 1.0], [2.0, 2.0]], [0, 0])])
    with pytest.raises(ValueError, match="dsnt needs at most one point of each class in an image; one image has 2"):
        losses.make("dsnt")(torch.zeros(1, 1, *SIZE), points)


@pytest.mark.graphs
def test_a_compiled_dsnt_leaves_out_the_maps_of_several_points():
    points = Points.from_lists([([[1.0, 1.0], [2.0, 2.0], [5.0, 3.0]], [0, 0, 1]), ([[6.0, 1.0]], [0])])
    logits = torch.randn(2, 2, *SIZE, generator=torch.Generator().manual_seed(0))
    loss = losses.make("dsnt")
    step = torch.compile(lambda x, points: loss(x, points), fullgraph=True, backend="aot_eager")
    alone = points.where(torch.tensor([[False, False, True], [True, False, False]]))
    assert float(step(logits, points)) == pytest.approx(float(loss(logits, alone)), rel=1e-6)
