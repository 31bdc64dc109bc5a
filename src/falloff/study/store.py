"""Finished runs on disk, each under the digest of all that determines it, and what was measured of them."""

from __future__ import annotations

import contextlib
import functools
import hashlib
import io
import json
import logging
import math
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal

import torch
from filelock import FileLock

from falloff import data, digests, losses, measures, sets, training
from falloff.data import Dataset
from falloff.measures import Measured
from falloff.points import Points
from falloff.project import clear, commit, project_root, written
from falloff.recipe import Recipe
from falloff.run import Option, Run
from falloff.study.progress import PREFIX
from falloff.suppression import between_classes
from falloff.systems import Outputs, System, Task
from falloff.training import Record, train

log = logging.getLogger(__name__)

FORMAT = 3
CHECKPOINT_EVERY = 60.0  # seconds of training between two checkpoints

# As this process loaded it: an edit since then must not be taken for what computes here.
_CODE = digests.package()
# What a run says of its ingredients; its other fields are values alone.
_PARTS = ("dataset", "size", "system", "system_options", "model", "model_options", "width", "loss", "loss_options",
          "augment", "watched")


def identity(run: Run) -> dict[str, str]:
    """What determines a training, part by part: description, code, libraries, data.

    The description has every default filled in, precision and form resolved, and of the device its kind alone. A stored
    data set is known by its content, wherever its file is and whatever it is called. The code is the modules that
    compute this run: those of its own system, net, loss, reader and watched metrics, found from the objects that it is
    made of, the loop, and what they import; the libraries are what these import, at public versions.
    """
    described = run.describe() | {"device": torch.device(run.device).type}
    code, libraries = _made_of(json.dumps({part: described[part] for part in _PARTS}, sort_keys=True))
    described["dataset"] = sets.kind(run.dataset)
    return {"run": json.dumps(described, sort_keys=True), "code": code, "libraries": libraries,
            "data": sets.expected(run.dataset)}


def key(run: Run) -> str:
    """Digest of all that determines a run: see :func:`identity`."""
    return _digest(identity(run))


def ingredients(run: Run) -> dict[str, digests.Source]:
    """The modules that compute a run, by name."""
    typical = Points.from_lists([([], [])])
    with torch.random.fork_rng(devices=[]):
        system = Recipe(run.replace(bias=0.0)).system_for(Task(1, (run.size or 64,) * 2, 1, typical))
    kinds: set[type] = {type(part) for part in system.modules()}
    if run.loss is not None:
        kinds.add(type(losses.make(run.loss, **run.loss_options)))
    found = {base.__module__ for kind in kinds for base in kind.__mro__}
    found |= {data.reader(run.dataset).__module__, *(measures.get(name).of.__module__ for name in run.watched)}
    if run.augment:
        found.add("falloff.data.augment")
    mine = {name for name in found if name.split(".")[0] not in {"torch", *sys.stdlib_module_names}}
    return digests.ingredients({"falloff.training", *mine}, _CODE)


@functools.lru_cache(maxsize=4096)
def _made_of(parts: str) -> tuple[str, str]:
    """The digest of the code of runs with these parts, and the libraries."""
    return made_of(ingredients(Run.of({**json.loads(parts), "steps": 1, "evaluations": 1})))


def made_of(found: Mapping[str, digests.Source]) -> tuple[str, str]:
    """The digest of some modules, and the libraries that they import, as JSON."""
    code = digests.of_text(*(text for name, source in found.items() for text in (name, source.digest)))
    return code, json.dumps(digests.libraries(found.values()))


def _digest(parts: Mapping[str, Any]) -> str:
    return digests.of_text(json.dumps(parts, sort_keys=True))[:24]


@dataclass(frozen=True, kw_only=True)
class Measuring:
    """What is measured of a trained system, and how.

    Args:
        split: of the run's data set.
        metrics: by name, :data:`falloff.measures.STANDARD` by default.
        decoder: options of the system's decoder in place of its own; and ``apart``, pixels: how near to a better
            prediction, of whatever class, one is left out.
        threshold: the score from which a prediction counts where a metric needs one: the best on validation images with
            the same decoder, the best on the split itself ("own"), or a number. Recalibrations are fitted on validation
            images, and are NaN there and with "own".
        reference: the split that holds the validation images.
    """

    split: str = "test"
    metrics: tuple[str, ...] = measures.STANDARD
    decoder: Mapping[str, Option] = field(default_factory=dict)
    threshold: Literal["validation", "own"] | float = "validation"
    reference: str = "val"

    def __hash__(self) -> int:
        return hash((self.name, self.metrics))

    @property
    def name(self) -> str:
        """What identifies it, whatever the metrics."""
        threshold = self.threshold if self.reference == "val" else f"{self.threshold} on {self.reference}"
        return _digest({"split": self.split, "decoder": dict(self.decoder), "threshold": threshold})

    @property
    def reading(self) -> str:
        """The decoder in words, empty where it is the system's own: see :func:`options`."""
        return " ".join(f"{option}={value}" for option, value in sorted(self.decoder.items()))

    @property
    def title(self) -> str:
        """What it is called in a table: the split, and the decoder where that is not the system's own."""
        return f"{self.split} {self.reading}".strip()

    @property
    def code(self) -> str:
        """The digest of the metrics and of the code that computes them."""
        return _digest({name: _metric_code(name) for name in self.metrics})[:12]

    def missing(self, numbers: Mapping[str, Any] | None) -> list[str]:
        """The metrics that are not among some stored numbers, or were computed by other code."""
        known = numbers["code"] if numbers else {}
        return [name for name in self.metrics if known.get(name) != _metric_code(name)]


def told(title: str) -> tuple[str, str]:
    """The split and the decoder that :attr:`Measuring.title` names, the decoder as :attr:`Measuring.reading`."""
    split, _, reading = title.partition(" ")
    return split, reading


def options(reading: str) -> dict[str, Option]:
    """The options of a decoder that :attr:`Measuring.reading` tells in words."""
    found: dict[str, Option] = {}
    for word in reading.split():
        option, _, value = word.partition("=")
        found[option] = json.loads(value) if value[0] in "-.0123456789" else value
    return found


VALIDATION, FINAL = Measuring(split="val", threshold="own"), Measuring()


@functools.cache
def _metric_code(name: str) -> str:
    found = digests.ingredients({measures.get(name).of.__module__}, _CODE)
    return _digest({module: source.digest for module, source in found.items()})[:12]


class Store:
    """Finished runs in a folder, ``runs`` of the project by default.

    ``records`` under it holds one JSON file a training: description, curve, wall time, versions, machine, digests of
    code and data, commit. ``weights`` has the systems' states, ``measured`` the numbers that were measured of them,
    ``checkpoints`` the states of trainings under way. Each file is written to a temporary name, flushed and renamed, so
    it is there whole or not at all. Each run has a lock while it is computed, released by the system when its holder
    dies: of two processes that want one run, one computes it and both get it.
    """

    def __init__(self, folder: Path | str | None = None) -> None:
        self.folder = (Path(folder) if folder is not None else project_root() / "runs").absolute()

    def entry(self, run: Run) -> Entry:
        """The place of a run."""
        return Entry(self.folder, run)

    def get(self, run: Run) -> Record | None:
        """The record of a run with its weights and what is measured of it by default, or None."""
        return self.entry(run).get()

    def put(self, record: Record) -> Path:
        """Store a record, with what is measured of it; returns its file."""
        return self.entry(record.run).put(record)

    def get_or_train(
        self, run: Run, asked: Sequence[Measuring] = (VALIDATION, FINAL), train: Callable[..., Record] = train
    ) -> Record:
        """The record of a run, trained by ``train(run, checkpoint=...)`` and measured as far as the store lacks it."""
        return self.entry(run).get_or_train(asked, train)


class Entry:
    """The place of one run in a store: what it is called there, and its files."""

    def __init__(self, folder: Path, run: Run) -> None:
        self.folder, self.run = folder, run

    @functools.cached_property
    def identity(self) -> dict[str, str]:
        """What determines the run: :func:`identity`."""
        return identity(self.run)

    @functools.cached_property
    def key(self) -> str:
        """What it is called."""
        return _digest(self.identity)

    def file(self, kind: str) -> Path:
        """Of "records", "measured", "weights", "checkpoints" or "locks"."""
        return self.folder / kind / f"{self.key}.{_ENDINGS[kind]}"

    def read(self) -> dict[str, Any] | None:
        """The content of the record, or None. A damaged or foreign file is set aside with a warning."""
        return self._json("records", _NEEDED)

    def numbers(self, stored: Mapping[str, Any], asked: Measuring) -> dict[str, Any] | None:
        """What was measured of the record that was read, or None where a metric is missing."""
        found = self._measured(stored).get(asked.name, {})
        return None if asked.missing(found) else {metric: found["numbers"][metric] for metric in asked.metrics}

    def get(self) -> Record | None:
        """As :meth:`Store.get`."""
        stored = self.read()
        if stored is None:
            return None
        weights: dict[str, Any] = {}
        try:
            if stored["weights"]:
                content = self.file("weights").read_bytes()
                if hashlib.sha256(content).hexdigest() != stored["weights"]:
                    raise ValueError("it is not the net of this record")
                weights = torch.load(io.BytesIO(content), weights_only=True, map_location="cpu")
        except Exception as error:  # a net that is gone or damaged can only be trained again
            _set_aside(self.file("weights"), error)
            self.file("records").unlink(missing_ok=True)
            return None
        return Record(self.run, **{part: stored[part] for part in _STORED}, weights=weights,
                      validation=self.numbers(stored, VALIDATION) or {}, final=self.numbers(stored, FINAL) or {})

    def put(self, record: Record) -> Path:
        """As :meth:`Store.put`."""
        net = io.BytesIO()
        if record.weights:
            torch.save(record.weights, net)
        content = {
            "format": FORMAT,
            "key": self.key,
            "run": record.run.describe(),
            **{part: getattr(record, part) for part in _STORED},
            "weights": hashlib.sha256(net.getvalue()).hexdigest() if record.weights else None,
            **{part: self.identity[part] for part in ("code", "libraries", "data")},
            **commit(),
            "finished": datetime.now(UTC).isoformat(timespec="seconds"),
        }
        text = _lines(content)
        if record.weights:
            with written(self.file("weights")) as temporary:
                temporary.write_bytes(net.getvalue())
        with written(self.file("records")) as temporary:
            temporary.write_text(text, encoding="utf-8")
        self._add(content, {VALIDATION: record.validation, FINAL: record.final})
        return self.file("records")

    def get_or_train(self, asked: Sequence[Measuring], train: Callable[..., Record]) -> Record:
        """As :meth:`Store.get_or_train`."""
        record, stored = self.get(), self.read()
        if record is not None and stored is not None and all(self.numbers(stored, one) is not None for one in asked):
            return record
        with self._locked():
            record = self.get()  # another process may have just finished it
            if record is None:
                for one in asked:  # a split that is missing is named before the training, not after it
                    data.load(self.run.dataset, one.split, self.run.size)
                record = train(self.run, checkpoint=CheckpointFile(self.file("checkpoints")))
                self.put(record)
            self.file("checkpoints").unlink(missing_ok=True)  # also that of a process killed before it came here
            stored = self.read()
            assert stored is not None
            splits: dict[str, tuple[Dataset, System, Outputs]] = {}
            for one in asked:
                self._measure(stored, record, one, splits)
        return self.get() or record

    def _measure(
        self, stored: Mapping[str, Any], record: Record, asked: Measuring,
        splits: dict[str, tuple[Dataset, System, Outputs]],
    ) -> None:
        """Compute from the weights what the store lacks of the numbers asked for; for the holder of the lock.

        ``splits`` keeps what the system puts out for each, which decoders share.
        """
        if missing := asked.missing(self._measured(stored).get(asked.name)):
            with Recipe(self.run).pinned():
                found = self._said(record, asked, splits).numbers({name: measures.get(name) for name in missing})
            self._add(stored, {asked: {metric: found.get(metric, math.nan) for metric in missing}})

    def _said(
        self, record: Record, asked: Measuring, splits: dict[str, tuple[Dataset, System, Outputs]]
    ) -> Measured:
        """What the system says of a split, beside what it says of the validation split where something asks for it."""
        run = self.run
        if asked.split not in splits:
            dataset, system = data.load(run.dataset, asked.split, run.size), record.system().to(run.device)
            splits[asked.split] = dataset, system, training.outputs(system, dataset, run)
        dataset, system, outputs = splits[asked.split]
        decoder = dict(asked.decoder)
        apart = decoder.pop("apart", None)
        said = training.read(system, dataset, outputs, **decoder)
        if apart is not None:
            said = replace(said, points=between_classes(said.points, apart))  # type: ignore[arg-type]
        alone = asked.split == asked.reference or asked.threshold == "own"
        refer = None if alone else functools.partial(self._said, record, replace(asked, split=asked.reference), splits)
        given = None if isinstance(asked.threshold, str) else asked.threshold
        return Measured(said, dataset, given, refer, record)

    def _measured(self, stored: Mapping[str, Any]) -> dict[str, Any]:
        """All that was measured of these very weights."""
        found = self._json("measured", {"measured", "weights"})
        return found["measured"] if found and found["weights"] == stored["weights"] else {}

    def _add(self, stored: Mapping[str, Any], found: Mapping[Measuring, Mapping[str, float]]) -> None:
        """Keep numbers beside those that are there."""
        measured = self._measured(stored)
        for asked, numbers in found.items():
            old = measured.get(asked.name, {"numbers": {}, "code": {}})
            measured[asked.name] = {
                "split": asked.split, "decoder": dict(asked.decoder), "threshold": asked.threshold,
                "numbers": old["numbers"] | dict(numbers),
                "code": old["code"] | {metric: _metric_code(metric) for metric in numbers},
            }
        if any(found.values()):
            content = {"format": FORMAT, "key": self.key, "weights": stored["weights"], "measured": measured}
            with written(self.file("measured")) as temporary:
                temporary.write_text(_lines(content), encoding="utf-8")

    @contextlib.contextmanager
    def _locked(self) -> Iterator[None]:
        """One process at a time; the lock's file goes with the lock."""
        path = self.file("locks")
        path.parent.mkdir(parents=True, exist_ok=True)
        another = path.exists()  # and if it holds the lock no more when this process gets it, it may have been killed
        with FileLock(path):
            if another:
                for kind in _ENDINGS:
                    clear(self.file(kind))
            try:
                yield
            finally:
                path.unlink(missing_ok=True)  # one who waits for it sees that it is gone, and asks for a new one

    def _json(self, kind: str, needed: set[str]) -> dict[str, Any] | None:
        path = self.file(kind)
        try:
            content = path.read_bytes()  # trouble of the machine's is raised here, and is not the record's
        except FileNotFoundError:
            return None
        try:
            stored = json.loads(content)
            if stored["format"] != FORMAT or stored["key"] != self.key:
                raise ValueError("it holds something else")
            if missing := needed - stored.keys():
                raise ValueError(f"it lacks {', '.join(sorted(missing))}")
            return stored
        except Exception as error:  # whatever a damaged file makes the reader raise
            _set_aside(path, error)
            return None


def _set_aside(path: Path, error: Exception) -> None:
    aside = path.with_name(path.name + ".damaged")
    log.warning("%s%s cannot be used (%s: %s); it is set aside as %s and what it held is done again", PREFIX, path.name,
                type(error).__name__, error, aside.name)
    with contextlib.suppress(FileNotFoundError):
        path.replace(aside)


def _lines(content: Mapping[str, Any]) -> str:
    """JSON with a line for each part."""
    return "{\n" + ",\n".join(f"{json.dumps(part)}: {json.dumps(value)}" for part, value in content.items()) + "\n}\n"


class CheckpointFile:
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


_ENDINGS = {"records": "json", "measured": "json", "weights": "pt", "checkpoints": "pt", "locks": "lock"}
_STORED = ("curve", "seconds", "versions", "machine")
_NEEDED = {*_STORED, "run", "weights", "code", "libraries", "data", "commit", "clean", "finished"}


def flat(stored: Mapping[str, Any], validation: Mapping[str, float], final: Mapping[str, float]) -> dict[str, Any]:
    """One row of a table: the run's fields, its final metrics, those on validation (``val_...``), and of its curve."""
    row = stored["run"] | final | {f"val_{name}": value for name, value in validation.items()}
    row |= measures.along(stored["curve"], measures.METRICS)
    return row | {"seconds": stored["seconds"], "device_model": stored["machine"]["model"]}
