"""Losses of how far a map overlaps its target: Tversky and Dice."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from falloff import heatmaps
from falloff.checks import check_at_least_zero, check_positive, plain
from falloff.losses.autograd import work_dtype
from falloff.losses.base import PointLoss, check_labelled, near_points
from falloff.losses.inputs import check_map
from falloff.losses.normalizers import Normalizer
from falloff.points import Points


@dataclass(frozen=True, kw_only=True)
class Tversky(PointLoss):
    """One minus the Tversky index of each image, the mean over images.

    .. math:: L = 1 - \\frac{\\sum p\\,y + s}{\\sum p\\,y + \\alpha \\sum p\\,(1 - y) + \\beta \\sum (1 - p)\\,y + s}

    with sums over all classes and pixels of an image, and y the Gaussian heatmap of width ``sigma``.

    ``alpha`` prices false positives, ``beta`` false negatives, both at least 0; ``smooth`` :math:`s > 0` defines it
    where nothing is labelled. ``points.weight`` :math:`w` counts a pixel :math:`1 + y (w - 1)` times in every sum, with
    w of the point nearest to it. There is no normaliser: on processes of as many images each, the mean is that of all.
    Its parts are what is missed, :math:`\\beta \\sum (1 - p)\\,y`, and what is false,
    :math:`\\alpha \\sum p\\,(1 - y)`, over the same denominator.

    For a soft target it is smallest at p = 1 where y is high and at p = 0 where it is low, never at p = y: the overlap
    of a blurred target is not a probability.

    Source: Salehi et al. 2017: alpha 0.3, beta 0.7.
    """

    alpha: float = 0.3
    beta: float = 0.7
    smooth: float = 1.0
    sigma: float = 1.5
    name = "tversky"
    above_zero = ("smooth", "sigma")
    at_least_zero = ("alpha", "beta")

    def _sums(self, logits: Tensor, points: Points, mask: Tensor | None) -> tuple[Tensor, Tensor, Tensor]:
        """Of p y, p and y in each image, ``(B,)``."""
        near, heat = near_points(logits, points, mask, self.sigma)
        x = logits.to(work_dtype(logits))
        p = torch.sigmoid(x if mask is None else torch.where(mask, x, 0.0))
        image, at_points = near.index // x[0].numel(), p.reshape(-1)[near.index]
        more = heat * (near.weight.to(heat.dtype) - 1)  # beyond once

        def summed(near_points: Tensor) -> Tensor:
            return near_points.new_zeros(len(x)).index_add(0, image, near_points)

        predicted = (p if mask is None else torch.where(mask, p, 0.0)).flatten(1).sum(1) + summed(more * at_points)
        both, labelled = summed((1 + more) * heat * at_points), summed((1 + more) * heat)
        return both, predicted, labelled

    def _total(self, logits: Tensor, points: Points, mask: Tensor | None) -> Tensor:
        sums = self._sums(logits, points, mask)
        return _index_loss(*sums, self.alpha, self.beta, self.smooth) / max(1, len(logits))

    def _parts(self, logits: Tensor, points: Points, mask: Tensor | None, **normalizer: Normalizer) -> Tensor:
        both, predicted, labelled = self._sums(logits, points, mask)
        missed, false = self.beta * (labelled - both), self.alpha * (predicted - both)
        return torch.stack([missed, false], 1) / ((both + missed + false + self.smooth) * max(1, len(logits)))[:, None]

    def best_constant(self, points: Points, size: tuple[int, ...], classes: int, mask: Tensor | None = None) -> float:
        """The label frequency's: one constant everywhere overlaps best at p = 0 or 1, where nothing is learnt."""
        check_labelled(points, mask)
        heat = heatmaps.render(points, size, classes, self.sigma)
        heat = heat if mask is None else heat[mask]
        return math.log(max(float(heat.mean()), 1e-6)) - math.log1p(-min(float(heat.mean()), 1 - 1e-6))


@dataclass(frozen=True, kw_only=True)
class Dice(Tversky):
    """One minus the Dice coefficient of each image, the mean over images: :class:`Tversky` with both prices 1/2.

    .. math:: L = 1 - \\frac{2 \\sum p\\,y + 2 s}{\\sum p + \\sum y + 2 s}

    Source: Milletari et al. 2016 (V-Net), here without squares in the denominator.
    """

    alpha: float = field(default=0.5, init=False)
    beta: float = field(default=0.5, init=False)
    name = "dice"


def tversky(
    logits: Float[Tensor, "batch *shape"],
    labels: Bool[Tensor, "batch *shape"] | Float[Tensor, "batch *shape"],
    *,
    alpha: float = 0.3,
    beta: float = 0.7,
    smooth: float = 1.0,
) -> Float[Tensor, " batch"]:
    """The loss of each image of :class:`~falloff.losses.overlap.Tversky`, from dense maps.

    ``labels`` are bool or in [0, 1], of the logits' shape.

    Raises:
        TypeError, ValueError: shapes or dtypes do not fit; a label or an option out of range.
    """
    for name, value in (("alpha", alpha), ("beta", beta)):
        check_at_least_zero(name, value)
    check_positive("smooth", smooth)
    check_map("labels", labels, logits)
    p, y = torch.sigmoid(logits).flatten(1), labels.to(logits.dtype).flatten(1)
    return _index_loss((p * y).sum(1), p.sum(1), y.sum(1), plain(alpha), plain(beta), plain(smooth))


def dice(
    logits: Float[Tensor, "batch *shape"],
    labels: Bool[Tensor, "batch *shape"] | Float[Tensor, "batch *shape"],
    *,
    smooth: float = 1.0,
) -> Float[Tensor, " batch"]:
    """The loss of each image of :class:`~falloff.losses.overlap.Dice`, from dense maps."""
    return tversky(logits, labels, alpha=0.5, beta=0.5, smooth=smooth)


def _index_loss(both: Tensor, predicted: Tensor, labelled: Tensor, alpha: float, beta: float, smooth: float) -> Tensor:
    return 1 - (both + smooth) / (both + alpha * (predicted - both) + beta * (labelled - both) + smooth)
