"""What every loss shares: its call, its options, what a decoder reads, and the pixels of its points."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import FrozenInstanceError, dataclass, fields
from typing import Any, ClassVar

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from falloff import heatmaps
from falloff.checks import check_at_least_zero, check_one_of, check_positive, plain
from falloff.heatmaps import PixelsNear, nearest_pixel, placed
from falloff.losses.autograd import is_readable, work_dtype
from falloff.losses.inputs import check_finite, check_logits, check_mask, refuse_probabilities
from falloff.losses.normalizers import NAMES, Normalizer, RunningMean, check_normalizer, shares
from falloff.points import Points


class _Kept(nn.Module):
    """A module whose options, the fields of its dataclass, cannot be set; all else that trainers set on modules can."""

    def __new__(cls, *args: object, **options: object) -> Any:
        for one in cls.__mro__:  # what a frozen dataclass makes refuses every name, as "training" and "forward"
            if "__dataclass_fields__" in vars(one) and "__setattr__" in vars(one):
                del one.__setattr__, one.__delattr__
        new = super().__new__(cls)
        nn.Module.__init__(new)  # what a dataclass makes of __init__ calls no other
        return new

    def __setattr__(self, name: str, value: Any) -> None:
        if name in (option.name for option in fields(self)):  # type: ignore[arg-type]
            raise FrozenInstanceError(f"cannot assign to option {name!r}; dataclasses.replace gives another loss")
        super().__setattr__(name, value)


@dataclass(frozen=True, kw_only=True)
class PointLoss(_Kept):
    """A loss of logits ``(B, C, H, W)`` against :class:`~falloff.points.Points`, a differentiable scalar.

    Called as ``loss(logits, points)`` with, by name, any of:

    - ``mask``: bool, with as many axes as the logits, each as long or of length 1, True where a pixel counts: False on
      an ignored region ``(B, 1, H, W)``, on a class that nobody labelled in an image ``(B, C, 1, 1)``, or both. What
      lies under False changes neither the loss nor the gradient, whatever it is.
    - ``stride``: pixels of the image along a pixel of the logits, for points in pixels of the image (see
      :meth:`Points.at_stride() <falloff.points.Points.at_stride>`); 1 by default. Mask and options count pixels of the
      logits.
    - ``normalizer``: what this call divides by in place of the loss's own (see :class:`~falloff.losses.PixelLoss`): one
      of its names, a number, or a number in a tensor, such as :func:`~falloff.losses.count` gives.
    - ``reduction``: "sum" (the default), or "none" for what each image adds to it, ``(B,)``.
    - ``parts``: True for a dict of "positives", what is charged at the labelled pixels, and "background", what is
      charged elsewhere; they sum to the loss.

    ``logits`` are floating point, ``(B, C, H, W)``, or ``(B, C, D, H, W)`` for points in a volume. Half precision is
    computed in float32; the result is float32 (float64 for float64) and the gradient has the logits' dtype. ``points``
    are of B images; those with their own ``sigma`` or ``weight`` keep them. A ``sigma`` that requires a gradient gets
    it, ``weight`` gets none. What a loss is divided by counts points of any weight, 0 included.

    A loss is a module without parameters, and equal to another of its class and options. It has a state with
    ``normalizer="running"`` alone, which is then in the ``state_dict`` of the module that holds it.

    Raises:
        TypeError: logits that are not floating point, a mask that is not bool.
        ValueError: shapes that do not fit; an argument out of range; a point outside the picture or a label outside
            [0, C) (a call that is being compiled leaves such a point out, as :meth:`Points.inside()
            <falloff.points.Points.inside>` does); logits that are the output of a sigmoid or softmax; a ``sigma`` that
            requires a gradient where the loss draws no Gaussian; on the CPU also logits whose NaN or infinity reaches
            the loss (elsewhere the check would stall the device).

    A sigmoid or softmax is seen where autograd has recorded it, also before slices, views, conversions, clamps, joins
    of such outputs alone, borders and resizing: not without gradients, behind ``detach()``, in a compiled net, or where
    a part was changed in place. A loss of raw outputs, such as "mse", takes it.

    Second derivatives are those of the formulas, which are infinite or undefined at single places: at p = y and z = y
    for exponents below 2, and where a distance is 0.
    """

    name: ClassVar[str]
    is_probability: ClassVar[bool] = True
    # Options by what is allowed of them.
    above_zero: ClassVar[tuple[str, ...]] = ()
    at_least_zero: ClassVar[tuple[str, ...]] = ()

    def __init_subclass__(cls) -> None:
        cls.name = vars(cls).get("name", cls.__name__)

    def __new__(cls, *args: object, **options: object) -> Any:
        check_declared(cls)
        return super().__new__(cls)

    def __post_init__(self) -> None:
        for option in fields(self):
            object.__setattr__(self, option.name, plain(getattr(self, option.name)))
        for name in self.above_zero:
            check_positive(name, getattr(self, name))
        for name in self.at_least_zero:
            check_at_least_zero(name, getattr(self, name))

    def forward(
        self, logits: Float[Tensor, "batch classes *size"], points: Points, *,
        mask: Bool[Tensor, "..."] | None = None, stride: int | float = 1, normalizer: Normalizer | None = None,
        reduction: str = "sum", parts: bool = False,
    ) -> Float[Tensor, "..."] | dict[str, Float[Tensor, "..."]]:
        """The loss of a batch."""
        check_one_of("reduction", reduction, ("sum", "none"))
        points, spread = self._ready(logits, points, mask, stride)
        given = {} if normalizer is None else {"normalizer": self._checked(normalizer)}
        value = (self._parts if parts else self._total)(logits, points, spread, **given)
        total = value.sum()
        if is_readable(total) and not torch.isfinite(total.detach()):
            check_finite(logits, mask)
        if parts:
            positives, background = value.sum(0) if reduction == "sum" else value.unbind(1)
            return {"positives": positives, "background": background}
        if reduction == "none" and value.ndim == 0:
            raise ValueError(f"{self.name} gives one number for a batch, so reduction must be 'sum'")
        return total if reduction == "sum" else value

    def _ready(
        self, logits: Tensor, points: Points, mask: Tensor | None, stride: int | float
    ) -> tuple[Points, Tensor | None]:
        """The points in pixels of the logits and the mask in their shape, after all checks."""
        check_logits(logits, points)
        if mask is not None:
            check_mask(mask, tuple(logits.shape))
        if self.is_probability:
            refuse_probabilities(logits)
        points = placed(points, tuple(logits.shape[2:]), logits.shape[1], stride)
        return points, None if mask is None else mask.expand(logits.shape)

    def _checked(self, normalizer: Normalizer) -> Normalizer:
        """The normaliser of a call."""
        raise ValueError(f"{self.name} takes no normalizer, got {normalizer!r}")

    def _total(self, logits: Tensor, points: Points, mask: Tensor | None) -> Tensor:
        """What each image adds to the loss, ``(B,)``, or the loss of the batch where that cannot be told."""
        raise NotImplementedError(f"{self.name} must define _total(logits, points, mask), or charge as a "
                                  "PixelLoss does")

    def _parts(self, logits: Tensor, points: Points, mask: Tensor | None, **normalizer: Normalizer) -> Tensor:
        """What each image adds at labelled pixels and elsewhere, ``(B, 2)``."""
        raise ValueError(f"{self.name} tells no parts, so parts must be False")

    def scores(self, logits: Tensor) -> Tensor:
        """What a decoder reads: the probability, or the raw output of a loss that regresses a map."""
        return torch.sigmoid(logits) if self.is_probability else logits

    def best_constant(self, points: Points, size: tuple[int, ...], classes: int, mask: Tensor | None = None) -> float:
        """See :func:`falloff.losses.best_constant`; points in pixels of the maps, the mask ``(B, C, ...)``."""
        raise NotImplementedError(f"{self.name} must define best_constant(points, size, classes, mask), or a "
                                  "training must be given its first bias")


@dataclass(frozen=True, kw_only=True)
class NormalizedLoss(PointLoss):
    """A loss whose sum is divided by what ``normalizer`` names; see :class:`falloff.losses.PixelLoss`."""

    normalizer: Normalizer = "points"

    def __post_init__(self) -> None:
        check_normalizer("normalizer", self.normalizer)
        if isinstance(self.normalizer, Tensor):  # options are compared
            object.__setattr__(self, "normalizer", self.normalizer.item())
        super().__post_init__()
        if self.normalizer == "running":
            self.add_module("running", RunningMean())

    def shares(self, labelled: Tensor, kept: Tensor | int, normalizer: Normalizer | None = None) -> Tensor:
        """What each image's sum is multiplied by: :func:`falloff.losses.normalizers.shares`."""
        running: Any = self._modules.get("running")
        return shares(self.normalizer if normalizer is None else normalizer, labelled, kept, running)

    def _checked(self, normalizer: Normalizer) -> Normalizer:
        # A running mean needs a state, which only a loss that is made with it has.
        known = tuple(name for name in NAMES if name in ("points", "image", "pixels", self.normalizer))
        check_normalizer("normalizer", normalizer, known)
        return normalizer


def check_declared(loss: type[PointLoss]) -> None:
    """Raise TypeError where a class has options that it was not made a dataclass of."""
    own = [name for name, kind in inspect.get_annotations(loss).items() if "ClassVar" not in str(kind)]
    if own and "__dataclass_fields__" not in vars(loss):
        raise TypeError(f"{loss.__name__} has options of its own ({', '.join(own)}), so the class needs "
                        "@dataclass(frozen=True, kw_only=True)")


def check_labelled(points: Points, mask: Tensor | None = None) -> None:
    """Raise ValueError unless one of the points counts."""
    counts = kept_points(points, mask)
    if not bool((counts if points.weight is None else counts & (points.weight > 0)).any()):
        hidden = "" if mask is None else ", where the mask is True"
        raise ValueError(f"points must hold at least one that counts (valid, of a weight above 0{hidden}), got none in "
                         f"{len(points)} images: take more images, or a bias such as losses.prior_bias(0.01)")


def halved(slope: Callable[[float], Tensor], low: float, high: float) -> float:
    """Where a slope that changes its sign once, from below 0 to above, does so: the interval is halved 60 times."""
    for _ in range(60):
        middle = (low + high) / 2
        low, high = (low, middle) if slope(middle) > 0 else (middle, high)
    return (low + high) / 2


def check_both_sides(slope: Callable[[float], Tensor]) -> None:
    """Raise ValueError unless a low logit is charged for being too low, and a high one for being too high."""
    if not slope(-40.0) < 0 < slope(40.0):
        raise ValueError("no constant is best for these points and options: labelled pixels alone, or others alone, "
                         "are charged; give the training a bias such as losses.prior_bias(0.01)")


def per_point(maps: Tensor, points: Points) -> Tensor:
    """What full maps ``(B, C, ...)`` hold at the pixel nearest to each point, in the map of its label, ``(B, N)``."""
    image = torch.arange(len(points), device=maps.device)[:, None]
    place = [nearest_pixel(x, n) for x, n in zip(points.xy.unbind(-1), reversed(maps.shape[2:]), strict=True)]
    # Of maps that all classes share there is one.
    return maps[(image, points.label.clamp(max=maps.shape[1] - 1), *reversed(place))]


def kept_points(points: Points, mask: Tensor | None) -> Tensor:
    """Which points count: the valid ones whose pixel no mask hides, ``(B, N)``."""
    if mask is None:
        return points.valid
    return points.valid & per_point(mask.expand(len(points), *mask.shape[1:]), points)


def near_points(logits: Tensor, points: Points, mask: Tensor | None, sigma: float) -> tuple[PixelsNear, Tensor]:
    """The pixels near points, and the heat of those that count, in the dtype of the work."""
    near = heatmaps.pixels_near(points, tuple(logits.shape[2:]), logits.shape[1], sigma)
    heat = torch.where(near.counts, near.heat, 0.0).to(work_dtype(logits))
    return near, heat if mask is None else torch.where(mask.reshape(-1)[near.index], heat, 0.0)
