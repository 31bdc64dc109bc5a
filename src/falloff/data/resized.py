"""Stored sets at another size: pictures averaged down to fewer pixels, or cut into tiles.

The name of a set, or the path to its file, then carries options as a call does: ``pose14_lspet(scale=0.5)``,
``nuclei_crchisto(crop=64)``, ``some/where.npz(scale=0.25, crop=32)``. Pictures are scaled first, then cut.
"""

from __future__ import annotations

import functools
import math
from dataclasses import dataclass, fields, replace
from fractions import Fraction

import torch
from torch import Tensor
from torch.nn.functional import pad

from falloff import checks, sets
from falloff.data import npz
from falloff.data.dataset import SPLITS, Dataset
from falloff.data.slots import without_gaps
from falloff.heatmaps import nearest_pixel
from falloff.points import Points


@dataclass(frozen=True)
class Resize:
    """What is made of the pictures of a file.

    Args:
        scale: their length afterwards over that before, in (0, 1].
        crop: side in pixels of the square tiles that they are cut into; 0 leaves them whole.
    """

    scale: float = 1.0
    crop: int = 0


def of(name: str) -> Resize:
    """What the options of a name ask for.

    Raises:
        ValueError: an option is unknown, there twice, or out of range.
    """
    kinds: dict[str, type] = {field.name: type(field.default) for field in fields(Resize)}
    given: dict[str, float | int] = {}
    _, options = sets.parts(name)
    for option, text in sets.given(options):
        checks.check_option(f"data set {name!r}", option, kinds)
        if option in given:
            raise ValueError(f"data set {name!r}: {option} must be given once, got {given[option]} and {text}")
        allowed = "a number in (0, 1]" if option == "scale" else "an integer above 0"
        try:
            given[option] = kinds[option](text)
        except ValueError:
            raise ValueError(f"data set {name!r}: {option} must be {allowed}, got {text!r}") from None
        if not (0 < given[option] <= 1 if option == "scale" else given[option] > 0):
            raise ValueError(f"data set {name!r}: {option} must be {allowed}, got {text}")
    return Resize(**given)  # type: ignore[arg-type]  # each is of its own kind


def read(name: str, split: str, size: int | None = None) -> Dataset:
    """One split of a stored set, resized as its name says.

    Raises:
        ValueError: what :func:`of` and :func:`falloff.data.npz.read` refuse; a scale at which no labelled point of a
            split that runs use lies where ``mask`` is True.
        FileNotFoundError: no set of that name.
    """
    change = of(name)
    stored, _ = sets.parts(name)
    found = cut(shrunk(npz.read(stored, split, size), change.scale), change.crop)
    npz.require(sets.find(name), split not in SPLITS or bool(found.points.valid.any()),
                f"at scale {change.scale:g} no labelled point of split {split!r} lies where mask is True")
    return replace(found, name=sets.short(name))


def shrunk(given: Dataset, scale: float) -> Dataset:
    """A split with pictures of fewer pixels: each is the mean of the area that it covers, rounded to the nearest level.

    .. math:: x' = (x + 0.5)\\, s - 0.5

    is where a point at x then lies. A picture of length L has the least whole number of pixels that cover :math:`L s`;
    the last of them is the mean of what it covers of the picture. Where ``mask`` is False anywhere in that area, it is
    False of the pixel.

    Args:
        given: the split.
        scale: s, in (0, 1].
    """
    factor = Fraction(scale).limit_denominator()
    if factor == 1:
        return given
    height, width = (math.ceil(length * factor) for length in given.size)
    count, channels = given.images.shape[:2]
    sizes = [given.size] * count if given.sizes is None else given.sizes.tolist()
    images = torch.zeros(count, channels, height, width, dtype=torch.uint8)
    mask = None if given.mask is None else torch.zeros(count, 1, height, width, dtype=torch.bool)
    for index, (high, wide) in enumerate(sizes):
        # Whole numbers in float64, so that the sums, and what is rounded, are exact on every machine.
        down, across = _covered(high, factor), _covered(wide, factor).mT
        area = down.sum(1, keepdim=True) * across.sum(0)
        place = (index, slice(None), slice(len(down)), slice(across.shape[1]))
        total = down @ given.images[index, :, :high, :wide].double() @ across
        images[place] = ((2 * total + area) / (2 * area)).floor().to(torch.uint8)
        if mask is not None and given.mask is not None:
            mask[place] = down @ (~given.mask[index, :, :high, :wide]).double() @ across == 0
    smaller = None if given.sizes is None else torch.tensor(
        [[math.ceil(length * factor) for length in one] for one in sizes])
    return replace(given, images=images, points=given.points.scale(scale), mask=mask, sizes=smaller)


@functools.lru_cache(maxsize=256)
def _covered(length: int, factor: Fraction) -> Tensor:
    """How much of each pixel each of the fewer pixels covers, a pixel being as many units as the factor's numerator."""
    new, old = factor.denominator, factor.numerator
    start = new * torch.arange(math.ceil(length * factor), dtype=torch.float64)[:, None]
    pixel = old * torch.arange(length, dtype=torch.float64)
    return ((start + new).minimum(pixel + old) - start.maximum(pixel)).clamp(min=0)


def cut(given: Dataset, side: int) -> Dataset:
    """A split whose pictures are cut into tiles, picture by picture, from the upper left, row by row.

    Each pixel is in one tile, and so is each point: in that of the pixel nearest to it. Tiles without points are kept;
    those at the right and the lower border are smaller where the side does not divide the picture.

    Args:
        given: the split.
        side: of a tile in pixels; 0 cuts nothing.
    """
    if side == 0:
        return given
    height, width = given.size
    high, wide = min(side, height), min(side, width)
    corners = [(top, left) for top in range(0, height, high) for left in range(0, width, wide)]
    count = len(given.images)
    whole = torch.tensor([given.size]).expand(count, 2) if given.sizes is None else given.sizes
    sizes = (whole[:, None] - torch.tensor(corners)).clamp(max=torch.tensor([high, wide])).flatten(0, 1)
    kept = (sizes > 0).all(1)  # the others lie beside a picture that is smaller than its image
    sizes, partly = sizes[kept], bool((sizes[kept] != torch.tensor([high, wide])).any())

    def tiled(part: Tensor) -> Tensor:
        part = pad(part, (0, -width % wide, 0, -height % high))
        tiles = part.unfold(2, high, high).unfold(3, wide, wide)  # (N, channels, rows, columns, high, wide)
        return tiles.permute(0, 2, 3, 1, 4, 5).flatten(0, 2)[kept].contiguous()

    points = without_gaps(_tiled(given.points, given.size, corners, (high, wide))[kept])
    if partly:  # a point on the far edge of a picture belongs to its last pixel, and not to one beside the tile
        end = sizes.flip(1)[:, None].to(points.xy)
        points = replace(points, xy=points.xy.minimum(end.nextafter(torch.zeros_like(end)) - 0.5))
    return replace(given, images=tiled(given.images), points=points, sizes=sizes if partly else None,
                   mask=None if given.mask is None else tiled(given.mask))


def _tiled(points: Points, size: tuple[int, int], corners: list[tuple[int, int]], tile: tuple[int, int]) -> Points:
    """The points of each tile of each picture, in its own pixels, as many slots as before."""
    column, row = (nearest_pixel(x, length) for x, length in zip(points.xy.unbind(-1), size[::-1], strict=True))
    row, column = row - row % tile[0], column - column % tile[1]
    parts = Points.cat([points.where((row == top) & (column == left)).pad(-left, -top) for top, left in corners])
    # Rounded in float32, one a hair to the left of a border may be taken for one upon it.
    parts = replace(parts, xy=parts.xy.clamp(min=-0.5))
    return parts[torch.arange(len(parts)).view(len(corners), -1).T.flatten()]
