"""Metrics of key points: at most one labelled point of a class in an image; NaN where there are more."""

from __future__ import annotations

import math

from falloff.measures.base import RADIUS, Measured, Metric
from falloff.metrics import keypoints


def pck(measured: Measured) -> float:
    """The share of key points whose best prediction is near."""
    truth = measured.dataset.points
    if truth.crowded():
        return math.nan
    return keypoints.pck(measured.prediction.points, truth, threshold=RADIUS)


PCK = Metric(name="pck", title=f"PCK at {RADIUS:g} px", of=pck)
