"""Names of labelled sets: which there are, and what identifies the content of one. Needs no PyTorch.

A set is made by a module of the package (a variant of it is named as a call, ``digits(jitter=1)``), or stored as
``NAME/NAME.npz`` in the folder that ``FALLOFF_DATA`` names, or in any other ``.npz`` file, whose path is then its name.
A stored set is read at another size by options of the same form, ``NAME(scale=0.5)``.
"""

from __future__ import annotations

import functools
import hashlib
import os
import re
from collections.abc import Iterator
from pathlib import Path

from falloff.checks import nearest
from falloff.project import project_root

MADE = {"digits": "falloff.data.digits"}  # and the module that reads it; below, that which reads names as calls
VARIANTS = {"digits": "falloff.data.variants", "doublets": "falloff.data.doublets"}
# Stored sets that the record rests on, and the SHA-256 of each one's file: what was recorded is known by it where there
# is no such file.
RECORDED = {
    "face5_mtfl": "638c124706486bbf073fb4254cff694ea3f89dd885f11392de85d41919287af7",
    "mouse4_openfield": "7e049b26f71db9041ed89eae206454287136489be22a237e67bdd0dcabeef7cb",
    "nuclei_crchisto": "55873d75934043a2437072d7ca14f78f2fb966c65cf0e7a3ef7cb05e8e6eb1ad",
    "pose14_lspet": "ac75992057ee098a30f542b05b4133fa5fb384385efb762d1d7a243f5b2a8132",
}
_RESIZED = re.compile(r"(?P<stored>.+)\((?P<options>\s*\w+\s*=[^()]*)\)")


def is_made(name: str) -> bool:
    """Whether a set, or the set that a variant is one of, is made by a module."""
    return name in MADE or (name.endswith(")") and _base(name) in VARIANTS)


def module(name: str) -> str:
    """The module that reads a set: what its pictures depend on, beside a file's content."""
    if is_made(name):
        return MADE[name] if name in MADE else VARIANTS[_base(name)]
    _, options = parts(name)
    return "falloff.data.resized" if options else "falloff.data.npz"


def _base(name: str) -> str:
    base, *_ = name.partition("(")
    return base


def parts(name: str) -> tuple[str, str]:
    """The stored set that a name is of, and the options that follow it in brackets, empty for none."""
    found = None if is_made(name) else _RESIZED.fullmatch(name)
    return (found["stored"], found["options"]) if found else (name, "")


def given(options: str) -> Iterator[tuple[str, str]]:
    """Each option of those in a name's brackets, with what is given for it."""
    for word in filter(None, map(str.strip, options.split(","))):
        option, _, text = map(str.strip, word.partition("="))
        yield option, text


def _with(stored: str, options: str) -> str:
    """A name with its options in one order and spacing."""
    tidy = sorted(filter(None, ("".join(one.split()) for one in options.split(","))))
    return f"{stored}({', '.join(tidy)})" if tidy else stored


def kind(name: str) -> str:
    """What a set's name says beside its content: of one that is made its name, of a stored one its options alone."""
    _, options = parts(name)
    return name if is_made(name) else _with("stored", options)


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
    stored, options = parts(str(name))
    return _with(str(Path(stored).expanduser().absolute()) if _is_path(stored) else stored, options)


def short(name: str) -> str:
    """A name as a page shows it: of a path what the file is called."""
    stored, options = parts(name)
    return _with(Path(stored).stem, options) if _is_path(stored) else name


def find(name: str) -> Path:
    """The file of a stored set, by the set's name or by a path to it, with options or without.

    Raises:
        FileNotFoundError: there is none; the message says where it was looked for and what is there.
    """
    name, _ = parts(name)
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


def is_here(name: str) -> bool:
    """Whether a set is made, or its file is there."""
    try:
        return is_made(name) or bool(find(name))
    except FileNotFoundError:
        return False


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


def expected(name: str) -> str:
    """As :func:`digest`, but of a set that is not here what is known of its file: :data:`RECORDED`, or nothing."""
    stored, _ = parts(name)
    return digest(name) if is_here(name) else RECORDED.get(stored, "not here")


@functools.cache
def _digest(path: Path, size: int, changed: int) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
