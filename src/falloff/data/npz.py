"""Real labelled sets stored as ``NAME/NAME.npz``.

Arrays of such a file: ``images`` uint8 (N, H, W) or (N, H, W, 3); ``points`` float32 (N, K, 2), x then y in pixels, an
integer being a pixel's centre; ``visibility`` (N, K), 0 where a point is not labelled; ``names`` (K,), or (1,) when all
points are of one kind; ``split`` (N,) with "train", "val" and "test" among its values.
"""

from __future__ import annotations

import os
import zipfile
import zlib
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from falloff.points import Points

_NEEDED = ("images", "points", "visibility", "names", "split")


def root() -> Path:
    """The folder of the sets: ``FALLOFF_DATA``, or ``data/external`` of the project."""
    default = Path(__file__).resolve().parents[3] / "data" / "external"
    return Path(os.environ.get("FALLOFF_DATA") or default)


def available() -> list[str]:
    """Names of the sets that are there."""
    return sorted(path.parent.name for path in root().glob("*/*.npz") if path.stem == path.parent.name)


def find(name: str) -> Path:
    """The file of a set.

    Raises:
        FileNotFoundError: there is none; the message says where it was looked for and what is there.
    """
    path = root() / name / f"{name}.npz"
    if Path(name).name != name or not path.is_file():
        there = ", ".join(["digits", *available()])
        raise FileNotFoundError(
            f"no data set {name!r}: {path} does not exist. Known here: {there}. FALLOFF_DATA names the folder that "
            f"holds real sets."
        )
    return path


def read(path: Path, split: str) -> tuple[Tensor, Points, tuple[str, ...]]:
    """Images (uint8, channels first), points and class names of one split; unlabelled points are left out.

    Raises:
        ValueError: the file is damaged or lacks an array, an array has a wrong shape, dtype or value, no image
            belongs to the split.
    """
    arrays = _arrays(path)
    images, points, visibility = arrays["images"], arrays["points"], arrays["visibility"]
    names, splits = arrays["names"], arrays["split"]
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
    chosen = splits == split
    _require(path, bool(chosen.any()), f"no image of split {split!r}; there are {sorted(set(splits.tolist()))}")
    images, points, visible = images[chosen], points[chosen], visibility[chosen] > 0
    order = np.argsort(~visible, axis=1, kind="stable")[:, : max(1, int(visible.sum(1).max()))]
    kinds = np.arange(len(names)) if len(names) > 1 else np.zeros(points.shape[1], dtype=np.int64)
    labelled = Points(
        torch.from_numpy(np.take_along_axis(points, order[..., None], axis=1).astype(np.float32)),
        torch.from_numpy(kinds[order].astype(np.int64)),
        torch.from_numpy(np.take_along_axis(visible, order, axis=1)),
    )
    tensor = torch.from_numpy(images if images.ndim == 4 else images[..., None])
    return tensor.permute(0, 3, 1, 2).contiguous(), labelled, tuple(names.tolist())


def _arrays(path: Path) -> dict[str, np.ndarray]:
    try:
        if not zipfile.is_zipfile(path):
            raise zipfile.BadZipFile("it is not a zip archive")
        with np.load(path, allow_pickle=False) as bundle:
            missing = [name for name in _NEEDED if name not in bundle.files]
            _require(path, not missing, f"arrays missing: {', '.join(missing)}; present: {', '.join(bundle.files)}")
            arrays = {name: _array(path, bundle, name) for name in _NEEDED}
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
