"""Predicted points against labelled ones: matching, average precision, localisation, key points, calibration."""

from falloff.metrics.boxes import iou
from falloff.metrics.calibration import Reliability, brier, reliability
from falloff.metrics.confusion import confusion
from falloff.metrics.instances import instances, oks_distance
from falloff.metrics.keypoints import keypoint_distances, nme, oks, pck, pckh
from falloff.metrics.maps import class_accuracy, mean_scores, presence_auroc
from falloff.metrics.matching import Distance, Match, Method, euclidean, match
from falloff.metrics.ranking import (
    Curve,
    against_radius,
    average_precision,
    best_threshold,
    duplicates,
    f1,
    localisation_error,
    per_class_average_precision,
    precision_recall,
)

__all__ = [
    "Curve", "Distance", "Match", "Method", "Reliability", "against_radius", "average_precision", "best_threshold",
    "brier", "class_accuracy", "confusion", "duplicates", "euclidean", "f1", "instances", "iou", "keypoint_distances",
    "localisation_error", "match", "mean_scores", "nme", "oks", "oks_distance", "pck", "pckh",
    "per_class_average_precision", "precision_recall", "presence_auroc", "reliability",
]
