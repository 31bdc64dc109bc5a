"""Finished runs on disk: one record each, under the digest of all that determines it."""

from __future__ import annotations

import contextlib
import io
import json
import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from filelock import FileLock

from falloff import data
from falloff.study import digests
from falloff.study.files import project_root, written
from falloff.study.provenance import commit
from falloff.training import Record, Run, train

log = logging.getLogger(__name__)

FORMAT = 1
# Of the code as this process loaded it: an edit since then must not be taken for what computes here.
_CODE = digests.of_modules(["falloff.training"])


def key(run: Run) -> str:
    """Digest of all that determines a run: description, code, data, precision, kind of device, torch's version."""
    parts = {
        "run": run.describe(),
        "code": _CODE,
        "data": data.digest(run.dataset),
        "torch": torch.__version__,
    }
    return digests.of_text(json.dumps(parts, sort_keys=True))[:24]


class Store:
    """Records of finished runs in a folder, ``runs/records`` of the project by default.

    A record is written to a temporary name, flushed and renamed, so it is there whole or not at all. Each run has a
    lock, released by the system when its holder dies: of two processes that want one run, one computes it and both
    get it.
    """

    def __init__(self, folder: Path | str | None = None) -> None:
        self.folder = Path(folder) if folder is not None else project_root() / "runs" / "records"

    def get(self, run: Run) -> Record | None:
        """The record of a run, or None. A damaged or foreign file is set aside with a warning."""
        path = self.path(run)
        try:
            content = path.read_bytes()  # trouble of the machine's is raised here, and is not the record's
        except FileNotFoundError:
            return None
        try:
            stored = torch.load(io.BytesIO(content), weights_only=True, map_location="cpu")
            if stored["format"] != FORMAT or stored["run"] != run.describe():
                raise ValueError("it describes something else")
            return Record(run, **{name: stored[name] for name in _FIELDS})
        except Exception as error:  # whatever a damaged file makes the reader raise
            aside = path.with_suffix(".damaged")
            log.warning("%s cannot be used (%s: %s); it is set aside as %s and the run is done again",
                        path.name, type(error).__name__, error, aside.name)
            with contextlib.suppress(FileNotFoundError):
                path.replace(aside)
            return None

    def put(self, record: Record) -> Path:
        """Store a record; returns its file. A readable summary is written beside it."""
        path = self.path(record.run)
        content = {name: getattr(record, name) for name in _FIELDS}
        content["versions"] = {name: str(version) for name, version in record.versions.items()}  # torch's is a class
        with written(path) as temporary:
            torch.save({"format": FORMAT, "run": record.run.describe(), **content}, temporary)
        summary = {"run": record.run.describe(), **{k: v for k, v in content.items() if k != "weights"}, **commit()}
        with written(path.with_suffix(".json")) as temporary:
            temporary.write_text(json.dumps(summary, indent=1), encoding="utf-8")
        return path

    def get_or_train(self, run: Run, progress: Callable[[int, int], None] | None = None) -> Record:
        """The record of a run: read, or trained and stored."""
        record = self.get(run)
        if record is not None:
            return record
        self.folder.mkdir(parents=True, exist_ok=True)
        with FileLock(self.path(run).with_suffix(".lock")):
            record = self.get(run)  # another process may have just finished it
            if record is None:
                record = train(run, progress)
                self.put(record)
        return record

    def path(self, run: Run) -> Path:
        """The file of a run's record."""
        return self.folder / f"{key(run)}.pt"


_FIELDS = ("curve", "validation", "final", "seconds", "versions", "machine", "weights")


def flat(record: Record) -> dict[str, Any]:
    """One row of a table: the run's fields, its final metrics, and what validation gave (``val_...``)."""
    row = record.run.describe()
    row |= record.final
    row |= {f"val_{name}": value for name, value in record.validation.items()}
    return row | {"seconds": record.seconds, "device_model": record.machine["model"]}
