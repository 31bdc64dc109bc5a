"""Metrics of scores read as probabilities."""

from __future__ import annotations

from falloff.measures.base import RADIUS, Metric
from falloff.metrics.calibration import reliability_of

CALIBRATION_ERROR = Metric(name="calibration_error", title="calibration error", better="low",
                           of=lambda m: reliability_of(m.match(RADIUS)).error)
