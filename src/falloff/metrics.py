"""Predicted points against labelled ones: matching, average precision, localisation, key points, calibration."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Literal, get_args

import torch
from jaxtyping import Bool, Float, Int64
from scipy.optimize import linear_sum_assignment
from sklearn.metrics import roc_auc_score
from torch import Tensor
from torch.nn.functional import pad

from falloff.heatmaps import check_positive
from falloff.points import Extent, Points

Method = Literal["greedy", "hungarian"]


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


def match(predicted: Points, truth: Points, *, radius: float, method: Method = "greedy") -> Match:
    """Match predictions to labelled points, image by image and class by class, each to at most one of the other.

    "greedy" takes the best score first: each prediction gets the nearest labelled point of its class, within
    ``radius``, that none before it took; of equal scores the earlier in the tensor goes first. "hungarian" does not
    look at scores: of all ways to match within ``radius`` it takes one with the most matches and, among those, the
    least total distance. Either way a second prediction on the same point is false.

    Args:
        predicted: points with ``score``.
        truth: labelled points of the same images.
        radius: largest distance of a match in pixels, above 0; a distance equal to it still matches.
        method: "greedy", which average precision is defined by, or "hungarian".

    Raises:
        TypeError, ValueError: different numbers of images or of coordinates, no scores, ``radius`` out of range, or
            a ``method`` of another name.

    Source: Kuhn 1955, The Hungarian method for the assignment problem.
    """
    _check(predicted, truth, radius)
    if method not in get_args(Method):
        raise ValueError(f"method must be one of {', '.join(get_args(Method))}, got {method!r}")
    distance = _distances(predicted, truth, radius=radius)
    which = _greedy(distance, _best_first(predicted)) if method == "greedy" else _hungarian(distance)
    # One column more, in front, answers for "none".
    how_far = pad(distance, (1, 0), value=torch.nan).gather(2, which[:, :, None] + 1)[:, :, 0]
    found = pad(torch.zeros_like(truth.valid), (1, 0)).scatter(1, which + 1, True)[:, 1:]
    return Match(which, how_far, found)


def duplicates(predicted: Points, truth: Points, *, radius: float) -> int:
    """How many predictions lie within ``radius`` of a labelled point of their class that another prediction took.

    These are the false predictions that a stronger suppression of neighbours could have removed; all other false
    ones have no labelled point of their class near them.

    Args and errors: as for :func:`match`, which is greedy here.
    """
    unmatched = match(predicted, truth, radius=radius).truth < 0
    near = torch.isfinite(_distances(predicted, truth, radius=radius)).any(dim=2)
    return int((near & unmatched).sum())


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


def against_radius(
    metric: Callable[..., float], predicted: Points, truth: Points, *, radii: Sequence[float]
) -> list[float]:
    """A metric at each of several radii, such as :func:`average_precision` or :func:`f1`, in the order of ``radii``.

    Args:
        metric: called as ``metric(predicted, truth, radius=radius)``.
        predicted, truth: as for :func:`match`.
        radii: in pixels, each finite and above 0.

    Raises:
        TypeError, ValueError: a radius is not a number or out of range, before anything is computed; what ``metric``
            raises.
    """
    if not isinstance(radii, Sequence):
        raise TypeError(f"radii must be a sequence of numbers, got {radii!r}")
    for radius in radii:
        check_positive("each of radii", radius)
    return [float(metric(predicted, truth, radius=radius)) for radius in radii]


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
    _check_count("bins", bins)
    score, hit = _scores_and_hits(predicted, truth, radius)
    which = (score * bins).long().clamp(0, bins - 1)
    zero = torch.zeros(bins, dtype=torch.float64, device=score.device)
    count = zero.index_add(0, which, torch.ones_like(score))
    mean_score = zero.index_add(0, which, score) / count
    share = zero.index_add(0, which, hit) / count
    gap = torch.where(count > 0, (mean_score - share).abs() * count, 0.0).sum()
    return Reliability(count.long(), mean_score, share, float(gap / count.sum().clamp(min=1)))


def brier(predicted: Points, truth: Points, *, radius: float) -> float:
    r"""Mean squared difference between a prediction's score and whether it found a point, in [0, 1]; 0 is best.

    .. math:: \frac{1}{M} \sum_{m=1}^{M} (p_m - h_m)^2

    over the M valid predictions, with :math:`p_m` the score and :math:`h_m` 1 where :func:`match` gave the prediction
    a labelled point, else 0. NaN without predictions. Points that were missed do not count: read it beside recall.

    Args:
        predicted: points with ``score`` in [0, 1].
        truth, radius: as for :func:`match`.

    Raises:
        TypeError, ValueError: as for :func:`match`; a score outside [0, 1].

    Source: Brier 1950, Verification of forecasts expressed in terms of probability, for one of two outcomes.
    """
    score, hit = _scores_and_hits(predicted, truth, radius)
    outside = score[(score < 0) | (score > 1)]
    if len(outside):
        raise ValueError(f"predicted must have scores in [0, 1] to be read as probabilities, got {float(outside[0])}")
    return float((score - hit).square().mean())


def confusion(predicted: Points, truth: Points, *, radius: float, classes: int) -> Int64[Tensor, "side side"]:
    """How often a point of each class was called which class, ``(classes + 1, classes + 1)``.

    Rows are the labelled class, columns the predicted one. The last column counts labelled points that nothing found,
    the last row predictions that found nothing; the corner where the two meet is 0. So row ``c`` sums to the labelled
    points of class ``c``, column ``c`` to the predictions of class ``c``.

    Predictions are matched greedily as in :func:`match`, but whatever their class: one that scores high takes the
    nearest point even where its class is wrong, and a later one of the right class may then find none.

    Args:
        predicted, truth, radius: as for :func:`match`.
        classes: how many there are, above 0.

    Raises:
        TypeError, ValueError: as for :func:`match`; ``classes`` out of range, or a label not in [0, classes).
    """
    _check(predicted, truth, radius)
    _check_count("classes", classes)
    for name, points in (("predicted", predicted), ("truth", truth)):
        _check_labels(name, points, classes)
    of_one_class = (replace(points, label=torch.zeros_like(points.label)) for points in (predicted, truth))
    matched = match(*of_one_class, radius=radius)
    labelled = pad(truth.label, (1, 0), value=classes).gather(1, matched.truth + 1)  # "none" is the last row
    side, missed = classes + 1, truth.valid & ~matched.found
    called = (labelled * side + predicted.label)[predicted.valid]
    uncalled = truth.label[missed] * side + classes
    return torch.cat([called, uncalled]).bincount(minlength=side * side).view(side, side)


def keypoint_distances(predicted: Points, truth: Points) -> Float[Tensor, "batch points"]:
    """How far each key point lies from the prediction for it, in pixels, ``(B, N)``, float64.

    A key point is the only labelled point of its class in its image, and the prediction for it is the valid prediction
    of that class with the highest score in that image, the earlier in the tensor of equal ones, however far away.
    Where an image has no prediction of the class the distance is infinite; on padding it is NaN.

    Args:
        predicted: points with ``score``.
        truth: labelled points of the same images, at most one of a class in an image.

    Raises:
        TypeError, ValueError: different numbers of images or of coordinates, no scores, or several labelled points of
            a class in one image.
    """
    _check_points(predicted, truth)
    _check_single(truth)
    order = _best_first(predicted)[:, :, None]
    # In the order of scores; one row more, infinitely far away, for images without any prediction.
    distance = _distances(predicted, truth).take_along_dim(order, 1)
    distance = torch.cat([distance, distance.new_full((len(order), 1, distance.shape[2]), torch.inf)], dim=1)
    first = torch.isfinite(distance).int().argmax(dim=1, keepdim=True)  # of rows that are all infinite, any will do
    return torch.where(truth.valid, distance.take_along_dim(first, 1)[:, 0], torch.nan)


def pck(predicted: Points, truth: Points, *, threshold: float | Float[Tensor, " batch"]) -> float:
    """Share of key points whose prediction lies at most ``threshold`` pixels away, in [0, 1]; NaN without key points.

    PCK, the percentage of correct key points, as a share. All key points of all images count the same; one that has
    no prediction is not correct.

    Args:
        predicted, truth: as for :func:`keypoint_distances`.
        threshold: in pixels, finite and above 0, one for all images or one for each, floating point, ``(B,)``.

    Raises:
        TypeError, ValueError: as for :func:`keypoint_distances`; ``threshold`` of another shape or out of range.

    Source: Yang and Ramanan 2013, Articulated human detection with flexible mixtures of parts.
    """
    distance = keypoint_distances(predicted, truth)
    correct = distance <= _per_image("threshold", threshold, truth)[:, None]
    return float(correct[truth.valid].double().mean())


def pckh(
    predicted: Points, truth: Points, *, head_size: float | Float[Tensor, " batch"], fraction: float = 0.5
) -> float:
    """:func:`pck` with a threshold of ``fraction`` times the size of each image's head, in [0, 1].

    Args:
        predicted, truth: as for :func:`keypoint_distances`.
        head_size: in pixels, finite and above 0, one for all images or one for each, floating point, ``(B,)``. The
            source's own code takes 0.6 times the diagonal of the head's box.
        fraction: finite and above 0; PCKh@0.5 is the usual one.

    Raises:
        TypeError, ValueError: as for :func:`pck`; ``fraction`` out of range.

    Source: Andriluka et al. 2014, 2D human pose estimation: new benchmark and state of the art analysis.
    """
    _check_points(predicted, truth)
    check_positive("fraction", fraction)
    return pck(predicted, truth, threshold=fraction * _per_image("head_size", head_size, truth))


def nme(predicted: Points, truth: Points, *, scale: float | Float[Tensor, " batch"]) -> float:
    r"""Normalised mean error: mean distance of key points to their predictions, in units of ``scale``, at least 0.

    .. math:: \frac{1}{N} \sum_{n=1}^{N} \frac{d_n}{s_n}

    over the N key points of all images together, with :math:`d_n` of :func:`keypoint_distances` and :math:`s_n` the
    scale of the point's image. It is infinite as soon as one key point has no prediction, and NaN without key points.

    Args:
        predicted, truth: as for :func:`keypoint_distances`.
        scale: in pixels, finite and above 0, one for all images or one for each, floating point, ``(B,)``: for faces
            often the distance between the eyes.

    Raises:
        TypeError, ValueError: as for :func:`keypoint_distances`; ``scale`` of another shape or out of range.

    Source: Sagonas et al. 2013, 300 faces in-the-wild challenge, which gives it face by face.
    """
    distance = keypoint_distances(predicted, truth)
    return float((distance / _per_image("scale", scale, truth)[:, None])[truth.valid].mean())


def oks(
    predicted: Points,
    truth: Points,
    *,
    scale: float | Float[Tensor, " batch"],
    kappa: float | Float[Tensor, " classes"],
) -> Float[Tensor, " batch"]:
    r"""Object key-point similarity of each image, ``(B,)``, float64, in [0, 1]; 1 is every key point met exactly.

    .. math:: \frac{1}{N} \sum_{n=1}^{N} \exp\left(-\frac{d_n^2}{2 s^2 \kappa_n^2}\right)

    over the N key points of the image, with :math:`d_n` of :func:`keypoint_distances`, s the image's scale and
    :math:`\kappa_n` that of the point's class. A key point without a prediction adds 0; an image without key points
    has NaN.

    Args:
        predicted, truth: as for :func:`keypoint_distances`.
        scale: square root of the object's area in pixels, finite and above 0, one for all images or one for each,
            floating point, ``(B,)``.
        kappa: how far people's labels of a class scatter, in units of ``scale``, finite and above 0: one for all
            classes or one for each, floating point, ``(C,)``. COCO takes twice the standard deviation of
            repeated labels.

    Raises:
        TypeError, ValueError: as for :func:`keypoint_distances`; ``scale`` or ``kappa`` of another shape or out of
            range; a labelled class that ``kappa`` has no value for.

    Source: COCO keypoint evaluation (Lin et al. 2014, Microsoft COCO: common objects in context).
    """
    distance = keypoint_distances(predicted, truth)
    scale = _per_image("scale", scale, truth)[:, None]
    if isinstance(kappa, Tensor):
        kappa = _checked_values("kappa", kappa, truth)
        _check_labels("truth", truth, len(kappa))
        kappa = pad(kappa, (0, 1), value=1.0)[torch.where(truth.valid, truth.label, -1)]  # padding reads the 1
    else:
        check_positive("kappa", kappa)
    # One division after the other: the product of two small numbers could become 0, and 0 / 0 NaN.
    return torch.exp(-(distance / scale / kappa).square() / 2).nanmean(dim=1)


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


def _scores_and_hits(predicted: Points, truth: Points, radius: float) -> tuple[Tensor, Tensor]:
    """Score of each valid prediction and 1 where it found a point, else 0, both ``(M,)`` and float64."""
    hit = match(predicted, truth, radius=radius).truth >= 0
    return predicted.score[predicted.valid].double(), hit[predicted.valid].double()


def _distances(predicted: Points, truth: Points, *, radius: float = torch.inf) -> Tensor:
    """Pixels from each prediction to each labelled point, ``(B, M, N)``, infinite where the two cannot match."""
    distance = torch.linalg.vector_norm(predicted.xy[:, :, None].double() - truth.xy[:, None].double(), dim=-1)
    allowed = (
        predicted.valid[:, :, None] & truth.valid[:, None]
        & (predicted.label[:, :, None] == truth.label[:, None]) & (distance <= radius)
    )
    return torch.where(allowed, distance, torch.inf)


def _best_first(predicted: Points) -> Tensor:
    """Indices of the predictions by falling score, ``(B, M)``."""
    return torch.where(predicted.valid, predicted.score, -torch.inf).argsort(dim=1, descending=True, stable=True)


def _greedy(distance: Tensor, order: Tensor) -> Tensor:
    """Labelled point of each prediction when they choose in an order, ``(B, M)``, -1 for none."""
    batch, count, points = distance.shape
    which = torch.full((batch, count), -1, dtype=torch.int64, device=distance.device)
    if points == 0:
        return which
    taken = torch.zeros(batch, points, dtype=torch.bool, device=distance.device)
    images = torch.arange(batch, device=distance.device)
    for turn in order.T:  # all images at once; each in its own order
        nearest, point = torch.where(taken, torch.inf, distance[images, turn]).min(dim=1)
        hit = torch.isfinite(nearest)
        which[images, turn] = torch.where(hit, point, -1)
        taken[images, point] |= hit
    return which


def _hungarian(distance: Tensor) -> Tensor:
    """Labelled point of each prediction for the most matches and then the least distance, ``(B, M)``, -1 for none."""
    which = torch.full(distance.shape[:2], -1, dtype=torch.int64)
    for image, cost in enumerate(distance.detach().cpu()):
        allowed = torch.isfinite(cost)
        longest = float(cost[allowed].max()) if allowed.any() else 0.0
        # With every match at most 1, a miss costs more than all matches together: first their number, then distance.
        cost = torch.where(allowed, cost / (longest or 1.0), 1.0 + min(cost.shape))
        rows, columns = map(torch.from_numpy, linear_sum_assignment(cost.numpy()))
        which[image, rows] = torch.where(allowed[rows, columns], columns, -1)
    return which.to(distance.device)


def _per_image(name: str, value: float | Tensor, truth: Points) -> Tensor:
    """A number for all images, or one for each, as ``(B,)`` in float64."""
    if isinstance(value, Tensor):
        return _checked_values(name, value, truth, len(truth))
    check_positive(name, value)
    return torch.full((len(truth),), float(value), dtype=torch.float64, device=truth.xy.device)


def _checked_values(name: str, value: Tensor, truth: Points, length: int | None = None) -> Tensor:
    """Numbers that must be finite and above 0, in float64 on the device of the points."""
    if not value.is_floating_point():
        raise TypeError(f"{name} must be floating point, got {value.dtype}")
    if value.ndim != 1 or length not in (None, len(value)):
        shape = "(classes,)" if length is None else (length,)
        raise ValueError(f"{name} must be a number or have the shape {shape}, got {tuple(value.shape)}")
    bad = value[~(torch.isfinite(value) & (value > 0))]
    if len(bad):
        raise ValueError(f"{name} must be finite and above 0, got {float(bad[0])}")
    return value.to(truth.xy.device, torch.float64)


def _check_labels(name: str, points: Points, classes: int) -> None:
    """Reads the labels: ``extent`` would count those of points that a slice or a threshold took away."""
    over = points.label[points.valid & (points.label >= classes)]
    if len(over):
        raise ValueError(f"{name} has label {int(over[0])}, not in [0, {classes}): there are {classes} classes")


def _check_single(truth: Points) -> None:
    crowd = truth.extent.crowd
    if crowd > 1:  # at most that many: a slice or a threshold may have taken the crowd away
        crowd = Extent.of(truth.xy, truth.label, truth.valid).crowd
    if crowd > 1:
        raise ValueError(f"truth holds {crowd} points of one class in one image: key-point metrics allow 1")


def _check_count(name: str, value: int) -> None:
    if not isinstance(value, int) or isinstance(value, bool) or value < 1:
        raise ValueError(f"{name} must be an integer above 0, got {value!r}")


def _check(predicted: Points, truth: Points, radius: float) -> None:
    _check_points(predicted, truth)
    check_positive("radius", radius)


def _check_points(predicted: Points, truth: Points) -> None:
    for name, points in (("predicted", predicted), ("truth", truth)):
        if not isinstance(points, Points):
            raise TypeError(f"{name} must be falloff.points.Points, got {type(points).__name__}")
    if predicted.score is None:
        raise ValueError("predicted carries no score: metrics need to know which prediction comes first")
    if len(predicted) != len(truth):
        raise ValueError(f"predicted holds {len(predicted)} images, truth {len(truth)}: the two must be equal")
    axes = predicted.xy.shape[-1], truth.xy.shape[-1]
    if axes[0] != axes[1]:
        raise ValueError(f"predicted has {axes[0]} coordinates per point, truth {axes[1]}: the two must be equal")
