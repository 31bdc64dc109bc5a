"""Metrics of scores as probabilities, as they are and recalibrated by what is fitted on the reference split.

Scores outside [0, 1], as of losses whose scores are no probability, are clamped to it. Peaks are all predictions, each
of which finds a labelled point or not; presences are the highest scores of maps, whose class is in the picture or not.
Recalibrated ones are NaN without a reference.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor

from falloff.measures.base import RADIUS, Measured, Metric
from falloff.measures.maps import highest
from falloff.metrics.calibration import squared_calibration_error
from falloff.metrics.recalibration import Recalibration, recalibration

Forecasts = Callable[[Measured], tuple[Tensor, Tensor]]


def peaks(measured: Measured) -> tuple[Tensor, Tensor]:
    """Scores of predictions, and whether each found its point."""
    match = measured.match(RADIUS)
    valid = match.predicted.valid
    assert match.predicted.score is not None
    return match.predicted.score[valid].double(), (match.truth >= 0)[valid].double()


def presences(measured: Measured) -> tuple[Tensor, Tensor]:
    """Highest scores of maps, and whether each map's class is there."""
    scores, present = measured.once(highest)
    return scores.flatten().double(), present.flatten().double()


def forecasts(measured: Measured, of: Forecasts, how: Recalibration | None) -> tuple[Tensor, Tensor]:
    """Probabilities, recalibrated or as they are, and whether each came true."""
    score, happened = measured.once(of)
    if how is None:
        return score.clamp(0, 1), happened
    if measured.reference is None:
        return torch.full_like(score, math.nan), happened
    return recalibration(how, *measured.reference.once(of))(score), happened


def brier(measured: Measured, of: Forecasts, how: Recalibration | None) -> float:
    """Mean squared gap between a probability and what came of it."""
    probability, happened = measured.once(forecasts, of, how)
    return float((probability - happened).square().mean())


def calibration(measured: Measured, of: Forecasts, how: Recalibration | None) -> float:
    """Mean squared gap between probabilities and frequencies, debiased; NaN where a probability is."""
    probability, happened = measured.once(forecasts, of, how)
    return math.nan if bool(probability.isnan().any()) else squared_calibration_error(probability, happened)


def _metrics(what: str, of: Forecasts, how: Recalibration | None, needs_maps: bool) -> tuple[Metric, Metric]:
    name, words = (f"_{how}", f", {how}") if how else ("", "")
    return (
        Metric(name=f"{what}_brier{name}", title=f"Brier score of {what}s{words}", better="low", needs_maps=needs_maps,
               of=lambda m: brier(m, of, how)),
        Metric(name=f"{what}_calibration{name}", title=f"squared calibration error of {what}s{words}", better="low",
               needs_maps=needs_maps, of=lambda m: calibration(m, of, how)),
    )


PEAKS = tuple(one for how in (None, "platt", "isotonic", "temperature") for one in _metrics("peak", peaks, how, False))
PRESENCES = tuple(one for how in (None, "platt") for one in _metrics("presence", presences, how, True))
