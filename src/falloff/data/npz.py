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
import os
import warnings
import zipfile
import zlib
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any, NoReturn

import numpy as np
import torch

from falloff import sets
from falloff.checks import nearest
from falloff.data.dataset import SPLITS, Dataset, check_swap
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
    splits, positions that look like missing points or like shares of the picture, a mask that leaves most points out,
    pictures that are black; and of how :func:`as_bytes` scaled the pictures.

    Raises:
        ValueError: an array is missing, or has a wrong shape, dtype or value; the message names the file, and picture
            and point as the file counts them where one is at fault.
    """
    missing = [name for name in NEEDED if name not in given]
    if "points" in missing and "boxes" in given:
        refuse(path, "it has boxes in place of points: store as points what is to be found, such as their centres")
    hints = (f"{name}{nearest(name, [other for other in given if other not in KNOWN])}" for name in missing)
    require(path, not missing, f"arrays missing: {', '.join(hints)}; present: {', '.join(given) or 'none'}")
    arrays = dict(given)
    for name in ("names", "split", "source_file"):
        if name in arrays:
            arrays[name] = text(path, name, arrays[name])
    count, size = _check_pictures(path, arrays["images"])
    points, names = arrays["points"], arrays["names"]
    require(path, points.dtype.kind in "fiu" and points.ndim == 3 and points.shape[::2] == (count, 2),
            f"points must be numbers ({count}, K, 2), x then y, got {points.dtype} {points.shape}"
            + ("; COCO's third number goes into visibility" if points.shape[2:] == (3,) else ""))
    arrays["points"] = points = points.astype(np.float32)
    for name in {"split", "source_file", "group"} & arrays.keys():
        require(path, arrays[name].shape == (count,), f"{name} must be ({count},), got {arrays[name].shape}")
    images = [image if image.ndim == 3 else image[..., None] for image in arrays["images"]]
    arrays["images"] = np.stack(as_bytes(path, images, arrays))
    check_names(path, "names", names)
    for name, shape in (("size", (count, 2)), ("swap", (None, 2))):
        if name in arrays:
            fits = arrays[name].ndim == 2 and arrays[name].shape[1] == 2 and shape[0] in (None, len(arrays[name]))
            meant = "height and width" if name == "size" else "pairs of classes by number"
            require(path, fits and arrays[name].dtype.kind in "iu", f"{name} must be integers "
                    f"({shape[0] or 'P'}, 2), {meant}, got {arrays[name].dtype} {arrays[name].shape}")
    if "swap" in arrays:
        check_swap(path, arrays["swap"].tolist(), len(names))
    if "mask" in arrays:
        mask = arrays["mask"]
        require(path, mask.dtype == bool and mask.shape == (count, *size),
                f"mask must be bool {(count, *size)}, got {mask.dtype} {mask.shape}")
    _check_sizes(path, arrays)
    arrays["visibility"] = _visibility(path, arrays)
    arrays["label"] = _labels(path, arrays)
    _check_places(path, arrays)
    for doubt in _doubts(arrays):
        _say(f"{path}: {doubt}")
    return arrays


def as_bytes(where: object, pictures: Sequence[np.ndarray], told: Mapping[str, Any] = MappingProxyType({})
             ) -> list[np.ndarray]:
    """Pictures ``(H, W, channels)`` in 256 levels, all by one rule.

    Integers up to 255 stay as they are; where one is larger, all pictures are scaled by 255 over the largest value of
    them all. Floating point in [0, 1] is multiplied by 255, as is bool. All is rounded to the nearest level. A warning
    says where that was done. The last of four channels, which says how opaque a pixel is, is left out.

    Args:
        where: the file, which errors name.
        pictures: of one dtype.
        told: ``source_file`` and ``split`` of each, where they are known, for errors to name.

    Raises:
        ValueError: several dtypes, other numbers, text, a NaN, a pixel that is not opaque; the message names
            the picture.
    """
    dtype = pictures[0].dtype
    kind = dtype.kind
    for index, picture in enumerate(pictures):
        require(where, picture.dtype == dtype and kind in "biuf",
                f"{place(told, index)} is of {picture.dtype}: images must be integers, bool or floating point, all of "
                f"one dtype{f'; image 0 is of {dtype}' * (picture.dtype != dtype)}")
    if dtype != np.uint8:
        low, high = (np.array([limit(picture) for picture in pictures]) for limit in (np.min, np.max))
        bad = ~((low >= 0) & (high <= 1)) if kind == "f" else low < 0  # NaN is bad, too
        if bad.any():
            first = int(bad.argmax())
            has = "a value NaN" if np.isnan(low[first]) else f"values from {low[first]:g} to {high[first]:g}"
            refuse(where, f"{place(told, first)} has {has}: images of {dtype} "
                   + ("must be in [0, 1], which becomes 0 to 255. " if kind == "f" else "must be at least 0. ")
                   + _likely_range(kind, low[bad], high[bad]) + _more(bad))
        largest = int(high.max()) if kind in "iu" else 1
        if largest <= 255 and kind in "iu":
            largest = 255
        elif kind != "b":
            _say(f"{where}: images of {dtype} are turned into 256 levels: a value is multiplied by 255"
                 + f" / {largest}, the largest of all pictures being {largest}" * (kind != "f"))
        pictures = [np.rint(picture.astype(np.float32) * (255 / largest)).astype(np.uint8) for picture in pictures]
    for index, picture in enumerate(pictures):
        require(where, picture.shape[-1] != 4 or bool((picture[..., 3] == 255).all()), f"{place(told, index)} has four "
                "channels and is not opaque: lay it on a ground and store the three colours")
    return [picture[..., :3] for picture in pictures]


def _likely_range(kind: str, low: np.ndarray, high: np.ndarray) -> str:
    """What most often puts values outside their range."""
    if not (np.isfinite(low).all() and np.isfinite(high).all()):
        return "Set what is NaN or infinite to a value, or leave it out by mask"
    if low.min() < 0:
        return "Was a mean taken off? Store the pictures as they were before"
    if high.max() < 2:
        return "Did a resize reach beyond white? Clip it"
    return "Divide them by 255, or store them as uint8" if high.max() <= 255 else "Divide them by the largest of all"


def _only(path: Path, arrays: Mapping[str, np.ndarray], split: str) -> Dataset:
    """One split of arrays that were checked."""
    splits = arrays["split"]
    chosen, there = splits == split, sorted(set(splits.tolist()))
    require(path, bool(chosen.any()), f"no image of split {split!r}; there are {there}{nearest(split, there)}")
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
    require(path, split not in SPLITS or bool(one.points.valid.any()),
            f"no point is labelled{' where mask is True' * (mask is not None)} in any of the {len(images)} pictures "
            f"of split {split!r}")
    return one


def _arrays(path: Path) -> dict[str, np.ndarray]:
    try:
        if not zipfile.is_zipfile(path):
            raise zipfile.BadZipFile("it is not a zip archive")
        with np.load(path, allow_pickle=False) as bundle:
            return {name: _array(path, bundle, name) for name in bundle.files}
    except (zipfile.BadZipFile, zlib.error, EOFError, OSError) as error:
        raise ValueError(f"{path} is not a whole .npz file: {error}; there are {path.stat().st_size} bytes. Was it "
                         "copied whole? falloff.data.save writes such files") from error


def _array(path: Path, bundle: np.lib.npyio.NpzFile, name: str) -> np.ndarray:
    try:
        return bundle[name] if name in KNOWN else np.empty(0)
    except ValueError as error:
        raise ValueError(f"{path}: array {name!r} cannot be read: {error}; falloff.data.save writes a file that can, "
                         "also of pictures of several sizes") from error


def text(where: object, name: str, given: object) -> np.ndarray:
    """Text, also where it was given as bytes or paths."""
    array = np.array(given, dtype=object)
    for index, one in np.ndenumerate(array):
        at = f"{name}[{', '.join(map(str, index))}]"
        require(where, isinstance(one, (str, bytes, os.PathLike)), f"{at} must be text, got {one!r}")
        try:
            array[index] = one.decode() if isinstance(one, bytes) else os.fspath(one)
        except UnicodeDecodeError as error:
            raise ValueError(f"{where}: {at} must be text, in UTF-8 where it is bytes: {error}") from error
    return array.astype(str)


def check_names(where: object, name: str, names: np.ndarray) -> None:
    """Raise ValueError unless names of classes, which ``name`` is called, are some, none empty, each once."""
    require(where, names.ndim == 1 and len(names) > 0, f"{name} must be text (C,), C from 1, got shape {names.shape}")
    for index, one in enumerate(names.tolist()):
        require(where, bool(one.strip()), f"{name} must not be empty, got {one!r} for class {index}")
        first = names.tolist().index(one)
        require(where, first == index, f"{name} must be each once, got {one!r} for classes {first} and {index}")


def _check_pictures(path: Path, images: np.ndarray) -> tuple[int, tuple[int, ...]]:
    """How many pictures there are, and of which height and width."""
    channels = images.shape[3] if images.ndim == 4 else 1
    first = images.ndim == 4 and channels not in (1, 3, 4) and images.shape[1] in (1, 3, 4)
    require(path, images.ndim in (3, 4) and channels in (1, 3, 4),
            f"images must be (N, H, W) or (N, H, W, 3), got {images.dtype} {images.shape}"
            + (": do the channels come first?" if first else ""))
    require(path, images.size > 0, f"images must hold at least one picture, got {images.shape}")
    return len(images), images.shape[1:3]


def _check_sizes(path: Path, arrays: Mapping[str, np.ndarray]) -> None:
    whole, sizes = arrays["images"].shape[1:3], arrays.get("size", np.ones((1, 2)))
    bad = ((sizes < 1) | (sizes > whole)).any(1)
    if bad.any():
        swapped = not ((sizes[:, ::-1] < 1) | (sizes[:, ::-1] > whole)).any()
        refuse(path, f"{place(arrays, int(bad.argmax()))}: size must be (height, width) from 1 to the images' "
               f"{whole}, got {sizes[bad.argmax()].tolist()}" + (": do the widths come first?" if swapped else ""))


def _visibility(path: Path, arrays: Mapping[str, np.ndarray]) -> np.ndarray:
    points = arrays["points"]
    visibility = arrays.get("visibility")
    if visibility is None:
        return (~np.isnan(points).any(-1)).astype(np.float32)
    require(path, visibility.shape == points.shape[:2] and visibility.dtype.kind in "biuf",
            f"visibility must be numbers or bool {points.shape[:2]}, got {visibility.dtype} {visibility.shape}")
    visibility = visibility.astype(np.float32)
    _refuse_points(path, arrays, np.isnan(visibility), "has visibility NaN: 0 says that a point is not labelled")
    return visibility


def _labels(path: Path, arrays: Mapping[str, np.ndarray]) -> np.ndarray:
    shape, classes = arrays["points"].shape[:2], len(arrays["names"])
    label = arrays.get("label")
    if label is None:
        require(path, classes in (1, shape[1]), f"names must be ({shape[1]},) or (1,), got ({classes},): else label "
                f"{shape} must say the class of each point")
        return np.broadcast_to(np.arange(classes, dtype=np.int64), shape)
    require(path, label.shape == shape and label.dtype.kind in "iuf",
            f"label must be whole numbers {shape}, got {label.dtype} {label.shape}"
            + "; falloff.data.save takes names, too" * (label.dtype.kind in "OSU"))
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
        width, height = limit[outside][0].tolist()
        _refuse_points(path, arrays, outside, f"at {{}} lies outside its picture of (height, width) {height, width}: x "
                       f"must be in [-0.5, {width - 0.5:g}], y in [-0.5, {height - 0.5:g}]. "
                       + _likely(points[outside], limit[outside]), points)


def _likely(places: np.ndarray, limits: np.ndarray) -> str:
    """What most often puts points outside their pictures, the first of them or all."""
    if places[0].max() < 0:
        return "A missing point has visibility 0, whatever its position"
    if (places[:, ::-1] >= -0.5).all() and (places[:, ::-1] <= limits - 0.5).all():
        return "Does y come before x?"
    if (places >= 0.5).all() and (places <= limits).all():
        return "Do the pixels count from 1, as in MATLAB, or from their edges? Take off 1, or 0.5"
    return "Was the picture resized or cropped without its points?"


def _refuse_points(
    path: Path, arrays: Mapping[str, Any], bad: np.ndarray, words: str, values: np.ndarray | None = None
) -> None:
    """Raise for the first bad point, its value put into the text."""
    if bad.any():
        image, point = np.argwhere(bad)[0].tolist()
        value = "" if values is None else values[image, point].tolist()
        refuse(path, f"{place(arrays, image, point)} {words.format(value)}{_more(bad)}")


def _more(bad: np.ndarray) -> str:
    return f" ({bad.sum() - 1} more like it)" if bad.sum() > 1 else ""


def place(told: Mapping[str, Any], image: int, point: int | None = None) -> str:
    """Where a fault is, as every error says it: picture and point as the set counts them, the picture's file and split.

    ``told`` has ``source_file`` and ``split`` of each picture, where they are known.
    """
    source = f" ({told['source_file'][image]})" if "source_file" in told else ""
    split = f" of split {str(told['split'][image])!r}" if "split" in told else ""
    return f"image {image}{source}{split}" + (f", point {point}" if point is not None else "")


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
        yield (f"{corner.sum()} labelled points lie at (0, 0), the first of {place(arrays, image, point)}: one that is "
               "missing has visibility 0")
    if arrays["images"].max() <= 1:
        yield "no value of images is above 1, of 255: were shares of white cut to whole numbers?"
    if "mask" in arrays:
        image, _ = labelled = np.nonzero(arrays["visibility"] > 0)
        column, row = np.rint(arrays["points"][labelled].T.clip(0)).astype(int)
        height, width = arrays["mask"].shape[1:]
        hidden = ~arrays["mask"][image, row.clip(max=height - 1), column.clip(max=width - 1)]
        if 2 * hidden.sum() > len(hidden):
            yield (f"{hidden.sum()} of {len(hidden)} labelled points lie where mask is False, and are left out: it "
                   "must be True where a pixel counts")
    places = arrays["points"][arrays["visibility"] > 0]
    if len(places) > 1 and places.min() >= 0 and places.max() <= 1:
        yield "all points lie in [0, 1]: they must be in pixels, not in shares of the picture"


@functools.cache
def _say(doubt: str) -> None:
    warnings.warn(doubt, stacklevel=1)


def require(where: object, condition: bool, message: str) -> None:
    """Raise ValueError, which names the file, unless a condition holds."""
    if not condition:
        refuse(where, message)


def refuse(where: object, message: str) -> NoReturn:
    """Raise ValueError, which names the file."""
    raise ValueError(f"{where}: {message}")
