"""Metrics of predicted points against labelled ones."""

from __future__ import annotations

from falloff.measures.base import RADIUS, Measured, Metric
from falloff.metrics import ranking
from falloff.metrics.matching import Match

TUNED = (1.0, 2.0)  # the radii, in pixels, between which what is tuned need not choose


def threshold(measured: Measured) -> float:
    """The score from which a prediction counts: the one given, or the best for F1 on the reference or this split."""
    if measured.given is not None:
        return measured.given
    return ranking.best_threshold_of((measured.reference or measured).match(RADIUS))


def sure(measured: Measured) -> Match:
    """The match of the predictions that score at least the threshold."""
    return measured.match(RADIUS).above(measured.once(threshold))


def average_precision(measured: Measured, radius: float) -> float:
    """Average precision within some pixels."""
    return ranking.average_precision_of(measured.match(radius))


def ap(measured: Measured, *radii: float) -> float:
    """Mean over some radii of the average precision within each."""
    return sum(measured.once(average_precision, radius) for radius in radii) / len(radii)


def duplicates(measured: Measured) -> float:
    """Share of the sure predictions near a point of their class that another took; 0 without predictions."""
    match = measured.once(sure)
    return ranking.duplicates_of(match) / max(1, int(match.predicted.valid.sum()))


def _ap(name: str, radius: float) -> Metric:
    return Metric(name=name, title=f"AP at {radius:g} px", of=lambda m: ap(m, radius))


AP, AP_05, AP_1, AP_3, AP_4, AP_6 = (
    _ap("ap", RADIUS), _ap("ap_05", 0.5), _ap("ap_1", 1.0), _ap("ap_3", 3.0), _ap("ap_4", 4.0), _ap("ap_6", 6.0),
)
AP_TUNED = Metric(name="ap_tuned", title="AP at 1 and 2 px, mean", of=lambda m: ap(m, *TUNED))
AP_WORST_CLASS = Metric(name="ap_worst_class", title="AP of the worst class",
                        of=lambda m: min(ranking.per_class_average_precision_of(m.match(RADIUS)).values()))
F1 = Metric(name="f1", title="F1", of=lambda m: ranking.f1_of(m.once(sure)))
RECALL = Metric(name="recall", title="recall", of=lambda m: ranking.recall_of(m.once(sure)))
PRECISION = Metric(name="precision", title="precision", of=lambda m: ranking.precision_of(m.once(sure)))
DUPLICATES = Metric(name="duplicates", title="share of duplicates", better="low", of=duplicates)
THRESHOLD = Metric(name="threshold", title="threshold", better="neither", of=lambda m: m.once(threshold))
ERROR = Metric(name="error", title="localisation error", unit="px", better="low", tolerance=0.01,
               of=lambda m: ranking.localisation_error_of(m.once(sure)))
