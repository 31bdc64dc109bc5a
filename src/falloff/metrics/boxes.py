"""Boxes around points, which ``extra["size"]`` carries."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

from falloff.metrics.matching import check_extra
from falloff.points import Points


def iou(predicted: Points, truth: Points) -> Float[Tensor, "batch predictions points"]:
    r"""1 - IoU of each predicted box with each labelled one, a distance in [0, 1] for :func:`match`, ``(B, M, N)``.

    .. math:: 1 - \frac{|A \cap B|}{|A \cup B|}

    A box is centred at ``xy`` with ``extra["size"]``, its (width, height) in pixels, ``(B, N, 2)`` (in a volume
    (width, height, depth)). NaN between two boxes without area, which then never match. As a box must overlap to
    match, a radius is below 1: 0.5 asks for an IoU of at least 0.5.

    Raises:
        ValueError: points without ``extra["size"]``.

    Source: Everingham et al. 2010, The Pascal visual object classes (VOC) challenge, section 4.2.
    """
    edges, areas = [], []
    for name, points in (("predicted", predicted), ("truth", truth)):
        check_extra(name, points, "size")
        size = points.extra["size"].double()
        edges.append((points.xy.double() - size / 2, points.xy.double() + size / 2))
        areas.append(size.prod(-1))
    (low, high), (other_low, other_high) = edges
    low = torch.maximum(low[:, :, None], other_low[:, None])
    high = torch.minimum(high[:, :, None], other_high[:, None])
    overlap = (high - low).clamp(min=0).prod(-1)
    return 1 - overlap / (areas[0][:, :, None] + areas[1][:, None] - overlap)
