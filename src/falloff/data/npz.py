"""Real labelled sets, each stored in one ``.npz`` file: what such a file holds, and what is wrong with one.

:func:`falloff.data.save` writes such files. Arrays of ``N`` pictures with up to ``K`` points in each:

- ``images``: ``(N, H, W)``, ``(N, H, W, 1)`` or ``(N, H, W, 3)``, as :func:`as_bytes` takes them; a fourth channel that
  hides nothing is left out.
- ``points``: numbers ``(N, K, 2)``, x then y in pixels, an integer being a pixel's centre.
- ``names``: text ``(C,)``, what the classes are called, each once.
- ``split``: text ``(N,)`` with "train", "val" and "test" among its values, and any others.

and, where they are there:

- ``visibility``: numbers or bool ``(N, K)``, above 0 where a point is labelled; without it, those are that are not NaN.
  Carried by the points as ``extra["visibility"]``.
- ``label``: the class of each point, whole numbers ``(N, K)`` in ``[0, C)`` where labelled. Without it ``C`` is ``K``,
  and point ``k`` of each picture is of class ``k``, or ``C`` is 1.
- ``size``: integers ``(N, 2)``, height and width of the picture in the upper left of each image; what lies beside it
  does not count.
- ``mask``: bool ``(N, H, W)``, True where a pixel counts.
- ``swap``: integers ``(P, 2)``, pairs of classes that change places in a mirror.
- ``group``: ``(N,)``, whom or what a picture shows; a group should lie in one split alone.
- ``source_file``: text ``(N,)``, which errors name. ``scale`` is kept for people.
"""

from __future__ import annotations

import functools
import warnings
import zipfile
import zlib
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from falloff import sets
from falloff.checks import nearest
from falloff.data.dataset import SPLITS, Dataset
from falloff.points import Points

NEEDED = ("images", "points", "names", "split")
KNOWN = (*NEEDED, "visibility", "label", "size", "mask", "swap", "group", "source_file", "scale")


def read(name: str, split: str, size: int | None = None) -> Dataset:
    """One split of a stored set, by the set's name or a path to its file.

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
        ValueError: what :func:`checked` refuses in any split; no picture belongs to this split, or none of a split that
            runs use has a label.
    """
    return _only(path, checked(path, _arrays(path)), split)


def check(path: Path) -> None:
    """Raise what :func:`from_file` would, for each of the splits that runs use."""
    check_splits(path, checked(path, _arrays(path)))


def check_splits(path: Path, arrays: Mapping[str, np.ndarray]) -> None:
    """Raise ValueError unless arrays of :func:`checked` have pictures and labels in each split that runs use."""
    for split in SPLITS:
        _only(path, arrays, split)


def checked(path: Path, given: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """The arrays of a set in the form in which they are read, ``visibility`` and ``label`` in any case.

    Warns, once a process, of what is likely meant otherwise: an array that nothing reads, a group that lies in several
    splits, positions that look like missing points or like shares of the picture.

    Raises:
        ValueError: an array is missing, or has a wrong shape, dtype or value; the message names the file, and picture
            and point as the file counts them where one is at fault.
    """
    missing = [name for name in NEEDED if name not in given]
    if "points" in missing and "boxes" in given:
        _refuse(path, "it has boxes in place of points: store as points what is to be found, such as their centres")
    hints = (f"{name}{nearest(name, [other for other in given if other not in KNOWN])}" for name in missing)
    _require(path, not missing, f"arrays missing: {', '.join(hints)}; present: {', '.join(given)}")
    arrays = dict(given)
    for name in ("names", "split", "source_file"):
        if name in arrays:
            arrays[name] = _text(path, name, arrays[name])
    images = arrays["images"] = _pictures(path, arrays["images"])
    count, size = len(images), images.shape[1:3]
    points, names = arrays["points"], arrays["names"]
    _require(path, points.dtype.kind in "fiu" and points.ndim == 3 and points.shape[::2] == (count, 2),
             f"points must be numbers ({count}, K, 2), x then y, got {points.dtype} {points.shape}"
             + ("; COCO's third number goes into visibility" if points.shape[2:] == (3,) else ""))
    arrays["points"] = points = points.astype(np.float32)
    for name in {"split", "source_file", "group"} & arrays.keys():
        _require(path, arrays[name].shape == (count,), f"{name} must be ({count},), got {arrays[name].shape}")
    twice = [name for name in names.tolist() if names.tolist().count(name) > 1 or not name.strip()]
    _require(path, names.ndim == 1 and len(names) > 0 and not twice,
             f"names must be text (C,), none empty and each once, got {names.tolist()}")
    for name, shape in (("size", (count, 2)), ("swap", (None, 2))):
        if name in arrays:
            fits = arrays[name].ndim == 2 and arrays[name].shape[1] == 2 and shape[0] in (None, len(arrays[name]))
            meant = "height and width" if name == "size" else "pairs of classes"
            _require(path, fits and arrays[name].dtype.kind in "iu", f"{name} must be integers "
                     f"({shape[0] or 'P'}, 2), {meant}, got {arrays[name].dtype} {arrays[name].shape}")
    if "mask" in arrays:
        mask = arrays["mask"]
        _require(path, mask.dtype == bool and mask.shape == (count, *size),
                 f"mask must be bool {(count, *size)}, got {mask.dtype} {mask.shape}")
    _check_sizes(path, arrays)
    arrays["visibility"] = _visibility(path, arrays)
    arrays["label"] = _labels(path, arrays)
    _check_places(path, arrays)
    for doubt in _doubts(arrays):
        _say(f"{path}: {doubt}")
    return arrays


def as_bytes(where: object, pictures: Sequence[np.ndarray]) -> list[np.ndarray]:
    """Pictures in 256 levels, all by one rule.

    Integers up to 255 stay as they are; where one is larger, all are scaled so that the largest becomes 255. Floating
    point in [0, 1] is multiplied by 255, as is bool. All is rounded to the nearest level. The last of four channels,
    which says how opaque a pixel is, is left out.

    Raises:
        ValueError: several dtypes, other numbers, text, a NaN, a pixel that is not opaque.
    """
    dtypes = sorted({str(picture.dtype) for picture in pictures})
    kind = pictures[0].dtype.kind
    if len(dtypes) > 1 or kind not in "biuf":
        _refuse(where, f"images must all be of one dtype, integers, bool or floating point, got {', '.join(dtypes)}")
    if kind == "u" and pictures[0].itemsize == 1:
        return [_opaque(where, picture) for picture in pictures]
    low, high = min(picture.min() for picture in pictures), max(picture.max() for picture in pictures)
    fits = bool(low >= 0 and (high <= 1 or kind != "f"))  # and not NaN
    _require(where, fits, f"images of {dtypes[0]} must be {'in [0, 1]' if kind == 'f' else 'at least 0'}, got {low} to "
             f"{high}: scale them, or store uint8")
    factor = 255 if kind in "bf" else 255 / max(int(high), 255)
    return [_opaque(where, np.rint(picture.astype(np.float32) * factor).astype(np.uint8)) for picture in pictures]


def _opaque(where: object, picture: np.ndarray) -> np.ndarray:
    if picture.shape[-1] == 4:
        _require(where, bool((picture[..., 3] == 255).all()),
                 "images of four channels must be opaque: lay them on a ground and store the three colours")
        return picture[..., :3]
    return picture


def _only(path: Path, arrays: Mapping[str, np.ndarray], split: str) -> Dataset:
    """One split of arrays that were checked."""
    splits = arrays["split"]
    chosen, there = splits == split, sorted(set(splits.tolist()))
    _require(path, bool(chosen.any()), f"no image of split {split!r}; there are {there}{nearest(split, there)}")
    images, points, visibility, label = (arrays[name][chosen] for name in ("images", "points", "visibility", "label"))
    visible = visibility > 0
    order = np.argsort(~visible, axis=1, kind="stable")[:, : max(1, int(visible.sum(1).max()))]
    labelled = Points(
        torch.from_numpy(np.take_along_axis(points, order[..., None], axis=1)),
        torch.from_numpy(np.take_along_axis(label, order, axis=1)),
        torch.from_numpy(np.take_along_axis(visible, order, axis=1)),
        extra={"visibility": torch.from_numpy(np.take_along_axis(visibility, order, axis=1))},
    )
    mask, size = (arrays[name][chosen] if name in arrays else None for name in ("mask", "size"))
    one = Dataset(
        path.stem, split, torch.from_numpy(images).permute(0, 3, 1, 2).contiguous(), labelled,
        tuple(arrays["names"].tolist()),
        mask=None if mask is None else torch.from_numpy(mask[:, None]),
        sizes=None if size is None else torch.from_numpy(size.astype(np.int64)),
        swap=tuple(map(tuple, arrays["swap"].tolist())) if "swap" in arrays else (),
    )
    _require(path, split not in SPLITS or bool(one.points.valid.any()),
             f"no point is labelled in any of the {len(images)} pictures of split {split!r}")
    return one


def _arrays(path: Path) -> dict[str, np.ndarray]:
    try:
        if not zipfile.is_zipfile(path):
            raise zipfile.BadZipFile("it is not a zip archive")
        with np.load(path, allow_pickle=False) as bundle:
            return {name: _array(path, bundle, name) for name in bundle.files}
    except (zipfile.BadZipFile, zlib.error, EOFError, OSError) as error:
        raise ValueError(f"{path} is not a whole .npz file: {error}") from error


def _array(path: Path, bundle: np.lib.npyio.NpzFile, name: str) -> np.ndarray:
    try:
        return bundle[name] if name in KNOWN else np.empty(0)
    except ValueError as error:
        raise ValueError(f"{path}: array {name!r} cannot be read: {error}; falloff.data.save writes a file that can, "
                         "also of pictures of several sizes") from error


def _text(path: Path, name: str, array: np.ndarray) -> np.ndarray:
    """Text, also where it was stored as bytes."""
    try:
        array = np.char.decode(array, "utf-8") if array.dtype.kind == "S" else array
    except UnicodeDecodeError as error:
        raise ValueError(f"{path}: {name} must be text, in UTF-8 where it is bytes: {error}") from error
    _require(path, array.dtype.kind == "U", f"{name} must be text, got {array.dtype} {array.shape}")
    return array


def _pictures(path: Path, images: np.ndarray) -> np.ndarray:
    """``(N, H, W, 1)`` or ``(N, H, W, 3)`` in 256 levels."""
    channels = images.shape[3] if images.ndim == 4 else 1
    first = images.ndim == 4 and channels not in (1, 3, 4) and images.shape[1] in (1, 3, 4)
    _require(path, images.ndim in (3, 4) and channels in (1, 3, 4),
             f"images must be (N, H, W) or (N, H, W, 3), got {images.dtype} {images.shape}"
             + (": do the channels come first?" if first else ""))
    _require(path, images.size > 0, f"images must hold at least one picture, got {images.shape}")
    [images] = as_bytes(path, [images if images.ndim == 4 else images[..., None]])
    return images


def _check_sizes(path: Path, arrays: Mapping[str, np.ndarray]) -> None:
    whole, sizes = arrays["images"].shape[1:3], arrays.get("size", np.ones((1, 2)))
    bad = ((sizes < 1) | (sizes > whole)).any(1)
    if bad.any():
        swapped = not ((sizes[:, ::-1] < 1) | (sizes[:, ::-1] > whole)).any()
        _refuse(path, f"{_picture(arrays, int(bad.argmax()))}: size must be (height, width) from 1 to the images' "
                f"{whole}, got {sizes[bad.argmax()].tolist()}" + (": do the widths come first?" if swapped else ""))


def _visibility(path: Path, arrays: Mapping[str, np.ndarray]) -> np.ndarray:
    points = arrays["points"]
    visibility = arrays.get("visibility")
    if visibility is None:
        return (~np.isnan(points).any(-1)).astype(np.float32)
    _require(path, visibility.shape == points.shape[:2] and visibility.dtype.kind in "biuf",
             f"visibility must be numbers or bool {points.shape[:2]}, got {visibility.dtype} {visibility.shape}")
    visibility = visibility.astype(np.float32)
    _refuse_points(path, arrays, np.isnan(visibility), "has visibility NaN: 0 says that a point is not labelled")
    return visibility


def _labels(path: Path, arrays: Mapping[str, np.ndarray]) -> np.ndarray:
    shape, classes = arrays["points"].shape[:2], len(arrays["names"])
    label = arrays.get("label")
    if label is None:
        _require(path, classes in (1, shape[1]), f"names must be ({shape[1]},) or (1,), got ({classes},): else label "
                 f"{shape} must say the class of each point")
        return np.broadcast_to(np.arange(classes, dtype=np.int64), shape)
    _require(path, label.shape == shape and label.dtype.kind in "iuf",
             f"label must be whole numbers {shape}, got {label.dtype} {label.shape}")
    visible = arrays["visibility"] > 0
    there = np.where(visible, label, 0)
    bad = ~((there >= 0) & (there < classes) & (there == np.floor(there)))
    hint = ": do they count from 1?" if bad.any() and there[visible].min() >= 1 else ""
    _refuse_points(path, arrays, bad, f"has label {{}}, which must be a whole number in [0, {classes}), as there are "
                   f"{classes} names{hint}", label)
    return there.astype(np.int64)


def _check_places(path: Path, arrays: Mapping[str, np.ndarray]) -> None:
    points, visible = arrays["points"], arrays["visibility"] > 0
    _refuse_points(path, arrays, visible & ~np.isfinite(points).all(-1), "is labelled, but at {}: visibility must be 0 "
                   "where there is no position", points)
    sizes = arrays.get("size", np.array([arrays["images"].shape[1:3]]))
    limit = np.broadcast_to(sizes[:, None, ::-1], points.shape)
    outside = visible & ((points < -0.5) | (points > limit - 0.5)).any(-1)
    if outside.any():
        first = tuple(np.argwhere(outside)[0])
        width, height = limit[first].tolist()
        _refuse_points(path, arrays, outside, f"at {{}} lies outside its picture of (height, width) {height, width}: x "
                       f"must be in [-0.5, {width - 0.5:g}], y in [-0.5, {height - 0.5:g}]. "
                       + _likely(points[first], limit[first]), points)


def _likely(place: np.ndarray, limit: np.ndarray) -> str:
    """What most often puts a point outside its picture."""
    if place.max() < 0:
        return "A missing point has visibility 0, whatever its position"
    if (place[::-1] >= -0.5).all() and (place[::-1] <= limit - 0.5).all():
        return "Does y come before x?"
    if (place >= 0.5).all() and (place <= limit).all():
        return "Do the pixels count from 1, as in MATLAB, or from their edges? Take off 1, or 0.5"
    return "Was the picture resized or cropped without its points?"


def _refuse_points(
    path: Path, arrays: Mapping[str, Any], bad: np.ndarray, text: str, values: np.ndarray | None = None
) -> None:
    """Raise for the first bad point, its value put into the text."""
    if bad.any():
        image, point = np.argwhere(bad)[0].tolist()
        value = "" if values is None else values[image, point].tolist()
        more = f" ({bad.sum() - 1} more like it)" if bad.sum() > 1 else ""
        _refuse(path, f"{_picture(arrays, image)}, point {point} {text.format(value)}{more}")


def _picture(arrays: Mapping[str, np.ndarray], image: int) -> str:
    """Which picture, as the file counts them."""
    source = f" ({arrays['source_file'][image]})" if "source_file" in arrays else ""
    return f"image {image}{source} of split {str(arrays['split'][image])!r}"


def _doubts(arrays: Mapping[str, np.ndarray]) -> Iterable[str]:
    """What is likely meant otherwise, in words."""
    if unread := [f"{name!r}{nearest(name, KNOWN)}" for name in arrays if name not in KNOWN]:
        yield f"nothing reads the array {', '.join(unread)}; read are {', '.join(KNOWN)}"
    pairs = sorted({*zip(arrays.get("group", arrays["split"]).tolist(), arrays["split"].tolist(), strict=True)})
    groups = Counter(group for group, _ in pairs)
    if several := [group for group, splits in groups.items() if splits > 1]:
        there = ", ".join(split for group, split in pairs if group == several[0])
        yield (f"{len(several)} of {len(groups)} groups lie in several splits, the first, {several[0]!r}, in {there}: "
               "what a net learns of it in one split helps it in the others")
    corner = (arrays["visibility"] > 0) & (arrays["points"] == 0).all(-1)
    if corner.any():
        image, point = np.argwhere(corner)[0].tolist()
        yield (f"{corner.sum()} labelled points lie at (0, 0), such as point {point} of {_picture(arrays, image)}: one "
               "that is missing has visibility 0")
    places = arrays["points"][arrays["visibility"] > 0]
    if len(places) > 1 and places.min() >= 0 and places.max() <= 1:
        yield "all points lie in [0, 1]: they must be in pixels, not in shares of the picture"


@functools.cache
def _say(doubt: str) -> None:
    warnings.warn(doubt, stacklevel=1)


def _require(where: object, condition: bool, message: str) -> None:
    if not condition:
        _refuse(where, message)


def _refuse(where: object, message: str) -> None:
    raise ValueError(f"{where}: {message}")
