"""Adaptive wing loss of the raw output against the Gaussian heatmap."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import max_pool2d, max_pool3d

from falloff.checks import check_above, check_positive
from falloff.losses.autograd import Charge, elementwise
from falloff.losses.inputs import check_map
from falloff.losses.pixelwise import PixelLoss


def adaptive_wing_charge(z: Tensor, y: Tensor, omega: float, theta: float, epsilon: float, alpha: float) -> Charge:
    """w log(1 + |d / e|^(a - y)) for |d| < t, d = z - y, and the straight line that continues it beyond."""
    gap, exponent = (z - y).abs(), alpha - y
    # Where |d| >= theta the curve is not used: holding it at theta there keeps its powers in range.
    near = gap.clamp(max=theta) / epsilon
    power = near.pow(exponent)
    # exponent |d / e|^(a - y - 1) / (e (1 + |d / e|^(a - y))), which is also the line's slope when |d| = theta
    slope = omega * exponent * torch.where(near > 0, power / torch.where(near > 0, near, 1.0), 0.0) / (
        epsilon * (1 + power)
    )
    value = omega * torch.log1p(power) + slope * (gap - theta).clamp(min=0.0)
    return value, slope * torch.sign(z - y)


def adaptive_wing(
    output: Float[Tensor, "*shape"],
    heatmap: Float[Tensor, "*shape"],
    *,
    omega: float = 14.0,
    theta: float = 0.5,
    epsilon: float = 1.0,
    alpha: float = 2.1,
) -> Float[Tensor, "*shape"]:
    """Adaptive wing loss: close to the target it is steep where the heatmap is high and flat on background.

    .. math::

        L = \\begin{cases}
            \\omega \\log\\left(1 + |d / \\epsilon|^{\\alpha - y}\\right) & |d| < \\theta \\\\
            A\\,|d| - C & \\text{else}
        \\end{cases} \\quad d = z - y

    with A and C such that value and slope go on without a break at :math:`|d| = \\theta`.

    Args:
        output, heatmap: as for :func:`mse`.
        omega: height, above 0.
        theta: where the curve becomes a line, above 0.
        epsilon: width of the curve, above 0.
        alpha: exponent on background, above 2 in the paper, above 1 here (at y = 1 the exponent is alpha - 1).

    Raises:
        TypeError, ValueError: as for :func:`mse`; an option out of range.

    Smallest at :math:`z = y`. Its second derivative is infinite at z = y where alpha - y < 2.

    Source: Wang et al. 2019: omega 14, theta 0.5, epsilon 1, alpha 2.1.
    """
    check_map("heatmap", heatmap, output)
    for name, value in (("omega", omega), ("theta", theta), ("epsilon", epsilon)):
        check_positive(name, value)
    check_above("alpha", alpha, 1.0)
    return elementwise(adaptive_wing_charge, output, heatmap.to(output.dtype), omega, theta, epsilon, alpha)


@dataclass(frozen=True, kw_only=True)
class AdaptiveWing(PixelLoss):
    """Adaptive wing loss of the raw output against the Gaussian heatmap. See :func:`falloff.losses.adaptive_wing`.

    With its weighted map: pixels whose heat, or a neighbour's (3 x 3), is at least 0.2 count 1 + ``positive_weight``
    times, all others once (the weighted loss map of Wang et al. 2019: weight 10).
    """

    omega: float = 14.0
    theta: float = 0.5
    epsilon: float = 1.0
    alpha: float = 2.1
    positive_weight: float = 10.0
    sigma: float = 1.5
    name = "adaptive-wing"
    is_probability = False
    above_zero = ("omega", "theta", "epsilon", "sigma")
    at_least_zero = ("positive_weight",)
    numbers = ("omega", "theta", "epsilon", "alpha", "positive_weight")

    def __post_init__(self) -> None:
        super().__post_init__()
        check_above("alpha", self.alpha, 1.0)

    def charge(self, x: Tensor, heat: Tensor, positive: Tensor) -> Charge:
        return adaptive_wing_charge(x, heat, self.omega, self.theta, self.epsilon, self.alpha)

    def pixel_weight(self, heat: Tensor) -> Tensor | None:
        widened = (max_pool2d if heat.ndim == 4 else max_pool3d)(heat, 3, stride=1, padding=1)
        return 1 + self.positive_weight * (widened >= 0.2).to(heat.dtype)

    @property
    def _range(self) -> tuple[float, float]:
        return -1.0, 1.0
