"""Labelled points of a batch of images, the one type that flows through the library."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import torch
from jaxtyping import Bool, Float, Int64
from torch import Tensor


@dataclass(frozen=True, eq=False)
class Points:
    """Labelled points of a batch of images, padded to the same number ``N`` per image.

    A coordinate that is an integer is the centre of a pixel, so a picture of width ``W`` reaches from -0.5 to
    ``W - 0.5``, both ends included.

    Args:
        xy: positions in pixels, x to the right, then y down; floating point, ``(B, N, 2)``.
        label: class of each point, ``int64``, ``(B, N)``, not negative.
        valid: ``bool``, ``(B, N)``; False on padding, whose ``xy`` and ``label`` are then set to 0.
        score: how sure a decoder is of each point, floating point, ``(B, N)``; None for labels made by people.

    Raises:
        TypeError: an argument is not a tensor or its dtype is not the one above.
        ValueError: a shape is wrong, or a valid point has a NaN or infinite position, a negative label or a NaN score.

    Checks that must read values run once, here, and leave their result in ``extent``; a loss then compares
    Python numbers and never waits for the device.
    """

    xy: Float[Tensor, "batch points 2"]
    label: Int64[Tensor, "batch points"]
    valid: Bool[Tensor, "batch points"]
    score: Float[Tensor, "batch points"] | None = None
    extent: Extent | None = field(default=None, repr=False)

    def __post_init__(self) -> None:
        self._check_types()
        if self.extent is not None:  # a part or a copy of points that were checked before
            return
        valid = self.valid
        checked_xy = torch.where(valid[..., None], self.xy, 0.0)
        _refuse_where(~torch.isfinite(checked_xy).all(-1), self.xy, "xy must be finite where valid")
        checked_label = torch.where(valid, self.label, 0)
        _refuse_where(checked_label < 0, self.label, "label must not be negative")
        if self.score is not None:
            _refuse_where(torch.isnan(self.score) & valid, self.score, "score must not be NaN where valid")
        object.__setattr__(self, "xy", checked_xy)
        object.__setattr__(self, "label", checked_label)
        object.__setattr__(self, "extent", Extent.of(checked_xy, checked_label, valid))

    def _check_types(self) -> None:
        tensors = {"xy": self.xy, "label": self.label, "valid": self.valid}
        if self.score is not None:
            tensors["score"] = self.score
        for name, value in tensors.items():
            if not isinstance(value, Tensor):
                raise TypeError(f"{name} must be a torch.Tensor, got {type(value).__name__}")
        if not self.xy.is_floating_point():
            raise TypeError(f"xy must be floating point, got {self.xy.dtype}")
        if self.xy.ndim != 3 or self.xy.shape[-1] != 2:
            raise ValueError(f"xy must have shape (batch, points, 2), got {tuple(self.xy.shape)}")
        if self.label.dtype != torch.int64:
            raise TypeError(f"label must be int64, got {self.label.dtype}")
        if self.valid.dtype != torch.bool:
            raise TypeError(f"valid must be bool, got {self.valid.dtype}")
        if self.score is not None and not self.score.is_floating_point():
            raise TypeError(f"score must be floating point, got {self.score.dtype}")
        for name, value in tensors.items():
            if name != "xy" and value.shape != self.xy.shape[:2]:
                raise ValueError(
                    f"{name} must have the shape {tuple(self.xy.shape[:2])} of xy's first two axes, "
                    f"got {tuple(value.shape)}"
                )
            if value.device != self.xy.device:
                raise ValueError(f"{name} is on {value.device}, xy on {self.xy.device}: one device is needed")

    @classmethod
    def from_lists(cls, images: Sequence[Sequence], *, device: torch.device | str | None = None) -> Points:
        """Points of a batch from one ``(xy, label)`` pair per image, of any lengths, padded to the longest.

        Args:
            images: for each image ``(xy, label)`` or ``(xy, label, score)``: ``(n, 2)`` positions in pixels,
                ``n`` classes and, when given, ``n`` scores; lists, arrays or tensors. ``n`` may be 0.
            device: where the tensors go; the CPU by default.

        Raises:
            ValueError: there is no image, or an image's entries do not fit together.
        """
        if len(images) == 0:
            raise ValueError("images must hold at least one (xy, label) pair, got none")
        lengths = {len(image) for image in images}
        if not lengths <= {2, 3} or len(lengths) > 1:
            raise ValueError(f"every image must be (xy, label), or every one (xy, label, score); got {lengths}")
        parts = []
        for index, image in enumerate(images):
            xy = torch.as_tensor(image[0], dtype=torch.float32)
            xy = xy.reshape(0, 2) if xy.numel() == 0 else xy
            label = torch.as_tensor(image[1])
            if label.numel() and (label.is_floating_point() or label.dtype == torch.bool):
                raise TypeError(f"image {index}: label must hold integers, got {label.dtype}")
            label = label.to(torch.int64)
            score = torch.as_tensor(image[2], dtype=torch.float32) if len(image) == 3 else None
            if xy.ndim != 2 or xy.shape[1] != 2:
                raise ValueError(f"image {index}: xy must have shape (n, 2), got {tuple(xy.shape)}")
            if label.shape != xy.shape[:1] or (score is not None and score.shape != xy.shape[:1]):
                raise ValueError(f"image {index}: {len(xy)} positions need as many labels (and scores)")
            parts.append((xy, label, score))
        count = max(len(xy) for xy, _, _ in parts)
        xy = torch.zeros(len(parts), count, 2)
        label = torch.zeros(len(parts), count, dtype=torch.int64)
        valid = torch.zeros(len(parts), count, dtype=torch.bool)
        scores = torch.zeros(len(parts), count) if lengths == {3} else None
        for row, (part_xy, part_label, part_score) in enumerate(parts):
            n = len(part_xy)
            xy[row, :n], label[row, :n], valid[row, :n] = part_xy, part_label, True
            if scores is not None:
                scores[row, :n] = part_score
        return cls(xy, label, valid, scores).to(device or "cpu")

    def __len__(self) -> int:
        """Number of images."""
        return self.xy.shape[0]

    def __getitem__(self, images: slice | Tensor) -> Points:
        """The points of some images: a slice, or a tensor of indices."""
        if isinstance(images, int):
            raise TypeError("images must be a slice or a tensor of indices; one image i is points[i:i + 1]")
        score = None if self.score is None else self.score[images]
        return Points(self.xy[images], self.label[images], self.valid[images], score, self.extent)

    def to(self, device: torch.device | str) -> Points:
        """The same points on another device."""
        score = None if self.score is None else self.score.to(device)
        moved = (part.to(device, non_blocking=True) for part in (self.xy, self.label, self.valid))
        return Points(*moved, score, self.extent)

    def above(self, threshold: float) -> Points:
        """The points whose score is at least ``threshold``; the others become padding."""
        if self.score is None:
            raise ValueError("these points carry no score to compare with a threshold")
        return Points(self.xy, self.label, self.valid & (self.score >= threshold), self.score, self.extent)

    def check_inside(self, size: tuple[int, int], classes: int) -> None:
        """Raise ValueError unless every point lies in a picture of ``size`` with a label in ``[0, classes)``.

        Compares the extent that construction recorded, so it costs no pass over the points.
        """
        height, width = size
        extent = self.extent
        for name, low, high, length in (("x", extent.left, extent.right, width),
                                        ("y", extent.top, extent.bottom, height)):
            if low < -0.5 or high > length - 0.5:
                raise ValueError(
                    f"a point lies outside the picture: {name} reaches from {low:g} to {high:g}, "
                    f"allowed is -0.5 to {length - 0.5:g}"
                )
        if extent.label >= classes:
            raise ValueError(f"label {extent.label} is not in [0, {classes}): there are {classes} classes")


@dataclass(frozen=True)
class Extent:
    """What the valid points of a batch reach to: positions in pixels and the largest label (-1 for no point)."""

    left: float
    top: float
    right: float
    bottom: float
    label: int

    @classmethod
    def of(cls, xy: Tensor, label: Tensor, valid: Tensor) -> Extent:
        """The extent of some points; reads values, so it waits for a device that holds them."""
        if not bool(valid.any()):
            return cls(0.0, 0.0, 0.0, 0.0, -1)
        xy, label = xy[valid], label[valid]
        return cls(*xy.amin(0).tolist(), *xy.amax(0).tolist(), int(label.max()))


def _refuse_where(bad: Tensor, value: Tensor, message: str) -> None:
    if bool(bad.any()):
        image, point = bad.nonzero()[0].tolist()
        raise ValueError(f"{message}: image {image}, point {point} has {value[image, point].tolist()}")
