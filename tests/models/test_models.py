import re

import pytest
from torch import nn

from falloff import models


class Flat(nn.Module):
    """A net outside the package, with an option of its own."""

    stride = 2

    def __init__(self, channels, outputs, width, depth=1):
        super().__init__()
        self.depth = depth


def test_a_net_outside_the_package_is_named_by_its_module_and_takes_its_own_options():
    net = models.make(f"{__name__}:Flat", channels=1, outputs={"maps": 2}, width=4, depth=3)
    assert isinstance(net, Flat) and net.depth == 3 and net.stride == 2


@pytest.mark.parametrize(
    ("name", "changed", "named"),
    [
        ("vnet", {}, "no model is named 'vnet' (did you mean 'unet'?); known: unet"),
        ("unet", {"depth": 3}, "model 'unet' has no option 'depth'"),
        (f"{__name__}:Flat", {"dept": 3}, "has no option 'dept' (did you mean 'depth'?); it has: depth"),
        ("unet", {"channels": 0}, "channels must be an integer above 0, got 0"),
        ("unet", {"width": True}, "width must be an integer above 0, got True"),
        ("unet", {"outputs": {"maps": 0}}, "outputs['maps'] must be an integer above 0, got 0"),
    ],
)
@pytest.mark.bad_input
def test_what_no_net_has_is_named(name, changed, named):
    with pytest.raises(ValueError, match=re.escape(named)):
        models.make(name, **{"channels": 1, "outputs": {"maps": 1}, "width": 1, **changed})
