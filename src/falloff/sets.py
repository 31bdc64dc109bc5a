"""Names of labelled sets: which there are, and what identifies the content of one. Needs no PyTorch.

A set is made by a module of the package, or stored as ``NAME/NAME.npz`` in the folder that ``FALLOFF_DATA`` names.
"""

from __future__ import annotations

import functools
import hashlib
import os
from pathlib import Path

from falloff.project import project_root

MADE = {"digits": "falloff.data.digits"}  # and the module that reads it


def module(name: str) -> str:
    """The module that reads a set: what its pictures depend on, beside a file's content."""
    return MADE.get(name, "falloff.data.npz")


def root() -> Path:
    """The folder of the stored sets: ``FALLOFF_DATA``, or ``data/external`` of the project."""
    return Path(os.environ.get("FALLOFF_DATA") or project_root() / "data" / "external")


def available() -> list[str]:
    """Names of the stored sets that are there."""
    return sorted(path.parent.name for path in root().glob("*/*.npz") if path.stem == path.parent.name)


def find(name: str) -> Path:
    """The file of a stored set.

    Raises:
        FileNotFoundError: there is none; the message says where it was looked for and what is there.
    """
    path = root() / name / f"{name}.npz"
    if Path(name).name != name or not path.is_file():
        there = ", ".join([*MADE, *available()])
        raise FileNotFoundError(
            f"no data set {name!r}: {path} does not exist. Known here: {there}. FALLOFF_DATA names the folder that "
            f"holds real sets."
        )
    return path


def digest(name: str) -> str:
    """What identifies a set's content: of a file the SHA-256 of its bytes, of a set that is made "made".

    What is made follows from the code that makes it, which a run's identity holds already.
    """
    if name in MADE:
        return "made"
    path = find(name)
    state = path.stat()
    return _digest(path, state.st_size, state.st_mtime_ns)


@functools.cache
def _digest(path: Path, size: int, changed: int) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
