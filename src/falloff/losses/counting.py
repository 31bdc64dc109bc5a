"""How many points a step has, over processes and over the parts that it accumulates."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from jaxtyping import Bool, Float
from torch import Tensor, distributed

from falloff.checks import check_count, check_ratio
from falloff.heatmaps import placed
from falloff.losses.base import kept_points
from falloff.losses.inputs import check_mask
from falloff.points import Points


def count(
    points: Points | Sequence[Points], *, mask: Bool[Tensor, "..."] | Sequence[Tensor | None] | None = None,
    stride: int | float = 1, parts: int = 1, group: distributed.ProcessGroup | None = None,
) -> Float[Tensor, ""]:
    """What a step on several processes, or in several parts, is divided by to equal one process on the whole batch.

    .. math:: n = \\frac{\\max(1, \\text{points that count})}
        {\\text{processes} \\cdot \\text{parts}}

    with the points of all batches on all processes.

    With ``loss(logits, points, normalizer=losses.count(points))`` on each process, the mean of the gradients, which
    DistributedDataParallel takes, is the gradient of the whole batch under ``normalizer="points"``. Each valid point is
    counted, whatever its weight: one outside the picture, which a compiled call leaves out, goes before, by
    ``points.inside(size)``.

    Args:
        points: of this process: one batch, or all batches whose gradients are added up before a step.
        mask: as the loss gets it, one for each batch; a point that it hides does not count.
        stride: as the loss gets it; only a mask needs it.
        parts: what each part's loss is divided by elsewhere: the number of parts where the training divides by it, as
            Lightning and accelerate do, 1 where gradients are only added.
        group: of processes; all of them by default. Without ``torch.distributed`` there is one.

    Returns:
        A number on the points' device; nothing waits for it but the other processes.

    Raises:
        TypeError: ``points`` are no :class:`~falloff.points.Points` or list of them, a mask is not bool.
        ValueError: ``parts`` is no integer above 0, there is no batch or not one mask for each, a mask does not fit, or
            a point lies outside the maps that a mask has.

    Example:
        >>> from falloff import losses
        >>> from falloff.points import Points
        >>> one, three = (Points.from_lists([([[1.0, 2.0]] * n, [0] * n)]) for n in (1, 3))
        >>> losses.count([one, three], parts=2)
        tensor(2.)
    """
    check_count("parts", parts)
    check_ratio("stride", stride)
    single = isinstance(points, Points)
    batches: list[Any] = [points] if single else list(points) if isinstance(points, Sequence) else []
    if not batches or not all(isinstance(one, Points) for one in batches):
        raise TypeError(f"points must be falloff.points.Points or a list of some, got {points!r}")
    if mask is not None and isinstance(mask, Tensor) != single:
        raise TypeError(f"mask must be {'one tensor' if single else 'a list, one for each batch'}, as points are")
    masks = [mask] if single else [None] * len(batches) if mask is None else list(mask)
    if len(masks) != len(batches):
        raise ValueError(f"mask must be one for each of the {len(batches)} batches of points, got {len(masks)}")
    total = torch.stack([_kept(*both, stride).sum() for both in zip(batches, masks, strict=True)]).sum()
    processes = 1
    if distributed.is_available() and distributed.is_initialized():
        distributed.all_reduce(total, group=group)
        processes = distributed.get_world_size(group)
    return total.clamp(min=1) / (processes * parts)


def _kept(points: Points, mask: Tensor | None, stride: int | float) -> Tensor:
    """Which points count, ``(B, N)``."""
    if mask is None:
        return points.valid
    shape = list(getattr(mask, "shape", ()))[1:] + [1] * (1 + points.xy.shape[-1])
    check_mask(mask, (len(points), *shape[: 1 + points.xy.shape[-1]]))
    classes, *size = mask.shape[1:]
    if min(size) > 1:  # an axis of length 1 says nothing of how far the maps reach
        points = placed(points, tuple(size), classes if classes > 1 else None, stride)
    return kept_points(points, mask)
