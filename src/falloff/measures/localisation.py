"""Metrics of how near the predictions come, missed points included, with as many predictions as labelled points."""

from __future__ import annotations

import torch
from torch import Tensor

from falloff.measures.base import Measured, Metric, pseudo_values
from falloff.metrics import localisation

REACH = 4.0  # pixels over which PCK is averaged
LOST = 8.0  # pixels beyond which a prediction is of no point


def distances(measured: Measured, radius: float) -> Tensor:
    """How far each labelled point lies from its prediction."""
    return localisation.point_distances_of(measured.match(radius))


def mean_pck(measured: Measured) -> float:
    """PCK, averaged over thresholds: see :func:`falloff.metrics.localisation.mean_pck`."""
    return localisation.mean_pck(measured.once(distances, REACH), radius=REACH)


def by_picture(measured: Measured) -> list[float]:
    """Its pseudo-values."""
    influence = localisation.mean_pck_influence(measured.once(distances, REACH), radius=REACH)
    return pseudo_values(mean_pck(measured), influence)


def of_points(measured: Measured) -> list[float]:
    """The distance of each labelled point's prediction, NaN where it has none."""
    found = measured.once(distances, LOST)[measured.dataset.points.valid]
    return found.where(torch.isfinite(found), torch.nan).tolist()


PCK_MEAN = Metric(name="pck_mean", title=f"mean PCK up to {REACH:g} px", of=mean_pck)
PCK_MEAN_BY_PICTURE = Metric(name="pck_mean_by_picture", title=f"mean PCK up to {REACH:g} px, by picture",
                             per="picture", of=by_picture)
ERROR_OF_POINTS = Metric(name="error_of_points", title="localisation error of each point", unit="px", better="low",
                         tolerance=0.01, per="point", of=of_points)
