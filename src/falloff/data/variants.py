"""Scenes of digits that answer questions about labels: denser or sparser, moved, missing, spread over a disc, in pairs.

A variant is named as a call, such as ``digits(points=12, size=128)`` or ``digits(jitter=1.5)``. What is wrong with
labels, or spreads them over a disc, concerns those of the training scenes alone: what is measured is measured against
the true centres. ``ink`` and ``pair`` say what is looked for, in all splits.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Callable
from dataclasses import dataclass, fields, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from falloff import checks, sets
from falloff.data import digits
from falloff.data.dataset import Dataset
from falloff.data.slots import without_gaps
from falloff.points import Points

SIZE = digits.SIZE
SEED = 20261126  # of what is done to labels
PART = 256  # scenes whose pixels are listed at a time, so that memory holds little beside what is listed
INK = ("ink",)  # the class of a pixel of ink

# The largest value of some options, and what is allowed of them in words.
_LIMITS = {"missing": (math.nextafter(1.0, 0.0), "in [0, 1)"), "ink": (1.0, "in [0, 1]")}
_NO_LIMIT = (sys.float_info.max, "a finite number, at least 0")
_OF_CENTRES = ("disc", "jitter", "missing", "ignore", "pair")  # what says something of centres, which ink has none of


@dataclass(frozen=True)
class Variant:
    """What is other than in plain scenes.

    Args:
        points: digits in each scene; 0 is 1 to 6.
        apart: the least distance between two centres in pixels; 0 is that of plain scenes.
        size: side of the scenes in pixels; 0 is the run's.
        within: side in pixels of the middle square that holds all digits; 0 is the whole scene.
        disc: radius in pixels of the disc around each centre every pixel of which is a labelled point; 0 labels the
            centre alone.
        jitter: by how many pixels each label is moved, in a random direction.
        missing: share of the points that are not labelled.
        ignore: radius in pixels around each of those within which no pixel counts; 0 counts all.
        shuffled: 1 gives every scene the labels of another.
        ink: how opaque the ink on a pixel is at least, in (0, 1], for the pixel to be a labelled point of the one class
            "ink", at all splits; 0 labels centres. What several digits put on a pixel counts together, as the share of
            the way from the texture to white that the pixel has gone. Goes with none of disc, jitter, missing, ignore
            and pair.
        pair: how far apart the two points of its class are, in pixels, that label each digit in place of its centre, at
            all splits; 0 is the centre. They lie symmetric about it, in a direction of the digit's own, and are moved
            together where one would leave the picture.
    """

    points: int = 0
    apart: float = 0.0
    size: int = 0
    within: int = 0
    disc: float = 0.0
    jitter: float = 0.0
    missing: float = 0.0
    ignore: float = 0.0
    shuffled: int = 0
    ink: float = 0.0
    pair: float = 0.0


def of(name: str) -> Variant:
    """The variant of a name.

    Raises:
        ValueError: the name is no call, an option is unknown or out of range, or two of them contradict each other.
    """
    inner = name.partition("(")[2].removesuffix(")")
    kinds: dict[str, type] = {field.name: type(field.default) for field in fields(Variant)}
    given: dict[str, int | float] = {}
    for option, text in sets.given(inner):
        checks.check_option(f"data set {name!r}", option, kinds)
        try:
            given[option] = kinds[option](text)
        except ValueError:
            raise ValueError(f"data set {name!r}: {option} must be {kinds[option].__name__}, got {text!r}") from None
        highest, allowed = _LIMITS.get(option, _NO_LIMIT)
        if not 0 <= given[option] <= highest:
            raise ValueError(f"data set {name!r}: {option} must be {allowed}, got {text}")
    for option in _OF_CENTRES:
        if given.get("ink") and given.get(option):
            raise ValueError(f"data set {name!r}: ink labels pixels, {option} concerns the labels of centres: give one "
                             "of the two")
    return Variant(**given)  # type: ignore[arg-type]  # each is of its own kind


def read(name: str, split: str, size: int | None = None) -> Dataset:
    """One split of a variant.

    Raises:
        ValueError: an unknown split or option, a size below 64, more digits than fit, a pair wider than the scene.
    """
    made = of(name)
    checks.check_one_of("split", split, digits.COUNTS)
    count, side, within = digits.COUNTS[split], made.size or size or SIZE, made.within or None
    number = (made.points, made.points) if made.points else (1, digits.MAX_DIGITS)
    apart = made.apart or digits.MIN_DISTANCE
    images, points = digits.scenes(split, count, size=side, digits=number, distance=apart, within=within)
    mask, classes = None, INK if made.ink else digits.CLASSES
    if made.ink:
        points = _ink(images[:, 0], _textures(split, count, side, number, apart, within)[:, 0], made.ink)
    if made.pair:
        points = _pairs(points, made.pair, side, np.random.default_rng([SEED, *split.encode()]))
    if split != "train":
        return Dataset(name, split, images, points, classes)
    rng = np.random.default_rng(SEED)
    if made.shuffled:
        points = points[torch.arange(len(points)).roll(1)]
    if made.jitter:
        points = _moved(points, made.jitter, side, rng)
    if made.missing:
        gone = torch.from_numpy(rng.random(points.valid.shape) < made.missing) & points.valid
        if made.ignore:
            mask = ~_near(points.where(gone), made.ignore, side) | _near(points.where(~gone), 0.75, side)
        points = points.where(~gone)
    if made.disc:
        points = _discs(points, made.disc, side)
    return Dataset(name, split, images, points, classes, mask)


def _textures(
    split: str, count: int, side: int, number: tuple[int, int], apart: float, within: int | None
) -> Tensor:
    """The images of :func:`falloff.data.digits.scenes` of the same arguments, but for their digits.

    The same numbers are drawn, of the same generator, and then no digit: ``scenes`` stays as it is, whose code is part
    of what identifies runs.
    """
    rng = np.random.default_rng(np.random.SeedSequence([0, digits._SEEDS[split]]))
    xy, valid = digits._places(rng, count, within or side, number, apart)
    return digits.composed(rng, split, xy, np.zeros_like(valid), side)[0]


def _moved(points: Points, far: float, side: int, rng: np.random.Generator) -> Points:
    """Each point moved by ``far`` pixels in a direction of its own, and back into the picture where it left it."""
    return replace(points, xy=(points.xy + far * _directions(points, rng)).clamp(0, side - 1))


def _directions(points: Points, rng: np.random.Generator) -> Tensor:
    """A random direction for each point, a vector of length 1, ``(B, N, 2)``."""
    angle = torch.from_numpy(rng.uniform(0, 2 * math.pi, size=points.valid.shape)).float()
    return torch.stack([angle.cos(), angle.sin()], -1)


def _near(points: Points, radius: float, side: int) -> Tensor:
    """True within a radius of a point, ``(B, 1, side, side)``."""
    place = torch.arange(float(side))
    near = torch.zeros(len(points), side, side, dtype=torch.bool)
    for slot in range(points.valid.shape[1]):
        x, y = points.xy[:, slot].unbind(-1)
        far = (place[None, None] - x[:, None, None]) ** 2 + (place[None, :, None] - y[:, None, None]) ** 2
        near |= (far <= radius**2) & points.valid[:, slot, None, None]
    return near[:, None]


def _pairs(points: Points, far: float, side: int, rng: np.random.Generator) -> Points:
    """Two points in place of each, ``far`` pixels apart and moved together into the picture where one left it."""
    if far > side - 1:
        raise ValueError(f"pair must be at most {side - 1} pixels, the side of the scenes without one, got {far:g}")
    half = far / 2 * _directions(points, rng)
    ends = points.xy[:, :, None] + torch.stack([half, -half], 2)  # (B, N, 2 ends, 2)
    low, high = ends.amin(2, keepdim=True), ends.amax(2, keepdim=True)
    ends = ends + (-low).clamp(min=0) - (high - (side - 1)).clamp(min=0)
    return Points(ends.flatten(1, 2), points.label.repeat_interleave(2, 1), points.valid.repeat_interleave(2, 1))


def _ink(images: Tensor, bare: Tensor, least: float) -> Points:
    """Every pixel that has gone at least so large a share of the way from its texture to white, as a point."""
    row, column = (index.flatten() for index in torch.meshgrid(*map(torch.arange, images.shape[1:]), indexing="ij"))
    xy = torch.stack([column, row], -1).float()

    def labelled(images: Tensor, bare: Tensor) -> Points:
        images, bare = images.flatten(1).float(), bare.flatten(1).float()
        kept = (images > bare) & (images - bare >= least * (255 - bare))
        return without_gaps(Points(xy.expand(*kept.shape, 2), torch.zeros_like(kept, dtype=torch.int64), kept))

    return _in_parts(labelled, images, bare)


def _discs(points: Points, radius: float, side: int) -> Points:
    """Every pixel within a radius of a point as a point of its class; two classes do not share a pixel's map."""
    reach = math.ceil(radius)
    step = torch.arange(-reach, reach + 1)
    offset = torch.stack(torch.meshgrid(step, step, indexing="xy"), -1).reshape(-1, 2)

    def labelled(points: Points) -> Points:
        at = (points.xy + 0.5).floor()[:, :, None] + offset  # (B, N, window, 2)
        kept = ((at - points.xy[:, :, None]).norm(dim=-1) <= radius) & ((at >= 0) & (at < side)).all(-1)
        kept |= (offset == 0).all(-1)  # its own pixel, however small the disc
        kept &= points.valid[..., None]
        label = points.label[..., None].expand(kept.shape)
        return without_gaps(Points(at.flatten(1, 2), label.flatten(1), kept.flatten(1)))

    return _in_parts(labelled, points)


def _in_parts(labelled: Callable[..., Points], *arrays: Any) -> Points:
    """The points that a function makes of some scenes, of all, made of some at a time."""
    starts = range(0, len(arrays[0]), PART)
    return Points.cat([labelled(*(array[start : start + PART] for array in arrays)) for start in starts])
