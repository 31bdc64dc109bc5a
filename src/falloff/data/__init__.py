"""Images and their labelled points: scenes made here, and real sets read from their own files."""

from __future__ import annotations

import functools
import importlib
from collections.abc import Callable

from falloff import checks, sets
from falloff.data.dataset import KEPT, SPLITS, Dataset

__all__ = ["SPLITS", "Dataset", "augmentation", "load", "reader"]


def augmentation(**options: object) -> Callable[..., tuple]:
    """What varies training images, with their points: :func:`falloff.data.augment.make`, for which kornia is loaded."""
    make = importlib.import_module("falloff.data.augment").make
    for option in options:
        checks.check_option("augment", option, checks.own_options(make))
    return make(**options)


def reader(name: str) -> Callable[[str, str, int | None], Dataset]:
    """The function that reads a set by name; its module is what the pictures depend on, beside a file's content.

    It is ``read(name, split, size)`` of the module that makes the set, or of :mod:`falloff.data.npz`, which looks for a
    file.
    """
    return importlib.import_module(sets.module(name)).read


def load(name: str, split: str, size: int | None = None) -> Dataset:
    """One split of a set by name.

    Args:
        name: "digits", or the name of a set ``NAME/NAME.npz`` under the folder that ``FALLOFF_DATA`` names
            (``data/external`` by default).
        split: "train", "val" or "test"; a stored set may have others, too.
        size: side of the made scenes in pixels, None for their own default; a set read from a file keeps its own.

    Raises:
        ValueError: an unknown split, a size that the set cannot have, a file that is not as it must be.
        FileNotFoundError: no set of that name.
    """
    return _load(name, split, size, sets.digest(name))


@functools.lru_cache(maxsize=KEPT)
def _load(name: str, split: str, size: int | None, content: str) -> Dataset:
    return reader(name)(name, split, size)
