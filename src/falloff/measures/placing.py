"""Metrics of a choice between runs: what a tuning maximises."""

from __future__ import annotations

from falloff.measures.base import Measured, Metric
from falloff.metrics import placing, ranking

FAR = 4.0  # pixels from which on a prediction counts as a miss


def ap_tuned(measured: Measured) -> float:
    """The mean of AP within 1 and within 2 pixels: places count, and so does what is roughly right."""
    near, nearer = (ranking.average_precision_of(measured.match(radius)) for radius in (2.0, 1.0))
    return (near + nearer) / 2


def pck_mean(measured: Measured) -> float:
    """Mean PCK from 0 to 4 pixels."""
    return placing.mean_pck(measured.prediction.points, measured.dataset.points, radius=FAR)


AP_TUNED = Metric(name="ap_tuned", title="mean AP at 1 and 2 px", of=ap_tuned)
PCK_MEAN = Metric(name="pck_mean", title=f"mean PCK up to {FAR:g} px", of=pck_mean)
