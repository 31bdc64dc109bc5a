"""What is recorded of an experiment: tables of runs, numbers, curves and pictures that share the runs' keys."""

from __future__ import annotations

import hashlib
import io
import json
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from falloff import measures
from falloff.project import written
from falloff.run import Run
from falloff.study import subjects
from falloff.study.evidence import Evidence
from falloff.study.store import Measuring, told
from falloff.study.subjects import Subject

KEY = 12  # characters of a run's key that the tables have
DIGITS = 6  # of a recorded number
FILES = ("arms.csv", "runs.csv", "numbers.csv", "curves.csv", "pictures.npz")


@dataclass
class Tables:
    """The record of an experiment.

    Args:
        base: what all its runs share; of each the tables say what is other.
        runs: by key: ``changes`` from the base as JSON, ``code``, ``seconds``, ``device_model``, ``commit``,
            ``finished``; and ``failure`` where the training diverged.
        numbers: by key, then by the name of what was measured (its split and decoder): ``by``, the digest of the code
            that measured, and the metrics.
        curves: by key, a row for each evaluation along the way.
        pictures: by key, then by metric (and decoder, where that is not the system's own), what is a list of numbers.
        arms: which run has which ``arm``, ``role``, ``trial`` and ``decoder``, in the order of the plan.
        where: the machine, versions and data of the run that came last.
    """

    base: Run
    runs: dict[str, dict[str, Any]] = field(default_factory=dict)
    numbers: dict[str, dict[str, dict[str, Any]]] = field(default_factory=dict)
    curves: dict[str, list[dict[str, Any]]] = field(default_factory=dict)
    pictures: dict[str, dict[str, np.ndarray]] = field(default_factory=dict)
    arms: list[dict[str, Any]] = field(default_factory=list)
    where: dict[str, Any] = field(default_factory=dict)

    @property
    def reported(self) -> list[dict[str, Any]]:
        """The arms' runs that claims are judged on."""
        return [arm for arm in self.arms if arm["role"] == "reported"]

    def run(self, key: str) -> Subject:
        """The description of a run, or of a floor."""
        return subjects.of(self.base.describe() | json.loads(self.runs[key]["changes"]))

    def has(self, key: str, asked: Sequence[Measuring]) -> bool:
        """Whether a run is recorded with all that is asked of it, by today's code; one that failed has no numbers."""
        if key not in self.runs:
            return False
        found = self.numbers.get(key, {})
        return "failure" in self.runs[key] or all(
            one.title in found and found[one.title]["by"] == one.code for one in asked)

    def frame(self, arms: Iterable[Mapping[str, Any]] | None = None) -> pd.DataFrame:
        """One row for each of some arms' runs, or of all: the fields of the run, and what was measured of it.

        What was measured on the pictures for choosing is called ``val_...``; what was measured with another decoder
        than the arm's is left out: :meth:`measured` has it.
        """
        rows = []
        for arm in self.arms if arms is None else arms:
            key = arm["key"]
            row = self.run(key).describe() | dict(arm) | {
                name: self.runs[key].get(name) for name in ("failure", "seconds", "code")}
            for title, found in self.numbers.get(key, {}).items():
                split, reading = told(title)
                if reading == (arm.get("decoder") or ""):
                    prefix = "val_" if split in ("choosing", "val") else ""
                    row |= {prefix + metric: value for metric, value in found.items() if metric != "by"}
            rows.append(row | measures.along(self.curves.get(key, []), measures.METRICS))
        return pd.DataFrame(rows)

    def evidence(self) -> Evidence:
        """What claims are judged on: the runs that are reported, and their metrics that are known of each picture."""
        known: dict[str, np.ndarray] = {}
        for name in (one for one in measures.METRICS if one.endswith(measures.BY_PICTURE)):
            lists = [self.pictures.get(arm["key"], {}).get(_listed(name, arm.get("decoder"))) for arm in self.reported]
            lengths = {len(one) for one in lists if one is not None}
            if len(lengths) == 1:
                unknown = np.full(lengths.pop(), math.nan)
                known[name.removesuffix(measures.BY_PICTURE)] = np.array(
                    [unknown if one is None else one for one in lists])
        return Evidence(self.frame(self.reported), known)

    def measured(self) -> pd.DataFrame:
        """One row for each run of an arm and each split and decoder by which it was measured (``measured``)."""
        return pd.DataFrame([
            {**arm, "measured": title, **{metric: value for metric, value in found.items() if metric != "by"}}
            for arm in self.arms for title, found in self.numbers.get(arm["key"], {}).items()])

    def along(self) -> pd.DataFrame:
        """One row for each evaluation along the way of each run of an arm."""
        return pd.DataFrame([{**arm, **row} for arm in self.arms for row in self.curves.get(arm["key"], [])])

    def update(self, other: Tables) -> None:
        """Take over what another recorded of its runs, whatever its base."""
        for short in other.runs:
            self._describe(short, other.run(short), other.runs[short])
            for part in ("numbers", "curves", "pictures"):
                if short in getattr(other, part):
                    getattr(self, part)[short] = getattr(other, part)[short]
        self.where = other.where or self.where

    def only(self, arms: Sequence[Mapping[str, Any]]) -> None:
        """Keep what belongs to some arms' runs, in their order."""
        self.arms = [dict(arm) for arm in arms]
        kept = dict.fromkeys(arm["key"] for arm in arms)
        for part in ("runs", "numbers", "curves", "pictures"):
            old = getattr(self, part)
            setattr(self, part, {key: old[key] for key in kept if key in old})

    def add(self, key: str, run: Subject, row: Mapping[str, Any], found: Mapping[str, Mapping[str, Any]],
            curve: Sequence[Mapping[str, Any]]) -> None:
        """A run: what is said of it, what was measured of it by the name of the measuring, and its curve."""
        self._describe(key, run, row)
        self.numbers[key] = self.numbers.get(key, {}) | {
            title: {metric: rounded(value) for metric, value in numbers.items() if not isinstance(value, list)}
            for title, numbers in found.items()}
        lists = {_listed(metric, told(title)[1]): value for title, numbers in found.items()
                 for metric, value in numbers.items() if isinstance(value, list)}
        if lists:
            self.pictures[key] = self.pictures.get(key, {}) | {
                metric: np.asarray(value, np.float16) for metric, value in lists.items()}
        self.curves[key] = [{name: rounded(value) for name, value in point.items()} for point in curve]

    def _describe(self, key: str, run: Subject, row: Mapping[str, Any]) -> None:
        base = self.base.describe()
        changes = {name: value for name, value in run.describe().items() if name not in base or value != base[name]}
        self.runs[key] = {**row, "changes": json.dumps(changes, sort_keys=True)}

    def write(self, path: Path) -> dict[str, str]:
        """Write all beside ``path``, the manifest's; returns each file's SHA-256."""
        arms = [arm for arm in self.arms if arm["key"] in self.runs]
        runs = [{"key": key, **row} for key, row in self.runs.items()]
        numbers = [{"key": key, "measured": title, **found} for key, some in self.numbers.items()
                   for title, found in some.items()]
        curves = [{"key": key, **point} for key, some in self.curves.items() for point in some]
        contents = dict(zip(FILES, [*(_text(rows) for rows in (arms, runs, numbers, curves)), _packed(self.pictures)],
                            strict=True))
        if not self.pictures:
            del contents["pictures.npz"]
        for name, content in contents.items():
            with written(_file(path, name)) as temporary:
                temporary.write_bytes(content)
        return {name: hashlib.sha256(content).hexdigest() for name, content in contents.items()}

    @classmethod
    def read(cls, path: Path, base: Run, digests: Mapping[str, str]) -> Tables:
        """What :meth:`write` wrote.

        Raises:
            ValueError: a file is missing, or is not the one that the digests were taken of.
        """
        contents = {}
        if missing := [name for name in FILES[:4] if name not in digests]:
            raise ValueError(f"{path} has no digest of {missing[0]}")
        for name, digest in digests.items():
            try:
                contents[name] = _file(path, name).read_bytes()
            except OSError as error:
                raise ValueError(f"{_file(path, name)} cannot be read: {error}") from error
            if hashlib.sha256(contents[name]).hexdigest() != digest:
                raise ValueError(f"{_file(path, name)} is not the table that {path.name} was written for")
        arms, runs, numbers, curves = (_rows(contents[name]) for name in FILES[:4])
        tables = cls(base, {row.pop("key"): row for row in runs})
        for arm in arms:
            if "trial" in arm:
                arm["trial"] = int(arm["trial"])  # a column with gaps holds floats
            tables.arms.append(dict.fromkeys(("key", "arm", "role", "trial")) | arm)
        for row in numbers:
            tables.numbers.setdefault(row.pop("key"), {})[row.pop("measured")] = row
        for row in curves:
            tables.curves.setdefault(row.pop("key"), []).append(row)
        tables.pictures = _unpacked(contents["pictures.npz"]) if "pictures.npz" in contents else {}
        return tables


def rounded(value: Any) -> Any:
    """A number as it is recorded."""
    return float(f"{value:.{DIGITS}g}") if isinstance(value, float) and math.isfinite(value) else value


def _listed(metric: str, reading: str | None) -> str:
    """What a list of numbers is called, as read by a decoder."""
    return f"{metric} {reading or ''}".strip()


def _file(path: Path, name: str) -> Path:
    return path.with_name(f"{path.stem}.{name}")


def _packed(pictures: Mapping[str, Mapping[str, np.ndarray]]) -> bytes:
    """Lists of equal length as one array with a column for each run: side by side they take the least room."""
    alike: dict[str, dict[str, np.ndarray]] = {}
    for key, some in pictures.items():
        for metric, values in some.items():
            alike.setdefault(f"{metric}/{len(values)}", {})[key] = values
    arrays: dict[str, Any] = {}
    for name, lists in alike.items():
        arrays |= {name: np.stack(list(lists.values()), axis=1), f"{name}/keys": np.array(list(lists))}
    content = io.BytesIO()
    np.savez_compressed(content, **arrays)
    return content.getvalue()


def _unpacked(content: bytes) -> dict[str, dict[str, np.ndarray]]:
    pictures: dict[str, dict[str, np.ndarray]] = {}
    with np.load(io.BytesIO(content)) as packed:
        for name in packed.files:
            if not name.endswith("/keys"):
                for key, values in zip(packed[f"{name}/keys"].tolist(), packed[name].T, strict=True):
                    pictures.setdefault(key, {})[name.split("/")[0]] = values
    return pictures


def _text(rows: Sequence[Mapping[str, Any]]) -> bytes:
    """Rows as CSV; what a row does not have is empty."""
    table = pd.DataFrame(rows)
    if "trial" in table:
        table["trial"] = table["trial"].astype("Int64")
    return table.to_csv(index=False).encode()


def _rows(content: bytes) -> list[dict[str, Any]]:
    """The rows of a CSV, each without what is empty in it."""
    if not content.strip():
        return []
    table = pd.read_csv(io.BytesIO(content), dtype=dict.fromkeys(("key", "by", "code", "commit"), str))
    return [{str(name): value for name, value in row.items() if not pd.isna(value)}
            for row in table.to_dict("records")]
