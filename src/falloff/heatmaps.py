"""From points to maps: Gaussian heatmaps, labelled pixels, and how large an object's Gaussian should be."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int64
from torch import Tensor

from falloff.points import Points


@dataclass(frozen=True)
class Near:
    """The pixels near some points, of maps ``(B, C, H, W)`` taken as one flat row.

    A pixel near several points of its class is listed once for each; ``counts`` is True at one of them. All lists have
    the length B * N * window, whatever the points are, so that making them never waits for the device.

    ``index``: place in the flat row. ``heat``: the rendered Gaussian there. ``positive``: whether it is the pixel
    nearest to a point.
    """

    index: Int64[Tensor, " near"]
    heat: Float[Tensor, " near"]
    positive: Bool[Tensor, " near"]
    counts: Bool[Tensor, " near"]


def render(
    points: Points, size: tuple[int, int], classes: int, sigma: float
) -> Float[Tensor, "batch classes height width"]:
    """One Gaussian around each point, merged by the maximum within a class.

    .. math:: y_c(i, j) = \\max_{n:\\, c_n = c} e^{-d_n^2 / 2 \\sigma^2}, \\quad d_n^2 = (j - x_n)^2 + (i - y_n)^2

    The centre is the point itself, not its pixel: a point between pixels gives a map whose largest value is
    below 1. A class without points has a map of zeros. Only a window around each point is evaluated; outside it,
    where a Gaussian is below the dtype's rounding error of 1 (5.7 sigma away in float32), the map is 0.

    Args:
        points: B images.
        size: (height, width) of the maps in pixels.
        classes: number of maps per image; every label must be smaller.
        sigma: standard deviation in pixels, finite and above 0.

    Returns:
        Values in [0, 1] in the dtype of ``points.xy``, on its device.

    Raises:
        ValueError: ``size``, ``classes`` or ``sigma`` out of range, a point outside the picture, a label outside
            ``[0, classes)``.

    Source: Tompson et al. 2014; merged by the maximum as in Law and Deng 2018, section 3.2.
    """
    check_positive("sigma", sigma)
    index, heat = _windows(points, size, classes, sigma)
    return _merged(index, heat, len(points), size, classes).view(len(points), classes, *size)


def positives(
    points: Points, size: tuple[int, int], classes: int
) -> Bool[Tensor, "batch classes height width"]:
    """True at the pixel nearest to each valid point, in the map of its class.

    Comes from the points, never from ``heatmap == 1``: a Gaussian whose centre lies between pixels is 1 nowhere.

    Args and errors: as for :func:`render`.
    """
    index, heat = _windows(points, size, classes, None)
    return _merged(index, heat, len(points), size, classes).view(len(points), classes, *size) > 0


def near(points: Points, size: tuple[int, int], classes: int, sigma: float | None) -> Near:
    """The pixels that a Gaussian of width ``sigma`` reaches around each point; None for the nearest pixels alone.

    Args and errors: as for :func:`render`.
    """
    index, heat = _windows(points, size, classes, sigma)
    at_point, one = _windows(points, size, classes, None)
    maps = (len(points), size, classes)
    heat_there = _merged(index, heat, *maps)[index.reshape(-1)]
    positive = (_merged(at_point, one, *maps) > 0)[index.reshape(-1)]
    index, entry = index.reshape(-1), torch.arange(index.numel(), device=index.device)
    owner = torch.empty(len(points) * classes * size[0] * size[1], dtype=torch.int64, device=index.device)
    owner.scatter_(0, index, entry)  # whichever is written last: only that there is one matters
    return Near(index, heat_there, positive, owner[index] == entry)


def _windows(points: Points, size: tuple[int, int], classes: int, sigma: float | None) -> tuple[Tensor, Tensor]:
    """Flat index of the pixels in a window around each point, (B, N, h, w), and its Gaussian there; 0 on padding.

    Without ``sigma`` the window is the one nearest pixel, where it is 1.
    """
    height, width = check_size(size)
    points.check_inside((height, width), check_classes(classes))
    x, y = points.xy.unbind(-1)
    if sigma is None:
        columns, rows = nearest_pixel(x, width)[..., None], nearest_pixel(y, height)[..., None]
        gx, gy = torch.ones_like(x)[..., None], torch.ones_like(y)[..., None]
    else:
        reach = math.ceil(sigma * math.sqrt(-2.0 * math.log(torch.finfo(x.dtype).eps)))
        columns, gx = _profile(x, width, min(reach, width - 1), sigma)
        rows, gy = _profile(y, height, min(reach, height - 1), sigma)
    heat = torch.where(points.valid[..., None, None], gy[..., :, None] * gx[..., None, :], 0.0)
    plane = torch.arange(len(points), device=x.device)[:, None] * classes + points.label
    return (plane[..., None, None] * height + rows[..., :, None]) * width + columns[..., None, :], heat


def _merged(index: Tensor, value: Tensor, batch: int, size: tuple[int, int], classes: int) -> Tensor:
    """The maps as one flat row: at each pixel the largest of the values that fall on it, 0 where none does."""
    maps = value.new_zeros(batch * classes * size[0] * size[1])
    return maps.scatter_reduce_(0, index.reshape(-1), value.reshape(-1), reduce="amax")


def _profile(centre: Tensor, length: int, reach: int, sigma: float) -> tuple[Tensor, Tensor]:
    """Pixels within ``reach`` of each centre along one axis, and the Gaussian's factor at each; 0 outside."""
    offset = torch.arange(-reach, reach + 1, device=centre.device)
    pixel = nearest_pixel(centre, length)[..., None] + offset
    factor = torch.exp(-0.5 * ((pixel - centre[..., None]) / sigma) ** 2)
    inside = (pixel >= 0) & (pixel < length)
    return pixel.clamp(0, length - 1), torch.where(inside, factor, 0.0)


def nearest_pixel(coordinate: Tensor, length: int) -> Tensor:
    """Index of the pixel whose centre is nearest, along an axis of ``length`` pixels; a tie goes up."""
    return torch.floor(coordinate + 0.5).to(torch.int64).clamp(0, length - 1)


def object_radius(height: float, width: float, min_iou: float = 0.7) -> float:
    """Largest distance that both corners of a box may move, each axis, with IoU still at least ``min_iou``.

    The corners may move in three worst ways. With :math:`r` the radius, :math:`h, w` the box and :math:`t` the IoU:

    - both along the same diagonal (the box shifts): with :math:`m = (h - r)(w - r)`,
      :math:`m / (2hw - m) = t`;
    - both inwards (the box shrinks): :math:`(h - 2r)(w - 2r) / hw = t`;
    - both outwards (the box grows): :math:`hw / ((h + 2r)(w + 2r)) = t`.

    Each is a quadratic in :math:`r`; the smallest of the three roots in range is the answer.

    Args:
        height: of the box in pixels, above 0.
        width: of the box in pixels, above 0.
        min_iou: in (0, 1].

    Raises:
        ValueError: an argument is out of range.

    Source: Law and Deng 2018, section 3.2; derived anew, since their first code took a wrong root.
    """
    check_positive("height", height)
    check_positive("width", width)
    if isinstance(min_iou, bool) or not isinstance(min_iou, (int, float)):
        raise TypeError(f"min_iou must be a number, got {min_iou!r}")
    if not 0.0 < min_iou <= 1.0:
        raise ValueError(f"min_iou must be in (0, 1], got {min_iou!r}")
    total, area = height + width, height * width
    # Shift: r^2 - (h + w) r + hw (1 - t) / (1 + t) = 0. Shrink: 4 r^2 - 2 (h + w) r + hw (1 - t) = 0.
    # Grow: 4 r^2 + 2 (h + w) r - hw (1 - t) / t = 0.
    shift = (total - math.sqrt(total**2 - 4 * area * (1 - min_iou) / (1 + min_iou))) / 2
    shrink = (total - math.sqrt(total**2 - 4 * area * (1 - min_iou))) / 4
    grow = (-total + math.sqrt(total**2 + 4 * area * (1 - min_iou) / min_iou)) / 4
    return min(shift, shrink, grow)


def check_size(size: tuple[int, int]) -> tuple[int, int]:
    """``size`` when it is two whole numbers above 0, else an error that says so."""
    whole = isinstance(size, (tuple, list, torch.Size)) and len(size) == 2
    if not whole or not all(isinstance(n, int) and not isinstance(n, bool) and n > 0 for n in size):
        raise ValueError(f"size must be (height, width), two integers above 0, got {size!r}")
    return size[0], size[1]


def check_classes(classes: int) -> int:
    """``classes`` when it is a whole number above 0, else an error that says so."""
    if not isinstance(classes, int) or isinstance(classes, bool) or classes < 1:
        raise ValueError(f"classes must be an integer above 0, got {classes!r}")
    return classes


def check_positive(name: str, value: float) -> None:
    """Raise unless ``value`` is a finite number above 0."""
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise TypeError(f"{name} must be a number, got {value!r}")
    if not (math.isfinite(value) and value > 0):
        raise ValueError(f"{name} must be finite and above 0, got {value!r}")
