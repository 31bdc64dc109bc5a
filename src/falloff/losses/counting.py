"""How many points a step has, over processes and over the parts that it accumulates."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from jaxtyping import Bool, Float
from torch import Tensor, distributed

from falloff.checks import check_count
from falloff.losses.base import kept_points
from falloff.points import Points


def count(
    points: Points | Sequence[Points], *, mask: Bool[Tensor, "..."] | Sequence[Tensor | None] | None = None,
    stride: int | float = 1, parts: int = 1, group: distributed.ProcessGroup | None = None,
) -> Float[Tensor, ""]:
    """What a step on several processes, or in several parts, is divided by to equal one process on the whole batch.

    .. math:: n = \\frac{\\max(1, \\text{points that count, in all batches and on all processes})}
        {\\text{processes} \\cdot \\text{parts}}

    With ``loss(logits, points, normalizer=losses.count(points))`` on each process, the mean of the gradients, which
    DistributedDataParallel takes, is the gradient of the whole batch under ``normalizer="points"``. Each valid point is
    counted: one outside the picture, which a compiled call leaves out, goes before, by ``points.inside(size)``.

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
        ValueError: ``parts`` is no integer above 0, or there is not one mask for each batch.

    Example:
        >>> from falloff import losses
        >>> from falloff.points import Points
        >>> one, three = (Points.from_lists([([[1.0, 2.0]] * n, [0] * n)]) for n in (1, 3))
        >>> losses.count([one, three], parts=2)
        tensor(2.)
    """
    check_count("parts", parts)
    batches = [points] if isinstance(points, Points) else list(points)
    masks = [mask] * len(batches) if mask is None or isinstance(mask, Tensor) else list(mask)
    if not batches or len(masks) != len(batches) or (isinstance(mask, Tensor) and len(batches) > 1):
        raise ValueError(f"mask must be one for each of the {len(batches)} batches of points, got {len(masks)}")
    total = torch.stack([kept_points(one if stride == 1 else one.at_stride(stride), hides).sum()
                         for one, hides in zip(batches, masks, strict=True)]).sum()
    processes = 1
    if distributed.is_available() and distributed.is_initialized():
        distributed.all_reduce(total, group=group)
        processes = distributed.get_world_size(group)
    return total.clamp(min=1) / (processes * parts)
