"""What the sum of a loss over pixels is divided by, as one factor for each image."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor

from falloff.checks import is_number
from falloff.losses.autograd import is_plain

NAMES = ("points", "image", "pixels", "running")
MOMENTUM = 0.9

Normalizer = str | int | float


def check_normalizer(name: str, value: Any) -> None:
    """Raise ValueError unless ``value`` is one of :data:`NAMES` or a finite number above 0."""
    if isinstance(value, str) and value in NAMES:
        return
    if not (is_number(value) and math.isfinite(value) and value > 0):
        raise ValueError(f"{name} must be one of {', '.join(NAMES)}, or a number above 0, got {value!r}")


class RunningMean:
    """The mean number of labelled points in a batch, over the batches trained on, the latest weighing most.

    After each call :math:`m \\leftarrow 0.9\\,m + 0.1\\,n`; the first call gives n itself. It moves only while
    gradients are recorded, so measuring a loss does not change it. The state stays on the device.
    """

    def __init__(self) -> None:
        self.mean: Tensor | None = None

    def __call__(self, count: Tensor) -> Tensor:
        if self.mean is None:
            mean = count.detach()
        elif torch.is_grad_enabled():
            mean = torch.lerp(count.detach(), self.mean.to(count), MOMENTUM)
        else:
            return self.mean.to(count)
        if torch.is_grad_enabled() and is_plain():
            self.mean = mean
        return mean


def shares(normalizer: Normalizer, labelled: Tensor, kept: Tensor | int, running: RunningMean) -> Tensor:
    """What each image's sum is multiplied by, ``(B,)``; defined for images and batches without points.

    Args:
        normalizer: see :class:`falloff.losses.PixelLoss`.
        labelled: number of labelled points that count in each image, floating point ``(B,)``.
        kept: number of elements of the logits, in all images together, that a mask leaves.
        running: state of "running".
    """
    divisor: Any  # a tensor or a number
    if normalizer == "image":
        return 1 / (len(labelled) * labelled.clamp(min=1))
    if normalizer == "points":
        divisor = labelled.sum().clamp(min=1)
    elif normalizer == "running":
        divisor = running(labelled.sum()).clamp(min=1)
    elif normalizer == "pixels":
        divisor = kept.to(labelled.dtype).clamp(min=1) if isinstance(kept, Tensor) else max(kept, 1)
    else:
        divisor = normalizer
    return torch.ones_like(labelled) / divisor
