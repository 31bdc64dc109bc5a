"""Images and their labelled points: scenes made here, and real sets read from their own files."""

from __future__ import annotations

import functools
import importlib
from collections.abc import Callable
from pathlib import Path

from falloff import checks, sets
from falloff.data import npz
from falloff.data.dataset import KEPT, SPLITS, Dataset
from falloff.data.writing import save

__all__ = ["SPLITS", "Dataset", "augmentation", "check", "load", "reader", "save"]


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


def load(name: str | Path, split: str, size: int | None = None) -> Dataset:
    """One split of a set by name.

    Args:
        name: "digits", a variant of it such as "digits(jitter=1)" (:mod:`falloff.data.variants`), the name of a set
            ``NAME/NAME.npz`` under the folder that ``FALLOFF_DATA`` names (``data/external`` by default), or a path to
            an ``.npz`` file: see :mod:`falloff.data.npz`. Either may be read at another size, as "faces(scale=0.5)"
            (:mod:`falloff.data.resized`).
        split: "train", "val" or "test"; a stored set may have others, too.
        size: side of the made scenes in pixels, None for their own default; a set read from a file has its own.

    Raises:
        ValueError: an unknown split, a size that the set cannot have, a file that is not as it must be.
        FileNotFoundError: no set of that name.
        TypeError: neither a name nor a path, a split that is no text.
    """
    name = sets.anywhere(name)
    if not isinstance(split, str):
        raise TypeError(f"split must be text, one of {', '.join(SPLITS)} or another that the set has, got {split!r}")
    return _load(name, split, size, sets.digest(name))


def check(name: str | Path) -> None:
    """Raise what a run on a set would, in seconds: every split is read, every array and every point looked at.

    It warns of what is likely meant otherwise, and of how pictures of other than 8 bits are turned into 256 levels, as
    :func:`falloff.data.npz.checked` does.

    Raises:
        ValueError: the file is not as it must be; the message names file, picture and point where one is at fault.
        FileNotFoundError: no set of that name.
        TypeError: neither a name nor a path.
    """
    name = sets.anywhere(name)
    stored, _ = sets.parts(name)
    content, module = sets.digest(name), importlib.import_module(sets.module(name))
    if hasattr(module, "of"):  # it reads options in the name
        module.of(name)
    if not sets.is_made(name):
        _check(stored, content)


@functools.lru_cache(maxsize=KEPT)
def _check(name: str, content: str) -> None:
    npz.check(sets.find(name))


@functools.lru_cache(maxsize=KEPT)
def _load(name: str, split: str, size: int | None, content: str) -> Dataset:
    return reader(name)(name, split, size)
