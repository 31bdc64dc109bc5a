"""What the sum of a loss over pixels is divided by, as one factor for each image."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor, nn

from falloff.checks import is_number, plain
from falloff.losses.autograd import is_readable

NAMES = ("points", "image", "pixels", "running")
MOMENTUM = 0.9

Normalizer = str | int | float | Tensor


def check_normalizer(name: str, value: Any, known: Iterable[str] = NAMES) -> None:
    """Raise ValueError unless ``value`` is one of some names or one number above 0, in a tensor or not."""
    if isinstance(value, str) and value in known:
        return
    if isinstance(value, Tensor) and value.numel() == 1 and not value.is_complex() and value.dtype != torch.bool:
        if not is_readable(value):  # looking would make an accelerator wait
            return
        value = value.item()
    if not (is_number(value) and 0 < value < math.inf):  # a compiler follows no isfinite of a number that changes
        names = f"one of {', '.join(known)}, or " if known else ""
        raise ValueError(f"{name} must be {names}a number above 0, got {value!r}")


class RunningMean(nn.Module):
    """The mean number of labelled points in a batch, over the batches trained on, the latest weighing most.

    After each call :math:`m \\leftarrow 0.9\\,m + 0.1\\,n`; the first call gives n itself. It moves only while
    gradients are recorded, so measuring a loss does not change it. The state follows the counts to their device.
    """

    mean: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("mean", torch.tensor(torch.nan))  # NaN until there was a batch

    def forward(self, count: Tensor) -> Tensor:
        count, before = count.detach(), self.mean.to(count)
        moves = torch.is_grad_enabled()
        mean = torch.where(before.isnan(), count, torch.lerp(count, before, MOMENTUM) if moves else before)
        if moves and not torch._C._are_functorch_transforms_active():
            self.mean = mean
        return mean


def shares(normalizer: Normalizer, labelled: Tensor, kept: Tensor | int, running: RunningMean | None) -> Tensor:
    """What each image's sum is multiplied by, ``(B,)``; defined for images and batches without points.

    Args:
        normalizer: see :class:`falloff.losses.PixelLoss`.
        labelled: number of labelled points that count in each image, floating point ``(B,)``.
        kept: number of elements of the logits, in all images together, that a mask leaves.
        running: state of "running".
    """
    divisor: Any  # a tensor or a number
    if isinstance(normalizer, Tensor):
        divisor = normalizer.detach().reshape(())
    elif normalizer == "image":
        return 1 / (len(labelled) * labelled.clamp(min=1))
    elif normalizer == "points":
        divisor = labelled.sum().clamp(min=1)
    elif normalizer == "running":
        assert running is not None
        divisor = running(labelled.sum()).clamp(min=1)
    elif normalizer == "pixels":
        divisor = kept.to(labelled.dtype).clamp(min=1) if isinstance(kept, Tensor) else max(kept, 1)
    else:
        divisor = plain(normalizer)
    return torch.ones_like(labelled) / divisor
