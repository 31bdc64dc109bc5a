"""The losses that are a sum over pixels: one class each, which says what it charges a pixel."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import ClassVar

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import max_pool2d, max_pool3d

from falloff import heatmaps
from falloff.checks import check_above, check_share
from falloff.heatmaps import Stamp
from falloff.losses import charges
from falloff.losses.autograd import drawn_weights, elementwise, is_channels_last, targets, total, work_dtype
from falloff.losses.base import NormalizedLoss, halved, kept_points
from falloff.losses.charges import Charge
from falloff.points import Points


@dataclass(frozen=True, kw_only=True)
class PixelLoss(NormalizedLoss):
    """A loss that is a sum over pixels, computed from the points.

    The maps around the points are drawn, window by window, into a buffer that is not kept; one pass over logits and
    buffer then sums the loss and writes its gradient: the result of the dense formula. On maps of 262,144 elements or
    more (2^18) that pass is compiled, where there is a compiler; the environment variable FALLOFF_COMPILE=0 turns that
    off.

    ``normalizer`` says what the sum over pixels is divided by:

    - "points" (the default): the number of labelled points in the batch, at least 1, so that a batch without points
      has its negative term alone;
    - "image": as "points", but each image by its own points, then the mean over images; the loss of a batch is then the
      mean of the losses of its parts, however it is split;
    - "pixels": the number of logits that the mask leaves;
    - "running": the mean number of points in a batch so far, the latest weighing most (:math:`m \\leftarrow 0.9\\,m +
      0.1\\,n`), at least 1;
    - a number: itself.

    A point under a mask does not count. ``points.weight`` multiplies the charge of a point's pixel (and, where the
    Gaussian is a target, of the pixels around it by as much as they belong to it, :math:`1 + y (w - 1)`); it does not
    change the normaliser.
    """

    kind: ClassVar[str] = "gaussian"
    marked: ClassVar[bool] = False  # whether a positive is charged by another rule than its heat

    def charge(self, x: Tensor, heat: Tensor, positive: Tensor) -> Charge:
        """Charge and slope of pixels, given the Gaussian (or the hard label) there and whether they are positives."""
        raise NotImplementedError

    def pixel_weight(self, heat: Tensor) -> Tensor | None:
        """What the charges are multiplied by, from the maps ``(B, C, ...)`` of the Gaussians; None for nothing."""
        return None

    def elementwise(
        self, logits: Float[Tensor, "batch classes *size"], points: Points
    ) -> Float[Tensor, "batch classes *size"]:
        """The loss of each pixel, from dense maps: what a call sums, but for masks and weights of points."""
        maps = (points, tuple(logits.shape[2:]), logits.shape[1])
        heat = Stamp.of(*maps, self.width, kind=self.kind).draw(points).to(logits.dtype)
        value = elementwise(self.charge, logits, heat, heatmaps.positives(*maps))
        weight = self.pixel_weight(heat)
        return value if weight is None else value * weight

    def best_constant(self, points: Points, size: tuple[int, ...], classes: int) -> float:
        stamp = Stamp.of(points, size, classes, self.width, kind=self.kind, marked=self.marked)
        index, value = stamp.press(points)
        marks = stamp.merged(index, value)
        shares = replace(self).shares(points.valid.sum(1).to(marks.dtype), marks.numel())  # a running mean of its own
        heat, positive, weight = targets(self, stamp, marks, drawn_weights(stamp, points, index, value, marks))
        weight = shares[:, None].expand(marks.shape) if weight is None else shares[:, None] * weight
        # Pixels far from points are all alike: one stands for them.
        near = marks > 0
        nothing = marks.new_zeros(1)
        kinds = torch.cat([heat[near], nothing]), torch.cat([positive[near], nothing > 0])
        weights = torch.cat([weight[near], weight[~near].sum().view(1)])
        return halved(lambda x: (weights * self.charge(torch.full_like(weights, x), *kinds)[1]).sum(), *self._range)

    @property
    def width(self) -> float | None:
        """How wide the map around a point is, in pixels; None for its nearest pixel alone."""
        return getattr(self, "sigma", None)

    @property
    def _range(self) -> tuple[float, float]:
        """Where the best constant lies."""
        return -40.0, 40.0

    def _total(self, logits: Tensor, points: Points, mask: Tensor | None) -> Tensor:
        size, classes = tuple(logits.shape[2:]), logits.shape[1]
        stamp = Stamp.of(points, size, classes, self.width, kind=self.kind, marked=self.marked,
                         channels_last=is_channels_last(logits))
        labelled = kept_points(points, mask).sum(1).to(work_dtype(logits))
        kept = logits.numel() if mask is None else mask.sum()
        return total(self, logits, stamp, points, self.shares(labelled, kept), mask)


@dataclass(frozen=True, kw_only=True)
class BCE(PixelLoss):
    """Binary cross entropy; label 1 at the pixel nearest to each point. See :func:`falloff.losses.bce`."""

    name = "bce"

    def charge(self, x: Tensor, heat: Tensor, positive: Tensor) -> Charge:
        return charges.cross_entropy(x, heat, 1.0)


@dataclass(frozen=True, kw_only=True)
class WeightedBCE(PixelLoss):
    """Binary cross entropy with a weight on label 1. See :func:`falloff.losses.weighted_bce`."""

    positive_weight: float = 100.0
    name = "weighted-bce"
    above_zero = ("positive_weight",)

    def charge(self, x: Tensor, heat: Tensor, positive: Tensor) -> Charge:
        return charges.cross_entropy(x, heat, self.positive_weight)


@dataclass(frozen=True, kw_only=True)
class Focal(PixelLoss):
    """Focal loss; label 1 at the pixel nearest to each point. See :func:`falloff.losses.focal`."""

    gamma: float = 2.0
    alpha: float | None = None
    name = "focal"
    at_least_zero = ("gamma",)

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.alpha is not None:
            check_share("alpha", self.alpha)

    def charge(self, x: Tensor, heat: Tensor, positive: Tensor) -> Charge:
        weight_1, weight_0 = (1.0, 1.0) if self.alpha is None else (self.alpha, 1.0 - self.alpha)
        return charges.focal(x, heat, self.gamma, weight_1, weight_0)


@dataclass(frozen=True, kw_only=True)
class SoftBCE(PixelLoss):
    """Binary cross entropy towards the Gaussian heatmap of width ``sigma``. See :func:`falloff.losses.bce`."""

    sigma: float = 1.5
    name = "soft-bce"
    above_zero = ("sigma",)

    def charge(self, x: Tensor, heat: Tensor, positive: Tensor) -> Charge:
        return charges.cross_entropy(x, heat, 1.0)


@dataclass(frozen=True, kw_only=True)
class QualityFocal(PixelLoss):
    """Quality focal loss towards the Gaussian heatmap of width ``sigma``. See :func:`falloff.losses.quality_focal`."""

    beta: float = 2.0
    sigma: float = 1.5
    name = "quality-focal"
    above_zero = ("sigma",)
    at_least_zero = ("beta",)

    def charge(self, x: Tensor, heat: Tensor, positive: Tensor) -> Charge:
        return charges.quality_focal(x, heat, self.beta)


@dataclass(frozen=True, kw_only=True)
class Varifocal(PixelLoss):
    """Varifocal loss towards the Gaussian heatmap of width ``sigma``. See :func:`falloff.losses.varifocal`."""

    alpha: float = 0.75
    gamma: float = 2.0
    sigma: float = 1.5
    name = "varifocal"
    above_zero = ("sigma",)
    at_least_zero = ("alpha", "gamma")

    def charge(self, x: Tensor, heat: Tensor, positive: Tensor) -> Charge:
        return charges.varifocal(x, heat, self.alpha, self.gamma)


@dataclass(frozen=True, kw_only=True)
class MSE(PixelLoss):
    """Squared error of the raw output against the Gaussian heatmap. See :func:`falloff.losses.mse`."""

    sigma: float = 1.5
    scale: float = 1.0
    name = "mse"
    is_probability = False
    above_zero = ("sigma", "scale")

    def charge(self, x: Tensor, heat: Tensor, positive: Tensor) -> Charge:
        return charges.squared(x, heat, self.scale, 0.0)

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

    def charge(self, x: Tensor, heat: Tensor, positive: Tensor) -> Charge:
        return charges.squared(x, heat, self.scale, self.positive_weight)


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

    def __post_init__(self) -> None:
        super().__post_init__()
        check_above("alpha", self.alpha, 1.0)

    def charge(self, x: Tensor, heat: Tensor, positive: Tensor) -> Charge:
        return charges.adaptive_wing(x, heat, self.omega, self.theta, self.epsilon, self.alpha)

    def pixel_weight(self, heat: Tensor) -> Tensor | None:
        widened = (max_pool2d if heat.ndim == 4 else max_pool3d)(heat, 3, stride=1, padding=1)
        return 1 + self.positive_weight * (widened >= 0.2).to(heat.dtype)

    @property
    def _range(self) -> tuple[float, float]:
        return -1.0, 1.0


@dataclass(frozen=True, kw_only=True)
class DistanceAware(PixelLoss):
    """Distance-aware focal loss with a Gaussian of width ``sigma``. See :func:`falloff.losses.distance_aware`."""

    alpha: float = 2.0
    beta: float = 4.0
    sigma: float = 1.5
    name = "distance-aware"
    marked = True
    above_zero = ("sigma",)
    at_least_zero = ("alpha", "beta")

    def charge(self, x: Tensor, heat: Tensor, positive: Tensor) -> Charge:
        return charges.distance_aware(x, heat, positive, self.alpha, self.beta)


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
        return charges.distance_aware(x, heat, positive, 0.0, 1.0)
