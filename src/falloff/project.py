"""The project's checkout: where its files are, how one is written whole or not at all, and which commit it is at."""

from __future__ import annotations

import contextlib
import functools
import os
import secrets
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

PACKAGE = Path(__file__).resolve().parent


def project_root() -> Path:
    """The folder that holds the project: of ``FALLOFF_ROOT``, or the checkout, or without one the current folder."""
    above = PACKAGE.parents[1]
    return Path(os.environ.get("FALLOFF_ROOT") or (above if (above / "notebooks").is_dir() else Path.cwd()))


def carried(*parts: str) -> Path:
    """A file or folder of the project that is read only; where it is not there, the copy that a wheel carries."""
    path, copy = project_root().joinpath(*parts), PACKAGE.joinpath("carried", *parts)
    return copy if copy.exists() and not path.exists() else path


@contextlib.contextmanager
def written(path: Path) -> Iterator[Path]:
    """A temporary name to write to; on success flushed to disk and renamed to ``path``, else removed.

    The file has the permissions that any new file gets here.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(8)}")
    temporary.touch(exist_ok=False)  # the umask counts, as it would not for a file of the module tempfile
    try:
        yield temporary
        with temporary.open("rb+") as file:
            os.fsync(file.fileno())
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def clear(path: Path) -> None:
    """Remove the temporary files of killed writers of ``path``. Only the holder of its lock may call this."""
    for left in path.parent.glob(f".{path.name}.*"):
        left.unlink(missing_ok=True)


@functools.cache
def commit() -> dict[str, Any]:
    """The commit of the project's checkout and whether its files were as committed; "unknown" outside one.

    What is recorded does not count: a recording writes it as it goes.
    """
    try:
        head = _git("rev-parse", "HEAD")
        changed = _git("status", "--porcelain", "--", ":/", ":(top,exclude,glob)data/recorded/**")
        return {"commit": head, "clean": changed == ""}
    except (OSError, subprocess.CalledProcessError):
        return {"commit": "unknown", "clean": False}


def _git(*words: str) -> str:
    done = subprocess.run(["git", *words], cwd=PACKAGE, capture_output=True, text=True, check=True)
    return done.stdout.strip()
