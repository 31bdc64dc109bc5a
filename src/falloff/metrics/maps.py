"""What score maps say before any point is read from them; points count pixels of the maps."""

from __future__ import annotations

import math

import torch
from jaxtyping import Bool, Float
from sklearn.metrics import roc_auc_score
from torch import Tensor

from falloff import heatmaps
from falloff.points import Points

Scores = Float[Tensor, "batch classes height width"]
Mask = Bool[Tensor, "batch 1 height width"]


def presence_auroc(scores: Scores, truth: Points, *, mask: Mask | None = None) -> float:
    """How well the highest score of a map tells whether its class is in the picture at all, in [0, 1]; 0.5 is chance.

    The area under the ROC curve over all (image, class) pairs; NaN when every class is in every image, or none in any.
    Pixels where ``mask`` is False do not count.
    """
    present = torch.zeros(scores.shape[:2], dtype=torch.uint8, device=scores.device)
    present.scatter_reduce_(1, truth.label, truth.valid.to(torch.uint8), reduce="amax")
    if present.min() == present.max():
        return float("nan")
    if mask is not None:
        scores = scores.masked_fill(~mask, torch.finfo(scores.dtype).min)
    return float(roc_auc_score(present.flatten().cpu(), scores.amax((2, 3)).flatten().float().cpu()))


def class_accuracy(scores: Scores, truth: Points) -> float:
    """Share of labelled points at whose nearest pixel the map of their own class is the highest, in [0, 1].

    NaN without points.
    """
    height, width = scores.shape[2:]
    rows = heatmaps.nearest_pixel(truth.xy[..., 1], height)
    columns = heatmaps.nearest_pixel(truth.xy[..., 0], width)
    image = torch.arange(len(truth), device=scores.device)[:, None]
    best = scores[image, :, rows, columns].argmax(-1)
    return float((best == truth.label)[truth.valid].double().mean())


def mean_scores(scores: Scores, truth: Points, *, mask: Mask | None = None) -> tuple[float, float]:
    """Mean score at the pixels nearest to points, each in the map of its class, and at all others.

    NaN where there is no such pixel. Pixels where ``mask`` is False do not count.

    Raises:
        ValueError: a point outside the maps, or of a class that has none.
    """
    at_points = heatmaps.positives(truth, scores.shape[2:], scores.shape[1])
    if mask is not None:
        at_points, scores = (kept[mask.expand_as(scores)] for kept in (at_points, scores))
    at_sum, labelled = float(scores[at_points].sum()), int(at_points.sum())
    others = scores.numel() - labelled
    return (at_sum / labelled if labelled else math.nan,
            (float(scores.sum()) - at_sum) / others if others else math.nan)
