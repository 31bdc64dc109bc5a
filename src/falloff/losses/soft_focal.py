"""Focal losses for soft targets: quality focal and varifocal loss."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from falloff.checks import check_at_least_zero
from falloff.losses.autograd import Charge, elementwise
from falloff.losses.cross_entropy import cross_entropy_charge
from falloff.losses.inputs import check_map
from falloff.losses.pixelwise import PixelLoss
from falloff.losses.sigmoid import focused_0, is_zero, p_of, power_of, q_of


def quality_focal_charge(x: Tensor, y: Tensor, beta: float) -> Charge:
    """|y - p|^b (-y log p - (1 - y) log(1 - p))."""
    value, slope = cross_entropy_charge(x, y, 1.0)  # its slope is p - y, exact at both ends
    if is_zero(beta):
        return value, slope
    gap = slope.abs()
    power = power_of(gap, beta)
    # d|p - y|^b / dx = b |p - y|^(b - 1) sign(p - y) p q; where p = y it is 0 or, for b <= 1, undefined: 0 is taken.
    steeper = torch.where(gap > 0, power / torch.where(gap > 0, slope, 1.0), 0.0)
    return power * value, power * slope + beta * steeper * p_of(x) * q_of(x) * value


def quality_focal(
    logits: Float[Tensor, "*shape"],
    labels: Bool[Tensor, "*shape"] | Float[Tensor, "*shape"],
    *,
    beta: float = 2.0,
) -> Float[Tensor, "*shape"]:
    """Quality focal loss: cross entropy towards a soft target, weighted by the distance from it.

    .. math:: L = |y - p|^\\beta \\left(-y \\log p - (1 - y) \\log(1 - p)\\right)

    Args:
        logits, labels: as for :func:`bce`; soft labels are what it is made for.
        beta: at least 0; 0 is :func:`bce`. With labels 0 and 1 it is :func:`focal` with gamma = beta.

    Raises:
        TypeError, ValueError: as for :func:`bce`; ``beta`` out of range.

    Smallest at :math:`p = y`, where it is 0 (beta > 0): a proper loss for soft targets, unlike :func:`focal`.

    Source: Li et al. 2020 (generalized focal loss): beta 2.
    """
    check_map("labels", labels, logits)
    check_at_least_zero("beta", beta)
    return elementwise(quality_focal_charge, logits, labels.to(logits.dtype), beta)


@dataclass(frozen=True, kw_only=True)
class QualityFocal(PixelLoss):
    """Quality focal loss towards the Gaussian heatmap of width ``sigma``. See :func:`falloff.losses.quality_focal`."""

    beta: float = 2.0
    sigma: float = 1.5
    name = "quality-focal"
    above_zero = ("sigma",)
    at_least_zero = exponents = ("beta",)

    def charge(self, x: Tensor, heat: Tensor, positive: Tensor) -> Charge:
        return quality_focal_charge(x, heat, self.beta)


def varifocal_charge(x: Tensor, y: Tensor, alpha: float, gamma: float) -> Charge:
    """y times cross entropy where y > 0, a p^g times it elsewhere."""
    value, slope = cross_entropy_charge(x, y, 1.0)
    negative, negative_slope = focused_0(x, gamma)
    labelled = y > 0
    return (torch.where(labelled, y * value, alpha * negative),
            torch.where(labelled, y * slope, alpha * negative_slope))


def varifocal(
    logits: Float[Tensor, "*shape"],
    labels: Bool[Tensor, "*shape"] | Float[Tensor, "*shape"],
    *,
    alpha: float = 0.75,
    gamma: float = 2.0,
) -> Float[Tensor, "*shape"]:
    """Varifocal loss: focal loss for background, cross entropy weighted by the target for the rest.

    .. math::

        L = \\begin{cases}
            y \\left(-y \\log p - (1 - y) \\log(1 - p)\\right) & y > 0 \\\\
            -\\alpha\\, p^\\gamma \\log(1 - p) & y = 0
        \\end{cases}

    Args:
        logits, labels: as for :func:`bce`. With a Gaussian heatmap every pixel of its window is "y > 0".
        alpha: weight of the background, at least 0.
        gamma: focusing exponent of the background, at least 0.

    Raises:
        TypeError, ValueError: as for :func:`bce`; ``alpha`` or ``gamma`` out of range.

    Smallest at :math:`p = y`. On a Gaussian the factor y makes a confident mistake near a point, but not on it, almost
    free.

    Source: Zhang et al. 2021 (VarifocalNet): alpha 0.75, gamma 2.
    """
    check_map("labels", labels, logits)
    check_at_least_zero("alpha", alpha)
    check_at_least_zero("gamma", gamma)
    return elementwise(varifocal_charge, logits, labels.to(logits.dtype), alpha, gamma)


@dataclass(frozen=True, kw_only=True)
class Varifocal(PixelLoss):
    """Varifocal loss towards the Gaussian heatmap of width ``sigma``. See :func:`falloff.losses.varifocal`."""

    alpha: float = 0.75
    gamma: float = 2.0
    sigma: float = 1.5
    name = "varifocal"
    above_zero = ("sigma",)
    at_least_zero = ("alpha", "gamma")
    numbers = ("alpha",)
    exponents = ("gamma",)

    def charge(self, x: Tensor, heat: Tensor, positive: Tensor) -> Charge:
        return varifocal_charge(x, heat, self.alpha, self.gamma)
