"""The losses that are a sum over pixels: each says what it charges a pixel, and is computed from the points."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import ClassVar

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from falloff import heatmaps
from falloff.heatmaps import Window
from falloff.losses.autograd import Charge, elementwise, is_channels_last, targets, total, work_dtype
from falloff.losses.base import NormalizedLoss, check_both_sides, check_labelled, halved, kept_points
from falloff.losses.normalizers import Normalizer
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
      0.1\\,n`), at least 1; a mean that the loss keeps, and its ``state_dict`` has;
    - a number, in a tensor or not: itself.

    Each counts what one call sees. Where several processes share a batch and the mean of their gradients is taken, or
    the gradients of several parts are, "image" gives what one process gives for the whole batch if all parts have as
    many images, and "pixels" if their masks leave as many pixels. "points" and "running" do not: an image among few
    points then weighs more. A call's ``normalizer=losses.count(points)`` does, however points are spread: see
    :func:`falloff.losses.count`.

    A point under a mask does not count. ``points.weight`` multiplies the charge of a point's pixel (and, where the
    Gaussian is a target, of the pixels around it by as much as they belong to it, :math:`1 + y (w - 1)`), which at
    weight 0 is charged neither as a point nor as background. It does not change the normaliser: the loss is linear in
    each weight, and a point of weight 0 is still one of those divided by. ``points.where(points.weight > 0)`` leaves
    such points out, whose pixels are then background; a mask that is False at their pixels leaves out both.
    """

    kind: ClassVar[heatmaps.Kind] = "gaussian"
    marked: ClassVar[bool] = False  # whether a positive is charged by another rule than its heat
    # Options that a compiled loss takes as tensors: see falloff.losses.autograd.Summand.
    numbers: ClassVar[tuple[str, ...]] = ()
    exponents: ClassVar[tuple[str, ...]] = ()

    def charge(self, x: Tensor, heat: Tensor, positive: Tensor) -> Charge:
        """Charge and slope of pixels, given the Gaussian (or the hard label) there and whether they are positives."""
        raise NotImplementedError(f"{self.name} must define charge(x, heat, positive), which gives the charge of each "
                                  "pixel and its slope")

    def pixel_weight(self, heat: Tensor) -> Tensor | None:
        """What the charges are multiplied by, from the maps ``(B, C, ...)`` of the Gaussians; None for nothing."""
        return None

    def elementwise(
        self, logits: Float[Tensor, "batch classes *size"], points: Points, *,
        mask: Bool[Tensor, "..."] | None = None, stride: int | float = 1, normalizer: Normalizer | None = None,
    ) -> Float[Tensor, "batch classes *size"]:
        """What each pixel adds to the loss, from dense maps: their sum is that of a call.

        Arguments and errors: as for a call. ``normalizer=1`` gives what each pixel is charged. The dtype is float32, or
        float64 for float64.
        """
        given = {} if normalizer is None else {"normalizer": self._checked(normalizer)}
        points, mask = self._ready(logits, points, mask, stride)
        shares = self._shares(logits, points, mask, **given)
        heat, positive, weight = targets(self, self._window(logits, points), points, shares.dtype)
        x = logits.to(shares.dtype).flatten(1)
        x = x if mask is None else torch.where(mask.flatten(1), x, 0.0)
        value = elementwise(self.charge, x, heat, positive) * shares[:, None]
        value = (value if weight is None else value * weight).view(logits.shape)
        return value if mask is None else torch.where(mask, value, 0.0)

    def best_constant(self, points: Points, size: tuple[int, ...], classes: int, mask: Tensor | None = None) -> float:
        check_labelled(points, mask)
        window = Window.of(points, size, classes, self.width, kind=self.kind)
        heat, positive, weight = targets(self, window, points, points.xy.dtype)
        # A copy has a running mean of its own.
        shares = replace(self).shares(kept_points(points, mask).sum(1).to(heat.dtype),
                                      heat.numel() if mask is None else mask.sum())
        weight = shares[:, None].expand(heat.shape) if weight is None else shares[:, None] * weight
        if mask is not None:
            weight = torch.where(mask.flatten(1), weight, 0.0)
        # Pixels far from points are all alike: one stands for them.
        near = (heat > 0) | positive
        nothing = heat.new_zeros(1)
        kinds = torch.cat([heat[near], nothing]), torch.cat([positive[near], nothing > 0])
        weights = torch.cat([weight[near], weight[~near].sum().view(1)])

        def slope(x: float) -> Tensor:
            return (weights * self.charge(torch.full_like(weights, x), *kinds)[1]).sum()

        if self.is_probability:
            check_both_sides(slope)
        return halved(slope, *self._range)

    @property
    def width(self) -> float | None:
        """How wide the map around a point is, in pixels; None for its nearest pixel alone."""
        return getattr(self, "sigma", None)

    @property
    def _range(self) -> tuple[float, float]:
        """Where the best constant lies."""
        return -40.0, 40.0

    def _window(self, logits: Tensor, points: Points, channels_last: bool = False) -> Window:
        learned = points.sigma is not None and points.sigma.requires_grad and torch.is_grad_enabled()
        if learned and (self.width is None or self.kind != "gaussian"):
            raise ValueError(f"{self.name} draws no Gaussian around points: points.sigma, which requires a "
                             "gradient, would get none")
        return Window.of(points, tuple(logits.shape[2:]), logits.shape[1], self.width, kind=self.kind,
                         channels_last=channels_last)

    def _shares(self, logits: Tensor, points: Points, mask: Tensor | None, **normalizer: Normalizer) -> Tensor:
        labelled = kept_points(points, mask).sum(1).to(work_dtype(logits))
        return self.shares(labelled, logits.numel() if mask is None else mask.sum(), **normalizer)

    def _parts(self, logits: Tensor, points: Points, mask: Tensor | None, **normalizer: Normalizer) -> Tensor:
        window = self._window(logits, points, is_channels_last(logits))
        return total(self, logits, window, points, self._shares(logits, points, mask, **normalizer), mask)

    def _total(self, logits: Tensor, points: Points, mask: Tensor | None, **normalizer: Normalizer) -> Tensor:
        return self._parts(logits, points, mask, **normalizer).sum(1)
