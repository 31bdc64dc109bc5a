"""Squared error of the raw output against the Gaussian heatmap, plain and with a weight near the points."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from jaxtyping import Float
from torch import Tensor

from falloff.checks import check_at_least_zero, check_positive
from falloff.losses.autograd import Charge, elementwise
from falloff.losses.inputs import check_map
from falloff.losses.pixelwise import PixelLoss


def squared_charge(z: Tensor, y: Tensor, scale: float, positive_weight: float) -> Charge:
    """(1 + w y) (z - s y)^2 of a raw output z."""
    error = z - scale * y
    weight = 1 + positive_weight * y
    return weight * error.square(), 2 * weight * error


def mse(
    output: Float[Tensor, "*shape"],
    heatmap: Float[Tensor, "*shape"],
    *,
    scale: float = 1.0,
) -> Float[Tensor, "*shape"]:
    """Squared error against a heatmap.

    .. math:: L = (z - s\\,y)^2

    Args:
        output: :math:`z`, what the net puts out, taken as it is: no sigmoid.
        heatmap: :math:`y` in [0, 1], the same shape.
        scale: :math:`s > 0`, the height of the target's peaks.

    Raises:
        TypeError, ValueError: shapes or dtypes do not fit; an option out of range; a heatmap value that is NaN or
            outside [0, 1] (read on the CPU only).

    Smallest at :math:`z = s\\,y`.

    Source: Tompson et al. 2014; Newell et al. 2016 (scale 1).
    """
    return weighted_mse(output, heatmap, scale=scale, positive_weight=0.0)


def weighted_mse(
    output: Float[Tensor, "*shape"],
    heatmap: Float[Tensor, "*shape"],
    *,
    scale: float = 1.0,
    positive_weight: float = 10.0,
) -> Float[Tensor, "*shape"]:
    """Squared error against a heatmap that counts more near the points.

    .. math:: L = (1 + w\\,y)\\,(z - s\\,y)^2

    Args:
        output, heatmap, scale: as for :func:`mse`.
        positive_weight: :math:`w \\ge 0`, extra weight where the heatmap is high; 0 is :func:`mse`.

    Raises:
        TypeError, ValueError: as for :func:`mse`; a weight out of range.

    Smallest at :math:`z = s\\,y`: the weight moves nothing, it only hurries.

    Source: a common practice without one origin; the weight of 10 is that of the map in Wang et al. 2019.
    """
    check_map("heatmap", heatmap, output)
    check_positive("scale", scale)
    check_at_least_zero("positive_weight", positive_weight)
    return elementwise(squared_charge, output, heatmap.to(output.dtype), scale, positive_weight)


@dataclass(frozen=True, kw_only=True)
class MSE(PixelLoss):
    """Squared error of the raw output against the Gaussian heatmap. See :func:`falloff.losses.mse`."""

    sigma: float = 1.5
    scale: float = 1.0
    name = "mse"
    is_probability = False
    above_zero = ("sigma", "scale")
    numbers: ClassVar[tuple[str, ...]] = ("scale",)

    def charge(self, x: Tensor, heat: Tensor, positive: Tensor) -> Charge:
        return squared_charge(x, heat, self.scale, 0.0)

    def scores(self, logits: Tensor) -> Tensor:
        return logits / self.scale

    @property
    def _range(self) -> tuple[float, float]:
        return -self.scale, self.scale  # a raw output may need to be as large as its target's peaks


@dataclass(frozen=True, kw_only=True)
class WeightedMSE(MSE):
    """Squared error that counts more near the points. See :func:`falloff.losses.weighted_mse`."""

    positive_weight: float = 10.0
    name = "weighted-mse"
    at_least_zero = ("positive_weight",)
    numbers = ("scale", "positive_weight")

    def charge(self, x: Tensor, heat: Tensor, positive: Tensor) -> Charge:
        return squared_charge(x, heat, self.scale, self.positive_weight)
