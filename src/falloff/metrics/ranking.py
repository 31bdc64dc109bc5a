"""What follows from the order of scores: precision and recall, average precision, F1, localisation."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from falloff.checks import check_positive, check_whole, numbers
from falloff.metrics.matching import Distance, Match, euclidean, match
from falloff.points import Points


@dataclass(frozen=True)
class Curve:
    """Precision and recall when all predictions scored at least ``threshold`` count, thresholds falling."""

    threshold: Float[Tensor, " steps"]
    precision: Float[Tensor, " steps"]
    recall: Float[Tensor, " steps"]


def precision_recall(
    predicted: Points, truth: Points, *, radius: float, label: int | None = None, distance: Distance = euclidean
) -> Curve:
    """Precision and recall over all images, at each distinct score.

    Args:
        predicted, truth, radius, distance: as for :func:`match`.
        label: count the points of this class only; None counts all together.

    Raises:
        ValueError: as for :func:`match`; no labelled point to find, so that recall is undefined.
    """
    return precision_recall_of(match(predicted, truth, radius=radius, distance=distance), label)


def precision_recall_of(matched: Match, label: int | None = None) -> Curve:
    """:func:`precision_recall` of a match."""
    predicted, truth = matched.predicted, matched.labelled
    chosen, wanted = predicted.valid, truth.valid
    if label is not None:
        check_whole("label", label, 0)
        chosen, wanted = chosen & (predicted.label == label), wanted & (truth.label == label)
    total = int(wanted.sum())
    if total == 0:
        which = "" if label is None else f" of label {label}"
        raise ValueError(f"truth holds no valid point{which}: recall is undefined")
    assert predicted.score is not None
    score, order = predicted.score[chosen].double().sort(descending=True, stable=True)
    return _curve(score, matched.truth[chosen][order] >= 0, total)


def _curve(score: Tensor, found: Tensor, total: int) -> Curve:
    """The curve of predictions with falling scores, by whether each found one of ``total`` points."""
    hit = found.cumsum(0).double()  # counts: a sum of floats is refused on a GPU that must be deterministic
    claimed = torch.arange(1, len(score) + 1, dtype=torch.float64, device=score.device)
    # A threshold takes all predictions of one score or none: keep the last of each run of equal scores.
    last = torch.ones_like(score, dtype=torch.bool)
    last[:-1] = score[1:] != score[:-1]
    return Curve(score[last], (hit / claimed)[last], (hit / total)[last])


def average_precision(
    predicted: Points, truth: Points, *, radius: float, distance: Distance = euclidean
) -> float:
    """Mean over classes of the area under the precision-recall curve, in [0, 1].

    Precision is first made monotone (at each recall, the best precision at that recall or a higher one), then
    summed exactly over the steps of recall, without a fixed set of recall points. Predictions of equal score
    enter together. Classes that no labelled point has do not count.

    Args and errors: as for :func:`precision_recall`.

    Source: the definition of Pascal VOC from 2010 on, with any distance in place of an overlap.

    Example:
        >>> truth = Points.from_lists([([[3, 4], [8, 8]], [0, 0])])
        >>> found = [[3.5, 4], [0, 0]], [0, 0], [0.9, 0.2]
        >>> predicted = Points.from_lists([found])
        >>> average_precision(predicted, truth, radius=2.0)
        0.5
    """
    return average_precision_of(match(predicted, truth, radius=radius, distance=distance))


def average_precision_of(matched: Match) -> float:
    """:func:`average_precision` of a match."""
    by_class = per_class_average_precision_of(matched)
    return sum(by_class.values()) / len(by_class)


def per_class_average_precision(
    predicted: Points, truth: Points, *, radius: float, distance: Distance = euclidean
) -> dict[int, float]:
    """The average precision of each class that has a labelled point, by label; :func:`average_precision` is its mean.

    Args and errors: as for :func:`precision_recall`.
    """
    return per_class_average_precision_of(match(predicted, truth, radius=radius, distance=distance))


def per_class_average_precision_of(matched: Match) -> dict[int, float]:
    """:func:`per_class_average_precision` of a match."""
    return {label: _area(_curve(score, found, total)) for label, total, score, found, _ in _by_class(matched)}


def _by_class(matched: Match) -> Iterator[tuple[int, int, Tensor, Tensor, Tensor]]:
    """Of each labelled class its points' number and its predictions: falling scores, whether they found, images."""
    predicted, truth = matched.predicted, matched.labelled
    labels, total = truth.label[truth.valid].unique(return_counts=True)
    if len(labels) == 0:
        raise ValueError("truth holds no valid point: average precision is undefined")
    assert predicted.score is not None
    # All predictions sorted once, by class and then by falling score: each class is a stretch of them.
    score, order = predicted.score[predicted.valid].double().sort(descending=True, stable=True)
    label, by_label = predicted.label[predicted.valid][order].sort(stable=True)
    score, found = score[by_label], matched.truth[predicted.valid][order][by_label] >= 0
    image = predicted.valid.nonzero()[:, 0][order][by_label]
    starts, ends = (torch.searchsorted(label, labels, right=right).tolist() for right in (False, True))
    for name, start, end, count in zip(labels.tolist(), starts, ends, total.tolist(), strict=True):
        yield name, count, score[start:end], found[start:end], image[start:end]


def average_precision_influence_of(matched: Match) -> Float[Tensor, " images"]:
    r"""How :func:`average_precision` of a match changes with the weight of each image, at weights of 1, ``(B,)``.

    An image of weight w counts as w images like it. With the G labelled points of a class, :math:`t_k` of which are
    found at step k of the falling scores, :math:`n_k` predictions and :math:`T_k` hits up to it, precision
    :math:`\pi_k = T_k / n_k`, and :math:`m(k)` the step from k on where precision is best,

    .. math:: AP = \frac{1}{G} \sum_k t_k \pi_{m(k)}, \quad
        \frac{\partial AP}{\partial w_p} = \frac{1}{G} \sum_{i \in p} \left( h_i (\pi_{m(k_i)} + A_{k_i}) - B_{k_i}
        \right) - AP \frac{g_p}{G}

    over the predictions i of image p, :math:`h_i` of 1 where one found a point, :math:`g_p` labelled points in it, and

    .. math:: A_k = \sum_{j \ge k} \frac{c_j}{n_j}, \quad B_k = \sum_{j \ge k} \frac{c_j \pi_j}{n_j}, \quad
        c_j = \sum_{k: m(k) = j} t_k.

    :math:`m` stays where it is, as it does for small changes of weights. The mean is taken over classes as there. The
    changes of all images sum to 0.

    Args and errors: as for :func:`average_precision`, of a match.
    """
    truth = matched.labelled
    by_class = list(_by_class(matched))
    change = truth.xy.new_zeros(len(truth), dtype=torch.float64)
    for label, total, score, found, image in by_class:
        wanted = (truth.valid & (truth.label == label)).sum(1)
        change += _influence(score, found, image, wanted.double(), total) / len(by_class)
    return change


def _influence(score: Tensor, found: Tensor, image: Tensor, wanted: Tensor, total: int) -> Tensor:
    """How the area of one class changes with the weight of each image, which has so many of the labelled points."""
    curve = _curve(score, found, total)
    if len(score) == 0:
        return torch.zeros_like(wanted)
    best, place = (part.flip(0) for part in curve.precision.flip(0).cummax(0))
    place = len(best) - 1 - place
    gained = torch.diff(curve.recall, prepend=curve.recall.new_zeros(1))
    step = torch.searchsorted(-curve.threshold, -score)  # at which a prediction enters
    claimed = step.bincount(minlength=len(best)).cumsum(0)
    rest = torch.zeros_like(best).index_add(0, place, gained) / claimed
    more, less = (part.flip(0).cumsum(0).flip(0)[step] for part in (rest, rest * curve.precision))
    each = found * (best[step] / total + more) - less
    return (wanted * (-_area(curve) / total)).index_add(0, image, each)


def _area(curve: Curve) -> float:
    best_from_here = curve.precision.flip(0).cummax(0).values.flip(0) if len(curve.precision) else curve.precision
    gained = torch.diff(curve.recall, prepend=curve.recall.new_zeros(1))
    return float((best_from_here * gained).sum())


def f1(predicted: Points, truth: Points, *, radius: float, distance: Distance = euclidean) -> float:
    """Harmonic mean of precision and recall of all valid predictions together, in [0, 1].

    Args and errors: as for :func:`match`. Filter by score with ``predicted.above(threshold)`` first. Without any
    prediction and any labelled point it is 1: there was nothing to find and nothing was claimed.
    """
    return f1_of(match(predicted, truth, radius=radius, distance=distance))


def f1_of(matched: Match) -> float:
    """:func:`f1` of a match, such as ``matched.above(threshold)``."""
    hits = int(matched.found.sum())
    total = int(matched.predicted.valid.sum()) + int(matched.labelled.valid.sum())
    return 1.0 if total == 0 else 2.0 * hits / total


def recall_of(matched: Match) -> float:
    """Share of the labelled points that a match found, in [0, 1]; NaN where there are none."""
    return float(matched.found[matched.labelled.valid].double().mean())


def precision_of(matched: Match) -> float:
    """Share of the predictions of a match that found a labelled point, in [0, 1].

    0 without predictions, as in scikit-learn: a net that says nothing is no better than one that is always wrong.
    """
    return int(matched.found.sum()) / max(1, int(matched.predicted.valid.sum()))


def best_threshold(
    predicted: Points, truth: Points, *, radius: float, distance: Distance = euclidean
) -> float:
    """The score that as a threshold gives the highest F1 over all classes together.

    Args and errors: as for :func:`precision_recall`. Choose it on validation data, use it on test data.
    """
    return best_threshold_of(match(predicted, truth, radius=radius, distance=distance))


def best_threshold_of(matched: Match) -> float:
    """:func:`best_threshold` of a match."""
    curve = precision_recall_of(matched)
    if len(curve.threshold) == 0:
        return 0.0
    score = 2 * curve.precision * curve.recall / (curve.precision + curve.recall).clamp(min=1e-12)
    return float(curve.threshold[score.argmax()])


def localisation_error(
    predicted: Points, truth: Points, *, radius: float, distance: Distance = euclidean
) -> float:
    """Mean distance in pixels between matched predictions and their labelled points; NaN when none matched.

    Args and errors: as for :func:`match`; with another ``distance`` it is in that one's unit. It says nothing of the
    points that were missed: read it beside recall.
    """
    return localisation_error_of(match(predicted, truth, radius=radius, distance=distance))


def localisation_error_of(matched: Match) -> float:
    """:func:`localisation_error` of a match."""
    return float(torch.nanmean(matched.distance))


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
    each = numbers(radii)
    if each is None:
        raise TypeError(f"radii must be a sequence of numbers, got {radii!r}")
    for radius in each:
        check_positive("each of radii", radius)
    return [float(metric(predicted, truth, radius=radius)) for radius in each]


def duplicates(predicted: Points, truth: Points, *, radius: float, distance: Distance = euclidean) -> int:
    """How many predictions lie within ``radius`` of a labelled point of their class that another prediction took.

    These are the false predictions that a stronger suppression of neighbours could have removed; all other false
    ones have no labelled point of their class near them.

    Args and errors: as for :func:`match`, which is greedy here.
    """
    return duplicates_of(match(predicted, truth, radius=radius, distance=distance))


def duplicates_of(matched: Match) -> int:
    """:func:`duplicates` of a match."""
    return int((matched.near & (matched.truth < 0)).sum())
