"""A system: a net with what trains it and what reads it. The loop, the store and the metrics know no more of it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from falloff.heatmaps import nearest_pixel
from falloff.points import Points


@dataclass(frozen=True)
class Task:
    """What a system is made for: channels and (height, width) of the images, the number of classes, typical points.

    ``mask`` is True where a pixel of the points' images counts, ``(B, 1, height, width)``; None where all do.
    """

    channels: int
    size: tuple[int, int]
    classes: int
    points: Points
    mask: Bool[Tensor, "batch 1 height width"] | None = None


class Outputs(dict[str, Tensor]):
    """What a net puts out, by name and in order, each ``(B, ...)``, with what reading it needs beside.

    Args:
        outputs: by name.
        size: (height, width) of the images in pixels.
        near: where the system looked, if it was told.
        mask: True where a pixel of the images counts, ``(B, 1, height, width)``; None where all do, or as far as the
            system knows.
    """

    def __init__(
        self, outputs: Mapping[str, Tensor], size: tuple[int, ...], near: Points | None = None,
        mask: Bool[Tensor, "batch 1 height width"] | None = None,
    ) -> None:
        super().__init__(outputs)
        self.size, self.near, self.mask = size, near, mask

    @classmethod
    def cat(cls, parts: Sequence[Outputs]) -> Outputs:
        """Those of some batches as one, float32 on the CPU."""
        whole = {name: torch.cat([part[name].float().cpu() for part in parts]) for name in parts[0]}
        near = None if parts[0].near is None else Points.cat([part.near.to("cpu") for part in parts if part.near])
        return cls(whole, parts[0].size, near)


@dataclass(frozen=True)
class Prediction:
    """What a system says of some images.

    ``points`` have a score and are in pixels of the images. ``maps``, where the system has them, are the scores that
    they were read from, ``(B, C, h, w)`` at the maps' own resolution: one of their pixels is ``stride`` of the image's.
    """

    points: Points
    maps: Float[Tensor, "batch classes h w"] | None = None
    stride: int = 1

    def within(self, mask: Bool[Tensor, "batch 1 height width"]) -> Prediction:
        """Without the points at whose pixel of the images a mask is False."""
        column, row = (nearest_pixel(x, n) for x, n in zip(self.points.xy.unbind(-1), mask.shape[:1:-1], strict=True))
        image = torch.arange(len(mask), device=mask.device)[:, None]
        return replace(self, points=self.points.where(mask[image, 0, row, column]))


class System(nn.Module):
    """A net with what trains it and what reads it.

    A subclass's constructor takes the :class:`Task` first and then, by name, what it wants of ``net`` (a function of
    the outputs' sizes by name that builds the run's model), ``width``, ``loss`` (that of the class maps), ``head_std``
    and ``bias`` (of the last layer's first weights, with defaults), and options of its own, which have defaults.
    """

    def forward(self, images: Float[Tensor, "batch channels height width"], near: Points | None = None) -> Outputs:
        """Outputs by name.

        Args:
            images: in [-1, 1].
            near: in training the labelled points, for systems that look near a first answer.
        """
        raise NotImplementedError

    def loss(
        self, outputs: Outputs, points: Points, mask: Bool[Tensor, "batch 1 height width"] | None = None
    ) -> dict[str, Float[Tensor, ""]]:
        """Weighted terms by name, whose sum is minimised.

        Args:
            outputs: of :meth:`forward`.
            points: the labels, in pixels of the images.
            mask: True where a pixel of the images counts.
        """
        raise NotImplementedError

    def predict(self, outputs: Outputs, **decoder: Any) -> Prediction:
        """What the outputs say, by the system's decoder, whose options are its own."""
        raise NotImplementedError
