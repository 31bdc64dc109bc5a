"""A small U-Net with maps of one number per pixel."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.functional import interpolate, max_pool2d, pad, pixel_shuffle, pixel_unshuffle


class UNet(nn.Module):
    """A U-Net of three scales whose finest works at half resolution: one number per map and pixel.

    Each 2 x 2 block of pixels enters as channels, and leaves the same way: a last layer puts out four numbers per map,
    one for each pixel of the block. So every pixel gets its own while no layer runs at full resolution.

    Args:
        channels: of the images.
        outputs: how many maps are put out under each name; each has a last layer of its own in ``heads``.
        width: features at half resolution; four times as many at a quarter and at an eighth.

    Source: Ronneberger et al. 2015, smaller, with batch normalisation and the sub-pixel layer of Shi et al. 2016.
    """

    stride = 1

    def __init__(self, channels: int, outputs: Mapping[str, int], width: int) -> None:
        super().__init__()
        self.enter = _layer(4 * channels, width)
        self.down_quarter = nn.Sequential(_layer(width, 4 * width), _layer(4 * width, 4 * width))
        self.down_eighth = nn.Sequential(_layer(4 * width, 4 * width), _layer(4 * width, 4 * width))
        self.up_quarter = _layer(8 * width, 2 * width)
        self.up_half = _layer(3 * width, 2 * width)
        self.heads = nn.ModuleDict({name: nn.Conv2d(2 * width, 4 * maps, 1) for name, maps in outputs.items()})

    def forward(
        self, images: Float[Tensor, "batch channels height width"]
    ) -> dict[str, Float[Tensor, "batch maps height width"]]:
        height, width = images.shape[2:]
        if height % 8 or width % 8:
            images = pad(images, (0, -width % 8, 0, -height % 8), mode="replicate")
        half = self.enter(pixel_unshuffle(images, 2))
        quarter = self.down_quarter(max_pool2d(half, 2))
        up = self.down_eighth(max_pool2d(quarter, 2))
        for skip, layer in ((quarter, self.up_quarter), (half, self.up_half)):
            up = layer(torch.cat([interpolate(up, scale_factor=2.0), skip], dim=1))
        # In bfloat16 neighbouring logits would often be equal: where the peak lies is then lost.
        with torch.autocast(images.device.type, enabled=False):
            up = up.float()
            return {name: pixel_shuffle(head(up), 2)[..., :height, :width].contiguous()
                    for name, head in self.heads.items()}


def _layer(inputs: int, outputs: int) -> nn.Sequential:
    convolution = nn.Conv2d(inputs, outputs, 3, padding=1, bias=False)
    return nn.Sequential(convolution, nn.BatchNorm2d(outputs), nn.ReLU(inplace=True))
