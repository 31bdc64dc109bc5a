"""Losses of each map's spatial softmax: its divergence from the Gaussian, and its mean position (DSNT)."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from falloff import heatmaps
from falloff.checks import check_at_least_zero, plain
from falloff.losses.autograd import is_readable, work_dtype
from falloff.losses.base import PointLoss, kept_points, near_points
from falloff.losses.inputs import check_finite, check_map
from falloff.losses.normalizers import Normalizer, check_normalizer
from falloff.points import Points


@dataclass(frozen=True, kw_only=True)
class SpatialKL(PointLoss):
    """Kullback-Leibler divergence of each map's spatial softmax from the Gaussian target, the mean over labelled maps.

    .. math:: L = \\sum_{ij} t_{ij} \\log\\frac{t_{ij}}{p_{ij}}, \\qquad p = \\mathrm{softmax}_{ij}(x), \\quad
        t = \\frac{y}{\\sum y}

    with y the heatmap of width ``sigma``. A map without a point that counts has no target and does not count: this
    loss places points and says nothing of whether there is one. The weights of a map's points, averaged, multiply its
    divergence. All of the loss is "positives" of its parts. A call's ``normalizer`` is a number, what the sum over maps
    is divided by: that of their labelled maps on all processes; where a map has one point at most,
    :func:`falloff.losses.count` gives it.

    Smallest, and 0, where p = t.

    Source: Nibali et al. 2018 (its regularisers).
    """

    sigma: float = 1.5
    name = "spatial-kl"
    above_zero = ("sigma",)

    def _checked(self, normalizer: Normalizer) -> Normalizer:
        check_normalizer("normalizer", normalizer, ())
        return normalizer

    def _parts(self, logits: Tensor, points: Points, mask: Tensor | None, **normalizer: Normalizer) -> Tensor:
        value = self._total(logits, points, mask, **normalizer)
        return torch.stack([value, torch.zeros_like(value)], 1)

    def _total(
        self, logits: Tensor, points: Points, mask: Tensor | None, normalizer: Normalizer | None = None
    ) -> Tensor:
        divergence, labelled = self._divergence(self._readied(logits, mask), points, mask)
        weight = _map_weight(points, kept_points(points, mask), labelled)
        return _mean(torch.where(labelled, divergence, 0.0) * weight, labelled, normalizer)

    def _readied(self, logits: Tensor, mask: Tensor | None) -> Tensor:
        """Logits in the dtype of the work, whose softmax is 0 under a mask."""
        if is_readable(logits):  # a map without a point adds nothing to the loss, and would hide it
            check_finite(logits, mask)
        x = logits.to(work_dtype(logits))
        return x if mask is None else torch.where(mask, x, -1e30)

    def _divergence(self, x: Tensor, points: Points, mask: Tensor | None) -> tuple[Tensor, Tensor]:
        """Of each map ``(B, C)``, and which of them have a point."""
        if mask is not None:
            points = points.where(kept_points(points, mask))  # the rim of a hidden point is no target
        near, heat = near_points(x, points, mask, self.sigma)
        rows = x.flatten(2).flatten(0, 1)
        row = near.index // rows.shape[1]
        total = rows.new_zeros(len(rows)).index_add(0, row, heat)
        target = heat / torch.where(total > 0, total, 1.0)[row]
        log_p = x.reshape(-1)[near.index] - torch.logsumexp(rows, 1)[row]
        counted = near.counts & (target > 0)
        part, rest = self._by_pixel(torch.where(counted, target, 1.0), log_p)
        divergence = rest + rows.new_zeros(len(rows)).index_add(0, row, torch.where(counted, part, 0.0))
        return divergence.view(x.shape[:2]), (total > 0).view(x.shape[:2])

    def _by_pixel(self, target: Tensor, log_p: Tensor) -> tuple[Tensor, float]:
        """What each pixel near points adds, and what a map has without them."""
        return target * (torch.log(target) - log_p), 0.0

    def scores(self, logits: Tensor) -> Tensor:
        """Each map's spatial softmax: how probable each pixel is, given that the map has a point."""
        return torch.softmax(logits.flatten(2), 2).view(logits.shape)

    def best_constant(self, points: Points, size: tuple[int, ...], classes: int, mask: Tensor | None = None) -> float:
        """0: a constant changes no softmax."""
        return 0.0


@dataclass(frozen=True, kw_only=True)
class SpatialJS(SpatialKL):
    """Jensen-Shannon divergence of each map's spatial softmax from the Gaussian target, the mean over labelled maps.

    .. math:: L = \\tfrac12 \\sum t \\log\\frac{t}{m} + \\tfrac12 \\sum p \\log\\frac{p}{m},
        \\quad m = \\frac{p + t}{2}

    As :class:`SpatialKL`, but at most log 2, so that one map far off cannot drown the others; for the same reason its
    gradient vanishes where p is nowhere near t.

    Smallest, and 0, where p = t.

    Source: Nibali et al. 2018 (its regularisers).
    """

    name = "spatial-js"

    def _by_pixel(self, target: Tensor, log_p: Tensor) -> tuple[Tensor, float]:
        p = torch.exp(log_p)
        log_m = torch.log((p + target) / 2)
        # Where the target is 0, p log(p / m) is p log 2: all p sum to 1, and those near points are put right.
        part = 0.5 * (target * (torch.log(target) - log_m) + p * (log_p - log_m - math.log(2)))
        return part, 0.5 * math.log(2)


def spatial_kl(
    logits: Float[Tensor, "batch classes *size"], heatmap: Float[Tensor, "batch classes *size"]
) -> Float[Tensor, "batch classes"]:
    """The divergence of each map of :class:`~falloff.losses.spatial.SpatialKL`, from dense maps; NaN for an empty one.

    Raises:
        TypeError, ValueError: shapes or dtypes do not fit; a value of the heatmap is NaN or outside [0, 1].
    """
    check_map("heatmap", heatmap, logits)
    target = heatmap.to(logits.dtype).flatten(2)
    log_p = torch.log_softmax(logits.flatten(2), 2)
    target = target / target.sum(2, keepdim=True)
    return (torch.xlogy(target, target) - target * log_p).sum(2)


def spatial_js(
    logits: Float[Tensor, "batch classes *size"], heatmap: Float[Tensor, "batch classes *size"]
) -> Float[Tensor, "batch classes"]:
    """Divergence of each map as in :class:`~falloff.losses.spatial.SpatialJS`, from dense maps; NaN for an empty one.

    Errors: as for :func:`spatial_kl`.
    """
    check_map("heatmap", heatmap, logits)
    target = heatmap.to(logits.dtype).flatten(2)
    p = torch.softmax(logits.flatten(2), 2)
    target = target / target.sum(2, keepdim=True)
    middle = (p + target) / 2
    return 0.5 * (torch.xlogy(target, target / middle) + torch.xlogy(p, p / middle)).sum(2)


@dataclass(frozen=True, kw_only=True)
class DSNT(SpatialJS):
    """Distance of each map's soft-argmax from its point, plus a regulariser of its shape: the mean over labelled maps.

    .. math:: L = \\lVert \\mu(x) - u \\rVert_2 + \\lambda\\, \\mathrm{JS}(p \\,\\Vert\\, t), \\qquad
        \\mu(x) = \\sum_{ij} p_{ij}\\, u_{ij}

    in coordinates :math:`u = (2x + 1) / W - 1` that run from -1 to 1 over the picture, with p, t and JS as in
    :class:`SpatialJS` and ``regularisation`` :math:`\\lambda \\ge 0`. Each class has at most one point in an image.

    Raises:
        ValueError: a class has several points in one image (a call that is being compiled leaves them out).

    Smallest where the mean of p lies on the point and p has the Gaussian's shape.

    Source: Nibali et al. 2018: lambda 1, sigma 1.
    """

    regularisation: float = 1.0
    sigma: float = 1.0
    name = "dsnt"
    at_least_zero = ("regularisation",)

    def _total(
        self, logits: Tensor, points: Points, mask: Tensor | None, normalizer: Normalizer | None = None
    ) -> Tensor:
        if torch.compiler.is_compiling():  # nothing can be refused there by its value
            points = points.where(_alone(points, logits.shape[1]))
        elif points.crowded():
            raise ValueError("dsnt needs at most one point of each class in an image; one image has "
                             f"{points.extent.max_per_class}")
        x = self._readied(logits, mask)
        divergence, labelled = self._divergence(x, points, mask)
        image = torch.arange(len(points), device=x.device)[:, None]
        found = soft_argmax(x)[image, points.label]
        size = points.xy.new_tensor(logits.shape[:1:-1])
        gap = torch.where(points.valid[..., None], 2 * (found - points.xy.to(found.dtype)) / size.to(found.dtype), 0.0)
        distance = torch.linalg.vector_norm(gap, dim=-1)
        per_map = distance + self.regularisation * divergence[image, points.label]
        counts = kept_points(points, mask) & labelled[image, points.label]
        weight = 1.0 if points.weight is None else points.weight.to(per_map.dtype)
        return _mean(torch.where(counts, per_map, 0.0) * weight, counts, normalizer)


def soft_argmax(logits: Float[Tensor, "batch classes *size"]) -> Float[Tensor, "batch classes axes"]:
    """The mean position of each map's spatial softmax, in pixels, x first; differentiable.

    .. math:: \\mu_x = \\sum_{ij} p_{ij}\\, j, \\quad \\mu_y = \\sum_{ij} p_{ij}\\, i,
        \\quad p = \\mathrm{softmax}_{ij}(x)

    Source: Nibali et al. 2018 (there in coordinates from -1 to 1).
    """
    size = logits.shape[2:]
    p = torch.softmax(logits.flatten(2), 2).view(logits.shape)
    means = []
    for axis in reversed(range(len(size))):
        others = tuple(2 + other for other in range(len(size)) if other != axis)
        means.append((p.sum(others) * torch.arange(size[axis], dtype=p.dtype, device=p.device)).sum(-1))
    return torch.stack(means, -1)


def dsnt(
    logits: Float[Tensor, "batch classes height width"], xy: Float[Tensor, "batch classes 2"],
    *, sigma: float = 1.0, regularisation: float = 1.0,
) -> Float[Tensor, "batch classes"]:
    """The loss of each map of :class:`~falloff.losses.spatial.DSNT`, from one position for each map, in pixels."""
    check_at_least_zero("regularisation", regularisation)
    batch, classes, height, width = logits.shape
    label = torch.arange(classes, device=logits.device).expand(batch, -1)
    points = Points(xy, label, torch.ones_like(label, dtype=torch.bool))
    heatmap = heatmaps.render(points, (height, width), classes, sigma)
    gap = 2 * (soft_argmax(logits) - xy.to(logits.dtype)) / xy.new_tensor([width, height]).to(logits.dtype)
    return torch.linalg.vector_norm(gap, dim=-1) + plain(regularisation) * spatial_js(logits, heatmap)


def _map_weight(points: Points, counts: Tensor, labelled: Tensor) -> Tensor | float:
    """Mean weight of each map's points that count, ``(B, C)``."""
    if points.weight is None:
        return 1.0
    nothing, counted = points.weight.new_zeros(labelled.shape), counts.to(points.weight.dtype)
    total = nothing.scatter_add(1, points.label, points.weight * counted)
    return total / nothing.scatter_add(1, points.label, counted).clamp(min=1)


def _alone(points: Points, classes: int) -> Tensor:
    """Which points have no other of their class in their image, ``(B, N)``."""
    none = torch.zeros(len(points), classes, dtype=torch.int64, device=points.xy.device)
    return none.scatter_add(1, points.label, points.valid.long()).gather(1, points.label) <= 1


def _mean(value: Tensor, counts: Tensor, divisor: Any) -> Tensor:
    """What each row adds to the mean of the values that count, ``(B,)``."""
    if divisor is None:
        divisor = counts.sum().clamp(min=1)
    return value.sum(1) / (divisor.detach().reshape(()) if isinstance(divisor, Tensor) else divisor)
