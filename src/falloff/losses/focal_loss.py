"""Focal loss: cross entropy, weighted by how wrong the prediction still is."""

from __future__ import annotations

from dataclasses import dataclass

from jaxtyping import Bool, Float
from torch import Tensor

from falloff.checks import check_at_least_zero, check_share
from falloff.losses.autograd import Charge, elementwise
from falloff.losses.inputs import check_map
from falloff.losses.pixelwise import PixelLoss
from falloff.losses.sigmoid import focused_0, focused_1


def focal_charge(x: Tensor, y: Tensor, gamma: float, alpha: float | None) -> Charge:
    """-a y (1 - p)^g log p - (1 - a) (1 - y) p^g log(1 - p), both weights 1 without a."""
    weight_1, weight_0 = (1.0, 1.0) if alpha is None else (alpha, 1.0 - alpha)
    positive, slope_1 = focused_1(x, gamma)
    negative, slope_0 = focused_0(x, gamma)
    one, zero = weight_1 * y, weight_0 * (1 - y)
    return one * positive + zero * negative, one * slope_1 + zero * slope_0


def focal(
    logits: Float[Tensor, "*shape"],
    labels: Bool[Tensor, "*shape"] | Float[Tensor, "*shape"],
    *,
    gamma: float = 2.0,
    alpha: float | None = None,
) -> Float[Tensor, "*shape"]:
    """Focal loss: cross entropy, weighted by how wrong the prediction still is.

    .. math:: L = -\\alpha\\, y (1 - p)^\\gamma \\log p - (1 - \\alpha) (1 - y)\\, p^\\gamma \\log(1 - p)

    Args:
        logits, labels: as for :func:`bce`; the paper defines labels 0 and 1 only.
        gamma: at least 0; 0 is :func:`bce`.
        alpha: weight of label 1 in [0, 1], with 1 - alpha for label 0; None leaves both at 1.

    Raises:
        TypeError, ValueError: as for :func:`bce`; ``gamma`` or ``alpha`` out of range.

    Without ``alpha``, for a label that is 1 with frequency t it is smallest at a p between t and 1/2, nearer to 1/2 the
    larger gamma: its probabilities are drawn towards the middle.

    Source: Lin et al. 2017, equations 4 and 5 (RetinaNet: gamma 2, alpha 0.25).

    Example:
        >>> import torch
        >>> from falloff import losses
        >>> losses.focal(torch.tensor([-2.0, 0.0, 2.0]), torch.ones(3))
        tensor([1.6501, 0.1733, 0.0018])
    """
    check_map("labels", labels, logits)
    check_at_least_zero("gamma", gamma)
    if alpha is not None:
        check_share("alpha", alpha)
    return elementwise(focal_charge, logits, labels.to(logits.dtype), gamma, alpha)


@dataclass(frozen=True, kw_only=True)
class Focal(PixelLoss):
    """Focal loss; label 1 at the pixel nearest to each point. See :func:`falloff.losses.focal`."""

    gamma: float = 2.0
    alpha: float | None = None
    name = "focal"
    at_least_zero = ("gamma",)
    numbers = ("alpha",)
    exponents = ("gamma",)

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.alpha is not None:
            check_share("alpha", self.alpha)

    def charge(self, x: Tensor, heat: Tensor, positive: Tensor) -> Charge:
        return focal_charge(x, heat, self.gamma, self.alpha)
