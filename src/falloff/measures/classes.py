"""Metrics of the class that points are called, at the threshold from which predictions count."""

from __future__ import annotations

from torch import Tensor

from falloff.measures.base import RADIUS, Measured, Metric, pseudo_values
from falloff.measures.points import sure, threshold
from falloff.metrics.confusion import balanced_accuracy, balanced_accuracy_influence, called, class_counts


def names(measured: Measured) -> Tensor:
    """The class that each labelled point was called."""
    predicted = measured.prediction.points.above(measured.once(threshold))
    return called(predicted, measured.dataset.points, radius=RADIUS)


def counts(measured: Measured) -> tuple[Tensor, Tensor]:
    """Of each class and picture, the points that were called right, and all."""
    return class_counts(measured.once(names), measured.dataset.points)


def wrong_class(measured: Measured) -> float:
    """Share of the sure predictions that took a point of another class; 0 without predictions."""
    said, claimed = measured.once(names), int(measured.once(sure).predicted.valid.sum())
    return int(((said >= 0) & (said != measured.dataset.points.label)).sum()) / max(1, claimed)


def by_picture(measured: Measured) -> list[float]:
    """Pseudo-values of balanced accuracy."""
    found = measured.once(counts)
    return pseudo_values(balanced_accuracy(*found), balanced_accuracy_influence(*found))


BALANCED_CLASS_ACCURACY = Metric(name="balanced_class_accuracy", title="balanced class accuracy",
                                 of=lambda m: balanced_accuracy(*m.once(counts)))
BALANCED_CLASS_ACCURACY_BY_PICTURE = Metric(name="balanced_class_accuracy_by_picture",
                                            title="balanced class accuracy, by picture", per="picture", of=by_picture)
WRONG_CLASS = Metric(name="wrong_class", title="share of wrong names", better="low", of=wrong_class)
