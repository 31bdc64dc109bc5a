"""One split of a labelled set, whatever it was read from or made of."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Int64, UInt8
from torch import Tensor

from falloff.heatmaps import nearest_pixel
from falloff.points import Points

SPLITS = ("train", "val", "test")  # what a run uses
KEPT = 8  # splits in memory, which runs of one process share


@dataclass(frozen=True)
class Dataset:
    """One split: images, their points, and the names of the classes.

    Args:
        name: of the set.
        split: of the set: "train", "val", "test", or another that the set has.
        images: uint8, ``(N, channels, height, width)``.
        points: of N images.
        classes: what each label is called.
        mask: True where a pixel counts, ``(N, 1, height, width)``; None where all do. Points on the others become
            padding.
        sizes: height and width in pixels of each picture, which fills the upper left of its image, ``(N, 2)``; what
            lies beside it is then False in ``mask``. None where every picture fills its image.
        swap: pairs of classes that change places in a mirror: ``((0, 1),)`` for a left and a right eye.

    Raises:
        ValueError: no image, a dtype that is not the one above, shapes that do not fit together, a point outside its
            picture, a label without a name, a pair of ``swap`` that is not two classes of its own.
    """

    name: str
    split: str
    images: UInt8[Tensor, "images channels height width"]
    points: Points
    classes: tuple[str, ...]
    mask: Bool[Tensor, "images 1 height width"] | None = None
    sizes: Int64[Tensor, "images 2"] | None = None
    swap: tuple[tuple[int, int], ...] = ()

    def __post_init__(self) -> None:
        count = len(self.images)
        self._require(self.images.dtype == torch.uint8 and self.images.ndim == 4, "images must be uint8 (N, channels, "
                      f"height, width), got {self.images.dtype} {tuple(self.images.shape)}")
        self._require(count > 0, f"split {self.split!r}: no image")
        self._require(count == len(self.points), f"{count} images, but points of {len(self.points)}")
        size = self.size
        self.points.check_inside(size, len(self.classes))
        if self.mask is not None:
            self._require(self.mask.dtype == torch.bool and self.mask.shape == (count, 1, *size), "mask must be bool "
                          f"{(count, 1, *size)}, got {self.mask.dtype} {tuple(self.mask.shape)}")
        check_swap(self.name, self.swap, len(self.classes))
        if self.sizes is not None:
            self._check_sizes(self.sizes)
            height, width = self.sizes.view(-1, 2, 1, 1, 1).unbind(1)
            inside = (torch.arange(size[0])[:, None] < height) & (torch.arange(size[1]) < width)
            object.__setattr__(self, "mask", inside if self.mask is None else inside & self.mask)
            # On the far edge of a picture, the nearest pixel of the image would be one beside the picture.
            edge = (self.sizes.flip(1)[:, None] - 0.5).to(self.points.xy)
            xy = self.points.xy.minimum(edge.nextafter(torch.zeros_like(edge)))
            object.__setattr__(self, "points", dataclasses.replace(self.points, xy=xy))
        if self.mask is not None:
            column, row = (nearest_pixel(x, n) for x, n in zip(self.points.xy.unbind(-1), size[::-1], strict=True))
            counts = self.mask[torch.arange(count)[:, None], 0, row, column]
            object.__setattr__(self, "points", self.points.where(counts))

    def _check_sizes(self, sizes: Tensor) -> None:
        self._require(sizes.shape == (len(self.images), 2), f"sizes must be ({len(self.images)}, 2), "
                      f"got {tuple(sizes.shape)}")
        for image in ((sizes < 1) | (sizes > torch.tensor(self.size))).any(1).nonzero().flatten().tolist()[:1]:
            self._require(False, f"image {image}: sizes must be (height, width) from 1 to the images' {self.size}, got "
                          f"{sizes[image].tolist()}")
        outside = ((self.points.xy > sizes.flip(1)[:, None] - 0.5).any(-1) & self.points.valid).nonzero().tolist()
        for image, point in outside[:1]:
            place = self.points.xy[image, point].tolist()
            self._require(False, f"image {image}, point {point} at {place} lies outside its picture of (height, width) "
                          f"{sizes[image].tolist()}")

    def _require(self, condition: bool, message: str) -> None:
        if not condition:
            raise ValueError(f"{self.name}: {message}")

    def head(self, count: int) -> Dataset:
        """The first ``count`` images, or all when there are fewer."""
        parts = {name: getattr(self, name) for name in ("images", "points", "mask", "sizes")}
        return dataclasses.replace(self, **{name: part[:count] for name, part in parts.items() if part is not None})

    @property
    def size(self) -> tuple[int, int]:
        """(height, width) of the images in pixels."""
        return self.images.shape[2], self.images.shape[3]


def check_swap(where: object, swap: Sequence[Sequence[int]], classes: int) -> None:
    """Raise ValueError unless pairs of classes name each class at most once."""
    there: set[int] = set()
    for pair in swap:
        if len(pair) != 2 or not {*pair} <= {*range(classes)} - there or pair[0] == pair[1]:
            raise ValueError(f"{where}: swap must be pairs of classes, integers in [0, {classes}), no class in two "
                             f"pairs; got {[*pair]} in {[*map(list, swap)]}")
        there.update(pair)
