"""What is found without a net, at random, by templates or by blobs: the floor that a score is set beside."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
import torch
from jaxtyping import Float, Int64
from numpy.random import Generator, default_rng
from scipy.ndimage import affine_transform, gaussian_laplace
from skimage.feature import blob_log, match_template
from torch import Tensor

from falloff import checks, data, decode, sets
from falloff.data.dataset import Dataset
from falloff.heatmaps import nearest_pixel
from falloff.points import Points
from falloff.systems.base import Prediction

SPREAD = 0.2  # how far the outermost of several scales are from 1
Option = int | float | str


def chance(train: Dataset, dataset: Dataset, count: int, rng: Generator) -> Prediction:
    """Points anywhere in each picture, of any class and score, all equally likely."""
    shape = len(dataset.images), count
    height, width = dataset.size
    xy = rng.uniform(-0.5, (width - 0.5, height - 0.5), size=(*shape, 2))
    label, score = rng.integers(len(dataset.classes), size=shape), rng.random(shape)
    return Prediction(Points(torch.from_numpy(xy).float(), torch.from_numpy(label), torch.ones(shape, dtype=torch.bool),
                             torch.from_numpy(score).float()))


def templates(
    train: Dataset, dataset: Dataset, count: int, rng: Generator, *, side: int = 17, scales: int = 1
) -> Prediction:
    """The highest peaks of the correlation with the mean of each class, found by the decoder of the nets.

    Args:
        train: the scenes from which the templates are cut.
        dataset: where they are looked for.
        count: predictions in each picture.
        rng: nothing is drawn.
        side: of the templates in pixels, odd.
        scales: sizes in which each is looked for, evenly from 0.8 to 1.2; the highest correlation counts.

    Source: Lewis 1995, Fast normalized cross-correlation, equation 2.
    """
    height, width = dataset.size
    _check_side(side, min(height, width))
    looked = scaled(train, side, _factors(scales))
    maps = np.empty((len(dataset.images), len(dataset.classes), height, width), np.float32)
    for image, picture in enumerate(_grey(dataset.images).double().numpy()):
        found = [match_template(picture, one, pad_input=True, mode="edge") for one in looked]
        maps[image] = np.reshape(found, (len(dataset.classes), -1, height, width)).max(1)
    scores = torch.from_numpy(maps)
    return Prediction(decode.peaks(scores, count=count, mask=dataset.mask), scores)


def blobs(
    train: Dataset, dataset: Dataset, count: int, rng: Generator, *, sigma: float = 6.0, scales: int = 1,
    threshold: float = 0.02, named: Literal["at random", "by template"] = "by template", side: int = 17,
) -> Prediction:
    """Bright blobs: maxima of the Laplacian of Gaussians, -s^2 (d^2/dx^2 + d^2/dy^2) of the picture in [0, 1].

    Args:
        train: the scenes whose labels say how frequent each class is and what it looks like.
        dataset: where blobs are looked for.
        count: the most in each picture.
        rng: draws the names that are given at random.
        sigma: of the Gaussian s in pixels, about 0.7 of a blob's radius.
        scales: widths of it, evenly from 0.8 to 1.2 times that.
        threshold: the least response that is a blob.
        named: "at random", as often as each class is labelled, the strongest response first; or "by template", as the
            mean of a class that correlates best with what is around the blob, the highest correlation first.
        side: of the templates in pixels, odd.

    Source: Lindeberg 1998, Feature detection with automatic scale selection, section 5.
    """
    checks.check_positive("sigma", sigma)
    checks.check_at_least_zero("threshold", threshold)
    checks.check_one_of("named", named, ("at random", "by template"))
    _check_side(side, min(dataset.size))
    pictures, widths = _grey(dataset.images).double(), sigma * _factors(scales)
    looks = _unit(means(train, side))
    often = torch.bincount(train.points.label[train.points.valid], minlength=len(train.classes)).double()
    rows = []
    for image, picture in enumerate(pictures.numpy()):
        found = blob_log(picture, widths[0], widths[-1], scales, threshold)
        row, column = found[:, :2].astype(int).T
        if named == "at random":
            response = {width: -(width**2) * gaussian_laplace(picture, width) for width in set(found[:, 2].tolist())}
            score = np.array([response[s][int(y), int(x)] for y, x, s in found.tolist()], dtype=float)
            label = rng.choice(len(often), size=len(found), p=(often / often.sum()).numpy())
        else:
            around = windows(pictures[image : image + 1], torch.zeros(len(found), dtype=torch.int64),
                             torch.from_numpy(row), torch.from_numpy(column), side)
            score, label = (part.numpy() for part in (_unit(around).flatten(1) @ looks.flatten(1).T).max(1))
        best = np.argsort(-score, kind="stable")[:count]
        rows.append((np.stack([column, row], axis=1)[best], label[best], score[best]))
    return Prediction(Points.from_lists(rows))


FLOORS: Mapping[str, Callable[..., Prediction]] = {"chance": chance, "templates": templates, "blobs": blobs}


@dataclass(frozen=True, kw_only=True)
class Floor:
    """All that determines what is said of a data set without a net.

    Args:
        dataset: by name, as a run has it.
        size: side of made scenes in pixels; None for the set's own.
        floor: by name: :data:`FLOORS`.
        floor_options: its own options.
        count: the most predictions in each picture.
        seed: of what is drawn.

    Raises:
        ValueError: an unknown floor or option, a count below 1, a seed below 0.
    """

    dataset: str = "digits"
    size: int | None = None
    floor: str = "templates"
    floor_options: Mapping[str, Option] = field(default_factory=dict)
    count: int = 20
    seed: int = 0

    def __post_init__(self) -> None:
        known = checks.own_options(checks.choose("floor", self.floor, FLOORS), "train", "dataset", "count", "rng")
        for option in self.floor_options:
            checks.check_option(f"floor {self.floor!r}", option, known)
        checks.check_count("count", self.count)
        checks.check_whole("seed", self.seed, 0)
        object.__setattr__(self, "dataset", sets.anywhere(self.dataset))
        object.__setattr__(self, "floor_options", {**known, **self.floor_options})

    def __hash__(self) -> int:
        return hash(repr(self))

    def describe(self) -> dict[str, Any]:
        """The floor as plain data, every default filled in."""
        return {one.name: getattr(self, one.name) for one in dataclasses.fields(self)}

    @property
    def is_drawn(self) -> bool:
        """Whether another seed says something else."""
        return self.floor == "chance" or self.floor_options.get("named") == "at random"

    @classmethod
    def of(cls, described: Mapping[str, Any]) -> Floor:
        """The floor that :meth:`describe` described, whatever else is described beside it."""
        return cls(**{one.name: described[one.name] for one in dataclasses.fields(cls)})

    def replace(self, **changes: Any) -> Floor:
        """This floor with some fields changed."""
        return dataclasses.replace(self, **changes)

    def predict(self, split: str) -> Prediction:
        """What is said of a split, the same each time.

        Raises:
            ValueError: no such split, an option out of range, templates larger than the pictures.
            FileNotFoundError: the data set is not there.
        """
        train, dataset = (data.load(self.dataset, one, self.size) for one in ("train", split))
        rng = default_rng([self.seed, *split.encode()])
        said = FLOORS[self.floor](train, dataset, self.count, rng, **self.floor_options)
        return said if dataset.mask is None else said.within(dataset.mask)


def means(train: Dataset, side: int) -> Float[Tensor, "classes side side"]:
    """The mean picture around the labelled points of each class, in [0, 1]; 0 for a class without a point."""
    image, slot = train.points.valid.nonzero().T
    label = train.points.label[image, slot]
    x, y = train.points.xy[image, slot].T
    height, width = train.size
    around = windows(_grey(train.images), image, nearest_pixel(y, height), nearest_pixel(x, width), side).double()
    total = around.new_zeros(len(train.classes), side, side).index_add_(0, label, around)
    return total / torch.bincount(label, minlength=len(train.classes)).clamp(min=1)[:, None, None]


def scaled(train: Dataset, side: int, factors: np.ndarray) -> list[np.ndarray]:
    """The mean of each class in some sizes, all of them of one class first, each ``(side, side)`` around its point."""
    half = side // 2
    reach = math.ceil(half / factors.min())
    return [affine_transform(mean, np.ones(2) / factor, reach - half / factor, (side, side), order=1)
            for mean in means(train, 2 * reach + 1).numpy() for factor in factors]


def windows(
    pictures: Float[Tensor, "images height width"], image: Int64[Tensor, " n"], row: Int64[Tensor, " n"],
    column: Int64[Tensor, " n"], side: int,
) -> Float[Tensor, "n side side"]:
    """What is around some pixels; beyond the border the pixel at the border is repeated."""
    height, width = pictures.shape[1:]
    step = torch.arange(side) - side // 2
    rows, columns = (row[:, None] + step).clamp(0, height - 1), (column[:, None] + step).clamp(0, width - 1)
    return pictures[image[:, None, None], rows[:, :, None], columns[:, None, :]]


def _grey(images: Tensor) -> Tensor:
    """Bytes as numbers in [0, 1], the mean of the channels."""
    return images.float().mean(1) / 255


def _unit(pictures: Tensor) -> Tensor:
    """Each less its mean, at length 1, so that a product of two is their correlation; a flat one is 0."""
    pictures = pictures - pictures.mean((1, 2), keepdim=True)
    return torch.nn.functional.normalize(pictures.flatten(1), dim=1).view_as(pictures)


def _factors(scales: int) -> np.ndarray:
    checks.check_count("scales", scales)
    return np.linspace(1 - SPREAD, 1 + SPREAD, scales) if scales > 1 else np.ones(1)


def _check_side(side: int, most: int) -> None:
    if not (checks.is_whole(side) and 3 <= side <= most and side % 2 == 1):
        raise ValueError(f"side must be an odd integer from 3 to {most}, the pictures', got {side!r}")
