"""Finished runs on disk: one record each, under the digest of all that determines it."""

from __future__ import annotations

import contextlib
import hashlib
import io
import json
import logging
import math
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import torch
from filelock import FileLock

from falloff import data, digests, losses
from falloff.project import clear, commit, project_root, written
from falloff.study.progress import SAYS
from falloff.training import Record, Run, train

log = logging.getLogger(__name__)

FORMAT = 2
REACHED = 0.8  # the AP of which ``steps_to_ap`` tells when a run reached it
CHECKPOINT_EVERY = 60.0  # seconds of training between two checkpoints

# Of the code as this process loaded it: an edit since then must not be taken for what computes here.
_CODE = {
    module: digests.of_modules(["falloff.training", module], apart=losses.modules().values())
    for module in set(losses.modules().values())
}


def identity(run: Run) -> dict[str, str]:
    """What determines a run, part by part: description, code, data, torch's version.

    The description has every default filled in, the precision resolved, and of the device its kind alone. The code is
    the modules that a training imports, directly or not, but of those that hold losses only the one with the run's own.
    """
    described = run.describe() | {"device": torch.device(run.device).type}
    return {
        "run": json.dumps(described, sort_keys=True),
        "code": _CODE[losses.modules()[run.loss]],
        "data": data.digest(run.dataset),
        "torch": torch.__version__,
    }


def key(run: Run) -> str:
    """Digest of all that determines a run: see :func:`identity`."""
    return _digest(identity(run))


def _digest(parts: dict[str, str]) -> str:
    return digests.of_text(json.dumps(parts, sort_keys=True))[:24]


class Store:
    """Finished runs in a folder, ``runs`` of the project by default.

    ``records`` under it holds one JSON file a run: description, measurements along the way and at the end, wall time,
    versions, machine, digests of code and data, commit. ``weights`` has the nets, ``checkpoints`` those of trainings
    under way. Each file is written to a temporary name, flushed and renamed, so it is there whole or not at all. Each
    run has a lock while it is computed, released by the system when its holder dies: of two processes that want one
    run, one computes it and both get it.
    """

    def __init__(self, folder: Path | str | None = None) -> None:
        self.folder = (Path(folder) if folder is not None else project_root() / "runs").absolute()
        self.records = self.folder / "records"

    def read(self, name: str) -> dict[str, Any] | None:
        """The content of the record with that key, or None. A damaged or foreign file is set aside with a warning."""
        path = self._record(name)
        try:
            content = path.read_bytes()  # trouble of the machine's is raised here, and is not the record's
        except FileNotFoundError:
            return None
        try:
            stored = json.loads(content)
            if stored["format"] != FORMAT or stored["key"] != name:
                raise ValueError("it holds something else")
            if missing := _NEEDED - stored.keys():
                raise ValueError(f"it lacks {', '.join(sorted(missing))}")
            return stored
        except Exception as error:  # whatever a damaged file makes the reader raise
            self._set_aside(path, error)
            return None

    def get(self, run: Run) -> Record | None:
        """The record of a run with its weights, or None."""
        name = key(run)
        stored = self.read(name)
        if stored is None:
            return None
        path, weights = self._weights(name), {}
        try:
            if stored["weights"]:
                content = path.read_bytes()
                if hashlib.sha256(content).hexdigest() != stored["weights"]:
                    raise ValueError("it is not the net of this record")
                weights = torch.load(io.BytesIO(content), weights_only=True, map_location="cpu")
        except Exception as error:  # a net that is gone or damaged can only be trained again
            self._set_aside(path, error)
            self._record(name).unlink(missing_ok=True)
            return None
        return Record(run, **{part: stored[part] for part in _STORED}, weights=weights)

    def put(self, record: Record) -> Path:
        """Store a record; returns its file."""
        parts = identity(record.run)
        name, net = _digest(parts), io.BytesIO()
        if record.weights:
            torch.save(record.weights, net)
        content = {
            "format": FORMAT,
            "key": name,
            "run": record.run.describe(),
            **{part: getattr(record, part) for part in _STORED},
            "weights": hashlib.sha256(net.getvalue()).hexdigest() if record.weights else None,
            "code": parts["code"],
            "data": parts["data"],
            **commit(),
            "finished": datetime.now(UTC).isoformat(timespec="seconds"),
        }
        if record.weights:
            with written(self._weights(name)) as temporary:
                temporary.write_bytes(net.getvalue())
        lines = (f"{json.dumps(part)}: {json.dumps(value)}" for part, value in content.items())
        with written(self._record(name)) as temporary:
            temporary.write_text("{\n" + ",\n".join(lines) + "\n}\n", encoding="utf-8")
        return self._record(name)

    def get_or_train(self, run: Run, train: Callable[..., Record] = train) -> Record:
        """The record of a run: read, or computed by ``train(run, checkpoint=...)`` and stored."""
        record = self.get(run)
        if record is not None:
            return record
        name = key(run)
        with self._locked(name):
            record = self.get(run)  # another process may have just finished it
            if record is None:
                checkpoint = Checkpoint(self.folder / "checkpoints" / f"{name}.pt")
                record = train(run, checkpoint=checkpoint)
                self.put(record)
                checkpoint.remove()
        return record

    @contextlib.contextmanager
    def _locked(self, name: str) -> Iterator[None]:
        """One process at a time; the lock's file goes with the lock."""
        path = self.folder / "locks" / f"{name}.lock"
        path.parent.mkdir(parents=True, exist_ok=True)
        another = path.exists()  # and if it holds the lock no more when this process gets it, it may have been killed
        with FileLock(path):
            if another:
                for file in (self._record(name), self._weights(name), self.folder / "checkpoints" / f"{name}.pt"):
                    clear(file)
            try:
                yield
            finally:
                path.unlink(missing_ok=True)  # one who waits for it sees that it is gone, and asks for a new one

    def _set_aside(self, path: Path, error: Exception) -> None:
        aside = path.with_name(path.name + ".damaged")
        log.warning("%s%s cannot be used (%s: %s); it is set aside as %s and the run is done again", SAYS, path.name,
                    type(error).__name__, error, aside.name)
        with contextlib.suppress(FileNotFoundError):
            path.replace(aside)

    def _record(self, name: str) -> Path:
        return self.records / f"{name}.json"

    def _weights(self, name: str) -> Path:
        return self.folder / "weights" / f"{name}.pt"


class Checkpoint:
    """The state of one training in a file, saved once in a while: see :class:`falloff.training.Checkpoint`."""

    def __init__(self, path: Path, every: float | None = None) -> None:
        self.path = path
        self.every = CHECKPOINT_EVERY if every is None else every
        self.last = time.monotonic()

    def load(self) -> dict[str, Any] | None:
        """The last state, or None; a damaged one is left out with a warning: the training starts anew."""
        try:
            digest, content = self.path.read_bytes().split(b"\n", 1)
            if hashlib.sha256(content).hexdigest().encode() != digest:
                raise ValueError("it is not as it was written")
            return torch.load(io.BytesIO(content), weights_only=True, map_location="cpu")
        except FileNotFoundError:
            return None
        except Exception as error:  # whatever a damaged file makes the reader raise
            log.warning("%s cannot be used (%s); the training starts anew", self.path.name, error)
            return None

    def due(self) -> bool:
        """Whether the last one is old enough."""
        return time.monotonic() - self.last >= self.every

    def save(self, state: dict[str, Any]) -> None:
        """Write it in place of the last."""
        content = io.BytesIO()
        torch.save(state, content)
        digest = hashlib.sha256(content.getvalue()).hexdigest().encode()
        with written(self.path) as temporary:
            temporary.write_bytes(digest + b"\n" + content.getvalue())
        self.last = time.monotonic()

    def remove(self) -> None:
        """Drop it: the record is stored."""
        self.path.unlink(missing_ok=True)


_STORED = ("curve", "validation", "final", "seconds", "versions", "machine")
_NEEDED = {*_STORED, "run", "weights", "code", "data", "commit", "clean", "finished"}

# What falloff.training.measure gives; named here, since that module is part of every key.
_METRICS = ("ap", "ap_worst_class", "ap_1", "ap_4", "f1", "threshold", "error", "score_at_points", "score_elsewhere",
            "class_accuracy", "presence_auroc", "calibration_error")
# The measured columns of a run that failed.
UNKNOWN = {
    **dict.fromkeys([*_METRICS, *(f"val_{name}" for name in _METRICS), "steps_to_ap", "seconds"], math.nan),
    "device_model": None,
}


def flat(stored: dict[str, Any]) -> dict[str, Any]:
    """One row of a table: the run's fields, its final metrics, what validation gave (``val_...``), and more.

    ``steps_to_ap`` is the first evaluated step at which the AP on validation images reached 0.8, NaN if it never did.
    """
    row = stored["run"] | stored["final"]
    row |= {f"val_{name}": value for name, value in stored["validation"].items()}
    row["steps_to_ap"] = next((at["step"] for at in stored["curve"] if at["ap"] >= REACHED), math.nan)
    return row | {"seconds": stored["seconds"], "device_model": stored["machine"]["model"]}
