"""Scenes of real handwriting on real textures, with the digits' centres as labels.

The handwriting is scikit-learn's copy of the UCI digits (1,797 images of 8 x 8), the textures are brick, grass and
gravel of scikit-image. Train, validation and test share no digit image and no part of a texture. The record of the
study makes its choices on more scenes of the validation kind ("choosing") and reports scenes of the test kind that
nobody had looked at when they were made ("fresh").
"""

from __future__ import annotations

import functools

import numpy as np
import torch
from jaxtyping import UInt8
from numpy.random import Generator, SeedSequence, default_rng
from torch import Tensor
from torch.nn.functional import grid_sample

from falloff import checks
from falloff.data.dataset import Dataset
from falloff.points import Points

CLASSES = tuple("0123456789")
SIZE = 64
COUNTS = {"train": 4096, "val": 192, "test": 512, "choosing": 512, "fresh": 1024}
MAX_DIGITS = 6
MIN_DISTANCE = 14.0  # between centres, pixels
DIGIT_SIZE = (14.0, 20.0)  # side of the 8 x 8 image once in the scene, pixels
STRENGTH = (0.7, 1.0)  # how opaque the ink is
TEXTURE = 0.4  # how much of the textures' contrast is kept
MARGIN = 6.0  # from a centre to the border, pixels

_KIND = {"choosing": "val", "fresh": "test"}  # of the splits that share digit images and textures with another
_DIGIT_TURNS = {"train": (0, 1, 2), "val": (3,), "test": (4,)}  # of every five digit images in the file
_TEXTURE_PARTS = {"train": (0.0, 0.5), "val": (0.5, 0.75), "test": (0.75, 1.0)}
_SEEDS = {"train": 1, "val": 2, "test": 3, "choosing": 14, "fresh": 20261125}


def read(name: str, split: str, size: int | None = None) -> Dataset:
    """One split of ``COUNTS[split]`` scenes, always the same, with a side of ``size`` pixels, 64 by default.

    Raises:
        ValueError: an unknown split, a size below 64.
    """
    checks.check_one_of("split", split, COUNTS)
    images, points = scenes(split, COUNTS[split], size=SIZE if size is None else size)
    return Dataset(name, split, images, points, CLASSES)


def scenes(
    split: str, count: int, *, size: int = SIZE, seed: int = 0, digits: tuple[int, int] = (1, MAX_DIGITS),
    distance: float = MIN_DISTANCE, within: int | None = None,
) -> tuple[UInt8[Tensor, "count 1 size size"], Points]:
    """Make ``count`` scenes of ``size`` x ``size`` pixels with 1 to 6 digits each, or as many as asked.

    Args:
        split: a key of :data:`COUNTS`: which digit images and which part of the textures are used.
        count: scenes, above 0.
        size: side in pixels, at least 64, in which six digits always fit.
        seed: the same seed gives the same scenes.
        digits: the fewest and the most in a scene.
        distance: the least between two centres, in pixels.
        within: side in pixels of the middle square that holds all digits; None is the whole scene.

    Returns:
        Images, and points at the centres of the digits (between pixels; at least 14 px apart, at least 6 px from the
        border, so a digit may be cut by it), labelled 0 to 9.

    Raises:
        ValueError: an argument out of range, or more digits than fit.
    """
    checks.check_one_of("split", split, _SEEDS)
    for name, value, least in (("count", count, 1), ("size", size, 64), ("seed", seed, 0)):
        checks.check_whole(name, value, least)
    if not 1 <= digits[0] <= digits[1]:
        raise ValueError(f"digits must be the fewest and the most of a scene, at least 1, got {digits!r}")
    checks.check_positive("distance", distance)
    within = size if within is None else within
    if not 2 * MARGIN < within <= size:
        raise ValueError(f"within must be above {2 * MARGIN:g} and at most size ({size}), got {within!r}")
    rng = default_rng(SeedSequence([seed, _SEEDS[split]]))
    xy, valid = _places(rng, count, within, digits, distance)
    return composed(rng, split, xy + (size - within) / 2, valid, size)


def composed(
    rng: Generator, split: str, xy: np.ndarray, valid: np.ndarray, size: int
) -> tuple[UInt8[Tensor, "count 1 size size"], Points]:
    """Scenes with digits, drawn by ``rng``, at centres ``xy (count, N, 2)`` where ``valid (count, N)`` is True."""
    split, count, xy = _KIND.get(split, split), len(xy), np.where(valid[..., None], xy, 0.0).astype(np.float32)
    images, labels = _handwriting(split)
    chosen = rng.integers(len(labels), size=valid.shape)
    canvas = torch.from_numpy(_backgrounds(rng, split, count, size))
    side = torch.from_numpy(rng.uniform(*DIGIT_SIZE, size=valid.shape).astype(np.float32))
    strength = torch.from_numpy(rng.uniform(*STRENGTH, size=valid.shape).astype(np.float32))
    points = Points(torch.from_numpy(xy), torch.from_numpy(labels[chosen]), torch.from_numpy(valid))
    for slot in range(valid.shape[1]):  # one digit of every scene at a time, so no two write to one pixel
        here = points.valid[:, slot].nonzero()[:, 0]
        if len(here):
            glyphs = torch.from_numpy(images[chosen[here.numpy(), slot]])
            _draw(canvas, here, points.xy[here, slot], side[here, slot], glyphs, strength[here, slot])
    return canvas.round_().clamp_(0, 255).to(torch.uint8)[:, None], points


def _places(
    rng: Generator, count: int, size: int, digits: tuple[int, int], distance: float
) -> tuple[np.ndarray, np.ndarray]:
    """Centres some pixels apart, (count, the most digits, 2), and which of them are used."""
    fewest, most = digits
    used = np.arange(most) < rng.integers(fewest, most + 1, size=(count, 1))
    xy = np.zeros((count, most, 2), dtype=np.float32)
    for slot in range(most):
        todo = used[:, slot].nonzero()[0]
        for _ in range(10_000):
            xy[todo, slot] = rng.uniform(MARGIN, size - 1 - MARGIN, size=(len(todo), 2))
            gap = np.linalg.norm(xy[todo, :slot] - xy[todo, slot, None], axis=-1)
            todo = todo[(gap < distance).any(axis=1)]
            if len(todo) == 0:
                break
        else:
            raise ValueError(f"{most} digits {distance:g} px apart do not fit in {size} x {size} pixels")
    return xy, used


def _backgrounds(rng: Generator, split: str, count: int, size: int) -> np.ndarray:
    """Random crops of the split's part of the textures, float32 in [0, 255]."""
    textures = _textures(split)
    _, height, width = textures.shape
    grow = [(0, 0), (0, max(0, size - height)), (0, max(0, size - width))]
    textures = np.pad(textures, grow, mode="reflect") if any(b for _, b in grow) else textures
    _, height, width = textures.shape
    which = rng.integers(len(textures), size=count)[:, None, None]
    top = rng.integers(height - size + 1, size=count)[:, None, None]
    left = rng.integers(width - size + 1, size=count)[:, None, None]
    span = np.arange(size)
    crops = textures[which, top + span[:, None], left + span]
    flip = rng.random(count) < 0.5
    crops[flip] = crops[flip, :, ::-1]
    return crops


def _draw(canvas: Tensor, scene: Tensor, xy: Tensor, side: Tensor, glyph: Tensor, strength: Tensor) -> None:
    """Blend one white digit into each of the scenes, sampled bilinearly so that its centre may lie between pixels."""
    size = canvas.shape[-1]
    reach = int(DIGIT_SIZE[1] / 2) + 2
    start = torch.floor(xy).to(torch.int64) - reach
    offset = torch.arange(2 * reach + 2)
    columns, rows = start[:, :1] + offset, start[:, 1:] + offset
    # In grid_sample's units the centres of the 8 x 8 image's outer cells are at -1 and 1: 7 cells apart.
    unit = (side * 7 / 8 / 2)[:, None]
    u, v = (columns - xy[:, :1]) / unit, (rows - xy[:, 1:]) / unit
    grid = torch.stack(torch.broadcast_tensors(u[:, None, :], v[:, :, None]), dim=-1)
    alpha = grid_sample(glyph[:, None], grid, align_corners=True)[:, 0] * strength[:, None, None]
    inside = ((rows >= 0) & (rows < size))[:, :, None] & ((columns >= 0) & (columns < size))[:, None, :]
    alpha = torch.where(inside, alpha, 0.0)
    index = (scene[:, None, None], rows.clamp(0, size - 1)[:, :, None], columns.clamp(0, size - 1)[:, None, :])
    change = alpha * (255.0 - canvas[index])
    canvas.index_put_(index, change, accumulate=True)


@functools.cache
def _handwriting(split: str) -> tuple[np.ndarray, np.ndarray]:
    """The split's digits in [0, 1], (n, 8, 8), and what they say."""
    from sklearn.datasets import load_digits

    bundle = load_digits()
    chosen = np.isin(np.arange(len(bundle.target)) % 5, _DIGIT_TURNS[split])
    return (bundle.images[chosen] / 16).astype(np.float32), bundle.target[chosen].astype(np.int64)


@functools.cache
def _textures(split: str) -> np.ndarray:
    """The split's rows of the textures, float32 in [0, 255]."""
    from skimage import data

    whole = np.stack([data.brick(), data.grass(), data.gravel()]).astype(np.float32)
    low, high = (int(part * whole.shape[1]) for part in _TEXTURE_PARTS[split])
    middle = whole.mean(axis=(1, 2), keepdims=True)
    return (127.5 + TEXTURE * (whole - middle))[:, low:high]
