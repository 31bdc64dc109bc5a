"""Papers beside the study: what others found (``data/published.yml``), and the same difference in the record."""

from __future__ import annotations

import itertools
import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import MISSING, dataclass, fields
from pathlib import Path
from typing import Any

import yaml

from falloff import measures
from falloff.checks import check_finite_number, check_one_of, nearest
from falloff.project import project_root
from falloff.study import claims, evidence
from falloff.study.evidence import Evidence
from falloff.study.experiments import EXPERIMENTS
from falloff.study.statistics import Interval

__all__ = ["Counterpart", "Published", "load"]

SIGNS = ("the same sign", "the opposite sign", "open, as the interval holds 0")


@dataclass(frozen=True)
class Counterpart:
    """The same difference in the record: of two arms of an experiment in a metric, first minus second."""

    experiment: str
    metric: str
    difference: tuple[str, str]


@dataclass(frozen=True, kw_only=True)
class Published:
    """One row of ``data/published.yml``, whose head says what its fields are."""

    name: str
    question: str
    source: tuple[str, ...]
    where: str
    compared: str
    task: str
    metric: str
    numbers: Mapping[str, float | str]
    difference: tuple[str, str]
    ours: Counterpart | None = None
    no_counterpart: str = ""
    lower_is_better: bool = False
    note: str = ""

    @property
    def gain(self) -> str | None:
        """Their difference, with its sign and as many digits as the numbers have; None where one is no number."""
        first, second = (self.numbers[name] for name in self.difference)
        if isinstance(first, str) or isinstance(second, str):
            return None
        return f"{first - second:+.{max(map(_digits, (first, second)))}f}"

    def measure(self, given: Evidence) -> Interval:
        """Our difference with its 95 % interval, for new seeds, which are taken as independent.

        It is for new pictures, too, where the metric is known of each picture.

        Args:
            given: of the counterpart's experiment.

        Raises:
            ValueError: there is no counterpart, or the evidence lacks an arm or the metric; the message names the row.
        """
        if self.ours is None:
            raise ValueError(f"published row {self.name} has no counterpart: {self.no_counterpart}")
        first, second = self.ours.difference
        pictures = given.knows(self.ours.metric, self.ours.difference)
        try:
            return evidence.contrast(given, self.ours.metric, {first: 1, second: -1}, pictures=pictures)
        except ValueError as error:
            raise ValueError(f"published row {self.name}: {error}") from error

    def sign(self, effect: Interval) -> str | None:
        """Whether ours says the same: one of :data:`SIGNS`; None where one side does not say which is better.

        What counts is which of the two arms is the better one, whether a metric is better high or low.
        """
        if self.ours is None or self.gain is None or float(self.gain) == 0 or not effect.low <= effect.high:
            return None
        if effect.low <= 0 <= effect.high:
            return SIGNS[2]
        theirs = (float(self.gain) > 0) != self.lower_is_better
        ours = (effect.mean > 0) != (measures.get(self.ours.metric).better == "low")
        return SIGNS[0] if theirs == ours else SIGNS[1]


def load(path: Path | None = None) -> list[Published]:
    """All rows, in the order of the file.

    Raises:
        ValueError: a row is not as the head of the file says; the message names it.
    """
    path = path or project_root() / "data" / "published.yml"
    entries = yaml.safe_load(path.read_text(encoding="utf-8"))
    if not isinstance(entries, dict):
        raise ValueError(f"{path} must hold rows by name, got {entries!r}")
    text = (project_root() / "book" / "references.bib").read_text(encoding="utf-8")
    sources = re.findall(r"^@\w+\{([^,\s]+),", text, flags=re.M)
    planned = {*EXPERIMENTS, *(claim.experiment for claim in claims.load().values() if claim.experiment)}
    rows = []
    for name, entry in entries.items():
        try:
            rows.append(_row(str(name), entry, sources, planned))
        except (TypeError, ValueError) as error:
            raise ValueError(f"published row {name}: {error}") from error
    asked = [question for question, _ in itertools.groupby(row.question for row in rows)]
    if twice := [question for question in asked if asked.count(question) > 1]:
        raise ValueError(f"published rows of one question must stand together, those of {twice[0]!r} do not")
    return rows


def _row(name: str, entry: Any, sources: Collection[str], planned: Collection[str]) -> Published:
    known = [one for one in fields(Published) if one.name != "name"]
    _check_keys("a row", entry, [one.name for one in known],
                [one.name for one in known if one.default is MISSING])
    entry = dict(entry)
    ours = entry.pop("ours", None)
    if (ours is None) == ("no_counterpart" not in entry):
        raise ValueError("it must have either ours or no_counterpart")
    keys = entry.pop("source")
    source = tuple(keys) if isinstance(keys, list) else (keys,)
    if not source:
        raise ValueError("source must be one key or more, got []")
    if unknown := [key for key in source if key not in sources]:
        raise ValueError(f"book/references.bib has no {unknown[0]!r}{nearest(unknown[0], sources)}")
    numbers = entry.pop("numbers")
    if not isinstance(numbers, dict) or len(numbers) < 2 or not all(map(_is_text, numbers)):
        raise ValueError(f"numbers must be two or more by name, got {numbers!r}")
    for one, value in numbers.items():
        if not _is_text(value):
            check_finite_number(f"the number of {one!r}", value)
    difference = _two("difference", entry.pop("difference"))
    for one in difference:
        check_one_of("difference", one, numbers)
    lower = entry.pop("lower_is_better", False)
    if not isinstance(lower, bool):
        raise ValueError(f"lower_is_better must be true or false, got {lower!r}")
    for field, text in entry.items():
        if not _is_text(text):
            raise ValueError(f"{field} must be words, got {text!r}")
    return Published(name=name, source=source, numbers=numbers, difference=difference, lower_is_better=lower,
                     ours=None if ours is None else _counterpart(ours, planned), **entry)


def _counterpart(ours: Any, planned: Collection[str]) -> Counterpart:
    names = [one.name for one in fields(Counterpart)]
    _check_keys("ours", ours, names, names)
    check_one_of("experiment", ours["experiment"], sorted(planned))
    if measures.get(ours["metric"]).better == "neither":
        raise ValueError(f"the metric of ours must be better high or low, got {ours['metric']!r}")
    return Counterpart(ours["experiment"], ours["metric"], _two("the difference of ours", ours["difference"]))


def _check_keys(what: str, entry: Any, known: Sequence[str], needed: Sequence[str]) -> None:
    if not isinstance(entry, dict):
        raise ValueError(f"{what} must have {', '.join(needed)}, got {entry!r}")
    if unknown := [key for key in entry if key not in known]:
        raise ValueError(f"{what} has no {unknown[0]!r}{nearest(unknown[0], known)}; it has: {', '.join(known)}")
    if missing := [key for key in needed if key not in entry]:
        raise ValueError(f"{what} must have {missing[0]!r}")


def _two(what: str, value: Any) -> tuple[str, str]:
    if not isinstance(value, list) or len(value) != 2 or value[0] == value[1] or not all(map(_is_text, value)):
        raise ValueError(f"{what} must be two names, got {value!r}")
    return value[0], value[1]


def _is_text(value: object) -> bool:
    return isinstance(value, str) and bool(value.strip())


def _digits(value: float) -> int:
    """After the point, as it was written."""
    return len(str(value).partition(".")[2])
