"""What score maps say before any point is read from them.

``stride`` is how many pixels of the image lie along a pixel of the maps, for points in pixels of the image, as in a
call of :class:`falloff.losses.PointLoss`; a mask counts pixels of the maps. Each raises TypeError or ValueError where
the scores are no floating point maps of as many images as the points have, hold NaN where it reads them, or have no
place for a point or its label, or where the stride is no number above 0.
"""

from __future__ import annotations

import math

import torch
from jaxtyping import Bool, Float
from sklearn.metrics import roc_auc_score
from torch import Tensor

from falloff import heatmaps
from falloff.metrics.matching import check_labels
from falloff.points import Points

Scores = Float[Tensor, "batch classes height width"]
Mask = Bool[Tensor, "batch 1 height width"]


def presence_auroc(scores: Scores, truth: Points, *, mask: Mask | None = None, stride: int | float = 1) -> float:
    """How well the highest score of a map tells whether its class is in the picture at all, in [0, 1]; 0.5 is chance.

    The area under the ROC curve over all (image, class) pairs; NaN when every class is in every image, or none in any.
    Pixels where ``mask`` is False do not count.
    """
    return presence_auroc_of(*presence(scores, truth, mask=mask, stride=stride))


def presence(
    scores: Scores, truth: Points, *, mask: Mask | None = None, stride: int | float = 1
) -> tuple[Float[Tensor, "batch classes"], Bool[Tensor, "batch classes"]]:
    """The highest score of each map, and whether the picture has a point of its class, ``(B, C)`` each.

    Pixels where ``mask`` is False do not count; where none does, the highest score is that of -inf.
    """
    scores, truth = _checked(scores, truth, stride, mask)
    present = torch.zeros(scores.shape[:2], dtype=torch.bool, device=scores.device)
    image, point = truth.valid.nonzero(as_tuple=True)
    present[image, truth.label[image, point]] = True
    if mask is not None:
        scores = scores.masked_fill(~mask, -torch.inf)
    highest = scores.flatten(2).amax(2)
    _refuse_nan(highest)
    return highest, present


def presence_auroc_of(highest: Float[Tensor, "batch classes"], present: Bool[Tensor, "batch classes"]) -> float:
    """:func:`presence_auroc` of what :func:`presence` gives."""
    if bool(present.all()) or not bool(present.any()):
        return math.nan
    _, place = highest.unique(return_inverse=True)  # their order is all that counts, and has no infinity
    return float(roc_auc_score(present.flatten().cpu(), place.flatten().cpu()))


def expected_counts(
    scores: Scores, truth: Points, *, mask: Mask | None = None, stride: int | float = 1
) -> tuple[Float[Tensor, "batch classes"], Float[Tensor, "batch classes"]]:
    """How many labelled pixels each map expects, the sum of its scores clamped to [0, 1], and how many it has.

    ``(B, C)`` each. Of maps whose scores are a pixel's probability of being the nearest one to a point, the two agree
    on average. Two points on one pixel count once. Pixels where ``mask`` is False do not count.
    """
    scores, truth = _checked(scores, truth, stride, mask)
    pixels = torch.stack(_pixels(scores, truth)).unique(dim=1)
    if mask is not None:
        pixels = pixels[:, mask[(pixels[0], 0, *pixels[2:])]]
    counts = (pixels[0] * scores.shape[1] + pixels[1]).bincount(minlength=scores.shape[0] * scores.shape[1])
    sums = torch.zeros(scores.shape[:2], dtype=torch.float64, device=scores.device)
    for image, maps in enumerate(scores):  # one by one they stay in the processor's cache
        kept = maps if mask is None else maps.where(mask[image], 0.0)
        sums[image] = kept.clamp(0, 1).flatten(1).sum(1)
    _refuse_nan(sums)
    return sums, counts.view(sums.shape).double()


def class_accuracy(scores: Scores, truth: Points, *, stride: int | float = 1) -> float:
    """Share of labelled points at whose nearest pixel the map of their own class is the highest, in [0, 1].

    NaN without points.
    """
    scores, truth = _checked(scores, truth, stride)
    image, label, *pixel = _pixels(scores, truth)
    there = scores.movedim(1, -1)[(image, *pixel)]
    _refuse_nan(there, image)
    return float((there.argmax(-1) == label).double().mean())


def mean_scores(
    scores: Scores, truth: Points, *, mask: Mask | None = None, stride: int | float = 1
) -> tuple[float, float]:
    """Mean score at the pixels nearest to points, each in the map of its class, and at all others.

    NaN where there is no such pixel. Pixels where ``mask`` is False do not count.
    """
    scores, truth = _checked(scores, truth, stride, mask)
    index = torch.zeros_like(truth.label[truth.valid])
    for axis, length in zip(_pixels(scores, truth), scores.shape, strict=True):
        index = index * length + axis
    index, every = index.unique(), scores.numel()
    if mask is not None:
        mask = mask.expand_as(scores)
        index, every, scores = index[mask.flatten()[index]], int(mask.sum()), scores.masked_fill(~mask, 0.0)
    at_points, total = scores.flatten()[index], float(scores.sum())
    if math.isnan(total):
        _refuse_nan(scores)
    labelled = len(at_points)
    others = every - labelled
    at_sum = float(at_points.sum())
    return at_sum / labelled if labelled else math.nan, (total - at_sum) / others if others else math.nan


def _checked(scores: Tensor, truth: Points, stride: int | float, mask: Tensor | None = None) -> tuple[Tensor, Points]:
    """The scores without the graph of the net that gave them, and the points on them, if each has a place there."""
    if not isinstance(scores, Tensor) or not scores.is_floating_point():
        raise TypeError("scores must be a floating point tensor")
    if not isinstance(truth, Points):
        raise TypeError(f"truth must be falloff.points.Points, got {type(truth).__name__}")
    if scores.ndim < 3:
        raise ValueError(f"scores must have shape (batch, classes, height, width), got {tuple(scores.shape)}")
    if len(scores) != len(truth):
        raise ValueError(f"scores holds {len(scores)} images, truth {len(truth)}: the two must be equal")
    shape = (len(scores), 1, *scores.shape[2:])
    if mask is not None and not (isinstance(mask, Tensor) and mask.dtype == torch.bool and mask.shape == shape):
        got = f"{mask.dtype} {tuple(mask.shape)}" if isinstance(mask, Tensor) else type(mask).__name__
        raise ValueError(f"mask must be bool {shape}, got {got}")
    check_labels("truth", truth, scores.shape[1])
    return scores.detach(), heatmaps.placed(truth, tuple(scores.shape[2:]), scores.shape[1], stride)


def _pixels(scores: Tensor, truth: Points) -> list[Tensor]:
    """Image, class, row and column of the pixel nearest to each valid point, ``(P,)`` each."""
    image, point = truth.valid.nonzero(as_tuple=True)
    along = zip(truth.xy[image, point].unbind(-1), scores.shape[:1:-1], strict=True)  # x, then y
    return [image, truth.label[image, point], *reversed([heatmaps.nearest_pixel(x, length) for x, length in along])]


def _refuse_nan(scores: Tensor, image: Tensor | None = None) -> None:
    """Raise where NaN is among scores whose first axis are images, or things in the images that are given."""
    bad = torch.isnan(scores).nonzero()[:, 0]
    if len(bad):
        raise ValueError(f"scores hold NaN in image {int(bad[0] if image is None else image[bad[0]])}")
