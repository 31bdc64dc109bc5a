"""Metrics of score maps against labelled points."""

from __future__ import annotations

from torch import Tensor

from falloff.measures.base import Measured, Metric
from falloff.metrics.maps import class_accuracy, expected_counts, mean_scores, presence, presence_auroc_of


def means(measured: Measured) -> tuple[float, float]:
    """Mean score at labelled points and elsewhere."""
    assert measured.prediction.maps is not None
    return mean_scores(measured.prediction.maps, measured.on_maps, mask=measured.mask)


def highest(measured: Measured) -> tuple[Tensor, Tensor]:
    """The highest score of each map, and whether its class is there."""
    assert measured.prediction.maps is not None
    return presence(measured.prediction.maps, measured.on_maps, mask=measured.mask)


def counts(measured: Measured) -> tuple[Tensor, Tensor]:
    """How many labelled pixels each map expects and has."""
    assert measured.prediction.maps is not None
    return expected_counts(measured.prediction.maps, measured.on_maps, mask=measured.mask)


def count_error(measured: Measured) -> float:
    """Mean gap between the two over classes and pictures."""
    expected, there = measured.once(counts)
    return float((expected - there).abs().mean())


def pixel_ratio(measured: Measured) -> float:
    """Mean probability of a pixel over the share of labelled ones: 1 where pixels are calibrated at large."""
    expected, there = measured.once(counts)
    return float(expected.sum() / there.sum())


SCORE_AT_POINTS = Metric(name="score_at_points", title="score at points", better="neither", needs_maps=True,
                         of=lambda m: m.once(means)[0])
SCORE_ELSEWHERE = Metric(name="score_elsewhere", title="score elsewhere", better="neither", needs_maps=True,
                         of=lambda m: m.once(means)[1])
CLASS_ACCURACY = Metric(name="class_accuracy", title="class accuracy", needs_maps=True,
                        of=lambda m: class_accuracy(m.prediction.maps, m.on_maps))
PRESENCE_AUROC = Metric(name="presence_auroc", title="presence", needs_maps=True,
                        of=lambda m: presence_auroc_of(*m.once(highest)))
HIGHEST_SCORE = Metric(name="highest_score", title="highest score", better="neither", needs_maps=True,
                       of=lambda m: float(m.once(highest)[0].max()))
COUNT_ERROR = Metric(name="count_error", title="error of a map's sum", unit="points", better="low", needs_maps=True,
                     tolerance=0.02, of=count_error)
PIXEL_RATIO = Metric(name="pixel_ratio", title="mean probability of pixels over their frequency", better="neither",
                     needs_maps=True, tolerance=0.02, of=pixel_ratio)
