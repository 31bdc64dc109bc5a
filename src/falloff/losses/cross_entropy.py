"""Binary cross entropy: with hard labels, with a weight on them, with the Gaussian for labels."""

from __future__ import annotations

from dataclasses import dataclass

from jaxtyping import Bool, Float
from torch import Tensor

from falloff.checks import check_at_least_zero
from falloff.losses.autograd import Charge, elementwise
from falloff.losses.inputs import check_map
from falloff.losses.pixelwise import PixelLoss
from falloff.losses.sigmoid import minus_log_p, minus_log_q, p_of, q_of


def cross_entropy_charge(x: Tensor, y: Tensor, positive_weight: float) -> Charge:
    """-w y log p - (1 - y) log(1 - p), for y in [0, 1]."""
    one, zero = positive_weight * y, 1 - y
    return one * minus_log_p(x) + zero * minus_log_q(x), zero * p_of(x) - one * q_of(x)


def bce(
    logits: Float[Tensor, "*shape"], labels: Bool[Tensor, "*shape"] | Float[Tensor, "*shape"]
) -> Float[Tensor, "*shape"]:
    """Binary cross entropy.

    .. math:: L = -y \\log p - (1 - y) \\log(1 - p)

    Args:
        logits: any shape, floating point.
        labels: the same shape, bool or in [0, 1]. With a Gaussian heatmap for labels this is "soft BCE".

    Raises:
        TypeError, ValueError: shapes or dtypes do not fit; a label is NaN or outside [0, 1] (read on the CPU only).

    The expected loss is smallest at :math:`p = y`, for soft labels too, but is then not 0.
    """
    return weighted_bce(logits, labels, positive_weight=1.0)


def weighted_bce(
    logits: Float[Tensor, "*shape"],
    labels: Bool[Tensor, "*shape"] | Float[Tensor, "*shape"],
    *,
    positive_weight: float = 100.0,
) -> Float[Tensor, "*shape"]:
    """Binary cross entropy with a weight on label 1.

    .. math:: L = -w\\, y \\log p - (1 - y) \\log(1 - p)

    Args:
        logits, labels: as for :func:`bce`.
        positive_weight: :math:`w \\ge 0`; 1 is :func:`bce`.

    Raises:
        TypeError, ValueError: as for :func:`bce`; a weight out of range.

    Smallest at :math:`p = w y / (w y + 1 - y)`: what it learns is no longer the frequency of the label.
    """
    check_map("labels", labels, logits)
    check_at_least_zero("positive_weight", positive_weight)
    return elementwise(cross_entropy_charge, logits, labels.to(logits.dtype), positive_weight)


@dataclass(frozen=True, kw_only=True)
class BCE(PixelLoss):
    """Binary cross entropy; label 1 at the pixel nearest to each point. See :func:`falloff.losses.bce`."""

    name = "bce"

    def charge(self, x: Tensor, heat: Tensor, positive: Tensor) -> Charge:
        return cross_entropy_charge(x, heat, 1.0)


@dataclass(frozen=True, kw_only=True)
class WeightedBCE(PixelLoss):
    """Binary cross entropy with a weight on label 1. See :func:`falloff.losses.weighted_bce`."""

    positive_weight: float = 100.0
    name = "weighted-bce"
    above_zero = ("positive_weight",)
    numbers = ("positive_weight",)

    def charge(self, x: Tensor, heat: Tensor, positive: Tensor) -> Charge:
        return cross_entropy_charge(x, heat, self.positive_weight)


@dataclass(frozen=True, kw_only=True)
class SoftBCE(BCE):
    """Binary cross entropy towards the Gaussian heatmap of width ``sigma``. See :func:`falloff.losses.bce`."""

    sigma: float = 1.5
    name = "soft-bce"
    above_zero = ("sigma",)
