"""Where the project's files are, and how one is written so that it is there whole or not at all."""

from __future__ import annotations

import contextlib
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

from falloff.study import digests


def project_root() -> Path:
    """The folder that holds the project: of ``FALLOFF_ROOT``, or the one above ``src``."""
    return Path(os.environ.get("FALLOFF_ROOT") or digests.PACKAGE.parents[1])


@contextlib.contextmanager
def written(path: Path) -> Iterator[Path]:
    """A temporary name to write to; on success flushed to disk and renamed to ``path``, else removed."""
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
    os.close(handle)
    temporary = Path(name)
    try:
        yield temporary
        with temporary.open("rb+") as file:
            os.fsync(file.fileno())
        temporary.chmod(0o644)
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def clear(path: Path) -> None:
    """Remove what writers of ``path`` that were killed left behind; for the holder of its lock, who alone writes it."""
    for left in path.parent.glob(f".{path.name}.*"):
        left.unlink(missing_ok=True)
