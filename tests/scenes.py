"""What several test files share: random points, and small labelled sets on disk."""

import tempfile
from pathlib import Path

import numpy as np
import torch
from hypothesis import strategies as st

from falloff.points import Points


def one(x, y, label=0, dtype=torch.float32):
    """One image with one point."""
    return Points(torch.tensor([[[x, y]]], dtype=dtype), torch.tensor([[label]]), torch.tensor([[True]]))


def none(batch=1, slots=0):
    """Images without points: no room for one, or padding alone."""
    xy = torch.full((batch, slots, 2), torch.nan)
    return Points(xy, torch.full((batch, slots), 99), torch.zeros(batch, slots, dtype=torch.bool))


def coordinates(length):
    """Positions along an axis, those at borders, on pixels and half-way between them among the likeliest."""
    return st.one_of(
        st.integers(0, length - 1).map(float),
        st.sampled_from([-0.5, 0.5, length - 0.5]),
        st.floats(-0.5, length - 0.5, width=32),
    )


def batches(size, classes, dtype=torch.float32, images=2, most=4):
    """Points of a few images, some without any, some with several on one pixel."""
    height, width = size
    point = st.tuples(coordinates(width), coordinates(height), st.integers(0, classes - 1))
    image = st.lists(point, max_size=most)

    def build(rows):
        count = max(len(row) for row in rows)
        xy = torch.zeros(len(rows), count, 2, dtype=dtype)
        label = torch.zeros(len(rows), count, dtype=torch.int64)
        valid = torch.zeros(len(rows), count, dtype=torch.bool)
        for i, row in enumerate(rows):
            for n, (x, y, c) in enumerate(row):
                xy[i, n] = torch.tensor([x, y], dtype=dtype)
                label[i, n], valid[i, n] = c, True
        return Points(xy, label, valid)

    return st.lists(image, min_size=images, max_size=images).map(build)


def set_arrays(counts=(24, 8, 8), side=16):
    """Arrays of a labelled set: two points of different kinds per picture, each a bright pixel."""
    rng = np.random.default_rng(0)
    count = sum(counts)
    images = rng.integers(0, 40, size=(count, side, side), dtype=np.uint8)
    points = rng.integers(1, side - 1, size=(count, 2, 2)).astype(np.float32)
    for image, pair in zip(images, points.astype(int), strict=True):
        for (x, y), light in zip(pair, (255, 160), strict=True):
            image[y, x] = light
    return {
        "images": images,
        "points": points,
        "visibility": np.ones((count, 2), dtype=np.uint8),
        "names": np.array(["bright", "dim"]),
        "split": np.repeat(["train", "val", "test"], counts),
    }


def write_set(folder: Path, name: str, **changed) -> Path:
    """Write a set; an array that is given replaces the usual one, None leaves it out."""
    arrays = {key: value for key, value in {**set_arrays(), **changed}.items() if value is not None}
    path = folder / name / f"{name}.npz"
    path.parent.mkdir(parents=True, exist_ok=True)
    np.savez_compressed(path, **arrays)
    return path


def measured(run):
    """The record of a run, trained and measured as the study does it."""
    from falloff.study import Store

    with tempfile.TemporaryDirectory() as folder:
        return Store(folder).get_or_train(run)
