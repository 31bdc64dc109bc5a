"""From points to maps: Gaussian heatmaps, labelled pixels, and how large an object's Gaussian should be."""

from __future__ import annotations

import functools
import math
import sys
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal, get_args

import torch
from jaxtyping import Bool, Float, Int64
from torch import Tensor

from falloff.checks import check_count, check_one_of, check_positive, check_share, check_size, plain
from falloff.points import Points

Merge = Literal["max", "noisy-or"]


Kind = Literal["pixel", "gaussian", "cone"]


@dataclass(frozen=True)
class Window:
    """The window of pixels around each point that its falloff is drawn in: what of it is the same for all points.

    ``size`` are the maps' lengths, (height, width) or (depth, height, width), ``classes`` their number per image, and
    ``reach`` how many pixels the window extends to each side of the pixel nearest to the point. ``kind`` is "pixel" (1
    at that pixel alone), "gaussian" of width ``sigma`` (points that carry their own keep it), or "cone" (falling
    linearly from 1 to 0 at a distance of ``sigma`` pixels). With ``channels_last`` the class is the last axis of the
    flat index, not the first. With ``any_class`` all points go into one map, whatever their label.
    """

    size: tuple[int, ...]
    classes: int
    reach: int
    kind: Kind
    sigma: float | None
    channels_last: bool = False
    any_class: bool = False

    @classmethod
    def of(cls, points: Points, size: Sequence[int], classes: int, sigma: float | None, *, kind: Kind = "gaussian",
           channels_last: bool = False, any_class: bool = False) -> Window:
        """The window that reaches as far as its values do; ``sigma`` None is the nearest pixel alone.

        Raises:
            ValueError: ``size`` or ``classes`` out of range, a point outside the picture, a label outside
                ``[0, classes)``.
        """
        check_size("size", size)
        check_count("classes", classes)
        size, classes = tuple(map(plain, size)), plain(classes)
        if not torch.compiler.is_compiling():  # a compiled step cannot raise on values: it would be compiled per batch
            points.check_inside(size, classes)
        classes = 1 if any_class else classes
        if sigma is None:
            return cls(size, classes, 0, "pixel", None, channels_last, any_class)
        if kind == "cone":
            reach = math.ceil(sigma - 0.5)
        else:
            reach = _reach(sigma if points.sigma is None else points.widest_sigma(), points.xy.dtype)
        return cls(size, classes, min(reach, max(size) - 1), kind, sigma, channels_last, any_class)

    def pixels(self, points: Points) -> tuple[Tensor, Tensor]:
        """Flat index within its image's maps of each pixel in each point's window, and the value there.

        Both ``(B, N * window)``; the value is 0 on padding and outside the picture (where the index is some pixel
        inside it). Made of tensor operations whose shapes do not depend on the points, so nothing waits for a device.
        """
        axes = len(self.size)
        offset = torch.arange(-self.reach, self.reach + 1, device=points.xy.device)
        lengths = self.size[::-1]  # of x, y, ...: coordinates and lengths are named in opposite orders
        stride = self.classes if self.channels_last else 1
        own = 1 if self.channels_last else math.prod(lengths)  # of a class
        # The class first and the rows last: all but the last addition are of a row's size.
        index = _spread(points.label * (0 if self.any_class else own), axes)
        gap, inside = [], []
        for axis, (x, length) in enumerate(zip(points.xy.unbind(-1), lengths, strict=True)):
            at = nearest_pixel(x, length)[..., None] + offset
            there = at.clamp(0, length - 1)
            index = index + _spread(there * stride, axes, axis)
            stride *= length
            gap.append(_spread(at - x[..., None], axes, axis))
            inside.append(_spread(at == there, axes, axis))
        inside[0] = inside[0] & _spread(points.valid, axes)
        return index.flatten(1), self._value(points, gap, inside).flatten(1)

    def nearest(self, points: Points, index: Tensor) -> tuple[Tensor, Tensor]:
        """Flat index of the pixel nearest to each point, ``(B, N)``, and whether its image has a point, ``(B, 1)``.

        ``index`` is what :meth:`pixels` gave. Padding repeats the pixel of a point: whatever is written to these pixels
        is written to labelled ones alone.
        """
        window = (2 * self.reach + 1) ** len(self.size)
        index = index[:, window // 2 :: window]
        if index.shape[1]:
            first = points.valid.to(torch.uint8).argmax(1, keepdim=True)
            index = torch.where(points.valid, index, index.gather(1, first))
        return index, points.valid.any(1, keepdim=True)

    def labelled(self, points: Points, index: Tensor) -> Tensor:
        """True at the pixel nearest to each point, as flat rows ``(B, pixels)``; arguments as for :meth:`nearest`."""
        index, labelled = self.nearest(points, index)
        maps = torch.zeros(len(points), self.classes * math.prod(self.size), dtype=torch.bool, device=index.device)
        return maps.scatter_(1, index, labelled.expand_as(index))

    def draw(self, points: Points) -> Tensor:
        """The maps ``(B, C, ...)``: at each pixel the largest of the values that fall on it, 0 where none does."""
        return self.merged(*self.pixels(points)).view(len(points), self.classes, *self.size)

    def merged(self, index: Tensor, value: Tensor) -> Tensor:
        """The maps as flat rows ``(B, pixels)``, of what :meth:`pixels` gave."""
        maps = value.new_zeros(len(value), self.classes * math.prod(self.size))
        return maps.scatter_reduce_(1, index, value, "amax")

    def weights(self, points: Points, index: Tensor, value: Tensor, maps: Tensor) -> Tensor:
        """At each pixel of ``maps``, ``(B, pixels)``, the weight of the point nearest to it; 1 where none is near.

        ``index`` and ``value`` are what :meth:`pixels` gave, ``maps`` what was drawn of them. Of points equally near
        the largest weight counts.
        """
        count = (2 * self.reach + 1) ** len(self.size)
        assert points.weight is not None
        own = points.weight.to(maps.dtype)[..., None].expand(-1, -1, count).flatten(1)
        own = torch.where((value > 0) & (maps.gather(1, index) == value), own, -1.0)
        own = torch.full_like(maps, -1.0).scatter_reduce(1, index, own, "amax")
        return torch.where(own < 0, 1.0, own)

    def _value(self, points: Points, gap: list[Tensor], inside: list[Tensor]) -> Tensor:
        """The falloff at some distances from each point along x, y, ..., which broadcast to the window."""
        axes, spread = len(gap), points.sigma
        if self.kind == "gaussian" and (spread is None or spread.ndim < 4):
            sides = []  # one exponential for each row and column, not for each pixel
            for axis, (g, fits) in enumerate(zip(gap, inside, strict=True)):
                wide: Any = self.sigma
                if spread is not None:
                    wide = _spread(spread if spread.ndim == 2 else spread[..., axis], axes).to(g.dtype)
                sides.append(torch.exp(-0.5 * (g / wide) ** 2) * fits)
            value = functools.reduce(torch.mul, sides)
        else:
            within = functools.reduce(torch.logical_and, inside)
            if self.kind == "pixel":
                return within.to(gap[0].dtype)
            if self.kind == "cone":
                distance: Any = sum(g.square() for g in gap)
                return torch.where(within, (1 - distance.sqrt() / self.sigma).clamp(min=0.0), 0.0)
            assert spread is not None
            precision = torch.linalg.inv_ex(spread.to(gap[0].dtype)).inverse  # inv would wait for the device to check
            squared: Any = sum(
                _spread(precision[..., i, j], axes) * gap[i] * gap[j] for i in range(axes) for j in range(axes)
            )
            value = torch.where(within, torch.exp(-0.5 * squared), 0.0)
        if spread is None:
            return value
        # Points of many widths share one window: each ends where its Gaussian does, not where the window does.
        return torch.where(value < torch.finfo(value.dtype).eps, 0.0, value)


@dataclass(frozen=True)
class PixelsNear:
    """The pixels near some points, of maps ``(B, C, H, W)`` taken as one flat row.

    A pixel near several points of its class is listed once for each; ``counts`` is True at one of them. All lists have
    the length B * N * window, whatever the points are, so that making them never waits for the device.

    ``index``: place in the flat row. ``heat``: the rendered map there. ``weight``: that of the point nearest to it.
    """

    index: Int64[Tensor, " near"]
    heat: Float[Tensor, " near"]
    counts: Bool[Tensor, " near"]
    weight: Float[Tensor, " near"]


def placed(points: Points, size: Sequence[int], classes: int | None, stride: int | float) -> Points:
    """The points in pixels of maps at a stride, all of them inside.

    Raises:
        TypeError, ValueError: ``size``, ``classes`` or ``stride`` out of range; a point lies outside the maps, or its
            label is not in ``[0, classes)``. A compiled call cannot raise on a value: it leaves such a point out.
    """
    check_size("size", size)
    if classes is not None:
        check_count("classes", classes)
    there = points.at_stride(stride)
    if torch.compiler.is_compiling():
        return there.inside(size, classes)
    most = sys.maxsize if classes is None else classes
    points.check_inside(size, most, stride=stride)  # an error in pixels of the image
    there.check_inside(size, most)
    return there


def render(
    points: Points, size: Sequence[int], classes: int, sigma: float | Float[Tensor, "batch points *axes"],
    *, merge: Merge = "max", stride: int | float = 1,
) -> Float[Tensor, "batch classes *size"]:
    """One Gaussian around each point, merged within a class.

    .. math::

        &y_c(\\mathbf{u}) = \\max_{n:\\, c_n = c} y_n \\text{ or }
        1 - \\prod_n (1 - y_n) \\text{ with ``noisy-or''}, \\\\
        &y_n = \\exp\\left(-\\tfrac12
        (\\mathbf{u} - \\mathbf{x}_n)^\\top \\Sigma_n^{-1} (\\mathbf{u} - \\mathbf{x}_n)\\right)

    The centre is the point itself, not its pixel: a point between pixels gives a map whose largest value is
    below 1. A class without points has a map of zeros. Only a window around each point is evaluated; where a Gaussian
    is below the dtype's rounding error of 1 (5.6 sigma away in float32), the map is 0.

    Args:
        points: B images, in pixels of the image. Points that carry their own ``sigma`` keep it against a number.
        size: (height, width) of the maps in pixels, or (depth, height, width) for points in a volume.
        classes: number of maps per image; every label must be smaller.
        sigma: standard deviation in pixels of the maps, finite and above 0: one number, or a tensor as in
            :class:`~falloff.points.Points`: ``(B, N)``, ``(B, N, 2)`` for x and y, or covariances ``(B, N, 2, 2)``.
        merge: "max", or "noisy-or": the probability that at least one of independent events happens.
        stride: pixels of the image along a pixel of the maps, as in a call of :class:`~falloff.losses.PointLoss`.

    Returns:
        Values in [0, 1] in the dtype of ``points.xy``, on its device.

    Raises:
        TypeError, ValueError: ``size``, ``classes``, ``sigma``, ``merge`` or ``stride`` out of range, a point outside
            the picture, a label outside ``[0, classes)`` (a call that is being compiled leaves such a point out).

    Source: Tompson et al. 2014; merged by the maximum as in Law and Deng 2018, section 3.2.

    Example:
        >>> from falloff import heatmaps
        >>> from falloff.points import Points
        >>> points = Points.from_lists([([[2.0, 1.0]], [0])])
        >>> maps = heatmaps.render(points, (3, 5), classes=1, sigma=1.0)
        >>> [round(value, 3) for value in maps[0, 0, 1].tolist()]
        [0.135, 0.607, 1.0, 0.607, 0.135]
    """
    check_one_of("merge", merge, get_args(Merge))
    points, sigma = placed(points, size, classes, stride), plain(sigma)
    if isinstance(sigma, Tensor):
        points, sigma = replace(points, sigma=sigma), 1.0
    check_positive("sigma", sigma)
    window = Window.of(points, size, classes, sigma)
    if merge == "max":
        return window.draw(points)
    index, heat = window.pixels(points)
    none_here = heat.new_ones(len(points), classes * math.prod(size)).scatter_reduce_(1, index, 1 - heat, "prod")
    return (1 - none_here).view(len(points), classes, *size)


def positives(
    points: Points, size: Sequence[int], classes: int, *, stride: int | float = 1
) -> Bool[Tensor, "batch classes *size"]:
    """True at the pixel nearest to each valid point, in the map of its class.

    Comes from the points, never from ``heatmap == 1``: a Gaussian whose centre lies between pixels is 1 nowhere.

    Args and errors: as for :func:`render`.
    """
    points = placed(points, size, classes, stride)
    window = Window.of(points, size, classes, None)
    return window.labelled(points, window.pixels(points)[0]).view(len(points), classes, *size)


def pixels_near(
    points: Points, size: Sequence[int], classes: int, sigma: float | None, *, stride: int | float = 1
) -> PixelsNear:
    """The pixels that a Gaussian of width ``sigma`` reaches around each point; None for the nearest alone.

    Args and errors: as for :func:`render`.
    """
    points = placed(points, size, classes, stride)
    window = Window.of(points, size, classes, sigma)
    pixels = classes * math.prod(size)
    first = torch.arange(len(points), device=points.xy.device)[:, None] * pixels
    drawn = window.pixels(points)
    maps = window.merged(*drawn)
    index = (drawn[0] + first).view(-1)
    heat = maps.view(-1)[index]
    entry = torch.arange(index.numel(), device=index.device)
    owner = torch.empty(len(points) * pixels, dtype=torch.int64, device=index.device)
    owner.scatter_(0, index, entry)  # whichever is written last: only that there is one matters
    weight = torch.ones_like(heat) if points.weight is None else window.weights(points, *drawn, maps).view(-1)[index]
    return PixelsNear(index, heat, owner[index] == entry, weight)


def _reach(sigma: float, dtype: torch.dtype) -> int:
    """Pixels from the one nearest to a point beyond which a Gaussian is below the dtype's rounding error of 1."""
    return max(0, math.ceil(sigma * math.sqrt(-2.0 * math.log(torch.finfo(dtype).eps)) - 0.5))


def _spread(part: Tensor, axes: int, axis: int | None = None) -> Tensor:
    """``(B, N, w)`` along one axis of a window, x the last; ``(B, N)`` along none of them."""
    shape = [1] * axes
    if axis is not None:
        shape[axes - 1 - axis] = part.shape[2]
    return part.view(*part.shape[:2], *shape)


def nearest_pixel(coordinate: Tensor, length: int) -> Tensor:
    """Index of the pixel whose centre is nearest, along an axis of ``length`` pixels; a tie goes up."""
    return torch.floor(coordinate + 0.5).to(torch.int64).clamp(0, length - 1)


def counted(mask: Bool[Tensor, "batch 1 height width"] | None, stride: int) -> Bool[Tensor, "batch 1 h w"] | None:
    """A mask of images for maps at a stride, of which a pixel counts if one that it covers does, as at a border."""
    if mask is None or stride == 1:
        return mask
    return torch.nn.functional.max_pool2d(mask.float(), stride, ceil_mode=True) > 0


def object_radius(height: float | Tensor, width: float | Tensor, min_iou: float = 0.7) -> Any:
    """Largest distance that both corners of a box may move, each axis, with IoU still at least ``min_iou``.

    The corners may move in three worst ways. With :math:`r` the radius, :math:`h, w` the box and :math:`t` the IoU:

    - both along the same diagonal (the box shifts): with :math:`m = (h - r)(w - r)`,
      :math:`m / (2hw - m) = t`;
    - both inwards (the box shrinks): :math:`(h - 2r)(w - 2r) / hw = t`;
    - both outwards (the box grows): :math:`hw / ((h + 2r)(w + 2r)) = t`.

    Each is a quadratic in :math:`r`; the smallest of the three roots in range is the answer.

    Args:
        height: of the box in pixels, above 0; a number, or a tensor of any shape with a box in each element.
        width: of the box in pixels, above 0, likewise.
        min_iou: in (0, 1].

    Returns:
        The radius in pixels, a number or a tensor; nothing looks at the values of a tensor.

    Raises:
        ValueError: an argument is out of range.

    Source: Law and Deng 2018, section 3.2; derived anew, since their first code took a wrong root.
    """
    height, width, min_iou = plain(height), plain(width), plain(min_iou)
    root: Any = torch.sqrt
    if not isinstance(height, Tensor) and not isinstance(width, Tensor):
        check_positive("height", height)
        check_positive("width", width)
        root = math.sqrt
    check_share("min_iou", min_iou)
    check_positive("min_iou", min_iou)
    total, area = height + width, height * width
    # Shift: r^2 - (h + w) r + hw (1 - t) / (1 + t) = 0. Shrink: 4 r^2 - 2 (h + w) r + hw (1 - t) = 0.
    # Grow: 4 r^2 + 2 (h + w) r - hw (1 - t) / t = 0.
    shift = (total - root(total**2 - 4 * area * (1 - min_iou) / (1 + min_iou))) / 2
    shrink = (total - root(total**2 - 4 * area * (1 - min_iou))) / 4
    grow = (-total + root(total**2 + 4 * area * (1 - min_iou) / min_iou)) / 4
    least = (shift, shrink, grow)
    return min(least) if root is math.sqrt else torch.stack(least).amin(0)
