"""Metrics of key points: at most one labelled point of a class in an image."""

from falloff.measures.base import RADIUS, Metric
from falloff.metrics.keypoints import pck

PCK = Metric(name="pck", title=f"PCK at {RADIUS:g} px",
             of=lambda m: pck(m.prediction.points, m.dataset.points, threshold=RADIUS))
