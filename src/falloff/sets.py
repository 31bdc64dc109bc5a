"""Names of labelled sets: which there are, and what identifies the content of one. Needs no PyTorch.

A set is made by a module of the package (a variant of it is named as a call, ``digits(jitter=1)``), or stored as
``NAME/NAME.npz`` in the folder that ``FALLOFF_DATA`` names, or in any other ``.npz`` file, whose path is then its name.
"""

from __future__ import annotations

import functools
import hashlib
import os
from pathlib import Path

from falloff.checks import nearest
from falloff.project import project_root

MADE = {"digits": "falloff.data.digits"}  # and the module that reads it
VARIANTS = {"digits": "falloff.data.variants"}  # and the module that reads its variants


def is_made(name: str) -> bool:
    """Whether a set, or the set that a variant is one of, is made by a module."""
    return name in MADE or (name.endswith(")") and _base(name) in VARIANTS)


def module(name: str) -> str:
    """The module that reads a set: what its pictures depend on, beside a file's content."""
    if not is_made(name):
        return "falloff.data.npz"
    return MADE[name] if name in MADE else VARIANTS[_base(name)]


def _base(name: str) -> str:
    base, *_ = name.partition("(")
    return base


def kind(name: str) -> str:
    """What a set's name says beside its content: of a set that is made its name, of a stored one the same for all."""
    return name if is_made(name) else "stored"


def root() -> Path:
    """The folder of the stored sets: ``FALLOFF_DATA``, or ``data/external`` of the project."""
    return Path(os.environ.get("FALLOFF_DATA") or project_root() / "data" / "external").expanduser().absolute()


def available() -> list[str]:
    """Names of the stored sets that are there."""
    return sorted(path.parent.name for path in root().glob("*/*.npz") if path.stem == path.parent.name)


def anywhere(name: str | Path) -> str:
    """A name as it holds in any folder: that of a path to a file is made absolute, ``~`` being the home folder.

    Raises:
        TypeError: neither a name nor a path.
    """
    if not isinstance(name, (str, Path)):
        raise TypeError(f"a set must be given by its name or the path to its .npz file, got {type(name).__name__}; "
                        "falloff.data.save writes arrays as such a file")
    return str(Path(name).expanduser().absolute()) if _is_path(str(name)) else str(name)


def short(name: str) -> str:
    """A name as a page shows it: of a path what the file is called."""
    return Path(name).stem if _is_path(name) else name


def find(name: str) -> Path:
    """The file of a stored set, by the set's name or by a path to it.

    Raises:
        FileNotFoundError: there is none; the message says where it was looked for and what is there.
    """
    path = Path(anywhere(name)) if _is_path(name) else root() / name / f"{name}.npz"
    if not path.is_file() or not (_is_path(name) or Path(name).name == name):
        known = [*MADE, *available()]
        beside = path.parent if _is_path(name) else Path()
        near = nearest(Path(name).name, [*known, *(one.name for one in beside.glob("*.npz"))])
        there = Path(name).expanduser() if name and not path.exists() else path
        wrong = f"{there} is a folder" if there.is_dir() else f"{there} does not end in .npz" if there.is_file() else (
            f"{path} does not exist")
        raise FileNotFoundError(
            f"no data set {short(name)!r}: {wrong}{near}. Known here: {', '.join(known)}. FALLOFF_DATA names the "
            "folder that holds real sets; a path to an .npz file is taken, too, which falloff.data.save writes."
        )
    return path


def _is_path(name: str) -> bool:
    return name.lower().endswith(".npz")


def digest(name: str) -> str:
    """What identifies a set's content: of a file the SHA-256 of its bytes, of a set that is made "made".

    What is made follows from the code that makes it, which a run's identity holds already.
    """
    if is_made(name):
        return "made"
    path = find(name)
    state = path.stat()
    return _digest(path, state.st_size, state.st_mtime_ns)


@functools.cache
def _digest(path: Path, size: int, changed: int) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
