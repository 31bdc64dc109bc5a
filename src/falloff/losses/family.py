"""The family of losses by name: each takes (logits, Points) and returns a scalar."""

from __future__ import annotations

import math
from dataclasses import MISSING, dataclass, fields
from difflib import get_close_matches
from typing import ClassVar, Literal, get_args, get_type_hints

import torch
from jaxtyping import Float
from torch import Tensor

from falloff import heatmaps
from falloff.losses import charges, dense
from falloff.losses.autograd import elementwise, summed
from falloff.losses.charges import Charge
from falloff.points import Points

Normalizer = Literal["points", "pixels"]


@dataclass(frozen=True, kw_only=True)
class PointLoss:
    """A loss of logits ``(B, C, H, W)`` against :class:`~falloff.points.Points`, a differentiable scalar.

    It is computed from the points: one pass over the logits as if nothing were labelled, then the pixels near points
    are put right. The result is that of the dense formula; no target map is made for it.

    ``normalizer`` says what the sum over pixels is divided by: "points" (the number of labelled points in the
    batch, at least 1, so a batch without points has its negative term alone) or "pixels" (all elements of the
    logits). Half-precision logits are raised to float32 first.

    Raises:
        TypeError: logits that are not floating point.
        ValueError: logits that are not (B, C, H, W) or not of as many images as the points; a point outside the
            picture; a label outside [0, C); on the CPU also NaN logits (elsewhere the check would stall the device).
    """

    normalizer: Normalizer = "points"

    name: ClassVar[str]
    is_probability: ClassVar[bool] = True

    def __call__(
        self, logits: Float[Tensor, "batch classes height width"], points: Points
    ) -> Float[Tensor, ""]:
        """The loss of a batch."""
        _check_logits(logits, points)
        if logits.dtype in (torch.float16, torch.bfloat16):
            logits = logits.float()
        near = heatmaps.near(points, logits.shape[2:], logits.shape[1], self._sigma)
        total = summed(self.charge, logits, near)
        total = total / (points.valid.sum().clamp(min=1) if self.normalizer == "points" else logits.numel())
        if logits.device.type == "cpu" and not torch.compiler.is_compiling() and not torch.isfinite(total):
            _explain_not_finite(logits)
        return total

    def elementwise(
        self, logits: Float[Tensor, "batch classes height width"], points: Points
    ) -> Float[Tensor, "batch classes height width"]:
        """The loss of each pixel, from dense maps: what :meth:`__call__` sums, without making them."""
        maps = (points, logits.shape[2:], logits.shape[1])
        positives = heatmaps.positives(*maps)
        heat = positives if self._sigma is None else heatmaps.render(*maps, self._sigma)
        return elementwise(self.charge, logits, heat.to(logits.dtype), positives)

    def charge(self, x: Tensor, heat: Tensor | float, positive: Tensor | bool) -> Charge:
        """Charge and slope of pixels, given the Gaussian (or the hard label) there and whether they are positives."""
        raise NotImplementedError

    def scores(self, logits: Tensor) -> Tensor:
        """What a decoder reads: the probability, or the raw output of a loss that regresses a map."""
        return torch.sigmoid(logits) if self.is_probability else logits

    @property
    def _sigma(self) -> float | None:
        return getattr(self, "sigma", None)


@dataclass(frozen=True, kw_only=True)
class BCE(PointLoss):
    """Binary cross entropy; label 1 at the pixel nearest to each point. See :func:`falloff.losses.bce`."""

    name = "bce"

    def charge(self, x: Tensor, heat: Tensor | float, positive: Tensor | bool) -> Charge:
        return charges.cross_entropy(x, heat, 1.0)


@dataclass(frozen=True, kw_only=True)
class WeightedBCE(PointLoss):
    """Binary cross entropy with a weight on label 1. See :func:`falloff.losses.weighted_bce`."""

    positive_weight: float = 100.0
    name = "weighted-bce"

    def __post_init__(self) -> None:
        heatmaps.check_positive("positive_weight", self.positive_weight)

    def charge(self, x: Tensor, heat: Tensor | float, positive: Tensor | bool) -> Charge:
        return charges.cross_entropy(x, heat, self.positive_weight)


@dataclass(frozen=True, kw_only=True)
class Focal(PointLoss):
    """Focal loss; label 1 at the pixel nearest to each point. See :func:`falloff.losses.focal`."""

    gamma: float = 2.0
    alpha: float | None = None
    name = "focal"

    def __post_init__(self) -> None:
        dense.focal(torch.zeros(1), torch.zeros(1), gamma=self.gamma, alpha=self.alpha)

    def charge(self, x: Tensor, heat: Tensor | float, positive: Tensor | bool) -> Charge:
        weight_1, weight_0 = (1.0, 1.0) if self.alpha is None else (self.alpha, 1.0 - self.alpha)
        return charges.focal(x, heat, self.gamma, weight_1, weight_0)


@dataclass(frozen=True, kw_only=True)
class SoftBCE(PointLoss):
    """Binary cross entropy towards the Gaussian heatmap of width ``sigma``. See :func:`falloff.losses.bce`."""

    sigma: float = 1.5
    name = "soft-bce"

    def __post_init__(self) -> None:
        heatmaps.check_positive("sigma", self.sigma)

    def charge(self, x: Tensor, heat: Tensor | float, positive: Tensor | bool) -> Charge:
        return charges.cross_entropy(x, heat, 1.0)


@dataclass(frozen=True, kw_only=True)
class MSE(PointLoss):
    """Squared error of the raw output against the Gaussian heatmap. See :func:`falloff.losses.mse`."""

    sigma: float = 1.5
    scale: float = 1.0
    positive_weight: float = 0.0
    name = "mse"
    is_probability = False

    def __post_init__(self) -> None:
        heatmaps.check_positive("sigma", self.sigma)
        dense.mse(torch.zeros(1), torch.zeros(1), scale=self.scale, positive_weight=self.positive_weight)

    def charge(self, x: Tensor, heat: Tensor | float, positive: Tensor | bool) -> Charge:
        return charges.squared(x, heat, self.scale, self.positive_weight)

    def scores(self, logits: Tensor) -> Tensor:
        return logits / self.scale


@dataclass(frozen=True, kw_only=True)
class DistanceAware(PointLoss):
    """Distance-aware focal loss with a Gaussian of width ``sigma``. See :func:`falloff.losses.distance_aware`."""

    alpha: float = 2.0
    beta: float = 4.0
    sigma: float = 1.5
    name = "distance-aware"

    def __post_init__(self) -> None:
        heatmaps.check_positive("sigma", self.sigma)
        zero = torch.zeros(1)
        dense.distance_aware(zero, zero.bool(), zero, alpha=self.alpha, beta=self.beta)

    def charge(self, x: Tensor, heat: Tensor | float, positive: Tensor | bool) -> Charge:
        return charges.distance_aware(x, heat, positive, self.alpha, self.beta)


_FAMILY = {loss.name: loss for loss in (BCE, WeightedBCE, Focal, SoftBCE, MSE, DistanceAware)}


def names() -> list[str]:
    """All names that :func:`make` knows, in the order in which the study introduces them."""
    return list(_FAMILY)


def options(name: str) -> dict[str, object]:
    """The options of a loss with their defaults.

    Raises:
        ValueError: no loss has this name; the message gives the nearest.
    """
    if name not in _FAMILY:
        near = get_close_matches(str(name), names(), n=1)
        hint = f" (did you mean {near[0]!r}?)" if near else ""
        raise ValueError(f"no loss is named {name!r}{hint}; known: {', '.join(names())}")
    return {f.name: f.default for f in fields(_FAMILY[name]) if f.default is not MISSING}


def make(name: str, **given: object) -> PointLoss:
    """A loss by name, as a function of ``(logits, points)``.

    Args:
        name: one of :func:`names`.
        given: the loss's own options, and ``normalizer`` ("points" or "pixels"); see each loss's class.

    Raises:
        ValueError: an unknown name, an unknown option or an option out of range.
        TypeError: an option of the wrong type.

    Example:
        >>> import torch
        >>> from falloff import losses
        >>> from falloff.points import Points
        >>> loss = losses.make("distance-aware", sigma=1.5)
        >>> logits = torch.zeros(1, 1, 8, 8, requires_grad=True)
        >>> points = Points.from_lists([([[3.2, 4.0]], [0])])
        >>> loss(logits, points).backward()
    """
    known = options(name)
    for option, value in given.items():
        if option not in known:
            near = get_close_matches(option, known, n=1)
            hint = f" (did you mean {near[0]!r}?)" if near else ""
            raise ValueError(f"{name} has no option {option!r}{hint}; it has: {', '.join(known)}")
        _check_option(name, option, value)
    return _FAMILY[name](**given)


def prior_bias(probability: float) -> float:
    """Bias of a last layer whose sigmoid then starts at ``probability``.

    .. math:: b = -\\log\\frac{1 - \\pi}{\\pi}

    Args:
        probability: :math:`\\pi` in (0, 1), such as the share of labelled pixels.

    Raises:
        ValueError: outside (0, 1).

    Source: Lin et al. 2017, section 4.1 (their prior: 0.01).
    """
    if isinstance(probability, bool) or not isinstance(probability, (int, float)):
        raise TypeError(f"probability must be a number, got {probability!r}")
    if not 0.0 < probability < 1.0:
        raise ValueError(f"probability must be in (0, 1), got {probability!r}")
    return -math.log((1.0 - probability) / probability)


def best_constant(loss: PointLoss, points: Points, size: tuple[int, int], classes: int) -> float:
    """The one logit that, put out everywhere, makes a loss smallest on some points.

    A last layer whose bias starts here starts without the large first loss that only teaches it how rare points are.
    For cross entropy it is :func:`prior_bias` of the share of labelled pixels; focal losses, which hardly charge a low
    p, have theirs much higher; for a squared error it is near 0.

    Args:
        loss: from :func:`make`.
        points: labelled points of some typical images.
        size: (height, width) of the maps in pixels.
        classes: number of maps per image.

    Raises:
        ValueError: a point outside the picture or a label outside ``[0, classes)``.
    """
    near = heatmaps.near(points, size, classes, loss._sigma)
    far = len(points) * classes * math.prod(size) - int(near.counts.sum())
    low, high = -40.0, 40.0
    if not loss.is_probability:  # a raw output may need to be as large as its target's peaks
        low, high = -loss.scale, loss.scale
    for _ in range(60):  # the total slope in this one logit changes its sign once: halve the interval
        middle = torch.tensor((low + high) / 2)
        slope = far * loss.charge(middle, 0.0, False)[1]
        there = loss.charge(middle.expand(near.heat.shape), near.heat, near.positive)[1]
        slope = slope + torch.where(near.counts, there, 0.0).sum()
        low, high = (low, float(middle)) if slope > 0 else (float(middle), high)
    return (low + high) / 2


def _check_option(name: str, option: str, value: object) -> None:
    hint = get_type_hints(_FAMILY[name])[option]
    if hint is Normalizer:
        if value not in get_args(Normalizer):
            raise ValueError(f"normalizer must be one of {', '.join(get_args(Normalizer))}, got {value!r}")
    elif isinstance(value, bool) or not (
        isinstance(value, (int, float)) or (value is None and type(None) in get_args(hint))
    ):
        raise TypeError(f"{name}: {option} must be a number{' or None' if get_args(hint) else ''}, got {value!r}")


def _check_logits(logits: Tensor, points: Points) -> None:
    if not isinstance(logits, Tensor) or not logits.is_floating_point():
        kind = logits.dtype if isinstance(logits, Tensor) else type(logits).__name__
        raise TypeError(f"logits must be a floating point tensor, got {kind}")
    if logits.ndim != 4:
        raise ValueError(f"logits must have shape (batch, classes, height, width), got {tuple(logits.shape)}")
    if not isinstance(points, Points):
        raise TypeError(f"points must be falloff.points.Points, got {type(points).__name__}")
    if len(points) != len(logits):
        raise ValueError(f"logits hold {len(logits)} images, points {len(points)}: the two must be equal")


def _explain_not_finite(logits: Tensor) -> None:
    """The sum is not finite: name the logit at fault, if it is one's fault and not a sum past the dtype's range."""
    bad = ~torch.isfinite(logits)
    if bool(bad.any()):
        place = bad.nonzero()[0].tolist()
        raise ValueError(
            f"logits must be finite: {int(bad.sum())} of {logits.numel()} are not, the first at (image, class, "
            f"row, column) {tuple(place)} is {logits[tuple(place)].item()}"
        )
