"""Metrics of score maps against labelled points."""

from __future__ import annotations

from falloff.measures.base import Measured, Metric
from falloff.metrics.maps import class_accuracy, mean_scores, presence_auroc


def means(measured: Measured) -> tuple[float, float]:
    """Mean score at labelled points and elsewhere."""
    assert measured.prediction.maps is not None
    return mean_scores(measured.prediction.maps, measured.on_maps, mask=measured.mask)


SCORE_AT_POINTS = Metric(name="score_at_points", title="score at points", better="neither", needs_maps=True,
                         of=lambda m: m.once(means)[0])
SCORE_ELSEWHERE = Metric(name="score_elsewhere", title="score elsewhere", better="neither", needs_maps=True,
                         of=lambda m: m.once(means)[1])
CLASS_ACCURACY = Metric(name="class_accuracy", title="class accuracy", needs_maps=True,
                        of=lambda m: class_accuracy(m.prediction.maps, m.on_maps))
PRESENCE_AUROC = Metric(name="presence_auroc", title="presence", needs_maps=True,
                        of=lambda m: presence_auroc(m.prediction.maps, m.on_maps, mask=m.mask))
