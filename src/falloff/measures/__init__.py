"""Metrics as data: the table of them by name, and the numbers of a prediction or of a run's curve.

``STANDARD`` names what is measured of every run, ``STUDY`` what the record holds of one, ``PICTURES`` the lists of a
number for each picture or point, with which it compares losses picture by picture. ``DENSE`` is what is measured beside
them where labels are so dense that pixels are what is found.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from falloff.checks import choose
from falloff.measures import (
    calibration,
    classes,
    curves,
    forecasts,
    keypoints,
    layers,
    localisation,
    maps,
    normalised,
    pictures,
    pixels,
    points,
)
from falloff.measures.base import RADIUS, Labelled, Measured, Metric, Prediction

__all__ = ["BY_PICTURE", "DENSE", "METRICS", "PICTURES", "RADIUS", "STANDARD", "STUDY", "Labelled", "Measured",
           "Metric", "Prediction", "along", "get", "measure"]

_STANDARD = (
    points.AP, points.AP_WORST_CLASS, points.AP_1, points.AP_4, points.F1, points.THRESHOLD, points.ERROR,
    maps.SCORE_AT_POINTS, maps.SCORE_ELSEWHERE, maps.CLASS_ACCURACY, maps.PRESENCE_AUROC,
    calibration.CALIBRATION_ERROR, keypoints.PCK,
)
_STUDY = (
    points.AP_05, points.AP_3, points.AP_6, points.AP_TUNED, points.RECALL, points.PRECISION, points.DUPLICATES,
    localisation.PCK_MEAN, classes.BALANCED_CLASS_ACCURACY, classes.WRONG_CLASS,
    maps.HIGHEST_SCORE, maps.COUNT_ERROR, maps.PIXEL_RATIO, *forecasts.PEAKS, *forecasts.PRESENCES,
    layers.WEIGHT_CHANGE, layers.WEIGHT_CHANGE_SD, layers.BIAS_CHANGE, layers.BIAS_CHANGE_SD, layers.CHANGE_SHARED,
)
_PICTURES = (
    pictures.AP_BY_PICTURE, pictures.AP_TUNED_BY_PICTURE, localisation.PCK_MEAN_BY_PICTURE,
    classes.BALANCED_CLASS_ACCURACY_BY_PICTURE, localisation.ERROR_OF_POINTS,
)
_DENSE = (pixels.PIXEL_AP, pixels.PIXEL_AP_BY_PICTURE)
METRICS: Mapping[str, Metric] = {
    metric.name: metric
    for metric in (*_STANDARD, curves.STEPS_TO_AP, curves.STEPS_TO_AP_HELD, *_STUDY, normalised.NME, *_PICTURES,
                   *_DENSE)}

STANDARD = tuple(metric.name for metric in _STANDARD)  # what is measured of every run
STUDY = STANDARD + tuple(metric.name for metric in _STUDY)  # what the record holds of one
PICTURES = tuple(metric.name for metric in _PICTURES)  # lists of a number for each picture or point
DENSE = tuple(metric.name for metric in _DENSE)  # of the pixels of maps, as one number and for each picture
BY_PICTURE = "_by_picture"  # the end of the name of those whose numbers are another's pseudo-values, one a picture


def get(name: str) -> Metric:
    """The metric of that name; ``"module:NAME"`` is one that a module outside the package holds.

    Raises:
        ValueError: there is none.
    """
    return choose("metric", name, METRICS)


def measure(
    prediction: Prediction, dataset: Labelled, names: Iterable[str], *, threshold: float | None = None
) -> dict[str, Any]:
    """Some metrics of the predictions for a split, by name, in the order of ``names``.

    Left out are those that need maps where the prediction has none, those of a training, and those of a curve, which
    :func:`along` has. Those that are recalibrated on another split are NaN: a :class:`Measured` can have one.

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


def along(curve: Sequence[Mapping[str, float | int]], names: Iterable[str]) -> dict[str, Any]:
    """Those among some metrics that are of a run's curve, one row per evaluation, and whose column it has.

    Raises:
        ValueError: no such metric.
    """
    chosen = {name: get(name) for name in names}
    return {name: metric.of(curve) for name, metric in chosen.items()
            if metric.reads is not None and all(metric.reads in row for row in curve)}
