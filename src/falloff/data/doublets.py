"""Scenes of digits with two points of its class on each digit, left and right of its centre.

A set is named by how far apart they are in pixels, as ``doublets(apart=3)``. The picture tells where they lie, other
than in ``digits(pair=3)`` (:mod:`falloff.data.variants`), whose direction is drawn: there a net can know the two no
better than as a ring.
"""

from __future__ import annotations

import torch

from falloff import checks, sets
from falloff.data import digits
from falloff.data.dataset import Dataset
from falloff.points import Points

SIZE = digits.SIZE
WIDEST = 2 * digits.MARGIN  # pixels; with more a point could leave the picture


def apart(name: str) -> float:
    """How far apart the two points of a set are.

    Raises:
        ValueError: the name has another option, or none, or a value that is no number above 0 and at most
            :data:`WIDEST`.
    """
    inner = name.partition("(")[2].removesuffix(")")
    given = dict(sets.given(inner))
    for option in given:
        checks.check_option(f"data set {name!r}", option, {"apart": float})
    try:
        far = float(given.get("apart", "nothing"))
    except ValueError:
        far = 0.0
    if not 0 < far <= WIDEST:
        raise ValueError(f"data set {name!r}: apart must be a number above 0 and at most {WIDEST:g}, got "
                         f"{given.get('apart', 'nothing')}")
    return far


def read(name: str, split: str, size: int | None = None) -> Dataset:
    """One split of a set.

    Raises:
        ValueError: as for :func:`apart`; an unknown split, a size below 64.
    """
    half = torch.tensor([apart(name) / 2, 0.0])
    checks.check_one_of("split", split, digits.COUNTS)
    images, centres = digits.scenes(split, digits.COUNTS[split], size=size or SIZE)
    xy = torch.stack([centres.xy - half, centres.xy + half], 2).flatten(1, 2)
    points = Points(xy, centres.label.repeat_interleave(2, 1), centres.valid.repeat_interleave(2, 1))
    return Dataset(name, split, images, points, digits.CLASSES)
