"""Numbers that a net puts out at the points, beside its class maps: offsets, sizes, or others."""

from __future__ import annotations

from typing import Any

import torch
from jaxtyping import Bool, Float
from torch import Tensor
from torch.nn.functional import smooth_l1_loss

from falloff.checks import check_at_least_zero, check_one_of, plain
from falloff.heatmaps import nearest_pixel, placed
from falloff.losses.autograd import is_readable, work_dtype
from falloff.losses.base import kept_points
from falloff.losses.inputs import check_logits, check_mask
from falloff.losses.normalizers import Normalizer, check_normalizer, shares
from falloff.points import Points

NORMALIZERS = ("points", "image")


def at_points(
    maps: Float[Tensor, "batch numbers *size"], points: Points, target: str | Float[Tensor, "batch points numbers"], *,
    beta: float = 0.0, mask: Bool[Tensor, "..."] | None = None, stride: int | float = 1,
    normalizer: Normalizer = "points", reduction: str = "sum",
) -> Float[Tensor, "..."]:
    """L1 or smooth L1 of K numbers that a net puts out at each point's pixel.

    .. math::

        &L = \\frac1n \\sum_i w_i \\sum_{k=1}^K \\ell_\\beta(\\hat t_k(\\mathbf{u}_i) - t_{ik}), \\\\
        &\\ell_\\beta(d) = \\begin{cases} d^2 / 2\\beta & |d| < \\beta \\\\ |d| - \\beta / 2 & \\text{else} \\end{cases}

    with :math:`\\mathbf{u}_i` the pixel nearest to point i, :math:`w_i` its weight (1 without) and n the number of
    points that count, at least 1. All other pixels are free. Two points on one pixel are both charged there.

    Args:
        maps: ``(B, K, H, W)``, floating point, beside a class map of H x W; or ``(B, K, D, H, W)``.
        points: of B images.
        target: "offset", how far the point lies from the centre of its pixel, along x, y, ... (K = 2), in pixels of the
            maps: what ``decode.peaks(..., refine="offsets", offsets=maps)`` adds; the name of an array of
            ``points.extra``, such as "size" (lengths go along to pixels of the maps); or the numbers themselves,
            ``(B, N, K)`` or ``(B, N)``, taken as they are.
        beta: where the square becomes a line; 0 is L1 (CenterNet's sizes), 1 CornerNet's smooth L1.
        mask, stride, reduction: as for a call of :class:`~falloff.losses.PointLoss`; a mask ``(B, C, ...)`` hides
            points by their class.
        normalizer: "points", "image" (each image by its own points, then the mean over images), or a number, such as
            :func:`~falloff.losses.count` gives.

    Returns:
        A differentiable scalar, or with ``reduction="none"`` what each image adds to it, ``(B,)``.

    Raises:
        TypeError: maps that are not floating point, a mask that is not bool.
        ValueError: shapes that do not fit; an argument out of range; a point outside the picture (a call that is being
            compiled leaves it out); ``extra`` has no such array; on the CPU also a number that is NaN or infinite where
            a point counts.

    Source: Law and Deng 2018, equation 2 (offsets); Zhou et al. 2019, equations 2 and 3 (offsets and sizes; their code
    divides by K n).

    Example:
        >>> import torch
        >>> from falloff import losses
        >>> from falloff.points import Points
        >>> points = Points.from_lists([([[5.5, 3.5]], [0])])  # pixels of an image, (1, 0.5) in those of the maps
        >>> losses.at_points(torch.zeros(1, 2, 8, 8), points, "offset", stride=4)
        tensor(0.5000)
    """
    check_at_least_zero("beta", beta)
    check_one_of("reduction", reduction, ("sum", "none"))
    check_normalizer("normalizer", normalizer, NORMALIZERS)
    check_logits(maps, points, name="maps")
    size, classes = tuple(maps.shape[2:]), None
    if mask is not None:
        classes = mask.shape[1] if mask.ndim > 1 and mask.shape[1] > 1 else None
        check_mask(mask, (len(maps), classes or 1, *size))
        mask = mask.expand(-1, -1, *size)
    points = placed(points, size, classes, stride)
    pixel = torch.stack([nearest_pixel(x, n) for x, n in zip(points.xy.unbind(-1), reversed(size), strict=True)], -1)
    found = at_pixels(maps, pixel).to(work_dtype(maps))
    if isinstance(target, str):
        known = {"offset": points.xy - pixel, **points.extra}
        check_one_of("target", target, known)
        target = known[target]
    if not isinstance(target, Tensor):
        raise TypeError(f"target must be a torch.Tensor or a name, got {type(target).__name__}")
    if target.ndim == 2:
        target = target[..., None]
    if target.shape != found.shape:
        raise ValueError(f"target must have shape (batch, points, numbers) = {tuple(found.shape)} to go with the maps, "
                         f"got {tuple(target.shape)}")
    counts = kept_points(points, mask)
    # What does not count may be no number, and 0 times its slope none either.
    found, wanted = (torch.where(counts[..., None], part, 0.0) for part in (found, target.to(found.dtype)))
    value = smooth_l1_loss(found, wanted, reduction="none", beta=plain(beta)).sum(-1)
    value = value if points.weight is None else value * points.weight.to(value.dtype)
    value = value.sum(1) * shares(normalizer, counts.sum(1).to(value.dtype), 1, None)
    total = value.sum()
    if is_readable(total) and not torch.isfinite(total.detach()):
        for name, part in (("maps", found), ("target", wanted)):
            check_at_points(name, part)
    return total if reduction == "sum" else value


def at_pixels(maps: Tensor, pixel: Tensor) -> Tensor:
    """All maps ``(B, K, ...)`` at the pixels ``(B, N, axes)``, x first: ``(B, N, K)``."""
    index: Any = 0
    for axis, length in enumerate(maps.shape[2:]):
        index = index * length + pixel[..., -1 - axis]
    return maps.flatten(2).gather(2, index[:, None].expand(-1, maps.shape[1], -1)).mT


def check_at_points(name: str, value: Tensor) -> None:
    """Raise ValueError where a number at a point is NaN or infinite."""
    bad = ~torch.isfinite(value).all(-1)
    if bool(bad.any()):
        image, point = bad.nonzero()[0].tolist()
        raise ValueError(f"{name} must be finite where a point counts: image {image}, point {point} has "
                         f"{value[image, point].tolist()}")
