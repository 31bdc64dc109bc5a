"""Real labelled sets stored as ``NAME/NAME.npz``.

Arrays of such a file: ``images`` uint8 (N, H, W) or (N, H, W, 3); ``points`` float32 (N, K, 2), x then y in pixels, an
integer being a pixel's centre; ``visibility`` (N, K), 0 where a point is not labelled, and carried by the others as
``extra["visibility"]``; ``names`` (K,), or (1,) when all points are of one kind; ``split`` (N,) with "train", "val" and
"test" among its values, and any others.

It may hold, too: ``size`` (N, 2), height and width of the picture in the upper left of each image; ``mask`` bool
(N, H, W), True where a pixel counts; ``swap`` (P, 2), pairs of classes that change places in a mirror.
"""

from __future__ import annotations

import zipfile
import zlib
from pathlib import Path

import numpy as np
import torch

from falloff import sets
from falloff.data.dataset import Dataset
from falloff.points import Points

_NEEDED = ("images", "points", "visibility", "names", "split")
_OPTIONAL = ("mask", "size", "swap")


def read(name: str, split: str, size: int | None = None) -> Dataset:
    """One split of the set ``NAME/NAME.npz`` under the folder of the sets.

    Raises:
        ValueError: a size, since the pictures keep their own, or what :func:`from_file` refuses.
        FileNotFoundError: no set of that name.
    """
    if size is not None:
        raise ValueError(f"{name} is read from a file and keeps its own size: size must be None, got {size!r}")
    return from_file(sets.find(name), split)


def from_file(path: Path, split: str) -> Dataset:
    """One split of a file, with its points that are labelled; the set is called as the file is.

    Raises:
        ValueError: the file is damaged or lacks an array, an array has a wrong shape, dtype or value, no image
            belongs to the split.
    """
    arrays = _arrays(path)
    images, points, visibility, names, splits = (arrays[name] for name in _NEEDED)
    mask, size, swap = (arrays.get(name) for name in _OPTIONAL)
    count = len(images)
    _require(path, images.dtype == np.uint8 and (images.ndim == 3 or (images.ndim == 4 and images.shape[3] in (1, 3))),
             f"images must be uint8 (N, H, W) or (N, H, W, 3), got {images.dtype} {images.shape}")
    _require(path, points.dtype.kind == "f" and points.ndim == 3 and points.shape[0] == count and points.shape[2] == 2,
             f"points must be floating point ({count}, K, 2), got {points.dtype} {points.shape}")
    _require(path, visibility.shape == points.shape[:2],
             f"visibility must be {points.shape[:2]}, got {visibility.shape}")
    _require(path, splits.shape == (count,), f"split must be ({count},), got {splits.shape}")
    _require(path, names.shape in ((points.shape[1],), (1,)),
             f"names must be ({points.shape[1]},) or (1,), got {names.shape}")
    _require(path, mask is None or (mask.dtype == bool and mask.shape == images.shape[:3]),
             f"mask must be bool {images.shape[:3]}")
    _require(path, size is None or (size.dtype.kind in "iu" and size.shape == (count, 2)),
             f"size must be integers ({count}, 2), height and width")
    _require(path, swap is None or (swap.dtype.kind in "iu" and swap.ndim == 2 and swap.shape[1] == 2),
             "swap must be integers (P, 2), pairs of classes")
    chosen = splits == split
    _require(path, bool(chosen.any()), f"no image of split {split!r}; there are {sorted(set(splits.tolist()))}")
    images, points, visible = images[chosen], points[chosen], visibility[chosen] > 0
    order = np.argsort(~visible, axis=1, kind="stable")[:, : max(1, int(visible.sum(1).max()))]
    kinds = np.arange(len(names)) if len(names) > 1 else np.zeros(points.shape[1], dtype=np.int64)
    labelled = Points(
        torch.from_numpy(np.take_along_axis(points, order[..., None], axis=1).astype(np.float32)),
        torch.from_numpy(kinds[order].astype(np.int64)),
        torch.from_numpy(np.take_along_axis(visible, order, axis=1)),
        extra={"visibility": torch.from_numpy(np.take_along_axis(visibility[chosen], order, axis=1))},
    )
    tensor = torch.from_numpy(images if images.ndim == 4 else images[..., None])
    return Dataset(
        path.stem, split, tensor.permute(0, 3, 1, 2).contiguous(), labelled, tuple(names.tolist()),
        mask=None if mask is None else torch.from_numpy(mask[chosen][:, None]),
        sizes=None if size is None else torch.from_numpy(size[chosen].astype(np.int64)),
        swap=() if swap is None else tuple(map(tuple, swap.tolist())),
    )


def _arrays(path: Path) -> dict[str, np.ndarray]:
    try:
        if not zipfile.is_zipfile(path):
            raise zipfile.BadZipFile("it is not a zip archive")
        with np.load(path, allow_pickle=False) as bundle:
            missing = [name for name in _NEEDED if name not in bundle.files]
            _require(path, not missing, f"arrays missing: {', '.join(missing)}; present: {', '.join(bundle.files)}")
            there = [name for name in (*_NEEDED, *_OPTIONAL) if name in bundle.files]
            arrays = {name: _array(path, bundle, name) for name in there}
    except (zipfile.BadZipFile, zlib.error, EOFError, OSError) as error:
        raise ValueError(f"{path} is not a whole .npz file: {error}") from error
    return arrays


def _array(path: Path, bundle: np.lib.npyio.NpzFile, name: str) -> np.ndarray:
    try:
        return bundle[name]
    except ValueError as error:
        raise ValueError(f"{path}: array {name!r} cannot be read: {error}") from error


def _require(path: Path, condition: bool, message: str) -> None:
    if not condition:
        raise ValueError(f"{path}: {message}")
