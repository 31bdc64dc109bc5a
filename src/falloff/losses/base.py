"""What every loss shares: its call, its options, what a decoder reads, and the pixels of its points."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields
from typing import Any, ClassVar

import numpy as np
import torch
from jaxtyping import Bool, Float
from torch import Tensor

from falloff import heatmaps
from falloff.checks import check_at_least_zero, check_positive
from falloff.heatmaps import PixelsNear, nearest_pixel
from falloff.losses.autograd import is_readable, work_dtype
from falloff.losses.inputs import check_finite, check_logits
from falloff.losses.normalizers import Normalizer, RunningMean, check_normalizer, shares
from falloff.points import Points


@dataclass(frozen=True, kw_only=True)
class PointLoss:
    """A loss of logits ``(B, C, H, W)`` against :class:`~falloff.points.Points`, a differentiable scalar.

    Called as ``loss(logits, points)`` or ``loss(logits, points, mask=mask)``:

    - ``logits`` floating point, ``(B, C, H, W)``, or ``(B, C, D, H, W)`` for points in a volume. Half precision is
      computed in float32; the result is float32 (float64 for float64) and the gradient has the logits' dtype.
    - ``points`` of B images. Points with their own ``sigma`` or ``weight`` keep them.
    - ``mask`` bool, with as many axes as the logits, each as long or of length 1, True where a pixel counts: False on
      an ignored region ``(B, 1, H, W)``, on a class that nobody labelled in an image ``(B, C, 1, 1)``, or both. What
      lies under False changes neither the loss nor the gradient, whatever it is.

    Raises:
        TypeError: logits that are not floating point, a mask that is not bool.
        ValueError: shapes that do not fit; a point outside the picture; a label outside [0, C); on the CPU also logits
            whose NaN or infinity reaches the loss (elsewhere the check would stall the device).

    Second derivatives are those of the formulas, which are infinite or undefined at single places: at p = y and z = y
    for exponents below 2, and where a distance is 0.
    """

    name: ClassVar[str]
    is_probability: ClassVar[bool] = True
    # Options by what is allowed of them.
    above_zero: ClassVar[tuple[str, ...]] = ()
    at_least_zero: ClassVar[tuple[str, ...]] = ()

    def __post_init__(self) -> None:
        for option in fields(self):  # NumPy's numbers become Python's: a compiler takes them for arrays
            if isinstance(value := getattr(self, option.name), np.generic):
                object.__setattr__(self, option.name, value.item())
        for name in self.above_zero:
            check_positive(name, getattr(self, name))
        for name in self.at_least_zero:
            check_at_least_zero(name, getattr(self, name))

    def __call__(
        self, logits: Float[Tensor, "batch classes *size"], points: Points, *, mask: Bool[Tensor, "..."] | None = None
    ) -> Float[Tensor, ""]:
        """The loss of a batch."""
        check_logits(logits, points, mask)
        value = self._total(logits, points, None if mask is None else mask.expand(logits.shape))
        if is_readable(value) and not torch.isfinite(value.detach()):
            check_finite(logits, mask)
        return value

    def _total(self, logits: Tensor, points: Points, mask: Tensor | None) -> Tensor:
        raise NotImplementedError

    def scores(self, logits: Tensor) -> Tensor:
        """What a decoder reads: the probability, or the raw output of a loss that regresses a map."""
        return torch.sigmoid(logits) if self.is_probability else logits

    def best_constant(self, points: Points, size: tuple[int, ...], classes: int) -> float:
        """See :func:`falloff.losses.best_constant`."""
        raise NotImplementedError

    def state_dict(self) -> dict[str, Tensor]:
        """What a training that stops and goes on must keep: empty but for ``normalizer="running"``."""
        return {}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from what :meth:`state_dict` gave, whatever else is with it."""


@dataclass(frozen=True, kw_only=True)
class NormalizedLoss(PointLoss):
    """A loss whose sum is divided by what ``normalizer`` names; see :class:`falloff.losses.PixelLoss`."""

    normalizer: Normalizer = "points"
    _running: RunningMean = field(default_factory=RunningMean, init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        check_normalizer("normalizer", self.normalizer)
        super().__post_init__()

    def shares(self, labelled: Tensor, kept: Tensor | int) -> Tensor:
        """What each image's sum is multiplied by: :func:`falloff.losses.normalizers.shares`."""
        return shares(self.normalizer, labelled, kept, self._running)

    def state_dict(self) -> dict[str, Tensor]:
        return {} if self._running.mean is None else {"running_mean": self._running.mean}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self._running.mean = state.get("running_mean")


def halved(slope: Callable[[float], Tensor], low: float, high: float) -> float:
    """Where a slope that changes its sign once, from below 0 to above, does so: the interval is halved 60 times."""
    for _ in range(60):
        middle = (low + high) / 2
        low, high = (low, middle) if slope(middle) > 0 else (middle, high)
    return (low + high) / 2


def per_point(maps: Tensor, points: Points) -> Tensor:
    """What full maps ``(B, C, ...)`` hold at the pixel nearest to each point, in the map of its label, ``(B, N)``."""
    image = torch.arange(len(points), device=maps.device)[:, None]
    place = [nearest_pixel(x, n) for x, n in zip(points.xy.unbind(-1), reversed(maps.shape[2:]), strict=True)]
    return maps[(image, points.label, *reversed(place))]


def kept_points(points: Points, mask: Tensor | None) -> Tensor:
    """Which points count: the valid ones whose pixel no mask hides, ``(B, N)``."""
    return points.valid if mask is None else points.valid & per_point(mask, points)


def near_points(logits: Tensor, points: Points, mask: Tensor | None, sigma: float) -> tuple[PixelsNear, Tensor]:
    """The pixels near points, and the heat of those that count, in the dtype of the work."""
    near = heatmaps.pixels_near(points, tuple(logits.shape[2:]), logits.shape[1], sigma)
    heat = torch.where(near.counts, near.heat, 0.0).to(work_dtype(logits))
    return near, heat if mask is None else torch.where(mask.reshape(-1)[near.index], heat, 0.0)
