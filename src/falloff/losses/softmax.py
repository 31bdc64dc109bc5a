"""Distance-aware focal loss under a softmax: classes exclude each other, and background is one more."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from falloff.checks import check_at_least_zero
from falloff.heatmaps import Window
from falloff.losses.autograd import elementwise, work_dtype
from falloff.losses.base import NormalizedLoss, check_both_sides, check_labelled, halved, kept_points
from falloff.losses.distance import distance_aware_charge
from falloff.losses.inputs import check_bool_map, check_map
from falloff.losses.normalizers import Normalizer
from falloff.losses.sigmoid import focused_1
from falloff.points import Points


@dataclass(frozen=True, kw_only=True)
class SoftmaxDistanceAware(NormalizedLoss):
    """Distance-aware focal loss over mutually exclusive classes and a background whose logit is 0.

    .. math::

        &p_c = \\frac{e^{x_c}}{1 + \\sum_k e^{x_k}}, \\quad p_0 = \\frac{1}{1 + \\sum_k e^{x_k}}, \\\\
        &L = \\begin{cases}
            -(1 - p_c)^\\alpha \\log p_c & \\text{at a positive of } c \\\\
            -(1 - y)^\\beta (1 - p_0)^\\alpha \\log p_0 & \\text{elsewhere}
        \\end{cases}

    with y the Gaussian of the nearest point of any class. With one class it is
    :class:`~falloff.losses.distance.DistanceAware`. A pixel nearest to points of several classes is charged for each.
    The mask cannot tell classes apart: its class axis has length 1. ``normalizer`` as in
    :class:`~falloff.losses.PixelLoss`, with a pixel of all classes together counted once.

    Smallest at p_c = 1 at a positive and at p_0 = 1 elsewhere, whatever y.

    Source: Law and Deng 2018, equation 1, with the softmax in place of the sigmoid.
    """

    alpha: float = 2.0
    beta: float = 4.0
    sigma: float = 1.5
    name = "softmax-distance-aware"
    above_zero = ("sigma",)
    at_least_zero = ("alpha", "beta")

    def _charges(
        self, logits: Tensor, points: Points, mask: Tensor | None, **normalizer: Normalizer
    ) -> tuple[Tensor, Tensor, Tensor]:
        """What each image is charged at its points and elsewhere, and its share, each ``(B,)``."""
        if mask is not None and mask.shape[1] > 1 and mask.stride(1) != 0:  # not expanded from one class
            raise ValueError("softmax-distance-aware: mask must be the same for all classes: (B, 1, H, W)")
        size, classes = tuple(logits.shape[2:]), logits.shape[1]
        x = logits.to(work_dtype(logits))
        x = (x if mask is None else torch.where(mask, x, 0.0)).flatten(2)
        heat = Window.of(points, size, classes, self.sigma, any_class=True).draw(points).flatten(1).to(x.dtype)
        nearest = Window.of(points, size, classes, None, any_class=True)
        taken = nearest.draw(points).flatten(1) > 0
        background = elementwise(distance_aware_charge, torch.logsumexp(x, 1), heat, torch.zeros_like(taken),
                                 self.alpha, self.beta)
        free = ~taken if mask is None else ~taken & mask[:, 0].flatten(1)
        background = torch.where(free, background, 0.0).sum(1)
        counts = kept_points(points, mask)
        pixel, _ = nearest.pixels(points)
        there = x.gather(2, pixel[:, None].expand(-1, classes, -1))  # (B, C, N): all classes at each point's pixel
        charge = elementwise(focused_1, _margin(there, points.label), self.alpha)
        again, heaviest = _repeated(pixel, points)
        charge = charge if heaviest is None else charge * heaviest.to(charge.dtype)
        charge = torch.where(counts & ~again, charge, 0.0).sum(1)
        kept = logits[:, 0].numel() if mask is None else mask[:, 0].sum()
        return charge, background, self.shares(counts.sum(1).to(x.dtype), kept, **normalizer)

    def _total(self, logits: Tensor, points: Points, mask: Tensor | None, **normalizer: Normalizer) -> Tensor:
        charge, background, share = self._charges(logits, points, mask, **normalizer)
        return (background + charge) * share

    def _parts(self, logits: Tensor, points: Points, mask: Tensor | None, **normalizer: Normalizer) -> Tensor:
        charge, background, share = self._charges(logits, points, mask, **normalizer)
        return torch.stack([charge * share, background * share], 1)

    def scores(self, logits: Tensor) -> Tensor:
        """The probability of each class, background left out: softmax over the class axis (1) and a logit of 0."""
        background = torch.zeros_like(logits[:, :1])
        return torch.softmax(torch.cat([logits, background], 1), 1)[:, :-1]

    def best_constant(self, points: Points, size: tuple[int, ...], classes: int, mask: Tensor | None = None) -> float:
        check_labelled(points, mask)
        loss = replace(self)  # a copy has a running mean of its own

        def slope(x: float) -> Tensor:
            logit = torch.full((), x, device=points.xy.device, requires_grad=True)
            logits = logit.expand(len(points), classes, *size)
            return torch.autograd.grad(loss(logits, points, mask=mask), logit)[0]

        check_both_sides(slope)
        return halved(slope, -40.0, 40.0)


def softmax_distance_aware(
    logits: Float[Tensor, "batch classes *size"],
    positives: Bool[Tensor, "batch classes *size"],
    heatmap: Float[Tensor, "batch classes *size"],
    *,
    alpha: float = 2.0,
    beta: float = 4.0,
) -> Float[Tensor, "batch *size"]:
    """The loss of each pixel of :class:`~falloff.losses.softmax.SoftmaxDistanceAware`, from dense maps.

    Its memory grows with the square of the number of classes: it is the reference, not what trains.
    """
    check_at_least_zero("alpha", alpha)
    check_at_least_zero("beta", beta)
    check_bool_map("positives", positives, logits)
    check_map("heatmap", heatmap, logits)
    x, classes = logits.movedim(1, -1), logits.shape[1]  # (B, ..., C)
    own = torch.eye(classes, dtype=torch.bool, device=x.device)
    others = x[..., None, :].expand(*x.shape, classes).masked_fill(own, -torch.inf)
    margin = x - _with_background(others, -1)
    positive = positives.movedim(1, -1)
    charge = torch.where(positive, elementwise(focused_1, margin, alpha), 0.0).sum(-1)
    y = heatmap.to(logits.dtype).amax(1)
    background = elementwise(distance_aware_charge, torch.logsumexp(x, -1), y, torch.zeros_like(y).bool(), alpha, beta)
    return torch.where(positive.any(-1), charge, background)


def _margin(logits: Tensor, label: Tensor) -> Tensor:
    """How far the logit of a point's class is above the logsumexp of the others and 0: (B, C, N) -> (B, N)."""
    own = torch.zeros_like(logits, dtype=torch.bool).scatter(1, label[:, None], True)
    return logits.gather(1, label[:, None])[:, 0] - _with_background(logits.masked_fill(own, -torch.inf), 1)


def _with_background(logits: Tensor, axis: int) -> Tensor:
    return torch.logsumexp(torch.cat([logits, torch.zeros_like(logits.narrow(axis, 0, 1))], axis), axis)


def _repeated(pixel: Tensor, points: Points) -> tuple[Tensor, Tensor | None]:
    """Whether an earlier point of the same class has the same pixel, and the largest weight of those that have it."""
    same = (pixel[:, :, None] == pixel[:, None]) & (points.label[:, :, None] == points.label[:, None])
    same = same & points.valid[:, None]
    heaviest = None
    if points.weight is not None and points.label.shape[1] > 0:
        heaviest = torch.where(same, points.weight[:, None], 0.0).amax(2)
    return same.tril(-1).any(2), heaviest
