"""The losses that look at more than one pixel at a time: across classes, over a whole image, or over a whole map."""

from __future__ import annotations

import math
from dataclasses import dataclass, field, replace

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from falloff import heatmaps
from falloff.checks import check_at_least_zero, check_positive
from falloff.heatmaps import Near, Stamp
from falloff.losses import charges
from falloff.losses.autograd import elementwise, is_readable, work_dtype
from falloff.losses.base import NormalizedLoss, PointLoss, halved, kept_points, refuse_not_finite
from falloff.losses.dense import check_maps, check_shape
from falloff.points import Points


@dataclass(frozen=True, kw_only=True)
class SoftmaxDistanceAware(NormalizedLoss):
    """Distance-aware focal loss over mutually exclusive classes and a background whose logit is 0.

    .. math::

        p_c = \\frac{e^{x_c}}{1 + \\sum_k e^{x_k}}, \\quad p_0 = \\frac{1}{1 + \\sum_k e^{x_k}}, \\qquad
        L = \\begin{cases}
            -(1 - p_c)^\\alpha \\log p_c & \\text{at a positive of class } c \\\\
            -(1 - y)^\\beta (1 - p_0)^\\alpha \\log p_0 & \\text{elsewhere}
        \\end{cases}

    with y the Gaussian of the nearest point of any class. With one class it is
    :class:`~falloff.losses.pixelwise.DistanceAware`. A pixel nearest to points of several classes is charged for each.
    The mask cannot tell classes apart: its class axis has length 1. ``normalizer`` as in
    :class:`~falloff.losses.pixelwise.PixelLoss`, with a pixel of all classes together counted once.

    Smallest at p_c = 1 at a positive and at p_0 = 1 elsewhere, whatever y.

    Source: Law and Deng 2018, equation 1, with the softmax in place of the sigmoid.
    """

    alpha: float = 2.0
    beta: float = 4.0
    sigma: float = 1.5
    name = "softmax-distance-aware"
    above_zero = ("sigma",)
    at_least_zero = ("alpha", "beta")

    def _total(self, logits: Tensor, points: Points, mask: Tensor | None) -> Tensor:
        if mask is not None and mask.shape[1] > 1 and mask.stride(1) != 0:  # not expanded from one class
            raise ValueError("softmax-distance-aware: mask must be the same for all classes: (B, 1, H, W)")
        size, classes = tuple(logits.shape[2:]), logits.shape[1]
        x = logits.to(work_dtype(logits))
        x = (x if mask is None else torch.where(mask, x, 0.0)).flatten(2)
        heat = Stamp.of(points, size, classes, self.sigma, any_class=True).draw(points).flatten(1).to(x.dtype)
        nearest = Stamp.of(points, size, classes, None, any_class=True)
        taken = nearest.draw(points).flatten(1) > 0
        background = elementwise(charges.distance_aware, torch.logsumexp(x, 1), heat, torch.zeros_like(taken),
                                 self.alpha, self.beta)
        free = ~taken if mask is None else ~taken & mask[:, 0].flatten(1)
        background = torch.where(free, background, 0.0).sum(1)
        counts = kept_points(points, mask)
        pixel, _ = nearest.press(points)
        there = x.gather(2, pixel[:, None].expand(-1, classes, -1))  # (B, C, N): all classes at each point's pixel
        charge = elementwise(_charge_1, _margin(there, points.label), self.alpha)
        again, heaviest = _repeated(pixel, points)
        charge = charge if heaviest is None else charge * heaviest.to(charge.dtype)
        charge = torch.where(counts & ~again, charge, 0.0).sum(1)
        kept = logits[:, 0].numel() if mask is None else mask[:, 0].sum()
        return ((background + charge) * self.shares(counts.sum(1).to(x.dtype), kept)).sum()

    def scores(self, logits: Tensor) -> Tensor:
        """The probability of each class, background left out: softmax over the class axis (1) and a logit of 0."""
        background = torch.zeros_like(logits[:, :1])
        return torch.softmax(torch.cat([logits, background], 1), 1)[:, :-1]

    def best_constant(self, points: Points, size: tuple[int, ...], classes: int) -> float:
        loss = replace(self)  # a copy has a running mean of its own

        def slope(x: float) -> Tensor:
            logit = torch.full((), x, device=points.xy.device, requires_grad=True)
            return torch.autograd.grad(loss(logit.expand(len(points), classes, *size), points), logit)[0]

        return halved(slope, -40.0, 40.0)


def softmax_distance_aware(
    logits: Float[Tensor, "batch classes *size"],
    positives: Bool[Tensor, "batch classes *size"],
    heatmap: Float[Tensor, "batch classes *size"],
    *,
    alpha: float = 2.0,
    beta: float = 4.0,
) -> Float[Tensor, "batch *size"]:
    """The loss of each pixel of :class:`SoftmaxDistanceAware`, from dense maps.

    Its memory grows with the square of the number of classes: it is the reference, not what trains.
    """
    check_at_least_zero("alpha", alpha)
    check_at_least_zero("beta", beta)
    check_shape(logits, "positives", positives)
    heatmap = check_maps(logits, heatmap=heatmap)
    x, classes = logits.movedim(1, -1), logits.shape[1]  # (B, ..., C)
    own = torch.eye(classes, dtype=torch.bool, device=x.device)
    others = x[..., None, :].expand(*x.shape, classes).masked_fill(own, -torch.inf)
    margin = x - _with_background(others, -1)
    positive = positives.movedim(1, -1)
    charge = torch.where(positive, elementwise(_charge_1, margin, alpha), 0.0).sum(-1)
    y = heatmap.amax(1)
    background = elementwise(charges.distance_aware, torch.logsumexp(x, -1), y, torch.zeros_like(y).bool(), alpha, beta)
    return torch.where(positive.any(-1), charge, background)


@dataclass(frozen=True, kw_only=True)
class Tversky(PointLoss):
    """One minus the Tversky index of each image, the mean over images.

    .. math:: L = 1 - \\frac{\\sum p\\,y + s}{\\sum p\\,y + \\alpha \\sum p\\,(1 - y) + \\beta \\sum (1 - p)\\,y + s}

    with sums over all classes and pixels of an image, and y the Gaussian heatmap of width ``sigma``.

    ``alpha`` prices false positives, ``beta`` false negatives, both at least 0; ``smooth`` :math:`s > 0` defines it
    where nothing is labelled. ``points.weight`` :math:`w` counts a pixel :math:`1 + y (w - 1)` times in every sum, with
    w of the point nearest to it.

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

    def _total(self, logits: Tensor, points: Points, mask: Tensor | None) -> Tensor:
        near, heat = _near(logits, points, mask, self.sigma)
        x = logits.to(work_dtype(logits))
        p = torch.sigmoid(x if mask is None else torch.where(mask, x, 0.0))
        image, at_points = near.index // x[0].numel(), p.reshape(-1)[near.index]
        more = heat * (near.weight.to(heat.dtype) - 1)  # beyond once

        def summed(near_points: Tensor) -> Tensor:
            return near_points.new_zeros(len(x)).index_add(0, image, near_points)

        predicted = (p if mask is None else torch.where(mask, p, 0.0)).flatten(1).sum(1) + summed(more * at_points)
        both, labelled = summed((1 + more) * heat * at_points), summed((1 + more) * heat)
        return _tversky(both, predicted, labelled, self.alpha, self.beta, self.smooth).sum() / max(1, len(x))

    def best_constant(self, points: Points, size: tuple[int, ...], classes: int) -> float:
        """The label frequency's: one constant everywhere overlaps best at p = 0 or 1, where nothing is learnt."""
        heat = heatmaps.render(points, size, classes, self.sigma)
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
    """The loss of each image of :class:`Tversky`, from dense maps: ``labels`` bool or in [0, 1], of the logits' shape.

    Raises:
        TypeError, ValueError: shapes or dtypes do not fit; a label or an option out of range.
    """
    for name, value in (("alpha", alpha), ("beta", beta)):
        check_at_least_zero(name, value)
    check_positive("smooth", smooth)
    p, y = torch.sigmoid(logits).flatten(1), check_maps(logits, labels=labels).flatten(1)
    return _tversky((p * y).sum(1), p.sum(1), y.sum(1), alpha, beta, smooth)


def dice(
    logits: Float[Tensor, "batch *shape"],
    labels: Bool[Tensor, "batch *shape"] | Float[Tensor, "batch *shape"],
    *,
    smooth: float = 1.0,
) -> Float[Tensor, " batch"]:
    """The loss of each image of :class:`Dice`, from dense maps."""
    return tversky(logits, labels, alpha=0.5, beta=0.5, smooth=smooth)


@dataclass(frozen=True, kw_only=True)
class SpatialKL(PointLoss):
    """Kullback-Leibler divergence of each map's spatial softmax from the Gaussian target, the mean over labelled maps.

    .. math:: L = \\sum_{ij} t_{ij} \\log\\frac{t_{ij}}{p_{ij}}, \\qquad p = \\mathrm{softmax}_{ij}(x), \\quad
        t = \\frac{y}{\\sum y}

    with y the heatmap of width ``sigma``. A map without a point that counts has no target and does not count: this
    loss places points and says nothing of whether there is one. The weights of a map's points, averaged, multiply its
    divergence.

    Smallest, and 0, where p = t.

    Source: Nibali et al. 2018 (its regularisers).
    """

    sigma: float = 1.5
    name = "spatial-kl"
    above_zero = ("sigma",)

    def _total(self, logits: Tensor, points: Points, mask: Tensor | None) -> Tensor:
        divergence, labelled = self._divergence(self._readied(logits, mask), points, mask)
        weight = _map_weight(points, kept_points(points, mask), labelled)
        return (torch.where(labelled, divergence, 0.0) * weight).sum() / labelled.sum().clamp(min=1)

    def _readied(self, logits: Tensor, mask: Tensor | None) -> Tensor:
        """Logits in the dtype of the work, whose softmax is 0 under a mask."""
        if is_readable(logits):  # a map without a point adds nothing to the loss, and would hide it
            refuse_not_finite(logits, mask)
        x = logits.to(work_dtype(logits))
        return x if mask is None else torch.where(mask, x, -1e30)

    def _divergence(self, x: Tensor, points: Points, mask: Tensor | None) -> tuple[Tensor, Tensor]:
        """Of each map ``(B, C)``, and which of them have a point."""
        if mask is not None:
            points = points.where(kept_points(points, mask))  # the rim of a hidden point is no target
        near, heat = _near(x, points, mask, self.sigma)
        rows = x.flatten(2).flatten(0, 1)
        row = near.index // rows.shape[1]
        total = rows.new_zeros(len(rows)).index_add(0, row, heat)
        target = heat / torch.where(total > 0, total, 1.0)[row]
        log_p = x.reshape(-1)[near.index] - torch.logsumexp(rows, 1)[row]
        counted = near.counts & (target > 0)
        part, rest = self._parts(torch.where(counted, target, 1.0), log_p)
        divergence = rest + rows.new_zeros(len(rows)).index_add(0, row, torch.where(counted, part, 0.0))
        return divergence.view(x.shape[:2]), (total > 0).view(x.shape[:2])

    def _parts(self, target: Tensor, log_p: Tensor) -> tuple[Tensor, float]:
        """What each pixel near points adds, and what a map has without them."""
        return target * (torch.log(target) - log_p), 0.0

    def scores(self, logits: Tensor) -> Tensor:
        """Each map's spatial softmax: how probable each pixel is, given that the map has a point."""
        return torch.softmax(logits.flatten(2), 2).view(logits.shape)

    def best_constant(self, points: Points, size: tuple[int, ...], classes: int) -> float:
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

    def _parts(self, target: Tensor, log_p: Tensor) -> tuple[Tensor, float]:
        p = torch.exp(log_p)
        log_m = torch.log((p + target) / 2)
        # Where the target is 0, p log(p / m) is p log 2: all p sum to 1, and those near points are put right.
        part = 0.5 * (target * (torch.log(target) - log_m) + p * (log_p - log_m - math.log(2)))
        return part, 0.5 * math.log(2)


def spatial_kl(
    logits: Float[Tensor, "batch classes *size"], heatmap: Float[Tensor, "batch classes *size"]
) -> Float[Tensor, "batch classes"]:
    """The divergence of each map of :class:`SpatialKL`, from dense maps; NaN for an empty one.

    Raises:
        TypeError, ValueError: shapes or dtypes do not fit; a value of the heatmap is NaN or outside [0, 1].
    """
    target = check_maps(logits, heatmap=heatmap).flatten(2)
    log_p = torch.log_softmax(logits.flatten(2), 2)
    target = target / target.sum(2, keepdim=True)
    return (torch.xlogy(target, target) - target * log_p).sum(2)


def spatial_js(
    logits: Float[Tensor, "batch classes *size"], heatmap: Float[Tensor, "batch classes *size"]
) -> Float[Tensor, "batch classes"]:
    """The divergence of each map of :class:`SpatialJS`, from dense maps; NaN for an empty one. Errors as there."""
    target = check_maps(logits, heatmap=heatmap).flatten(2)
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
        ValueError: a class has several points in one image.

    Smallest where the mean of p lies on the point and p has the Gaussian's shape.

    Source: Nibali et al. 2018: lambda 1, sigma 1.
    """

    regularisation: float = 1.0
    sigma: float = 1.0
    name = "dsnt"
    at_least_zero = ("regularisation",)

    def _total(self, logits: Tensor, points: Points, mask: Tensor | None) -> Tensor:
        if (most := points.max_per_class()) > 1:
            raise ValueError(f"dsnt needs at most one point of each class in an image; one image has {most}")
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
        return (torch.where(counts, per_map, 0.0) * weight).sum() / counts.sum().clamp(min=1)


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
    """The loss of each map of :class:`DSNT`, from one position for each map, in pixels."""
    check_at_least_zero("regularisation", regularisation)
    batch, classes, height, width = logits.shape
    label = torch.arange(classes, device=logits.device).expand(batch, -1)
    points = Points(xy, label, torch.ones_like(label, dtype=torch.bool))
    heatmap = heatmaps.render(points, (height, width), classes, sigma)
    gap = 2 * (soft_argmax(logits) - xy.to(logits.dtype)) / xy.new_tensor([width, height]).to(logits.dtype)
    return torch.linalg.vector_norm(gap, dim=-1) + regularisation * spatial_js(logits, heatmap)


def _charge_1(x: Tensor, alpha: float) -> charges.Charge:
    return charges.focal(x, torch.ones_like(x), alpha, 1.0, 1.0)


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


def _tversky(both: Tensor, predicted: Tensor, labelled: Tensor, alpha: float, beta: float, smooth: float) -> Tensor:
    return 1 - (both + smooth) / (both + alpha * (predicted - both) + beta * (labelled - both) + smooth)


def _near(logits: Tensor, points: Points, mask: Tensor | None, sigma: float) -> tuple[Near, Tensor]:
    """The pixels near points, and the heat of those that count, in the dtype of the work."""
    near = heatmaps.near(points, tuple(logits.shape[2:]), logits.shape[1], sigma)
    heat = torch.where(near.counts, near.heat, 0.0).to(work_dtype(logits))
    return near, heat if mask is None else torch.where(mask.reshape(-1)[near.index], heat, 0.0)


def _map_weight(points: Points, counts: Tensor, labelled: Tensor) -> Tensor | float:
    """Mean weight of each map's points that count, ``(B, C)``."""
    if points.weight is None:
        return 1.0
    nothing, counted = points.weight.new_zeros(labelled.shape), counts.to(points.weight.dtype)
    total = nothing.scatter_add(1, points.label, points.weight * counted)
    return total / nothing.scatter_add(1, points.label, counted).clamp(min=1)
