from dataclasses import replace

import pytest
import torch

from falloff import losses, systems
from falloff.points import Points

TASK = systems.Task(1, (16, 16), 2, Points.from_lists([([[3.0, 4.0]], [1]), ([], [])]))


def test_a_system_has_a_start_of_its_own_where_none_is_given():
    loss = losses.make("focal")
    system = systems.make("heatmap", TASK, width=4, loss=loss).eval()
    maps = system(torch.zeros(1, 1, 16, 16))["maps"]
    assert maps.shape == (1, 2, 16, 16)
    assert abs(float(maps.mean()) - losses.best_constant(loss, TASK.points, (16, 16), 2)) < 0.1


def test_a_start_knows_stride_and_what_lies_beside_the_pictures():
    mask = torch.zeros(2, 1, 16, 16, dtype=torch.bool)
    mask[0, :, :9, :12] = mask[1, :, :6] = True
    for given, pixels in ((None, 2 * 2 * 16 * 16), (mask, 2 * (9 * 12 + 6 * 16))):
        task = replace(TASK, mask=given)
        system = systems.make("heatmap", task, width=4, loss=losses.make("bce"), head_std=0.0)
        maps = system(torch.zeros(1, 1, 16, 16))["maps"]
        assert torch.allclose(maps, torch.full_like(maps, losses.prior_bias(1 / pixels)), atol=1e-4)


@pytest.mark.parametrize(
    ("given", "named"),
    [
        ({"name": "heatmaps"}, r"no system is named 'heatmaps' \(did you mean 'heatmap'"),
        ({"strid": 2}, "system 'heatmap' has no option 'strid'"),
        ({"loss": None}, "system 'heatmap' needs loss, got none"),
        ({"model": "unets"}, r"no model is named 'unets' \(did you mean 'unet'"),
        ({"model_options": {"depth": 3}}, "model 'unet' has no option 'depth'"),
        ({"width": 0}, "width must be an integer above 0"),
    ],
)
def test_what_cannot_be_made_is_named(given, named):
    with pytest.raises(ValueError, match=named):
        systems.make(**{"name": "heatmap", "task": TASK, "width": 4, "loss": losses.make("bce"), **given})


@pytest.mark.parametrize("stride", [1, 2, 4])
def test_what_lies_beside_a_picture_asks_nothing_of_the_maps(stride):
    mask = torch.zeros(2, 1, 16, 16, dtype=torch.bool)
    mask[0, :, :9, :12] = mask[1] = True
    system, size = systems.make("heatmap", TASK, width=4, loss=losses.make("focal")), 16 // stride
    system.net.stride = stride
    maps = torch.randn(2, TASK.classes, size, size, requires_grad=True)
    points = Points.from_lists([([[11.5, 8.5]], [0]), ([[15, 15]], [1])])
    sum(system.loss(systems.Outputs({"maps": maps}, (16, 16)), points, mask).values()).backward()
    inside = torch.zeros(2, 1, size, size, dtype=torch.bool)
    inside[0, :, : -(-9 // stride), : -(-12 // stride)] = inside[1] = True
    assert torch.equal(maps.grad != 0, inside.expand_as(maps))
