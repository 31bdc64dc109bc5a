"""Points of each image in the fewest slots that hold them."""

from __future__ import annotations

import torch

from falloff.points import Points


def without_gaps(points: Points) -> Points:
    """The same points in the first slots of each image, in their order; as few slots as hold them, at least one."""
    most = max(1, int(points.valid.sum(1).max()))
    order = (~points.valid).to(torch.uint8).argsort(dim=1, stable=True)[:, :most]
    image = torch.arange(len(points))[:, None]
    return Points(points.xy[image, order], points.label[image, order], points.valid[image, order],
                  extra={name: part[image, order] for name, part in points.extra.items()})
