"""Which class is taken for which."""

from __future__ import annotations

from dataclasses import replace

import torch
from jaxtyping import Float, Int64
from torch import Tensor
from torch.nn.functional import pad

from falloff.checks import check_count, plain
from falloff.metrics.matching import Distance, Match, check_labels, check_points, euclidean, match
from falloff.points import Points


def confusion(
    predicted: Points, truth: Points, *, radius: float, classes: int, distance: Distance = euclidean
) -> Int64[Tensor, "side side"]:
    """How often a point of each class was called which class, ``(classes + 1, classes + 1)``.

    Rows are the labelled class, columns the predicted one. The last column counts labelled points that nothing found,
    the last row predictions that found nothing; the corner where the two meet is 0. So row ``c`` sums to the labelled
    points of class ``c``, column ``c`` to the predictions of class ``c``.

    Predictions are matched greedily as in :func:`match`, but whatever their class: one that scores high takes the
    nearest point even where its class is wrong, and a later one of the right class may then find none.

    Args:
        predicted, truth, radius, distance: as for :func:`match`.
        classes: how many there are, above 0.

    Raises:
        TypeError, ValueError: as for :func:`match`; ``classes`` out of range, or a label not in [0, classes).
    """
    check_points(predicted, truth)
    check_count("classes", classes)
    classes = plain(classes)
    for name, points in (("predicted", predicted), ("truth", truth)):
        check_labels(name, points, classes)
    matched = _of_any_class(predicted, truth, radius, distance)
    labelled = pad(truth.label, (1, 0), value=classes).gather(1, matched.truth + 1)  # "none" is the last row
    side, missed = classes + 1, truth.valid & ~matched.found
    called = (labelled * side + predicted.label)[predicted.valid]
    uncalled = truth.label[missed] * side + classes
    return torch.cat([called, uncalled]).bincount(minlength=side * side).view(side, side)


def called(
    predicted: Points, truth: Points, *, radius: float, distance: Distance = euclidean
) -> Int64[Tensor, "batch points"]:
    """The class that each labelled point was called, ``(B, N)``; -1 where nothing found it, and on padding.

    It is that of the prediction matched to it whatever the class, as in :func:`confusion`.

    Args and errors: as for :func:`match`.
    """
    check_points(predicted, truth)
    return _of_any_class(predicted, truth, radius, distance).of_points(predicted.label, -1)


def class_counts(
    names: Int64[Tensor, "batch points"], truth: Points
) -> tuple[Float[Tensor, "batch labelled"], Float[Tensor, "batch labelled"]]:
    """Of each class and image, how many of its labelled points were called by their class, and how many there are.

    Args:
        names: from :func:`called`.
        truth: the labelled points.

    Returns:
        Two counts, ``(B, L)``, float64, over the L classes that have a labelled point.
    """
    labels = truth.label[truth.valid].unique()
    there = truth.valid[..., None] & (truth.label[..., None] == labels)
    return (there & (names[..., None] == labels)).sum(1).double(), there.sum(1).double()


def balanced_accuracy(right: Float[Tensor, "batch labelled"], there: Float[Tensor, "batch labelled"]) -> float:
    r"""Mean over classes of the share of their points that were called by their class, in [0, 1].

    .. math:: \frac{1}{L} \sum_{c=1}^{L} \frac{r_c}{g_c}

    Points that were missed count as wrong. NaN without points.

    Args:
        right, there: from :func:`class_counts`; :math:`r_c` and :math:`g_c` are their sums over images.

    Source: Brodersen et al. 2010, The balanced accuracy and its posterior distribution.
    """
    return float((right.sum(0) / there.sum(0)).mean())


def balanced_accuracy_influence(
    right: Float[Tensor, "batch labelled"], there: Float[Tensor, "batch labelled"]
) -> Float[Tensor, " batch"]:
    """How :func:`balanced_accuracy` changes with the weight of each image, at weights of 1, ``(B,)``; they sum to 0."""
    total = there.sum(0)
    return ((right - there * (right.sum(0) / total)) / total).mean(1)


def _of_any_class(predicted: Points, truth: Points, radius: float, distance: Distance) -> Match:
    """Predictions matched to labelled points of any class."""
    of_one_class = (replace(points, label=torch.zeros_like(points.label)) for points in (predicted, truth))
    return match(*of_one_class, radius=radius, distance=distance)
