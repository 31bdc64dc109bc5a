"""Predicted points against labelled ones: matching, precision and recall, average precision, localisation."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int64
from sklearn.metrics import roc_auc_score
from torch import Tensor

from falloff.heatmaps import check_positive
from falloff.points import Points


@dataclass(frozen=True)
class Match:
    """Which labelled point each prediction found.

    ``truth`` is the index of the labelled point, -1 for none, ``(B, M)``; ``distance`` is how far away it is in
    pixels, NaN for none, ``(B, M)``; ``found`` is True at labelled points that a prediction found, ``(B, N)``.
    """

    truth: Int64[Tensor, "batch predictions"]
    distance: Float[Tensor, "batch predictions"]
    found: Bool[Tensor, "batch points"]


@dataclass(frozen=True)
class Curve:
    """Precision and recall when all predictions scored at least ``threshold`` count, thresholds falling."""

    threshold: Float[Tensor, " steps"]
    precision: Float[Tensor, " steps"]
    recall: Float[Tensor, " steps"]


def match(predicted: Points, truth: Points, *, radius: float) -> Match:
    """Match predictions to labelled points, image by image and class by class, the best score first.

    Each prediction takes the nearest labelled point of its class, within ``radius``, that none before it took;
    a second prediction on the same point is therefore false.

    Args:
        predicted: points with ``score``.
        truth: labelled points of the same images.
        radius: largest distance of a match in pixels, above 0; a distance equal to it still matches.

    Raises:
        TypeError, ValueError: different numbers of images, no scores, or ``radius`` out of range.
    """
    _check(predicted, truth, radius)
    batch, count = predicted.label.shape
    distance = torch.linalg.vector_norm(
        predicted.xy[:, :, None].double() - truth.xy[:, None].double(), dim=-1
    )
    allowed = (
        predicted.valid[:, :, None] & truth.valid[:, None]
        & (predicted.label[:, :, None] == truth.label[:, None]) & (distance <= radius)
    )
    distance = torch.where(allowed, distance, torch.inf)
    matched = torch.full((batch, count), -1, dtype=torch.int64, device=distance.device)
    how_far = torch.full((batch, count), torch.nan, dtype=torch.float64, device=distance.device)
    found = torch.zeros_like(truth.valid)
    if truth.label.shape[1] == 0:
        return Match(matched, how_far, found)
    rank = torch.where(predicted.valid, predicted.score, -torch.inf).argsort(dim=1, descending=True, stable=True)
    images = torch.arange(batch, device=distance.device)
    for turn in rank.T:  # all images at once; each in its own order
        free = torch.where(found, torch.inf, distance[images, turn])
        nearest, which = free.min(dim=1)
        hit = torch.isfinite(nearest)
        matched[images, turn] = torch.where(hit, which, -1)
        how_far[images, turn] = torch.where(hit, nearest, torch.nan)
        found[images, which] |= hit
    return Match(matched, how_far, found)


def precision_recall(predicted: Points, truth: Points, *, radius: float, label: int | None = None) -> Curve:
    """Precision and recall over all images, at each distinct score.

    Args:
        predicted, truth, radius: as for :func:`match`.
        label: count the points of this class only; None counts all together.

    Raises:
        ValueError: as for :func:`match`; no labelled point to find, so that recall is undefined.
    """
    return _curve(predicted, truth, match(predicted, truth, radius=radius), label)


def average_precision(predicted: Points, truth: Points, *, radius: float) -> float:
    """Mean over classes of the area under the precision-recall curve, in [0, 1].

    Precision is first made monotone (at each recall, the best precision at that recall or a higher one), then
    summed exactly over the steps of recall, without a fixed set of recall points. Predictions of equal score
    enter together. Classes that no labelled point has do not count.

    Args and errors: as for :func:`precision_recall`.

    Source: the definition of Pascal VOC from 2010 on, with a distance in place of an overlap.
    """
    by_class = per_class_average_precision(predicted, truth, radius=radius)
    return sum(by_class.values()) / len(by_class)


def f1(predicted: Points, truth: Points, *, radius: float) -> float:
    """Harmonic mean of precision and recall of all valid predictions together, in [0, 1].

    Args and errors: as for :func:`match`. Filter by score with ``predicted.above(threshold)`` first. Without any
    prediction and any labelled point it is 1: there was nothing to find and nothing was claimed.
    """
    hits = int(match(predicted, truth, radius=radius).found.sum())
    total = int(predicted.valid.sum()) + int(truth.valid.sum())
    return 1.0 if total == 0 else 2.0 * hits / total


def best_threshold(predicted: Points, truth: Points, *, radius: float) -> float:
    """The score that as a threshold gives the highest F1 over all classes together.

    Args and errors: as for :func:`precision_recall`. Choose it on validation data, use it on test data.
    """
    curve = precision_recall(predicted, truth, radius=radius)
    if len(curve.threshold) == 0:
        return 0.0
    score = 2 * curve.precision * curve.recall / (curve.precision + curve.recall).clamp(min=1e-12)
    return float(curve.threshold[score.argmax()])


def localisation_error(predicted: Points, truth: Points, *, radius: float) -> float:
    """Mean distance in pixels between matched predictions and their labelled points; NaN when none matched.

    Args and errors: as for :func:`match`. It says nothing of the points that were missed: read it beside recall.
    """
    return float(torch.nanmean(match(predicted, truth, radius=radius).distance))


def per_class_average_precision(predicted: Points, truth: Points, *, radius: float) -> dict[int, float]:
    """The average precision of each class that has a labelled point, by label; :func:`average_precision` is its mean.

    Args and errors: as for :func:`precision_recall`.
    """
    matched = match(predicted, truth, radius=radius)
    labels = torch.unique(truth.label[truth.valid]).tolist()
    if not labels:
        raise ValueError("truth holds no valid point: average precision is undefined")
    return {label: _area(_curve(predicted, truth, matched, label)) for label in labels}


@dataclass(frozen=True)
class Reliability:
    """Of the predictions in each bin of scores: how many, their mean score, and the share that found a point.

    Bins that hold no prediction have NaN for both means. ``error`` is the expected calibration error, the mean of
    \\|score - share\\| over predictions.
    """

    count: Int64[Tensor, " bins"]
    score: Float[Tensor, " bins"]
    share: Float[Tensor, " bins"]
    error: float


def reliability(predicted: Points, truth: Points, *, radius: float, bins: int = 10) -> Reliability:
    """Whether a score can be read as the probability that a point lies there.

    Args:
        predicted: points with ``score``; scores outside [0, 1] count in the outermost bins.
        truth: labelled points of the same images.
        radius: as for :func:`match`.
        bins: of equal width over [0, 1], above 0.

    Raises:
        ValueError: as for :func:`match`; ``bins`` out of range.

    Source: the expected calibration error of Guo et al. 2017, section 2, applied to peaks.
    """
    if not isinstance(bins, int) or isinstance(bins, bool) or bins < 1:
        raise ValueError(f"bins must be an integer above 0, got {bins!r}")
    hit = (match(predicted, truth, radius=radius).truth >= 0)[predicted.valid].double()
    score = predicted.score[predicted.valid].double()
    which = (score * bins).long().clamp(0, bins - 1)
    zero = torch.zeros(bins, dtype=torch.float64, device=score.device)
    count = zero.index_add(0, which, torch.ones_like(score))
    mean_score = zero.index_add(0, which, score) / count
    share = zero.index_add(0, which, hit) / count
    gap = torch.where(count > 0, (mean_score - share).abs() * count, 0.0).sum()
    return Reliability(count.long(), mean_score, share, float(gap / count.sum().clamp(min=1)))


def presence_auroc(scores: Float[Tensor, "batch classes height width"], truth: Points) -> float:
    """How well the highest score of a map tells whether its class is in the picture at all, in [0, 1]; 0.5 is chance.

    The area under the ROC curve over all (image, class) pairs; NaN when every class is in every image, or none in any.
    """
    present = torch.zeros(scores.shape[:2], dtype=torch.uint8, device=scores.device)
    present.scatter_reduce_(1, truth.label, truth.valid.to(torch.uint8), reduce="amax")
    if present.min() == present.max():
        return float("nan")
    return float(roc_auc_score(present.flatten().cpu(), scores.amax((2, 3)).flatten().float().cpu()))


def _curve(predicted: Points, truth: Points, matched: Match, label: int | None) -> Curve:
    chosen, wanted = predicted.valid, truth.valid
    if label is not None:
        chosen, wanted = chosen & (predicted.label == label), wanted & (truth.label == label)
    total = int(wanted.sum())
    if total == 0:
        which = "" if label is None else f" of label {label}"
        raise ValueError(f"truth holds no valid point{which}: recall is undefined")
    score, order = predicted.score[chosen].double().sort(descending=True, stable=True)
    hit = (matched.truth[chosen][order] >= 0).double().cumsum(0)
    claimed = torch.arange(1, len(score) + 1, dtype=torch.float64, device=score.device)
    # A threshold takes all predictions of one score or none: keep the last of each run of equal scores.
    last = torch.ones_like(score, dtype=torch.bool)
    last[:-1] = score[1:] != score[:-1]
    return Curve(score[last], (hit / claimed)[last], (hit / total)[last])


def _area(curve: Curve) -> float:
    best_from_here = curve.precision.flip(0).cummax(0).values.flip(0) if len(curve.precision) else curve.precision
    gained = torch.diff(curve.recall, prepend=curve.recall.new_zeros(1))
    return float((best_from_here * gained).sum())


def _check(predicted: Points, truth: Points, radius: float) -> None:
    for name, points in (("predicted", predicted), ("truth", truth)):
        if not isinstance(points, Points):
            raise TypeError(f"{name} must be falloff.points.Points, got {type(points).__name__}")
    if predicted.score is None:
        raise ValueError("predicted carries no score: metrics need to know which prediction comes first")
    if len(predicted) != len(truth):
        raise ValueError(f"predicted holds {len(predicted)} images, truth {len(truth)}: the two must be equal")
    check_positive("radius", radius)
