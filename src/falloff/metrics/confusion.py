"""Which class is taken for which."""

from __future__ import annotations

from dataclasses import replace

import torch
from jaxtyping import Int64
from torch import Tensor
from torch.nn.functional import pad

from falloff.checks import check_count, plain
from falloff.metrics.matching import Distance, check_labels, check_points, euclidean, match
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
    of_one_class = (replace(points, label=torch.zeros_like(points.label)) for points in (predicted, truth))
    matched = match(*of_one_class, radius=radius, distance=distance)
    labelled = pad(truth.label, (1, 0), value=classes).gather(1, matched.truth + 1)  # "none" is the last row
    side, missed = classes + 1, truth.valid & ~matched.found
    called = (labelled * side + predicted.label)[predicted.valid]
    uncalled = truth.label[missed] * side + classes
    return torch.cat([called, uncalled]).bincount(minlength=side * side).view(side, side)
