"""A stacked hourglass in small: each stage puts out maps at half resolution, and looks at those of the one before."""

from collections.abc import Mapping

import torch
from torch import Tensor, nn
from torch.nn.functional import interpolate, max_pool2d


class Hourglass(nn.Module):
    """Maps of every stage, the last one's last.

    Args:
        channels: of the images.
        outputs: how many maps each stage puts out, by name.
        width: features.
        stages: hourglasses in a row.

    Source: Newell et al. 2016, in small.
    """

    stride = 2

    def __init__(self, channels: int, outputs: Mapping[str, int], width: int, stages: int = 2) -> None:
        super().__init__()
        self.enter = nn.Conv2d(channels, width, 3, stride=2, padding=1)
        self.down = nn.ModuleList(nn.Conv2d(width, width, 3, padding=1) for _ in range(stages))
        self.up = nn.ModuleList(nn.Conv2d(2 * width, width, 3, padding=1) for _ in range(stages))
        self.heads = nn.ModuleDict({
            f"{name}, stage {stage + 1}": nn.Conv2d(width, maps, 1)
            for stage in range(stages) for name, maps in outputs.items()
        })
        self.back = nn.ModuleList(nn.Conv2d(sum(outputs.values()), width, 1) for _ in range(stages))

    def forward(self, images: Tensor) -> dict[str, Tensor]:
        x, found = torch.relu(self.enter(images)), {}
        for stage, (down, up, back) in enumerate(zip(self.down, self.up, self.back, strict=True), start=1):
            small = torch.relu(down(max_pool2d(x, 2, ceil_mode=True)))
            y = torch.relu(up(torch.cat([x, interpolate(small, size=x.shape[2:])], dim=1)))
            mine = {name: head(y) for name, head in self.heads.items() if name.endswith(f"stage {stage}")}
            found |= mine
            x = x + y + back(torch.cat(list(mine.values()), dim=1))
        return found
