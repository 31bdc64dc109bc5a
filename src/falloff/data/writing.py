"""Own pictures and their points, written as one file that the study reads."""

from __future__ import annotations

import reprlib
import warnings
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from falloff import checks, sets
from falloff.data import npz
from falloff.points import Points
from falloff.project import written

SHARES = {"train": 0.7, "val": 0.1, "test": 0.2}
MODES = ("1", "L", "I", "F", "I;16", "RGB", "RGBA")  # of PIL, in which a pixel's number says how bright it is
HINTS = {  # of so many numbers where a point has two
    3: "; COCO's third number goes into visibility: Points.from_coco reads its annotations",
    4: "; Points.from_boxes gives the centres or corners of boxes",
}
Each = Iterable[Any]  # something of each picture


def save(
    path: Path | str,
    *,
    images: Each,
    points: Each | Points,
    classes: Sequence[str | bytes],
    labels: Each | None = None,
    visibility: Each | None = None,
    split: Each | Mapping[str, float] = SHARES,
    group: Each | None = None,
    seed: int = 0,
    mask: Each | None = None,
    swap: Sequence[tuple[int, int]] = (),
    source_file: Each | None = None,
) -> Path:
    """Write a labelled set as one ``.npz`` file, checked first, whole or not at all; gives back its path.

    Args:
        path: of the file, which ends in ``.npz``; as ``NAME/NAME.npz`` under the folder that ``FALLOFF_DATA`` names it
            is found by its name, else by its path.
        images: for each picture ``(height, width)`` or ``(height, width, 3)``, red first, of any sizes: arrays, tensors
            or PIL's. Of 16 bits they are multiplied by 255 over the largest value of all pictures, and floating point
            in [0, 1] by 255; a warning says so (:func:`falloff.data.npz.as_bytes`).
            Smaller ones are filled up to the right and below with their border, which counts nowhere; grey ones among
            coloured ones become coloured.
        points: for each picture ``(n, 2)``, x then y in pixels, an integer being a pixel's centre; NaN for one that is
            not labelled. Or :class:`~falloff.points.Points` of all pictures, whose label and ``extra["visibility"]``
            are written; of what else they carry a warning says that it is not.
        classes: what they are called, each name once; bytes are UTF-8.
        labels: for each picture ``n`` classes, whole numbers from 0 or names. None where there is one class alone, or
            where point ``k`` of each picture is of class ``k``.
        visibility: for each picture ``n`` numbers, above 0 where a point is labelled; None is 1 for all but NaN.
        split: of each picture, or which share goes to which split; a split is never empty.
        group: whom or what each picture shows; with shares, a group goes to one split as a whole.
        seed: of the draw that shares are.
        mask: for each picture ``(height, width)``, bool: True where a pixel counts.
        swap: pairs of classes that change places in a mirror.
        source_file: of each picture, for errors to name.

    Raises:
        TypeError: something of each picture is no list, or path is none.
        ValueError: lengths or shapes do not fit together, fewer groups than splits, or what
            :func:`falloff.data.npz.checked` refuses; the message names file, picture and point.

    Example:
        >>> from falloff import data
        >>> pictures = [np.full((20, 30 + k), 50, np.uint8) for k in range(10)]
        >>> cells = [[[3.0, 4.5], [12.0, 9.0]], [[25.0, 7.0]]] * 5
        >>> kinds = [[0, 1], [1]] * 5
        >>> patients = [0, 0, 1, 1, 2, 2, 3, 3, 4, 4]
        >>> path = save("cells.npz", images=pictures, points=cells, labels=kinds, classes=["round", "long"],
        ...             group=patients)
        >>> train = data.load("cells.npz", "train")
        >>> len(train.images), train.size, train.classes
        (6, (20, 39), ('round', 'long'))
    """
    path = Path(sets.anywhere(path))
    if path.suffix != ".npz":
        raise ValueError(f"path must end in .npz, got {str(path)!r}")
    checks.check_whole("seed", seed, 0)
    names = npz.text(path, "classes", _listed("classes", classes, "of names"))
    npz.check_names(path, "classes", names)
    if isinstance(points, Points):
        if twice := [name for name, each in (("labels", labels), ("visibility", visibility)) if each is not None]:
            raise ValueError(f"{' and '.join(twice)} must be None beside Points, which carry their own")
        carried = {"sigma": points.sigma, "weight": points.weight, "score": points.score, **points.extra}
        if lost := [name for name, part in carried.items() if part is not None and name != "visibility"]:
            warnings.warn(f"{path}: a set has no room for the points' {', '.join(lost)}", stacklevel=2)
        points, labels, visibility = _of_points(points.to("cpu"))
    shares = split if isinstance(split, Mapping) else None
    given = {"images": images, "points": points, "labels": labels, "visibility": visibility, "group": group,
             "mask": mask, "split": split if shares is None else None, "source_file": source_file}
    of_each = {name: _listed(name, each, "with an entry for each picture" + ", or shares by name" * (name == "split"))
               for name, each in given.items() if each is not None or name in ("images", "points")}
    count = len(of_each["images"])
    npz.require(path, count > 0, "images must hold at least one picture, got none")
    for name, each in of_each.items():
        npz.require(path, len(each) == count,
                    f"{name} must have an entry for each picture, got {len(each)} for {count} images")
    told: dict[str, Any] = {
        name: npz.text(path, name, of_each[name]) for name in ("source_file", "split") if name in of_each
    }
    groups = np.array([str(one) for one in of_each["group"]]) if "group" in of_each else None
    if shares is not None:
        told["split"] = _drawn(path, shares, count, groups, seed)
    arrays = told | _filled_up(path, of_each["images"], of_each.get("mask"), told)
    arrays |= _placed(path, of_each, names.tolist(), told) | {"names": names}
    if pairs := _listed("swap", swap, "of pairs of classes"):
        arrays["swap"] = _array(path, "swap", "pairs of classes", pairs)
    if groups is not None:
        arrays["group"] = groups
    stored: dict[str, Any] = npz.checked(path, arrays)
    npz.check_splits(path, stored)
    with written(path) as temporary, temporary.open("wb") as file:
        np.savez_compressed(file, **stored)
    return path


def _of_points(points: Points) -> tuple[list[Any], list[Any], list[Any] | None]:
    """Positions, labels and, where they are known, visibilities of the valid points of each picture."""
    parts = [points.xy, points.label, points.extra.get("visibility")]
    kept = points.valid.numpy()
    xy, label, seen = (None if part is None else [one[valid] for one, valid in zip(part.numpy(), kept, strict=True)]
                       for part in parts)
    assert xy is not None and label is not None
    return xy, label, seen


def _listed(name: str, given: Any, what: str) -> list[Any]:
    if isinstance(given, (str, bytes, Mapping, set, frozenset)) or not isinstance(given, Iterable):
        raise TypeError(f"{name} must be a list {what}, got {type(given).__name__} {reprlib.repr(given)[:80]}")
    return list(given)


def _array(path: Path, place: str, name: str, given: Any, dtype: type | None = None) -> np.ndarray:
    """What is given of one picture, as numbers."""
    try:
        return np.asarray(given, dtype=dtype)
    except (TypeError, ValueError, RuntimeError) as error:  # NumPy's, and PyTorch's of a tensor that is no array
        raise ValueError(f"{path}: {place}: {name} must be numbers: {error}") from error


def _filled_up(path: Path, images: list[Any], mask: list[Any] | None, told: Mapping[str, Any]) -> dict[str, np.ndarray]:
    """The pictures and their masks as one array each, and how large each picture is where they differ."""
    pictures = []
    for index, image in enumerate(images):
        place, mode = npz.place(told, index), getattr(image, "mode", None)
        npz.require(path, not isinstance(mode, str) or mode in MODES, f"{place} has the mode {mode!r} of PIL, where "
                    f"{', '.join(MODES)} are read: image.convert('RGB')")
        picture = _array(path, place, "a picture", image)
        channels = picture.shape[2:]
        hint = ""
        if picture.ndim == 0:
            hint = f", {reprlib.repr(image)}: was it read, as by skimage.io.imread?"
        elif channels == (2,):
            hint = ": leave out the second channel, which says how opaque a pixel is"
        elif picture.ndim == 3 and picture.shape[0] in (1, 3, 4):
            hint = ": do the channels come first?"
        npz.require(path, picture.ndim in (2, 3) and channels in ((), (1,), (3,), (4,)) and picture.size > 0,
                    f"{place} must be (height, width) or (height, width, 3), got {picture.shape}{hint}")
        pictures.append(picture if channels else picture[..., None])
    pictures = npz.as_bytes(path, pictures, told)
    most = max(picture.shape[2] for picture in pictures)
    sizes = np.array([picture.shape[:2] for picture in pictures])
    room = [((0, below), (0, right)) for below, right in sizes.max(0) - sizes]
    filled = [np.pad(picture, (*more, (0, 0)), mode="edge") for picture, more in zip(pictures, room, strict=True)]
    arrays = {"images": np.stack([np.broadcast_to(one, (*one.shape[:2], most)) for one in filled])}
    if (sizes != sizes[0]).any():
        arrays["size"] = sizes
    if mask is not None:
        masks = [_array(path, npz.place(told, index), "mask", one) for index, one in enumerate(mask)]
        for index, (one, size) in enumerate(zip(masks, sizes.tolist(), strict=True)):
            npz.require(path, one.dtype == bool and list(one.shape) == size, f"{npz.place(told, index)}: mask must be "
                        f"bool {tuple(size)}, True where a pixel counts, got {one.dtype} {one.shape}")
        arrays["mask"] = np.stack([np.pad(one, more) for one, more in zip(masks, room, strict=True)])
    return arrays


def _placed(path: Path, of_each: Mapping[str, list[Any]], names: list[str], told: Mapping[str, Any]
            ) -> dict[str, np.ndarray]:
    """The points, and what is said of each, as one array each, filled up to the most points of a picture."""
    places = []
    for index, given in enumerate(of_each["points"]):
        place = npz.place(told, index)
        xy = _array(path, place, "points", given, np.float32)
        xy = xy if xy.size else xy.reshape(0, 2)
        hint = HINTS.get(xy.shape[-1] if xy.ndim == 2 else 3 * (xy.ndim == 1 and len(xy) % 3 == 0), "")
        npz.require(path, xy.ndim == 2 and xy.shape[1] == 2, f"{place}: points must be (n, 2), x then y, [] without "
                    f"any, got {xy.shape if xy.ndim else reprlib.repr(given)}{hint}")
        places.append(xy)
    for index, xy in enumerate(places):
        npz.require(path, "labels" in of_each or len(names) in (1, len(xy)), "labels must say the class of each point, "
                    f"unless each picture has one point of each of the {len(names)} classes, NaN where it is not "
                    f"labelled; {npz.place(told, index)} has {len(xy)}")
    shape = len(places), max(len(xy) for xy in places)
    arrays = {"points": np.full((*shape, 2), np.nan, np.float32), "visibility": np.zeros(shape, np.float32)}
    if "labels" in of_each:
        arrays["label"] = np.full(shape, -1, np.float32)
    for index, xy in enumerate(places):
        place, slots = npz.place(told, index), slice(len(xy))
        arrays["points"][index, slots] = xy
        arrays["visibility"][index, slots] = ~np.isnan(xy).any(1)
        for name, array in (("visibility", "visibility"), ("labels", "label")):
            if name in of_each:
                of_points = of_each[name][index]
                if name == "labels" and isinstance(of_points, Iterable):
                    of_points = [_number(path, told, index, point, one, names) for point, one in enumerate(of_points)]
                part = _array(path, place, name, of_points, np.float32)
                npz.require(path, part.shape == xy.shape[:1], f"{place}: {len(xy)} points need as many {name}, got "
                            + (f"{part.shape[0]}" if part.ndim == 1 else reprlib.repr(of_points)))
                arrays[array][index, slots] = part
    return arrays


def _number(path: Path, told: Mapping[str, Any], image: int, point: int, label: Any, names: list[str]) -> Any:
    """The number of a class that is given by its name; a number stays what it is."""
    if not isinstance(label, str):
        return label
    npz.require(path, label in names, f"{npz.place(told, image, point)} has label {label!r}, which is none of classes"
                f"{checks.nearest(label, names)}: {', '.join(names)}")
    return names.index(label)


def _drawn(
    path: Path, shares: Mapping[str, float], count: int, groups: np.ndarray | None, seed: int
) -> np.ndarray:
    """A split for each picture: the groups, largest first, each to the split that lacks most."""
    for name, share in shares.items():
        checks.check_positive(f"{path}: the share split[{name!r}]", share)
    of_picture = np.unique(np.arange(count) if groups is None else groups, return_inverse=True)[1]
    sizes = np.bincount(of_picture)
    what = "pictures" if groups is None else "groups"
    npz.require(path, len(sizes) >= len(shares) > 0, f"split must name at least one split and at most as many as there "
                f"are {what}, {len(sizes)}; got {', '.join(map(str, shares)) or 'none'}")
    order = np.random.default_rng(seed).permutation(len(sizes))
    order = order[np.argsort(-sizes[order], kind="stable")]
    lacks = {name: share / sum(shares.values()) * count for name, share in shares.items()}
    splits, empty = {}, list(shares)
    for left, one in zip(range(len(order), 0, -1), order.tolist(), strict=True):
        splits[one] = name = max(empty if left == len(empty) else shares, key=lacks.__getitem__)
        lacks[name] -= sizes[one]
        if name in empty:
            empty.remove(name)
    return np.array([splits[one] for one in of_picture.tolist()])
