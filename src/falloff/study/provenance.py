"""Where numbers came from: commit, versions, machine."""

from __future__ import annotations

import functools
import subprocess
from typing import Any

from falloff.study import digests


@functools.cache
def commit() -> dict[str, Any]:
    """The commit of the project's checkout and whether its files were as committed; "unknown" outside one.

    The verdict of a replay does not count: no number comes from it.
    """
    try:
        head = _git("rev-parse", "HEAD")
        changed = _git("status", "--porcelain", "--", ":/", ":(top,exclude,glob)data/recorded/*/verified.json")
        return {"commit": head, "clean": changed == ""}
    except (OSError, subprocess.CalledProcessError):
        return {"commit": "unknown", "clean": False}


def _git(*words: str) -> str:
    done = subprocess.run(["git", *words], cwd=digests.PACKAGE, capture_output=True, text=True, check=True)
    return done.stdout.strip()
