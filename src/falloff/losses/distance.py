"""Losses whose background counts by how far the nearest point is: distance-aware focal loss, distance-map BCE."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from falloff.checks import check_at_least_zero, check_positive
from falloff.losses.autograd import Charge, elementwise
from falloff.losses.inputs import check_bool_map, check_map, check_shape
from falloff.losses.pixelwise import PixelLoss
from falloff.losses.sigmoid import focused_0, power_of


def distance_aware_charge(x: Tensor, y: Tensor, positive: Tensor, alpha: float, beta: float) -> Charge:
    """Focal at positives; elsewhere (1 - y)^b times focal's charge of label 0."""
    value, slope = focused_0(torch.where(positive, -x, x), alpha)
    spared = torch.where(positive, 1.0, power_of(1 - y, beta))
    return spared * value, torch.where(positive, -spared, spared) * slope


def distance_aware(
    logits: Float[Tensor, "*shape"],
    positives: Bool[Tensor, "*shape"],
    heatmap: Float[Tensor, "*shape"],
    *,
    alpha: float = 2.0,
    beta: float = 4.0,
) -> Float[Tensor, "*shape"]:
    """Distance-aware focal loss: focal loss that spares label-0 pixels near a labelled point.

    .. math::

        L = \\begin{cases}
            -(1 - p)^\\alpha \\log p & \\text{at a positive} \\\\
            -(1 - y)^\\beta\\, p^\\alpha \\log(1 - p) & \\text{elsewhere}
        \\end{cases}

    Args:
        logits: any shape, floating point.
        positives: bool, the same shape; the pixels nearest to the points.
        heatmap: :math:`y` in [0, 1], the same shape: 1 at a point, falling to 0 with distance.
        alpha: focusing exponent, at least 0; gamma in Lin et al. 2017.
        beta: how strongly nearness spares, at least 0; 0 is :func:`focal` with hard labels.

    Raises:
        TypeError, ValueError: shapes or dtypes do not fit; an exponent below 0; a heatmap value that is NaN or
            outside [0, 1] (read on the CPU only).

    At a positive it is smallest at p = 1, elsewhere at p = 0, whatever y: the heatmap is a weight, not a target.

    Source: Law and Deng 2018, equation 1; also called penalty-reduced or Gaussian focal loss.
    """
    check_bool_map("positives", positives, logits)
    check_map("heatmap", heatmap, logits)
    check_at_least_zero("alpha", alpha)
    check_at_least_zero("beta", beta)
    return elementwise(distance_aware_charge, logits, heatmap.to(logits.dtype), positives, alpha, beta)


@dataclass(frozen=True, kw_only=True)
class DistanceAware(PixelLoss):
    """Distance-aware focal loss with a Gaussian of width ``sigma``. See :func:`falloff.losses.distance_aware`."""

    alpha: float = 2.0
    beta: float = 4.0
    sigma: float = 1.5
    name = "distance-aware"
    marked = True
    above_zero = ("sigma",)
    at_least_zero = exponents = ("alpha", "beta")

    def charge(self, x: Tensor, heat: Tensor, positive: Tensor) -> Charge:
        return distance_aware_charge(x, heat, positive, self.alpha, self.beta)


def distance_map_bce(
    logits: Float[Tensor, "*shape"],
    positives: Bool[Tensor, "*shape"],
    distance: Float[Tensor, "*shape"],
    *,
    reach: float = 8.0,
) -> Float[Tensor, "*shape"]:
    """Binary cross entropy whose background counts the more, the farther it is from the nearest label.

    .. math::

        L = \\begin{cases}
            -\\log p & \\text{at a positive} \\\\
            -\\min(d / r, 1)\\, \\log(1 - p) & \\text{elsewhere}
        \\end{cases}

    Args:
        logits, positives: as for :func:`distance_aware`.
        distance: :math:`d \\ge 0` in pixels to the nearest labelled point, the same shape; ``inf`` where there is none.
        reach: :math:`r > 0`, the distance in pixels from which on background counts in full.

    Raises:
        TypeError, ValueError: shapes or dtypes do not fit; ``reach`` out of range.

    At a positive it is smallest at p = 1, elsewhere at p = 0: the distance is a weight, not a target.

    Source: a distance map as the weight of cross entropy, as in Ronneberger et al. 2015 and Caliva et al. 2019, but in
    the opposite direction: they weigh most what is near a border, this spares what is near a label, as
    :func:`distance_aware` does. It saturates, so that only a window around each point needs it.
    """
    check_shape("distance", distance, logits)
    check_positive("reach", reach)
    near = (1 - distance.to(logits.dtype) / reach).clamp(min=0.0)
    return distance_aware(logits, positives, near, alpha=0.0, beta=1.0)


@dataclass(frozen=True, kw_only=True)
class DistanceMapBCE(PixelLoss):
    """Cross entropy whose background weighs the more, the farther from a label; full weight from ``reach`` pixels on.

    See :func:`falloff.losses.distance_map_bce`. Points' own ``sigma`` is the width of a Gaussian and plays no part.
    """

    reach: float = 8.0
    name = "distance-map-bce"
    kind = "cone"
    marked = True
    above_zero = ("reach",)

    @property
    def width(self) -> float | None:
        return self.reach

    def charge(self, x: Tensor, heat: Tensor, positive: Tensor) -> Charge:
        return distance_aware_charge(x, heat, positive, 0.0, 1.0)
