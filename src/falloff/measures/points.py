"""Metrics of predicted points against labelled ones."""

from __future__ import annotations

from collections.abc import Callable

from falloff.measures.base import RADIUS, Measured, Metric
from falloff.metrics import ranking
from falloff.metrics.matching import Match


def threshold(measured: Measured) -> float:
    """The score from which a prediction counts: the one given, or the best for F1 on this split."""
    return ranking.best_threshold_of(measured.match(RADIUS)) if measured.given is None else measured.given


def sure(measured: Measured) -> Match:
    """The match of the predictions that score at least the threshold."""
    return measured.match(RADIUS).above(measured.once(threshold))


def ap(radius: float) -> Callable[[Measured], float]:
    """Average precision within some pixels."""
    return lambda m: ranking.average_precision_of(m.match(radius))


AP = Metric(name="ap", title=f"AP at {RADIUS:g} px", of=ap(RADIUS))
AP_1 = Metric(name="ap_1", title=f"AP at {RADIUS / 2:g} px", of=ap(RADIUS / 2))
AP_4 = Metric(name="ap_4", title=f"AP at {RADIUS * 2:g} px", of=ap(RADIUS * 2))
AP_WORST_CLASS = Metric(name="ap_worst_class", title="AP of the worst class",
                        of=lambda m: min(ranking.per_class_average_precision_of(m.match(RADIUS)).values()))
F1 = Metric(name="f1", title="F1", of=lambda m: ranking.f1_of(m.once(sure)))
THRESHOLD = Metric(name="threshold", title="threshold", better="neither", of=lambda m: m.once(threshold))
ERROR = Metric(name="error", title="localisation error", unit="px", better="low", tolerance=0.01,
               of=lambda m: ranking.localisation_error_of(m.once(sure)))
