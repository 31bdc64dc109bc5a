"""One split of a labelled set, whatever it was read from or made of."""

from __future__ import annotations

import dataclasses
import functools
import hashlib
from dataclasses import dataclass
from typing import Literal, get_args

from jaxtyping import UInt8
from torch import Tensor

from falloff.data import digits, npz
from falloff.points import Points

Split = Literal["train", "val", "test"]
SPLITS: tuple[Split, ...] = get_args(Split)


@dataclass(frozen=True)
class Dataset:
    """One split: images, their points, and the names of the classes.

    ``images`` is uint8, ``(N, channels, height, width)``; ``points`` holds N images.
    """

    name: str
    split: Split
    images: UInt8[Tensor, "images channels height width"]
    points: Points
    classes: tuple[str, ...]

    def __post_init__(self) -> None:
        if len(self.images) == 0:
            raise ValueError(f"{self.name}, split {self.split!r}: no image")
        if len(self.images) != len(self.points):
            raise ValueError(f"{self.name}: {len(self.images)} images, but points of {len(self.points)}")
        self.points.check_inside(self.size, len(self.classes))

    def head(self, count: int) -> Dataset:
        """The first ``count`` images, or all when there are fewer."""
        return dataclasses.replace(self, images=self.images[:count], points=self.points[:count])

    @property
    def size(self) -> tuple[int, int]:
        """(height, width) of the images in pixels."""
        return self.images.shape[2], self.images.shape[3]


def load(name: str, split: Split, size: int | None = None) -> Dataset:
    """One split of a set by name.

    Args:
        name: "digits", or the name of a set ``NAME/NAME.npz`` under the folder that ``FALLOFF_DATA`` names
            (``data/external`` by default).
        split: "train", "val" or "test".
        size: side of the made scenes in pixels, 64 by default; a set read from a file keeps its own.

    Raises:
        ValueError: an unknown split, a size that the set cannot have, a file that is not as it must be.
        FileNotFoundError: no set of that name.
    """
    if split not in SPLITS:
        raise ValueError(f"split must be one of {', '.join(SPLITS)}, got {split!r}")
    if name != "digits" and size is not None:
        raise ValueError(f"{name} is read from a file and keeps its own size: size must be None, got {size!r}")
    return _load(name, split, digits.SIZE if size is None else size, digest(name))


@functools.lru_cache(maxsize=8)  # runs of one process share the images
def _load(name: str, split: Split, size: int, content: str) -> Dataset:
    if name == "digits":
        return Dataset(name, split, *digits.scenes(split, digits.COUNTS[split], size=size), digits.CLASSES)
    return Dataset(name, split, *npz.read(npz.find(name), split))


def digest(name: str) -> str:
    """What identifies a set's content: of a file the SHA-256 of its bytes, of made scenes "made".

    Scenes are determined by the code that makes them, which a run's identity holds already.
    """
    if name == "digits":
        return "made"
    path = npz.find(name)
    state = path.stat()
    return _digest(str(path), state.st_size, state.st_mtime_ns)


@functools.lru_cache(maxsize=32)
def _digest(path: str, size: int, changed: int) -> str:
    with open(path, "rb") as file:  # noqa: PTH123
        return hashlib.file_digest(file, "sha256").hexdigest()
