import pytest
import torch

from falloff import models


@pytest.mark.parametrize(("height", "width"), [(16, 16), (17, 23), (9, 8), (64, 40)])
def test_every_output_has_its_maps_with_one_number_per_pixel(height, width):
    net = models.make("unet", channels=3, outputs={"maps": 5, "offsets": 2}, width=2).eval()
    found = net(torch.rand(2, 3, height, width))
    assert net.stride == 1
    assert {name: maps.shape for name, maps in found.items()} == {
        "maps": (2, 5, height, width), "offsets": (2, 2, height, width)
    }


def test_another_output_moves_no_weight_of_the_first():
    nets = []
    for outputs in ({"maps": 3}, {"maps": 3, "offsets": 2}):
        torch.manual_seed(0)
        nets.append(models.make("unet", channels=1, outputs=outputs, width=2))
    both = nets[1].state_dict()
    assert all(torch.equal(value, both[name]) for name, value in nets[0].state_dict().items())


def test_the_nets_pixels_are_in_place():
    # The gradient of one logit is strongest near its own pixel: no block of pixels is shuffled.
    torch.manual_seed(0)
    net = models.make("unet", channels=1, outputs={"maps": 1}, width=16).eval()
    for row, column in ((10, 21), (11, 20)):
        image = torch.rand(8, 1, 32, 32, requires_grad=True)
        net(image)["maps"][:, 0, row, column].sum().backward()
        strength = image.grad.abs().sum((0, 1))
        weight = strength / strength.sum()
        assert float((weight.sum(1) * torch.arange(32.0)).sum()) == pytest.approx(row, abs=2)
        assert float((weight.sum(0) * torch.arange(32.0)).sum()) == pytest.approx(column, abs=2)
