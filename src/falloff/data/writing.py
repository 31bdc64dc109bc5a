"""Own pictures and their points, written as one file that the study reads."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from falloff import checks
from falloff.data import npz
from falloff.points import Points
from falloff.project import written

SHARES = {"train": 0.7, "val": 0.1, "test": 0.2}
Each = Sequence[Any] | np.ndarray  # something of each picture


def save(
    path: Path | str,
    *,
    images: Each,
    points: Each | Points,
    classes: Sequence[str],
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
        images: for each picture ``(height, width)`` or ``(height, width, 3)``, of any sizes, arrays or tensors: as
            :func:`falloff.data.npz.as_bytes` takes them. Smaller ones are filled up to the right and below with their
            border, which counts nowhere; grey ones among coloured ones become coloured.
        points: for each picture ``(n, 2)``, x then y in pixels, an integer being a pixel's centre; NaN for one that is
            not labelled. Or :class:`~falloff.points.Points` of all pictures, whose label and ``extra["visibility"]``
            are written; of what else they carry a warning says that it is not.
        classes: what they are called.
        labels: for each picture ``n`` classes, whole numbers. None where there is one class alone, or where point ``k``
            of each picture is of class ``k``.
        visibility: for each picture ``n`` numbers, above 0 where a point is labelled; None is 1 for all but NaN.
        split: of each picture, or which share goes to which split; a split is never empty.
        group: whom or what each picture shows; with shares, a group goes to one split as a whole.
        seed: of the draw that shares are.
        mask: for each picture ``(height, width)``, bool: True where a pixel counts.
        swap: pairs of classes that change places in a mirror.
        source_file: of each picture, for errors to name.

    Raises:
        ValueError: lengths or shapes do not fit together, fewer groups than splits, or what
            :func:`falloff.data.npz.checked` refuses.

    Example:
        >>> from falloff import data
        >>> pictures = [np.zeros((20, 30 + k), np.uint8) for k in range(10)]
        >>> cells = [[[3.0, 4.5], [12.0, 9.0]], [[25.0, 7.0]]] * 5
        >>> kinds = [[0, 1], [1]] * 5
        >>> patients = [0, 0, 1, 1, 2, 2, 3, 3, 4, 4]
        >>> path = save("cells.npz", images=pictures, points=cells, labels=kinds, classes=["round", "long"],
        ...             group=patients)
        >>> train = data.load("cells.npz", "train")
        >>> len(train.images), train.size, train.classes
        (6, (20, 39), ('round', 'long'))
    """
    path = Path(path).expanduser()
    if path.suffix != ".npz":
        raise ValueError(f"path must end in .npz, got {str(path)!r}")
    if isinstance(classes, str):
        raise TypeError(f"classes must be a list of names, got {classes!r}")
    if isinstance(points, Points):
        if twice := [name for name, each in (("labels", labels), ("visibility", visibility)) if each is not None]:
            raise ValueError(f"{' and '.join(twice)} must be None beside Points, which carry their own")
        carried = {"sigma": points.sigma, "weight": points.weight, "score": points.score, **points.extra}
        if lost := [name for name, part in carried.items() if part is not None and name != "visibility"]:
            warnings.warn(f"{path}: a set has no room for the points' {', '.join(lost)}", stacklevel=2)
        points = points.to("cpu")
        valid = points.valid.numpy()
        labels = [label[kept] for label, kept in zip(points.label.numpy(), valid, strict=True)]
        if "visibility" in points.extra:
            seen = points.extra["visibility"].numpy()
            visibility = [one[kept] for one, kept in zip(seen, valid, strict=True)]
        points = [xy[kept] for xy, kept in zip(points.xy.numpy(), valid, strict=True)]
    shares = split if isinstance(split, Mapping) else None
    of_each = {"points": points, "labels": labels, "visibility": visibility, "group": group, "mask": mask,
               "split": None if shares else split, "source_file": source_file}
    for name, each in of_each.items():
        if each is not None and (len(each) != len(images) or len(images) == 0):
            raise ValueError(f"{name} must be of as many pictures as images, and of one at least; got {len(each)} for "
                             f"{len(images)} images")
    places = [np.asarray(xy, dtype=np.float32) for xy in points]
    places = [xy if xy.size else xy.reshape(0, 2) for xy in places]
    for index, xy in enumerate(places):
        if xy.ndim != 2 or xy.shape[1] != 2:
            raise ValueError(f"points of image {index} must be (n, 2), x then y, got {xy.shape}")
    if visibility is None:
        visibility = [~np.isnan(xy).any(1) for xy in places]
    if labels is None and len(classes) > 1 and {len(xy) for xy in places} != {len(classes)}:
        raise ValueError(f"labels must say the class of each point, unless each picture has one point of each of the "
                         f"{len(classes)} classes, NaN where it is not labelled")
    groups = None if group is None else np.array([str(one) for one in group])
    arrays = _filled_up(path, [np.asarray(image) for image in images], mask) | {
        "names": np.array(list(classes)),
        "points": _padded("points", places, places, np.nan),
        "visibility": _padded("visibility", places, visibility, 0),
        "split": np.array(list(split)) if shares is None else _drawn(shares, len(images), groups, seed),
    }
    if labels is not None:
        arrays["label"] = _padded("labels", places, labels, -1)
    if swap:
        arrays["swap"] = np.array(swap)
    if groups is not None:
        arrays["group"] = groups
    if source_file is not None:
        arrays["source_file"] = np.array(list(source_file))
    stored: dict[str, Any] = npz.checked(path, arrays)
    npz.check_splits(path, stored)
    with written(path) as temporary, temporary.open("wb") as file:
        np.savez_compressed(file, **stored)
    return path


def _filled_up(path: Path, pictures: list[np.ndarray], mask: Each | None) -> dict[str, np.ndarray]:
    """The pictures and their masks as one array each, and how large each picture is where they differ."""
    for index, picture in enumerate(pictures):
        if picture.ndim not in (2, 3) or picture.shape[2:] not in ((), (1,), (3,), (4,)) or picture.size == 0:
            first = ": do the channels come first?" if picture.ndim == 3 and picture.shape[0] in (1, 3, 4) else ""
            raise ValueError(f"image {index} must be (height, width) or (height, width, 3), got {picture.shape}{first}")
    pictures = npz.as_bytes(path, [one if one.ndim == 3 else one[..., None] for one in pictures])
    channels = max(picture.shape[2] for picture in pictures)
    sizes = np.array([picture.shape[:2] for picture in pictures])
    room = [((0, below), (0, right)) for below, right in sizes.max(0) - sizes]
    filled = [np.pad(picture, (*more, (0, 0)), mode="edge") for picture, more in zip(pictures, room, strict=True)]
    arrays = {"images": np.stack([np.broadcast_to(one, (*one.shape[:2], channels)) for one in filled])}
    if (sizes != sizes[0]).any():
        arrays["size"] = sizes
    if mask is not None:
        masks = [np.asarray(one) for one in mask]
        for index, (one, size) in enumerate(zip(masks, sizes.tolist(), strict=True)):
            if one.dtype != bool or list(one.shape) != size:
                raise ValueError(f"mask of image {index} must be bool {tuple(size)}, got {one.dtype} {one.shape}")
        arrays["mask"] = np.stack([np.pad(one, more) for one, more in zip(masks, room, strict=True)])
    return arrays


def _padded(name: str, places: Sequence[np.ndarray], parts: Each, value: float) -> np.ndarray:
    """What each picture's points carry as one array, filled up to the most points."""
    most = max(len(xy) for xy in places)
    padded = np.full((len(places), most, *np.shape(parts[0])[1:]), value, dtype=np.float32)
    for index, (xy, part) in enumerate(zip(places, parts, strict=True)):
        if len(part) != len(xy):
            raise ValueError(f"image {index}: {len(xy)} points need as many {name}, got {len(part)}")
        padded[index, : len(part)] = part
    return padded


def _drawn(shares: Mapping[str, float], count: int, groups: np.ndarray | None, seed: int) -> np.ndarray:
    """A split for each picture: the groups, largest first, each to the split that lacks most."""
    for name, share in shares.items():
        checks.check_positive(f"split[{name!r}]", share)
    of_picture = np.unique(np.arange(count) if groups is None else groups, return_inverse=True)[1]
    sizes = np.bincount(of_picture)
    if len(sizes) < len(shares):
        raise ValueError(f"split: {len(shares)} splits need as many pictures, or groups of them; got {len(sizes)}")
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
