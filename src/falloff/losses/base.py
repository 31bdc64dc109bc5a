"""What every loss of the family shares: its call, its checks, what a decoder reads."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import ClassVar

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from falloff.checks import check_at_least_zero, check_positive
from falloff.heatmaps import nearest_pixel
from falloff.losses import normalizers
from falloff.losses.autograd import is_readable
from falloff.losses.normalizers import Normalizer, RunningMean
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
        for option in self.above_zero:
            check_positive(option, getattr(self, option))
        for option in self.at_least_zero:
            check_at_least_zero(option, getattr(self, option))

    def __call__(
        self, logits: Float[Tensor, "batch classes *size"], points: Points, *, mask: Bool[Tensor, "..."] | None = None
    ) -> Float[Tensor, ""]:
        """The loss of a batch."""
        check_logits(logits, points, mask)
        value = self._total(logits, points, None if mask is None else mask.expand(logits.shape))
        if is_readable(value) and not torch.isfinite(value.detach()):
            refuse_not_finite(logits, mask)
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

    def load_state_dict(self, state: dict[str, Tensor]) -> None:
        """Go on from what :meth:`state_dict` gave."""


@dataclass(frozen=True, kw_only=True)
class NormalizedLoss(PointLoss):
    """A loss whose sum is divided by what ``normalizer`` names; see :class:`falloff.losses.PixelLoss`."""

    normalizer: Normalizer = "points"
    _running: RunningMean = field(default_factory=RunningMean, init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        normalizers.check(self.normalizer)
        super().__post_init__()

    def shares(self, labelled: Tensor, kept: Tensor | int) -> Tensor:
        """What each image's sum is multiplied by: :func:`falloff.losses.normalizers.shares`."""
        return normalizers.shares(self.normalizer, labelled, kept, self._running)

    def state_dict(self) -> dict[str, Tensor]:
        return {} if self._running.mean is None else {"running_mean": self._running.mean}

    def load_state_dict(self, state: dict[str, Tensor]) -> None:
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


def check_logits(logits: Tensor, points: Points, mask: Tensor | None) -> None:
    if not isinstance(logits, Tensor) or not logits.is_floating_point():
        kind = logits.dtype if isinstance(logits, Tensor) else type(logits).__name__
        raise TypeError(f"logits must be a floating point tensor, got {kind}")
    if logits.ndim not in (4, 5):
        raise ValueError(
            f"logits must have shape (batch, classes, height, width) or, for a volume, (batch, classes, depth, "
            f"height, width), got {tuple(logits.shape)}"
        )
    if not isinstance(points, Points):
        raise TypeError(f"points must be falloff.points.Points, got {type(points).__name__}")
    if len(points) != len(logits):
        raise ValueError(f"logits hold {len(logits)} images, points {len(points)}: the two must be equal")
    if mask is None:
        return
    if not isinstance(mask, Tensor) or mask.dtype != torch.bool:
        kind = mask.dtype if isinstance(mask, Tensor) else type(mask).__name__
        raise TypeError(f"mask must be a bool tensor, got {kind}")
    fits = mask.ndim == logits.ndim and all(m in (1, n) for m, n in zip(mask.shape, logits.shape, strict=True))
    if not fits:
        raise ValueError(
            f"mask must have as many axes as the logits {tuple(logits.shape)}, each as long or of length 1, as in "
            f"(batch, 1, height, width); got {tuple(mask.shape)}"
        )


def refuse_not_finite(logits: Tensor, mask: Tensor | None) -> None:
    """Name the first logit that is NaN or infinite, if there is one: a sum may also just be past the dtype's range."""
    bad = ~torch.isfinite(logits) if mask is None else ~torch.isfinite(logits) & mask
    if bool(bad.any()):
        place = bad.nonzero()[0].tolist()
        raise ValueError(
            f"logits must be finite: {int(bad.sum())} of {logits.numel()} are not, the first at (image, class, "
            f"{'slice, ' * (logits.ndim - 4)}row, column) {tuple(place)} is {logits[tuple(place)].item()}"
        )
