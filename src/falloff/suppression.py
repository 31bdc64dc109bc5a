"""Predictions that a better one of another class makes unlikely."""

from __future__ import annotations

import torch
from jaxtyping import Bool
from torch import Tensor

from falloff.checks import check_positive
from falloff.points import Points


def between_classes(points: Points, radius: float) -> Points:
    """The points without each that lies within ``radius`` pixels of a better one, of whatever class.

    Greedily from the best score down, as one object is one class: what was left out leaves out nothing. Of equal scores
    the first comes first. Decoders that suppress neighbours in each map alone leave the second name of an object, at
    almost the same place, as a false alarm.

    Args:
        points: ``(B, N)``, with scores.
        radius: above 0, in pixels; a distance of just so many is within.

    Raises:
        ValueError: no scores, a radius that is not above 0.
    """
    check_positive("radius", radius)
    if points.score is None:
        raise ValueError("points must have scores: the better one of two stays")
    order = points.score.where(points.valid, -torch.inf).argsort(dim=1, descending=True, stable=True)
    xy, valid = points.xy.gather(1, order[..., None].expand_as(points.xy)), points.valid.gather(1, order)
    near = torch.cdist(xy, xy) <= radius
    kept = _greedy(near, valid)
    return points.where(torch.zeros_like(kept).scatter(1, order, kept))


def _greedy(near: Bool[Tensor, "batch points points"], valid: Bool[Tensor, "batch points"]
            ) -> Bool[Tensor, "batch points"]:
    """Which of the points, best first, are near none that is kept before them."""
    kept = valid.clone()
    for slot in range(1, valid.shape[1]):
        kept[:, slot] &= ~(near[:, slot, :slot] & kept[:, :slot]).any(dim=1)
    return kept
