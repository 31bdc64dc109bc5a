"""Metrics as data: the table of them by name, and the numbers of a prediction or of a run's curve."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from falloff.checks import choose
from falloff.measures import calibration, curves, keypoints, maps, placing, points
from falloff.measures.base import RADIUS, Labelled, Measured, Metric, Prediction

__all__ = [
    "METRICS", "RADIUS", "STANDARD", "STUDY", "Labelled", "Measured", "Metric", "Prediction", "along", "get", "measure",
]

METRICS: Mapping[str, Metric] = {metric.name: metric for metric in (
    points.AP, points.AP_WORST_CLASS, points.AP_1, points.AP_4, points.F1, points.THRESHOLD, points.ERROR,
    maps.SCORE_AT_POINTS, maps.SCORE_ELSEWHERE, maps.CLASS_ACCURACY, maps.PRESENCE_AUROC,
    calibration.CALIBRATION_ERROR, keypoints.PCK, curves.STEPS_TO_AP, placing.AP_TUNED, placing.PCK_MEAN,
)}
STANDARD = ("ap", "ap_worst_class", "ap_1", "ap_4", "f1", "threshold", "error", "score_at_points", "score_elsewhere",
            "class_accuracy", "presence_auroc", "calibration_error", "pck")  # of every run
STUDY = (*STANDARD, "ap_tuned", "pck_mean")  # of every run that the record reports


def get(name: str) -> Metric:
    """The metric of that name; ``"module:NAME"`` is one that a module outside the package holds.

    Raises:
        ValueError: there is none.
    """
    return choose("metric", name, METRICS)


def measure(
    prediction: Prediction, dataset: Labelled, names: Iterable[str], *, threshold: float | None = None
) -> dict[str, float]:
    """Some metrics of the predictions for a split, by name, in the order of ``names``.

    Left out are those that need maps where the prediction has none, and those of a curve: :func:`along` has them.

    Args:
        prediction: for all images of the split.
        dataset: the split.
        names: that :func:`get` knows.
        threshold: the score from which a prediction counts for the metrics that need one; None takes the best for F1
            on this split.

    Raises:
        ValueError: no such metric; the split has no labelled point; what the metrics raise.
    """
    return Measured(prediction, dataset, threshold).numbers({name: get(name) for name in names})


def along(curve: Sequence[Mapping[str, float | int]], names: Iterable[str]) -> dict[str, float | int]:
    """Those among some metrics that are of a run's curve, one row per evaluation, and whose column it has.

    Raises:
        ValueError: no such metric.
    """
    chosen = {name: get(name) for name in names}
    return {name: metric.of(curve) for name, metric in chosen.items()
            if metric.reads is not None and all(metric.reads in row for row in curve)}
