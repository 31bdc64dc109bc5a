"""Scenes of digits that answer questions about labels: denser or sparser, moved, missing, spread over a disc.

A variant is named as a call, such as ``digits(points=12, size=128)`` or ``digits(jitter=1.5)``. What concerns labels
concerns those of the training scenes alone: what is measured is measured against the true centres.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, fields, replace

import numpy as np
import torch
from torch import Tensor

from falloff import checks
from falloff.data import digits
from falloff.data.dataset import Dataset
from falloff.points import Points

SIZE = digits.SIZE
SEED = 20261126  # of what is done to labels


@dataclass(frozen=True)
class Variant:
    """What is other than in plain scenes.

    Args:
        points: digits in each scene; 0 is 1 to 6.
        size: side of the scenes in pixels; 0 is the run's.
        within: side in pixels of the middle square that holds all digits; 0 is the whole scene.
        disc: radius in pixels of the disc around each centre every pixel of which is a labelled point; 0 labels the
            centre alone.
        jitter: by how many pixels each label is moved, in a random direction.
        missing: share of the points that are not labelled.
        ignore: radius in pixels around each of those within which no pixel counts; 0 counts all.
        shuffled: 1 gives every scene the labels of another.
    """

    points: int = 0
    size: int = 0
    within: int = 0
    disc: float = 0.0
    jitter: float = 0.0
    missing: float = 0.0
    ignore: float = 0.0
    shuffled: int = 0


def of(name: str) -> Variant:
    """The variant of a name.

    Raises:
        ValueError: the name is no call, an option is unknown or out of range.
    """
    inner = name.partition("(")[2].removesuffix(")")
    kinds: dict[str, type] = {field.name: type(field.default) for field in fields(Variant)}
    given: dict[str, int | float] = {}
    for word in filter(None, (part.strip() for part in inner.split(","))):
        option, _, text = map(str.strip, word.partition("="))
        checks.check_option(f"data set {name!r}", option, kinds)
        try:
            given[option] = kinds[option](text)
        except ValueError:
            raise ValueError(f"data set {name!r}: {option} must be {kinds[option].__name__}, got {text!r}") from None
        if not (math.isfinite(given[option]) and given[option] >= 0) or (option == "missing" and given[option] >= 1):
            allowed = "in [0, 1)" if option == "missing" else "a finite number, at least 0"
            raise ValueError(f"data set {name!r}: {option} must be {allowed}, got {text}")
    return Variant(**given)  # type: ignore[arg-type]  # each is of its own kind


def read(name: str, split: str, size: int | None = None) -> Dataset:
    """One split of a variant.

    Raises:
        ValueError: an unknown split or option, a size below 64, more digits than fit.
    """
    made = of(name)
    checks.check_one_of("split", split, digits.COUNTS)
    images, points = digits.scenes(
        split, digits.COUNTS[split], size=made.size or size or SIZE, within=made.within or None,
        digits=(made.points, made.points) if made.points else (1, digits.MAX_DIGITS))
    if split != "train":
        return Dataset(name, split, images, points, digits.CLASSES)
    rng = np.random.default_rng(SEED)
    side, mask = images.shape[-1], None
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
    return Dataset(name, split, images, points, digits.CLASSES, mask)


def _moved(points: Points, far: float, side: int, rng: np.random.Generator) -> Points:
    """Each point moved by ``far`` pixels in a direction of its own, and back into the picture where it left it."""
    angle = torch.from_numpy(rng.uniform(0, 2 * math.pi, size=points.valid.shape)).float()
    xy = points.xy + far * torch.stack([angle.cos(), angle.sin()], -1)
    return replace(points, xy=xy.clamp(0, side - 1))


def _near(points: Points, radius: float, side: int) -> Tensor:
    """True within a radius of a point, ``(B, 1, side, side)``."""
    place = torch.arange(float(side))
    near = torch.zeros(len(points), side, side, dtype=torch.bool)
    for slot in range(points.valid.shape[1]):
        x, y = points.xy[:, slot].unbind(-1)
        far = (place[None, None] - x[:, None, None]) ** 2 + (place[None, :, None] - y[:, None, None]) ** 2
        near |= (far <= radius**2) & points.valid[:, slot, None, None]
    return near[:, None]


def _discs(points: Points, radius: float, side: int) -> Points:
    """Every pixel within a radius of a point as a point of its class; two classes do not share a pixel's map."""
    reach = math.ceil(radius)
    step = torch.arange(-reach, reach + 1)
    offset = torch.stack(torch.meshgrid(step, step, indexing="xy"), -1).reshape(-1, 2)
    at = (points.xy + 0.5).floor()[:, :, None] + offset  # (B, N, window, 2)
    kept = ((at - points.xy[:, :, None]).norm(dim=-1) <= radius) & ((at >= 0) & (at < side)).all(-1)
    kept |= (offset == 0).all(-1)  # its own pixel, however small the disc
    kept &= points.valid[..., None]
    label = points.label[..., None].expand(kept.shape)
    rows = [(at[n][kept[n]], label[n][kept[n]]) for n in range(len(points))]
    return Points.from_lists([(xy.tolist(), own.tolist()) for xy, own in rows])
